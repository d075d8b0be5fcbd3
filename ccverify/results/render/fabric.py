"""What a verdict says of the NVLink fabric, as rows: each claim with what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ccverify.results.render.claims import show_value
from ccverify.results.render.text import Cell, Page, Style

__all__ = ["add_fabric"]

_UNKNOWN: Final = "not known: no evidence says"
_NOTES: Final = {
    "manager": "a service VM whose quote and software the policy accepts says so.",
    "host": "a host says so whose boot a TPM quoted; its administrator can say anything.",
    "operator": "somebody says so whose key the policy accepts: a promise, and no measurement.",
    "asserted": "somebody says so whom nothing identifies, and nothing proves it.",
}
"""Level → what it means of a fabric."""
_UNSIGNED: Final = "No GPU signs who shares its fabric."
_SHORT: Final = 16
"""Hex digits of a digest that are shown; JSON has all of them."""
_MAX_NAMED: Final = 8


def add_fabric(page: Page, claims: Mapping[str, Any]) -> None:
    """Add the claims ``fabric`` of a verdict."""
    page.heading("Fabric")
    rows = [
        (title, claims[name]["assurance"], _shown(show, claims[name]["value"]))
        for title, name, show in _ROWS
        if name in claims
    ]
    page.rows(rows, indent=2, styles=(None, Style.DIM), header=("", "rests on", "value"))
    levels = {level for _, level, _ in rows}
    for level, note in _NOTES.items():
        if level in levels:
            style = Style.WARN if level == "asserted" else None
            text = f"{level}: {note}"
            page.paragraph(text, indent=2, style=style)
    if levels & set(_NOTES):
        page.paragraph(_UNSIGNED, indent=2, style=Style.WARN)


def _shown(show: Callable[[Any], Cell], value: Any) -> Cell:
    return _UNKNOWN if value is None else show(value)


# --- the guest -----------------------------------------------------------------------------------


def _report(value: Any) -> str:
    order = value["byte_order"]
    pdi = f", PDIs in byte order {order}" if order else ""
    return f"driver {show_value(value['driver'])}, {value['gpus']} GPUs{pdi}"


def _members(value: Any) -> str:
    return f"{len(value)} attested GPUs: {', '.join(value)}"


def _registration(value: Any) -> str:
    registered = "registered" if value["registered"] else "not registered"
    return (
        f"{value['gpus']} GPUs, {registered} ({', '.join(value['states'])}), "
        f"clique {show_value(value['clique_ids'])}, "
        f"cluster {show_value(value['cluster_uuids'])}"
    )


def _partition(value: Any) -> str:
    """The manager's entry where a statement has it, else what the driver relays."""
    if "modules" not in value:
        return _registration(value)
    active = "active" if value["active"] else "not active"
    return f"id {value['id']}, {active}, modules {show_value(value['modules'])}"


def _health(value: Any) -> str:
    said = ", ".join(value["summaries"])
    faults = "; ".join(value["faults"]) or "no fault"
    return f"{said}: {faults}" if said else faults


def _links(value: Any) -> str:
    counts = {each["up"] for each in value}
    if len(counts) == 1:
        return f"{show_value(next(iter(counts)))} up on each of {len(value)} GPUs"
    return ", ".join(f"{each['gpu']}: {show_value(each['up'])}" for each in value)


# --- the manager ---------------------------------------------------------------------------------

_BINDERS: Final = {
    "tdx": "the TDX quote of its own machine",
    "tpm": "the TPM of its host",
    "x509": "the operator's key",
}


def _manager(value: Any) -> Cell:
    bound = " and ".join(_BINDERS[each] for each in value["bound_by"])
    lines = [f"bound by {bound}" if bound else "unsigned: anybody may have stated this"]
    lines += [f"{kind}: {_identity(kind, who)}" for kind, who in sorted(value["identity"].items())]
    return (*lines, *map(_program, value["programs"]))


