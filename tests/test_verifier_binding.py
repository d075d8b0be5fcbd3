"""CPU, devices and channel of one node, tied together or not: every outcome of every BIND check."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from vectors.judging import ANY_IMAGE
from vectors.judging_devices import (
    against,
    failed_codes,
    judge_node,
    one,
    open_codes,
    rules,
    sim_collateral,
    sim_evidence,
    sim_store,
)

from ccverify import State, TrustKind, UsageError, Verdict, parse_collateral
from ccverify.evidence import BindingInputs, BindingProfile, Evidence, NodeRole
from ccverify.findings import Assurance
from ccverify.sim import SimPlatform
from ccverify.sim.nvidia import SimNode, SimNvidiaIssuer, sim_gpu
from ccverify.sim.nvidia.models import H100

FAIL, OPEN, ASIDE = State.FAIL, State.NOT_CHECKED, State.NOT_APPLICABLE
PASS = State.PASS
PLATFORM = SimPlatform()
NODE = SimNode.hopper_spt(2)
NONCE = NODE.nonce
ADDRESS = bytes(range(20))
TLS = sha256(b"tls").digest()
HPKE = sha256(b"hpke").digest()

GPUS = {"count": 2, "architectures": ["HOPPER"], "modes": ["SPT"]}
TD = {"measurements": ANY_IMAGE["measurements"]}
BASE = {"tdx": TD, "gpus": GPUS, "binding": {"relayable": "accept"}}
PPID = PLATFORM.identifier("ppid").hex()
IDS = [gpu.pdi.hex() for gpu in NODE.gpus]


@cache
def _quote(report_data: bytes) -> Any:
    return PLATFORM.evidence(report_data=report_data)


def bound(report_data: bytes, **more: Any) -> Evidence:
    """A node whose quote has this REPORTDATA, zero-padded."""
    quote = _quote(report_data.ljust(64, b"\0")).quote_bytes
    return replace(sim_evidence(NODE), quote=quote, **more)


def judge(evidence: Evidence, policy: Any, **more: Any) -> Verdict:
    pack = parse_collateral(_quote(NONCE.ljust(64, b"\0")).collateral.to_json().encode())
    return judge_node(NODE, policy, evidence, collateral=pack, **more)


def inputs(profile: BindingProfile = BindingProfile.REDPILL, **values: Any) -> BindingInputs:
    return BindingInputs(profile, **values)


RAW = bound(NONCE)
REDPILL = bound(
    ADDRESS.ljust(32, b"\0") + NONCE, binding=inputs(signing_address=ADDRESS, request_nonce=NONCE)
)


def profile(name: str, **more: Any) -> Any:
    return rules(BASE, binding={"profiles": [name], **more})


# --- a whole node --------------------------------------------------------------------------------


def test_cpu_and_devices_that_answer_one_request() -> None:
    verdict = judge(RAW, rules(BASE))
    assert verdict.trusted, verdict.failures()
    assert verdict.tdx is not None
    assert len(verdict.gpus) == 2
    assert {c.level for c in verdict.gpus} == {Assurance.HARDWARE}
    assert verdict.binding is not None
    assert verdict.binding["fresh"] is True
    assert one(verdict, "TDX-REPORT-DATA").state is PASS


def test_the_roots_of_both_vendors_are_named() -> None:
    found = one(judge(RAW, rules(BASE)), "TRUST-ROOTS").found or ""
    store = sim_store()
    labels = [store.intel_root.label, store.nvidia_device_root.label, store.nvidia_rim_root.label]
    assert found == f"simulated: {', '.join(labels)}"
    bare = Evidence(quote=RAW.quote)
    found = one(judge(bare, rules({"tdx": TD})), "TRUST-ROOTS").found or ""
    assert found == f"simulated: {labels[0]}"


def test_devices_of_another_request_than_the_quotes() -> None:
    other = sha256(b"another").digest()
    verdict = judge(bound(other), rules(BASE))
    assert against(verdict) == {("TDX-REPORT-DATA", None): FAIL}
    verdict = judge(bound(other), rules(BASE), nonce=other)
    assert against(verdict) == {("GPU-NONCE", "gpu-0"): FAIL, ("GPU-NONCE", "gpu-1"): FAIL}
    assert verdict.exit_code == 3


def test_what_the_policy_asks_for_and_is_not_there() -> None:
    verdict = judge(replace(RAW, gpus=()), rules(BASE))
    assert ("NODE-CLASSES", "gpus") in against(verdict)
    assert verdict.exit_code == 4
    verdict = judge(replace(RAW, quote=None), rules(BASE))
    assert against(verdict) == {("NODE-CLASSES", "tdx"): FAIL}
    assert verdict.exit_code == 4


def test_a_quote_that_does_not_parse_beside_genuine_devices() -> None:
    verdict = judge(replace(RAW, quote=b"\4\0garbage"), rules(BASE), channel={"hpke_key": "00"})
    assert verdict.exit_code == 2
    assert {c.level for c in verdict.gpus} == {Assurance.HARDWARE}
    assert against(verdict)["TDX-QUOTE-FORMAT", None] is FAIL
    assert one(verdict, "BIND-CHANNEL").state is OPEN


# --- BIND-FRESH ----------------------------------------------------------------------------------

STATED = replace(RAW, binding=inputs(BindingProfile.RAW_NONCE, request_nonce=NONCE))
WAIVED = rules(BASE, binding={"freshness": "waived"})


@pytest.mark.parametrize(
    ("evidence", "policy", "nonce", "state", "words", "trusted"),
    [
        (RAW, rules(BASE), NONCE, PASS, "nonce is the relying party's own", True),
        (STATED, rules(BASE), NONCE, PASS, "nonce is the relying party's own", True),
        (RAW, rules(BASE), None, OPEN, "neither a nonce nor", False),
        (STATED, rules(BASE), None, OPEN, "neither a nonce nor", False),
        (STATED, WAIVED, None, ASIDE, f"{NONCE.hex()} is the response's", True),
        (STATED, WAIVED, NONCE, PASS, "the relying party's own", True),
        (RAW, WAIVED, None, ASIDE, "no nonce is known", False),
    ],
)
def test_freshness(
    evidence: Evidence, policy: Any, nonce: bytes | None, state: State, words: str, trusted: bool
) -> None:
    verdict = judge(evidence, policy, nonce=nonce)
    finding = one(verdict, "BIND-FRESH")
    assert finding.state is state
    assert words in (finding.found or "")
    assert verdict.trusted is trusted
    assert verdict.binding is not None
    assert verdict.binding["fresh"] is (nonce is not None)


def test_a_stated_nonce_is_not_used_where_freshness_is_required() -> None:
    verdict = judge(STATED, rules(BASE), nonce=None)
    assert set(against(verdict).values()) == {OPEN}
    assert open_codes(verdict) == {"BIND-FRESH", "GPU-NONCE", "TDX-REPORT-DATA"}
    assert verdict.binding is not None
    assert verdict.binding["nonce"] is None


def test_no_waiver_accepts_a_contradiction() -> None:
    """The nonce that a response states is compared wherever it is used."""
    other = replace(STATED, binding=replace(STATED.binding, request_nonce=bytes(32)))
    verdict = judge(other, WAIVED, nonce=None)
    assert failed_codes(verdict) == {"TDX-REPORT-DATA", "GPU-NONCE"}
    verdict = judge(other, WAIVED)
    assert against(verdict) == {("BIND-CONSISTENT", None): FAIL}
    assert "answers the nonce" in (one(verdict, "BIND-CONSISTENT").found or "")
    assert verdict.exit_code == 3


def test_device_nonces_under_a_waiver() -> None:
    """Where no nonce is known at all, that of the devices is waived too, and nothing else."""
    policy = rules({"gpus": GPUS, "binding": {"freshness": "waived"}})
    verdict = judge(sim_evidence(NODE), policy, nonce=None)
    assert verdict.trusted
    finding = one(verdict, "GPU-NONCE", "gpu-0")
    assert finding.state is ASIDE
    assert "the policy waives freshness, and the evidence states no nonce" in (finding.found or "")
    assert judge(sim_evidence(NODE), policy, nonce=bytes(32)).exit_code == 3
    strict = rules({"gpus": GPUS})
    assert open_codes(judge(sim_evidence(NODE), strict, nonce=None)) == {"GPU-NONCE", "BIND-FRESH"}


# --- report data stated by the relying party -----------------------------------------------------


def test_explicit_report_data() -> None:
    chosen = sha256(b"whatever the relying party chose").digest() * 2
    node = bound(chosen)
    verdict = judge(node, rules(BASE), report_data=chosen)  # and the nonce of the devices
    assert verdict.trusted
    assert verdict.inputs["report_data"] == chosen.hex()
    verdict = judge(node, rules(BASE), report_data=chosen, nonce=None)
    assert against(verdict) == {("GPU-NONCE", "gpu-0"): OPEN, ("GPU-NONCE", "gpu-1"): OPEN}
    assert verdict.exit_code == 6
    assert one(verdict, "BIND-FRESH").found == "REPORTDATA is the relying party's own"
    # The word given up freshness for the devices' nonce only where nobody asked anything.
    verdict = judge(node, WAIVED, report_data=chosen, nonce=None)
    assert not verdict.trusted
    for wrong in (bytes(64), chosen[:63] + b"\0", NONCE.ljust(64, b"\0")):
        verdict = judge(node, rules(BASE), report_data=wrong)
        assert against(verdict) == {("TDX-REPORT-DATA", None): FAIL}
    assert judge(node, rules(BASE)).exit_code == 3  # the nonce alone is not in it


def test_a_bare_quote_is_bound_to_one_thing() -> None:
    with pytest.raises(UsageError, match="not both"):
        judge(Evidence(quote=RAW.quote), rules(BASE), report_data=bytes(64))


def test_explicit_report_data_beside_a_recipe() -> None:
    """Both must hold: neither can talk the other out of its way."""
    whole = ADDRESS.ljust(32, b"\0") + NONCE
    assert judge(REDPILL, profile("redpill"), report_data=whole).trusted
    verdict = judge(REDPILL, profile("redpill"), report_data=bytes(64))
    assert failed_codes(verdict) == {"TDX-REPORT-DATA"}


# --- profiles ------------------------------------------------------------------------------------


def test_the_sender_does_not_choose_the_profile() -> None:
    assert judge(REDPILL, profile("redpill")).trusted
    verdict = judge(REDPILL, profile("raw-nonce"))
    assert failed_codes(verdict) == {"TDX-REPORT-DATA"}
    assert verdict.binding is not None
    assert verdict.binding["profile"] == "raw-nonce"
    assert "signing_address" in verdict.binding["unbound"]
    both = rules(BASE, binding={"profiles": ["raw-nonce", "redpill"]})
    verdict = judge(REDPILL, both)
    assert verdict.trusted
    assert verdict.binding is not None
    assert verdict.binding["profile"] == "redpill"
    assert verdict.binding["bound"] == {"signing_address": ADDRESS.hex()}
    # A quote that says redpill and holds a raw nonce satisfies neither.
    claimed = replace(RAW, binding=REDPILL.binding)
    assert failed_codes(judge(claimed, both)) == {"TDX-REPORT-DATA"}


def test_an_input_that_is_missing_leaves_it_open() -> None:
    silent = replace(REDPILL, binding=inputs(request_nonce=NONCE))
    verdict = judge(silent, profile("redpill"))
    assert against(verdict) == {("TDX-REPORT-DATA", None): OPEN}
    assert verdict.binding is not None
    assert verdict.binding["missing"] == ["signing_address"]


# --- BIND-CHANNEL --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "name", "channel", "state", "words"),
    [
        (REDPILL, "redpill", {}, ASIDE, "does not say what it sees"),
        (REDPILL, "redpill", {"signing_address": ADDRESS.hex()}, PASS, ADDRESS.hex()),
        (REDPILL, "redpill", {"signing_address": "00" * 20}, FAIL, ADDRESS.hex()),
        (REDPILL, "redpill", {"signing_address": ""}, FAIL, ADDRESS.hex()),
        (REDPILL, "redpill", {"tls_fingerprint": TLS.hex()}, FAIL, "no tls_fingerprint is bound"),
        (REDPILL, "redpill", {"signing_address": ADDRESS.hex(), "hpke_key": HPKE.hex()}, FAIL,
         "no hpke_key is bound by profile redpill"),
        (RAW, "raw-nonce", {"tls_fingerprint": TLS.hex()}, FAIL, "no tls_fingerprint is bound"),
        # Stated in the response, and bound by nothing that the policy accepts.
        (REDPILL, "raw-nonce", {"signing_address": ADDRESS.hex()}, FAIL, "no signing_address"),
    ],
)  # fmt: skip
def test_channels(
    evidence: Evidence, name: str, channel: dict[str, str], state: State, words: str
) -> None:
    verdict = judge(evidence, profile(name), channel=channel)
    finding = one(verdict, "BIND-CHANNEL")
    assert finding.state is state
    assert words in (finding.found or "")
    assert verdict.trusted is (state in (PASS, ASIDE))
    assert (finding.assurance is Assurance.HARDWARE) is (state in (PASS, FAIL))
    if channel:
        assert verdict.inputs["channel"] == channel


def test_a_key_that_the_quote_does_not_bind_is_no_channel() -> None:
    """The response states the address the relying party sees; REPORTDATA holds another."""
    other = bytes(20)
    lying = replace(REDPILL, binding=inputs(signing_address=other, request_nonce=NONCE))
    verdict = judge(lying, profile("redpill"), channel={"signing_address": other.hex()})
    assert failed_codes(verdict) == {"TDX-REPORT-DATA", "BIND-CHANNEL"}
    assert verdict.binding is not None
    assert verdict.binding["bound"] == {}


def test_devices_alone_bind_no_channel() -> None:
    verdict = judge(
        sim_evidence(NODE), rules({"gpus": GPUS}), channel={"tls_fingerprint": TLS.hex()}
    )
    assert against(verdict) == {("BIND-CHANNEL", None): OPEN}
    assert one(verdict, "BIND-CHANNEL").found == "there is no readable quote"


@pytest.mark.parametrize("report_data", [None, "any"])
def test_a_bare_quote_binds_no_channel_either(report_data: Any) -> None:
    """What the relying party says it sees is never passed over in silence."""
    evidence = Evidence(quote=RAW.quote)
    policy = rules({"tdx": TD | ({"report_data": "any"} if report_data else {})})
    assert judge(evidence, policy).trusted
    verdict = judge(evidence, policy, channel={"tls_fingerprint": TLS.hex()})
    assert against(verdict) == {("BIND-CHANNEL", None): FAIL}
    assert verdict.exit_code == 3


def test_a_channel_of_an_unknown_name_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match="no binding names this"):
        judge(RAW, rules(BASE), channel={"ip": "::1"})


# --- BIND-EVIDENCE -------------------------------------------------------------------------------

GPU_JSON, SWITCH_JSON = b'{"evidences": []}', b'{"switches": []}'


def _tinfoil(**changes: Any) -> Evidence:
    hashes = {"gpu_evidence_hash": sha256(GPU_JSON).digest(), "gpu_evidence_json": GPU_JSON}
    values = {"tls_fingerprint": TLS, "hpke_key": HPKE, "request_nonce": NONCE} | hashes | changes
    covered = [TLS, HPKE, NONCE]
    covered += [values[f"{kind}_evidence_hash"] for kind in ("gpu", "nvswitch")
                if values.get(f"{kind}_evidence_hash")]  # fmt: skip
    given = inputs(BindingProfile.TINFOIL_V3, **values)
    return bound(sha256(b"".join(covered)).digest(), binding=given)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, PASS),
        ({"gpu_evidence_json": GPU_JSON + b" "}, FAIL),
        ({"gpu_evidence_json": None}, FAIL),
        ({"gpu_evidence_hash": None}, FAIL),
        ({"gpu_evidence_hash": None, "gpu_evidence_json": None}, ASIDE),
        ({"nvswitch_evidence_hash": sha256(SWITCH_JSON).digest(),
          "nvswitch_evidence_json": SWITCH_JSON}, PASS),
        ({"nvswitch_evidence_hash": sha256(SWITCH_JSON).digest(),
          "nvswitch_evidence_json": SWITCH_JSON + b" "}, OPEN),
    ],
)  # fmt: skip
def test_hashes_of_the_device_evidence(changes: dict[str, Any], state: State) -> None:
    verdict = judge(_tinfoil(**changes), profile("tinfoil-v3"))
    assert one(verdict, "BIND-EVIDENCE").state is state
    assert verdict.trusted is (state in (PASS, ASIDE))
    expected = {FAIL: {("BIND-EVIDENCE", None)}, OPEN: {("BIND-EVIDENCE", None)}}.get(state, set())
    assert {key for key in against(verdict) if key[0] != "BIND-CONSISTENT"} == expected


# --- BIND-RELAYABLE ------------------------------------------------------------------------------

LISTED: dict[str, Any] = {
    "tdx": TD | {"platform": {"ppid": [PPID]}}, "gpus": GPUS | {"device_ids": IDS},
}  # fmt: skip
OTHER = ["0123456789abcdef"]


@pytest.mark.parametrize(
    ("sections", "state", "words"),
    [
        (LISTED, PASS, "platform and devices are on the policy's lists"),
        ({"tdx": TD, "gpus": GPUS}, OPEN, "lists no ppid or platform_instance_id; gpus."),
        (LISTED | {"tdx": TD}, OPEN, "tdx.platform lists no ppid"),
        (LISTED | {"tdx": TD | {"platform": {"fmspc": [PLATFORM.fmspc.hex()]}}}, OPEN,
         "tdx.platform lists no ppid"),
        (LISTED | {"gpus": GPUS}, OPEN, "gpus.device_ids is not given"),
        (LISTED | {"gpus": "any"}, ASIDE, "the node has not both CPU and devices"),
        (LISTED | {"tdx": "any"}, ASIDE, "the node has not both CPU and devices"),
        (LISTED | {"gpus": GPUS | {"device_ids": [IDS[0], *OTHER]}}, OPEN, "are not proven to be"),
        (LISTED | {"tdx": TD | {"platform": {"ppid": ["00" * 16]}}}, OPEN,
         "are not proven to be"),
        (BASE, ASIDE, "the policy accepts that the devices may be elsewhere: "),
        (LISTED | {"binding": {"relayable": "accept"}}, PASS, "on the policy's lists"),
    ],
)  # fmt: skip
def test_relaying(sections: dict[str, Any], state: State, words: str) -> None:
    verdict = judge(RAW, rules(sections))
    finding = one(verdict, "BIND-RELAYABLE")
    assert finding.state is state
    assert words in (finding.found or "")
    listed = {"GPU-DEVICE-LIST", "TDX-PLATFORM"}
    assert failed_codes(verdict) <= listed
    if not failed_codes(verdict):
        assert verdict.trusted is (state is not OPEN)
        assert verdict.exit_code == (6 if state is OPEN else 0)
    if state is PASS:
        assert finding.assurance is Assurance.HARDWARE


def test_relaying_of_switches_alone_needs_their_list() -> None:
    node = SimNode.hopper_ppcie(2, 1)
    evidence = replace(sim_evidence(node), quote=RAW.quote)
    ids = {"gpus": [g.pdi.hex() for g in node.gpus], "nvswitches": [node.switches[0].pdi.hex()]}
    sections: dict[str, Any] = {
        "tdx": LISTED["tdx"],
        "gpus": GPUS | {"modes": ["PPCIE"], "device_ids": ids["gpus"]},
        "nvswitches": {"count": 1},
        "topology": {"kind": "protected-pcie", "gpus": 2, "switches": 1},
    }
    pack = parse_collateral(_quote(NONCE.ljust(64, b"\0")).collateral.to_json().encode())
    verdict = judge_node(node, rules(sections), evidence, collateral=pack)
    assert against(verdict) == {("BIND-RELAYABLE", None): OPEN}
    assert one(verdict, "BIND-RELAYABLE").found == (
        "the devices may be elsewhere: nvswitches.device_ids is not given"
    )
    listed = rules(sections, nvswitches={"device_ids": ids["nvswitches"]})
    assert judge_node(node, listed, evidence, collateral=pack).trusted


def test_a_device_that_is_not_genuine_is_on_no_list() -> None:
    """Its list was never looked at; the others' must not speak for it."""
    forged = replace(RAW.gpus[1], report=RAW.gpus[1].report[:-1] + b"\0")
    verdict = judge(replace(RAW, gpus=(RAW.gpus[0], forged)), rules(LISTED))
    assert failed_codes(verdict) == {"GPU-REPORT-SIGNATURE", "GPU-COUNT"}
    assert one(verdict, "BIND-RELAYABLE").state is OPEN
    stranger = sim_gpu(SimNvidiaIssuer(seed=b"else"), H100, "node-1/gpu-0")
    foreign = sim_evidence(replace(NODE, gpus=(stranger,)), quote=RAW.quote)
    verdict = judge(foreign, rules(LISTED))
    assert one(verdict, "BIND-RELAYABLE").state is OPEN


