"""Values of a policy, written as its document writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Json

from ccverify.policy.model import Accepted, VersionPolicy

__all__ = ["accepted", "hexes", "stated", "versions"]


def stated(**members: Json) -> dict[str, Json]:
    """Return the members that say something."""
    return {name: value for name, value in members.items() if value is not None}


def hexes(values: Iterable[bytes]) -> list[str]:
    """Return a set of bytes in hex, sorted."""
    return sorted(value.hex() for value in values)


def accepted(value: Accepted) -> Json:
    """Return accepted values: a list, the word ``any``, or None."""
    if value is None:
        return None
    return hexes(value) if isinstance(value, frozenset) else "any"


def versions(rule: VersionPolicy) -> dict[str, Json]:
    """Return a rule on versions."""
    return stated(
        min=rule.minimum,
        accepted=None if rule.accepted is None else sorted(rule.accepted),
        rejected=sorted(rule.rejected),
    )
