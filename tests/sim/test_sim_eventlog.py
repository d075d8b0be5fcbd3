"""Event logs: read back by a reader written here, and compared with real logs."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import UsageError
from ccverify.sim import CcelEvent, DstackEvent, SimPlatform
from ccverify.sim.defaults import (
    DEFAULT_BOOT_EVENTS,
    DEFAULT_COMPOSE,
    dstack_events,
    dstack_mr_config_id,
)
from ccverify.sim.eventlog import (
    DSTACK_EVENT_TYPE,
    EV_NO_ACTION,
    ccel_acpi_table,
    dstack_log,
    encode_ccel,
    replay,
    replay_ccel,
    replay_dstack,
)


def read(log: bytes) -> list[tuple[int, int, bytes, bytes]]:
    """Read a one-algorithm CCEL: (register, type, digest, data)."""
    size = struct.unpack_from("<I", log, 28)[0]
    offset, entries = 32 + size, []
    while offset < len(log):
        register, kind, count = struct.unpack_from("<III", log, offset)
        if register == 0xFFFFFFFF or (register, kind) == (0, 0):
            break
        assert count == 1
        assert log[offset + 12 : offset + 14] == b"\x0c\x00"
        digest = log[offset + 14 : offset + 62]
        length = struct.unpack_from("<I", log, offset + 62)[0]
        entries.append((register, kind, digest, log[offset + 66 : offset + 66 + length]))
        offset += 66 + length
    return entries


def extend(entries: list[tuple[int, bytes]]) -> list[bytes]:
    registers = [bytes(48) for _ in range(4)]
    for number, digest in entries:
        registers[number] = hashlib.sha384(registers[number] + digest).digest()
    return registers


def registers_of(quote: object) -> list[bytes]:
    part = quote.part  # type: ignore[attr-defined]
    return [part(f"body.rtmr{number}") for number in range(4)]


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_log_reads_back(fill: int) -> None:
    log = encode_ccel(DEFAULT_BOOT_EVENTS, size=0x4000, fill=fill)
    assert len(log) == 0x4000
    assert [own[0] for own in read(log)] == [own.mr_index for own in DEFAULT_BOOT_EVENTS]
    assert [own[3] for own in read(log)] == [own.data for own in DEFAULT_BOOT_EVENTS]


def test_header_is_that_of_a_real_log(vectors: Path) -> None:
    real = (vectors / "tdx/eventlogs/gcp_cos113_ccel_data.bin").read_bytes()
    assert encode_ccel((), size=None) == real[:65]


def test_real_log_written_again_is_the_same(vectors: Path) -> None:
    real = (vectors / "tdx/eventlogs/gcp_cos113_ccel_data.bin").read_bytes()
    events = [CcelEvent(mr, kind, data, digest) for mr, kind, digest, data in read(real)]
    assert len(events) > 40
    assert encode_ccel(events, size=len(real)) == real
    assert list(replay_ccel(events)) == extend([(own.mr_index - 1, own.extended) for own in events])


def test_quote_registers_follow_from_the_log() -> None:
    evidence = SimPlatform().evidence()
    entries = [(register - 1, digest) for register, _, digest, _ in read(evidence.ccel)]
    registers = registers_of(evidence.quote)
    assert registers == extend(entries)
    assert registers[3] == bytes(48)
    assert len(set(registers)) == 4


@pytest.mark.parametrize("version", [1, 2])
def test_dstack_registers_follow_from_both_forms(version: int) -> None:
    evidence = SimPlatform().case(runtime_events=dstack_events(version=version)).build()
    full = json.loads(evidence.dstack_event_log())
    entries = [(own["imr"], bytes.fromhex(own["digest"])) for own in full]
    assert registers_of(evidence.quote) == extend(entries)
    lite = json.loads(evidence.dstack_event_log(lite=True))
    assert [own["event"] for own in lite] == [own["event"] for own in full]
    for short, whole in zip(lite, full, strict=True):
        runtime = short["event_type"] == DSTACK_EVENT_TYPE
        assert short["digest"] == ("" if runtime else whole["digest"])
        assert short["event_payload"] == (whole["event_payload"] if runtime else "")


def test_version_1_digest_is_that_of_real_logs(vectors: Path) -> None:
    text = json.loads((vectors / "tdx/dstack/quote-report.json").read_text("utf-8"))["event_log"]
    runtime = [own for own in json.loads(text) if own["event_type"] == DSTACK_EVENT_TYPE]
    assert len(runtime) >= 8
    for entry in runtime:
        event = DstackEvent(entry["event"], bytes.fromhex(entry["event_payload"]))
        assert event.entry() == entry


def test_version_2_known_answer() -> None:
    event = DstackEvent("compose-hash", b"\xab\xcd", version=2)
    assert event.preimage() == b'{"name":"compose-hash","payload":"abcd","type":134217729}'
    entry = event.entry()
    assert entry["version"] == 2
    assert hashlib.sha384(bytes.fromhex(entry["preimage"])).hexdigest() == entry["digest"]
    odd = DstackEvent('a"\\\n\x01é', version=2)
    assert odd.preimage().decode() == (
        '{"name":"a\\"\\\\\\n\\u0001é","payload":"","type":134217729}'
    )


def test_compose_hash_reaches_config_id_and_events() -> None:
    digest = hashlib.sha256(DEFAULT_COMPOSE.encode()).digest()
    assert dstack_mr_config_id() == b"\x01" + digest + bytes(15)
    payloads = {own.name: own.payload for own in dstack_events()}
    assert payloads["compose-hash"] == digest
    assert payloads["app-id"] == digest[:20]


def test_what_is_not_extended() -> None:
    silent = [CcelEvent(1, EV_NO_ACTION, b"note"), CcelEvent(0, 4, b"MRTD"), CcelEvent(5, 4, b"?")]
    assert replay_ccel(silent) == (bytes(48),) * 4
    assert dstack_log(silent[:1], ()) == []


def test_short_digest_is_padded_on_the_right() -> None:
    short = replay([(2, b"\x01" * 32)])
    assert short == replay([(2, b"\x01" * 32 + bytes(16))])
    assert replay_dstack((), ())[2] == bytes(48)


def test_stated_digest_lies_in_the_log_only() -> None:
    event = DstackEvent("app-id", b"x")
    liar = replace(event, stated_digest=bytes(48))
    assert liar.entry()["digest"] == "00" * 48
    assert replay_dstack((), (liar,)) == replay_dstack((), (event,))


def test_several_algorithms() -> None:
    event = CcelEvent(1, 4, b"", more_digests=((0x000B, b"\x02" * 32),))
    log = encode_ccel([event], size=None, algorithms=((0x000C, 48), (0x000B, 32)))
    assert event.encode() in log
    assert event.encode()[8:12] == b"\x02\x00\x00\x00"
    assert struct.unpack_from("<I", log, 32 + 24)[0] == 2


def test_log_area_too_small() -> None:
    with pytest.raises(UsageError, match="too small"):
        encode_ccel(DEFAULT_BOOT_EVENTS, size=100)


def test_acpi_table(vectors: Path) -> None:
    real = (vectors / "tdx/eventlogs/gcp_cos113_ccel_table.bin").read_bytes()
    own = ccel_acpi_table(0x40000, struct.unpack_from("<Q", real, 48)[0])
    assert len(own) == len(real)
    assert sum(own) & 0xFF == sum(real) & 0xFF == 0
    assert own[:9] == real[:9]
    assert own[36:] == real[36:]


@given(
    st.lists(
        st.builds(
            CcelEvent,
            st.integers(1, 4),
            st.integers(4, 0xFFFFFFFF),
            st.binary(max_size=64),
            st.none() | st.binary(min_size=48, max_size=48),
        ),
        max_size=12,
    )
)
def test_any_log_reads_back(events: list[CcelEvent]) -> None:
    entries = read(encode_ccel(events, size=0x1000))
    assert entries == [(own.mr_index, own.event_type, own.extended, own.data) for own in events]
    assert list(replay_ccel(events)) == extend([(own[0] - 1, own[2]) for own in entries])
