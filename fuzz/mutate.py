"""Mutations that keep a format's frame intact, so that what lies behind it is reached.

A random byte in a certificate nearly always breaks a length, and a random byte in JSON its
syntax: the parser refuses at once and nothing behind is tried.  Each function here takes bytes
and a `random.Random` and returns other bytes; the same two give the same bytes again.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = [
    "Mutator",
    "edit_at",
    "fix_quote_lengths",
    "mutate_bytes",
    "mutate_ccel",
    "mutate_der",
    "mutate_edits",
    "mutate_json",
    "mutate_pem",
    "mutate_quote",
    "mutate_yaml",
    "sign_again",
]

Mutator = Callable[[bytes, Random], bytes]

_INTEGERS = tuple(
    value.to_bytes(size, order, signed=value < 0)
    for size in (1, 2, 4, 8)
    for order in ("little", "big")
    for value in (0, 1, -1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1)
)
_MAX_STRETCH = 4096


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Change one place: a bit, a byte, an integer, a piece cut, copied, repeated or inserted."""
    if not data:
        return random.randbytes(random.randint(1, 16))
    at = random.randrange(len(data))
    size = min(random.choice((1, 2, 4, 8, 48, 300)), len(data) - at)
    piece = data[at : at + size]
    match random.randrange(8):
        case 0:
            return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]
        case 1:
            return data[:at] + random.randbytes(size) + data[at + size :]
        case 2:
            value = random.choice(_INTEGERS)
            return data[:at] + value + data[at + len(value) :]
        case 3:
            return data[:at] + data[at + size :]
        case 4:
            return data[:at] + piece * random.randint(1, max(1, _MAX_STRETCH // size)) + data[at:]
        case 5:
            to = random.randrange(len(data))
            return data[:to] + piece + data[to + size :]
        case 6:
            return data[:at] + random.randbytes(size) + data[at:]
        case _:
            return data[:at]


def edit_at(data: bytes, operation: int, at: int, payload: bytes) -> bytes | None:
    """One edit of a program of edits, at an offset in 0..len(data); None for another operation.

    0 changes bits, 1 writes over, 2 inserts, 3 cuts out, 4 cuts off, 5 replaces the whole.
    """
    match operation:
        case 0:
            value = bytes(a ^ b for a, b in zip(data[at:], payload, strict=False))
            return data[:at] + value + data[at + len(value) :]
        case 1:
            return data[:at] + payload + data[at + len(payload) :]
        case 2:
            return data[:at] + payload + data[at:]
        case 3:
            return data[:at] + data[at + sum(payload) + 1 :]
        case 4:
            return data[:at]
        case 5:
            return payload
        case _:
            return None


# --- quotes ---


def mutate_quote(data: bytes, random: Random) -> bytes:
    """Change a quote and, three times in four, make its four lengths agree again."""
    changed = mutate_bytes(data, random)
    return fix_quote_lengths(changed) if random.randrange(4) else changed


def fix_quote_lengths(data: bytes) -> bytes:
    """Make signature, outer and inner size of a version 4 or 5 quote fit its end."""
    quote = bytearray(data)
    if len(quote) < 54:
        return data
    body = 48 + 584
    if quote[0] == 5:
        body = 54 + {2: 584, 3: 648, 4: 885}.get(quote[48], 584)
        struct.pack_into("<I", quote, 50, body - 54)
    outer = body + 4 + 128
    auth = outer + 6 + 384 + 64
    if len(quote) < auth + 2:
        return data
    struct.pack_into("<I", quote, body, len(quote) - body - 4)
    struct.pack_into("<I", quote, outer + 2, len(quote) - outer - 6)
    inner = auth + 2 + int.from_bytes(quote[auth : auth + 2], "little")
    if len(quote) >= inner + 6:
        struct.pack_into("<I", quote, inner + 2, len(quote) - inner - 6)
    return bytes(quote)


# --- DER ---

_Node = list[Any]
"""Tag byte, and content: bytes or a list of nodes."""


def mutate_der(data: bytes, random: Random) -> bytes:
    """Change one element of a DER value and encode all lengths anew."""
    tree = _der_tree(data, 0)
    if not tree:
        return mutate_bytes(data, random)
    places = list(_der_places(tree))
    siblings, index = random.choice(places)
    node = siblings[index]
    match random.randrange(8):
        case 0:
            node[0] = random.choice((0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x17, 0x18, 0x30))
        case 1:
            siblings.pop(index)
        case 2:
            siblings.insert(index, node)
        case 3:
            other, position = random.choice(places)
            # A copy: an ancestor put into its own descendant would never end.
            siblings[index : index + 1] = _der_tree(_der_encode([other[position]]), 0) or []
        case 4:
            siblings[index] = [0x30, [node]]
        case 5:
            node[1] = random.choice((b"", b"\0", b"\x80", b"\xff" * 9, b"\x7f" * 2000, b"\xff\xfe"))
        case _:
            content = node[1] if isinstance(node[1], bytes) else _der_encode(node[1])
            node[1] = mutate_bytes(content, random)
    return _der_encode(tree)


def sign_again(data: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Sign a certificate or CRL anew; one without the usual three parts is left as it is."""
    tree = _der_tree(data, 0)
    if not tree or len(tree) != 1 or not isinstance(tree[0][1], list) or len(tree[0][1]) != 3:
        return data
    tbs, algorithm, _signature = tree[0][1]
    value = b"\0" + sign(_der_encode([tbs]))
    return _der_encode([[0x30, [tbs, algorithm, [0x03, value]]]])


def _der_tree(data: bytes, depth: int) -> list[_Node] | None:
    """Read a series of elements; None if `data` is not one."""
    nodes: list[_Node] = []
    at = 0
    while at < len(data):
        if len(data) - at < 2 or depth > 20:
            return None
        tag, size, start = data[at], data[at + 1], at + 2
        if size >= 0x80:
            octets = size & 0x7F
            size = int.from_bytes(data[start : start + octets], "big")
            start += octets
        at = start + size
        if at > len(data):
            return None
        content = data[start:at]
        # OCTET STRING and the bit string of a signature often hold DER themselves.
        inner = _der_tree(content, depth + 1) if tag & 0x20 or tag == 0x04 else None
        nodes.append([tag, inner if inner else content])
    return nodes


def _der_places(nodes: list[_Node]) -> list[tuple[list[_Node], int]]:
    places = []
    for index, node in enumerate(nodes):
        places.append((nodes, index))
        if isinstance(node[1], list):
            places += _der_places(node[1])
    return places


def _der_encode(nodes: list[_Node]) -> bytes:
    parts = []
    for tag, content in nodes:
        value = content if isinstance(content, bytes) else _der_encode(content)
        size = len(value)
        octets = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
        length = octets if size < 0x80 else bytes((0x80 | len(octets),)) + octets
        parts.append(bytes((tag,)) + length + value)
    return b"".join(parts)


_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----")


def mutate_pem(data: bytes, random: Random) -> bytes:
    """Change one PEM block's DER, or the text around it."""
    blocks = list(_PEM.finditer(data))
    if not blocks or not random.randrange(4):
        return mutate_bytes(data, random)
    block = random.choice(blocks)
    try:
        der = base64.b64decode(block[2])
    except binascii.Error:
        return mutate_bytes(data, random)
    text = base64.encodebytes(mutate_der(der, random))
    return data[: block.start(2)] + b"\n" + text + data[block.end(2) :]


# --- text ---

_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+|\s+|"', re.DOTALL)
_JSON_VALUES = (
    b"null", b"true", b"0", b"-1", b"1.0", b"1e400", b"-0", b"4294967296", b"9" * 400,
    b"NaN", b'""', b'"\\ud800"', b'"\\u0000"', b'"\\u001b[2J"', b'"\xf0\x9f\x98\x80"', b"[]", b"{}",
    b"[[[[[[[[]]]]]]]]", b'{"":{"":{"":0}}}', b'"00"', b"{",
    b'"2026-01-01T00:00:00Z"', b'"9999-12-31T23:59:59Z"', b'"0001-01-01T00:00:00Z"',
)  # fmt: skip


def mutate_json(data: bytes, random: Random) -> bytes:
    """Change one token of a JSON text: replaced, dropped, doubled, moved, nested, or its bytes."""
    tokens = _JSON_TOKEN.findall(data)
    if not tokens:
        return mutate_bytes(data, random)
    at = random.randrange(len(tokens))
    match random.randrange(8):
        case 0 | 1:
            tokens[at] = random.choice(_JSON_VALUES)
        case 2:
            other = random.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3:
            size = random.randint(1, 8)
            tokens[at:at] = tokens[at : at + size]
        case 4:
            del tokens[at : at + random.randint(1, 8)]
        case 5:
            depth = random.choice((2, 60, 64, 65, 300, 900, 990))
            tokens[at] = b"[" * depth + tokens[at] + b"]" * depth
        case 6 if tokens[at].startswith(b'"'):
            inner = mutate_bytes(tokens[at][1:-1], random)
            tokens[at] = b'"' + inner.replace(b'"', b"'").replace(b"\n", b" ") + b'"'
        case _:
            tokens[at] = random.choice(tokens)
    return b"".join(tokens)


_YAML_PIECES = (
    b"!!int ", b"!!float ", b"!!bool ", b"!!null ", b"!!timestamp ", b"!!binary ", b"!!set ",
    b"!!omap ", b"!!pairs ", b"!!map ", b"!!seq ", b"!!str ", b"!!merge ", b"!x ", b"&a ", b"*a ",
    b"<<: ", b"? ", b"- ", b": ", b"[", b"]", b"{", b"}", b"|\n ", b">-\n ", b"---\n", b"...\n",
    b"%YAML 1.1\n", b"# ", b'"\\x00"', b'"\\ud800"', b'"\\Uffffffff"', b'"\\U00110000"', b"'",
    b'"', b"\t", b"\xef\xbb\xbf", b"0x1F",
)  # fmt: skip


def mutate_yaml(data: bytes, random: Random) -> bytes:
    """Change a YAML (or JSON) text: a tag, an indicator or a nesting inserted, a line moved."""
    if data.lstrip()[:1] == b"{":
        return mutate_json(data, random)
    match random.randrange(4):
        case 0:
            lines = data.splitlines(keepends=True) or [b""]
            first, second = random.randrange(len(lines)), random.randrange(len(lines))
            lines[first] = random.choice((b"", lines[second], b"  " + lines[first]))
            return b"".join(lines)
        case 1:
            return mutate_bytes(data, random)
        case _:
            places = [match.end() for match in re.finditer(rb"[\s\[,]", data)] or [0]
            at = random.choice(places)
            return data[:at] + random.choice(_YAML_PIECES) + data[at:]


# --- event logs ---


def mutate_ccel(data: bytes, random: Random) -> bytes:
    """Change one event of a CCEL log and state its data size truly; or change any byte."""
    events = _ccel_events(data)
    if not events or not random.randrange(3):
        return mutate_bytes(data, random)
    start, digests_end, end = random.choice(events)
    event = data[start:end]
    match random.randrange(5):
        case 0:
            return data[:start] + data[end:]
        case 1:
            return data[:end] + event * random.randint(1, 40) + data[end:]
        case 2:
            register = random.choice((0, 1, 2, 3, 4, 5, 0xFFFFFFFF)).to_bytes(4, "little")
            return data[:start] + register + data[start + 4 :]
        case 3:
            kinds = (0, 3, 0x0A, 0x0D, 0x08000001, 0x80000002, 0x80000008)
            kind = random.choice(kinds).to_bytes(4, "little")
            return data[: start + 4] + kind + data[start + 8 :]
        case _:
            payload = mutate_bytes(data[digests_end + 4 : end], random)
            size = len(payload).to_bytes(4, "little")
            return data[:digests_end] + size + payload + data[end:]


def _ccel_events(data: bytes) -> list[tuple[int, int, int]]:
    """Offsets of events with one SHA-384 digest: start, end of the digest, end."""
    events: list[tuple[int, int, int]] = []
    if len(data) < 32:
        return events
    at = 32 + int.from_bytes(data[28:32], "little")
    while at + 66 <= len(data) and len(events) < 200:
        digests_end = at + 62
        end = digests_end + 4 + int.from_bytes(data[digests_end : digests_end + 4], "little")
        if end > len(data):
            break
        events.append((at, digests_end, end))
        at = end
    return events


# --- edit programs ---


def mutate_edits(data: bytes, random: Random) -> bytes:
    """Change a program of `fuzz.evidence`: usually add one small edit."""
    if random.randrange(3):
        payload = random.choice((random.randbytes(random.randint(0, 6)), random.choice(_INTEGERS)))
        edit = struct.pack("<BBHB", *random.randbytes(2), random.randrange(1 << 16), len(payload))
        return (data or b"\0\0") + edit + payload
    return mutate_bytes(data, random)
