"""The whole chain for one machine: parse, verify, appraise, judge, conclude.

`check` is a pure function.  Time, nonce, trust store and collateral are arguments; nothing is
read from the environment, and the same arguments give the same verdict, byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from ccverify._version import __version__
from ccverify.appraisal.bundle import open_bundle, with_manifest
from ccverify.appraisal.classes import judge_classes
from ccverify.appraisal.devices import DevicesPart, appraise_devices
from ccverify.appraisal.fabric import MAX_STATEMENTS, appraise_fabric, guest_level
from ccverify.appraisal.inputs import Inputs
from ccverify.appraisal.td import TdPart, appraise_td
from ccverify.bundle.binding import CHANNEL_INPUTS
from ccverify.bundle.package import is_bundle
from ccverify.checks import Scope
from ccverify.errors import UsageError
from ccverify.evidence import BindingInputs, BindingProfile, DeviceEvidence, Evidence, NodeRole
from ccverify.findings import Assurance, Finding, FindingList
from ccverify.nvidia.claims import common_level
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.policy.judge_binding import (
    Request,
    Tie,
    binding_claims,
    judge_binding,
    relay_problem,
    tie,
)
from ccverify.policy.judge_session import judge_one_session
from ccverify.policy.model import DevicePolicy, Policy, TdxPolicy
from ccverify.policy.stated import Fresh
from ccverify.results.verdict import EXIT_NOTHING, Conclusion, Verdict, conclude
from ccverify.tdx.collateral import CollateralPack
from ccverify.trust.store import TrustKind, TrustStore

__all__ = ["check"]

MIN_NONCE_BYTES = 16
"""A shorter nonce could be guessed or met again by chance."""
EPOCH_BYTES = 32
"""As long as the nonce of a bundle, whose place it takes."""

_NO_DEVICE_COLLATERAL = NvidiaCollateral()
_PLAIN = (BindingProfile.RAW_NONCE, BindingProfile.DSTACK)


def check(
    evidence: Evidence | bytes,
    *,
    policy: Policy,
    now: datetime,
    nonce: bytes | None,
    collateral: CollateralPack,
    trust: TrustStore,
    nvidia: NvidiaCollateral = _NO_DEVICE_COLLATERAL,
    report_data: bytes | None = None,
    channel: Mapping[str, str] | None = None,
    what_if: CollateralPack | None = None,
    not_read: Iterable[str] = (),
    statements: Sequence[bytes] = (),
    epoch: bytes | None = None,
) -> Verdict:
    """Judge the evidence of one node by a policy.

    Bad evidence and bad collateral never raise: they end in findings.

    Args:
        evidence: what the attester sent; plain bytes are a ccverify bundle or a TDX quote.
        policy: the tenant's expectations.
        now: evaluation time, timezone-aware; fractions of a second are dropped, so that the
            recorded time gives the same verdict again.
        nonce: the relying party's nonce, 16 to 64 bytes; what must follow from it in REPORTDATA
            and in device reports, the policy's binding profiles say (docs/bindings.md).  None
            leaves freshness unchecked.
        collateral: what Intel published; may be empty.
        trust: trust anchors, usually `TrustStore.production()`.
        nvidia: what NVIDIA published; may be empty.
        report_data: all 64 bytes of REPORTDATA, instead of a nonce; where there are devices,
            beside the nonce that they were asked with.
        channel: what the relying party sees of the channel, such as ``tls_fingerprint``, by
            the names of `ccverify.bundle.binding.CHANNEL_INPUTS`: lower-case hex, or text.
        what_if: other collateral, such as Intel's next TCB set: its TCB status is reported
            beside the verdict and never changes it.
        not_read: paths of evidence that was left aside, for the record.
        statements: what the manager of the GPUs' fabric states (docs/spec/fabric-statement.md),
            beside those in the bundle; at most four.
        epoch: 32 bytes that a statement may answer in place of `nonce`, because many relying
            parties know them.

    Raises:
        UsageError: an argument is impossible (naive time, nonce of a wrong length, ...).
    """
    bundle, source = None, b""
    if isinstance(evidence, bytes | bytearray | memoryview):
        source = bytes(evidence)
        evidence = Evidence(source)
        if is_bundle(source):
            waived = not policy.binding.freshness_required
            bundle = open_bundle(source, nonce, freshness_waived=waived)
            evidence = bundle.evidence
    devices = (*evidence.gpus, *evidence.switches)
    if nonce is not None and report_data is not None and not devices:
        raise UsageError(
            "a quote is bound to a nonce or to report data, not both",
            expected="one of them, where there are no devices",
            found="nonce, report data",
        )
    request = _request(nonce, report_data, channel)
    _check_statements(statements, epoch)
    now = _whole_seconds(now)
    applied = _for_role(policy, evidence.role)
    inputs = Inputs(collateral, nvidia, trust, now, what_if)
    record = _record(evidence, request, inputs)
    if bundle is not None:
        record["bundle"] = {"sha384": _sha384(source), "bytes": len(source)}
    if statements:
        record["fabric_statements"] = [
            {"sha384": _sha384(one), "bytes": len(one)} for one in statements
        ]
    if epoch is not None:
        record["epoch"] = epoch.hex()
    if left_aside := list(not_read):
        record["not_read"] = left_aside
    findings = FindingList()
    _report_trust(findings, trust, with_devices=bool(devices))
    outline: dict[str, Any] = {
        "evaluated_at": now,
        "simulated": trust.kind is TrustKind.SIMULATED,
        "policy": {"name": policy.name, "sha384": policy.digest},
        "inputs": record,
        "label": evidence.label,
    }
    nothing = not evidence.quote and not devices and evidence.other_cpu is None
    if nothing and bundle is None:
        listed, _, _ = conclude(findings)
        return Verdict(Conclusion.INCOMPLETE, EXIT_NOTHING, findings=listed, tdx=None, **outline)
    tied = tie(applied.binding, request, evidence.binding)
    if bundle is not None:
        findings.extend(bundle.findings)
        tied = replace(tied, derivation=with_manifest(tied.derivation, bundle))
    td = appraise_td(applied.tdx, evidence, tied, inputs)
    parts = appraise_devices(applied, evidence, tied, inputs)
    absences = bundle.absences if bundle else {}
    findings.extend(judge_classes(applied, evidence, parts, absences))
    findings.extend(td.findings)
    findings.extend(parts.findings)
    level = guest_level(td, tied, bundle, trust.kind)
    wanted = Fresh(nonce, epoch, int(now.timestamp()), not applied.binding.freshness_required)
    fabric = appraise_fabric(applied, parts, bundle, level, statements, wanted, inputs, td.platform)
    findings.extend(fabric.findings)
    subjects = {Scope.NODE: (None,), **td.subjects, **parts.subjects, **fabric.subjects}
    if bundle is not None:
        subjects[Scope.BUNDLE] = (None,)
    # What the relying party says it sees is compared, whatever the shape of the evidence.
    composite = bool(devices or request.channel) or tied.derivation.profile not in _PLAIN
    claims = None
    if composite:
        subjects[Scope.BINDING] = (None,)
        findings.extend(_judge_binding(applied, request, tied, td, parts, findings))
        claims = binding_claims(tied, td.report_data, td.level)
    record["collateral"]["used"] = list(td.artefacts)
    if td.quote is not None:
        record["quote"] = {"sha384": td.quote.digest, "signed_bytes": len(td.quote.signed_range)}
    if devices:
        record["nvidia_collateral"]["used"] = list(parts.manifests)
    listed, conclusion, code = conclude(_believed(findings, trust), subjects)
    return Verdict(
        conclusion=conclusion,
        exit_code=code,
        tdx=td.claims,
        gpus=parts.gpus,
        nvswitches=parts.nvswitches,
        topology=parts.topology,
        fabric=fabric.claims,
        binding=claims,
        bundle=bundle.claims if bundle else None,
        findings=listed,
        **outline,
    )


# --- arguments ---


def _whole_seconds(now: datetime) -> datetime:
    if now.utcoffset() is None:
        raise UsageError("evaluation time has no time zone", found=str(now), hint="use UTC")
    try:
        return now.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise UsageError("evaluation time is out of range", found=str(now)) from None


def _request(
    nonce: bytes | None, report_data: bytes | None, channel: Mapping[str, str] | None
) -> Request:
    if nonce is not None and not MIN_NONCE_BYTES <= len(nonce) <= 64:
        raise UsageError(
            "nonce has the wrong length",
            expected=f"{MIN_NONCE_BYTES} to 64 bytes",
            found=f"{len(nonce)} bytes",
        )
    if report_data is not None and len(report_data) != 64:
        raise UsageError(
            "report data has the wrong length", expected="64 bytes", found=f"{len(report_data)}"
        )
    for name in channel or ():
        if name not in CHANNEL_INPUTS:
            known = ", ".join(CHANNEL_INPUTS)
            raise UsageError("no binding names this of a channel", expected=known, found=name[:80])
    return Request(nonce, report_data, dict(channel or {}))


def _check_statements(statements: Sequence[bytes], epoch: bytes | None) -> None:
    if len(statements) > MAX_STATEMENTS:
        raise UsageError("there are too many statements of the fabric's manager",
                         expected=f"at most {MAX_STATEMENTS}",
                         found=str(len(statements)))  # fmt: skip
    if epoch is not None and len(epoch) != EPOCH_BYTES:
        raise UsageError("epoch has the wrong length", expected=f"{EPOCH_BYTES} bytes",
                         found=f"{len(epoch)} bytes")  # fmt: skip


def _for_role(policy: Policy, role: NodeRole) -> Policy:
    """What of the policy applies to a node: a gateway has no devices."""
    gateway = policy.gateway
    if role is not NodeRole.GATEWAY or gateway is None:
        return policy
    return replace(
        policy,
        tdx=gateway.tdx,
        gpus=None,
        nvswitches=None,
        topology=None,
        fabric=None,
        binding=gateway.binding,
    )


# --- findings about the node ---


def _report_trust(findings: FindingList, trust: TrustStore, *, with_devices: bool) -> None:
    roots = [trust.intel_root]
    if with_devices:
        roots += [trust.nvidia_device_root, trust.nvidia_rim_root]
    labels = ", ".join(root.label for root in roots)
    if trust.kind is TrustKind.INSECURE:
        findings.failed("TRUST-ROOTS", "the pinned roots of the vendors", labels)
    else:
        assurance = Assurance.HARDWARE if trust.kind is TrustKind.PRODUCTION else Assurance.ASSERTED
        findings.passed("TRUST-ROOTS", f"{trust.kind.value}: {labels}", assurance=assurance)


def _judge_binding(
    policy: Policy, request: Request, tied: Tie, td: TdPart, parts: DevicesPart,
    findings: FindingList,
) -> FindingList:  # fmt: skip
    relayable = None
    judged = {
        prefix: section
        for prefix, section, claims in (
            ("GPU", policy.gpus, parts.gpus),
            ("NVSWITCH", policy.nvswitches, parts.nvswitches),
        )
        if claims and isinstance(section, DevicePolicy)
    }
    if td.quote is not None and judged:
        section = policy.tdx if isinstance(policy.tdx, TdxPolicy) else None
        relayable = relay_problem(section, judged, tuple(findings))
    made = judge_binding(policy.binding, tied, request, td.report_data, relayable, td.level)
    claims = (*parts.gpus, *parts.nvswitches)
    if tied.derivation.device_nonce is not None:
        made.not_applicable("BIND-DEVICES", "every device's nonce is compared with the request's")
    elif claims:
        level = common_level(claims)
        profile = tied.derivation.profile
        devices = [one.verification for one in claims]
        made.add(judge_one_session(devices, profile, td.report_data, level))
    else:
        made.not_applicable("BIND-DEVICES", "no device is judged")
    return made


def _believed(findings: FindingList, trust: TrustStore) -> Iterable[Finding]:
    """Under a root that the user named, nothing is proven."""
    if trust.kind is not TrustKind.INSECURE:
        return findings
    return [finding._replace(assurance=Assurance.NONE) for finding in findings]


# --- the record ---


def _record(evidence: Evidence, request: Request, inputs: Inputs) -> dict[str, Any]:
    log, quote = evidence.event_log, evidence.quote or b""
    record: dict[str, Any] = {
        "verifier": f"ccverify {__version__}",
        "evidence": {"sha384": _sha384(quote), "bytes": len(quote)},
        "event_log": None if log is None else {"sha384": _sha384(log), "bytes": len(log)},
        "nonce": None if request.nonce is None else request.nonce.hex(),
        "report_data": None if request.report_data is None else request.report_data.hex(),
        "collateral": {"sha384": inputs.intel.digest, "used": []},
        "trust_store": {"kind": inputs.trust.kind.value, "sha384": inputs.trust.digest},
    }
    if request.channel:
        record["channel"] = dict(sorted(request.channel.items()))
    devices = (("gpus", evidence.gpus), ("nvswitches", evidence.switches))
    for name, given in devices:
        if given:
            record[name] = [_device_record(one) for one in given]
    if evidence.binding != Evidence().binding:
        record["binding"] = {
            "suggested_profile": evidence.binding.profile.value,
            "sha384": _binding_digest(evidence.binding),
        }
    if evidence.gpus or evidence.switches:
        record["nvidia_collateral"] = {"sha384": inputs.nvidia.digest, "used": []}
    return record


def _device_record(device: DeviceEvidence) -> dict[str, Any]:
    return {
        "report_sha384": _sha384(device.report),
        "certificate_chain_sha384": _sha384(device.certificate_chain),
        "claimed_architecture": device.claimed_architecture,
        "source": device.source,
    }


def _binding_digest(inputs: BindingInputs) -> str:
    """SHA-384 (hex) over names and values of what is there, each with its length before it."""
    digest = hashlib.sha384(b"ccverify/binding-inputs/v1")
    for name in sorted(each.name for each in fields(inputs)):
        value = getattr(inputs, name)
        if value is not None:
            data = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
            for part in (name.encode("ascii"), data):
                digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _sha384(data: bytes) -> str:
    return hashlib.sha384(data).hexdigest()
