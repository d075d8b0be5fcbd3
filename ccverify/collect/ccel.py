"""The event log of the TD's firmware: ACPI table CCEL and the log area it points to.

Linux shows both below ``/sys/firmware/acpi/tables``: the table as ``CCEL``, the area as
``data/CCEL`` (drivers/acpi/sysfs.c), whose size is LAML, the minimum length of the area that
the table states (ACPI 6.5 section 5.2.34).  Nothing is parsed but the table: the log is judged
where it is replayed.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ccverify.collect.files import Files, OsFiles, Trouble, absence_of
from ccverify.collect.machine import NO_TD, PROC, is_tdx_guest
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.errors import EvidenceError
from ccverify.tdx.ccel import MAX_CCEL_BYTES, CcelTable, parse_ccel_table

__all__ = ["ACPI_TABLES", "Ccel"]

ACPI_TABLES: Final = Path("/sys/firmware/acpi/tables")

_MAX_TABLE_BYTES: Final = 4096
_TABLE: Final = "ccel-table"
_LOG: Final = "ccel"
_SOURCE: Final = "ACPI CCEL"

_NOT_ALLOWED: Final[Trouble] = (
    AbsenceReason.NO_PERMISSION,
    "ACPI tables may not be read",
    "run as root; in a container, mount /sys/firmware into it, which runtimes hide",
)
_TROUBLES: Final[dict[int, Trouble]] = {
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EFBIG: (
        AbsenceReason.FAILED,
        f"it is larger than accepted: {_MAX_TABLE_BYTES} bytes for the table, "
        f"{MAX_CCEL_BYTES} for the log",
        "have the firmware reserve a smaller log area",
    ),
}


class Ccel:
    """Table and log of the firmware's measurements.

    Args:
        root: the directory of ACPI tables.
        files: the file system.
        proc: where /proc is.
    """

    name = _SOURCE
    stage = Stage.LOGS
    gives: tuple[str, ...] = (_LOG, _TABLE)

    def __init__(
        self, root: Path = ACPI_TABLES, *, files: Files | None = None, proc: Path = PROC
    ) -> None:
        self._root = root
        self._files = files or OsFiles()
        self._proc = proc

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Read both; the log is whole if it is as long as the table says."""
        table = self._read(_TABLE, ItemType.CCEL_TABLE, self._root / "CCEL", _MAX_TABLE_BYTES)
        log = self._read(_LOG, ItemType.CCEL, self._root / "data" / "CCEL", MAX_CCEL_BYTES)
        if isinstance(table, Absence):
            return (table, log)
        try:
            parsed = parse_ccel_table(table.data)
        except EvidenceError as problem:
            text = f"{problem.message}: expected {problem.expected}, found {problem.found}"
            remedy = "ask whoever made the firmware"
            return (Absence(_TABLE, AbsenceReason.FAILED, text, remedy, _SOURCE), log)
        return (table, log if isinstance(log, Absence) else _whole(log, parsed))

    def diagnose(self) -> Sequence[Absence]:
        """Read both: nothing is asked of any device for it."""
        outcomes = (
            self._read(_TABLE, ItemType.CCEL_TABLE, self._root / "CCEL", _MAX_TABLE_BYTES),
            self._read(_LOG, ItemType.CCEL, self._root / "data" / "CCEL", MAX_CCEL_BYTES),
        )
        return tuple(one for one in outcomes if isinstance(one, Absence))

    def _read(self, label: str, kind: ItemType, path: Path, limit: int) -> Item | Absence:
        try:
            data = self._files.read(path, limit)
        except OSError as problem:
            return absence_of(
                problem,
                _TROUBLES,
                label=label,
                source=_SOURCE,
                doing=f"reading {path}",
                otherwise=self._other_trouble,
            )
        if not data:
            return Absence(label, AbsenceReason.FAILED, f"{path} is empty", _REPORT, _SOURCE)
        return Item(label, kind, data, _SOURCE)

    def _other_trouble(self, problem: OSError) -> Trouble:
        if not isinstance(problem, FileNotFoundError | NotADirectoryError):
            return (AbsenceReason.FAILED, "the firmware's log cannot be read", _REPORT)
        if is_tdx_guest(self._proc) is False:
            return NO_TD
        return (
            AbsenceReason.NOT_PRESENT,
            "the firmware left no event log, or the kernel does not show it",
            "use firmware that measures (OVMF or TDVF with CcMeasurement) and Linux 6.3 or newer; "
            "in a container, mount /sys/firmware into it",
        )


_REPORT: Final = "look at the kernel's log (`dmesg`)"


def _whole(log: Item, table: CcelTable) -> Outcome:
    if len(log.data) == table.log_area_minimum_length:
        return log
    return Absence(
        _LOG,
        AbsenceReason.FAILED,
        f"the log area has another length than the table states (LAML): expected "
        f"{table.log_area_minimum_length} bytes, found {len(log.data)}",
        _REPORT,
        _SOURCE,
    )
