"""The fabric in a verdict: simulated machines, collected for real, and what each claim rests on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from bundle.sealing import Parts, signer
from jsonschema import Draft202012Validator
from vectors.judging_devices import against, failed_codes, judge_node, one, open_codes, rules

from ccverify import Policy, State, TrustKind, Verdict, check, policy_from_document
from ccverify.bundle.verify_bundle import appraise_bundle
from ccverify.checks import CHECKS, Scope
from ccverify.checks.fabric import FABRIC_CHECKS
from ccverify.cli.sim_sources import machine_sources
from ccverify.cli.sim_statement import matching_managers, sim_statement
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.collect.model import Absence, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.session import collect_bundle
from ccverify.errors import PolicyError
from ccverify.fabric.observation import (
    Absent,
    FabricInfo,
    FabricObservation,
    GpuObservation,
    parse_observation,
    serialize_observation,
)
from ccverify.findings import Assurance
from ccverify.policy.judge_fabric import STRENGTH, weaker
from ccverify.policy.model import FABRIC_CLAIMS
from ccverify.results.ear_appraisal import appraise_parts
from ccverify.results.ear_table import Tier
from ccverify.results.render.devices import add_devices
from ccverify.results.render.groups import group_of
from ccverify.results.render.text import Page
from ccverify.sim.board_names import manager_named, tenant_named
from ccverify.sim.machine import SimMachine, sim_machine
from ccverify.sim.nvidia import SimNode

Json = dict[str, Any]
NONCE = sha256(b"ccverify fabric test").digest()
SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs" / "spec" / "verdict-v1.schema.json").read_text("utf-8")
)
STRANGER = signer("a stranger")
MPT = sim_machine("b300-hgx-2")
HGX = sim_machine("b300-hgx-4")
UNSTATED = (
    "manager", "manager_configuration", "routing", "isolation", "liveness", "probe",
)  # fmt: skip
"""Claims of which neither GPUs nor their driver say anything."""
FAIL, OPEN, WAIVED = State.FAIL, State.NOT_CHECKED, State.NOT_APPLICABLE


class Given:
    """A source of exactly these outcomes."""

    name = "test"
    stage = Stage.DEVICES

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = outcomes
        self.gives: tuple[str, ...] = tuple(one.label for one in outcomes) or ("fabric",)

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        return self._outcomes

    def diagnose(self) -> Sequence[Absence]:
        return ()


@cache
def bundle(machine: SimMachine, *observations: bytes | None) -> bytes:
    """A bundle as the collector seals it, with the machine's own observation unless given."""
    sources = machine_sources(machine)
    if observations:
        sources = [each for each in sources if each.gives != ("fabric",)]
        named = [data for data in observations if data is not None]
        labels = ("fabric", "fabric-2", "fabric-3")
        sources.append(
            Given(*(
                Item(label, ItemType.FABRIC_OBSERVATION, data, "test")
                for label, data in zip(labels, named, strict=False)
            ))
        )  # fmt: skip
    made = collect_bundle(NONCE, sources).bundle
    assert made is not None
    return made


@cache
def honest(machine: SimMachine) -> FabricObservation:
    data = appraise_bundle(bundle(machine), NONCE).observation
    assert data is not None
    return parse_observation(data)


def expectations(machine: SimMachine, **fabric: Any) -> Json:
    """The policy that fits the machine, with members of ``fabric`` replaced; None takes one out."""
    document = matching_policy(machine)
    section = {**document.get("fabric", {}), **fabric}
    document["fabric"] = {name: value for name, value in section.items() if value is not None}
    return document


def judged(
    machine: SimMachine = MPT, document: Json | None = None, data: bytes | None = None, **more: Any
) -> Verdict:
    trust = simulated_trust(machine)
    arguments: Json = {
        "policy": policy_from_document(document or expectations(machine)),
        "now": trust.at,
        "nonce": NONCE,
        "collateral": trust.collateral.intel,
        "nvidia": trust.collateral.nvidia,
        "trust": trust.store,
    }
    verdict = check(data or bundle(machine), **(arguments | more))
    Draft202012Validator(SCHEMA).validate(json.loads(verdict.dumps()))
    return verdict


def with_gpu(machine: SimMachine, number: int = 1, **changes: Any) -> bytes:
    """A bundle whose driver says something else of one GPU."""
    gpus = list(honest(machine).gpus)
    gpus[number] = replace(gpus[number], **changes)
    return bundle(machine, serialize_observation(replace(honest(machine), gpus=tuple(gpus))))


