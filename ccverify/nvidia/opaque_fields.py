"""Field tables of the opaque data in NVIDIA attestation reports, and how fields are decoded.

GPUs and NVSwitches number their fields apart from 22 on, so each has its own table.  NVIDIA
publishes the numbers with its verifiers (attestation-sdk, nvtrust) and no format description;
sizes and encodings are those of genuine reports.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

__all__ = [
    "GPU_FIELDS",
    "GPU_INFO_ARCHITECTURES",
    "MAX_OPAQUE_DATA_VERSION",
    "PDI_BYTES",
    "SWITCH_FIELDS",
    "Architecture",
    "FieldRule",
    "GpuMode",
    "Refused",
    "Sizes",
    "SwitchGpuPdis",
    "gpu_field_name",
    "switch_field_name",
]

MAX_OPAQUE_DATA_VERSION = 1
"""Newest OPAQUE_DATA_VERSION whose fields are known here (and to NVIDIA's own verifier)."""

PDI_BYTES = 8
"""A PDI, NVIDIA's per-device identity: 8 bytes, here always in the order of the certificate
serial number (0x41 ‖ PDI for GPUs, 0x50 ‖ PDI for LS10).  All zero means no device."""


class Architecture(str, Enum):
    """Device generation, as NVIDIA's serialised evidence names it."""

    HOPPER = "HOPPER"
    BLACKWELL = "BLACKWELL"
    LS10 = "LS10"


class GpuMode(str, Enum):
    """How GPUs are handed to a confidential VM."""

    SPT = "SPT"
    """Single GPU passthrough."""
    MPT = "MPT"
    """Multi-GPU passthrough (Blackwell): NVSwitches outside the trusted computing base."""
    PROTECTED_PCIE = "PROTECTED_PCIE"
    """Protected PCIe (Hopper HGX): NVSwitches inside the trusted computing base."""


class Sizes(NamedTuple):
    """Accepted sizes of a field in bytes: from `minimum` to `maximum` in steps of `step`."""

    minimum: int
    maximum: int
    step: int = 1

    def allow(self, size: int) -> bool:
        """Whether `size` is one of them."""
        return self.minimum <= size <= self.maximum and not (size - self.minimum) % self.step

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return f"{self.minimum} bytes"
        multiple = f", a multiple of {self.step}" if self.step > 1 else ""
        return f"{self.minimum} to {self.maximum} bytes{multiple}"


class SwitchGpuPdis(NamedTuple):
    """Which GPUs a switch sees.

    Attributes:
        pdis: eight PDIs.
        ports: one byte for each of 64 ports, an index into `pdis`, 0xFF for none.  NVIDIA does
            not document them, and they do not add up with the links that GPUs report.
    """

    pdis: tuple[bytes, ...]
    ports: bytes


# --- decoders: bytes → value, or Refused -------------------------------------------------------


class Refused(Exception):
    """Internal: the data of a field is not in its encoding."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = found


_GRAPHIC = re.compile(rb"[!-~]*\Z")
_ENABLED, _DISABLED = 0xAA, 0x55
_MODES = {0: GpuMode.SPT, 1: GpuMode.MPT, 2: GpuMode.PROTECTED_PCIE}


def _bytes(data: bytes) -> bytes:
    return data


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _counts(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 4}I", data)


def _printable(data: bytes) -> str:
    if not _GRAPHIC.match(data):
        raise Refused("printable ASCII without spaces", data[:32].hex())
    return data.decode("ascii")


def _text(data: bytes) -> str:
    text, end, padding = data.partition(b"\0")
    if not end or padding.strip(b"\0"):
        raise Refused("ASCII text, then nothing but zero bytes, at least one", data[:32].hex())
    return _printable(text)


def _name(data: bytes) -> str:
    text = _text(data)
    if not text:
        raise Refused("ASCII text", "nothing but zero bytes")
    return text


def _status(data: bytes) -> bool:
    if data[0] not in (_ENABLED, _DISABLED):
        raise Refused("0xaa (enabled) or 0x55 (disabled)", f"0x{data[0]:02x}")
    return data[0] == _ENABLED


def _gpu_vbios_version(data: bytes) -> str:
    # Two little-endian words; of the second only the low byte is part of the version.
    if any(data[5:]):
        raise Refused("three zero bytes after the five of the version", data.hex())
    return ".".join(f"{data[at]:02X}" for at in (3, 2, 1, 0, 4))


def _feature_flag(data: bytes) -> GpuMode:
    number = _number(data)
    if number not in _MODES:
        raise Refused("0 (SPT), 1 (MPT) or 2 (protected PCIe)", f"{number}")
    return _MODES[number]


def _opaque_data_version(data: bytes) -> int:
    number = _number(data)
    if number > MAX_OPAQUE_DATA_VERSION:
        raise Refused(
            f"at most {MAX_OPAQUE_DATA_VERSION}: newer firmware is not known", f"{number}"
        )
    return number


def _pdis(data: bytes) -> tuple[bytes, ...]:
    return tuple(data[at : at + PDI_BYTES] for at in range(0, len(data), PDI_BYTES))


def _reversed_pdis(data: bytes) -> tuple[bytes, ...]:
    # GPUs store the PDIs of their switches little endian; certificates and switches do not.
    return tuple(pdi[::-1] for pdi in _pdis(data))


def _switch_gpu_pdis(data: bytes) -> SwitchGpuPdis:
    return SwitchGpuPdis(_pdis(data[:64]), data[64:])


# --- tables -------------------------------------------------------------------------------------


class FieldRule(NamedTuple):
    """One known field type.

    Attributes:
        type: number in the report.
        name: NVIDIA's name, without the prefix OPAQUE_FIELD_ID.
        attribute: where the value goes in `GpuOpaqueData` or `SwitchOpaqueData`.
        sizes: accepted sizes.
        decode: data of an accepted size → value.
        meaning: for people.
        architectures: where it has been seen.
    """

    type: int
    name: str
    attribute: str
    sizes: Sizes
    decode: Callable[[bytes], object]
    meaning: str
    architectures: tuple[Architecture, ...]


_HOPPER, _BLACKWELL = (Architecture.HOPPER,), (Architecture.BLACKWELL,)
_GPUS = _HOPPER + _BLACKWELL
_LS10 = (Architecture.LS10,)
_TEXT = Sizes(1, 64)


def _exactly(size: int) -> Sizes:
    return Sizes(size, size)


# fmt: off
GPU_FIELDS = (
    FieldRule(3, "DRIVER_VERSION", "driver_version", _TEXT, _name,
              "version of the driver, names the driver manifest", _GPUS),
    FieldRule(4, "GPU_INFO", "gpu_info", _exactly(8), _bytes,
              "chip: architecture and implementation, in NVIDIA's numbers", _GPUS),
    FieldRule(6, "VBIOS_VERSION", "vbios_version", _exactly(8), _gpu_vbios_version,
              "version of the VBIOS, packed; names the VBIOS manifest", _GPUS),
    FieldRule(11, "NVDEC0_STATUS", "nvdec0_enabled", _exactly(1), _status,
              "video decoder 0: 0xaa enabled, 0x55 disabled (then index 35 has no reference)",
              _GPUS),
    FieldRule(12, "MSRSCNT", "measurement_counts", _exactly(256), _counts,
              "how often each of the 64 measurements was extended", _GPUS),
    FieldRule(13, "CPRINFO", "cpr_info", _exactly(4), _bytes,
              "compute protected region, not documented", _GPUS),
    FieldRule(14, "BOARD_ID", "board_id", _exactly(4), _bytes, "board, not documented", _GPUS),
    FieldRule(15, "CHIP_SKU", "chip_sku", _TEXT, _name,
              "names the VBIOS manifest, such as 882", _GPUS),
    FieldRule(16, "CHIP_SKU_MOD", "chip_sku_mod", _TEXT, _text, "variant of CHIP_SKU", _GPUS),
    FieldRule(17, "PROJECT", "project", _TEXT, _name,
              "names the VBIOS manifest, such as G520", _GPUS),
    FieldRule(18, "PROJECT_SKU", "project_sku", _TEXT, _name,
              "names the VBIOS manifest, such as 0200", _GPUS),
    FieldRule(19, "PROJECT_SKU_MOD", "project_sku_mod", _TEXT, _text,
              "variant of PROJECT_SKU", _GPUS),
    FieldRule(20, "FWID", "fwid", _exactly(48), _bytes,
              "SHA-384 of the firmware that holds the signing key, also in the leaf certificate; "
              "drivers 535 and 545 leave it out", _GPUS),
    FieldRule(21, "PROTECTED_PCIE_STATUS", "protected_pcie", _exactly(1), _status,
              "protected PCIe: 0xaa enabled, 0x55 disabled", _HOPPER),
    FieldRule(22, "SWITCH_PDI", "switch_pdis", _exactly(144), _reversed_pdis,
              "for each of 18 NVLinks the PDI of the switch behind it, zero for none", _HOPPER),
    FieldRule(33, "SYS_ENABLE_STATUS", "sys_enable_status", _exactly(2), _bytes,
              "not documented, read by no verifier of NVIDIA", _BLACKWELL),
    FieldRule(34, "OPAQUE_DATA_VERSION", "opaque_data_version", _exactly(2),
              _opaque_data_version, "version of the opaque data, absent in older firmware", _GPUS),
    FieldRule(35, "CHIP_INFO", "chip_info", _TEXT, _name,
              "chip, such as GB202; names the driver manifest", _BLACKWELL),
    FieldRule(36, "FEATURE_FLAG", "feature_flag", _exactly(2), _feature_flag,
              "mode: 0 SPT, 1 MPT, 2 protected PCIe; from OPAQUE_DATA_VERSION 1 on", _GPUS),
)

SWITCH_FIELDS = (
    # Firmware 96.10.52 writes under 4 what later firmware writes under 26.
    FieldRule(4, "SWITCH_GPU_PDIS", "gpu_pdis", _exactly(128), _switch_gpu_pdis,
              "field 26 in older firmware", _LS10),
    FieldRule(6, "VBIOS_VERSION", "vbios_version", _exactly(14), _printable,
              "version of the BIOS, such as 96.10.55.00.01; names the BIOS manifest", _LS10),
    FieldRule(12, "MSRSCNT", "measurement_counts", Sizes(4, 1020, 4), _counts,
              "how often measurements were extended", _LS10),
    FieldRule(22, "DEVICE_PDI", "device_pdi", _exactly(PDI_BYTES), _bytes,
              "the switch's own PDI", _LS10),
    FieldRule(23, "DISABLED_PORTS", "disabled_ports", _exactly(2), _bytes,
              "each bit four ports; which bit is which is not documented", _LS10),
    FieldRule(24, "SWITCH_POSITION_ID", "position_id", _exactly(2), _number,
              "place of the switch on its board, 0 to 3", _LS10),
    FieldRule(25, "SWITCH_LOCK_STATUS", "lock_status", _exactly(2), _number,
              "1 = the configuration is locked", _LS10),
    FieldRule(26, "SWITCH_GPU_PDIS", "gpu_pdis", _exactly(128), _switch_gpu_pdis,
              "PDIs of eight GPUs, and for each of 64 ports which of them is behind it", _LS10),
)
# fmt: on

# Named by NVIDIA, seen in no report, of unknown encoding: these stay in `unknown`.
_SHARED_NAMES = {
    1: "CERT_ISSUER_NAME",
    2: "CERT_AUTHORITY_KEY_IDENTIFIER",
    5: "SKU",
    7: "MANUFACTURER_ID",
    8: "TAMPER_DETECTION",
    9: "SMC",
    10: "VPR",
    255: "INVALID",
}
_GPU_NAMES: Mapping[int, str] = {
    **_SHARED_NAMES,
    23: "FLOORSWEPT_PORTS",
    24: "POSITION_ID",
    25: "LOCK_SWITCH_STATUS",
    32: "GPU_LINK_CONN",
    **{rule.type: rule.name for rule in GPU_FIELDS},
}
_SWITCH_NAMES: Mapping[int, str] = {
    **_SHARED_NAMES,
    **{rule.type: rule.name for rule in GPU_FIELDS if rule.type <= 21},
    **{rule.type: rule.name for rule in SWITCH_FIELDS},
}

# GPU_INFO read as two little-endian words is the pair (architecture, implementation) of
# NVIDIA's open kernel modules: GH100 = 0x180, 0; GB100 = 0x1a0, 0; GB202 = 0x1b0, 2.
GPU_INFO_ARCHITECTURES: Mapping[int, Architecture] = {
    0x180: Architecture.HOPPER,
    0x1A0: Architecture.BLACKWELL,
    0x1B0: Architecture.BLACKWELL,
}


def gpu_field_name(number: int) -> str:
    """NVIDIA's name of a GPU field type, ``TYPE_N`` if it has none."""
    return _GPU_NAMES.get(number, f"TYPE_{number}")


def switch_field_name(number: int) -> str:
    """NVIDIA's name of an NVSwitch field type, ``TYPE_N`` if it has none."""
    return _SWITCH_NAMES.get(number, f"TYPE_{number}")
