"""What NVML says of GPUs, links and fabric, as seen from inside the guest.

None of it is signed.  Fabric state, cluster and cliques reach the driver from the Fabric Manager
in a message nobody authenticates: that the driver said so is measured, what it said is asserted
by the host.  An observation is bound into a bundle, so it can be compared with signed evidence
and with the manager's statement; it never stands in for either.

Every value is either there or an `Absent` with NVML's return code, because the two differ: a GPU
without NVLink encryption and a driver that cannot say are not the same.  The JSON form is of
format ``ccverify/fabric-observation/v1``; an absent value is ``{"absent": "NVML_ERROR_…"}``.
Pure: the reading of NVML is `ccverify.collect.fabric`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ccverify.fabric.json_form import Form
from ccverify.fabric.reading import Absent, Reading

__all__ = [
    "FORMAT",
    "MAX_GPUS",
    "MAX_LINKS",
    "Absent",
    "Clique",
    "ConfidentialComputing",
    "FabricInfo",
    "FabricObservation",
    "GpuObservation",
    "NvLink",
    "NvLinkFirmware",
    "PeerAccess",
    "PlatformInfo",
    "Reading",
    "parse_observation",
    "serialize_observation",
]

FORMAT: Final = "ccverify/fabric-observation/v1"
MAX_GPUS: Final = 64
"""Most GPUs of one guest; real machines have at most 16."""
MAX_LINKS: Final = 64
"""Most NVLinks of one GPU; NVML 13 knows of 36."""
MAX_CLIQUES: Final = 64
MAX_FIRMWARE: Final = 100
_MAX_TEXT: Final = 128


@dataclass(frozen=True, slots=True)
class ConfidentialComputing:
    """The machine-wide settings; meanings are in `ccverify.fabric.nvml_values`."""

    environment: Reading[int]
    feature: Reading[int]
    dev_tools: Reading[int]
    multi_gpu_mode: Reading[int]
    cpu_capabilities: Reading[int]
    gpu_capabilities: Reading[int]
    gpus_ready: Reading[int]


@dataclass(frozen=True, slots=True)
class Clique:
    """A clique the GPU belongs to; the type came with ``nvmlGpuFabricInfo_v4_t``."""

    type: Reading[int]
    id: int


@dataclass(frozen=True, slots=True)
class FabricInfo:
    """``nvmlGpuFabricInfo_t`` of one GPU.

    Attributes:
        struct_version: 1 to 4, the version the driver answered in.
        state: registration with the fabric (`FABRIC_STATES`).
        status: NVML return code of the registration; means something when it is completed.
        cluster_uuid: 16 bytes in hex; all zero where none was assigned.
        cliques: one before version 4.
        health_mask: raw; `decode_health_mask` reads it.
        health_summary: since version 3.
    """

    struct_version: int
    state: int
    status: int
    cluster_uuid: str
    cliques: tuple[Clique, ...]
    health_mask: Reading[int]
    health_summary: Reading[int]


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """``nvmlPlatformInfo_v2_t``: where the GPU sits.  The first two are 16 raw bytes in hex."""

    ib_guid: str
    chassis_serial: str
    slot: int
    tray: int
    host: int
    peer_type: int
    module: int


@dataclass(frozen=True, slots=True)
class NvLinkFirmware:
    """One microcode of ``nvmlNvLinkInfo_v2_t``."""

    type: int
    major: int
    minor: int
    sub_minor: int


@dataclass(frozen=True, slots=True)
class NvLink:
    """One NVLink of a GPU.  An active state proves nothing about a partition."""

    index: int
    state: Reading[int]
    version: Reading[int]
    remote_type: Reading[int]
    remote_bus_id: Reading[str]
    remote_device_id: Reading[int]


@dataclass(frozen=True, slots=True)
class GpuObservation:
    """One GPU.

    Attributes:
        index: NVML's index, which the labels of a bundle use too.
        pdi: the 64-bit per-device identifier as an integer in 16 hex digits.
        encrypted: 1 where NVLink encryption is on (``nvmlDeviceGetNvLinkInfo``).
        links: absent as a whole where the GPU has no NVLink.
    """

    index: int
    uuid: Reading[str]
    architecture: Reading[int]
    pci_bus_id: Reading[str]
    serial: Reading[str]
    pdi: Reading[str]
    module: Reading[int]
    vbios: Reading[str]
    platform: Reading[PlatformInfo]
    fabric: Reading[FabricInfo]
    encrypted: Reading[int]
    firmware: Reading[tuple[NvLinkFirmware, ...]]
    links: Reading[tuple[NvLink, ...]]


@dataclass(frozen=True, slots=True)
class PeerAccess:
    """What one GPU may do with the memory of another (`P2P_STATUS`, `TOPOLOGY_LEVELS`)."""

    gpu: int
    peer: int
    read: Reading[int]
    write: Reading[int]
    nvlink: Reading[int]
    atomics: Reading[int]
    ancestor: Reading[int]


@dataclass(frozen=True, slots=True)
class FabricObservation:
    """Everything NVML said, at one time."""

    driver: Reading[str]
    nvml: Reading[str]
    confidential_computing: ConfidentialComputing
    gpus: tuple[GpuObservation, ...]
    peers: tuple[PeerAccess, ...]

    @property
    def modules(self) -> frozenset[int] | None:
        """Module ids of all GPUs; None unless there are some and the driver names each one's."""
        read = [gpu.module for gpu in self.gpus]
        known = frozenset(module for module in read if not isinstance(module, Absent))
        return known if read and len(known) == len(read) else None


