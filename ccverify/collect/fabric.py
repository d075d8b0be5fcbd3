"""What NVML says of GPUs, links and fabric, read into one item of the bundle.

Nothing here is evidence of its own (`ccverify.fabric.observation`).  A driver that lacks a
function, or answers an older version of a struct, is no error: what it cannot say is recorded
with its return code.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, Final, NamedTuple, TypeVar

from ccverify.collect.asking import ask_one
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.nvml_library import (
    FUNCTION_NOT_FOUND,
    UNREADABLE,
    Load,
    Nvml,
    NvmlError,
    NvmlUnavailable,
    failed_answer,
    import_pynvml,
)
from ccverify.errors import EvidenceError
from ccverify.fabric.observation import (
    MAX_GPUS,
    MAX_LINKS,
    Absent,
    Clique,
    ConfidentialComputing,
    FabricInfo,
    FabricObservation,
    GpuObservation,
    NvLink,
    NvLinkFirmware,
    PeerAccess,
    PlatformInfo,
    Reading,
    serialize_observation,
)

__all__ = ["FabricSource", "observe_fabric"]

_LABEL: Final = "fabric"
_NOT_IN_STRUCT: Final = Absent("NOT_IN_STRUCT")
_TRY_OLDER: Final = frozenset(
    {
        FUNCTION_NOT_FOUND,
        "NVML_ERROR_ARGUMENT_VERSION_MISMATCH",
        "NVML_ERROR_INVALID_ARGUMENT",
        "NVML_ERROR_DEPRECATED",
    }
)
"""Answers that mean: this driver does not know that version of the struct."""

# nvidia-ml-py 13 spells the first of them as a tuple.
_P2P_INDEXES: Final = {"read": 0, "write": 1, "nvlink": 2, "atomics": 3}

_PLATFORM_V2: Final = struct.Struct("<I16s16s5B")
"""``nvmlPlatformInfo_v2_t``, read as bytes: its GUIDs are no C strings, as ctypes takes them."""

_T = TypeVar("_T")


class FabricSource:
    """The guest-side observation of the fabric, through nvidia-ml-py.

    Args:
        load: gives the module ``pynvml``.
    """

    name = "nvml-fabric"
    stage = Stage.DEVICES
    gives = (_LABEL,)

    def __init__(self, load: Load = import_pynvml) -> None:
        self._load = load

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One item ``fabric``, or its absence."""
        answer = ask_one(self._observe, ask)
        if answer.value is not None:
            return [answer.value]
        return [failed_answer(_LABEL, answer, self.name)]

    def diagnose(self) -> Sequence[Absence]:
        """Whether NVML can be used at all."""
        try:
            Nvml(self._load).close()
        except NvmlUnavailable as problem:
            return [self._absence(problem.reason, problem.text, problem.remedy)]
        return []

    def _observe(self) -> Outcome:
        nvml = Nvml(self._load)
        try:
            observation = observe_fabric(nvml)
        finally:
            nvml.close()
        if not observation.gpus:
            text = "the driver sees no GPU in this guest"
            return self._absence(AbsenceReason.NOT_PRESENT, text, "pass a GPU through")
        try:
            data = serialize_observation(observation)
        except EvidenceError as problem:
            return self._absence(
                AbsenceReason.FAILED,
                f"the driver's answers are out of range: {problem.where}, {problem.found}",
                "report this with the driver's version",
            )
        driver = observation.driver
        version = "unknown" if isinstance(driver, Absent) else driver
        return Item(_LABEL, ItemType.FABRIC_OBSERVATION, data, f"NVML, driver {version}")

    def _absence(self, reason: AbsenceReason, text: str, remedy: str) -> Absence:
        return Absence(_LABEL, reason, text, remedy, self.name)


def observe_fabric(nvml: Nvml) -> FabricObservation:
    """Read everything.

    Raises:
        NvmlError: the GPUs cannot be counted; anything else refused is part of the result.
    """
    count = min(nvml.devices(), MAX_GPUS)
    handles = {index: _handle(nvml, index) for index in range(count)}
    return FabricObservation(
        driver=_read(lambda: nvml.text("nvmlSystemGetDriverVersion")),
        nvml=_read(lambda: nvml.text("nvmlSystemGetNVMLVersion")),
        confidential_computing=_confidential_computing(nvml),
        gpus=tuple(_gpu(nvml, index, handle) for index, handle in handles.items()),
        peers=tuple(
            _peer(nvml, (one, handles[one]), (other, handles[other]))
            for one, other in permutations(handles, 2)
        ),
    )


