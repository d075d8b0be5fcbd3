"""Dumps of a subnet manager: read as OpenSM writes them, refused otherwise, never worse."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from routing_support import read_links, read_state

from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap_dump import parse_subnet_list
from ccverify.fabric.routing import (
    KeyTable,
    MulticastGroup,
    MulticastTable,
    PortAddress,
    RoutingState,
    UnicastTable,
    keys_admitted,
    routing_digest,
)
from ccverify.fabric.routing_dumps import (
    parse_addresses,
    parse_forwarding_tables,
    parse_key_tables,
    parse_multicast_routes,
    parse_unicast_routes,
)
from ccverify.fabric.routing_partitions import expand_partitions, parse_partitions
from ccverify.fabric.routing_text import MAX_DUMP_LINES, MAX_LINE_BYTES
from ccverify.sim import fabric_dumps
from ccverify.sim.fabric import SimFabric, SimTenant

FABRIC = SimFabric.hgx("B300", [SimTenant("a", (1, 2, 3, 4)), SimTenant("b", (5, 6))])
PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "fdbs": (parse_unicast_routes, fabric_dumps.unicast_dump(FABRIC)),
    "lfts": (parse_forwarding_tables, fabric_dumps.linear_dump(FABRIC)),
    "mcfdbs": (parse_multicast_routes, fabric_dumps.multicast_dump(FABRIC)),
    "guid2lid": (parse_addresses, fabric_dumps.address_dump(FABRIC)),
    "pkeys": (parse_key_tables, fabric_dumps.key_dump(FABRIC)),
    "partitions": (parse_partitions, fabric_dumps.partition_configuration(FABRIC)),
    "subnet.lst": (parse_subnet_list, fabric_dumps.subnet_list(FABRIC)),
}
EACH = pytest.mark.parametrize("name", PARSERS)

FDBS = b"""\
osm_ucast_mgr_dump_ucast_routes: Switch 0x0002c9030068ec10
LID    : Port : Hops : Optimal
0x0001 : UNREACHABLE
0x0002 : 003  : 00   : yes
0x0003 : 002  : HOPS UNKNOWN
0x000A : 001  : 02   : No 1 hop path possible via port 2!
"""
LFTS = b"""\
Unicast lids [0-4] of switch Lid 2 guid 0x0002c9030068ec10 ('SW (1)'):
0x0002 000 # Switch portguid 0x0002c9030068ec10: 'SW (1)'
0x0004 017 # unknown node and type
4 lids dumped
"""
FTS = b"""\
Unicast lids [0x0-0x4] of switch Lid 2 guid 0x0002c9030068ec10 (SW):
  Lid  Out   Destination
       Port     Info
