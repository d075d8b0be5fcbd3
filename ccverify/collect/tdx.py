"""All sources of TDX evidence of a guest, in the order in which they are best asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ccverify.collect.ccel import ACPI_TABLES, Ccel
from ccverify.collect.dstack_agent import DstackLogs, DstackQuote
from ccverify.collect.machine import PROC
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, Outcome, Source, Stage
from ccverify.collect.qgs import ATTEST_CONF, Qgs
from ccverify.collect.quotes import QUOTE_LABEL, asked
from ccverify.collect.td_measurements import (
    EXTENSION_LABEL,
    MEASUREMENTS,
    REGISTER_BYTES,
    TdMeasurements,
)
from ccverify.collect.tdreport import TDX_GUEST, TdReport
from ccverify.collect.tsm import TSM_ROOT, TsmReport
from ccverify.errors import EvidenceError, UsageError
from ccverify.tdx.quote import parse_quote

__all__ = ["TdxQuote", "tdx_sources"]

_SOURCE: Final = "TDX"
_SHARE: Final = 0.6
"""Part of the time left that a way may take while others remain to be tried."""

Extend = Callable[[bytes], bytes | Absence]
"""48 bytes → the new value of RTMR3, or why it was not extended."""


class TdxQuote:
    """One quote, from the first way that gives one.

    Args:
        ways: sources of quotes, in the order in which they are tried.
        extend: extends RTMR3, where a session asks for it.
    """

    name = _SOURCE
    stage = Stage.QUOTE
    gives: tuple[str, ...] = (QUOTE_LABEL,)

    def __init__(self, ways: Sequence[Source], extend: Extend) -> None:
        self._ways = tuple(ways)
        self._extend = extend

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Extend RTMR3 if that was asked for, then take one quote.

        A failed extension is an absence of its own, beside the quote.

        Raises:
            UsageError: `ask` has no REPORTDATA, or asks for an extension without a digest.
        """
        asked(ask)
        if not ask.extend_rtmr3:
            return (self._quote(ask),)
        if ask.manifest_sha384 is None or len(ask.manifest_sha384) != REGISTER_BYTES:
            raise UsageError(
                "RTMR3 was to be extended without the manifest's digest",
                expected=f"{REGISTER_BYTES} bytes",
            )
        value = self._extend(ask.manifest_sha384)
        quote = self._quote(ask)
        if isinstance(value, Absence):
            return (value, quote)
        return (*_not_as_extended(value, quote), quote)

    def diagnose(self) -> Sequence[Absence]:
        """Say what keeps every way from giving a quote; nothing if one of them may."""
        absences: list[Absence] = []
        for way in self._ways:
            found = way.diagnose()
            if not found:
                return ()
            absences += found
        return tuple(absences)

    def _quote(self, ask: Ask) -> Outcome:
        attempts: list[Absence] = []
        for left, way in zip(range(len(self._ways) - 1, -1, -1), self._ways, strict=True):
            for outcome in way.collect(_with_share(ask) if left else ask):
                if isinstance(outcome, Item):
                    return outcome
                attempts.append(outcome)
        return _all_failed(attempts)


def _with_share(ask: Ask) -> Ask:
    """Leave time for the ways after this one."""
    return Ask(
        ask.device_nonce,
        ask.report_data,
        ask.clock() + ask.remaining * _SHARE,
        ask.clock,
        ask.extend_rtmr3,
        ask.manifest_sha384,
    )


def _not_as_extended(value: bytes, quote: Outcome) -> tuple[Absence, ...]:
    """Compare RTMR3 of the quote with what the extension made it."""
    if isinstance(quote, Absence):
        return ()
    try:
        found = parse_quote(quote.data).report.rtmr3
    except EvidenceError as problem:
        return (_extension_failed(f"the quote cannot be read: {problem.message}"),)
    if found == value:
        return ()
    return (
        _extension_failed(
            f"RTMR3 was extended, and the quote has another value: expected {value.hex()}, found "
            f"{found.hex()}"
        ),
    )


def _extension_failed(text: str) -> Absence:
    return Absence(
        EXTENSION_LABEL,
        AbsenceReason.FAILED,
        text,
        "let no other program extend RTMR3 meanwhile",
        _SOURCE,
    )


def _all_failed(attempts: Sequence[Absence]) -> Absence:
    """Return one absence that lists every attempt; its reason is that of what came closest."""
    if not attempts:
        return Absence(
            QUOTE_LABEL, AbsenceReason.NOT_ASKED, "no way to a quote was allowed", "", _SOURCE
        )
    closest = next((a for a in attempts if a.reason is not AbsenceReason.NOT_PRESENT), attempts[0])
    return Absence(
        QUOTE_LABEL,
        closest.reason,
        "no way gave a quote: " + "; ".join(f"{a.source}: {a.text}" for a in attempts),
        closest.remedy,
        _SOURCE,
    )


def tdx_sources(
    root: str | Path = "/",
    socket: Path | None = None,
    *,
    td_report: bool = False,
    proc: Path = PROC,
) -> list[Source]:
    """Return the sources of TDX evidence: one of quotes, which chooses, then logs and registers.

    Quotes come from configfs-tsm, the dstack agent or QGS, in this order, and only one is taken.

    Args:
        root: what all files but those of /proc are looked for below.
        socket: of the dstack agent; the usual places if None.
        td_report: whether a TDREPORT is wanted, which is for diagnosis alone.
        proc: where /proc is.
    """
    base = Path(root)

    def below(path: Path) -> Path:
        return base / path.relative_to("/")

    measurements = TdMeasurements(below(MEASUREMENTS), proc=proc)
    ways: list[Source] = [
        TsmReport(below(TSM_ROOT), proc=proc),
        DstackQuote(base, socket),
        Qgs(below(ATTEST_CONF), below(TDX_GUEST), proc=proc),
    ]
    sources: list[Source] = [
        TdxQuote(ways, measurements.extend),
        Ccel(below(ACPI_TABLES), proc=proc),
        measurements,
        DstackLogs(base, socket),
    ]
    if td_report:
        sources.append(TdReport(below(TDX_GUEST), proc=proc))
    return sources
