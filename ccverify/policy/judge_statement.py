"""What a fabric's manager states, held against the policy, the guest's evidence and itself.

Every finding here rests on the statement: on whoever bound its key, never on more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM
from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.partition_table import PartitionEntry
from ccverify.fabric.statement_diff import continuity_gaps, continuity_problems
from ccverify.fabric.statement_join import PartitionMatch
from ccverify.fabric.statement_model import (
    FabricStatement,
    Judged,
    StatementCode,
    StatementGap,
    StatementProblem,
)
from ccverify.fabric.statement_programs import version_numbers
from ccverify.findings import Assurance, Finding, FindingList
from ccverify.listing import listed
from ccverify.policy.judge_routing import Routed, judge_routing, skip_routing
from ccverify.policy.model import FabricPolicy, GivenRule
from ccverify.policy.stated import Fresh, Place, Stated, weakest
from ccverify.policy.versions import driver_accepted

__all__ = ["judge_statements"]

_STATEMENT, _KEY, _FRESH, _MANAGER, _SAME_HOST, _APART = (
    "FABRIC-STATEMENT",
    "FABRIC-STATEMENT-KEY",
    "FABRIC-STATEMENT-FRESH",
    "FABRIC-MANAGER",
    "FABRIC-SAME-HOST",
    "FABRIC-APART",
)
_EACH: Final = (_KEY, _FRESH, _MANAGER)
_RULES: Final = tuple(
    code
    for code in StatementCode
    if code not in (StatementCode.STATEMENT, StatementCode.ROUTING, StatementCode.CONTINUITY)
)
"""Rules on the manager itself; the other three are judged with what else they are about."""
_NO_WAIVERS: Final[Mapping[StatementCode, str]] = {}
_FUTURE_S: Final = 300
"""How far a statement's clock may be ahead."""
_MAX_NAMED: Final = 6
_joined = partial(listed, most=_MAX_NAMED)


def judge_statements(
    policy: FabricPolicy,
    stated: Sequence[Stated],
    rules: Sequence[Judged],
    match: PartitionMatch | None,
    routed: Routed,
    wanted: Fresh,
    devices: Sequence[bytes],
    place: Place,
    waivers: Mapping[StatementCode, str] = _NO_WAIVERS,
) -> FindingList:
    """Judge everything that statements say.

    Args:
        policy: the section ``fabric``.
        stated: every statement given, the earliest first.
        rules: what `ccverify.fabric.statement_rules` and the join yield for the latest.
        match: the tenant's partition in the latest; None where nothing was joined.
        routed: what its tables came to.
        wanted: what makes a statement fresh.
        devices: identities of the attested GPUs, 8 bytes each.
        place: what shows that the latest statement is about the tenant's board.
        waivers: rules that have no meaning for these GPUs, and why.
    """
    findings = FindingList("fabric")
    reason = _judge_presence(findings, policy, stated)
    if reason is not None:
        waived = policy.statement is not GivenRule.REQUIRED and not stated
        _skip_all(findings, policy, reason, waived=waived)
        _judge_apart(findings, policy, None, None, devices)
        return findings
    for one in stated:
        findings.add(_said_of(one.key, one, stated))
        findings.add(_said_of(one.manager, one, stated))
        _judge_fresh(findings, policy, one, wanted)
    last = stated[-1]
    statement = last.statement
    assert statement is not None  # noqa: S101  # `_judge_presence` saw to it
    if last.level is Assurance.NONE:
        _skip_rest(findings, policy, "the statement's key is not bound as it says", waived=False)
        _judge_apart(findings, policy, None, None, devices)
        return findings
    _judge_place(findings, policy, place, last.level)
    _judge_rules(findings, policy, statement, rules, match, last.level, waivers)
    _judge_continuity(findings, policy, stated, match.entry if match else None)
    tables = _problems(rules, StatementCode.ROUTING)
    judge_routing(findings, policy, statement, routed, tables, last.level)
    _judge_apart(findings, policy, match, routed, devices, last.level)
    return findings


