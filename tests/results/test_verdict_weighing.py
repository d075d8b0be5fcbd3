"""How findings become a conclusion and an exit code."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.checks import CHECKS, Category, Need, Scope
from ccverify.findings import Finding, State
from ccverify.results import verdict
from ccverify.results.verdict import Conclusion, Verdict, counts_against

EVERYTHING = dict.fromkeys(Scope, (None,))


def conclude(findings: list[Finding]) -> tuple[tuple[Finding, ...], Conclusion, int]:
    return verdict.conclude(findings, EVERYTHING)


NEEDED = [check for check in CHECKS if check.need in (Need.ALWAYS, Need.UNLESS_WAIVED)]
ALL_PASS = [Finding(check.code, State.PASS) for check in NEEDED]


def with_states(**states: State) -> list[Finding]:
    named = {code.replace("_", "-"): state for code, state in states.items()}
    return [f._replace(state=named.get(f.code, f.state)) for f in ALL_PASS]


def test_all_needed_checks_passed_is_trusted() -> None:
    listed, conclusion, code = conclude(ALL_PASS)
    assert (conclusion, code) == (Conclusion.TRUSTED, 0)
    assert [finding.code for finding in listed] == [check.code for check in NEEDED]


@pytest.mark.parametrize("check", NEEDED, ids=lambda check: check.code)
def test_no_needed_check_may_be_left_out(check: object) -> None:
    rest = [finding for finding in ALL_PASS if finding.code != check.code]  # type: ignore[attr-defined]
    listed, conclusion, code = conclude(rest)
    assert conclusion is Conclusion.INCOMPLETE
    assert code in (5, 6)
    assert len(listed) == len(NEEDED)


@pytest.mark.parametrize("check", NEEDED, ids=lambda check: check.code)
def test_a_failed_check_gives_its_category(check: object) -> None:
    code = check.code  # type: ignore[attr-defined]
    _, conclusion, exit_code = conclude(with_states(**{code.replace("-", "_"): State.FAIL}))
    assert conclusion is Conclusion.UNTRUSTED
    assert exit_code == check.category  # type: ignore[attr-defined]


def test_the_gravest_failure_decides() -> None:
    states = {"TDX_MRTD": State.FAIL, "TDX_QUOTE_SIGNATURE": State.FAIL}
    assert conclude(with_states(**states))[2] == Category.AUTHENTICITY


def test_a_failure_outweighs_missing_collateral() -> None:
    states = {"TDX_MRTD": State.FAIL, "TDX_TCB_INFO_FRESH": State.NOT_CHECKED}
    assert conclude(with_states(**states))[2] == Category.POLICY


def test_a_check_that_always_applies_cannot_be_not_applicable() -> None:
    _, conclusion, code = conclude(with_states(TDX_QUOTE_SIGNATURE=State.NOT_APPLICABLE))
    assert (conclusion, code) == (Conclusion.INCOMPLETE, 6)


def test_advice_never_counts_and_the_unknown_always_does() -> None:
    advice = next(check.code for check in CHECKS if check.need is Need.ADVICE)
    assert not counts_against(Finding(advice, State.FAIL))
    assert counts_against(Finding("NO-SUCH-CHECK", State.NOT_APPLICABLE))
    assert conclude([*ALL_PASS, Finding("NO-SUCH-CHECK", State.FAIL)])[2] == 2


@given(st.lists(st.sampled_from(list(State)), min_size=len(NEEDED), max_size=len(NEEDED)))
def test_trusted_exactly_if_nothing_counts_against(states: list[State]) -> None:
    findings = [f._replace(state=state) for f, state in zip(ALL_PASS, states, strict=True)]
    listed, conclusion, code = conclude(findings)
    clean = not any(map(counts_against, listed))
    assert (conclusion is Conclusion.TRUSTED) == (code == 0) == clean


def test_json_is_the_same_for_the_same_instant() -> None:
    moment = datetime(2026, 6, 15, 12, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    texts = set()
    for at in (moment, elsewhere):
        verdict = Verdict(Conclusion.TRUSTED, 0, at, False, tuple(ALL_PASS), None, {}, {})
        texts.add(verdict.dumps())
    (text,) = texts
    assert json.loads(text)["evaluated_at"] == "2026-06-15T12:00:00Z"
    assert text.endswith("}\n")
