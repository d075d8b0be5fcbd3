"""The binding recipes: against real responses, against other code's sums, against anything."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from hashlib import sha256, sha384, sha512
from pathlib import Path
from typing import Any

import pytest
from binding_captures import CAPTURES, Capture, find, nodes_of, report_data
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ccverify.bundle.binding import (
    CHANNEL_INPUTS,
    Derivation,
    bound_inputs,
    derive,
    device_nonce_problem,
    report_data_problem,
    stated_nonce,
)
from ccverify.bundle.profiles import PROFILE_TEXTS
from ccverify.bundle.recipes import RECIPES
from ccverify.errors import UsageError
from ccverify.evidence import BindingInputs, BindingProfile, Evidence
from ccverify.findings import State
from ccverify.interop.detect import parse_foreign_evidence

NONCE = bytes(range(32))
P = BindingProfile
EACH_CAPTURE = pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES.keys())
EACH_PROFILE = pytest.mark.parametrize("profile", P)


def outcome(problem: str | None) -> str:
    if problem is None:
        return "matched"
    return "unchecked" if problem.startswith("not checked") else "refused"


def outcomes(derivation: Derivation, actual: bytes) -> list[str]:
    return [outcome(problem) for problem in report_data_problem(derivation, actual)]


def derive_node(node: Evidence, nonce: bytes | None) -> Derivation:
    return derive(node.binding.profile, nonce, node.binding)


def triple(counted: Counter[str]) -> tuple[int, int, int]:
    return counted["matched"], counted["refused"], counted["unchecked"]


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# --- real responses ------------------------------------------------------------------------------


@EACH_CAPTURE
def test_what_a_capture_proves_to_its_client(vectors: Path, capture: Capture) -> None:
    nonce = bytes.fromhex(capture.nonce)
    parts: Counter[str] = Counter()
    gpus: Counter[str] = Counter()
    nodes = nodes_of(vectors, capture.pattern)
    for node in nodes:
        derivation = derive_node(node, nonce)
        parts.update(outcomes(derivation, report_data(node)))
        gpus.update(outcome(device_nonce_problem(derivation, g.report[4:36])) for g in node.gpus)
    assert len(nodes) == capture.nodes
    assert triple(parts) == (capture.matched, capture.refused, capture.unchecked)
    assert triple(gpus) == capture.gpus


@EACH_CAPTURE
def test_what_a_capture_proves_without_freshness(vectors: Path, capture: Capture) -> None:
    """Under the nonce it states itself: consistent, whoever asked."""
    parts: Counter[str] = Counter()
    for node in nodes_of(vectors, capture.pattern):
        nonce = stated_nonce(node.binding)
        derivation = derive_node(node, nonce)
        parts.update(outcomes(derivation, report_data(node)))
        if nonce is not None:
            for gpu in node.gpus:
                assert device_nonce_problem(derivation, gpu.report[4:36]) is None
    assert triple(parts) == capture.stated


@pytest.mark.parametrize("name", ["phalacloud", "nanogpt"])
def test_resellers_answer_another_nonce(vectors: Path, name: str) -> None:
    capture = CAPTURES[name]
    for node in nodes_of(vectors, capture.pattern):
        (conflict,) = derive_node(node, bytes.fromhex(capture.nonce)).conflicts
        stated = stated_nonce(node.binding)
        assert stated is not None
        assert conflict == f"the response answers the nonce {stated.hex()}, not the relying party's"
        assert derive_node(node, stated).conflicts == ()


def other_key(certificate: bytes) -> bytes:
    """The certificate with one bit of its public key changed, in DER or PEM as it was."""
    is_pem = certificate.startswith(b"-----")
    loaded = load_pem_x509_certificate if is_pem else load_der_x509_certificate
    parsed = loaded(certificate)
    der = parsed.public_bytes(Encoding.DER)
    spki = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    der = flipped(der, 8 * (der.index(spki) + 60))
    if not is_pem:
        return der
    return b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % b64encode(der)


def one_bit_off(node: Evidence) -> Iterator[tuple[str, BindingInputs]]:
    """The node's inputs, each in turn with one bit changed, where the profile uses it."""
    inputs = node.binding
    for name in derive_node(node, NONCE).bound:
        value: Any = getattr(inputs, name)
        if isinstance(value, str):
            value = chr(ord(value[0]) ^ 1) + value[1:]
        else:
            value = other_key(value) if name == "tls_certificate" else flipped(value, 24)
        yield name, replace(inputs, **{name: value})


