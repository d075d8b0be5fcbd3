"""Mutations of JSON that holds encoded JSON, hex, base64 and tokens, and of SCALE attestations."""

from __future__ import annotations

import base64
import binascii
import json
import re
from random import Random

from fuzz.mutate import mutate_bytes, mutate_json

__all__ = ["mutate_foreign", "mutate_jwt", "mutate_scale"]

_STRING = re.compile(rb'"(?:[^"\\]|\\.){2,}"')
_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


def mutate_foreign(data: bytes, random: Random) -> bytes:
    """Change the JSON, or what one of its strings encodes, and encode that again."""
    strings = list(_STRING.finditer(data))
    if not strings or random.randrange(2):
        return mutate_json(data, random)
    place = random.choice(strings)
    try:
        text = json.loads(place[0])
    except ValueError:
        return mutate_json(data, random)
    inner = text.encode("utf-8", "surrogatepass")
    changed = _inside(inner, random).decode("utf-8", "replace")
    return data[: place.start()] + json.dumps(changed).encode() + data[place.end() :]


def _inside(text: bytes, random: Random) -> bytes:
    """Change what a string encodes: JSON, a token, hex or base64."""
    if text[:1] in (b"{", b"["):
        return mutate_foreign(text, random)
    if _TOKEN.fullmatch(text):
        return mutate_jwt(text, random)
    if re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", text):
        return mutate_bytes(bytes.fromhex(text.decode()), random).hex().encode()
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return mutate_bytes(text, random)
    return base64.b64encode(mutate_bytes(raw, random))


def mutate_jwt(data: bytes, random: Random) -> bytes:
    """Change header, claims or signature of a token and encode it again."""
    parts = data.split(b".")
    at = random.randrange(len(parts))
    if len(parts) != 3 or not random.randrange(4):
        return mutate_bytes(data, random)
    try:
        raw = base64.urlsafe_b64decode(parts[at] + b"=" * (-len(parts[at]) % 4))
    except binascii.Error:
        return mutate_bytes(data, random)
    raw = mutate_bytes(raw, random) if at == 2 else mutate_json(raw, random)
    parts[at] = base64.urlsafe_b64encode(raw).rstrip(b"=")
    return b".".join(parts)


def mutate_scale(data: bytes, random: Random) -> bytes:
    """Change a byte, or one short field and the length byte before it."""
    if len(data) < 8 or random.randrange(2):
        return mutate_bytes(data, random)
    places = [
        at
        for at in range(2, len(data) - 1)
        if not data[at] & 3 and 0 < data[at] >> 2 <= len(data) - at - 1
    ]
    if not places:
        return mutate_bytes(data, random)
    at = random.choice(places)
    size = data[at] >> 2
    field = mutate_bytes(data[at + 1 : at + 1 + size], random)[:63]
    return data[:at] + bytes((len(field) << 2,)) + field + data[at + 1 + size :]
