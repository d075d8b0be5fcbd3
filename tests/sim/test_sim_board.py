"""Boards with several tenants: physical GPUs, partitions, guests, and what can be wrong of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest

from ccverify.collect.fabric import observe_fabric
from ccverify.collect.nvml_library import Nvml
from ccverify.errors import UsageError
from ccverify.fabric.consistency import appraise_consistency
from ccverify.fabric.consistency_model import AttestedGpu, FabricCode
from ccverify.fabric.observation import Absent, FabricInfo, FabricObservation
from ccverify.sim.board import SimBoard, default_partitions, sim_board
from ccverify.sim.board_names import BOARDS, is_board_name, manager_named, tenant_named
from ccverify.sim.fabric import SimTenant
from ccverify.sim.fabric_faults import FAULTS
from ccverify.sim.machine import MACHINES, Fabric, SimMachine, sim_machine
from ccverify.sim.nvidia.nvml import SimNvml

MODELS = ("B200", "B300", "H100", "H200")
EVERY_DEFAULT = [(model, number) for model in MODELS for number in default_partitions(model)]
ON_BOARDS = [name for name in MACHINES if not name.startswith("rtx")]


def observed(machine: SimMachine) -> FabricObservation:
    nvml = SimNvml(machine)
    return observe_fabric(Nvml(lambda: nvml))


def guest_codes(machine: SimMachine) -> set[FabricCode]:
    """What the rules say of the guest's observation, given what its GPUs sign."""
    several = len(machine.node.gpus) > 1
    mode = ("MPT" if machine.fabric.encrypted else "PPCIE") if several else "SPT"
    attested = [
        AttestedGpu(f"gpu-{n}", gpu.pdi, mode, uuid=machine.uuid(gpu))
        for n, gpu in enumerate(machine.node.gpus)
    ]
    return {found.code for found in appraise_consistency(observed(machine), attested).problems}


def pdis(machine: SimMachine) -> list[bytes]:
    return [gpu.pdi for gpu in machine.node.gpus]


# --- honest boards -------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "number"), EVERY_DEFAULT)
def test_the_guest_of_every_default_partition_is_consistent(model: str, number: int) -> None:
    board = sim_board(model, [number])  # type: ignore[arg-type]
    machine = board.machine("a")
    modules = default_partitions(model)[number]
    assert guest_codes(machine) == set()
    seen = observed(machine)
    assert tuple(gpu.module for gpu in seen.gpus) == modules == board.modules("a")
    for gpu in seen.gpus:
        assert not isinstance(gpu.platform, Absent)
        assert isinstance(gpu.fabric, FabricInfo)
        assert gpu.platform.module == gpu.module
        if len(modules) > 1:
            assert ([one.id for one in gpu.fabric.cliques], gpu.fabric.state) == ([number], 3)
        else:
            assert gpu.fabric.state == 0
    assert set(board.free()) == set(range(1, 9)) - set(modules)


@pytest.mark.parametrize("name", ON_BOARDS)
def test_a_machine_is_the_tenant_of_its_board(name: str) -> None:
    """Whoever collects from the machine, and whoever asks its manager, see one board."""
    assert manager_named(name).board.machine("a") == sim_machine(name)
    other = manager_named(name, instance="2").board.machine("a")
    assert other == sim_machine(name, instance="2")


@pytest.mark.parametrize("model", MODELS)
def test_tenants_of_one_board_share_nothing_but_the_host(model: str) -> None:
    board = manager_named(f"{model.lower()}-board-4+2+1+1").board
    machines = [board.machine(tenant) for tenant in "abcd"]
    assert [len(one.node.gpus) for one in machines] == [4, 2, 1, 1]
    for one, other in combinations(machines, 2):
        assert not set(pdis(one)) & set(pdis(other))
        assert not set(one.fabric.modules) & set(other.fabric.modules)
        assert one.fabric.partition != other.fabric.partition
        assert one.platform == other.platform
    assert sorted(m for one in machines for m in one.fabric.modules) == list(range(1, 9))
    assert board.free() == ()
    clusters = {
        gpu.fabric.cluster_uuid
        for one in machines[:2]
        for gpu in observed(one).gpus
        if isinstance(gpu.fabric, FabricInfo)
    }
    assert len(clusters) == 1


