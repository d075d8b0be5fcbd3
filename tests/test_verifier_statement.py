"""Statements of a fabric's manager in a verdict: who is believed, and which fault shows where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ccverify import State, TrustKind, TrustStore, UsageError, Verdict, check, policy_from_document
from ccverify.cli.sim_sources import machine_sources
from ccverify.cli.sim_statement import BinderName, matching_managers, sim_statement
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.collect.model import Absence, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.session import collect_bundle
from ccverify.findings import Assurance
from ccverify.policy.judge_fabric import STRENGTH
from ccverify.results.ear_appraisal import appraise_parts
from ccverify.results.ear_table import Tier
from ccverify.sim.board import sim_board
from ccverify.sim.fabric_faults import FAULTS
from ccverify.sim.machine import SimMachine
from ccverify.sim.manager import SimManager

Json = dict[str, Any]
NONCE = sha256(b"ccverify statement test").digest()
EPOCH = sha256(b"ccverify statement epoch").digest()
LATER = timedelta(seconds=30)
HALVES = {"B300": [2, 3], "H100": [1, 2]}
"""Two tenants of four GPUs each, by the ids of their default partitions."""
SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs" / "spec" / "verdict-v1.schema.json").read_text("utf-8")
)
STATED = ("members", "partition", "manager", "manager_configuration", "routing", "isolation",
          "liveness")  # fmt: skip


def manager(model: str, partitions: Sequence[int] | None = None, instance: str = "1") -> SimManager:
    ids = HALVES[model] if partitions is None else partitions
    return SimManager(sim_board(model, list(ids), instance=instance))  # type: ignore[arg-type]


class Statement:
    """A statement on its way into a tenant's bundle."""

    name = "file fabric.ccb"
    stage = Stage.LOGS
    gives: tuple[str, ...] = ("fabric-statement",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        return (Item("fabric-statement", ItemType.FABRIC_STATEMENT, self._data, self.name),)

    def diagnose(self) -> Sequence[Absence]:
        return ()


def node(machine: SimMachine, statement: bytes | None = None) -> bytes:
    more = [] if statement is None else [Statement(statement)]
    made = collect_bundle(NONCE, [*machine_sources(machine), *more]).bundle
    assert made is not None
    return made


@cache
def clean(model: str) -> tuple[SimManager, SimMachine, bytes]:
    """An honest manager, one of its tenants, and the tenant's own evidence."""
    honest = manager(model)
    machine = honest.board.machine("a")
    return honest, machine, node(machine)


@cache
def stated(model: str, binder: BinderName = "tdx", nonce: bytes = NONCE) -> bytes:
    return sim_statement(manager(model), nonce, binder=binder)


def expectations(machine: SimMachine, honest: SimManager, **fabric: Any) -> Json:
    """The policy that fits tenant and manager; None takes a member of ``fabric`` out."""
    document = matching_policy(machine)
    section = {
        **document.get("fabric", {}),
        "statement": "required",
        "managers": matching_managers(honest),
        "routing": "required",
        **fabric,
    }
    document["fabric"] = {name: value for name, value in section.items() if value is not None}
    return document


def judged(
    model: str = "B300",
    statements: Sequence[bytes] | None = None,
    *,
    data: bytes | None = None,
    document: Json | None = None,
    **more: Any,
) -> Verdict:
    honest, machine, own = clean(model)
    trust = simulated_trust(machine)
    arguments: Json = {
        "policy": policy_from_document(document or expectations(machine, honest)),
        "now": trust.at + LATER,
        "nonce": NONCE,
        "collateral": trust.collateral.intel,
        "nvidia": trust.collateral.nvidia,
        "trust": trust.store,
        "statements": [stated(model)] if statements is None else statements,
    }
    verdict = check(own if data is None else data, **(arguments | more))
    Draft202012Validator(SCHEMA).validate(json.loads(verdict.dumps()))
    return verdict


def against(verdict: Verdict, *states: State) -> set[str]:
    wanted = states or (State.FAIL, State.NOT_CHECKED)
    return {one.code for one in verdict.findings if one.state in wanted}


def finding(verdict: Verdict, code: str) -> Any:
    (one,) = [each for each in verdict.findings if each.code == code]
    return one


def levels(verdict: Verdict) -> dict[str, str]:
    assert verdict.fabric is not None
    return {name: claim["assurance"] for name, claim in verdict.fabric.items()}


# --- honest fabrics ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "partition"),
    [
        *(("B300", number) for number in (1, 2, 3, 4, 7, 8, 15)),
        *(("B200", number) for number in (1, 2, 5, 9)),
        *(("H100", number) for number in (0, 1, 2, 4, 6, 7, 14)),
    ],
)
def test_a_clean_partition_of_every_size_is_trusted(model: str, partition: int) -> None:
    honest = manager(model, [partition])
    machine = honest.board.machine("a")
    trust = simulated_trust(machine)
    section: Json = expectations(machine, honest)
    verdict = check(
        node(machine),
        policy=policy_from_document(section),
        now=trust.at,
        nonce=NONCE,
        collateral=trust.collateral.intel,
        nvidia=trust.collateral.nvidia,
        trust=trust.store,
        statements=[sim_statement(honest, NONCE)],
    )
    assert verdict.trusted, verdict.failures()
    assert verdict.fabric is not None
    modules = list(honest.board.modules("a"))
    assert verdict.fabric["partition"]["value"]["modules"] == modules
    assert verdict.fabric["partition"]["value"]["id"] == partition
    isolation = verdict.fabric["isolation"]
    assert isolation["value"] == {
        "closed": True, "problems": [], "reached_from": [], "reaches": []
    }  # fmt: skip
    assert isolation["assurance"] == "manager"


