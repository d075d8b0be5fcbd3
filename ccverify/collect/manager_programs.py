"""The manager's programs on their host: files, versions, processes, log.

A process is found by the file it runs (``/proc/PID/exe``), because anybody may give his process
any name.  A program is asked for its version only where packages install it: running, as root,
whatever a process of that name was started from would be an invitation.

The line that tells a version, and the log's ``[Jul 23 2024 07:53:55] [ERROR] [tid 841] …``, are as
public outputs of drivers 450 to 610 have them; NVLSM names itself OpenSM.
"""

from __future__ import annotations

import calendar
import errno
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from ccverify.collect.doctor import driver_version
from ccverify.collect.manager_host import ManagerHost
from ccverify.fabric.manager import (
    FABRIC_MANAGER,
    NOT_FOUND,
    NOT_RUNNING,
    NVLSM,
    LogHealth,
    Process,
    Program,
    clean_text,
)
from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.statement_model import CLOCK_TOLERANCE

__all__ = [
    "Running",
    "find_processes",
    "read_boot",
    "read_log",
    "read_program",
    "reason_of",
]

_T = TypeVar("_T")

PROC: Final = Path("/proc")
_FILES: Final = {FABRIC_MANAGER: "nv-fabricmanager", NVLSM: "nvlsm"}
_PLACES: Final = {
    FABRIC_MANAGER: ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin"),
    NVLSM: ("/opt/nvidia/nvlsm/sbin", "/usr/sbin", "/usr/bin", "/usr/local/sbin"),
}
_VERSIONS: Final = {
    FABRIC_MANAGER: re.compile(rb"Fabric Manager version is *: *([!-~]{1,100})"),
    NVLSM: re.compile(rb"(?:OpenSM|NVLSM)(?: version)?:? +v?([0-9][!-~]{0,99})"),
}
_COMM_LENGTH: Final = 15
_DELETED: Final = " (deleted)"

_MAX_TEXT_BYTES: Final = 64 * 1024
_MAX_PROGRAM_BYTES: Final = 1024 * 1024 * 1024
_MAX_LOG_BYTES: Final = 4 * 1024 * 1024
_MAX_ARGUMENTS: Final = 64
_COMMAND_S: Final = 10.0

_BOOT_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BTIME: Final = re.compile(rb"^btime ([0-9]{1,12})$", re.MULTILINE)
_UID: Final = re.compile(rb"^Uid:\s+([0-9]+)\s", re.MULTILINE)
_UNIT: Final = re.compile(r"/([A-Za-z0-9_][A-Za-z0-9:_.@-]{0,200}\.service)(?:/|$)")
_SERVICE: Final = "nvidia-fabricmanager.service"
_SHOWN: Final = re.compile(rb"^(MainPID|NRestarts)=([0-9]{1,9})$", re.MULTILINE)
_SECRET: Final = re.compile(r"-{1,2}[a-z_-]*(?:key|seed|secret|password)", re.IGNORECASE)
WITHHELD: Final = "WITHHELD"

_LINE: Final = re.compile(
    r"\[([A-Z][a-z]{2} [ 0-9][0-9] [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2})\] \[([A-Z]{1,16})\] .*"
)
_ERRORS: Final = frozenset({"ERROR", "CRITICAL", "FATAL"})
_WARNINGS: Final = frozenset({"WARNING", "WARN"})
_MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]


@dataclass(frozen=True, slots=True)
class Running:
    """A process of one of the programs.

    Attributes:
        name: of the program.
        pid: its process id.
        ticks: when it started, in clock ticks since boot.
        path: what it was started from; None where this user may not know.
        removed: whether that file is gone.
        is_root: whether it runs as root.
        arguments: its command line; what looks like a key is withheld.
    """

    name: str
    pid: int
    ticks: int
    path: str | None
    removed: bool
    is_root: bool
    arguments: Reading[tuple[str, ...]]


def reason_of(problem: OSError) -> str:
    """Return the reason of an `Absent` for what the kernel said."""
    if isinstance(problem, FileNotFoundError | NotADirectoryError):
        return NOT_FOUND
    if isinstance(problem, PermissionError):
        return "NO_PERMISSION"
    if isinstance(problem, TimeoutError):
        return "TIMEOUT"
    return {
        errno.EFBIG: "TOO_LARGE",
        errno.ELOOP: "IS_LINK",
        errno.EINVAL: "NO_REGULAR_FILE",
    }.get(problem.errno or 0, "UNREADABLE")


def _reading(action: Callable[[], _T]) -> Reading[_T]:
    try:
        return action()
    except OSError as problem:
        return Absent(reason_of(problem))


# --- boot ---


@dataclass(frozen=True, slots=True)
class Boot:
    """The kernel of the host; fields are those of `ccverify.fabric.manager.ManagerFacts`."""

    boot_id: Reading[str]
    booted: Reading[int]
    kernel: Reading[str]
    driver: Reading[str]


