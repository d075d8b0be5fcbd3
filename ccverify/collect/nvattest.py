"""Device evidence that NVIDIA's ``nvattest collect-evidence`` has written to files.

For machines on which NVIDIA's own tool is the one that may ask the devices.  The nonce of this
session has to be given to it (``--nonce``, in hex); evidence for any other nonce is absent.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ccverify.bundle.items import DeviceItem
from ccverify.collect.device_answer import device_outcome
from ccverify.collect.files import told
from ccverify.collect.folder import read_given
from ccverify.collect.model import Absence, AbsenceReason, Ask, ItemType, Outcome, Stage
from ccverify.errors import EvidenceError
from ccverify.evidence import DeviceEvidence
from ccverify.interop import nvattest
from ccverify.interop.elements import MAX_DOCUMENT_BYTES, parse_foreign_json

__all__ = ["NvattestSource"]

_KINDS: Final = {"gpu": ItemType.NVIDIA_GPU, "nvswitch": ItemType.NVIDIA_SWITCH}
_REMEDY: Final = (
    "write it again: nvattest collect-evidence, with the device nonce of this session, for GPUs "
    "and for switches"
)


class NvattestSource:
    """The devices in files of ``nvattest``.

    Args:
        files: of GPUs, of switches, or of both; numbered in the order given.
    """

    name = "nvattest"
    stage = Stage.DEVICES
    gives = ("gpu", "nvswitch")

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One item or absence per device; an absence of all where a file cannot be read."""
        devices: dict[str, list[DeviceEvidence]] = {"gpu": [], "nvswitch": []}
        for path in self._files:
            try:
                gpus, switches = _read(path)
            except (OSError, EvidenceError) as problem:
                return self._unread(path, problem)
            devices["gpu"] += gpus
            devices["nvswitch"] += switches
        outcomes: list[Outcome] = [
            device_outcome(
                f"{part}-{at}",
                _KINDS[part],
                _item(device),
                nonce=ask.device_nonce,
                source=f"{self.name} {device.source}",
            )
            for part, listed in devices.items()
            for at, device in enumerate(listed)
        ]
        return outcomes + [
            self._absence(part, AbsenceReason.NOT_PRESENT, f"the files hold no {part}", _REMEDY)
            for part, listed in devices.items()
            if not listed
        ]

    def diagnose(self) -> Sequence[Absence]:
        """Whether the files can be read, whatever nonce they carry."""
        for path in self._files:
            try:
                _read(path)
            except (OSError, EvidenceError) as problem:
                return self._unread(path, problem)
        return []

    def _unread(self, path: Path, problem: OSError | EvidenceError) -> list[Absence]:
        if isinstance(problem, EvidenceError):
            text = f"{path}: {problem.message}"
            text += f", found {problem.found}" if problem.found else ""
            reason = AbsenceReason.FAILED
        else:
            text = f"{path} cannot be read: {told(problem)}"
            reason = {
                errno.ENOENT: AbsenceReason.NOT_PRESENT,
                errno.EACCES: AbsenceReason.NO_PERMISSION,
            }.get(problem.errno or 0, AbsenceReason.FAILED)
        return [self._absence(part, reason, text, _REMEDY) for part in self.gives]

    def _absence(self, part: str, reason: AbsenceReason, text: str, remedy: str) -> Absence:
        return Absence(part, reason, text, remedy, self.name)


def _read(path: Path) -> tuple[tuple[DeviceEvidence, ...], tuple[DeviceEvidence, ...]]:
    """The GPUs and switches of one file.

    Raises:
        OSError, EvidenceError: it cannot be read, or is not of nvattest.
    """
    data = read_given(path, MAX_DOCUMENT_BYTES)
    document = parse_foreign_json(data, "document")
    if not nvattest.matches(document):
        raise EvidenceError(
            "the file is not of nvattest",
            expected="a list of device evidence, or an object with 'evidences'",
            found=type(document).__name__,
        )
    node = nvattest.parse(document, data).nodes[0]
    return node.gpus, node.switches


def _item(device: DeviceEvidence) -> DeviceItem:
    said = {one.name: one.value for one in device.asserted}
    driver, uuid = said.get("driver_version"), said.get("uuid")
    return DeviceItem(
        report=device.report,
        chain=device.certificate_chain,
        architecture=device.claimed_architecture,
        uuid=uuid if isinstance(uuid, str) else None,
        driver=driver if isinstance(driver, str) else None,
    )
