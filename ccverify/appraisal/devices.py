"""The GPUs and NVSwitches of a node: each verified and judged, then all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ccverify.appraisal.inputs import Inputs
from ccverify.checks import Scope
from ccverify.evidence import DeviceEvidence, Evidence
from ccverify.findings import Assurance, Finding, State
from ccverify.nvidia.claims import DeviceClaims, common_level
from ccverify.nvidia.device import DeviceClass, DeviceVerifier
from ccverify.nvidia.gpu import GPU
from ccverify.nvidia.nvswitch import NVSWITCH
from ccverify.nvidia.opaque import GpuMode, GpuOpaqueData
from ccverify.policy.judge_binding import Tie, expected_nonce
from ccverify.policy.judge_devices import ExpectedNonce, judge_count, judge_device, judge_distinct
from ccverify.policy.judge_session import judge_one_board
from ccverify.policy.judge_topology import judge_topology
from ccverify.policy.model import DevicePolicy, Policy, TopologyPolicy
from ccverify.trust.store import TrustKind

__all__ = ["DevicesPart", "appraise_devices"]

_SCOPES = {
    "GPU": (Scope.GPU, Scope.GPUS),
    "NVSWITCH": (Scope.NVSWITCH, Scope.NVSWITCHES),
}


@dataclass(frozen=True, slots=True)
class DevicesPart:
    """What came of the devices.

    Attributes:
        findings: all about them.
        gpus: claims of each GPU that was judged.
        nvswitches: claims of each NVSwitch that was judged.
        topology: claims about how they are connected; None where nobody judges that.
        manifests: records of the reference manifests that were used.
        subjects: what the verdict must cover because of them.
    """

    findings: list[Finding] = field(default_factory=list)
    gpus: tuple[DeviceClaims, ...] = ()
    nvswitches: tuple[DeviceClaims, ...] = ()
    topology: Mapping[str, Any] | None = None
    manifests: tuple[Mapping[str, str], ...] = ()
    subjects: Mapping[Scope, Sequence[str | None]] = field(default_factory=dict)

    @property
    def protected_pcie(self) -> bool:
        """Whether any GPU says, in either of two fields, that it is in Protected PCIe mode."""
        return any(
            isinstance(opaque, GpuOpaqueData)
            and (opaque.protected_pcie or opaque.feature_flag is GpuMode.PROTECTED_PCIE)
            for opaque in (claims.verification.opaque for claims in self.gpus)
        )

    @property
    def multi_gpu(self) -> bool:
        """Whether any GPU signed that it is in multi-GPU mode."""
        return any(
            device.genuine
            and isinstance(device.opaque, GpuOpaqueData)
            and device.opaque.feature_flag is GpuMode.MPT
            for device in (claims.verification for claims in self.gpus)
        )


def appraise_devices(policy: Policy, evidence: Evidence, tied: Tie, inputs: Inputs) -> DevicesPart:
    """Verify and judge the devices of the classes for which the policy has a section."""
    findings: list[Finding] = []
    subjects: dict[Scope, Sequence[str | None]] = {}
    judged: dict[str, tuple[DeviceClaims, ...]] = {}
    for kind, section, given in (
        (GPU, policy.gpus, evidence.gpus),
        (NVSWITCH, policy.nvswitches, evidence.switches),
    ):
        judged[kind.prefix] = ()
        if isinstance(section, DevicePolicy) and given:
            nonce = expected_nonce(policy.binding, tied)
            claims, made = _appraise_class(kind, section, given, nonce, inputs)
            judged[kind.prefix] = claims
            findings += made
            each, together = _SCOPES[kind.prefix]
            subjects[each] = tuple(one.subject for one in claims)
            subjects[together] = (None,)
    gpus, switches = judged["GPU"], judged["NVSWITCH"]
    every = (*gpus, *switches)
    topology = None
    if every:
        findings.append(judge_distinct([one.verification for one in every]))
        subjects[Scope.DEVICES] = (None,)
        if isinstance(policy.topology, TopologyPolicy):
            topology = _appraise_topology(policy.topology, gpus, switches, findings)
            subjects[Scope.TOPOLOGY] = ("topology",)
        else:
            # What TOPOLOGY-SWITCH-LIST says of a judged topology; no switch has to attest.
            findings += judge_one_board([one.verification for one in gpus])
    return DevicesPart(findings, gpus, switches, topology, _manifests(every), subjects)


def _appraise_class(
    kind: DeviceClass,
    section: DevicePolicy,
    given: Sequence[DeviceEvidence],
    nonce: ExpectedNonce,
    inputs: Inputs,
) -> tuple[tuple[DeviceClaims, ...], list[Finding]]:
    days = section.revocation_max_age_days
    max_age = None if days is None else timedelta(days=days)
    verifier = DeviceVerifier(inputs.nvidia, inputs.trust, inputs.now, max_age)
    findings: list[Finding] = []
    claims = []
    for index, one in enumerate(given):
        verification = verifier.verify(kind, one, index)
        made, level = judge_device(section, verification, nonce, inputs.now)
        if inputs.trust.kind is TrustKind.INSECURE:
            level = Assurance.NONE
        findings += [*verification.findings, *made]
        claims.append(DeviceClaims(verification, level))
    verifications = [one.verification for one in claims]
    findings.append(judge_count(section.count, verifications, kind.prefix))
    return tuple(claims), findings


def _appraise_topology(
    policy: TopologyPolicy,
    gpus: Sequence[DeviceClaims],
    switches: Sequence[DeviceClaims],
    findings: list[Finding],
) -> Mapping[str, Any]:
    level = common_level((*gpus, *switches))
    made = judge_topology(
        policy, [one.verification for one in gpus], [one.verification for one in switches], level
    )
    findings += made
    return {
        "kind": "protected-pcie",
        "gpus": [one.values["device_id"] for one in gpus],
        "nvswitches": [one.values["device_id"] for one in switches],
        "closed": all(finding.state is not State.FAIL for finding in made),
        "assurance": dict.fromkeys(("kind", "gpus", "nvswitches", "closed"), level.value),
    }


def _manifests(devices: Sequence[DeviceClaims]) -> tuple[Mapping[str, str], ...]:
    """The manifests used, each once."""
    used: dict[str, Mapping[str, str]] = {}
    for device in devices:
        for lookup in device.verification.manifests:
            verified = lookup.choice.verification
            if verified is not None and verified.rim is not None:
                rim = verified.rim
                used[lookup.wanted.text] = {
                    "type": "rim",
                    "id": lookup.wanted.text,
                    "name": lookup.choice.name or "",
                    "title": rim.title,
                    "signed_sha384": rim.document.digest.hex(),
                }
    return tuple(used[name] for name in sorted(used))
