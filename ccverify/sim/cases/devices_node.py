"""Nodes of a TD and devices: what ties them to one request, and what shows them in one machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ccverify.sim.cases.device_model import (
    AUTHORITIES,
    HGX,
    HOPPER,
    VBIOS_RIM,
    DeviceCase,
    b200,
    device_case,
    device_policy,
    forged,
    gpu_rules,
    h100,
    hgx,
    hgx_policy,
    ocsp_entry,
    of,
    unproven,
    withdrawn,
    without_answers,
)
from ccverify.sim.cases.model import (
    NONCE,
    Expected,
    Json,
    honest,
    incomplete,
    trusted,
    untrusted,
)
from ccverify.sim.cases.model import policy as td_policy
from ccverify.sim.nvidia import SimNode
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform

__all__ = ["BOUND_CASES", "GOOD_NODE_CASES", "NODE_PART_CASES", "RELAY_CASES"]

_OTHER_NONCE = bytes(range(0x20, 0x40))
_PPID = SimPlatform().identifier("ppid").hex()
_INSTANCE = SimPlatform().identifier("platform-instance").hex()
_OTHER_MACHINE = SimPlatform(label="machine-2")
_B200 = (AUTHORITIES, "rim-gb100", "ocsp-b200-1")
_TWO_MACHINES = (*HOPPER, "ocsp-h100-2")


def _td(nonce: bytes = NONCE, platform: SimPlatform | None = None, **arguments: Any) -> SimCase:
    """An honest TD that answers the same nonce as the devices."""
    return honest(platform, report_data=nonce.ljust(64, b"\0"), **arguments)


def _ids(node: SimNode) -> list[str]:
    return [one.pdi.hex() for one in node.gpus]


def _rules(gpus: Json | None = None, *, binding: Json | None = None, **tdx: Any) -> Json:
    """A policy for a TD and GPUs, which lists neither unless it is told to."""
    sections: Json = {"tdx": td_policy(**tdx)["tdx"], "gpus": gpus or gpu_rules()}
    return device_policy(**sections, **({} if binding is None else {"binding": binding}))


_LISTED = _rules(gpu_rules(device_ids=_ids(h100())), platform={"ppid": [_PPID]})
"""Lists the tenant's own machine and GPU, which is what rules a relay out."""
_ACCEPTED = _rules(binding={"relayable": "accept"})


def _case(
    name: str,
    description: str,
    expected: Expected,
    *,
    node: Callable[[], SimNode] = h100,
    td: Callable[[], SimCase | SimEvidence] = _td,
    covers: str = "A5",
    policy: Json = _LISTED,
    **options: Any,
) -> DeviceCase:
    return device_case(
        name, description, node, expected, td=td, covers=covers, policy=policy, **options
    )


def _hgx_rules(gpus: int, switches: int, **tdx: Any) -> Json:
    devices = hgx_policy(
        gpus, switches,
        gpu={"device_ids": _ids(hgx(gpus, switches))},
        nvswitch={"device_ids": [one.pdi.hex() for one in hgx(gpus, switches).switches]},
    )  # fmt: skip
    return devices | {"tdx": td_policy(**tdx)["tdx"]}


GOOD_NODE_CASES: tuple[DeviceCase, ...] = (
    _case("good-td-and-gpu", "Machine and GPU are the tenant's own: no relay is possible.",
          trusted(tdx={"tcb_status": "UpToDate"}, gpus=[{"mode": "SPT"}],
                  binding={"profile": "raw-nonce", "fresh": True})),
    _case("good-platform-instance", "The machine is listed by its platform instance id.",
          trusted(), policy=_rules(gpu_rules(device_ids=_ids(h100())),
                                   platform={"platform_instance_id": [_INSTANCE]})),
    _case("good-td-and-hgx-8-4", "A whole Protected PCIe node below a TD, all of it listed.",
          trusted(topology={"closed": True}), node=lambda: hgx(8, 4), covers="A5 A7 A8",
          policy=_hgx_rules(8, 4, platform={"ppid": [_PPID]}), shared=HGX),
    _case("good-td-and-mpt-2", "Two Blackwell GPUs below a TD of version 5.", trusted(),
          node=lambda: b200("MPT", 2), td=lambda: _td(version=5, body_type=3),
          policy=_rules(gpu_rules(count=2, architectures=["BLACKWELL"], modes=["MPT"],
                                  device_ids=_ids(b200("MPT", 2))),
                        platform={"ppid": [_PPID]}) | {"fabric": "any"}, shared=_B200),
    _case("good-relayable-accepted", "Nothing is listed, and the policy takes the risk.",
          trusted(), policy=_ACCEPTED),
    _case("good-boot-log", "The TD's boot log explains its registers, devices or not.",
          trusted(), policy=_rules(gpu_rules(device_ids=_ids(h100())),
                                   platform={"ppid": [_PPID]}, event_log={}),
          log=lambda evidence: evidence.ccel),
    _case("good-node-freshness-waived", "Quote and GPU answer the nonce that the evidence states.",
          trusted(binding={"fresh": False, "nonce": NONCE.hex()}), covers="A2 A4", nonce=None,
          policy=_rules(binding={"freshness": "waived", "relayable": "accept"})),
    _case("good-td-any", "The policy leaves the TD aside, in so many words.", trusted(),
          covers="A7", policy=device_policy(tdx="any")),
    _case("good-gpus-any", "The policy leaves the GPU aside, in so many words.", trusted(),
          covers="A7", policy=device_policy(tdx=td_policy()["tdx"], gpus="any")),
    _case("good-report-data-and-nonce", "All of REPORTDATA is given, and the devices' nonce.",
          trusted(), covers="A2", policy=_ACCEPTED, report_data=NONCE.ljust(64, b"\0")),
)  # fmt: skip


