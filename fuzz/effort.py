"""How much work a parser does, counted instead of timed, so that no machine's speed matters.

Counted are the lines of Python executed in ``ccverify`` and the peak of the memory allocated.
What C code does in one call (`re`, `json`, libxml2) is not seen: tests of that use inputs on
which anything but linear time would take minutes.
"""

from __future__ import annotations

import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import ccverify
from ccverify.errors import CcverifyError

__all__ = ["grows_linearly", "lines", "peak"]

_PACKAGE = str(Path(ccverify.__file__).parent)


def lines(run: Callable[[], object]) -> int:
    """Count the lines of ``ccverify`` that `run` executes, with nothing remembered from before."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "call" and not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        count += event == "line"
        return trace

    _forget()
    before = sys.gettrace()
    threading.settrace(trace)  # documents may be read in a thread of their own
    sys.settrace(trace)
    try:
        _quietly(run)
    finally:
        sys.settrace(before)
        threading.settrace(before)
    return count


def peak(run: Callable[[], object]) -> int:
    """Return the most memory, in bytes, that Python held at once for `run`."""
    _forget()
    tracemalloc.start()
    try:
        _quietly(run)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def grows_linearly(run: Callable[[int], Callable[[], object]], size: int) -> bool:
    """Whether four times the size costs no more than four times the lines and memory.

    A third is allowed on top, and a constant; a quadratic parser needs sixteen times as much.

    Args:
        run: a size → what to measure; inputs are made before, outside of the measurement.
        size: the smaller size; large enough that fixed costs do not hide the growth.
    """
    small, large = run(size), run(4 * size)
    for measure, constant in ((lines, 500), (peak, 1 << 16)):
        if measure(large) > 4 * measure(small) * 4 // 3 + constant:
            return False
    return True


def _forget() -> None:
    """Empty every memory of parsed things, so that all of it is parsed again."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ccverify."):
            for own in vars(module).values():
                if hasattr(own, "cache_clear"):
                    own.cache_clear()


def _quietly(run: Callable[[], object]) -> None:
    try:
        run()
    except CcverifyError:
        return
