"""The typed form of a policy: what a tenant expects of a machine.

Documents are read by `ccverify.policy.document`; every default here is the safe one, and
`None` means that the policy is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ccverify.evidence import BindingProfile
from ccverify.findings import Assurance
from ccverify.tdx.attributes import TD_ATTRIBUTES, Rule
from ccverify.tdx.tcb_info import TcbStatus

__all__ = [
    "ANY",
    "FABRIC_CLAIMS",
    "FABRIC_MODES",
    "GPU_ARCHITECTURES",
    "GPU_MODES",
    "MEASUREMENTS",
    "MUST_STATE",
    "NVSWITCH_ARCHITECTURES",
    "Accepted",
    "Any",
    "BindingPolicy",
    "CollateralPolicy",
    "CountPolicy",
    "DevicePolicy",
    "EventLogPolicy",
    "FabricPolicy",
    "GatewayPolicy",
    "HealthRule",
    "ObservationRule",
    "PlatformPolicy",
    "Policy",
    "RevocationRule",
    "TcbPolicy",
    "TdxPolicy",
    "TopologyPolicy",
    "VersionPolicy",
    "XfamPolicy",
]


class Any(Enum):
    """The word `any` in a policy: every value is accepted, knowingly."""

    ANY = "any"


ANY = Any.ANY

Accepted = frozenset[bytes] | Any | None
"""Accepted values, or `ANY`, or None where the policy is silent."""

MUST_STATE = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
"""Measurements on which a policy may not be silent: they say which software runs."""

MEASUREMENTS = (*MUST_STATE, "mrseam", "mrconfigid", "mrowner", "mrownerconfig")


@dataclass(frozen=True, slots=True)
class TcbPolicy:
    """Section ``tdx.tcb``."""

    accepted_statuses: frozenset[TcbStatus] = frozenset({TcbStatus.UP_TO_DATE})
    grace_days: Mapping[TcbStatus, int] = field(default_factory=dict)
    min_evaluation_number: int | None = None
    min_qe_evaluation_number: int | None = None
    rejected_advisories: frozenset[str] = frozenset()
    min_tee_tcb_svn: bytes | None = None


@dataclass(frozen=True, slots=True)
class CollateralPolicy:
    """Section ``tdx.collateral``."""

    max_age_days: int | None = None
    allow_unknown_fields: bool = False


@dataclass(frozen=True, slots=True)
class XfamPolicy:
    """Section ``tdx.xfam``: keys of `ccverify.tdx.attributes.XFAM_FEATURES`."""

    require: frozenset[str] = frozenset()
    forbid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PlatformPolicy:
    """Section ``tdx.platform``."""

    fmspc: frozenset[bytes] | None = None
    ppid: frozenset[bytes] | None = None
    platform_instance_id: frozenset[bytes] | None = None
    allow_smt: bool = True
    allow_dynamic_platform: bool = True
    allow_cached_keys: bool = True

    @property
    def silent(self) -> bool:
        """Whether the section asks for nothing."""
        return self == PlatformPolicy()


@dataclass(frozen=True, slots=True)
class EventLogPolicy:
    """Section ``tdx.event_log``.

    Attributes:
        required: whether a log must be given.
        replay: registers among RTMR0 to RTMR2 that the log must explain.
        rtmr3: ``log``, ``zero`` or ``opaque``; None: ``log`` for a dstack log, ``opaque`` for
            CCEL, to which no kernel adds what it extends into RTMR3.
        claims: accepted values by claim name; ``key_provider.name`` reaches into an object.
    """

    required: bool = True
    replay: frozenset[int] = frozenset({0, 1, 2})
    rtmr3: str | None = None
    claims: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TdxPolicy:
    """Section ``tdx``."""

    tcb: TcbPolicy = TcbPolicy()
    collateral: CollateralPolicy = CollateralPolicy()
    measurements: Mapping[str, Accepted] = field(default_factory=dict)
    attributes: Mapping[str, Rule] = field(default_factory=dict)
    xfam: XfamPolicy = XfamPolicy()
    service_td: frozenset[bytes] = frozenset()
    platform: PlatformPolicy = PlatformPolicy()
    report_data: Accepted = None
    event_log: EventLogPolicy | None = None

    def rule(self, key: str) -> Rule:
        """The rule for one TDATTRIBUTES bit: the policy's, or the table's default."""
        return self.attributes.get(key) or _DEFAULT_RULES[key]


_DEFAULT_RULES = {attribute.key: attribute.default for attribute in TD_ATTRIBUTES}


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


FABRIC_MODES = ("SPT", "MPT", "PPCIE")
FABRIC_CLAIMS = (
    "mode",
    "members",
    "partition",
    "encryption_in_force",
    "health",
    "links",
    "manager",
    "routing",
    "isolation",
)
"""What a verdict says of a fabric, claim by claim."""


class ObservationRule(str, Enum):
    """What a policy asks of the guest's observation of the fabric."""

    REQUIRED = "required"
    """It must be there."""
    IF_GIVEN = "if-given"
    """It is judged where it is there; whoever leaves it out is not asked."""
    ANY = "any"
    """It is not judged, knowingly."""


