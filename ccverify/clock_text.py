"""How points in time are written: RFC 3339, UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["date_text", "utc_text"]


def utc_text(moment: datetime) -> str:
    """Return a timezone-aware time as ``2026-01-31T00:00:00Z``."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds")[:19] + "Z"


def date_text(moment: datetime) -> str:
    """Return a time's date as ``2026-01-31``."""
    return moment.isoformat()[:10]
