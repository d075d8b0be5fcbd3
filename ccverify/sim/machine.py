"""Whole machines: a TD and the devices passed through to it, asked for one thing at a time.

    machine = sim_machine("h100-hgx-8")
    machine.gpu(3, device_nonce), machine.switch(0, device_nonce), machine.quote(report_data)

A machine is a frozen specification, so that an attack is one replacement:

    replace(machine, node=machine.node.with_gpu(3, other.node.gpus[3]))
    replace(machine, platform=machine.platform.with_status("OutOfDate"))

`SimNvml` answers for its GPUs what NVML would.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from ccverify.errors import UsageError
from ccverify.sim import defaults
from ccverify.sim.collateral import Collateral
from ccverify.sim.eventlog import CcelEvent, ccel_acpi_table, encode_ccel
from ccverify.sim.fabric import board_serial, gpu_guid
from ccverify.sim.nvidia.device import BuiltDevice, SimDevice
from ccverify.sim.nvidia.models import B200, B300, H100, RTX_PRO_6000, GpuModel
from ccverify.sim.nvidia.node import NodeEvidence, SimNode
from ccverify.sim.platform import QuoteVersion, SimCase, SimPlatform

__all__ = ["MACHINES", "Fabric", "SimImage", "SimMachine", "sim_machine"]

_LOG_BYTES = 0x2000
_TENANTS = (1, 2, 4, 8)
_PARTITIONS = {8: 1, 4: 2, 2: 4, 1: 8}
"""GPUs of a tenant → the first default partition of that size (B200 and B300)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """How the GPUs of a machine are connected.

    Attributes:
        links: NVLinks of each GPU; 0 where it has none.
        active: whether they carry traffic; a tenant of one GPU has them switched off.
        version: NVML's number of the NVLink version: 6 is 4.0, 7 is 5.0.
        encrypted: whether NVLink encryption is on.
        partition: number of the partition, which NVML calls the clique.
        modules: module id of each GPU, in order; empty: counted from 1.
        waiting: GPUs by number whose registration is In Progress, though their links are up.
        guids: of each GPU, 64 bits, in order; empty: the driver names none.
        background: traffic of others over each GPU's links, bytes per second, in order; empty:
            none.
    """

    links: int = 0
    active: bool = False
    version: int = 0
    encrypted: bool = False
    partition: int = 0
    modules: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()
    guids: tuple[int, ...] = ()
    background: tuple[int, ...] = ()

    def module(self, number: int) -> int:
        """Return the module id that a GPU shows."""
        return self.modules[number] if number < len(self.modules) else number + 1

    def guid(self, number: int) -> int:
        """Return the GUID that the driver names of a GPU; 0: none."""
        return self.guids[number] if number < len(self.guids) else 0

    def foreign_rate(self, number: int) -> int:
        """Return the traffic of others over a GPU's links, bytes per second."""
        return self.background[number] if number < len(self.background) else 0


_NO_FABRIC = Fabric()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimImage:
    """What a TD was started from.

    Attributes:
        mr_td: the firmware's measurement, 48 bytes.
        boot_events: what the firmware and the loader measured; RTMR0 to RTMR2 follow from them.
    """

    mr_td: bytes = defaults.MR_TD
    boot_events: tuple[CcelEvent, ...] = defaults.DEFAULT_BOOT_EVENTS


