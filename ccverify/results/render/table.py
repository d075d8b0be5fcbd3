"""A verdict for a person: the answer first, then why, then what to do, then the facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ccverify.checks import Category, Need, find_check
from ccverify.clock_text import utc_text
from ccverify.findings import Finding, State
from ccverify.results.render.claims import SHORTFALLS, claim_rows
from ccverify.results.render.groups import count_states, group_index, group_of
from ccverify.results.render.text import Cell, Page, Style
from ccverify.results.verdict import Conclusion, Verdict
from ccverify.trust.store import TrustKind

__all__ = ["EXIT_MEANINGS", "SIMULATED_NOTICE", "STATE_MARKS", "add_failures", "render_verdict"]

STATE_MARKS: dict[State, tuple[str, Style]] = {
    State.PASS: ("✓", Style.GOOD),
    State.FAIL: ("✗", Style.BAD),
    State.NOT_CHECKED: ("?", Style.WARN),
    State.NOT_APPLICABLE: ("–", Style.DIM),
}
_HEADLINES = {
    Conclusion.TRUSTED: ("✓ TRUSTED", Style.GOOD),
    Conclusion.UNTRUSTED: ("✗ UNTRUSTED", Style.BAD),
    Conclusion.INCOMPLETE: ("? INCOMPLETE", Style.WARN),
}
EXIT_MEANINGS = {
    0: "every needed check passed",
    1: "wrong use, or an internal error: there is no verdict",
    2: "the evidence is malformed",
    3: "the evidence is not authentic, or not for this request",
    4: "the policy is not met",
    5: "collateral is missing, expired or unusable",
    6: "a needed check could not be made",
    10: "there is nothing to check",
}
"""What each exit code means, the same in every output format (docs/verdicts.md)."""

SIMULATED_NOTICE = (
    "SIMULATED: made by ccverify's simulator under its own root. "
    "It proves nothing about any real machine."
)
_INSECURE_NOTICE = (
    "INSECURE TRUST ROOT: the root certificate came from the command line, so this verdict "
    "can never be trusted."
)
_FETCH = "Fetch collateral with `ccverify collateral fetch`, and give it with --collateral."
_CODES_NAMED = 3
_ENUMERATION = 90
"""A value longer than this is shown item by item."""


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
    _add_headline(page, verdict)
    if verdict.exit_code == 10:
        page.blank()
        page.paragraph("The quote is empty. Give the quote the quoting service returned:")
        page.paragraph("raw, hex or base64, from a file or, as -, from standard input.")
    else:
        _add_summary(page, verdict)
        add_failures(page, verdict, verbose=verbose)
        if verbose:
            _add_all(page, verdict)
        _add_claims(page, verdict)
    page.blank()
    page.paragraph(f"exit code {verdict.exit_code}: {EXIT_MEANINGS[verdict.exit_code]}")
    return page.text()


def _add_headline(page: Page, verdict: Verdict) -> None:
    title, style = _HEADLINES[verdict.conclusion]
    if verdict.simulated:
        title += " (SIMULATED)"
    page.spans((title, style), (f"  {EXIT_MEANINGS[verdict.exit_code]}", None))
    kind = verdict.inputs["trust_store"]["kind"]
    name = verdict.policy["name"] or "without a name"
    page.paragraph(
        f"at {utc_text(verdict.evaluated_at)}, by policy {name} "
        f"(sha384 {verdict.policy['sha384'][:16]}…), {kind} trust roots",
        indent=2,
        style=Style.DIM,
    )
    if verdict.simulated:
        page.paragraph(SIMULATED_NOTICE, indent=2, style=Style.WARN)
    if kind == TrustKind.INSECURE.value:
        page.paragraph(_INSECURE_NOTICE, indent=2, style=Style.BAD)


def _add_summary(page: Page, verdict: Verdict) -> None:
    counts = count_states(verdict.findings)
    page.blank()
    name_width = max(map(len, counts), default=0) + 2
    header: list[tuple[str, Style | None]] = [("Checks".ljust(name_width), Style.STRONG)]
    header += [(f"{mark:>4}", style) for mark, style in STATE_MARKS.values()]
    page.spans(*header)
    for name, count in counts.items():
        cells: list[tuple[str, Style | None]] = [(f"  {name}".ljust(name_width + 2)[:-2], None)]
        for state, (_, style) in STATE_MARKS.items():
            number = count[state]
            cells.append((f"{number:>4}" if number else "   ·", style if number else Style.DIM))
        page.spans(*cells)


def add_failures(page: Page, verdict: Verdict, *, verbose: bool = False) -> None:
    """Add the findings that keep a verdict from being trusted: failed, then not checked.

    Checks that could not be made for one and the same reason are told together, since the
    reason is mostly an earlier failure.
    """
    against = verdict.failures()
    failed = [finding for finding in against if finding.state is State.FAIL]
    if failed:
        page.heading(f"Failed ({len(failed)})", Style.BAD)
        for finding in failed:
            _add_finding(page, finding)
    by_reason: dict[str, list[Finding]] = {}
    for finding in against[len(failed) :]:
        by_reason.setdefault(finding.found or "no reason was given", []).append(finding)
    if by_reason:
        page.heading(f"Not checked ({len(against) - len(failed)})", Style.WARN)
        advised: set[str] = set()
        for reason, findings in by_reason.items():
            # Behind a failure, the missing checks are its consequence: the advice is there.
            advice = () if failed else _new_advice(findings, advised)
            _add_unchecked(page, reason, findings, advice, verbose=verbose)


def _add_finding(page: Page, finding: Finding) -> None:
    mark, style = STATE_MARKS[finding.state]
    check = find_check(finding.code)
    title = check.title if check else "this version does not know this check"
    page.spans((f"{mark} ", style), (finding.code, Style.STRONG), (f"  {title}", None), indent=2)
    rows: list[tuple[str, Cell]] = [
        ("expected", finding.expected or ""),
        ("found", _items(finding.found or "")),
        ("where", finding.where or ""),
        ("what to do", check.fix if check else "Update ccverify."),
    ]
    page.rows([row for row in rows if row[1]], indent=4, styles=(Style.DIM,))


def _items(found: str) -> Cell:
    """Part a long enumeration, such as TCB shortfalls; see `ccverify.policy.judge`."""
    items = tuple(found.split("; "))
    return items if len(found) > _ENUMERATION and len(items) > 1 else found


def _add_unchecked(
    page: Page, reason: str, findings: Sequence[Finding], advice: Iterable[str], *, verbose: bool
) -> None:
    mark, style = STATE_MARKS[State.NOT_CHECKED]
    codes = [finding.code for finding in findings]
    shown = ", ".join(codes if verbose else codes[:_CODES_NAMED])
    if len(codes) > _CODES_NAMED and not verbose:
        shown += f" and {len(codes) - _CODES_NAMED} more"
    page.rows([(mark, reason)], indent=2, styles=(style,))
    label = "checks" if len(codes) > 1 else "check"
    rows = [(label, shown), *(("what to do", text) for text in advice)]
    page.rows(rows, indent=5, styles=(Style.DIM,))


def _new_advice(findings: Iterable[Finding], advised: set[str]) -> list[str]:
    """Choose advice on checks that could not be made, each piece once.

    What is missing then is collateral, or a word of the caller or the policy.  The advice of
    other checks is meant for a machine that failed them.
    """
    fresh = []
    for finding in findings:
        check = find_check(finding.code)
        if check is None or check.need is Need.ALWAYS:
            continue
        if check.category is not Category.COLLATERAL and check.fix not in advised:
            fresh.append(check.fix)
            advised.add(check.fix)
    if _FETCH not in advised and any(map(_is_collateral, findings)):
        fresh.append(_FETCH)
        advised.add(_FETCH)
    return fresh


def _is_collateral(finding: Finding) -> bool:
    check = find_check(finding.code)
    return check is not None and check.category is Category.COLLATERAL


def _add_all(page: Page, verdict: Verdict) -> None:
    page.heading(f"All findings ({len(verdict.findings)})")
    code_width = max((len(finding.code) for finding in verdict.findings), default=0)
    group = ""
    for finding in sorted(verdict.findings, key=lambda finding: group_index(finding.code)):
        if group_of(finding.code) != group:
            group = group_of(finding.code)
            page.paragraph(group, indent=2, style=Style.STRONG)
        mark, style = STATE_MARKS[finding.state]
        text = finding.found or "as expected"
        if finding.where:
            text += f", at {finding.where}"
        if finding.state is State.PASS:
            text += f" [{finding.assurance.value}]"
        row = (mark, finding.code.ljust(code_width), text)
        page.rows([row], indent=4, styles=(style, None, Style.DIM))


def _add_claims(page: Page, verdict: Verdict) -> None:
    if verdict.tdx is None:
        return
    rows = claim_rows(verdict.tdx)
    if any(f.code == "TDX-TCB-STATUS" and f.state is State.FAIL for f in verdict.findings):
        # The shortfalls are part of that finding already.
        rows = [row for row in rows if row[0] != SHORTFALLS]
    page.heading("Claims")
    page.rows(rows, indent=2, styles=(None, Style.DIM), header=("", "rests on", "value"))
    if any(level == "none" for _, level, _ in rows):
        page.paragraph(
            "none: nothing stands behind this value; anybody could have written it.",
            indent=2,
            style=Style.WARN,
        )
