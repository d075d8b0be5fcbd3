"""Advice on what a policy says of devices, of their wiring, and of what ties them to a request."""

from __future__ import annotations

from collections.abc import Iterator

from ccverify.cli.policy_remark import Advice, Level
from ccverify.policy.model import (
    ANY,
    BindingPolicy,
    DevicePolicy,
    Policy,
    RevocationRule,
    TdxPolicy,
    TopologyPolicy,
    VersionPolicy,
)

__all__ = ["advise_binding", "advise_devices", "advise_freshness", "advise_topology"]

LONG_REVOCATION_DAYS = 30


def advise_devices(policy: Policy) -> Iterator[Advice]:
    """Yield remarks on ``gpus`` and ``nvswitches``."""
    for name, devices in (("gpus", policy.gpus), ("nvswitches", policy.nvswitches)):
        if devices is ANY:
            yield Advice(
                Level.WEAKENS,
                f"{name}: any",
                "Devices in the evidence are not judged: forged or outdated ones pass.",
                f"State what you expect in {name}.",
            )
        elif isinstance(devices, DevicePolicy):
            yield from _stated(name, devices)
            yield from _waived(name, devices)
            yield from _revocation(name, devices)
            yield from _firmware(name, devices)
            yield from _versions(name, devices)
            yield from _families(devices)
            yield from _identities(name, devices)


# --- one section of devices ---


def _stated(name: str, devices: DevicePolicy) -> Iterator[Advice]:
    members = {"count": devices.count, "architectures": devices.architectures}
    if name == "gpus":
        members["modes"] = devices.modes
    # All known switches are of one architecture, so that only their number must be stated.
    must = ("count", "architectures", "modes") if name == "gpus" else ("count",)
    silent = [key for key in must if members[key] is None]
    if silent:
        yield Advice(
            Level.UNMEETABLE,
            f"{name}: nothing on {', '.join(silent)}",
            "No default can say how many devices of which kind you rent.",
            "State it, or say `any` to accept every value knowingly.",
        )
    for key, value in members.items():
        if value is ANY:
            yield Advice(Level.WEAKENS, f"{name}.{key}: any", _ANY_MEANS[key], _INSTEAD_OF_ANY[key])
    if isinstance(devices.modes, frozenset) and "NOT_STATED" in devices.modes:
        yield Advice(
            Level.WEAKENS,
            f"{name}.modes: NOT_STATED",
            "A report that names no mode passes, so the mode stays unproven.",
            "Leave it out, and have the operator install a driver whose reports name the mode.",
        )


_ANY_MEANS = {
    "count": "Devices can be left out of the evidence, and what was left out is not judged.",
    "architectures": "Another chip than the one you rent passes, with other protections.",
    "modes": "GPUs may run in a mode with weaker isolation than the one you rely on.",
}
_INSTEAD_OF_ANY = {
    "count": "Name the number, or a range: {min: 1, max: 8}.",
    "architectures": "List the chips you rent.",
    "modes": "List the modes you rely on, such as SPT for a single GPU.",
}


def _waived(name: str, devices: DevicePolicy) -> Iterator[Advice]:
    if not devices.rim_required:
        yield Advice(
            Level.WEAKENS,
            f"{name}.rim: any",
            "Genuine hardware with altered firmware, or under an altered driver, passes: "
            "nothing has to match NVIDIA's reference measurements.",
            "Leave it out, and give the RIMs as collateral.",
        )
    if devices.allow_expired_rim_signer:
        yield Advice(
            Level.WEAKENS,
            f"{name}.rim_expired_signer: allow",
            "Reference measurements count whose signing certificate has expired; its revocation "
            "is no longer published either.",
            "Leave it out, and move to firmware whose RIM is signed anew.",
        )
    if devices.allow_hold:
        yield Advice(
            Level.WEAKENS,
            f"{name}.certificate_hold: allow",
            "NVIDIA has suspended the certificate of this device or RIM; it is trusted anyway.",
            "Leave it out, and ask NVIDIA why the certificate is on hold.",
        )


def _revocation(name: str, devices: DevicePolicy) -> Iterator[Advice]:
    where = f"{name}.revocation: {devices.revocation.value}"
    if devices.revocation is RevocationRule.ANY:
        yield Advice(
            Level.WEAKENS,
            where,
            "A device or RIM signer whose certificate nobody asked about passes.",
            "Leave it out, and give revocation answers as collateral.",
        )
    elif devices.revocation is RevocationRule.IF_GIVEN:
        yield Advice(
            Level.WEAKENS,
            where,
            "Whoever supplies the collateral can leave out the answer that says revoked.",
            "Leave it out; the default is required.",
        )
    elif devices.revocation_max_age_days is None:
        yield Advice(
            Level.CONSIDER,
            f"{name}.revocation_max_age_days",
            "A revocation answer may be as old as its own window allows.",
            "Set it to how often you fetch, for example 7.",
        )
    if (devices.revocation_max_age_days or 0) > LONG_REVOCATION_DAYS:
        yield Advice(
            Level.WEAKENS,
            f"{name}.revocation_max_age_days: {devices.revocation_max_age_days}",
            f"A certificate revoked more than {LONG_REVOCATION_DAYS} days ago may still pass.",
            "Set it to how often you fetch, for example 7.",
        )


def _firmware(name: str, devices: DevicePolicy) -> Iterator[Advice]:
    if name == "nvswitches" and devices.fwid_required:
        yield Advice(
            Level.UNMEETABLE,
            "nvswitches.fwid: required",
            "The reports of LS10, the only known switch, name no firmware id.",
            "Leave it out; the default is if-reported.",
        )
    if name == "gpus" and not devices.fwid_required:
        yield Advice(
            Level.WEAKENS,
            "gpus.fwid: if-reported",
            "A report that names no firmware id is not tied to the firmware that NVIDIA's chain "
            "certifies.",
            "Leave it out, unless you depend on drivers older than 550.",
        )


