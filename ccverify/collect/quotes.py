"""The check every source of quotes makes: the quote is one, and says what it was asked to say."""

from __future__ import annotations

from typing import Final

from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome
from ccverify.errors import EvidenceError, UsageError
from ccverify.tdx.quote import MAX_QUOTE_BYTES, parse_quote

__all__ = ["MAX_QUOTE_BYTES", "QUOTE_LABEL", "REPORT_DATA_BYTES", "asked", "checked_quote"]

QUOTE_LABEL: Final = "tdx-quote"
REPORT_DATA_BYTES: Final = 64


def asked(ask: Ask) -> bytes:
    """Return the 64 bytes of REPORTDATA a quote is asked with.

    Raises:
        UsageError: there are none yet, or not 64: a quote is taken last.
    """
    if ask.report_data is None or len(ask.report_data) != REPORT_DATA_BYTES:
        raise UsageError(
            "a quote was asked for without REPORTDATA",
            expected=f"{REPORT_DATA_BYTES} bytes",
            found="none" if ask.report_data is None else f"{len(ask.report_data)} bytes",
        )
    return ask.report_data


def checked_quote(data: bytes, report_data: bytes, source: str) -> Outcome:
    """Return the quote as an item, or FAILED if it is none or covers other REPORTDATA.

    Signatures are the verifier's affair.  That the quote covers what was asked has to be seen
    here: an agent that hashes its argument, or a stale answer, makes evidence of another
    session that nobody could use.
    """
    try:
        found = parse_quote(data).report.report_data
    except EvidenceError as problem:
        detail = ", ".join(
            f"{name} {value}"
            for name, value in (
                ("expected", problem.expected),
                ("found", problem.found),
                ("at", problem.where),
            )
            if value
        )
        return Absence(
            QUOTE_LABEL,
            AbsenceReason.FAILED,
            f"{len(data)} bytes came that are no TDX quote: {problem.message}"
            + (f" ({detail})" if detail else ""),
            problem.hint or "update the quoting service of the host (Intel DCAP)",
            source,
        )
    if found != report_data:
        return Absence(
            QUOTE_LABEL,
            AbsenceReason.FAILED,
            f"the quote covers other REPORTDATA than was asked: asked {report_data.hex()}, "
            f"found {found.hex()}",
            "try again; if it stays, the service hashes what it is given or answers somebody "
            "else's request: use another way to get quotes",
            source,
        )
    return Item(QUOTE_LABEL, ItemType.TDX_QUOTE, data, source)
