"""The verifier's own key: what signs verdicts, and the public half that others check them by.

Three algorithms and no other: ES256 (P-256), ES384 (P-384) and EdDSA (Ed25519).  ECDSA takes
its secret number from key and message (RFC 6979), so that the same verdict signed by the same
key has the same bytes again, and no weak random source can give the key away.

A key is named by its thumbprint: RFC 7638 in JOSE, RFC 9679 in COSE, both SHA-256 over the
public key alone.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from ccverify.bundle.cose import Algorithm, CoseKey, KeySigner, Signer
from ccverify.errors import TrustError, UsageError

__all__ = [
    "JOSE_ALGORITHMS",
    "MAX_KEY_FILE_BYTES",
    "VerifierKey",
    "base64url",
    "is_encrypted",
    "jwk",
    "jwk_thumbprint",
    "load_public_key",
    "load_signing_key",
]

MAX_KEY_FILE_BYTES: Final = 64 * 1024

JOSE_ALGORITHMS: Final = {
    Algorithm.ESP256: "ES256",
    Algorithm.ESP384: "ES384",
    Algorithm.ED25519: "EdDSA",
}
"""COSE algorithm → its name in JOSE (RFC 7518 §3.1, RFC 8037 §3.1)."""

_CURVES: Final = {
    Algorithm.ESP256: ("EC", "P-256"),
    Algorithm.ESP384: ("EC", "P-384"),
    Algorithm.ED25519: ("OKP", "Ed25519"),
}
_KINDS: Final = "a key on P-256, P-384 or Ed25519"
_ENCRYPTED: Final = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")


def base64url(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def jwk(key: CoseKey) -> dict[str, str]:
    """Return a public key as a JSON Web Key, with the members its thumbprint covers."""
    kty, crv = _CURVES[key.algorithm]
    members = {"crv": crv, "kty": kty, "x": base64url(key.x)}
    if key.y:
        members["y"] = base64url(key.y)
    return members


def jwk_thumbprint(key: CoseKey) -> str:
    """Return the JWK thumbprint (RFC 7638) with SHA-256, base64url: 43 characters."""
    text = json.dumps(jwk(key), sort_keys=True, separators=(",", ":"))
    return base64url(sha256(text.encode("ascii")).digest())


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A key that signs verdicts.

    Attributes:
        signer: who holds the private half: `KeySigner`, or a device.
    """

    signer: Signer

    @property
    def public(self) -> CoseKey:
        """The public key."""
        return self.signer.key

    @property
    def jose_algorithm(self) -> str:
        """``ES256``, ``ES384`` or ``EdDSA``."""
        return JOSE_ALGORITHMS[self.public.algorithm]


def is_encrypted(pem: bytes) -> bool:
    """Whether a PEM file says that its private key needs a passphrase."""
    return any(mark in pem[:MAX_KEY_FILE_BYTES] for mark in _ENCRYPTED)


def load_signing_key(pem: bytes, passphrase: bytes | None = None) -> VerifierKey:
    """Load a private key from PEM: PKCS#8, encrypted or not, or SEC 1.

    Args:
        pem: at most `MAX_KEY_FILE_BYTES`.
        passphrase: of an encrypted key; not looked at where the key is not encrypted.

    Raises:
        UsageError: no private key, of another kind, or not readable with this passphrase.
    """
    if len(pem) > MAX_KEY_FILE_BYTES:
        raise _no_key("the file is too large", f"at most {MAX_KEY_FILE_BYTES} bytes")
    locked = is_encrypted(pem)
    if locked and not passphrase:
        raise _no_key("it is encrypted, and no passphrase was given", "a passphrase")
    try:
        private: Any = load_pem_private_key(pem, passphrase if locked else None)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        wrong = "the passphrase is wrong, or the file is damaged" if locked else "it cannot be read"
        raise _no_key(wrong, f"PEM with {_KINDS}") from None
    kinds = (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)
    if not isinstance(private, kinds):
        raise _no_key("it is of another kind", _KINDS)
    signer = KeySigner(private, deterministic=True)
    try:
        _ = signer.key
    except UsageError:
        raise _no_key("it is on another curve", _KINDS) from None
    return VerifierKey(signer)


def _no_key(problem: str, expected: str) -> UsageError:
    return UsageError(
        f"this is no key to sign with: {problem}",
        expected=expected,
        hint="to make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
    )


def load_public_key(pem: bytes) -> CoseKey:
    """Load a verifier's public key from PEM: a public key, or a certificate that holds one.

    Of a certificate only the key is taken: neither its chain nor its dates are looked at, as
    the caller named this very key.

    Raises:
        TrustError: no public key, or of another kind.
    """
    if len(pem) > MAX_KEY_FILE_BYTES:
        raise _no_public_key("the file is too large")
    if b"PRIVATE KEY" in pem:
        raise _no_public_key("it is a private key, which nobody but its owner should have")
    try:
        if b"-----BEGIN CERTIFICATE-----" in pem:
            found = x509.load_pem_x509_certificates(pem)
            if len(found) != 1:
                raise _no_public_key(f"it holds {len(found)} certificates")
            key: object = found[0].public_key()
        else:
            key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        raise _no_public_key("it cannot be read") from None
    try:
        return CoseKey.of(key)
    except UsageError:
        raise _no_public_key("it is of another kind") from None


def _no_public_key(problem: str) -> TrustError:
    return TrustError(
        f"this is no public key of a verifier: {problem}",
        expected=f"PEM of one public key or certificate with {_KINDS}",
        hint="to take it out of a private key: openssl pkey -in KEY -pubout",
    )
