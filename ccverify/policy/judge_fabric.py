"""The guest's observation of the fabric, held against signed evidence and the policy.

What the driver relays from the Fabric Manager is the host's word, whoever relays it.  A finding
that rests on such a value is `asserted`; one that rests on what the driver reads from its own
GPUs is as good as the observation; none is ever `hardware` but the mode, which GPUs sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ccverify.fabric.consistency_model import (
    NOT_STATED,
    AttestedGpu,
    FabricCode,
    FabricConsistency,
)
from ccverify.fabric.observation import Absent, FabricObservation
from ccverify.findings import Assurance, FindingList
from ccverify.listing import listed
from ccverify.policy.model import FabricPolicy, GivenRule, HealthRule

__all__ = ["MANAGERS_WORD", "STRENGTH", "Observed", "judge_fabric", "judge_floors", "weaker"]

STRENGTH: Final = {level: -place for place, level in enumerate(Assurance)}
"""Assurance → a number that is greater for a stronger one."""

MANAGERS_WORD: Final = frozenset({FabricCode.CLIQUE, FabricCode.STATE, FabricCode.HEALTH})
"""Rules on values that the driver has from the Fabric Manager, unauthenticated."""

_OBSERVATION, _MODE, _PARTITION, _ASSURANCE = (
    "FABRIC-OBSERVATION",
    "FABRIC-MODE",
    "FABRIC-PARTITION",
    "FABRIC-ASSURANCE",
)
_FABRIC_ONLY: Final = frozenset(
    {FabricCode.CLIQUE, FabricCode.STATE, FabricCode.LINKS, FabricCode.MODULE}
)
"""Rules that mean nothing for GPUs which are not connected to each other."""
_GAP_IS_SILENCE: Final = frozenset({FabricCode.MODULE, FabricCode.VERSIONS})
"""Rules that need a value which some drivers do not have."""
_MAX_NAMED: Final = 8
_joined = partial(listed, most=_MAX_NAMED)


@dataclass(frozen=True, slots=True)
class Observed:
    """An observation, read and held against the attested GPUs.

    Attributes:
        observation: None where there is none, or it is not readable or not judged.
        consistency: None exactly where `observation` is None.
        level: what rests on it that the driver itself reads: `measured` or `asserted`.
        problem: why a given one is not readable; expected, found and place.
        absence: why there is none.
    """

    observation: FabricObservation | None
    consistency: FabricConsistency | None
    level: Assurance
    problem: tuple[str, str, str | None] | None = None
    absence: str = ""


def weaker(one: Assurance, other: Assurance) -> Assurance:
    """The weaker of two."""
    return min(one, other, key=STRENGTH.__getitem__)


def judge_fabric(
    policy: FabricPolicy, observed: Observed, gpus: Sequence[AttestedGpu], device: Assurance
) -> FindingList:
    """Judge everything but the floors, which need the claims.

    Args:
        policy: the section ``fabric``.
        observed: what came of the observation.
        gpus: the GPUs whose report is genuine.
        device: the weakest assurance of the GPUs.
    """
    findings = FindingList("fabric")
    _judge_mode(findings, policy, gpus, device)
    reason = _judge_observation(findings, policy, observed)
    if observed.observation is None or observed.consistency is None:
        waived = policy.observation is not GivenRule.REQUIRED and observed.problem is None
        for code in (*(each.value for each in FabricCode), _PARTITION):
            if waived or (code == _PARTITION and not policy.names_partition):
                findings.not_applicable(code, reason)
            else:
                findings.skipped(code, reason)
        return findings
    modes = {gpu.mode for gpu in gpus}
    for rule in FabricCode:
        if waiver := _waiver(rule, policy, observed.consistency, modes):
            findings.not_applicable(rule.value, waiver)
        else:
            _judge_rule(findings, rule, policy, observed, observed.consistency)
    _judge_partition(findings, policy, observed.observation)
    return findings


def _judge_mode(
    findings: FindingList, policy: FabricPolicy, gpus: Sequence[AttestedGpu], device: Assurance
) -> None:
    modes = sorted({gpu.mode for gpu in gpus})
    if policy.mode is None:
        findings.not_applicable(_MODE, f"the policy names no mode: {', '.join(modes) or 'none'}")
    elif not gpus:
        findings.skipped(_MODE, "no GPU report is genuine")
    elif modes == [policy.mode]:
        findings.passed(_MODE, f"{policy.mode} on {len(gpus)} GPUs", assurance=device)
    elif modes == [NOT_STATED]:
        findings.skipped(_MODE, "the signed reports name no mode, and what NVML says is unsigned")
    else:
        found = ", ".join(f"{gpu.subject} {gpu.mode}" for gpu in gpus if gpu.mode != policy.mode)
        findings.failed(_MODE, f"{policy.mode} on every GPU", found, assurance=device)


def _judge_observation(findings: FindingList, policy: FabricPolicy, observed: Observed) -> str:
    """Judge whether it is there; return the reason why what rests on it cannot be judged."""
    observation = observed.observation
    if policy.observation is GivenRule.ANY:
        reason = "the policy leaves the observation aside"
        findings.not_applicable(_OBSERVATION, reason)
    elif observed.problem is not None:
        expected, found, where = observed.problem
        findings.failed(_OBSERVATION, expected, found, where)
        reason = "the observation is not readable"
    elif observation is None:
        reason = f"there is no observation of the fabric{observed.absence}"
        if policy.observation is GivenRule.REQUIRED:
            findings.skipped(_OBSERVATION, reason)
        else:
            findings.not_applicable(_OBSERVATION, reason)
    else:
        driver = observation.driver
        version = "of unknown version" if isinstance(driver, Absent) else driver
        reason = f"driver {version} reports {len(observation.gpus)} GPUs"
        findings.passed(_OBSERVATION, reason, assurance=observed.level)
    return reason


def _waiver(
    rule: FabricCode, policy: FabricPolicy, consistency: FabricConsistency, modes: set[str]
) -> str:
    """Why a rule is not judged; empty if it is."""
    waived = {
        FabricCode.STATE: not policy.state_required,
        FabricCode.HEALTH: policy.health is HealthRule.ANY,
        FabricCode.LINKS: not policy.links_required,
        FabricCode.NVLE: not policy.nvle_required,
    }
    if waived.get(rule):
        return "the policy leaves it aside"
    if rule is FabricCode.NVLE and "MPT" not in modes:
        return "no GPU signed multi-GPU mode (MPT)"
    asked = rule is FabricCode.LINKS and policy.active_links is not None
    if rule in _FABRIC_ONLY and not consistency.shared and not asked:
        return "GPUs in single-GPU mode, or one alone, share no fabric"
    return ""


def _judge_rule(
    findings: FindingList,
    rule: FabricCode,
    policy: FabricPolicy,
    observed: Observed,
    consistency: FabricConsistency,
) -> None:
    problems, gaps = consistency.problems_of(rule), consistency.gaps_of(rule)
    level = observed.level
    if rule in MANAGERS_WORD:
        level = weaker(level, Assurance.ASSERTED)
    if problems:
        text = _joined(f"{each.where}: {each.found}" for each in problems)
        findings.failed(rule.value, problems[0].expected, text, problems[0].where, level)
    elif gaps:
        reason = _joined(f"{each.where}: {each.reason}" for each in gaps)
        silent = rule in _GAP_IS_SILENCE
        silent |= rule is FabricCode.HEALTH and policy.health is HealthRule.IF_STATED
        silent |= rule is FabricCode.MODE_AGREES and gaps[0].where == "GPUs"
        if silent:
            findings.not_applicable(rule.value, reason)
        else:
            findings.skipped(rule.value, reason)
    else:
        findings.passed(rule.value, _passed(rule, observed, consistency), None, level)


def _passed(rule: FabricCode, observed: Observed, consistency: FabricConsistency) -> str:
    gpus = observed.observation.gpus if observed.observation else ()
    if rule is FabricCode.IDENTITY and consistency.order is not None:
        return f"{len(consistency.matches)} PDIs match, in byte order {consistency.order.value}"
    return f"{len(gpus)} GPUs"


def _judge_partition(
    findings: FindingList, policy: FabricPolicy, observation: FabricObservation
) -> None:
    if not policy.names_partition:
        findings.not_applicable(_PARTITION, "the policy describes no partition")
        return
    expected, problems, gaps = [], [], []
    if policy.size is not None:
        expected.append(f"{policy.size} GPUs")
        if len(observation.gpus) != policy.size:
            problems.append(f"{len(observation.gpus)} GPUs")
    if policy.clique_ids is not None:
        expected.append(f"cliques among {_joined(map(str, sorted(policy.clique_ids)))}")
    if policy.cluster_uuids is not None:
        listed = _joined(uuid.hex() for uuid in sorted(policy.cluster_uuids))
        expected.append(f"a cluster among {listed}")
    for gpu in observation.gpus:
        where, info = f"gpus[{gpu.index}]", gpu.fabric
        if policy.clique_ids is None and policy.cluster_uuids is None:
            break
        if isinstance(info, Absent):
            gaps.append(f"{where}: the driver says nothing of the fabric ({info.code})")
            continue
        ids = {clique.id for clique in info.cliques}
        if policy.clique_ids is not None and (not ids or ids - policy.clique_ids):
            problems.append(f"{where}: clique {_joined(map(str, sorted(ids))) or 'none'}")
        uuids = policy.cluster_uuids
        if uuids is not None and bytes.fromhex(info.cluster_uuid) not in uuids:
            problems.append(f"{where}: cluster {info.cluster_uuid}")
    if problems:
        text = _joined(problems)
        findings.failed(_PARTITION, ", ".join(expected), text, None, Assurance.ASSERTED)
    elif gaps:
        findings.skipped(_PARTITION, _joined(gaps))
    else:
        findings.passed(_PARTITION, ", ".join(expected), None, Assurance.ASSERTED)


def judge_floors(
    floors: Mapping[str, Assurance], assurance: Mapping[str, Assurance], findings: FindingList
) -> None:
    """Judge whether every claim is as well proven as the policy asks."""
    if not floors:
        findings.not_applicable(_ASSURANCE, "the policy states no floors")
        return
    low = {
        name: assurance[name]
        for name, floor in sorted(floors.items())
        if STRENGTH[assurance[name]] < STRENGTH[floor]
    }
    weakest = min(
        (assurance[name] for name in floors), key=STRENGTH.__getitem__, default=Assurance.NONE
    )
    if low:
        expected = ", ".join(f"{name}: {floors[name].value}" for name in low)
        found = ", ".join(f"{name}: {level.value}" for name, level in low.items())
        findings.failed(_ASSURANCE, f"at least {expected}", found, None, weakest)
    else:
        found = ", ".join(f"{name}: {assurance[name].value}" for name in sorted(floors))
        findings.passed(_ASSURANCE, found, None, weakest)
