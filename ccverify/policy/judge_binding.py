"""What ties CPU and devices to the request, a channel and each other, held against a policy."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any as Json

from ccverify.bundle.binding import Derivation, bound_inputs, derive, stated_nonce
from ccverify.evidence import BindingInputs
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.policy.judge_devices import ExpectedNonce
from ccverify.policy.model import BindingPolicy, DevicePolicy, TdxPolicy

__all__ = [
    "Request",
    "Tie",
    "binding_claims",
    "expected_nonce",
    "judge_binding",
    "relay_problem",
    "tie",
]

_OWN = "the relying party's own"


@dataclass(frozen=True, slots=True)
class Request:
    """What the relying party asked, and what it sees.

    Attributes:
        nonce: its nonce, 16 to 64 bytes; None where none was sent.
        report_data: all 64 bytes of REPORTDATA that it expects, instead of a nonce.
        channel: what it sees of the channel, by the names of `Derivation.bound`; lower-case
            hex, or text.
    """

    nonce: bytes | None = None
    report_data: bytes | None = None
    channel: Mapping[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> bool:
        """Whether it chose anything that makes the evidence fresh."""
        return self.nonce is not None or self.report_data is not None


@dataclass(frozen=True, slots=True)
class Tie:
    """A derivation, and whose nonce went into it.

    Attributes:
        derivation: what the evidence must hold.
        nonce: the nonce used.
        own: whether it, or REPORTDATA, is the relying party's.
    """

    derivation: Derivation
    nonce: bytes | None
    own: bool


def tie(policy: BindingPolicy, request: Request, inputs: BindingInputs) -> Tie:
    """Derive what evidence must hold, by a profile that the policy accepts.

    The profile that the response's shape suggests is used where the policy accepts it, and
    otherwise the policy's first.  The nonce that a response states is used only where the
    relying party asked with none and the policy waives freshness.
    """
    suggested = inputs.profile
    profile = suggested if suggested in policy.profiles else policy.profiles[0]
    nonce = request.nonce
    if not request.asked and not policy.freshness_required:
        nonce = stated_nonce(inputs)
    derivation = derive(profile, nonce, inputs, report_data=request.report_data)
    return Tie(derivation, nonce, request.asked)


def expected_nonce(policy: BindingPolicy, tied: Tie) -> ExpectedNonce:
    """What every device report must carry."""
    derivation = tied.derivation
    waived = not policy.freshness_required and not tied.own and tied.nonce is None
    reason = derivation.device_nonce_reason or "no nonce was given"
    if waived:
        reason = f"the policy waives freshness, and the evidence states no nonce: {reason}"
    return ExpectedNonce(derivation.device_nonce, reason, waived)


def judge_binding(
    policy: BindingPolicy,
    tied: Tie,
    request: Request,
    report_data: bytes | None,
    relayable: str | None,
    assurance: Assurance,
) -> FindingList:
    """Judge the binding of one node.

    Args:
        policy: the section ``binding``.
        tied: from `tie`.
        request: what the relying party asked and sees.
        report_data: the quote's REPORTDATA; None where there is no quote.
        relayable: why the devices may be elsewhere; empty if the policy's lists rule that out,
            None where the node has not both CPU and devices.
        assurance: of the quote's own values.
    """
    findings = FindingList()
    derivation = tied.derivation
    if tied.own:
        what = "REPORTDATA" if request.nonce is None else "nonce"
        findings.passed("BIND-FRESH", f"{what} is {_OWN}", assurance=assurance)
    elif policy.freshness_required:
        findings.skipped("BIND-FRESH", "neither a nonce nor the expected report data was given")
    else:
        said = (
            "no nonce is known" if tied.nonce is None else f"{tied.nonce.hex()} is the response's"
        )
        findings.not_applicable("BIND-FRESH", f"the policy waives freshness: {said}")
    findings.ended(
        "BIND-CONSISTENT",
        "; ".join(derivation.conflicts) or None,
        expected="statements that agree with each other and with the request",
        found=f"profile {derivation.profile.value}",
    )
    _judge_evidence(findings, derivation, assurance)
    _judge_channel(findings, derivation, request, report_data, assurance)
    if relayable is None:
        findings.not_applicable("BIND-RELAYABLE", "the node has not both CPU and devices")
    elif not relayable:
        found = "platform and devices are on the policy's lists"
        findings.passed("BIND-RELAYABLE", found, assurance=assurance)
    elif policy.relayable_accepted:
        reason = f"the policy accepts that the devices may be elsewhere: {relayable}"
        findings.not_applicable("BIND-RELAYABLE", reason)
    else:
        findings.skipped("BIND-RELAYABLE", f"the devices may be elsewhere: {relayable}")
    return findings


def relay_problem(
    tdx: TdxPolicy | None,
    devices: Mapping[str, DevicePolicy],
    findings: Sequence[Finding],
) -> str:
    """Say why devices may be elsewhere; empty if lists of the policy rule it out.

    Args:
        tdx: the section that judged the quote.
        devices: the sections that judged devices, by the prefix of their check codes.
        findings: everything found so far.
    """
    reasons = []
    rules = tdx.platform if tdx else None
    if rules is None or (rules.ppid is None and rules.platform_instance_id is None):
        reasons.append("tdx.platform lists no ppid or platform_instance_id")
    for prefix, section in devices.items():
        if section.device_ids is None:
            name = "gpus" if prefix == "GPU" else "nvswitches"
            reasons.append(f"{name}.device_ids is not given")
    if not reasons and not all(_listed(findings, devices)):
        reasons.append("platform or devices are not proven to be on the policy's lists")
    return "; ".join(reasons)


def _listed(findings: Sequence[Finding], devices: Iterable[str]) -> Iterator[bool]:
    """For the platform and each device presented, whether it is proven to be on its list."""
    proven = {
        (f.code, f.subject)
        for f in findings
        if f.state is State.PASS and f.assurance is Assurance.HARDWARE
    }
    yield ("TDX-PLATFORM", None) in proven
    for prefix in devices:
        # Every device has this finding, and one that is not genuine has none about a list.
        for subject in [f.subject for f in findings if f.code == f"{prefix}-REPORT-FORMAT"]:
            yield (f"{prefix}-DEVICE-LIST", subject) in proven


def binding_claims(tied: Tie, report_data: bytes | None, assurance: Assurance) -> dict[str, Json]:
    """Return the claims ``binding`` of a verdict, JSON-ready."""
    derivation = tied.derivation
    bound = {} if report_data is None else dict(bound_inputs(derivation, report_data))
    return {
        "profile": derivation.profile.value,
        "nonce": None if tied.nonce is None else tied.nonce.hex(),
        "fresh": tied.own,
        "device_nonce": derivation.device_nonce.hex() if derivation.device_nonce else None,
        "report_data": None
        if report_data is None
        else [
            {
                "bytes": f"{part.start}:{part.end}",
                "meaning": part.meaning,
                "matches": None
                if part.expected is None
                else hmac.compare_digest(part.expected, report_data[part.start : part.end]),
            }
            for part in derivation.report_data
        ],
        "bound": bound,
        "unbound": list(derivation.unbound),
        "missing": list(derivation.missing),
        "leaves": list(derivation.leaves),
        "assurance": {"bound": assurance.value, "unbound": Assurance.NONE.value},
    }


def _judge_evidence(findings: FindingList, derivation: Derivation, level: Assurance) -> None:
    code, state = "BIND-EVIDENCE", derivation.evidence_state
    problem = derivation.evidence_problem or ""
    if state is State.PASS:
        findings.passed(code, "the evidence hashes to what is bound", assurance=level)
    elif state is State.FAIL:
        findings.failed(code, "device evidence that hashes to what is bound", problem)
    elif state is State.NOT_CHECKED:
        findings.skipped(code, problem)
    else:
        findings.not_applicable(code, problem)


def _judge_channel(
    findings: FindingList,
    derivation: Derivation,
    request: Request,
    report_data: bytes | None,
    level: Assurance,
) -> None:
    code = "BIND-CHANNEL"
    if not request.channel:
        findings.not_applicable(code, "the relying party does not say what it sees")
        return
    if report_data is None:
        findings.skipped(code, "there is no readable quote")
        return
    bound = bound_inputs(derivation, report_data)
    problems = []
    for name, seen in sorted(request.channel.items()):
        said = bound.get(name)
        if said is None:
            problems.append(f"no {name} is bound by profile {derivation.profile.value}")
        elif not hmac.compare_digest(said.encode(), seen.encode()):
            problems.append(f"{name} {said}")
    expected = ", ".join(f"{name} {seen}" for name, seen in sorted(request.channel.items()))
    if problems:
        findings.failed(code, expected, "; ".join(problems), assurance=level)
    else:
        findings.passed(code, expected, assurance=level)