@pytest.mark.parametrize("model", HALVES)
def test_two_tenants_of_one_board_are_proven_apart(model: str) -> None:
    honest = manager(model)
    trust = simulated_trust(honest.board.machine("a"))
    own, others = honest.board.modules("a"), honest.board.modules("b")
    for name, modules in (("a", others), ("b", own)):
        machine = honest.board.machine(name)
        apart = {"modules": list(modules)}
        verdict = check(
            node(machine),
            policy=policy_from_document(expectations(machine, honest, apart_from=apart)),
            now=trust.at,
            nonce=NONCE,
            collateral=trust.collateral.intel,
            nvidia=simulated_trust(machine).collateral.nvidia,
            trust=trust.store,
            statements=[stated(model)],
        )
        assert verdict.trusted, verdict.failures()
        assert finding(verdict, "FABRIC-APART").state is State.PASS
        assert finding(verdict, "FABRIC-APART").assurance is Assurance.MANAGER


def test_a_statement_in_the_bundle_says_the_same_as_one_beside_it() -> None:
    _, machine, _ = clean("B300")
    inside = judged(data=node(machine, stated("B300")), statements=[])
    beside = judged()
    assert inside.trusted
    assert inside.fabric is not None
    assert beside.fabric is not None
    assert {n: inside.fabric[n] for n in STATED} == {n: beside.fabric[n] for n in STATED}
    assert "fabric_statements" in beside.inputs
    assert "fabric_statements" not in inside.inputs


# --- whose word it is ----------------------------------------------------------------------------

LEVELS: dict[BinderName, str] = {
    "tdx": "manager", "tpm": "host", "x509": "operator", "none": "asserted",
}  # fmt: skip


def with_unsigned(model: str) -> Json:
    honest, machine, _ = clean(model)
    managers = {**matching_managers(honest), "unsigned": "accept"}
    # On Hopper nothing but a TDX quote of the same platform shows which board it is about.
    place = {"same_host": "any"} if model == "H100" else {}
    return expectations(machine, honest, managers=managers, **place)


@pytest.mark.parametrize("model", HALVES)
@pytest.mark.parametrize("binder", LEVELS)
def test_what_binds_the_key_and_that_alone_is_the_assurance(model: str, binder: BinderName) -> None:
    verdict = judged(model, [stated(model, binder)], document=with_unsigned(model))
    assert verdict.trusted, verdict.failures()
    told = levels(verdict)
    for name in ("manager", "manager_configuration", "routing", "liveness"):
        assert told[name] == LEVELS[binder]
    assert finding(verdict, "FABRIC-STATEMENT-KEY").assurance.value == LEVELS[binder]
    assert verdict.fabric is not None
    assert verdict.fabric["manager"]["value"]["bound_by"] == [binder] * (binder != "none")
    placed = LEVELS[binder] if model == "B300" or binder == "tdx" else "asserted"
    assert {told[name] for name in ("members", "partition", "isolation")} == {placed}
    # What the guest itself saw does not change with it.
    assert told["registration"] == "asserted"
    assert told["mode"] == "hardware"
    assert told["links"] == "measured"


