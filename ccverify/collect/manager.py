"""The statement of a fabric's manager, gathered on its host: facts, and dumps as they are.

One source gives everything, because the facts say where each dump came from.  What is slow, the
commands, is asked at once, and whatever is not back in time is absent by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha384
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from ccverify.collect.asking import Answer, ask_all, ask_one
from ccverify.collect.manager_dumps import (
    SOURCE,
    Arguments,
    DumpFile,
    Layout,
    check_dump,
    outcome_of,
    read_dump,
    read_layout,
)
from ccverify.collect.manager_host import ManagerHost
from ccverify.collect.manager_live import (
    check_partitions,
    check_tables,
    read_keys,
    read_partitions,
    read_tables,
)
from ccverify.collect.manager_programs import (
    Boot,
    Running,
    find_processes,
    installed,
    read_boot,
    read_log,
    read_program,
)
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.running import late_absence, raised_absence
from ccverify.errors import EvidenceError
from ccverify.fabric.manager import (
    FABRIC_MANAGER,
    NOT_FOUND,
    NOT_RUNNING,
    NVLSM,
    LogHealth,
    ManagerFacts,
    Program,
    SourceFile,
    clean_text,
    serialize_manager,
)
from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.statement_model import DUMP_LABELS, FACTS_LABEL, Dump

__all__ = ["ManagerSource", "manager_sources"]

_T = TypeVar("_T")

_PROGRAMS: Final = (FABRIC_MANAGER, NVLSM)
_COMMANDED: Final = (Dump.PARTITIONS, Dump.LFTS, Dump.PKEYS)
"""What is asked of commands, at least where there is no file."""
_RESERVE: Final = 0.1
"""Part of the time that is kept for writing down what came."""
_NOBODY: Final = (
    "there is no Fabric Manager here: no process, no program and no configuration was found"
)
_ELSEWHERE: Final = (
    "run this where the Fabric Manager runs: in the service VM, on the host, or in its container"
)


def manager_sources(
    host: ManagerHost, given: Mapping[Dump, Path] | None = None
) -> list[ManagerSource]:
    """Return the sources of a statement on a manager's host; nothing is asked yet.

    Args:
        host: real or simulated.
        given: files that the user names, before those that are found.
    """
    return [ManagerSource(host, given)]


class _Survey(NamedTuple):
    """What the rest depends on."""

    processes: dict[str, Running]
    arguments: Arguments
    layout: Layout
    boot: Boot


class ManagerSource:
    """Facts and dumps of the manager on this host.

    Args:
        host: the host.
        given: files that the user names, before those that are found.
    """

    name = SOURCE
    stage = Stage.LOGS
    gives: tuple[str, ...] = (FACTS_LABEL, *DUMP_LABELS)

    def __init__(self, host: ManagerHost, given: Mapping[Dump, Path] | None = None) -> None:
        self._host = host
        self._given = dict(given or {})

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Gather everything; each part is an item or an absence of its own."""
        started = ask.clock()
        ask = Ask(ask.device_nonce, None, started + ask.remaining * (1 - _RESERVE), ask.clock)
        survey = ask_one(self._survey, ask)
        if survey.value is None:
            seconds = ask.clock() - started
            return [_failed(label, survey, seconds) for label in self.gives]
        questions = self._questions(survey.value, ask)
        answers = dict(zip(questions, ask_all(list(questions.values()), ask), strict=True))
        seconds = ask.clock() - started
        dumps: dict[Dump, DumpFile | Absence] = {}
        for dump in Dump:
            answer = answers[dump]
            found = answer.value
            dumps[dump] = found if found is not None else _failed(dump.value, answer, seconds)
        return [
            self._facts(survey.value, answers, dumps),
            *(outcome_of(dumps[dump]) for dump in Dump),
        ]

    def diagnose(self) -> Sequence[Absence]:
        """Say what is not there or may not be read; no command is run."""
        survey = self._survey()
        absences: list[Absence] = []
        if not _anything(survey, self._programs_on_disk()):
            absences.append(_nobody())
        for dump in Dump:
            found = self._check(dump, survey)
            if found is not None:
                absences.append(found)
        return absences

    def _check(self, dump: Dump, survey: _Survey) -> Absence | None:
        if dump is Dump.PARTITIONS:
            running = FABRIC_MANAGER in survey.processes
            return check_partitions(self._host, survey.layout, running=running)
        if dump in _COMMANDED:
            return check_tables(self._host, dump, survey.layout, survey.arguments)
        return check_dump(self._host, dump, survey.layout)

    def _survey(self) -> _Survey:
        try:
            processes = find_processes(self._host)
        except OSError:
            processes = {}
        arguments = {name: process.arguments for name, process in processes.items()}
        layout = read_layout(self._host, arguments, self._given)
        return _Survey(processes, arguments, layout, read_boot(self._host))

    def _questions(self, survey: _Survey, ask: Ask) -> dict[Any, Callable[[], Any]]:
        """What is asked at once: labels of dumps, names of programs, and the log."""
        host, layout, left = self._host, survey.layout, ask.remaining
        started = _started(survey, FABRIC_MANAGER, host)
        questions: dict[Any, Callable[[], Any]] = {
            dump: partial(read_dump, host, dump, layout) for dump in Dump if dump not in _COMMANDED
        }
        questions[Dump.PARTITIONS] = partial(read_partitions, host, layout, left)
        questions[Dump.LFTS] = partial(read_tables, host, layout, survey.arguments, left)
        questions[Dump.PKEYS] = partial(
            read_keys, host, layout, survey.arguments, ask.clock, ask.deadline
        )
        for name in _PROGRAMS:
            questions[name] = partial(read_program, host, name, survey.processes.get(name), left)
        questions["log"] = partial(_log, host, layout, started)
        return questions

    def _facts(
        self,
        survey: _Survey,
        answers: Mapping[Any, Answer[Any]],
        dumps: Mapping[Dump, DumpFile | Absence],
    ) -> Outcome:
        programs = tuple(self._program(name, survey, answers[name]) for name in _PROGRAMS)
        on_disk = {one.name for one in programs if one.sha384 != Absent(NOT_FOUND)}
        if not _anything(survey, on_disk) and isinstance(dumps[Dump.CONFIG], Absence):
            return _nobody()
        boot, log = survey.boot, answers["log"]
        facts = ManagerFacts(
            boot.boot_id,
            boot.booted,
            boot.kernel,
            boot.driver,
            programs,
            _reading(log),
            tuple(_source(found) for found in dumps.values() if isinstance(found, DumpFile)),
        )
        try:
            data = serialize_manager(facts)
        except EvidenceError as problem:
            return raised_absence(FACTS_LABEL, SOURCE, problem)
        return Item(FACTS_LABEL, ItemType.FABRIC_MANAGER, data, SOURCE)

    def _program(self, name: str, survey: _Survey, answer: Answer[Program]) -> Program:
        if answer.value is not None:
            return answer.value
        lost: Absent = _why(answer)
        process = survey.processes.get(name)
        path = process.path if process and process.path else installed(self._host, name)
        running = lost if process else Absent(NOT_RUNNING)
        return Program(name, clean_text(path), lost, lost, running)

    def _programs_on_disk(self) -> set[str]:
        found = set()
        for name in _PROGRAMS:
            try:
                self._host.files.status(Path(installed(self._host, name)))
            except OSError:
                continue
            found.add(name)
        return found