def test_a_quote_that_is_not_genuine_is_of_no_platform() -> None:
    quote = bytearray(RAW.quote or b"")
    quote[-1500] ^= 1
    verdict = judge(replace(RAW, quote=bytes(quote)), rules(LISTED))
    assert verdict.exit_code in (2, 3)
    assert one(verdict, "BIND-RELAYABLE").state is OPEN


def test_a_revoked_device_is_proven_to_be_nothing() -> None:
    revoked = NODE.with_status(NODE.gpus[1].chain[1], "revoked")
    verdict = judge(RAW, rules(LISTED), nvidia=sim_collateral(revoked))
    assert failed_codes(verdict) == {"GPU-REVOCATION"}
    assert one(verdict, "GPU-DEVICE-LIST", "gpu-1").state is PASS
    assert one(verdict, "BIND-RELAYABLE").state is OPEN


# --- trust and roles -----------------------------------------------------------------------------


def test_under_a_root_of_the_users_own_nothing_is_bound() -> None:
    verdict = judge(RAW, rules(LISTED), trust=sim_store(TrustKind.INSECURE))
    assert failed_codes(verdict) == {"TRUST-ROOTS"}
    assert {finding.assurance for finding in verdict.findings} == {Assurance.NONE}
    assert verdict.binding is not None
    assert set(verdict.binding["assurance"].values()) == {"none"}


