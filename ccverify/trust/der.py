"""The little DER (ITU-T X.690) needed for extensions that no library knows.

Certificates and CRLs themselves are parsed by `cryptography`; this reads the values inside
Intel's private SGX extension.  Definite lengths and minimal length encoding only.
"""

from __future__ import annotations

from ccverify.errors import CcverifyError

__all__ = ["Tlv", "decode_integer", "read_tlv"]

BOOLEAN = 0x01
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
SEQUENCE = 0x30
SET = 0x31


Tlv = tuple[int, bytes, int]
"""One element: its tag byte, the content octets, and the offset just after it."""


def read_tlv(data: bytes, at: int, error: type[CcverifyError]) -> Tlv:
    """Read the element that starts at offset `at`.

    Raises:
        error: truncated, multi-byte tag, indefinite or non-minimal length.
    """
    size = len(data)
    start = at + 2
    if start > size:
        raise error("DER element is truncated", where=f"DER offset {at}")
    tag, length = data[at], data[at + 1]
    if tag & 0x1F == 0x1F:
        raise error("DER multi-byte tag", found=f"0x{tag:02x}", where=f"DER offset {at}")
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
    return tag, data[start:end], end


def decode_integer(value: bytes, error: type[CcverifyError]) -> int:
    """Return the number in an INTEGER's or ENUMERATED's content octets (two's complement)."""
    if not 1 <= len(value) <= 32 or (
        len(value) > 1 and value[0] in (0, 0xFF) and value[0] >> 7 == value[1] >> 7
    ):
        raise error("DER integer is malformed", found=value[:40].hex())
    return int.from_bytes(value, "big", signed=True)
