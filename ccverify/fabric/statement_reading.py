"""A statement being read: what is wrong with its items, and what they do not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha384
from typing import TypeVar

from ccverify.errors import EvidenceError
from ccverify.fabric.manager import ManagerFacts
from ccverify.fabric.statement_model import (
    FACTS_LABEL,
    Dump,
    StatementCode,
    StatementGap,
    StatementProblem,
)

__all__ = ["StatementReading"]

_T = TypeVar("_T")


class StatementReading:
    """The dumps, each read at most once, and a log of what came of it.

    Args:
        facts: of the statement.
        dumps: label → bytes.
    """

    __slots__ = ("_dumps", "_facts", "gaps", "problems")

    def __init__(self, facts: ManagerFacts, dumps: Mapping[str, bytes]) -> None:
        self._facts = facts
        self._dumps = dumps
        self.problems: list[StatementProblem] = []
        self.gaps: list[StatementGap] = []

    def digests(self, facts: bytes) -> dict[str, str]:
        """Label → SHA-384 in hex; every dump that is not what the facts say is a problem."""
        found = {FACTS_LABEL: sha384(facts).hexdigest()}
        for label, data in self._dumps.items():
            digest = found[label] = sha384(data).hexdigest()
            source = self._facts.source(label)
            if source is not None and (source.sha384, source.size) != (digest, len(data)):
                self.problem(
                    StatementCode.STATEMENT,
                    label,
                    f"{source.size} bytes of SHA-384 {source.sha384[:16]}…, as the facts say",
                    f"{len(data)} bytes of SHA-384 {digest[:16]}…",
                )
        return found

    def parsed(self, dump: Dump, parse: Callable[[bytes], _T]) -> _T | None:
        """Read a dump; None where it is not there, and where it cannot be read."""
        data = self._dumps.get(dump.value)
        if data is None:
            return None
        try:
            return parse(data)
        except EvidenceError as error:
            self.refused(StatementCode.STATEMENT, dump.value, error)
            return None

    def has(self, dump: Dump) -> bool:
        """Whether a dump is there, readable or not."""
        return dump.value in self._dumps

    def problem(self, code: StatementCode, where: str, expected: str, found: str) -> None:
        """Record what is wrong."""
        self.problems.append(StatementProblem(code, where, expected, found))

    def refused(self, code: StatementCode, where: str, error: EvidenceError) -> None:
        """Record what could not be read, or put together."""
        found = f"{error.summary} ({error.where})" if error.where else error.summary
        self.problem(code, where, error.expected or "what can be read", found)

    def gap(self, dump: Dump, reason: str) -> None:
        """Record what no route can be judged by; a dump that is there says why itself."""
        if not self.has(dump):
            self.gaps.append(StatementGap(StatementCode.ROUTING, dump.value, reason))
