"""Whole simulated nodes: they verify under their own roots, never NVIDIA's, and attacks do not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from ccverify.errors import UsageError
from ccverify.fabric.topology import (
    HGX_HOPPER,
    GpuIdentity,
    NodeShape,
    SwitchIdentity,
    TopologyCode,
    appraise_protected_pcie,
)
from ccverify.interop import nvattest
from ccverify.nvidia.certs import (
    DeviceChain,
    FwidOutcome,
    architecture_claim_problem,
    fwid_problem,
    parse_device_chain,
    validity_problems,
    verify_device_chain,
    verify_report_signature,
)
from ccverify.nvidia.measurements import MeasurementComparison, compare_measurements
from ccverify.nvidia.opaque import (
    GpuMode,
    GpuOpaqueData,
    SwitchOpaqueData,
    parse_gpu_opaque_data,
    parse_switch_opaque_data,
)
from ccverify.nvidia.revocation import Outcome, RevocationSet, parse_ocsp_response
from ccverify.nvidia.rim_set import RimChoice, RimSet, gpu_rim_ids, switch_rim_id
from ccverify.nvidia.spdm import AttestationReport, parse_attestation_report
from ccverify.sim import SimIssuer
from ccverify.sim.nvidia import (
    DEFAULT_NONCE,
    H100,
    NVSWITCH3,
    BuiltDevice,
    NodeEvidence,
    SimNode,
    SimNvidiaIssuer,
    sim_gpu,
)
from ccverify.sim.nvidia.node import BlackwellChip
from ccverify.trust.anchors import (
    NVIDIA_CORIM_SIGNING_ROOT_CA,
    NVIDIA_DEVICE_IDENTITY_CA,
    TrustAnchor,
)
from ccverify.trust.store import TrustKind, TrustStore

STRANGER = SimNvidiaIssuer(seed=b"somebody else")


@cache
def store() -> TrustStore:
    """The simulated roots."""
    issuer = SimNvidiaIssuer()
    return TrustStore(
        TrustKind.SIMULATED,
        TrustAnchor.load(SimIssuer().root().der()),
        nvidia_device_root=TrustAnchor.load(issuer.device_root().der()),
        nvidia_rim_root=TrustAnchor.load(issuer.rim_root().der()),
    )


@dataclass(frozen=True)
class Judged:
    """What the verifier makes of one device."""

    chain: DeviceChain
    report: AttestationReport
    signature: str | None
    opaque: GpuOpaqueData | SwitchOpaqueData
    choices: tuple[RimChoice, ...]
    comparison: MeasurementComparison | None
    revocation: tuple[Outcome, ...]

    @property
    def gpu(self) -> GpuOpaqueData:
        assert isinstance(self.opaque, GpuOpaqueData)
        return self.opaque

    def problems(self) -> list[str]:
        """Every problem found, in words."""
        found = [self.chain.problem, self.signature, *(one.problem for one in self.choices)]
        found += [one.verification.problem for one in self.choices if one.verification]
        if self.comparison is not None:
            found.append(self.comparison.problem)
        found += [one.value for one in self.revocation if one is not Outcome.GOOD]
        return [text for text in found if text]


def judge(device: BuiltDevice, node: NodeEvidence, trust: TrustStore | None = None) -> Judged:
    trust = trust or store()
    memory, at = trust.memory, node.at
    chain = verify_device_chain(
        parse_device_chain(device.chain_pem), trust.nvidia_device_root, memory
    )
    report = parse_attestation_report(device.report)
    opaque: GpuOpaqueData | SwitchOpaqueData
    if device.architecture == "LS10":
        opaque = parse_switch_opaque_data(report.opaque_data)
        wanted = [switch_rim_id(opaque.vbios_version or "")]
        nvdec0_disabled = False
    else:
        opaque = parse_gpu_opaque_data(report.opaque_data)
        ids = gpu_rim_ids(
            architecture=device.architecture,
            driver_version=opaque.driver_version or "",
            vbios_version=opaque.vbios_version or "",
            project=opaque.project or "",
            project_sku=opaque.project_sku or "",
            chip_sku=opaque.chip_sku or "",
            chip_info=opaque.chip_info,
        )
        wanted = list(ids)
        nvdec0_disabled = opaque.nvdec0_enabled is False
    rims = RimSet.of(node.rims)
    assert not rims.unreadable
    choices = tuple(rims.choose(one, trust.nvidia_rim_root, memory, at) for one in wanted)
    chosen = [one.verification.rim for one in choices if one.verification]
    comparison = None
    if len(chosen) == len(choices) and chosen[-1] is not None:
        comparison = compare_measurements(
            {one.index: one.value for one in report.measurements},
            chosen[0] if len(chosen) == 2 else None,
            chosen[-1],
            nvdec0_disabled=nvdec0_disabled,
        )
    answers = RevocationSet.of(map(parse_ocsp_response, node.ocsp))
    statuses = list(
        answers.status_of(chain.certificates, trust.nvidia_device_root, at, first=1, memory=memory)
    )
    for rim in chosen:
        if rim is not None:
            statuses += answers.status_of(
                rim.document.certificates, trust.nvidia_rim_root, at, first=0, memory=memory
            )
    leaf_key = chain.leaf_key or chain.certificates[0].public_key
    return Judged(
        chain=chain,
        report=report,
        signature=verify_report_signature(report.signed_range, report.signature, leaf_key, memory),
        opaque=opaque,
        choices=choices,
        comparison=comparison,
        revocation=tuple(status.outcome for status in statuses),
    )


def topology(node: SimNode, shape: NodeShape = HGX_HOPPER) -> set[TopologyCode]:
    """The codes of what is wrong with the node's topology."""
    evidence = node.build()
    gpus, switches = [], []
    for device in evidence.gpus:
        judged = judge(device, evidence)
        mode = "PPCIE" if judged.gpu.mode is GpuMode.PROTECTED_PCIE else None
        gpus.append(
            GpuIdentity(
                judged.chain.device_id or bytes(8),
                judged.gpu.switch_pdis or (),
                mode,
                judged.gpu.vbios_version or "",
                judged.gpu.driver_version or "",
            )
        )
    for device in evidence.switches:
        judged = judge(device, evidence)
        assert isinstance(judged.opaque, SwitchOpaqueData)
        listed = judged.opaque.gpu_pdis
        switches.append(
            SwitchIdentity(
                judged.chain.device_id or bytes(8),
                judged.opaque.device_pdi or bytes(8),
                listed.pdis if listed else (),
                judged.opaque.position_id,
                judged.opaque.locked,
                judged.opaque.vbios_version or "",
            )
        )
    return {problem.code for problem in appraise_protected_pcie(gpus, switches, shape)}


