"""Builders of synthetic event logs, written from the formats' descriptions."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RUNTIME = 0x08000001
SHA384 = 0x000C
SPEC_ID = b"Spec ID Event03\0"

BOOT = (
    ("system-preparing", b""),
    ("app-id", bytes(range(20))),
    ("compose-hash", bytes(range(32))),
    ("instance-id", bytes(20)),
    ("boot-mr-done", b""),
    ("key-provider", b'{"name":"kms","id":"00"}'),
    ("storage-fs", b"zfs"),
    ("system-ready", b""),
)
"""The runtime events of a dstack guest that boots as it should."""


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def spec_id(
    algorithms: Sequence[tuple[int, int]] = ((SHA384, 48),),
    *,
    index: int = 0,
    event_type: int = 3,
    sha1: bytes = bytes(20),
    signature: bytes = SPEC_ID,
    major: int = 2,
    count: int | None = None,
    vendor: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """The Spec ID event that begins a CCEL log."""
    number = len(algorithms) if count is None else count
    body = signature + struct.pack("<IBBBBI", 0, 0, major, 0, 2, number)
    body += b"".join(struct.pack("<HH", *algorithm) for algorithm in algorithms)
    body += bytes([len(vendor)]) + vendor + extra
    return struct.pack("<II20sI", index, event_type, sha1, len(body)) + body


def event2(
    register: int,
    event_type: int,
    payload: bytes,
    digests: Sequence[tuple[int, bytes]] | None = None,
) -> bytes:
    """One TCG_PCR_EVENT2; the digest is that of the payload unless given."""
    listed = [(SHA384, sha384(payload))] if digests is None else digests
    head = struct.pack("<III", register, event_type, len(listed))
    body = b"".join(struct.pack("<H", algorithm) + digest for algorithm, digest in listed)
    return head + body + struct.pack("<I", len(payload)) + payload


def runtime(name: str, payload: bytes, **members: Any) -> dict[str, Any]:
    """A dstack runtime event with its version 1 digest, then changed by `members`."""
    digest = sha384(struct.pack("<I", RUNTIME) + b":" + name.encode() + b":" + payload)
    return {
        "imr": 3,
        "event_type": RUNTIME,
        "digest": digest.hex(),
        "event": name,
        "event_payload": payload.hex(),
    } | members


def runtime_v2(name: str, payload: bytes, **members: Any) -> dict[str, Any]:
    """A dstack runtime event with its version 2 digest and preimage, then changed."""
    fields = {"payload": payload.hex(), "name": name, "type": RUNTIME}
    preimage = json.dumps(
        fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    event = runtime(name, payload, digest=sha384(preimage).hex(), version=2)
    return event | {"preimage": preimage.hex()} | members


def firmware(imr: int, payload: bytes = b"\0\0\0\0", /, **members: Any) -> dict[str, Any]:
    """An EV_SEPARATOR as dstack writes firmware events, then changed by `members`."""
    return {
        "imr": imr,
        "event_type": 4,
        "digest": sha384(payload).hex(),
        "event": "",
        "event_payload": payload.hex(),
    } | members


def dstack(events: Iterable[dict[str, Any]]) -> bytes:
    return json.dumps(list(events)).encode()


def boot_events() -> list[dict[str, Any]]:
    return [firmware(0), firmware(1), firmware(2), *(runtime(*event) for event in BOOT)]


def quote_rtmrs(quote: bytes) -> tuple[bytes, ...]:
    """RTMR0 to RTMR3 of a quote, sliced by hand: body at 48 in version 4, at 54 in 5."""
    body = 48 if quote[0] == 4 else 54
    return tuple(quote[body + 328 + 48 * i : body + 376 + 48 * i] for i in range(4))


def ccel_logs(vectors: Path) -> list[Path]:
    """Every real CCEL log among the vectors."""
    found = [p for p in (vectors / "tdx" / "eventlogs").iterdir() if p.suffix != ".json"]
    return sorted(p for p in found if "table" not in p.name and "nonce" not in p.name)
