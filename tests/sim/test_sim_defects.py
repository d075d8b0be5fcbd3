"""Every defect can be made, differs from the honest evidence, and stays what it says."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from ccverify.sim import SimEvidence, SimIssuer, SimPlatform
from ccverify.sim.defaults import DEFAULT_TIME, dstack_events
from ccverify.sim.defects import DEFECTS
from ccverify.sim.eventlog import DSTACK_EVENT_TYPE, replay_ccel, replay_dstack
from ccverify.sim.sgx_extension import SGX_EXTENSION


def everything(evidence: SimEvidence) -> tuple[bytes | str, ...]:
    return (
        evidence.quote_bytes,
        evidence.collateral.to_json(),
        evidence.root_der,
        evidence.ccel,
        evidence.dstack_event_log(),
    )


HONEST = [
    everything(case.build())
    for case in (
        SimPlatform().case(),
        SimPlatform().case(version=5, body_type=3),
        SimPlatform().case(runtime_events=dstack_events()),
    )
]


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_differs_from_honest_evidence(name: str) -> None:
    defect = DEFECTS[name]
    made = everything(defect.evidence())
    assert made not in HONEST
    assert made == everything(defect.evidence())


def test_names_and_summaries_are_unique() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in DEFECTS)
    summaries = [(own.area, own.summary) for own in DEFECTS.values()]
    assert len(set(summaries)) == len(summaries)
    assert {own.area for own in DEFECTS.values()} == {"chain", "collateral", "quote", "log"}


@pytest.mark.parametrize("name", ["root-other", "pck-crl-other-ca", "no-tcb-level", "tcb-info-sgx"])
def test_platform_and_time_are_arguments(name: str) -> None:
    platform = SimPlatform(ca="processor", label="elsewhere", issuer=SimIssuer(seed=b"else"))
    later = DEFAULT_TIME + timedelta(days=100)
    evidence = DEFECTS[name].evidence(platform, later)
    assert evidence.at == later
    assert everything(evidence) != everything(DEFECTS[name].evidence())


def leaf_of(name: str) -> x509.Certificate:
    pem = DEFECTS[name].evidence().quote.part("certification_data").rstrip(b"\0")
    return x509.load_pem_x509_certificates(pem)[0]


def test_chain_defects_are_in_the_quote() -> None:
    constraints = leaf_of("pck-is-ca").extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.ca
    assert leaf_of("pck-expired").not_valid_after_utc < DEFAULT_TIME
    assert leaf_of("pck-not-yet-valid").not_valid_before_utc > DEFAULT_TIME
    with pytest.raises(x509.ExtensionNotFound):
        leaf_of("pck-no-sgx-extension").extensions.get_extension_for_oid(
            ObjectIdentifier(SGX_EXTENSION)
        )


def test_revoked_serials_are_on_the_lists() -> None:
    for name in ("pck-revoked", "pck-on-hold"):
        evidence = DEFECTS[name].evidence()
        crl = x509.load_der_x509_crl(evidence.collateral.pck_crl)
        assert crl.get_revoked_certificate_by_serial_number(leaf_of(name).serial_number)
    honest = x509.load_der_x509_crl(SimPlatform().evidence().collateral.pck_crl)
    assert (
        honest.get_revoked_certificate_by_serial_number(leaf_of("pck-revoked").serial_number)
        is None
    )


def test_missing_members_are_missing() -> None:
    body = DEFECTS["tcb-info-without-level-status"].evidence().collateral.tcb_info
    levels = json.loads(body.text)["tcbLevels"]
    assert ["tcbStatus" in level for level in levels[:2]] == [False, True]


@pytest.mark.parametrize("name", ["ccel-event-dropped", "ccel-event-added", "ccel-events-swapped"])
def test_boot_log_no_longer_replays(name: str) -> None:
    evidence = DEFECTS[name].evidence()
    quoted = tuple(evidence.quote.part(f"body.rtmr{number}") for number in range(3))
    assert replay_ccel(evidence.boot_events)[:3] != quoted


@pytest.mark.parametrize("name", ["ccel-event-relabelled", "dstack-late-identity"])
def test_log_still_replays(name: str) -> None:
    evidence = DEFECTS[name].evidence()
    quoted = tuple(evidence.quote.part(f"body.rtmr{number}") for number in range(4))
    assert replay_dstack(evidence.boot_events, evidence.runtime_events) == quoted


def test_forged_compose_hash_keeps_the_stated_digest() -> None:
    def entry(evidence: SimEvidence) -> dict[str, Any]:
        log = json.loads(evidence.dstack_event_log())
        found: dict[str, Any] = next(own for own in log if own["event"] == "compose-hash")
        return found

    forged = entry(DEFECTS["dstack-compose-forged"].evidence())
    honest = entry(SimPlatform().case(runtime_events=dstack_events()).build())
    assert forged["digest"] == honest["digest"]
    assert forged["event_payload"] != honest["event_payload"]
    assert forged["event_type"] == honest["event_type"] == DSTACK_EVENT_TYPE
