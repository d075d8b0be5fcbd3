"""The forwarding graph: where a packet goes that enters a switch with a LID and a key.

A switch looks its LID up and puts the packet out at one port, so for every LID the switches form
a graph with at most one edge out of each.  All fates of one LID are worked out together, every
switch once: the whole costs as much as there are table entries.

Keys are checked at both ends, and at every switch port that has a key table, in either direction.
What a port without a table does is unknown: a switch port then stops nothing, and an end port may
hold and accept any key.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final, TypeAlias

from ccverify.fabric.linkmap import LinkMap, NodeKind, PortId, peers
from ccverify.fabric.routing import NO_PORT, RoutingState, keys_admitted

__all__ = ["EndPort", "Fate", "Graph", "KeySet", "build_graph", "intersect"]

KeySet: TypeAlias = frozenset[int] | None
"""Keys that pass; None for any key at all."""


class Fate(IntEnum):
    """How a packet ends that reaches no end port."""

    NO_ENTRY = -1
    """A switch has no port for the LID."""
    NO_LINK = -2
    """A switch puts it out at a port that leads nowhere."""
    SWITCH = -3
    """A switch takes it for itself."""
    LOOP = -4
    """It goes round until its time is up."""


_BUSY: Final = -5
_FORWARDED: Final = -10
"""Switch n is coded as -10 - n; every code below is a switch, every one from 0 an end port."""


@dataclass(frozen=True, slots=True)
class EndPort:
    """A port of an end node, cabled to a switch.

    Attributes:
        port: which one.
        switch: index of the switch it is cabled to.
        switch_port: the port there.
        sends: the keys it holds that the switch port lets in.
        guard: the keys that the switch port lets out to it.
        accepts: the keys its own table admits.
        holds: its own table as it is; None where nobody stated it.
    """

    port: PortId
    switch: int
    switch_port: int
    sends: KeySet
    guard: KeySet
    accepts: KeySet
    holds: KeySet


def intersect(first: KeySet, second: KeySet) -> KeySet:
    """Return the keys that pass both."""
    if first is None:
        return second
    return first if second is None else first & second


class Graph:
    """A fabric that packets can be sent through; made by `build_graph`.

    Attributes:
        links: the map it was built on.
        switches: names; a switch's index is its place here.
        ends: every end port cabled to a switch, by node and port.
        owners: LID → the end ports it addresses.
        owner_names: LID → the node it addresses, cabled or not, switches included.
        rails: for each switch a number, equal for switches that are cabled to one another,
            directly or through others.
        unknown_switches: GUIDs that have a table but are no switch of the map.
    """

    __slots__ = (
        "_far", "_guards", "_next", "_tables", "ends", "links", "owner_names", "owners", "rails",
        "switches", "unknown_switches",
    )  # fmt: skip

    def __init__(self, links: LinkMap, state: RoutingState) -> None:
        self.links = links
        nodes = {node.name: node for node in links.nodes}
        self.switches = tuple(node.name for node in links.of_kind(NodeKind.SWITCH))
        index = {name: at for at, name in enumerate(self.switches)}
        by_guid = {node.guid: node.name for node in links.nodes if node.guid is not None}
        self._tables = [b""] * len(index)
        unknown = []
        for table in state.unicast:
            name = by_guid.get(table.switch)
            if name in index:
                self._tables[index[name]] = table.ports
            else:
                unknown.append(table.switch)
        unknown += [t.switch for t in state.multicast if by_guid.get(t.switch) not in index]
        self.unknown_switches = tuple(sorted(set(unknown)))
        held = _held(state, links)
        self._far = far = peers(links)
        admitted = cache(keys_admitted)  # most ports hold the same few keys
        self.ends = tuple(
            _end(here, there, index, held, admitted)
            for here, there in sorted(far.items())
            if nodes[here.node].kind is not NodeKind.SWITCH and there.node in index
        )
        self._next = [[int(Fate.NO_LINK)] * (NO_PORT + 1) for _ in index]
        for steps in self._next:
            steps[0], steps[NO_PORT] = int(Fate.SWITCH), int(Fate.NO_ENTRY)
        for at, end in enumerate(self.ends):
            self._next[end.switch][end.switch_port] = at
        self._guards: dict[tuple[int, int], frozenset[int]] = {}
        for here, there in far.items():
            if here.node in index and there.node in index:
                self._next[index[here.node]][here.port] = _FORWARDED - index[there.node]
                keys = held.get(here)
                if keys is not None:
                    self._guards[index[here.node], here.port] = keys_admitted(keys)
        self.rails = _components(self._next)
        self.owners, self.owner_names = _owners(state, links, self.ends)

    def lids(self) -> list[int]:
        """Return the LIDs that have an owner or that some table has an entry for, in order."""
        found = set(self.owners)
        for table in self._tables:
            found.update(lid for lid, port in enumerate(table) if port != NO_PORT)
        return sorted(found)

    def entry(self, switch: int, lid: int) -> int:
        """Return the port a switch has for a LID; `NO_PORT` for none."""
        table = self._tables[switch]
        return table[lid] if lid < len(table) else NO_PORT

    def neighbour(self, switch: int, port: int) -> int | None:
        """Return the switch that a switch's port is cabled to, if it is one."""
        code = self._next[switch][port]
        return _FORWARDED - code if code <= _FORWARDED else None

    def far_port(self, switch: int, port: int) -> PortId | None:
        """Return the port that a switch's port is cabled to."""
        return self._far.get(PortId(self.switches[switch], port))

    def end_at(self, switch: int, port: int) -> int | None:
        """Return the end port that a switch's port is cabled to, if it is one."""
        code = self._next[switch][port]
        return code if code >= 0 else None

    def outcomes(self, lid: int) -> list[int]:
        """Say for every switch how a packet ends that enters it with this LID.

        Returns:
            by switch: the index of an end port, or a `Fate`.
        """
        found = [
            steps[table[lid]] if lid < len(table) else -1
            for steps, table in zip(self._next, self._tables, strict=True)
        ]
        if min(found, default=0) > _FORWARDED:
            return found  # the common case: one level of switches
        for start, code in enumerate(found):
            if code > _FORWARDED:
                continue
            trail = []
            at = start
            while code <= _FORWARDED:
                trail.append(at)
                found[at] = _BUSY
                at = _FORWARDED - code
                code = found[at]
            if code == _BUSY:
                code = int(Fate.LOOP)
            for at in trail:
                found[at] = code
        return found

    @property
    def guards_between_switches(self) -> bool:
        """Whether a port between two switches has a key table, so that keys depend on paths."""
        return bool(self._guards)

    def transit(self, switch: int, lid: int) -> KeySet:
        """Return the keys that pass all guarded ports between switches on the way of a LID."""
        passing: KeySet = None
        if not self._guards:
            return passing
        seen: set[int] = set()
        while switch not in seen:
            seen.add(switch)
            port = self.entry(switch, lid)
            following = self.neighbour(switch, port)
            if following is None:
                break
            passing = intersect(passing, self._guards.get((switch, port)))
            back = self._far[PortId(self.switches[switch], port)].port
            passing = intersect(passing, self._guards.get((following, back)))
            switch = following
        return passing

    def path(self, source: int, lid: int) -> tuple[PortId, ...]:
        """Follow a packet from an end port, port by port, to where it ends.

        A loop ends with the first port that comes again.
        """
        index = {name: at for at, name in enumerate(self.switches)}
        hops = [self.ends[source].port]
        seen: set[PortId] = set()
        here = self._far.get(hops[0])
        while here is not None:
            hops.append(here)
            if here.node not in index or here in seen:
                break
            seen.add(here)
            out = self.entry(index[here.node], lid)
            if out == NO_PORT:
                break
            hops.append(PortId(here.node, out))
            here = self._far.get(hops[-1])
        return tuple(hops)

    def arriving(self, source: int, target: int, transit: KeySet = None) -> KeySet:
        """Return the keys with which a packet can reach a target's cable, switches willing."""
        return intersect(intersect(self.ends[source].sends, transit), self.ends[target].guard)

    def accepted(self, source: int, target: int, transit: KeySet = None) -> KeySet:
        """Return the keys with which a packet can reach a target that also accepts it."""
        return intersect(self.arriving(source, target, transit), self.ends[target].accepts)


