"""A stand-in for ``cuda.bindings.driver``, and NVLink counters, over a simulated machine.

It has the functions that a probe of the fabric takes, with the names and habits of cuda-bindings:
tuples that begin with a return code.  Copies take their time on a clock of its own, their bytes
arrive, and NVML's counters show them: at both ends, and where the machine's fabric has traffic of
others, that too.

    cuda = SimCuda(machine, SimLinkFaults(slow={(0, 3): 0.5}))
    cuda, cuda.nvml, cuda.clock, cuda.sleep

Speeds are of the right size and no more: those of an H200 where it was measured, made up for
Blackwell.
"""

# ruff: noqa: N802, N803  (the names are those of cuda-bindings and nvidia-ml-py)

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any, Final

from ccverify.sim.machine import SimMachine
from ccverify.sim.nvidia.nvml import NVMLError, SimNvml

__all__ = ["SimCuda", "SimLinkFaults"]

_Pair = tuple[int, int]

# What a single round costs: bytes per second, seconds for a small copy, for a read.
_NVLINK_4: Final = (395e9, 2.1e-6, 0.83e-6)
_NVLINK_5: Final = (780e9, 2.1e-6, 0.80e-6)
_ENCRYPTED: Final = (690e9, 8.4e-6, 1.1e-6)

_KEPT: Final = 1 << 16
"""Bytes of a buffer that are kept: no pattern is longer."""
_ALL_LINKS: Final = 0xFFFF_FFFF
_SENT, _RECEIVED = 138, 139
_UNSIGNED_LONG_LONG: Final = 3
_NOT_SUPPORTED: Final = 3


