"""How points in time are written: RFC 3339, UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["date_text", "unix_text", "utc_text"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_text(moment: datetime) -> str:
    """Return a timezone-aware time as ``2026-01-31T00:00:00Z``."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds")[:19] + "Z"


def date_text(moment: datetime) -> str:
    """Return a time's date as ``2026-01-31``."""
    return moment.isoformat()[:10]


def unix_text(seconds: int) -> str:
    """Return a time in Unix seconds, up to the year 9999, as `utc_text` does."""
    return utc_text(_EPOCH + timedelta(seconds=seconds))
