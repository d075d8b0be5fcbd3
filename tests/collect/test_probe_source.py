"""The source `fabric-probe`, over simulated GPUs whose links are sound, slow, blocked or shared."""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from nv_fakes import ask

from ccverify.collect.cuda_library import CudaModule
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.collect.platforms import Wishes, real_sources
from ccverify.collect.probe import LABEL, ProbeSource
from ccverify.collect.probe_bench import PATIENCE_S, PLAN, Timing
from ccverify.collect.probe_traffic import sample_of
from ccverify.fabric.observation import Absent
from ccverify.fabric.probe import (
    Count,
    CounterKind,
    ProbeReport,
    Spread,
    Traffic,
    Transfer,
    parse_probe,
)
from ccverify.fabric.probe_rules import ProbeBands, ProbeCode, appraise_probe
from ccverify.sim.machine import sim_machine
from ccverify.sim.nvidia.cuda import SimCuda, SimLinkFaults
from ccverify.sim.nvidia.nvml import NVMLError

BOARD = "b300-hgx-4"


def source(cuda: SimCuda, driver: Any = None, nvml: Any = None) -> ProbeSource:
    return ProbeSource(
        lambda: nvml or cuda.nvml,
        lambda: CudaModule(driver or cuda, "13.5.0"),
        timing=Timing(cuda.clock, cuda.sleep),
    )


def machine(kind: str = BOARD, **faults: Any) -> SimCuda:
    return SimCuda(sim_machine(kind), SimLinkFaults(**faults))


def probed(cuda: SimCuda, driver: Any = None, nvml: Any = None) -> ProbeReport:
    (outcome,) = source(cuda, driver, nvml).collect(ask())
    assert isinstance(outcome, Item), outcome
    assert (outcome.label, outcome.type) == ("fabric-probe", ItemType.FABRIC_PROBE)
    return parse_probe(outcome.data)


def absent(probe: ProbeSource, seconds: float = 20.0) -> Absence:
    (outcome,) = probe.collect(ask(seconds=seconds))
    assert isinstance(outcome, Absence), outcome
    assert outcome.label == LABEL
    return outcome


def traffic_of(report: ProbeReport) -> Traffic:
    assert isinstance(report.traffic, Traffic)
    return report.traffic


def codes(report: ProbeReport, bands: ProbeBands | None = None) -> set[tuple[ProbeCode, str]]:
    return {(p.code, p.where) for p in appraise_probe(report, bands or ProbeBands()).problems}


# --- a sound machine -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "gpus"), [("b300-hgx-2", 2), (BOARD, 4), ("h100-hgx-8", 8)])
def test_a_sound_machine(kind: str, gpus: int) -> None:
    cuda = machine(kind)
    report = probed(cuda)
    said = report.circumstances
    assert (said.cuda, said.bindings, said.confidential_computing) == (
        13000, "13.5.0", int(kind != "h100-hgx-8"))  # fmt: skip
    assert said.multi_gpu_mode == (1 if kind == "h100-hgx-8" else 2)
    assert said.released
    assert cuda.held == 0, "nothing is held any more"
    assert [(gpu.index, gpu.ordinal, gpu.persistence) for gpu in report.gpus] == [
        (n, n, 1) for n in range(gpus)
    ]
    assert report.gpus[1].pci_bus_id == "0000:11:00.0"
    assert report.plan == PLAN
    assert len(report.pairs) == gpus * (gpus - 1)
    for pair in report.pairs:
        assert (pair.can_access, pair.atomics, pair.rank) == (1, 1, 0)
        assert (pair.enabled, pair.arrived) == (1, 1)
    came = appraise_probe(report, ProbeBands(max_spread=0.01), uuids=[_uuid(cuda, 0)])
    assert (came.problems, came.gaps) == ((), ())


def _uuid(cuda: SimCuda, number: int) -> str:
    return cuda.nvml.nvmlDeviceGetUUID(number)


def test_the_units_are_those_of_the_model() -> None:
    """An H100 of the simulation: 395 GB/s, 2.1 µs for a small copy, 0.83 µs for a read."""
    pair = probed(machine("h100-hgx-8")).pairs[0]
    assert isinstance(pair.one_way, Spread)
    assert isinstance(pair.both_ways, Spread)
    assert 390e9 < pair.one_way.least <= pair.one_way.most < 396e9
    assert 780e9 < pair.both_ways.median < 792e9
    assert pair.copy_ns == Spread(2100, 2100, 2100)
    assert pair.read_ns == Spread(830, 830, 830)


