"""CUDA's driver API through cuda-bindings: loaded late, every code seen, every failure typed.

Only libcuda is needed at run time, which comes with the driver: no toolkit, no compiler.
cuda-bindings returns tuples that begin with the return code, and raises RuntimeError for a
library or function that is not there.  `Cuda.call` turns both into one exception.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ccverify.collect.model import AbsenceReason
from ccverify.collect.refusals import Refused, Remark, Unavailable

__all__ = [
    "FUNCTION_NOT_FOUND",
    "NOT_FOUND_LIBRARY",
    "Cuda",
    "CudaError",
    "CudaModule",
    "CudaUnavailable",
    "LoadCuda",
    "import_cuda",
]

FUNCTION_NOT_FOUND: Final = "CUDA_FUNCTION_NOT_FOUND"
"""Not a code of CUDA: driver or package lack the function."""
NOT_FOUND_LIBRARY: Final = "CUDA_LIBRARY_NOT_FOUND"
"""Not a code of CUDA: there is no libcuda."""
_NOT_READY: Final = "CUDA_ERROR_NOT_READY"


class CudaModule(NamedTuple):
    """The module ``cuda.bindings.driver``, and the version of its package."""

    driver: Any
    version: str


LoadCuda = Callable[[], CudaModule]
"""Gives the module, or raises ImportError."""


class CudaError(Refused):
    """A call that CUDA refused."""


class CudaUnavailable(Unavailable):
    """CUDA cannot be used at all."""


_INSTALL: Final = "install it in the guest: pip install 'ccverify[probe]'"
_REMARKS: Final = {
    NOT_FOUND_LIBRARY: Remark(
        AbsenceReason.NO_LIBRARY,
        "install the NVIDIA driver's libraries (libcuda.so.1); in a container, run it with the "
        "NVIDIA runtime and the capability 'compute'",
    ),
    "CUDA_ERROR_STUB_LIBRARY": Remark(
        AbsenceReason.NO_LIBRARY, "take the toolkit's stub out of the library path"
    ),
    "CUDA_ERROR_NO_DEVICE": Remark(
        AbsenceReason.NOT_PRESENT,
        "pass GPUs through to this guest, and see that CUDA_VISIBLE_DEVICES does not hide them",
    ),
    "CUDA_ERROR_SYSTEM_NOT_READY": Remark(
        AbsenceReason.FAILED,
        "the fabric has not been set up for these GPUs: ask for the partition to be activated, "
        "and see `nvidia-smi -q` under Fabric",
    ),
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": Remark(
        AbsenceReason.NO_DRIVER,
        "library and kernel module are of different versions: reboot, or install one version "
        "of both",
    ),
}
_OTHERWISE: Final = Remark(
    AbsenceReason.FAILED,
    "see dmesg for messages of the driver (NVRM, Xid); with confidential computing, see that the "
    "GPUs are ready (`nvidia-smi conf-compute -grs`)",
)


def import_cuda() -> CudaModule:
    """Import ``cuda.bindings.driver``, a module of the package cuda-bindings."""
    driver = importlib.import_module("cuda.bindings.driver")
    return CudaModule(driver, importlib.metadata.version("cuda-bindings"))


class Cuda:
    """The driver API, initialised.

    Raises:
        CudaUnavailable: the package, the library or the driver is missing or unusable.
    """

    def __init__(self, load: LoadCuda = import_cuda) -> None:
        try:
            self.driver, self.version = load()
        except ImportError as problem:
            text = f"the package cuda-bindings cannot be imported: {problem}"
            raise CudaUnavailable(AbsenceReason.NO_LIBRARY, text, _INSTALL) from None
        try:
            self.call("cuInit", 0)
        except CudaError as problem:
            # The first call is the one that looks for the library.
            code = NOT_FOUND_LIBRARY if problem.code == FUNCTION_NOT_FOUND else problem.code
            remark = _REMARKS.get(code, _OTHERWISE)
            text = f"cuInit answered {code}"
            raise CudaUnavailable(remark.reason, text, remark.remedy) from None

    def call(self, function: str, *arguments: Any) -> Any:
        """Call one function; return what it gives beside the return code: nothing, one, a tuple.

        Raises:
            CudaError: CUDA refused, or the function is missing in library or package.
        """
        code, values = self._answer(function, arguments)
        if int(code):
            raise CudaError(_name(code), function)
        return values[0] if len(values) == 1 else values or None

    def ready(self, function: str, *arguments: Any) -> bool:
        """Call a function that asks whether something is done.

        Raises:
            CudaError: as `call`.
        """
        code, _ = self._answer(function, arguments)
        if int(code) and _name(code) != _NOT_READY:
            raise CudaError(_name(code), function)
        return not int(code)

    def constant(self, enum: str, member: str) -> Any:
        """A constant of the module.

        Raises:
            CudaError: FUNCTION_NOT_FOUND if this package does not know it.
        """
        try:
            return getattr(getattr(self.driver, enum), member)
        except AttributeError:
            raise CudaError(FUNCTION_NOT_FOUND, member) from None

    def _answer(self, function: str, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        try:
            code, *values = getattr(self.driver, function)(*arguments)
        except (AttributeError, RuntimeError):
            raise CudaError(FUNCTION_NOT_FOUND, function) from None
        return code, tuple(values)


def _name(code: Any) -> str:
    return str(getattr(code, "name", None) or f"CUDA_ERROR_CODE_{int(code)}")
