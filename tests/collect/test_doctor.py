"""What a machine can give: facts, parts, and remedies; and the list of real sources."""

from __future__ import annotations

from pathlib import Path

import pytest
from collect_fakes import Fake, Hanging, absence, hasty

from ccverify.collect.doctor import FULL_BUNDLE, Diagnosis, Machine, diagnose, read_machine
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Stage
from ccverify.collect.platforms import EventLogFile, Wishes, real_sources
from ccverify.collect.session import collect_bundle, known_parts

MACHINE = Machine("6.17.0", True, "580.95.05", True)


def examined(*sources: Fake) -> Diagnosis:
    return diagnose(sources, machine=MACHINE)


def full() -> list[Fake]:
    return [Fake(group[0], [group[0]]) for group in FULL_BUNDLE]


def parts(diagnosis: Diagnosis) -> dict[str, tuple[str, ...]]:
    return {part.part: part.available for part in diagnosis.parts}


# --- parts ---


def test_a_machine_with_everything_lacks_nothing() -> None:
    found = examined(*full())
    assert found.missing == ()
    assert all(part.available and part.group and not part.absences for part in found.parts)
    assert found.machine is MACHINE


@pytest.mark.parametrize("at", range(len(FULL_BUNDLE)))
def test_each_needed_part_is_missed(at: int) -> None:
    group = FULL_BUNDLE[at]
    ailing = Fake("ill", group, ailing=[absence(part) for part in group])
    sources = full()
    sources[at] = ailing
    found = examined(*sources)
    assert found.missing == (group,)
    ill = [part for part in found.parts if part.part in group]
    assert [part.absences[0].remedy for part in ill] == [f"get {part}" for part in group]
    # It does not matter whether a part is there in name only, or nobody gives it at all.
    assert examined(*(source for source in sources if source is not ailing)).missing == (group,)


def test_one_part_of_a_group_is_enough() -> None:
    logs = [Fake("kernel", ["ccel"], ailing=[absence("ccel")]), Fake("dstack", ["dstack-log"])]
    found = examined(*(source for source in full() if source.gives != ("ccel",)), *logs)
    assert found.missing == ()
    assert parts(found)["ccel"] == ()
    assert parts(found)["dstack-log"] == ("dstack",)


def test_optional_parts_may_be_missing() -> None:
    found = examined(*full(), Fake("nscq", ["nvswitch"], ailing=[absence("nvswitch")]))
    assert found.missing == ()
    assert not found.parts[-1].available
    assert found.parts[-1].group == ()


def test_one_source_of_a_part_is_enough_and_the_others_are_told() -> None:
    sources = [Fake("a", ["gpu"], ailing=[absence("gpu")]), Fake("b", ["gpu"])]
    (part,) = examined(*sources).parts
    assert part.available == ("b",)
    assert [one.label for one in part.absences] == ["gpu"]


def test_devices_count_for_their_part_and_equal_troubles_are_told_once() -> None:
    trouble = [
        Absence(f"gpu-{n}", AbsenceReason.CC_OFF, "it is off", "turn it on", "nvml")
        for n in range(8)
    ]
    (part,) = examined(Fake("nvml", ["gpu"], ailing=trouble)).parts
    assert part.available == ()
    assert len(part.absences) == 1
    other = Absence("gpu-8", AbsenceReason.FAILED, "it is broken", "mend it", "nvml")
    (part,) = examined(Fake("nvml", ["gpu"], ailing=[*trouble, other])).parts
    assert [one.reason for one in part.absences] == [AbsenceReason.CC_OFF, AbsenceReason.FAILED]


def test_a_trouble_of_one_part_leaves_the_other() -> None:
    sdk = Fake("sdk", ["gpu", "nvswitch"], ailing=[absence("nvswitch")])
    assert parts(examined(sdk)) == {"gpu": ("sdk",), "nvswitch": ()}
    # What is no part of the source keeps it from everything.
    sdk = Fake("sdk", ["gpu", "nvswitch"], ailing=[absence("python")])
    assert parts(examined(sdk)) == {"gpu": (), "nvswitch": ()}


