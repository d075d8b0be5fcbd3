"""The verdicts of several nodes, and what they come to together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccverify.checks import Category, Scope
from ccverify.findings import Finding
from ccverify.results.verdict import (
    EXIT_INCOMPLETE,
    EXIT_NOTHING,
    Conclusion,
    Verdict,
    conclude,
    finding_json,
)

__all__ = ["SET_SCHEMA", "VerdictSet"]

SET_SCHEMA = "ccverify.verdict-set/v1"


@dataclass(frozen=True)
class VerdictSet:
    """The verdicts of all nodes of one response, and what they come to together.

    Attributes:
        conclusion: trusted only if every node is, and what concerns several nodes passed.
        exit_code: as of a verdict: the gravest of the nodes and of `findings`.
        verdicts: one for each node, in the order of the response.
        findings: about the nodes together.
        inputs: digest and format of the response, and what of it was not read.
    """

    conclusion: Conclusion
    exit_code: int
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    inputs: Mapping[str, Any]

    @classmethod
    def of(
        cls, verdicts: Sequence[Verdict], findings: Iterable[Finding], inputs: Mapping[str, Any]
    ) -> VerdictSet:
        """Weigh the verdicts of nodes and the findings about them together."""
        listed, conclusion, code = conclude(findings, {Scope.SET: (None,)})
        if not verdicts:
            return cls(Conclusion.INCOMPLETE, EXIT_NOTHING, (), listed, inputs)
        parts = [(each.conclusion, each.exit_code) for each in verdicts] + [(conclusion, code)]
        for kind, weigh in ((Conclusion.UNTRUSTED, min), (Conclusion.INCOMPLETE, _graver)):
            codes = [code for concluded, code in parts if concluded is kind]
            if codes:
                return cls(kind, weigh(codes), tuple(verdicts), listed, inputs)
        return cls(Conclusion.TRUSTED, 0, tuple(verdicts), listed, inputs)

    @property
    def trusted(self) -> bool:
        """Whether every node is `trusted`, and the set as a whole."""
        return self.conclusion is Conclusion.TRUSTED

    def to_json(self) -> dict[str, Any]:
        """Return the verdicts as JSON-ready values, in a fixed order of members."""
        return {
            "schema": SET_SCHEMA,
            "verdict": self.conclusion.value,
            "exit_code": self.exit_code,
            "findings": [finding_json(finding) for finding in self.findings],
            "nodes": [verdict.to_json() for verdict in self.verdicts],
            "inputs": dict(self.inputs),
        }

    def dumps(self) -> str:
        """Return `to_json` as text, the same bytes for the same verdicts."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


def _graver(codes: Sequence[int]) -> int:
    """Of what keeps nodes incomplete: missing collateral, a check not made, nothing at all."""
    return next(code for code in (int(Category.COLLATERAL), EXIT_INCOMPLETE, EXIT_NOTHING)
                if code in codes)  # fmt: skip
