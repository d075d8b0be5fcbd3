"""Mutations of device reports, opaque data and XML that keep the frame intact."""

from __future__ import annotations

import re
import struct
from random import Random

from fuzz.mutate import mutate_bytes

__all__ = ["fix_report_lengths", "mutate_opaque", "mutate_report", "mutate_xml"]

_RECORD, _BLOCK = 45, 55
_KNOWN_TYPES = (3, 4, 6, 11, 12, 13, 15, 16, 20, 21, 22, 24, 25, 26, 33, 34, 35, 36, 300, 0xFFFF)


def mutate_report(data: bytes, random: Random) -> bytes:
    """Change a report: its opaque data, a block or any byte; mostly make the lengths fit again."""
    start = _opaque_start(data)
    match random.randrange(4):
        case 0 if start:
            changed = data[:start] + mutate_opaque(data[start:-96], random) + data[-96:]
        case 1 if len(data) > _RECORD + _BLOCK:
            count = data[41]
            at = _RECORD + _BLOCK * random.randrange(max(1, count))
            block = data[at : at + _BLOCK]
            changed = data[:at] + random.choice((b"", block * 2)) + data[at + _BLOCK :]
        case _:
            changed = mutate_bytes(data, random)
    return fix_report_lengths(changed) if random.randrange(4) else changed


def fix_report_lengths(data: bytes) -> bytes:
    """Make both lengths of a report fit its blocks and its end."""
    report = bytearray(data)
    if len(report) < _RECORD + _BLOCK + 34 + 96:
        return data
    count = 0
    while (
        report[_RECORD + _BLOCK * count + 1 : _RECORD + _BLOCK * count + 7]
        == b"\x01\x33\0\x01\x30\0"
        and count < 255
    ):
        count += 1
    report[41] = count
    report[42:45] = (count * _BLOCK).to_bytes(3, "little")
    at = _RECORD + count * _BLOCK + 32
    rest = len(report) - at - 2 - 96
    if 0 <= rest <= 0xFFFF:
        struct.pack_into("<H", report, at, rest)
    return bytes(report)


def _opaque_start(data: bytes) -> int | None:
    """Where the opaque data of a report starts, if it has any."""
    at = _RECORD + int.from_bytes(data[42:45], "little") + 34
    return at if _RECORD < at < len(data) - 96 else None


def mutate_opaque(data: bytes, random: Random) -> bytes:
    """Change one field of opaque data and state its size truly."""
    fields = _fields(data)
    if not fields or not random.randrange(4):
        return mutate_bytes(data, random)
    at = random.randrange(len(fields))
    kind, value = fields[at]
    match random.randrange(6):
        case 0:
            fields[at] = random.choice(_KNOWN_TYPES), value
        case 1:
            del fields[at]
        case 2:
            fields.insert(random.randrange(len(fields) + 1), fields[at])
        case 3:
            other = random.randrange(len(fields))
            fields[at], fields[other] = fields[other], fields[at]
        case _:
            fields[at] = kind, mutate_bytes(value, random)[:0xFFFF]
    return b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in fields)


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    fields = []
    at = 0
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("<HH", data, at)
        fields.append((kind, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return fields


_XML_TOKEN = re.compile(rb"<[^>]*>|[^<]+|<")
_XML_WORD = re.compile(rb"[A-Za-z0-9_.:#/-]+")
_XML_PIECES = (
    b"<!--x-->", b"<?p x?>", b"<![CDATA[x]]>", b"<!DOCTYPE a>", b"&amp;", b"&#65;", b"&a;",
    b"<!DOCTYPE a [<!ENTITY a 'b'>]>", b"<a/>", b"<a></a>", b"x", b" ", b"\n", b"\r\n", b"\t",
    b'<?xml version="1.0" encoding="utf-8"?>', b"\xef\xbb\xbf", b"\0", b"]]>",
    b'<ds:Object xmlns:ds="http://www.w3.org/2000/09/xmldsig#"></ds:Object>',
)  # fmt: skip
_XML_ATTRIBUTES = (
    b' Id="a"', b' xml:id="a"', b' xmlns=""', b' xmlns:x="http://www.w3.org/2000/09/xmldsig#"',
    b' URI="#a"', b' xml:space="preserve"', b" a='1'",
)  # fmt: skip


def mutate_xml(data: bytes, random: Random) -> bytes:
    """Change one tag, text or word of a document; tags stay whole."""
    tokens = _XML_TOKEN.findall(data)
    if not tokens:
        return mutate_bytes(data, random)
    at = random.randrange(len(tokens))
    match random.randrange(9):
        case 0:
            tokens.insert(at, random.choice(_XML_PIECES))
        case 1:
            tokens[at] = _with_attribute(tokens[at], random)
        case 2:
            other = random.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3:
            start, end = _subtree(tokens, at)
            del tokens[start:end]
        case 4:
            start, end = _subtree(tokens, at)
            to = random.randrange(len(tokens) + 1)
            tokens[to:to] = tokens[start:end]
        case 5:
            start, end = _subtree(tokens, at)
            piece = tokens[start:end]
            del tokens[start:end]
            to = random.randrange(len(tokens) + 1)
            tokens[to:to] = piece
        case 6:
            tokens[at] = mutate_bytes(tokens[at], random)
        case _:
            words = list(_XML_WORD.finditer(data))
            if not words:
                return mutate_bytes(data, random)
            word, other_word = random.choice(words), random.choice(words)
            new = random.choice((other_word[0], b"", mutate_bytes(word[0], random)))
            return data[: word.start()] + new + data[word.end() :]
    return b"".join(tokens)


def _with_attribute(token: bytes, random: Random) -> bytes:
    if not token.startswith(b"<") or not token.endswith(b">"):
        return token + random.choice(_XML_PIECES)
    at = len(token) - (2 if token.endswith(b"/>") else 1)
    return token[:at] + random.choice(_XML_ATTRIBUTES) + token[at:]


def _subtree(tokens: list[bytes], at: int) -> tuple[int, int]:
    """The tokens from the element that starts at `at` to its end tag; or the one token."""
    if not tokens[at].startswith(b"<") or tokens[at].startswith((b"</", b"<!", b"<?")):
        return at, at + 1
    depth = 0
    for end in range(at, len(tokens)):
        token = tokens[end]
        if token.startswith(b"</"):
            depth -= 1
        elif token.startswith(b"<") and not token.endswith(b"/>"):
            depth += 1
        if depth <= 0:
            return at, end + 1
    return at, at + 1
