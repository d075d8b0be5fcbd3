"""What a case with devices is: a node, what NVIDIA published, and the verdict that must follow."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from ccverify.sim.cases.model import NONCE, Expected, Json, honest, pack, untrusted
from ccverify.sim.defaults import DEFAULT_TIME
from ccverify.sim.nvidia import (
    B200,
    H100,
    NVSWITCH3,
    RTX_PRO_6000,
    OcspSpec,
    RimSpec,
    SimDevice,
    SimNode,
    SimNvidiaIssuer,
)
from ccverify.sim.platform import SimCase, SimEvidence

__all__ = [
    "AUTHORITIES",
    "DRIVER_RIM",
    "HGX",
    "HOPPER",
    "ISSUER",
    "SHARED_PACKS",
    "STRANGER",
    "VBIOS_RIM",
    "DeviceCase",
    "answers",
    "b200",
    "build_node",
    "crl_entry",
    "device_case",
    "device_policy",
    "forged",
    "gpu_rules",
    "h100",
    "hgx",
    "hgx_policy",
    "items",
    "numbered",
    "ocsp_entry",
    "of",
    "rim_entry",
    "rtx",
    "shared_pack",
    "switch",
    "switch_policy",
    "switch_rules",
    "unchained",
    "unproven",
    "unreadable",
    "withdrawn",
    "without_answers",
    "without_rims",
]

ISSUER = SimNvidiaIssuer()
STRANGER = SimNvidiaIssuer(seed=b"somebody else")
"""An NVIDIA of the attacker's own: the same names, other keys."""

Entries = Callable[[SimNode], Iterable[Json]]


# --- machines ---


def h100(n: int = 1, mode: str | None = "SPT", **options: Any) -> SimNode:
    """Return `n` Hopper GPUs, each for itself."""
    return SimNode.hopper_spt(n, mode=mode, **({"label": "h100-1", "nonce": NONCE} | options))


def hgx(gpus: int = 2, switches: int = 2, **options: Any) -> SimNode:
    """Return a Protected PCIe node; its GPUs are those of `h100`."""
    return SimNode.hopper_ppcie(gpus, switches, **({"label": "h100-1", "nonce": NONCE} | options))


def switch() -> SimNode:
    """Return one NVSwitch of `hgx` alone."""
    whole = hgx(1, 1)
    return SimNode(issuer=ISSUER, nonce=NONCE, gpus=(), switches=whole.switches, rims=whole.rims)


def b200(mode: str | None = "SPT", n: int = 1) -> SimNode:
    """Return `n` Blackwell GPUs of an HGX board."""
    return SimNode.blackwell(mode, n, label="b200-1", nonce=NONCE)


def rtx(mode: str | None = "SPT", n: int = 1) -> SimNode:
    """Return `n` Blackwell GPUs on PCIe cards."""
    return SimNode.blackwell(mode, n, "GB20X", label="rtx-1", nonce=NONCE)


def build_node(gpus: Iterable[SimDevice], switches: Iterable[SimDevice] = ()) -> SimNode:
    """Return a node of these devices, for which `hgx` has the manifests."""
    return SimNode(
        issuer=ISSUER, nonce=NONCE, gpus=tuple(gpus), switches=tuple(switches), rims=hgx().rims
    )


# --- collateral ---


def _text(der: bytes) -> str:
    return base64.b64encode(der).decode("ascii")


def rim_entry(rim: RimSpec, xml: str | None = None) -> Json:
    """Return a manifest as an entry of a pack, or other XML under its name."""
    text = rim.xml().decode("utf-8") if xml is None else xml
    return {"type": "rim", "name": rim.file_name, "xml": text}


def ocsp_entry(spec: OcspSpec) -> Json:
    """Return an OCSP response as an entry of a pack."""
    return {"type": "ocsp-response", "der": _text(spec.der())}


def crl_entry(der: bytes) -> Json:
    """Return a revocation list as an entry of a pack."""
    return {"type": "nvidia-crl", "der": _text(der)}


def _is_identity(spec: OcspSpec) -> bool:
    return dict(spec.answers[0].certificate.subject.attributes)["CN"].endswith(" BROM")


def answers(node: SimNode, *, identities: bool | None = None) -> list[Json]:
    """Return the node's OCSP responses; about device identities alone, or about all others."""
    wanted = (
        spec
        for spec in node.ocsp_responses()
        if identities is None or _is_identity(spec) is identities
    )
    return [ocsp_entry(spec) for spec in wanted]


def _authorities() -> list[Json]:
    entries = [
        one for node in (hgx(1, 1), b200(), rtx()) for one in answers(node, identities=False)
    ]
    return list({entry["der"]: entry for entry in entries}.values())