@pytest.mark.parametrize("binder", LEVELS)
@pytest.mark.parametrize("floor", ["manager", "host", "operator", "asserted"])
def test_the_floor_of_the_policy_decides(binder: BinderName, floor: str) -> None:
    document = with_unsigned("B300")
    document["fabric"]["assurance"] = {"manager": floor, "routing": floor}
    verdict = judged(statements=[stated("B300", binder)], document=document)
    enough = STRENGTH[Assurance(LEVELS[binder])] >= STRENGTH[Assurance(floor)]
    assert verdict.trusted is enough
    assert against(verdict) == (set() if enough else {"FABRIC-ASSURANCE"})


@pytest.mark.parametrize("binder", ["tdx", "tpm", "x509"])
def test_a_genuine_key_that_the_policy_does_not_name_is_nobodys_word(binder: BinderName) -> None:
    _, machine, _ = clean("B300")
    honest = manager("B300")
    managers = {k: v for k, v in matching_managers(honest).items() if k != binder}
    document = expectations(machine, honest, managers=managers)
    verdict = judged(statements=[stated("B300", binder)], document=document)
    assert verdict.exit_code == 4
    assert "FABRIC-MANAGER" in against(verdict, State.FAIL)
    assert levels(verdict)["manager"] == "asserted"
    assert finding(verdict, "FABRIC-STATEMENT-KEY").assurance is Assurance.ASSERTED


@pytest.mark.parametrize("binder", LEVELS)
def test_a_policy_without_managers_takes_a_statement_for_anybodys_word(binder: BinderName) -> None:
    honest, machine, _ = clean("B300")
    document = expectations(machine, honest, managers=None, same_host="any")
    verdict = judged(statements=[stated("B300", binder)], document=document)
    assert verdict.trusted, verdict.failures()
    assert {levels(verdict)[name] for name in STATED} == {"asserted"}


def test_another_image_on_the_service_vm_is_refused() -> None:
    honest, machine, _ = clean("B300")
    document = expectations(machine, honest)
    (image,) = document["fabric"]["managers"]["tdx"]
    image["measurements"]["rtmr2"] = ["00" * 48]
    verdict = judged(document=document)
    assert against(verdict) >= {"FABRIC-MANAGER"}
    assert "TDX-RTMR2" in finding(verdict, "FABRIC-MANAGER").found
    assert levels(verdict)["manager"] == "asserted"


def test_a_statement_of_another_hosts_manager_is_refused() -> None:
    verdict = judged(statements=[sim_statement(manager("B300", instance="2"), NONCE)])
    # Its platform is not on the policy's list; and it is not the tenant's.
    assert against(verdict, State.FAIL) >= {"FABRIC-MANAGER"}
    assert not verdict.trusted
    assert levels(verdict)["isolation"] in ("none", "asserted")


@pytest.mark.parametrize("binder", ["tdx", "tpm", "x509"])
def test_a_named_manager_of_another_board_is_refused_for_its_place(binder: BinderName) -> None:
    """Both managers are the policy's, and boards are alike: only the place tells them apart."""
    honest, machine, _ = clean("B300")
    other = manager("B300", instance="2")
    document = expectations(machine, honest)
    for kind, rules in matching_managers(other).items():
        document["fabric"]["managers"][kind] += rules
    verdict = judged(statements=[sim_statement(other, NONCE, binder=binder)], document=document)
    assert against(verdict) == {"FABRIC-SAME-HOST"}
    assert levels(verdict)["isolation"] in ("none", "asserted")
    waived = json.loads(json.dumps(document))
    waived["fabric"]["same_host"] = "any"
    # Two quotes of two platforms are a contradiction, which no policy waves through.
    verdict = judged(statements=[sim_statement(other, NONCE, binder=binder)], document=waived)
    assert verdict.trusted is (binder != "tdx")
    assert levels(verdict)["isolation"] in ("none", "asserted")


# --- freshness -----------------------------------------------------------------------------------


def test_a_statement_for_another_nonce_is_refused() -> None:
    verdict = judged(statements=[stated("B300", nonce=EPOCH)])
    assert verdict.exit_code == 3
    assert against(verdict) == {"FABRIC-STATEMENT-FRESH"}
    # Genuine, and of another day: it says nothing of today's fabric.
    assert {levels(verdict)[name] for name in STATED} == {"none"}


