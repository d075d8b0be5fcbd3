"""Beside NVIDIA's own Python verifiers: every field of every real report, every verdict step.

The peers are nv-local-gpu-verifier 2.7.3 (GPUs) and the switch verifier of nv-attestation-sdk
2.7.3, run in a process of their own (`nv_peer`); without them those tests are skipped.  NVIDIA's
C++ parser cannot be run here: its answers are files of the vectors, compared in
test_nv_spdm.py and test_nv_opaque.py and, as one whole, below.

Where we answer otherwise on purpose, `DIFFERENCES` says so; docs/differences.md is its prose.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nv_peer import ABSENT, Peer, interpreter
from vectors.nvidia_evidence import FILES, FileRow, all_genuine, chain_of, from_file

from ccverify.errors import CollateralError, EvidenceError
from ccverify.evidence import DeviceEvidence
from ccverify.nvidia.certs import (
    FwidOutcome,
    fwid_problem,
    parse_device_chain,
    verify_device_chain,
    verify_report_signature,
)
from ccverify.nvidia.measurements import compare_measurements
from ccverify.nvidia.opaque import (
    RawField,
    gpu_field_name,
    parse_gpu_opaque_data,
    parse_switch_opaque_data,
    switch_field_name,
)
from ccverify.nvidia.rim import parse_rim, verify_rim
from ccverify.nvidia.spdm import (
    BLOCK_FIELDS,
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    FixedField,
    decode_report_text,
    parse_attestation_report,
)
from ccverify.trust.store import TrustStore
from ccverify.trust.xmldsig import DS

TRUST = TrustStore.production()
IN_2024 = datetime(2024, 6, 1, tzinfo=UTC)
IN_2026 = datetime(2026, 11, 21, tzinfo=UTC)
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    python = interpreter()
    if python is None:
        pytest.skip(ABSENT)
    with Peer(python) as running:
        answer = running.ask("parse", arch="HOPPER", report="")
        if "ModuleNotFoundError" in answer["error"]:
            pytest.skip(f"{ABSENT}: {answer['error']}")
        yield running


def require(peer: Peer, claimed: str | None) -> None:
    """Skip where only the GPU verifier is installed."""
    if claimed != "LS10":
        return
    answer = peer.ask("parse", arch="LS10", report="")
    if "ModuleNotFoundError" in answer["error"]:
        pytest.skip(f"nv-attestation-sdk is not installed beside it: {answer['error']}")


# --- fields --------------------------------------------------------------------------------------


def fixed(fields: tuple[FixedField, ...]) -> Fields:
    return {f.name: f"{f.value:0{2 * f.size}x}" for f in fields if f.value is not None}


def ours(data: bytes, claimed: str | None) -> Fields:
    """A report as we read it, in the shape in which the peer process answers."""
    report = parse_attestation_report(data)
    count = len(report.measurements)
    kind, size = (f.value for f in BLOCK_FIELDS[3:5])
    if claimed == "LS10":
        fields, name_of = parse_switch_opaque_data(report.opaque_data).fields, switch_field_name
    else:
        fields, name_of = parse_gpu_opaque_data(report.opaque_data).fields, gpu_field_name
    opaque: Fields = {}
    for each in fields:
        opaque.update(as_peer(name_of(each.type), each))
    return {
        "request": {**fixed(REQUEST_FIELDS), "Nonce": report.nonce.hex()},
        "response": {
            **fixed(RESPONSE_FIELDS),
            "NumberOfBlocks": count,
            "MeasurementRecordLength": 55 * count,
            "Nonce": report.responder_nonce.hex(),
            "OpaqueLength": len(report.opaque_data),
            "Signature": report.signature.hex(),
        },
        "blocks": {str(m.index): [kind, size, m.value.hex()] for m in report.measurements},
        "opaque": opaque,
    }


_MODES = ("SPT", "MPT", "PPCIE")


def as_peer(name: str, each: RawField) -> Fields:
    """One opaque field as the peers hold it."""
    data = each.data
    if name == "MSRSCNT":
        return {name: [count for (count,) in struct.iter_unpack("<I", data)]}
    if name == "SWITCH_PDI":
        return {name: [data[at : at + 8].hex() for at in range(0, len(data), 8)]}
    if name == "SWITCH_GPU_PDIS":
        pdis = [data[at : at + 8].hex() for at in range(0, 64, 8)]
        return {name: pdis, "SWITCH_PORT": [f"{port:02x}" for port in data[64:]]}
    if name == "DISABLED_PORTS":
        bits = "".join(f"{byte:08b}" for byte in data)
        return {name: [int(bit) for bit in bits for _ in range(4)]}
    if name == "FEATURE_FLAG":
        return {name: _MODES[int.from_bytes(data, "little")]}
    if name == "OPAQUE_DATA_VERSION":
        return {name: int.from_bytes(data, "little")}
    if name == "CHIP_INFO":
        return {name: data.rstrip(b"\0").decode()}
    return {name: data.hex()}


def test_every_field_of_every_real_gpu_report(vectors: Path, peer: Peer) -> None:
    compared = fields = 0
    for one in all_genuine(vectors):
        claimed = one.device.claimed_architecture
        if claimed == "LS10":
            continue
        theirs = peer.ask("parse", arch=claimed, report=one.device.report.hex())
        assert ours(one.device.report, claimed) == theirs, one.name
        compared += 1
        fields += len(theirs["opaque"])
    assert compared == 146
    assert fields > 146 * 12


def test_every_field_of_every_real_switch_report(vectors: Path, peer: Peer) -> None:
    require(peer, "LS10")
    switches = [o for o in all_genuine(vectors) if o.device.claimed_architecture == "LS10"]
    for one in switches:
        theirs = peer.ask("parse", arch="LS10", report=one.device.report.hex())
        assert ours(one.device.report, "LS10") == theirs, one.name
    assert len(switches) == 6


# NVIDIA's C++ parser: its stored answer, the report it was made from, and the fields missing in
# the answer although the report holds them, because the file was made by an older parser.
STORED = {
    "hopper/attestation-sdk-testdata/spdm_parsed_output.json": (
        "hopper/attestation-sdk-testdata/hopperAttestationReport.txt",
        "HOPPER",
        {"OPAQUE_DATA_VERSION", "FEATURE_FLAG"},
    ),
    "ls10/attestation-sdk-testdata/switch_spdm_parsed_output.json": (
        "ls10/attestation-sdk-testdata/switchAttestationReport.txt",
        "LS10",
        set(),
    ),
}


def _bare(value: Any) -> Any:
    """Their hex is marked with 0x."""
    if isinstance(value, str):
        return value.removeprefix("0x")
    return [_bare(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", STORED)
def test_nvidias_stored_output(vectors: Path, name: str) -> None:
    source, claimed, missing = STORED[name]
    mine = ours(decode_report_text((vectors / "nvidia" / source).read_bytes()), claimed)
    theirs = json.loads((vectors / "nvidia" / name).read_text())
    record, opaque = theirs.pop("MeasurementRecord"), theirs.pop("OpaqueData")
    assert {k: _bare(v) for k, v in theirs.items()} == mine["response"]
    assert record["NumberOfBlocks"] == mine["response"]["NumberOfBlocks"]
    blocks = {
        index: [_bare(block[f"DMTFSpecMeasurementValue{part}"]) for part in ("Type", "Size", "")]
        for index, block in record["MeasurementBlocks"].items()
    }
    assert blocks == mine["blocks"]
    stored = {
        field.removeprefix("OPAQUE_FIELD_ID_"): _bare(value)
        for field, value in opaque["OpaqueDataField"].items()
    }
    assert mine["opaque"].keys() - stored.keys() == missing
    assert stored == {k: v for k, v in mine["opaque"].items() if k not in missing}


# --- verdict steps -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """What can be said of one device offline; nothing of one whose evidence does not parse."""

    fwid: bool
    chain: bool
    signature: bool


NOTHING = Steps(fwid=False, chain=False, signature=False)


def our_steps(device: DeviceEvidence) -> Steps:
    try:
        report = parse_attestation_report(device.report)
        if device.claimed_architecture == "LS10":
            fwid = None
            parse_switch_opaque_data(report.opaque_data)
        else:
            fwid = parse_gpu_opaque_data(report.opaque_data).fwid
        certificates = parse_device_chain(device.certificate_chain)
    except EvidenceError:
        return NOTHING
    chain = verify_device_chain(certificates, TRUST.nvidia_device_root, TRUST.memory)
    if chain.leaf_key is None:
        return NOTHING
    problem = fwid_problem(chain.fwid, fwid)
    signed = (report.signed_range, report.signature, chain.leaf_key, TRUST.memory)
    return Steps(
        # Not stated is an outcome of its own here and a match there; see DIFFERENCES.
        fwid=problem is None or problem.outcome is FwidOutcome.NOT_REPORTED,
        chain=chain.problem is None,
        signature=verify_report_signature(*signed) is None,
    )


def their_steps(peer: Peer, device: DeviceEvidence) -> Steps:
    answer = peer.ask(
        "device",
        arch=device.claimed_architecture,
        report=device.report.hex(),
        chain=device.certificate_chain.rstrip(b"\0").hex(),
        at=IN_2026.isoformat(),
    )
    if "error" in answer:
        return NOTHING
    return Steps(**answer)


def test_every_real_device_gets_the_same_steps(vectors: Path, peer: Peer) -> None:
    require(peer, "LS10")
    all_well = Steps(fwid=True, chain=True, signature=True)
    for one in all_genuine(vectors):
        assert our_steps(one.device) == their_steps(peer, one.device) == all_well, one.name


GPU_ROW = next(row for row in FILES if "nvtrust-local-gpu-verifier" in row.report)
SWITCH_ROW = next(row for row in FILES if "ls10/attestation-sdk-sample" in row.report)
OLD_ROW = next(row for row in FILES if "go-nvtrust" in row.report)
Change = Callable[[bytes], bytes]


def _flip(at: int) -> Change:
    return lambda data: data[: at % len(data)] + bytes([data[at] ^ 1]) + data[at % len(data) + 1 :]


def _opaque_at(data: bytes) -> int:
    return 45 + int.from_bytes(data[42:45], "little") + 34


def _opaque(change: Change) -> Change:
    """Change the opaque data and the length before it."""

    def apply(data: bytes) -> bytes:
        at = _opaque_at(data)
        new = change(data[at:-96])
        return data[: at - 2] + len(new).to_bytes(2, "little") + new + data[-96:]

    return apply


def _field(number: int, value: bytes) -> bytes:
    return struct.pack("<HH", number, len(value)) + value


def _with_value(number: int, value: bytes) -> Change:
    def apply(opaque: bytes) -> bytes:
        at = 0
        out = b""
        while at < len(opaque):
            kind, size = struct.unpack_from("<HH", opaque, at)
            body = opaque[at + 4 : at + 4 + size]
            out += _field(kind, value if kind == number else body)
            at += 4 + size
        return out

    return _opaque(apply)


def _blocks(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    def apply(data: bytes) -> bytes:
        end = 45 + int.from_bytes(data[42:45], "little")
        blocks = change([data[at : at + 55] for at in range(45, end, 55)])
        length = (55 * len(blocks)).to_bytes(3, "little")
        return data[:41] + bytes([len(blocks)]) + length + b"".join(blocks) + data[end:]

    return apply


# Tampered so that both refuse at the same step, and none earlier.
SAME: dict[str, tuple[FileRow, Change, Steps]] = {
    "nonce": (GPU_ROW, _flip(4), Steps(fwid=True, chain=True, signature=False)),
    "measurement": (GPU_ROW, _flip(60), Steps(fwid=True, chain=True, signature=False)),
    "responder-nonce": (
        GPU_ROW, _flip(45 + 64 * 55), Steps(fwid=True, chain=True, signature=False)
    ),
    "signature-r": (GPU_ROW, _flip(-96), Steps(fwid=True, chain=True, signature=False)),
    "signature-s": (GPU_ROW, _flip(-1), Steps(fwid=True, chain=True, signature=False)),
    "signature-zero": (
        GPU_ROW, lambda data: data[:-96] + bytes(96), Steps(fwid=True, chain=True, signature=False)
    ),
    "switch-nonce": (SWITCH_ROW, _flip(4), Steps(fwid=True, chain=True, signature=False)),
    "switch-signature": (SWITCH_ROW, _flip(-1), Steps(fwid=True, chain=True, signature=False)),
    "feature-flag-unknown": (
        FILES[2], _with_value(36, b"\3\0"), NOTHING,
    ),
    "measurement-count-odd": (GPU_ROW, _with_value(12, bytes(255)), NOTHING),
    "no-blocks": (GPU_ROW, _blocks(lambda blocks: []), NOTHING),
    "cut-in-the-record": (GPU_ROW, lambda data: data[:2000], NOTHING),
}  # fmt: skip


def changed(vectors: Path, row: FileRow, change: Change) -> DeviceEvidence:
    device = from_file(vectors, row).device
    return replace(device, report=change(device.report))


@pytest.mark.parametrize("name", SAME)
def test_the_same_step_refuses(vectors: Path, peer: Peer, name: str) -> None:
    row, change, expected = SAME[name]
    require(peer, row.claimed)
    device = changed(vectors, row, change)
    assert our_steps(device) == their_steps(peer, device) == expected


CHAINS = {
    "hopper/go-nvtrust/invalidCertChain.txt": OLD_ROW,
    "blackwell-gb202/trustee-pr1551/blackwell_cert_chain_case2.txt": FILES[1],
    "blackwell-gb202/trustee-pr1551/blackwell_cert_chain_case3.txt": FILES[1],
    "blackwell-gb202/trustee-pr1551/blackwell_signing_cert.pem": FILES[1],
}


@pytest.mark.parametrize("name", CHAINS)
def test_broken_chains_are_refused_by_both(vectors: Path, peer: Peer, name: str) -> None:
    device = from_file(vectors, CHAINS[name]).device
    broken = replace(device, certificate_chain=chain_of(vectors / "nvidia" / name))
    assert not our_steps(broken).chain
    assert not their_steps(peer, broken).chain


def test_a_report_with_a_broken_signature_is_refused_by_both(vectors: Path, peer: Peer) -> None:
    require(peer, "LS10")
    name = "nvidia/ls10/attestation-sdk-sample/switchAttestationReportInvalidSignature.txt"
    device = replace(
        from_file(vectors, SWITCH_ROW).device,
        report=decode_report_text((vectors / name).read_bytes()),
    )
    assert our_steps(device) == Steps(fwid=True, chain=True, signature=False)
    assert their_steps(peer, device) == our_steps(device)


# --- differences ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One change of a genuine report that one side alone reads: we, or they; and why."""

    row: FileRow
    change: Change
    ours: bool
    theirs: bool
    reason: str


