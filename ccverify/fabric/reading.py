"""A value that was read somewhere, or why there is none: the two must not be confused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

__all__ = ["Absent", "Reading"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Absent:
    """A value that its source did not give.

    Attributes:
        code: why, as a word in upper case: the name of NVML's return code
            (``NVML_ERROR_NOT_SUPPORTED``), ``NOT_IN_STRUCT`` where the struct version in use has
            no such field, ``UNREADABLE`` where the answer was no text or out of its range, and
            what other sources say of themselves.
    """

    code: str


Reading: TypeAlias = _T | Absent
"""A value, or why there is none."""
