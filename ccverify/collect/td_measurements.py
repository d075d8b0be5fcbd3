"""Measurement registers as Linux 6.16 and newer shows them, and the extension of RTMR3.

Linux Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest: each register is a file of
raw bytes, named ``rtmr3:sha384`` or, without an algorithm, ``mrconfigid``.  48 bytes written to
an RTMR extend it: RTMR_new = SHA-384(RTMR_old ‖ bytes).  What sysfs shows is the kernel's word;
only a quote proves a register.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ccverify.collect.files import Files, OsFiles, Trouble, absence_of
from ccverify.collect.machine import NO_TD, PROC, is_tdx_guest, kernel_version
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage

__all__ = [
    "EXTENSION_LABEL",
    "MEASUREMENTS",
    "REGISTER_BYTES",
    "TdMeasurements",
    "extend_rtmr3",
]

MEASUREMENTS: Final = Path("/sys/devices/virtual/misc/tdx_guest/measurements")
REGISTER_BYTES: Final = 48
EXTENSION_LABEL: Final = "rtmr3-extension"
"""What the absence of an extension is called; an extension itself is no item."""

_LABEL: Final = "td-measurements"
_SOURCE: Final = "sysfs tdx_guest"
_RTMR3: Final = "rtmr3:sha384"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}(:[a-z0-9-]{1,16})?")
_MAX_REGISTERS: Final = 64
_OLDEST_KERNEL: Final = (6, 16)

_NOT_ALLOWED: Final[Trouble] = (
    AbsenceReason.NO_PERMISSION,
    "measurement registers may not be used",
    "run as root; in a container, mount /sys writable into it",
)
_TROUBLES: Final[dict[int, Trouble]] = {
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EROFS: _NOT_ALLOWED,
}


class TdMeasurements:
    """All registers the kernel shows, as one JSON object: name → hex.

    Args:
        root: the directory of registers.
        files: the file system.
        proc: where /proc is.
        release: of the kernel, as `uname -r` says it; that of this one if None.
    """

    name = _SOURCE
    stage = Stage.LOGS
    gives: tuple[str, ...] = (_LABEL,)

    def __init__(
        self,
        root: Path = MEASUREMENTS,
        *,
        files: Files | None = None,
        proc: Path = PROC,
        release: str | None = None,
    ) -> None:
        self._root = root
        self._files = files or OsFiles()
        self._proc = proc
        self._release = release

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Read every register."""
        return (self._read(),)

    def diagnose(self) -> Sequence[Absence]:
        """Read every register: nothing is asked of any device for it."""
        found = self._read()
        return (found,) if isinstance(found, Absence) else ()

    def extend(self, digest: bytes) -> bytes | Absence:
        """Extend RTMR3; see `extend_rtmr3`."""
        return extend_rtmr3(
            digest, self._root, files=self._files, proc=self._proc, release=self._release
        )

    def _read(self) -> Outcome:
        registers: dict[str, str] = {}
        try:
            names = [name for name in self._files.names(self._root) if _NAME.fullmatch(name)]
            for name in names[:_MAX_REGISTERS]:
                value = self._files.read(self._root / name, REGISTER_BYTES)
                if len(value) != REGISTER_BYTES:
                    return _wrong_size(_LABEL, self._root / name, value)
                registers[name] = value.hex()
        except OSError as problem:
            return _trouble(
                problem, _LABEL, f"reading registers in {self._root}", self._proc, self._release
            )
        if not registers:
            text = f"{self._root} shows no register"
            return Absence(_LABEL, AbsenceReason.FAILED, text, _DMESG, _SOURCE)
        text = json.dumps(registers, sort_keys=True, separators=(",", ":"))
        return Item(_LABEL, ItemType.TD_MEASUREMENTS, text.encode(), _SOURCE)


def extend_rtmr3(
    digest: bytes,
    root: Path = MEASUREMENTS,
    *,
    files: Files | None = None,
    proc: Path = PROC,
    release: str | None = None,
) -> bytes | Absence:
    """Extend RTMR3 by 48 bytes and return its new value, seen to be the right one.

    There is no way back, so nothing is tried twice: if the value afterwards is not
    SHA-384(before ‖ digest), somebody else extended the register at the same time, or the kernel
    did something else than was asked.

    Args:
        digest: 48 bytes.
        root: the directory of registers.
        files: the file system.
        proc: where /proc is.
        release: of the kernel; that of this one if None.

    Raises:
        ValueError: `digest` is not of 48 bytes.
    """
    if len(digest) != REGISTER_BYTES:
        raise ValueError(f"a register is extended by {REGISTER_BYTES} bytes, not {len(digest)}")
    files = files or OsFiles()
    path = root / _RTMR3
    doing = f"reading {path}"
    try:
        before = files.read(path, REGISTER_BYTES)
        if len(before) != REGISTER_BYTES:
            return _wrong_size(EXTENSION_LABEL, path, before)
        doing = f"writing {path}"
        files.write(path, digest)
        doing = f"reading {path} after extending it"
        after = files.read(path, REGISTER_BYTES)
    except OSError as problem:
        return _trouble(problem, EXTENSION_LABEL, doing, proc, release)
    expected = hashlib.sha384(before + digest).digest()
    if after == expected:
        return after
    return Absence(
        EXTENSION_LABEL,
        AbsenceReason.FAILED,
        f"RTMR3 is not what its extension makes it: before {before.hex()}, extended by "
        f"{digest.hex()}, expected {expected.hex()}, found {after.hex()}",
        "let no other program extend RTMR3 meanwhile; RTMR3 stays as it is until the TD is "
        "started anew",
        _SOURCE,
    )


_DMESG: Final = "look at the kernel's log (`dmesg`)"


def _wrong_size(label: str, path: Path, value: bytes) -> Absence:
    return Absence(
        label,
        AbsenceReason.FAILED,
        f"{path} is no register: expected {REGISTER_BYTES} bytes, found {len(value)}",
        _DMESG,
        _SOURCE,
    )


def _trouble(problem: OSError, label: str, doing: str, proc: Path, release: str | None) -> Absence:
    def otherwise(problem: OSError) -> Trouble:
        if not isinstance(problem, FileNotFoundError | NotADirectoryError):
            return (AbsenceReason.FAILED, "a measurement register failed", _DMESG)
        if is_tdx_guest(proc) is False:
            return NO_TD
        kernel = kernel_version(release)
        if kernel < _OLDEST_KERNEL:
            return (
                AbsenceReason.NOT_SUPPORTED,
                f"Linux {kernel[0]}.{kernel[1]} shows no measurement registers",
                "use a kernel of version 6.16 or newer; the quote has the registers anyway",
            )
        return (
            AbsenceReason.NO_DRIVER,
            "measurement registers are not shown",
            "load the driver: `modprobe tdx_guest`",
        )

    return absence_of(
        problem, _TROUBLES, label=label, source=_SOURCE, doing=doing, otherwise=otherwise
    )