@EACH_CAPTURE
def test_one_bit_of_an_input_refuses_its_part_alone(vectors: Path, capture: Capture) -> None:
    checked = set()
    for node in nodes_of(vectors, capture.pattern):
        nonce = stated_nonce(node.binding) or bytes.fromhex(capture.nonce)
        actual, good = report_data(node), derive_node(node, nonce)
        before = outcomes(good, actual)
        for name, inputs in one_bit_off(node):
            after = outcomes(derive(inputs.profile, nonce, inputs), actual)
            for part, old, new in zip(good.report_data, before, after, strict=True):
                if old != "matched" or name not in part.ties:
                    assert new == old
                elif name in ("signing_public_key", "tls_certificate") and len(part.ties) > 1:
                    assert new == old  # tied through its digest: a conflict instead, see below
                    assert name not in bound_inputs(derive(inputs.profile, nonce, inputs), actual)
                else:
                    assert new == "refused"
                    checked.add(name)
    assert checked


@EACH_CAPTURE
def test_another_nonce_is_refused(vectors: Path, capture: Capture) -> None:
    for node in nodes_of(vectors, capture.pattern):
        nonce = stated_nonce(node.binding) or bytes.fromhex(capture.nonce)
        good = derive_node(node, nonce)
        for bit in (0, 100, 255):
            wrong = derive_node(node, flipped(nonce, bit))
            assert "refused" in outcomes(wrong, report_data(node)) or good.missing
            for gpu in node.gpus:
                assert device_nonce_problem(wrong, gpu.report[4:36]) is not None
        nothing = derive_node(node, None)
        assert "unchecked" in outcomes(nothing, report_data(node))
        assert nothing.device_nonce is None


@EACH_CAPTURE
@EACH_PROFILE
def test_another_profile_is_refused(
    vectors: Path, capture: Capture, profile: BindingProfile
) -> None:
    for node in nodes_of(vectors, capture.pattern):
        nonce = stated_nonce(node.binding) or bytes.fromhex(capture.nonce)
        found = outcomes(derive(profile, nonce, node.binding), report_data(node))
        if profile is not node.binding.profile:
            assert set(found) & {"refused", "unchecked"}
            assert found[0] != "matched"


@pytest.mark.parametrize("name", ["chutes", "phalacloud"])
def test_one_nodes_inputs_do_not_pass_for_another(vectors: Path, name: str) -> None:
    """Each instance of Chutes has a key of its own, and asks its GPUs with a nonce made of it."""
    nodes = nodes_of(vectors, CAPTURES[name].pattern)
    nonce = bytes.fromhex(CAPTURES[name].nonce)
    for node in nodes:
        for other in (n for n in nodes if n is not node):
            derivation = derive_node(other, stated_nonce(other.binding) or nonce)
            assert outcomes(derivation, report_data(node))[0] != "matched"
            assert outcome(device_nonce_problem(derivation, node.gpus[0].report[4:36])) != "matched"


def test_nodes_that_share_key_and_nonce_cannot_be_told_apart(vectors: Path) -> None:
    """Three machines, one signing address: their GPUs could trade places, and no nonce tells."""
    nodes = nodes_of(vectors, CAPTURES["nanogpt"].pattern)[1:]
    assert len({node.quote for node in nodes}) == 3
    assert len({gpu.certificate_chain for node in nodes for gpu in node.gpus}) == 24
    for node in nodes:
        for other in nodes:
            derivation = derive_node(other, stated_nonce(other.binding))
            assert outcomes(derivation, report_data(node)) == ["matched", "matched"]
            for gpu in node.gpus:
                assert device_nonce_problem(derivation, gpu.report[4:36]) is None
            assert any("another machine" in text for text in derivation.leaves)


