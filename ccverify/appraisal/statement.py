"""A statement of a fabric's manager: opened, checked against itself, and whose word it is.

A statement is a bundle.  Its session key is bound by a TDX quote of the manager's own machine, by
a TPM's quote, by an operator's signature, or by nothing; the assurance of everything it says
follows from that and from the policy's list of managers, and from nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ccverify.appraisal.inputs import Inputs
from ccverify.appraisal.td import TdPart, appraise_td
from ccverify.bundle.endorsement import (
    operator_payload,
    parse_operator_signature,
    tpm_qualifying_data,
    verify_operator_signature,
)
from ccverify.bundle.package import Bundle, parse_bundle
from ccverify.bundle.statement_items import statement_items
from ccverify.bundle.tpm_item import parse_tpm_item
from ccverify.bundle.verify_bundle import verify_bundle
from ccverify.checks import Category, find_check
from ccverify.errors import EvidenceError
from ccverify.evidence import BindingProfile, Evidence
from ccverify.fabric.statement import read_statement
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.listing import listed
from ccverify.policy.judge_binding import Request, tie
from ccverify.policy.judge_fabric import STRENGTH
from ccverify.policy.judge_managers import judge_operator, judge_tpm
from ccverify.policy.model import ANY, BindingPolicy, FabricPolicy, TdxPolicy
from ccverify.policy.model_fabric import ManagersPolicy
from ccverify.policy.model_tdx import MEASUREMENTS
from ccverify.policy.stated import Stated
from ccverify.results.verdict import Conclusion, conclude, counts_against
from ccverify.tpm.verify import verify_tpm_quote
from ccverify.trust.store import TrustKind

__all__ = ["open_statement"]

_KEY, _MANAGER = "FABRIC-STATEMENT-KEY", "FABRIC-MANAGER"
_NOT_GENUINE: Final = "the statement's key is not bound as the statement has it"
_BINDING: Final = BindingPolicy((BindingProfile.CCVERIFY,), freshness_required=False)
"""How a quote is tied to its own statement; whose nonce that answers is judged by itself."""
_ANYBODY: Final = TdxPolicy(measurements=dict.fromkeys(MEASUREMENTS, ANY))
"""What a quote is verified under where the policy describes no service VM."""
_NOBODY: Final = ManagersPolicy()


@dataclass(frozen=True, slots=True)
class _Bound:
    """What one item says of the session key.

    Attributes:
        kind: ``tdx``, ``tpm`` or ``x509``.
        level: what a statement rests on that this binds, by a manager whom the policy names.
        genuine: whether the item is what it says it is.
        problem: why it is not, or why that is not known.
        refusal: why the policy does not accept who made it; None where it does.
        undecided: whether the refusal is that something could not be checked.
        identity: who made it, for the claims.
        platform: of the quote, where it is one and genuine.
    """

    kind: str
    level: Assurance
    genuine: State
    problem: str | None
    refusal: str | None
    undecided: bool
    identity: Mapping[str, Any]
    platform: str | None = None


def open_statement(data: bytes, policy: FabricPolicy, inputs: Inputs) -> Stated:
    """Open one statement; a bad one ends in findings, never in an exception.

    Args:
        data: the statement as given.
        policy: the section ``fabric``.
        inputs: the circumstances.
    """
    digest = hashlib.sha384(data).digest()
    try:
        bundle = parse_bundle(data)
        items = statement_items(bundle)
        if items is None:
            raise EvidenceError(
                "this bundle is no statement of a fabric's manager",
                expected="an item with what a host says of its Fabric Manager",
                found=", ".join(sorted(bundle.items))[:200],
                hint="make one with `ccverify collect --role fabric-manager`",
            )
        statement = read_statement(items)
    except EvidenceError as problem:
        expected = problem.expected or "one statement"
        return Stated(digest, problem=(expected, problem.summary, problem.where))
    itself = verify_bundle(bundle, None, freshness_waived=True)
    broken = [one for one in itself.findings if one.state is State.FAIL]
    evidence = itself.evidence or Evidence()
    managers = policy.managers or _NOBODY
    bound = list(_bindings(bundle, evidence, managers, intact=not broken, inputs=inputs))
    key = _judge_key(broken, bound)
    manager = _judge_manager(policy.managers, key, bound)
    level = _level(key, bound, inputs.trust.kind)
    if key.state is State.PASS:
        # Software can make a key and call it a TPM's: only a key that the policy names is one.
        key = key._replace(assurance=level)
    return Stated(
        digest,
        statement=statement,
        nonce=bundle.manifest.nonce,
        created=bundle.manifest.created,
        collector=bundle.manifest.collector,
        level=level,
        key=key,
        manager=manager,
        platform=next((one.platform for one in bound if one.refusal is None), None),
        bound_by=tuple(one.kind for one in bound),
        identity={one.kind: dict(one.identity) for one in bound},
    )


def _level(key: Finding, bound: list[_Bound], trust: TrustKind) -> Assurance:
    """What the statement rests on: the strongest binding of a manager that the policy names."""
    if key.state is not State.PASS or trust is TrustKind.INSECURE:
        return Assurance.NONE
    named = [one.level for one in bound if one.refusal is None]
    return max((Assurance.ASSERTED, *named), key=STRENGTH.__getitem__)


def _judge_key(broken: list[Finding], bound: list[_Bound]) -> Finding:
    made = FindingList("fabric")
    if broken:
        text = "; ".join(f"{one.code}: {one.found}" for one in broken)
        made.failed(_KEY, "a statement that its session key signed, with all its items", text)
    elif bad := [one for one in bound if one.genuine is State.FAIL]:
        text = "; ".join(f"{one.kind}: {one.problem}" for one in bad)
        made.failed(_KEY, "genuine quotes and signatures over the statement", text)
    elif open_ := [one for one in bound if one.genuine is not State.PASS]:
        made.skipped(_KEY, "; ".join(f"{one.kind}: {one.problem}" for one in open_))
    else:
        text = " and ".join(one.kind for one in bound)
        found = f"bound by {text}" if text else "signed by a key that nothing binds to anybody"
        made.passed(_KEY, found, assurance=Assurance.ASSERTED)
    return next(iter(made))


def _judge_manager(managers: ManagersPolicy | None, key: Finding, bound: list[_Bound]) -> Finding:
    made = FindingList("fabric")
    named = [one for one in bound if one.refusal is None]
    refusals = "; ".join(f"{one.kind}: {one.refusal}" for one in bound if one.refusal)
    if managers is None:
        made.not_applicable(_MANAGER, "the policy names no manager: anybody may have stated this")
    elif key.state is not State.PASS:
        made.skipped(_MANAGER, _NOT_GENUINE)
    elif named:
        best = max(named, key=lambda one: STRENGTH[one.level])
        made.passed(_MANAGER, f"a manager of the policy's, by {best.kind}", assurance=best.level)
    elif managers.unsigned:
        made.passed(_MANAGER, "the policy accepts anybody's word", assurance=Assurance.ASSERTED)
    elif bound and all(one.undecided for one in bound):
        made.skipped(_MANAGER, refusals)
    else:
        found = refusals or "a statement that nothing binds to anybody"
        made.failed(_MANAGER, "a manager that fabric.managers names", found)
    return next(iter(made))


# --- bindings ------------------------------------------------------------------------------------


def _bindings(
    bundle: Bundle, evidence: Evidence, managers: ManagersPolicy, *, intact: bool, inputs: Inputs
) -> Iterator[_Bound]:
    covered = bundle.manifest.nonce, bundle.manifest.key, bundle.manifest.sha384
    if bundle.quote is not None:
        yield _tdx(evidence, managers, intact=intact, inputs=inputs)
    for kind, item, bind in (
        ("tpm", bundle.tpm_quote, _tpm),
        ("x509", bundle.operator_signature, _operator),
    ):
        if item is not None:
            yield _parsed(kind, item, covered, managers, inputs, bind)


_Covered = tuple[bytes, bytes, bytes]
_Bind = Callable[[bytes, _Covered, ManagersPolicy, Inputs], _Bound]


def _parsed(
    kind: str, item: bytes, covered: _Covered, managers: ManagersPolicy, inputs: Inputs, bind: _Bind
) -> _Bound:
    try:
        return bind(item, covered, managers, inputs)
    except EvidenceError as problem:
        text = problem.summary
        return _Bound(kind, Assurance.NONE, State.FAIL, text, text, False, {})


def _tdx(evidence: Evidence, managers: ManagersPolicy, *, intact: bool, inputs: Inputs) -> _Bound:
    tied = tie(_BINDING, Request(), evidence.binding)
    if intact:
        derivation = replace(tied.derivation, evidence_state=State.PASS, evidence_problem=None)
        tied = replace(tied, derivation=derivation)
    alone = Evidence(evidence.quote, evidence.event_log, binding=evidence.binding,
                     event_log_format=evidence.event_log_format)  # fmt: skip
    quietly = replace(inputs, what_if=None)
    parts = [appraise_td(rule, alone, tied, quietly) for rule in managers.tdx or (_ANYBODY,)]
    genuine, problem = _genuine(parts[0])
    refusal, undecided = _refusal(managers, parts)
    quote = parts[0].quote
    identity: dict[str, Any] = {}
    if quote is not None:
        report = quote.report
        identity = {"mrtd": report.mrtd.hex()} | {
            f"rtmr{number}": value.hex() for number, value in enumerate(report.rtmrs)
        }
    return _Bound("tdx", Assurance.MANAGER, genuine, problem, refusal, undecided, identity,
                  parts[0].platform)  # fmt: skip


def _genuine(part: TdPart) -> tuple[State, str | None]:
    """Whether the quote is Intel's and covers this statement; the policy has no part in that."""
    bad = [
        one
        for one in part.findings
        if one.state not in (State.PASS, State.NOT_APPLICABLE)
        and (check := find_check(one.code)) is not None
        and check.category in (Category.AUTHENTICITY, Category.EVIDENCE)
    ]
    failed = [one for one in bad if one.state is State.FAIL]
    if failed:
        return State.FAIL, _codes(failed)
    if bad or part.level is not Assurance.HARDWARE:
        return State.NOT_CHECKED, _codes(bad) or "the quote is not genuine under these roots"
    return State.PASS, None