0x0002 000 : (Switch portguid 0x0002c9030068ec10: 'SW')
0x0004 017 : (Channel Adapter portguid 0x0002c90300000001: 'x')
2 valid lids dumped
"""
MCFDBS = b"""
Switch 0x0002c9030068ec10
LID    : Out Port(s)
0xC000 : 0x000  0x001  0x011\x20
0xC001 : 0x002\x20
"""
SWITCH = 0x0002C9030068EC10


# --- genuine forms -------------------------------------------------------------------------------


def test_unicast_routes_as_opensm_writes_them() -> None:
    (table,) = parse_unicast_routes(FDBS)
    assert table.switch == SWITCH
    assert {lid: port for lid, port in enumerate(table.ports) if port != 255} == {2: 3, 3: 2, 10: 1}


@pytest.mark.parametrize("dump", [LFTS, FTS])
def test_forwarding_tables_as_opensm_and_dump_fts_write_them(dump: bytes) -> None:
    assert parse_forwarding_tables(dump) == (UnicastTable(SWITCH, b"\xff\xff\0\xff\x11"),)


def test_multicast_routes_as_opensm_writes_them() -> None:
    groups = MulticastGroup(0xC000, (0, 1, 17)), MulticastGroup(0xC001, (2,))
    assert parse_multicast_routes(MCFDBS) == (MulticastTable(SWITCH, groups),)


def test_addresses_as_opensm_writes_them() -> None:
    text = b"0x0002c9030068ec10 0x0005 0x0006\n\n0x0000000000000001 0x0001 0x0001\n\n"
    assert parse_addresses(text) == (PortAddress(1, 1, 1), PortAddress(SWITCH, 5, 6))


def test_keys_as_smpquery_prints_them() -> None:
    text = (
        b"Node 0x0002c9030068ec10 port 1\n"
        b"   0: 0xffff 0x8001 0x0002 0x0000 0x0000 0x0000 0x0000 0x0000\n"
        b"8 pkeys capacity for this port\n"
    )
    assert parse_key_tables(text) == (KeyTable(SWITCH, 1, (0x0002, 0x8001, 0xFFFF)),)


def test_partitions_of_opensms_documentation() -> None:
    text = b"""
    Default=0x7fff : ALL, ALL_SWITCHES=full, SELF=full ;
    YetAnotherOne = 0x300 : SELF=full ;
    YetAnotherOne = 0x300 : ALL=limited ;
    ShareIO = 0x80 , defmember=full : 0x123451, 0x123452; # 0x123453, 0x123454 will be limited
    ShareIO = 0x80 : defmember=limited : 0x123456, 0x123457, 0x123458=full;
    Boxed = 0x8081 , ipoib, rate=7 : 12=limi, 0x123459=full;
    """
    found = {one.key: one for one in parse_partitions(text)}
    assert {key: one.name for key, one in found.items()} == {
        0x80: "ShareIO", 0x81: "Boxed", 0x300: "YetAnotherOne", 0x7FFF: "Default",
    }  # fmt: skip
    assert found[0x80].members == (
        (0x123451, True), (0x123452, True), (0x123456, False), (0x123457, False), (0x123458, True),
    )  # fmt: skip
    assert found[0x81].members == ((12, False), (0x123459, True))
    assert found[0x300].members == (("SELF", True), ("ALL", False))


def test_a_configuration_leads_to_the_keys_in_force() -> None:
    configured = parse_partitions(fabric_dumps.partition_configuration(FABRIC))
    expanded = expand_partitions(configured, read_links(FABRIC))
    assert tuple(sorted(expanded)) == parse_key_tables(fabric_dumps.key_dump(FABRIC))
    lax = expand_partitions(configured, read_links(FABRIC), enforced=False)
    assert len(lax) == len(expanded) / 2
    without = [one for one in configured if one.key != 0x7FFF]
    assert sorted(expand_partitions(without, read_links(FABRIC))) == sorted(expanded)
    manager = FABRIC.port_guid("GPU8", 3)
    tables = expand_partitions(without, read_links(FABRIC), manager, enforced=False)
    full = {(t.guid, t.port) for t in tables if 0xFFFF in t.keys}
    assert full == {(FABRIC.node_guid("GPU8"), 4)}


def test_both_unicast_dumps_say_the_same() -> None:
    assert parse_unicast_routes(PARSERS["fdbs"][1]) == parse_forwarding_tables(PARSERS["lfts"][1])


# --- refusals ------------------------------------------------------------------------------------

BAD: list[tuple[str, bytes]] = [
    ("fdbs", b"0x0001 : 003  : 00   : yes\n"),
    ("fdbs", FDBS + b"0x0002 : 004  : 00   : yes\n"),
    ("fdbs", FDBS + FDBS),
    ("fdbs", FDBS + b"0xC000 : 001  : 00   : yes\n"),
    ("fdbs", FDBS + b"0x0009 : 256  : 00   : yes\n"),
    ("fdbs", FDBS + b"\0"),
    ("fdbs", FDBS + b"0x0009 : " + b"9" * MAX_LINE_BYTES),
    ("lfts", LFTS + b"0x0005 001\n" + LFTS),
    ("lfts", b"0x0005 001\n"),
    ("mcfdbs", MCFDBS + b"0xC000 : 0x003 \n"),
    ("mcfdbs", MCFDBS + MCFDBS),
    ("mcfdbs", MCFDBS + b"0xBFFF : 0x003 \n"),
    ("mcfdbs", MCFDBS + b"0xC003 : 0x003  0x003 \n"),
    ("mcfdbs", MCFDBS + b"0xC003 : 0x0ff \n"),
    ("mcfdbs", b"0xC000 : 0x003 \n"),
    ("guid2lid", b"0x1 0x0000 0x0001\n"),
    ("guid2lid", b"0x1 0x0002 0x0001\n"),
    ("guid2lid", b"0x1 0x0002 0x0002\n0x1 0x0003 0x0003\n"),
    ("guid2lid", b"0x1 0xc000 0xc000\n"),
    ("pkeys", b"Node 0x1 port 1\n   0: 0xffff\n"),
    ("pkeys", b"Node 0x1 port 1\n   8: 0xffff\n1 pkeys capacity for this port\n"),
    ("pkeys", b"Node 0x1 port 1\n   0: 0xffff\n9 pkeys capacity for this port\n"),
    ("pkeys", b"Node 0x1 port 255\n0 pkeys capacity for this port\n"),
    ("pkeys", b"Node 0x1 port 1\n0 pkeys capacity for this port\n" * 2),
    ("pkeys", b"   0: 0xffff\n"),
    ("partitions", b"a=0x1 : 0x1=full"),
    ("partitions", b"a : 0x1=full;"),
    ("partitions", b"a=0x1 0x1=full;"),
    ("partitions", b"a=0x8000 : 0x1;"),
    ("partitions", b"a=0x1 : NOBODY;"),
    ("partitions", b"a=0x1, quick : ALL;"),
    ("partitions", b"a=0x1 : 99999999999999999999;"),
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_what_no_subnet_manager_writes_is_refused(name: str, text: bytes) -> None:
    with pytest.raises(EvidenceError) as error:
        PARSERS[name][0](text)
    assert error.value.expected
    assert error.value.found


@EACH
def test_too_many_lines_are_refused_before_they_are_read(name: str) -> None:
    with pytest.raises(EvidenceError, match=r"cannot be read"):
        PARSERS[name][0](b"\n" * MAX_DUMP_LINES)


def test_tables_that_would_fill_memory_are_refused() -> None:
    rows = (f"Switch 0x{n:x}\n0xBFFF : 001  : 00   : yes\n" for n in range(400))
    with pytest.raises(EvidenceError, match="cannot be read"):
        parse_unicast_routes("".join(rows).encode())


SIDE = (
    b"{ %s Ports:12 SystemGUID:%016x NodeGUID:%016x PortGUID:%016x VenID:000000 DevID:0000"
    b" Rev:00000000 {x} LID:%04X PN:%02X } "
)


def link(a: tuple[bytes, int, int, int], b: tuple[bytes, int, int, int], log: bytes) -> bytes:
    sides = [SIDE % (k, guid, guid, guid, lid, port) for k, guid, lid, port in (a, b)]
    return b"".join(sides) + b"PHY=4x LOG=" + log + b" SPD=25\n"


def test_links_that_are_down_do_not_count() -> None:
    gpu, switch = (b"CA", 1, 1, 1), (b"SW", 2, 2, 7)
    assert len(parse_subnet_list(link(gpu, switch, b"ACT")).links.links) == 1
    down = parse_subnet_list(link(gpu, switch, b"INI"))
    assert down.links.links == ()
    assert down.lids == ((1, 1), (2, 2))
    assert len(down.links.nodes) == 2


@pytest.mark.parametrize(
    "lines",
    [
        [((b"CA", 1, 1, 1), (b"SW", 2, 2, 7)), ((b"CA", 1, 1, 1), (b"SW", 2, 2, 8))],
        [((b"CA", 1, 1, 1), (b"SW", 2, 2, 7)), ((b"CA", 3, 3, 1), (b"SW", 2, 2, 7))],
        [((b"CA", 1, 1, 1), (b"SW", 2, 2, 7)), ((b"SW", 1, 1, 2), (b"SW", 2, 2, 8))],
        [((b"CA", 1, 1, 1), (b"SW", 2, 2, 7)), ((b"CA", 1, 9, 1), (b"SW", 2, 2, 7))],
        [((b"CA", 1, 1, 1), (b"CA", 1, 1, 1))],
        [((b"CA", 1, 1, 0), (b"SW", 2, 2, 7))],
    ],
)
def test_links_that_contradict_one_another_are_refused(
    lines: list[tuple[tuple[bytes, int, int, int], tuple[bytes, int, int, int]]],
) -> None:
    with pytest.raises(EvidenceError):
        parse_subnet_list(b"".join(link(a, b, b"ACT") for a, b in lines))


# --- hostile input -------------------------------------------------------------------------------


@EACH
@settings(max_examples=60, deadline=None)
@example(data=b"", seed=0)
@given(data=st.binary(max_size=200), seed=st.integers(0, 1 << 30))
def test_anything_parses_or_is_refused(name: str, data: bytes, seed: int) -> None:
    """Noise, and a genuine dump with a few bytes, lines or a slice of it changed."""
    parse, genuine = PARSERS[name]
    chance = random.Random(seed)
    lines = genuine[:4000].split(b"\n")
    for _ in range(chance.randrange(3)):
        lines[chance.randrange(len(lines))] = chance.choice(lines)
    changed = bytearray(b"\n".join(lines))
    for _ in range(chance.randrange(4)):
        changed[chance.randrange(len(changed))] = chance.choice(b"0x9afF: ;=,{}\n\0\xff")
    cut = chance.randrange(len(changed))
    for text in (data, bytes(changed), bytes(changed[:cut]) + data):
        try:
            parse(text)
        except EvidenceError as error:
            assert error.diagnostics()  # noqa: PT017 - either outcome is right


@EACH
def test_long_lines_of_any_character_are_no_burden(name: str) -> None:
    """A pattern that goes back over its input would take minutes here."""
    for part in (b" ", b"0", b"0x", b"{ ", b"a=", b": ", b"0x1,", b"Switch "):
        line = (part * MAX_LINE_BYTES)[:MAX_LINE_BYTES] + b"\n"
        with pytest.raises(EvidenceError):
            PARSERS[name][0](line * 50 + b"\0")


# --- normal form and digest ----------------------------------------------------------------------


def shuffled(data: bytes, chance: random.Random) -> bytes:
    """The sections of a dump in another order, and the rows of each."""
    sections: list[list[bytes]] = []
    for row in data.split(b"\n"):
        if b"Switch" in row:
            sections.append([row])
        elif row and b"LID  " not in row:
            sections[-1].append(row)
    for section in sections:
        rest = section[1:]
        chance.shuffle(rest)
        section[1:] = rest
    chance.shuffle(sections)
    return b"\n".join(row for section in sections for row in section)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 30))
def test_the_digest_does_not_depend_on_order(seed: int) -> None:
    chance = random.Random(seed)
    state = read_state(FABRIC)
    other = RoutingState(
        parse_unicast_routes(shuffled(PARSERS["fdbs"][1], chance)),
        parse_multicast_routes(shuffled(PARSERS["mcfdbs"][1], chance)),
        tuple(chance.sample(state.addresses, len(state.addresses))),
        tuple(chance.sample(state.keys or (), len(state.keys or ()))),
    )
    assert other == state
    assert routing_digest(other) == routing_digest(state)


def test_the_digest_is_over_the_documented_encoding() -> None:
    small = RoutingState(
        (UnicastTable(1, b"\xff\x02\xff"),),
        (MulticastTable(1, (MulticastGroup(0xC000, (2, 1)),)),),
        (PortAddress(2, 1, 1),),
        (KeyTable(2, 1, (0x8001, 0xFFFF)),),
    )
    encoded = (
        "00000001" "0000000000000001" "00000002" "ff02"
        "00000001" "0000000000000001" "00000001" "c000" "0002" "0102"
        "00000001" "0000000000000002" "0001" "0001"
        "00000001" "0000000000000002" "01" "00000002" "8001" "ffff"
    )  # fmt: skip
    expected = hashlib.sha384(b"ccverify/routing/v1\n" + bytes.fromhex(encoded)).digest()
    assert routing_digest(small) == expected
    nothing = hashlib.sha384(b"ccverify/routing/v1\n" + bytes(12) + b"\xff" * 4).digest()
    assert routing_digest(RoutingState(())) == nothing


def test_every_part_of_the_state_is_in_the_digest() -> None:
    states = [
        RoutingState(()),
        RoutingState((), keys=()),
        RoutingState((UnicastTable(1, b""),)),
        RoutingState((UnicastTable(1, b"\x01"),)),
        RoutingState((UnicastTable(2, b"\x01"),)),
        RoutingState((), (MulticastTable(1, ()),)),
        RoutingState((), (MulticastTable(1, (MulticastGroup(0xC000, (1,)),)),)),
        RoutingState((), (MulticastTable(1, (MulticastGroup(0xC000, (2,)),)),)),
        RoutingState((), (), (PortAddress(1, 1, 1),)),
        RoutingState((), (), (PortAddress(1, 1, 2),)),
        RoutingState((), (), (), (KeyTable(1, 1, ()),)),
        RoutingState((), (), (), (KeyTable(1, 1, (1,)),)),
        RoutingState((), (), (), (KeyTable(1, 2, (1,)),)),
    ]
    assert len({routing_digest(state) for state in states}) == len(states)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RoutingState((UnicastTable(1, b"\1"), UnicastTable(1, b"\2"))),
        lambda: RoutingState((), (MulticastTable(1, ()), MulticastTable(1, ()))),
        lambda: RoutingState((), (), (PortAddress(1, 1, 3), PortAddress(2, 3, 3))),
        lambda: RoutingState((), (), (PortAddress(1, 1, 1), PortAddress(1, 2, 2))),
        lambda: RoutingState((), (), (), (KeyTable(1, 1, ()), KeyTable(1, 1, (2,)))),
        lambda: UnicastTable(1, b"\1" * 0xC001),
        lambda: PortAddress(1, 0, 1),
        lambda: KeyTable(1, 255, ()),
        lambda: KeyTable(1, 1, (0x10000,)),
        lambda: MulticastGroup(0xBFFF, (1,)),
        lambda: MulticastGroup(0xC000, (255,)),
        lambda: RoutingState(tuple(UnicastTable(n, b"\1") for n in range(1025))),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(EvidenceError):
        make()


def test_keys_match_when_one_side_is_full() -> None:
    assert keys_admitted([0x8001, 0x0002]) == {0x8001, 0x0001, 0x8002}
    assert keys_admitted([]) == frozenset()
