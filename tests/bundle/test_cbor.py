"""Strict deterministic CBOR: one encoding for each value, and nothing else accepted."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.bundle.cbor import MAX_DEPTH, MAX_ITEMS, decode, encode
from ccverify.errors import CollateralError, EvidenceError, UsageError
from fuzz.effort import grows_linearly, peak
from fuzz.invariants import declared

LIMIT = 1 << 20
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
KEYS = st.integers(-(1 << 64), (1 << 64) - 1) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=30
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)


def read(data: bytes, **options: Any) -> Any:
    return decode(data, **{"what": "it", "error": EvidenceError, "limit": LIMIT, **options})


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


# --- what RFC 8949 says ---

# Appendix A, those within our vocabulary.
EXAMPLES = {
    "00": 0, "17": 23, "1818": 24, "18ff": 255, "190100": 256, "1903e8": 1000,
    "1a000f4240": 1000000, "1b000000e8d4a51000": 1000000000000,
    "1bffffffffffffffff": (1 << 64) - 1, "3bffffffffffffffff": -(1 << 64), "20": -1, "29": -10,
    "3863": -100, "3903e7": -1000, "f4": False, "f5": True, "f6": None, "40": b"",
    "4401020304": b"\1\2\3\4", "60": "", "6161": "a", "6449455446": "IETF", "62225c": '"\\',
    "62c3bc": "ü", "63e6b0b4": "水", "64f0908591": "\U00010151", "80": [], "83010203": [1, 2, 3],
    "8301820203820405": [1, [2, 3], [4, 5]], "a0": {}, "a201020304": {1: 2, 3: 4},
    "a26161016162820203": {"a": 1, "b": [2, 3]}, "826161a161626163": ["a", {"b": "c"}],
    "98190102030405060708090a0b0c0d0e0f101112131415161718181819": list(range(1, 26)),
}  # fmt: skip


@pytest.mark.parametrize("encoded", EXAMPLES)
def test_examples_of_the_rfc(encoded: str) -> None:
    value = EXAMPLES[encoded]
    assert read(bytes.fromhex(encoded)) == value
    assert encode(value) == bytes.fromhex(encoded)


REFUSED = {
    "nothing": ("", "ends too early"),
    "bytes after the end": ("0000", "follow its end"),
    "a second item": ("8080", "follow its end"),
    "integer not shortest, 1 byte": ("1817", "deterministic"),
    "integer not shortest, 2 bytes": ("1900ff", "deterministic"),
    "integer not shortest, 4 bytes": ("1a0000ffff", "deterministic"),
    "integer not shortest, 8 bytes": ("1b00000000ffffffff", "deterministic"),
    "negative not shortest": ("3800", "deterministic"),
    "length of bytes not shortest": ("580100", "deterministic"),
    "length of text not shortest": ("780161", "deterministic"),
    "length of array not shortest": ("980100", "deterministic"),
    "length of map not shortest": ("b8010000", "deterministic"),
    "keys unsorted": ("a202000100", "deterministic"),
    "keys in the order of RFC 8949 4.2.3, length first": ("a22000186400", "deterministic"),
    "text keys unsorted": ("a2616200616100", "deterministic"),
    "key twice": ("a201000100", "Duplicate"),
    "text key twice": ("a2616100616100", "Duplicate"),
    "key twice, the second not shortest": ("a20100180100", "Duplicate"),
    "indefinite bytes": ("5f4100ff", "indefinite length"),
    "indefinite text": ("7f6161ff", "indefinite length"),
    "indefinite array": ("9f00ff", "indefinite length"),
    "indefinite map": ("bf0000ff", "indefinite length"),
    "break": ("ff", "simple value"),
    "half float": ("f93c00", "fraction"),
    "single float": ("fa3f800000", "fraction"),
    "double float": ("fb3ff0000000000000", "fraction"),
    "NaN": ("f97e00", "fraction"),
    "infinity": ("f97c00", "fraction"),
    "undefined": ("f7", "simple value"),
    "simple value 0": ("e0", "simple value"),
    "simple value 255": ("f8ff", "simple value"),
    "false in two bytes": ("f814", "simple value"),
    "reserved simple": ("fc", "simple value"),
    "reserved length of an integer": ("1c", "reserved"),
    "reserved length of a string": ("5e", "reserved"),
    "integer with indefinite length": ("1f", "indefinite"),
    "tag": ("c000", "a tag"),
    "bignum": ("c249010000000000000000", "a tag"),
    "date": ("c11a514b67b0", "a tag"),
    "regular expression": ("d8236128", "a tag"),
    "shared value that holds itself": ("d81c81d81d00", "a tag"),
    "self-described": ("d9d9f700", "a tag"),
    "tag inside": ("81d21880", "a tag"),
    "bytes as key": ("a1410000", "map key is a byte string"),
    "array as key": ("a18000", "map key is an array"),
    "map as key": ("a1a000", "map key is a map"),
    "true as key": ("a1f500", "map key is a simple value"),
    "null as key": ("a1f600", "map key is a simple value"),
    "text that is not UTF-8": ("61ff", "text"),
    "lone surrogate": ("63eda080", "text"),
    "overlong UTF-8": ("62c080", "text"),
    "truncated integer": ("19ff", "inside a length or integer"),
    "truncated bytes": ("4201", "inside a string"),
    "truncated text": ("6261", "inside a string"),
    "truncated array": ("8200", "inside an array"),
    "truncated map": ("a100", "inside a map"),
    "array of 2^64 - 1": ("9bffffffffffffffff", "inside an array"),
    "map of 2^64 - 1": ("bbffffffffffffffff", "inside a map"),
    "bytes of 2^64 - 1": ("5bffffffffffffffff", "inside a string"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    encoded, reason = REFUSED[name]
    with pytest.raises(EvidenceError) as caught:
        read(bytes.fromhex(encoded))
    text = caught.value.diagnostics()
    assert reason in text
    assert "it, byte " in text


def test_errors_say_where() -> None:
    for encoded, byte in (("8300f93c0001", 2), ("a2616100616200ff", 7), ("82001817", 2)):
        with pytest.raises(EvidenceError) as caught:
            read(bytes.fromhex(encoded))
        assert caught.value.where == f"it, byte {byte}"


def test_the_error_is_the_one_declared() -> None:
    with pytest.raises(CollateralError):
        decode(b"\xff", what="it", error=CollateralError, limit=9)


# --- limits ---


def test_length_is_limited_before_anything_else() -> None:
    assert read(b"\x43abc", limit=4) == b"abc"
    with pytest.raises(EvidenceError, match="too large"):
        read(b"\x43abc", limit=3)


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x00"])
def test_depth_is_limited(opening: bytes) -> None:
    assert depth(read(opening * MAX_DEPTH + b"\0")) == MAX_DEPTH
    with pytest.raises(EvidenceError, match="nested too deeply"):
        read(opening * (MAX_DEPTH + 1) + b"\0")
    with pytest.raises(EvidenceError, match="nested too deeply"):
        read(opening * 100_000 + b"\0")
    assert read(opening + b"\0", depth=1)
    with pytest.raises(EvidenceError, match="nested too deeply"):
        read(opening * 2 + b"\0", depth=1)
    assert read(b"\0", depth=0) == 0


def test_data_items_are_limited() -> None:
    assert len(read(encode([0] * (MAX_ITEMS - 1)))) == MAX_ITEMS - 1
    with pytest.raises(EvidenceError, match="too many data items"):
        read(encode([0] * MAX_ITEMS))
    assert read(encode({1: 2}), items=3)
    with pytest.raises(EvidenceError, match="too many data items"):
        read(encode({1: 2}), items=2)


def test_work_is_linear_and_memory_bounded() -> None:
    assert grows_linearly(lambda size: lambda: read(encode(list(range(size)))), 500)
    assert grows_linearly(lambda size: lambda: read(encode(dict.fromkeys(range(size)))), 500)
    flood = b"\x9a\x00\x0f\xff\x00" + b"\x80" * 0x0FFF00
    assert peak(lambda: declared(EvidenceError, lambda: read(flood))) < 1 << 16


def test_the_first_difference_is_found_in_long_strings() -> None:
    data = encode([b"a" * 300_000, 1000, b"b"])
    at = data.index(b"\x19\x03\xe8")
    longer = data.replace(b"\x19\x03\xe8", b"\x1a\x00\x00\x03\xe8")
    with pytest.raises(EvidenceError) as caught:
        read(longer)
    assert caught.value.where == f"it, byte {at}"


# --- tags ---


def test_only_the_tags_asked_for_and_all_of_them() -> None:
    assert read(b"\xd2\x80", tags=(18,)) == []
    assert read(b"\xd8\x3d\xd2\x80", tags=(61, 18)) == []
    assert encode([], tags=(61, 18)) == b"\xd8\x3d\xd2\x80"
    for encoded, tags in (
        ("80", (18,)),
        ("d280", ()),
        ("d180", (18,)),
        ("d2d280", (18,)),
        ("d81280", (18,)),
        ("", (18,)),
    ):
        with pytest.raises(EvidenceError):
            read(bytes.fromhex(encoded), tags=tags)


@pytest.mark.parametrize("tag", [0, 23, 24, 255, 256, 65535, 65536, 1 << 32, (1 << 64) - 1])
def test_tags_are_encoded_as_by_cbor2(tag: int) -> None:
    assert encode([1], tags=(tag,)) == cbor2.dumps(cbor2.CBORTag(tag, [1]))
    assert read(encode([1], tags=(tag,)), tags=(tag,)) == [1]


# --- encoding ---


@pytest.mark.parametrize(
    "value",
    [1.0, float("nan"), {1.5: 2}, {True: 1}, {None: 1}, {b"k": 1}, 1 << 64, -(1 << 64) - 1,
     "\ud800", {"\ud800": 1}, {1, 2}, object(), bytearray(b"x"), cbor2.undefined,
     cbor2.CBORTag(1, 2), [[{1: 2.0}]]],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_encoded(value: object) -> None:
    with pytest.raises(UsageError):
        encode(value)


def test_keys_are_sorted_as_encoded_and_not_by_length() -> None:
    keys: list[object] = ["aa", "b", -1, 100, 2, 256, -300]
    encoded = encode(dict.fromkeys(keys))
    assert list(read(encoded)) == [2, 100, 256, -1, -300, "b", "aa"]
    assert encoded == encode(dict.fromkeys(reversed(keys)))


@given(VALUES)
def test_values_survive(value: object) -> None:
    encoded = encode(value)
    assert read(encoded, depth=64) == value
    assert encode(read(encoded, depth=64)) == encoded
    assert cbor2.loads(encoded) == value


@given(VALUES)
def test_one_value_one_encoding(value: object) -> None:
    """Whatever else cbor2 writes for the same value is refused."""
    encoded = encode(value)
    for other in (cbor2.dumps(value, indefinite_containers=True), cbor2.dumps(value)):
        if other != encoded:
            with pytest.raises(EvidenceError):
                read(other, depth=64)


TEXT_KEYS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text("abcdefgh", max_size=30), inner, max_size=6)
    ),
    max_leaves=30,
)


@given(TEXT_KEYS)
def test_with_text_keys_it_is_what_cbor2_calls_canonical(value: object) -> None:
    """Both orders of RFC 8949 agree where keys are all text."""
    assert encode(value) == cbor2.dumps(value, canonical=True)


@given(st.dictionaries(KEYS, st.none(), max_size=12))
def test_the_order_is_that_of_the_encodings(value: dict[Any, None]) -> None:
    rest, seen = encode(value)[1:], []
    for key in read(encode(value)):
        head = cbor2.dumps(key)
        assert rest.startswith(head)
        rest = rest[len(head) + 1 :]
        seen.append(head)
    assert seen == sorted(seen)
    assert rest == b""


@given(st.binary(max_size=60))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    if declared(EvidenceError, lambda: (read(data),)):
        assert encode(read(data)) == data
        assert cbor2.loads(data) == read(data)


@given(VALUES, st.data())
def test_a_changed_byte_is_refused_or_another_value(value: object, data: st.DataObject) -> None:
    encoded = bytearray(encode(value))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        found = read(bytes(encoded), depth=64)
    except EvidenceError:
        return
    assert encode(found) == bytes(encoded)
    assert encode(value) != bytes(encoded)
