"""Attestation results: a stock library verifies them, and nothing is affirmed without ground."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from test_signing import KEYS, private_pem, public_pem
from vectors.judging_devices import (
    OFFLINE,
    REAL_NONCE,
    judge,
    judge_node,
    real_node,
    rules,
    sim_store,
)

import ccverify
from ccverify import CHECKS, Finding, State, TrustKind, Verdict, VerdictSet
from ccverify.bundle.cose import parse_sign1, sign1_problem
from ccverify.checks import Need, Scope
from ccverify.cli.demo import SCENES, play
from ccverify.errors import EvidenceError
from ccverify.findings import Assurance, FindingList
from ccverify.policy.model import MUST_STATE
from ccverify.results.ear import EAR_PROFILE, VERDICT_CLAIM, ear_claims, ear_cwt, ear_jwt
from ccverify.results.ear_appraisal import appraise_parts
from ccverify.results.ear_table import AFFIRMED, CLAIM_KEYS, PARTS, Tier, tier_of
from ccverify.results.signing import jwk_thumbprint, load_signing_key
from ccverify.results.verdict import conclude
from ccverify.sim import SimPlatform
from ccverify.sim.nvidia import SimNode

AFFIRMING = ("affirming", "warning")
SIGNERS = {name: load_signing_key(private_pem(key)) for name, key in KEYS.items()}
EACH_KEY = pytest.mark.parametrize("name", KEYS)
PPCIE = SimNode.hopper_ppcie(2, 1)
SMALL = rules(
    {
        "gpus": {"count": 2, "architectures": ["HOPPER"], "modes": ["PPCIE"]},
        "nvswitches": {"count": 1, "architectures": ["LS10"]},
        "topology": {"kind": "protected-pcie", "gpus": 2, "switches": 1},
    }
)


@pytest.fixture(scope="module")
def genuine(vectors: Path) -> Verdict:
    """A real TD, judged by a policy that pins no measurement, as of its own day."""
    quote = (vectors / "tdx" / "quotes" / "phala_b0c06f_v4.bin").read_bytes()
    pack = (vectors / "tdx" / "collateral" / "phala_b0c06f_2025-06.json").read_bytes()
    root = Path(__file__).resolve().parents[2]
    policy = (root / "policies" / "tdx-platform-only.yaml").read_bytes()
    verdict = ccverify.check(
        quote,
        policy=ccverify.load_policy(policy),
        now=datetime(2025, 7, 4, 10, tzinfo=UTC),
        nonce=None,
        report_data=ccverify.parse_quote(quote).report.report_data,
        collateral=ccverify.parse_collateral(pack),
        trust=ccverify.TrustStore.production(),
    )
    assert verdict.trusted
    return verdict


def as_production(verdict: Verdict) -> Verdict:
    """A simulated verdict as if the vendors' own roots had carried it: no real one has it all."""
    store = {**verdict.inputs["trust_store"], "kind": TrustKind.PRODUCTION.value}
    return replace(verdict, simulated=False, inputs={**verdict.inputs, "trust_store": store})


def with_finding(verdict: Verdict, code: str, subject: str | None = None, **change: Any) -> Verdict:
    """The verdict with one finding changed, and weighed again."""
    changed = [
        finding._replace(**change)
        if (finding.code, finding.subject) == (code, subject)
        else finding
        for finding in verdict.findings
    ]
    listed, conclusion, exit_code = conclude(changed, {})
    return replace(verdict, findings=listed, conclusion=conclusion, exit_code=exit_code)


# --- stock libraries ----------------------------------------------------------------------------


@EACH_KEY
def test_a_stock_jose_library_verifies_the_token(name: str, genuine: Verdict) -> None:
    token = ear_jwt(genuine, SIGNERS[name])
    assert token == ear_jwt(genuine, SIGNERS[name])
    public = public_pem(KEYS[name])
    claims = jwt.decode(token, public, algorithms=[name])
    assert claims == ear_claims(genuine)
    header = jwt.get_unverified_header(token)
    kid = jwk_thumbprint(SIGNERS[name].public)
    assert header == {"alg": name, "kid": kid, "typ": "eat+jwt"}