# --- A5, A26: whose devices are these? ---

_ELSEWHERE = ("BIND-RELAYABLE",)


def _foreign() -> SimNode:
    """A genuine GPU of another machine, asked with the same nonce."""
    return h100(label="h100-2")


def _one_foreign() -> SimNode:
    return hgx(2, 1).with_gpu(1, hgx(label="h100-2").gpus[1])


def _forged_gpu() -> SimNode:
    return h100().with_gpu(0, h100().gpus[0].with_report(signature=b"\x01" * 96))


RELAY_CASES: tuple[DeviceCase, ...] = (
    _case("relay-nothing-listed", "A shared nonce proves one asker, and not one machine.",
          incomplete(6, _ELSEWHERE), policy=_rules()),
    _case("relay-gpu-of-other-machine", "A GPU elsewhere answers for a machine without one.",
          untrusted(4, of("gpu-0", "DEVICE-LIST"), _ELSEWHERE), node=_foreign,
          covers="A5 A26", shared=_TWO_MACHINES),
    _case("relay-gpu-unlisted", "The same where nothing is listed: nobody can tell.",
          incomplete(6, _ELSEWHERE), node=_foreign, policy=_rules(), shared=_TWO_MACHINES),
    _case("relay-gpus-swapped", "Machine 2 with the GPU of machine 1, and the reverse.",
          untrusted(4, "PLATFORM", _ELSEWHERE), td=lambda: _td(platform=_OTHER_MACHINE),
          covers="A5 A26"),
    _case("relay-all-of-other-machine", "A genuine node, and not the tenant's.",
          untrusted(4, f"PLATFORM {of('gpu-0', 'DEVICE-LIST')}", _ELSEWHERE), node=_foreign,
          td=lambda: _td(platform=_OTHER_MACHINE), covers="A5 A26", shared=_TWO_MACHINES),
    _case("relay-forged-gpu", "A GPU that proves no identity is on nobody's list.",
          forged("REPORT-SIGNATURE", (*unproven(), *_ELSEWHERE)), node=_forged_gpu,
          covers="A1 A5"),
    _case("relay-only-gpus-listed", "The GPU is the tenant's; in which machine, nobody says.",
          incomplete(6, _ELSEWHERE), policy=_rules(gpu_rules(device_ids=_ids(h100())))),
    _case("relay-only-platform-listed", "The machine is the tenant's; its GPU may be anywhere.",
          incomplete(6, _ELSEWHERE), policy=_rules(platform={"ppid": [_PPID]})),
    _case("relay-family-is-no-machine", "An FMSPC names a family of machines, and no machine.",
          incomplete(6, _ELSEWHERE),
          policy=_rules(gpu_rules(device_ids=_ids(h100())),
                        platform={"fmspc": [SimPlatform().fmspc.hex()]})),
    _case("relay-switches-unlisted", "GPUs and machine are listed, the switches are not.",
          incomplete(6, _ELSEWHERE), node=hgx, shared=HGX,
          policy=hgx_policy(gpu={"device_ids": _ids(hgx())})
          | {"tdx": td_policy(platform={"ppid": [_PPID]})["tdx"]}),
    _case("relay-one-gpu-in-hgx", "One GPU of a listed node was exchanged for a foreign one.",
          untrusted(3, f"{of('gpu-1', 'DEVICE-LIST')} TOPOLOGY-GPU-LIST "
                       "TOPOLOGY-SWITCH-LIST",
                    _ELSEWHERE), node=_one_foreign, covers="A5 A8 A26",
          policy=_hgx_rules(2, 1, platform={"ppid": [_PPID]}), shared=(*HGX, "ocsp-h100-2")),
    _case("relay-claimed-accepted-elsewhere", "To accept a relay is not to accept other devices.",
          untrusted(4, of("gpu-0", "DEVICE-LIST")), node=_foreign, shared=_TWO_MACHINES,
          policy=_rules(gpu_rules(device_ids=_ids(h100())), binding={"relayable": "accept"})),
)  # fmt: skip


# --- one request, one channel ---


