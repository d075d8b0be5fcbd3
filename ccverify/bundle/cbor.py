"""Deterministic CBOR (RFC 8949 §4.2.1), read so that one value has one encoding and one only.

cbor2 decodes; it is a general library, with tags that build regular expressions, shared and
cyclic values, and a canonical mode that sorts by the older rule of RFC 8949 §4.2.3.  So the
bytes are walked first, without building anything: limits, nesting, and a vocabulary of
integers, byte strings, text, arrays, maps, true, false and null.  What is left is decoded, and
encoded again: anything but the same bytes is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import cbor2

from ccverify.errors import CcverifyError, UsageError

__all__ = ["MAX_DEPTH", "MAX_ITEMS", "decode", "encode"]

MAX_DEPTH: Final = 8
"""Default of the greatest nesting of arrays and maps."""

MAX_ITEMS: Final = 8192
"""Default of the most data items: heads of every kind, keys included."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_MAJOR = (
    "an integer",
    "a negative integer",
    "a byte string",
    "a text",
    "an array",
    "a map",
    "a tag",
    "a simple value",
)
_KEYS: Final = frozenset({_UNSIGNED, _NEGATIVE, _TEXT})
_SIMPLE_VALUES: Final = frozenset({20, 21, 22})  # false, true, null
_INDEFINITE: Final = 31
_ARGUMENT_BYTES: Final = {24: 1, 25: 2, 26: 4, 27: 8}


def decode(
    data: bytes,
    *,
    what: str,
    error: type[CcverifyError],
    limit: int,
    depth: int = MAX_DEPTH,
    items: int = MAX_ITEMS,
    tags: tuple[int, ...] = (),
) -> Any:
    """Decode one deterministically encoded CBOR data item, and nothing after it.

    Time and memory are linear in the length of `data`.

    Args:
        data: the encoding.
        what: name of the thing decoded, for the error message.
        error: the declared error to raise.
        limit: most bytes.
        depth: greatest nesting of arrays and maps; one that holds no other has depth 1.
        items: most data items.
        tags: tags that must stand before the item, outermost first; no other is accepted.

    Returns:
        int, bytes, str, list, dict with int and str keys, bool or None; without `tags`.

    Raises:
        error: too long, too deep, too many items; truncated, or with bytes after its end;
            indefinite lengths, floating point numbers, undefined, other simple values or other
            tags; map keys that are neither integers nor text, or not in order, or given twice;
            text that is not UTF-8; lengths or integers not in their shortest form.
    """

    def fail(problem: str, at: int, expected: str | None = None) -> NoReturn:
        raise error(f"{what} is not acceptable CBOR: {problem}", expected=expected,
                    where=f"{what}, byte {at}")  # fmt: skip

    if len(data) > limit:
        raise error(f"{what} is too large", expected=f"at most {limit} bytes",
                    found=f"{len(data)} bytes")  # fmt: skip
    prefix = b"".join(_head(_TAG, tag) for tag in tags)
    if not data.startswith(prefix):
        fail("it does not start with its tag", 0, " ".join(map(str, tags)))
    end = _walk(data, len(prefix), depth, items, fail)
    if end != len(data):
        fail(f"{len(data) - end} bytes follow its end", end, "nothing")
    body = data[len(prefix) :] if prefix else data
    try:
        value = cbor2.loads(
            body, max_depth=depth + 1, allow_indefinite=False, allow_duplicate_keys=False
        )
    except (cbor2.CBORError, ValueError) as problem:
        fail(str(problem)[:200], len(prefix))
    again = encode(value)
    if again != body:
        at = len(prefix) + _first_difference(again, body)
        fail("another encoding of this value is the deterministic one", at,
             "shortest form and keys in order (RFC 8949, section 4.2.1)")  # fmt: skip
    return value


