"""Policy documents: what may be said, what every word becomes, how mistakes are told."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ccverify.errors import PolicyError
from ccverify.evidence import BindingProfile
from ccverify.fabric.probe_rules import ProbeBands
from ccverify.findings import Assurance
from ccverify.policy.document import (
    MAX_POLICY_BYTES,
    load_policy,
    policy_from_document,
    policy_schema,
)
from ccverify.policy.model import (
    ANY,
    FABRIC_CLAIMS,
    GPU_ARCHITECTURES,
    MEASUREMENTS,
    MUST_STATE,
    BindingPolicy,
    CollateralPolicy,
    CountPolicy,
    DevicePolicy,
    EventLogPolicy,
    FabricPolicy,
    GatewayPolicy,
    GivenRule,
    HealthRule,
    PlatformPolicy,
    Policy,
    RevocationRule,
    TcbPolicy,
    TdxPolicy,
    TopologyPolicy,
    VersionPolicy,
    XfamPolicy,
)
from ccverify.policy.model_fabric import (
    ManagerPolicy,
    ManagersPolicy,
    OperatorRule,
    OthersPolicy,
    ProbePolicy,
    TpmRule,
)
from ccverify.sim.certs import to_pem
from ccverify.sim.operator import SimOperator
from ccverify.tdx.attributes import TD_ATTRIBUTES, XFAM_FEATURES, Rule
from ccverify.tdx.tcb_info import TcbStatus
from ccverify.trust.pkix import parse_pkix_certificate

Json = dict[str, Any]
ROOT = SimOperator().root().der()
PEM = to_pem(ROOT, "CERTIFICATE")
NAME = "000b" + "5a" * 32
H48, H64 = "ab" * 48, "cd" * 64
ONE, TWO = "00000000000000a1", "00000000000000A2"
FULL: Json = {
    "schema": "ccverify.policy/v1",
    "name": "full",
    "description": "says everything a policy may say",
    "gpus": {
        "count": {"min": 1, "max": 8},
        "architectures": ["HOPPER", "BLACKWELL"],
        "modes": ["PPCIE", "NOT_STATED"],
        "fwid": "if-reported",
        "rim": "any",
        "rim_expired_signer": "allow",
        "revocation": "if-given",
        "certificate_hold": "allow",
        "revocation_max_age_days": 7,
        "driver": {"min": "550.90.07", "accepted": ["550.90.07", "575.32"], "rejected": ["570.00"]},
        "vbios": {
            "min": "96.00.9f.00.01",
            "accepted": ["96.00.9f.00.01", "96.00.9F.00.04"],
            "rejected": ["96.00.74.00.1a"],
        },
        "firmware_ids": [H48],
        "device_ids": [ONE, TWO],
    },
    "nvswitches": {
        "count": {"min": 1, "max": 4},
        "architectures": ["LS10"],
        "fwid": "required",
        "rim": "any",
        "rim_expired_signer": "allow",
        "revocation": "any",
        "certificate_hold": "allow",
        "revocation_max_age_days": 30,
        "bios": {
            "min": "96.10.55.00.01",
            "accepted": ["96.10.57.00.01"],
            "rejected": ["96.10.52.00.00"],
        },
        "firmware_ids": [H48],
        "device_ids": [ONE],
    },
    "topology": {
        "kind": "protected-pcie",
        "gpus": 8,
        "switches": 4,
        "mixed_firmware": "allow",
        "mixed_driver": "allow",
    },
    "fabric": {
        "mode": "PPCIE",
        "observation": "if-given",
        "state": "any",
        "health": "required",
        "links": 18,
        "nvle": "any",
        "partition": {
            "size": 8,
            "clique_ids": [7, 9],
            "cluster_uuids": ["AB" * 16],
            "ids": [1, 2],
        },
        "statement": "required",
        "managers": {
            "tdx": [{"measurements": {"mrtd": [H48], "rtmr0": "any"}}],
            "tpm": [{"names": [NAME], "roots": [PEM], "pcrs": {"sha256": {"7": ["5A" * 32]}}}],
            "x509": [{"roots": [PEM], "keys": ["AB" * 32]}],
            "unsigned": "accept",
        },
        "max_statement_age_seconds": 60,
        "same_host": "any",
        "continuity": "required",
        "routing": "required",
        "routing_digests": [H48.upper()],
        "manager": {
            "modes": ["shared-nvswitch", "vgpu"],
            "versions": {"min": "570.00", "accepted": ["580.95.05"], "rejected": ["575.32"]},
            "nvlsm_versions": ["2025.06.6"],
            "programs": {"fabric-manager": [H48], "nvlsm": ["00" * 48]},
            "settings": {"LOG_LEVEL": ["3", "4"]},
            "log": "any",
        },
        "apart_from": {"device_ids": ["00000000000000B9"], "modules": [5, 6]},
        "probe": {
            "rule": "if-given",
            "access": "any",
            "traffic": "any",
            "min_one_way_gb_per_s": 300,
            "min_both_ways_gb_per_s": 500,
            "max_spread_percent": 7,
            "max_copy_ns": 4500,
            "max_read_ns": 900,
            "max_background_bytes_per_s": 5,
            "traffic_tolerance_percent": 3,
        },
        "assurance": dict.fromkeys(FABRIC_CLAIMS, "asserted"),
    },
    "binding": {
        "profiles": ["near", "ccverify", "near"],
        "freshness": "waived",
        "relayable": "accept",
    },
    "tdx": {
        "tcb": {
            "accepted_statuses": ["UpToDate", "SWHardeningNeeded"],
            "grace_days": {"OutOfDate": 30},
            "min_evaluation_number": 18,
            "min_qe_evaluation_number": 17,
            "rejected_advisories": ["INTEL-SA-01036", "INTEL-DOC-00001"],
            "min_tee_tcb_svn": "04010300000000000000000000000000",
        },
        "collateral": {"max_age_days": 7, "allow_unknown_fields": True},
        "measurements": {
            **{name: [H48.upper(), "00" * 48] for name in MEASUREMENTS if name != "rtmr3"},
            "rtmr3": "any",
        },
        "attributes": {attribute.key: "allow" for attribute in TD_ATTRIBUTES},
        "xfam": {"require": ["avx512"], "forbid": ["pt", "lbr"]},
        "service_td": [H48],
        "platform": {
            "fmspc": ["b0c06f000000"],
            "ppid": ["11" * 16],
            "platform_instance_id": ["22" * 16],
            "smt": "forbid",
            "dynamic_platform": "forbid",
            "cached_keys": "forbid",
        },
        "report_data": [H64],
        "event_log": {
            "required": False,
            "replay": ["rtmr1"],
            "rtmr3": "zero",
            "claims": {"app_id": ["x", "y"], "key_provider.name": ["kms"]},
        },
    },
}
FULL["gateway"] = {
    "tdx": deepcopy(FULL["tdx"]),
    "binding": {"profiles": ["dstack"], "freshness": "waived", "relayable": "accept"},
}
MINIMAL: Json = {"schema": "ccverify.policy/v1", "tdx": {}}
CERTIFICATE = parse_pkix_certificate(ROOT)
MANAGERS = ManagersPolicy(
    tdx=(
        TdxPolicy(
            measurements={
                **dict.fromkeys(MEASUREMENTS),
                "mrtd": frozenset({bytes.fromhex(H48)}),
                "rtmr0": ANY,
            }
        ),
    ),
    tpm=(
        TpmRule(
            frozenset({bytes.fromhex(NAME)}),
            (CERTIFICATE,),
            {"sha256": {7: frozenset({b"\x5a" * 32})}},
        ),
    ),
    x509=(OperatorRule((CERTIFICATE,), frozenset({b"\xab" * 32})),),
    unsigned=True,
)
MANAGER = ManagerPolicy(
    modes=frozenset({1, 2}),
    versions=VersionPolicy("570.00", frozenset({"580.95.05"}), frozenset({"575.32"})),
    nvlsm_versions=frozenset({"2025.06.6"}),
    programs={
        "fabric-manager": frozenset({bytes.fromhex(H48)}),
        "nvlsm": frozenset({bytes(48)}),
    },
    settings={"LOG_LEVEL": frozenset({"3", "4"})},
    log_required=False,
)


def test_every_word_reaches_the_model() -> None:
    own = policy_from_document(FULL)
    both = frozenset({bytes.fromhex(H48), bytes(48)})
    tdx = own.tdx
    assert own == Policy(
        name="full",
        digest=own.digest,
        gateway=GatewayPolicy(tdx, BindingPolicy((BindingProfile.DSTACK,), False, True)),
        binding=BindingPolicy((BindingProfile.NEAR, BindingProfile.CCVERIFY), False, True),
        fabric=FabricPolicy(
            mode="PPCIE",
            observation=GivenRule.IF_GIVEN,
            state_required=False,
            health=HealthRule.REQUIRED,
            active_links=18,
            nvle_required=False,
            size=8,
            clique_ids=frozenset({7, 9}),
            cluster_uuids=frozenset({b"\xab" * 16}),
            partition_ids=frozenset({1, 2}),
            statement=GivenRule.REQUIRED,
            managers=MANAGERS,
            max_age_s=60,
            same_host_required=False,
            continuity=GivenRule.REQUIRED,
            routing=GivenRule.REQUIRED,
            routing_digests=frozenset({bytes.fromhex(H48)}),
            manager=MANAGER,
            apart_from=OthersPolicy(frozenset({bytes(7) + b"\xb9"}), frozenset({5, 6})),
            probe=ProbePolicy(
                GivenRule.IF_GIVEN,
                ProbeBands(False, 300, 500, 0.07, 4.5, 0.9, False, 0.03, 5),
            ),
            floors=dict.fromkeys(FABRIC_CLAIMS, Assurance.ASSERTED),
        ),
        topology=TopologyPolicy(8, 4, allow_mixed_firmware=True, allow_mixed_driver=True),
        gpus=DevicePolicy(
            count=CountPolicy(1, 8),
            architectures=frozenset(GPU_ARCHITECTURES),
            modes=frozenset({"PPCIE", "NOT_STATED"}),
            fwid_required=False,
            rim_required=False,
            allow_expired_rim_signer=True,
            revocation=RevocationRule.IF_GIVEN,
            allow_hold=True,
            revocation_max_age_days=7,
            driver=VersionPolicy(
                "550.90.07", frozenset({"550.90.07", "575.32"}), frozenset({"570.00"})
            ),
            vbios=VersionPolicy(
                "96.00.9F.00.01",
                frozenset({"96.00.9F.00.01", "96.00.9F.00.04"}),
                frozenset({"96.00.74.00.1A"}),
            ),
            firmware_ids=frozenset({bytes.fromhex(H48)}),
            device_ids=frozenset({bytes(7) + b"\xa1", bytes(7) + b"\xa2"}),
        ),
        nvswitches=DevicePolicy(
            count=CountPolicy(1, 4),
            architectures=frozenset({"LS10"}),
            fwid_required=True,
            rim_required=False,
            allow_expired_rim_signer=True,
            revocation=RevocationRule.ANY,
            allow_hold=True,
            revocation_max_age_days=30,
            vbios=VersionPolicy(
                "96.10.55.00.01", frozenset({"96.10.57.00.01"}), frozenset({"96.10.52.00.00"})
            ),
            firmware_ids=frozenset({bytes.fromhex(H48)}),
            device_ids=frozenset({bytes(7) + b"\xa1"}),
        ),
        tdx=TdxPolicy(
            tcb=TcbPolicy(
                accepted_statuses=frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED}),
                grace_days={TcbStatus.OUT_OF_DATE: 30},
                min_evaluation_number=18,
                min_qe_evaluation_number=17,
                rejected_advisories=frozenset({"INTEL-SA-01036", "INTEL-DOC-00001"}),
                min_tee_tcb_svn=bytes((4, 1, 3)) + bytes(13),
            ),
            collateral=CollateralPolicy(max_age_days=7, allow_unknown_fields=True),
            measurements={name: ANY if name == "rtmr3" else both for name in MEASUREMENTS},
            attributes={attribute.key: Rule.ALLOW for attribute in TD_ATTRIBUTES},
            xfam=XfamPolicy(require=frozenset({"avx512"}), forbid=frozenset({"pt", "lbr"})),
            service_td=frozenset({bytes.fromhex(H48)}),
            platform=PlatformPolicy(
                fmspc=frozenset({bytes.fromhex("b0c06f000000")}),
                ppid=frozenset({b"\x11" * 16}),
                platform_instance_id=frozenset({b"\x22" * 16}),
                allow_smt=False,
                allow_dynamic_platform=False,
                allow_cached_keys=False,
            ),
            report_data=frozenset({bytes.fromhex(H64)}),
            event_log=EventLogPolicy(
                required=False,
                replay=frozenset({1}),
                rtmr3="zero",
                claims={
                    "app_id": frozenset({"x", "y"}),
                    "key_provider.name": frozenset({"kms"}),
                },
            ),
        ),
    )


def _properties(schema: Json, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Every key the schema names, as a path."""
    if "$ref" in schema:
        schema = policy_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    found = set()
    for key, inner in schema.get("properties", {}).items():
        found |= {(*path, key)} | _properties(inner, (*path, key))
    return found


