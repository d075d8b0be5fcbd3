"""Files on a manager's host that go into a statement: configurations, state, dumps.

- ``fm-config``: option ``-c`` of the process, else the usual place (FM guide); the partition
  definitions, the state file and the log are where it says.
- ``nvlsm-config``: option ``-F``, else the usual place (the packages' start script; the FM guide
  also names another).
- ``nvlsm-subnet``, ``-fdbs``, ``-mcfdbs``: in its dump_files_dir, by the names of the FM guide.
- ``nvlsm-guid2lid``: ``/var/cache/nvlsm/guid2lid`` (FM guide).
- ``nvlsm-lfts``, ``nvlsm-partitions-conf``: as OpenSM has them, whose other names NVLSM keeps.
- ``nvlsm-pkeys``: ``nvlsm-pkeys.dump``, a name of ours: NVLSM writes no such file.

FM guide: NVIDIA, Fabric Manager User Guide 2.3.  Keys of the subnet's management are no business
of whoever reads a statement: they are withheld, and nothing else is changed.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccverify.collect.files import told
from ccverify.collect.manager_host import ManagerHost
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType, Outcome
from ccverify.errors import EvidenceError
from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM
from ccverify.fabric.manager_config import (
    ManagerConfig,
    NvlsmConfig,
    parse_manager_config,
    parse_nvlsm_config,
)
from ccverify.fabric.observation import Reading
from ccverify.fabric.statement_model import Dump

__all__ = [
    "MAX_DUMP_BYTES",
    "SOURCE",
    "Arguments",
    "DumpFile",
    "Layout",
    "check_dump",
    "option_of",
    "outcome_of",
    "read_dump",
    "read_layout",
]

MAX_DUMP_BYTES: Final = 8 * 1024 * 1024
"""What an item of a bundle may have."""
SOURCE: Final = "fabric manager's host"

_MANAGER_CONFIGS: Final = ("/usr/share/nvidia/nvswitch/fabricmanager.cfg",)
_NVLSM_CONFIGS: Final = (
    "/usr/share/nvidia/nvlsm/nvlsm.conf",
    "/usr/share/nvidia/nvswitch/nvlsm.conf",
)
_STATES: Final = ("/var/tmp/fabricmanager.state", "/tmp/fabricmanager.state")  # noqa: S108
_MANAGER_LOG: Final = "/var/log/fabricmanager.log"
_DUMP_DIRECTORY: Final = "/var/log"
_DUMPED: Final = {
    Dump.SUBNET: "nvlsm-subnet.lst",
    Dump.FDBS: "nvlsm.fdbs",
    Dump.LFTS: "nvlsm-lfts.dump",
    Dump.MCFDBS: "nvlsm.mcfdbs",
    Dump.PKEYS: "nvlsm-pkeys.dump",
}
_FIXED: Final = {Dump.GUID2LID: "/var/cache/nvlsm/guid2lid"}
_PARTITIONS_CONF: Final = "/etc/nvlsm/partitions.conf"
_MAY_BE_EMPTY: Final = frozenset({Dump.MCFDBS, Dump.PARTITIONS_CONF})
_ATTEMPTS: Final = 3
"""How often a file that is written meanwhile is read anew."""

_SECRET: Final = re.compile(
    rb"^([ \t]*[A-Za-z0-9_]*(?:key|seed|secret|password))([ \t]+)"
    rb"(?!(?:0x)?0+[ \t\r]*$|\(null\)|none\b|true\b|false\b)[^\s].*$",
    re.MULTILINE | re.IGNORECASE,
)
_NO_DEFINITIONS: Final = (
    "no configuration that could be read names a SHARED_PARTITION_DEFINITION_FILE; without one, "
    "the default partitions are used"
)

Arguments = Mapping[str, Reading[tuple[str, ...]]]
"""Program → command line of its process."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is.

    Attributes:
        manager: configuration of the Fabric Manager; defaults where it cannot be read.
        nvlsm: configuration of NVLSM; defaults where it cannot be read.
        paths: label → files it may be, the likeliest first; none where a file need not exist.
        log: of the Fabric Manager; None where it is written to the system's log.
    """

    manager: ManagerConfig
    nvlsm: NvlsmConfig
    paths: Mapping[Dump, tuple[Path, ...]]
    log: Path | None


@dataclass(frozen=True, slots=True)
class DumpFile:
    """A file that was read for a statement.

    Attributes:
        item: what goes into the bundle.
        path: the file, or the command that gave it.
        modified: when the file was last written, Unix seconds; absent for a command.
    """

    item: Item
    path: str
    modified: Reading[int]


def read_layout(host: ManagerHost, arguments: Arguments, given: Mapping[Dump, Path]) -> Layout:
    """Find out where everything is.

    Args:
        host: where.
        arguments: command lines of the processes.
        given: files that the user names; they go before all others.
    """
    paths: dict[Dump, tuple[Path, ...]] = {dump: (path,) for dump, path in given.items()}
    config = _option(arguments.get(FABRIC_MANAGER), ("-c", "--config"))
    paths.setdefault(Dump.CONFIG, _files(config, _MANAGER_CONFIGS))
    config = _option(arguments.get(NVLSM), ("-F", "--config"))
    paths.setdefault(Dump.NVLSM_CONFIG, _files(config, _NVLSM_CONFIGS))
    manager, nvlsm = ManagerConfig(), NvlsmConfig()
    # One that is malformed goes into the bundle as it is, and the verifier says so.
    with suppress(OSError, EvidenceError):
        manager = parse_manager_config(_first(host, paths[Dump.CONFIG]))
    with suppress(OSError, EvidenceError):
        nvlsm = parse_nvlsm_config(_first(host, paths[Dump.NVLSM_CONFIG]))
    paths.setdefault(Dump.DEFINITIONS, _files(manager.partition_file, ()))
    paths.setdefault(Dump.STATE, _files(manager.state_file, _STATES))
    paths.setdefault(
        Dump.PARTITIONS_CONF,
        _files(_setting(nvlsm, "partition_config_file"), (_PARTITIONS_CONF,)),
    )
    directory = _option(arguments.get(NVLSM), ("--dump_files_dir",))
    (folder,) = _files(directory or _setting(nvlsm, "dump_files_dir"), (_DUMP_DIRECTORY,))
    for dump, name in _DUMPED.items():
        paths.setdefault(dump, (folder / name,))
    for dump, path in _FIXED.items():
        paths.setdefault(dump, (Path(path),))
    logs = () if manager.log_to_syslog == 1 else _files(manager.log_file, (_MANAGER_LOG,))
    return Layout(manager, nvlsm, paths, logs[0] if logs else None)


def _files(named: str | None, usual: Sequence[str]) -> tuple[Path, ...]:
    """A file that is named, if it is a full path, or else the usual ones."""
    if named and named.startswith("/"):
        return (Path(named),)
    return tuple(map(Path, usual))


def _setting(config: NvlsmConfig, key: str) -> str | None:
    return config.other.get(key, "").strip("\"'") or None


def _option(words: Reading[tuple[str, ...]] | None, names: Sequence[str]) -> str | None:
    """The value of an option: ``-c FILE``, ``--config FILE`` or ``--config=FILE``."""
    found = None
    if isinstance(words, tuple):
        for word, after in zip(words, (*words[1:], ""), strict=False):
            option, equals, value = word.partition("=")
            if option in names:
                found = value if equals else after
    return found


def option_of(arguments: Arguments, program: str, *names: str) -> str | None:
    """Return the value of an option of a running program; None if it was not given."""
    return _option(arguments.get(program), names)


def _first(host: ManagerHost, paths: Sequence[Path]) -> bytes:
    """The content of the first file that is there; OSError for what else goes wrong with it."""
    for path in paths[:-1]:
        try:
            return host.files.read(path, MAX_DUMP_BYTES)
        except FileNotFoundError:
            continue
    return host.files.read(paths[-1], MAX_DUMP_BYTES)


# --- reading ---


def read_dump(host: ManagerHost, dump: Dump, layout: Layout) -> DumpFile | Absence:
    """Read one file into an item; `Dump.PARTITIONS` is no file.

    A file that is written while it is read is read again: half an old and half a new table are
    no table.
    """
    paths = layout.paths[dump]
    if not paths:
        remedy = "nothing, unless partitions of your own are meant to be used"
        return Absence(dump.value, AbsenceReason.NOT_PRESENT, _NO_DEFINITIONS, remedy, SOURCE)
    for path in paths:
        try:
            return _read(host, dump, path)
        except FileNotFoundError:
            continue
        except OSError as problem:
            return _absence(dump, path, problem)
    return _absence(dump, paths[0], FileNotFoundError(errno.ENOENT, "No such file or directory"))


def _read(host: ManagerHost, dump: Dump, path: Path) -> DumpFile:
    for _ in range(_ATTEMPTS):
        before = host.files.status(path)
        data = host.files.read(path, MAX_DUMP_BYTES)
        if host.files.status(path) == before:
            break
    else:
        raise OSError(errno.EBUSY, f"it was written to while it was read, {_ATTEMPTS} times")
    if not data and dump not in _MAY_BE_EMPTY:
        raise OSError(errno.ENODATA, "the file is empty")
    withheld = 0
    if dump is Dump.NVLSM_CONFIG:
        data, withheld = _SECRET.subn(rb"\1\2WITHHELD", data)
    note = f"; {withheld} keys withheld" if withheld else ""
    item = Item(dump.value, ItemType.FABRIC_DUMP, data, f"file {path}"[:100] + note)
    return DumpFile(item, str(path), max(0, before.modified))


def check_dump(host: ManagerHost, dump: Dump, layout: Layout) -> Absence | None:
    """Say what keeps a file from being read, without keeping any of it."""
    paths = layout.paths[dump]
    if not paths:
        found = read_dump(host, dump, layout)
        return found if isinstance(found, Absence) else None
    for path in paths:
        try:
            host.files.tail(path, 1)
            if host.files.status(path).size > MAX_DUMP_BYTES:
                raise OSError(errno.EFBIG, "it is larger than what is read")
        except FileNotFoundError:
            continue
        except OSError as problem:
            return _absence(dump, path, problem)
        return None
    return _absence(dump, paths[0], FileNotFoundError(errno.ENOENT, "No such file or directory"))


def _absence(dump: Dump, path: Path, problem: OSError) -> Absence:
    option = f"--manager-file {dump.value}=FILE"
    reason, remedy = AbsenceReason.FAILED, f"look at the file, or name another: {option}"
    if isinstance(problem, FileNotFoundError | NotADirectoryError):
        reason = AbsenceReason.NOT_PRESENT
        remedy = f"if it is elsewhere, name it: {option}"
        if dump in _OF_NVLSM:
            remedy = f"NVLSM runs on boards with NVLink 5 alone; {remedy}"
    elif isinstance(problem, PermissionError):
        reason, remedy = AbsenceReason.NO_PERMISSION, "run as root"
    elif problem.errno == errno.ELOOP:
        remedy = f"name the file that the link leads to: {option}"
    text = f"{path} cannot be used: {told(problem)}"
    return Absence(dump.value, reason, text, remedy, SOURCE)


_OF_NVLSM: Final = frozenset({*_DUMPED, *_FIXED, Dump.NVLSM_CONFIG, Dump.PARTITIONS_CONF})


def outcome_of(found: DumpFile | Absence) -> Outcome:
    """Return what goes into the bundle."""
    return found if isinstance(found, Absence) else found.item
