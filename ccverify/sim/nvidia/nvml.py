"""A stand-in for ``pynvml``, the module of nvidia-ml-py, over the GPUs of a simulated machine.

It has the functions and structs that reading reports, links and fabric takes, with the names,
signatures and habits of nvidia-ml-py 13: refusals raise `NVMLError`, some wrappers hand the return
code through instead, and newer structs are missing as they are under an older driver.  What it
says is consistent with what the GPUs sign: identifiers, firmware, mode, switches behind links.
"""

# ruff: noqa: N802, N815  (the names are those of nvidia-ml-py)

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ccverify.sim.machine import SimMachine
from ccverify.sim.nvidia.opaque import GpuFields

__all__ = ["NVMLError", "SimNvml"]

_SUCCESS, _INVALID_ARGUMENT, _NOT_SUPPORTED = 0, 2, 3
_ARCHITECTURES = {"HOPPER": 9, "BLACKWELL": 10}
_PRODUCTION, _INTEL_TDX = 2, 2
_MODES = {"PPCIE": 1, "MPT": 2}
_IN_PROGRESS, _COMPLETED, _HEALTHY = 2, 3, 1
# Nothing degraded or unhealthy (2 = no), configuration right, partition assigned, FM connected.
_HEALTH = 2 | 2 << 2 | 2 << 4 | 2 << 6 | 1 << 8 | 1 << 12 | 1 << 14
_TO_SWITCH, _SYSTEM = 2, 50
_GPU_BUS, _SWITCH_BUS = 0x10, 0x80
_SWITCH_DEVICE = 0x22A310DE

_u8, _u32 = ctypes.c_uint8, ctypes.c_uint32


