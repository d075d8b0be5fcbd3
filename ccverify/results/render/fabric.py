"""What a verdict says of the NVLink fabric, as rows: each claim with what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ccverify.results.render.claims import show_value
from ccverify.results.render.text import Page, Style

__all__ = ["add_fabric"]

_UNKNOWN = "not known: no evidence says"
_NOTE = (
    "asserted: the host says so through its Fabric Manager, and nothing proves it. "
    "No GPU signs who shares its fabric."
)


def add_fabric(page: Page, claims: Mapping[str, Any]) -> None:
    """Add the claims ``fabric`` of a verdict."""
    page.heading("Fabric")
    rows = [
        (title, claims[name]["assurance"], _shown(show, claims[name]["value"]))
        for title, name, show in _ROWS
        if name in claims
    ]
    page.rows(rows, indent=2, styles=(None, Style.DIM), header=("", "rests on", "value"))
    if any(level == "asserted" for _, level, _ in rows):
        page.paragraph(_NOTE, indent=2, style=Style.WARN)


def _shown(show: Callable[[Any], str], value: Any) -> str:
    return _UNKNOWN if value is None else show(value)


def _members(value: Any) -> str:
    return f"{len(value)} attested GPUs: {', '.join(value)}"


def _partition(value: Any) -> str:
    registered = "registered" if value["registered"] else "not registered"
    return (
        f"{value['gpus']} GPUs, {registered} ({', '.join(value['states'])}), "
        f"clique {show_value(value['clique_ids'])}, "
        f"cluster {show_value(value['cluster_uuids'])}"
    )


def _health(value: Any) -> str:
    said = ", ".join(value["summaries"])
    faults = "; ".join(value["faults"]) or "no fault"
    return f"{said}: {faults}" if said else faults


def _links(value: Any) -> str:
    counts = {each["up"] for each in value}
    if len(counts) == 1:
        return f"{show_value(next(iter(counts)))} up on each of {len(value)} GPUs"
    return ", ".join(f"{each['gpu']}: {show_value(each['up'])}" for each in value)


def _report(value: Any) -> str:
    order = value["byte_order"]
    pdi = f", PDIs in byte order {order}" if order else ""
    return f"driver {show_value(value['driver'])}, {value['gpus']} GPUs{pdi}"


_ROWS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("driver's report", "driver_report", _report),
    ("mode", "mode", show_value),
    ("members", "members", _members),
    ("partition", "partition", _partition),
    ("encryption in force", "encryption_in_force", show_value),
    ("health", "health", _health),
    ("NVLinks", "links", _links),
    ("manager", "manager", show_value),
    ("routing", "routing", show_value),
    ("isolation", "isolation", show_value),
)
"""Title, claim and how to show it, in the order shown."""
