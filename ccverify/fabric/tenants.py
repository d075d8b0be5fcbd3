"""Are the tenants of one fabric apart: in GPUs, module ids, partitions and routes?

What is compared is what their evidence says and what the fabric's manager states.  Whether either
is genuine is not asked here: every tenant's evidence has to be judged by itself.  A fabric is
proven to part its tenants only if everything could be compared; what could not is a `Gap`, and
the answer is then `Separation.UNKNOWN`, however good the rest looks.

| code | what two tenants have in common |
| --- | --- |
| TENANTS-GPU | a GPU, by its certified identity |
| TENANTS-MODULE | a module id, so a place on the board |
| TENANTS-PARTITION | a clique of one cluster, or an active partition of the manager's |
| TENANTS-ROUTE | a way on which a packet of the one gets to a port of the other |

The cost is linear in the evidence, and in the table entries of the statement.  Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeVar

from ccverify.fabric.linkmap import NodeKind, PortId
from ccverify.fabric.routing_evaluate import Evaluation
from ccverify.fabric.routing_findings import FabricPartition, RouteCode, RouteFinding
from ccverify.fabric.statement import evaluate_statement
from ccverify.fabric.statement_join import join_partition
from ccverify.fabric.statement_model import (
    FabricStatement,
    StatementCode,
    StatementProblem,
    modules_text,
)
from ccverify.fabric.statement_rules import appraise_statement

__all__ = [
    "Gap",
    "Overlap",
    "Separation",
    "Subject",
    "Tenant",
    "TenantCode",
    "TenantComparison",
    "compare_tenants",
    "switch_guids",
]

_NO_CLUSTER: Final = frozenset("0")
_CROSSING: Final = frozenset(
    {RouteCode.LEAK, RouteCode.EXPOSED, RouteCode.MULTICAST, RouteCode.PKEY, RouteCode.OVERLAP}
)
"""What a finding says of two tenants that makes them overlap."""
_DECISIVE: Final = frozenset({StatementCode.STATEMENT, StatementCode.ROUTING})
"""With a problem or a gap of these, a statement does not show what is routed how."""

_Key = TypeVar("_Key", str, tuple[str, int])


class TenantCode(str, Enum):
    """What tenants can have in common, in the order of a report."""

    GPU = "TENANTS-GPU"
    MODULE = "TENANTS-MODULE"
    PARTITION = "TENANTS-PARTITION"
    ROUTE = "TENANTS-ROUTE"


class Separation(str, Enum):
    """The answer."""

    DISJOINT = "disjoint"
    """Everything was compared, and they have nothing in common."""
    OVERLAP = "overlap"
    """Two of them have something in common."""
    UNKNOWN = "not-provable"
    """Nothing in common was found, and not everything could be compared."""


class Subject(str, Enum):
    """What could not be compared."""

    EVIDENCE = "evidence"
    FABRIC = "fabric"
    GPUS = "gpus"
    MODULES = "modules"
    PARTITIONS = "partitions"
    ROUTES = "routes"


@dataclass(frozen=True, slots=True)
class Tenant:
    """What the evidence of one tenant says.

    Attributes:
        name: of the tenant or the evidence, for people; each once.
        gpus: certified identities of his GPUs, in hex.
        modules: module ids of the GPUs that his driver sees; None where it does not name all.
        cliques: cluster (16 bytes in hex) and clique, of each of his GPUs that is registered.
        problems: why the evidence says less than it should.
    """

    name: str
    gpus: frozenset[str]
    modules: frozenset[int] | None
    cliques: frozenset[tuple[str, int]] = frozenset()
    problems: tuple[str, ...] = ()

    @property
    def clusters(self) -> frozenset[str]:
        """The clusters that were assigned: zero stands for none."""
        return frozenset(uuid for uuid, _ in self.cliques if set(uuid) - _NO_CLUSTER)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Something that tenants have in common.

    Attributes:
        code: what kind of thing.
        tenants: by name, two or more.
        where: the GPU, module or partition; of a route, from where to where.
        found: what they have in common.
        path: of a route, port by port.
        count: how many cases there are; the one told is the first.
    """

    code: TenantCode
    tenants: tuple[str, ...]
    where: str
    found: str
    path: tuple[PortId, ...] = ()
    count: int = 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that could not be compared, of these tenants; of all, where none is named."""

    subject: Subject
    tenants: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class TenantComparison:
    """What comparing came to.

    Attributes:
        overlaps: what they have in common.
        gaps: what could not be compared.
        partitions: tenant → id of his active partition; those for whom it is known.
        others: what is wrong with routes and is not between two of these tenants.
    """

    overlaps: tuple[Overlap, ...]
    gaps: tuple[Gap, ...]
    partitions: Mapping[str, int] = field(default_factory=dict)
    others: tuple[RouteFinding, ...] = ()

    @property
    def separation(self) -> Separation:
        """The answer."""
        if self.overlaps:
            return Separation.OVERLAP
        return Separation.UNKNOWN if self.gaps else Separation.DISJOINT


def compare_tenants(
    tenants: Sequence[Tenant], statements: Sequence[FabricStatement] = ()
) -> TenantComparison:
    """Compare the tenants of one fabric.

    Args:
        tenants: two or more; their order has no part in the answer.
        statements: of the fabric's manager; the last one is evaluated, and the others must be
            of the same fabric.

    Never raises on bad evidence.
    """
    tenants = sorted(tenants, key=lambda tenant: tenant.name)
    fabrics = {uuid for tenant in tenants for uuid in tenant.clusters}
    overlaps = list(_common(tenants, several=len(fabrics) > 1))
    gaps = [*_unknown(tenants), *_fabrics(tenants, fabrics, statements)]
    if not statements:
        reason = "there is no statement of the fabric's manager that can be used"
        gaps.append(Gap(Subject.ROUTES, (), reason))
        return TenantComparison(tuple(overlaps), tuple(gaps))
    if any(gap.subject is Subject.FABRIC for gap in gaps):
        reason = "one statement cannot speak of several fabrics"
        gaps.append(Gap(Subject.ROUTES, (), reason))
        return TenantComparison(tuple(overlaps), tuple(gaps))
    statement = statements[-1]
    partitions: dict[str, int] = {}
    gaps += _matched(tenants, statement, partitions)
    overlaps += _one_partition(tenants, statement)
    named = {_partition_name(tenant): tenant for tenant in tenants if tenant.modules}
    evaluation = evaluate_statement(statement, [_partition(tenant) for tenant in named.values()])
    gaps += _unproven(statement, evaluation)
    if evaluation is not None:
        overlaps += _routes(evaluation, {name: one.name for name, one in named.items()}, tenants)
    others = () if evaluation is None else tuple(_others(evaluation, frozenset(named)))
    return TenantComparison(tuple(overlaps), tuple(gaps), partitions, others)


def switch_guids(statement: FabricStatement) -> frozenset[int]:
    """Return the GUIDs of a fabric's switches, which tell it from others; none if not stated."""
    links = statement.links
    found = {node.guid for node in links.of_kind(NodeKind.SWITCH)} if links else set()
    if statement.routing is not None:
        found |= {table.switch for table in statement.routing.unicast}
    return frozenset(guid for guid in found if guid is not None)


