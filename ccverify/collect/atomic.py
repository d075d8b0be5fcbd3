"""Files that are there as a whole or not at all, whenever the process is killed.

Data goes into a temporary file in the same directory, is forced to the disk, and only then gets
its name.  Whoever writes holds a lock on the temporary file (flock(2)), which the kernel takes
back however the process ends; so a leftover of a killed run is a file of the right name that
nobody holds, and the next run that writes into that directory removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
from typing import Final

__all__ = ["LEFTOVER", "clean_leftovers", "require_writable", "write_atomically"]

LEFTOVER: Final = re.compile(r"\.ccverify-[0-9a-f]{16}\.tmp")
"""What temporary files are called."""

_BINARY: Final = getattr(os, "O_BINARY", 0)
_CLOSE: Final = getattr(os, "O_CLOEXEC", 0)
_ATTEMPTS: Final = 16
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}
)
"""Answers of file systems that have no hard links."""
_NO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def write_atomically(
    path: str, data: bytes, *, private: bool = False, replace: bool = True
) -> None:
    """Write a file in one step.

    A symbolic link is followed.  A device or pipe is written as it is.

    Args:
        path: the file.
        data: all of its bytes.
        private: readable by its owner alone (0600); otherwise by whom the umask lets.
        replace: whether an existing file is replaced; it stays as it is otherwise.

    Raises:
        FileExistsError: the file exists and is not to be replaced.
        OSError: the file cannot be written, and nothing is left of it; or, if the disk fails at
            the very end, nobody knows whether it will still be there after a loss of power.
        ValueError: the path holds a NUL.
    """
    target = os.path.realpath(path)
    if _is_special(target):
        with open(target, "wb") as device:
            device.write(data)
        return
    if not replace:
        _require_absent(target)
    folder = os.path.dirname(target)
    clean_leftovers(folder)
    descriptor, temporary = _new_file(folder, 0o600 if private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # The lock is held until the file has its name: nobody takes it for a leftover.
            if sys.platform == "win32":
                file.close()  # an open file cannot be renamed there
            _name(temporary, target, replace=replace)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def require_writable(path: str, *, replace: bool) -> None:
    """Find out before long work that its result could not be written; leaves nothing behind.

    Raises:
        FileExistsError: the file exists and is not to be replaced.
        OSError: there is no such directory, or no file may be made in it.
        ValueError: the path holds a NUL.
    """
    target = os.path.realpath(path)
    if _is_special(target):
        return
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not replace:
        _require_absent(target)
    folder = os.path.dirname(target)
    clean_leftovers(folder)
    # Asking for permission is no answer where file systems have rules of their own.
    descriptor, temporary = _new_file(folder, 0o600)
    os.close(descriptor)
    os.unlink(temporary)


def clean_leftovers(folder: str) -> list[str]:
    """Remove temporary files of killed runs; return their names.

    Only regular files of this user which nobody holds are removed.  Never fails.
    """
    removed: list[str] = []
    if sys.platform == "win32":
        return removed
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if LEFTOVER.fullmatch(entry.name)]
        removed += (name for name in names if _remove_dead(os.path.join(folder, name)))
    return removed


def _remove_dead(path: str) -> bool:
    if sys.platform == "win32":
        return False
    import fcntl

    with contextlib.suppress(OSError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                return False
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
            return True
        finally:
            os.close(descriptor)
    return False


def _new_file(folder: str, mode: int) -> tuple[int, str]:
    """Make a temporary file and lock it; somebody who cleans may be quicker with the lock."""
    for _ in range(_ATTEMPTS):
        temporary = os.path.join(folder, f".ccverify-{secrets.token_hex(8)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _CLOSE
        descriptor = os.open(temporary, flags, mode)
        if _locked(descriptor) and os.path.lexists(temporary):
            return descriptor, temporary
        os.close(descriptor)
    raise OSError(errno.EAGAIN, "temporary files disappear as they are made", folder)


def _locked(descriptor: int) -> bool:
    """Lock a file; true as well where there are no locks, for then nobody cleans either."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _name(temporary: str, target: str, *, replace: bool) -> None:
    """Give a finished file its name: the one step that can be seen from outside."""
    if replace:
        os.replace(temporary, target)
        return
    try:
        # A hard link never replaces anything, whatever appeared meanwhile.
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        _require_absent(target)
        os.replace(temporary, target)
    else:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _require_absent(target: str) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)


def _is_special(target: str) -> bool:
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _sync_folder(folder: str) -> None:
    """Force the name itself to the disk, where the system can."""
    if sys.platform == "win32":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a directory that may be written and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
