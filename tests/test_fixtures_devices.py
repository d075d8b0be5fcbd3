"""The corpus with devices: every case judged as it must be, whatever was judged before it."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import _lru_cache_wrapper, cache
from pathlib import Path
from typing import Any

import pytest

import ccverify
from ccverify.checks import CHECKS, Category
from ccverify.collateral import CollateralFile, parse_collateral_file
from ccverify.errors import CcverifyError
from ccverify.findings import Finding
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.sim.cases import ATTACKS, DEVICE_GROUPS, GROUPS

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "fixtures"
CASES = sorted(
    path.parent for kind in ("nvidia", "node") for path in FIXTURES.glob(f"{kind}/*/case.json")
)
TABLE = {own.name: own for cases in DEVICE_GROUPS.values() for own in cases}
OF_DEVICES = ("GPU-", "NVSWITCH-", "DEVICES-", "TOPOLOGY-", "BIND-", "NODE-")
MUST_FAIL = (Category.EVIDENCE, Category.AUTHENTICITY, Category.COLLATERAL)


@dataclass(frozen=True)
class Case:
    """A case as another program would read it: from its files alone."""

    directory: Path
    document: dict[str, Any]

    @property
    def name(self) -> str:
        return self.directory.name

    def path(self, name: str) -> Path:
        return (self.directory / name).resolve()

    def content(self, name: str) -> bytes | None:
        place = self.document["inputs"][name]
        return None if place is None else self.path(place).read_bytes()

    def octets(self, name: str) -> bytes | None:
        text = self.document[name]
        return None if text is None else bytes.fromhex(text)

    def trust(self) -> ccverify.TrustStore:
        """A store of its own, which remembers nothing."""
        places = self.document["inputs"]
        intel, device, rim = (
            ccverify.TrustAnchor.load(self.path(places[name]).read_bytes())
            for name in ("trust", "nvidia_device_trust", "nvidia_rim_trust")
        )
        return ccverify.TrustStore(ccverify.TrustKind.SIMULATED, intel, device, rim)

    def evidence(self) -> ccverify.Evidence:
        (node,) = parse_foreign_evidence(self.content("devices") or b"").nodes
        return replace(node, quote=self.content("quote"), event_log=self.content("event_log"))

    def collateral(self) -> CollateralFile:
        paths = map(self.path, self.document["inputs"]["collateral"])
        return CollateralFile.union(map(_collateral_file, paths))

    def judge(self, trust: ccverify.TrustStore) -> ccverify.Verdict:
        collateral = self.collateral()
        return ccverify.check(
            self.evidence(),
            policy=ccverify.load_policy(self.content("policy") or b""),
            now=datetime.fromisoformat(self.document["evaluated_at"]),
            nonce=self.octets("nonce"),
            report_data=self.octets("report_data"),
            channel=self.document["channel"],
            collateral=collateral.intel,
            nvidia=collateral.nvidia,
            trust=trust,
        )

    def outcome(self, trust: ccverify.TrustStore) -> str:
        """The verdict, byte for byte, or the error that was raised."""
        try:
            return self.judge(trust).dumps()
        except CcverifyError as problem:
            return f"{problem.code} {problem.diagnostics()}"


@cache
def _collateral_file(path: Path) -> CollateralFile:
    return parse_collateral_file(path.read_bytes(), name=path.name)


def read(directory: Path) -> Case:
    return Case(directory, json.loads((directory / "case.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(map(read, CASES))


def spelled(findings: Iterable[Finding]) -> list[str]:
    """Codes as case files write them, with the device or the part a finding is about."""
    return sorted(
        f"{one.code}@{one.subject}" if one.subject not in (None, "topology") or one.code
        == "NODE-CLASSES" else one.code
        for one in findings
    )  # fmt: skip


def holds(expected: Any, found: Any) -> bool:
    """Whether all that is expected is found; objects may have more members."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and holds(value, found[name]) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(expected) == len(found)
            and all(map(holds, expected, found))
        )
    return bool(expected == found)


# --- the tables ---


def test_there_are_cases_of_both_kinds() -> None:
    assert set(TABLE) == {path.name for path in CASES}
    assert len(TABLE) == sum(map(len, DEVICE_GROUPS.values())) == len(CASES) >= 90
    assert not set(TABLE) & {own.name for group in GROUPS.values() for own in group}
    assert {path.parent.name for path in CASES} == {"nvidia", "node"}


def test_names_and_descriptions() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in TABLE)
    wrong = [
        own.name for own in TABLE.values() if not re.fullmatch(r"[^\n]{6,100}[.?]", own.description)
    ]
    assert wrong == []


def test_attacks_on_devices_have_accepted_and_refused_cases() -> None:
    named = {attack for own in TABLE.values() for attack in own.attacks}
    assert named <= set(ATTACKS)
    of_devices = {"A2", "A4", "A5", "A6", "A7", "A8", "A11", "A16", "A17", "A18", "A19", "A24",
                  "A25", "A26", "A28"}  # fmt: skip
    refused = [own for own in TABLE.values() if own.expected.verdict != "trusted"]
    assert of_devices <= {attack for own in refused for attack in own.attacks}


def test_every_exit_code_but_that_of_no_evidence_is_met() -> None:
    assert {own.expected.exit_code for own in TABLE.values()} == {0, 2, 3, 4, 5, 6}


