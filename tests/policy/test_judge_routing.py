"""What forwarding tables do, held against a policy."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from fabric.statement_support import TENANT, parts, statement

from ccverify.fabric.routing_evaluate import Evaluation
from ccverify.fabric.routing_findings import RouteCode, RouteFinding
from ccverify.fabric.statement import evaluate_statement
from ccverify.fabric.statement_model import (
    FabricStatement,
    StatementCode,
    StatementGap,
    StatementProblem,
)
from ccverify.fabric.statement_rules import appraise_statement
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.policy.judge_routing import Routed, judge_routing, skip_routing
from ccverify.policy.model import FabricPolicy, GivenRule

PASS, FAIL, OPEN, WAIVED = State.PASS, State.FAIL, State.NOT_CHECKED, State.NOT_APPLICABLE
REQUIRED, IF_GIVEN = FabricPolicy(routing=GivenRule.REQUIRED), FabricPolicy()
ROUTES = [code.value for code in RouteCode]
EVERY = ["FABRIC-ROUTING", *ROUTES]
NONE = Evaluation((), (), frozenset())


@cache
def honest() -> FabricStatement:
    return statement()


def routed(of: FabricStatement | None = None, partition: str | None = "partition-2") -> Routed:
    """As the verifier makes it."""
    of = of or honest()
    gaps = tuple(
        one
        for one in appraise_statement(of, TENANT)
        if isinstance(one, StatementGap) and one.code is StatementCode.ROUTING
    )
    evaluation = evaluate_statement(of)
    return Routed(evaluation, partition, "" if evaluation else "no tables", gaps)


def judge(
    policy: FabricPolicy = REQUIRED,
    given: Routed | None = None,
    of: FabricStatement | None = None,
    tables: Any = (),
) -> dict[str, Finding]:
    findings = FindingList("fabric")
    of = of or honest()
    judge_routing(findings, policy, of, given or routed(of), tables, Assurance.MANAGER)
    made = [one.code for one in findings]
    assert sorted(made) == sorted(EVERY)
    return {one.code: one for one in findings}


def states(found: dict[str, Finding]) -> set[State]:
    return {one.state for one in found.values()}


def found(code: RouteCode, *partitions: str, **more: Any) -> RouteFinding:
    return RouteFinding(code, partitions, "GPU5 → GPU1", "refused", "accepted", **more)


def test_closed_tables_pass_on_the_word_of_their_manager() -> None:
    made = judge()
    assert states(made) == {PASS}
    assert {one.assurance for one in made.values()} == {Assurance.MANAGER}
    digest = honest().routing_digest
    assert digest is not None
    assert digest.hex() in (made["FABRIC-ROUTING"].found or "")
    assert routed().closed is True


def test_a_digest_on_the_list() -> None:
    digest = honest().routing_digest
    assert digest is not None
    listed = FabricPolicy(routing_digests=frozenset({digest}))
    assert states(judge(listed)) == {PASS}
    made = judge(FabricPolicy(routing_digests=frozenset({bytes(48)})))
    assert made.pop("FABRIC-ROUTING").state is FAIL
    assert states(made) == {PASS}


@pytest.mark.parametrize("code", list(RouteCode))
def test_each_fault_of_the_tables_has_its_own_check(code: RouteCode) -> None:
    evaluation = Evaluation((found(code, "partition-2", count=3),), (), frozenset())
    made = judge(given=Routed(evaluation, "partition-2"))
    finding = made.pop(code.value)
    assert finding.state is FAIL
    assert finding.found == "GPU5 → GPU1: accepted (3 cases)"
    assert finding.assurance is Assurance.MANAGER
    assert states(made) == {PASS}


def test_faults_of_others_are_theirs_unless_ones_own_partition_is_not_known() -> None:
    evaluation = Evaluation((found(RouteCode.LEAK, "partition-3"),), (), frozenset())
    assert states(judge(given=Routed(evaluation, "partition-2"))) == {PASS}
    whole = Routed(evaluation, None)
    assert judge(given=whole)["ROUTE-LEAK"].state is FAIL
    assert whole.closed is False


def test_what_was_left_out_fails_too() -> None:
    many = tuple(found(RouteCode.LOOP) for _ in range(6))
    given = Routed(Evaluation(many, ((RouteCode.LOOP, 9),), frozenset()), "partition-2")
    assert (judge(given=given)["ROUTE-LOOP"].found or "").endswith("and 11 more cases")
    given = Routed(Evaluation((), ((RouteCode.LEAK, 1),), frozenset()), "partition-2")
    assert judge(given=given)["ROUTE-LEAK"].state is FAIL
    assert given.closed is False


def test_a_leak_is_told_hop_by_hop() -> None:
    of = statement(items=parts(nvlsm_pkeys=None))
    made = judge(of=of)
    assert made["ROUTE-LEAK"].state is FAIL
    told = made["ROUTE-LEAK"].found or ""
    assert "GPU1 link 0 → NVSwitch2 port 2 → NVSwitch2 port 33 → GPU5 link 0" in told


@pytest.mark.parametrize(("policy", "expected"), [(REQUIRED, OPEN), (IF_GIVEN, WAIVED)])
def test_a_gap_keeps_silence_from_being_proof(policy: FabricPolicy, expected: State) -> None:
    gap = StatementGap(StatementCode.ROUTING, "nvlsm-pkeys", "those in force are not known")
    given = Routed(NONE, "partition-2", gaps=(gap,))
    assert states(judge(policy, given)) == {expected}
    assert given.closed is None
    no_groups = statement(items=parts(nvlsm_mcfdbs=None))
    made = judge(policy, of=no_groups)
    assert made.pop("FABRIC-ROUTING").state is expected
    assert made.pop("ROUTE-MULTICAST").state is expected
    assert states(made) == {PASS}


@pytest.mark.parametrize(("policy", "expected"), [(REQUIRED, OPEN), (IF_GIVEN, WAIVED)])
def test_without_tables_there_is_nothing_to_judge(policy: FabricPolicy, expected: State) -> None:
    of = statement(items=parts(nvlsm_fdbs=None, nvlsm_lfts=None))
    made = judge(policy, of=of)
    assert states(made) == {expected}
    assert routed(of).closed is None
    bad = StatementProblem(StatementCode.ROUTING, "tables", "one", "two")
    made = judge(policy, of=of, tables=[bad])
    assert made.pop("FABRIC-ROUTING").state is FAIL
    assert states(made) == {expected}


def test_tables_that_contradict_each_other_fail_and_are_judged_all_the_same() -> None:
    bad = StatementProblem(StatementCode.ROUTING, "nvlsm-lfts", "of this run", "of another")
    made = judge(tables=[bad])
    assert made.pop("FABRIC-ROUTING").state is FAIL
    assert states(made) == {PASS}


def test_a_policy_may_leave_routing_aside() -> None:
    aside = FabricPolicy(routing=GivenRule.ANY)
    evaluation = Evaluation((found(RouteCode.LEAK),), (), frozenset())
    assert states(judge(aside, Routed(evaluation))) == {WAIVED}


def test_skipping_says_why() -> None:
    for waived, expected in ((False, OPEN), (True, WAIVED)):
        findings = FindingList("fabric")
        skip_routing(findings, REQUIRED, "no statement", waived=waived)
        assert {(one.state, one.found) for one in findings} == {(expected, "no statement")}
        assert [one.code for one in findings] == EVERY