def test_every_transfer_is_counted_at_its_ends_alone() -> None:
    traffic = traffic_of(probed(machine()))
    assert traffic.counters is CounterKind.PAYLOAD
    assert traffic.totals == tuple(Count(n, 0, 0) for n in range(4)), "before anything was sent"
    assert traffic.quiet.milliseconds == 500
    assert len(traffic.transfers) == 12
    for one in traffic.transfers:
        assert one.counts == tuple(
            Count(n, one.bytes * (n == one.gpu), one.bytes * (n == one.peer)) for n in range(4)
        )


@pytest.mark.parametrize("count", range(2, 17))
def test_the_sample_of_pairs(count: int) -> None:
    gpus = list(range(count))
    sample = sample_of(gpus)
    assert len(set(sample)) == len(sample)
    assert all(one != other for one, other in sample)
    if count <= 4:
        assert len(sample) == count * (count - 1)
    else:
        assert len(sample) == 2 * count
        for at in (0, 1):
            assert sorted(pair[at] for pair in sample) == sorted(gpus * 2)


def test_cudas_order_is_not_nvmls() -> None:
    cuda = machine(visible=(2, 0, 3, 1), slow={(0, 1): 0.5})
    report = probed(cuda)
    assert [gpu.ordinal for gpu in report.gpus] == [1, 3, 0, 2]
    assert codes(report, ProbeBands(max_spread=0.1)) == {
        (ProbeCode.BANDWIDTH, "gpus[0]→gpus[1]")
    }, "GPUs are named as NVML does"


# --- what is wrong -------------------------------------------------------------------------------


def test_a_pair_without_access() -> None:
    cuda = machine(no_access=frozenset({(1, 2)}))
    report = probed(cuda)
    assert codes(report) == {(ProbeCode.ACCESS, "gpus[1]→gpus[2]")}
    (pair,) = [p for p in report.pairs if (p.gpu, p.peer) == (1, 2)]
    refused = Absent("CUDA_ERROR_PEER_ACCESS_UNSUPPORTED")
    assert (pair.can_access, pair.enabled, pair.arrived) == (0, refused, refused)
    assert pair.one_way == pair.both_ways == pair.copy_ns == pair.read_ns == refused
    assert cuda.held == 0
    (transfer,) = [t for t in traffic_of(report).transfers if (t.gpu, t.peer) == (1, 2)]
    assert transfer == Transfer(1, 2, PLAN.transfer_bytes, 0, refused)


def test_bytes_that_do_not_arrive() -> None:
    assert codes(probed(machine(lost=frozenset({(3, 0)})))) == {
        (ProbeCode.ACCESS, "gpus[3]→gpus[0]")
    }


def test_bytes_that_reach_somebody_else() -> None:
    report = probed(machine(diverted={(0, 1): 3}))
    assert codes(report) == {
        (ProbeCode.TRAFFIC, "gpus[1] during gpus[0]→gpus[1]"),
        (ProbeCode.TRAFFIC, "gpus[3] during gpus[0]→gpus[1]"),
    }


def test_a_slow_pair() -> None:
    report = probed(machine(slow={(2, 1): 0.5}))
    assert codes(report) == set()
    bands = ProbeBands(min_one_way=600, max_spread=0.1)
    assert codes(report, bands) == {(ProbeCode.BANDWIDTH, "gpus[2]→gpus[1]")}


@pytest.mark.parametrize("rate", [5_000_000, 40_000_000_000])
def test_traffic_of_others(rate: int) -> None:
    report = probed(machine(foreign={2: rate}))
    assert (ProbeCode.TRAFFIC, "gpus[2] while nothing was sent") in codes(report)
    assert {where.split()[0] for _, where in codes(report)} == {"gpus[2]"}


def test_a_pair_that_never_ends() -> None:
    """Nothing is done after it, nothing is given back, and what was known before is told."""
    cuda = machine(hung=frozenset({(0, 2)}))
    report = probed(cuda)
    assert codes(report) == {(ProbeCode.ACCESS, "gpus[0]→gpus[2]")}
    by_pair = {(pair.gpu, pair.peer): pair for pair in report.pairs}
    assert by_pair[0, 2].arrived == Absent("TIMEOUT")
    assert by_pair[0, 1].arrived == 1
    assert by_pair[0, 1].one_way == by_pair[1, 0].can_access == Absent("GAVE_UP")
    assert not report.circumstances.released
    assert report.circumstances.milliseconds < (PATIENCE_S + 2) * 1000


