"""The JSON event log of dstack guests: firmware events and dstack's runtime events.

A list of ``{"imr", "event_type", "digest", "event", "event_payload"}`` where ``imr`` 0 to 3
is RTMR0 to RTMR3, byte strings are hex, and dstack's own events (type 0x08000001) are
extended into RTMR3.  A runtime event has one of two digests, chosen by ``version``:

* 1 (the default): SHA-384 of type as u32 little endian ``:`` name ``:`` payload.
* 2: SHA-384 of the RFC 8785 JSON ``{"name", "payload" (lower-case hex), "type"}``.

Version 2 events may carry the hashed bytes as ``preimage``.  The short ("lite") form leaves
out the payloads of firmware events and the digests of runtime events.  Source: the
cc-eventlog crate of the dstack project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha384
from typing import Any, Final

import rfc8785

from ccverify.errors import EvidenceError
from ccverify.strict_json import MAX_JSON_BYTES, parse_json
from ccverify.tdx.events import (
    DIGEST_BYTES,
    EV_DSTACK_RUNTIME,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    RUNTIME_REGISTER,
    DigestSource,
    Event,
    EventLog,
    authenticated_part,
)

__all__ = ["MAX_DSTACK_LOG_BYTES", "MAX_NAME_CHARACTERS", "parse_dstack_log", "runtime_preimage"]

MAX_DSTACK_LOG_BYTES: Final = MAX_JSON_BYTES
"""Largest accepted log, in bytes of JSON.  Real ones are 8 to 17 KiB."""
MAX_NAME_CHARACTERS: Final = 256
"""Longest accepted event name.  Real ones stay under 20."""

_REQUIRED: Final = frozenset({"imr", "event_type", "event", "event_payload"})
# dstack's own reader takes a missing digest for an empty one, and a missing version for 1.
_OPTIONAL: Final = frozenset({"digest", "version", "preimage"})
_HEX: Final = re.compile(r"[0-9a-fA-F]*")
_U32_MAX: Final = 0xFFFFFFFF


def parse_dstack_log(data: bytes) -> EventLog:
    """Parse a dstack event log.

    Args:
        data: UTF-8 JSON; the list of events, or an object such as a get_quote answer whose
            member ``event_log`` is that list or that list as a JSON string.  Other members
            of such an object are ignored.

    Raises:
        EvidenceError: not such JSON, unknown members in an event, a value of the wrong type
            or size, or more than the limits of this module allow.
    """
    value, where = _parse_json(data, "event log"), "event log"
    if isinstance(value, dict):
        where = "event_log"
        if where not in value:
            raise _refused(
                "no event log in this JSON object", "a member event_log", _keys(value), "event log"
            )
        value = value[where]
        if isinstance(value, str):
            value = _parse_json(value, where)
    if not isinstance(value, list):
        raise _refused("event log is not a list", "a list of events", _type(value), where)
    if len(value) > MAX_EVENTS:
        raise _refused("event log has too many events", f"at most {MAX_EVENTS}", len(value), where)
    events = (_parse_event(entry, index, f"{where}[{index}]") for index, entry in enumerate(value))
    return EventLog("dstack", tuple(events))


def runtime_preimage(name: str, payload: bytes, version: int) -> bytes:
    """Return the bytes whose SHA-384 dstack extends for a runtime event.

    Args:
        name: the event's name.
        payload: the event's payload, decoded.
        version: 1 or 2, see the module's description.
    """
    if version == 2:
        return rfc8785.dumps({"name": name, "payload": payload.hex(), "type": EV_DSTACK_RUNTIME})
    event_type = EV_DSTACK_RUNTIME.to_bytes(4, "little")
    return b":".join((event_type, name.encode("utf-8"), payload))


def _parse_event(entry: Any, index: int, where: str) -> Event:
    if not isinstance(entry, dict):
        raise _refused("event is not an object", "an object", _type(entry), where)
    missing, unknown = _REQUIRED - entry.keys(), entry.keys() - _REQUIRED - _OPTIONAL
    if missing or unknown:
        raise _refused(
            f"event has {'missing' if missing else 'unknown'} members",
            f"{_keys(_REQUIRED)} and at most {_keys(_OPTIONAL)}",
            _keys(entry),
            where,
        )
    event_type = _integer(entry, "event_type", where, _U32_MAX)
    if event_type == EV_DSTACK_RUNTIME:
        return _runtime_event(entry, index, where)
    return _firmware_event(entry, index, where, event_type)


def _firmware_event(entry: Mapping[str, Any], index: int, where: str, event_type: int) -> Event:
    _firmware_has_no("preimage", entry, None, where)
    _firmware_has_no("version", entry, 1, where)
    digest = _hex(entry, "digest", where)
    if not 1 <= len(digest) <= DIGEST_BYTES:
        raise _refused(
            "a firmware event needs a digest",
            f"1 to {DIGEST_BYTES} bytes",
            f"{len(digest)} bytes",
            f"{where}.digest",
            hint="only the digests of dstack runtime events can be left out",
        )
    # Firmware that measures with a shorter hash fills the register's 48 bytes with zeros.
    digest = digest.ljust(DIGEST_BYTES, b"\0")
    payload = _hex(entry, "event_payload", where)
    authenticated = authenticated_part(event_type, payload, digest)
    return Event(
        index=index,
        register=_integer(entry, "imr", where, RUNTIME_REGISTER),
        event_type=event_type,
        digest=digest,
        name=_name(entry, where),
        payload=payload,
        source=DigestSource.LOGGED if authenticated is None else DigestSource.RECOMPUTED,
        authenticated=authenticated,
    )


def _firmware_has_no(member: str, entry: Mapping[str, Any], default: object, where: str) -> None:
    value = entry.get(member, default)
    if type(value) is not type(default) or value != default:
        raise _refused(
            f"a firmware event has no {member}",
            f"{member} left out",
            _shown(value),
            f"{where}.{member}",
        )


def _runtime_event(entry: Mapping[str, Any], index: int, where: str) -> Event:
    register = _integer(entry, "imr", where, RUNTIME_REGISTER)
    if register != RUNTIME_REGISTER:
        raise _refused(
            "a dstack runtime event is not of RTMR3", RUNTIME_REGISTER, register, f"{where}.imr"
        )
    name, payload = _name(entry, where), _hex(entry, "event_payload", where)
    logged = _hex(entry, "digest", where)
    if len(logged) not in (0, DIGEST_BYTES):
        raise _refused(
            "a runtime event's digest has the wrong size",
            f"{DIGEST_BYTES} bytes, or none",
            f"{len(logged)} bytes",
            f"{where}.digest",
        )
    version = _integer({"version": 1, **entry}, "version", where, 2)
    if version == 0:
        raise _refused("unknown version of runtime event", "1 or 2", 0, f"{where}.version")
    preimage = runtime_preimage(name, payload, version)
    digest = sha384(preimage).digest()
    agrees = logged in (b"", digest)
    if entry.get("preimage") is not None:
        agrees = agrees and _hex(entry, "preimage", where) == preimage
    return Event(
        index=index,
        register=register,
        event_type=EV_DSTACK_RUNTIME,
        digest=digest,
        name=name,
        payload=payload,
        source=DigestSource.RECOMPUTED if agrees else DigestSource.MISMATCH,
        authenticated=payload if agrees else None,
        logged_digest=logged or None,
    )


def _integer(entry: Mapping[str, Any], member: str, where: str, highest: int) -> int:
    value = entry[member]
    # bool is a subclass of int, and 3.0 == 3: only the type itself tells.
    if type(value) is not int or not 0 <= value <= highest:
        raise _refused(
            f"{member} is out of range",
            f"an integer from 0 to {highest}",
            _shown(value),
            f"{where}.{member}",
        )
    return value


def _hex(entry: Mapping[str, Any], member: str, where: str) -> bytes:
    value = entry.get(member, "")
    limit = 2 * MAX_EVENT_BYTES
    if (
        not isinstance(value, str)
        or len(value) > limit
        or len(value) % 2
        or not _HEX.fullmatch(value)
    ):
        raise _refused(
            f"{member} is not a byte string in hex",
            f"a string of at most {limit} hex digits, two for each byte",
            _shown(value),
            f"{where}.{member}",
        )
    return bytes.fromhex(value)


def _name(entry: Mapping[str, Any], where: str) -> str:
    value = entry["event"]
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARACTERS:
        raise _refused(
            "event name is unusable",
            f"a string of at most {MAX_NAME_CHARACTERS} characters",
            _shown(value),
            f"{where}.event",
        )
    return value


def _parse_json(text: bytes | str, what: str) -> Any:
    return parse_json(text, what=what, error=EvidenceError, limit=MAX_DSTACK_LOG_BYTES)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:40]!r} ({len(value)} characters)"
    if type(value) in (bool, float, type(None)):
        return repr(value)
    if type(value) is int and abs(value) <= _U32_MAX:
        return str(value)
    return _type(value)


def _type(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


def _keys(members: Mapping[str, Any] | frozenset[str]) -> str:
    shown = ", ".join(repr(key[:40]) for key in sorted(members)[:12])
    return shown or "no members"


def _refused(
    message: str, expected: object, found: object, where: str, *, hint: str | None = None
) -> EvidenceError:
    return EvidenceError(message, expected=str(expected), found=str(found), where=where, hint=hint)
