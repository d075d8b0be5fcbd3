"""The verdict: every finding weighed, every claim and every input on record.

A verdict is a pure function of its inputs; the same inputs give the same bytes again
(`Verdict.to_json`, format in docs/spec/verdict.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from ccverify.checks import CHECKS, Category, Need, Scope, find_check
from ccverify.clock_text import utc_text
from ccverify.findings import Finding, State
from ccverify.nvidia.claims import DeviceClaims
from ccverify.tdx.claims import TdxClaims

__all__ = [
    "VERDICT_SCHEMA",
    "Conclusion",
    "Subjects",
    "Verdict",
    "conclude",
    "counts_against",
    "finding_json",
    "is_needed",
]

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
        tdx: claims about the TD; None when there is none, or its quote did not parse.
        gpus: claims about each GPU that was judged.
        nvswitches: claims about each NVSwitch that was judged.
        topology: how the devices are connected; None where that was not judged.
        fabric: what is known of the NVLink fabric; None where that was not judged.
        binding: what ties the evidence to the request; None for a bare quote.
        bundle: what the bundle says of itself; None where the evidence came in none.
        label: which node of a response this is; empty where there is but one.
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
    gpus: tuple[DeviceClaims, ...] = ()
    nvswitches: tuple[DeviceClaims, ...] = ()
    topology: Mapping[str, Any] | None = None
    binding: Mapping[str, Any] | None = None
    label: str = ""
    bundle: Mapping[str, Any] | None = None
    fabric: Mapping[str, Any] | None = None

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
            "node": self.label,
            "policy": dict(self.policy),
            "findings": [finding_json(finding) for finding in self.findings],
            "claims": self._claims_json(),
            "inputs": dict(self.inputs),
        }

    def _claims_json(self) -> dict[str, Any]:
        claims: dict[str, Any] = {}
        if self.tdx:
            claims["tdx"] = self.tdx.to_json()
        for name, devices in (("gpus", self.gpus), ("nvswitches", self.nvswitches)):
            if devices:
                claims[name] = [device.to_json() for device in devices]
        for name, values in self._plain_claims():
            if values is not None:
                claims[name] = dict(values)
        return claims

    def _plain_claims(self) -> tuple[tuple[str, Mapping[str, Any] | None], ...]:
        return (
            ("topology", self.topology),
            ("fabric", self.fabric),
            ("binding", self.binding),
            ("bundle", self.bundle),
        )

    def dumps(self) -> str:
        """Return `to_json` as text, the same bytes for the same verdict."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


Subjects = Mapping[Scope, Sequence[str | None]]
"""Scope → the subjects a verdict covers: one needs every check of that scope."""

ONE_TD: Subjects = {Scope.NODE: (None,), Scope.TDX: (None,)}
"""A node with one TD and no devices."""


def conclude(
    findings: Iterable[Finding], subjects: Subjects = ONE_TD
) -> tuple[tuple[Finding, ...], Conclusion, int]:
    """Weigh findings: sort them by registry order, add the missing, and conclude.

    A needed check that nobody made counts as NOT_CHECKED, so that a programming error can
    never widen what is trusted.
    """
    listed = list(findings)
    present = {(finding.code, finding.subject) for finding in listed}
    some = {finding.code for finding in listed}
    for scope, names in subjects.items():
        for code in _NEEDED[scope]:
            # Checks of the node as a whole may speak of several subjects, but of at least one.
            for name in names:
                if (code, name) not in present and (scope is not Scope.NODE or code not in some):
                    reason = "an earlier step ended the verification"
                    listed.append(Finding(code, State.NOT_CHECKED, found=reason, subject=name))
    listed.sort(key=_position)
    against = [f for f in listed if f.state is not State.PASS and counts_against(f)]
    failed = [_category(f) for f in against if f.state is State.FAIL]
    if failed:
        return tuple(listed), Conclusion.UNTRUSTED, int(min(failed))
    if against:
        missing = any(_category(f) is Category.COLLATERAL for f in against)
        exit_code = int(Category.COLLATERAL) if missing else EXIT_INCOMPLETE
        return tuple(listed), Conclusion.INCOMPLETE, exit_code
    return tuple(listed), Conclusion.TRUSTED, 0


def _position(finding: Finding) -> tuple[int, int, str]:
    subject = finding.subject or ""
    return _ORDER.get(finding.code, len(_ORDER)), len(subject), subject


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


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as it stands in a verdict."""
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
        "subject": finding.subject,
    }


_ORDER = {check.code: position for position, check in enumerate(CHECKS)}
_NEEDED = {
    scope: tuple(
        check.code
        for check in CHECKS
        if check.scope is scope and check.need in (Need.ALWAYS, Need.UNLESS_WAIVED)
    )
    for scope in Scope
}
