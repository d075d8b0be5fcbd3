"""A TPM quote with all that its verification needs: signature, public area, PCRs, certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from ccverify.errors import EvidenceError
from ccverify.tpm.attest import Attest, parse_attest
from ccverify.tpm.public import TpmPublic, parse_public
from ccverify.tpm.wire import BANKS, DIGEST_BYTES, Alg, Reader, bank_name, digest
from ccverify.trust.pkix import MAX_PATH_CERTIFICATES, PkixCertificate, parse_pkix_pem

__all__ = [
    "MAX_CHAIN_BYTES",
    "MAX_PCRS",
    "MAX_STRUCTURE_BYTES",
    "PcrValues",
    "TpmQuote",
    "TpmSignature",
    "parse_pcrs",
    "parse_signature",
    "parse_tpm_quote",
]

MAX_STRUCTURE_BYTES: Final = 2048
"""Of each of TPMS_ATTEST, TPMT_SIGNATURE and TPMT_PUBLIC; the largest have some 600."""
MAX_CHAIN_BYTES: Final = 64 * 1024
MAX_PCRS: Final = 32
"""Of one bank."""

PcrValues = Mapping[str, Mapping[int, bytes]]
"""PCR values: name of the bank (`BANKS`) → index → digest."""

_WHAT: Final = "TPMT_SIGNATURE"
_HASHES: Final[Mapping[int, HashAlgorithm]] = {
    Alg.SHA256: SHA256(),
    Alg.SHA384: SHA384(),
    Alg.SHA512: SHA512(),
}
_MAX_RSA_BYTES: Final = 512
_MAX_COORDINATE: Final = 48


@dataclass(frozen=True, slots=True)
class TpmSignature:
    """TPMT_SIGNATURE (TPM 2.0 Part 2 §11.3.4).

    Attributes:
        alg: RSASSA, RSAPSS or ECDSA.
        hash: TPM_ALG_ID: SHA-256, SHA-384 or SHA-512.
        value: of RSA, the signature; of ECDSA, r and s in DER.
        encoded: the exact bytes.
    """

    alg: Alg
    hash: int
    value: bytes
    encoded: bytes

    def verify(self, public: TpmPublic, message: bytes) -> str | None:
        """Return why this is not the key's signature over `message`; None if it is."""
        key, scheme = public.public_key, public.scheme
        if scheme.alg is not Alg.NULL and (scheme.alg, scheme.hash) != (self.alg, self.hash):
            return (f"it is by {self.alg.name} with {bank_name(self.hash)}, the key signs by "
                    f"{scheme.alg.name} with {bank_name(scheme.hash)}")  # fmt: skip
        prehashed = Prehashed(_HASHES[self.hash])
        hashed = digest(self.hash, message)
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                if self.alg is not Alg.ECDSA:
                    return f"it is by {self.alg.name}, and the key is on {key.curve.name}"
                key.verify(self.value, hashed, ec.ECDSA(prehashed))
            else:
                if self.alg is Alg.ECDSA:
                    return "it is by ECDSA, and the key is RSA"
                key.verify(self.value, hashed, self._padding(), prehashed)
        except InvalidSignature:
            return "it does not verify under the key"
        return None

    def _padding(self) -> padding.AsymmetricPadding:
        if self.alg is Alg.RSASSA:
            return padding.PKCS1v15()
        # TPMs differ in the length of the salt (Part 1, annex B.7): the digest's, or the most.
        return padding.PSS(padding.MGF1(_HASHES[self.hash]), padding.PSS.AUTO)


