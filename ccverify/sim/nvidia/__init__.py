"""Simulated NVIDIA devices: GPUs and NVSwitches, their manifests and revocation answers.

**Everything here is simulated and proves nothing about any real machine**; see
`ccverify.sim`.  The roots are `SimNvidiaIssuer.device_root` and `.rim_root`, never NVIDIA's.

    from ccverify.sim.nvidia import SimNode

    evidence = SimNode.hopper_ppcie().build()
    evidence.nvattest_json()                        # 8 GPUs and 4 switches in one file
    evidence.rims, evidence.ocsp                    # collateral
    evidence.device_root_der, evidence.rim_root_der, evidence.timestamp

Start from the `SimNode` to change anything: certificates, any field of a report, golden
values, answers about revocation.
"""

from __future__ import annotations

from ccverify.sim.nvidia.chips import CHIPS, GB20X, GB100, GH100, LS10, Chip
from ccverify.sim.nvidia.device import (
    DEFAULT_NONCE,
    BuiltDevice,
    SimDevice,
    sim_gpu,
    sim_switch,
)
from ccverify.sim.nvidia.models import (
    B200,
    B300,
    H100,
    NVSWITCH3,
    RTX_PRO_6000,
    GpuModel,
    SwitchModel,
)
from ccverify.sim.nvidia.node import NodeEvidence, SimNode
from ccverify.sim.nvidia.ocsp import OcspAnswer, OcspSpec
from ccverify.sim.nvidia.opaque import GpuFields, SwitchFields
from ccverify.sim.nvidia.pki import SimNvidiaIssuer
from ccverify.sim.nvidia.rim import GoldenValue, RimSpec
from ccverify.sim.nvidia.spdm import MeasurementBlock, ReportSpec

__all__ = [
    "B200",
    "B300",
    "CHIPS",
    "DEFAULT_NONCE",
    "GB20X",
    "GB100",
    "GH100",
    "H100",
    "LS10",
    "NVSWITCH3",
    "RTX_PRO_6000",
    "BuiltDevice",
    "Chip",
    "GoldenValue",
    "GpuFields",
    "GpuModel",
    "MeasurementBlock",
    "NodeEvidence",
    "OcspAnswer",
    "OcspSpec",
    "ReportSpec",
    "RimSpec",
    "SimDevice",
    "SimNode",
    "SimNvidiaIssuer",
    "SwitchFields",
    "SwitchModel",
    "sim_gpu",
    "sim_switch",
]
