"""Prove that the routing of a fabric keeps its partitions together and apart, or refute it.

For every LID it is worked out where a packet ends from each switch (`routing_graph`).  Then, for
every partition: each of its links gets to each of its other links' LIDs that can be reached on the
same rail, at that very link; nothing that a port outside can send arrives inside, with any LID and
any key it holds, nor the other way round; no LID goes round in circles; multicast stays inside.  A
*rail* is a set of switches that are cabled together: on HGX, each switch by itself.

What is proven is proven of the tables that were handed in, for as long as they are in force.  Who
says that they are is not judged here.  The switches' own traffic is not looked at, and end nodes
are taken to send only with keys they hold, unless a switch port checks it.

The cost is linear in table entries; the answer is the same for any order of anything.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ccverify.fabric.linkmap import LinkMap, NodeKind, link_differences, port_text
from ccverify.fabric.routing import FULL_MEMBER, NO_PORT, RoutingState
from ccverify.fabric.routing_findings import (
    FabricPartition,
    FindingLog,
    RouteCode,
    RouteFinding,
)
from ccverify.fabric.routing_graph import Fate, Graph, KeySet, build_graph
from ccverify.fabric.routing_membership import Membership
from ccverify.fabric.routing_multicast import appraise_multicast

__all__ = ["Evaluation", "appraise_routing"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the tables of a fabric mean.

    Attributes:
        findings: what is wrong, by code and place; empty if everything is proven.
        omitted: code → further cases that are not listed.
        reachable: pairs of end nodes of which the first can get a packet accepted by the second.
    """

    findings: tuple[RouteFinding, ...]
    omitted: tuple[tuple[RouteCode, int], ...]
    reachable: frozenset[tuple[str, str]]

    def of(self, partition: str) -> tuple[RouteFinding, ...]:
        """Return what is wrong with one partition, or with the whole fabric."""
        return tuple(f for f in self.findings if not f.partitions or partition in f.partitions)

    def is_closed(self, partition: str) -> bool:
        """Whether the partition is proven complete inside and closed to the outside."""
        if self.of(partition):
            return False
        return not self.omitted  # what was left out may be about this one


def appraise_routing(
    links: LinkMap,
    state: RoutingState,
    partitions: Sequence[FabricPartition],
    *,
    expected: LinkMap | None = None,
    managers: Collection[str] = (),
) -> Evaluation:
    """Evaluate the routing of a fabric for its partitions.

    Args:
        links: the map to follow packets on, with GUIDs.
        state: tables, addresses and keys.
        partitions: all that are known; every other end node is outside.
        expected: a published map with the same node names, to compare cables with.
        managers: end nodes that may reach everybody, such as the subnet manager's port.

    Never raises on bad evidence.
    """
    log = FindingLog()
    graph = build_graph(links, state)
    members = Membership(graph, partitions, managers)
    _appraise_names(graph, state, partitions, log)
    _appraise_links(links, expected, members, log)
    _appraise_keys(graph, state, members, log)
    walk = _Walk(graph, members, log)
    walk.lids()
    walk.rails()
    appraise_multicast(graph, state, members, log)
    return Evaluation(log.findings(), log.omitted(), frozenset(walk.reachable))


def _appraise_names(
    graph: Graph, state: RoutingState, partitions: Sequence[FabricPartition], log: FindingLog
) -> None:
    code, expected = RouteCode.UNKNOWN_PORT, "a device of the map"
    for guid in graph.unknown_switches:
        log.add(code, (), f"switch 0x{guid:016x}", expected, "tables of no switch on the map")
    guids = {node.guid for node in graph.links.nodes}
    port_guids = {guid for node in graph.links.nodes for _, guid in node.port_guids}
    for address in state.addresses:
        if address.guid not in guids and address.guid not in port_guids:
            where = f"GUID 0x{address.guid:016x}"
            log.add(code, (), where, expected, f"LID 0x{address.first:04X} of no known port")
    for keys in state.keys or ():
        if keys.guid not in guids:
            log.add(code, (), f"GUID 0x{keys.guid:016x}", expected, "keys of no known node")
    nodes = {node.name for node in graph.links.nodes if node.kind is not NodeKind.SWITCH}
    seen: dict[str, str] = {}
    for partition in partitions:
        for gpu in sorted(partition.gpus):
            if gpu not in nodes:
                log.add(code, [partition.name], gpu, expected, "a member that is not on the map")
            first = seen.setdefault(gpu, partition.name)
            if first != partition.name:
                names = [first, partition.name]
                log.add(RouteCode.OVERLAP, names, gpu, "one partition", " and ".join(names))


