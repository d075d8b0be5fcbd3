"""Opaque data of NVIDIA attestation reports: what GPUs and NVSwitches say about themselves.

The opaque data of the SPDM response is a row of fields, each ``type (2 bytes) ‖ size (2 bytes)
‖ data``, little endian, in no promised order.  All of it is signed by the device.

A field of a known type (`GPU_FIELDS`, `SWITCH_FIELDS`) has the size and encoding of its table,
or the report is refused.  A field of any other type is kept in `unknown`: new firmware adds
fields.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ccverify.errors import EvidenceError
from ccverify.nvidia.opaque_fields import (
    GPU_FIELDS,
    GPU_INFO_ARCHITECTURES,
    MAX_OPAQUE_DATA_VERSION,
    SWITCH_FIELDS,
    Architecture,
    FieldRule,
    GpuMode,
    Refused,
    SwitchGpuPdis,
    gpu_field_name,
    switch_field_name,
)
from ccverify.nvidia.spdm import MAX_OPAQUE_BYTES

__all__ = [
    "GPU_FIELDS",
    "MAX_OPAQUE_DATA_VERSION",
    "SWITCH_FIELDS",
    "UNSAID",
    "Architecture",
    "GpuMode",
    "GpuOpaqueData",
    "ModeReading",
    "RawField",
    "SwitchGpuPdis",
    "SwitchOpaqueData",
    "Unsaid",
    "gpu_field_name",
    "parse_gpu_opaque_data",
    "parse_switch_opaque_data",
    "switch_field_name",
]

_FIELD_HEADER = struct.Struct("<HH")
_GPU_RULES = {rule.type: rule for rule in GPU_FIELDS}
_SWITCH_RULES = {rule.type: rule for rule in SWITCH_FIELDS}


class RawField(NamedTuple):
    """One field as it is in the report."""

    type: int
    data: bytes


class ModeReading(NamedTuple):
    """What a GPU report says of its mode.

    Attributes:
        mode: None where the report does not say, or contradicts itself.
        basis: the fields the answer rests on, in words.
        problem: the contradiction, None if there is none.
    """

    mode: GpuMode | None
    basis: str
    problem: str | None


class Unsaid(NamedTuple):
    """Something no field of a report states, so that nobody can claim it from the report."""

    topic: str
    text: str


UNSAID = (
    Unsaid(
        "cc-mode",
        "no field says whether confidential computing is on or off; NVML's answer to that is "
        "not signed by the device",
    ),
    Unsaid(
        "devtools",
        "no field says whether the devtools mode, which opens the GPU to debuggers and "
        "profilers, is on or off; NVIDIA's claim dbgstat is derived from the measurements alone",
    ),
    Unsaid(
        "nvlink-encryption",
        "no field says whether NVLink traffic is encrypted, nor between which devices; MPT "
        "names the mode, not the state of a link",
    ),
    Unsaid(
        "fabric-peers",
        "no field of a multi-GPU passthrough report names the partition or the other GPUs of it",
    ),
    Unsaid(
        "attached-machine",
        "no field names the machine or the virtual machine the device is attached to: a report "
        "can be relayed from elsewhere",
    ),
)
"""What the report of a GPU cannot say, for results and documentation to repeat."""


# --- results ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GpuOpaqueData:
    """The opaque data of a GPU report.  Meanings are in `GPU_FIELDS`; None = not in the report.

    Attributes:
        fields: every field in the order of the report, as it was.
        unknown: those of `fields` that the table does not decode.
        vbios_version: such as ``96.00.9F.00.01``, hexadecimal in upper case.
        switch_pdis: 18 PDIs, one a link.
    """

    fields: tuple[RawField, ...]
    unknown: tuple[RawField, ...]
    driver_version: str | None = None
    gpu_info: bytes | None = None
    vbios_version: str | None = None
    nvdec0_enabled: bool | None = None
    measurement_counts: tuple[int, ...] | None = None
    cpr_info: bytes | None = None
    board_id: bytes | None = None
    chip_sku: str | None = None
    chip_sku_mod: str | None = None
    project: str | None = None
    project_sku: str | None = None
    project_sku_mod: str | None = None
    fwid: bytes | None = None
    protected_pcie: bool | None = None
    switch_pdis: tuple[bytes, ...] | None = None
    sys_enable_status: bytes | None = None
    opaque_data_version: int | None = None
    chip_info: str | None = None
    feature_flag: GpuMode | None = None

    @property
    def architecture(self) -> Architecture | None:
        """The generation GPU_INFO names, None for one not known here, or without the field."""
        if self.gpu_info is None:
            return None
        return GPU_INFO_ARCHITECTURES.get(int.from_bytes(self.gpu_info[:4], "little"))

    @property
    def mode(self) -> GpuMode | None:
        """The mode the device signed; None where it does not say, or contradicts itself."""
        return self.mode_reading.mode

    @property
    def mode_reading(self) -> ModeReading:
        """The mode with the fields it rests on, or the contradiction between them."""
        flag, status, version = self.feature_flag, self.protected_pcie, self.opaque_data_version
        basis, problem = _mode_basis(flag, status), _mode_problem(flag, status, version)
        if problem is not None:
            return ModeReading(None, basis, problem)
        if flag is None and status:
            return ModeReading(GpuMode.PROTECTED_PCIE, basis, None)
        return ModeReading(flag, basis, None)


@dataclass(frozen=True, slots=True)
class SwitchOpaqueData:
    """The opaque data of an NVSwitch report.  Meanings are in `SWITCH_FIELDS`.

    Attributes:
        fields: every field in the order of the report, as it was.
        unknown: those of `fields` that the table does not decode.
    """

    fields: tuple[RawField, ...]
    unknown: tuple[RawField, ...]
    vbios_version: str | None = None
    measurement_counts: tuple[int, ...] | None = None
    device_pdi: bytes | None = None
    disabled_ports: bytes | None = None
    position_id: int | None = None
    lock_status: int | None = None
    gpu_pdis: SwitchGpuPdis | None = None

    @property
    def locked(self) -> bool | None:
        """Whether the switch says that it is locked; None where it says neither."""
        return None if self.lock_status is None else self.lock_status == 1


def _mode_basis(flag: GpuMode | None, status: bool | None) -> str:
    said = []
    if flag is not None:
        said.append(f"FEATURE_FLAG says {flag.value}")
    if status is not None:
        said.append(f"PROTECTED_PCIE_STATUS says {'enabled' if status else 'disabled'}")
    if not said:
        return "neither FEATURE_FLAG nor PROTECTED_PCIE_STATUS is in the report"
    if flag is None and not status:
        said.append("without FEATURE_FLAG nothing tells a single GPU from several")
    return "; ".join(said)


def _mode_problem(flag: GpuMode | None, status: bool | None, version: int | None) -> str | None:
    if flag is not None and not version:
        found = "absent" if version is None else "0"
        return f"FEATURE_FLAG calls for OPAQUE_DATA_VERSION 1, which is {found}"
    if flag is None and version:
        return f"OPAQUE_DATA_VERSION {version} calls for FEATURE_FLAG, which is absent"
    if flag is None or status is None or status == (flag is GpuMode.PROTECTED_PCIE):
        return None
    state = "enabled" if status else "disabled"
    return f"FEATURE_FLAG says {flag.value} but PROTECTED_PCIE_STATUS says {state}"


# --- parsing ------------------------------------------------------------------------------------


def parse_gpu_opaque_data(data: bytes) -> GpuOpaqueData:
    """Parse the opaque data of a GPU report.

    Raises:
        EvidenceError: empty or over `MAX_OPAQUE_BYTES`, a field cut short or present twice,
            a known field of another size or encoding, or OPAQUE_DATA_VERSION over
            `MAX_OPAQUE_DATA_VERSION`.
    """
    fields = _split(data, gpu_field_name)
    unknown, values = _decode(fields, _GPU_RULES)
    return GpuOpaqueData(fields, unknown, **values)


def parse_switch_opaque_data(data: bytes) -> SwitchOpaqueData:
    """Parse the opaque data of an NVSwitch report.

    Raises:
        EvidenceError: empty or over `MAX_OPAQUE_BYTES`, a field cut short or present twice
            (under types 4 and 26 too), or a known field of another size or encoding.
    """
    fields = _split(data, switch_field_name)
    unknown, values = _decode(fields, _SWITCH_RULES)
    return SwitchOpaqueData(fields, unknown, **values)


def _split(data: bytes, name_of: Callable[[int], str]) -> tuple[RawField, ...]:
    if not 0 < len(data) <= MAX_OPAQUE_BYTES:
        raise EvidenceError(
            "wrong length of the opaque data",
            expected=f"1 to {MAX_OPAQUE_BYTES} bytes",
            found=f"{len(data)}",
        )
    data = bytes(data)
    fields: dict[int, RawField] = {}
    at = 0
    while at < len(data):
        number, size = _field_header(data, at)
        end = at + 4 + size
        if end > len(data):
            raise _cut_short(f"field {name_of(number)}", end, data, at)
        if number in fields:
            raise _twice(name_of(number), number, at)
        fields[number] = RawField(number, data[at + 4 : end])
        at = end
    return tuple(fields.values())


def _field_header(data: bytes, at: int) -> tuple[int, int]:
    if at + 4 > len(data):
        raise _cut_short("type and size of a field", at + 4, data, at)
    number, size = _FIELD_HEADER.unpack_from(data, at)
    return number, size


def _decode(
    fields: Iterable[RawField], rules: Mapping[int, FieldRule]
) -> tuple[tuple[RawField, ...], dict[str, Any]]:
    """Return the fields without a rule, and the values of the others by attribute."""
    located: list[tuple[FieldRule, bytes, int]] = []
    unknown: list[RawField] = []
    at = 0
    for field in fields:
        rule = rules.get(field.type)
        if rule is None:
            unknown.append(field)
        else:
            located.append((rule, field.data, at))
        at += 4 + len(field.data)
    # The version first: of opaque data too new to read, nothing else is worth complaining about.
    located.sort(key=lambda item: item[0].attribute != "opaque_data_version")
    values: dict[str, Any] = {}
    for rule, data, at in located:
        if rule.attribute in values:
            raise _twice(rule.name, rule.type, at)
        values[rule.attribute] = _value(rule, data, at)
    return tuple(unknown), values


def _value(rule: FieldRule, data: bytes, at: int) -> object:
    if not rule.sizes.allow(len(data)):
        raise EvidenceError(
            f"wrong size of {rule.name}",
            expected=str(rule.sizes),
            found=f"{len(data)} bytes",
            where=_place(data, at),
            hint="GPU and NVSwitch reports have different fields: check which of them this is",
        )
    try:
        return rule.decode(data)
    except Refused as refused:
        raise EvidenceError(
            f"{rule.name} is not what it should be",
            expected=refused.expected,
            found=refused.found,
            where=_place(data, at),
        ) from None


def _place(data: bytes, at: int) -> str:
    return f"opaque data[{at + 4}:{at + 4 + len(data)}]"


def _cut_short(what: str, end: int, data: bytes, at: int) -> EvidenceError:
    return EvidenceError(
        f"opaque data ends inside its {what}",
        expected=f"{end} bytes",
        found=f"{len(data)} bytes",
        where=f"opaque data[{at}:]",
    )


def _twice(name: str, number: int, at: int) -> EvidenceError:
    return EvidenceError(
        f"opaque data holds {name} twice",
        expected="every field at most once",
        found=f"type {number} again",
        where=f"opaque data[{at}:{at + 4}]",
    )
