"""Verdict bundles: what is sealed is read again, and whatever was changed is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256, sha384
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from test_signing import KEYS, private_pem

from ccverify.bundle.cbor import decode, encode
from ccverify.bundle.cmw import CMW_CBOR_TYPE, CMW_COSE_TYPE
from ccverify.bundle.cose import sign1
from ccverify.cli.demo import SCENES, play
from ccverify.errors import EvidenceError, UsageError
from ccverify.results.emitted import (
    VERDICT_BUNDLE_TYPE,
    parse_verdict_bundle,
    seal_verdict_bundle,
)
from ccverify.results.emitted_check import (
    changes,
    first_difference,
    member_problems,
    parse_verdict,
    with_verifier,
)
from ccverify.results.emitted_model import Request, Role, StoredFile, VerdictBundle
from ccverify.results.signing import load_signing_key
from ccverify.trust.store import TrustKind, TrustStore

SIGNERS = {name: load_signing_key(private_pem(key)).signer for name, key in KEYS.items()}
SIGNER = SIGNERS["ES384"]
OTHER = SIGNERS["ES256"]
POLICY = b'{"schema": "ccverify.policy/v1", "name": "vector", "tdx": {}}'
ROOT = Path(__file__).resolve().parents[2]
LABELS = ("verdict", "request", "inputs", "policy-0", "evidence-0", "evidence-1", "collateral-0",
          "trust-roots-0")  # fmt: skip


def example() -> VerdictBundle:
    """The bundle of the test vector in docs/spec/verdict-bundle.md: nothing in it is real."""
    return VerdictBundle(
        verdict=b'{"schema": "ccverify.verdict/v1"}\n',
        request=Request(
            bytes(range(32)),
            None,
            {"tls_fingerprint": "aa" * 32},
            datetime(2026, 6, 15, 12, tzinfo=UTC),
        ),
        policy=StoredFile.of(Role.POLICY, "policy.json", POLICY),
        evidence=(
            StoredFile.of(Role.DOCUMENT, "quote.bin", b"quote"),
            StoredFile.of(Role.EVENT_LOG, "log.json", b"[]"),
        ),
        collateral=(
            StoredFile.of(Role.COLLATERAL, "packs/one.json", b"{}", in_folder=True),
            StoredFile.of(Role.WHAT_IF, "next.json", b"{ }", embed=False),
        ),
        trust_kind=TrustKind.INSECURE,
        trust_sha384="00" * 48,
        verifier="ccverify 0.0.0",
        trust_roots=(StoredFile.of(Role.INTEL_ROOT, "root.pem", b"root"),),
    )


def opened(data: bytes) -> VerdictBundle:
    bundle, key, problem = parse_verdict_bundle(data).open([SIGNER.key])
    assert (key, problem) == (SIGNER.key, "")
    assert bundle is not None
    return bundle


def members_of(data: bytes) -> dict[str, Any]:
    payload = cbor2.loads(data).value[2]
    members: dict[str, Any] = cbor2.loads(payload)
    return members


def resealed(members: dict[str, Any]) -> bytes:
    """Members of one's choice, validly signed."""
    return sign1(
        encode(members),
        SIGNER,
        content_type=CMW_CBOR_TYPE,
        typ=CMW_COSE_TYPE,
        kid=SIGNER.key.thumbprint,
    )


SEALED = seal_verdict_bundle(example(), SIGNER)


# --- as it is -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNERS)
def test_what_is_sealed_is_opened_again(name: str) -> None:
    signer = SIGNERS[name]
    data = seal_verdict_bundle(example(), signer)
    assert data == seal_verdict_bundle(example(), signer)
    keys = [each.key for each in SIGNERS.values()]
    bundle, key, problem = parse_verdict_bundle(data).open(keys)
    assert (bundle, key, problem) == (example(), signer.key, "")
    assert bundle is not None
    assert bundle.digest_problems() == ()
    assert not bundle.is_whole
    assert replace(bundle, collateral=bundle.collateral[:1]).is_whole


