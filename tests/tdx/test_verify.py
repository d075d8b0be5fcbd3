"""Verification of a whole quote: each step's finding, and no change that goes unnoticed."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.judging import (
    EVERY_STATUS,
    failed,
    finding_of,
    judge_real,
    judge_sim,
    policy,
    sim_pack,
    sim_trust,
)

from ccverify import TrustAnchor, TrustKind, TrustStore, check, parse_quote
from ccverify.findings import Assurance, State
from ccverify.sim import ModuleIdentity, SimCase, SimEvidence, SimIssuer, SimKey, SimPlatform
from ccverify.tdx.collateral import CollateralPack
from ccverify.tdx.verify import verify_quote

CASE = SimPlatform().case()
EVIDENCE = CASE.build()
LENIENT = policy(tcb={"accepted_statuses": list(EVERY_STATUS)})


def _fails(case: SimCase) -> set[str]:
    return failed(judge_sim(case.build(), LENIENT))


# --- each step ------------------------------------------------------------------------------


def test_an_honest_quote_passes_every_step() -> None:
    pack, trust = sim_pack(EVIDENCE), sim_trust(EVIDENCE)
    verification = verify_quote(parse_quote(EVIDENCE.quote_bytes), pack, trust, EVIDENCE.at)
    states = {finding.code: finding.state for finding in verification.findings}
    assert states.pop("TDX-TCB-RELAUNCH") is State.NOT_APPLICABLE
    assert set(states.values()) == {State.PASS}
    assert len(states) == len(verification.findings) - 1
    assert verification.platform is not None
    assert verification.tcb is not None
    assert len(verification.collateral.artefacts) == 4


def _qe_attributes(attributes: bytes, mask: bytes, report: bytes) -> SimCase:
    case = CASE.with_qe_report(attributes=report)
    identity = replace(case.qe_identity, attributes=attributes, attributes_mask=mask)
    return replace(case, qe_identity=identity)


def _miscselect(value: int, mask: int, report: int) -> SimCase:
    case = CASE.with_qe_report(misc_select=report)
    identity = replace(
        case.qe_identity,
        miscselect=value.to_bytes(4, "big"),
        miscselect_mask=mask.to_bytes(4, "big"),
    )
    return replace(case, qe_identity=identity)


def _module(**changes: Any) -> SimCase:
    identities = (ModuleIdentity(id="TDX_01", levels=CASE.tcb_info.module_identities[1].levels),)  # type: ignore[index]
    identities = tuple(replace(identity, **changes) for identity in identities)
    return replace(CASE, tcb_info=replace(CASE.tcb_info, module_identities=identities))


_ONES = b"\xff" * 16
STEPS: dict[str, tuple[SimCase, set[str]]] = {
    "vendor": (CASE.with_header(qe_vendor_id=bytes(16)), {"TDX-QE-VENDOR"}),
    "QE attribute outside the mask": (
        _qe_attributes(bytes(16), bytes(15) + b"\1", b"\xf0" + bytes(15)),
        set(),
    ),
    "QE attribute inside the mask": (
        _qe_attributes(bytes(16), _ONES, bytes(15) + b"\1"),
        {"TDX-QE-IDENTITY-MATCH"},
    ),
    "QE attribute missing": (
        _qe_attributes(b"\1" + bytes(15), _ONES, bytes(16)),
        {"TDX-QE-IDENTITY-MATCH"},
    ),
    "MISCSELECT as a number": (_miscselect(0x01020304, 0xFFFFFFFF, 0x01020304), set()),
    "MISCSELECT outside the mask": (_miscselect(1, 1, 0xFFFFFFFF), set()),
    "MISCSELECT inside the mask": (_miscselect(1, 3, 3), {"TDX-QE-IDENTITY-MATCH"}),
    "ISVPRODID": (CASE.with_qe_report(isv_prod_id=1), {"TDX-QE-IDENTITY-MATCH"}),
    "MRSIGNER": (CASE.with_qe_report(mr_signer=bytes(32)), {"TDX-QE-IDENTITY-MATCH"}),
    "SEAMATTRIBUTES": (
        CASE.with_body(seam_attributes=1),
        {"TDX-SEAM-ATTRIBUTES", "TDX-MODULE-IDENTITY"},
    ),
    "SEAMATTRIBUTES even if the identity has them": (
        replace(
            CASE.with_body(seam_attributes=1),
            tcb_info=_module(attributes=b"\1" + bytes(7)).tcb_info,
        ),
        {"TDX-SEAM-ATTRIBUTES"},
    ),
    "MRSIGNERSEAM": (CASE.with_body(mr_signer_seam=b"\1" * 48), {"TDX-MODULE-IDENTITY"}),
    "MRSIGNERSEAM of the identity": (
        replace(
            CASE.with_body(mr_signer_seam=b"\1" * 48),
            tcb_info=_module(mrsigner=b"\1" * 48).tcb_info,
        ),
        set(),
    ),
    "key binding": (CASE.with_quote(qe_report_data=bytes(64)), {"TDX-QE-KEY-BINDING"}),
    "QE report signer": (
        CASE.with_quote(qe_signer=SimKey("stranger")),
        {"TDX-QE-REPORT-SIGNATURE"},
    ),
    "quote signer": (CASE.with_quote(quote_signer=SimKey("stranger")), {"TDX-QUOTE-SIGNATURE"}),
    "attestation key no point": (
        CASE.with_quote(attestation_public_key=bytes(64)),
        {"TDX-QUOTE-SIGNATURE"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str) -> None:
    case, codes = STEPS[name]
    assert _fails(case) == codes


def test_an_authenticity_failure_takes_every_claim_down() -> None:
    verdict = judge_sim(CASE.with_quote(quote_signer=SimKey("stranger")).build())
    assert verdict.tdx is not None
    assert set(verdict.tdx.assurance.values()) == {Assurance.NONE}
    assert verdict.exit_code == 3


def test_a_chain_that_does_not_parse_leaves_the_rest_unchecked() -> None:
    verdict = judge_sim(CASE.with_quote(certification_data=b"no PEM").build())
    assert failed(verdict) == {"TDX-PCK-CHAIN"}
    assert finding_of(verdict, "TDX-PCK-VALIDITY").state is State.NOT_CHECKED
    assert finding_of(verdict, "TDX-QE-REPORT-SIGNATURE").state is State.NOT_CHECKED
    # What needs no platform is still checked.
    assert finding_of(verdict, "TDX-QUOTE-SIGNATURE").state is State.PASS
    assert finding_of(verdict, "TDX-ROOT-CRL-SIGNATURE").state is State.PASS
    assert finding_of(verdict, "TDX-QE-IDENTITY-SIGNATURE").state is State.PASS


def test_the_roots_own_validity_counts() -> None:
    verdict = judge_sim(EVIDENCE, now=datetime(2050, 1, 1, tzinfo=UTC))
    assert {"TDX-PCK-VALIDITY", "TDX-TCB-INFO-FRESH"} <= failed(verdict)
    assert "2049-12-31T23:59:59Z" in str(finding_of(verdict, "TDX-PCK-VALIDITY").found)


# --- where the PCK chain comes from ------------------------------------------------------------


def _pack_with(chain: str | None) -> CollateralPack:
    collateral = replace(EVIDENCE.collateral, pck_certificate_chain=chain)
    return sim_pack(replace(EVIDENCE, collateral=collateral))


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_quote_with_a_ppid_needs_the_chain_that_signed_it(kind: int) -> None:
    evidence = SimPlatform().case(inner_type=kind).build()
    neighbour = replace(SimPlatform(), label="neighbour").case().pck_chain()
    assert judge_sim(evidence, collateral=_pack_with(CASE.pck_chain())).trusted
    for pack in (_pack_with(None), _pack_with(neighbour)):
        verdict = judge_sim(evidence, collateral=pack)
        assert verdict.conclusion.value == "incomplete"
        assert finding_of(verdict, "TDX-PCK-CHAIN").state is State.NOT_CHECKED
    both = _pack_with(neighbour).merged(_pack_with(CASE.pck_chain()))
    assert judge_sim(evidence, collateral=both).trusted


def test_a_forged_chain_from_the_pack_is_refused() -> None:
    evidence = SimPlatform().case(inner_type=1).build()
    stranger = SimIssuer(seed=b"other")
    forged = replace(CASE.pck, signer=stranger.pck_ca().key).pem() + stranger.pck_ca().pem()
    verdict = judge_sim(evidence, collateral=_pack_with(forged))
    assert failed(verdict) == {"TDX-PCK-CHAIN"}


def test_a_leaf_is_completed_with_the_chain_of_its_crl() -> None:
    evidence = SimPlatform().case(inner_type=4).build()
    assert judge_sim(evidence).trusted
    bare = sim_pack(evidence)
    bare = replace(bare, pck_crls=tuple(replace(crl, issuer_chain=()) for crl in bare.pck_crls))
    verdict = judge_sim(evidence, collateral=bare)
    assert finding_of(verdict, "TDX-PCK-CHAIN").state is State.NOT_CHECKED


def test_a_chain_in_the_quote_is_never_replaced() -> None:
    neighbour = replace(SimPlatform(), label="neighbour").case().pck_chain()
    verdict = judge_sim(EVIDENCE, collateral=_pack_with(neighbour))
    assert verdict.trusted
    assert finding_of(verdict, "TDX-PCK-CHAIN").found == "chain in the quote"


# --- revocation --------------------------------------------------------------------------------


def test_a_neighbours_revocation_does_not_matter() -> None:
    crl = CASE.pck_crl.with_revoked(CASE.pck.serial + 1, CASE.pck_ca.serial)
    assert _fails(replace(CASE, pck_crl=crl)) == set()
    crl = CASE.pck_crl.with_revoked(CASE.pck.serial)
    assert _fails(replace(CASE, pck_crl=crl)) == {"TDX-PCK-REVOCATION"}


def test_the_root_list_is_held_against_ca_and_signers() -> None:
    for serial in (CASE.pck_ca.serial, CASE.tcb_signing.serial):
        crl = CASE.root_crl.with_revoked(serial)
        assert _fails(replace(CASE, root_crl=crl)) == {"TDX-CA-REVOCATION"}
    crl = CASE.root_crl.with_revoked(CASE.pck.serial)
    assert _fails(replace(CASE, root_crl=crl)) == set()


def test_a_crl_issuer_must_be_allowed_to_sign_crls() -> None:
    from ccverify.sim.certs import key_usage

    ca = CASE.pck_ca.with_extension(key_usage("key_cert_sign"))
    assert _fails(replace(CASE, pck_ca=ca)) == {"TDX-PCK-CRL-SIGNATURE"}


# --- no change goes unnoticed --------------------------------------------------------------------

_SIGNED_PARTS = (
    "header", "body_type", "body_size", "body", "signature", "attestation_key", "qe_report",
    "qe_report_signature", "auth_data",
)  # fmt: skip


def _everything_but_pem(quote_bytes: bytes) -> int:
    """End of what is signed or bound: the authentication data is the last such part."""
    quote = parse_quote(quote_bytes)
    return quote_bytes.index(quote.certification_data) - 6


def _flips(data: bytes, end: int, seed: int) -> list[bytes]:
    """Every byte before `end`, each with one bit flipped."""
    choose = random.Random(seed)
    flipped = []
    for position in range(end):
        changed = bytearray(data)
        changed[position] ^= 1 << choose.randrange(8)
        flipped.append(bytes(changed))
    return flipped


@pytest.mark.parametrize(("version", "kind"), [(4, 2), (5, 3), (5, 4)])
def test_no_flipped_bit_is_trusted(version: Any, kind: int) -> None:
    evidence = SimPlatform().case(version=version, body_type=kind).build()
    pack, trust = sim_pack(evidence), sim_trust(evidence)
    end = _everything_but_pem(evidence.quote_bytes)
    for position, data in enumerate(_flips(evidence.quote_bytes, end, kind)):
        verdict = check(
            data, policy=LENIENT, now=evidence.at, nonce=None, collateral=pack, trust=trust
        )
        assert not verdict.trusted, position
        assert verdict.exit_code in (2, 3), position


@pytest.mark.parametrize(
    ("name", "collateral", "seconds"),
    [
        ("phala_b0c06f_v4", "phala_b0c06f_2025-06", 1751624191),
        ("google_90c06f_v5_td15", "phala_90c06f_2026-02", 1772707803),
    ],
)
def test_no_flipped_bit_of_a_real_quote_is_trusted(
    name: str, collateral: str, seconds: int, vectors: Path
) -> None:
    data = (vectors / "tdx" / "quotes" / f"{name}.bin").read_bytes()
    pack, at = f"collateral/{collateral}.json", datetime.fromtimestamp(seconds, UTC)
    assert judge_real(data, pack, at, LENIENT).trusted
    for position, changed in enumerate(_flips(data, _everything_but_pem(data), 7)):
        verdict = judge_real(changed, pack, at, LENIENT)
        assert verdict.exit_code in (2, 3), position


def test_every_bit_of_the_small_signed_parts() -> None:
    """All eight bits of each byte of signatures, key and authentication data."""
    pack, trust = sim_pack(EVIDENCE), sim_trust(EVIDENCE)
    for name in ("signature", "attestation_key", "qe_report_signature", "auth_data"):
        (start, end) = next((a, b) for own, a, b in EVIDENCE.quote.spans if own == name)
        for bit in range(8 * start, 8 * end):
            changed = bytearray(EVIDENCE.quote_bytes)
            changed[bit // 8] ^= 1 << bit % 8
            verification = verify_quote(parse_quote(bytes(changed)), pack, trust, EVIDENCE.at)
            assert any(f.state is State.FAIL for f in verification.findings), (name, bit)


def test_the_spans_of_the_test_above_are_the_signed_ones() -> None:
    names = {name.partition(".")[0] for name, *_ in EVIDENCE.quote.spans}
    assert names >= set(_SIGNED_PARTS) - {"body_type", "body_size"}


@given(st.integers(0, 1 << 30), st.integers(0, 7))
@settings(deadline=None, max_examples=400)
def test_what_is_not_signed_cannot_change_a_claim(place: int, bit: int) -> None:
    """The PEM chain: a change is refused, or is one of white space."""
    data = bytearray(EVIDENCE.quote_bytes)
    start = _everything_but_pem(EVIDENCE.quote_bytes)
    data[start + place % (len(data) - start)] ^= 1 << bit
    changed = replace(EVIDENCE, quote=replace(EVIDENCE.quote, data=bytes(data)))
    verdict = judge_sim(changed, LENIENT)
    if verdict.trusted:
        honest = judge_sim(EVIDENCE, LENIENT)
        assert verdict.tdx is not None
        assert honest.tdx is not None
        assert verdict.tdx.values == honest.tdx.values


def test_a_quote_with_the_other_valid_signature_is_the_same_quote() -> None:
    """ECDSA is malleable; a quote is named by its signed range, not by its bytes."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signature = EVIDENCE.quote.part("signature")
    other = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    twin = replace(EVIDENCE, quote=EVIDENCE.quote.overwrite("signature", other))
    assert twin.quote_bytes != EVIDENCE.quote_bytes
    assert judge_sim(twin).trusted
    assert parse_quote(twin.quote_bytes).digest == parse_quote(EVIDENCE.quote_bytes).digest


