"""configfs-tsm as a mounted file system: `KernelTsm` behind /dev/fuse, for plain system calls.

Run as ``python fuse_tsm.py BASE MOUNTPOINT``; says ``ready`` when it is mounted and ends when it
is unmounted.  Mounting needs CAP_SYS_ADMIN.  What `KernelTsm` cannot show is seen here: that
rmdir(2) takes a directory with files in it, that inblob is written when it is closed, and what
a process that is killed leaves behind.  Protocol: Linux include/uapi/linux/fuse.h, version 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kernel_tsm import _MODES, KernelTsm, error

_LIBC = ctypes.CDLL(None, use_errno=True)
_IN, _OUT = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_ROOT = 1
_DIRECT_IO = 1
_BIG = 1 << 20


def mount(descriptor: int, target: Path) -> None:
    options = f"fd={descriptor},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    # MS_NOSUID | MS_NODEV
    if _LIBC.mount(b"ccverify-tsm", str(target).encode(), b"fuse", 6, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unmount(target: Path) -> None:
    _LIBC.umount2(str(target).encode(), 2)  # MNT_DETACH


class Server:
    def __init__(self, kernel: KernelTsm, descriptor: int) -> None:
        self.kernel = kernel
        self.descriptor = descriptor
        self.paths: dict[int, Path] = {_ROOT: kernel.root}
        self.nodes: dict[Path, int] = {kernel.root: _ROOT}
        self.files: dict[int, bytes | bytearray] = {}
        """Open files: what was read, or what is to be written when they are closed."""
        self.opened = 0
        self.handlers: dict[int, Callable[[int, bytes], bytes]] = {
            1: self.lookup, 3: self.getattr, 4: self.getattr, 9: self.mkdir, 11: self.rmdir,
            14: self.open, 15: self.read, 16: self.write, 17: self.statfs, 18: self.release,
            25: self.flush, 26: self.init, 27: self.opendir, 28: self.readdir, 29: self.nothing,
            34: self.nothing, 38: self.nothing,
        }  # fmt: skip

    def run(self) -> None:
        while True:
            try:
                request = os.read(self.descriptor, _BIG + 4096)
            except OSError as problem:
                if problem.errno in (errno.EINTR, errno.ENOENT):
                    continue
                if problem.errno == errno.ENODEV:
                    return
                raise
            _, code, unique, node, *_ = _IN.unpack_from(request)
            if code in (2, 36, 42):  # FORGET, INTERRUPT, BATCH_FORGET: no answer
                continue
            handler = self.handlers.get(code)
            try:
                if handler is None:
                    raise error(errno.ENOSYS)
                answer, number = handler(node, request[_IN.size :]), 0
            except OSError as problem:
                answer, number = b"", problem.errno or errno.EIO
            try:
                os.write(
                    self.descriptor, _OUT.pack(_OUT.size + len(answer), -number, unique) + answer
                )
            except OSError as problem:
                if problem.errno != errno.ENOENT:  # the asking process was killed
                    raise

    def init(self, _: int, body: bytes) -> bytes:
        _, minor, readahead, _ = struct.unpack_from("<4I", body)
        out = struct.pack("<4IHHIIHHI7I", 7, 31, readahead, 0, 12, 9, _BIG, 1, 32, 0, 0, *[0] * 7)
        return out if minor >= 23 else out[:24]

    def nothing(self, _: int, __: bytes) -> bytes:
        return b""

    def statfs(self, _: int, __: bytes) -> bytes:
        return bytes(80)

    def attr(self, node: int) -> bytes:
        path = self.paths[node]
        if path.parent.parent == self.kernel.root:
            if not path.parent.is_dir():
                raise error(errno.ENOENT)
            mode = stat.S_IFREG | (0o444 if _MODES[path.name] == "r" else 0o200)
        elif path.is_dir():
            mode = stat.S_IFDIR | 0o700
        else:
            raise error(errno.ENOENT)
        owner = (mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)
        return _ATTR.pack(node, 0, 0, 0, 0, 0, 0, 0, 0, *owner)

    def entry(self, path: Path) -> bytes:
        node = self.nodes.setdefault(path, len(self.nodes) + 1)
        self.paths[node] = path
        # Times of validity are 0: nothing is cached.
        return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + self.attr(node)

    def child(self, node: int, name: bytes) -> Path:
        return self.paths[node] / name.split(b"\0")[0].decode()

    def lookup(self, node: int, body: bytes) -> bytes:
        path = self.child(node, body)
        if path.parent != self.kernel.root and path.name not in _MODES:
            raise error(errno.ENOENT)
        return self.entry(path)

    def getattr(self, node: int, _: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self.attr(node)

    def mkdir(self, node: int, body: bytes) -> bytes:
        path = self.child(node, body[8:])
        if path.parent != self.kernel.root:
            raise error(errno.EPERM)
        self.kernel.make(path)
        return self.entry(path)

    def rmdir(self, node: int, body: bytes) -> bytes:
        path = self.child(node, body)
        self.kernel.remove(path)
        self.nodes.pop(path, None)
        return b""

    def open(self, node: int, body: bytes) -> bytes:
        (flags,) = struct.unpack_from("<I", body)
        path = self.paths[node]
        mode = "r" if flags & os.O_ACCMODE == os.O_RDONLY else "w"
        if _MODES.get(path.name) != mode:
            raise error(errno.EACCES)
        self.opened += 1
        if mode == "w":
            self.files[self.opened] = bytearray()
        return struct.pack("<QII", self.opened, _DIRECT_IO, 0)

    def read(self, node: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        if handle not in self.files:
            self.files[handle] = self.kernel.read(self.paths[node], _BIG)
        return bytes(self.files[handle][offset : offset + size])

    def write(self, _: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        if offset + size > 64:
            raise error(errno.EFBIG)
        waiting = self.files[handle]
        assert isinstance(waiting, bytearray)
        waiting[offset : offset + size] = body[40 : 40 + size]
        return struct.pack("<II", size, 0)

    def flush(self, node: int, body: bytes) -> bytes:
        (handle,) = struct.unpack_from("<Q", body)
        waiting = self.files.get(handle)
        if isinstance(waiting, bytearray) and waiting:
            data = bytes(waiting)
            waiting.clear()
            with suppress(OSError):  # as configfs does
                self.kernel.write(self.paths[node], data)
        return b""

    def release(self, _: int, body: bytes) -> bytes:
        (handle,) = struct.unpack_from("<Q", body)
        self.files.pop(handle, None)
        return b""

    def opendir(self, _: int, __: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0)

    def readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        path = self.paths[node]
        names = self.kernel.names(path)
        kind = stat.S_IFDIR >> 12 if path == self.kernel.root else stat.S_IFREG >> 12
        out = b""
        for place, name in enumerate(names[offset:], int(offset) + 1):
            raw = name.encode()
            record = struct.pack("<QQII", 1 << 40 | place, place, len(raw), kind) + raw
            record += bytes(-len(record) % 8)
            if len(out) + len(record) > size:
                break
            out += record
        return out


def main() -> None:
    base, target = Path(sys.argv[1]), Path(sys.argv[2])
    _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    def leave(_: int, __: FrameType | None) -> None:
        unmount(target)
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mount(descriptor, target)
    print("ready", flush=True)
    Server(KernelTsm(base), descriptor).run()


if __name__ == "__main__":
    main()
