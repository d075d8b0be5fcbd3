"""The statement of a manager as a whole: healthy, ailing, simulated, and on this very machine."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from collect_fakes import NONCE, STILL, quotes
from hypothesis import given, settings
from hypothesis import strategies as st
from manager_fakes import (
    BOOT_ID,
    BTIME,
    CONFIG,
    FM,
    FM_PID,
    NVLSM_CONFIG,
    PARTITIONS,
    SM,
    SM_PID,
    FakeHost,
    fails,
)

from ccverify.bundle.package import parse_bundle
from ccverify.collect.doctor import FULL_STATEMENT, Machine, diagnose
from ccverify.collect.manager import ManagerSource, manager_sources
from ccverify.collect.manager_host import CommandResult, ManagerHost
from ccverify.collect.manager_statement import MAX_STATEMENT_BYTES, StatementFile
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.platforms import real_manager_sources
from ccverify.collect.session import collect_bundle, known_parts
from ccverify.errors import UsageError
from ccverify.fabric.manager import (
    FABRIC_MANAGER,
    NVLSM,
    LogHealth,
    ManagerFacts,
    Process,
    parse_manager,
)
from ccverify.fabric.observation import Absent
from ccverify.fabric.statement_model import DUMP_LABELS, Dump

LABELS = ("fabric-manager", *DUMP_LABELS)
PATIENCE = 1.5
"""Seconds within which everything that does not hang has answered, on a busy machine too."""
MACHINE = Machine("6.17.0", None, None, True)


@pytest.fixture
def fake() -> FakeHost:
    return FakeHost()


def ask(seconds: float = 20.0) -> Ask:
    return Ask(bytes(32), None, time.monotonic() + seconds, time.monotonic)


def collected(host: ManagerHost, seconds: float = 20.0) -> dict[str, Outcome]:
    outcomes = ManagerSource(host).collect(ask(seconds))
    assert [one.label for one in outcomes] == list(LABELS)
    return {one.label: one for one in outcomes}


def facts(outcomes: dict[str, Outcome]) -> ManagerFacts:
    item = outcomes["fabric-manager"]
    assert isinstance(item, Item), item
    assert item.type is ItemType.FABRIC_MANAGER
    return parse_manager(item.data)


def reason(outcome: Outcome) -> AbsenceReason | None:
    return outcome.reason if isinstance(outcome, Absence) else None


# --- healthy ---


def test_everything_is_gathered(fake: FakeHost) -> None:
    found = collected(fake.host)
    assert [label for label, one in found.items() if isinstance(one, Absence)] == []
    said = facts(found)
    assert (said.boot_id, said.booted, said.driver) == (BOOT_ID, BTIME, "610.57.04")
    assert [program.name for program in said.programs] == [FABRIC_MANAGER, NVLSM]
    assert all(isinstance(program.process, Process) for program in said.programs)
    assert isinstance(said.log, LogHealth)
    assert (said.log.path, said.log.lines) == ("/var/log/fm.log", 1)


def test_the_facts_say_where_each_item_came_from(fake: FakeHost) -> None:
    found = collected(fake.host)
    sources = {source.label: source for source in facts(found).sources}
    assert set(sources) == set(DUMP_LABELS)
    for label in DUMP_LABELS:
        item = found[label]
        assert isinstance(item, Item)
        assert sources[label].sha384 == hashlib.sha384(item.data).hexdigest()
        assert sources[label].size == len(item.data)
    assert (sources["fm-config"].path, sources["fm-config"].modified) == (CONFIG, BTIME)
    assert sources["fm-partitions"].modified == Absent("NO_FILE")


def test_one_source_gives_every_label() -> None:
    (source,) = manager_sources(FakeHost().host)
    assert source.gives == LABELS
    assert source.stage is Stage.LOGS


def test_nothing_but_what_must_be_is_run(fake: FakeHost) -> None:
    collected(fake.host)
    assert sorted(words[0] for words in fake.ran) == sorted(
        [FM, SM, "fmpm", "systemctl", "systemctl"]
    )
    for words in fake.ran:
        assert not {"-a", "-d", "start", "stop", "restart"}.intersection(words)


# --- ailing ---


def test_each_part_fails_alone(fake: FakeHost) -> None:
    fake.put("/var/dumps/nvlsm.fdbs", fails(errno.EACCES))
    fake.remove("/var/cache/nvlsm/guid2lid")
    fake.commands["fmpm"] = CommandResult(253, b"Failed\n")
    found = collected(fake.host)
    assert {label: reason(one) for label, one in found.items() if reason(one)} == {
        "nvlsm-fdbs": AbsenceReason.NO_PERMISSION,
        "nvlsm-guid2lid": AbsenceReason.NOT_PRESENT,
        "fm-partitions": AbsenceReason.FAILED,
    }
    assert {s.label for s in facts(found).sources} == {
        label for label in DUMP_LABELS if not reason(found[label])
    }


def test_a_manager_that_does_not_run_makes_a_statement(fake: FakeHost) -> None:
    fake.stop(FM_PID)
    fake.stop(SM_PID)
    said = facts(collected(fake.host))
    assert {program.process for program in said.programs} == {Absent("NOT_RUNNING")}


def test_where_there_is_no_manager_there_is_no_statement(fake: FakeHost) -> None:
    fake.stop(FM_PID)
    fake.stop(SM_PID)
    fake.remove(FM, SM)
    # A configuration that was left behind is told.
    assert isinstance(collected(fake.host)["fabric-manager"], Item)
    fake.remove(CONFIG)
    found = collected(fake.host)["fabric-manager"]
    assert isinstance(found, Absence)
    assert found.reason is AbsenceReason.NOT_PRESENT
    assert "service VM" in found.remedy


def test_without_proc_there_is_a_statement_of_files(fake: FakeHost) -> None:
    for path in list(fake.files.files):
        if path.startswith("/proc/"):
            fake.put(path, fails(errno.EACCES))
    said = facts(collected(fake.host))
    assert said.boot_id == said.driver == Absent("NO_PERMISSION")
    assert said.programs[0].version == "610.57.04"


class Slow:
    """A command that does not come back before it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, words: tuple[str, ...]) -> CommandResult:
        self.go.wait()
        return CommandResult(0, PARTITIONS)


