"""Are multicast groups closed?  One look at every entry of the multicast tables.

A switch copies a packet to every port of its group but the one it came in by; cables between
switches join their groups into trees.  A group must reach GPUs of one partition only, be reached
by no sender outside it, get from every member to every other on its rail, and have no circle.

Where two switches disagree about the cable between them the tree is taken as joined, and the
disagreement is a finding; a key table between switches is taken to let everything through.  Both
err towards finding too much.  That a foreign port in a group is kept dry by its keys alone does
not excuse it: the entry has no purpose but to leak.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ccverify.fabric.linkmap import NodeKind, PortId, port_text
from ccverify.fabric.routing import RoutingState
from ccverify.fabric.routing_findings import FindingLog, RouteCode
from ccverify.fabric.routing_graph import Graph
from ccverify.fabric.routing_membership import Membership

__all__ = ["appraise_multicast"]


@dataclass(slots=True)
class _Tree:
    """Switches joined for one group."""

    lid: int
    switches: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    trunks: int = 0


def appraise_multicast(
    graph: Graph, state: RoutingState, members: Membership, log: FindingLog
) -> None:
    """Add what is wrong with multicast groups to the log."""
    index = {node.guid: node.name for node in graph.links.nodes}
    numbers = {name: at for at, name in enumerate(graph.switches)}
    groups: dict[int, dict[int, tuple[int, ...]]] = {}
    for table in state.multicast:
        switch = numbers.get(index.get(table.switch, ""))
        if switch is not None:
            for group in table.groups:
                groups.setdefault(group.lid, {})[switch] = group.ports
    for lid in sorted(groups):
        trees = list(_trees(graph, lid, groups[lid], log))
        for tree in trees:
            _appraise_reach(graph, groups[lid], tree, members, log)
        _appraise_split(graph, trees, members, log)


def _trees(
    graph: Graph,
    lid: int,
    masks: dict[int, tuple[int, ...]],
    log: FindingLog,
) -> Iterator[_Tree]:
    joined: dict[int, set[int]] = {switch: set() for switch in masks}
    trees: dict[int, _Tree] = {}
    for switch, ports in masks.items():
        tree = trees[switch] = _Tree(lid)
        for port in ports:
            end, other = graph.end_at(switch, port), graph.neighbour(switch, port)
            if end is not None:
                tree.ends.append(end)
            elif other is None:
                _lost(graph, lid, switch, port, log)
            else:
                tree.trunks += 1
                _one_way(graph, lid, switch, port, masks, log)
                if other in joined:
                    joined[switch].add(other)
                    joined[other].add(switch)
    while trees:
        start, tree = trees.popitem()
        pending = [start]
        for switch in pending:
            for other in sorted(joined[switch] & trees.keys()):
                part = trees.pop(other)
                tree.ends += part.ends
                tree.trunks += part.trunks
                pending.append(other)
        tree.switches = sorted(pending)
        tree.ends.sort()
        if tree.trunks > 2 * (len(pending) - 1):
            names = ", ".join(graph.switches[switch] for switch in tree.switches[:4])
            where = f"multicast LID 0x{lid:04X}"
            log.add(RouteCode.LOOP, (), where, "a tree of switches", f"a circle among {names}")
        yield tree


def _lost(graph: Graph, lid: int, switch: int, port: int, log: FindingLog) -> None:
    if port == 0:
        return  # the switch's own port: the subnet manager's traffic
    at = port_text(PortId(graph.switches[switch], port), NodeKind.SWITCH)
    log.add(
        RouteCode.MULTICAST, (), f"multicast LID 0x{lid:04X}", "ports that lead to a GPU or switch",
        f"copied to {at}, which leads nowhere",
    )  # fmt: skip


def _one_way(
    graph: Graph,
    lid: int,
    switch: int,
    port: int,
    masks: dict[int, tuple[int, ...]],
    log: FindingLog,
) -> None:
    """The far switch must send the group back over the same cable."""
    far = graph.far_port(switch, port)
    other = graph.neighbour(switch, port)
    if far is None or other is None or far.port in masks.get(other, ()):
        return
    where = f"multicast LID 0x{lid:04X}"
    at = port_text(PortId(graph.switches[switch], port), NodeKind.SWITCH)
    found = f"{at} leads to {far.node}, which does not answer by it"
    log.add(RouteCode.MULTICAST, (), where, "a tree that goes both ways", found)


def _appraise_reach(
    graph: Graph,
    masks: dict[int, tuple[int, ...]],
    tree: _Tree,
    members: Membership,
    log: FindingLog,
) -> None:
    """No receiver of another partition, and no sender from outside whose key is accepted."""
    receivers: dict[str | None, int] = {}
    for end in tree.ends:
        node = graph.ends[end].port.node
        if node not in members.managers:
            receivers.setdefault(members.partition_of.get(node), end)
    if not receivers:
        return
    group = f"multicast LID 0x{tree.lid:04X}"
    own = min((name for name in receivers if name is not None), default=None)
    for name, end in receivers.items():
        if name != own:
            source = receivers[own]
            path = _path(graph, masks, source, end)
            where = f"{group}: {graph.ends[source].port.node} → {graph.ends[end].port.node}"
            found = f"a receiver of {name or 'no partition'}"
            log.add(
                RouteCode.MULTICAST, (own, name), where, f"receivers of {own} alone", found, path
            )
    seen: set[tuple[int, int]] = set()
    for end in tree.ends:
        target = graph.ends[end].port.node
        if target in members.managers or members.partition_of.get(target) != own:
            continue
        for switch in tree.switches:
            if (switch, members.kind(end)) in seen:
                continue
            seen.add((switch, members.kind(end)))
            admission = members.admission(switch, end, None)
            if admission.partitions <= {own}:
                continue
            for node in sorted(admission.accepted - members.managers):
                if members.partition_of.get(node) != own and node != target:
                    source = admission.senders[node]
                    path = _path(graph, masks, source, end)
                    where = f"{group}: {node} → {target}"
                    expected = f"senders of {own or 'no partition'} alone"
                    outside = members.partition_of.get(node)
                    log.add(
                        RouteCode.MULTICAST, (own, outside), where, expected,
                        f"a sender of {outside or 'no partition'} is accepted", path,
                    )  # fmt: skip


def _appraise_split(
    graph: Graph, trees: Sequence[_Tree], members: Membership, log: FindingLog
) -> None:
    """On each rail the members of a group are in one tree."""
    by_rail: dict[tuple[int, str], list[_Tree]] = {}
    for tree in trees:
        names = {members.partition_of.get(graph.ends[end].port.node) for end in tree.ends}
        for name in names - {None}:
            if name is not None:
                by_rail.setdefault((graph.rails[tree.switches[0]], name), []).append(tree)
    for (_, name), parts in sorted(by_rail.items(), key=lambda item: item[0]):
        if len(parts) > 1:
            first, second = (graph.ends[tree.ends[0]].port for tree in parts[:2])
            where = f"multicast LID 0x{parts[0].lid:04X}"
            found = f"no way from {first.node} to {second.node}"
            log.add(RouteCode.MULTICAST, [name], where, "one tree on a rail", found)


def _path(
    graph: Graph, masks: dict[int, tuple[int, ...]], source: int, target: int
) -> tuple[PortId, ...]:
    """How a copy gets from one end port to another, breadth first; empty if it does not."""
    start = graph.ends[source]
    name = graph.switches
    hops: dict[int, tuple[PortId, ...]] = {
        start.switch: (start.port, PortId(name[start.switch], start.switch_port))
    }
    pending = [start.switch]
    for switch in pending:
        for port in masks.get(switch, ()):
            here = PortId(name[switch], port)
            if graph.end_at(switch, port) == target:
                return (*hops[switch], here, graph.ends[target].port)
            other, far = graph.neighbour(switch, port), graph.far_port(switch, port)
            if other is not None and far is not None and other not in hops:
                hops[other] = (*hops[switch], here, far)
                pending.append(other)
    return ()
