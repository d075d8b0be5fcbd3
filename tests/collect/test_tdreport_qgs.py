"""TDREPORT by ioctl, and quotes of it by QGS."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_tsm import quote_over
from tdx_asks import NONCE, REPORT_DATA, ask, proc_of, template, the_absence, the_item
from tdx_module import Qgs as FakeQgs
from tdx_module import TdxGuest, answer, serve_qgs, td_report

from ccverify.collect.model import AbsenceReason, ItemType
from ccverify.collect.qgs import (
    DEFAULT_PORT,
    Qgs,
    attest_port,
    connect_host,
    encode_quote_request,
    parse_quote_response,
)
from ccverify.collect.tdreport import GET_REPORT0, TdReport
from ccverify.errors import EvidenceError, UsageError
from ccverify.tdx.quote import parse_quote


@pytest.fixture
def guest() -> TdxGuest:
    return TdxGuest()


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "tdx_guest"
    path.touch()
    return path


# --- TDREPORT ------------------------------------------------------------------------------------


def test_the_number_of_the_ioctl() -> None:
    """_IOWR('T', 1, struct of 1088 bytes), as the kernel's header makes it."""
    assert GET_REPORT0 == 0xC4405401


def test_a_report_covers_the_device_nonce(guest: TdxGuest, device: Path) -> None:
    item = the_item(TdReport(device, ioctl=guest.ioctl).collect(ask(None)))
    assert (item.label, item.type) == ("tdreport", ItemType.TDREPORT)
    assert item.data == td_report(NONCE + bytes(32))
    assert guest.asked == [NONCE + bytes(32)]


def test_diagnosis_needs_no_nonce(guest: TdxGuest, device: Path) -> None:
    assert TdReport(device, ioctl=guest.ioctl).diagnose() == ()
    assert guest.asked == [bytes(64)]


@pytest.mark.parametrize(
    "change",
    [
        lambda report: bytes(1024),
        lambda report: b"\0" + report[1:],
        lambda report: report[:128] + bytes(64) + report[192:],
    ],
)
def test_what_is_no_report_is_refused(
    guest: TdxGuest, device: Path, change: Callable[[bytes], bytes]
) -> None:
    guest.change = change
    absence = the_absence(TdReport(device, ioctl=guest.ioctl).collect(ask(None)))
    assert absence.reason is AbsenceReason.FAILED


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EPERM, AbsenceReason.NO_PERMISSION),
        (errno.EACCES, AbsenceReason.NO_PERMISSION),
        (errno.ENXIO, AbsenceReason.NO_DRIVER),
        (errno.ENOTTY, AbsenceReason.NOT_SUPPORTED),
        (errno.EIO, AbsenceReason.FAILED),
    ],
)
def test_errors_of_the_driver(
    guest: TdxGuest, device: Path, number: int, reason: AbsenceReason
) -> None:
    guest.failure = number
    source = TdReport(device, ioctl=guest.ioctl)
    assert the_absence(source.collect(ask(None))).reason is reason
    assert the_absence(source.diagnose()).reason is reason


def test_no_device(tmp_path: Path) -> None:
    for td, reason in ((True, AbsenceReason.NO_DRIVER), (False, AbsenceReason.NOT_PRESENT)):
        (tmp_path / str(td)).mkdir()
        proc = proc_of(tmp_path / str(td), td=td)
        absence = the_absence(TdReport(tmp_path / "none", proc=proc).collect(ask(None)))
        assert absence.reason is reason


def test_a_file_that_is_no_device(device: Path) -> None:
    """By the real ioctl(2)."""
    absence = the_absence(TdReport(device).collect(ask(None)))
    assert absence.reason is AbsenceReason.NOT_SUPPORTED
    assert "ENOTTY" in absence.text


# --- QGS -----------------------------------------------------------------------------------------


@pytest.fixture
def qgs(tmp_path: Path) -> Iterator[FakeQgs]:
    with serve_qgs(tmp_path / "qgs.sock") as running:
        yield running


@pytest.fixture
def source(qgs: FakeQgs, guest: TdxGuest, device: Path, tmp_path: Path) -> Qgs:
    return Qgs(tmp_path / "attest.conf", device, connect=qgs.connect, ioctl=guest.ioctl)


def test_a_quote_by_qgs(source: Qgs, qgs: FakeQgs) -> None:
    item = the_item(source.collect(ask()))
    assert (item.label, item.type, item.source) == ("tdx-quote", ItemType.TDX_QUOTE, "QGS")
    assert parse_quote(item.data).report.report_data == REPORT_DATA
    assert qgs.ports == [DEFAULT_PORT]
    (request,) = qgs.requests
    assert request == (
        struct.pack("<HHIII", 1, 1, 0, 1048, 0)
        + struct.pack("<II", 1024, 0)
        + td_report(REPORT_DATA)
    )
    with pytest.raises(UsageError):
        source.collect(ask(None))


def test_the_port_is_the_one_configured(source: Qgs, qgs: FakeQgs, tmp_path: Path) -> None:
    (tmp_path / "attest.conf").write_text("# port=1\n\n port = 5000 \nport=6000\n")
    the_item(source.collect(ask()))
    assert source.diagnose() == ()
    assert qgs.ports == [5000, 5000]
    (tmp_path / "attest.conf").write_text("port=4294967295\n")
    for outcomes in (source.collect(ask()), source.diagnose()):
        assert the_absence(outcomes).reason is AbsenceReason.FAILED


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("port=4050\n", 4050),
        ("port = 4050", 4050),
        ("#port=4050\n", None),
        ("port=4050 # QGS\n", None),
        ("port=-1\n", None),
        ("ports=1\n", None),
        ("port=40500000000\n", None),
        ("port=٤٠٥٠\n", None),
        ("", None),
    ],
)
def test_configuration(text: str, port: int | None) -> None:
    assert attest_port(text) == port


