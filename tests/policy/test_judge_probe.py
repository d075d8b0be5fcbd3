"""Measurements over NVLink, held against a policy's bands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fabric.probe_support import counts, good, uuid, with_pair, with_transfer

from ccverify.fabric.observation import Absent
from ccverify.fabric.probe import ProbeReport
from ccverify.fabric.probe_rules import ProbeBands, ProbeCode
from ccverify.findings import Assurance, Finding, State
from ccverify.policy.judge_probe import Probed, judge_probe
from ccverify.policy.model import FabricPolicy, GivenRule
from ccverify.policy.model_fabric import ProbePolicy

PASS, FAIL, OPEN, WAIVED = State.PASS, State.FAIL, State.NOT_CHECKED, State.NOT_APPLICABLE
ALL = ProbeBands(min_one_way=300, min_both_ways=500, max_spread=0.1, max_copy_us=5, max_read_us=1)
UUIDS = [uuid(n) for n in range(3)]


def judge(
    report: ProbeReport | None,
    bands: ProbeBands = ALL,
    rule: GivenRule = GivenRule.REQUIRED,
    uuids: Any = (),
    **probed: Any,
) -> dict[str, Finding]:
    given = Probed(report, probed.pop("level", Assurance.MEASURED), **probed)
    found = judge_probe(FabricPolicy(probe=ProbePolicy(rule, bands)), given, uuids)
    made = {one.code: one for one in found}
    assert list(made) == ["FABRIC-PROBE", *(code.value for code in ProbeCode)]
    assert {one.subject for one in found} == {"fabric"}
    return made


def states(found: dict[str, Finding]) -> set[State]:
    return {one.state for one in found.values()}


@pytest.mark.parametrize("level", [Assurance.MEASURED, Assurance.ASSERTED])
def test_good_measurements_rest_on_the_guest(level: Assurance) -> None:
    found = judge(good(), uuids=UUIDS, level=level)
    assert states(found) == {PASS}
    assert {one.assurance for one in found.values()} == {level}
    assert found["FABRIC-PROBE"].found == "3 GPUs, 6 ordered pairs"


def test_what_the_policy_asks_nothing_of_is_waived() -> None:
    found = judge(good(), ProbeBands(access=False, traffic=False))
    assert found.pop("FABRIC-PROBE").state is PASS
    assert states(found) == {WAIVED}
    found = judge(good(), ProbeBands())
    assert [one.state for one in found.values()] == [PASS, PASS, WAIVED, WAIVED, PASS]


@pytest.mark.parametrize(
    ("code", "report", "said"),
    [
        (ProbeCode.ACCESS, with_pair(good(), 0, can_access=0), "gpus[0]→gpus[1]: no"),
        (ProbeCode.ACCESS, with_pair(good(), 1, arrived=0), "gpus[0]→gpus[2]: no"),
        (
            ProbeCode.TRAFFIC,
            with_transfer(good(), 0, counts=counts(3, 0, 2)),
            "gpus[2] during gpus[0]→gpus[1]",
        ),
    ],
)
def test_a_fault_fails_its_own_check(code: ProbeCode, report: ProbeReport, said: str) -> None:
    found = judge(report)
    assert found[code.value].state is FAIL
    assert said in (found[code.value].found or "")
    assert found[code.value].assurance is Assurance.MEASURED
    assert {c for c, one in found.items() if one.state is not PASS} == {code.value}


@pytest.mark.parametrize(
    ("code", "bands"),
    [
        (ProbeCode.BANDWIDTH, ProbeBands(min_one_way=393)),
        (ProbeCode.BANDWIDTH, ProbeBands(min_both_ways=766)),
        (ProbeCode.LATENCY, ProbeBands(max_copy_us=2.1)),
        (ProbeCode.LATENCY, ProbeBands(max_read_us=0.8)),
    ],
)
def test_out_of_the_bands(code: ProbeCode, bands: ProbeBands) -> None:
    assert judge(good(), bands)[code.value].state is FAIL


def test_pairs_that_differ() -> None:
    slow = replace(good().pairs[0].one_way, median=300 * 10**9, least=1)  # type: ignore[type-var]
    found = judge(with_pair(good(), 0, one_way=slow), ProbeBands(max_spread=0.1))
    assert found["FABRIC-PROBE-BANDWIDTH"].state is FAIL


def test_what_was_not_measured_is_open() -> None:
    report = with_pair(good(), 0, read_ns=Absent("DEADLINE"))
    found = judge(report)
    assert found["FABRIC-PROBE-LATENCY"].state is OPEN
    assert "DEADLINE" in (found["FABRIC-PROBE-LATENCY"].found or "")
    found = judge(good(), uuids=[*UUIDS, uuid(9)])
    assert found.pop("FABRIC-PROBE").state is PASS
    assert states(found) == {OPEN}
    found = judge(replace(good(), traffic=Absent("GAVE_UP")))
    assert found["FABRIC-PROBE-TRAFFIC"].state is OPEN


def test_one_gpu_alone_has_nobody_to_talk_to() -> None:
    alone = good(1)
    found = judge(alone)
    assert found.pop("FABRIC-PROBE").state is PASS
    assert states(found) == {WAIVED}


def test_silence() -> None:
    found = judge(None, absence=": no CUDA")
    assert states(found) == {OPEN}
    assert (found["FABRIC-PROBE"].found or "").endswith("NVLink: no CUDA")
    few = judge(None, ProbeBands(traffic=False))
    assert [one.state for one in few.values()] == [OPEN, OPEN, WAIVED, WAIVED, WAIVED]
    assert states(judge(None, rule=GivenRule.IF_GIVEN)) == {WAIVED}


def test_what_is_given_must_be_readable_unless_it_is_left_aside() -> None:
    problem = "a probe", "41 bytes", "$"
    for rule in (GivenRule.REQUIRED, GivenRule.IF_GIVEN):
        found = judge(None, rule=rule, problem=problem)
        assert found.pop("FABRIC-PROBE").state is FAIL
        assert states(found) == {OPEN}
    assert states(judge(None, rule=GivenRule.ANY, problem=problem)) == {WAIVED}
    assert states(judge(good(), rule=GivenRule.ANY)) == {WAIVED}
