"""``ccverify fabric diff``: what a fabric's manager changed between two statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from ccverify.cli.fabric_files import FABRIC_FILE, UNVERIFIED, Stated, read_stated
from ccverify.cli.inputs import Inputs
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.errors import UsageError
from ccverify.fabric.statement_diff import (
    Change,
    continuity_gaps,
    continuity_problems,
    diff_statements,
)
from ccverify.fabric.statement_model import StatementGap, modules_text
from ccverify.results.render.json import dump_json
from ccverify.results.render.text import Page, Style

__all__ = ["DIFF_SCHEMA", "diff"]

DIFF_SCHEMA = "ccverify.fabric-diff/v1"
_EXIT_CHANGED, _EXIT_UNKNOWN = 4, 6


@dataclass(frozen=True, slots=True)
class _Difference:
    """Two statements, compared.

    Attributes:
        changes: each with whether it breaks continuity.
        gaps: what cannot be compared.
        modules: of whom it is asked; None: of everybody.
    """

    paths: tuple[str, str]
    stated: tuple[Stated, Stated]
    changes: tuple[tuple[Change, bool], ...]
    gaps: Sequence[StatementGap | str]
    modules: frozenset[int] | None

    @property
    def exit_code(self) -> int:
        """Of the process."""
        if any(matters for _, matters in self.changes):
            return _EXIT_CHANGED
        return _EXIT_UNKNOWN if self.gaps else 0


@click.command(
    epilog="Exit codes: 0 nothing changed that matters, 1 wrong use, 2 malformed, 4 something "
    "changed, 6 not everything that matters could be compared."
)
@click.argument("earlier", metavar="A")
@click.argument("later", metavar="B")
@click.option(
    "--partition",
    type=click.IntRange(min=0),
    metavar="ID",
    help="Ask for the tenant of this partition of A: what concerns other GPUs alone, such as "
    "their routes, does not matter then. Restarts, programs and settings always do.",
)
@format_option
@no_color_option
def diff(
    earlier: str, later: str, partition: int | None, output_format: str, no_color: bool
) -> int:
    """Say what changed from statement A to statement B of one fabric's manager.

    Each is a statement, the bundle of a node that holds one, or a folder of dumps (- is standard
    input). A change matters if it breaks the continuity between evidence taken before and after:
    a restart, another program or setting, another partition, route, key, group or cable. Lines of
    a log, and files whose content nobody reads, are shown and do not matter. What was changed and
    changed back in between cannot be seen.
    """
    inputs = Inputs()
    inputs.plan((earlier, FABRIC_FILE), (later, FABRIC_FILE))
    before, after = read_stated(inputs, earlier), read_stated(inputs, later)
    modules = None if partition is None else _modules(before, partition, earlier)
    found = _compared((earlier, later), before, after, modules)
    if output_format == "json":
        write_stdout(dump_json(_document(found)), as_json=True)
    else:
        width, color = screen(no_color=no_color)
        write_stdout(_page(found, Page(width, color=color)).text())
    return found.exit_code


def _modules(stated: Stated, partition: int, path: str) -> frozenset[int]:
    table = stated.statement.partitions
    entry = table.entry(partition) if table else None
    if entry is None:
        known = ", ".join(str(one.id) for one in table.entries) if table else "no partitions"
        raise UsageError("the earlier statement has no such partition", expected=known,
                         found=str(partition), where=path)  # fmt: skip
    return entry.modules


def _compared(
    paths: tuple[str, str], before: Stated, after: Stated, modules: frozenset[int] | None
) -> _Difference:
    old, new = before.statement, after.statement
    breaking = {(p.where, p.expected, p.found) for p in continuity_problems(old, new, modules)}
    changes = tuple(
        (one, (one.where, f"{one.before}, as before", one.after) in breaking)
        for one in diff_statements(old, new)
    )
    own = [f"{path}: {text}" for path, stated in zip(paths, (before, after), strict=True)
           for text in stated.broken]  # fmt: skip
    if before.created is not None and after.created is not None and after.created < before.created:
        own.append("A is later than B: name the earlier statement first")
    return _Difference(paths, (before, after), changes, [*own, *continuity_gaps(old, new)], modules)


def _document(found: _Difference) -> dict[str, Any]:
    code = found.exit_code
    first, last = (one.to_json(path) for path, one in zip(found.paths, found.stated, strict=True))
    return {
        "schema": DIFF_SCHEMA,
        "verified": False,
        "exit_code": code,
        "continuity": {0: True, _EXIT_CHANGED: False}.get(code),
        "modules": None if found.modules is None else sorted(found.modules),
        "before": first,
        "after": last,
        "changes": [
            {
                "kind": one.kind.value,
                "where": one.where,
                "before": one.before,
                "after": one.after,
                "nodes": sorted(one.nodes),
                "matters": matters,
            }
            for one, matters in found.changes
        ],
        "gaps": [
            {"where": "statements", "reason": gap} if isinstance(gap, str)
            else {"where": gap.where, "reason": gap.reason}
            for gap in found.gaps
        ],
    }  # fmt: skip


def _page(found: _Difference, page: Page) -> Page:
    broken = sum(matters for _, matters in found.changes)
    others = len(found.changes) - broken
    if broken:
        many = f"{broken} changes that matter" if broken > 1 else "1 change that matters"
        title, style = f"CHANGED: {many}", Style.BAD
    elif found.gaps:
        title, style = "NOT KNOWN: not everything that matters could be compared", Style.WARN
    else:
        title, style = "UNCHANGED in everything that matters", Style.GOOD
    more = f", and {others} other{'s' if others > 1 else ''}" if others else ""
    page.spans((title, style), (more, None))
    page.paragraph(UNVERIFIED, style=Style.WARN)
    rows = [
        (name, stated.made, f"{path}{', SIMULATED' if stated.simulated else ''}")
        for name, path, stated in zip(("from", "to"), found.paths, found.stated, strict=True)
    ]
    page.rows(rows, indent=2, styles=(Style.DIM,))
    if found.modules is not None:
        page.paragraph(f"for the tenant of GPUs {modules_text(found.modules)}", indent=2)
    if found.changes:
        page.heading("Changes")
    for change, matters in found.changes:
        mark, look = ("✗", Style.BAD) if matters else ("·", Style.DIM)
        page.spans((f"{mark} ", look), (change.kind.value.ljust(10), Style.STRONG),
                   (change.where, None), indent=2)  # fmt: skip
        concerns = ", ".join(sorted(change.nodes)) or "everybody"
        values = [("before", change.before), ("after", change.after), ("concerns", concerns)]
        page.rows(values, indent=14, styles=(Style.DIM,))
    if found.gaps:
        page.heading("Could not be compared", Style.WARN)
        texts = [g if isinstance(g, str) else f"{g.where}: {g.reason}" for g in found.gaps]
        page.rows([("?", text) for text in texts], indent=2, styles=(Style.WARN,))
    page.blank()
    page.paragraph(f"exit code {found.exit_code}")
    return page
