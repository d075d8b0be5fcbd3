"""What binds a session key beside a quote: derivations, and the operator's signature."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256, sha384
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from ccverify.bundle.cose import KeySigner
from ccverify.bundle.endorsement import (
    OperatorResult,
    make_operator_signature,
    operator_payload,
    parse_operator_signature,
    tpm_qualifying_data,
    verify_operator_signature,
)
from ccverify.errors import EvidenceError, UsageError
from ccverify.sim import DEFAULT_TIME, SimKey
from ccverify.sim.certs import CertificateSpec, key_usage
from ccverify.sim.operator import SimOperator, extended_key_usage
from ccverify.trust.pkix import PkixCertificate, parse_pkix_certificate

NONCE, THUMBPRINT, MANIFEST = bytes(range(32)), b"\xaa" * 32, b"\x55" * 48
PAYLOAD = operator_payload(NONCE, THUMBPRINT, MANIFEST)
OPERATOR = SimOperator()
SIGNER = KeySigner(OPERATOR.key.private_key, deterministic=True)
CHAIN = [one.der() for one in OPERATOR.chain()]
HONEST = OPERATOR.sign(PAYLOAD)


def roots(*specs: CertificateSpec) -> tuple[PkixCertificate, ...]:
    return tuple(parse_pkix_certificate(spec.der()) for spec in specs or (OPERATOR.root(),))


def verified(
    data: bytes,
    *specs: CertificateSpec,
    payload: bytes = PAYLOAD,
    now: datetime = DEFAULT_TIME,
) -> OperatorResult:
    return verify_operator_signature(parse_operator_signature(data), payload, roots(*specs), now)


# --- derivations ---


def test_the_derivations_are_those_of_the_specification() -> None:
    covered = NONCE + THUMBPRINT + MANIFEST
    quoted = tpm_qualifying_data(NONCE, THUMBPRINT, MANIFEST)
    assert quoted == sha256(b"ccverify/tpm-quote/v1" + covered).digest()
    assert sha384(b"ccverify/operator-signature/v1" + covered).digest() == PAYLOAD
    assert (len(quoted), len(PAYLOAD)) == (32, 48)


@pytest.mark.parametrize("derive", [tpm_qualifying_data, operator_payload])
def test_every_part_counts_and_has_one_length(derive: Any) -> None:
    honest = derive(NONCE, THUMBPRINT, MANIFEST)
    parts = [NONCE, THUMBPRINT, MANIFEST]
    for at, part in enumerate(parts):
        other = [*parts[:at], bytes((part[0] ^ 1,)) + part[1:], *parts[at + 1 :]]
        assert derive(*other) != honest
        for wrong in (part[:-1], part + b"\0", b""):
            with pytest.raises(UsageError, match="wrong length"):
                derive(*parts[:at], wrong, *parts[at + 1 :])
    # A byte moved from one part to the next would give the same hash.
    with pytest.raises(UsageError):
        derive(NONCE + THUMBPRINT[:1], THUMBPRINT[1:], MANIFEST)


# --- the honest signature ---


def test_an_honest_signature_has_no_problem() -> None:
    result = verified(HONEST)
    assert result.problems == ()
    leaf = OPERATOR.certificate()
    assert result == OperatorResult(
        subject="O=ccverify simulation\\, no operator,CN=Example Cloud Fabric Managers",
        key_sha256=sha256(OPERATOR.key.spki).hexdigest(),
        certificate_sha256=sha256(leaf.der()).hexdigest(),
        root="O=ccverify simulation\\, no operator,CN=Example Cloud Root CA",
        root_sha256=sha256(OPERATOR.root().der()).hexdigest(),
        chain_problem=None,
        signature_problem=None,
    )


def test_what_ccverify_makes_is_what_the_simulation_makes() -> None:
    assert make_operator_signature(PAYLOAD, SIGNER, CHAIN) == HONEST
    alone = make_operator_signature(PAYLOAD, SIGNER, CHAIN[:1])
    assert alone == OPERATOR.sign(PAYLOAD, (OPERATOR.certificate(),))
    unprotected = cbor2.loads(alone).value[1]
    assert isinstance(unprotected[33], bytes)
    assert verified(alone, OPERATOR.issuer()).problems == ()
    assert verified(alone).chain_problem


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_both_curves_sign(curve: Any) -> None:
    operator = replace(OPERATOR, curve=curve)
    assert verified(operator.sign(PAYLOAD), operator.root()).problems == ()


def _self_signed(key: Any) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alone")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7)
    builder = builder.not_valid_before(DEFAULT_TIME - timedelta(days=1))
    builder = builder.not_valid_after(DEFAULT_TIME + timedelta(days=1))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else _sha256()
    return builder.sign(key, digest).public_bytes(Encoding.DER)


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def test_ed25519_signs_with_a_certificate_that_is_its_own_root() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    der = _self_signed(key)
    item = parse_operator_signature(make_operator_signature(PAYLOAD, KeySigner(key), [der]))
    root = parse_pkix_certificate(der)
    result = verify_operator_signature(item, PAYLOAD, [root], DEFAULT_TIME)
    assert (result.problems, result.subject, result.root) == ((), "CN=alone", "CN=alone")


# --- everything else ---


def test_a_signature_over_another_request_proves_nothing() -> None:
    other = operator_payload(bytes(32), THUMBPRINT, MANIFEST)
    result = verified(HONEST, payload=other)
    assert result.chain_problem is None
    assert "it signs" in str(result.signature_problem)
    assert result.problems == (f"signature: {result.signature_problem}",)


def test_a_chain_must_lead_to_a_named_root_now() -> None:
    stranger = SimOperator("Somebody Else")
    result = verified(HONEST, stranger.root())
    assert "not among the roots" in str(result.chain_problem)
    assert (result.root, result.root_sha256, result.signature_problem) == (None, None, None)
    late = verified(HONEST, now=DEFAULT_TIME + timedelta(days=365 * 30))
    assert "is valid from" in str(late.chain_problem)
    none = verify_operator_signature(parse_operator_signature(HONEST), PAYLOAD, (), DEFAULT_TIME)
    assert "no root is named" in str(none.chain_problem)


def test_a_certificate_of_another_key_does_not_help() -> None:
    """Anybody can put the operator's public certificates beside a signature of his own."""
    thief = SimOperator("Thief")
    stolen = thief.sign(PAYLOAD, OPERATOR.chain())
    result = verified(stolen)
    assert result.chain_problem is None
    assert "not valid under this key" in str(result.signature_problem)
    other_curve = replace(thief, curve="P-256").sign(PAYLOAD, OPERATOR.chain())
    assert "the key is for" in str(verified(other_curve).signature_problem)