def test_no_time() -> None:
    cuda = machine()

    class Slow(_Over):
        def cuCtxEnablePeerAccess(self, *words: Any) -> Any:  # noqa: N802
            cuda.sleep(9)
            return cuda.cuCtxEnablePeerAccess(*words)

    report = probed(cuda, Slow(cuda))
    assert [pair.enabled for pair in report.pairs[:4]] == [1, 1, 1, Absent("DEADLINE")]
    assert report.pairs[0].one_way == Absent("DEADLINE")
    assert report.circumstances.released
    assert cuda.held == 0
    came = appraise_probe(report)
    assert came.problems == ()
    assert {gap.code for gap in came.gaps} == {ProbeCode.ACCESS, ProbeCode.TRAFFIC}


class _Over:
    """The simulated driver, but for what a subclass changes."""

    def __init__(self, cuda: SimCuda) -> None:
        self._cuda = cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cuda, name)


def refusing(cuda: SimCuda, *functions: str, code: str = "CUDA_ERROR_UNKNOWN") -> Any:
    """The simulated driver, which refuses these."""
    number = type("Code", (int,), {"name": code})(999)

    class Refusing(_Over):
        def __getattr__(self, name: str) -> Any:
            if name in functions:
                return lambda *_: (number,)
            return super().__getattr__(name)

    return Refusing(cuda)


FUNCTIONS = sorted(name for name in vars(SimCuda) if name.startswith("cu") and name[2:3].isupper())


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "cuInit"])
def test_whatever_is_refused_costs_its_own_values(function: str) -> None:
    cuda = machine("b300-hgx-2")
    report = probed(cuda, refusing(cuda, function))
    assert len(report.pairs) == 2
    gives_back = function in {
        "cuStreamDestroy", "cuEventDestroy", "cuModuleUnload", "cuMemFree",
        "cuDevicePrimaryCtxRelease", "cuCtxDisablePeerAccess",
    }  # fmt: skip
    if gives_back:
        assert not report.circumstances.released
        assert codes(report) == set()
    elif function != "cuCtxSetCurrent":
        assert cuda.held == 0, "what was taken before is given back"
    if function not in {"cuDriverGetVersion", "cuDeviceGetPCIBusId"} and not gives_back:
        text = repr(report.pairs)
        assert "CUDA_ERROR_UNKNOWN" in text or "NOT_VISIBLE" in text


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "cuInit"])
def test_whatever_is_missing_costs_its_own_values(function: str) -> None:
    cuda = machine("b300-hgx-2")

    class Older(_Over):
        def __getattr__(self, name: str) -> Any:
            if name == function:
                raise AttributeError(name)
            return super().__getattr__(name)

    assert len(probed(cuda, Older(cuda)).pairs) == 2


def test_a_gpu_that_cuda_does_not_show() -> None:
    report = probed(machine(visible=(0, 2, 3)))
    assert report.gpus[1].ordinal == report.gpus[1].pci_bus_id == Absent("NOT_VISIBLE")
    by_pair = {(pair.gpu, pair.peer): pair for pair in report.pairs}
    assert by_pair[0, 1].can_access == by_pair[1, 2].one_way == Absent("NOT_VISIBLE")
    assert isinstance(by_pair[0, 2].one_way, Spread)
    assert appraise_probe(report).problems == ()
    assert len(appraise_probe(report).gaps) == 12


def test_a_gpu_without_memory() -> None:
    cuda = machine("b300-hgx-2")
    taken = itertools.count()

    class Full(_Over):
        def cuMemAlloc(self, size: int) -> Any:  # noqa: N802
            if next(taken) < 3:
                return cuda.cuMemAlloc(size)
            return (type("Code", (int,), {"name": "CUDA_ERROR_OUT_OF_MEMORY"})(2),)

    report = probed(cuda, Full(cuda))
    full = Absent("CUDA_ERROR_OUT_OF_MEMORY")
    assert {pair.one_way for pair in report.pairs} == {full}
    assert {one.counts for one in traffic_of(report).transfers} == {full}
    assert cuda.held == 0


def test_memory_that_answers_wrongly() -> None:
    cuda = machine("b300-hgx-2")

    class Wrong(_Over):
        def cuMemcpyDtoH(self, host: int, address: int, size: int) -> Any:  # noqa: N802
            ctypes.memset(host, 7, size)
            return (0,)

    report = probed(cuda, Wrong(cuda))
    assert {pair.arrived for pair in report.pairs} == {0}
    assert {pair.read_ns for pair in report.pairs} == {Absent("WRONG_VALUE")}