def test_the_vector_of_the_specification() -> None:
    """Bytes fixed once: every version of Python and every release must make them again."""
    page = (ROOT / "docs" / "spec" / "verdict-bundle.md").read_text("utf-8")
    assert f"`{sha256(SEALED).hexdigest()}`" in page
    assert f"{len(SEALED)} bytes" in page
    assert SIGNER.key.thumbprint.hex() in page
    assert set(members_of(SEALED)) == {"__cmwc_t", *LABELS}
    for label in ("request", "inputs"):
        value = members_of(SEALED)[label][1].hex()
        assert value in "".join(page.split()), label


def test_records_say_what_they_are() -> None:
    members = members_of(SEALED)
    assert members["__cmwc_t"] == VERDICT_BUNDLE_TYPE
    indicators = {label: members[label][2:] for label in LABELS}
    assert indicators == {
        "verdict": [8],
        "request": [],
        "inputs": [],
        "policy-0": [16],
        "evidence-0": [4],
        "evidence-1": [4],
        "collateral-0": [3],
        "trust-roots-0": [2],
    }


# --- changed ------------------------------------------------------------------------------------


def test_another_key_is_another_signer() -> None:
    sealed = parse_verdict_bundle(SEALED)
    bundle, key, problem = sealed.open([OTHER.key])
    assert (bundle, key) == (None, None)
    assert SIGNER.key.thumbprint.hex() in problem
    assert sealed.open([])[0] is None


def test_a_claimed_key_id_is_no_signature() -> None:
    """Signed by another key of the same kind, under the name of ours."""
    stranger = load_signing_key(private_pem(ec.derive_private_key(11, ec.SECP384R1()))).signer
    payload = cbor2.loads(SEALED).value[2]
    forged = sign1(payload, stranger, content_type=CMW_CBOR_TYPE, typ=CMW_COSE_TYPE,
                   kid=SIGNER.key.thumbprint)  # fmt: skip
    bundle, _, problem = parse_verdict_bundle(forged).open([SIGNER.key])
    assert bundle is None
    assert "not valid" in problem


@pytest.mark.parametrize("label", LABELS)
def test_a_byte_flipped_in_any_member_breaks_the_signature(label: str) -> None:
    value = members_of(SEALED)[label][1]
    at = SEALED.index(value) + len(value) // 2
    data = bytearray(SEALED)
    data[at] ^= 1
    bundle, key, problem = parse_verdict_bundle(bytes(data)).open([SIGNER.key])
    assert (bundle, key) == (None, None)
    assert "not valid" in problem


@settings(max_examples=150)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(at: int, bits: int) -> None:
    data = bytearray(SEALED)
    data[at] ^= bits
    try:
        bundle, _, problem = parse_verdict_bundle(bytes(data)).open([SIGNER.key])
    except EvidenceError:
        return
    assert bundle is None
    assert problem


@pytest.mark.parametrize("label", [label for label in LABELS if label[-1].isdigit()])
def test_content_that_is_not_what_the_digest_says(label: str) -> None:
    """By the signer itself: the signature is valid, the digest is not."""
    members = members_of(SEALED)
    members[label][1] = b"x" + members[label][1][1:]
    (problem,) = opened(resealed(members)).digest_problems()
    assert "SHA-384" in problem
    members[label][1] += b"x"
    (problem,) = opened(resealed(members)).digest_problems()
    assert "bytes instead of" in problem


@pytest.mark.parametrize("label", LABELS)
def test_a_removed_member_is_missed(label: str) -> None:
    members = members_of(SEALED)
    del members[label]
    with pytest.raises(EvidenceError, match="malformed"):
        opened(resealed(members))


def test_a_member_that_nothing_lists_is_refused() -> None:
    members = members_of(SEALED)
    members["evidence-7"] = members["evidence-0"]
    with pytest.raises(EvidenceError, match="malformed"):
        opened(resealed(members))


