"""Tokens and detached EATs: structure, digests, ES384, and what never counts as evidence."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interop_samples import KEY_ID, NONCE, Json, detached_eat, jwk, jwt, part, submods
from test_interop_captures import read

from ccverify.errors import CollateralError, EvidenceError
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.interop.elements import Element
from ccverify.interop.jwt import REFUSED_ALGORITHMS, Jwk, parse_jwks, parse_jwt, verify_es384
from ccverify.interop.model import DetachedEat, Jwt

SDK = "nvidia/claims/attestation-sdk-sample"
P384 = 2**384 - 2**128 - 2**96 + 2**32 - 1  # the field's prime, FIPS 186-4 D.1.2.4


def token(text: str) -> Jwt:
    return parse_jwt(Element(text, "token"))


def keys(*items: Json) -> bytes:
    return json.dumps({"keys": list(items)}).encode()


def the_key() -> Jwk:
    return parse_jwks(keys(jwk()))[KEY_ID]


def only_result(document: object) -> DetachedEat:
    evidence = parse_foreign_evidence(json.dumps(document).encode())
    assert evidence.nodes == ()
    (result,) = evidence.results
    return result


# --- real tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "submodule", "issuer", "issued"),
    [
        ("hopper", "GPU-0", "https://nras.attestation.nvidia.com", 1749601858),
        ("switch", "SWITCH-0", "https://nras.attestation-stg.nvidia.com", 1751155060),
    ],
)
def test_nras_tokens(vectors: Path, name: str, submodule: str, issuer: str, issued: int) -> None:
    file = "hopperClaimsv3_detached_eat.json" if name == "hopper" else "switch_detached_eat.json"
    (eat,) = read(vectors, f"{SDK}/{file}").results
    (device,) = eat.submodules
    assert (device.name, device.problem) == (submodule, None)
    assert device.token is not None
    assert device.computed_digest == device.stated_digest
    for jwt_ in (eat.overall, device.token):
        assert jwt_.algorithm == "ES384"
        assert (jwt_.key_id or "").startswith("nv-eat-kid-")
        assert jwt_.issuer == issuer
        assert jwt_.times == type(jwt_.times)(issued, issued, issued + 3600)
        assert jwt_.nonce is not None
        assert jwt_.nonce.hex().startswith("931d8dd0")
        # The key set of that day is not among the vectors: another key must not do.
        other = parse_jwks(keys(jwk(kid=jwt_.key_id)))[str(jwt_.key_id)]
        assert "does not verify" in (verify_es384(jwt_, other) or "")
    decoded = "hopperClaimsv3_decoded.json" if name == "hopper" else "switch_decoded.json"
    claims = json.loads((vectors / SDK / decoded).read_bytes())[submodule]
    assert device.token.claims == claims


def test_unsigned_tokens_of_dstack(vectors: Path) -> None:
    evidence = read(vectors, "tdx/dstack/gpu_attestation_h100.json")
    assert {a.name: a.value for a in evidence.asserted} == {
        "result_code": 0,
        "result_message": "Ok",
    }
    (eat,) = evidence.results
    (device,) = eat.submodules
    assert device.problem is None
    assert device.token is not None
    assert eat.overall.algorithm == device.token.algorithm == "none"
    assert "nobody signed" in (verify_es384(device.token, the_key()) or "")


@pytest.mark.parametrize("place", ["submodule", "digest"])
def test_a_changed_real_token_is_noticed(vectors: Path, place: str) -> None:
    path = vectors / SDK / "hopperClaimsv3_detached_eat.json"
    first, tokens = json.loads(path.read_bytes())
    if place == "submodule":
        head, _, signature = tokens["GPU-0"].split(".")
        tokens["GPU-0"] = f"{head}.{part({})}.{signature}"
    else:
        tokens["GPU-1"] = tokens["GPU-0"]
    problems = [s.problem for s in only_result([first, tokens]).submodules]
    expected = "does not match" if place == "submodule" else "no digest"
    assert expected in (problems[-1] or "")


# --- digests -------------------------------------------------------------------------------------


def test_every_name_of_either_side_is_listed() -> None:
    tokens = {"GPU-0": jwt({}), "GPU-1": jwt({"a": 1}), "GPU-2": jwt({})}
    digests = submods({"GPU-0": tokens["GPU-0"], "GPU-1": "other", "GPU-3": "gone"})
    eat = only_result([["JWT", jwt({"submods": digests})], tokens])
    assert {s.name: s.problem and s.problem[:17] for s in eat.submodules} == {
        "GPU-0": None,
        "GPU-1": "digest does not m",
        "GPU-2": "the overall token",
        "GPU-3": "the overall token",
    }
    assert eat.submodules[-1].token is None


def test_the_label_of_local_verifiers_and_upper_case_digests() -> None:
    tokens = {"GPU-0": jwt({})}
    ((_, (_, digest)),) = submods(tokens).values()
    for label in ("SHA-256", "SHA256"):
        overall = jwt({"submods": {"GPU-0": ["DIGEST", [label, digest.upper()]]}})
        assert only_result([["JWT", overall], tokens]).submodules[0].problem is None


def test_an_eat_inside_an_eat() -> None:
    """As NVIDIA's Python SDK answers for its local verifier, signed with a shared secret."""
    outer = jwt({"iss": "x"}, {"alg": "HS256", "typ": "JWT"}, bytes(32))
    eat = only_result([["JWT", outer], {"LOCAL_GPU_CLAIMS": detached_eat()}])
    assert eat.submodules == ()
    (inner,) = eat.nested
    assert [s.problem for s in inner.submodules] == [None, None]
    assert "shared secret" in (verify_es384(eat.overall, the_key()) or "")
    deeper = [["JWT", outer], {"x": [["JWT", outer], {"y": detached_eat()}]}]
    with pytest.raises(EvidenceError, match="nested at most 2"):
        only_result(deeper)


