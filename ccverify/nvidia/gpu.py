"""GPUs: what sets them apart from NVSwitches."""

from __future__ import annotations

from ccverify.errors import EvidenceError
from ccverify.nvidia.certs import DeviceChain
from ccverify.nvidia.device import DeviceClass, OpaqueData
from ccverify.nvidia.identity import DeviceType
from ccverify.nvidia.measurements import MeasurementComparison, compare_measurements
from ccverify.nvidia.opaque import GpuMode, GpuOpaqueData, parse_gpu_opaque_data
from ccverify.nvidia.rim import Rim
from ccverify.nvidia.rim_set import RimId, gpu_rim_ids
from ccverify.nvidia.spdm import AttestationReport

__all__ = ["GPU", "NOT_STATED", "mode_name"]

NOT_STATED = "NOT_STATED"
"""The mode of a GPU whose report states none: Hopper before OPAQUE_DATA_VERSION 1."""

_MODE_NAMES = {GpuMode.SPT: "SPT", GpuMode.MPT: "MPT", GpuMode.PROTECTED_PCIE: "PPCIE"}
_NEEDED_FIELDS = ("driver_version", "vbios_version", "project", "project_sku", "chip_sku")


def mode_name(opaque: GpuOpaqueData) -> str:
    """Return the mode as policies spell it: ``SPT``, ``MPT``, ``PPCIE`` or ``NOT_STATED``.

    A report that contradicts itself states none; `GpuOpaqueData.mode_reading` says so.
    """
    mode = opaque.mode
    return NOT_STATED if mode is None else _MODE_NAMES[mode]


def _rim_ids(opaque: OpaqueData, chain: DeviceChain) -> tuple[RimId, ...]:
    if not isinstance(opaque, GpuOpaqueData) or chain.architecture is None:
        raise EvidenceError("there are no manifests for a device that is not a known GPU")
    for attribute in _NEEDED_FIELDS:
        if getattr(opaque, attribute) is None:
            name = attribute.upper()
            raise EvidenceError(f"the report lacks {name}, which names its manifest")
    return gpu_rim_ids(
        architecture=chain.architecture.value.partition("-")[0],
        driver_version=opaque.driver_version or "",
        vbios_version=opaque.vbios_version or "",
        project=opaque.project or "",
        project_sku=opaque.project_sku or "",
        chip_sku=opaque.chip_sku or "",
        chip_info=opaque.chip_info,
    )


def _compare(
    report: AttestationReport, opaque: OpaqueData, rims: tuple[Rim, ...]
) -> MeasurementComparison:
    driver, vbios = rims
    disabled = getattr(opaque, "nvdec0_enabled", None) is False
    values = {each.index: each.value for each in report.measurements}
    return compare_measurements(values, driver, vbios, nvdec0_disabled=disabled)


GPU = DeviceClass("GPU", "gpu", "GPU", DeviceType.GPU, parse_gpu_opaque_data, _rim_ids, _compare)
