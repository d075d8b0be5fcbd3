"""Simulated nodes under a policy that waives nothing: what real evidence cannot show offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from vectors.judging_devices import (
    STRICT,
    against,
    evidence_of,
    failed_codes,
    judge_node,
    one,
    open_codes,
    rules,
    sim_collateral,
    sim_evidence,
    sim_store,
)

from ccverify import State, TrustKind, TrustStore
from ccverify.appraisal.devices import DevicesPart
from ccverify.evidence import Evidence
from ccverify.fabric.topology import TopologyCode
from ccverify.findings import Assurance
from ccverify.nvidia.claims import DeviceClaims
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.device import DeviceVerification, DeviceVerifier
from ccverify.nvidia.gpu import GPU
from ccverify.nvidia.nvswitch import NVSWITCH
from ccverify.policy.judge_topology import judge_topology
from ccverify.policy.model import TopologyPolicy
from ccverify.sim.nvidia import B200, H100, NVSWITCH3, RTX_PRO_6000, SimNode, SimNvidiaIssuer
from ccverify.sim.nvidia.device import sim_gpu, sim_switch
from ccverify.sim.nvidia.pki import dmtf_device_info

FAIL, OPEN = State.FAIL, State.NOT_CHECKED
NODE = SimNode.hopper_ppcie(2, 1)
SMALL = rules(
    STRICT,
    gpus={"count": 2},
    nvswitches={"count": 1},
    topology={"gpus": 2, "switches": 1},
)
ONE = SimNode.hopper_spt()
SINGLE = rules({"gpus": {"count": 1, "architectures": ["HOPPER"], "modes": ["SPT"]}})
LINKS = ONE.issuer.identifier("pdi", "node-1/nvswitch-0", 8)
STRANGER = SimNvidiaIssuer(seed=b"somebody else")


def single(**members: Any) -> Any:
    return rules(
        {"gpus": {"count": 1, "architectures": ["HOPPER"], "modes": ["SPT"]}}, gpus=members
    )


# --- honest nodes --------------------------------------------------------------------------------


def test_a_whole_node_needs_no_waiver() -> None:
    verdict = judge_node(SimNode.hopper_ppcie(), rules(STRICT))
    assert verdict.trusted, verdict.failures()
    assert verdict.simulated
    assert one(verdict, "TRUST-ROOTS").assurance is Assurance.ASSERTED
    assert {c.level for c in (*verdict.gpus, *verdict.nvswitches)} == {Assurance.HARDWARE}
    measured = verdict.gpus[0].values["measurements"]
    assert measured["matched"] == measured["total"] > 20
    assert measured["mismatched"] == []
    assert len(measured["rims"]) == len(measured["rims_needed"]) == 2
    assert verdict.gpus[0].assurance["measurements"] is Assurance.HARDWARE
    used = [each["id"] for each in verdict.inputs["nvidia_collateral"]["used"]]
    assert len(used) == 3
    assert used == sorted(used)


@pytest.mark.parametrize(
    ("node", "architecture", "mode"),
    [
        (SimNode.hopper_spt(), "HOPPER", "SPT"),
        (SimNode.hopper_spt(mode=None), "HOPPER", "NOT_STATED"),
        (SimNode.blackwell("SPT"), "BLACKWELL-GB100", "SPT"),
        (SimNode.blackwell("MPT", 2), "BLACKWELL-GB100", "MPT"),
        (SimNode.blackwell("SPT", chip="GB20X"), "BLACKWELL-GB20X", "SPT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_gpus_of_every_family_and_mode(node: SimNode, architecture: str, mode: str) -> None:
    section = {"count": len(node.gpus), "architectures": [architecture], "modes": [mode]}
    silent = judge_node(node, rules({"gpus": section}))
    assert against(silent) == ({("NODE-CLASSES", "fabric"): OPEN} if mode == "MPT" else {})
    verdict = judge_node(node, rules({"gpus": section, "fabric": "any"}))
    assert verdict.trusted, verdict.failures()
    assert {claims.values["arch"] for claims in verdict.gpus} == {architecture}
    assert {claims.values["mode"] for claims in verdict.gpus} == {mode}
    others = {"HOPPER", "BLACKWELL-GB100", "BLACKWELL-GB20X"} - {architecture}
    verdict = judge_node(
        node, rules({"gpus": section | {"architectures": sorted(others)}, "fabric": "any"})
    )
    assert failed_codes(verdict) == {"GPU-ARCHITECTURE"}
    others = {"SPT", "MPT", "PPCIE", "NOT_STATED"} - {mode}
    verdict = judge_node(
        node, rules({"gpus": section | {"modes": sorted(others)}, "fabric": "any"})
    )
    assert failed_codes(verdict) == {"GPU-MODE"}
    assert verdict.exit_code == 4


# --- trust ---------------------------------------------------------------------------------------


def test_simulated_devices_are_nothing_under_the_pinned_roots() -> None:
    verdict = judge_node(NODE, SMALL, trust=TrustStore.production())
    assert (verdict.trusted, verdict.simulated, verdict.exit_code) == (False, False, 3)
    assert {"GPU-CHAIN", "NVSWITCH-CHAIN"} <= failed_codes(verdict)
    assert {claims.level for claims in verdict.gpus} == {Assurance.NONE}


def test_simulated_roots_named_by_the_user_prove_nothing() -> None:
    verdict = judge_node(NODE, SMALL, trust=sim_store(TrustKind.INSECURE))
    assert failed_codes(verdict) == {"TRUST-ROOTS"}
    assert verdict.exit_code == 3
    assert not verdict.simulated
    assert {finding.assurance for finding in verdict.findings} == {Assurance.NONE}
    for claims in (*verdict.gpus, *verdict.nvswitches):
        assert set(claims.assurance.values()) == {Assurance.NONE}


def test_a_device_under_another_root() -> None:
    foreign = sim_gpu(STRANGER, H100, "node-1/gpu-0")
    verdict = judge_node(ONE.with_gpu(0, foreign), SINGLE, nvidia=sim_collateral(ONE))
    assert failed_codes(verdict) == {"GPU-CHAIN", "GPU-COUNT"}


def test_a_chain_that_certifies_no_firmware() -> None:
    """Nothing but the FWID is missing: the attestation key could be that of any firmware."""
    leaf, *rest = ONE.gpus[0].chain
    bare = replace(leaf, extensions=leaf.extensions[:-1])
    node = ONE.with_gpu(0, ONE.gpus[0].with_chain((bare, *rest)))
    verdict = judge_node(node, SINGLE)
    assert failed_codes(verdict) == {"GPU-CHAIN", "GPU-COUNT"}
    found = one(verdict, "GPU-CHAIN", "gpu-0").found or ""
    assert "does not certify its firmware" in found


def test_an_attestation_key_of_another_chip() -> None:
    """The DMTF device info of certificate [0] names another product than the chain."""
    leaf, *rest = ONE.gpus[0].chain
    for text, passes in (
        ("NVIDIA:GH100:1", True),
        ("NVIDIA:GB100:1", False),
        ("AMD:GH100:1", False),
    ):
        said = tuple(
            dmtf_device_info(text) if own.oid == "2.5.29.17" else own for own in leaf.extensions
        )
        assert said != leaf.extensions
        other = replace(leaf, extensions=said)
        verdict = judge_node(ONE.with_gpu(0, ONE.gpus[0].with_chain((other, *rest))), SINGLE)
        assert verdict.trusted is passes
        assert failed_codes(verdict) == (set() if passes else {"GPU-IDENTITY", "GPU-COUNT"})


def test_an_identity_of_zeros_is_told() -> None:
    zero = sim_gpu(ONE.issuer, H100, "nobody", pdi=bytes(8))
    verdict = judge_node(ONE.with_gpu(0, zero), SINGLE)
    assert failed_codes(verdict) == {"GPU-IDENTITY", "GPU-COUNT"}
    found = one(verdict, "GPU-IDENTITY", "gpu-0").found or ""
    assert "certificate [1] has an all-zero device identifier" in found


def test_the_first_problem_of_a_chain_is_the_one_that_is_told() -> None:
    foreign = sim_gpu(STRANGER, H100, "node-1/gpu-0")
    verdict = judge_node(ONE.with_gpu(0, foreign), SINGLE, nvidia=sim_collateral(ONE))
    assert "root that is not pinned" in (one(verdict, "GPU-CHAIN", "gpu-0").found or "")
    leaf, _, *rest = ONE.gpus[0].chain
    node = ONE.with_gpu(0, replace(ONE.gpus[0], chain=(leaf, *rest)))
    verdict = judge_node(node, SINGLE, nvidia=sim_collateral(ONE))
    assert "not a device identity" in (one(verdict, "GPU-CHAIN", "gpu-0").found or "")


# --- topology ------------------------------------------------------------------------------------

FOREIGN = SimNode.hopper_ppcie(2, 1, label="node-2")


def _zero_gpu(node: SimNode) -> SimNode:
    links = (node.switches[0].pdi,) * 18
    zero = sim_gpu(node.issuer, H100, "node-1/gpu-0", mode="PPCIE", pdi=bytes(8), switch_pdis=links)
    return node.with_gpu(0, zero)


def _zero_switch(node: SimNode) -> SimNode:
    zero = sim_switch(
        node.issuer, NVSWITCH3, "node-1/nvswitch-0", position=0, pdi=bytes(8),
        gpu_pdis=[gpu.pdi for gpu in node.gpus],
    )  # fmt: skip
    return node.with_switch(0, zero)


def _fields(kind: str, number: int = 0, **changes: Any) -> Callable[[SimNode], SimNode]:
    def change(node: SimNode) -> SimNode:
        if kind == "gpu":
            return node.with_gpu(number, node.gpus[number].with_fields(**changes))
        return node.with_switch(number, node.switches[number].with_fields(**changes))

    return change


WIRED: dict[str, tuple[Callable[[SimNode], SimNode], set[str]]] = {
    # Collateral and nonce are those of the node, so that nothing but the wiring is wrong.
    "a foreign GPU": (
        lambda node: node.with_gpu(0, FOREIGN.gpus[0]),
        {"TOPOLOGY-GPU-LIST", "TOPOLOGY-SWITCH-LIST"},
    ),
    "a foreign switch": (
        lambda node: node.with_switch(0, FOREIGN.switches[0]),
        {"TOPOLOGY-GPU-LIST", "TOPOLOGY-SWITCH-LIST"},
    ),
    "a GPU certified as zero": (
        _zero_gpu, {"GPU-IDENTITY", "GPU-COUNT", "TOPOLOGY-COUNT", "TOPOLOGY-GPU-LIST"},
    ),
    "a switch certified as zero": (
        _zero_switch,
        {"NVSWITCH-IDENTITY", "NVSWITCH-COUNT", "TOPOLOGY-COUNT", "TOPOLOGY-SWITCH-LIST"},
    ),
    "a switch that reports zero": (
        _fields("switch", device_pdi=bytes(8)), {"TOPOLOGY-ZERO-PDI", "TOPOLOGY-SWITCH-SELF"},
    ),
    "a switch that reports no PDI": (
        _fields("switch", device_pdi=None), {"TOPOLOGY-ZERO-PDI", "TOPOLOGY-SWITCH-SELF"},
    ),
    "a switch that reports another": (
        _fields("switch", device_pdi=b"\1" * 8), {"TOPOLOGY-SWITCH-SELF"},
    ),
    "a switch without a list": (_fields("switch", gpu_pdis=None), {"TOPOLOGY-GPU-LIST"}),
    "a switch that serves one more": (
        _fields("switch", gpu_pdis=(*(g.pdi for g in NODE.gpus), b"\1" * 8, *(bytes(8),) * 5)),
        {"TOPOLOGY-GPU-LIST"},
    ),
    "a GPU without links": (_fields("gpu", switch_pdis=None), {"TOPOLOGY-SWITCH-LIST"}),
    "a GPU with a link elsewhere": (
        _fields("gpu", switch_pdis=((LINKS,) * 17 + (b"\1" * 8,))), {"TOPOLOGY-SWITCH-LIST"},
    ),
    "an unlocked switch": (_fields("switch", lock_status=0), {"TOPOLOGY-UNLOCKED"}),
    "a lock of another number": (_fields("switch", lock_status=2), {"TOPOLOGY-UNLOCKED"}),
    "a switch that says nothing of locks": (
        _fields("switch", lock_status=None), {"TOPOLOGY-UNLOCKED"},
    ),
    "a switch without a position": (_fields("switch", position=None), {"TOPOLOGY-POSITION"}),
    "mixed modes": (
        _fields("gpu", protected_pcie=False, feature_flag=0), {"GPU-MODE", "TOPOLOGY-MIXED-MODE"},
    ),
    "a GPU that contradicts itself": (
        _fields("gpu", feature_flag=0), {"GPU-MODE", "TOPOLOGY-MIXED-MODE"},
    ),
}  # fmt: skip


def test_the_node_that_is_rewired_is_trusted() -> None:
    assert judge_node(NODE, SMALL).trusted
    collateral = sim_collateral(NODE).merged(sim_collateral(FOREIGN))
    assert judge_node(FOREIGN, SMALL, nvidia=collateral).trusted


@pytest.mark.parametrize("name", WIRED)
def test_a_rewired_node(name: str) -> None:
    change, codes = WIRED[name]
    collateral = sim_collateral(NODE).merged(sim_collateral(FOREIGN))
    verdict = judge_node(change(NODE), SMALL, nvidia=collateral)
    assert failed_codes(verdict) == codes
    assert verdict.exit_code in (3, 4)
    assert verdict.topology is not None
    assert verdict.topology["closed"] is False


@pytest.mark.parametrize("mode", ["SPT", None])
def test_no_protected_pcie_at_all(mode: str | None) -> None:
    links = (NODE.switches[0].pdi,) * 18
    other = replace(
        NODE, gpus=tuple(gpu.in_mode(mode).with_fields(switch_pdis=links) for gpu in NODE.gpus)
    )
    policy = rules(
        STRICT, gpus={"count": 2, "modes": "any"}, nvswitches={"count": 1},
        topology={"gpus": 2, "switches": 1},
    )  # fmt: skip
    assert failed_codes(judge_node(other, policy)) == {"TOPOLOGY-MODE"}


def test_shared_positions() -> None:
    node = SimNode.hopper_ppcie(2, 2)
    moved = node.with_switch(1, node.switches[1].with_fields(position=0))
    policy = rules(
        STRICT, gpus={"count": 2}, nvswitches={"count": 2}, topology={"gpus": 2, "switches": 2}
    )
    assert judge_node(node, policy).trusted
    assert failed_codes(judge_node(moved, policy)) == {"TOPOLOGY-POSITION"}


def test_mixed_firmware_and_drivers_are_the_policys_to_allow() -> None:
    links = (NODE.switches[0].pdi,) * 18
    for model, code, key in (
        (replace(H100, driver="591.01"), "TOPOLOGY-MIXED-DRIVER", "mixed_driver"),
        (replace(H100, vbios="96.00.F0.00.02"), "TOPOLOGY-MIXED-FIRMWARE", "mixed_firmware"),
    ):
        gpu = sim_gpu(NODE.issuer, model, "node-1/gpu-0", mode="PPCIE", switch_pdis=links)
        mixed = replace(NODE.with_gpu(0, gpu), rims=(*NODE.rims, *model.rims(NODE.issuer)))
        verdict = judge_node(mixed, SMALL)
        assert failed_codes(verdict) == {code}
        assert verdict.exit_code == 4
        sizes = {"gpus": {"count": 2}, "nvswitches": {"count": 1}}
        for word, trusted in (("allow", True), ("forbid", False)):
            topology = {"gpus": 2, "switches": 1, key: word}
            verdict = judge_node(mixed, rules(STRICT, **sizes, topology=topology))
            assert verdict.trusted is trusted
        other = {"mixed_driver": "mixed_firmware", "mixed_firmware": "mixed_driver"}[key]
        topology = {"gpus": 2, "switches": 1, other: "allow"}
        assert failed_codes(judge_node(mixed, rules(STRICT, **sizes, topology=topology))) == {code}
    allowed = rules(STRICT, **sizes, topology={"gpus": 2, "switches": 1, "mixed_driver": "allow"})
    finding = one(judge_node(NODE, allowed), "TOPOLOGY-MIXED-DRIVER", "topology")
    assert finding.found == "the policy allows it: no difference"


def test_a_self_contradicting_mode_still_calls_for_a_topology() -> None:
    """Under `modes: any` too: one of the two fields says Protected PCIe."""
    for changes in (
        {"feature_flag": 0}, {"protected_pcie": False}, {"opaque_data_version": None},
        {"feature_flag": None, "opaque_data_version": None},
    ):  # fmt: skip
        odd = SimNode.hopper_spt(mode="PPCIE")
        odd = odd.with_gpu(0, odd.gpus[0].with_fields(**changes))
        verdict = judge_node(odd, single(modes="any"))
        assert against(verdict) == {("NODE-CLASSES", "topology"): OPEN}, changes
    assert judge_node(ONE, single(modes="any")).trusted


def _verified(node: SimNode) -> tuple[list[DeviceVerification], list[DeviceVerification]]:
    verifier = DeviceVerifier(sim_collateral(node), sim_store(), node.at)
    evidence = sim_evidence(node)
    return (
        [verifier.verify(GPU, device, n) for n, device in enumerate(evidence.gpus)],
        [verifier.verify(NVSWITCH, device, n) for n, device in enumerate(evidence.switches)],
    )


def test_a_zero_identity_that_got_through_would_be_found_again() -> None:
    """No chain with one verifies, so the second line is reached by hand."""
    gpus, switches = _verified(NODE)
    chain = gpus[0].chain
    assert chain is not None
    zero = replace(gpus[0], chain=replace(chain, device_id=bytes(8)))
    findings = judge_topology(TopologyPolicy(2, 1), [zero, gpus[1]], switches, Assurance.HARDWARE)
    failures = {f.code: f for f in findings if f.state is FAIL}
    assert set(failures) == {"TOPOLOGY-COUNT", "TOPOLOGY-ZERO-PDI", "TOPOLOGY-GPU-LIST"}
    assert failures["TOPOLOGY-ZERO-PDI"].found == "GPU 0000000000000000: all zero"


def test_devices_that_are_not_genuine_have_no_part_in_the_topology() -> None:
    gpus, switches = _verified(NODE)
    forged = replace(gpus[0], genuine=False)
    findings = judge_topology(TopologyPolicy(2, 1), [forged, gpus[1]], switches, Assurance.HARDWARE)
    assert {f.code for f in findings if f.state is FAIL} == {
        "TOPOLOGY-COUNT", "TOPOLOGY-GPU-LIST",
    }  # fmt: skip
    assert {f.found for f in findings if f.state is State.PASS} == {"2 attested devices"}
    assert [f.code for f in findings] == [code.value for code in TopologyCode]
    assert forged.device_id is None
    weak = judge_topology(TopologyPolicy(2, 1), [forged, gpus[1]], switches, Assurance.NONE)
    assert {finding.assurance for finding in weak} == {Assurance.NONE}


# --- manifests -----------------------------------------------------------------------------------


def _without_rims(node: SimNode, *numbers: int) -> SimNode:
    return replace(node, rims=tuple(r for n, r in enumerate(node.rims) if n not in numbers))


def test_a_manifest_that_is_missing() -> None:
    for number, word in ((0, "NV_GPU_DRIVER_GH100_590.12"), (1, "NV_GPU_VBIOS_G520_0200_885")):
        verdict = judge_node(_without_rims(ONE, number), SINGLE, nvidia=None or sim_collateral(
            replace(_without_rims(ONE, number), ocsp=ONE.ocsp_responses())))  # fmt: skip
        names = ("RIM", "RIM-SIGNATURE", "RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS")
        assert against(verdict) == {(f"GPU-{name}", "gpu-0"): OPEN for name in names}
        assert verdict.exit_code == 5
        assert word in (one(verdict, "GPU-RIM", "gpu-0").found or "")
        values = verdict.gpus[0].values["measurements"]
        assert values["rims"] == []
        assert len(values["rims_needed"]) == 2
        assert verdict.gpus[0].assurance["measurements"] is Assurance.NONE
        assert verdict.gpus[0].assurance["driver"] is Assurance.HARDWARE


def test_a_measurement_that_differs_names_everything() -> None:
    evil = ONE.with_gpu(0, ONE.gpus[0].with_measurement(22, b"\x66" * 48))
    verdict = judge_node(evil, SINGLE)
    assert against(verdict) == {("GPU-MEASUREMENTS", "gpu-0"): FAIL}
    assert verdict.exit_code == 4
    finding = one(verdict, "GPU-MEASUREMENTS", "gpu-0")
    found = finding.found or ""
    assert found.startswith(f"measurement 22 (Measurement_22) is {'66' * 48}, not ")
    (golden,) = H100.driver_golden()[22].values
    assert golden.hex() in found
    assert "driver RIM GH100 590.12" in found
    assert finding.where == "measurements 22"
    total = verdict.gpus[0].values["measurements"]["total"]
    assert finding.expected == f"all {total} measurements have a golden value"
    assert verdict.gpus[0].values["measurements"]["mismatched"] == [22]
    assert judge_node(evil, single(rim="any")).trusted


def test_every_measurement_with_a_golden_value_counts() -> None:
    golden = {**H100.driver_golden(), **H100.vbios_golden()}
    compared = sorted(set(golden) - {35})  # NVDEC0 is disabled
    collateral = sim_collateral(ONE)
    for index in compared:
        evil = ONE.with_gpu(0, ONE.gpus[0].with_measurement(index, b"\x66" * 48))
        verdict = judge_node(evil, SINGLE, nvidia=collateral)
        assert against(verdict) == {("GPU-MEASUREMENTS", "gpu-0"): FAIL}, index


def test_the_measurement_of_a_unit_that_is_disabled_means_nothing() -> None:
    evil = ONE.gpus[0].with_measurement(35, b"\x66" * 48)
    assert judge_node(ONE.with_gpu(0, evil), SINGLE).trusted
    enabled = evil.with_fields(nvdec0_enabled=True)
    verdict = judge_node(ONE.with_gpu(0, enabled), SINGLE)
    assert against(verdict) == {("GPU-MEASUREMENTS", "gpu-0"): FAIL}
    assert verdict.gpus[0].values["measurements"]["mismatched"] == [35]
    unsaid = evil.with_fields(nvdec0_enabled=None)
    assert failed_codes(judge_node(ONE.with_gpu(0, unsaid), SINGLE)) == {"GPU-MEASUREMENTS"}


def test_a_switch_that_does_not_name_its_manifest() -> None:
    silent = NODE.with_switch(0, NODE.switches[0].with_fields(bios_version=None))
    verdict = judge_node(silent, SMALL)
    assert {subject for _, subject in against(verdict)} == {"nvswitch-0"}
    found = one(verdict, "NVSWITCH-RIM", "nvswitch-0").found or ""
    assert found == "the report lacks VBIOS_VERSION, which names its manifest"


def test_two_editions_that_contradict_each_other() -> None:
    other = ONE.rims[0].with_golden(22, b"\x66" * 48)
    both = replace(ONE, rims=(*ONE.rims, replace(other, file_name="another.xml")))
    verdict = judge_node(both, SINGLE)
    ended = against(verdict)
    assert ended["GPU-RIM", "gpu-0"] is FAIL
    for name in ("RIM-SIGNATURE", "RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS"):
        assert ended[f"GPU-{name}", "gpu-0"] is OPEN
    assert verdict.exit_code == 5
    assert "different golden values" in (one(verdict, "GPU-RIM", "gpu-0").found or "")


@pytest.mark.parametrize("attack", ["signature", "digest", "stranger"])
def test_a_forged_manifest(attack: str) -> None:
    honest = ONE.rims[0]
    forged = {
        "signature": replace(honest, signature=b"\1" * 96),
        "digest": replace(honest, digest=bytes(48)),
        "stranger": replace(honest, chain=H100.driver_rim(STRANGER).chain),
    }[attack]
    collateral = sim_collateral(replace(ONE, ocsp=ONE.ocsp_responses(), rims=(forged, ONE.rims[1])))
    verdict = judge_node(ONE, SINGLE, nvidia=collateral)
    ended = against(verdict)
    assert ended == {("GPU-RIM-SIGNATURE", "gpu-0"): FAIL} | {
        (f"GPU-{name}", "gpu-0"): OPEN
        for name in ("RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS")
    }
    assert verdict.exit_code == 3
    # Beside the genuine one it does no harm.
    assert judge_node(ONE, SINGLE, nvidia=collateral.merged(sim_collateral(ONE))).trusted


def _signed_in(first: int, last: int) -> SimNode:
    """Manifests whose signer is valid from that day to that day, counted from the evaluation."""
    window = (ONE.at + timedelta(days=first), ONE.at + timedelta(days=last))
    signer = ONE.issuer.rim_signer(ONE.gpus[0].chip, window=window)
    chains = tuple(replace(rim, chain=(signer, *rim.chain[1:])) for rim in ONE.rims)
    return replace(ONE, rims=chains)


def test_expired_signers_and_those_whose_time_has_not_come() -> None:
    for (first, last), words, allowed in (
        ((-10, 10), "", True), ((-10, -1), "expired on", True), ((1, 10), "valid only from", False),
    ):  # fmt: skip
        node = _signed_in(first, last)
        verdict = judge_node(node, SINGLE)
        assert verdict.trusted is (not words)
        if words:
            assert against(verdict) == {("GPU-RIM-VALIDITY", "gpu-0"): FAIL}
            assert words in (one(verdict, "GPU-RIM-VALIDITY", "gpu-0").found or "")
            assert verdict.exit_code == 5
        verdict = judge_node(node, single(rim_expired_signer="allow"))
        assert verdict.trusted is allowed
        if words and allowed:
            finding = one(verdict, "GPU-RIM-VALIDITY", "gpu-0")
            assert finding.state is State.NOT_APPLICABLE
            assert "the policy allows expired signers: " in (finding.found or "")


def test_manifests_of_a_report_that_does_not_name_them() -> None:
    for field in ("driver_version", "vbios_version", "project", "project_sku", "chip_sku"):
        silent = ONE.with_gpu(0, ONE.gpus[0].with_fields(**{field: None}))
        verdict = judge_node(silent, SINGLE)
        names = ("RIM", "RIM-SIGNATURE", "RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS")
        assert against(verdict) == {(f"GPU-{name}", "gpu-0"): OPEN for name in names}
        assert f"lacks {field.upper()}" in (one(verdict, "GPU-RIM", "gpu-0").found or "")
        assert verdict.gpus[0].values["measurements"]["rims_needed"] == []
        assert judge_node(silent, single(rim="any")).trusted


@pytest.mark.parametrize(
    ("version", "passes"),
    [("590.12", True), ("591", True), ("590..13", False), ("590.", False), (".", False),
     ("99999999999.1", False), ("r591.01", False), ("590.1x", False)],
)  # fmt: skip
def test_driver_versions_of_odd_forms_end_in_findings(version: str, passes: bool) -> None:
    node = ONE.with_gpu(0, ONE.gpus[0].with_fields(driver_version=version))
    verdict = judge_node(node, single(rim="any", driver={"min": "590.12"}))
    assert verdict.trusted is passes
    assert failed_codes(verdict) == (set() if passes else {"GPU-DRIVER"})


@pytest.mark.parametrize(
    ("version", "codes"),
    [
        ("96.10.f0.00.01", set()), ("96.10.F0.00.00", {"NVSWITCH-BIOS"}),
        ("96.10.FA.00.01", {"NVSWITCH-BIOS"}), ("96.10.fa.00.01", {"NVSWITCH-BIOS"}),
        ("0x96.F0.00.01", {"NVSWITCH-BIOS"}), ("97.10.F0.00.01", {"NVSWITCH-BIOS"}),
        ("96.10.F0..001", {"NVSWITCH-BIOS"}), ("96-10-F0-00-01", {"NVSWITCH-BIOS"}),
    ],
)  # fmt: skip
def test_switch_versions_of_odd_forms(version: str, codes: set[str]) -> None:
    """A switch writes its version as text: in another case it is the same version."""
    assert len(version) in (13, 14)
    version = version.ljust(14, "1")
    node = NODE.with_switch(0, NODE.switches[0].with_fields(bios_version=version))
    rule = {"min": "96.10.F0.00.01", "rejected": ["96.10.FA.00.01"]}
    switches = {"count": 1, "rim": "any", "bios": rule}
    policy = rules({"nvswitches": switches, "gpus": "any", "topology": "any"})
    assert failed_codes(judge_node(node, policy)) == codes


# --- revocation ----------------------------------------------------------------------------------

LEAF, IDENTITY, PROVISIONER, IDENTITY_CA = ONE.gpus[0].chain[:4]
SIGNER = ONE.rims[0].chain[0]


@pytest.mark.parametrize("rule", ["required", "if-given", "any"])
@pytest.mark.parametrize("about", [IDENTITY, PROVISIONER, IDENTITY_CA, SIGNER])
@pytest.mark.parametrize("status", ["revoked", "unknown", "hold"])
def test_a_bad_answer_fails_under_every_rule(status: Any, about: Any, rule: str) -> None:
    node = ONE.with_status(about, status)
    code = "GPU-RIM-REVOCATION" if about is SIGNER else "GPU-REVOCATION"
    verdict = judge_node(node, single(revocation=rule))
    assert failed_codes(verdict) == {code}
    assert verdict.exit_code == 3
    if about is not SIGNER:
        assert verdict.gpus[0].level is Assurance.NONE
    allowed = judge_node(node, single(revocation=rule, certificate_hold="allow"))
    assert allowed.trusted is (status == "hold")


@pytest.mark.parametrize("rule", ["required", "if-given", "any"])
@pytest.mark.parametrize("about", [IDENTITY, PROVISIONER, IDENTITY_CA, SIGNER])
def test_an_answer_that_is_missing(about: Any, rule: str) -> None:
    verdict = judge_node(ONE.without_answer(about), single(revocation=rule))
    names = ("RIM-REVOCATION",) if about is SIGNER else ("REVOCATION", "REVOCATION-FRESH")
    expected = {(f"GPU-{name}", "gpu-0"): OPEN for name in names}
    assert against(verdict) == (expected if rule == "required" else {})
    if rule == "required":
        assert verdict.exit_code == (6 if about is SIGNER else 5)
        assert "absent" in (one(verdict, f"GPU-{names[0]}", "gpu-0").found or "")


@pytest.mark.parametrize("rule", ["required", "if-given", "any"])
def test_outdated_answers(rule: str) -> None:
    late = ONE.at + timedelta(days=7)
    verdict = judge_node(ONE, single(revocation=rule), now=late)
    if rule == "required":
        assert against(verdict) == {
            ("GPU-REVOCATION", "gpu-0"): OPEN,
            ("GPU-REVOCATION-FRESH", "gpu-0"): FAIL,
            ("GPU-RIM-REVOCATION", "gpu-0"): OPEN,
        }
        assert verdict.exit_code == 5
        assert "stale" in (one(verdict, "GPU-REVOCATION-FRESH", "gpu-0").found or "")
    else:
        assert verdict.trusted
    # Outdated or not, what is revoked stays so.
    revoked = ONE.with_status(IDENTITY, "revoked")
    assert "GPU-REVOCATION" in failed_codes(judge_node(revoked, single(revocation=rule), now=late))


def test_the_policys_own_age_of_answers() -> None:
    assert judge_node(ONE, single(revocation_max_age_days=1)).trusted
    verdict = judge_node(ONE, single(revocation_max_age_days=0))
    assert failed_codes(verdict) == {"GPU-REVOCATION-FRESH"}
    assert verdict.exit_code == 5


def test_answers_without_an_end() -> None:
    """An answer that does not say how long it holds is current only by the policy's own age."""
    node = ONE.with_status(IDENTITY, "good", next_update=None)
    verdict = judge_node(node, SINGLE)
    assert failed_codes(verdict) == {"GPU-REVOCATION-FRESH"}
    assert "no-next-update" in (one(verdict, "GPU-REVOCATION-FRESH", "gpu-0").found or "")
    assert judge_node(node, single(revocation_max_age_days=2)).trusted


