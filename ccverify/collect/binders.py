"""What may bind a session's key beside a quote: a TPM, or a key with an operator's certificate.

A binder is asked when the manifest is closed for good, and covers it.  So a manifest cannot say
that a binder failed: the account of the collection does, and the bundle is without that item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from ccverify.bundle.manifest import OUTSIDE, QUOTE_LABEL
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, Outcome, Stage
from ccverify.errors import UsageError

__all__ = ["BINDER_LABELS", "BindAsk", "Binder", "BinderSource", "check_binders"]

BINDER_LABELS: Final = tuple(label for label in OUTSIDE if label != QUOTE_LABEL)
"""What a binder can give: each at most once in a bundle."""


@dataclass(frozen=True, slots=True)
class BindAsk:
    """What a binder is asked with.

    Attributes:
        nonce: the relying party's, or an epoch, 32 bytes.
        thumbprint: of the session key, 32 bytes.
        manifest_sha384: SHA-384 of the manifest, 48 bytes.
        deadline: seconds on `clock` after which a binder should give up with TIMEOUT.
        clock: monotonic seconds.
    """

    nonce: bytes
    thumbprint: bytes
    manifest_sha384: bytes
    deadline: float
    clock: Callable[[], float] = field(repr=False)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - self.clock())


class Binder(Protocol):
    """One way to bind a session key."""

    @property
    def name(self) -> str:
        """Of the binder, for people."""
        ...

    @property
    def label(self) -> str:
        """What it gives: one of `BINDER_LABELS`."""
        ...

    def bind(self, ask: BindAsk) -> Outcome:
        """Make the item; never raises for what is found on the machine."""
        ...

    def diagnose(self) -> Sequence[Absence]:
        """Say what is missing, without making anything; empty if all is there."""
        ...


class BinderSource:
    """A binder in the shape of a source, so that it too may hang or raise.

    Args:
        binder: who is asked.
        nonce: as in `BindAsk`.
        thumbprint: as in `BindAsk`.
    """

    stage = Stage.QUOTE

    def __init__(self, binder: Binder, nonce: bytes, thumbprint: bytes) -> None:
        self._binder = binder
        self._nonce = nonce
        self._thumbprint = thumbprint
        self.name = binder.name
        self.gives: tuple[str, ...] = (binder.label,)

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Ask the binder; what is no outcome for its own label is an absence."""
        assert ask.manifest_sha384 is not None  # noqa: S101  # binders are asked last
        outcome = self._binder.bind(
            BindAsk(self._nonce, self._thumbprint, ask.manifest_sha384, ask.deadline, ask.clock)
        )
        label = self.gives[0]
        if isinstance(outcome, Absence):
            return (replace(outcome, label=label),)
        if isinstance(outcome, Item) and outcome.label != label:
            text = f"{self.name} gave {outcome.label}, and was asked for {label}"
            remedy = "this is a bug in the source: report it, with what you ran"
            return (Absence(label, AbsenceReason.FAILED, text, remedy, self.name),)
        return (outcome,)

    def diagnose(self) -> Sequence[Absence]:
        """What the binder says."""
        return self._binder.diagnose()


def check_binders(binders: Sequence[Binder]) -> None:
    """See that each binder gives something of its own.

    Raises:
        UsageError: a label that no binder can give, or two binders for one.
    """
    labels = [binder.label for binder in binders]
    for label in labels:
        if label not in BINDER_LABELS or labels.count(label) > 1:
            raise UsageError("session key cannot be bound so", found=", ".join(labels)[:200],
                             expected=f"each at most once: {', '.join(BINDER_LABELS)}")  # fmt: skip
