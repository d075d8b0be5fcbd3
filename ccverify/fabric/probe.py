"""What the guest measured over its own NVLinks: access, speed, latency, and where bytes went.

An observation (`ccverify.fabric.observation`) says what the driver says; a probe is what happened
when it was tried.  Neither is signed by a GPU: both are worth what the guest's code is worth, so a
probe counts as measured only where the bundle's quote shows known code.  It proves no isolation:
a third party that sends nothing is not seen.

Every measurement states its operation, size and unit (docs/fabric-probes.md); sizes and rounds are
in `ProbePlan`.  All numbers are integers: bytes, bytes per second, nanoseconds, milliseconds.  GPUs
are named by NVML's index, as in the observation.  What could not be measured is an `Absent` with
the name of CUDA's or NVML's return code, or one of `DEADLINE`, `GAVE_UP`, `NOT_VISIBLE`, `TIMEOUT`,
`WENT_BACK`, `WRONG_VALUE` and `UNREADABLE`.  The JSON form is of format
``ccverify/fabric-probe/v1``.
Pure: the measuring is `ccverify.collect.probe`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ccverify.fabric.json_form import Codec, Form
from ccverify.fabric.observation import MAX_GPUS, Reading

__all__ = [
    "FORMAT",
    "MAX_TRANSFERS",
    "Circumstances",
    "Count",
    "CounterKind",
    "PairProbe",
    "ProbePlan",
    "ProbeReport",
    "ProbedGpu",
    "QuietWindow",
    "Spread",
    "Traffic",
    "Transfer",
    "parse_probe",
    "serialize_probe",
]

FORMAT: Final = "ccverify/fabric-probe/v1"
MAX_TRANSFERS: Final = 256
"""Most transfers that are accounted for: a sample of the pairs of a large machine."""


class CounterKind(str, Enum):
    """What the NVLink counters of this driver count."""

    PAYLOAD = "payload"
    """Data alone: ``NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX`` and ``_RX``, in KiB."""
    WIRE = "wire"
    """Everything on the link, answers and headers too: ``NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES``
    and ``_RCV_BYTES``."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What was done for every pair, as far as time sufficed.

    Attributes:
        copy_bytes: size of one large copy.
        copies: large copies on one stream in one round.
        small_bytes: size of one small copy.
        small_copies: small copies on one stream in one round, behind the large ones.
        reads: dependent reads of 8 bytes each in one round.
        rounds: timed rounds of each measurement, after one that is not counted.
        pattern_bytes: random bytes that were sent and compared.
        transfer_bytes: bytes of one transfer that was accounted for.
    """

    copy_bytes: int
    copies: int
    small_bytes: int
    small_copies: int
    reads: int
    rounds: int
    pattern_bytes: int
    transfer_bytes: int


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Under what conditions it was measured.

    Attributes:
        driver: version of the kernel driver.
        nvml: version of NVML.
        cuda: ``cuDriverGetVersion``: 13000 is 13.0.
        bindings: version of the package cuda-bindings.
        confidential_computing: NVML's ccFeature: 1 where it is on.
        multi_gpu_mode: NVML's: 0 none, 1 Protected PCIe, 2 NVLink encryption.
        milliseconds: how long all of it took.
        released: whether all memory and every context was given back.
    """

    driver: Reading[str]
    nvml: Reading[str]
    cuda: Reading[int]
    bindings: Reading[str]
    confidential_computing: Reading[int]
    multi_gpu_mode: Reading[int]
    milliseconds: int
    released: bool


@dataclass(frozen=True, slots=True)
class ProbedGpu:
    """One GPU of the guest.

    Attributes:
        index: NVML's, which names it here and in the observation.
        ordinal: CUDA's; NOT_VISIBLE where CUDA does not show the GPU.
        uuid: as NVML says; CUDA's were joined to it.
        pci_bus_id: as CUDA says.
        persistence: NVML's persistence mode: 1 where the driver keeps the GPU awake.
    """

    index: int
    ordinal: Reading[int]
    uuid: Reading[str]
    pci_bus_id: Reading[str]
    persistence: Reading[int]