@pytest.mark.parametrize("port", ["0", "4294967295", "9999999999"])
def test_ports_that_are_none(port: str) -> None:
    with pytest.raises(ValueError, match="port"):
        attest_port(f"port={port}\n")


def hang(connection: socket.socket, _: bytes) -> None:
    connection.settimeout(20)
    connection.recv(1)


def hang_after_length(connection: socket.socket, reply: bytes) -> None:
    connection.sendall(len(reply).to_bytes(4, "big") + reply[:100])
    hang(connection, reply)


def hang_up(connection: socket.socket, reply: bytes) -> None:
    connection.sendall(len(reply).to_bytes(4, "big") + reply[:100])


def drip(connection: socket.socket, reply: bytes) -> None:
    """Each byte comes soon enough, the whole never."""
    for byte in len(reply).to_bytes(4, "big") + reply:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def too_long(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"\xff\xff\xff\xff" + bytes(1000))


def nothing(connection: socket.socket, _: bytes) -> None:
    pass


@pytest.mark.parametrize("behave", [hang, hang_after_length, drip])
def test_a_slow_service(
    source: Qgs, qgs: FakeQgs, behave: Callable[[socket.socket, bytes], None]
) -> None:
    qgs.behave = behave
    absence = the_absence(source.collect(ask(seconds=0.2)))
    assert absence.reason is AbsenceReason.TIMEOUT


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (hang_up, "hung up"),
        (nothing, "hung up"),
        (too_long, "too long"),
        (lambda c, r: FakeQgs.send(c, answer(b"", code=0x12001)), "0x00012001, unexpected error"),
        (lambda c, r: FakeQgs.send(c, answer(b"", code=0xE01B)), "0x0000e01b, unknown"),
        (lambda c, r: FakeQgs.send(c, answer(b"")), "empty"),
        (lambda c, r: FakeQgs.send(c, r[:8] + b"\0\0\0\0" + r[12:]), "length"),
        (lambda c, r: FakeQgs.send(c, answer(r[24:], kind=3)), "type"),
        (lambda c, r: FakeQgs.send(c, b"\2" + r[1:]), "version"),
        (lambda c, r: FakeQgs.send(c, r[:10]), "cut short"),
        (lambda c, r: FakeQgs.send(c, answer(bytes(3000))), "no TDX quote"),
        (
            lambda c, r: FakeQgs.send(c, answer(quote_over(template(), bytes(64)))),
            "other REPORTDATA",
        ),
    ],
)
def test_bad_answers(
    source: Qgs, qgs: FakeQgs, behave: Callable[[socket.socket, bytes], None], words: str
) -> None:
    qgs.behave = behave
    absence = the_absence(source.collect(ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert words in absence.text


def test_a_selected_id_stands_before_the_quote(source: Qgs, qgs: FakeQgs) -> None:
    qgs.behave = lambda c, r: FakeQgs.send(c, answer(r[24:], selected=b"\7" * 16))
    the_item(source.collect(ask()))


def test_without_a_report_nothing_is_sent(source: Qgs, qgs: FakeQgs, guest: TdxGuest) -> None:
    guest.failure = errno.EPERM
    for outcomes in (source.collect(ask()), source.diagnose()):
        absence = the_absence(outcomes)
        assert absence.reason is AbsenceReason.NO_PERMISSION
        assert absence.label == "tdx-quote"
    assert qgs.ports == []


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENODEV, AbsenceReason.NOT_PRESENT),
        (errno.EAFNOSUPPORT, AbsenceReason.NOT_PRESENT),
        (errno.ECONNRESET, AbsenceReason.NOT_PRESENT),
        (errno.EACCES, AbsenceReason.NO_PERMISSION),
        (errno.EPIPE, AbsenceReason.FAILED),
    ],
)
def test_no_connection(
    guest: TdxGuest, device: Path, tmp_path: Path, number: int, reason: AbsenceReason
) -> None:
    def refuse(_: int, __: float) -> socket.socket:
        raise OSError(number, os.strerror(number))

    proc = proc_of(tmp_path, td=True)
    source = Qgs(tmp_path / "no", device, connect=refuse, ioctl=guest.ioctl, proc=proc)
    assert the_absence(source.collect(ask())).reason is reason
    assert the_absence(source.diagnose()).reason is reason


def test_vsock_itself_fails_in_a_way_that_is_known(
    guest: TdxGuest, device: Path, tmp_path: Path
) -> None:
    """By the real AF_VSOCK, whatever this machine has of it; nobody listens on the port."""
    source = Qgs(tmp_path / "no", device, connect=connect_host, ioctl=guest.ioctl)
    (tmp_path / "no").write_text("port=4294967294\n")
    absence = the_absence(source.collect(ask(seconds=1)))
    assert absence.reason in (AbsenceReason.NOT_PRESENT, AbsenceReason.TIMEOUT)


@given(st.binary(max_size=3000))
def test_any_answer_is_read_or_refused(data: bytes) -> None:
    try:
        quote = parse_quote_response(data)
    except EvidenceError:
        return
    assert data.endswith(quote)


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=20))
def test_every_good_answer_is_read(quote: bytes, selected: bytes) -> None:
    assert parse_quote_response(answer(quote, selected=selected)) == quote
    with pytest.raises(EvidenceError):
        parse_quote_response(answer(quote, selected=selected) + b"\0")
    assert encode_quote_request(quote)[24:] == quote
