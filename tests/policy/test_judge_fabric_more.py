"""Corners of judging statements, tables and measurements that a slip in a condition would reach."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fabric.probe_support import good, uuid, with_traffic
from fabric.statement_support import statement

from ccverify.fabric.probe import Count
from ccverify.fabric.probe_rules import ProbeBands, ProbeCode
from ccverify.fabric.routing_evaluate import Evaluation
from ccverify.fabric.routing_findings import RouteCode, RouteFinding
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.policy.judge_probe import Probed, judge_probe
from ccverify.policy.judge_routing import Routed, judge_routing
from ccverify.policy.judge_statement import judge_statements
from ccverify.policy.model import FabricPolicy, GivenRule
from ccverify.policy.model_fabric import ManagersPolicy, ProbePolicy
from ccverify.policy.stated import Fresh, Place


def by_code(found: FindingList) -> dict[str, Finding]:
    return {one.code: one for one in found}


@pytest.mark.parametrize("managers", [None, ManagersPolicy()])
def test_without_a_statement_everything_asked_of_it_stays_open(
    managers: ManagersPolicy | None,
) -> None:
    policy = FabricPolicy(statement=GivenRule.REQUIRED, managers=managers)
    fresh = Fresh(bytes(32), None, 0, False)
    found = by_code(judge_statements(policy, [], (), None, Routed(None), fresh, (), Place()))
    for code in ("FABRIC-STATEMENT-KEY", "FABRIC-STATEMENT-FRESH"):
        assert found[code].state is State.NOT_CHECKED
    waived = managers is None  # then anybody may state
    expected = State.NOT_APPLICABLE if waived else State.NOT_CHECKED
    assert found["FABRIC-MANAGER"].state is expected


def test_one_case_of_a_fault_is_not_counted() -> None:
    once = RouteFinding(RouteCode.LEAK, ("partition-2",), "GPU5 → GPU1", "refused", "accepted")
    for one, said in ((once, False), (replace(once, count=2), True)):
        found = FindingList("fabric")
        routed = Routed(Evaluation((one,), (), frozenset()), "partition-2")
        policy = FabricPolicy(routing=GivenRule.REQUIRED)
        judge_routing(found, policy, statement(), routed, (), Assurance.MANAGER)
        assert ("cases" in (by_code(found)["ROUTE-LEAK"].found or "")) is said


def test_a_probe_of_one_gpu_does_not_hide_the_others() -> None:
    """Who measures one of three GPUs has measured nothing of what was asked."""
    policy = FabricPolicy(probe=ProbePolicy(GivenRule.REQUIRED, ProbeBands()))
    probed = Probed(good(1), Assurance.MEASURED)
    found = by_code(judge_probe(policy, probed, [uuid(n) for n in range(3)]))
    for code in (ProbeCode.ACCESS, ProbeCode.TRAFFIC):
        assert found[code.value].state is State.NOT_CHECKED
    alone = by_code(judge_probe(policy, probed, [uuid(0)]))
    assert alone[ProbeCode.ACCESS.value].state is State.NOT_APPLICABLE


def test_traffic_of_others_over_the_links_of_one_gpu_shows() -> None:
    busy = (Count(0, 1 << 40, 1 << 40),)
    report = with_traffic(good(1), lambda one: replace(one, quiet=replace(one.quiet, counts=busy)))
    policy = FabricPolicy(probe=ProbePolicy(GivenRule.REQUIRED, ProbeBands()))
    found = by_code(judge_probe(policy, Probed(report, Assurance.MEASURED), [uuid(0)]))
    assert found[ProbeCode.TRAFFIC.value].state is State.FAIL
