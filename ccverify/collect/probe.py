"""The source `fabric-probe`: copies and reads between the GPUs of this guest, timed and counted.

Asked only where the user says so (``--probe``): it takes some seconds, memory of every GPU and
the links, so it belongs before the workload.  What is measured, and how, is in
docs/fabric-probes.md; one pair that fails, or the end of the time, costs its own values alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, Final, NamedTuple, TypeVar

from ccverify.collect.asking import ask_one
from ccverify.collect.cuda_library import (
    Cuda,
    CudaError,
    CudaUnavailable,
    LoadCuda,
    import_cuda,
)
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.nvml_library import (
    Load,
    Nvml,
    NvmlError,
    NvmlUnavailable,
    failed_answer,
    import_pynvml,
)
from ccverify.collect.probe_bench import PLAN, Bench, Refused, Timing
from ccverify.collect.probe_traffic import (
    LinkCounters,
    measure_quiet,
    measure_transfers,
    sample_of,
)
from ccverify.errors import EvidenceError
from ccverify.fabric.observation import MAX_GPUS, Absent, Reading
from ccverify.fabric.probe import (
    Circumstances,
    PairProbe,
    ProbedGpu,
    ProbePlan,
    ProbeReport,
    Spread,
    Traffic,
    serialize_probe,
)

__all__ = ["LABEL", "ProbeSource", "probe_fabric"]

LABEL: Final = "fabric-probe"
_RESERVE_S: Final = 1.0
"""Of the time given, kept for giving everything back."""
_MORE_TIME: Final = "give more time (--timeout); if it stays, see dmesg for messages of the driver"
_NOT_VISIBLE: Final = Absent("NOT_VISIBLE")

_T = TypeVar("_T")


class ProbeSource:
    """What the GPUs of this guest can do with each other, through CUDA and NVML.

    Args:
        load: gives the module ``pynvml``.
        load_cuda: gives the module ``cuda.bindings.driver``.
        timing: clock and sleep of the measurements.
        plan: sizes and rounds.
    """

    name = "fabric-probe"
    stage = Stage.DEVICES
    gives = (LABEL,)

    def __init__(
        self,
        load: Load = import_pynvml,
        load_cuda: LoadCuda = import_cuda,
        *,
        timing: Timing | None = None,
        plan: ProbePlan = PLAN,
    ) -> None:
        self._load = load
        self._load_cuda = load_cuda
        self._timing = timing or Timing()
        self._plan = plan

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One item ``fabric-probe``, or its absence."""
        answer = ask_one(lambda: self._probe(ask), ask)
        if answer.value is not None:
            return [answer.value]
        late = ("a GPU did not answer", _MORE_TIME)
        return [failed_answer(LABEL, answer, self.name, late=late, doing="measuring")]

    def diagnose(self) -> Sequence[Absence]:
        """Whether NVML and CUDA can be used; nothing is measured."""
        try:
            Nvml(self._load).close()
            Cuda(self._load_cuda)
        except (NvmlUnavailable, CudaUnavailable) as problem:
            return [self._absence(problem.reason, problem.text, problem.remedy)]
        return []

    def _probe(self, ask: Ask) -> Outcome:
        nvml = Nvml(self._load)
        try:
            count = nvml.devices()
            if count < 2:
                text = f"{count} GPU in this guest: there is no link to another"
                remedy = "nothing: only guests with several GPUs have a fabric"
                return self._absence(AbsenceReason.NOT_PRESENT, text, remedy)
            cuda = Cuda(self._load_cuda)
            seconds = max(0.0, ask.remaining - _RESERVE_S)
            report = probe_fabric(nvml, cuda, self._plan, seconds=seconds, timing=self._timing)
        finally:
            nvml.close()
        try:
            data = serialize_probe(report)
        except EvidenceError as problem:
            return self._absence(
                AbsenceReason.FAILED,
                f"a value is out of range: {problem.where}, {problem.found}",
                "report this with the driver's version",
            )
        driver = report.circumstances.driver
        version = "unknown" if isinstance(driver, Absent) else driver
        return Item(LABEL, ItemType.FABRIC_PROBE, data, f"CUDA and NVML, driver {version}")

    def _absence(self, reason: AbsenceReason, text: str, remedy: str) -> Absence:
        return Absence(LABEL, reason, text, remedy, self.name)


