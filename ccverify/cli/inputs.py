"""What comes in: files and standard input with a size limit, hex values, points in time."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, NamedTuple

from ccverify.errors import (
    CcverifyError,
    CollateralError,
    EvidenceError,
    PolicyError,
    TrustError,
    UsageError,
)

__all__ = [
    "COLLATERAL",
    "EVENT_LOG",
    "NONCE",
    "POLICY",
    "TRUST_ROOT",
    "Inputs",
    "Source",
    "in_file",
    "parse_hex",
    "parse_nonce_file",
    "parse_time",
]

STDIN = "-"
_CHUNK = 1024 * 1024
_MIB = 1024 * 1024


class Source(NamedTuple):
    """One kind of input.

    Attributes:
        name: for messages.
        limit: most bytes read; the parsers have tighter limits of their own.
        error: raised where the content is at fault, so that the exit code names the culprit.
        expected: what the file should hold.
        may_be_empty: whether the parser says what an empty file means.
    """

    name: str
    limit: int
    error: type[CcverifyError]
    expected: str
    may_be_empty: bool = False


EVENT_LOG = Source("event log", 4 * _MIB, EvidenceError, "one CCEL log, or one dstack JSON log")
COLLATERAL = Source(
    "collateral",
    32 * _MIB,
    CollateralError,
    "a collateral pack (see `ccverify collateral`), or QuoteCollateralV3 JSON",
)
POLICY = Source("policy", _MIB, PolicyError, "a ccverify policy, YAML or JSON")
NONCE = Source("nonce", 1024, UsageError, "16 to 64 raw bytes, or their hex")
TRUST_ROOT = Source("trust root", 64 * 1024, TrustError, "one root certificate, PEM or DER")


class Inputs:
    """Reads the inputs of one command; standard input can be taken once."""

    __slots__ = ("_stdin_taken_by",)

    def __init__(self) -> None:
        self._stdin_taken_by: str | None = None

    def read(self, path: str, source: Source) -> bytes:
        """Return a file's bytes, or those of standard input for ``-``.

        No more than the limit is ever held in memory.

        Raises:
            UsageError: the file cannot be read, or standard input was taken before.
            CcverifyError: `source.error`, for a file that is empty or too large.
        """
        try:
            if path == STDIN:
                data = _read_limited(self._stdin(source), source.limit)
            else:
                with open(path, "rb", buffering=0) as file:
                    data = _read_limited(file, source.limit)
        except (OSError, ValueError) as problem:
            raise _unreadable(problem, path, source) from None
        if len(data) > source.limit:
            raise source.error(
                f"{source.name} is too large",
                expected=f"at most {source.limit} bytes: {source.expected}",
                found="more",
                where=_shown(path),
                hint="check that this is the file you mean",
            )
        if not data and not source.may_be_empty:
            raise source.error(
                f"{source.name} is empty",
                expected=source.expected,
                found="0 bytes",
                where=_shown(path),
                hint="check the step that wrote it",
            )
        return data

    def plan(self, *wanted: tuple[str | None, Source]) -> None:
        """Refuse to start where standard input is wanted twice.

        Reading would find that out only after taking one input for the other.

        Raises:
            UsageError: more than one path is ``-``.
        """
        names = [source.name for path, source in wanted if path == STDIN]
        if len(names) > 1:
            raise _taken_twice(names[0], names[1])

    def _stdin(self, source: Source) -> IO[bytes]:
        if self._stdin_taken_by is not None:
            raise _taken_twice(self._stdin_taken_by, source.name)
        self._stdin_taken_by = source.name
        if sys.stdin is None:
            raise UsageError("standard input is closed", expected=source.expected)
        return sys.stdin.buffer


def _taken_twice(first: str, second: str) -> UsageError:
    return UsageError(
        "standard input can be read only once",
        found=f"- for both {first} and {second}",
        hint="put one of them into a file",
    )


def _read_limited(file: IO[bytes], limit: int) -> bytes:
    data = bytearray()
    while len(data) <= limit:
        chunk = file.read(min(_CHUNK, limit + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    return bytes(data)


_REASONS: tuple[tuple[type[Exception], str, str], ...] = (
    (FileNotFoundError, "does not exist", "check the path; - reads standard input"),
    (IsADirectoryError, "is a directory", "name one file in it"),
    (PermissionError, "may not be read by this user", "change its permissions, or the user"),
)


def _unreadable(problem: Exception, path: str, source: Source) -> UsageError:
    own = getattr(problem, "strerror", None) or str(problem)
    known = ((reason, hint) for kind, reason, hint in _REASONS if isinstance(problem, kind))
    reason, hint = next(
        known, (f"cannot be read ({own})", "check the path; - reads standard input")
    )
    return UsageError(
        f"the {source.name} file {reason}",
        expected=source.expected,
        found=_shown(path),
        hint=hint,
    )


def _shown(path: str) -> str:
    return "standard input" if path == STDIN else path


@contextlib.contextmanager
def in_file(path: str) -> Iterator[None]:
    """Name the file in the place of any declared error raised inside."""
    try:
        yield
    except CcverifyError as problem:
        where = f"{_shown(path)}: {problem.where}" if problem.where else _shown(path)
        raise type(problem)(
            problem.message,
            expected=problem.expected,
            found=problem.found,
            where=where,
            hint=problem.hint,
        ) from None


_HEX = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2})+)\Z")


def parse_hex(text: str, option: str, least: int, most: int) -> bytes:
    """Return the bytes of hex digits; ``0x`` in front is allowed.

    Raises:
        UsageError: not hex, or not `least` to `most` bytes.
    """
    match = _HEX.match(text.strip())
    size = f"{least}" if least == most else f"{least} to {most}"
    if match is None or not least <= len(match[1]) // 2 <= most:
        found = f"{len(match[1]) // 2} bytes" if match else repr(text[:80])
        raise UsageError(
            f"the value of {option} is not what it should be",
            expected=f"{size} bytes as hex digits, 0x in front or not",
            found=found,
            where=option,
        )
    return bytes.fromhex(match[1])


def parse_nonce_file(data: bytes, path: str) -> bytes:
    """Return the nonce in a file: text that is all hex digits is hex, anything else raw.

    Raises:
        UsageError: not 16 to 64 bytes.
    """
    text = data.strip()
    if text.isascii() and _HEX.match(text.decode("ascii")):
        return parse_hex(text.decode("ascii"), f"--nonce-file {path}", 16, 64)
    if not 16 <= len(data) <= 64:
        raise UsageError(
            "the nonce has the wrong length",
            expected=NONCE.expected,
            found=f"{len(data)} bytes that are not hex",
            where=_shown(path),
        )
    return data


_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)


def parse_time(text: str) -> datetime:
    """Return a point in time written as RFC 3339 asks, in UTC.

    Raises:
        UsageError: any other form; a time without zone is nobody's time.
    """
    try:
        if not _RFC3339.match(text):
            raise ValueError
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            "the value of --at is not a point in time",
            expected="RFC 3339 with a zone, such as 2026-06-15T12:00:00Z",
            found=repr(text[:80]),
            where="--at",
        ) from None
