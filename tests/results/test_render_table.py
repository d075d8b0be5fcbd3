"""The verdict as a person sees it, and the same verdict as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ccverify
from ccverify.checks import CHECKS
from ccverify.findings import Assurance, Finding, State
from ccverify.policy.model import MUST_STATE
from ccverify.results.render.groups import GROUPS, OTHER, count_states, group_index, group_of
from ccverify.results.render.table import EXIT_MEANINGS, render_verdict
from ccverify.results.render.text import fit_encoding
from ccverify.results.verdict import Verdict
from ccverify.sim import SimEvidence, SimPlatform
from ccverify.sim.defaults import dstack_events
from ccverify.tdx.claims import TdxClaims

NONCE = b"nonce of tests/results/test_render"[:32]


def evidence_of(platform: SimPlatform) -> SimEvidence:
    case = platform.case(report_data=NONCE.ljust(64, b"\0"), runtime_events=dstack_events())
    return case.build()


def judge(evidence: SimEvidence, quote: bytes | None = None, **changes: Any) -> Verdict:
    """Judge as the simulated machine's tenant would; anything may be changed."""
    report = ccverify.parse_quote(evidence.quote_bytes).report
    measurements = {name: [getattr(report, name).hex()] for name in MUST_STATE}
    root = ccverify.TrustAnchor.load(evidence.root_der)
    arguments: dict[str, Any] = {
        "policy": ccverify.policy_from_document(
            {"schema": "ccverify.policy/v1", "name": "t", "tdx": {"measurements": measurements}}
        ),
        "now": evidence.at,
        "nonce": NONCE,
        "collateral": ccverify.parse_collateral(evidence.collateral.to_json().encode()),
        "trust": ccverify.TrustStore(ccverify.TrustKind.SIMULATED, root),
    }
    given_quote = evidence.quote_bytes if quote is None else quote
    log = changes.pop("event_log", None)
    return ccverify.check(ccverify.Evidence(given_quote, log), **(arguments | changes))


def flipped(evidence: SimEvidence) -> bytes:
    start, _ = evidence.quote.span("body.mr_td")
    quote = bytearray(evidence.quote_bytes)
    quote[start] ^= 1
    return bytes(quote)


CURRENT = evidence_of(SimPlatform())
OLD = evidence_of(SimPlatform().with_status("OutOfDate"))

CASES: dict[int, list[Callable[[], Verdict]]] = {
    0: [lambda: judge(CURRENT)],
    2: [lambda: judge(CURRENT, CURRENT.quote_bytes[:700])],
    3: [
        lambda: judge(CURRENT, flipped(CURRENT)),
        lambda: judge(CURRENT, nonce=NONCE[::-1]),
        lambda: judge(CURRENT, trust=ccverify.TrustStore.production()),
        lambda: judge(
            CURRENT,
            trust=ccverify.TrustStore(
                ccverify.TrustKind.INSECURE, ccverify.TrustAnchor.load(CURRENT.root_der)
            ),
        ),
    ],
    4: [lambda: judge(OLD)],
    5: [
        lambda: judge(CURRENT, collateral=ccverify.CollateralPack()),
        lambda: judge(CURRENT, now=CURRENT.at + timedelta(days=90)),
    ],
    6: [lambda: judge(CURRENT, nonce=None)],
    10: [lambda: judge(CURRENT, b"")],
}
MATRIX = [(code, case) for code, cases in CASES.items() for case in cases]


@pytest.mark.parametrize(("code", "case"), MATRIX, ids=[str(code) for code, _ in MATRIX])
def test_exit_code_is_the_same_in_every_format(code: int, case: Callable[[], Verdict]) -> None:
    verdict = case()
    assert verdict.exit_code == code
    assert json.loads(verdict.dumps())["exit_code"] == code
    for verbose in (False, True):
        text = render_verdict(verdict, width=80, verbose=verbose)
        assert text.splitlines()[-1] == f"exit code {code}: {EXIT_MEANINGS[code]}"
        assert (text[0] == "✓") == (code == 0)


