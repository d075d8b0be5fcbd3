"""Every error ccverify raises on purpose.

One base class, `CcverifyError`, and one subclass per party at fault: the caller, the
attester, whoever supplied collateral, trust anchors or a policy.  A verdict is never an
error: judging bad evidence yields findings (see `ccverify.findings`), and only parsing,
called on its own, raises.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CcverifyError",
    "CollateralError",
    "EvidenceError",
    "PolicyError",
    "TrustError",
    "UsageError",
]


_MAX_CHARACTERS = 1000
"""Of each part of an error: hostile text may be quoted in it."""


class CcverifyError(Exception):
    """Base of all declared errors; never raised itself.

    Args:
        message: one sentence, what went wrong.
        expected: what would have been right.
        found: what was there instead.
        where: byte range (``quote[48:632]``), JSON path or file name.
        hint: what the reader can do about it.
    """

    code: ClassVar[str] = "ERROR"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        if type(self) is CcverifyError:
            raise TypeError("raise a subclass of CcverifyError, not the base class")
        super().__init__(_printable(message))
        self.message = _printable(message)
        self.expected = expected and _printable(expected)
        self.found = found and _printable(found)
        self.where = where and _printable(where)
        self.hint = hint and _printable(hint)

    @property
    def summary(self) -> str:
        """The message with what was found, as one line: for a finding."""
        return f"{self.message}: {self.found}" if self.found else self.message

    def diagnostics(self) -> str:
        """Return the error as a few lines of text for a person."""
        lines = [self.message]
        for label, value in (
            ("expected", self.expected),
            ("found", self.found),
            ("where", self.where),
            ("what to do", self.hint),
        ):
            if value is not None:
                lines.append(f"  {label}: {value}")
        return "\n".join(lines)


def _printable(text: str) -> str:
    """Spell out lone surrogates, which no output can carry, and cut what is too long to read."""
    if len(text) > _MAX_CHARACTERS:
        text = text[:_MAX_CHARACTERS] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class UsageError(CcverifyError):
    """The caller asked for something impossible (wrong option, wrong argument)."""

    code = "USAGE"
    exit_code = 1


class EvidenceError(CcverifyError):
    """The attester sent bytes that are not well-formed evidence."""

    code = "EVIDENCE-FORMAT"
    exit_code = 2


class CollateralError(CcverifyError):
    """Collateral (TCB info, QE identity, CRL, issuer chain) is malformed or cannot be had."""

    code = "COLLATERAL-FORMAT"
    exit_code = 5


class TrustError(CcverifyError):
    """A trust anchor is unusable: not a CA, wrong curve, unreadable."""

    code = "TRUST-ANCHOR"
    exit_code = 1


class PolicyError(CcverifyError):
    """A policy document does not say what a policy may say."""

    code = "POLICY-FORMAT"
    exit_code = 1
