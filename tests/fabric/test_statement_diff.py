"""What changed between two statements, and what of it breaks continuity for a tenant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from statement_support import (
    BOOTED,
    CONFIG,
    FACTS,
    STARTED,
    VERSION,
    board,
    digest,
    parts,
    program,
    statement,
    table,
)

from ccverify.clock_text import unix_text
from ccverify.fabric.manager import (
    FABRIC_MANAGER,
    NOT_FOUND,
    NOT_RUNNING,
    NVLSM,
    LogHealth,
    ManagerFacts,
)
from ccverify.fabric.observation import Absent
from ccverify.fabric.partition_table import serialize_fmpm_list
from ccverify.fabric.statement_diff import (
    MAX_CHANGES,
    Change,
    ChangeKind,
    continuity_gaps,
    continuity_problems,
    diff_statements,
)
from ccverify.fabric.statement_model import CLOCK_TOLERANCE, FabricStatement
from ccverify.sim.fabric import SimFabric, SimTenant
from ccverify.sim.fabric_dumps import address_dump, key_dump, linear_dump, multicast_dump

A = statement()
MINE, THEIRS = frozenset({1, 2, 3, 4}), frozenset({5, 6, 7, 8})
LOW = {f"GPU{module}" for module in MINE}


def _process(name: str = FABRIC_MANAGER, **changes: Any) -> ManagerFacts:
    programs = tuple(
        replace(one, process=replace(one.process, **changes)) if one.name == name else one  # type: ignore[type-var]
        for one in FACTS.programs
    )
    return replace(FACTS, programs=programs)


def _program(name: str, **changes: Any) -> ManagerFacts:
    programs = tuple(
        program(one.name, **changes) if one.name == name else one for one in FACTS.programs
    )
    return replace(FACTS, programs=programs)


def _log(**changes: Any) -> ManagerFacts:
    assert isinstance(FACTS.log, LogHealth)
    return replace(FACTS, log=replace(FACTS.log, **changes))


def _kinds(changes: tuple[Change, ...]) -> list[ChangeKind]:
    return [change.kind for change in changes]


def _only(after: FabricStatement, before: FabricStatement = A) -> Change:
    (change,) = diff_statements(before, after)
    (back,) = diff_statements(after, before)
    assert (back.before, back.after) == (change.after, change.before)
    assert (back.kind, back.where, back.nodes) == (change.kind, change.where, change.nodes)
    return change


def test_nothing_changed() -> None:
    assert diff_statements(A, A) == diff_statements(A, statement()) == ()
    assert continuity_problems(A, A) == ()
    assert continuity_gaps(A, A) == ()


# --- host and programs ---------------------------------------------------------------------------


def test_the_host_was_started_again() -> None:
    other = "99999999-2222-3333-4444-555555555555"
    change = _only(statement(replace(FACTS, boot_id=other)))
    assert (change.kind, change.where) == (ChangeKind.REBOOT, "host")
    assert change.after == f"boot {other}"
    # The clock may move under a boot that has an id.
    assert diff_statements(A, statement(replace(FACTS, booted=BOOTED + 50))) == ()


@pytest.mark.parametrize(("late", "again"), [(CLOCK_TOLERANCE, False), (CLOCK_TOLERANCE + 1, True)])
def test_without_boot_ids_the_time_counts(late: int, again: bool) -> None:
    lost = replace(FACTS, boot_id=Absent("NO_PERMISSION"))
    before, after = statement(lost), statement(replace(lost, booted=BOOTED + late))
    assert _kinds(diff_statements(before, after)) == ([ChangeKind.REBOOT] if again else [])
    assert [one.where for one in continuity_gaps(before, A)] == ["boot id"]
    # Neither is compared with what is not there.
    assert diff_statements(before, statement(replace(lost, booted=Absent("X")))) == ()
    assert diff_statements(statement(replace(lost, booted=Absent("X"))), before) == ()


@pytest.mark.parametrize("name", [FABRIC_MANAGER, NVLSM])
@pytest.mark.parametrize(
    "changes",
    [
        {"pid": 901},
        {"started": STARTED + CLOCK_TOLERANCE + 1},
        {"started": STARTED - CLOCK_TOLERANCE - 1},
        {"restarts": 1},
    ],
)
def test_a_program_was_started_again(name: str, changes: dict[str, Any]) -> None:
    change = _only(statement(_process(name, **changes)))
    assert (change.kind, change.where) == (ChangeKind.RESTART, name)
    assert change.before == f"process 900 since {unix_text(STARTED)}, restarts: 0"


def test_a_start_that_moves_with_the_clock_is_none() -> None:
    assert diff_statements(A, statement(_process(started=STARTED + CLOCK_TOLERANCE))) == ()
    assert diff_statements(A, statement(_process(restarts=Absent("X")))) == ()


def test_a_program_was_stopped() -> None:
    change = _only(statement(_program(FABRIC_MANAGER, process=Absent(NOT_RUNNING))))
    assert (change.kind, change.after) == (ChangeKind.RESTART, "no process: NOT_RUNNING")
    lost = statement(_program(FABRIC_MANAGER, process=Absent("NO_PERMISSION")))
    assert diff_statements(A, lost) == ()
    assert [one.where for one in continuity_gaps(A, lost)] == [FABRIC_MANAGER]
    stopped = statement(_program(FABRIC_MANAGER, process=Absent(NOT_RUNNING)))
    assert diff_statements(stopped, stopped) == ()
    assert len(continuity_gaps(stopped, stopped)) == 2


def test_versions() -> None:
    for facts, where in (
        (replace(FACTS, driver="600.1.1"), "driver"),
        (replace(FACTS, kernel="6.9"), "kernel"),
        (_program(FABRIC_MANAGER, version="600.1.1"), FABRIC_MANAGER),
        (_program(NVLSM, version="2026.03.1"), NVLSM),
    ):
        change = _only(statement(facts))
        assert (change.kind, change.where) == (ChangeKind.VERSION, where)
    # What is stated once cannot be compared.
    assert diff_statements(A, statement(replace(FACTS, driver=Absent("X")))) == ()
    assert VERSION in _only(statement(replace(FACTS, driver="600.1.1"))).before


def test_programs() -> None:
    other = digest("other")
    for facts, where in (
        (_program(NVLSM, sha384=other), "nvlsm on disk"),
        (_process(sha384=other), "fabric-manager running"),
        (_program(NVLSM, path="/usr/bin/nvlsm"), NVLSM),
        (_program(NVLSM, sha384=Absent(NOT_FOUND)), NVLSM),
        (replace(FACTS, programs=FACTS.programs[:1]), NVLSM),
    ):
        change = _only(statement(facts))
        assert (change.kind, change.where) == (ChangeKind.BINARY, where)
    assert diff_statements(A, statement(_program(NVLSM, sha384=Absent("NO_PERMISSION")))) == ()


def test_the_log() -> None:
    change = _only(statement(_log(errors=1, last_error="x")))
    assert (change.kind, change.before, change.after) == (ChangeKind.LOG, "0", "1")
    (change,) = diff_statements(A, statement(_log(size=1)))
    assert (change.kind, change.where, change.after) == (ChangeKind.LOG, "size", "1 bytes")
    assert diff_statements(A, statement(_log(size=9999, lines=99))) == ()
    assert diff_statements(A, statement(replace(FACTS, log=Absent("X")))) == ()
    assert continuity_problems(A, statement(_log(errors=1, last_error="x"))) == ()


# --- settings and partitions ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "where"),
    [
        (parts(fm_config=CONFIG.replace("FABRIC_MODE=1", "FABRIC_MODE=0")), "FABRIC_MODE"),
        (parts(fm_config=f"{CONFIG}NEW_KEY=1\n"), "NEW_KEY"),
        (parts(fm_config=f"{CONFIG}FM_SM_MGMT_PORT_GUID=0x1\n"), "FM_SM_MGMT_PORT_GUID"),
        (parts(nvlsm_config="guid 0x0\nplugin_name other\n"), "nvlsm plugin_name"),
    ],
)
def test_settings(items: dict[str, bytes], where: str) -> None:
    change = _only(statement(items=items))
    assert (change.kind, change.where) == (ChangeKind.CONFIG, where)
    assert continuity_problems(A, statement(items=items), MINE)


def test_a_comment_is_no_setting() -> None:
    assert diff_statements(A, statement(items=parts(fm_config=f"# new\n{CONFIG}"))) == ()


def test_a_command_line() -> None:
    change = _only(statement(_process(arguments=("nv-fabricmanager", "-r"))))
    assert (change.kind, change.where) == (ChangeKind.CONFIG, "fabric-manager command line")
    assert diff_statements(A, statement(_process(arguments=Absent("X")))) == ()


def test_partitions() -> None:
    after = statement(items=parts(fm_partitions=serialize_fmpm_list(table(2))))
    change = _only(after)
    assert (change.kind, change.where) == (ChangeKind.PARTITION, "partition 3")
    assert change.before.startswith("active, GPUs 5, 6, 7, 8, NVLinks 18/18")
    assert change.after.startswith("inactive, GPUs 5, 6, 7, 8")
    assert change.nodes == {f"GPU{module}" for module in THEIRS}
    # Another tenant's partition is his own matter.
    assert continuity_problems(A, after, MINE) == ()
    assert len(continuity_problems(A, after, THEIRS)) == len(continuity_problems(A, after)) == 1
    fewer = table(2, 3)
    fewer = replace(fewer, entries=fewer.entries[:-1])
    change = _only(statement(items=parts(fm_partitions=serialize_fmpm_list(fewer))))
    assert (change.where, change.after) == ("partition 15", "not there")
    weaker = statement(items=parts(fm_partitions=serialize_fmpm_list(table(2, 3, links=17))))
    assert len(diff_statements(A, weaker)) == 7
    assert len(continuity_problems(A, weaker, MINE)) == 4


def test_definitions() -> None:
    def defined(modules: str) -> FabricStatement:
        data = f'{{"partitionInfo":[{{"partitionId":2,"gpuModuleIds":[{modules}]}}]}}'
        return statement(items={**parts(), "fm-partition-definitions": data.encode()})

    change = _only(defined("1,2"), defined("1,3"))
    assert (change.kind, change.where) == (ChangeKind.PARTITION, "definition of partition 2")
    assert (change.before, change.after) == ("GPUs 1, 3", "GPUs 1, 2")


# --- routing -------------------------------------------------------------------------------------


def _routed(fabric: SimFabric, **changes: Any) -> FabricStatement:
    return statement(items=parts(fabric, nvlsm_fdbs=None, **changes))


BEFORE = _routed(board())


def test_routes_are_told_switch_by_switch() -> None:
    fabric = board()
    for link in (0, 1, 3, 4, 6, 9, 11, 14, 16):
        fabric.black_hole(("GPU1", link))
    change = _only(_routed(fabric), BEFORE)
    assert (change.kind, change.where, change.nodes) == (ChangeKind.ROUTE, "NVSwitch2", {"GPU1"})
    assert change.after.count("port 254") == 8
    assert change.after.endswith("; 1 more LIDs")
    after = _routed(fabric)
    assert continuity_problems(BEFORE, after, THEIRS) == ()
    assert len(continuity_problems(BEFORE, after, MINE)) == 1


def test_a_route_that_is_gone() -> None:
    fabric = board()
    fabric.drop_entry(("GPU8", 0))
    change = _only(_routed(fabric), BEFORE)
    assert change.after.endswith(" none")
    assert change.nodes == {"GPU8"}


def test_addresses() -> None:
    fabric = board()
    guid = fabric.port_guid("GPU2", 0)
    listed = address_dump(fabric).split(b"\n\n")
    lid = fabric.lids["GPU2", 0]
    row = f"0x{guid:016x} 0x{lid:04x} 0x{lid:04x}".encode()
    assert row in listed
    moved = b"\n\n".join(one.replace(row, row[:-13] + b"0x0aaa 0x0aab") for one in listed)
    change = _only(_routed(fabric, nvlsm_guid2lid=moved), BEFORE)
    assert (change.kind, change.nodes) == (ChangeKind.ADDRESS, {"GPU2"})
    assert (change.before, change.after) == (f"LID 0x{lid:04X}", "LIDs 0x0AAA to 0x0AAB")
    gone = b"\n\n".join(one for one in listed if one != row)
    assert _only(_routed(fabric, nvlsm_guid2lid=gone), BEFORE).after == "none"


def test_keys_are_told_node_by_node() -> None:
    fabric = board()
    fabric.limited_key("GPU1")
    changes = diff_statements(BEFORE, _routed(fabric))
    assert _kinds(changes) == [ChangeKind.KEY] * 3
    by_node = {change.where.split()[0]: change for change in changes}
    assert sorted(by_node) == ["GPU1", "NVSwitch1", "NVSwitch2"]
    assert by_node["GPU1"].where == "GPU1 port 1; 18 ports in all"
    assert {change.nodes for change in changes} == {frozenset({"GPU1"})}
    assert (by_node["GPU1"].before, by_node["GPU1"].after) == (
        "0x7fff, 0x8100",
        "0x0100, 0x7fff",
    )
    # Two ports of one node are one change that counts them.
    fabric = board()
    for link in (0, 1):
        fabric.keys["GPU1", link] = [0x7FFF]
    assert _only(_routed(fabric), BEFORE).where == "GPU1 port 1; 2 ports in all"
    # A key at a switch port is the matter of the GPU behind it.
    fabric = board()
    fabric.expose(("GPU6", 0), "partition-2")
    change = _only(_routed(fabric), BEFORE)
    assert change.nodes == {"GPU6"}
    assert "ports in all" not in change.where


def test_keys_that_are_stated_once() -> None:
    after = _routed(board(), nvlsm_pkeys=None)
    changes = diff_statements(BEFORE, after)
    assert _kinds(changes) == [ChangeKind.KEY, ChangeKind.ITEM]
    assert (changes[0].before, changes[0].after) == ("stated", "none stated")
    assert continuity_problems(BEFORE, after, MINE)
    lines = key_dump(board()).split(b"\n")
    change = _only(_routed(board(), nvlsm_pkeys=b"\n".join(lines[3:])), BEFORE)
    assert (change.kind, change.after) == (ChangeKind.KEY, "no table")


def test_groups() -> None:
    fabric = board()
    fabric.leak_multicast(0xC000, ("GPU7", 0))
    change = _only(_routed(fabric), BEFORE)
    assert change.kind is ChangeKind.GROUP
    assert change.where == "multicast LID 0xC000 on NVSwitch2"
    assert "and 20 more" in change.before
    assert change.nodes == LOW | {"GPU7"}
    fabric = board()
    del fabric.groups["NVSwitch2"][0xC001]
    change = _only(_routed(fabric), BEFORE)
    assert (change.after, change.nodes) == ("no port", {f"GPU{module}" for module in THEIRS})


def test_cables() -> None:
    fabric = board()
    fabric.swap_cables(("GPU1", 0), ("GPU5", 0))
    after = _routed(fabric, nvlsm_lfts=linear_dump(board()), nvlsm_mcfdbs=multicast_dump(board()))
    changes = diff_statements(BEFORE, after)
    cables = [change for change in changes if change.kind is ChangeKind.CABLE]
    assert [(one.before, one.after) for one in cables] == [("GPU1", "GPU5"), ("GPU5", "GPU1")]
    assert all(one.nodes == {"GPU1", "GPU5"} for one in cables)
    assert all(one.where.startswith("NVSwitch2 port") for one in cables)


def test_another_gpu_in_the_same_place() -> None:
    fabric = board()
    old, new = f"{fabric.node_guid('GPU3'):016x}", "53494d00000fff00"
    listed = parts(fabric)["nvlsm-subnet"].replace(
        f"NodeGUID:{old}".encode(), f"NodeGUID:{new}".encode()
    )
    changes = diff_statements(BEFORE, _routed(fabric, nvlsm_subnet=listed))
    assert changes == (
        Change(ChangeKind.CABLE, "GPU3", f"0x{old}", f"0x{new}", frozenset({"GPU3"})),
    )


def test_another_board() -> None:
    hopper = SimFabric.hgx("H100", [SimTenant("a", (1, 2, 3, 4))])
    changes = diff_statements(BEFORE, _routed(hopper))
    cables = [change for change in changes if change.kind is ChangeKind.CABLE]
    assert [(one.where, one.after) for one in cables] == [("board", "HGX H100/H200")]
    assert cables[0].nodes == frozenset()


# --- items ---------------------------------------------------------------------------------------


def test_items_that_are_in_one_statement() -> None:
    after = statement(items=parts(fm_state=None))
    change = _only(after)
    assert (change.kind, change.where, change.after) == (ChangeKind.ITEM, "fm-state", "not there")
    assert continuity_problems(A, after) == ()
    bare = statement(items={})
    assert {one.where for one in continuity_gaps(A, bare)} == {"fm-partitions", "routing"}
    assert set(_kinds(diff_statements(A, bare))) == {ChangeKind.ITEM}


def test_items_that_cannot_be_read_are_compared_by_their_bytes() -> None:
    change = _only(statement(items=parts(fm_state=b"other")))
    assert (change.kind, change.where) == (ChangeKind.ITEM, "fm-state")
    assert change.before.startswith("SHA-384 ")
    one, other = (statement(items=parts(fm_config=data)) for data in (b"?", b"!"))
    assert _only(other, one).where == "fm-config"
    assert diff_statements(one, one) == ()


# --- limits --------------------------------------------------------------------------------------


def test_a_long_list_is_cut_and_loses_nobody() -> None:
    text = "".join(f"KEY_{at}=1\n" for at in range(MAX_CHANGES))
    after = statement(items=parts(fm_config=CONFIG + text))
    assert len(diff_statements(A, after)) == MAX_CHANGES
    after = statement(items=parts(fm_config=f"{CONFIG}{text}LAST=1\n"))
    changes = diff_statements(A, after)
    assert len(changes) == MAX_CHANGES
    assert changes[-1].where.endswith("and 1 further places")
    assert changes[-1].where != changes[-2].where
    told = [change.where for change in changes[:-1]]
    assert changes[-1].where.split()[0] not in told
    assert {*told, changes[-1].where.split()[0]} < {f"KEY_{at}" for at in range(64)} | {"LAST"}
    # Of addresses, whoever is in the rest is still concerned.
    fabric = board()
    rows = address_dump(fabric).replace(b" 0x00", b" 0x0b")
    addresses = [
        one
        for one in diff_statements(BEFORE, _routed(fabric, nvlsm_guid2lid=rows))
        if one.kind is ChangeKind.ADDRESS
    ]
    assert len(addresses) == MAX_CHANGES
    # The switches are among the rest, so it concerns everybody.
    assert addresses[-1].nodes == frozenset()
    assert continuity_problems(BEFORE, _routed(fabric, nvlsm_guid2lid=rows), frozenset({99}))
