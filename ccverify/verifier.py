"""The whole chain for one machine: parse, verify, appraise, judge, conclude.

`check` is a pure function.  Time, nonce, trust store and collateral are arguments; nothing is
read from the environment, and the same arguments give the same verdict, byte for byte.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from ccverify._version import __version__
from ccverify.checks import Category, find_check
from ccverify.errors import EvidenceError, UsageError
from ccverify.evidence import Evidence
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.policy.judge import MIN_NONCE_BYTES, Binding, judge_tdx
from ccverify.policy.judge_eventlog import judge_event_log
from ccverify.policy.model import Policy
from ccverify.results.verdict import (
    EXIT_NOTHING,
    Conclusion,
    Verdict,
    conclude,
    counts_against,
)
from ccverify.tdx.claims import TdxClaims
from ccverify.tdx.collateral import CollateralPack
from ccverify.tdx.quote import Quote, decode_quote_text, parse_quote
from ccverify.tdx.verify import TdxVerification, verify_quote
from ccverify.trust.store import TrustKind, TrustStore

__all__ = ["check"]

_IMAGE_CHECKS = frozenset({"TDX-MRTD", "TDX-RTMR0", "TDX-RTMR1", "TDX-RTMR2"})


def check(
    evidence: Evidence | bytes,
    *,
    policy: Policy,
    now: datetime,
    nonce: bytes | None,
    collateral: CollateralPack,
    trust: TrustStore,
    report_data: bytes | None = None,
    what_if: CollateralPack | None = None,
) -> Verdict:
    """Judge evidence by a policy.

    Bad evidence and bad collateral never raise: they end in findings.

    Args:
        evidence: what the attester sent; plain bytes are a TDX quote.
        policy: the tenant's expectations.
        now: evaluation time, timezone-aware; fractions of a second are dropped, so that the
            recorded time gives the same verdict again.
        nonce: the relying party's nonce, 16 to 64 bytes, expected at the start of REPORTDATA
            with zeros after it; None leaves freshness unchecked.
        collateral: what Intel published; may be empty.
        trust: trust anchors, usually `TrustStore.production()`.
        report_data: all 64 bytes of REPORTDATA, instead of a nonce.
        what_if: other collateral, such as Intel's next TCB set: its TCB status is reported
            beside the verdict and never changes it.

    Raises:
        UsageError: an argument is impossible (naive time, nonce of a wrong length, ...).
    """
    binding = _binding(nonce, report_data)
    now = _whole_seconds(now)
    if isinstance(evidence, bytes | bytearray | memoryview):
        evidence = Evidence(bytes(evidence))
    findings = FindingList()
    _report_trust(findings, trust)
    inputs = _inputs(evidence, binding, collateral, trust)
    outline = (now, trust.kind is TrustKind.SIMULATED, policy, inputs)
    if not evidence.quote:
        return _verdict(findings, None, *outline, exit_code=EXIT_NOTHING)
    try:
        quote = parse_quote(decode_quote_text(evidence.quote))
    except EvidenceError as problem:
        expected = problem.expected or "one TDX quote"
        found = f"{problem.message}: {problem.found}" if problem.found else problem.message
        findings.failed("TDX-QUOTE-FORMAT", expected, found, problem.where)
        return _verdict(findings, None, *outline)
    _report_format(findings, quote)
    verification = verify_quote(quote, collateral, trust, now)
    inputs["collateral"]["used"] = [a.record for a in verification.collateral.artefacts]
    inputs["quote"] = {"sha384": quote.digest, "signed_bytes": len(quote.signed_range)}
    authentic = _authentic(verification.findings, trust)
    level = Assurance.HARDWARE if authentic else Assurance.NONE
    _add_verified(findings, verification, policy, trust)
    judged = judge_tdx(policy.tdx, verification, binding, now, level)
    findings.extend(judged)
    log = judge_event_log(
        policy.tdx.event_log,
        evidence.event_log,
        quote.report.rtmrs,
        authentic=authentic,
        image_expected=all(f.state is State.PASS for f in judged if f.code in _IMAGE_CHECKS),
    )
    findings.extend(log.findings)
    other = None if what_if is None else _what_if(quote, what_if, trust, now)
    claims = TdxClaims(verification, level, log.identity, log.assurance, other)
    return _verdict(findings, claims, *outline)


def _whole_seconds(now: datetime) -> datetime:
    if now.utcoffset() is None:
        raise UsageError("evaluation time has no time zone", found=str(now), hint="use UTC")
    try:
        return now.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise UsageError("evaluation time is out of range", found=str(now)) from None


def _binding(nonce: bytes | None, report_data: bytes | None) -> Binding:
    if nonce is not None and report_data is not None:
        raise UsageError("give a nonce or report data, not both")
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
    return Binding(nonce, report_data)


def _report_trust(findings: FindingList, trust: TrustStore) -> None:
    if trust.kind is TrustKind.INSECURE:
        findings.failed("TRUST-ROOTS", "the pinned roots of the vendors", trust.intel_root.label)
    else:
        assurance = Assurance.HARDWARE if trust.kind is TrustKind.PRODUCTION else Assurance.ASSERTED
        findings.passed(
            "TRUST-ROOTS", f"{trust.kind.value}: {trust.intel_root.label}", assurance=assurance
        )


def _report_format(findings: FindingList, quote: Quote) -> None:
    found = f"version {quote.header.version}, {quote.report.body_type.name} body"
    if quote.padding:
        found += f", {quote.padding} bytes of zero padding"
    findings.passed("TDX-QUOTE-FORMAT", found, assurance=Assurance.NONE)


def _add_verified(
    findings: FindingList, verification: TdxVerification, policy: Policy, trust: TrustStore
) -> None:
    for finding in verification.findings:
        if (
            finding.code == "TDX-COLLATERAL-FIELDS"
            and finding.state is State.FAIL
            and policy.tdx.collateral.allow_unknown_fields
        ):
            reason = f"the policy allows unknown members: {finding.found}"
            finding = finding._replace(state=State.NOT_APPLICABLE, expected=None, found=reason)
        if trust.kind is TrustKind.INSECURE:
            finding = finding._replace(assurance=Assurance.NONE)
        findings.add(finding)


def _authentic(findings: tuple[Finding, ...], trust: TrustStore) -> bool:
    """Whether every check on which genuineness rests has passed, under roots that count."""
    if trust.kind is TrustKind.INSECURE:
        return False
    for finding in findings:
        if finding.state is not State.PASS:
            entry = find_check(finding.code)
            if entry is None or entry.category is Category.AUTHENTICITY:
                return False
    return True


def _verdict(
    findings: FindingList,
    claims: TdxClaims | None,
    now: datetime,
    simulated: bool,
    policy: Policy,
    inputs: dict[str, Any],
    *,
    exit_code: int | None = None,
) -> Verdict:
    listed, conclusion, code = conclude(findings)
    if exit_code is not None:
        conclusion, code = Conclusion.INCOMPLETE, exit_code
    return Verdict(
        conclusion=conclusion,
        exit_code=code,
        evaluated_at=now,
        simulated=simulated,
        findings=listed,
        tdx=claims,
        policy={"name": policy.name, "sha384": policy.digest},
        inputs=inputs,
    )


def _inputs(
    evidence: Evidence, binding: Binding, collateral: CollateralPack, trust: TrustStore
) -> dict[str, Any]:
    log, quote = evidence.event_log, evidence.quote or b""
    return {
        "verifier": f"ccverify {__version__}",
        "evidence": {"sha384": _sha384(quote), "bytes": len(quote)},
        "event_log": None if log is None else {"sha384": _sha384(log), "bytes": len(log)},
        "nonce": None if binding.nonce is None else binding.nonce.hex(),
        "report_data": None if binding.report_data is None else binding.report_data.hex(),
        "collateral": {"sha384": collateral.digest, "used": []},
        "trust_store": {"kind": trust.kind.value, "sha384": trust.digest},
    }


def _what_if(
    quote: Quote, pack: CollateralPack, trust: TrustStore, now: datetime
) -> tuple[dict[str, Any], Assurance]:
    other = verify_quote(quote, pack, trust, now)
    tcb, info = other.tcb, other.collateral.tcb_info
    problems = [
        f"{finding.code}: {finding.found}"
        for finding in other.findings
        # A set that is not in force yet, or no longer, is what the question is about.
        if counts_against(finding) and not finding.code.endswith("-FRESH")
    ]
    answer = {
        "collateral_sha384": pack.digest,
        "tcb_evaluation_data_number": info.edition if info else None,
        "tcb_status": tcb.status.value if tcb else None,
        "advisory_ids": tcb.advisory_ids if tcb else (),
        "tcb_shortfalls": tuple(map(str, tcb.shortfalls)) if tcb else (),
        "problems": tuple(problems),
    }
    authentic = _authentic(other.findings, trust)
    return answer, Assurance.HARDWARE if authentic else Assurance.NONE


def _sha384(data: bytes) -> str:
    return hashlib.sha384(data).hexdigest()
