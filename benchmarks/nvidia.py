"""How fast NVIDIA devices are judged: against bare signature checks, and NVIDIA's own verifier.

    python benchmarks/nvidia.py [--rounds N] [--peer PYTHON] [--json]

Two inputs are genuine: one GPU with its two manifests, and a node of a TDX quote, eight GPUs and
four NVSwitches.  No manifest of that node's firmware is public, so genuine ones of other firmware
are authenticated and compared in their place, which costs the same; what comes out of that
comparison is not looked at.  The third is a simulated node like it, with manifests and OCSP
responses that are its own: `ccverify.check` judges it by a policy, topology and binding included,
and its verdict must be TRUSTED.

*Cold* is the first evidence a process sees.  *Warm* is a fresh report of a device seen before:
certificates, manifests and collateral are known, and the signatures on them remembered, but the
quote and the reports are new.  The *floor* is what no verifier can go below: each different
signature that the run has to verify, once, with keys already loaded and nothing parsed.

Every contender is run once in each round, in turn, so that a busy machine slows all of them
alike; medians and ratios are reported.  It is processor time that is counted: nobody here waits
for anything.  PYTHON is the interpreter of an environment with
nv-local-gpu-verifier (and nv-attestation-sdk for switches), which is timed inside its own
process, without OCSP and without logging; it remembers nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

import ccverify
from ccverify.evidence import DeviceEvidence, Evidence
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.nvidia import certs, ocsp, ocsp_responder, rim
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.device import DeviceVerifier
from ccverify.nvidia.gpu import GPU
from ccverify.nvidia.nvswitch import NVSWITCH
from ccverify.nvidia.ocsp import parse_ocsp_response
from ccverify.nvidia.rim_set import gpu_rim_ids, switch_rim_id
from ccverify.nvidia.spdm import decode_report_text, parse_attestation_report
from ccverify.sim import SimPlatform
from ccverify.sim.nvidia import SimNode
from ccverify.sim.nvidia.node import NodeEvidence
from ccverify.tdx import pck
from ccverify.tdx.verify import verify_quote
from ccverify.trust import x509
from ccverify.trust.signatures import EcPublicKey, SignatureMemory

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT.parent / "shared" / "vectors"
sys.path.insert(0, str(ROOT / "tests" / "nvidia"))

from nv_peer import Peer, interpreter  # noqa: E402

MANIFESTS = {
    "driver": (
        "nvtrust-local-gpu-verifier-samples/Driver_RIM_test_no_gpu.swidtag",
        datetime(2024, 6, 1, tzinfo=UTC),
    ),
    "vbios": (
        "nvtrust-local-gpu-verifier-samples/1010_0200_882_96005E0001_test_no_gpu.swidtag",
        datetime(2024, 6, 1, tzinfo=UTC),
    ),
    "vbios-switch": (
        "attestation-sdk-testdata/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml",
        datetime(2026, 6, 1, tzinfo=UTC),
    ),
}
"""Name (up to the dash as NVIDIA's verifiers call it) → file, and when its signer was valid."""

DRIVER_ID, VBIOS_ID = gpu_rim_ids(
    architecture="HOPPER",
    driver_version="545.00",
    vbios_version="96.00.5E.00.01",
    project="1010",
    project_sku="0200",
    chip_sku="882",
)
SWITCH_ID = switch_rim_id("96.10.55.00.01")
GPU_545 = replace(GPU, rim_ids=lambda opaque, chain: (DRIVER_ID, VBIOS_ID))
SWITCH_9610 = replace(NVSWITCH, rim_ids=lambda opaque, chain: (SWITCH_ID,))
"""Devices to which the public manifests are applied, whatever firmware they run."""


@dataclass(frozen=True)
class Input:
    """What is judged, as bytes."""

    name: str
    gpus: tuple[DeviceEvidence, ...]
    switches: tuple[DeviceEvidence, ...] = ()
    manifests: tuple[tuple[str, bytes], ...] = ()
    quote: bytes = b""
    collateral: bytes = b""
    at: datetime = datetime(2025, 7, 4, 10, 16, 31, tzinfo=UTC)
    simulated: NodeEvidence | None = None
    trust: ccverify.TrustStore = field(default_factory=ccverify.TrustStore.production)


@dataclass(frozen=True)
class Known:
    """What a process that has seen the devices before keeps: parsed collateral, signatures."""

    collateral: NvidiaCollateral
    pack: ccverify.CollateralPack | None
    memory: SignatureMemory = field(default_factory=SignatureMemory)


def manifests(*names: str) -> tuple[tuple[str, bytes], ...]:
    folder = VECTORS / "nvidia" / "rim"
    return tuple((name, (folder / MANIFESTS[name][0]).read_bytes()) for name in names)


def one_gpu() -> Input:
    folder = VECTORS / "nvidia" / "hopper" / "go-nvtrust"
    device = DeviceEvidence(
        report=decode_report_text((folder / "attestationReport.txt").read_bytes()),
        certificate_chain=(folder / "gpuAkCertChain.txt").read_bytes(),
        claimed_architecture="HOPPER",
        claimed_nonce=None,
        source="",
    )
    return Input("one GPU", (device,), manifests=manifests("driver", "vbios"))


def whole_node() -> Input:
    folder = VECTORS / "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"
    (gpus,) = parse_foreign_evidence((folder / "gpu_evidence.json").read_bytes()).nodes
    (switches,) = parse_foreign_evidence((folder / "switch_evidence.json").read_bytes()).nodes
    return Input(
        "1 quote, 8 GPUs, 4 NVSwitches",
        gpus.gpus,
        switches.switches,
        manifests(*MANIFESTS),
        (VECTORS / "tdx/quotes/phala_b0c06f_v4.bin").read_bytes(),
        (VECTORS / "tdx/collateral/phala_b0c06f_2025-06.json").read_bytes(),
    )


def simulated_node() -> Input:
    node = SimNode.hopper_ppcie().build()
    td = SimPlatform().evidence(at=node.at, report_data=node.nonce.ljust(64, b"\0"))
    (devices,) = parse_foreign_evidence(node.nvattest_json().encode()).nodes
    roots = map(ccverify.TrustAnchor.load, (td.root_der, node.device_root_der, node.rim_root_der))
    return Input(
        "simulated node, ccverify.check with verdict",
        devices.gpus,
        devices.switches,
        node.rims,
        td.quote_bytes,
        td.collateral.to_json().encode(),
        node.at,
        node,
        ccverify.TrustStore(ccverify.TrustKind.SIMULATED, *roots),
    )


# --- ccverify -------------------------------------------------------------------------------------


def forget() -> None:
    """Drop everything a process remembers between verifications."""
    for memory in (
        x509._parse_certificate,
        x509._parse_crl,
        x509._parse_pem_chain,
        rim._read_content,
        certs._read_statements,
        ocsp._cert_ids,
        ocsp_responder._read_delegate,
        pck._parse_extension,
    ):
        memory.cache_clear()


def learn(given: Input) -> Known:
    """Parse collateral and manifests for the first time."""
    pack = ccverify.parse_collateral(given.collateral) if given.collateral else None
    answers = map(parse_ocsp_response, given.simulated.ocsp if given.simulated else ())
    return Known(NvidiaCollateral.of(given.manifests, answers), pack)


def judge(given: Input, known: Known) -> None:
    """Every cryptographic step and every comparison; with a verdict where one is possible."""
    trust = replace(given.trust, memory=known.memory)
    if given.simulated is not None:
        verdict = ccverify.check(
            Evidence(given.quote, gpus=given.gpus, switches=given.switches),
            policy=POLICY,
            now=given.at,
            nonce=given.simulated.nonce,
            collateral=known.pack or ccverify.CollateralPack(),
            trust=trust,
            nvidia=known.collateral,
        )
        assert verdict.trusted, [f for f in verdict.findings if f.state is ccverify.State.FAIL]
        return
    if given.quote:
        assert known.pack is not None
        verify_quote(ccverify.parse_quote(given.quote), known.pack, trust, given.at)
    verifier = DeviceVerifier(known.collateral, trust, given.at)
    for kind, devices in ((GPU_545, given.gpus), (SWITCH_9610, given.switches)):
        for index, evidence in enumerate(devices):
            result = verifier.verify(kind, evidence, index)
            assert result.genuine
            assert (result.comparison is not None) == bool(given.manifests)


POLICY = ccverify.load_policy(b"""
schema: ccverify.policy/v1
name: benchmark
tdx:
  measurements: {mrtd: any, rtmr0: any, rtmr1: any, rtmr2: any, rtmr3: any}
gpus: {count: 8, architectures: [HOPPER], modes: [PPCIE]}
nvswitches: {count: 4, architectures: [LS10]}
topology: {kind: protected-pcie, gpus: 8, switches: 4}
binding: {profiles: [raw-nonce], relayable: accept}
""")


# --- the floor ------------------------------------------------------------------------------------

_Facts = dict[tuple[str, str, bytes, bytes, bytes], None]


def signatures(given: Input) -> tuple[_Facts, _Facts]:
    """Every different signature of a cold run, and those of them that a warm one has to verify."""
    known = learn(given)
    judge(given, known)
    cold = dict(known.memory._facts)
    fresh = {parse_attestation_report(one.report).signature for one in given.gpus + given.switches}
    if given.quote:
        # The quote's own signature is never remembered, so the memory does not list it.
        quote = ccverify.parse_quote(given.quote)
        fact = ("raw", "P-256", quote.attestation_key, quote.signature, quote.signed_range)
        cold.setdefault(fact)
        fresh.add(quote.signature)
    return cold, {fact: None for fact in cold if fact[3] in fresh}


def floor(facts: _Facts) -> Callable[[], None]:
    """Verify them, and do nothing else."""
    prepared = []
    for form, curve, point, signature, message in facts:
        if form == "raw":
            half = len(signature) // 2
            numbers = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
            signature = encode_dss_signature(*numbers)
        algorithm = ec.ECDSA(SHA256() if curve == "P-256" else SHA384())
        prepared.append((EcPublicKey(curve, point).handle, signature, message, algorithm))

    def run() -> None:
        for key, signature, message, algorithm in prepared:
            key.verify(signature, message, algorithm)

    return run


def counted(facts: _Facts) -> str:
    curves = [fact[1] for fact in facts]
    return f"{curves.count('P-256')} P-256 + {curves.count('P-384')} P-384"


# --- NVIDIA's verifier ----------------------------------------------------------------------------


def introduce(peer: Peer, given: Input) -> str | None:
    """Hand the devices over; why this input cannot be judged there, or None."""
    names = [name for name, _ in given.manifests]
    devices = [
        {
            "arch": one.claimed_architecture,
            "report": one.report.hex(),
            "chain": one.certificate_chain.hex(),
            "rims": [n for n in names if n.endswith("-switch") == (one in given.switches)],
        }
        for one in given.gpus + given.switches
    ]
    rims = {
        name: {"content": data.decode(), "at": MANIFESTS[name][1].isoformat()}
        for name, data in given.manifests
    }
    peer.ask("keep", devices=devices, rims=rims)
    return peer.ask("timed", at=given.at.isoformat()).get("error")


# --- measuring ------------------------------------------------------------------------------------

Contenders = dict[str, Callable[[], float | None]]


def contenders(given: Input, peer: Peer | None) -> tuple[Contenders, dict[str, str]]:
    """What is run, each returning its own seconds if it times itself; and the two floors."""
    cold_facts, warm_facts = signatures(given)
    seen = learn(given)
    judge(given, seen)
    remembered = {fact: None for fact in seen.memory._facts if fact not in warm_facts}

    def warm() -> None:
        memory = SignatureMemory(_facts=dict(remembered))
        judge(given, Known(seen.collateral, seen.pack, memory))

    def cold() -> None:
        forget()
        judge(given, learn(given))

    runs: dict[str, Callable[[], Any]] = {
        "floor, warm": floor(warm_facts),
        "ccverify, warm": warm,
        "floor, cold": floor(cold_facts),
        "ccverify, cold": cold,
    }
    if peer is not None:
        runs["nv-local-gpu-verifier"] = lambda: peer.ask("timed")["seconds"]
    return runs, {"warm": counted(warm_facts), "cold": counted(cold_facts)}


def measure(runs: Contenders, rounds: int) -> dict[str, float]:
    """Median milliseconds."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            if name == "ccverify, warm":
                run()  # untimed: the cold run of the last round made everything be forgotten
            start = time.process_time()
            own = run()
            samples[name].append(time.process_time() - start if own is None else own)
    return {name: statistics.median(values) * 1e3 for name, values in samples.items()}


def results(given: Input, peer: Peer | None, rounds: int) -> dict[str, Any]:
    if given.simulated is not None:
        problem: str | None = "it knows no roots but NVIDIA's own"
    else:
        problem = introduce(peer, given) if peer else "no interpreter given, see --peer"
    runs, floors = contenders(given, None if problem else peer)
    medians = measure(runs, rounds)
    theirs = medians.get("nv-local-gpu-verifier")
    ratios = {
        state: {
            "floor": medians[f"ccverify, {state}"] / medians[f"floor, {state}"],
            "nv-local-gpu-verifier": theirs and theirs / medians[f"ccverify, {state}"],
        }
        for state in ("warm", "cold")
    }
    return {
        "input": given.name,
        "signatures": floors,
        "median_ms": medians,
        "ratios": ratios,
        "peer_skipped": problem,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--peer", default=interpreter(), help="Python with nv-local-gpu-verifier")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    arguments = parser.parse_args()
    if not VECTORS.is_dir():
        sys.exit(f"{VECTORS} is absent: this benchmark needs real evidence")
    peer = Peer(arguments.peer) if arguments.peer else None
    found = [
        results(given, peer, arguments.rounds)
        for given in (one_gpu(), whole_node(), simulated_node())
    ]
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for one in found:
        print(f"{one['input']}; {arguments.rounds} rounds, medians")
        for name, value in one["median_ms"].items():
            state = name.rpartition(", ")[2]
            note = ""
            if name.startswith("floor"):
                note = one["signatures"][state]
            elif name.startswith("ccverify"):
                note = f"{one['ratios'][state]['floor']:.2f} × floor"
                if one["ratios"][state]["nv-local-gpu-verifier"]:
                    note += f", {one['ratios'][state]['nv-local-gpu-verifier']:.1f} × as fast as it"
            print(f"  {name:24} {value:9.3f} ms  {note}")
        if one["peer_skipped"]:
            print(f"  nv-local-gpu-verifier is skipped: {one['peer_skipped']}")


if __name__ == "__main__":
    main()