def _older_gpu() -> SimNode:
    gpu = h100(nonce=_OTHER_NONCE).gpus[0]
    return h100().with_gpu(0, replace(gpu, claimed_nonce=NONCE))


BOUND_CASES: tuple[DeviceCase, ...] = (
    _case("bound-old-quote", "The GPU answers, and the quote is of another request.",
          untrusted(3, "REPORT-DATA"), td=lambda: _td(_OTHER_NONCE), covers="A2 A4 A5"),
    _case("bound-old-gpu", "The quote answers, and the GPU's report is of another request.",
          untrusted(3, of("gpu-0", "NONCE")), node=_older_gpu, covers="A2 A4 A5"),
    _case("bound-old-both", "Quote and report are of one other request, which they state.",
          untrusted(3, f"REPORT-DATA {of('gpu-0', 'NONCE')} BIND-CONSISTENT"),
          node=lambda: h100(nonce=_OTHER_NONCE), td=lambda: _td(_OTHER_NONCE), covers="A2 A4"),
    _case("bound-nonce-not-given", "No nonce was sent: nothing proves quote or report new.",
          incomplete(6, f"REPORT-DATA {of('gpu-0', 'NONCE')} BIND-FRESH".split()),
          covers="A2 A4", nonce=None),
    _case("bound-waived-two-requests", "Freshness is waived: quote and GPU still belong together.",
          untrusted(3, "REPORT-DATA"), td=lambda: _td(_OTHER_NONCE), covers="A4 A5", nonce=None,
          policy=_rules(binding={"freshness": "waived", "relayable": "accept"})),
    _case("bound-other-report-data", "The relying party wants other REPORTDATA than it gets.",
          untrusted(3, "REPORT-DATA"), covers="A2", report_data=b"\x42" * 64),
    _case("bound-other-profile", "The policy asks for a binding that this evidence has not.",
          untrusted(3, "REPORT-DATA"), covers="A2 A5",
          policy=_rules(gpu_rules(device_ids=_ids(h100())), platform={"ppid": [_PPID]},
                        binding={"profiles": ["redpill"]})),
    _case("bound-profile-without-key", "The profile needs a session key, which nobody sent.",
          incomplete(6, f"REPORT-DATA {of('gpu-0', 'NONCE')} BIND-EVIDENCE".split()),
          covers="A2 A5",
          policy=_rules(gpu_rules(device_ids=_ids(h100())), platform={"ppid": [_PPID]},
                        binding={"profiles": ["ccverify"]})),
    _case("bound-channel", "The relying party sees a TLS key, and nothing binds one.",
          untrusted(3, "BIND-CHANNEL"), covers="A5 A28",
          channel={"tls_fingerprint": "33" * 32}),
)  # fmt: skip


# --- one bad part spoils the node ---


def _debug_td() -> SimCase:
    return _td().with_body(td_attributes=1 << 28 | 1)


NODE_PART_CASES: tuple[DeviceCase, ...] = (
    _case("part-td-debug", "The GPU is fine; the host reads the TD's memory.",
          untrusted(4, "ATTR-DEBUG"), td=_debug_td, covers="A11 A25"),
    _case("part-gpu-forged", "The TD is fine; nobody signed the GPU's report.",
          forged("REPORT-SIGNATURE", unproven()), node=_forged_gpu,
          covers="A1 A25", policy=_ACCEPTED),
    _case("part-gpu-revoked", "The TD is fine; NVIDIA has withdrawn the GPU.",
          withdrawn(), covers="A24 A25", policy=_ACCEPTED,
          entries=lambda node: [ocsp_entry(node.answer(
              *node.gpus[0].chain[1:3], status="revoked"))]),
    _case("part-rim-missing", "The TD is fine; the driver's manifest is missing.",
          Expected(verdict="incomplete", exit_code=5, not_checked=tuple(of(
              "gpu-0", "RIM RIM-SIGNATURE RIM-VALIDITY RIM-REVOCATION MEASUREMENTS").split())),
          covers="A18 A25", policy=_ACCEPTED, shared=(VBIOS_RIM, *HOPPER[2:])),
    _case("part-no-answers", "The TD is fine; nobody says whether anything is revoked.",
          Expected(verdict="incomplete", exit_code=5, not_checked=without_answers()),
          covers="A24 A25", policy=_ACCEPTED, shared=HOPPER[:2]),
    _case("part-td-silent", "The policy judges the GPU and says nothing of the TD.",
          incomplete(6, "NODE-CLASSES@tdx"), covers="A7 A25", policy=device_policy()),
    _case("part-gpus-silent", "The policy judges the TD and says nothing of its GPU.",
          incomplete(6, "NODE-CLASSES@gpus"), covers="A7 A25", policy=td_policy()),
    _case("part-mode", "The TD is fine; its GPU is in another mode than asked for.",
          untrusted(4, of("gpu-0", "MODE")), covers="A11 A25", node=lambda: h100(mode=None),
          policy=_ACCEPTED),
)  # fmt: skip