# --- between values and JSON ---------------------------------------------------------------------


_FORM = Form("fabric observation", "the observation is written by ccverify collect; do not edit it")
_U8, _U32 = _FORM.uint((1 << 8) - 1), _FORM.uint((1 << 32) - 1)
_NUMBER, _WORDS = _FORM.reading(_U32), _FORM.reading(_FORM.text(_MAX_TEXT))

_CONFIDENTIAL = _FORM.record(
    ConfidentialComputing,
    environment=_NUMBER,
    feature=_NUMBER,
    dev_tools=_NUMBER,
    multi_gpu_mode=_NUMBER,
    cpu_capabilities=_NUMBER,
    gpu_capabilities=_NUMBER,
    gpus_ready=_NUMBER,
)
_FABRIC = _FORM.record(
    FabricInfo,
    struct_version=_U8,
    state=_U8,
    status=_U32,
    cluster_uuid=_FORM.hex(16),
    cliques=_FORM.list(_FORM.record(Clique, type=_FORM.reading(_U8), id=_U32), MAX_CLIQUES),
    health_mask=_NUMBER,
    health_summary=_FORM.reading(_U8),
)
_PLATFORM = _FORM.record(
    PlatformInfo,
    ib_guid=_FORM.hex(16),
    chassis_serial=_FORM.hex(16),
    slot=_U8,
    tray=_U8,
    host=_U8,
    peer_type=_U8,
    module=_U8,
)
_FIRMWARE = _FORM.record(NvLinkFirmware, type=_U8, major=_U32, minor=_U32, sub_minor=_U32)
_LINK = _FORM.record(
    NvLink,
    index=_U8,
    state=_NUMBER,
    version=_NUMBER,
    remote_type=_NUMBER,
    remote_bus_id=_WORDS,
    remote_device_id=_NUMBER,
)
_GPU = _FORM.record(
    GpuObservation,
    index=_U8,
    uuid=_WORDS,
    architecture=_NUMBER,
    pci_bus_id=_WORDS,
    serial=_WORDS,
    pdi=_FORM.reading(_FORM.hex(8)),
    module=_NUMBER,
    vbios=_WORDS,
    platform=_FORM.reading(_PLATFORM),
    fabric=_FORM.reading(_FABRIC),
    encrypted=_NUMBER,
    firmware=_FORM.reading(_FORM.list(_FIRMWARE, MAX_FIRMWARE)),
    links=_FORM.reading(_FORM.list(_LINK, MAX_LINKS)),
)
_PEER = _FORM.record(
    PeerAccess,
    gpu=_U8,
    peer=_U8,
    read=_NUMBER,
    write=_NUMBER,
    nvlink=_NUMBER,
    atomics=_NUMBER,
    ancestor=_NUMBER,
)
_OBSERVATION = _FORM.record(
    FabricObservation,
    driver=_WORDS,
    nvml=_WORDS,
    confidential_computing=_CONFIDENTIAL,
    gpus=_FORM.list(_GPU, MAX_GPUS),
    peers=_FORM.list(_PEER, MAX_GPUS * (MAX_GPUS - 1)),
)


def parse_observation(data: bytes) -> FabricObservation:
    """Parse a fabric observation.

    Args:
        data: UTF-8 JSON of format `FORMAT`, at most 4 MiB.

    Raises:
        EvidenceError: not strict JSON, another format, a member missing, unknown or of the
            wrong kind, an index that appears twice, or a peer that is not among the GPUs.
    """
    observation: FabricObservation = _FORM.parse(data, FORMAT, _OBSERVATION)
    _require_consistent(observation)
    return observation


def serialize_observation(observation: FabricObservation) -> bytes:
    """Write an observation: UTF-8 JSON with sorted members, the same bytes every time.

    Raises:
        EvidenceError: a value is outside what `parse_observation` accepts.
    """
    data = _FORM.serialize(observation, FORMAT, _OBSERVATION)
    _require_consistent(observation)
    return data


def _require_consistent(observation: FabricObservation) -> None:
    gpus = [gpu.index for gpu in observation.gpus]
    _FORM.require_distinct(gpus, "$.gpus", "index")
    for at, gpu in enumerate(observation.gpus):
        if not isinstance(gpu.links, Absent):
            _FORM.require_distinct(
                [link.index for link in gpu.links], f"$.gpus[{at}].links", "index"
            )
    _FORM.require_distinct([(p.gpu, p.peer) for p in observation.peers], "$.peers", "pair")
    known = set(gpus)
    for at, pair in enumerate(observation.peers):
        if pair.gpu == pair.peer or not {pair.gpu, pair.peer} <= known:
            raise _FORM.wrong(f"$.peers[{at}]", "two of the GPUs", (pair.gpu, pair.peer))
