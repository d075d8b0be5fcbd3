"""A DER writer, just large enough for certificates and revocation lists (ITU-T X.690).

The simulation encodes its certificates itself instead of using a certificate builder, for
two reasons: a builder refuses to make most of the defects a verifier has to be tested on,
and its output may change from release to release while fixtures have to stay the same.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ccverify.errors import UsageError

__all__ = [
    "bit_string",
    "boolean",
    "context",
    "enumerated",
    "integer",
    "object_identifier",
    "octet_string",
    "sequence",
    "set_of",
    "string",
    "time",
    "tlv",
]

_PRINTABLE = 0x13
_UTF8 = 0x0C
_IA5 = 0x16
_STRING_TAGS = {"utf8": _UTF8, "printable": _PRINTABLE, "ia5": _IA5}


def tlv(tag: int, content: bytes) -> bytes:
    """Return one element: single-byte `tag`, definite length, `content`."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*items: bytes) -> bytes:
    """Return a SEQUENCE of already encoded items."""
    return tlv(0x30, b"".join(items))


def set_of(*items: bytes) -> bytes:
    """Return a SET OF, its items in DER order."""
    return tlv(0x31, b"".join(sorted(items)))


def context(number: int, content: bytes, *, constructed: bool = True) -> bytes:
    """Return a context-specific element ``[number]``."""
    return tlv(0x80 | (0x20 if constructed else 0) | number, content)


def integer(value: int) -> bytes:
    """Return an INTEGER, two's complement, shortest form."""
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return tlv(0x02, value.to_bytes(size, "big", signed=True))


def enumerated(value: int) -> bytes:
    """Return an ENUMERATED of a value in 0..127."""
    return tlv(0x0A, bytes((value,)))


def boolean(value: bool) -> bytes:
    """Return a BOOLEAN."""
    return tlv(0x01, b"\xff" if value else b"\x00")


def octet_string(value: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(0x04, value)


def bit_string(value: bytes, unused: int = 0) -> bytes:
    """Return a BIT STRING whose last `unused` bits do not count."""
    return tlv(0x03, bytes((unused,)) + value)


def string(value: str, kind: str) -> bytes:
    """Return a character string; `kind` is ``utf8``, ``printable`` or ``ia5``."""
    return tlv(_STRING_TAGS[kind], value.encode("utf-8"))


def object_identifier(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    out = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        out += bytes(reversed(groups))
    return tlv(0x06, bytes(out))


def time(value: datetime) -> bytes:
    """Return a Time as RFC 5280 4.1.2.5 asks: UTCTime through 2049, else GeneralizedTime.

    Raises:
        UsageError: `value` has no time zone or a fraction of a second.
    """
    if value.tzinfo is None or value.microsecond:
        raise UsageError(
            "a certificate time needs a time zone and whole seconds",
            found=value.isoformat(),
            hint="use datetime(..., tzinfo=UTC)",
        )
    utc = value.astimezone(UTC)
    text = f"{utc.year:04d}{utc.month:02d}{utc.day:02d}{utc:%H%M%S}Z"
    if 1950 <= utc.year < 2050:
        return tlv(0x17, text[2:].encode("ascii"))
    return tlv(0x18, text.encode("ascii"))
