"""The sections of a policy document on devices and on binding → the model.

Every function here is given what the JSON Schema has already accepted.  What a schema cannot
say, that two parts of a document exclude each other, `contradictions` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any as Json

from ccverify.errors import PolicyError
from ccverify.evidence import BindingProfile
from ccverify.policy.document_fabric import fabric_contradictions
from ccverify.policy.model import (
    ANY,
    GPU_ARCHITECTURES,
    Any,
    BindingPolicy,
    CountPolicy,
    DevicePolicy,
    Policy,
    RevocationRule,
    TopologyPolicy,
    VersionPolicy,
)

__all__ = [
    "binding_policy",
    "contradictions",
    "gpu_policy",
    "switch_policy",
    "topology_policy",
]

Section = Mapping[str, Json] | str | None
"""A section: its keys, the word ``any``, or None where the document does not have it."""

_BLACKWELL = frozenset(name for name in GPU_ARCHITECTURES if name.startswith("BLACKWELL-"))


# --- document → model ---


def gpu_policy(section: Section) -> DevicePolicy | Any | None:
    """Read section ``gpus``."""
    if section is None or isinstance(section, str):
        return None if section is None else ANY
    return DevicePolicy(
        **_common(section, fwid_required=True),
        modes=_words(section.get("modes")),
        driver=_versions(section.get("driver", {})),
        vbios=_versions(section.get("vbios", {})),
    )


def switch_policy(section: Section) -> DevicePolicy | Any | None:
    """Read section ``nvswitches``; unlike a GPU's, a switch's report need not name a FWID."""
    if section is None or isinstance(section, str):
        return None if section is None else ANY
    return DevicePolicy(
        **_common(section, fwid_required=False), vbios=_versions(section.get("bios", {}))
    )


def topology_policy(section: Section) -> TopologyPolicy | Any | None:
    """Read section ``topology``."""
    if section is None or isinstance(section, str):
        return None if section is None else ANY
    return TopologyPolicy(
        gpus=int(section["gpus"]),
        switches=int(section["switches"]),
        allow_mixed_firmware=section.get("mixed_firmware") == "allow",
        allow_mixed_driver=section.get("mixed_driver") == "allow",
    )


def binding_policy(section: Mapping[str, Json]) -> BindingPolicy:
    """Read section ``binding``; profiles keep the order in which they are named first."""
    default = BindingPolicy()
    profiles = section.get("profiles")
    return BindingPolicy(
        profiles=default.profiles
        if profiles is None
        else tuple(map(BindingProfile, dict.fromkeys(profiles))),
        freshness_required=section.get("freshness", "required") == "required",
        relayable_accepted=section.get("relayable") == "accept",
    )


def _common(section: Mapping[str, Json], *, fwid_required: bool) -> dict[str, Json]:
    """The members that GPUs and switches share."""
    days = section.get("revocation_max_age_days")
    return {
        "count": _count(section.get("count")),
        "architectures": _architectures(section.get("architectures")),
        "fwid_required": section["fwid"] == "required" if "fwid" in section else fwid_required,
        "rim_required": section.get("rim", "required") == "required",
        "allow_expired_rim_signer": section.get("rim_expired_signer") == "allow",
        "revocation": RevocationRule(section.get("revocation", "required")),
        "allow_hold": section.get("certificate_hold") == "allow",
        "revocation_max_age_days": None if days is None else int(days),
        "firmware_ids": _ids(section.get("firmware_ids")),
        "device_ids": _ids(section.get("device_ids")),
    }


def _count(value: Json) -> CountPolicy | Any | None:
    if value is None:
        return None
    if isinstance(value, str):
        return ANY
    if isinstance(value, Mapping):
        return CountPolicy(int(value["min"]), int(value["max"]))
    return CountPolicy(int(value), int(value))


def _words(value: list[str] | str | None) -> frozenset[str] | Any | None:
    if value is None:
        return None
    return ANY if isinstance(value, str) else frozenset(value)


def _architectures(value: list[str] | str | None) -> frozenset[str] | Any | None:
    words = _words(value)
    if isinstance(words, frozenset) and "BLACKWELL" in words:
        return words - {"BLACKWELL"} | _BLACKWELL
    return words


def _versions(section: Mapping[str, Json]) -> VersionPolicy:
    # Upper case, as parsed reports give hexadecimal versions; a driver version has no letters.
    minimum, accepted = section.get("min"), section.get("accepted")
    return VersionPolicy(
        minimum=None if minimum is None else minimum.upper(),
        accepted=None if accepted is None else frozenset(map(str.upper, accepted)),
        rejected=frozenset(map(str.upper, section.get("rejected", ()))),
    )


def _ids(value: list[str] | None) -> frozenset[bytes] | None:
    return None if value is None else frozenset(map(bytes.fromhex, value))


# --- contradictions ---


def contradictions(policy: Policy) -> Iterator[PolicyError]:
    """Yield what keeps a well-formed policy from ever being met, or from saying anything."""
    judged = [part for part in (policy.tdx, policy.gpus, policy.nvswitches) if part is not None]
    if all(part is ANY for part in judged):
        yield PolicyError(
            "the policy judges nothing",
            expected="expectations in at least one of tdx, gpus and nvswitches",
            found="only the word any",
            where="policy",
        )
    for name, devices, bios in (
        ("gpus", policy.gpus, "vbios"),
        ("nvswitches", policy.nvswitches, "bios"),
    ):
        if isinstance(devices, DevicePolicy):
            yield from _in_devices(f"policy.{name}", devices, bios)
    if isinstance(policy.topology, TopologyPolicy):
        yield from _in_topology(policy, policy.topology)
    yield from fabric_contradictions(policy)


def _in_devices(where: str, devices: DevicePolicy, bios: str) -> Iterator[PolicyError]:
    count, ids = devices.count, devices.device_ids
    if isinstance(count, CountPolicy):
        if count.least > count.most:
            yield PolicyError(
                "no number is in this range",
                expected="min not above max",
                found=f"min {count.least}, max {count.most}",
                where=f"{where}.count",
            )
        if ids is not None and len(ids) < count.least:
            yield PolicyError(
                "the list names fewer devices than there must be",
                expected=f"at least {count.least} device ids",
                found=f"{len(ids)}",
                where=f"{where}.device_ids",
                hint="devices must be distinct: list each one a node may have",
            )
    yield from _in_versions(f"{where}.driver", devices.driver, _decimal)
    yield from _in_versions(f"{where}.{bios}", devices.vbios, _hexadecimal)


def _decimal(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _hexadecimal(version: str) -> tuple[int, ...]:
    return tuple(int(part, 16) for part in version.split("."))


def _in_versions(
    where: str, versions: VersionPolicy, order: Callable[[str], tuple[int, ...]]
) -> Iterator[PolicyError]:
    rejected = set(map(order, versions.rejected))
    for version in sorted(versions.accepted or ()):
        if order(version) in rejected:
            problem, expected = "is accepted and rejected", "each version on one of the lists"
        elif versions.minimum is not None and order(version) < order(versions.minimum):
            problem = "is accepted but below the minimum"
            expected = f"versions from {versions.minimum} on"
        else:
            continue
        yield PolicyError(f"version {problem}", expected=expected, found=version, where=where)


def _in_topology(policy: Policy, topology: TopologyPolicy) -> Iterator[PolicyError]:
    where = "policy.topology"
    for name, devices, key, number in (
        ("gpus", policy.gpus, "gpus", topology.gpus),
        ("nvswitches", policy.nvswitches, "switches", topology.switches),
    ):
        if not isinstance(devices, DevicePolicy):
            yield PolicyError(
                "a topology rests on devices that are judged",
                expected=f"a section {name} with expectations",
                found="any" if devices is ANY else "none",
                where=where,
                hint=f"state {name}, or say topology: any",
            )
        elif isinstance(devices.count, CountPolicy) and not (
            devices.count.least <= number <= devices.count.most
        ):
            yield PolicyError(
                f"topology.{key} is not a number that {name}.count accepts",
                expected=f"{devices.count.least} to {devices.count.most}",
                found=str(number),
                where=f"{where}.{key}",
            )
    gpus = policy.gpus
    if not isinstance(gpus, DevicePolicy):
        return
    # Protected PCIe exists on Hopper systems only: later ones leave the switches untrusted.
    for name, words, needed in (
        ("modes", gpus.modes, "PPCIE"),
        ("architectures", gpus.architectures, "HOPPER"),
    ):
        if isinstance(words, frozenset) and needed not in words:
            yield PolicyError(
                f"topology.kind protected-pcie needs {needed} among gpus.{name}",
                expected=needed,
                found=", ".join(sorted(words)),
                where=f"policy.gpus.{name}",
            )
