"""Checks of what the guest measured over NVLink (docs/fabric-probes.md)."""

from __future__ import annotations

from dataclasses import replace

from ccverify.checks.model import Category, Check, Need, Scope

__all__ = ["PROBE_CHECKS"]

_MEASURED = "where measurements are judged"
_OPERATOR = "Measure again; if it stays so, ask the operator to look after fabric and partition."

_PROBE = (
    Check(
        "FABRIC-PROBE",
        "The guest's measurements are there and readable",
        Category.EVIDENCE,
        Need.UNLESS_WAIVED,
        "The bundle holds measurements in their own format, made by code in the guest.",
        "A machine that does not show what its fabric can do.",
        "Collect with --probe and the extra `probe` installed; or set fabric.probe.",
        "unless the policy says `any`, or `if-given` and there are none",
    ),
    Check(
        "FABRIC-PROBE-ACCESS",
        "Every GPU can access every other",
        Category.POLICY,
        Need.UNLESS_WAIVED,
        "CUDA grants each GPU access to the memory of each other, as members of one live "
        "partition have.",
        "A partition that is registered and does not work.",
        _OPERATOR,
        f"{_MEASURED} of several GPUs, unless the policy says `access: any`",
    ),
    Check(
        "FABRIC-PROBE-BANDWIDTH",
        "Bandwidth between GPUs is in the policy's bands",
        Category.POLICY,
        Need.IF_ASKED,
        "Copies between every pair of GPUs were as fast as the policy asks, in one direction and "
        "in both.",
        "Traffic that goes over PCIe, or a partition with a part of its links.",
        _OPERATOR,
        f"{_MEASURED}, if the policy names a bandwidth",
    ),
    Check(
        "FABRIC-PROBE-LATENCY",
        "Latency between GPUs is in the policy's bands",
        Category.POLICY,
        Need.IF_ASKED,
        "Small copies between every pair of GPUs took no longer than the policy allows.",
        "Traffic that takes another way than NVLink.",
        _OPERATOR,
        f"{_MEASURED}, if the policy names a latency",
    ),
    Check(
        "FABRIC-PROBE-TRAFFIC",
        "Traffic shows in the counters of its two ends, and nowhere else",
        Category.POLICY,
        Need.UNLESS_WAIVED,
        "What was sent from one GPU to another appears in the NVLink counters of exactly these "
        "two, and little else was counted meanwhile.",
        "Traffic of others on the tenant's links, or a partition that relays through others.",
        _OPERATOR,
        f"{_MEASURED} with counters, unless the policy says `traffic: any`",
    ),
)
PROBE_CHECKS = tuple(replace(check, scope=Scope.FABRIC) for check in _PROBE)
