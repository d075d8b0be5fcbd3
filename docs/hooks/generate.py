"""Fills the parts of the documentation that the code itself knows: checks, commands, schemas.

A page holds a marker, ``<!-- generated: NAME -->``, on a line of its own.  While mkdocs
builds, the marker is replaced by what the code says at that moment, so these parts cannot
be out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ccverify.checks import CHECKS, Check, Need  # noqa: E402
from ccverify.policy.document import policy_schema  # noqa: E402
from ccverify.results.render.groups import GROUPS, OTHER, group_of  # noqa: E402

HELP_WIDTH = 88
MARKER = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)

_NEEDS = {
    Need.ALWAYS: "always; no policy can waive it",
    Need.UNLESS_WAIVED: "until the policy says, in so many words, that any value will do",
    Need.IF_ASKED: "when the policy or the caller states an expectation",
    Need.ADVICE: "never; it informs, and another check decides",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of one page (an mkdocs event)."""
    return fill(markdown)


def fill(markdown: str) -> str:
    """Return the page with every marker replaced; an unknown marker is a KeyError."""
    return MARKER.sub(lambda match: GENERATORS[match[1]](), markdown)


def checks() -> str:
    """All checks, by group, each with everything the registry says of it."""
    parts = []
    for name in (*(name for name, _ in GROUPS), OTHER):
        members = [check for check in CHECKS if group_of(check.code) == name]
        if members:
            parts += [f"## {name}", *map(_check, members)]
    return "\n\n".join(parts)


def _check(check: Check) -> str:
    outcome = "nothing: it never changes a verdict"
    if check.need is not Need.ADVICE:
        outcome = f"exit code {int(check.category)} when it fails"
    rows = [
        ("Needed", _NEEDS[check.need]),
        ("Applies", check.applies),
        ("Proves", check.proves),
        ("Stops", check.stops),
        ("To fix", check.fix),
        ("Exit code", outcome),
    ]
    lines = [f"{label}\n:   {text}\n" for label, text in rows if text]
    heading = f"### {check.code} {{ #{check.code.lower()} }}"
    return "\n".join((heading, "", f"{check.title}.", "", *lines))


def commands() -> str:
    """The help of every command, from the commands themselves."""
    from ccverify.cli.app import cli

    # A fixed width, so that the page does not depend on the terminal it is built in.
    settings = {**cli.context_settings, "terminal_width": HELP_WIDTH}
    return "\n\n".join(_commands(cli, click.Context(cli, info_name="ccverify", **settings)))


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    path = context.command_path
    depth = path.count(" ")
    heading = "#" * min(2 + max(depth - 1, 0), 4)
    with context:
        yield f"{heading} {path}\n\n```text\n{command.get_help(context).rstrip()}\n```"
        if not isinstance(command, click.Group):
            return
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(child, click.Context(child, parent=context, info_name=name))


def schema_of_policies() -> str:
    """The JSON Schema of policies, as shipped in the package."""
    text = json.dumps(policy_schema(), indent=2, ensure_ascii=False)
    return f"```json\n{text}\n```"


def schema_of_verdicts() -> str:
    """The JSON Schema of verdicts, from the file beside its page."""
    text = (ROOT / "docs" / "spec" / "verdict-v1.schema.json").read_text("utf-8")
    return f"```json\n{text.rstrip()}\n```"


def benchmark_source() -> str:
    """How the benchmark describes itself."""
    text = (ROOT / "benchmarks" / "tdx.py").read_text("utf-8")
    return f"```text\n{text.split(chr(34) * 3)[1].strip()}\n```"


def ear_table() -> str:
    """How findings become vectors, from the table that does it."""
    from ccverify.results.ear_table import AFFIRMED, PARTS

    parts = []
    for kind, part in PARTS.items():
        rows = [
            f"| {f'`{row.claim}`' if row.claim else 'status only'} "
            f"| {AFFIRMED[row.claim] if row.claim else ''} | {row.on_fail} "
            f"| {'yes' if row.needed else 'no'} | {', '.join(f'`{c}`' for c in row.codes)} |"
            for row in part.rows
        ]
        head = "| Claim | Affirmed | On failure | Needed | Checks |\n|---|---|---|---|---|"
        parts.append("\n".join((f"### {kind}", "", head, *rows)))
    return "\n\n".join(parts)


GENERATORS: dict[str, Callable[[], str]] = {
    "benchmark": benchmark_source,
    "checks": checks,
    "commands": commands,
    "ear-table": ear_table,
    "policy-schema": schema_of_policies,
    "verdict-schema": schema_of_verdicts,
}
"""What each marker stands for."""
