"""What ``ccverify fabric show`` shows: a statement evaluated, or what a guest alone sees."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from ccverify.cli.fabric_files import FabricFile
from ccverify.errors import UsageError
from ccverify.fabric.linkmap import LinkMap, NodeKind
from ccverify.fabric.manager_config import GREEDY, SYMMETRIC
from ccverify.fabric.observation import Absent, FabricObservation, GpuObservation
from ccverify.fabric.partition_table import PartitionEntry
from ccverify.fabric.routing_evaluate import Evaluation
from ccverify.fabric.routing_findings import RouteFinding
from ccverify.fabric.statement import FabricStatement, evaluate_statement, partition_name
from ccverify.fabric.statement_join import join_partition
from ccverify.fabric.statement_model import (
    Generation,
    Judged,
    StatementCode,
    StatementGap,
    StatementProblem,
)
from ccverify.fabric.statement_rules import appraise_statement
from ccverify.results.render.fabric_drawing import Box, Cell, Drawing, DrawnGpu

__all__ = [
    "MAX_BOXES",
    "FabricView",
    "drawing_of",
    "guest_name",
    "link_counts",
    "links_up",
    "view_of",
]

_ACTIVE: Final = 1
"""The link state of NVML, and its numbers of others."""
_GPU_TEXT = re.compile(r"\bGPU ?([0-9]{1,3})\b")
_PARTITION_TEXT = re.compile(r"\bpartition[ -]([0-9]{1,10})\b")

MAX_BOXES: Final = 16
"""Most partitions that are drawn; a board of eight GPUs has no more than eight that are apart."""

Counts = Mapping[tuple[str, str], tuple[int, int | None]]
"""GPU and switch → links found between them, and links cabled by the published map."""


@dataclass(frozen=True, slots=True)
class FabricView:
    """What is shown.

    Attributes:
        file: what was read.
        only: the partition that was asked for; None: all.
        own: the partition of the node whose bundle was read; None where it is not known.
        evaluation: of the statement's tables; None where there is nothing to evaluate.
        routes: what is wrong with routes, as far as it concerns what was asked for.
        problems: what is wrong with the statement otherwise.
        gaps: what it does not say.
    """

    file: FabricFile
    only: PartitionEntry | None = None
    own: PartitionEntry | None = None
    evaluation: Evaluation | None = None
    routes: tuple[RouteFinding, ...] = ()
    problems: tuple[StatementProblem, ...] = ()
    gaps: tuple[StatementGap, ...] = ()

    @property
    def statement(self) -> FabricStatement | None:
        """The statement; None where there is none."""
        return self.file.stated.statement if self.file.stated else None

    @property
    def active(self) -> tuple[PartitionEntry, ...]:
        """Active partitions, by id."""
        table = self.statement.partitions if self.statement else None
        return table.active if table else ()

    @property
    def shown(self) -> tuple[PartitionEntry, ...]:
        """Partitions that have a box: the active ones, and the one that was asked for."""
        if self.only is None:
            return self.active
        return (self.only, *(entry for entry in self.active if entry.id != self.only.id))


def view_of(file: FabricFile, partition: int | None) -> FabricView:
    """Evaluate what a file says.

    Args:
        file: a statement, or the bundle of a node.
        partition: the one to show; None for all.

    Raises:
        UsageError: there is no such partition.
    """
    if file.stated is None:
        if partition is not None:
            raise UsageError("there is no statement, so there are no partitions to choose from",
                             found=f"--partition {partition}", where=file.path)  # fmt: skip
        return FabricView(file)
    statement = file.stated.statement
    only = None if partition is None else _entry(statement, partition, file.path)
    judged: list[Judged] = [*appraise_statement(statement)]
    if not file.stated.facts:
        # Files alone say nothing of programs, so nothing is wrong with those.
        table = StatementCode.PARTITION_TABLE
        judged = [*statement.problems, *statement.gaps, *(j for j in judged if j.code is table)]
    own = None
    if file.modules is not None:
        match = join_partition(statement, file.modules)
        own = match.entry
        judged += match.judged
    evaluation = evaluate_statement(statement)
    routes = evaluation.findings if evaluation else ()
    if only is not None:
        routes = tuple(one for one in routes if _concerns(one, only))
    return FabricView(
        file,
        only,
        own,
        evaluation,
        routes,
        tuple(one for one in judged if isinstance(one, StatementProblem)),
        tuple(_gaps(statement, judged)),
    )


def _gaps(statement: FabricStatement, judged: Sequence[Judged]) -> Iterator[StatementGap]:
    """What is not stated; and what the mode of a tenant's GPUs, not known here, may forbid."""
    for one in judged:
        if not isinstance(one, StatementGap):
            continue
        if one.code is not StatementCode.RAIL_POLICY:
            yield one
        elif (
            statement.generation is Generation.BLACKWELL
            and statement.config is not None
            and statement.config.policy != SYMMETRIC
        ):
            policy = statement.config.policy or f"not set, so {GREEDY}"
            reason = f"{policy}; a tenant whose GPUs sign MPT needs {SYMMETRIC}"
            yield replace(one, reason=reason)