def _blackwell(chip: BlackwellChip, mode: str, n: int) -> Callable[[], SimNode]:
    return lambda: SimNode.blackwell(mode, n, chip)


CHIP_NAMES: tuple[BlackwellChip, ...] = ("GB100", "GB20X")
NODES: dict[str, Callable[[], SimNode]] = {
    "hopper-ppcie": SimNode.hopper_ppcie,
    "hopper-spt": SimNode.hopper_spt,
    "hopper-spt-2": lambda: SimNode.hopper_spt(2),
    "hopper-silent": lambda: SimNode.hopper_spt(mode=None),
    **{
        f"{chip}-{mode}-{n}": _blackwell(chip, mode, n)
        for chip in CHIP_NAMES
        for mode, n in (("SPT", 1), ("MPT", 1), ("MPT", 2), ("MPT", 4), ("MPT", 8))
    },
}
EACH_NODE = pytest.mark.parametrize("name", NODES)
MODES = {"PPCIE": GpuMode.PROTECTED_PCIE, "SPT": GpuMode.SPT, "MPT": GpuMode.MPT, "silent": None}


# --- honest nodes --------------------------------------------------------------------------------


@EACH_NODE
def test_every_device_verifies_and_says_what_it_is(name: str) -> None:
    evidence = NODES[name]().build()
    mode = MODES[next(part for part in MODES if part.lower() in name.lower())]
    for device in (*evidence.gpus, *evidence.switches):
        judged = judge(device, evidence)
        assert judged.problems() == []
        assert judged.report.nonce == DEFAULT_NONCE == evidence.nonce
        assert architecture_claim_problem(judged.chain, device.architecture) is None
        assert judged.comparison is not None
        assert judged.comparison.matched == judged.comparison.total > 30
        assert len(judged.revocation) == (6 if device in evidence.switches else 9)
        problems = validity_problems(judged.chain, store().nvidia_device_root, evidence.at)
        assert problems == (None,) * 5
        if isinstance(judged.opaque, GpuOpaqueData):
            assert fwid_problem(judged.chain.fwid, judged.opaque.fwid) is None
            assert judged.opaque.mode_reading.problem is None
            assert judged.opaque.mode is mode
            assert judged.opaque.architecture is not None
            assert judged.opaque.architecture.value == device.architecture


