"""Copies and reads between GPUs, timed on the GPUs themselves; everything is given back.

Only what any program may do is done: primary contexts, plain allocations, copies, one small
kernel.  No setting of a GPU is changed and no multicast object is made, for a fault in one can
stop others who share the switches.  Nothing waits inside the driver for a copy: whether it is
done is asked again and again, so that a fabric that never answers costs `PATIENCE_S`, not the
whole collection.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ccverify.collect.cuda_library import Cuda, CudaError
from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.probe import ProbePlan

__all__ = ["PATIENCE_S", "PLAN", "Bench", "Refused", "Timing"]

PATIENCE_S: Final = 5.0
"""How long one round may take, hundreds of times what it takes over NVLink."""
_POLL_S: Final = 0.0002

_MIB: Final = 1 << 20
PLAN: Final = ProbePlan(
    copy_bytes=256 * _MIB,
    copies=4,
    small_bytes=4,
    small_copies=128,
    reads=4096,
    rounds=5,
    pattern_bytes=64 * 1024,
    transfer_bytes=256 * _MIB,
)
"""Half a GiB of each GPU, and some 50 ms for each pair over NVLink."""

_NON_BLOCKING: Final = 1
_ALREADY_ENABLED: Final = "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED"

_CHASE: Final = b"""\
.version 7.0
.target sm_70
.address_size 64
.visible .entry chase(.param .u64 start, .param .u32 steps, .param .u64 last)
{
    .reg .pred %more;
    .reg .b32 %left;
    .reg .b64 %at, %out;
    ld.param.u64 %at, [start];
    ld.param.u32 %left, [steps];
    ld.param.u64 %out, [last];
NEXT:
    ld.volatile.global.u64 %at, [%at];
    add.s32 %left, %left, -1;
    setp.ne.s32 %more, %left, 0;
    @%more bra NEXT;
    st.global.u64 [%out], %at;
    ret;
}
\0"""
"""One thread that reads an address from where the last one led, which the driver compiles.  The
memory read holds its own address, so each read goes to the same place and waits for the last;
volatile reads are not answered by the reader's caches."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Monotonic seconds, and how to wait."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Refused(Exception):
    """An operation that was not done; `code` is the reason as an `Absent` has it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class _Gpu:
    """What is held on one GPU: two buffers of one copy's size, a stream, events, the kernel."""

    context: Any
    device: Any
    source: int = 0
    target: int = 0
    stream: Any = None
    events: list[Any] = field(default_factory=list)
    module: Any = None
    kernel: Any = None
    peers: list[int] = field(default_factory=list)