@pytest.mark.parametrize(("code", "case"), MATRIX, ids=[str(code) for code, _ in MATRIX])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_fits_and_fails_out_loud(
    code: int, case: Callable[[], Verdict], width: int
) -> None:
    verdict = case()
    text = render_verdict(verdict, width=width)
    assert all(len(line) <= max(width, 60) for line in text.splitlines())
    if code == 10:
        assert "The quote is empty" in text
        return
    for finding in verdict.failures():
        if finding.state is State.FAIL:
            assert f"✗ {finding.code}" in text
            assert finding.where is None or finding.where in text
    assert ("Not checked" in text) == any(
        finding.state is State.NOT_CHECKED for finding in verdict.failures()
    )


def test_verbose_shows_every_finding() -> None:
    verdict = judge(CURRENT, flipped(CURRENT))
    text = render_verdict(verdict, width=100, verbose=True)
    assert all(finding.code in text for finding in verdict.findings)
    brief = render_verdict(verdict, width=100)
    assert "TDX-PCK-VALIDITY" not in brief
    assert len(brief) < len(text)


def test_a_failure_says_expected_found_where_and_what_to_do() -> None:
    lines = render_verdict(judge(OLD), width=120).splitlines()
    start = lines.index("  ✗ TDX-TCB-STATUS  TCB status is accepted")
    assert lines[start + 1 : start + 3] == ["    expected    UpToDate", "    found       OutOfDate"]
    block = "\n".join(lines[start : start + 12])
    assert "4 short of 9 (UpToDate level of 2025-11-12)" in block
    assert "INTEL-SA-99005" in block
    assert "    where       TCB" in block
    assert "    what to do  The operator must patch" in block


def test_checks_without_a_common_reason_are_told_apart() -> None:
    text = render_verdict(judge(CURRENT, CURRENT.quote_bytes[:700]), width=100)
    assert text.count("an earlier step ended the verification") == 1
    assert "more" in text.split("Not checked")[1]


def test_missing_collateral_comes_with_advice_once() -> None:
    text = render_verdict(judge(CURRENT, collateral=ccverify.CollateralPack()), width=120)
    assert text.count("ccverify collateral fetch") == 1
    assert "must update" not in text, "advice for a failed machine"


def test_a_missing_nonce_comes_with_advice() -> None:
    assert "Give --nonce" in render_verdict(judge(CURRENT, nonce=None), width=120)


def test_simulation_is_told_loudly() -> None:
    for case in (CASES[0][0], CASES[3][0]):
        first, *rest = render_verdict(case(), width=120).splitlines()
        assert "(SIMULATED)" in first
        assert any(line.strip().startswith("SIMULATED: ") for line in rest[:3])
    assert "SIMULATED" not in render_verdict(CASES[3][2](), width=120)


def test_an_insecure_root_is_told_loudly() -> None:
    assert "INSECURE TRUST ROOT" in render_verdict(CASES[3][3](), width=120)
    assert "INSECURE" not in render_verdict(CASES[0][0](), width=120)


def test_claims_say_what_they_rest_on() -> None:
    log = CURRENT.dstack_event_log().encode()
    text = render_verdict(judge(CURRENT, event_log=log), width=120)
    claims = text.split("\nClaims\n")[1]
    assert "TCB status       hardware  UpToDate" in claims
    assert "compose_hash     measured" in claims
    assert "application log  measured" in claims
    assert "nothing stands behind" not in claims
    forged = render_verdict(judge(CURRENT, flipped(CURRENT)), width=120).split("\nClaims\n")[1]
    assert "hardware" not in forged
    assert "nothing stands behind" in forged


