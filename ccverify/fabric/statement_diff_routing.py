"""What changed of links, tables, addresses and keys between two statements.

Devices are called by name where a statement's links name them, by GUID otherwise.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ccverify.fabric.linkmap import LinkMap, NodeKind, PortId, link_differences, peers, port_text
from ccverify.fabric.routing import NO_PORT, KeyTable, MulticastTable, RoutingState
from ccverify.fabric.statement_diff_model import Change, ChangeKind
from ccverify.fabric.statement_model import FabricStatement

__all__ = ["link_changes", "routing_changes"]

_SHOWN_LIDS: Final = 8
_SHOWN_PORTS: Final = 16


def link_changes(before: FabricStatement, after: FabricStatement) -> Iterator[Change]:
    """Say which cables and devices are others."""
    old, new = before.links, after.links
    if old is None or new is None:
        return
    if before.board != after.board:
        names = before.board or "an unknown board", after.board or "an unknown board"
        yield Change(ChangeKind.CABLE, "board", *names)
        return
    for port, was, now in link_differences(new, old):
        yield Change(
            ChangeKind.CABLE,
            port_text(port, NodeKind.SWITCH),
            was,
            now,
            frozenset({was, now}) - {"nothing"},
        )
    guids = {node.name: node.guid for node in old.nodes}
    for node in new.nodes:
        was_guid = guids.get(node.name)
        if was_guid is not None and node.guid is not None and was_guid != node.guid:
            nodes = frozenset({node.name}) if node.kind is not NodeKind.SWITCH else frozenset()
            yield Change(
                ChangeKind.CABLE, node.name, _guid_text(was_guid), _guid_text(node.guid), nodes
            )


def routing_changes(before: FabricStatement, after: FabricStatement) -> Iterator[Change]:
    """Say which tables, addresses and keys are others."""
    old, new = before.routing, after.routing
    if old is None or new is None or before.routing_digest == after.routing_digest:
        return
    names = _Names([links for links in (before.links, after.links) if links is not None])
    yield from _routes(old, new, names)
    yield from _addresses(old, new, names)
    yield from _keys(old.keys, new.keys, names)
    yield from _groups(old.multicast, new.multicast, names)


class _Names:
    """Names of devices by GUID, and what is at the ports of switches, in either statement."""

    __slots__ = ("_behind", "_names", "_switches")

    def __init__(self, maps: Iterable[LinkMap]) -> None:
        self._names: dict[int, str] = {}
        self._switches: set[str] = set()
        self._behind: dict[PortId, set[str]] = {}
        for links in maps:
            for node in links.nodes:
                for guid in (node.guid, *(own for _, own in node.port_guids)):
                    if guid is not None:
                        self._names[guid] = node.name
                if node.kind is NodeKind.SWITCH:
                    self._switches.add(node.name)
            for near, far in peers(links).items():
                self._behind.setdefault(near, set()).add(far.node)

    def of(self, guid: int) -> str:
        return self._names.get(guid, _guid_text(guid))

    def is_switch(self, name: str) -> bool:
        return name in self._switches

    def ends(self, name: str, ports: Iterable[int]) -> frozenset[str]:
        """End nodes that ports of a switch are cabled to; the node itself if it is an end."""
        if name not in self._switches:
            return frozenset({name})
        found = {node for port in ports for node in self._behind.get(PortId(name, port), ())}
        return frozenset(found - self._switches)


def _routes(old: RoutingState, new: RoutingState, names: _Names) -> Iterator[Change]:
    """One change for each switch: the first LIDs, and how many there are."""
    owners = _owners(old, names)
    for lid, name in _owners(new, names).items():
        owners[lid] = owners.get(lid, frozenset()) | name
    was = {table.switch: table.ports for table in old.unicast}
    now = {table.switch: table.ports for table in new.unicast}
    for switch in sorted(was.keys() | now.keys()):
        one, other = was.get(switch, b""), now.get(switch, b"")
        if one == other:
            continue
        size = max(len(one), len(other))
        one, other = one.ljust(size, bytes([NO_PORT])), other.ljust(size, bytes([NO_PORT]))
        lids = [lid for lid in range(size) if one[lid] != other[lid]]
        nodes: frozenset[str] = frozenset()
        nodes = nodes.union(*(owners.get(lid, frozenset()) for lid in lids))
        yield Change(
            ChangeKind.ROUTE, names.of(switch), _lids(lids, one), _lids(lids, other), nodes
        )


def _lids(lids: list[int], ports: bytes) -> str:
    shown = ", ".join(
        f"0x{lid:04X} {'none' if ports[lid] == NO_PORT else f'port {ports[lid]}'}"
        for lid in lids[:_SHOWN_LIDS]
    )
    more = len(lids) - _SHOWN_LIDS
    return f"{shown}; {more} more LIDs" if more > 0 else shown


def _owners(state: RoutingState, names: _Names) -> dict[int, frozenset[str]]:
    return {
        lid: frozenset({names.of(address.guid)})
        for address in state.addresses
        for lid in range(address.first, address.last + 1)
    }


def _addresses(old: RoutingState, new: RoutingState, names: _Names) -> Iterator[Change]:
    was = {address.guid: (address.first, address.last) for address in old.addresses}
    now = {address.guid: (address.first, address.last) for address in new.addresses}
    for guid in sorted(was.keys() | now.keys()):
        if was.get(guid) != now.get(guid):
            name = names.of(guid)
            nodes = frozenset[str]() if names.is_switch(name) else frozenset({name})
            where = f"{name} ({_guid_text(guid)})"
            yield Change(
                ChangeKind.ADDRESS, where, _span(was.get(guid)), _span(now.get(guid)), nodes
            )


def _span(lids: tuple[int, int] | None) -> str:
    if lids is None:
        return "none"
    first, last = lids
    return f"LID 0x{first:04X}" if first == last else f"LIDs 0x{first:04X} to 0x{last:04X}"


def _keys(
    old: tuple[KeyTable, ...] | None, new: tuple[KeyTable, ...] | None, names: _Names
) -> Iterator[Change]:
    """One change for each node: the keys of the first port, and how many ports there are."""
    if old is None or new is None:
        if (old is None) != (new is None):
            stated = {True: "none stated", False: "stated"}
            yield Change(ChangeKind.KEY, "keys", stated[old is None], stated[new is None])
        return
    was = {(table.guid, table.port): table.keys for table in old}
    now = {(table.guid, table.port): table.keys for table in new}
    differ: dict[int, list[int]] = {}
    for guid, port in sorted(was.keys() | now.keys()):
        if was.get((guid, port)) != now.get((guid, port)):
            differ.setdefault(guid, []).append(port)
    for guid, ports in differ.items():
        name = names.of(guid)
        first = guid, ports[0]
        more = f"; {len(ports)} ports in all" if len(ports) > 1 else ""
        yield Change(
            ChangeKind.KEY,
            f"{name} port {ports[0]}{more}",
            _key_text(was.get(first)),
            _key_text(now.get(first)),
            names.ends(name, ports),
        )


def _key_text(keys: tuple[int, ...] | None) -> str:
    if keys is None:
        return "no table"
    shown = ", ".join(f"0x{key:04x}" for key in keys[:_SHOWN_PORTS])
    return (shown or "no key") + (", …" if len(keys) > _SHOWN_PORTS else "")


def _groups(
    old: tuple[MulticastTable, ...], new: tuple[MulticastTable, ...], names: _Names
) -> Iterator[Change]:
    was, now = _by_group(old), _by_group(new)
    for switch, lid in sorted(was.keys() | now.keys()):
        one, other = was.get((switch, lid), ()), now.get((switch, lid), ())
        if one != other:
            name = names.of(switch)
            nodes = names.ends(name, {*one, *other})
            where = f"multicast LID 0x{lid:04X} on {name}"
            yield Change(ChangeKind.GROUP, where, _ports(one), _ports(other), nodes)


def _by_group(tables: tuple[MulticastTable, ...]) -> Mapping[tuple[int, int], tuple[int, ...]]:
    return {(t.switch, group.lid): group.ports for t in tables for group in t.groups}


def _ports(ports: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, ports[:_SHOWN_PORTS]))
    more = f", and {len(ports) - _SHOWN_PORTS} more" if len(ports) > _SHOWN_PORTS else ""
    return f"ports {shown}{more}" if ports else "no port"


def _guid_text(guid: int) -> str:
    return f"0x{guid:016x}"