def test_bound_unbound_and_missing_of_captures(vectors: Path) -> None:
    def first(name: str, at: int = 0) -> tuple[Evidence, Derivation]:
        node = nodes_of(vectors, CAPTURES[name].pattern)[at]
        nonce = stated_nonce(node.binding) or bytes.fromhex(CAPTURES[name].nonce)
        return node, derive_node(node, nonce)

    node, near = first("neardirect")
    proven = bound_inputs(near, report_data(node))
    assert set(proven) == {"signing_address", "signing_public_key", "tls_fingerprint"}
    assert proven["tls_fingerprint"] == (node.binding.tls_fingerprint or b"").hex()
    assert near.unbound == ("signing_algorithm", "app_compose", "vm_config")
    assert bound_inputs(near, flipped(report_data(node), 0)) == {}
    assert bound_inputs(near, flipped(report_data(node), 256)) == proven  # the nonce's part

    node, redpill = first("nanogpt", 1)
    assert set(redpill.bound) == {"signing_address", "signing_public_key"}
    node, phala = first("phalacloud")
    assert (set(phala.bound), phala.missing) == ({"e2e_public_key"}, ("tls_certificate",))
    assert phala.unbound == ()

    both = keyless = 0
    for at in range(7):
        node, chutes = first("chutes", at)
        proven = bound_inputs(chutes, report_data(node))
        assert len(proven["tls_certificate"]) == 64
        both += set(proven) == {"e2e_public_key", "tls_certificate"} and not chutes.missing
        keyless += chutes.missing == ("e2e_public_key",)
    assert (both, keyless) == (5, 2)

    node, tinfoil = first("tinfoil on SEV-SNP")
    proven = bound_inputs(tinfoil, report_data(node))
    assert set(proven) == {"tls_fingerprint", "hpke_key", "tls_certificate"}
    assert proven["tls_certificate"] == proven["tls_fingerprint"]
    assert tinfoil.evidence_state is State.NOT_APPLICABLE


def test_an_ethereum_address_belongs_to_its_key(vectors: Path) -> None:
    """nanogpt's model nodes send a secp256k1 key besides the address that REPORTDATA holds."""
    node = nodes_of(vectors, CAPTURES["nanogpt"].pattern)[1]
    key = node.binding.signing_public_key
    assert key is not None
    assert derive_node(node, NONCE).bound["signing_public_key"] == key.hex()
    wrong = replace(node.binding, signing_public_key=flipped(key, 9))
    derivation = derive(P.REDPILL, stated_nonce(node.binding), wrong)
    assert "signing_public_key" in derivation.unbound
    assert "signing_public_key" not in derivation.bound
    (conflict,) = derivation.conflicts
    assert conflict.startswith("signing_public_key gives ")


def test_tinfoil_on_tdx_with_gpus(vectors: Path) -> None:
    pattern = "tdx/captures/tinfoil_direct_*/*tinfoil-attestation.body"
    for path in [find(vectors, pattern), *sorted(vectors.glob(pattern))[1:]]:
        (node,) = parse_foreign_evidence(path.read_bytes()).nodes
        derivation = derive_node(node, stated_nonce(node.binding))
        assert node.gpus
        assert derivation.evidence_state is State.PASS
        assert outcomes(derivation, report_data(node)) == ["matched", "matched"]
        assert "gpu_evidence_json" in bound_inputs(derivation, report_data(node))
        for gpu in node.gpus:
            assert device_nonce_problem(derivation, gpu.report[4:36]) is None


