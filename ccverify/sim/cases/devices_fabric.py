"""Bad cases: devices counted twice, devices left out, and nodes that are not one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ccverify.sim.cases.device_model import (
    HGX,
    HOPPER,
    DeviceCase,
    device_case,
    device_policy,
    gpu_rules,
    h100,
    hgx,
    hgx_policy,
    items,
    of,
    rim_entry,
    unproven,
    unreadable,
)
from ccverify.sim.cases.devices_good import mixed
from ccverify.sim.cases.model import Expected, Json, untrusted
from ccverify.sim.nvidia import SimDevice, SimNode

__all__ = ["DUPLICATE_CASES", "PARTIAL_CASES", "TOPOLOGY_CASES"]

_FOREIGN_PDI = bytes.fromhex("0123456789abcdef")
_TWO_MACHINES = (*HGX, "ocsp-h100-2")
_SMALL, _TWO_SWITCHES, _TWO_GPUS = hgx_policy(1, 1), hgx_policy(1, 2), hgx_policy(2, 1)


def _small() -> SimNode:
    return hgx(1, 1)


def _other() -> SimNode:
    """Return the node of another tenant, asked with the same nonce."""
    return hgx(label="h100-2")


def _listed(device: SimDevice, name: str) -> tuple[bytes, ...]:
    """The PDIs in an opaque field of a device."""
    listed: tuple[bytes, ...] = getattr(device.report.opaque, name)
    return listed


def _node(
    name: str,
    description: str,
    node: Callable[[], SimNode],
    expected: Expected,
    *,
    covers: str,
    policy: Json | None = None,
    shared: tuple[str, ...] = HGX,
    **options: Any,
) -> DeviceCase:
    """A case under the policy of the smallest node, unless it brings another."""
    return device_case(
        name, description, node, expected, covers=covers, policy=policy or _SMALL,
        shared=shared, **options,
    )  # fmt: skip


# --- A6: one device that counts twice ---

_TWICE = "DEVICES-DISTINCT GPU-COUNT"
_GPU_TWICE = f"{_TWICE} TOPOLOGY-COUNT TOPOLOGY-DUPLICATE-GPU TOPOLOGY-GPU-LIST"
_SWITCH_TWICE = (
    "DEVICES-DISTINCT NVSWITCH-COUNT TOPOLOGY-COUNT TOPOLOGY-DUPLICATE-SWITCH TOPOLOGY-SWITCH-LIST"
)
_TWO_SINGLE = device_policy(gpus=gpu_rules(count=2))


def _second_report(gpu: SimDevice, **changes: Any) -> SimDevice:
    """The same GPU, asked once more."""
    return gpu.with_report(responder_nonce=b"\x77" * 32, **changes)


def _shared_key() -> SimNode:
    """Two identities, under both of which one attestation key is certified."""
    node = h100(2)
    first, second = node.gpus
    leaf = replace(
        second.chain[0],
        key=first.chain[0].key,
    )
    return node.with_gpu(1, second.with_chain((leaf, *second.chain[1:])))


def _as_switch_too(all_items: list[Json]) -> list[Json]:
    return [all_items[0] | {"arch": "LS10"}, *all_items]


DUPLICATE_CASES: tuple[DeviceCase, ...] = (
    _node("duplicate-8-times", "One genuine GPU eight times, with its four switches.",
          lambda: replace(hgx(8, 4), gpus=hgx(8, 4).gpus[:1] * 8), untrusted(3, _GPU_TWICE),
          covers="A6", policy=hgx_policy(8, 4)),
    _node("duplicate-7-and-1", "Seven GPUs, one of which stands for the eighth as well.",
          lambda: hgx(8, 1).with_gpu(7, hgx(8, 1).gpus[0]), untrusted(3, _GPU_TWICE),
          covers="A6", policy=hgx_policy(8, 1)),
    _node("duplicate-gpu", "Two copies of one GPU's report.",
          lambda: hgx(2, 1).with_gpu(1, hgx(2, 1).gpus[0]), untrusted(3, _GPU_TWICE),
          covers="A6", policy=_TWO_GPUS),
    _node("duplicate-switch", "One genuine switch four times.",
          lambda: replace(hgx(1, 4), switches=hgx(1, 4).switches[:1] * 4),
          untrusted(3, _SWITCH_TWICE), covers="A6", policy=hgx_policy(1, 4)),
    _node("duplicate-added", "All devices are there, and one of them once more.",
          lambda: replace(_small(), gpus=_small().gpus * 2),
          untrusted(3, f"{_TWICE} TOPOLOGY-DUPLICATE-GPU"), covers="A6"),
    device_case("duplicate-without-fabric", "One GPU twice, where two single GPUs are asked for.",
                lambda: replace(h100(), gpus=h100().gpus * 2), untrusted(3, _TWICE),
                covers="A6", policy=_TWO_SINGLE),
    device_case("duplicate-asked-twice", "One GPU asked twice: two reports, one device.",
                lambda: replace(h100(), gpus=(h100().gpus[0], _second_report(h100().gpus[0]))),
                untrusted(3, _TWICE), covers="A6", policy=_TWO_SINGLE),
    device_case("duplicate-two-nonces", "One GPU with reports for two nonces.",
                lambda: replace(h100(), gpus=(h100().gpus[0], _second_report(
                    h100().gpus[0], nonce=b"\x21" * 32))),
                untrusted(3, f"{_TWICE} {of('gpu-1', 'NONCE')}"), covers="A2 A6",
                policy=_TWO_SINGLE),
    device_case("duplicate-any-count", "The policy takes any number, but no copies.",
                lambda: replace(h100(), gpus=h100().gpus * 2), untrusted(3, "DEVICES-DISTINCT"),
                covers="A6", policy=device_policy(gpus=gpu_rules(count="any"))),
    device_case("duplicate-key", "Two identities that share one attestation key.", _shared_key,
                untrusted(3, "DEVICES-DISTINCT"), covers="A6 A17", policy=_TWO_SINGLE),
    _node("duplicate-across-classes", "A GPU that is presented as a switch too.", _small,
          untrusted(2, f"{of('nvswitch-0', 'REPORT-FORMAT IDENTITY')} NVSWITCH-COUNT "
                       "DEVICES-DISTINCT", unreadable("nvswitch-0")),
          covers="A6 A28", evidence=items(_as_switch_too)),
)  # fmt: skip


# --- A7: devices that are left out or slipped in ---


PARTIAL_CASES: tuple[DeviceCase, ...] = (
    _node("partial-gpu-dropped", "One GPU does not attest; the switch still serves it.",
          lambda: replace(hgx(2, 1), gpus=hgx(2, 1).gpus[:1]),
          untrusted(3, "GPU-COUNT TOPOLOGY-COUNT TOPOLOGY-GPU-LIST"), covers="A7 A8",
          policy=_TWO_GPUS),
    _node("partial-policy-of-one", "The same, and the policy asks for one GPU: the switch tells.",
          lambda: replace(hgx(2, 1), gpus=hgx(2, 1).gpus[:1]),
          untrusted(3, "TOPOLOGY-GPU-LIST"), covers="A7 A8"),
    _node("partial-switch-dropped", "One switch does not attest; traffic runs through it.",
          lambda: replace(hgx(1, 2), switches=hgx(1, 2).switches[1:]),
          untrusted(3, "NVSWITCH-COUNT TOPOLOGY-COUNT TOPOLOGY-SWITCH-LIST"), covers="A7 A8",
          policy=_TWO_SWITCHES),
    _node("partial-smaller-node", "A whole and closed node, smaller than the one rented.",
          _small, untrusted(4, "GPU-COUNT TOPOLOGY-COUNT"), covers="A7", policy=_TWO_GPUS),
    _node("partial-fewer-switches", "A whole and closed node with too few switches.",
          _small, untrusted(4, "NVSWITCH-COUNT TOPOLOGY-COUNT"), covers="A7",
          policy=_TWO_SWITCHES),
    _node("partial-gpu-added", "A GPU more attests, which no switch serves.",
          lambda: replace(_small(), gpus=(*_small().gpus, _other().gpus[0])),
          untrusted(3, "GPU-COUNT TOPOLOGY-COUNT TOPOLOGY-GPU-LIST "
                       "TOPOLOGY-SWITCH-LIST"),
          covers="A7 A8", shared=_TWO_MACHINES),
    _node("partial-switch-added", "A switch of another board attests as well.",
          lambda: replace(_small(), switches=(
              *_small().switches, _other().switches[0].with_fields(position=3))),
          untrusted(3, "NVSWITCH-COUNT TOPOLOGY-COUNT TOPOLOGY-GPU-LIST TOPOLOGY-SWITCH-LIST"),
          covers="A7 A8", shared=_TWO_MACHINES),
    _node("partial-no-switches", "Only the GPU of a Protected PCIe node.",
          lambda: replace(_small(), switches=()),
          untrusted(3, "NODE-CLASSES@nvswitches TOPOLOGY-COUNT TOPOLOGY-SWITCH-LIST"),
          covers="A7"),
    _node("partial-no-gpus", "Only the switch of a Protected PCIe node.",
          lambda: replace(_small(), gpus=()),
          untrusted(3, "NODE-CLASSES@gpus TOPOLOGY-COUNT TOPOLOGY-GPU-LIST"), covers="A7"),
    device_case("partial-one-of-two", "One GPU where two are asked for.", h100,
                untrusted(4, "GPU-COUNT"), covers="A7", policy=_TWO_SINGLE),
    device_case("partial-two-of-one", "Two GPUs where one is asked for.", lambda: h100(2),
                untrusted(4, "GPU-COUNT"), covers="A7"),
    device_case("partial-range", "One GPU where two to eight are asked for.", h100,
                untrusted(4, "GPU-COUNT"), covers="A7",
                policy=device_policy(gpus=gpu_rules(count={"min": 2, "max": 8}))),
)  # fmt: skip


# --- A8: lists of the fabric that do not name the attested devices ---


def _wired(
    name: str, description: str, node: Callable[[], SimNode], failed: str, *, exit_code: int = 3,
    **options: Any,
) -> DeviceCase:  # fmt: skip
    codes = " ".join(f"TOPOLOGY-{code}" for code in failed.split())
    return _node(
        f"topology-{name}", description, node, untrusted(exit_code, codes),
        covers=options.pop("covers", "A8"), **options,
    )  # fmt: skip


def _switch0(**changes: Any) -> SimNode:
    return _small().with_switch(0, _small().switches[0].with_fields(**changes))


def _slots(edit: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> SimNode:
    """Change the GPUs that switch 0 signs to serve."""
    return _switch0(gpu_pdis=edit(_listed(_small().switches[0], "gpu_pdis")))


def _links(edit: Callable[[tuple[bytes, ...]], tuple[bytes, ...]], switches: int = 1) -> SimNode:
    """Change the switches that GPU 0 signs to be connected to."""
    node = hgx(1, switches)
    links = edit(_listed(node.gpus[0], "switch_pdis"))
    return node.with_gpu(0, node.gpus[0].with_fields(switch_pdis=links))


def _spt(node: SimNode) -> SimNode:
    """GPU 0 in single-GPU mode, with the list of the fabric all the same."""
    return node.with_gpu(0, node.gpus[0].with_fields(protected_pcie=False, feature_flag=0))


def _two_boards() -> SimNode:
    """One GPU of this node and one of another, with a switch of this."""
    return hgx(2, 1).with_gpu(1, _other().gpus[1])


def _forged_switch() -> SimNode:
    return _small().with_switch(0, _small().switches[0].with_report(signature=b"\x01" * 96))


def _positions(position: int | None) -> SimNode:
    """Switch 0 of two says another position."""
    node = hgx(1, 2)
    return node.with_switch(0, node.switches[0].with_fields(position=position))


_MODES = {"modes": ["PPCIE", "SPT"]}

TOPOLOGY_CASES: tuple[DeviceCase, ...] = (
    _wired("phantom-gpu", "A switch serves a GPU that never attested, besides the one that did.",
           lambda: _slots(lambda pdis: (pdis[0], _FOREIGN_PDI, *pdis[2:])), "GPU-LIST"),
    _wired("gpu-replaced", "A switch serves another GPU in the place of one that attested.",
           lambda: _slots(lambda pdis: (_FOREIGN_PDI, *pdis[1:])), "GPU-LIST"),
    _wired("gpu-slot-zero", "A switch serves nobody where an attested GPU should be.",
           lambda: _slots(lambda pdis: (bytes(8),) * len(pdis)), "GPU-LIST"),
    _wired("gpu-listed-twice", "A switch serves one GPU in two slots.",
           lambda: _slots(lambda pdis: (pdis[0], *pdis[:-1])), "GPU-LIST"),
    _wired("gpu-bytes-reversed", "A switch names its GPUs with their bytes turned round.",
           lambda: _slots(lambda pdis: tuple(pdi[::-1] for pdi in pdis)), "GPU-LIST"),
    _wired("gpu-list-missing", "A switch says nothing of the GPUs it serves.",
           lambda: _switch0(gpu_pdis=None), "GPU-LIST"),
    _wired("phantom-switch", "A GPU is connected to a switch that never attested.",
           lambda: _links(lambda pdis: (*pdis[:-1], _FOREIGN_PDI)), "SWITCH-LIST"),
    _wired("switch-left-out", "A GPU is connected to one of the two switches only.",
           lambda: _links(lambda pdis: pdis[:1] * 18, 2), "SWITCH-LIST",
           policy=_TWO_SWITCHES),
    _wired("links-zero", "A GPU in Protected PCIe mode is connected to nothing.",
           lambda: _links(lambda pdis: (bytes(8),) * 18), "SWITCH-LIST"),
    _wired("links-missing", "A GPU says nothing of the switches behind its links.",
           lambda: _small().with_gpu(0, _small().gpus[0].with_fields(switch_pdis=None)),
           "SWITCH-LIST"),
    _node("topology-foreign-gpu", "A genuine GPU of another node in the place of one of this.",
          _two_boards,
          untrusted(3, "TOPOLOGY-GPU-LIST TOPOLOGY-SWITCH-LIST"), covers="A5 A8",
          shared=_TWO_MACHINES, policy=_TWO_GPUS),
    device_case("topology-two-boards", "Switches are left aside; the GPUs still name two boards.",
                lambda: replace(_two_boards(), switches=()), untrusted(3, "GPU-BOARD"),
                covers="A5 A8", shared=_TWO_MACHINES,
                policy=device_policy(gpus=gpu_rules(count=2, modes=["PPCIE"]), topology="any")),
    _wired("foreign-switch", "A genuine switch of another node in the place of one of this.",
           lambda: hgx(1, 2).with_switch(1, _other().switches[1]), "GPU-LIST SWITCH-LIST",
           covers="A5 A8", shared=_TWO_MACHINES, policy=_TWO_SWITCHES),
    _wired("switch-self", "A switch reports another identity than it is certified for.",
           lambda: _switch0(device_pdi=_FOREIGN_PDI), "SWITCH-SELF"),
    _wired("zero-pdi", "A switch reports an identity of zero.",
           lambda: _switch0(device_pdi=bytes(8)), "SWITCH-SELF ZERO-PDI"),
    _wired("position-shared", "Two switches say that they are in one place.",
           lambda: _positions(1), "POSITION", policy=_TWO_SWITCHES),
    _wired("position-missing", "A switch does not say where it is.",
           lambda: _switch0(position=None), "POSITION"),
    _wired("unlocked", "A switch can be reconfigured by the host.",
           lambda: _switch0(lock_status=0), "UNLOCKED", exit_code=4, covers="A8 A11"),
    _wired("lock-missing", "A switch does not say whether it is locked.",
           lambda: _switch0(lock_status=None), "UNLOCKED", exit_code=4, covers="A8 A11"),
    _wired("mode", "A wired node no GPU of which is in Protected PCIe mode.",
           lambda: _spt(_small()), "MODE", exit_code=4, policy=hgx_policy(1, 1, gpu=_MODES),
           covers="A8 A11"),
    _wired("mixed-mode", "One GPU of the node is outside the protected mode.",
           lambda: _spt(hgx(2, 1)), "MIXED-MODE", policy=hgx_policy(2, 1, gpu=_MODES),
           covers="A8 A11"),
    _wired("mixed-driver", "One GPU runs under another driver.", lambda: mixed(driver="590.13"),
           "MIXED-DRIVER", exit_code=4, policy=_TWO_GPUS,
           entries=lambda node: [rim_entry(node.rims[0])]),
    _wired("mixed-firmware", "One GPU was left behind on another VBIOS.",
           lambda: mixed(vbios="96.00.F0.00.02"), "MIXED-FIRMWARE", exit_code=4, policy=_TWO_GPUS,
           entries=lambda node: [rim_entry(node.rims[1])]),
    _node("topology-forged-switch", "What a forged switch says of the fabric is nobody's word.",
          _forged_switch,
          untrusted(3, f"{of('nvswitch-0', 'REPORT-SIGNATURE')} NVSWITCH-COUNT TOPOLOGY-COUNT "
                       "TOPOLOGY-SWITCH-LIST", unproven("nvswitch-0")), covers="A1 A8"),
    device_case("topology-not-asked", "GPUs in Protected PCIe mode, whose switches nobody shows.",
                lambda: replace(_small(), switches=()),
                Expected(verdict="incomplete", exit_code=6,
                         not_checked=("NODE-CLASSES@topology",)), covers="A7 A8",
                policy=device_policy(gpus=gpu_rules(modes=["PPCIE"])), shared=HOPPER),
    _node("topology-all-foreign", "The whole node of somebody else, where ids are listed.",
          lambda: hgx(1, 1, label="h100-2"),
          untrusted(4, f"{of('gpu-0', 'DEVICE-LIST')} {of('nvswitch-0', 'DEVICE-LIST')}"),
          covers="A5 A26", shared=_TWO_MACHINES,
          policy=hgx_policy(
              1, 1,
              gpu={"device_ids": [one.pdi.hex() for one in _small().gpus]},
              nvswitch={"device_ids": [one.pdi.hex() for one in _small().switches]})),
)  # fmt: skip
