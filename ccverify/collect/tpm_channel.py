"""Ways to a TPM: the kernel's device, or a TPM that answers on a socket (swtpm's data channel).

Either way a command goes out as it is marshalled, and one response comes back.  Nothing waits
longer than the time that is left: the device is opened without blocking, which since Linux 4.20
makes a command run in the background (drivers/char/tpm/tpm-dev-common.c).
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

__all__ = [
    "DEFAULT_DEVICE",
    "MAX_RESPONSE_BYTES",
    "Channel",
    "DeviceChannel",
    "SocketChannel",
    "TpmAddress",
    "open_channel",
    "parse_address",
]

DEFAULT_DEVICE: Final = Path("/dev/tpmrm0")
"""The kernel's resource manager: many programs may use it at once."""
MAX_RESPONSE_BYTES: Final = 4096
"""TPM_BUFSIZE of the kernel; also what swtpm answers at most."""

_HEADER_BYTES: Final = 10
_ADDRESS: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})"
)

TpmAddress = Path | tuple[str, int]
"""A device or a unix socket by its path; a TCP port by host and number."""


class Channel(Protocol):
    """An open way to a TPM."""

    def transmit(self, command: bytes, remaining: Callable[[], float]) -> bytes:
        """Send a command and return the response, of at most `MAX_RESPONSE_BYTES`.

        Raises:
            TimeoutError: no response within the time.
            OSError: the way is broken.
        """
        ...

    def close(self) -> None:
        """Give it up."""
        ...


def parse_address(text: str) -> TpmAddress | None:
    """Return what ``/dev/tpmrm0``, ``/run/tpm.sock`` or ``host:port`` names; None if nothing."""
    if text.startswith("/"):
        return Path(text) if "\0" not in text else None
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        return None
    return match[1].strip("[]"), int(match[2])


def open_channel(address: TpmAddress, remaining: Callable[[], float]) -> Channel:
    """Open a way to a TPM.

    Raises:
        TimeoutError: not within the time.
        OSError: there is none, or it may not be used.
    """
    if isinstance(address, tuple) or address.is_socket():
        return SocketChannel(address, remaining)
    descriptor = os.open(address, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISCHR(os.fstat(descriptor).st_mode):  # and nothing else shall be written to
        os.close(descriptor)
        raise OSError(errno.ENODEV, "it is no device", str(address))
    return DeviceChannel(descriptor)


class DeviceChannel:
    """A character device that takes a command by one write and gives the response by one read.

    Args:
        descriptor: of the open device; closed by `close`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def transmit(self, command: bytes, remaining: Callable[[], float]) -> bytes:
        """Send a command and return the response."""
        written = os.write(self._descriptor, command)
        if written != len(command):
            raise OSError(errno.EIO, f"{written} of {len(command)} bytes written")
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            if not poll.poll(1000 * _positive(remaining())):
                continue  # the next look at the time left raises
            try:
                response = os.read(self._descriptor, MAX_RESPONSE_BYTES)
            except BlockingIOError:
                continue
            if response:
                return response
            raise OSError(errno.EIO, "the device gave an empty response")

    def close(self) -> None:
        """Close the device."""
        os.close(self._descriptor)


class SocketChannel:
    """A stream of commands and responses.

    A server may close the connection after each response, as swtpm does with ``disconnect``, so
    one that ends between two commands is made again.

    Args:
        address: where the TPM answers.
        remaining: seconds left for the first connection.
    """

    def __init__(self, address: TpmAddress, remaining: Callable[[], float]) -> None:
        self._address = address
        self._connection = _connect(address, remaining)

    def transmit(self, command: bytes, remaining: Callable[[], float]) -> bytes:
        """Send a command and return the response, whose header says how long it is."""
        try:
            response = self._exchange(command, remaining)
        except ConnectionError:
            # What closes after each response has not read this command.
            self._connection.close()
            self._connection = _connect(self._address, remaining)
            response = self._exchange(command, remaining)
        size = int.from_bytes(response[2:6], "big")
        if not _HEADER_BYTES <= size <= MAX_RESPONSE_BYTES:
            raise OSError(errno.EPROTO, f"what answers is no TPM: it states {size} bytes")
        return response + self._octets(size - _HEADER_BYTES, remaining)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _exchange(self, command: bytes, remaining: Callable[[], float]) -> bytes:
        """Send a command and return the header of its response."""
        self._connection.settimeout(_positive(remaining()))
        self._connection.sendall(command)
        return self._octets(_HEADER_BYTES, remaining)

    def _octets(self, length: int, remaining: Callable[[], float]) -> bytes:
        found = b""
        while len(found) < length:
            self._connection.settimeout(_positive(remaining()))
            block = self._connection.recv(length - len(found))
            if not block:
                raise ConnectionResetError(
                    errno.ECONNRESET, f"the connection ended {length - len(found)} bytes too early"
                )
            found += block
        return found


def _connect(address: TpmAddress, remaining: Callable[[], float]) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address, _positive(remaining()))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_positive(remaining()))
        connection.connect(str(address))
    except OSError:
        connection.close()
        raise
    return connection


def _positive(seconds: float) -> float:
    """Return a time-out for a socket, to which 0 means something else."""
    if seconds <= 0:
        raise TimeoutError
    return seconds