@pytest.mark.parametrize(
    ("seconds", "trusted"), [(30, True), (3600, True), (3601, False), (-299, True), (-301, False)]
)
def test_an_epoch_takes_the_place_of_the_nonce_for_as_long_as_the_policy_says(
    seconds: int, trusted: bool
) -> None:
    honest, machine, _ = clean("B300")
    statement = sim_statement(honest, EPOCH, at=simulated_trust(machine).at)
    now = simulated_trust(machine).at + timedelta(seconds=seconds)
    if seconds < 0:
        statement = sim_statement(honest, EPOCH, at=honest.at - timedelta(seconds=seconds))
        now = simulated_trust(machine).at
    verdict = judged(statements=[statement], epoch=EPOCH, now=now)
    assert verdict.trusted is trusted, verdict.failures()
    if not trusted:
        assert against(verdict) == {"FABRIC-STATEMENT-FRESH"}
    assert verdict.inputs["epoch"] == EPOCH.hex()


def test_without_nonce_and_epoch_nobody_knows_how_old_it_is() -> None:
    verdict = judged(nonce=None)
    assert finding(verdict, "FABRIC-STATEMENT-FRESH").state is State.NOT_CHECKED


@pytest.mark.parametrize("arguments", [{"epoch": bytes(31)}, {"statements": [b"x"] * 5}])
def test_impossible_arguments_are_refused(arguments: Json) -> None:
    with pytest.raises(UsageError):
        judged(**arguments)


# --- faults --------------------------------------------------------------------------------------

GUEST_OUT = {"FABRIC-STATE", "FABRIC-PARTITION"}
SHOWN: dict[str, set[str]] = {
    "stale-partition": {*GUEST_OUT, "FABRIC-PARTITION-ACTIVE"},
    "gpu-in-progress": {*GUEST_OUT, "FABRIC-CLIQUE"},
    "leaked-route": {"ROUTE-LEAK", "ROUTE-MULTICAST"},
    "wrong-key": {"ROUTE-PKEY"},
    "multicast-leak": {"ROUTE-MULTICAST"},
    "swapped-module": {"FABRIC-MODULES"},
    "listed-module": {"FABRIC-MODULES", "ROUTE-LEAK", "ROUTE-MULTICAST", "ROUTE-PKEY"},
    "overlapping-partitions": {"FABRIC-PARTITION-TABLE", "FABRIC-MODULES", "ROUTE-OVERLAP"},
    "rail-policy": {"FABRIC-RAIL-POLICY"},
    "manager-version": {"FABRIC-MANAGER-VERSION"},
    "manager-mode": {"FABRIC-MANAGER-MODE"},
    "open-api": {"FABRIC-MANAGER-CONFIG"},
    "replaced-binary": {"FABRIC-MANAGER-PROGRAM"},
    "log-errors": {"FABRIC-MANAGER-LOG"},
    "manager-stopped": {"FABRIC-MANAGER-PROGRAM"},
    "subnet-manager-stopped": {"FABRIC-MANAGER-PROGRAM"},
    "manager-restarted": set(),
    "host-rebooted": set(),
    "foreign-traffic": set(),
}
"""Fault → the checks that fail on it, with one statement.

A restart shows between two statements alone, foreign traffic in a probe alone: each has a test
of its own below.
"""
OF_BLACKWELL = {
    "rail-policy": "Hopper has no encrypted NVLink whose rails must be symmetric",
    "subnet-manager-stopped": "Hopper needs no subnet manager",
}
UNCHANGED = {"gpu-in-progress", "swapped-module", "log-errors", "foreign-traffic"}
"""Faults that change nothing of what concerns continuity."""


def test_every_fault_of_the_simulator_is_looked_for() -> None:
    assert set(SHOWN) == set(FAULTS)


def harmed(model: str, fault: str) -> tuple[SimManager, bytes]:
    changed = manager(model)
    FAULTS[fault].apply(changed, "a")
    return changed, node(changed.board.machine("a"))


@pytest.mark.parametrize("model", HALVES)
@pytest.mark.parametrize("fault", SHOWN)
def test_every_fault_shows_under_its_own_code(model: str, fault: str) -> None:
    if model == "H100" and fault in OF_BLACKWELL:
        pytest.skip(OF_BLACKWELL[fault])
    changed, data = harmed(model, fault)
    verdict = judged(model, [sim_statement(changed, NONCE, at=changed.at + LATER)], data=data)
    assert against(verdict, State.FAIL) == SHOWN[fault]
    assert verdict.trusted is (not SHOWN[fault])


