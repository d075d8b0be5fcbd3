"""Certificates, OCSP responses and CRLs shaped like NVIDIA's, under keys that anyone can derive.

Certificates and CRLs are built by `cryptography`; OCSP responses are put together element by
element, because a builder refuses to make most of what a verifier has to refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from ccverify.sim import der
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.x509 import Certificate, Crl, parse_certificate, parse_crl

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
START, END = datetime(2022, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
ORGANIZATION = "ccverify test, not NVIDIA"

_CURVES: dict[str, tuple[ec.EllipticCurve, SHA256 | SHA384]] = {
    "P-256": (ec.SECP256R1(), SHA256()),
    "P-384": (ec.SECP384R1(), SHA384()),
}
_ECDSA_OIDS = {"P-256": "1.2.840.10045.4.3.2", "P-384": "1.2.840.10045.4.3.3"}
_HASH_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}


@lru_cache(maxsize=64)
def key(label: str, curve: str = "P-384") -> ec.EllipticCurvePrivateKey:
    """The private key of that label: the same on every machine."""
    scalar = hashlib.shake_256(f"nv_pki {curve} {label}".encode()).digest(31)
    return ec.derive_private_key(int.from_bytes(scalar, "big") + 1, _CURVES[curve][0])


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key."""

    x509: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    curve: str = "P-384"

    @cached_property
    def der(self) -> bytes:
        return self.x509.public_bytes(Encoding.DER)

    @cached_property
    def pem(self) -> bytes:
        return self.x509.public_bytes(Encoding.PEM)

    @cached_property
    def certificate(self) -> Certificate:
        return parse_certificate(self.der)

    @cached_property
    def anchor(self) -> TrustAnchor:
        return TrustAnchor.from_certificate(self.certificate)

    @cached_property
    def key_bits(self) -> bytes:
        public = self.key.public_key()
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def issue(
    common_name: str,
    issuer: Issued | None = None,
    *,
    ca: bool = True,
    label: str | None = None,
    curve: str = "P-384",
    serial: int | None = None,
    window: tuple[datetime, datetime] = (START, END),
    purposes: Sequence[x509.ObjectIdentifier] = (),
    critical_purposes: bool = False,
    no_check: bool = False,
    usage: Sequence[str] | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Issued:
    """Issue a certificate; `usage` is its key usage (by default that of a CA or a signer, empty
    for none at all)."""
    own = key(label or common_name, curve)
    ski = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
    if serial is None:
        serial = int.from_bytes(ski.digest, "big") >> 1
    if usage is None:
        usage = ("key_cert_sign", "crl_sign") if ca else ("digital_signature",)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
        ]
    )
    parent = name if issuer is None else issuer.x509.subject
    signer = own if issuer is None else issuer.key
    url = x509.UniformResourceIdentifier("http://ocsp.ccverify-test.invalid/")
    builder = (
        x509.CertificateBuilder(parent, name, own.public_key(), serial, *window)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(ski, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.AuthorityInformationAccess(
                [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, url)]
            ),
            critical=False,
        )
    )
    if usage:
        flags = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
            False,
        ) | dict.fromkeys(usage, True)  # fmt: skip
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=critical_purposes)
    if no_check:
        builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    for value, critical in extra:
        builder = builder.add_extension(value, critical=critical)
    digest = _CURVES["P-384" if issuer is None else issuer.curve][1]
    return Issued(builder.sign(signer, digest), own, curve)


