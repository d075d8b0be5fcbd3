"""What the guest measured over NVLink, held against the policy's bands."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Final

from ccverify.fabric.probe import ProbeReport
from ccverify.fabric.probe_rules import ProbeBands, ProbeCode, appraise_probe
from ccverify.findings import Assurance, FindingList
from ccverify.listing import listed
from ccverify.policy.model import FabricPolicy, GivenRule

__all__ = ["Probed", "judge_probe"]

_PROBE: Final = "FABRIC-PROBE"
_MAX_NAMED: Final = 6
_joined = partial(listed, most=_MAX_NAMED)


@dataclass(frozen=True, slots=True)
class Probed:
    """Measurements, read.

    Attributes:
        report: None where there are none, or they cannot be read.
        level: what they rest on: `measured` or `asserted`.
        problem: why given ones cannot be read; expected, found and place.
        absence: why there are none.
    """

    report: ProbeReport | None
    level: Assurance
    problem: tuple[str, str, str | None] | None = None
    absence: str = ""


def judge_probe(policy: FabricPolicy, probed: Probed, uuids: Collection[str]) -> FindingList:
    """Judge measurements.

    Args:
        policy: the section ``fabric``.
        probed: what came of them.
        uuids: GPUs of the observation, by their UUIDs.
    """
    findings = FindingList("fabric")
    rule, bands, report = policy.probe.rule, policy.probe.bands, probed.report
    required = rule is GivenRule.REQUIRED
    if rule is GivenRule.ANY:
        reason, required = "the policy leaves measurements aside", False
        findings.not_applicable(_PROBE, reason)
    elif probed.problem is not None:
        expected, found, where = probed.problem
        findings.failed(_PROBE, expected, found, where)
        reason, required = "the measurements are not readable", True
    elif report is None:
        reason = f"there are no measurements over NVLink{probed.absence}"
        if required:
            findings.skipped(_PROBE, reason)
        else:
            findings.not_applicable(_PROBE, reason)
    else:
        found = f"{len(report.gpus)} GPUs, {len(report.pairs)} ordered pairs"
        findings.passed(_PROBE, found, None, probed.level)
        _judge_bands(findings, report, bands, probed.level, uuids)
        return findings
    for code in ProbeCode:
        if required and _asked(code, bands):
            findings.skipped(code.value, reason)
        else:
            findings.not_applicable(code.value, reason)
    return findings


def _asked(code: ProbeCode, bands: ProbeBands) -> bool:
    speeds = (bands.min_one_way, bands.min_both_ways, bands.max_spread)
    return {
        ProbeCode.ACCESS: bands.access,
        ProbeCode.BANDWIDTH: any(each is not None for each in speeds),
        ProbeCode.LATENCY: not (bands.max_copy_us is None and bands.max_read_us is None),
        ProbeCode.TRAFFIC: bands.traffic,
    }[code]


def _judge_bands(
    findings: FindingList,
    report: ProbeReport,
    bands: ProbeBands,
    level: Assurance,
    uuids: Collection[str],
) -> None:
    came = appraise_probe(report, bands, uuids=uuids)
    for code in ProbeCode:
        problems, gaps = came.problems_of(code), came.gaps_of(code)
        if not _asked(code, bands):
            findings.not_applicable(code.value, "the policy asks for nothing of it")
        elif max(len(report.gpus), len(set(uuids))) < 2 and not problems:
            findings.not_applicable(code.value, "one GPU alone has nobody to talk to")
        elif problems:
            text = _joined([f"{one.where}: {one.found}" for one in problems])
            first = problems[0]
            findings.failed(code.value, first.expected, text, first.where, level)
        elif gaps:
            findings.skipped(code.value, _joined([f"{one.where}: {one.reason}" for one in gaps]))
        else:
            findings.passed(code.value, f"{len(report.pairs)} ordered pairs", None, level)
