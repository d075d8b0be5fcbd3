"""Mutations of what a fabric's manager states: tables and settings in text, and programs of edits.

A statement is a bundle of a dozen files, so that of one, as of evidence for `ccverify.check`, the
input is a program of edits (`fuzz.statements`), and no file.
"""

from __future__ import annotations

import re
from random import Random

from fuzz.mutate import mutate_bytes, mutate_json

__all__ = ["mutate_dump", "mutate_item"]

_NUMBER = re.compile(rb"0[xX][0-9a-fA-F]+|[0-9]+")
_VALUES = (
    b"0", b"00", b"-1", b"1", b"31", b"32", b"63", b"64", b"254", b"255", b"256", b"0x0", b"0x1",
    b"0x7fff", b"0x8000", b"0xbfff", b"0xC000", b"0xffff", b"0x10000", b"0xffffffffffffffff",
    b"0x10000000000000000", b"9" * 400, b"UNREACHABLE", b"(NULL)", b"NaN",
)  # fmt: skip


def mutate_item(data: bytes, random: Random) -> bytes:
    """Change JSON as JSON, and everything else as a dump."""
    mutate = mutate_json if data.lstrip()[:1] in (b"{", b"[") else mutate_dump
    return mutate(data, random)


def mutate_dump(data: bytes, random: Random) -> bytes:
    """Change a line, a number in it, or any byte."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    other = random.choice(lines)
    match random.randrange(10):
        case 0:
            return mutate_bytes(data, random)
        case 1:
            del lines[at : at + random.randint(1, 8)]
        case 2:
            lines[at:at] = lines[at : at + random.randint(1, 8)] * random.choice((1, 1, 2, 64))
        case 3:
            lines[at] = other
        case 4:
            size = random.randint(1, 40)
            to = random.randrange(len(lines))
            lines[at:at] = lines[to : to + size]
        case 5:
            lines[at] = mutate_bytes(lines[at], random)
        case _:
            lines[at] = _other_number(lines[at], other, random)
    return b"\n".join(lines)


def _other_number(line: bytes, other: bytes, random: Random) -> bytes:
    places = list(_NUMBER.finditer(line))
    if not places:
        return mutate_bytes(line, random)
    place = random.choice(places)
    found = _NUMBER.findall(other)
    value = random.choice(found) if found and random.randrange(3) else random.choice(_VALUES)
    if not random.randrange(4):
        base = 16 if place[0][:2].lower() == b"0x" else 10
        step = int(place[0], base) + random.choice((-1, 1, 0x8000))
        value = f"{max(step, 0):#0{len(place[0])}x}".encode() if base == 16 else b"%d" % step
    return line[: place.start()] + value + line[place.end() :]
