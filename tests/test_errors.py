"""Declared errors: one per party at fault, with codes, exit codes and readable diagnostics."""

from __future__ import annotations

import copy
import pickle

import pytest

from ccverify.errors import (
    CcverifyError,
    CollateralError,
    EvidenceError,
    PolicyError,
    TrustError,
    UsageError,
)

ALL = {
    UsageError: ("USAGE", 1),
    EvidenceError: ("EVIDENCE-FORMAT", 2),
    CollateralError: ("COLLATERAL-FORMAT", 5),
    TrustError: ("TRUST-ANCHOR", 1),
    PolicyError: ("POLICY-FORMAT", 1),
}


@pytest.mark.parametrize("kind", ALL)
def test_codes_and_exit_codes(kind: type[CcverifyError]) -> None:
    assert (kind.code, kind.exit_code) == ALL[kind]
    assert issubclass(kind, CcverifyError)
    with pytest.raises(CcverifyError, match="what went wrong"):
        raise kind("what went wrong")


def test_the_table_is_complete_and_codes_are_distinct() -> None:
    declared = {k for k in CcverifyError.__subclasses__() if k.__module__ == "ccverify.errors"}
    assert declared == set(ALL)
    assert len({code for code, _ in ALL.values()}) == len(ALL)


def test_the_base_class_is_never_raised() -> None:
    with pytest.raises(TypeError, match="subclass"):
        CcverifyError("x")


def test_diagnostics_tell_everything_there_is() -> None:
    problem = EvidenceError("m", expected="e", found="f", where="w", hint="h")
    assert problem.diagnostics().splitlines() == [
        "m", "  expected: e", "  found: f", "  where: w", "  what to do: h",
    ]  # fmt: skip
    assert str(problem) == problem.message == "m"
    assert EvidenceError("m").diagnostics() == "m"
    assert EvidenceError("m", found="").diagnostics() == "m\n  found: "


def test_arguments_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        EvidenceError("m", "e")  # type: ignore[call-arg]


@pytest.mark.parametrize("again", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_errors_survive_the_way_back_from_another_process(again: object) -> None:
    problem = PolicyError("m", expected="e", found="f", where="w", hint="h")
    twin = again(problem)  # type: ignore[operator]
    assert type(twin) is PolicyError
    assert twin.diagnostics() == problem.diagnostics()
