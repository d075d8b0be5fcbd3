"""Opaque data of NVIDIA reports: each field decoded by its table, the rest kept, mode derived."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_nv_spdm import PADDED, evidence_of, genuine, is_switch, load, report_of

from ccverify.errors import EvidenceError
from ccverify.nvidia.opaque import (
    GPU_FIELDS,
    SWITCH_FIELDS,
    UNSAID,
    Architecture,
    GpuMode,
    GpuOpaqueData,
    RawField,
    SwitchOpaqueData,
    gpu_field_name,
    parse_gpu_opaque_data,
    parse_switch_opaque_data,
    switch_field_name,
)
from ccverify.nvidia.opaque_fields import FieldRule, Sizes
from ccverify.nvidia.spdm import MAX_OPAQUE_BYTES, parse_attestation_report
from ccverify.trust.x509 import parse_pem_chain

Parser = Callable[[bytes], GpuOpaqueData | SwitchOpaqueData]
PARSERS: dict[str, Parser] = {"gpu": parse_gpu_opaque_data, "switch": parse_switch_opaque_data}
TABLES = {"gpu": GPU_FIELDS, "switch": SWITCH_FIELDS}
BOTH = pytest.mark.parametrize("kind", PARSERS)

# One well-formed value of every known field.
GPU_VALUES = {
    3: b"590.12\0",
    4: bytes.fromhex("8001000000000000"),
    6: bytes.fromhex("00a5009601000000"),
    11: b"\xaa",
    12: struct.pack("<64I", *range(64)),
    13: bytes.fromhex("00c00100"),
    14: bytes.fromhex("37040000"),
    15: b"885\0\0\0\0\0\0",
    16: b"0\0\0\0\0",
    17: b"G520\0",
    18: b"0200\0",
    19: b"\0\0",
    20: bytes(range(48)),
    21: b"\xaa",
    22: b"".join(struct.pack("<Q", at) for at in range(18)),
    33: b"\7\7",
    34: b"\1\0",
    35: b"GB202\0",
    36: b"\2\0",
}
PORTS = bytes(range(8)) * 4 + b"\xff" * 32
SWITCH_VALUES = {
    6: b"96.10.55.00.01",
    12: struct.pack("<27I", *range(27)),
    22: bytes.fromhex("203eb31ad9ed0008"),
    23: bytes.fromhex("ec00"),
    24: b"\2\0",
    25: b"\1\0",
    26: bytes(range(64)) + PORTS,
}
VALUES = {"gpu": GPU_VALUES, "switch": SWITCH_VALUES}


def encode(values: dict[int, bytes] | list[tuple[int, bytes]]) -> bytes:
    pairs = values.items() if isinstance(values, dict) else values
    return b"".join(struct.pack("<HH", kind, len(data)) + data for kind, data in pairs)


def gpu(**changes: bytes | None) -> GpuOpaqueData:
    """Parse the GPU fields named (`t36=...`), the others as in GPU_VALUES; None leaves one out."""
    numbers = {int(name[1:]): data for name, data in changes.items()}
    return parse_gpu_opaque_data(
        encode({k: v for k, v in {**GPU_VALUES, **numbers}.items() if v is not None})
    )


def refused(kind: str, data: bytes, message: str) -> EvidenceError:
    with pytest.raises(EvidenceError, match=message) as caught:
        PARSERS[kind](data)
    assert caught.value.expected
    assert caught.value.found
    return caught.value


# --- tables ---------------------------------------------------------------------------------------


@BOTH
def test_tables_and_results_agree(kind: str) -> None:
    table = TABLES[kind]
    assert len({rule.type for rule in table}) == len(table)
    result = GpuOpaqueData if kind == "gpu" else SwitchOpaqueData
    attributes = {one.name for one in dataclass_fields(result)} - {"fields", "unknown"}
    assert {rule.attribute for rule in table} == attributes
    for rule in table:
        assert rule.meaning
        assert rule.architectures
    assert set(VALUES[kind]) == {rule.type for rule in table} - ({4} if kind == "switch" else set())


@pytest.mark.parametrize(
    ("sizes", "allowed", "text"),
    [
        (Sizes(8, 8), {8}, "8 bytes"),
        (Sizes(2, 4), {2, 3, 4}, "2 to 4 bytes"),
        (Sizes(4, 12, 4), {4, 8, 12}, "4 to 12 bytes, a multiple of 4"),
    ],
)
def test_sizes(sizes: Sizes, allowed: set[int], text: str) -> None:
    assert {size for size in range(-1, 20) if sizes.allow(size)} == allowed
    assert str(sizes) == text


def test_names() -> None:
    assert gpu_field_name(22) == "SWITCH_PDI"
    assert gpu_field_name(32) == "GPU_LINK_CONN"
    assert gpu_field_name(26) == "TYPE_26"
    assert switch_field_name(22) == "DEVICE_PDI"
    assert switch_field_name(20) == "FWID"
    assert switch_field_name(33) == "TYPE_33"


def test_what_a_report_cannot_say_is_listed() -> None:
    topics = [one.topic for one in UNSAID]
    assert topics == [
        "cc-mode", "devtools", "nvlink-encryption", "fabric-peers", "attached-machine",
    ]  # fmt: skip
    # None of it has a field that could say it.
    names = " ".join(rule.name for rule in GPU_FIELDS)
    assert not re.search("CC_MODE|DEVTOOL|NVLINK|NVLE|PARTITION", names)


# --- values ---------------------------------------------------------------------------------------


def test_every_gpu_field_is_decoded() -> None:
    data = gpu()
    assert data.fields == tuple(RawField(*pair) for pair in GPU_VALUES.items())
    assert data.unknown == ()
    assert data.driver_version == "590.12"
    assert data.gpu_info == GPU_VALUES[4]
    assert data.vbios_version == "96.00.A5.00.01"
    assert data.nvdec0_enabled is True
    assert data.measurement_counts == tuple(range(64))
    assert data.cpr_info == GPU_VALUES[13]
    assert data.board_id == GPU_VALUES[14]
    assert (data.chip_sku, data.chip_sku_mod) == ("885", "0")
    assert (data.project, data.project_sku, data.project_sku_mod) == ("G520", "0200", "")
    assert data.fwid == bytes(range(48))
    assert data.protected_pcie is True
    assert data.switch_pdis == tuple(struct.pack(">Q", at) for at in range(18))
    assert data.sys_enable_status == b"\7\7"
    assert data.opaque_data_version == 1
    assert data.chip_info == "GB202"
    assert data.feature_flag is GpuMode.PROTECTED_PCIE


def test_every_switch_field_is_decoded() -> None:
    data = parse_switch_opaque_data(encode(SWITCH_VALUES))
    assert data.fields == tuple(RawField(*pair) for pair in SWITCH_VALUES.items())
    assert data.unknown == ()
    assert data.vbios_version == "96.10.55.00.01"
    assert data.measurement_counts == tuple(range(27))
    assert data.device_pdi == SWITCH_VALUES[22]
    assert data.disabled_ports == SWITCH_VALUES[23]
    assert data.position_id == 2
    assert data.lock_status == 1
    assert data.gpu_pdis is not None
    assert data.gpu_pdis.pdis == tuple(bytes(range(at, at + 8)) for at in range(0, 64, 8))
    assert data.gpu_pdis.ports == PORTS


@BOTH
def test_order_does_not_matter_and_is_kept(kind: str) -> None:
    values = list(VALUES[kind].items())
    there, back = PARSERS[kind](encode(values)), PARSERS[kind](encode(values[::-1]))
    assert back.fields == there.fields[::-1]
    for rule in TABLES[kind]:
        assert getattr(back, rule.attribute) == getattr(there, rule.attribute)


@BOTH
def test_absent_fields_are_none(kind: str) -> None:
    for number, value in VALUES[kind].items():
        data = PARSERS[kind](encode({number: value}))
        (rule,) = (one for one in TABLES[kind] if one.type == number)
        for other in TABLES[kind]:
            absent = getattr(data, other.attribute) is None
            assert absent == (other.attribute != rule.attribute)


@BOTH
def test_unknown_fields_are_kept(kind: str) -> None:
    extra = [(0, b""), (1, b"issuer"), (255, b"x"), (256 + 36, b"\1\0"), (65535, bytes(40))]
    data = PARSERS[kind](encode([*extra[:2], *VALUES[kind].items(), *extra[2:]]))
    assert data.unknown == tuple(RawField(*pair) for pair in extra)
    assert len(data.fields) == len(extra) + len(VALUES[kind])


def test_fields_of_the_other_kind_are_unknown() -> None:
    assert [one.type for one in gpu(t23=b"\xec\0", t26=bytes(128)).unknown] == [23, 26]
    data = parse_switch_opaque_data(encode({**SWITCH_VALUES, 20: bytes(48), 36: b"\1\0"}))
    assert [one.type for one in data.unknown] == [20, 36]


def test_older_switch_firmware_writes_the_gpu_pdis_under_4() -> None:
    old = {4 if number == 26 else number: value for number, value in SWITCH_VALUES.items()}
    new = parse_switch_opaque_data(encode(SWITCH_VALUES))
    assert parse_switch_opaque_data(encode(old)).gpu_pdis == new.gpu_pdis
    refused("switch", encode({**old, 26: SWITCH_VALUES[26]}), "SWITCH_GPU_PDIS twice")
    refused("switch", encode({4: bytes(8)}), "wrong size of SWITCH_GPU_PDIS")


@pytest.mark.parametrize(
    ("status", "locked"), [(b"\1\0", True), (b"\0\0", False), (b"\0\1", False), (b"\1\1", False)]
)
def test_locked_is_one_value(status: bytes, locked: bool) -> None:
    data = parse_switch_opaque_data(encode({25: status}))
    assert data.locked is locked
    assert parse_switch_opaque_data(encode({24: b"\0\0"})).locked is None


@pytest.mark.parametrize(
    ("info", "architecture"),
    [
        ("8001000000000000", Architecture.HOPPER),
        ("a001000000000000", Architecture.BLACKWELL),
        ("b001000002000000", Architecture.BLACKWELL),
        ("7001000000000000", None),
        ("8001010000000000", None),
        ("0000018000000000", None),
    ],
)
def test_gpu_info_names_the_architecture(info: str, architecture: Architecture | None) -> None:
    assert gpu(t4=bytes.fromhex(info)).architecture is architecture
    assert gpu(t4=None).architecture is None


# --- every rule has data that breaks it -----------------------------------------------------------


@BOTH
def test_every_truncation_within_a_field_is_refused(kind: str) -> None:
    data = encode(VALUES[kind])
    ends = set()
    at = 0
    for value in VALUES[kind].values():
        at += 4 + len(value)
        ends.add(at)
    for end in range(1, len(data)):
        if end in ends:
            PARSERS[kind](data[:end])
        else:
            refused(kind, data[:end], "opaque data ends inside its")


@BOTH
def test_no_data_is_refused(kind: str) -> None:
    refused(kind, b"", "wrong length of the opaque data")


@BOTH
def test_data_has_a_limit(kind: str) -> None:
    PARSERS[kind](encode({999: bytes(MAX_OPAQUE_BYTES - 4)}))
    refused(kind, encode({999: bytes(MAX_OPAQUE_BYTES - 3)}), "wrong length")


@BOTH
def test_every_field_twice_is_refused(kind: str) -> None:
    for number, value in [*VALUES[kind].items(), (999, b"kept")]:
        error = refused(kind, encode([*VALUES[kind].items(), (999, b"kept"), (number, value)]), "t")
        assert error.message.endswith(" twice"), error.message
        assert error.found == f"type {number} again"


@BOTH
def test_every_field_has_its_sizes(kind: str) -> None:
    for rule in TABLES[kind]:
        for size in (0, rule.sizes.minimum - 1, rule.sizes.maximum + 1):
            if 0 <= size <= MAX_OPAQUE_BYTES - 4:
                error = refused(
                    kind, encode({rule.type: bytes(size)}), f"wrong size of {rule.name}"
                )
                assert error.expected == str(rule.sizes)
                assert error.found == f"{size} bytes"


def test_a_report_of_one_kind_is_not_one_of_the_other() -> None:
    refused("gpu", encode(SWITCH_VALUES), "wrong size of VBIOS_VERSION")
    refused("switch", encode(GPU_VALUES), "wrong size of SWITCH_GPU_PDIS")


@pytest.mark.parametrize("number", [11, 21])
def test_status_bytes_take_two_values(number: int) -> None:
    for value in range(256):
        data = encode({number: bytes([value])})
        if value in (0xAA, 0x55):
            parsed = parse_gpu_opaque_data(data)
            read = parsed.nvdec0_enabled if number == 11 else parsed.protected_pcie
            assert read is (value == 0xAA)
        else:
            refused("gpu", data, "STATUS is not what it should be")


def test_feature_flags_take_three_values() -> None:
    for value in range(1 << 16):
        if value > 300 and value % 251:
            continue
        data = encode({36: value.to_bytes(2, "little")})
        if value < 3:
            assert parse_gpu_opaque_data(data).feature_flag is tuple(GpuMode)[value]
        else:
            refused("gpu", data, "FEATURE_FLAG is not what it should be")


@pytest.mark.parametrize("value", [2, 3, 256, 65535])
def test_newer_opaque_data_is_refused_before_anything_else_is_read(value: int) -> None:
    later = struct.pack("<H", value)
    error = refused("gpu", encode({6: b"new form", 21: b"?", 34: later}), "OPAQUE_DATA_VERSION")
    assert error.expected == "at most 1: newer firmware is not known"
    assert error.found == str(value)
    assert error.where == "opaque data[21:23]"


BAD_TEXT = [
    b"590.12",
    b"590.12\0.",
    b"590\n12\0",
    b"590 12\0",
    b"\x1b[31m\0",
    b"\xc3\xa9\0",
    b"\x7f\0",
]


@pytest.mark.parametrize("number", [3, 15, 16, 17, 18, 19, 35])
@pytest.mark.parametrize("text", BAD_TEXT)
def test_text_is_printable_and_ends_with_zeros(number: int, text: bytes) -> None:
    refused("gpu", encode({number: text}), f"{gpu_field_name(number)} is not what it should be")


@pytest.mark.parametrize("number", [3, 15, 16, 17, 18, 19, 35])
def test_text_is_not_empty_where_it_names_something(number: int) -> None:
    if number in (16, 19):
        assert parse_gpu_opaque_data(encode({number: b"\0\0"})).fields[0].data == b"\0\0"
    else:
        refused("gpu", encode({number: b"\0\0"}), "is not what it should be")


@pytest.mark.parametrize("text", [b"96.10.55.00\0\0\0", b"96.10.55.00 01", b"96.10.55.00.\xb2\xb3"])
def test_the_switch_bios_version_is_printable_to_its_end(text: bytes) -> None:
    refused("switch", encode({6: text}), "VBIOS_VERSION is not what it should be")


@pytest.mark.parametrize("at", [5, 6, 7])
def test_bytes_the_vbios_version_does_not_show_are_zero(at: int) -> None:
    packed = bytearray(GPU_VALUES[6])
    packed[at] = 1
    refused("gpu", encode({6: bytes(packed)}), "VBIOS_VERSION is not what it should be")


def test_every_byte_of_the_vbios_version_shows() -> None:
    assert gpu(t6=bytes.fromhex("0102abff0f000000")).vbios_version == "FF.AB.02.01.0F"


# --- mode -----------------------------------------------------------------------------------------

SPT, MPT, PPCIE = b"\0\0", b"\1\0", b"\2\0"
ON, OFF = b"\xaa", b"\x55"
V0, V1 = b"\0\0", b"\1\0"


@pytest.mark.parametrize(
    ("flag", "status", "version", "mode"),
    [
        (SPT, None, V1, GpuMode.SPT),
        (SPT, OFF, V1, GpuMode.SPT),
        (MPT, None, V1, GpuMode.MPT),
        (MPT, OFF, V1, GpuMode.MPT),
        (PPCIE, None, V1, GpuMode.PROTECTED_PCIE),
        (PPCIE, ON, V1, GpuMode.PROTECTED_PCIE),
        (None, ON, None, GpuMode.PROTECTED_PCIE),
        (None, ON, V0, GpuMode.PROTECTED_PCIE),
        (None, OFF, None, None),
        (None, None, None, None),
        (None, None, V0, None),
    ],
)
def test_modes(
    flag: bytes | None, status: bytes | None, version: bytes | None, mode: GpuMode | None
) -> None:
    data = gpu(t36=flag, t21=status, t34=version)
    assert data.mode is mode
    assert data.mode_reading.problem is None
    assert data.mode_reading.basis


@pytest.mark.parametrize(
    ("flag", "status", "version", "problem"),
    [
        (SPT, ON, V1, "FEATURE_FLAG says SPT but PROTECTED_PCIE_STATUS says enabled"),
        (MPT, ON, V1, "FEATURE_FLAG says MPT but PROTECTED_PCIE_STATUS says enabled"),
        (PPCIE, OFF, V1, "says PROTECTED_PCIE but PROTECTED_PCIE_STATUS says disabled"),
        (MPT, None, None, "calls for OPAQUE_DATA_VERSION 1, which is absent"),
        (PPCIE, ON, V0, "calls for OPAQUE_DATA_VERSION 1, which is 0"),
        (None, ON, V1, "OPAQUE_DATA_VERSION 1 calls for FEATURE_FLAG, which is absent"),
        (None, None, V1, "OPAQUE_DATA_VERSION 1 calls for FEATURE_FLAG, which is absent"),
    ],
)
def test_contradictions_leave_no_mode(
    flag: bytes | None, status: bytes | None, version: bytes | None, problem: str
) -> None:
    data = gpu(t36=flag, t21=status, t34=version)
    assert data.mode is None
    assert problem in (data.mode_reading.problem or "")


def test_the_basis_of_a_mode_is_told() -> None:
    assert gpu(t21=None).mode_reading.basis == "FEATURE_FLAG says PROTECTED_PCIE"
    assert gpu(t36=MPT, t21=OFF).mode_reading.basis == (
        "FEATURE_FLAG says MPT; PROTECTED_PCIE_STATUS says disabled"
    )
    assert "nothing tells a single GPU" in gpu(t36=None, t21=OFF, t34=None).mode_reading.basis
    assert gpu(t36=None, t21=None, t34=None).mode_reading.basis.startswith("neither")


# --- properties -----------------------------------------------------------------------------------


def parse_or_refuse(kind: str, data: bytes) -> GpuOpaqueData | SwitchOpaqueData | None:
    try:
        parsed = PARSERS[kind](data)
    except EvidenceError:
        return None
    # What was accepted can be put together again from its fields: nothing was overlooked.
    assert encode([*parsed.fields]) == data
    known = {rule.type for rule in TABLES[kind]}
    assert parsed.unknown == tuple(one for one in parsed.fields if one.type not in known)
    if isinstance(parsed, GpuOpaqueData):
        assert parsed.mode_reading.mode is None or parsed.mode_reading.problem is None
        for text in (parsed.driver_version, parsed.chip_info, parsed.project):
            assert text is None or re.fullmatch("[!-~]+", text)
    return parsed


KIND = st.sampled_from(list(PARSERS))


@given(KIND, st.binary(max_size=300))
def test_garbage_never_raises_anything_else(kind: str, data: bytes) -> None:
    parse_or_refuse(kind, data)


def rule_value(rule: FieldRule) -> st.SearchStrategy[tuple[int, bytes]]:
    return st.tuples(
        st.just(rule.type),
        st.binary(max_size=rule.sizes.minimum + 2)
        | st.binary(min_size=rule.sizes.minimum, max_size=rule.sizes.minimum)
        | st.text(max_size=8).map(lambda text: text.encode() + b"\0"),
    )


@settings(max_examples=200)
@given(KIND, st.data())
def test_rows_of_fields_are_decoded_or_refused(kind: str, draws: st.DataObject) -> None:
    one = st.sampled_from(TABLES[kind]).flatmap(rule_value) | st.tuples(
        st.integers(0, 65535), st.binary(max_size=20)
    )
    pairs = draws.draw(st.lists(one, max_size=6))
    parsed = parse_or_refuse(kind, encode(pairs))
    if parsed is not None:
        assert [*parsed.fields] == pairs
        assert len({number for number, _ in pairs}) == len(pairs)


@BOTH
def test_every_bit_flip_is_refused_or_shows(kind: str) -> None:
    data = encode(VALUES[kind])
    accepted = Counter[bool]()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        parsed = parse_or_refuse(kind, bytes(flipped))
        accepted[parsed is not None] += 1
        if parsed is not None:
            assert parsed != PARSERS[kind](data)
    assert accepted[True] > 100
    assert accepted[False] > 100


# --- real evidence --------------------------------------------------------------------------------


def opaque_of(vectors: Path, name: str) -> bytes:
    return parse_attestation_report(report_of(vectors, name)).opaque_data


def real(vectors: Path, kind: str) -> list[GpuOpaqueData] | list[SwitchOpaqueData]:
    reports = {data: name for name, data, _ in genuine(vectors)}
    parsed = []
    for data, name in reports.items():
        report = parse_attestation_report(data)
        if is_switch(report) == (kind == "switch"):
            found = parse_or_refuse(kind, report.opaque_data)
            assert found is not None, name
            parsed.append(found)
    return parsed  # type: ignore[return-value]


@pytest.mark.parametrize(("kind", "number"), [("gpu", 145), ("switch", 6)])
def test_every_real_report_is_decoded_to_the_last_field(
    vectors: Path, kind: str, number: int
) -> None:
    found = real(vectors, kind)
    assert len(found) == number
    assert [one.unknown for one in found if one.unknown] == []


def test_the_tables_know_where_each_field_was_seen(vectors: Path) -> None:
    """A field's architectures are those of the real reports that hold it, no more, no fewer."""
    seen: dict[int, set[Architecture]] = {}
    for data in real(vectors, "gpu"):
        assert isinstance(data, GpuOpaqueData)
        assert data.architecture is not None
        for field in data.fields:
            seen.setdefault(field.type, set()).add(data.architecture)
    assert seen == {rule.type: set(rule.architectures) for rule in GPU_FIELDS}
    types = {field.type for data in real(vectors, "switch") for field in data.fields}
    assert types == {rule.type for rule in SWITCH_FIELDS}


