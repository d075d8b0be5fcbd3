"""The dstack guest agent, over a real unix socket."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dstack_server import (
    LOG,
    Agent,
    Misbehaviour,
    app_data,
    drip,
    drip_headers,
    flood,
    hang,
    hang_up,
    raw,
    reply,
    serve,
    truncate,
)
from tdx_asks import REPORT_DATA, ask, by_label, the_absence, the_item

from ccverify.collect.dstack_agent import SOCKETS, DstackLogs, DstackQuote, find_agent
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType, Stage
from ccverify.errors import UsageError
from ccverify.tdx.dstack_log import parse_dstack_log
from ccverify.tdx.quote import parse_quote

NAMES = ["dstack.sock", "tappd.sock"]


@pytest.fixture(params=NAMES)
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    with serve(tmp_path / "run" / request.param) as running:
        yield running


@pytest.fixture
def dstack(tmp_path: Path) -> Iterator[Agent]:
    with serve(tmp_path / "run/dstack.sock") as running:
        yield running


def test_quote(agent: Agent, tmp_path: Path) -> None:
    item = the_item(DstackQuote(tmp_path).collect(ask()))
    assert (item.label, item.type) == ("tdx-quote", ItemType.TDX_QUOTE)
    assert agent.path.name in item.source
    assert parse_quote(item.data).report.report_data == REPORT_DATA
    ((path, request),) = agent.requests
    assert path == ("/prpc/Tappd.TdxQuote?json" if agent.is_tappd else "/GetQuote?json")
    assert request["report_data"] == REPORT_DATA.hex()
    assert request.get("hash_algorithm") == ("raw" if agent.is_tappd else None)


def test_log_and_info_come_from_one_question(agent: Agent, tmp_path: Path) -> None:
    source = DstackLogs(tmp_path)
    assert source.stage is Stage.LOGS
    found = by_label(source.collect(ask(None)))
    assert set(found) == set(source.gives)
    log, info = found["dstack-log"], found["dstack-info"]
    assert isinstance(log, Item)
    assert isinstance(info, Item)
    assert json.loads(log.data) == LOG
    assert log.type is ItemType.DSTACK_LOG
    assert json.loads(info.data)["app_name"] == "äpp"
    assert info.type is ItemType.DSTACK_INFO
    assert len(agent.requests) == 1


@pytest.mark.parametrize("as_text", [True, False])
def test_real_tcb_info(dstack: Agent, tmp_path: Path, vectors: Path, as_text: bool) -> None:
    text = (vectors / "tdx/dstack/near_tcb_info.json").read_text()
    dstack.tcb_info = text if as_text else json.loads(text)
    log = by_label(DstackLogs(tmp_path).collect(ask(None)))["dstack-log"]
    assert isinstance(log, Item)
    assert parse_dstack_log(log.data) == parse_dstack_log(
        json.dumps(json.loads(text)["event_log"]).encode()
    )


@pytest.mark.parametrize(
    ("tcb_info", "reason"),
    [
        ("", AbsenceReason.NOT_SUPPORTED),
        (None, AbsenceReason.NOT_SUPPORTED),
        ("{}", AbsenceReason.NOT_SUPPORTED),
        ([], AbsenceReason.NOT_SUPPORTED),
        ('{"event_log":[]}', AbsenceReason.NOT_SUPPORTED),
        ('{"event_log":"[1"}', AbsenceReason.FAILED),
        ('{"event_log":[1],"event_log":[2]}', AbsenceReason.FAILED),
        ("{", AbsenceReason.FAILED),
    ],
)
def test_info_without_a_log_is_still_info(
    dstack: Agent, tmp_path: Path, tcb_info: object, reason: AbsenceReason
) -> None:
    dstack.tcb_info = tcb_info
    found = by_label(DstackLogs(tmp_path).collect(ask(None)))
    log = found["dstack-log"]
    assert isinstance(log, Absence)
    assert log.reason is reason
    assert isinstance(found["dstack-info"], Item)


def test_an_agent_that_hashes_is_found_out(agent: Agent, tmp_path: Path) -> None:
    agent.only_hashes = True
    absence = the_absence(DstackQuote(tmp_path).collect(ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert REPORT_DATA.hex() in absence.text
    assert app_data(REPORT_DATA).hex() in absence.text


def test_a_quote_in_hex_with_a_prefix(dstack: Agent, tmp_path: Path) -> None:
    quote = dstack.get_quote({"report_data": REPORT_DATA.hex()})["quote"]
    dstack.misbehaviour = reply(json.dumps({"quote": f"0x{quote}"}).encode())
    the_item(DstackQuote(tmp_path).collect(ask()))


def test_two_at_once(agent: Agent, tmp_path: Path) -> None:
    """Both are in the agent at the same time, and each gets its own quote."""
    both = threading.Barrier(2, timeout=20)
    methods = agent.tappd if agent.is_tappd else agent.dstack
    name = next(iter(methods))
    quote = methods[name]

    def together(request: dict[str, Any]) -> dict[str, Any]:
        both.wait()
        return quote(request)

    methods[name] = together
    source = DstackQuote(tmp_path)
    found: dict[int, bytes] = {}

    def work(number: int) -> None:
        item = the_item(source.collect(ask(bytes([number]) * 64)))
        found[number] = parse_quote(item.data).report.report_data

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: b"\1" * 64, 2: b"\2" * 64}


@pytest.mark.parametrize("behaviour", [hang, drip, drip_headers])
def test_slow(dstack: Agent, tmp_path: Path, behaviour: Misbehaviour) -> None:
    dstack.misbehaviour = behaviour
    absence = the_absence(DstackQuote(tmp_path).collect(ask(seconds=0.2)))
    assert absence.reason is AbsenceReason.TIMEOUT
    for one in DstackLogs(tmp_path).collect(ask(None, seconds=0.2)):
        assert isinstance(one, Absence)
        assert one.reason is AbsenceReason.TIMEOUT


def test_no_time_at_all(dstack: Agent, tmp_path: Path) -> None:
    absence = the_absence(DstackQuote(tmp_path).collect(ask(seconds=-1)))
    assert absence.reason is AbsenceReason.TIMEOUT
    assert dstack.requests == []


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (truncate, "cut short"),
        (hang_up, "no HTTP"),
        (flood, "longer than"),
        (raw(b"220 smtp.example ESMTP\r\n"), "no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"), "no quote"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "cut short"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"), "cut short"),
        (reply(b"", 200), "JSON"),
        (reply(b"[]"), "no JSON object"),
        (reply(b'{"quote":"00","quote":"01"}'), "twice"),
        (reply(b"{}"), "no quote"),
        (reply(b'{"quote":""}'), "no quote"),
        (reply(b'{"quote":7}'), "no quote"),
        (reply(b'{"quote":"0"}'), "half a byte"),
        (reply(b'{"quote":"00 00"}'), "not hex"),
        (reply(b'{"quote":"zz"}'), "not hex"),
        (reply(b'{"quote":"' + b"00" * 70_000 + b'"}'), "not hex of at most"),
        (reply(b'{"quote":"0400"}'), "no TDX quote"),
        (reply(b'{"error":"QGS is down"}', 400), "QGS is down"),
        (reply(b'{"error":"QGS is down"}', 200), "QGS is down"),
        (reply(b"oops", 500), "status 500"),
        (reply(b'{"quote":"00"}', 503), "status 503"),
        (reply(b"{}", 301), "status 301"),
    ],
)
def test_bad_answers(dstack: Agent, tmp_path: Path, behaviour: Misbehaviour, words: str) -> None:
    dstack.misbehaviour = behaviour
    absence = the_absence(DstackQuote(tmp_path).collect(ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert words in absence.text
    assert len(absence.text) < 2000


def test_a_method_the_agent_does_not_know(agent: Agent, tmp_path: Path) -> None:
    agent.dstack.clear()
    agent.tappd.clear()
    absence = the_absence(DstackQuote(tmp_path).collect(ask()))
    assert absence.reason is AbsenceReason.NOT_SUPPORTED
    assert {one.reason for one in DstackLogs(tmp_path).collect(ask(None))} == {  # type: ignore[union-attr]
        AbsenceReason.NOT_SUPPORTED
    }


def test_sockets_are_looked_for_in_order(tmp_path: Path) -> None:
    assert find_agent(tmp_path) is None
    for place in reversed(SOCKETS):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
        found = find_agent(tmp_path)
        assert found is not None
        assert found.path == path
        assert found.is_tappd == ("tappd" in place)


def test_a_named_socket_is_the_only_one(tmp_path: Path, dstack: Agent) -> None:
    absence = the_absence(DstackQuote(tmp_path, tmp_path / "other.sock").collect(ask()))
    assert absence.reason is AbsenceReason.NOT_PRESENT
    with serve(tmp_path / "my-tappd-socket") as named:
        the_item(DstackQuote(tmp_path, named.path).collect(ask()))
        assert len(named.requests) == 1
    assert dstack.requests == []


def test_no_agent(tmp_path: Path) -> None:
    for outcomes in (DstackQuote(tmp_path).collect(ask()), DstackQuote(tmp_path).diagnose()):
        absence = the_absence(outcomes)
        assert absence.reason is AbsenceReason.NOT_PRESENT
        assert "/var/run/tappd.sock" in absence.text
    assert {one.label for one in DstackLogs(tmp_path).collect(ask(None))} == {
        "dstack-log",
        "dstack-info",
    }


def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    absence = the_absence(DstackQuote(tmp_path, path).collect(ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert "ECONNREFUSED" in absence.text


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real refusal needs another user; root is refused nothing."""
    from ccverify.collect import unix_http

    def refuse(*_: object) -> socket.socket:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(unix_http, "_connect", refuse)
    absence = the_absence(DstackQuote(tmp_path, tmp_path / "s").collect(ask()))
    assert absence.reason is AbsenceReason.NO_PERMISSION


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        waiting = socket.socket(socket.AF_UNIX)
        waiting.setblocking(False)
        with waiting:
            waiting.connect(str(path))
            absence = the_absence(DstackQuote(tmp_path, path).collect(ask(seconds=0.2)))
    assert absence.reason is AbsenceReason.TIMEOUT


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    absence = the_absence(DstackQuote(tmp_path, tmp_path / ("x" * 200)).collect(ask()))
    assert absence.reason is AbsenceReason.FAILED


def test_diagnosis_asks_nothing(dstack: Agent, tmp_path: Path) -> None:
    assert DstackQuote(tmp_path).diagnose() == ()
    assert DstackLogs(tmp_path).diagnose() == ()
    assert dstack.requests == []


def test_a_quote_needs_report_data(dstack: Agent, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        DstackQuote(tmp_path).collect(ask(None))
    assert dstack.requests == []
