"""The small DER reader: what it reads, what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import CollateralError, EvidenceError
from ccverify.sim import der as written
from ccverify.trust.der import decode_integer, read_tlv


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_an_element_is_read_whole(size: int) -> None:
    encoded = written.octet_string(bytes(size))
    element = read_tlv(b"\0" + encoded + b"rest", 1, EvidenceError)
    assert element == (4, bytes(size), 1 + len(encoded))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        b"\x04\x05abcd",
        b"\x04\x80",
        b"\x04\x81\x05abcde",  # length 5 needs no long form
        b"\x04\x82\x00\x81" + bytes(129),  # leading zero
        b"\x04\x81",
        b"\x04\x84\x00\x00\x00\x81" + bytes(129),
        b"\x04\xff" + bytes(200),
        b"\x1f\x81\x01\x00",
        b"\xbf\x01\x00",
    ],
)
def test_what_is_not_der_is_refused(data: bytes) -> None:
    for error in (EvidenceError, CollateralError):
        with pytest.raises(error, match="DER"):
            read_tlv(data, 0, error)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 255, 256, 65535, -1, -128, -129, 1 << 200])
def test_integers(number: int) -> None:
    bits = (number if number >= 0 else ~number).bit_length() + 1
    encoded = number.to_bytes((bits + 7) // 8, "big", signed=True)
    assert decode_integer(encoded, EvidenceError) == number


@pytest.mark.parametrize("value", [b"", b"\0\1", b"\xff\x80", bytes(33), b"\1" * 33])
def test_malformed_integers(value: bytes) -> None:
    with pytest.raises(EvidenceError, match="integer"):
        decode_integer(value, EvidenceError)


@given(st.binary(max_size=64), st.integers(0, 70))
@settings(deadline=None, max_examples=500)
def test_reading_garbage_ends_in_an_element_or_the_declared_error(data: bytes, at: int) -> None:
    try:
        tag, value, end = read_tlv(data, at, EvidenceError)
    except EvidenceError:
        return
    assert data[at] == tag
    assert at + 2 <= end <= len(data)
    assert data[end - len(value) : end] == value


@given(st.binary(max_size=40))
@settings(deadline=None, max_examples=500)
def test_decoding_is_canonical(data: bytes) -> None:
    """Two different encodings never mean the same number."""
    try:
        number = decode_integer(data, EvidenceError)
    except EvidenceError:
        return
    assert number.to_bytes(len(data), "big", signed=True) == data
    assert len(data) == 1 or not -128 <= number < 128
