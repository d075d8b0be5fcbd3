"""The NVLink fabric of a node: what guest and manager say of it, judged, and what can be claimed.

Each claim says what it rests on and where it comes from (`ccverify.appraisal.fabric_claims`).
What the Fabric Manager tells the driver nobody authenticates; what a statement of the manager
says rests on whoever bound its key (`ccverify.appraisal.statement`).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ccverify.appraisal.bundle import BundlePart, absence_reason
from ccverify.appraisal.devices import DevicesPart
from ccverify.appraisal.fabric_claims import Sources, fabric_claims
from ccverify.appraisal.inputs import Inputs
from ccverify.appraisal.statement import open_statement
from ccverify.appraisal.td import TdPart
from ccverify.bundle.model import ItemType
from ccverify.checks import Scope
from ccverify.errors import EvidenceError
from ccverify.evidence import BindingProfile
from ccverify.fabric.consistency import appraise_consistency
from ccverify.fabric.consistency_model import AttestedGpu
from ccverify.fabric.observation import FabricObservation, parse_observation
from ccverify.fabric.probe import parse_probe
from ccverify.fabric.statement import evaluate_statement, partition_name
from ccverify.fabric.statement_join import PartitionMatch, join_partition
from ccverify.fabric.statement_model import (
    Circumstances,
    FabricStatement,
    Generation,
    Judged,
    StatementCode,
    StatementGap,
    StatementProblem,
)
from ccverify.fabric.statement_place import match_guids
from ccverify.fabric.statement_rules import appraise_statement
from ccverify.findings import Assurance, Finding
from ccverify.nvidia.claims import DeviceClaims, common_level
from ccverify.nvidia.gpu import mode_name
from ccverify.nvidia.opaque import GpuOpaqueData
from ccverify.policy.judge_binding import Tie
from ccverify.policy.judge_fabric import Observed, judge_fabric, judge_floors
from ccverify.policy.judge_probe import Probed, judge_probe
from ccverify.policy.judge_routing import Routed
from ccverify.policy.judge_statement import judge_statements
from ccverify.policy.model import FabricPolicy, GivenRule, Policy
from ccverify.policy.stated import Fresh, Place, Stated
from ccverify.trust.store import TrustKind

__all__ = ["MAX_STATEMENTS", "FabricPart", "appraise_fabric", "guest_level"]

MAX_STATEMENTS: Final = 4
"""Most statements that are judged together."""
_GENERATIONS: Final = {
    "HOPPER": Generation.HOPPER,
    "BLACKWELL-GB100": Generation.BLACKWELL,
    "BLACKWELL-GB20X": Generation.BLACKWELL,
}
"""Architecture of a certificate chain → generation of the board."""


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


def guest_level(td: TdPart, tied: Tie, bundle: BundlePart | None, trust: TrustKind) -> Assurance:
    """What "code in the guest saw this" rests on.

    `measured` where REPORTDATA of a genuine quote covers the manifest that lists what was seen,
    and the quote's image is on the policy's lists, so that code the tenant knows looked;
    `asserted` otherwise.
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
    policy: Policy,
    devices: DevicesPart,
    bundle: BundlePart | None,
    level: Assurance,
    statements: Sequence[bytes],
    wanted: Fresh,
    inputs: Inputs,
    platform: str | None,
) -> FabricPart:
    """Judge the fabric, where the policy has a section for it and there are GPUs.

    GPUs that cannot attest, as without confidential computing, are seen by the driver all the
    same: what it says is then judged, and said to be about GPUs that nobody attested.

    Args:
        policy: the tenant's.
        devices: what came of the GPUs.
        bundle: what the evidence came in.
        level: from `guest_level`.
        statements: of the manager, given beside the evidence.
        wanted: what makes a statement fresh.
        inputs: the circumstances.
        platform: of the tenant's own quote, from `TdPart.platform`.
    """
    section = policy.fabric
    if not isinstance(section, FabricPolicy) or not (devices.gpus or _seen(bundle)):
        return FabricPart()
    attested = [gpu for claims in devices.gpus if (gpu := _attested(claims))]
    device = common_level(devices.gpus)
    given = _item(bundle, ItemType.FABRIC_OBSERVATION)
    observed = _observe(section, given, attested, level, bundle)
    findings = judge_fabric(section, observed, attested, device)
    probed = _probe(section, level, bundle)
    findings.extend(judge_probe(section, probed, _uuids(observed.observation)))
    stated = _opened(section, bundle, statements, inputs)
    believed = bool(stated) and all(one.problem is None for one in stated)
    last = stated[-1].statement if believed else None
    rules, match, routed = _appraise(last, attested, observed.observation, section)
    ids = [gpu.device_id for gpu in attested]
    waivers = {}
    if "MPT" not in {gpu.mode for gpu in attested}:
        waivers[StatementCode.RAIL_POLICY] = "no GPU signed multi-GPU mode (MPT)"
    place = _place(stated[-1] if believed else None, observed.observation, platform)
    rules = (*rules, *place.guids.problems)
    judged = judge_statements(section, stated, rules, match, routed, wanted, ids, place, waivers)
    findings.extend(judged)
    usable = believed and all(one.level is not Assurance.NONE for one in stated)
    sources = Sources(
        attested,
        device,
        observed,
        given,
        stated if usable else (),
        match.entry if match is not None and usable else None,
        routed,
        probed,
        place.shown,
    )
    refuted = {one.code.value for one in rules if isinstance(one, StatementProblem)}
    claims = fabric_claims(sources, findings, refuted)
    assurance = {name: Assurance(claim["assurance"]) for name, claim in claims.items()}
    judge_floors(section.floors, assurance, findings)
    return FabricPart(tuple(findings), claims, {Scope.FABRIC: ("fabric",)})