_IMAGE = SimImage()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimMachine:
    """One simulated machine.

    Attributes:
        name: of its kind.
        platform: the CPU, and who certified it.
        node: GPUs and NVSwitches as they answer when nobody asks; `gpu` and `switch` put the
            nonce in.
        fabric: how the GPUs are connected.
        image: what the TD was started from.
        version, body_type: of the quote.
    """

    name: str
    platform: SimPlatform
    node: SimNode
    fabric: Fabric = _NO_FABRIC
    image: SimImage = _IMAGE
    version: QuoteVersion = 5
    body_type: int = 3

    @property
    def at(self) -> datetime:
        """The time it is meant to be judged at."""
        return self.node.at

    def case(self, report_data: bytes) -> SimCase:
        """Return the attestation with this REPORTDATA, 64 bytes, for anything to be changed."""
        return self.platform.case(
            at=self.at,
            version=self.version,
            body_type=self.body_type,
            report_data=report_data,
            boot_events=self.image.boot_events,
            body={"mr_td": self.image.mr_td},
        )

    def quote(self, report_data: bytes, *, rtmr3: bytes | None = None) -> bytes:
        """Return a TDX quote.

        Args:
            report_data: 64 bytes.
            rtmr3: 48 bytes, if it was extended since the boot.
        """
        case = self.case(report_data)
        if rtmr3 is not None:
            case = case.with_body(rtmr3=rtmr3)
        return case.finished_quote().build().data

    def event_log(self) -> bytes:
        """Return the CCEL log area of this boot."""
        return encode_ccel(self.image.boot_events, size=_LOG_BYTES)

    def event_log_table(self) -> bytes:
        """Return the ACPI table CCEL that leads to the log."""
        return ccel_acpi_table(_LOG_BYTES)

    def registers(self) -> dict[str, bytes]:
        """Return MRTD and RTMR0 to RTMR3 after the boot, 48 bytes each, by their names."""
        body = self.platform.td_report(
            self.body_type, boot_events=self.image.boot_events, mr_td=self.image.mr_td
        )
        return {"mrtd": body.mr_td, **{f"rtmr{n}": getattr(body, f"rtmr{n}") for n in range(4)}}

    def gpu(self, number: int, nonce: bytes) -> BuiltDevice:
        """Return the report of a GPU over a nonce, 32 bytes, and its certificate chain."""
        return self.node.gpus[number].with_report(nonce=nonce).build()

    def switch(self, number: int, nonce: bytes) -> BuiltDevice:
        """Return the report of an NVSwitch over a nonce, 32 bytes, and its chain."""
        return self.node.switches[number].with_report(nonce=nonce).build()

    def uuid(self, device: SimDevice) -> str:
        """Return the UUID that the driver states for a device: it follows from its PDI."""
        text = hashlib.sha256(b"ccverify simulation: UUID" + device.pdi).hexdigest()
        kind = "SWX" if device.chip.is_switch else "GPU"
        return f"{kind}-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"

    def intel_collateral(self) -> Collateral:
        """Return what the simulated Intel published about the platform."""
        return self.case(bytes(64)).collateral()

    def nvidia_collateral(self) -> NodeEvidence:
        """Return what the simulated NVIDIA published: manifests, OCSP answers, roots."""
        return self.node.build()


# --- one of each kind ---------------------------------------------------------------------------

_Make = Callable[[str, str], SimMachine]


def _hopper_board(name: str, label: str) -> SimMachine:
    return SimMachine(
        name=name,
        platform=SimPlatform(label=label),
        node=SimNode.hopper_ppcie(label=label),
        fabric=Fabric(links=18, active=True, version=6, modules=tuple(range(1, 9))),
    )


def _gpus(model: GpuModel, count: int, *, mode: str, fabric: Fabric = _NO_FABRIC) -> _Make:
    def make(name: str, label: str) -> SimMachine:
        node = SimNode.of_gpus(model, count, mode=mode, label=label)
        return SimMachine(name=name, platform=SimPlatform(label=label), node=node, fabric=fabric)

    return make


def _tenant(model: GpuModel, count: int) -> _Make:
    """Return a tenant of a Blackwell board: its NVLinks are encrypted, its switches outside."""
    several, modules = count > 1, tuple(range(1, count + 1))
    make = _gpus(model, count, mode="MPT" if several else "SPT")

    def tenant(name: str, label: str) -> SimMachine:
        serial = board_serial(label)
        fabric = Fabric(
            links=18,
            active=several,
            version=7,
            encrypted=several,
            partition=_PARTITIONS[count],
            modules=modules,
            guids=tuple(gpu_guid(serial, module) for module in modules),
        )
        return replace(make(name, label), fabric=fabric)

    return tenant


_H100_ALONE = Fabric(links=18, version=6, partition=7, modules=(1,))

MACHINES: Mapping[str, _Make] = {
    "h100-1": _gpus(H100, 1, mode="SPT", fabric=_H100_ALONE),
    "h100-hgx-8": _hopper_board,
    **{f"b200-hgx-{count}": _tenant(B200, count) for count in _TENANTS},
    **{f"b300-hgx-{count}": _tenant(B300, count) for count in _TENANTS},
    **{f"rtx-pro-6000-{count}": _gpus(RTX_PRO_6000, count, mode="SPT") for count in _TENANTS},
}
"""Name → maker of the machine, from its name and a label from which its identities follow.

The number at the end is that of the GPUs; ``h100-hgx-8`` has four NVSwitches too.
"""


def sim_machine(name: str, *, instance: str = "1", status: str | None = None) -> SimMachine:
    """Return a machine of a kind.

    Args:
        name: one of `MACHINES`.
        instance: machines of one kind with different instances have nothing in common but
            their kind.
        status: its TCB is that of this rung of `defaults.LADDER`; None: up to date.

    Raises:
        UsageError: no such kind, or no such rung.
    """
    make = MACHINES.get(name)
    if make is None:
        near = difflib.get_close_matches(name[:100], MACHINES, 1)
        raise UsageError(
            "there is no such simulated machine",
            expected=", ".join(MACHINES),
            found=repr(name[:80]),
            hint=f"did you mean {near[0]}?" if near else None,
        )
    machine = make(name, f"{name}/{instance}")
    if status is None:
        return machine
    return replace(machine, platform=machine.platform.with_status(status))
