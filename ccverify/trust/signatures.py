"""ECDSA verification, and the memory of which signatures have been seen to be valid.

The only fact remembered is mathematical: "this signature over these bytes verifies under
this key".  Validity periods, revocation and policy are judged anew on every call, so a
remembered fact can never outlive a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccverify.errors import EvidenceError

__all__ = ["EcPublicKey", "SignatureMemory"]


@dataclass(frozen=True, slots=True)
class _Curve:
    curve: ec.EllipticCurve
    algorithm: ec.ECDSA
    octets: int
    order: int


_CURVES = {
    "P-256": _Curve(
        ec.SECP256R1(),
        ec.ECDSA(SHA256()),
        32,
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    ),
    "P-384": _Curve(
        ec.SECP384R1(),
        ec.ECDSA(SHA384()),
        48,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
}

_KEY_INFO_PREFIXES = {
    "P-256": bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    "P-384": bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
}
"""DER of a SubjectPublicKeyInfo up to the uncompressed point x ‖ y (RFC 5480)."""

_NAMES = {parameters.curve.name: name for name, parameters in _CURVES.items()}


@dataclass(frozen=True)
class EcPublicKey:
    """An elliptic-curve public key: curve name and its point, x ‖ y, big endian.

    The digest goes with the curve: P-256 with SHA-256, P-384 with SHA-384, as Intel's and
    NVIDIA's evidence formats fix it.
    """

    curve: str
    point: bytes

    @classmethod
    def of(cls, key: object) -> EcPublicKey:
        """Wrap a key that `cryptography` has loaded.

        Raises:
            EvidenceError: not an EC key on P-256 or P-384.
        """
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _NAMES:
            raise EvidenceError("public key is not EC P-256 or P-384")
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        wrapped = cls(_NAMES[key.curve.name], point)
        wrapped.__dict__["handle"] = key  # what the cached property would load again
        return wrapped

    @classmethod
    def of_key_info(cls, key_info: bytes) -> EcPublicKey | None:
        """Read a SubjectPublicKeyInfo of the usual form; None if it is of another.

        The usual form is RFC 5480's with a named curve and an uncompressed point, of which DER
        has one encoding for each curve.  Far quicker than asking a loaded key for its point.

        Raises:
            EvidenceError: the point is not on the curve.
        """
        for curve, prefix in _KEY_INFO_PREFIXES.items():
            if key_info.startswith(prefix):
                point = key_info[len(prefix) :]
                if len(point) == 2 * _CURVES[curve].octets:
                    key = cls(curve, point)
                    _ = key.handle
                    return key
        return None

    @cached_property
    def handle(self) -> ec.EllipticCurvePublicKey:
        """The loaded key.

        Raises:
            EvidenceError: unknown curve, wrong length, or the point is not on the curve.
        """
        parameters = _CURVES.get(self.curve)
        if parameters is None:
            raise EvidenceError("public key is on an unknown curve", found=self.curve)
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(
                parameters.curve, b"\x04" + self.point
            )
        except ValueError:
            raise EvidenceError(
                f"public key is not a point on {self.curve}", found=self.point[:96].hex()
            ) from None

    def verify_raw(self, signature: bytes, message: bytes) -> bool:
        """Verify a raw signature r ‖ s (big endian, one field size each) over `message`."""
        parameters = _CURVES[self.curve]
        octets = parameters.octets
        if len(signature) != 2 * octets:
            return False
        r = int.from_bytes(signature[:octets], "big")
        s = int.from_bytes(signature[octets:], "big")
        if not (0 < r < parameters.order and 0 < s < parameters.order):
            return False
        return self.verify_der(encode_dss_signature(r, s), message)

    def verify_der(self, signature: bytes, message: bytes) -> bool:
        """Verify a DER-encoded ECDSA signature over `message`."""
        try:
            self.handle.verify(signature, message, _CURVES[self.curve].algorithm)
        except InvalidSignature:
            return False
        return True


_Fact = tuple[str, str, bytes, bytes, bytes]
"""Signature form, curve, public point, signature, message."""


@dataclass
class SignatureMemory:
    """A bounded memory of valid signatures; safe to share between threads.

    Only positives are kept, keyed on every byte that entered the decision.  When
    `max_bytes` of keys are held the oldest fact goes first.
    """

    max_bytes: int = 32 * 1024 * 1024
    _facts: dict[_Fact, None] = field(default_factory=dict, repr=False)
    _held: int = field(default=0, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def verify_raw(self, key: EcPublicKey, signature: bytes, message: bytes) -> bool:
        """`EcPublicKey.verify_raw`, remembered."""
        fact = ("raw", key.curve, key.point, signature, message)
        return fact in self._facts or self._remember(key.verify_raw(signature, message), fact)

    def verify_der(self, key: EcPublicKey, signature: bytes, message: bytes) -> bool:
        """`EcPublicKey.verify_der`, remembered."""
        fact = ("der", key.curve, key.point, signature, message)
        return fact in self._facts or self._remember(key.verify_der(signature, message), fact)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._facts.clear()
            self._held = 0

    def _remember(self, valid: bool, fact: _Fact) -> bool:
        if not valid:
            return False
        size = len(fact[3]) + len(fact[4])
        with self._lock:
            if size <= self.max_bytes and fact not in self._facts:
                self._facts[fact] = None
                self._held += size
                while self._held > self.max_bytes:
                    oldest = next(iter(self._facts))
                    del self._facts[oldest]
                    self._held -= len(oldest[3]) + len(oldest[4])
        return True