class HealthRule(str, Enum):
    """What a policy asks of the fabric's health."""

    REQUIRED = "required"
    """Health must be stated, and good."""
    IF_STATED = "if-stated"
    """A fault counts; many drivers and platforms state nothing."""
    ANY = "any"
    """It is not judged, knowingly."""


@dataclass(frozen=True, slots=True)
class FabricPolicy:
    """Section ``fabric``: what the GPUs' NVLink fabric must be, and how well that is known.

    Attributes:
        mode: of `FABRIC_MODES`, as every GPU must have signed; None: not judged.
        observation: what is asked of the guest's observation.
        state_required: registration with the fabric must be completed, with success.
        health: what is asked of the fabric's health.
        links_required: the NVLinks must be up, as many as the partition has.
        active_links: how many of each GPU; None: what the mode implies.
        nvle_required: NVLink must be encrypted where the mode is MPT.
        size: how many GPUs the partition must have; None: not judged.
        clique_ids: accepted cliques; None: not judged.
        cluster_uuids: accepted clusters, 16 bytes each; None: not judged.
        floors: claim of `FABRIC_CLAIMS` → the weakest assurance that will do.
    """

    mode: str | None = None
    observation: ObservationRule = ObservationRule.REQUIRED
    state_required: bool = True
    health: HealthRule = HealthRule.IF_STATED
    links_required: bool = True
    active_links: int | None = None
    nvle_required: bool = True
    size: int | None = None
    clique_ids: frozenset[int] | None = None
    cluster_uuids: frozenset[bytes] | None = None
    floors: Mapping[str, Assurance] = field(default_factory=dict)

    @property
    def names_partition(self) -> bool:
        """Whether the policy says anything of the partition."""
        return not (self.size is None and self.clique_ids is None and self.cluster_uuids is None)


@dataclass(frozen=True, slots=True)
class BindingPolicy:
    """Section ``binding``.

    Attributes:
        profiles: accepted recipes that tie evidence to a request and a key.
        freshness_required: the caller must give the nonce.  False: the nonce that the response
            itself states is used, so that nothing proves the evidence to be new.
        relayable_accepted: accept that the evidence may come from another machine than the
            one that answers.
    """

    profiles: tuple[BindingProfile, ...] = (BindingProfile.RAW_NONCE, BindingProfile.CCVERIFY)
    freshness_required: bool = True
    relayable_accepted: bool = False


@dataclass(frozen=True, slots=True)
class GatewayPolicy:
    """Section ``gateway``: how nodes whose role is gateway are judged.

    Attributes:
        tdx: as in `Policy`.
        binding: as in `Policy`.
    """

    tdx: TdxPolicy | Any | None
    binding: BindingPolicy = BindingPolicy()


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy.

    Attributes:
        tdx: expectations of the TDX virtual machine; None where the policy is silent, `ANY`
            where TDX evidence is knowingly not judged.
        name: for people.
        digest: SHA-384 (hex) of the document in RFC 8785 form: the policy's identity.
        gpus: expectations of every GPU; None and `ANY` as for `tdx`.
        nvswitches: expectations of every NVSwitch; None and `ANY` as for `tdx`.
        topology: how GPUs and switches must be wired; None and `ANY` as for `tdx`.
        fabric: expectations of the NVLink fabric; None and `ANY` as for `tdx`.
        binding: how the evidence must be tied to the request.
        gateway: None: gateways are judged like every other node.
    """

    tdx: TdxPolicy | Any | None
    name: str = ""
    digest: str = ""
    gpus: DevicePolicy | Any | None = None
    nvswitches: DevicePolicy | Any | None = None
    topology: TopologyPolicy | Any | None = None
    binding: BindingPolicy = BindingPolicy()
    gateway: GatewayPolicy | None = None
    fabric: FabricPolicy | Any | None = None