def test_gpu_info_agrees_with_the_certificates(vectors: Path) -> None:
    prefixes = {"GH100": Architecture.HOPPER, "GB": Architecture.BLACKWELL}
    for name, data, pem in genuine(vectors):
        report = parse_attestation_report(data)
        if is_switch(report) or pem is None:
            continue
        leaf = parse_pem_chain(pem.rstrip(b"\0"))[0].common_name or ""
        expected = next(arch for prefix, arch in prefixes.items() if leaf.startswith(prefix))
        assert parse_gpu_opaque_data(report.opaque_data).architecture is expected, name


def test_modes_of_real_reports(vectors: Path) -> None:
    modes: Counter[tuple[str, str | None]] = Counter()
    for data in real(vectors, "gpu"):
        assert isinstance(data, GpuOpaqueData)
        assert data.mode_reading.problem is None
        modes[data.driver_version or "", data.mode and data.mode.value] += 1
    assert modes == {
        ("545.00", None): 1,
        ("550.90.07", None): 1,
        ("570.86.10", None): 1,
        ("575.32", None): 1,
        ("570.172.08", "PROTECTED_PCIE"): 32,
        ("580.159.03", "SPT"): 1,
        ("580.95.05", "SPT"): 1,
        ("595.58.03", "SPT"): 1,
        ("590.12", "PROTECTED_PCIE"): 10,
        ("595.71.05", "PROTECTED_PCIE"): 96,
    }


