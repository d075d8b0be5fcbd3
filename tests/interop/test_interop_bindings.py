"""What the parsers hand over for the binding recipes, which tests/bundle recomputes."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from interop_samples import PEM, device, tinfoil
from test_interop_captures import CHUTES, NEAR_GATEWAY, NEAR_NODE, find, read

from ccverify.bundle.binding import derive, report_data_problem, stated_nonce
from ccverify.errors import EvidenceError
from ccverify.interop.chutes import parse_instance_keys, with_instance_keys
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.tdx.quote import parse_quote


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
    problems = []
    for node in nodes:
        inputs = node.binding
        derivation = derive(inputs.profile, stated_nonce(inputs), inputs)
        actual = parse_quote(node.quote or b"").report.report_data
        problems.append([p is None for p in report_data_problem(derivation, actual)])
    # Address and fingerprint, then the nonce, which the false copy repeats rightly.
    assert problems == [[False, True], [True, True]]


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
