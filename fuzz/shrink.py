"""Make a crashing input small: cut pieces out of it as long as it breaks in the same way.

    python -m fuzz.shrink TARGET FILE

Works without atheris, and prints the result as a Python literal.  Not for time-outs.
"""

from __future__ import annotations

import argparse
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from fuzz.targets import TARGETS

__all__ = ["shrink"]

Symptom = tuple[str, str, int] | None
"""Type of the error, and file and line that raised it; None: nothing is wrong."""


def symptom(run: Callable[[bytes], object], data: bytes) -> Symptom:
    """Return how `run` breaks on `data`."""
    try:
        run(data)
    except Exception as problem:
        place = traceback.extract_tb(problem.__traceback__)[-1]
        return type(problem).__name__, place.filename, place.lineno or 0
    return None


def shrink(run: Callable[[bytes], object], data: bytes) -> bytes:
    """Return a smaller input with the same symptom, from which no piece can be cut."""
    wanted = symptom(run, data)
    if wanted is None:
        return data
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if symptom(run, shorter) == wanted:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(TARGETS), metavar="TARGET")
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    run, data = TARGETS[arguments.target].run, arguments.file.read_bytes()
    found = symptom(run, data)
    if found is None:
        raise SystemExit("nothing is wrong with this input")
    print(f"{found[0]} at {found[1]}:{found[2]}")
    print(repr(shrink(run, data)))


if __name__ == "__main__":
    main()
