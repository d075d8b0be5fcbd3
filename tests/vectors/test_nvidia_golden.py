"""Every genuine NVIDIA report of the vectors is accepted, every tampered one for its reason not.

Three lists: genuine devices with what their provenance says of them, reports with the manifests
they match, and the vectors that NVIDIA and others broke on purpose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from vectors.nvidia_evidence import (
    DOCUMENTS,
    FILES,
    FileRow,
    JsonRow,
    all_genuine,
    chain_of,
    from_document,
    from_file,
)

from ccverify.errors import EvidenceError
from ccverify.evidence import DeviceEvidence
from ccverify.findings import State
from ccverify.nvidia.certs import FwidOutcome, parse_device_chain, verify_device_chain
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.device import DeviceVerification, DeviceVerifier
from ccverify.nvidia.gpu import GPU
from ccverify.nvidia.measurements import compare_measurements
from ccverify.nvidia.nvswitch import NVSWITCH
from ccverify.nvidia.opaque import GpuOpaqueData, parse_gpu_opaque_data
from ccverify.nvidia.revocation import Outcome
from ccverify.nvidia.rim import Rim, RimVerification, parse_rim, verify_rim
from ccverify.nvidia.spdm import decode_report_text, parse_attestation_report
from ccverify.trust.anchors import NVIDIA_CORIM_SIGNING_ROOT_CA
from ccverify.trust.store import TrustStore

TRUST = TrustStore.production()
IN_2024 = datetime(2024, 6, 1, tzinfo=UTC)
IN_2026 = datetime(2026, 11, 21, tzinfo=UTC)
RIMS = "nvidia/rim/nvtrust-local-gpu-verifier-samples"
SDK_RIMS = "nvidia/rim/attestation-sdk-testdata"


def verify(device: DeviceEvidence, *rims: tuple[str, bytes]) -> DeviceVerification:
    kind = NVSWITCH if device.claimed_architecture == "LS10" else GPU
    return DeviceVerifier(NvidiaCollateral.of(rims), TRUST, IN_2026).verify(kind, device, 0)


def failed(result: DeviceVerification) -> dict[str, str]:
    """Code → what was found, of everything that failed."""
    return {f.code: f.found or "" for f in result.findings if f.state is State.FAIL}


# --- genuine devices -----------------------------------------------------------------------------


def accepted(device: DeviceEvidence, nonce: bytes | None) -> DeviceVerification:
    """Chain, signature, identity and nonce hold; what remains for the policy to judge is right."""
    result = verify(device)
    assert {f.state for f in result.findings} == {State.PASS}, result.findings
    assert result.genuine
    assert result.report is not None
    assert nonce is not None
    assert result.report.nonce == nonce
    assert {status.outcome for status in result.revocation} == {Outcome.ABSENT}
    return result


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.report.split("/", 1)[1])
def test_a_report_in_a_file(vectors: Path, row: FileRow) -> None:
    one = from_file(vectors, row)
    result = accepted(one.device, one.nonce)
    assert result.device_id == bytes.fromhex(row.device_id)
    assert result.opaque is not None
    assert result.opaque.vbios_version == row.firmware
    assert (result.fwid and result.fwid.outcome) == (None if row.fwid else FwidOutcome.NOT_REPORTED)
    if isinstance(result.opaque, GpuOpaqueData):
        assert result.opaque.driver_version == row.driver
        mode = result.opaque.mode
        assert (mode and mode.value) == row.mode


@pytest.mark.parametrize("row", DOCUMENTS, ids=lambda row: row.path.split("/", 1)[1][:60])
def test_the_devices_of_a_document(vectors: Path, row: JsonRow) -> None:
    devices = from_document(vectors, row)
    results = [accepted(one.device, one.nonce) for one in devices]
    assert len(results) == row.count
    assert len({result.device_id for result in results}) == row.count
    opaque = [r.opaque for r in results if isinstance(r.opaque, GpuOpaqueData)]
    assert {data.driver_version for data in opaque} == row.drivers
    assert {data.mode and data.mode.value for data in opaque} == row.modes
    # LS10 reports state no FWID; all of these GPUs do, and it is the certified one.
    outcomes = {result.fwid and result.fwid.outcome for result in results}
    assert outcomes == ({None} if opaque else {FwidOutcome.NOT_REPORTED})


def test_the_lists_are_complete(vectors: Path) -> None:
    """Whatever in the NVIDIA folder looks like evidence is in one of the lists of this file."""
    listed = {row.report for row in FILES} | {row.path for row in DOCUMENTS}
    listed |= {row.report for row in BROKEN_REPORTS} | set(LEAF_ALONE)
    found = {
        path.relative_to(vectors).as_posix()
        for pattern in ("*eport.txt", "*eport1.txt", "*InvalidSignature.txt", "*evidence*.json")
        for path in (vectors / "nvidia").rglob(pattern)
    }
    assert found <= listed, found - listed
    assert len(all_genuine(vectors)) == 152
    assert len({one.device.report for one in all_genuine(vectors)}) == 150


# A genuine report whose chain its publisher cut to the leaf: the key is right, and nobody says
# whose key it is.
LEAF_ALONE = {"nvidia/hopper/trustee/hopperAttestationReport.txt": "hopper_signing_cert.pem"}


@pytest.mark.parametrize("name", LEAF_ALONE)
def test_a_leaf_alone_proves_nothing(vectors: Path, name: str) -> None:
    path = vectors / name
    data, pem = decode_report_text(path.read_bytes()), chain_of(path.with_name(LEAF_ALONE[name]))
    result = verify(DeviceEvidence(data, pem, "HOPPER", None, name))
    assert list(failed(result)) == ["GPU-CHAIN"]
    assert result.report is not None
    assert not result.genuine
    leaf = parse_device_chain(pem)[0].public_key
    assert leaf.verify_raw(result.report.signature, result.report.signed_range)


@pytest.mark.parametrize("flipped", range(32))
def test_another_nonce_is_another_report(vectors: Path, flipped: int) -> None:
    """The nonce is in the signed range, so a report cannot be made to answer another request."""
    one = from_file(vectors, FILES[flipped % len(FILES)])
    data = bytearray(one.device.report)
    data[4 + flipped] ^= 1
    result = verify(replace(one.device, report=bytes(data)))
    code = "NVSWITCH" if one.device.claimed_architecture == "LS10" else "GPU"
    assert list(failed(result)) == [f"{code}-REPORT-SIGNATURE"]
    assert not result.genuine


# --- reports with their manifests ----------------------------------------------------------------


@dataclass(frozen=True)
class Triple:
    """A genuine report and the manifests for it, with the numbers they must give.

    Attributes:
        report: path under the vectors.
        driver: driver manifest; None where none is public, and for switches.
        firmware: VBIOS or BIOS manifest.
        matched: measurements equal to one of their golden values.
        total: measurements with golden values.
        mismatched: RIM indices that differ.
        skipped: RIM indices left out because NVDEC0 is disabled.
        valid_at: a time at which the signers of both were valid.
    """

    report: str
    driver: str | None
    firmware: str
    matched: int
    total: int
    mismatched: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()
    valid_at: datetime = IN_2024


TRIPLES = (
    Triple(
        "nvidia/hopper/go-nvtrust/attestationReport.txt",
        f"{RIMS}/Driver_RIM_test_no_gpu.swidtag",
        f"{RIMS}/1010_0200_882_96005E0001_test_no_gpu.swidtag",
        32, 32, skipped=(35,),
    ),
    Triple(
        "nvidia/hopper/nvtrust-history-2023/attestationReport.txt",
        f"{RIMS}/Driver_RIM_test_no_gpu.swidtag",
        f"{RIMS}/1010_0200_882_96005E0001_test_no_gpu.swidtag",
        32, 32, skipped=(35,),
    ),
    Triple(
        "nvidia/ls10/attestation-sdk-sample/switchAttestationReport.txt",
        None,
        f"{SDK_RIMS}/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml",
        31, 31, valid_at=IN_2026,
    ),
    Triple(
        "nvidia/ls10/attestation-sdk-testdata/switchAttestationReport.txt",
        None,
        f"{SDK_RIMS}/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml",
        31, 31, valid_at=IN_2026,
    ),
    # Production manifests of the same VBIOS version state other values than the test ones.
    Triple(
        "nvidia/hopper/go-nvtrust/attestationReport.txt",
        f"{RIMS}/Driver_RIM_test_no_gpu.swidtag",
        f"{RIMS}/1010_0200_882_96005E0001_PROD.swidtag",
        28, 32, mismatched=(1, 2, 3, 9), skipped=(35,),
    ),
    # NVIDIA signed this one for its own test of mismatches.
    Triple(
        "nvidia/hopper/go-nvtrust/attestationReport.txt",
        f"{RIMS}/Driver_RIM_test_no_gpu.swidtag",
        f"{SDK_RIMS}/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml",
        28, 32, mismatched=(1, 2, 3, 9), skipped=(35,),
    ),
    # Index 9 depends on the state of the GPU (nvtrust issue 90); no driver manifest is public.
    Triple(
        "nvidia/hopper/trustee/hopper_coco_report1.txt",
        None,
        f"{RIMS}/1010_0200_882_960074001A_PROD.swidtag",
        11, 12, mismatched=(9,),
    ),
    Triple(
        "nvidia/hopper/attestation-sdk-testdata/hopperAttestationReport.txt",
        None,
        f"{RIMS}/1010_0205_862_9600740020_PROD.swidtag",
        11, 12, mismatched=(9,),
    ),
)  # fmt: skip


def verified_rim(path: Path, now: datetime) -> RimVerification:
    return verify_rim(parse_rim(path.read_bytes()), NVIDIA_CORIM_SIGNING_ROOT_CA, TRUST.memory, now)


@pytest.mark.parametrize(
    "triple", TRIPLES, ids=lambda t: "+".join(p.rpartition("/")[2] for p in (t.report, t.firmware))
)
def test_measurement_by_measurement(vectors: Path, triple: Triple) -> None:
    row = next(row for row in FILES if row.report == triple.report)
    device = from_file(vectors, row).device
    report = parse_attestation_report(device.report)
    rims: list[Rim | None] = []
    for name in (triple.driver, triple.firmware):
        verification = verified_rim(vectors / name, triple.valid_at) if name else None
        assert verification is None or verification.problem is None
        rims.append(verification and verification.rim)
    driver, firmware = rims
    assert firmware is not None
    runtime = {each.index: each.value for each in report.measurements}
    disabled = (
        row.claimed != "LS10" and parse_gpu_opaque_data(report.opaque_data).nvdec0_enabled is False
    )
    result = compare_measurements(runtime, driver, firmware, nvdec0_disabled=disabled)
    assert (result.matched, result.total) == (triple.matched, triple.total)
    assert tuple(each.index for each in result.mismatched) == triple.mismatched
    assert result.skipped == triple.skipped
    assert result.conflicts == ()
    # And once more by hand: each compared value is one of those in the manifest's own XML.
    golden = {**(driver.golden if driver else {}), **firmware.golden}
    equal = {i for i, values in golden.items() if runtime[i + 1] in values} - set(result.skipped)
    assert equal == golden.keys() - set(triple.mismatched) - set(triple.skipped)
    assert len(equal) == triple.matched
    complete = row.claimed == "LS10" or driver is not None
    assert (result.problem is None) == (complete and not triple.mismatched)


@pytest.mark.parametrize("triple", TRIPLES[:4], ids=lambda t: t.report.split("/", 1)[1])
def test_the_manifests_are_found_by_what_the_report_says(vectors: Path, triple: Triple) -> None:
    row = next(row for row in FILES if row.report == triple.report)
    names = [name for name in (triple.driver, triple.firmware) if name]
    rims = [(Path(name).name, (vectors / name).read_bytes()) for name in names]
    result = verify(from_file(vectors, row).device, *rims)
    assert [each.choice.name for each in result.manifests] == [Path(name).name for name in names]
    assert result.comparison is not None
    assert result.comparison.problem is None
    assert (result.comparison.matched, result.comparison.total) == (triple.matched, triple.total)


def test_a_changed_measurement_is_a_mismatch_and_not_signed(vectors: Path) -> None:
    """The negative to each match: block after block changed, in the report and for real."""
    triple = TRIPLES[2]
    device = from_file(vectors, next(r for r in FILES if r.report == triple.report)).device
    rim = verified_rim(vectors / triple.firmware, triple.valid_at).rim
    assert rim is not None
    for index in range(31):
        data = bytearray(device.report)
        data[45 + 55 * index + 7] ^= 1
        changed = replace(device, report=bytes(data))
        runtime = {e.index: e.value for e in parse_attestation_report(bytes(data)).measurements}
        result = compare_measurements(runtime, None, rim, nvdec0_disabled=False)
        assert [each.index for each in result.mismatched] == [index]
        assert list(failed(verify(changed))) == ["NVSWITCH-REPORT-SIGNATURE"]


# --- what was broken on purpose ------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """A report or chain that must be refused: the one check that fails, and the words it uses."""

    report: str
    chain: str
    claimed: str
    code: str
    reason: str


BROKEN_REPORTS = (
    # NVIDIA changed it; its chain is not published, so its signer is nobody's key at all.
    Broken(
        "nvidia/ls10/attestation-sdk-sample/switchAttestationReportInvalidSignature.txt",
        "switchCertChain.txt",
        "LS10", "NVSWITCH-REPORT-SIGNATURE", "does not verify under the key of certificate",
    ),
    Broken(
        "nvidia/hopper/go-nvtrust/attestationReport.txt",
        "invalidCertChain.txt",
        "HOPPER", "GPU-CHAIN", "certificate [1] is .*Provisioner.*, not a device identity",
    ),
    Broken(
        "nvidia/blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt",
        "blackwell_cert_chain_case2.txt",
        "BLACKWELL", "GPU-CHAIN", "holds no device certificate",
    ),
    Broken(
        "nvidia/blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt",
        "blackwell_cert_chain_case3.txt",
        "BLACKWELL", "GPU-CHAIN", "certificate [2] is .*Identity, not .*Provisioner",
    ),
    Broken(
        "nvidia/blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt",
        "blackwell_signing_cert.pem",
        "BLACKWELL", "GPU-CHAIN", "certificate [1] is missing",
    ),
)  # fmt: skip


@pytest.mark.parametrize("row", BROKEN_REPORTS, ids=lambda row: row.chain + row.code)
def test_a_broken_report_or_chain(vectors: Path, row: Broken) -> None:
    path = vectors / row.report
    report, pem = decode_report_text(path.read_bytes()), chain_of(path.with_name(row.chain))
    result = verify(DeviceEvidence(report, pem, row.claimed, None, row.report))
    problems = failed(result)
    assert list(problems) == [row.code]
    assert re.search(row.reason.replace("[", r"\["), problems[row.code]), problems
    assert not result.genuine
    assert result.device_id is None
    assert result.manifests == ()


def test_the_reason_is_the_change_alone(vectors: Path) -> None:
    """Each report and chain that the list above breaks is accepted as it was."""
    sound = {row.report for row in FILES}
    for row in BROKEN_REPORTS:
        original = row.report.replace("InvalidSignature", "")
        assert original in sound


def test_a_report_with_padding_is_refused_with_advice(vectors: Path) -> None:
    row = next(row for row in FILES if row.padding)
    padded = decode_report_text((vectors / row.report).read_bytes())
    result = verify(replace(from_file(vectors, row).device, report=padded))
    assert list(failed(result)) == ["GPU-REPORT-FORMAT"]
    with pytest.raises(EvidenceError) as caught:
        parse_attestation_report(padded)
    assert "cut the report after 4129 bytes" in (caught.value.hint or "")


def test_the_device_on_hold_is_genuine_and_its_revocation_unknown_here(vectors: Path) -> None:
    """Its hold was upstream's OCSP answer of that day, which nobody kept: absent is no pass."""
    row = next(row for row in DOCUMENTS if "cert_hold" in row.path)
    (one,) = from_document(vectors, row)
    result = verify(one.device)
    assert result.genuine
    assert [each.outcome for each in result.revocation] == [Outcome.ABSENT] * 3


