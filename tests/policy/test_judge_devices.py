"""One device, held against a policy: each finding in each of its states."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors.judging_devices import (
    against,
    judge,
    one,
    rules,
    sim_collateral,
    sim_evidence,
    sim_store,
)
from vectors.nvidia_evidence import FILES, from_file

from ccverify import State, Verdict
from ccverify.evidence import Evidence
from ccverify.findings import Assurance, Finding
from ccverify.nvidia.certs import FwidOutcome, FwidProblem
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.device import DeviceVerification, DeviceVerifier, ManifestLookup
from ccverify.nvidia.gpu import GPU
from ccverify.nvidia.measurements import MeasurementComparison, MeasurementMismatch
from ccverify.nvidia.nvswitch import NVSWITCH
from ccverify.nvidia.opaque import GpuOpaqueData
from ccverify.nvidia.revocation import Outcome, RevocationStatus, Statement
from ccverify.policy.judge_devices import (
    ExpectedNonce,
    device_level,
    judge_count,
    judge_device,
    judge_distinct,
)
from ccverify.policy.model import (
    ANY,
    CountPolicy,
    DevicePolicy,
    RevocationRule,
    VersionPolicy,
)
from ccverify.policy.versions import driver_accepted, firmware_accepted
from ccverify.sim.nvidia import SimNode

PASS, FAIL, OPEN, ASIDE = (
    State.PASS, State.FAIL, State.NOT_CHECKED, State.NOT_APPLICABLE,
)  # fmt: skip
NODE = SimNode.hopper_ppcie(1, 1)
NONCE = ExpectedNonce(NODE.nonce)
STATED = DevicePolicy(
    count=CountPolicy(1, 1), architectures=frozenset({"HOPPER"}), modes=frozenset({"PPCIE"})
)
SWITCHES = DevicePolicy(count=CountPolicy(1, 1), fwid_required=False)
REQUIRED, IF_GIVEN, GIVEN_UP = RevocationRule


@cache
def verified(kind: str = "gpu") -> DeviceVerification:
    """One honest simulated device."""
    verifier = DeviceVerifier(sim_collateral(NODE), sim_store(), NODE.at)
    evidence = sim_evidence(NODE)
    if kind == "gpu":
        return verifier.verify(GPU, evidence.gpus[0], 0)
    return verifier.verify(NVSWITCH, evidence.switches[0], 0)


def judged(
    device: DeviceVerification, policy: DevicePolicy = STATED, nonce: ExpectedNonce = NONCE
) -> tuple[dict[str, Finding], Assurance]:
    """Findings by code, without the prefix, and the level of the device's values."""
    findings, level = judge_device(policy, device, nonce, NODE.at)
    listed = list(findings)
    named = {finding.code.partition("-")[2]: finding for finding in listed}
    assert len(named) == len(listed)
    assert {finding.subject for finding in listed} == {device.subject}
    assert {finding.code.partition("-")[0] for finding in listed} == {device.kind.prefix}
    return named, level


def states(findings: dict[str, Finding]) -> dict[str, State]:
    return {name: finding.state for name, finding in findings.items()}


GPU_NAMES = (
    "FWID", "REVOCATION", "REVOCATION-FRESH", "NONCE", "ARCHITECTURE", "MODE", "DRIVER", "VBIOS",
    "FIRMWARE-LIST", "DEVICE-LIST", "RIM", "RIM-SIGNATURE", "RIM-VALIDITY", "RIM-REVOCATION",
    "MEASUREMENTS",
)  # fmt: skip
QUIET = ("DRIVER", "VBIOS", "FIRMWARE-LIST", "DEVICE-LIST")
MANIFEST_NAMES = ("RIM", "RIM-SIGNATURE", "RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS")


def test_an_honest_gpu() -> None:
    findings, level = judged(verified())
    assert level is Assurance.HARDWARE
    assert states(findings) == {name: ASIDE if name in QUIET else PASS for name in GPU_NAMES}
    for finding in findings.values():
        assert finding.found
        hardware = finding.state is PASS
        assert finding.assurance is (Assurance.HARDWARE if hardware else Assurance.NONE)


def test_an_honest_switch() -> None:
    findings, level = judged(verified("switch"), SWITCHES)
    assert level is Assurance.HARDWARE
    aside = ("FWID", "ARCHITECTURE", "BIOS", "FIRMWARE-LIST", "DEVICE-LIST")
    names = [name for name in GPU_NAMES if name not in ("MODE", "DRIVER", "VBIOS")]
    expected = {name: ASIDE if name in aside else PASS for name in (*names, "BIOS")}
    assert states(findings) == expected


def test_of_a_device_that_is_not_genuine_nothing_is_judged_but_its_nonce() -> None:
    """Its words are nobody's; the checks that are left out count as not made."""
    forged = replace(verified(), genuine=False, manifests=(), revocation=(), comparison=None)
    findings, level = judged(forged)
    assert states(findings) == {"NONCE": PASS}
    assert findings["NONCE"].assurance is Assurance.NONE
    assert level is Assurance.NONE
    unread = replace(forged, report=None, opaque=None)
    findings, _ = judged(unread)
    assert states(findings) == {"NONCE": OPEN}


