"""Read OpenSM's partition configuration, and work out the key tables it leads to.

Confirmed: the language, from OpenSM's ``doc/partition-config.txt``, and that OpenSM gives a switch
port the keys of the end port it is cabled to, to enforce them.  **Not confirmed** for NVLSM, where
the Fabric Manager sets partitions over its own interface and a file need not exist: a configuration
says what was wanted, a key table what is in force.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap import LinkMap, NodeKind, peers
from ccverify.fabric.routing import FULL_MEMBER, MAX_KEYS, KeyTable
from ccverify.fabric.routing_text import Reader

__all__ = ["PartitionMembers", "expand_partitions", "parse_partitions"]

DEFAULT_KEY = 0x7FFF
_MAX_BYTES = 1 << 22
_MAX_MEMBERS = 1 << 17

_KEYWORDS = ("ALL", "ALL_CAS", "ALL_SWITCHES", "ALL_ROUTERS", "SELF")
_FLAGS = re.compile(r"(?:ipoib(?:_bc_flags)?|rate|mtu|sl|scope|indx0)(?:=\w{1,16})?", re.ASCII)
_DEFMEMBER = re.compile(r"defmember ?= ?(full|limited|both)")
_NAME = re.compile(r"([\w .-]{0,64}?) ?(?:= ?(0x[0-9a-fA-F]{1,16}|[0-9]{1,20}))?", re.ASCII)
_MEMBER = re.compile(
    r"(0x[0-9a-fA-F]{1,16}|[0-9]{1,20}|[A-Z_]{3,12}) ?(?:= ?(\w{1,16}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class PartitionMembers:
    """Who is in a partition, as configured.

    Attributes:
        name: for people.
        key: 15 bits.
        members: port GUID or keyword (``ALL``, ``SELF``, …), and whether it is a full member; in
            the order of the file, repetitions included.
    """

    name: str
    key: int
    members: tuple[tuple[int | str, bool], ...]


def parse_partitions(data: bytes) -> tuple[PartitionMembers, ...]:
    """Read ``partitions.conf``: statements ``Name=0x8001, flag : 0x<GUID>=full, … ;``.

    Statements with one key are one partition, under the first name; only 15 bits of a key count.
    A partition without a key is refused: which one it gets depends on the subnet manager.

    Raises:
        EvidenceError: another format, a value out of range, or more than 131072 members.
    """
    reader = Reader(data, "partition configuration")
    if len(data) > _MAX_BYTES:
        raise reader.wrong(f"at most {_MAX_BYTES} bytes", f"{len(data)} bytes")
    names: dict[int, str] = {}
    members: dict[int, list[tuple[int | str, bool]]] = {}
    count = 0
    text = " ".join(line.partition("#")[0] for line in reader)
    *statements, rest = text.split(";")
    if rest.strip():
        raise reader.wrong("a ; at the end", rest.strip())
    for statement in statements:
        head, colon, body = statement.partition(":")
        if not colon:
            raise reader.wrong("<partition> : <members> ;", statement.strip())
        name, key, full = _definition(head, reader)
        inner, colon, rest = body.partition(":")
        if colon:  # `Name=0x80 : defmember=limited : 0x…`, as OpenSM's examples have it
            _, _, full = _definition(f"={key},{inner}", reader)
            body = rest
        names.setdefault(key, name)
        found = list(_members(body, full, reader))
        count += len(found)
        if count > _MAX_MEMBERS:
            raise reader.wrong(f"at most {_MAX_MEMBERS} members", "more")
        members.setdefault(key, []).extend(found)
    return tuple(PartitionMembers(names[k], k, tuple(members[k])) for k in sorted(members))


def _definition(text: str, reader: Reader) -> tuple[str, int, bool]:
    first, *flags = (_squeeze(part) for part in text.split(","))
    match = _NAME.fullmatch(first)
    if not match or match[2] is None:
        raise reader.wrong("<name>=<key>", first)
    full = False
    for flag in flags:
        member = _DEFMEMBER.fullmatch(flag)
        if member:
            full = member[1] != "limited"
        elif not _FLAGS.fullmatch(flag.replace(" ", "")):
            raise reader.wrong("a known flag, or defmember=full or limited", flag)
    key = _integer(match[2]) & 0x7FFF
    if not key:
        raise reader.wrong("a key that is not 0", match[2])
    return match[1].strip(), key, full


def _members(text: str, full: bool, reader: Reader) -> list[tuple[int | str, bool]]:
    found: list[tuple[int | str, bool]] = []
    if not text.strip():
        return found
    for part in text.split(","):
        match = _MEMBER.fullmatch(_squeeze(part))
        if not match:
            raise reader.wrong("<GUID or keyword>[=full|limited]", part.strip())
        member: int | str = match[1]
        if match[1][0].isdigit():
            member = _integer(match[1])
        elif member not in _KEYWORDS:
            raise reader.wrong(f"a GUID or one of {', '.join(_KEYWORDS)}", match[1])
        # OpenSM takes anything but "full" for limited.
        found.append((member, full if match[2] is None else match[2] in ("full", "both")))
    return found


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _integer(text: str) -> int:
    value = int(text, 16) if text.startswith("0x") else int(text)
    if value >= 1 << 64:
        raise EvidenceError(
            "the partition configuration cannot be read",
            expected="a number of at most 64 bits",
            found=text,
            where="partition configuration",
            hint="take the file again; do not edit it",
        )
    return value


def expand_partitions(
    partitions: Sequence[PartitionMembers],
    links: LinkMap,
    manager: int | None = None,
    enforced: bool = True,
) -> tuple[KeyTable, ...]:
    """Work out the key table of every port of every end node.

    Args:
        partitions: from `parse_partitions`.  Without a rule for key 0x7FFF everybody is a
            limited member of it and the manager a full one, as OpenSM has it.
        links: a map with GUIDs.
        manager: the port GUID that ``SELF`` stands for.
        enforced: whether the switch ports that end nodes are cabled to get the same keys.

    Raises:
        EvidenceError: the map has no GUIDs, or the tables would be too large.
    """
    default = PartitionMembers("Default", DEFAULT_KEY, (("ALL", False), ("SELF", True)))
    if all(one.key != DEFAULT_KEY for one in partitions):
        partitions = (default, *partitions)
    by_guid: dict[int, dict[int, bool]] = {}
    shared: dict[int, bool] = {}
    for one in partitions:
        for member, full in one.members:
            if member in ("ALL", "ALL_CAS"):
                shared[one.key] = shared.get(one.key, False) or full
            elif member == "SELF" and manager is not None:
                _join(by_guid, manager, one.key, full)
            elif isinstance(member, int):
                _join(by_guid, member, one.key, full)
    tables: list[KeyTable] = []
    for node, port, guid, switch in _end_ports(links):
        own = {**shared}
        for key, full in by_guid.get(guid, {}).items():
            own[key] = own.get(key, False) or full
        keys = tuple(key | FULL_MEMBER if full else key for key, full in own.items())
        tables.append(KeyTable(node, port + 1, keys))
        if enforced and switch is not None:
            tables.append(KeyTable(*switch, keys))
        if len(tables) * (len(keys) + 1) > MAX_KEYS:
            raise EvidenceError(
                "the partition configuration leads to too many keys",
                expected=f"at most {MAX_KEYS}",
                found="more",
                where="partition configuration",
            )
    return tuple(tables)


def _join(by_guid: dict[int, dict[int, bool]], guid: int, key: int, full: bool) -> None:
    own = by_guid.setdefault(guid, {})
    own[key] = own.get(key, False) or full


def _end_ports(links: LinkMap) -> Iterator[tuple[int, int, int, tuple[int, int] | None]]:
    """Every cabled port of an end node: node GUID, port, own GUID, and the switch port."""
    nodes = {node.name: node for node in links.nodes}
    for here, there in sorted(peers(links).items()):
        node, far = nodes[here.node], nodes[there.node]
        if node.kind is NodeKind.SWITCH:
            continue
        if node.guid is None or far.guid is None:
            raise EvidenceError(
                "the link map has no GUIDs",
                expected="a map bound to a machine",
                found=f"{node.name} or {far.name} without a GUID",
                where="link map",
                hint="use a discovered map, or bind_guids",
            )
        own = dict(node.port_guids).get(here.port, node.guid)
        switch = (far.guid, there.port) if far.kind is NodeKind.SWITCH else None
        yield node.guid, here.port, own, switch
