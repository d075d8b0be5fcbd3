"""NVML through nvidia-ml-py: loaded late, every return code seen, every failure typed.

nvidia-ml-py raises for most return codes, returns some unlooked-at (``…Settings``,
``nvmlDeviceGetModuleId``), decodes text without care, and knows functions and structs that an
older driver, or an older nvidia-ml-py, lacks.  `Nvml.call` turns all of that into one exception
with the name of the return code.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import re
from collections.abc import Callable
from typing import Any, Final

from ccverify.collect.asking import Answer
from ccverify.collect.model import Absence, AbsenceReason
from ccverify.collect.refusals import Refused, Remark, Unavailable

__all__ = [
    "FUNCTION_NOT_FOUND",
    "UNREADABLE",
    "Load",
    "Nvml",
    "NvmlError",
    "NvmlUnavailable",
    "failed_answer",
    "import_pynvml",
    "nvml_absence",
]

FUNCTION_NOT_FOUND: Final = "NVML_ERROR_FUNCTION_NOT_FOUND"
UNREADABLE: Final = "UNREADABLE"
"""Not a code of NVML: it answered, and the answer is no text or out of range."""

Load = Callable[[], Any]
"""Gives the module ``pynvml``, or raises ImportError."""

_CODE = re.compile(r"NVML_(SUCCESS|ERROR_[A-Z0-9_]+)")
_PRINTABLE = re.compile(r"[ -~]{0,128}")


class NvmlError(Refused):
    """A call that NVML refused."""


class NvmlUnavailable(Unavailable):
    """NVML cannot be used at all."""


_INSTALL: Final = "install it in the guest: pip install 'ccverify[nvml]'"
_AGAIN: Final = "collect again; if it stays, see dmesg for messages of the driver (NVRM, Xid)"
_REMARKS: Final = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": Remark(
        AbsenceReason.NO_LIBRARY,
        "install the NVIDIA driver's libraries (libnvidia-ml.so.1); in a container, run it with "
        "the NVIDIA runtime and the capability 'utility'",
    ),
    "NVML_ERROR_DRIVER_NOT_LOADED": Remark(
        AbsenceReason.NO_DRIVER,
        "load the driver (modprobe nvidia) and see that /dev/nvidiactl and /dev/nvidia0 exist",
    ),
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": Remark(
        AbsenceReason.NO_DRIVER,
        "library and kernel module are of different versions: reboot, or install one version "
        "of both",
    ),
    "NVML_ERROR_NO_PERMISSION": Remark(
        AbsenceReason.NO_PERMISSION,
        "run as root, or as a user who may open /dev/nvidiactl and /dev/nvidia*",
    ),
    "NVML_ERROR_NOT_SUPPORTED": Remark(
        AbsenceReason.NOT_SUPPORTED,
        "needs a GPU of generation Hopper or newer, a driver with confidential computing, and "
        "a VBIOS that supports it",
    ),
    FUNCTION_NOT_FOUND: Remark(
        AbsenceReason.NOT_SUPPORTED,
        "install a newer driver and nvidia-ml-py 13 or newer: one of them lacks this function",
    ),
    "NVML_ERROR_TIMEOUT": Remark(AbsenceReason.TIMEOUT, _AGAIN),
    "NVML_ERROR_GPU_IS_LOST": Remark(
        AbsenceReason.FAILED, "the GPU fell off the bus: reset it or restart the guest"
    ),
}


def nvml_absence(label: str, error: NvmlError, source: str) -> Absence:
    """The absence that a refused call means."""
    remark = _REMARKS.get(error.code, Remark(AbsenceReason.FAILED, _AGAIN))
    text = f"{error.function} answered {error.code}"
    return Absence(label, remark.reason, text, remark.remedy, source)


def failed_answer(
    label: str,
    answer: Answer[Any],
    source: str,
    *,
    late: tuple[str, str] = ("the driver did not answer in time", "give more time (--timeout)"),
    doing: str = "reading it",
) -> Absence:
    """The absence that an answer without a value means.

    Args:
        label: of the part.
        answer: of `ccverify.collect.asking`.
        source: who asked.
        late: what to say where there was no answer in time, and what to do about it.
        doing: what went wrong where something else did.
    """
    problem = answer.error
    if answer.late:
        return Absence(label, AbsenceReason.TIMEOUT, *late, source)
    if isinstance(problem, Unavailable):
        return Absence(label, problem.reason, problem.text, problem.remedy, source)
    if isinstance(problem, NvmlError):
        return nvml_absence(label, problem, source)
    text = f"{doing} went wrong: {type(problem).__name__}: {problem}"
    remedy = "report this with the driver's version"
    return Absence(label, AbsenceReason.FAILED, text, remedy, source)


def import_pynvml() -> Any:
    """Import ``pynvml``, the module of the package nvidia-ml-py."""
    return importlib.import_module("pynvml")


class Nvml:
    """NVML, initialised; `close` it after use.

    Raises:
        NvmlUnavailable: the package, the library or the driver is missing or unusable.
    """

    def __init__(self, load: Load = import_pynvml) -> None:
        try:
            self.module = load()
        except ImportError as problem:
            text = f"the package nvidia-ml-py cannot be imported: {problem}"
            raise NvmlUnavailable(AbsenceReason.NO_LIBRARY, text, _INSTALL) from None
        error = getattr(self.module, "NVMLError", None)
        if not isinstance(error, type) or not issubclass(error, Exception):
            text = "the module pynvml is not of the package nvidia-ml-py"
            raise NvmlUnavailable(AbsenceReason.NO_LIBRARY, text, _INSTALL)
        self._error: type[Exception] = error
        self._names = _code_names(self.module)
        try:
            self.call("nvmlInit")
        except NvmlError as problem:
            absence = nvml_absence("", problem, "")
            raise NvmlUnavailable(absence.reason, absence.text, absence.remedy) from None

    def close(self) -> None:
        """Shut NVML down; that it fails makes nothing wrong that was read before."""
        with contextlib.suppress(NvmlError):
            self.call("nvmlShutdown")

    def call(self, function: str, *arguments: Any) -> Any:
        """Call one function of the module and return what it returns.

        Raises:
            NvmlError: NVML refused, the function is missing in library or module, or its
                answer is no text.
        """
        try:
            return getattr(self.module, function)(*arguments)
        except AttributeError:
            raise NvmlError(FUNCTION_NOT_FOUND, function) from None
        except UnicodeDecodeError:
            raise NvmlError(UNREADABLE, function) from None
        except Exception as problem:
            if not isinstance(problem, self._error):
                raise
            code = getattr(problem, "value", None)
            raise NvmlError(self.code_name(code), function) from None

    def checked(self, function: str, *arguments: Any) -> None:
        """Call a function whose wrapper hands the return code through, and look at it.

        Raises:
            NvmlError: as `call`, or a return code other than 0.
        """
        code = self.call(function, *arguments)
        if code:
            raise NvmlError(self.code_name(code), function)

    def text(self, function: str, *arguments: Any) -> str:
        """Call a function that returns a string.

        Raises:
            NvmlError: as `call`; UNREADABLE if it is not short printable ASCII.
        """
        value = self.call(function, *arguments)
        if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
            raise NvmlError(UNREADABLE, function)
        return value

    def struct(self, name: str) -> Any:
        """Make a struct of the module, with its version filled in.

        Raises:
            NvmlError: FUNCTION_NOT_FOUND if this nvidia-ml-py does not know the struct.
        """
        kind = getattr(self.module, name, None)
        if kind is None:
            raise NvmlError(FUNCTION_NOT_FOUND, name)
        return kind()

    def filled(self, function: str, struct: str, *arguments: Any) -> Any:
        """Call ``function(*arguments, &struct)``, whose wrapper is given the struct to fill.

        Raises:
            NvmlError: as `checked` and `struct`.
        """
        made = self.struct(struct)
        self.checked(function, *arguments, ctypes.byref(made))
        return made

    def devices(self) -> int:
        """How many GPUs this guest sees."""
        count = self.call("nvmlDeviceGetCount")
        if not isinstance(count, int):
            raise NvmlError(UNREADABLE, "nvmlDeviceGetCount")
        return count

    def code_name(self, code: object) -> str:
        """``NVML_ERROR_…`` of a return code."""
        if isinstance(code, int) and code in self._names:
            return self._names[code]
        return f"NVML_ERROR_CODE_{code}" if isinstance(code, int) else UNREADABLE


def _code_names(module: Any) -> dict[int, str]:
    names = {}
    for name in dir(module):
        value = getattr(module, name)
        if _CODE.fullmatch(name) and isinstance(value, int):
            names[value] = name
    return names
