"""JSON of our own formats: every member known, every list and text bounded, read as written.

A format is put together from codecs, each of which reads one kind of value from JSON and writes
it, with the path of what is wrong.  So what cannot be read cannot be written either.  Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ccverify.errors import EvidenceError
from ccverify.fabric.reading import Absent
from ccverify.strict_json import parse_json

__all__ = ["Codec", "Form"]

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_TEXT = re.compile(r"[ -~]*")
_HEX = re.compile(r"[0-9a-f]*")
_MAX_SHOWN: Final = 100


class Codec(NamedTuple):
    """How one kind of value is read from JSON and written; both check it, with its path."""

    read: Callable[[Any, str], Any]
    write: Callable[[Any, str], Any]


class Form:
    """Codecs of one document, whose errors name it.

    Args:
        what: the document, for errors.
        hint: what to do about a document that is wrong.
    """

    __slots__ = ("_hint", "_what")

    def __init__(self, what: str, hint: str) -> None:
        self._what = what
        self._hint = hint

    def wrong(self, where: str, expected: str, found: Any) -> EvidenceError:
        """Make the error for a value."""
        return EvidenceError(
            f"{self._what} is malformed",
            expected=expected,
            found=repr(found)[:_MAX_SHOWN],
            where=where,
            hint=self._hint,
        )

    def scalar(self, check: Callable[[Any], bool], expected: str) -> Codec:
        """Values that are the same in JSON."""

        def checked(value: Any, where: str) -> Any:
            if not check(value):
                raise self.wrong(where, expected, value)
            return value

        return Codec(checked, checked)

    def uint(self, most: int) -> Codec:
        """Integers from 0 to `most`; true and false are none."""
        return self.scalar(
            lambda v: type(v) is int and 0 <= v <= most, f"an integer from 0 to {most}"
        )

    def boolean(self) -> Codec:
        """True and false."""
        return self.scalar(lambda v: isinstance(v, bool), "true or false")

    def matching(self, pattern: re.Pattern[str], least: int, most: int, expected: str) -> Codec:
        """Texts of a length that match as a whole."""
        return self.scalar(
            lambda v: isinstance(v, str) and least <= len(v) <= most and bool(pattern.fullmatch(v)),
            expected,
        )

    def text(self, most: int) -> Codec:
        """Printable ASCII."""
        return self.matching(_TEXT, 0, most, f"at most {most} printable ASCII characters")

    def hex(self, octets: int) -> Codec:
        """Byte strings of one length, in lower-case hex."""
        return self.matching(_HEX, 2 * octets, 2 * octets, f"{octets} bytes in lower-case hex")

    def reading(self, inner: Codec) -> Codec:
        """A value, or ``{"absent": "REASON"}``."""
        reason = self.matching(_CODE, 1, 64, "the name of a reason, such as NOT_FOUND")

        def read(value: Any, where: str) -> Any:
            if isinstance(value, dict) and value.keys() == {"absent"}:
                return Absent(reason.read(value["absent"], f"{where}.absent"))
            return inner.read(value, where)

        def write(value: Any, where: str) -> Any:
            if isinstance(value, Absent):
                return {"absent": reason.write(value.code, f"{where}.absent")}
            return inner.write(value, where)

        return Codec(read, write)

    def optional(self, inner: Codec) -> Codec:
        """A value, or null."""
        return Codec(
            lambda value, where: None if value is None else inner.read(value, where),
            lambda value, where: None if value is None else inner.write(value, where),
        )

    def list(self, inner: Codec, most: int) -> Codec:
        """A list, read as a tuple."""

        def read(value: Any, where: str) -> Any:
            if not isinstance(value, list) or len(value) > most:
                raise self.wrong(where, f"a list of at most {most}", value)
            return tuple(inner.read(item, f"{where}[{at}]") for at, item in enumerate(value))

        def write(value: Any, where: str) -> Any:
            if not isinstance(value, tuple) or len(value) > most:
                raise self.wrong(where, f"a tuple of at most {most}", value)
            return [inner.write(item, f"{where}[{at}]") for at, item in enumerate(value)]

        return Codec(read, write)

    def record(self, kind: type, /, **members: Codec) -> Codec:
        """An object with exactly these members, read as a dataclass."""

        def read(value: Any, where: str) -> Any:
            if not isinstance(value, dict) or value.keys() != members.keys():
                found = _difference(value, members)
                raise self.wrong(where, f"an object with {', '.join(members)}", found)
            return kind(**{n: codec.read(value[n], f"{where}.{n}") for n, codec in members.items()})

        def write(value: Any, where: str) -> Any:
            if not isinstance(value, kind):
                raise self.wrong(where, kind.__name__, value)
            return {n: c.write(getattr(value, n), f"{where}.{n}") for n, c in members.items()}

        return Codec(read, write)

    def require_distinct(self, values: Sequence[Hashable], where: str, what: str) -> None:
        """Refuse a key that appears twice."""
        if len(set(values)) != len(values):
            raise self.wrong(where, f"every {what} once", f"{what} twice")

    def parse(self, data: bytes, name: str, codec: Codec) -> Any:
        """Read a document whose member ``format`` is `name`."""
        document = parse_json(data, what=self._what, error=EvidenceError)
        if not isinstance(document, dict) or document.get("format") != name:
            found = document.get("format") if isinstance(document, dict) else document
            raise self.wrong("$.format", name, found)
        return codec.read({n: v for n, v in document.items() if n != "format"}, "$")

    def serialize(self, value: Any, name: str, codec: Codec) -> bytes:
        """Write a document: UTF-8 JSON with sorted members, the same bytes every time."""
        body = {"format": name, **codec.write(value, "$")}
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode("utf-8")


def _difference(value: Any, members: Mapping[str, Codec]) -> Any:
    """Which members an object lacks or has too many; the value itself if it is none."""
    if not isinstance(value, dict):
        return value
    lacks, extra = sorted(members.keys() - value.keys()), sorted(value.keys() - members.keys())
    return {"missing": lacks, "unknown": extra} if lacks else {"unknown": extra}
