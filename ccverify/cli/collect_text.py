"""What ``ccverify collect`` and ``ccverify doctor`` say: pages for people, objects for programs."""

from __future__ import annotations

from hashlib import sha384
from typing import Any

from ccverify.collect.collected import Collected
from ccverify.collect.doctor import Diagnosis, Part
from ccverify.collect.model import Absence
from ccverify.results.render.text import Page, Style

__all__ = [
    "COLLECTED_SCHEMA",
    "DOCTOR_SCHEMA",
    "collected_json",
    "collected_page",
    "doctor_json",
    "doctor_page",
]

COLLECTED_SCHEMA = "ccverify.collected/v1"
DOCTOR_SCHEMA = "ccverify.doctor/v1"

_SIMULATED = "SIMULATED: no machine was asked, and no verifier will take this for a real one."

Json = dict[str, Any]


def collected_json(
    collected: Collected, *, output: str | None, simulated: bool, exit_code: int
) -> Json:
    """Return the account of a session; `output` is None if nothing was written."""
    bundle = collected.bundle if output is not None else None
    return {
        "schema": COLLECTED_SCHEMA,
        "exit_code": exit_code,
        "simulated": simulated,
        "bundle": None
        if bundle is None
        else {"path": output, "size": len(bundle), "sha384": sha384(bundle).hexdigest()},
        "nonce": collected.nonce.hex(),
        "device_nonce": collected.device_nonce.hex(),
        "rtmr3": collected.rtmr3.hex() if collected.rtmr3 else None,
        "items": [
            {
                "label": item.label,
                "type": item.type.value,
                "size": len(item.data),
                "sha384": sha384(item.data).hexdigest(),
                "source": item.source,
            }
            for item in collected.items
        ],
        "absent": [_absence(absence) for absence in collected.absences],
        "missing": list(collected.missing),
        "notes": [
            {"label": note.label, "source": note.source, "text": note.text}
            for note in collected.notes
        ],
        "sources": [
            {
                "name": run.source,
                "stage": run.stage.value,
                "seconds": round(run.seconds, 3),
                "items": run.items,
                "absent": run.absences,
            }
            for run in collected.runs
        ],
        "seconds": round(collected.seconds, 3),
    }


def _absence(absence: Absence) -> Json:
    return {
        "label": absence.label,
        "reason": absence.reason.value,
        "text": absence.text,
        "remedy": absence.remedy,
        "source": absence.source,
    }


def collected_page(account: Json, width: int, *, color: bool) -> Page:
    """Lay out the account of `collected_json`: the answer first, then what is not there."""
    page = Page(width, color=color)
    items, absent, bundle = account["items"], account["absent"], account["bundle"]
    if account["simulated"]:
        page.paragraph(_SIMULATED, style=Style.WARN)
    if bundle is None:
        mark, style, end = "✗ NOTHING WRITTEN", Style.BAD, "  something required is missing"
    elif items:
        mark, style, end = "✓ COLLECTED", Style.GOOD, f"  {bundle['path']}"
    else:
        mark, style, end = "? NOTHING GATHERED", Style.WARN, f"  {bundle['path']} says why"
    page.spans((mark, style), (end, None))
    facts = [("gathered", f"{len(items)}, absent {len(absent)}, in {account['seconds']:.1f} s")]
    if bundle is not None:
        facts.append(("bundle", f"{bundle['size']} bytes, SHA-384 {bundle['sha384']}"))
    if account["missing"]:
        facts.append(("missing", ", ".join(account["missing"])))
    facts.append(("nonce", account["nonce"]))
    if account["rtmr3"]:
        facts.append(("RTMR3", f"extended to {account['rtmr3']}"))
    page.rows(facts, indent=2)
    if items:
        page.heading("Gathered")
        rows = [("✓", item["label"], f"{item['size']} B", item["source"]) for item in items]
        page.rows(rows, indent=2, styles=(Style.GOOD, Style.STRONG))
    if absent:
        page.heading("Absent")
        _add_absences(page, absent)
    if account["notes"]:
        page.heading("Not used")
        notes = account["notes"]
        page.rows([(n["label"], f"from {n['source']}: {n['text']}") for n in notes], indent=2)
    if account["sources"]:
        page.heading("Asked")
        page.rows(
            [(s["name"], f"{s['seconds']:.1f} s", _given(s)) for s in account["sources"]], indent=2
        )
    return page


def _given(source: Json) -> str:
    return f"{source['items']} gathered, {source['absent']} absent"


def _add_absences(page: Page, absences: list[Json]) -> None:
    """Tell each trouble once, with all the parts it is about."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in absences:
        key = (one["reason"], one["text"], one["remedy"], one["source"])
        groups.setdefault(key, []).append(one["label"])
    for (reason, text, remedy, source), labels in groups.items():
        page.spans(("✗ ", Style.BAD), (", ".join(labels), Style.STRONG), (f"  {reason}", None),
                   indent=2)  # fmt: skip
        rows = [("why", text), ("what to do", remedy or "–"), ("looked", source)]
        page.rows(rows, indent=4, styles=(Style.DIM,))


def doctor_json(diagnosis: Diagnosis, exit_code: int) -> Json:
    """Return a diagnosis as an object."""
    machine = diagnosis.machine
    return {
        "schema": DOCTOR_SCHEMA,
        "exit_code": exit_code,
        "complete": not diagnosis.missing,
        "missing": [list(group) for group in diagnosis.missing],
        "machine": {
            "kernel": machine.kernel,
            "tdx_guest": machine.tdx_guest,
            "nvidia_driver": machine.nvidia_driver,
            "root": machine.root,
        },
        "parts": [_part(part) for part in diagnosis.parts],
    }


def _part(part: Part) -> Json:
    return {
        "part": part.part,
        "needed": bool(part.group),
        "or": [name for name in part.group if name != part.part],
        "available": list(part.available),
        "problems": [_absence(absence) for absence in part.absences],
    }


def doctor_page(report: Json, width: int, *, color: bool) -> Page:
    """Lay out the object of `doctor_json`."""
    page = Page(width, color=color)
    if report["complete"]:
        page.spans(("✓ READY", Style.GOOD), ("  a full bundle can be collected here", None))
    else:
        missing = "; ".join(" or ".join(group) for group in report["missing"])
        page.spans(("✗ NOT READY", Style.BAD), (f"  for a full bundle: {missing}", None))
    machine = report["machine"]
    guest = {True: "yes", False: "no: the flag tdx_guest is missing", None: "not to be read"}
    page.rows(
        [
            ("kernel", machine["kernel"]),
            ("TDX guest", guest[machine["tdx_guest"]]),
            ("NVIDIA driver", machine["nvidia_driver"] or "not loaded"),
            ("user", "root" if machine["root"] else "not root"),
        ],
        indent=2,
    )
    page.heading("Parts")
    page.rows([_part_row(part) for part in report["parts"]], indent=2)
    troubled = [part for part in report["parts"] if not part["available"]]
    if troubled:
        page.heading("Missing")
        _add_absences(page, [one for part in troubled for one in part["problems"]])
    return page


def _part_row(part: Json) -> tuple[str, str, str, str]:
    others = ("needed", *part["or"]) if part["needed"] else ("optional",)
    need = ", or ".join(others)
    if part["available"]:
        return "✓", part["part"], need, f"from {', '.join(part['available'])}"
    reasons = ", ".join(dict.fromkeys(one["reason"] for one in part["problems"]))
    return "✗", part["part"], need, reasons
