"""Trust anchors, and the vendors' roots that are pinned in this package.

An anchor is a name, a public key and the digest of the one certificate that may carry them
(the idea of RFC 5914); no chain in evidence or collateral can bring its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ccverify.errors import CcverifyError, TrustError
from ccverify.trust.signatures import EcPublicKey
from ccverify.trust.x509 import Certificate, parse_certificate, parse_pem_chain

__all__ = [
    "INTEL_SGX_ROOT_CA",
    "NVIDIA_CORIM_SIGNING_ROOT_CA",
    "NVIDIA_DEVICE_IDENTITY_CA",
    "TrustAnchor",
]


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

NVIDIA_DEVICE_IDENTITY_CA = TrustAnchor(
    label="NVIDIA Device Identity CA",
    subject=bytes.fromhex(
        "30353122302006035504030c194e564944494120446576696365204964656e74697479204341310f300d"
        "060355040a0c064e5649444941"
    ),
    public_key=EcPublicKey(
        "P-384",
        bytes.fromhex(
            "0e4c14a33bf8a5626658db4129607e4cbf4519c4412716f4d0d917c4978005bdeabeaefd57bc66082d718a4f"
            "8b6052e1516ee8a7c422b84de857071bb58fd395bea0cfa1c63ee7c80d6bd63901d91cbbd187d3857dc16b5c"
            "ceaf238ff8c27dbd"
        ),
    ),
    certificate_sha256=bytes.fromhex(
        "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
    ),
    not_before=datetime(2021, 11, 5, tzinfo=UTC),
    not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    key_id=bytes.fromhex("5785ff83f263cc657d68b73a5bf48d4acbfb495f"),
)
"""Root of every NVIDIA GPU and NVSwitch identity chain."""

NVIDIA_CORIM_SIGNING_ROOT_CA = TrustAnchor(
    label="NVIDIA CoRIM signing Root CA",
    subject=bytes.fromhex(
        "3045310b3009060355040613025553310f300d060355040a0c064e56494449413125302306035504030c"
        "1c4e564944494120436f52494d207369676e696e6720526f6f74204341"
    ),
    public_key=EcPublicKey(
        "P-384",
        bytes.fromhex(
            "b840b28bdbcd33e230da57d4cf2065747030682d4717b4c2829d7641c1325139b74da831c2be3c779e7e2b65"
            "489566080e4ecd94021075c57f15fedeb862c8f906ae8fddc7b12238597dbdf0fa56e78453833f6d0be43af3"
            "871a47f057584799"
        ),
    ),
    certificate_sha256=bytes.fromhex(
        "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"
    ),
    not_before=datetime(2023, 3, 16, 15, 37, 34, tzinfo=UTC),
    not_after=datetime(2053, 3, 8, 15, 37, 34, tzinfo=UTC),
    key_id=bytes.fromhex("a5a5eb38f2b8643024d3c0c1b249f9f78cde6630"),
)
"""Root of the signers of NVIDIA's reference integrity manifests (RIM)."""