def parse_signature(data: bytes) -> TpmSignature:
    """Parse a TPMT_SIGNATURE.

    Raises:
        EvidenceError: another scheme than RSASSA, RSAPSS and ECDSA, another hash than SHA-256,
            SHA-384 and SHA-512, r or s that is zero or too long, bytes missing or left over.
    """
    reader = Reader(data, _WHAT)
    alg = reader.number(2, "sigAlg")
    if alg not in (Alg.RSASSA, Alg.RSAPSS, Alg.ECDSA):
        raise reader.error("is of a kind that is not accepted", "sigAlg",
                           "RSASSA, RSAPSS or ECDSA", hex(alg))  # fmt: skip
    hashed = reader.number(2, "hash")
    if hashed not in _HASHES:
        raise reader.error("uses a hash that is not accepted", "hash",
                           "SHA-256, SHA-384 or SHA-512", bank_name(hashed))  # fmt: skip
    if alg == Alg.ECDSA:
        r = int.from_bytes(reader.sized("signatureR", _MAX_COORDINATE), "big")
        s = int.from_bytes(reader.sized("signatureS", _MAX_COORDINATE), "big")
        if not r or not s:
            raise reader.error("has a zero in it", "signatureR, signatureS", "positive", "0")
        value = encode_dss_signature(r, s)
    else:
        value = reader.sized("sig", _MAX_RSA_BYTES)
    reader.end()
    return TpmSignature(Alg(alg), hashed, value, bytes(data))


# --- all together -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TpmQuote:
    """A quote, nothing in it verified: `ccverify.tpm.verify` does that.

    Attributes:
        attest: what was signed.
        signature: by the attestation key.
        public: public area of that key.
        certificates: for that key, its own first; empty if there are none.
        chain: the same, as the PEM given; None if there are none.
        pcrs: values as stated; the signed digest shows whether they are right.
    """

    attest: Attest
    signature: TpmSignature
    public: TpmPublic
    certificates: tuple[PkixCertificate, ...]
    chain: bytes | None
    pcrs: PcrValues


def parse_tpm_quote(
    attest: bytes, signature: bytes, public: bytes, chain: bytes | None, pcrs: PcrValues
) -> TpmQuote:
    """Parse all parts of a quote.

    Args:
        attest: TPMS_ATTEST, without the size of a TPM2B before it.
        signature: TPMT_SIGNATURE.
        public: TPMT_PUBLIC of the attestation key, without the size of a TPM2B before it.
        chain: PEM certificates for that key, its own first, at most 5; None if there are none.
        pcrs: the values that were quoted.

    Raises:
        EvidenceError: a part that is malformed or too large.
    """
    for name, data in (("attest", attest), ("signature", signature), ("public", public)):
        if len(data) > MAX_STRUCTURE_BYTES:
            raise EvidenceError(f"{name} of a TPM quote is too large", found=f"{len(data)} bytes",
                                expected=f"at most {MAX_STRUCTURE_BYTES}")  # fmt: skip
    if chain is not None and len(chain) > MAX_CHAIN_BYTES:
        raise EvidenceError("chain of a TPM quote is too large", found=f"{len(chain)} bytes",
                            expected=f"at most {MAX_CHAIN_BYTES}")  # fmt: skip
    certificates = () if chain is None else parse_pkix_pem(chain, most=MAX_PATH_CERTIFICATES)
    return TpmQuote(
        parse_attest(attest),
        parse_signature(signature),
        parse_public(public),
        certificates,
        chain,
        parse_pcrs(pcrs),
    )


def parse_pcrs(pcrs: object) -> PcrValues:
    """Return PCR values if they have the form of `PcrValues`, with digests of the right length.

    Raises:
        EvidenceError: they have not.
    """
    if not isinstance(pcrs, Mapping) or not set(pcrs) <= set(BANKS):
        raise EvidenceError("PCR values are malformed", where="pcrs",
                            expected="a map with " + ", ".join(BANKS))  # fmt: skip
    found = {}
    for bank, values in pcrs.items():
        if not isinstance(values, Mapping) or not 0 < len(values) <= MAX_PCRS:
            raise EvidenceError("PCR values are malformed", where=f"pcrs.{bank}",
                                expected=f"a map with 1 to {MAX_PCRS} entries")  # fmt: skip
        length = DIGEST_BYTES[BANKS[bank]]
        for index, value in values.items():
            if type(index) is not int or not 0 <= index < MAX_PCRS:
                raise EvidenceError("PCR values are malformed", where=f"pcrs.{bank}",
                                    expected=f"an index of 0 to {MAX_PCRS - 1}",
                                    found=repr(index)[:40])  # fmt: skip
            if not isinstance(value, bytes) or len(value) != length:
                raise EvidenceError("PCR value has a wrong length", where=f"pcrs.{bank}.{index}",
                                    expected=f"{length} bytes")  # fmt: skip
        found[bank] = MappingProxyType({index: values[index] for index in sorted(values)})
    return MappingProxyType(found)