NODE = "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"


def test_pdis_have_one_byte_order_on_both_sides_and_in_certificates(vectors: Path) -> None:
    """On one HGX H100 board: GPUs and switches name each other by the serials of their chains."""
    serials: dict[str, set[bytes]] = {"gpu": set(), "switch": set()}
    named: dict[str, list[set[bytes]]] = {"gpu": [], "switch": []}
    positions = []
    for kind in serials:
        for _, data, pem in evidence_of(vectors, f"{NODE}/{kind}_evidence.json"):
            assert pem
            serial = parse_pem_chain(pem)[1].serial.to_bytes(9, "big")
            assert serial[0] == (0x41 if kind == "gpu" else 0x50)
            serials[kind].add(serial[1:])
            found = PARSERS[kind](parse_attestation_report(data).opaque_data)
            if isinstance(found, GpuOpaqueData):
                assert found.switch_pdis is not None
                named["switch"].append(set(found.switch_pdis))
            else:
                assert found.gpu_pdis is not None
                assert found.device_pdi == serial[1:]
                assert found.locked
                named["gpu"].append(set(found.gpu_pdis.pdis))
                positions.append(found.position_id)
    assert len(serials["gpu"]) == 8
    assert len(serials["switch"]) == 4
    assert named["gpu"] == [serials["gpu"]] * 4
    assert named["switch"] == [serials["switch"]] * 8
    assert sorted(positions, key=str) == [0, 1, 2, 3]


