"""Whether a TPM or an operator's key is one of the managers that a policy names."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from ccverify.bundle.endorsement import OperatorResult
from ccverify.policy.judge_managers import judge_operator, judge_tpm
from ccverify.policy.model_fabric import OperatorRule, TpmRule
from ccverify.sim.operator import SimOperator
from ccverify.tpm.attest import ClockInfo
from ccverify.tpm.verify import AkCertificate, TpmResult
from ccverify.trust.pkix import parse_pkix_certificate

ROOT = parse_pkix_certificate(SimOperator().root().der())
NAME, OTHER = b"\x00\x0b" + b"\x5a" * 32, b"\x00\x0b" + b"\xa5" * 32
ZERO, ONE = bytes(32), b"\x01" * 32
RULE = TpmRule(frozenset({NAME}), pcrs={"sha256": {0: frozenset({ZERO}), 7: frozenset({ONE})}})
CLOCK = ClockInfo(clock=1, reset_count=1, restart_count=0, safe=True)
CERTIFIED = AkCertificate("CN=AK", "aa" * 32, "bb" * 32, "CN=root", "cc" * 32, None)
TPM = TpmResult(
    name=NAME.hex(),
    hierarchy="owner",
    pcrs=MappingProxyType({"sha256": {0: ZERO, 7: ONE, 11: ONE}}),
    clock=CLOCK,
    firmware_version=1,
    certificate=None,
    problems=(),
)
OPERATOR = OperatorResult("CN=Managers", "ab" * 32, "cd" * 32, "CN=root", "ef" * 32, None, None)


def test_a_key_by_its_name() -> None:
    assert judge_tpm([RULE], [TPM]) is None
    unknown = replace(RULE, names=frozenset({OTHER}))
    assert judge_tpm([unknown], [TPM]) == (
        f"tpm[0]: the attestation key {NAME.hex()} is not on the list"
    )
    assert judge_tpm([unknown, RULE], [TPM, TPM]) is None


def test_nobody_named_is_nobody_accepted() -> None:
    assert judge_tpm([], []) == "the policy names no TPM"
    assert judge_operator([], []) == "the policy names no operator"


def test_a_key_by_the_root_of_its_chain() -> None:
    rule = replace(RULE, names=frozenset(), roots=(ROOT,))
    assert judge_tpm([rule], [replace(TPM, certificate=CERTIFIED)]) is None
    assert "comes without certificates" in (judge_tpm([rule], [TPM]) or "")
    stranger = replace(CERTIFIED, problem="the chain leads to no accepted root")
    found = judge_tpm([rule], [replace(TPM, certificate=stranger)])
    assert found == "tpm[0]: the chain leads to no accepted root"


def test_either_name_or_root_is_enough_and_pcrs_are_asked_all_the_same() -> None:
    both = replace(RULE, roots=(ROOT,))
    stranger = replace(CERTIFIED, problem="no")
    assert judge_tpm([both], [replace(TPM, certificate=stranger)]) is None
    renamed = replace(both, names=frozenset({OTHER}))
    assert judge_tpm([renamed], [replace(TPM, certificate=CERTIFIED)]) is None
    other = replace(TPM, certificate=CERTIFIED, pcrs={"sha256": {0: ZERO, 7: ZERO}})
    assert "PCR 7" in (judge_tpm([renamed], [other]) or "")


def test_every_pcr_of_the_rule_must_be_quoted_and_right() -> None:
    for pcrs, said in (
        ({"sha256": {0: ZERO}}, "PCR 7 of bank sha256 is not in the quote"),
        ({"sha384": {0: bytes(48), 7: bytes(48)}}, "PCR 0 of bank sha256 is not in the quote"),
        ({}, "PCR 0 of bank sha256 is not in the quote"),
        ({"sha256": {0: ZERO, 7: ZERO}}, f"PCR 7 of bank sha256 is {ZERO.hex()}, which is not"),
    ):
        assert said in (judge_tpm([RULE], [replace(TPM, pcrs=pcrs)]) or "")


def test_what_rules_refuse_is_told_rule_by_rule_and_bounded() -> None:
    bad = replace(RULE, names=frozenset({OTHER}))
    found = judge_tpm([bad] * 6, [TPM] * 6) or ""
    assert found.count("is not on the list") == 4
    assert found.endswith("; and 2 more")


def test_an_operator_by_root_and_by_key() -> None:
    anybody, one = OperatorRule((ROOT,)), OperatorRule((ROOT,), frozenset({b"\xab" * 32}))
    assert judge_operator([anybody], [OPERATOR]) is None
    assert judge_operator([one], [OPERATOR]) is None
    other = replace(OPERATOR, key_sha256="00" * 32)
    assert judge_operator([anybody], [other]) is None
    assert judge_operator([one], [other]) == f"x509[0]: its key {'00' * 32} is not on the list"
    stranger = replace(OPERATOR, chain_problem="leads to no root")
    assert judge_operator([one], [stranger]) == "x509[0]: leads to no root"
    assert judge_operator([one, anybody], [stranger, OPERATOR]) is None
