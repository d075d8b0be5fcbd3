"""Defects of event logs: logs that do not replay, and logs whose text is not what was measured."""

from __future__ import annotations

from dataclasses import replace

from ccverify.sim.defects.model import Defect, Form, Make, changed
from ccverify.sim.eventlog import CcelEvent, DstackEvent, replay_dstack
from ccverify.sim.platform import SimCase

__all__ = ["LOG_DEFECTS"]

_CMDLINE = 16  # index of the kernel command line in the default boot log


def _boot(case: SimCase, events: tuple[CcelEvent, ...]) -> SimCase:
    return replace(case, boot_events=events)


def _dropped(case: SimCase) -> SimCase:
    return _boot(case, case.boot_events[:-1])


def _added(case: SimCase) -> SimCase:
    return _boot(case, (*case.boot_events, CcelEvent(3, 0xD, b"never measured\0")))


def _swapped(case: SimCase) -> SimCase:
    first, second, *rest = case.boot_events
    return _boot(case, (second, first, *rest))


def _relabelled(case: SimCase) -> SimCase:
    """Change an event's text and keep its digest, so that the log still replays."""
    events = list(case.boot_events)
    old = events[_CMDLINE]
    events[_CMDLINE] = replace(old, data=b"kernel_cmdline: harmless\0", digest=old.extended)
    return _boot(case, tuple(events))


def _runtime(case: SimCase, events: tuple[DstackEvent, ...]) -> SimCase:
    return replace(case, runtime_events=events)


def _compose_forged(case: SimCase) -> SimCase:
    """Change the compose hash and keep the digest the honest one had."""
    events = tuple(
        replace(event, payload=bytes(32), stated_digest=event.digest())
        if event.name == "compose-hash"
        else event
        for event in case.runtime_events
    )
    return _runtime(case, events)


def _runtime_reordered(case: SimCase) -> SimCase:
    return _runtime(case, tuple(reversed(case.runtime_events)))


def _late_identity(case: SimCase) -> SimCase:
    """Let the application add a second app-id after system-ready; measured honestly."""
    late = DstackEvent("app-id", bytes(20))
    events = (*case.runtime_events, late)
    return _runtime(case, events).with_body(rtmr3=_rtmr3(events))


def _rtmr3(events: tuple[DstackEvent, ...]) -> bytes:
    """Return RTMR3 after the runtime events alone."""
    return replay_dstack((), events)[3]


def _row(name: str, summary: str, make: Make) -> Defect:
    return Defect(name, "log", summary, make)


_DSTACK: Form = "v4-dstack"

LOG_DEFECTS: tuple[Defect, ...] = (
    _row("ccel-event-dropped", "the last boot event is missing", changed(_dropped)),
    _row("ccel-event-added", "the log has an event nobody measured", changed(_added)),
    _row("ccel-events-swapped", "two boot events changed places", changed(_swapped)),
    _row("ccel-event-relabelled", "an event's text is not what was measured", changed(_relabelled)),
    _row(
        "dstack-compose-forged",
        "the compose hash is not what was measured",
        changed(_compose_forged, _DSTACK),
    ),
    _row(
        "dstack-reordered",
        "the runtime events are in another order",
        changed(_runtime_reordered, _DSTACK),
    ),
    _row(
        "dstack-late-identity",
        "a second app-id follows system-ready",
        changed(_late_identity, _DSTACK),
    ),
)
