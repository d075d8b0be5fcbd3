"""Event logs of a TD: parse, replay, read identity claims, appraise.

A log is untrusted text.  It becomes evidence when replaying it gives the registers of a
verified quote: `replay`, `identity_claims` and `appraise_event_log` therefore all read the
one tuple `EventLog.events`, and the digest replayed for a dstack event is the one computed
from the very name and payload that claims are read from.

`parse_ccel` and `parse_dstack_log` live in modules of their own; `parse_event_log` chooses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha384
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ccverify.errors import EvidenceError
from ccverify.findings import Assurance, Finding, State
from ccverify.listing import listed
from ccverify.strict_json import parse_json
from ccverify.tdx.ccel import CcelTable, parse_ccel, parse_ccel_table
from ccverify.tdx.dstack_log import parse_dstack_log
from ccverify.tdx.events import DIGEST_BYTES, RUNTIME_REGISTER, DigestSource, Event, EventLog

__all__ = [
    "IDENTITY_EVENTS",
    "RTMR3_TREATMENTS",
    "CcelTable",
    "ClaimValue",
    "DigestSource",
    "Event",
    "EventLog",
    "IdentityClaims",
    "IdentityEvent",
    "appraise_event_log",
    "identity_claims",
    "parse_ccel",
    "parse_ccel_table",
    "parse_dstack_log",
    "parse_event_log",
    "replay",
]

REGISTERS: Final = 4
RTMR3_TREATMENTS: Final = ("log", "zero", "opaque")
"""How `appraise_event_log` can treat RTMR3: replayed, required to be zero, or not judged."""

ClaimValue = str | tuple[str, ...] | Mapping[str, Any]
"""Hex or text; a tuple of hex for an event that may repeat; a JSON object."""

_SYSTEM_READY: Final = "system-ready"
_MARKERS: Final = frozenset({"system-preparing", "boot-mr-done", _SYSTEM_READY})
_LISTED: Final = 5
_some = partial(listed, most=_LISTED)
"""How many problems or names a finding spells out; a hostile log can cause thousands."""


def parse_event_log(data: bytes) -> EventLog:
    """Parse a CCEL log or a dstack log, whichever the bytes are.

    Raises:
        EvidenceError: as `parse_ccel` and `parse_dstack_log`.
    """
    # A CCEL log begins with the u32 0 or 1, so it can't begin like JSON.
    looks_like_json = data[:64].lstrip(b" \t\r\n")[:1] in (b"[", b"{")
    return parse_dstack_log(data) if looks_like_json else parse_ccel(data)


def replay(log: EventLog) -> tuple[bytes, bytes, bytes, bytes]:
    """Return RTMR0 to RTMR3, 48 bytes each, as the log's events would leave them.

    Each starts at zero; an event sets it to SHA-384(register ‖ digest) (Intel TDX module
    base specification, TDG.MR.RTMR.EXTEND).
    """
    registers = [bytes(DIGEST_BYTES)] * REGISTERS
    for event in log.events:
        if event.extends and event.register is not None:
            registers[event.register] = _extend(registers[event.register], event.digest)
    return registers[0], registers[1], registers[2], registers[3]


def _extend(register: bytes, digest: bytes) -> bytes:
    return sha384(register + digest).digest()


class IdentityEvent(NamedTuple):
    """A dstack event that names what runs in the TD, and how its payload is shown."""

    claim: str
    render: Callable[[bytes], str | Mapping[str, Any]]
    repeats: bool = False


def _text(payload: bytes) -> str:
    text = payload.decode("utf-8")
    if not text.isprintable():
        raise ValueError("unprintable characters")
    return text


def _json_object(payload: bytes) -> Mapping[str, Any]:
    value = parse_json(payload, what="payload", error=EvidenceError)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return MappingProxyType(value)


IDENTITY_EVENTS: Final[Mapping[str, IdentityEvent]] = MappingProxyType(
    {
        "app-id": IdentityEvent("app_id", bytes.hex),
        "ca-cert-hash": IdentityEvent("ca_cert_hash", bytes.hex),
        "compose-hash": IdentityEvent("compose_hash", bytes.hex),
        "device-id": IdentityEvent("device_id", bytes.hex),
        "gpu-attestation": IdentityEvent("gpu_attestation", _json_object),
        "gpu-policy-hash": IdentityEvent("gpu_policy_hash", bytes.hex),
        "init-script-hash": IdentityEvent("init_script_hash", bytes.hex, repeats=True),
        "instance-id": IdentityEvent("instance_id", bytes.hex),
        "key-provider": IdentityEvent("key_provider", _json_object),
        "mr-kms": IdentityEvent("mr_kms", bytes.hex),
        "os-image-hash": IdentityEvent("os_image_hash", bytes.hex),
        "rootfs-hash": IdentityEvent("rootfs_hash", bytes.hex),
        "storage-fs": IdentityEvent("storage_fs", _text),
    }
)
"""Event name → claim.  dstack emits one ``init-script-hash`` for each script, in order."""


@dataclass(frozen=True, slots=True)
class IdentityClaims:
    """What a dstack guest measured about itself into RTMR3 before applications started.

    The claims are proven only if RTMR3 of the replayed log equals that of a verified quote,
    which is what a TDX-EVENTLOG-IDENTITY that passes says.

    Attributes:
        values: claim name (`IDENTITY_EVENTS`) → value; empty unless `problems` is.
        unrecognised: names of other events before ``system-ready``.
        application_events: RTMR3 events after ``system-ready``.  Any application can cause
            them, under any name, so they never say what the TD is.
        problems: why no claim can be taken from this log.
    """

    values: Mapping[str, ClaimValue]
    unrecognised: tuple[str, ...]
    application_events: tuple[Event, ...]
    problems: tuple[str, ...]

    @property
    def app_id_from_compose(self) -> bool | None:
        """Return whether app_id is the first 20 bytes of compose_hash; None if one is absent.

        Only information: it is dstack's default, and a deployment may choose another app_id.
        """
        app_id, compose_hash = self.values.get("app_id"), self.values.get("compose_hash")
        if not isinstance(app_id, str) or not isinstance(compose_hash, str):
            return None
        return app_id == compose_hash[:40]


def identity_claims(log: EventLog) -> IdentityClaims:
    """Read the identity claims of a dstack log; never raises.

    Claims come from the RTMR3 events before the first ``system-ready``.  All of those must
    be runtime events whose digest was computed here: one digest-only event among them could
    be a genuine ``system-ready`` under another label, with everything an application
    extended later passed off as part of the boot.
    """
    boot, applications, problems = _split_at_ready(log)
    counts = Counter(event.name for event in boot)
    problems += [
        f"event {name!r} occurs {count} times before {_SYSTEM_READY}"
        for name, count in counts.items()
        if count > 1 and not (name in IDENTITY_EVENTS and IDENTITY_EVENTS[name].repeats)
    ]
    values = _render(boot, problems)
    return IdentityClaims(
        values=MappingProxyType({} if problems else values),
        unrecognised=tuple(n for n in counts if n not in IDENTITY_EVENTS and n not in _MARKERS),
        application_events=tuple(applications),
        problems=tuple(problems),
    )


def _split_at_ready(log: EventLog) -> tuple[list[Event], list[Event], list[str]]:
    boot: list[Event] = []
    applications: list[Event] = []
    problems: list[str] = []
    ready: Event | None = None
    for event in log.events:
        if event.register != RUNTIME_REGISTER or not event.extends:
            continue
        is_ready = event.is_runtime and event.name == _SYSTEM_READY
        if ready is not None:
            if is_ready:
                problems.append(f"event {event.index} is a second {_SYSTEM_READY}")
            applications.append(event)
        elif not event.is_runtime or event.source is not DigestSource.RECOMPUTED:
            problems.append(
                f"event {event.index} ({event.name!r}, {event.type_name}) comes before "
                f"{_SYSTEM_READY} and its digest does not prove its name and payload"
            )
        elif ":" in event.name:
            # "type:name:payload" can be cut at another colon: the same digest would prove
            # another name.  No system event has a colon in its name.
            problems.append(f"event {event.index} has an ambiguous name, {event.name!r}")
        elif is_ready:
            ready = event
        else:
            boot.append(event)
    if ready is None:
        problems.append(f"no {_SYSTEM_READY} event: the boot phase has no proven end")
    return boot, applications, problems


def _render(boot: Iterable[Event], problems: list[str]) -> dict[str, ClaimValue]:
    values: dict[str, ClaimValue] = {}
    repeated: dict[str, list[str]] = {}
    for event in boot:
        identity = IDENTITY_EVENTS.get(event.name)
        if identity is None:
            continue
        try:
            value = identity.render(event.payload)
        except (ValueError, EvidenceError) as problem:
            problems.append(f"event {event.index} ({event.name!r}) has a bad payload: {problem}")
            continue
        if identity.repeats and isinstance(value, str):
            repeated.setdefault(identity.claim, []).append(value)
        else:
            values[identity.claim] = value
    return values | {claim: tuple(each) for claim, each in repeated.items()}


def appraise_event_log(log: EventLog, rtmrs: Sequence[bytes], *, rtmr3: str) -> list[Finding]:
    """Compare a log with the registers of a verified quote; never raises.

    Args:
        log: the parsed log.
        rtmrs: RTMR0 to RTMR3 of the quote, 48 bytes each.
        rtmr3: ``log``, RTMR3 must replay from this log; ``zero``, RTMR3 must be zero and the
            log must not extend it; ``opaque``, RTMR3 is not judged, because the kernel of
            the TD adds nothing to a CCEL log and so the log can't explain that register.

    Returns:
        TDX-EVENTLOG-RTMR0 to -RTMR3, TDX-EVENTLOG-DIGESTS and TDX-EVENTLOG-IDENTITY, in this
        order.  HARDWARE assurance presumes that the quote was verified.
    """
    replayed = replay(log)
    counts = Counter(event.register for event in log.events if event.extends)
    quoted = [rtmrs[i] if i < len(rtmrs) else b"" for i in range(REGISTERS)]
    registers = [
        _replayed_register(i, quoted[i], replayed[i], counts[i]) for i in range(RUNTIME_REGISTER)
    ]
    last = _register3(quoted[3], replayed[3], counts[3], rtmr3)
    proven = rtmr3 == "log" and last.state is State.PASS
    return [*registers, last, _digests(log, proven=proven), _identity(log, rtmr3, proven=proven)]


def _replayed_register(register: int, quoted: bytes, replayed: bytes, count: int) -> Finding:
    matches = quoted == replayed
    return Finding(
        f"TDX-EVENTLOG-RTMR{register}",
        State.PASS if matches else State.FAIL,
        expected=f"{quoted.hex()} (quote)",
        found=f"{replayed.hex()} (replay of {count} events)",
        where=f"event log, events of RTMR{register}",
        assurance=Assurance.HARDWARE if matches else Assurance.NONE,
    )


def _register3(quoted: bytes, replayed: bytes, count: int, rtmr3: str) -> Finding:
    code, where = "TDX-EVENTLOG-RTMR3", "event log, events of RTMR3"
    if rtmr3 == "log":
        return _replayed_register(RUNTIME_REGISTER, quoted, replayed, count)
    if rtmr3 == "zero":
        zero = quoted == bytes(DIGEST_BYTES) and count == 0
        return Finding(
            code,
            State.PASS if zero else State.FAIL,
            expected="a zero register and no event of RTMR3",
            found=f"{quoted.hex()} (quote) and {count} events",
            where=where,
            assurance=Assurance.HARDWARE if zero else Assurance.NONE,
        )
    if rtmr3 == "opaque":
        return Finding(
            code,
            State.NOT_CHECKED,
            found="treated as opaque: software in the TD extends RTMR3 without adding to this log",
            where=where,
        )
    return Finding(
        code,
        State.FAIL,
        expected=f"a treatment of RTMR3 out of {', '.join(RTMR3_TREATMENTS)}",
        found=repr(rtmr3),
        where=where,
    )


def _digests(log: EventLog, *, proven: bool) -> Finding:
    code = "TDX-EVENTLOG-DIGESTS"
    runtime = [event for event in log.events if log.kind == "dstack" and event.is_runtime]
    wrong = [event for event in runtime if event.source is not DigestSource.RECOMPUTED]
    if not runtime:
        return Finding(code, State.NOT_APPLICABLE, found="the log has no runtime events")
    if wrong:
        return Finding(
            code,
            State.FAIL,
            expected="for each runtime event, the digest and preimage of its own payload",
            found=_some([f"event {event.index} ({event.name!r}) has another" for event in wrong]),
            where=f"event log, event {wrong[0].index}",
        )
    return Finding(
        code,
        State.PASS,
        found=f"{len(runtime)} runtime events, each with the digest of its own payload",
        assurance=Assurance.HARDWARE if proven else Assurance.NONE,
    )


def _identity(log: EventLog, rtmr3: str, *, proven: bool) -> Finding:
    code, where = "TDX-EVENTLOG-IDENTITY", "event log, events of RTMR3"
    if log.kind == "ccel":
        return Finding(
            code, State.NOT_APPLICABLE, found="a firmware log has no dstack runtime events"
        )
    claims = identity_claims(log)
    if claims.problems:
        found, state = _some(claims.problems), State.FAIL
    elif rtmr3 in ("zero", "opaque"):
        found, state = f"RTMR3 is treated as {rtmr3}, so nothing proves them", State.NOT_CHECKED
    elif not proven:
        found, state = "RTMR3 is not explained by this log, so nothing proves them", State.FAIL
    else:
        found, state = _summary(claims), State.PASS
    return Finding(
        code,
        state,
        expected=f"identity events, each once, before one {_SYSTEM_READY}",
        found=found,
        where=where,
        assurance=Assurance.HARDWARE if state is State.PASS else Assurance.NONE,
    )


def _summary(claims: IdentityClaims) -> str:
    parts = [f"{len(claims.values)} claims: {', '.join(claims.values) or 'none'}"]
    if claims.unrecognised:
        parts.append(f"unrecognised: {_some([repr(name) for name in claims.unrecognised])}")
    if claims.application_events:
        parts.append(f"{len(claims.application_events)} application events")
    if claims.app_id_from_compose is False:
        parts.append("app_id is not derived from compose_hash")
    return "; ".join(parts)