@EACH_NODE
def test_nothing_verifies_under_the_production_roots(name: str) -> None:
    evidence = NODES[name]().build()
    production = TrustStore.production()
    for device in (*evidence.gpus, *evidence.switches):
        judged = judge(device, evidence, production)
        assert "root that is not pinned" in (judged.chain.path_problem or "")
        assert judged.chain.device_id is None
        assert all(choice.verification is None for choice in judged.choices)
        assert all(choice.problem for choice in judged.choices)
    roots = {evidence.device_root_der, evidence.rim_root_der}
    pinned = {
        NVIDIA_DEVICE_IDENTITY_CA.certificate_sha256,
        NVIDIA_CORIM_SIGNING_ROOT_CA.certificate_sha256,
    }
    assert len(roots) == 2
    assert not pinned & {hashlib.sha256(root).digest() for root in roots}
    for root in roots:
        assert b"ccverify simulation, not NVIDIA" in root
        assert b"NVIDIA Corporation" not in root


def test_nothing_names_nvidia_as_its_maker_or_its_servers() -> None:
    evidence = SimNode.hopper_ppcie().build()
    whole = b"".join(xml for _, xml in evidence.rims) + b"".join(evidence.ocsp)
    assert b"NVIDIA Corporation" not in whole
    assert b"nvidia.com" not in whole
    for device in (*evidence.gpus, *evidence.switches):
        for certificate in parse_device_chain(device.chain_pem):
            assert b"NVIDIA Corporation" not in certificate.der
            assert b"nvidia.com" not in certificate.der


@pytest.mark.parametrize(("gpus", "switches"), [(8, 4), (4, 2), (1, 1), (8, 6)])
def test_topology_is_a_bijection(gpus: int, switches: int) -> None:
    assert topology(SimNode.hopper_ppcie(gpus, switches), NodeShape(gpus, switches)) == set()


def test_a_gpu_has_links_to_switches_as_on_real_boards() -> None:
    evidence = SimNode.hopper_ppcie().build()
    for device in evidence.gpus:
        links = judge(device, evidence).gpu.switch_pdis or ()
        assert sorted(Counter(links).values()) == [4, 4, 5, 5]


def test_devices_are_distinct() -> None:
    node = SimNode.hopper_ppcie()
    other = SimNode.hopper_ppcie(label="node-2")
    devices = (*node.devices, *other.devices)
    assert len({device.pdi for device in devices}) == 24
    assert len({device.chain[0].key for device in devices}) == 24
    assert len({device.chain[1].key for device in devices}) == 24
    assert len({device.report.responder_nonce for device in devices}) == 24


@pytest.mark.parametrize(("gpus", "switches"), [(9, 4), (0, 4), (8, 0), (8, 19)])
def test_impossible_nodes_are_refused(gpus: int, switches: int) -> None:
    with pytest.raises(UsageError, match="no such Protected PCIe node"):
        SimNode.hopper_ppcie(gpus, switches)


# --- evidence files ------------------------------------------------------------------------------


