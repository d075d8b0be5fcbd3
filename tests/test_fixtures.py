"""The corpus: made again byte for byte, and every case judged as it must be."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import ccverify
from ccverify.checks import CHECKS, Category, Scope
from ccverify.errors import UsageError
from ccverify.sim.cases import (
    ATTACKS,
    DEVICE_GROUPS,
    GROUPS,
    STEPS,
    DeviceCase,
    FixtureCase,
)
from ccverify.sim.fixtures import build_fixtures, coverage_table, main

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "fixtures"
CASES = sorted(path.parent for path in FIXTURES.glob("tdx/*/case.json"))
TABLE = {own.name: own for cases in GROUPS.values() for own in cases}
DEVICES = {own.name: own for cases in DEVICE_GROUPS.values() for own in cases}

# Wrong by the specification, and not seen by dcap-qvl 0.7.0: names and key usage, counts in the
# SGX extension, PCEID, who may sign TCB info, the second half of the QE's REPORTDATA, unknown
# members of collateral.  A root is a trust anchor to it whatever certificate carries its key.
DCAP_QVL_ACCEPTS = {
    "pck-cn",
    "pck-key-usage",
    "qe-report-binding-tail",
    "root-path-length",
    "sgx-15-svns",
    "sgx-17-svns",
    "sgx-fmspc-twice",
    "tcb-info-pce-id",
    "tcb-info-signed-by-pck",
    "tcb-signing-below-pck-ca",
    "tcb-signing-cn",
    "unknown-member-in-qe-identity",
    "unknown-member-in-tcb-info",
}
# Right, and refused by it: TD attributes are no matter of policy to it, and type 4 is not read.
DCAP_QVL_REFUSES = {
    "good-features-by-policy",
    "good-inner-type-4",
    "good-paravisor",
    "good-service-td-listed",
}
# What a verifier of quotes is not told of.
BESIDE_THE_QUOTE = ("TDX-EVENTLOG-", "TDX-REPORT-DATA", "TDX-COLLATERAL-AGE", "TDX-EVALUATION-")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    try:
        return build_fixtures()
    except UsageError as problem:
        pytest.skip(f"fixtures cannot be made here: {problem.message}")


@pytest.fixture(scope="module")
def trust() -> ccverify.TrustStore:
    pem = (FIXTURES / "trust" / "simulated_root.pem").read_bytes()
    return ccverify.TrustStore(ccverify.TrustKind.SIMULATED, ccverify.TrustAnchor.load(pem))


def read(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "case.json").read_text("utf-8"))
    return document


def octets(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def judge(directory: Path, document: dict[str, Any], trust: ccverify.TrustStore) -> Any:
    inputs = document["inputs"]

    def content(name: str) -> bytes | None:
        return None if inputs[name] is None else (directory / inputs[name]).read_bytes()

    collateral = content("collateral")
    return ccverify.check(
        ccverify.Evidence(content("quote") or b"", content("event_log")),
        policy=ccverify.load_policy(content("policy") or b""),
        now=datetime.fromisoformat(document["evaluated_at"]),
        nonce=octets(document["nonce"]),
        report_data=octets(document["report_data"]),
        collateral=ccverify.CollateralPack()
        if collateral is None
        else ccverify.parse_collateral(collateral),
        trust=trust,
    )


# --- the files ---


def test_stored_files_are_what_the_tables_say(files: dict[str, bytes]) -> None:
    stored = {
        path.relative_to(FIXTURES).as_posix() for path in FIXTURES.rglob("*") if path.is_file()
    }
    assert stored == set(files)
    assert [
        name for name, content in files.items() if (FIXTURES / name).read_bytes() != content
    ] == []


def test_the_command_writes_these_files(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "made")]) == 0
    assert f"{len(files)} files of {len(TABLE) + len(DEVICES)} cases" in capsys.readouterr().err
    made = {
        path.relative_to(tmp_path / "made").as_posix(): path.read_bytes()
        for path in (tmp_path / "made").rglob("*")
        if path.is_file()
    }
    assert made == files


@pytest.mark.parametrize("arguments", [[], ["--help"], ["one", "two"]])
def test_the_command_wants_one_directory(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert "usage:" in capsys.readouterr().err


def test_corpus_stays_small() -> None:
    sizes = [path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()]
    assert sum(sizes) < 9e6


def test_what_a_good_quote_needs_lies_beside_it() -> None:
    """A good case is complete; others may name collateral that many of them share."""
    shared = 0
    for directory in CASES:
        place = read(directory)["inputs"]["collateral"]
        shared += place not in (None, "collateral.json")
        if read(directory)["expected"]["verdict"] == "trusted":
            assert place == "collateral.json"
    assert shared > 50


def test_shared_collateral_is_used() -> None:
    named = set()
    for path in FIXTURES.glob("*/*/case.json"):
        places = read(path.parent)["inputs"]["collateral"] or []
        for place in [places] if isinstance(places, str) else places:
            named.add((path.parent / place).resolve())
    assert set((FIXTURES / "collateral").resolve().iterdir()) <= named


def test_names_are_unique_and_descriptions_are_one_line() -> None:
    assert len(TABLE) == sum(map(len, GROUPS.values())) == len(CASES) >= 60
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in TABLE)
    assert all(re.fullmatch(r"[^\n]{6,100}[.?]", own.description) for own in TABLE.values())


def test_every_attack_and_step_has_cases() -> None:
    rows = TABLE.values()
    every: list[FixtureCase | DeviceCase] = [*rows, *DEVICES.values()]
    assert {attack for own in every for attack in own.attacks} == set(ATTACKS)
    assert {step for own in rows for step in own.steps} == set(STEPS) == set(range(1, 21))
    spoilt = [own for own in every if own.expected.verdict != "trusted"]
    assert {attack for own in spoilt for attack in own.attacks} == set(ATTACKS)
    refused = [own for own in rows if own.expected.verdict != "trusted"]
    assert {step for own in refused for step in own.steps} == set(STEPS)


def test_every_check_of_genuineness_fails_somewhere() -> None:
    failed = {code for own in TABLE.values() for code in own.expected.failed}
    wanted = {
        check.code
        for check in CHECKS
        if check.category in (Category.EVIDENCE, Category.AUTHENTICITY, Category.COLLATERAL)
        and check.scope in (Scope.NODE, Scope.TDX)
    }
    # Which root is in force is the caller's word, not the evidence's.
    assert wanted - failed == {"TRUST-ROOTS"}
    assert failed <= {check.code for check in CHECKS}


def test_documentation_has_the_coverage_table() -> None:
    page = ROOT / "docs" / "fixtures.md"
    assert page.read_text("utf-8").endswith(coverage_table())


# --- the verdicts ---


@pytest.mark.parametrize("directory", CASES, ids=lambda path: path.name)
def test_verdict_is_the_expected_one(directory: Path, trust: ccverify.TrustStore) -> None:
    document = read(directory)
    expected = document["expected"]
    if expected["verdict"] == "refused":
        with pytest.raises(ccverify.CcverifyError) as caught:
            judge(directory, document, trust)
        assert (caught.value.code, caught.value.exit_code) == (
            expected["error"],
            expected["exit_code"],
        )
        return
    verdict = judge(directory, document, trust)
    against = verdict.failures()
    failed = {own.code for own in against if own.state is ccverify.State.FAIL}
    assert sorted(failed) == expected["failed"]
    assert sorted({own.code for own in against} - failed) == expected["not_checked"]
    assert verdict.conclusion.value == expected["verdict"]
    assert verdict.exit_code == expected["exit_code"]
    if expected["claims"]:
        claims = json.loads(verdict.dumps())["claims"]["tdx"]
        assert {name: claims[name] for name in expected["claims"]} == expected["claims"]


# --- a second opinion ---


def second_opinion(directory: Path, root: bytes) -> str | None:
    """Return the TCB status by dcap-qvl, or None where it refuses."""
    dcap_qvl = pytest.importorskip("dcap_qvl", reason="needs the independent verifier dcap-qvl")
    now = datetime.fromisoformat(read(directory)["evaluated_at"])
    try:
        collateral = dcap_qvl.QuoteCollateralV3.from_json(
            (directory / read(directory)["inputs"]["collateral"]).read_text("utf-8")
        )
        quote = (directory / "quote.bin").read_bytes()
        status: str = dcap_qvl.verify_with_root_ca(
            quote, collateral, root, int(now.timestamp())
        ).status
    except ValueError:
        return None
    return status


def test_an_independent_verifier_agrees() -> None:
    pem = (FIXTURES / "trust" / "simulated_root.pem").read_bytes()
    root = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    wrongly_accepted, wrongly_refused, compared = set(), set(), 0
    for directory in CASES:
        own = TABLE[directory.name]
        place = read(directory)["inputs"]["collateral"]
        path = directory / (place or "")
        if place is None or '"artefacts"' in path.read_text("utf-8"):
            continue
        beside = [code for code in own.expected.failed if code.startswith(BESIDE_THE_QUOTE)]
        if beside or own.expected.exit_code in (1, 4, 6):
            continue
        compared += 1
        status = second_opinion(directory, root)
        if own.expected.verdict == "trusted":
            if status is None:
                wrongly_refused.add(own.name)
            else:
                assert status == own.expected.claims.get("tcb_status", "UpToDate"), own.name
        elif status is not None:
            wrongly_accepted.add(own.name)
    assert compared > 100
    assert wrongly_accepted == DCAP_QVL_ACCEPTS
    assert wrongly_refused == DCAP_QVL_REFUSES
