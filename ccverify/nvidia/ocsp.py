"""OCSP responses (RFC 6960): bytes to fields.  Who signed them: `ccverify.nvidia.ocsp_responder`.

Read with our own DER reader because the exact bytes that are signed are needed, and all single
responses with all their extensions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache

from ccverify.clock_text import utc_text
from ccverify.errors import CollateralError
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.der import (
    BOOLEAN,
    ENUMERATED,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    decode_integer,
    read_tlv,
)
from ccverify.trust.signatures import EcPublicKey
from ccverify.trust.x509 import Certificate, parse_certificate

__all__ = [
    "MAX_OCSP_BYTES",
    "MAX_OCSP_CERTIFICATES",
    "MAX_SINGLE_RESPONSES",
    "CertId",
    "CertStatus",
    "OcspResponse",
    "OcspSingle",
    "cert_ids",
    "key_bits",
    "parse_ocsp_response",
]

MAX_OCSP_BYTES = 64 * 1024
MAX_SINGLE_RESPONSES = 64
MAX_OCSP_CERTIFICATES = 8
MAX_NONCE_BYTES = 128  # RFC 9654 §2.1

_BIT_STRING = 0x03
_GENERALIZED_TIME = 0x18
_CONTEXT = (0xA0, 0xA1, 0xA2)  # [0], [1], [2], constructed
_GOOD, _REVOKED, _UNKNOWN = 0x80, 0xA1, 0x82  # CertStatus, all IMPLICIT

_BASIC_RESPONSE = bytes.fromhex("2b0601050507300101")  # id-pkix-ocsp-basic
_NONCE = bytes.fromhex("2b0601050507300102")  # id-pkix-ocsp-nonce
_HASHES = {"2b0e03021a": "sha1", "608648016503040201": "sha256", "608648016503040202": "sha384"}
"""Hash OIDs of a CertID (content octets) → name in hashlib."""
_SIZES = {"sha1": 20, "sha256": 32, "sha384": 48}

_FAILURES = {1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired",
             6: "unauthorized"}  # fmt: skip
_REASONS = {0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged",
            4: "superseded", 5: "cessationOfOperation", 6: "certificateHold", 8: "removeFromCRL",
            9: "privilegeWithdrawn", 10: "aACompromise"}  # fmt: skip


class CertStatus(str, Enum):
    """What a single response says of its certificate; a hold is a revocation with that reason."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CertId:
    """RFC 6960 CertID; `hash_name` is ``sha1``, ``sha256`` or ``sha384``."""

    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class OcspSingle:
    """RFC 6960 SingleResponse."""

    cert_id: CertId
    status: CertStatus
    revoked_at: datetime | None
    reason: str | None
    """Name of the CRLReason (RFC 5280 §5.3.1); None where not stated."""
    this_update: datetime
    next_update: datetime | None


@dataclass(frozen=True, slots=True)
class OcspResponse:
    """A successful basic OCSP response, parsed and not yet believed.

    Exactly one of `responder_name` (DER of a Name) and `responder_key_hash` (SHA-1 of the
    public key's bits) is set.
    """

    der: bytes
    tbs: bytes
    """tbsResponseData, exactly as encoded: what is signed."""
    signature_algorithm: bytes
    """DER of the AlgorithmIdentifier."""
    signature: bytes
    responder_name: bytes | None
    responder_key_hash: bytes | None
    produced_at: datetime
    responses: tuple[OcspSingle, ...]
    nonce: bytes | None
    certificates: tuple[Certificate, ...]
    unknown_critical: tuple[str, ...]
    """Critical extensions that are not understood: content octets of the OIDs, in hex."""


@dataclass(slots=True)
class _Reader:
    """The elements inside one constructed DER value, in order."""

    data: bytes
    name: str
    at: int = 0

    @property
    def more(self) -> bool:
        return self.at < len(self.data)

    def raw(self, tag: int) -> bytes:
        """Take the next element with its header."""
        start = self.at
        self.take(tag)
        return self.data[start : self.at]

    def take(self, tag: int) -> bytes:
        """Take the content of the next element."""
        found, content, end = read_tlv(self.data, self.at, CollateralError)
        if found != tag:
            raise self.error(f"DER tag 0x{tag:02x}", f"tag 0x{found:02x}")
        self.at = end
        return content

    def optional(self, tag: int) -> bytes | None:
        """Take the content of the next element if it has this tag."""
        return self.take(tag) if self.more and self.data[self.at] == tag else None

    def end(self) -> None:
        """Require that nothing is left."""
        if self.more:
            raise self.error("its end", f"{len(self.data) - self.at} more bytes")

    def error(self, expected: str, found: str) -> CollateralError:
        where = f"{self.name}, byte {self.at} of its content"
        return CollateralError(
            "OCSP response is malformed", expected=expected, found=found, where=where
        )


