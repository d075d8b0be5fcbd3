"""The NVIDIA evidence of the vectors: which files hold genuine devices, and how to read them.

File reports are hex text beside a PEM chain; everything else is read as it came from the tool
or service, by `ccverify.interop`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ccverify.evidence import DeviceEvidence
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.nvidia.spdm import decode_report_text
from ccverify.tdx.quote import decode_quote_text, parse_quote

NONCE_931D = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"
NONCE_4CFF = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e"
PPCIE = "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"


@dataclass(frozen=True)
class FileRow:
    """One genuine report in a file of its own; what the vectors' PROVENANCE.md says of it.

    Attributes:
        report: path under the vectors.
        chain: name beside it.
        claimed: the architecture.
        device_id: PDI in the subject of certificate [1].
        driver: None for switches.
        firmware: VBIOS or BIOS version.
        nonce: the relying party's.
        mode: None where the report does not say.
        fwid: whether the report states one.
        padding: zero bytes that a collector left after the report.
    """

    report: str
    chain: str
    claimed: str
    device_id: str
    driver: str | None
    firmware: str
    nonce: str
    mode: str | None = None
    fwid: bool = True
    padding: int = 0


FILES = (
    FileRow(
        "nvidia/blackwell-gb100/attestation-sdk-sample/blackwellAttestationReport.txt",
        "blackwellCertChain.txt",
        "BLACKWELL", "e6de55c3bdc14277", "575.32", "97.00.88.00.0F", NONCE_931D,
    ),
    FileRow(
        "nvidia/blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt",
        "blackwell_cert_chain_case1.txt",
        "BLACKWELL", "11bf087a2e3ddb5f", "595.58.03", "98.02.81.00.01", NONCE_4CFF, "SPT",
    ),
    FileRow(
        "nvidia/hopper/attestation-sdk-testdata/hopperAttestationReport.txt",
        "hopperCertChain.txt",
        "HOPPER", "e23d711e1c4fbfac", "580.159.03", "96.00.74.00.20",
        "5bb22e377702d4e1e8215a903ba094826b9ac7f731dee1fe8102958bf2840aca", "SPT",
    ),
    FileRow(
        "nvidia/hopper/go-nvtrust/attestationReport.txt",
        "gpuAkCertChain.txt",
        "HOPPER", "ffeeb20009e0be49", "545.00", "96.00.5E.00.01", NONCE_4CFF, fwid=False,
    ),
    FileRow(
        "nvidia/hopper/nvtrust-history-2023/attestationReport.txt",
        "gpuAkCertChain.txt",
        "HOPPER", "ffeeb20009e0be49", "545.00", "96.00.5E.00.01", NONCE_4CFF, fwid=False,
    ),
    FileRow(
        "nvidia/hopper/nvtrust-local-gpu-verifier/hopperAttestationReport.txt",
        "hopperCertChain.txt",
        "HOPPER", "431d480fe5e87274", "550.90.07", "96.00.9F.00.01", NONCE_931D,
    ),
    FileRow(
        "nvidia/hopper/trustee/hopper_coco_report1.txt",
        "hopper_coco_certs1.txt",
        "HOPPER", "d1a9a24f202cb2b5", "580.95.05", "96.00.74.00.1A",
        "87d8e24ab336adafe228d49e83d745f6dba4ae505372b6a5704820856b343fec", "SPT", padding=1,
    ),
    FileRow(
        "nvidia/ls10/attestation-sdk-sample/switchAttestationReport.txt",
        "switchCertChain.txt",
        "LS10", "203eb31ad9ed0008", None, "96.10.55.00.01", NONCE_931D, fwid=False,
    ),
    FileRow(
        "nvidia/ls10/attestation-sdk-testdata/switchAttestationReport.txt",
        "switchCertChain.txt",
        "LS10", "203eb31ad9ed0008", None, "96.10.55.00.01", NONCE_931D, fwid=False,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class JsonRow:
    """One document of a tool or service: how many genuine devices, and what they all say.

    Attributes:
        path: under the vectors.
        count: devices in it.
        drivers: driver versions; empty for switches.
        modes: modes the reports state.
        nonce: where the nonce that every report must carry is found: the ``item`` itself, the
            ``request`` the document answers, or the first half of REPORTDATA in the ``quote``.
    """

    path: str
    count: int
    drivers: frozenset[str]
    modes: frozenset[str | None]
    nonce: str


_PROTECTED = frozenset({"PROTECTED_PCIE"})
DOCUMENTS = (
    JsonRow(
        "nvidia/hopper/attestation-sdk-serialized/hopper_evidence.json",
        1, frozenset({"590.12"}), _PROTECTED, "item",
    ),
    JsonRow(
        "nvidia/hopper/attestation-sdk-serialized/hopper_evidence_cert_hold.json",
        1, frozenset({"570.86.10"}), frozenset({None}), "item",
    ),
    JsonRow(
        "nvidia/hopper/attestation-sdk-testdata/evidence_hopper_590_12.json",
        1, frozenset({"590.12"}), _PROTECTED, "item",
    ),
    JsonRow(f"{PPCIE}/gpu_evidence.json", 8, frozenset({"590.12"}), _PROTECTED, "item"),
    JsonRow(f"{PPCIE}/switch_evidence.json", 4, frozenset(), frozenset(), "item"),
    JsonRow(
        "tdx/captures/chutes_20260610/0002_api.chutes.ai_chutes_"
        "e51e818e-fa63-570d-9f68-49d7d1b4d12f_evidence.body",
        56, frozenset({"595.71.05"}), _PROTECTED, "quote",
    ),
    JsonRow(
        "tdx/captures/nanogpt_20260325/glm-4.7_attestation.json",
        24, frozenset({"570.172.08"}), _PROTECTED, "request",
    ),
    JsonRow(
        "tdx/captures/neardirect_20260610/"
        "0001_qwen35-122b.completions.near.ai_v1_attestation_report.body",
        8, frozenset({"570.172.08"}), _PROTECTED, "request",
    ),
    JsonRow(
        "tdx/captures/phalacloud_20260610/0001_api.redpill.ai_v1_attestation_report.body",
        40, frozenset({"595.71.05"}), _PROTECTED, "quote",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Genuine:
    """One device, and the nonce its report has to carry."""

    name: str
    device: DeviceEvidence
    nonce: bytes | None


def chain_of(path: Path) -> bytes:
    """A PEM chain, or its base64 as some collectors store it."""
    data = path.read_bytes()
    if b"-----BEGIN" in data[:64]:
        return data
    return decode_report_text(data)


def from_file(vectors: Path, row: FileRow) -> Genuine:
    """The device of one file, without the padding after its report."""
    path = vectors / row.report
    report = decode_report_text(path.read_bytes())
    assert not any(report[len(report) - row.padding :])
    device = DeviceEvidence(
        report=report[: len(report) - row.padding],
        certificate_chain=chain_of(path.with_name(row.chain)),
        claimed_architecture=row.claimed,
        claimed_nonce=None,
        source=row.report,
    )
    return Genuine(row.report, device, bytes.fromhex(row.nonce))


@cache
def from_document(vectors: Path, row: JsonRow) -> tuple[Genuine, ...]:
    """Every device of one document, node by node."""
    return tuple(_devices(vectors, row))


def _devices(vectors: Path, row: JsonRow) -> Iterator[Genuine]:
    for node in parse_foreign_evidence((vectors / row.path).read_bytes()).nodes:
        devices = (*node.gpus, *node.switches)
        if row.nonce == "quote" and devices:
            assert node.quote is not None
            quoted = parse_quote(decode_quote_text(node.quote)).report.report_data[:32]
        for number, device in enumerate(devices):
            name = f"{row.path.rpartition('/')[2]}#{node.label}#{number}"
            nonce = {
                "item": device.claimed_nonce,
                "request": node.binding.request_nonce if node.binding else None,
                "quote": quoted if row.nonce == "quote" else None,
            }[row.nonce]
            yield Genuine(name, replace(device, source=name), nonce)


@cache
def all_genuine(vectors: Path) -> tuple[Genuine, ...]:
    """Every genuine device whose chain is there, files first."""
    found = [from_file(vectors, row) for row in FILES]
    for row in DOCUMENTS:
        found += from_document(vectors, row)
    return tuple(found)
