"""Asks the Fabric Manager for its partitions through libnvfm, NVIDIA's client library.

Started by `ccverify.collect.manager_live` as a script of its own, because a call into the library
may hang or crash: it imports the standard library alone.  It prints what ``fmpm -l`` prints.
Nothing is activated or changed.

    manager_library.py LIBRARY (inet|unix) ADDRESS MILLISECONDS

Numbers and sizes are those of NVIDIA's public ``nv_fm_types.h`` (``fmConnectParams_v1`` and
``_v2``, ``fmFabricPartitionList_v2``).  The exit status says how it ended: see `STATUS`.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["STATUS", "main"]

STATUS = {"done": 0, "refused": 3, "no-library": 4, "timeout": 5, "not-supported": 6}
"""How it ended → exit status."""

_RETURNS = {
    -1: "FM_ST_BADPARAM",
    -2: "FM_ST_GENERIC_ERROR",
    -3: "FM_ST_NOT_SUPPORTED",
    -4: "FM_ST_UNINITIALIZED",
    -5: "FM_ST_TIMEOUT",
    -6: "FM_ST_VERSION_MISMATCH",
    -7: "FM_ST_IN_USE",
    -8: "FM_ST_NOT_CONFIGURED",
    -9: "FM_ST_CONNECTION_NOT_VALID",
    -22: "FM_ST_NOT_READY",
}
_MEANS = {-3: "not-supported", -5: "timeout", -8: "not-supported"}
_VERSION_MISMATCH = -6
_ADDRESS_TYPES = {"inet": 1, "unix": 2}
_MAX_ADDRESS = 256
_MAX_PARTITIONS = 64
_MAX_GPUS = 16


class _ConnectV1(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint),
        ("address", ctypes.c_char * _MAX_ADDRESS),
        ("timeout_ms", ctypes.c_uint),
        ("is_unix", ctypes.c_uint),
    )


class _ConnectV2(ctypes.Structure):
    _fields_ = (*_ConnectV1._fields_, ("type", ctypes.c_uint))


class _Gpu(ctypes.Structure):
    _fields_ = (
        ("physicalId", ctypes.c_uint),
        ("uuid", ctypes.c_char * 80),
        ("pciBusId", ctypes.c_char * 32),
        ("numNvLinksAvailable", ctypes.c_uint),
        ("maxNumNvLinks", ctypes.c_uint),
        ("nvlinkLineRateMBps", ctypes.c_uint),
    )


class _Partition(ctypes.Structure):
    _fields_ = (
        ("partitionId", ctypes.c_uint),
        ("isActive", ctypes.c_uint),
        ("numGpus", ctypes.c_uint),
        ("gpuInfo", _Gpu * _MAX_GPUS),
    )


class _List(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint),
        ("numPartitions", ctypes.c_uint),
        ("maxNumPartitions", ctypes.c_uint),
        ("partitionInfo", _Partition * _MAX_PARTITIONS),
    )


class _Refused(Exception):
    """A call that the library refused."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: {_RETURNS.get(code, f'return code {code}')}")
        self.status = STATUS[_MEANS.get(code, "refused")]


def _version(kind: type[ctypes.Structure], number: int) -> int:
    return ctypes.sizeof(kind) | number << 24


class _Library:
    def __init__(self, name: str) -> None:
        library = ctypes.CDLL(name)
        self._functions: dict[str, Any] = {}
        pointer = ctypes.c_void_p
        for function, arguments in (
            ("fmLibInit", ()),
            ("fmLibShutdown", ()),
            ("fmConnect", (pointer, pointer)),
            ("fmDisconnect", (pointer,)),
            ("fmGetSupportedFabricPartitions", (pointer, pointer)),
        ):
            found = getattr(library, function)
            found.restype, found.argtypes = ctypes.c_int, list(arguments)
            self._functions[function] = found

    def call(self, name: str, *arguments: Any) -> int:
        return int(self._functions[name](*arguments))

    def must(self, name: str, *arguments: Any) -> None:
        code = self.call(name, *arguments)
        if code:
            raise _Refused(name, code)


def _connect(library: _Library, kind: str, address: str, timeout_ms: int) -> ctypes.c_void_p:
    """Connect with the newest form of the parameters that the library knows."""
    is_unix, handle = int(kind == "unix"), ctypes.c_void_p()
    address_bytes = address.encode()
    new = _ConnectV2(_version(_ConnectV2, 2), address_bytes, timeout_ms, is_unix,
                     _ADDRESS_TYPES[kind])  # fmt: skip
    code = library.call("fmConnect", ctypes.byref(new), ctypes.byref(handle))
    if code == _VERSION_MISMATCH:
        old = _ConnectV1(_version(_ConnectV1, 1), address_bytes, timeout_ms, is_unix)
        code = library.call("fmConnect", ctypes.byref(old), ctypes.byref(handle))
    if code:
        raise _Refused("fmConnect", code)
    return handle


def _list(library: _Library, kind: str, address: str, timeout_ms: int) -> dict[str, Any]:
    library.must("fmLibInit")
    try:
        handle = _connect(library, kind, address, timeout_ms)
        try:
            found = _List(_version(_List, 1))
            library.must("fmGetSupportedFabricPartitions", handle, ctypes.byref(found))
        finally:
            library.call("fmDisconnect", handle)
    finally:
        library.call("fmLibShutdown")
    return _document(found)


def _document(found: _List) -> dict[str, Any]:
    """The list as fmpm writes it; of numbers that cannot be, as much as there is room for."""
    partitions = found.partitionInfo[: min(found.numPartitions, _MAX_PARTITIONS)]
    return {
        **_numbers(found, "version", "numPartitions", "maxNumPartitions"),
        "partitionInfo": [
            {
                **_numbers(one, "partitionId", "isActive", "numGpus"),
                "gpuInfo": [_gpu(gpu) for gpu in one.gpuInfo[: min(one.numGpus, _MAX_GPUS)]],
            }
            for one in partitions
        ],
    }


def _gpu(gpu: _Gpu) -> dict[str, Any]:
    numbers = ("physicalId", "numNvLinksAvailable", "maxNumNvLinks", "nvlinkLineRateMBps")
    texts = {name: getattr(gpu, name).decode("latin-1") for name in ("uuid", "pciBusId")}
    return {**_numbers(gpu, *numbers), **texts}


def _numbers(value: ctypes.Structure, *names: str) -> dict[str, int]:
    return {name: int(getattr(value, name)) for name in names}


def main(words: Sequence[str], write: Callable[[str], Any] = print) -> int:
    """List the partitions; return the exit status."""
    name, kind, address, timeout_ms = words
    if kind not in _ADDRESS_TYPES or not 0 < len(address.encode()) < _MAX_ADDRESS:
        write("the address is none")
        return STATUS["refused"]
    try:
        library = _Library(name)
    except (OSError, AttributeError) as problem:
        write(str(problem))
        return STATUS["no-library"]
    try:
        write(json.dumps(_list(library, kind, address, int(timeout_ms)), indent=3, sort_keys=True))
    except _Refused as problem:
        write(str(problem))
        return problem.status
    return STATUS["done"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
