"""Do policy and evidence speak of the same parts of a node?"""

from __future__ import annotations

from collections.abc import Mapping

from ccverify.appraisal.bundle import absence_reason
from ccverify.appraisal.devices import DevicesPart
from ccverify.bundle.manifest import AbsenceEntry
from ccverify.evidence import Evidence
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.policy.model import Any, FabricPolicy, Policy, TopologyPolicy

__all__ = ["judge_classes"]

_LABELS = {"tdx": "tdx-quote", "gpus": "gpu", "nvswitches": "nvswitch"}
"""Part of a node → what a bundle calls it, or how its labels begin."""


def judge_classes(
    policy: Policy,
    evidence: Evidence,
    devices: DevicesPart,
    absences: Mapping[str, AbsenceEntry],
) -> tuple[Finding, ...]:
    """Judge each part that the policy asks for, or the evidence holds.

    What the policy asks for and is not there FAILs; what is there and the policy does not
    mention is NOT_CHECKED, so that nothing nobody looked at can read as trusted.
    """
    code = "NODE-CLASSES"
    findings: list[Finding] = []
    switches = evidence.switches
    for subject, what, section, found in (
        ("tdx", "a TDX quote", policy.tdx, _some(bool(evidence.quote), "quote")),
        ("gpus", "GPU evidence", policy.gpus, _some(len(evidence.gpus), "GPUs")),
        ("nvswitches", "NVSwitch evidence", policy.nvswitches, _some(len(switches), "NVSwitches")),
    ):
        made = FindingList(subject)
        if isinstance(section, Any):
            if found:
                made.not_applicable(code, f"the policy leaves it aside, knowingly: {found}")
        elif section is None:
            if found:
                made.skipped(code, f"the policy says nothing of it: {found}")
        elif found:
            made.passed(code, found, assurance=Assurance.NONE)
        else:
            said = absence_reason(absences, _LABELS[subject])
            made.failed(code, what, f"none ({said})" if said else "none")
        findings += made
    other = evidence.other_cpu
    if other is not None:
        made = FindingList("other-cpu")
        made.skipped(code, f"evidence of {other.technology} is not verified by this version")
        findings += made
    made = FindingList("topology")
    if policy.topology is None and (switches or devices.protected_pcie):
        reason = "NVSwitches attested" if switches else "GPUs are in Protected PCIe mode"
        made.skipped(code, f"{reason}, and the policy says nothing of topology")
    elif isinstance(policy.topology, TopologyPolicy) and devices.topology is None:
        made.failed(code, "GPUs and NVSwitches that are judged", "none")
    findings += made
    findings += _fabric(policy, devices)
    if all(each.state is State.NOT_APPLICABLE for each in findings):
        made = FindingList("node")
        made.skipped(code, "the policy leaves aside all that there is: nothing is judged")
        findings += made
    return tuple(findings)


def _fabric(policy: Policy, devices: DevicesPart) -> FindingList:
    """The fabric of GPUs in multi-GPU mode: nobody signs who shares it, so silence is no answer."""
    code, made = "NODE-CLASSES", FindingList("fabric")
    said = "GPUs are in multi-GPU mode (MPT), and nobody signs who shares their NVLink fabric"
    if isinstance(policy.fabric, FabricPolicy):
        if not devices.gpus:
            made.failed(code, "GPUs that are judged", "none")
    elif devices.multi_gpu:
        if policy.fabric is None:
            made.skipped(code, f"{said}; the policy says nothing of it")
        else:
            made.not_applicable(code, f"the policy leaves it aside, knowingly: {said}")
    return made


def _some(count: int, what: str) -> str:
    return f"{int(count)} {what}" if count else ""
