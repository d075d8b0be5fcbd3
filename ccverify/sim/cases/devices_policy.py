"""Bad cases: genuine devices that are not the ones asked for, and policies that stay silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ccverify.sim.cases.device_model import (
    AUTHORITIES,
    HGX,
    HOPPER,
    DeviceCase,
    b200,
    device_case,
    device_policy,
    gpu_rules,
    h100,
    hgx,
    hgx_policy,
    of,
    switch,
    switch_policy,
    switch_rules,
)
from ccverify.sim.cases.model import Expected, Json, incomplete, policy, untrusted
from ccverify.sim.nvidia import SimNode

__all__ = ["LIST_CASES", "SILENCE_CASES"]

_SWITCH = (AUTHORITIES, "rim-ls10", "ocsp-h100-1")
_B200 = (AUTHORITIES, "rim-gb100", "ocsp-b200-1")


def _listed(
    name: str,
    description: str,
    failed: str,
    *,
    node: Callable[[], SimNode] = h100,
    covers: str = "A18",
    shared: tuple[str, ...] = HOPPER,
    **rules: Any,
) -> DeviceCase:
    return device_case(
        f"list-{name}", description, node, untrusted(4, of("gpu-0", failed)), covers=covers,
        policy=device_policy(gpus=gpu_rules(**rules)), shared=shared,
    )  # fmt: skip


def _switch_listed(
    name: str, description: str, failed: str, covers: str = "A18", **rules: Any
) -> DeviceCase:
    return device_case(
        f"list-switch-{name}", description, switch, untrusted(4, of("nvswitch-0", failed)),
        covers=covers, policy=switch_policy(**rules), shared=_SWITCH,
    )  # fmt: skip


LIST_CASES: tuple[DeviceCase, ...] = (
    _listed("device", "A genuine GPU, and not one of the tenant's.", "DEVICE-LIST",
            covers="A5 A26", device_ids=["0123456789abcdef"]),
    _listed("firmware", "Genuine firmware that the tenant has not approved.", "FIRMWARE-LIST",
            firmware_ids=["11" * 48]),
    _listed("driver-minimum", "A genuine driver, older than the tenant wants.", "DRIVER",
            driver={"min": "590.13"}),
    _listed("driver-number-by-number", "590.12 is older than 590.112: numbers, not text.",
            "DRIVER", driver={"min": "590.112"}),
    _listed("driver-rejected", "A genuine driver with known holes.", "DRIVER",
            driver={"rejected": ["590.12"]}),
    _listed("driver-other", "A driver that is not on the list.", "DRIVER",
            driver={"accepted": ["590.11", "590.13"]}),
    _listed("vbios-minimum", "A genuine VBIOS, older than the tenant wants.", "VBIOS",
            vbios={"min": "96.00.F0.00.02"}),
    _listed("vbios-of-other-chip", "A Blackwell VBIOS is not newer than a Hopper one.", "VBIOS",
            node=b200, shared=_B200, architectures=["BLACKWELL"],
            vbios={"min": "96.00.00.00.01"}),
    _listed("vbios-rejected", "A genuine VBIOS with known holes.", "VBIOS",
            vbios={"rejected": ["96.00.f0.00.01"]}),
    _listed("architecture", "A genuine Hopper GPU where Blackwell was rented.", "ARCHITECTURE",
            architectures=["BLACKWELL"]),
    _listed("architecture-of-family", "A GB100 is not a GB20X, though both are Blackwell.",
            "ARCHITECTURE", node=b200, shared=_B200, architectures=["BLACKWELL-GB20X"]),
    _switch_listed("device", "A genuine switch, and not one of the tenant's.", "DEVICE-LIST",
                   "A5 A26", device_ids=["0123456789abcdef"]),
    _switch_listed("bios-minimum", "A genuine BIOS, older than the tenant wants.", "BIOS",
                   bios={"min": "96.10.F0.00.02"}),
    _switch_listed("firmware", "Genuine switch firmware that nobody has approved.",
                   "FIRMWARE-LIST", firmware_ids=["11" * 48]),
)  # fmt: skip


# --- silence is no consent ---


def _silent(
    name: str,
    description: str,
    expected: Expected,
    rules: Json,
    *,
    node: Callable[[], SimNode] = h100,
    shared: tuple[str, ...] = HOPPER,
) -> DeviceCase:
    return device_case(
        f"silent-{name}", description, node, expected, covers="A7 A14", policy=rules,
        shared=shared,
    )  # fmt: skip


SILENCE_CASES: tuple[DeviceCase, ...] = (
    _silent("on-count", "The policy does not say how many GPUs there must be.",
            incomplete(6, "GPU-COUNT"), device_policy(gpus=gpu_rules(count=None))),
    _silent("on-architecture", "The policy does not say which chip it wants.",
            incomplete(6, of("gpu-0", "ARCHITECTURE")),
            device_policy(gpus=gpu_rules(architectures=None))),
    _silent("on-mode", "The policy does not say in which mode a GPU must be.",
            incomplete(6, of("gpu-0", "MODE")), device_policy(gpus=gpu_rules(modes=None))),
    _silent("on-switch-count", "The policy does not say how many switches there must be.",
            incomplete(6, "NVSWITCH-COUNT"), switch_policy(count=None), node=switch,
            shared=_SWITCH),
    _silent("on-switches", "Switches attest, of which the policy says nothing.",
            incomplete(6, "NODE-CLASSES@nvswitches NODE-CLASSES@topology"),
            device_policy(gpus=gpu_rules(count=2, modes=["PPCIE"])), node=hgx),
    _silent("on-gpus", "GPUs attest, of which the policy says nothing.",
            incomplete(6, "NODE-CLASSES@gpus"),
            device_policy(gpus=None, nvswitches=switch_rules(count=2), topology="any"), node=hgx,
            shared=HGX),
    _silent("on-topology", "The policy does not say how GPUs and switches are wired.",
            incomplete(6, "NODE-CLASSES@topology"),
            {name: section for name, section in hgx_policy().items() if name != "topology"},
            node=hgx, shared=HGX),
    _silent("on-devices", "A policy for a TD, and only devices in the evidence.",
            untrusted(4, "NODE-CLASSES@tdx", ("NODE-CLASSES@gpus",)), policy()),
    device_case("missing-tdx", "The policy asks for a TD, and only its GPU attests.", h100,
                untrusted(4, "NODE-CLASSES@tdx"), covers="A7 A25",
                policy=device_policy(tdx=policy()["tdx"])),
)  # fmt: skip