def _only(data: bytes, tag: int, name: str) -> _Reader:
    """Open `data`, which must be a single element."""
    outer = _Reader(data, name)
    inner = _Reader(outer.take(tag), name)
    outer.end()
    return inner


def parse_ocsp_response(der: bytes) -> OcspResponse:
    """Parse one DER OCSPResponse (RFC 6960 §4.2.1).  Nothing in it is verified.

    Raises:
        CollateralError: over `MAX_OCSP_BYTES`, not DER, not successful, not a basic response,
            no single response or over `MAX_SINGLE_RESPONSES`, an unknown hash algorithm, or a
            certificate in it has no EC key on P-256 or P-384.
    """
    if len(der) > MAX_OCSP_BYTES:
        raise CollateralError("OCSP response is too large", found=f"{len(der)} bytes")
    outer = _only(bytes(der), SEQUENCE, "OCSPResponse")
    status = decode_integer(outer.take(ENUMERATED), CollateralError)
    if status != 0:
        raise CollateralError(
            "OCSP response holds no answer",
            expected="responseStatus successful",
            found=_FAILURES.get(status, str(status)),
            hint="ask the responder again",
        )
    wrapped = _only(outer.take(_CONTEXT[0]), SEQUENCE, "ResponseBytes")
    outer.end()
    kind = wrapped.take(OBJECT_IDENTIFIER)
    if kind != _BASIC_RESPONSE:
        raise wrapped.error("id-pkix-ocsp-basic", f"OID {kind[:32].hex()}")
    basic = _only(wrapped.take(OCTET_STRING), SEQUENCE, "BasicOCSPResponse")
    wrapped.end()
    tbs, algorithm, signature = basic.raw(SEQUENCE), basic.raw(SEQUENCE), basic.take(_BIT_STRING)
    if signature[:1] != b"\0":
        raise basic.error("a signature of whole bytes", signature[:1].hex() or "nothing")
    explicit = basic.optional(_CONTEXT[0])
    basic.end()
    return _response_data(bytes(der), tbs, algorithm, signature[1:], _certificates(explicit))


def _response_data(
    der: bytes,
    tbs: bytes,
    algorithm: bytes,
    signature: bytes,
    certificates: tuple[Certificate, ...],
) -> OcspResponse:
    data = _only(tbs, SEQUENCE, "ResponseData")  # version v1 is the default: DER leaves it out
    name = data.optional(_CONTEXT[1])
    key_hash = None
    if name is not None:
        _only(name, SEQUENCE, "ResponderID byName")
    else:
        key_hash = _only(data.take(_CONTEXT[2]), OCTET_STRING, "ResponderID byKey").data
        if len(key_hash) != _SIZES["sha1"]:
            raise data.error("a SHA-1 digest", f"{len(key_hash)} bytes")
    produced_at = _time(data.take(_GENERALIZED_TIME))
    items = _Reader(data.take(SEQUENCE), "responses")
    unknown: list[str] = []
    singles: list[OcspSingle] = []
    while items.more or not singles:
        if len(singles) == MAX_SINGLE_RESPONSES:
            raise items.error(f"at most {MAX_SINGLE_RESPONSES}", "more")
        singles.append(_single(_Reader(items.take(SEQUENCE), "SingleResponse"), unknown))
    nonce = _extensions(data.optional(_CONTEXT[1]), unknown, _NONCE)
    data.end()
    if nonce is not None:
        nonce = _only(nonce, OCTET_STRING, "nonce").data
        if not 1 <= len(nonce) <= MAX_NONCE_BYTES:
            raise data.error(f"a nonce of 1 to {MAX_NONCE_BYTES} bytes", f"{len(nonce)} bytes")
    return OcspResponse(
        der, tbs, algorithm, signature, name, key_hash, produced_at, tuple(singles), nonce,
        certificates, tuple(unknown),
    )  # fmt: skip


def _certificates(explicit: bytes | None) -> tuple[Certificate, ...]:
    found: list[Certificate] = []
    items = _only(explicit, SEQUENCE, "certs") if explicit is not None else _Reader(b"", "certs")
    while items.more:
        if len(found) == MAX_OCSP_CERTIFICATES:
            raise items.error(f"at most {MAX_OCSP_CERTIFICATES}", "more")
        found.append(parse_certificate(items.raw(SEQUENCE), CollateralError))
    return tuple(found)


