"""What a guest measured over NVLink, in a verdict."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ccverify import State, Verdict, check, policy_from_document
from ccverify.cli.sim_sources import machine_sources, probe_source
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.collect.model import Absence, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.session import collect_bundle
from ccverify.results.ear_appraisal import appraise_parts
from ccverify.results.ear_table import Tier
from ccverify.sim.board import sim_board
from ccverify.sim.machine import SimMachine
from ccverify.sim.nvidia.cuda import SimCuda, SimLinkFaults

Json = dict[str, Any]
NONCE = sha256(b"ccverify probe test").digest()
SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs" / "spec" / "verdict-v1.schema.json").read_text("utf-8")
)
HALVES = {"B300": 2, "H100": 1}
BANDS: Json = {"min_one_way_gb_per_s": 100, "min_both_ways_gb_per_s": 200, "max_copy_ns": 50_000}
CODES = ("FABRIC-PROBE", "FABRIC-PROBE-ACCESS", "FABRIC-PROBE-BANDWIDTH", "FABRIC-PROBE-LATENCY",
         "FABRIC-PROBE-TRAFFIC")  # fmt: skip


class Given:
    name = "test"
    stage = Stage.DEVICES
    gives: tuple[str, ...] = ("fabric-probe",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def collect(self, ask: Ask) -> tuple[Outcome, ...]:
        return (Item("fabric-probe", ItemType.FABRIC_PROBE, self._data, self.name),)

    def diagnose(self) -> tuple[Absence, ...]:
        return ()


@cache
def machine(model: str = "B300") -> SimMachine:
    return sim_board(model, [HALVES[model]]).machine("a")  # type: ignore[arg-type]


def bundle(of: SimMachine, faults: SimLinkFaults | None = None, data: bytes | None = None) -> bytes:
    sources = machine_sources(of)
    if data is not None:
        sources.append(Given(data))
    elif faults is not None:
        sources.append(probe_source(SimCuda(of, faults)))
    made = collect_bundle(NONCE, sources).bundle
    assert made is not None
    return made


def judged(model: str = "B300", probe: Json | str = "required", **given: Any) -> Verdict:
    own = given.pop("of", machine(model))
    arguments: Json = {"faults": SimLinkFaults(), **given}
    return against(own, bundle(own, **arguments), expectations(own, probe))


def expectations(of: SimMachine, probe: Json | str = "required") -> Json:
    document = matching_policy(of)
    document["fabric"] = {**document.get("fabric", {}), "probe": probe}
    return document


def against(of: SimMachine, data: bytes, document: Json) -> Verdict:
    trust = simulated_trust(of)
    verdict = check(
        data,
        policy=policy_from_document(document),
        now=trust.at,
        nonce=NONCE,
        collateral=trust.collateral.intel,
        nvidia=trust.collateral.nvidia,
        trust=trust.store,
    )
    Draft202012Validator(SCHEMA).validate(json.loads(verdict.dumps()))
    return verdict


def states(verdict: Verdict) -> dict[str, State]:
    return {one.code: one.state for one in verdict.findings if one.code in CODES}


def failed(verdict: Verdict) -> set[str]:
    return {one.code for one in verdict.findings if one.state is State.FAIL}


@pytest.mark.parametrize("model", HALVES)
def test_what_was_measured_is_claimed_as_measured(model: str) -> None:
    verdict = judged(model, BANDS)
    assert verdict.trusted, verdict.failures()
    assert set(states(verdict).values()) == {State.PASS}
    assert verdict.fabric is not None
    probe = verdict.fabric["probe"]
    assert probe["assurance"] == "measured"
    assert probe["value"]["pairs"] == probe["value"]["pairs_that_reach"] == 12


@pytest.mark.parametrize("model", HALVES)
@pytest.mark.parametrize(
    ("faults", "code"),
    [
        (SimLinkFaults(no_access=frozenset({(0, 1)})), "FABRIC-PROBE-ACCESS"),
        (SimLinkFaults(lost=frozenset({(0, 1)})), "FABRIC-PROBE-ACCESS"),
        (SimLinkFaults(slow={(1, 2): 0.05}), "FABRIC-PROBE-BANDWIDTH"),
        (SimLinkFaults(foreign={2: 40_000_000_000}), "FABRIC-PROBE-TRAFFIC"),
    ],
)
def test_every_fault_of_the_links_shows_under_its_own_code(
    model: str, faults: SimLinkFaults, code: str
) -> None:
    assert code in failed(judged(model, BANDS, faults=faults))


@pytest.mark.parametrize("model", HALVES)
def test_foreign_traffic_on_a_board_shows_in_its_counters(model: str) -> None:
    board = sim_board(model, [HALVES[model]])  # type: ignore[arg-type]
    board.add_traffic(board.modules("a")[1], 40_000_000_000)
    verdict = judged(model, of=board.machine("a"))
    assert failed(verdict) == {"FABRIC-PROBE-TRAFFIC"}
    assert verdict.exit_code == 4


def test_without_measurements_the_policy_decides() -> None:
    verdict = judged(faults=None)
    assert verdict.exit_code == 6
    assert states(verdict)["FABRIC-PROBE"] is State.NOT_CHECKED
    for word in ("if-given", "any"):
        verdict = judged(probe=word, faults=None)
        assert verdict.trusted, verdict.failures()
        assert set(states(verdict).values()) == {State.NOT_APPLICABLE}
    assert judged(probe="any", faults=SimLinkFaults(foreign={2: 1 << 40})).trusted


@pytest.mark.parametrize("rule", ["required", "if-given"])
@pytest.mark.parametrize("data", [b"{}", b"\xff", b"[" * 10_000])
def test_what_is_given_must_be_readable(rule: str, data: bytes) -> None:
    verdict = judged(probe=rule, data=data, faults=None)
    assert "FABRIC-PROBE" in failed(verdict)
    assert verdict.exit_code == 2


def test_measurements_of_unknown_code_are_asserted() -> None:
    own = machine()
    document = expectations(own)
    document["tdx"]["measurements"] = dict.fromkeys(document["tdx"]["measurements"], "any")
    verdict = against(own, bundle(own, SimLinkFaults()), document)
    assert verdict.fabric is not None
    assert verdict.fabric["probe"]["assurance"] == "asserted"


def test_a_single_gpu_has_nobody_to_talk_to() -> None:
    alone = sim_board("B300", [8]).machine("a")
    document = matching_policy(alone)
    document["fabric"] = {"mode": "SPT", "probe": "required"}
    verdict = against(alone, bundle(alone, SimLinkFaults()), document)
    assert not failed(verdict) & set(CODES)


def test_no_measurement_makes_the_fabric_affirmed() -> None:
    parts, _ = appraise_parts(judged(probe=BANDS))
    (fabric,) = [part for part in parts if part.label == "fabric"]
    assert fabric.tier is Tier.NONE


def test_guests_without_attesting_gpus_are_told_what_their_driver_says() -> None:
    """As on a machine without confidential computing: nothing attests, and that is said."""
    own = machine()
    sources = [each for each in machine_sources(own) if each.gives != ("gpu",)]
    made = collect_bundle(NONCE, [*sources, probe_source(SimCuda(own))]).bundle
    assert made is not None
    verdict = against(own, made, expectations(own))
    assert {"NODE-CLASSES", "FABRIC-UNATTESTED"} <= failed(verdict)
    assert verdict.fabric is not None
    assert verdict.fabric["registration"]["value"]["registered"]
    # The driver's GPUs are nobody's that attested: nothing said of them counts.
    assert verdict.fabric["registration"]["assurance"] == "none"
    assert verdict.fabric["mode"]["value"] is None