# --- what a device's values rest on --------------------------------------------------------------

DECISIVE = ("CHAIN", "IDENTITY", "REPORT-SIGNATURE", "ARCHITECTURE-CLAIM", "FWID", "REVOCATION")


@pytest.mark.parametrize("name", DECISIVE)
def test_each_decisive_step_must_have_passed_or_been_waived(name: str) -> None:
    steps = [Finding(f"GPU-{each}", PASS) for each in (*DECISIVE, "REVOCATION-FRESH", "RIM")]
    assert device_level(steps) is Assurance.HARDWARE
    at = next(n for n, finding in enumerate(steps) if finding.code == f"GPU-{name}")
    for state, level in (
        (FAIL, Assurance.NONE), (OPEN, Assurance.NONE), (ASIDE, Assurance.HARDWARE),
    ):  # fmt: skip
        changed = [*steps[:at], steps[at]._replace(state=state), *steps[at + 1 :]]
        assert device_level(changed) is level
    assert device_level([*steps[:at], *steps[at + 1 :]]) is Assurance.NONE
    assert device_level([]) is Assurance.NONE


def test_what_is_stale_or_unmeasured_is_still_the_devices_own_word() -> None:
    steps = [Finding(f"NVSWITCH-{each}", PASS) for each in DECISIVE]
    for name in ("REVOCATION-FRESH", "CHAIN-VALIDITY", "RIM", "MEASUREMENTS", "NONCE"):
        more = Finding(f"NVSWITCH-{name}", FAIL)
        assert device_level([*steps, more]) is Assurance.HARDWARE


# --- FWID ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "required", "state"),
    [
        (None, True, PASS), (None, False, PASS),
        (FwidOutcome.MISMATCH, True, FAIL), (FwidOutcome.MISMATCH, False, FAIL),
        (FwidOutcome.NOT_CERTIFIED, True, FAIL), (FwidOutcome.NOT_CERTIFIED, False, FAIL),
        (FwidOutcome.NOT_REPORTED, True, OPEN), (FwidOutcome.NOT_REPORTED, False, ASIDE),
    ],
)  # fmt: skip
def test_fwid(outcome: FwidOutcome | None, required: bool, state: State) -> None:
    problem = FwidProblem(outcome, "the words of the problem") if outcome else None
    policy = replace(STATED, fwid_required=required)
    findings, level = judged(replace(verified(), fwid=problem), policy)
    assert findings["FWID"].state is state
    assert level is (Assurance.HARDWARE if state in (PASS, ASIDE) else Assurance.NONE)
    if problem:
        assert "the words of the problem" in (findings["FWID"].found or "")
    else:
        chain = verified().chain
        assert chain is not None
        assert chain.fwid is not None
        assert findings["FWID"].found == chain.fwid.hex()


# --- revocation ----------------------------------------------------------------------------------


def status(outcome: Outcome, stated: Outcome | None = None, problem: str | None = None) -> Any:
    """One status of certificate [1] of the simulated GPU."""
    chain = verified().chain
    assert chain is not None
    said = Statement("OCSP", stated, NODE.at, None, reason="the reason") if stated else None
    stale = problem if outcome is Outcome.STALE else None
    forged = problem if outcome is Outcome.INVALID else None
    return RevocationStatus(chain.certificates[1], outcome, said, forged, None, stale)


GOOD = (Outcome.GOOD, Outcome.GOOD)
HELD = (Outcome.ON_HOLD, Outcome.ON_HOLD)
STALE_HELD = (Outcome.STALE, Outcome.ON_HOLD)
_AFTER = {REQUIRED: (OPEN, FAIL), IF_GIVEN: (ASIDE, ASIDE), GIVEN_UP: (ASIDE, ASIDE)}
_ABSENT = {REQUIRED: (OPEN, OPEN), IF_GIVEN: (ASIDE, ASIDE), GIVEN_UP: (ASIDE, ASIDE)}
# A bad answer is an answer; that nobody knows is none.
_BAD = dict.fromkeys(RevocationRule, (FAIL, PASS))
_UNANSWERED = {REQUIRED: (FAIL, OPEN), IF_GIVEN: (FAIL, ASIDE), GIVEN_UP: (FAIL, ASIDE)}
_BAD_STALE = {REQUIRED: (FAIL, FAIL), IF_GIVEN: (FAIL, ASIDE), GIVEN_UP: (FAIL, ASIDE)}
_FINE = dict.fromkeys(RevocationRule, (PASS, PASS))