def _judge_presence(
    findings: FindingList, policy: FabricPolicy, stated: Sequence[Stated]
) -> str | None:
    """Judge whether statements are there and readable; return why there is nothing to judge."""
    if policy.statement is GivenRule.ANY:
        reason = "the policy leaves statements of the manager aside"
        findings.not_applicable(_STATEMENT, reason)
        return reason
    if not stated:
        reason = "there is no statement of the fabric's manager"
        if policy.statement is GivenRule.REQUIRED:
            findings.skipped(_STATEMENT, reason)
        else:
            findings.not_applicable(_STATEMENT, reason)
        return reason
    for one in stated:
        if one.problem is not None:
            expected, found, where = one.problem
            findings.failed(_STATEMENT, expected, found, where)
            return "a statement cannot be read"
    own = [one for each in stated if each.statement for one in each.statement.problems]
    bad = _problems(own, StatementCode.STATEMENT)
    if bad:
        text = _joined(f"{one.where}: {one.found}" for one in bad)
        findings.failed(_STATEMENT, bad[0].expected, text, bad[0].where)
    else:
        found = ", ".join(f"SHA-384 {one.digest.hex()[:16]}…" for one in stated)
        findings.passed(_STATEMENT, found, None, weakest(stated))
    return None


def _problems(rules: Iterable[Judged], code: StatementCode) -> list[StatementProblem]:
    return [one for one in rules if isinstance(one, StatementProblem) and one.code is code]


def _skip_all(findings: FindingList, policy: FabricPolicy, reason: str, *, waived: bool) -> None:
    waived |= policy.statement is GivenRule.ANY
    for code in _EACH:
        if waived or (code == _MANAGER and policy.managers is None):
            findings.not_applicable(code, reason)
        else:
            findings.skipped(code, reason)
    _skip_rest(findings, policy, reason, waived=waived)


def _skip_rest(findings: FindingList, policy: FabricPolicy, reason: str, *, waived: bool) -> None:
    if waived or not policy.same_host_required:
        findings.not_applicable(_SAME_HOST, reason)
    else:
        findings.skipped(_SAME_HOST, reason)
    for code in (*_RULES, StatementCode.CONTINUITY):
        asked = _asked_alone(policy, code)
        if (waived and not asked) or (code is StatementCode.CONTINUITY and not asked):
            findings.not_applicable(code.value, reason)
        else:
            findings.skipped(code.value, reason)
    skip_routing(findings, policy, reason, waived=waived and not _routing_asked(policy))


def _asked_alone(policy: FabricPolicy, code: StatementCode) -> bool:
    """Whether the policy asks for something whether or not it asks for a statement."""
    if code is StatementCode.MODULES:
        return policy.partition_ids is not None
    return code is StatementCode.CONTINUITY and policy.continuity is GivenRule.REQUIRED


def _routing_asked(policy: FabricPolicy) -> bool:
    return policy.routing is GivenRule.REQUIRED or policy.routing_digests is not None


def _said_of(finding: Finding | None, one: Stated, stated: Sequence[Stated]) -> Finding:
    """A finding of one of several statements says which."""
    assert finding is not None  # noqa: S101  # a statement that is read has both
    if len(stated) == 1:
        return finding
    number = list(stated).index(one) + 1
    return finding._replace(found=f"statement {number} of {len(stated)}: {finding.found}")


def _judge_fresh(findings: FindingList, policy: FabricPolicy, one: Stated, wanted: Fresh) -> None:
    age = wanted.now - one.created
    if wanted.nonce is not None and one.nonce == wanted.nonce:
        findings.passed(_FRESH, "it answers the relying party's own nonce", None, one.level)
    elif wanted.epoch is not None and one.nonce == wanted.epoch:
        limit = policy.max_age_s
        if -_FUTURE_S <= age <= limit:
            findings.passed(_FRESH, f"it answers the epoch, {max(age, 0)} s old", None, one.level)
        else:
            expected = f"a statement of the epoch that is at most {limit} s old"
            findings.failed(_FRESH, expected, f"{age} s old", "manifest.created", one.level)
    elif wanted.waived:
        reason = f"the policy waives freshness: it answers {one.nonce.hex()}"
        findings.not_applicable(_FRESH, reason)
    elif wanted.nonce is None and wanted.epoch is None:
        findings.skipped(_FRESH, "neither a nonce of the relying party nor an epoch was given")
    else:
        expected = " or ".join(each.hex() for each in (wanted.nonce, wanted.epoch) if each)
        findings.failed(_FRESH, expected, one.nonce.hex(), "manifest.nonce")


