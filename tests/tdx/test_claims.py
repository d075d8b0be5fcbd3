"""Claims of a verdict: the values a quote states and what they rest on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from vectors.judging import DEFAULT, judge_sim, sim_pack, sim_trust

from ccverify import Evidence, check, parse_quote
from ccverify.findings import Assurance
from ccverify.sim import SimPlatform
from ccverify.sim.defaults import dstack_events
from ccverify.tdx.claims import quote_claims
from ccverify.tdx.collateral import CollateralPack
from ccverify.tdx.quote import BODY_FIELDS, BodyType


@pytest.mark.parametrize(("version", "kind"), [(4, 2), (5, 2), (5, 3), (5, 4)])
def test_every_field_of_the_report_is_a_claim(version: int, kind: int) -> None:
    evidence = SimPlatform().case(version=version, body_type=kind).build()  # type: ignore[arg-type]
    quote = parse_quote(evidence.quote_bytes)
    values = quote_claims(quote)
    for name, *_ in BODY_FIELDS[BodyType(kind)]:
        claim = "td_attributes" if name == "tdattributes" else name
        assert values[claim] == getattr(quote.report, name).hex()
    assert values["quote_version"] == version
    assert values["body_type"] == BodyType(kind).name
    assert values["quote_digest"] == quote.digest
    assert values["td_attribute_names"] == ("sept_ve_disable",)
    assert values["xfam_names"] == ("x87", "sse", "avx", "avx512", "pkru", "amx")


def test_claims_about_the_platform() -> None:
    platform = SimPlatform()
    verdict = judge_sim(platform.evidence(version=5, body_type=3))
    assert verdict.tdx is not None
    values = verdict.tdx.values
    assert values["fmspc"] == platform.fmspc.hex().upper()
    assert values["pceid"] == platform.pce_id.hex().upper()
    assert values["ppid"] == platform.identifier("ppid").hex()
    assert values["platform_instance_id"] == platform.identifier("platform-instance").hex()
    assert values["sgx_type"] == "SCALABLE"
    flags = (values["dynamic_platform"], values["cached_keys"], values["smt_enabled"])
    assert flags == (True, True, True)
    assert values["tcb_evaluation_data_number"] == values["qe_evaluation_data_number"] == 20
    assert (values["tcb_status"], values["tcb_date"]) == ("UpToDate", "2025-11-12T00:00:00Z")
    assert (values["advisory_ids"], values["tcb_shortfalls"]) == ((), ())
    assert (
        values["tcb_launch"]
        == values["tcb_current"]
        == {
            "tee_tcb_svn": platform.tee_tcb_svn.hex(),
            "status": "UpToDate",
            "platform": "UpToDate",
            "tdx_module": "UpToDate",
            "qe": "UpToDate",
        }
    )
    assert set(verdict.tdx.assurance.values()) == {Assurance.HARDWARE}


def test_a_processor_platform_has_no_instance_id() -> None:
    verdict = judge_sim(SimPlatform(ca="processor").evidence())
    assert verdict.tdx is not None
    assert verdict.tdx.values["platform_instance_id"] is None
    assert verdict.tdx.values["smt_enabled"] is None


def test_launch_and_current_evaluation_are_both_told() -> None:
    platform = SimPlatform().with_relaunch_advised()
    verdict = judge_sim(platform.evidence(version=5, body_type=3))
    assert verdict.tdx is not None
    values = verdict.tdx.values
    assert values["tcb_status"] == "TDRelaunchAdvised"
    assert values["tcb_launch"]["status"] == "OutOfDate"
    assert values["tcb_current"]["status"] == "UpToDate"
    assert values["tcb_shortfalls"]


def test_without_collateral_there_is_no_tcb_and_nothing_is_vouched_for() -> None:
    verdict = judge_sim(SimPlatform().evidence(), collateral=CollateralPack())
    assert verdict.tdx is not None
    values = verdict.tdx.values
    assert (values["tcb_status"], values["tcb_date"], values["advisory_ids"]) == (None, None, ())
    assert "tcb_launch" not in values
    assert set(verdict.tdx.assurance.values()) == {Assurance.NONE}


def test_without_a_pck_certificate_there_is_no_platform() -> None:
    evidence = SimPlatform().case(inner_type=1).build()
    verdict = judge_sim(evidence)
    assert verdict.tdx is not None
    assert "ppid" not in verdict.tdx.values


def test_claims_are_json_and_every_claim_has_an_assurance() -> None:
    verdict = judge_sim(SimPlatform().evidence(version=5, body_type=4))
    assert verdict.tdx is not None
    document = json.loads(json.dumps(verdict.tdx.to_json()))
    assurance = document.pop("assurance")
    assert set(assurance) == set(document)
    assert set(assurance.values()) == {"hardware"}


def test_what_if_is_told_beside_and_changes_nothing() -> None:
    case = SimPlatform().case()
    evidence = case.build()
    stricter = tuple(
        replace(level, status="OutOfDate", advisory_ids=("INTEL-SA-99999",))
        for level in case.tcb_info.levels
    )
    info = replace(case.tcb_info, levels=stricter, tcb_evaluation_data_number=21)
    other = sim_pack(replace(case, tcb_info=info).build())
    plain, asked = judge_sim(evidence), judge_sim(evidence, what_if=other)
    assert asked.tdx is not None
    assert plain.tdx is not None
    answer = asked.tdx.values["what_if"]
    assert (answer["tcb_status"], answer["advisory_ids"]) == ("OutOfDate", ("INTEL-SA-99999",))
    assert answer["tcb_evaluation_data_number"] == 21
    assert answer["collateral_sha384"] == other.digest
    assert answer["problems"] == ()
    assert asked.tdx.assurance["what_if"] is Assurance.HARDWARE
    assert (asked.findings, asked.conclusion) == (plain.findings, plain.conclusion)
    assert "what_if" not in plain.tdx.values


def test_what_if_with_bad_collateral_says_so() -> None:
    evidence = SimPlatform().evidence()
    verdict = judge_sim(evidence, what_if=CollateralPack())
    assert verdict.trusted
    assert verdict.tdx is not None
    answer = verdict.tdx.values["what_if"]
    assert answer["tcb_status"] is None
    assert any(problem.startswith("TDX-TCB-INFO-SIGNATURE") for problem in answer["problems"])
    assert verdict.tdx.assurance["what_if"] is Assurance.NONE


def test_claims_of_the_event_log_rest_on_what_the_policy_knows() -> None:
    """Measured only where the image is on the policy's list; asserted where any image will do."""
    evidence = SimPlatform().case(runtime_events=dstack_events()).build()
    log = evidence.dstack_event_log().encode()
    verdict = check(
        Evidence(evidence.quote_bytes, log),
        policy=DEFAULT,
        now=evidence.at,
        nonce=None,
        collateral=sim_pack(evidence),
        trust=sim_trust(evidence),
    )
    assert verdict.tdx is not None
    assert verdict.tdx.values["event_log"]["application_events"] == ("app-event",)
    assert verdict.tdx.assurance["event_log"] is Assurance.ASSERTED
    assert verdict.tdx.assurance["mrtd"] is Assurance.HARDWARE
