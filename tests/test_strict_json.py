"""Strict JSON: what it reads is what everybody reads; what readers disagree on is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import CollateralError, EvidenceError, PolicyError
from ccverify.strict_json import MAX_JSON_BYTES, parse_json, parse_json_prefix


def _parse(text: bytes | str, **options: Any) -> Any:
    return parse_json(text, what="the thing", error=EvidenceError, **options)


@pytest.mark.parametrize(
    "text",
    [
        "null", "true", "0", "-1", "1.5", "1e3", '""', "[]", "{}", ' \t\r\n{"a": [1, {"b": 2}]} \n',
        '"\\u00e9"', '"é"', '"\\ud83d\\ude00"', '"\\\\ud800"', '"\\uDBFF\\uDFFF"', '{"a":1,"A":2}',
    ],
)  # fmt: skip
def test_what_everybody_reads_alike_is_read(text: str) -> None:
    assert _parse(text) == _parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "nul", "NaN", "Infinity", "-Infinity", "[NaN]", '{"a": Infinity}', "01", "1.",
        ".5", "+1", "'a'", '"a', "[1,]", "{,}", '{"a":1,}', "{a:1}", "[1 2]", "1 2", "{} {}",
        "{}x", "null,", '"\t"', '"\n"', '"\\x41"', '{"a":1,"a":1}', '{"a":1,"\\u0061":2}',
        '[{"b":{"c":1,"c":2}}]', '"\\ud800"', '"\\udc00"', '"\\udc00\\ud800"',
        '{"\\ud800":1}', '["\\uD800x"]', '"\\ud83d\\\\ude00"', "[" * 100_000,
        '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "// c\n1", "\ufeff1", "1\x00",
        "\u00a01", "1\u2028", "1" * 5000,
    ],
    ids=lambda text: repr(text[:24]),
)  # fmt: skip
def test_everything_else_is_refused(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(EvidenceError) as caught:
            _parse(form)
        assert "the thing" in caught.value.message


@pytest.mark.parametrize(
    "data",
    [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b"\xff\xfe1\x00", b"1\x00", b"\x001"],
)
def test_bytes_that_are_not_utf8_are_refused(data: bytes) -> None:
    """The standard library would guess UTF-16 and UTF-32."""
    with pytest.raises(EvidenceError):
        _parse(data)


def test_a_lone_surrogate_in_text_is_refused_too() -> None:
    """Text that was decoded elsewhere may hold one without any escape."""
    with pytest.raises(EvidenceError):
        _parse('"\ud800"')


def test_the_error_is_the_callers() -> None:
    for error in (EvidenceError, CollateralError, PolicyError):
        with pytest.raises(error):
            parse_json(b"{", what="x", error=error)


@pytest.mark.parametrize(("size", "refused"), [(10, False), (11, True)])
def test_the_limit_is_exact(size: int, refused: bool) -> None:
    text = b"1".ljust(size)
    if refused:
        with pytest.raises(EvidenceError, match="too large"):
            _parse(text, limit=10)
    else:
        assert _parse(text, limit=10) == 1


def test_the_default_limit() -> None:
    with pytest.raises(EvidenceError, match="too large"):
        _parse(b" " * (MAX_JSON_BYTES + 1))


def test_a_prefix_is_read_to_its_end() -> None:
    value, end = parse_json_prefix('xx {"a": 1}rest', 2, what="x", error=EvidenceError)
    assert (value, end) == ({"a": 1}, 11)
    with pytest.raises(EvidenceError):
        parse_json_prefix("   ", 0, what="x", error=EvidenceError)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_JSON, st.booleans())
@settings(deadline=None, max_examples=300)
def test_every_json_value_round_trips(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert _parse(text) == _parse(text.encode()) == value


@given(
    st.one_of(
        st.binary(max_size=40),
        st.text(alphabet='{}[]",:0123456789.eE+-\\uDd8a truefalsn\n', max_size=40).map(str.encode),
        _JSON.map(lambda value: json.dumps(value).encode()),
    ),
    st.integers(0, 60),
    st.sampled_from(b'{}[]",:01.\\uD '),
)
@settings(deadline=None, max_examples=600)
def test_it_reads_nothing_the_standard_library_reads_otherwise(
    text: bytes, position: int, octet: int
) -> None:
    changed = bytearray(text)
    if position < len(changed):
        changed[position] = octet
    data = bytes(changed)
    try:
        ours = _parse(data)
    except EvidenceError:
        return
    assert json.dumps(ours) == json.dumps(json.loads(data.decode("utf-8")))