# Outcome and what was stated, hold allowed → states of REVOCATION and REVOCATION-FRESH by rule.
STATUSES: dict[tuple[Outcome, Outcome | None, bool], Any] = {
    (*GOOD, False): _FINE,
    (Outcome.REVOKED, Outcome.REVOKED, False): _BAD,
    (Outcome.REVOKED, Outcome.REVOKED, True): _BAD,
    (*HELD, False): _BAD,
    (*HELD, True): _FINE,
    (Outcome.UNKNOWN, Outcome.UNKNOWN, False): _UNANSWERED,
    (Outcome.UNKNOWN, Outcome.UNKNOWN, True): _UNANSWERED,
    (Outcome.ABSENT, None, False): _ABSENT,
    (Outcome.STALE, Outcome.GOOD, False): _AFTER,
    (Outcome.STALE, Outcome.UNKNOWN, False): _BAD_STALE,
    (Outcome.STALE, Outcome.REVOKED, True): _BAD_STALE,
    (*STALE_HELD, False): _BAD_STALE,
    (*STALE_HELD, True): _AFTER,
    (Outcome.NO_NEXT_UPDATE, Outcome.GOOD, False): _AFTER,
    (Outcome.NO_NEXT_UPDATE, Outcome.ON_HOLD, False): _BAD_STALE,
    (Outcome.NO_NEXT_UPDATE, Outcome.UNKNOWN, True): _BAD_STALE,
    (Outcome.INVALID, None, False): _UNANSWERED,
    (Outcome.INVALID, Outcome.GOOD, True): _UNANSWERED,
}


@pytest.mark.parametrize("rule", RevocationRule)
@pytest.mark.parametrize("case", STATUSES, ids=str)
def test_revocation(case: tuple[Outcome, Outcome | None, bool], rule: RevocationRule) -> None:
    outcome, stated, allow = case
    expected = STATUSES[case][rule]
    bad = status(outcome, stated, "the words of the problem")
    policy = replace(STATED, revocation=rule, allow_hold=allow)
    for statuses in ((bad,), (status(*GOOD), bad), (bad, status(*GOOD), status(*GOOD))):
        findings, level = judged(replace(verified(), revocation=statuses), policy)
        found = findings["REVOCATION"], findings["REVOCATION-FRESH"]
        assert (found[0].state, found[1].state) == expected
        hardware = expected[0] in (PASS, ASIDE)
        assert level is (Assurance.HARDWARE if hardware else Assurance.NONE)
        if expected[0] is PASS:
            assert f"{len(statuses)} certificates are good" in (found[0].found or "")
        else:
            assert f"{bad.certificate.subject_text}: {outcome.value}" in (found[0].found or "")
            told = outcome in (Outcome.STALE, Outcome.INVALID)
            assert ("the words of the problem" in (found[0].found or "")) is told
            assert (found[0].found or "").count(bad.certificate.subject_text) == 1  # not the good


def test_an_old_revocation_is_a_revocation_and_no_current_answer() -> None:
    """As `ccverify.nvidia.revocation` reports it: REVOKED, whatever the age of the answer."""
    old = replace(status(Outcome.REVOKED, Outcome.REVOKED), fresh_problem="it was valid until then")
    for rule, fresh in ((REQUIRED, OPEN), (IF_GIVEN, ASIDE), (GIVEN_UP, ASIDE)):
        policy = replace(STATED, revocation=rule)
        findings, _ = judged(replace(verified(), revocation=(status(*GOOD), old)), policy)
        assert findings["REVOCATION"].state is FAIL
        assert findings["REVOCATION-FRESH"].state is fresh


@pytest.mark.parametrize("rule", RevocationRule)
def test_no_certificate_to_ask_about_is_never_good(rule: RevocationRule) -> None:
    findings, _ = judged(replace(verified(), revocation=()), replace(STATED, revocation=rule))
    expected = OPEN if rule is REQUIRED else ASIDE
    assert findings["REVOCATION"].state is expected
    assert findings["REVOCATION-FRESH"].state is expected


def test_every_outcome_has_a_case() -> None:
    assert {outcome for outcome, _, _ in STATUSES} == set(Outcome)


@pytest.mark.parametrize("rule", RevocationRule)
@pytest.mark.parametrize("case", STATUSES, ids=str)
def test_revocation_of_signers(
    case: tuple[Outcome, Outcome | None, bool], rule: RevocationRule
) -> None:
    outcome, stated, allow = case
    expected = STATUSES[case][rule][0]
    first, second = verified().manifests
    bad = status(outcome, stated, "the words of the problem")
    policy = replace(STATED, revocation=rule, allow_hold=allow)
    for changed in (
        (replace(first, revocation=(*first.revocation, bad)), second),
        (first, replace(second, revocation=(bad, *second.revocation))),
    ):
        findings, level = judged(replace(verified(), manifests=changed), policy)
        assert findings["RIM-REVOCATION"].state is expected
        assert level is Assurance.HARDWARE  # a manifest's signer says nothing about the device
    silent = tuple(replace(each, revocation=()) for each in verified().manifests)
    findings, _ = judged(replace(verified(), manifests=silent), policy)
    assert findings["RIM-REVOCATION"].state is (OPEN if rule is REQUIRED else ASIDE)


