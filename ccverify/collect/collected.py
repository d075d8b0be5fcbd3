"""What a collection session tells: progress while it lasts, and an account at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ccverify.bundle.manifest import Gathered
from ccverify.collect.merge import Note
from ccverify.collect.model import Absence, Item, Stage

__all__ = ["Collected", "Event", "Progress", "SourceRun"]


@dataclass(frozen=True, slots=True)
class SourceRun:
    """What became of one source.

    Attributes:
        source: its name.
        stage: when it was asked.
        seconds: from question to answer, or to giving up.
        items: how many it gave.
        absences: how many it stated, or had stated for it.
    """

    source: str
    stage: Stage
    seconds: float
    items: int
    absences: int


@dataclass(frozen=True, slots=True)
class Event:
    """Progress: a source was asked, or is done with.

    Attributes:
        source: its name.
        stage: of the source.
        done: how many sources are done with.
        total: how many there are at most: of those of quotes, the first that gives one is last.
        run: what became of it; None: it was asked just now.
    """

    source: str
    stage: Stage
    done: int
    total: int
    run: SourceRun | None = None


Progress = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Collected:
    """The outcome of a session.

    Attributes:
        bundle: the bundle; None if something required is not there.
        gathered: what is in it, and what is not and why, the quote and binders included.  A
            binder's absence is told here alone: the manifest was closed before.
        missing: required parts that are not there, or not completely.
        notes: what sources gave beside that.
        runs: every source that was asked, in order.
        seconds: how long it all took.
        nonce: the relying party's.
        device_nonce: what the devices were asked with.
        rtmr3: RTMR3 after it was extended; None if it was not.
    """

    bundle: bytes | None
    gathered: tuple[Gathered, ...]
    missing: tuple[str, ...]
    notes: tuple[Note, ...]
    runs: tuple[SourceRun, ...]
    seconds: float
    nonce: bytes
    device_nonce: bytes
    rtmr3: bytes | None = None

    @property
    def items(self) -> tuple[Item, ...]:
        """What was gathered."""
        return tuple(one.outcome for one in self.gathered if isinstance(one.outcome, Item))

    @property
    def absences(self) -> tuple[Absence, ...]:
        """What was not, and why."""
        return tuple(one.outcome for one in self.gathered if isinstance(one.outcome, Absence))