SHARED_PACKS: Mapping[str, Callable[[], list[Json]]] = {
    "rim-gh100-driver": lambda: [rim_entry(H100.driver_rim(ISSUER))],
    "rim-gh100-vbios": lambda: [rim_entry(H100.vbios_rim(ISSUER))],
    "rim-ls10": lambda: [rim_entry(NVSWITCH3.bios_rim(ISSUER))],
    "rim-gb100": lambda: [rim_entry(rim) for rim in B200.rims(ISSUER)],
    "rim-gb20x": lambda: [rim_entry(rim) for rim in RTX_PRO_6000.rims(ISSUER)],
    "ocsp-authorities": _authorities,
    "ocsp-h100-1": lambda: answers(hgx(8, 4), identities=True),
    "ocsp-h100-2": lambda: answers(hgx(label="h100-2"), identities=True),
    "ocsp-b200-1": lambda: answers(b200(n=8), identities=True),
    "ocsp-rtx-1": lambda: answers(rtx(), identities=True),
}
"""Collateral that many cases have in common."""

DRIVER_RIM, VBIOS_RIM, AUTHORITIES = "rim-gh100-driver", "rim-gh100-vbios", "ocsp-authorities"
HOPPER = (DRIVER_RIM, VBIOS_RIM, AUTHORITIES, "ocsp-h100-1")
"""All that is needed for `h100`."""
HGX = (*HOPPER, "rim-ls10")
"""All that is needed for `hgx`."""


@cache
def shared_pack(name: str) -> str:
    """Return one of `SHARED_PACKS`, or Intel's collateral of the usual TD under ``intel``."""
    if name == "intel":
        return honest().build().collateral.to_json()
    return pack(SHARED_PACKS[name]())


# --- policies ---


def gpu_rules(**changes: Any) -> Json:
    """Return section ``gpus`` for one Hopper GPU; None leaves a key out."""
    rules = {"count": 1, "architectures": ["HOPPER"], "modes": ["SPT"], **changes}
    return {key: value for key, value in rules.items() if value is not None}


def switch_rules(**changes: Any) -> Json:
    """Return section ``nvswitches`` for one switch; None leaves a key out."""
    return {key: value for key, value in {"count": 1, **changes}.items() if value is not None}


def device_policy(**sections: Any) -> Json:
    """Return a policy of these sections; None leaves one out.  Without any: one Hopper GPU."""
    stated = {"gpus": gpu_rules()} | sections
    kept = {name: section for name, section in stated.items() if section is not None}
    return {"schema": "ccverify.policy/v1", "name": "simulated devices", **kept}


def switch_policy(**changes: Any) -> Json:
    """Return a policy for one switch alone."""
    return device_policy(gpus=None, nvswitches=switch_rules(**changes), topology="any")


def hgx_policy(
    gpus: int = 2,
    switches: int = 2,
    *,
    gpu: Json | None = None,
    nvswitch: Json | None = None,
    **topology: Any,
) -> Json:
    """Return a policy for a Protected PCIe node, with rules added to its sections."""
    shape = {"kind": "protected-pcie", "gpus": gpus, "switches": switches, **topology}
    return device_policy(
        gpus=gpu_rules(**({"count": gpus, "modes": ["PPCIE"]} | (gpu or {}))),
        nvswitches=switch_rules(**({"count": switches} | (nvswitch or {}))),
        topology=shape,
    )


# --- what must follow ---
# Nothing may be built on what is not genuine: what hangs on a lost step stays unchecked.

_MANIFESTS = "RIM RIM-SIGNATURE RIM-VALIDITY RIM-REVOCATION MEASUREMENTS"
_STATEMENTS = f"FWID REVOCATION REVOCATION-FRESH {_MANIFESTS}"


def of(subject: str, names: str) -> str:
    """Return the codes of these checks of one device, ``GPU-CHAIN@gpu-0``."""
    prefix = subject.partition("-")[0].upper()
    return " ".join(f"{prefix}-{name}@{subject}" for name in names.split())


def numbered(prefix: str, count: int, names: str) -> str:
    """Return the codes of these checks of devices 0 to `count` - 1."""
    return " ".join(of(f"{prefix}-{number}", names) for number in range(count))


def unproven(subject: str = "gpu-0", more: str = "") -> tuple[str, ...]:
    """What cannot be judged of a device whose report is not proven to be its own."""
    own = "ARCHITECTURE MODE" if subject.startswith("gpu") else ""
    return tuple(of(subject, f"{_STATEMENTS} {own} {more}").split())


