"""Typed, bounded access to parsed JSON; every refusal names the path.

Members that nobody asks for are never looked at: foreign formats grow members all the time.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Final

from ccverify.errors import EvidenceError
from ccverify.strict_json import parse_json, parse_json_prefix

__all__ = [
    "MAX_DEPTH",
    "MAX_DOCUMENT_BYTES",
    "Element",
    "member_texts",
    "parse_foreign_json",
    "refused",
]

MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024
"""Largest foreign document, in bytes.  Seven nodes of eight GPUs take 0.75 MB."""
MAX_DEPTH: Final = 32
"""Deepest nesting of objects and lists.  Real documents stay under 10."""

_SPACES: Final = re.compile(r"[ \t\r\n]*")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")
_SHOWN: Final = 40


def refused(message: str, expected: str, found: str, where: str) -> EvidenceError:
    """Build the one error of this package."""
    return EvidenceError(message, expected=expected, found=found, where=where or "document")


def parse_foreign_json(text: bytes | str, what: str, limit: int = MAX_DOCUMENT_BYTES) -> Any:
    """Parse JSON strictly and refuse what is nested deeper than `MAX_DEPTH`.

    Raises:
        EvidenceError: as `ccverify.strict_json.parse_json`, or too deep.
    """
    value = parse_json(text, what=what, error=EvidenceError, limit=limit)
    layer, depth = _containers((value,)), 0
    while layer:
        depth += 1
        if depth > MAX_DEPTH:
            raise refused(f"{what} is nested too deeply", f"{MAX_DEPTH} levels", "more", what)
        layer = [c for outer in layer for c in _containers(outer)]
    return value


def _containers(outer: Any) -> list[Any]:
    values = outer.values() if isinstance(outer, dict) else outer
    return [inner for inner in values if isinstance(inner, dict | list)]


def member_texts(text: str) -> dict[str, str]:
    """Return the source text of every member's value of a JSON object.

    Args:
        text: an object that `parse_foreign_json` has accepted.

    Raises:
        EvidenceError: the text is not a JSON object.
    """
    what = "document"
    members: dict[str, str] = {}
    at = _next(text, 0)
    if text[at : at + 1] != "{":
        raise refused("not a JSON object", "{", repr(text[at : at + 1]), what)
    at = _next(text, at + 1)
    while text[at : at + 1] != "}":
        name, at = parse_json_prefix(text, at, what=what, error=EvidenceError)
        start = _next(text, _next(text, at) + 1)  # past the colon
        _, at = parse_json_prefix(text, start, what=what, error=EvidenceError)
        members[str(name)] = text[start:at]
        at = _next(text, at)
        if text[at : at + 1] == ",":
            at = _next(text, at + 1)
    return members


def _next(text: str, at: int) -> int:
    """The first place from `at` on that is not white space."""
    spaces = _SPACES.match(text, at)
    return spaces.end() if spaces else at


def _shown(value: Any) -> str:
    if isinstance(value, str):
        end = "..." if len(value) > _SHOWN else ""
        return f"{value[:_SHOWN]!r}{end} ({len(value)} characters)"
    if isinstance(value, dict):
        return f"an object of {len(value)} members"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "null" if value is None else f"{type(value).__name__} {str(value)[:_SHOWN]}"


@dataclass(frozen=True, slots=True)
class Element:
    """A JSON value and its path.  Every method raises `EvidenceError` on a wrong type."""

    value: Any
    path: str = ""

    def has(self, name: str) -> bool:
        """Whether this is an object with a member of that name that is not null."""
        return isinstance(self.value, dict) and self.value.get(name) is not None

    def optional(self, name: str) -> Element | None:
        """Return a member; None if absent or null."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        value = self.value.get(name)
        path = f"{self.path}.{name}" if self.path else name
        return None if value is None else Element(value, path)

    def member(self, name: str) -> Element:
        """Return a member that must be there."""
        found = self.optional(name)
        if found is None:
            raise refused(
                f"member {name} is missing",
                f"a member {name}",
                _shown(self.value),
                self.path,
            )
        return found

    def alone(self, name: str, *others: str) -> None:
        """Refuse other members that hold evidence too: reading `name` would leave them aside."""
        for other in filter(self.has, others):
            message = f"evidence in {other} beside the evidence in {name}"
            raise refused(message, "one of the two", "both", self.path)

    def items(self, *, most: int, least: int = 1) -> tuple[Element, ...]:
        """Return the items of a list of `least` to `most` items."""
        if not isinstance(self.value, list) or not least <= len(self.value) <= most:
            raise self.wrong(f"a list of {least} to {most}")
        return tuple(Element(v, f"{self.path}[{i}]") for i, v in enumerate(self.value))

    def members(self, *, most: int) -> tuple[tuple[str, Element], ...]:
        """Return name and value of every member of an object of at most `most` members."""
        if not isinstance(self.value, dict) or len(self.value) > most:
            raise self.wrong(f"an object of at most {most} members")
        return tuple((k, Element(v, f"{self.path}.{k[:_SHOWN]}")) for k, v in self.value.items())

    def text(self, *, most: int, least: int = 1) -> str:
        """Return a string of `least` to `most` characters."""
        if not isinstance(self.value, str) or not least <= len(self.value) <= most:
            raise self.wrong(f"a string of {least} to {most} characters")
        return self.value

    def hex(self, *, most: int, least: int = 1, prefix: bool = False) -> bytes:
        """Decode hex of `least` to `most` bytes; `prefix` allows a leading ``0x``."""
        expected = f"{2 * least} to {2 * most} hex digits"
        value = self.value
        if isinstance(value, str) and prefix:
            value = value.removeprefix("0x")
        if not isinstance(value, str) or not 2 * least <= len(value) <= 2 * most:
            raise self.wrong(expected)
        if not _HEX.fullmatch(value):
            raise self.wrong(expected)
        return bytes.fromhex(value)

    def base64(self, *, most: int, least: int = 1) -> bytes:
        """Decode padded base64 (RFC 4648 section 4) of `least` to `most` bytes.

        Only the one canonical spelling is accepted: no white space, no stray bits.
        """
        expected = f"base64 of {least} to {most} bytes"
        if not isinstance(self.value, str) or len(self.value) > 4 * (most + 2) // 3 + 4:
            raise self.wrong(expected)
        try:
            data = binascii.a2b_base64(self.value.encode("ascii"), strict_mode=True)
        except ValueError:
            raise self.wrong(expected) from None
        if not least <= len(data) <= most or b64encode(data).decode() != self.value:
            raise self.wrong(expected)
        return data

    def json(self, *, most: int) -> Element:
        """Parse a string that holds JSON text of at most `most` characters."""
        text = self.text(most=most)
        return Element(parse_foreign_json(text, self.path or "document", most), self.path)

    def compact(self) -> str:
        """Return this value as JSON without white space, members sorted by name."""
        try:
            return json.dumps(
                self.value,
                separators=(",", ":"),
                sort_keys=True,
                ensure_ascii=False,
                allow_nan=False,
            )
        except ValueError:
            raise self.wrong("numbers that JSON can write") from None

    def wrong(self, expected: str) -> EvidenceError:
        """Build the error for a value that is not what was expected."""
        return refused(
            f"{self.path or 'document'} is not {expected}", expected, _shown(self.value), self.path
        )
