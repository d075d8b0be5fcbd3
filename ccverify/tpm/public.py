"""TPMT_PUBLIC: the public area of a key, its attributes and its Name (TPM 2.0 Part 2 §12.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from functools import cached_property
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ccverify.errors import EvidenceError
from ccverify.tpm.wire import DIGEST_BYTES, Alg, Reader, bank_name, digest

__all__ = ["ATTESTATION_KEY", "CURVES", "Attributes", "Scheme", "TpmPublic", "parse_public"]

_WHAT: Final = "TPMT_PUBLIC"
_DEFAULT_EXPONENT: Final = 65537
_RSA_BITS: Final = (2048, 3072, 4096)

CURVES: Final = {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1()}
"""TPM_ECC_CURVE → curve: NIST P-256 and P-384."""


class Attributes(IntFlag):
    """TPMA_OBJECT (Part 2 §8.3)."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    FIRMWARE_LIMITED = 1 << 8
    SVN_LIMITED = 1 << 9
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


_KNOWN: Final = sum(Attributes)

ATTESTATION_KEY: Final = (
    Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN
    | Attributes.RESTRICTED
    | Attributes.SIGN
)
"""What a key must have for its quotes to mean anything: made in this TPM, never outside of it,
and signing only what the TPM itself has made."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """TPMT_RSA_SCHEME or TPMT_ECC_SCHEME, as far as a signing key has one.

    Attributes:
        alg: RSASSA, RSAPSS, ECDSA, or NULL: whatever the caller says.
        hash: its hash; NULL where there is no scheme.
    """

    alg: Alg
    hash: int


@dataclass(frozen=True)
class TpmPublic:
    """A TPMT_PUBLIC of a signing key, nothing about it verified.

    Attributes:
        name_alg: TPM_ALG_ID of the hash of the Name.
        attributes: what the key is for, and where it may be.
        scheme: how it signs.
        public_key: RSA of 2048, 3072 or 4096 bits, EC P-256 or P-384.
        encoded: the exact bytes, which the Name covers.
    """

    name_alg: int
    attributes: Attributes
    scheme: Scheme
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    encoded: bytes

    @cached_property
    def name(self) -> bytes:
        """The key's Name: nameAlg and the digest of the public area (Part 1 §16)."""
        return self.name_alg.to_bytes(2) + digest(self.name_alg, self.encoded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TpmPublic) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)


def parse_public(data: bytes) -> TpmPublic:
    """Parse a TPMT_PUBLIC.

    Raises:
        EvidenceError: no RSA or EC key of an accepted size, another hash than SHA-256, SHA-384 or
            SHA-512 for the Name, reserved attributes, a scheme that is none for signing, a point
            that is not on its curve, bytes missing or left over.
    """
    reader = Reader(data, _WHAT)
    kind = reader.number(2, "type")
    name_alg = reader.number(2, "nameAlg")
    if name_alg not in DIGEST_BYTES or name_alg == Alg.SHA1:
        raise reader.error("has a Name by a hash that is not accepted", "nameAlg",
                           "SHA-256, SHA-384 or SHA-512", bank_name(name_alg))  # fmt: skip
    attributes = reader.number(4, "objectAttributes")
    if attributes & ~_KNOWN:
        raise reader.error("has attributes that are reserved", "objectAttributes",
                           f"none but 0x{_KNOWN:08x}", f"0x{attributes:08x}")  # fmt: skip
    reader.sized("authPolicy", 64)
    _symmetric(reader)
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    if kind == Alg.RSA:
        scheme = _scheme(reader, (Alg.RSASSA, Alg.RSAPSS))
        key = _rsa(reader)
    elif kind == Alg.ECC:
        scheme = _scheme(reader, (Alg.ECDSA,))
        key = _ec(reader)
    else:
        raise reader.error("is of no kind accepted here", "type", "RSA or ECC", hex(kind))
    reader.end()
    return TpmPublic(name_alg, Attributes(attributes), scheme, key, bytes(data))


def _symmetric(reader: Reader) -> None:
    """Skip TPMT_SYM_DEF_OBJECT: only keys that decrypt have one."""
    if reader.number(2, "symmetric") != Alg.NULL:
        reader.octets(4, "keyBits and mode of symmetric")


def _scheme(reader: Reader, known: tuple[Alg, ...]) -> Scheme:
    alg = reader.number(2, "scheme")
    if alg == Alg.NULL:
        return Scheme(Alg.NULL, Alg.NULL)
    if alg not in known:
        raise reader.error("has a scheme that is not accepted", "scheme",
                           ", ".join(one.name for one in known), hex(alg))  # fmt: skip
    return Scheme(Alg(alg), reader.number(2, "hash of the scheme"))


def _rsa(reader: Reader) -> rsa.RSAPublicKey:
    bits = reader.number(2, "keyBits")
    exponent = reader.number(4, "exponent") or _DEFAULT_EXPONENT
    if bits not in _RSA_BITS or exponent != _DEFAULT_EXPONENT:
        raise reader.error("has an RSA key that is not accepted", "keyBits, exponent",
                           "2048, 3072 or 4096 bits, 65537", f"{bits}, {exponent}")  # fmt: skip
    modulus = int.from_bytes(reader.sized("unique", _RSA_BITS[-1] // 8), "big")
    if modulus.bit_length() != bits:
        raise reader.error("has a modulus of another length", "unique", f"{bits} bits",
                           f"{modulus.bit_length()} bits")  # fmt: skip
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as problem:
        raise EvidenceError(f"{_WHAT} has no usable RSA key: {problem}") from None


def _ec(reader: Reader) -> ec.EllipticCurvePublicKey:
    number = reader.number(2, "curveID")
    curve = CURVES.get(number)
    if curve is None:
        raise reader.error("is on a curve that is not accepted", "curveID", "P-256 or P-384",
                           hex(number))  # fmt: skip
    if reader.number(2, "kdf") != Alg.NULL:
        reader.octets(2, "hash of kdf")
    octets = curve.key_size // 8
    x = int.from_bytes(reader.sized("x", octets), "big")
    y = int.from_bytes(reader.sized("y", octets), "big")
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise reader.error("is not a point on its curve", "unique", curve.name,
                           f"{x:x}, {y:x}") from None  # fmt: skip
