"""CCEL firmware logs: real logs, refused logs, arbitrary bytes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from eventlog_builders import SHA384, ccel_logs, event2, sha384, spec_id
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.tdx import ccel, events
from ccverify.tdx.ccel import parse_ccel, parse_ccel_table
from ccverify.tdx.events import DigestSource, EventLog

SEPARATOR = event2(1, 4, b"\0\0\0\0")
ACTION = event2(2, 0x80000007, b"Exit Boot Services Invocation")
SMALL = spec_id() + SEPARATOR + ACTION

# Events of MRTD, RTMR0, RTMR1, RTMR2, RTMR3.
REAL_LOGS = {
    "ccapi_ccel_data.bin": (0, 17, 8, 73, 0),
    "dstack_ccel.bin": (0, 13, 5, 0, 0),
    "gcp_cos113_ccel_data.bin": (0, 16, 7, 20, 0),
    "goeventlog_CCEL_unpadded.bin": (0, 14, 4, 1, 0),
    "goeventlog_cos113.bin": (0, 16, 7, 20, 0),
    "goeventlog_cos113_dupe_separator_unpadded.bin": (0, 17, 6, 20, 0),
    "goeventlog_event_log.bin": (0, 14, 13, 0, 0),
    "ita_CCEL.data.bin": (0, 14, 4, 1, 0),
    "lunal_ccel_live.bin": (0, 13, 5, 2, 0),
    "lunal_ccel_live2.bin": (0, 13, 5, 2, 0),
    "trustee_CCEL_AAEL_alibabacloud": (0, 13, 14, 58, 2),
    "trustee_CCEL_data": (0, 2, 3, 0, 0),
    "trustee_CCEL_data_gcp": (0, 14, 7, 0, 0),
    "trustee_CCEL_data_grub": (0, 20, 9, 8, 0),
    "trustee_CCEL_data_grub_gke": (2, 14, 7, 12, 0),
    "trustee_CCEL_data_ovmf": (0, 14, 4, 2, 0),
}


@pytest.mark.parametrize("name", REAL_LOGS)
def test_real_log(vectors: Path, name: str) -> None:
    log = parse_ccel((vectors / "tdx/eventlogs" / name).read_bytes())
    counts = Counter(event.register for event in log.events)
    assert log.kind == "ccel"
    assert tuple(counts[register] for register in (None, 0, 1, 2, 3)) == REAL_LOGS[name]
    assert [event.index for event in log.events] == list(range(len(log.events)))
    assert all(len(event.digest) == 48 for event in log.events)


def test_every_real_log_is_listed(vectors: Path) -> None:
    assert {path.name for path in ccel_logs(vectors)} == set(REAL_LOGS)


def test_which_payloads_real_firmware_proves(vectors: Path) -> None:
    proven: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for path in ccel_logs(vectors):
        for event in parse_ccel(path.read_bytes()).events:
            total[event.type_name] += 1
            proven[event.type_name] += event.source is DigestSource.RECOMPUTED
            if event.authenticated is not None:
                assert sha384(event.authenticated) == event.digest
                assert event.authenticated in event.payload
    assert {name: (proven[name], total[name]) for name in total} == {
        "EV_POST_CODE": (0, 2),
        "EV_NO_ACTION": (0, 2),
        "EV_SEPARATOR": (38, 38),
        "EV_EVENT_TAG": (2, 12),
        "EV_PLATFORM_CONFIG_FLAGS": (2, 49),
        "EV_IPL": (155, 209),
        "EV_EFI_VARIABLE_DRIVER_CONFIG": (75, 75),
        "EV_EFI_VARIABLE_BOOT": (42, 42),
        "EV_EFI_BOOT_SERVICES_APPLICATION": (0, 28),
        "EV_EFI_GPT_EVENT": (8, 8),
        "EV_EFI_ACTION": (45, 45),
        "EV_EFI_PLATFORM_FIRMWARE_BLOB2": (0, 16),
        "EV_EFI_HANDOFF_TABLES2": (0, 15),
        "EV_EFI_VARIABLE_AUTHORITY": (14, 14),
    }


@pytest.mark.parametrize(
    "name",
    [
        "CCEL_data",
        "CCEL_data_grub",
        "CCEL_data_grub_gke",
        "CCEL_data_ovmf",
        "CCEL_AAEL_alibabacloud",
    ],
)
def test_agrees_with_another_parser(vectors: Path, name: str) -> None:
    folder = vectors / "tdx/eventlogs"
    log = parse_ccel((folder / f"trustee_{name}").read_bytes())
    theirs = json.loads((folder / f"trustee_{name}_out.json").read_bytes())["uefi_event_logs"]
    assert len(log.events) == len(theirs)
    for event, other in zip(log.events, theirs, strict=True):
        assert (0 if event.register is None else event.register + 1) == other["index"]
        assert event.type_name == other["type_name"]
        assert event.payload == base64.b64decode(other["event"])
        assert [event.digest.hex()] == [digest["digest"] for digest in other["digests"]]
        whole = event.authenticated == event.payload
        assert whole == other["digest_matches_event"]


def test_only_the_measured_part_of_a_payload_is_authenticated(vectors: Path) -> None:
    data = (vectors / "tdx/eventlogs/trustee_CCEL_data_grub").read_bytes()
    boot = [e for e in parse_ccel(data).events if e.type_name == "EV_EFI_VARIABLE_BOOT"]
    assert boot
    for event in boot:
        assert event.authenticated != event.payload
    grub = (vectors / "tdx/eventlogs/ccapi_ccel_data.bin").read_bytes()
    texts = [e for e in parse_ccel(grub).events if e.payload.startswith(b"kernel_cmdline: ")]
    assert [e.authenticated for e in texts] == [e.payload[16:-1] for e in texts]
    assert len(texts) == 1


VARIABLE = bytes(16) + b"\1" + bytes(7) + b"\2" + bytes(7) + b"B\0" + b"\5\6"


@pytest.mark.parametrize(
    ("event_type", "payload", "measured", "proven"),
    [
        (0x80000002, VARIABLE, b"\5\6", True),
        (0x80000002, VARIABLE, VARIABLE, True),
        (0x80000002, VARIABLE, b"\6", False),
        (0x80000002, VARIABLE + b"\7", b"\5\6", False),
        (0x80000002, VARIABLE + b"\7", b"\5\6\7", False),
        (0x80000002, VARIABLE[:31], b"", False),
        (0x80000001, VARIABLE, b"\5\6", False),
        (0xD, b"grub_cmd: ls\0", b"ls", True),
        (0xD, b"grub_cmd ls\0x", b"ls\0", True),
        (0xD, b"path\0", b"path", True),
        (0xD, b"path\0other", b"other", False),
        (0xD, b"my_cmd: ls\0", b"ls", False),
        (0x5, b"grub_cmd: ls\0", b"ls", False),
        (0xA, bytes(16) + b"\3\0\0\0abc", b"abc", True),
        (0xA, bytes(16) + b"\2\0\0\0abc", b"abc", False),
        (0xA, b"", b"abc", False),
    ],
)
def test_forms_of_measured_data(
    event_type: int, payload: bytes, measured: bytes, proven: bool
) -> None:
    data = spec_id() + event2(1, event_type, payload, [(SHA384, sha384(measured))])
    event = parse_ccel(data).events[0]
    assert event.authenticated == (measured if proven else None)
    assert event.source is (DigestSource.RECOMPUTED if proven else DigestSource.LOGGED)
    assert event.payload == payload


@pytest.mark.parametrize(
    "end", [b"", b"\0" * 9, b"\xff" * 9, b"\0" * 3, b"\xff" * 5, b"\xff" * 4 + bytes(8)]
)
def test_accepted_ends(end: bytes) -> None:
    assert parse_ccel(SMALL + end) == parse_ccel(SMALL)
    assert len(parse_ccel(SMALL).events) == 2


@pytest.mark.parametrize(
    "end",
    [
        b"\0" * 9 + b"\1",
        b"\xff" * 9 + b"\0",
        b"\xff" * 4 + b"\0\xff",
        bytes(8) + b"\xff" * 4,
        b"\1",
        b"\0\0\xff",
    ],
)
def test_bytes_after_the_end_are_refused(end: bytes) -> None:
    with pytest.raises(EvidenceError, match="bytes after its end") as refusal:
        parse_ccel(SMALL + end)
    offset = int((refusal.value.where or "")[5:].split(":")[0])
    assert len(SMALL) <= offset < len(SMALL + end)


def test_spec_id_may_list_more_algorithms() -> None:
    header = spec_id([(0x000B, 32), (SHA384, 48), (0x7777, 5)], index=1, vendor=b"firmware")
    digests = [(0x7777, bytes(5)), (SHA384, sha384(b"x")), (0x000B, bytes(32))]
    event = parse_ccel(header + event2(3, 5, b"x", digests)).events[0]
    assert (event.register, event.digest, event.authenticated) == (2, sha384(b"x"), b"x")


REFUSED = {
    "empty": (b"", "cut short"),
    "header alone, cut": (spec_id()[:40], "cut short"),
    "index 2": (spec_id(index=2), "not a TCG2"),
    "type": (spec_id(event_type=4), "not a TCG2"),
    "digest": (spec_id(sha1=b"\1" * 20), "not a TCG2"),
    "SHA-1 log": (spec_id(signature=b"Spec ID Event02\0"), "crypto-agile"),
    "version 1": (spec_id(major=1), "crypto-agile"),
    "no algorithm": (spec_id([]), "number of algorithms"),
    "17 algorithms": (spec_id([(i, 48) for i in range(17)]), "number of algorithms"),
    "huge algorithm count": (spec_id(count=0xFFFFFFFF), "number of algorithms"),
    "algorithm count too big": (spec_id(count=2), "cut short"),
    "algorithm twice": (spec_id([(SHA384, 48), (SHA384, 48)]), "twice"),
    "SHA-384 of 32 bytes": (spec_id([(SHA384, 32)]), "wrong size"),
    "zero size": (spec_id([(SHA384, 48), (0x7777, 0)]), "wrong size"),
    "no SHA-384": (spec_id([(0x000B, 32)]), "does not list SHA-384"),
    "Spec ID too long": (spec_id(extra=b"\0"), "after its vendor"),
    "register 5": (spec_id() + event2(5, 4, b""), "no TDX measurement register"),
    "no digest": (spec_id() + event2(1, 4, b"", []), "number of digests"),
    "two digests": (spec_id() + event2(1, 4, b"", [(SHA384, bytes(48))] * 2), "number of digests"),
    "huge digest count": (spec_id() + b"\1\0\0\0\4\0\0\0\xff\xff\xff\xff" + bytes(99), "number of"),
    "unlisted algorithm": (spec_id() + event2(1, 4, b"", [(0x000B, bytes(32))]), "unlisted"),
    "algorithm repeated": (
        spec_id([(SHA384, 48), (0x000B, 32)]) + event2(1, 4, b"", [(SHA384, bytes(48))] * 2),
        "repeated",
    ),
    "no SHA-384 digest": (
        spec_id([(SHA384, 48), (0x000B, 32)]) + event2(1, 4, b"", [(0x000B, bytes(32))]),
        "has no SHA-384",
    ),
    "huge event": (spec_id() + event2(1, 4, b"")[:-4] + b"\xff\xff\xff\x7f", "too large"),
    "event cut": (spec_id() + SEPARATOR[:-1], "cut short"),
    "zero index, type 1": (spec_id() + bytes(4) + b"\1\0\0\0" + bytes(8), "number of digests"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(EvidenceError, match=message) as refusal:
        parse_ccel(data)
    assert refusal.value.where
    assert refusal.value.expected
    assert refusal.value.found


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccel, "MAX_EVENTS", 2)
    assert len(parse_ccel(SMALL).events) == 2
    with pytest.raises(EvidenceError, match="too many events"):
        parse_ccel(SMALL + SEPARATOR)
    monkeypatch.setattr(ccel, "MAX_CCEL_BYTES", len(SMALL))
    assert parse_ccel(SMALL)
    with pytest.raises(EvidenceError, match="too large"):
        parse_ccel(SMALL + b"\0")


def test_work_grows_with_the_number_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[str]()

    def counting(data: bytes) -> object:
        calls["sha384"] += 1
        return digest_of(data)

    digest_of = hashlib.sha384
    monkeypatch.setattr(events, "sha384", counting)
    for number in (100, 1000):
        calls.clear()
        assert len(parse_ccel(spec_id() + SEPARATOR * number).events) == number
        assert calls["sha384"] == number


def test_table(vectors: Path) -> None:
    data = (vectors / "tdx/eventlogs/gcp_cos113_ccel_table.bin").read_bytes()
    table = parse_ccel_table(data)
    assert (table.cc_type, table.cc_subtype, table.revision) == (2, 0, 1)
    assert table.log_area_minimum_length == 0x40000
    assert table.log_area_start_address == 0xBEDBF000
    log = (vectors / "tdx/eventlogs/gcp_cos113_ccel_data.bin").read_bytes()
    assert table.log_area_minimum_length == len(log)


def table_bytes(cc_type: int = 2, length: int = 56, signature: bytes = b"CCEL") -> bytes:
    body = signature + length.to_bytes(4, "little") + b"\1\0" + b"OEM   " + b"OEMTABLE" + bytes(12)
    body += bytes([cc_type, 0, 0, 0]) + (0x10000).to_bytes(8, "little") + bytes(8)
    return body[:9] + bytes([-sum(body) % 256]) + body[10:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table_bytes()[:55], "wrong size"),
        (table_bytes() + b"\0", "wrong size"),
        (table_bytes(signature=b"APIC"), "not a CCEL table"),
        (table_bytes(length=57), "wrong length"),
        (table_bytes()[:-1] + b"\1", "checksum"),
        (table_bytes(cc_type=1), "not that of a TDX guest"),
    ],
)
def test_refused_table(data: bytes, message: str) -> None:
    assert parse_ccel_table(table_bytes()).log_area_minimum_length == 0x10000
    with pytest.raises(EvidenceError, match=message):
        parse_ccel_table(data)


EVENTS = st.tuples(st.integers(0, 4), st.integers(1, 0xFFFFFFFF), st.binary(max_size=80))
DIGESTS = st.one_of(st.none(), st.binary(min_size=48, max_size=48))


@given(st.lists(st.tuples(EVENTS, DIGESTS), max_size=8), st.sampled_from([b"", b"\0", b"\xff"]))
def test_what_is_written_is_read(
    entries: list[tuple[tuple[int, int, bytes], bytes | None]], filler: bytes
) -> None:
    data = spec_id()
    for (register, event_type, payload), digest in entries:
        listed = None if digest is None else [(SHA384, digest)]
        data += event2(register, event_type, payload, listed)
    log = parse_ccel(data + filler * 20)
    assert len(log.events) == len(entries)
    for event, ((register, event_type, payload), digest) in zip(log.events, entries, strict=True):
        assert event.register == (register - 1 if register else None)
        assert (event.event_type, event.payload) == (event_type, payload)
        assert event.digest == (sha384(payload) if digest is None else digest)
        if digest is None:
            assert event.authenticated == payload


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda b: spec_id() + b)))
def test_arbitrary_bytes(data: bytes) -> None:
    try:
        assert isinstance(parse_ccel(data), EventLog)
    except EvidenceError:
        return


@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255))
def test_mutations(offset: int, change: int) -> None:
    data = bytearray(SMALL)
    data[offset] ^= change
    try:
        log = parse_ccel(bytes(data))
    except EvidenceError:
        return
    assert all(e.authenticated is None or sha384(e.authenticated) == e.digest for e in log.events)


def test_truncations() -> None:
    whole = parse_ccel(SMALL).events
    complete = {len(spec_id()): 0, len(spec_id() + SEPARATOR): 1, len(SMALL): 2}
    for size in range(len(SMALL) + 1):
        if size in complete:
            assert parse_ccel(SMALL[:size]).events == whole[: complete[size]]
        else:
            with pytest.raises(EvidenceError):
                parse_ccel(SMALL[:size])


@given(st.binary(min_size=56, max_size=56).map(lambda b: b"CCEL" + b[4:]) | st.binary(max_size=60))
def test_arbitrary_tables(data: bytes) -> None:
    try:
        assert parse_ccel_table(data).cc_type == 2
    except EvidenceError:
        return
