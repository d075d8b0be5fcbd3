"""CMW records and collections (RFC 9999), and the item of one device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.bundle.cbor import encode
from ccverify.bundle.cmw import (
    Collection,
    Indicator,
    Record,
    encode_collection,
    parse_collection,
)
from ccverify.bundle.items import (
    MAX_REPORT_BYTES,
    DeviceItem,
    device_evidence,
    encode_device,
    parse_device,
)
from ccverify.errors import EvidenceError, UsageError

TYPE = "tag:example.com,2024:composite-attester"


def parse(value: object, kind: str = TYPE) -> Collection:
    return parse_collection(
        encode(value), type_=kind, what="collection", error=EvidenceError, limit=1 << 20
    )


def test_a_record_of_the_rfc() -> None:
    """RFC 9999 §5.4, inside a collection of ours."""
    record = Record(
        "application/rim+cose",
        bytes.fromhex("d28440a044d901f5a040"),
        Indicator.REFERENCE_VALUES | Indicator.ENDORSEMENTS,
    )
    encoded = encode_collection(Collection(TYPE, {"a": record}))
    wire = "83746170706c69636174696f6e2f72696d2b636f73654ad28440a044d901f5a04003"
    assert encoded == b"\xa2\x61a" + bytes.fromhex(wire) + encode("__cmwc_t") + encode(TYPE)
    parsed = parse_collection(
        encoded, type_=TYPE, what="collection", error=EvidenceError, limit=999
    )
    assert parsed.records == {"a": record}


def test_records_with_and_without_an_indicator() -> None:
    parsed = parse({"__cmwc_t": TYPE, "a": ["x/y", b"1"], "b": ["x/y", b"", 8]})
    assert parsed.records == {"a": Record("x/y", b"1", None), "b": Record("x/y", b"", Indicator(8))}
    assert parse({"__cmwc_t": TYPE, "a": ["x/y", b"1"]}) == Collection(
        TYPE, {"a": Record("x/y", b"1", None)}
    )


GOOD = ["application/x", b"", 4]
REFUSED: dict[str, Any] = {
    "an array": [TYPE, GOOD],
    "no type": {"a": GOOD},
    "another type": {"__cmwc_t": "tag:example.com,2024:other", "a": GOOD},
    "a type that is no text": {"__cmwc_t": 1, "a": GOOD},
    "no records": {"__cmwc_t": TYPE},
    "too many records": {"__cmwc_t": TYPE} | {f"a{n}": GOOD for n in range(513)},
    "an integer label": {"__cmwc_t": TYPE, 0: GOOD},
    "an empty label": {"__cmwc_t": TYPE, "": GOOD},
    "capitals": {"__cmwc_t": TYPE, "A": GOOD},
    "a line end": {"__cmwc_t": TYPE, "a\n": GOOD},
    "a path": {"__cmwc_t": TYPE, "../a": GOOD},
    "a long label": {"__cmwc_t": TYPE, "a" * 65: GOOD},
    "a record that is no array": {"__cmwc_t": TYPE, "a": b""},
    "a nested collection": {"__cmwc_t": TYPE, "a": {"__cmwc_t": TYPE, "a": GOOD}},
    "one element": {"__cmwc_t": TYPE, "a": ["application/x"]},
    "four elements": {"__cmwc_t": TYPE, "a": [*GOOD, 4]},
    "a content format": {"__cmwc_t": TYPE, "a": [273, b"", 4]},
    "no media type": {"__cmwc_t": TYPE, "a": ["application", b"", 4]},
    "parameters": {"__cmwc_t": TYPE, "a": ["application/x;y=z", b"", 4]},
    "capitals in the media type": {"__cmwc_t": TYPE, "a": ["Application/X", b"", 4]},
    "a line end in the media type": {"__cmwc_t": TYPE, "a": ["application/x\n", b"", 4]},
    "text as value": {"__cmwc_t": TYPE, "a": ["application/x", "", 4]},
    "indicator 0": {"__cmwc_t": TYPE, "a": ["application/x", b"", 0]},
    "an unknown indicator": {"__cmwc_t": TYPE, "a": ["application/x", b"", 32]},
    "a negative indicator": {"__cmwc_t": TYPE, "a": ["application/x", b"", -4]},
    "true as indicator": {"__cmwc_t": TYPE, "a": ["application/x", b"", True]},
    "null as indicator": {"__cmwc_t": TYPE, "a": ["application/x", b"", None]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse(REFUSED[name])
    assert caught.value.expected
    assert len(caught.value.diagnostics()) < 1000


def test_512_records_are_accepted() -> None:
    assert len(parse({"__cmwc_t": TYPE} | {f"a{n}": GOOD for n in range(512)}).records) == 512


@pytest.mark.parametrize(("label", "kind"), [("A", "x/y"), ("", "x/y"), ("a", "x"), ("a", "X/Y")])
def test_what_nobody_would_read_is_not_written(label: str, kind: str) -> None:
    with pytest.raises(UsageError):
        encode_collection(Collection(TYPE, {label: Record(kind, b"")}))


LABELS = st.text("abcz09-", min_size=1, max_size=64)
RECORDS = st.builds(
    Record,
    st.sampled_from(["application/x", "application/vnd.a.b-c+cbor", "x/y"]),
    st.binary(max_size=50),
    st.none() | st.integers(1, 31).map(Indicator),
)


@given(st.dictionaries(LABELS, RECORDS, min_size=1, max_size=6))
def test_collections_survive(records: dict[str, Record]) -> None:
    made = Collection(TYPE, records)
    encoded = encode_collection(made)
    assert (
        parse_collection(encoded, type_=TYPE, what="x", error=EvidenceError, limit=1 << 20) == made
    )


# --- devices ---

DEVICE = DeviceItem(b"report", b"chain", "hopper", "GPU-1", None)


def test_a_device_in_full() -> None:
    assert parse_device(encode_device(DEVICE)) == DEVICE
    found = device_evidence("gpu-0", DEVICE)
    assert (found.report, found.certificate_chain) == (b"report", b"chain")
    assert (found.claimed_architecture, found.claimed_nonce) == ("HOPPER", None)
    assert [(a.name, a.value, a.source) for a in found.asserted] == [
        ("uuid", "GPU-1", "gpu-0.uuid")
    ]
    bare = device_evidence("gpu-1", DeviceItem(b"r", b"c"))
    assert (bare.claimed_architecture, bare.asserted) == (None, ())


FULL: dict[Any, Any] = {
    "report": b"r", "chain": b"c", "architecture": None, "uuid": None, "driver": "1",
}  # fmt: skip
BAD_MEMBERS: dict[str, Any] = {
    "report empty": {"report": b""},
    "report as text": {"report": "r"},
    "report too large": {"report": bytes(MAX_REPORT_BYTES + 1)},
    "chain empty": {"chain": b""},
    "chain null": {"chain": None},
    "architecture a number": {"architecture": 1},
    "architecture bytes": {"architecture": b"HOPPER"},
    "uuid empty": {"uuid": ""},
    "driver too long": {"driver": "1" * 129},
    "one more": {"nonce": b""},
    "another key": {1: b""},
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_bad_devices(name: str) -> None:
    with pytest.raises(EvidenceError):
        parse_device(encode({**FULL, **BAD_MEMBERS[name]}))


@pytest.mark.parametrize("name", FULL)
def test_a_device_lacks_nothing(name: str) -> None:
    assert parse_device(encode(FULL))
    with pytest.raises(EvidenceError, match="malformed"):
        parse_device(encode({k: v for k, v in FULL.items() if k != name}))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xf6", encode(FULL) + b"\0"])
def test_what_is_no_device(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_device(data)


@pytest.mark.parametrize(
    "item",
    [DeviceItem(b"", b"c"), DeviceItem(b"r", bytes(65537)), DeviceItem(b"r", b"c", uuid="x" * 129)],
)
def test_unusable_devices_are_not_written(item: DeviceItem) -> None:
    with pytest.raises(UsageError):
        encode_device(item)


def test_the_largest_device_is_read() -> None:
    largest = DeviceItem(bytes(65536), bytes(65536), *["\U00010151" * 128] * 3)
    assert parse_device(encode_device(largest)) == largest
