"""Results of other verifiers (detached EATs): shown, never believed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ccverify.clock_text import utc_text
from ccverify.interop.model import DetachedEat, Jwt, Submodule
from ccverify.results.render.inspection import Group, Item, Listing, Part, Section

__all__ = ["result_group"]

_NOTICE = (
    "Another verifier's opinion. It is no evidence: what it was formed from is not here, and no "
    "signature was checked."
)
_UNSIGNED = {
    "HS256": "made with a shared secret: whoever can check it can forge it",
    "none": "signed by nobody",
}


def result_group(results: Sequence[DetachedEat]) -> Group:
    """Return every result: its overall token, and each device's token with its claims."""
    members = tuple(
        (f"Result {number}" if len(results) > 1 else "Result", _result(result))
        for number, result in enumerate(results, 1)
    )
    return Group("results", members)


def _result(result: DetachedEat) -> tuple[Part, ...]:
    parts: list[Part] = [
        *_token("overall", "Overall token", result.overall),
        Listing(
            "submodules",
            "Devices: asserted, proves nothing",
            ("name", "algorithm", "digest", "problem"),
            tuple(map(_submodule, result.submodules)),
            notice=_NOTICE,
        ),
    ]
    tokens = tuple(
        (f"Token of {one.name}", _token("token", "Token", one.token, one.name))
        for one in result.submodules
        if one.token is not None
    )
    if tokens:
        parts.append(Group("tokens", tokens))
    if result.nested:
        parts.append(result_group(result.nested))
    return tuple(parts)


_SHOWN_ALREADY = frozenset({"iss", "iat", "nbf", "exp", "eat_nonce", "submods"})


def _token(key: str, title: str, token: Jwt, name: str = "") -> tuple[Part, ...]:
    times = token.times
    items = (
        Item("algorithm", token.algorithm, _UNSIGNED.get(token.algorithm, "")),
        Item("key_id", token.key_id),
        Item("issuer", token.issuer),
        Item("nonce", token.nonce.hex() if token.nonce else None),
        Item("issued_at", _time(times.issued_at)),
        Item("not_before", _time(times.not_before)),
        Item("expires", _time(times.expires)),
    )
    named = (Item("name", name),) if name else ()
    claims = [Item(n, value) for n, value in token.claims.items() if n not in _SHOWN_ALREADY]
    return (
        Section(key, title, (*named, *items)),
        Section(f"{key}_claims", "Its claims: asserted, proves nothing", tuple(claims)),
    )


_START = datetime(1970, 1, 1, tzinfo=UTC)


def _submodule(one: Submodule) -> dict[str, Any]:
    stated, computed = one.stated_digest, one.computed_digest
    return {
        "name": one.name,
        "algorithm": one.token.algorithm if one.token else None,
        "digest": _compared(stated, computed),
        "stated_digest": stated.hex() if stated else None,
        "computed_digest": computed.hex() if computed else None,
        "problem": one.problem,
    }


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else utc_text(_START + timedelta(seconds=seconds))


def _compared(stated: bytes | None, computed: bytes | None) -> str:
    if stated is None:
        return "not stated"
    if computed is None:
        return "no token"
    return "matches" if stated == computed else "differs"
