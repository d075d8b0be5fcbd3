"""Findings → one appraisal for each part of a node: vector, tier, and the reasons for it.

Nothing is affirmed but what passed on signed ground, under the vendors' own roots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ccverify.checks import Category, find_check
from ccverify.findings import Assurance, Finding, State
from ccverify.results.ear_table import AFFIRMED, PARTS, Part, Row, Tier, tier_of
from ccverify.results.verdict import Verdict, is_needed
from ccverify.trust.store import TrustKind

__all__ = ["Appraisal", "appraise_parts", "kind_of"]

_SIGNED = (Assurance.HARDWARE, Assurance.MEASURED)
_KNOWN_VULNERABILITIES = 32
_UP_TO_DATE = "UpToDate"
_DEVICES = ("gpu", "nvswitch")
_EXPOSED = 96


@dataclass(frozen=True, slots=True)
class Appraisal:
    """The appraisal of one part.

    Attributes:
        label: ``tdx``, ``gpu-0``, ``nvswitch-3``, ``fabric``; ``node`` where nothing was judged.
        tier: never of higher trust than any claim of the vector.
        vector: AR4SI claim → value; at least one.
        failed: codes of the checks that failed, those of the node as a whole included.
        open: codes of the checks that could not be made.
    """

    label: str
    tier: Tier
    vector: Mapping[str, int]
    failed: tuple[str, ...]
    open: tuple[str, ...]


def kind_of(label: str) -> str:
    """``gpu`` of ``gpu-0``; the other labels are their own kind."""
    return label.rpartition("-")[0] or label


def appraise_parts(verdict: Verdict) -> tuple[tuple[Appraisal, ...], Tier]:
    """Return an appraisal of every part, and the tier of the node as a whole."""
    parts: dict[str, list[Finding]] = {}
    common = []
    for finding in verdict.findings:
        label = _label(finding)
        if label is None:
            common.append(finding)
        else:
            parts.setdefault(label, []).append(finding)
    production = verdict.inputs["trust_store"]["kind"] == TrustKind.PRODUCTION.value
    believed = production and not verdict.simulated
    made = [_appraise(verdict, label, parts[label], common, believed) for label in parts]
    devices = [each for each in made if kind_of(each.label) in _DEVICES]
    if any(each.tier not in (Tier.AFFIRMING, Tier.WARNING) for each in devices):
        # Links between devices are no better known than the devices.
        made = [_unaffirmed(each) if each.label == "fabric" else each for each in made]
    if not made:
        made = [Appraisal("node", _status(common), {"hardware": 0}, *_reasons(common))]
    overall = max(each.tier for each in made)
    if overall < Tier.CONTRAINDICATED and not verdict.trusted:
        overall = Tier.CONTRAINDICATED if _status(verdict.findings) else Tier.NONE
    if any(each.tier is Tier.NONE for each in made) and overall < Tier.CONTRAINDICATED:
        overall = Tier.NONE
    return tuple(made), overall


def _unaffirmed(part: Appraisal) -> Appraisal:
    if part.tier is Tier.CONTRAINDICATED:
        return part
    return replace(part, tier=Tier.NONE, vector=dict.fromkeys(part.vector, 0))


def _label(finding: Finding) -> str | None:
    """The submodule that a finding is about; None: the node as a whole."""
    if finding.subject and kind_of(finding.subject) in _DEVICES:
        kind = kind_of(finding.subject)
        return finding.subject if _row_of(PARTS[kind], finding.code) else None
    for kind in ("tdx", "fabric"):
        if _row_of(PARTS[kind], finding.code):
            return kind
    return None


def _row_of(part: Part, code: str) -> Row | None:
    for row in part.rows:
        for pattern in row.codes:
            if code == pattern or (pattern[-1] == "*" and code.startswith(pattern[:-1])):
                return row
    return None


def _appraise(
    verdict: Verdict,
    label: str,
    findings: Sequence[Finding],
    common: Sequence[Finding],
    believed: bool,
) -> Appraisal:
    part = PARTS[kind_of(label)]
    supports: dict[str, list[tuple[Row, Finding]]] = {}
    for finding in findings:
        row = _row_of(part, finding.code)
        if row is not None and row.claim is not None:
            supports.setdefault(row.claim, []).append((row, finding))
    vector = {}
    for claim in AFFIRMED:
        value = _claim(claim, supports.get(claim, ()))
        if value is not None:
            vector[claim] = value
    if label == "tdx":
        _adjust_tdx(verdict, vector)
    anchored = believed and tier_of(vector.get(part.anchor, 0)) in (Tier.AFFIRMING, Tier.WARNING)
    if not anchored:
        # What nothing genuine stands behind can be refused, and never affirmed.
        vector = {c: v if tier_of(v) is Tier.CONTRAINDICATED else 0 for c, v in vector.items()}
    vector.setdefault(part.anchor, 0)
    concerned = (*findings, *common)
    tier = max(*map(tier_of, vector.values()), _status(concerned))
    if tier < Tier.CONTRAINDICATED and (not anchored or not _complete(concerned)):
        # A reader who accepts warnings must not take an unfinished appraisal for one.
        tier = Tier.NONE
        vector = {c: 0 if tier_of(v) is Tier.WARNING else v for c, v in vector.items()}
    return Appraisal(label, tier, vector, *_reasons(concerned))


def _claim(claim: str, supports: Sequence[tuple[Row, Finding]]) -> int | None:
    """The value of one claim; None where the policy asks for nothing that it rests on."""
    failed = [row.on_fail for row, finding in supports if _against(finding, State.FAIL)]
    if failed:
        return max(failed)
    if any(_against(finding, State.NOT_CHECKED) for _, finding in supports):
        return 0
    needed = [finding for row, finding in supports if row.needed]
    if not needed or any(finding.state is not State.PASS for finding in needed):
        return None
    return AFFIRMED[claim] if all(f.assurance in _SIGNED for f in needed) else 0


def _adjust_tdx(verdict: Verdict, vector: dict[str, int]) -> None:
    """What a policy may accept, and what AR4SI calls by its name all the same."""
    values = verdict.tdx.values if verdict.tdx else {}
    if vector.get("hardware") == AFFIRMED["hardware"] and values.get("tcb_status") != _UP_TO_DATE:
        vector["hardware"] = _KNOWN_VULNERABILITIES
    if "DEBUG" in values.get("td_attribute_names", ()):
        vector["configuration"] = vector["runtime-opaque"] = _EXPOSED
    # Memory is opaque because the hardware makes it so.
    hardware = tier_of(vector.get("hardware", 0))
    if hardware not in (Tier.AFFIRMING, Tier.WARNING) and vector.get("runtime-opaque") == 2:
        vector["runtime-opaque"] = 0


def _against(finding: Finding, state: State) -> bool:
    return finding.state is state and is_needed(finding)


def _status(findings: Iterable[Finding]) -> Tier:
    """Contraindicated if a check failed that speaks against the attester itself.

    Collateral that is missing or out of date says nothing about it, for better or worse.
    """
    for finding in findings:
        check = find_check(finding.code)
        collateral = check is not None and check.category is Category.COLLATERAL
        if _against(finding, State.FAIL) and not collateral:
            return Tier.CONTRAINDICATED
    return Tier.NONE


def _complete(findings: Iterable[Finding]) -> bool:
    return not any(
        finding.state in (State.FAIL, State.NOT_CHECKED) and is_needed(finding)
        for finding in findings
    )


def _reasons(findings: Sequence[Finding]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    failed = dict.fromkeys(f.code for f in findings if _against(f, State.FAIL))
    missing = dict.fromkeys(f.code for f in findings if _against(f, State.NOT_CHECKED))
    return tuple(failed), tuple(missing)
