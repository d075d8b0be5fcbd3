"""Statements of a fabric's manager, opened: what judging them starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any as Json
from typing import Final

from ccverify.fabric.statement_model import FabricStatement
from ccverify.fabric.statement_place import GuidMatch
from ccverify.findings import Assurance, Finding
from ccverify.policy.judge_fabric import STRENGTH

__all__ = ["Fresh", "Place", "Stated", "weakest"]

_NO_GUIDS: Final = GuidMatch(reason="no GUIDs were compared")


@dataclass(frozen=True, slots=True)
class Stated:
    """A statement, opened.

    Attributes:
        digest: SHA-384 of it, 48 bytes.
        statement: what it says; None where it cannot be read.
        nonce: that it answers, 32 bytes.
        created: when it was made, Unix seconds by its host's clock.
        collector: the program that made it.
        level: what everything in it rests on.
        key: the finding FABRIC-STATEMENT-KEY.
        manager: the finding FABRIC-MANAGER.
        platform: of the quote that binds its key, where the policy accepts that one.
        bound_by: ``tdx``, ``tpm``, ``x509``: what binds its key.
        identity: by each of these, who that is.
        problem: why it cannot be read: expected, found and place.
    """

    digest: bytes
    statement: FabricStatement | None = None
    nonce: bytes = b""
    created: int = 0
    collector: str = ""
    level: Assurance = Assurance.NONE
    key: Finding | None = None
    manager: Finding | None = None
    platform: str | None = None
    bound_by: tuple[str, ...] = ()
    identity: Mapping[str, Json] = field(default_factory=dict)
    problem: tuple[str, str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What shows that the latest statement is about the tenant's own board.

    Attributes:
        same_platform: whether the manager's TDX quote and the tenant's are of one platform; None
            where one of them has none that counts.
        guids: what GUIDs of GPUs say.
    """

    same_platform: bool | None = None
    guids: GuidMatch = _NO_GUIDS

    @property
    def shown(self) -> bool:
        """Whether it is shown."""
        if self.same_platform is not None:
            return self.same_platform
        return not self.guids.reason


@dataclass(frozen=True, slots=True)
class Fresh:
    """What makes a statement fresh.

    Attributes:
        nonce: the relying party's own; None where none was sent.
        epoch: a nonce that many relying parties know, 32 bytes; None where none was given.
        now: evaluation time, Unix seconds.
        waived: whether the policy does without freshness.
    """

    nonce: bytes | None
    epoch: bytes | None
    now: int
    waived: bool


def weakest(stated: Iterable[Stated]) -> Assurance:
    """What all of them together rest on."""
    return min((one.level for one in stated), key=STRENGTH.__getitem__, default=Assurance.NONE)
