"""Evaluated reachability equals what a packet walk finds that tries every packet there is.

The walk below knows cables, tables and keys of the simulated fabric alone, and follows one packet
at a time; it shares nothing with the evaluation but the question.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from routing_support import partitions_of, read_links, read_state

from ccverify.fabric.routing_evaluate import appraise_routing
from ccverify.fabric.routing_findings import RouteCode
from ccverify.fabric.routing_graph import build_graph
from ccverify.sim.fabric import SimFabric, SimTenant

Port = tuple[str, int]


def matches(key: int, table: list[int]) -> bool:
    return any(key & 0x7FFF == own & 0x7FFF and (key | own) & 0x8000 for own in table)


def stopped(fabric: SimFabric, port: Port, key: int) -> bool:
    return port in fabric.keys and not matches(key, fabric.keys[port])


def send(fabric: SimFabric, source: Port, lid: int, key: int) -> tuple[str, Port | None]:
    """Send one packet: how it ends, and at which link."""
    far = {port: end for end, port in fabric.cables.ends.items()}
    at, seen = fabric.cables.ends[source], set()
    if stopped(fabric, at, key):
        return "stopped", None
    while True:
        if at in seen:
            return "loop", None
        seen.add(at)
        out = at[0], fabric.tables[at[0]].get(lid, 255)
        if out[1] == 255:
            return "lost", None
        if out in far:
            if stopped(fabric, out, key):
                return "stopped", None
            end = far[out]
            return ("accepted" if matches(key, fabric.keys[end]) else "refused"), end
        if out not in fabric.cables.trunks:
            return "lost", None
        at = fabric.cables.trunks[out]
        if stopped(fabric, out, key) or stopped(fabric, at, key):
            return "stopped", None


@dataclass
class Walked:
    reachable: set[tuple[str, str]] = field(default_factory=set)
    leaks: set[str] = field(default_factory=set)
    exposed: set[str] = field(default_factory=set)
    incomplete: set[str] = field(default_factory=set)
    loops: set[str] = field(default_factory=set)
    delivered: dict[tuple[Port, int, int], Port] = field(default_factory=dict)


def goes_round(fabric: SimFabric, switch: str, lid: int) -> bool:
    """Whether a packet that enters a switch comes back to one it has been at; keys aside."""
    seen: set[str] = set()
    while switch not in seen:
        seen.add(switch)
        far = fabric.cables.trunks.get((switch, fabric.tables[switch].get(lid, 255)))
        if far is None:
            return False
        switch = far[0]
    return True


def walk_everything(fabric: SimFabric) -> Walked:
    tenant = {gpu: t.name for t in fabric.tenants for gpu in t.gpus}
    owner = {lid: end for end, lid in fabric.lids.items()}
    lids = sorted({lid for table in fabric.tables.values() for lid in table} | owner.keys())
    walked = Walked()
    for lid in lids:
        if any(goes_round(fabric, switch, lid) for switch in fabric.tables):
            walked.loops.add(f"LID 0x{lid:04X}")
    for source in fabric.cables.ends:
        rail = fabric.cables.ends[source][0].partition(".")[0]
        rail = rail.replace("Leaf", "").replace("Spine", "")
        for lid in lids:
            arrived = []
            for key in set(fabric.keys[source]) - {0, 0x8000}:
                end, at = send(fabric, source, lid, key)
                arrived.append((end, at))
                if at is None:
                    continue
                if end == "accepted":
                    walked.delivered[source, lid, key] = at
                pair = f"{source[0]} → {at[0]}"
                apart = tenant.get(source[0]) != tenant.get(at[0])
                if end == "accepted" and source[0] != at[0]:
                    walked.reachable.add((source[0], at[0]))
                    if apart:
                        walked.leaks.add(pair)
                elif end == "refused" and apart:
                    walked.exposed.add(pair)
            to = owner.get(lid)
            if to is None or to[0] == source[0] or tenant.get(to[0]) is None:
                continue
            there = fabric.cables.ends[to][0].partition(".")[0].replace("Leaf", "")
            wanted = tenant.get(source[0]) == tenant[to[0]] and rail == there
            if wanted and ("accepted", to) not in arrived:
                walked.incomplete.add(tenant[to[0]])
    return walked


@st.composite
def tenancies(draw: st.DrawFn) -> list[SimTenant]:
    owner = draw(st.lists(st.integers(0, 3), min_size=8, max_size=8))
    groups = defaultdict(list)
    for module, tenant in enumerate(owner, start=1):
        groups[tenant].append(module)
    groups.pop(0, None)  # these are nobody's
    return [SimTenant(f"t{n}", tuple(own)) for n, own in sorted(groups.items())]


def change(fabric: SimFabric, draw: st.DrawFn) -> None:
    """At most one table entry, and at most one key table."""
    if draw(st.booleans()):
        switch = draw(st.sampled_from(sorted(fabric.tables)))
        lid = draw(st.sampled_from(sorted(fabric.lids.values())) | st.integers(1, 40))
        known = [port for name, port in fabric.cables.ends.values() if name == switch]
        known += [port for name, port in fabric.cables.trunks if name == switch]
        port = draw(st.sampled_from([*sorted(known), 0, 200, 255]))
        fabric.tables[switch][lid] = port
        if port == 255:
            del fabric.tables[switch][lid]
    if draw(st.booleans()):
        pool = [key | full for key in (*fabric.keys_of.values(), 0x7FFF) for full in (0, 0x8000)]
        ports = sorted(fabric.keys) + sorted(fabric.cables.trunks)
        where = draw(st.sampled_from(ports))
        keys = draw(st.lists(st.sampled_from(pool), max_size=3))
        fabric.keys[where] = keys
        if draw(st.booleans()) and where in fabric.cables.ends:
            fabric.keys[fabric.cables.ends[where]] = list(keys)


def check(fabric: SimFabric) -> None:
    walked = walk_everything(fabric)
    links, state = read_links(fabric), read_state(fabric, linear=True)
    found = appraise_routing(links, state, partitions_of(fabric, keys=False))
    assert found.omitted == ()
    assert found.reachable == walked.reachable
    assert {f.where for f in found.findings if f.code is RouteCode.LEAK} == walked.leaks
    exposed = {f.where for f in found.findings if f.code is RouteCode.EXPOSED}
    # Of a pair, one link may get in while another is refused: each is said where it holds.
    assert exposed <= walked.exposed
    assert walked.exposed - exposed <= walked.leaks
    unicast = {
        RouteCode.PKEY, RouteCode.BLACKHOLE, RouteCode.UNREACHABLE, RouteCode.MISDELIVERED,
        RouteCode.RAIL,
    }  # fmt: skip
    incomplete = {n for f in found.findings if f.code in unicast for n in f.partitions}
    assert incomplete <= walked.incomplete
    assert {f.where for f in found.findings if f.code is RouteCode.LOOP} == walked.loops
    assert walked.loops or walked.incomplete == incomplete


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_two_levels_with_one_entry_changed(data: st.DataObject) -> None:
    fabric = SimFabric.two_level(
        data.draw(tenancies()), gpus=8, rails=2, down=3, spines=2,
        one_lid_per_gpu=False,
    )  # fmt: skip
    change(fabric, data.draw)
    check(fabric)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_hgx_b300_with_one_entry_changed(data: st.DataObject) -> None:
    fabric = SimFabric.hgx("B300", data.draw(tenancies()))
    change(fabric, data.draw)
    check(fabric)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_single_packet_ends_where_the_graph_says(data: st.DataObject) -> None:
    fabric = SimFabric.two_level(
        data.draw(tenancies()), gpus=8, rails=1, down=3, spines=2, one_lid_per_gpu=False
    )
    change(fabric, data.draw)
    delivered = walk_everything(fabric).delivered
    graph = build_graph(read_links(fabric), read_state(fabric, linear=True))
    found = {}
    for lid in graph.lids():
        outcomes = graph.outcomes(lid)
        for at, end in enumerate(graph.ends):
            target = outcomes[end.switch]
            if target < 0:
                continue
            keys = graph.accepted(at, target, graph.transit(end.switch, lid))
            assert keys is not None
            for key in keys:
                found[tuple(end.port), lid, key] = tuple(graph.ends[target].port)
    assert found == delivered


def test_the_walk_itself_can_tell() -> None:
    fabric = SimFabric.hgx("B300", [SimTenant("a", (1, 2)), SimTenant("b", (3, 4))])
    clean = walk_everything(fabric)
    assert clean.reachable == {
        ("GPU1", "GPU2"), ("GPU2", "GPU1"), ("GPU3", "GPU4"), ("GPU4", "GPU3"),
    }  # fmt: skip
    assert (clean.leaks, clean.exposed, clean.incomplete) == (set(), set(), set())
    fabric.leak_route(("GPU3", 0), ("GPU1", 0))
    fabric.drop_entry(("GPU2", 1))
    broken = walk_everything(fabric)
    assert broken.leaks == {"GPU3 → GPU1", "GPU1 → GPU3"}
    assert broken.incomplete == {"a"}
