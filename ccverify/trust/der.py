"""The little DER (ITU-T X.690) needed for extensions that no library knows.

Certificates and CRLs themselves are parsed by `cryptography`; this reads the values inside
Intel's private SGX extension.  Definite lengths and minimal length encoding only.
"""

from __future__ import annotations

from typing import NamedTuple

from ccverify.errors import CcverifyError

__all__ = ["Tlv", "decode_integer", "decode_oid", "read_sequence", "read_tlv"]

BOOLEAN = 0x01
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
SEQUENCE = 0x30


class Tlv(NamedTuple):
    """One element: its tag byte, the content octets, and the offset just after it."""

    tag: int
    value: bytes
    end: int


def read_tlv(data: bytes, at: int, error: type[CcverifyError]) -> Tlv:
    """Read the element that starts at offset `at`.

    Raises:
        error: truncated, multi-byte tag, indefinite or non-minimal length.
    """
    size = len(data)
    if at + 2 > size:
        raise error("DER element is truncated", where=f"DER offset {at}")
    tag, length = data[at], data[at + 1]
    if tag & 0x1F == 0x1F:
        raise error("DER multi-byte tag", found=f"0x{tag:02x}", where=f"DER offset {at}")
    start = at + 2
    if length >= 0x80:
        octets = length & 0x7F
        length = int.from_bytes(data[start : start + octets], "big")
        if not 1 <= octets <= 3 or start + octets > size or length < 0x80 or not data[start]:
            raise error("DER length is not minimal or too long", where=f"DER offset {at + 1}")
        start += octets
    end = start + length
    if end > size:
        raise error(
            "DER element is truncated",
            expected=f"{length} content bytes",
            found=str(size - start),
            where=f"DER offset {at}",
        )
    return Tlv(tag, data[start:end], end)


def read_sequence(data: bytes, error: type[CcverifyError]) -> list[Tlv]:
    """Split the content octets of a SEQUENCE into its elements."""
    elements = []
    at = 0
    while at < len(data):
        element = read_tlv(data, at, error)
        elements.append(element)
        at = element.end
    return elements


def decode_oid(value: bytes, error: type[CcverifyError]) -> str:
    """Return the dotted form of an OBJECT IDENTIFIER's content octets."""
    if not value or value[-1] & 0x80:
        raise error("DER object identifier is malformed", found=value.hex())
    arcs: list[int] = []
    arc = 0
    for octet in value:
        if (arc == 0 and octet == 0x80) or arc >> 56:
            raise error("DER object identifier is malformed", found=value[:32].hex())
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def decode_integer(value: bytes, error: type[CcverifyError]) -> int:
    """Return the number in an INTEGER's or ENUMERATED's content octets (two's complement)."""
    if not 1 <= len(value) <= 32 or (
        len(value) > 1 and value[0] in (0, 0xFF) and value[0] >> 7 == value[1] >> 7
    ):
        raise error("DER integer is malformed", found=value[:40].hex())
    return int.from_bytes(value, "big", signed=True)