def _refusal(managers: ManagersPolicy, parts: list[TdPart]) -> tuple[str | None, bool]:
    if not managers.tdx:
        return "the policy describes no service VM", False
    refusals, undecided = [], True
    for number, part in enumerate(parts):
        every, conclusion, _ = conclude(part.findings, part.subjects)
        if conclusion is Conclusion.TRUSTED:
            return None, False
        against = [one for one in every if counts_against(one)]
        undecided &= all(one.state is not State.FAIL for one in against)
        refusals.append(f"tdx[{number}]: {_codes(against)}")
    return "; ".join(refusals), undecided


def _codes(findings: list[Finding]) -> str:
    return listed((f"{one.code}: {one.found}" for one in findings), 4)


def _tpm(item: bytes, covered: _Covered, managers: ManagersPolicy, inputs: Inputs) -> _Bound:
    quote, expected = parse_tpm_item(item), tpm_qualifying_data(*covered)
    roots = [rule.roots for rule in managers.tpm]
    results = [
        verify_tpm_quote(quote, expected, roots=one, now=inputs.now) for one in roots or [()]
    ]
    result = results[0]
    genuine = State.FAIL if result.problems else State.PASS
    refusal = judge_tpm(managers.tpm, results[: len(roots)])
    identity = {
        "attestation_key": result.name,
        "hierarchy": result.hierarchy,
        "pcrs": {
            bank: {str(pcr): value.hex() for pcr, value in sorted(values.items())}
            for bank, values in sorted(result.pcrs.items())
        },
        "reset_count": result.clock.reset_count,
        "restart_count": result.clock.restart_count,
    }
    problem = "; ".join(result.problems) or None
    return _Bound("tpm", Assurance.HOST, genuine, problem, refusal, False, identity)


def _operator(item: bytes, covered: _Covered, managers: ManagersPolicy, inputs: Inputs) -> _Bound:
    signature, payload = parse_operator_signature(item), operator_payload(*covered)
    roots = [rule.roots for rule in managers.x509]
    results = [
        verify_operator_signature(signature, payload, one, inputs.now) for one in roots or [()]
    ]
    result = results[0]
    # A chain to a root that nobody named is no forgery: the operator is just not known.
    problem = result.signature_problem
    genuine = State.FAIL if problem else State.PASS
    refusal = judge_operator(managers.x509, results[: len(roots)])
    identity = {
        "subject": result.subject,
        "key_sha256": result.key_sha256,
        "certificate_sha256": result.certificate_sha256,
    }
    return _Bound("x509", Assurance.OPERATOR, genuine, problem, refusal, False, identity)