# --- counters ------------------------------------------------------------------------------------


class Counters:
    """NVML of a simulated machine with other counters; built of nvidia-ml-py's own struct."""

    def __init__(self, cuda: SimCuda, answer: Callable[[int, int, int], int | None]) -> None:
        self._nvml = cuda.nvml
        self._answer = answer
        self._pynvml = pytest.importorskip("pynvml", reason="pip install 'ccverify[nvml]'")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._nvml, name)

    def __dir__(self) -> list[str]:
        return dir(self._nvml)

    def nvmlDeviceGetFieldValues(self, handle: int, wanted: Any) -> Any:  # noqa: N802
        values = (self._pynvml.c_nvmlFieldValue_t * len(wanted))()
        for value, (field, scope) in zip(values, wanted, strict=True):
            value.fieldId, value.scopeId = field, scope
            found = self._answer(handle, field, scope)
            value.nvmlReturn = 3 if found is None else 0
            value.valueType = 3
            value.value.ullVal = found or 0
        return values


def test_counters_of_every_link_are_summed() -> None:
    cuda = machine("b300-hgx-2")

    def answer(handle: int, field: int, link: int) -> int | None:
        if field not in (138, 139) or link >= 18:
            return None
        return cuda.counted(handle)[field - 138] // 1024 // 18

    report = probed(cuda, nvml=Counters(cuda, answer))
    assert traffic_of(report).counters is CounterKind.PAYLOAD
    assert codes(report) == set()
    counted = traffic_of(report).transfers[0].counts
    assert isinstance(counted, tuple)
    sent = counted[0].sent
    assert isinstance(sent, int)
    assert abs(PLAN.transfer_bytes - sent) <= 18 * 1024, "less than 1 KiB for each link"


