"""Which partition of a statement is the tenant's own?

The Fabric Manager's table names GPUs by module id alone since H100, UUID and PCI address being
empty; the guest's driver reads the module id of each of its GPUs.  So a tenant's partition is the
one whose modules are exactly his, no more and no fewer.  Neither side signs the ids: the join is
as good as the statement and the guest's own driver.

Both are said to be the same number (Fabric Manager User Guide 2.3: the physical id is the Module
ID of ``nvidia-smi -q``).  Not confirmed is that NVML's ``moduleId`` counts from 1 on every board:
ids that all differ by one are told as such, and are no match.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.partition_table import PartitionEntry, PartitionTable
from ccverify.fabric.statement_model import (
    Dump,
    FabricStatement,
    Judged,
    StatementCode,
    StatementGap,
    StatementProblem,
    modules_text,
)

__all__ = ["PartitionMatch", "join_partition"]


@dataclass(frozen=True, slots=True)
class PartitionMatch:
    """The tenant's place in the table.

    Attributes:
        entry: the partition of exactly his GPUs, active or not; None if there is none.
        nearest: where there is none, the one that differs least.
        judged: FABRIC-PARTITION-ACTIVE and FABRIC-MODULES: what is wrong, or why neither could
            be judged; empty where all is well.
    """

    entry: PartitionEntry | None = None
    nearest: PartitionEntry | None = None
    judged: tuple[Judged, ...] = ()


def join_partition(
    statement: FabricStatement, modules: Reading[frozenset[int]] | None
) -> PartitionMatch:
    """Find the partition whose GPUs are the tenant's.

    Args:
        statement: whose live table is searched.
        modules: module ids of the GPUs that the tenant was given, as his driver reads them;
            absent or None where it does not say.

    Never raises.
    """
    table = statement.partitions
    if table is None:
        return _unknown(Dump.PARTITIONS.value, "the statement has no live table of partitions")
    if modules is None or isinstance(modules, Absent) or not modules:
        code = f": {modules.code}" if isinstance(modules, Absent) else ""
        return _unknown("GPUs", f"the driver does not say which modules the tenant has{code}")
    same = sorted(
        (entry for entry in table.entries if entry.modules == modules),
        key=lambda entry: (not entry.active, entry.id),
    )
    shared = tuple(_shared(table, modules))
    if same and same[0].active:
        return PartitionMatch(same[0], judged=shared)
    if same:
        found = f"partition {same[0].id} is defined and inactive"
        inactive = StatementProblem(
            StatementCode.PARTITION_ACTIVE,
            f"partition {same[0].id}",
            f"an active partition of GPUs {modules_text(modules)}",
            found,
        )
        return PartitionMatch(same[0], judged=(inactive, *shared))
    nearest = _nearest(table, modules)
    return PartitionMatch(None, nearest, (_no_match(table, modules, nearest), *shared))


def _unknown(where: str, reason: str) -> PartitionMatch:
    codes = (StatementCode.PARTITION_ACTIVE, StatementCode.MODULES)
    return PartitionMatch(judged=tuple(StatementGap(code, where, reason) for code in codes))


def _shared(table: PartitionTable, modules: frozenset[int]) -> list[StatementProblem]:
    """Active partitions in which some of the tenant's GPUs are with other GPUs."""
    return [
        StatementProblem(
            StatementCode.MODULES,
            f"partition {entry.id}",
            f"no active partition with the tenant's and other GPUs ({modules_text(modules)})",
            f"active, with GPUs {modules_text(entry.modules)}",
        )
        for entry in table.active
        if entry.modules & modules and entry.modules - modules
    ]


def _nearest(table: PartitionTable, modules: frozenset[int]) -> PartitionEntry | None:
    return min(
        table.entries,
        key=lambda entry: (len(entry.modules ^ modules), not entry.active, entry.id),
        default=None,
    )


def _no_match(
    table: PartitionTable, modules: frozenset[int], nearest: PartitionEntry | None
) -> StatementProblem:
    if nearest is None:
        found = "a table without partitions"
    else:
        missing, extra = nearest.modules - modules, modules - nearest.modules
        state = "active" if nearest.active else "inactive"
        found = f"nearest is partition {nearest.id} ({state})"
        if missing:
            found += f", which has {modules_text(missing)} too"
        if extra:
            found += f", which lacks {modules_text(extra)}"
    for step in (1, -1):
        moved = frozenset(module + step for module in modules)
        if any(entry.modules == moved for entry in table.entries):
            found += (
                f"; {modules_text(moved)} would be one: the driver may count from another number"
            )
            break
    return StatementProblem(
        StatementCode.MODULES,
        "GPUs",
        f"a partition of exactly the tenant's GPUs, {modules_text(modules)}",
        found,
    )