def _walk(data: bytes, at: int, depth: int, items: int, fail: Callable[..., NoReturn]) -> int:
    """Check one item and all it holds without building it; return the offset after its end."""
    open_containers = [[1, 0]]  # data items still to come, and whether they are keys and values
    count = 0
    while open_containers:
        container = open_containers[-1]
        if not container[0]:
            open_containers.pop()
            continue
        is_key = container[1] and container[0] % 2 == 0
        container[0] -= 1
        count += 1
        if count > items:
            fail("it holds too many data items", at, f"at most {items}")
        start = at
        major, argument, at = _read_head(data, at, fail)
        if is_key and major not in _KEYS:
            fail(f"a map key is {_MAJOR[major]}", start, "integer or text")
        if major in (_BYTES, _TEXT):
            if argument > len(data) - at:
                fail("it ends inside a string", start, f"{argument} bytes")
            at += argument
        elif major in (_ARRAY, _MAP):
            inside = argument * (2 if major == _MAP else 1)
            if inside > len(data) - at:
                fail(f"it ends inside {_MAJOR[major]}", start, f"{inside} data items")
            if len(open_containers) > depth:
                fail("it is nested too deeply", start, f"at most {depth} levels")
            open_containers.append([inside, major == _MAP])
    return at


def _read_head(data: bytes, at: int, fail: Callable[..., NoReturn]) -> tuple[int, int, int]:
    """Return major type, argument and the offset after the head."""
    if at >= len(data):
        fail("it ends too early", at, "a data item")
    major, info = data[at] >> 5, data[at] & 31
    if major == _TAG:
        fail("it holds a tag", at, "none here")
    if major == _SIMPLE:
        if info not in _SIMPLE_VALUES:
            fail("it holds a number with a fraction, or another simple value", at,
                 "true, false or null")  # fmt: skip
        return major, info, at + 1
    if info < 24:
        return major, info, at + 1
    size = _ARGUMENT_BYTES.get(info)
    if size is None:
        problem = "indefinite length" if info == _INDEFINITE else "reserved length"
        fail(f"{_MAJOR[major]} has {problem}", at, "a definite length")
    raw = data[at + 1 : at + 1 + size]
    if len(raw) != size:
        fail("it ends inside a length or integer", at, f"{size} more bytes")
    return major, int.from_bytes(raw, "big"), at + 1 + size


def _first_difference(one: bytes, other: bytes) -> int:
    """Return the first index at which two byte strings differ, in linear time."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # each step compares half as many bytes as the one before
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# --- encoding -----------------------------------------------------------------------------------


def encode(value: object, *, tags: tuple[int, ...] = ()) -> bytes:
    """Encode deterministically: shortest forms, definite lengths, keys sorted as encoded.

    Args:
        value: None, bool, int of at most 64 bits (and a sign), bytes, str; list, tuple and
            mapping of these, with int and str keys.
        tags: tags to put before it, outermost first.

    Raises:
        UsageError: a value of any other type, or text with lone surrogates.
    """
    try:
        body: bytes = cbor2.dumps(_ordered(value))
    except UnicodeEncodeError:
        raise UsageError("text with lone surrogates cannot be encoded as CBOR") from None
    return b"".join(_head(_TAG, tag) for tag in tags) + body if tags else body


def _ordered(value: object) -> object:
    """Check types and put the keys of every map in the order of their encodings."""
    if value is None or isinstance(value, bool) or type(value) in (bytes, str):
        return value
    if type(value) is int:
        if not -(1 << 64) <= value < 1 << 64:
            raise UsageError("integer is too large for CBOR", expected="64 bits and a sign")
        return value
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, Mapping):
        keys = sorted(value, key=_key)
        return {key: _ordered(value[key]) for key in keys}
    raise UsageError("value has no CBOR encoding here", found=type(value).__name__)


def _key(key: object) -> bytes:
    if type(key) not in (int, str):
        raise UsageError("map key is neither integer nor text", found=type(key).__name__)
    encoded: bytes = cbor2.dumps(_ordered(key))
    return encoded


def _head(major: int, argument: int) -> bytes:
    """Encode a head in its shortest form."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    size = next(size for size in (1, 2, 4, 8) if argument < 1 << 8 * size)
    return bytes((major << 5 | 24 + size.bit_length() - 1,)) + argument.to_bytes(size, "big")
