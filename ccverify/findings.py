"""What a check found, and how strongly the claim behind it is proven."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

__all__ = ["Assurance", "Finding", "FindingList", "State"]


class State(str, Enum):
    """How one check ended."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_CHECKED = "NOT_CHECKED"
    NOT_APPLICABLE = "NOT_APPLICABLE"


class Assurance(str, Enum):
    """What a claim rests on, strongest first (docs/assurance.md)."""

    HARDWARE = "hardware"
    """Signed by the device itself, chain to the vendor's pinned root."""
    MEASURED = "measured"
    """Observed by code in the TD whose measurement the policy allows, bound into the quote."""
    MANAGER = "manager"
    """Stated by a manager in a TD whose measurement the policy allows, bound into its quote."""
    HOST = "host"
    """Stated by a host whose boot a TPM quoted, with the PCRs that the policy allows."""
    OPERATOR = "operator"
    """Signed by a key that an operator's certificate names: a promise of somebody known."""
    ASSERTED = "asserted"
    """Said by somebody whom nothing identifies."""
    NONE = "none"
    """Nothing stands behind it."""


class Finding(NamedTuple):
    """The outcome of one check of the registry (`ccverify.checks`).

    A named tuple, because some sixty are made for every quote and a frozen dataclass takes
    four times as long to build.

    Attributes:
        code: the check's stable name, such as ``TDX-QUOTE-SIGNATURE``.
        state: how the check ended.
        expected: what would pass, as text; None where that says nothing more than the title.
        found: what the evidence says, or the reason of NOT_CHECKED and NOT_APPLICABLE.
        where: byte range, JSON path or certificate the finding is about.
        assurance: what the value in `found` rests on.
        subject: the device the finding is about, such as ``gpu-0`` or ``nvswitch-3``; None for
            the TD and for the node as a whole.
    """

    code: str
    state: State
    expected: str | None = None
    found: str | None = None
    where: str | None = None
    assurance: Assurance = Assurance.NONE
    subject: str | None = None


# What a PASS costs is paid some fifty times for each quote: skip the named tuple's own
# constructor and the look-up of enum members.
_new = tuple.__new__
_PASS, _HARDWARE = State.PASS, Assurance.HARDWARE


class FindingList:
    """Findings in the order in which the checks were made, all about one subject."""

    __slots__ = ("_findings", "_subject")

    def __init__(self, subject: str | None = None) -> None:
        self._findings: list[Finding] = []
        self._subject = subject

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._findings)

    def add(self, finding: Finding) -> None:
        """Append a finding made elsewhere."""
        self._findings.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Append findings made elsewhere, in their order."""
        self._findings.extend(findings)

    def passed(
        self,
        code: str,
        found: str | None = None,
        where: str | None = None,
        assurance: Assurance = Assurance.HARDWARE,
    ) -> None:
        """The check passed."""
        self._findings.append(
            _new(Finding, (code, _PASS, None, found, where, assurance, self._subject))
        )

    def failed(
        self,
        code: str,
        expected: str,
        found: str,
        where: str | None = None,
        assurance: Assurance = Assurance.NONE,
    ) -> None:
        """The check failed: `found` is not `expected`."""
        self._findings.append(
            Finding(code, State.FAIL, expected, found, where, assurance, self._subject)
        )

    def skipped(self, code: str, reason: str, where: str | None = None) -> None:
        """The check could not be made."""
        self._findings.append(
            Finding(code, State.NOT_CHECKED, None, reason, where, subject=self._subject)
        )

    def not_applicable(self, code: str, reason: str) -> None:
        """The check has no meaning for this evidence."""
        self._findings.append(
            Finding(code, State.NOT_APPLICABLE, None, reason, subject=self._subject)
        )

    def ended(
        self, code: str, problem: str | None, *, expected: str, found: str, where: str | None = None
    ) -> bool:
        """Record PASS with `found` where there is no problem, FAIL with the problem otherwise."""
        if problem is None:
            self._findings.append(
                _new(Finding, (code, _PASS, None, found, where, _HARDWARE, self._subject))
            )
        else:
            self.failed(code, expected, problem, where)
        return problem is None