@dataclass(frozen=True, slots=True)
class Spread:
    """One quantity of several rounds, each a mean over the operations of its round."""

    median: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class PairProbe:
    """What one GPU can do with another, in this direction.

    Attributes:
        gpu: the one that acts: its engine copies, its thread reads.
        peer: the one whose memory is written or read.
        can_access: ``cuDeviceCanAccessPeer``.
        atomics: native atomics over the link (``cuDeviceGetP2PAttribute``).
        rank: CUDA's performance rank; 0 is the best.
        enabled: 1 where ``cuCtxEnablePeerAccess`` succeeded.
        arrived: 1 where random bytes that `gpu` copied to `peer` were found there by the CPU.
        one_way: bytes per second of large copies from `gpu` to `peer`.
        both_ways: bytes per second, both directions added, of large copies there and back at once.
        copy_ns: nanoseconds for each of many small copies, one after the other on a stream.
        read_ns: nanoseconds for a read of 8 bytes by one thread, each waiting for the last: the
            way there and back.
    """

    gpu: int
    peer: int
    can_access: Reading[int]
    atomics: Reading[int]
    rank: Reading[int]
    enabled: Reading[int]
    arrived: Reading[int]
    one_way: Reading[Spread]
    both_ways: Reading[Spread]
    copy_ns: Reading[Spread]
    read_ns: Reading[Spread]


@dataclass(frozen=True, slots=True)
class Count:
    """Bytes over all NVLinks of one GPU, by its own counters."""

    gpu: int
    sent: Reading[int]
    received: Reading[int]


