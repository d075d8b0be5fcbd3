"""A simulated confidential-computing platform, for tests, fixtures and demonstrations.

**Everything here is simulated and proves nothing about any real machine.**  The keys are
derived from public labels, so anybody can sign with them.  The simulated roots are never
part of production trust: no pinned root of `ccverify.trust` is made here, and a verifier
accepts this evidence only when a caller names a simulated root on purpose.

The package is also a second opinion: it shares no code with ccverify's parsers and
verifiers, so that the two cannot be wrong in the same way.  It has no clock and no source of
randomness; the same arguments give the same bytes.

    from ccverify.sim import SimPlatform

    evidence = SimPlatform().evidence(version=5, body_type=3)
    evidence.quote_bytes, evidence.collateral.to_json(), evidence.root_der

Start from `SimPlatform.case()` to change anything: certificates, revocation lists, TCB info,
QE identity, any field of the quote, event logs.  `ccverify.sim.defects` lists named defects.

GPUs and NVSwitches, their manifests and revocation answers come from `SimNode`; to sit below
a TD, they only have to answer the same nonce:

    node = SimNode.hopper_ppcie(nonce=nonce)
    node.build().nvattest_json(), node.build().rims, node.build().ocsp

`ccverify.sim.nvidia` has the models and all that can be changed of a device.

`SimMachine` puts both together and answers one request at a time, as a machine does; `sim_machine`
has one of each kind by its name:

    machine = sim_machine("b300-hgx-4")
    machine.gpu(0, device_nonce).report, machine.quote(report_data)

`sim_board` makes a board that several tenants share, and `SimManager` its Fabric Manager:

    manager = SimManager(sim_board("B300", [2, 3]))
    manager.board.machine("a"), manager.service_vm()
"""

from __future__ import annotations

from ccverify.sim.board import SimBoard, sim_board
from ccverify.sim.certs import CertificateSpec, CrlSpec, Extension, Name, Revoked
from ccverify.sim.collateral import (
    Collateral,
    ModuleIdentity,
    QeIdentity,
    SignedBody,
    SvnLevel,
    TcbComponent,
    TcbInfo,
    TcbLevel,
    sign_body,
)
from ccverify.sim.defaults import DEFAULT_TIME
from ccverify.sim.eventlog import CcelEvent, DstackEvent
from ccverify.sim.fabric import SimTenant
from ccverify.sim.keys import DEFAULT_SEED, SimKey
from ccverify.sim.machine import MACHINES, SimMachine, sim_machine
from ccverify.sim.manager import SimManager
from ccverify.sim.nvidia.device import SimDevice
from ccverify.sim.nvidia.node import SimNode
from ccverify.sim.nvidia.pki import SimNvidiaIssuer
from ccverify.sim.pki import SimIssuer
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform
from ccverify.sim.quote import BuiltQuote, QuoteSpec
from ccverify.sim.reports import QuoteHeader, SgxReport, TdReport10, TdReport15, TdReport15Ex
from ccverify.sim.sgx_extension import PckConfiguration, SgxExtension

__all__ = [
    "DEFAULT_SEED",
    "DEFAULT_TIME",
    "MACHINES",
    "BuiltQuote",
    "CcelEvent",
    "CertificateSpec",
    "Collateral",
    "CrlSpec",
    "DstackEvent",
    "Extension",
    "ModuleIdentity",
    "Name",
    "PckConfiguration",
    "QeIdentity",
    "QuoteHeader",
    "QuoteSpec",
    "Revoked",
    "SgxExtension",
    "SgxReport",
    "SignedBody",
    "SimBoard",
    "SimCase",
    "SimDevice",
    "SimEvidence",
    "SimIssuer",
    "SimKey",
    "SimMachine",
    "SimManager",
    "SimNode",
    "SimNvidiaIssuer",
    "SimPlatform",
    "SimTenant",
    "SvnLevel",
    "TcbComponent",
    "TcbInfo",
    "TcbLevel",
    "TdReport10",
    "TdReport15",
    "TdReport15Ex",
    "sign_body",
    "sim_board",
    "sim_machine",
]
