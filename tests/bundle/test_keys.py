"""Public keys inside certificates and behind addresses, and the hash that Ethereum uses."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha3_256, sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ccverify.bundle.keccak import _sponge, keccak256
from ccverify.bundle.keys import address_of, spki_sha256

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

KEYS: dict[str, Key] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "RSA": rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def certificate(key: Key) -> x509.Certificate:
    builder = x509.CertificateBuilder(NAME, NAME, key.public_key(), 1, MOMENT, MOMENT)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_keys_of_any_kind(key: Key) -> None:
    made = certificate(key)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    expected = sha256(spki).digest()
    assert spki_sha256(made.public_bytes(Encoding.DER)) == expected
    pem = made.public_bytes(Encoding.PEM)
    issuer = certificate(KEYS["P-256"]).public_bytes(Encoding.PEM)
    assert spki_sha256(pem) == spki_sha256(b"\n" + pem + issuer) == expected


def test_what_is_no_certificate() -> None:
    der = certificate(KEYS["P-256"]).public_bytes(Encoding.DER)
    for wrong in (
        b"",
        b"\x30\x00",
        b"\x30\x02\x30\x00",
        b"\x31" + der[1:],
        der + b"\0",
        bytes(200_000),
        b"-----BEGIN CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----" + b64encode(der)[:-1] + b"-----END CERTIFICATE-----",
        *(der[:end] for end in range(0, len(der), 5)),
    ):
        assert spki_sha256(wrong) is None


@given(data=st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"\x30\x20\x30" + b))
def test_any_bytes(data: bytes) -> None:
    assert len(spki_sha256(data) or bytes(32)) == 32
    spki_sha256(b"-----BEGIN CERTIFICATE-----" + data + b"-----END CERTIFICATE-----")


@given(at=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_changed_certificate(at: int, byte: int) -> None:
    der = bytearray(certificate(KEYS["P-256"]).public_bytes(Encoding.DER))
    der[at % len(der)] = byte
    assert len(spki_sha256(bytes(der)) or bytes(32)) == 32


@pytest.mark.parametrize(
    ("data", "digest"),
    [  # from the Keccak team's test values and Ethereum's constants
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_keccak256(data: bytes, digest: str) -> None:
    assert keccak256(data).hex() == digest


@given(data=st.binary(max_size=300))
def test_sponge_is_that_of_sha3(data: bytes) -> None:
    assert _sponge(data, 0x06) == sha3_256(data).digest()
    assert keccak256(data) != sha3_256(data).digest()


def test_address_of_a_known_key() -> None:
    """The address of the private key 1, which every Ethereum library knows."""
    numbers = ec.derive_private_key(1, ec.SECP256K1()).public_key().public_numbers()
    point = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    address = bytes.fromhex("7e5f4552091a69125d5dfcb7b8c2659029395bdf")
    assert address_of(point, 20) == address_of(b"\x04" + point, 20) == address
    assert address_of(bytes(64), 20) != address
    for unusable in (b"", point[:33], b"\x02" + point, point + b"\0\0"):
        assert address_of(unusable, 20) is None
    assert address_of(point, 32) is None
    assert address_of(point[:32], 32) == point[:32]
    assert address_of(point[:32], 20) is None
