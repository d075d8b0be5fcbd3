"""Keys of verifiers: what is loaded, what is refused, and how a key is named."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import cbor2
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ccverify.bundle.cose import Algorithm
from ccverify.errors import TrustError, UsageError
from ccverify.results.signing import (
    MAX_KEY_FILE_BYTES,
    is_encrypted,
    jwk,
    jwk_thumbprint,
    load_public_key,
    load_signing_key,
)

KEYS = {
    "ES256": ec.derive_private_key(7, ec.SECP256R1()),
    "ES384": ec.derive_private_key(7, ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\7"),
}
EACH = pytest.mark.parametrize("name", KEYS)


def private_pem(key: object, passphrase: bytes | None = None, *, sec1: bool = False) -> bytes:
    form = PrivateFormat.TraditionalOpenSSL if sec1 else PrivateFormat.PKCS8
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, lock)  # type: ignore[attr-defined, no-any-return]


def public_pem(key: object) -> bytes:
    form = PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(Encoding.PEM, form)  # type: ignore[attr-defined, no-any-return]


def certificate_pem(key: object, signer: object) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "verifier")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .sign(signer, digest)  # type: ignore[arg-type]
    )
    return made.public_bytes(Encoding.PEM)


@EACH
def test_a_signature_verifies_and_is_the_same_again(name: str) -> None:
    key = load_signing_key(private_pem(KEYS[name]))
    assert key.jose_algorithm == name
    signature = key.signer.sign(b"message")
    assert signature == key.signer.sign(b"message")
    public = load_public_key(public_pem(KEYS[name]))
    assert public == key.public
    assert public.verify(signature, b"message")
    assert not public.verify(signature, b"messagf")
    assert not public.verify(signature[:-1] + bytes([signature[-1] ^ 1]), b"message")


@EACH
@pytest.mark.parametrize("sec1", [False, True])
def test_an_encrypted_key_needs_its_passphrase(name: str, sec1: bool) -> None:
    if sec1 and name == "EdDSA":
        pytest.skip("Ed25519 has no form of its own")
    pem = private_pem(KEYS[name], b"correct horse", sec1=sec1)
    assert is_encrypted(pem)
    assert load_signing_key(pem, b"correct horse").public == load_public_key(public_pem(KEYS[name]))
    for wrong in (None, b"", b"wrong"):
        with pytest.raises(UsageError, match="passphrase"):
            load_signing_key(pem, wrong)


def test_a_passphrase_that_is_not_needed_does_no_harm() -> None:
    pem = private_pem(KEYS["ES384"])
    assert not is_encrypted(pem)
    assert load_signing_key(pem, b"anything").jose_algorithm == "ES384"


OTHER_KINDS = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "p521": ec.derive_private_key(7, ec.SECP521R1()),
    "secp256k1": ec.derive_private_key(7, ec.SECP256K1()),
    "ed448": ed448.Ed448PrivateKey.from_private_bytes(bytes(56) + b"\7"),
}


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_other_kinds_of_key_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no key to sign with"):
        load_signing_key(private_pem(OTHER_KINDS[name]))
    with pytest.raises(TrustError, match="another kind"):
        load_public_key(public_pem(OTHER_KINDS[name]))


@EACH
def test_a_certificate_gives_its_key(name: str) -> None:
    pem = certificate_pem(KEYS[name], KEYS["ES256"])
    assert load_public_key(pem) == load_public_key(public_pem(KEYS[name]))
    with pytest.raises(TrustError, match="2 certificates"):
        load_public_key(pem + pem)


def test_what_is_no_public_key_is_refused() -> None:
    with pytest.raises(TrustError, match="private key"):
        load_public_key(private_pem(KEYS["ES256"]))
    for data in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff" * 9):
        with pytest.raises(TrustError, match="cannot be read"):
            load_public_key(data)
    with pytest.raises(TrustError, match="too large"):
        load_public_key(b" " * (MAX_KEY_FILE_BYTES + 1))
    with pytest.raises(UsageError, match="too large"):
        load_signing_key(b" " * (MAX_KEY_FILE_BYTES + 1))


@given(st.binary(max_size=300), st.integers(0, 200))
def test_garbage_is_refused_by_the_declared_error(noise: bytes, at: int) -> None:
    pem = private_pem(KEYS["ES256"])
    for data in (noise, pem[:at] + noise, pem[:at]):
        with pytest.raises(UsageError):
            load_signing_key(data)
        with pytest.raises(TrustError):
            load_public_key(data)


def test_thumbprint_of_rfc_8037() -> None:
    """RFC 8037, appendix A.3."""
    x = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    key = ed25519.Ed25519PublicKey.from_public_bytes(x)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    expected = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert jwk_thumbprint(load_public_key(pem)) == expected


@EACH
def test_names_of_a_key_are_what_others_compute(name: str) -> None:
    public = load_public_key(public_pem(KEYS[name]))
    stock = jwt.get_algorithm_by_name(name).to_jwk(KEYS[name].public_key(), as_dict=True)
    ours = jwk(public)
    assert ours == {member: stock[member] for member in ours}
    text = json.dumps(ours, separators=(",", ":"), sort_keys=True)
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
    assert jwk_thumbprint(public) == digest.decode()
    kty, crv = {"ES256": (2, 1), "ES384": (2, 2), "EdDSA": (1, 6)}[name]
    members = {1: kty, -1: crv, -2: public.x} | ({-3: public.y} if public.y else {})
    assert public.thumbprint == hashlib.sha256(cbor2.dumps(members)).digest()
    assert public.algorithm in Algorithm
