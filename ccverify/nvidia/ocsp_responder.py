"""Who signed an OCSP response (RFC 6960 §4.2.2.2): the issuer, or a responder it certified."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccverify.nvidia.ocsp import OcspResponse, key_bits
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.signatures import EcPublicKey, SignatureMemory
from ccverify.trust.x509 import Certificate, issue_problem

__all__ = ["Responder", "issuer_key_id", "verify_responder"]

_EXTENDED_KEY_USAGE = "2.5.29.37"
_ALGORITHMS = {
    "P-256": bytes.fromhex("300a06082a8648ce3d040302"),
    "P-384": bytes.fromhex("300a06082a8648ce3d040303"),
}
"""Curve of the signer's key → DER of the AlgorithmIdentifier that goes with it (RFC 5758 §3.2)."""


@dataclass(frozen=True, slots=True)
class Responder:
    """Who signed an OCSP response.

    Attributes:
        delegate: the certificate of a delegated responder; None if the issuer itself signed.
        exempt: the delegate's issuer asks nobody to look up its revocation
            (id-pkix-ocsp-nocheck, RFC 6960 §4.2.2.2.1).
        problem: why it is signed by nobody who may; None if it is.
    """

    delegate: Certificate | None
    exempt: bool
    problem: str | None


def issuer_key_id(issuer: Certificate | TrustAnchor) -> bytes | None:
    """Return the subject key identifier of a CA or an anchor."""
    return issuer.key_id if isinstance(issuer, TrustAnchor) else issuer.subject_key_id


def verify_responder(
    response: OcspResponse,
    issuer: Certificate | TrustAnchor,
    memory: SignatureMemory,
) -> Responder:
    """Check that the issuer, or a responder it certified, signed (RFC 6960 §4.2.2.2).

    Validity period and revocation of a delegated responder are left to the caller, as are
    those of the issuer.
    """
    problem = "it is not signed by the issuer, and brings no certificate of its responder"
    if _names(response, issuer):
        fault = _signature_problem(response, issuer.public_key, memory)
        if fault is None:
            return Responder(None, False, None)
        problem = f"the issuer: {fault}"
    for delegate in response.certificates:
        if not _names(response, delegate) or delegate.public_key == issuer.public_key:
            continue
        fault, exempt = _delegate_problem(delegate, issuer, memory)
        fault = fault or _signature_problem(response, delegate.public_key, memory)
        if fault is None:
            return Responder(delegate, exempt, None)
        problem = f"{delegate.subject_text}: {fault}"
    return Responder(None, False, problem)


def _names(response: OcspResponse, who: Certificate | TrustAnchor) -> bool:
    """Whether the responder id is that of `who`."""
    if response.responder_name is not None:
        return response.responder_name == who.subject
    digest = hashlib.sha1(key_bits(who.public_key), usedforsecurity=False).digest()
    return response.responder_key_hash == digest


def _signature_problem(
    response: OcspResponse, key: EcPublicKey, memory: SignatureMemory
) -> str | None:
    if response.signature_algorithm != _ALGORITHMS[key.curve]:
        return f"the signature algorithm of the response does not fit its key on {key.curve}"
    if not memory.verify_der(key, response.signature, response.tbs):
        return "the signature of the response does not verify under its key"
    return None


def _delegate_problem(
    delegate: Certificate,
    issuer: Certificate | TrustAnchor,
    memory: SignatureMemory,
) -> tuple[str | None, bool]:
    """Say why a certificate may not answer for the issuer, and whether it has ocsp-nocheck."""
    read = _read_delegate(delegate)
    if not read.signs_responses:
        return "its extended key usage lacks id-kp-OCSPSigning", read.exempt
    if delegate.is_ca:
        return "it is a CA, not an OCSP responder", read.exempt
    if not delegate.signs_data and read.has_key_usage:
        return "its key usage lacks digitalSignature", read.exempt
    problem = issue_problem(
        read.understood, issuer.subject, issuer.public_key, issuer_key_id(issuer), memory
    )
    return problem, read.exempt


class _Delegate(NamedTuple):
    """What a responder's certificate says; `understood` lists no known extension as unknown."""

    signs_responses: bool
    has_key_usage: bool
    exempt: bool
    understood: Certificate


# A pure function of the bytes: one responder answers for many certificates.
@lru_cache(maxsize=64)
def _read_delegate(delegate: Certificate) -> _Delegate:
    extensions = x509.load_der_x509_certificate(delegate.der).extensions
    values = [extension.value for extension in extensions]
    purposes = [purpose for v in values if isinstance(v, x509.ExtendedKeyUsage) for purpose in v]
    # Extended key usage is understood here, as it is not in a chain of devices.
    unknown = tuple(oid for oid in delegate.unknown_critical if oid != _EXTENDED_KEY_USAGE)
    return _Delegate(
        signs_responses=ExtendedKeyUsageOID.OCSP_SIGNING in purposes,
        has_key_usage=any(isinstance(v, x509.KeyUsage) for v in values),
        exempt=any(isinstance(v, x509.OCSPNoCheck) for v in values),
        understood=replace(delegate, unknown_critical=unknown),
    )
