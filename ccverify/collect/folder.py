"""Evidence that lies in a folder: collected by other means, bundled by us.

One name for each part, so that nothing is guessed:

    gpu-N.report, gpu-N.pem             report (raw, hex or base64) and chain of a GPU
    nvswitch-N.report, nvswitch-N.pem   the same of an NVSwitch
    quote.bin                           a TDX quote (raw, hex or base64)
    ccel.bin, ccel-table.bin            log area and ACPI table CCEL
    dstack-log.json, dstack-info.json   answers of the dstack guest agent
    td-measurements.json                registers as the guest kernel shows them
    fabric.json                         a fabric observation of ccverify

A report must carry the nonce of this session and a quote its REPORTDATA, as everywhere: what was
collected for another session is absent, with what to ask for instead.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ccverify.bundle.items import DeviceItem
from ccverify.collect.device_answer import MAX_CHAIN_BYTES, MAX_REPORT_BYTES, device_outcome
from ccverify.collect.files import told
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
from ccverify.collect.quotes import MAX_QUOTE_BYTES, QUOTE_LABEL, asked, checked_quote
from ccverify.errors import EvidenceError
from ccverify.evidence_text import decode_evidence_text
from ccverify.fabric.observation import parse_observation
from ccverify.nvidia.spdm import decode_report_text
from ccverify.strict_json import MAX_JSON_BYTES, parse_json

__all__ = ["FolderSource", "folder_sources", "read_given"]

_DEVICE = re.compile(r"(gpu|nvswitch)-(0|[1-9][0-9]{0,2})\.(report|pem)")
_KINDS: Final = {"gpu": ItemType.NVIDIA_GPU, "nvswitch": ItemType.NVIDIA_SWITCH}
_QUOTE: Final = "quote.bin"
_BLOCK: Final = 64 * 1024


class _File(NamedTuple):
    """A file that is an item as it is."""

    name: str
    type: ItemType
    limit: int
    is_json: bool


_FILES: Final = {
    "ccel": _File("ccel.bin", ItemType.CCEL, 4 * 1024 * 1024, False),
    "ccel-table": _File("ccel-table.bin", ItemType.CCEL_TABLE, 4096, False),
    "dstack-log": _File("dstack-log.json", ItemType.DSTACK_LOG, MAX_JSON_BYTES, True),
    "dstack-info": _File("dstack-info.json", ItemType.DSTACK_INFO, MAX_JSON_BYTES, True),
    "td-measurements": _File("td-measurements.json", ItemType.TD_MEASUREMENTS, 65536, True),
}
_FABRIC: Final = _File("fabric.json", ItemType.FABRIC_OBSERVATION, MAX_JSON_BYTES, True)
_PARTS: Final = {
    Stage.DEVICES: ("gpu", "nvswitch", "fabric"),
    Stage.LOGS: tuple(_FILES),
    Stage.QUOTE: (QUOTE_LABEL,),
}


def read_given(path: Path, limit: int) -> bytes:
    """Read a file somebody names, of at most `limit` bytes; never waits for one.

    Raises:
        OSError: as `os` does; EFBIG if it is larger, EINVAL if it is no regular file.
    """
    # A pipe without a writer would hold an ordinary open for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = bytearray()
        while block := os.read(descriptor, _BLOCK):
            data += block
            if len(data) > limit:
                raise OSError(errno.EFBIG, f"more than {limit} bytes", str(path))
        return bytes(data)
    finally:
        os.close(descriptor)


def folder_sources(folder: Path) -> tuple[Source, ...]:
    """The sources of a folder, one for each stage."""
    return tuple(FolderSource(folder, stage) for stage in _PARTS)


class FolderSource:
    """The evidence of one stage in a folder.

    Args:
        folder: where it lies.
        stage: which part of it this source gives.
    """

    def __init__(self, folder: Path, stage: Stage) -> None:
        self._folder = folder
        self.stage = stage
        self.name = f"folder-{stage.value}"
        self.gives = _PARTS[stage]

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One item or absence per file that is there; one absence if there is none."""
        try:
            names = sorted(os.listdir(self._folder))
        except OSError as problem:
            return [self._unreadable(part, problem) for part in self.gives]
        if self.stage is Stage.QUOTE:
            found = [self._quote(ask)] if _QUOTE in names else []
        elif self.stage is Stage.LOGS:
            found = [self._log(part) for part, file in _FILES.items() if file.name in names]
        else:
            found = [self._device(label, ask) for label in _labels(names)]
            found += [self._fabric()] if _FABRIC.name in names else []
        return found or [self._nothing(part) for part in self.gives]

    def diagnose(self) -> Sequence[Absence]:
        """Whether the folder can be listed."""
        try:
            os.listdir(self._folder)
        except OSError as problem:
            return [self._unreadable(part, problem) for part in self.gives]
        return []

    def _device(self, label: str, ask: Ask) -> Outcome:
        kind, _, _ = label.partition("-")
        try:
            text = read_given(self._folder / f"{label}.report", 4 * MAX_REPORT_BYTES)
            chain = read_given(self._folder / f"{label}.pem", MAX_CHAIN_BYTES)
            device = DeviceItem(decode_report_text(text), chain)
        except OSError as problem:
            return self._unreadable(label, problem)
        except EvidenceError as problem:
            return self._malformed(label, problem)
        return device_outcome(label, _KINDS[kind], device, nonce=ask.device_nonce, source=self.name)

    def _quote(self, ask: Ask) -> Outcome:
        try:
            data = read_given(self._folder / _QUOTE, 4 * MAX_QUOTE_BYTES)
            if data[1:2] != b"\0":  # a raw quote begins with its version, 2 bytes, little endian
                data = decode_evidence_text(data, what="quote", limit=MAX_QUOTE_BYTES)
        except OSError as problem:
            return self._unreadable(QUOTE_LABEL, problem)
        except EvidenceError as problem:
            return self._malformed(QUOTE_LABEL, problem)
        return checked_quote(data, asked(ask), self.name)

    def _log(self, part: str) -> Outcome:
        return self._as_it_is(part, _FILES[part])

    def _fabric(self) -> Outcome:
        outcome = self._as_it_is("fabric", _FABRIC)
        if isinstance(outcome, Item):
            try:
                parse_observation(outcome.data)
            except EvidenceError as problem:
                return self._malformed("fabric", problem)
        return outcome

    def _as_it_is(self, part: str, file: _File) -> Outcome:
        try:
            data = read_given(self._folder / file.name, file.limit)
            if file.is_json:
                parse_json(data, what=file.name, error=EvidenceError)
        except OSError as problem:
            return self._unreadable(part, problem)
        except EvidenceError as problem:
            return self._malformed(part, problem)
        if not data:
            return Absence(
                part, AbsenceReason.FAILED, f"{file.name} is empty", "write it again", self.name
            )
        return Item(part, file.type, data, self.name)

    def _unreadable(self, part: str, problem: OSError) -> Absence:
        reason = {
            errno.ENOENT: AbsenceReason.NOT_PRESENT,
            errno.EACCES: AbsenceReason.NO_PERMISSION,
            errno.EPERM: AbsenceReason.NO_PERMISSION,
        }.get(problem.errno or 0, AbsenceReason.FAILED)
        name = problem.filename or self._folder
        text = f"{name} cannot be read: {told(problem)}"
        return Absence(part, reason, text, "see that the file is there and readable", self.name)

    def _malformed(self, part: str, problem: EvidenceError) -> Absence:
        details = (("expected", problem.expected), ("found", problem.found), ("at", problem.where))
        text = problem.message + "".join(f", {name} {said}" for name, said in details if said)
        remedy = problem.hint or "write the file again"
        return Absence(part, AbsenceReason.FAILED, text, remedy, self.name)

    def _nothing(self, part: str) -> Absence:
        text = f"{self._folder} holds no such file"
        remedy = "name the files as the documentation of collect says"
        return Absence(part, AbsenceReason.NOT_PRESENT, text, remedy, self.name)


def _labels(names: Sequence[str]) -> list[str]:
    """The devices of which there is a report, a chain or both, in the order of their numbers."""
    found = {(m[1], int(m[2])) for m in map(_DEVICE.fullmatch, names) if m is not None}
    return [f"{kind}-{number}" for kind, number in sorted(found)]
