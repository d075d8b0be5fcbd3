"""Read a statement of a fabric's manager: its facts, its dumps, and what they mean together.

Only the facts have to be there.  A dump that cannot be read, or that contradicts another, is a
problem of the statement and never an error, because the rest of it still says something.  What is
not there is a gap.

Links are those that the subnet manager discovered, their nodes named by the vendor's map of the
board that they fit: ``GPU3`` is the GPU of module id 3.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap import Link, LinkMap, NodeKind, bind_guids, link_differences
from ccverify.fabric.linkmap_dump import (
    SubnetList,
    identify_nodes,
    parse_subnet_list,
    rename_nodes,
)
from ccverify.fabric.linkmap_hgx import HGX_B300, HGX_H100
from ccverify.fabric.manager import parse_manager
from ccverify.fabric.manager_config import parse_manager_config, parse_nvlsm_config
from ccverify.fabric.partition_table import (
    PartitionEntry,
    parse_fmpm_list,
    parse_partition_definitions,
)
from ccverify.fabric.routing_evaluate import Evaluation, appraise_routing
from ccverify.fabric.routing_findings import FabricPartition
from ccverify.fabric.statement_model import (
    DUMP_LABELS,
    FACTS_LABEL,
    HGX_BLACKWELL,
    HGX_HOPPER,
    Dump,
    FabricStatement,
    StatementCode,
)
from ccverify.fabric.statement_reading import StatementReading
from ccverify.fabric.statement_routing import management_guid, with_routing

__all__ = [
    "FabricStatement",
    "evaluate_statement",
    "partition_name",
    "read_statement",
]

_BOARDS: Final[Mapping[int, tuple[str, LinkMap]]] = {
    2: (HGX_BLACKWELL, HGX_B300),
    4: (HGX_HOPPER, HGX_H100),
}
"""Number of switches → the boards that have it, and their published map."""


def read_statement(
    items: Mapping[str, bytes],
    *,
    guids: Mapping[str, int] | None = None,
    port_guids: Mapping[str, Mapping[int, int]] | None = None,
) -> FabricStatement:
    """Read the items of a statement.

    Args:
        items: label → bytes; labels that are not of a statement are passed over.
        guids: node of a published map → its GUID on this machine, where somebody knows them:
            used if the statement has no list of links.
        port_guids: likewise for ports that have GUIDs of their own.

    Raises:
        EvidenceError: the facts are missing or malformed.  Nothing else raises.
    """
    if FACTS_LABEL not in items:
        raise EvidenceError(
            "the statement has no facts",
            expected=f"an item {FACTS_LABEL}",
            found=", ".join(sorted(items)) or "no items",
            where="fabric statement",
            hint="make it with ccverify collect --role fabric-manager",
        )
    facts = parse_manager(items[FACTS_LABEL])
    reading = StatementReading(facts, {at: items[at] for at in DUMP_LABELS if at in items})
    statement = FabricStatement(
        facts,
        reading.digests(items[FACTS_LABEL]),
        reading.parsed(Dump.CONFIG, parse_manager_config),
        reading.parsed(Dump.NVLSM_CONFIG, parse_nvlsm_config),
        reading.parsed(Dump.PARTITIONS, parse_fmpm_list),
        reading.parsed(Dump.DEFINITIONS, parse_partition_definitions),
    )
    subnet = reading.parsed(Dump.SUBNET, parse_subnet_list)
    if subnet is not None:
        statement = _with_links(statement, subnet, reading)
    elif guids is not None:
        statement = _with_bound_map(statement, guids, port_guids, reading)
    else:
        reading.gap(
            Dump.SUBNET,
            "no list of links, and nobody says which GUID is which device of a published map,"
            " so no route can be followed",
        )
    statement = with_routing(statement, subnet, reading)
    return replace(statement, problems=tuple(reading.problems), gaps=tuple(reading.gaps))


def _with_links(
    statement: FabricStatement, subnet: SubnetList, reading: StatementReading
) -> FabricStatement:
    """Name the discovered nodes by the published map that they fit."""
    found = subnet.links
    board = _BOARDS.get(len(found.of_kind(NodeKind.SWITCH)))
    if board is None:
        switches = len(found.of_kind(NodeKind.SWITCH))
        expected = "2 or 4 switches, as published boards have"
        reading.problem(StatementCode.ROUTING, Dump.SUBNET.value, expected, str(switches))
        return replace(statement, links=found)
    name, published = board
    named = rename_nodes(found, identify_nodes(found, published))
    # A few cables that differ are ROUTE-LINK; if most do, the names mean nothing.
    differences = sum(1 for _ in link_differences(named, published))
    if 2 * differences > len(published.links):
        expected = f"{len(published.links)} cables as on an {name}"
        at = f"{differences} ports that are cabled otherwise"
        reading.problem(StatementCode.ROUTING, Dump.SUBNET.value, expected, at)
        return replace(statement, links=found)
    managers = _managers(named, management_guid(statement))
    return replace(statement, links=named, board=name, published=published, managers=managers)


def _with_bound_map(
    statement: FabricStatement,
    guids: Mapping[str, int],
    port_guids: Mapping[str, Mapping[int, int]] | None,
    reading: StatementReading,
) -> FabricStatement:
    """Take the published cables for real ones; nobody has said that they are."""
    name, published = _BOARDS[4 if "NVSwitch3" in guids else 2]
    reading.gap(Dump.SUBNET, f"no list of links: cables are taken to be those of an {name}")
    try:
        links = bind_guids(published, guids, port_guids)
    except EvidenceError as error:
        reading.refused(StatementCode.ROUTING, "GUIDs", error)
        return statement
    return replace(statement, links=links, board=name, published=published)


def _managers(links: LinkMap, guid: int | None) -> frozenset[str]:
    """The node that holds the subnet manager's port; never one that is known to be a GPU."""
    return frozenset(
        node.name
        for node in links.of_kind(NodeKind.OTHER)
        if guid and (node.guid == guid or guid in {own for _, own in node.port_guids})
    )


