"""The typed form of a policy's sections ``gpus``, ``nvswitches`` and ``topology``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ccverify.policy.model_tdx import Any

__all__ = [
    "GPU_ARCHITECTURES",
    "GPU_MODES",
    "NVSWITCH_ARCHITECTURES",
    "CountPolicy",
    "DevicePolicy",
    "RevocationRule",
    "TopologyPolicy",
    "VersionPolicy",
]

GPU_ARCHITECTURES = ("HOPPER", "BLACKWELL-GB100", "BLACKWELL-GB20X")
NVSWITCH_ARCHITECTURES = ("LS10",)
"""Values of `ccverify.nvidia.certs.Architecture`, by the type of the device."""

GPU_MODES = ("SPT", "MPT", "PPCIE", "NOT_STATED")
"""Confidential computing modes; NOT_STATED where the signed report does not name one."""


class RevocationRule(str, Enum):
    """What a policy asks of revocation answers.  A bad answer fails under each of them."""

    REQUIRED = "required"
    """A current good answer for every certificate."""
    IF_GIVEN = "if-given"
    """Missing or outdated answers are accepted."""
    ANY = "any"
    """Revocation is given up, knowingly."""


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Versions of a driver or VBIOS, as text; hex digits in upper case.

    Attributes:
        minimum: the lowest accepted version.
        accepted: the only accepted versions; None: not judged.
        rejected: versions that are refused, whatever the other two say.
    """

    minimum: str | None = None
    accepted: frozenset[str] | None = None
    rejected: frozenset[str] = frozenset()

    @property
    def silent(self) -> bool:
        """Whether the policy asks for nothing."""
        return self == VersionPolicy()


@dataclass(frozen=True, slots=True)
class CountPolicy:
    """How many devices a node must have: from `least` to `most`, both included."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """Section ``gpus`` or ``nvswitches``.

    Attributes:
        count: None where the policy is silent, which leaves the verdict incomplete.
        architectures: of `GPU_ARCHITECTURES` or `NVSWITCH_ARCHITECTURES`; None: silent.
        modes: of `GPU_MODES`; None: silent.  Not used for switches.
        fwid_required: the report must name the firmware that the certificate certifies.  The
            default of a document's ``nvswitches`` is False: LS10 reports name none.
        rim_required: reference measurements must be there and match.
        allow_expired_rim_signer: accept RIMs whose signing certificate has expired.
        revocation: what is asked of revocation answers.
        allow_hold: accept a certificate that is on hold.
        revocation_max_age_days: greatest age of a revocation answer; None: its own window.
        driver: driver versions.  Not used for switches.
        vbios: VBIOS versions; of a switch, the key ``bios``.
        firmware_ids: accepted FWIDs, 48 bytes each; None: not judged.
        device_ids: accepted device identities (PDI), 8 bytes big endian each; None: not judged.
    """

    count: CountPolicy | Any | None = None
    architectures: frozenset[str] | Any | None = None
    modes: frozenset[str] | Any | None = None
    fwid_required: bool = True
    rim_required: bool = True
    allow_expired_rim_signer: bool = False
    revocation: RevocationRule = RevocationRule.REQUIRED
    allow_hold: bool = False
    revocation_max_age_days: int | None = None
    driver: VersionPolicy = VersionPolicy()
    vbios: VersionPolicy = VersionPolicy()
    firmware_ids: frozenset[bytes] | None = None
    device_ids: frozenset[bytes] | None = None


@dataclass(frozen=True, slots=True)
class TopologyPolicy:
    """Section ``topology``: a Protected PCIe node of this many GPUs and NVSwitches."""

    gpus: int
    switches: int
    allow_mixed_firmware: bool = False
    allow_mixed_driver: bool = False
