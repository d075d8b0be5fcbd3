"""Rules on a manager's programs: their versions, files, processes, log, and how old tables are.

The Fabric Manager's version must be the driver's (Fabric Manager User Guide 2.3: it aborts
otherwise), so a statement in which they differ is of a manager that does not run, or is no true
one.  Minimum versions are from the same guide.  Pure.
"""

from __future__ import annotations

import re
from typing import Final

from ccverify.fabric.manager import FABRIC_MANAGER, NOT_RUNNING, NVLSM, Process, Program
from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.statement_model import (
    CLOCK_TOLERANCE,
    Circumstances,
    Dump,
    FabricStatement,
    Found,
    Generation,
    StatementCode,
    StatementGap,
    StatementProblem,
)

__all__ = [
    "appraise_log",
    "appraise_programs",
    "appraise_table_age",
    "appraise_versions",
    "generation_of",
    "process_of",
    "version_numbers",
]

_VERSION = re.compile(r"(?:^|[^0-9.])([0-9]{1,6}(?:\.[0-9]{1,6}){1,3})(?![0-9.])")
_MINIMUM: Final = {Generation.HOPPER: 525, Generation.BLACKWELL: 570}
_TABLES: Final = (Dump.SUBNET, Dump.FDBS, Dump.LFTS, Dump.MCFDBS)
_LEAST_LOG_LEVEL: Final = 2


def version_numbers(text: str) -> tuple[int, ...] | None:
    """Read the first dotted number of a text: ``580.95.05-1`` → 580, 95, 5; None if none."""
    match = _VERSION.search(text)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def generation_of(statement: FabricStatement, given: Circumstances) -> Generation | None:
    """Return the generation of the board: as the tenant's GPUs have it, else its cables."""
    return given.generation or statement.generation


def process_of(statement: FabricStatement, name: str) -> Reading[Process]:
    """Return the process of a program; absent with a reason otherwise."""
    program = statement.facts.program(name)
    return Absent("NOT_FOUND") if program is None else program.process


# --- versions ------------------------------------------------------------------------------------


