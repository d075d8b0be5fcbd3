"""What a host says of the programs that manage its fabric: the facts item of a statement.

The Fabric Manager (and NVLSM, NVIDIA's subnet manager, on NVLink 5) partitions and routes the
fabric.  It signs nothing and authenticates itself to nobody, so what can be said of it is what a
program on its host reads: versions, digests of the files on disk and in memory, since when it has
run, and how its log looks.  How far that is to be believed depends on what binds the statement
that carries it (docs/spec/fabric-statement.md).

Every value is either there or an `Absent` with a reason.  The JSON form is of format
``ccverify/fabric-manager/v1``.  Pure: the reading is `ccverify.collect.manager`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from ccverify.fabric.json_form import Codec, Form
from ccverify.fabric.observation import Absent, Reading

__all__ = [
    "FABRIC_MANAGER",
    "FORMAT",
    "MAX_TEXT",
    "NOT_FOUND",
    "NOT_RUNNING",
    "NVLSM",
    "LogHealth",
    "ManagerFacts",
    "Process",
    "Program",
    "SourceFile",
    "clean_text",
    "parse_manager",
    "serialize_manager",
]

FORMAT: Final = "ccverify/fabric-manager/v1"
FABRIC_MANAGER: Final = "fabric-manager"
NVLSM: Final = "nvlsm"
NOT_FOUND: Final = "NOT_FOUND"
"""The reason of an `Absent`: there is no such file."""
NOT_RUNNING: Final = "NOT_RUNNING"
"""The reason of an `Absent`: no process runs that file."""
MAX_TEXT: Final = 512
"""Characters of a path, an argument or a line of a log."""
MAX_SOURCES: Final = 64
MAX_ARGUMENTS: Final = 64
_NOT_READ: Final = Absent("NOT_READ")
_MAX_TIME: Final = 253402300799
_MAX_COUNT: Final = (1 << 53) - 1
_MAX_PID: Final = 1 << 22
"""The greatest pid_max of Linux on 64 bits."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running program.

    Attributes:
        pid: its process id.
        started: Unix seconds, worked out from the boot time, so exact to a second or two.
        sha384: digest of ``/proc/PID/exe``, 48 bytes in hex: what runs, not what is on disk.
        replaced: whether the kernel says that the file it was started from is deleted.
        restarts: how often the service manager has restarted it.
        arguments: its command line; options there override the configuration.
    """

    pid: int
    started: int
    sha384: Reading[str]
    replaced: bool
    restarts: Reading[int]
    arguments: Reading[tuple[str, ...]] = _NOT_READ


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the manager.

    Attributes:
        name: `FABRIC_MANAGER` or `NVLSM`.
        path: the file that was found, or the one that was looked for.
        version: as the program itself says; a packaging suffix may follow.
        sha384: of the file on disk, 48 bytes in hex; `NOT_FOUND` where there is none.
        process: `NOT_RUNNING` where it does not run.
    """

    name: str
    path: str
    version: Reading[str]
    sha384: Reading[str]
    process: Reading[Process]


