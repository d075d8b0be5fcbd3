"""What judges a simulated machine: the simulator's roots, what it published, a fitting policy.

A store with these roots is of the kind SIMULATED, and every verdict under it says so.  No pinned
root certifies anything simulated, and no option of ``ccverify check`` names these: under
production trust a simulated bundle is refused as any other forgery.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from ccverify.collateral import CollateralFile, serialize_collateral_file
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.ocsp import OcspResponse, parse_ocsp_response
from ccverify.results.emitted_model import Role, StoredFile
from ccverify.sim.machine import SimMachine
from ccverify.tdx.collateral import parse_collateral
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.store import TrustKind, TrustStore
from ccverify.trust.x509 import Crl, parse_crl

__all__ = ["SimTrust", "matching_policy", "simulated_trust", "td_expectations"]

_MODES = {0: "SPT", 1: "MPT", 2: "PPCIE"}
_ARCHITECTURES = {"GH100": "HOPPER", "GB100": "BLACKWELL-GB100", "GB20X": "BLACKWELL-GB20X"}


@dataclass(frozen=True, slots=True)
class SimTrust:
    """Whom to believe about a simulated machine, and what they published about it.

    Attributes:
        store: of the kind SIMULATED.
        collateral: of both vendors.
        pack: the same as one file.
        roots: the three roots as files of a verdict bundle.
        at: the time for which it was published.
    """

    store: TrustStore
    collateral: CollateralFile
    pack: bytes
    roots: tuple[StoredFile, ...]
    at: datetime


@lru_cache(maxsize=32)
def simulated_trust(machine: SimMachine) -> SimTrust:
    """Return the simulated roots, and everything that judging this machine needs.

    The roots are those of its own simulated vendors: for a machine of another vendor, with keys
    of its own, they are others.
    """
    intel, nvidia = machine.intel_collateral(), machine.nvidia_collateral()
    answers: list[OcspResponse | Crl] = [parse_ocsp_response(der) for der in nvidia.ocsp]
    answers += [parse_crl(der) for der in nvidia.crls]
    collateral = CollateralFile(
        parse_collateral(intel.to_json().encode("utf-8")),
        NvidiaCollateral.of(nvidia.rims, answers),
    )
    intel_root = machine.platform.issuer.root().der()
    roots = (
        (Role.INTEL_ROOT, "simulated_root.der", intel_root),
        (Role.NVIDIA_DEVICE_ROOT, "simulated_nvidia_device_root.der", nvidia.device_root_der),
        (Role.NVIDIA_RIM_ROOT, "simulated_nvidia_rim_root.der", nvidia.rim_root_der),
    )
    first, *others = (TrustAnchor.load(der) for _, _, der in roots)
    device_root, rim_root = others
    return SimTrust(
        store=TrustStore(TrustKind.SIMULATED, first, device_root, rim_root),
        collateral=collateral,
        pack=serialize_collateral_file(collateral),
        roots=tuple(StoredFile.of(role, name, der) for role, name, der in roots),
        at=machine.at,
    )


def td_expectations(machine: SimMachine) -> dict[str, Any]:
    """Return a section ``tdx`` that fits this machine: a tenant's, or a service VM's."""
    registers = {key: [value.hex()] for key, value in machine.registers().items()}
    return {
        "measurements": registers,
        "platform": {"ppid": [machine.platform.identifier("ppid").hex()]},
    }


def matching_policy(machine: SimMachine, *, name: str | None = None) -> dict[str, Any]:
    """Return the document of a policy that fits this machine, and waives nothing it can show.

    It lists what whoever owns the image and rents the machine would know: measurements, the
    platform, and every device.
    """
    gpus, switches = machine.node.gpus, machine.node.switches
    opaque = gpus[0].report.opaque
    mode = _MODES.get(getattr(opaque, "feature_flag", None) or 0, "SPT")
    policy: dict[str, Any] = {
        "schema": "ccverify.policy/v1",
        "name": name or f"simulated {machine.name}",
        "tdx": {**td_expectations(machine), "event_log": {"required": True}},
        "gpus": {
            "count": len(gpus),
            "architectures": sorted({_ARCHITECTURES[gpu.chip.name] for gpu in gpus}),
            "modes": [mode],
            "device_ids": [gpu.pdi.hex() for gpu in gpus],
        },
        "binding": {"profiles": ["ccverify"]},
    }
    if switches:
        policy["nvswitches"] = {
            "count": len(switches),
            "architectures": ["LS10"],
            "device_ids": [switch.pdi.hex() for switch in switches],
        }
    if mode == "PPCIE":
        # A Hopper tenant of a shared board has no switches, so none say who is connected.
        policy["topology"] = {
            "kind": "protected-pcie", "gpus": len(gpus), "switches": len(switches),
        } if switches else "any"  # fmt: skip
    if mode != "SPT" and not switches:
        # The switches are outside: what is known of the fabric, the guest observes.
        partition = {"size": len(gpus), "clique_ids": [machine.fabric.partition]}
        policy["fabric"] = {"mode": mode, "partition": partition}
    return policy
