"""The host of a Fabric Manager as its collector sees it: files, links, commands.

A manager's host has files that programs other than the kernel write, some of them in directories
that anybody may write to (``/tmp/fabricmanager.state``), and the collector runs as root.  So a
file is read only if it is a regular one, links are followed only where nothing but a digest comes
out, and a command is stopped when its time or its output passes a limit.

`ManagerHost` is also where a test or a simulator puts a machine of its own: everything that
`ccverify.collect.manager` learns comes through it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from ccverify.collect.child_process import run_bytes
from ccverify.collect.model import Ask

__all__ = [
    "CommandResult",
    "FileStatus",
    "HostFiles",
    "ManagerHost",
    "OsHostFiles",
    "Run",
    "real_host",
    "run_command",
]

_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What is known of a regular file without reading it.

    Attributes:
        size: bytes; 0 for files of /proc.
        modified: Unix seconds of the last change of its content, rounded down.
        identity: the same for two names of one file and different for two files, as long as
            neither is removed: device and inode.
    """

    size: int
    modified: int
    identity: tuple[int, int]


class HostFiles(Protocol):
    """Reading only.  Every method raises OSError as `os` does.

    What is no regular file (directory, FIFO, socket, device) is refused with EINVAL and never
    opened; a link at the end of a path is followed only where that is said.
    """

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted."""
        ...

    def link(self, path: Path) -> str:
        """Return where a link leads, as it is written there; EINVAL if it is none."""
        ...

    def status(self, path: Path) -> FileStatus:
        """Return what is known of a file; links are followed."""
        ...

    def read(self, path: Path, limit: int) -> bytes:
        """Return all bytes; EFBIG if there are more than `limit`, ELOOP for a link."""
        ...

    def tail(self, path: Path, limit: int) -> bytes:
        """Return the last bytes, at most `limit`; ELOOP for a link."""
        ...

    def sha384(self, path: Path, limit: int) -> bytes:
        """Return the digest of all bytes; EFBIG if there are more than `limit`.

        Links are followed, those of /proc to programs that were removed too.
        """
        ...


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended.

    Attributes:
        status: exit status; negative for a signal.
        output: standard output, at most 8 MiB.
        errors: the end of standard error.
    """

    status: int
    output: bytes
    errors: str = ""


def _utc(_: int) -> int:
    return 0


Run = Callable[[tuple[str, ...], float], CommandResult]
"""Program with its arguments, and seconds → how it ended.

No shell is between.  The program is a full path, or a name that is looked for in the usual
directories.  Raises FileNotFoundError (no such program), PermissionError (it may not be started),
TimeoutError (stopped when its time was up), OSError(EFBIG) (more than 8 MiB of output).
"""


@dataclass(frozen=True, slots=True)
class ManagerHost:
    """One machine, real or not.

    Attributes:
        files: its file system, from the root.
        run: runs a command on it.
        clock_ticks: per second, of the start times in ``/proc/PID/stat``.
        zone: Unix seconds → seconds by which local time, in which logs are written, is ahead of
            UTC.
    """

    files: HostFiles
    run: Run = field(repr=False)
    clock_ticks: int = 100
    zone: Callable[[int], int] = field(default=_utc, repr=False)


class OsHostFiles:
    """The file system of this machine."""

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted."""
        return sorted(os.listdir(path))

    def link(self, path: Path) -> str:
        """Return where a link leads."""
        return os.readlink(path)

    def status(self, path: Path) -> FileStatus:
        """Return what is known of a regular file."""
        with _located(path, follow=True) as (_, found):
            return FileStatus(found.st_size, int(found.st_mtime), (found.st_dev, found.st_ino))

    def read(self, path: Path, limit: int) -> bytes:
        """Return all bytes of a regular file that is no link."""
        with _opened(path, follow=False) as descriptor:
            return b"".join(_blocks(descriptor, limit, path))

    def tail(self, path: Path, limit: int) -> bytes:
        """Return the last bytes of a regular file that is no link."""
        with _opened(path, follow=False) as descriptor:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            os.lseek(descriptor, max(0, size - limit), os.SEEK_SET)
            data = bytearray()
            # A log may grow while it is read.
            while len(data) < limit and (block := os.read(descriptor, limit - len(data))):
                data += block
            return bytes(data)

    def sha384(self, path: Path, limit: int) -> bytes:
        """Return the digest of a regular file."""
        digest = hashlib.sha384()
        with _opened(path, follow=True) as descriptor:
            for block in _blocks(descriptor, limit, path):
                digest.update(block)
        return digest.digest()


@contextmanager
def _located(path: Path, *, follow: bool) -> Iterator[tuple[int, os.stat_result]]:
    """Find a file without opening it, which could block, or mean something to a device."""
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    handle = os.open(path, flags)
    try:
        found = os.fstat(handle)
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, "it is a link, and links are not followed here", str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        yield handle, found
    finally:
        os.close(handle)


@contextmanager
def _opened(path: Path, *, follow: bool) -> Iterator[int]:
    """Open exactly the file that was looked at, by the name /proc has for it."""
    with _located(path, follow=follow) as (handle, _):
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _blocks(descriptor: int, limit: int, path: Path) -> Iterator[bytes]:
    size = os.fstat(descriptor).st_size
    while size <= limit and (block := os.read(descriptor, _BLOCK)):
        yield block
        # Files of /proc have no size before they are read.
        limit -= len(block)
        size = 0
    if size > limit or limit < 0:
        raise OSError(errno.EFBIG, "it is larger than what is read", str(path))


def run_command(command: tuple[str, ...], seconds: float) -> CommandResult:
    """Run a command of this machine; see `Run` for what is raised."""
    ask = Ask(bytes(32), None, time.monotonic() + seconds, time.monotonic)
    ended = run_bytes(command, b"", ask)
    if ended.problem == "timeout":
        raise TimeoutError(errno.ETIMEDOUT, f"not done after {seconds:g} s", command[0])
    if ended.problem is not None:
        raise OSError(errno.EFBIG, "it printed too much", command[0])
    return CommandResult(ended.status, ended.output, ended.errors)


def real_host() -> ManagerHost:
    """Return this machine."""
    return ManagerHost(OsHostFiles(), run_command, os.sysconf("SC_CLK_TCK"), _local)


def _local(seconds: int) -> int:
    return time.localtime(seconds).tm_gmtoff
