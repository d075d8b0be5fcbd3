"""Sections gpus, nvswitches, topology, binding, gateway: words, defaults, contradictions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import PolicyError
from ccverify.evidence import BindingProfile
from ccverify.nvidia.certs import Architecture
from ccverify.nvidia.rim import DRIVER_VERSION, VBIOS_VERSION
from ccverify.policy.document import (
    load_policy,
    policy_from_document,
    policy_problems,
    policy_schema,
)
from ccverify.policy.model import (
    ANY,
    GPU_ARCHITECTURES,
    GPU_MODES,
    NVSWITCH_ARCHITECTURES,
    BindingPolicy,
    CountPolicy,
    DevicePolicy,
    Policy,
    RevocationRule,
    TdxPolicy,
    TopologyPolicy,
    VersionPolicy,
)

Json = dict[str, Any]
ID = "0000000000000a01"
NODE: Json = {
    "gpus": {"count": 8, "architectures": ["HOPPER"], "modes": ["PPCIE"]},
    "nvswitches": {"count": 4, "architectures": ["LS10"]},
    "topology": {"kind": "protected-pcie", "gpus": 8, "switches": 4},
}


def policy(**sections: Any) -> Policy:
    return policy_from_document({"schema": "ccverify.policy/v1", **sections})


def gpus(**members: Any) -> DevicePolicy:
    section = policy(gpus=members).gpus
    assert isinstance(section, DevicePolicy)
    return section


def problem_of(**sections: Any) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        policy(**sections)
    return caught.value


# --- tables ---


def test_words_of_the_schema_are_those_of_the_code() -> None:
    parts = policy_schema()["$defs"]

    def words(section: str, key: str) -> list[str]:
        schema = parts[section]["properties"][key]
        if "oneOf" in schema:
            schema = schema["oneOf"][1]
        return list(schema["items"]["enum"])

    assert set(words("gpus", "architectures")) == {*GPU_ARCHITECTURES, "BLACKWELL"}
    assert words("nvswitches", "architectures") == list(NVSWITCH_ARCHITECTURES)
    assert words("gpus", "modes") == list(GPU_MODES)
    assert words("binding", "profiles") == [profile.value for profile in BindingProfile]
    assert parts["revocation_rule"]["enum"] == [rule.value for rule in RevocationRule]
    known = {architecture.value for architecture in Architecture}
    assert {*GPU_ARCHITECTURES, *NVSWITCH_ARCHITECTURES} == known


def test_switches_say_what_gpus_say_without_modes_and_driver() -> None:
    parts = policy_schema()["$defs"]
    of_gpus = set(parts["gpus"]["properties"]) - {"modes", "driver", "vbios"}
    assert set(parts["nvswitches"]["properties"]) == of_gpus | {"bios"}


@given(st.from_regex(DRIVER_VERSION, fullmatch=True), st.from_regex(VBIOS_VERSION, fullmatch=True))
@settings(deadline=None, max_examples=60)
def test_every_version_that_evidence_can_state_can_be_named(driver: str, vbios: str) -> None:
    versions = gpus(driver={"min": driver}, vbios={"rejected": [vbios.lower()]})
    assert versions.driver == VersionPolicy(minimum=driver)
    assert versions.vbios == VersionPolicy(rejected=frozenset({vbios}))


# --- words and defaults ---


def test_silence_on_devices_is_the_strict_default() -> None:
    own = gpus()
    assert own == DevicePolicy()
    assert (own.count, own.architectures, own.modes) == (None, None, None)
    assert (own.fwid_required, own.rim_required) == (True, True)
    assert (own.allow_expired_rim_signer, own.allow_hold) == (False, False)
    assert own.revocation is RevocationRule.REQUIRED
    assert own.driver.silent
    assert own.vbios.silent
    switches = policy(nvswitches={}).nvswitches
    assert switches == DevicePolicy(fwid_required=False)
    assert policy(nvswitches={"fwid": "required"}).nvswitches == DevicePolicy()


def test_a_stated_default_is_the_default() -> None:
    stated = gpus(
        fwid="required",
        rim="required",
        rim_expired_signer="forbid",
        revocation="required",
        certificate_hold="forbid",
        driver={},
        vbios={"rejected": []},
    )
    assert stated == gpus()
    assert policy(**NODE | {"binding": {}}).binding == BindingPolicy()
    topology = {**NODE["topology"], "mixed_firmware": "forbid", "mixed_driver": "forbid"}
    assert policy(**NODE | {"topology": topology}).topology == TopologyPolicy(8, 4)


@pytest.mark.parametrize(
    ("count", "meant"),
    [
        (1, CountPolicy(1, 1)),
        (64, CountPolicy(64, 64)),
        (8.0, CountPolicy(8, 8)),
        ({"min": 1, "max": 8}, CountPolicy(1, 8)),
        ({"min": 4, "max": 4}, CountPolicy(4, 4)),
        ("any", ANY),
    ],
)
def test_counts(count: Any, meant: Any) -> None:
    own = gpus(count=count)
    assert own.count == meant
    if isinstance(own.count, CountPolicy):
        assert (type(own.count.least), type(own.count.most)) == (int, int)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["HOPPER"], {"HOPPER"}),
        (["BLACKWELL"], {"BLACKWELL-GB100", "BLACKWELL-GB20X"}),
        (["BLACKWELL-GB100"], {"BLACKWELL-GB100"}),
        (["BLACKWELL", "BLACKWELL-GB20X", "HOPPER"], set(GPU_ARCHITECTURES)),
        ("any", ANY),
    ],
)
def test_architectures(words: Any, meant: Any) -> None:
    assert gpus(architectures=words).architectures == meant


def test_any_waives_what_it_stands_for_and_nothing_else() -> None:
    own = policy(gpus="any", nvswitches="any", topology="any", tdx={})
    assert (own.gpus, own.nvswitches, own.topology) == (ANY, ANY, ANY)
    assert isinstance(own.tdx, TdxPolicy)
    own = policy(tdx="any", gpus={"modes": "any"})
    assert own.tdx is ANY
    assert own.gpus == DevicePolicy(modes=ANY)
    assert (own.nvswitches, own.topology, own.gateway) == (None, None, None)


def test_duplicates_are_harmless() -> None:
    once = gpus(
        architectures=["HOPPER"],
        modes=["SPT"],
        driver={"accepted": ["575.32"]},
        vbios={"accepted": ["96.00.9F.00.01"]},
        firmware_ids=["ab" * 48],
        device_ids=[ID],
    )
    twice = gpus(
        architectures=["HOPPER"] * 2,
        modes=["SPT"] * 2,
        driver={"accepted": ["575.32"] * 2},
        vbios={"accepted": ["96.00.9f.00.01", "96.00.9F.00.01"]},
        firmware_ids=["ab" * 48, "AB" * 48],
        device_ids=[ID, ID.upper()],
    )
    assert once == twice


def test_a_gateway_takes_nothing_over_from_the_nodes() -> None:
    own = policy(**NODE, binding={"profiles": ["near"], "relayable": "accept"}, gateway={"tdx": {}})
    assert own.gateway is not None
    assert isinstance(own.gateway.tdx, TdxPolicy)
    assert own.gateway.binding == BindingPolicy()
    waived = policy(**NODE, gateway={"tdx": "any"}).gateway
    assert waived is not None
    assert waived.tdx is ANY


# --- mistakes ---


def test_a_policy_needs_a_section_that_judges() -> None:
    problem = problem_of(topology="any", binding={})
    for section in ("tdx", "gpus", "nvswitches"):
        assert f"'{section}'" in str(problem.expected)
    for section in ("tdx", "gpus", "nvswitches"):
        policy(**{section: {}})


WAIVED = [
    {"tdx": "any"},
    {"gpus": "any", "nvswitches": "any"},
    {"tdx": "any", "gpus": "any", "nvswitches": "any", "topology": "any"},
]


@pytest.mark.parametrize("sections", WAIVED)
def test_a_policy_of_nothing_but_any_is_refused(sections: Json) -> None:
    assert problem_of(**sections).message == "the policy judges nothing"


def test_a_zero_device_id_is_refused_by_its_place() -> None:
    problem = problem_of(gpus={"device_ids": [ID, "0" * 16]})
    assert problem.where == "policy.gpus.device_ids[1]"
    assert "not all zero" in str(problem.expected)


def test_an_error_inside_a_section_is_told_as_precisely_as_ever() -> None:
    problem = problem_of(gpus={"count": {"min": 0, "max": 8}})
    assert problem.where == "policy.gpus.count.min"
    problem = problem_of(gpus="all")
    assert (problem.where, problem.expected) == ("policy.gpus", "a mapping of keys, or any")
    problem = problem_of(gpus=[])
    assert (problem.where, problem.expected) == ("policy.gpus", "a mapping of keys, or any")
    problem = problem_of(gpus={"architectures": ["HOPPER", "LS10"]})
    assert problem.where == "policy.gpus.architectures[1]"
    problem = problem_of(gpus={"driver": {"min": "v550"}})
    assert problem.expected == "a driver version such as 550.90.07"
    problem = problem_of(**NODE | {"topology": {**NODE["topology"], "kind": "nvlink"}})
    assert (problem.where, problem.expected) == ("policy.topology.kind", "protected-pcie")


def _node(section: str, **members: Any) -> Json:
    return {**NODE, section: {**NODE[section], **members}}


CONTRADICTIONS: list[tuple[str, str, Json]] = [
    ("policy.gpus.count", "no number", {"gpus": {"count": {"min": 2, "max": 1}}}),
    ("policy.nvswitches.count", "no number", {"nvswitches": {"count": {"min": 4, "max": 1}}}),
    ("policy.gpus.device_ids", "fewer", {"gpus": {"count": 2, "device_ids": [ID, ID]}}),
    ("policy.nvswitches.device_ids", "fewer", {"nvswitches": {"count": 4, "device_ids": [ID]}}),
    (
        "policy.gpus.driver",
        "accepted and rejected",
        {"gpus": {"driver": {"accepted": ["575.32"], "rejected": ["575.032"]}}},
    ),
    (
        "policy.gpus.driver",
        "below",
        {"gpus": {"driver": {"accepted": ["1000.10", "580.95.05"], "min": "590.10"}}},
    ),
    (
        "policy.gpus.vbios",
        "accepted and rejected",
        {"gpus": {"vbios": {"accepted": ["96.00.9f.00.01"], "rejected": ["96.00.9F.00.01"]}}},
    ),
    (
        "policy.nvswitches.bios",
        "below",
        {"nvswitches": {"bios": {"accepted": ["96.10.55.00.01"], "min": "96.10.5a.00.00"}}},
    ),
    ("policy.topology.gpus", "gpus.count", _node("topology", gpus=7)),
    ("policy.topology.switches", "nvswitches.count", _node("topology", switches=5)),
    ("policy.topology.gpus", "gpus.count", _node("gpus", count={"min": 1, "max": 7})),
    ("policy.gpus.modes", "PPCIE", _node("gpus", modes=["SPT", "MPT", "NOT_STATED"])),
    ("policy.gpus.architectures", "HOPPER", _node("gpus", architectures=["BLACKWELL"])),
    ("policy.topology", "rests on", {**NODE, "gpus": "any"}),
    ("policy.topology", "rests on", {**NODE, "nvswitches": "any"}),
    ("policy.topology", "rests on", {k: v for k, v in NODE.items() if k != "nvswitches"}),
    ("policy.topology", "rests on", {k: v for k, v in NODE.items() if k != "gpus"}),
    ("policy.topology", "rests on", {"tdx": {}, "topology": NODE["topology"]}),
]


@pytest.mark.parametrize(("where", "said", "sections"), CONTRADICTIONS)
def test_a_policy_that_excludes_itself_is_refused(where: str, said: str, sections: Json) -> None:
    problem = problem_of(**sections)
    assert problem.where == where
    assert said in problem.message
    assert problem.expected
    assert problem.found
    text = json.dumps({"schema": "ccverify.policy/v1", **sections}).encode()
    assert problem.diagnostics() in [found.diagnostics() for found in policy_problems(text)]


@pytest.mark.parametrize(
    "sections",
    [
        NODE,
        _node("gpus", count={"min": 1, "max": 8}),
        _node("gpus", count="any", modes="any", architectures="any"),
        _node("gpus", modes=["SPT", "PPCIE"], architectures=["BLACKWELL", "HOPPER"]),
        {**NODE, "gpus": {}, "nvswitches": {}},
        {**NODE, "topology": "any"},
        {"tdx": {}, "topology": "any"},
        {"gpus": {"count": 2, "device_ids": [ID, "00000000000000b2", "00000000000000b3"]}},
        {"gpus": {"driver": {"accepted": ["590.10", "1000.10"], "min": "590.10"}}},
    ],
)
def test_what_can_be_met_is_a_policy(sections: Json) -> None:
    text = json.dumps({"schema": "ccverify.policy/v1", **sections}).encode()
    assert policy_problems(text) == ()
    load_policy(text)


def test_all_contradictions_are_told_at_once() -> None:
    own = {**_node("topology", gpus=7, switches=5), "tdx": "any"}
    text = json.dumps({"schema": "ccverify.policy/v1", **own}).encode()
    assert [problem.where for problem in policy_problems(text)] == [
        "policy.topology.gpus",
        "policy.topology.switches",
    ]


# --- property tests ---

_WORDS = st.sampled_from(
    [
        "any", "required", "forbid", "allow", "if-given", "if-reported", "HOPPER", "LS10",
        "BLACKWELL", "PPCIE", "SPT", "NOT_STATED", "protected-pcie", "near", "raw-nonce",
        "waived", "accept", "refuse", "550.90.07", "575.32", "96.00.9F.00.01", "96.10.55.00.01",
        ID, "00000000000000b2", "0" * 16, "ab" * 48, "\ud800", "",
    ]
)  # fmt: skip
_LEAVES = _WORDS | st.none() | st.booleans() | st.integers(-1, 70) | st.floats()
_KEYS = st.sampled_from(
    sorted(
        key
        for part in policy_schema()["$defs"].values()
        for key in part.get("properties", {"surplus": {}})
    )
)
_VALUES = st.recursive(
    _LEAVES,
    lambda more: st.lists(more, max_size=3) | st.dictionaries(_KEYS, more, max_size=4),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["tdx", "gpus", "nvswitches", "topology", "binding", "gateway"]), _VALUES
    )
)
@settings(deadline=None, max_examples=400)
def test_any_document_ends_in_a_policy_or_the_declared_error(sections: Json) -> None:
    try:
        own = policy(**sections)
    except PolicyError as problem:
        assert problem.diagnostics()  # noqa: PT017
        return
    assert len(own.digest) == 96


def _section(key: str) -> st.SearchStrategy[Any]:
    """Values the schema accepts for a section, wise or not."""
    count = st.integers(1, 64) | st.just("any")
    count |= st.fixed_dictionaries({"min": st.integers(1, 64), "max": st.integers(1, 64)})
    ids = st.lists(st.sampled_from([ID, "00000000000000b2", "00000000000000B3"]), min_size=1)
    switch = st.sampled_from(["forbid", "allow"])
    members = {
        "count": count,
        "rim": st.sampled_from(["required", "any"]),
        "rim_expired_signer": switch,
        "revocation": st.sampled_from([rule.value for rule in RevocationRule]),
        "certificate_hold": switch,
        "device_ids": ids,
    }
    if key == "nvswitches":
        return st.just("any") | st.fixed_dictionaries({}, optional=members)
    members["modes"] = st.just("any") | st.lists(st.sampled_from(GPU_MODES), min_size=1, max_size=3)
    drivers = st.from_regex(r"5[0-9]{2}\.[0-9]{2}", fullmatch=True)
    lists = st.lists(drivers, min_size=1, max_size=2)
    members["driver"] = st.fixed_dictionaries(
        {}, optional={"min": drivers, "accepted": lists, "rejected": lists}
    )
    return st.just("any") | st.fixed_dictionaries({}, optional=members)


_DOCUMENTS = st.fixed_dictionaries(
    {"gpus": _section("gpus")},
    optional={
        "tdx": st.just("any") | st.just({}),
        "nvswitches": _section("nvswitches"),
        "topology": st.just("any") | st.fixed_dictionaries(
            {
                "kind": st.just("protected-pcie"),
                "gpus": st.integers(1, 64),
                "switches": st.integers(1, 64),
            }
        ),
    },
)  # fmt: skip


@given(_DOCUMENTS)
@settings(deadline=None, max_examples=250)
def test_only_a_contradiction_keeps_what_the_schema_accepts_from_being_a_policy(
    sections: Json,
) -> None:
    try:
        own = policy(**sections)
    except PolicyError as problem:
        assert problem.message != "value is not what a policy may say here"  # noqa: PT017
        return
    if isinstance(own.gpus, DevicePolicy) and isinstance(own.gpus.count, CountPolicy):
        least, most = own.gpus.count.least, own.gpus.count.most
        assert least <= most
        assert own.gpus.device_ids is None or len(own.gpus.device_ids) >= least
        if isinstance(own.topology, TopologyPolicy):
            assert least <= own.topology.gpus <= most
            assert isinstance(own.nvswitches, DevicePolicy)
