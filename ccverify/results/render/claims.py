"""The key claims of a verdict as rows: what is said of the machine, and what proves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ccverify.results.render.text import Cell
from ccverify.tdx.claims import TdxClaims

__all__ = ["SHORTFALLS", "claim_rows", "show_value"]

SHORTFALLS = "TCB shortfalls"

Values = Mapping[str, Any]


def claim_rows(claims: TdxClaims) -> list[tuple[str, str, Cell]]:
    """Return (label, assurance, value) of the claims a person decides by."""
    rows: list[tuple[str, str, Cell]] = []
    for label, name, show in _KEY_CLAIMS:
        if name not in claims.values:
            continue
        text = show(claims.values)
        if text:
            rows.append((label, claims.assurance[name].value, text))
    log = claims.values.get("event_log")
    if log:
        level = claims.assurance["event_log"].value
        rows += [(label, level, text) for label, text in _event_log_rows(log)]
    return rows


def show_value(value: Any) -> str:
    """Return a claim's value as one line: nothing is ``–``, zero bytes are said to be zero."""
    if value is None or value == "" or value == ():
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and len(value) > 15 and not value.strip("0"):
        return f"zero ({len(value) // 2} bytes)"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {show_value(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(show_value, value))
    return str(value)


def _one(name: str) -> Callable[[Values], str]:
    return lambda values: show_value(values[name])


def _tcb_status(values: Values) -> str:
    if values["tcb_status"] is None:
        return "unknown: there is no genuine TCB info and QE identity"
    parts = [values["tcb_status"]]
    if values.get("tcb_date"):
        parts.append(f"patched as of {values['tcb_date'][:10]}")
    if "tcb_evaluation_data_number" in values:
        parts.append(f"evaluation number {values['tcb_evaluation_data_number']}")
    return ", ".join(parts)


def _advisories(values: Values) -> str:
    none = "none" if values["tcb_status"] not in (None, "NotSupported") else ""
    return ", ".join(values["advisory_ids"]) or none


def _shortfalls(values: Values) -> Cell:
    return tuple(values["tcb_shortfalls"])


_PLATFORM_FLAGS = (
    ("smt_enabled", "SMT"),
    ("dynamic_platform", "dynamic platform"),
    ("cached_keys", "cached keys"),
)


def _platform(values: Values) -> str:
    on = [label for name, label in _PLATFORM_FLAGS if values.get(name)]
    return ", ".join((values["fmspc"], *on))


def _what_if(values: Values) -> Cell:
    answer = values["what_if"]
    parts = [answer["tcb_status"] or "unknown"]
    if answer["tcb_evaluation_data_number"] is not None:
        parts.append(f"evaluation number {answer['tcb_evaluation_data_number']}")
    parts += [*answer["advisory_ids"], *answer["tcb_shortfalls"], *answer["problems"]]
    return tuple(parts)


_KEY_CLAIMS: tuple[tuple[str, str, Callable[[Values], Cell]], ...] = (
    ("TCB status", "tcb_status", _tcb_status),
    (SHORTFALLS, "tcb_shortfalls", _shortfalls),
    ("Advisories", "advisory_ids", _advisories),
    ("What if", "what_if", _what_if),
    ("FMSPC", "fmspc", _platform),
    ("PPID", "ppid", _one("ppid")),
    ("TD attributes", "td_attribute_names", _one("td_attribute_names")),
    ("MRTD", "mrtd", _one("mrtd")),
    ("RTMR0", "rtmr0", _one("rtmr0")),
    ("RTMR1", "rtmr1", _one("rtmr1")),
    ("RTMR2", "rtmr2", _one("rtmr2")),
    ("RTMR3", "rtmr3", _one("rtmr3")),
    ("Report data", "report_data", _one("report_data")),
)


def _event_log_rows(log: Values) -> Iterator[tuple[str, str]]:
    for name, value in log["claims"].items():
        yield name, show_value(value)
    events = log["application_events"]
    if events:
        shown = ", ".join(events[:8]) + (f", and {len(events) - 8} more" if len(events) > 8 else "")
        yield "application log", f"{len(events)} events, of any meaning: {shown}"