@pytest.mark.parametrize(
    ("extension", "words"),
    [
        (key_usage("key_cert_sign"), "digitalSignature"),
        (extended_key_usage("1.3.6.1.5.5.7.3.1"), "not for this purpose"),
        (extended_key_usage("1.3.6.1.5.5.7.3.2", critical=True), "not for this purpose"),
    ],
)
def test_a_certificate_for_something_else_does_not_sign(extension: Any, words: str) -> None:
    leaf = OPERATOR.certificate().with_extension(extension)
    result = verified(OPERATOR.sign(PAYLOAD, (leaf, OPERATOR.issuer())))
    assert words in str(result.chain_problem)


@pytest.mark.parametrize("purpose", ["1.3.6.1.5.5.7.3.3", "1.3.6.1.5.5.7.3.36", "2.5.29.37.0"])
def test_a_certificate_for_signing_code_or_documents_does(purpose: str) -> None:
    leaf = OPERATOR.certificate().with_extension(extended_key_usage(purpose))
    assert verified(OPERATOR.sign(PAYLOAD, (leaf, OPERATOR.issuer()))).problems == ()


def test_an_rsa_key_cannot_sign() -> None:
    key = rsa.generate_private_key(65537, 2048)
    der = _self_signed(key)
    with pytest.raises(UsageError):
        make_operator_signature(PAYLOAD, SIGNER, [der])
    parts = list(cbor2.loads(HONEST).value)
    parts[1] = {33: der}
    result = verified(cbor2.dumps(cbor2.CBORTag(18, parts), canonical=True))
    assert "no kind that can sign" in str(result.signature_problem)


