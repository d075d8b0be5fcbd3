"""Simulated device reports: the fields of real ones, any value of each, and defects."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import EvidenceError, UsageError
from ccverify.nvidia.opaque import (
    GpuMode,
    parse_gpu_opaque_data,
    parse_switch_opaque_data,
)
from ccverify.nvidia.spdm import decode_report_text, parse_attestation_report
from ccverify.sim.nvidia import (
    GpuFields,
    MeasurementBlock,
    ReportSpec,
    SimNode,
    SwitchFields,
)

NODE = SimNode.hopper_ppcie()
GPU, SWITCH = NODE.gpus[0], NODE.switches[0]
SINGLE = SimNode.hopper_spt().gpus[0]
B200 = SimNode.blackwell("MPT", 1).gpus[0]
RTX = SimNode.blackwell("SPT", 1, "GB20X").gpus[0]


def fields_of(report: ReportSpec | bytes) -> list[tuple[int, bytes]]:
    """The opaque fields of a report, as the verifier splits them."""
    data = report if isinstance(report, bytes) else report.encode()
    parsed = parse_attestation_report(data)
    parse = parse_switch_opaque_data if len(parsed.measurements) < 64 else parse_gpu_opaque_data
    opaque = parse(parsed.opaque_data)
    assert opaque.unknown == ()
    return [(one.type, one.data) for one in opaque.fields]


def gpu_opaque(report: ReportSpec) -> Any:
    return parse_gpu_opaque_data(parse_attestation_report(report.encode()).opaque_data)


# --- as real ones --------------------------------------------------------------------------------


@cache
def real(vectors: Path, name: str) -> bytes:
    if name.startswith("ppcie"):
        kind, number = name.split("/")[1:]
        folder = vectors / "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"
        items = json.loads((folder / f"{kind}_evidence.json").read_text("utf-8"))
        return base64.b64decode(items[int(number)]["evidence"])
    return decode_report_text((vectors / "nvidia" / name).read_bytes())


COUNTERPARTS = {
    "Hopper PPCIE": (GPU, "ppcie/gpu/0"),
    "Hopper SPT": (SINGLE, "hopper/attestation-sdk-testdata/hopperAttestationReport.txt"),
    "LS10": (SWITCH, "ppcie/switch/0"),
    "GB20X": (RTX, "blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt"),
}


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_reports_have_the_fields_of_real_ones(name: str, vectors: Path) -> None:
    device, counterpart = COUNTERPARTS[name]
    theirs = real(vectors, counterpart)
    mine = device.report.encode()
    # Driver versions are texts of different length.
    shape = [(own, len(data) if own != 3 else 0) for own, data in fields_of(mine)]
    assert shape == [(own, len(data) if own != 3 else 0) for own, data in fields_of(theirs)]
    if name != "Hopper SPT":
        assert len(mine) == len(theirs)
    # Header, and every byte of the blocks but their values.
    assert mine[:4] == theirs[:4]
    assert mine[36:45] == theirs[36:45]
    for at in range(45, 45 + 55 * theirs[41], 55):
        assert mine[at : at + 7] == theirs[at : at + 7]
    # What is not of one device alone is the same.
    same = {4, 11, 13, 16, 21, 23, 25, 33, 34, 35, 36}
    assert {own: data for own, data in fields_of(mine) if own in same} == {
        own: data for own, data in fields_of(theirs) if own in same
    }
    # Index 12 of a GPU (block 13) and a few of a switch depend on its state.
    zero = [
        {one.index for one in parse_attestation_report(own).measurements if not any(one.value)}
        for own in (mine, theirs)
    ]
    assert zero[0] ^ zero[1] <= {13}


def test_gb100_of_a_later_driver_than_the_real_one(vectors: Path) -> None:
    """The one public GB100 report is older than FEATURE_FLAG; all else is in the same order."""
    name = "blackwell-gb100/attestation-sdk-sample/blackwellAttestationReport.txt"
    older = [own for own, _ in fields_of(real(vectors, name))]
    newer = [own for own, _ in fields_of(B200.report)]
    assert [own for own in newer if own not in (35, 36)] == older


# --- anything goes -------------------------------------------------------------------------------


_PDI = st.binary(min_size=8, max_size=8)
_WORD = st.text("ABCDEFGHIJ0123456789.", min_size=1, max_size=4)


@given(
    st.binary(min_size=32, max_size=32),
    st.lists(st.binary(min_size=48, max_size=48), min_size=1, max_size=70),
    st.lists(_PDI, min_size=18, max_size=18).map(tuple),
    _WORD,
    st.sampled_from(["SPT", "MPT", "PPCIE", None]),
    st.booleans(),
)
def test_any_gpu_reads_back(
    nonce: bytes,
    values: list[bytes],
    pdis: tuple[bytes, ...],
    word: str,
    mode: str | None,
    enabled: bool,
) -> None:
    blocks = tuple(MeasurementBlock(at + 1, value) for at, value in enumerate(values))
    assert isinstance(GPU.report.opaque, GpuFields)
    opaque = replace(
        GPU.report.opaque,
        switch_pdis=pdis,
        project=word,
        driver_version=word,
        nvdec0_enabled=enabled,
    ).in_mode(mode)
    report = replace(GPU.report, nonce=nonce, blocks=blocks, opaque=opaque)
    parsed = parse_attestation_report(report.encode())
    assert parsed.nonce == nonce
    assert [one.value for one in parsed.measurements] == values
    read = gpu_opaque(report)
    assert (read.project, read.driver_version, read.nvdec0_enabled) == (word, word, enabled)
    assert read.switch_pdis == (pdis if mode == "PPCIE" else None)
    expected = {"SPT": GpuMode.SPT, "MPT": GpuMode.MPT, "PPCIE": GpuMode.PROTECTED_PCIE}
    assert read.mode is (None if mode is None else expected[mode])
    assert read.mode_reading.problem is None


@given(
    _PDI,
    st.lists(_PDI, min_size=8, max_size=8).map(tuple),
    st.binary(min_size=64, max_size=64),
    st.integers(0, 0xFFFF),
    st.integers(0, 3),
)
def test_any_switch_reads_back(
    pdi: bytes, pdis: tuple[bytes, ...], ports: bytes, position: int, lock: int
) -> None:
    device = SWITCH.with_fields(
        device_pdi=pdi, gpu_pdis=pdis, ports=ports, position=position, lock_status=lock
    )
    data = parse_attestation_report(device.report.encode()).opaque_data
    read = parse_switch_opaque_data(data)
    assert read.gpu_pdis is not None
    assert (read.device_pdi, read.gpu_pdis.pdis, read.gpu_pdis.ports) == (pdi, pdis, ports)
    assert (read.position_id, read.locked) == (position, lock == 1)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=12))
def test_raw_fields_are_written_as_they_are(pairs: list[tuple[int, bytes]]) -> None:
    report = replace(GPU.report, opaque=tuple(pairs))
    expected = b"".join(
        own.to_bytes(2, "little") + len(data).to_bytes(2, "little") + data for own, data in pairs
    )
    assert report.opaque_data() == expected


def test_every_typed_field_can_be_left_out() -> None:
    for device in (GPU, B200, SWITCH):
        opaque = device.report.opaque
        assert not isinstance(opaque, tuple)
        types = [own for own, _ in opaque.fields()]
        names = [
            name
            for name in type(opaque).__dataclass_fields__
            if getattr(opaque, name) is not None and name not in ("overrides", "extra", "ports")
        ]
        left = []
        for name in names:
            less = device.with_fields(**{name: None}).report.opaque
            assert not isinstance(less, tuple)
            left.append(set(types) - {own for own, _ in less.fields()})
        assert all(len(one) == 1 for one in left)
        assert set().union(*left) == set(types)


def test_raw_overrides_replace_in_place_and_extra_repeats() -> None:
    assert isinstance(GPU.report.opaque, GpuFields)
    before = GPU.report.opaque.fields()
    after = replace(GPU.report.opaque, overrides=((36, b"\x09\x00"), (77, b"x"))).fields()
    assert [own for own, _ in after] == [*(own for own, _ in before), 77]
    assert dict(after)[36] == b"\x09\x00"
    with pytest.raises(UsageError, match="raw opaque data"):
        GPU.with_report(opaque=((1, b""),)).with_fields(fwid=None)


# --- defects -------------------------------------------------------------------------------------


def _defects() -> Iterator[tuple[str, ReportSpec, str]]:
    report, blocks = GPU.report, GPU.report.blocks
    yield "version", replace(report, request_version=0x12), "wrong SPDMVersion"
    yield "request", replace(report, request_code=0xE1), "wrong RequestResponseCode"
    yield "no signature asked", replace(report, request_param1=0), "wrong Param1"
    yield "one block asked", replace(report, request_param2=1), "wrong Param2"
    yield "slot", replace(report, slot=1), "wrong SlotIDParam"
    yield "response version", replace(report, response_version=0x10), "wrong SPDMVersion"
    yield "response", replace(report, response_code=0x61), "wrong RequestResponseCode"
    yield "error", replace(report, response_code=0x7F), "SPDM error"
    yield "reserved 1", replace(report, response_param1=1), "wrong Param1"
    yield "reserved 2", replace(report, response_param2=1), "wrong Param2"
    yield "no blocks", replace(report, blocks=()), "no measurements"
    yield "count", replace(report, block_count=63), "does not fit NumberOfBlocks"
    yield "record", replace(report, record_bytes=3521), "does not fit NumberOfBlocks"
    yield "block twice", replace(report, blocks=(*blocks[1:], blocks[5])), "appears twice"
    zero = replace(blocks[0], index=0)
    yield "block zero", replace(report, blocks=(zero, *blocks[1:])), "index is zero"
    for name, changes, message in (
        ("specification", {"specification": 2}, "wrong MeasurementSpecification"),
        ("size", {"size": 50}, "wrong MeasurementSize"),
        ("type", {"value_type": 0x81}, "wrong DMTFSpecMeasurementValueType"),
        ("value size", {"value_size": 47}, "wrong DMTFSpecMeasurementValueSize"),
    ):
        changed = replace(blocks[0], **changes)  # type: ignore[arg-type]
        yield f"block {name}", replace(report, blocks=(changed, *blocks[1:])), message
    yield "no opaque data", replace(report, opaque_raw=b""), "length of the opaque data"
    yield "opaque length", replace(report, opaque_bytes=1025), "length of the opaque data"
    yield "opaque shorter", replace(report, opaque_bytes=9), "bytes after the signature"
    yield "signature cut", replace(report, signature=bytes(95)), "ends inside its signature"
    yield "trailing", replace(report, trailing=b"\0"), "bytes after the signature"


DEFECTS = {name: (report, message) for name, report, message in _defects()}


@pytest.mark.parametrize("name", DEFECTS)
def test_defective_reports_are_refused_for_their_reason(name: str) -> None:
    report, message = DEFECTS[name]
    with pytest.raises(EvidenceError, match=message):
        parse_attestation_report(report.encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": ((20, bytes(48)),)}, "holds FWID twice"),
        ({"fwid": bytes(47)}, "wrong size of FWID"),
        ({"feature_flag": 3}, "FEATURE_FLAG is not what it should be"),
        ({"opaque_data_version": 2}, "OPAQUE_DATA_VERSION is not what it should be"),
        ({"overrides": ((11, b"\x00"),)}, "NVDEC0_STATUS is not what it should be"),
        ({"switch_pdis": (bytes(8),) * 17}, "wrong size of SWITCH_PDI"),
        ({"measurement_counts": (0,) * 63}, "wrong size of MSRSCNT"),
        ({"driver_version": "590 12"}, "DRIVER_VERSION is not what it should be"),
        ({"project": ""}, "PROJECT is not what it should be"),
    ],
)
def test_defective_fields_are_refused_for_their_reason(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvidenceError, match=message):
        gpu_opaque(GPU.with_fields(**changes).report)


def test_contradictions_are_parsed_and_named() -> None:
    device = GPU.with_fields(protected_pcie=False)
    assert "PROTECTED_PCIE_STATUS says disabled" in gpu_opaque(device.report).mode_reading.problem
    device = GPU.with_fields(opaque_data_version=0)
    assert "calls for OPAQUE_DATA_VERSION 1" in gpu_opaque(device.report).mode_reading.problem


def test_old_switch_firmware_lists_its_gpus_under_another_number() -> None:
    opaque = SWITCH.report.opaque
    assert isinstance(opaque, SwitchFields)
    listed = dict(opaque.fields())[26]
    older = SWITCH.with_fields(gpu_pdis=None, overrides=((4, listed),))
    data = parse_attestation_report(older.report.encode()).opaque_data
    read = parse_switch_opaque_data(data)
    assert read.gpu_pdis is not None
    assert set(read.gpu_pdis.pdis) == {one.pdi for one in NODE.gpus}