# --- nonce ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "state", "words"),
    [
        (ExpectedNonce(NODE.nonce), PASS, NODE.nonce.hex()),
        (ExpectedNonce(NODE.nonce, waived=True), PASS, NODE.nonce.hex()),
        (ExpectedNonce(bytes(32)), FAIL, NODE.nonce.hex()),
        (ExpectedNonce(bytes(32), waived=True), FAIL, NODE.nonce.hex()),
        (ExpectedNonce(NODE.nonce[:31]), FAIL, NODE.nonce.hex()),
        (ExpectedNonce(b""), FAIL, NODE.nonce.hex()),
        (ExpectedNonce(None, "the reason"), OPEN, "the reason"),
        (ExpectedNonce(None, "the reason", waived=True), ASIDE, "the reason"),
    ],
)
def test_nonce(expected: ExpectedNonce, state: State, words: str) -> None:
    findings, level = judged(verified(), nonce=expected)
    assert findings["NONCE"].state is state
    assert findings["NONCE"].found == words
    assert level is Assurance.HARDWARE


# --- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpu", "switch"])
@pytest.mark.parametrize(
    ("name", "member", "size"), [("FIRMWARE-LIST", "fwid", 48), ("DEVICE-LIST", "device_id", 8)]
)
def test_lists_of_identifiers(name: str, member: str, size: int, kind: str) -> None:
    device = verified(kind)
    own = getattr(device.chain, member)
    key = {"fwid": "firmware_ids", "device_id": "device_ids"}[member]
    base = STATED if kind == "gpu" else SWITCHES
    for listed, state in (
        (None, ASIDE), (frozenset(), FAIL), (frozenset({own}), PASS),
        (frozenset({own, bytes(size)}), PASS), (frozenset({bytes(size)}), FAIL),
        (frozenset({own[::-1]}), FAIL), (frozenset({own[:-1]}), FAIL),
    ):  # fmt: skip
        changes: dict[str, Any] = {key: listed}
        findings, _ = judged(device, replace(base, **changes))
        assert findings[name].state is state
    chain = device.chain
    assert chain is not None
    gone: dict[str, Any] = {member: None}
    asked: dict[str, Any] = {key: frozenset({own})}
    unnamed = replace(device, chain=replace(chain, **gone))
    findings, _ = judged(unnamed, replace(base, **asked))
    assert findings[name].state is OPEN


def test_long_lists_are_cut() -> None:
    listed = frozenset(bytes(7) + bytes([n]) for n in range(20))
    findings, _ = judged(verified(), replace(STATED, device_ids=listed))
    assert (findings["DEVICE-LIST"].expected or "").endswith("or one of 16 more")


@pytest.mark.parametrize(
    ("architectures", "gpu", "switch"),
    [
        (ANY, ASIDE, ASIDE), (None, OPEN, ASIDE), (frozenset(), FAIL, FAIL),
        (frozenset({"HOPPER"}), PASS, FAIL), (frozenset({"LS10"}), FAIL, PASS),
        (frozenset({"HOPPER", "LS10"}), PASS, PASS), (frozenset({"BLACKWELL-GB100"}), FAIL, FAIL),
    ],
)  # fmt: skip
def test_architectures(architectures: Any, gpu: State, switch: State) -> None:
    for kind, state in (("gpu", gpu), ("switch", switch)):
        base = STATED if kind == "gpu" else SWITCHES
        findings, _ = judged(verified(kind), replace(base, architectures=architectures))
        assert findings["ARCHITECTURE"].state is state


def _in_mode(**changes: Any) -> DeviceVerification:
    opaque = verified().opaque
    assert isinstance(opaque, GpuOpaqueData)
    return replace(verified(), opaque=replace(opaque, **changes))


def test_modes() -> None:
    silent = _in_mode(feature_flag=None, opaque_data_version=None, protected_pcie=False)
    contradiction = _in_mode(protected_pcie=False)
    for modes, honest, unstated, contradicting in (
        (ANY, ASIDE, ASIDE, ASIDE),
        (None, OPEN, OPEN, FAIL),
        (frozenset({"PPCIE"}), PASS, FAIL, FAIL),
        (frozenset({"SPT", "MPT"}), FAIL, FAIL, FAIL),
        (frozenset({"NOT_STATED"}), FAIL, PASS, FAIL),
        (frozenset({"SPT", "MPT", "PPCIE", "NOT_STATED"}), PASS, PASS, FAIL),
    ):
        policy = replace(STATED, modes=modes)
        for device, state in (
            (verified(), honest), (silent, unstated), (contradiction, contradicting),
        ):  # fmt: skip
            assert judged(device, policy)[0]["MODE"].state is state
    assert "PROTECTED_PCIE" in (judged(contradiction)[0]["MODE"].found or "")


# --- versions ------------------------------------------------------------------------------------


