"""The sources of evidence of a real machine, in the order in which they count.

What the user names goes before what is found.  Simulated machines offer the same interface; only
the command line knows them (`ccverify.cli.sim_sources`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ccverify.collect.files import Files, OsFiles, told
from ccverify.collect.model import (
    Absence,
    AbsenceReason,
    Ask,
    Item,
    ItemType,
    Outcome,
    Source,
    Stage,
)

if TYPE_CHECKING:
    from ccverify.fabric.statement_model import Dump

__all__ = ["EventLogFile", "Wishes", "real_manager_sources", "real_sources"]

_MAX_LOG_BYTES: Final = 4 * 1024 * 1024
_CCEL: Final = ("ccel", ItemType.CCEL)
_DSTACK: Final = ("dstack-log", ItemType.DSTACK_LOG)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says about where evidence is to come from.

    Attributes:
        folders: folders with evidence that another tool gathered.
        nvattest_files: what NVIDIA's ``nvattest collect-evidence`` wrote.
        nv_sdk_python: interpreter of an environment with nv-attestation-sdk, which is then asked
            for GPUs and NVSwitches instead of the driver's own libraries.
        event_log: a file with the log of this boot, before what the kernel and dstack give.
        dstack_socket: of the dstack guest agent; the usual places if None.
        probe: whether the fabric is to be measured as well, which takes GPU time.
    """

    folders: tuple[Path, ...] = ()
    nvattest_files: tuple[Path, ...] = ()
    nv_sdk_python: str | None = None
    event_log: Path | None = None
    dstack_socket: Path | None = None
    probe: bool = False


def real_sources(wishes: Wishes | None = None) -> list[Source]:
    """Return the sources of this machine; nothing is asked, opened or loaded yet."""
    # NVIDIA's wrappers and the TDX interfaces are loaded by those who collect alone.
    from ccverify.collect.fabric import FabricSource
    from ccverify.collect.folder import folder_sources
    from ccverify.collect.nscq import NscqSource
    from ccverify.collect.nv_sdk import NvSdkSource
    from ccverify.collect.nvattest import NvattestSource
    from ccverify.collect.nvml import NvmlSource
    from ccverify.collect.probe import ProbeSource
    from ccverify.collect.tdx import tdx_sources

    wishes = wishes or Wishes()
    sources = [source for folder in wishes.folders for source in folder_sources(folder)]
    if wishes.nvattest_files:
        sources.append(NvattestSource(wishes.nvattest_files))
    if wishes.event_log is not None:
        sources.append(EventLogFile(wishes.event_log))
    if wishes.nv_sdk_python is not None:
        sources.append(NvSdkSource(wishes.nv_sdk_python, parts=("gpu", "nvswitch")))
    else:
        sources += [NvmlSource(), NscqSource()]
    sources.append(FabricSource())
    if wishes.probe:
        sources.append(ProbeSource())
    return [*sources, *tdx_sources(socket=wishes.dstack_socket)]


def real_manager_sources(
    wishes: Wishes | None = None, given: Mapping[Dump, Path] | None = None
) -> list[Source]:
    """Return the sources of a fabric statement on this machine; nothing is asked yet.

    Args:
        wishes: of which a manager's machine has the dstack socket alone.
        given: files of the manager that the user names.
    """
    from ccverify.collect.manager import manager_sources
    from ccverify.collect.manager_host import real_host
    from ccverify.collect.tdx import tdx_sources

    wishes = wishes or Wishes()
    return [*manager_sources(real_host(), given), *tdx_sources(socket=wishes.dstack_socket)]


class EventLogFile:
    """The event log of this boot from a file: JSON is taken for dstack's, all else for CCEL.

    Args:
        path: the file.
        files: the file system.
    """

    stage = Stage.LOGS
    gives: tuple[str, ...] = ("ccel", "dstack-log")

    def __init__(self, path: Path, files: Files | None = None) -> None:
        self.name = f"file {path.name}"
        self._path = path
        self._files = files or OsFiles()

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Read the file; one item, or the absence of either log."""
        try:
            data = self._files.read(self._path, _MAX_LOG_BYTES)
        except OSError as problem:
            return self._unreadable(problem)
        if not data:
            return self._unreadable(OSError("the file is empty"))
        label, kind = _DSTACK if data.lstrip()[:1] in (b"[", b"{") else _CCEL
        return (Item(label, kind, data, self.name),)

    def diagnose(self) -> Sequence[Absence]:
        """Whether the file can be read."""
        found = self.collect(Ask(bytes(32), None, 0.0, lambda: 0.0))
        return tuple(outcome for outcome in found if isinstance(outcome, Absence))

    def _unreadable(self, problem: OSError) -> tuple[Absence, ...]:
        reason = AbsenceReason.FAILED
        if isinstance(problem, PermissionError):
            reason = AbsenceReason.NO_PERMISSION
        elif isinstance(problem, FileNotFoundError):
            reason = AbsenceReason.NOT_PRESENT
        text = f"{self._path} cannot be used: {told(problem)}"
        remedy = "name another file in --event-log, or leave it out to read the log of the kernel"
        return tuple(Absence(label, reason, text, remedy, self.name) for label in self.gives)
