"""Where bytes go: NVLink counters of every GPU, read around transfers of known size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any, Final, NamedTuple

from ccverify.collect.nvml_library import UNREADABLE, Nvml, NvmlError
from ccverify.collect.probe_bench import Bench, Refused, Timing
from ccverify.fabric.observation import MAX_LINKS, Absent, Reading
from ccverify.fabric.probe import Count, CounterKind, QuietWindow, Traffic, Transfer

__all__ = [
    "QUIET_S",
    "LinkCounters",
    "measure_quiet",
    "measure_transfers",
    "sample_of",
]

QUIET_S: Final = 0.5
_ALL_PAIRS_UP_TO: Final = 4

_ALL_LINKS: Final = 0xFFFF_FFFF
"""A scope that asks for the sum over all links."""
_UNSIGNED: Final = {1: "uiVal", 2: "ulVal", 3: "ullVal", 6: "usVal"}
"""``nvmlValueType_t`` → member of the union; the other types are floating or signed."""
_NOT_SUPPORTED: Final = "NVML_ERROR_NOT_SUPPORTED"


class _Fields(NamedTuple):
    """A pair of counters: what they count, their field ids, and the bytes of one unit."""

    kind: CounterKind
    sent: int
    received: int
    unit: int


# In the order of preference.  NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX and _RX, in KiB: exact on
# H200 with driver 580.  NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES and _RCV_BYTES: newer GPUs.
_FIELDS: Final = (
    _Fields(CounterKind.PAYLOAD, 138, 139, 1024),
    _Fields(CounterKind.WIRE, 202, 204, 1),
)


_Counted = Mapping[int, tuple[Reading[int], Reading[int]]]
"""GPU → bytes sent and received."""


class LinkCounters:
    """The NVLink counters that this driver has, for all GPUs.

    Args:
        nvml: the library.
        gpus: NVML's index → handle.

    Raises:
        NvmlError: the first GPU has none of them.
    """

    def __init__(self, nvml: Nvml, gpus: Mapping[int, Any]) -> None:
        self._nvml = nvml
        self._gpus = gpus
        self._fields, self._scopes = self._chosen()
        self.kind = self._fields.kind

    def read(self) -> _Counted:
        """Bytes sent and received over all links of each GPU since it was last reset."""
        return {index: self._read(handle) for index, handle in self._gpus.items()}

    def _chosen(self) -> tuple[_Fields, Sequence[int]]:
        refused = NvmlError(_NOT_SUPPORTED, "nvmlDeviceGetFieldValues")
        for handle in list(self._gpus.values())[:1]:
            for fields in _FIELDS:
                for scopes in ((_ALL_LINKS,), range(self._links(handle))):
                    try:
                        self._sums(handle, fields, scopes)
                    except NvmlError as problem:
                        refused = problem
                    else:
                        return fields, scopes
        raise refused

    def _links(self, handle: Any) -> int:
        """How many links the GPU has."""
        for index in range(MAX_LINKS):
            try:
                self._nvml.call("nvmlDeviceGetNvLinkState", handle, index)
            except NvmlError:
                return index
        return MAX_LINKS

    def _read(self, handle: Any) -> tuple[Reading[int], Reading[int]]:
        try:
            return self._sums(handle, self._fields, self._scopes)
        except NvmlError as problem:
            return Absent(problem.code), Absent(problem.code)

    def _sums(self, handle: Any, fields: _Fields, scopes: Sequence[int]) -> tuple[int, int]:
        function = "nvmlDeviceGetFieldValues"
        if not scopes:
            raise NvmlError(_NOT_SUPPORTED, function)
        wanted = [(field, scope) for field in (fields.sent, fields.received) for scope in scopes]
        values = [self._number(one) for one in self._nvml.call(function, handle, wanted)]
        if len(values) != len(wanted):
            raise NvmlError(UNREADABLE, function)
        half = len(scopes)
        return sum(values[:half]) * fields.unit, sum(values[half:]) * fields.unit

    def _number(self, answer: Any) -> int:
        if answer.nvmlReturn:
            raise NvmlError(self._nvml.code_name(answer.nvmlReturn), "nvmlDeviceGetFieldValues")
        member = _UNSIGNED.get(answer.valueType)
        if member is None:
            raise NvmlError(UNREADABLE, "nvmlDeviceGetFieldValues")
        return int(getattr(answer.value, member))


def sample_of(gpus: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs whose transfers are accounted for.

    Of a few GPUs, all; of many, each with the next and with the one half-way round, so that every
    GPU sends twice and receives twice.
    """
    if len(gpus) <= _ALL_PAIRS_UP_TO:
        return list(permutations(gpus, 2))
    around = [
        (gpus[at], gpus[(at + step) % len(gpus)])
        for step in (1, len(gpus) // 2)
        for at in range(len(gpus))
    ]
    return list(dict.fromkeys(around))


def measure_quiet(counters: LinkCounters, timing: Timing) -> Traffic:
    """Read the counters, and again after a while in which nothing is sent."""
    totals = tuple(Count(gpu, *values) for gpu, values in counters.read().items())
    quiet = QuietWindow(*_window(counters, timing, lambda: timing.sleep(QUIET_S)))
    return Traffic(counters.kind, totals, quiet, ())


def measure_transfers(
    counters: LinkCounters,
    bench: Bench,
    ordinals: Mapping[int, int],
    sample: Mapping[tuple[int, int], Reading[int]],
    *,
    size: int,
    timing: Timing,
) -> tuple[Transfer, ...]:
    """Read the counters around one transfer for each pair of the sample.

    Args:
        counters: of all GPUs.
        bench: makes the transfers.
        ordinals: NVML's index → CUDA's ordinal, of GPUs that the bench has.
        sample: pairs of NVML's indexes, and whether access was enabled.
        size: bytes of one transfer of the bench.
        timing: clock and sleep.
    """
    return tuple(
        _transfer(counters, bench, pair, ordinals, size=size, timing=timing)
        if not isinstance(enabled, Absent)
        # Without access CUDA would copy through the CPU, which no link counts.
        else Transfer(*pair, size, 0, enabled)
        for pair, enabled in sample.items()
    )


def _transfer(
    counters: LinkCounters,
    bench: Bench,
    pair: tuple[int, int],
    ordinals: Mapping[int, int],
    *,
    size: int,
    timing: Timing,
) -> Transfer:
    gpu, peer = (ordinals[index] for index in pair)
    try:
        took, counts = _window(counters, timing, lambda: bench.send(gpu, peer))
    except Refused as problem:
        return Transfer(*pair, size, 0, Absent(problem.code))
    return Transfer(*pair, size, took, counts)


def _window(
    counters: LinkCounters, timing: Timing, act: Callable[[], None]
) -> tuple[int, tuple[Count, ...]]:
    """What was counted while something was done, and the milliseconds between the readings."""
    started = timing.clock()
    before = counters.read()
    act()
    after = counters.read()
    milliseconds = math.ceil((timing.clock() - started) * 1000)
    counts = tuple(
        Count(gpu, _risen(before[gpu][0], sent), _risen(before[gpu][1], received))
        for gpu, (sent, received) in after.items()
    )
    return milliseconds, counts


def _risen(before: Reading[int], after: Reading[int]) -> Reading[int]:
    if isinstance(before, Absent):
        return before
    if isinstance(after, Absent):
        return after
    return after - before if after >= before else Absent("WENT_BACK")
