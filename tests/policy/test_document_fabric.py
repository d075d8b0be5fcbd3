"""Section fabric: words, defaults, whom it lets state something, and what contradicts itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import PolicyError
from ccverify.fabric.probe_rules import ProbeBands
from ccverify.findings import Assurance
from ccverify.policy.document import policy_from_document, policy_problems, policy_schema
from ccverify.policy.model import FABRIC_CLAIMS, FABRIC_MODES, FabricPolicy, GivenRule
from ccverify.policy.model_fabric import (
    DEFAULT_MAX_AGE_S,
    MODE_WORDS,
    PROBE_BANDS,
    ManagerPolicy,
    ManagersPolicy,
    OthersPolicy,
    ProbePolicy,
)
from ccverify.results.render.policy import effective_document
from ccverify.sim.certs import to_pem
from ccverify.sim.operator import SimOperator

Json = dict[str, Any]
ID = "0000000000000a01"
PEM = to_pem(SimOperator().root().der(), "CERTIFICATE")
NAME = "000b" + "5a" * 32
PCRS = {"sha256": {"0": ["5a" * 32]}}


def document(section: Any, **gpus: Any) -> Json:
    return {"schema": "ccverify.policy/v1", "gpus": gpus, "fabric": section}


def fabric(section: Any, **gpus: Any) -> FabricPolicy:
    own = policy_from_document(document(section, **gpus)).fabric
    assert isinstance(own, FabricPolicy)
    return own


def problem_of(section: Any, **gpus: Any) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        fabric(section, **gpus)
    found = policy_problems(json.dumps(document(section, **gpus)).encode())
    assert caught.value.diagnostics() in [each.diagnostics() for each in found]
    return caught.value


# --- tables and defaults -------------------------------------------------------------------------


def test_words_of_the_schema_are_those_of_the_code() -> None:
    parts = policy_schema()["$defs"]
    section = parts["fabric"]["properties"]
    assert list(section["mode"]["enum"]) == list(FABRIC_MODES)
    assert tuple(section["assurance"]["properties"]) == FABRIC_CLAIMS
    assert parts["given"]["enum"] == [rule.value for rule in GivenRule]
    weakest_first = [level.value for level in reversed(Assurance) if level is not Assurance.NONE]
    assert parts["floor"]["enum"] == weakest_first
    assert parts["manager"]["properties"]["modes"]["items"]["enum"] == list(MODE_WORDS)
    assert set(parts["probe"]["properties"]) == {"rule", "access", "traffic", *PROBE_BANDS}


def test_silence_is_judged_where_it_is_given_and_nobody_may_state() -> None:
    own = fabric({})
    assert own == FabricPolicy()
    assert own.managers is None
    assert (own.statement, own.continuity, own.routing) == (GivenRule.IF_GIVEN,) * 3
    assert own.probe == ProbePolicy(GivenRule.IF_GIVEN, ProbeBands())
    assert (own.max_age_s, own.same_host_required) == (DEFAULT_MAX_AGE_S, True)
    assert own.manager == ManagerPolicy()
    assert own.manager.log_required
    assert own.apart_from == OthersPolicy()


def test_a_stated_default_is_the_default() -> None:
    stated = {
        "statement": "if-given",
        "same_host": "required",
        "max_statement_age_seconds": 3600,
        "continuity": "if-given",
        "routing": "if-given",
        "manager": {"log": "required"},
        "probe": "if-given",
    }
    assert fabric(stated) == FabricPolicy()
    bands = {"rule": "if-given", "access": "required", "traffic_tolerance_percent": 10}
    assert fabric({"probe": bands}) == FabricPolicy()


def test_only_who_is_named_may_state() -> None:
    assert fabric({"managers": {"unsigned": "refuse"}}).managers == ManagersPolicy()
    assert fabric({"managers": {"unsigned": "accept"}}).managers == ManagersPolicy(unsigned=True)
    (rule,) = (fabric({"managers": {"x509": [{"roots": [PEM, PEM]}]}}).managers or _NOBODY).x509
    assert rule.keys is None
    assert len(rule.roots) == 2


_NOBODY = ManagersPolicy()


@pytest.mark.parametrize("word", [rule.value for rule in GivenRule])
def test_a_word_in_place_of_bands_is_the_rule_alone(word: str) -> None:
    assert fabric({"probe": word}).probe == ProbePolicy(GivenRule(word))


def test_bands_are_required_unless_they_say_otherwise() -> None:
    probe = fabric({"probe": {"max_copy_ns": 4500}}).probe
    assert probe == ProbePolicy(GivenRule.REQUIRED, ProbeBands(max_copy_us=4.5))


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        PEM + PEM,
        PEM + "and more",
        PEM[:200],
        PEM.replace("M", "N"),
    ],
)
@pytest.mark.parametrize("kind", ["tpm", "x509"])
def test_a_bad_root_is_named_by_its_place(kind: str, bad: str) -> None:
    rule = {"roots": [PEM, bad]} | ({"pcrs": PCRS} if kind == "tpm" else {})
    problem = problem_of({"managers": {kind: [rule]}})
    assert problem.where == f"policy.fabric.managers.{kind}[0].roots[1]"
    assert "root certificate cannot be used" in problem.message


def test_any_machine_is_no_manager() -> None:
    problem = problem_of({"managers": {"tdx": ["any"]}})
    assert problem.where == "policy.fabric.managers.tdx[0]"
    assert problem.expected == "a mapping of keys"


def test_an_unknown_bank_or_pcr_is_named_even_beside_a_known_one() -> None:
    for pcrs, unknown in (
        ({"sha256": {"7": ["5a" * 32], "24": ["5a" * 32]}}, "24"),
        ({"sha256": {"7": ["5a" * 32]}, "sha1": {"7": ["5a" * 32]}}, "sha1"),
    ):
        problem = problem_of({"managers": {"tpm": [{"names": [NAME], "pcrs": pcrs}]}})
        assert problem.found == unknown
        assert "a key that matches" in str(problem.expected)


CONTRADICTIONS: list[tuple[str, str, Json]] = [
    ("managers", "statement", {"statement": "any", "managers": {"unsigned": "accept"}}),
    ("continuity", "statement", {"statement": "any", "continuity": "required"}),
    ("routing", "statement", {"statement": "any", "routing": "required"}),
    ("routing_digests", "statement", {"statement": "any", "routing_digests": ["ab" * 48]}),
    ("routing_digests", "not judged", {"routing": "any", "routing_digests": ["ab" * 48]}),
    ("partition.ids", "statement", {"statement": "any", "partition": {"ids": [2]}}),
    ("apart_from.modules", "statement", {"statement": "any", "apart_from": {"modules": [5]}}),
    ("statement", "observation", {"observation": "any", "statement": "required"}),
    ("partition.ids", "observation", {"observation": "any", "partition": {"ids": [2]}}),
    ("apart_from.modules", "observation", {"observation": "any", "apart_from": {"modules": [5]}}),
    (
        "managers.tdx[1].report_data",
        "covers its own",
        {"managers": {"tdx": [{}, {"report_data": "any"}]}},
    ),
    (
        "managers.tdx[0].report_data",
        "covers its own",
        {"managers": {"tdx": [{"report_data": ["ab" * 64]}]}},
    ),
    ("apart_from.device_ids", "kept apart", {"apart_from": {"device_ids": [ID.upper()]}}),
    (
        "manager.versions",
        "accepted and rejected",
        {"manager": {"versions": {"accepted": ["580.95.05"], "rejected": ["580.95.5"]}}},
    ),
    (
        "managers.tpm[1].pcrs.sha384.7",
        "not as long",
        {
            "managers": {
                "tpm": [
                    {"names": [NAME], "pcrs": PCRS},
                    {"names": [NAME], "pcrs": {"sha384": {"7": ["5a" * 48, "5a" * 32]}}},
                ]
            }
        },
    ),
]


@pytest.mark.parametrize(("where", "said", "section"), CONTRADICTIONS)
def test_a_section_that_excludes_itself_is_refused(where: str, said: str, section: Json) -> None:
    problem = problem_of(section, device_ids=[ID])
    assert problem.where == f"policy.fabric.{where}"
    assert said in problem.message
    assert problem.expected
    assert problem.found


@pytest.mark.parametrize(
    "section",
    [
        {"statement": "any"},
        {"statement": "any", "continuity": "any", "routing": "any", "probe": "any"},
        {"statement": "any", "apart_from": {"device_ids": ["00000000000000b9"]}},
        {"statement": "required", "managers": {"unsigned": "accept"}, "routing": "required"},
        {"observation": "if-given", "statement": "required"},
        {"observation": "any", "statement": "if-given"},
        {"managers": {"tpm": [{"names": [NAME], "pcrs": {"sha512": {"23": ["5a" * 64]}}}]}},
    ],
)
def test_what_can_be_met_is_a_policy(section: Json) -> None:
    assert policy_problems(json.dumps(document(section, device_ids=[ID])).encode()) == ()


# --- property tests ------------------------------------------------------------------------------

_GIVEN = st.sampled_from([rule.value for rule in GivenRule])
_WORD = st.sampled_from(["required", "any"])
_HEX32, _HEX48 = (st.sampled_from(["5a" * n, "AB" * n, "00" * n]) for n in (32, 48))


def _lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=2)


def _some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=members)


_PCRS = st.fixed_dictionaries(
    {"sha256": st.dictionaries(st.sampled_from(["0", "7", "23"]), _lists(_HEX32 | _HEX48),
                               min_size=1)}
)  # fmt: skip
_SECTIONS = _some(
    observation=_GIVEN,
    statement=_GIVEN,
    same_host=_WORD,
    max_statement_age_seconds=st.integers(1, 31536000),
    continuity=_GIVEN,
    routing=_GIVEN,
    routing_digests=_lists(_HEX48),
    partition=_some(ids=_lists(st.integers(0, 65535)), size=st.integers(1, 64)).filter(bool),
    managers=_some(
        tdx=_lists(st.just({}) | st.just({"measurements": {"mrtd": "any"}})),
        tpm=_lists(st.fixed_dictionaries({"names": st.just([NAME]), "pcrs": _PCRS})),
        x509=_lists(st.just({"roots": [PEM]}) | st.just({"roots": [PEM], "keys": ["AB" * 32]})),
        unsigned=st.sampled_from(["accept", "refuse"]),
    ).filter(bool),
    manager=_some(
        modes=_lists(st.sampled_from(list(MODE_WORDS))),
        nvlsm_versions=_lists(st.text(min_size=1, max_size=8)),
        programs=st.dictionaries(
            st.sampled_from(["fabric-manager", "nvlsm"]), _lists(_HEX48), min_size=1
        ),
        settings=st.dictionaries(
            st.sampled_from(["FABRIC_MODE", "LOG_LEVEL"]), _lists(st.text(max_size=4)), min_size=1
        ),
        log=_WORD,
    ).filter(bool),
    apart_from=_some(
        device_ids=_lists(st.sampled_from([ID, "00000000000000b9"])),
        modules=_lists(st.integers(0, 255)),
    ).filter(bool),
    probe=_GIVEN
    | _some(
        rule=_GIVEN,
        access=_WORD,
        traffic=_WORD,
        min_one_way_gb_per_s=st.integers(1, 100000),
        max_spread_percent=st.integers(0, 100),
        max_copy_ns=st.integers(1, 10**9),
        max_read_ns=st.integers(1, 10**9),
        max_background_bytes_per_s=st.integers(0, 10**15),
        traffic_tolerance_percent=st.integers(0, 100),
    ),
)


@given(_SECTIONS)
@settings(deadline=None, max_examples=250)
def test_only_a_contradiction_keeps_what_the_schema_accepts_from_being_a_policy(
    section: Json,
) -> None:
    try:
        own = policy_from_document(document(section, device_ids=[ID]))
    except PolicyError as problem:
        assert problem.message != "value is not what a policy may say here"  # noqa: PT017
        return
    shown = effective_document(own)
    assert effective_document(policy_from_document(shown)) == shown
    assert isinstance(own.fabric, FabricPolicy)
    for rule in own.fabric.managers.tpm if own.fabric.managers else ():
        assert {len(v) for values in rule.pcrs["sha256"].values() for v in values} == {32}


_LEAVES = (
    st.sampled_from(["any", "required", "if-given", "accept", PEM, NAME, ID, "vgpu", "", "\ud800"])
    | st.none()
    | st.booleans()
    | st.integers(-1, 70)
    | st.floats()
)
_KEYS = st.sampled_from(
    sorted(
        key
        for name in ("fabric", "managers", "manager", "probe")
        for key in policy_schema()["$defs"][name]["properties"]
    )
) | st.sampled_from(["names", "roots", "pcrs", "keys", "sha256", "7", "modules", "LOG_LEVEL"])
_VALUES = st.recursive(
    _LEAVES,
    lambda more: st.lists(more, max_size=3) | st.dictionaries(_KEYS, more, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
@settings(deadline=None, max_examples=400)
def test_any_section_ends_in_a_policy_or_the_declared_error(section: Json) -> None:
    try:
        own = policy_from_document(document(section))
    except PolicyError as problem:
        assert problem.diagnostics()  # noqa: PT017
        return
    assert len(own.digest) == 96
