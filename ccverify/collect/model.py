"""What a source of evidence is asked, and what it gives: items, and absences with a reason.

A part that is not there is data too.  A source never raises for what it finds on the machine:
it returns an `Absence` that says why and what to do, so that a bundle can never silently lack
a part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

__all__ = [
    "Absence",
    "AbsenceReason",
    "Ask",
    "Item",
    "ItemType",
    "Outcome",
    "Source",
    "Stage",
]


class ItemType(str, Enum):
    """Media types of the items of a bundle (docs/spec/bundle.md)."""

    TDX_QUOTE = "application/vnd.ccverify.tdx-quote"
    """A TDX quote, raw."""
    CCEL = "application/vnd.ccverify.ccel"
    """The log area of the ACPI table CCEL, raw."""
    CCEL_TABLE = "application/vnd.ccverify.ccel-table"
    """The ACPI table CCEL itself, raw."""
    DSTACK_LOG = "application/vnd.ccverify.dstack-log+json"
    """The event log as the dstack guest agent returns it."""
    DSTACK_INFO = "application/vnd.ccverify.dstack-info+json"
    """What the dstack guest agent says of the application: asserted."""
    TD_MEASUREMENTS = "application/vnd.ccverify.td-measurements+json"
    """Registers as the guest kernel shows them in sysfs: name → hex."""
    TDREPORT = "application/vnd.ccverify.tdreport"
    """A TDREPORT, raw: for diagnosis alone, no remote party can verify it."""
    NVIDIA_GPU = "application/vnd.ccverify.nvidia-gpu+cbor"
    """Report and certificate chain of a GPU (`ccverify.bundle.items`)."""
    NVIDIA_SWITCH = "application/vnd.ccverify.nvidia-nvswitch+cbor"
    """The same of an NVSwitch."""
    FABRIC_OBSERVATION = "application/vnd.ccverify.fabric-observation+json"
    """What NVML says of GPUs, links and fabric (`ccverify.fabric.observation`)."""


class Stage(Enum):
    """When a source is asked."""

    DEVICES = "devices"
    """With the device nonce, all at once, before the manifest is closed."""
    LOGS = "logs"
    """Event logs and registers, before the manifest is closed."""
    QUOTE = "quote"
    """With REPORTDATA, last: it covers the manifest."""


class AbsenceReason(str, Enum):
    """Why a part is not there."""

    NOT_PRESENT = "not-present"
    """The machine has no such thing."""
    NOT_SUPPORTED = "not-supported"
    """It is there, and this driver or kernel cannot do it."""
    CC_OFF = "cc-off"
    """The GPU is there, and confidential computing is off."""
    NO_PERMISSION = "no-permission"
    NO_DRIVER = "no-driver"
    NO_LIBRARY = "no-library"
    """A package or shared library is missing."""
    TIMEOUT = "timeout"
    FAILED = "failed"
    """It was tried and went wrong; the text says how."""
    NOT_ASKED = "not-asked"
    """The user left it out (``--only``)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a source is asked with.

    Attributes:
        device_nonce: 32 bytes for every device report of the session.
        report_data: 64 bytes for the quote; None before the manifest is closed.
        deadline: seconds on `clock` after which a source should give up with TIMEOUT.
        clock: monotonic seconds.
        extend_rtmr3: whether the manifest's digest is to be extended into RTMR3 first.
        manifest_sha384: 48 bytes; None before the manifest is closed.
    """

    device_nonce: bytes
    report_data: bytes | None
    deadline: float
    clock: Callable[[], float] = field(repr=False)
    extend_rtmr3: bool = False
    manifest_sha384: bytes | None = None

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - self.clock())


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of evidence.

    Attributes:
        label: unique in the bundle: ``tdx-quote``, ``gpu-0``, ``nvswitch-3``, ``ccel`` ...
        type: what `data` is.
        data: the bytes.
        source: where it came from, for people: ``configfs-tsm``, ``NVML 580.95.05`` ...
    """

    label: str
    type: ItemType
    data: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Absence:
    """A part that is not there.

    Attributes:
        label: what it would have been called.
        reason: why, by type.
        text: why, in words: what was expected and what was found.
        remedy: what to do about it.
        source: who looked.
    """

    label: str
    reason: AbsenceReason
    text: str
    remedy: str
    source: str


Outcome = Item | Absence


class Source(Protocol):
    """One way to get evidence.  Several sources may be asked at once, from several threads."""

    name: str
    stage: Stage
    gives: tuple[str, ...]
    """Parts it can give, without numbers: ``("gpu",)``; what ``--only`` and ``--require`` name."""

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Get everything; never raises for what is found on the machine."""
        ...

    def diagnose(self) -> Sequence[Absence]:
        """Say what is missing, without asking any device for a report; empty if all is there."""
        ...
