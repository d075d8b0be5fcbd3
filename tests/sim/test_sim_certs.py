"""Certificates and revocation lists: read back with `cryptography`, compared with Intel's."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import UsageError
from ccverify.sim import Extension, SgxExtension, SimIssuer, SimKey, SimPlatform, der
from ccverify.sim.certs import KEY_USAGE, CertificateSpec, basic_constraints, key_usage
from ccverify.sim.defaults import DEFAULT_TIME
from ccverify.sim.sgx_extension import SGX_EXTENSION, encode_items

_ISSUER = SimIssuer()


def load(spec: CertificateSpec) -> x509.Certificate:
    return x509.load_der_x509_certificate(spec.der())


def hierarchy() -> dict[str, CertificateSpec]:
    return {
        "root": _ISSUER.root(),
        "platform": _ISSUER.pck_ca("platform"),
        "processor": _ISSUER.pck_ca("processor"),
        "tcb": _ISSUER.tcb_signing(),
        "pck": SimPlatform().pck(),
    }


def profile(certificate: x509.Certificate) -> dict[str, Any]:
    """Everything but names of people, places and keys."""

    def shape(value: Any) -> Any:
        if isinstance(value, x509.KeyUsage | x509.BasicConstraints):
            return repr(value)
        return type(value).__name__

    return {
        "version": certificate.version,
        "hash": certificate.signature_algorithm_oid.dotted_string,
        "subject": [(own.oid.dotted_string, own._type) for own in certificate.subject],
        "issuer": [own.oid.dotted_string for own in certificate.issuer],
        "cn": certificate.subject.rfc4514_string().rpartition("CN=")[2].partition(",")[0],
        "extensions": [
            (own.oid.dotted_string, own.critical, shape(own.value))
            for own in certificate.extensions
        ],
    }


def test_chain_verifies_link_by_link() -> None:
    own = {name: load(spec) for name, spec in hierarchy().items()}
    for child, parent in (
        ("root", "root"),
        ("platform", "root"),
        ("processor", "root"),
        ("tcb", "root"),
        ("pck", "platform"),
    ):
        own[child].verify_directly_issued_by(own[parent])
    with pytest.raises((ValueError, InvalidSignature)):
        own["pck"].verify_directly_issued_by(own["processor"])


def test_profile_is_that_of_the_real_certificates(vectors: Path) -> None:
    collateral = json.loads(
        (vectors / "tdx/collateral/phala_b0c06f_2025-06.json").read_text("utf-8")
    )
    quote = (vectors / "tdx/quotes/phala_b0c06f_v4.bin").read_bytes()
    pem = quote[quote.index(b"-----BEGIN") :].split(b"\0")[0]
    pck, platform, root = x509.load_pem_x509_certificates(pem)
    tcb = x509.load_pem_x509_certificates(collateral["tcb_info_issuer_chain"].encode())[0]
    own = {name: profile(load(spec)) for name, spec in hierarchy().items()}
    for name, real in (("pck", pck), ("platform", platform), ("root", root), ("tcb", tcb)):
        assert own[name] == profile(real), name


def test_sgx_extension_has_the_real_structure(vectors: Path) -> None:
    """Feeding the real values into our encoder gives the real bytes back."""
    quote = (vectors / "tdx/quotes/phala_b0c06f_v4.bin").read_bytes()
    pem = quote[quote.index(b"-----BEGIN") :].split(b"\0")[0]
    certificate = x509.load_pem_x509_certificates(pem)[0]
    oid = x509.ObjectIdentifier(SGX_EXTENSION)
    real = certificate.extensions.get_extension_for_oid(oid).value
    assert isinstance(real, x509.UnrecognizedExtension)
    again = SgxExtension(
        ppid=bytes.fromhex("811dca2a26b952e85bb6448b097ba4fd"),
        component_svns=(3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0),
        pcesvn=11,
        cpusvn=bytes.fromhex("03030202040100050000000000000000"),
        pce_id=bytes(2),
        fmspc=bytes.fromhex("b0c06f000000"),
        sgx_type=1,
        platform_instance_id=bytes.fromhex("07828474603e7019dc930775ffe8cdd2"),
        configuration=SimPlatform().configuration,
    )
    assert again.extension().value == real.value


def test_surplus_svns_take_free_numbers() -> None:
    sgx = replace(SimPlatform().sgx_extension(), component_svns=(1,) * 18)
    oids = [oid.rpartition(".")[2] for oid, _ in sgx.tcb_items()]
    assert oids == [*map(str, range(1, 19)), "19", "20"]
    assert encode_items(sgx.items()) != encode_items(SimPlatform().sgx_extension().items())


def test_processor_ca_certificates_lack_platform_fields() -> None:
    items = SimPlatform(ca="processor").sgx_extension().items()
    assert [oid.rpartition(".")[2] for oid, _ in items] == ["1", "2", "3", "4", "5"]


def test_every_field_can_be_chosen() -> None:
    start = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
    key = SimKey("other", curve="P-384")
    spec = replace(
        SimPlatform().pck(),
        subject=_ISSUER.name("A").with_attribute("OU", "unit").with_attribute("CN", "B"),
        key=key,
        serial=5,
        not_before=start,
        not_after=start + timedelta(seconds=1),
        extensions=(basic_constraints(True, 3), key_usage(), key_usage("crl_sign")),
    )
    spec = spec.without_extension(KEY_USAGE).with_extension(Extension("1.2.3", True, b"\x05\0"))
    certificate = load(spec)
    assert certificate.serial_number == 5
    assert certificate.not_valid_before_utc == start
    assert certificate.not_valid_after_utc.year == 2050
    assert certificate.subject.rfc4514_string() == (
        "OU=unit,C=US,ST=CA,L=Santa Clara,O=ccverify simulation\\, not Intel,CN=B"
    )
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp384r1"
    assert [own.oid.dotted_string for own in certificate.extensions] == ["2.5.29.19", "1.2.3"]


def test_p384_signer_signs_with_sha384() -> None:
    parent = replace(_ISSUER.root(), key=SimKey("big", curve="P-384"))
    child = _ISSUER.pck_ca().signed_by(parent)
    assert load(child).signature_algorithm_oid.dotted_string == "1.2.840.10045.4.3.3"
    parent = replace(parent, signer=parent.key)
    load(child).verify_directly_issued_by(load(parent))


def test_signature_and_stated_algorithm_can_lie() -> None:
    forged = replace(_ISSUER.root(), signature=b"\x30\x00")
    assert load(forged).signature == b"\x30\x00"
    lying = replace(_ISSUER.root(), stated_hash="sha384").der()
    assert lying != _ISSUER.root().der()


def test_version_1_certificate_without_extensions() -> None:
    certificate = load(replace(_ISSUER.root(), version=1, extensions=()))
    assert certificate.version is x509.Version.v1
    assert len(certificate.extensions) == 0


def test_crl_reads_back() -> None:
    later = DEFAULT_TIME + timedelta(days=30)
    spec = _ISSUER.pck_crl(DEFAULT_TIME, later).with_number(7)
    spec = spec.with_revoked(99, date=DEFAULT_TIME - timedelta(days=1), reason="certificate_hold")
    crl = x509.load_der_x509_crl(spec.with_revoked(100, reason=None).der())
    key = _ISSUER.pck_ca().key.private_key.public_key()
    assert crl.is_signature_valid(key)
    assert (crl.last_update_utc, crl.next_update_utc) == (DEFAULT_TIME, later)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    held = crl.get_revoked_certificate_by_serial_number(99)
    assert held is not None
    reason = held.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.certificate_hold
    bare = crl.get_revoked_certificate_by_serial_number(100)
    assert bare is not None
    assert len(bare.extensions) == 0
    assert x509.load_pem_x509_crl(spec.pem().encode()).is_signature_valid(key)


def test_crl_without_next_update_and_empty() -> None:
    spec = _ISSUER.root_crl(DEFAULT_TIME, DEFAULT_TIME)
    crl = x509.load_der_x509_crl(replace(spec, next_update=None, extensions=()).der())
    assert crl.next_update_utc is None
    assert len(list(crl)) == 0


def test_crl_has_the_real_profile(vectors: Path) -> None:
    text = (vectors / "tdx/collateral/phala_b0c06f_2025-06.json").read_text("utf-8")
    real = x509.load_der_x509_crl(bytes.fromhex(json.loads(text)["pck_crl"]))
    own = x509.load_der_x509_crl(_ISSUER.pck_crl(DEFAULT_TIME, DEFAULT_TIME).der())
    for mine, theirs in (
        (own.extensions, real.extensions),
        (own[0].extensions, real[0].extensions),
    ):
        assert [(e.oid, e.critical) for e in mine] == [(e.oid, e.critical) for e in theirs]
    assert own.signature_algorithm_oid == real.signature_algorithm_oid


@pytest.mark.parametrize(
    "moment",
    [datetime(2026, 1, 1), datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],  # noqa: DTZ001
)
def test_time_needs_zone_and_whole_seconds(moment: datetime) -> None:
    with pytest.raises(UsageError, match="time zone"):
        der.time(moment)


def test_time_is_written_in_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert der.time(datetime(2026, 1, 1, 9, 0, 0, tzinfo=tokyo)) == b"\x17\x0d260101000000Z"
    assert der.time(datetime(2050, 1, 1, tzinfo=UTC)) == b"\x18\x0f20500101000000Z"
    assert der.time(datetime(1949, 1, 1, tzinfo=UTC)) == b"\x18\x0f19490101000000Z"


@given(st.integers(-(1 << 200), 1 << 200))
def test_integers_are_shortest_twos_complement(value: int) -> None:
    encoded = der.integer(value)
    body = encoded[2:]
    assert encoded[:2] == bytes((2, len(body)))
    assert int.from_bytes(body, "big", signed=True) == value
    assert len(body) == 1 or (body[0], body[1] >> 7) not in {(0, 0), (0xFF, 1)}


@given(st.lists(st.integers(0, 1 << 31), min_size=1, max_size=8))
def test_object_identifiers_read_back(arcs: list[int]) -> None:
    dotted = ".".join(map(str, (1, 2, *arcs)))
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(dotted), "x")])
    assert der.object_identifier(dotted) in name.public_bytes()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65536])
def test_lengths(size: int) -> None:
    encoded = der.octet_string(bytes(size))
    header = len(encoded) - size
    assert header == (2 if size < 128 else 3 if size < 256 else 4 if size < 65536 else 5)