class _Code(IntEnum):
    """Return codes."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_PEER_ACCESS_UNSUPPORTED = 217
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED = 704
    CUDA_ERROR_SYSTEM_NOT_READY = 802


_OK: Final = (_Code.CUDA_SUCCESS,)


class _Attribute(IntEnum):
    """``CUdevice_P2PAttribute``."""

    CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK = 1
    CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED = 2
    CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SimLinkFaults:
    """What is wrong between GPUs, by number; of the machine's own, `Fabric.background` adds to it.

    Attributes:
        no_access: pairs of which the first may not access the second.
        slow: pair → fraction of the bandwidth that is left.
        lost: pairs between which bytes are counted and do not arrive.
        hung: pairs between which nothing ever ends.
        diverted: pair → a third GPU that gets its bytes in place of the second.
        foreign: GPU → bytes per second of others over its links, in each direction.
        visible: GPUs that CUDA shows, in its order; None for all, in NVML's.
    """

    no_access: frozenset[_Pair] = frozenset()
    slow: Mapping[_Pair, float] = field(default_factory=dict)
    lost: frozenset[_Pair] = frozenset()
    hung: frozenset[_Pair] = frozenset()
    diverted: Mapping[_Pair, int] = field(default_factory=dict)
    foreign: Mapping[int, int] = field(default_factory=dict)
    visible: Sequence[int] | None = None


_NO_FAULTS: Final = SimLinkFaults()


@dataclass(slots=True)
class _Stream:
    """A queue of work on one GPU, and when it is done."""

    gpu: int
    done: float = 0.0


@dataclass(slots=True)
class _Event:
    at: float = 0.0


class SimCuda:
    """The driver API as the guest of a simulated machine sees it, for one thread.

    Args:
        machine: whose GPUs.
        faults: what is wrong between them.
    """

    CUdevice_P2PAttribute = _Attribute

    def __init__(self, machine: SimMachine, faults: SimLinkFaults = _NO_FAULTS) -> None:
        self._machine = machine
        self._faults = faults
        count = len(machine.node.gpus)
        visible = range(count) if faults.visible is None else faults.visible
        # A GPU is known by its number in the machine; CUDA's ordinal is its place here.
        self._gpus = tuple(visible)
        self._now = 0.0
        self._current = -1
        self._memory: dict[int, bytes] = {}
        self._owner: dict[int, int] = {}
        self._enabled: set[_Pair] = set()
        self._contexts: dict[int, int] = {}
        self._held = 0
        self.sent = [0] * count
        self.received = [0] * count
        self.nvml = _CountingNvml(machine, self)

    # --- the simulation's own ---

    @property
    def held(self) -> int:
        """How much is not given back: memory, streams, events, modules, contexts, access."""
        return self._held + len(self._owner) + len(self._enabled) + sum(self._contexts.values())

    def clock(self) -> float:
        """Return seconds since the start; they pass only when something waits."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def counted(self, gpu: int) -> tuple[int, int]:
        """Return bytes sent and received over the links of a GPU, those of others among them."""
        rate = self._machine.fabric.foreign_rate(gpu) + self._faults.foreign.get(gpu, 0)
        foreign = math.floor(rate * self._now)
        return self.sent[gpu] + foreign, self.received[gpu] + foreign

    # --- devices ---

    def cuInit(self, Flags: int) -> tuple[_Code, ...]:
        """Start; refused while a GPU waits for its fabric, as a real driver does."""
        if self._machine.fabric.waiting:
            return (_Code.CUDA_ERROR_SYSTEM_NOT_READY,)
        return _OK if self._gpus else (_Code.CUDA_ERROR_NO_DEVICE,)

    def cuDriverGetVersion(self) -> tuple[Any, ...]:
        """Return 13.0."""
        return _Code.CUDA_SUCCESS, 13000

    def cuDeviceGetCount(self) -> tuple[Any, ...]:
        """Return how many GPUs CUDA shows."""
        return _Code.CUDA_SUCCESS, len(self._gpus)

    def cuDeviceGet(self, ordinal: int) -> tuple[Any, ...]:
        """Return the handle of a GPU: its number."""
        return _Code.CUDA_SUCCESS, self._gpus[ordinal]

    def cuDeviceGetUuid(self, dev: int) -> tuple[Any, ...]:
        """Return the 16 bytes that NVML writes as text."""
        text = self._machine.uuid(self._machine.node.gpus[dev])
        octets = bytes.fromhex(text.removeprefix("GPU-").replace("-", ""))
        return _Code.CUDA_SUCCESS, SimpleNamespace(bytes=octets)

    def cuDeviceGetPCIBusId(self, length: int, dev: int) -> tuple[Any, ...]:
        """Return the place on the PCI bus, in a buffer of the length."""
        bus: str = self.nvml.nvmlDeviceGetPciInfo(dev).busId
        return _Code.CUDA_SUCCESS, bus[4:].lower().encode().ljust(length, b"\0")

    def cuDeviceCanAccessPeer(self, dev: int, peerDev: int) -> tuple[Any, ...]:
        """Return whether a GPU may access the memory of another."""
        return _Code.CUDA_SUCCESS, int(self._may((dev, peerDev)))

    def cuDeviceGetP2PAttribute(
        self, attrib: _Attribute, srcDevice: int, dstDevice: int
    ) -> tuple[Any, ...]:
        """Return an attribute of a pair."""
        if attrib is _Attribute.CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
            return _Code.CUDA_SUCCESS, 0
        return _Code.CUDA_SUCCESS, int(self._may((srcDevice, dstDevice)))

    # --- contexts ---

    def cuDevicePrimaryCtxRetain(self, dev: int) -> tuple[Any, ...]:
        """Return the context of a GPU: its number."""
        self._contexts[dev] = self._contexts.get(dev, 0) + 1
        return _Code.CUDA_SUCCESS, dev

    def cuDevicePrimaryCtxRelease(self, dev: int) -> tuple[_Code, ...]:
        """Give a context back."""
        if not self._contexts.get(dev):
            return (_Code.CUDA_ERROR_INVALID_VALUE,)
        self._contexts[dev] -= 1
        return _OK

    def cuCtxSetCurrent(self, ctx: int) -> tuple[_Code, ...]:
        """Make a context current."""
        self._current = ctx
        return _OK

    def cuCtxSynchronize(self) -> tuple[_Code, ...]:
        """Wait for nothing: what has to be waited for is waited for by events."""
        return _OK

    def cuCtxEnablePeerAccess(self, peerContext: int, Flags: int) -> tuple[_Code, ...]:
        """Let the current context access another."""
        pair = (self._current, peerContext)
        if not self._may(pair):
            return (_Code.CUDA_ERROR_PEER_ACCESS_UNSUPPORTED,)
        if pair in self._enabled:
            return (_Code.CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED,)
        self._enabled.add(pair)
        return _OK

    def cuCtxDisablePeerAccess(self, peerContext: int) -> tuple[_Code, ...]:
        """Take that back."""
        self._enabled.remove((self._current, peerContext))
        return _OK

    # --- memory ---

    def cuMemAlloc(self, bytesize: int) -> tuple[Any, ...]:
        """Return the address of a buffer on the current GPU."""
        address = (len(self._memory) + 1) << 40
        self._memory[address] = b""
        self._owner[address] = self._current
        return _Code.CUDA_SUCCESS, address

    def cuMemFree(self, dptr: int) -> tuple[_Code, ...]:
        """Give a buffer back."""
        del self._owner[dptr]
        return _OK

    def cuMemcpyHtoD(self, dstDevice: int, srcHost: int, ByteCount: int) -> tuple[_Code, ...]:
        """Write to a buffer."""
        self._memory[dstDevice] = ctypes.string_at(srcHost, ByteCount)[:_KEPT]
        return _OK

    def cuMemcpyDtoH(self, dstHost: int, srcDevice: int, ByteCount: int) -> tuple[_Code, ...]:
        """Read from a buffer."""
        data = self._memory[srcDevice].ljust(ByteCount, b"\0")
        ctypes.memmove(dstHost, data, ByteCount)
        return _OK

    def cuMemcpyPeerAsync(
        self, dstDevice: int, dstContext: int, srcDevice: int, srcContext: int, ByteCount: int,
        hStream: _Stream,
    ) -> tuple[_Code, ...]:  # fmt: skip
        """Put a copy on a stream."""
        pair = (srcContext, dstContext)
        bandwidth, overhead, _ = self._speed
        share = self._faults.slow.get(pair, 1.0)
        self._take(hStream, pair, overhead + ByteCount / (bandwidth * share))
        self._count(pair, ByteCount)
        if pair not in self._faults.lost:
            self._memory[dstDevice] = self._memory[srcDevice][:ByteCount]
        return _OK

    # --- streams, events, kernels ---

    def cuStreamCreate(self, Flags: int) -> tuple[Any, ...]:
        """Return a stream on the current GPU."""
        self._held += 1
        return _Code.CUDA_SUCCESS, _Stream(self._current)

    def cuEventCreate(self, Flags: int) -> tuple[Any, ...]:
        """Return an event."""
        self._held += 1
        return _Code.CUDA_SUCCESS, _Event()

    def cuModuleLoadData(self, image: bytes) -> tuple[Any, ...]:
        """Take a text in PTX."""
        self._held += 1
        return _Code.CUDA_SUCCESS, image

    def cuStreamDestroy(self, hStream: _Stream) -> tuple[_Code, ...]:
        """Give a stream back."""
        return self._given_back()

    def cuEventDestroy(self, hEvent: _Event) -> tuple[_Code, ...]:
        """Give an event back."""
        return self._given_back()

    def cuModuleUnload(self, hmod: bytes) -> tuple[_Code, ...]:
        """Give a module back."""
        return self._given_back()

    def cuModuleGetFunction(self, hmod: bytes, name: bytes) -> tuple[Any, ...]:
        """Return a function: its name."""
        return _Code.CUDA_SUCCESS, name

    def cuEventRecord(self, hEvent: _Event, hStream: _Stream) -> tuple[_Code, ...]:
        """Note when a stream is where it is now."""
        hEvent.at = max(hStream.done, self._now)
        return _OK

    def cuStreamWaitEvent(self, hStream: _Stream, hEvent: _Event, Flags: int) -> tuple[_Code, ...]:
        """Let a stream wait for an event."""
        hStream.done = max(hStream.done, hEvent.at)
        return _OK

    def cuEventQuery(self, hEvent: _Event) -> tuple[_Code, ...]:
        """Say whether an event is over."""
        return _OK if hEvent.at <= self._now else (_Code.CUDA_ERROR_NOT_READY,)

    def cuEventElapsedTime(self, hStart: _Event, hEnd: _Event) -> tuple[Any, ...]:
        """Return the milliseconds between two events."""
        return _Code.CUDA_SUCCESS, (hEnd.at - hStart.at) * 1000

    def cuLaunchKernel(self, f: bytes, *launch: Any) -> tuple[_Code, ...]:
        """Run the one kernel there is: dependent reads from an address, the last one kept."""
        stream, ((start, steps, last), _) = launch[7], launch[8]
        reader, owner = stream.gpu, self._owner[start]
        self._take(stream, (reader, owner), steps * self._speed[2])
        self._count((owner, reader), steps * 32)
        self._memory[last] = self._memory[start][:8]
        return _OK

    # --- steps ---

    @property
    def _speed(self) -> tuple[float, float, float]:
        fabric = self._machine.fabric
        if fabric.encrypted:
            return _ENCRYPTED
        return _NVLINK_5 if fabric.version >= 7 else _NVLINK_4

    def _may(self, pair: _Pair) -> bool:
        return self._machine.fabric.active and pair not in self._faults.no_access

    def _take(self, stream: _Stream, pair: _Pair, seconds: float) -> None:
        if pair in self._faults.hung:
            seconds = math.inf
        stream.done = max(stream.done, self._now) + seconds

    def _count(self, pair: _Pair, size: int) -> None:
        self.sent[pair[0]] += size
        self.received[self._faults.diverted.get(pair, pair[1])] += size

    def _given_back(self) -> tuple[_Code, ...]:
        self._held -= 1
        return _OK


class _CountingNvml(SimNvml):
    """NVML with the counters of the links."""

    def __init__(self, machine: SimMachine, cuda: SimCuda) -> None:
        super().__init__(machine)
        self._fabric = machine.fabric
        self._cuda = cuda

    def nvmlDeviceGetPersistenceMode(self, handle: int) -> int:
        """Return that the driver keeps the GPU awake."""
        return 1

    def nvmlDeviceGetFieldValues(self, handle: int, fieldIds: Sequence[Any]) -> list[Any]:
        """Return the counters that are asked for, in KiB; the sum of all links alone."""
        if not self._fabric.links:
            raise NVMLError(_NOT_SUPPORTED)
        sent, received = (count // 1024 for count in self._cuda.counted(handle))
        known = {(_SENT, _ALL_LINKS): sent, (_RECEIVED, _ALL_LINKS): received}
        return [
            SimpleNamespace(
                nvmlReturn=0 if field_id in known else _NOT_SUPPORTED,
                valueType=_UNSIGNED_LONG_LONG,
                value=SimpleNamespace(ullVal=known.get(field_id, 0)),
            )
            for field_id in fieldIds
        ]
