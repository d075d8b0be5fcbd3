"""Simulated GPUs and NVSwitches: a certificate chain and a report that belong together."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ccverify.errors import UsageError
from ccverify.sim.certs import CertificateSpec
from ccverify.sim.nvidia.chips import Chip
from ccverify.sim.nvidia.models import GpuModel, SwitchModel
from ccverify.sim.nvidia.opaque import NO_GPU, GpuFields, SwitchFields
from ccverify.sim.nvidia.pki import SimNvidiaIssuer, chain_pem
from ccverify.sim.nvidia.spdm import ReportSpec, measurement_blocks

__all__ = [
    "DEFAULT_NONCE",
    "SWITCH_SLOTS",
    "BuiltDevice",
    "SimDevice",
    "sim_gpu",
    "sim_switch",
]

DEFAULT_NONCE = hashlib.sha256(b"ccverify simulation: device nonce").digest()
"""The relying party's nonce in every report that is not told another, 32 bytes."""

SWITCH_SLOTS = 8
"""GPUs that an NVSwitch lists."""

_PORTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltDevice:
    """One device's evidence as bytes."""

    label: str
    architecture: str
    nonce: bytes
    report: bytes
    chain_pem: bytes
    driver_version: str | None
    vbios_version: str | None

    def item(self) -> dict[str, str]:
        """Return the device as one item of an evidence file of NVIDIA's attestation SDK."""
        stated = {
            "arch": self.architecture,
            "certificate": base64.b64encode(self.chain_pem).decode("ascii"),
            "driver_version": self.driver_version,
            "evidence": base64.b64encode(self.report).decode("ascii"),
            "nonce": self.nonce.hex(),
            "vbios_version": self.vbios_version,
            "version": "1.0",
        }
        return {name: value for name, value in stated.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimDevice:
    """One device, every ingredient of whose evidence can be replaced.

    Attributes:
        label: names the device.
        chip: what it is.
        pdi: its permanent identifier, 8 bytes, as certified.
        chain: attestation key first, root last; each names its own signer.
        report: signed with its own `signer`, which does not follow when `chain` is replaced;
            see `with_chain`.
        architecture: what the evidence claims.
        claimed_nonce: what the evidence claims; None for that of the report.
        driver_version, vbios_version: what the evidence claims, unsigned.
    """

    label: str
    chip: Chip
    pdi: bytes
    chain: tuple[CertificateSpec, ...]
    report: ReportSpec
    architecture: str
    claimed_nonce: bytes | None = None
    driver_version: str | None = None
    vbios_version: str | None = None

    def with_chain(self, chain: tuple[CertificateSpec, ...]) -> SimDevice:
        """Return the device with another chain, whose first key signs the report again."""
        return replace(self, chain=chain).with_report(signer=chain[0].key)

    def with_report(self, **changes: Any) -> SimDevice:
        """Return the device with fields of its report replaced; the report is signed again."""
        return replace(self, report=replace(self.report, **changes))

    def with_fields(self, **changes: Any) -> SimDevice:
        """Return the device with opaque fields replaced; the report is signed again.

        Raises:
            UsageError: its opaque data is raw pairs.
        """
        opaque = self.report.opaque
        if isinstance(opaque, tuple):
            raise UsageError("raw opaque data has no named fields", hint="replace report.opaque")
        return self.with_report(opaque=replace(opaque, **changes))

    def in_mode(self, mode: str | None) -> SimDevice:
        """Return the GPU in another mode, see `GpuFields.in_mode`; the report is signed again.

        Raises:
            UsageError: it is no GPU, or its opaque data is raw pairs.
        """
        opaque = self.report.opaque
        if not isinstance(opaque, GpuFields):
            raise UsageError("only a GPU with typed opaque fields has a mode")
        return self.with_report(opaque=opaque.in_mode(mode))

    def with_measurement(self, index: int, value: bytes) -> SimDevice:
        """Return the device with another value at RIM index `index`; signed again."""
        return replace(self, report=self.report.with_measurement(index, value))

    def build(self) -> BuiltDevice:
        """Sign everything and return the evidence."""
        nonce = self.report.nonce if self.claimed_nonce is None else self.claimed_nonce
        return BuiltDevice(
            label=self.label,
            architecture=self.architecture,
            nonce=nonce,
            report=self.report.encode(),
            chain_pem=chain_pem(self.chain).encode("ascii"),
            driver_version=self.driver_version,
            vbios_version=self.vbios_version,
        )


def sim_gpu(
    issuer: SimNvidiaIssuer,
    model: GpuModel,
    label: str,
    *,
    mode: str | None = "SPT",
    nonce: bytes = DEFAULT_NONCE,
    switch_pdis: tuple[bytes, ...] | None = None,
    pdi: bytes | None = None,
) -> SimDevice:
    """Return one honest GPU.

    Args:
        issuer: who certified it.
        model: its board, firmware and driver.
        label: names it; PDI and keys follow from it.
        mode: ``SPT``, ``MPT`` or ``PPCIE``; None where the firmware does not say.
        nonce: 32 bytes.
        switch_pdis: the switch behind each of 18 links, in the byte order of certificates.
        pdi: 8 bytes; None for the label's.
    """
    device_id = issuer.identifier("pdi", label, 8) if pdi is None else pdi
    chain = issuer.device_chain(model.chip, label, model.fwid, pdi=device_id)
    return SimDevice(
        label=label,
        chip=model.chip,
        pdi=device_id,
        chain=chain,
        report=ReportSpec(
            nonce=nonce,
            blocks=measurement_blocks(model.measurements()),
            opaque=model.fields(mode, switch_pdis),
            responder_nonce=issuer.identifier("responder-nonce", label, 32),
            signer=chain[0].key,
        ),
        architecture=model.chip.architecture,
        driver_version=model.driver,
        vbios_version=model.vbios,
    )


def sim_switch(
    issuer: SimNvidiaIssuer,
    model: SwitchModel,
    label: str,
    *,
    position: int,
    gpu_pdis: Sequence[bytes],
    nonce: bytes = DEFAULT_NONCE,
    pdi: bytes | None = None,
) -> SimDevice:
    """Return one honest, locked NVSwitch that serves up to 8 GPUs; see `sim_gpu`."""
    device_id = issuer.identifier("pdi", label, 8) if pdi is None else pdi
    chain = issuer.device_chain(model.chip, label, model.fwid, pdi=device_id)
    slots = (*gpu_pdis, *(bytes(8) for _ in range(SWITCH_SLOTS - len(gpu_pdis))))
    ports = bytes(slot for slot in range(len(gpu_pdis)) for _ in range(3))
    fields = SwitchFields(
        bios_version=model.bios,
        device_pdi=device_id,
        measurement_counts=model.measurement_counts,
        gpu_pdis=slots,
        ports=ports.ljust(_PORTS, bytes((NO_GPU,))),
        position=position,
    )
    return SimDevice(
        label=label,
        chip=model.chip,
        pdi=device_id,
        chain=chain,
        report=ReportSpec(
            nonce=nonce,
            blocks=measurement_blocks(model.measurements()),
            opaque=fields,
            responder_nonce=issuer.identifier("responder-nonce", label, 32),
            signer=chain[0].key,
        ),
        architecture=model.chip.architecture,
    )
