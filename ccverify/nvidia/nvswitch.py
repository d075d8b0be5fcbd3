"""NVSwitches: what sets them apart from GPUs."""

from __future__ import annotations

from ccverify.errors import EvidenceError
from ccverify.nvidia.certs import DeviceChain
from ccverify.nvidia.device import DeviceClass, OpaqueData
from ccverify.nvidia.identity import DeviceType
from ccverify.nvidia.measurements import MeasurementComparison, compare_measurements
from ccverify.nvidia.opaque import parse_switch_opaque_data
from ccverify.nvidia.rim import Rim
from ccverify.nvidia.rim_set import RimId, switch_rim_id
from ccverify.nvidia.spdm import AttestationReport

__all__ = ["NVSWITCH"]


def _rim_ids(opaque: OpaqueData, chain: DeviceChain) -> tuple[RimId, ...]:
    if opaque.vbios_version is None:
        raise EvidenceError("the report lacks VBIOS_VERSION, which names its manifest")
    return (switch_rim_id(opaque.vbios_version),)


def _compare(
    report: AttestationReport, opaque: OpaqueData, rims: tuple[Rim, ...]
) -> MeasurementComparison:
    values = {each.index: each.value for each in report.measurements}
    return compare_measurements(values, None, rims[0], nvdec0_disabled=False)


NVSWITCH = DeviceClass(
    "NVSWITCH",
    "nvswitch",
    "NVSwitch",
    DeviceType.NVSWITCH,
    parse_switch_opaque_data,
    _rim_ids,
    _compare,
)