def test_raw_nonce_of_a_real_node(vectors: Path) -> None:
    """Eight GPUs and four switches, asked with one nonce; their quote is not part of it."""
    folder = vectors / "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"
    if not folder.is_dir():
        pytest.skip("the 8+4 node is not among the vectors")
    reports = []
    for name in ("gpu_evidence.json", "switch_evidence.json"):
        (node,) = parse_foreign_evidence((folder / name).read_bytes()).nodes
        derivation = derive_node(node, stated_nonce(node.binding))
        reports += [(derivation, d.report) for d in (*node.gpus, *node.switches)]
    assert len(reports) == 12
    for derivation, report in reports:
        assert device_nonce_problem(derivation, report[4:36]) is None
        assert device_nonce_problem(derivation, flipped(report[4:36], 255)) is not None


@pytest.mark.parametrize("name", ["quote-report.json", "tdx-lite-getquote.json"])
def test_dstack_report_data_is_the_callers(vectors: Path, name: str) -> None:
    (node,) = parse_foreign_evidence(find(vectors, f"tdx/dstack/{name}").read_bytes()).nodes
    actual = report_data(node)
    expected = derive(P.DSTACK, None, node.binding, report_data=actual)
    assert outcomes(expected, actual) == ["matched"]
    assert outcomes(expected, flipped(actual, 511)) == ["refused"]
    assert outcomes(derive(P.DSTACK, NONCE, node.binding), actual)[0] == "refused"
    assert outcomes(derive(P.DSTACK, None, node.binding), actual) == ["unchecked"]


# --- recipes no capture has ----------------------------------------------------------------------


def test_own_recipe() -> None:
    key, manifest = bytes([7]) * 32, bytes([9]) * 48
    inputs = BindingInputs(P.CCVERIFY, session_key_thumbprint=key, manifest_sha384=manifest)
    derivation = derive(P.CCVERIFY, NONCE, inputs)
    actual = sha512(b"ccverify/report-data/v1" + NONCE + key + manifest).digest()
    assert report_data_problem(derivation, actual) == (None,)
    asked = sha256(b"ccverify/device-nonce/v1" + NONCE + key).digest()
    assert device_nonce_problem(derivation, asked) is None
    assert bound_inputs(derivation, actual) == {
        "session_key_thumbprint": key.hex(),
        "manifest_sha384": manifest.hex(),
    }
    assert derivation.evidence_state is State.NOT_CHECKED
    for field in ("session_key_thumbprint", "manifest_sha384"):
        changed = replace(inputs, **{field: flipped(getattr(inputs, field), 5)})
        assert outcomes(derive(P.CCVERIFY, NONCE, changed), actual) == ["refused"]
        lacking = derive(P.CCVERIFY, NONCE, replace(inputs, **{field: None}))
        assert outcomes(lacking, actual) == ["unchecked"]
        assert lacking.missing == (field,)
    # The device nonce needs no manifest: it is asked for before there is one.
    assert derive(P.CCVERIFY, NONCE, replace(inputs, manifest_sha384=None)).device_nonce == asked


@pytest.mark.parametrize("length", [1, 16, 32, 48, 64])
@pytest.mark.parametrize("profile", [P.RAW_NONCE, P.DSTACK])
def test_nonce_as_report_data(profile: BindingProfile, length: int) -> None:
    nonce = bytes(range(1, length + 1))
    derivation = derive(profile, nonce, BindingInputs(profile))
    actual = nonce + bytes(64 - length)
    assert set(report_data_problem(derivation, actual)) == {None}
    for bit in range(0, 512, 7):
        assert outcomes(derivation, flipped(actual, bit)).count("refused") == 1
    assert derivation.device_nonce == (nonce if length == 32 else None)
    if length != 32:
        assert f"has {length}" in (derivation.device_nonce_reason or "")


TRUSTEE_KEY = '{"alg":"ES256","crv":"P-256","kty":"EC","x":"eA","y":"eQ"}'
TRUSTEE_EVIDENCE = '{"nvidia": "a\\"b\\\\é\\n"}'


