"""Reading and writing the small files kernels serve, by one call each and never without limit.

Kernel files are not like others: a size is not known before they are read, a write has to come
in one piece, and an error of the last read has to be seen.  `Files` is also where a test puts
something that behaves like a kernel.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from ccverify.collect.model import Absence, AbsenceReason

__all__ = ["Files", "OsFiles", "Trouble", "absence_of", "told"]

_BLOCK: Final = 64 * 1024


class Files(Protocol):
    """What collection does with a file system; every method raises OSError as `os` does."""

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted."""
        ...

    def make(self, path: Path) -> None:
        """Make a directory."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a directory by rmdir(2), which in configfs takes its attributes with it."""
        ...

    def read(self, path: Path, limit: int) -> bytes:
        """Return all bytes of a file; OSError(EFBIG) if there are more than `limit`."""
        ...

    def write(self, path: Path, data: bytes) -> None:
        """Put `data` into an existing file, from its start, by a single system call."""
        ...


class OsFiles:
    """The file system of this machine."""

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted."""
        return sorted(os.listdir(path))

    def make(self, path: Path) -> None:
        """Make a directory that only its owner may enter."""
        os.mkdir(path, 0o700)

    def remove(self, path: Path) -> None:
        """Remove a directory."""
        os.rmdir(path)

    def read(self, path: Path, limit: int) -> bytes:
        """Return all bytes of a file, at most `limit`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            blocks: list[bytes] = []
            size = 0
            while block := os.read(descriptor, _BLOCK):
                blocks.append(block)
                size += len(block)
                if size > limit:
                    raise OSError(errno.EFBIG, f"more than {limit} bytes", str(path))
            return b"".join(blocks)
        finally:
            os.close(descriptor)

    def write(self, path: Path, data: bytes) -> None:
        """Put `data` into an existing file; it is neither made nor truncated."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if written != len(data):
            raise OSError(errno.EIO, f"{written} of {len(data)} bytes written", str(path))


Trouble = tuple[AbsenceReason, str, str]
"""What an errno means where it was met: reason, words, remedy."""


def told(problem: OSError) -> str:
    """Return an OSError in words: ``ENXIO (No such device or address)``."""
    if problem.errno is None:
        return str(problem) or type(problem).__name__
    name = errno.errorcode.get(problem.errno, str(problem.errno))
    return f"{name} ({problem.strerror or os.strerror(problem.errno)})"


def absence_of(
    problem: OSError,
    table: Mapping[int, Trouble],
    *,
    label: str,
    source: str,
    doing: str,
    otherwise: Callable[[OSError], Trouble],
) -> Absence:
    """Return the absence that `problem` means.

    Args:
        problem: what the kernel said.
        table: errno → what it means here.
        label: the part that is absent.
        source: who looked.
        doing: what was being done: ``reading /sys/…/outblob``.
        otherwise: what an errno that is not in the table means.
    """
    found = table.get(problem.errno) if problem.errno is not None else None
    reason, words, remedy = found or otherwise(problem)
    return Absence(label, reason, f"{words}: {doing} gave {told(problem)}", remedy, source)