def test_lists_serve_as_well_as_answers() -> None:
    lists = replace(ONE, ocsp=(), crls=ONE.all_crls())
    assert judge_node(lists, SINGLE).trusted
    assert judge_node(replace(ONE, ocsp=()), SINGLE).exit_code == 5


def test_an_answer_signed_by_nobody() -> None:
    forged = tuple(
        replace(spec, signer=STRANGER.key("anybody")) if number == 0 else spec
        for number, spec in enumerate(ONE.ocsp_responses())
    )
    verdict = judge_node(replace(ONE, ocsp=forged), SINGLE)
    assert failed_codes(verdict) == {"GPU-REVOCATION"}
    assert "invalid" in (one(verdict, "GPU-REVOCATION", "gpu-0").found or "")


def test_one_revoked_device_among_several() -> None:
    node = NODE.with_status(NODE.gpus[1].chain[1], "revoked")
    verdict = judge_node(node, SMALL)
    ended = against(verdict)
    assert ended["GPU-REVOCATION", "gpu-1"] is FAIL
    assert {subject for _, subject in ended} == {"gpu-1"}
    assert [claims.level for claims in verdict.gpus] == [Assurance.HARDWARE, Assurance.NONE]
    assert verdict.topology is not None
    assert set(verdict.topology["assurance"].values()) == {"none"}


