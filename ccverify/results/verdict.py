"""The verdict: every finding weighed, every claim and every input on record.

A verdict is a pure function of its inputs; the same inputs give the same bytes again
(`Verdict.to_json`, format in docs/spec/verdict.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from ccverify.checks import CHECKS, Category, Need, find_check
from ccverify.clock_text import utc_text
from ccverify.findings import Finding, State
from ccverify.tdx.claims import TdxClaims

__all__ = ["VERDICT_SCHEMA", "Conclusion", "Verdict", "conclude", "counts_against", "is_needed"]

VERDICT_SCHEMA = "ccverify.verdict/v1"

EXIT_INCOMPLETE = 6
EXIT_NOTHING = 10


class Conclusion(str, Enum):
    """What a verdict comes to."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        conclusion: trusted only if every needed check passed.
        exit_code: 0 trusted, 2 malformed, 3 not authentic, 4 policy not met, 5 collateral,
            6 incomplete, 10 nothing to check (docs/verdicts.md).
        evaluated_at: the evaluation time, UTC.
        simulated: whether the trust anchors are the simulator's: then nothing real is proven.
        findings: every finding, in the order of the registry.
        tdx: claims about the TD; None when the quote did not parse.
        policy: name and digest of the policy.
        inputs: digests of everything that entered.
    """

    conclusion: Conclusion
    exit_code: int
    evaluated_at: datetime
    simulated: bool
    findings: tuple[Finding, ...]
    tdx: TdxClaims | None
    policy: Mapping[str, str]
    inputs: Mapping[str, Any]

    @property
    def trusted(self) -> bool:
        """Whether the verdict is `trusted`."""
        return self.conclusion is Conclusion.TRUSTED

    def failures(self) -> tuple[Finding, ...]:
        """The findings that keep the verdict from being trusted, failed ones first."""
        against = [finding for finding in self.findings if counts_against(finding)]
        return tuple(sorted(against, key=lambda finding: finding.state is not State.FAIL))

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready values, in a fixed order of members."""
        return {
            "schema": VERDICT_SCHEMA,
            "verdict": self.conclusion.value,
            "exit_code": self.exit_code,
            "simulated": self.simulated,
            "evaluated_at": utc_text(self.evaluated_at),
            "policy": dict(self.policy),
            "findings": [_finding_json(finding) for finding in self.findings],
            "claims": {"tdx": self.tdx.to_json()} if self.tdx else {},
            "inputs": dict(self.inputs),
        }

    def dumps(self) -> str:
        """Return `to_json` as text, the same bytes for the same verdict."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


def conclude(findings: Iterable[Finding]) -> tuple[tuple[Finding, ...], Conclusion, int]:
    """Weigh findings: sort them by registry order, add the missing, and conclude.

    A needed check that nobody made counts as NOT_CHECKED, so that a programming error can
    never widen what is trusted.
    """
    listed = list(findings)
    present = {finding.code for finding in listed}
    listed += [
        Finding(code, State.NOT_CHECKED, found="an earlier step ended the verification")
        for code in _NEEDED
        if code not in present
    ]
    listed.sort(key=_position)
    against = [f for f in listed if f.state is not State.PASS and counts_against(f)]
    failed = [_category(f) for f in against if f.state is State.FAIL]
    if failed:
        return tuple(listed), Conclusion.UNTRUSTED, int(min(failed))
    if against:
        missing = any(_category(f) is Category.COLLATERAL for f in against)
        code = int(Category.COLLATERAL) if missing else EXIT_INCOMPLETE
        return tuple(listed), Conclusion.INCOMPLETE, code
    return tuple(listed), Conclusion.TRUSTED, 0


def _position(finding: Finding) -> int:
    return _ORDER.get(finding.code, len(_ORDER))


def counts_against(finding: Finding) -> bool:
    """Whether this finding keeps a verdict from being trusted."""
    return finding.state is not State.PASS and is_needed(finding)


def is_needed(finding: Finding) -> bool:
    """Whether the verdict depends on this check, for this evidence and policy."""
    check = find_check(finding.code)
    if check is None:
        return True
    if check.need is Need.ADVICE:
        return False
    return finding.state is not State.NOT_APPLICABLE or not check.applies


def _category(finding: Finding) -> Category:
    check = find_check(finding.code)
    return check.category if check else Category.EVIDENCE


def _finding_json(finding: Finding) -> dict[str, Any]:
    check = find_check(finding.code)
    return {
        "code": finding.code,
        "state": finding.state.value,
        "title": check.title if check else finding.code,
        "needed": is_needed(finding),
        "expected": finding.expected,
        "found": finding.found,
        "where": finding.where,
        "assurance": finding.assurance.value,
    }


_ORDER = {check.code: position for position, check in enumerate(CHECKS)}
_NEEDED = tuple(check.code for check in CHECKS if check.need in (Need.ALWAYS, Need.UNLESS_WAIVED))
