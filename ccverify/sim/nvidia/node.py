"""Whole nodes of simulated devices: evidence, manifests and revocation answers that agree.

    node = SimNode.hopper_ppcie()
    evidence = node.build()
    evidence.nvattest_json(), evidence.rims, evidence.ocsp, evidence.device_root_der

Everything is a frozen specification, so that an attack is one replacement:

    replace(node, gpus=(node.gpus[0],) * 8)             # one GPU eight times
    node.with_gpu(3, node.gpus[3].with_fields(fwid=bytes(48)))
    node.with_status(node.gpus[0].chain[1], "revoked")
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from ccverify.errors import UsageError
from ccverify.sim.certs import CertificateSpec, CrlSpec
from ccverify.sim.defaults import DEFAULT_TIME
from ccverify.sim.nvidia.device import (
    DEFAULT_NONCE,
    SWITCH_SLOTS,
    BuiltDevice,
    SimDevice,
    sim_gpu,
    sim_switch,
)
from ccverify.sim.nvidia.models import (
    B200,
    H100,
    NVSWITCH3,
    RTX_PRO_6000,
    GpuModel,
    SwitchModel,
)
from ccverify.sim.nvidia.ocsp import OcspAnswer, OcspSpec, OcspStatus
from ccverify.sim.nvidia.pki import SimNvidiaIssuer, certificate_der
from ccverify.sim.nvidia.rim import RimSpec

__all__ = ["BlackwellChip", "NodeEvidence", "SimNode"]

BlackwellChip = Literal["GB100", "GB20X"]

_LINKS = 18  # NVLinks of a Hopper GPU
_BLACKWELL = {"GB100": B200, "GB20X": RTX_PRO_6000}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvidence:
    """Everything a verifier needs, as bytes.

    Attributes:
        at: the time it is meant to be judged at.
        nonce: of every honest report, 32 bytes.
        gpus, switches: device evidence.
        rims: (file name, signed XML).
        ocsp: DER OCSPResponses.
        crls: DER CertificateLists.
        device_root_der, rim_root_der: the simulated roots.
    """

    at: datetime
    nonce: bytes
    gpus: tuple[BuiltDevice, ...]
    switches: tuple[BuiltDevice, ...]
    rims: tuple[tuple[str, bytes], ...]
    ocsp: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    device_root_der: bytes
    rim_root_der: bytes

    @property
    def timestamp(self) -> int:
        """`at` in seconds since 1970."""
        return int(self.at.timestamp())

    def nvattest_json(self) -> str:
        """Return all devices, GPUs first, as one evidence file of NVIDIA's attestation SDK."""
        items = [device.item() for device in (*self.gpus, *self.switches)]
        return json.dumps(items, indent=2) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimNode:
    """The devices of one node, and the collateral about them; replace any, then `build`.

    Attributes:
        issuer: whose roots `build` gives out.
        at: the time it is meant for.
        nonce: recorded; the reports have their own, see `with_nonce`.
        gpus, switches: the devices; their topology lists do not follow when these are replaced.
        rims: manifests.
        ocsp: OCSP responses; None for a good answer about every certificate of the device
            chains (but for attestation keys) and of the manifests' signer chains.
        ocsp_nonce: in those answers.
        crls: revocation lists.
    """

    issuer: SimNvidiaIssuer = field(default_factory=SimNvidiaIssuer)
    at: datetime = DEFAULT_TIME
    nonce: bytes = DEFAULT_NONCE
    gpus: tuple[SimDevice, ...]
    switches: tuple[SimDevice, ...] = ()
    rims: tuple[RimSpec, ...] = ()
    ocsp: tuple[OcspSpec, ...] | None = None
    ocsp_nonce: bytes | None = None
    crls: tuple[CrlSpec, ...] = ()

    @classmethod
    def hopper_ppcie(
        cls,
        gpus: int = 8,
        switches: int = 4,
        *,
        issuer: SimNvidiaIssuer | None = None,
        label: str = "node-1",
        model: GpuModel = H100,
        switch_model: SwitchModel = NVSWITCH3,
        nonce: bytes = DEFAULT_NONCE,
        at: datetime = DEFAULT_TIME,
    ) -> SimNode:
        """Return an HGX Hopper node in Protected PCIe mode, its lists a true bijection.

        Raises:
            UsageError: more GPUs than a switch lists, or more switches than a GPU has links.
        """
        if not 1 <= gpus <= SWITCH_SLOTS or not 1 <= switches <= _LINKS:
            raise UsageError(
                "no such Protected PCIe node",
                expected=f"1 to {SWITCH_SLOTS} GPUs and 1 to {_LINKS} switches",
                found=f"{gpus} and {switches}",
            )
        by = SimNvidiaIssuer() if issuer is None else issuer
        gpu_labels = [f"{label}/gpu-{number}" for number in range(gpus)]
        switch_labels = [f"{label}/nvswitch-{number}" for number in range(switches)]
        gpu_pdis = [by.identifier("pdi", own, 8) for own in gpu_labels]
        switch_pdis = [by.identifier("pdi", own, 8) for own in switch_labels]
        # Of 4 switches two are behind 5 links each and two behind 4, as on real boards.
        links = tuple(sorted(switch_pdis[link % switches] for link in range(_LINKS)))
        return cls(
            issuer=by,
            at=at,
            nonce=nonce,
            gpus=tuple(
                sim_gpu(by, model, own, mode="PPCIE", nonce=nonce, switch_pdis=links)
                for own in gpu_labels
            ),
            switches=tuple(
                # Each switch lists the GPUs in an order of its own.
                sim_switch(
                    by,
                    switch_model,
                    own,
                    position=number,
                    gpu_pdis=gpu_pdis[number % gpus :] + gpu_pdis[: number % gpus],
                    nonce=nonce,
                )
                for number, own in enumerate(switch_labels)
            ),
            rims=(*model.rims(by), *switch_model.rims(by)),
        )

    @classmethod
    def hopper_spt(cls, n: int = 1, *, mode: str | None = "SPT", **options: Any) -> SimNode:
        """Return `n` Hopper GPUs, each passed through on its own; options as of `of_gpus`."""
        return cls.of_gpus(H100, n, mode=mode, **options)

    @classmethod
    def blackwell(
        cls, mode: str | None = "SPT", n: int = 1, chip: BlackwellChip = "GB100", **options: Any
    ) -> SimNode:
        """Return `n` Blackwell GPUs in mode ``SPT`` or ``MPT``; options as of `of_gpus`."""
        return cls.of_gpus(_BLACKWELL[chip], n, mode=mode, **options)

    @classmethod
    def of_gpus(
        cls,
        model: GpuModel,
        n: int,
        *,
        mode: str | None,
        issuer: SimNvidiaIssuer | None = None,
        label: str = "node-1",
        nonce: bytes = DEFAULT_NONCE,
        at: datetime = DEFAULT_TIME,
    ) -> SimNode:
        """Return `n` GPUs of one model without switches, and their manifests."""
        by = SimNvidiaIssuer() if issuer is None else issuer
        gpus = tuple(
            sim_gpu(by, model, f"{label}/gpu-{number}", mode=mode, nonce=nonce)
            for number in range(n)
        )
        return cls(issuer=by, at=at, nonce=nonce, gpus=gpus, rims=model.rims(by))

    @property
    def devices(self) -> tuple[SimDevice, ...]:
        """All devices, GPUs first."""
        return (*self.gpus, *self.switches)

    def with_gpu(self, number: int, device: SimDevice) -> SimNode:
        """Return the node with another GPU in that place."""
        return replace(self, gpus=(*self.gpus[:number], device, *self.gpus[number + 1 :]))

    def with_switch(self, number: int, device: SimDevice) -> SimNode:
        """Return the node with another switch in that place."""
        rest = self.switches[number + 1 :]
        return replace(self, switches=(*self.switches[:number], device, *rest))

    def with_rim(self, number: int, rim: RimSpec) -> SimNode:
        """Return the node with another manifest in that place."""
        return replace(self, rims=(*self.rims[:number], rim, *self.rims[number + 1 :]))

    def with_nonce(self, nonce: bytes) -> SimNode:
        """Return the node as it answers another nonce: every report is signed again."""
        return replace(
            self,
            nonce=nonce,
            gpus=tuple(one.with_report(nonce=nonce) for one in self.gpus),
            switches=tuple(one.with_report(nonce=nonce) for one in self.switches),
        )

    def with_status(
        self, certificate: CertificateSpec, status: OcspStatus, **changes: Any
    ) -> SimNode:
        """Return the node with another answer about one certificate; others stay as they are.

        Raises:
            UsageError: nothing is answered about it.
        """
        specs = self.ocsp_responses()
        about = [spec.answers[0].certificate == certificate for spec in specs]
        if not any(about):
            raise UsageError(
                "nothing is answered about that certificate",
                expected="a certificate of a device below its attestation key, or of a signer",
                found=dict(certificate.subject.attributes)["CN"],
            )
        changed = (
            spec.with_answer(status=status, **changes) if matches else spec
            for spec, matches in zip(specs, about, strict=True)
        )
        return replace(self, ocsp=tuple(changed))

    def without_answer(self, certificate: CertificateSpec) -> SimNode:
        """Return the node with nothing answered about one certificate."""
        specs = self.ocsp_responses()
        kept = tuple(spec for spec in specs if spec.answers[0].certificate != certificate)
        return replace(self, ocsp=kept)

    def ocsp_responses(self) -> tuple[OcspSpec, ...]:
        """Return the OCSP responses: those stated, or one good answer a certificate."""
        if self.ocsp is not None:
            return self.ocsp
        devices = (device.chain[1:] for device in self.devices)
        chains: list[tuple[CertificateSpec, ...]] = [*devices, *(rim.chain for rim in self.rims)]
        pairs = dict.fromkeys(pair for chain in chains for pair in pairwise(chain))
        return tuple(self.answer(*pair) for pair in pairs)

    def answer(
        self, certificate: CertificateSpec, issuer: CertificateSpec, **changes: Any
    ) -> OcspSpec:
        """Return an answer about one certificate by a responder its issuer certified.

        Without changes to the `OcspAnswer`: good, a day old, valid for another six days.
        """
        since = self.at - timedelta(days=1)
        stated = {"this_update": since, "next_update": since + timedelta(days=7), **changes}
        return OcspSpec(
            answers=(OcspAnswer(certificate=certificate, issuer=issuer, **stated),),
            responder=self.issuer.ocsp_responder(issuer),
            produced_at=since,
            nonce=self.ocsp_nonce,
        )

    def all_crls(self) -> tuple[CrlSpec, ...]:
        """Return an empty revocation list of every CA above the devices and the signers."""
        chains: Iterable[tuple[CertificateSpec, ...]] = (
            *(device.chain[2:] for device in self.devices),
            *(rim.chain[1:] for rim in self.rims),
        )
        cas = dict.fromkeys(one for chain in chains for one in chain)
        return tuple(self.issuer.crl(ca, self.at) for ca in cas)

    def build(self) -> NodeEvidence:
        """Sign everything and return the evidence."""
        return NodeEvidence(
            at=self.at,
            nonce=self.nonce,
            gpus=tuple(device.build() for device in self.gpus),
            switches=tuple(device.build() for device in self.switches),
            rims=tuple((rim.file_name, rim.xml()) for rim in self.rims),
            ocsp=tuple(spec.der() for spec in self.ocsp_responses()),
            crls=tuple(crl.der() for crl in self.crls),
            device_root_der=certificate_der(self.issuer.device_root()),
            rim_root_der=certificate_der(self.issuer.rim_root()),
        )
