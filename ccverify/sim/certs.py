"""X.509 certificates and revocation lists in which every field can be chosen (RFC 5280).

A specification is a frozen dataclass; `dataclasses.replace` makes the defective sibling of
an honest one, and `der()` encodes and signs it.  Nothing is checked: a certificate that
ends before it begins, or a CA without keyCertSign, is exactly what a test may need.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from datetime import datetime

from ccverify.sim import der
from ccverify.sim.keys import HashName, SimKey

__all__ = [
    "AUTHORITY_KEY_ID",
    "BASIC_CONSTRAINTS",
    "CRL_DISTRIBUTION_POINTS",
    "CRL_NUMBER",
    "KEY_USAGE",
    "SUBJECT_KEY_ID",
    "CertificateSpec",
    "CrlSpec",
    "Extension",
    "Name",
    "Revoked",
    "authority_key_id",
    "basic_constraints",
    "crl_distribution_point",
    "crl_number",
    "key_usage",
    "pem_chain",
    "subject_key_id",
    "to_pem",
]

SUBJECT_KEY_ID = "2.5.29.14"
KEY_USAGE = "2.5.29.15"
BASIC_CONSTRAINTS = "2.5.29.19"
CRL_NUMBER = "2.5.29.20"
CRL_REASON = "2.5.29.21"
CRL_DISTRIBUTION_POINTS = "2.5.29.31"
AUTHORITY_KEY_ID = "2.5.29.35"

_NAME_TYPES = {
    "CN": ("2.5.4.3", "utf8"),
    "serialNumber": ("2.5.4.5", "printable"),
    "C": ("2.5.4.6", "printable"),
    "L": ("2.5.4.7", "utf8"),
    "ST": ("2.5.4.8", "utf8"),
    "O": ("2.5.4.10", "utf8"),
    "OU": ("2.5.4.11", "utf8"),
}
_SIGNATURE_OIDS: dict[HashName, str] = {
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
}
# KeyUsage ::= BIT STRING; the position in this tuple is the bit number.
_KEY_USAGE_BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
_REASONS = {
    "unspecified": 0,
    "key_compromise": 1,
    "ca_compromise": 2,
    "affiliation_changed": 3,
    "superseded": 4,
    "cessation_of_operation": 5,
    "certificate_hold": 6,
    "remove_from_crl": 8,
    "privilege_withdrawn": 9,
    "aa_compromise": 10,
}


@dataclass(frozen=True, slots=True)
class Name:
    """A distinguished name: (attribute type, value) pairs, one RDN each, in order."""

    attributes: tuple[tuple[str, str], ...]

    def der(self) -> bytes:
        """Return the DER encoding."""
        rdns = []
        for kind, value in self.attributes:
            oid, encoding = _NAME_TYPES[kind]
            pair = der.sequence(der.object_identifier(oid), der.string(value, encoding))
            rdns.append(der.set_of(pair))
        return der.sequence(*rdns)

    def with_attribute(self, kind: str, value: str) -> Name:
        """Return the name with one attribute changed, or added at the end."""
        if kind not in (own for own, _ in self.attributes):
            return Name((*self.attributes, (kind, value)))
        return Name(tuple((k, value if k == kind else v) for k, v in self.attributes))


@dataclass(frozen=True, slots=True)
class Extension:
    """One X.509 extension; `value` is the DER inside the OCTET STRING."""

    oid: str
    critical: bool
    value: bytes

    def der(self) -> bytes:
        """Return the DER encoding; critical FALSE is left out, as DER requires."""
        flag = der.boolean(True) if self.critical else b""
        return der.sequence(der.object_identifier(self.oid), flag, der.octet_string(self.value))


def basic_constraints(ca: bool, path_length: int | None = None) -> Extension:
    """Return a critical BasicConstraints."""
    flag = der.boolean(True) if ca else b""
    length = b"" if path_length is None else der.integer(path_length)
    return Extension(BASIC_CONSTRAINTS, True, der.sequence(flag, length))


def key_usage(*names: str) -> Extension:
    """Return a critical KeyUsage, e.g. ``key_usage("key_cert_sign", "crl_sign")``."""
    bits = [_KEY_USAGE_BITS.index(name) for name in names]
    byte = sum(0x80 >> bit for bit in bits)
    unused = 7 - max(bits) if bits else 0
    return Extension(KEY_USAGE, True, der.bit_string(bytes((byte,)) if bits else b"", unused))


def subject_key_id(key: SimKey) -> Extension:
    """Return the SubjectKeyIdentifier of `key`."""
    return Extension(SUBJECT_KEY_ID, False, der.octet_string(key.key_id))


def authority_key_id(key: SimKey) -> Extension:
    """Return an AuthorityKeyIdentifier naming `key`."""
    value = der.sequence(der.context(0, key.key_id, constructed=False))
    return Extension(AUTHORITY_KEY_ID, False, value)


def crl_distribution_point(url: str) -> Extension:
    """Return CRLDistributionPoints with one URL."""
    uri = der.context(6, url.encode("ascii"), constructed=False)
    point = der.sequence(der.context(0, der.context(0, uri)))
    return Extension(CRL_DISTRIBUTION_POINTS, False, der.sequence(point))


def crl_number(number: int) -> Extension:
    """Return a CRLNumber."""
    return Extension(CRL_NUMBER, False, der.integer(number))


def _signed(
    tbs: bytes, signer: SimKey, hash_name: HashName, algorithm: bytes, signature: bytes | None
) -> bytes:
    value = signer.sign_der(tbs, hash_name) if signature is None else signature
    return der.sequence(tbs, algorithm, der.bit_string(value))


def _algorithm(hash_name: HashName) -> bytes:
    return der.sequence(der.object_identifier(_SIGNATURE_OIDS[hash_name]))


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSpec:
    """A certificate to be made.

    Attributes:
        subject, issuer: names as encoded; they need not agree with any other certificate.
        key: the key it certifies.
        signer: the key that signs it.
        serial: any integer.
        not_before, not_after: UTC, whole seconds.
        extensions: in the order of encoding.
        version: 3 for v3; 1 leaves the version field out, as DER requires.
        hash_name: the signature hash; None for the signer's usual one.
        stated_hash: what the *outer* algorithm field says; None for the truth.
        signature: DER Ecdsa-Sig-Value to use instead of a genuine one.
    """

    subject: Name
    issuer: Name
    key: SimKey
    signer: SimKey
    serial: int
    not_before: datetime
    not_after: datetime
    extensions: tuple[Extension, ...] = ()
    version: int = 3
    hash_name: HashName | None = None
    stated_hash: HashName | None = None
    signature: bytes | None = None

    @property
    def _hash(self) -> HashName:
        return self.hash_name or self.signer.default_hash

    def tbs(self) -> bytes:
        """Return the DER TBSCertificate."""
        version = der.context(0, der.integer(self.version - 1)) if self.version != 1 else b""
        extensions = b""
        if self.extensions:
            encoded = der.sequence(*(extension.der() for extension in self.extensions))
            extensions = der.context(3, encoded)
        return der.sequence(
            version,
            der.integer(self.serial),
            _algorithm(self._hash),
            self.issuer.der(),
            der.sequence(der.time(self.not_before), der.time(self.not_after)),
            self.subject.der(),
            self.key.spki,
            extensions,
        )

    def der(self) -> bytes:
        """Return the signed certificate, DER."""
        outer = _algorithm(self.stated_hash or self._hash)
        return _signed(self.tbs(), self.signer, self._hash, outer, self.signature)

    def pem(self) -> str:
        """Return the signed certificate, PEM."""
        return to_pem(self.der(), "CERTIFICATE")

    def with_extension(self, extension: Extension) -> CertificateSpec:
        """Return the certificate with that extension replaced in place, or added last."""
        if extension.oid not in (own.oid for own in self.extensions):
            return replace(self, extensions=(*self.extensions, extension))
        changed = tuple(extension if own.oid == extension.oid else own for own in self.extensions)
        return replace(self, extensions=changed)

    def without_extension(self, oid: str) -> CertificateSpec:
        """Return the certificate without the extensions of that OID."""
        return replace(self, extensions=tuple(own for own in self.extensions if own.oid != oid))

    def signed_by(self, parent: CertificateSpec) -> CertificateSpec:
        """Return the certificate as `parent` would issue it: issuer, signer and AKI."""
        child = replace(self, issuer=parent.subject, signer=parent.key)
        return child.with_extension(authority_key_id(parent.key))


@dataclass(frozen=True, slots=True)
class Revoked:
    """One CRL entry; `reason` is an RFC 5280 5.3.1 name such as ``key_compromise``."""

    serial: int
    date: datetime
    reason: str | None = "key_compromise"

    def der(self) -> bytes:
        """Return the DER entry."""
        extensions = b""
        if self.reason is not None:
            value = der.enumerated(_REASONS[self.reason])
            extensions = der.sequence(Extension(CRL_REASON, False, value).der())
        return der.sequence(der.integer(self.serial), der.time(self.date), extensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlSpec:
    """A revocation list to be made.

    Attributes:
        issuer: the name as encoded.
        signer: the key that signs it.
        this_update, next_update: UTC, whole seconds; nextUpdate may be left out (None).
        revoked: the entries, in order.
        extensions: CRL extensions, in order.
        hash_name, signature: as in `CertificateSpec`.
    """

    issuer: Name
    signer: SimKey
    this_update: datetime
    next_update: datetime | None
    revoked: tuple[Revoked, ...] = ()
    extensions: tuple[Extension, ...] = ()
    hash_name: HashName | None = None
    signature: bytes | None = None

    def der(self) -> bytes:
        """Return the signed list, DER."""
        name = self.hash_name or self.signer.default_hash
        revoked = der.sequence(*(entry.der() for entry in self.revoked)) if self.revoked else b""
        extensions = b""
        if self.extensions:
            encoded = der.sequence(*(extension.der() for extension in self.extensions))
            extensions = der.context(0, encoded)
        tbs = der.sequence(
            der.integer(1),
            _algorithm(name),
            self.issuer.der(),
            der.time(self.this_update),
            b"" if self.next_update is None else der.time(self.next_update),
            revoked,
            extensions,
        )
        return _signed(tbs, self.signer, name, _algorithm(name), self.signature)

    def pem(self) -> str:
        """Return the signed list, PEM."""
        return to_pem(self.der(), "X509 CRL")

    def with_revoked(
        self, *serials: int, date: datetime | None = None, reason: str | None = "key_compromise"
    ) -> CrlSpec:
        """Return the list with these serials added, revoked at `date` (thisUpdate if None)."""
        moment = self.this_update if date is None else date
        more = tuple(Revoked(serial, moment, reason) for serial in serials)
        return replace(self, revoked=(*self.revoked, *more))

    def with_number(self, number: int) -> CrlSpec:
        """Return the list with another CRLNumber."""
        others = tuple(own for own in self.extensions if own.oid != CRL_NUMBER)
        return replace(self, extensions=(crl_number(number), *others))


def to_pem(content: bytes, kind: str) -> str:
    """Return `content` as PEM (RFC 7468): 64 characters a line, one newline at the end."""
    text = base64.b64encode(content).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""))


def pem_chain(*certificates: CertificateSpec) -> str:
    """Return the certificates as one PEM text, in the order given."""
    return "".join(certificate.pem() for certificate in certificates)
