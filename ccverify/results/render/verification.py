"""What became of checking a verdict bundle: as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ccverify.findings import State
from ccverify.results.emitted_check import Change, nodes_of
from ccverify.results.render.failures import STATE_MARKS
from ccverify.results.render.text import Page, Style
from ccverify.results.render.verdict_body import EXIT_MEANINGS, HEADLINES, SIMULATED_NOTICE
from ccverify.results.verdict import Conclusion

__all__ = ["VERIFICATION_SCHEMA", "Rejudged", "Step", "Verification", "render_verification"]

VERIFICATION_SCHEMA: Final = "ccverify.verification/v1"

_TITLES: Final = {
    "EMITTED-SIGNER": "Signed by a verifier that was named",
    "EMITTED-DIGESTS": "Every file in the bundle has its digest",
    "EMITTED-MEMBERS": "Verdict and bundle say the same",
    "EMITTED-REPLAY": "The same inputs give the same verdict again",
    "EMITTED-SIMULATED": "The verdict is about a real machine",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of checking a bundle."""

    code: str
    state: State
    found: str


@dataclass(frozen=True, slots=True)
class Rejudged:
    """The evidence, judged at another time.

    Attributes:
        at: the time, RFC 3339.
        other_collateral: whether it was judged by other collateral than the bundle's.
        verdict: the new verdict, JSON-ready.
        changes: checks that end otherwise than in the signed verdict.
    """

    at: str
    other_collateral: bool
    verdict: dict[str, Any]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of a bundle.

    Attributes:
        exit_code: 3 if a step failed; 6 if nothing could be replayed; otherwise the exit code
            of the verdict, or of the new one.
        steps: in the order in which they were made.
        key_id: RFC 9679 thumbprint of the key that signed, hex; None if it is not known.
        verifier: name and version of the program that judged.
        verdict: the signed verdict; None where the signature does not hold.
        rejudged: the answer at another time, if that was asked for.
    """

    exit_code: int
    steps: tuple[Step, ...]
    key_id: str | None = None
    verifier: str | None = None
    verdict: dict[str, Any] | None = None
    rejudged: Rejudged | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        again = self.rejudged
        return {
            "schema": VERIFICATION_SCHEMA,
            "exit_code": self.exit_code,
            "steps": [
                {"code": s.code, "state": s.state.value, "title": _TITLES[s.code],
                 "found": s.found}
                for s in self.steps
            ],
            "key_id": self.key_id,
            "verifier": self.verifier,
            "verdict": self.verdict,
            "rejudged": again and {
                "at": again.at,
                "other_collateral": again.other_collateral,
                "verdict": again.verdict,
                "changes": [
                    {"node": c.node, "code": c.code, "subject": c.subject, "then": c.then,
                     "now": c.now, "found": c.found}
                    for c in again.changes
                ],
            },
        }  # fmt: skip


def render_verification(done: Verification, *, width: int, color: bool = False) -> str:
    """Return what became of a bundle as text."""
    page = Page(width, color=color)
    failed = [step for step in done.steps if step.state is State.FAIL]
    if failed:
        page.spans(("✗ NOT VERIFIED", Style.BAD), (f"  {_TITLES[failed[0].code]}: no", None))
    elif done.exit_code == 6 and any(s.state is State.NOT_CHECKED for s in done.steps):
        page.spans(("? SIGNED, NOT REPLAYED", Style.WARN))
    else:
        page.spans(("✓ VERIFIED", Style.GOOD), ("  what was signed is what was judged", None))
    if done.key_id:
        page.paragraph(f"signed by key {done.key_id}", indent=2, style=Style.DIM)
        page.paragraph(f"judged by {done.verifier}", indent=2, style=Style.DIM)
    for step in done.steps:
        mark, style = STATE_MARKS[step.state]
        page.blank()
        page.spans((f"{mark} {step.code}", style), (f"  {_TITLES[step.code]}", None))
        page.paragraph(step.found, indent=4)
    if done.verdict is not None:
        _add_verdicts(page, done.verdict, done.rejudged)
    page.blank()
    page.paragraph(f"exit code {done.exit_code}: {EXIT_MEANINGS[done.exit_code]}")
    return page.text()


def _add_verdicts(page: Page, verdict: dict[str, Any], again: Rejudged | None) -> None:
    nodes = nodes_of(verdict) or []
    page.heading("The signed verdict" if again is None else "Then and now")
    if any(node.get("simulated") for node in nodes):
        page.paragraph(SIMULATED_NOTICE, indent=2, style=Style.WARN)
    then = nodes[0].get("evaluated_at", "") if nodes else ""
    rows = [
        ("", then),
        ("verdict", _headline(verdict)),
        ("exit code", str(verdict["exit_code"])),
    ]
    if again is None:
        page.rows(rows, indent=2)
        return
    new = again.verdict
    collateral = "other collateral" if again.other_collateral else "the bundle's collateral"
    sides = (again.at, _headline(new), str(new["exit_code"]))
    page.rows([(*row, side) for row, side in zip(rows, sides, strict=True)], indent=2)
    page.paragraph(f"now: by {collateral}", indent=2, style=Style.DIM)
    if not again.changes:
        page.paragraph("No check ends otherwise.", indent=2)
        return
    page.blank()
    page.rows(_change_rows(again.changes), indent=2, header=("check", "then", "now", "found"))


def _change_rows(changes: Sequence[Change]) -> list[tuple[str, str, str, str]]:
    return [
        (
            " ".join(filter(None, (c.node, c.code, c.subject))),
            c.then or "–",
            c.now or "–",
            c.found or "",
        )
        for c in changes
    ]


def _headline(verdict: dict[str, Any]) -> str:
    known = {conclusion.value: HEADLINES[conclusion][0] for conclusion in Conclusion}
    return known.get(verdict["verdict"], "unknown")
