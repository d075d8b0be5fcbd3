"""Simulated machines as sources of evidence: ``ccverify collect --platform sim:NAME``.

With ``--role fabric-manager`` it is the host of the manager of that machine's board.

The collector asks them as it asks a real machine: GPUs and fabric through NVML, whose module
alone is exchanged, NVSwitches, event log, registers and quote through sources of their own.
Every item says in its source that it is simulated, and so does the bundle for good.

Nothing here makes anybody trust them: see `ccverify.cli.sim_trust`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ccverify.bundle.items import DeviceItem
from ccverify.bundle.manifest import QUOTE_LABEL
from ccverify.cli.sim_manager_host import host_of
from ccverify.collect.asking import Answer, ask_all
from ccverify.collect.cuda_library import CudaModule
from ccverify.collect.device_answer import device_outcome
from ccverify.collect.fabric import FabricSource
from ccverify.collect.manager import ManagerSource
from ccverify.collect.model import (
    Absence,
    AbsenceReason,
    Ask,
    Item,
    ItemType,
    Outcome,
    Source,
    Stage,
)
from ccverify.collect.nvml import NvmlSource
from ccverify.collect.probe import ProbeSource
from ccverify.collect.probe_bench import Timing
from ccverify.collect.quotes import asked, checked_quote
from ccverify.errors import UsageError
from ccverify.fabric.statement_model import Dump
from ccverify.sim.board_names import is_board_name, manager_named, tenant_named
from ccverify.sim.machine import SimMachine, sim_machine
from ccverify.sim.manager import SimManager
from ccverify.sim.nvidia.cuda import SimCuda
from ccverify.sim.nvidia.nvml import SimNvml

__all__ = [
    "MARK",
    "Latency",
    "machine_sources",
    "manager_sources",
    "probe_source",
    "simulated_manager_sources",
    "simulated_sources",
]

MARK: Final = "SIMULATED"
"""How the source of every simulated item begins."""

_T = TypeVar("_T")

Latency = Callable[[str], float]
"""Label of a part (``gpu-3``, ``nvswitch-0``, ``tdx-quote``) → seconds until it answers."""


def simulated_sources(name: str, *, probe: bool = False) -> list[Source]:
    """Return the sources of a simulated machine.

    Args:
        name: a kind of `ccverify.sim.machine.MACHINES`, or a tenant of a board
            (`ccverify.sim.board_names`).
        probe: whether its fabric is to be measured as well.

    Raises:
        UsageError: there is no such kind, board, tenant or fault.
    """
    return machine_sources(
        _named(tenant_named if is_board_name(name) else sim_machine, name), probe=probe
    )


def simulated_manager_sources(name: str, given: Mapping[Dump, Path] | None = None) -> list[Source]:
    """Return the sources of a statement on the host of a simulated fabric manager.

    Args:
        name: of a board, of one of its tenants, or of a machine that sits on one
            (`ccverify.sim.board_names`).
        given: files of that host that the user names.

    Raises:
        UsageError: there is no such board, tenant or fault.
    """
    return manager_sources(_named(manager_named, name), given)


def _named(make: Callable[[str], _T], name: str) -> _T:
    try:
        return make(name)
    except UsageError as problem:
        raise UsageError(problem.message, expected=problem.expected, found=problem.found,
                         where="--platform", hint=problem.hint) from None  # fmt: skip


def _at_once(label: str) -> float:
    return 0.0


def machine_sources(
    machine: SimMachine, *, latency: Latency = _at_once, probe: bool = False
) -> list[Source]:
    """Return the sources of a simulated machine.

    Args:
        machine: any, honest or not.
        latency: how long each part takes to answer.
        probe: whether its fabric is to be measured as well.
    """

    def wait(label: str) -> None:
        seconds = latency(label)
        if seconds > 0:
            time.sleep(seconds)

    nvml = SimNvml(machine, lambda number: wait(f"gpu-{number}"))
    registers = _Registers(machine)
    return [
        _Marked(NvmlSource(lambda: nvml)),
        _Switches(machine, wait),
        _Marked(FabricSource(lambda: nvml)),
        *([probe_source(SimCuda(machine))] if probe else []),
        _Quotes(machine, registers, wait),
        _Logs(machine),
        registers,
    ]


def manager_sources(
    manager: SimManager, given: Mapping[Dump, Path] | None = None, *, quoted: bool = True
) -> list[Source]:
    """Return the sources of a statement on the host of a simulated fabric manager.

    Args:
        manager: with any faults.
        given: files of that host that the user names.
        quoted: whether the host is a TD, which can be quoted.
    """
    stated: list[Source] = [_Marked(ManagerSource(host_of(manager), given))]
    if not quoted:
        return stated
    machine = manager.service_vm()
    registers = _Registers(machine)
    return [*stated, _Quotes(machine, registers, lambda _: None), _Logs(machine), registers]


def probe_source(cuda: SimCuda) -> Source:
    """Return the source that measures the fabric of a simulated machine, on its own clock."""
    timing = Timing(cuda.clock, cuda.sleep)
    return _Marked(ProbeSource(lambda: cuda.nvml, lambda: CudaModule(cuda, "0"), timing=timing))


class _Marked:
    """A real source over a simulated device: everything it says is marked."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = f"{MARK} {source.name}"
        self.stage = source.stage
        self.gives: tuple[str, ...] = source.gives

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Ask the source."""
        return [replace(one, source=f"{MARK} {one.source}") for one in self._source.collect(ask)]

    def diagnose(self) -> Sequence[Absence]:
        """Ask the source."""
        return [replace(one, source=f"{MARK} {one.source}") for one in self._source.diagnose()]


class _Switches:
    """The NVSwitches that are passed through; each is asked in a thread of its own."""

    name = f"{MARK} NSCQ"
    stage = Stage.DEVICES
    gives: tuple[str, ...] = ("nvswitch",)

    def __init__(self, machine: SimMachine, wait: Callable[[str], None]) -> None:
        self._machine = machine
        self._wait = wait

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One item or absence per switch; one absence if there is none."""
        switches = self._machine.node.switches
        if not switches:
            return self.diagnose()
        reads = [partial(self._read, number, ask.device_nonce) for number in range(len(switches))]
        return [
            self._outcome(f"nvswitch-{number}", answer, ask)
            for number, answer in enumerate(ask_all(reads, ask))
        ]

    def diagnose(self) -> Sequence[Absence]:
        """Say so if there is no switch."""
        if self._machine.node.switches:
            return ()
        text = "no NVSwitch is passed through to this guest"
        remedy = "nothing: only guests under Protected PCIe have NVSwitches"
        return (Absence("nvswitch", AbsenceReason.NOT_PRESENT, text, remedy, self.name),)

    def _read(self, number: int, nonce: bytes) -> DeviceItem:
        self._wait(f"nvswitch-{number}")
        built = self._machine.switch(number, nonce)
        uuid = self._machine.uuid(self._machine.node.switches[number])
        return DeviceItem(built.report, built.chain_pem, built.architecture, uuid)

    def _outcome(self, label: str, answer: Answer[DeviceItem], ask: Ask) -> Outcome:
        if answer.value is not None:
            return device_outcome(label, ItemType.NVIDIA_SWITCH, answer.value,
                                  nonce=ask.device_nonce, source=self.name)  # fmt: skip
        if answer.late:
            text, reason = "the switch did not answer in time", AbsenceReason.TIMEOUT
            return Absence(label, reason, text, "give more time (--timeout)", self.name)
        text = f"the simulation failed: {answer.error}"
        return Absence(label, AbsenceReason.FAILED, text, "report this", self.name)


