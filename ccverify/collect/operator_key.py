"""Binding a session key by an operator's own key: a PEM private key, and its certificate chain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ccverify.bundle.cose import CoseKey, KeySigner, Signer
from ccverify.bundle.endorsement import make_operator_signature, operator_payload
from ccverify.bundle.manifest import OPERATOR_LABEL
from ccverify.collect.binders import BindAsk
from ccverify.collect.files import Files, OsFiles, told
from ccverify.collect.model import Absence, Item, ItemType, Outcome
from ccverify.errors import UsageError
from ccverify.trust.pkix import PkixCertificate, parse_pkix_pem

__all__ = ["OperatorKey", "load_operator_key"]

_MAX_KEY_BYTES: Final = 64 * 1024
_MAX_CHAIN_BYTES: Final = 256 * 1024
_KINDS: Final = "EC P-256, EC P-384 or Ed25519"


class OperatorKey:
    """Signs nonce, session key and manifest with an operator's key.

    Args:
        signer: the key.
        certificates: its own certificate first, then those above it; 1 to 5.

    Raises:
        UsageError: the first certificate is for another key.
    """

    label = OPERATOR_LABEL

    def __init__(self, signer: Signer, certificates: Sequence[PkixCertificate]) -> None:
        leaf = certificates[0]
        if CoseKey.of(leaf.public_key) != signer.key:
            raise UsageError(
                "operator's key is not that of the first certificate",
                found=leaf.subject_text,
                hint="give the chain with the certificate of this key first",
            )
        self._signer = signer
        self._chain = [certificate.der for certificate in certificates]
        self.name = f"operator's key ({leaf.subject_text})"[:128]

    def bind(self, ask: BindAsk) -> Outcome:
        """Sign."""
        payload = operator_payload(ask.nonce, ask.thumbprint, ask.manifest_sha384)
        data = make_operator_signature(payload, self._signer, self._chain)
        return Item(self.label, ItemType.OPERATOR_SIGNATURE, data, self.name)

    def diagnose(self) -> Sequence[Absence]:
        """Nothing can be missing: the key is in memory."""
        return ()


def load_operator_key(
    key: Path,
    chain: Path,
    *,
    password: bytes | None = None,
    deterministic: bool = False,
    files: Files | None = None,
) -> OperatorKey:
    """Read key and certificates from files.

    Args:
        key: PEM private key, PKCS #8 or SEC 1.
        chain: PEM certificates, that of the key first; at most 5.
        password: of the key; None if it is not encrypted.
        deterministic: whether ECDSA takes no randomness (RFC 6979).
        files: the file system; this machine's if None.

    Raises:
        UsageError: a file that cannot be read or holds something else, a key of another kind, a
            wrong or missing password, or certificates for another key.
    """
    reader = files or OsFiles()
    loaded = _load(_read(reader, key, _MAX_KEY_BYTES, "operator's key"), password, key)
    pem = _read(reader, chain, _MAX_CHAIN_BYTES, "operator's certificates")
    try:
        certificates = parse_pkix_pem(pem, UsageError)
    except UsageError as problem:
        raise UsageError(f"operator's certificates: {problem.message}", expected=problem.expected,
                         found=problem.found, where=str(chain),
                         hint="PEM, the certificate of the key first")  from None  # fmt: skip
    return OperatorKey(KeySigner(loaded, deterministic), certificates)


def _read(files: Files, path: Path, limit: int, what: str) -> bytes:
    try:
        return files.read(path, limit)
    except (OSError, ValueError) as problem:
        said = told(problem) if isinstance(problem, OSError) else str(problem)
        raise UsageError(f"{what} cannot be read", found=said, where=str(path)) from None


def _load(
    pem: bytes, password: bytes | None, path: Path
) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        # TypeError: a password is missing, or given for nothing.  No word of the content.
        raise UsageError("operator's key cannot be loaded", where=str(path),
                         expected="a PEM private key, and its password if it has one",
                         found=str(problem).partition("\n")[0][:200]) from None  # fmt: skip
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise UsageError("operator's key is of a kind that cannot sign here", expected=_KINDS,
                         where=str(path))  # fmt: skip
    try:
        CoseKey.of(key.public_key())
    except UsageError as problem:
        raise UsageError("operator's key is of a kind that cannot sign here", expected=_KINDS,
                         where=str(path)) from problem  # fmt: skip
    return key
