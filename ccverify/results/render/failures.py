"""Findings put into words: what failed, what could not be made, and what to do about it.

A node has a dozen devices, and what is wrong with one is mostly wrong with all: findings of one
check are told together, with the devices named as a run (``gpu-0 … gpu-7``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ccverify.checks import Category, Need, find_check
from ccverify.findings import Finding, State
from ccverify.results.render.groups import group_index, group_of
from ccverify.results.render.runs import name_runs
from ccverify.results.render.text import Cell, Page, Style

__all__ = ["STATE_MARKS", "add_all_findings", "add_failures"]

STATE_MARKS: dict[State, tuple[str, Style]] = {
    State.PASS: ("✓", Style.GOOD),
    State.FAIL: ("✗", Style.BAD),
    State.NOT_CHECKED: ("?", Style.WARN),
    State.NOT_APPLICABLE: ("–", Style.DIM),
}
_FETCH = "Fetch collateral with `ccverify collateral fetch`, and give it with --collateral."
_CODES_NAMED = 3
_ENUMERATION = 90
"""A value longer than this is shown item by item."""
_UNKNOWN = "this version does not know this check"

_Key = TypeVar("_Key")


def _grouped(
    findings: Iterable[Finding], key: Callable[[Finding], _Key]
) -> dict[_Key, list[Finding]]:
    groups: dict[_Key, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(key(finding), []).append(finding)
    return groups


def _subjects(findings: Iterable[Finding]) -> str:
    """Name the devices, each once; empty for the node itself, and where the code says it."""
    return name_runs(
        dict.fromkeys(
            finding.subject
            for finding in findings
            if finding.subject and not finding.code.startswith(f"{finding.subject.upper()}-")
        )
    )


def add_failures(page: Page, against: Sequence[Finding], *, verbose: bool = False) -> None:
    """Add the findings that keep a verdict from being trusted: failed, then not checked.

    Checks that could not be made for one and the same reason are told together, since the
    reason is mostly an earlier failure.

    Args:
        page: where to.
        against: the findings, failed ones first (`Verdict.failures`).
        verbose: name every check that could not be made.
    """
    failed = [finding for finding in against if finding.state is State.FAIL]
    if failed:
        by_code = _grouped(failed, lambda finding: finding.code)
        page.heading(f"Failed ({_count(len(by_code), len(failed))})", Style.BAD)
        for findings in by_code.values():
            _add_failed(page, findings)
    unmade = against[len(failed) :]
    if unmade:
        codes = {finding.code for finding in unmade}
        page.heading(f"Not checked ({_count(len(codes), len(unmade))})", Style.WARN)
        advised: set[str] = set()
        by_reason = _grouped(unmade, _reason if verbose else _alike)
        for findings in by_reason.values():
            # Behind a failure, the missing checks are its consequence: the advice is there.
            advice = () if failed else _new_advice(findings, advised)
            _add_unchecked(page, findings, advice, verbose=verbose)


_IDENTITY = re.compile(r"[0-9A-Fa-f]{16,}")


def _reason(finding: Finding) -> str:
    return finding.found or "no reason was given"


def _alike(finding: Finding) -> str:
    """Return the reason without the identities in it: eight GPUs have eight certificates."""
    return _IDENTITY.sub("#", _reason(finding)) if finding.subject else _reason(finding)


def _count(codes: int, findings: int) -> str:
    """Say how many; one check of eight devices counts once, and the eight are told."""
    if codes == findings:
        return str(codes)
    return f"{codes} check{'s' if codes > 1 else ''}, {findings} findings"


def _add_failed(page: Page, findings: Sequence[Finding]) -> None:
    """Add one check that failed, of one or several devices."""
    code = findings[0].code
    mark, style = STATE_MARKS[State.FAIL]
    check = find_check(code)
    page.spans(
        (f"{mark} ", style),
        (code, Style.STRONG),
        (f"  {check.title if check else _UNKNOWN}", None),
        indent=2,
    )
    rows: list[tuple[str, Cell]] = [
        ("of", _subjects(findings)),
        ("expected", _each(findings, lambda finding: finding.expected)),
        ("found", _each(findings, lambda finding: finding.found)),
        ("where", _each(findings, lambda finding: finding.where)),
        ("what to do", check.fix if check else "Update ccverify."),
    ]
    page.rows([row for row in rows if row[1]], indent=4, styles=(Style.DIM,))


def _each(findings: Sequence[Finding], value: Callable[[Finding], str | None]) -> Cell:
    """Return what all findings say, or what each device's says where they differ."""
    groups = _grouped(findings, value)
    if len(groups) == 1:
        return _items(next(iter(groups)) or "")
    return tuple(
        f"{_subjects(same) or 'node'}: {text}" for text, same in groups.items() if text is not None
    )


