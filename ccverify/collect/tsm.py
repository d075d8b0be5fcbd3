"""TDX quotes from configfs-tsm, the report interface of Linux 6.7 and newer.

Sources: Linux Documentation/ABI/testing/configfs-tsm-report, drivers/virt/coco/guest/report.c,
drivers/virt/coco/tdx-guest/tdx-guest.c and fs/configfs/file.c.  What the last three say and the
first does not:

- a write to ``inblob`` takes effect when the file is closed, and its error is lost there; only
  ``generation`` tells whether it was taken;
- a wrong length is noticed when ``outblob`` is read, which is when the quote is made, and which
  lasts as long as the host needs, 30 seconds at most;
- while the host has not answered an earlier request, every new one gives EBUSY;
- a request the host failed gives an *empty* quote and no error.
"""

from __future__ import annotations

import errno
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ccverify.collect.files import Files, OsFiles, Trouble, absence_of, told
from ccverify.collect.machine import (
    NO_TD,
    PROC,
    Owner,
    is_dead,
    is_tdx_guest,
    kernel_version,
    this_process,
)
from ccverify.collect.model import Absence, AbsenceReason, Ask, Outcome, Stage
from ccverify.collect.quotes import MAX_QUOTE_BYTES, QUOTE_LABEL, asked, checked_quote

__all__ = ["TSM_ROOT", "TsmReport"]

_T = TypeVar("_T")

TSM_ROOT: Final = Path("/sys/kernel/config/tsm/report")

_SOURCE: Final = "configfs-tsm"
_PROVIDER: Final = "tdx_guest"
_MAX_ATTRIBUTE_BYTES: Final = 4096
_MAX_INTERFERENCES: Final = 5
"""Times another process may spoil our entry before we say so."""
_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.5
_OLDEST_KERNEL: Final = (6, 7)

_PASSING: Final = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT})
"""What goes away by itself: the quote buffer is the host's, or a signal came."""

_NO_PROVIDER: Final[Trouble] = (
    AbsenceReason.NO_DRIVER,
    "no driver offers reports",
    "load the driver: `modprobe tdx_guest`",
)
_NOT_ALLOWED: Final[Trouble] = (
    AbsenceReason.NO_PERMISSION,
    "configfs-tsm may not be used",
    "run as root; in a container, mount configfs writable into it "
    "(`--mount type=bind,source=/sys/kernel/config,target=/sys/kernel/config`)",
)
_TROUBLES: Final[dict[int, Trouble]] = {
    errno.ENXIO: _NO_PROVIDER,
    errno.EPERM: _NOT_ALLOWED,
    errno.EACCES: _NOT_ALLOWED,
    errno.EROFS: _NOT_ALLOWED,
    errno.EINVAL: (
        AbsenceReason.FAILED,
        "the kernel refused what was asked",
        "this kernel's driver differs from what is known: report it, with the kernel's version",
    ),
    errno.EIO: (
        AbsenceReason.FAILED,
        "the host failed to make a quote",
        "on the host, look at QGS (`systemctl status qgsd`) and at how the hypervisor reaches it",
    ),
    errno.EFBIG: (
        AbsenceReason.FAILED,
        f"the quote is larger than {MAX_QUOTE_BYTES} bytes",
        "update ccverify: no quote known today is",
    ),
}
_HOST_SILENT: Final = (
    "on the host, look at QGS (`systemctl status qgsd`) and at its socket in the hypervisor's "
    "configuration; allow more time with --timeout"
)
_EMPTY: Final = (
    "the kernel gave an empty quote and no error, which is how it tells that the host failed. "
    "Known causes: QGS is older than DCAP 1.21, does not run, or is not where the hypervisor "
    "looks for it; the platform has no PCK certificate (not registered, or PCCS out of reach)"
)


class _Interfered(Exception):
    """Somebody else wrote to our entry, or removed it: begin again with another."""


class _Missing(Exception):
    """There will be no quote; `absence` says why."""

    def __init__(self, absence: Absence) -> None:
        super().__init__(absence.text)
        self.absence = absence