def _paths(document: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not isinstance(document, dict):
        return set()
    found = set()
    for key, inner in document.items():
        found |= {(*path, key)} | _paths(inner, (*path, key))
    return found


def test_the_full_document_says_everything_the_schema_names() -> None:
    assert _properties(dict(policy_schema())) <= _paths(FULL)


REQUIRED = {
    ("schema",),
    ("gpus", "count", "min"), ("gpus", "count", "max"),
    ("nvswitches", "count", "min"), ("nvswitches", "count", "max"),
    ("topology", "kind"), ("topology", "gpus"), ("topology", "switches"),
    ("gateway", "tdx"),
    # A topology rests on both.
    ("gpus",), ("nvswitches",),
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(_properties(dict(policy_schema()))), ids=".".join)
def test_no_key_of_the_schema_is_ignored(path: tuple[str, ...]) -> None:
    """Taking a key out of the full document changes the model, or the document is refused."""
    changed = deepcopy(FULL)
    target = changed
    for step in path[:-1]:
        target = target[step]
    del target[path[-1]]
    if path in REQUIRED:
        with pytest.raises(PolicyError):
            policy_from_document(changed)
        return
    own, full = policy_from_document(changed), policy_from_document(FULL)
    assert own.digest != full.digest
    if path != ("description",):
        assert replace(own, digest="") != replace(full, digest="")


def test_silence_means_the_safe_default() -> None:
    own = policy_from_document(MINIMAL)
    assert own.name == ""
    assert own.tdx == TdxPolicy(measurements=dict.fromkeys(MEASUREMENTS))
    assert own.tdx.tcb.accepted_statuses == {TcbStatus.UP_TO_DATE}
    assert own.tdx.event_log is None
    assert own.tdx.report_data is None
    assert own.tdx.platform.silent
    assert (own.gpus, own.nvswitches, own.topology, own.gateway) == (None, None, None, None)
    assert own.fabric is None
    assert own.binding == BindingPolicy(
        (BindingProfile.RAW_NONCE, BindingProfile.CCVERIFY), True, False
    )
    for attribute in TD_ATTRIBUTES:
        assert own.tdx.rule(attribute.key) is attribute.default


def test_empty_sections_are_defaults_too() -> None:
    sections = ("tcb", "collateral", "measurements", "attributes", "xfam", "platform")
    own = policy_from_document({**MINIMAL, "tdx": {key: {} for key in sections}})
    assert own.tdx == policy_from_document(MINIMAL).tdx
    log = policy_from_document({**MINIMAL, "tdx": {"event_log": {}}}).tdx.event_log
    assert log == EventLogPolicy()
    assert log is not None
    assert (log.required, log.replay, log.rtmr3) == (True, {0, 1, 2}, None)


@pytest.mark.parametrize(
    ("rule", "expected"), [("nonce", None), ("any", ANY), ([H64], frozenset({bytes.fromhex(H64)}))]
)
def test_rules_for_report_data(rule: Any, expected: Any) -> None:
    assert (
        policy_from_document({**MINIMAL, "tdx": {"report_data": rule}}).tdx.report_data == expected
    )


def test_an_empty_list_of_statuses_accepts_nothing() -> None:
    document = {**MINIMAL, "tdx": {"tcb": {"accepted_statuses": []}}}
    assert policy_from_document(document).tdx.tcb.accepted_statuses == frozenset()


# --- schema against tables ---


def _schema_of(*path: str) -> Json:
    schema: Any = policy_schema()["$defs"]["tdx"]["properties"]
    for step in path:
        schema = schema[step]
    return schema  # type: ignore[no-any-return]


def test_the_schema_itself_is_valid() -> None:
    Draft202012Validator.check_schema(dict(policy_schema()))


def test_attributes_of_the_schema_are_those_of_the_table() -> None:
    assert list(_schema_of("attributes", "properties")) == [a.key for a in TD_ATTRIBUTES]


def test_features_of_the_schema_are_those_of_the_table() -> None:
    assert policy_schema()["$defs"]["feature"]["enum"] == [f.key for f in XFAM_FEATURES]


def test_rules_of_the_schema_are_those_of_the_enum() -> None:
    assert policy_schema()["$defs"]["rule"]["enum"] == [rule.value for rule in Rule]


def test_statuses_of_the_schema_are_all_that_can_be_accepted() -> None:
    allowed = set(policy_schema()["$defs"]["status"]["enum"])
    never = {TcbStatus.REVOKED.value, TcbStatus.NOT_SUPPORTED.value}
    assert allowed == {status.value for status in TcbStatus} - never


def test_measurements_of_the_schema_are_those_of_the_model() -> None:
    assert tuple(_schema_of("measurements", "properties")) == MEASUREMENTS
    assert set(MUST_STATE) <= set(MEASUREMENTS)


def test_every_object_of_the_schema_is_closed() -> None:
    def visit(schema: Any, path: str) -> None:
        if isinstance(schema, dict):
            if "object" in schema.get("type", ()):
                # What refers to another object is as closed as that one.
                assert "additionalProperties" in schema or "$ref" in schema, path
                assert schema.get("additionalProperties") is not True, path
            for key, inner in schema.items():
                visit(inner, f"{path}.{key}")

    visit(dict(policy_schema()), "policy")


# --- mistakes ---


def _set(path: str, value: Any) -> Json:
    changed = deepcopy(FULL)
    target = changed
    *steps, last = path.split(".")
    for step in steps:
        target = target[step]
    target[last] = value
    return changed


NEAR = {
    "tdxx": ("tdxx", "tdx"),
    "tdx.tbc": ("tbc", "tcb"),
    "tdx.mesurements": ("mesurements", "measurements"),
    "tdx.measurements.rtmr4": ("rtmr4", "rtmr"),
    "tdx.tcb.accepted_status": ("accepted_status", "accepted_statuses"),
    "tdx.attributes.sept_ve_disabled": ("sept_ve_disabled", "sept_ve_disable"),
    "tdx.platform.FMSPC": ("FMSPC", None),
    "tdx.event_log.claim": ("claim", "claims"),
    "tdx.zzzzzz": ("zzzzzz", None),
    "gpu": ("gpu", "gpus"),
    "gpus.vbois": ("vbois", "vbios"),
    "gpus.device_id": ("device_id", "device_ids"),
    "gpus.count.minimum": ("minimum", "min"),
    "gpus.driver.reject": ("reject", "rejected"),
    "nvswitches.vbios": ("vbios", "bios"),
    "nvswitches.driver": ("driver", None),
    "nvswitches.modes": ("modes", None),
    "topology.nvswitches": ("nvswitches", "switches"),
    "binding.profile": ("profile", "profiles"),
    "gateway.gpus": ("gpus", None),
    "fabric.manager.program": ("program", "programs"),
    "fabric.managers.x508": ("x508", "x509"),
    "fabric.probe.max_copy_us": ("max_copy_us", "max_copy_ns"),
    "fabric.partition.id": ("id", "ids"),
    "fabric.apart_from.module": ("module", "modules"),
}


@pytest.mark.parametrize("path", NEAR)
def test_an_unknown_key_is_named_with_its_nearest_neighbour(path: str) -> None:
    unknown, near = NEAR[path]
    with pytest.raises(PolicyError) as caught:
        policy_from_document(_set(path, {}))
    problem = caught.value
    assert f"{unknown!r}" in problem.message
    assert problem.where == ".".join(("policy", *path.split(".")[:-1]))
    if near is not None:
        assert f"did you mean '{near}" in str(problem.hint)
    assert problem.expected


BAD_PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def _tpm(**members: Any) -> Json:
    """A host that would be accepted, with members replaced."""
    return {"names": [NAME], "pcrs": {"sha256": {"0": ["5a" * 32]}}} | members


WRONG = {
    "schema": ["ccverify.policy/v2", None, 1],
    "name": ["x" * 201, 1, None],
    "tdx": [None, [], "all", "ANY"],
    "tdx.tcb": [None, []],
    "tdx.tcb.accepted_statuses": [
        "UpToDate", ["uptodate"], ["Revoked"], ["NotSupported"], [None],
    ],
    "tdx.tcb.grace_days": [{"OutOfDate": -1}, {"OutOfDate": 3651}, {"Revoked": 1}, [],
                           {"OutOfDate": 1.5}, {"OutOfDate": True}, {"OutOfDate": "30"}],
    "tdx.tcb.min_evaluation_number": [-1, 1 << 32, "18", 18.5, True],
    "tdx.tcb.rejected_advisories": ["INTEL-SA-01036", ["SA-01036"], ["INTEL-SA-1036"]],
    "tdx.tcb.min_tee_tcb_svn": ["0401", "zz" * 16, 4, "04" * 17],
    "tdx.collateral.max_age_days": [-1, "7", None],
    "tdx.collateral.allow_unknown_fields": ["yes", 1, None],
    "tdx.measurements.mrtd": ["all", [], [H48[:-2]], [H48 + "00"], ["zz" * 48], H48, None, [None],
                              [H48] * 4097, ["any"]],
    "tdx.attributes.debug": ["on", True, None, "Forbid"],
    "tdx.xfam.require": ["avx", ["avx1024"]],
    "tdx.service_td": ["any", ["00"], None],
    "tdx.platform.fmspc": [[], "B0C06F000000", ["B0C06F0000"], [123456789012]],
    "tdx.platform.smt": ["require", True],
    "tdx.report_data": ["ANY", [], [H48], None, [H64 + "00"]],
    "tdx.event_log": [None, True, []],
    "tdx.event_log.required": ["yes"],
    "tdx.event_log.rtmr3": ["any", None],
    "tdx.event_log.replay": [["rtmr3"], [0], "rtmr0"],
    "tdx.event_log.claims": [{"app_id": []}, {"app_id": "x"}, {"app_id": [1]}, []],
    "gpus": [None, [], "all", "", 8, True],
    "gpus.count": [0, -1, 65, 1.5, True, None, "8", "ANY", [], {}, {"min": 1}, {"max": 8},
                   {"min": 0, "max": 8}, {"min": 1, "max": 65}, {"min": "1", "max": 8},
                   {"min": 8, "max": 1}, {"min": "any", "max": "any"}],
    "gpus.architectures": ["HOPPER", [], ["hopper"], ["LS10"], ["any"], ["GH100"], None,
                           ["HOPPER"] * 65],
    "gpus.modes": ["PPCIE", [], ["PROTECTED_PCIE"], ["ppcie"], ["CC"], None, [None]],
    "gpus.fwid": ["any", True, None, "if_reported"],
    "gpus.rim": ["if-given", True, None],
    "gpus.rim_expired_signer": ["require", True, None],
    "gpus.revocation": ["if_given", True, None, "none"],
    "gpus.certificate_hold": ["require", None],
    "gpus.revocation_max_age_days": [-1, 3651, "7", 1.5, True, None],
    "gpus.driver": ["550.90.07", ["550.90.07"], None],
    "gpus.driver.min": ["550", "55.90", "550.90.07.1.1", "550.90.07b", "550..90", 550, None,
                        "550.90.07\n", " 550.90.07", "r550.90.07", "96.00.9F.00.01", "550.12345"],
    "gpus.driver.accepted": [[], "575.32", ["any"], [575], None],
    "gpus.driver.rejected": ["575.32", [""], None],
    "gpus.vbios.min": ["96.00.9F.00", "96.00.9F.00.01.00", "96.00.9G.00.01", "9600.9F.00.01",
                       "96009F0001", "550.90.07", "96.00.9F.00.01\n", None],
    "gpus.firmware_ids": [[], ["ab"], [H64], "any", None],
    "gpus.device_ids": [[], ["00" * 8], ["0" * 15], ["41" + ONE], ["0x" + ONE[2:]], [ONE + "\n"],
                        "any", [1], None, [ONE, "00" * 8]],
    "nvswitches": [None, [], "all", 4],
    "nvswitches.architectures": [["HOPPER"], ["BLACKWELL"], [], "LS10"],
    "nvswitches.device_ids": [["00" * 8], []],
    "topology": [None, "protected-pcie", {}, {"kind": "protected-pcie"}, [], 8],
    "topology.kind": ["any", "nvlink", None, "PPCIE"],
    "topology.gpus": [0, 65, "8", None, {"min": 1, "max": 8}, "any"],
    "topology.switches": [0, 65, "4", None],
    "topology.mixed_firmware": ["accept", True, None],
    "fabric.statement": ["accept", True, None],
    "fabric.same_host": ["if-given", True, None],
    "fabric.max_statement_age_seconds": [0, -1, 1.5, "60", 31536001, None],
    "fabric.routing_digests": [[], [H48[:-2]], H48, [None]],
    "fabric.partition.ids": [[], [-1], [65536], ["2"]],
    "fabric.managers": [{}, [], "any", None],
    "fabric.managers.tdx": [[], ["any"], [None], {}, [{"mrtd": [H48]}]],
    "fabric.managers.tpm": [
        [], [{}], [{"names": [NAME]}], [_tpm(names=[])], [_tpm(names=["5a" * 33])],
        [_tpm(roots=["x"])], [_tpm(roots=[PEM + PEM])], [_tpm(roots=[PEM[:-30]])],
        [{"pcrs": {"sha256": {"0": ["5a" * 32]}}}], [_tpm(pcrs={})], [_tpm(pcrs={"sha1": {}})],
        [_tpm(pcrs={"sha256": {}})], [_tpm(pcrs={"sha256": {"24": ["5a" * 32]}})],
        [_tpm(pcrs={"sha256": {"0": []}})], [_tpm(pcrs={"sha256": {"0": ["5a" * 20]}})],
        [_tpm(pcrs={"sha256": {"0": ["5a" * 48]}})], [_tpm(pcrs={"sha512": {"0": ["5a" * 32]}})],
    ],
    "fabric.managers.x509": [
        [], [{}], [{"keys": ["AB" * 32]}], [{"roots": []}], [{"roots": [PEM], "keys": []}],
        [{"roots": [PEM], "keys": ["AB" * 31]}], [{"roots": [BAD_PEM]}], [{"roots": [" " + PEM]}],
        [{"roots": [PEM + "and more"]}],
    ],
    "fabric.managers.unsigned": ["any", True, None],
    "fabric.manager": [{}, [], None, "any"],
    "fabric.manager.modes": [[], [1], ["shared"], "vgpu"],
    "fabric.manager.versions": [
        "580.95.05", {"min": "v580"},
        {"accepted": ["580.95.05"], "rejected": ["580.95.5"]},
        {"accepted": ["570.00"], "min": "580.00"},
    ],
    "fabric.manager.nvlsm_versions": [[], [""], "2025.06.6", [None]],
    "fabric.manager.programs": [{}, {"nvlsm": []}, {"nvlsm": [H64]}, {"fm": [H48]}],
    "fabric.manager.settings": [{}, {"log_level": ["4"]}, {"LOG_LEVEL": []}, {"LOG_LEVEL": [4]}],
    "fabric.manager.log": ["forbid", True],
    "fabric.apart_from": [{}, {"device_ids": [ONE]}, {"modules": []}, None],
    "fabric.apart_from.modules": [[256], [-1], ["5"]],
    "fabric.apart_from.device_ids": [["00" * 8], []],
    "fabric.probe": ["always", [], None],
    "fabric.probe.rule": ["often", None],
    "fabric.probe.access": ["if-given", True],
    "fabric.probe.min_one_way_gb_per_s": [0, -1, 1.5, "300"],
    "fabric.probe.max_spread_percent": [-1, 101, 0.5],
    "fabric.probe.max_copy_ns": [0, "4500"],
    "fabric.probe.max_background_bytes_per_s": [-1],
    "fabric.assurance.isolation": ["none", "signed", None],
    "fabric.continuity": ["two", None],
    "fabric.routing": ["closed", None],
    "binding": [None, "any", [], "raw-nonce"],
    "binding.profiles": [[], "near", ["any"], ["raw_nonce"], ["NEAR"], None, [None]],
    "binding.freshness": ["any", False, None],
    "binding.relayable": ["allow", True, None],
    "gateway": [None, "any", {}, [], {"binding": {}}],
    "gateway.tdx": [None, "all", []],
    "gateway.tdx.tcb.min_evaluation_number": [-1],
    "gateway.binding.profiles": [["x"]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, values in WRONG.items() for value in values],
    ids=lambda item: repr(item)[:50],
)
def test_wrong_values_are_refused_and_explained(path: str, value: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_from_document(_set(path, value))
    problem = caught.value
    assert str(problem.where).startswith("policy")
    assert problem.expected
    assert len(problem.diagnostics()) < 2000


@pytest.mark.parametrize("document", [None, [], "x", 1, {}, {"schema": "ccverify.policy/v1"}])
def test_what_is_no_policy_is_refused(document: Any) -> None:
    with pytest.raises(PolicyError):
        policy_from_document(document)


@pytest.mark.parametrize(
    ("path", "wrong", "near"),
    [
        ("tdx.tcb.accepted_statuses", ["UptoDate"], "UpToDate"),
        ("binding.profiles", ["tinfoil"], "tinfoil-v3"),
        ("gpus.architectures", ["HOPPER", "hoper"], "HOPPER"),
        ("gpus.modes", ["ppcie"], "PPCIE"),
        ("binding.relayable", "refused", "refuse"),
        ("gpus.revocation", "if_given", "if-given"),
        ("gpus.fwid", "if-reportd", "if-reported"),
    ],
)
def test_a_word_gets_a_nearest_neighbour_too(path: str, wrong: Any, near: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_from_document(_set(path, wrong))
    assert caught.value.hint == f"did you mean {near!r}?"


# --- text ---


def test_json_and_yaml_of_one_document_are_one_policy() -> None:
    as_json, as_yaml = json.dumps(FULL), yaml.safe_dump(FULL)
    policies = [load_policy(as_json.encode()), load_policy(as_yaml.encode())]
    policies.append(load_policy(json.dumps(FULL, indent=4, sort_keys=True).encode()))
    assert policies == [policy_from_document(FULL)] * 3
    assert len({own.digest for own in policies}) == 1


def test_the_digest_is_the_documents_not_the_texts() -> None:
    assert policy_from_document(FULL).digest != policy_from_document(MINIMAL).digest
    renamed = {**FULL, "name": "other"}
    assert policy_from_document(renamed).digest != policy_from_document(FULL).digest


YAML_HEAD = b"schema: ccverify.policy/v1\n"


@pytest.mark.parametrize(
    "value",
    [
        "00806F050000",
        "1e5000000000",
        "0x806F050000",
        "012345670000",
        "20_0000000000",
        "1:30:00:00:00",
    ],
)
def test_hex_that_looks_like_a_number_stays_text(value: str) -> None:
    text = YAML_HEAD + f"tdx: {{platform: {{fmspc: [{value}]}}}}\n".encode()
    try:
        (fmspc,) = load_policy(text).tdx.platform.fmspc or ()
    except PolicyError as problem:
        # Not twelve hex digits: told as text, not as a number of another notation.
        assert value in str(problem.found)  # noqa: PT017
    else:
        assert fmspc == bytes.fromhex(value)


def test_decimal_digits_must_be_quoted_and_the_error_says_so() -> None:
    text = YAML_HEAD + b"tdx: {platform: {fmspc: [123456789012]}}\n"
    with pytest.raises(PolicyError) as caught:
        load_policy(text)
    assert "quote" in str(caught.value.hint)
    assert load_policy(text.replace(b"123456789012", b"'123456789012'")).tdx.platform.fmspc


@pytest.mark.parametrize(
    "body",
    [
        b"tdx: {tcb: {accepted_statuses: [UpToDate]}, tcb: {}}",
        b"tdx: &a {}\nname: *a",
        b"tdx: {}\n? [a]\n: b",
        b"tdx: {}\n1: b",
        b"tdx: {}\ntrue: b",
        b"tdx: {}\n---\ntdx: {}",
        b"tdx: {",
        b"tdx: yes",
        b"tdx: {collateral: {allow_unknown_fields: yes}}",
        b"tdx: {collateral: {allow_unknown_fields: on}}",
        b"tdx: {event_log: {required: no}}",
        b"tdx: !!python/object:os.system {}",
        b"tdx: !novel {}",
        b"<<: {name: x}\ntdx: {}",
        b"tdx: {}\nname: \xff",
        b"tdx: {}\nname: \x00",
        b"tdx: {}\nname: 2026-01-01\xed\xa0\x80",
        b"tdx: {tcb: {min_evaluation_number: 1_8}}",
        b"tdx: {tcb: {min_evaluation_number: 0x12}}",
        b"tdx: {tcb: {min_evaluation_number: 18.0}}",
        b"tdx: {tcb: {min_evaluation_number: 99999999999999999999}}",
    ],
)
def test_yaml_that_two_readers_might_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(PolicyError):
        load_policy(YAML_HEAD + body)


@pytest.mark.parametrize(
    "body",
    [
        b"tdx: !!bool maybe",
        b"tdx: !!timestamp x",
        b'tdx: !!int ""',
        b'tdx: !!float ""',
        b"tdx: !!map [x]",
        b'name: "\\Uffffffff"',
        b'name: "\\UD8000000"',
        b"name: !!int x",
        b"name: !!binary '*'",
        b"name: !!omap {a: b}",
        b"name: !!set [a]",
        b"name: !!timestamp 2001-99-99",
    ],
)
def test_explicit_tags_and_escapes_never_raise_anything_else(body: bytes) -> None:
    with pytest.raises(PolicyError):
        load_policy(YAML_HEAD + body + b"\n")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"null",
        b"[]",
        b"{",
        b'{"schema": "ccverify.policy/v1", "tdx": {}, "tdx": {}}',
        b'{"schema": "ccverify.policy/v1", "tdx": NaN}',
        b'{"name": "\\ud800"}',
        b"{" * 100_000,
        b"[" * 100_000,
        b"- " * 100_000,
        b"{" + b" " * MAX_POLICY_BYTES + b"}",
        b"#" + b" " * MAX_POLICY_BYTES,
        b"\xef\xbb\xbf",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(PolicyError):
        load_policy(text)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_any_bytes_end_in_a_policy_or_the_declared_error(data: bytes) -> None:
    for text in (data, YAML_HEAD + data, b"{" + data):
        try:
            load_policy(text)
        except PolicyError:
            continue


@given(st.text(alphabet="!&*?|>%@-:,[]{}#'\"\\ \ntdxab019~yno.<=U", max_size=60))
@settings(deadline=None, max_examples=600)
def test_yaml_punctuation_ends_in_a_policy_or_the_declared_error(text: str) -> None:
    try:
        load_policy(YAML_HEAD + text.encode())
    except PolicyError:
        return


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)


@st.composite
def _mutated(draw: st.DrawFn) -> Any:
    changed = deepcopy(FULL)
    target: Any = changed
    for _ in range(draw(st.integers(0, 3))):
        inner = [key for key in target if isinstance(target[key], dict) and target[key]]
        if not inner:
            break
        target = target[draw(st.sampled_from(inner))]
    value = draw(
        st.recursive(
            _SCALARS,
            lambda more: st.lists(more, max_size=3) | st.dictionaries(st.text(max_size=8), more),
            max_leaves=6,
        )
    )
    key = draw(st.sampled_from(list(target)) | st.text(max_size=8))
    target[key] = value
    return changed


@given(_mutated())
@settings(deadline=None, max_examples=150)
def test_mutated_documents_end_in_a_policy_or_the_declared_error(document: Any) -> None:
    try:
        own = policy_from_document(document)
    except PolicyError as problem:
        assert problem.diagnostics()  # noqa: PT017
        return
    assert len(own.digest) == 96