def _entry(statement: FabricStatement, number: int, path: str) -> PartitionEntry:
    table = statement.partitions
    entry = table.entry(number) if table else None
    if entry is None:
        known = ", ".join(str(one.id) for one in table.entries) if table else "no partitions"
        raise UsageError("there is no such partition", expected=known, found=str(number),
                         where=path)  # fmt: skip
    return entry


def _concerns(finding: RouteFinding, entry: PartitionEntry) -> bool:
    """Whether a finding is about a partition, or about a GPU that one not active would have."""
    if not finding.partitions or partition_name(entry) in finding.partitions:
        return True
    return not entry.active and not _gpus_of(finding).isdisjoint(
        f"GPU{module}" for module in entry.modules
    )


def _gpus_of(finding: RouteFinding) -> set[str]:
    """The GPUs that a finding names, on its way or in words."""
    named = {f"GPU{number}" for number in _GPU_TEXT.findall(finding.where)}
    return named | {port.node for port in finding.path}


def link_counts(statement: FabricStatement) -> Counts:
    """Count the links between each GPU and each switch; empty where the board is not known."""
    if statement.links is None or statement.board is None:
        return {}
    found = _between(statement.links)
    published = _between(statement.published) if statement.published else None
    keys = found.keys() | (published.keys() if published else ())
    return {key: (found[key], published[key] if published else None) for key in sorted(keys)}


def _between(links: LinkMap) -> Counter[tuple[str, str]]:
    kinds = {node.name: node.kind for node in links.nodes}
    counts: Counter[tuple[str, str]] = Counter()
    for link in links.links:
        ends = {kinds[port.node]: port.node for port in link}
        if ends.keys() == {NodeKind.GPU, NodeKind.SWITCH}:
            counts[ends[NodeKind.GPU], ends[NodeKind.SWITCH]] += 1
    return counts


# --- drawing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Marks:
    """What findings name: GPUs, cables between GPU and switch, and ids of partitions."""

    gpus: frozenset[str]
    cables: frozenset[tuple[str, str]]
    partitions: frozenset[int]


def _marks(view: FabricView) -> _Marks:
    gpus: set[str] = set()
    cables: set[tuple[str, str]] = set()
    partitions: set[int] = set()
    for finding in view.routes:
        for near, far in pairwise(port.node for port in finding.path):
            cables |= {(near, far), (far, near)}
        gpus |= _gpus_of(finding)
    texts = [name for finding in view.routes for name in finding.partitions]
    texts += [problem.where for problem in view.problems]
    for text in texts:
        gpus |= {f"GPU{number}" for number in _GPU_TEXT.findall(text)}
        partitions |= {int(number) for number in _PARTITION_TEXT.findall(text)}
    return _Marks(frozenset(gpus), frozenset(cables), frozenset(partitions))


