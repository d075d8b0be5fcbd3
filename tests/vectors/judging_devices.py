"""Nodes with devices: the real one, simulated ones, policies for both, one call to judge each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from vectors.nvidia_evidence import PPCIE

from ccverify import (
    CollateralPack,
    Finding,
    Policy,
    State,
    TrustAnchor,
    TrustKind,
    TrustStore,
    Verdict,
    check,
    policy_from_document,
)
from ccverify.evidence import DeviceEvidence, Evidence
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.ocsp import OcspResponse, parse_ocsp_response
from ccverify.sim import SimIssuer
from ccverify.sim.nvidia import BuiltDevice, SimNode, SimNvidiaIssuer
from ccverify.trust.x509 import Crl, parse_crl

Json = dict[str, Any]
Ended = dict[tuple[str, str | None], State]

REAL_NONCE = bytes.fromhex("4760e30534a0621357d458b1a7936551b5dc4cd1e69718adf7ed9fb0252a537e")
REAL_AT = datetime(2026, 11, 21, tzinfo=UTC)

STRICT: Json = {
    "gpus": {"count": 8, "architectures": ["HOPPER"], "modes": ["PPCIE"]},
    "nvswitches": {"count": 4, "architectures": ["LS10"]},
    "topology": {"kind": "protected-pcie", "gpus": 8, "switches": 4},
}
"""A whole HGX Hopper node in Protected PCIe mode."""

# Of the real node's versions no manifest is public, and nobody kept an answer about revocation.
_OFFLINE = {"rim": "any", "revocation": "if-given"}
OFFLINE: Json = STRICT | {name: STRICT[name] | _OFFLINE for name in ("gpus", "nvswitches")}
"""The same without collateral."""


def rules(base: Json, **sections: Any) -> Policy:
    """Return the policy of this document with sections merged; a word or None replaces one."""
    document: Json = {"schema": "ccverify.policy/v1"} | base
    for name, value in sections.items():
        old = document.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            document[name] = {k: v for k, v in {**old, **value}.items() if v is not None}
        else:
            document[name] = value
    return policy_from_document({k: v for k, v in document.items() if v is not None})


# --- the real node ---


@cache
def real_node(vectors: Path) -> Evidence:
    """NVIDIA's own 8 H100 and 4 NVSwitches, of two files, as one node."""
    (gpus,) = parse_foreign_evidence((vectors / PPCIE / "gpu_evidence.json").read_bytes()).nodes
    (rest,) = parse_foreign_evidence((vectors / PPCIE / "switch_evidence.json").read_bytes()).nodes
    assert (len(gpus.gpus), len(rest.switches)) == (8, 4)
    return Evidence(gpus=gpus.gpus, switches=rest.switches, binding=gpus.binding)


_PRODUCTION = TrustStore.production()


def judge(evidence: Evidence, policy: Policy, **more: Any) -> Verdict:
    """Judge real evidence under the pinned roots, without collateral unless it is given."""
    arguments: dict[str, Any] = {
        "now": REAL_AT,
        "nonce": REAL_NONCE,
        "collateral": CollateralPack(),
        "trust": _PRODUCTION,
    }
    return check(evidence, policy=policy, **(arguments | more))


# --- simulated nodes ---


@cache
def sim_store(kind: TrustKind = TrustKind.SIMULATED) -> TrustStore:
    """The simulated roots of both vendors."""
    issuer = SimNvidiaIssuer()
    return TrustStore(
        kind,
        TrustAnchor.load(SimIssuer().root().der()),
        nvidia_device_root=TrustAnchor.load(issuer.device_root().der()),
        nvidia_rim_root=TrustAnchor.load(issuer.rim_root().der()),
    )


def evidence_of(devices: Iterable[BuiltDevice]) -> tuple[DeviceEvidence, ...]:
    """Return built devices as evidence."""
    return tuple(
        DeviceEvidence(one.report, one.chain_pem, one.architecture, one.nonce, one.label)
        for one in devices
    )


def sim_evidence(node: SimNode, **more: Any) -> Evidence:
    """Return the evidence of a simulated node."""
    built = node.build()
    return Evidence(gpus=evidence_of(built.gpus), switches=evidence_of(built.switches), **more)


def sim_collateral(node: SimNode) -> NvidiaCollateral:
    """Return manifests and revocation answers of a simulated node."""
    built = node.build()
    answers: list[OcspResponse | Crl] = list(map(parse_ocsp_response, built.ocsp))
    answers += map(parse_crl, built.crls)
    return NvidiaCollateral.of(built.rims, answers)


def judge_node(
    node: SimNode, policy: Policy, evidence: Evidence | None = None, **more: Any
) -> Verdict:
    """Judge a simulated node with its own collateral and nonce."""
    arguments: dict[str, Any] = {
        "now": node.at,
        "nonce": node.nonce,
        "collateral": CollateralPack(),
        "trust": sim_store(),
    }
    if "nvidia" not in more:
        arguments["nvidia"] = sim_collateral(node)
    return check(evidence or sim_evidence(node), policy=policy, **(arguments | more))


# --- what a verdict says ---


def against(verdict: Verdict) -> Ended:
    """Code and subject of what keeps it from being trusted → how that check ended."""
    return {(f.code, f.subject): f.state for f in verdict.failures()}


def failed_codes(verdict: Verdict) -> set[str]:
    """Codes of the needed checks that failed."""
    return {f.code for f in verdict.failures() if f.state is State.FAIL}


def open_codes(verdict: Verdict) -> set[str]:
    """Codes of the needed checks that were not made, or do not apply and should."""
    return {f.code for f in verdict.failures() if f.state is not State.FAIL}


def one(verdict: Verdict, code: str, subject: str | None = None) -> Finding:
    """The one finding with that code and subject."""
    (found,) = (f for f in verdict.findings if (f.code, f.subject) == (code, subject))
    return found