def read_boot(host: ManagerHost) -> Boot:
    """Read what /proc says of this boot and of NVIDIA's driver."""

    def text(path: str) -> bytes:
        return host.files.read(PROC / path, _MAX_TEXT_BYTES)

    def matched(data: Reading[bytes], read: Callable[[bytes], _T | None]) -> Reading[_T]:
        if isinstance(data, Absent):
            return data
        found = read(data)
        return Absent("UNREADABLE") if found is None else found

    def boot_id(data: bytes) -> str | None:
        found = data.decode("ascii", "replace").strip().lower()
        return found if _BOOT_ID.fullmatch(found) else None

    return Boot(
        matched(_reading(lambda: text("sys/kernel/random/boot_id")), boot_id),
        _boot_time(host),
        matched(
            _reading(lambda: text("sys/kernel/osrelease")),
            lambda data: clean_text(data.decode("ascii", "replace").strip()) or None,
        ),
        matched(_reading(lambda: text("driver/nvidia/version")), driver_version),
    )


def _boot_time(host: ManagerHost) -> Reading[int]:
    try:
        # One line for each of many processors and one for all interrupts.
        found = _BTIME.search(host.files.read(PROC / "stat", 16 * 1024 * 1024))
    except OSError as problem:
        return Absent(reason_of(problem))
    return int(found[1]) if found else Absent("UNREADABLE")


# --- processes ---


def find_processes(host: ManagerHost) -> dict[str, Running]:
    """Return the process of each program that runs: of several, root's, and that which came first.

    In a mount namespace of his own, anybody can have a file in any place.

    Raises:
        OSError: /proc cannot be listed.
    """
    found: dict[str, list[Running]] = {}
    for name in host.files.names(PROC):
        if name.isascii() and name.isdigit():
            process = _running(host, int(name))
            if process is not None:
                found.setdefault(process.name, []).append(process)
    return {name: min(each, key=_rank) for name, each in found.items()}


def _rank(process: Running) -> tuple[bool, bool, int, int]:
    known = process.path is None or process.path in _paths(process.name)
    return not known, not process.is_root, process.ticks, process.pid


def _running(host: ManagerHost, pid: int) -> Running | None:
    at = PROC / str(pid)
    try:
        target: str | None = host.files.link(at / "exe")
    except PermissionError:
        target = None
    except OSError:
        return None  # a thread of the kernel, or gone
    path = None if target is None else target.removesuffix(_DELETED)
    try:
        name = _program_of(host, at, path)
        ticks = _start_ticks(host.files.read(at / "stat", _MAX_TEXT_BYTES)) if name else None
    except OSError:
        return None
    if name is None or ticks is None:
        return None
    is_root = _is_root(host, at)
    if path is not None and path not in _paths(name) and not is_root:
        return None  # elsewhere than where packages install it, only root's word counts
    removed = target is not None and target != path
    return Running(name, pid, ticks, path, removed, is_root, _arguments(host, at))


def _program_of(host: ManagerHost, at: Path, path: str | None) -> str | None:
    if path is not None:
        return next((n for n, f in _FILES.items() if f == path.rpartition("/")[2]), None)
    comm = host.files.read(at / "comm", _MAX_TEXT_BYTES).decode("ascii", "replace").strip()
    return next((n for n, f in _FILES.items() if f[:_COMM_LENGTH] == comm), None)


def _is_root(host: ManagerHost, at: Path) -> bool:
    try:
        uid = _UID.search(host.files.read(at / "status", _MAX_TEXT_BYTES))
    except OSError:
        return False
    return uid is not None and uid[1] == b"0"


def _start_ticks(stat: bytes) -> int | None:
    # proc(5): the name of the program, field 2, may contain anything, `)` included.
    fields = stat.rpartition(b")")[2].split()
    if len(fields) < 20 or not re.fullmatch(rb"[0-9]{1,18}", fields[19]):
        return None
    return int(fields[19])


def _arguments(host: ManagerHost, at: Path) -> Reading[tuple[str, ...]]:
    try:
        data = host.files.read(at / "cmdline", _MAX_TEXT_BYTES)
    except OSError as problem:
        return Absent(reason_of(problem))
    words = data.decode("utf-8", "replace").removesuffix("\0").split("\0")
    if len(words) > _MAX_ARGUMENTS:
        return Absent("TOO_LARGE")
    return tuple(map(clean_text, _without_secrets(words)))


def _without_secrets(words: list[str]) -> Iterator[str]:
    secret = False
    for word in words:
        option, equals, _ = word.partition("=")
        is_secret_option = bool(_SECRET.fullmatch(option))
        if secret and not word.startswith("-"):
            yield WITHHELD
        else:
            yield f"{option}={WITHHELD}" if is_secret_option and equals else word
        secret = is_secret_option and not equals


# --- programs ---


def _paths(name: str) -> tuple[str, ...]:
    return tuple(f"{place}/{_FILES[name]}" for place in _PLACES[name])


def installed(host: ManagerHost, name: str) -> str:
    """Return where a program is, or the first place it was looked for at."""
    for path in _paths(name):
        try:
            host.files.status(Path(path))
        except OSError:
            continue
        return path
    return _paths(name)[0]


