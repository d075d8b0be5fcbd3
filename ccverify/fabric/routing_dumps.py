"""Read a subnet manager's dumps: forwarding tables, addresses, partition keys.

| function | file | format from |
| --- | --- | --- |
| `parse_unicast_routes` | ``opensm.fdbs`` | OpenSM ``dump_ucast_routes``, ibdiagnet's copy of it |
| `parse_forwarding_tables` | ``opensm-lfts.dump`` | OpenSM ``dump_ucast_lfts``, ``dump_fts`` |
| `parse_multicast_routes` | ``opensm.mcfdbs`` | OpenSM ``dump_mcast_routes`` |
| `parse_addresses` | ``guid2lid`` | OpenSM ``osm_db_pack.c``, ``osm_db_files.c`` |
| `parse_key_tables` | ours | tables as ``smpquery pkeys`` prints them, one port after another |

Confirmed: these formats, from the sources named, and that NVLSM writes ``nvlsm.fdbs``,
``nvlsm.mcfdbs`` and ``guid2lid`` (Fabric Manager User Guide 2.3).  **Not confirmed**: that NVLSM
keeps OpenSM's format for them.  Another format is refused, never guessed at.

Everything is hostile: a dump either parses or raises `EvidenceError`, in linear time.  A row that
says the same again is refused too, because a subnet manager never writes one.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ccverify.errors import EvidenceError
from ccverify.fabric.routing import (
    FIRST_MULTICAST,
    LAST_MULTICAST,
    LAST_UNICAST,
    MAX_SWITCHES,
    MAX_TABLE_BYTES,
    NO_PORT,
    KeyTable,
    MulticastGroup,
    MulticastTable,
    PortAddress,
    UnicastTable,
)
from ccverify.fabric.routing_text import Reader

__all__ = [
    "parse_addresses",
    "parse_forwarding_tables",
    "parse_key_tables",
    "parse_multicast_routes",
    "parse_unicast_routes",
]

_GUID = r"0x([0-9a-fA-F]{1,16})"
_SWITCH = re.compile(rf"(?:[A-Za-z_]{{1,64}}: )?Switch {_GUID}")
_ROUTES_TITLE = re.compile(r"LID +: Port +: Hops +: Optimal")
_ROUTE = re.compile(r"0x([0-9a-fA-F]{1,4}) *: *(?:UNREACHABLE|([0-9]{1,3}) *: .*)")
_LFT_SWITCH = re.compile(
    rf"Unicast lids \[[0-9a-fA-Fx]{{1,6}}-[0-9a-fA-Fx]{{1,6}}\] of switch"
    rf" (?:Lid [0-9]{{1,5}}|DR path [^\n]{{0,64}}?) guid {_GUID} \(.*\):?"
)
_LFT_TITLE = re.compile(r"Lid  Out   Destination|Port     Info")
_LFT_ROW = re.compile(r"0x([0-9a-fA-F]{1,4}) ([0-9]{1,3})(?: [#:].*)?")
_LFT_END = re.compile(r"[0-9]{1,6} (?:valid )?lids dumped ?")
_GROUPS_TITLE = re.compile(r"LID +: Out Port\(s\)")
_GROUP = re.compile(r"0x([0-9a-fA-F]{1,4}) *:((?: {1,4}0x[0-9a-fA-F]{1,3}){1,255})")
_ADDRESS = re.compile(rf"{_GUID} 0x([0-9a-fA-F]{{1,4}}) 0x([0-9a-fA-F]{{1,4}})")
_KEYS_PORT = re.compile(rf"Node {_GUID} port ([0-9]{{1,3}})")
_KEYS_ROW = re.compile(r"([0-9]{1,4}):((?: 0x[0-9a-fA-F]{4}){1,8})")
_KEYS_END = re.compile(r"([0-9]{1,4}) pkeys capacity for this port")


class _Tables:
    """Unicast tables being read: LID → port, switch after switch."""

    __slots__ = ("_reader", "_size", "_table", "tables")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._table: bytearray | None = None
        self._size = 0
        self.tables: dict[int, bytearray] = {}

    def switch(self, guid: str) -> None:
        number = int(guid, 16)
        if number in self.tables or len(self.tables) == MAX_SWITCHES:
            raise self._reader.wrong(
                f"every switch once, at most {MAX_SWITCHES}", f"switch 0x{guid} again"
            )
        self._table = self.tables[number] = bytearray()

    def route(self, lid_text: str, port_text: str | None) -> None:
        if self._table is None:
            raise self._reader.wrong("a line that names a switch first", f"LID 0x{lid_text}")
        lid = int(lid_text, 16)
        port = NO_PORT if port_text is None else int(port_text)
        if lid > LAST_UNICAST or port > NO_PORT:
            raise self._reader.wrong(
                "a LID up to 0xBFFF and a port up to 255", f"LID 0x{lid:04X}, port {port}"
            )
        if port == NO_PORT:
            return
        missing = lid + 1 - len(self._table)
        if missing > 0:
            self._size += missing
            if self._size > MAX_TABLE_BYTES:
                raise self._reader.wrong(f"at most {MAX_TABLE_BYTES} entries", "more")
            self._table.extend(b"\xff" * missing)
        if self._table[lid] != NO_PORT:
            raise self._reader.wrong("every LID of a switch once", f"LID 0x{lid:04X} again")
        self._table[lid] = port

    def done(self) -> tuple[UnicastTable, ...]:
        return tuple(UnicastTable(guid, bytes(self.tables[guid])) for guid in sorted(self.tables))


def parse_unicast_routes(data: bytes) -> tuple[UnicastTable, ...]:
    """Read ``opensm.fdbs``: for each switch a line ``… Switch 0x<GUID>``, a title, and rows.

    A row is ``0x0002 : 003  : 00   : yes`` or ``0x0001 : UNREACHABLE``; what follows the port is
    the subnet manager's own opinion of it and is not used.

    Raises:
        EvidenceError: another format, a switch or LID twice, or a number out of range.
    """
    reader = Reader(data, "unicast forwarding tables")
    tables = _Tables(reader)
    for line in reader:
        row = _ROUTE.fullmatch(line)
        if row:
            tables.route(row[1], row[2])
            continue
        switch = _SWITCH.fullmatch(line)
        if switch:
            tables.switch(switch[1])
        elif not _ROUTES_TITLE.fullmatch(line):
            raise reader.wrong("Switch 0x…, a title, or 0xLID : port : …", line)
    return tables.done()


def parse_forwarding_tables(data: bytes) -> tuple[UnicastTable, ...]:
    """Read ``opensm-lfts.dump``: ``Unicast lids … of switch Lid 1 guid 0x<GUID> ('name'):``, rows.

    A row is ``0x0002 003 # Channel Adapter portguid …``.  Only this dump has LIDs whose owner
    the subnet manager does not know.

    Raises:
        EvidenceError: another format, a switch or LID twice, or a number out of range.
    """
    reader = Reader(data, "linear forwarding tables")
    tables = _Tables(reader)
    for line in reader:
        row = _LFT_ROW.fullmatch(line)
        if row:
            tables.route(row[1], row[2])
            continue
        switch = _LFT_SWITCH.fullmatch(line)
        if switch:
            tables.switch(switch[1])
        elif not (_LFT_TITLE.fullmatch(line) or _LFT_END.fullmatch(line)):
            raise reader.wrong("Unicast lids … of switch …, or 0xLID port # …", line)
    return tables.done()


def parse_multicast_routes(data: bytes) -> tuple[MulticastTable, ...]:
    """Read ``opensm.mcfdbs``: ``Switch 0x<GUID>``, a title, and rows ``0xC000 : 0x001  0x002``.

    Raises:
        EvidenceError: another format, a switch or multicast LID twice, or a number out of range.
    """
    reader = Reader(data, "multicast forwarding tables")
    tables: dict[int, dict[int, MulticastGroup]] = {}
    groups: dict[int, MulticastGroup] | None = None
    for line in reader:
        row = _GROUP.fullmatch(line)
        switch = None if row else _SWITCH.fullmatch(line)
        if row:
            group = _group(row, reader)
            if groups is None or group.lid in groups:
                raise reader.wrong("every LID of a named switch once", line)
            groups[group.lid] = group
        elif switch:
            guid = int(switch[1], 16)
            if guid in tables or len(tables) == MAX_SWITCHES:
                raise reader.wrong(f"every switch once, at most {MAX_SWITCHES}", line)
            groups = tables[guid] = {}
        elif not _GROUPS_TITLE.fullmatch(line):
            raise reader.wrong("Switch 0x…, a title, or 0xLID : 0xPORT …", line)
    return tuple(MulticastTable(guid, tuple(tables[guid].values())) for guid in sorted(tables))


def _group(row: re.Match[str], reader: Reader) -> MulticastGroup:
    lid, ports = int(row[1], 16), [int(port, 16) for port in row[2].split()]
    if not FIRST_MULTICAST <= lid <= LAST_MULTICAST or max(ports) >= NO_PORT:
        raise reader.wrong("a LID from 0xC000 to 0xFFFE and ports up to 254", row[0])
    if len(set(ports)) != len(ports):
        raise reader.wrong("every port of a group once", row[0])
    return MulticastGroup(lid, tuple(ports))


def parse_addresses(data: bytes) -> tuple[PortAddress, ...]:
    """Read ``guid2lid``: rows ``0x<port GUID> 0x<first LID> 0x<last LID>``.

    Raises:
        EvidenceError: another format, a GUID twice, or LIDs out of range or order.
    """
    reader = Reader(data, "guid2lid")
    found: dict[int, PortAddress] = {}
    for line in reader:
        row = _ADDRESS.fullmatch(line)
        if not row:
            raise reader.wrong("0x<GUID> 0x<LID> 0x<LID>", line)
        guid, first, last = (int(text, 16) for text in row.groups())
        if guid in found or not 1 <= first <= last <= LAST_UNICAST:
            raise reader.wrong("every GUID once, with LIDs from 1 to 0xBFFF in order", line)
        found[guid] = PortAddress(guid, first, last)
    return tuple(found[guid] for guid in sorted(found))


def parse_key_tables(data: bytes) -> tuple[KeyTable, ...]:
    """Read partition-key tables: ``Node 0x<GUID> port <n>``, then what ``smpquery pkeys`` prints.

    That is rows of ``0: 0xffff 0x7fff …`` with eight keys at most and a last line ``32 pkeys
    capacity for this port``.  ``smpquery`` does not name the port it asked, so whoever collects
    writes the line before it; port numbers are InfiniBand's.

    Raises:
        EvidenceError: another format, a port twice, or a table with rows missing.
    """
    reader = Reader(data, "partition keys")
    found: dict[tuple[int, int], KeyTable] = {}
    lines = iter(reader)
    for line in lines:
        head = _KEYS_PORT.fullmatch(line)
        if not head:
            raise reader.wrong("Node 0x<GUID> port <n>", line)
        at = int(head[1], 16), int(head[2])
        if at in found or at[1] >= NO_PORT:
            raise reader.wrong("every port once, from 0 to 254", line)
        found[at] = KeyTable(*at, tuple(_keys(lines, reader)))
    return tuple(found[at] for at in sorted(found))


def _keys(lines: Iterator[str], reader: Reader) -> list[int]:
    keys: list[int] = []
    for line in lines:
        end = _KEYS_END.fullmatch(line)
        if end:
            if not int(end[1]) <= len(keys) < int(end[1]) + 8:
                raise reader.wrong(f"{end[1]} keys, in rows of eight", f"{len(keys)} keys")
            return keys
        row = _KEYS_ROW.fullmatch(line)
        if not row or int(row[1]) != len(keys):
            raise reader.wrong(f"{len(keys)}: 0x… or the capacity of the port", line)
        keys += (int(text, 16) for text in row[2].split())
    raise EvidenceError(
        "the partition keys cannot be read",
        expected="a last line with the capacity of the port",
        found="the end of the file",
        where="partition keys",
        hint="take the dump again; do not edit it",
    )