def test_one_file_holds_the_node() -> None:
    evidence = SimNode.hopper_ppcie().build()
    text = evidence.nvattest_json()
    document = json.loads(text)
    assert nvattest.matches(document)
    (node,) = nvattest.parse(document, text.encode()).nodes
    assert [one.report for one in node.gpus] == [one.report for one in evidence.gpus]
    assert [one.report for one in node.switches] == [one.report for one in evidence.switches]
    for read, built in zip(
        (*node.gpus, *node.switches), (*evidence.gpus, *evidence.switches), strict=True
    ):
        assert read.certificate_chain == built.chain_pem
        assert read.claimed_architecture == built.architecture
        assert read.claimed_nonce == DEFAULT_NONCE
    assert node.binding is not None
    assert node.binding.request_nonce == DEFAULT_NONCE


def test_items_have_the_members_of_real_ones(vectors: Path) -> None:
    folder = vectors / "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"
    real = [
        *json.loads((folder / "gpu_evidence.json").read_text("utf-8")),
        *json.loads((folder / "switch_evidence.json").read_text("utf-8")),
    ]
    simulated = json.loads(SimNode.hopper_ppcie().build().nvattest_json())
    assert [list(item) for item in simulated] == [sorted(item) for item in real]
    assert [item["arch"] for item in simulated] == [item["arch"] for item in real]
    assert {item["version"] for item in simulated} == {item["version"] for item in real}


def test_claims_may_differ_from_what_is_signed() -> None:
    node = SimNode.hopper_spt()
    liar = replace(node.gpus[0], architecture="BLACKWELL", claimed_nonce=bytes(32))
    built = liar.build()
    assert built.item()["nonce"] == "00" * 32
    judged = judge(node.gpus[0].build(), node.build())
    assert "of HOPPER" in (architecture_claim_problem(judged.chain, built.architecture) or "")
    assert built.report == node.gpus[0].build().report


# --- determinism ---------------------------------------------------------------------------------

_PROGRAM = """
import hashlib
from ccverify.sim.nvidia import SimNode
total = hashlib.sha256()
for node in (SimNode.hopper_ppcie(), SimNode.blackwell("MPT", 2), SimNode.blackwell(chip="GB20X")):
    built = node.build()
    total.update(built.nvattest_json().encode() + b"".join(built.ocsp))
    total.update(b"".join(xml for _, xml in built.rims) + built.device_root_der)
    total.update(b"".join(crl.der() for crl in node.all_crls()))
print(total.hexdigest())
"""


def test_two_processes_agree() -> None:
    digests = set()
    for seed, zone in (("1", "Asia/Tokyo"), ("2", "UTC")):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[2],
            env={"PYTHONHASHSEED": seed, "TZ": zone},
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_two_calls_agree_and_another_world_differs() -> None:
    first, second = (SimNode.hopper_ppcie().build() for _ in range(2))
    assert first == second
    other = SimNode.hopper_ppcie(issuer=STRANGER).build()
    assert other.device_root_der != first.device_root_der
    assert not {one.report for one in other.gpus} & {one.report for one in first.gpus}


# --- attacks on devices --------------------------------------------------------------------------


def test_another_nonce_signs_every_report_again() -> None:
    nonce = hashlib.sha256(b"fresh").digest()
    node = SimNode.hopper_ppcie().with_nonce(nonce)
    evidence = node.build()
    for device in (*evidence.gpus, *evidence.switches):
        judged = judge(device, evidence)
        assert judged.problems() == []
        assert judged.report.nonce == device.nonce == evidence.nonce == nonce


def test_a_device_of_another_world_has_no_path() -> None:
    node = SimNode.hopper_spt()
    foreign = node.with_gpu(0, sim_gpu(STRANGER, H100, "node-1/gpu-0")).build()
    judged = judge(foreign.gpus[0], foreign)
    assert "root that is not pinned" in (judged.chain.path_problem or "")
    assert judged.chain.device_id is None


def test_a_changed_field_alone_is_found() -> None:
    node = SimNode.hopper_spt()
    forged = node.gpus[0].with_fields(fwid=bytes(range(48)))
    judged = judge(forged.build(), node.build())
    assert judged.problems() == []
    problem = fwid_problem(judged.chain.fwid, judged.gpu.fwid)
    assert problem is not None
    assert problem.outcome is FwidOutcome.MISMATCH
    silent = judge(node.gpus[0].with_fields(fwid=None).build(), node.build())
    problem = fwid_problem(silent.chain.fwid, silent.gpu.fwid)
    assert problem is not None
    assert problem.outcome is FwidOutcome.NOT_REPORTED


