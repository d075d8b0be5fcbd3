"""Rules on a statement: nothing is said of a good one, and each fault is said by its own rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from statement_support import (
    BOOTED,
    CONFIG,
    FACTS,
    NVLSM_CONFIG,
    STARTED,
    TENANT,
    VERSION,
    board,
    codes,
    digest,
    judged,
    parts,
    program,
    statement,
    table,
)

from ccverify.fabric.manager import (
    FABRIC_MANAGER,
    NOT_FOUND,
    NOT_RUNNING,
    NVLSM,
    LogHealth,
    ManagerFacts,
    Process,
)
from ccverify.fabric.observation import Absent
from ccverify.fabric.partition_table import serialize_fmpm_list
from ccverify.fabric.statement_model import (
    CLOCK_TOLERANCE,
    Circumstances,
    Generation,
    StatementCode,
    StatementGap,
    StatementProblem,
)
from ccverify.fabric.statement_programs import version_numbers
from ccverify.fabric.statement_rules import appraise_statement
from ccverify.sim.fabric import SimFabric, default_tenants

HOPPER = replace(TENANT, generation=Generation.HOPPER, multi_gpu=False)


def _facts(name: str = FABRIC_MANAGER, **changes: Any) -> ManagerFacts:
    """Facts in which one program is another."""
    programs = tuple(
        program(one.name, **changes) if one.name == name else one for one in FACTS.programs
    )
    return replace(FACTS, programs=programs)


def _process(name: str = FABRIC_MANAGER, **changes: Any) -> ManagerFacts:
    (own,) = (one.process for one in FACTS.programs if one.name == name)
    return _facts(name, process=replace(own, **changes))


def _config(*lines: str, without: str = "") -> dict[str, bytes]:
    kept = [line for line in CONFIG.splitlines() if not without or not line.startswith(without)]
    return parts(fm_config="\n".join([*kept, *lines]) + "\n")


def _hopper(**changes: bytes | str | None) -> dict[str, bytes]:
    """A board without a subnet manager: no dumps of one."""
    items = parts(None, **changes)
    return {label: data for label, data in items.items() if not label.startswith("nvlsm")}


def only(code: str, stated: Any, given: Circumstances = TENANT) -> str:
    """The one problem, which is of this rule."""
    problems, gaps = judged(stated, given)
    assert (codes(problems), codes(gaps)) == ([code], [])
    assert all(one.expected and one.found and one.where for one in problems)
    return "; ".join(f"{one.where}: {one.found}" for one in problems)


def gap(code: str, stated: Any, given: Circumstances = TENANT) -> str:
    problems, gaps = judged(stated, given)
    assert (codes(problems), codes(gaps)) == ([], [code])
    return "; ".join(f"{one.where}: {one.reason}" for one in gaps)


def test_nothing_is_said_of_a_good_statement() -> None:
    assert judged(statement()) == ([], [])
    assert judged(statement(), Circumstances(multi_gpu=False)) == ([], [])


def test_of_facts_alone_everything_else_is_a_gap() -> None:
    stated = statement(items={})
    problems, gaps = judged(stated)
    assert problems == []
    assert codes(gaps) == [
        "FABRIC-MANAGER-CONFIG",
        "FABRIC-MANAGER-MODE",
        "FABRIC-PARTITION-TABLE",
        "FABRIC-RAIL-POLICY",
        "FABRIC-ROUTING",
    ]
    assert {one.reason for one in gaps if one.code.value == "FABRIC-MANAGER-MODE"} == {
        "the statement has no configuration"
    }


def test_problems_of_items_are_among_them_and_come_first() -> None:
    stated = statement(items={**parts(), "fm-config": b"?"})
    found = appraise_statement(stated, TENANT)
    assert found[0].code.value == "FABRIC-STATEMENT"
    reasons = {one.reason for one in found if hasattr(one, "reason")}
    assert reasons == {"the configuration cannot be read"}
    assert statement().gaps == ()
    assert set(statement(items={}).gaps) <= set(appraise_statement(statement(items={}), TENANT))


# --- version -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("580.95.05", (580, 95, 5)),
        ("580.95.05-1", (580, 95, 5)),
        ("Fabric Manager version is : 580.95.05", (580, 95, 5)),
        ("1:580.95.05-0ubuntu0.24.04.1", (580, 95, 5)),
        ("595.71.05-0ubuntu0.26.04.1", (595, 71, 5)),
        ("580.95", (580, 95)),
        ("580", None),
        ("", None),
        ("v580.", None),
        ("9" * 7 + ".1", None),
        ("1.2.3.4.5", None),
    ],
)
def test_the_dotted_number_of_a_version(text: str, numbers: tuple[int, ...] | None) -> None:
    assert version_numbers(text) == numbers


@pytest.mark.parametrize("version", [VERSION, f"{VERSION}-1", f"1:{VERSION}-0ubuntu1"])
def test_a_package_suffix_is_no_other_version(version: str) -> None:
    assert judged(statement(_facts(version=version))) == ([], [])


@pytest.mark.parametrize("version", ["595.58.04", "595.58", "595.58.03.01", "590.58.03"])
def test_another_version_than_the_drivers(version: str) -> None:
    found = only("FABRIC-MANAGER-VERSION", statement(_facts(version=version)))
    assert found.count(version) == 2  # of this host, and of the tenant's GPUs


def test_another_version_than_this_hosts_driver_alone() -> None:
    facts = replace(FACTS, driver="595.58.04")
    assert version_numbers(only("FABRIC-MANAGER-VERSION", statement(facts))) == (595, 58, 3)


def test_another_version_than_the_tenants_driver_alone() -> None:
    given = replace(TENANT, drivers=frozenset({VERSION, "595.71.05"}))
    (problem,), _ = judged(statement(), given)
    assert "595.71.05, which the tenant's GPUs signed" in problem.expected


@pytest.mark.parametrize("version", [Absent("NO_PERMISSION"), "unknown"])
def test_a_version_that_is_not_known(version: Any) -> None:
    assert "no version" in gap("FABRIC-MANAGER-VERSION", statement(_facts(version=version)))


@pytest.mark.parametrize(
    ("version", "generation", "enough"),
    [
        ("570.0.1", Generation.BLACKWELL, True),
        ("569.0.1", Generation.BLACKWELL, False),
        ("525.0.1", Generation.HOPPER, True),
        ("524.0.1", Generation.HOPPER, False),
    ],
)
def test_the_least_version_of_a_board(version: str, generation: Generation, enough: bool) -> None:
    facts = replace(_facts(version=version), driver=version)
    given = Circumstances(frozenset({version}), False, generation)
    problems, _ = judged(statement(facts, _hopper()), given)
    assert codes(problems) == ([] if enough else ["FABRIC-MANAGER-VERSION"])


def test_blackwell_needs_nvlsm() -> None:
    facts = _facts(NVLSM, sha384=Absent(NOT_FOUND), process=Absent(NOT_RUNNING))
    items = _hopper()
    assert only_problem(statement(facts, items)) == ("FABRIC-MANAGER-VERSION", NVLSM)
    # Its cables say so where the tenant does not.
    problems, _ = judged(statement(facts), replace(TENANT, generation=None))
    assert ("FABRIC-MANAGER-VERSION", NVLSM) in {(p.code.value, p.where) for p in problems}
    # Hopper does not, and of an unknown board nothing can be said.
    assert judged(statement(facts, items), HOPPER)[0] == []
    problems, gaps = judged(statement(facts, items), replace(TENANT, generation=None))
    assert problems == []
    assert ("FABRIC-MANAGER-VERSION", NVLSM) in {(g.code.value, g.where) for g in gaps}


def only_problem(stated: Any) -> tuple[str, str]:
    (problem,), _ = judged(stated)
    return problem.code.value, problem.where


# --- program -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [FABRIC_MANAGER, NVLSM])
def test_a_program_that_does_not_run(name: str) -> None:
    facts = _facts(name, process=Absent(NOT_RUNNING))
    problems, gaps = judged(statement(facts))
    assert [(one.code.value, one.where, one.found) for one in problems] == [
        ("FABRIC-MANAGER-PROGRAM", name, "not running")
    ]
    # Without NVLSM nobody can say of which run its tables are.
    assert codes(gaps) == (["FABRIC-ROUTING"] if name == NVLSM else [])


def test_nvlsm_need_not_run_on_hopper() -> None:
    stated = statement(_facts(NVLSM, process=Absent(NOT_RUNNING)), _hopper())
    problems, gaps = judged(stated, HOPPER)
    assert (problems, "FABRIC-MANAGER-PROGRAM" in codes(gaps)) == ([], False)
    problems, gaps = judged(stated, replace(TENANT, generation=None))
    assert (problems, "FABRIC-MANAGER-PROGRAM" in codes(gaps)) == ([], True)
    # The Fabric Manager is needed everywhere.
    stopped = statement(_facts(process=Absent(NOT_RUNNING)), _hopper())
    assert codes(judged(stopped, HOPPER)[0]) == ["FABRIC-MANAGER-PROGRAM"]


def test_a_process_that_could_not_be_read() -> None:
    facts = _facts(process=Absent("NO_PERMISSION"))
    assert "NO_PERMISSION" in gap("FABRIC-MANAGER-PROGRAM", statement(facts))


def test_a_manager_that_is_not_installed() -> None:
    facts = _facts(sha384=Absent(NOT_FOUND), process=Absent(NOT_RUNNING))
    found = only("FABRIC-MANAGER-PROGRAM", statement(facts))
    assert found == "fabric-manager: not installed"
    facts = replace(FACTS, programs=FACTS.programs[1:])
    assert only("FABRIC-MANAGER-PROGRAM", statement(facts)) == found


@pytest.mark.parametrize("name", [FABRIC_MANAGER, NVLSM])
def test_a_program_that_was_replaced_while_it_ran(name: str) -> None:
    assert "replaced" in only("FABRIC-MANAGER-PROGRAM", statement(_process(name, replaced=True)))


def test_a_running_program_that_is_another_than_on_disk() -> None:
    stated = statement(_process(sha384=digest("other")))
    assert digest("other") in only("FABRIC-MANAGER-PROGRAM", stated)


def test_digests_that_are_not_there() -> None:
    lost = Absent("NO_PERMISSION")
    found = gap("FABRIC-MANAGER-PROGRAM", statement(_process(sha384=lost)))
    assert "running NO_PERMISSION" in found
    found = gap("FABRIC-MANAGER-PROGRAM", statement(_facts(sha384=lost)))
    assert "on disk NO_PERMISSION" in found


def test_accepted_programs() -> None:
    own = bytes.fromhex(digest(FABRIC_MANAGER))
    given = replace(TENANT, programs={FABRIC_MANAGER: frozenset({own, bytes(48)})})
    assert judged(statement(), given) == ([], [])
    other = replace(TENANT, programs={FABRIC_MANAGER: frozenset({bytes(48)})})
    assert own.hex() in only("FABRIC-MANAGER-PROGRAM", statement(), other)
    lost = statement(_process(sha384=Absent("NO_PERMISSION")))
    assert "no digest of what runs" in gap("FABRIC-MANAGER-PROGRAM", lost, other)
    # One that must be there and is not.
    given = replace(HOPPER, programs={NVLSM: frozenset({own})})
    facts = replace(FACTS, programs=FACTS.programs[:1])
    (problem,), _ = judged(statement(facts, _hopper()), given)
    assert (problem.code.value, problem.where) == ("FABRIC-MANAGER-PROGRAM", NVLSM)


@pytest.mark.parametrize(("late", "wrong"), [(0, False), (1, True)])
def test_a_process_older_than_its_host(late: int, wrong: bool) -> None:
    facts = replace(FACTS, booted=STARTED + CLOCK_TOLERANCE + late)
    problems, _ = judged(statement(facts))
    assert codes(problems) == (["FABRIC-MANAGER-PROGRAM"] if wrong else [])
    assert judged(statement(replace(FACTS, booted=Absent("X")))) == ([], [])


def test_a_manager_that_outlives_its_failures_says_so_in_its_log_alone() -> None:
    items = _config("FM_STAY_RESIDENT_ON_FAILURES=1")
    assert judged(statement(items=items)) == ([], [])
    facts = replace(FACTS, log=Absent(NOT_FOUND))
    _, gaps = judged(statement(facts, items))
    assert codes(gaps) == ["FABRIC-MANAGER-LOG", "FABRIC-MANAGER-PROGRAM"]
    assert codes(judged(statement(facts))[1]) == ["FABRIC-MANAGER-LOG"]


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (["FM_CMD_BIND_INTERFACE=0.0.0.0"], "FM_CMD_BIND_INTERFACE"),
        (["FM_CMD_BIND_INTERFACE=10.1.2.3", "FM_CMD_UNIX_SOCKET_PATH="], "FM_CMD_BIND_INTERFACE"),
        (["FM_SM_IPC_INTERFACE=10.1.2.3:9000"], "FM_SM_IPC_INTERFACE"),
        (["FM_SM_IPC_INTERFACE=[fe80::1]:9000"], "FM_SM_IPC_INTERFACE"),
    ],
)
def test_a_setting_that_lets_others_in(lines: list[str], where: str) -> None:
    stated = statement(items=_config(*lines, without="FM_CMD_BIND"))
    (problem,), gaps = judged(stated)
    assert (problem.code.value, problem.where, gaps) == ("FABRIC-MANAGER-CONFIG", where, [])
    assert "no authentication" in problem.expected


@pytest.mark.parametrize(
    "lines",
    [
        ["FM_CMD_BIND_INTERFACE="],
        ["FM_CMD_BIND_INTERFACE=0.0.0.0", "FM_CMD_UNIX_SOCKET_PATH=/run/fm.socket"],
        ["FM_SM_IPC_INTERFACE=/var/run/fm_sm_ipc.socket"],
        ["FM_SM_IPC_INTERFACE=unix:/run/x"],
        ["FM_SM_IPC_INTERFACE=127.0.0.1:9000"],
        ["FM_SM_IPC_INTERFACE=[::1]:9000"],
        ["BIND_INTERFACE_IP=10.1.2.3"],  # without effect since B200
    ],
)
def test_a_setting_that_lets_nobody_in(lines: list[str]) -> None:
    assert judged(statement(items=_config(*lines, without="FM_CMD_BIND"))) == ([], [])


def test_the_internal_interface_of_hopper() -> None:
    for lines, bad in (
        (["BIND_INTERFACE_IP=10.1.2.3"], True),
        (["BIND_INTERFACE_IP=127.0.0.1"], False),
        (["BIND_INTERFACE_IP=10.1.2.3", "UNIX_SOCKET_PATH=/run/x"], False),
    ):
        config = _config(*lines)["fm-config"]
        problems, _ = judged(statement(items=_hopper(fm_config=config)), HOPPER)
        assert codes(problems) == (["FABRIC-MANAGER-CONFIG"] if bad else [])
        unknown = replace(HOPPER, generation=None)
        problems, _ = judged(statement(items=_hopper(fm_config=config)), unknown)
        assert codes(problems) == (["FABRIC-MANAGER-CONFIG"] if bad else [])


def test_a_key_with_two_values() -> None:
    found = only("FABRIC-MANAGER-CONFIG", statement(items=_config("LOG_LEVEL=3")))
    assert found.startswith("LOG_LEVEL: two values")
    twice = f"{NVLSM_CONFIG}guid 0x1\n"
    found = only("FABRIC-MANAGER-CONFIG", statement(items=parts(nvlsm_config=twice)))
    assert found.startswith("nvlsm guid: two values")


def test_settings_that_a_policy_names() -> None:
    given = replace(TENANT, settings={"LOG_LEVEL": frozenset({"3", "4"})})
    assert judged(statement(), given) == ([], [])
    given = replace(TENANT, settings={"LOG_LEVEL": frozenset({"3"}), "DAEMONIZE": frozenset({"1"})})
    found = only("FABRIC-MANAGER-CONFIG", statement(), given)
    assert found == "DAEMONIZE: not set; LOG_LEVEL: 4"
    empty = _config("STATE_FILE_NAME=")
    given = replace(TENANT, settings={"STATE_FILE_NAME": frozenset({"/x"})})
    found = only("FABRIC-MANAGER-CONFIG", statement(items=empty), given)
    assert found == "STATE_FILE_NAME: empty"


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ("guid 0x0\n", "nvlsm plugin_name"),
        ("plugin_name other\n", "nvlsm plugin_name"),
        (
            f"{NVLSM_CONFIG}plugin_options grpc_mgr --grpc_server_address 0.0.0.0:9000\n",
            "nvlsm --grpc_server_address",
        ),
        (
            f"{NVLSM_CONFIG}plugin_options grpc_mgr --grpc_server_address=10.0.0.1:9000\n",
            "nvlsm --grpc_server_address",
        ),
    ],
)
def test_a_subnet_manager_that_takes_orders_from_others(config: str, where: str) -> None:
    stated = statement(items=parts(nvlsm_config=config))
    assert only("FABRIC-MANAGER-CONFIG", stated).startswith(where)


@pytest.mark.parametrize(
    "options",
    [
        "-grpc_mgr --config_file /usr/share/nvidia/nvlsm/grpc_mgr.conf",
        "grpc_mgr --grpc_server_address unix:/var/run/fm_sm_ipc.socket",
        "grpc_mgr --grpc_server_address",
    ],
)
def test_a_subnet_manager_on_its_own_host(options: str) -> None:
    config = f"{NVLSM_CONFIG}plugin_options {options}\n"
    assert judged(statement(items=parts(nvlsm_config=config))) == ([], [])


DEFINED = b'{"partitionInfo":[{"partitionId":2,"gpuModuleIds":[1,2,3,4]}]}'


@pytest.mark.parametrize(
    ("label", "late", "wrong"),
    [
        ("fm_config", 0, False),
        ("fm_config", 1, True),
        ("nvlsm_config", 0, False),
        ("nvlsm_config", 1, True),
        ("fm_partition_definitions", 0, False),
        ("fm_partition_definitions", 1, True),
    ],
)
def test_a_file_that_changed_since_it_was_read(label: str, late: int, wrong: bool) -> None:
    items = {**parts(), "fm-partition-definitions": DEFINED}
    items["fm-partitions"] = _one_partition()
    modified: dict[str, Any] = {label: STARTED + CLOCK_TOLERANCE + late}
    problems, gaps = judged(statement(items=items, **modified))
    assert gaps == []
    wanted = [("FABRIC-MANAGER-CONFIG", label.replace("_", "-"))] if wrong else []
    assert [(one.code.value, one.where) for one in problems] == wanted


def _one_partition() -> bytes:
    full = table(2)
    return serialize_fmpm_list(replace(full, entries=full.active))


def test_a_file_whose_age_is_not_known() -> None:
    modified: dict[str, Any] = {"fm_config": Absent("NO_PERMISSION")}
    assert "fm-config" in gap("FABRIC-MANAGER-CONFIG", statement(items=parts(), **modified))


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"),
    [
        (FABRIC_MANAGER, ("fm", "-c", "/usr/share/nvidia/nvswitch/fabricmanager.cfg"), False),
        (FABRIC_MANAGER, ("fm", "-c", "/etc/other.cfg"), True),
        (FABRIC_MANAGER, ("fm", "--config", "/etc/other.cfg"), True),
        (FABRIC_MANAGER, ("fm", "--config=/etc/other.cfg"), True),
        (FABRIC_MANAGER, ("fm", "-c", "relative.cfg"), False),
        (FABRIC_MANAGER, ("fm", "-F", "/etc/other.cfg"), False),
        (FABRIC_MANAGER, ("fm", "-c"), False),
        (NVLSM, ("nvlsm", "-F", "/usr/share/nvidia/nvlsm/nvlsm.conf", "-B"), False),
        (NVLSM, ("nvlsm", "-F", "/etc/other.conf"), True),
        (NVLSM, ("nvlsm", "--config", "/etc/other.conf"), True),
        (NVLSM, Absent("NO_PERMISSION"), False),
    ],
)
def test_another_configuration_than_the_program_runs_with(
    name: str, arguments: Any, wrong: bool
) -> None:
    problems, gaps = judged(statement(_process(name, arguments=arguments)))
    assert (codes(problems), gaps) == (["FABRIC-MANAGER-CONFIG"] if wrong else [], [])


# --- mode ----------------------------------------------------------------------------------------


def _mode(value: str) -> dict[str, bytes]:
    return _config(*([f"FABRIC_MODE={value}"] if value else []), without="FABRIC_MODE")


def test_tenants_who_share_a_board_need_mode_1() -> None:
    assert "2 partitions" in _expected("FABRIC-MANAGER-MODE", statement(items=_mode("0")))
    # No key at all is mode 0.
    assert "2 partitions" in _expected("FABRIC-MANAGER-MODE", statement(items=_mode("")))


def _expected(code: str, stated: Any, given: Circumstances = TENANT) -> str:
    only(code, stated, given)
    return judged(stated, given)[0][0].expected


@pytest.mark.parametrize(
    ("modules", "wrong"),
    [((1, 2), True), (tuple(range(1, 8)), True), (tuple(range(1, 9)), False), ((1,), False)],
)
def test_a_tenant_of_a_part_of_the_board_needs_mode_1(
    modules: tuple[int, ...], wrong: bool
) -> None:
    items = {**_mode("0"), "fm-partitions": serialize_fmpm_list(table(1))}
    given = replace(TENANT, modules=frozenset(modules))
    problems, _ = judged(statement(items=items), given)
    assert codes(problems) == (["FABRIC-MANAGER-MODE"] if wrong else [])
    assert judged(statement(items=items), replace(TENANT, modules=None))[0] == []


def test_a_whole_board_in_mode_0_has_no_table() -> None:
    items = {**_mode("0")}
    del items["fm-partitions"]
    given = replace(TENANT, modules=frozenset(range(1, 9)))
    found = gap("FABRIC-PARTITION-TABLE", statement(items=items), given)
    assert found == "fm-partitions: FABRIC_MODE 0 has no partitions"


def test_vgpu_and_multi_gpu_mode_do_not_go_together() -> None:
    items = _mode("2")
    assert "passed through" in _expected("FABRIC-MANAGER-MODE", statement(items=items))
    for multi_gpu in (False, None):
        problems, _ = judged(statement(items=items), replace(TENANT, multi_gpu=multi_gpu))
        assert problems == []


def test_a_mode_that_does_not_exist() -> None:
    assert _expected("FABRIC-MANAGER-MODE", statement(items=_mode("3"))) == "0, 1 or 2"


def test_the_modes_of_a_policy() -> None:
    assert judged(statement(), replace(TENANT, modes=frozenset({0, 1}))) == ([], [])
    given = replace(TENANT, modes=frozenset({0, 2}))
    expected = _expected("FABRIC-MANAGER-MODE", statement(), given)
    assert expected == "0 (bare metal or full passthrough) or 2 (vGPU)"


# --- rail policy ---------------------------------------------------------------------------------


def _rail(value: str | None) -> dict[str, bytes]:
    lines = [] if value is None else [f"PARTITION_RAIL_POLICY={value}"]
    return _config(*lines, without="PARTITION_RAIL")


@pytest.mark.parametrize("value", ["greedy", "0", "Symmetric", "", "2", None])
def test_encrypted_links_need_a_symmetric_policy(value: str | None) -> None:
    stated = statement(items=_rail(value))
    assert _expected("FABRIC-RAIL-POLICY", stated) == "symmetric"
    # Other modes and Hopper need nothing.
    assert judged(stated, replace(TENANT, multi_gpu=False)) == ([], [])


def test_hopper_has_no_rail_policy() -> None:
    items = _hopper(fm_config=_rail(None)["fm-config"])
    problems, gaps = judged(statement(items=items), replace(TENANT, generation=Generation.HOPPER))
    assert (problems, "FABRIC-RAIL-POLICY" in codes(gaps)) == ([], False)


@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        ("595.58.03", "problem"),
        ("600.10.01", "problem"),
        ("594.99.99", "nothing"),
        ("580.95.05", "nothing"),
        (Absent("TIMEOUT"), "gap"),
    ],
)
def test_the_number_for_symmetric(version: Any, outcome: str) -> None:
    facts = replace(_facts(version=version), driver="X")
    given = replace(TENANT, drivers=frozenset())
    found = appraise_statement(statement(facts, _rail("1")), given)
    own = [type(one).__name__ for one in found if one.code.value == "FABRIC-RAIL-POLICY"]
    wanted = {"problem": ["StatementProblem"], "gap": ["StatementGap"], "nothing": []}
    assert own == wanted[outcome]


def test_a_rail_policy_that_cannot_be_judged() -> None:
    stated = statement(items=_rail("greedy"))
    assert "mode" in gap("FABRIC-RAIL-POLICY", stated, replace(TENANT, multi_gpu=None))
    # The cables say which board it is; without them nobody does.
    assert only("FABRIC-RAIL-POLICY", stated, replace(TENANT, generation=None))
    bare = statement(items=_hopper(fm_config=_rail("greedy")["fm-config"]))
    _, gaps = judged(bare, replace(TENANT, generation=None))
    assert "the board is not known" in [g.reason for g in gaps if g.where.startswith("PART")]


# --- log -----------------------------------------------------------------------------------------


def _log(**changes: Any) -> ManagerFacts:
    assert isinstance(FACTS.log, LogHealth)
    return replace(FACTS, log=replace(FACTS.log, **changes))


def test_errors_in_the_log() -> None:
    stated = statement(_log(errors=2, last_error="[ERROR] no link"))
    assert only("FABRIC-MANAGER-LOG", stated).endswith("2 in 40 lines; the last: [ERROR] no link")


@pytest.mark.parametrize(("level", "wrong"), [(0, True), (1, True), (2, False), (4, False)])
def test_a_log_that_holds_no_errors_by_its_level(level: int, wrong: bool) -> None:
    items = _config(f"LOG_LEVEL={level}", without="LOG_LEVEL")
    problems, gaps = judged(statement(items=items))
    assert (codes(problems), gaps) == (["FABRIC-MANAGER-LOG"] if wrong else [], [])


def test_a_log_that_is_elsewhere() -> None:
    assert "NOT_FOUND" in gap(
        "FABRIC-MANAGER-LOG", statement(replace(FACTS, log=Absent(NOT_FOUND)))
    )
    assert gap("FABRIC-MANAGER-LOG", statement(items=_config("LOG_USE_SYSLOG=1")))
    stated = statement(_log(path="/tmp/fabricmanager.log"))
    assert "/tmp/fabricmanager.log" in only("FABRIC-MANAGER-LOG", stated)
    assert judged(statement(items=_config(without="LOG_FILE"))) == ([], [])


# --- partitions ----------------------------------------------------------------------------------


def test_active_partitions_that_overlap() -> None:
    items = parts(board(1), fm_partitions=serialize_fmpm_list(table(1, 3)))
    found = only("FABRIC-PARTITION-TABLE", statement(items=items))
    assert found.split("; ")[0] == "GPU 5: active partitions 1 and 3"
    assert found.count("GPU") == 4


def test_links_that_an_active_partition_lacks() -> None:
    live = table(2, 3)
    entry = live.entry(2)
    assert entry is not None
    broken = replace(entry, gpus=(replace(entry.gpus[0], links_available=17), *entry.gpus[1:]))
    entries = tuple(broken if one.id == 2 else one for one in live.entries)
    items = parts(fm_partitions=serialize_fmpm_list(replace(live, entries=entries)))
    found = only("FABRIC-PARTITION-TABLE", statement(items=items))
    assert found == "partition 2, GPU 1: 17 of 18"
    inactive = tuple(replace(one, active=False) for one in entries)
    items = parts(fm_partitions=serialize_fmpm_list(replace(live, entries=inactive)))
    assert judged(statement(items=items)) == ([], [])


@pytest.mark.parametrize("module", [0, 9])
def test_modules_that_the_board_does_not_have(module: int) -> None:
    live = table(2, 3)
    entry = live.entries[-1]
    gpu = replace(entry.gpus[0], module=module)
    other = replace(entry, modules=frozenset({module}), gpus=(gpu,))
    items = parts(
        fm_partitions=serialize_fmpm_list(replace(live, entries=(*live.entries[:-1], other)))
    )
    found = only("FABRIC-PARTITION-TABLE", statement(items=items))
    assert found == f"partition {entry.id}: {module}"
    bare = _hopper(fm_partitions=items["fm-partitions"])
    assert judged(statement(items=bare), replace(TENANT, generation=None))[0] == []


def _defined(**modules: list[int]) -> bytes:
    listed = ",".join(
        f'{{"partitionId":{name[1:]},"gpuModuleIds":{ids}}}' for name, ids in modules.items()
    )
    return f'{{"partitionInfo":[{listed}]}}'.encode()


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        (_defined(p2=[4, 3, 2, 1]), None),
        (_defined(p2=[1, 2, 3]), "partition 2: GPUs 1, 2, 3, 4, in the live table"),
        (
            _defined(p2=[1, 2, 3, 4], p7=[7, 8]),
            "partition 7: no such partition, in the live table",
        ),
        (_defined(), "partition 2: GPUs 1, 2, 3, 4, in the live table"),
    ],
)
def test_the_live_table_is_made_from_its_definitions(definition: bytes, found: str | None) -> None:
    items = {**parts(fm_partitions=_one_partition()), "fm-partition-definitions": definition}
    stated = statement(items=items)
    if found is None:
        assert judged(stated) == ([], [])
    else:
        assert only("FABRIC-PARTITION-TABLE", stated) == found


def test_definitions_that_are_not_there() -> None:
    items = _config("SHARED_PARTITION_DEFINITION_FILE=/etc/partitions.json")
    found = gap("FABRIC-PARTITION-TABLE", statement(items=items))
    assert found == "fm-partition-definitions: /etc/partitions.json is not in the statement"
    stated = statement(items={**items, "fm-partition-definitions": b"?"})
    _, gaps = judged(stated)
    assert [one.reason for one in gaps] == ["/etc/partitions.json cannot be read"]
    assert judged(statement(items=_config("SHARED_PARTITION_DEFINITION_FILE="))) == ([], [])


def test_a_live_table_that_is_not_there() -> None:
    stated = statement(items=parts(fm_partitions=None))
    assert "has no live table" in gap("FABRIC-PARTITION-TABLE", stated)
    _, gaps = judged(statement(items=parts(fm_partitions=b"?")))
    assert [one.reason for one in gaps] == ["the live table of partitions cannot be read"]
    # Definitions alone contradict nothing.
    items = {**parts(fm_partitions=None), "fm-partition-definitions": DEFINED}
    assert judged(statement(items=items))[0] == []


def test_a_statement_about_another_board() -> None:
    fabric = SimFabric.hgx("H100", default_tenants("H100", [1, 2]))
    problems, _ = judged(statement(items=parts(fabric)))
    assert ("FABRIC-MODULES", "board") in {(one.code.value, one.where) for one in problems}
    problems, _ = judged(statement(), HOPPER)
    assert ("FABRIC-MODULES", "board") in {(one.code.value, one.where) for one in problems}


# --- age of tables -------------------------------------------------------------------------------

TABLES = ["nvlsm_subnet", "nvlsm_fdbs", "nvlsm_lfts", "nvlsm_mcfdbs"]


@pytest.mark.parametrize("label", TABLES)
@pytest.mark.parametrize(("early", "wrong"), [(0, False), (1, True)])
def test_tables_of_an_earlier_run(label: str, early: int, wrong: bool) -> None:
    modified: dict[str, Any] = {label: STARTED - CLOCK_TOLERANCE - early}
    problems, gaps = judged(statement(items=parts(), **modified))
    assert gaps == []
    wanted = [("FABRIC-ROUTING", label.replace("_", "-"))] if wrong else []
    assert [(one.code.value, one.where) for one in problems] == wanted
    assert all("earlier run" in one.found for one in problems)


def test_what_outlives_a_run_is_not_judged_by_its_age() -> None:
    modified: dict[str, Any] = {"nvlsm_guid2lid": BOOTED - 99999, "nvlsm_pkeys": Absent("COMMAND")}
    assert judged(statement(items=parts(), **modified)) == ([], [])


def test_tables_of_unknown_age() -> None:
    modified: dict[str, Any] = {"nvlsm_lfts": Absent("NO_PERMISSION")}
    found = gap("FABRIC-ROUTING", statement(items=parts(), **modified))
    assert found == "nvlsm-lfts: when it was written is not stated"
    items = parts()
    facts = replace(statement().facts, sources=statement().facts.sources[:1])
    _, gaps = judged(statement(facts, items))
    assert [one.where for one in gaps] == [label.replace("_", "-") for label in TABLES]
    for process in (Absent("NO_PERMISSION"), Absent(NOT_RUNNING)):
        _, gaps = judged(statement(_facts(NVLSM, process=process)))
        assert "FABRIC-ROUTING" in codes(gaps)
    # Where there are no tables, nobody asks for their age.
    lost = _facts(NVLSM, process=Absent("NO_PERMISSION"))
    _, gaps = judged(statement(lost, _hopper()), HOPPER)
    assert [one.where for one in gaps if one.code.value == "FABRIC-ROUTING"] == [
        "nvlsm-subnet",
        "nvlsm-lfts",
    ]


def test_a_process_is_one_of_the_facts() -> None:
    assert all(isinstance(one.process, Process) for one in FACTS.programs)


def test_a_host_without_a_driver_is_held_against_its_tenants() -> None:
    """Where every GPU is passed through, nobody loads a driver on the manager's host."""
    lone = statement(replace(FACTS, driver=Absent("NOT_FOUND")))
    code = StatementCode.VERSION
    alone = [one for one in appraise_statement(lone) if one.code is code and one.where == "driver"]
    assert [type(one) for one in alone] == [StatementGap]
    same = Circumstances(drivers=frozenset({VERSION}))
    assert not [one for one in appraise_statement(lone, same) if one.code is code]
    other = Circumstances(drivers=frozenset({"570.1.2"}))
    (problem,) = [one for one in appraise_statement(lone, other) if one.code is code]
    assert isinstance(problem, StatementProblem)
