"""Keccak-256 as Ethereum uses it: the padding of Keccak's submission, not that of SHA-3.

`hashlib` has only the FIPS 202 variant.  The one use here is to tell whether a public key is
the key behind a 20-byte signing address; nothing secret is hashed.
"""

from __future__ import annotations

from typing import Final

__all__ = ["keccak256"]

_LANES: Final = 25
_MASK: Final = (1 << 64) - 1
_RATE: Final = 136
"""Bytes absorbed by one permutation: 200 less twice the digest's 32."""

_ROUND_CONSTANTS: Final = (
    0x0000000000000001, 0x0000000000008082, 0x800000000000808A, 0x8000000080008000,
    0x000000000000808B, 0x0000000080000001, 0x8000000080008081, 0x8000000000008009,
    0x000000000000008A, 0x0000000000000088, 0x0000000080008009, 0x000000008000000A,
    0x000000008000808B, 0x800000000000008B, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
)  # fmt: skip
# Offset of each lane x + 5y (Keccak reference 3.0, table 2.1).
_OFFSETS: Final = (
    0, 1, 62, 28, 27,
    36, 44, 6, 55, 20,
    3, 10, 43, 25, 39,
    41, 45, 15, 21, 8,
    18, 2, 61, 56, 14,
)  # fmt: skip


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte digest."""
    return _sponge(data, 0x01)


def _sponge(data: bytes, suffix: int) -> bytes:
    """Absorb `data` and the padding that starts with `suffix` (0x06 would make SHA3-256)."""
    padded = bytearray(data + bytes((suffix,)) + bytes(-(len(data) + 1) % _RATE))
    padded[-1] |= 0x80
    lanes = [0] * _LANES
    for block in range(0, len(padded), _RATE):
        for lane in range(_RATE // 8):
            at = block + 8 * lane
            lanes[lane] ^= int.from_bytes(padded[at : at + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def _permute(a: list[int]) -> list[int]:
    for constant in _ROUND_CONSTANTS:
        # theta
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[(x + 4) % 5] ^ _rotate(c[(x + 1) % 5], 1) for x in range(5)]
        # rho and pi
        b = [0] * _LANES
        for i in range(_LANES):
            x, y = i % 5, i // 5
            b[y + 5 * ((2 * x + 3 * y) % 5)] = _rotate(a[i] ^ d[x], _OFFSETS[i])
        # chi
        a = [
            b[i] ^ (~b[5 * (i // 5) + (i + 1) % 5] & b[5 * (i // 5) + (i + 2) % 5] & _MASK)
            for i in range(_LANES)
        ]
        # iota
        a[0] ^= constant
    return a


def _rotate(lane: int, by: int) -> int:
    return ((lane << by) | (lane >> (64 - by))) & _MASK