def _versions(name: str, devices: DevicePolicy) -> Iterator[Advice]:
    bios = "vbios" if name == "gpus" else "bios"
    both: list[tuple[str, VersionPolicy]] = [(f"{name}.{bios}", devices.vbios)]
    if name == "gpus":
        both.insert(0, ("gpus.driver", devices.driver))
    for where, versions in both:
        if versions.minimum is None and versions.accepted is None:
            yield Advice(
                Level.CONSIDER,
                where,
                "Any version for which NVIDIA published measurements passes, also one with "
                "known vulnerabilities.",
                "Set min to the oldest version without a fix that you need.",
            )
        elif versions.accepted is not None and len(versions.accepted) == 1:
            yield Advice(
                Level.CONSIDER,
                f"{where}.accepted: one version",
                "The operator's next update ends in a refusal, on every machine at once.",
                "List the next version before it is rolled out, or use min and rejected.",
            )


def _families(devices: DevicePolicy) -> Iterator[Advice]:
    chips = devices.architectures
    if devices.vbios.minimum is not None and isinstance(chips, frozenset) and len(chips) > 1:
        yield Advice(
            Level.CONSIDER,
            "gpus.vbios.min with several architectures",
            "The first number of a VBIOS version names the chip: one minimum can be reached by "
            "one family of chips only.",
            "Write a policy for each architecture, or list versions in accepted.",
        )


def _identities(name: str, devices: DevicePolicy) -> Iterator[Advice]:
    if devices.device_ids is None and name == "gpus":
        yield Advice(
            Level.CONSIDER,
            "gpus.device_ids",
            "Any genuine GPU will do, even one in another machine or in the wrong hands.",
            "List the devices you rent; `ccverify inspect` shows their ids.",
        )


# --- the node as a whole ---


def advise_topology(policy: Policy) -> Iterator[Advice]:
    """Yield remarks on ``topology``."""
    topology = policy.topology
    if topology is ANY:
        yield Advice(
            Level.WEAKENS,
            "topology: any",
            "Nothing shows that the devices are wired to each other: they may be of several "
            "boards, and a device that never attested may be on their fabric.",
            "State kind, gpus and switches.",
        )
    elif isinstance(topology, TopologyPolicy):
        for key, mixed in (
            ("mixed_firmware", topology.allow_mixed_firmware),
            ("mixed_driver", topology.allow_mixed_driver),
        ):
            if mixed:
                yield Advice(
                    Level.WEAKENS,
                    f"topology.{key}: allow",
                    "The oldest of the mixed versions may stay, and one VM cannot run two drivers.",
                    "Leave it out, except while an operator updates a node.",
                )
    else:
        yield from _no_topology(policy)


def _no_topology(policy: Policy) -> Iterator[Advice]:
    modes = policy.gpus.modes if isinstance(policy.gpus, DevicePolicy) else None
    ppcie = isinstance(modes, frozenset) and "PPCIE" in modes
    switches = isinstance(policy.nvswitches, DevicePolicy)
    if switches or modes == frozenset({"PPCIE"}):
        reason = "nvswitches" if switches else "gpus.modes: PPCIE"
        yield Advice(
            Level.UNMEETABLE,
            f"topology: nothing, with {reason}",
            "Protected PCIe protects nothing unless GPUs and switches belong to each other.",
            "State topology, or say `any` to accept every wiring knowingly.",
        )
    elif ppcie:
        yield Advice(
            Level.CONSIDER,
            "topology: nothing, with PPCIE among gpus.modes",
            "Nodes in Protected PCIe mode cannot be trusted without it.",
            "State topology and nvswitches, or leave PPCIE out.",
        )


# --- binding ---


def advise_freshness(binding: BindingPolicy) -> Iterator[Advice]:
    """Yield remarks on ``freshness`` of one binding section."""
    if not binding.freshness_required:
        yield Advice(
            Level.WEAKENS,
            "binding.freshness: waived",
            "An old answer, or one made for somebody else, passes: the nonce in it is its own.",
            "Leave it out, and send a nonce.",
        )


def advise_binding(policy: Policy) -> Iterator[Advice]:
    """Yield remarks on ``binding``."""
    binding = policy.binding
    yield from advise_freshness(binding)
    if binding.relayable_accepted:
        yield Advice(
            Level.WEAKENS,
            "binding.relayable: accept",
            "The devices may be in another machine than the one that answers; a shared nonce "
            "does not show that they are together.",
            "Leave it out, and list gpus.device_ids and tdx.platform.ppid.",
        )
    elif missing := _missing_lists(policy):
        yield Advice(
            Level.UNMEETABLE,
            f"binding.relayable: refuse without {' and '.join(missing)}",
            "No evidence proves that devices and CPU are in one machine; only lists of the "
            "machines and devices you rent can.",
            "Fill the lists, or accept the risk in words: relayable: accept.",
        )


def _missing_lists(policy: Policy) -> list[str]:
    """The lists without which no node of CPU and devices is known to be one machine."""
    if not isinstance(policy.tdx, TdxPolicy):
        return []
    sections = {"gpus": policy.gpus, "nvswitches": policy.nvswitches}
    devices = {name: each for name, each in sections.items() if isinstance(each, DevicePolicy)}
    missing = [f"{name}.device_ids" for name, each in devices.items() if each.device_ids is None]
    platform = policy.tdx.platform
    named = platform.ppid is not None or platform.platform_instance_id is not None
    if devices and not named:
        missing.append("tdx.platform.ppid")
    return missing
