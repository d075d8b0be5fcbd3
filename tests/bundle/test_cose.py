"""COSE keys, thumbprints and COSE_Sign1: published examples, every rule, and another library."""

from __future__ import annotations

import json
import os
import subprocess
from base64 import urlsafe_b64decode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from sealing import ORDER, SIGNER, signer

from ccverify.bundle.cbor import encode
from ccverify.bundle.cose import (
    ALG,
    CONTENT_TYPE,
    CRIT,
    KID,
    TYP,
    Algorithm,
    CoseKey,
    KeySigner,
    Sign1,
    parse_cose_key,
    parse_sign1,
    sign1,
    sign1_problem,
)
from ccverify.errors import EvidenceError, UsageError

P256 = KeySigner(ec.derive_private_key(7, ec.SECP256R1()), deterministic=True)
ED25519 = KeySigner(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
SIGNERS = {"ESP384": SIGNER, "ESP256": P256, "ED25519": ED25519}
EACH = pytest.mark.parametrize("own", SIGNERS.values(), ids=SIGNERS.keys())


def made(own: KeySigner = SIGNER, payload: bytes = b"content", **options: Any) -> bytes:
    given_ = {"content_type": "text/plain", "typ": "application/x", "kid": b"me"} | options
    return sign1(payload, own, **given_)


def parse(data: bytes, **options: Any) -> Sign1:
    return parse_sign1(data, **{"what": "it", "error": EvidenceError, "limit": 1 << 16, **options})


def rebuilt(header: object, own: KeySigner = SIGNER, **parts: Any) -> bytes:
    """A COSE_Sign1 of any header, validly signed."""
    protected = header if isinstance(header, bytes) else encode(header)
    message = encode(["Signature1", protected, b"", b"content"])
    whole = {"unprotected": {}, "payload": b"content", "signature": own.sign(message)} | parts
    return encode([protected, *whole.values()], tags=(18,))


# --- published examples ---


def test_the_thumbprint_of_rfc_9679() -> None:
    x = bytes.fromhex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d")
    y = bytes.fromhex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c")
    key = CoseKey(Algorithm.ESP256, x, y)
    assert key.encoded.hex() == f"a401022001215820{x.hex()}225820{y.hex()}"
    expected = "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
    assert key.thumbprint.hex() == expected
    assert parse_cose_key(key.encoded) == key


def test_a_published_thumbprint_of_an_ed25519_key() -> None:
    x = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"  # RFC 8032 §7.1
    key = parse_cose_key(bytes.fromhex("a301012006215820" + x))
    assert key.algorithm is Algorithm.ED25519
    expected = "866eefbd6718c8846cd7ddfe43fc74ab1daac4538ff8514ea2ec2d410a415743"
    assert key.thumbprint.hex() == expected


def _b64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_signatures_of_the_working_groups_examples() -> None:
    """cose-wg/Examples: ecdsa-sig-02 and sign-pass-02, under the older polymorphic numbers.

    Their headers say ES384 (-35) and ES256 (-7), which are refused; key, Sig_structure and
    signature are the same under the fully specified numbers.
    """
    p384 = CoseKey(
        Algorithm.ESP384,
        _b64("kTJyP2KSsBBhnb4kjWmMF7WHVsY55xUPgb7k64rDcjatChoZ1nvjKmYmPh5STRKc"),
        _b64("mM0weMVU2DKsYDxDJkEP9hZiRZtB8fPfXbzINZj_fF7YQRynNWedHEyzAJOX2e8s"),
    )
    whole = bytes.fromhex(
        "d28444a1013822a104445033383454546869732069732074686520636f6e74656e742e5860"
        "b8f85eff78c88f5351ced2f1887b79b296490795594b62e41e22529bb90208b7d8cddd4a46d0e9c98646"
        "4d83d0a5d1edf39b3e2c5750364230d0e8d76460d8808e76c83830fbbd1978cc174066eb437f17887979"
        "ecf027dcc9d51baf6c4fd8c0"
    )
    protected, _, payload, signature = cbor2.loads(whole).value
    example = Sign1(Algorithm.ESP384, None, None, None, protected, {}, payload, signature)
    assert sign1_problem(example, p384) is None
    assert sign1_problem(replace(example, payload=payload + b"."), p384) is not None
    with pytest.raises(EvidenceError, match="no algorithm accepted"):
        parse(whole, unprotected=frozenset({KID}))
    p256 = CoseKey(
        Algorithm.ESP256,
        _b64("usWxHK2PmfnHKwXPS54m0kTcGJ90UiglWiGahtagnv8"),
        _b64("IBOL-C3BttVivg-lSreASjpkttcsz-1rb7btKLv8EX4"),
    )
    external = bytes.fromhex("11aa22bb33cc44dd55006699")
    signature = bytes.fromhex(
        "eae868ecc176883766c5dc5ba5b8dca25dab3c2e56a551ce5705b793914348e1"
        "55388b10c4f1b59a6733eab416870a945111a4b2fbdbef33a77234b1deff2f9b"
    )
    example = Sign1(Algorithm.ESP256, None, None, None, b"\xa1\x01\x26", {}, payload, signature)
    assert sign1_problem(example, p256, external) is None
    assert sign1_problem(example, p256) is not None


# --- keys ---


@EACH
def test_keys_survive(own: KeySigner) -> None:
    assert parse_cose_key(own.key.encoded) == own.key
    assert own.key.thumbprint == sha256(own.key.encoded).digest()


def test_keys_of_other_kinds() -> None:
    for other in (ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(UsageError):
            CoseKey.of(other.public_key())


X, Y = SIGNER.key.x, SIGNER.key.y
GOOD_KEY = {1: 2, -1: 2, -2: X, -3: Y}
BAD_KEYS: dict[str, Any] = {
    "an array": [2, 2, X, Y],
    "nothing": {},
    "another type": GOOD_KEY | {1: 3},
    "OKP with an EC curve": GOOD_KEY | {1: 1},
    "another curve": GOOD_KEY | {-1: 3},
    "curve by name": GOOD_KEY | {-1: "P-384"},
    "curve a list": GOOD_KEY | {-1: [2]},
    "type true": {**GOOD_KEY, 1: True},
    "P-256 coordinates": GOOD_KEY | {-1: 1},
    "no y": {1: 2, -1: 2, -2: X},
    "compressed": GOOD_KEY | {-3: True},
    "short x": GOOD_KEY | {-2: X[1:]},
    "long y": GOOD_KEY | {-3: b"\0" + Y},
    "not on the curve": GOOD_KEY | {-3: X},
    "zero": GOOD_KEY | {-2: bytes(48), -3: bytes(48)},
    "x beyond the field": GOOD_KEY | {-2: b"\xff" * 48},
    "with kid": GOOD_KEY | {2: b"me"},
    "with alg": GOOD_KEY | {3: -51},
    "with the private key": GOOD_KEY | {-4: bytes(48)},
    "with a text label": GOOD_KEY | {"x": 1},
    "short Ed25519": {1: 1, -1: 6, -2: bytes(31)},
    "Ed25519 with y": {1: 1, -1: 6, -2: bytes(32), -3: bytes(32)},
    "X25519": {1: 1, -1: 4, -2: bytes(32)},
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_bad_keys(name: str) -> None:
    with pytest.raises(EvidenceError):
        parse_cose_key(encode(BAD_KEYS[name]))


@given(st.binary(max_size=120))
def test_any_bytes_as_key(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_cose_key(data)


# --- signing and verifying ---


@EACH
def test_what_is_signed_verifies(own: KeySigner) -> None:
    signed = parse(made(own))
    assert signed.algorithm is own.key.algorithm
    assert (signed.content_type, signed.typ, signed.kid) == ("text/plain", "application/x", b"me")
    assert signed.payload == b"content"
    assert sign1_problem(signed, own.key) is None
    bare = parse(made(own, kid=None))
    assert bare.kid is None
    assert sign1_problem(bare, own.key) is None


@EACH
def test_the_signature_covers_everything_but_the_unprotected_header(own: KeySigner) -> None:
    signed = parse(made(own, external_aad=b"aad"))
    assert sign1_problem(signed, own.key, b"aad") is None
    for changed in (
        replace(signed, payload=signed.payload + b"!"),
        replace(signed, protected=signed.protected.replace(b"plain", b"plane")),
        replace(signed, signature=bytes(len(signed.signature))),
        replace(signed, signature=b"\xff" * len(signed.signature)),
        replace(signed, signature=signed.signature[:-1]),
        replace(signed, signature=signed.signature[::-1]),
    ):
        assert sign1_problem(changed, own.key, b"aad") == (
            "the signature is not valid under this key"
        )
    assert sign1_problem(signed, own.key) is not None
    assert sign1_problem(replace(signed, unprotected={270: b""}), own.key, b"aad") is None


def test_a_signature_belongs_to_one_key_and_algorithm() -> None:
    signed = parse(made())
    assert sign1_problem(signed, signer("other").key) is not None
    for own in (P256, ED25519):
        problem = sign1_problem(signed, own.key)
        assert problem is not None
        assert own.key.algorithm.name in problem


@pytest.mark.parametrize("number", [0, ORDER, ORDER + 1, (1 << 384) - 1])
@pytest.mark.parametrize("half", ["r", "s"])
def test_r_and_s_lie_between_0_and_the_order(half: str, number: int) -> None:
    signed = parse(made())
    r, s = signed.signature[:48], signed.signature[48:]
    wrong = number.to_bytes(48)
    signature = wrong + s if half == "r" else r + wrong
    assert sign1_problem(replace(signed, signature=signature), SIGNER.key) is not None


def test_deterministic_signatures_are_repeated_and_others_are_not() -> None:
    assert made() == made()
    assert made(P256) == made(P256)
    fresh = KeySigner(SIGNER.private)
    assert made(fresh) != made(fresh)
    assert sign1_problem(parse(made(fresh)), SIGNER.key) is None


# --- the structure ---

HEADER = {ALG: -51, CONTENT_TYPE: "text/plain", KID: b"me", TYP: "application/x"}
BAD_HEADERS: dict[str, Any] = {
    "empty": b"",
    "an array": [],
    "not deterministic": b"\xb8\x01\x01\x38\x32",
    "bytes after it": encode(HEADER) + b"\0",
    "no algorithm": {CONTENT_TYPE: "text/plain"},
    "ES384, which does not say its curve": HEADER | {ALG: -35},
    "EdDSA, which does not say its curve": HEADER | {ALG: -8},
    "no signature algorithm": HEADER | {ALG: 5},
    "algorithm by name": HEADER | {ALG: "ESP384"},
    "algorithm true": HEADER | {ALG: True},
    "algorithm null": HEADER | {ALG: None},
    "algorithm a list": HEADER | {ALG: [-51]},
    "content type a number": HEADER | {CONTENT_TYPE: 273},
    "content type null": HEADER | {CONTENT_TYPE: None},
    "content type too long": HEADER | {CONTENT_TYPE: "x" * 257},
    "typ a number": HEADER | {TYP: 1},
    "kid as text": HEADER | {KID: "me"},
    "unknown parameter": HEADER | {99: 1},
    "unknown parameter by name": HEADER | {"x": 1},
    "unknown critical parameter": HEADER | {99: 1, CRIT: [99]},
    "critical parameter that is not there": HEADER | {CRIT: [99]},
    "critical kid that is not there": {ALG: -51, CRIT: [KID]},
    "critical by name": HEADER | {CRIT: ["x"]},
    "critical a list in a list": HEADER | {CRIT: [[TYP]]},
    "critical true": HEADER | {CRIT: [True]},
    "critical empty": HEADER | {CRIT: []},
    "critical null": HEADER | {CRIT: None},
    "critical a number": HEADER | {CRIT: TYP},
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_bad_protected_headers(name: str) -> None:
    assert sign1_problem(parse(rebuilt(HEADER)), SIGNER.key) is None
    with pytest.raises(EvidenceError):
        parse(rebuilt(BAD_HEADERS[name]))


def test_known_critical_parameters_are_accepted() -> None:
    signed = parse(rebuilt(HEADER | {CRIT: [TYP, CONTENT_TYPE]}))
    assert sign1_problem(signed, SIGNER.key) is None


BAD_PARTS: dict[str, Any] = {
    "detached payload": {"payload": None},
    "payload as text": {"payload": "content"},
    "signature as text": {"signature": "x"},
    "signature too short": {"signature": bytes(95)},
    "signature of another curve": {"signature": bytes(64)},
    "no signature": {"signature": b""},
    "unprotected header an array": {"unprotected": []},
    "unprotected parameter": {"unprotected": {KID: b"me"}},
    "unprotected critical": {"unprotected": {CRIT: [TYP]}},
    "unprotected by name": {"unprotected": {"x": 1}},
    "a fifth part": {"more": b""},
}


@pytest.mark.parametrize("name", BAD_PARTS)
def test_bad_parts(name: str) -> None:
    with pytest.raises(EvidenceError):
        parse(rebuilt(HEADER, **BAD_PARTS[name]))


def test_unprotected_parameters_must_be_asked_for_and_stand_nowhere_else() -> None:
    data = made(unprotected={270: b"token"})
    assert parse(data, unprotected=frozenset({270})).unprotected == {270: b"token"}
    with pytest.raises(EvidenceError, match="unprotected"):
        parse(data)
    twice = rebuilt(HEADER, unprotected={KID: b"you"})
    with pytest.raises(EvidenceError, match="unprotected"):
        parse(twice, unprotected=frozenset({KID}))


def test_the_tag_is_needed_and_the_only_one() -> None:
    data = made()
    for wrong in (data[1:], b"\xd8\x3d" + data, b"\xd1" + data[1:], data + b"\0", b"\xd2\x80"):
        with pytest.raises(EvidenceError):
            parse(wrong)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for candidate in (data, b"\xd2" + data, b"\xd2\x84" + data):
        with pytest.raises(EvidenceError):
            parse(candidate)


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data: st.DataObject) -> None:
    signed = bytearray(made())
    at = data.draw(st.integers(0, len(signed) - 1))
    signed[at] ^= data.draw(st.integers(1, 255))
    try:
        changed = parse(bytes(signed))
    except EvidenceError:
        return
    assert sign1_problem(changed, SIGNER.key) is not None


@given(st.binary(max_size=100), st.binary(max_size=40), st.binary(max_size=20))
def test_any_payload(payload: bytes, kid: bytes, aad: bytes) -> None:
    signed = parse(made(ED25519, payload, kid=kid, external_aad=aad))
    assert (signed.payload, signed.kid) == (payload, kid)
    assert sign1_problem(signed, ED25519.key, aad) is None


# --- another library ---

VARIABLE = "CCVERIFY_COSE_PEER"
PEER = os.environ.get(VARIABLE)


@pytest.mark.skipif(
    not PEER, reason=f"set {VARIABLE} to the interpreter of an environment that has python-cwt"
)
def test_python_cwt_agrees() -> None:
    questions = []
    for own in SIGNERS.values():
        members = {label: v.hex() if isinstance(v, bytes) else v
                   for label, v in cbor2.loads(own.key.encoded).items()}  # fmt: skip
        members |= {2: own.key.thumbprint.hex(), 3: int(own.key.algorithm)}
        good = made(own, kid=own.key.thumbprint)
        questions += [
            {"key": members, "sign1": good.hex()},
            {"key": members, "sign1": good.replace(b"content", b"kontent").hex()},
        ]
    asked = "".join(json.dumps(question) + "\n" for question in questions)
    assert PEER
    done = subprocess.run(
        [PEER, str(Path(__file__).with_name("cose_peer_process.py"))],
        input=asked, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer.get("payload") for answer in answers] == [b"content".hex(), None] * 3
    assert all("error" in answer for answer in answers[1::2])
