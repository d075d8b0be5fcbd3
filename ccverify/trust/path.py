"""Certification paths of fixed shape, from an end entity to a pinned root (RFC 5280 §6).

Vendor attestation chains do not need path building: their depth and the role of every
certificate are known.  Validity periods and revocation are judged by the caller, because
they depend on the evaluation time and on collateral.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ccverify.clock_text import utc_text
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import Certificate, issue_problem, validity_problem

__all__ = ["CertificateRole", "Path", "path_validity_problem", "verify_path"]


@dataclass(frozen=True, slots=True)
class CertificateRole:
    """What one certificate of a path must be."""

    common_names: tuple[str, ...]
    is_ca: bool
    curve: str


@dataclass(frozen=True, slots=True)
class Path:
    """A checked path: certificates below the root, end entity first, and what is wrong."""

    certificates: tuple[Certificate, ...]
    problem: str | None


def verify_path(
    chain: Sequence[Certificate],
    roles: Sequence[CertificateRole],
    root: TrustAnchor,
    memory: SignatureMemory,
) -> Path:
    """Check that `chain` leads from the first role to the pinned root.

    Args:
        chain: end entity first; the root certificate at the end may be left out.
        roles: one per certificate below the root, in the same order.
        root: the trust anchor; a root in the chain must be exactly this certificate.
        memory: signature memory.
    """
    path = tuple(chain)
    if path and path[-1].subject == path[-1].issuer:
        digest = path[-1].sha256
        path = path[:-1]
        if digest != root.certificate_sha256:
            return Path(path, f"it ends in a root that is not pinned, SHA-256 {digest.hex()}")
    if len(path) != len(roles):
        return Path(path, f"it has {len(path)} certificates below the root, not {len(roles)}")
    issuer = (root.subject, root.public_key, root.key_id)
    below = len(path)
    for certificate, role in zip(reversed(path), reversed(roles), strict=True):
        below -= 1
        problem = issue_problem(certificate, *issuer, memory) or _role_problem(
            certificate, role, below
        )
        if problem is not None:
            return Path(path, f"{certificate.subject_text}: {problem}")
        issuer = (certificate.subject, certificate.public_key, certificate.subject_key_id)
    return Path(path, None)


def path_validity_problem(
    certificates: Iterable[Certificate], root: TrustAnchor, now: datetime
) -> str | None:
    """Say why the root or one of the certificates is not valid at `now`; None if all are."""
    if not root.not_before <= now <= root.not_after:
        window = f"{utc_text(root.not_before)} to {utc_text(root.not_after)}"
        return f"{root.label} is valid from {window}"
    problems = (validity_problem(certificate, now) for certificate in certificates)
    return next((problem for problem in problems if problem), None)


def _role_problem(certificate: Certificate, role: CertificateRole, below: int) -> str | None:
    """Say why a certificate does not fit its role; `below` certificates follow it."""
    if certificate.common_name not in role.common_names:
        return f"its common name is not {' or '.join(role.common_names)}"
    if certificate.is_ca != role.is_ca:
        return "it is a CA, not an end entity" if certificate.is_ca else "it is not a CA"
    if certificate.public_key.curve != role.curve:
        return f"its key is not on {role.curve}"
    if not role.is_ca:
        return None if certificate.signs_data else "its key usage lacks digitalSignature"
    if not certificate.signs_certificates:
        return "its key usage lacks keyCertSign"
    # pathLenConstraint counts intermediate CAs, so the end entity below is free.
    if certificate.path_length is not None and certificate.path_length < below - 1:
        return "its path length constraint is too short"
    return None
