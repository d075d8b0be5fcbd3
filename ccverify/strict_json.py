"""JSON as evidence: no duplicate keys, no NaN, no lone surrogates, bounded size and depth.

The standard library's parser keeps the last of two equal keys and accepts ``NaN``; both let
two readers of one signed text see different things, so both are refused here.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from ccverify.errors import CcverifyError

__all__ = ["MAX_JSON_BYTES", "parse_json", "parse_json_prefix"]

MAX_JSON_BYTES = 4 * 1024 * 1024
"""Default size limit of one JSON text, in bytes."""

MAX_DEPTH = 128
"""Greatest nesting of lists and objects: whatever is read can also be written again."""


class _Refused(ValueError):
    """Internal: carries the reason out of the json module's hooks."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"key {key!r} appears twice in one object")
            seen.add(key)
    return members


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _Refused(f"number {digits[:40]} is out of range")
    return number


_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
)


def parse_json(
    text: bytes | str,
    *,
    what: str,
    error: type[CcverifyError],
    limit: int = MAX_JSON_BYTES,
) -> Any:
    """Parse one JSON text strictly.

    Args:
        text: UTF-8 bytes or str.
        what: name of the thing parsed, for the error message.
        error: the declared error to raise.
        limit: the largest accepted length (bytes, or characters for str).

    Raises:
        error: too large, not UTF-8, not JSON (RFC 8259), duplicate keys, NaN or Infinity,
            lone surrogates, or nested too deeply for the interpreter.
    """
    string = _as_text(text, what=what, error=error, limit=limit)
    value, end = parse_json_prefix(string, 0, what=what, error=error)
    rest = string[end:].strip(" \t\r\n")
    if rest:
        raise error(
            f"{what} has text after its JSON value",
            expected="end of text",
            found=repr(rest[:20]),
            where=f"{what}, character {end}",
        )
    return value


def parse_json_prefix(
    text: str, start: int, *, what: str, error: type[CcverifyError]
) -> tuple[Any, int]:
    """Parse one JSON value that begins at `start`; return it and the index just after it.

    White space before the value is skipped.  Raises `error` as `parse_json` does.
    """
    space = _SPACE.match(text, start)
    start = space.end() if space else start
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise error(f"{what} is nested too deeply", expected="a few levels of nesting") from None
    except (ValueError, OverflowError) as problem:
        raise error(f"{what} is not valid JSON: {problem}", where=what) from None
    if _may_be_deep(text, start, end) and _depth(value) > MAX_DEPTH:
        raise error(f"{what} is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
    if "\\u" in text[start:end] and not _encodable(text[start:end], value):
        raise error(f"{what} holds a lone UTF-16 surrogate", where=what)
    return value, end


def _may_be_deep(text: str, start: int, end: int) -> bool:
    return text.count("[", start, end) + text.count("{", start, end) > MAX_DEPTH


def _depth(value: Any) -> int:
    depth = 0
    level = [value]
    while level:
        depth += 1
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                children += item.values()
            elif isinstance(item, list):
                children += item
        level = [child for child in children if isinstance(child, dict | list)]
    return depth


def _as_text(text: bytes | str, *, what: str, error: type[CcverifyError], limit: int) -> str:
    if len(text) > limit:
        raise error(f"{what} is too large", expected=f"at most {limit}", found=str(len(text)))
    try:
        if isinstance(text, bytes):
            return text.decode("utf-8")
        text.encode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{what} is not UTF-8", where=f"byte {problem.start}") from None
    except UnicodeEncodeError:
        raise error(f"{what} holds a lone UTF-16 surrogate", where=what) from None
    return text


def _encodable(source: str, value: Any) -> bool:
    # Surrogates enter only through \ud800..\udfff escapes; well-paired ones decode to a
    # proper character, so encoding the decoded value is the exact test.
    if "\\ud" not in source.lower():
        return True
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        return False
    return True
