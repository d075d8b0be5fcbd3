"""The model of a probe: what it holds comes back, and nothing else is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_support import good, with_pair, with_traffic, with_transfer

from ccverify.errors import EvidenceError
from ccverify.fabric.observation import Absent, parse_observation
from ccverify.fabric.probe import (
    FORMAT,
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
    parse_probe,
    serialize_probe,
)
from ccverify.fabric.probe_rules import ProbeBands, appraise_probe

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

U32, U53 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 53) - 1)
ABSENT = st.builds(Absent, st.from_regex(r"[A-Z][A-Z0-9_]{0,40}", fullmatch=True))
NUMBER, SIZE = U32 | ABSENT, U53 | ABSENT
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=128) | ABSENT
SPREAD = (
    st.lists(U53, min_size=3, max_size=3).map(sorted).map(lambda v: Spread(v[1], v[0], v[2]))
    | ABSENT
)


@st.composite
def reports(draw: st.DrawFn) -> ProbeReport:
    gpus = draw(st.lists(st.integers(0, 255), max_size=3, unique=True))
    pairs = list(permutations(gpus, 2))
    some = st.lists(st.sampled_from(pairs), unique=True) if pairs else st.just([])

    def counts() -> tuple[Count, ...]:
        counted = draw(st.lists(st.sampled_from(gpus), unique=True)) if gpus else []
        return tuple(Count(gpu, draw(SIZE), draw(SIZE)) for gpu in counted)

    traffic: Traffic | Absent = draw(ABSENT)
    if draw(st.booleans()):
        traffic = Traffic(
            draw(st.sampled_from(CounterKind)),
            counts(),
            QuietWindow(draw(U32), counts()),
            tuple(
                Transfer(*pair, draw(U53), draw(U32), draw(ABSENT | st.builds(counts)))
                for pair in draw(some)
            ),
        )
    return ProbeReport(
        draw(
            st.builds(
                Circumstances, WORDS, WORDS, NUMBER, WORDS, NUMBER, NUMBER, U32, st.booleans()
            )
        ),
        draw(st.builds(ProbePlan, U53, U32, U53, U32, U32, U32, U53, U53)),
        tuple(draw(st.builds(ProbedGpu, st.just(n), NUMBER, WORDS, WORDS, NUMBER)) for n in gpus),
        tuple(
            PairProbe(*pair, *(draw(NUMBER) for _ in range(5)), *(draw(SPREAD) for _ in range(4)))
            for pair in draw(some)
        ),
        traffic,
    )


@settings(max_examples=40)
@given(reports())
def test_what_is_written_is_read(report: ProbeReport) -> None:
    data = serialize_probe(report)
    assert parse_probe(data) == report
    assert serialize_probe(parse_probe(data)) == data
    # Whatever it holds, judging it raises nothing.
    appraise_probe(report, ProbeBands(min_one_way=1, min_both_ways=1, max_spread=0.1,
                                      max_copy_us=1, max_read_us=1), uuids=["x"])  # fmt: skip


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_probe(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(p for key in value for p in _places(value[key], (*path, key)))]
    if isinstance(value, list):
        return [path, *(p for at in range(len(value)) for p in _places(value[at], (*path, at)))]
    return [path]


DOCUMENT = json.loads(serialize_probe(good(2)))


@given(st.sampled_from(_places(DOCUMENT)), st.sampled_from([None, -1, 1.5, True, "?\n", [], {}]))
def test_a_changed_value_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    if not path:
        document = value
    else:
        inside = document
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = value
    try:
        report = parse_probe(json.dumps(document).encode())
    except EvidenceError:
        return
    assert json.loads(serialize_probe(report)) == document


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in DOCUMENT.items() if key != name}


@pytest.mark.parametrize("name", sorted(DOCUMENT))
def test_every_member_is_needed(name: str) -> None:
    with pytest.raises(EvidenceError):
        parse_probe(json.dumps(_without(name)).encode())


def test_no_other_member_and_no_other_format() -> None:
    for change in ({"more": 1}, {"format": "ccverify/fabric-probe/v2"}):
        with pytest.raises(EvidenceError):
            parse_probe(json.dumps(DOCUMENT | change).encode())
    assert DOCUMENT["format"] == FORMAT


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda r: replace(r, gpus=(r.gpus[0], r.gpus[0])), "$.gpus"),
        (lambda r: replace(r, pairs=(r.pairs[0], r.pairs[0])), "$.pairs"),
        (lambda r: with_pair(r, 1, peer=9), "$.pairs[1]"),
        (lambda r: with_pair(r, 1, peer=1), "$.pairs[1]"),
        (lambda r: with_pair(r, 0, one_way=Spread(5, 6, 7)), "$.pairs[0].one_way"),
        (lambda r: with_pair(r, 0, read_ns=Spread(8, 6, 7)), "$.pairs[0].read_ns"),
        (lambda r: with_transfer(r, 1, gpu=9), "$.traffic.transfers[1]"),
        (lambda r: with_transfer(r, 1, counts=(Count(9, 0, 0),)), "$.traffic.transfers[1].counts"),
        (
            lambda r: with_traffic(
                r, lambda t: replace(t, totals=(Count(0, 1, 1), Count(0, 1, 1)))
            ),
            "$.traffic.totals",
        ),
        (
            lambda r: with_traffic(
                r, lambda t: replace(t, quiet=QuietWindow(1, (Count(7, 1, 1),)))
            ),
            "$.traffic.quiet.counts",
        ),
    ],
)
def test_what_contradicts_itself_is_neither_written_nor_read(
    change: Callable[[ProbeReport], ProbeReport], where: str
) -> None:
    report = good(2)
    with pytest.raises(EvidenceError) as refused:
        serialize_probe(change(report))
    assert refused.value.where == where


def test_kinds_of_counters_are_named() -> None:
    document = json.loads(json.dumps(DOCUMENT))
    for bad in ("raw", 1, None):
        document["traffic"]["counters"] = bad
        with pytest.raises(EvidenceError) as refused:
            parse_probe(json.dumps(document).encode())
        assert refused.value.expected == "payload or wire"


# --- real machines -------------------------------------------------------------------------------


@pytest.mark.parametrize("gpus", [2, 4])
def test_the_probe_of_a_real_machine(gpus: int) -> None:
    """Two and four H200 GPUs, tenants of a shared NVSwitch: what the documentation says of them."""
    folder = EXAMPLES / f"h200-{gpus}"
    report = parse_probe((folder / "probe.json").read_bytes().strip())
    observation = parse_observation((folder / "observation.json").read_bytes().strip())
    assert [gpu.uuid for gpu in report.gpus] == [gpu.uuid for gpu in observation.gpus]
    assert len(report.pairs) == gpus * (gpus - 1)
    bands = ProbeBands(min_one_way=380, min_both_ways=740, max_spread=0.02,
                       max_copy_us=2.5, max_read_us=0.95, traffic_tolerance=0.0001,
                       max_background=0)  # fmt: skip
    uuids = [gpu.uuid for gpu in observation.gpus if isinstance(gpu.uuid, str)]
    came = appraise_probe(report, bands, uuids=uuids)
    assert (came.problems, came.gaps) == ((), ())
    assert appraise_probe(report, ProbeBands(min_one_way=400)).problems
