"""Where results go: standard output as far as its encoding allows, or a file, atomically."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from ccverify.collect.atomic import require_writable, write_atomically
from ccverify.errors import UsageError
from ccverify.results.render.text import escape_json_for_terminal, fit_encoding

__all__ = [
    "Screen",
    "require_output",
    "screen",
    "write_file",
    "write_private_file",
    "write_stderr",
    "write_stdout",
]

DEFAULT_WIDTH = 100
MAX_WIDTH = 120


class Screen(NamedTuple):
    """How to lay out text: columns, and whether colours may be used."""

    width: int
    color: bool


def screen(*, no_color: bool, to_file: bool = False) -> Screen:
    """Look at standard output: its width, and whether it takes colours.

    Colours need a terminal, and neither NO_COLOR (https://no-color.org) nor ``--no-color``.
    """
    terminal = not to_file and _isatty(sys.stdout)
    plain = no_color or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Screen(min(_width(terminal), MAX_WIDTH), terminal and not plain)


def _width(terminal: bool) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns[:6]) > 0:
        return int(columns[:6])
    if terminal:
        with contextlib.suppress(OSError, ValueError):
            return os.get_terminal_size(sys.stdout.fileno()).columns or DEFAULT_WIDTH
    return DEFAULT_WIDTH


def _isatty(stream: IO[Any] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def write_stdout(text: str, *, as_json: bool = False) -> None:
    """Write a result to standard output.

    JSON is always UTF-8; on a terminal its unprintable characters are escaped, which changes
    no value.  Other text is fitted to the encoding of standard output.  A reader that went
    away is no error.

    Raises:
        UsageError: standard output cannot be written.
    """
    stream = sys.stdout
    if stream is None:
        raise UsageError("standard output is closed", hint="use --output FILE")
    if as_json:
        data = (escape_json_for_terminal(text) if _isatty(stream) else text).encode("utf-8")
    else:
        encoding = stream.encoding or "ascii"
        data = fit_encoding(text, encoding).encode(encoding, "backslashreplace")
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError:
        _discard(stream)
    except (OSError, ValueError) as problem:
        _discard(stream)
        raise UsageError(
            "the result could not be written to standard output", found=_reason(problem)
        ) from None


def write_stderr(text: str) -> None:
    """Write to standard error, if there is one; never fails."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(fit_encoding(text, sys.stderr.encoding or "ascii"))
        sys.stderr.flush()


def _discard(stream: IO[Any]) -> None:
    """Let what is still buffered go nowhere, so that closing the stream cannot fail again."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def write_file(path: str, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8, to a file so that it is there as a whole or not at all.

    A link is followed; a device or pipe is written as it is.

    Raises:
        UsageError: the file cannot be written.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with _writing(path):
        write_atomically(path, data)


def write_private_file(path: str, data: bytes, *, force: bool) -> None:
    """Write bytes to a file of mode 0600 so that it is there as a whole or not at all.

    Args:
        path: the file; a link is followed, a device or pipe is written as it is.
        data: its bytes.
        force: whether an existing file is replaced.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    with _writing(path):
        write_atomically(path, data, private=True, replace=force)


def require_output(path: str, *, force: bool) -> None:
    """Refuse before long work a file that `write_private_file` would refuse after it.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    with _writing(path):
        require_writable(path, replace=force)


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise UsageError(
            "the output file exists",
            expected="a name that is not taken",
            where=path,
            hint="choose another name, or replace it with --force",
        ) from None
    except (OSError, ValueError) as problem:
        raise UsageError(
            "the output file cannot be written",
            expected="a path in a directory that exists and may be written",
            found=_reason(problem),
            where=path,
        ) from None


def _reason(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem)
