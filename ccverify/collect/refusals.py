"""How a library of the driver's says no: to one call, or to everything."""

from __future__ import annotations

from typing import NamedTuple

from ccverify.collect.model import AbsenceReason

__all__ = ["Refused", "Remark", "Unavailable"]


class Refused(Exception):  # an answer, and no error of this program
    """A call that was refused.

    Args:
        code: the name of the return code.
        function: which call.
    """

    def __init__(self, code: str, function: str) -> None:
        super().__init__(f"{function}: {code}")
        self.code = code
        self.function = function


class Unavailable(Exception):  # likewise
    """The library cannot be used at all; says why as an absence does."""

    def __init__(self, reason: AbsenceReason, text: str, remedy: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.remedy = remedy


class Remark(NamedTuple):
    """What a return code means for whoever collects, and what to do about it."""

    reason: AbsenceReason
    remedy: str