def test_a_chain_of_other_firmware_is_found() -> None:
    node = SimNode.hopper_spt()
    gpu = node.gpus[0]
    other = replace(H100, vbios="96.00.F0.00.02")
    chain = node.issuer.device_chain(gpu.chip, gpu.label, other.fwid)
    assert "does not verify" in (
        judge(replace(gpu, chain=chain).build(), node.build()).signature or ""
    )
    judged = judge(gpu.with_chain(chain).build(), node.build())
    assert judged.signature is None
    assert judged.chain.device_id == gpu.pdi  # the identity survives the update
    problem = fwid_problem(judged.chain.fwid, judged.gpu.fwid)
    assert problem is not None
    assert problem.outcome is FwidOutcome.MISMATCH


def test_a_zero_pdi_is_no_identity() -> None:
    node = SimNode.hopper_spt()
    zero = sim_gpu(node.issuer, H100, "nobody", pdi=bytes(8))
    judged = judge(zero.build(), node.build())
    assert judged.chain.path_problem is None
    assert "all-zero" in (judged.chain.identity_problem or "")
    with pytest.raises(UsageError, match="8 bytes"):
        sim_gpu(node.issuer, H100, "short", pdi=bytes(7))


def test_one_changed_measurement_is_found() -> None:
    node = SimNode.hopper_ppcie()
    evil = node.gpus[0].with_measurement(21, b"\x66" * 48)
    comparison = judge(evil.build(), node.build()).comparison
    assert comparison is not None
    assert [one.index for one in comparison.mismatched] == [21]
    # What has no golden value, or means nothing while NVDEC0 is disabled, is not compared.
    for index in (35, 41, 50):
        harmless = node.gpus[0].with_measurement(index, b"\x66" * 48)
        assert judge(harmless.build(), node.build()).problems() == []
    enabled = node.gpus[0].with_fields(nvdec0_enabled=True)
    comparison = judge(enabled.build(), node.build()).comparison
    assert comparison is not None
    assert [one.index for one in comparison.mismatched] == [35]


def test_any_alternative_will_do() -> None:
    node = SimNode.hopper_spt()
    golden = H100.driver_golden()[36].values
    assert len(golden) == 3
    for value in golden:
        device = node.gpus[0].with_measurement(36, value)
        assert judge(device.build(), node.build()).problems() == []


def test_older_blackwell_firmware_says_less() -> None:
    """As the one public GB100 report: opaque data version 0, no chip, no mode."""
    node = SimNode.blackwell("SPT")
    older = node.gpus[0].with_fields(opaque_data_version=0, feature_flag=None, chip_info=None)
    judged = judge(older.build(), node.build())
    assert judged.problems() == []  # the driver's manifest is found under the family's usual chip
    assert judged.gpu.mode is None
    assert judged.gpu.mode_reading.problem is None


def test_the_manifest_of_another_board_does_not_serve() -> None:
    node = SimNode.hopper_spt()
    other = replace(H100, project_sku="0210", chip_sku="886")
    swapped = node.with_rim(1, other.vbios_rim(node.issuer))
    judged = judge(swapped.gpus[0].build(), swapped.build())
    assert "no such RIM" in (judged.choices[1].problem or "")
    # Filed under the right name, its content gives it away: the golden values are others'.
    renamed = replace(other.vbios_rim(node.issuer), file_name=node.rims[1].file_name)
    swapped = node.with_rim(1, renamed)
    comparison = judge(swapped.gpus[0].build(), swapped.build()).comparison
    assert comparison is not None
    assert comparison.mismatched


def test_reports_of_other_drivers_find_no_manifest() -> None:
    node = SimNode.hopper_spt()
    newer = node.gpus[0].with_fields(driver_version="999.01")
    judged = judge(newer.build(), node.build())
    assert "NV_GPU_DRIVER_GH100_999.01: no such RIM" in (judged.choices[0].problem or "")