def _swap_index(blocks: list[bytes]) -> list[bytes]:
    return [*blocks[:-1], b"\xff" + blocks[-1][1:]]


DIFFERENCES: dict[str, Difference] = {
    "spdm-version": Difference(
        GPU_ROW, lambda d: b"\x12" + d[1:], False, True,
        "another version has another layout and another signed range",
    ),
    "spdm-response-code": Difference(
        GPU_ROW, lambda d: d[:38] + b"\x7f" + d[39:], False, True,
        "what is not MEASUREMENTS is not evidence",
    ),
    "block-value-type": Difference(
        GPU_ROW, lambda d: d[:49] + b"\x81" + d[50:], False, True,
        "a raw bit stream is no digest",
    ),
    "bytes-after-signature": Difference(
        GPU_ROW, lambda d: d + b"\0", False, True,
        "nobody signs them; there the signature fails later, because its place is counted from "
        "the end",
    ),
    "cut-in-the-signature": Difference(
        GPU_ROW, lambda d: d[:-1], False, True,
        "the length is known, so a short signature is a short report",
    ),
    "opaque-field-twice": Difference(
        GPU_ROW, _opaque(lambda o: o + _field(3, b"999.00\0")), False, True,
        "there the last one wins; two readers of one report must not differ",
    ),
    "opaque-field-cut-short": Difference(
        GPU_ROW, _opaque(lambda o: o + struct.pack("<HH", 14, 4) + b"\1"), False, True,
        "a length that promises more than there is",
    ),
    "opaque-field-size": Difference(
        GPU_ROW, _with_value(20, bytes(47)), False, True,
        "a FWID of 47 bytes is none",
    ),
    "nvdec0-status-byte": Difference(
        GPU_ROW, _with_value(11, b"\x5a"), False, True,
        "neither enabled nor disabled, so nobody knows whether index 35 counts",
    ),
    "opaque-data-version": Difference(
        FILES[2], _with_value(34, b"\2\0"), False, True,
        "fields of a version that is not known may mean something else (NVIDIA's C++ SDK refuses "
        "it too)",
    ),
    "opaque-field-unknown": Difference(
        GPU_ROW, _opaque(lambda o: o + _field(300, b"new")), True, False,
        "firmware adds fields; it is kept and shown",
    ),
    "block-index-gap": Difference(
        GPU_ROW, _blocks(_swap_index), True, False,
        "SPDM numbers blocks as it likes; a golden value without its block is a mismatch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENCES)
def test_difference(vectors: Path, peer: Peer, name: str) -> None:
    difference = DIFFERENCES[name]
    data = changed(vectors, difference.row, difference.change).report
    claimed = difference.row.claimed
    try:
        ours(data, claimed)
        read = True
    except EvidenceError:
        read = False
    theirs = peer.ask("parse", arch=claimed, report=data.hex())
    assert (read, "error" not in theirs) == (difference.ours, difference.theirs), theirs
    # No difference lets a changed report through: its signature is gone.
    device = replace(from_file(vectors, difference.row).device, report=data)
    assert not our_steps(device).signature
    assert not their_steps(peer, device).signature


def test_difference_fwid_not_stated(vectors: Path, peer: Peer) -> None:
    """`fwid-not-stated`: there a match, here an outcome of its own, which the policy judges."""
    device = from_file(vectors, OLD_ROW).device
    assert their_steps(peer, device).fwid
    chain = verify_device_chain(
        parse_device_chain(device.certificate_chain), TRUST.nvidia_device_root, TRUST.memory
    )
    report = parse_attestation_report(device.report)
    problem = fwid_problem(chain.fwid, parse_gpu_opaque_data(report.opaque_data).fwid)
    assert problem is not None
    assert problem.outcome is FwidOutcome.NOT_REPORTED


def test_difference_chain_of_another_architecture(vectors: Path, peer: Peer) -> None:
    """`chain-architecture`: there any chain under the root serves, here it must be the family's."""
    switch = from_file(vectors, SWITCH_ROW).device
    posing = replace(switch, claimed_architecture="HOPPER")
    theirs = peer.ask(
        "device",
        arch="HOPPER",
        report=from_file(vectors, OLD_ROW).device.report.hex(),
        chain=posing.certificate_chain.hex(),
        at=IN_2026.isoformat(),
    )
    assert theirs == {"fwid": True, "chain": True, "signature": False}
    chain = verify_device_chain(
        parse_device_chain(posing.certificate_chain), TRUST.nvidia_device_root, TRUST.memory
    )
    assert chain.architecture is not None
    assert chain.architecture.value == "LS10"


# --- manifests -----------------------------------------------------------------------------------

_SAMPLES = "rim/nvtrust-local-gpu-verifier-samples"
_SDK = "rim/attestation-sdk-testdata"
DRIVER = f"{_SAMPLES}/Driver_RIM_test_no_gpu.swidtag"


def rim_files(vectors: Path) -> list[Path]:
    folder = vectors / "nvidia" / "rim"
    return sorted(p for p in folder.rglob("*") if p.suffix in (".xml", ".swidtag"))


def their_rim(peer: Peer, path: Path, at: datetime) -> dict[str, Any]:
    rim = parse_rim(path.read_bytes())
    switch = rim.kind.value == "switch-bios"
    name = "driver" if rim.kind.value == "driver" else "vbios"
    return peer.ask(
        "rim",
        arch="LS10" if switch else "HOPPER",
        name=name,
        content=path.read_text("utf-8"),
        at=at.replace(tzinfo=None).isoformat(),
    )


@pytest.mark.parametrize("at", [IN_2024, IN_2026], ids=["2024", "2026"])
def test_every_manifest_reads_and_verifies_alike(vectors: Path, peer: Peer, at: datetime) -> None:
    require(peer, "LS10")
    expired = 0
    for path in rim_files(vectors):
        rim = parse_rim(path.read_bytes())
        theirs = their_rim(peer, path, at)
        assert theirs["version"].upper() == rim.version, path.name
        assert theirs["golden"] == {
            str(index): [golden.active, [value.hex() for value in golden.alternatives]]
            for index, golden in rim.measurements.items()
        }, path.name
        assert theirs["schema"], path.name
        verified = verify_rim(rim, TRUST.nvidia_rim_root, TRUST.memory, at)
        # `rim-signer-expired`: their chain holds only while every certificate is valid.
        ours_then = verified.chain_problem is None and verified.validity_problem is None
        assert theirs["chain"] == ours_then, path.name
        assert theirs["signature"] == (verified.problem is None), path.name
        expired += verified.rim is not None and not theirs["chain"]
    assert expired > 0


def _with_object(text: str) -> str:
    end = text.rindex("</", 0, text.rindex("Signature>") + 1)
    return f'{text[:end]}<ds:Object xmlns:ds="{DS}"><Meta/></ds:Object>{text[end:]}'


# What their signature check does not see, because canonical form and signature leave it out.
UNSIGNED_XML: dict[str, Callable[[str], str]] = {
    "rim-doctype": lambda text: f'<!DOCTYPE x [<!ENTITY a "b">]>{text}',
    "rim-comment": lambda text: f"{text.rstrip()}<!-- nobody signed this -->",
    "rim-instruction": lambda text: f"<?x y?>{text}",
    "rim-object": _with_object,
}


@pytest.mark.parametrize("name", UNSIGNED_XML)
def test_difference_in_xml(vectors: Path, peer: Peer, name: str) -> None:
    text = (vectors / "nvidia" / DRIVER).read_text("utf-8")
    assert verify_rim(parse_rim(text.encode()), TRUST.nvidia_rim_root, TRUST.memory, IN_2024).rim
    with pytest.raises(CollateralError):
        parse_rim(UNSIGNED_XML[name](text).encode())
    theirs = peer.ask(
        "rim",
        arch="HOPPER",
        name="driver",
        content=UNSIGNED_XML[name](text),
        at=IN_2024.replace(tzinfo=None).isoformat(),
    )
    assert (theirs["schema"], theirs["chain"], theirs["signature"]) == (True, True, True)


# --- measurements --------------------------------------------------------------------------------

# Report, manifests, and what the peer finds wrong.
COMPARISONS: tuple[tuple[FileRow, tuple[str, ...], tuple[int, ...]], ...] = (
    (OLD_ROW, (DRIVER, f"{_SAMPLES}/1010_0200_882_96005E0001_test_no_gpu.swidtag"), ()),
    (OLD_ROW, (DRIVER, f"{_SAMPLES}/1010_0200_882_96005E0001_PROD.swidtag"), (1, 2, 3, 9)),
    (
        OLD_ROW,
        (DRIVER, f"{_SDK}/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml"),
        (1, 2, 3, 9),
    ),
    (
        SWITCH_ROW,
        (f"{_SDK}/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml",),
        (),
    ),
    (
        SWITCH_ROW,
        (f"{_SDK}/NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml",),
        (0, 1),
    ),
)


def their_comparison(peer: Peer, vectors: Path, row: FileRow, names: tuple[str, ...]) -> Any:
    rims = [
        {
            "name": "driver" if len(names) == 2 and at == 0 else "vbios",
            "content": (vectors / "nvidia" / name).read_text("utf-8"),
        }
        for at, name in enumerate(names)
    ]
    report = from_file(vectors, row).device.report.hex()
    return peer.ask("compare", arch=row.claimed, report=report, rims=rims)


def our_comparison(
    vectors: Path, row: FileRow, names: tuple[str, ...], *, skip: bool
) -> tuple[int, ...]:
    rims = [parse_rim((vectors / "nvidia" / name).read_bytes()) for name in names]
    report = parse_attestation_report(from_file(vectors, row).device.report)
    runtime = {each.index: each.value for each in report.measurements}
    driver = rims[0] if len(rims) == 2 else None
    result = compare_measurements(runtime, driver, rims[-1], nvdec0_disabled=skip)
    return tuple(each.index for each in result.mismatched)


@pytest.mark.parametrize("case", COMPARISONS, ids=lambda case: case[1][-1].rpartition("/")[2])
def test_the_same_measurements_mismatch(
    vectors: Path, peer: Peer, case: tuple[FileRow, tuple[str, ...], tuple[int, ...]]
) -> None:
    row, names, expected = case
    require(peer, row.claimed)
    theirs = their_comparison(peer, vectors, row, names)
    assert theirs == {"matches": not expected, "mismatched": list(expected)}
    for skip in (False, True):
        assert our_comparison(vectors, row, names, skip=skip) == expected


def test_difference_nvdec0(vectors: Path, peer: Peer) -> None:
    """`nvdec0-skip`: they mean to skip index 35, but compare bytes with an enumeration member."""
    names = COMPARISONS[0][1]
    device = from_file(vectors, OLD_ROW).device
    at = 45 + 55 * 35 + 7
    data = device.report[:at] + bytes(48) + device.report[at + 48 :]
    report = parse_attestation_report(data)
    assert parse_gpu_opaque_data(report.opaque_data).nvdec0_enabled is False
    rims = [
        {"name": kind, "content": (vectors / "nvidia" / name).read_text("utf-8")}
        for kind, name in zip(("driver", "vbios"), names, strict=True)
    ]
    theirs = peer.ask("compare", arch="HOPPER", report=data.hex(), rims=rims)
    assert theirs["mismatched"] == [35]
    driver, vbios = (parse_rim((vectors / "nvidia" / name).read_bytes()) for name in names)
    runtime = {each.index: each.value for each in report.measurements}
    result = compare_measurements(runtime, driver, vbios, nvdec0_disabled=True)
    assert result.problem is None
    assert result.skipped == (35,)


# --- the page ------------------------------------------------------------------------------------

OTHER_DIFFERENCES = (
    "fwid-not-stated", "chain-architecture", "rim-signer-expired", "nvdec0-skip", *UNSIGNED_XML,
)  # fmt: skip


def test_every_difference_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "differences.md").read_text()
    for name in (*DIFFERENCES, *OTHER_DIFFERENCES):
        assert f"`{name}`" in text, name
