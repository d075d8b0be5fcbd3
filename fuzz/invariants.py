"""What must hold whatever bytes come; a target raises `Violation` when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ccverify.errors import CcverifyError

__all__ = [
    "MAX_ERROR_CHARACTERS",
    "Violation",
    "declared",
    "holds",
    "printable",
    "strict_json_text",
]

MAX_ERROR_CHARACTERS = 8192
"""An error goes to logs and to the other side: it stays short whatever was sent."""

_T = TypeVar("_T")


class Violation(AssertionError):
    """An invariant does not hold."""


def holds(condition: object, what: str) -> None:
    """Raise `Violation` unless `condition` is true."""
    if not condition:
        raise Violation(what)


def declared(error: type[CcverifyError], parse: Callable[[], _T]) -> _T | None:
    """Return what `parse` returns, or None when it raises the one declared error.

    Anything else that it raises goes on as it is: that is the finding.
    """
    try:
        return parse()
    except error as problem:
        text = problem.diagnostics()
        holds(type(problem) is error, f"{type(problem).__name__} is not {error.__name__}")
        holds(problem.message and str(problem), "an error says nothing")
        holds(len(text) <= MAX_ERROR_CHARACTERS, f"an error of {len(text)} characters")
        holds(_encodes(text), "an error cannot be printed as UTF-8")
        return None


def strict_json_text(text: str) -> Any:
    """Parse JSON that we wrote: RFC 8259, so no NaN or Infinity, and encodable as UTF-8."""
    holds(_encodes(text), "output cannot be encoded as UTF-8")
    return json.loads(text, parse_constant=_no_constant)


def printable(text: str) -> None:
    """Text for a terminal: no control character but line ends, nothing that hides or reorders."""
    holds(text.replace("\n", "").isprintable(), "output would control a terminal")


def _no_constant(name: str) -> NoReturn:
    raise Violation(f"output is not JSON: it holds {name}")


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
