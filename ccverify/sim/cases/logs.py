"""Event logs, good and bad: CCEL and dstack's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from ccverify.sim.cases.codes import codes
from ccverify.sim.cases.model import (
    Expected,
    FixtureCase,
    Json,
    case,
    defect,
    honest,
    incomplete,
    policy,
    trusted,
    untrusted,
)
from ccverify.sim.defaults import (
    DEFAULT_BOOT_EVENTS,
    DEFAULT_COMPOSE,
    dstack_events,
    dstack_mr_config_id,
)
from ccverify.sim.eventlog import (
    DSTACK_EVENT_TYPE,
    CcelEvent,
    DstackEvent,
    dstack_log,
    encode_ccel,
)
from ccverify.sim.platform import SimCase, SimEvidence

__all__ = ["CCEL_CASES", "DSTACK_CASES", "GOOD_LOG_CASES"]

Log = Callable[[SimEvidence], bytes]

_COMPOSE_HASH = dstack_mr_config_id(DEFAULT_COMPOSE)[1:33].hex()
_IPL = 0x0000000D
_FORMAT = untrusted(2, "EVENTLOG-FORMAT")
_CCEL_POLICY = policy(event_log={"required": True})


def _ccel(evidence: SimEvidence) -> bytes:
    return evidence.ccel


def _ccel_of(change: Callable[[bytes], bytes]) -> Log:
    return lambda evidence: change(evidence.ccel)


def _dstack_policy(**claims: list[str]) -> Json:
    """Return a policy that lets the log explain RTMR3, and asks for these claims."""
    named = {name.replace("__", "."): values for name, values in claims.items()}
    section: Json = {"required": True} | ({"claims": named} if named else {})
    return policy(measurements={"rtmr3": "any"}, event_log=section)


def _guest(events: Iterable[DstackEvent] = dstack_events()) -> SimCase:
    return honest(runtime_events=tuple(events), body={"mr_config_id": dstack_mr_config_id()})


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8")


def _full(evidence: SimEvidence) -> bytes:
    return evidence.dstack_event_log().encode("utf-8")


def _lite(evidence: SimEvidence) -> bytes:
    return evidence.dstack_event_log(lite=True).encode("utf-8")


def _entries(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Log:
    """Change the entries of the full dstack log."""
    return lambda own: _json(change(dstack_log(own.boot_events, own.runtime_events)))


def _with_entry(name: str, **members: Any) -> Log:
    """Change members of the event of that name."""
    return _entries(lambda log: [own | members if own["event"] == name else own for own in log])


def _answer(evidence: SimEvidence) -> bytes:
    """Return the log as dstack's get_quote answers: JSON text inside JSON."""
    return _json({"event_log": evidence.dstack_event_log(), "vm_config": "{}"})


_CLAIMS = _dstack_policy(
    app_id=[_COMPOSE_HASH[:40]],
    compose_hash=[_COMPOSE_HASH, "0" * 64],
    key_provider__name=["local-sgx"],
)

GOOD_LOG_CASES: tuple[FixtureCase, ...] = (
    case("good-ccel", "The firmware's log replays to RTMR0, RTMR1 and RTMR2.", honest,
         trusted(), covers="A23", log=_ccel, policy=_CCEL_POLICY),
    case("good-ccel-zero-filled", "The rest of the log area is zeros, and RTMR3 is unused.",
         honest, trusted(), covers="A23",
         log=lambda own: encode_ccel(own.boot_events, size=0x1800, fill=0),
         policy=policy(event_log={"rtmr3": "zero"})),
    case("good-ccel-opaque-rtmr3",
         "No kernel adds to the CCEL what it extends into RTMR3: the list vouches for that.",
         lambda: honest().with_body(rtmr3=b"\x33" * 48), trusted(), covers="A23", log=_ccel,
         policy=policy(measurements={"rtmr3": ["33" * 48]}, event_log={"required": True})),
    case("good-dstack-v1", "dstack's events hash to their digests and replay to RTMR3.", _guest,
         trusted(), covers="A23", log=_full, policy=_dstack_policy()),
    case("good-dstack-v2", "The same with digests of canonical JSON, preimages included.",
         lambda: _guest(dstack_events(version=2)), trusted(), covers="A23", log=_full,
         policy=_dstack_policy()),
    case("good-dstack-lite", "The short form leaves out all that can be computed.", _guest,
         trusted(), covers="A23", log=_lite, policy=_dstack_policy()),
    case("good-dstack-claims", "App id, compose hash and key provider are the tenant's.", _guest,
         trusted(), covers="A23", log=_full, policy=_CLAIMS),
    case("good-dstack-late-identity",
         "An application's own app-id event after system-ready is no identity claim.",
         lambda: _guest((*dstack_events(), DstackEvent("app-id", bytes(20)))), trusted(),
         covers="A23", log=_full, policy=_CLAIMS),
)  # fmt: skip


