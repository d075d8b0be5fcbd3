"""COSE (RFC 9052): public keys, their thumbprints (RFC 9679), and COSE_Sign1.

Three fully specified algorithms (RFC 9864) and no other: the number says curve and digest, so
nothing is left to be negotiated.  A header parameter that nobody here understands is refused,
critical or not: what cannot be read must not be signed over in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccverify.bundle.cbor import decode, encode
from ccverify.errors import CcverifyError, EvidenceError, UsageError
from ccverify.trust.signatures import EcPublicKey

__all__ = [
    "ALG",
    "CONTENT_TYPE",
    "COSE_KEY_TYPE",
    "COSE_SIGN1_TAG",
    "CRIT",
    "KID",
    "TYP",
    "Algorithm",
    "CoseKey",
    "KeySigner",
    "Sign1",
    "Signer",
    "parse_cose_key",
    "parse_sign1",
    "sign1",
    "sign1_problem",
]

COSE_SIGN1_TAG: Final = 18
COSE_KEY_TYPE: Final = "application/cose-key"

ALG, CRIT, CONTENT_TYPE, KID, TYP = 1, 2, 3, 4, 16
"""Labels of header parameters: RFC 9052 §3.1, and RFC 9596 for ``typ``."""

_HEADERS: Final = frozenset({ALG, CRIT, CONTENT_TYPE, KID, TYP})
_MAX_HEADER_BYTES: Final = 16 * 1024
_MAX_KEY_BYTES: Final = 256
_MAX_TEXT: Final = 256
_KTY, _CRV, _X, _Y = 1, -1, -2, -3  # RFC 9052 §7.1, RFC 9053 §7
_OKP, _EC2 = 1, 2


class Algorithm(IntEnum):
    """Signature algorithms by their numbers in the COSE registry (RFC 9864 §2)."""

    ESP256 = -9
    """ECDSA on P-256 with SHA-256."""
    ED25519 = -19
    """EdDSA on edwards25519."""
    ESP384 = -51
    """ECDSA on P-384 with SHA-384."""


class _Suite(NamedTuple):
    kty: int
    crv: int
    octets: int  # of one coordinate; a signature has two
    curve: str  # as `EcPublicKey` and `cryptography` know it
    digest: HashAlgorithm | None


_SUITES: Final[Mapping[Algorithm, _Suite]] = {
    Algorithm.ESP256: _Suite(_EC2, 1, 32, "P-256", SHA256()),
    Algorithm.ED25519: _Suite(_OKP, 6, 32, "Ed25519", None),
    Algorithm.ESP384: _Suite(_EC2, 2, 48, "P-384", SHA384()),
}
_BY_CURVE: Final = {(s.kty, s.crv): algorithm for algorithm, s in _SUITES.items()}
_BY_NAME: Final = {"secp256r1": Algorithm.ESP256, "secp384r1": Algorithm.ESP384}


# --- keys ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CoseKey:
    """A public key, as the members that RFC 9679 hashes and no other.

    Attributes:
        algorithm: the one algorithm it is used with.
        x: coordinate, big endian, 32 or 48 bytes; of Ed25519 the whole key, 32 bytes.
        y: the other coordinate; empty for Ed25519.
    """

    algorithm: Algorithm
    x: bytes
    y: bytes = b""

    @classmethod
    def of(cls, key: object) -> CoseKey:
        """Take over a public key of `cryptography`.

        Raises:
            UsageError: not on P-256, P-384 or edwards25519.
        """
        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls(Algorithm.ED25519, key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _BY_NAME:
            numbers, algorithm = key.public_numbers(), _BY_NAME[key.curve.name]
            octets = _SUITES[algorithm].octets
            return cls(algorithm, numbers.x.to_bytes(octets), numbers.y.to_bytes(octets))
        raise UsageError("key is of no kind that can sign here",
                         expected="EC P-256, EC P-384 or Ed25519")  # fmt: skip

    @property
    def encoded(self) -> bytes:
        """COSE_Key in deterministic CBOR: the input of the thumbprint (RFC 9679 §3)."""
        suite = _SUITES[self.algorithm]
        members: dict[int, object] = {_KTY: suite.kty, _CRV: suite.crv, _X: self.x}
        if suite.kty == _EC2:
            members[_Y] = self.y
        return encode(members)

    @property
    def thumbprint(self) -> bytes:
        """COSE Key Thumbprint (RFC 9679) with SHA-256: 32 bytes."""
        return sha256(self.encoded).digest()

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Verify a raw signature: r ‖ s, big endian, one coordinate's length each, or Ed25519's.

        r and s must both be from 1 to the order of the curve less 1.
        """
        if self.algorithm is not Algorithm.ED25519:
            curve = _SUITES[self.algorithm].curve
            return EcPublicKey(curve, self.x + self.y).verify_raw(signature, message)
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.x).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def parse_cose_key(
    data: bytes, *, what: str = "COSE_Key", error: type[CcverifyError] = EvidenceError
) -> CoseKey:
    """Parse a COSE_Key that holds exactly what its thumbprint covers (RFC 9679 §4).

    Raises:
        error: not deterministic CBOR, of another type or curve, with other members (kid, alg,
            private key ...), a compressed point, or a point that is not on the curve.
    """
    members = decode(data, what=what, error=error, limit=_MAX_KEY_BYTES)
    if not isinstance(members, dict):
        raise error(f"{what} is not a COSE_Key", expected="a map")
    kty, crv = members.get(_KTY), members.get(_CRV)
    algorithm = _BY_CURVE.get((kty, crv)) if type(kty) is type(crv) is int else None
    if algorithm is None:
        raise error(f"{what} is of no kind accepted here", where="kty (1), crv (-1)",
                    expected="EC2 P-256, EC2 P-384 or OKP Ed25519")  # fmt: skip
    suite = _SUITES[algorithm]
    wanted = (_KTY, _CRV, _X, _Y) if suite.kty == _EC2 else (_KTY, _CRV, _X)
    if set(members) != set(wanted):
        raise error(f"{what} has other members than its thumbprint covers",
                    expected=", ".join(map(str, wanted)),
                    found=", ".join(map(repr, members)))  # fmt: skip
    for label in wanted[2:]:
        if not isinstance(members[label], bytes) or len(members[label]) != suite.octets:
            raise error(f"{what} has a wrong coordinate", where=f"label {label}",
                        expected=f"{suite.octets} bytes, big endian")  # fmt: skip
    key = CoseKey(algorithm, members[_X], members.get(_Y, b""))
    try:
        if suite.kty == _EC2:
            _ = EcPublicKey(suite.curve, key.x + key.y).handle
        else:
            ed25519.Ed25519PublicKey.from_public_bytes(key.x)
    except (EvidenceError, ValueError):
        raise error(f"{what} is not a point on {suite.curve}", found=key.x.hex()) from None
    return key


