"""Reports of probes for tests: a good one, and ways to change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

from ccverify.fabric.probe import (
    Circumstances,
    Count,
    CounterKind,
    PairProbe,
    ProbedGpu,
    ProbePlan,
    ProbeReport,
    QuietWindow,
    Spread,
    Traffic,
    Transfer,
)

MIB = 1 << 20
SIZE = 256 * MIB
GB = 10**9


def uuid(index: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def counts(gpus: int, gpu: int = -1, peer: int = -1, size: int = SIZE) -> tuple[Count, ...]:
    return tuple(Count(n, size if n == gpu else 0, size if n == peer else 0) for n in range(gpus))


def good(gpus: int = 3) -> ProbeReport:
    """What a sound machine gives."""
    pairs = list(permutations(range(gpus), 2))
    speeds = (
        Spread(392 * GB, 391 * GB, 394 * GB),
        Spread(765 * GB, 760 * GB, 770 * GB),
        Spread(2200, 2190, 2300),
        Spread(840, 838, 845),
    )
    return ProbeReport(
        Circumstances("580.159.04", "13.580.159.04", 13000, "13.5.0", 0, 0, 1200, True),
        ProbePlan(SIZE, 4, 4, 128, 4096, 5, 65536, SIZE),
        tuple(ProbedGpu(n, n, uuid(n), f"0000:00:{n:02x}.0", 1) for n in range(gpus)),
        tuple(
            PairProbe(*pair, 1, 1, 0, 1, 1, *speeds)
            for pair in pairs
        ),
        Traffic(
            CounterKind.PAYLOAD,
            counts(gpus),
            QuietWindow(506, counts(gpus)),
            tuple(Transfer(*pair, SIZE, 9, counts(gpus, *pair)) for pair in pairs),
        ),
    )  # fmt: skip


def with_pair(report: ProbeReport, at: int, **changes: Any) -> ProbeReport:
    pairs = list(report.pairs)
    pairs[at] = replace(pairs[at], **changes)
    return replace(report, pairs=tuple(pairs))


def with_traffic(report: ProbeReport, change: Callable[[Traffic], Traffic]) -> ProbeReport:
    assert isinstance(report.traffic, Traffic)
    return replace(report, traffic=change(report.traffic))


def with_transfer(report: ProbeReport, at: int, **changes: Any) -> ProbeReport:
    def change(traffic: Traffic) -> Traffic:
        transfers = list(traffic.transfers)
        transfers[at] = replace(transfers[at], **changes)
        return replace(traffic, transfers=tuple(transfers))

    return with_traffic(report, change)
