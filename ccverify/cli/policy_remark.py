"""One remark on a valid policy."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Advice", "Level"]


class Level(Enum):
    """How much an advice matters, gravest first."""

    UNMEETABLE = 0
    """No machine can ever be trusted under this policy."""
    WEAKENS = 1
    """The policy says that something dangerous is accepted."""
    CONSIDER = 2
    """The policy is silent where a word would make it stronger."""


class Advice(NamedTuple):
    """One remark: on which member, why it matters, what to write instead."""

    level: Level
    where: str
    why: str
    instead: str
