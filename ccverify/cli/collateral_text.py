"""Pages of ``ccverify collateral show`` and ``diff``, made from the reports they print as JSON."""

from __future__ import annotations

from typing import Any

from ccverify.results.render.text import Page, Style

__all__ = ["diff_page", "show_page"]

Json = dict[str, Any]

_NVIDIA_GROUPS = ("rims", "ocsp_responses", "crls", "unreadable")
_GENUINE = {True: ", genuine", False: ", not genuine", None: ", not judged: issuer not known here"}
_LEVEL_HEADER = ("status", "TCB date", "PCESVN", "SGX SVNs", "TDX SVNs", "advisories")
_ISV_HEADER = ("module", "ISVSVN", "status", "TCB date", "advisories")


def show_page(report: Json, name: str, width: int, *, color: bool) -> Page:
    """Lay out `describe_pack`'s report, with that of `describe_nvidia` under ``nvidia``."""
    page = Page(width, color=color)
    page.heading(f"Collateral pack {name}")
    page.rows(
        [
            ("SHA-384", report["sha384"]),
            ("of NVIDIA's", report["nvidia"]["sha384"]),
            ("judged at", f"{report['at']}, under {report['trust']} roots"),
        ],
        indent=2,
    )
    for artefact in report["artefacts"]:
        _show_artefact(page, artefact)
    for chain in report["pck_chains"]:
        page.heading(f"PCK certificate chain, FMSPC {chain['fmspc'] or 'not readable'}")
        _show_certificates(page, chain["certificates"])
    nvidia = report["nvidia"]
    for group in _NVIDIA_GROUPS[:3]:
        for artefact in nvidia[group]:
            _show_nvidia(page, artefact)
    for name, why in nvidia["unreadable"].items():
        page.blank()
        page.spans(("✗ ", Style.BAD), (name, Style.STRONG), (", not readable", None))
        page.rows([("problem", why)], indent=2)
    if not any((report["artefacts"], report["pck_chains"], *map(nvidia.get, _NVIDIA_GROUPS))):
        page.paragraph("The pack is empty.")
    return page


def _show_nvidia(page: Page, artefact: Json) -> None:
    problems, genuine = artefact["problems"], artefact["genuine"]
    page.blank()
    page.spans(
        ("✗ " if problems else "✓ ", Style.BAD if problems else Style.GOOD),
        (artefact["title"], Style.STRONG),
        (", current" if artefact["current"] else ", not current", None),
        (_GENUINE[genuine], None),
    )
    rows: list[tuple[str, str]] = []
    if artefact["type"] == "rim":
        rows += [
            ("filed as", artefact["name"]),
            ("kind, chip", f"{artefact['kind']}, {artefact['chip']}"),
            ("version", artefact["version"]),
            ("measurements", str(artefact["measurements"])),
            ("signer until", artefact["signer_expires"]),
        ]
    elif artefact["type"] == "ocsp-response":
        rows += [("responder", artefact["responder"]), ("signed at", artefact["produced_at"])]
        for answer in artefact["answers"]:
            reason = f" ({answer['reason']})" if answer["reason"] else ""
            rows += [
                ("certificate", answer["certificate"]),
                ("status", answer["status"] + reason),
                ("valid", f"{answer['issued']} to {answer['next_update'] or 'an unstated time'}"),
            ]
    else:
        end = artefact["next_update"] or "an unstated time"
        rows += [
            ("valid", f"{artefact['issued']} to {end}"),
            ("entries", str(artefact["entries"])),
        ]
    page.rows(rows + [("problem", problem) for problem in problems], indent=2)
    _show_certificates(page, artefact.get("issuer_chain", []))


def _show_artefact(page: Page, artefact: Json) -> None:
    problems = artefact["problems"]
    page.blank()
    page.spans(
        ("✗ " if problems else "✓ ", Style.BAD if problems else Style.GOOD),
        (artefact["name"], Style.STRONG),
        (", current" if artefact["current"] else ", not current", None),
        ("" if problems else ", genuine", None),
    )
    rows = [("valid", f"{artefact['issued']} to {artefact['next_update'] or 'an unstated time'}")]
    if "entries" in artefact:
        rows += [
            ("issuer", artefact["issuer"]),
            ("CRL number", str(artefact["edition"])),
            ("entries", str(artefact["entries"])),
        ]
    if "fmspc" in artefact:
        rows.append(("FMSPC", f"{artefact['fmspc']}, PCEID {artefact['pceid']}"))
    if "mrsigner" in artefact:
        rows.append(("MRSIGNER", artefact["mrsigner"]))
    if artefact.get("unknown_fields"):
        rows.append(("not understood", ", ".join(artefact["unknown_fields"])))
    rows.append(("SHA-384", artefact["sha384"]))
    rows += [("problem", problem) for problem in problems]
    page.rows(rows, indent=2)
    _show_certificates(page, artefact["issuer_chain"])
    _show_levels(page, artefact)


def _show_certificates(page: Page, certificates: list[Json]) -> None:
    page.rows(
        [
            ("signer" if number == 0 else "above it", f"to {c['not_after'][:10]}", c["subject"])
            for number, c in enumerate(certificates)
        ],
        indent=2,
    )


def _show_levels(page: Page, artefact: Json) -> None:
    if artefact["type"] == "tcb-info":
        page.rows(map(_level_row, artefact["tcb_levels"]), indent=2, header=_LEVEL_HEADER)
        modules = artefact["tdx_modules"]
    else:
        modules = {"QE": artefact.get("tcb_levels", [])}
    page.rows(
        [(name, *_isv_row(level)) for name, levels in modules.items() for level in levels],
        indent=2,
        header=_ISV_HEADER if any(modules.values()) else (),
    )


