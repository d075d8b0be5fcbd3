"""What a device says and what that rests on: its part of the claims of a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ccverify.findings import Assurance
from ccverify.nvidia.device import DeviceVerification
from ccverify.nvidia.gpu import mode_name
from ccverify.nvidia.opaque import (
    UNSAID,
    GpuOpaqueData,
    RawField,
    SwitchOpaqueData,
    gpu_field_name,
    switch_field_name,
)

__all__ = ["GPU_UNSAID", "DeviceClaims", "common_level"]

GPU_UNSAID: Mapping[str, str] = {each.topic: each.text for each in UNSAID}
"""What no GPU report can say: topic → text."""


@dataclass(frozen=True)
class DeviceClaims:
    """Claims about one device, put into words only when somebody reads them.

    Attributes:
        verification: from `ccverify.nvidia.device.DeviceVerifier`.
        level: HARDWARE when the device itself signed them, NONE otherwise.
    """

    verification: DeviceVerification
    level: Assurance

    @property
    def subject(self) -> str:
        """The device's name in the verdict, such as ``gpu-0``."""
        return self.verification.subject

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """JSON-ready values by claim name; bytes are lower-case hex, identities upper-case."""
        device = self.verification
        chain, report, opaque = device.chain, device.report, device.opaque
        values: dict[str, Any] = {
            "device_id": _upper(chain.device_id if chain else None),
            "arch": chain.architecture.value if chain and chain.architecture else None,
            "chip": chain.chip if chain else None,
            "nonce": report.nonce.hex() if report else None,
            "report_digest": report.digest if report else None,
            "fwid": chain.fwid.hex() if chain and chain.fwid else None,
            "identity_chain": [
                {"subject": each.subject_text, "sha256": each.sha256.hex()}
                for each in (chain.certificates if chain else ())
            ],
            "measurements": self._measurements(),
        }
        if isinstance(opaque, GpuOpaqueData):
            values |= _gpu_values(opaque)
        elif isinstance(opaque, SwitchOpaqueData):
            values |= _switch_values(opaque)
        return values

    @cached_property
    def assurance(self) -> Mapping[str, Assurance]:
        """Claim name → what that claim rests on."""
        levels = dict.fromkeys(self.values, self.level)
        if self.verification.comparison is None:
            levels["measurements"] = Assurance.NONE  # nothing was compared with anything
        return levels

    def _measurements(self) -> dict[str, Any]:
        device, comparison = self.verification, self.verification.comparison
        reported = len(device.report.measurements) if device.report else 0
        needed = [each.wanted.text for each in device.manifests]
        if comparison is None:
            return {"reported": reported, "matched": None, "total": None, "mismatched": None,
                    "rims": [], "rims_needed": needed}  # fmt: skip
        return {
            "reported": reported,
            "matched": comparison.matched,
            "total": comparison.total,
            "mismatched": [each.index for each in comparison.mismatched],
            "skipped": list(comparison.skipped),
            "without_golden": list(comparison.without_golden),
            "rims": [each.choice.name or each.wanted.text for each in device.manifests],
            "rims_needed": needed,
        }

    def to_json(self) -> dict[str, Any]:
        """Return values and assurances as one JSON object."""
        return {
            "subject": self.subject,
            **self.values,
            "assurance": {name: level.value for name, level in self.assurance.items()},
        }


def common_level(devices: Iterable[DeviceClaims]) -> Assurance:
    """What a claim about all of them rests on: HARDWARE only where there are devices, all so."""
    levels = {device.level for device in devices}
    return Assurance.HARDWARE if levels == {Assurance.HARDWARE} else Assurance.NONE


def _gpu_values(opaque: GpuOpaqueData) -> dict[str, Any]:
    reading = opaque.mode_reading
    return {
        "mode": mode_name(opaque),
        "mode_basis": reading.problem or reading.basis,
        "driver": opaque.driver_version,
        "vbios": opaque.vbios_version,
        "project": opaque.project,
        "project_sku": opaque.project_sku,
        "chip_sku": opaque.chip_sku,
        "chip_info": opaque.chip_info,
        "protected_pcie": opaque.protected_pcie,
        "nvswitch_pdis": _pdis(opaque.switch_pdis),
        "unknown_fields": _unknown(opaque.unknown, gpu_field_name),
    }


def _switch_values(opaque: SwitchOpaqueData) -> dict[str, Any]:
    return {
        "mode": None,
        "driver": None,
        "vbios": opaque.vbios_version,
        "position": opaque.position_id,
        "locked": opaque.locked,
        "disabled_ports": opaque.disabled_ports.hex() if opaque.disabled_ports else None,
        "gpu_pdis": _pdis(opaque.gpu_pdis.pdis if opaque.gpu_pdis else None),
        "unknown_fields": _unknown(opaque.unknown, switch_field_name),
    }


def _unknown(fields: Iterable[RawField], name_of: Callable[[int], str]) -> list[dict[str, str]]:
    return [{"field": name_of(each.type), "data": each.data.hex()} for each in fields]


def _pdis(pdis: Iterable[bytes] | None) -> list[str] | None:
    """Distinct identifiers of devices, zero left out: which link leads where is not claimed."""
    if pdis is None:
        return None
    return sorted({each.hex().upper() for each in pdis if any(each)})


def _upper(value: bytes | None) -> str | None:
    return None if value is None else value.hex().upper()