# --- GPUs, modules, cliques ----------------------------------------------------------------------


def _common(tenants: Sequence[Tenant], *, several: bool) -> Iterator[Overlap]:
    for gpu, names in _shared(tenants, lambda tenant: tenant.gpus):
        found = "the same certified identity in the evidence of each"
        yield Overlap(TenantCode.GPU, names, f"GPU {gpu}", found)

    def modules(tenant: Tenant) -> Iterable[tuple[str, int]]:
        # Module ids of different fabrics have nothing to do with each other.
        fabric = min(tenant.clusters, default="") if several else ""
        return ((fabric, module) for module in tenant.modules or ())

    for (_, module), names in _shared(tenants, modules):
        found = "each one's driver sees a GPU in this place; a board has one"
        yield Overlap(TenantCode.MODULE, names, f"module {module}", found)

    def cliques(tenant: Tenant) -> Iterable[tuple[str, int]]:
        return (each for each in tenant.cliques if each[0] in tenant.clusters)

    for (uuid, clique), names in _shared(tenants, cliques):
        found = "GPUs of each are in it; those of one clique reach one another"
        yield Overlap(TenantCode.PARTITION, names, f"clique {clique} of cluster {uuid}", found)


def _shared(
    tenants: Sequence[Tenant], keys: Callable[[Tenant], Iterable[_Key]]
) -> list[tuple[_Key, tuple[str, ...]]]:
    """What more than one tenant has, in order, with their names."""
    holders: dict[_Key, list[str]] = {}
    for tenant in tenants:
        for key in dict.fromkeys(keys(tenant)):
            holders.setdefault(key, []).append(tenant.name)
    return sorted((key, tuple(names)) for key, names in holders.items() if len(names) > 1)


def _unknown(tenants: Sequence[Tenant]) -> Iterator[Gap]:
    for tenant in tenants:
        own = (tenant.name,)
        for problem in tenant.problems:
            yield Gap(Subject.EVIDENCE, own, problem)
        if not tenant.gpus:
            yield Gap(Subject.GPUS, own, "there is no GPU with a certified identity")
        if not tenant.modules:
            yield Gap(Subject.MODULES, own, "the driver does not name the module of every GPU")
        elif tenant.gpus and len(tenant.modules) != len(tenant.gpus):
            reason = f"{len(tenant.gpus)} GPUs attested, and the driver sees {len(tenant.modules)}"
            yield Gap(Subject.MODULES, own, reason)
        if len(tenant.clusters) > 1:
            yield Gap(Subject.FABRIC, own, f"its GPUs are in {len(tenant.clusters)} clusters")


