"""One check of the registry, or all of them, put into words."""

from __future__ import annotations

import difflib

from ccverify.checks import CHECKS, Category, Check, Need
from ccverify.results.render.groups import GROUPS, OTHER, group_of
from ccverify.results.render.text import Page, Style

__all__ = ["nearest_code", "render_check", "render_checks"]

_CATEGORIES = {
    Category.EVIDENCE: "form of the evidence",
    Category.AUTHENTICITY: "authenticity",
    Category.POLICY: "policy",
    Category.COLLATERAL: "collateral",
}
_NEEDS = {
    Need.ALWAYS: "always; no policy can waive it",
    Need.UNLESS_WAIVED: "always, until the policy says in so many words that any value will do",
    Need.IF_ASKED: "when the policy or the caller states an expectation",
    Need.ADVICE: "never: it is told to the reader, and another check decides",
}


def render_check(check: Check, *, width: int, color: bool = False) -> str:
    """Return everything the registry knows of one check."""
    page = Page(width, color=color)
    page.spans((check.code, Style.STRONG))
    page.paragraph(check.title, indent=2)
    page.blank()
    code = int(check.category)
    outcome = f"exit code {code}, unless a graver failure gives a lower one"
    if check.need is Need.ADVICE:
        outcome = "the verdict stays as it is"
    unmade = "exit code 5" if check.category is Category.COLLATERAL else "exit code 6"
    rows = [
        ("kind", _CATEGORIES[check.category]),
        ("group", group_of(check.code)),
        ("needed", _NEEDS[check.need]),
        ("applies", check.applies),
        ("proves", check.proves),
        ("stops", check.stops),
        ("to fix", check.fix),
        ("if failed", outcome),
        ("if not made", "" if check.need is Need.ADVICE else f"{unmade}, when nothing failed"),
    ]
    page.rows([row for row in rows if row[1]], indent=2, styles=(Style.DIM,))
    return page.text()


def render_checks(*, width: int, color: bool = False) -> str:
    """Return all checks, by group, one line each."""
    page = Page(width, color=color)
    page.paragraph(f"{len(CHECKS)} checks. `ccverify explain CODE` says more about one.")
    code_width = max(len(check.code) for check in CHECKS)
    for name in (*(name for name, _ in GROUPS), OTHER):
        rows = [
            (check.code.ljust(code_width), check.title)
            for check in CHECKS
            if group_of(check.code) == name
        ]
        if rows:
            page.heading(name)
            page.rows(rows, indent=2)
    return page.text()


def nearest_code(code: str) -> str | None:
    """Return the known code most like a mistyped one; None if none is."""
    codes = [check.code for check in CHECKS]
    wanted = code.upper().replace("_", "-")[:100]
    inside = [known for known in codes if wanted and wanted in known]
    near = difflib.get_close_matches(wanted, codes, 1, 0.6)
    return near[0] if near else (inside[0] if inside else None)
