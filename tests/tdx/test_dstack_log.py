"""dstack JSON logs: real logs, both digest versions, refused logs, arbitrary bytes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from eventlog_builders import (
    BOOT,
    RUNTIME,
    boot_events,
    dstack,
    firmware,
    runtime,
    runtime_v2,
    sha384,
)
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.tdx import dstack_log, events
from ccverify.tdx.dstack_log import parse_dstack_log, runtime_preimage
from ccverify.tdx.events import DigestSource, Event, EventLog


def only(entry: Any) -> Event:
    return parse_dstack_log(json.dumps([entry]).encode()).events[0]


# File: firmware events, runtime events, firmware events whose payload is proven.
REAL_LOGS = {
    "near_tcb_info.json": (20, 9, 12),
    "quote-report.json": (20, 8, 12),
    "tdx-lite-getquote.json": (20, 9, 0),
}


@pytest.mark.parametrize("name", REAL_LOGS)
def test_real_log(vectors: Path, name: str) -> None:
    log = parse_dstack_log((vectors / "tdx/dstack" / name).read_bytes())
    runtime_events = [event for event in log.events if event.is_runtime]
    firmware_events = [event for event in log.events if not event.is_runtime]
    proven = [event for event in firmware_events if event.source is DigestSource.RECOMPUTED]
    assert log.kind == "dstack"
    assert (len(firmware_events), len(runtime_events), len(proven)) == REAL_LOGS[name]
    assert all(event.source is DigestSource.RECOMPUTED for event in runtime_events)
    assert all(event.authenticated == event.payload for event in runtime_events)
    lite = "lite" in name
    assert {event.logged_digest is None for event in runtime_events} == {lite}


def test_list_object_and_nested_text_are_one_log() -> None:
    events_list = boot_events()
    listed = parse_dstack_log(dstack(events_list))
    assert (
        parse_dstack_log(json.dumps({"event_log": events_list, "quote": "00"}).encode()) == listed
    )
    text = json.dumps({"event_log": json.dumps(events_list)}).encode()
    assert parse_dstack_log(text) == listed
    assert len(listed.events) == 3 + len(BOOT)


def test_version_2_preimage_is_the_published_one() -> None:
    # The examples of the cc-eventlog crate's documentation.
    assert runtime_preimage("compose-hash", b"\xab\xcd", 2) == (
        b'{"name":"compose-hash","payload":"abcd","type":134217729}'
    )
    assert runtime_preimage('event"with\\special\nchars', b"\xff", 2) == (
        b'{"name":"event\\"with\\\\special\\nchars","payload":"ff","type":134217729}'
    )
    assert runtime_preimage("app-id", b"\xde\xad", 1) == b"\x01\x00\x00\x08:app-id:\xde\xad"


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.binary(max_size=20))
def test_both_versions_are_recomputed(name: str, payload: bytes) -> None:
    for entry in (runtime(name, payload), runtime_v2(name, payload)):
        event = only(entry)
        assert (event.name, event.payload, event.register) == (name, payload, 3)
        assert event.source is DigestSource.RECOMPUTED
        assert event.authenticated == payload
        assert event.digest.hex() == entry["digest"]
        assert only(entry | {"digest": ""}).digest == event.digest


def test_versions_do_not_stand_for_each_other() -> None:
    entry = runtime_v2("app-id", b"\1")
    del entry["version"]
    assert only(entry).source is DigestSource.MISMATCH
    assert only(runtime("app-id", b"\1", version=2)).source is DigestSource.MISMATCH
    assert only(runtime("app-id", b"\1", version=1)).source is DigestSource.RECOMPUTED


OTHER_PREIMAGE = b'{"type":134217729,"name":"app-id","payload":"01"}'


@pytest.mark.parametrize(
    "entry",
    [
        runtime("app-id", b"\1", event_payload="02"),
        runtime("app-id", b"\1", event="app-ix"),
        runtime("app-id", b"\1", digest="00" * 48),
        runtime("app-id", b"\1", preimage="00"),
        runtime("app-id", b"\1", digest="", preimage=""),
        runtime_v2("app-id", b"\1", event_payload="02"),
        runtime_v2("app-id", b"\1", preimage=OTHER_PREIMAGE.hex()),
        runtime_v2(
            "app-id", b"\1", preimage=OTHER_PREIMAGE.hex(), digest=sha384(OTHER_PREIMAGE).hex()
        ),
        runtime_v2("app-id", b"\1", digest="", preimage=OTHER_PREIMAGE.hex()),
    ],
)
def test_wrong_digest_or_preimage_is_recorded(entry: dict[str, Any]) -> None:
    event = only(entry)
    assert event.source is DigestSource.MISMATCH
    assert event.authenticated is None
    version = entry.get("version", 1)
    assert event.digest == sha384(runtime_preimage(event.name, event.payload, version))


def test_right_preimage_is_accepted() -> None:
    preimage = runtime_preimage("app-id", b"\1", 1).hex()
    for entry in (
        runtime("app-id", b"\1", preimage=preimage),
        runtime("app-id", b"\1", preimage=preimage.upper(), digest=""),
        runtime("app-id", b"\1", preimage=None),
        runtime_v2("app-id", b"\1"),
        runtime_v2("app-id", b"\1", preimage=None),
    ):
        assert only(entry).source is DigestSource.RECOMPUTED


def test_short_firmware_digests_are_padded() -> None:
    for size in (20, 32, 48):
        event = only(firmware(0, digest="11" * size))
        assert event.digest == b"\x11" * size + bytes(48 - size)
        assert event.source is DigestSource.LOGGED
        assert event.authenticated is None


def test_missing_digest_is_an_empty_one() -> None:
    entry = runtime("app-id", b"\1")
    del entry["digest"]
    assert only(entry).source is DigestSource.RECOMPUTED


REFUSED_EVENTS = {
    "firmware digest empty": firmware(0, digest=""),
    "firmware digest too long": firmware(0, digest="00" * 49),
    "firmware digest missing": {k: v for k, v in firmware(0).items() if k != "digest"},
    "firmware version 2": firmware(0, version=2),
    "firmware version true": firmware(0, version=True),
    "firmware preimage": firmware(0, preimage="00000000"),
    "runtime digest of 32 bytes": runtime("a", b"", digest="00" * 32),
    "runtime digest too long": runtime("a", b"", digest="00" * 49),
    "runtime event of RTMR0": runtime("a", b"", imr=0),
    "version 0": runtime("a", b"", version=0),
    "version 3": runtime("a", b"", version=3),
    "version text": runtime("a", b"", version="2"),
    "version true": runtime("a", b"", version=True),
    "version null": runtime("a", b"", version=None),
    "imr 4": firmware(4),
    "imr -1": firmware(-1),
    "imr true": firmware(0, imr=True),
    "imr false": firmware(0, imr=False),
    "imr 1.0": firmware(0, imr=1.0),
    "imr text": firmware(0, imr="1"),
    "imr huge": firmware(0, imr=10**30),
    "type too big": firmware(0, event_type=1 << 32),
    "type negative": firmware(0, event_type=-1),
    "type null": firmware(0, event_type=None),
    "payload not hex": runtime("a", b"", event_payload="zz"),
    "payload odd": runtime("a", b"", event_payload="abc"),
    "payload with space": runtime("a", b"", event_payload="ab cd"),
    "payload other digits": runtime("a", b"", event_payload="٠٠"),
    "payload list": runtime("a", b"", event_payload=[1]),
    "payload null": runtime("a", b"", event_payload=None),
    "digest 0x": runtime("a", b"", digest="0x" + "00" * 47),
    "digest null": runtime("a", b"", digest=None),
    "preimage not hex": runtime_v2("a", b"", preimage="no"),
    "preimage number": runtime_v2("a", b"", preimage=7),
    "name number": runtime("a", b"", event=7),
    "name too long": runtime("a" * 257, b""),
    "unknown member": runtime("a", b"", note=""),
    "missing name": {k: v for k, v in runtime("a", b"").items() if k != "event"},
    "number": 4,
    "list": [],
    "null": None,
}


@pytest.mark.parametrize("case", REFUSED_EVENTS)
def test_refused_event(case: str) -> None:
    good = runtime("app-id", b"\1")
    assert only(good)
    with pytest.raises(EvidenceError) as refusal:
        parse_dstack_log(json.dumps([good, REFUSED_EVENTS[case]]).encode())
    assert (refusal.value.where or "").startswith("event log[1]")
    assert refusal.value.expected
    assert refusal.value.found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"[", "not valid JSON"),
        (b"[]]", "after its JSON value"),
        (b"\xff\xfe", "not UTF-8"),
        (b"{}", "no event log"),
        (b'{"event_log":{}}', "not a list"),
        (b'{"event_log":null}', "not a list"),
        (b'{"event_log":"{}"}', "not a list"),
        (b'{"event_log":"\\"[]\\""}', "not a list"),
        (b'{"event_log":"["}', "not valid JSON"),
        (b'{"event_log":[],"event_log":[]}', "twice"),
        (b'{"event_log":"[{\\"imr\\":0,\\"imr\\":0}]"}', "twice"),
        (b"7", "not a list"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1" + b"0" * 5000 + b"]", "not valid JSON"),
        (b'[{"event":"\\ud800"}]', "surrogate"),
    ],
)
def test_refused_text(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        parse_dstack_log(data)


def test_other_json_is_refused(vectors: Path) -> None:
    for name in ("near_quote.json", "gpu_attestation_h100.json", "tdx-lite-attestation.json"):
        with pytest.raises(EvidenceError):
            parse_dstack_log((vectors / "tdx/dstack" / name).read_bytes())


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dstack([runtime("a", b"\0" * 100)] * 2)
    monkeypatch.setattr(dstack_log, "MAX_EVENTS", 2)
    assert len(parse_dstack_log(data).events) == 2
    monkeypatch.setattr(dstack_log, "MAX_EVENTS", 1)
    with pytest.raises(EvidenceError, match="too many events"):
        parse_dstack_log(data)
    monkeypatch.setattr(dstack_log, "MAX_EVENT_BYTES", 99)
    with pytest.raises(EvidenceError, match="byte string"):
        parse_dstack_log(dstack([runtime("a", b"\0" * 100)]))
    monkeypatch.setattr(dstack_log, "MAX_DSTACK_LOG_BYTES", len(data) - 1)
    with pytest.raises(EvidenceError, match="too large"):
        parse_dstack_log(data)


def test_work_grows_with_the_number_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[str]()
    digest_of = hashlib.sha384

    def counting(data: bytes) -> object:
        calls["sha384"] += 1
        return digest_of(data)

    for module in (events, dstack_log):
        monkeypatch.setattr(module, "sha384", counting)
    for number in (100, 1000):
        calls.clear()
        parse_dstack_log(dstack([firmware(0), runtime("a", b"")] * number))
        assert calls["sha384"] == 2 * number


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 5),
    st.just(RUNTIME),
    st.floats(allow_nan=False),
    st.text("0123456789abcdefxX :", max_size=100),
    st.just("00" * 48),
)
MEMBERS = ("imr", "event_type", "digest", "event", "event_payload", "version", "preimage", "other")


@given(st.lists(st.dictionaries(st.sampled_from(MEMBERS), VALUES), max_size=3), st.booleans())
def test_arbitrary_members(changes: list[dict[str, Any]], from_runtime: bool) -> None:
    base = runtime("app-id", b"\1") if from_runtime else firmware(1)
    entries = [base | change for change in changes]
    try:
        log = parse_dstack_log(json.dumps(entries).encode())
    except EvidenceError:
        return
    assert [event.index for event in log.events] == list(range(len(entries)))
    for event in log.events:
        assert len(event.digest) == 48
        assert not event.is_runtime or event.register == 3


@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    for text in (data, b"[" + data, b'{"event_log":' + data + b"}"):
        try:
            assert isinstance(parse_dstack_log(text), EventLog)
        except EvidenceError:
            continue


def test_truncations() -> None:
    data = dstack([firmware(0), runtime("app-id", b"\1")])
    for size in range(len(data)):
        with pytest.raises(EvidenceError):
            parse_dstack_log(data[:size])