def _items(found: str) -> Cell:
    """Part a long enumeration, such as TCB shortfalls; see `ccverify.policy.judge`."""
    items = tuple(found.split("; "))
    return items if len(found) > _ENUMERATION and len(items) > 1 else found


def _add_unchecked(
    page: Page, findings: Sequence[Finding], advice: Iterable[str], *, verbose: bool
) -> None:
    mark, style = STATE_MARKS[State.NOT_CHECKED]
    codes = list(dict.fromkeys(finding.code for finding in findings))
    shown = ", ".join(codes if verbose else codes[:_CODES_NAMED])
    if len(codes) > _CODES_NAMED and not verbose:
        shown += f" and {len(codes) - _CODES_NAMED} more"
    reasons = _grouped(findings, _reason)
    first, alike = next(iter(reasons.items()))
    page.rows([(mark, first)], indent=2, styles=(style,))
    names = _subjects(findings)
    if len(reasons) > 1:
        names += f" (the reason shown is that of {_subjects(alike)}; the others are like it)"
    rows = [
        ("checks" if len(codes) > 1 else "check", shown),
        *([("of", names)] if names else []),
        *(("what to do", text) for text in advice),
    ]
    page.rows(rows, indent=5, styles=(Style.DIM,))


def _new_advice(findings: Iterable[Finding], advised: set[str]) -> list[str]:
    """Choose advice on checks that could not be made, each piece once.

    What is missing then is collateral, or a word of the caller or the policy.  The advice of
    other checks is meant for a machine that failed them.
    """
    fresh = []
    for finding in findings:
        check = find_check(finding.code)
        if check is None or check.need is Need.ALWAYS:
            continue
        if check.category is not Category.COLLATERAL and check.fix not in advised:
            fresh.append(check.fix)
            advised.add(check.fix)
    if _FETCH not in advised and any(map(_is_collateral, findings)):
        fresh.append(_FETCH)
        advised.add(_FETCH)
    return fresh


def _is_collateral(finding: Finding) -> bool:
    check = find_check(finding.code)
    return check is not None and check.category is Category.COLLATERAL


def add_all_findings(page: Page, findings: Sequence[Finding]) -> None:
    """Add every finding by group; what is the same of several devices is one row."""
    page.heading(f"All findings ({len(findings)})")
    code_width = max((len(finding.code) for finding in findings), default=0)
    same = _grouped(findings, lambda finding: finding._replace(subject=None))
    group = ""
    for finding, alike in sorted(same.items(), key=lambda one: group_index(one[0].code)):
        if group_of(finding.code) != group:
            group = group_of(finding.code)
            page.paragraph(group, indent=2, style=Style.STRONG)
        mark, style = STATE_MARKS[finding.state]
        names = _subjects(alike)
        text = f"{names}: " if names else ""
        text += finding.found or "as expected"
        if finding.where:
            text += f", at {finding.where}"
        if finding.state is State.PASS:
            text += f" [{finding.assurance.value}]"
        row = (mark, finding.code.ljust(code_width), text)
        page.rows([row], indent=4, styles=(style, None, Style.DIM))
