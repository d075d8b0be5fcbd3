"""Every foreign document among the real vectors: what it holds, counted exactly."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from ccverify.errors import EvidenceError
from ccverify.evidence import BindingProfile, EventLogFormat, NodeRole
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.interop.model import ForeignEvidence
from ccverify.tdx.eventlog import parse_event_log, replay
from ccverify.tdx.quote import parse_quote

CHUTES = "tdx/captures/chutes_20260610/0002_*_evidence.body"
INSTANCES = "tdx/captures/chutes_20260610/0001_*.body"
NEAR_NODE = "tdx/captures/neardirect_20260610/0001_*.body"
NEAR_GATEWAY = "tdx/captures/nanogpt_20260325/glm-4.7_attestation.json"
REDPILL = "tdx/captures/phalacloud_20260610/0001_*.body"
TINFOIL_SNP = "tdx/captures/tinfoil_cloud_snp_20260629/0001_*.body"
PPCIE = "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"


class Holds(NamedTuple):
    """Format, and for each node its count of GPUs and switches and the size of its quote."""

    format: str
    nodes: list[tuple[int, int, int]]
    profile: BindingProfile | None
    logs: int = 0
    results: int = 0


FILES: dict[str, Holds] = {
    CHUTES: Holds("chutes", [(8, 0, 5247)] + [(8, 0, 5243)] * 6, BindingProfile.CHUTES),
    REDPILL: Holds("redpill", [(8, 0, 5243)] * 5, BindingProfile.CHUTES),
    NEAR_NODE: Holds("near", [(8, 0, 5010)], BindingProfile.NEAR, logs=1),
    NEAR_GATEWAY: Holds(
        "near",
        [(0, 0, 5006), (8, 0, 5010), (8, 0, 5010), (8, 0, 5006)],
        BindingProfile.REDPILL,
        logs=4,
    ),
    TINFOIL_SNP: Holds("tinfoil", [(0, 0, 0)], BindingProfile.TINFOIL_V3),
    "tdx/dstack/quote-report.json": Holds("dstack", [(0, 0, 5006)], BindingProfile.DSTACK, logs=1),
    "tdx/dstack/tdx-lite-getquote.json": Holds(
        "dstack", [(0, 0, 5006)], BindingProfile.DSTACK, logs=1
    ),
    "tdx/dstack/tdx-lite-attestation.json": Holds(
        "dstack", [(0, 0, 5006)], BindingProfile.DSTACK, logs=1
    ),
    "tdx/dstack/attestation.bin": Holds("dstack", [(0, 0, 5010)], BindingProfile.DSTACK, logs=1),
    "tdx/dstack/gpu_attestation_h100.json": Holds("detached-eat", [], None, results=1),
    "nvidia/claims/dstack/gpu_attestation_h100.json": Holds("detached-eat", [], None, results=1),
    "nvidia/claims/attestation-sdk-sample/hopperClaimsv3_detached_eat.json": Holds(
        "detached-eat", [], None, results=1
    ),
    "nvidia/claims/attestation-sdk-sample/switch_detached_eat.json": Holds(
        "detached-eat", [], None, results=1
    ),
    "nvidia/hopper/attestation-sdk-serialized/hopper_evidence.json": Holds(
        "nvattest", [(1, 0, 0)], BindingProfile.RAW_NONCE
    ),
    "nvidia/hopper/attestation-sdk-serialized/hopper_evidence_cert_hold.json": Holds(
        "nvattest", [(1, 0, 0)], BindingProfile.RAW_NONCE
    ),
    "nvidia/hopper/attestation-sdk-testdata/evidence_hopper_590_12.json": Holds(
        "nvattest", [(1, 0, 0)], BindingProfile.RAW_NONCE
    ),
    f"{PPCIE}/gpu_evidence.json": Holds("nvattest", [(8, 0, 0)], BindingProfile.RAW_NONCE),
    f"{PPCIE}/switch_evidence.json": Holds("nvattest", [(0, 4, 0)], BindingProfile.RAW_NONCE),
}

# Real files that are no evidence in a known format → what the error says.
REFUSED = {
    "tdx/claims/trustee_ear_token_example.json": "no known format",
    "tdx/claims/trustee_parse_tdx_claims_expected.json": "quote is not",
    "tdx/dstack/near_quote.json": "no known format",
    "tdx/dstack/near_tcb_info.json": "no known format",
    "tdx/sev-snp/dstack_sev_snp_attestation.bin": "not of TDX",
    "tdx/captures/chutes_20260610/manifest.json": "no known format",
    INSTANCES: "no known format",
    "nvidia/claims/attestation-sdk-sample/hopperClaimsv3_decoded.json": "no known format",
    "nvidia/claims/nvtrust-sdk-pytests/gpu/overall_claims_local.json": "appears twice",
    "nvidia/claims/nvtrust-sdk-pytests/gpu/overall_claims_remote.json": "no known format",
    "nvidia/hopper/attestation-sdk-testdata/spdm_parsed_output.json": "no known format",
}


def find(vectors: Path, pattern: str) -> Path:
    found = sorted(vectors.glob(pattern))
    if not found:
        pytest.skip(f"{pattern} is not among the vectors")
    return found[0]


def read(vectors: Path, pattern: str) -> ForeignEvidence:
    return parse_foreign_evidence(find(vectors, pattern).read_bytes())


@pytest.mark.parametrize("pattern", FILES)
def test_what_a_real_file_holds(vectors: Path, pattern: str) -> None:
    evidence, expected = read(vectors, pattern), FILES[pattern]
    nodes = evidence.nodes
    assert evidence.format == expected.format
    assert [(len(n.gpus), len(n.switches), len(n.quote or b"")) for n in nodes] == (expected.nodes)
    assert {n.binding.profile for n in nodes} == ({expected.profile} if nodes else set())
    assert sum(n.event_log is not None for n in nodes) == expected.logs
    assert len(evidence.results) == expected.results
    assert len({n.label for n in nodes}) == len(nodes)


@pytest.mark.parametrize("pattern", FILES)
def test_quotes_logs_and_reports_are_usable(vectors: Path, pattern: str) -> None:
    """Quotes parse; a full log replays to the quote; reports and chains are what they should be."""
    for node in read(vectors, pattern).nodes:
        for device in (*node.gpus, *node.switches):
            assert device.report.startswith(b"\x11\xe0")
            assert device.certificate_chain.count(b"BEGIN CERTIFICATE") == 5
            assert device.claimed_nonce in (None, device.report[4:36])
        if node.quote is None:
            continue
        report = parse_quote(node.quote).report
        assert node.binding.report_data in (None, report.report_data)
        if node.event_log is not None:
            assert node.event_log_format is EventLogFormat.DSTACK_JSON
            replayed = replay(parse_event_log(node.event_log))
            # The short form of `attest` has the firmware events of three ACPI tables only.
            first = 3 if "tdx-lite-attestation" in pattern else 0
            assert replayed[first:] == report.rtmrs[first:]


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_is_no_evidence_is_refused(vectors: Path, pattern: str) -> None:
    with pytest.raises(EvidenceError, match=REFUSED[pattern]):
        read(vectors, pattern)


def test_gateway_comes_first_and_is_named(vectors: Path) -> None:
    evidence = read(vectors, NEAR_GATEWAY)
    assert [n.role for n in evidence.nodes] == [NodeRole.GATEWAY] + [NodeRole.WORKLOAD] * 3
    assert [n.label for n in evidence.nodes] == [
        "gateway",
        "model_attestations[0]",
        "model_attestations[1]",
        "model_attestations[2]",
    ]
    assert evidence.not_read == ("gateway_attestation.vpc",)
    names = {a.value for n in evidence.nodes[1:] for a in n.asserted if a.name == "model_name"}
    assert names == {"zai-org/GLM-5-FP8"}


def test_a_repeated_node_counts_once_and_the_rest_is_named(vectors: Path) -> None:
    evidence = read(vectors, NEAR_NODE)
    assert [n.label for n in evidence.nodes] == ["all_attestations[0]"]
    assert evidence.not_read == ("compose_manager_attestation", "ohttp_attestation")


def test_other_cpu_evidence_is_not_taken_for_none(vectors: Path) -> None:
    (node,) = read(vectors, TINFOIL_SNP).nodes
    assert node.quote is None
    assert node.other_cpu is not None
    assert node.other_cpu.technology == "sev-snp"
    assert len(node.other_cpu.report) == 1184


def test_switches_keep_order_nonce_and_source(vectors: Path) -> None:
    (node,) = read(vectors, f"{PPCIE}/switch_evidence.json").nodes
    assert [s.source for s in node.switches] == ["[0]", "[1]", "[2]", "[3]"]
    assert {s.claimed_architecture for s in node.switches} == {"LS10"}
    assert node.binding.request_nonce == node.switches[0].claimed_nonce
    (gpus,) = read(vectors, f"{PPCIE}/gpu_evidence.json").nodes
    assert gpus.binding.request_nonce == node.binding.request_nonce
    said = {a.name: a.value for a in gpus.gpus[0].asserted}
    assert said == {"driver_version": "590.12", "vbios_version": "96.00.A5.00.01", "version": "1.0"}
