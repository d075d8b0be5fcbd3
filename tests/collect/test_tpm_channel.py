"""The ways to a TPM: a device that behaves as the kernel's, and servers of all manners."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from binder_asks import bind_ask, the_unbound, tpm_result

from ccverify.collect.model import AbsenceReason
from ccverify.collect.tpm import TpmBinder, parse_pcr_selection
from ccverify.collect.tpm_channel import (
    TpmAddress,
    open_channel,
    parse_address,
)
from ccverify.sim.tpm_device import SimTpmDevice

Serve = Callable[[SimTpmDevice, socket.socket], None]


def left() -> float:
    return 10.0


def command(connection: socket.socket) -> bytes:
    """Read one command; empty at the end."""
    data = b""
    while len(data) < 10 or len(data) < struct.unpack(">I", data[2:6])[0]:
        block = connection.recv(4096)
        if not block:
            return b""
        data += block
    return data


def answering(device: SimTpmDevice, connection: socket.socket) -> None:
    while data := command(connection):
        connection.sendall(device.transmit(data, left))


def once(device: SimTpmDevice, connection: socket.socket) -> None:
    """As swtpm with ``disconnect``: one response for each connection."""
    if data := command(connection):
        connection.sendall(device.transmit(data, left))


def piecemeal(device: SimTpmDevice, connection: socket.socket) -> None:
    while data := command(connection):
        for byte in device.transmit(data, left):
            connection.sendall(bytes((byte,)))


@contextmanager
def server(serve: Serve, path: Path | None = None) -> Iterator[TpmAddress]:
    """Serve connections one after the other until the test is over."""
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.bind(str(path) if path else ("127.0.0.1", 0))
    listener.listen()
    device, over = SimTpmDevice(), threading.Event()

    def run() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                serve(device, connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield path or ("127.0.0.1", listener.getsockname()[1])
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def binder(address: TpmAddress) -> TpmBinder:
    return TpmBinder(address, parse_pcr_selection("sha256:0-9"))


@pytest.mark.parametrize("serve", [answering, once, piecemeal])
@pytest.mark.parametrize("unix", [False, True])
def test_servers_of_all_manners_are_understood(serve: Serve, unix: bool, tmp_path: Path) -> None:
    with server(serve, tmp_path / "tpm.sock" if unix else None) as address:
        made = binder(address)
        assert made.diagnose() == ()
        tpm_result(made.bind(bind_ask()))


def silent(device: SimTpmDevice, connection: socket.socket) -> None:
    command(connection)
    connection.recv(1)  # until the other side gives up


def endless(device: SimTpmDevice, connection: socket.socket) -> None:
    command(connection)
    connection.sendall(struct.pack(">HII", 0x8001, 4096, 0) + bytes(10))
    connection.recv(1)


def too_much(device: SimTpmDevice, connection: socket.socket) -> None:
    command(connection)
    connection.sendall(struct.pack(">HII", 0x8001, 0xFFFFFFFF, 0))


def web(device: SimTpmDevice, connection: socket.socket) -> None:
    connection.recv(1)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def closing(device: SimTpmDevice, connection: socket.socket) -> None:
    command(connection)


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (silent, AbsenceReason.TIMEOUT),
        (endless, AbsenceReason.TIMEOUT),
        (too_much, AbsenceReason.FAILED),
        (web, AbsenceReason.FAILED),
        (closing, AbsenceReason.FAILED),
    ],
)
def test_what_is_no_tpm_is_an_absence_in_time(serve: Serve, reason: AbsenceReason) -> None:
    with server(serve) as address:
        absence = the_unbound(binder(address).bind(bind_ask(0.3)))
    assert absence.reason is reason


def test_where_nobody_listens_there_is_no_tpm(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    path = tmp_path / "tpm.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    for address in (("127.0.0.1", port), path, tmp_path / "nothing"):
        absence = the_unbound(binder(address).bind(bind_ask()))
        assert absence.reason is AbsenceReason.NOT_PRESENT


def test_no_time_is_no_attempt() -> None:
    with server(answering) as address:
        for where in (address, Path("/dev/null")):
            assert the_unbound(binder(where).bind(bind_ask(0.0))).reason is AbsenceReason.TIMEOUT


# --- devices ---


@contextmanager
def device(serve: Callable[[SimTpmDevice, int], None]) -> Iterator[Path]:
    """A character device: the slave of a terminal that changes no byte."""
    master, slave = os.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    thread = threading.Thread(target=serve, args=(SimTpmDevice(), master), daemon=True)
    thread.start()
    try:
        yield Path(os.ttyname(slave))
    finally:
        os.close(slave)
        thread.join(5)
        os.close(master)


def kernel(tpm: SimTpmDevice, master: int) -> None:
    try:
        while data := os.read(master, 4096):
            time.sleep(0.01)  # so that the other side has to wait for it
            os.write(master, tpm.transmit(data, left))
    except OSError:
        return  # closed


def test_a_device_takes_commands_and_gives_responses() -> None:
    with device(kernel) as path:
        tpm_result(binder(path).bind(bind_ask()))


def test_a_device_that_does_not_answer_is_late() -> None:
    def hang(tpm: SimTpmDevice, master: int) -> None:
        os.read(master, 4096)

    with device(hang) as path:
        assert the_unbound(binder(path).bind(bind_ask(0.2))).reason is AbsenceReason.TIMEOUT


def test_an_empty_response_is_an_error() -> None:
    absence = the_unbound(binder(Path("/dev/null")).bind(bind_ask()))
    assert "empty response" in absence.text


def test_nothing_is_written_to_what_is_no_device(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_bytes(b"precious")
    absence = the_unbound(binder(file).bind(bind_ask()))
    assert absence.reason is AbsenceReason.NOT_PRESENT
    assert file.read_bytes() == b"precious"
    assert the_unbound(binder(tmp_path).bind(bind_ask())).reason is AbsenceReason.FAILED
    with pytest.raises(OSError, match="no device"):
        open_channel(file, left)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/dev/tpm0", Path("/dev/tpm0")),
        ("localhost:2321", ("localhost", 2321)),
        ("[::1]:2321", ("::1", 2321)),
        ("tpm.example.com:1", ("tpm.example.com", 1)),
        ("", None),
        ("tpm0", None),
        (":2321", None),
        ("a:b", None),
        ("a:99999", None),
        ("a:1:2", None),
        ("[::1", None),
    ],
)
def test_addresses(text: str, address: TpmAddress | None) -> None:
    assert parse_address(text) == address
