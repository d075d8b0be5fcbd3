"""The sections of a policy document on devices and on binding → the model.

Every function here is given what the JSON Schema has already accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any as Json

from ccverify.evidence import BindingProfile
from ccverify.policy.model import (
    ANY,
    GPU_ARCHITECTURES,
    Any,
    BindingPolicy,
    CountPolicy,
    DevicePolicy,
    RevocationRule,
    TopologyPolicy,
    VersionPolicy,
)

__all__ = [
    "binding_policy",
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
        driver=version_policy(section.get("driver", {})),
        vbios=version_policy(section.get("vbios", {})),
    )


def switch_policy(section: Section) -> DevicePolicy | Any | None:
    """Read section ``nvswitches``; unlike a GPU's, a switch's report need not name a FWID."""
    if section is None or isinstance(section, str):
        return None if section is None else ANY
    return DevicePolicy(
        **_common(section, fwid_required=False), vbios=version_policy(section.get("bios", {}))
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


def version_policy(section: Mapping[str, Json]) -> VersionPolicy:
    """Read accepted versions of a driver or firmware."""
    # Upper case, as parsed reports give hexadecimal versions; a driver version has no letters.
    minimum, accepted = section.get("min"), section.get("accepted")
    return VersionPolicy(
        minimum=None if minimum is None else minimum.upper(),
        accepted=None if accepted is None else frozenset(map(str.upper, accepted)),
        rejected=frozenset(map(str.upper, section.get("rejected", ()))),
    )


def _ids(value: list[str] | None) -> frozenset[bytes] | None:
    return None if value is None else frozenset(map(bytes.fromhex, value))
