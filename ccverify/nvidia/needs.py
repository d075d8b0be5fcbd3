"""What collateral a device's evidence asks for: the ids of its manifests, and its chain.

The chain is verified first, so that NVIDIA's services are asked about NVIDIA's devices alone.
Their addresses are fixed; none is ever read from evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ccverify.errors import EvidenceError
from ccverify.evidence import DeviceEvidence
from ccverify.nvidia.certs import parse_device_chain, verify_device_chain
from ccverify.nvidia.device import DeviceClass
from ccverify.nvidia.gpu import GPU
from ccverify.nvidia.nvswitch import NVSWITCH
from ccverify.nvidia.rim_set import RimId
from ccverify.nvidia.spdm import parse_attestation_report
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import Certificate

__all__ = ["DeviceNeeds", "device_needs"]


@dataclass(frozen=True, slots=True)
class DeviceNeeds:
    """What one device needs.

    Attributes:
        rims: ids of its manifests.
        chain: its certificates below the root, [0] first; all but [0] have a revocation status.
    """

    rims: tuple[RimId, ...]
    chain: tuple[Certificate, ...]


def device_needs(
    gpus: Iterable[DeviceEvidence],
    switches: Iterable[DeviceEvidence],
    root: TrustAnchor,
    memory: SignatureMemory,
) -> tuple[DeviceNeeds, ...]:
    """Return what these devices need, GPUs first.

    Args:
        gpus: evidence of devices listed as GPUs.
        switches: evidence of devices listed as NVSwitches.
        root: NVIDIA's device root, `TrustStore.nvidia_device_root`.
        memory: signature memory.

    Raises:
        EvidenceError: a report or chain is malformed, the chain does not lead to the root, or
            the report lacks a part of an id.
    """
    listed = [(device, GPU) for device in gpus] + [(device, NVSWITCH) for device in switches]
    needs = []
    for device, kind in listed:
        try:
            needs.append(_needs(device, kind, root, memory))
        except EvidenceError as problem:
            where = f"{device.source}: {problem.where}" if problem.where else device.source
            raise EvidenceError(
                problem.message,
                expected=problem.expected,
                found=problem.found,
                where=where or None,
                hint=problem.hint,
            ) from None
    return tuple(needs)


def _needs(
    device: DeviceEvidence, kind: DeviceClass, root: TrustAnchor, memory: SignatureMemory
) -> DeviceNeeds:
    chain = verify_device_chain(parse_device_chain(device.certificate_chain), root, memory)
    if chain.problem is not None or chain.device_type is not kind.device_type:
        raise EvidenceError(
            f"there is no collateral for a device that is listed as {kind.noun}",
            expected=f"certificates of such a device ({kind.noun}), up to {root.label}",
            found=chain.problem or f"the chain of another device ({chain.chip})",
        )
    opaque = kind.parse_opaque(parse_attestation_report(device.report).opaque_data)
    return DeviceNeeds(kind.rim_ids(opaque, chain), chain.certificates)