def registration(machine: SimMachine, number: int = 0) -> FabricInfo:
    info = honest(machine).gpus[number].fabric
    assert isinstance(info, FabricInfo)
    return info


def with_fabric(machine: SimMachine = MPT, **changes: Any) -> bytes:
    """The same of one GPU's registration."""
    return with_gpu(machine, fabric=replace(registration(machine, 1), **changes))


def levels(verdict: Verdict) -> dict[str, str]:
    assert verdict.fabric is not None
    return {name: claim["assurance"] for name, claim in verdict.fabric.items()}


def made(verdict: Verdict) -> dict[str, State]:
    own = {entry.code for entry in CHECKS if entry.scope is Scope.FABRIC}
    return {f.code: f.state for f in verdict.findings if f.code in own}


# --- honest machines -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4, 8])
def test_an_honest_tenant_is_trusted_and_nothing_is_claimed_too_strongly(count: int) -> None:
    machine = sim_machine(f"b300-hgx-{count}")
    verdict = judged(machine)
    assert verdict.trusted, verdict.failures()
    assert levels(verdict) == {
        "mode": "hardware",
        "members": "asserted",
        "partition": "asserted",
        "registration": "asserted",
        "encryption_in_force": "measured",
        "health": "asserted",
        "links": "measured",
        **dict.fromkeys(UNSTATED, "none"),
        "driver_report": "measured",
    }
    assert verdict.fabric is not None
    assert verdict.fabric["members"]["value"] == [g.pdi.hex().upper() for g in machine.node.gpus]
    assert verdict.fabric["encryption_in_force"]["value"] is True
    for name in UNSTATED:
        assert verdict.fabric[name] == {"value": None, "assurance": "none", "sources": []}
    for finding in verdict.findings:
        if finding.code.startswith("FABRIC-") and finding.code != "FABRIC-MODE":
            assert finding.assurance is not Assurance.HARDWARE


@pytest.mark.parametrize("name", ["h100-1", "b300-hgx-1", "rtx-pro-6000-1", "h100-hgx-8"])
def test_other_modes_pass_the_rules_that_apply(name: str) -> None:
    machine = sim_machine(name)
    mode = "PPCIE" if name == "h100-hgx-8" else "SPT"
    verdict = judged(machine, expectations(machine, mode=mode))
    assert verdict.trusted, verdict.failures()
    states = made(verdict)
    assert states["FABRIC-NVLE"] is WAIVED
    assert (states["FABRIC-STATE"] is WAIVED) is (mode == "SPT")
    assert set(states) == {entry.code for entry in CHECKS if entry.scope is Scope.FABRIC}


def test_the_fabric_is_shown() -> None:
    page = Page(100, color=False)
    add_devices(page, judged())
    text = page.text()
    for words in (
        "\nFabric\n", "driver's report", "measured  yes", "asserted  2 attested GPUs: ",
        "18 up on each of 2 GPUs", "none      not known: no evidence says",
        "No GPU signs who", "in byte order certificate",
    ):  # fmt: skip
        assert words in text, words
    assert group_of("FABRIC-STATE") == "Fabric"


# --- silence -------------------------------------------------------------------------------------


def test_a_policy_that_is_silent_on_the_fabric_leaves_the_verdict_open() -> None:
    document = expectations(MPT)
    del document["fabric"]
    verdict = judged(document=document)
    assert against(verdict) == {("NODE-CLASSES", "fabric"): OPEN}
    assert (verdict.exit_code, verdict.fabric, made(verdict)) == (6, None, {})
    verdict = judged(document=document | {"fabric": "any"})
    assert verdict.trusted
    assert one(verdict, "NODE-CLASSES", "fabric").state is WAIVED
    assert (verdict.fabric, made(verdict)) == (None, {})


def test_silence_is_no_matter_where_nobody_shares_a_fabric() -> None:
    for name in ("h100-1", "b300-hgx-1"):
        verdict = judged(sim_machine(name), matching_policy(sim_machine(name)))
        assert verdict.trusted
        assert verdict.fabric is None


def test_a_fabric_without_gpus_is_not_there() -> None:
    document = expectations(MPT)
    quote = appraise_bundle(bundle(MPT), NONCE).evidence
    assert quote is not None
    verdict = check(
        replace(quote, gpus=()),
        policy=policy_from_document(document),
        now=MPT.at,
        nonce=NONCE,
        collateral=simulated_trust(MPT).collateral.intel,
        trust=simulated_trust(MPT).store,
    )
    assert {("NODE-CLASSES", "gpus"): FAIL, ("NODE-CLASSES", "fabric"): FAIL}.items() <= (
        against(verdict).items()
    )


