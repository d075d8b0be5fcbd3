"""What changed between two statements of one fabric's manager.

A statement is of one moment.  Two of them, before and after the tenant's own evidence was made,
show whether the manager was restarted or replaced in between, and whether what concerns the
tenant stayed as it was.  What was changed and changed back in between is not seen.  The cost is
linear in both statements; of each kind at most `MAX_CHANGES` are told one by one.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ccverify.clock_text import unix_text
from ccverify.fabric.manager import FABRIC_MANAGER, NOT_RUNNING, NVLSM, Process, Program
from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.partition_table import PartitionEntry, PartitionTable
from ccverify.fabric.statement_diff_model import Change, ChangeKind
from ccverify.fabric.statement_diff_routing import link_changes, routing_changes
from ccverify.fabric.statement_model import (
    CLOCK_TOLERANCE,
    Dump,
    FabricStatement,
    StatementCode,
    StatementGap,
    StatementProblem,
    modules_text,
)

__all__ = [
    "MAX_CHANGES",
    "Change",
    "ChangeKind",
    "continuity_gaps",
    "continuity_problems",
    "diff_statements",
]

MAX_CHANGES: Final = 64
"""Of each kind; the last one then stands for all others."""
_ALWAYS: Final = frozenset(
    {
        ChangeKind.REBOOT,
        ChangeKind.RESTART,
        ChangeKind.VERSION,
        ChangeKind.BINARY,
        ChangeKind.CONFIG,
    }
)
"""Kinds that concern every tenant."""
_NOT_THERE: Final = "not there"


def diff_statements(before: FabricStatement, after: FabricStatement) -> tuple[Change, ...]:
    """Say what changed, by kind.

    Args:
        before: the earlier statement; which one is, only their caller knows.
        after: the later one.

    Never raises.
    """
    found: dict[ChangeKind, list[Change]] = {kind: [] for kind in ChangeKind}
    for change in _changes(before, after):
        found[change.kind].append(change)
    return tuple(change for changes in found.values() for change in _bounded(changes))


def continuity_problems(
    before: FabricStatement, after: FabricStatement, modules: frozenset[int] | None = None
) -> tuple[StatementProblem, ...]:
    """Say what of two statements breaks continuity for a tenant: FABRIC-CONTINUITY.

    Restarts, programs and settings concern everybody.  Partitions, routes, keys, groups and
    cables of others may change, so of those only what touches the tenant's GPUs counts.

    Args:
        before: the earlier statement.
        after: the later one.
        modules: of the tenant's GPUs; None: every change counts.

    What is not in both statements cannot be compared: see `continuity_gaps`.  Never raises.
    """
    code = StatementCode.CONTINUITY
    own = None if modules is None else {f"GPU{module}" for module in modules}
    return tuple(
        StatementProblem(code, change.where, f"{change.before}, as before", change.after)
        for change in diff_statements(before, after)
        if change.kind not in (ChangeKind.LOG, ChangeKind.ITEM)
        and (change.kind in _ALWAYS or own is None or not change.nodes or change.nodes & own)
    )


def continuity_gaps(before: FabricStatement, after: FabricStatement) -> tuple[StatementGap, ...]:
    """Say what of continuity cannot be judged, because a statement lacks it."""
    code = StatementCode.CONTINUITY
    return tuple(StatementGap(code, where, why) for where, why in _unknown(before, after))


def _bounded(changes: list[Change]) -> list[Change]:
    if len(changes) <= MAX_CHANGES:
        return changes
    told, rest = changes[: MAX_CHANGES - 1], changes[MAX_CHANGES - 1 :]
    everybody = any(not change.nodes for change in rest)
    nodes: frozenset[str] = frozenset()
    nodes = nodes if everybody else nodes.union(*(change.nodes for change in rest))
    where = f"{rest[0].where} and {len(rest) - 1} further places"
    return [*told, Change(rest[0].kind, where, rest[0].before, rest[0].after, nodes)]


def _unknown(before: FabricStatement, after: FabricStatement) -> Iterator[tuple[str, str]]:
    """What cannot be compared, because one of the statements lacks it."""
    for statement, which in ((before, "earlier"), (after, "later")):
        facts = statement.facts
        if isinstance(facts.boot_id, Absent):
            yield "boot id", f"the {which} statement has none: {facts.boot_id.code}"
        program = facts.program(FABRIC_MANAGER)
        process = Absent("NOT_FOUND") if program is None else program.process
        if isinstance(process, Absent):
            yield FABRIC_MANAGER, f"the {which} statement has no process: {process.code}"
        if statement.partitions is None:
            yield Dump.PARTITIONS.value, f"the {which} statement has no table of partitions"
    if (before.routing is None) != (after.routing is None):
        yield "routing", "only one of the statements has tables"


def _changes(before: FabricStatement, after: FabricStatement) -> Iterator[Change]:
    yield from _host(before, after)
    for name in (FABRIC_MANAGER, NVLSM):
        yield from _program(name, before.facts.program(name), after.facts.program(name))
    yield from _settings(before, after)
    yield from _partitions("partition", before.partitions, after.partitions)
    yield from _partitions("definition of partition", before.definitions, after.definitions)
    yield from routing_changes(before, after)
    yield from link_changes(before, after)
    yield from _items(before, after)
    yield from _log(before, after)


# --- host and programs ---------------------------------------------------------------------------


def _host(before: FabricStatement, after: FabricStatement) -> Iterator[Change]:
    old, new = before.facts, after.facts
    if isinstance(old.boot_id, str) and isinstance(new.boot_id, str):
        if old.boot_id != new.boot_id:
            yield Change(ChangeKind.REBOOT, "host", f"boot {old.boot_id}", f"boot {new.boot_id}")
    elif (
        isinstance(old.booted, int)
        and isinstance(new.booted, int)
        and abs(old.booted - new.booted) > CLOCK_TOLERANCE
    ):
        times = f"booted at {unix_text(old.booted)}", f"booted at {unix_text(new.booted)}"
        yield Change(ChangeKind.REBOOT, "host", *times)
    for where, was, now in (
        ("driver", old.driver, new.driver),
        ("kernel", old.kernel, new.kernel),
    ):
        yield from _reading(ChangeKind.VERSION, where, was, now)


def _program(name: str, old: Program | None, new: Program | None) -> Iterator[Change]:
    if old is None or new is None:
        if old is not new:
            was, now = ("not installed" if one is None else "installed" for one in (old, new))
            yield Change(ChangeKind.BINARY, name, was, now)
        return
    yield from _reading(ChangeKind.VERSION, name, old.version, new.version)
    if old.path != new.path:
        yield Change(ChangeKind.BINARY, name, old.path, new.path)
    yield from _reading(ChangeKind.BINARY, f"{name} on disk", old.sha384, new.sha384)
    first, last = old.process, new.process
    if isinstance(first, Process) and isinstance(last, Process):
        yield from _reading(ChangeKind.BINARY, f"{name} running", first.sha384, last.sha384)
        yield from _arguments(name, first, last)
    if not _same_process(first, last):
        yield Change(ChangeKind.RESTART, name, _process_text(first), _process_text(last))


def _arguments(name: str, old: Process, new: Process) -> Iterator[Change]:
    was, now = old.arguments, new.arguments
    if not isinstance(was, Absent) and not isinstance(now, Absent) and was != now:
        yield Change(ChangeKind.CONFIG, f"{name} command line", " ".join(was), " ".join(now))


def _same_process(old: Reading[Process], new: Reading[Process]) -> bool:
    if isinstance(old, Absent) or isinstance(new, Absent):
        # A process that could not be read may be the same one; one that is not there is not.
        codes = [one.code for one in (old, new) if isinstance(one, Absent)]
        return len(codes) == 2 or codes != [NOT_RUNNING]
    counted = isinstance(old.restarts, int) and isinstance(new.restarts, int)
    if counted and old.restarts != new.restarts:
        return False
    # The start is worked out from the boot time, which moves with the clock.
    return old.pid == new.pid and abs(old.started - new.started) <= CLOCK_TOLERANCE


def _process_text(process: Reading[Process]) -> str:
    if isinstance(process, Absent):
        return f"no process: {process.code}"
    restarts = "" if isinstance(process.restarts, Absent) else f", restarts: {process.restarts}"
    return f"process {process.pid} since {unix_text(process.started)}{restarts}"


def _reading(
    kind: ChangeKind, where: str, was: Reading[str], now: Reading[str]
) -> Iterator[Change]:
    """A value that is stated twice; one that is stated once cannot be compared."""
    if not isinstance(was, Absent) and not isinstance(now, Absent) and was != now:
        yield Change(kind, where, was, now)


# --- settings and partitions ---------------------------------------------------------------------


def _settings(before: FabricStatement, after: FabricStatement) -> Iterator[Change]:
    for prefix, old, new in (
        ("", before.config, after.config),
        ("nvlsm ", before.nvlsm_config, after.nvlsm_config),
    ):
        if old is None or new is None:
            continue
        was, now = old.settings(), new.settings()
        for key in sorted(was.keys() | now.keys()):
            if was.get(key) != now.get(key):
                values = was.get(key, "not set"), now.get(key, "not set")
                yield Change(ChangeKind.CONFIG, f"{prefix}{key}", *values)


def _partitions(
    what: str, old: PartitionTable | None, new: PartitionTable | None
) -> Iterator[Change]:
    if old is None or new is None:
        return
    was = {entry.id: entry for entry in old.entries}
    now = {entry.id: entry for entry in new.entries}
    for number in sorted(was.keys() | now.keys()):
        one, other = was.get(number), now.get(number)
        if one == other:
            continue
        modules = (one.modules if one else frozenset()) | (other.modules if other else frozenset())
        nodes = frozenset(f"GPU{module}" for module in modules)
        yield Change(
            ChangeKind.PARTITION, f"{what} {number}", _entry_text(one), _entry_text(other), nodes
        )


def _entry_text(entry: PartitionEntry | None) -> str:
    if entry is None:
        return _NOT_THERE
    state = {None: "", True: "active, ", False: "inactive, "}[entry.active]
    links = ", ".join(f"{gpu.links_available}/{gpu.links_max}" for gpu in entry.gpus)
    shown = f", NVLinks {links}" if links else ""
    return f"{state}GPUs {modules_text(entry.modules)}{shown}"


# --- items and log -------------------------------------------------------------------------------


def _items(before: FabricStatement, after: FabricStatement) -> Iterator[Change]:
    old, new = before.digests, after.digests
    for label in sorted(old.keys() ^ new.keys()):
        was, now = ("there" if label in one else _NOT_THERE for one in (old, new))
        yield Change(ChangeKind.ITEM, label, was, now)
    for label in _read_once(before, after):
        if old.get(label) != new.get(label) and label in old and label in new:
            yield Change(ChangeKind.ITEM, label, _short(old, label), _short(new, label))


def _read_once(before: FabricStatement, after: FabricStatement) -> Iterable[str]:
    """Items that could be compared by their bytes alone."""
    yield Dump.STATE.value
    for dump, name in (
        (Dump.CONFIG, "config"),
        (Dump.NVLSM_CONFIG, "nvlsm_config"),
        (Dump.PARTITIONS, "partitions"),
        (Dump.DEFINITIONS, "definitions"),
        (Dump.SUBNET, "links"),
    ):
        if getattr(before, name) is None or getattr(after, name) is None:
            yield dump.value


def _short(digests: Mapping[str, str], label: str) -> str:
    return f"SHA-384 {digests[label][:16]}…"


def _log(before: FabricStatement, after: FabricStatement) -> Iterator[Change]:
    old, new = before.facts.log, after.facts.log
    if isinstance(old, Absent) or isinstance(new, Absent):
        return
    if old.errors != new.errors:
        yield Change(ChangeKind.LOG, "errors", str(old.errors), str(new.errors))
    if new.size < old.size:
        yield Change(ChangeKind.LOG, "size", f"{old.size} bytes", f"{new.size} bytes")
