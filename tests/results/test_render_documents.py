"""Inspections, explanations, policies and errors: as text and as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ccverify
from ccverify.checks import CHECKS
from ccverify.policy.model import MEASUREMENTS, MUST_STATE, FabricPolicy, TdxPolicy
from ccverify.results.render.describe import (
    describe_collateral,
    describe_event_log,
    describe_quote,
)
from ccverify.results.render.explain import nearest_code, render_check, render_checks
from ccverify.results.render.inspection import (
    INSPECTION_SCHEMA,
    Group,
    Inspection,
    Item,
    Listing,
    Part,
    Section,
    inspection_json,
    render_inspection,
)
from ccverify.results.render.json import error_json
from ccverify.results.render.policy import effective_document, policy_json, render_policy
from ccverify.sim import SimPlatform
from ccverify.sim.certs import to_pem
from ccverify.sim.defaults import dstack_events
from ccverify.sim.operator import SimOperator
from ccverify.tdx.attributes import TD_ATTRIBUTES
from ccverify.tdx.quote import BODY_FIELDS, ENCLAVE_REPORT_FIELDS, HEADER_FIELDS, Quote

PLATFORM = SimPlatform()


def quote_of(version: int, body_type: int, inner_type: int = 5) -> Quote:
    case = PLATFORM.case(version=version, body_type=body_type, inner_type=inner_type)  # type: ignore[arg-type]
    return ccverify.parse_quote(case.build().quote_bytes)


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 2), (5, 3), (5, 4)])
def test_every_field_of_a_quote_is_shown(version: int, body_type: int) -> None:
    quote = quote_of(version, body_type)
    inspection = describe_quote(quote)
    text = render_inspection(inspection, width=100)
    document = json.loads(inspection_json(inspection))
    fields = BODY_FIELDS[quote.report.body_type]
    for name, *_ in fields:
        assert document["report"][name] == getattr(quote.report, name).hex()
        assert f"  {name}" in text
    assert set(document["header"]) == {field.name for field in HEADER_FIELDS}
    assert set(document["qe_report"]) == {field.name for field in ENCLAVE_REPORT_FIELDS}
    assert document["platform"]["fmspc"] == PLATFORM.fmspc.hex().upper()
    assert [c["name"] for c in document["pck_chain"]][-1] == "Intel SGX Root CA"
    assert document["signature_data"]["quote_sha384"] == quote.digest


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 4)])
def test_places_are_where_the_bytes_are(version: int, body_type: int) -> None:
    evidence = PLATFORM.case(version=version, body_type=body_type).build()  # type: ignore[arg-type]
    quote = ccverify.parse_quote(evidence.quote_bytes)
    report = next(part for part in describe_quote(quote).parts if part.key == "report")
    assert isinstance(report, Section)
    for item in report.items:
        start, stop = map(int, item.where.removeprefix("quote[").removesuffix("]").split(":"))
        assert evidence.quote_bytes[start:stop].hex() == item.value


def test_bits_are_shown_by_name() -> None:
    value = 1 | 1 << 28 | 1 << 40
    case = PLATFORM.case().with_body(td_attributes=value.to_bytes(8, "little"))
    quote = ccverify.parse_quote(case.build().quote_bytes)
    bits = json.loads(inspection_json(describe_quote(quote)))["td_attributes"]
    assert {name for name, on in bits.items() if on is True} == {"debug", "sept_ve_disable"}
    assert bits["reserved"] == hex(1 << 40)
    assert set(bits) == {bit.key for bit in TD_ATTRIBUTES} | {"reserved"}


@pytest.mark.parametrize("inner_type", [1, 2, 3, 4])
def test_a_quote_without_pck_chain_is_shown_too(inner_type: int) -> None:
    document = json.loads(inspection_json(describe_quote(quote_of(4, 2, inner_type))))
    assert document["signature_data"]["certification_data_type"] == inner_type
    assert "pck_chain" not in document


def test_an_unreadable_pck_chain_does_not_hide_the_quote() -> None:
    case = PLATFORM.case().with_quote(certification_data=b"-----BEGIN NONSENSE\x1b]-----")
    quote = ccverify.parse_quote(case.build().quote_bytes)
    inspection = describe_quote(quote)
    assert "error" in json.loads(inspection_json(inspection))["pck_chain"]
    assert render_inspection(inspection, width=80).replace("\n", "").isprintable()


def test_an_unreadable_name_does_not_hide_the_quote() -> None:
    """A name that is no valid text is shown as its bytes, and everything else as ever."""
    pem = PLATFORM.case().pck_chain()
    leaf, mark, rest = pem.partition("-----END CERTIFICATE-----")
    der = bytearray(base64.b64decode(leaf.split("-----BEGIN CERTIFICATE-----")[1]))
    der[der.index(b"Intel SGX PCK Certificate")] = 0xFF
    spoiled = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}{mark}{rest}"
    case = PLATFORM.case().with_quote(certification_data=spoiled.encode())
    inspection = describe_quote(ccverify.parse_quote(case.build().quote_bytes))
    document = json.loads(inspection_json(inspection))
    assert "ff6e74656c2053475820" in document["pck_chain"][0]["name"]
    assert document["platform"]["fmspc"] == PLATFORM.fmspc.hex().upper()


def test_a_pack_shows_its_artefacts() -> None:
    data = PLATFORM.evidence().collateral.to_json().encode()
    pack = ccverify.parse_collateral(data)
    inspection = describe_collateral(pack)
    document = json.loads(inspection_json(inspection))
    assert [a["type"] for a in document["artefacts"]] == [a.kind for a in pack.artefacts]
    assert document["summary"]["pack_sha384"] == pack.digest
    assert "FMSPC 53494D000000" in render_inspection(inspection, width=100)


@pytest.mark.parametrize("form", ["ccel", "dstack"])
def test_a_log_shows_events_and_what_it_replays_to(form: str) -> None:
    evidence = PLATFORM.case(runtime_events=dstack_events()).build()
    data = evidence.ccel if form == "ccel" else evidence.dstack_event_log().encode()
    log = ccverify.parse_event_log(data)
    document = json.loads(inspection_json(describe_event_log(log)))
    report = ccverify.parse_quote(evidence.quote_bytes).report
    assert document["replayed"]["rtmr1"] == report.rtmr1.hex()
    assert len(document["events"]) == len(log.events)
    assert ("claims" in document) == (form == "dstack")
    if form == "dstack":
        assert document["replayed"]["rtmr3"] == report.rtmr3.hex()
        assert document["claims"]["storage_fs"] == "zfs"
    text = render_inspection(describe_event_log(log), width=120)
    assert "Calling EFI Application from Boot Option" in text


def test_both_forms_say_unverified_first() -> None:
    inspection = describe_quote(quote_of(4, 2))
    assert render_inspection(inspection, width=80).splitlines()[1].startswith("UNVERIFIED")
    head = json.loads(inspection_json(inspection))
    assert list(head)[:3] == ["schema", "verified", "kind"]
    assert (head["schema"], head["verified"]) == (INSPECTION_SCHEMA, False)


@given(st.text(), st.text(), st.text(max_size=20))
def test_no_inspected_text_reaches_the_terminal_as_it_is(a: str, b: str, c: str) -> None:
    parts: list[Part] = [
        Section("s", a, (Item(c, b, a, b), Item(b, [a, {b: c}]))),
        Listing("l", b, ("x", "y"), ({"x": c, "y": a}, {"x": None, "y": ""}), limit=1, notice=b),
        Listing("m", b, (c,), ({},), shown=((a,),)),
    ]
    parts.append(Group("g", ((a, tuple(parts)), (b, (Group("h", ((c, tuple(parts)),)),)))))
    text = render_inspection(Inspection("k", a, parts), width=80)
    assert text.replace("\n", "").isprintable()


# --- explain ---


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_can_be_explained(check: ccverify.Check) -> None:
    words = " ".join(render_check(check, width=80).split())
    for text in (check.code, check.title, check.proves, check.stops, check.fix):
        assert " ".join(text.split()) in words
    assert str(int(check.category)) in words or check.need.value == "advice"


def test_the_list_has_every_check_once() -> None:
    words = render_checks(width=100).split()
    assert all(words.count(check.code) == 1 for check in CHECKS)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("TDX-MRDT", "TDX-MRTD"),
        ("tdx_quote_signature", "TDX-QUOTE-SIGNATURE"),
        ("mrtd", "TDX-MRTD"),
        ("DEBUG", "TDX-ATTR-DEBUG"),
        ("", None),
        ("completely else", None),
        ("x" * 10**6, None),
    ],
)
def test_the_nearest_code_is_found(wrong: str, right: str | None) -> None:
    assert nearest_code(wrong) == right


# --- policies ---

FULL: dict[str, Any] = {
    "schema": "ccverify.policy/v1",
    "name": "full \u202e",
    "tdx": {
        "tcb": {
            "accepted_statuses": ["UpToDate", "SWHardeningNeeded"],
            "grace_days": {"OutOfDate": 30},
            "min_evaluation_number": 17,
            "min_qe_evaluation_number": 16,
            "rejected_advisories": ["INTEL-SA-00001"],
            "min_tee_tcb_svn": "06" * 16,
        },
        "collateral": {"max_age_days": 7, "allow_unknown_fields": True},
        "measurements": {name: ["ab" * 48, "cd" * 48] for name in MEASUREMENTS},
        "attributes": {"debug": "allow", "kl": "forbid"},
        "xfam": {"require": ["amx"], "forbid": ["pt", "lbr"]},
        "service_td": ["ef" * 48],
        "platform": {
            "fmspc": ["B0C06F000000"],
            "ppid": ["11" * 16],
            "platform_instance_id": ["22" * 16],
            "smt": "forbid",
            "dynamic_platform": "forbid",
            "cached_keys": "allow",
        },
        "report_data": ["33" * 64],
        "event_log": {
            "required": False,
            "replay": ["rtmr1"],
            "rtmr3": "log",
            "claims": {"app_id": ["aa", "bb"]},
        },
    },
}
FULL["gpus"] = {
    "count": {"min": 1, "max": 8},
    "architectures": ["BLACKWELL-GB100", "HOPPER"],
    "modes": ["PPCIE", "SPT"],
    "fwid": "if-reported",
    "rim": "any",
    "rim_expired_signer": "allow",
    "revocation": "if-given",
    "certificate_hold": "allow",
    "revocation_max_age_days": 7,
    "driver": {"min": "550.90.07", "accepted": ["575.32", "580.95.05"], "rejected": ["570.00"]},
    "vbios": {"min": "96.00.9F.00.01", "accepted": ["96.00.CF.00.02"], "rejected": []},
    "firmware_ids": ["ab" * 48],
    "device_ids": ["00000000000000a1", "00000000000000a2"],
}
FULL["nvswitches"] = {
    "count": 4,
    "architectures": ["LS10"],
    "fwid": "required",
    "rim": "required",
    "rim_expired_signer": "forbid",
    "revocation": "any",
    "certificate_hold": "forbid",
    "revocation_max_age_days": 30,
    "bios": {"min": "96.10.55.00.01", "rejected": ["96.10.57.00.01"]},
    "firmware_ids": ["cd" * 48],
    "device_ids": ["00000000000000b1", "00000000000000b2", "00000000000000b3", "00000000000000b4"],
}
FULL["topology"] = {
    "kind": "protected-pcie",
    "gpus": 8,
    "switches": 4,
    "mixed_firmware": "allow",
    "mixed_driver": "forbid",
}
PEM = to_pem(SimOperator().root().der(), "CERTIFICATE")
FULL["fabric"] = {
    "mode": "PPCIE",
    "observation": "if-given",
    "state": "required",
    "health": "any",
    "links": 18,
    "nvle": "any",
    "partition": {"size": 8, "clique_ids": [7], "cluster_uuids": ["ab" * 16], "ids": [1, 2]},
    "statement": "required",
    "managers": {
        "tpm": [{"names": ["000b" + "5a" * 32], "pcrs": {"sha256": {"7": ["5a" * 32]}}}],
        "x509": [{"roots": [PEM], "keys": ["ab" * 32]}],
        "unsigned": "refuse",
    },
    "max_statement_age_seconds": 60,
    "same_host": "any",
    "continuity": "required",
    "routing": "required",
    "routing_digests": ["ab" * 48],
    "manager": {
        "modes": ["shared-nvswitch", "vgpu"],
        "versions": {"min": "570.00", "accepted": ["580.95.05"], "rejected": ["575.32"]},
        "nvlsm_versions": ["2025.06.6"],
        "programs": {"fabric-manager": ["ab" * 48], "nvlsm": ["cd" * 48]},
        "settings": {"LOG_LEVEL": ["3", "4"]},
        "log": "any",
    },
    "apart_from": {"device_ids": ["00000000000000b9"], "modules": [5, 6]},
    "probe": {
        "rule": "if-given",
        "access": "any",
        "traffic": "required",
        "min_one_way_gb_per_s": 300,
        "min_both_ways_gb_per_s": 500,
        "max_spread_percent": 7,
        "max_copy_ns": 4501,
        "max_read_ns": 903,
        "traffic_tolerance_percent": 29,
        "max_background_bytes_per_s": 5,
    },
    "assurance": {"mode": "hardware", "members": "asserted"},
}
FULL["binding"] = {"profiles": ["near", "chutes"], "freshness": "waived", "relayable": "accept"}
FULL["gateway"] = {
    "tdx": "any",
    "binding": {"profiles": ["near"], "freshness": "required", "relayable": "refuse"},
}
WAIVERS = dict.fromkeys(MEASUREMENTS, "any")
MINIMAL = {"schema": "ccverify.policy/v1", "tdx": {}}
WAIVED = {"schema": "ccverify.policy/v1", "tdx": {"measurements": WAIVERS, "report_data": "any"}}
DEVICES = {"schema": "ccverify.policy/v1", "gpus": {}, "nvswitches": {}, "gateway": {"tdx": {}}}
ANY_BUT_ONE = {
    "schema": "ccverify.policy/v1",
    "tdx": "any",
    "nvswitches": "any",
    "topology": "any",
    "fabric": "any",
    "gpus": {"count": "any", "architectures": "any", "modes": "any"},
}
SERVICE_VM = {
    "schema": "ccverify.policy/v1",
    "gpus": {},
    "fabric": {
        "managers": {
            "tdx": [{"measurements": WAIVERS}, {"platform": {"ppid": ["11" * 16]}}],
            "tpm": [{"roots": [PEM], "pcrs": {"sha384": {"0": ["5a" * 48, "00" * 48]}}}],
            "x509": [{"roots": [PEM, PEM]}],
        },
        "probe": "required",
    },
}
FABRIC = {"schema": "ccverify.policy/v1", "gpus": {}, "fabric": {}}
POLICIES = {
    "fabric": FABRIC,
    "full": FULL,
    "service VM": SERVICE_VM,
    "minimal": MINIMAL,
    "waived": WAIVED,
    "devices": DEVICES,
    "any": ANY_BUT_ONE,
}


def _beside_service_vms(fabric: Any) -> Any:
    """A section without the parts that are compared as documents: their defaults are spelt out."""
    if not isinstance(fabric, FabricPolicy) or fabric.managers is None:
        return fabric
    return replace(fabric, managers=replace(fabric.managers, tdx=()))


@pytest.mark.parametrize("name", POLICIES)
def test_the_effective_policy_means_the_same(name: str) -> None:
    policy = ccverify.policy_from_document(POLICIES[name])
    again = ccverify.policy_from_document(effective_document(policy))
    assert effective_document(again) == effective_document(policy)
    for part in ("gpus", "nvswitches", "topology", "binding"):
        assert getattr(again, part) == getattr(policy, part)
    assert _beside_service_vms(again.fabric) == _beside_service_vms(policy.fabric)
    assert (again.gateway is None) == (policy.gateway is None)
    if again.gateway and policy.gateway:
        assert again.gateway.binding == policy.gateway.binding
    if not isinstance(policy.tdx, TdxPolicy) or not isinstance(again.tdx, TdxPolicy):
        assert again.tdx is policy.tdx
        return
    for part in ("tcb", "collateral", "measurements", "xfam", "service_td", "platform"):
        assert getattr(again.tdx, part) == getattr(policy.tdx, part)
    assert (again.tdx.report_data, again.tdx.event_log) == (
        policy.tdx.report_data,
        policy.tdx.event_log,
    )
    for bit in TD_ATTRIBUTES:
        assert again.tdx.rule(bit.key) is policy.tdx.rule(bit.key)
        assert bit.key in effective_document(policy)["tdx"]["attributes"]


def test_a_full_policy_comes_back_as_it_was() -> None:
    shown = effective_document(ccverify.policy_from_document(FULL))
    attributes = shown["tdx"].pop("attributes")
    stated = json.loads(json.dumps(FULL))
    assert attributes | stated["tdx"].pop("attributes") == attributes
    stated["tdx"]["tcb"]["accepted_statuses"].sort()
    stated["tdx"]["xfam"]["forbid"].sort()
    stated["tdx"]["platform"]["fmspc"] = ["b0c06f000000"]
    assert shown == stated


def test_a_policy_is_shown_with_its_digest_and_without_control_characters() -> None:
    policy = ccverify.policy_from_document(FULL)
    text = render_policy(policy, width=120)
    assert policy.digest in "".join(text.split())
    assert text.replace("\n", "").isprintable()
    assert json.loads(policy_json(policy))["sha384"] == policy.digest


def test_silence_is_shown_as_what_it_means() -> None:
    text = render_policy(ccverify.policy_from_document(MINIMAL), width=100)
    assert "mrtd           not stated: no machine can be trusted until it is" in text
    assert "mrseam         not stated: not judged" in text
    assert "debug            forbid" in text
    assert "\ntdx.report_data\n    nonce\n" in text
    assert "\ngpus\n    not stated: a GPU in the evidence leaves" in text
    assert "\nbinding\n  profiles   raw-nonce, ccverify\n" in text
    assert "\ngateway\n    not stated: gateways are judged like every other node\n" in text


def test_managers_are_shown_one_by_one() -> None:
    text = render_policy(ccverify.policy_from_document(SERVICE_VM), width=120)
    digest = hashlib.sha256(SimOperator().root().der()).hexdigest()
    assert "2 service VMs, each below" in text
    assert "\nfabric.managers.tdx[0].measurements\n  mrtd           any" in text
    shown = text.partition("\nfabric.managers.tdx[1].platform\n")[2]
    assert f"  ppid                  {'11' * 16}\n" in shown.partition("\n\n")[0]
    assert text.count(digest) == 3
    assert "BEGIN CERTIFICATE" not in text
    text = render_policy(ccverify.policy_from_document(FABRIC), width=100)
    assert "managers                   not stated: a statement is nobody's word\n" in text
    assert "fabric.managers.tdx" not in text


def test_silence_on_devices_is_shown_as_what_it_means() -> None:
    text = render_policy(ccverify.policy_from_document(DEVICES), width=100)
    assert "\ntdx\n    not stated: a quote in the evidence leaves" in text
    must_be_stated = 3 + 1 + len(MUST_STATE)
    assert text.count("not stated: no machine can be trusted until it is") == must_be_stated
    assert text.count("  fwid                     required\n") == 1
    assert text.count("  fwid                     if-reported\n") == 1
    assert text.count("  revocation               required\n") == 2
    assert "\ngateway.tdx.report_data\n    nonce\n" in text
    assert "\ngateway.binding\n  profiles   raw-nonce, ccverify\n" in text


def test_what_is_waived_is_shown_as_waived() -> None:
    text = render_policy(ccverify.policy_from_document(ANY_BUT_ONE), width=100)
    for section in ("tdx", "nvswitches", "topology", "fabric"):
        assert f"\n{section}\n    any: not judged, knowingly\n" in text
    text = render_policy(ccverify.policy_from_document(FULL), width=100)
    assert "\ngateway.tdx\n    any: not judged, knowingly\n" in text
    assert "\ntdx.report_data\n    3333" in text


# --- errors ---


def test_an_error_has_all_members() -> None:
    problem = ccverify.CollateralError("m", expected="e", found="f", where="w", hint="h")
    assert json.loads(error_json(problem)) == {
        "schema": "ccverify.error/v1",
        "code": "COLLATERAL-FORMAT",
        "message": "m",
        "expected": "e",
        "found": "f",
        "where": "w",
        "hint": "h",
        "exit_code": 5,
    }
