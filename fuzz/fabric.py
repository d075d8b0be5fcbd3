"""What is said of a fabric, file by file: tables, settings, facts, observations, measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

from ccverify.errors import EvidenceError
from ccverify.fabric.consistency import appraise_consistency
from ccverify.fabric.consistency_model import AttestedGpu
from ccverify.fabric.linkmap import LinkMap, peers
from ccverify.fabric.linkmap_dump import identify_nodes, parse_subnet_list, rename_nodes
from ccverify.fabric.linkmap_hgx import HGX_B300, HGX_H100
from ccverify.fabric.manager import parse_manager, serialize_manager
from ccverify.fabric.manager_config import parse_manager_config, parse_nvlsm_config
from ccverify.fabric.observation import (
    Absent,
    FabricObservation,
    parse_observation,
    serialize_observation,
)
from ccverify.fabric.partition_table import (
    MAX_PARTITIONS,
    PartitionTable,
    parse_fmpm_list,
    parse_partition_definitions,
    serialize_fmpm_list,
)
from ccverify.fabric.probe import ProbeReport, parse_probe, serialize_probe
from ccverify.fabric.probe_rules import ProbeBands, appraise_probe
from ccverify.fabric.routing import RoutingState, routing_digest
from ccverify.fabric.routing_dumps import (
    parse_addresses,
    parse_forwarding_tables,
    parse_key_tables,
    parse_multicast_routes,
    parse_unicast_routes,
)
from ccverify.fabric.routing_evaluate import Evaluation, appraise_routing
from ccverify.fabric.routing_findings import FabricPartition
from ccverify.fabric.routing_partitions import expand_partitions, parse_partitions
from ccverify.sim.fabric import SimFabric, SimTenant
from ccverify.sim.fabric_dumps import (
    address_dump,
    key_dump,
    linear_dump,
    multicast_dump,
    partition_configuration,
    subnet_list,
    unicast_dump,
)
from fuzz import fabric_seeds
from fuzz.invariants import declared, holds

__all__ = [
    "dump_seeds",
    "fabric_dump",
    "fabric_observation",
    "fabric_probe",
    "manager_config",
    "manager_facts",
    "nothing_crosses",
    "partition_table",
    "routing",
    "routing_seeds",
]

_T = TypeVar("_T")
_R = TypeVar("_R")
_SEPARATOR = b"\n=====\n"


# --- tables --------------------------------------------------------------------------------------


def fabric_dump(data: bytes) -> bool:
    """Every reader of a dump of the subnet manager is offered the bytes."""
    unicast = _offered(parse_unicast_routes, data)
    linear = _offered(parse_forwarding_tables, data)
    multicast = _offered(parse_multicast_routes, data)
    addresses = _offered(parse_addresses, data)
    keys = _offered(parse_key_tables, data)
    wanted = _offered(parse_partitions, data)
    subnet = _offered(parse_subnet_list, data)
    for table in (unicast, linear):
        given = (table or (), multicast or (), addresses or (), keys)
        _offered(lambda given: _digest(RoutingState(*given)), given)
    if wanted is not None:
        links = parse_subnet_list(_dumps()[0]).links
        _offered(lambda members: expand_partitions(members, links, None), wanted)
    if subnet is not None:
        peers(subnet.links)
        for published in (HGX_B300, HGX_H100):
            _offered(lambda pair: _name(*pair), (subnet.links, published))
    found = (unicast, linear, multicast, addresses, keys, wanted, subnet)
    return any(one is not None for one in found)


def _offered(read: Callable[[_T], _R], data: _T) -> _R | None:
    return declared(EvidenceError, lambda: read(data))


def _name(links: LinkMap, published: LinkMap) -> None:
    names = identify_nodes(links, published)
    holds(len(set(names.values())) == len(names), "two nodes of one name")
    holds(len(rename_nodes(links, names).links) == len(links.links), "a link is lost")


def _digest(state: RoutingState) -> None:
    turned = replace(state, unicast=state.unicast[::-1], addresses=state.addresses[::-1])
    holds(routing_digest(turned) == routing_digest(state), "one state has two digests")


def routing(data: bytes) -> bool:
    """Five dumps of one small fabric, evaluated together."""
    parts = data.split(_SEPARATOR)
    parts += [b""] * (5 - len(parts))

    def read() -> Evaluation:
        links = rename_nodes(parse_subnet_list(parts[0]).links, _fabric().names())
        state = RoutingState(
            parse_forwarding_tables(parts[1]),
            parse_multicast_routes(parts[2]),
            parse_addresses(parts[3]),
            parse_key_tables(parts[4]),
        )
        made = appraise_routing(links, state, _partitions(), expected=None)
        backwards = replace(state, unicast=state.unicast[::-1], addresses=state.addresses[::-1])
        again = appraise_routing(links, backwards, _partitions()[::-1], expected=None)
        holds(made.reachable == again.reachable, "the order of tables or partitions counts")
        return made

    evaluation = declared(EvidenceError, read)
    if evaluation is None:
        return False
    nothing_crosses(evaluation, _partitions())
    return True


def nothing_crosses(
    evaluation: Evaluation,
    partitions: Sequence[FabricPartition],
    managers: frozenset[str] = frozenset(),
) -> None:
    """Hold what is called closed against what reaches whom."""
    for own in partitions:
        if not evaluation.is_closed(own.name):
            continue
        for source, target in evaluation.reachable:
            if not {source, target} & managers:
                crosses = (source in own.gpus) != (target in own.gpus)
                holds(not crosses, f"{own.name} is closed, and {source} reaches {target}")


# --- files of the manager ------------------------------------------------------------------------


def manager_facts(data: bytes) -> bool:
    facts = declared(EvidenceError, lambda: parse_manager(data))
    if facts is None:
        return False
    again = serialize_manager(facts)
    holds(parse_manager(again) == facts, "written facts are read as others")
    holds(serialize_manager(parse_manager(again)) == again, "facts have two forms")
    return True


def manager_config(data: bytes) -> bool:
    config = declared(EvidenceError, lambda: parse_manager_config(data))
    other = declared(EvidenceError, lambda: parse_nvlsm_config(data))
    for one in (config, other):
        if one is not None:
            settings = one.settings()
            "".join(f"{key}{value}" for key, value in settings.items()).encode("ascii")
            holds(set(one.repeated) <= set(settings), "a key is repeated and not there")
    if config is not None:
        text = "".join(f"{key}={value}\n" for key, value in config.settings().items())
        same = parse_manager_config(text.encode("ascii"))
        holds(same == replace(config, repeated=()), "written settings are read as others")
    return not (config is None and other is None)


def partition_table(data: bytes) -> bool:
    live = declared(EvidenceError, lambda: parse_fmpm_list(data))
    defined = declared(EvidenceError, lambda: parse_partition_definitions(data))
    for table in (live, defined):
        if table is not None:
            _table(table)
    if live is not None:
        again = serialize_fmpm_list(live)
        holds(parse_fmpm_list(again) == live, "a written table is read as another")
    return not (live is None and defined is None)


def _table(table: PartitionTable) -> None:
    ids = [entry.id for entry in table.entries]
    holds(ids == sorted(set(ids)), "a partition twice, or in no order")
    holds(len(ids) <= MAX_PARTITIONS, "too many partitions")
    holds({entry.id for entry in table.active} <= set(ids), "an active partition is not listed")


# --- what the guest says -------------------------------------------------------------------------


def fabric_observation(data: bytes) -> bool:
    observation = declared(EvidenceError, lambda: parse_observation(data))
    if observation is None:
        return False
    again = serialize_observation(observation)
    holds(parse_observation(again) == observation, "a written observation is read as another")
    for attested in ((), fabric_seeds.attested()):
        for active in (None, 18):
            made = appraise_consistency(observation, attested, active)
            _order_means_nothing(observation, attested, active, made.problems)
            matched = {each.subject for each in made.matches}
            holds(len(matched) == len(made.matches), "one GPU matches two")
    return True


def _order_means_nothing(
    observation: FabricObservation,
    attested: Sequence[AttestedGpu],
    active: int | None,
    problems: object,
) -> None:
    turned = replace(observation, gpus=observation.gpus[::-1])
    other = appraise_consistency(turned, attested[::-1], active)
    holds(bool(other.problems) == bool(problems), "the order of GPUs counts")


def fabric_probe(data: bytes) -> bool:
    report = declared(EvidenceError, lambda: parse_probe(data))
    if report is None:
        return False
    holds(parse_probe(serialize_probe(report)) == report, "a written probe is read as another")
    for bands in _BANDS:
        for uuids in ((), _uuids(report)):
            made = appraise_probe(report, bands, uuids=uuids)
            for problem in made.problems:
                f"{problem.where}{problem.expected}{problem.found}".encode()
            for gap in made.gaps:
                f"{gap.where}{gap.reason}".encode()
    return True


def _uuids(report: ProbeReport) -> Sequence[str]:
    return [gpu.uuid for gpu in report.gpus if not isinstance(gpu.uuid, Absent)]


_BANDS = (
    ProbeBands(),
    ProbeBands(True, 300.0, 600.0, 0.05, 5.0, 2.0, True, 0.0, 0),
    ProbeBands(access=False, traffic=False),
)


# --- seeds ---------------------------------------------------------------------------------------


@cache
def _fabric() -> SimFabric:
    tenants = [SimTenant("a", (1, 2)), SimTenant("b", (3, 4))]
    return SimFabric.two_level(tenants, gpus=4, rails=1, down=2, spines=1, width=1)


@cache
def _partitions() -> tuple[FabricPartition, ...]:
    fabric = _fabric()
    return tuple(
        FabricPartition(t.name, frozenset(t.gpus), fabric.keys_of[t.name]) for t in fabric.tenants
    )


_WRITERS = (subnet_list, linear_dump, multicast_dump, address_dump, key_dump)


def _written(fabric: SimFabric) -> list[bytes]:
    return [write(fabric) for write in _WRITERS]


@cache
def _dumps() -> Sequence[bytes]:
    return [*_written(_fabric()), unicast_dump(_fabric()), partition_configuration(_fabric())]


def dump_seeds() -> Sequence[bytes]:
    hgx = SimFabric.hgx("H100", [SimTenant("a", (1, 2))])
    texts = (
        b"Name=0x80, ipoib, defmember=full : ALL=full, 0x0002c90000000001=limited;\n",
        b"Default=0x7fff : ALL_CAS=limited, SELF=full ;\n# a comment\nx=0x1:;\n",
        b"\xff\n", b"0x1 0x1 0x1\n" * 3,
    )  # fmt: skip
    return [*_dumps(), subnet_list(hgx), linear_dump(hgx), *texts]


def routing_seeds() -> Sequence[bytes]:
    made = [_SEPARATOR.join(_written(_fabric()))]
    one, two, three = ("GPU1", 0), ("GPU2", 0), ("GPU3", 0)
    faults: tuple[Callable[[SimFabric], object], ...] = (
        lambda f: f.leak_route(three, one),
        lambda f: f.wrong_key("GPU1"),
        lambda f: f.black_hole(one),
        lambda f: f.drop_entry(two),
        lambda f: f.swap_cables(one, three),
        lambda f: f.leak_multicast(f.groups_of["a"], three),
    )
    for fault in faults:
        tenants = [SimTenant("a", (1, 2)), SimTenant("b", (3, 4))]
        changed = SimFabric.two_level(tenants, gpus=4, rails=1, down=2, spines=1, width=1)
        fault(changed)
        made.append(_SEPARATOR.join(_written(changed)))
    return made
