"""Which port of a fabric is cabled to which: the map on which routes are followed.

A map is data.  It is either published by the vendor for a baseboard (`ccverify.fabric.linkmap_hgx`)
or read from what a subnet manager discovered (`ccverify.fabric.linkmap_dump`), and it carries how
sure it is.  Ports of GPUs are numbered as NVLinks, from 0; ports of switches as the switch numbers
them.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from ccverify.errors import EvidenceError

__all__ = [
    "MAX_LINKS",
    "MAX_NODES",
    "Link",
    "LinkMap",
    "MapSource",
    "Node",
    "NodeKind",
    "PortId",
    "bind_guids",
    "link_differences",
    "peers",
    "port_text",
]

MAX_NODES = 4096
MAX_LINKS = 1 << 16


class NodeKind(str, Enum):
    """What a node does with traffic: a switch forwards it, everything else ends it."""

    GPU = "gpu"
    SWITCH = "switch"
    OTHER = "other"
    """A management bridge, or an end node that nobody has identified."""


class MapSource(str, Enum):
    """Where a map comes from, so how sure it is."""

    PUBLISHED = "published"
    """Printed by the vendor for this baseboard."""
    DISCOVERED = "discovered"
    """What a subnet manager says it found; as good as the statement that carries it."""
    SYNTHETIC = "synthetic"
    """Made up for a measurement or a test."""


class PortId(NamedTuple):
    """One port of one node."""

    node: str
    port: int


class Link(NamedTuple):
    """Two ports on one cable; the smaller one comes first."""

    a: PortId
    b: PortId


@dataclass(frozen=True, slots=True)
class Node:
    """A GPU, a switch or another device of the fabric.

    Attributes:
        name: ``GPU3`` (by module id), ``NVSwitch1``, or the node GUID in hex.
        kind: what it does.
        guid: node GUID, 64 bits; None in a published map that is not bound to a machine.
        port_guids: port and its GUID, for end nodes whose ports have addresses of their own;
            empty where one GUID, the node's, stands for all ports.
    """

    name: str
    kind: NodeKind
    guid: int | None = None
    port_guids: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LinkMap:
    """Nodes and cables, in a canonical order.

    Attributes:
        name: the baseboard, or what was read.
        source: how sure the map is.
        nodes: by name.
        links: by their first port.

    Raises:
        EvidenceError: a name, GUID or port is used twice, a link leads to no known node, or
            there are more than `MAX_NODES` nodes or `MAX_LINKS` links.
    """

    name: str
    source: MapSource
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        if len(self.nodes) > MAX_NODES or len(self.links) > MAX_LINKS:
            raise _wrong(
                f"at most {MAX_NODES} nodes and {MAX_LINKS} links",
                f"{len(self.nodes)} nodes and {len(self.links)} links",
            )
        _require_distinct((node.name for node in self.nodes), "node name")
        _require_distinct(self._guids(), "GUID")
        _require_distinct((port for link in self.links for port in link), "port")
        known = {node.name for node in self.nodes}
        for link in self.links:
            for port in link:
                if port.node not in known or not 0 <= port.port <= 254:
                    raise _wrong("a link between ports 0 to 254 of known nodes", str(tuple(port)))
        ordered = sorted(Link(*sorted(link)) for link in self.links)
        object.__setattr__(self, "nodes", tuple(sorted(self.nodes, key=lambda node: node.name)))
        object.__setattr__(self, "links", tuple(ordered))

    def _guids(self) -> Iterator[int]:
        for node in self.nodes:
            own = {guid for _, guid in node.port_guids}
            if node.guid is not None:
                own.add(node.guid)  # the first port of an end node may share the node's GUID
            yield from own

    def of_kind(self, kind: NodeKind) -> tuple[Node, ...]:
        """Return the nodes of one kind, by name."""
        return tuple(node for node in self.nodes if node.kind is kind)


def peers(links: LinkMap) -> dict[PortId, PortId]:
    """Return for every cabled port the port at the other end."""
    table: dict[PortId, PortId] = {}
    for a, b in links.links:
        table[a], table[b] = b, a
    return table


def port_text(port: PortId, kind: NodeKind) -> str:
    """Name a port for a person: ``GPU3 link 0``, ``NVSwitch1 port 22``."""
    return f"{port.node} {'link' if kind is NodeKind.GPU else 'port'} {port.port}"


def bind_guids(
    links: LinkMap,
    guids: Mapping[str, int],
    port_guids: Mapping[str, Mapping[int, int]] | None = None,
) -> LinkMap:
    """Give the nodes of a published map the GUIDs of one machine.

    Args:
        links: the map.
        guids: node name → node GUID.
        port_guids: node name → port → GUID, for nodes whose ports have their own.

    Raises:
        EvidenceError: a node has no GUID, or two have the same.
    """
    missing = sorted({node.name for node in links.nodes} - guids.keys())
    if missing:
        raise _wrong("a GUID for every node", f"none for {', '.join(missing[:8])}")
    own = port_guids or {}
    nodes = (
        replace(n, guid=guids[n.name], port_guids=tuple(sorted(own.get(n.name, {}).items())))
        for n in links.nodes
    )
    return replace(links, nodes=tuple(nodes))


def link_differences(found: LinkMap, expected: LinkMap) -> Iterator[tuple[PortId, str, str]]:
    """Say for every port of a switch where it is cabled otherwise than expected.

    Nodes are compared by name, so both maps must use the same names.  Only the node at the far
    end counts: dumps and guides need not number the ports of a GPU alike.

    Yields:
        the port, what it should lead to and what it leads to; ``nothing`` for no cable.
    """
    kinds = {node.name: node.kind for node in (*found.nodes, *expected.nodes)}
    theirs, ours = peers(found), peers(expected)
    for port in sorted(theirs.keys() | ours.keys()):
        if kinds[port.node] is not NodeKind.SWITCH:
            continue
        far, wanted = theirs.get(port), ours.get(port)
        if (wanted and wanted.node) != (far and far.node):
            yield port, wanted.node if wanted else "nothing", far.node if far else "nothing"


def _require_distinct(values: Iterable[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            shown = f"0x{value:016x}" if isinstance(value, int) else str(value)
            raise _wrong(f"every {what} once", f"{shown[:100]} twice")
        seen.add(value)


def _wrong(expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        "the link map contradicts itself",
        expected=expected,
        found=found,
        where="link map",
        hint="read the list of links again from the subnet manager",
    )