@pytest.mark.parametrize(
    "document",
    [
        [["JWT"], {}],
        [["JWT", 1], {}],
        [["JWT", "a.b.c"], {}],
        [["JWT", jwt({})], []],
        [["JWT", jwt({})], {"GPU-0": 1}],
        [["JWT", jwt({}), 1], {}],
        [["JWT", jwt({"submods": []})], {}],
        [["JWT", jwt({"submods": {"a": 1}})], {}],
        [["JWT", jwt({"submods": {"a": ["DIGEST", ["SHA-1", "00" * 20]]}})], {}],
        [["JWT", jwt({"submods": {"a": ["DIGEST", ["SHA-256", "00" * 31]]}})], {}],
        [["JWT", jwt({"submods": {"a": ["HASH", ["SHA-256", "00" * 32]]}})], {}],
        [["JWT", jwt({})], {f"GPU-{i}": jwt({}) for i in range(129)}],
        {"detached_eat": {}},
        {"detached_eat": None},
        {"detached_eat": detached_eat(), "result_code": {}},
    ],
)
def test_malformed_eats(document: object) -> None:
    with pytest.raises(EvidenceError):
        only_result(document)


# --- tokens --------------------------------------------------------------------------------------


def test_a_token_taken_apart() -> None:
    claims = {"iss": "i", "iat": 1, "exp": 3, "eat_nonce": NONCE.hex(), "x": [1]}
    parsed = token(jwt(claims))
    assert (parsed.algorithm, parsed.key_id, parsed.issuer) == ("ES384", KEY_ID, "i")
    assert parsed.nonce == NONCE
    assert (parsed.times.issued_at, parsed.times.not_before, parsed.times.expires) == (1, None, 3)
    assert parsed.claims == claims
    assert parsed.signing_input == parsed.text.rpartition(".")[0].encode()
    with pytest.raises(TypeError):
        parsed.claims["x"] = 2  # type: ignore[index]


def test_a_nonce_that_is_not_32_bytes_is_none() -> None:
    for value in ("00", "0" * 63, 5, ""):
        assert token(jwt({"eat_nonce": value})).nonce is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "a.b",
        "a.b.c.d",
        jwt({}) + "=",
        jwt({}).replace(".", " ."),
        jwt([]),
        jwt("x"),
        jwt({}, {}),
        jwt({}, {"alg": "RS256"}),
        jwt({}, {"alg": "es384"}),
        jwt({}, {"alg": ["ES384"]}),
        jwt({}, {"alg": "NONE"}, b""),
        jwt({}, {"alg": "none"}, b"x"),
        jwt({}, {"alg": "ES384"}, bytes(95)),
        jwt({}, {"alg": "ES384"}, bytes(104)),
        jwt({}, {"alg": "HS256"}, bytes(31)),
        jwt({}, {"alg": "ES384", "crit": ["x"]}),
        jwt({}, {"alg": "ES384", "b64": False}),
        jwt({}, {"alg": "ES384", "kid": 5}),
        jwt({"iat": 1.5}),
        jwt({"exp": True}),
        jwt({"nbf": "1"}),
        jwt({"exp": -1}),
        jwt({"exp": 10**12}),
        jwt({"iss": 1}),
        jwt(b'{"a":1,"a":2}'),
        jwt(b"\xff"),
        jwt(b"[" * 100 + b"]" * 100),
        jwt({"x": "y" * 65536}),
    ],
)
def test_malformed_tokens(text: str) -> None:
    with pytest.raises(EvidenceError):
        token(text)