class NVMLError(Exception):
    """A refusal; `value` is the return code."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML return code {value}")
        self.value = value


class _Settings(ctypes.Structure):
    _fields_ = (
        ("version", _u32),
        ("environment", _u32),
        ("ccFeature", _u32),
        ("devToolsMode", _u32),
        ("multiGpuMode", _u32),
    )


class _PlatformInfo(ctypes.Structure):
    _fields_ = (
        ("version", _u32),
        ("ibGuid", _u8 * 16),
        ("chassisSerialNumber", _u8 * 16),
        ("slotNumber", _u8),
        ("trayIndex", _u8),
        ("hostId", _u8),
        ("peerType", _u8),
        ("moduleId", _u8),
    )


class _FabricInfo(ctypes.Structure):
    _fields_ = (
        ("version", _u32),
        ("clusterUuid", _u8 * 16),
        ("status", _u32),
        ("cliqueId", _u32),
        ("state", _u8),
        ("healthMask", _u32),
        ("healthSummary", _u8),
    )


class _NvLinkInfo(ctypes.Structure):
    _fields_ = (("version", _u32), ("isNvleEnabled", _u32))


def _filled(reference: Any) -> Any:
    """The struct behind ``ctypes.byref``."""
    return reference._obj


def _no_wait(number: int) -> None:
    pass


class SimNvml:
    """NVML as the guest of a simulated machine sees it; several threads may ask at once.

    Args:
        machine: whose GPUs.
        wait: is called with the number of a GPU before it makes a report, for latency.
    """

    NVMLError = NVMLError
    NVML_SUCCESS = _SUCCESS
    NVML_ERROR_INVALID_ARGUMENT = _INVALID_ARGUMENT
    NVML_ERROR_NOT_SUPPORTED = _NOT_SUPPORTED
    NVML_NVLINK_MAX_LINKS = 36
    c_nvmlSystemConfComputeSettings_v1_t = _Settings
    c_nvmlPlatformInfo_v2_t = _PlatformInfo
    c_nvmlGpuFabricInfo_v3_t = _FabricInfo
    c_nvmlNvLinkInfo_v1_t = _NvLinkInfo

    def __init__(self, machine: SimMachine, wait: Callable[[int], None] = _no_wait) -> None:
        self._machine = machine
        self._gpus = machine.node.gpus
        self._wait = wait
        # The mode is the machine's: every GPU signs the same, unless a test changed one of them.
        self._mode = _mode(self._gpus[0].report.opaque) if self._gpus else 0

    def nvmlInit(self) -> None:
        """Nothing is needed."""

    def nvmlShutdown(self) -> None:
        """Nothing is held."""

    # --- the machine ---

    def nvmlSystemGetDriverVersion(self) -> str:
        """Return the driver's version."""
        return (self._gpus[0].driver_version if self._gpus else None) or "595.58.03"

    def nvmlSystemGetNVMLVersion(self) -> str:
        """Return the library's version."""
        return f"13.{self.nvmlSystemGetDriverVersion()}"

    def nvmlSystemGetConfComputeState(self) -> SimpleNamespace:
        """Return the state; under Protected PCIe the feature itself is stated as off."""
        feature = int(self._mode != _MODES["PPCIE"])
        return SimpleNamespace(environment=_PRODUCTION, ccFeature=feature, devToolsMode=0)

    def nvmlSystemGetConfComputeSettings(self, reference: Any) -> int:
        """Fill the settings and return the code, as the wrapper does."""
        settings, state = _filled(reference), self.nvmlSystemGetConfComputeState()
        settings.environment, settings.ccFeature = state.environment, state.ccFeature
        settings.devToolsMode, settings.multiGpuMode = 0, self._mode
        return _SUCCESS

    def nvmlSystemGetConfComputeCapabilities(self) -> SimpleNamespace:
        """Return what CPU and GPUs can do."""
        return SimpleNamespace(cpuCaps=_INTEL_TDX, gpusCaps=1)

    def nvmlSystemGetConfComputeGpusReadyState(self) -> int:
        """Return that the GPUs take work."""
        return 1

    def nvmlDeviceGetCount(self) -> int:
        """Return how many GPUs there are."""
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """Return the handle of a GPU: its number."""
        if not 0 <= index < len(self._gpus):
            raise NVMLError(_INVALID_ARGUMENT)
        return index

    # --- one GPU: evidence ---

    def nvmlDeviceGetConfComputeGpuAttestationReport(
        self, handle: int, nonce: bytes
    ) -> SimpleNamespace:
        """Return the report over 32 bytes, in a buffer as large as the real one."""
        self._wait(handle)
        report = self._machine.gpu(handle, bytes(nonce)).report
        return SimpleNamespace(
            attestationReport=report.ljust(8192, b"\0"), attestationReportSize=len(report)
        )

    def nvmlDeviceGetConfComputeGpuCertificate(self, handle: int) -> SimpleNamespace:
        """Return the certificate chain, in a buffer that ends with zeros."""
        chain = self._gpus[handle].build().chain_pem
        return SimpleNamespace(
            attestationCertChain=chain.ljust(max(5120, len(chain)), b"\0"),
            attestationCertChainSize=len(chain),
        )

    # --- one GPU: identity ---

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        """Return the UUID."""
        return self._machine.uuid(self._gpus[handle])

    def nvmlDeviceGetArchitecture(self, handle: int) -> int:
        """Return NVML's number of the generation."""
        return _ARCHITECTURES[self._gpus[handle].chip.architecture]

    def nvmlDeviceGetSerial(self, handle: int) -> str:
        """Return the board's serial number."""
        return str(int.from_bytes(self._gpus[handle].pdi, "big") % 10**13)

    def nvmlDeviceGetPdi(self, handle: int) -> int:
        """Return the permanent device identifier, which certificate [1] has too."""
        return int.from_bytes(self._gpus[handle].pdi, "big")

    def nvmlDeviceGetVbiosVersion(self, handle: int) -> str:
        """Return the VBIOS version."""
        return self._gpus[handle].vbios_version or ""

    def nvmlDeviceGetModuleId(self, handle: int, _: Any) -> int:
        """Return the place on the board, from 1."""
        return self._machine.fabric.module(handle)

    def nvmlDeviceGetPciInfo(self, handle: int) -> SimpleNamespace:
        """Return the place on the PCI bus."""
        return SimpleNamespace(busId=f"00000000:{_GPU_BUS + handle:02X}:00.0")

    def nvmlDeviceGetPlatformInfo(self, handle: int, reference: Any) -> int:
        """Fill where the GPU sits, and return the code."""
        info, fabric = _filled(reference), self._machine.fabric
        info.moduleId = fabric.module(handle)
        info.ibGuid[:8] = fabric.guid(handle).to_bytes(8, "big")
        return _SUCCESS

    # --- one GPU: fabric ---

    def nvmlDeviceGetGpuFabricInfoV(self, handle: int, reference: Any) -> int:
        """Fill version 3 of the struct, and return the code."""
        if not self._machine.fabric.active:
            return _SUCCESS  # state 0: not supported
        if handle in self._machine.fabric.waiting:
            # The manager has told it nothing: no cluster, no clique, no health.
            _filled(reference).state = _IN_PROGRESS
            return _SUCCESS
        seed = b"ccverify simulation: cluster" + self._machine.platform.identifier("ppid")
        info = _filled(reference)
        info.clusterUuid[:] = hashlib.sha256(seed).digest()[:16]
        info.cliqueId = self._machine.fabric.partition
        info.state, info.status = _COMPLETED, _SUCCESS
        info.healthMask, info.healthSummary = _HEALTH, _HEALTHY
        return _SUCCESS

    def nvmlDeviceGetNvLinkInfo(self, handle: int, reference: Any) -> int:
        """Fill whether NVLink encryption is on, and return the code."""
        if not self._machine.fabric.links:
            return _NOT_SUPPORTED
        _filled(reference).isNvleEnabled = int(self._machine.fabric.encrypted)
        return _SUCCESS

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:
        """Return whether a link carries traffic."""
        self._require_link(link)
        return int(self._machine.fabric.active)

    def nvmlDeviceGetNvLinkVersion(self, handle: int, link: int) -> int:
        """Return NVML's number of the NVLink version."""
        self._require_link(link)
        return self._machine.fabric.version

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: int, link: int) -> int:
        """Return that a switch is behind the link."""
        self._require_active(link)
        return _TO_SWITCH

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, link: int) -> SimpleNamespace:
        """Return the switch behind the link; those of Blackwell boards are no PCI devices."""
        self._require_active(link)
        opaque = self._gpus[handle].report.opaque
        pdis = opaque.switch_pdis if isinstance(opaque, GpuFields) else None
        known = [switch.pdi for switch in self._machine.node.switches]
        if not pdis or pdis[link] not in known:
            raise NVMLError(_NOT_SUPPORTED)
        bus = f"00000000:{_SWITCH_BUS + known.index(pdis[link]):02X}:00.0"
        return SimpleNamespace(busId=bus, pciDeviceId=_SWITCH_DEVICE)

    def nvmlDeviceGetP2PStatus(self, handle: int, peer: int, _: int) -> int:
        """Return 0 for GPUs on one fabric, else 5: not supported."""
        fabric = self._machine.fabric
        joined = fabric.active and not {handle, peer} & set(fabric.waiting)
        return 0 if joined else 5

    def nvmlDeviceGetTopologyCommonAncestor(self, handle: int, peer: int) -> int:
        """Return that the way through PCIe leads over the whole system."""
        return _SYSTEM

    def _require_link(self, link: int) -> None:
        if not self._machine.fabric.links:
            raise NVMLError(_NOT_SUPPORTED)
        if link >= self._machine.fabric.links:
            raise NVMLError(_INVALID_ARGUMENT)

    def _require_active(self, link: int) -> None:
        self._require_link(link)
        if not self._machine.fabric.active:
            raise NVMLError(_NOT_SUPPORTED)


def _mode(opaque: Any) -> int:
    """NVML's multi-GPU mode of what a GPU signs."""
    if not isinstance(opaque, GpuFields):
        return 0
    if opaque.protected_pcie:
        return _MODES["PPCIE"]
    return _MODES["MPT"] if opaque.feature_flag == 1 else 0