@pytest.fixture
def slow() -> Iterator[Slow]:
    command = Slow()
    yield command
    command.go.set()


def test_a_command_that_hangs_costs_its_own_part(fake: FakeHost, slow: Slow) -> None:
    fake.commands["fmpm"] = slow
    found = collected(fake.host, PATIENCE)
    assert {label: reason(one) for label, one in found.items() if reason(one)} == {
        "fm-partitions": AbsenceReason.TIMEOUT
    }
    assert facts(found).source("fm-partitions") is None


def test_a_program_that_hangs_costs_what_is_known_of_it(fake: FakeHost, slow: Slow) -> None:
    fake.commands[FM] = slow
    manager, other = facts(collected(fake.host, PATIENCE)).programs
    late = Absent("TIMEOUT")
    assert (manager.version, manager.sha384, manager.process) == (late, late, late)
    assert manager.path == FM
    assert isinstance(other.process, Process)


def test_a_file_system_that_hangs_costs_everything_in_time(fake: FakeHost, slow: Slow) -> None:
    fake.files.names = lambda path: slow(()) and []  # type: ignore[method-assign,assignment]
    found = collected(fake.host, 0.3)
    assert {reason(one) for one in found.values()} == {AbsenceReason.TIMEOUT}


def test_a_bug_of_ours_costs_its_own_part(fake: FakeHost) -> None:
    def broken(words: tuple[str, ...]) -> CommandResult:
        raise ZeroDivisionError("no")

    fake.commands |= {"fmpm": broken, FM: broken}
    found = collected(fake.host)
    assert reason(found["fm-partitions"]) is AbsenceReason.FAILED
    assert facts(found).programs[0].version == Absent("FAILED")
    assert isinstance(found["fm-config"], Item)


PATHS = sorted(FakeHost().files.files)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(PATHS),
        st.binary(max_size=300)
        | st.sampled_from([errno.EACCES, errno.ENOENT, errno.EIO, errno.ELOOP, errno.EFBIG]),
        max_size=8,
    ),
    st.binary(max_size=300),
    st.integers(-15, 255),
)
def test_a_host_may_say_anything(
    spoilt: dict[str, bytes | int], output: bytes, status: int
) -> None:
    fake = FakeHost()
    for path, data in spoilt.items():
        fake.put(path, data if isinstance(data, bytes) else fails(data))
    for name in fake.commands:
        fake.commands[name] = CommandResult(status, output, output.decode("latin-1"))
    found = collected(fake.host)
    if isinstance(found["fabric-manager"], Item):
        facts(found)
    else:
        assert reason(found["fabric-manager"]) is AbsenceReason.NOT_PRESENT
    for one in found.values():
        if isinstance(one, Absence):
            assert one.text
            assert one.source
            assert "raised" not in one.text


# --- in a session, and to the doctor ---


def test_a_statement_is_a_bundle(fake: FakeHost) -> None:
    result = collect_bundle(NONCE, [ManagerSource(fake.host), quotes()], world=STILL)
    assert result.bundle is not None
    bundle = parse_bundle(result.bundle)
    assert set(bundle.items) == {*LABELS, "tdx-quote"}
    assert bundle.manifest.nonce == NONCE
    assert bundle.absences == {}
    again = collect_bundle(NONCE, [ManagerSource(FakeHost().host), quotes()], world=STILL)
    assert again.bundle == result.bundle