def responder(issuer: Issued, **changes: object) -> Issued:
    """A delegated OCSP responder, as it should be unless changed."""
    arguments: dict[str, object] = {
        "ca": False,
        "purposes": [ExtendedKeyUsageOID.OCSP_SIGNING],
        "no_check": True,
        "window": (NOW - 30 * DAY, NOW + 30 * DAY),
    }
    name = str(changes.pop("common_name", "Test OCSP Responder"))
    return issue(name, issuer, **(arguments | changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Chain:
    """A chain, end entity first and root last."""

    issued: tuple[Issued, ...]

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        return tuple(one.certificate for one in self.issued)

    @property
    def root(self) -> TrustAnchor:
        return self.issued[-1].anchor


@lru_cache(maxsize=4)
def device_chain() -> Chain:
    """Five certificates, as a Hopper GPU brings them."""
    return _chain(
        "NVIDIA Device Identity CA",
        "NVIDIA GH100 Identity",
        "NVIDIA GH100 Provisioner ICA 1",
        "GH100 A01 GSP BROM",
        "GH100 A01 GSP FMC LF",
    )


@lru_cache(maxsize=4)
def rim_chain() -> Chain:
    """Four certificates, as a reference integrity manifest brings them."""
    return _chain(
        "NVIDIA CoRIM signing Root CA",
        "Reference Value GH100 CA",
        "NVIDIA Reference Value L3 GH100 001",
        "HCC RIM L4 Signer",
    )


def _chain(*names: str) -> Chain:
    issued = [issue(names[0])]
    for name in names[1:]:
        issued.insert(0, issue(name, issued[0], ca=name != names[-1]))
    return Chain(tuple(issued))


# --- OCSP ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Single:
    """One SingleResponse; `status` is good, revoked or unknown."""

    subject: Issued
    issuer: Issued
    status: str = "good"
    hash_name: str = "sha1"
    this_update: datetime = NOW - DAY
    next_update: datetime | None = NOW + DAY
    revoked_at: datetime = NOW - 2 * DAY
    reason: int | None = None
    serial: int | None = None
    null_parameters: bool = True
    extensions: tuple[bytes, ...] = ()

    def der(self) -> bytes:
        oid = der.object_identifier(_HASH_OIDS[self.hash_name])
        name = self.issuer.certificate.subject
        serial = self.subject.certificate.serial if self.serial is None else self.serial
        cert_id = der.sequence(
            der.sequence(oid, b"\x05\x00") if self.null_parameters else der.sequence(oid),
            der.octet_string(hashlib.new(self.hash_name, name).digest()),
            der.octet_string(hashlib.new(self.hash_name, self.issuer.key_bits).digest()),
            der.integer(serial),
        )
        items = [cert_id, self._status(), general_time(self.this_update)]
        if self.next_update is not None:
            items.append(der.context(0, general_time(self.next_update)))
        if self.extensions:
            items.append(der.context(1, der.sequence(*self.extensions)))
        return der.sequence(*items)

    def _status(self) -> bytes:
        if self.status != "revoked":
            number = {"good": 0, "unknown": 2}[self.status]
            return der.context(number, b"", constructed=False)
        content = general_time(self.revoked_at)
        if self.reason is not None:
            content += der.context(0, der.enumerated(self.reason))
        return der.context(1, content)


@dataclass(frozen=True)
class Ocsp:
    """An OCSP response by `signer`; `by_key` chooses the kind of responder id."""

    signer: Issued
    singles: tuple[Single, ...]
    by_key: bool = False
    certificates: tuple[Issued, ...] = ()
    nonce: bytes | None = None
    produced_at: datetime = NOW - DAY
    extensions: tuple[bytes, ...] = ()
    responder_id: bytes | None = None
    signature: bytes | None = None
    algorithm: bytes | None = None
    more: bytes = field(default=b"", repr=False)

    def tbs(self) -> bytes:
        if self.responder_id is not None:
            who = self.responder_id
        elif self.by_key:
            who = der.context(2, der.octet_string(hashlib.sha1(self.signer.key_bits).digest()))
        else:
            who = der.context(1, self.signer.certificate.subject)
        items = [who, general_time(self.produced_at)]
        items.append(der.sequence(*(single.der() for single in self.singles)))
        extensions = list(self.extensions)
        if self.nonce is not None:
            value = der.octet_string(self.nonce)
            extensions.append(extension("1.3.6.1.5.5.7.48.1.2", value))
        if extensions:
            items.append(der.context(1, der.sequence(*extensions)))
        return der.sequence(*items)

    def der(self) -> bytes:
        tbs = self.tbs()
        signature = self.signature
        if signature is None:
            digest = _CURVES[self.signer.curve][1]
            signature = self.signer.key.sign(tbs, ec.ECDSA(digest, deterministic_signing=True))
        algorithm = self.algorithm
        if algorithm is None:
            algorithm = der.sequence(der.object_identifier(_ECDSA_OIDS[self.signer.curve]))
        items = [tbs, algorithm, der.bit_string(signature)]
        if self.certificates:
            certs = der.sequence(*(one.der for one in self.certificates))
            items.append(der.context(0, certs))
        return wrap(der.sequence(*items, self.more))


def wrap(basic: bytes, kind: str = "1.3.6.1.5.5.7.48.1.1", status: int = 0) -> bytes:
    """An OCSPResponse around a BasicOCSPResponse."""
    body = der.sequence(der.object_identifier(kind), der.octet_string(basic))
    return der.sequence(der.enumerated(status), der.context(0, body))


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """An Extension; `value` is DER already."""
    flag = der.boolean(True) if critical else b""
    return der.sequence(der.object_identifier(oid), flag, der.octet_string(value))


def general_time(moment: datetime) -> bytes:
    """A GeneralizedTime."""
    return der.tlv(0x18, f"{moment.year:04d}{moment:%m%d%H%M%S}Z".encode())


# --- CRLs ----------------------------------------------------------------------------------------


def crl(
    issuer: Issued,
    listed: Sequence[tuple[int, x509.ReasonFlags | None]] = (),
    *,
    this_update: datetime = NOW - DAY,
    next_update: datetime = NOW + DAY,
    signer: Issued | None = None,
    number: int = 1,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    entry_extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Crl:
    """A CRL of `issuer` that lists the serials, each for its reason."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.x509.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for value, critical in extra:
        builder = builder.add_extension(value, critical=critical)
    for serial, reason in listed:
        entry = x509.RevokedCertificateBuilder(serial, this_update - DAY)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        for value, critical in entry_extra:
            entry = entry.add_extension(value, critical=critical)
        builder = builder.add_revoked_certificate(entry.build())
    by = issuer if signer is None else signer
    signed = builder.sign(by.key, _CURVES[by.curve][1])
    return parse_crl(signed.public_bytes(Encoding.DER))


def crl_without_next_update(issuer: Issued) -> Crl:
    """An empty CRL that does not say when the next one comes, which no builder makes."""
    algorithm = der.sequence(der.object_identifier(_ECDSA_OIDS[issuer.curve]))
    number = der.sequence(der.object_identifier("2.5.29.20"), der.octet_string(der.integer(1)))
    tbs = der.sequence(
        der.integer(1),
        algorithm,
        issuer.certificate.subject,
        der.time(NOW - DAY),
        der.context(0, der.sequence(number)),
    )
    digest = _CURVES[issuer.curve][1]
    signature = issuer.key.sign(tbs, ec.ECDSA(digest, deterministic_signing=True))
    return parse_crl(der.sequence(tbs, algorithm, der.bit_string(signature)))