def drawing_of(view: FabricView) -> Drawing:
    """Return what is to be drawn."""
    if view.statement is None:
        observation = view.file.observation
        return Drawing(tuple(_guest_boxes(observation)) if observation else (), (), "links up")
    counts = link_counts(view.statement)
    switches = tuple(sorted({switch for _, switch in counts}))
    notes = _guest_notes(view.file.observation) if view.file.observation else {}
    return Drawing(tuple(_boxes(view, counts, switches, notes)), switches, "guest sees")


def _boxes(
    view: FabricView, counts: Counts, switches: tuple[str, ...], notes: Mapping[str, str]
) -> Iterator[Box]:
    marks, every = _marks(view), {gpu for gpu, _ in counts}
    for number, entry in enumerate(view.shown[:MAX_BOXES]):
        gpus = [f"GPU{module}" for module in sorted(entry.modules)]
        every.difference_update(gpus)
        title = f"partition {entry.id}"
        if view.own is not None and entry.id == view.own.id:
            title += ", this node"
        if not entry.active:
            title += ", inactive"
        faded = view.only is not None and entry.id != view.only.id
        marked = entry.id in marks.partitions
        yield Box(title, f"P{entry.id}", _gpus(gpus, counts, switches, marks, notes), number,
                  faded, marked)  # fmt: skip
    rest = sorted(every, key=_natural)
    if rest:
        stated = view.statement is not None and view.statement.partitions is not None
        title = "in no partition" if stated else "partitions not stated"
        yield Box(title, "none", _gpus(rest, counts, switches, marks, notes), None,
                  view.only is not None)  # fmt: skip


def _gpus(
    names: Iterable[str],
    counts: Counts,
    switches: tuple[str, ...],
    marks: _Marks,
    notes: Mapping[str, str],
) -> tuple[DrawnGpu, ...]:
    made = []
    for name in names:
        cells = {}
        for switch in switches:
            if (name, switch) not in counts:
                continue
            found, cabled = counts[name, switch]
            short = cabled is not None and found != cabled
            text = str(found) if cabled is None else f"{found}/{cabled}"
            cells[switch] = Cell(text, short or (name, switch) in marks.cables)
        made.append(DrawnGpu(name, cells, notes.get(name, ""), name in marks.gpus))
    return tuple(made)


def _natural(name: str) -> tuple[int, str]:
    return len(name), name


# --- the guest -----------------------------------------------------------------------------------


def guest_name(gpu: GpuObservation) -> str:
    """Name a GPU as the board does, or by the driver's index where the module is not known."""
    return f"index {gpu.index}" if isinstance(gpu.module, Absent) else f"GPU{gpu.module}"


def links_up(gpu: GpuObservation) -> str:
    """Say how many links are up, of how many there are."""
    if isinstance(gpu.links, Absent):
        return "–"
    return f"{sum(link.state == _ACTIVE for link in gpu.links)}/{len(gpu.links)}"


def _guest_notes(observation: FabricObservation) -> dict[str, str]:
    return {guest_name(gpu): links_up(gpu) for gpu in observation.gpus}


def _guest_boxes(observation: FabricObservation) -> Iterator[Box]:
    """One box for each clique that the driver names."""
    members: dict[str, list[GpuObservation]] = {}
    for gpu in observation.gpus:
        members.setdefault(_clique(gpu), []).append(gpu)
    for number, (clique, gpus) in enumerate(members.items()):
        drawn = [DrawnGpu(guest_name(gpu), {}, links_up(gpu)) for gpu in gpus]
        drawn.sort(key=lambda gpu: _natural(gpu.name))
        yield Box(clique, clique[:5], tuple(drawn), number)


def _clique(gpu: GpuObservation) -> str:
    fabric = gpu.fabric
    if isinstance(fabric, Absent) or not fabric.cliques:
        return "no clique"
    return "clique " + ", ".join(dict.fromkeys(str(one.id) for one in fabric.cliques))
