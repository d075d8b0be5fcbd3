"""Trust anchors: whom the verifier believes without proof.

An anchor is a name, a public key and the digest of the one certificate that may carry them
(the idea of RFC 5914); no chain in evidence or collateral can bring its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property

from ccverify.errors import CcverifyError, TrustError
from ccverify.trust.signatures import EcPublicKey, SignatureMemory
from ccverify.trust.x509 import Certificate, parse_certificate, parse_pem_chain

__all__ = ["INTEL_SGX_ROOT_CA", "TrustAnchor", "TrustKind", "TrustStore"]


@dataclass(frozen=True)
class TrustAnchor:
    """One root CA, pinned."""

    label: str
    subject: bytes
    """DER of the root's subject name."""
    public_key: EcPublicKey
    certificate_sha256: bytes
    not_before: datetime
    not_after: datetime
    key_id: bytes | None = None

    @classmethod
    def from_certificate(cls, certificate: Certificate) -> TrustAnchor:
        """Pin a root certificate.

        Raises:
            TrustError: it is not a self-issued CA certificate.
        """
        if certificate.subject != certificate.issuer or not certificate.is_ca:
            raise TrustError(
                "a trust anchor must be a self-issued CA certificate",
                found=certificate.subject_text,
                hint="name the root certificate, not an intermediate or a leaf",
            )
        return cls(
            label=certificate.subject_text,
            subject=certificate.subject,
            public_key=certificate.public_key,
            certificate_sha256=certificate.sha256,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            key_id=certificate.subject_key_id,
        )

    @classmethod
    def load(cls, data: bytes) -> TrustAnchor:
        """Pin a root certificate given as PEM or DER.

        Raises:
            TrustError: not exactly one certificate, or not a self-issued CA.
        """
        try:
            if b"-----BEGIN" in data[:4096]:
                chain = parse_pem_chain(data, TrustError)
                if len(chain) != 1:
                    raise TrustError("expected one root certificate", found=f"{len(chain)}")
                return cls.from_certificate(chain[0])
            return cls.from_certificate(parse_certificate(data, TrustError))
        except CcverifyError as problem:
            raise TrustError(problem.message, found=problem.found, hint=problem.hint) from None


INTEL_SGX_ROOT_CA = TrustAnchor(
    label="Intel SGX Root CA",
    subject=bytes.fromhex(
        "3068311a301806035504030c11496e74656c2053475820526f6f74204341311a3018060355040a0c1149"
        "6e74656c20436f72706f726174696f6e3114301206035504070c0b53616e746120436c617261310b3009"
        "06035504080c024341310b3009060355040613025553"
    ),
    public_key=EcPublicKey(
        "P-256",
        bytes.fromhex(
            "0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5"
            "67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"
        ),
    ),
    certificate_sha256=bytes.fromhex(
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
    ),
    not_before=datetime(2018, 5, 21, 10, 45, 10, tzinfo=UTC),
    not_after=datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
    key_id=bytes.fromhex("22650cd65a9d3489f383b49552bf501b392706ac"),
)
"""Root of every Intel SGX and TDX provisioning chain; Intel publishes it with its PCS."""


class TrustKind(str, Enum):
    """What kind of roots a store holds; a verdict always says which."""

    PRODUCTION = "production"
    """Exactly the vendors' roots pinned in this package."""
    SIMULATED = "simulated"
    """Roots of `ccverify.sim`: a verdict under them says nothing about any real machine."""
    INSECURE = "insecure"
    """Roots named by the user; no verdict under them is ever trusted."""


@dataclass(frozen=True)
class TrustStore:
    """The trust anchors of one verification, and its memory of valid signatures."""

    kind: TrustKind
    intel_root: TrustAnchor
    memory: SignatureMemory = field(default_factory=SignatureMemory, compare=False, repr=False)

    @classmethod
    def production(cls) -> TrustStore:
        """The vendors' roots pinned in this package."""
        return cls(TrustKind.PRODUCTION, INTEL_SGX_ROOT_CA)

    def __post_init__(self) -> None:
        if self.kind is TrustKind.PRODUCTION and self.intel_root != INTEL_SGX_ROOT_CA:
            raise TrustError(
                "a production trust store holds only the roots pinned in ccverify",
                found=self.intel_root.label,
                hint="use TrustKind.SIMULATED or TrustKind.INSECURE for other roots",
            )

    @cached_property
    def digest(self) -> str:
        """SHA-384 (hex) over kind and anchors: names the store in a verdict."""
        anchor = self.intel_root
        text = "\n".join(
            (
                "ccverify/trust-store/v1",
                self.kind.value,
                f"intel {anchor.certificate_sha256.hex()} {anchor.public_key.point.hex()}",
            )
        )
        return hashlib.sha384(text.encode()).hexdigest()
