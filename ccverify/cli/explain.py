"""``ccverify explain``: what a code means, from the registry of checks."""

from __future__ import annotations

import click

from ccverify.checks import find_check
from ccverify.cli.options import no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.errors import UsageError
from ccverify.results.render.explain import nearest_code, render_check, render_checks

__all__ = ["explain"]


@click.command()
@click.argument("code", required=False)
@no_color_option
def explain(code: str | None, no_color: bool) -> int:
    """Say what the check CODE proves, what it stops and how to fix it; alone, list all."""
    width, color = screen(no_color=no_color)
    if code is None:
        write_stdout(render_checks(width=width, color=color))
        return 0
    check = find_check(code)
    if check is None:
        near = nearest_code(code)
        raise UsageError(
            "there is no such check",
            found=code[:100],
            hint=f"did you mean {near}?" if near else "`ccverify explain` lists all checks",
        )
    write_stdout(render_check(check, width=width, color=color))
    return 0