def test_every_check_of_genuineness_fails_somewhere() -> None:
    against = {
        code.partition("@")[0]
        for own in TABLE.values()
        for code in (*own.expected.failed, *own.expected.not_checked)
    }
    known = {check.code for check in CHECKS}
    wanted = {
        check.code
        for check in CHECKS
        if check.code.startswith(OF_DEVICES) and check.category in MUST_FAIL
    }
    assert against <= known
    assert wanted - against == set()


def test_every_check_of_policy_on_devices_fails_somewhere() -> None:
    failed = {code.partition("@")[0] for own in TABLE.values() for code in own.expected.failed}
    wanted = {
        check.code
        for check in CHECKS
        if check.code.startswith(OF_DEVICES) and check.category is Category.POLICY
    }
    # Relay cannot be proven, only ruled out; LS10 is the one switch there is.
    assert wanted - failed == {"BIND-RELAYABLE", "NVSWITCH-ARCHITECTURE"}


# --- the verdicts ---


@pytest.mark.parametrize("directory", CASES, ids=lambda path: path.name)
def test_verdict_is_the_expected_one(directory: Path) -> None:
    case = read(directory)
    expected = case.document["expected"]
    if expected["verdict"] == "refused":
        with pytest.raises(CcverifyError) as caught:
            case.judge(case.trust())
        assert (caught.value.code, caught.value.exit_code) == (
            expected["error"],
            expected["exit_code"],
        )
        return
    verdict = case.judge(case.trust())
    against = verdict.failures()
    failed = [own for own in against if own.state is ccverify.State.FAIL]
    assert spelled(failed) == expected["failed"]
    assert spelled(own for own in against if own not in failed) == expected["not_checked"]
    assert verdict.conclusion.value == expected["verdict"]
    assert verdict.exit_code == expected["exit_code"]
    assert verdict.simulated
    claims = json.loads(verdict.dumps())["claims"]
    assert holds(expected["claims"], claims), claims


def test_nothing_is_accepted_under_the_production_roots(cases: list[Case]) -> None:
    production = ccverify.TrustStore.production()
    for case in cases:
        if case.document["expected"]["verdict"] == "trusted":
            verdict = case.judge(production)
            assert not verdict.trusted
            assert not verdict.simulated
            assert verdict.exit_code == 3


# --- A31: what was judged before changes nothing ---


def _caches() -> list[Any]:
    """Every function of the verifier that remembers results for the whole process."""
    modules = [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("ccverify.") and not name.startswith("ccverify.sim")
    ]
    found = {
        id(one): one
        for module in modules
        for one in vars(module).values()
        if isinstance(one, _lru_cache_wrapper) and one.__module__ == module.__name__
    }
    return list(found.values())


def _fresh_outcome(case: Case, caches: list[Any]) -> str:
    for cached in caches:
        cached.cache_clear()
    return case.outcome(case.trust())


@pytest.fixture(scope="module")
def fresh(cases: list[Case]) -> dict[str, str]:
    """The outcome of every case by a verifier that has seen nothing before it."""
    caches = _caches()
    names = {cached.__name__ for cached in caches}
    assert {"_parse_certificate", "_read_statements", "_read_content", "read_crl_entries"} <= names
    return {case.name: _fresh_outcome(case, caches) for case in cases}


def _differing(
    cases: Iterable[Case], trust: ccverify.TrustStore, fresh: dict[str, str]
) -> list[str]:
    return [case.name for case in cases if case.outcome(trust) != fresh[case.name]]


ORDERS: dict[str, Callable[[list[Case]], list[Case]]] = {
    "good ones first": lambda cases: sorted(
        cases, key=lambda case: case.document["expected"]["exit_code"]
    ),
    "bad ones first": lambda cases: sorted(
        cases, key=lambda case: -case.document["expected"]["exit_code"]
    ),
    "shuffled": lambda cases: random.Random(1).sample(cases, len(cases)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_order_of_the_cases_changes_no_verdict(
    order: str, cases: list[Case], fresh: dict[str, str]
) -> None:
    assert _differing(ORDERS[order](cases), cases[0].trust(), fresh) == []


def test_a_store_that_has_seen_all_changes_no_verdict(
    cases: list[Case], fresh: dict[str, str]
) -> None:
    trust = cases[0].trust()
    assert _differing(cases, trust, fresh) == []
    assert _differing(cases[::-1], trust, fresh) == []


def test_threads_that_share_a_store_change_no_verdict(
    cases: list[Case], fresh: dict[str, str]
) -> None:
    trust = cases[0].trust()
    orders = [random.Random(seed).sample(cases, len(cases)) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for differing in pool.map(lambda order: _differing(order, trust, fresh), orders):
            assert differing == []


def test_a_stranger_s_roots_are_not_helped_by_what_ours_have_seen(
    cases: list[Case], fresh: dict[str, str]
) -> None:
    """One memory under two stores: it holds facts on signatures, and no trust."""
    ours = cases[0].trust()
    assert _differing(cases, ours, fresh) == []
    theirs = replace(ccverify.TrustStore.production(), memory=ours.memory)
    for case in cases:
        if case.document["expected"]["verdict"] == "trusted":
            assert not case.judge(theirs).trusted