def test_versions_that_a_report_does_not_state() -> None:
    silent = _in_mode(driver_version=None, vbios_version=None)
    rule = VersionPolicy(rejected=frozenset({"1.0"}))
    findings, _ = judged(silent, replace(STATED, driver=rule, vbios=rule))
    for name in ("DRIVER", "VBIOS"):
        assert findings[name].state is FAIL
        assert findings[name].found == "the report states none"
    findings, _ = judged(silent)
    assert findings["DRIVER"].state is ASIDE


def test_what_is_expected_of_a_version_is_told() -> None:
    rule = VersionPolicy("595.10", frozenset({"595.10", "595.20"}), frozenset({"590.12"}))
    finding = judged(verified(), replace(STATED, driver=rule))[0]["DRIVER"]
    assert finding.expected == "at least 595.10, 595.10 or 595.20, not 590.12"
    assert finding.found == "590.12"


VERSION = st.lists(st.integers(0, 999), min_size=1, max_size=4).map(tuple)


@given(VERSION, VERSION)
def test_drivers_are_compared_number_by_number(found: Any, least: Any) -> None:
    text, minimum = (".".join(map(str, numbers)) for numbers in (found, least))
    assert driver_accepted(VersionPolicy(minimum), text) is (found >= least)


@given(VERSION, VERSION)
def test_firmware_is_compared_within_its_family(found: Any, least: Any) -> None:
    text, minimum = (".".join(f"{n:02X}" for n in numbers) for numbers in (found, least))
    accepted = found >= least and found[0] == least[0]
    assert firmware_accepted(VersionPolicy(minimum), text) is accepted
    assert firmware_accepted(VersionPolicy(minimum.lower()), text) is accepted


@given(st.text(max_size=20), st.text(max_size=20))
def test_odd_versions_are_never_accepted_by_a_minimum(found: str, least: str) -> None:
    """Whatever the text: an answer, no exception; and what is no version reaches nothing."""
    for accepts, digits in (
        (driver_accepted, "0123456789"),
        (firmware_accepted, "0123456789abcdef"),
    ):
        allowed = set(digits + digits.upper() + ".")
        answer = accepts(VersionPolicy(least), found)
        if not set(found) <= allowed or not set(least) <= allowed or not found or not least:
            assert answer is False
        assert accepts(VersionPolicy(rejected=frozenset({found})), found) is False
        assert accepts(VersionPolicy(accepted=frozenset({found})), found) is True


@pytest.mark.parametrize(
    ("rule", "text", "accepted"),
    [
        (VersionPolicy(), "anything", True),
        (VersionPolicy(accepted=frozenset()), "590.12", False),
        (VersionPolicy(accepted=frozenset({"590.012"})), "590.12", True),
        (VersionPolicy(rejected=frozenset({"590.012"})), "590.12", False),
        (VersionPolicy(accepted=frozenset({"590.12"}), rejected=frozenset({"590.12"})), "590.12",
         False),
        (VersionPolicy("590.12", frozenset({"580.1"})), "580.1", False),
        (VersionPolicy("590.12", frozenset({"590.12"})), "590.13", False),
        (VersionPolicy("590"), "590.12", True),
        (VersionPolicy("590.12"), "590", False),
        (VersionPolicy("590.12"), "590.120", True),
        (VersionPolicy("590.12"), "1" * 5000, False),
        (VersionPolicy("590.12"), "590." + "9" * 5000, False),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_versions(rule: VersionPolicy, text: str, accepted: bool) -> None:
    assert driver_accepted(rule, text) is accepted


# --- manifests -----------------------------------------------------------------------------------


def _choices(first: dict[str, Any], second: dict[str, Any] | None = None) -> DeviceVerification:
    """The GPU with other choices of its driver and VBIOS manifests."""
    lookups: list[ManifestLookup] = []
    for lookup, changes in zip(verified().manifests, (first, second or {}), strict=True):
        choice = replace(lookup.choice, **changes) if changes else lookup.choice
        gone = choice.verification is None
        lookups.append(ManifestLookup(lookup.wanted, choice, () if gone else lookup.revocation))
    every = all(lookup.choice.verification for lookup in lookups)
    comparison = verified().comparison if every else None
    return replace(verified(), manifests=tuple(lookups), comparison=comparison)


ABSENT: dict[str, Any] = {"verification": None, "name": None, "problem": "no such RIM"}
CONFLICT = ABSENT | {"problem": "a and b are both signed", "conflict": True}
REFUSED = ABSENT | {"problem": "all 1 candidates are refused", "refused": {"x.xml": "forged"}}
BESIDE = {"refused": {"x.xml": "forged"}}
_REST = dict.fromkeys(("RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS"), OPEN)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, dict.fromkeys(MANIFEST_NAMES, PASS)),
        (BESIDE, dict.fromkeys(MANIFEST_NAMES, PASS)),
        (ABSENT, {"RIM": OPEN, "RIM-SIGNATURE": OPEN, **_REST}),
        (CONFLICT, {"RIM": FAIL, "RIM-SIGNATURE": OPEN, **_REST}),
        (CONFLICT | BESIDE, {"RIM": FAIL, "RIM-SIGNATURE": FAIL, **_REST}),
        (REFUSED, {"RIM": PASS, "RIM-SIGNATURE": FAIL, **_REST}),
    ],
)
def test_manifests(changes: dict[str, Any], expected: dict[str, State], first: bool) -> None:
    device = _choices(changes, {}) if first else _choices({}, changes)
    findings, level = judged(device)
    assert {name: findings[name].state for name in MANIFEST_NAMES} == expected
    assert level is Assurance.HARDWARE
    if expected["RIM-SIGNATURE"] is FAIL:
        assert findings["RIM-SIGNATURE"].found == "x.xml: forged"
    waived, _ = judged(device, replace(STATED, rim_required=False))
    assert {waived[name].state for name in MANIFEST_NAMES} == {ASIDE}


