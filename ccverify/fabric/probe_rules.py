"""What a probe of the NVLink fabric must come to: access, speed, latency, and where bytes went.

The rules judge what guest code measured; how far that code is known is for the caller.  Bands are
the relying party's: how fast a pair is depends on GPU, mode and partition, and no vendor states a
number that must be met.  What could not be measured is a gap, never a pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.probe import (
    Count,
    CounterKind,
    PairProbe,
    ProbeReport,
    Spread,
    Traffic,
    Transfer,
)

__all__ = [
    "COUNTER_STEP",
    "WIRE_OVERHEAD",
    "ProbeAppraisal",
    "ProbeBands",
    "ProbeCode",
    "ProbeGap",
    "ProbeProblem",
    "appraise_probe",
]

COUNTER_STEP: Final = 64 * 1024
"""By how many bytes a counter may be off without meaning anything: NVML counts whole KiB on each
link, and no GPU has more than 64."""
WIRE_OVERHEAD: Final = 0.15
"""Headers, as a fraction of the payload, that counters of the wire add in the direction of the
data; 0.07 on H200."""

_GIGA: Final = 1e9


class ProbeCode(str, Enum):
    """The rules."""

    ACCESS = "FABRIC-PROBE-ACCESS"
    """A GPU cannot access another, or what it sent did not arrive."""
    BANDWIDTH = "FABRIC-PROBE-BANDWIDTH"
    """A pair is slower than the band, or the pairs differ by more than it."""
    LATENCY = "FABRIC-PROBE-LATENCY"
    """A pair takes longer than the band."""
    TRAFFIC = "FABRIC-PROBE-TRAFFIC"
    """The counters of the two ends do not show what was sent, or others show something."""


@dataclass(frozen=True, slots=True)
class ProbeBands:
    """What must be met; None: not judged.

    Attributes:
        access: whether every GPU must reach every other, with its bytes arriving unchanged.
        min_one_way: GB/s (1e9 bytes per second) of large copies, for every ordered pair.
        min_both_ways: GB/s, both directions added.
        max_spread: largest allowed difference of two pairs' one-way bandwidth, as a fraction of
            the faster one.
        max_copy_us: microseconds for each of many small copies.
        max_read_us: microseconds for a dependent read.
        traffic: whether the counters must show what was sent.
        traffic_tolerance: by which fraction of the bytes sent the counters of the two ends may
            differ from them.
        max_background: bytes per second, for each GPU and direction, that may be counted though
            nothing was sent there.
    """

    access: bool = True
    min_one_way: float | None = None
    min_both_ways: float | None = None
    max_spread: float | None = None
    max_copy_us: float | None = None
    max_read_us: float | None = None
    traffic: bool = True
    traffic_tolerance: float = 0.10
    max_background: int = 1_000_000


@dataclass(frozen=True, slots=True)
class ProbeProblem:
    """One thing that is not as it must be.

    Attributes:
        code: the rule.
        where: the pair as ``gpus[0]→gpus[1]``, the GPU, or the report.
        expected: what would have been right.
        found: what was measured.
    """

    code: ProbeCode
    where: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class ProbeGap:
    """Why a rule could not be applied."""

    code: ProbeCode
    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeAppraisal:
    """What came of all rules, in their order."""

    problems: tuple[ProbeProblem, ...]
    gaps: tuple[ProbeGap, ...]

    def problems_of(self, code: ProbeCode) -> tuple[ProbeProblem, ...]:
        """Problems of one rule."""
        return tuple(each for each in self.problems if each.code is code)

    def gaps_of(self, code: ProbeCode) -> tuple[ProbeGap, ...]:
        """Why one rule could not be applied everywhere."""
        return tuple(each for each in self.gaps if each.code is code)


_Found: TypeAlias = Iterator[ProbeProblem | ProbeGap]
_DEFAULT = ProbeBands()


def appraise_probe(
    report: ProbeReport, bands: ProbeBands = _DEFAULT, *, uuids: Collection[str] = ()
) -> ProbeAppraisal:
    """Hold a probe against bands.

    Args:
        report: from `parse_probe`.
        bands: what must be met.
        uuids: GPUs that must be among the probed, as their collector and NVML name them.
    """
    found = [
        *_missing(report, bands, uuids),
        *_access(report, bands),
        *_bandwidth(report, bands),
        *_latency(report, bands),
        *_traffic(report, bands),
    ]
    return ProbeAppraisal(
        tuple(each for each in found if isinstance(each, ProbeProblem)),
        tuple(each for each in found if isinstance(each, ProbeGap)),
    )


def _place(gpu: int) -> str:
    return f"gpus[{gpu}]"


def _way(pair: PairProbe | Transfer) -> str:
    return f"{_place(pair.gpu)}→{_place(pair.peer)}"


def _missing(report: ProbeReport, bands: ProbeBands, uuids: Collection[str]) -> _Found:
    """GPUs and pairs of which the report says nothing."""
    for code in _asked(bands):
        for uuid in sorted(set(uuids) - {g.uuid for g in report.gpus if isinstance(g.uuid, str)}):
            yield ProbeGap(code, uuid, "the GPU was not probed")
        if code is ProbeCode.TRAFFIC:
            continue
        probed = {(pair.gpu, pair.peer) for pair in report.pairs}
        gpus = sorted(gpu.index for gpu in report.gpus)
        for one in gpus:
            for other in gpus:
                if one != other and (one, other) not in probed:
                    yield ProbeGap(code, f"{_place(one)}→{_place(other)}", "not probed")


def _asked(bands: ProbeBands) -> Iterator[ProbeCode]:
    if bands.access:
        yield ProbeCode.ACCESS
    if any(each is not None for each in (bands.min_one_way, bands.min_both_ways, bands.max_spread)):
        yield ProbeCode.BANDWIDTH
    if any(each is not None for each in (bands.max_copy_us, bands.max_read_us)):
        yield ProbeCode.LATENCY
    if bands.traffic:
        yield ProbeCode.TRAFFIC


# --- access --------------------------------------------------------------------------------------

_OF_FABRIC: Final = ("CUDA_ERROR_", "TIMEOUT")
"""How reasons begin that are an outcome of the attempt, not the lack of one."""


def _access(report: ProbeReport, bands: ProbeBands) -> _Found:
    for pair in report.pairs if bands.access else ():
        answers = (
            ("CUDA grants access", pair.can_access),
            ("access can be enabled", pair.enabled),
            ("bytes arrive unchanged", pair.arrived),
        )
        for expected, answer in answers:
            finding = _granted(_way(pair), expected, answer)
            if finding is not None:
                # What follows from the first refusal is no finding of its own.
                yield finding
                break


def _granted(where: str, expected: str, answer: Reading[int]) -> ProbeProblem | ProbeGap | None:
    if isinstance(answer, Absent):
        if answer.code.startswith(_OF_FABRIC):
            return ProbeProblem(ProbeCode.ACCESS, where, expected, answer.code)
        return ProbeGap(ProbeCode.ACCESS, where, f"{expected}: not known ({answer.code})")
    return None if answer == 1 else ProbeProblem(ProbeCode.ACCESS, where, expected, "no")


# --- speed ---------------------------------------------------------------------------------------


def _bandwidth(report: ProbeReport, bands: ProbeBands) -> _Found:
    for name, least in (("one_way", bands.min_one_way), ("both_ways", bands.min_both_ways)):
        if least is None:
            continue
        what = name.replace("_", " ")
        for pair in report.pairs:
            spread: Reading[Spread] = getattr(pair, name)
            if isinstance(spread, Absent):
                yield ProbeGap(
                    ProbeCode.BANDWIDTH, _way(pair), f"{what}: not measured ({spread.code})"
                )
            elif spread.median < least * _GIGA:
                yield ProbeProblem(
                    ProbeCode.BANDWIDTH,
                    _way(pair),
                    f"{what} at least {least:g} GB/s",
                    f"{spread.median / _GIGA:.1f} GB/s",
                )
    if bands.max_spread is not None:
        yield from _alike(report, bands.max_spread, named=bands.min_one_way is None)


def _alike(report: ProbeReport, most: float, *, named: bool) -> _Found:
    """Whether the pairs are equally fast; pairs not measured are named unless that was done."""
    measured = [
        (pair.one_way.median, _way(pair))
        for pair in report.pairs
        if isinstance(pair.one_way, Spread)
    ]
    for pair in report.pairs if named else ():
        if isinstance(pair.one_way, Absent):
            reason = f"one way: not measured ({pair.one_way.code})"
            yield ProbeGap(ProbeCode.BANDWIDTH, _way(pair), reason)
    if not measured:
        return
    (slow, where), (fast, best) = min(measured), max(measured)
    if fast - slow > most * fast:
        yield ProbeProblem(
            ProbeCode.BANDWIDTH,
            where,
            f"at most {most:.0%} slower than {best}, {fast / _GIGA:.1f} GB/s",
            f"{slow / _GIGA:.1f} GB/s",
        )


def _latency(report: ProbeReport, bands: ProbeBands) -> _Found:
    for name, what, most in (
        ("copy_ns", "small copy", bands.max_copy_us),
        ("read_ns", "read", bands.max_read_us),
    ):
        for pair in report.pairs if most is not None else ():
            spread: Reading[Spread] = getattr(pair, name)
            if isinstance(spread, Absent):
                reason = f"{what}: not measured ({spread.code})"
                yield ProbeGap(ProbeCode.LATENCY, _way(pair), reason)
            elif most is not None and spread.median > most * 1000:
                yield ProbeProblem(
                    ProbeCode.LATENCY,
                    _way(pair),
                    f"{what} in at most {most:g} µs",
                    f"{spread.median / 1000:.2f} µs",
                )


# --- traffic -------------------------------------------------------------------------------------


def _traffic(report: ProbeReport, bands: ProbeBands) -> _Found:
    if not bands.traffic:
        return
    traffic = report.traffic
    if isinstance(traffic, Absent):
        yield ProbeGap(ProbeCode.TRAFFIC, "traffic", f"not measured ({traffic.code})")
        return
    quiet = traffic.quiet
    yield from _counted(report, quiet.counts, "quiet")
    allowed = _background(bands, quiet.milliseconds)
    for count in quiet.counts:
        yield from _still(count, allowed, f"{_place(count.gpu)} while nothing was sent")
    if len(report.gpus) > 1 and not traffic.transfers:
        yield ProbeGap(ProbeCode.TRAFFIC, "traffic", "nothing was sent")
    for transfer in traffic.transfers:
        yield from _accounted(report, traffic, transfer, bands)


def _background(bands: ProbeBands, milliseconds: int) -> int:
    """Bytes that a counter may rise in a window without any cause."""
    return COUNTER_STEP + bands.max_background * milliseconds // 1000


def _counted(report: ProbeReport, counts: tuple[Count, ...], where: str) -> _Found:
    """GPUs that are not counted."""
    for gpu in sorted({gpu.index for gpu in report.gpus} - {count.gpu for count in counts}):
        yield ProbeGap(ProbeCode.TRAFFIC, where, f"{_place(gpu)} was not counted")


def _accounted(
    report: ProbeReport, traffic: Traffic, transfer: Transfer, bands: ProbeBands
) -> _Found:
    where = _way(transfer)
    if isinstance(transfer.counts, Absent):
        yield ProbeGap(ProbeCode.TRAFFIC, where, f"not measured ({transfer.counts.code})")
        return
    yield from _counted(report, transfer.counts, where)
    allowed = _background(bands, transfer.milliseconds)
    for count in transfer.counts:
        place = f"{_place(count.gpu)} during {where}"
        sender, receiver = count.gpu == transfer.gpu, count.gpu == transfer.peer
        if sender:
            yield from _risen(count.sent, "sent", traffic.counters, transfer, bands, place)
        elif receiver:
            yield from _risen(count.received, "received", traffic.counters, transfer, bands, place)
        # Answers travel back, which counters of the wire see.
        back = traffic.counters is CounterKind.WIRE and (sender or receiver)
        yield from _still(
            Count(
                count.gpu,
                0 if sender or back else count.sent,
                0 if receiver or back else count.received,
            ),
            allowed,
            place,
        )


def _risen(
    counted: Reading[int],
    what: str,
    kind: CounterKind,
    transfer: Transfer,
    bands: ProbeBands,
    place: str,
) -> _Found:
    """Whether an end of the transfer counted what was sent, and not much more."""
    if isinstance(counted, Absent):
        yield ProbeGap(ProbeCode.TRAFFIC, place, f"{what}: not known ({counted.code})")
        return
    slack = transfer.bytes * bands.traffic_tolerance + COUNTER_STEP
    overhead = transfer.bytes * WIRE_OVERHEAD if kind is CounterKind.WIRE else 0
    background = _background(bands, transfer.milliseconds) - COUNTER_STEP
    if not transfer.bytes - slack <= counted <= transfer.bytes + slack + overhead + background:
        expected = f"{transfer.bytes} bytes {what}, give or take {bands.traffic_tolerance:.0%}"
        yield ProbeProblem(ProbeCode.TRAFFIC, place, expected, f"{counted} bytes")


def _still(count: Count, allowed: int, place: str) -> _Found:
    """Whether a GPU counted no more than the background."""
    for what, counted in (("sent", count.sent), ("received", count.received)):
        if isinstance(counted, Absent):
            yield ProbeGap(ProbeCode.TRAFFIC, place, f"{what}: not known ({counted.code})")
        elif counted > allowed:
            yield ProbeProblem(
                ProbeCode.TRAFFIC, place, f"at most {allowed} bytes {what}", f"{counted} bytes"
            )
