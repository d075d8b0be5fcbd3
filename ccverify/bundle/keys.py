"""Keys that a recipe ties only through their digest: a certificate's key, a key's address."""

from __future__ import annotations

import binascii
from hashlib import sha256
from typing import Final

from ccverify.bundle.keccak import keccak256
from ccverify.errors import EvidenceError
from ccverify.trust.der import INTEGER, SEQUENCE, read_tlv

__all__ = ["address_of", "spki_sha256"]

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_MAX_BYTES: Final = 128 * 1024
_VERSION: Final = 0xA0
# After the version (RFC 5280 §4.1): serialNumber, signature, issuer, validity, subject, key.
_FIELDS: Final = (INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE)


def spki_sha256(certificate: bytes) -> bytes | None:
    """Return SHA-256 of a certificate's SubjectPublicKeyInfo, as encoded; None if malformed.

    Read by position and not by a library, so that any kind of key will do: services present
    RSA certificates too.  Nothing about the certificate itself is checked.

    Args:
        certificate: DER, or PEM whose first certificate is meant.
    """
    try:
        return _spki_sha256(certificate)
    except (EvidenceError, binascii.Error):
        return None


def _spki_sha256(certificate: bytes) -> bytes | None:
    if len(certificate) > _MAX_BYTES:
        return None
    if certificate.lstrip().startswith(_BEGIN):
        body = certificate.partition(_BEGIN)[2].partition(_END)[0]
        certificate = binascii.a2b_base64(body.translate(None, b" \t\r\n"), strict_mode=True)
    tag, content, end = read_tlv(certificate, 0, EvidenceError)
    if tag != SEQUENCE or end != len(certificate):
        return None
    tag, fields, _ = read_tlv(content, 0, EvidenceError)
    if tag != SEQUENCE:
        return None
    tag, _, end = read_tlv(fields, 0, EvidenceError)
    start = end = end if tag == _VERSION else 0
    for expected in _FIELDS:
        start = end
        tag, _, end = read_tlv(fields, start, EvidenceError)
        if tag != expected:
            return None
    return sha256(fields[start:end]).digest()


def address_of(public_key: bytes, length: int) -> bytes | None:
    """Return the signing address that belongs to a public key; None where there is none.

    Args:
        public_key: an Ed25519 key (32 bytes) or an uncompressed secp256k1 point, with or
            without its leading ``04``.
        length: of the address: 20 bytes for Ethereum's, which is the end of Keccak-256 over
            the point; 32 for Ed25519, where the key is its own address.
    """
    if length == len(public_key) == 32:
        return public_key
    if length == 20 and len(public_key) == 65 and public_key[0] == 4:
        public_key = public_key[1:]
    if length == 20 and len(public_key) == 64:
        return keccak256(public_key)[12:]
    return None
