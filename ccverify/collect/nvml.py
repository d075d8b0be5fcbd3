"""GPU evidence from NVML: a report with the session's nonce and a certificate chain per GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ccverify.bundle.items import DeviceItem
from ccverify.collect.asking import Answer, ask_all, ask_one
from ccverify.collect.device_answer import device_outcome
from ccverify.collect.model import Absence, AbsenceReason, Ask, ItemType, Outcome, Stage
from ccverify.collect.nvml_library import (
    UNREADABLE,
    Load,
    Nvml,
    NvmlError,
    NvmlUnavailable,
    failed_answer,
    import_pynvml,
    nvml_absence,
)
from ccverify.fabric.nvml_values import GPU_ARCHITECTURES, MULTI_GPU_MODES, named

__all__ = ["ConfidentialState", "NvmlSource", "confidential_state"]

_LATE = (
    "the driver did not answer in time",
    "give more time (--timeout); if it stays, see dmesg for messages of the driver",
)
_failed = partial(failed_answer, late=_LATE)

_PART = "gpu"
_PASS_THROUGH = "pass a GPU through to this guest, and see that lspci lists it"
_TURN_ON = (
    "turn confidential computing on from the host (set the GPU's CC mode to 'on' and reset it), "
    "then restart the guest"
)


@dataclass(frozen=True, slots=True)
class ConfidentialState:
    """What the driver says of confidential computing.

    Attributes:
        on: whether GPUs can be attested: the feature is on, or Protected PCIe is.
        feature: ccFeature of the system state.
        multi_gpu_mode: None where the driver cannot say.
    """

    on: bool
    feature: int
    multi_gpu_mode: int | None


def confidential_state(nvml: Nvml) -> ConfidentialState:
    """Read whether confidential computing is on.

    Raises:
        NvmlError: the driver cannot say.
    """
    feature = int(nvml.call("nvmlSystemGetConfComputeState").ccFeature)
    mode: int | None
    try:
        settings = nvml.filled(
            "nvmlSystemGetConfComputeSettings", "c_nvmlSystemConfComputeSettings_v1_t"
        )
        mode = int(settings.multiGpuMode)
    except NvmlError:
        mode = None  # drivers before 550 have no such call
    # Under Protected PCIe the feature itself may be stated as off.
    return ConfidentialState(bool(feature) or mode == 1, feature, mode)


@dataclass(frozen=True, slots=True)
class _Machine:
    """What is the same for all GPUs of this guest."""

    nvml: Nvml
    driver: str | None
    count: int
    source: str
    state: ConfidentialState | NvmlError


class NvmlSource:
    """The GPUs of this guest, through nvidia-ml-py.

    Every GPU is asked in a thread of its own, so the slowest decides how long it takes, and one
    that hangs is an absence of its own.

    Args:
        load: gives the module ``pynvml``.
    """

    name = "nvml"
    stage = Stage.DEVICES
    gives = (_PART,)

    def __init__(self, load: Load = import_pynvml) -> None:
        self._load = load

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One item or absence per GPU, ``gpu-0`` onwards; one absence ``gpu`` if there is none."""
        opened = ask_one(self._open, ask)
        if opened.value is None:
            return [_failed(_PART, opened, self.name)]
        machine = opened.value
        refused = _refusals(machine)
        if refused:
            machine.nvml.close()
            return refused
        reads = [partial(_read_gpu, machine, at, ask.device_nonce) for at in range(machine.count)]
        answers = ask_all(reads, ask)
        if not any(answer.late for answer in answers):
            # Shutting NVML down under a call that still runs would be worse than not to.
            machine.nvml.close()
        labels = [f"{_PART}-{at}" for at in range(machine.count)]
        return [
            _failed(label, answer, machine.source)
            if answer.value is None
            else device_outcome(
                label,
                ItemType.NVIDIA_GPU,
                answer.value,
                nonce=ask.device_nonce,
                source=machine.source,
            )
            for label, answer in zip(labels, answers, strict=True)
        ]

    def diagnose(self) -> Sequence[Absence]:
        """What stands in the way, without asking a GPU for a report."""
        try:
            machine = self._open()
        except (NvmlUnavailable, NvmlError) as problem:
            return [_failed(_PART, Answer(error=problem), self.name)]
        refused = _refusals(machine)
        machine.nvml.close()
        return refused

    def _open(self) -> _Machine:
        nvml = Nvml(self._load)
        try:
            driver: str | None = nvml.text("nvmlSystemGetDriverVersion")
        except NvmlError:
            driver = None
        state: ConfidentialState | NvmlError
        try:
            count = nvml.devices()
        except NvmlError:
            nvml.close()
            raise
        try:
            state = confidential_state(nvml)
        except NvmlError as problem:
            state = problem
        return _Machine(nvml, driver, count, f"NVML, driver {driver or 'unknown'}", state)


def _refusals(machine: _Machine) -> list[Absence]:
    """Why no GPU can be asked; empty if they can."""
    if machine.count < 1:
        text = "the driver sees no GPU in this guest"
        return [Absence(_PART, AbsenceReason.NOT_PRESENT, text, _PASS_THROUGH, machine.source)]
    labels = [f"{_PART}-{at}" for at in range(machine.count)]
    if isinstance(machine.state, NvmlError):
        return [nvml_absence(label, machine.state, machine.source) for label in labels]
    if machine.state.on:
        return []
    mode = machine.state.multi_gpu_mode
    text = (
        f"confidential computing is off: ccFeature {machine.state.feature}, multi-GPU mode "
        f"{'unknown' if mode is None else named(MULTI_GPU_MODES, mode)}"
    )
    return [
        Absence(label, AbsenceReason.CC_OFF, text, _TURN_ON, machine.source) for label in labels
    ]


def _read_gpu(machine: _Machine, index: int, nonce: bytes) -> DeviceItem:
    nvml = machine.nvml
    device = nvml.call("nvmlDeviceGetHandleByIndex", index)
    report_function = "nvmlDeviceGetConfComputeGpuAttestationReport"
    report = nvml.call(report_function, device, nonce)
    chain_function = "nvmlDeviceGetConfComputeGpuCertificate"
    chain = nvml.call(chain_function, device)
    try:
        uuid: str | None = nvml.text("nvmlDeviceGetUUID", device)
    except NvmlError:
        uuid = None
    try:
        generation = nvml.call("nvmlDeviceGetArchitecture", device)
    except NvmlError:
        generation = None
    return DeviceItem(
        report=_taken(report.attestationReport, report.attestationReportSize, report_function),
        chain=_taken(chain.attestationCertChain, chain.attestationCertChainSize, chain_function),
        architecture=GPU_ARCHITECTURES.get(generation),
        uuid=uuid,
        driver=machine.driver,
    )


def _taken(buffer: Any, size: int, function: str) -> bytes:
    """The first `size` bytes of a struct's array, if it has as many."""
    if not 0 < size <= len(buffer):
        raise NvmlError(UNREADABLE, f"{function}, which states {size} of {len(buffer)} bytes,")
    return bytes(buffer)[:size]
