"""From a simulated fabric to what the verifier reads, and to an evaluation."""

from __future__ import annotations

from ccverify.fabric.linkmap import LinkMap, bind_guids
from ccverify.fabric.linkmap_dump import parse_subnet_list, rename_nodes
from ccverify.fabric.linkmap_hgx import HGX_H100
from ccverify.fabric.routing import RoutingState
from ccverify.fabric.routing_dumps import (
    parse_addresses,
    parse_forwarding_tables,
    parse_key_tables,
    parse_multicast_routes,
    parse_unicast_routes,
)
from ccverify.fabric.routing_evaluate import Evaluation, appraise_routing
from ccverify.fabric.routing_findings import FabricPartition
from ccverify.sim.fabric import SimFabric
from ccverify.sim.fabric_dumps import (
    address_dump,
    key_dump,
    linear_dump,
    multicast_dump,
    subnet_list,
    unicast_dump,
)


def read_state(fabric: SimFabric, *, linear: bool = False) -> RoutingState:
    """Only the linear tables have entries for LIDs that nobody owns."""
    unicast = (
        parse_forwarding_tables(linear_dump(fabric))
        if linear
        else parse_unicast_routes(unicast_dump(fabric))
    )
    return RoutingState(
        unicast,
        parse_multicast_routes(multicast_dump(fabric)),
        parse_addresses(address_dump(fabric)),
        parse_key_tables(key_dump(fabric)),
    )


def read_links(fabric: SimFabric) -> LinkMap:
    if len(fabric.cables.switches) == 4:  # Hopper: no subnet manager lists its links
        guids = {name: int(guid, 16) for guid, name in fabric.names().items()}
        ports = {
            gpu: {link: fabric.port_guid(gpu, link) for link in range(18)}
            for gpu in fabric.cables.gpus
        }
        return bind_guids(HGX_H100, guids, {} if fabric.one_lid_per_gpu else ports)
    return rename_nodes(parse_subnet_list(subnet_list(fabric)).links, fabric.names())


def partitions_of(fabric: SimFabric, *, keys: bool = True) -> list[FabricPartition]:
    return [
        FabricPartition(t.name, frozenset(t.gpus), fabric.keys_of[t.name] if keys else None)
        for t in fabric.tenants
    ]


def evaluate(fabric: SimFabric, expected: LinkMap | None = None) -> Evaluation:
    links, state = read_links(fabric), read_state(fabric)
    return appraise_routing(links, state, partitions_of(fabric), expected=expected)


def codes(evaluation: Evaluation) -> set[str]:
    return {finding.code.value for finding in evaluation.findings}