def test_the_answer_under_other_collateral_is_shown_beside_the_verdict() -> None:
    ahead = replace(CURRENT.collateral, tcb_info=OLD.collateral.tcb_info)
    pack = ccverify.parse_collateral(ahead.to_json().encode())
    text = render_verdict(judge(CURRENT, what_if=pack), width=120)
    assert "  What if        hardware  UpToDate" in text


def test_colours_change_nothing_but_colour() -> None:
    for _, case in MATRIX:
        verdict = case()
        plain = render_verdict(verdict, width=80, verbose=True)
        painted = render_verdict(verdict, width=80, verbose=True, color=True)
        assert "\x1b" not in plain
        assert "\x1b[" in painted
        for style in ("32", "1;31", "33", "1", "2"):
            painted = painted.replace(f"\x1b[{style}m", "")
        assert painted.replace("\x1b[0m", "") == plain


# --- hostile text ---


@settings(max_examples=60)
@given(
    st.lists(
        st.builds(
            Finding,
            st.sampled_from([check.code for check in CHECKS]),
            st.sampled_from(list(State)),
            st.none() | st.text(),
            st.none() | st.text(),
            st.none() | st.text(),
            st.sampled_from(list(Assurance)),
            st.none() | st.sampled_from(["gpu-0", "gpu-1", "gpu-2", "topology"]) | st.text(),
        ),
        max_size=8,
    ),
    st.text(max_size=30),
    st.integers(60, 120),
)
def test_no_finding_reaches_the_terminal_as_it_is(
    findings: list[Finding], name: str, width: int
) -> None:
    base = judge(CURRENT, nonce=None)
    verdict = replace(base, findings=tuple(findings), policy={"name": name, "sha384": "00" * 48})
    for verbose in (False, True):
        first, *rest = render_verdict(verdict, width=width, verbose=verbose).splitlines()
        assert first.startswith("? INCOMPLETE")
        for line in rest:
            assert line.isprintable()
            assert len(line) <= width
            assert not line.startswith(("✓", "✗"))


class _Claims:
    """Claims with hostile values, as no honest log has them."""

    def __init__(self, base: TdxClaims, text: str) -> None:
        log = {"claims": {text: text, "storage_fs": text}, "application_events": (text,) * 20}
        self.values = {**base.values, "event_log": log, "tcb_status": text, "fmspc": text}
        self.assurance = {**base.assurance, "event_log": Assurance.MEASURED}


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "a\n✓ TRUSTED", "\u202ex", "x" * 10**5])
def test_no_claim_reaches_the_terminal_as_it_is(text: str) -> None:
    base = judge(CURRENT)
    assert base.tdx is not None
    verdict = replace(base, tdx=_Claims(base.tdx, text))  # type: ignore[arg-type]
    _, *rest = render_verdict(verdict, width=80).splitlines()
    assert "".join(rest).isprintable()
    assert not any(line.startswith("✓") for line in rest)
    assert sum(map(len, rest)) < 40_000


# --- groups ---


def test_every_check_has_a_group() -> None:
    assert {check.code for check in CHECKS if group_of(check.code) == OTHER} == set()
    assert {group_of(check.code) for check in CHECKS} == {name for name, _ in GROUPS}
    assert group_of("NO-SUCH-CHECK") == OTHER
    assert group_index("NO-SUCH-CHECK") == len(GROUPS)


def test_no_finding_is_lost_in_the_summary() -> None:
    verdict = judge(CURRENT)
    counts = count_states([*verdict.findings, Finding("NO-SUCH-CHECK", State.FAIL)])
    assert sum(count.total() for count in counts.values()) == len(verdict.findings) + 1
    assert counts[OTHER][State.FAIL] == 1


def test_the_table_keeps_its_shape_in_ascii() -> None:
    for _, case in MATRIX:
        text = render_verdict(case(), width=80, verbose=True)
        plain = fit_encoding(text, "ascii")
        assert "\\x" not in plain
        assert "\\u" not in plain
        assert len(plain.splitlines()) == len(text.splitlines())