def _single(item: _Reader, unknown: list[str]) -> OcspSingle:
    cert_id = _cert_id(_Reader(item.take(SEQUENCE), "CertID"))
    revoked_at, reason = None, None
    if (content := item.optional(_REVOKED)) is not None:
        revoked = _Reader(content, "RevokedInfo")
        revoked_at = _time(revoked.take(_GENERALIZED_TIME))
        if (explicit := revoked.optional(_CONTEXT[0])) is not None:
            code = decode_integer(_only(explicit, ENUMERATED, "CRLReason").data, CollateralError)
            if code not in _REASONS:
                raise revoked.error("a CRLReason", str(code))
            reason = _REASONS[code]
        revoked.end()
        status = CertStatus.REVOKED
    else:
        content = item.optional(_UNKNOWN)
        status = CertStatus.GOOD if content is None else CertStatus.UNKNOWN
        if content or (content is None and item.take(_GOOD)):
            raise item.error("a NULL", "something inside")
    this_update = _time(item.take(_GENERALIZED_TIME))
    explicit = item.optional(_CONTEXT[0])
    next_update = (
        None if explicit is None else _time(_only(explicit, _GENERALIZED_TIME, "nextUpdate").data)
    )
    if next_update is not None and next_update < this_update:
        raise item.error("nextUpdate not before thisUpdate", utc_text(next_update))
    _extensions(item.optional(_CONTEXT[1]), unknown)
    item.end()
    return OcspSingle(cert_id, status, revoked_at, reason, this_update, next_update)


def _cert_id(item: _Reader) -> CertId:
    algorithm = _Reader(item.take(SEQUENCE), "hashAlgorithm")
    name = _HASHES.get(oid := algorithm.take(OBJECT_IDENTIFIER).hex())
    if name is None or algorithm.optional(0x05):  # parameters: NULL or absent
        raise algorithm.error("SHA-1, SHA-256 or SHA-384", f"OID {oid[:64]}")
    algorithm.end()
    hashes = item.take(OCTET_STRING), item.take(OCTET_STRING)
    if any(len(digest) != _SIZES[name] for digest in hashes):
        raise item.error(f"two {name} digests", f"{len(hashes[0])} and {len(hashes[1])} bytes")
    serial = decode_integer(item.take(INTEGER), CollateralError)
    item.end()
    return CertId(name, *hashes, serial)


def _extensions(
    explicit: bytes | None, unknown: list[str], wanted: bytes | None = None
) -> bytes | None:
    """Return the value of the wanted extension; add the others that are critical to `unknown`."""
    values: dict[bytes, bytes] = {}
    items = _only(explicit, SEQUENCE, "extensions") if explicit is not None else _Reader(b"", "")
    while items.more:
        item = _Reader(items.take(SEQUENCE), "Extension")
        oid, critical = item.take(OBJECT_IDENTIFIER), item.optional(BOOLEAN)
        if oid in values or critical not in (None, b"\xff"):  # DER leaves out the default, FALSE
            raise item.error("each extension once, in DER", f"OID {oid[:32].hex()}")
        values[oid] = item.take(OCTET_STRING)
        item.end()
        if critical and oid != wanted:
            unknown.append(oid[:32].hex())
    return None if wanted is None else values.get(wanted)


def _time(text: bytes) -> datetime:
    """Read a GeneralizedTime as RFC 5280 §4.1.2.5.2 narrows it: YYYYMMDDHHMMSSZ."""
    try:
        if not text[:14].isdigit() or text[14:] != b"Z":
            raise ValueError
        fields = [int(text[at : at + 2]) for at in range(4, 14, 2)]
        return datetime(int(text[:4]), *fields, tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        raise CollateralError(
            "OCSP response has a malformed time", expected="YYYYMMDDHHMMSSZ", found=repr(text[:32])
        ) from None


# --- how a certificate is named ------------------------------------------------------------------


def cert_ids(serial: int, issuer: Certificate | TrustAnchor) -> frozenset[CertId]:
    """Return every CertID by which a response may name the issuer's certificate."""
    return _cert_ids(serial, issuer.subject, key_bits(issuer.public_key))


# A pure function, and the digests of one issuer are needed for each of its devices, twice.
@lru_cache(maxsize=512)
def _cert_ids(serial: int, name: bytes, key: bytes) -> frozenset[CertId]:
    return frozenset(
        CertId(
            algorithm,
            hashlib.new(algorithm, name, usedforsecurity=False).digest(),
            hashlib.new(algorithm, key, usedforsecurity=False).digest(),
            serial,
        )
        for algorithm in _HASHES.values()
    )


def key_bits(key: EcPublicKey) -> bytes:
    """The content of the subjectPublicKey BIT STRING: the uncompressed point (RFC 5480 §2.2)."""
    return b"\x04" + key.point
