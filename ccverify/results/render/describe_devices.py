"""Reports of NVIDIA GPUs and NVSwitches → `Inspection`, driven by the tables of their formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import groupby
from typing import Any

from ccverify.errors import EvidenceError
from ccverify.nvidia.gpu import mode_name
from ccverify.nvidia.opaque import (
    GPU_FIELDS,
    SWITCH_FIELDS,
    UNSAID,
    GpuOpaqueData,
    SwitchOpaqueData,
    gpu_field_name,
    parse_gpu_opaque_data,
    parse_switch_opaque_data,
    switch_field_name,
)
from ccverify.nvidia.opaque_fields import Architecture, FieldRule, SwitchGpuPdis
from ccverify.nvidia.spdm import (
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    AttestationReport,
    FixedField,
)
from ccverify.results.render.describe_certificates import unreadable
from ccverify.results.render.inspection import Inspection, Item, Listing, Part, Section

__all__ = ["OpaqueData", "describe_report", "parse_opaque_data"]

OpaqueData = GpuOpaqueData | SwitchOpaqueData

_MODE_MEANINGS = {
    "SPT": "single GPU passthrough",
    "MPT": "multi-GPU passthrough: NVSwitches are not trusted",
    "PPCIE": "Protected PCIe: NVSwitches are trusted",
}
_DRIVER_VERSION = 3  # a GPU always states it, a switch has none
_SWITCH_MARKS = {4: 128, 22: 8, 26: 128}
"""Fields of a switch → size.  GPUs use the numbers 4 and 22 too, for fields of other sizes."""
_BLOCK_BYTES = 55


def parse_opaque_data(data: bytes) -> OpaqueData:
    """Parse the opaque data of a report of which nobody has said what device it is from.

    The fields tell: only a switch has a PDI of its own or a list of GPUs, in fields whose
    numbers have another size in the report of a GPU.  Anything else is read as a GPU's.

    Raises:
        EvidenceError: as `parse_gpu_opaque_data` and `parse_switch_opaque_data`.
    """
    sizes = dict(_field_sizes(data))
    is_switch = _DRIVER_VERSION not in sizes and any(
        sizes.get(number) == size for number, size in _SWITCH_MARKS.items()
    )
    return parse_switch_opaque_data(data) if is_switch else parse_gpu_opaque_data(data)


def _field_sizes(data: bytes) -> Iterable[tuple[int, int]]:
    at = 0
    while at + 4 <= len(data):
        number, size = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (0, 2))
        yield number, size
        at += 4 + size


def describe_report(report: AttestationReport) -> Inspection:
    """Show every field of a report: request, response, blocks, opaque fields, signature."""
    title, opaque_parts = "NVIDIA attestation report", _opaque_parts(report)
    for item in opaque_parts[0].items if isinstance(opaque_parts[0], Section) else ():
        if item.name == "kind":
            title += f" of {item.shown}"
    signed = report.signed_range
    return Inspection(
        "nvidia-report",
        title,
        (
            Section("request", "GET_MEASUREMENTS request", _fixed(signed, REQUEST_FIELDS)),
            Section("response", "MEASUREMENTS response", _fixed(signed, RESPONSE_FIELDS)),
            *opaque_parts,
            _measurements(report),
            _signature(report),
        ),
    )


def _fixed(data: bytes, fields: Iterable[FixedField]) -> tuple[Item, ...]:
    items = []
    for name, offset, size, wanted, meaning in fields:
        raw = data[offset : offset + size]
        number = int.from_bytes(raw, "little")
        shown = f"0x{number:02x}" if wanted is not None else ""
        plain: Any = raw.hex() if size > 4 else number
        items.append(Item(name, plain, meaning, f"report[{offset}:{offset + size}]", shown))
    return tuple(items)


def _measurements(report: AttestationReport) -> Listing:
    return Listing(
        "measurements",
        f"Measurement blocks ({len(report.measurements)}, SHA-384; "
        "a manifest counts from 0, so block n has its index n - 1)",
        ("block", "value"),
        tuple({"block": each.index, "value": each.value.hex()} for each in report.measurements),
    )


def _signature(report: AttestationReport) -> Section:
    return Section(
        "signature_data",
        "Signature data",
        (
            Item("report_sha384", report.digest, "of the signed bytes: identity of this report"),
            Item("signed_bytes", len(report.signed_range), "request and response, nonce included"),
            Item("responder_nonce", report.responder_nonce.hex(), "random bytes of the device"),
            Item("signature", report.signature.hex(), "r, s on P-384 by the attestation key"),
        ),
    )


# --- opaque data ---------------------------------------------------------------------------------


def _opaque_parts(report: AttestationReport) -> tuple[Part, ...]:
    # The opaque data ends where the signature starts.
    start = len(report.signed_range) - len(report.opaque_data)
    try:
        opaque = parse_opaque_data(report.opaque_data)
    except EvidenceError as problem:
        raw = Item("opaque_data", report.opaque_data.hex(), "", f"report[{start}:]")
        return (Section("opaque", "Opaque data", (unreadable(problem), raw)),)
    if isinstance(opaque, GpuOpaqueData):
        said = tuple(Item(each.topic, each.text) for each in UNSAID)
        return (
            _device(_gpu_items(opaque)),
            _opaque_fields(opaque, GPU_FIELDS, start),
            Section("not_said", "What the report of a GPU cannot say", said),
        )
    return (_device(_switch_items(opaque)), _opaque_fields(opaque, SWITCH_FIELDS, start))


def _device(items: tuple[Item, ...]) -> Section:
    return Section("device", "What the device says it is", items)


def _gpu_items(opaque: GpuOpaqueData) -> tuple[Item, ...]:
    reading = opaque.mode_reading
    architecture = opaque.architecture
    chip = opaque.chip_info or ("GH100" if architecture is Architecture.HOPPER else None)
    items = [
        Item("kind", "gpu", "as its opaque fields show", shown="a GPU"),
        Item("architecture", architecture.value if architecture else None, "by GPU_INFO"),
        Item("chip", chip, "by CHIP_INFO" if opaque.chip_info else "Hopper has one chip"),
        Item("driver", opaque.driver_version),
        Item("vbios", opaque.vbios_version),
        Item("mode", mode_name(opaque), reading.basis),
    ]
    if chip is None:
        items[2] = Item("chip", None, "CHIP_INFO is not in the report")
    if reading.mode:
        items.append(Item("mode_meaning", _MODE_MEANINGS[mode_name(opaque)]))
    if reading.problem:
        items.append(Item("mode_problem", reading.problem))
    return tuple(items)


def _switch_items(opaque: SwitchOpaqueData) -> tuple[Item, ...]:
    pdi = opaque.device_pdi
    return (
        Item("kind", "nvswitch", "as its opaque fields show", shown="an NVSwitch"),
        Item("device_id", pdi.hex().upper() if pdi else None, "PDI"),
        Item("bios", opaque.vbios_version),
        Item("position", opaque.position_id, "on its board"),
        Item("locked", opaque.locked),
    )


def _opaque_fields(opaque: OpaqueData, rules: Sequence[FieldRule], start: int) -> Section:
    name_of = gpu_field_name if isinstance(opaque, GpuOpaqueData) else switch_field_name
    by_type = {rule.type: rule for rule in rules}
    items = []
    at = start
    for field in opaque.fields:
        end = at + 4 + len(field.data)
        rule, where = by_type.get(field.type), f"type {field.type}, report[{at + 4}:{end}]"
        at = end
        name = name_of(field.type)
        if rule is None:
            items.append(Item(name, field.data.hex(), "this version cannot decode it", where))
            continue
        value = getattr(opaque, rule.attribute)
        items.append(Item(name, _plain(value), rule.meaning, where, _shown(value)))
    return Section("opaque", "Opaque data", tuple(items))


def _plain(value: object) -> Any:
    """Return a decoded field as JSON has it: bytes in hex, PDIs as a list of hex."""
    if isinstance(value, SwitchGpuPdis):
        return {"pdis": [pdi.hex() for pdi in value.pdis], "ports": value.ports.hex()}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value


def _shown(value: object) -> str:
    """Lists of equal values are shown as runs: ``0-3: 50203eb31ad9ed00, 4-17: none``."""
    if isinstance(value, SwitchGpuPdis):
        return f"GPUs {_runs(value.pdis)}; ports {value.ports.hex()}"
    return _runs(value) if isinstance(value, tuple) else ""


def _runs(values: Sequence[bytes | int]) -> str:
    runs = []
    for value, positions in groupby(range(len(values)), key=lambda at: values[at]):
        first, *rest = positions
        label = f"{first}-{rest[-1]}" if rest else f"{first}"
        runs.append(f"{label}: {_run_value(value)}")
    return ", ".join(runs)


def _run_value(value: bytes | int) -> str:
    if isinstance(value, int):
        return str(value)
    return value.hex() if any(value) else "none"
