"""JSON Web Tokens of attestation results, taken apart; and ES384, the one signature that counts.

Sources: RFC 7515 (JWS compact serialisation), RFC 7519 (JWT), RFC 7518 section 3.4 (ES384: the
signature is r ‖ s, 48 octets each, big endian), RFC 7517 (JWK).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP384R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from ccverify.errors import CollateralError, EvidenceError
from ccverify.interop.elements import Element, parse_foreign_json, refused
from ccverify.interop.model import Jwt, JwtTimes
from ccverify.strict_json import parse_json

__all__ = [
    "MAX_JWT_CHARACTERS",
    "REFUSED_ALGORITHMS",
    "Jwk",
    "parse_jwks",
    "parse_jwt",
    "verify_es384",
]

MAX_JWT_CHARACTERS: Final = 64 * 1024
"""Longest token.  NRAS tokens take 0.5 to 2 KB."""
REFUSED_ALGORITHMS: Final = MappingProxyType(
    {
        "HS256": "HS256 is made with a shared secret (NVIDIA's local verifier uses the word "
        "'secret'), so whoever can check it can forge it",
        "none": "alg none means nobody signed it",
    }
)
"""Algorithms that are parsed and can never count as evidence, and why."""

_SIGNATURE_BYTES: Final = {"ES384": 96, "HS256": 32, "none": 0}
_COORDINATE: Final = 48
_MAX_KEYS: Final = 64
_MAX_JWKS_BYTES: Final = 1024 * 1024
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
_MAX_TIME: Final = 253402300799  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class Jwk:
    """A P-384 public key of a key set.

    Attributes:
        key_id: ``kid``.
        x: 48 octets, big endian.
        y: likewise.
        certificates: ``x5c``, base64 DER as sent, leaf first; not verified.
    """

    key_id: str
    x: bytes
    y: bytes
    certificates: tuple[str, ...] = ()


def parse_jwt(element: Element) -> Jwt:
    """Take a compact token apart; the signature is not verified.

    Raises:
        EvidenceError: not three parts of unpadded base64url, header or claims are not JSON
            objects, an algorithm other than ES384, HS256 and none, a critical header, a
            signature of the wrong length, or time claims that are not whole seconds.
    """
    text = element.text(most=MAX_JWT_CHARACTERS)
    parts = text.split(".")
    if len(parts) != 3:
        raise element.wrong("a token of three parts")
    header, claims = (_json_part(part, element, what) for part, what in _named(parts))
    algorithm = header.member("alg").text(most=16)
    if algorithm not in _SIGNATURE_BYTES:
        expected = ", ".join(sorted(_SIGNATURE_BYTES))
        raise refused("token has an unknown algorithm", expected, repr(algorithm), header.path)
    if header.has("crit") or header.has("b64"):
        raise refused("token has a critical header", "none", "crit or b64", header.path)
    signature = _octets(parts[2], element, "signature")
    if len(signature) != _SIGNATURE_BYTES[algorithm]:
        raise refused(
            f"{algorithm} signature has the wrong length",
            f"{_SIGNATURE_BYTES[algorithm]} octets",
            str(len(signature)),
            element.path,
        )
    key_id, issuer = header.optional("kid"), claims.optional("iss")
    return Jwt(
        text=text,
        algorithm=algorithm,
        key_id=key_id.text(most=256) if key_id else None,
        claims=MappingProxyType(claims.value),
        times=JwtTimes(_time(claims, "iat"), _time(claims, "nbf"), _time(claims, "exp")),
        issuer=issuer.text(most=1024) if issuer else None,
        nonce=_nonce(claims),
        signing_input=f"{parts[0]}.{parts[1]}".encode(),
        signature=signature,
    )


def _named(parts: list[str]) -> tuple[tuple[str, str], ...]:
    return ((parts[0], "header"), (parts[1], "claims"))


def _octets(text: str, element: Element, what: str) -> bytes:
    padded = text + "=" * (-len(text) % 4)
    if _BASE64URL.fullmatch(text) and len(text) % 4 != 1:
        data = urlsafe_b64decode(padded)
        if urlsafe_b64encode(data).decode() == padded:  # no stray bits in the last character
            return data
    raise refused(
        f"{what} is not base64url",
        "unpadded base64url",
        repr(text[:40]),
        element.path,
    )


def _json_part(text: str, element: Element, what: str) -> Element:
    path = f"{element.path}, {what}"
    part = Element(parse_foreign_json(_octets(text, element, what), path), path)
    if not isinstance(part.value, dict):
        raise part.wrong("an object")
    return part


def _time(claims: Element, name: str) -> int | None:
    claim = claims.optional(name)
    if claim is None:
        return None
    if type(claim.value) is not int or not 0 <= claim.value <= _MAX_TIME:
        raise claim.wrong("whole seconds since 1970")
    return claim.value


def _nonce(claims: Element) -> bytes | None:
    # A sample of NVIDIA's own has 63 digits: what cannot be compared is not a nonce.
    claim = claims.optional("eat_nonce")
    if claim is None:
        return None
    try:
        return claim.hex(least=32, most=32)
    except EvidenceError:
        return None


def parse_jwks(data: bytes) -> Mapping[str, Jwk]:
    """Parse a JSON Web Key Set, such as the one NRAS publishes, into keys by key id.

    Raises:
        CollateralError: not a key set, more than 64 keys, two keys with one id, a key without
            an id, or a key that is not a point on P-384.
    """
    document = parse_json(data, what="key set", error=CollateralError, limit=_MAX_JWKS_BYTES)
    keys: dict[str, Jwk] = {}
    try:
        for item in Element(document).member("keys").items(most=_MAX_KEYS):
            key = _jwk(item)
            if key.key_id in keys:
                raise refused("two keys have one id", "ids that differ", key.key_id, item.path)
            keys[key.key_id] = key
    except EvidenceError as problem:
        raise CollateralError(
            f"key set: {problem.message}",
            expected=problem.expected,
            found=problem.found,
            where=problem.where,
        ) from None
    return MappingProxyType(keys)


def _jwk(item: Element) -> Jwk:
    for name, wanted in (("kty", "EC"), ("crv", "P-384")):
        if item.member(name).value != wanted:
            raise item.member(name).wrong(wanted)
    for name, wanted in (("alg", "ES384"), ("use", "sig")):
        stated = item.optional(name)
        if stated and stated.value != wanted:
            raise stated.wrong(wanted)
    chain = item.optional("x5c")
    certificates = chain.items(most=8) if chain else ()
    key = Jwk(
        item.member("kid").text(most=256),
        _coordinate(item.member("x")),
        _coordinate(item.member("y")),
        tuple(entry.text(most=16 * 1024) for entry in certificates),
    )
    try:
        _public_key(key)
    except ValueError:
        raise item.wrong("a point on P-384") from None
    return key


def _coordinate(element: Element) -> bytes:
    octets = _octets(element.text(most=64), element, "coordinate")
    if len(octets) != _COORDINATE:
        raise element.wrong(f"{_COORDINATE} octets in base64url")
    return octets


def _public_key(key: Jwk) -> EllipticCurvePublicKey:
    x, y = int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big")
    return EllipticCurvePublicNumbers(x, y, SECP384R1()).public_key()


def verify_es384(token: Jwt, key: Jwk) -> str | None:
    """Verify the signature of a token with one key.

    Neither the key itself nor the time claims are judged: pass a key from a key set that is
    trusted, and compare `Jwt.times` to the time of the verdict.

    Returns:
        None if the signature is right; else why this token proves nothing.
    """
    if token.algorithm != "ES384":
        return f"not evidence: {REFUSED_ALGORITHMS[token.algorithm]}"
    if token.key_id != key.key_id:
        return f"token names key {token.key_id!r}, not {key.key_id!r}"
    r, s = token.signature[:_COORDINATE], token.signature[_COORDINATE:]
    signature = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        _public_key(key).verify(signature, token.signing_input, ECDSA(SHA384()))
    except InvalidSignature:
        return f"signature does not verify with key {key.key_id!r}"
    except ValueError:
        return f"key {key.key_id!r} is not a point on P-384"
    return None
