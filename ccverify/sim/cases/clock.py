"""Bad cases: honest evidence judged at a time when it proves nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ccverify.sim.cases.model import Expected, FixtureCase, Make, case, honest, untrusted
from ccverify.sim.defaults import DEFAULT_TIME

__all__ = ["CLOCK_CASES"]

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_PCK_END = datetime(2032, 5, 6, 9, 25, 0, tzinfo=UTC)
_EPOCH_END = datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)

_EVERY_WINDOW = untrusted(
    5, "PCK-VALIDITY ROOT-CRL-FRESH PCK-CRL-FRESH TCB-INFO-FRESH QE-IDENTITY-FRESH"
)
_CERTIFICATES = untrusted(5, "PCK-VALIDITY TCB-INFO-FRESH QE-IDENTITY-FRESH")


def _clock(
    name: str, description: str, at: datetime, expected: Expected, make: Make = honest
) -> FixtureCase:
    return case(f"clock-{name}", description, make, expected, covers="A29 4", at=at)


CLOCK_CASES: tuple[FixtureCase, ...] = (
    _clock("1970", "A clock that was never set.", datetime(1970, 1, 1, tzinfo=UTC), _EVERY_WINDOW),
    _clock("2038", "The second after 32-bit time ends.", _EPOCH_END, _EVERY_WINDOW),
    _clock(
        "9999",
        "The last second that ISO 8601 can write.",
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        _EVERY_WINDOW,
    ),
    _clock(
        "one-second-late",
        "One second after the TCB info's nextUpdate.",
        DEFAULT_TIME + 27 * _DAY + _SECOND,
        untrusted(5, "TCB-INFO-FRESH"),
    ),
    _clock(
        "pck-one-second-late",
        "One second after PCK certificate and TCB signer expired, with fresh collateral.",
        _PCK_END + _SECOND,
        _CERTIFICATES,
        lambda: honest(at=_PCK_END + _SECOND),
    ),
    _clock(
        "2050-root-expired",
        "The root itself has expired: nothing below it counts.",
        datetime(2050, 1, 1, tzinfo=UTC),
        _EVERY_WINDOW,
        lambda: honest(at=datetime(2050, 1, 1, tzinfo=UTC)),
    ),
)
