"""TDX quotes straight from the host's Quote Generation Service (QGS), over vsock.

Messages are those of Intel DCAP, QuoteGeneration/quote_wrapper/qgs_msg_lib; how they travel is
in quote_wrapper/tdx_attest/tdx_attest.c: each is preceded by its length, 4 bytes *big* endian,
while everything inside is little endian and packed:

    header    major u16, minor u16, type u32, size u32 (header included), error code u32
    request   header (type 0), report size u32, id list size u32, report, id list
    response  header (type 1), selected id size u32, quote size u32, selected id, quote

The service is the host's, which a TD does not trust: it can refuse a quote, not forge one.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ccverify.collect.files import Files, OsFiles, Trouble, absence_of
from ccverify.collect.machine import NO_TD, PROC, is_tdx_guest
from ccverify.collect.model import Absence, AbsenceReason, Ask, Outcome, Stage
from ccverify.collect.quotes import MAX_QUOTE_BYTES, QUOTE_LABEL, asked, checked_quote
from ccverify.collect.tdreport import TDX_GUEST, Ioctl, ask_kernel, read_td_report
from ccverify.errors import EvidenceError

__all__ = [
    "ATTEST_CONF",
    "DEFAULT_PORT",
    "HOST_CID",
    "Connect",
    "Qgs",
    "attest_port",
    "connect_host",
    "encode_quote_request",
    "parse_quote_response",
]

ATTEST_CONF: Final = Path("/etc/tdx-attest.conf")
DEFAULT_PORT: Final = 4050
HOST_CID: Final = 2

_SOURCE: Final = "QGS"
_LENGTH: Final = struct.Struct(">I")
_HEADER: Final = struct.Struct("<HHIII")
_SIZES: Final = struct.Struct("<II")
_MAJOR, _MINOR = 1, 1
_GET_QUOTE_REQ, _GET_QUOTE_RESP = 0, 1
_MAX_ID_BYTES: Final = 4096
_MAX_RESPONSE_BYTES: Final = _HEADER.size + _SIZES.size + _MAX_ID_BYTES + MAX_QUOTE_BYTES
_MAX_CONF_BYTES: Final = 64 * 1024

_CODES: Final = {
    0x00012001: "unexpected error",
    0x00012002: "out of memory",
    0x00012003: "invalid parameter",
    0x00012004: "unrecognised version of the message",
    0x00012005: "invalid message type",
    0x00012006: "invalid message size",
    0x00012007: "invalid error code",
}

Connect = Callable[[int, float], socket.socket]
"""Port of the host, seconds → a connected stream socket; raises OSError."""

_HOST: Final = "on the host, look at QGS: `systemctl status qgsd`, and port= in /etc/qgs.conf"
_NO_VSOCK: Final[Trouble] = (
    AbsenceReason.NOT_PRESENT,
    "this machine has no vsock",
    "give the guest a vhost-vsock device, and load vmw_vsock_virtio_transport",
)
_NOBODY: Final[Trouble] = (AbsenceReason.NOT_PRESENT, "nobody answers on the host", _HOST)
_TROUBLES: Final[dict[int, Trouble]] = {
    errno.EAFNOSUPPORT: _NO_VSOCK,
    errno.ENODEV: _NO_VSOCK,
    errno.EADDRNOTAVAIL: _NO_VSOCK,
    errno.ENETUNREACH: _NO_VSOCK,
    errno.EHOSTUNREACH: _NOBODY,
    errno.ECONNREFUSED: _NOBODY,
    errno.ECONNRESET: _NOBODY,
    errno.EACCES: (
        AbsenceReason.NO_PERMISSION,
        "vsock may not be used",
        "let the sandbox of this process allow AF_VSOCK",
    ),
    errno.ETIMEDOUT: (AbsenceReason.TIMEOUT, "the host does not answer", _HOST),
}


def encode_quote_request(report: bytes) -> bytes:
    """Return the message that asks for a quote over a TDREPORT, without its length in front."""
    size = _HEADER.size + _SIZES.size + len(report)
    return (
        _HEADER.pack(_MAJOR, _MINOR, _GET_QUOTE_REQ, size, 0) + _SIZES.pack(len(report), 0) + report
    )


def parse_quote_response(message: bytes) -> bytes:
    """Return the quote of an answer, which stands without its length in front.

    Raises:
        EvidenceError: another version, type or length than those of an answer, or an error code.
    """
    if len(message) < _HEADER.size + _SIZES.size:
        raise _refused(
            "answer of QGS is cut short", f"{_HEADER.size + _SIZES.size} bytes", len(message), 0
        )
    major, _minor, kind, size, code = _HEADER.unpack_from(message)
    if major != _MAJOR:
        raise _refused("answer of QGS has another version", f"major version {_MAJOR}", major, 0)
    if kind != _GET_QUOTE_RESP:
        raise _refused("answer of QGS is of another type", f"type {_GET_QUOTE_RESP}", kind, 4)
    if size != len(message):
        raise _refused("answer of QGS states a wrong length", f"{len(message)} bytes", size, 8)
    id_size, quote_size = _SIZES.unpack_from(message, _HEADER.size)
    start = _HEADER.size + _SIZES.size + id_size
    if start + quote_size != len(message):
        raise _refused(
            "parts of the answer of QGS do not add up",
            f"{len(message)} bytes",
            f"an id of {id_size} and a quote of {quote_size}",
            _HEADER.size,
        )
    if code:
        raise EvidenceError(
            f"QGS refused: error 0x{code:08x}, {_CODES.get(code, 'unknown')}", hint=_HOST
        )
    if not quote_size:
        raise EvidenceError("QGS gave an empty quote and no error", hint=_HOST)
    return message[start:]


def _refused(message: str, expected: str, found: object, at: int) -> EvidenceError:
    return EvidenceError(
        message, expected=expected, found=str(found), where=f"answer[{at}:]", hint=_HOST
    )


def attest_port(text: str) -> int | None:
    """Return the port that /etc/tdx-attest.conf names; None if it names none.

    The first line of the form ``port = N`` counts; ``#`` begins a comment line.

    Raises:
        ValueError: the port is no vsock port.
    """
    for line in text.splitlines():
        found = re.fullmatch(r"\s*port\s*=\s*([0-9]{1,10})\s*", line, re.ASCII)
        if found:
            port = int(found.group(1))
            if not 0 < port < 2**32 - 1:
                raise ValueError(f"port {port} is not between 1 and {2**32 - 2}")
            return port
    return None


def connect_host(port: int, timeout: float) -> socket.socket:
    """Connect to a vsock port of the host; raises OSError."""
    family = getattr(socket, "AF_VSOCK", None)
    if family is None:
        raise OSError(errno.EAFNOSUPPORT, "this Python has no AF_VSOCK")
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect((HOST_CID, port))
    except BaseException:
        connection.close()
        raise
    return connection


class Qgs:
    """Quotes by QGS over vsock.

    Args:
        conf: the file that may name the port.
        device: the character device that makes TDREPORTs.
        connect: makes the connection.
        ioctl: asks the kernel for a TDREPORT.
        files: the file system.
        proc: where /proc is.
    """

    name = _SOURCE
    stage = Stage.QUOTE
    gives: tuple[str, ...] = (QUOTE_LABEL,)

    def __init__(
        self,
        conf: Path = ATTEST_CONF,
        device: Path = TDX_GUEST,
        *,
        connect: Connect = connect_host,
        ioctl: Ioctl = ask_kernel,
        files: Files | None = None,
        proc: Path = PROC,
    ) -> None:
        self._conf = conf
        self._device = device
        self._connect = connect
        self._ioctl = ioctl
        self._files = files or OsFiles()
        self._proc = proc

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Take one quote.

        Raises:
            UsageError: `ask` has no REPORTDATA.
        """
        report_data = asked(ask)
        port = self._port()
        if isinstance(port, Absence):
            return (port,)
        report = self._report(report_data)
        if isinstance(report, Absence):
            return (report,)
        try:
            with self._connect(port, _positive(ask.remaining)) as connection:
                message = _exchange(connection, encode_quote_request(report), ask)
            quote = parse_quote_response(message)
        except TimeoutError:
            text = f"no whole answer came from port {port} of the host in the time allowed"
            return (_absent(AbsenceReason.TIMEOUT, text, f"{_HOST}; or allow more with --timeout"),)
        except OSError as problem:
            return (self._trouble(problem, port),)
        except EvidenceError as problem:
            detail = f" (expected {problem.expected}, found {problem.found})"
            text = problem.message + (detail if problem.expected else "")
            return (_absent(AbsenceReason.FAILED, text, problem.hint or _HOST),)
        return (checked_quote(quote, report_data, _SOURCE),)

    def diagnose(self) -> Sequence[Absence]:
        """Look for a TDREPORT and for somebody on the host's port; no quote is asked for."""
        port = self._port()
        if isinstance(port, Absence):
            return (port,)
        report = self._report(bytes(64))
        if isinstance(report, Absence):
            return (report,)
        try:
            self._connect(port, 2.0).close()
        except OSError as problem:
            return (self._trouble(problem, port),)
        return ()

    def _port(self) -> int | Absence:
        try:
            text = self._files.read(self._conf, _MAX_CONF_BYTES).decode("utf-8", "replace")
            return attest_port(text) or DEFAULT_PORT
        except FileNotFoundError:
            return DEFAULT_PORT
        except (OSError, ValueError) as problem:
            return _absent(
                AbsenceReason.FAILED,
                f"{self._conf} cannot be used: {problem}",
                f"have it say `port={DEFAULT_PORT}`, or what port QGS has",
            )

    def _report(self, report_data: bytes) -> bytes | Absence:
        found = read_td_report(report_data, self._device, ioctl=self._ioctl, proc=self._proc)
        if isinstance(found, bytes):
            return found
        text = f"QGS makes quotes of TDREPORTs: {found.text}"
        return _absent(found.reason, text, found.remedy)

    def _trouble(self, problem: OSError, port: int) -> Absence:
        def otherwise(_: OSError) -> Trouble:
            if is_tdx_guest(self._proc) is False:
                return NO_TD
            return (AbsenceReason.FAILED, "talking to QGS failed", _HOST)

        return absence_of(
            problem,
            _TROUBLES,
            label=QUOTE_LABEL,
            source=_SOURCE,
            doing=f"talking to vsock port {port} of the host",
            otherwise=otherwise,
        )


def _exchange(connection: socket.socket, request: bytes, ask: Ask) -> bytes:
    """Send a message and return the answer; all within the time allowed."""
    connection.settimeout(_positive(ask.remaining))
    connection.sendall(_LENGTH.pack(len(request)) + request)
    (size,) = _LENGTH.unpack(_receive(connection, _LENGTH.size, ask))
    if size > _MAX_RESPONSE_BYTES:
        raise _refused("answer of QGS is too long", f"at most {_MAX_RESPONSE_BYTES} bytes", size, 0)
    return _receive(connection, size, ask)


def _receive(connection: socket.socket, size: int, ask: Ask) -> bytes:
    data = bytearray()
    while len(data) < size:
        connection.settimeout(_positive(ask.remaining))
        block = connection.recv(size - len(data))
        if not block:
            raise _refused("QGS hung up early", f"{size} bytes", len(data), 0)
        data += block
    return bytes(data)


def _positive(seconds: float) -> float:
    """Return a time-out for a socket, to which 0 means something else."""
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _absent(reason: AbsenceReason, text: str, remedy: str) -> Absence:
    return Absence(QUOTE_LABEL, reason, text, remedy, _SOURCE)