def appraise_versions(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-MANAGER-VERSION."""
    code = StatementCode.VERSION
    generation = generation_of(statement, given)
    program = statement.facts.program(FABRIC_MANAGER)
    if program is not None:
        yield from _fabric_manager_version(program, statement, given, generation)
    if statement.facts.program(NVLSM) is None:
        if generation is Generation.BLACKWELL:
            expected = "NVLSM, which routes NVLink 5"
            yield StatementProblem(code, NVLSM, expected, "not installed")
        elif generation is None:
            yield StatementGap(code, NVLSM, "not installed, and which board it is is not known")


def _fabric_manager_version(
    program: Program,
    statement: FabricStatement,
    given: Circumstances,
    generation: Generation | None,
) -> Found:
    code = StatementCode.VERSION
    own = None if isinstance(program.version, Absent) else version_numbers(program.version)
    if own is None or isinstance(program.version, Absent):
        yield StatementGap(code, FABRIC_MANAGER, f"no version: {_shown(program.version)}")
        return
    driver = statement.facts.driver
    if isinstance(driver, Absent):
        # A host that passes every GPU through may run none; its tenants' must match all the same.
        if not given.drivers:
            yield StatementGap(code, "driver", f"the host states no driver: {driver.code}")
    elif version_numbers(driver) != own:
        expected = f"{driver}, as the driver of this host"
        yield StatementProblem(code, FABRIC_MANAGER, expected, program.version)
    for signed in sorted(given.drivers):
        if version_numbers(signed) != own:
            expected = f"{signed}, which the tenant's GPUs signed"
            yield StatementProblem(code, FABRIC_MANAGER, expected, program.version)
    if generation is not None and own[0] < _MINIMUM[generation]:
        expected = f"{_MINIMUM[generation]} or later, for this board"
        yield StatementProblem(code, FABRIC_MANAGER, expected, program.version)


# --- programs ------------------------------------------------------------------------------------


def appraise_programs(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-MANAGER-PROGRAM."""
    code = StatementCode.PROGRAM
    for name in (FABRIC_MANAGER, NVLSM):
        program = statement.facts.program(name)
        if program is not None:
            yield from _program(program, statement, given)
        elif name == FABRIC_MANAGER or name in given.programs:
            yield StatementProblem(code, name, "a program that is installed", "not installed")
    config = statement.config
    if config is not None and config.stay_resident and isinstance(statement.facts.log, Absent):
        reason = "FM_STAY_RESIDENT_ON_FAILURES=1: it runs on after failures, and no log is read"
        yield StatementGap(code, FABRIC_MANAGER, reason)


def _program(program: Program, statement: FabricStatement, given: Circumstances) -> Found:
    code, where, process = StatementCode.PROGRAM, program.name, program.process
    if isinstance(process, Absent):
        # NVLSM may be installed where nothing needs it, and is then never started.
        needed = generation_of(statement, given) if where == NVLSM else Generation.BLACKWELL
        if process.code == NOT_RUNNING and needed is Generation.BLACKWELL:
            yield StatementProblem(code, where, "a running program", "not running")
        elif process.code != NOT_RUNNING or needed is None:
            yield StatementGap(code, where, f"no process was read: {process.code}")
        return
    if process.replaced:
        found = f"process {process.pid} runs a file that is deleted or replaced"
        yield StatementProblem(code, where, f"the file {program.path}", found)
    booted = statement.facts.booted
    if not isinstance(booted, Absent) and process.started + CLOCK_TOLERANCE < booted:
        expected = f"started after the host's boot at {booted}"
        yield StatementProblem(code, where, expected, f"started at {process.started}")
    if isinstance(process.sha384, Absent) or isinstance(program.sha384, Absent):
        reason = f"on disk {_shown(program.sha384)}, running {_shown(process.sha384)}"
        yield StatementGap(code, where, f"digests cannot be compared: {reason}")
    elif process.sha384 != program.sha384:
        expected = f"the file on disk, SHA-384 {program.sha384}"
        yield StatementProblem(code, where, expected, f"SHA-384 {process.sha384}")
    accepted = given.programs.get(program.name)
    if accepted is None:
        return
    if isinstance(process.sha384, Absent):
        yield StatementGap(code, where, f"no digest of what runs: {process.sha384.code}")
    elif bytes.fromhex(process.sha384) not in accepted:
        expected = f"one of {len(accepted)} accepted digests"
        yield StatementProblem(code, where, expected, f"SHA-384 {process.sha384}")


# --- log -----------------------------------------------------------------------------------------


def appraise_log(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-MANAGER-LOG."""
    code, log, config = StatementCode.LOG, statement.facts.log, statement.config
    if config is not None:
        if config.log_level is not None and config.log_level < _LEAST_LOG_LEVEL:
            expected = f"{_LEAST_LOG_LEVEL} or more, so that errors are in the log"
            yield StatementProblem(code, "LOG_LEVEL", expected, str(config.log_level))
        if config.log_to_syslog:
            yield StatementGap(code, "LOG_USE_SYSLOG", "errors go to the system's log")
    if isinstance(log, Absent):
        yield StatementGap(code, "log", f"no log was read: {log.code}")
        return
    if config is not None and config.log_file and config.log_file != log.path:
        yield StatementProblem(code, log.path, f"LOG_FILE_NAME, {config.log_file}", log.path)
    if log.errors:
        found = f"{log.errors} in {log.lines} lines; the last: {log.last_error}"
        yield StatementProblem(code, log.path, "no error since the manager started", found)


# --- age of tables -------------------------------------------------------------------------------


def appraise_table_age(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-ROUTING: tables that the running subnet manager has not written.

    NVLSM dumps its tables whenever it has routed, so a dump from before it started is of an
    earlier run.  ``guid2lid`` is a cache that outlives runs, and is not judged.
    """
    code = StatementCode.ROUTING
    present = [dump for dump in _TABLES if dump.value in statement.digests]
    if not present:
        return
    process = process_of(statement, NVLSM)
    if isinstance(process, Absent):
        reason = f"whether tables are of this run is not known: NVLSM {process.code}"
        yield StatementGap(code, NVLSM, reason)
        return
    for dump in present:
        source = statement.facts.source(dump.value)
        if source is None or isinstance(source.modified, Absent):
            yield StatementGap(code, dump.value, "when it was written is not stated")
        elif source.modified + CLOCK_TOLERANCE < process.started:
            expected = f"written since NVLSM started at {process.started}"
            found = f"written at {source.modified}: tables of an earlier run"
            yield StatementProblem(code, dump.value, expected, found)


def _shown(value: Reading[str]) -> str:
    return value.code if isinstance(value, Absent) else value
