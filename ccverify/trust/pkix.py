"""Certification paths to roots that a policy names: a company's own PKI, a TPM vendor's (RFC 5280).

`ccverify.trust.path` checks the vendors' chains, whose depth, names and curves are known.  Here
nothing is known but the root, so every rule of RFC 5280 §6 that can be met in such chains is
checked, and what is not implemented is refused: name constraints, policy constraints, any
critical extension that is not in the table.  Revocation is not looked at: who names a root of his
own withdraws a key by naming it no longer.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccverify.clock_text import utc_text
from ccverify.errors import CcverifyError, EvidenceError
from ccverify.trust.der import SEQUENCE, read_tlv
from ccverify.trust.names import name_text

__all__ = [
    "ANY_PURPOSE",
    "MAX_PATH_CERTIFICATES",
    "PathResult",
    "PkixCertificate",
    "PublicKey",
    "parse_pkix_certificate",
    "parse_pkix_pem",
    "pkix_key",
    "verify_pkix_path",
]

MAX_PATH_CERTIFICATES: Final = 5
"""Most certificates of a path, the root included where the chain holds it."""
ANY_PURPOSE: Final = "2.5.29.37.0"
"""anyExtendedKeyUsage (RFC 5280 §4.2.1.12)."""

_MAX_BYTES: Final = 16 * 1024
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 8192
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_HASHES: Final = (SHA256, SHA384, SHA512)
_ED25519_OID: Final = "1.3.101.112"
_BIT_STRING: Final = 0x03
_VERSION: Final = 0xA0

_KEY_USAGE, _CONSTRAINTS, _PURPOSES = "2.5.29.15", "2.5.29.19", "2.5.29.37"
_ALT_NAME, _POLICIES = "2.5.29.17", "2.5.29.32"
_NAME_CONSTRAINTS: Final = "2.5.29.30"
# A subject alternative name adds a name, and a policy restricts nobody who asks for none.
_UNDERSTOOD: Final = frozenset({_KEY_USAGE, _CONSTRAINTS, _PURPOSES, _ALT_NAME, _POLICIES})

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, eq=False)
class PkixCertificate:
    """One X.509 v3 certificate, nothing about it verified.

    Attributes:
        der: the exact bytes.
        subject: DER of the subject name; names are compared as bytes.
        issuer: DER of the issuer name.
        not_before: UTC.
        not_after: UTC.
        key_info: DER SubjectPublicKeyInfo.
        public_key: EC on P-256, P-384 or P-521, RSA of 2048 to 8192 bits, or Ed25519.
        is_ca: what BasicConstraints says; False without.
        path_length: of BasicConstraints.
        usages: names of key usages, as RFC 5280 §4.2.1.3 has them; None without the extension.
        purposes: dotted OIDs of extended key usages; None without the extension.
        subject_key_id: key identifier of the subject.
        authority_key_id: key identifier of the issuer's key.
        unknown_critical: dotted OIDs of critical extensions that nobody here understands, and of
            constraints that are not implemented.
    """

    der: bytes
    subject: bytes
    issuer: bytes
    not_before: datetime
    not_after: datetime
    key_info: bytes
    public_key: PublicKey
    is_ca: bool
    path_length: int | None
    usages: frozenset[str] | None
    purposes: frozenset[str] | None
    subject_key_id: bytes | None
    authority_key_id: bytes | None
    unknown_critical: tuple[str, ...]
    _handle: x509.Certificate

    @cached_property
    def subject_text(self) -> str:
        """The subject in RFC 4514 form, for people."""
        return name_text(self.subject)

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the DER encoding, 32 bytes."""
        return hashlib.sha256(self.der).digest()

    @cached_property
    def key_sha256(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo in its usual DER form, 32 bytes."""
        spki = self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PkixCertificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)


@dataclass(frozen=True, slots=True)
class PathResult:
    """How a path ended.

    Attributes:
        root: the root it leads to; None if to none.
        problem: why it proves nothing; None if it holds.
    """

    root: PkixCertificate | None
    problem: str | None


# --- parsing ------------------------------------------------------------------------------------


def parse_pkix_certificate(
    der: bytes, error: type[CcverifyError] = EvidenceError
) -> PkixCertificate:
    """Parse one DER certificate of any PKI.

    Raises:
        error: over 16 KiB, not DER, not version 3, a key of another kind, a malformed extension.
    """
    try:
        return _parse(bytes(der))
    except CcverifyError as problem:
        raise error(problem.message, expected=problem.expected, found=problem.found,
                    where=problem.where) from None  # fmt: skip
    except Exception as problem:
        # `cryptography` raises several unrelated types on malformed input.
        raise error(f"certificate does not parse: {problem}") from None


def _parse(der: bytes) -> PkixCertificate:
    if len(der) > _MAX_BYTES:
        raise EvidenceError("certificate is too large", found=f"{len(der)} bytes",
                            expected=f"at most {_MAX_BYTES}")  # fmt: skip
    loaded = x509.load_der_x509_certificate(der)
    if loaded.version is not x509.Version.v3:
        raise EvidenceError("certificate is not X.509 v3")
    issuer, subject, key_info = _signed_names(der)
    values: dict[str, Any] = {}
    unknown = []
    for extension in loaded.extensions:
        oid = extension.oid.dotted_string
        values[oid] = extension.value
        if oid == _NAME_CONSTRAINTS or (extension.critical and oid not in _UNDERSTOOD):
            unknown.append(oid)
    constraints: x509.BasicConstraints | None = values.get(_CONSTRAINTS)
    purposes: x509.ExtendedKeyUsage | None = values.get(_PURPOSES)
    own: x509.SubjectKeyIdentifier | None = values.get("2.5.29.14")
    authority: x509.AuthorityKeyIdentifier | None = values.get("2.5.29.35")
    return PkixCertificate(
        der=der,
        subject=subject,
        issuer=issuer,
        not_before=loaded.not_valid_before_utc,
        not_after=loaded.not_valid_after_utc,
        key_info=key_info,
        public_key=pkix_key(loaded.public_key()),
        is_ca=constraints is not None and constraints.ca,
        path_length=constraints.path_length if constraints else None,
        usages=_usages(values.get(_KEY_USAGE)),
        purposes=None if purposes is None else frozenset(one.dotted_string for one in purposes),
        subject_key_id=own.digest if own else None,
        authority_key_id=authority.key_identifier if authority else None,
        unknown_critical=tuple(unknown),
        _handle=loaded,
    )


def _usages(usage: x509.KeyUsage | None) -> frozenset[str] | None:
    if usage is None:
        return None
    told = {
        "digitalSignature": usage.digital_signature,
        "keyCertSign": usage.key_cert_sign,
        "cRLSign": usage.crl_sign,
    }
    return frozenset(name for name, stated in told.items() if stated)


def _signed_names(der: bytes) -> tuple[bytes, bytes, bytes]:
    """Issuer, subject and public key of a v3 certificate, as the bytes that are signed."""
    _, content, end = read_tlv(der, 0, EvidenceError)
    if end != len(der):
        raise EvidenceError("certificate has bytes after its end")
    _, tbs, at = read_tlv(content, 0, EvidenceError)
    start, at = at, read_tlv(content, at, EvidenceError)[2]
    algorithm = content[start:at]
    tag, signature, _ = read_tlv(content, at, EvidenceError)
    # Nobody signs this octet, and libraries mask the bits it declares unused.
    if tag != _BIT_STRING or signature[:1] != b"\0":
        raise EvidenceError("signature is not a BIT STRING of whole octets")
    fields = []
    at = 0
    for _ in range(7):  # version, serialNumber, signature, issuer, validity, subject, key
        start = at
        tag, _, at = read_tlv(tbs, start, EvidenceError)
        fields.append(tbs[start:at])
    if fields[0][0] != _VERSION or fields[6][0] != SEQUENCE:
        raise EvidenceError("certificate is malformed")
    if fields[2] != algorithm:
        raise EvidenceError("certificate states two signature algorithms")  # RFC 5280 §4.1.1.2
    return fields[3], fields[5], fields[6]


def pkix_key(key: object) -> PublicKey:
    """Return a public key of `cryptography` if it is of a kind and size accepted here.

    Raises:
        EvidenceError: it is not.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    if isinstance(key, rsa.RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        # Small exponents have broken too many verifiers; large ones only cost time.
        if 1 << 16 < key.public_numbers().e < 1 << 32:
            return key
        raise EvidenceError("public key has an exponent that is not accepted",
                            expected="65537 to 2^32")  # fmt: skip
    raise EvidenceError(
        "public key is of a kind that is not accepted",
        expected=f"EC P-256, P-384, P-521, RSA of {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits, Ed25519",
        found=type(key).__name__.strip("_"),
    )


_PEM: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*"
)


def parse_pkix_pem(
    pem: bytes,
    error: type[CcverifyError] = EvidenceError,
    *,
    most: int = MAX_PATH_CERTIFICATES,
) -> tuple[PkixCertificate, ...]:
    """Parse concatenated PEM certificates (RFC 7468), in the order given.

    Args:
        pem: certificates and white space, nothing else.
        error: the declared error to raise.
        most: most certificates.

    Raises:
        error: nothing there, anything else there, too many, or one of them does not parse.
    """
    if len(pem) > most * 2 * _MAX_BYTES:
        raise error("PEM chain is too large", found=f"{len(pem)} bytes")
    found: list[PkixCertificate] = []
    at = len(pem) - len(pem.lstrip())
    while at < len(pem):
        match = _PEM.match(pem, at)
        if match is None:
            raise error("PEM chain holds something else", where=f"PEM byte {at}",
                        expected="-----BEGIN CERTIFICATE-----")  # fmt: skip
        if len(found) == most:
            raise error("PEM chain is too long", expected=f"at most {most} certificates")
        try:
            der = binascii.a2b_base64(match[1].translate(None, b" \t\r\n\v\f"), strict_mode=True)
        except binascii.Error as problem:
            raise error(f"PEM base64: {problem}", where=f"PEM byte {at}") from None
        found.append(parse_pkix_certificate(der, error))
        at = match.end()
    if not found:
        raise error("PEM chain is empty", expected="-----BEGIN CERTIFICATE-----")
    return tuple(found)


# --- verification -------------------------------------------------------------------------------


def verify_pkix_path(
    chain: Sequence[PkixCertificate],
    roots: Sequence[PkixCertificate],
    now: datetime,
    *,
    purposes: Collection[str],
) -> PathResult:
    """Check that `chain` leads to one of the roots at a given time.

    The chain is taken in its order: every certificate was issued by the next, up to one that is a
    root or was issued by one.  An end entity that is itself among the roots is a path by itself:
    who names exactly that certificate needs no issuer to vouch for it.  The end entity's key
    must be one for signing data.

    Args:
        chain: end entity first; the root at the end may be left out.
        roots: whom the relying party believes.
        now: the time of evaluation, timezone-aware.
        purposes: OIDs of extended key usages, one of which each certificate with that extension
            must have; `ANY_PURPOSE` always does.

    Returns:
        The root, or why the path proves nothing.
    """
    if not 0 < len(chain) <= MAX_PATH_CERTIFICATES:
        return PathResult(None, f"it has {len(chain)} certificates, not 1 to 5")
    if not roots:
        return PathResult(None, "no root is named that it could lead to")
    # What stands above a root in the chain adds nothing.
    end = next((at for at, one in enumerate(chain) if one in roots), len(chain) - 1)
    path = chain[: end + 1]
    problem = _own_problem(path, now, purposes) or _links_problem(path)
    leaf = path[0]
    if problem is None and leaf.usages is not None and "digitalSignature" not in leaf.usages:
        problem = f"the key usage of {leaf.subject_text} lacks digitalSignature"
    if problem is not None:
        return PathResult(None, problem)
    last = path[-1]
    if last in roots:
        return PathResult(last, None)
    for root in (one for one in roots if one.subject == last.issuer):
        problem = _issue_problem(last, root, end) or _own_problem([root], now, purposes)
        if problem is None:
            return PathResult(root, None)
    said = problem or f"its issuer {name_text(last.issuer)} is not among the roots"
    return PathResult(None, f"{last.subject_text}: {said}")


def _links_problem(path: Sequence[PkixCertificate]) -> str | None:
    for below, (child, issuer) in enumerate(pairwise(path)):
        problem = _issue_problem(child, issuer, below)
        if problem is not None:
            return f"{child.subject_text}: {problem}"
    return None


def _own_problem(
    certificates: Sequence[PkixCertificate], now: datetime, purposes: Collection[str]
) -> str | None:
    for one in certificates:
        if not one.not_before <= now <= one.not_after:
            window = f"{utc_text(one.not_before)} to {utc_text(one.not_after)}"
            return f"{one.subject_text} is valid from {window}"
        if one.unknown_critical:
            oid = one.unknown_critical[0]
            return f"{one.subject_text} has an extension that is not understood: {oid}"
        if one.purposes is not None and not one.purposes & {ANY_PURPOSE, *purposes}:
            told = ", ".join(sorted(one.purposes))[:200]
            return f"{one.subject_text} is not for this purpose: its extended key usage is {told}"
    return None


def _issue_problem(child: PkixCertificate, issuer: PkixCertificate, below: int) -> str | None:
    """Say why `child` was not rightly issued by `issuer`, with `below` CAs under that."""
    if child.issuer != issuer.subject:
        return "its issuer name is not the subject name of the next certificate"
    if not issuer.is_ca:
        return f"its issuer {issuer.subject_text} is not a CA"
    if issuer.usages is not None and "keyCertSign" not in issuer.usages:
        return f"the key usage of its issuer {issuer.subject_text} lacks keyCertSign"
    # The end entity is free, and so is a self-issued certificate (RFC 5280 §6.1.4 (l)); counting
    # it too is stricter, and no real chain has one.
    if issuer.path_length is not None and issuer.path_length < below:
        return f"the path length constraint of its issuer {issuer.subject_text} is too short"
    if None not in (child.authority_key_id, issuer.subject_key_id) and (
        child.authority_key_id != issuer.subject_key_id
    ):
        return "its authority key identifier names another key"
    return _signature_problem(child, issuer)


def _signature_problem(child: PkixCertificate, issuer: PkixCertificate) -> str | None:
    certificate = child._handle
    oid = certificate.signature_algorithm_oid.dotted_string
    try:
        digest = certificate.signature_hash_algorithm
        if not isinstance(digest, _HASHES) and oid != _ED25519_OID:
            return f"its signature algorithm {oid} is not accepted"
        certificate.verify_directly_issued_by(issuer._handle)
    except InvalidSignature:
        return "its signature does not verify under the issuer's key"
    except Exception:  # another kind of key, parameters that nobody knows, malformed names
        return f"its signature algorithm {oid} does not fit the issuer's key"
    return None
