"""As much deterministic CBOR (RFC 8949 §4.2.1) as the items that the simulation makes need."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["encode"]


def encode(value: object) -> bytes:
    """Encode None, integers, bytes, text, sequences and mappings of these.

    Raises:
        TypeError: anything else.
    """
    if value is None:
        return b"\xf6"
    if isinstance(value, int) and not isinstance(value, bool):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(3, len(text)) + text
    if isinstance(value, Mapping):
        pairs = sorted((encode(key), encode(item)) for key, item in value.items())
        return _head(5, len(pairs)) + b"".join(key + item for key, item in pairs)
    if isinstance(value, tuple | list):
        return _head(4, len(value)) + b"".join(map(encode, value))
    raise TypeError(type(value).__name__)


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major << 5 | argument,))
    for extra, octets in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * octets:
            return bytes((major << 5 | extra,)) + argument.to_bytes(octets, "big")
    raise ValueError("integer is too large for CBOR")