def probe_fabric(
    nvml: Nvml, cuda: Cuda, plan: ProbePlan, *, seconds: float, timing: Timing
) -> ProbeReport:
    """Measure everything.

    Args:
        nvml: names the GPUs and counts.
        cuda: copies and reads.
        plan: sizes and rounds.
        seconds: after which nothing more is begun.
        timing: clock and sleep.

    Raises:
        NvmlError: the GPUs cannot be counted; anything else refused is part of the result.
    """
    started = timing.clock()
    handles = {index: _handle(nvml, index) for index in range(min(nvml.devices(), MAX_GPUS))}
    gpus = tuple(_gpus(nvml, cuda, handles))
    bench = Bench(cuda, plan, started + seconds, timing)
    try:
        opened = {
            gpu.index: gpu.ordinal if isinstance(gpu.ordinal, Absent) else bench.open(gpu.ordinal)
            for gpu in gpus
        }
        pairs, traffic = _measured(bench, opened, _counters(nvml, handles), plan, timing)
    finally:
        released = bench.close()
    return ProbeReport(
        circumstances=_circumstances(
            nvml,
            cuda,
            milliseconds=math.ceil((timing.clock() - started) * 1000),
            released=released,
        ),
        plan=plan,
        gpus=gpus,
        pairs=pairs,
        traffic=traffic,
    )


def _read(question: Callable[[], _T]) -> Reading[_T]:
    try:
        return question()
    except (NvmlError, CudaError) as problem:
        return Absent(problem.code)


def _handle(nvml: Nvml, index: int) -> Any:
    return _read(lambda: nvml.call("nvmlDeviceGetHandleByIndex", index))


def _circumstances(nvml: Nvml, cuda: Cuda, *, milliseconds: int, released: bool) -> Circumstances:
    def mode() -> int:
        name = "c_nvmlSystemConfComputeSettings_v1_t"
        return int(nvml.filled("nvmlSystemGetConfComputeSettings", name).multiGpuMode)

    state = "nvmlSystemGetConfComputeState"
    return Circumstances(
        driver=_read(lambda: nvml.text("nvmlSystemGetDriverVersion")),
        nvml=_read(lambda: nvml.text("nvmlSystemGetNVMLVersion")),
        cuda=_read(lambda: int(cuda.call("cuDriverGetVersion"))),
        bindings=cuda.version,
        confidential_computing=_read(lambda: int(nvml.call(state).ccFeature)),
        multi_gpu_mode=_read(mode),
        milliseconds=milliseconds,
        released=released,
    )


# --- which GPU is which --------------------------------------------------------------------------


def _gpus(nvml: Nvml, cuda: Cuda, handles: Mapping[int, Any]) -> Iterator[ProbedGpu]:
    """The GPUs in NVML's order, joined to CUDA's by UUID, for the orders may differ."""
    seen = _cuda_gpus(cuda)
    for index, handle in handles.items():
        if isinstance(handle, Absent):
            yield ProbedGpu(index, _NOT_VISIBLE, handle, _NOT_VISIBLE, handle)
        else:
            yield _gpu(nvml, cuda, index, handle, seen)


def _gpu(
    nvml: Nvml, cuda: Cuda, index: int, handle: Any, seen: Reading[Mapping[str, int]]
) -> ProbedGpu:
    uuid = _read(lambda: nvml.text("nvmlDeviceGetUUID", handle))
    ordinal = seen if isinstance(seen, Absent) else seen.get(_octets(uuid), _NOT_VISIBLE)
    return ProbedGpu(
        index=index,
        ordinal=ordinal,
        uuid=uuid,
        pci_bus_id=_read(lambda: _bus_id(cuda, ordinal)),
        persistence=_read(lambda: int(nvml.call("nvmlDeviceGetPersistenceMode", handle))),
    )


def _cuda_gpus(cuda: Cuda) -> Reading[Mapping[str, int]]:
    """UUID in hex → CUDA's ordinal."""

    def uuid(ordinal: int) -> str:
        found = cuda.call("cuDeviceGetUuid", cuda.call("cuDeviceGet", ordinal))
        return bytes(found.bytes).hex()

    return _read(lambda: {uuid(n): n for n in range(int(cuda.call("cuDeviceGetCount")))})


def _octets(uuid: Reading[str]) -> str:
    """``GPU-01234567-89ab-…`` as hex alone; never that of a GPU if there is none."""
    return "" if isinstance(uuid, Absent) else uuid.removeprefix("GPU-").replace("-", "").lower()