def test_a_source_that_hangs_or_raises_is_a_trouble() -> None:
    class Broken(Fake):
        def diagnose(self) -> list[Absence]:
            raise SystemExit("no")

    hanging = Hanging("stuck", ["gpu", "nvswitch"])
    try:
        found = diagnose(
            [hanging, Broken("bad", ["fabric"])], timeout=hasty().grace, machine=MACHINE
        )
    finally:
        hanging.let_go.set()
    assert {part.part: part.absences[0].reason for part in found.parts} == {
        "gpu": AbsenceReason.TIMEOUT,
        "nvswitch": AbsenceReason.TIMEOUT,
        "fabric": AbsenceReason.FAILED,
    }
    assert "SystemExit" in found.parts[2].absences[0].text


# --- the machine ---

OPEN = b"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
CLOSED = b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC\n"


@pytest.mark.parametrize(
    ("flags", "version", "expected"),
    [
        ("fpu tdx_guest avx", OPEN, (True, "580.95.05")),
        ("fpu avx", CLOSED, (False, "550.54.14")),
        ("fpu not_tdx_guest", b"\xff" * 100, (False, None)),
        (None, None, (None, None)),
    ],
)
def test_facts_are_read_off_proc(
    tmp_path: Path, flags: str | None, version: bytes | None, expected: tuple[object, object]
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\n")
    if version is not None:
        (tmp_path / "driver" / "nvidia").mkdir(parents=True)
        (tmp_path / "driver" / "nvidia" / "version").write_bytes(version)
    machine = read_machine(tmp_path)
    assert (machine.tdx_guest, machine.nvidia_driver) == expected
    assert machine.kernel


# --- real sources ---


def test_the_real_sources_give_every_part() -> None:
    sources = real_sources()
    known = known_parts(sources)
    assert len({id(source) for source in sources}) == len(sources)
    assert {part for group in FULL_BUNDLE for part in group} <= set(known)
    assert {"nvswitch", "ccel-table", "td-measurements", "dstack-info"} <= set(known)
    assert known[-1] == "tdx-quote"


def test_what_the_user_names_comes_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wishes = Wishes((tmp_path,), (tmp_path / "a.json",), "/venv/bin/python", log)
    sources = real_sources(wishes)
    names = [source.name for source in sources]
    assert names[0].startswith("folder")
    assert names.index("file log") < names.index("ACPI CCEL")
    assert names.index("nvattest") < names.index("nv-attestation-sdk")
    # The SDK brings its own libraries: the devices are not asked twice.
    assert "nvml" not in names
    assert "nscq" not in names
    assert "nvml" in [source.name for source in real_sources()]


def test_this_very_machine_can_be_examined_and_collected_from() -> None:
    """Whatever it is: no source raises, hangs or is silent."""
    found = diagnose(real_sources())
    assert {part.part for part in found.parts} == set(known_parts(real_sources()))
    for part in found.parts:
        assert part.available or part.absences
        assert all(one.text and one.remedy and one.source for one in part.absences)
    result = collect_bundle(bytes(32), real_sources(), only=["ccel", "ccel-table", "dstack-log"])
    assert result.bundle is not None
    assert all(one.text and one.remedy for one in result.absences)
    assert not any("raised" in one.text for one in result.absences)


# --- an event log in a file ---

ASK = Ask(bytes(32), None, 1.0, lambda: 0.0)


@pytest.mark.parametrize(
    ("data", "label", "kind"),
    [
        (b"\n[]", "dstack-log", ItemType.DSTACK_LOG),
        (b"{}", "dstack-log", ItemType.DSTACK_LOG),
        (bytes(100), "ccel", ItemType.CCEL),
    ],
)
def test_a_log_is_told_by_how_it_begins(
    tmp_path: Path, data: bytes, label: str, kind: ItemType
) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    source = EventLogFile(path)
    assert source.stage is Stage.LOGS
    assert list(source.collect(ASK)) == [Item(label, kind, data, "file log")]
    assert list(source.diagnose()) == []


def test_a_log_that_cannot_be_read_is_absent(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "large").open("wb") as large:
        large.truncate(4 * 1024 * 1024 + 1)
    for name, reason in (
        ("missing", AbsenceReason.NOT_PRESENT),
        ("empty", AbsenceReason.FAILED),
        ("large", AbsenceReason.FAILED),
        (".", AbsenceReason.FAILED),
    ):
        found = EventLogFile(tmp_path / name).diagnose()
        assert [(one.label, one.reason) for one in found] == [
            ("ccel", reason),
            ("dstack-log", reason),
        ]
