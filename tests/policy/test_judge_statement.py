"""What a manager states, judged: presence, key, freshness, board, rules, continuity, others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from fabric.statement_support import FACTS, TENANT, parts, program, sources, statement, table

from ccverify.checks import CHECKS
from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM
from ccverify.fabric.observation import Absent
from ccverify.fabric.partition_table import serialize_fmpm_list
from ccverify.fabric.routing_findings import RouteCode
from ccverify.fabric.statement import evaluate_statement, partition_name
from ccverify.fabric.statement_join import PartitionMatch, join_partition
from ccverify.fabric.statement_model import (
    FabricStatement,
    StatementCode,
    StatementGap,
    StatementProblem,
)
from ccverify.fabric.statement_place import GuidMatch
from ccverify.fabric.statement_rules import appraise_statement
from ccverify.findings import Assurance, Finding, State
from ccverify.policy.judge_routing import Routed
from ccverify.policy.judge_statement import judge_statements
from ccverify.policy.model import FabricPolicy, GivenRule, VersionPolicy
from ccverify.policy.model_fabric import ManagerPolicy, ManagersPolicy, OthersPolicy
from ccverify.policy.stated import Fresh, Place, Stated, weakest

NONCE, EPOCH, OTHER = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
NOW = 1_790_100_000
PASS, FAIL, OPEN, WAIVED = State.PASS, State.FAIL, State.NOT_CHECKED, State.NOT_APPLICABLE
REQUIRED = FabricPolicy(statement=GivenRule.REQUIRED, managers=ManagersPolicy())
IF_GIVEN = FabricPolicy(managers=ManagersPolicy())
SAME = Place(same_platform=True)
MANAGER = Assurance.MANAGER
STATEMENT_CODES = {code.value for code in StatementCode}
ROUTES = {code.value for code in RouteCode}
EVERY = (
    STATEMENT_CODES
    | ROUTES
    | {"FABRIC-STATEMENT-KEY", "FABRIC-STATEMENT-FRESH", "FABRIC-MANAGER", "FABRIC-SAME-HOST"}
    | {"FABRIC-APART"}
)


@cache
def honest() -> FabricStatement:
    return statement()


def stated(of: FabricStatement | None = None, **members: Any) -> Stated:
    level = members.get("level", MANAGER)
    verdict = {Assurance.NONE: FAIL}.get(level, PASS)
    given: dict[str, Any] = {
        "digest": b"\x0a" * 48,
        "statement": of or honest(),
        "nonce": NONCE,
        "created": NOW - 60,
        "level": level,
        "key": Finding("FABRIC-STATEMENT-KEY", verdict, found="bound", assurance=level),
        "manager": Finding("FABRIC-MANAGER", verdict, found="one", assurance=level),
    }
    return Stated(**(given | members))


def judge(
    policy: FabricPolicy = REQUIRED,
    every: Sequence[Stated] | None = None,
    *,
    rules: Sequence[StatementProblem | StatementGap] | None = None,
    modules: frozenset[int] | None = TENANT.modules,
    wanted: Fresh | None = None,
    place: Place = SAME,
    devices: Sequence[bytes] = (),
    waivers: Any = None,
) -> dict[str, Finding]:
    """Judge as the verifier does; every code once."""
    every = [stated()] if every is None else every
    last = every[-1].statement if every and every[-1].problem is None else None
    match: PartitionMatch | None = None
    routed = Routed(None, missing="nothing to evaluate")
    if last is not None:
        match = join_partition(last, modules)
        if rules is None:
            rules = (*appraise_statement(last, replace(TENANT, modules=modules)), *match.judged)
        name = partition_name(match.entry) if match.entry and match.entry.active else None
        gaps = tuple(
            r for r in rules if isinstance(r, StatementGap) and r.code is StatementCode.ROUTING
        )
        evaluation = evaluate_statement(last)
        routed = Routed(evaluation, name, "" if evaluation else "no tables", gaps)
    fresh = wanted or Fresh(NONCE, None, NOW, False)
    found = judge_statements(
        policy, every, rules or (), match, routed, fresh, devices, place, waivers or {}
    )
    made = [one.code for one in found]
    if len(every) < 2:
        assert len(set(made)) == len(made)
    assert set(made) == EVERY
    assert {one.subject for one in found} <= {"fabric", None}
    return {one.code: one for one in found}


def states(found: dict[str, Finding]) -> dict[str, State]:
    return {code: one.state for code, one in found.items()}


def against(found: dict[str, Finding]) -> dict[str, State]:
    return {code: state for code, state in states(found).items() if state in (FAIL, OPEN)}


# --- honest, and silent --------------------------------------------------------------------------


def test_every_code_is_one_of_the_registry() -> None:
    assert {entry.code for entry in CHECKS} >= EVERY


def test_an_honest_statement_passes_on_the_word_of_its_manager() -> None:
    found = judge()
    assert against(found) == {}
    assert {code for code, state in states(found).items() if state is WAIVED} == {
        "FABRIC-CONTINUITY",
        "FABRIC-APART",
    }
    assert {one.assurance for one in found.values() if one.state is PASS} == {MANAGER}
    assert found["FABRIC-MODULES"].found == "partition 2"


@pytest.mark.parametrize("level", [Assurance.HOST, Assurance.OPERATOR, Assurance.ASSERTED])
def test_no_finding_rests_on_more_than_the_statement(level: Assurance) -> None:
    found = judge(every=[stated(level=level)])
    assert {one.assurance for one in found.values() if one.state is PASS} == {level}


def test_silence_is_open_where_a_statement_is_required() -> None:
    found = judge(every=[])
    assert found["FABRIC-STATEMENT"].state is OPEN
    assert {code for code, state in against(found).items() if state is OPEN} == (
        EVERY - ROUTES - {"FABRIC-CONTINUITY", "FABRIC-APART", "FABRIC-ROUTING"}
    )
    silent = judge(replace(REQUIRED, managers=None, same_host_required=False), [])
    assert silent["FABRIC-MANAGER"].state is WAIVED
    assert silent["FABRIC-SAME-HOST"].state is WAIVED


def test_who_leaves_it_out_is_not_asked_unless_the_policy_asks_for_it() -> None:
    assert against(judge(IF_GIVEN, [])) == {}
    asked = judge(replace(IF_GIVEN, routing=GivenRule.REQUIRED), [])
    assert set(against(asked)) == ROUTES | {"FABRIC-ROUTING"}
    asked = judge(replace(IF_GIVEN, routing_digests=frozenset({bytes(48)})), [])
    assert set(against(asked)) == ROUTES | {"FABRIC-ROUTING"}
    asked = judge(replace(IF_GIVEN, continuity=GivenRule.REQUIRED), [])
    assert against(asked) == {"FABRIC-CONTINUITY": OPEN}
    asked = judge(replace(IF_GIVEN, partition_ids=frozenset({2})), [])
    assert against(asked) == {"FABRIC-MODULES": OPEN}


def test_what_the_policy_leaves_aside_is_said_to_be() -> None:
    found = judge(replace(REQUIRED, statement=GivenRule.ANY), [])
    assert set(states(found).values()) == {WAIVED}
    assert "leaves statements" in (found["FABRIC-STATEMENT"].found or "")


@pytest.mark.parametrize("policy", [REQUIRED, IF_GIVEN])
def test_what_is_given_must_be_readable(policy: FabricPolicy) -> None:
    bad = Stated(b"\x0b" * 48, problem=("a bundle", "41 bytes", "$"))
    found = judge(policy, [stated(), bad])
    assert found["FABRIC-STATEMENT"].state is FAIL
    assert found["FABRIC-STATEMENT"].where == "$"
    for code in ("FABRIC-STATEMENT-KEY", "FABRIC-MANAGER", "FABRIC-MODULES"):
        assert found[code].state is OPEN, code


def test_items_that_are_not_what_the_facts_say_fail_the_statement() -> None:
    items = parts()
    facts = replace(FACTS, sources=sources(parts(fm_config="LOG_LEVEL=4\n")))
    found = judge(every=[stated(statement(facts, items))])
    assert found["FABRIC-STATEMENT"].state is FAIL
    assert "fm-config" in (found["FABRIC-STATEMENT"].found or "")
    assert found["FABRIC-STATEMENT"].where == "fm-config"


def test_nothing_is_judged_of_a_statement_whose_key_is_not_bound() -> None:
    found = judge(every=[stated(level=Assurance.NONE)])
    assert found["FABRIC-STATEMENT-KEY"].state is FAIL
    assert found["FABRIC-MANAGER"].state is FAIL
    assert found["FABRIC-MODULES"].state is OPEN
    assert found["FABRIC-SAME-HOST"].state is OPEN
    assert {found[code].state for code in ROUTES} <= {OPEN, WAIVED}


# --- freshness -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nonce", "epoch", "of", "age", "waived", "expected"),
    [
        (NONCE, None, NONCE, 60, False, PASS),
        (NONCE, EPOCH, NONCE, 10**6, False, PASS),
        (NONCE, EPOCH, EPOCH, 60, False, PASS),
        (None, EPOCH, EPOCH, 100, False, PASS),
        (None, EPOCH, EPOCH, 101, False, FAIL),
        (None, EPOCH, EPOCH, -300, False, PASS),
        (None, EPOCH, EPOCH, -301, False, FAIL),
        (NONCE, None, OTHER, 60, False, FAIL),
        (NONCE, EPOCH, OTHER, 60, False, FAIL),
        (None, EPOCH, OTHER, 60, False, FAIL),
        (None, None, NONCE, 60, False, OPEN),
        (None, None, NONCE, 60, True, WAIVED),
        (NONCE, None, OTHER, 60, True, WAIVED),
        (NONCE, None, NONCE, 60, True, PASS),
        (None, EPOCH, EPOCH, 101, True, FAIL),
    ],
)
def test_freshness(
    nonce: bytes | None, epoch: bytes | None, of: bytes, age: int, waived: bool, expected: State
) -> None:
    policy = replace(REQUIRED, max_age_s=100)
    one = stated(nonce=of, created=NOW - age)
    found = judge(policy, [one], wanted=Fresh(nonce, epoch, NOW, waived))["FABRIC-STATEMENT-FRESH"]
    assert found.state is expected
    if expected is PASS:
        assert found.assurance is MANAGER
    if expected is FAIL:
        assert found.expected


# --- the board -----------------------------------------------------------------------------------

NO_GUIDS = GuidMatch(reason="the driver names no GUID of gpus[0]")


@pytest.mark.parametrize(
    ("place", "required", "expected"),
    [
        (Place(True, NO_GUIDS), True, PASS),
        (Place(None, GuidMatch(known=4)), True, PASS),
        (Place(False, GuidMatch(known=4)), True, FAIL),
        (Place(None, NO_GUIDS), True, OPEN),
        (Place(None, NO_GUIDS), False, WAIVED),
        (Place(False, NO_GUIDS), True, FAIL),
        (Place(False, NO_GUIDS), False, FAIL),
    ],
)
def test_whose_board_it_is(place: Place, required: bool, expected: State) -> None:
    found = judge(replace(REQUIRED, same_host_required=required), place=place)
    assert found["FABRIC-SAME-HOST"].state is expected


# --- rules ---------------------------------------------------------------------------------------


def changed(**items: Any) -> FabricStatement:
    return statement(items=parts(**items))


def ran(*programs: Any, **facts: Any) -> FabricStatement:
    given = {"programs": programs} if programs else {}
    return statement(replace(FACTS, **given, **facts))


CONFIG = "FABRIC_MODE=1\nPARTITION_RAIL_POLICY=symmetric\nLOG_LEVEL=4\n"
LOG = FACTS.log
assert not isinstance(LOG, Absent)
FAULTS: dict[str, tuple[str, Any]] = {
    "FABRIC-MANAGER-VERSION": (
        "580.1.1",
        lambda: ran(program(FABRIC_MANAGER, version="580.1.1"), program(NVLSM)),
    ),
    "FABRIC-MANAGER-PROGRAM": (
        "not running",
        lambda: ran(program(FABRIC_MANAGER, process=Absent("NOT_RUNNING")), program(NVLSM)),
    ),
    "FABRIC-MANAGER-CONFIG": (
        "0.0.0.0",
        lambda: changed(fm_config=CONFIG + "FM_CMD_BIND_INTERFACE=0.0.0.0\n"),
    ),
    "FABRIC-MANAGER-MODE": ("0", lambda: changed(fm_config=CONFIG.replace("MODE=1", "MODE=0"))),
    "FABRIC-RAIL-POLICY": (
        "greedy",
        lambda: changed(fm_config=CONFIG.replace("symmetric", "greedy")),
    ),
    "FABRIC-MANAGER-LOG": (
        "1 in 40 lines",
        lambda: ran(log=replace(LOG, errors=1, last_error="failed")),
    ),
    "FABRIC-PARTITION-TABLE": (
        "active partitions",
        lambda: changed(fm_partitions=serialize_fmpm_list(table(1, 2, 3))),
    ),
    "FABRIC-PARTITION-ACTIVE": (
        "inactive",
        lambda: changed(fm_partitions=serialize_fmpm_list(table(3))),
    ),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_of_the_manager_fails_its_own_check(code: str) -> None:
    said, make = FAULTS[code]
    found = judge(every=[stated(make())])
    assert found[code].state is FAIL, found[code]
    assert said in (found[code].found or "")
    assert found[code].assurance is MANAGER
    assert found[code].expected


def test_gpus_of_no_partition() -> None:
    found = judge(modules=frozenset({1, 2}))
    assert found["FABRIC-MODULES"].state is FAIL
    found = judge(modules=None)
    assert found["FABRIC-MODULES"].state is OPEN
    assert found["FABRIC-PARTITION-ACTIVE"].state is OPEN


@pytest.mark.parametrize("code", ["FABRIC-MANAGER-CONFIG", "FABRIC-RAIL-POLICY"])
def test_what_a_statement_leaves_out_counts_where_one_is_required(code: str) -> None:
    silent = statement(items=parts(fm_config=None))
    assert judge(every=[stated(silent)])[code].state is OPEN
    assert judge(IF_GIVEN, [stated(silent)])[code].state is WAIVED


def test_a_rule_without_meaning_is_waived_with_its_reason() -> None:
    greedy = stated(changed(fm_config=CONFIG.replace("symmetric", "greedy")))
    found = judge(every=[greedy], waivers={StatementCode.RAIL_POLICY: "no GPU signed it"})
    assert found["FABRIC-RAIL-POLICY"].state is WAIVED
    assert found["FABRIC-RAIL-POLICY"].found == "no GPU signed it"


def test_a_log_may_be_left_aside() -> None:
    noisy = stated(ran(log=replace(LOG, errors=1, last_error="failed")))
    policy = replace(REQUIRED, manager=ManagerPolicy(log_required=False))
    assert judge(policy, [noisy])["FABRIC-MANAGER-LOG"].state is WAIVED


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        (ManagerPolicy(versions=VersionPolicy(minimum="595.00")), PASS),
        (ManagerPolicy(versions=VersionPolicy(minimum="596.00")), FAIL),
        (ManagerPolicy(versions=VersionPolicy(rejected=frozenset({"595.58.03"}))), FAIL),
        (ManagerPolicy(versions=VersionPolicy(accepted=frozenset({"595.58.03"}))), PASS),
        (ManagerPolicy(versions=VersionPolicy(accepted=frozenset({"595.58.04"}))), FAIL),
        (ManagerPolicy(nvlsm_versions=frozenset({"2026.02.1"})), PASS),
        (ManagerPolicy(nvlsm_versions=frozenset({"2025.06.6"})), FAIL),
    ],
)
def test_versions_that_the_policy_accepts(manager: ManagerPolicy, expected: State) -> None:
    found = judge(replace(REQUIRED, manager=manager))["FABRIC-MANAGER-VERSION"]
    assert found.state is expected, found


def test_a_version_that_is_not_stated_is_open() -> None:
    odd = ran(program(FABRIC_MANAGER, version="of today"), program(NVLSM))
    versions = ManagerPolicy(versions=VersionPolicy(rejected=frozenset({"570.00"})))
    asked = replace(REQUIRED, manager=versions)
    assert judge(asked, [stated(odd)])["FABRIC-MANAGER-VERSION"].state is OPEN
    silent = ran(program(FABRIC_MANAGER), program(NVLSM, version=Absent("TIMEOUT")))
    policy = replace(REQUIRED, manager=ManagerPolicy(nvlsm_versions=frozenset({"2026.02.1"})))
    assert judge(policy, [stated(silent)])["FABRIC-MANAGER-VERSION"].state is OPEN
    assert judge(REQUIRED, [stated(silent)])["FABRIC-MANAGER-VERSION"].state is PASS


def test_the_partition_of_the_policy() -> None:
    asked = replace(REQUIRED, partition_ids=frozenset({2, 7}))
    assert judge(asked)["FABRIC-MODULES"].state is PASS
    found = judge(replace(REQUIRED, partition_ids=frozenset({3})))["FABRIC-MODULES"]
    assert found.state is FAIL
    assert "id 2" in (found.found or "")
    asked = replace(asked, statement=GivenRule.IF_GIVEN)
    assert judge(asked, modules=None)["FABRIC-MODULES"].state is OPEN


# --- continuity ----------------------------------------------------------------------------------


def twice(after: FabricStatement, **policy: Any) -> dict[str, Finding]:
    first = stated(created=NOW - 600, level=Assurance.HOST)
    last = stated(after, digest=b"\x0c" * 48)
    return judge(replace(REQUIRED, **policy), [first, last])


def test_continuity() -> None:
    found = twice(honest())["FABRIC-CONTINUITY"]
    assert (found.state, found.found) == (PASS, "nothing changed in 540 s")
    assert found.assurance is Assurance.HOST
    restarted = program(FABRIC_MANAGER)
    assert not isinstance(restarted.process, Absent)
    process = replace(restarted.process, started=restarted.process.started + 60, restarts=1)
    after = ran(replace(restarted, process=process), program(NVLSM))
    found = twice(after)["FABRIC-CONTINUITY"]
    assert found.state is FAIL
    assert "since" in (found.found or "")
    assert twice(after, continuity=GivenRule.ANY)["FABRIC-CONTINUITY"].state is WAIVED
    found = twice(ran(boot_id=Absent("UNREADABLE")))["FABRIC-CONTINUITY"]
    assert found.state is OPEN


def test_others_may_change_what_is_theirs() -> None:
    both = changed(fm_partitions=serialize_fmpm_list(table(2)))
    assert twice(both)["FABRIC-CONTINUITY"].state is PASS
    own = changed(fm_partitions=serialize_fmpm_list(table(2, 3, links=17)))
    assert twice(own)["FABRIC-CONTINUITY"].state is FAIL


def test_one_statement_shows_no_time_between() -> None:
    assert judge()["FABRIC-CONTINUITY"].state is WAIVED
    asked = replace(REQUIRED, continuity=GivenRule.REQUIRED)
    assert judge(asked)["FABRIC-CONTINUITY"].state is OPEN


def test_findings_of_several_statements_say_which() -> None:
    first, last = stated(nonce=EPOCH), stated(digest=b"\x0c" * 48)
    fresh = Fresh(NONCE, EPOCH, NOW, False)
    found = judge(REQUIRED, [first, last], wanted=fresh)
    assert (found["FABRIC-STATEMENT-KEY"].found or "").startswith("statement 2 of 2: ")
    assert weakest([first, replace(last, level=Assurance.HOST)]) is Assurance.HOST
    assert weakest([]) is Assurance.NONE


# --- routing and others --------------------------------------------------------------------------


def test_tables_of_an_earlier_run_fail_the_routing() -> None:
    old = statement(nvlsm_lfts=1)
    found = judge(every=[stated(old)])
    assert found["FABRIC-ROUTING"].state is FAIL
    assert "earlier run" in (found["FABRIC-ROUTING"].found or "")


def test_gpus_of_others() -> None:
    theirs = OthersPolicy(modules=frozenset({5, 6}))
    found = judge(replace(REQUIRED, apart_from=theirs))["FABRIC-APART"]
    assert (found.state, found.assurance) == (PASS, MANAGER)
    inside = OthersPolicy(modules=frozenset({4, 5}))
    found = judge(replace(REQUIRED, apart_from=inside))["FABRIC-APART"]
    assert found.state is FAIL
    assert "modules 4 are in partition 2" in (found.found or "")
    policy = replace(REQUIRED, apart_from=theirs)
    assert judge(policy, modules=None)["FABRIC-APART"].state is OPEN
    unrouted = stated(statement(items=parts(nvlsm_fdbs=None, nvlsm_lfts=None)))
    assert judge(policy, [unrouted])["FABRIC-APART"].state is OPEN
    assert judge(replace(policy, statement=GivenRule.IF_GIVEN), [])["FABRIC-APART"].state is OPEN


def test_gpus_of_others_that_reach_across() -> None:
    policy = replace(REQUIRED, apart_from=OthersPolicy(modules=frozenset({5})))
    open_keys = stated(statement(items=parts(nvlsm_pkeys=None)))
    found = judge(policy, [open_keys])["FABRIC-APART"]
    assert found.state is FAIL
    assert "GPU5 reaches GPU1" in (found.found or "")


def test_gpus_of_others_by_their_identities() -> None:
    own, other = b"\x01" * 8, b"\x02" * 8
    policy = replace(IF_GIVEN, apart_from=OthersPolicy(frozenset({other})))
    found = judge(policy, [], devices=[own])["FABRIC-APART"]
    assert (found.state, found.assurance) == (PASS, Assurance.HARDWARE)
    found = judge(policy, [], devices=[own, other])["FABRIC-APART"]
    assert found.state is FAIL
    assert other.hex() in (found.found or "")
