"""The devices of a verdict as rows, and how they are connected and bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ccverify.findings import Assurance, Finding, State
from ccverify.nvidia.claims import DeviceClaims
from ccverify.results.render.claims import show_value
from ccverify.results.render.fabric import add_fabric
from ccverify.results.render.failures import STATE_MARKS
from ccverify.results.render.text import Cell, Page, Style
from ccverify.results.verdict import Verdict, counts_against

__all__ = ["add_devices"]

_UNPROVEN = (
    "none: nothing stands behind this row; the report was not proven to be this device's, or not "
    "to be for this request."
)
_TOGETHER = ("GPU-COUNT", "NVSWITCH-COUNT", "DEVICES-", "TOPOLOGY-")
"""Checks of several devices at once: a row shows only what is wrong with its own device."""
_STYLES = (None, Style.STRONG)
_GPU_COLUMNS = ("chip", "driver", "vbios", "mode")
_SWITCH_COLUMNS = ("chip", "vbios", "position")
_TITLES = {"vbios": "VBIOS", "device_id": "device id"}


def add_devices(page: Page, verdict: Verdict) -> None:
    """Add GPUs, NVSwitches, topology, fabric and binding, as far as the verdict has them."""
    for title, devices, columns in (
        ("GPUs", verdict.gpus, _GPU_COLUMNS),
        ("NVSwitches", verdict.nvswitches, _SWITCH_COLUMNS),
    ):
        if devices:
            page.heading(f"{title} ({len(devices)})")
            _add_table(page, devices, columns, verdict.findings)
    together = [
        finding.code
        for finding in verdict.failures()
        if finding.state is State.FAIL and finding.code.startswith(_TOGETHER)
    ]
    if together:
        names = ", ".join(dict.fromkeys(together))
        page.paragraph(f"All devices together: failed {names}.", indent=2, style=Style.BAD)
    if verdict.topology is not None:
        page.heading("Topology")
        page.rows(_topology_rows(verdict.topology), indent=2)
    if verdict.fabric is not None:
        add_fabric(page, verdict.fabric)
    if verdict.binding is not None:
        page.heading("Binding")
        page.rows(_binding_rows(verdict.binding), indent=2)


def _add_table(
    page: Page, devices: Sequence[DeviceClaims], columns: Sequence[str], findings: Iterable[Finding]
) -> None:
    against: dict[str | None, Counter[State]] = {}
    for finding in findings:
        if counts_against(finding):
            against.setdefault(finding.subject, Counter())[finding.state] += 1
    rows = [_row(device, columns, against.get(device.subject, Counter())) for device in devices]
    titles = ("", "id", *(_TITLES.get(name, name) for name in columns))
    header = (*titles, "measured", "device id", "own checks")
    _add_fitting(page, header, rows)
    if any(device.level is Assurance.NONE for device in devices):
        page.paragraph(_UNPROVEN, indent=2, style=Style.WARN)


def _add_fitting(page: Page, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Add rows with as many columns as the page has room for; JSON has all of them."""
    for dropped in ((), ("device id",), ("device id", "chip")):
        kept = [at for at, title in enumerate(header) if title not in dropped]
        table = [[row[at] for at in kept] for row in (header, *rows)]
        if _width(table) <= page.width:
            page.rows(table[1:], indent=2, styles=_STYLES, header=table[0])
            return
    page.rows([_card(row, header) for row in rows], indent=2, styles=_STYLES)


def _row(device: DeviceClaims, columns: Sequence[str], against: Counter[State]) -> tuple[str, ...]:
    values = device.values
    measured = values["measurements"]
    total = measured.get("total")
    worst = next((state for state in (State.FAIL, State.NOT_CHECKED) if against[state]), State.PASS)
    counted = (State.FAIL, State.NOT_CHECKED)
    marks = [f"{against[state]} {STATE_MARKS[state][0]}" for state in counted if against[state]]
    if device.level is Assurance.NONE:
        marks.append("none")
    return (
        STATE_MARKS[worst][0],
        device.subject,
        *(show_value(values.get(name)) for name in columns),
        "–" if total is None else f"{measured.get('matched')}/{total}",
        show_value(values.get("device_id")),
        ", ".join(marks) or "passed",
    )


def _card(row: Sequence[str], header: Sequence[str]) -> tuple[str, str, str]:
    """Return a row for a page too narrow for columns."""
    mark, name, *values, state = row
    texts = [f"{title} {value}" for title, value in zip(header[2:-1], values, strict=True)]
    return mark, name, ", ".join((state, *texts))


def _width(table: Sequence[Sequence[str]]) -> int:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return 2 + sum(widths) + 2 * (len(widths) - 1)


# --- topology and binding ------------------------------------------------------------------------


def _topology_rows(claims: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    closed = "yes: every device is connected to the attested ones, and to no other"
    if not claims["closed"]:
        closed = "no: see what failed above"
    levels = sorted(set(claims["assurance"].values()))
    return [
        ("kind", claims["kind"]),
        ("devices", f"{len(claims['gpus'])} GPUs, {len(claims['nvswitches'])} NVSwitches"),
        ("closed", closed),
        ("rests on", ", ".join(levels)),
    ]


def _binding_rows(claims: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    own = "your own" if claims["fresh"] else "the one the response states: freshness is not proven"
    nonce = f"{claims['nonce']} ({own})" if claims["nonce"] else "none"
    bound = claims["bound"]
    rows: list[tuple[str, Cell]] = [
        ("profile", claims["profile"]),
        ("nonce", nonce),
        ("REPORTDATA", tuple(map(_part, claims["report_data"] or ()))),
        ("bound", tuple(f"{name}: {show_value(value)}" for name, value in bound.items())),
        ("rests on", claims["assurance"]["bound"] if bound else ""),
        ("tied to nothing", ", ".join(claims["unbound"])),
        ("missing", ", ".join(claims["missing"])),
        ("unproven", tuple(claims["leaves"])),
    ]
    return [row for row in rows if row[1]]


_MATCHES = {True: "matches", False: "differs", None: "not derivable"}


def _part(part: Mapping[str, Any]) -> str:
    return f"bytes {part['bytes']}: {part['meaning']}: {_MATCHES[part['matches']]}"
