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

from ccverify.bundle.model import Absence, AbsenceReason, Item, ItemType, Outcome

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


class Stage(Enum):
    """When a source is asked."""

    DEVICES = "devices"
    """With the device nonce, all at once, before the manifest is closed."""
    LOGS = "logs"
    """Event logs and registers, before the manifest is closed."""
    QUOTE = "quote"
    """With REPORTDATA, last: it covers the manifest."""


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


class Source(Protocol):
    """One way to get evidence.  Several sources may be asked at once, from several threads."""

    @property
    def name(self) -> str:
        """Of the source, for people."""
        ...

    @property
    def stage(self) -> Stage:
        """When it is asked."""
        ...

    @property
    def gives(self) -> tuple[str, ...]:
        """Parts it can give, without numbers: ``("gpu",)``; what ``--only`` and others name."""
        ...

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Get everything; never raises for what is found on the machine."""
        ...

    def diagnose(self) -> Sequence[Absence]:
        """Say what is missing, without asking any device for a report; empty if all is there."""
        ...