@dataclass(frozen=True, slots=True)
class QuietWindow:
    """What was counted while nothing was sent."""

    milliseconds: int
    counts: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was counted while a known number of bytes was copied.

    Attributes:
        gpu: from which.
        peer: to which.
        bytes: how many.
        milliseconds: between the two readings of the counters, rounded up.
        counts: of every GPU, in that time.
    """

    gpu: int
    peer: int
    bytes: int
    milliseconds: int
    counts: Reading[tuple[Count, ...]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Where bytes went, by the counters of all GPUs of the guest.

    Attributes:
        counters: what the counters count.
        totals: before anything was sent: since the GPU was last reset.
        quiet: a while in which nothing was sent.
        transfers: of a sample of the pairs; of all, for four GPUs or fewer.
    """

    counters: CounterKind
    totals: tuple[Count, ...]
    quiet: QuietWindow
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Everything that was measured."""

    circumstances: Circumstances
    plan: ProbePlan
    gpus: tuple[ProbedGpu, ...]
    pairs: tuple[PairProbe, ...]
    traffic: Reading[Traffic]


# --- between values and JSON ---------------------------------------------------------------------

_FORM = Form("fabric probe", "the probe is written by ccverify collect; do not edit it")
_U8, _U32 = _FORM.uint(0xFF), _FORM.uint(0xFFFF_FFFF)
_U53 = _FORM.uint((1 << 53) - 1)
"""What every reader of JSON can represent."""
_NUMBER, _SIZE = _FORM.reading(_U32), _FORM.reading(_U53)
_WORDS = _FORM.reading(_FORM.text(128))

_SPREAD = _FORM.reading(_FORM.record(Spread, median=_U53, least=_U53, most=_U53))
_COUNTS = _FORM.list(_FORM.record(Count, gpu=_U8, sent=_SIZE, received=_SIZE), MAX_GPUS)
_CIRCUMSTANCES = _FORM.record(
    Circumstances,
    driver=_WORDS,
    nvml=_WORDS,
    cuda=_NUMBER,
    bindings=_WORDS,
    confidential_computing=_NUMBER,
    multi_gpu_mode=_NUMBER,
    milliseconds=_U32,
    released=_FORM.boolean(),
)
_PLAN = _FORM.record(
    ProbePlan,
    copy_bytes=_U53,
    copies=_U32,
    small_bytes=_U53,
    small_copies=_U32,
    reads=_U32,
    rounds=_U32,
    pattern_bytes=_U53,
    transfer_bytes=_U53,
)
_GPU = _FORM.record(
    ProbedGpu,
    index=_U8,
    ordinal=_NUMBER,
    uuid=_WORDS,
    pci_bus_id=_WORDS,
    persistence=_NUMBER,
)
_PAIR = _FORM.record(
    PairProbe,
    gpu=_U8,
    peer=_U8,
    can_access=_NUMBER,
    atomics=_NUMBER,
    rank=_NUMBER,
    enabled=_NUMBER,
    arrived=_NUMBER,
    one_way=_SPREAD,
    both_ways=_SPREAD,
    copy_ns=_SPREAD,
    read_ns=_SPREAD,
)
_TRANSFER = _FORM.record(
    Transfer,
    gpu=_U8,
    peer=_U8,
    bytes=_U53,
    milliseconds=_U32,
    counts=_FORM.reading(_COUNTS),
)


def _read_kind(value: Any, where: str) -> CounterKind:
    for kind in CounterKind:
        if isinstance(value, str) and value == kind.value:
            return kind
    raise _FORM.wrong(where, " or ".join(kind.value for kind in CounterKind), value)


def _write_kind(value: Any, where: str) -> str:
    return _read_kind(value, where).value


_KIND = Codec(_read_kind, _write_kind)
_TRAFFIC = _FORM.record(
    Traffic,
    counters=_KIND,
    totals=_COUNTS,
    quiet=_FORM.record(QuietWindow, milliseconds=_U32, counts=_COUNTS),
    transfers=_FORM.list(_TRANSFER, MAX_TRANSFERS),
)
_REPORT = _FORM.record(
    ProbeReport,
    circumstances=_CIRCUMSTANCES,
    plan=_PLAN,
    gpus=_FORM.list(_GPU, MAX_GPUS),
    pairs=_FORM.list(_PAIR, MAX_GPUS * (MAX_GPUS - 1)),
    traffic=_FORM.reading(_TRAFFIC),
)


def parse_probe(data: bytes) -> ProbeReport:
    """Parse the report of a probe.

    Args:
        data: UTF-8 JSON of format `FORMAT`, at most 4 MiB.

    Raises:
        EvidenceError: not strict JSON, another format, a member missing, unknown or of the
            wrong kind, a GPU, pair or count that appears twice, one of a GPU that is not among
            the GPUs, or a spread whose median is not between its ends.
    """
    report: ProbeReport = _FORM.parse(data, FORMAT, _REPORT)
    _require_consistent(report)
    return report


def serialize_probe(report: ProbeReport) -> bytes:
    """Write a report: UTF-8 JSON with sorted members, the same bytes every time.

    Raises:
        EvidenceError: a value is outside what `parse_probe` accepts.
    """
    data = _FORM.serialize(report, FORMAT, _REPORT)
    _require_consistent(report)
    return data


def _require_consistent(report: ProbeReport) -> None:
    gpus = [gpu.index for gpu in report.gpus]
    _FORM.require_distinct(gpus, "$.gpus", "index")
    known = frozenset(gpus)
    _FORM.require_distinct([(p.gpu, p.peer) for p in report.pairs], "$.pairs", "pair")
    for at, pair in enumerate(report.pairs):
        _require_pair(pair, known, f"$.pairs[{at}]")
        for name in ("one_way", "both_ways", "copy_ns", "read_ns"):
            spread = getattr(pair, name)
            if isinstance(spread, Spread) and not spread.least <= spread.median <= spread.most:
                raise _FORM.wrong(f"$.pairs[{at}].{name}", "least ≤ median ≤ most", spread)
    traffic = report.traffic
    if not isinstance(traffic, Traffic):
        return
    _require_counts(traffic.totals, known, "$.traffic.totals")
    _require_counts(traffic.quiet.counts, known, "$.traffic.quiet.counts")
    for at, transfer in enumerate(traffic.transfers):
        where = f"$.traffic.transfers[{at}]"
        _require_pair(transfer, known, where)
        if isinstance(transfer.counts, tuple):
            _require_counts(transfer.counts, known, f"{where}.counts")


def _require_pair(pair: PairProbe | Transfer, known: frozenset[int], where: str) -> None:
    if pair.gpu == pair.peer or not {pair.gpu, pair.peer} <= known:
        raise _FORM.wrong(where, "two of the GPUs", (pair.gpu, pair.peer))


def _require_counts(counts: tuple[Count, ...], known: frozenset[int], where: str) -> None:
    gpus = [count.gpu for count in counts]
    _FORM.require_distinct(gpus, where, "GPU")
    if not known.issuperset(gpus):
        raise _FORM.wrong(where, "some of the GPUs", gpus)