def trustee(nonce_text: str, evidence: str | None = TRUSTEE_EVIDENCE) -> BindingInputs:
    runtime = f'{{"nonce":"{nonce_text}","tee-pubkey":{TRUSTEE_KEY}}}'
    return BindingInputs(P.TRUSTEE, runtime_data_json=runtime, additional_evidence_json=evidence)


@pytest.mark.parametrize("text", [b64encode(NONCE).decode(), NONCE.hex()])
@pytest.mark.parametrize(
    ("evidence", "written"),
    [
        (TRUSTEE_EVIDENCE, '"{\\"nvidia\\": \\"a\\\\\\"b\\\\\\\\é\\\\n\\"}"'),
        ("", '""'),
        (None, '""'),
    ],
)
def test_trustee(text: str, evidence: str | None, written: str) -> None:
    inputs = trustee(text, evidence)
    assert stated_nonce(inputs) == NONCE
    derivation = derive(P.TRUSTEE, NONCE, inputs)
    primary = f'{{"additional-evidence":{written},"nonce":"{text}","tee-pubkey":{TRUSTEE_KEY}}}'
    actual = sha384(primary.encode()).digest() + bytes(16)
    assert report_data_problem(derivation, actual) == (None, None)
    device = sha384(f'{{"nonce":"{text}","tee-pubkey":{TRUSTEE_KEY}}}'.encode()).digest()
    assert device_nonce_problem(derivation, device[:32]) is None
    assert bound_inputs(derivation, actual)["tee_public_key"] == TRUSTEE_KEY
    assert derivation.evidence_state is (State.PASS if evidence else State.NOT_APPLICABLE)
    for other in (
        derive(P.TRUSTEE, flipped(NONCE, 3), inputs),
        derive(P.TRUSTEE, NONCE, replace(inputs, additional_evidence_json="{}")),
        derive(P.TRUSTEE, NONCE, trustee(b64encode(bytes(32)).decode(), "x")),
        derive(
            P.TRUSTEE,
            NONCE,
            replace(inputs, runtime_data_json=(inputs.runtime_data_json or "").replace("eA", "eB")),
        ),
    ):
        assert outcomes(other, actual) == ["refused", "matched"]


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", '{"nonce":1,"tee-pubkey":{}}', '{"nonce":"eA"}', '{"tee-pubkey":{}}',
     '{"nonce":"a","nonce":"b","tee-pubkey":{}}', '{"nonce":"\ud800","tee-pubkey":{}}',
     '{"nonce":"a","tee-pubkey":{"x":"\\ud800"}}', '{"nonce":"a","tee-pubkey":1e999}'],
)  # fmt: skip
def test_runtime_data_that_is_none(text: str | None) -> None:
    inputs = BindingInputs(P.TRUSTEE, runtime_data_json=text)
    assert stated_nonce(inputs) is None
    derivation = derive(P.TRUSTEE, NONCE, inputs)
    assert outcomes(derivation, bytes(64)) == ["unchecked", "matched"]
    assert derivation.device_nonce is None
    assert derivation.missing == (("runtime_data_json",) if text is None else ())


# --- Tinfoil: hashes of device evidence ----------------------------------------------------------

GPU, SWITCH = b'{"evidences":[1]}', b'{"evidences":[2]}'


def tinfoil(**more: Any) -> BindingInputs:
    return BindingInputs(
        P.TINFOIL_V3,
        request_nonce=NONCE,
        tls_fingerprint=bytes([1]) * 32,
        hpke_key=bytes([2]) * 32,
        **more,
    )


def hashed(text: bytes) -> bytes:
    return sha256(text).digest()


def tinfoil_report_data(*hashes: bytes) -> bytes:
    joined = bytes([1]) * 32 + bytes([2]) * 32 + NONCE + b"".join(hashes)
    return sha256(joined).digest() + bytes(32)


