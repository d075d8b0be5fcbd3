"""Names of devices in as few words as possible: ``gpu-0 … gpu-7``."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["name_runs"]

_NUMBERED = re.compile(r"(.*-)(0|[1-9][0-9]{0,5})", re.DOTALL)
_LEAST = 3
"""Shorter runs are spelled out."""


def name_runs(names: Iterable[str]) -> str:
    """Return names in the order given; three or more that count up are shown by both ends."""
    runs: list[list[tuple[str, str, int]]] = []
    for name in names:
        match = _NUMBERED.fullmatch(name)
        stem, number = (match[1], int(match[2])) if match else (name, -1)
        if runs and match and (runs[-1][-1][1:]) == (stem, number - 1):
            runs[-1].append((name, stem, number))
        else:
            runs.append([(name, stem, number)])
    texts = []
    for run in runs:
        ends = [run[0][0], run[-1][0]]
        texts.append(" … ".join(ends) if len(run) >= _LEAST else ", ".join(n for n, *_ in run))
    return ", ".join(texts)
