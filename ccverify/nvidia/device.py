"""One GPU or NVSwitch: is its report genuine, and what does NVIDIA say of what it measured?

What holds whatever a tenant wants is reported as findings here.  What a policy may waive
(FWID, manifests, revocation) is returned as facts, judged in `ccverify.policy.judge_devices`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ccverify.errors import EvidenceError
from ccverify.evidence import DeviceEvidence
from ccverify.findings import Finding, FindingList, State
from ccverify.nvidia.certs import (
    DeviceChain,
    FwidProblem,
    architecture_claim_problem,
    fwid_problem,
    parse_device_chain,
    validity_problems,
    verify_device_chain,
    verify_report_signature,
)
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.identity import DeviceType
from ccverify.nvidia.measurements import MeasurementComparison
from ccverify.nvidia.opaque import GpuOpaqueData, SwitchOpaqueData
from ccverify.nvidia.revocation import RevocationStatus
from ccverify.nvidia.rim import Rim
from ccverify.nvidia.rim_set import RimChoice, RimId
from ccverify.nvidia.spdm import AttestationReport, decode_report_text, parse_attestation_report
from ccverify.trust.store import TrustStore

__all__ = [
    "DeviceClass",
    "DeviceVerification",
    "DeviceVerifier",
    "ManifestLookup",
]

OpaqueData = GpuOpaqueData | SwitchOpaqueData


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """What sets GPUs and NVSwitches apart.

    Attributes:
        prefix: of its check codes.
        label: of one device in a verdict, before its number.
        noun: for people.
        device_type: what certificate [1] must be of.
        parse_opaque: parser of its opaque data.
        rim_ids: the manifests it needs, the firmware's last; raises EvidenceError.
        compare: its measurements against those manifests.
    """

    prefix: str
    label: str
    noun: str
    device_type: DeviceType
    parse_opaque: Callable[[bytes], OpaqueData]
    rim_ids: Callable[[OpaqueData, DeviceChain], tuple[RimId, ...]]
    compare: Callable[[AttestationReport, OpaqueData, tuple[Rim, ...]], MeasurementComparison]


@dataclass(frozen=True, slots=True)
class ManifestLookup:
    """One manifest a device needs, what was found, and whether its signer is revoked."""

    wanted: RimId
    choice: RimChoice
    revocation: tuple[RevocationStatus, ...]


@dataclass(frozen=True)
class DeviceVerification:
    """What verification established about one device.

    Attributes:
        kind: GPU or NVSwitch.
        subject: its name in the verdict, such as ``gpu-0``.
        evidence: as given.
        findings: the steps no policy can waive, in their order.
        report: None if it did not parse.
        opaque: the report's opaque data; None if it did not parse.
        chain: None if it did not parse.
        genuine: chain, identity, validity aside, and report signature have passed, so that
            `report` and `opaque` are the device's own words.
        fwid: why report and chain were not found to name one firmware; None if they do.
            Meaningless unless `genuine`.
        manifests: one entry for each manifest it needs; empty unless `genuine`.
        manifest_problem: why it cannot be said which manifests it needs.
        comparison: measurements against golden values; None without genuine manifests.
        revocation: one status for each certificate from [1] on; empty unless `genuine`.
    """

    kind: DeviceClass
    subject: str
    evidence: DeviceEvidence
    findings: tuple[Finding, ...]
    report: AttestationReport | None = None
    opaque: OpaqueData | None = None
    chain: DeviceChain | None = None
    genuine: bool = False
    fwid: FwidProblem | None = None
    manifests: tuple[ManifestLookup, ...] = ()
    manifest_problem: str | None = None
    comparison: MeasurementComparison | None = None
    revocation: tuple[RevocationStatus, ...] = ()

    @property
    def device_id(self) -> bytes | None:
        """The certified PDI, 8 bytes big endian; None unless `genuine`."""
        return self.chain.device_id if self.chain and self.genuine else None


class DeviceVerifier:
    """Verifies the devices of one node at one time, and each manifest they share only once."""

    def __init__(
        self,
        collateral: NvidiaCollateral,
        trust: TrustStore,
        now: datetime,
        max_age: timedelta | None = None,
    ) -> None:
        """Set the circumstances.

        Args:
            collateral: manifests and revocation answers; may be empty.
            trust: the trust store with NVIDIA's roots.
            now: evaluation time, timezone-aware.
            max_age: how old a revocation answer may be; None for as long as it says itself.
        """
        self._collateral = collateral
        self._trust = trust
        self._now = now
        self._max_age = max_age
        self._looked_up: dict[str, ManifestLookup] = {}

    def verify(self, kind: DeviceClass, evidence: DeviceEvidence, index: int) -> DeviceVerification:
        """Verify one device.  Never raises on bad evidence.

        Args:
            kind: the class under which the device is presented.
            evidence: its report and certificate chain.
            index: its number among those of its class.
        """
        subject = f"{kind.label}-{index}"
        findings = FindingList(subject)
        report, opaque = self._parse_report(kind, evidence, findings)
        chain = self._verify_chain(kind, evidence, findings)
        _verify_architecture(kind, evidence, opaque, chain, findings)
        self._verify_signature(kind, report, chain, findings)
        made = tuple(findings)
        # A certificate outside its validity is a matter of time, not of who signed.
        apart = (f"{kind.prefix}-CHAIN-VALIDITY", f"{kind.prefix}-ARCHITECTURE-CLAIM")
        genuine = all(f.state is State.PASS for f in made if f.code not in apart)
        if not genuine or report is None or opaque is None or chain is None:
            return DeviceVerification(kind, subject, evidence, made, report, opaque, chain)
        manifests, problem = self._manifests(kind, opaque, chain)
        return DeviceVerification(
            kind,
            subject,
            evidence,
            made,
            report,
            opaque,
            chain,
            genuine=True,
            fwid=fwid_problem(chain.fwid, getattr(opaque, "fwid", None)),
            manifests=manifests,
            manifest_problem=problem,
            comparison=_compare(kind, report, opaque, manifests),
            revocation=self._collateral.revocation.status_of(
                chain.certificates,
                self._trust.nvidia_device_root,
                self._now,
                first=1,
                memory=self._trust.memory,
                max_age=self._max_age,
            ),
        )

    # --- the steps that no policy can waive ---

    def _parse_report(
        self, kind: DeviceClass, evidence: DeviceEvidence, findings: FindingList
    ) -> tuple[AttestationReport | None, OpaqueData | None]:
        code = f"{kind.prefix}-REPORT-FORMAT"
        try:
            report = parse_attestation_report(decode_report_text(evidence.report))
            opaque = kind.parse_opaque(report.opaque_data)
        except EvidenceError as problem:
            expected = problem.expected or f"one attestation report of a {kind.noun}"
            found = problem.summary
            findings.failed(code, expected, found, problem.where)
            return None, None
        blocks = f"{len(report.measurements)} measurements, {len(opaque.fields)} opaque fields"
        findings.passed(code, f"SPDM, {blocks}")
        return report, opaque

    def _verify_chain(
        self, kind: DeviceClass, evidence: DeviceEvidence, findings: FindingList
    ) -> DeviceChain | None:
        prefix, root = kind.prefix, self._trust.nvidia_device_root
        try:
            certificates = parse_device_chain(evidence.certificate_chain)
        except EvidenceError as problem:
            found = problem.summary
            findings.failed(f"{prefix}-CHAIN", "a PEM certificate chain", found, problem.where)
            for name in ("CHAIN-VALIDITY", "IDENTITY"):
                findings.skipped(f"{prefix}-{name}", "the certificate chain is not readable")
            return None
        chain = verify_device_chain(certificates, root, self._trust.memory)
        authentic = findings.ended(
            f"{prefix}-CHAIN",
            chain.name_problem or chain.path_problem or chain.firmware_problem,
            expected=f"four certificates of a known {kind.noun} below the {root.label}",
            found=f"{chain.chip} to {root.label}",
        )
        outside = [problem for problem in validity_problems(chain, root, self._now) if problem]
        findings.ended(
            f"{prefix}-CHAIN-VALIDITY",
            "; ".join(outside) or None,
            expected="every certificate is valid at the evaluation time",
            found=f"{len(chain.certificates)} certificates and the root",
        )
        code = f"{prefix}-IDENTITY"
        if not authentic:
            findings.skipped(code, "the certificate chain is not that of a known device")
            return chain
        unnamed = chain.identity_problem or chain.device_info_problem
        if unnamed is None and chain.device_type is not kind.device_type:
            unnamed = f"the chain is that of a {chain.chip}, which is no {kind.noun}"
        findings.ended(
            code,
            unnamed,
            expected=f"a {kind.noun} named by the serial number of certificate [1]",
            found=chain.device_id.hex().upper() if chain.device_id else "",
            where="certificate [1]",
        )
        return chain

    def _verify_signature(
        self,
        kind: DeviceClass,
        report: AttestationReport | None,
        chain: DeviceChain | None,
        findings: FindingList,
    ) -> None:
        code = f"{kind.prefix}-REPORT-SIGNATURE"
        if report is None:
            findings.skipped(code, "the report is not readable")
        elif chain is None or chain.leaf_key is None:
            findings.skipped(code, "there is no certified attestation key")
        else:
            findings.ended(
                code,
                verify_report_signature(
                    report.signed_range, report.signature, chain.leaf_key, self._trust.memory
                ),
                expected="a signature by the key of certificate [0] over request and response",
                found="ECDSA P-384 with SHA-384",
            )

    # --- facts for a policy to judge ---

    def _manifests(
        self, kind: DeviceClass, opaque: OpaqueData, chain: DeviceChain
    ) -> tuple[tuple[ManifestLookup, ...], str | None]:
        try:
            wanted = kind.rim_ids(opaque, chain)
        except EvidenceError as problem:
            return (), problem.summary
        return tuple(map(self._look_up, wanted)), None

    def _look_up(self, wanted: RimId) -> ManifestLookup:
        known = self._looked_up.get(wanted.text)
        if known is None:
            root, memory = self._trust.nvidia_rim_root, self._trust.memory
            choice = self._collateral.rims.choose(wanted, root, memory, self._now)
            verified = choice.verification
            statuses: tuple[RevocationStatus, ...] = ()
            if verified is not None and verified.rim is not None:
                statuses = self._collateral.revocation.status_of(
                    verified.rim.document.certificates,
                    root,
                    self._now,
                    first=0,
                    memory=memory,
                    max_age=self._max_age,
                )
            known = self._looked_up[wanted.text] = ManifestLookup(wanted, choice, statuses)
        return known


def _verify_architecture(
    kind: DeviceClass,
    evidence: DeviceEvidence,
    opaque: OpaqueData | None,
    chain: DeviceChain | None,
    findings: FindingList,
) -> None:
    code = f"{kind.prefix}-ARCHITECTURE-CLAIM"
    if chain is None or chain.architecture is None or opaque is None:
        findings.skipped(code, "report or certificate chain is not that of a known device")
        return
    claimed = evidence.claimed_architecture
    problem = None if claimed is None else architecture_claim_problem(chain, claimed)
    if isinstance(opaque, GpuOpaqueData):
        problem = problem or _report_architecture_problem(opaque, chain)
    findings.ended(
        code,
        problem,
        expected=f"{chain.chip}, as certified",
        found=f"{chain.chip}, claimed {claimed}" if claimed else f"{chain.chip}, nothing claimed",
    )


def _report_architecture_problem(opaque: GpuOpaqueData, chain: DeviceChain) -> str | None:
    """Why the chip that the report names is not the chain's."""
    if opaque.gpu_info is not None:
        stated = opaque.architecture.value if opaque.architecture else opaque.gpu_info.hex()
        problem = architecture_claim_problem(chain, stated)
        if problem is not None:
            return f"the report's GPU_INFO names {stated}, the certificate chain {chain.chip}"
    if opaque.chip_info is None or chain.chip is None:
        return None
    # A family's certificates name it with an X for the digit that varies.
    if re.fullmatch(chain.chip.replace("X", "[0-9]"), opaque.chip_info):
        return None
    return f"the report's CHIP_INFO names {opaque.chip_info}, the certificate chain {chain.chip}"


def _compare(
    kind: DeviceClass,
    report: AttestationReport,
    opaque: OpaqueData,
    manifests: tuple[ManifestLookup, ...],
) -> MeasurementComparison | None:
    rims = []
    for lookup in manifests:
        verified = lookup.choice.verification
        if verified is None or verified.rim is None:
            return None
        rims.append(verified.rim)
    return kind.compare(report, opaque, tuple(rims)) if rims else None