@EACH_KEY
def test_a_changed_token_is_refused_by_it(name: str, genuine: Verdict) -> None:
    token = ear_jwt(genuine, SIGNERS[name])
    public = public_pem(KEYS[name])
    head, body, signature = token.split(".")
    text = base64.urlsafe_b64decode(body + "==").replace(b'"affirming"', b'"afirming"', 1)
    forged = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{head}.{forged}.{signature}", public, algorithms=[name])
    other = public_pem(ec.derive_private_key(8, ec.SECP256R1()))
    with pytest.raises(jwt.PyJWTError):
        jwt.decode(token, other, algorithms=[name])
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    with pytest.raises(jwt.PyJWTError):
        jwt.decode(f"{none}.{body}.", public, algorithms=[name])


@EACH_KEY
def test_the_cwt_says_the_same(name: str, genuine: Verdict) -> None:
    """Read by cbor2 and the registry of keys, not by the code that wrote it."""
    token = ear_cwt(genuine, SIGNERS[name])
    assert token == ear_cwt(genuine, SIGNERS[name])
    message = cbor2.loads(token)
    assert message.tag == 18
    protected = cbor2.loads(message.value[0])
    assert protected[1] == {"ES256": -9, "ES384": -51, "EdDSA": -19}[name]
    assert protected[4] == SIGNERS[name].public.thumbprint
    claims = cbor2.loads(message.value[2])
    stated = ear_claims(genuine)
    assert (claims[265], claims[6], claims[1000]) == (EAR_PROFILE, stated["iat"], 2)
    assert claims[1004] == {0: "ccverify", 1: stated["ear_verifier_id"]["build"]}
    part, said = claims[266]["tdx"], stated["submods"]["tdx"]
    assert part[1000] == 2
    assert part[1001] == {1: 2, 4: 2, 5: 2}
    assert part[1003] == said["ear_appraisal_policy_ids"]
    assert part[10] == base64.urlsafe_b64decode(said["eat_nonce"])
    assert part[10] == bytes.fromhex(genuine.inputs["report_data"])
    assert claims[VERDICT_CLAIM] == stated[VERDICT_CLAIM]