@dataclass(frozen=True, slots=True)
class LogHealth:
    """How the Fabric Manager's log looks.

    Attributes:
        path: the file.
        lines: that were read.
        errors: lines of level ERROR, CRITICAL or FATAL since the process started.
        warnings: lines of level WARNING.
        last_error: the last such line, cut to `MAX_TEXT` printable characters.
        size: of the file, bytes.
    """

    path: str
    lines: int
    errors: int
    warnings: int
    last_error: str | None
    size: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Where an item of the statement came from.

    Attributes:
        label: of the item, such as ``nvlsm-lfts``.
        path: the file, or the command that gave it.
        sha384: of the bytes, 48 bytes in hex: the item's own.
        size: bytes.
        modified: when the file was last written, Unix seconds; absent for a command.
    """

    label: str
    path: str
    sha384: str
    size: int
    modified: Reading[int]


@dataclass(frozen=True, slots=True)
class ManagerFacts:
    """Everything the host said, at one time.

    Attributes:
        boot_id: of the kernel's current boot, a UUID.
        booted: Unix seconds.
        kernel: release.
        driver: version of the NVIDIA kernel driver on this host.
        programs: each name once.
        log: of the Fabric Manager.
        sources: of the other items, each label once.
    """

    boot_id: Reading[str]
    booted: Reading[int]
    kernel: Reading[str]
    driver: Reading[str]
    programs: tuple[Program, ...]
    log: Reading[LogHealth]
    sources: tuple[SourceFile, ...] = ()

    def program(self, name: str) -> Program | None:
        """Return the program of a name that is installed; None where it is not."""
        for program in self.programs:
            if program.name == name and program.sha384 != Absent(NOT_FOUND):
                return program
        return None

    def source(self, label: str) -> SourceFile | None:
        """Return where an item came from; None where nobody said."""
        return next((source for source in self.sources if source.label == label), None)


_FORM = Form("manager's facts", "the facts are written by ccverify collect; do not edit them")
_TEXT, _DIGEST = _FORM.text(MAX_TEXT), _FORM.hex(48)
_TIME, _COUNT = _FORM.uint(_MAX_TIME), _FORM.uint(_MAX_COUNT)
_LABEL = _FORM.matching(re.compile("[a-z0-9-]*"), 1, 64, "a label: a to z, 0 to 9 and -")
_UUID = _FORM.matching(
    re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), 36, 36, "a UUID in lower case"
)
_NAME = _FORM.scalar(
    lambda v: isinstance(v, str) and v in (FABRIC_MANAGER, NVLSM), f"{FABRIC_MANAGER} or {NVLSM}"
)


def _bounded(codec: Codec, least: int) -> Codec:
    def checked(value: Any, where: str) -> Any:
        if codec.read(value, where) < least:
            raise _FORM.wrong(where, f"at least {least}", value)
        return value

    return Codec(checked, checked)


_PROCESS = _FORM.record(
    Process,
    pid=_bounded(_FORM.uint(_MAX_PID), 1),
    started=_TIME,
    sha384=_FORM.reading(_DIGEST),
    replaced=_FORM.boolean(),
    restarts=_FORM.reading(_COUNT),
    arguments=_FORM.reading(_FORM.list(_TEXT, MAX_ARGUMENTS)),
)
_PROGRAM = _FORM.record(
    Program,
    name=_NAME,
    path=_TEXT,
    version=_FORM.reading(_TEXT),
    sha384=_FORM.reading(_DIGEST),
    process=_FORM.reading(_PROCESS),
)
_LOG = _FORM.record(
    LogHealth,
    path=_TEXT,
    lines=_COUNT,
    errors=_COUNT,
    warnings=_COUNT,
    last_error=_FORM.optional(_TEXT),
    size=_COUNT,
)
_SOURCE = _FORM.record(
    SourceFile,
    label=_LABEL,
    path=_TEXT,
    sha384=_DIGEST,
    size=_COUNT,
    modified=_FORM.reading(_TIME),
)
_FACTS = _FORM.record(
    ManagerFacts,
    boot_id=_FORM.reading(_UUID),
    booted=_FORM.reading(_TIME),
    kernel=_FORM.reading(_TEXT),
    driver=_FORM.reading(_TEXT),
    programs=_FORM.list(_PROGRAM, 2),
    log=_FORM.reading(_LOG),
    sources=_FORM.list(_SOURCE, MAX_SOURCES),
)


def parse_manager(data: bytes) -> ManagerFacts:
    """Parse the facts item.

    Args:
        data: UTF-8 JSON of format `FORMAT`, at most 4 MiB.

    Raises:
        EvidenceError: not strict JSON, another format, a member missing, unknown or of the
            wrong kind, a program or label that appears twice, or a log that contradicts itself.
    """
    facts: ManagerFacts = _FORM.parse(data, FORMAT, _FACTS)
    _require_consistent(facts)
    return facts


def serialize_manager(facts: ManagerFacts) -> bytes:
    """Write the facts: UTF-8 JSON with sorted members, the same bytes every time.

    Raises:
        EvidenceError: a value is outside what `parse_manager` accepts.
    """
    data = _FORM.serialize(facts, FORMAT, _FACTS)
    _require_consistent(facts)
    return data


def clean_text(text: str, most: int = MAX_TEXT) -> str:
    """Make a text of a host fit for the facts: printable ASCII, cut to `most` characters."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:most])


def _require_consistent(facts: ManagerFacts) -> None:
    _FORM.require_distinct([program.name for program in facts.programs], "$.programs", "name")
    _FORM.require_distinct([source.label for source in facts.sources], "$.sources", "label")
    log = facts.log
    if isinstance(log, Absent):
        return
    if log.errors + log.warnings > log.lines:
        raise _FORM.wrong("$.log", "no more errors and warnings than lines", log.lines)
    if (log.last_error is None) != (log.errors == 0):
        raise _FORM.wrong("$.log.last_error", "a line exactly where there are errors", log.errors)
