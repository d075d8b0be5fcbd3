"""The registry of checks: complete, consistent, and worded for people."""

from __future__ import annotations

import re

import pytest
from vectors.judging import DEFAULT, policy, sim_pack, sim_trust

from ccverify import Evidence, State, check
from ccverify.checks import CHECKS, Category, Check, Need, Scope, find_check
from ccverify.sim import SimPlatform
from ccverify.sim.defaults import dstack_events
from ccverify.tdx.attributes import TD_ATTRIBUTES

EACH = pytest.mark.parametrize("entry", CHECKS, ids=lambda entry: entry.code)


def test_codes_are_unique_and_of_one_form() -> None:
    codes = [entry.code for entry in CHECKS]
    assert len(set(codes)) == len(codes)
    assert all(
        re.fullmatch(
            r"(TDX|TRUST|NODE|GPU|NVSWITCH|DEVICES|TOPOLOGY|FABRIC|ROUTE|BUNDLE|BIND|SET)"
            r"-[A-Z0-9]+(-[A-Z0-9]+)*",
            code,
        )
        for code in codes
    )


@EACH
def test_every_entry_is_worded(entry: Check) -> None:
    for text in (entry.proves, entry.stops, entry.fix):
        assert len(text) > 10
        assert text[0].isupper() or text.startswith("`")
        assert text.endswith(".")
        assert "  " not in text
    assert 5 < len(entry.title) < 80
    assert not entry.title.endswith(".")


@EACH
def test_what_can_be_inapplicable_says_when(entry: Check) -> None:
    """NOT_APPLICABLE is accepted only where the registry says when a check applies."""
    if entry.need in (Need.UNLESS_WAIVED, Need.IF_ASKED):
        assert entry.applies


@EACH
def test_a_check_is_found_by_its_code(entry: Check) -> None:
    assert find_check(entry.code) is entry
    assert find_check(entry.code.lower()) is entry


@pytest.mark.parametrize("code", ["", "TDX", "TDX-NOVEL", "TDX-MRTD ", "tdx_mrtd"])
def test_other_codes_are_unknown(code: str) -> None:
    assert find_check(code) is None


def test_categories_are_the_exit_codes_of_the_design() -> None:
    assert {category.name: category.value for category in Category} == {
        "EVIDENCE": 2,
        "AUTHENTICITY": 3,
        "POLICY": 4,
        "COLLATERAL": 5,
    }


def test_signatures_and_revocation_cannot_be_waived() -> None:
    waivable = {entry.code for entry in CHECKS if entry.need is not Need.ALWAYS}
    # NVIDIA's manifests and revocation answers are not published for every device, so that a
    # policy may do without them; what it waives is said in the verdict.
    waivable -= {
        entry.code
        for entry in CHECKS
        if re.search(r"-(RIM-.*|REVOCATION.*)", entry.code)
        and entry.scope in (Scope.GPU, Scope.NVSWITCH)
    }
    for code in waivable:
        assert not re.search(r"SIGNATURE|CHAIN|REVOCATION|BINDING|IDENTITY-MATCH|VENDOR", code)


def test_every_attribute_has_its_check() -> None:
    codes = {f"TDX-ATTR-{a.key.upper().replace('_', '-')}" for a in TD_ATTRIBUTES}
    present = {entry.code for entry in CHECKS if entry.code.startswith("TDX-ATTR-")}
    assert present == codes | {"TDX-ATTR-RESERVED"}


def test_every_check_is_made_and_no_other() -> None:
    """One verdict over quote, collateral and log reports every code of the registry, itself."""
    evidence = SimPlatform().case(version=5, body_type=3, runtime_events=dstack_events()).build()
    log = evidence.dstack_event_log().encode()
    for rules in (DEFAULT, policy(event_log={"claims": {"app_id": ["x"]}})):
        verdict = check(
            Evidence(evidence.quote_bytes, log),
            policy=rules,
            now=evidence.at,
            nonce=None,
            collateral=sim_pack(evidence),
            trust=sim_trust(evidence),
        )
        made = [
            finding.code
            for finding in verdict.findings
            if finding.state is not State.NOT_CHECKED
            or "an earlier step ended" not in str(finding.found)
        ]
        wanted = [entry.code for entry in CHECKS if entry.scope in (Scope.NODE, Scope.TDX)]
        assert made == wanted
