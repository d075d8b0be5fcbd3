"""Simulated NVIDIA certificates and revocation answers: the profile of real ones, and defects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.ocsp import load_der_ocsp_response
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import CollateralError, UsageError
from ccverify.nvidia.certs import DeviceChain, parse_device_chain, verify_device_chain
from ccverify.nvidia.revocation import (
    Outcome,
    RevocationSet,
    RevocationStatus,
    parse_ocsp_response,
)
from ccverify.nvidia.rim import parse_rim
from ccverify.sim.certs import CertificateSpec, Extension, basic_constraints, key_usage
from ccverify.sim.nvidia import (
    CHIPS,
    GB100,
    GH100,
    LS10,
    Chip,
    OcspSpec,
    SimNode,
    SimNvidiaIssuer,
    sim_gpu,
)
from ccverify.sim.nvidia.models import H100
from ccverify.sim.nvidia.pki import chain_pem, composite_device_id, dice_tcb_info, dmtf_device_info
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import parse_certificate, parse_crl

ISSUER = SimNvidiaIssuer()
STRANGER = SimNvidiaIssuer(seed=b"somebody else")
MEMORY = SignatureMemory()
FWID = H100.fwid
EACH_CHIP = pytest.mark.parametrize("chip", CHIPS.values(), ids=lambda chip: chip.name)

REAL_CHAINS = {
    "GH100": "hopper/attestation-sdk-testdata/hopperCertChain.txt",
    "LS_10": "ls10/attestation-sdk-testdata/switchCertChain.txt",
    "GB100": "blackwell-gb100/attestation-sdk-sample/blackwellCertChain.txt",
    "GB20X": "blackwell-gb202/trustee-pr1551/blackwell_cert_chain_case1.txt",
}


@cache
def root() -> TrustAnchor:
    return TrustAnchor.load(ISSUER.device_root().der())


def verify(chain: Sequence[CertificateSpec]) -> DeviceChain:
    parsed = parse_device_chain(chain_pem(tuple(chain)).encode())
    return verify_device_chain(parsed, root(), MEMORY)


def profile(certificate: x509.Certificate) -> dict[str, Any]:
    """Everything but keys, digests, organisations and servers."""

    def shape(value: x509.ExtensionType) -> Any:
        if isinstance(value, x509.KeyUsage | x509.BasicConstraints):
            return repr(value)
        if isinstance(value, x509.UnrecognizedExtension):
            return len(value.value)
        if isinstance(value, x509.SubjectAlternativeName):
            (name,) = value
            assert isinstance(name, x509.OtherName)
            return name.type_id.dotted_string, name.value[:15], len(name.value)
        return type(value).__name__

    def names(name: x509.Name) -> list[tuple[str, str]]:
        return [(own.oid.dotted_string, str(own._type)) for own in name]

    return {
        "version": certificate.version,
        "hash": certificate.signature_algorithm_oid.dotted_string,
        "subject": names(certificate.subject),
        "issuer": names(certificate.issuer),
        "common name": certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[
            0
        ].value,
        "since": certificate.not_valid_before_utc,
        "until": certificate.not_valid_after_utc,
        "serial size": (certificate.serial_number.bit_length() + 8) // 8,
        "extensions": [
            (own.oid.dotted_string, own.critical, shape(own.value))
            for own in certificate.extensions
        ],
    }


# --- profile -------------------------------------------------------------------------------------


@EACH_CHIP
def test_chains_have_the_profile_of_real_ones(chip: Chip, vectors: Path) -> None:
    real = x509.load_pem_x509_certificates(
        (vectors / "nvidia" / REAL_CHAINS[chip.name]).read_bytes().rstrip(b"\0")
    )
    chain = ISSUER.device_chain(chip, "profile", FWID)
    simulated = x509.load_pem_x509_certificates(chain_pem(chain).encode())
    for depth, (theirs, mine) in enumerate(zip(real, simulated, strict=True)):
        left, right = profile(mine), profile(theirs)
        if depth > 1:  # random numbers of CAs may begin with zeros
            assert abs(left.pop("serial size") - right.pop("serial size")) <= 1
        assert left == right
        # Keys and texts are of the same lengths, but for what is said of the simulation.
        names = len(mine.subject.public_bytes()) + len(mine.issuer.public_bytes())
        names -= len(theirs.subject.public_bytes()) + len(theirs.issuer.public_bytes())
        assert 0 < names < 60


@EACH_CHIP
def test_names_and_serial_numbers_agree_as_in_real_chains(chip: Chip) -> None:
    chain = ISSUER.device_chain(chip, "device", FWID)
    leaf, identity = chain[:2]
    for certificate in (leaf, identity):
        text = dict(certificate.subject.attributes)["serialNumber"]
        assert int(text, 16) == certificate.serial
    pdi = ISSUER.identifier("pdi", "device", 8)
    assert identity.serial.to_bytes(9, "big") == bytes((chip.type_byte,)) + pdi
    assert leaf.serial.to_bytes(20, "big")[1:] == leaf.key.key_id[1:]
    assert leaf.serial >> 158 == 1  # as genuine ones: the two topmost bits are 01


def test_rim_signers_have_the_profile_of_real_ones(vectors: Path) -> None:
    folder = vectors / "nvidia/rim/attestation-sdk-testdata"
    for chip, name in (
        (GH100, "NV_GPU_DRIVER_GH100_550.144.03.xml"),
        (LS10, "switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"),
    ):
        real = parse_rim((folder / name).read_bytes()).document.certificates
        simulated = [parse_certificate(own.der()) for own in ISSUER.rim_chain(chip)]
        for theirs, mine in zip(real, simulated, strict=True):
            left = profile(x509.load_der_x509_certificate(mine.der))
            right = profile(x509.load_der_x509_certificate(theirs.der))
            for varies in ("since", "until", "serial size"):
                left.pop(varies)
                right.pop(varies)
            assert left == right


@EACH_CHIP
def test_fwid_and_identity_are_read_back(chip: Chip) -> None:
    chain = verify(ISSUER.device_chain(chip, "device", FWID))
    assert chain.problem is None
    assert chain.fwid == FWID
    assert chain.device_id == ISSUER.identifier("pdi", "device", 8)
    assert chain.chip == chip.name
    assert (chain.device_info or "").startswith(f"NVIDIA:{chip.name}:")
    assert chain.device_type is not None
    assert chain.device_type.value == ("nvswitch" if chip.is_switch else "gpu")


@given(st.binary(min_size=8, max_size=8).filter(any), st.binary(min_size=48, max_size=48))
def test_any_identity_and_firmware_id_survive(pdi: bytes, fwid: bytes) -> None:
    chip = GB100 if pdi[0] & 1 else GH100
    chain = verify(ISSUER.device_chain(chip, "any", fwid, pdi=pdi))
    assert chain.device_id == pdi
    assert chain.fwid == (fwid if any(fwid) else None)


def test_the_root_may_be_left_out() -> None:
    assert verify(ISSUER.device_chain(GH100, "device", FWID)[:-1]).problem is None


# --- defective chains ----------------------------------------------------------------------------


def _chain(chip: Chip = GH100, **leaf_and_identity: Any) -> tuple[CertificateSpec, ...]:
    return ISSUER.device_chain(chip, "device", FWID, **leaf_and_identity)


def _leaf(change: Callable[[CertificateSpec], CertificateSpec], chip: Chip = GH100) -> Any:
    leaf, *above = _chain(chip)
    return (change(leaf), *above)


def _identity(change: Callable[[CertificateSpec], CertificateSpec]) -> Any:
    leaf, identity, *above = _chain()
    return (leaf, change(identity), *above)


def _defects() -> dict[str, tuple[Sequence[CertificateSpec], str]]:
    other = ISSUER.key("other")
    chain = _chain()
    return {
        "another root": (
            STRANGER.device_chain(GH100, "device", FWID), "root that is not pinned",
        ),
        "another root, left out": (
            STRANGER.device_chain(GH100, "device", FWID)[:-1], "authority key identifier",
        ),
        "a certificate is missing": ((chain[0], *chain[2:]), "not a device identity"),
        "LS10 under a GPU's names": (
            (*chain[:2], ISSUER.provisioner(LS10), *chain[3:]), "certificate [2]",
        ),
        "unknown chip": (
            _chain(replace(GH100, name="GR100")), "not of a device known here",
        ),
        "type byte of a switch": (
            _chain(replace(GH100, type_byte=0x50)), "type byte that does not fit",
        ),
        "zero PDI": (_chain(pdi=bytes(8)), "all-zero device identifier"),
        "serial number of another device": (
            _identity(lambda own: replace(own, serial=own.serial + 1)), "names one device",
        ),
        "signed by another key": (
            _leaf(lambda own: replace(own, signer=other)), "does not verify",
        ),
        "signature of something else": (
            _leaf(lambda own: replace(own, signature=chain[1].signer.sign_der(b"x"))),
            "does not verify",
        ),
        "leaf is a CA": (
            _leaf(lambda own: own.with_extension(basic_constraints(True))), "is a CA",
        ),
        "leaf that signs certificates": (
            _leaf(lambda own: own.with_extension(key_usage("digital_signature", "key_cert_sign"))),
            "not for signing data alone",
        ),
        "no FWID": (
            _leaf(lambda own: own.without_extension("2.23.133.5.4.1")), "found none",
        ),
        "FWID in Blackwell's form": (
            _leaf(
                lambda own: own.without_extension("2.23.133.5.4.1").with_extension(
                    dice_tcb_info(FWID, model=GH100.prefix)
                )
            ),
            "in the form of its family",
        ),
        "FWID in Hopper's form": (
            _leaf(
                lambda own: own.without_extension("2.23.133.5.4.1.1").with_extension(
                    composite_device_id(_chain(GB100)[1].key, FWID)
                ),
                GB100,
            ),
            "in the form of its family",
        ),
        "FWID bound to another key": (
            _leaf(lambda own: own.with_extension(composite_device_id(other, FWID))),
            "key that is not the device's",
        ),
        "zero FWID": (ISSUER.device_chain(GH100, "device", bytes(48)), "all-zero FWID"),
        "device info of another chip": (
            _leaf(lambda own: own.with_extension(dmtf_device_info("NVIDIA:GB100:00"))),
            "device info of something else",
        ),
        "critical extension nobody knows": (
            _leaf(lambda own: own.with_extension(Extension("1.2.3.4", True, b"\5\0"))),
            "critical extension that is not understood",
        ),
    }  # fmt: skip


DEFECTS = _defects()


@pytest.mark.parametrize("name", DEFECTS)
def test_defective_chains_are_refused_for_their_reason(name: str) -> None:
    chain, reason = DEFECTS[name]
    judged = verify(chain)
    problems = [
        judged.name_problem, judged.path_problem, judged.identity_problem,
        judged.firmware_problem, judged.device_info_problem,
    ]  # fmt: skip
    assert reason in " | ".join(problem for problem in problems if problem)
    assert judged.problem is not None


# --- revocation ----------------------------------------------------------------------------------

NODE = SimNode.hopper_spt()
AT = NODE.at
CHAIN = NODE.gpus[0].chain
IDENTITY, PROVISIONER = CHAIN[1], CHAIN[2]
ANSWER = NODE.answer(IDENTITY, PROVISIONER)


def status(
    *specs: OcspSpec,
    at: datetime = AT,
    crls: Sequence[bytes] = (),
    nonce: bytes | None = None,
    max_age: timedelta | None = None,
) -> RevocationStatus:
    """What is known of the device identity."""
    answers = [parse_ocsp_response(spec.der()) for spec in specs]
    lists = [parse_crl(crl, CollateralError) for crl in crls]
    chain = [parse_certificate(own.der()) for own in CHAIN]
    return RevocationSet.of([*answers, *lists]).status_of(
        chain, root(), at, first=1, memory=MEMORY, nonce=nonce, max_age=max_age
    )[0]


@pytest.mark.parametrize(
    ("stated", "outcome"),
    [
        ("good", Outcome.GOOD),
        ("revoked", Outcome.REVOKED),
        ("hold", Outcome.ON_HOLD),
        ("unknown", Outcome.UNKNOWN),
    ],
)
@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384"])
def test_each_status_is_read_back(stated: Any, outcome: Outcome, hash_name: Any) -> None:
    spec = ANSWER.with_answer(status=stated, hash_name=hash_name)
    for own in (spec, replace(spec, by_key=True), spec.signed_by_issuer()):
        assert status(own).outcome is outcome
        assert load_der_ocsp_response(own.der()).serial_number == IDENTITY.serial


def test_nothing_said_is_absent() -> None:
    assert status().outcome is Outcome.ABSENT
    assert status(NODE.answer(PROVISIONER, CHAIN[3])).outcome is Outcome.ABSENT


def test_revocation_has_a_date_and_a_reason() -> None:
    since = AT - timedelta(days=400)
    spec = ANSWER.with_answer(status="revoked", revoked_at=since, reason=9)
    statement = status(spec).statement
    assert statement is not None
    assert statement.revoked_at == since
    assert statement.reason == "privilegeWithdrawn"
    statement = status(ANSWER.with_answer(status="revoked", reason=None)).statement
    assert statement is not None
    assert statement.reason is None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (replace(ANSWER, signature=b"\x30\x06\x02\x01\x01\x02\x01\x01"), "does not verify"),
        (replace(ANSWER, signer=ISSUER.key("other")), "does not verify"),
        (replace(ANSWER, brings_responder=False), "brings no certificate of its responder"),
        (replace(ANSWER, responder=STRANGER.ocsp_responder(PROVISIONER)), None),
        (
            replace(ANSWER, responder=STRANGER.ocsp_responder(STRANGER.provisioner(GH100))),
            "authority key identifier",
        ),
        (replace(ANSWER, responder=ISSUER.ocsp_responder(CHAIN[3])), "issuer name"),
        (
            replace(ANSWER, responder=ANSWER.responder.without_extension("2.5.29.37")),
            "lacks id-kp-OCSPSigning",
        ),
        (
            replace(ANSWER, extensions=(Extension("1.2.3.4", True, b"\5\0"),)),
            "critical extension",
        ),
    ],
)
def test_answers_of_nobody_who_may_are_invalid(spec: OcspSpec, reason: str | None) -> None:
    judged = status(spec)
    if reason is None:  # the responder's key says nothing: the CA of this world certified it
        assert judged.outcome is Outcome.GOOD
    else:
        assert judged.outcome is Outcome.INVALID
        assert reason in (judged.genuine_problem or "")


def test_an_expired_responder_makes_an_answer_outdated() -> None:
    expired = replace(ANSWER.responder, not_after=AT - timedelta(1))
    judged = status(replace(ANSWER, responder=expired))
    assert judged.outcome is Outcome.STALE
    assert "expired" in (judged.fresh_problem or "")


def test_time_and_nonce_are_as_chosen() -> None:
    assert status(ANSWER, at=AT + timedelta(days=6)).outcome is Outcome.GOOD
    assert status(ANSWER, at=AT + timedelta(days=7)).outcome is Outcome.STALE
    assert status(ANSWER, at=AT - timedelta(days=2)).outcome is Outcome.STALE
    assert status(ANSWER, max_age=timedelta(hours=12)).outcome is Outcome.STALE
    endless = ANSWER.with_answer(next_update=None)
    assert status(endless).outcome is Outcome.NO_NEXT_UPDATE
    nonce = bytes(range(32))
    assert status(replace(ANSWER, nonce=nonce), nonce=nonce).outcome is Outcome.GOOD
    assert status(replace(ANSWER, nonce=nonce), nonce=bytes(32)).outcome is Outcome.INVALID
    assert status(ANSWER, nonce=nonce).outcome is Outcome.INVALID


def test_refusals_of_a_responder_are_no_answers() -> None:
    with pytest.raises(CollateralError, match="holds no answer"):
        parse_ocsp_response(replace(ANSWER, response_status=3).der())
    assert status(ANSWER.with_answer(serial=1)).outcome is Outcome.ABSENT
    with pytest.raises(UsageError, match="which answer"):
        replace(ANSWER, answers=ANSWER.answers * 2).with_answer(status="good")


def test_a_node_answers_for_every_certificate_and_changes_one() -> None:
    node = SimNode.hopper_ppcie()
    specs = node.ocsp_responses()
    # 12 identities, 2 provisioners, 1 identity CA; 3 certificates for each of 2 signers.
    assert len(specs) == 12 + 2 + 1 + 2 * 3
    identity = node.gpus[5].chain[1]
    revoked = node.with_status(identity, "revoked").ocsp_responses()
    assert [
        mine.answers[0].certificate for mine, own in zip(revoked, specs, strict=True) if mine != own
    ] == [identity]
    left = node.without_answer(identity).ocsp_responses()
    assert len(left) == len(specs) - 1
    with pytest.raises(UsageError, match="nothing is answered"):
        node.with_status(node.gpus[0].chain[0], "revoked")
    again = node.with_status(identity, "revoked").with_status(identity, "good")
    assert again.ocsp_responses() == specs


def test_crls_say_what_they_list() -> None:
    crls = {crl.issuer: crl for crl in NODE.all_crls()}
    assert len(crls) == 3 + 3  # above the device: provisioner, CA, root; above the signer: 3
    empty = crls[PROVISIONER.subject]
    assert status(crls=[empty.der()]).outcome is Outcome.GOOD
    listed = empty.with_revoked(IDENTITY.serial)
    assert status(crls=[listed.der()]).outcome is Outcome.REVOKED
    assert status(ANSWER, crls=[listed.der()]).outcome is Outcome.REVOKED
    held = empty.with_revoked(IDENTITY.serial, reason="certificate_hold")
    assert status(crls=[held.der()]).outcome is Outcome.ON_HOLD
    forged = replace(empty, signer=ISSUER.key("other"))
    assert status(crls=[forged.der()]).outcome is Outcome.INVALID
    assert status(crls=[empty.der()], at=AT + timedelta(days=40)).outcome is Outcome.STALE
    assert replace(NODE, crls=(empty, listed)).build().crls == (empty.der(), listed.der())


def test_everything_is_valid_at_the_default_time() -> None:
    assert datetime(2026, 6, 15, 12, tzinfo=UTC) == AT
    specs = {*CHAIN, *ISSUER.rim_chain(GH100), *ISSUER.rim_chain(GB100), ANSWER.responder}
    assert all(own.not_before <= AT <= own.not_after for own in specs)


def test_a_device_may_be_issued_by_anybody() -> None:
    """An identity certified by another device's identity, which has keyCertSign, has no path."""
    attacker = sim_gpu(ISSUER, H100, "attacker")
    identity = ISSUER.identity(GH100, "victim", parent=attacker.chain[1])
    leaf = ISSUER.attestation_key(GH100, "victim", identity, FWID)
    judged = verify((leaf, identity, *CHAIN[2:]))
    assert "issuer name" in (judged.path_problem or "")
    longer = verify((leaf, identity, attacker.chain[1], *CHAIN[2:]))
    assert "5 certificates below the root" in (longer.path_problem or "")
