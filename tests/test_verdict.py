"""Verdicts: how findings are weighed, which exit code comes of them, what is on record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.judging import DEFAULT, judge_sim

from ccverify.checks import CHECKS, Category, Check, Need, Scope
from ccverify.findings import Finding, State
from ccverify.results.verdict import Conclusion, conclude, counts_against
from ccverify.sim import SimPlatform

P, F, N, A = State.PASS, State.FAIL, State.NOT_CHECKED, State.NOT_APPLICABLE
ALL_PASS = [Finding(entry.code, P) for entry in CHECKS]
EVERYTHING = dict.fromkeys(Scope, (None,))
EACH = pytest.mark.parametrize("entry", CHECKS, ids=lambda entry: entry.code)


def _with(code: str, state: State) -> list[Finding]:
    return [Finding(code, state) if f.code == code else f for f in ALL_PASS]


def _concluded(findings: list[Finding]) -> tuple[Conclusion, int]:
    _, conclusion, code = conclude(findings, EVERYTHING)
    return conclusion, code


def test_all_passed_is_trusted() -> None:
    assert _concluded(ALL_PASS) == (Conclusion.TRUSTED, 0)


@EACH
def test_one_failure_decides(entry: Check) -> None:
    expected = (
        (Conclusion.TRUSTED, 0)
        if entry.need is Need.ADVICE
        else (Conclusion.UNTRUSTED, int(entry.category))
    )
    assert _concluded(_with(entry.code, F)) == expected


@EACH
def test_one_unchecked_makes_it_incomplete(entry: Check) -> None:
    code = 5 if entry.category is Category.COLLATERAL else 6
    expected = (Conclusion.TRUSTED, 0) if entry.need is Need.ADVICE else (
        Conclusion.INCOMPLETE,
        code,
    )  # fmt: skip
    assert _concluded(_with(entry.code, N)) == expected


@EACH
def test_not_applicable_counts_where_the_registry_knows_no_such_case(entry: Check) -> None:
    allowed = entry.need is Need.ADVICE or bool(entry.applies)
    conclusion, _ = _concluded(_with(entry.code, A))
    assert conclusion is (Conclusion.TRUSTED if allowed else Conclusion.INCOMPLETE)


@EACH
def test_a_missing_finding_counts_like_an_unchecked_one(entry: Check) -> None:
    """A programming error never widens what is trusted."""
    findings = [finding for finding in ALL_PASS if finding.code != entry.code]
    listed, conclusion, _ = conclude(findings, EVERYTHING)
    needed = entry.need in (Need.ALWAYS, Need.UNLESS_WAIVED)
    assert conclusion is (Conclusion.INCOMPLETE if needed else Conclusion.TRUSTED)
    added = [finding for finding in listed if finding.code == entry.code]
    assert [finding.state for finding in added] == ([N] if needed else [])


def test_nothing_found_is_not_trusted() -> None:
    assert _concluded([]) == (Conclusion.INCOMPLETE, 5)


@pytest.mark.parametrize("state", [F, N, A])
def test_an_unknown_code_counts_against(state: State) -> None:
    assert _concluded([*ALL_PASS, Finding("TDX-NOVEL", state)])[0] is not Conclusion.TRUSTED


def test_a_second_finding_of_a_code_counts_too() -> None:
    assert _concluded([*ALL_PASS, Finding("TDX-MRTD", F)]) == (Conclusion.UNTRUSTED, 4)


# The lower the code, the closer to the root of the matter; a failure outweighs a gap.
PRECEDENCE = (
    (("TDX-QUOTE-FORMAT", F), 2),
    (("TDX-QUOTE-SIGNATURE", F), 3),
    (("TDX-MRTD", F), 4),
    (("TDX-TCB-INFO-FRESH", F), 5),
    (("TDX-TCB-INFO-FRESH", N), 5),
    (("TDX-MRTD", N), 6),
)


@pytest.mark.parametrize("first", range(len(PRECEDENCE)))
@pytest.mark.parametrize("second", range(len(PRECEDENCE)))
def test_precedence_of_exit_codes(first: int, second: int) -> None:
    findings = list(ALL_PASS)
    for (code, state), _ in (PRECEDENCE[first], PRECEDENCE[second]):
        findings = [f for f in findings if f.code != code or f.state is not P]
        findings.append(Finding(code, state))
    assert _concluded(findings)[1] == PRECEDENCE[min(first, second)][1]


def test_findings_are_listed_in_the_order_of_the_registry() -> None:
    listed, *_ = conclude([Finding("TDX-NOVEL", P), *reversed(ALL_PASS)], EVERYTHING)
    assert [finding.code for finding in listed] == [e.code for e in CHECKS] + ["TDX-NOVEL"]


@given(st.dictionaries(st.sampled_from([e.code for e in CHECKS]), st.sampled_from(list(State))))
@settings(deadline=None, max_examples=300)
def test_trusted_means_that_nothing_counts_against(states: dict[str, State]) -> None:
    findings = [Finding(code, state) for code, state in states.items()]
    listed, conclusion, code = conclude(findings, EVERYTHING)
    against = [finding for finding in listed if counts_against(finding)]
    assert (conclusion is Conclusion.TRUSTED) == (not against) == (code == 0)
    assert (conclusion is Conclusion.UNTRUSTED) == any(f.state is F for f in against)
    assert code in (0, 2, 3, 4, 5, 6)


# --- the record ---------------------------------------------------------------------------------

EVIDENCE = SimPlatform().evidence(version=5, body_type=3)


def test_failures_come_first_in_the_list_of_failures() -> None:
    verdict = judge_sim(SimPlatform().with_status("OutOfDate").evidence(), nonce=b"x" * 16)
    states = [finding.state for finding in verdict.failures()]
    assert states == sorted(states, key=lambda state: state is not F)
    assert verdict.failures()
    assert not judge_sim(EVIDENCE).failures()


def test_the_record_is_json_in_a_fixed_order() -> None:
    verdict = judge_sim(EVIDENCE)
    document = json.loads(verdict.dumps())
    assert list(document) == [
        "schema", "verdict", "exit_code", "simulated", "evaluated_at", "node", "policy", "findings",
        "claims", "inputs",
    ]  # fmt: skip
    assert document["schema"] == "ccverify.verdict/v1"
    assert (document["verdict"], document["exit_code"]) == ("trusted", 0)
    assert document["simulated"] is True
    assert document["evaluated_at"] == "2026-06-15T12:00:00Z"
    assert document["policy"] == {"name": DEFAULT.name, "sha384": DEFAULT.digest}
    for finding in document["findings"]:
        assert list(finding) == [
            "code", "state", "title", "needed", "expected", "found", "where", "assurance",
            "subject",
        ]  # fmt: skip
    assert set(document["claims"]) == {"tdx"}


def test_needed_in_the_record_is_what_counts() -> None:
    verdict = judge_sim(SimPlatform().with_relaunch_advised().evidence(version=5, body_type=3))
    needed = {f["code"]: f["needed"] for f in verdict.to_json()["findings"]}
    assert needed["TDX-TCB-RELAUNCH"] is False
    assert needed["TDX-MRTD"] is False  # the policy says `any`
    assert needed["TDX-QUOTE-SIGNATURE"] is True
    assert needed["TDX-TCB-STATUS"] is True
    for finding in verdict.failures():
        assert needed[finding.code]


def test_inputs_are_all_on_record() -> None:
    inputs = judge_sim(EVIDENCE, nonce=b"n" * 32).to_json()["inputs"]
    assert inputs["nonce"] == (b"n" * 32).hex()
    assert inputs["report_data"] is None
    assert inputs["event_log"] is None
    assert inputs["trust_store"]["kind"] == "simulated"
    assert [used["type"] for used in inputs["collateral"]["used"]] == [
        "tcb-info", "qe-identity", "pck-crl", "root-ca-crl",
    ]  # fmt: skip
    assert inputs["evidence"]["bytes"] == len(EVIDENCE.quote_bytes)
    assert inputs["quote"]["signed_bytes"] == 54 + 648


# --- determinism ---------------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_bytes() -> None:
    first, second = judge_sim(EVIDENCE), judge_sim(SimPlatform().evidence(version=5, body_type=3))
    assert first.dumps() == second.dumps()
    assert first.findings == second.findings


@pytest.mark.parametrize("hours", [-11, 0, 2, 14])
def test_the_time_zone_of_the_evaluation_time_does_not_matter(hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    for moment in (EVIDENCE.at, EVIDENCE.at + timedelta(days=400)):
        assert judge_sim(EVIDENCE, now=moment.astimezone(zone)).dumps() == (
            judge_sim(EVIDENCE, now=moment).dumps()
        )


@pytest.mark.parametrize(
    "change",
    [
        {"now": EVIDENCE.at + timedelta(seconds=1)},
        {"nonce": b"n" * 16},
        {"report_data": bytes(64)},
    ],
)
def test_other_inputs_give_other_bytes(change: dict[str, Any]) -> None:
    assert judge_sim(EVIDENCE, **change).dumps() != judge_sim(EVIDENCE).dumps()


def test_a_verdict_with_a_warm_memory_is_the_same() -> None:
    from vectors.judging import sim_trust

    trust = sim_trust(EVIDENCE)
    texts = {judge_sim(EVIDENCE, trust=trust).dumps() for _ in range(3)}
    trust.memory.clear()
    assert texts == {judge_sim(EVIDENCE, trust=trust).dumps()}


def test_only_a_genuine_year_is_written_with_four_digits() -> None:
    early = datetime(1, 1, 1, tzinfo=UTC)
    assert judge_sim(EVIDENCE, now=early).to_json()["evaluated_at"] == "0001-01-01T00:00:00Z"


def test_a_verdict_is_frozen() -> None:
    verdict = judge_sim(EVIDENCE)
    with pytest.raises(AttributeError):
        verdict.exit_code = 0  # type: ignore[misc]
    assert replace(verdict, exit_code=9).exit_code == 9