class _Logs:
    """The event log of the firmware, and the ACPI table that leads to it."""

    name = f"{MARK} CCEL"
    stage = Stage.LOGS
    gives: tuple[str, ...] = ("ccel", "ccel-table", "dstack-log")

    def __init__(self, machine: SimMachine) -> None:
        self._machine = machine

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Log and table; there is no dstack guest agent."""
        return (
            Item("ccel", ItemType.CCEL, self._machine.event_log(), self.name),
            Item("ccel-table", ItemType.CCEL_TABLE, self._machine.event_log_table(), self.name),
            Absence(
                "dstack-log",
                AbsenceReason.NOT_PRESENT,
                "no dstack guest agent listens in this machine",
                "nothing: only dstack guests have one",
                self.name,
            ),
        )

    def diagnose(self) -> Sequence[Absence]:
        """Nothing that could be there is missing."""
        return ()


class _Registers:
    """The measurement registers in sysfs; RTMR3 can be extended, as on a new kernel."""

    name = f"{MARK} sysfs"
    stage = Stage.LOGS
    gives: tuple[str, ...] = ("td-measurements",)

    def __init__(self, machine: SimMachine) -> None:
        self._values = machine.registers()
        self._lock = threading.Lock()
        self.extended = False

    @property
    def rtmr3(self) -> bytes:
        """RTMR3 as it is now, 48 bytes."""
        return self._values["rtmr3"]

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """All registers in one item."""
        shown = {f"{name}:sha384": value.hex() for name, value in self._values.items()}
        text = json.dumps(shown, sort_keys=True, separators=(",", ":"))
        return (Item("td-measurements", ItemType.TD_MEASUREMENTS, text.encode(), self.name),)

    def diagnose(self) -> Sequence[Absence]:
        """They are there."""
        return ()

    def extend(self, digest: bytes) -> bytes | Absence:
        """Extend RTMR3 by 48 bytes and return its new value."""
        with self._lock:
            value = hashlib.sha384(self.rtmr3 + digest).digest()
            self._values["rtmr3"] = value
            self.extended = True
        return value


class _Quotes:
    """TDX quotes over the REPORTDATA that is asked for."""

    name = f"{MARK} configfs-tsm"
    stage = Stage.QUOTE
    gives: tuple[str, ...] = (QUOTE_LABEL,)

    def __init__(
        self, machine: SimMachine, registers: _Registers, wait: Callable[[str], None]
    ) -> None:
        self._machine = machine
        self._registers = registers
        self._wait = wait

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One quote, with RTMR3 as it is now."""
        report_data = asked(ask)
        self._wait(QUOTE_LABEL)
        rtmr3 = self._registers.rtmr3 if self._registers.extended else None
        quote = self._machine.quote(report_data, rtmr3=rtmr3)
        return (checked_quote(quote, report_data, self.name),)

    def diagnose(self) -> Sequence[Absence]:
        """Quotes can be had."""
        return ()