def test_members_under_each_others_labels_are_refused() -> None:
    members = members_of(SEALED)
    members["policy-0"], members["evidence-0"] = members["evidence-0"], members["policy-0"]
    with pytest.raises(EvidenceError, match="malformed"):
        opened(resealed(members))
    members = members_of(SEALED)
    one, two = members["evidence-0"], members["evidence-1"]
    members["evidence-0"], members["evidence-1"] = two, one
    assert len(opened(resealed(members)).digest_problems()) == 2


def inputs_with(change: Callable[[dict[str, Any]], None]) -> bytes:
    members = members_of(SEALED)
    inputs = cbor2.loads(members["inputs"][1])
    change(inputs)
    members["inputs"][1] = encode(inputs)
    return resealed(members)


MALFORMED: dict[str, Callable[[dict[str, Any]], None]] = {
    "version": lambda inputs: inputs.update(v=2),
    "version true": lambda inputs: inputs.update(v=True),
    "no verifier": lambda inputs: inputs.pop("verifier"),
    "more": lambda inputs: inputs.update(more=1),
    "verifier": lambda inputs: inputs.update(verifier=b"x"),
    "trust": lambda inputs: inputs.update(trust=None),
    "trust kind": lambda inputs: inputs["trust"].update(kind="other"),
    "trust digest": lambda inputs: inputs["trust"].update(sha384=bytes(32)),
    "no policy": lambda inputs: inputs.update(policy=[]),
    "two policies": lambda inputs: inputs["policy"].append(inputs["policy"][0]),
    "policy by digest": lambda inputs: inputs["policy"][0].update(record=None),
    "role of another list": lambda inputs: inputs["evidence"][0].update(role="collateral"),
    "no role": lambda inputs: inputs["evidence"][0].update(role="x"),
    "name": lambda inputs: inputs["evidence"][0].update(name=7),
    "long name": lambda inputs: inputs["evidence"][0].update(name="x" * 5000),
    "digest": lambda inputs: inputs["evidence"][0].update(sha384=b""),
    "size": lambda inputs: inputs["evidence"][0].update(size=-1),
    "size true": lambda inputs: inputs["evidence"][0].update(size=True),
    "folder": lambda inputs: inputs["evidence"][0].update(in_folder=1),
    "record": lambda inputs: inputs["evidence"][0].update(record="evidence-1"),
    "evidence": lambda inputs: inputs.update(evidence={}),
    "entry": lambda inputs: inputs.update(evidence=[7]),
    "too many": lambda inputs: inputs.update(
        collateral=[{**inputs["collateral"][1]} for _ in range(4097)]
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_inputs_are_refused(name: str) -> None:
    with pytest.raises(EvidenceError):
        opened(inputs_with(MALFORMED[name]))


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": b"short"},
        {"nonce": "text"},
        {"report_data": bytes(63)},
        {"channel": []},
        {"channel": {"a": b"b"}},
        {"channel": {str(n): "x" for n in range(17)}},
        {"at": -1},
        {"at": 253402300800},
        {"at": True},
        {"more": 1},
    ],
)
def test_malformed_requests_are_refused(change: dict[str, Any]) -> None:
    members = members_of(SEALED)
    members["request"][1] = encode({**cbor2.loads(members["request"][1]), **change})
    with pytest.raises(EvidenceError):
        opened(resealed(members))


@pytest.mark.parametrize("types", [("application/json", CMW_COSE_TYPE), (CMW_CBOR_TYPE, "x/y")])
def test_other_media_types_are_refused(types: tuple[str, str]) -> None:
    payload = cbor2.loads(SEALED).value[2]
    data = sign1(payload, SIGNER, content_type=types[0], typ=types[1], kid=SIGNER.key.thumbprint)
    with pytest.raises(EvidenceError, match="media types"):
        parse_verdict_bundle(data)


def test_a_collection_of_another_type_is_refused() -> None:
    members = members_of(SEALED)
    members["__cmwc_t"] = "tag:ccverify,2026:bundle#1"
    with pytest.raises(EvidenceError, match="another type"):
        opened(resealed(members))


