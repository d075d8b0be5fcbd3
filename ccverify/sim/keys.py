"""Deterministic EC keys and signatures.

A key is a label and a seed; the same two give the same scalar on every machine, and
signatures follow RFC 6979, so that fixtures can be made again byte for byte.  Anyone can
derive these keys: they protect nothing and must never be trusted outside a test.

RFC 6979 needs cryptography 43.0.0 or newer on OpenSSL 3.2 or newer (the published wheels
carry it).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ccverify.errors import UsageError
from ccverify.sim import der

__all__ = ["DEFAULT_SEED", "CurveName", "HashName", "SimKey"]

CurveName = Literal["P-256", "P-384"]
HashName = Literal["sha256", "sha384"]

DEFAULT_SEED = b"ccverify simulation 1"
"""Seed of the simulated world; another seed is another, unrelated world."""

_DOMAIN = b"ccverify/sim/key/v1"
_OID_EC_PUBLIC_KEY = "1.2.840.10045.2.1"


@dataclass(frozen=True, slots=True)
class _Curve:
    implementation: ec.EllipticCurve
    oid: str
    order: int  # n, FIPS 186-5
    size: int  # bytes in one coordinate
    default_hash: HashName


_CURVES: dict[CurveName, _Curve] = {
    "P-256": _Curve(
        ec.SECP256R1(),
        "1.2.840.10045.3.1.7",
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        32,
        "sha256",
    ),
    "P-384": _Curve(
        ec.SECP384R1(),
        "1.3.132.0.34",
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
        48,
        "sha384",
    ),
}
_HASHES: dict[HashName, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
}


def _scalar(label: str, seed: bytes, curve: CurveName) -> int:
    """Return a scalar in 1..n-1 from 64 bytes of SHAKE-256 over length-prefixed inputs.

    64 bytes are at least 128 bits more than either order, so the reduction has no bias
    that anyone could measure.
    """
    absorb = hashlib.shake_256(_DOMAIN)
    for part in (curve.encode("ascii"), label.encode("utf-8"), seed):
        absorb.update(len(part).to_bytes(4, "big") + part)
    wide = int.from_bytes(absorb.digest(64), "big")
    return wide % (_CURVES[curve].order - 1) + 1


@lru_cache(maxsize=256)
def _private_key(label: str, seed: bytes, curve: CurveName) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(_scalar(label, seed, curve), _CURVES[curve].implementation)


@dataclass(frozen=True, slots=True)
class SimKey:
    """An EC key derived from a label and a seed.

    Attributes:
        label: what the key is for, e.g. ``"root"``.
        seed: the simulated world it belongs to.
        curve: ``"P-256"`` or ``"P-384"``.
    """

    label: str
    seed: bytes = DEFAULT_SEED
    curve: CurveName = "P-256"

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The key as `cryptography` holds it."""
        return _private_key(self.label, self.seed, self.curve)

    @property
    def public_xy(self) -> bytes:
        """x||y, big endian, 64 bytes (P-256) or 96 (P-384)."""
        numbers = self.private_key.public_key().public_numbers()
        size = _CURVES[self.curve].size
        return numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo, named curve, uncompressed point (RFC 5480)."""
        algorithm = der.sequence(
            der.object_identifier(_OID_EC_PUBLIC_KEY),
            der.object_identifier(_CURVES[self.curve].oid),
        )
        return der.sequence(algorithm, der.bit_string(b"\x04" + self.public_xy))

    @property
    def key_id(self) -> bytes:
        """20-byte key identifier, RFC 5280 4.2.1.2 method 1."""
        return hashlib.sha1(b"\x04" + self.public_xy, usedforsecurity=False).digest()

    @property
    def default_hash(self) -> HashName:
        """The hash this curve is normally used with."""
        return _CURVES[self.curve].default_hash

    def sign_der(self, message: bytes, hash_name: HashName | None = None) -> bytes:
        """Return the RFC 6979 ECDSA signature of `message` as DER Ecdsa-Sig-Value.

        Raises:
            UsageError: this build of `cryptography` cannot sign deterministically.
        """
        algorithm = _HASHES[hash_name or self.default_hash]
        try:
            return self.private_key.sign(message, ec.ECDSA(algorithm, deterministic_signing=True))
        except UnsupportedAlgorithm as error:
            raise UsageError(
                "deterministic ECDSA (RFC 6979) is not available",
                expected="cryptography >= 43.0.0 built on OpenSSL >= 3.2",
                hint="install a published wheel of cryptography",
            ) from error

    def sign_raw(self, message: bytes, hash_name: HashName | None = None) -> bytes:
        """Return the same signature as r||s, big endian, 64 or 96 bytes."""
        r, s = decode_dss_signature(self.sign_der(message, hash_name))
        size = _CURVES[self.curve].size
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