def _judge_place(
    findings: FindingList, policy: FabricPolicy, place: Place, level: Assurance
) -> None:
    guids = place.guids
    expected = "the manager of the board that the tenant's GPUs are on"
    if place.same_platform:
        found = "its TDX quote is of the tenant's own platform"
        findings.passed(_SAME_HOST, found, None, level)
    elif place.same_platform is False:
        # Hardware says so; GUIDs, which nobody signs, cannot make up for it.
        findings.failed(_SAME_HOST, expected, "its TDX quote is of another platform", None, level)
    elif not guids.reason:
        found = f"it knows the GUIDs of all {guids.known} GPUs"
        findings.passed(_SAME_HOST, found, None, level)
    elif not policy.same_host_required:
        findings.not_applicable(_SAME_HOST, f"the policy leaves it aside: {guids.reason}")
    else:
        findings.skipped(_SAME_HOST, f"nothing ties it to the tenant's board: {guids.reason}")


# --- rules ---------------------------------------------------------------------------------------


def _judge_rules(
    findings: FindingList,
    policy: FabricPolicy,
    statement: FabricStatement,
    rules: Sequence[Judged],
    match: PartitionMatch | None,
    level: Assurance,
    waivers: Mapping[StatementCode, str],
) -> None:
    every = [*rules, *_asked(policy, statement), *_partition_asked(policy, match)]
    if not policy.manager.log_required:
        waivers = {**waivers, StatementCode.LOG: "the policy leaves it aside"}
    for code in _RULES:
        if code in waivers:
            findings.not_applicable(code.value, waivers[code])
            continue
        problems = _problems(every, code)
        gaps = [r for r in every if isinstance(r, StatementGap) and r.code is code]
        if problems:
            text = _joined(f"{one.where}: {one.found}" for one in problems)
            first = problems[0]
            findings.failed(code.value, first.expected, text, first.where, level)
        elif gaps:
            reason = _joined(f"{one.where}: {one.reason}" for one in gaps)
            if policy.statement is not GivenRule.REQUIRED and not _asked_alone(policy, code):
                findings.not_applicable(code.value, reason)
            else:
                findings.skipped(code.value, reason)
        else:
            findings.passed(code.value, _summary(code, statement, match), None, level)


def _asked(policy: FabricPolicy, statement: FabricStatement) -> Iterable[Judged]:
    """What the policy asks of the manager beyond what is known to be bad."""
    asked, facts = policy.manager, statement.facts
    manager, nvlsm = facts.program(FABRIC_MANAGER), facts.program(NVLSM)
    if (rule := asked.versions) is not None:
        told = manager.version if manager else Absent("NOT_STATED")
        yield from _version(
            "Fabric Manager", _plain(told), lambda text: driver_accepted(rule, text)
        )
    if (listed := asked.nvlsm_versions) is not None:
        told = nvlsm.version if nvlsm else Absent("NOT_STATED")
        yield from _version("NVLSM", told, lambda text: text in listed)


def _plain(told: Reading[str]) -> Reading[str]:
    """A version without what a packager put around it: ``580.95.05-1`` is of 580.95.05."""
    if isinstance(told, Absent):
        return told
    numbers = version_numbers(told)
    return Absent("NOT_A_VERSION") if numbers is None else ".".join(map(str, numbers))


def _version(name: str, told: Reading[str], accepted: Callable[[str], bool]) -> Iterable[Judged]:
    if isinstance(told, Absent):
        yield StatementGap(StatementCode.VERSION, name, f"the statement does not say ({told.code})")
    elif not accepted(told):
        yield StatementProblem(StatementCode.VERSION, name, "a version the policy accepts", told)


def _partition_asked(policy: FabricPolicy, match: PartitionMatch | None) -> Iterable[Judged]:
    ids, code = policy.partition_ids, StatementCode.MODULES
    if ids is None:
        return
    if match is None or match.entry is None:
        yield StatementGap(code, "partition", "the tenant's partition is not known")
    elif match.entry.id not in ids:
        accepted = ", ".join(map(str, sorted(ids)))
        yield StatementProblem(code, "partition", f"id {accepted}", f"id {match.entry.id}")


