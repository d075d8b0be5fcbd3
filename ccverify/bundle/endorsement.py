"""What binds a session key where no TDX quote does: a TPM's quote, or an operator's signature.

Both cover the same three values as REPORTDATA: nonce, session key, manifest.  `tpm_qualifying_data`
is what a TPM quotes (`ccverify.tpm`), `operator_payload` what a key with an X.509 certificate
signs (RFC 9360 for the chain).  An operator's signature proves that somebody who holds that key
vouches for the bundle: a promise, and no measurement of anything.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256, sha384
from typing import Any, Final

from ccverify.bundle.cose import CoseKey, Sign1, Signer, parse_sign1, sign1, sign1_problem
from ccverify.bundle.model import ItemType
from ccverify.errors import EvidenceError, UsageError
from ccverify.trust.pkix import (
    MAX_PATH_CERTIFICATES,
    PkixCertificate,
    parse_pkix_certificate,
    verify_pkix_path,
)

__all__ = [
    "MAX_OPERATOR_BYTES",
    "OPERATOR_PURPOSES",
    "X5CHAIN",
    "OperatorResult",
    "OperatorSignature",
    "make_operator_signature",
    "operator_payload",
    "parse_operator_signature",
    "tpm_qualifying_data",
    "verify_operator_signature",
]

X5CHAIN: Final = 33
"""Label of the header parameter with the certificates (RFC 9360 §2)."""
OPERATOR_PURPOSES: Final = ("1.3.6.1.5.5.7.3.3", "1.3.6.1.5.5.7.3.36")
"""Extended key usages of which a certificate that has any must have one: codeSigning (RFC 5280),
documentSigning (RFC 9336).  A key for TLS shall not vouch for machines by accident."""
MAX_OPERATOR_BYTES: Final = 96 * 1024
"""Largest item of this type: five certificates of 16 KiB, and what is around them."""

_TPM_DOMAIN: Final = b"ccverify/tpm-quote/v1"
_OPERATOR_DOMAIN: Final = b"ccverify/operator-signature/v1"
_CONTENT_TYPE: Final = "application/octet-stream"
_PAYLOAD_BYTES: Final = 48
_WHAT: Final = "operator signature"


def tpm_qualifying_data(nonce: bytes, thumbprint: bytes, manifest_sha384: bytes) -> bytes:
    """Return what a TPM quote must carry in extraData, 32 bytes.

    SHA-256("ccverify/tpm-quote/v1" ‖ nonce ‖ thumbprint ‖ SHA-384 of the manifest).

    Args:
        nonce: the relying party's, or an epoch, 32 bytes.
        thumbprint: of the session key, 32 bytes.
        manifest_sha384: 48 bytes.

    Raises:
        UsageError: a value of another length.
    """
    return sha256(_TPM_DOMAIN + _covered(nonce, thumbprint, manifest_sha384)).digest()


def operator_payload(nonce: bytes, thumbprint: bytes, manifest_sha384: bytes) -> bytes:
    """Return what an operator's key signs, 48 bytes.

    SHA-384("ccverify/operator-signature/v1" ‖ nonce ‖ thumbprint ‖ SHA-384 of the manifest).

    Args:
        nonce: the relying party's, or an epoch, 32 bytes.
        thumbprint: of the session key, 32 bytes.
        manifest_sha384: 48 bytes.

    Raises:
        UsageError: a value of another length.
    """
    return sha384(_OPERATOR_DOMAIN + _covered(nonce, thumbprint, manifest_sha384)).digest()


def _covered(nonce: bytes, thumbprint: bytes, manifest_sha384: bytes) -> bytes:
    # Nothing delimits the values in what is hashed, so their lengths must be the only ones.
    for name, value, length in (
        ("nonce", nonce, 32),
        ("thumbprint", thumbprint, 32),
        ("manifest digest", manifest_sha384, 48),
    ):
        if len(value) != length:
            raise UsageError(f"{name} has the wrong length", expected=f"{length} bytes",
                             found=f"{len(value)} bytes")  # fmt: skip
    return nonce + thumbprint + manifest_sha384


@dataclass(frozen=True, slots=True)
class OperatorSignature:
    """The item `operator-signature`, nothing in it verified.

    Attributes:
        signed: the COSE_Sign1.
        certificates: of x5chain, the signer's first; 1 to 5.
    """

    signed: Sign1
    certificates: tuple[PkixCertificate, ...]


@dataclass(frozen=True, slots=True)
class OperatorResult:
    """What an operator's signature proves.

    Attributes:
        subject: of the signer's certificate, RFC 4514; as stated unless there is no problem.
        key_sha256: SHA-256 of the signer's SubjectPublicKeyInfo, hex.
        certificate_sha256: SHA-256 of the signer's certificate, hex.
        root: subject of the root that the chain leads to, RFC 4514; None if to none.
        root_sha256: SHA-256 of that root's certificate, hex; None if to none.
        chain_problem: why the chain proves nothing; None if it holds.
        signature_problem: why the signature is not this key's over this payload; None if it is.
    """

    subject: str
    key_sha256: str
    certificate_sha256: str
    root: str | None
    root_sha256: str | None
    chain_problem: str | None
    signature_problem: str | None

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything wrong; empty if the operator's key signed, and the chain leads to a root."""
        found = (("certificate chain", self.chain_problem), ("signature", self.signature_problem))
        return tuple(f"{name}: {problem}" for name, problem in found if problem)