def test_tinfoil_with_devices() -> None:
    inputs = tinfoil(
        gpu_evidence_hash=hashed(GPU),
        gpu_evidence_json=GPU,
        nvswitch_evidence_hash=hashed(SWITCH),
        nvswitch_evidence_json=SWITCH,
    )
    derivation = derive(P.TINFOIL_V3, NONCE, inputs)
    actual = tinfoil_report_data(hashed(GPU), hashed(SWITCH))
    assert report_data_problem(derivation, actual) == (None, None)
    assert derivation.evidence_state is State.PASS
    assert derivation.unbound == derivation.missing == derivation.conflicts == ()
    proven = bound_inputs(derivation, actual)
    assert {"gpu_evidence_json", "nvswitch_evidence_json"} <= set(proven)
    for name in ("gpu_evidence_hash", "nvswitch_evidence_hash", "hpke_key", "tls_fingerprint"):
        changed = replace(inputs, **{name: flipped(getattr(inputs, name), 77)})
        found = outcomes(derive(P.TINFOIL_V3, NONCE, changed), actual)
        assert found == ["refused", "matched"]
    assert outcomes(derivation, flipped(actual, 511)) == ["matched", "refused"]


@pytest.mark.parametrize(
    ("more", "state", "says"),
    [
        ({}, State.NOT_APPLICABLE, "no device evidence"),
        ({"gpu_evidence_json": GPU}, State.FAIL, "no hash in REPORTDATA"),
        ({"gpu_evidence_hash": hashed(GPU)}, State.FAIL, "leaves out"),
        ({"nvswitch_evidence_json": SWITCH}, State.FAIL, "no hash in REPORTDATA"),
        ({"nvswitch_evidence_hash": hashed(SWITCH)}, State.FAIL, "leaves out"),
        ({"gpu_evidence_hash": hashed(GPU), "gpu_evidence_json": GPU + b" "}, State.FAIL, "SHA-"),
        (
            {"nvswitch_evidence_hash": hashed(SWITCH), "nvswitch_evidence_json": SWITCH + b" "},
            State.NOT_CHECKED,
            "anew",
        ),
        (  # the worse of two answers counts
            {
                "gpu_evidence_hash": hashed(GPU),
                "gpu_evidence_json": b"",
                "nvswitch_evidence_hash": hashed(SWITCH),
                "nvswitch_evidence_json": b"",
            },
            State.FAIL,
            "the GPU evidence has SHA-256",
        ),
        (  # the hash of the GPUs passed off as that of the switches: the preimage is the same
            {"nvswitch_evidence_hash": hashed(GPU), "gpu_evidence_json": GPU},
            State.FAIL,
            "no hash in REPORTDATA; REPORTDATA covers NVSwitch",
        ),
    ],
)
def test_tinfoil_evidence_that_does_not_hash(
    more: dict[str, bytes], state: State, says: str
) -> None:
    derivation = derive(P.TINFOIL_V3, NONCE, tinfoil(**more))
    assert derivation.evidence_state is state
    assert says in (derivation.evidence_problem or "")
    for name in ("gpu_evidence_json", "nvswitch_evidence_json"):
        assert name not in derivation.bound
        assert (name in derivation.unbound) == (name in more)


def test_a_certificate_with_another_key_is_a_conflict(vectors: Path) -> None:
    node = nodes_of(vectors, CAPTURES["tinfoil on SEV-SNP"].pattern)[0]
    other = nodes_of(vectors, CAPTURES["chutes"].pattern)[0].binding.tls_certificate
    for certificate in (other, b"", b"junk"):
        inputs = replace(node.binding, tls_certificate=certificate)
        derivation = derive(P.TINFOIL_V3, stated_nonce(inputs), inputs)
        (conflict,) = derivation.conflicts
        assert conflict.startswith("tls_certificate ")
        assert "tls_certificate" in derivation.unbound
        assert "tls_certificate" not in bound_inputs(derivation, report_data(node))


