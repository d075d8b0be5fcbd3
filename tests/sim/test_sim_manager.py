"""Simulated managers: the real collector reads their host, and each fault has a code of its own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from ccverify.bundle.package import Bundle, parse_bundle
from ccverify.bundle.verify_bundle import appraise_bundle
from ccverify.cli.sim_manager_host import host_of
from ccverify.cli.sim_sources import MARK, simulated_manager_sources
from ccverify.cli.sim_statement import (
    BINDERS,
    BinderName,
    collect_sim_statement,
    matching_managers,
    sim_statement,
)
from ccverify.collect.manager_host import ManagerHost
from ccverify.collect.model import Stage
from ccverify.errors import UsageError
from ccverify.fabric.observation import Absent
from ccverify.fabric.routing_evaluate import Evaluation
from ccverify.fabric.routing_findings import RouteCode
from ccverify.fabric.statement import FabricStatement, evaluate_statement, read_statement
from ccverify.fabric.statement_diff import continuity_problems
from ccverify.fabric.statement_join import join_partition
from ccverify.fabric.statement_model import Circumstances, Judged, StatementCode, StatementProblem
from ccverify.fabric.statement_rules import appraise_statement
from ccverify.findings import State
from ccverify.sim.board import default_partitions, sim_board
from ccverify.sim.board_names import manager_named, tenant_named
from ccverify.sim.fabric import SimTenant
from ccverify.sim.fabric_faults import FAULTS
from ccverify.sim.host import SimAnswer, SimFile, SimHost
from ccverify.sim.machine import MACHINES
from ccverify.sim.manager import SimManager
from ccverify.sim.manager_host import manager_host

NONCE = hashlib.sha256(b"the relying party's nonce").digest()
ROOT = Path(__file__).parents[2]
BOARDS = ("b300-board-4+4", "h100-board-4+4")
EACH_BOARD = pytest.mark.parametrize("board", BOARDS)


def bundle_of(manager: SimManager | str, binder: BinderName = "none") -> Bundle:
    return parse_bundle(sim_statement(manager, NONCE, binder=binder))


def read(manager: SimManager | str) -> FabricStatement:
    items = bundle_of(manager).items
    return read_statement({label: item.value for label, item in items.items()})


@cache
def read_named(name: str) -> FabricStatement:
    return read(name)


def evaluated(statement: FabricStatement) -> Evaluation:
    evaluation = evaluate_statement(statement)
    assert evaluation is not None
    return evaluation


def judged(statement: FabricStatement, manager: SimManager, tenant: str = "a") -> list[Judged]:
    """What all rules say, for a tenant who knows his own GPUs."""
    fabric = manager.board.machine(tenant).fabric
    modules = frozenset(fabric.modules)
    several = len(modules) > 1
    given = Circumstances(
        drivers=frozenset({manager.board.driver}),
        multi_gpu=several and manager.board.blackwell,
        modules=modules,
    )
    match = join_partition(statement, modules)
    return [*appraise_statement(statement, given), *match.judged]


# --- honest managers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "number"),
    [(model, number) for model in ("B300", "H100") for number in default_partitions(model)]
    + [("B200", 2), ("H200", 3)],
)
def test_every_default_partition_evaluates_closed(model: str, number: int) -> None:
    manager = SimManager(sim_board(model, [number]))  # type: ignore[arg-type]
    statement = read(manager)
    assert judged(statement, manager) == []
    assert statement.partitions is not None
    (active,) = statement.partitions.active
    assert (active.id, tuple(sorted(active.modules))) == (number, manager.board.modules("a"))
    assert len(statement.partitions.entries) == 15
    evaluation = evaluated(statement)
    assert (evaluation.findings, evaluation.omitted) == ((), ())
    assert evaluation.is_closed(f"partition-{number}")


@pytest.mark.parametrize("board", [*BOARDS, "b300-board-4+2+1+1", "h100-board-2+2+2+2"])
def test_several_tenants_are_apart(board: str) -> None:
    manager, statement = manager_named(board), read_named(board)
    evaluation = evaluated(statement)
    assert (evaluation.findings, evaluation.omitted) == ((), ())
    owners: dict[str, str] = {}
    for tenant, number in manager.board.tenants.items():
        assert judged(statement, manager, tenant) == []
        assert evaluation.is_closed(f"partition-{number}")
        owners |= {f"GPU{module}": tenant for module in manager.board.modules(tenant)}
    assert len(owners) == 8
    assert all(owners[one] == owners[other] for one, other in evaluation.reachable)


@pytest.mark.parametrize("model", ["B300", "H100"])
def test_partitions_of_ones_own_are_defined_in_a_file(model: str) -> None:
    tenants = [SimTenant("ann", (1, 2, 5)), SimTenant("bob", (3, 8))]
    manager = SimManager(sim_board(model, tenants))  # type: ignore[arg-type]
    statement = read(manager)
    assert judged(statement, manager, "ann") == judged(statement, manager, "bob") == []
    assert statement.definitions is not None
    defined = [(entry.id, sorted(entry.modules)) for entry in statement.definitions.entries]
    assert defined == [(1, [1, 2, 5]), (2, [3, 8])]
    assert evaluated(statement).findings == ()
    manager.board.list_as(5, 6)
    found = {one.code for one in judged(read(manager), manager, "ann")}
    assert found == {StatementCode.PARTITION_TABLE, StatementCode.MODULES}


def test_the_facts_are_those_of_the_host() -> None:
    manager = manager_named("b300-board-4+4")
    facts = read_named("b300-board-4+4").facts
    assert (facts.boot_id, facts.driver) == (manager.boot_id, "595.58.03")
    assert facts.booted == int(manager.booted.timestamp())
    for name, version in (("fabric-manager", "595.58.03"), ("nvlsm", "2025.06.6")):
        program = facts.program(name)
        assert program is not None
        assert not isinstance(program.process, Absent)
        assert (program.version, program.process.sha384) == (version, program.sha384)
        assert (program.process.replaced, program.process.restarts) == (False, 0)
        assert 0 <= program.process.started - int(manager.started.timestamp()) <= 2
    assert not isinstance(facts.log, Absent)
    assert (facts.log.errors, facts.log.warnings, facts.log.lines) == (0, 0, 5)


def test_a_board_that_is_passed_through_whole() -> None:
    """Its guest manages it himself: there are no partitions to list."""
    manager, statement = manager_named("h100-hgx-8"), read_named("h100-hgx-8")
    assert len(manager.board.machine("a").node.switches) == 4
    assert statement.config is not None
    assert (statement.config.fabric_mode, statement.partitions) == (0, None)
    absent = bundle_of("h100-hgx-8").absences["fm-partitions"]
    assert "fmReturn: -3" in absent.text


@pytest.mark.parametrize("name", [name for name in MACHINES if name.startswith("b")])
def test_the_manager_of_every_machine(name: str) -> None:
    manager = manager_named(name)
    assert judged(read_named(name), manager) == []
    assert evaluated(read_named(name)).findings == ()


# --- faults --------------------------------------------------------------------------------------


FOUND: dict[str, set[StatementCode]] = {
    "stale-partition": {StatementCode.PARTITION_ACTIVE},
    "gpu-in-progress": set(),
    "leaked-route": set(),
    "wrong-key": set(),
    "multicast-leak": set(),
    "swapped-module": {StatementCode.MODULES},
    "listed-module": {StatementCode.MODULES},
    "overlapping-partitions": {StatementCode.PARTITION_TABLE, StatementCode.MODULES},
    "foreign-traffic": set(),
    "manager-restarted": set(),
    "host-rebooted": set(),
    "rail-policy": {StatementCode.RAIL_POLICY},
    "manager-version": {StatementCode.VERSION},
    "manager-mode": {StatementCode.MODE},
    "open-api": {StatementCode.CONFIG},
    "replaced-binary": {StatementCode.PROGRAM},
    "log-errors": {StatementCode.LOG},
    "manager-stopped": {StatementCode.PROGRAM},
    "subnet-manager-stopped": {StatementCode.PROGRAM},
}
ROUTES: dict[str, set[RouteCode]] = {
    "leaked-route": {RouteCode.LEAK, RouteCode.MULTICAST},
    "wrong-key": {RouteCode.PKEY},
    "multicast-leak": {RouteCode.MULTICAST},
    "listed-module": {RouteCode.LEAK, RouteCode.PKEY, RouteCode.MULTICAST},
    "overlapping-partitions": {RouteCode.OVERLAP, RouteCode.PKEY},
}
NO_TABLE = {"manager-mode", "manager-stopped"}


def test_every_fault_is_tried() -> None:
    assert FOUND.keys() == FAULTS.keys() >= ROUTES.keys()


@EACH_BOARD
@pytest.mark.parametrize("fault", FOUND)
def test_a_fault_is_found_by_its_code(board: str, fault: str) -> None:
    if fault == "rail-policy" and board.startswith("h"):
        with pytest.raises(UsageError):
            manager_named(f"{board}@{fault}")
        return
    if fault == "subnet-manager-stopped" and board.startswith("h"):
        # Hopper needs none: that the simulated one does not run is no fault.
        assert not [one for one in judged(read_named(f"{board}/a@{fault}"), manager_named(board))
                    if isinstance(one, StatementProblem)]  # fmt: skip
        return
    name = f"{board}/a@{fault}"
    manager, statement = manager_named(name), read_named(name)
    problems = [one for one in judged(statement, manager) if isinstance(one, StatementProblem)]
    assert {one.code for one in problems} == FOUND[fault]
    if fault in NO_TABLE:
        assert evaluate_statement(statement) is None
        return
    evaluation = evaluated(statement)
    assert {one.code for one in evaluation.findings} == ROUTES.get(fault, set())
    if fault in ROUTES:
        number = manager.board.tenants["a"]
        assert not evaluation.is_closed(f"partition-{number}")


@EACH_BOARD
def test_a_leak_is_named_hop_by_hop(board: str) -> None:
    statement = read_named(f"{board}/b@leaked-route")
    assert statement.links is not None
    leaks = [one for one in evaluated(statement).findings if one.code is RouteCode.LEAK]
    assert [one.where for one in leaks] == ["GPU1 → GPU5", "GPU5 → GPU1"]
    for leak in leaks:
        hops = leak.path_text(statement.links).split(" → ")
        assert len(hops) == 4
        source, target = leak.where.split(" → ")
        assert (hops[0].split()[0], hops[3].split()[0]) == (source, target)
        assert hops[1].split()[0] == hops[2].split()[0]


@EACH_BOARD
def test_a_restart_between_two_statements(board: str) -> None:
    manager = manager_named(board)
    modules = frozenset(manager.board.modules("a"))
    before = read(manager)
    assert continuity_problems(before, read(manager), modules) == ()
    manager.at += timedelta(hours=2)
    assert continuity_problems(before, read(manager), modules) == ()
    manager.restart(manager.at - timedelta(hours=1))
    after = read(manager)
    assert judged(after, manager) == []
    problems = continuity_problems(before, after, modules)
    assert {one.code for one in problems} == {StatementCode.CONTINUITY}
    assert {one.where for one in problems} >= {"fabric-manager", "nvlsm"}
    program = after.facts.program("fabric-manager")
    assert program is not None
    assert not isinstance(program.process, Absent)
    assert program.process.restarts == 1


@EACH_BOARD
def test_a_restart_that_loses_the_partitions(board: str) -> None:
    manager = manager_named(board)
    manager.restart(manager.at - timedelta(minutes=5), lose=True)
    statement = read(manager)
    assert {one.code for one in judged(statement, manager)} == {StatementCode.PARTITION_ACTIVE}
    assert statement.partitions is not None
    assert statement.partitions.active == ()
    assert manager.board.fabric.groups_of == {}
    assert evaluated(statement).reachable == frozenset()


@EACH_BOARD
def test_a_reboot_between_two_statements(board: str) -> None:
    before, manager = read_named(board), manager_named(board)
    manager.reboot(manager.at - timedelta(hours=1))
    after = read(manager)
    assert (after.facts.boot_id != before.facts.boot_id, after.facts.booted) == (
        True,
        int(manager.booted.timestamp()),
    )
    assert {one.where for one in continuity_problems(before, after)} >= {"host"}
    assert manager.tpm().reset_count == manager_named(board).tpm().reset_count + 1


def test_what_a_fault_leaves_alone() -> None:
    """Every fault of the manager leaves guests alone, and most of the guest leave the manager."""
    of_guests = {"stale-partition", "gpu-in-progress", "swapped-module", "foreign-traffic"}
    honest = tenant_named("b300-board-4+4/a")
    statement = sim_statement("b300-board-4+4", NONCE, binder="none")
    for fault in FAULTS:
        name = f"b300-board-4+4/a@{fault}"
        assert (tenant_named(name) != honest) is (fault in of_guests)
        changed = sim_statement(name, NONCE, binder="none") != statement
        assert changed is (fault not in of_guests - {"stale-partition"})


# --- statements ----------------------------------------------------------------------------------


@pytest.mark.parametrize("binder", get_args(BinderName))
def test_a_statement_is_the_same_every_time(binder: BinderName) -> None:
    one = sim_statement("h100-board-4+4", NONCE, binder=binder)
    assert one == sim_statement(manager_named("h100-board-4+4"), NONCE, binder=binder)
    assert one == sim_statement(sim_board("H100", [1, 2], name="h100-board-4+4"), NONCE,
                                binder=binder)  # fmt: skip
    manager = manager_named("h100-board-4+4")
    later = sim_statement(manager, NONCE, binder=binder, at=manager.at + timedelta(hours=1))
    assert later != one
    assert manager.at + timedelta(hours=1) == made_at(later)
    assert sim_statement(manager, NONCE, binder=binder) == one


def made_at(statement: bytes) -> datetime:
    return datetime.fromtimestamp(parse_bundle(statement).manifest.created, UTC)


def test_a_statement_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib, sys\n"
        "from ccverify.cli.sim_statement import sim_statement\n"
        "made = sim_statement('b300-board-4+2+1+1@log-errors', bytes(32))\n"
        "print(hashlib.sha256(made).hexdigest())"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, check=True, cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "TZ": zone},
        ).stdout
        for seed, zone in (("1", "Asia/Tokyo"), ("2", "UTC"))
    }  # fmt: skip
    own = hashlib.sha256(sim_statement("b300-board-4+2+1+1@log-errors", bytes(32))).hexdigest()
    assert made == {f"{own}\n"}


@pytest.mark.parametrize("binder", get_args(BinderName))
def test_a_statement_is_a_whole_bundle_and_marked(binder: BinderName) -> None:
    collected = collect_sim_statement("b300-board-4+4", NONCE, binder=binder)
    assert collected.bundle is not None
    bundle = parse_bundle(collected.bundle)
    assert all(entry.source.startswith(f"{MARK} ") for entry in bundle.manifest.items.values())
    findings = appraise_bundle(collected.bundle, NONCE).findings
    assert not [one for one in findings if one.state is State.FAIL]
    bound = {"tdx-quote": "tdx", "tpm-quote": "tpm", "operator-signature": "x509"}
    assert [name for label, name in bound.items() if label in bundle.items] == (
        [] if binder == "none" else [binder]
    )
    assert set(bundle.absences) <= {"fm-partition-definitions", "dstack-log", "tdx-quote"}


def test_binders_are_named() -> None:
    assert set(BINDERS) == set(get_args(BinderName))
    with pytest.raises(UsageError, match="binds a key so"):
        sim_statement("b300-board-8", NONCE, binder="wax")  # type: ignore[arg-type]
    accepted = matching_managers("b300-board-8")
    assert accepted["tdx"] != matching_managers("b300-board-8@host-rebooted")["x509"]
    assert accepted == matching_managers(sim_board("B300", [1], name="b300-board-8"))


def test_the_service_vm_is_another_image_on_the_tenants_host() -> None:
    manager = manager_named("b300-board-4+4")
    service, tenant = manager.service_vm(), manager.board.machine("a")
    assert service.platform == tenant.platform
    assert service.node.gpus == ()
    own, theirs = service.registers(), tenant.registers()
    assert {name for name in own if own[name] != theirs[name]} == {"rtmr1", "rtmr2"}
    assert service.event_log() != tenant.event_log()


@pytest.mark.parametrize("name", ["b300-board-4+4", "h100-board-8/a@open-api", "b300-hgx-4"])
def test_sources_by_name(name: str) -> None:
    sources = simulated_manager_sources(name)
    assert all(one.name.startswith(MARK) for one in sources)
    assert [one.stage for one in sources if "fabric-manager" in one.gives] == [Stage.LOGS]
    assert [one.stage for one in sources if "tdx-quote" in one.gives] == [Stage.QUOTE]
    missing = {absence.label for one in sources for absence in one.diagnose()}
    assert missing == {"fm-partition-definitions"}


def test_a_name_that_is_none() -> None:
    with pytest.raises(UsageError) as caught:
        simulated_manager_sources("rtx-pro-6000-8")
    assert caught.value.where == "--platform"


# --- the host ------------------------------------------------------------------------------------


def host() -> ManagerHost:
    return host_of(manager_named("b300-board-4+4@replaced-binary"))


def test_files_are_as_a_kernel_gives_them() -> None:
    files, program = host().files, Path("/usr/bin/nv-fabricmanager")
    exe = Path("/proc/1804/exe")
    assert {"1804", "1811", "stat", "version"} <= set(files.names(Path("/proc")))
    assert files.link(exe) == f"{program} (deleted)"
    assert files.link(Path("/proc/1811/exe")) == "/opt/nvidia/nvlsm/sbin/nvlsm"
    assert files.sha384(exe, 1000) != files.sha384(program, 1000)
    assert files.sha384(Path(f"/proc/1811/root{program}"), 1000) == files.sha384(program, 1000)
    assert files.status(exe).identity != files.status(program).identity
    nvlsm = Path("/opt/nvidia/nvlsm/sbin/nvlsm")
    assert files.status(Path("/proc/1811/exe")).identity == files.status(nvlsm).identity
    assert files.status(Path("/proc/stat")).size == 0 < len(files.read(Path("/proc/stat"), 1000))
    log = Path("/var/log/fabricmanager.log")
    assert files.tail(log, 10) == files.read(log, 10_000)[-10:]
    assert files.tail(log, 10_000) == files.read(log, 10_000)


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (lambda f: f.names(Path("/nowhere")), FileNotFoundError),
        (lambda f: f.names(Path("/proc/stat")), NotADirectoryError),
        (lambda f: f.read(Path("/nowhere"), 9), FileNotFoundError),
        (lambda f: f.read(Path("/proc"), 9), OSError),
        (lambda f: f.read(Path("/proc/1804/exe"), 9), OSError),
        (lambda f: f.read(Path("/proc/stat"), 9), OSError),
        (lambda f: f.sha384(Path("/proc/1811/exe"), 9), OSError),
        (lambda f: f.link(Path("/proc/stat")), OSError),
        (lambda f: f.link(Path("/nowhere")), FileNotFoundError),
        (lambda f: f.status(Path("/nowhere")), FileNotFoundError),
    ],
)
def test_files_that_cannot_be_had(act: object, kind: type[OSError]) -> None:
    with pytest.raises(kind) as caught:
        act(host().files)  # type: ignore[operator]
    assert caught.value.errno


def test_programs_answer_what_they_know() -> None:
    run = host().run
    version = run(("/usr/bin/nv-fabricmanager", "--version"), 1.0)
    assert version.output == b"Fabric Manager version is : 595.58.03\n"
    asked = ("systemctl", "show", "--property=MainPID,NRestarts", "nvidia-fabricmanager.service")
    assert run(asked, 1.0).output == b"MainPID=1804\nNRestarts=0\n"
    assert run((*asked, "--value"), 1.0).output == b"1804\n0\n"
    assert run(("systemctl", "show", "nvidia-fabricmanager"), 1.0).output.startswith(b"LoadState=")
    for refused in (
        ("systemctl", "show", "-p", "NRestarts", "sshd.service"),
        ("fmpm", "-a", "2"),
        ("nvlsm", "-F", "x"),
    ):
        answer = run(refused, 1.0)
        assert (answer.status, answer.output) == (1, b"")
        assert "simulated" in answer.errors
    with pytest.raises(FileNotFoundError):
        run(("smpquery", "pkeys", "1"), 1.0)
    stopped = host_of(manager_named("b300-board-8@manager-stopped")).run
    assert stopped(("fmpm", "-l"), 1.0).status == 256 - 9


def test_a_host_can_be_changed() -> None:
    made: SimHost = manager_host(manager_named("h100-board-8"))
    made.files["/etc/nvlsm/partitions.conf"] = SimFile(b"x", 1)
    made.programs["fmpm"] = lambda words: SimAnswer(0, b"[]")
    assert made.read("/etc/nvlsm/partitions.conf", 1) == b"x"
    assert made.run(("fmpm",)).output == b"[]"
    assert b"No real board" in made.read("/usr/share/nvidia/nvlsm/nvlsm.conf", 1000)
