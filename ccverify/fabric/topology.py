"""Protected PCIe: do the GPUs and NVSwitches that attested form exactly one node?

On a Hopper HGX system every GPU signs which switches its links lead to, and every switch signs
which GPUs it serves.  Both lists name devices by their permanent identifier (PDI), which is also
certified: it is the serial number of certificate [1].  So the lists are compared with the devices
that proved who they are, never with each other alone: eight copies of one report, or a list of
devices that never attested, cannot pass.

Pure functions of plain claims; this module reads no evidence format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ccverify.errors import EvidenceError, UsageError

__all__ = [
    "HGX_HOPPER",
    "PDI_BYTES",
    "PROTECTED_PCIE",
    "GpuIdentity",
    "NodeShape",
    "SwitchIdentity",
    "TopologyCode",
    "TopologyProblem",
    "appraise_protected_pcie",
]

PDI_BYTES = 8
_ZERO = bytes(PDI_BYTES)

PROTECTED_PCIE = "PPCIE"
"""The mode that every GPU must state."""


@dataclass(frozen=True, slots=True)
class GpuIdentity:
    """What one attested GPU says, signed by it and certified by its chain.

    Every PDI is 8 bytes in the byte order of the certificate (big endian).  GPU reports carry
    the switch PDIs in the reverse order; whoever fills this in turns them round.

    Attributes:
        device_id: the GPU's PDI, from its certificate.
        switch_pdis: for each NVLink the switch at its other end; zero for a disabled link.
        mode: the protected mode it states, such as ``PPCIE``; None where it states none.
        firmware: VBIOS version.
        driver: driver version.
    """

    device_id: bytes
    switch_pdis: tuple[bytes, ...]
    mode: str | None
    firmware: str
    driver: str

    def __post_init__(self) -> None:
        _check_pdis((self.device_id, *self.switch_pdis), "GPU")


@dataclass(frozen=True, slots=True)
class SwitchIdentity:
    """What one attested NVSwitch says, signed by it and certified by its chain.

    Attributes:
        device_id: the switch's PDI, from its certificate.
        reported_pdi: the PDI that its report states for itself.
        gpu_pdis: the GPUs it serves, one entry for each of its slots.
        position: its place in the node; None where the report states none.
        locked: whether its configuration is locked; None where the report does not say.
        firmware: BIOS version.
    """

    device_id: bytes
    reported_pdi: bytes
    gpu_pdis: tuple[bytes, ...]
    position: int | None
    locked: bool | None
    firmware: str

    def __post_init__(self) -> None:
        _check_pdis((self.device_id, self.reported_pdi, *self.gpu_pdis), "NVSwitch")


@dataclass(frozen=True, slots=True)
class NodeShape:
    """How many distinct devices make up a node; at least one of each kind."""

    gpus: int
    switches: int

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.switches < 1:
            raise UsageError(
                "a Protected PCIe node has GPUs and switches",
                expected="at least 1 of each",
                found=f"{self.gpus} GPUs, {self.switches} switches",
            )


HGX_HOPPER = NodeShape(gpus=8, switches=4)
"""HGX H100 and H200: eight GPUs, four NVSwitches."""


class TopologyCode(str, Enum):
    """What can be wrong with a node."""

    COUNT = "TOPOLOGY-COUNT"
    """Not the number of distinct devices that makes up a node."""
    ZERO_PDI = "TOPOLOGY-ZERO-PDI"
    """A device's own identifier is zero, which names nothing."""
    DUPLICATE_GPU = "TOPOLOGY-DUPLICATE-GPU"
    """One GPU is presented more than once."""
    DUPLICATE_SWITCH = "TOPOLOGY-DUPLICATE-SWITCH"
    """One NVSwitch is presented more than once."""
    SWITCH_SELF = "TOPOLOGY-SWITCH-SELF"
    """A switch reports another identity than it is certified for."""
    GPU_LIST = "TOPOLOGY-GPU-LIST"
    """A switch does not serve exactly the GPUs that attested, each once."""
    SWITCH_LIST = "TOPOLOGY-SWITCH-LIST"
    """A GPU is not connected to exactly the switches that attested."""
    POSITION = "TOPOLOGY-POSITION"
    """A switch has no position, or shares it with another."""
    UNLOCKED = "TOPOLOGY-UNLOCKED"
    """A switch does not say that its configuration is locked."""
    MODE = "TOPOLOGY-MODE"
    """The GPUs do not state Protected PCIe."""
    MIXED_MODE = "TOPOLOGY-MIXED-MODE"
    """The GPUs state different modes."""
    MIXED_FIRMWARE = "TOPOLOGY-MIXED-FIRMWARE"
    """Devices of one kind run different firmware."""
    MIXED_DRIVER = "TOPOLOGY-MIXED-DRIVER"
    """The GPUs run under different drivers."""


