"""Parsing of certificates and CRLs, and the rules by which one issues the other."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import CollateralError, EvidenceError
from ccverify.sim import CertificateSpec, SimIssuer, SimKey, SimPlatform
from ccverify.sim.certs import (
    AUTHORITY_KEY_ID,
    SUBJECT_KEY_ID,
    CrlSpec,
    Extension,
    authority_key_id,
    basic_constraints,
    crl_number,
    key_usage,
    pem_chain,
    subject_key_id,
)
from ccverify.sim.certs import Name as SimName
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import (
    MAX_CERTIFICATE_BYTES,
    MAX_CHAIN_CERTIFICATES,
    MAX_CRL_BYTES,
    Certificate,
    Crl,
    issue_problem,
    parse_certificate,
    parse_crl,
    parse_pem_chain,
    validity_problem,
)

ISSUER = SimIssuer()
CASE = SimPlatform().case()
NULL = Extension("1.3.6.1.4.1.55555.1", True, b"\x05\x00")


def _parsed(spec: CertificateSpec) -> Certificate:
    return parse_certificate(spec.der())


# --- certificates -------------------------------------------------------------------------


def test_fields_are_those_that_were_written() -> None:
    spec = CASE.pck
    certificate = _parsed(spec)
    assert certificate.der == spec.der()
    assert certificate.tbs == spec.tbs()
    assert certificate.subject == spec.subject.der()
    assert certificate.issuer == spec.issuer.der() == CASE.pck_ca.subject.der()
    assert certificate.serial == spec.serial
    assert (certificate.not_before, certificate.not_after) == (spec.not_before, spec.not_after)
    assert certificate.public_key.point == spec.key.public_xy
    assert certificate.subject_key_id == spec.key.key_id
    assert certificate.authority_key_id == CASE.pck_ca.key.key_id
    assert (certificate.is_ca, certificate.path_length) == (False, None)
    assert (certificate.signs_data, certificate.signs_certificates) == (True, False)
    assert certificate.unknown_critical == ()
    assert "1.2.840.113741.1.13.1" in certificate.private_extensions


def test_a_ca_certificate_says_so() -> None:
    ca = _parsed(CASE.pck_ca)
    assert (ca.is_ca, ca.path_length) == (True, 0)
    assert (ca.signs_certificates, ca.signs_crls, ca.signs_data) == (True, True, False)


def test_without_key_usage_nothing_may_be_signed() -> None:
    bare = _parsed(replace(CASE.pck_ca, extensions=()))
    assert (bare.signs_certificates, bare.signs_crls, bare.signs_data) == (False, False, False)
    assert (bare.is_ca, bare.subject_key_id, bare.authority_key_id) == (False, None, None)


def test_p384_keys_are_read() -> None:
    spec = replace(CASE.pck, key=SimKey("big", curve="P-384"))
    assert _parsed(spec).public_key.curve == "P-384"


def test_critical_extensions_we_do_not_know_are_named() -> None:
    assert _parsed(CASE.pck.with_extension(NULL)).unknown_critical == (NULL.oid,)
    tolerated = replace(NULL, critical=False)
    assert _parsed(CASE.pck.with_extension(tolerated)).unknown_critical == ()


@pytest.mark.parametrize(
    ("name", "der"),
    [
        ("empty", b""),
        ("not DER", b"\xff" * 100),
        ("truncated", CASE.pck.der()[:-1]),
        ("with a tail", CASE.pck.der() + b"\0"),
        ("version 1", replace(CASE.pck, version=1, extensions=()).der()),
        ("a CRL", CASE.pck_crl.der()),
        ("too large", b"\x30\x83\xff\xff\xff" + bytes(MAX_CERTIFICATE_BYTES)),
        (
            "duplicate extension",
            replace(CASE.pck, extensions=(*CASE.pck.extensions, CASE.pck.extensions[0])).der(),
        ),
        (
            "malformed key usage",
            CASE.pck.with_extension(Extension("2.5.29.15", True, b"\x05\x00")).der(),
        ),
    ],
)
def test_what_is_no_certificate_is_refused(name: str, der: bytes) -> None:
    for error in (EvidenceError, CollateralError):
        with pytest.raises(error):
            parse_certificate(der, error)


def test_a_key_that_is_not_on_a_nist_curve_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    for key in (ed25519.Ed25519PrivateKey.from_private_bytes(b"\1" * 32), ec.derive_private_key(
        5, ec.SECP256K1()
    )):  # fmt: skip
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        der = CASE.pck.der().replace(CASE.pck.key.spki, spki)
        with pytest.raises(EvidenceError):
            parse_certificate(_fix_lengths(der))


def _fix_lengths(der: bytes) -> bytes:
    """Re-encode the two outer lengths after a change of size; the signature no longer fits."""
    tbs_old = int.from_bytes(der[6:8], "big")
    delta = len(der) - 4 - int.from_bytes(der[2:4], "big")
    outer = (len(der) - 4).to_bytes(2, "big")
    return der[:2] + outer + der[4:6] + (tbs_old + delta).to_bytes(2, "big") + der[8:]


def _named(*attributes: tuple[str, str]) -> Certificate:
    return _parsed(replace(CASE.pck, subject=SimName(attributes)))


def test_the_common_name_is_read() -> None:
    assert _parsed(CASE.pck).common_name == "Intel SGX PCK Certificate"
    assert _named(("O", "x"), ("CN", "Name"), ("C", "US")).common_name == "Name"
    assert _named(("CN", "n" * 200)).common_name == "n" * 200


@pytest.mark.parametrize(
    "attributes",
    [
        (("O", "Intel SGX PCK Certificate"),),
        (("CN", "one"), ("CN", "two")),
        (("CN", "one"), ("CN", "one")),
        (("CN", "Intel SGX PCK Certificaté"),),
        (),
    ],
)
def test_two_common_names_or_none_or_a_foreign_one_are_none(
    attributes: tuple[tuple[str, str], ...],
) -> None:
    assert _named(*attributes).common_name is None


def test_certificates_are_equal_by_their_bytes() -> None:
    first, again = _parsed(CASE.pck), parse_certificate(bytearray(CASE.pck.der()))
    other = _parsed(replace(CASE.pck, serial=7))
    assert (first, hash(first)) == (again, hash(again))
    assert first != other
    assert first != CASE.pck.der()


@given(st.integers(0, len(CASE.pck.der()) - 1), st.integers(0, 7))
@settings(deadline=None, max_examples=500)
def test_a_damaged_certificate_is_refused_or_not_genuine(position: int, bit: int) -> None:
    der = bytearray(CASE.pck.der())
    der[position] ^= 1 << bit
    try:
        certificate = parse_certificate(bytes(der))
    except EvidenceError:
        return
    assert _issue_problem(certificate, CASE.pck_ca) is not None


@pytest.mark.parametrize("unused", range(1, 8))
def test_a_signature_has_no_unused_bits(unused: int) -> None:
    """Nobody signs that octet: another value would be another certificate of equal standing."""
    der = SimIssuer().root().der()
    at = len(der) - 1 - len(parse_certificate(der).signature)
    assert der[at] == 0
    # The bits it declares unused must be zero, or `cryptography` refuses it before we do.
    with pytest.raises(EvidenceError):
        parse_certificate(der[:at] + bytes((unused,)) + der[at + 1 :])


@pytest.mark.parametrize("text", [b"\xff" * 24, b"\0" * 24])
def test_a_subject_that_is_no_text_still_has_one(text: bytes) -> None:
    """Whoever sends a chain chooses the bytes of its names; findings must be able to tell them."""
    der = CASE.pck.der().replace(b"Intel SGX PCK Certificat", text)
    try:
        certificate = parse_certificate(der)
    except EvidenceError:
        return
    assert certificate.subject_text


def test_a_subject_of_unusual_length_makes_no_noise() -> None:
    """`cryptography` warns of a country of thirty letters; warnings are errors in these tests."""
    long_country = SimName((("CN", "Intel SGX PCK Certificate"), ("C", "U" * 30)))
    spec = replace(CASE.pck, subject=long_country, signer=SimKey("stranger"))
    assert "Intel SGX PCK Certificate" in _parsed(spec).subject_text


@pytest.mark.parametrize("size", range(0, len(CASE.pck.der()), 3))
def test_a_truncated_certificate_is_refused(size: int) -> None:
    with pytest.raises(EvidenceError):
        parse_certificate(CASE.pck.der()[:size])


# --- chains -------------------------------------------------------------------------------

PEM = CASE.pck_chain().encode()


def test_a_chain_keeps_its_order() -> None:
    chain = parse_pem_chain(PEM)
    assert [c.der for c in chain] == [s.der() for s in (CASE.pck, CASE.pck_ca, CASE.root)]


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"\r\n\r\n", b"\n\0"])
def test_white_space_and_one_nul_may_follow(tail: bytes) -> None:
    assert parse_pem_chain(PEM + tail) == parse_pem_chain(PEM)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"\0",
        b"\n \n",
        PEM + b"\0\0",
        PEM + b"x",
        b"Bag Attributes\n" + PEM,
        PEM.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        PEM[:-5],
        PEM.replace(b"-----END", b"=====END", 1),
        PEM.replace(b"MII", b"M=II", 1),
        PEM.replace(b"MII", b"M*II", 1),
        PEM + CASE.pck_crl.pem().encode(),
        PEM.replace(b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n", 1),
        pem_chain(*[CASE.pck] * (MAX_CHAIN_CERTIFICATES + 1)).encode(),
        b" " * (MAX_CHAIN_CERTIFICATES * 2 * MAX_CERTIFICATE_BYTES + 1),
    ],
)
def test_anything_else_in_a_chain_is_refused(pem: bytes) -> None:
    for error in (EvidenceError, CollateralError):
        with pytest.raises(error):
            parse_pem_chain(pem, error)


def test_a_chain_of_the_greatest_length_is_read() -> None:
    pem = pem_chain(*[CASE.pck] * MAX_CHAIN_CERTIFICATES).encode()
    assert len(parse_pem_chain(pem)) == MAX_CHAIN_CERTIFICATES


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=200)
def test_garbage_is_no_chain_no_certificate_and_no_crl(data: bytes) -> None:
    block = b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n"
    for parse in (parse_certificate, parse_crl, parse_pem_chain):
        with pytest.raises(EvidenceError):
            parse(data)
    with pytest.raises(EvidenceError):
        parse_pem_chain(block % base64.b64encode(data))


# --- revocation lists -----------------------------------------------------------------------


def test_crl_fields_are_those_that_were_written() -> None:
    spec = CASE.pck_crl.with_number(41).with_revoked(CASE.pck.serial, reason=None)
    crl = parse_crl(spec.der())
    assert (crl.issuer, crl.number) == (CASE.pck_ca.subject.der(), 41)
    assert (crl.this_update, crl.next_update) == (spec.this_update, spec.next_update)
    assert crl.authority_key_id == CASE.pck_ca.key.key_id
    assert crl.entries == 3
    assert crl.lists(CASE.pck.serial)
    assert not crl.lists(CASE.pck.serial + 1)


@pytest.mark.parametrize("reason", ["key_compromise", "certificate_hold", "superseded", None])
def test_every_reason_counts_as_revoked(reason: str | None) -> None:
    spec = CASE.root_crl.with_revoked(5, reason=reason)
    assert parse_crl(spec.der()).lists(5)
    assert not parse_crl(CASE.root_crl.der()).lists(5)


def test_an_endless_crl_has_no_next_update() -> None:
    assert parse_crl(replace(CASE.root_crl, next_update=None).der()).next_update is None


def test_crls_are_equal_by_their_bytes() -> None:
    first, again = parse_crl(CASE.root_crl.der()), parse_crl(bytes(bytearray(CASE.root_crl.der())))
    assert (first, hash(first)) == (again, hash(again))
    assert first != parse_crl(CASE.pck_crl.der())
    assert first != CASE.root_crl.der()


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\xff" * 50,
        CASE.pck_crl.der()[:-1],
        CASE.pck_crl.der() + b"\0",
        CASE.pck.der(),
        bytes(MAX_CRL_BYTES + 1),
        replace(CASE.pck_crl, extensions=(crl_number(1), crl_number(2))).der(),
        # Version 1 has no version field.
        CASE.pck_crl.der().replace(b"\x02\x01\x01\x30", b"\x02\x01\x00\x30", 1),
    ],
)
def test_what_is_no_crl_is_refused(der: bytes) -> None:
    for error in (EvidenceError, CollateralError):
        with pytest.raises(error):
            parse_crl(der, error)


@pytest.mark.parametrize("size", range(0, len(CASE.pck_crl.der()), 3))
def test_a_truncated_crl_is_refused(size: int) -> None:
    with pytest.raises(EvidenceError):
        parse_crl(CASE.pck_crl.der()[:size])


@given(st.integers(0, len(CASE.pck_crl.der()) - 1), st.integers(0, 7))
@settings(deadline=None, max_examples=300)
def test_a_damaged_crl_is_refused_or_not_genuine(position: int, bit: int) -> None:
    der = bytearray(CASE.pck_crl.der())
    der[position] ^= 1 << bit
    try:
        crl = parse_crl(bytes(der))
    except EvidenceError:
        return
    honest = parse_crl(CASE.pck_crl.der())
    same = (crl.tbs, crl.signature) == (honest.tbs, honest.signature)
    assert same or _issue_problem(crl, CASE.pck_ca) is not None


# --- issuing --------------------------------------------------------------------------------


def _issue_problem(child: Certificate | Crl, issuer: CertificateSpec) -> str | None:
    parent = _parsed(issuer)
    return issue_problem(
        child, parent.subject, parent.public_key, parent.subject_key_id, SignatureMemory()
    )


def test_an_issuer_issues_its_certificates_and_lists() -> None:
    assert _issue_problem(_parsed(CASE.pck), CASE.pck_ca) is None
    assert _issue_problem(_parsed(CASE.pck_ca), CASE.root) is None
    assert _issue_problem(parse_crl(CASE.pck_crl.der()), CASE.pck_ca) is None
    assert _issue_problem(parse_crl(CASE.root_crl.der()), CASE.root) is None


def test_a_p384_issuer_signs_with_sha384() -> None:
    key = SimKey("p384", curve="P-384")
    ca = replace(CASE.pck_ca, key=key).with_extension(subject_key_id(key))
    child = CASE.pck.signed_by(ca)
    assert _issue_problem(_parsed(child), ca) is None
    sha256 = replace(child, hash_name="sha256")
    assert "does not fit P-384" in str(_issue_problem(_parsed(sha256), ca))


_STRANGER = SimKey("stranger")
ISSUE_PROBLEMS = {
    "issuer name": (replace(CASE.pck, issuer=CASE.root.subject), "issuer name"),
    "critical extension": (CASE.pck.with_extension(NULL), "critical extension"),
    "authority key id": (
        CASE.pck.with_extension(authority_key_id(_STRANGER)),
        "authority key identifier",
    ),
    "digest": (replace(CASE.pck, hash_name="sha384"), "does not fit P-256"),
    "signature": (replace(CASE.pck, signer=_STRANGER), "does not verify"),
}


@pytest.mark.parametrize("name", ISSUE_PROBLEMS)
def test_what_another_issued_is_refused(name: str) -> None:
    spec, message = ISSUE_PROBLEMS[name]
    assert message in str(_issue_problem(_parsed(spec), CASE.pck_ca))


@pytest.mark.parametrize("inner", ["sha256", "sha384"])
def test_both_algorithm_fields_must_agree(inner: str) -> None:
    """RFC 5280, 4.1.1.2: the field inside the signed part and the one outside are the same."""
    outer = "sha384" if inner == "sha256" else "sha256"
    spec = replace(CASE.pck, hash_name=inner, stated_hash=outer)  # type: ignore[arg-type]
    spec = replace(spec, signature=CASE.pck_ca.key.sign_der(spec.tbs(), "sha256"))
    with pytest.raises(EvidenceError, match="two signature algorithms"):
        _parsed(spec)


def test_key_identifiers_are_compared_only_where_both_sides_have_one() -> None:
    without = CASE.pck.without_extension(AUTHORITY_KEY_ID)
    assert _issue_problem(_parsed(without), CASE.pck_ca) is None
    nameless = CASE.pck_ca.without_extension(SUBJECT_KEY_ID)
    foreign = CASE.pck.with_extension(authority_key_id(_STRANGER))
    assert _issue_problem(_parsed(foreign), nameless) is None
    assert _issue_problem(_parsed(foreign), CASE.pck_ca) is not None


def _crl(**changes: object) -> Crl:
    spec: CrlSpec = replace(CASE.pck_crl, **changes)  # type: ignore[arg-type]
    return parse_crl(spec.der())


DELTA = Extension("2.5.29.27", True, b"\x02\x01\x01")
DISTRIBUTION = Extension("2.5.29.28", True, b"\x30\x03\x84\x01\xff")  # indirectCRL
CRL_PROBLEMS = {
    "issuer": ({"issuer": CASE.root.subject}, "issuer name"),
    "signer": ({"signer": _STRANGER}, "does not verify"),
    "digest": ({"hash_name": "sha384"}, "does not fit"),
    "delta": ({"extensions": (*CASE.pck_crl.extensions, DELTA)}, "critical extension"),
    "delta not critical": (
        {"extensions": (*CASE.pck_crl.extensions, replace(DELTA, critical=False))},
        "critical extension",
    ),
    "indirect": ({"extensions": (*CASE.pck_crl.extensions, DISTRIBUTION)}, "critical extension"),
    "key id": ({"extensions": (authority_key_id(_STRANGER),)}, "authority key identifier"),
}


@pytest.mark.parametrize("name", CRL_PROBLEMS)
def test_a_list_of_another_issuer_or_kind_is_refused(name: str) -> None:
    changes, message = CRL_PROBLEMS[name]
    assert message in str(_issue_problem(_crl(**changes), CASE.pck_ca))  # type: ignore[arg-type]


def test_validity_includes_both_ends() -> None:
    certificate, second = _parsed(CASE.pck), timedelta(seconds=1)
    assert validity_problem(certificate, certificate.not_before) is None
    assert validity_problem(certificate, certificate.not_after) is None
    early = validity_problem(certificate, certificate.not_before - second)
    late = validity_problem(certificate, certificate.not_after + second)
    assert "valid only from 2025-05-06T09:25:00Z" in str(early)
    assert "expired on 2032-05-06T09:25:00Z" in str(late)


def test_constraints_other_than_the_known_ones_do_not_hide() -> None:
    limited = _parsed(replace(CASE.pck_ca, extensions=(basic_constraints(True, 3), key_usage())))
    assert (limited.is_ca, limited.path_length, limited.signs_certificates) == (True, 3, False)
