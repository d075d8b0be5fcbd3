"""TDREPORT by ioctl on /dev/tdx_guest: for diagnosis, and for QGS to make a quote of.

Linux include/uapi/linux/tdx-guest.h: ``TDX_CMD_GET_REPORT0 = _IOWR('T', 1, struct
tdx_report_req)`` with ``struct { u8 reportdata[64]; u8 tdreport[1024]; }``.  Layout of the
report: Intel TDX Module ABI Specification, TDREPORT_STRUCT.  Its MAC is made with a key of this
one processor, so no remote party can verify it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ccverify.collect.files import Trouble, absence_of
from ccverify.collect.machine import NO_TD, PROC, is_tdx_guest
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage

__all__ = [
    "GET_REPORT0",
    "REPORT_BYTES",
    "TDX_GUEST",
    "Ioctl",
    "TdReport",
    "ask_kernel",
    "read_td_report",
]

TDX_GUEST: Final = Path("/dev/tdx_guest")
REPORT_DATA_BYTES: Final = 64
REPORT_BYTES: Final = 1024

_WRITE, _READ = 1, 2


def _ioc(direction: int, kind: str, number: int, size: int) -> int:
    """Return an ioctl number of Linux on x86: direction ‖ size (14 bits) ‖ type ‖ number."""
    return direction << 30 | size << 16 | ord(kind) << 8 | number


GET_REPORT0: Final = _ioc(_READ | _WRITE, "T", 1, REPORT_DATA_BYTES + REPORT_BYTES)

_TEE_TYPE_TDX: Final = 0x81
_REPORT_DATA_AT: Final = 128
"""Offset of REPORTDATA in REPORTMACSTRUCT, whose first byte is the type of TEE."""

_LABEL: Final = "tdreport"
_SOURCE: Final = "/dev/tdx_guest"

Ioctl = Callable[[int, int, bytearray], int]
"""Descriptor, number, buffer changed in place → 0; raises OSError."""

_NOT_ALLOWED: Final[Trouble] = (
    AbsenceReason.NO_PERMISSION,
    "/dev/tdx_guest may not be used",
    "run as root; in a container, pass the device in (`--device /dev/tdx_guest`)",
)
_TROUBLES: Final[dict[int, Trouble]] = {
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ENXIO: (
        AbsenceReason.NO_DRIVER,
        "/dev/tdx_guest has no driver behind it",
        "load the driver: `modprobe tdx_guest`",
    ),
    errno.ENOTTY: (
        AbsenceReason.NOT_SUPPORTED,
        "the driver knows no TDX_CMD_GET_REPORT0",
        "use a kernel of version 6.2 or newer: drivers before it had another interface",
    ),
}


def ask_kernel(descriptor: int, number: int, buffer: bytearray) -> int:
    """ioctl(2) with a buffer that the kernel changes in place."""
    return int(fcntl.ioctl(descriptor, number, buffer, True))


def read_td_report(
    report_data: bytes, device: Path = TDX_GUEST, *, ioctl: Ioctl = ask_kernel, proc: Path = PROC
) -> bytes | Absence:
    """Return the 1024 bytes of a TDREPORT over 64 bytes of REPORTDATA.

    Args:
        report_data: 64 bytes.
        device: the character device.
        ioctl: asks the kernel.
        proc: where /proc is.
    """
    request = bytearray(report_data + bytes(REPORT_BYTES))
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            ioctl(descriptor, GET_REPORT0, request)
        finally:
            os.close(descriptor)
    except OSError as problem:
        return absence_of(
            problem,
            _TROUBLES,
            label=_LABEL,
            source=_SOURCE,
            doing=f"asking {device} for a TDREPORT",
            otherwise=partial(_other_trouble, proc=proc),
        )
    report = bytes(request[REPORT_DATA_BYTES:])
    found = report[_REPORT_DATA_AT : _REPORT_DATA_AT + REPORT_DATA_BYTES]
    if report[0] != _TEE_TYPE_TDX or found != report_data:
        return Absence(
            _LABEL,
            AbsenceReason.FAILED,
            f"what {device} gave is no TDREPORT over what was asked: expected type "
            f"0x{_TEE_TYPE_TDX:02x} and REPORTDATA {report_data.hex()}, found type "
            f"0x{report[0]:02x} and {found.hex()}",
            f"see what {device} is: `ls -l {device}`, `dmesg`",
            _SOURCE,
        )
    return report


def _other_trouble(problem: OSError, proc: Path) -> Trouble:
    if not isinstance(problem, FileNotFoundError):
        return (
            AbsenceReason.FAILED,
            "the TDX module or its driver failed",
            "look at the kernel's log (`dmesg`)",
        )
    if is_tdx_guest(proc) is False:
        return NO_TD
    return (
        AbsenceReason.NO_DRIVER,
        "/dev/tdx_guest is not there",
        "load the driver: `modprobe tdx_guest`; in a container, pass the device in "
        "(`--device /dev/tdx_guest`)",
    )


class TdReport:
    """A TDREPORT over the device nonce and 32 zero bytes.  Proof of nothing to anybody else.

    Args:
        device: the character device.
        ioctl: asks the kernel.
        proc: where /proc is.
    """

    name = _SOURCE
    stage = Stage.LOGS
    gives: tuple[str, ...] = (_LABEL,)

    def __init__(
        self, device: Path = TDX_GUEST, *, ioctl: Ioctl = ask_kernel, proc: Path = PROC
    ) -> None:
        self._device = device
        self._ioctl = ioctl
        self._proc = proc

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Ask the TDX module for a report."""
        found = self._read(ask.device_nonce.ljust(REPORT_DATA_BYTES, b"\0"))
        if isinstance(found, Absence):
            return (found,)
        return (Item(_LABEL, ItemType.TDREPORT, found, _SOURCE),)

    def diagnose(self) -> Sequence[Absence]:
        """Ask for a report over zeros, which no secret and no host is needed for."""
        found = self._read(bytes(REPORT_DATA_BYTES))
        return (found,) if isinstance(found, Absence) else ()

    def _read(self, report_data: bytes) -> bytes | Absence:
        return read_td_report(report_data, self._device, ioctl=self._ioctl, proc=self._proc)