@dataclass(frozen=True)
class BrokenRim:
    """A manifest that must not be used: what fails, at which time."""

    name: str
    step: str
    reason: str
    at: datetime = IN_2026


BROKEN_RIMS = (
    BrokenRim(
        "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml", "signature", "SHA-384 digest"
    ),
    BrokenRim("NV_GPU_DRIVER_GH100_570.124.03_expired.xml", "signature", "SHA-384 digest"),
    BrokenRim("NV_GPU_DRIVER_GH100_570.124.03_expired.xml", "validity", "expired on 2025-01-02"),
    BrokenRim(
        "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml",
        "signature", "SHA-384 digest",
    ),
    BrokenRim(
        "NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml",
        "signature", "SHA-384 digest",
    ),
    BrokenRim("incorrect_signature_driver_rim.xml", "signature", "does not verify under the key"),
    BrokenRim("incorrect_cert_chain_driver_rim.xml", "chain", "a root that is not pinned"),
    # Sound, but not at every time.
    BrokenRim("NV_GPU_DRIVER_GH100_550.144.03.xml", "validity", "from 2024-12-30", IN_2024),
    BrokenRim(
        "switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml",
        "validity", "from 2026-05-20", IN_2024,
    ),
)  # fmt: skip


@pytest.mark.parametrize("row", BROKEN_RIMS, ids=lambda row: f"{row.name}-{row.step}")
def test_a_broken_manifest(vectors: Path, row: BrokenRim) -> None:
    result = verified_rim(vectors / SDK_RIMS / row.name, row.at)
    problems = {
        "signature": result.signature_problem,
        "chain": result.chain_problem,
        "validity": result.validity_problem,
    }
    assert row.reason in (problems[row.step] or "")
    assert result.problem is not None
    assert (result.rim is None) == bool(problems["signature"] or problems["chain"])
    other = problems["chain" if row.step == "signature" else "signature"]
    if "expired" not in row.name:
        assert other is None


def test_a_broken_manifest_is_chosen_for_nobody(vectors: Path) -> None:
    row = next(row for row in FILES if row.claimed == "LS10")
    for kind, refused, reason in (
        ("invalid_signature", True, "all 1 candidates are refused"),
        ("measurement_mismatch", False, "no such RIM"),  # it calls itself one of a GH100
    ):
        name = f"NV_SWITCH_BIOS_5612_0002_890_9610550001_{kind}.xml"
        rims = (name, (vectors / SDK_RIMS / name).read_bytes())
        result = verify(from_file(vectors, row).device, rims)
        (lookup,) = result.manifests
        assert lookup.choice.verification is None
        assert list(lookup.choice.refused) == [name] * refused
        assert reason in (lookup.choice.problem or "")
        assert result.comparison is None


def test_another_root_is_none_of_ours(vectors: Path) -> None:
    """What NVIDIA ships as a wrong root is a signer's certificate: it anchors nothing."""
    name = "nvidia/roots/attestation-sdk/incorrect_rim_root.crt"
    chain = verify_device_chain(
        parse_device_chain((vectors / name).read_bytes()), TRUST.nvidia_device_root, TRUST.memory
    )
    assert "not of a device known here" in (chain.name_problem or "")