def unchained(subject: str = "gpu-0") -> tuple[str, ...]:
    """What cannot be judged without a genuine chain: there is no certified key either."""
    return unproven(subject, "IDENTITY REPORT-SIGNATURE ARCHITECTURE-CLAIM")


def unreadable(subject: str = "gpu-0", more: str = "") -> tuple[str, ...]:
    """What cannot be judged of a report that is not well-formed."""
    return unproven(subject, f"REPORT-SIGNATURE ARCHITECTURE-CLAIM NONCE {more}")


def without_rims(subject: str = "gpu-0", less: str = "") -> tuple[str, ...]:
    """What cannot be judged without a manifest, but for the checks named."""
    kept = [name for name in _MANIFESTS.split() if name not in less.split()]
    return tuple(of(subject, " ".join(kept)).split())


def without_answers(subject: str = "gpu-0") -> tuple[str, ...]:
    """What cannot be judged without any answer about revocation."""
    return tuple(of(subject, "REVOCATION REVOCATION-FRESH RIM-REVOCATION").split())


def withdrawn(subject: str = "gpu-0") -> Expected:
    """A genuine, current answer calls a certificate of the device revoked or on hold.

    REVOCATION-FRESH passes then: there is an answer for each certificate, and it is in force.
    """
    return untrusted(3, of(subject, "REVOCATION"))


def forged(
    failed: str,
    not_checked: Iterable[str],
    subject: str = "gpu-0",
    *,
    exit_code: int = 3,
    more: str = "",
) -> Expected:
    """A device that is not proven genuine fails its own check, and does not count as one."""
    count = f"{subject.partition('-')[0].upper()}-COUNT"
    return untrusted(exit_code, f"{of(subject, failed)} {count} {more}", not_checked)


# --- a case ---


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCase:
    """One directory of the corpus with devices in it.

    Attributes:
        name: kebab case, unique: the directory.
        description: one line, why the verdict is what it is.
        attacks: attack classes the case belongs to.
        expected: the verdict that must follow.
        node: makes the devices.
        td: makes quote and log; None for devices alone.
        evidence: the evidence file from the node.
        shared: names of `SHARED_PACKS`.
        entries: what else NVIDIA, or somebody, published; None: nothing.
        event_log: log file from the TD's evidence; None: no file.
        policy: the tenant's policy document.
        at: evaluation time.
        nonce, report_data: what the relying party chose.
        channel: what it sees of the channel.
    """

    name: str
    description: str
    attacks: tuple[str, ...]
    expected: Expected
    node: Callable[[], SimNode]
    td: Callable[[], SimCase | SimEvidence] | None
    evidence: Callable[[SimNode], str]
    shared: tuple[str, ...]
    entries: Entries | None
    event_log: Callable[[SimEvidence], bytes] | None
    policy: Json
    at: datetime
    nonce: bytes | None
    report_data: bytes | None
    channel: Mapping[str, str]

    @property
    def kind(self) -> str:
        """``nvidia`` for devices alone, ``node`` with a TD."""
        return "nvidia" if self.td is None else "node"


def as_file(node: SimNode) -> str:
    """Return the evidence as NVIDIA's tools write it."""
    return node.build().nvattest_json()


def items(edit: Callable[[list[Json]], Any]) -> Callable[[SimNode], str]:
    """Return a maker of an evidence file that was edited on its way; nothing is signed again."""

    def make(node: SimNode) -> str:
        return json.dumps(edit(json.loads(as_file(node))), indent=2) + "\n"

    return make


def device_case(
    name: str,
    description: str,
    node: Callable[[], SimNode],
    expected: Expected,
    *,
    covers: str,
    td: Callable[[], SimCase | SimEvidence] | None = None,
    evidence: Callable[[SimNode], str] = as_file,
    shared: tuple[str, ...] = HOPPER,
    entries: Entries | None = None,
    log: Callable[[SimEvidence], bytes] | None = None,
    policy: Json | None = None,
    at: datetime = DEFAULT_TIME,
    nonce: bytes | None = NONCE,
    report_data: bytes | None = None,
    channel: Mapping[str, str] | None = None,
) -> DeviceCase:
    """Return one row of the table; `covers` lists attacks."""
    return DeviceCase(
        name=name,
        description=description,
        attacks=tuple(dict.fromkeys(covers.split())),
        expected=expected,
        node=node,
        td=td,
        evidence=evidence,
        shared=shared,
        entries=entries,
        event_log=log,
        policy=device_policy() if policy is None else policy,
        at=at,
        nonce=nonce,
        report_data=report_data,
        channel=dict(channel or {}),
    )
