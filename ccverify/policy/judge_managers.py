"""Whether a TPM or an operator's key is one of the managers that a policy names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ccverify.bundle.endorsement import OperatorResult
from ccverify.listing import listed
from ccverify.policy.model_fabric import OperatorRule, TpmRule
from ccverify.tpm.verify import TpmResult

__all__ = ["judge_operator", "judge_tpm"]

_MAX_NAMED = 4
_joined = partial(listed, most=_MAX_NAMED)


def judge_tpm(rules: Sequence[TpmRule], results: Sequence[TpmResult]) -> str | None:
    """Return why no rule accepts this TPM; None if one does.

    A rule that names keys and roots is met by either: whoever lists a key has enrolled it.

    Args:
        rules: of the policy.
        results: what came of the quote under each rule's roots.
    """
    if not rules:
        return "the policy names no TPM"
    refusals = []
    for number, (rule, result) in enumerate(zip(rules, results, strict=True)):
        problem = _key_refused(rule, result) or _pcrs_refused(rule, result)
        if problem is None:
            return None
        refusals.append(f"tpm[{number}]: {problem}")
    return _joined(refusals)


def _key_refused(rule: TpmRule, result: TpmResult) -> str | None:
    if bytes.fromhex(result.name) in rule.names:
        return None
    if not rule.roots:
        return f"the attestation key {result.name} is not on the list"
    if result.certificate is None:
        return f"the attestation key {result.name} comes without certificates"
    return result.certificate.problem


def _pcrs_refused(rule: TpmRule, result: TpmResult) -> str | None:
    for bank, wanted in sorted(rule.pcrs.items()):
        quoted = result.pcrs.get(bank, {})
        for pcr, accepted in sorted(wanted.items()):
            value = quoted.get(pcr)
            if value is None:
                return f"PCR {pcr} of bank {bank} is not in the quote"
            if value not in accepted:
                return f"PCR {pcr} of bank {bank} is {value.hex()}, which is not on the list"
    return None


def judge_operator(rules: Sequence[OperatorRule], results: Sequence[OperatorResult]) -> str | None:
    """Return why no rule accepts this operator; None if one does.

    Args:
        rules: of the policy.
        results: what came of the signature under each rule's roots.
    """
    if not rules:
        return "the policy names no operator"
    refusals = []
    for number, (rule, result) in enumerate(zip(rules, results, strict=True)):
        problem = result.chain_problem
        if problem is None and rule.keys is not None:
            listed = bytes.fromhex(result.key_sha256) in rule.keys
            problem = None if listed else f"its key {result.key_sha256} is not on the list"
        if problem is None:
            return None
        refusals.append(f"x509[{number}]: {problem}")
    return _joined(refusals)
