"""The file format of collateral packs: the object around the artefacts, and how members are read.

Each vendor's module knows its own types of artefact; this one knows none.
Format: docs/spec/collateral-pack.md.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ccverify.errors import CollateralError

__all__ = [
    "MAX_ARTEFACTS",
    "MAX_PACK_BYTES",
    "PACK_SCHEMA",
    "Entry",
    "Members",
    "base64_member",
    "base64_text",
    "hex_member",
    "is_pack",
    "pack_entries",
    "serialize_entries",
    "shape_of",
    "text_member",
]

PACK_SCHEMA: Final = "ccverify.collateral/v1"
MAX_PACK_BYTES: Final = 32 * 1024 * 1024
MAX_ARTEFACTS: Final = 4096

Members = Mapping[str, tuple[frozenset[str], frozenset[str]]]
"""Type of artefact → the members it must have and those it may have, beside ``type``."""
Entry = dict[str, Any]
"""One artefact in a pack; `pack_entries` has looked at its type and its members' names."""


def is_pack(document: object) -> bool:
    """Whether a JSON value says that it is a pack."""
    return isinstance(document, dict) and document.get("schema") == PACK_SCHEMA


def pack_entries(document: dict[str, Any], known: Members) -> list[tuple[str, Entry]]:
    """Return where each artefact is (``artefacts[3]``) and the artefact.

    Args:
        document: a JSON value for which `is_pack` holds.
        known: the types that are understood.

    Raises:
        CollateralError: other members than a pack has, over `MAX_ARTEFACTS`, a type that is not
            in `known`, or a member that is missing or has no business there.
    """
    entries = document.get("artefacts")
    if set(document) != {"schema", "artefacts"} or not isinstance(entries, list):
        raise CollateralError(
            "collateral pack has other members than it should",
            expected="schema, artefacts (a list)",
            found=", ".join(sorted(map(str, document)))[:200],
        )
    if len(entries) > MAX_ARTEFACTS:
        raise CollateralError("collateral pack has too many artefacts", found=str(len(entries)))
    placed = []
    for index, entry in enumerate(entries):
        where = f"artefacts[{index}]"
        kind = entry.get("type") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in known:
            raise CollateralError(
                "unknown type of artefact",
                expected=", ".join(known),
                found=repr(kind)[:80],
                where=where,
            )
        required, optional = known[kind]
        members = set(entry) - {"type"}
        if not required <= members <= required | optional:
            raise CollateralError(
                f"{kind} has other members than it should",
                expected=", ".join(sorted(required | optional)),
                found=", ".join(sorted(members))[:200],
                where=where,
            )
        placed.append((where, entry))
    return placed


def serialize_entries(entries: Iterable[Mapping[str, str]]) -> bytes:
    """Return a pack of these artefacts: UTF-8 JSON, the same bytes in whatever order they come."""
    ordered = sorted(map(dict, entries), key=lambda entry: json.dumps(entry, sort_keys=True))
    document = {"schema": PACK_SCHEMA, "artefacts": ordered}
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def text_member(entry: Entry, key: str, where: str) -> str:
    """Return a member that is a string, or raise CollateralError."""
    value = entry.get(key)
    if not isinstance(value, str):
        raise CollateralError(
            f"member {key} is missing or not a string",
            expected="a string",
            found=shape_of(value),
            where=f"{where}.{key}",
        )
    return value


def hex_member(entry: Entry, key: str, where: str) -> bytes:
    """Return the bytes of a member that is hex, or raise CollateralError."""
    try:
        return binascii.unhexlify(text_member(entry, key, where))
    except ValueError:  # binascii.Error is one; so is text that is not ASCII
        raise CollateralError(f"member {key} is not hex", where=f"{where}.{key}") from None


def base64_member(entry: Entry, key: str, where: str) -> bytes:
    """Return the bytes of a member that is base64, or raise CollateralError."""
    try:
        return base64.b64decode(text_member(entry, key, where), validate=True)
    except ValueError:  # binascii.Error is one; so is text that is not ASCII
        raise CollateralError(f"member {key} is not base64", where=f"{where}.{key}") from None


def base64_text(data: bytes) -> str:
    """Return bytes as a pack holds them: base64 without line ends (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def shape_of(value: object) -> str:
    """Say what a JSON value is, for an error."""
    if isinstance(value, dict):
        return "an object with " + (", ".join(sorted(map(str, value)))[:160] or "no members")
    return {list: "a list", str: "a string", type(None): "nothing"}.get(
        type(value), type(value).__name__
    )