def _anything(survey: _Survey, on_disk: set[str]) -> bool:
    return bool(survey.processes or on_disk)


def _nobody() -> Absence:
    return Absence(FACTS_LABEL, AbsenceReason.NOT_PRESENT, _NOBODY, _ELSEWHERE, SOURCE)


def _started(survey: _Survey, name: str, host: ManagerHost) -> int | None:
    process, booted = survey.processes.get(name), survey.boot.booted
    if process is None or isinstance(booted, Absent):
        return None
    return booted + process.ticks // host.clock_ticks


def _log(host: ManagerHost, layout: Layout, since: int | None) -> Reading[LogHealth]:
    return Absent("IN_SYSLOG") if layout.log is None else read_log(host, layout.log, since)


def _source(found: DumpFile) -> SourceFile:
    data = found.item.data
    path = clean_text(found.path)
    return SourceFile(found.item.label, path, sha384(data).hexdigest(), len(data), found.modified)


def _reading(answer: Answer[Reading[_T]]) -> Reading[_T]:
    return _why(answer) if answer.value is None else answer.value


def _why(answer: Answer[Any]) -> Absent:
    return Absent("TIMEOUT" if answer.late else "FAILED")


def _failed(label: str, answer: Answer[Any], seconds: float) -> Absence:
    if answer.error is not None:
        return raised_absence(label, SOURCE, answer.error)
    return late_absence(label, SOURCE, seconds)