# --- FWID ----------------------------------------------------------------------------------------


def test_firmware_that_is_not_the_certified_one() -> None:
    other = ONE.with_gpu(0, ONE.gpus[0].with_fields(fwid=b"\x66" * 48))
    silent = ONE.with_gpu(0, ONE.gpus[0].with_fields(fwid=None))
    for word in ("required", "if-reported"):
        verdict = judge_node(other, single(fwid=word))
        assert against(verdict) == {("GPU-FWID", "gpu-0"): FAIL}
        assert verdict.exit_code == 3
        assert verdict.gpus[0].level is Assurance.NONE
    verdict = judge_node(silent, SINGLE)
    assert against(verdict) == {("GPU-FWID", "gpu-0"): OPEN}
    verdict = judge_node(silent, single(fwid="if-reported"))
    assert verdict.trusted
    assert "which the policy allows" in (one(verdict, "GPU-FWID", "gpu-0").found or "")
    assert verdict.gpus[0].level is Assurance.HARDWARE


# --- what the report says of its chip ------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        (H100, {"gpu_info": B200.chip.gpu_info}, "GPU_INFO"),
        (B200, {"gpu_info": H100.chip.gpu_info}, "GPU_INFO"),
        (H100, {"gpu_info": b"\xff" * 8}, "GPU_INFO"),
        (B200, {"chip_info": "GB202"}, "CHIP_INFO"),
        (RTX_PRO_6000, {"chip_info": "GB100"}, "CHIP_INFO"),
        (RTX_PRO_6000, {"chip_info": "GB2020"}, "CHIP_INFO"),
        (H100, {"chip_info": "AD102"}, "CHIP_INFO"),
    ],
)
def test_a_report_of_another_chip_than_the_chains(
    model: Any, changes: dict[str, Any], words: str
) -> None:
    node = SimNode.of_gpus(model, 1, mode="SPT")
    section = {"count": 1, "architectures": "any", "modes": ["SPT"], "rim": "any"}
    policy = rules({"gpus": section})
    assert judge_node(node, policy).trusted
    other = node.with_gpu(0, node.gpus[0].with_fields(**changes))
    verdict = judge_node(other, policy)
    assert against(verdict) == {("GPU-ARCHITECTURE-CLAIM", "gpu-0"): FAIL}
    assert words in (one(verdict, "GPU-ARCHITECTURE-CLAIM", "gpu-0").found or "")
    assert verdict.gpus[0].level is Assurance.NONE


