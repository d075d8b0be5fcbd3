"""A simulated root can never pass for a vendor's."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import ccverify
from ccverify import State, TrustAnchor, TrustKind, TrustStore
from ccverify.errors import TrustError
from ccverify.sim import SimIssuer, SimPlatform
from ccverify.trust.anchors import INTEL_SGX_ROOT_CA

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "fixtures"
PEM = (FIXTURES / "trust" / "simulated_root.pem").read_bytes()
ANCHOR = TrustAnchor.load(PEM)


def good() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(FIXTURES.glob("tdx/*/case.json")):
        document = json.loads(path.read_text("utf-8"))
        if document["expected"]["verdict"] == "trusted":
            yield path.parent, document


GOOD = list(good())
GOOD_IDS = [directory.name for directory, _ in GOOD]


def judge(directory: Path, document: dict[str, Any], trust: TrustStore) -> ccverify.Verdict:
    log = document["inputs"]["event_log"]
    nonce, report_data = document["nonce"], document["report_data"]
    return ccverify.check(
        ccverify.Evidence(
            (directory / "quote.bin").read_bytes(), (directory / log).read_bytes() if log else None
        ),
        policy=ccverify.load_policy((directory / "policy.json").read_bytes()),
        now=datetime.fromisoformat(document["evaluated_at"]),
        nonce=bytes.fromhex(nonce) if nonce else None,
        report_data=bytes.fromhex(report_data) if report_data else None,
        collateral=ccverify.parse_collateral((directory / "collateral.json").read_bytes()),
        trust=trust,
    )


def failed(verdict: ccverify.Verdict) -> set[str]:
    return {own.code for own in verdict.failures() if own.state is State.FAIL}


# --- the stored evidence under each kind of trust ---


def test_there_is_good_evidence() -> None:
    assert len(GOOD) >= 40


@pytest.mark.parametrize(("directory", "document"), GOOD, ids=GOOD_IDS)
def test_production_refuses_good_evidence(directory: Path, document: dict[str, Any]) -> None:
    verdict = judge(directory, document, TrustStore.production())
    assert not verdict.trusted
    assert verdict.conclusion is ccverify.Conclusion.UNTRUSTED
    assert verdict.exit_code == 3
    assert "TDX-PCK-CHAIN" in failed(verdict)
    assert not verdict.simulated


@pytest.mark.parametrize(("directory", "document"), GOOD, ids=GOOD_IDS)
def test_simulated_trust_says_so(directory: Path, document: dict[str, Any]) -> None:
    verdict = judge(directory, document, TrustStore(TrustKind.SIMULATED, ANCHOR))
    assert verdict.trusted
    assert verdict.simulated
    written = json.loads(verdict.dumps())
    assert written["simulated"] is True
    assert written["inputs"]["trust_store"]["kind"] == "simulated"


@pytest.mark.parametrize(("directory", "document"), GOOD, ids=GOOD_IDS)
def test_insecure_trust_is_never_exit_0(directory: Path, document: dict[str, Any]) -> None:
    verdict = judge(directory, document, TrustStore(TrustKind.INSECURE, ANCHOR))
    assert not verdict.trusted
    assert verdict.exit_code == 3
    assert failed(verdict) == {"TRUST-ROOTS"}
    assert not verdict.simulated


# --- the store ---


def test_production_store_refuses_the_simulated_root() -> None:
    with pytest.raises(TrustError, match="only the roots pinned"):
        TrustStore(TrustKind.PRODUCTION, ANCHOR)


def test_production_store_refuses_intels_name_with_another_key() -> None:
    """A simulated issuer may call itself Intel: the key and the certificate decide."""
    namesake = SimIssuer(organization="Intel Corporation")
    anchor = TrustAnchor.load(namesake.root().der())
    assert anchor.subject == INTEL_SGX_ROOT_CA.subject
    with pytest.raises(TrustError):
        TrustStore(TrustKind.PRODUCTION, anchor)
    evidence = SimPlatform(issuer=namesake).evidence()
    verdict = ccverify.check(
        evidence.quote_bytes,
        policy=ccverify.load_policy((GOOD[0][0] / "policy.json").read_bytes()),
        now=evidence.at,
        nonce=None,
        collateral=ccverify.parse_collateral(evidence.collateral.to_json().encode()),
        trust=TrustStore.production(),
    )
    assert verdict.exit_code == 3
    assert {"TDX-PCK-CHAIN", "TDX-ROOT-CRL-SIGNATURE"} <= failed(verdict)


def test_stores_of_different_kinds_have_different_digests() -> None:
    simulated = TrustStore(TrustKind.SIMULATED, ANCHOR)
    insecure = TrustStore(TrustKind.INSECURE, ANCHOR)
    assert len({simulated.digest, insecure.digest, TrustStore.production().digest}) == 3


# --- the package ---


def traces() -> dict[str, bytes]:
    """What would betray that the package knows the simulated root."""
    der = base64.b64decode(b"".join(PEM.splitlines()[1:-1]))
    digests = {f"digest {name}": hashlib.new(name, der).digest() for name in ("sha256", "sha384")}
    point = ANCHOR.public_key.point
    return {**digests, "x": point[:32], "y": point[32:], "subject": ANCHOR.subject}


def spellings(value: bytes) -> tuple[bytes, ...]:
    text = value.hex().encode()
    return value, text, text.upper(), base64.b64encode(value)[:-4]


def mentions(content: bytes) -> list[str]:
    joined = content.replace(b'"\n', b"").replace(b"\n", b"").replace(b" ", b"").replace(b'"', b"")
    return [
        name
        for name, value in traces().items()
        if any(spelling in content or spelling in joined for spelling in spellings(value))
    ]


def test_only_the_simulation_knows_the_simulated_root() -> None:
    outside = [
        path
        for path in (ROOT / "ccverify").rglob("*")
        if path.is_file() and "sim" not in path.parts and "__pycache__" not in path.parts
    ]
    assert any(path.name == "store.py" for path in outside)
    assert {
        str(path): mentions(path.read_bytes()) for path in outside if mentions(path.read_bytes())
    } == {}


def test_the_search_itself_can_find() -> None:
    assert mentions(f'"{traces()["x"].hex()[:40]}"\n    "{traces()["x"].hex()[40:]}"'.encode()) == [
        "x"
    ]
    assert mentions(b"no key here") == []


def test_production_roots_are_not_simulated_ones() -> None:
    production = TrustStore.production().intel_root
    assert production.public_key != ANCHOR.public_key
    assert production.certificate_sha256 != ANCHOR.certificate_sha256
    assert production.subject != ANCHOR.subject


@pytest.mark.parametrize("package", ["trust", "tdx", "policy", "results"])
def test_what_judges_never_imports_the_simulation(package: str) -> None:
    sources = [*(ROOT / "ccverify" / package).rglob("*.py"), ROOT / "ccverify" / "verifier.py"]
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [own.name for own in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("ccverify.sim") for name in names), source