def _level_row(level: Json) -> tuple[str, ...]:
    return (
        level["status"],
        level["tcb_date"][:10],
        str(level["pcesvn"]),
        _svns(level["sgx_components"]),
        _svns(level["tdx_components"]),
        _short(level["advisory_ids"]),
    )


def _isv_row(level: Json) -> tuple[str, ...]:
    return (
        str(level["isvsvn"]),
        level["status"],
        level["tcb_date"][:10],
        _short(level["advisory_ids"]),
    )


def _svns(components: list[int]) -> str:
    """The SVNs up to the last one that is not zero; SVNs beyond it are zero."""
    used = len(components)
    while used > 1 and components[used - 1] == 0:
        used -= 1
    return ".".join(map(str, components[:used]))


def _short(advisories: list[str]) -> str:
    return " ".join(name.removeprefix("INTEL-") for name in advisories) or "–"


def diff_page(report: Json, names: tuple[str, str], width: int, *, color: bool) -> Page:
    """Lay out `compare_packs`'s report, with that of `compare_nvidia` under ``nvidia``."""
    page = Page(width, color=color)
    page.heading(f"Collateral {names[0]} → {names[1]}")
    if report["identical"]:
        page.paragraph("The packs hold the same artefacts.")
        return page
    groups = (
        ("TCB info", report["tcb_infos"]),
        ("QE identity", report["qe_identity"]),
        ("CRL of", report["crls"]),
    )
    for title, group in groups:
        for name, change in group.items():
            page.heading(f"{title} {name}")
            _show_change(page, change)
    chains = report["pck_chains"]
    if chains:
        page.heading("PCK certificate chains")
        page.rows([(word, str(count)) for word, count in chains.items()], indent=2)
    nvidia = [
        ("Reference manifests", report["nvidia"]["rims"]),
        ("OCSP responses", report["nvidia"]["ocsp_responses"]),
        ("CRLs of NVIDIA", report["nvidia"]["crls"]),
    ]
    for title, change in nvidia:
        if change:
            page.heading(title)
            for word, mark, style in (("added", "+", Style.GOOD), ("removed", "-", Style.BAD)):
                for name in change.get(word, []):
                    page.spans((f"{mark} {name}", style), indent=2)
    if not chains and not any(group for _, group in (*groups, *nvidia)):
        page.paragraph(
            "The newest editions say the same; signatures, issuer chains or older editions differ."
        )
    return page


def _show_change(page: Page, change: Json) -> None:
    for word, mark, style in (("added", "+", Style.GOOD), ("removed", "-", Style.BAD)):
        if change.get(word) is True:
            page.spans((f"{mark} {word}", style), indent=2)
    page.rows(
        [
            (name.replace("_", " "), _arrow(value))
            for name, value in change.items()
            if isinstance(value, list)
        ],
        indent=2,
    )
    for status, requirements in change.get("requirements", {}).items():
        page.paragraph(f"{status} now needs", indent=2)
        page.rows([(r["component"], _arrow(r["svn"]), r["label"]) for r in requirements], indent=4)
    _show_level_changes(page, change.get("tcb_levels", {}), indent=2)
    _show_set(page, "advisories", change.get("advisories", {}))
    _show_set(page, "members not understood", change.get("unknown_fields", {}))
    for name, module in change.get("tdx_modules", {}).items():
        page.paragraph(f"TDX module {name}", indent=2)
        for word in ("added", "removed"):
            if module.get(word) is True:
                page.paragraph(word, indent=4)
        page.rows(
            [(key, _arrow(value)) for key, value in module.items() if isinstance(value, list)],
            indent=4,
        )
        _show_level_changes(page, module.get("tcb_levels", {}), indent=4)


def _show_level_changes(page: Page, change: Json, *, indent: int) -> None:
    for word, mark, style in (("added", "+", Style.GOOD), ("removed", "-", Style.BAD)):
        for level in change.get(word, []):
            text = f"{mark} level {_level_text(level)}"
            page.paragraph(text, indent=indent, hanging=4, style=style)
    for entry in change.get("changed", []):
        changes = entry["changes"]
        parts = [
            f"{name.replace('_', ' ')} {_arrow(value)}"
            for name, value in changes.items()
            if isinstance(value, list)
        ]
        advisories = changes.get("advisories", {})
        parts += [f"+{_short([name])}" for name in advisories.get("added", [])]
        parts += [f"-{_short([name])}" for name in advisories.get("removed", [])]
        page.paragraph(
            f"~ level {_level_text(entry['level'])}: {', '.join(parts)}",
            indent=indent,
            hanging=4,
            style=Style.WARN,
        )


def _level_text(level: Json) -> str:
    if "isvsvn" in level:
        return f"ISVSVN {level['isvsvn']} {level['status']} {level['tcb_date'][:10]}"
    return (
        f"{level['status']} {level['tcb_date'][:10]} (SGX {_svns(level['sgx_components'])}, "
        f"TDX {_svns(level['tdx_components'])}, PCESVN {level['pcesvn']})"
    )


def _show_set(page: Page, title: str, change: Json) -> None:
    for word in ("added", "removed"):
        if isinstance(names := change.get(word), list):
            page.paragraph(f"{title} {word}: {', '.join(names)}", indent=2, hanging=4)


def _arrow(pair: list[Any]) -> str:
    old, new = ("none" if value is None else str(value) for value in pair)
    return f"{old} → {new}"