def test_parts_can_be_chosen_and_required(fake: FakeHost) -> None:
    fake.remove("/var/dumps/nvlsm.fdbs")
    sources = [ManagerSource(fake.host)]
    assert known_parts(sources) == (*LABELS, "tdx-quote")
    result = collect_bundle(NONCE, sources, only=["fabric-manager", "fm-config"], world=STILL)
    assert [item.label for item in result.items] == ["fabric-manager", "fm-config"]
    result = collect_bundle(NONCE, sources, require=["nvlsm-fdbs"], world=STILL)
    assert (result.bundle, result.missing) == (None, ("nvlsm-fdbs",))


def test_the_doctor_runs_nothing(fake: FakeHost) -> None:
    fake.put("/usr/bin/fmpm", b"x")
    found = diagnose([ManagerSource(fake.host)], machine=MACHINE, full=FULL_STATEMENT)
    assert found.missing == ()
    assert {part.part for part in found.parts if part.available} == set(LABELS)
    assert fake.ran == []


def test_the_doctor_says_what_is_missing(fake: FakeHost) -> None:
    fake.stop(FM_PID)
    fake.remove(CONFIG, "/var/dumps/nvlsm.fdbs")
    fake.put(NVLSM_CONFIG, fails(errno.EACCES))
    found = diagnose([ManagerSource(fake.host)], machine=MACHINE, full=FULL_STATEMENT)
    assert found.missing == (("fm-config",),)
    reasons = {part.part: part.absences[0].reason for part in found.parts if part.absences}
    assert reasons["fm-partitions"] is AbsenceReason.NOT_PRESENT
    assert reasons["nvlsm-config"] is AbsenceReason.NO_PERMISSION
    assert "fabric-manager" not in reasons
    fake.stop(SM_PID)
    fake.remove(FM, SM)
    found = diagnose([ManagerSource(fake.host)], machine=MACHINE, full=FULL_STATEMENT)
    assert found.missing == FULL_STATEMENT
    assert fake.ran == []


def test_files_that_the_user_names(fake: FakeHost) -> None:
    fake.put("/saved.json", b'{"saved": 1}')
    source = ManagerSource(fake.host, {Dump.PARTITIONS: Path("/saved.json")})
    found = {one.label: one for one in source.collect(ask())}
    item = found["fm-partitions"]
    assert isinstance(item, Item)
    assert item.data == b'{"saved": 1}'
    saved = facts(found).source("fm-partitions")
    assert saved is not None
    assert (saved.path, saved.modified) == ("/saved.json", BTIME)
    assert source.diagnose() == []
    fake.remove("/saved.json")
    assert [one.label for one in source.diagnose()] == ["fm-partitions"]


# --- this very machine ---


def test_this_very_machine_can_be_asked() -> None:
    """Whatever it is: nothing raises, hangs or is silent."""
    sources = real_manager_sources()
    assert known_parts(sources)[: len(LABELS)] == LABELS
    assert known_parts(sources)[-1] == "tdx-quote"
    (manager,) = [source for source in sources if source.gives == LABELS]
    outcomes = manager.collect(ask())
    assert [one.label for one in outcomes] == list(LABELS)
    for one in (*outcomes, *manager.diagnose()):
        if isinstance(one, Absence):
            assert one.text
            assert one.remedy
            assert "raised" not in one.text


# --- the statement in a tenant's bundle ---


def statement(host: FakeHost | None = None, **options: object) -> bytes:
    sources = [ManagerSource((host or FakeHost()).host)]
    bundle = collect_bundle(NONCE, sources, world=STILL, **options).bundle  # type: ignore[arg-type]
    assert bundle is not None
    return bundle


def test_a_statement_goes_into_a_bundle_as_it_is() -> None:
    data = statement()
    source = StatementFile(data, "fabric.ccb")
    assert source.diagnose() == ()
    (item,) = source.collect(ask())
    assert item == Item("fabric-statement", ItemType.FABRIC_STATEMENT, data, "file fabric.ccb")
    result = collect_bundle(NONCE, [source, quotes()], world=STILL)
    assert result.bundle is not None
    assert parse_bundle(result.bundle).items["fabric-statement"].value == data


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_what_is_no_bundle_is_no_statement(cut: int) -> None:
    with pytest.raises(UsageError, match="no statement"):
        StatementFile(statement()[:cut], "fabric.ccb")


def test_a_bundle_of_something_else_is_no_statement() -> None:
    with pytest.raises(UsageError, match="no statement") as caught:
        StatementFile(statement(only=["fm-config"]), "fabric.ccb")
    assert caught.value.found == "a bundle of fm-config"
    assert caught.value.where == "fabric.ccb"


def test_a_statement_has_to_fit() -> None:
    with pytest.raises(UsageError, match="no statement") as caught:
        StatementFile(bytes(MAX_STATEMENT_BYTES + 1), "fabric.ccb")
    assert "at most" in str(caught.value.found)
