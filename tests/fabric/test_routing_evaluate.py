"""Routing on simulated fabrics: clean ones pass, every fault is found by its own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from routing_support import codes, evaluate, partitions_of, read_links, read_state

from ccverify.fabric.linkmap import LinkMap, NodeKind, PortId
from ccverify.fabric.linkmap_hgx import (
    DEFAULT_PARTITIONS_BLACKWELL,
    DEFAULT_PARTITIONS_HOPPER,
    HGX_B300,
    HGX_H100,
)
from ccverify.fabric.routing import PortAddress, UnicastTable
from ccverify.fabric.routing_evaluate import appraise_routing
from ccverify.fabric.routing_findings import (
    MAX_FINDINGS_PER_CODE,
    FabricPartition,
    RouteCode,
)
from ccverify.sim.fabric import SimFabric, SimTenant, default_tenants

Fault = Callable[[SimFabric], None]
BOARDS = {"B300": HGX_B300, "H100": HGX_H100}
HALVES = {"B300": (2, 3), "H100": (1, 2)}


def halves(board: str) -> SimFabric:
    return SimFabric.hgx(board, default_tenants(board, HALVES[board]))


def two_level(**changes: int) -> SimFabric:
    tenants = [SimTenant("a", (1, 2, 3, 4)), SimTenant("b", (5, 6, 7, 8))]
    shape = {"gpus": 8, "rails": 2, "down": 2, "spines": 2, "width": 2, **changes}
    return SimFabric.two_level(tenants, **shape, one_lid_per_gpu=False)


# --- clean fabrics -------------------------------------------------------------------------------


@pytest.mark.parametrize("one_lid", [False, True])
@pytest.mark.parametrize(
    ("board", "number"),
    [("B300", n) for n in DEFAULT_PARTITIONS_BLACKWELL]
    + [("H100", n) for n in DEFAULT_PARTITIONS_HOPPER],
)
def test_every_default_partition_is_proven(board: str, number: int, one_lid: bool) -> None:
    fabric = SimFabric.hgx(board, default_tenants(board, [number]), one_lid_per_gpu=one_lid)
    found = evaluate(fabric, BOARDS[board])
    assert found.findings == ()
    name = f"partition-{number}"
    assert found.is_closed(name)
    gpus = fabric.tenants[0].gpus
    wanted = {(a, b) for a in gpus for b in gpus if a != b}
    assert found.reachable == wanted


@pytest.mark.parametrize(
    "tenants",
    [
        [(1, 2, 3, 4), (5, 6, 7, 8)],
        [(1, 2), (3, 4), (5, 6), (7, 8)],
        [(1, 8), (2, 3, 5), (4, 6, 7)],
        [(n,) for n in range(1, 9)],
        [(1, 2, 3, 4), (5, 6), (7,)],
    ],
)
@pytest.mark.parametrize("board", BOARDS)
def test_concurrent_tenants_are_proven_disjoint(board: str, tenants: list[tuple[int, ...]]) -> None:
    fabric = SimFabric.hgx(board, [SimTenant(f"t{n}", own) for n, own in enumerate(tenants)])
    found = evaluate(fabric, BOARDS[board])
    assert found.findings == ()
    owner = {gpu: t.name for t in fabric.tenants for gpu in t.gpus}
    assert all(owner[a] == owner[b] for a, b in found.reachable)


def test_a_fabric_of_two_levels_is_proven() -> None:
    assert evaluate(two_level()).findings == ()


# --- faults --------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Fault, set[str]]] = {
    "expose": (lambda f: f.expose(("GPU1", 0), f.tenants[1].name), {"ROUTE-EXPOSED"}),
    "wrong key": (lambda f: f.wrong_key("GPU2"), {"ROUTE-PKEY"}),
    "black hole": (lambda f: f.black_hole(("GPU3", 4)), {"ROUTE-BLACKHOLE"}),
    "no entry": (lambda f: f.drop_entry(("GPU3", 4)), {"ROUTE-UNREACHABLE"}),
    "wrong rail": (lambda f: f.wrong_rail(("GPU1", 0), ("GPU1", 16)), {"ROUTE-RAIL"}),
    "multicast leak": (lambda f: f.leak_multicast(0xC000, ("GPU6", 3)), {"ROUTE-MULTICAST"}),
    "limited members": (
        lambda f: [f.limited_key(gpu) for gpu in ("GPU1", "GPU2")] and None,
        {"ROUTE-PKEY"},
    ),
}


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_own_code(board: str, name: str) -> None:
    fault, wanted = FAULTS[name]
    fabric = halves(board)
    fault(fabric)
    found = evaluate(fabric, BOARDS[board])
    assert codes(found) == wanted
    assert any(not found.is_closed(tenant.name) for tenant in fabric.tenants)


@pytest.mark.parametrize("board", BOARDS)
def test_swapped_ports_are_named(board: str) -> None:
    fabric = halves(board)
    fabric.swap_ports(("GPU1", 0), ("GPU2", 3))
    found = evaluate(fabric, BOARDS[board])
    assert codes(found) == {"ROUTE-MISDELIVERED"}
    assert {f.found for f in found.findings} >= {"delivered to GPU2 link 3"}


def test_swapped_cables_are_named_port_by_port() -> None:
    fabric = halves("B300")
    fabric.swap_cables(("GPU1", 0), ("GPU2", 0))
    found = evaluate(fabric, HGX_B300)
    links = [f for f in found.findings if f.code is RouteCode.LINK]
    assert [(f.where, f.expected, f.found) for f in links] == [
        ("NVSwitch2 port 2", "cabled to GPU1", "cabled to GPU2"),
        ("NVSwitch2 port 3", "cabled to GPU2", "cabled to GPU1"),
    ]
    assert all(f.partitions == ("partition-2",) for f in links)


@pytest.mark.parametrize(
    ("board", "wanted"),
    [
        ("B300", "GPU5 link 0 → NVSwitch2 port 33 → NVSwitch2 port 2 → GPU1 link 0"),
        ("H100", "GPU5 link 0 → NVSwitch2 port 57 → NVSwitch2 port 36 → GPU1 link 0"),
    ],
)
def test_one_planted_leak_is_named_hop_by_hop(board: str, wanted: str) -> None:
    fabric = halves(board)
    fabric.leak_route(("GPU5", 0), ("GPU1", 0))
    found = evaluate(fabric, BOARDS[board])
    leaks = [f for f in found.findings if f.code is RouteCode.LEAK]
    assert [f.where for f in leaks] == ["GPU1 → GPU5", "GPU5 → GPU1"]
    into = leaks[1]
    assert into.path_text(read_links(fabric)) == wanted
    assert into.count == 1
    assert "with key 0xc242" in into.found
    assert set(into.partitions) == {t.name for t in fabric.tenants}
    assert codes(found) == {"ROUTE-LEAK", "ROUTE-MULTICAST"}
    assert {("GPU1", "GPU5"), ("GPU5", "GPU1")} <= found.reachable


def test_without_keys_one_table_for_all_is_no_isolation() -> None:
    fabric = halves("B300")
    state = replace(read_state(fabric), keys=None)
    found = appraise_routing(read_links(fabric), state, partitions_of(fabric))
    assert RouteCode.LEAK in {f.code for f in found.findings}
    assert any("whatever its key" in f.found for f in found.findings)


def test_a_port_without_a_key_table_may_hold_any_key() -> None:
    fabric = halves("B300")
    ends = [end for end in fabric.keys if end[0] == "GPU5"]
    for end in ends:
        del fabric.keys[end]
        del fabric.keys[fabric.cables.ends[end]]
    found = evaluate(fabric, HGX_B300)
    assert {"GPU5 → GPU1", "GPU5 → GPU4"} <= {
        f.where for f in found.findings if f.code is RouteCode.LEAK
    }
    assert [f.found for f in found.findings if f.code is RouteCode.PKEY] == ["none stated"]


def test_a_loop_is_named_with_its_switches() -> None:
    fabric = two_level()
    fabric.loop(("GPU1", 0), "Leaf0.1")
    found = evaluate(fabric)
    assert codes(found) == {"ROUTE-LOOP"}
    (loop,) = found.findings
    nodes = [port.node for port in loop.path]
    assert loop.where == f"LID 0x{fabric.lids['GPU1', 0]:04X}"
    assert nodes[-1] in nodes[:-1]
    assert {"Leaf0.1", "Spine0.0"} <= set(nodes)
    assert not found.is_closed("a")
    assert not found.is_closed("b")


def test_a_black_hole_behind_another_switch_is_one_too() -> None:
    fabric = two_level()
    fabric.drop_entry(("GPU1", 0))
    del fabric.tables["Spine0.0"][fabric.lids["GPU1", 0]]
    del fabric.tables["Spine0.1"][fabric.lids["GPU1", 0]]
    found = evaluate(fabric)
    assert codes(found) == {"ROUTE-BLACKHOLE", "ROUTE-UNREACHABLE"}


def test_a_split_or_circular_group_is_not_closed() -> None:
    fabric = two_level()
    spine, (up, _) = fabric.cables.spine_of["Leaf0.0"][0]
    fabric.split_multicast(0xC000, "Leaf0.0", up)
    assert codes(evaluate(fabric)) == {"ROUTE-MULTICAST"}
    fabric = two_level()
    for leaf in ("Leaf0.0", "Leaf0.1"):
        other, ports = fabric.cables.spine_of[leaf][1]
        fabric.groups[leaf][0xC000].add(ports[0])
        fabric.groups.setdefault(other, {}).setdefault(0xC000, set()).add(
            fabric.cables.trunks[leaf, ports[0]][1]
        )
    assert "ROUTE-LOOP" in codes(evaluate(fabric))
    assert spine == "Spine0.0"


def test_a_group_that_leads_nowhere_or_is_split_on_a_rail_is_found() -> None:
    fabric = halves("B300")
    fabric.groups["NVSwitch1"][0xC000].add(200)
    (finding,) = evaluate(fabric).findings
    assert finding.code is RouteCode.MULTICAST
    assert "port 200, which leads nowhere" in finding.found
    fabric = two_level()
    for leaf in ("Leaf0.0", "Leaf0.1"):
        up = fabric.cables.spine_of[leaf][0][1][0]
        fabric.groups[leaf][0xC000].discard(up)
    fabric.groups["Spine0.0"][0xC000].clear()
    (finding,) = evaluate(fabric).findings
    assert (finding.code, finding.expected) == (RouteCode.MULTICAST, "one tree on a rail")


def test_a_key_table_between_switches_counts() -> None:
    fabric = two_level()
    for trunk in fabric.cables.trunks:
        fabric.keys[trunk] = [fabric.keys_of["a"] | 0x8000]
    found = evaluate(fabric)
    assert codes(found) == {"ROUTE-PKEY"}
    assert {f.partitions for f in found.findings} == {("b",)}


# --- what does not fit ---------------------------------------------------------------------------


def test_strangers_are_named() -> None:
    fabric = halves("B300")
    links, state = read_links(fabric), read_state(fabric)
    state = replace(
        state,
        unicast=(*state.unicast, UnicastTable(0xDEAD, b"\xff\x01")),
        addresses=(*state.addresses, PortAddress(0xBEEF, 0x900, 0x901)),
    )
    partitions = [*partitions_of(fabric), FabricPartition("c", frozenset({"GPU9", "GPU8"}))]
    found = appraise_routing(links, state, partitions)
    by_code = {code: [f.where for f in found.findings if f.code is code] for code in RouteCode}
    assert by_code[RouteCode.UNKNOWN_PORT] == [
        "GPU9", "GUID 0x000000000000beef", "switch 0x000000000000dead",
    ]  # fmt: skip
    assert by_code[RouteCode.OVERLAP] == ["GPU8"]


def test_a_link_without_a_lid_or_a_rail_without_a_link_is_found() -> None:
    fabric = halves("B300")
    state = read_state(fabric)
    gone = fabric.port_guid("GPU2", 5)
    kept = tuple(a for a in state.addresses if a.guid != gone)
    links = read_links(fabric)
    found = appraise_routing(links, replace(state, addresses=kept), partitions_of(fabric))
    assert [(f.code, f.where) for f in found.findings] == [(RouteCode.UNREACHABLE, "GPU2 link 5")]
    fewer = tuple((a, b) for a, b in links.links if not {"GPU2", "NVSwitch1"} <= {a.node, b.node})
    found = appraise_routing(replace(links, links=fewer), state, partitions_of(fabric))
    rails = [f for f in found.findings if f.code is RouteCode.RAIL]
    assert [(f.where, f.expected) for f in rails] == [("GPU2", "links on the rail of NVSwitch1")]


def test_a_manager_may_reach_everybody() -> None:
    fabric = halves("B300")
    fabric.tenants.pop()
    for end in [end for end in fabric.keys if end[0] == "GPU8"]:
        key = fabric.keys_of["partition-2"] | 0x8000
        fabric.keys[end].append(key)
        fabric.keys[fabric.cables.ends[end]].append(key)
    links, state = read_links(fabric), read_state(fabric)
    assert appraise_routing(links, state, partitions_of(fabric)).findings
    allowed = appraise_routing(links, state, partitions_of(fabric), managers={"GPU8"})
    assert allowed.findings == ()
    assert ("GPU8", "GPU1") in allowed.reachable


def test_findings_are_bounded_and_the_rest_counted() -> None:
    tenants = [SimTenant(f"t{n}", (n,)) for n in range(1, 41)]
    fabric = SimFabric.two_level(tenants, gpus=40, rails=1, down=8, spines=2)
    state = replace(read_state(fabric), keys=None)
    found = appraise_routing(read_links(fabric), state, partitions_of(fabric))
    leaks = [f for f in found.findings if f.code is RouteCode.LEAK]
    assert len(leaks) == MAX_FINDINGS_PER_CODE
    assert dict(found.omitted)[RouteCode.LEAK] > 0
    assert not any(found.is_closed(t.name) for t in tenants)


def test_the_order_of_partitions_does_not_matter() -> None:
    fabric = halves("B300")
    fabric.leak_route(("GPU5", 0), ("GPU1", 0))
    fabric.black_hole(("GPU3", 4))
    links, state = read_links(fabric), read_state(fabric)
    one = appraise_routing(links, state, partitions_of(fabric))
    two = appraise_routing(links, state, partitions_of(fabric)[::-1])
    assert [(f.code, f.where, f.path, f.count) for f in one.findings] == [
        (f.code, f.where, f.path, f.count) for f in two.findings
    ]


def test_paths_run_along_cables() -> None:
    fabric = two_level()
    fabric.leak_route(("GPU1", 0), ("GPU8", 0))
    links: LinkMap = read_links(fabric)
    cables = {frozenset(link) for link in links.links}
    kinds = {node.name: node.kind for node in links.nodes}
    leaks = [f for f in evaluate(fabric).findings if f.code is RouteCode.LEAK]
    assert leaks
    for finding in leaks:
        path: tuple[PortId, ...] = finding.path
        assert len(path) == 8  # GPU, leaf, spine, leaf, GPU
        for here, there in zip(path[::2], path[1::2], strict=True):
            assert frozenset((here, there)) in cables
        for here, there in zip(path[1:-1:2], path[2::2], strict=True):
            assert here.node == there.node
            assert kinds[here.node] is NodeKind.SWITCH