def test_one_missing_and_one_refused() -> None:
    findings, _ = judged(_choices(ABSENT, REFUSED))
    assert findings["RIM"].state is OPEN
    assert findings["RIM-SIGNATURE"].state is FAIL


def test_manifests_that_cannot_be_named() -> None:
    odd = replace(verified(), manifests=(), manifest_problem="the words", comparison=None)
    findings, _ = judged(odd)
    assert {(findings[name].state, findings[name].found) for name in MANIFEST_NAMES} == {
        (OPEN, "the words")
    }


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("until", "problem", "strict", "lenient"),
    [
        (timedelta(days=1), None, PASS, PASS),
        (timedelta(days=-1), "it expired", FAIL, ASIDE),
        # A problem that is no expiry is not what the policy allows.
        (timedelta(days=1), "valid only from tomorrow", FAIL, FAIL),
    ],
)
def test_validity_of_signers(
    until: timedelta, problem: str | None, strict: State, lenient: State, number: int, allowed: bool
) -> None:
    choice = verified().manifests[number].choice
    assert choice.verification is not None
    changed = {
        "verification": replace(
            choice.verification, validity_problem=problem, valid_until=NODE.at + until
        )
    }
    device = _choices(changed, {}) if number == 0 else _choices({}, changed)
    policy = replace(STATED, allow_expired_rim_signer=allowed)
    findings, level = judged(device, policy)
    assert findings["RIM-VALIDITY"].state is (lenient if allowed else strict)
    assert level is Assurance.HARDWARE
    if problem:
        assert problem in (findings["RIM-VALIDITY"].found or "")
        assert device.manifests[number].wanted.text in (findings["RIM-VALIDITY"].found or "")


def test_an_expired_signer_beside_one_whose_time_has_not_come() -> None:
    changes = []
    for lookup, (until, problem) in zip(
        verified().manifests, ((-1, "expired"), (9, "valid only from")), strict=True
    ):
        assert lookup.choice.verification is not None
        changes.append(
            {"verification": replace(lookup.choice.verification, validity_problem=problem,
                                     valid_until=NODE.at + timedelta(days=until))}
        )  # fmt: skip
    policy = replace(STATED, allow_expired_rim_signer=True)
    assert judged(_choices(*changes), policy)[0]["RIM-VALIDITY"].state is FAIL


# --- measurements --------------------------------------------------------------------------------


def _compared(**changes: Any) -> MeasurementComparison:
    comparison = verified().comparison
    assert comparison is not None
    return replace(comparison, **changes)


def test_measurements() -> None:
    mismatch = MeasurementMismatch(
        9, "Measurement_9", (b"\1" * 48, b"\2" * 48), b"\3" * 48, "the RIM"
    )
    missing = MeasurementMismatch(12, "Measurement_12", (b"\1" * 48,), None, "the other RIM")
    for comparison, state, words in (
        (_compared(), PASS, " match"),
        (None, OPEN, "nothing to compare with"),
        (_compared(mismatched=(mismatch,)), FAIL, "measurement 9 (Measurement_9) is 0303"),
        (
            _compared(mismatched=(mismatch, missing)),
            FAIL,
            "measurement 12 (Measurement_12) is missing",
        ),
        (_compared(conflicts=(3, 4)), FAIL, "both state golden values of measurement 3, 4"),
        (_compared(matched=0, total=0), FAIL, "the RIMs state no golden value"),
        (_compared(rim_problem="different chips"), FAIL, "different chips"),
    ):
        findings, level = judged(replace(verified(), comparison=comparison))
        assert findings["MEASUREMENTS"].state is state
        assert words in (findings["MEASUREMENTS"].found or "")
        assert level is Assurance.HARDWARE
    finding = judged(replace(verified(), comparison=_compared(mismatched=(mismatch, missing))))[0][
        "MEASUREMENTS"
    ]
    found = finding.found or ""
    assert f"is {'03' * 48}, not {'01' * 48} or {'02' * 48} of the the RIM" in found
    assert "the other RIM" in found
    assert finding.where == "measurements 9, 12"


