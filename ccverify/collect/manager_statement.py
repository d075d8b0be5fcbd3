"""The statement of a fabric's manager in a tenant's own bundle: a file the host handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ccverify.bundle.manifest import MAX_ITEM_BYTES
from ccverify.bundle.package import parse_bundle
from ccverify.bundle.statement_items import statement_items
from ccverify.collect.model import Absence, Ask, Item, ItemType, Outcome, Stage
from ccverify.errors import EvidenceError, UsageError

__all__ = ["MAX_STATEMENT_BYTES", "STATEMENT_LABEL", "StatementFile"]

STATEMENT_LABEL: Final = "fabric-statement"
MAX_STATEMENT_BYTES: Final = MAX_ITEM_BYTES
"""A statement is an item of a tenant's bundle."""
_MADE_BY: Final = "`ccverify collect --role fabric-manager` on the manager's host"


class StatementFile:
    """A statement, put into the bundle as it is: judging it is for the verifier.

    Args:
        data: the file.
        name: of the file, for people.

    Raises:
        UsageError: it is no bundle, or a bundle of something else than a manager's host.
    """

    stage = Stage.LOGS
    gives: tuple[str, ...] = (STATEMENT_LABEL,)

    def __init__(self, data: bytes, name: str) -> None:
        self.name = f"file {name}"[:128]
        if len(data) > MAX_STATEMENT_BYTES:
            raise _no_statement(f"{len(data)} bytes, at most {MAX_STATEMENT_BYTES} fit", name)
        try:
            bundle = parse_bundle(data)
        except EvidenceError as problem:
            raise _no_statement(problem.message, name) from None
        if statement_items(bundle) is None:
            raise _no_statement(f"a bundle of {', '.join(bundle.items) or 'nothing'}"[:200], name)
        self._data = data

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Give the file."""
        return (Item(STATEMENT_LABEL, ItemType.FABRIC_STATEMENT, self._data, self.name),)

    def diagnose(self) -> Sequence[Absence]:
        """It is in memory."""
        return ()


def _no_statement(found: str, name: str) -> UsageError:
    return UsageError(
        "the file is no statement of a fabric's manager",
        expected=f"what {_MADE_BY} wrote",
        found=found,
        where=name,
        hint="ask the operator of the fabric for a statement with the nonce or epoch that your "
        "relying party names",
    )