# --- transplants -------------------------------------------------------------------------------

_MACHINES = [
    replace(SimPlatform(), label=label).case(report_data=label.encode().ljust(64)).build()
    for label in ("one", "two")
]


@pytest.mark.parametrize("count", [1, 2])
def test_no_mixture_of_two_genuine_quotes_is_trusted(count: int) -> None:
    """Parts of one machine's quote in another's, alone and in pairs."""
    from itertools import combinations

    mine, other = (machine.quote for machine in _MACHINES)
    parts = ("body", "signature", "attestation_key", "qe_report", "qe_report_signature")
    parts += ("certification_data",)
    for names in combinations(parts, count):
        mixed = mine
        for name in names:
            mixed = (
                mixed.overwrite(name, other.part(name))
                if name != "certification_data"
                else (mixed.splice(name, other.part(name)))
            )
        verdict = judge_sim(replace(_MACHINES[0], quote=mixed))
        # Body and signature go together, and need the other attestation key.
        assert not verdict.trusted, names


def test_sim_evidence_is_nothing_to_the_pinned_roots() -> None:
    pack = sim_pack(EVIDENCE)
    verdict = check(
        EVIDENCE.quote_bytes,
        policy=LENIENT,
        now=EVIDENCE.at,
        nonce=None,
        collateral=pack,
        trust=TrustStore.production(),
    )
    assert {"TDX-PCK-CHAIN", "TDX-QE-IDENTITY-SIGNATURE", "TDX-ROOT-CRL-SIGNATURE"} <= failed(
        verdict
    )
    assert verdict.exit_code == 3


