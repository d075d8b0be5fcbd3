"""dstack's SCALE attestation: made, changed and cut; the real ones are with the captures."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interop_samples import QUOTE

from ccverify.errors import EvidenceError
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.interop.scale import DSTACK_RUNTIME_EVENT, parse_scale_attestation

CONFIG = json.dumps({"vm_config": "{}"})


def length(value: int) -> bytes:
    if value < 1 << 6:
        return bytes([value << 2])
    if value < 1 << 14:
        return (value << 2 | 1).to_bytes(2, "little")
    return (value << 2 | 2).to_bytes(4, "little")


def octets(data: bytes) -> bytes:
    return length(len(data)) + data


def event(kind: int = 1, payload: bytes = b"x") -> bytes:
    head = (0).to_bytes(4, "little") + kind.to_bytes(4, "little")
    return head + octets(bytes(48)) + octets(b"name") + octets(payload)


def attestation(
    events: list[bytes] | None = None, config: bytes = CONFIG.encode(), quote: bytes = QUOTE
) -> bytes:
    listed = [event()] if events is None else events
    runtime = octets(b"app-id") + octets(b"\x01\x02")
    return b"".join(
        (b"\0\0", octets(quote), length(len(listed)), *listed, length(1), runtime, bytes(64))
    ) + octets(config)


def test_short_log_is_completed_by_the_runtime_events() -> None:
    parsed = parse_scale_attestation(attestation())
    assert (parsed.quote, parsed.config, parsed.report_data) == (QUOTE, CONFIG, bytes(64))
    first, second = json.loads(parsed.event_log)
    assert (first["event"], first["imr"], first["event_payload"]) == ("name", 0, "78")
    assert second == {
        "imr": 3,
        "event_type": DSTACK_RUNTIME_EVENT,
        "digest": "",
        "event": "app-id",
        "event_payload": "0102",
    }


def test_full_log_is_taken_as_it_is() -> None:
    parsed = parse_scale_attestation(attestation([event(), event(DSTACK_RUNTIME_EVENT)]))
    assert [e["event"] for e in json.loads(parsed.event_log)] == ["name", "name"]


@pytest.mark.parametrize(
    ("config", "vm_config"),
    [(CONFIG, "{}"), ('{"cpu_count":1}', '{"cpu_count":1}'), ("", None)],
)
def test_configuration(config: str, vm_config: str | None) -> None:
    for data in (
        attestation(config=config.encode()),
        json.dumps({"attestation": attestation(config=config.encode()).hex()}).encode(),
    ):
        (node,) = parse_foreign_evidence(data).nodes
        assert node.binding.vm_config == vm_config
        assert node.quote == QUOTE


@pytest.mark.parametrize("size", [63, 64, 16383, 16384])
def test_lengths_of_one_two_and_four_bytes(size: int) -> None:
    assert len(parse_scale_attestation(attestation(quote=bytes(size))).quote) == size


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends inside the version"),
        (b"\1\0", "unknown version"),
        (b"\0\3", "not of TDX"),
        (b"\0\x63", "not of TDX"),
        (attestation() + b"\0", "bytes after its end"),
        (b"\0\0\x03\xff\xff\xff\xff", "length of the quote"),
        (b"\0\0\x01\0" + bytes(100), "length of the quote"),  # 0 in two bytes
        (b"\0\0\x02\0\0\0" + bytes(100), "length of the quote"),
        (b"\0\0\xfe\xff\xff\xff", "length of the quote"),
        (b"\0\0\0", "no quote"),
        (b"\0\0" + octets(bytes(65537)), "length of the quote"),
        (b"\0\0\x04\0" + length(4097), "length of the event log"),
        (attestation(config=b"\xff"), "not UTF-8"),
        (attestation([event()[:-1]]), "attestation|ends|length"),
    ],
)
def test_malformed(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        parse_scale_attestation(data)


@pytest.mark.parametrize("config", [b"x", b"[]", b'{"vm_config":1}'])
def test_malformed_configuration(config: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_foreign_evidence(attestation(config=config))


def test_every_truncation_is_refused() -> None:
    data = attestation()
    for end in range(len(data)):
        with pytest.raises(EvidenceError):
            parse_scale_attestation(data[:end])


@given(st.binary(max_size=60), st.floats(0, 1), st.integers(0, 8))
def test_any_bytes_parse_or_are_refused(junk: bytes, at: float, cut: int) -> None:
    data = attestation()
    start = int(at * len(data))
    for changed in (data[:start] + junk + data[start + cut :], b"\0\0" + junk):
        with contextlib.suppress(EvidenceError):
            parse_foreign_evidence(changed)