@given(st.integers(0, len(SEALED) - 1))
def test_a_bundle_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(EvidenceError):
        parse_verdict_bundle(SEALED[:length])


@given(st.binary(max_size=400), st.integers(0, len(SEALED)), st.integers(0, 40))
def test_garbage_is_refused_by_the_declared_error(noise: bytes, at: int, drop: int) -> None:
    for data in (noise, SEALED + noise + b"\0", SEALED[:at] + noise + SEALED[at + drop :]):
        try:
            bundle, _, _ = parse_verdict_bundle(data).open([SIGNER.key])
        except EvidenceError:
            continue
        assert bundle is None or data == SEALED


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.binary(max_size=60)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8) | st.integers(-5, 5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200)
@given(st.data())
def test_whatever_a_signer_puts_inside_parses_or_is_refused(data: st.DataObject) -> None:
    """Fuzzing behind the signature: any member, any entry, replaced by any value."""
    members = members_of(SEALED)
    inputs = cbor2.loads(members["inputs"][1])
    where = data.draw(st.sampled_from(["member", "inputs", "entry", "request", "whole"]))
    value = data.draw(VALUES)
    if where == "member":
        members[data.draw(st.sampled_from(LABELS))] = value
    elif where == "inputs":
        inputs[data.draw(st.sampled_from(sorted(inputs)))] = value
    elif where == "entry":
        entry = inputs[data.draw(st.sampled_from(["policy", "evidence", "collateral"]))][0]
        entry[data.draw(st.sampled_from(sorted(entry)))] = value
    elif where == "request":
        members["request"][1] = encode(value)
    if where in ("inputs", "entry"):
        members["inputs"][1] = encode(inputs)
    try:
        bundle = opened(resealed(members) if where != "whole" else _signed(value))
    except EvidenceError:
        return
    assert isinstance(bundle, VerdictBundle)
    bundle.digest_problems()


def _signed(value: object) -> bytes:
    return sign1(encode(value), SIGNER, content_type=CMW_CBOR_TYPE, typ=CMW_COSE_TYPE,
                 kid=SIGNER.key.thumbprint)  # fmt: skip


# --- limits -------------------------------------------------------------------------------------


def test_what_no_reader_would_take_is_not_sealed() -> None:
    big = StoredFile.of(Role.DOCUMENT, "big", bytes(65 * 1024 * 1024))
    many = tuple(StoredFile.of(Role.COLLATERAL, f"{n}.xml", b"x") for n in range(600))
    for bundle in (replace(example(), evidence=(big,)), replace(example(), collateral=many)):
        with pytest.raises(UsageError, match="more than a verdict bundle may hold"):
            seal_verdict_bundle(bundle, SIGNER)
    digests = tuple(replace(file, data=None) for file in many)
    data = seal_verdict_bundle(replace(example(), collateral=digests), SIGNER)
    assert opened(data).collateral == digests
    with pytest.raises(UsageError):
        seal_verdict_bundle(replace(example(), verifier="\ud800"), SIGNER)
    with pytest.raises(EvidenceError, match="too large"):
        parse_verdict_bundle(bytes(65 * 1024 * 1024))


# --- the verdict inside -------------------------------------------------------------------------

VERDICT = play(SCENES[0])
DOCUMENT = json.loads(VERDICT.dumps())


def stated() -> VerdictBundle:
    """A bundle that agrees with the verdict, but for the policy, which is not kept here."""
    return replace(
        example(),
        request=Request(bytes.fromhex(DOCUMENT["inputs"]["nonce"]), None, {}, VERDICT.evaluated_at),
        trust_kind=TrustKind.SIMULATED,
        trust_sha384=DOCUMENT["inputs"]["trust_store"]["sha384"],
        verifier=DOCUMENT["inputs"]["verifier"],
    )


