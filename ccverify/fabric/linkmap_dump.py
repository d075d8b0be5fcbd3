"""Read the link map from what a subnet manager discovered (``opensm-subnet.lst``).

Every line is one side of one link: ``{ CA Ports:12 SystemGUID:… NodeGUID:… PortGUID:… VenID:…
DevID:… Rev:… {description} LID:0001 PN:01 } { SW … } PHY=4x LOG=ACT SPD=25``.

Confirmed: the format, from OpenSM's ``dump_topology_node`` (osm_dump.c), and that NVLSM writes a
file ``nvlsm-subnet.lst`` (Fabric Manager User Guide 2.3).  **Not confirmed**: that NVLSM keeps
OpenSM's format, that GPUs appear there as channel adapters, and that NVLink n is port n + 1,
because InfiniBand numbers ports from 1.  A file in another format is refused, never guessed at.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Final

from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap import Link, LinkMap, MapSource, Node, NodeKind, PortId, peers
from ccverify.fabric.routing_text import Reader

__all__ = ["SubnetList", "identify_nodes", "parse_subnet_list", "rename_nodes"]

# A NodeDescription has 64 bytes, so the lazy match is bounded.
_SIDE = re.compile(
    r"\{ (SW|CA|Rt|\*\*)(?:-SM)? Ports:[0-9A-F]{2} SystemGUID:[0-9a-f]{16} NodeGUID:([0-9a-f]{16})"
    r" PortGUID:([0-9a-f]{16}) VenID:[0-9A-F]{6,8} DevID:[0-9A-F]{4,8} Rev:[0-9A-F]{8}"
    r" \{[^\n]{0,64}?\} LID:([0-9A-F]{4}) PN:([0-9A-F]{2}) \} "
)
_STATE = re.compile(r"PHY=\S{1,8} LOG=(ACT|ARM|INI|DWN) SPD=\S{1,8}")
_WORKING: Final = ("ACT", "ARM")
_MAX_PERMUTED: Final = 4


@dataclass(frozen=True, slots=True)
class SubnetList:
    """What the subnet manager discovered.

    Attributes:
        links: nodes named by their GUID in hex, ``0x`` and 16 digits; end nodes are `OTHER`
            until `rename_nodes` says which are GPUs.
        lids: port GUID (for a switch its node GUID) and base LID, by GUID.
    """

    links: LinkMap
    lids: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Side:
    is_switch: bool
    node: int
    guid: int
    lid: int
    port: PortId


def parse_subnet_list(data: bytes) -> SubnetList:
    """Read the discovered links.  Links that are down or not yet armed do not count.

    Raises:
        EvidenceError: a line is not of this format, the two sides of a link disagree, a port is
            on two links, or a node changes its kind or addresses between lines.
    """
    reader = Reader(data, "list of discovered links")
    kinds: dict[int, bool] = {}
    guids: dict[PortId, int] = {}
    lids: dict[int, int] = {}
    links: dict[PortId, PortId] = {}
    for line in reader:
        near, far, working = _line(line, reader)
        for side in (near, far):
            if kinds.setdefault(side.node, side.is_switch) != side.is_switch:
                raise reader.wrong("a node of one kind", f"0x{side.node:016x} of two")
            key = PortId(side.port.node, 0) if side.is_switch else side.port
            if guids.setdefault(key, side.guid) != side.guid:
                raise reader.wrong("one GUID for a port", f"two for {key.node} port {key.port}")
            if side.lid and lids.setdefault(side.guid, side.lid) != side.lid:
                raise reader.wrong("one LID for a port", f"two for 0x{side.guid:016x}")
        if not working:
            continue
        for here, there in ((near.port, far.port), (far.port, near.port)):
            if links.setdefault(here, there) != there:
                raise reader.wrong("one link for a port", f"two for {here.node} port {here.port}")
    pairs = {Link(*sorted(pair)) for pair in links.items()}
    found = LinkMap("discovered", MapSource.DISCOVERED, _nodes(kinds, guids), tuple(pairs))
    return SubnetList(found, tuple(sorted(lids.items())))


def _nodes(kinds: Mapping[int, bool], guids: Mapping[PortId, int]) -> tuple[Node, ...]:
    ports: dict[str, list[tuple[int, int]]] = {}
    for port, guid in guids.items():
        ports.setdefault(port.node, []).append((port.port, guid))
    nodes = []
    for guid, is_switch in kinds.items():
        own = tuple(sorted(ports[_name(guid)]))
        if is_switch:
            nodes.append(Node(_name(guid), NodeKind.SWITCH, guid))
        elif {port_guid for _, port_guid in own} == {guid}:
            nodes.append(Node(_name(guid), NodeKind.OTHER, guid))
        else:
            nodes.append(Node(_name(guid), NodeKind.OTHER, guid, own))
    return tuple(nodes)


def _line(line: str, reader: Reader) -> tuple[_Side, _Side, bool]:
    near = _SIDE.match(line)
    far = _SIDE.match(line, near.end()) if near else None
    state = _STATE.fullmatch(line, far.end()) if far else None
    if near is None or far is None or state is None:
        raise reader.wrong("{ node } { node } PHY=… LOG=… SPD=…", line)
    sides = _side(near, reader), _side(far, reader)
    if sides[0].port == sides[1].port:
        raise reader.wrong("a link between two ports", line)
    return *sides, state[1] in _WORKING


def _side(match: re.Match[str], reader: Reader) -> _Side:
    is_switch = match[1] == "SW"
    node, guid, lid, port = (int(match[group], 16) for group in (2, 3, 4, 5))
    # Port 0 of an InfiniBand switch has no cable; NVIDIA counts ports of Hopper's from 0.
    if not (0 if is_switch else 1) <= port <= 254:
        raise reader.wrong("a port from 1 to 254", match[5])
    number = port if is_switch else port - 1
    return _Side(is_switch, node, guid, lid, PortId(_name(node), number))


def _name(guid: int) -> str:
    return f"0x{guid:016x}"


def identify_nodes(found: LinkMap, published: LinkMap) -> dict[str, str]:
    """Say which discovered node is which of the published map, by the switch ports it is on.

    The assignment with the most cables as published is taken, so a few swapped cables do not
    hide what the rest says; `ccverify.fabric.linkmap.link_differences` then names them.

    Args:
        found: from `parse_subnet_list`.
        published: a map of at most four switches.

    Returns:
        name in `found` → name in `published`; nodes without any matching cable are left out.

    Raises:
        EvidenceError: the numbers of switches differ.
    """
    switches = [node.name for node in found.of_kind(NodeKind.SWITCH)]
    wanted = [node.name for node in published.of_kind(NodeKind.SWITCH)]
    if len(switches) != len(wanted) or len(wanted) > _MAX_PERMUTED:
        raise EvidenceError(
            f"the fabric is not an {published.name}",
            expected=f"{len(wanted)} switches",
            found=f"{len(switches)} switches",
            where="list of discovered links",
            hint="name the baseboard that was dumped",
        )
    theirs, ours = _far_ends(found, switches), _far_ends(published, wanted)
    best: tuple[int, dict[str, str]] = (-1, {})
    for order in permutations(wanted):
        assignment = dict(zip(switches, order, strict=True))
        score = 0
        for count, node, name in _votes(theirs, ours, assignment):
            if node not in assignment and name not in assignment.values():
                assignment[node] = name
                score += count
        if score > best[0]:
            best = score, assignment
    return best[1]


def _far_ends(links: LinkMap, switches: list[str]) -> dict[PortId, str]:
    known = set(switches)
    return {port: far.node for port, far in peers(links).items() if port.node in known}


def _votes(
    theirs: Mapping[PortId, str], ours: Mapping[PortId, str], assignment: Mapping[str, str]
) -> list[tuple[int, str, str]]:
    """How many switch ports say that a node is a certain published one; the most first."""
    votes: dict[tuple[str, str], int] = {}
    for (switch, port), node in theirs.items():
        name = ours.get(PortId(assignment[switch], port))
        if name is not None and node not in assignment:
            votes[node, name] = votes.get((node, name), 0) + 1
    return sorted(
        ((count, *pair) for pair, count in votes.items()), key=lambda v: (-v[0], v[1], v[2])
    )


def rename_nodes(links: LinkMap, names: Mapping[str, str]) -> LinkMap:
    """Give nodes other names; an end node that gets one is a GPU from then on.

    Raises:
        EvidenceError: two nodes would have the same name.
    """

    def renamed(node: Node) -> Node:
        if node.name not in names:
            return node
        kind = NodeKind.GPU if node.kind is NodeKind.OTHER else node.kind
        return replace(node, name=names[node.name], kind=kind)

    def moved(port: PortId) -> PortId:
        return PortId(names.get(port.node, port.node), port.port)

    return replace(
        links,
        nodes=tuple(map(renamed, links.nodes)),
        links=tuple(Link(moved(a), moved(b)) for a, b in links.links),
    )
