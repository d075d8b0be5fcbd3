"""What this machine can give, what it cannot, and what to do about it; no report is asked for."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccverify.collect.files import Files, OsFiles
from ccverify.collect.machine import PROC, is_tdx_guest
from ccverify.collect.merge import checked, part_of
from ccverify.collect.model import Absence, Source
from ccverify.collect.running import Reply, call_all, late_absence, raised_absence

__all__ = [
    "FULL_BUNDLE",
    "FULL_STATEMENT",
    "Diagnosis",
    "Machine",
    "Part",
    "diagnose",
    "driver_version",
    "read_machine",
]

FULL_BUNDLE: Final[tuple[tuple[str, ...], ...]] = (
    ("tdx-quote",),
    ("ccel", "dstack-log"),
    ("gpu",),
    ("fabric",),
)
"""What a bundle needs to say everything about a machine: one part of each group.

NVSwitches are not among it: guests have them only under Protected PCIe.
"""
FULL_STATEMENT: Final[tuple[tuple[str, ...], ...]] = (("fabric-manager",), ("fm-config",))
"""What a statement of a fabric's manager cannot do without.

The rest depends on the board and the mode: there are partitions in the shared mode alone, and a
subnet manager since NVLink 5.
"""

_NVIDIA_VERSION: Final = Path("driver/nvidia/version")
_DRIVER: Final = re.compile(rb"Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")
_MAX_VERSION_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about the machine.

    Attributes:
        kernel: release, as `uname -r` says it.
        tdx_guest: whether the processor says that it runs a TD; None if that cannot be read.
        nvidia_driver: version of the loaded kernel module; None if none is loaded.
        root: whether this process runs as root.
    """

    kernel: str
    tdx_guest: bool | None
    nvidia_driver: str | None
    root: bool


@dataclass(frozen=True, slots=True)
class Part:
    """Whether one part of a bundle can be had.

    Attributes:
        part: its name.
        available: from whom.
        absences: what is missing, from everybody who cannot give it; equal ones once.
        group: the parts of which a full bundle needs one, this among them; empty: optional.
    """

    part: str
    available: tuple[str, ...]
    absences: tuple[Absence, ...]
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        machine: facts.
        parts: every part, in the order of the sources.
        full: the groups of which one part each is needed.
    """

    machine: Machine
    parts: tuple[Part, ...]
    full: tuple[tuple[str, ...], ...] = FULL_BUNDLE

    @property
    def missing(self) -> tuple[tuple[str, ...], ...]:
        """Groups of `full` of which no part can be had."""
        there = {part.part for part in self.parts if part.available}
        return tuple(group for group in self.full if not there.intersection(group))


def diagnose(
    sources: Sequence[Source],
    *,
    timeout: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
    machine: Machine | None = None,
    full: tuple[tuple[str, ...], ...] = FULL_BUNDLE,
) -> Diagnosis:
    """Ask every source at once what keeps it from giving its parts.

    Args:
        sources: whom to ask.
        timeout: seconds for each.
        clock: monotonic seconds.
        machine: facts about it; read if None.
        full: the groups of parts of which one each is needed.
    """
    replies = call_all([source.diagnose for source in sources], seconds=timeout, clock=clock)
    available: dict[str, list[str]] = {}
    absences: dict[str, list[Absence]] = {}
    for source, reply in zip(sources, replies, strict=True):
        found = _found(source, reply, timeout)
        for part in source.gives:
            available.setdefault(part, [])
            mine = [one for one in found if part_of(one.label) in (part, *_foreign(source, one))]
            absences.setdefault(part, []).extend(mine)
            if not mine:
                available[part].append(source.name)
    groups = {part: group for group in full for part in group}
    parts = (
        Part(part, tuple(names), _distinct(absences[part]), groups.get(part, ()))
        for part, names in available.items()
    )
    return Diagnosis(machine or read_machine(), tuple(parts), full)


def _found(source: Source, reply: Reply, timeout: float) -> list[Absence]:
    if reply.late:
        return [late_absence(part, source.name, timeout) for part in source.gives]
    if reply.raised is not None:
        return [raised_absence(part, source.name, reply.raised) for part in source.gives]
    found = (checked(outcome, source.gives[0], source.name) for outcome in reply.outcomes)
    return [one for one in found if isinstance(one, Absence)]


def _foreign(source: Source, absence: Absence) -> tuple[str, ...]:
    """An absence of something that is no part of the source keeps it from all of its parts."""
    part = part_of(absence.label)
    return () if part in source.gives else (part,)


def _distinct(absences: Iterable[Absence]) -> tuple[Absence, ...]:
    """Eight GPUs with one and the same trouble are told once."""
    told = {(one.reason, one.text, one.remedy, one.source): one for one in reversed([*absences])}
    return tuple(reversed(told.values()))


def read_machine(proc: Path = PROC, files: Files | None = None) -> Machine:
    """Read the facts; what cannot be read is None."""
    files = files or OsFiles()
    try:
        driver = driver_version(files.read(proc / _NVIDIA_VERSION, _MAX_VERSION_BYTES))
    except OSError:
        driver = None
    return Machine(
        kernel=os.uname().release,
        tdx_guest=is_tdx_guest(proc, files),
        nvidia_driver=driver,
        root=os.geteuid() == 0,
    )


def driver_version(data: bytes) -> str | None:
    """Return the driver's version from ``/proc/driver/nvidia/version``; None if it has none."""
    match = _DRIVER.search(data)
    return match.group(1).decode("ascii") if match else None