def _fabrics(
    tenants: Sequence[Tenant], clusters: set[str], statements: Sequence[FabricStatement]
) -> Iterator[Gap]:
    if len(clusters) > 1:
        placed = ", ".join(f"{t.name}: {', '.join(sorted(t.clusters)) or 'none'}" for t in tenants)
        yield Gap(Subject.FABRIC, (), f"the evidence is of different clusters ({placed})")
    known = {guids for statement in statements if (guids := switch_guids(statement))}
    if len(known) > 1:
        yield Gap(Subject.FABRIC, (), "the statements are of different switches")


# --- partitions ----------------------------------------------------------------------------------


def _matched(
    tenants: Sequence[Tenant], statement: FabricStatement, partitions: dict[str, int]
) -> Iterator[Gap]:
    """Find each one's active partition, and say for whom there is none."""
    for tenant in tenants:
        if not tenant.modules:
            continue
        match = join_partition(statement, tenant.modules)
        if match.entry is not None and match.entry.active and not match.judged:
            partitions[tenant.name] = match.entry.id
        for one in match.judged:
            told = one.found if isinstance(one, StatementProblem) else one.reason
            yield Gap(Subject.PARTITIONS, (tenant.name,), f"{one.where}: {told}")


def _one_partition(tenants: Sequence[Tenant], statement: FabricStatement) -> Iterator[Overlap]:
    for entry in statement.partitions.active if statement.partitions else ():
        names = tuple(
            tenant.name for tenant in tenants if entry.modules.intersection(tenant.modules or ())
        )
        if len(names) > 1:
            found = f"active, with GPUs {modules_text(entry.modules)}: some of each"
            yield Overlap(TenantCode.PARTITION, names, f"partition {entry.id}", found)


# --- routes --------------------------------------------------------------------------------------


def _partition_name(tenant: Tenant) -> str:
    """What a tenant is called in an evaluation: never as an active partition is."""
    return f"tenant {tenant.name}" if tenant.name.startswith("partition-") else tenant.name


def _partition(tenant: Tenant) -> FabricPartition:
    gpus = frozenset(f"GPU{module}" for module in tenant.modules or ())
    return FabricPartition(_partition_name(tenant), gpus)


def _unproven(statement: FabricStatement, evaluation: Evaluation | None) -> Iterator[Gap]:
    """Say why routes are not proven, whatever was found."""
    for one in appraise_statement(statement):
        if one.code not in _DECISIVE:
            continue
        told = one.found if isinstance(one, StatementProblem) else one.reason
        yield Gap(Subject.ROUTES, (), f"{one.where}: {told}")
    if evaluation is None:
        yield Gap(Subject.ROUTES, (), "the statement lacks tables, partitions or a known board")
        return
    for finding in evaluation.findings:
        if finding.code is RouteCode.UNKNOWN_PORT:
            yield Gap(Subject.ROUTES, (), f"{finding.where}: {finding.found}")
    for code, count in evaluation.omitted:
        if code in _CROSSING:
            yield Gap(Subject.ROUTES, (), f"{count} further cases of {code.value} are not listed")


def _routes(
    evaluation: Evaluation, names: Mapping[str, str], tenants: Sequence[Tenant]
) -> Iterator[Overlap]:
    """Every way between two tenants: first those that are known hop by hop."""
    code = TenantCode.ROUTE
    told = set()
    for finding in evaluation.findings:
        between = tuple(sorted(names[name] for name in finding.partitions if name in names))
        if len(between) > 1 and finding.code in _CROSSING:
            told.add(finding.where)
            found = f"{finding.code.value}: {finding.found}"
            yield Overlap(code, between, finding.where, found, finding.path, finding.count)
    owner: dict[str, str] = {}
    for tenant in tenants:
        for module in tenant.modules or ():
            owner.setdefault(f"GPU{module}", tenant.name)
    further: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for source, target in sorted(evaluation.reachable):
        ends = owner.get(source), owner.get(target)
        where = f"{source} → {target}"
        if ends[0] is None or ends[1] is None or ends[0] == ends[1] or where in told:
            continue
        pair = ends[0], ends[1]
        further[pair] += 1
        first.setdefault(pair, where)
    for pair, count in further.items():
        yield Overlap(code, pair, first[pair], "a packet is accepted", (), count)


def _others(evaluation: Evaluation, names: frozenset[str]) -> Iterator[RouteFinding]:
    for finding in evaluation.findings:
        between = len(names.intersection(finding.partitions)) > 1
        if not (between and finding.code in _CROSSING):
            yield finding
