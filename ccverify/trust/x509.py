"""Certificates and CRLs (RFC 5280), reduced to what chain checking needs.

Parsing is `cryptography`'s; the rules are ours, because vendor attestation chains are not
web PKI: no host names, no extended key usage, fixed depth, one pinned root.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from ccverify.clock_text import utc_text
from ccverify.errors import CcverifyError, EvidenceError
from ccverify.trust.der import INTEGER, PRINTABLE_STRING, UTF8_STRING, read_tlv
from ccverify.trust.names import name_text
from ccverify.trust.signatures import EcPublicKey, SignatureMemory

__all__ = [
    "MAX_CERTIFICATE_BYTES",
    "MAX_CRL_BYTES",
    "Certificate",
    "Crl",
    "issue_problem",
    "parse_certificate",
    "parse_crl",
    "parse_pem_chain",
    "validity_problem",
]

MAX_CERTIFICATE_BYTES = 16 * 1024
MAX_CRL_BYTES = 4 * 1024 * 1024
MAX_CHAIN_CERTIFICATES = 8

_SIGNATURE_CURVES = {"1.2.840.10045.4.3.2": "P-256", "1.2.840.10045.4.3.3": "P-384"}
"""ecdsa-with-SHA256 and -SHA384 → the curve that our formats pair with that digest."""

_COMMON_NAME_OID = bytes.fromhex("0603550403")
_BIT_STRING = 0x03
_KEY_USAGE = "2.5.29.15"
_BASIC_CONSTRAINTS = "2.5.29.19"
_UNDERSTOOD_CRITICAL = {_KEY_USAGE, _BASIC_CONSTRAINTS}


@dataclass(frozen=True, eq=False)
class Certificate:
    """One X.509 certificate: the values a chain check reads, and the exact bytes signed."""

    der: bytes
    tbs: bytes
    signature: bytes
    signature_oid: str
    serial: int
    subject: bytes
    """DER of the subject name; names are compared as bytes, never as text."""
    issuer: bytes
    not_before: datetime
    not_after: datetime
    public_key: EcPublicKey
    is_ca: bool
    path_length: int | None
    signs_certificates: bool
    signs_crls: bool
    signs_data: bool
    subject_key_id: bytes | None
    authority_key_id: bytes | None
    private_extensions: Mapping[str, bytes]
    """Dotted OID → DER value of the extensions `cryptography` has no type for."""
    unknown_critical: tuple[str, ...]

    @cached_property
    def subject_text(self) -> str:
        """The subject in RFC 4514 form, for people."""
        return name_text(self.subject)

    @cached_property
    def common_name(self) -> str | None:
        """The subject's common name; None unless there is exactly one, in ASCII."""
        at = self.subject.find(_COMMON_NAME_OID)
        if at < 0 or self.subject.find(_COMMON_NAME_OID, at + 1) >= 0:
            return None
        try:
            tag, value, _ = read_tlv(self.subject, at + len(_COMMON_NAME_OID), EvidenceError)
        except EvidenceError:
            return None
        if tag not in (UTF8_STRING, PRINTABLE_STRING) or not value.isascii():
            return None
        return value.decode("ascii")

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the DER encoding."""
        return hashlib.sha256(self.der).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)


@dataclass(frozen=True, eq=False)
class Crl:
    """One certificate revocation list (RFC 5280 §5)."""

    der: bytes
    tbs: bytes
    signature: bytes
    signature_oid: str
    issuer: bytes
    this_update: datetime
    next_update: datetime | None
    number: int | None
    authority_key_id: bytes | None
    unknown_critical: tuple[str, ...]
    entries: int
    _handle: x509.CertificateRevocationList = field(repr=False)

    @cached_property
    def issuer_text(self) -> str:
        """The issuer in RFC 4514 form, for people."""
        return name_text(self.issuer)

    def lists(self, serial: int) -> bool:
        """Whether the serial number is listed, for whatever reason: a hold counts as revoked."""
        try:
            return self._handle.get_revoked_certificate_by_serial_number(serial) is not None
        except ValueError:
            return True  # an entry that cannot be read may be this one

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Crl) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)


def parse_certificate(der: bytes, error: type[CcverifyError] = EvidenceError) -> Certificate:
    """Parse one DER certificate.

    Raises:
        error: over `MAX_CERTIFICATE_BYTES`, not DER, not an EC key on P-256 or P-384, or an
            extension is malformed.
    """
    try:
        return _parse_certificate(bytes(der))
    except CcverifyError as problem:
        raise error(problem.message, found=problem.found) from None
    except Exception as problem:
        # `cryptography` raises several unrelated types on malformed input (ValueError,
        # UnsupportedAlgorithm, x509.InvalidVersion, DuplicateExtension, TypeError).
        raise error(f"certificate does not parse: {problem}") from None


# A pure function of the bytes: remembering it remembers no decision.
@lru_cache(maxsize=512)
def _parse_certificate(der: bytes) -> Certificate:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise EvidenceError("certificate is too large", found=f"{len(der)} bytes")
    certificate = x509.load_der_x509_certificate(der)
    if certificate.version is not x509.Version.v3:
        raise EvidenceError("certificate is not X.509 v3")
    tbs, algorithm = _signed_part(der)
    issuer, subject, key_info = _named_parts(tbs, algorithm)
    values: dict[str, Any] = {}
    unknown_critical = []
    for extension in certificate.extensions:
        oid = extension.oid.dotted_string
        values[oid] = extension.value
        if extension.critical and oid not in _UNDERSTOOD_CRITICAL:
            unknown_critical.append(oid)
    # By OID and not by isinstance: the library's types are abstract classes, dear to ask.
    usage: x509.KeyUsage | None = values.get(_KEY_USAGE)
    constraints: x509.BasicConstraints | None = values.get(_BASIC_CONSTRAINTS)
    subject_key_id: x509.SubjectKeyIdentifier | None = values.get("2.5.29.14")
    authority_key_id: x509.AuthorityKeyIdentifier | None = values.get("2.5.29.35")
    return Certificate(
        der=der,
        tbs=tbs,
        signature=certificate.signature,
        signature_oid=certificate.signature_algorithm_oid.dotted_string,
        serial=certificate.serial_number,
        subject=subject,
        issuer=issuer,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        public_key=EcPublicKey.of_key_info(key_info) or EcPublicKey.of(certificate.public_key()),
        is_ca=constraints is not None and constraints.ca,
        path_length=constraints.path_length if constraints else None,
        signs_certificates=usage is not None and usage.key_cert_sign,
        signs_crls=usage is not None and usage.crl_sign,
        signs_data=usage is not None and usage.digital_signature,
        subject_key_id=subject_key_id.digest if subject_key_id else None,
        authority_key_id=authority_key_id.key_identifier if authority_key_id else None,
        private_extensions={
            oid: value.value
            for oid, value in values.items()
            if type(value) is x509.UnrecognizedExtension
        },
        unknown_critical=tuple(unknown_critical),
    )


def _signed_part(der: bytes) -> tuple[bytes, bytes]:
    """The first two elements of a certificate or CRL, exactly as encoded: TBS and algorithm."""
    content = _body(der)
    end = read_tlv(content, 0, EvidenceError)[2]
    algorithm_end = read_tlv(content, end, EvidenceError)[2]
    tag, signature, _ = read_tlv(content, algorithm_end, EvidenceError)
    # Nobody signs this octet, and libraries mask the bits it declares unused.
    if tag != _BIT_STRING or signature[:1] != b"\0":
        raise EvidenceError(
            "signature is not a BIT STRING of whole octets",
            expected="no unused bits",
            found=f"tag 0x{tag:02x}, beginning {signature[:1].hex()}",
        )
    return content[:end], content[end:algorithm_end]


def _named_parts(tbs: bytes, algorithm: bytes) -> tuple[bytes, bytes, bytes]:
    """Issuer, subject and public key of a v3 certificate, as the bytes that are signed."""
    fields = _body(tbs)
    at = [0]
    for _ in range(7):  # version, serialNumber, signature, issuer, validity, subject, key
        at.append(read_tlv(fields, at[-1], EvidenceError)[2])
    if fields[at[2] : at[3]] != algorithm:
        raise EvidenceError("certificate states two signature algorithms")  # RFC 5280 §4.1.1.2
    return fields[at[3] : at[4]], fields[at[5] : at[6]], fields[at[6] : at[7]]


def _crl_issuer(tbs: bytes, algorithm: bytes) -> bytes:
    """Issuer of a v2 CRL, as the bytes that are signed."""
    fields = _body(tbs)
    tag, version, end = read_tlv(fields, 0, EvidenceError)
    if (tag, version) != (INTEGER, b"\x01"):
        raise EvidenceError("CRL is not X.509 v2")
    start = read_tlv(fields, end, EvidenceError)[2]
    if fields[end:start] != algorithm:
        raise EvidenceError("CRL states two signature algorithms")  # RFC 5280 §5.1.1.2
    return fields[start : read_tlv(fields, start, EvidenceError)[2]]


def _body(tbs: bytes) -> bytes:
    return read_tlv(tbs, 0, EvidenceError)[1]


_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")


def parse_pem_chain(
    pem: bytes, error: type[CcverifyError] = EvidenceError
) -> tuple[Certificate, ...]:
    """Parse concatenated PEM certificates (RFC 7468), in the order given.

    One trailing NUL, which Intel's quoting library appends, is accepted.

    Raises:
        error: nothing but certificates is allowed; at most `MAX_CHAIN_CERTIFICATES`.
    """
    try:
        return _parse_pem_chain(bytes(pem))
    except EvidenceError as problem:
        raise error(
            problem.message, expected=problem.expected, found=problem.found, where=problem.where
        ) from None


@lru_cache(maxsize=256)
def _parse_pem_chain(pem: bytes) -> tuple[Certificate, ...]:
    if len(pem) > MAX_CHAIN_CERTIFICATES * 2 * MAX_CERTIFICATE_BYTES:
        raise EvidenceError("PEM chain is too large", found=f"{len(pem)} bytes")
    text = pem[:-1] if pem.endswith(b"\0") else pem
    certificates: list[Certificate] = []
    at = len(text) - len(text.lstrip())
    while at < len(text):
        match = _PEM.match(text, at)
        if match is None:
            raise EvidenceError("PEM chain holds something else", where=f"PEM byte {at}")
        if len(certificates) == MAX_CHAIN_CERTIFICATES:
            raise EvidenceError(
                "PEM chain is too long", expected=f"at most {MAX_CHAIN_CERTIFICATES}"
            )
        try:
            der = binascii.a2b_base64(match[1].translate(None, b" \t\r\n"), strict_mode=True)
        except binascii.Error as problem:
            raise EvidenceError(f"PEM base64: {problem}", where=f"PEM byte {at}") from None
        certificates.append(parse_certificate(der))
        at = match.end()
    if not certificates:
        raise EvidenceError("PEM chain is empty", expected="-----BEGIN CERTIFICATE-----")
    return tuple(certificates)


def parse_crl(der: bytes, error: type[CcverifyError] = EvidenceError) -> Crl:
    """Parse one DER certificate revocation list.

    Raises:
        error: over `MAX_CRL_BYTES`, not DER, or an extension is malformed.
    """
    if len(der) > MAX_CRL_BYTES:
        raise error("CRL is too large", found=f"{len(der)} bytes")
    try:
        return _parse_crl(bytes(der))
    except CcverifyError as problem:
        raise error(problem.message, found=problem.found) from None
    except Exception as problem:  # as in parse_certificate
        raise error(f"CRL does not parse: {problem}") from None


@lru_cache(maxsize=16)
def _parse_crl(der: bytes) -> Crl:
    crl = x509.load_der_x509_crl(der)
    tbs, algorithm = _signed_part(der)
    number: int | None = None
    authority: bytes | None = None
    unknown_critical = []
    for extension in crl.extensions:
        if extension.critical or extension.oid == ExtensionOID.DELTA_CRL_INDICATOR:
            unknown_critical.append(extension.oid.dotted_string)
        if isinstance(extension.value, x509.CRLNumber):
            number = extension.value.crl_number
            if number.bit_length() > 160:  # RFC 5280 §5.2.3: at most 20 octets
                raise EvidenceError("CRL number is too long")
        elif isinstance(extension.value, x509.AuthorityKeyIdentifier):
            authority = extension.value.key_identifier
    return Crl(
        der=der,
        tbs=tbs,
        signature=crl.signature,
        signature_oid=crl.signature_algorithm_oid.dotted_string,
        issuer=_crl_issuer(tbs, algorithm),
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        number=number,
        authority_key_id=authority,
        unknown_critical=tuple(unknown_critical),
        entries=len(crl),
        _handle=crl,
    )


def issue_problem(
    child: Certificate | Crl,
    issuer_name: bytes,
    issuer_key: EcPublicKey,
    issuer_key_id: bytes | None,
    memory: SignatureMemory,
) -> str | None:
    """Say why `child` was not issued under the given name and key; None if it was.

    Compares names as DER bytes, the key identifier where both sides carry one, requires the
    digest that belongs to the issuer's curve, refuses critical extensions that nobody here
    understands, and verifies the signature.
    """
    if child.issuer != issuer_name:
        return "its issuer name is not the issuer's subject name"
    if child.unknown_critical:
        return f"it has a critical extension that is not understood: {child.unknown_critical[0]}"
    if None not in (child.authority_key_id, issuer_key_id) and (
        child.authority_key_id != issuer_key_id
    ):
        return "its authority key identifier names another key"
    if _SIGNATURE_CURVES.get(child.signature_oid) != issuer_key.curve:
        return f"its signature algorithm {child.signature_oid} does not fit {issuer_key.curve}"
    if not memory.verify_der(issuer_key, child.signature, child.tbs):
        return "its signature does not verify under the issuer's key"
    return None


def validity_problem(certificate: Certificate, now: datetime) -> str | None:
    """Say why `now` lies outside the certificate's validity period; None if inside."""
    if now < certificate.not_before:
        return f"{certificate.subject_text} is valid only from {utc_text(certificate.not_before)}"
    if now > certificate.not_after:
        return f"{certificate.subject_text} expired on {utc_text(certificate.not_after)}"
    return None