def _summary(
    code: StatementCode, statement: FabricStatement, match: PartitionMatch | None
) -> str | None:
    if code is StatementCode.VERSION:
        manager = statement.facts.program(FABRIC_MANAGER)
        version = None if manager is None else manager.version
        return None if version is None or isinstance(version, Absent) else version
    if code in (StatementCode.MODULES, StatementCode.PARTITION_ACTIVE):
        entry = None if match is None else match.entry
        return None if entry is None else f"partition {entry.id}"
    return None


def _judge_continuity(
    findings: FindingList,
    policy: FabricPolicy,
    stated: Sequence[Stated],
    own: PartitionEntry | None,
) -> None:
    code = StatementCode.CONTINUITY.value
    modules = None if own is None else own.modules
    # Each with the next: what was changed and changed back shows in between.
    pairs = list(pairwise(one.statement for one in stated if one.statement is not None))
    if policy.continuity is GivenRule.ANY:
        findings.not_applicable(code, "the policy leaves it aside")
    elif not pairs:
        reason = "one statement shows no time between"
        if policy.continuity is GivenRule.REQUIRED:
            findings.skipped(code, reason)
        else:
            findings.not_applicable(code, reason)
    elif problems := [one for pair in pairs for one in continuity_problems(*pair, modules)]:
        text = _joined(f"{one.where}: {one.found}" for one in problems)
        findings.failed(code, problems[0].expected, text, problems[0].where, weakest(stated))
    elif gaps := [one for pair in pairs for one in continuity_gaps(*pair)]:
        findings.skipped(code, _joined(f"{one.where}: {one.reason}" for one in gaps))
    elif stated[-1].created == stated[0].created:
        # Such as one statement under both of the ECDSA signatures that it has.
        findings.skipped(code, "statements of one moment show no time between")
    else:
        seconds = stated[-1].created - stated[0].created
        findings.passed(code, f"nothing changed in {seconds} s", None, weakest(stated))


# --- others --------------------------------------------------------------------------------------


def _judge_apart(
    findings: FindingList,
    policy: FabricPolicy,
    match: PartitionMatch | None,
    routed: Routed | None,
    devices: Sequence[bytes],
    level: Assurance = Assurance.NONE,
) -> None:
    others = policy.apart_from
    if not others.device_ids and not others.modules:
        findings.not_applicable(_APART, "the policy names no GPUs of others")
        return
    expected = "none of the GPUs that fabric.apart_from names"
    inside = [each.hex().upper() for each in devices if each in others.device_ids]
    if inside:
        findings.failed(_APART, expected, f"attested here: {', '.join(inside)}")
        return
    if not others.modules:
        found = f"{len(others.device_ids)} GPUs are not among those attested here"
        findings.passed(_APART, found, None, Assurance.HARDWARE)
        return
    entry = None if match is None else match.entry
    if entry is None or routed is None:
        findings.skipped(_APART, "the tenant's partition is not known from any statement")
    elif shared := sorted(entry.modules & others.modules):
        found = f"modules {', '.join(map(str, shared))} are in partition {entry.id}"
        findings.failed(_APART, expected, found, None, level)
    elif routed.evaluation is None:
        findings.skipped(_APART, f"whether they reach it is not known: {routed.missing}")
    elif crossing := _crossing(routed, entry.modules, others.modules):
        findings.failed(_APART, expected, _joined(crossing), None, level)
    else:
        modules = ", ".join(map(str, sorted(others.modules)))
        findings.passed(_APART, f"modules {modules} neither reach it nor are reached", None, level)


def _crossing(routed: Routed, own: frozenset[int], others: frozenset[int]) -> list[str]:
    if routed.evaluation is None:
        return []
    inside, outside = {f"GPU{n}" for n in own}, {f"GPU{n}" for n in others}
    return [
        f"{source} reaches {target}"
        for source, target in sorted(routed.evaluation.reachable)
        if (source in inside and target in outside) or (source in outside and target in inside)
    ]