def make_operator_signature(payload: bytes, signer: Signer, chain: Sequence[bytes]) -> bytes:
    """Make the item.

    Args:
        payload: from `operator_payload`, 48 bytes.
        signer: the operator's key: EC P-256, EC P-384 or Ed25519.
        chain: DER certificates, the signer's first; 1 to 5.

    Raises:
        UsageError: a payload of another length, a key that is not that of the first certificate,
            or certificates that no reader would accept.
    """
    if len(payload) != _PAYLOAD_BYTES:
        raise UsageError("payload has the wrong length", expected=f"{_PAYLOAD_BYTES} bytes")
    if not 0 < len(chain) <= MAX_PATH_CERTIFICATES:
        raise UsageError("certificate chain has the wrong length", found=f"{len(chain)}",
                         expected=f"1 to {MAX_PATH_CERTIFICATES} certificates")  # fmt: skip
    certificates = [parse_pkix_certificate(der, UsageError) for der in chain]
    if CoseKey.of(certificates[0].public_key) != signer.key:
        raise UsageError(
            "the key is not that of the first certificate",
            expected=f"the key of {certificates[0].subject_text}",
            hint="put the signer's own certificate first, its issuer's after it",
        )
    return sign1(
        payload,
        signer,
        content_type=_CONTENT_TYPE,
        typ=ItemType.OPERATOR_SIGNATURE.value,
        unprotected={X5CHAIN: chain[0] if len(chain) == 1 else list(chain)},
    )


def parse_operator_signature(data: bytes) -> OperatorSignature:
    """Parse the item.

    Raises:
        EvidenceError: no COSE_Sign1 as docs/spec/bundle.md has it, or certificates that do not
            parse.
    """
    signed = parse_sign1(data, what=_WHAT, error=EvidenceError, limit=MAX_OPERATOR_BYTES,
                         unprotected=frozenset({X5CHAIN}))  # fmt: skip
    for name, expected, found in (
        ("content type (3)", _CONTENT_TYPE, signed.content_type),
        ("typ (16)", ItemType.OPERATOR_SIGNATURE.value, signed.typ),
        ("kid (4)", None, signed.kid),
    ):
        if found != expected:
            raise EvidenceError(f"{_WHAT} has another header than these have", where=name,
                                expected=str(expected), found=str(found))  # fmt: skip
    if len(signed.payload) != _PAYLOAD_BYTES:
        raise EvidenceError(f"{_WHAT} has a payload of the wrong length",
                            expected=f"{_PAYLOAD_BYTES} bytes",
                            found=f"{len(signed.payload)} bytes")  # fmt: skip
    chain = _chain(signed.unprotected.get(X5CHAIN))
    return OperatorSignature(signed, tuple(parse_pkix_certificate(der) for der in chain))


def _chain(value: Any) -> list[bytes]:
    """Return the certificates of COSE_X509 (RFC 9360 §2): one, or an array of two or more."""
    chain = [value] if isinstance(value, bytes) else value
    if not isinstance(chain, list) or not all(isinstance(der, bytes) for der in chain):
        raise EvidenceError(f"{_WHAT} has no certificates", where="x5chain (33)",
                            expected="a byte string, or an array of byte strings")  # fmt: skip
    least = 1 if isinstance(value, bytes) else 2
    if not least <= len(chain) <= MAX_PATH_CERTIFICATES:
        raise EvidenceError(f"{_WHAT} has a wrong number of certificates", where="x5chain (33)",
                            expected=f"one, or 2 to {MAX_PATH_CERTIFICATES} in an array",
                            found=str(len(chain)))  # fmt: skip
    return chain


def verify_operator_signature(
    item: OperatorSignature,
    payload: bytes,
    roots: Sequence[PkixCertificate],
    now: datetime,
) -> OperatorResult:
    """Verify signature and chain; never raises for what the item holds.

    Args:
        item: from `parse_operator_signature`.
        payload: what must have been signed, from `operator_payload`.
        roots: certificates of the operators that the relying party believes.
        now: the time of evaluation, timezone-aware.
    """
    leaf = item.certificates[0]
    path = verify_pkix_path(item.certificates, roots, now, purposes=OPERATOR_PURPOSES)
    root = path.root
    return OperatorResult(
        subject=leaf.subject_text,
        key_sha256=leaf.key_sha256.hex(),
        certificate_sha256=leaf.sha256.hex(),
        root=root.subject_text if root else None,
        root_sha256=root.sha256.hex() if root else None,
        chain_problem=path.problem,
        signature_problem=_signature_problem(item, payload),
    )


def _signature_problem(item: OperatorSignature, payload: bytes) -> str | None:
    if not hmac.compare_digest(item.signed.payload, payload):
        return (f"it signs {item.signed.payload.hex()}, and nonce, session key and manifest give "
                f"{payload.hex()}")  # fmt: skip
    try:
        key = CoseKey.of(item.certificates[0].public_key)
    except UsageError as problem:
        return f"{problem.message}: {problem.expected}"
    return sign1_problem(item.signed, key)