@dataclass(frozen=True, slots=True)
class TopologyProblem:
    """One way in which the devices are not one node.

    Attributes:
        code: stable name.
        where: the device, by its PDI, or the group of devices.
        expected: what would have been right.
        found: what the devices say.
    """

    code: TopologyCode
    where: str
    expected: str
    found: str


def appraise_protected_pcie(
    gpus: Sequence[GpuIdentity],
    switches: Sequence[SwitchIdentity],
    shape: NodeShape = HGX_HOPPER,
) -> tuple[TopologyProblem, ...]:
    """Say why the attested devices are not one complete Protected PCIe node; empty if they are.

    Every GPU must be one that each switch serves, and every switch one that each GPU is
    connected to: a bijection between the devices that attested and the devices named.  The
    outcome does not depend on the order of the devices.  Never raises.

    Args:
        gpus: every GPU presented, copies included.
        switches: every NVSwitch presented, copies included.
        shape: how many distinct devices there must be.
    """
    gpu_ids = {gpu.device_id for gpu in gpus} - {_ZERO}
    switch_ids = {switch.device_id for switch in switches} - {_ZERO}
    problems = [
        *_count_problems(gpu_ids, switch_ids, shape),
        *_own_id_problems(gpus, switches),
        *_list_problems(gpus, switches, gpu_ids, switch_ids),
        *_switch_state_problems(switches),
        *_uniformity_problems(gpus, switches),
    ]
    order = {code: place for place, code in enumerate(TopologyCode)}
    return tuple(
        sorted(
            dict.fromkeys(problems),  # copies of a device repeat its problems
            key=lambda problem: (order[problem.code], problem.where, problem.found),
        )
    )


def _count_problems(
    gpu_ids: set[bytes], switch_ids: set[bytes], shape: NodeShape
) -> Iterator[TopologyProblem]:
    for where, ids, wanted in (
        ("GPUs", gpu_ids, shape.gpus),
        ("NVSwitches", switch_ids, shape.switches),
    ):
        if len(ids) != wanted:
            yield TopologyProblem(
                TopologyCode.COUNT, where, f"{wanted} distinct devices", str(len(ids))
            )


def _own_id_problems(
    gpus: Sequence[GpuIdentity], switches: Sequence[SwitchIdentity]
) -> Iterator[TopologyProblem]:
    for kind, code, ids in (
        ("GPU", TopologyCode.DUPLICATE_GPU, [gpu.device_id for gpu in gpus]),
        ("NVSwitch", TopologyCode.DUPLICATE_SWITCH, [switch.device_id for switch in switches]),
    ):
        for device_id, times in Counter(ids).items():
            where = f"{kind} {_text(device_id)}"
            if device_id == _ZERO:
                yield TopologyProblem(
                    TopologyCode.ZERO_PDI, where, "a certified identifier", "all zero"
                )
            elif times > 1:
                yield TopologyProblem(code, where, "presented once", f"presented {times} times")
    for switch in switches:
        where = f"NVSwitch {_text(switch.device_id)}"
        if switch.reported_pdi == _ZERO:
            yield TopologyProblem(TopologyCode.ZERO_PDI, where, "a reported identifier", "all zero")
        if switch.reported_pdi != switch.device_id:
            yield TopologyProblem(
                TopologyCode.SWITCH_SELF,
                where,
                f"reported {_text(switch.device_id)}, as certified",
                _text(switch.reported_pdi),
            )


