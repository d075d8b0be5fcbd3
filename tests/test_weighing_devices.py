"""No device finding can be lost: whatever is left out, or ends otherwise, keeps a verdict down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.judging import ANY_IMAGE
from vectors.judging_devices import judge_node, rules, sim_collateral, sim_evidence

from ccverify import State, Verdict, parse_collateral
from ccverify.checks import CHECKS, Category, Need, Scope, find_check
from ccverify.findings import Finding
from ccverify.results import verdict as verdicts
from ccverify.results.verdict import Conclusion, Subjects, counts_against
from ccverify.sim import SimPlatform
from ccverify.sim.nvidia import SimNode

NODE = SimNode.hopper_ppcie(2, 2)
POLICY = rules(
    {
        "tdx": {"measurements": ANY_IMAGE["measurements"]},
        "gpus": {"count": 2, "architectures": ["HOPPER"], "modes": ["PPCIE"]},
        "nvswitches": {"count": 2},
        "topology": {"kind": "protected-pcie", "gpus": 2, "switches": 2},
        "binding": {"relayable": "accept"},
    }
)
NEEDED = (Need.ALWAYS, Need.UNLESS_WAIVED)


@cache
def weighed() -> tuple[Verdict, tuple[Finding, ...], Subjects]:
    """A trusted node of everything: its verdict, and what the verifier gave to be weighed."""
    quote = SimPlatform().evidence(report_data=NODE.nonce.ljust(64, b"\0"))
    pack = parse_collateral(quote.collateral.to_json().encode())
    given_: list[tuple[tuple[Finding, ...], Subjects]] = []
    real = verdicts.conclude

    def listen(
        findings: Iterable[Finding], subjects: Subjects
    ) -> tuple[tuple[Finding, ...], Conclusion, int]:
        given_.append((tuple(findings), subjects))
        return real(given_[0][0], subjects)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ccverify.verifier.conclude", listen)
        evidence = sim_evidence(NODE, quote=quote.quote_bytes)
        verdict = judge_node(NODE, POLICY, evidence, collateral=pack)
    ((findings, subjects),) = given_
    assert verdict.trusted, verdict.failures()
    return verdict, findings, subjects


def needed() -> list[Finding]:
    """The findings about devices, topology and binding without which there is no trust."""
    listed = []
    for finding in weighed()[1]:
        check = find_check(finding.code)
        assert check is not None
        if check.need in NEEDED and check.scope is not Scope.TDX:
            listed.append(finding)
    return listed


def test_the_verdict_covers_each_device_and_all_of_them() -> None:
    _, findings, subjects = weighed()
    assert subjects == {
        Scope.NODE: (None,),
        Scope.TDX: (None,),
        Scope.GPU: ("gpu-0", "gpu-1"),
        Scope.GPUS: (None,),
        Scope.NVSWITCH: ("nvswitch-0", "nvswitch-1"),
        Scope.NVSWITCHES: (None,),
        Scope.DEVICES: (None,),
        Scope.TOPOLOGY: ("topology",),
        Scope.BINDING: (None,),
    }
    assert len({(f.code, f.subject) for f in findings}) == len(findings)
    present = {(f.code, f.subject) for f in needed()}
    for check in CHECKS:
        if check.need in NEEDED and check.scope not in (Scope.TDX, Scope.NODE):
            for subject in subjects.get(check.scope, ()):
                assert (check.code, subject) in present


def test_no_needed_finding_of_any_device_may_be_left_out() -> None:
    """For each finding of each subject alone, as if the code that makes it had been forgotten."""
    _, findings, subjects = weighed()
    several = {"NODE-CLASSES"}  # of several subjects; at least one must be there
    alone = [finding for finding in needed() if finding.code not in several]
    assert len(alone) > 80
    for finding in alone:
        rest = [each for each in findings if each is not finding]
        listed, conclusion, code = verdicts.conclude(rest, subjects)
        assert conclusion is Conclusion.INCOMPLETE, finding
        assert code in (5, 6)
        (added,) = (f for f in listed if (f.code, f.subject) == (finding.code, finding.subject))
        assert added.state is State.NOT_CHECKED
        assert len(listed) == len(findings)
    rest = [each for each in findings if each.code not in several]
    assert verdicts.conclude(rest, subjects)[1] is Conclusion.INCOMPLETE


def test_no_finding_of_one_device_stands_for_another() -> None:
    """The same code of the other device, twice over, does not fill the gap."""
    _, findings, subjects = weighed()
    for finding in needed():
        if finding.subject in ("gpu-1", "nvswitch-1"):
            other = finding.subject.replace("1", "0")
            changed = [f._replace(subject=other) if f is finding else f for f in findings]
            assert verdicts.conclude(changed, subjects)[1] is Conclusion.INCOMPLETE, finding


def test_a_whole_device_that_is_lost() -> None:
    _, findings, subjects = weighed()
    for subject in ("gpu-0", "gpu-1", "nvswitch-0", "nvswitch-1", "topology"):
        rest = [finding for finding in findings if finding.subject != subject]
        assert verdicts.conclude(rest, subjects)[1] is Conclusion.INCOMPLETE


def test_each_failure_alone_gives_its_category() -> None:
    _, findings, subjects = weighed()
    for finding in needed():
        check = find_check(finding.code)
        assert check is not None
        changed = [f._replace(state=State.FAIL) if f is finding else f for f in findings]
        _, conclusion, code = verdicts.conclude(changed, subjects)
        assert (conclusion, code) == (Conclusion.UNTRUSTED, check.category)


def test_each_check_that_was_not_made_keeps_it_incomplete() -> None:
    _, findings, subjects = weighed()
    for finding in needed():
        check = find_check(finding.code)
        assert check is not None
        changed = [f._replace(state=State.NOT_CHECKED) if f is finding else f for f in findings]
        _, conclusion, code = verdicts.conclude(changed, subjects)
        expected = 5 if check.category is Category.COLLATERAL else 6
        assert (conclusion, code) == (Conclusion.INCOMPLETE, expected)


def test_what_no_policy_can_waive_cannot_be_waived() -> None:
    """A check that always applies does not become inapplicable, whoever says so."""
    _, findings, subjects = weighed()
    for finding in needed():
        check = find_check(finding.code)
        assert check is not None
        changed = [f._replace(state=State.NOT_APPLICABLE) if f is finding else f for f in findings]
        _, conclusion, _ = verdicts.conclude(changed, subjects)
        if check.applies:
            assert conclusion is Conclusion.TRUSTED
        else:
            assert conclusion is Conclusion.INCOMPLETE, finding
            assert check.need is Need.ALWAYS


@given(st.data())
@settings(max_examples=150)
def test_trusted_exactly_if_nothing_counts_against(data: st.DataObject) -> None:
    _, findings, subjects = weighed()
    changed = list(findings)
    for at in data.draw(st.lists(st.integers(0, len(findings) - 1), max_size=6, unique=True)):
        state = data.draw(st.sampled_from(State))
        changed[at] = changed[at]._replace(state=state)
    gone = data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=2, unique=True))
    rest = [finding for at, finding in enumerate(changed) if at not in gone]
    listed, conclusion, code = verdicts.conclude(data.draw(st.permutations(rest)), subjects)
    clean = not any(map(counts_against, listed))
    assert (conclusion is Conclusion.TRUSTED) == (code == 0) == clean
    lost = [findings[at] for at in gone]
    if any(f in needed() and f.code != "NODE-CLASSES" for f in lost):
        assert conclusion is not Conclusion.TRUSTED
    failed = [find_check(f.code) for f in rest if f.state is State.FAIL and counts_against(f)]
    if failed:
        assert code == min(check.category for check in failed if check)


@given(st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_findings_changes_nothing(random: object) -> None:
    _, findings, subjects = weighed()
    shuffled = list(findings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert verdicts.conclude(shuffled, subjects) == verdicts.conclude(findings, subjects)


def test_the_same_inputs_in_the_same_order_give_the_same_bytes() -> None:
    verdict, _, _ = weighed()
    quote = SimPlatform().evidence(report_data=NODE.nonce.ljust(64, b"\0"))
    pack = parse_collateral(quote.collateral.to_json().encode())
    evidence = sim_evidence(NODE, quote=quote.quote_bytes)
    for _ in range(2):
        again = judge_node(NODE, POLICY, evidence, collateral=pack)
        assert again.dumps() == verdict.dumps()


def test_the_order_of_devices_changes_subjects_alone() -> None:
    policy = rules(
        {
            "gpus": {"count": 2, "architectures": ["HOPPER"], "modes": ["PPCIE"]},
            "nvswitches": {"count": 2},
            "topology": {"kind": "protected-pcie", "gpus": 2, "switches": 2},
        }
    )
    broken = NODE.with_gpu(0, NODE.gpus[0].with_measurement(22, b"\x66" * 48))
    for node in (NODE, broken):
        turned = replace(node, gpus=node.gpus[::-1], switches=node.switches[::-1])
        collateral = sim_collateral(node)
        first, second = (
            judge_node(each, policy, sim_evidence(each), nvidia=collateral)
            for each in (node, turned)
        )
        assert first.exit_code == second.exit_code
        names = {"gpu-0": "gpu-1", "gpu-1": "gpu-0", "nvswitch-0": "nvswitch-1",
                 "nvswitch-1": "nvswitch-0"}  # fmt: skip
        renamed = [
            f._replace(subject=names.get(f.subject or "", f.subject)) for f in second.findings
        ]
        assert sorted(map(repr, first.findings)) == sorted(map(repr, renamed))
        assert first.exit_code == (0 if node is NODE else 4)