def test_algorithm_and_address_that_disagree() -> None:
    inputs = BindingInputs(P.REDPILL, signing_address=bytes(20), signing_algorithm="ed25519")
    (conflict,) = derive(P.REDPILL, NONCE, inputs).conflicts
    assert conflict == "signing_address has 20 bytes, but ed25519 addresses have 32"


@pytest.mark.parametrize("length", [0, 19, 21, 31, 33, 64])
@pytest.mark.parametrize("profile", [P.REDPILL, P.NEAR])
def test_addresses_have_two_lengths_only(profile: BindingProfile, length: int) -> None:
    """Else bytes could move between an address and what is hashed or padded after it."""
    inputs = BindingInputs(profile, signing_address=bytes(length), tls_fingerprint=bytes(32))
    part = derive(profile, NONCE, inputs).report_data[0]
    assert part.expected is None
    assert f"and has {length}" in (part.reason or "")


# --- report data that the relying party expects --------------------------------------------------


def test_required_report_data_must_hold_besides_the_recipe() -> None:
    address = bytes([5]) * 20
    inputs = BindingInputs(P.REDPILL, signing_address=address)
    actual = address + bytes(12) + NONCE
    both = derive(P.REDPILL, NONCE, inputs, report_data=actual)
    assert report_data_problem(both, actual) == (None, None)
    other = derive(P.REDPILL, NONCE, inputs, report_data=flipped(actual, 0))
    assert outcomes(other, actual) == ["refused", "matched"]
    assert outcomes(other, flipped(actual, 0)) == ["refused", "matched"]
    # What the recipe lacks, the statement replaces; but it ties no input.
    alone = derive(P.REDPILL, None, replace(inputs, signing_address=None), report_data=actual)
    assert report_data_problem(alone, actual) == (None, None)
    assert bound_inputs(alone, actual) == {}
    assert outcomes(alone, flipped(actual, 300)) == ["matched", "refused"]


@pytest.mark.parametrize("nonce", [b"", bytes(65)])
def test_impossible_nonces(nonce: bytes) -> None:
    with pytest.raises(UsageError, match="nonce"):
        derive(P.RAW_NONCE, nonce, BindingInputs(P.RAW_NONCE))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_impossible_report_data(length: int) -> None:
    inputs = BindingInputs(P.RAW_NONCE)
    with pytest.raises(UsageError, match="report data"):
        derive(P.RAW_NONCE, None, inputs, report_data=bytes(length))
    with pytest.raises(UsageError, match="report data"):
        report_data_problem(derive(P.RAW_NONCE, NONCE, inputs), bytes(length))


# --- anything ------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
LENGTHS = st.sampled_from([0, 1, 20, 31, 32, 33, 48, 64, 65])
ANY_BYTES = LENGTHS.flatmap(lambda n: st.binary(min_size=n, max_size=n))
RUNTIME = st.builds(
    lambda nonce, key: json.dumps({"nonce": nonce, "tee-pubkey": key}),
    st.text(max_size=70) | st.just(b64encode(NONCE).decode()) | st.just(NONCE.hex()),
    st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5),
)
TEXTS = {"request_nonce_text", "signing_algorithm", "e2e_public_key", "app_compose", "vm_config",
         "runtime_data_json", "additional_evidence_json"}  # fmt: skip
INPUTS = st.builds(
    BindingInputs,
    profile=st.sampled_from(P),
    **{
        field.name: st.none() | (ANY_TEXT if field.name in TEXTS else ANY_BYTES)
        for field in fields(BindingInputs)
        if field.name not in ("profile", "runtime_data_json")
    },
    runtime_data_json=st.none() | ANY_TEXT | RUNTIME,
)
NONCES = st.none() | st.binary(min_size=1, max_size=64) | st.just(NONCE)