def _seen(bundle: BundlePart | None) -> bool:
    return any(_item(bundle, kind) for kind in (ItemType.FABRIC_OBSERVATION, ItemType.FABRIC_PROBE))


def _item(bundle: BundlePart | None, kind: ItemType) -> bytes | None:
    """The one item of a type; None where there is none."""
    return None if bundle is None else next(iter(bundle.of_type(kind)), None)


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


def _unreadable(error: EvidenceError, expected: str) -> tuple[str, str, str | None]:
    return error.expected or expected, error.summary, error.where


# --- what the guest saw and measured -------------------------------------------------------------


def _observe(
    section: FabricPolicy,
    given: bytes | None,
    attested: Sequence[AttestedGpu],
    level: Assurance,
    bundle: BundlePart | None,
) -> Observed:
    if section.observation is GivenRule.ANY:
        return Observed(None, None, level)
    if given is None:
        return Observed(None, None, level, absence=_absence(bundle, "fabric"))
    try:
        observation = parse_observation(given)
    except EvidenceError as error:
        problem = _unreadable(error, "one observation of the fabric")
        return Observed(None, None, level, problem)
    consistency = appraise_consistency(observation, attested, section.active_links)
    return Observed(observation, consistency, level)


def _absence(bundle: BundlePart | None, label: str) -> str:
    said = "the evidence came in no bundle"
    if bundle is not None:
        said = absence_reason({k: v for k, v in bundle.absences.items() if k == label}, label)
    return f": {said}" if said else ""


def _probe(section: FabricPolicy, level: Assurance, bundle: BundlePart | None) -> Probed:
    given = _item(bundle, ItemType.FABRIC_PROBE)
    if section.probe.rule is GivenRule.ANY:
        return Probed(None, level)
    if given is None:
        return Probed(None, level, absence=_absence(bundle, "fabric-probe"))
    try:
        return Probed(parse_probe(given), level)
    except EvidenceError as error:
        return Probed(None, level, _unreadable(error, "measurements over NVLink"))


def _uuids(observation: FabricObservation | None) -> list[str]:
    gpus = observation.gpus if observation else ()
    return [gpu.uuid for gpu in gpus if isinstance(gpu.uuid, str)]


# --- what the manager states ---------------------------------------------------------------------


def _opened(
    section: FabricPolicy,
    bundle: BundlePart | None,
    statements: Sequence[bytes],
    inputs: Inputs,
) -> list[Stated]:
    """Open every statement once, the earliest first."""
    if section.statement is GivenRule.ANY:
        return []
    own = bundle.of_type(ItemType.FABRIC_STATEMENT) if bundle else ()
    distinct = dict.fromkeys((*own, *statements))
    return sorted(
        (open_statement(data, section, inputs) for data in distinct),
        key=lambda one: (one.created, one.digest),
    )


def _appraise(
    statement: FabricStatement | None,
    attested: Sequence[AttestedGpu],
    observation: FabricObservation | None,
    section: FabricPolicy,
) -> tuple[Sequence[Judged], PartitionMatch | None, Routed]:
    """Hold a statement against itself and the tenant's GPUs, and evaluate its tables."""
    if statement is None:
        return (), None, Routed(None, missing="there is no statement that can be used")
    modules = observation.modules if observation else None
    modes = {gpu.mode for gpu in attested}
    generations = {_GENERATIONS.get(gpu.architecture or "") for gpu in attested}
    circumstances = Circumstances(
        drivers=frozenset(gpu.driver for gpu in attested if gpu.driver),
        multi_gpu="MPT" in modes if modes else None,
        generation=generations.pop() if len(generations) == 1 else None,
        modules=modules,
        modes=section.manager.modes,
        programs=section.manager.programs,
        settings=section.manager.settings,
    )
    match = join_partition(statement, modules)
    rules = (
        *appraise_statement(statement, circumstances),
        *match.judged,
    )
    entry = match.entry
    evaluation = evaluate_statement(statement)
    if evaluation is None:
        missing = "; ".join(one.reason for one in statement.gaps) or "tables or partitions lack"
        return rules, match, Routed(None, missing=missing)
    name = partition_name(entry) if entry is not None and entry.active else None
    code = StatementCode.ROUTING
    gaps = tuple(one for one in rules if isinstance(one, StatementGap) and one.code is code)
    return rules, match, Routed(evaluation, name, gaps=gaps)


def _place(
    last: Stated | None, observation: FabricObservation | None, platform: str | None
) -> Place:
    """What shows that a statement is about the tenant's own board."""
    if last is None or last.statement is None:
        return Place()
    same = None
    if platform is not None and last.platform is not None:
        same = platform == last.platform
    return Place(same, match_guids(last.statement, observation.gpus if observation else ()))