# --- all of one class ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "devices", "state"),
    [
        (ANY, "1", ASIDE), (ANY, "", ASIDE), (None, "1", OPEN),
        (CountPolicy(1, 1), "1", PASS), (CountPolicy(1, 1), "", FAIL),
        (CountPolicy(2, 2), "12", PASS), (CountPolicy(2, 2), "1", FAIL),
        (CountPolicy(2, 2), "11", FAIL), (CountPolicy(1, 8), "11", FAIL),
        (CountPolicy(2, 2), "123", FAIL), (CountPolicy(1, 3), "12", PASS),
        (CountPolicy(1, 3), "1", PASS), (CountPolicy(1, 3), "123", PASS),
        (CountPolicy(1, 8), "1x", FAIL), (CountPolicy(0, 8), "x", FAIL),
        (CountPolicy(2, 2), "12x", FAIL),
    ],
)  # fmt: skip
def test_counts(count: Any, devices: str, state: State) -> None:
    """A digit is a genuine device of that identity, x one that is not genuine."""
    chain = verified().chain
    assert chain is not None
    made = [
        replace(verified(), chain=replace(chain, device_id=name.encode() * 8), genuine=name != "x")
        for name in devices
    ]
    finding = judge_count(count, made, "GPU")
    assert (finding.code, finding.state, finding.subject) == ("GPU-COUNT", state, None)
    assert f"of {len(devices)} presented" in (finding.found or "")


def test_distinct() -> None:
    gpu, switch = verified(), replace(verified("switch"), subject="nvswitch-0")
    copy = replace(gpu, subject="gpu-1")
    assert judge_distinct([]).state is PASS
    assert judge_distinct([gpu, switch]).state is PASS
    finding = judge_distinct([gpu, copy, switch])
    assert finding.state is FAIL
    assert finding.found == "gpu-1 has the identity of gpu-0"
    forged = replace(copy, genuine=False)
    assert judge_distinct([gpu, forged]).found == "gpu-1 has the attestation key of gpu-0"
    unchained = replace(forged, chain=None)
    assert judge_distinct([gpu, unchained]).found == "gpu-1 has the report of gpu-0"
    assert judge_distinct([gpu, replace(unchained, report=None)]).state is PASS
    three = [gpu, copy, replace(gpu, subject="gpu-2")]
    assert "gpu-1" in (judge_distinct(three).found or "")
    assert "gpu-2" in (judge_distinct(three).found or "")


# --- genuine reports with their manifests --------------------------------------------------------

RIMS = "nvidia/rim/nvtrust-local-gpu-verifier-samples"
SDK_RIMS = "nvidia/rim/attestation-sdk-testdata"
OLD_GPU = "nvidia/hopper/go-nvtrust/attestationReport.txt"
SWITCH = "nvidia/ls10/attestation-sdk-sample/switchAttestationReport.txt"
DRIVER_RIM = f"{RIMS}/Driver_RIM_test_no_gpu.swidtag"
VBIOS_RIM = f"{RIMS}/1010_0200_882_96005E0001_test_no_gpu.swidtag"
BIOS_RIM = f"{SDK_RIMS}/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"
IN_2024, IN_2026 = datetime(2024, 6, 1, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)


def genuine(
    vectors: Path, report: str, rims: list[str], now: datetime = IN_2024, **members: Any
) -> Verdict:
    """The verdict on one genuine device with these manifests; revocation is given up."""
    (row,) = [row for row in FILES if row.report == report]
    one_ = from_file(vectors, row)
    section: dict[str, Any] = {"count": 1, "revocation": "if-given", "fwid": "if-reported"}
    if row.claimed == "LS10":
        evidence, policy = Evidence(switches=(one_.device,)), {"nvswitches": section | members}
    else:
        section |= {"architectures": ["HOPPER"], "modes": "any"}
        evidence, policy = Evidence(gpus=(one_.device,)), {"gpus": section | members}
    collateral = NvidiaCollateral.of(
        [(name.rpartition("/")[2], (vectors / name).read_bytes()) for name in rims]
    )
    verdict = judge(
        evidence, rules(policy, topology="any"), nonce=one_.nonce, now=now, nvidia=collateral
    )
    assert len(verdict.gpus) + len(verdict.nvswitches) == 1
    return verdict


def measured(verdict: Verdict) -> dict[str, Any]:
    (claims,) = (*verdict.gpus, *verdict.nvswitches)
    return dict(claims.values["measurements"])


def test_a_genuine_gpu_matches_all_its_golden_values(vectors: Path) -> None:
    verdict = genuine(vectors, OLD_GPU, [DRIVER_RIM, VBIOS_RIM])
    assert verdict.trusted, verdict.failures()
    values = measured(verdict)
    assert (values["matched"], values["total"], values["skipped"]) == (32, 32, [35])
    assert values["mismatched"] == []
    assert values["rims"] == [name.rpartition("/")[2] for name in (DRIVER_RIM, VBIOS_RIM)]
    assert values["rims_needed"] == [
        "NV_GPU_DRIVER_GH100_545.00", "NV_GPU_VBIOS_1010_0200_882_96005E0001",
    ]  # fmt: skip
    assert one(verdict, "GPU-MEASUREMENTS", "gpu-0").found == "32 of 32 match"
    used = verdict.inputs["nvidia_collateral"]["used"]
    assert [each["id"] for each in used] == sorted(values["rims_needed"])