@EACH_PROFILE
@settings(max_examples=60)
@given(inputs=INPUTS, nonce=NONCES, other=st.binary(min_size=64, max_size=64), bit=st.integers(0))
def test_any_inputs(
    profile: BindingProfile, inputs: BindingInputs, nonce: bytes | None, other: bytes, bit: int
) -> None:
    derivation = derive(profile, nonce, inputs)
    stated_nonce(inputs)
    parts = derivation.report_data
    assert [p.start for p in parts] == [0, *(p.end for p in parts[:-1])]
    assert parts[-1].end == 64
    assert (derivation.device_nonce is None) == (derivation.device_nonce_reason is not None)
    assert len(derivation.device_nonce or bytes(32)) == 32
    assert not set(derivation.unbound) & set(derivation.bound)
    for name in derivation.missing:
        assert getattr(inputs, name) is None
    for name in derivation.unbound:
        assert getattr(inputs, name) is not None
    if nonce is None and profile not in (P.TINFOIL_V3, P.TRUSTEE):
        assert any(part.expected is None for part in parts)
    # What is derived is the only thing that matches, to the last bit.
    actual = b"".join(other[p.start : p.end] if p.expected is None else p.expected for p in parts)
    assert len(actual) == 64
    expected = ["unchecked" if p.expected is None else "matched" for p in parts]
    assert outcomes(derivation, actual) == expected
    for part in parts:
        assert (part.expected is None) == (part.reason is not None)
    bit %= 512
    after = outcomes(derivation, flipped(actual, bit))
    for part, was, now in zip(parts, expected, after, strict=True):
        hit = part.start <= bit // 8 < part.end
        assert now == ("refused" if hit and was == "matched" else was)
    assert set(bound_inputs(derivation, flipped(actual, bit))) <= set(derivation.bound)


@given(inputs=INPUTS, nonce=st.binary(min_size=32, max_size=32), bit=st.integers(0, 255))
def test_another_nonce_never_derives_the_same(
    inputs: BindingInputs, nonce: bytes, bit: int
) -> None:
    for profile in P:
        one, two = (derive(profile, n, inputs) for n in (nonce, flipped(nonce, bit)))
        if all(part.expected is not None for part in one.report_data):
            assert [p.expected for p in one.report_data] != [p.expected for p in two.report_data]
        if one.device_nonce is not None:
            assert one.device_nonce != two.device_nonce


@given(nonce=st.binary(min_size=1, max_size=64))
@example(nonce=b"\xff" * 48)  # its base64 has 64 characters, as 32 bytes in hex have
@example(nonce=bytes.fromhex("d35db7e39ebbf3d6b5" * 5 + "d35d"))
def test_a_stated_trustee_nonce_is_never_taken_for_another(nonce: bytes) -> None:
    """48 bytes whose base64 looks like hex are read as hex: refused, not believed."""
    inputs = trustee(b64encode(nonce).decode(), None)
    stated = stated_nonce(inputs)
    assert stated is not None
    if stated == nonce:
        assert derive(P.TRUSTEE, stated, inputs).conflicts == ()


@given(text=ANY_TEXT)
def test_any_stated_nonce_text(text: str) -> None:
    stated_nonce(BindingInputs(P.TRUSTEE, runtime_data_json=json.dumps({"nonce": text})))


# --- tables --------------------------------------------------------------------------------------


@EACH_PROFILE
def test_every_profile_has_recipe_text_and_page(profile: BindingProfile) -> None:
    assert profile in RECIPES
    text = PROFILE_TEXTS[profile]
    derivation = derive(profile, NONCE, BindingInputs(profile))
    assert (derivation.proves, derivation.leaves) == (text.proves, text.leaves)
    assert text.proves
    assert text.leaves
    page = (Path(__file__).parents[2] / "docs" / "bindings.md").read_text("utf-8")
    assert f"## `{profile.value}`" in page


def test_channel_inputs_are_names_of_bound_inputs() -> None:
    names = {field.name for field in fields(BindingInputs)} | {"tee_public_key"}
    assert set(CHANNEL_INPUTS) <= names