def test_gpus_stay_where_they_are_however_the_board_is_parted() -> None:
    whole = pdis(sim_board("B300", [1]).machine("a"))
    assert len(set(whole)) == 8
    halves = sim_board("B300", [2, 3])
    assert pdis(halves.machine("a")) + pdis(halves.machine("b")) == whole
    custom = sim_board("B300", [SimTenant("ann", (2, 7, 5))])
    assert pdis(custom.machine("ann")) == [whole[1], whole[6], whole[4]]
    other = sim_board("B300", [1], instance="2")
    assert not set(whole) & set(pdis(other.machine("a")))
    assert other.platform != halves.platform


def test_partitions_of_ones_own() -> None:
    board = sim_board("H100", [SimTenant("ann", (1, 2, 5)), SimTenant("bob", (3, 8), key=0x77)])
    assert (board.custom, board.tenants) == (True, {"ann": 1, "bob": 2})
    assert board.partitions == {1: (1, 2, 5), 2: (3, 8)}
    assert board.fabric.keys_of == {"partition-1": 0x100, "partition-2": 0x77}
    assert guest_codes(board.machine("ann")) == guest_codes(board.machine("bob")) == set()
    named = sim_board("H100", [SimTenant("ann", (5, 7))])
    assert (named.custom, named.tenants) == (False, {"ann": 5})
    listed = sim_board("B300", [7, SimTenant("ann", (1,))], partitions={7: (2, 3), 9: (1,)})
    assert (listed.custom, listed.tenants) == (True, {"a": 7, "ann": 9})


@pytest.mark.parametrize(
    ("model", "tenants"),
    [
        ("B400", [1]),
        ("B300", [1, 2]),
        ("B300", [16]),
        ("B300", [2, 2]),
        ("B300", [2, SimTenant("ann", (5, 8))]),
        ("H100", [SimTenant("ann", (1, 9))]),
        ("H100", [SimTenant("ann", (1, 2, 2))]),
        ("H100", [SimTenant("ann", (1, 2, 5)), SimTenant("ann", (3, 4))]),
        ("H100", [SimTenant("ann", (1, 2, 5)), SimTenant("bob", (5, 4))]),
    ],
)
def test_no_such_board(model: str, tenants: list[int | SimTenant]) -> None:
    with pytest.raises(UsageError):
        sim_board(model, tenants)  # type: ignore[arg-type]


def test_no_such_tenant() -> None:
    with pytest.raises(UsageError, match="no such tenant"):
        sim_board("B300", [1]).machine("b")


def test_a_machine_with_more_gpus_than_its_fabric_knows() -> None:
    machine = sim_machine("b300-hgx-2")
    more = replace(machine, node=sim_machine("b300-hgx-4").node)
    assert [gpu.module for gpu in observed(more).gpus] == [1, 2, 3, 4]
    fabric = Fabric(modules=(5,), background=(7,))
    assert [(fabric.module(n), fabric.foreign_rate(n)) for n in (0, 1)] == [(5, 7), (2, 0)]


# --- what a guest is told ------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["b300", "h100"])
@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("stale-partition", {FabricCode.STATE}),
        ("gpu-in-progress", {FabricCode.STATE, FabricCode.CLIQUE}),
        ("swapped-module", set()),
        ("foreign-traffic", set()),
    ],
)
def test_a_fault_in_the_guest(model: str, fault: str, codes: set[FabricCode]) -> None:
    name = f"{model}-board-4+4/b@{fault}"
    assert guest_codes(tenant_named(name)) == codes
    other = manager_named(name).board.machine("a")
    assert guest_codes(other) == set()
    assert other == tenant_named(f"{model}-board-4+4/a")