def test_no_byte_can_be_changed() -> None:
    """Of header, payload, signature and the signer's certificate; what is above it is found."""
    for at in range(len(HONEST)):
        data = HONEST[:at] + bytes((HONEST[at] ^ 1,)) + HONEST[at + 1 :]
        try:
            result = verified(data)
        except EvidenceError:
            continue
        assert result.problems, at


# --- form ---


def parts_of(data: bytes = HONEST) -> list[Any]:
    return list(cbor2.loads(data).value)


def put(**changes: Any) -> bytes:
    protected, unprotected, payload, signature = parts_of()
    header = {**cbor2.loads(protected), **changes.pop("header", {})}
    header = {key: value for key, value in header.items() if value is not None}
    parts = [
        cbor2.dumps(header, canonical=True),
        changes.pop("unprotected", unprotected),
        changes.pop("payload", payload),
        changes.pop("signature", signature),
    ]
    assert not changes
    return bytes(cbor2.dumps(cbor2.CBORTag(18, parts), canonical=True))


def test_the_helper_changes_nothing_by_itself() -> None:
    assert put() == HONEST


@pytest.mark.parametrize(
    "changes",
    [
        {"header": {16: "application/cmw+cose"}},
        {"header": {16: None}},
        {"header": {3: "application/cmw+cbor"}},
        {"header": {3: None}},
        {"header": {4: b"a key"}},
        {"header": {1: -7}},
        {"header": {1: -37}},
        {"header": {33: b"protected"}},
        {"payload": bytes(47)},
        {"payload": bytes(49)},
        {"payload": None},
        {"signature": bytes(95)},
        {"unprotected": {}},
        {"unprotected": {33: []}},
        {"unprotected": {33: [CHAIN[0]]}},
        {"unprotected": {33: [CHAIN[0]] * 6}},
        {"unprotected": {33: [CHAIN[0], None]}},
        {"unprotected": {33: "PEM"}},
        {"unprotected": {33: b""}},
        {"unprotected": {33: CHAIN[0] + b"\0"}},
        {"unprotected": {33: CHAIN[0], 34: b"more"}},
        {"unprotected": {33: bytes(97 * 1024)}},
    ],
)
def test_an_item_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        parse_operator_signature(put(**changes))


def test_what_no_reader_would_accept_is_not_made() -> None:
    for payload, signer, chain in (
        (PAYLOAD[:-1], SIGNER, CHAIN),
        (PAYLOAD, SIGNER, []),
        (PAYLOAD, SIGNER, CHAIN * 3),
        (PAYLOAD, SIGNER, [b"no certificate"]),
        (PAYLOAD, SIGNER, CHAIN[::-1]),
        (PAYLOAD, KeySigner(SimKey("another", curve="P-384").private_key), CHAIN),
        (PAYLOAD, KeySigner(ec.generate_private_key(ec.SECP256R1())), CHAIN),
    ):
        with pytest.raises(UsageError):
            make_operator_signature(payload, signer, chain)


@given(st.binary(max_size=200))
def test_whatever_comes_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_operator_signature(data)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5))
def test_what_is_damaged_is_refused_or_proves_nothing(edits: list[tuple[int, int]]) -> None:
    damaged = bytearray(HONEST)
    for at, value in edits:
        damaged[at % len(damaged)] = value
    try:
        result = verified(bytes(damaged))
    except EvidenceError:
        return
    assert bool(result.problems) == (bytes(damaged) != HONEST)