def test_which_bit_of_disabled_ports_is_which_is_open(vectors: Path) -> None:
    """NVIDIA's verifier counts bits from the top of each byte; then disabled ports have GPUs."""
    for data in real(vectors, "switch"):
        assert isinstance(data, SwitchOpaqueData)
        assert data.disabled_ports == b"\xec\0"
        assert data.gpu_pdis is not None
    connected = [
        {at // 4 for at, port in enumerate(data.gpu_pdis.ports) if port != 0xFF}
        for data in real(vectors, "switch")
        if isinstance(data, SwitchOpaqueData) and data.gpu_pdis
    ]
    from_the_top, from_the_bottom = {0, 1, 2, 4, 5}, {2, 3, 5, 6, 7}
    assert any(groups & from_the_top for groups in connected)
    assert not any(groups & from_the_bottom for groups in connected)


# --- against NVIDIA's and Trustee's parsers -------------------------------------------------------

SDK = "hopper/attestation-sdk-testdata"
SWITCH_SDK = "ls10/attestation-sdk-testdata"
TRUSTEE = "hopper/trustee"
PR1551 = "blackwell-gb202/trustee-pr1551"

# File and field → why it is not in NVIDIA's expected output although the report holds it.
NOT_IN_NVIDIAS_OUTPUT = {
    (f"{SDK}/spdm_parsed_output.json", "OPAQUE_DATA_VERSION"): "the file lists older fields only",
    (f"{SDK}/spdm_parsed_output.json", "FEATURE_FLAG"): "the file lists older fields only",
}
# NVIDIA's parser makes two entries of field 26.
SPLIT = "SWITCH_PORT"


def nvidia_form(rule: FieldRule, data: bytes) -> dict[str, Any]:
    """One field as NVIDIA's parser puts it into JSON."""
    name = f"OPAQUE_FIELD_ID_{rule.name}"
    if rule.name == "MSRSCNT":
        return {name: [count for (count,) in struct.iter_unpack("<I", data)]}
    if rule.name == "DISABLED_PORTS":
        bits = "".join(f"{byte:08b}" for byte in data)
        return {name: [int(bit) for bit in bits for _ in range(4)]}
    if rule.name == "SWITCH_GPU_PDIS":
        pdis = [f"0x{data[at : at + 8].hex()}" for at in range(0, 64, 8)]
        ports = [f"0x{port:02x}" for port in data[64:]]
        return {name: pdis, f"OPAQUE_FIELD_ID_{SPLIT}": ports}
    return {name: f"0x{data.hex()}"}


@pytest.mark.parametrize(
    ("kind", "name", "report"),
    [
        ("gpu", f"{SDK}/spdm_parsed_output.json", f"{SDK}/hopperAttestationReport.txt"),
        (
            "switch",
            f"{SWITCH_SDK}/switch_spdm_parsed_output.json",
            f"{SWITCH_SDK}/switchAttestationReport.txt",
        ),
    ],
)
def test_fields_as_nvidia_parses_them(vectors: Path, kind: str, name: str, report: str) -> None:
    ours: dict[str, Any] = {}
    rules = {rule.type: rule for rule in TABLES[kind]}
    for number, data in PARSERS[kind](opaque_of(vectors, report)).fields:
        if (name, rules[number].name) not in NOT_IN_NVIDIAS_OUTPUT:
            ours.update(nvidia_form(rules[number], data))
    assert ours == load(vectors, name)["OpaqueData"]["OpaqueDataField"]


def text_output(vectors: Path, name: str) -> dict[str, Any]:
    """NVIDIA's line-by-line output: field → value, or list of values."""
    found: dict[str, Any] = {}
    line = re.compile(r".*OpaqueDataField\['(\w+)'\](?:\[\d+\])? = (\S+)")
    for match in map(line.fullmatch, (vectors / "nvidia" / name).read_text("utf-8").splitlines()):
        if match is not None:
            found.setdefault(match[1], []).append(match[2])
    return found


@pytest.mark.parametrize(
    ("kind", "name", "report"),
    [
        # The file was made from the report of nvtrust, not from the one beside it.
        (
            "gpu",
            f"{SDK}/spdm_parsed_output.txt",
            "hopper/nvtrust-local-gpu-verifier/hopperAttestationReport.txt",
        ),
        (
            "switch",
            f"{SWITCH_SDK}/switch_spdm_parsed_output.txt",
            f"{SWITCH_SDK}/switchAttestationReport.txt",
        ),
    ],
)
def test_fields_as_nvidia_prints_them(vectors: Path, kind: str, name: str, report: str) -> None:
    ours: dict[str, Any] = {}
    rules = {rule.type: rule for rule in TABLES[kind]}
    for number, data in PARSERS[kind](opaque_of(vectors, report)).fields:
        for key, value in nvidia_form(rules[number], data).items():
            ours[key] = [str(one) for one in value] if isinstance(value, list) else [value]
    assert ours == text_output(vectors, name)


# Trustee's name → ours and how its value is written.
TRUSTEE_FIELDS: dict[str, Callable[[GpuOpaqueData], Any]] = {
    "board_id": lambda data: (data.board_id or b"").hex(),
    "chip_info": lambda data: data.chip_info,
    "chip_sku": lambda data: data.chip_sku,
    "chip_sku_mod": lambda data: data.chip_sku_mod,
    "cpr_info": lambda data: (data.cpr_info or b"").hex(),
    "driver_version": lambda data: data.driver_version,
    "feature_flag": lambda data: data.feature_flag and data.feature_flag.value,
    "fwid": lambda data: (data.fwid or b"").hex(),
    "gpu_info": lambda data: (data.gpu_info or b"").hex(),
    "measurement_count": lambda data: {
        str(at): count for at, count in enumerate(data.measurement_counts or (), 1)
    },
    "nvdec0_status": lambda data: "enabled" if data.nvdec0_enabled else "disabled",
    "opaque_data_version": lambda data: data.opaque_data_version,
    "project": lambda data: data.project,
    "project_sku": lambda data: data.project_sku,
    "project_sku_mod": lambda data: data.project_sku_mod,
    "protected_pcie_status": lambda data: "enabled" if data.protected_pcie else "disabled",
    "sys_enable_status": lambda data: (data.sys_enable_status or b"").hex(),
    "vbios_version": lambda data: data.vbios_version,
}
# Claims file and field → (their value, our value, reason).
TRUSTEE_DIFFERENCES: dict[str, dict[str, tuple[Any, Any, str]]] = {
    f"{TRUSTEE}/hopperAttestationReport-claims.txt": {
        "nvdec0_status": ("U", "disabled", "older Trustee shows the byte 0x55 as text"),
        "protected_pcie_status": ("U", "disabled", "Trustee shows the byte 0x55 as text"),
        "project_sku_mod": ("0000", "", "Trustee shows the bytes of this text in hex"),
        "vbios_version": ("96.00.9f.00.01", "96.00.9F.00.01", "NVIDIA writes upper case"),
    },
    f"{PR1551}/blackwellAttestationReport-claims.txt": {
        "project_sku_mod": ("3000", "0", "Trustee shows the bytes of this text in hex"),
    },
}


@pytest.mark.parametrize("name", TRUSTEE_DIFFERENCES)
def test_fields_as_trustee_parses_them(vectors: Path, name: str) -> None:
    claims = load(vectors, name)
    data = parse_gpu_opaque_data(opaque_of(vectors, name.replace("-claims", "")))
    theirs = claims["config"]
    ours = {field: TRUSTEE_FIELDS[field](data) for field in theirs}
    differences = {
        field: (theirs[field], ours[field]) for field in theirs if theirs[field] != ours[field]
    }
    assert differences == {field: pair[:2] for field, pair in TRUSTEE_DIFFERENCES[name].items()}
    assert len(theirs) == len(data.fields)
    assert data.architecture is Architecture(claims["arch"].upper())


def test_the_padded_report_is_complete_without_its_padding(vectors: Path) -> None:
    report = parse_attestation_report(report_of(vectors, PADDED)[:-1])
    data = parse_gpu_opaque_data(report.opaque_data)
    assert data.driver_version == "580.95.05"
    assert data.vbios_version == "96.00.74.00.1A"
    assert data.mode is GpuMode.SPT


def test_json_of_expected_outputs_is_what_it_was(vectors: Path) -> None:
    """The listed differences are real: the fields are in the report, and not in the file."""
    for name, field in NOT_IN_NVIDIAS_OUTPUT:
        text = (vectors / "nvidia" / name).read_text("utf-8")
        assert f"OPAQUE_FIELD_ID_{field}" not in json.loads(text)["OpaqueData"]["OpaqueDataField"]
        report = parse_gpu_opaque_data(opaque_of(vectors, f"{SDK}/hopperAttestationReport.txt"))
        assert field in {gpu_field_name(one.type) for one in report.fields}
