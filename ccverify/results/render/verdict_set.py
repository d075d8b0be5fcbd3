"""The verdicts of many nodes: one answer, one line for each node, then each node's own verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ccverify.findings import State
from ccverify.results.render.failures import STATE_MARKS, add_all_findings, add_failures
from ccverify.results.render.runs import name_runs
from ccverify.results.render.text import Cell, Page, Style
from ccverify.results.render.verdict_body import (
    EXIT_MEANINGS,
    HEADLINES,
    add_circumstances,
    add_verdict_body,
)
from ccverify.results.verdict import Conclusion, Verdict, counts_against
from ccverify.results.verdict_set import VerdictSet

__all__ = ["render_verdict_set"]

_MARKS = {
    Conclusion.TRUSTED: State.PASS,
    Conclusion.UNTRUSTED: State.FAIL,
    Conclusion.INCOMPLETE: State.NOT_CHECKED,
}
_CODES_NAMED = 3


def render_verdict_set(
    verdicts: VerdictSet, *, width: int, color: bool = False, verbose: bool = False
) -> str:
    """Return the verdicts of all nodes of a response as text.

    Args:
        verdicts: what to show.
        width: columns of the terminal.
        color: whether to use ANSI colours.
        verbose: show every finding of every node, and trusted nodes in full.
    """
    page = Page(width, color=color)
    title, style = HEADLINES[verdicts.conclusion]
    if any(verdict.simulated for verdict in verdicts.verdicts):
        title += " (SIMULATED)"
    page.spans((title, style), (f"  {_tally(verdicts)}", None))
    if verdicts.verdicts:
        add_circumstances(page, verdicts.verdicts[0])
    page.heading(f"Nodes ({len(verdicts.verdicts)})")
    page.rows(
        [_overview(verdict) for verdict in verdicts.verdicts],
        indent=2,
        styles=(None, Style.STRONG),
        header=("", "node", "exit", "holds", "why"),
    )
    _add_unproven(page, verdicts.verdicts)
    against = [finding for finding in verdicts.findings if counts_against(finding)]
    if against:
        page.heading("The nodes together", Style.STRONG)
        against.sort(key=lambda finding: finding.state is not State.FAIL)
        add_failures(page, against, verbose=verbose)
    if verbose:
        add_all_findings(page, verdicts.findings)
    for number, verdict in enumerate(verdicts.verdicts, 1):
        if verbose or not verdict.trusted:
            _add_node(page, verdict, f"{number} of {len(verdicts.verdicts)}", verbose=verbose)
    not_read = verdicts.inputs.get("not_read")
    if not_read:
        page.heading("Not read: evidence this version leaves aside")
        page.rows([("", tuple(map(str, not_read)))], indent=2)
    page.blank()
    page.paragraph(
        f"exit code {verdicts.exit_code}: {EXIT_MEANINGS[verdicts.exit_code]} ({_tally(verdicts)})"
    )
    return page.text()


def _add_unproven(page: Page, verdicts: Sequence[Verdict]) -> None:
    """Add what the bindings leave open, each point once: of trusted nodes, too."""
    bound = [(verdict, verdict.binding) for verdict in verdicts if verdict.binding is not None]
    stale = [verdict.label for verdict, binding in bound if not binding["fresh"]]
    if stale:
        page.heading(
            f"Freshness is not proven of {len(stale)} of {len(verdicts)} nodes: you gave no nonce, "
            "and a nonce that the response states proves none",
            Style.WARN,
        )
    leaves = Counter(text for _, binding in bound for text in binding["leaves"])
    if leaves:
        page.heading("Unproven, whatever passed")
        rows = [
            (f"{count} node{'' if count == 1 else 's'}", text) for text, count in leaves.items()
        ]
        page.rows(rows, indent=2, styles=(Style.DIM,))


def _tally(verdicts: VerdictSet) -> str:
    counts = Counter(verdict.conclusion for verdict in verdicts.verdicts)
    total = len(verdicts.verdicts)
    parts = [f"{counts[kind]} {kind.value}" for kind in Conclusion if counts[kind]]
    return f"{total} node{'' if total == 1 else 's'}: {', '.join(parts) or 'none'}"


def _overview(verdict: Verdict) -> tuple[Cell, ...]:
    mark, _ = STATE_MARKS[_MARKS[verdict.conclusion]]
    holds = [
        text
        for present, text in (
            (verdict.tdx, "TD"),
            (verdict.gpus, _counted(verdict.gpus, "GPU", "s")),
            (verdict.nvswitches, _counted(verdict.nvswitches, "switch", "es")),
        )
        if present
    ]
    return (
        mark,
        verdict.label or "–",
        str(verdict.exit_code),
        " + ".join(holds) or "–",
        _reasons(verdict),
    )


def _counted(devices: Sequence[object], what: str, plural: str) -> str:
    return f"{len(devices)} {what}{plural if len(devices) != 1 else ''}"


def _reasons(verdict: Verdict) -> str:
    """Name the checks that keep a node from being trusted: failed ones, or those not made."""
    if verdict.trusted:
        return "every needed check passed"
    against = verdict.failures()
    failed = [finding for finding in against if finding.state is State.FAIL]
    by_code: dict[str, list[str]] = {}
    for finding in failed or against:
        by_code.setdefault(finding.code, []).append(finding.subject or "")
    texts = []
    for code, subjects in list(by_code.items())[:_CODES_NAMED]:
        names = name_runs(dict.fromkeys(filter(None, subjects)))
        texts.append(f"{code} ({names})" if names else code)
    if len(by_code) > _CODES_NAMED:
        texts.append(f"and {len(by_code) - _CODES_NAMED} more")
    word = "failed" if failed else "not made"
    return f"{word}: {', '.join(texts)}" if texts else EXIT_MEANINGS[verdict.exit_code]


def _add_node(page: Page, verdict: Verdict, number: str, *, verbose: bool) -> None:
    title, style = HEADLINES[verdict.conclusion]
    page.heading(f"{'─' * 4} Node {number}: {verdict.label or '–'} {'─' * 4}", Style.STRONG)
    # Indented: only the answer for all stands at the beginning of a line.
    page.spans((title, style), (f"  {EXIT_MEANINGS[verdict.exit_code]}", None), indent=2)
    add_verdict_body(page, verdict, verbose=verbose, counts=verbose)