def test_stray_bits_in_base64url_are_refused() -> None:
    """ "e30" and "e31" both decode to {}: one token must have one spelling."""
    head, _, signature = jwt({}).split(".")
    assert token(f"{head}.e30.{signature}").claims == {}
    with pytest.raises(EvidenceError, match="base64url"):
        token(f"{head}.e31.{signature}")


# --- signatures ----------------------------------------------------------------------------------


def test_es384() -> None:
    good = jwt({"a": 1})
    assert verify_es384(token(good), the_key()) is None
    head, claims, signature = good.split(".")
    other_claims = f"{head}.{part({'a': 2})}.{signature}"
    assert "does not verify" in (verify_es384(token(other_claims), the_key()) or "")
    other_head = f"{part({'alg': 'ES384', 'kid': KEY_ID, 'x': 1})}.{claims}.{signature}"
    assert "does not verify" in (verify_es384(token(other_head), the_key()) or "")


@pytest.mark.parametrize("signature", [bytes(96), b"\xff" * 96, bytes(48) + b"\x01" * 48])
def test_signatures_out_of_range(signature: bytes) -> None:
    text = jwt({}, signature=signature)
    assert "does not verify" in (verify_es384(token(text), the_key()) or "")


def test_another_key_id_is_another_key() -> None:
    for header in ({"alg": "ES384"}, {"alg": "ES384", "kid": "other"}):
        assert "names key" in (verify_es384(token(jwt({}, header)), the_key()) or "")


@pytest.mark.parametrize("algorithm", REFUSED_ALGORITHMS)
def test_what_never_counts_as_evidence(algorithm: str) -> None:
    signature = bytes(32) if algorithm == "HS256" else b""
    problem = verify_es384(token(jwt({}, {"alg": algorithm, "kid": KEY_ID}, signature)), the_key())
    assert problem is not None
    assert algorithm in problem


def test_a_key_made_by_hand_must_be_on_the_curve() -> None:
    key = Jwk(KEY_ID, bytes(48), bytes(48))
    assert "not a point" in (verify_es384(token(jwt({})), key) or "")


# --- key sets ------------------------------------------------------------------------------------


def test_a_key_set() -> None:
    parsed = parse_jwks(keys(jwk(alg="ES384", use="sig", x5c=["AA"]), jwk(kid="b")))
    assert list(parsed) == [KEY_ID, "b"]
    assert parsed[KEY_ID].certificates == ("AA",)


CHANGES: dict[str, Callable[[Json], object]] = {
    "RSA": lambda k: k.update(kty="RSA"),
    "P-256": lambda k: k.update(crv="P-256"),
    "another algorithm": lambda k: k.update(alg="ES256"),
    "for encryption": lambda k: k.update(use="enc"),
    "no id": lambda k: k.pop("kid"),
    "id of a wrong type": lambda k: k.update(kid=1),
    "no x": lambda k: k.pop("x"),
    "short x": lambda k: k.update(x=part(bytes(47))),
    "not on the curve": lambda k: k.update(x=part(bytes(48))),
    "beyond the field": lambda k: k.update(x=part(P384.to_bytes(48, "big"))),
    "padded": lambda k: k.update(y=k["y"] + "="),
    "long chain": lambda k: k.update(x5c=["A"] * 9),
}


@pytest.mark.parametrize("change", CHANGES)
def test_malformed_keys(change: str) -> None:
    key = jwk()
    CHANGES[change](key)
    with pytest.raises(CollateralError):
        parse_jwks(keys(key))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"keys":[]}', b'{"keys":[1]}', keys(jwk(), jwk()), b'{"keys":{}}'],
)
def test_malformed_key_sets(data: bytes) -> None:
    with pytest.raises(CollateralError):
        parse_jwks(data)


JSON_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.binary(max_size=200) | JSON_VALUES.map(lambda v: json.dumps(v).encode()))
def test_any_key_set_parses_or_is_refused(data: bytes) -> None:
    with contextlib.suppress(CollateralError):
        parse_jwks(data)


HEADERS = st.fixed_dictionaries(
    {"alg": st.sampled_from(["ES384", "HS256", "none"]) | JSON_VALUES},
    optional={"kid": JSON_VALUES, "crit": JSON_VALUES},
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iat", "nbf", "exp", "iss", "eat_nonce", "submods"]), JSON_VALUES
)


@given(HEADERS, CLAIMS, st.sampled_from([0, 32, 96]))
def test_any_token_parses_or_is_refused(header: Json, claims: Json, size: int) -> None:
    text = jwt(claims, header, bytes(size))
    with contextlib.suppress(EvidenceError):
        only_result([["JWT", text], {}])
        assert verify_es384(token(text), the_key()) is not None