RULES_ON_IT = {
    entry.code for entry in FABRIC_CHECKS if entry.code not in ("FABRIC-MODE", "FABRIC-ASSURANCE")
}


@pytest.mark.parametrize("rule", ["required", "if-given", "any"])
def test_a_machine_that_says_nothing_of_its_fabric(rule: str) -> None:
    partition = None if rule == "any" else {"size": 2}
    document = expectations(MPT, observation=rule, partition=partition)
    verdict = judged(document=document, data=bundle(MPT, None))
    assert open_codes(verdict) == (RULES_ON_IT if rule == "required" else set())
    assert failed_codes(verdict) == set()
    assert verdict.exit_code == (6 if rule == "required" else 0)
    assert {"mode": "hardware", "members": "none", "links": "none"}.items() <= levels(
        verdict
    ).items()
    assert "driver_report" not in levels(verdict)


def test_without_a_bundle_there_is_no_observation() -> None:
    node = SimNode.blackwell("MPT", 2)
    gpus = {"count": 2, "architectures": ["BLACKWELL"], "modes": ["MPT"]}
    verdict = judge_node(node, rules({"gpus": gpus, "fabric": {"mode": "MPT"}}))
    assert open_codes(verdict) == RULES_ON_IT - {"FABRIC-PARTITION"}
    assert "came in no bundle" in (one(verdict, "FABRIC-OBSERVATION", "fabric").found or "")


@pytest.mark.parametrize("rule", ["required", "if-given"])
@pytest.mark.parametrize("data", [b"{}", b"\xff"])
def test_what_is_given_must_be_readable(rule: str, data: bytes) -> None:
    verdict = judged(document=expectations(MPT, observation=rule), data=bundle(MPT, data))
    assert failed_codes(verdict) == {"FABRIC-OBSERVATION"}
    assert open_codes(verdict) == RULES_ON_IT - {"FABRIC-OBSERVATION"}
    assert verdict.exit_code == 2
    aside = expectations(MPT, observation="any", partition=None)
    assert judged(document=aside, data=bundle(MPT, data)).trusted


def test_a_bundle_has_one_observation_at_most() -> None:
    parts = Parts.of(bundle(MPT), STRANGER).with_key(STRANGER)
    twice = parts.with_records(fabric_2=parts.records["fabric"])
    twice = twice.with_entry("fabric-2", twice.manifest["items"]["fabric"])
    verdict = judged(data=twice.bytes())
    assert "BUNDLE-FORMAT" in failed_codes(verdict)
    assert verdict.exit_code == 2
    assert verdict.fabric is None


# --- faults --------------------------------------------------------------------------------------


def _unseen_pdi(machine: SimMachine) -> bytes:
    return with_gpu(machine, pdi="11" * 8)


def _settings(**changes: Any) -> bytes:
    seen = honest(MPT)
    settings = replace(seen.confidential_computing, **changes)
    return bundle(MPT, serialize_observation(replace(seen, confidential_computing=settings)))


def _extra() -> bytes:
    seen = honest(MPT)
    extra: GpuObservation = replace(
        seen.gpus[0], index=2, uuid="GPU-9", pdi="11" * 8, module=9, pci_bus_id="x"
    )
    return bundle(MPT, serialize_observation(replace(seen, gpus=(*seen.gpus, extra), peers=())))


