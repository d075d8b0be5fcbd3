"""What kind of machine this is, and which process we are, as /proc says it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccverify.collect.files import Files, OsFiles, Trouble
from ccverify.collect.model import AbsenceReason

__all__ = ["NO_TD", "PROC", "Owner", "is_dead", "is_tdx_guest", "kernel_version", "this_process"]

PROC: Final = Path("/proc")
NO_TD: Final[Trouble] = (
    AbsenceReason.NOT_PRESENT,
    "this machine is no TDX guest: /proc/cpuinfo lacks the flag tdx_guest",
    "run in an Intel TDX guest",
)
_MAX_PROC_BYTES: Final = 16 * 1024 * 1024
"""Of /proc/cpuinfo, the largest file read here: about 1.5 KiB for each of many processors."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told apart from all others that this kernel ran since it booted.

    Attributes:
        boot: first 8 hex digits of the kernel's boot id.
        namespace: inode of the PID namespace in which `pid` counts.
        pid: process id.
        start: when it started, in clock ticks since boot: a process id is used again.
    """

    boot: str
    namespace: int
    pid: int
    start: int


def this_process(proc: Path = PROC) -> Owner:
    """Return the calling process.

    Raises:
        OSError: /proc is not mounted.
    """
    boot = (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()
    namespace = os.readlink(proc / "self/ns/pid")
    pid = os.getpid()
    found = _state_and_start(proc, pid)
    if found is None:
        raise OSError(f"{proc}/{pid}/stat does not tell when this process started")
    number = re.search(r"\d+", namespace)
    return Owner(boot[:8], int(number.group()) if number else 0, pid, found[1])


def is_dead(owner: Owner, me: Owner, proc: Path = PROC) -> bool:
    """Whether a process is gone for certain; what cannot be known counts as alive.

    Args:
        owner: who is asked about.
        me: the calling process, in whose boot and PID namespace alone an answer is possible.
        proc: where /proc is.
    """
    if (owner.boot, owner.namespace) != (me.boot, me.namespace):
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    found = _state_and_start(proc, owner.pid)
    if found is None:
        return False
    state, start = found
    if start != owner.start:
        return True
    # A zombie does nothing any more, unless it is the first thread of a process that goes on.
    return state in "ZX" and _threads(proc, owner.pid) <= 1


def _state_and_start(proc: Path, pid: int) -> tuple[str, int] | None:
    try:
        text = (proc / str(pid) / "stat").read_text("utf-8", "replace")
        # proc(5): the name of the program, field 2, may contain anything, `)` included.
        fields = text.rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _threads(proc: Path, pid: int) -> int:
    try:
        return len(os.listdir(proc / str(pid) / "task"))
    except OSError:
        return 0


def is_tdx_guest(proc: Path = PROC, files: Files | None = None) -> bool | None:
    """Whether the processor says that it runs a TD: flag ``tdx_guest``; None if unreadable."""
    try:
        text = (files or OsFiles()).read(proc / "cpuinfo", _MAX_PROC_BYTES)
    except OSError:
        return None
    flags = re.search(rb"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and b"tdx_guest" in flags.group(1).split()


def kernel_version(release: str | None = None) -> tuple[int, int]:
    """Return major and minor number of the running kernel; (0, 0) if they are not to be read."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release if release is None else release)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)
