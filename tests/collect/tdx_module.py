"""A TDX module as /dev/tdx_guest shows it, and a QGS that makes quotes of its reports.

Layout of TDREPORT: Intel TDX Module ABI Specification, TDREPORT_STRUCT; of the messages: Intel
DCAP qgs_msg_lib.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kernel_tsm import quote_over
from tdx_asks import template

RTMR3 = b"\x33" * 48


def td_report(report_data: bytes) -> bytes:
    """REPORTMACSTRUCT 256, TEE_TCB_INFO 239 and 17 reserved, TDINFO 512."""
    mac = b"\x81\0\0\0".ljust(16, b"\0") + bytes(16) + b"\x11" * 96 + report_data
    mac = mac.ljust(224, b"\0") + b"\x22" * 32
    info = bytes(16) + b"\x44" * 48 + bytes(4 * 48) + bytes(3 * 48) + RTMR3 + bytes(48)
    report = mac + bytes(256) + info.ljust(512, b"\0")
    assert len(report) == 1024
    return report


class TdxGuest:
    """What ioctl(2) does on /dev/tdx_guest: one command, in a buffer of 64 + 1024 bytes."""

    def __init__(self) -> None:
        self.failure: int | None = None
        self.change: Callable[[bytes], bytes] = lambda report: report
        self.asked: list[bytes] = []

    def ioctl(self, descriptor: int, number: int, buffer: bytearray) -> int:
        os.fstat(descriptor)
        if number != 0xC4405401:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        if self.failure is not None:
            raise OSError(self.failure, os.strerror(self.failure))
        assert len(buffer) == 1088
        self.asked.append(bytes(buffer[:64]))
        buffer[64:] = self.change(td_report(bytes(buffer[:64])))
        return 0


def answer(quote: bytes, *, selected: bytes = b"", code: int = 0, kind: int = 1) -> bytes:
    size = 24 + len(selected) + len(quote)
    head = struct.pack("<HHIII", 1, 1, kind, size, code)
    return head + struct.pack("<II", len(selected), len(quote)) + selected + quote


class Qgs:
    """Listens on a unix socket in place of a vsock port."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self.ports: list[int] = []
        self.behave: Callable[[socket.socket, bytes], None] | None = None
        self.stop = threading.Event()

    def connect(self, port: int, timeout: float) -> socket.socket:
        self.ports.append(port)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(str(self.path))
        return connection

    def serve(self, connection: socket.socket) -> None:
        # An OSError: the client went away.
        with connection, suppress(OSError):
            head = connection.recv(4, socket.MSG_WAITALL)
            if len(head) < 4:
                return
            request = connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
            self.requests.append(request)
            major, _, kind, size, code, report_size, ids = struct.unpack_from("<HHIIIII", request)
            # As qgs_msg_inflate_get_quote_req checks.
            assert (major, kind, size, code) == (1, 0, len(request), 0)
            assert 24 + report_size + ids == size
            report = request[24 : 24 + report_size]
            reply = answer(quote_over(template(), report[128:192]))
            if self.behave is not None:
                self.behave(connection, reply)
            else:
                self.send(connection, reply)

    @staticmethod
    def send(connection: socket.socket, reply: bytes) -> None:
        connection.sendall(len(reply).to_bytes(4, "big") + reply)


@contextmanager
def serve_qgs(path: Path) -> Iterator[Qgs]:
    qgs = Qgs(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=qgs.serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield qgs
    finally:
        qgs.stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
