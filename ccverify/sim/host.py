"""A simulated Linux host: a tree of files, links of /proc, and programs that answer.

It has what whoever looks at a host asks of it, and fails as a kernel does: with OSError and the
number that the real call would give.
"""

from __future__ import annotations

import errno
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["SimAnswer", "SimFile", "SimHost", "SimStatus"]

_KERNELS = ("/proc/", "/sys/")
_ROOT = re.compile(r"/proc/[0-9]+/root/")
"""What a process sees as its root: here that of the host."""


@dataclass(frozen=True, slots=True)
class SimFile:
    """A regular file: its bytes, and when it was written, Unix seconds."""

    data: bytes
    modified: int


@dataclass(frozen=True, slots=True)
class SimStatus:
    """What stat(2) says of a regular file: size in bytes, Unix seconds, device and inode."""

    size: int
    modified: int
    identity: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SimAnswer:
    """How a command ended: exit status, standard output, standard error."""

    status: int
    output: bytes
    errors: str = ""


_Program = Callable[[tuple[str, ...]], SimAnswer]


@dataclass(slots=True)
class SimHost:
    """The host; everything can be changed.

    Attributes:
        files: path → file.  Directories are there where files are below them.
        links: path → where the link leads, as it is written.
        removed: path of a link of /proc → the file it leads to, if that was removed.
        programs: name or path → what it prints, from its arguments.
    """

    files: dict[str, SimFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    removed: dict[str, SimFile] = field(default_factory=dict)
    programs: dict[str, _Program] = field(default_factory=dict)

    def put(self, files: Mapping[str, bytes], modified: int) -> None:
        """Write files."""
        self.files.update({path: SimFile(data, modified) for path, data in files.items()})

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        below = path.rstrip("/") + "/"
        known = (*self.files, *self.links)
        found = {each[len(below) :].split("/")[0] for each in known if each.startswith(below)}
        if not found:
            raise _error(errno.ENOTDIR if path in self.files else errno.ENOENT, path)
        return sorted(found)

    def link(self, path: str) -> str:
        """Return where a link leads."""
        if path in self.links:
            return self.links[path]
        self._file(path)
        raise _error(errno.EINVAL, path)

    def status(self, path: str) -> SimStatus:
        """Return what is known of a regular file; links are followed."""
        name, found = self._followed(path)
        size = 0 if name.startswith(_KERNELS) and path not in self.links else len(found.data)
        return SimStatus(size, found.modified, (1, zlib.crc32(name.encode())))

    def read(self, path: str, limit: int) -> bytes:
        """Return all bytes of a file that is no link, at most `limit`."""
        data = self._file(path).data
        if len(data) > limit:
            raise _error(errno.EFBIG, path)
        return data

    def tail(self, path: str, limit: int) -> bytes:
        """Return the last bytes of a file that is no link."""
        data = self._file(path).data
        return data[max(0, len(data) - limit) :]

    def sha384(self, path: str, limit: int) -> bytes:
        """Return the digest of a file; links are followed, to removed files too."""
        _, found = self._followed(path)
        if len(found.data) > limit:
            raise _error(errno.EFBIG, path)
        return hashlib.sha384(found.data).digest()

    def run(self, command: tuple[str, ...]) -> SimAnswer:
        """Run a program by its path or name."""
        program = self.programs.get(command[0])
        if program is None:
            raise _error(errno.ENOENT, command[0])
        return program(command[1:])

    def _followed(self, path: str) -> tuple[str, SimFile]:
        if path in self.removed:
            return path, self.removed[path]
        name = self.links.get(path, _ROOT.sub("/", path))
        return name, self._file(name)

    def _file(self, path: str) -> SimFile:
        if path in self.files:
            return self.files[path]
        if path in self.links:
            raise _error(errno.ELOOP, path)
        below = path.rstrip("/") + "/"
        is_directory = any(each.startswith(below) for each in (*self.files, *self.links))
        raise _error(errno.EINVAL if is_directory else errno.ENOENT, path)


_WORDS = {
    errno.ENOENT: "No such file or directory",
    errno.ENOTDIR: "Not a directory",
    errno.EINVAL: "Invalid argument",
    errno.ELOOP: "Too many levels of symbolic links",
    errno.EFBIG: "File too large",
}


def _error(number: int, path: str) -> OSError:
    # OSError itself picks the subclass, such as FileNotFoundError.
    return OSError(number, _WORDS[number], path)
