"""``ccverify demo``: four verdicts on a simulated machine, in a minute.

The evidence is made on the spot by `ccverify.sim` and judged by the very code that judges
real evidence, under the simulator's root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import click

from ccverify.checks import find_check
from ccverify.cli.options import no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.findings import State
from ccverify.policy.document import policy_from_document
from ccverify.policy.model import MUST_STATE, Policy
from ccverify.results.render.table import EXIT_MEANINGS, SIMULATED_NOTICE, STATE_MARKS
from ccverify.results.render.text import Page, Style
from ccverify.results.verdict import Conclusion, Verdict
from ccverify.sim import SimEvidence, SimPlatform
from ccverify.tdx.collateral import parse_collateral
from ccverify.tdx.quote import parse_quote
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.store import TrustKind, TrustStore
from ccverify.verifier import check

__all__ = ["SCENES", "Scene", "demo", "play"]

_NONCE = hashlib.sha256(b"ccverify demo: the nonce the tenant sent").digest()
_OTHER_NONCE = hashlib.sha256(b"ccverify demo: a nonce of another day").digest()


class Scene(NamedTuple):
    """One act of the demonstration.

    Attributes:
        title: what is done.
        story: what it means, in a sentence.
        expected_exit: exit code of the verdict.
        expected_code: a check that must fail, if any.
        platform: the machine.
        nonce: what the tenant expects.
        damage: what happens to the quote on its way.
    """

    title: str
    story: str
    expected_exit: int
    expected_code: str | None
    platform: SimPlatform
    nonce: bytes = _NONCE
    damage: Callable[[SimEvidence], bytes] = lambda evidence: evidence.quote_bytes


def _change_mrtd(evidence: SimEvidence) -> bytes:
    start, _ = evidence.quote.span("body.mr_td")
    quote = bytearray(evidence.quote_bytes)
    quote[start] ^= 0x01
    return bytes(quote)


SCENES = (
    Scene(
        "A genuine quote",
        "The machine answers our nonce, runs the software we expect, and is fully patched.",
        0,
        None,
        SimPlatform(),
    ),
    Scene(
        "The same quote, one byte of MRTD changed",
        "A host pretends that other firmware was measured: the signature no longer fits.",
        3,
        "TDX-QUOTE-SIGNATURE",
        SimPlatform(),
        damage=_change_mrtd,
    ),
    Scene(
        "The same quote, shown again for another nonce",
        "A host replays yesterday's answer: it is genuine, but it does not answer today's "
        "question.",
        3,
        "TDX-REPORT-DATA",
        SimPlatform(),
        nonce=_OTHER_NONCE,
    ),
    Scene(
        "A machine with out-of-date microcode",
        "Everything is signed and fresh, but the platform has published vulnerabilities.",
        4,
        "TDX-TCB-STATUS",
        SimPlatform().with_status("OutOfDate"),
    ),
)


def play(scene: Scene) -> Verdict:
    """Make the evidence of one scene and judge it."""
    evidence = scene.platform.case(report_data=_NONCE.ljust(64, b"\0")).build()
    return check(
        scene.damage(evidence),
        policy=_policy(evidence),
        now=evidence.at,
        nonce=scene.nonce,
        collateral=parse_collateral(evidence.collateral.to_json().encode()),
        trust=TrustStore(TrustKind.SIMULATED, TrustAnchor.load(evidence.root_der)),
    )


def _policy(evidence: SimEvidence) -> Policy:
    report = parse_quote(evidence.quote_bytes).report
    measurements = {name: [getattr(report, name).hex()] for name in MUST_STATE}
    return policy_from_document(
        {
            "schema": "ccverify.policy/v1",
            "name": "demo",
            "tdx": {"measurements": measurements},
        }
    )


@click.command()
@no_color_option
def demo(no_color: bool) -> int:
    """Play four verdicts on a simulated machine: one trusted, three refused.

    Exit code 0 says that all four came out as they should.
    """
    width, color = screen(no_color=no_color)
    page = Page(width, color=color)
    page.paragraph(SIMULATED_NOTICE, style=Style.WARN)
    page.blank()
    page.paragraph(
        "The tenant's policy: exactly this firmware, kernel and application (MRTD and RTMR0 to "
        "RTMR3), every security update installed, and an answer to the tenant's own nonce."
    )
    wrong = 0
    for number, scene in enumerate(SCENES, 1):
        verdict = play(scene)
        _show_scene(page, number, scene, verdict)
        wrong += not _as_expected(scene, verdict)
    page.blank()
    if wrong:
        page.paragraph(
            f"✗ {wrong} of {len(SCENES)} verdicts are not as they should be: do not use this "
            "installation.",
            style=Style.BAD,
        )
    else:
        page.paragraph(f"All {len(SCENES)} verdicts are as they should be.", style=Style.STRONG)
        page.paragraph(
            "Next: `ccverify explain CODE` on any code above; `ccverify check --help` for your "
            "own machine."
        )
    write_stdout(page.text())
    return int(wrong > 0)


def _as_expected(scene: Scene, verdict: Verdict) -> bool:
    failed = {finding.code for finding in verdict.failures()}
    named = scene.expected_code is None or scene.expected_code in failed
    return verdict.simulated and verdict.exit_code == scene.expected_exit and named


def _show_scene(page: Page, number: int, scene: Scene, verdict: Verdict) -> None:
    page.heading(f"{number}. {scene.title}")
    page.paragraph(scene.story, indent=3)
    trusted = verdict.conclusion is Conclusion.TRUSTED
    mark, style = STATE_MARKS[State.PASS if trusted else State.FAIL]
    page.spans(
        (f"{mark} {verdict.conclusion.value.upper()} (SIMULATED)", style),
        (f"  exit code {verdict.exit_code}", None),
        indent=3,
    )
    page.paragraph(EXIT_MEANINGS[verdict.exit_code], indent=5, style=Style.DIM)
    for finding in verdict.failures():
        entry = find_check(finding.code)
        page.spans(
            (finding.code, Style.STRONG),
            (f"  {entry.title}" if entry else "", Style.DIM),
            indent=5,
        )
        page.rows(
            [
                ("expected", _shortened(finding.expected or "–")),
                ("found", tuple(_shortened(finding.found or "–").split("; "))),
            ],
            indent=7,
            styles=(Style.DIM,),
        )


def _shortened(text: str) -> str:
    """Keep the ends of long hex values: in a demonstration nobody compares 48 bytes."""
    words = text.split(" ")
    return " ".join(f"{word[:24]}…{word[-8:]}" if len(word) > 40 else word for word in words)
