"""From the dumps of a statement to one routing state.

Tables are taken from ``nvlsm-lfts`` before ``nvlsm-fdbs``, which leaves out LIDs without an owner
(docs/fabric-routing.md); where both are there they must agree.  LIDs are those of
``nvlsm-guid2lid``, else those of the list of links.  Keys are those in force (``nvlsm-pkeys``),
else those configured.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap_dump import SubnetList
from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM
from ccverify.fabric.manager_config import parse_guid
from ccverify.fabric.observation import Absent
from ccverify.fabric.routing import (
    LAST_UNICAST,
    NO_PORT,
    KeyTable,
    PortAddress,
    RoutingState,
    UnicastTable,
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
from ccverify.fabric.statement_model import Dump, FabricStatement, StatementCode
from ccverify.fabric.statement_reading import StatementReading

__all__ = ["management_guid", "with_routing"]

_GUID_OPTIONS = ("-g", "--guid", "--fm-sm-mgmt-port-guid")


def management_guid(statement: FabricStatement) -> int | None:
    """Return the GUID of the port that NVLSM binds to; the command line comes before files."""
    for name in (NVLSM, FABRIC_MANAGER):
        program = statement.facts.program(name)
        if program is None or isinstance(program.process, Absent):
            continue
        arguments = program.process.arguments
        for option, value in pairwise(() if isinstance(arguments, Absent) else arguments):
            if option in _GUID_OPTIONS and parse_guid(value):
                return parse_guid(value)
    stated = (
        statement.nvlsm_config.guid if statement.nvlsm_config else None,
        statement.config.management_guid if statement.config else None,
    )
    return next((guid for guid in stated if guid), None)


def with_routing(
    statement: FabricStatement, subnet: SubnetList | None, reading: StatementReading
) -> FabricStatement:
    """Add tables, addresses and keys to a statement whose links are known."""
    unicast = _unicast(reading)
    multicast = reading.parsed(Dump.MCFDBS, parse_multicast_routes)
    addresses = _addresses(subnet, reading)
    keys, keys_from = _keys(statement, reading)
    if unicast is None:
        if not reading.has(Dump.FDBS):
            reading.gap(Dump.LFTS, "no forwarding tables, so nothing can be said of routes")
        return statement
    if multicast is None:
        reading.gap(Dump.MCFDBS, "no multicast tables, so nothing can be said of groups")
    if keys_from == Dump.PARTITIONS_CONF:
        reading.gap(Dump.PKEYS, "keys are those configured; whether they are in force is not known")
    elif keys is None:
        reading.gap(Dump.PKEYS, "no partition keys, so no isolation can be shown")
    try:
        routing = RoutingState(unicast, multicast or (), addresses, keys)
    except EvidenceError as error:
        reading.refused(StatementCode.ROUTING, "tables", error)
        return statement
    return replace(
        statement,
        routing=routing,
        routing_digest=routing_digest(routing),
        keys_from=None if keys_from is None else keys_from.value,
    )


def _unicast(reading: StatementReading) -> tuple[UnicastTable, ...] | None:
    linear = reading.parsed(Dump.LFTS, parse_forwarding_tables)
    routes = reading.parsed(Dump.FDBS, parse_unicast_routes)
    if linear is None:
        if routes is not None:
            reading.gap(Dump.LFTS, f"{Dump.FDBS.value} leaves out LIDs without an owner")
        return routes
    if routes is not None:
        _require_agreement(linear, routes, reading)
    return linear


def _require_agreement(
    linear: Sequence[UnicastTable], routes: Sequence[UnicastTable], reading: StatementReading
) -> None:
    """Every route of ``nvlsm-fdbs`` is one of ``nvlsm-lfts``, which may have more."""
    tables = {table.switch: table.ports for table in linear}
    others = {table.switch: table.ports for table in routes}
    for switch in sorted(tables.keys() | others.keys()):
        where = f"switch 0x{switch:016x}"
        if switch not in tables or switch not in others:
            missing = Dump.FDBS if switch in tables else Dump.LFTS
            found = f"none in {missing.value}"
            reading.problem(StatementCode.ROUTING, where, "a table in both dumps", found)
            continue
        theirs = others[switch]
        ours = tables[switch].ljust(len(theirs), bytes([NO_PORT]))
        wrong = [lid for lid, port in enumerate(theirs) if port not in (NO_PORT, ours[lid])]
        if wrong:
            lid = wrong[0]
            there = "no port" if ours[lid] == NO_PORT else f"port {ours[lid]}"
            reading.problem(
                StatementCode.ROUTING,
                where,
                f"LID 0x{lid:04X} at port {theirs[lid]}, as {Dump.FDBS.value} has it",
                f"{there} in {Dump.LFTS.value}; LIDs that differ: {len(wrong)}",
            )


def _addresses(subnet: SubnetList | None, reading: StatementReading) -> tuple[PortAddress, ...]:
    listed = dict(subnet.lids) if subnet is not None else {}
    addresses = reading.parsed(Dump.GUID2LID, parse_addresses)
    if addresses is None:
        # One LID for each port: the list has no more of a port than its first.
        return tuple(
            PortAddress(guid, lid, lid) for guid, lid in listed.items() if 0 < lid <= LAST_UNICAST
        )
    for address in addresses:
        lid = listed.get(address.guid, address.first)
        if lid != address.first:
            reading.problem(
                StatementCode.ROUTING,
                f"GUID 0x{address.guid:016x}",
                f"LID 0x{lid:04X}, as {Dump.SUBNET.value} has it",
                f"LID 0x{address.first:04X} in {Dump.GUID2LID.value}",
            )
    return addresses


def _keys(
    statement: FabricStatement, reading: StatementReading
) -> tuple[tuple[KeyTable, ...] | None, Dump | None]:
    tables = reading.parsed(Dump.PKEYS, parse_key_tables)
    wanted = reading.parsed(Dump.PARTITIONS_CONF, parse_partitions)
    if tables is not None:
        return tables, Dump.PKEYS
    # Tables that are there and cannot be read are never replaced by what was only wanted.
    if wanted is None or statement.links is None or reading.has(Dump.PKEYS):
        return None, None
    try:
        tables = expand_partitions(wanted, statement.links, management_guid(statement))
    except EvidenceError as error:
        reading.refused(StatementCode.ROUTING, Dump.PARTITIONS_CONF.value, error)
        return None, None
    return tables, Dump.PARTITIONS_CONF