def test_a_gateway_is_judged_by_its_own_sections() -> None:
    bare = Evidence(quote=RAW.quote, role=NodeRole.GATEWAY)
    assert judge(bare, rules(BASE)).exit_code == 4  # without a section: like every node
    section = {"tdx": TD}
    verdict = judge(bare, rules(BASE, gateway=section))
    assert verdict.trusted
    # Nothing is taken over from the policy's own binding.
    redpill = Evidence(quote=REDPILL.quote, binding=REDPILL.binding, role=NodeRole.GATEWAY)
    policy = rules(BASE, binding={"profiles": ["redpill"]}, gateway=section)
    assert failed_codes(judge(redpill, policy)) == {"TDX-REPORT-DATA"}
    policy = rules(BASE, gateway=section | {"binding": {"profiles": ["redpill"]}})
    assert judge(redpill, policy).trusted
    workload = replace(redpill, role=NodeRole.WORKLOAD)
    assert judge(workload, policy).exit_code != 0
    wrong = rules(BASE, gateway={"tdx": TD | {"platform": {"ppid": ["00" * 16]}}})
    assert failed_codes(judge(bare, wrong)) == {"TDX-PLATFORM"}


def test_the_same_inputs_give_the_same_bytes() -> None:
    for evidence in (RAW, REDPILL):
        texts = {judge(evidence, rules(BASE), trust=sim_store()).dumps() for _ in range(3)}
        assert len(texts) == 1