@pytest.mark.parametrize("model", HALVES)
@pytest.mark.parametrize("fault", SHOWN)
def test_whatever_the_manager_changed_between_two_statements_shows(model: str, fault: str) -> None:
    if model == "H100" and fault in OF_BLACKWELL:
        pytest.skip(OF_BLACKWELL[fault])
    changed, data = harmed(model, fault)
    after = sim_statement(changed, NONCE, at=changed.at + LATER)
    verdict = judged(model, [stated(model), after], data=data)
    expected = SHOWN[fault] | ({"FABRIC-CONTINUITY"} if fault not in UNCHANGED else set())
    assert against(verdict, State.FAIL) == expected
    # The order in which they are given means nothing.
    again = judged(model, [after, stated(model)], data=data)
    assert against(again, State.FAIL) == expected


@pytest.mark.parametrize("model", HALVES)
def test_a_planted_leak_is_named_hop_by_hop(model: str) -> None:
    changed, data = harmed(model, "leaked-route")
    verdict = judged(model, [sim_statement(changed, NONCE)], data=data)
    found = finding(verdict, "ROUTE-LEAK").found
    cables = changed.board.fabric.cables.ends
    switch, inside = cables["GPU1", 0]
    _, outside = cables["GPU5", 0]
    assert f"GPU5 link 0 → {switch} port {outside} → {switch} port {inside} → GPU1 link 0" in found
    assert verdict.fabric is not None
    isolation = verdict.fabric["isolation"]
    assert isolation["assurance"] == "manager"
    assert isolation["value"] == {
        "closed": False,
        "problems": ["ROUTE-LEAK", "ROUTE-MULTICAST"],
        "reached_from": ["GPU5"],
        "reaches": ["GPU5"],
    }


def test_a_leak_to_those_who_must_be_apart_is_told_as_such() -> None:
    changed, data = harmed("B300", "leaked-route")
    honest, machine, _ = clean("B300")
    document = expectations(machine, honest, apart_from={"modules": [5, 6]})
    verdict = judged(statements=[sim_statement(changed, NONCE)], data=data, document=document)
    assert finding(verdict, "FABRIC-APART").found == "GPU1 reaches GPU5; GPU5 reaches GPU1"


# --- what is damaged -----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xd2\x84" + bytes(64), b"{}" * 1000])
def test_what_is_no_statement_is_malformed_evidence(data: bytes) -> None:
    verdict = judged(statements=[data])
    assert verdict.exit_code == 2
    assert "FABRIC-STATEMENT" in against(verdict, State.FAIL)


def test_a_nodes_own_bundle_is_no_statement() -> None:
    _, _, own = clean("B300")
    verdict = judged(statements=[own])
    assert "no statement" in finding(verdict, "FABRIC-STATEMENT").found


def test_a_missing_statement_leaves_the_verdict_incomplete_where_one_is_asked_for() -> None:
    verdict = judged(statements=[])
    assert verdict.exit_code == 6
    assert finding(verdict, "FABRIC-STATEMENT").state is State.NOT_CHECKED
    honest, machine, _ = clean("B300")
    document = expectations(machine, honest, statement=None, routing=None)
    assert judged(statements=[], document=document).trusted


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damaged_statement_is_trusted(data: st.DataObject) -> None:
    whole = stated("B300")
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    verdict = judged(statements=[bytes(changed)])
    assert not verdict.trusted
    assert levels(verdict)["isolation"] == "none"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5000))
def test_no_cut_statement_is_trusted(cut: int) -> None:
    assert not judged(statements=[stated("B300")[:cut]]).trusted


def test_production_roots_believe_no_simulated_manager() -> None:
    verdict = judged(trust=TrustStore.production())
    assert not verdict.trusted
    assert set(levels(verdict).values()) <= {"none", "asserted"}


def test_under_a_root_that_the_user_named_nothing_is_proven() -> None:
    _, machine, _ = clean("B300")
    store = simulated_trust(machine).store
    verdict = judged(trust=TrustStore(TrustKind.INSECURE, store.intel_root))
    assert set(levels(verdict).values()) == {"none"}


# --- results -------------------------------------------------------------------------------------


def test_no_statement_makes_the_fabric_affirmed() -> None:
    parts, _ = appraise_parts(judged())
    (fabric,) = [part for part in parts if part.label == "fabric"]
    assert fabric.tier is Tier.NONE
    changed, data = harmed("B300", "leaked-route")
    parts, _ = appraise_parts(judged(statements=[sim_statement(changed, NONCE)], data=data))
    (fabric,) = [part for part in parts if part.label == "fabric"]
    assert fabric.tier is Tier.CONTRAINDICATED


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert judged().dumps() == judged().dumps()