def _handle(nvml: Nvml, index: int) -> Any:
    return _read(lambda: nvml.call("nvmlDeviceGetHandleByIndex", index))


def _read(question: Callable[[], _T]) -> Reading[_T]:
    try:
        return question()
    except NvmlError as problem:
        return Absent(problem.code)


# --- the machine ---------------------------------------------------------------------------------


def _confidential_computing(nvml: Nvml) -> ConfidentialComputing:
    """The settings; drivers that lack them state three of the four in an older struct."""
    call = "nvmlSystemGetConfComputeSettings"
    settings = _read(lambda: nvml.filled(call, "c_nvmlSystemConfComputeSettings_v1_t"))
    state = settings
    if isinstance(settings, Absent):
        state = _read(lambda: nvml.call("nvmlSystemGetConfComputeState"))
    capabilities = _read(lambda: nvml.call("nvmlSystemGetConfComputeCapabilities"))
    return ConfidentialComputing(
        environment=_member(state, "environment"),
        feature=_member(state, "ccFeature"),
        dev_tools=_member(state, "devToolsMode"),
        multi_gpu_mode=_member(settings, "multiGpuMode"),
        cpu_capabilities=_member(capabilities, "cpuCaps"),
        gpu_capabilities=_member(capabilities, "gpusCaps"),
        gpus_ready=_read(lambda: int(nvml.call("nvmlSystemGetConfComputeGpusReadyState"))),
    )


def _member(filled: Any, name: str) -> Reading[int]:
    return filled if isinstance(filled, Absent) else int(getattr(filled, name))


# --- one GPU -------------------------------------------------------------------------------------


class _Device(NamedTuple):
    """A GPU, and how to ask NVML about it; a handle that cannot be had fails every question."""

    nvml: Nvml
    handle: Any

    def _usable(self) -> Any:
        if isinstance(self.handle, Absent):
            raise NvmlError(self.handle.code, "nvmlDeviceGetHandleByIndex")
        return self.handle

    def call(self, function: str, *arguments: Any) -> Any:
        return self.nvml.call(function, self._usable(), *arguments)

    def number(self, function: str, *arguments: Any) -> Reading[int]:
        return _read(lambda: int(self.call(function, *arguments)))

    def text(self, function: str) -> Reading[str]:
        return _read(lambda: self.nvml.text(function, self._usable()))

    def filled(self, function: str, struct_name: str) -> Any:
        return self.nvml.filled(function, struct_name, self._usable())


def _gpu(nvml: Nvml, index: int, handle: Any) -> GpuObservation:
    device = _Device(nvml, handle)
    encrypted, firmware = _nvlink_info(device)
    return GpuObservation(
        index=index,
        uuid=device.text("nvmlDeviceGetUUID"),
        architecture=device.number("nvmlDeviceGetArchitecture"),
        pci_bus_id=_read(lambda: _ascii(device.call("nvmlDeviceGetPciInfo").busId)),
        serial=device.text("nvmlDeviceGetSerial"),
        pdi=_read(lambda: f"{int(device.call('nvmlDeviceGetPdi')):016x}"),
        # The wrapper's default argument is one object for all threads.
        module=device.number("nvmlDeviceGetModuleId", ctypes.c_uint()),
        vbios=device.text("nvmlDeviceGetVbiosVersion"),
        platform=_read(lambda: _platform(device)),
        fabric=_read(lambda: _fabric(device)),
        encrypted=encrypted,
        firmware=firmware,
        links=_links(device),
    )