def read_program(host: ManagerHost, name: str, process: Running | None, seconds: float) -> Program:
    """Read everything about one program.

    Args:
        host: where.
        name: `FABRIC_MANAGER` or `NVLSM`.
        process: from `find_processes`.
        seconds: for all commands.
    """
    path = process.path if process and process.path else installed(host, name)
    root = f"/proc/{process.pid}/root" if process else ""
    sha384 = _digest(host, f"{root}{path}")
    if isinstance(sha384, Absent) and root:
        sha384 = _digest(host, path)
    return Program(
        name,
        clean_text(path),
        _version(host, name, path, min(seconds / 2, _COMMAND_S)),
        sha384,
        _process(host, process, seconds / 2) if process else Absent(NOT_RUNNING),
    )


def _digest(host: ManagerHost, path: str) -> Reading[str]:
    return _reading(lambda: host.files.sha384(Path(path), _MAX_PROGRAM_BYTES).hex())


def _version(host: ManagerHost, name: str, path: str, seconds: float) -> Reading[str]:
    if path not in _paths(name):
        return Absent("NOT_RUN")
    try:
        ended = host.run((path, "--version"), seconds)
    except OSError as problem:
        return Absent(reason_of(problem))
    found = _VERSIONS[name].search(ended.output) or _VERSIONS[name].search(ended.errors.encode())
    if found:
        return clean_text(found[1].decode("ascii"))
    return Absent("UNREADABLE" if ended.status == 0 else "REFUSED")


def _process(host: ManagerHost, process: Running, seconds: float) -> Reading[Process]:
    booted = _boot_time(host)
    if isinstance(booted, Absent):
        return booted
    return Process(
        process.pid,
        booted + process.ticks // host.clock_ticks,
        _digest(host, f"/proc/{process.pid}/exe"),
        process.removed,
        _restarts(host, process.pid, min(seconds, _COMMAND_S)),
        process.arguments,
    )


def _restarts(host: ManagerHost, pid: int, seconds: float) -> Reading[int]:
    """Ask systemd about the unit that the kernel says the process belongs to.

    Of a unit that does not exist, ``systemctl show`` says 0 too; so where the kernel does not
    tell, the usual one counts only if this is its main process.
    """
    try:
        units = _UNIT.findall(_text_of(host, pid, "cgroup"))
    except OSError:
        units = []
    command = ("systemctl", "show", "-p", "MainPID,NRestarts", units[0] if units else _SERVICE)
    try:
        ended = host.run(command, seconds)
    except OSError as problem:
        return Absent(reason_of(problem))
    shown = {key: int(value) for key, value in _SHOWN.findall(ended.output)}
    if ended.status != 0 or b"NRestarts" not in shown:
        return Absent("REFUSED" if ended.status else "UNREADABLE")
    if not units and shown.get(b"MainPID") != pid:
        return Absent("NO_UNIT")
    return shown[b"NRestarts"]


def _text_of(host: ManagerHost, pid: int, name: str) -> str:
    return host.files.read(PROC / str(pid) / name, _MAX_TEXT_BYTES).decode("ascii", "replace")


# --- log ---


def read_log(host: ManagerHost, path: Path, since: int | None) -> Reading[LogHealth]:
    """Count what the Fabric Manager's log says; of a large one, the end is read.

    Args:
        host: where.
        path: the log.
        since: Unix seconds of the start of the process; lines from before do not count.
    """
    try:
        size = host.files.status(path).size
        data = host.files.tail(path, _MAX_LOG_BYTES)
    except OSError as problem:
        return Absent(reason_of(problem))
    if len(data) == _MAX_LOG_BYTES:
        data = data.partition(b"\n")[2]
    lines = errors = warnings = 0
    last: str | None = None
    counts = True
    for line in data.decode("utf-8", "replace").removesuffix("\n").split("\n") if data else ():
        found = _LINE.fullmatch(line)
        if found and since is not None:
            written = _local_time(found[1], host)
            counts = written is None or written >= since - CLOCK_TOLERANCE
        if not counts:
            continue
        lines += 1
        if found and found[2] in _ERRORS:
            errors, last = errors + 1, clean_text(line)
        elif found and found[2] in _WARNINGS:
            warnings += 1
    return LogHealth(clean_text(str(path)), lines, errors, warnings, last, max(size, len(data)))


def _local_time(text: str, host: ManagerHost) -> int | None:
    """``Jul 23 2024 07:53:55`` → Unix seconds; None if there is no such time."""
    month, day, year, clock = text.split()
    hour, minute, second = map(int, clock.split(":"))
    if month not in _MONTHS or not 1970 <= int(year) <= 9999 or not 1 <= int(day) <= 31:
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    fields = (int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second)
    seconds = calendar.timegm(time.struct_time((*fields, 0, 0, 0)))
    try:
        return seconds - host.zone(seconds)
    except (OSError, OverflowError, ValueError):
        return None
