"""Calling several sources at once, whatever they do: hang, raise anything, or return nonsense.

Every call has a daemon thread of its own.  One that is not back in time is left behind there:
it holds neither the others nor the end of the process, and what it says later is not heard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from ccverify.collect.model import Absence, AbsenceReason

__all__ = ["Reply", "call_all", "late_absence", "raised_absence"]


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended.

    Attributes:
        outcomes: what it returned, as far as it could be iterated.
        raised: what it raised.
        late: whether it was not back in time.
        seconds: how long it took, or was waited for.
    """

    outcomes: tuple[Any, ...] = ()
    raised: BaseException | None = None
    late: bool = False
    seconds: float = 0.0


def call_all(
    calls: Sequence[Callable[[], Iterable[Any]]],
    *,
    seconds: float,
    clock: Callable[[], float],
    done: Callable[[int, Reply], None] | None = None,
) -> list[Reply]:
    """Make all calls at once.

    Args:
        calls: what to call; what they return is iterated in their threads.
        seconds: after which the calls that are not back are late.
        clock: monotonic seconds.
        done: is told, in the calling thread, of each call that came back or is late.

    Returns:
        The replies in the order of the calls, after `seconds` at the latest.
    """
    replies: SimpleQueue[tuple[int, Reply]] = SimpleQueue()
    started = clock()

    def run(at: int, call: Callable[[], Iterable[Any]]) -> None:
        try:
            reply = Reply(tuple(call()))
        except BaseException as problem:  # SystemExit too must not pass for silence
            reply = Reply(raised=problem)
        replies.put((at, reply))

    for at, call in enumerate(calls):
        try:
            threading.Thread(target=run, args=(at, call), daemon=True).start()
        except RuntimeError as problem:  # no more threads
            replies.put((at, Reply(raised=problem)))
    found: dict[int, Reply] = {}

    def take(at: int, reply: Reply) -> None:
        found[at] = reply
        if done is not None:
            done(at, reply)

    while len(found) < len(calls):
        try:
            at, reply = replies.get(timeout=max(0.0, started + seconds - clock()))
        except Empty:
            break
        take(at, Reply(reply.outcomes, reply.raised, seconds=clock() - started))
    for at in range(len(calls)):
        if at not in found:
            take(at, Reply(late=True, seconds=clock() - started))
    return [found[at] for at in range(len(calls))]


def late_absence(label: str, source: str, seconds: float) -> Absence:
    """The absence of a part whose source did not come back."""
    return Absence(
        label,
        AbsenceReason.TIMEOUT,
        f"{source} did not answer within {seconds:g} s",
        "give more time (--timeout); if it stays, see the kernel's log (`dmesg`) for messages "
        "of the driver",
        source,
    )


def raised_absence(label: str, source: str, problem: BaseException) -> Absence:
    """The absence of a part whose source raised; the traceback is nobody's business."""
    said = " ".join(f"{problem}".split())[:300]
    return Absence(
        label,
        AbsenceReason.FAILED,
        f"{source} raised {type(problem).__name__}" + (f": {said}" if said else ""),
        "this is a bug in ccverify or in a library it uses: report it, with what you ran",
        source,
    )