def _bus_id(cuda: Cuda, ordinal: Reading[int]) -> str:
    if isinstance(ordinal, Absent):
        raise CudaError(ordinal.code, "cuDeviceGetPCIBusId")
    found = cuda.call("cuDeviceGetPCIBusId", 32, cuda.call("cuDeviceGet", ordinal))
    text: str = bytes(found).partition(b"\0")[0].decode("ascii", "replace")
    if not text.isascii() or not text.isprintable():
        raise CudaError("UNREADABLE", "cuDeviceGetPCIBusId")
    return text


# --- measuring -----------------------------------------------------------------------------------


def _measured(
    bench: Bench,
    opened: Mapping[int, Reading[int]],
    counters: Reading[LinkCounters],
    plan: ProbePlan,
    timing: Timing,
) -> tuple[tuple[PairProbe, ...], Reading[Traffic]]:
    """Every pair, and the traffic, of GPUs that the bench has opened or why it could not."""
    traffic = counters if isinstance(counters, Absent) else measure_quiet(counters, timing)
    usable = {index: ordinal for index, ordinal in opened.items() if isinstance(ordinal, int)}
    # A pair that hangs shows it here, while everything is known of the others.
    ties = {
        (gpu, peer): _tie(bench, (usable[gpu], usable[peer]), plan.pattern_bytes)
        for gpu, peer in permutations(usable, 2)
    }
    if isinstance(counters, LinkCounters) and isinstance(traffic, Traffic):
        sample = {
            pair: ties[pair].enabled if pair in ties else _unusable(pair, opened)
            for pair in sample_of(list(opened))
        }
        size = plan.transfer_bytes
        sent = measure_transfers(counters, bench, usable, sample, size=size, timing=timing)
        traffic = replace(traffic, transfers=sent)
    pairs = (
        _pair(bench, pair, usable, plan, ties[pair])
        if pair in ties
        else PairProbe(*pair, *[_unusable(pair, opened)] * 9)
        for pair in permutations(opened, 2)
    )
    return tuple(pairs), traffic


class _Tie(NamedTuple):
    """What can be known of a pair without sending much."""

    can_access: Reading[int]
    atomics: Reading[int]
    rank: Reading[int]
    enabled: Reading[int]
    arrived: Reading[int]


def _tie(bench: Bench, pair: tuple[int, int], size: int) -> _Tie:
    properties = bench.properties(*pair)
    enabled = bench.enable(*pair)
    if isinstance(enabled, Absent):
        # Without access CUDA would copy through the CPU: that is no measurement of the fabric.
        return _Tie(*properties, enabled, enabled)
    try:
        arrived: Reading[int] = int(bench.arrives(*pair, os.urandom(size)))
    except Refused as problem:
        arrived = Absent(problem.code)
    return _Tie(*properties, enabled, arrived)


def _counters(nvml: Nvml, handles: Mapping[int, Any]) -> Reading[LinkCounters]:
    known = {index: handle for index, handle in handles.items() if not isinstance(handle, Absent)}
    return _read(lambda: LinkCounters(nvml, known))


def _unusable(pair: tuple[int, int], opened: Mapping[int, Reading[int]]) -> Absent:
    """Why one of a pair cannot be used."""
    found = (opened[index] for index in pair)
    return next(one for one in found if isinstance(one, Absent))


def _pair(
    bench: Bench, pair: tuple[int, int], usable: Mapping[int, int], plan: ProbePlan, tie: _Tie
) -> PairProbe:
    gpu, peer = (usable[index] for index in pair)

    def spread(
        measure: Callable[[int, int], float], value: Callable[[float], float]
    ) -> Reading[Spread]:
        if isinstance(tie.enabled, Absent):
            return tie.enabled
        return _spread(lambda: value(measure(gpu, peer)), plan.rounds)

    large = plan.copy_bytes * plan.copies
    return PairProbe(
        *pair,
        **tie._asdict(),
        one_way=spread(bench.one_way, lambda seconds: large / seconds),
        both_ways=spread(bench.both_ways, lambda seconds: 2 * large / seconds),
        copy_ns=spread(bench.small, lambda seconds: seconds * 1e9 / plan.small_copies),
        read_ns=spread(bench.reads, lambda seconds: seconds * 1e9 / plan.reads),
    )


def _spread(measure: Callable[[], float], rounds: int) -> Reading[Spread]:
    """Median and ends of some rounds, after one that wakes clocks and fills caches."""
    try:
        measure()
        values = sorted(round(measure()) for _ in range(rounds))
    except Refused as problem:
        return Absent(problem.code)
    except ZeroDivisionError:
        return Absent("UNREADABLE")
    return Spread(values[(len(values) - 1) // 2], values[0], values[-1])