class Bench:
    """GPUs, by CUDA's ordinals, between which can be copied; `close` it after use.

    Args:
        cuda: the library.
        plan: sizes.
        deadline: after which nothing more is begun, on `timing`.
        timing: clock and sleep.

    All of one bench belongs to one thread, for a CUDA context is current to a thread.
    """

    def __init__(
        self, cuda: Cuda, plan: ProbePlan, deadline: float, timing: Timing | None = None
    ) -> None:
        self._cuda = cuda
        self._plan = plan
        self._timing = timing or Timing()
        self._deadline = deadline
        self._gpus: dict[int, Reading[_Gpu]] = {}
        self._stuck = False

    # --- setting up ---

    def open(self, ordinal: int) -> Reading[int]:
        """Make a GPU ready; the ordinal, or why it cannot be used."""
        try:
            with self._attempt():
                self._gpus[ordinal] = self._prepared(ordinal)
        except Refused as problem:
            self._gpus[ordinal] = Absent(problem.code)
            return Absent(problem.code)
        return ordinal

    def _prepared(self, ordinal: int) -> _Gpu:
        call = self._cuda.call
        device = call("cuDeviceGet", ordinal)
        gpu = _Gpu(call("cuDevicePrimaryCtxRetain", device), device)
        try:
            call("cuCtxSetCurrent", gpu.context)
            gpu.source = int(call("cuMemAlloc", self._plan.copy_bytes))
            gpu.target = int(call("cuMemAlloc", self._plan.copy_bytes))
            gpu.stream = call("cuStreamCreate", _NON_BLOCKING)
            for _ in range(3):
                gpu.events.append(call("cuEventCreate", 0))
        except CudaError:
            self._call_all(_held(gpu))
            raise
        return gpu

    def properties(self, one: int, other: int) -> tuple[Reading[int], Reading[int], Reading[int]]:
        """Whether `one` can access the memory of `other`; native atomics; performance rank."""

        def attribute(name: str) -> Reading[int]:
            def ask(this: Any, that: Any) -> Any:
                which = self._cuda.constant("CUdevice_P2PAttribute", name)
                return self._cuda.call("cuDeviceGetP2PAttribute", which, this, that)

            return self._asked(one, other, ask)

        return (
            self._asked(one, other, lambda a, b: self._cuda.call("cuDeviceCanAccessPeer", a, b)),
            attribute("CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED"),
            attribute("CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK"),
        )

    def _asked(self, one: int, other: int, ask: Callable[[Any, Any], Any]) -> Reading[int]:
        try:
            with self._attempt():
                return int(ask(self._use(one).device, self._use(other).device))
        except Refused as problem:
            return Absent(problem.code)

    def enable(self, one: int, other: int) -> Reading[int]:
        """Let `one` access the memory of `other`: 1, or why not."""
        try:
            with self._attempt():
                gpu, peer = self._current(one), self._use(other)
                try:
                    self._cuda.call("cuCtxEnablePeerAccess", peer.context, 0)
                except CudaError as problem:
                    if problem.code != _ALREADY_ENABLED:
                        raise
                else:
                    gpu.peers.append(other)
        except Refused as problem:
            return Absent(problem.code)
        return 1

    # --- measuring: seconds, by the GPU's own events ---

    def one_way(self, one: int, other: int) -> float:
        """Large copies from `one` to `other`, one after the other, by the engine of `one`.

        Raises:
            Refused: it cannot be done, or was not done in time.
        """
        return self._timed_copies(one, other, self._plan.copy_bytes, self._plan.copies)

    def small(self, one: int, other: int) -> float:
        """Small copies from `one` to `other`, one after the other; raises as `one_way`.

        Large ones go before them, and are not timed: all are on the stream when the first
        begins, so that it is the GPU that is timed, not how fast the CPU can ask.
        """
        plan = self._plan
        return self._timed_copies(
            one, other, plan.small_bytes, plan.small_copies, behind=plan.copies
        )

    def send(self, one: int, other: int) -> None:
        """Copy the bytes of one transfer and wait until they are there; raises as `one_way`."""
        with self._attempt():
            gpu = self._current(one)
            left = self._plan.transfer_bytes
            while left > 0:
                self._copy(one, other, min(left, self._plan.copy_bytes))
                left -= self._plan.copy_bytes
            self._record(gpu, 1)
            self._wait(gpu, 1)

    def both_ways(self, one: int, other: int) -> float:
        """Large copies there and back at once, until both are done; raises as `one_way`."""
        with self._attempt():
            there, back = self._current(one), self._use(other)
            self._record(there, 0)
            self._cuda.call("cuCtxSetCurrent", back.context)
            self._cuda.call("cuStreamWaitEvent", back.stream, there.events[0], 0)
            for _ in range(self._plan.copies):
                self._current(one)
                self._copy(one, other, self._plan.copy_bytes)
                self._current(other)
                self._copy(other, one, self._plan.copy_bytes)
            self._record(back, 2)
            self._current(one)
            self._cuda.call("cuStreamWaitEvent", there.stream, back.events[2], 0)
            self._record(there, 1)
            return self._elapsed(there)

    def reads(self, one: int, other: int) -> float:
        """Dependent reads by a thread on `one` of memory of `other`; raises as `one_way`."""
        with self._attempt():
            gpu, peer = self._use(one), self._current(other)
            address = peer.target.to_bytes(8, "little")
            self._put(peer.target, address)
            self._current(one)
            kernel = self._kernel(gpu)
            values = (peer.target, self._plan.reads, gpu.source)
            types = (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64)
            self._record(gpu, 0)
            self._cuda.call(
                "cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, gpu.stream, (values, types), 0
            )
            self._record(gpu, 1)
            seconds = self._elapsed(gpu)
            if self._got(gpu.source, len(address)) != address:
                raise Refused("WRONG_VALUE")
            return seconds

    def arrives(self, one: int, other: int, pattern: bytes) -> bool:
        """Whether `pattern`, put into `one` and copied to `other`, is found there by the CPU.

        It must be new each time, for what an earlier copy left there must not pass for it.

        Raises:
            Refused: as `one_way`.
        """
        with self._attempt():
            gpu, peer = self._current(one), self._use(other)
            self._put(gpu.source, pattern)
            self._copy(one, other, len(pattern))
            self._record(gpu, 1)
            self._wait(gpu, 1)
            self._current(other)
            return self._got(peer.target, len(pattern)) == pattern

    # --- giving back ---

    def close(self) -> bool:
        """Give everything back; whether that succeeded.

        After an operation that never ended nothing is touched: giving back would wait for it.
        The end of the process does it then.
        """
        if self._stuck:
            return False
        gpus = [gpu for gpu in self._gpus.values() if isinstance(gpu, _Gpu)]
        # No context is given back while another can still access it.
        failed = sum(self._call_all(self._opened_to(gpu)) for gpu in gpus)
        failed += sum(self._call_all(_held(gpu)) for gpu in gpus)
        self._gpus.clear()
        return not failed

    def _opened_to(self, gpu: _Gpu) -> Iterator[tuple[str, Any]]:
        yield "cuCtxSetCurrent", gpu.context
        for peer in map(self._gpus.get, gpu.peers):
            if isinstance(peer, _Gpu):
                yield "cuCtxDisablePeerAccess", peer.context

    def _call_all(self, calls: Iterator[tuple[str, Any]]) -> int:
        """Make all calls, whatever comes of each; how many failed."""
        failed = 0
        for function, what in calls:
            try:
                self._cuda.call(function, what)
            except CudaError:
                failed += 1
        return failed

    # --- steps ---

    @contextlib.contextmanager
    def _attempt(self) -> Iterator[None]:
        if self._stuck:
            raise Refused("GAVE_UP")
        if self._timing.clock() >= self._deadline:
            raise Refused("DEADLINE")
        try:
            yield
        except CudaError as problem:
            raise Refused(problem.code) from None

    def _use(self, ordinal: int) -> _Gpu:
        gpu = self._gpus.get(ordinal, Absent("NOT_OPEN"))
        if isinstance(gpu, Absent):
            raise Refused(gpu.code)
        return gpu

    def _current(self, ordinal: int) -> _Gpu:
        gpu = self._use(ordinal)
        self._cuda.call("cuCtxSetCurrent", gpu.context)
        return gpu

    def _kernel(self, gpu: _Gpu) -> Any:
        if gpu.kernel is None:
            gpu.module = self._cuda.call("cuModuleLoadData", _CHASE)
            gpu.kernel = self._cuda.call("cuModuleGetFunction", gpu.module, b"chase")
        return gpu.kernel

    def _timed_copies(
        self, one: int, other: int, size: int, times: int, *, behind: int = 0
    ) -> float:
        with self._attempt():
            gpu = self._current(one)
            for _ in range(behind):
                self._copy(one, other, self._plan.copy_bytes)
            self._record(gpu, 0)
            for _ in range(times):
                self._copy(one, other, size)
            self._record(gpu, 1)
            return self._elapsed(gpu)

    def _copy(self, one: int, other: int, size: int) -> None:
        """Put a copy on the stream of `one`, whose context is current."""
        gpu, peer = self._use(one), self._use(other)
        self._cuda.call(
            "cuMemcpyPeerAsync",
            peer.target, peer.context, gpu.source, gpu.context, size, gpu.stream,
        )  # fmt: skip

    def _record(self, gpu: _Gpu, event: int) -> None:
        self._cuda.call("cuEventRecord", gpu.events[event], gpu.stream)

    def _wait(self, gpu: _Gpu, event: int) -> None:
        until = self._timing.clock() + PATIENCE_S
        while not self._cuda.ready("cuEventQuery", gpu.events[event]):
            if self._timing.clock() > until:
                self._stuck = True
                raise Refused("TIMEOUT")
            self._timing.sleep(_POLL_S)

    def _elapsed(self, gpu: _Gpu) -> float:
        """Seconds between the first two events, when the second is over."""
        self._wait(gpu, 1)
        return float(self._cuda.call("cuEventElapsedTime", *gpu.events[:2])) / 1000

    def _put(self, address: int, data: bytes) -> None:
        held = ctypes.create_string_buffer(data, len(data))
        self._cuda.call("cuMemcpyHtoD", address, ctypes.addressof(held), len(data))
        # The call may return while the last bytes are still under way.
        self._cuda.call("cuCtxSynchronize")

    def _got(self, address: int, size: int) -> bytes:
        held = ctypes.create_string_buffer(size)
        self._cuda.call("cuMemcpyDtoH", ctypes.addressof(held), address, size)
        return held.raw


def _held(gpu: _Gpu) -> Iterator[tuple[str, Any]]:
    """How to give back what is held on a GPU, its context last."""
    yield "cuCtxSetCurrent", gpu.context
    for event in gpu.events:
        yield "cuEventDestroy", event
    if gpu.stream is not None:
        yield "cuStreamDestroy", gpu.stream
    if gpu.module is not None:
        yield "cuModuleUnload", gpu.module
    for address in (gpu.source, gpu.target):
        if address:
            yield "cuMemFree", address
    yield "cuDevicePrimaryCtxRelease", gpu.device