def _appraise_links(
    links: LinkMap, expected: LinkMap | None, members: Membership, log: FindingLog
) -> None:
    if expected is None:
        return
    for port, wanted, found in link_differences(links, expected):
        where = port_text(port, NodeKind.SWITCH)
        affected = [members.partition_of.get(name) for name in (wanted, found)]
        log.add(RouteCode.LINK, affected, where, f"cabled to {wanted}", f"cabled to {found}")


def _appraise_keys(graph: Graph, state: RoutingState, members: Membership, log: FindingLog) -> None:
    """Compare what every end port holds with what its partition needs."""
    for end in graph.ends:
        name = members.partition_of.get(end.port.node)
        where = end.port.node
        if end.holds is None:
            if name is not None and state.keys is not None and members.needs_links(name):
                log.add(RouteCode.PKEY, [name], where, "a key table", "none stated")
            continue
        identities = {key & ~FULL_MEMBER for key in end.holds}
        for other, key in members.keys.items():
            if other == name and members.needs_links(other) and key not in identities:
                found = ", ".join(f"0x{one:04x}" for one in sorted(end.holds)) or "no key"
                log.add(RouteCode.PKEY, [other], where, f"key 0x{key:04x}", found)
            elif other != name and key in identities and where not in members.managers:
                expected = f"key 0x{key:04x} with the members of {other} alone"
                log.add(RouteCode.PKEY, [other, name], where, expected, f"{where} holds it too")


