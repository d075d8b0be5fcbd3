"""How a fabric forwards: tables, addresses and keys in one normal form, and its digest.

The form is InfiniBand's, which NVLink 5 borrows: a *LID* addresses an end port; every switch has
a linear table from LID to output port, and another from multicast LID to output ports; a
*partition key* has 15 bits of identity and a top bit that makes a member full (set) or limited.
Two keys match when their identities are equal and at least one of them is full (InfiniBand
Architecture Specification 1, 10.9).  NVIDIA documents that NVLSM stems from an InfiniBand subnet
manager, assigns LIDs and programs forwarding tables and keys; not the size or meaning of each.

The form does not depend on the order of files, lines or ports, so equal tables have one digest.
Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ccverify.errors import EvidenceError

__all__ = [
    "FIRST_MULTICAST",
    "FULL_MEMBER",
    "LAST_MULTICAST",
    "LAST_UNICAST",
    "MAX_SWITCHES",
    "MAX_TABLE_BYTES",
    "NO_PORT",
    "KeyTable",
    "MulticastGroup",
    "MulticastTable",
    "PortAddress",
    "RoutingState",
    "UnicastTable",
    "keys_admitted",
    "routing_digest",
]

LAST_UNICAST: Final = 0xBFFF
FIRST_MULTICAST: Final = 0xC000
LAST_MULTICAST: Final = 0xFFFE
NO_PORT: Final = 0xFF
"""A table's mark for an address it has no port for."""
FULL_MEMBER: Final = 0x8000
"""The bit of a partition key that makes its holder a full member."""
MAX_SWITCHES: Final = 1024
MAX_TABLE_BYTES: Final = 1 << 24
"""All unicast tables together; a domain of 576 GPUs needs half a megabyte."""
MAX_KEYS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class UnicastTable:
    """The linear forwarding table of one switch.

    Attributes:
        switch: node GUID.
        ports: output port of LID n at index n, `NO_PORT` where there is none; 0 is the switch
            itself.  Without `NO_PORT` at the end.
    """

    switch: int
    ports: bytes

    def __post_init__(self) -> None:
        if len(self.ports) > LAST_UNICAST + 1:
            raise _wrong("LIDs up to 0xBFFF", f"0x{len(self.ports) - 1:04X}")
        object.__setattr__(self, "ports", self.ports.rstrip(b"\xff"))


@dataclass(frozen=True, slots=True, order=True)
class MulticastGroup:
    """The output ports of one multicast LID on one switch, in order."""

    lid: int
    ports: tuple[int, ...]

    def __post_init__(self) -> None:
        if not FIRST_MULTICAST <= self.lid <= LAST_MULTICAST:
            raise _wrong("a multicast LID from 0xC000 to 0xFFFE", f"0x{self.lid:04X}")
        if any(not 0 <= port < NO_PORT for port in self.ports):
            raise _wrong("ports from 0 to 254", str(max(self.ports)))
        object.__setattr__(self, "ports", tuple(sorted(set(self.ports))))


@dataclass(frozen=True, slots=True)
class MulticastTable:
    """The multicast forwarding table of one switch, by LID; groups without ports are left out."""

    switch: int
    groups: tuple[MulticastGroup, ...]

    def __post_init__(self) -> None:
        groups = tuple(sorted(group for group in self.groups if group.ports))
        _require_distinct((group.lid for group in groups), "multicast LID of a switch")
        object.__setattr__(self, "groups", groups)


@dataclass(frozen=True, slots=True, order=True)
class PortAddress:
    """The LIDs of one port (of a switch: of its port 0), first to last."""

    guid: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= LAST_UNICAST:
            raise _wrong("LIDs from 1 to 0xBFFF, in order", f"{self.first} to {self.last}")


@dataclass(frozen=True, slots=True, order=True)
class KeyTable:
    """The partition keys of one port.

    Attributes:
        guid: node GUID.
        port: number as InfiniBand has it, so 1 for NVLink 0; 0 for every port of an end node.
        keys: 16-bit keys, sorted; without the empty key 0.
    """

    guid: int
    port: int
    keys: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.port < NO_PORT or any(not 0 <= key <= 0xFFFF for key in self.keys):
            raise _wrong("a port from 0 to 254 and keys of 16 bits", f"port {self.port}")
        object.__setattr__(self, "keys", tuple(sorted(set(self.keys) - {0, FULL_MEMBER})))


