"""NVSwitch evidence through libnvidia-nscq: a report with the session's nonce per switch.

NSCQ is the library of the PCIe NVSwitch driver, so it answers on Hopper HGX boards alone;
switches of B200 and B300 boards cannot be asked from inside a guest.

Paths, codes and structs are those of NSCQ 2.0: a session is made with the devices mounted, a
path is observed, and the library calls back once per device with a return code and a value.
Structs of several KiB are passed by value.  The nonce is an input of the session, so switches
are asked one after the other; NSCQ does not say that a session may be used from two threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

from ccverify.bundle.items import DeviceItem
from ccverify.collect.device_answer import device_outcome
from ccverify.collect.model import Absence, AbsenceReason, Ask, ItemType, Outcome, Stage

__all__ = ["LIBRARIES", "TNVL_MODES", "NscqSource"]

LIBRARIES: Final = ("libnvidia-nscq.so.2", "libnvidia-nscq.so")
"""Names the library is looked for under."""

TNVL_MODES: Final = {-1: "unknown", 0: "disabled", 1: "enabled", 2: "failure", 3: "locked"}
"""``NSCQ_DEVICE_TNVL_MODE_*``: trusted NVLink; Protected PCIe wants it locked."""
_ARCHITECTURES: Final = {0: "SV10", 1: "LR10", 2: "LS10"}

_CODES: Final = {
    1: "NSCQ_RC_WARNING_RDT_INIT_FAILURE",
    -1: "NSCQ_RC_ERROR_NOT_IMPLEMENTED",
    -2: "NSCQ_RC_ERROR_INVALID_UUID",
    -3: "NSCQ_RC_ERROR_RESOURCE_NOT_MOUNTABLE",
    -4: "NSCQ_RC_ERROR_OVERFLOW",
    -5: "NSCQ_RC_ERROR_UNEXPECTED_VALUE",
    -6: "NSCQ_RC_ERROR_UNSUPPORTED_DRV",
    -7: "NSCQ_RC_ERROR_DRV",
    -8: "NSCQ_RC_ERROR_TIMEOUT",
    -127: "NSCQ_RC_ERROR_EXT",
    -128: "NSCQ_RC_ERROR_UNSPECIFIED",
}
_REASONS: Final = {
    -1: AbsenceReason.NOT_SUPPORTED,
    -6: AbsenceReason.NO_DRIVER,
    -8: AbsenceReason.TIMEOUT,
}

_PART: Final = "nvswitch"
_MOUNT_DEVICES: Final = 1
_MAX_SWITCHES: Final = 64
_UUIDS: Final = "/drv/nvswitch/{device}/uuid"
_MATCH: Final = (
    "install libnvidia-nscq of exactly the driver's version, and see that /dev/nvidia-nvswitchctl "
    "can be opened"
)
_INSTALL: Final = (
    "on a Hopper HGX node install the package libnvidia-nscq of the driver's version; on other "
    "machines there is no NVSwitch to ask"
)


class _Uuid(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint8 * 16),)


class _Label(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char * 64),)


class _Report(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint32), ("data", ctypes.c_uint8 * 0x2000))


class _Certificate(ctypes.Structure):
    _fields_ = (("data", ctypes.c_uint8 * 0x1400), ("size", ctypes.c_uint32))


class _SessionResult(ctypes.Structure):
    _fields_ = (("rc", ctypes.c_int8), ("session", ctypes.c_void_p))


# What a value of each path is passed as.
_UUID_POINTER = ctypes.POINTER(_Uuid)


class _NscqError(Exception):
    """A call that NSCQ refused, or an answer that is none."""

    def __init__(self, what: str, code: int | None) -> None:
        name = "no answer" if code is None else _CODES.get(code, f"return code {code}")
        super().__init__(f"{what}: {name}")
        self.reason = _REASONS.get(code or 0, AbsenceReason.FAILED)


class _NoLibrary(Exception):
    """The shared library is not there, or is another one."""


class _Session:
    """An NSCQ session with every switch mounted."""

    def __init__(self, names: Sequence[str]) -> None:
        self._library = _load(names)
        # Callbacks of other types share one parameter, so it is declared as a bare pointer.
        pointer, word = ctypes.c_void_p, ctypes.c_uint32
        self._create = self._function("nscq_session_create", _SessionResult, word)
        self._destroy = self._function("nscq_session_destroy", None, pointer)
        self._observe = self._function(
            "nscq_session_path_observe", ctypes.c_int8, pointer, ctypes.c_char_p, pointer, pointer,
            word,
        )  # fmt: skip
        self._input = self._function(
            "nscq_session_set_input", ctypes.c_int8, pointer, word, pointer, word
        )
        self._label = self._function(
            "nscq_uuid_to_label", ctypes.c_int8, _UUID_POINTER, ctypes.POINTER(_Label), word
        )
        made = self._create(_MOUNT_DEVICES)
        # Above zero are warnings: the session is made.
        if made.rc < 0 or not made.session:
            raise _NscqError("nscq_session_create", int(made.rc))
        self._session = made.session

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise _NoLibrary(f"the library found is not NSCQ 2: it lacks {name}") from None
        function.restype, function.argtypes = result, list(arguments)
        return function

    def close(self) -> None:
        self._destroy(self._session)

    def observe(self, path: str, kind: Any, take: Callable[[Any], Any]) -> list[Any]:
        """Observe `path`; `take` copies a value out while the library still holds it."""
        values: list[Any] = []
        problems: list[_NscqError] = []

        def called_back(_device: Any, code: int, value: Any, _data: Any) -> None:
            # Nothing may be raised through the library's frames.
            try:
                if code < 0:
                    raise _NscqError(path, code)
                if len(values) < _MAX_SWITCHES:
                    values.append(take(value))
            except _NscqError as problem:
                problems.append(problem)

        prototype = ctypes.CFUNCTYPE(None, _UUID_POINTER, ctypes.c_int8, kind, ctypes.c_void_p)
        callback = prototype(called_back)
        address = ctypes.cast(callback, ctypes.c_void_p)
        code = self._observe(self._session, path.encode("ascii"), address, None, 0)
        if problems:
            raise problems[0]
        if code < 0:
            raise _NscqError(path, int(code))
        return values

    def one(self, path: str, kind: Any, take: Callable[[Any], Any]) -> Any:
        """Observe a path of one switch, which calls back exactly once."""
        values = self.observe(path, kind, take)
        if len(values) != 1:
            raise _NscqError(f"{path}: {len(values)} answers instead of one", None)
        return values[0]

    def labels(self) -> list[str]:
        """The name of every switch, which paths are made with."""
        return sorted(self.observe(_UUIDS, _UUID_POINTER, self._label_of))

    def _label_of(self, uuid: Any) -> str:
        label = _Label()
        code = self._label(uuid, ctypes.byref(label), 0) if uuid else -2
        text = bytes(label.data)
        if code < 0 or not text or not text.isascii() or b"/" in text:
            raise _NscqError("nscq_uuid_to_label", int(code) if code < 0 else -5)
        return text.decode("ascii")

    def set_nonce(self, nonce: bytes) -> None:
        buffer = (ctypes.c_uint8 * len(nonce)).from_buffer_copy(nonce)
        code = self._input(self._session, 0, buffer, len(nonce))
        if code < 0:
            raise _NscqError("nscq_session_set_input", int(code))


def _load(names: Sequence[str]) -> Any:
    problems = []
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError as problem:
            problems.append(str(problem))
    raise _NoLibrary(problems[0] if problems else "no name to look for")


def _sized(value: Any) -> bytes:
    if not 0 < value.size <= len(value.data):
        raise _NscqError(f"a value of {value.size} of {len(value.data)} bytes", -5)
    return bytes(value.data)[: value.size]


@dataclass(frozen=True, slots=True)
class _Switch:
    """What one switch answered."""

    answer: DeviceItem
    mode: str


def _read_switch(session: _Session, label: str, nonce: bytes) -> _Switch:
    session.set_nonce(nonce)
    report = session.one(f"/{label}/config/attestation_report", _Report, _sized)
    chain = session.one(f"/{label}/config/certificate", _Certificate, _sized)
    # Neither is evidence, so that a switch does not say them does not cost its report.
    architecture = _asserted(session, f"/{label}/id/arch")
    mode = _asserted(session, f"/{label}/config/pcie_mode")
    named = None if architecture is None else _ARCHITECTURES.get(architecture)
    answer = DeviceItem(report, chain, architecture=named, uuid=label)
    return _Switch(answer, TNVL_MODES.get(-1 if mode is None else mode, str(mode)))


def _asserted(session: _Session, path: str) -> int | None:
    try:
        return int(session.one(path, ctypes.c_int8, int))
    except _NscqError:
        return None


_SESSION: Final = -1
_Reply = tuple[int, int | _Switch | Exception | None]
"""A switch by number and what became of it; of `_SESSION` the count, its failure, its end."""


class NscqSource:
    """The NVSwitches of this guest, through libnvidia-nscq.

    A switch that does not answer in time is an absence, and so are those after it; those before
    it are kept.  How the switch stands to trusted NVLink is said in the item's source.

    Args:
        libraries: names or paths under which the library is looked for.
    """

    name = "nscq"
    stage = Stage.DEVICES
    gives = (_PART,)

    def __init__(self, libraries: Sequence[str] = LIBRARIES) -> None:
        self._libraries = tuple(libraries)

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One item or absence per switch, ``nvswitch-0`` onwards, in the order of their names."""
        replies: SimpleQueue[_Reply] = SimpleQueue()
        Thread(target=self._work, args=(ask.device_nonce, replies), daemon=True).start()
        count: int | None = None
        done: dict[int, Outcome] = {}
        rest: Callable[[str], Absence] = self._late
        while True:
            try:
                at, reply = replies.get(timeout=ask.remaining)
            except Empty:
                break
            if isinstance(reply, int):
                count = reply
            elif at == _SESSION:
                if isinstance(reply, Exception):
                    rest = partial(self._absence, problem=reply)
                break
            elif reply is not None:
                done[at] = self._outcome(f"{_PART}-{at}", reply, ask.device_nonce)
        if count is None:
            return [rest(_PART)]
        if not count:
            return [self._none()]
        return [done.get(at) or rest(f"{_PART}-{at}") for at in range(count)]

    def diagnose(self) -> Sequence[Absence]:
        """Whether a session can be made and sees a switch."""
        try:
            session = _Session(self._libraries)
        except (_NoLibrary, _NscqError) as problem:
            return [self._absence(_PART, problem)]
        try:
            found = session.labels()
        except _NscqError as problem:
            return [self._absence(_PART, problem)]
        finally:
            session.close()
        return [] if found else [self._none()]

    def _work(self, nonce: bytes, replies: SimpleQueue[_Reply]) -> None:
        end: Exception | None = None
        try:
            session = _Session(self._libraries)
            try:
                labels = session.labels()
                replies.put((_SESSION, len(labels)))
                for at, label in enumerate(labels):
                    replies.put((at, _attempt(session, label, nonce)))
            finally:
                session.close()
        except Exception as problem:
            end = problem
        replies.put((_SESSION, end))

    def _outcome(self, part: str, reply: _Switch | Exception, nonce: bytes) -> Outcome:
        if isinstance(reply, Exception):
            return self._absence(part, reply)
        return device_outcome(
            part,
            ItemType.NVIDIA_SWITCH,
            reply.answer,
            nonce=nonce,
            source=f"NSCQ, trusted NVLink {reply.mode}",
        )

    def _none(self) -> Absence:
        text = "the driver sees no NVSwitch in this guest"
        remedy = "pass the NVSwitches through to this guest, if it is to have any"
        return Absence(_PART, AbsenceReason.NOT_PRESENT, text, remedy, self.name)

    def _late(self, part: str) -> Absence:
        text, remedy = "the switch did not answer in time", "give more time (--timeout)"
        return Absence(part, AbsenceReason.TIMEOUT, text, remedy, self.name)

    def _absence(self, part: str, problem: Exception) -> Absence:
        if isinstance(problem, _NoLibrary):
            return Absence(part, AbsenceReason.NO_LIBRARY, str(problem), _INSTALL, self.name)
        if isinstance(problem, _NscqError):
            return Absence(part, problem.reason, str(problem), _MATCH, self.name)
        text = f"reading it went wrong: {type(problem).__name__}: {problem}"
        return Absence(part, AbsenceReason.FAILED, text, _MATCH, self.name)


def _attempt(session: _Session, label: str, nonce: bytes) -> _Switch | Exception:
    try:
        return _read_switch(session, label, nonce)
    except _NscqError as problem:
        return problem