# --- attacks on the topology ---------------------------------------------------------------------

FULL = SimNode.hopper_ppcie()
FOREIGN = SimNode.hopper_ppcie(label="node-2")
Code = TopologyCode

ATTACKS: dict[str, tuple[SimNode, set[TopologyCode]]] = {
    "one GPU eight times": (
        replace(FULL, gpus=(FULL.gpus[0],) * 8),
        {Code.COUNT, Code.DUPLICATE_GPU, Code.GPU_LIST},
    ),
    "one switch four times": (
        replace(FULL, switches=(FULL.switches[0],) * 4),
        {Code.COUNT, Code.DUPLICATE_SWITCH, Code.SWITCH_LIST},
    ),
    "a foreign GPU": (
        FULL.with_gpu(3, FOREIGN.gpus[3]),
        {Code.GPU_LIST, Code.SWITCH_LIST},
    ),
    "a foreign switch": (
        FULL.with_switch(1, FOREIGN.switches[1]),
        {Code.GPU_LIST, Code.SWITCH_LIST},
    ),
    "a missing GPU": (replace(FULL, gpus=FULL.gpus[1:]), {Code.COUNT, Code.GPU_LIST}),
    "a missing switch": (
        replace(FULL, switches=FULL.switches[1:]),
        {Code.COUNT, Code.SWITCH_LIST},
    ),
    "a GPU of zero PDI": (
        FULL.with_gpu(
            0,
            sim_gpu(
                FULL.issuer,
                H100,
                "node-1/gpu-0",
                mode="PPCIE",
                pdi=bytes(8),
                switch_pdis=tuple(one.pdi for one in FULL.switches) * 4 + (bytes(8),) * 2,
            ),
        ),
        {Code.COUNT, Code.ZERO_PDI, Code.GPU_LIST},
    ),
    "another mode": (
        FULL.with_gpu(
            0,
            FULL.gpus[0].in_mode("SPT"),
        ),
        {Code.MIXED_MODE, Code.SWITCH_LIST},
    ),
    "no Protected PCIe at all": (
        replace(
            FULL,
            gpus=tuple(one.with_fields(protected_pcie=False, feature_flag=0) for one in FULL.gpus),
        ),
        {Code.MODE},
    ),
    "an unlocked switch": (
        FULL.with_switch(0, FULL.switches[0].with_fields(lock_status=0)),
        {Code.UNLOCKED},
    ),
    "a switch of two places": (
        FULL.with_switch(0, FULL.switches[0].with_fields(position=1)),
        {Code.POSITION},
    ),
    "a switch that reports another": (
        FULL.with_switch(0, FULL.switches[0].with_fields(device_pdi=FULL.switches[1].pdi)),
        {Code.SWITCH_SELF},
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_the_topology_have_their_codes(name: str) -> None:
    node, codes = ATTACKS[name]
    assert topology(node) == codes


def test_mixed_firmware_and_driver_are_named() -> None:
    links = tuple(one.pdi for one in FULL.switches) * 4 + (bytes(8),) * 2
    newer = replace(H100, vbios="96.00.F0.00.02", driver="591.01")
    gpu = sim_gpu(FULL.issuer, newer, "node-1/gpu-0", mode="PPCIE", switch_pdis=links)
    rims = (*FULL.rims, *newer.rims(FULL.issuer))
    mixed = replace(FULL.with_gpu(0, gpu), rims=rims)
    assert topology(mixed) == {Code.MIXED_DRIVER, Code.MIXED_FIRMWARE}
    evidence = mixed.build()
    assert all(judge(one, evidence).problems() == [] for one in evidence.gpus)
    bios = replace(NVSWITCH3, bios="96.10.F0.00.02")
    updated = FULL.with_switch(0, FULL.switches[0].with_fields(bios_version=bios.bios))
    assert topology(replace(updated, rims=(*FULL.rims, *bios.rims(FULL.issuer)))) == {
        Code.MIXED_FIRMWARE
    }