def _ascii(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    if not text.isascii() or not text.isprintable() or len(text) > 128:
        raise NvmlError(UNREADABLE, "a text")
    return text


def _platform(device: _Device) -> PlatformInfo:
    filled = device.filled("nvmlDeviceGetPlatformInfo", "c_nvmlPlatformInfo_v2_t")
    _, guid, chassis, slot, tray, host, peer, module = _PLATFORM_V2.unpack_from(bytes(filled))
    return PlatformInfo(guid.hex(), chassis.hex(), slot, tray, host, peer, module)


# Newest first: version, function, struct.
_FABRIC_VERSIONS: Final = (
    (4, "nvmlDeviceGetGpuFabricInfo_v4", "c_nvmlGpuFabricInfo_v4_t"),
    (3, "nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v3_t"),
    (2, "nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t"),
    (1, "nvmlDeviceGetGpuFabricInfo", "c_nvmlGpuFabricInfo_t"),
)


def _fabric(device: _Device) -> FabricInfo:
    """The newest version of the struct that library, module and driver all know."""
    for version, function, name in _FABRIC_VERSIONS:
        try:
            return _fabric_info(version, device.filled(function, name))
        except NvmlError as problem:
            if problem.code not in _TRY_OLDER or version == 1:
                raise
    raise AssertionError("version 1 either answers or raises")


def _fabric_info(version: int, filled: Any) -> FabricInfo:
    if version < 4:
        cliques: tuple[Clique, ...] = (Clique(_NOT_IN_STRUCT, int(filled.cliqueId)),)
    elif filled.numCliques <= len(filled.cliques):
        listed = filled.cliques[: filled.numCliques]
        cliques = tuple(Clique(int(one.type), int(one.id)) for one in listed)
    else:
        raise NvmlError(UNREADABLE, "nvmlDeviceGetGpuFabricInfo_v4")
    return FabricInfo(
        struct_version=version,
        state=int(filled.state),
        status=int(filled.status),
        cluster_uuid=bytes(filled.clusterUuid).hex(),
        cliques=cliques,
        health_mask=int(filled.healthMask) if version >= 2 else _NOT_IN_STRUCT,
        health_summary=int(filled.healthSummary) if version >= 3 else _NOT_IN_STRUCT,
    )


def _nvlink_info(device: _Device) -> tuple[Reading[int], Reading[tuple[NvLinkFirmware, ...]]]:
    """NVLink encryption, and the firmware of the links since version 2 of the struct."""
    call = "nvmlDeviceGetNvLinkInfo"
    try:
        filled = device.filled(call, "c_nvmlNvLinkInfo_v2_t")
    except NvmlError as problem:
        absent = Absent(problem.code)
        if problem.code not in _TRY_OLDER:
            return absent, absent
        older = _read(lambda: device.filled(call, "c_nvmlNvLinkInfo_v1_t"))
        return _member(older, "isNvleEnabled"), older if isinstance(
            older, Absent
        ) else _NOT_IN_STRUCT
    info = filled.firmwareInfo
    if info.numValidEntries > len(info.firmwareVersion):
        return int(filled.isNvleEnabled), Absent(UNREADABLE)
    return int(filled.isNvleEnabled), tuple(
        NvLinkFirmware(int(one.ucodeType), int(one.major), int(one.minor), int(one.subMinor))
        for one in info.firmwareVersion[: info.numValidEntries]
    )


def _links(device: _Device) -> Reading[tuple[NvLink, ...]]:
    """Every link up to the first that the driver says does not exist."""
    links: list[NvLink] = []
    most = getattr(device.nvml.module, "NVML_NVLINK_MAX_LINKS", 18)
    for index in range(min(int(most), MAX_LINKS)):
        state = device.number("nvmlDeviceGetNvLinkState", index)
        if state == Absent("NVML_ERROR_INVALID_ARGUMENT"):
            break
        links.append(_link(device, index, state))
    states = [link.state for link in links]
    if states and all(isinstance(state, Absent) for state in states):
        # Not one link answers: the GPU has none, or the function is missing.
        first = states[0]
        return first if isinstance(first, Absent) else ()
    return tuple(links)


def _link(device: _Device, index: int, state: Reading[int]) -> NvLink:
    remote: Any = _read(lambda: device.call("nvmlDeviceGetNvLinkRemotePciInfo", index))
    absent = isinstance(remote, Absent)
    return NvLink(
        index=index,
        state=state,
        version=device.number("nvmlDeviceGetNvLinkVersion", index),
        remote_type=device.number("nvmlDeviceGetNvLinkRemoteDeviceType", index),
        remote_bus_id=remote if absent else _read(lambda: _ascii(remote.busId)),
        remote_device_id=_member(remote, "pciDeviceId"),
    )


def _peer(nvml: Nvml, one: tuple[int, Any], other: tuple[int, Any]) -> PeerAccess:
    device = _Device(nvml, other[1] if isinstance(other[1], Absent) else one[1])
    access = {
        name: device.number("nvmlDeviceGetP2PStatus", other[1], index)
        for name, index in _P2P_INDEXES.items()
    }
    return PeerAccess(
        gpu=one[0],
        peer=other[0],
        ancestor=device.number("nvmlDeviceGetTopologyCommonAncestor", other[1]),
        **access,
    )