@EACH_KEY
def test_the_signature_of_the_cwt_holds(name: str, genuine: Verdict) -> None:
    token = ear_cwt(genuine, SIGNERS[name])
    signed = parse_sign1(token, what="EAR", error=EvidenceError, limit=1 << 20)
    assert sign1_problem(signed, SIGNERS[name].public) is None
    flipped = bytearray(token)
    flipped[len(token) // 2] ^= 1
    try:
        signed = parse_sign1(bytes(flipped), what="EAR", error=EvidenceError, limit=1 << 20)
    except EvidenceError:
        return
    assert sign1_problem(signed, SIGNERS[name].public) is not None


VARIABLE = "CCVERIFY_COSE_PEER"
PEER = os.environ.get(VARIABLE)


@pytest.mark.skipif(
    not PEER, reason=f"set {VARIABLE} to the interpreter of an environment that has python-cwt"
)
@EACH_KEY
def test_python_cwt_verifies_the_token(name: str, genuine: Verdict) -> None:
    """python-cwt pins an older cbor2, so it runs in an environment of its own."""
    token, public = ear_cwt(genuine, SIGNERS[name]), SIGNERS[name].public
    members = {
        label: value.hex() if isinstance(value, bytes) else value
        for label, value in cbor2.loads(public.encoded).items()
    }
    members |= {2: public.thumbprint.hex(), 3: int(public.algorithm)}
    forged = token.replace(b"trusted", b"trustee", 1)
    assert forged != token
    questions = [{"key": members, "sign1": data.hex()} for data in (token, forged)]
    script = Path(__file__).parents[1] / "bundle" / "cose_peer_process.py"
    assert PEER
    done = subprocess.run(
        [PEER, str(script)],
        input="".join(json.dumps(question) + "\n" for question in questions),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert bytes.fromhex(good["payload"]) == cbor2.loads(token).value[2]
    assert "error" in bad


# --- form ---------------------------------------------------------------------------------------


def check_form(claims: dict[str, Any]) -> None:
    """What draft-ietf-rats-ear-04 and AR4SI ask of any EAR."""
    names = {tier.name.lower(): tier for tier in Tier}
    assert claims["eat_profile"] == EAR_PROFILE
    assert type(claims["iat"]) is int
    assert set(claims["ear_verifier_id"]) == {"developer", "build"}
    assert claims["submods"]
    overall = names[claims["ear_status"]]
    for submod in claims["submods"].values():
        status, vector = names[submod["ear_status"]], submod["ear_trustworthiness_vector"]
        assert vector
        assert set(vector) <= set(CLAIM_KEYS)
        assert all(type(value) is int and 0 <= value <= 127 for value in vector.values())
        worst = max(map(tier_of, vector.values()))
        assert status is Tier.NONE or status >= worst
        if status is Tier.NONE:
            assert worst in (Tier.NONE, Tier.AFFIRMING)
        assert overall is Tier.NONE or overall >= status
        if status is Tier.CONTRAINDICATED:
            assert overall is Tier.CONTRAINDICATED
    for place in (claims, *claims["submods"].values()):
        if "eat_nonce" in place:
            assert 12 <= len(place["eat_nonce"]) <= 88
            assert 8 <= len(base64.urlsafe_b64decode(place["eat_nonce"])) <= 64
        for policy in place.get("ear_appraisal_policy_ids", ()):
            assert re.fullmatch(r"ni:///sha-384;[A-Za-z0-9_-]{64}", policy)


def test_what_is_genuine_is_affirmed(genuine: Verdict) -> None:
    claims = ear_claims(genuine)
    check_form(claims)
    assert claims["ear_status"] == "affirming"
    part = claims["submods"]["tdx"]
    # The policy pins no measurement and no platform: of those two nothing is said.
    assert part["ear_trustworthiness_vector"] == {
        "configuration": 2,
        "hardware": 2,
        "runtime-opaque": 2,
    }
    assert part["ear_evidence_claims"]["tdx_mrtd"] == genuine.tdx.values["mrtd"]  # type: ignore[union-attr]
    assert claims["ear_all_submods_bound"] == "true"
    assert claims[VERDICT_CLAIM]["exit_code"] == 0
    assert "eat_nonce" not in claims


def test_a_simulated_node_has_every_part_and_none_is_affirmed() -> None:
    verdict = judge_node(PPCIE, SMALL)
    assert verdict.trusted
    claims = ear_claims(verdict)
    check_form(claims)
    assert set(claims["submods"]) == {"gpu-0", "gpu-1", "nvswitch-0", "fabric"}
    for place in (claims, *claims["submods"].values()):
        assert place["ear_status"] == "none"
    assert claims[VERDICT_CLAIM]["simulated"] is True


def test_every_part_of_a_whole_node_can_be_affirmed() -> None:
    claims = ear_claims(as_production(judge_node(PPCIE, SMALL)))
    check_form(claims)
    assert claims["ear_status"] == "affirming"
    vectors = {n: s["ear_trustworthiness_vector"] for n, s in claims["submods"].items()}
    assert vectors["gpu-0"] == {"configuration": 2, "executables": 3, "hardware": 2}
    assert vectors["nvswitch-0"] == {"executables": 3, "hardware": 2}
    assert vectors["fabric"] == {"configuration": 2}
    nvidia = claims["submods"]["gpu-0"]["ear_verifier_claims"]["ear_nvidia_evidence"]
    assert nvidia == {"signature_verified": True, "parsed": True, "nonce_match": True}


def test_the_insecure_root_is_contraindicated_everywhere() -> None:
    claims = ear_claims(judge_node(PPCIE, SMALL, trust=sim_store(TrustKind.INSECURE)))
    check_form(claims)
    for place in (claims, *claims["submods"].values()):
        assert place["ear_status"] == "contraindicated"


def test_the_real_protected_pcie_node_without_revocation_is_not_affirmed(vectors: Path) -> None:
    """Trusted by a policy that waives manifests and revocation: an EAR must not say more."""
    verdict = judge(real_node(vectors), rules(OFFLINE))
    assert verdict.trusted
    claims = ear_claims(verdict)
    check_form(claims)
    assert {s["ear_status"] for s in claims["submods"].values()} == {"none"}
    assert claims["ear_status"] == "none"
    assert base64.urlsafe_b64decode(claims["eat_nonce"]) == REAL_NONCE


def judge_quote(damage: str = "") -> Verdict:
    """A quote of a simulated machine, judged alone."""
    platform = SimPlatform()
    nonce = bytes(32)
    case = platform.with_status("OutOfDate") if damage == "TDX-TCB-STATUS" else platform
    evidence = case.case(report_data=nonce.ljust(64, b"\0")).build()
    quote = bytearray(evidence.quote_bytes)
    if damage == "TDX-QUOTE-SIGNATURE":
        quote[evidence.quote.span("body.mr_td")[0]] ^= 1
    measurements = dict.fromkeys(MUST_STATE, "any")
    return ccverify.check(
        bytes(quote),
        policy=rules({"tdx": {"measurements": measurements}}),
        now=evidence.at,
        nonce=b"\1" * 32 if damage == "TDX-REPORT-DATA" else nonce,
        collateral=ccverify.parse_collateral(evidence.collateral.to_json().encode()),
        trust=sim_store(),
    )


def test_a_quote_alone() -> None:
    for code, (status, hardware) in {
        "": ("none", 0),
        "TDX-QUOTE-SIGNATURE": ("contraindicated", 99),
        "TDX-REPORT-DATA": ("contraindicated", 0),
        "TDX-TCB-STATUS": ("contraindicated", 96),
    }.items():
        claims = ear_claims(judge_quote(code))
        check_form(claims)
        part = claims["submods"]["tdx"]
        assert part["ear_status"] == claims["ear_status"] == status
        assert part["ear_trustworthiness_vector"]["hardware"] == hardware
        assert (code in part["ear_verifier_claims"]["failed"]) == bool(code)


def test_scenes_of_the_demonstration() -> None:
    for scene in SCENES:
        claims = ear_claims(play(scene))
        check_form(claims)
        assert claims["ear_status"] == ("contraindicated" if scene.expected_code else "none")
        assert len(claims["submods"]) >= 12


def test_several_nodes_have_labels_of_their_own() -> None:
    one = as_production(judge_node(PPCIE, SMALL))
    bad = with_finding(one, "GPU-REPORT-SIGNATURE", "gpu-1", state=State.FAIL)
    pair = VerdictSet.of(
        [replace(one, label="a"), replace(bad, label="b"), replace(one, label="a")], [], {}
    )
    claims = ear_claims(pair)
    check_form(claims)
    assert {"a/gpu-0", "b/gpu-0", "a/gpu-0~2"} <= set(claims["submods"])
    assert claims["submods"]["b/gpu-1"]["ear_status"] == "contraindicated"
    assert claims["submods"]["a/gpu-1"]["ear_status"] == "affirming"
    assert claims["ear_status"] == "contraindicated"
    good = VerdictSet.of([replace(one, label="a")], passed_set(), {})
    assert ear_claims(good)["ear_status"] == "affirming"
    assert ear_claims(VerdictSet.of([], [], {}))["ear_status"] == "none"
    shared = FindingList()
    shared.passed("SET-WORKLOAD")
    shared.failed("SET-DISTINCT", "distinct", "one GPU in both")
    assert ear_claims(VerdictSet.of([one], shared, {}))["ear_status"] == "contraindicated"


def passed_set() -> FindingList:
    findings = FindingList()
    for check in CHECKS:
        if check.code.startswith("SET-"):
            findings.passed(check.code)
    return findings


# --- the table ----------------------------------------------------------------------------------


def row_codes(kind: str) -> list[str]:
    return [code for row in PARTS[kind].rows for code in row.codes]


def test_every_check_of_a_part_has_a_row_and_every_row_a_check() -> None:
    scopes = {
        Scope.TDX: "tdx",
        Scope.GPU: "gpu",
        Scope.NVSWITCH: "nvswitch",
        Scope.TOPOLOGY: "fabric",
        Scope.FABRIC: "fabric",
    }
    known = [check.code for check in CHECKS]
    for check in CHECKS:
        code, kind = check.code, scopes.get(check.scope)
        assert kind is None or any(
            code == one or (one.endswith("*") and code.startswith(one[:-1]))
            for one in row_codes(kind)
        ), code
    for kind in PARTS:
        for one in row_codes(kind):
            assert any(code == one or code.startswith(one.rstrip("*")) for code in known), one


NODE = as_production(judge_node(PPCIE, SMALL))
NEEDED = [f for f in NODE.findings if f.state is State.PASS and f.code != "TDX-TCB-RELAUNCH"]


@pytest.mark.parametrize("state", [State.FAIL, State.NOT_CHECKED])
def test_no_part_with_an_open_or_failed_check_is_affirmed(state: State) -> None:
    advice = {check.code for check in CHECKS if check.need is Need.ADVICE}
    for finding in NEEDED:
        if finding.code in advice:
            continue
        changed = with_finding(NODE, finding.code, finding.subject, state=state)
        claims = ear_claims(changed)
        check_form(claims)
        assert claims["ear_status"] not in AFFIRMING, finding
        if finding.subject in claims["submods"]:
            part = claims["submods"][finding.subject]
            assert part["ear_status"] not in AFFIRMING, finding
        elif finding.subject is None:
            statuses = {submod["ear_status"] for submod in claims["submods"].values()}
            assert statuses.isdisjoint(AFFIRMING), finding


@pytest.mark.parametrize("level", [Assurance.MANAGER, Assurance.ASSERTED, Assurance.NONE])
def test_nothing_is_affirmed_on_unsigned_ground(level: Assurance) -> None:
    """Every finding of one claim at a time rests on less than a signature."""
    for finding in NEEDED:
        verdict = with_finding(NODE, finding.code, finding.subject, assurance=level)
        parts, _ = appraise_parts(verdict)
        for part in parts:
            row = next(
                (
                    row
                    for row in PARTS[part.label.rpartition("-")[0] or part.label].rows
                    if finding.code in row.codes or
                    any(c.endswith("*") and finding.code.startswith(c[:-1]) for c in row.codes)
                ),
                None,
            )  # fmt: skip
            if row and row.claim and row.needed and part.label in (finding.subject, "fabric"):
                assert part.vector.get(row.claim, 0) == 0, finding


def test_debug_is_contraindicated_even_where_the_policy_allows_it(genuine: Verdict) -> None:
    tdx = genuine.tdx
    assert tdx is not None
    values = {**tdx.values, "td_attribute_names": ("DEBUG",)}
    debugged = replace(tdx)
    debugged.__dict__["values"] = values
    claims = ear_claims(replace(genuine, tdx=debugged))
    check_form(claims)
    assert claims["submods"]["tdx"]["ear_status"] == "contraindicated"
    assert claims["submods"]["tdx"]["ear_trustworthiness_vector"]["runtime-opaque"] == 96
    assert claims["ear_status"] == "contraindicated"


def test_an_accepted_status_that_is_not_up_to_date_is_a_warning(genuine: Verdict) -> None:
    tdx = genuine.tdx
    assert tdx is not None
    older = replace(tdx)
    older.__dict__["values"] = {**tdx.values, "tcb_status": "SWHardeningNeeded"}
    claims = ear_claims(replace(genuine, tdx=older))
    check_form(claims)
    assert claims["submods"]["tdx"]["ear_trustworthiness_vector"]["hardware"] == 32
    assert claims["ear_status"] == claims["submods"]["tdx"]["ear_status"] == "warning"
    waiting = with_finding(replace(genuine, tdx=older), "TDX-REPORT-DATA", state=State.NOT_CHECKED)
    claims = ear_claims(waiting)
    check_form(claims)
    assert claims["ear_status"] == claims["submods"]["tdx"]["ear_status"] == "none"


def test_a_check_that_no_row_knows_concerns_every_part() -> None:
    unknown = Finding("GPU-OF-A-LATER-RELEASE", State.FAIL, subject="gpu-0")
    listed, conclusion, code = conclude([*NODE.findings, unknown], {})
    verdict = replace(NODE, findings=listed, conclusion=conclusion, exit_code=code)
    claims = ear_claims(verdict)
    check_form(claims)
    statuses = {submod["ear_status"] for submod in claims["submods"].values()}
    assert statuses == {"contraindicated"}


@settings(max_examples=60)
@given(st.data())
def test_any_mixture_of_states_keeps_the_form(data: st.DataObject) -> None:
    findings = [
        finding._replace(
            state=data.draw(st.sampled_from(State)), assurance=data.draw(st.sampled_from(Assurance))
        )
        if data.draw(st.booleans())
        else finding
        for finding in NODE.findings
    ]
    listed, conclusion, code = conclude(findings, {})
    verdict = replace(NODE, findings=listed, conclusion=conclusion, exit_code=code)
    claims = ear_claims(verdict)
    check_form(claims)
    if not verdict.trusted:
        assert claims["ear_status"] not in AFFIRMING
    assert set(AFFIRMED) <= set(CLAIM_KEYS)


def test_nothing_to_judge_makes_a_token_that_affirms_nothing() -> None:
    empty = judge(ccverify.Evidence(), SMALL)
    claims = ear_claims(empty)
    check_form(claims)
    assert claims["ear_status"] == "none"
    assert {submod["ear_status"] for submod in claims["submods"].values()} == {"none"}
    nameless = replace(empty, findings=())
    assert set(ear_claims(nameless)["submods"]) == {"node"}