@given(st.binary(max_size=400), st.sampled_from(["quote", "event_log"]))
@settings(deadline=None, max_examples=200)
def test_garbage_never_raises_and_is_never_trusted(data: bytes, which: str) -> None:
    from ccverify import Evidence

    evidence = Evidence(data) if which == "quote" else Evidence(EVIDENCE.quote_bytes, data)
    trust = TrustStore(TrustKind.SIMULATED, TrustAnchor.load(EVIDENCE.root_der))
    verdict = check(
        evidence,
        policy=LENIENT,
        now=EVIDENCE.at,
        nonce=None,
        collateral=sim_pack(EVIDENCE),
        trust=trust,
    )
    assert not verdict.trusted
    assert verdict.dumps()


def _evidence_of(quote: bytes) -> SimEvidence:
    return replace(EVIDENCE, quote=replace(EVIDENCE.quote, data=quote))


_TEXT = b"Intel SGX PCK Certificate"


@pytest.mark.parametrize("text", [_TEXT[:-1] + b"\xff", b"\0" * 25, b"\x80" + _TEXT[1:]])
def test_a_name_that_is_no_text_is_refused_without_raising(text: bytes) -> None:
    """Names are written into findings; whoever sends the chain chooses their bytes."""
    from ccverify.sim.certs import to_pem

    leaf = to_pem(CASE.pck.der().replace(_TEXT, text), "CERTIFICATE")
    chain = leaf + CASE.pck_ca.pem() + CASE.root.pem()
    verdict = judge_sim(CASE.with_quote(certification_data=chain.encode()).build())
    assert failed(verdict) == {"TDX-PCK-CHAIN"}
    assert verdict.dumps()


def test_truncations_are_never_trusted_and_never_raise() -> None:
    for size in range(0, len(EVIDENCE.quote_bytes), 7):
        verdict = judge_sim(_evidence_of(EVIDENCE.quote_bytes[:size]))
        assert not verdict.trusted
        assert verdict.exit_code in (2, 10)
