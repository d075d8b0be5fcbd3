"""The NVLink fabric of a node: the guest's observation judged, and what can be claimed of it.

Each claim says what it rests on and where it comes from.  What the Fabric Manager tells the
driver nobody authenticates, so that such a claim is `asserted` at most; who manages the fabric,
how it routes and whether others can reach it, no evidence of this version says.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha384
from typing import Any, Final

from ccverify.appraisal.bundle import BundlePart, absence_reason
from ccverify.appraisal.devices import DevicesPart
from ccverify.appraisal.td import TdPart
from ccverify.checks import Scope
from ccverify.errors import EvidenceError
from ccverify.evidence import BindingProfile
from ccverify.fabric.consistency import appraise_consistency
from ccverify.fabric.consistency_model import (
    NOT_STATED,
    AttestedGpu,
    FabricCode,
    FabricConsistency,
)
from ccverify.fabric.nvml_values import FABRIC_STATES, HEALTH_SUMMARIES, named
from ccverify.fabric.observation import (
    Absent,
    FabricInfo,
    FabricObservation,
    GpuObservation,
    parse_observation,
)
from ccverify.fabric.registration import active_links, health_problems, health_stated
from ccverify.findings import Assurance, Finding
from ccverify.nvidia.claims import DeviceClaims, common_level
from ccverify.nvidia.gpu import mode_name
from ccverify.nvidia.opaque import GpuOpaqueData
from ccverify.policy.judge_binding import Tie
from ccverify.policy.judge_fabric import Observed, judge_fabric, judge_floors, weaker
from ccverify.policy.model import FabricPolicy, ObservationRule, Policy
from ccverify.trust.store import TrustKind

__all__ = ["FabricPart", "appraise_fabric", "observation_level"]

_UNPROVEN: Final = ("manager", "routing", "isolation")
"""Claims about which no evidence of this version says anything."""
_MANAGER: Final = "Fabric Manager, unauthenticated, through NVML"
_IDENTITY: Final = frozenset(
    {
        FabricCode.IDENTITY,
        FabricCode.UNATTESTED,
        FabricCode.UNSEEN,
        FabricCode.DISTINCT,
    }
)
_CONTESTED: Final[Mapping[str, frozenset[FabricCode]]] = {
    "members": _IDENTITY | {FabricCode.CLIQUE, FabricCode.MODULE, FabricCode.VERSIONS},
    "partition": _IDENTITY | {FabricCode.CLIQUE, FabricCode.VERSIONS},
    "encryption_in_force": _IDENTITY | {FabricCode.MODE_AGREES, FabricCode.VERSIONS},
    "health": _IDENTITY | {FabricCode.VERSIONS},
    "links": _IDENTITY | {FabricCode.VERSIONS},
}
"""Claim → rules whose contradiction leaves nothing standing behind it."""


@dataclass(frozen=True, slots=True)
class FabricPart:
    """What came of the fabric.

    Attributes:
        findings: all about it.
        claims: JSON-ready; None where nobody judges it.
        subjects: what the verdict must cover because of it.
    """

    findings: Sequence[Finding] = ()
    claims: Mapping[str, Any] | None = None
    subjects: Mapping[Scope, Sequence[str | None]] = field(default_factory=dict)


def observation_level(
    td: TdPart, tied: Tie, bundle: BundlePart | None, trust: TrustKind
) -> Assurance:
    """What "the driver reported this" rests on.

    `measured` where REPORTDATA of a genuine quote covers the manifest that lists the
    observation, and the quote's image is on the policy's lists, so that code the tenant knows
    asked the driver; `asserted` otherwise.
    """
    if trust is TrustKind.INSECURE:
        return Assurance.NONE
    derivation, found = tied.derivation, td.report_data
    bound = (
        bundle is not None
        and bundle.intact
        and found is not None
        and derivation.profile is BindingProfile.CCVERIFY
        and all(
            part.expected is not None
            and hmac.compare_digest(part.expected, found[part.start : part.end])
            for part in derivation.report_data
        )
    )
    known = td.level is Assurance.HARDWARE and td.image_expected
    return Assurance.MEASURED if bound and known else Assurance.ASSERTED


def appraise_fabric(
    policy: Policy, devices: DevicesPart, bundle: BundlePart | None, level: Assurance
) -> FabricPart:
    """Judge the fabric, where the policy has a section for it and GPUs are judged.

    Args:
        policy: the tenant's.
        devices: what came of the GPUs.
        bundle: what the evidence came in.
        level: from `observation_level`.
    """
    section = policy.fabric
    if not isinstance(section, FabricPolicy) or not devices.gpus:
        return FabricPart()
    attested = [gpu for claims in devices.gpus if (gpu := _attested(claims))]
    device = common_level(devices.gpus)
    given = None if bundle is None else bundle.observation
    observed = _observe(section, given, attested, level, bundle)
    findings = judge_fabric(section, observed, attested, device)
    claims = _claims(attested, device, observed)
    assurance = {name: Assurance(claim["assurance"]) for name, claim in claims.items()}
    judge_floors(section.floors, assurance, findings)
    if given is not None and observed.observation is not None:
        claims["driver_report"] = _driver_report(given, observed)
    return FabricPart(tuple(findings), claims, {Scope.FABRIC: ("fabric",)})


def _attested(claims: DeviceClaims) -> AttestedGpu | None:
    device = claims.verification
    opaque = device.opaque
    if device.device_id is None or not isinstance(opaque, GpuOpaqueData):
        return None
    architecture = device.chain.architecture if device.chain else None
    said = {each.name: each.value for each in device.evidence.asserted}
    return AttestedGpu(
        subject=device.subject,
        device_id=device.device_id,
        mode=mode_name(opaque),
        architecture=architecture.value if architecture else None,
        driver=opaque.driver_version,
        vbios=opaque.vbios_version,
        uuid=str(said["uuid"]) if said.get("uuid") else None,
    )


def _observe(
    section: FabricPolicy,
    given: bytes | None,
    attested: Sequence[AttestedGpu],
    level: Assurance,
    bundle: BundlePart | None,
) -> Observed:
    if section.observation is ObservationRule.ANY:
        return Observed(None, None, level)
    if given is None:
        said = "the evidence came in no bundle"
        if bundle is not None:
            said = absence_reason(bundle.absences, "fabric")
        return Observed(None, None, level, absence=f": {said}" if said else "")
    try:
        observation = parse_observation(given)
    except EvidenceError as error:
        found = f"{error.message}: {error.found}" if error.found else error.message
        expected = error.expected or "one observation of the fabric"
        return Observed(None, None, level, (expected, found, error.where))
    consistency = appraise_consistency(observation, attested, section.active_links)
    return Observed(observation, consistency, level)


# --- claims --------------------------------------------------------------------------------------


def _claim(value: Any, assurance: Assurance, sources: Iterable[str]) -> dict[str, Any]:
    if value is None:
        return {"value": None, "assurance": Assurance.NONE.value, "sources": []}
    return {"value": value, "assurance": assurance.value, "sources": list(sources)}


def _claims(
    attested: Sequence[AttestedGpu], device: Assurance, observed: Observed
) -> dict[str, dict[str, Any]]:
    """Every claim of a fabric, in one order; what nothing supports is stated as such."""
    modes = {gpu.mode for gpu in attested}
    mode = next(iter(modes)) if len(modes) == 1 and modes != {NOT_STATED} else None
    reports = f"signed reports of {len(attested)} GPUs"
    claims = {"mode": _claim(mode, device, [f"{reports}: FEATURE_FLAG, PROTECTED_PCIE_STATUS"])}
    claims |= dict.fromkeys(_CONTESTED, _claim(None, Assurance.NONE, ()))
    if observed.observation is not None and observed.consistency is not None:
        claims |= _observed_claims(
            observed.observation, observed.consistency, attested, observed.level
        )
    for name in _UNPROVEN:
        claims[name] = _claim(None, Assurance.NONE, ())
    return claims


def _observed_claims(
    observation: FabricObservation,
    consistency: FabricConsistency,
    attested: Sequence[AttestedGpu],
    level: Assurance,
) -> dict[str, dict[str, Any]]:
    gpus = observation.gpus
    manager = weaker(level, Assurance.ASSERTED)
    ids = {gpu.subject: gpu.device_id.hex().upper() for gpu in attested}
    members = [ids[each.subject] for each in consistency.matches]
    made = {
        "members": _claim(members or None, manager, [_MANAGER, "certified PDIs"]),
        "partition": _claim(_partition(gpus), manager, [_MANAGER]),
        "encryption_in_force": _claim(_encryption(gpus), level, ["NVML, per GPU"]),
        "health": _claim(_health(gpus), manager, [_MANAGER]),
        "links": _claim(_links(gpus, consistency), level, ["NVML, per link"]),
    }
    broken = {each.code for each in consistency.problems}
    for name, rules in _CONTESTED.items():
        if rules & broken and made[name]["value"] is not None:
            made[name]["assurance"] = Assurance.NONE.value
    return made


def _registrations(gpus: Sequence[GpuObservation]) -> list[FabricInfo]:
    return [gpu.fabric for gpu in gpus if not isinstance(gpu.fabric, Absent)]


def _partition(gpus: Sequence[GpuObservation]) -> dict[str, Any] | None:
    """What the Fabric Manager says of the partition; None unless it says so of every GPU."""
    infos = _registrations(gpus)
    if not infos or len(infos) != len(gpus):
        return None
    return {
        "gpus": len(gpus),
        "cluster_uuids": sorted({info.cluster_uuid for info in infos}),
        "clique_ids": sorted({clique.id for info in infos for clique in info.cliques}),
        "states": sorted({named(FABRIC_STATES, info.state) for info in infos}),
        "registered": all(info.state == 3 and info.status == 0 for info in infos),
    }


def _encryption(gpus: Sequence[GpuObservation]) -> bool | None:
    """Whether NVLink is encrypted on every GPU; None where the driver does not say of one."""
    said = [gpu.encrypted for gpu in gpus]
    if 0 in said:
        return False
    return True if said and all(value == 1 for value in said) else None


def _health(gpus: Sequence[GpuObservation]) -> dict[str, Any] | None:
    infos = [info for info in _registrations(gpus) if health_stated(info)]
    if not infos:
        return None
    summaries = {
        named(HEALTH_SUMMARIES, info.health_summary)
        for info in infos
        if not isinstance(info.health_summary, Absent)
    }
    faults = sorted({fault for info in infos for fault in health_problems(info)})
    return {"stated_by": len(infos), "summaries": sorted(summaries), "faults": faults}


def _links(
    gpus: Sequence[GpuObservation], consistency: FabricConsistency
) -> list[dict[str, Any]] | None:
    names = {each.index: each.subject for each in consistency.matches}
    return [
        {"gpu": names.get(gpu.index, f"gpus[{gpu.index}]"), "up": active_links(gpu)} for gpu in gpus
    ] or None


def _driver_report(data: bytes, observed: Observed) -> dict[str, Any]:
    """The one fact that code in the guest can prove: that the driver said all of this."""
    observation, consistency = observed.observation, observed.consistency
    driver = observation.driver if observation else None
    order = consistency.order if consistency else None
    value = {
        "sha384": sha384(data).hexdigest(),
        "driver": driver if isinstance(driver, str) else None,
        "gpus": len(observation.gpus) if observation else 0,
        "byte_order": order.value if order else None,
    }
    return _claim(value, observed.level, ["item of the bundle's manifest"])
