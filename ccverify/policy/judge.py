"""Facts about a TD, held against a policy.

`judge_tdx` looks only at claims that verification established; it never makes a weak fact
stronger: every finding carries the assurance of the value it judges.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ccverify.bundle.binding import Derivation, report_data_problem
from ccverify.clock_text import date_text, utc_text
from ccverify.findings import Assurance, FindingList
from ccverify.policy.model import ANY, MEASUREMENTS, MUST_STATE, Accepted, TcbPolicy, TdxPolicy
from ccverify.tdx.attributes import (
    TD_ATTRIBUTES,
    XFAM_FEATURES,
    XFAM_FIXED_0,
    XFAM_FIXED_1,
    Rule,
    reserved_attribute_bits,
    xfam_names,
)
from ccverify.tdx.collateral import Artefact
from ccverify.tdx.quote import BODY_FIELDS, Quote
from ccverify.tdx.tcb_info import TcbStatus
from ccverify.tdx.verify import TdxVerification

__all__ = ["judge_tdx"]


def judge_tdx(
    policy: TdxPolicy,
    verification: TdxVerification,
    binding: Derivation,
    now: datetime,
    assurance: Assurance,
) -> FindingList:
    """Judge one TD.

    Args:
        policy: the ``tdx`` section.
        verification: from `ccverify.tdx.verify.verify_quote`.
        binding: what REPORTDATA must hold.
        now: evaluation time.
        assurance: of the quote's own values.
    """
    findings = FindingList()
    _judge_collateral(policy, verification, now, findings)
    _judge_tcb(policy.tcb, verification, now, findings, assurance)
    _judge_attributes(policy, verification.quote, findings, assurance)
    _judge_xfam(policy, verification.quote, findings, assurance)
    _judge_service_td(policy, verification.quote, findings, assurance)
    _judge_measurements(policy, verification.quote, findings, assurance)
    _judge_report_data(policy.report_data, verification.quote, binding, findings, assurance)
    _judge_platform(policy, verification, findings, assurance)
    return findings


# --- collateral and TCB ---


def _judge_collateral(
    policy: TdxPolicy, verification: TdxVerification, now: datetime, findings: FindingList
) -> None:
    collateral, rules = verification.collateral, policy.tcb
    code = "TDX-COLLATERAL-AGE"
    days = policy.collateral.max_age_days
    aging: list[Artefact] = [
        artefact
        for artefact in (collateral.tcb_info, collateral.qe_identity, collateral.pck_crl)
        if artefact is not None
    ]
    if days is None:
        findings.not_applicable(code, "the policy sets no maximum age")
    elif len(aging) < 3:
        findings.skipped(code, "collateral is missing")
    else:
        oldest = min(aging, key=lambda artefact: artefact.issued)
        found = f"{oldest.kind} of {utc_text(oldest.issued)}"
        problem = None if now - oldest.issued <= timedelta(days=days) else found
        expected = f"issued at most {days} days before {utc_text(now)}"
        findings.ended(code, problem, expected=expected, found=found)
    code = "TDX-EVALUATION-NUMBER"
    wanted = (
        ("TCB info", rules.min_evaluation_number, collateral.tcb_info),
        ("QE identity", rules.min_qe_evaluation_number, collateral.qe_identity),
    )
    asked = [item for item in wanted if item[1] is not None]
    if not asked:
        findings.not_applicable(code, "the policy sets no minimum")
    elif any(artefact is None for *_, artefact in asked):
        findings.skipped(code, "collateral is missing")
    else:
        pairs = [(name, low or 0, a.edition) for name, low, a in asked if a is not None]
        low = next(((n, low, have) for n, low, have in pairs if have < low), None)
        findings.ended(
            code,
            f"{low[0]} {low[2]}" if low else None,
            expected=", ".join(f"{name} at least {least}" for name, least, _ in pairs),
            found=", ".join(f"{name} {have}" for name, _, have in pairs),
        )


def _judge_tcb(
    rules: TcbPolicy,
    verification: TdxVerification,
    now: datetime,
    findings: FindingList,
    assurance: Assurance,
) -> None:
    tcb = verification.tcb
    if tcb is None:
        findings.skipped("TDX-TCB-STATUS", "there is no genuine TCB info and QE identity")
    else:
        accepted = ", ".join(sorted(status.value for status in rules.accepted_statuses)) or "none"
        found = tcb.status.value
        problem = None
        if tcb.status not in rules.accepted_statuses:
            problem = "; ".join((found, *map(str, tcb.shortfalls), *tcb.advisory_ids))
            grace = rules.grace_days.get(tcb.status)
            if grace is not None and tcb.tcb_date is not None:
                since = f"{grace} days from {date_text(tcb.tcb_date)}"
                found = f"{found}, in grace: {since}"
                if now - tcb.tcb_date <= timedelta(days=grace):
                    problem = None
                else:
                    problem = f"{problem}; grace has ended: {since}"
        _ended(findings, "TDX-TCB-STATUS", problem, accepted, found, "TCB", assurance)
    code, rejected = "TDX-TCB-ADVISORIES", rules.rejected_advisories
    if not rejected:
        findings.not_applicable(code, "the policy rejects no advisory")
    elif tcb is None or tcb.status is TcbStatus.NOT_SUPPORTED:
        findings.skipped(code, "no TCB level matches, so the advisories are not known")
    else:
        every = {*tcb.advisory_ids, *(tcb.current.advisory_ids if tcb.current else ())}
        hits = ", ".join(sorted(rejected & every)) or None
        expected = "none of " + ", ".join(sorted(rejected))
        _ended(findings, code, hits, expected, "none applies", "TCB", assurance)
    code, minimum = "TDX-TEE-TCB-SVN", rules.min_tee_tcb_svn
    have = verification.quote.report.tee_tcb_svn
    if minimum is None:
        findings.not_applicable(code, "the policy sets no minimum")
    else:
        short = any(a < b for a, b in zip(have, minimum, strict=True))
        where = _where(verification.quote, "tee_tcb_svn")
        _ended(
            findings,
            code,
            have.hex() if short else None,
            f"each byte at least {minimum.hex()}",
            have.hex(),
            where,
            assurance,
        )


# --- the TD ---


def _judge_attributes(
    policy: TdxPolicy, quote: Quote, findings: FindingList, assurance: Assurance
) -> None:
    value = int.from_bytes(quote.report.tdattributes, "little")
    where = _where(quote, "tdattributes")
    for attribute, code in _ATTRIBUTE_CODES:
        rule = policy.rule(attribute.key)
        bit = value >> attribute.bit & 1
        found = "1" if bit else "0"
        if (rule is Rule.REQUIRE and not bit) or (rule is Rule.FORBID and bit):
            findings.failed(code, "0" if bit else "1", found, where, assurance)
        else:
            findings.passed(code, found, where, assurance)
    reserved = reserved_attribute_bits(value)
    problem = f"unknown bits 0x{reserved:x}" if reserved else None
    _ended(findings, "TDX-ATTR-RESERVED", problem, "no unknown bit", "none", where, assurance)


_ATTRIBUTE_CODES = tuple(
    (attribute, f"TDX-ATTR-{attribute.key.upper().replace('_', '-')}")
    for attribute in TD_ATTRIBUTES
)


def _judge_xfam(
    policy: TdxPolicy, quote: Quote, findings: FindingList, assurance: Assurance
) -> None:
    value = int.from_bytes(quote.report.xfam, "little")
    names = xfam_names(value)
    problems = []
    if value & XFAM_FIXED_1 != XFAM_FIXED_1:
        problems.append("x87 and SSE must be on")
    if value & XFAM_FIXED_0:
        problems.append(f"unknown bits 0x{value & XFAM_FIXED_0:x}")
    for feature in XFAM_FEATURES:
        present = value & feature.mask
        if feature.key in policy.xfam.forbid and present:
            problems.append(f"{feature.key} is on")
        if feature.key in policy.xfam.require and present != feature.mask:
            problems.append(f"{feature.key} is not on")
    expected = ", ".join(
        (
            "x87 and sse on",
            "no unknown bit",
            *(f"{key} on" for key in sorted(policy.xfam.require)),
            *(f"{key} off" for key in sorted(policy.xfam.forbid)),
        )
    )
    problem = f"{value:#x}: {'; '.join(problems)}" if problems else None
    where = _where(quote, "xfam")
    _ended(findings, "TDX-XFAM", problem, expected, ", ".join(names), where, assurance)


def _judge_service_td(
    policy: TdxPolicy, quote: Quote, findings: FindingList, assurance: Assurance
) -> None:
    code, report = "TDX-SERVICE-TD", quote.report
    if report.mrservicetd is None:
        findings.not_applicable(code, "the report has no MRSERVICETD")
        return
    hashes = {
        "mrservicetd": report.mrservicetd,
        "init_servtd_hash": report.init_servtd_hash,
        "cur_servtd_hash": report.cur_servtd_hash,
    }
    for name, value in hashes.items():
        if value and any(value) and value not in policy.service_td:
            expected = " or ".join(("zero", *sorted(h.hex() for h in policy.service_td)))
            where = _where(quote, name)
            findings.failed(code, expected, f"{name} {value.hex()}", where, assurance)
            return
    bound = any(value and any(value) for value in hashes.values())
    found = "on the policy's list" if bound else "no service TD"
    findings.passed(code, found, _where(quote, "mrservicetd"), assurance)


def _judge_measurements(
    policy: TdxPolicy, quote: Quote, findings: FindingList, assurance: Assurance
) -> None:
    for name in MEASUREMENTS:
        code, accepted = f"TDX-{name.upper()}", policy.measurements.get(name)
        value: bytes = getattr(quote.report, name)
        if accepted is ANY:
            findings.not_applicable(code, f"the policy accepts any {name.upper()}")
        elif not isinstance(accepted, frozenset):
            reason = f"the policy says nothing of {name.upper()}"
            if name in MUST_STATE:
                findings.skipped(code, reason, _where(quote, name))
            else:
                findings.not_applicable(code, reason)
        else:
            found = value.hex()
            expected = _one_of(accepted)
            problem = None if value in accepted else found
            _ended(findings, code, problem, expected, found, _where(quote, name), assurance)


def _judge_report_data(
    rule: Accepted,
    quote: Quote,
    binding: Derivation,
    findings: FindingList,
    assurance: Assurance,
) -> None:
    code, value = "TDX-REPORT-DATA", quote.report.report_data
    where = _where(quote, "report_data")
    problems = list(zip(binding.report_data, report_data_problem(binding, value), strict=True))
    wrong = [text for part, text in problems if text and part.expected is not None]
    reasons = [part.reason or "" for part, text in problems if text and part.expected is None]
    if wrong:
        expected = "".join(
            "?" * 2 * (part.end - part.start) if part.expected is None else part.expected.hex()
            for part in binding.report_data
        )
        findings.failed(code, expected, value.hex(), where, assurance)
    elif isinstance(rule, frozenset) and value not in rule:
        findings.failed(code, _one_of(rule), value.hex(), where, assurance)
    elif reasons and rule is ANY:
        findings.not_applicable(code, "the policy accepts any REPORTDATA: freshness is unproven")
    elif reasons and rule is None:
        findings.skipped(code, "; ".join(dict.fromkeys(reasons)), where)
    else:
        findings.passed(code, value.hex(), where, assurance)


def _judge_platform(
    policy: TdxPolicy,
    verification: TdxVerification,
    findings: FindingList,
    assurance: Assurance,
) -> None:
    code, rules, platform = "TDX-PLATFORM", policy.platform, verification.platform
    if rules.silent:
        findings.not_applicable(code, "the policy names no platform")
        return
    if platform is None:
        findings.skipped(code, "there is no genuine PCK certificate")
        return
    for name, accepted, value in (
        ("FMSPC", rules.fmspc, platform.fmspc),
        ("PPID", rules.ppid, platform.ppid),
        ("platform instance id", rules.platform_instance_id, platform.platform_instance_id),
    ):
        if accepted is not None and value not in accepted:
            found = f"{name} {value.hex() if value else 'absent'}"
            findings.failed(code, f"{name} {_one_of(accepted)}", found, "PCK", assurance)
            return
    for name, allowed, on in (
        ("SMT", rules.allow_smt, platform.smt_enabled),
        ("dynamic platform", rules.allow_dynamic_platform, platform.dynamic_platform),
        ("cached keys", rules.allow_cached_keys, platform.cached_keys),
    ):
        # A certificate that does not state the flag does not prove that it is off.
        if not allowed and on is not False:
            found = f"{name} {'on' if on else 'not stated'}"
            findings.failed(code, f"{name} off", found, "PCK", assurance)
            return
    findings.passed(code, f"FMSPC {platform.fmspc.hex().upper()}", "PCK", assurance)


# --- helpers ---


def _ended(
    findings: FindingList,
    code: str,
    problem: str | None,
    expected: str,
    found: str,
    where: str,
    assurance: Assurance,
) -> None:
    if problem is None:
        findings.passed(code, found, where, assurance)
    else:
        findings.failed(code, expected, problem, where, assurance)


def _one_of(values: frozenset[bytes]) -> str:
    shown = sorted(value.hex() for value in values)
    rest = f" or one of {len(shown) - 4} more" if len(shown) > 4 else ""
    return " or ".join(shown[:4]) + rest


def _where(quote: Quote, name: str) -> str:
    return _WHERE[quote.header.version][name]


_WHERE = {
    version: {
        name: f"quote[{start + offset}:{start + offset + size}]"
        for fields in BODY_FIELDS.values()
        for name, offset, size, _ in fields
    }
    for version, start in ((4, 48), (5, 54))
}
