"""Lines of a subnet manager's dump: bounded in number and length, with their place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ccverify.errors import EvidenceError

__all__ = ["MAX_DUMP_BYTES", "MAX_DUMP_LINES", "MAX_LINE_BYTES", "Reader"]

MAX_DUMP_BYTES: Final = 1 << 26
"""64 MiB: four times the forwarding tables of the largest NVLink domain."""
MAX_DUMP_LINES: Final = 1 << 21
MAX_LINE_BYTES: Final = 1 << 12


class Reader:
    """Go through the lines of a dump; make errors that say where they are.

    Args:
        data: the file, ASCII apart from names in quotes or braces.
        what: the kind of file, for errors.

    Raises:
        EvidenceError: the file, its number of lines or a line is too long, or it has a NUL.
    """

    __slots__ = ("_lines", "number", "what")

    def __init__(self, data: bytes, what: str) -> None:
        self.what = what
        self.number = 0
        self._lines: list[bytes] = []
        count = data.count(b"\n") + 1
        if len(data) > MAX_DUMP_BYTES or count > MAX_DUMP_LINES:
            raise self.wrong(
                f"at most {MAX_DUMP_BYTES} bytes and {MAX_DUMP_LINES} lines",
                f"{len(data)} bytes, {count} lines",
            )
        if b"\0" in data:
            raise self.wrong("text", "a NUL byte")
        self._lines = data.split(b"\n")

    def __iter__(self) -> Iterator[str]:
        """Yield every line that is not blank, without white space at its ends."""
        for number, line in enumerate(self._lines, start=1):
            self.number = number
            if len(line) > MAX_LINE_BYTES:
                raise self.wrong(f"a line of at most {MAX_LINE_BYTES} bytes", f"{len(line)} bytes")
            text = line.decode("ascii", "replace").strip(" \t\r")
            if text:
                yield text

    def wrong(self, expected: str, found: str) -> EvidenceError:
        """Make the error for the line at hand."""
        return EvidenceError(
            f"the {self.what} cannot be read",
            expected=expected,
            found=found[:200],
            where=f"{self.what}, line {self.number}" if self.number else self.what,
            hint="take the dump again; do not edit it",
        )