def _list_problems(
    gpus: Sequence[GpuIdentity],
    switches: Sequence[SwitchIdentity],
    gpu_ids: set[bytes],
    switch_ids: set[bytes],
) -> Iterator[TopologyProblem]:
    for switch in switches:
        slots = Counter(pdi for pdi in switch.gpu_pdis if pdi != _ZERO)
        found = _difference(set(slots), gpu_ids)
        found += [f"{_text(pdi)} listed {n} times" for pdi, n in sorted(slots.items()) if n > 1]
        if found:
            yield TopologyProblem(
                TopologyCode.GPU_LIST,
                f"NVSwitch {_text(switch.device_id)}",
                f"serves the {len(gpu_ids)} attested GPUs, each once",
                ", ".join(found),
            )
    for gpu in gpus:
        # A switch appears once for each link to it; how many links lead to each is not known.
        found = _difference(set(gpu.switch_pdis) - {_ZERO}, switch_ids)
        if found:
            yield TopologyProblem(
                TopologyCode.SWITCH_LIST,
                f"GPU {_text(gpu.device_id)}",
                f"connected to the {len(switch_ids)} attested NVSwitches and no other",
                ", ".join(found),
            )


def _switch_state_problems(switches: Sequence[SwitchIdentity]) -> Iterator[TopologyProblem]:
    # Copies of one switch share its position, which says nothing more than DUPLICATE-SWITCH.
    places: dict[int, set[bytes]] = {}
    for switch in switches:
        where = f"NVSwitch {_text(switch.device_id)}"
        if switch.position is None:
            yield TopologyProblem(
                TopologyCode.POSITION, where, "a position of its own", "states none"
            )
        else:
            places.setdefault(switch.position, set()).add(switch.device_id)
        if switch.locked is not True:
            found = "states nothing" if switch.locked is None else "unlocked"
            yield TopologyProblem(TopologyCode.UNLOCKED, where, "locked", found)
    for position, ids in places.items():
        if len(ids) > 1:
            yield TopologyProblem(
                TopologyCode.POSITION,
                f"position {position}",
                "one NVSwitch",
                ", ".join(map(_text, sorted(ids))),
            )


def _uniformity_problems(
    gpus: Sequence[GpuIdentity], switches: Sequence[SwitchIdentity]
) -> Iterator[TopologyProblem]:
    modes = _spread((gpu.mode or "none", gpu.device_id) for gpu in gpus)
    if len(modes) > 1:
        yield _mixed(TopologyCode.MIXED_MODE, "GPUs", "mode", modes)
    elif modes and PROTECTED_PCIE not in modes:
        found = f"mode {next(iter(modes))}"
        yield TopologyProblem(TopologyCode.MODE, "GPUs", f"mode {PROTECTED_PCIE}", found)
    gpu_firmware = [(gpu.firmware, gpu.device_id) for gpu in gpus]
    gpu_drivers = [(gpu.driver, gpu.device_id) for gpu in gpus]
    switch_firmware = [(switch.firmware, switch.device_id) for switch in switches]
    for code, where, what, values in (
        (TopologyCode.MIXED_FIRMWARE, "GPUs", "firmware", gpu_firmware),
        (TopologyCode.MIXED_FIRMWARE, "NVSwitches", "firmware", switch_firmware),
        (TopologyCode.MIXED_DRIVER, "GPUs", "driver", gpu_drivers),
    ):
        spread = _spread(values)
        if len(spread) > 1:
            yield _mixed(code, where, what, spread)


def _spread(values: Iterable[tuple[str, bytes]]) -> dict[str, set[bytes]]:
    """Value → the devices that state it."""
    spread: dict[str, set[bytes]] = {}
    for value, device_id in values:
        spread.setdefault(value, set()).add(device_id)
    return spread


def _mixed(
    code: TopologyCode, where: str, what: str, spread: dict[str, set[bytes]]
) -> TopologyProblem:
    found = "; ".join(
        f"{value} on {', '.join(map(_text, sorted(ids)))}" for value, ids in sorted(spread.items())
    )
    return TopologyProblem(code, where, f"the same {what} on all", found)


def _difference(named: set[bytes], attested: set[bytes]) -> list[str]:
    """What a list of devices lacks, and what it names that did not attest."""
    found = [f"{_text(pdi)} is missing" for pdi in sorted(attested - named)]
    return found + [f"{_text(pdi)} did not attest" for pdi in sorted(named - attested)]


def _text(pdi: bytes) -> str:
    return pdi.hex().upper()


def _check_pdis(pdis: Iterable[bytes], what: str) -> None:
    for pdi in pdis:
        if len(pdi) != PDI_BYTES:
            raise EvidenceError(
                f"{what} names a device by an identifier of the wrong length",
                expected=f"{PDI_BYTES} bytes",
                found=f"{len(pdi)} bytes",
            )