def build_graph(links: LinkMap, state: RoutingState) -> Graph:
    """Put tables, keys and cables together.  Never raises: what does not fit is recorded."""
    return Graph(links, state)


def _held(state: RoutingState, links: LinkMap) -> dict[PortId, frozenset[int]]:
    """Port → the keys of its table, for every port that has one."""
    nodes = {node.guid: node for node in links.nodes if node.guid is not None}
    held: dict[PortId, frozenset[int]] = {}
    everywhere: dict[str, frozenset[int]] = {}
    for table in state.keys or ():
        node = nodes.get(table.guid)
        if node is None:
            continue
        if node.kind is NodeKind.SWITCH:
            held[PortId(node.name, table.port)] = frozenset(table.keys)
        elif table.port:
            held[PortId(node.name, table.port - 1)] = frozenset(table.keys)
        else:
            everywhere[node.name] = frozenset(table.keys)
    if everywhere:
        for link in links.links:
            for port in link:
                if port.node in everywhere:
                    held.setdefault(port, everywhere[port.node])
    return held


def _end(
    here: PortId,
    there: PortId,
    index: dict[str, int],
    held: dict[PortId, frozenset[int]],
    admitted: Callable[[frozenset[int]], frozenset[int]],
) -> EndPort:
    own, guard = held.get(here), held.get(there)
    passing = None if guard is None else admitted(guard)
    return EndPort(
        here,
        index[there.node],
        there.port,
        intersect(own, passing),
        passing,
        None if own is None else admitted(own),
        own,
    )


def _components(steps: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Number the switches by which are cabled to one another."""
    numbers = [-1] * len(steps)
    for start in range(len(steps)):
        if numbers[start] >= 0:
            continue
        pending, numbers[start] = [start], start
        while pending:
            for code in steps[pending.pop()]:
                other = _FORWARDED - code
                if code <= _FORWARDED and numbers[other] < 0:
                    numbers[other] = start
                    pending.append(other)
    return tuple(numbers)


def _owners(
    state: RoutingState, links: LinkMap, ends: Sequence[EndPort]
) -> tuple[dict[int, tuple[int, ...]], dict[int, str]]:
    """LID → the end ports it addresses, and LID → the node."""
    ports_of: dict[str, dict[int, int]] = {}
    for at, end in enumerate(ends):
        ports_of.setdefault(end.port.node, {})[end.port.port] = at
    by_guid: dict[int, tuple[str, tuple[int, ...]]] = {}
    for node in links.nodes:
        own = ports_of.get(node.name, {})
        if node.guid is not None:
            by_guid[node.guid] = node.name, tuple(own.values())
        for port, guid in node.port_guids:
            by_guid[guid] = node.name, (own[port],) if port in own else ()
    owners: dict[int, tuple[int, ...]] = {}
    names: dict[int, str] = {}
    for address in state.addresses:
        known = by_guid.get(address.guid)
        if known is None:
            continue
        for lid in range(address.first, address.last + 1):
            names[lid], owners[lid] = known
    return owners, names
