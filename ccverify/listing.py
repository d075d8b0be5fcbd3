"""Texts in one line of a finding: the first few, and how many more there are."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["listed"]


def listed(texts: Iterable[str], most: int) -> str:
    """Return ``a; b; and 3 more``, so that no finding outgrows the evidence.

    Args:
        texts: in the order told.
        most: how many are told.
    """
    every = list(texts)
    rest = f"; and {len(every) - most} more" if len(every) > most else ""
    return "; ".join(every[:most]) + rest