FAULTS: dict[str, tuple[Callable[[], bytes], set[str], int]] = {
    "stale partition, links trained": (lambda: with_fabric(state=2), {"STATE"}, 4),
    "registration failed": (lambda: with_fabric(status=999), {"STATE"}, 4),
    "another clique": (
        lambda: with_fabric(cliques=registration(HGX).cliques),
        {"CLIQUE", "PARTITION"}, 4,
    ),
    "unhealthy": (lambda: with_fabric(health_summary=2), {"HEALTH"}, 4),
    "plain NVLinks": (lambda: with_gpu(MPT, encrypted=0), {"NVLE"}, 4),
    "links gone": (lambda: with_gpu(MPT, links=()), {"LINKS"}, 4),
    "module id twice": (lambda: with_gpu(MPT, module=honest(MPT).gpus[0].module), {"MODULE"}, 3),
    "another driver's mode": (lambda: _settings(multi_gpu_mode=0), {"MODE-AGREES"}, 3),
    "another VBIOS": (lambda: with_gpu(MPT, vbios="97.00.00.00.00"), {"VERSIONS"}, 3),
    "a GPU of another machine": (
        lambda: _unseen_pdi(MPT), {"IDENTITY", "UNATTESTED", "UNSEEN"}, 3
    ),
    "a GPU nobody attested": (_extra, {"UNATTESTED", "PARTITION"}, 3),
    "one GPU twice": (
        lambda: with_gpu(MPT, pdi=honest(MPT).gpus[0].pdi), {"IDENTITY", "UNSEEN", "DISTINCT"}, 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_has_its_own_code(name: str) -> None:
    make, expected, exit_code = FAULTS[name]
    verdict = judged(data=make())
    assert failed_codes(verdict) == {f"FABRIC-{code}" for code in expected}
    assert open_codes(verdict) == set()
    assert verdict.exit_code == exit_code


@pytest.mark.parametrize(
    ("fault", "waiver"),
    [
        ("stale partition, links trained", {"state": "any"}),
        ("unhealthy", {"health": "any"}),
        ("plain NVLinks", {"nvle": "any"}),
        ("links gone", {"links": "any"}),
    ],
)
def test_what_a_policy_may_waive(fault: str, waiver: Json) -> None:
    verdict = judged(document=expectations(MPT, **waiver), data=FAULTS[fault][0]())
    assert verdict.trusted, verdict.failures()
    if fault == "plain NVLinks":
        assert verdict.fabric is not None
        assert verdict.fabric["encryption_in_force"]["value"] is False


def test_health_that_is_not_stated() -> None:
    data = with_fabric(health_mask=0, health_summary=0)
    assert judged(data=data).trusted
    verdict = judged(document=expectations(MPT, health="required"), data=data)
    assert against(verdict) == {("FABRIC-HEALTH", "fabric"): OPEN}
    assert judged(document=expectations(MPT, health="required")).trusted


def test_the_partition_of_the_policy() -> None:
    clique = registration(MPT).cliques[0].id
    cluster = registration(MPT).cluster_uuid
    for partition, good in (
        ({"size": 2}, True),
        ({"clique_ids": [clique, 77]}, True),
        ({"clique_ids": [77]}, False),
        ({"cluster_uuids": [cluster.upper()]}, True),
        ({"cluster_uuids": ["77" * 16]}, False),
    ):
        verdict = judged(document=expectations(MPT, partition=partition))
        assert failed_codes(verdict) == (set() if good else {"FABRIC-PARTITION"})
        assert one(verdict, "FABRIC-PARTITION", "fabric").assurance is Assurance.ASSERTED
    silent = with_gpu(MPT, fabric=Absent("NVML_ERROR_NOT_SUPPORTED"))
    verdict = judged(document=expectations(MPT, partition={"clique_ids": [clique]}), data=silent)
    assert {"FABRIC-PARTITION", "FABRIC-STATE", "FABRIC-CLIQUE"} <= open_codes(verdict)


def test_the_expected_mode_is_the_signed_one() -> None:
    machine = sim_machine("h100-1")
    gpu = machine.node.gpus[0]
    other = replace(machine, node=machine.node.with_gpu(0, gpu.in_mode(None)))
    document = expectations(machine, mode="SPT")
    document["gpus"]["modes"] = "any"
    assert judged(machine, document).trusted
    silent = judged(other, document, trust=simulated_trust(machine).store)
    assert against(silent) == {("FABRIC-MODE", "fabric"): OPEN}
    assert levels(silent)["mode"] == "none"
    document["fabric"]["mode"] = "PPCIE"
    verdict = judged(machine, document)
    assert failed_codes(verdict) == {"FABRIC-MODE"}
    assert one(verdict, "FABRIC-MODE", "fabric").assurance is Assurance.HARDWARE


def test_a_number_of_links_is_asked_of_a_single_gpu_too() -> None:
    machine = sim_machine("b300-hgx-1")
    assert judged(machine, expectations(machine, links=0)).trusted
    verdict = judged(machine, expectations(machine, links=18))
    assert failed_codes(verdict) == {"FABRIC-LINKS"}


# --- assurance -----------------------------------------------------------------------------------


def unpinned(machine: SimMachine = MPT, **fabric: Any) -> Json:
    document = expectations(machine, **fabric)
    document["tdx"]["measurements"]["rtmr1"] = "any"
    return document


def test_a_report_of_unknown_code_is_asserted() -> None:
    found = levels(judged(document=unpinned()))
    assert {found[name] for name in ("driver_report", "encryption_in_force", "links")} == {
        "asserted"
    }
    assert found["mode"] == "hardware"


def test_a_report_that_the_quote_does_not_cover_is_asserted() -> None:
    """Sealed again by somebody else, around the genuine quote and reports."""
    parts = Parts.of(bundle(MPT), STRANGER).with_key(STRANGER)
    forged = dict(parts.records)
    record = list(forged["fabric"])
    record[1] = serialize_observation(replace(honest(MPT), nvml="1"))
    verdict = judged(data=parts.with_records(fabric=record).listing("fabric").bytes())
    assert "TDX-REPORT-DATA" in failed_codes(verdict)
    assert levels(verdict)["driver_report"] == "asserted"


def test_an_item_that_the_manifest_does_not_list_is_asserted() -> None:
    parts = Parts.of(bundle(MPT))
    record = list(parts.records["fabric"])
    record[1] = serialize_observation(replace(honest(MPT), nvml="1"))
    verdict = judged(data=parts.with_records(fabric=record).bytes())
    assert "BUNDLE-MANIFEST" in failed_codes(verdict)
    assert levels(verdict)["driver_report"] == "asserted"


def test_under_an_insecure_root_nothing_stands() -> None:
    store = replace(simulated_trust(MPT).store, kind=TrustKind.INSECURE)
    assert set(levels(judged(trust=store)).values()) == {"none"}


def test_a_contested_claim_rests_on_nothing() -> None:
    found = levels(judged(data=_unseen_pdi(MPT)))
    for name in (
        "members", "partition", "registration", "encryption_in_force", "health", "links",
    ):  # fmt: skip
        assert found[name] == "none", name
    assert found["mode"] == "hardware"
    assert found["driver_report"] == "measured"
    assert levels(judged(data=_settings(multi_gpu_mode=0)))["encryption_in_force"] == "none"


@pytest.mark.parametrize(
    "floor", ["asserted", "operator", "host", "manager", "measured", "hardware"]
)
def test_the_floor_decides(floor: str) -> None:
    for document in (expectations(MPT), unpinned()):
        found = levels(judged(document=document))
        for name in FABRIC_CLAIMS:
            document["fabric"]["assurance"] = {name: floor}
            verdict = judged(document=document)
            enough = STRENGTH[Assurance(found[name])] >= STRENGTH[Assurance(floor)]
            assert ("FABRIC-ASSURANCE" in failed_codes(verdict)) is not enough, name
            if not enough:
                assert name in (one(verdict, "FABRIC-ASSURANCE", "fabric").found or "")
                assert verdict.exit_code == 4


def test_no_unsigned_word_is_affirmed() -> None:
    """Whatever the guest sees can speak against the fabric, and never for it."""
    verdict = replace(
        judged(),
        simulated=False,
        inputs={**judged().inputs, "trust_store": {"kind": "production", "sha384": "0" * 96}},
    )
    parts = {part.label: part for part in appraise_parts(verdict)[0]}
    assert parts["gpu-0"].tier is Tier.AFFIRMING
    assert parts["fabric"].tier is Tier.NONE
    assert dict(parts["fabric"].vector) == {"configuration": 0}
    parts = {p.label: p for p in appraise_parts(judged(data=with_gpu(MPT, encrypted=0)))[0]}
    assert parts["fabric"].tier is Tier.CONTRAINDICATED


@cache
def stated(name: str) -> Verdict:
    """A tenant of a simulated board whose manager states everything, from a service VM."""
    machine, manager = tenant_named(name), manager_named(name)
    return judged(
        machine,
        expectations(
            machine,
            statement="required",
            managers=matching_managers(manager),
            routing="required",
        ),
        statements=[sim_statement(manager, NONCE)],
    )


def real(verdict: Verdict) -> Verdict:
    """The same as if under real roots."""
    store = {"kind": "production", "sha384": "0" * 96}
    return replace(verdict, simulated=False, inputs={**verdict.inputs, "trust_store": store})


def test_a_statement_is_worth_its_manager_and_never_affirmed() -> None:
    verdict = stated("b300-board-4+4/a")
    assert verdict.trusted, verdict.failures()
    found = levels(verdict)
    of_manager = ("members", "partition", "manager", "manager_configuration", "routing",
                  "isolation", "liveness")  # fmt: skip
    assert {found[name] for name in of_manager} == {"manager"}
    assert (found["registration"], found["probe"]) == ("asserted", "none")
    assert verdict.fabric is not None
    assert verdict.fabric["isolation"]["value"]["closed"] is True
    parts = {part.label: part for part in appraise_parts(real(verdict))[0]}
    assert parts["gpu-0"].tier is Tier.AFFIRMING
    assert parts["fabric"].tier is Tier.NONE
    assert dict(parts["fabric"].vector) == {"configuration": 0}


def test_a_leak_speaks_against_the_fabric() -> None:
    verdict = stated("b300-board-4+4/a@leaked-route")
    assert failed_codes(verdict) == {"ROUTE-LEAK", "ROUTE-MULTICAST"}
    assert verdict.exit_code == 4
    assert verdict.fabric is not None
    isolation = verdict.fabric["isolation"]
    assert (isolation["value"]["closed"], isolation["assurance"]) == (False, "manager")
    parts = {part.label: part for part in appraise_parts(real(verdict))[0]}
    assert parts["fabric"].tier is Tier.CONTRAINDICATED
    page = Page(100, color=False)
    add_devices(page, verdict)
    assert "isolation            manager   no: ROUTE-LEAK, ROUTE-MULTICAST" in page.text()


def test_tables_that_nobody_keeps_up_prove_no_isolation() -> None:
    verdict = stated("b300-board-4+4/a@subnet-manager-stopped")
    assert failed_codes(verdict) == {"FABRIC-MANAGER-PROGRAM"}
    assert {"FABRIC-ROUTING", "ROUTE-LEAK"} <= open_codes(verdict)
    assert verdict.fabric is not None
    assert verdict.fabric["isolation"] == {"value": None, "assurance": "none", "sources": []}


def test_a_stale_statement_shows_no_liveness() -> None:
    machine, manager = tenant_named("b300-board-4+4/a"), manager_named("b300-board-4+4/a")
    section = {"statement": "required", "managers": matching_managers(manager)}
    old = sim_statement(manager, b"\x07" * 32)
    verdict = judged(machine, expectations(machine, **section), statements=[old])
    assert failed_codes(verdict) == {"FABRIC-STATEMENT-FRESH"}
    assert levels(verdict)["liveness"] == "none"
    verdict = judged(
        machine, expectations(machine, **section), statements=[old], epoch=b"\x07" * 32
    )
    assert verdict.trusted, verdict.failures()
    assert levels(verdict)["liveness"] == "manager"


def test_levels_have_one_order() -> None:
    names = ["hardware", "measured", "manager", "host", "operator", "asserted", "none"]
    assert names == [level.value for level in Assurance]
    for at, name in enumerate(names):
        for other in names[at:]:
            assert weaker(Assurance(name), Assurance(other)).value == other
            assert weaker(Assurance(other), Assurance(name)).value == other


# --- policies that cannot be met -----------------------------------------------------------------


def _with(**sections: Any) -> Policy:
    document = expectations(MPT)
    for name, value in sections.items():
        document[name] = value
    return policy_from_document({k: v for k, v in document.items() if v is not None})


@pytest.mark.parametrize(
    ("where", "sections"),
    [
        ("policy.fabric", {"gpus": None}),
        ("policy.fabric", {"gpus": "any"}),
        ("policy.fabric.mode", {"fabric": {"mode": "PPCIE"}}),
        ("policy.fabric.partition.size", {"fabric": {"partition": {"size": 4}}}),
        ("policy.fabric.partition", {"fabric": {"observation": "any", "partition": {"size": 2}}}),
        ("policy.fabric", {"fabric": "some"}),
        ("policy.fabric.links", {"fabric": {"links": "all"}}),
        ("policy.fabric.links", {"fabric": {"links": 65}}),
        ("policy.fabric.assurance.members", {"fabric": {"assurance": {"members": "none"}}}),
        ("policy.fabric.assurance", {"fabric": {"assurance": {"colour": "measured"}}}),
        ("policy.fabric.partition.cluster_uuids[0]",
         {"fabric": {"partition": {"cluster_uuids": ["77"]}}}),
    ],
)  # fmt: skip
def test_a_policy_that_no_machine_could_meet_is_refused(where: str, sections: Json) -> None:
    _with(fabric={})
    with pytest.raises(PolicyError) as problem:
        _with(**sections)
    assert problem.value.where == where
