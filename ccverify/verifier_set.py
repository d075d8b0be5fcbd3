"""Several nodes of one response: a verdict for each, and one for all.

`check_nodes` is a pure function like `ccverify.verifier.check`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ccverify.errors import EvidenceError
from ccverify.evidence import Evidence, NodeRole
from ccverify.findings import FindingList
from ccverify.listing import listed
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.device import DeviceVerification
from ccverify.nvidia.opaque import GpuMode, GpuOpaqueData
from ccverify.policy.model import Policy
from ccverify.results.verdict import Verdict
from ccverify.results.verdict_set import VerdictSet
from ccverify.tdx.collateral import CollateralPack
from ccverify.tdx.quote import decode_quote_text, parse_quote
from ccverify.trust.store import TrustStore
from ccverify.verifier import check

__all__ = ["check_nodes"]

_PDI_BYTES = 8

_NO_DEVICE_COLLATERAL = NvidiaCollateral()
_PROBLEMS_NAMED = 8
"""Of what is shared: the rest is counted, so that no finding outgrows the evidence."""


def check_nodes(
    nodes: Sequence[Evidence],
    *,
    policy: Policy,
    now: datetime,
    nonce: bytes | None,
    collateral: CollateralPack,
    trust: TrustStore,
    nvidia: NvidiaCollateral = _NO_DEVICE_COLLATERAL,
    report_data: bytes | None = None,
    channel: Mapping[str, str] | None = None,
    source_format: str = "",
    not_read: Iterable[str] = (),
) -> VerdictSet:
    """Judge every node of a response by one policy, and what holds only of all together.

    Bad evidence and bad collateral never raise: they end in findings.

    Args:
        nodes: from `ccverify.interop.detect.parse_foreign_evidence`.
        policy: as for `ccverify.verifier.check`, like all that follow; the same for every node.
        now: evaluation time.
        nonce: the relying party's nonce.
        collateral: what Intel published.
        trust: trust anchors.
        nvidia: what NVIDIA published.
        report_data: all of REPORTDATA, instead of a nonce.
        channel: what the relying party sees of the channel.
        source_format: name of the format the nodes came in, for the record.
        not_read: paths of evidence that was left aside, for the record.

    Raises:
        UsageError: an argument is impossible.
    """
    verdicts = [
        check(
            node,
            policy=policy,
            now=now,
            nonce=nonce,
            collateral=collateral,
            trust=trust,
            nvidia=nvidia,
            report_data=report_data,
            channel=channel,
        )
        for node in nodes
    ]
    findings = FindingList()
    roles = [node.role for node in nodes]
    workloads = roles.count(NodeRole.WORKLOAD)
    findings.ended(
        "SET-WORKLOAD",
        None if workloads else f"{len(roles)} nodes, all of them gateways",
        expected="at least one node that runs the workload",
        found=f"{workloads} of {len(roles)} nodes",
    )
    findings.ended(
        "SET-DISTINCT",
        listed(_shared(nodes, verdicts), _PROBLEMS_NAMED) or None,
        expected="quote, GPUs and NVSwitches of its own for each node",
        found=f"{len(roles)} nodes",
    )
    inputs = {"format": source_format, "nodes": len(nodes), "not_read": list(not_read)}
    return VerdictSet.of(verdicts, findings, inputs)


def _shared(nodes: Sequence[Evidence], verdicts: Sequence[Verdict]) -> list[str]:
    """What stands in more than one node.

    By content as well as by what was proven: a node that fails hides nothing it shares.
    """
    first: dict[tuple[str, bytes], int] = {}
    names = [node.label or f"node {number}" for number, node in enumerate(nodes, 1)]
    problems = []
    for number, (node, verdict) in enumerate(zip(nodes, verdicts, strict=True)):
        for what, mark in dict.fromkeys(_marks(node, verdict)):
            other = first.setdefault((what, mark), number)
            if other != number:
                shown = mark.hex().upper() if len(mark) == _PDI_BYTES else mark.hex()[:16]
                problems.append(f"{names[number]} and {names[other]} have one {what}: {shown}")
    return problems


def _marks(node: Evidence, verdict: Verdict) -> Iterable[tuple[str, bytes]]:
    if node.quote:
        yield "quote", _quote_mark(node.quote)
    for device in (*node.gpus, *node.switches):
        yield "device report", hashlib.sha384(device.report.rstrip(b"\0")).digest()
    for claims in (*verdict.gpus, *verdict.nvswitches):
        chain = claims.verification.chain
        if chain is not None and chain.device_id is not None:
            yield "device", chain.device_id
    for claims in verdict.gpus:
        for switch in _fabric(claims.verification):
            yield "device", switch


def _fabric(gpu: DeviceVerification) -> Iterable[bytes]:
    """The NVSwitches to which a GPU in Protected PCIe mode signed that it is connected.

    In that mode a board belongs to one machine.  The GPUs say so even where the switches
    themselves send no evidence: a GPU that was moved into another node names the switches of
    its own.
    """
    data = gpu.opaque
    if gpu.genuine and isinstance(data, GpuOpaqueData) and data.mode is GpuMode.PROTECTED_PCIE:
        yield from (pdi for pdi in data.switch_pdis or () if pdi.strip(b"\0"))


def _quote_mark(data: bytes) -> bytes:
    """What the signature covers: padding and form of the text make no other quote."""
    try:
        return hashlib.sha384(parse_quote(decode_quote_text(data)).signed_range).digest()
    except EvidenceError:
        return hashlib.sha384(data).digest()