# --- what does not matter ------------------------------------------------------------------------


def test_order_of_collateral_means_nothing() -> None:
    built = sim_collateral(NODE)
    turned = NvidiaCollateral.of(
        [(stored.name, stored.xml) for stored in built.rims.rims[::-1]],
        [*built.revocation.crls, *built.revocation.responses[::-1]],
    )
    first, second = (judge_node(NODE, SMALL, nvidia=each).dumps() for each in (built, turned))
    assert first == second


def test_devices_part_without_devices_is_not_protected() -> None:
    assert not DevicesPart().protected_pcie
    gpus, _ = _verified(ONE)
    assert not DevicesPart(gpus=(DeviceClaims(gpus[0], Assurance.HARDWARE),)).protected_pcie


def test_one_report_under_two_chains_is_one_device() -> None:
    """A leaf key certified twice: identities differ, key and report give it away."""
    first = ONE.gpus[0]
    other_identity = ONE.issuer.identity(first.chip, "second")
    leaf = replace(
        ONE.issuer.attestation_key(first.chip, "second", other_identity, H100.fwid),
        key=first.chain[0].key,
    )
    second = first.with_chain((leaf, other_identity, *first.chain[2:]))
    node = replace(ONE, gpus=(first, second))
    policy = rules({"gpus": {"count": 2, "architectures": ["HOPPER"], "modes": ["SPT"]}})
    verdict = judge_node(node, policy)
    assert len({claims.values["device_id"] for claims in verdict.gpus}) == 2
    assert failed_codes(verdict) >= {"DEVICES-DISTINCT"}
    assert "gpu-1 has the attestation key of gpu-0" in (
        one(verdict, "DEVICES-DISTINCT").found or ""
    )


def test_a_gpu_listed_twice_under_both_classes() -> None:
    evidence = Evidence(gpus=evidence_of([NODE.gpus[0].build()] * 2))
    policy = rules(
        {"gpus": {"count": "any", "architectures": ["HOPPER"], "modes": ["PPCIE"]},
         "topology": "any"}
    )  # fmt: skip
    verdict = judge_node(NODE, policy, evidence)
    assert failed_codes(verdict) == {"DEVICES-DISTINCT"}
    assert open_codes(verdict) == set()
    assert one(verdict, "DEVICES-DISTINCT").found == "gpu-1 has the identity of gpu-0"
