"""Opaque data of device reports: typed fields, or raw (type, data) pairs.

A field is ``type (2 bytes) ‖ size (2 bytes) ‖ data``, little endian.  None leaves a field out;
order, widths and encodings are those of genuine reports.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = [
    "FEATURE_FLAGS",
    "NO_GPU",
    "GpuFields",
    "RawFields",
    "SwitchFields",
    "encode_fields",
]

RawFields = tuple[tuple[int, bytes], ...]
"""(type, data), in the order of the report."""

FEATURE_FLAGS = {"SPT": 0, "MPT": 1, "PPCIE": 2}
"""Mode → value of FEATURE_FLAG."""

NO_GPU = 0xFF
"""Port byte of a switch port behind which is no GPU."""


def encode_fields(fields: Iterable[tuple[int, bytes]]) -> bytes:
    """Return opaque data of these fields."""
    return b"".join(struct.pack("<HH", number, len(data)) + data for number, data in fields)


def _text(text: str, width: int) -> bytes:
    return text.encode("ascii").ljust(width, b"\0")


def _status(enabled: bool) -> bytes:
    return b"\xaa" if enabled else b"\x55"


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _counts(counts: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(counts)}I", *counts)


def _gpu_vbios(version: str) -> bytes:
    """``96.00.9F.00.01`` packed: the first four bytes reversed, the fifth, three zeros."""
    parts = bytes.fromhex(version.replace(".", ""))
    return parts[3::-1] + parts[4:] + bytes(8 - len(parts))


def _put(fields: list[tuple[int, bytes]], overrides: RawFields) -> RawFields:
    """Replace fields in place by type; add those that are not there."""
    for number, data in overrides:
        at = next((at for at, own in enumerate(fields) if own[0] == number), None)
        if at is None:
            fields.append((number, data))
        else:
            fields[at] = (number, data)
    return tuple(fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFields:
    """Opaque data of a GPU; None leaves a field out.

    Attributes:
        vbios_version: such as ``96.00.9F.00.01``.
        board_id, cpr_info: 4 bytes.  gpu_info: 8 bytes.
        chip_sku, chip_sku_mod, project, project_sku, project_sku_mod: ASCII.
        driver_version: such as ``590.12``.
        measurement_counts: 64 counts.
        nvdec0_enabled, protected_pcie: 0xAA or 0x55 in the report.
        fwid: 48 bytes.
        switch_pdis: 18 PDIs, 8 bytes each in the order of certificates; reversed in the report.
        sys_enable_status: 2 bytes.
        chip_info: such as ``GB202``.
        opaque_data_version: number.
        feature_flag: number, see `FEATURE_FLAGS`.
        overrides: raw fields that replace those of their type, or come after all others.
        extra: raw fields after all others, whatever is there already.
    """

    vbios_version: str | None
    board_id: bytes | None
    chip_sku: str | None
    chip_sku_mod: str | None = "0"
    project: str | None
    project_sku: str | None
    project_sku_mod: str | None = ""
    driver_version: str | None
    gpu_info: bytes | None
    measurement_counts: tuple[int, ...] | None
    cpr_info: bytes | None
    nvdec0_enabled: bool | None
    fwid: bytes | None
    protected_pcie: bool | None = None
    switch_pdis: tuple[bytes, ...] | None = None
    sys_enable_status: bytes | None = None
    chip_info: str | None = None
    opaque_data_version: int | None = 1
    feature_flag: int | None = 0
    overrides: RawFields = ()
    extra: RawFields = ()

    def fields(self) -> RawFields:
        """Return the fields in the order in which GPUs write them."""
        pdis, driver, chip = self.switch_pdis, self.driver_version, self.chip_info
        stated: tuple[tuple[int, bytes | None], ...] = (
            (6, None if self.vbios_version is None else _gpu_vbios(self.vbios_version)),
            (14, self.board_id),
            (15, None if self.chip_sku is None else _text(self.chip_sku, 9)),
            (16, None if self.chip_sku_mod is None else _text(self.chip_sku_mod, 5)),
            (17, None if self.project is None else _text(self.project, 5)),
            (18, None if self.project_sku is None else _text(self.project_sku, 5)),
            (19, None if self.project_sku_mod is None else _text(self.project_sku_mod, 2)),
            (3, None if driver is None else _text(driver, len(driver) + 1)),
            (4, self.gpu_info),
            (12, None if self.measurement_counts is None else _counts(self.measurement_counts)),
            (13, self.cpr_info),
            (11, None if self.nvdec0_enabled is None else _status(self.nvdec0_enabled)),
            (20, self.fwid),
            (21, None if self.protected_pcie is None else _status(self.protected_pcie)),
            (22, None if pdis is None else b"".join(pdi[::-1] for pdi in pdis)),
            (33, self.sys_enable_status),
            (35, None if chip is None else _text(chip, len(chip) + 1)),
            (34, None if self.opaque_data_version is None else _u16(self.opaque_data_version)),
            (36, None if self.feature_flag is None else _u16(self.feature_flag)),
        )
        there = [(number, data) for number, data in stated if data is not None]
        return _put(there, self.overrides) + self.extra

    def in_mode(self, mode: str | None) -> GpuFields:
        """Return the fields of the same GPU in another mode; None for old firmware's silence.

        A Hopper GPU states Protected PCIe in a field of its own too.
        """
        hopper = self.protected_pcie is not None
        return replace(
            self,
            protected_pcie=mode == "PPCIE" if hopper else None,
            switch_pdis=self.switch_pdis if mode == "PPCIE" else None,
            opaque_data_version=None if mode is None else 1,
            feature_flag=None if mode is None else FEATURE_FLAGS[mode],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchFields:
    """Opaque data of an LS10 NVSwitch; None leaves a field out.

    Attributes:
        bios_version: such as ``96.10.73.00.01``.
        device_pdi: its own PDI, 8 bytes.
        measurement_counts: 27 counts.
        gpu_pdis: the PDIs of 8 GPUs, zero for none.
        ports: one byte for each of 64 ports: which of `gpu_pdis` is behind it, or `NO_GPU`.
        disabled_ports: 2 bytes.
        position: 0 to 3.
        lock_status: 1 = locked.
        overrides, extra: as in `GpuFields`.
    """

    bios_version: str | None
    device_pdi: bytes | None
    measurement_counts: tuple[int, ...] | None
    gpu_pdis: tuple[bytes, ...] | None
    ports: bytes = bytes((NO_GPU,)) * 64
    disabled_ports: bytes | None = bytes.fromhex("ec00")
    position: int | None
    lock_status: int | None = 1
    overrides: RawFields = ()
    extra: RawFields = ()

    def fields(self) -> RawFields:
        """Return the fields in the order in which switches write them."""
        version, pdis = self.bios_version, self.gpu_pdis
        stated: tuple[tuple[int, bytes | None], ...] = (
            (6, None if version is None else version.encode("ascii")),
            (22, self.device_pdi),
            (12, None if self.measurement_counts is None else _counts(self.measurement_counts)),
            (26, None if pdis is None else b"".join(pdis) + self.ports),
            (23, self.disabled_ports),
            (24, None if self.position is None else _u16(self.position)),
            (25, None if self.lock_status is None else _u16(self.lock_status)),
        )
        there = [(number, data) for number, data in stated if data is not None]
        return _put(there, self.overrides) + self.extra
