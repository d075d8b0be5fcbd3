"""Hold a statement of a fabric's manager against itself and against what is expected of it.

| code | what is wrong | rule in |
| --- | --- | --- |
| FABRIC-STATEMENT | an item cannot be read, or is not the file that the facts say | `statement` |
| FABRIC-MANAGER-VERSION | Fabric Manager is not the driver's, or too old; no NVLSM | `programs` |
| FABRIC-MANAGER-PROGRAM | not running, or not from the file on disk or expected | `programs` |
| FABRIC-MANAGER-CONFIG | others can command it; settings not in force or expected | `settings` |
| FABRIC-MANAGER-MODE | FABRIC_MODE does not part tenants, or is not expected | `settings` |
| FABRIC-RAIL-POLICY | not symmetric, and GPUs of Blackwell sign MPT | `settings` |
| FABRIC-MANAGER-LOG | errors in the log, or none can be in it | `programs` |
| FABRIC-PARTITION-TABLE | partitions contradict each other, definitions or board | here |
| FABRIC-ROUTING | tables lack, contradict each other, or are of an earlier run | `routing` |

Who says all this is not judged here.  The tenant's own partition is the matter of
`ccverify.fabric.statement_join`, and what tables do of `evaluate_statement`.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ccverify.fabric.partition_table import PartitionEntry, PartitionTable
from ccverify.fabric.statement_model import (
    Circumstances,
    Dump,
    FabricStatement,
    Found,
    Generation,
    Judged,
    StatementCode,
    StatementGap,
    StatementProblem,
    modules_text,
)
from ccverify.fabric.statement_programs import (
    appraise_log,
    appraise_programs,
    appraise_table_age,
    appraise_versions,
    generation_of,
)
from ccverify.fabric.statement_settings import (
    appraise_config,
    appraise_mode,
    appraise_rail_policy,
)

__all__ = [
    "Circumstances",
    "Generation",
    "StatementCode",
    "StatementGap",
    "StatementProblem",
    "appraise_statement",
]

_NO_CIRCUMSTANCES = Circumstances()
_LAST_MODULE: Final = 8
"""GPUs of an HGX board; module ids count from 1."""


def appraise_statement(
    statement: FabricStatement, given: Circumstances = _NO_CIRCUMSTANCES
) -> tuple[Judged, ...]:
    """Apply every rule that needs no knowledge of the tenant's partition.

    Args:
        statement: from `ccverify.fabric.statement.read_statement`.
        given: what the tenant knows otherwise, and what a policy expects.

    Returns:
        Problems and gaps, by code; those of the items themselves among them.  Never raises.
    """
    found: list[Judged] = [*statement.problems, *statement.gaps]
    for rule in _RULES:
        found += rule(statement, given)
    order = {code: place for place, code in enumerate(StatementCode)}
    return tuple(sorted(found, key=lambda one: order[one.code]))


def _appraise_board(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-MODULES: a statement about a machine that the tenant's GPUs are not in."""
    board, theirs = statement.generation, given.generation
    if board is not None and theirs is not None and board is not theirs:
        expected = f"a board of {theirs.value} GPUs, as the tenant's are"
        yield StatementProblem(StatementCode.MODULES, "board", expected, statement.board or "")


# --- partitions ----------------------------------------------------------------------------------


def _appraise_partitions(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-PARTITION-TABLE."""
    code, table = StatementCode.PARTITION_TABLE, statement.partitions
    if table is None:
        yield StatementGap(code, Dump.PARTITIONS.value, _missing_table(statement))
    else:
        yield from _overlaps(table)
        known = generation_of(statement, given) is not None
        for entry in table.entries:
            yield from _entry(entry, known)
    yield from _against_definitions(statement)


def _missing_table(statement: FabricStatement) -> str:
    if Dump.PARTITIONS.value in statement.digests:
        return "the live table of partitions cannot be read"
    if statement.config is not None and not statement.config.fabric_mode:
        return "FABRIC_MODE 0 has no partitions"
    return "the statement has no live table of partitions"


def _overlaps(table: PartitionTable) -> Found:
    owner: dict[int, int] = {}
    for entry in table.active:
        for module in sorted(entry.modules):
            first = owner.setdefault(module, entry.id)
            if first != entry.id:
                found = f"active partitions {first} and {entry.id}"
                yield StatementProblem(
                    StatementCode.PARTITION_TABLE, f"GPU {module}", "one active partition", found
                )


def _entry(entry: PartitionEntry, board_known: bool) -> Found:
    code, where = StatementCode.PARTITION_TABLE, f"partition {entry.id}"
    strangers = frozenset(one for one in entry.modules if not 1 <= one <= _LAST_MODULE)
    if board_known and strangers:
        expected = f"modules 1 to {_LAST_MODULE}, as the board has them"
        yield StatementProblem(code, where, expected, modules_text(strangers))
    if not entry.active or len(entry.modules) < 2:
        return
    for gpu in entry.gpus:
        if gpu.links_available < gpu.links_max:
            found = f"{gpu.links_available} of {gpu.links_max}"
            yield StatementProblem(code, f"{where}, GPU {gpu.module}", "all NVLinks", found)


def _against_definitions(statement: FabricStatement) -> Found:
    code, live, defined = StatementCode.PARTITION_TABLE, statement.partitions, statement.definitions
    if defined is None:
        if statement.config is not None and statement.config.partition_file:
            where = Dump.DEFINITIONS.value
            there = where in statement.digests
            reason = "cannot be read" if there else "is not in the statement"
            yield StatementGap(code, where, f"{statement.config.partition_file} {reason}")
        return
    if live is None:
        return
    ours, theirs = _modules(live), _modules(defined)
    for number in sorted(ours.keys() | theirs.keys()):
        if ours.get(number) != theirs.get(number):
            expected = f"{_defined(theirs.get(number))}, by its definition"
            found = f"{_defined(ours.get(number))}, in the live table"
            yield StatementProblem(code, f"partition {number}", expected, found)


def _modules(table: PartitionTable) -> dict[int, frozenset[int]]:
    return {entry.id: entry.modules for entry in table.entries}


def _defined(modules: frozenset[int] | None) -> str:
    return "no such partition" if modules is None else f"GPUs {modules_text(modules)}"


_Rule = Callable[[FabricStatement, Circumstances], Found]
_RULES: Final[tuple[_Rule, ...]] = (
    appraise_versions,
    appraise_programs,
    appraise_config,
    appraise_mode,
    appraise_rail_policy,
    appraise_log,
    _appraise_partitions,
    _appraise_board,
    appraise_table_age,
)
