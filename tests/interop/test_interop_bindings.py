"""The binding recipes, recomputed from what the parsers hand over.

`REPRODUCED` states for each capture how many of its bindings could be reproduced, and the test
counts again.  Two kinds of evidence have no capture among the vectors: Tinfoil's on TDX with
GPUs, and Trustee's with a real key; their recipes are tested on made documents only.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate
from interop_samples import PEM, device, tinfoil
from test_interop_captures import (
    CHUTES,
    INSTANCES,
    NEAR_GATEWAY,
    NEAR_NODE,
    REDPILL,
    TINFOIL_SNP,
    find,
    read,
)

from ccverify.errors import EvidenceError
from ccverify.evidence import BindingInputs, BindingProfile, Evidence
from ccverify.interop.chutes import parse_instance_keys, with_instance_keys
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.interop.model import ForeignEvidence
from ccverify.tdx.quote import parse_quote

# The nonce that each client sent, from the URL of its request.
CLIENT_NONCE = {
    CHUTES: "3339ed515124334c8c85e73f5101de92da4112b23ecec719a72d767a278d3440",
    NEAR_NODE: "e1acc835c324635d087549f55702d334ba5e8dd7ef64e9c52a312eded2709223",
    TINFOIL_SNP: "535641d4647956bb9a1e2fa364a5da7c6499458b6f7b6cb65c6dbd1e377a8756",
    REDPILL: "732f6f1c1b4445d4ab4ad892728343f7fcb0f595ce79f91ecfdeaae657bb7c7e",
    NEAR_GATEWAY: "9d9c010acbfbca060d0fb93ed8095ece7c7d0309c27f556a02ef46b118946d3c",
}

# Per capture: nodes; whose REPORTDATA follows from the inputs; GPU reports, and how many carry
# the nonce the recipe asks for; nodes fresh to the client's own nonce, not the one repeated.
REPRODUCED = {
    # Two of seven instances are missing from the list of keys that came with them.
    CHUTES: {"nodes": 7, "report data": 5, "GPUs": 56, "GPU nonces": 56, "TLS key": 7, "fresh": 5},
    # The reseller asks with a nonce of its own: bound, and not fresh to the client.
    REDPILL: {"nodes": 5, "report data": 5, "GPUs": 40, "GPU nonces": 40},
    NEAR_NODE: {"nodes": 1, "report data": 1, "GPUs": 8, "GPU nonces": 8, "fresh": 1},
    NEAR_GATEWAY: {"nodes": 4, "report data": 4, "GPUs": 24, "GPU nonces": 24},
    TINFOIL_SNP: {"nodes": 1, "report data": 1, "fresh": 1},
}


def report_data(node: Evidence) -> bytes:
    if node.quote is not None:
        return parse_quote(node.quote).report.report_data
    assert node.other_cpu is not None
    return node.other_cpu.report[0x50:0x90]  # REPORT_DATA of an SEV-SNP report


def expected_report_data(inputs: BindingInputs) -> bytes | None:
    """The first part of REPORTDATA (or all of it) as `BindingProfile` describes it."""
    address, nonce = inputs.signing_address, inputs.request_nonce
    match inputs.profile:
        case BindingProfile.REDPILL:
            assert address is not None
            assert nonce is not None
            return address.ljust(32, b"\0") + nonce
        case BindingProfile.NEAR:
            assert address is not None
            assert nonce is not None
            return sha256(address + (inputs.tls_fingerprint or b"")).digest() + nonce
        case BindingProfile.CHUTES:
            if inputs.e2e_public_key is None or inputs.request_nonce_text is None:
                return None
            return sha256((inputs.request_nonce_text + inputs.e2e_public_key).encode()).digest()
        case BindingProfile.TINFOIL_V3:
            parts = (
                inputs.tls_fingerprint,
                inputs.hpke_key,
                nonce,
                inputs.gpu_evidence_hash,
                inputs.nvswitch_evidence_hash,
            )
            return sha256(b"".join(p for p in parts if p)).digest() + bytes(32)
    raise AssertionError(inputs.profile)


def device_nonce(node: Evidence) -> bytes | None:
    if node.binding.profile is BindingProfile.CHUTES:
        return report_data(node)[:32]
    return node.binding.request_nonce


def tls_key_hash(node: Evidence) -> bytes | None:
    if node.binding.profile is not BindingProfile.CHUTES or node.binding.tls_certificate is None:
        return None
    key = load_der_x509_certificate(node.binding.tls_certificate).public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def complete(vectors: Path, pattern: str) -> ForeignEvidence:
    """The evidence, and for Chutes what the client knows besides: nonce and key list."""
    evidence = read(vectors, pattern)
    if pattern != CHUTES:
        return evidence
    text = CLIENT_NONCE[CHUTES]
    nodes = tuple(
        replace(
            node,
            binding=replace(
                node.binding, request_nonce=bytes.fromhex(text), request_nonce_text=text
            ),
        )
        for node in evidence.nodes
    )
    keys = parse_instance_keys(find(vectors, INSTANCES).read_bytes())
    assert len(keys) == 5
    return with_instance_keys(replace(evidence, nodes=nodes), keys)


@pytest.mark.parametrize("pattern", REPRODUCED)
def test_bindings_of_real_captures(vectors: Path, pattern: str) -> None:
    counted: Counter[str] = Counter()
    for node in complete(vectors, pattern).nodes:
        actual, expected = report_data(node), expected_report_data(node.binding)
        bound = expected is not None and actual.startswith(expected)
        counted["nodes"] += 1
        counted["report data"] += bound
        counted["fresh"] += bound and node.binding.request_nonce == bytes.fromhex(
            CLIENT_NONCE[pattern]
        )
        counted["GPUs"] += len(node.gpus)
        counted["GPU nonces"] += sum(g.report[4:36] == device_nonce(node) for g in node.gpus)
        counted["TLS key"] += actual[32:] == tls_key_hash(node)
    assert +counted == Counter(REPRODUCED[pattern])


@pytest.mark.parametrize("pattern", [NEAR_NODE, NEAR_GATEWAY, REDPILL])
def test_a_changed_input_no_longer_reproduces(vectors: Path, pattern: str) -> None:
    node = read(vectors, pattern).nodes[-1]
    inputs = node.binding
    changed = [
        replace(inputs, request_nonce=bytes(32), request_nonce_text="00" * 32),
        replace(inputs, e2e_public_key="other")
        if inputs.profile is BindingProfile.CHUTES
        else replace(inputs, signing_address=bytes(20)),
    ]
    if inputs.tls_fingerprint:
        changed.append(replace(inputs, tls_fingerprint=bytes(32)))
    actual = report_data(node)
    assert actual.startswith(expected_report_data(inputs) or b"?")
    for wrong in changed:
        assert not actual.startswith(expected_report_data(wrong) or b"?")


def test_compose_hash_is_in_the_event_log(vectors: Path) -> None:
    """app_compose is handed over exactly as measured: its SHA-256 is the compose-hash event."""
    checked = 0
    for pattern in (NEAR_NODE, NEAR_GATEWAY):
        for node in read(vectors, pattern).nodes:
            assert node.event_log is not None
            assert node.binding.app_compose is not None
            events = {e["event"]: e["event_payload"] for e in json.loads(node.event_log)}
            digest = sha256(node.binding.app_compose.encode()).hexdigest()
            assert events["compose-hash"] == digest
            assert json.loads(node.binding.vm_config or "")["num_gpus"] == len(node.gpus)
            checked += 1
    assert checked == 5


def test_a_top_level_that_differs_is_a_node_of_its_own(vectors: Path) -> None:
    """Clients read the signing address at the top: a good copy in the list must not cover it."""
    document = json.loads(find(vectors, NEAR_NODE).read_bytes())
    document["signing_address"] = "00" * 32
    nodes = parse_foreign_evidence(json.dumps(document).encode()).nodes
    assert [n.label for n in nodes] == ["node", "all_attestations[0]"]
    verdicts = [report_data(n) == expected_report_data(n.binding) for n in nodes]
    assert verdicts == [False, True]


# --- Chutes: keys from another answer ------------------------------------------------------------


def test_keys_go_to_their_instances_only(vectors: Path) -> None:
    evidence = read(vectors, CHUTES)
    first = evidence.nodes[0]
    keyed = with_instance_keys(evidence, {first.label: "k", "unknown": "x"})
    assert [n.binding.e2e_public_key for n in keyed.nodes] == ["k"] + [None] * 6
    assert with_instance_keys(keyed, {first.label: "k"}) == keyed
    with pytest.raises(EvidenceError, match="two end-to-end keys"):
        with_instance_keys(keyed, {first.label: "other"})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"instances": []},
        {"instances": [{"instance_id": "a"}]},
        {"instances": [{"instance_id": "a", "e2e_pubkey": 1}]},
        {"instances": [{"instance_id": "a", "e2e_pubkey": "k"}] * 2},
    ],
)
def test_malformed_key_lists(document: object) -> None:
    with pytest.raises(EvidenceError):
        parse_instance_keys(json.dumps(document).encode())


# --- Tinfoil: what is hashed is the text as sent -------------------------------------------------


def test_gpu_evidence_text_is_kept_byte_for_byte() -> None:
    gpu = '{ "evidences" :\n [' + json.dumps(device()) + '] ,"b":1.50,"a":"\\u0041/\\/" }'
    rest = json.dumps({k: v for k, v in tinfoil().items() if k != "gpu"})
    for text in (f'{{"gpu": {gpu} , {rest[1:]}', f'{rest[:-1]},\t"gpu":{gpu}}}'):
        (node,) = parse_foreign_evidence(text.encode()).nodes
        assert node.binding.gpu_evidence_json == gpu.encode()
        assert len(node.gpus) == 1
        assert len(node.switches) == 1


def test_tinfoil_inputs() -> None:
    document = tinfoil()
    evidence = parse_foreign_evidence(json.dumps(document).encode())
    (node,) = evidence.nodes
    inputs = node.binding
    assert inputs.gpu_evidence_json is not None
    assert inputs.gpu_evidence_hash == sha256(inputs.gpu_evidence_json).digest()
    assert inputs.nvswitch_evidence_hash is None
    assert json.loads(inputs.nvswitch_evidence_json or b"") == document["nvswitch"]
    assert json.loads(inputs.report_data_json or b"") == document["report_data"]
    assert inputs.tls_certificate == PEM
    assert [a.name for a in node.asserted] == ["result_code"]
    assert evidence.not_read == ("signature",)


def test_tinfoil_without_devices() -> None:
    document = tinfoil(gpu=None)
    del document["nvswitch"]
    (node,) = parse_foreign_evidence(json.dumps(document).encode()).nodes
    assert (node.gpus, node.switches) == ((), ())
    assert node.binding.gpu_evidence_json is None
    assert node.binding.nvswitch_evidence_json is None


@pytest.mark.parametrize(
    "change",
    [
        {"format": "https://tinfoil.sh/predicate/sev-snp-guest/v2"},
        {"cpu": {"platform": "sgx", "report": "AAAA"}},
        {"cpu": {"platform": "tdx"}},
        {"cpu": None},
        {"report_data": {}},
        {"gpu": []},
        {"gpu": {"evidences": []}},
        {"report_data": {"tls_key_fp": "1", "hpke_key": "22" * 32, "nonce": "33" * 32}},
        {"certificate": 1},
    ],
)
def test_malformed_tinfoil(change: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        parse_foreign_evidence(json.dumps(tinfoil(**change)).encode())