def test_members_that_contradict_the_verdict_are_named() -> None:
    (policy,) = member_problems(stated(), DOCUMENT)
    assert policy.startswith("policy.sha384: ")
    for change, path in (
        ({"verifier": "ccverify 9"}, "inputs.verifier"),
        ({"trust_kind": TrustKind.PRODUCTION}, "inputs.trust_store.kind"),
        ({"trust_sha384": TrustStore.production().digest}, "inputs.trust_store.sha384"),
        ({"request": replace(stated().request, nonce=bytes(32))}, "inputs.nonce"),
        ({"request": replace(stated().request, report_data=bytes(64))}, "inputs.report_data"),
        ({"request": replace(stated().request, channel={"a": "b"})}, "inputs.channel"),
        ({"request": replace(stated().request, at=datetime(2036, 1, 1, tzinfo=UTC))},
         "evaluated_at"),
        ({"policy": StoredFile.of(Role.POLICY, "p", b"no policy")}, "policy"),
    ):  # fmt: skip
        problems = member_problems(replace(stated(), **change), DOCUMENT)  # type: ignore[arg-type]
        assert any(problem.startswith(f"{path}: ") for problem in problems), path


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"{}", b'{"schema": "ccverify.verdict/v1"}',
        b'{"schema": "ccverify.verdict-set/v1", "nodes": 7}',
        b'{"schema": "ccverify.verdict/v1", "verdict": "trusted", "exit_code": 0, "findings": [1]}',
        b'{"schema": "ccverify.verdict/v1", "verdict": "trusted", "exit_code": 0, "findings": []}',
        b'{"schema": "ccverify.verdict/v1", "verdict": "trusted", "exit_code": true, '
        b'"findings": [], "policy": {}, "inputs": {"trust_store": {}}}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_verdict_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_verdict(text)


def test_the_first_difference_is_named() -> None:
    text = VERDICT.dumps()
    assert first_difference(text.encode(), text) is None
    for path, change in {
        "verdict": lambda d: d.update(verdict="untrusted"),
        "exit_code": lambda d: d.update(exit_code=False),
        "findings[2].state": lambda d: d["findings"][2].update(state="FAIL"),
        "findings[3]": lambda d: d["findings"].__delitem__(slice(3, None)),
        "inputs.nonce": lambda d: d["inputs"].pop("nonce"),
        "extra": lambda d: d.update(extra=1),
    }.items():
        document = json.loads(text)
        change(document)  # type: ignore[no-untyped-call]
        other = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        assert first_difference(other.encode(), text) == path
    assert first_difference(text.encode() + b"\n", text) == "the form of the text"
    assert first_difference(b"\xff", text) == "the text as a whole"
    assert sha384(with_verifier(text, VERDICT.inputs["verifier"]).encode()).digest() == (
        sha384(text.encode()).digest()
    )
    renamed = with_verifier(text, "ccverify 9")
    assert first_difference(renamed.encode(), text) == "inputs.verifier"


def test_changes_between_two_verdicts() -> None:
    assert changes(DOCUMENT, DOCUMENT) == ()
    other = json.loads(play(SCENES[3]).dumps())
    (change,) = (c for c in changes(DOCUMENT, other) if c.code == "TDX-TCB-STATUS")
    assert (change.then, change.now, change.node) == ("PASS", "FAIL", "")
    pair = {"schema": "ccverify.verdict-set/v1", "findings": [], "nodes": [DOCUMENT, other]}
    turned = {**pair, "nodes": [other, DOCUMENT]}
    assert {c.node for c in changes(pair, turned)} == {"node 0", "node 1"}
    gone = {**DOCUMENT, "findings": DOCUMENT["findings"][1:]}
    (change,) = changes(DOCUMENT, gone)
    assert (change.then, change.now) == ("PASS", None)


def test_the_signed_part_is_deterministic_cbor() -> None:
    payload = cbor2.loads(SEALED).value[2]
    again = decode(payload, what="payload", error=EvidenceError, limit=len(payload))
    assert encode(again) == payload
