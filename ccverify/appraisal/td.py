"""The TD of a node: its quote and event log, verified and judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ccverify.appraisal.inputs import Inputs
from ccverify.checks import Category, Scope, find_check
from ccverify.errors import EvidenceError
from ccverify.evidence import Evidence
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.policy.judge import judge_tdx
from ccverify.policy.judge_binding import Tie
from ccverify.policy.judge_eventlog import judge_event_log
from ccverify.policy.model import TdxPolicy
from ccverify.results.verdict import Subjects, counts_against
from ccverify.tdx.claims import TdxClaims
from ccverify.tdx.collateral import CollateralPack
from ccverify.tdx.quote import Quote, decode_quote_text, parse_quote
from ccverify.tdx.verify import verify_quote
from ccverify.trust.store import TrustKind, TrustStore

__all__ = ["TdPart", "appraise_td"]

_IMAGE_CHECKS = frozenset({"TDX-MRTD", "TDX-RTMR0", "TDX-RTMR1", "TDX-RTMR2"})


@dataclass(frozen=True, slots=True)
class TdPart:
    """What came of the TD.

    Attributes:
        findings: all about it.
        quote: None where there is none, it did not parse, or nobody judges it.
        claims: None exactly where `quote` is None.
        level: what the quote's own values rest on.
        artefacts: records of the collateral that was used.
        subjects: what the verdict must cover because of it.
        image_expected: whether MRTD and RTMR0 to RTMR2 are on the policy's lists.
    """

    findings: FindingList = field(default_factory=FindingList)
    quote: Quote | None = None
    claims: TdxClaims | None = None
    level: Assurance = Assurance.NONE
    artefacts: tuple[Mapping[str, Any], ...] = ()
    subjects: Subjects = field(default_factory=dict)
    image_expected: bool = False

    @property
    def report_data(self) -> bytes | None:
        """REPORTDATA of the quote, 64 bytes."""
        return self.quote.report.report_data if self.quote else None

    @property
    def platform(self) -> str | None:
        """What names the machine of a genuine quote, hex; None where it is not genuine.

        The platform instance id, which all packages of a machine share, where there is one; the
        PPID otherwise (Intel SGX PCK Certificate and CRL Profile 1.5, Section 1.3.5).
        """
        found = self.claims.verification.platform if self.claims else None
        if found is None or self.level is not Assurance.HARDWARE:
            return None
        return (found.platform_instance_id or found.ppid).hex()


def appraise_td(section: object, evidence: Evidence, tied: Tie, inputs: Inputs) -> TdPart:
    """Verify and judge the quote, where there is one and the policy has a section for it.

    Args:
        section: the policy's ``tdx``.
        evidence: the node's.
        tied: what REPORTDATA must hold.
        inputs: the circumstances.
    """
    if not evidence.quote:
        return TdPart()
    findings = FindingList()
    subjects: Subjects = {Scope.TDX: (None,)} if isinstance(section, TdxPolicy) else {}
    try:
        quote = parse_quote(decode_quote_text(evidence.quote))
    except EvidenceError as problem:
        # Malformed whoever judges it: a file that is nothing at all must not pass for a quote.
        expected = problem.expected or "one TDX quote"
        found = problem.summary
        findings.failed("TDX-QUOTE-FORMAT", expected, found, problem.where)
        return TdPart(findings, subjects=subjects)
    if not isinstance(section, TdxPolicy):
        return TdPart()
    _report_format(findings, quote)
    verification = verify_quote(quote, inputs.intel, inputs.trust, inputs.now)
    authentic = _authentic(verification.findings, inputs.trust)
    level = Assurance.HARDWARE if authentic else Assurance.NONE
    findings.extend(_with_waivers(verification.findings, section))
    judged = judge_tdx(section, verification, tied.derivation, inputs.now, level)
    findings.extend(judged)
    image_expected = all(f.state is State.PASS for f in judged if f.code in _IMAGE_CHECKS)
    log = judge_event_log(
        section.event_log,
        evidence.event_log,
        quote.report.rtmrs,
        authentic=authentic,
        image_expected=image_expected,
    )
    findings.extend(log.findings)
    other = None if inputs.what_if is None else _what_if(quote, inputs.what_if, inputs)
    return TdPart(
        findings,
        quote,
        TdxClaims(verification, level, log.identity, log.assurance, other),
        level,
        tuple(artefact.record for artefact in verification.collateral.artefacts),
        subjects,
        image_expected,
    )


def _report_format(findings: FindingList, quote: Quote) -> None:
    found = f"version {quote.header.version}, {quote.report.body_type.name} body"
    if quote.padding:
        found += f", {quote.padding} bytes of zero padding"
    findings.passed("TDX-QUOTE-FORMAT", found, assurance=Assurance.NONE)


def _with_waivers(findings: Iterable[Finding], section: TdxPolicy) -> Iterable[Finding]:
    for finding in findings:
        if (
            finding.code == "TDX-COLLATERAL-FIELDS"
            and finding.state is State.FAIL
            and section.collateral.allow_unknown_fields
        ):
            reason = f"the policy allows unknown members: {finding.found}"
            yield finding._replace(state=State.NOT_APPLICABLE, expected=None, found=reason)
        else:
            yield finding


def _authentic(findings: Iterable[Finding], trust: TrustStore) -> bool:
    """Whether every check on which genuineness rests has passed, under roots that count."""
    if trust.kind is TrustKind.INSECURE:
        return False
    for finding in findings:
        if finding.state is not State.PASS:
            entry = find_check(finding.code)
            if entry is None or entry.category is Category.AUTHENTICITY:
                return False
    return True


def _what_if(
    quote: Quote, pack: CollateralPack, inputs: Inputs
) -> tuple[dict[str, Any], Assurance]:
    other = verify_quote(quote, pack, inputs.trust, inputs.now)
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
    authentic = _authentic(other.findings, inputs.trust)
    return answer, Assurance.HARDWARE if authentic else Assurance.NONE
