"""The parts of a verdict as text: when and by what it was reached, why, and the facts."""

from __future__ import annotations

from collections.abc import Iterable

from ccverify.checks import Need, find_check
from ccverify.clock_text import utc_text
from ccverify.findings import Finding, State
from ccverify.results.render.claims import SHORTFALLS, claim_rows
from ccverify.results.render.devices import add_devices
from ccverify.results.render.failures import STATE_MARKS, add_all_findings, add_failures
from ccverify.results.render.groups import count_states
from ccverify.results.render.text import Page, Style
from ccverify.results.verdict import Conclusion, Verdict
from ccverify.trust.store import TrustKind

__all__ = [
    "EXIT_MEANINGS",
    "HEADLINES",
    "SIMULATED_NOTICE",
    "add_circumstances",
    "add_verdict_body",
]

HEADLINES = {
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


def add_verdict_body(
    page: Page, verdict: Verdict, *, verbose: bool = False, counts: bool = True
) -> None:
    """Add everything between the answer and the exit code.

    Args:
        page: where to.
        verdict: what to show.
        verbose: every finding.
        counts: how many checks of each group ended how.
    """
    if verdict.exit_code == 10:
        page.blank()
        page.paragraph("The quote is empty. Give the quote the quoting service returned:")
        page.paragraph("raw, hex or base64, from a file or, as -, from standard input.")
        return
    if counts:
        _add_summary(page, verdict)
    add_failures(page, verdict.failures(), verbose=verbose)
    if verbose:
        add_all_findings(page, verdict.findings)
    _add_claims(page, verdict)
    add_devices(page, verdict)


def add_circumstances(page: Page, verdict: Verdict) -> None:
    """Add when, by which policy and under which roots; and that nothing real is proven."""
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
    if codes := _left_aside(verdict.findings):
        page.paragraph(
            f"left aside by the policy, or without meaning here: {', '.join(codes)}",
            indent=2,
            style=Style.DIM,
        )


def _left_aside(findings: Iterable[Finding]) -> list[str]:
    """Codes of checks that a policy can waive and that were not made, each once.

    A verdict over a policy that waives much must not look like one over a policy that does not.
    """
    codes = dict.fromkeys(f.code for f in findings if f.state is State.NOT_APPLICABLE)
    checks = [check for code in codes if (check := find_check(code))]
    return [check.code for check in checks if check.need is Need.UNLESS_WAIVED]


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
