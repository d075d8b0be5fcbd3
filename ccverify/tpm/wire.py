"""Reading what a TPM marshals: big endian, every size stated, nothing left over (TPM 2.0 Part 2).

Also the few algorithm numbers that quotes use (Part 2 §6.3, TCG Algorithm Registry).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from hashlib import sha1, sha256, sha384, sha512
from types import MappingProxyType
from typing import Any, Final

from ccverify.errors import EvidenceError

__all__ = ["BANKS", "DIGEST_BYTES", "Alg", "Reader", "bank_name", "digest"]


class Alg(IntEnum):
    """TPM_ALG_ID, as far as quotes name them."""

    RSA = 0x0001
    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018
    ECC = 0x0023


DIGEST_BYTES: Final[Mapping[int, int]] = MappingProxyType(
    {Alg.SHA1: 20, Alg.SHA256: 32, Alg.SHA384: 48, Alg.SHA512: 64}
)
"""Length of a digest by its algorithm."""

BANKS: Final[Mapping[str, Alg]] = MappingProxyType(
    {"sha1": Alg.SHA1, "sha256": Alg.SHA256, "sha384": Alg.SHA384, "sha512": Alg.SHA512}
)
"""Names of PCR banks.  SHA-1 can be read, and nothing is ever believed because of it."""

_NAMES: Final = {alg: name for name, alg in BANKS.items()}
_FUNCTIONS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    Alg.SHA256: sha256,
    Alg.SHA384: sha384,
    Alg.SHA512: sha512,
    Alg.SHA1: lambda data: sha1(data, usedforsecurity=False),
}


def bank_name(alg: int) -> str:
    """Return the name of a PCR bank; the number where it has none here."""
    return _NAMES.get(alg, f"0x{alg:04x}")  # type: ignore[call-overload, no-any-return]


def digest(alg: int, data: bytes) -> bytes:
    """Return the digest of `data` by an algorithm of `DIGEST_BYTES`."""
    found: bytes = _FUNCTIONS[alg](data).digest()
    return found


class Reader:
    """Reads one structure from its beginning to its end.

    Args:
        data: the structure.
        what: its name, for errors.
    """

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    def octets(self, length: int, name: str) -> bytes:
        """Read `length` bytes."""
        found = self._data[self._at : self._at + length]
        if len(found) != length:
            raise self.error("ends too early", name, f"{length} bytes", f"{len(found)} bytes")
        self._at += length
        return found

    def number(self, length: int, name: str) -> int:
        """Read an unsigned integer of `length` bytes."""
        return int.from_bytes(self.octets(length, name), "big")

    def sized(self, name: str, most: int) -> bytes:
        """Read a TPM2B: two bytes of size, then so many bytes, at most `most`."""
        size = self.number(2, f"size of {name}")
        if size > most:
            raise self.error("states a size that nothing has", name, f"at most {most}", str(size))
        return self.octets(size, name)

    def end(self) -> None:
        """See that nothing is left."""
        if self._at != len(self._data):
            left = f"{len(self._data) - self._at} bytes"
            raise self.error("has bytes after its end", "end", "none", left)

    def error(self, problem: str, name: str, expected: str, found: str) -> EvidenceError:
        """Return an error about the place reached."""
        return EvidenceError(f"{self._what} {problem}", expected=expected, found=found,
                             where=f"{name}, before byte {self._at}")  # fmt: skip