class _Walk:
    """The unicast part: every LID, from every switch with end ports."""

    __slots__ = ("_blocked", "_graph", "_log", "_members", "_reached", "_seen", "reachable")

    def __init__(self, graph: Graph, members: Membership, log: FindingLog) -> None:
        self._graph = graph
        self._members = members
        self._log = log
        self._seen: set[tuple[int, int, KeySet]] = set()
        self._reached: set[tuple[frozenset[str], str]] = set()
        self._blocked: dict[tuple[int, int, str, KeySet], tuple[int, ...]] = {}
        self.reachable: set[tuple[str, str]] = set()

    def lids(self) -> None:
        """Follow every LID from every switch that end ports are cabled to."""
        graph, members = self._graph, self._members
        edges = sorted(members.senders)
        seen, guarded = self._seen, graph.guards_between_switches
        loop = int(Fate.LOOP)
        for lid in graph.lids():
            outcomes = graph.outcomes(lid)
            if loop in outcomes:
                self._loop(lid, outcomes)
            transit: KeySet = None
            for switch in edges:
                end = outcomes[switch]
                if end < 0:
                    continue
                if guarded:
                    transit = graph.transit(switch, lid)
                if (switch, end, transit) not in seen:
                    seen.add((switch, end, transit))
                    self._arrival(switch, end, lid, transit)
            owner = graph.owner_names.get(lid)
            name = members.partition_of.get(owner) if owner is not None else None
            if owner is not None and name is not None and members.needs_links(name):
                self._connected(lid, owner, name, outcomes)

    def _loop(self, lid: int, outcomes: Sequence[int]) -> None:
        where = f"LID 0x{lid:04X}"
        if self._log.again(RouteCode.LOOP, where):
            return
        graph = self._graph
        name = self._members.partition_of.get(graph.owner_names.get(lid, ""))
        at = next(s for s, code in enumerate(outcomes) if code == Fate.LOOP)
        sources = [e for e, end in enumerate(graph.ends) if outcomes[end.switch] == Fate.LOOP]
        path = graph.path(sources[0], lid) if sources else ()
        found = f"goes round from {graph.switches[at]}"
        # Whoever is cabled to a switch in the loop suffers from it, so it concerns everybody.
        owner = f" (of {graph.owner_names[lid]}, {name})" if name else ""
        self._log.add(RouteCode.LOOP, (), where, "an end", found + owner, path)

    def _arrival(self, switch: int, end: int, lid: int, transit: KeySet) -> None:
        """A packet arrives at an end port from a switch: who there can have sent it?"""
        graph, members = self._graph, self._members
        target = graph.ends[end].port.node
        inside = members.partition_of.get(target)
        admission = members.admission(switch, end, transit)
        if (admission.accepted, target) not in self._reached:
            self._reached.add((admission.accepted, target))
            self.reachable.update((node, target) for node in admission.accepted - {target})
        if target in members.managers:
            return
        if not admission.exposed and admission.partitions <= {inside}:
            return
        suspects = [(RouteCode.EXPOSED, node) for node in sorted(admission.exposed)]
        if not admission.partitions <= {inside}:
            suspects += [(RouteCode.LEAK, node) for node in sorted(admission.accepted)]
        for code, sender in suspects:
            outside = members.partition_of.get(sender)
            where = f"{sender} → {target}"
            if (
                outside == inside
                or sender == target
                or sender in members.managers
                or self._log.again(code, where)
            ):
                continue
            source = admission.senders[sender]
            into = f"no way from {_place(outside)} into {_place(inside)}"
            keys = graph.accepted(source, end, transit)
            found = f"LID 0x{lid:04X} is delivered, {_keys_text(keys)}"
            self._log.add(code, (inside, outside), where, into, found, graph.path(source, lid))

    def _connected(self, lid: int, owner: str, name: str, outcomes: Sequence[int]) -> None:
        """Every other member on the rails of a member's LID must get there, on its link."""
        graph, members = self._graph, self._members
        wanted = graph.owners[lid]
        rails = {graph.rails[graph.ends[end].switch] for end in wanted}
        for switch, sources in members.switches_of(name):
            if graph.rails[switch] not in rails:
                continue
            code = outcomes[switch]
            if code in wanted:
                for source in self._keyless(switch, sources, code, name, lid):
                    self._missed(RouteCode.PKEY, source, owner, name, lid, "their keys differ")
                continue
            reason = self._reason(switch, lid, code, owner)
            if reason is None:
                continue
            for source in sources:
                if graph.ends[source].port.node != owner:
                    self._missed(reason[0], source, owner, name, lid, reason[1])
                    break

    def _keyless(
        self, switch: int, sources: Sequence[int], end: int, name: str, lid: int
    ) -> tuple[int, ...]:
        """Members at a switch whose packets to an end port do not match its keys."""
        graph = self._graph
        transit = graph.transit(switch, lid) if graph.guards_between_switches else None
        key = switch, self._members.kind(end), name, transit
        blocked = self._blocked.get(key)
        if blocked is None:
            blocked = self._blocked[key] = tuple(
                one for one in sources if graph.accepted(one, end, transit) == frozenset()
            )
        if not blocked:
            return blocked
        owner = graph.ends[end].port.node
        return tuple(one for one in blocked if graph.ends[one].port.node != owner)

    def _reason(self, switch: int, lid: int, code: int, owner: str) -> tuple[RouteCode, str] | None:
        """Why a LID is not delivered where it should be; None if it is reported already."""
        graph = self._graph
        if code >= 0:
            target = graph.ends[code].port
            text = port_text(target, NodeKind.GPU)
            if target.node == owner:
                return RouteCode.RAIL, f"delivered at {text}"
            return RouteCode.MISDELIVERED, f"delivered to {text}"
        if code == Fate.LOOP:
            return None
        if graph.entry(switch, lid) == NO_PORT:
            return RouteCode.UNREACHABLE, f"{graph.switches[switch]} has no entry"
        lost = {
            Fate.NO_ENTRY: "forwarded to a switch without an entry",
            Fate.NO_LINK: "put out at a port that leads nowhere",
            Fate.SWITCH: "kept by a switch",
        }
        return RouteCode.BLACKHOLE, lost[Fate(code)]

    def _missed(
        self, code: RouteCode, source: int, owner: str, name: str, lid: int, found: str
    ) -> None:
        where = f"{self._graph.ends[source].port.node} → {owner}"
        if not self._log.again(code, where):
            expected = f"LID 0x{lid:04X} delivered at {self._links_text(lid)}"
            path = self._graph.path(source, lid)
            self._log.add(code, [name], where, expected, found, path)

    def _links_text(self, lid: int) -> str:
        ends = self._graph.owners[lid]
        ports = [port_text(self._graph.ends[end].port, NodeKind.GPU) for end in ends]
        return ports[0] if len(ports) == 1 else "its rail's links"

    def rails(self) -> None:
        """Every member has links on the same rails as the others, and a LID for every link."""
        graph, members = self._graph, self._members
        addressed = {end for ends in graph.owners.values() for end in ends}
        for name, gpus in members.linked():
            rails: dict[str, set[int]] = {gpu: set() for gpu in gpus}
            for at, end in members.ends_of(name):
                rails[end.port.node].add(graph.rails[end.switch])
                if at not in addressed:
                    where = port_text(end.port, NodeKind.GPU)
                    self._log.add(RouteCode.UNREACHABLE, [name], where, "a LID", "none")
            every = set().union(*rails.values())
            for gpu, own in sorted(rails.items()):
                for rail in sorted(every - own) if own else [-1]:
                    switch = f"the rail of {graph.switches[rail]}" if rail >= 0 else "any rail"
                    self._log.add(RouteCode.RAIL, [name], gpu, f"links on {switch}", "none")


def _place(partition: str | None) -> str:
    return "outside" if partition is None else partition


def _keys_text(keys: KeySet) -> str:
    if keys is None:
        return "whatever its key"
    if not keys:
        return "and only the keys of the receiving port turn it away"
    return f"with key {', '.join(f'0x{key:04x}' for key in sorted(keys))}"
