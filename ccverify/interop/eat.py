"""Detached EATs: what NRAS, nvattest and NVIDIA's local verifiers answer.

``[["JWT", overall], {"GPU-0": token, "SWITCH-0": token}]``; the overall token's ``submods`` hold
``["DIGEST", ["SHA-256", hex]]``, the SHA-256 of each other token's text.  ``nvattest attest``
wraps this as ``{"detached_eat": [...], "claims": [...], "result_code": 0}``, and the Python SDK
puts a whole EAT in place of a token.  These are verdicts of somebody else, not evidence.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from ccverify.interop.devices import MAX_DEVICES, assertions
from ccverify.interop.elements import Element
from ccverify.interop.jwt import parse_jwt
from ccverify.interop.model import DetachedEat, ForeignEvidence, Jwt, Submodule

__all__ = ["FORMAT", "matches", "parse", "parse_detached_eat"]

FORMAT: Final = "detached-eat"

# NRAS writes SHA-256; NVIDIA's local verifiers write SHA256.
_DIGEST_NAMES: Final = ("SHA-256", "SHA256")
_DIGEST_BYTES: Final = 32
_MAX_NESTING: Final = 2


def matches(document: Any) -> bool:
    """Whether the document is a detached EAT, bare or in the answer of ``nvattest attest``."""
    if isinstance(document, dict):
        return "detached_eat" in document
    return (
        isinstance(document, list)
        and len(document) == 2
        and isinstance(document[0], list)
        and document[0][:1] == ["JWT"]
    )


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read a result document; raises as `parse_detached_eat`."""
    top = Element(document)
    if isinstance(document, list):
        return ForeignEvidence(FORMAT, (), (parse_detached_eat(top),))
    return ForeignEvidence(
        FORMAT,
        (),
        (parse_detached_eat(top.member("detached_eat")),),
        assertions(top, ("result_code", "result_message")),
    )


def parse_detached_eat(element: Element, depth: int = 1) -> DetachedEat:
    """Take a detached EAT apart and recompute the digests of its tokens.

    A digest that is missing or does not match is stated as the submodule's `problem`.

    Raises:
        EvidenceError: another structure, a malformed token, a malformed digest, more than
            `MAX_DEVICES` tokens, or EATs nested more than twice.
    """
    if depth > _MAX_NESTING:
        raise element.wrong(f"a detached EAT nested at most {_MAX_NESTING} deep")
    first, tokens = element.items(least=2, most=2)
    kind, overall_text = first.items(least=2, most=2)
    if kind.value != "JWT":
        raise kind.wrong('"JWT"')
    overall = parse_jwt(overall_text)
    digests = _stated_digests(Element(dict(overall.claims), f"{overall_text.path}, claims"))
    parsed: dict[str, Jwt] = {}
    nested = []
    for name, token in tokens.members(most=MAX_DEVICES):
        if isinstance(token.value, list):
            nested.append(parse_detached_eat(token, depth + 1))
        else:
            parsed[name] = parse_jwt(token)
    names = dict.fromkeys((*parsed, *digests))
    submodules = tuple(_submodule(name, parsed.get(name), digests.get(name)) for name in names)
    return DetachedEat(overall, submodules, element.path, tuple(nested))


def _stated_digests(claims: Element) -> dict[str, bytes]:
    submods = claims.optional("submods")
    digests = {}
    for name, entry in submods.members(most=MAX_DEVICES) if submods else ():
        kind, value = entry.items(least=2, most=2)
        if kind.value != "DIGEST":
            raise kind.wrong('"DIGEST"')
        algorithm, digest = value.items(least=2, most=2)
        if algorithm.value not in _DIGEST_NAMES:
            raise algorithm.wrong(" or ".join(_DIGEST_NAMES))
        digests[name] = digest.hex(least=_DIGEST_BYTES, most=_DIGEST_BYTES)
    return digests


def _submodule(name: str, token: Jwt | None, stated: bytes | None) -> Submodule:
    computed = sha256(token.text.encode()).digest() if token else None
    problem = None
    if computed is None:
        problem = "the overall token has a digest of it, and the token itself is missing"
    elif stated is None:
        problem = "the overall token has no digest of it: anyone could have added it"
    elif stated != computed:
        problem = f"digest does not match: overall {stated.hex()}, token {computed.hex()}"
    return Submodule(name, token, stated, computed, problem)