def test_its_signers_have_expired_since(vectors: Path) -> None:
    verdict = genuine(vectors, OLD_GPU, [DRIVER_RIM, VBIOS_RIM], IN_2026)
    assert against(verdict) == {("GPU-RIM-VALIDITY", "gpu-0"): FAIL}
    assert verdict.exit_code == 5
    assert "expired on 2025-06" in (one(verdict, "GPU-RIM-VALIDITY", "gpu-0").found or "")
    allowed = genuine(
        vectors, OLD_GPU, [DRIVER_RIM, VBIOS_RIM], IN_2026, rim_expired_signer="allow"
    )
    assert allowed.trusted
    assert measured(allowed)["matched"] == 32


def test_a_genuine_switch_matches_all_its_golden_values(vectors: Path) -> None:
    verdict = genuine(vectors, SWITCH, [BIOS_RIM], IN_2026)
    assert verdict.trusted, verdict.failures()
    assert (measured(verdict)["matched"], measured(verdict)["total"]) == (31, 31)
    # Before the signer's time: not what the word for expired signers allows.
    for word in ("forbid", "allow"):
        early = genuine(vectors, SWITCH, [BIOS_RIM], IN_2024, rim_expired_signer=word)
        assert against(early) == {("NVSWITCH-RIM-VALIDITY", "nvswitch-0"): FAIL}
        assert early.exit_code == 5


@pytest.mark.parametrize(
    "other",
    [
        f"{RIMS}/1010_0200_882_96005E0001_PROD.swidtag",
        f"{SDK_RIMS}/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml",
    ],
)
def test_a_genuine_manifest_with_other_values(vectors: Path, other: str) -> None:
    verdict = genuine(vectors, OLD_GPU, [DRIVER_RIM, other])
    assert against(verdict) == {("GPU-MEASUREMENTS", "gpu-0"): FAIL}
    assert verdict.exit_code == 4
    finding = one(verdict, "GPU-MEASUREMENTS", "gpu-0")
    assert finding.where == "measurements 1, 2, 3, 9"
    assert (finding.found or "").count("vbios RIM GH100 96.00.5E.00.01") == 4
    assert measured(verdict)["mismatched"] == [1, 2, 3, 9]
    both = genuine(vectors, OLD_GPU, [DRIVER_RIM, VBIOS_RIM, other])
    assert against(both)["GPU-RIM", "gpu-0"] is FAIL
    assert measured(both)["rims"] == []


@pytest.mark.parametrize(
    ("report", "vbios"),
    [
        ("nvidia/hopper/trustee/hopper_coco_report1.txt", "1010_0200_882_960074001A_PROD.swidtag"),
        ("nvidia/hopper/attestation-sdk-testdata/hopperAttestationReport.txt",
         "1010_0205_862_9600740020_PROD.swidtag"),
    ],
)  # fmt: skip
def test_a_driver_without_a_public_manifest(vectors: Path, report: str, vbios: str) -> None:
    """Half of the manifests compares nothing, and says which half is missing."""
    verdict = genuine(vectors, report, [f"{RIMS}/{vbios}"])
    ended = against(verdict)
    assert set(ended.values()) == {OPEN}
    assert {code for code, _ in ended} == {f"GPU-{name}" for name in MANIFEST_NAMES}
    found = one(verdict, "GPU-RIM", "gpu-0").found or ""
    assert "NV_GPU_DRIVER_GH100_580." in found
    assert "VBIOS" not in found
    assert (measured(verdict)["matched"], measured(verdict)["rims"]) == (None, [])
    assert len(measured(verdict)["rims_needed"]) == 2


def test_manifests_that_nvidia_broke(vectors: Path) -> None:
    name = "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml"
    verdict = genuine(vectors, SWITCH, [f"{SDK_RIMS}/{name}"], IN_2026)
    assert against(verdict)["NVSWITCH-RIM-SIGNATURE", "nvswitch-0"] is FAIL
    assert verdict.exit_code == 3
    found = one(verdict, "NVSWITCH-RIM-SIGNATURE", "nvswitch-0").found or ""
    assert "SHA-384 digest" in found
    assert name in found
    assert one(verdict, "NVSWITCH-MEASUREMENTS", "nvswitch-0").state is OPEN
    # This one is filed as a switch's and says of itself that it is a GPU's.
    name = "NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml"
    verdict = genuine(vectors, SWITCH, [f"{SDK_RIMS}/{name}"], IN_2026)
    assert one(verdict, "NVSWITCH-RIM", "nvswitch-0").state is OPEN
    assert "no such RIM" in (one(verdict, "NVSWITCH-RIM", "nvswitch-0").found or "")
    assert verdict.exit_code == 5
