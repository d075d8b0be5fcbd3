"""The typed form of a policy's section ``fabric``.

Every default is the safe one where one exists; what nobody can prove today, a statement of the
fabric's manager and a probe, is judged where it is given and asked for where the policy says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ccverify.fabric.probe_rules import ProbeBands
from ccverify.findings import Assurance
from ccverify.policy.model_devices import VersionPolicy
from ccverify.policy.model_tdx import TdxPolicy
from ccverify.trust.pkix import PkixCertificate

__all__ = [
    "DEFAULT_MAX_AGE_S",
    "FABRIC_CLAIMS",
    "FABRIC_MODES",
    "MODE_WORDS",
    "PROBE_BANDS",
    "FabricPolicy",
    "GivenRule",
    "HealthRule",
    "ManagerPolicy",
    "ManagersPolicy",
    "OperatorRule",
    "OthersPolicy",
    "ProbePolicy",
    "TpmRule",
]

FABRIC_MODES = ("SPT", "MPT", "PPCIE")
FABRIC_CLAIMS = (
    "mode",
    "members",
    "partition",
    "registration",
    "encryption_in_force",
    "health",
    "links",
    "manager",
    "manager_configuration",
    "routing",
    "isolation",
    "liveness",
    "probe",
)
"""What a verdict says of a fabric, claim by claim."""
DEFAULT_MAX_AGE_S = 3600
"""How old a statement may be that answers an epoch and not the relying party's own nonce."""
MODE_WORDS = {"full-passthrough": 0, "shared-nvswitch": 1, "vgpu": 2}
"""Word of a policy → value of FABRIC_MODE (Fabric Manager User Guide 2.3)."""
PROBE_BANDS = {
    "min_one_way_gb_per_s": ("min_one_way", 1),
    "min_both_ways_gb_per_s": ("min_both_ways", 1),
    "max_spread_percent": ("max_spread", 100),
    "max_copy_ns": ("max_copy_us", 1000),
    "max_read_ns": ("max_read_us", 1000),
    "traffic_tolerance_percent": ("traffic_tolerance", 100),
    "max_background_bytes_per_s": ("max_background", 1),
}
"""Key → member of `ProbeBands`, and how many of the key's unit are one of the member's."""


class GivenRule(str, Enum):
    """What a policy asks of evidence that not every machine gives."""

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
class TpmRule:
    """A host that may state, known by its TPM.

    Attributes:
        names: Names of accepted attestation keys (algorithm ‖ digest, as the TPM has them).
        roots: certificates one of which a key's chain must end in; empty: not asked.
        pcrs: bank → PCR → accepted values.
    """

    names: frozenset[bytes] = frozenset()
    roots: tuple[PkixCertificate, ...] = ()
    pcrs: Mapping[str, Mapping[int, frozenset[bytes]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """An operator who may state, known by an X.509 key.

    Attributes:
        roots: certificates one of which the chain must end in.
        keys: SHA-256 of accepted SubjectPublicKeyInfos, 32 bytes each; None: every key under
            the roots.
    """

    roots: tuple[PkixCertificate, ...]
    keys: frozenset[bytes] | None = None


@dataclass(frozen=True, slots=True)
class ManagersPolicy:
    """Section ``fabric.managers``: who may state something of the fabric.

    Attributes:
        tdx: service VMs, each by what its quote must be.
        tpm: hosts.
        x509: operators.
        unsigned: whether a statement that nothing ties to anybody is accepted.
    """

    tdx: tuple[TdxPolicy, ...] = ()
    tpm: tuple[TpmRule, ...] = ()
    x509: tuple[OperatorRule, ...] = ()
    unsigned: bool = False


@dataclass(frozen=True, slots=True)
class ManagerPolicy:
    """Section ``fabric.manager``: how the manager must be set up.

    Attributes:
        modes: accepted values of FABRIC_MODE; None: not judged beyond what never fits.
        versions: accepted versions of Fabric Manager.
        nvlsm_versions: accepted versions of NVLSM, as text; None: not judged.
        programs: ``fabric-manager`` or ``nvlsm`` → accepted SHA-384 of the running file.
        settings: key of fabricmanager.cfg → accepted values, as text.
        log_required: whether the log must be free of errors.
    """

    modes: frozenset[int] | None = None
    versions: VersionPolicy | None = None
    nvlsm_versions: frozenset[str] | None = None
    programs: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    settings: Mapping[str, frozenset[str]] = field(default_factory=dict)
    log_required: bool = True


@dataclass(frozen=True, slots=True)
class OthersPolicy:
    """Section ``fabric.apart_from``: who must neither be in the partition nor reach it.

    Attributes:
        device_ids: identities (PDI) of GPUs, 8 bytes big endian each.
        modules: module ids of GPUs on the same board.
    """

    device_ids: frozenset[bytes] = frozenset()
    modules: frozenset[int] = frozenset()


_NO_BANDS = ProbeBands()


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """Section ``fabric.probe``.

    Attributes:
        rule: whether measurements must be there.
        bands: what they must come to.
    """

    rule: GivenRule = GivenRule.IF_GIVEN
    bands: ProbeBands = _NO_BANDS


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
        partition_ids: accepted ids of the manager's partition table; None: not judged.
        floors: claim of `FABRIC_CLAIMS` → the weakest assurance that will do.
        statement: what is asked of a statement of the manager.
        managers: who may state; None where the policy is silent, so that a statement is
            nobody's word.
        same_host_required: a statement must be shown to be about the tenant's own board.
        max_age_s: greatest age of a statement that answers an epoch, in seconds.
        continuity: whether two statements must show the same manager before and after.
        routing: whether forwarding tables must be there and evaluate closed.
        routing_digests: accepted digests of the routing state, 48 bytes each; None: not judged.
        manager: how the manager must be set up.
        apart_from: who must be kept apart.
        probe: what is asked of measurements over NVLink.
    """

    mode: str | None = None
    observation: GivenRule = GivenRule.REQUIRED
    state_required: bool = True
    health: HealthRule = HealthRule.IF_STATED
    links_required: bool = True
    active_links: int | None = None
    nvle_required: bool = True
    size: int | None = None
    clique_ids: frozenset[int] | None = None
    cluster_uuids: frozenset[bytes] | None = None
    partition_ids: frozenset[int] | None = None
    floors: Mapping[str, Assurance] = field(default_factory=dict)
    statement: GivenRule = GivenRule.IF_GIVEN
    managers: ManagersPolicy | None = None
    same_host_required: bool = True
    max_age_s: int = DEFAULT_MAX_AGE_S
    continuity: GivenRule = GivenRule.IF_GIVEN
    routing: GivenRule = GivenRule.IF_GIVEN
    routing_digests: frozenset[bytes] | None = None
    manager: ManagerPolicy = ManagerPolicy()
    apart_from: OthersPolicy = OthersPolicy()
    probe: ProbePolicy = ProbePolicy()

    @property
    def names_partition(self) -> bool:
        """Whether the policy says anything of the partition that a guest can see."""
        return not (self.size is None and self.clique_ids is None and self.cluster_uuids is None)