def _identity(kind: str, who: Mapping[str, Any]) -> str:
    if kind == "tdx":
        return f"MRTD {_short(who.get('mrtd'))}, RTMR2 {_short(who.get('rtmr2'))}"
    if kind == "tpm":
        boot = f"boot {show_value(who.get('reset_count'))}"
        return f"attestation key {_short(who.get('attestation_key'))}, {boot}"
    return f"{show_value(who.get('subject'))}, key {_short(who.get('key_sha256'))}"


def _program(program: Mapping[str, Any]) -> str:
    text = f"{program['name']} {show_value(program['version'])}"
    if not program["running"]:
        return f"{text}, not running"
    return f"{text}, since {show_value(program['started'])}, SHA-384 {_short(program['sha384'])}"


_MODES: Final = {0: "full passthrough", 1: "shared NVSwitch", 2: "vGPU"}


def _configuration(value: Any) -> str:
    mode = value["fabric_mode"]
    named = "not set" if mode is None else f"{mode} ({_MODES.get(mode, 'unknown')})"
    return (
        f"FABRIC_MODE {named}, rail policy {value['rail_policy'] or 'not set'}, "
        f"{len(value['settings'])} settings"
    )


def _routing(value: Any) -> str:
    parts = [f"{value['switches']} switches", f"digest {_short(value['digest'])}"]
    if value["board"]:
        parts.insert(0, value["board"])
    parts.append(f"keys from {value['keys_from']}" if value["keys_from"] else "no keys stated")
    if not value["evaluated"]:
        parts.append("not evaluated")
    return ", ".join(parts)


def _isolation(value: Any) -> Cell:
    if value["closed"]:
        return "closed: nobody outside reaches it, and it reaches nobody"
    lines = ["not proven closed" if not value["problems"] else f"no: {_some(value['problems'])}"]
    if value["reached_from"]:
        lines.append(f"reached from {_some(value['reached_from'])}")
    if value["reaches"]:
        lines.append(f"reaches {_some(value['reaches'])}")
    return tuple(lines)


def _liveness(value: Any) -> str:
    made = value["made"]
    if len(made) == 1:
        return f"one statement, of {made[0]}"
    return f"{len(made)} statements, from {made[0]} to {made[-1]}"


# --- measurements --------------------------------------------------------------------------------


def _probe(value: Any) -> Cell:
    lines = [f"{value['pairs_that_reach']} of {value['pairs']} ordered pairs reach each other"]
    speeds = [
        f"{_range(value[name], unit, digits)} {text}"
        for name, unit, digits, text in (
            ("one_way_bytes_per_s", 1e9, 0, "GB/s one way"),
            ("both_ways_bytes_per_s", 1e9, 0, "GB/s both ways"),
            ("copy_ns", 1e3, 1, "µs for a small copy"),
            ("read_ns", 1, 0, "ns for a read"),
        )
        if value[name]
    ]
    return (*lines, *speeds)


def _range(ends: Sequence[int], unit: float, digits: int) -> str:
    least, most = (f"{end / unit:.{digits}f}" for end in ends)
    return least if least == most else f"{least} to {most}"


# --- words ---------------------------------------------------------------------------------------


def _short(digest: str | None) -> str:
    if not digest or len(digest) <= _SHORT or not digest.strip("0"):
        return show_value(digest)
    return f"{digest[:_SHORT]}…"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


_ROWS: tuple[tuple[str, str, Callable[[Any], Cell]], ...] = (
    ("driver's report", "driver_report", _report),
    ("mode", "mode", show_value),
    ("members", "members", _members),
    ("partition", "partition", _partition),
    ("registration", "registration", _registration),
    ("encryption in force", "encryption_in_force", show_value),
    ("health", "health", _health),
    ("NVLinks", "links", _links),
    ("manager", "manager", _manager),
    ("configuration", "manager_configuration", _configuration),
    ("routing", "routing", _routing),
    ("isolation", "isolation", _isolation),
    ("liveness", "liveness", _liveness),
    ("measurements", "probe", _probe),
)
"""Title, claim and how to show it, in the order shown."""