@pytest.mark.parametrize("model", ["b300", "h100"])
def test_links_of_a_stale_partition_are_up(model: str) -> None:
    """Links train by themselves: they say nothing of the partition."""
    for gpu in observed(tenant_named(f"{model}-board-4+4/a@stale-partition")).gpus:
        assert not isinstance(gpu.links, Absent)
        assert [link.state for link in gpu.links] == [1] * 18
        assert isinstance(gpu.fabric, FabricInfo)
        assert (gpu.fabric.state, gpu.fabric.cluster_uuid) == (2, "0" * 32)


def test_a_gpu_in_progress_has_no_peers() -> None:
    seen = observed(tenant_named("b300-board-4+4/a@gpu-in-progress"))
    for pair in seen.peers:
        assert pair.read == (5 if 3 in (pair.gpu, pair.peer) else 0)


def test_faults_that_a_guest_is_shown() -> None:
    swapped = tenant_named("b300-board-4+4/a@swapped-module")
    assert swapped.fabric.modules == (1, 2, 3, 5)
    assert pdis(swapped) == pdis(tenant_named("b300-board-4+4/a"))
    busy = tenant_named("h100-board-4+4/b@foreign-traffic").fabric
    assert [busy.foreign_rate(n) > 0 for n in range(4)] == [True, False, False, False]


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_every_listed_board_is_there(name: str) -> None:
    board = manager_named(name).board
    sizes = [len(board.modules(tenant)) for tenant in board.tenants]
    assert "+".join(map(str, sizes)) == name.rpartition("-")[2]
    assert not board.custom


def test_names_of_guests() -> None:
    board = sim_board("B300", [2, 3], name="b300-board-4+4")
    assert tenant_named("b300-board-4+4/b") == board.machine("b")
    assert board.machine("b").name == "b300-board-4+4/b"
    alone = tenant_named("h200-board-8")
    assert (alone.name, len(alone.node.gpus)) == ("h200-board-8/a", 8)
    assert manager_named("b300-board-1+4+2+1").board.tenants == {"a": 8, "b": 3, "c": 5, "d": 9}
    both = tenant_named("b300-board-4+4/a@swapped-module@gpu-in-progress").fabric
    assert (both.modules, both.waiting) == ((1, 2, 3, 5), (3,))
    assert tenant_named("b300-hgx-4@gpu-in-progress").fabric.waiting == (3,)
    assert [is_board_name(n) for n in (*MACHINES, "", "x")] == [False] * (len(MACHINES) + 2)
    assert all(is_board_name(n) for n in ("b300-board-8", "b300-hgx-4/a", "b300-hgx-4@open-api"))


@pytest.mark.parametrize("make", [manager_named, tenant_named])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no such simulated board"),
        ("b300-board-", "no such simulated board"),
        ("b300-board-3", "no such simulated board"),
        ("rtx-pro-6000-1", "no such simulated board"),
        ("b300-board-8+1", "do not fit"),
        ("b300-board-4+4/c", "no such tenant"),
        ("b300-board-4+4/", "no such tenant"),
        ("b300-board-8@", "no such fault"),
        ("b300-board-8/a@leaked-rout", "no such fault"),
        ("b300-board-8@leaked-route", "nobody else"),
        ("b300-board-1@gpu-in-progress", "one GPU"),
        ("h100-board-8@rail-policy", "encrypt NVLink"),
        ("x" * 1000, "no such simulated board"),
    ],
)
def test_names_that_are_refused(make: Callable[[str], object], name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        make(name)
    assert len(str(caught.value)) < 1500


def test_a_near_fault_is_suggested_and_a_tenant_must_be_named() -> None:
    with pytest.raises(UsageError) as caught:
        manager_named("b300-board-4+4@leaked-rout")
    assert caught.value.hint == "did you mean leaked-route?"
    with pytest.raises(UsageError) as caught:
        tenant_named("b300-board-4+4@wrong-key")
    assert caught.value.expected == "b300-board-4+4/a@wrong-key, b300-board-4+4/b@wrong-key"


def test_a_name_makes_a_board_of_its_own_each_time() -> None:
    board: SimBoard = manager_named("b300-board-4+4").board
    board.leave_inactive("a")
    assert tenant_named("b300-board-4+4/a").fabric.waiting == ()
    assert all(fault.text.endswith(".") for fault in FAULTS.values())
