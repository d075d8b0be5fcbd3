"""Asking several devices at once, with a deadline that a hanging driver call cannot stretch.

A call into a driver cannot be interrupted, so it runs in a daemon thread and is left behind when
its time is up: it holds neither the other devices nor the end of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from ccverify.collect.model import Ask

__all__ = ["Answer", "ask_all", "ask_one"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """How one question ended: with a value, with an exception, or not in time (neither).

    Attributes:
        value: what the question returned.
        error: what it raised.
        late: whether it was still under way at the deadline.
    """

    value: _T | None = None
    error: Exception | None = None
    late: bool = False


def ask_all(questions: Sequence[Callable[[], _T]], ask: Ask) -> list[Answer[_T]]:
    """Ask every question in a thread of its own; return the answers in the order asked.

    Returns at the latest at ``ask.deadline``; what is not answered then is late.
    """
    replies: SimpleQueue[tuple[int, Answer[_T]]] = SimpleQueue()

    def run(at: int, question: Callable[[], _T]) -> None:
        try:
            replies.put((at, Answer(value=question())))
        except Exception as problem:
            replies.put((at, Answer(error=problem)))

    for at, question in enumerate(questions):
        threading.Thread(target=run, args=(at, question), daemon=True).start()
    answers: list[Answer[_T]] = [Answer(late=True)] * len(questions)
    missing = len(questions)
    while missing:
        try:
            at, answer = replies.get(timeout=ask.remaining)
        except Empty:
            break
        answers[at] = answer
        missing -= 1
    return answers


def ask_one(question: Callable[[], _T], ask: Ask) -> Answer[_T]:
    """Ask one question, with the deadline of `ask`."""
    return ask_all([question], ask)[0]
