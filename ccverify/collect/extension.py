"""Extending RTMR3 by the digest of a manifest, as one more thing that a session asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from ccverify.collect.model import Absence, AbsenceReason, Ask, Outcome, Stage
from ccverify.collect.td_measurements import EXTENSION_LABEL

__all__ = ["Extend", "Extender", "Extension", "no_extender"]

Extend = Callable[[bytes], bytes | Absence]
"""Extends RTMR3 by 48 bytes and returns the new value, or says why not."""


@runtime_checkable
class Extender(Protocol):
    """A source that can extend RTMR3 too."""

    def extend(self, digest: bytes) -> bytes | Absence:
        """Extend by 48 bytes and return the new value, 48 bytes, or say why not."""
        ...


class Extension:
    """The extension of RTMR3 in the shape of a source, so that it too may hang or raise.

    Args:
        extend: does it.
        digest: by what, 48 bytes.
    """

    name = "RTMR3"
    stage = Stage.QUOTE
    gives: tuple[str, ...] = (EXTENSION_LABEL,)

    def __init__(self, extend: Extend, digest: bytes) -> None:
        self._extend = extend
        self._digest = digest
        self.value: bytes | None = None

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Extend; nothing to say if it went well."""
        found = self._extend(self._digest)
        if isinstance(found, Absence):
            return (replace(found, label=EXTENSION_LABEL),)
        self.value = found
        return ()

    def diagnose(self) -> Sequence[Absence]:
        """Nothing is known before it is tried."""
        return ()


def no_extender(digest: bytes) -> Absence:
    """Say that no source here can extend RTMR3."""
    text = f"no source here can extend RTMR3 (by {digest.hex()[:16]}…)"
    remedy = "use Linux 6.16 or newer in an Intel TDX guest, or leave --extend-rtmr out"
    return Absence(EXTENSION_LABEL, AbsenceReason.NOT_SUPPORTED, text, remedy, "ccverify")
