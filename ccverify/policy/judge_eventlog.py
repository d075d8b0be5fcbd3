"""An event log, held against the quote's registers and the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccverify.errors import EvidenceError
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.policy.model import EventLogPolicy
from ccverify.tdx.eventlog import (
    EventLog,
    IdentityClaims,
    appraise_event_log,
    identity_claims,
    parse_event_log,
)

__all__ = ["EventLogJudgement", "judge_event_log"]

_FORMAT, _IDENTITY, _CLAIMS = (
    "TDX-EVENTLOG-FORMAT",
    "TDX-EVENTLOG-IDENTITY",
    "TDX-EVENTLOG-CLAIMS",
)
_REGISTERS = tuple(f"TDX-EVENTLOG-RTMR{n}" for n in range(4))
_MAX_SHOWN = 200


@dataclass(frozen=True)
class EventLogJudgement:
    """Findings, the identity claims of the log, and what those rest on."""

    findings: FindingList
    identity: IdentityClaims | None = None
    assurance: Assurance = Assurance.NONE


def judge_event_log(
    policy: EventLogPolicy | None,
    log: bytes | None,
    rtmrs: tuple[bytes, bytes, bytes, bytes],
    *,
    authentic: bool,
    image_expected: bool,
) -> EventLogJudgement:
    """Judge an event log; never raises.

    Args:
        policy: the ``tdx.event_log`` section; None: judged by its defaults if a log is given.
        log: the log's bytes, or None.
        rtmrs: RTMR0 to RTMR3 of the quote.
        authentic: whether the quote passed every authenticity check.
        image_expected: whether MRTD and RTMR0 to RTMR2 are on the policy's lists, so that the
            code which wrote RTMR3 is code the tenant knows.
    """
    findings = FindingList()
    rules = policy or EventLogPolicy()
    if log is None:
        if policy is not None and (policy.required or policy.claims):
            _skip(findings, rules, "no event log was given")
        return EventLogJudgement(findings)
    try:
        parsed = parse_event_log(log)
    except EvidenceError as problem:
        where = problem.where or "event log"
        findings.failed(_FORMAT, problem.expected or "a CCEL or dstack log", problem.message, where)
        return EventLogJudgement(findings)
    findings.passed(
        _FORMAT, f"{parsed.kind} log, {len(parsed.events)} events", assurance=Assurance.ASSERTED
    )
    identity = identity_claims(parsed)
    states = {}
    for finding in _appraise(parsed, rtmrs, rules):
        kept = finding if authentic else finding._replace(assurance=Assurance.NONE)
        findings.add(kept)
        states[finding.code] = finding.state
    assurance = Assurance.NONE
    if authentic and states[_IDENTITY] is State.PASS:
        assurance = Assurance.MEASURED if image_expected else Assurance.ASSERTED
    _judge_claims(findings, rules, identity, states[_IDENTITY], assurance)
    return EventLogJudgement(findings, identity, assurance)


def _skip(findings: FindingList, rules: EventLogPolicy, reason: str) -> None:
    findings.skipped(_FORMAT, reason)
    for register in sorted(rules.replay):
        findings.skipped(_REGISTERS[register], reason)
    if rules.claims:
        findings.skipped(_CLAIMS, reason)


def _appraise(
    log: EventLog, rtmrs: tuple[bytes, bytes, bytes, bytes], rules: EventLogPolicy
) -> list[Finding]:
    rtmr3 = rules.rtmr3 or ("log" if log.kind == "dstack" else "opaque")
    unasked = {_REGISTERS[n] for n in range(3) if n not in rules.replay}
    findings = []
    for finding in appraise_event_log(log, rtmrs, rtmr3=rtmr3):
        if finding.code in unasked:
            finding = Finding(
                finding.code, State.NOT_APPLICABLE, found="the policy does not ask for it"
            )
        elif (
            rtmr3 == "opaque"
            and finding.state is State.NOT_CHECKED
            and (finding.code == _REGISTERS[3] or not rules.claims)
        ):
            # Left unexplained on purpose: by the policy, or because a CCEL log cannot do it.
            finding = finding._replace(state=State.NOT_APPLICABLE)
        findings.append(finding)
    return findings


def _judge_claims(
    findings: FindingList,
    rules: EventLogPolicy,
    identity: IdentityClaims,
    identity_state: State,
    assurance: Assurance,
) -> None:
    if not rules.claims:
        findings.not_applicable(_CLAIMS, "the policy names no claims")
    elif identity_state is not State.PASS:
        findings.skipped(_CLAIMS, "the log's identity events are not proven")
    else:
        for name, accepted in sorted(rules.claims.items()):
            values = _claim(identity, name)
            wrong = next((value for value in values if value not in accepted), None)
            if wrong is not None or not values:
                expected = f"{name}: " + " or ".join(sorted(accepted))[:_MAX_SHOWN]
                found = f"{name}: {wrong[:_MAX_SHOWN] if wrong is not None else 'absent'}"
                findings.failed(_CLAIMS, expected, found, "event log, RTMR3", assurance)
                return
        found = ", ".join(sorted(rules.claims))
        findings.passed(_CLAIMS, found, "event log, RTMR3", assurance)


def _claim(identity: IdentityClaims, name: str) -> tuple[str, ...]:
    """Values of a claim; ``a.b`` is member b of the object claimed as a."""
    claim, _, member = name.partition(".")
    value = identity.values.get(claim)
    if member:
        inner = value.get(member) if isinstance(value, Mapping) else None
        return (inner,) if isinstance(inner, str) else ()
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, tuple) else ()
