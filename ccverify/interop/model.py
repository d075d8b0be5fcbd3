"""What a foreign document holds: nodes with evidence, and results of other verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ccverify.evidence import Assertion, Evidence

__all__ = [
    "DetachedEat",
    "ForeignEvidence",
    "Jwt",
    "JwtTimes",
    "Submodule",
]


@dataclass(frozen=True, slots=True)
class JwtTimes:
    """Time claims, seconds since 1970; None where absent.  Nothing here compares them."""

    issued_at: int | None
    not_before: int | None
    expires: int | None


@dataclass(frozen=True, slots=True)
class Jwt:
    """One JSON Web Token, taken apart and not verified.

    Attributes:
        text: the token as sent.
        algorithm: header ``alg``: ``ES384``, ``HS256`` or ``none``.
        key_id: header ``kid``.
        claims: the claims set.
        times: its time claims.
        issuer: claim ``iss``.
        nonce: claim ``eat_nonce``, 32 bytes; None where absent or not 64 hex digits.
        signing_input: the octets a signature covers (RFC 7515 section 2).
        signature: 96 octets for ES384, 32 for HS256, none for ``none``.
    """

    text: str
    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]
    times: JwtTimes
    issuer: str | None
    nonce: bytes | None
    signing_input: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Submodule:
    """One device's token in a detached EAT, and the digest that should hold it in place.

    Attributes:
        name: ``GPU-0``, ``SWITCH-0`` ...
        token: None where only the digest is there.
        stated_digest: the digest in the overall token; None where it has none.
        computed_digest: SHA-256 of the token's text.
        problem: why token and overall token do not belong together; None if they do.
    """

    name: str
    token: Jwt | None
    stated_digest: bytes | None
    computed_digest: bytes | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class DetachedEat:
    """A verifier's result about devices: an overall token and one token for each device.

    Attributes:
        overall: the token that lists the digests of the others.
        submodules: by name, every name that is in either place.
        source: path in the source.
        nested: further EATs in place of a device's token (NVIDIA's Python SDK wraps once).
    """

    overall: Jwt
    submodules: tuple[Submodule, ...]
    source: str
    nested: tuple[DetachedEat, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignEvidence:
    """Everything read out of one foreign document.

    Attributes:
        format: name of the format, as in `ccverify.interop.detect.KNOWN_FORMATS`.
        nodes: every machine; empty where the document holds results only.
        results: verdicts of other verifiers, which are not evidence.
        asserted: what the service says about the whole.
        not_read: paths of evidence this version leaves aside.
    """

    format: str
    nodes: tuple[Evidence, ...]
    results: tuple[DetachedEat, ...] = ()
    asserted: tuple[Assertion, ...] = ()
    not_read: tuple[str, ...] = ()
