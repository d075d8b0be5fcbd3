"""Protected PCIe: the attested devices of a node, held against the policy's topology."""

from __future__ import annotations

from collections.abc import Sequence

from ccverify.fabric.topology import (
    GpuIdentity,
    NodeShape,
    SwitchIdentity,
    TopologyCode,
    TopologyProblem,
    appraise_protected_pcie,
)
from ccverify.findings import Assurance, FindingList
from ccverify.nvidia.device import DeviceVerification
from ccverify.nvidia.gpu import mode_name
from ccverify.nvidia.opaque import GpuOpaqueData, SwitchOpaqueData
from ccverify.policy.model import TopologyPolicy

__all__ = ["judge_topology"]


def judge_topology(
    policy: TopologyPolicy,
    gpus: Sequence[DeviceVerification],
    switches: Sequence[DeviceVerification],
    assurance: Assurance,
) -> FindingList:
    """Judge whether the devices are one complete Protected PCIe node.

    Only devices whose report is genuine take part: what others say of the fabric is nobody's
    word, and their absence shows in the counts and lists.

    Args:
        policy: the section ``topology``.
        gpus: every GPU presented.
        switches: every NVSwitch presented.
        assurance: the weakest of the devices'.
    """
    problems = appraise_protected_pcie(
        [identity for device in gpus if (identity := _gpu(device))],
        [named for device in switches if (named := _switch(device))],
        NodeShape(policy.gpus, policy.switches),
    )
    by_code: dict[TopologyCode, list[TopologyProblem]] = {}
    for problem in problems:
        by_code.setdefault(problem.code, []).append(problem)
    allowed = {
        TopologyCode.MIXED_FIRMWARE: policy.allow_mixed_firmware,
        TopologyCode.MIXED_DRIVER: policy.allow_mixed_driver,
    }
    genuine = sum(each.genuine for each in (*gpus, *switches))
    findings = FindingList("topology")
    for code in TopologyCode:
        found = by_code.get(code, [])
        if allowed.get(code):
            reason = "; ".join(f"{each.where}: {each.found}" for each in found) or "no difference"
            findings.not_applicable(code.value, f"the policy allows it: {reason}")
        elif found:
            text = "; ".join(f"{each.where}: {each.found}" for each in found)
            findings.failed(code.value, found[0].expected, text, found[0].where, assurance)
        else:
            findings.passed(code.value, f"{genuine} attested devices", None, assurance)
    return findings


def _gpu(device: DeviceVerification) -> GpuIdentity | None:
    opaque = device.opaque
    if device.device_id is None or not isinstance(opaque, GpuOpaqueData):
        return None
    mode = mode_name(opaque)
    return GpuIdentity(
        device_id=device.device_id,
        switch_pdis=opaque.switch_pdis or (),
        mode=None if mode == "NOT_STATED" else mode,
        firmware=opaque.vbios_version or "not stated",
        driver=opaque.driver_version or "not stated",
    )


def _switch(device: DeviceVerification) -> SwitchIdentity | None:
    opaque = device.opaque
    if device.device_id is None or not isinstance(opaque, SwitchOpaqueData):
        return None
    return SwitchIdentity(
        device_id=device.device_id,
        reported_pdi=opaque.device_pdi or bytes(8),
        gpu_pdis=opaque.gpu_pdis.pdis if opaque.gpu_pdis else (),
        position=opaque.position_id,
        locked=opaque.locked,
        firmware=opaque.vbios_version or "not stated",
    )
