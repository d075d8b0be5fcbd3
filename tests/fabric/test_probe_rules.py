"""Rules on a probe: a sound machine passes, and each thing that is wrong is told by its rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from probe_support import (
    GB,
    SIZE,
    counts,
    good,
    uuid,
    with_pair,
    with_traffic,
    with_transfer,
)

from ccverify.fabric.observation import Absent
from ccverify.fabric.probe import Count, CounterKind, ProbeReport, QuietWindow, Spread
from ccverify.fabric.probe_rules import (
    COUNTER_STEP,
    ProbeAppraisal,
    ProbeBands,
    ProbeCode,
    ProbeGap,
    ProbeProblem,
    appraise_probe,
)

ALL = ProbeBands(min_one_way=380, min_both_ways=740, max_spread=0.05, max_copy_us=3, max_read_us=1)
NOTHING = ProbeBands(access=False, traffic=False)


def problems(came: ProbeAppraisal) -> list[tuple[ProbeCode, str]]:
    return [(each.code, each.where) for each in came.problems]


def gaps(came: ProbeAppraisal) -> list[tuple[ProbeCode, str]]:
    return [(each.code, each.where) for each in came.gaps]


@pytest.mark.parametrize("gpus", [2, 3, 5])
def test_a_sound_machine_passes(gpus: int) -> None:
    came = appraise_probe(good(gpus), ALL, uuids=[uuid(n) for n in range(gpus)])
    assert (came.problems, came.gaps) == ((), ())


def test_by_default_access_and_traffic_are_judged() -> None:
    report = with_pair(good(), 0, one_way=Spread(1, 1, 1), read_ns=Absent("DEADLINE"))
    assert appraise_probe(report) == ProbeAppraisal((), ())
    assert problems(appraise_probe(with_pair(report, 0, can_access=0))) == [
        (ProbeCode.ACCESS, "gpus[0]→gpus[1]")
    ]


def test_what_is_not_asked_for_is_not_judged() -> None:
    report = with_pair(good(), 0, can_access=0, arrived=0, one_way=Spread(1, 1, 1))
    report = replace(report, traffic=Absent("NVML_ERROR_NOT_SUPPORTED"))
    assert appraise_probe(report, NOTHING, uuids=["GPU-x"]) == ProbeAppraisal((), ())


# --- access --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"can_access": 0, "enabled": Absent("CUDA_ERROR_X")}, "CUDA grants access"),
        ({"enabled": Absent("CUDA_ERROR_TOO_MANY_PEERS")}, "access can be enabled"),
        ({"arrived": 0}, "bytes arrive unchanged"),
        ({"arrived": Absent("TIMEOUT")}, "bytes arrive unchanged"),
        ({"arrived": Absent("CUDA_ERROR_NVLINK_UNCORRECTABLE")}, "bytes arrive unchanged"),
    ],
)
def test_access_that_is_refused(changes: dict[str, Any], expected: str) -> None:
    came = appraise_probe(with_pair(good(), 3, **changes))
    assert [(p.code, p.where, p.expected) for p in came.problems] == [
        (ProbeCode.ACCESS, "gpus[1]→gpus[2]", expected)
    ]


@pytest.mark.parametrize("name", ["can_access", "enabled", "arrived"])
@pytest.mark.parametrize("code", ["DEADLINE", "GAVE_UP", "NOT_VISIBLE", "CUDA_FUNCTION_NOT_FOUND"])
def test_access_that_was_not_tried_is_a_gap(name: str, code: str) -> None:
    came = appraise_probe(with_pair(good(), 0, **{name: Absent(code)}))
    assert came.problems == ()
    assert gaps(came) == [(ProbeCode.ACCESS, "gpus[0]→gpus[1]")]


def test_a_gpu_or_a_pair_that_was_left_out_is_a_gap_of_every_rule() -> None:
    report = good()
    cut = replace(report, pairs=report.pairs[1:])
    came = appraise_probe(cut, ALL, uuids=[uuid(0), "GPU-other"])
    assert came.problems == ()
    assert set(gaps(came)) == {
        *((code, "GPU-other") for code in ProbeCode),
        *((code, "gpus[0]→gpus[1]") for code in ProbeCode if code is not ProbeCode.TRAFFIC),
    }


# --- speed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "spread", "code", "expected", "found"),
    [
        ("one_way", Spread(379 * GB, 1, 400 * GB), ProbeCode.BANDWIDTH, "one way at least 380 GB/s",
         "379.0 GB/s"),
        ("both_ways", Spread(700 * GB, 1, 800 * GB), ProbeCode.BANDWIDTH,
         "both ways at least 740 GB/s", "700.0 GB/s"),
        ("copy_ns", Spread(3001, 1, 9000), ProbeCode.LATENCY, "small copy in at most 3 µs",
         "3.00 µs"),
        ("read_ns", Spread(1200, 1, 9000), ProbeCode.LATENCY, "read in at most 1 µs", "1.20 µs"),
    ],
)  # fmt: skip
def test_a_pair_out_of_its_band(
    name: str, spread: Spread, code: ProbeCode, expected: str, found: str
) -> None:
    came = appraise_probe(with_pair(good(), 5, **{name: spread}), replace(ALL, max_spread=None))
    assert came.problems == (ProbeProblem(code, "gpus[2]→gpus[1]", expected, found),)
    assert came.problems_of(code) == came.problems
    assert came.gaps == ()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("one_way", ProbeCode.BANDWIDTH),
        ("both_ways", ProbeCode.BANDWIDTH),
        ("copy_ns", ProbeCode.LATENCY),
        ("read_ns", ProbeCode.LATENCY),
    ],
)
def test_a_pair_that_was_not_measured_is_one_gap(name: str, code: ProbeCode) -> None:
    came = appraise_probe(with_pair(good(), 0, **{name: Absent("DEADLINE")}), ALL)
    assert came.problems == ()
    assert gaps(came) == [(code, "gpus[0]→gpus[1]")]
    assert came.gaps_of(code) == came.gaps


def test_the_bands_are_met_at_their_edge() -> None:
    edge = with_pair(
        good(), 0, one_way=Spread(380 * GB, 0, 400 * GB), copy_ns=Spread(3000, 0, 9999)
    )
    assert appraise_probe(edge, ALL).problems == ()


def test_pairs_that_differ() -> None:
    slow = with_pair(good(), 2, one_way=Spread(300 * GB, 1, 300 * GB))
    bands = replace(NOTHING, max_spread=0.1)
    came = appraise_probe(slow, bands)
    assert problems(came) == [(ProbeCode.BANDWIDTH, "gpus[1]→gpus[0]")]
    assert came.problems[0].expected.startswith("at most 10% slower than gpus[2]→gpus[1]")
    assert appraise_probe(slow, replace(bands, max_spread=0.25)).problems == ()
    unknown = with_pair(good(), 2, one_way=Absent("TIMEOUT"))
    assert gaps(appraise_probe(unknown, bands)) == [(ProbeCode.BANDWIDTH, "gpus[1]→gpus[0]")]
    nothing = good()
    for at in range(len(nothing.pairs)):
        nothing = with_pair(nothing, at, one_way=Absent("TIMEOUT"))
    assert len(appraise_probe(nothing, bands).gaps) == 6


# --- traffic -------------------------------------------------------------------------------------

TRAFFIC = ProbeBands(access=False)


def _sent(gpu: int, **changes: Any) -> ProbeReport:
    """The transfer from GPU 0 to GPU 1, with what one GPU counted changed."""
    counted = list(counts(3, 0, 1))
    counted[gpu] = replace(counted[gpu], **changes)
    return with_transfer(good(), 0, counts=tuple(counted))


@pytest.mark.parametrize(
    ("report", "where"),
    [
        (_sent(0, sent=SIZE // 2), "gpus[0]"),
        (_sent(0, sent=0), "gpus[0]"),
        (_sent(0, sent=2 * SIZE), "gpus[0]"),
        (_sent(1, received=SIZE * 8 // 10), "gpus[1]"),
        (_sent(1, received=SIZE * 12 // 10), "gpus[1]"),
        (_sent(0, received=SIZE // 10), "gpus[0]"),
        (_sent(1, sent=SIZE // 10), "gpus[1]"),
        (_sent(2, sent=100_000), "gpus[2]"),
        (_sent(2, received=SIZE), "gpus[2]"),
    ],
)
def test_bytes_that_went_elsewhere(report: ProbeReport, where: str) -> None:
    came = appraise_probe(report, TRAFFIC)
    assert problems(came) == [(ProbeCode.TRAFFIC, f"{where} during gpus[0]→gpus[1]")]
    assert came.gaps == ()


@pytest.mark.parametrize(
    "report",
    [
        _sent(0, sent=SIZE * 101 // 100),
        _sent(1, received=SIZE - 18 * 1024),
        _sent(2, sent=COUNTER_STEP),
        _sent(2, sent=COUNTER_STEP + 9000),  # 9 ms of background
    ],
)
def test_what_means_nothing(report: ProbeReport) -> None:
    assert appraise_probe(report, TRAFFIC) == ProbeAppraisal((), ())


def test_the_tolerance_is_the_relying_partys() -> None:
    report = _sent(0, sent=SIZE * 101 // 100)
    assert appraise_probe(report, replace(TRAFFIC, traffic_tolerance=0.001)).problems
    some = _sent(2, sent=COUNTER_STEP + 9000)
    assert appraise_probe(some, replace(TRAFFIC, max_background=0)).problems


def test_traffic_while_nothing_was_sent() -> None:
    def noisy(sent: int) -> ProbeReport:
        window = QuietWindow(500, (Count(0, 0, 0), Count(1, 0, 0), Count(2, sent, 0)))
        return with_traffic(good(), lambda t: replace(t, quiet=window))

    came = appraise_probe(noisy(600_000), TRAFFIC)
    assert [(p.where, p.expected) for p in came.problems] == [
        ("gpus[2] while nothing was sent", f"at most {COUNTER_STEP + 500_000} bytes sent")
    ]
    assert appraise_probe(noisy(500_000), TRAFFIC).problems == ()


def test_counters_of_the_wire_count_answers_and_headers_too() -> None:
    """As raw counters of an H200 did: 7 % more with the data, and 3/4 of it the other way."""
    counted = (
        Count(0, SIZE * 107 // 100, SIZE * 74 // 100),
        Count(1, SIZE * 64 // 100, SIZE * 107 // 100),
        Count(2, 2000, 2000),
    )
    report = with_transfer(good(), 0, counts=counted)
    report = with_traffic(
        report,
        lambda t: replace(t, counters=CounterKind.WIRE, transfers=t.transfers[:1]),
    )
    assert appraise_probe(report, TRAFFIC) == ProbeAppraisal((), ())
    # Read as payload they would not add up, and a third GPU may stay no less still.
    payload = with_traffic(report, lambda t: replace(t, counters=CounterKind.PAYLOAD))
    assert len(appraise_probe(payload, TRAFFIC).problems) == 2
    assert problems(
        appraise_probe(with_transfer(report, 0, counts=(*counted[:2], Count(2, 0, SIZE))), TRAFFIC)
    ) == [(ProbeCode.TRAFFIC, "gpus[2] during gpus[0]→gpus[1]")]
    twice = with_transfer(report, 0, counts=(Count(0, 2 * SIZE, 0), *counted[1:]))
    assert len(appraise_probe(twice, TRAFFIC).problems) == 1


@pytest.mark.parametrize(
    ("report", "gap"),
    [
        (
            replace(good(), traffic=Absent("NVML_ERROR_NOT_SUPPORTED")),
            ProbeGap(ProbeCode.TRAFFIC, "traffic", "not measured (NVML_ERROR_NOT_SUPPORTED)"),
        ),
        (
            with_traffic(good(), lambda t: replace(t, transfers=())),
            ProbeGap(ProbeCode.TRAFFIC, "traffic", "nothing was sent"),
        ),
        (
            with_transfer(good(), 1, counts=Absent("DEADLINE")),
            ProbeGap(ProbeCode.TRAFFIC, "gpus[0]→gpus[2]", "not measured (DEADLINE)"),
        ),
        (
            with_transfer(good(), 0, counts=counts(3, 0, 1)[:2]),
            ProbeGap(ProbeCode.TRAFFIC, "gpus[0]→gpus[1]", "gpus[2] was not counted"),
        ),
        (
            _sent(0, sent=Absent("WENT_BACK")),
            ProbeGap(
                ProbeCode.TRAFFIC, "gpus[0] during gpus[0]→gpus[1]", "sent: not known (WENT_BACK)"
            ),
        ),
        (
            _sent(2, received=Absent("WENT_BACK")),
            ProbeGap(
                ProbeCode.TRAFFIC,
                "gpus[2] during gpus[0]→gpus[1]",
                "received: not known (WENT_BACK)",
            ),
        ),
        (
            with_traffic(good(), lambda t: replace(t, quiet=QuietWindow(500, counts(2)))),
            ProbeGap(ProbeCode.TRAFFIC, "quiet", "gpus[2] was not counted"),
        ),
    ],
)
def test_traffic_that_was_not_counted_is_a_gap(report: ProbeReport, gap: ProbeGap) -> None:
    came = appraise_probe(report, TRAFFIC)
    assert (came.problems, came.gaps) == ((), (gap,))


def test_one_gpu_alone_sends_nothing() -> None:
    alone = good(1)
    assert appraise_probe(alone, TRAFFIC) == ProbeAppraisal((), ())