def test_newer_counters_count_bytes_of_the_wire() -> None:
    cuda = machine("b300-hgx-2")

    def answer(handle: int, field: int, scope: int) -> int | None:
        sent, received = cuda.counted(handle)
        return {202: sent + received // 2, 204: received + sent // 2}.get(field)

    report = probed(cuda, nvml=Counters(cuda, answer))
    assert traffic_of(report).counters is CounterKind.WIRE
    assert codes(report) == set()


def test_no_counters() -> None:
    cuda = machine("b300-hgx-2")
    report = probed(cuda, nvml=Counters(cuda, lambda *_: None))
    assert report.traffic == Absent("NVML_ERROR_NOT_SUPPORTED")
    assert isinstance(report.pairs[0].one_way, Spread)


def test_a_counter_that_goes_back_and_one_that_fails() -> None:
    cuda = machine("b300-hgx-2")
    falling = itertools.count(10**9, -1)

    def answer(handle: int, field: int, scope: int) -> int | None:
        if handle == 1:
            return 0 if field == 138 and cuda.sent[0] == 0 else None
        return next(falling)

    failing = Counters(cuda, lambda h, f, s: answer(h, f, s))
    counts = traffic_of(probed(cuda, nvml=failing)).quiet.counts
    assert counts[0] == Count(0, Absent("WENT_BACK"), Absent("WENT_BACK"))
    assert counts[1].sent == Absent("NVML_ERROR_NOT_SUPPORTED")


def test_values_of_another_type_are_not_read() -> None:
    cuda = machine("b300-hgx-2")

    class Odd(Counters):
        def nvmlDeviceGetFieldValues(self, handle: int, wanted: Any) -> Any:  # noqa: N802
            values = super().nvmlDeviceGetFieldValues(handle, wanted)
            for value in values:
                value.valueType = 0
            return values

    assert probed(cuda, nvml=Odd(cuda, lambda *_: 1)).traffic == Absent("UNREADABLE")


# --- no probe at all -----------------------------------------------------------------------------


def test_one_gpu_has_nobody_to_talk_to() -> None:
    found = absent(source(machine("h100-1")))
    assert (found.reason, found.text) == (
        AbsenceReason.NOT_PRESENT,
        "1 GPU in this guest: there is no link to another",
    )


def test_gpus_without_nvlink_are_measured_all_the_same() -> None:
    report = probed(machine("rtx-pro-6000-2"))
    assert report.traffic == Absent("NVML_ERROR_NOT_SUPPORTED")
    assert {pair.can_access for pair in report.pairs} == {0}


def test_without_nvidia_ml_py() -> None:
    def load() -> Any:
        raise ImportError("No module named 'pynvml'")

    probe = ProbeSource(load, lambda: CudaModule(None, ""))
    assert absent(probe).reason is AbsenceReason.NO_LIBRARY
    assert [one.reason for one in probe.diagnose()] == [AbsenceReason.NO_LIBRARY]


def test_without_cuda_bindings() -> None:
    cuda = machine()

    def load() -> CudaModule:
        raise ImportError("No module named 'cuda'")

    probe = ProbeSource(lambda: cuda.nvml, load)
    found = absent(probe)
    assert found.reason is AbsenceReason.NO_LIBRARY
    assert "ccverify[probe]" in found.remedy
    assert list(probe.diagnose()) == [found]


def test_without_the_drivers_library() -> None:
    cuda = machine()

    class NoLibrary:
        def cuInit(self, _: int) -> Any:  # noqa: N802
            raise RuntimeError('Failed to dlopen "libcuda.so.1"')

    found = absent(source(cuda, NoLibrary()))
    assert found.reason is AbsenceReason.NO_LIBRARY
    assert "libcuda.so.1" in found.remedy


@pytest.mark.parametrize(
    ("code", "reason", "word"),
    [
        ("CUDA_ERROR_NO_DEVICE", AbsenceReason.NOT_PRESENT, "CUDA_VISIBLE_DEVICES"),
        ("CUDA_ERROR_SYSTEM_NOT_READY", AbsenceReason.FAILED, "partition"),
        ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", AbsenceReason.NO_DRIVER, "reboot"),
        ("CUDA_ERROR_STUB_LIBRARY", AbsenceReason.NO_LIBRARY, "stub"),
        ("CUDA_ERROR_NEVER_HEARD_OF", AbsenceReason.FAILED, "dmesg"),
    ],
)
def test_a_driver_that_does_not_start(code: str, reason: AbsenceReason, word: str) -> None:
    cuda = machine()
    found = absent(source(cuda, refusing(cuda, "cuInit", code=code)))
    assert (found.reason, found.text) == (reason, f"cuInit answered {code}")
    assert word in found.remedy


def test_a_fabric_that_is_not_set_up() -> None:
    """CUDA itself refuses to start while a GPU waits for the Fabric Manager."""
    board = sim_machine(BOARD)
    waiting = type(board.fabric)(links=18, active=True, version=7, waiting=(1,))
    cuda = SimCuda(SimpleNamespace(node=board.node, fabric=waiting, uuid=board.uuid))  # type: ignore[arg-type]
    assert "CUDA_ERROR_SYSTEM_NOT_READY" in absent(source(cuda)).text


def test_gpus_that_cannot_be_counted() -> None:
    cuda = machine()

    class Lost(Counters):
        def nvmlDeviceGetCount(self) -> int:  # noqa: N802
            raise NVMLError(999)

    assert absent(source(cuda, nvml=Lost(cuda, lambda *_: 0))).reason is AbsenceReason.FAILED


def test_a_driver_that_hangs() -> None:
    cuda = machine()
    let_go = threading.Event()

    class Hanging(_Over):
        def cuDevicePrimaryCtxRetain(self, device: int) -> Any:  # noqa: N802
            let_go.wait(20)
            return cuda.cuDevicePrimaryCtxRetain(device)

    started = time.monotonic()
    found = absent(source(cuda, Hanging(cuda)), seconds=1.3)
    assert found.reason is AbsenceReason.TIMEOUT
    assert time.monotonic() - started < 15
    let_go.set()


def test_a_library_that_raises_anything() -> None:
    cuda = machine()

    class Broken(_Over):
        def cuDeviceGetCount(self) -> Any:  # noqa: N802
            raise ValueError("no")

    found = absent(source(cuda, Broken(cuda)))
    assert found.reason is AbsenceReason.FAILED
    assert "ValueError" in found.text


def test_nothing_is_measured_for_a_diagnosis() -> None:
    cuda = machine()
    assert list(source(cuda).diagnose()) == []
    assert (cuda.held, cuda.sent) == (0, [0, 0, 0, 0])


# --- it is asked for -----------------------------------------------------------------------------


def test_a_real_machine_is_probed_if_the_user_says_so() -> None:
    assert not [s for s in real_sources() if LABEL in s.gives]
    assert [s.name for s in real_sources(Wishes(probe=True)) if LABEL in s.gives] == [LABEL]