# --- CCEL ---


def _huge_event_size(log: bytes) -> bytes:
    """Let the first event claim 4 GiB of data."""
    at = 32 + int.from_bytes(log[28:32], "little") + 12 + 2 + 48
    return log[:at] + b"\xff\xff\xff\xff" + log[at + 4 :]


def _other_boot(_evidence: SimEvidence) -> bytes:
    """Return the log of a boot with another command line."""
    events = [
        CcelEvent(own.mr_index, own.event_type, b"kernel_cmdline: init=/bin/sh\0")
        if own.data.startswith(b"kernel_cmdline: ")
        else own
        for own in DEFAULT_BOOT_EVENTS
    ]
    return encode_ccel(events, size=0x1800)


CCEL_CASES: tuple[FixtureCase, ...] = (
    *(
        case(name, description, defect(name), untrusted(3, f"EVENTLOG-{register}"),
             covers="A23", log=_ccel, policy=_CCEL_POLICY)
        for name, description, register in (
            ("ccel-event-dropped", "The last event of RTMR1 is missing.", "RTMR1"),
            ("ccel-events-swapped", "Two events of RTMR0 changed places.", "RTMR0"),
        )
    ),
    case("ccel-of-another-boot", "The log is of a boot with another command line.", honest,
         untrusted(3, "EVENTLOG-RTMR2"), covers="A23", log=_other_boot, policy=_CCEL_POLICY),
    case("ccel-rtmr3-not-zero", "The policy says RTMR3 is unused, and it is not.",
         lambda: honest().with_body(rtmr3=b"\x33" * 48), untrusted(3, "EVENTLOG-RTMR3"),
         covers="A23", log=_ccel,
         policy=policy(measurements={"rtmr3": "any"}, event_log={"rtmr3": "zero"})),
    case("log-not-given", "The policy asks for an event log.", honest,
         incomplete(6, "EVENTLOG-FORMAT EVENTLOG-RTMR0 EVENTLOG-RTMR1 EVENTLOG-RTMR2"),
         covers="A23", policy=_CCEL_POLICY),
    *(
        case(name, description, honest, _FORMAT, covers=covers, log=_ccel_of(change),
             policy=_CCEL_POLICY)
        for name, description, covers, change in (
            ("ccel-cut", "The log ends inside an event.", "A1 A23", lambda log: log[:1000]),
            ("ccel-huge-event", "An event claims 4 GiB of data.", "A22 A23", _huge_event_size),
        )
    ),
)  # fmt: skip


# --- dstack ---


def _forged_lite(own: SimEvidence) -> bytes:
    """Change the compose hash in the short form, where no digest contradicts it."""
    log = dstack_log(own.boot_events, own.runtime_events, lite=True)
    return _json([e | {"event_payload": "00" * 32} if e["event"] == "compose-hash" else e
                  for e in log])  # fmt: skip


