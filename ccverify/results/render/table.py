"""Verdicts for a person: the answer first, then why, then what to do, then the facts."""

from __future__ import annotations

from ccverify.results.render.failures import STATE_MARKS
from ccverify.results.render.text import Page, Style
from ccverify.results.render.verdict_body import (
    EXIT_MEANINGS,
    HEADLINES,
    SIMULATED_NOTICE,
    add_circumstances,
    add_verdict_body,
)
from ccverify.results.render.verdict_set import render_verdict_set
from ccverify.results.verdict import Verdict

__all__ = [
    "EXIT_MEANINGS",
    "SIMULATED_NOTICE",
    "STATE_MARKS",
    "render_verdict",
    "render_verdict_set",
]


def render_verdict(
    verdict: Verdict, *, width: int, color: bool = False, verbose: bool = False
) -> str:
    """Return a verdict as text.

    Args:
        verdict: what to show.
        width: columns of the terminal.
        color: whether to use ANSI colours.
        verbose: show every finding, not only those that count against the machine.
    """
    page = Page(width, color=color)
    title, style = HEADLINES[verdict.conclusion]
    if verdict.simulated:
        title += " (SIMULATED)"
    page.spans((title, style), (f"  {EXIT_MEANINGS[verdict.exit_code]}", None))
    if verdict.label:
        page.paragraph(f"node {verdict.label}", indent=2, style=Style.DIM)
    add_circumstances(page, verdict)
    add_verdict_body(page, verdict, verbose=verbose)
    page.blank()
    page.paragraph(f"exit code {verdict.exit_code}: {EXIT_MEANINGS[verdict.exit_code]}")
    return page.text()
