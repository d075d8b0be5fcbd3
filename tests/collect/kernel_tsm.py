"""configfs-tsm as the kernel behaves, over a plain directory: what `ccverify.collect.tsm` meets.

After drivers/virt/coco/guest/report.c, drivers/virt/coco/tdx-guest/tdx-guest.c and
fs/configfs/file.c: attributes come and go with their entry; a write to ``inblob`` counts when
the file is closed, and its error is lost; ``outblob`` is made when it is read; a wrong length
is noticed only then.  All state is in the directory and under a lock, so several processes can
use one such kernel, and one may be killed in the middle of anything.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

REPORT_DATA_AT = 48 + 520
"""Of a version 4 quote."""
_MODES = {"provider": "r", "generation": "r", "inblob": "w", "outblob": "r"}


def error(number: int, path: Path | str = "") -> OSError:
    return OSError(number, os.strerror(number), str(path))


def quote_over(template: bytes, report_data: bytes) -> bytes:
    """Return a quote of the template's TD over other REPORTDATA; its signature is wrong."""
    return template[:REPORT_DATA_AT] + report_data + template[REPORT_DATA_AT + 64 :]


class KernelTsm:
    """The file system interface of `ccverify.collect.files.Files`.

    Attributes are set by a test to make the kernel, its host, or other processes misbehave; they
    are of this object alone, not of the directory.
    """

    def __init__(self, base: Path, template: bytes | None = None) -> None:
        self.base = base
        self.root = base / "config/tsm/report"
        self.root.mkdir(parents=True, exist_ok=True)
        if template is not None:
            (base / "template").write_bytes(template)
        self.provider: str | None = "tdx_guest"
        self.failures: list[int] = []
        """Errors that making a report gives, one each time; then reports are made."""
        self.lost_writes = 0
        """Writes to inblob that the kernel refuses when the file is closed."""
        self.empty = False
        """Whether the host fails, which older kernels do not tell."""
        self.other_report_data: bytes | None = None
        """What the quote covers instead of what was asked."""
        self.seconds = 0.0
        """How long the host takes."""
        self.after_write: Callable[[Path], None] = lambda entry: None
        self.after_report: Callable[[Path], None] = lambda entry: None
        self.made = 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.base / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _state(self, entry: Path) -> dict[str, object]:
        if not entry.is_dir():
            raise error(errno.ENOENT, entry)
        try:
            return dict(json.loads((entry / "state").read_text()))
        except (FileNotFoundError, ValueError):
            return {"written": 0, "made": -1, "in": "", "out": ""}

    def _keep(self, entry: Path, state: dict[str, object]) -> None:
        (entry / "state").write_text(json.dumps(state))

    def names(self, path: Path) -> list[str]:
        if path.parent == self.root and path.is_dir():
            return sorted(_MODES)
        return sorted(os.listdir(path))

    def make(self, path: Path) -> None:
        if self.provider is None:
            raise error(errno.ENXIO, path)
        os.mkdir(path, 0o700)

    def remove(self, path: Path) -> None:
        with self._locked():
            if not path.is_dir():
                raise error(errno.ENOENT, path)
            shutil.rmtree(path)

    def read(self, path: Path, limit: int) -> bytes:
        entry = self._open(path, "r")
        if path.name == "provider":
            if self.provider is None:
                raise error(errno.ENXIO, path)
            return f"{self.provider}\n".encode()
        if path.name == "generation":
            with self._locked():
                return f"{self._state(entry)['written']}\n".encode()
        data = self._outblob(entry)
        self.after_report(entry)
        if len(data) > limit:
            raise error(errno.EFBIG, path)
        return data

    def write(self, path: Path, data: bytes) -> None:
        entry = self._open(path, "w")
        if len(data) > 64:
            raise error(errno.EFBIG, path)
        if self.lost_writes:
            self.lost_writes -= 1
            return
        with self._locked():
            state = self._state(entry)
            self._keep(
                entry, {**state, "written": int(str(state["written"])) + 1, "in": data.hex()}
            )
        self.after_write(entry)

    def _open(self, path: Path, mode: str) -> Path:
        if not path.parent.is_dir() or path.name not in _MODES:
            raise error(errno.ENOENT, path)
        if _MODES[path.name] != mode:
            raise error(errno.EACCES, path)
        return path.parent

    def _outblob(self, entry: Path) -> bytes:
        with self._locked():
            state = self._state(entry)
            asked = bytes.fromhex(str(state["in"]))
            if not asked:
                raise error(errno.EINVAL, entry)
            if state["made"] == state["written"]:
                return bytes.fromhex(str(state["out"]))
        if self.provider is None:
            raise error(errno.ENXIO, entry)
        if self.failures:
            raise error(self.failures.pop(0), entry)
        if len(asked) != 64:
            raise error(errno.EINVAL, entry)
        time.sleep(self.seconds)
        self.made += 1
        covers = self.other_report_data or asked
        quote = b"" if self.empty else quote_over((self.base / "template").read_bytes(), covers)
        with self._locked():
            self._keep(entry, {**state, "made": state["written"], "out": quote.hex()})
        return quote
