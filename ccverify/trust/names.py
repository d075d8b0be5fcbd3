"""X.501 distinguished names as text for people (RFC 4514); names are compared as DER bytes.

Written here because a name in hostile evidence must be showable whatever it holds: text that
does not decode, odd tags, impossible lengths.
"""

from __future__ import annotations

import re

from ccverify.errors import EvidenceError
from ccverify.trust.der import OBJECT_IDENTIFIER, SEQUENCE, SET, read_tlv

__all__ = ["name_text"]

_TYPES = {
    "550403": "CN",
    "550405": "serialNumber",
    "550406": "C",
    "550407": "L",
    "550408": "ST",
    "55040a": "O",
    "55040b": "OU",
}
"""Content octets of the attribute type's OID → its short name."""

_TEXT_TAGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
"""UTF8String, PrintableString, TeletexString, IA5String, BMPString."""

_SPECIAL = re.compile(r'[,+"\\<>;]')


def name_text(name: bytes) -> str:
    """Return the DER of a Name in RFC 4514 form; in hex where it cannot be read.  Never raises."""
    try:
        return ",".join(reversed(list(_relative_names(name))))
    except EvidenceError:
        return f"name {name.hex()}"


def _relative_names(name: bytes) -> list[str]:
    tag, content, end = read_tlv(name, 0, EvidenceError)
    if tag != SEQUENCE or end != len(name):
        raise EvidenceError("name is not one SEQUENCE")
    texts = []
    at = 0
    while at < len(content):
        tag, values, at = read_tlv(content, at, EvidenceError)
        if tag != SET:
            raise EvidenceError("relative name is not a SET")
        texts.append("+".join(_attributes(values)))
    return texts


def _attributes(values: bytes) -> list[str]:
    texts = []
    at = 0
    while at < len(values):
        _, pair, at = read_tlv(values, at, EvidenceError)
        tag, oid, middle = read_tlv(pair, 0, EvidenceError)
        value_tag, value, _ = read_tlv(pair, middle, EvidenceError)
        if tag != OBJECT_IDENTIFIER:
            raise EvidenceError("attribute type is not an OBJECT IDENTIFIER")
        texts.append(f"{_TYPES.get(oid.hex(), f'OID {oid.hex()}')}={_value(value_tag, value)}")
    return texts


def _value(tag: int, value: bytes) -> str:
    try:
        text = value.decode(_TEXT_TAGS[tag])
    except (KeyError, UnicodeDecodeError):
        return f"#{value.hex()}"
    return _SPECIAL.sub(lambda match: "\\" + match[0], text)