def _name_shifted(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cut ``type:name:payload`` of the key provider at a later colon: the same digest."""
    shifted = []
    for own in log:
        if own["event"] == "key-provider":
            name, _, rest = bytes.fromhex(own["event_payload"]).partition(b":")
            changed = {"event": f"key-provider:{name.decode()}", "event_payload": rest.hex()}
            own = own | changed
        shifted.append(own)
    return shifted


def _boot_hidden(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Relabel dstack's own boot as firmware events; the application's "boot" remains."""
    first_ready = next(i for i, own in enumerate(log) if own["event"] == "system-ready")
    return [
        own | {"event_type": _IPL, "event": "", "event_payload": ""}
        if index <= first_ready and own["event_type"] == DSTACK_EVENT_TYPE
        else own
        for index, own in enumerate(log)
    ]


def _by_name(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort the run-time events by name; the boot events, which have none, stay in front."""
    return sorted(log, key=lambda own: str(own["event"]))


def _second_boot() -> SimCase:
    """Let an application extend a whole second boot, of another app, after the first."""
    return _guest((*dstack_events(), *dstack_events('{"name":"evil"}')))


def _twice() -> SimCase:
    events = dstack_events()
    return _guest((*events[:3], DstackEvent("app-id", bytes(20)), *events[3:]))


def _flood(_evidence: SimEvidence) -> bytes:
    """Return 2 000 times the same event: reading it must take linear time."""
    entry = {"imr": 3, "event_type": DSTACK_EVENT_TYPE, "event": "x", "event_payload": ""}
    return _json([entry] * 2000)


def _duplicate_member(own: SimEvidence) -> bytes:
    return _full(own).replace(b'"event":"app-id"', b'"event":"app-id","event":"app-id"')


_UNEXPLAINED = "EVENTLOG-RTMR3 EVENTLOG-IDENTITY"


def _dstack(
    name: str,
    description: str,
    log: Log,
    expected: Expected,
    make: Callable[[], SimCase] = _guest,
    rules: Json | None = None,
    covers: str = "A23",
) -> FixtureCase:
    return case(f"dstack-{name}", description, make, expected, covers=covers, log=log,
                policy=rules or _dstack_policy())  # fmt: skip


DSTACK_CASES: tuple[FixtureCase, ...] = (
    _dstack("compose-forged", "The payload changed behind the digest that was measured.",
            _with_entry("compose-hash", event_payload="00" * 32),
            untrusted(3, f"{_UNEXPLAINED} EVENTLOG-DIGESTS", codes("EVENTLOG-CLAIMS")),
            rules=_CLAIMS),
    _dstack("compose-forged-lite", "The payload changed where the log states no digest.",
            _forged_lite, untrusted(3, _UNEXPLAINED, codes("EVENTLOG-CLAIMS")), rules=_CLAIMS),
    _dstack("reordered", "The run-time events stand in another order.",
            _entries(_by_name),
            untrusted(3, _UNEXPLAINED)),
    _dstack("name-shifted", "The digest is cut at another colon and proves another name.",
            _entries(_name_shifted), untrusted(3, "EVENTLOG-IDENTITY")),
    _dstack("boot-hidden", "The true boot is relabelled, and an application's posed as it.",
            _entries(_boot_hidden),
            untrusted(3, "EVENTLOG-IDENTITY", codes("EVENTLOG-CLAIMS")),
            make=_second_boot, rules=_CLAIMS),
    _dstack("identity-twice", "Two app ids before system-ready.", _full,
            untrusted(3, "EVENTLOG-IDENTITY"), make=_twice),
    _dstack("other-app", "The log is genuine, and another application's.", _full,
            untrusted(4, "EVENTLOG-CLAIMS"),
            make=lambda: _guest(dstack_events('{"name":"evil"}')), rules=_CLAIMS),
    _dstack("late-identity", "The app id asked for was measured only after system-ready.", _full,
            untrusted(4, "EVENTLOG-CLAIMS"),
            make=lambda: _guest((*dstack_events(), DstackEvent("app-id", bytes(20)))),
            rules=_dstack_policy(app_id=["00" * 20])),
    _dstack("flood", "2 000 events alike are read in linear time, and explain nothing.", _flood,
            untrusted(3, "EVENTLOG-RTMR0 EVENTLOG-RTMR1 EVENTLOG-RTMR2 " + _UNEXPLAINED),
            covers="A22 A23"),
    *(
        _dstack(name, description, log, _FORMAT, covers=f"{covers} A23")
        for name, description, log, covers in (
            ("duplicate-member", "An event has two names.", _duplicate_member, "A21"),
            ("two-lists", "The answer holds two event logs.",
             lambda own: _answer(own)[:-1] + b',"event_log":[]}', "A21"),
        )
    ),
)  # fmt: skip