# --- signing ------------------------------------------------------------------------------------


class Signer(Protocol):
    """Who signs: a private key in memory, or in a device."""

    @property
    def key(self) -> CoseKey:
        """The public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the raw signature of the key's algorithm."""
        ...


PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class KeySigner:
    """Signs with a private key of `cryptography`.

    Attributes:
        private: P-256, P-384 or Ed25519.
        deterministic: whether ECDSA takes its secret number from key and message (RFC 6979)
            instead of the system's randomness, as published examples need it.
    """

    private: PrivateKey
    deterministic: bool = False

    @property
    def key(self) -> CoseKey:
        """The public key."""
        return CoseKey.of(self.private.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return the raw signature.

        Raises:
            UsageError: this build of `cryptography` cannot sign deterministically.
        """
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        suite = _SUITES[self.key.algorithm]
        assert suite.digest is not None  # noqa: S101  # an EC suite
        try:
            scheme = ec.ECDSA(suite.digest, deterministic_signing=self.deterministic)
            r, s = decode_dss_signature(self.private.sign(message, scheme))
        except UnsupportedAlgorithm:
            raise UsageError(
                "deterministic ECDSA (RFC 6979) is not available",
                hint="use a build of cryptography on OpenSSL 3.2 or newer",
            ) from None
        return r.to_bytes(suite.octets) + s.to_bytes(suite.octets)


def sign1(
    payload: bytes,
    signer: Signer,
    *,
    content_type: str,
    typ: str,
    kid: bytes | None = None,
    external_aad: bytes = b"",
    unprotected: Mapping[int, object] | None = None,
) -> bytes:
    """Make a tagged COSE_Sign1 in deterministic CBOR.

    Args:
        payload: what is signed.
        signer: who signs.
        content_type: media type of the payload (label 3, protected).
        typ: media type of the whole (label 16, protected).
        kid: names the key (label 4, protected).
        external_aad: signed and not carried.
        unprotected: header parameters that the signature does not cover, such as a time-stamp.
    """
    header: dict[int, object] = {ALG: int(signer.key.algorithm), CONTENT_TYPE: content_type}
    if kid is not None:
        header[KID] = kid
    protected = encode({**header, TYP: typ})
    signature = signer.sign(_signed_bytes(protected, payload, external_aad))
    return encode([protected, dict(unprotected or {}), payload, signature], tags=(COSE_SIGN1_TAG,))


def _signed_bytes(protected: bytes, payload: bytes, external_aad: bytes) -> bytes:
    """Return the Sig_structure (RFC 9052 §4.4)."""
    return encode(["Signature1", protected, external_aad, payload])


# --- parsing and verification -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1, its signature not verified.

    Attributes:
        algorithm: as the protected header says.
        content_type: media type of the payload; None if not given.
        typ: media type of the whole; None if not given.
        kid: names the key; None if not given.
        protected: the protected header's encoding, which is signed.
        unprotected: header parameters that nothing covers.
        payload: what is signed.
        signature: raw.
    """

    algorithm: Algorithm
    content_type: str | None
    typ: str | None
    kid: bytes | None
    protected: bytes
    unprotected: Mapping[int, Any]
    payload: bytes
    signature: bytes


def parse_sign1(
    data: bytes,
    *,
    what: str,
    error: type[CcverifyError],
    limit: int,
    unprotected: frozenset[int] = frozenset(),
) -> Sign1:
    """Parse a tagged COSE_Sign1 with its payload inside.

    Args:
        data: tag 18 and the array of four, in deterministic CBOR.
        what: name of the thing parsed, for the error message.
        error: the declared error to raise.
        limit: most bytes.
        unprotected: labels that may stand in the unprotected header.

    Raises:
        error: malformed; another algorithm; header parameters that are unknown, of a wrong
            type, in both headers, or marked critical and not there; no payload; a signature of
            a length that its algorithm never has.
    """
    parts = decode(data, what=what, error=error, limit=limit, tags=(COSE_SIGN1_TAG,))
    if not isinstance(parts, list) or len(parts) != 4:
        raise error(f"{what} is not a COSE_Sign1", expected="tag 18 and an array of four")
    protected, loose, payload, signature = parts
    if not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise error(f"{what} is not a COSE_Sign1 with its payload inside",
                    expected="payload and signature as byte strings")  # fmt: skip
    if not isinstance(protected, bytes) or not isinstance(loose, dict):
        raise error(f"{what} has malformed headers", expected="a byte string and a map")
    header = _protected_header(protected, f"{what}: protected header", error)
    extra = set(loose) - unprotected
    if extra or set(loose) & set(header):
        raise error(f"{what} has unprotected header parameters that are not accepted",
                    found=", ".join(map(repr, sorted(extra or loose, key=repr))))  # fmt: skip
    algorithm = Algorithm(header[ALG])
    if len(signature) != 2 * _SUITES[algorithm].octets:
        raise error(f"{what} has a signature of the wrong length", found=str(len(signature)),
                    expected=f"{2 * _SUITES[algorithm].octets} bytes")  # fmt: skip
    return Sign1(
        algorithm=algorithm,
        content_type=header.get(CONTENT_TYPE),
        typ=header.get(TYP),
        kid=header.get(KID),
        protected=protected,
        unprotected=MappingProxyType(loose),
        payload=payload,
        signature=signature,
    )


def _protected_header(data: bytes, what: str, error: type[CcverifyError]) -> dict[int, Any]:
    header = decode(data, what=what, error=error, limit=_MAX_HEADER_BYTES)
    if not isinstance(header, dict):
        raise error(f"{what} is not a map")
    unknown = [label for label in header if label not in _HEADERS]
    if unknown:
        raise error(f"{what} has parameters that are not known here",
                    found=", ".join(map(repr, unknown)),
                    expected=", ".join(map(str, sorted(_HEADERS))))  # fmt: skip
    number = header.get(ALG)
    if type(number) is not int or number not in list(Algorithm):
        names = ", ".join(f"{a.name} ({a.value})" for a in Algorithm)
        raise error(f"{what} names no algorithm accepted here", expected=names,
                    found=repr(number))  # fmt: skip
    for label in (CONTENT_TYPE, TYP):
        text = header.get(label, "")
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            raise error(f"{what} has a wrong media type", where=f"label {label}",
                        expected=f"text of at most {_MAX_TEXT} characters")  # fmt: skip
    if not isinstance(header.get(KID, b""), bytes):
        raise error(f"{what} has a wrong key identifier", expected="a byte string")
    critical = header.get(CRIT, [ALG])
    # Every label named must be there, and whatever is there is understood.
    if not isinstance(critical, list) or not critical or not _labels(critical) <= set(header):
        raise error(f"{what} lists critical parameters that are not there", where="crit (2)",
                    expected="one or more labels of parameters in the same header")  # fmt: skip
    return header


def _labels(listed: list[Any]) -> set[Any]:
    return {label if type(label) is int else None for label in listed}


def sign1_problem(signed: Sign1, key: CoseKey, external_aad: bytes = b"") -> str | None:
    """Verify a COSE_Sign1 by a key that the caller has reason to trust.

    Returns:
        None if the signature is valid, or what is wrong.
    """
    if signed.algorithm is not key.algorithm:
        return f"the header says {signed.algorithm.name}, the key is for {key.algorithm.name}"
    message = _signed_bytes(signed.protected, signed.payload, external_aad)
    if not key.verify(signed.signature, message):
        return "the signature is not valid under this key"
    return None