@dataclass(frozen=True, slots=True)
class RoutingState:
    """Everything that decides where a packet goes.

    Attributes:
        unicast: by switch.
        multicast: by switch.
        addresses: by GUID.
        keys: by node and port; None where nobody said anything about keys, which is not the
            same as tables without any.

    Raises:
        EvidenceError: a switch, GUID, LID or port appears twice, or there is too much of it.
    """

    unicast: tuple[UnicastTable, ...]
    multicast: tuple[MulticastTable, ...] = ()
    addresses: tuple[PortAddress, ...] = ()
    keys: tuple[KeyTable, ...] | None = None

    def __post_init__(self) -> None:
        size = sum(len(table.ports) for table in self.unicast)
        if max(len(self.unicast), len(self.multicast)) > MAX_SWITCHES or size > MAX_TABLE_BYTES:
            raise _wrong(
                f"at most {MAX_SWITCHES} switches with {MAX_TABLE_BYTES} entries",
                f"{len(self.unicast)} switches with {size} entries",
            )
        if self.keys is not None and sum(len(t.keys) for t in self.keys) > MAX_KEYS:
            raise _wrong(f"at most {MAX_KEYS} keys", "more")
        self._sort()
        _require_distinct((t.switch for t in self.unicast), "switch with a unicast table")
        _require_distinct((t.switch for t in self.multicast), "switch with a multicast table")
        _require_distinct((a.guid for a in self.addresses), "GUID with LIDs")
        _require_distinct(((t.guid, t.port) for t in self.keys or ()), "port with keys")
        spans = sorted((a.first, a.last) for a in self.addresses)
        for (_, last), (first, _) in pairwise(spans):
            if first <= last:
                raise _wrong("every LID with one owner", f"LID {first} with two")

    def _sort(self) -> None:
        put = object.__setattr__
        put(self, "unicast", tuple(sorted(self.unicast, key=lambda table: table.switch)))
        put(self, "multicast", tuple(sorted(self.multicast, key=lambda table: table.switch)))
        put(self, "addresses", tuple(sorted(self.addresses)))
        put(self, "keys", None if self.keys is None else tuple(sorted(self.keys)))


def keys_admitted(table: Iterable[int]) -> frozenset[int]:
    """Return the keys that a packet may carry to match one of the table's.

    A full member admits both kinds; a limited one only full members.
    """
    admitted: set[int] = set()
    for key in table:
        admitted.add(key | FULL_MEMBER)
        if key & FULL_MEMBER:
            admitted.add(key & ~FULL_MEMBER)
    return frozenset(admitted)


def routing_digest(state: RoutingState) -> bytes:
    """Digest a state: SHA-384, 48 bytes.

    Over ``ccverify/routing/v1`` and a line feed, then four sections, each a 32-bit count and its
    records: unicast (switch 64, length 32, ports), multicast (switch 64, count 32 of: LID 16,
    count 16, ports 8 each), addresses (GUID 64, first 16, last 16), keys (GUID 64, port 8, count
    32, keys 16 each).  Integers are big endian; unknown keys are the count 0xFFFFFFFF alone.
    """
    hasher = hashlib.sha384(b"ccverify/routing/v1\n")
    for part in _encoded(state):
        hasher.update(part)
    return hasher.digest()


def _encoded(state: RoutingState) -> Iterator[bytes]:
    yield _number(len(state.unicast), 4)
    for table in state.unicast:
        yield _number(table.switch, 8) + _number(len(table.ports), 4) + table.ports
    yield _number(len(state.multicast), 4)
    for groups in state.multicast:
        yield _number(groups.switch, 8) + _number(len(groups.groups), 4)
        for group in groups.groups:
            yield _number(group.lid, 2) + _number(len(group.ports), 2) + bytes(group.ports)
    yield _number(len(state.addresses), 4)
    for address in state.addresses:
        yield b"".join((_number(address.guid, 8), _number(address.first, 2)))
        yield _number(address.last, 2)
    if state.keys is None:
        yield b"\xff\xff\xff\xff"
        return
    yield _number(len(state.keys), 4)
    for keys in state.keys:
        yield _number(keys.guid, 8) + _number(keys.port, 1) + _number(len(keys.keys), 4)
        yield b"".join(_number(key, 2) for key in keys.keys)


def _number(value: int, octets: int) -> bytes:
    return value.to_bytes(octets, "big")


def _require_distinct(values: Iterable[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            shown = f"0x{value:x}" if isinstance(value, int) else str(value)
            raise _wrong(f"every {what} once", f"{shown} twice")
        seen.add(value)


def _wrong(expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        "the routing state contradicts itself",
        expected=expected,
        found=found,
        where="routing state",
        hint="take all dumps of the subnet manager again, at one time",
    )