class TsmReport:
    """Quotes by configfs-tsm.

    Every quote has an entry of its own, so that callers in other threads and processes cannot
    disturb each other.  The name of an entry says whose it is; one whose process was killed is
    removed by whoever comes next, and nobody else's is ever touched.

    Args:
        root: the directory ``report`` of configfs-tsm.
        files: the file system.
        proc: where /proc is.
        release: of the kernel, as `uname -r` says it; that of this one if None.
        pause: waits some seconds.
    """

    name = _SOURCE
    stage = Stage.QUOTE
    gives: tuple[str, ...] = (QUOTE_LABEL,)

    def __init__(
        self,
        root: Path = TSM_ROOT,
        *,
        files: Files | None = None,
        proc: Path = PROC,
        release: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.root = root
        self._files = files or OsFiles()
        self._proc = proc
        self._release = release
        self._pause = pause

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Take one quote.

        A request the host does not answer cannot be taken back, and its entry cannot be removed
        before the kernel gives up.  So it is made in a thread of its own: the caller has its
        answer at the deadline, and the thread tidies up when it can.

        Raises:
            UsageError: `ask` has no REPORTDATA.
        """
        report_data = asked(ask)
        results: list[Outcome | BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(self._quote(ask, report_data))
            except BaseException as problem:
                results.append(problem)
            done.set()

        threading.Thread(target=work, name="ccverify-tsm", daemon=True).start()
        if not done.wait(ask.remaining):
            return (self._absent(AbsenceReason.TIMEOUT, _still("the host answered"), _HOST_SILENT),)
        if isinstance(results[0], BaseException):
            raise results[0]
        return (results[0],)

    def diagnose(self) -> Sequence[Absence]:
        """Make an entry, read who provides reports, and remove it; no quote is made."""
        try:
            with self._entry() as entry:
                self._check_provider(entry)
        except _Missing as missing:
            return (missing.absence,)
        except OSError as problem:
            return (self._trouble(problem, "making an entry"),)
        return ()

    def _quote(self, ask: Ask, report_data: bytes) -> Outcome:
        for _ in range(_MAX_INTERFERENCES):
            try:
                with self._entry() as entry:
                    self._check_provider(entry)
                    data = self._insist(ask, partial(self._once, entry, report_data))
            except _Interfered:
                continue
            except _Missing as missing:
                return missing.absence
            except OSError as problem:
                return self._trouble(problem, "taking a quote")
            if not data:
                return self._absent(AbsenceReason.FAILED, _EMPTY, _HOST_SILENT)
            return checked_quote(data, report_data, _SOURCE)
        return self._absent(
            AbsenceReason.FAILED,
            f"another process wrote to or removed {_MAX_INTERFERENCES} of our entries in turn",
            f"find out which program writes to other programs' entries in {self.root}",
        )

    def _insist(self, ask: Ask, action: Callable[[], bytes]) -> bytes:
        """Try again while what goes wrong may pass and there is time."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return action()
            except OSError as problem:
                if problem.errno not in _PASSING:
                    raise
                if ask.remaining <= pause:
                    raise _Missing(
                        self._absent(
                            AbsenceReason.TIMEOUT,
                            f"{_still('a quote could be made')}: the last attempt gave "
                            f"{told(problem)}",
                            _HOST_SILENT,
                        )
                    ) from None
            self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _once(self, entry: Path, report_data: bytes) -> bytes:
        """Write, read, and see by the generation that nobody else wrote in between."""
        before = self._generation(entry)
        self._attribute(entry, lambda: self._files.write(entry / "inblob", report_data))
        written = self._generation(entry)
        if written == before:
            raise OSError(errno.EBUSY, "the kernel did not take what was written to inblob")
        if written != before + 1:
            raise _Interfered
        quote = self._attribute(entry, lambda: self._files.read(entry / "outblob", MAX_QUOTE_BYTES))
        if self._generation(entry) != written:
            raise _Interfered
        return quote

    def _generation(self, entry: Path) -> int:
        text = self._attribute(
            entry, lambda: self._files.read(entry / "generation", _MAX_ATTRIBUTE_BYTES)
        )
        if not re.fullmatch(rb"[0-9]{1,20}\n?", text):
            raise _Missing(
                self._absent(
                    AbsenceReason.FAILED,
                    f"{entry}/generation is not a number: {text[:40]!r}",
                    f"see whether {self.root} is configfs",
                )
            )
        return int(text)

    def _attribute(self, entry: Path, action: Callable[[], _T]) -> _T:
        """Do something with an attribute; the entry itself may have been taken away."""
        try:
            return action()
        except FileNotFoundError:
            if entry.name in self._files.names(self.root):
                raise
            raise _Interfered from None

    def _check_provider(self, entry: Path) -> None:
        text = self._attribute(
            entry, lambda: self._files.read(entry / "provider", _MAX_ATTRIBUTE_BYTES)
        )
        provider = text.decode("ascii", "backslashreplace").strip()
        if provider == _PROVIDER:
            return
        raise _Missing(
            self._absent(
                AbsenceReason.NOT_SUPPORTED,
                f"reports come from the driver {provider[:64]!r}, not from {_PROVIDER!r}",
                "run in an Intel TDX guest: ccverify reads no other kind of CPU evidence",
            )
        )

    @contextmanager
    def _entry(self) -> Iterator[Path]:
        """Make an entry and remove it again, whatever happens."""
        me = this_process(self._proc)
        self._tidy(me)
        entry = self._make(me)
        try:
            yield entry
        finally:
            # Gone already, or no longer ours to remove: the next run tries again.
            with suppress(OSError):
                self._files.remove(entry)

    def _make(self, me: Owner) -> Path:
        while True:
            entry = self.root / _name(me)
            try:
                self._files.make(entry)
            except FileExistsError:
                continue
            except (FileNotFoundError, PermissionError) as problem:
                # Where there is no configfs, sysfs answers mkdir(2) with EPERM.
                raise self._no_root(problem) from None
            return entry

    def _tidy(self, me: Owner) -> None:
        """Remove entries of processes of ours that were killed."""
        try:
            names = self._files.names(self.root)
        except OSError as problem:
            raise self._no_root(problem) from None
        for name in names:
            owner = _owner(name)
            if owner is not None and is_dead(owner, me, self._proc):
                # Somebody else may be tidying up too.
                with suppress(OSError):
                    self._files.remove(self.root / name)

    def _no_root(self, problem: OSError) -> _Missing:
        try:
            self._files.names(self.root)
        except OSError as listing:
            problem = listing
        return _Missing(self._trouble(problem, "opening the directory"))

    def _trouble(self, problem: OSError, doing: str) -> Absence:
        # Without a TD there is no driver to load either.
        no_td = problem.errno == errno.ENXIO and is_tdx_guest(self._proc) is False
        return absence_of(
            problem,
            {errno.ENXIO: NO_TD} if no_td else _TROUBLES,
            label=QUOTE_LABEL,
            source=_SOURCE,
            doing=f"{doing} in {self.root}",
            otherwise=self._other_trouble,
        )

    def _other_trouble(self, problem: OSError) -> Trouble:
        if not isinstance(problem, FileNotFoundError | NotADirectoryError):
            return (
                AbsenceReason.FAILED,
                "configfs-tsm failed",
                "look at the kernel's log (`dmesg`); an Intel TDX guest needs Linux 6.7 or newer",
            )
        if is_tdx_guest(self._proc) is False:
            return NO_TD
        kernel = kernel_version(self._release)
        if kernel < _OLDEST_KERNEL:
            return (
                AbsenceReason.NOT_SUPPORTED,
                f"Linux {kernel[0]}.{kernel[1]} has no configfs-tsm",
                "use a kernel of version 6.7 or newer",
            )
        if not self._configfs_is_mounted():
            return (
                AbsenceReason.NOT_PRESENT,
                "configfs is not mounted",
                "`mount -t configfs none /sys/kernel/config`",
            )
        return (
            AbsenceReason.NO_DRIVER,
            "configfs-tsm is not there",
            "load the driver: `modprobe tdx_guest` (kernel built with CONFIG_TSM_REPORTS and "
            "CONFIG_TDX_GUEST_DRIVER)",
        )

    def _configfs_is_mounted(self) -> bool:
        """Whether the directory above ``tsm`` has anything in it."""
        try:
            return bool(self._files.names(self.root.parent.parent))
        except OSError:
            return False

    def _absent(self, reason: AbsenceReason, text: str, remedy: str) -> Absence:
        return Absence(QUOTE_LABEL, reason, text, remedy, _SOURCE)


def _still(what: str) -> str:
    return f"the time allowed was over before {what}"


_NAME = re.compile(r"ccverify-([0-9a-f]{8})-([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})-[0-9a-f]{16}")


def _name(owner: Owner) -> str:
    """Return a name nobody else has: boot, PID namespace, process, its start, and chance."""
    return (
        f"ccverify-{owner.boot}-{owner.namespace}-{owner.pid}-{owner.start}-{secrets.token_hex(8)}"
    )


def _owner(name: str) -> Owner | None:
    """Return who made an entry; None if it is none of ours."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    boot, namespace, pid, start = found.groups()
    return Owner(boot, int(namespace), int(pid), int(start))
