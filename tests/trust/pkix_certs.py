"""Certificates of a PKI as anybody may have it, made by `cryptography`'s own builder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ccverify.trust.pkix import PkixCertificate, parse_pkix_certificate

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
CODE_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.3")


@cache
def key(kind: str, label: str = "") -> Any:
    """A key of a kind; one for each label."""
    match kind:
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Made:
    """A certificate, and the key it is for."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def parsed(self) -> PkixCertificate:
        return parse_pkix_certificate(self.der)


def usage(*, sign: bool = False, certify: bool = False) -> x509.KeyUsage:
    no = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=sign, key_cert_sign=certify, **no)


def make(
    name: str,
    kind: str = "p256",
    by: Made | None = None,
    *,
    ca: bool | None = None,
    path_length: int | None = None,
    usages: x509.KeyUsage | None = None,
    purposes: Iterable[x509.ObjectIdentifier] = (),
    start: datetime = NOW - timedelta(days=30),
    end: datetime = NOW + timedelta(days=30),
    digest: HashAlgorithm | None = None,
    padding: Any = None,
    extra: Iterable[tuple[x509.ExtensionType, bool]] = (),
    issuer_name: str | None = None,
    identifiers: bool = True,
) -> Made:
    own = key(kind, name)
    signer = by.key if by else own
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = by.certificate.subject if by else subject
    if issuer_name is not None:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), True)
    if usages is not None:
        builder = builder.add_extension(usages, True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), False)
    if identifiers:
        known = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(known, False)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False
        )
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    chosen = None if isinstance(signer, ed25519.Ed25519PrivateKey) else digest or SHA256()
    return Made(builder.sign(signer, chosen, rsa_padding=padding), own)


def root(kind: str = "p256", **options: Any) -> Made:
    return make("root", kind, **{"ca": True, "usages": usage(certify=True), **options})


def middle(by: Made, name: str = "middle", kind: str = "p256", **options: Any) -> Made:
    return make(name, kind, by, **{"ca": True, "usages": usage(certify=True), **options})


def leaf(by: Made | None = None, kind: str = "p256", **options: Any) -> Made:
    return make("leaf", kind, by, **{"ca": False, "usages": usage(sign=True), **options})