# --- evaluation ----------------------------------------------------------------------------------


def partition_name(entry: PartitionEntry) -> str:
    """What an active partition is called in an evaluation: ``partition-2``."""
    return f"partition-{entry.id}"


def evaluate_statement(
    statement: FabricStatement, tenants: Sequence[FabricPartition] = ()
) -> Evaluation | None:
    """Evaluate the stated routing for the active partitions.

    Every GPU that is in none of them is outside.  Nodes are called ``GPU<module>``.

    Args:
        statement: from `read_statement`.
        tenants: further partitions that must be whole and closed.  One with the GPUs of an
            active partition takes its place; one that overlaps otherwise is ROUTE-OVERLAP.

    Returns:
        None where the statement lacks tables, the live list of partitions, or a known board.
    """
    links, published = statement.links, statement.published
    if links is None or published is None or statement.routing is None:
        return None
    if statement.partitions is None:
        return None
    given = {tenant.gpus for tenant in tenants}
    active = [
        FabricPartition(partition_name(entry), gpus)
        for entry in statement.partitions.active
        if (gpus := frozenset(f"GPU{module}" for module in entry.modules)) not in given
    ]
    return appraise_routing(
        links,
        statement.routing,
        [*active, *tenants],
        expected=_with_managers(published, links, statement.managers),
        managers=statement.managers,
    )


def _with_managers(published: LinkMap, links: LinkMap, managers: frozenset[str]) -> LinkMap:
    """The published map, and the manager's cables at ports for which it has none."""
    taken = {port for link in published.links for port in link}
    known = {node.name for node in published.nodes}
    own: list[Link] = []
    for link in links.links:
        ends = {port.node for port in link}
        if ends & managers and ends <= managers | known and not taken & set(link):
            own.append(link)
    nodes = [node for node in links.nodes if node.name in managers]
    return replace(published, nodes=(*published.nodes, *nodes), links=(*published.links, *own))
