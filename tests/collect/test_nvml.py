"""GPU evidence through the real nvidia-ml-py, over a driver library built for the test."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from nv_fakes import NONCE, Environment, ask, pynvml_over

from ccverify.bundle.items import parse_device
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.collect.nvml import NvmlSource


def _collect(pynvml: Any, **asked: Any) -> list[Any]:
    return list(NvmlSource(lambda: pynvml).collect(ask(**asked)))


def _only(pynvml: Any) -> Absence:
    outcomes = _collect(pynvml)
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], Absence)
    assert outcomes[0].remedy
    assert outcomes[0].text
    return outcomes[0]


def test_a_report_and_a_chain_of_every_gpu(pynvml: ModuleType, play: Environment) -> None:
    play(GPUS=3)
    outcomes = _collect(pynvml)
    assert [outcome.label for outcome in outcomes] == ["gpu-0", "gpu-1", "gpu-2"]
    for at, item in enumerate(outcomes):
        assert isinstance(item, Item)
        assert item.type is ItemType.NVIDIA_GPU
        assert item.source == "NVML, driver 580.95.05"
        device = parse_device(item.data)
        assert len(device.report) == 4117
        assert device.report[4:36] == NONCE
        assert device.report[100] == 0xA0 + at
        assert device.chain.endswith(b"-----END CERTIFICATE-----\n")
        assert device.architecture == "HOPPER"
        assert device.uuid == f"GPU-00000000-0000-0000-0000-00000000000{at}"
        assert device.driver == "580.95.05"
    assert NvmlSource(lambda: pynvml).diagnose() == []


def test_all_gpus_are_asked_at_once(pynvml: ModuleType, play: Environment) -> None:
    play(GPUS=4)
    together = threading.Barrier(4)
    real = pynvml.nvmlDeviceGetConfComputeGpuAttestationReport

    def meets_the_others(device: Any, nonce: bytes) -> Any:
        together.wait(timeout=10)
        return real(device, nonce)

    slow = SimpleNamespace(**vars(pynvml))
    slow.nvmlDeviceGetConfComputeGpuAttestationReport = meets_the_others
    assert all(isinstance(outcome, Item) for outcome in _collect(slow))


def test_a_gpu_that_hangs_holds_no_other(pynvml: ModuleType, play: Environment) -> None:
    play(GPUS=3, SLOW=1, SLOW_MS=60_000)
    first, second, third = _collect(pynvml, seconds=1.5)
    assert isinstance(first, Item)
    assert isinstance(third, Item)
    assert isinstance(second, Absence)
    assert (second.label, second.reason) == ("gpu-1", AbsenceReason.TIMEOUT)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("REFUSES", AbsenceReason.NO_PERMISSION),
        ("LOST", AbsenceReason.FAILED),
        ("NONCE", AbsenceReason.FAILED),
        ("HEADER", AbsenceReason.FAILED),
        ("CHAIN", AbsenceReason.FAILED),
    ],
)
def test_a_gpu_that_fails_fails_alone(
    pynvml: ModuleType, play: Environment, option: str, reason: AbsenceReason
) -> None:
    play(**{option: 0})
    first, second = _collect(pynvml)
    assert isinstance(first, Absence)
    assert (first.label, first.reason) == ("gpu-0", reason)
    assert isinstance(second, Item)
    if option == "NONCE":
        assert NONCE.hex() in first.text


@pytest.mark.parametrize("size", [0, 36, 8193, 0xFFFFFFFF])
def test_a_size_that_no_report_has(pynvml: ModuleType, play: Environment, size: int) -> None:
    play(GPUS=1, SIZE=size)
    assert _only(pynvml).reason is AbsenceReason.FAILED


@pytest.mark.parametrize("size", [0, 5121])
def test_a_size_that_no_chain_has(pynvml: ModuleType, play: Environment, size: int) -> None:
    play(GPUS=1, CHAIN_SIZE=size)
    assert _only(pynvml).reason is AbsenceReason.FAILED


def test_cc_off_is_said_of_every_gpu(pynvml: ModuleType, play: Environment) -> None:
    play(CC=0, GPUS=2)
    for outcomes in (_collect(pynvml), NvmlSource(lambda: pynvml).diagnose()):
        assert [(one.label, one.reason) for one in outcomes] == [
            ("gpu-0", AbsenceReason.CC_OFF),
            ("gpu-1", AbsenceReason.CC_OFF),
        ]


def test_protected_pcie_counts_as_on(pynvml: ModuleType, play: Environment) -> None:
    play(CC=0, MULTI=1)
    assert all(isinstance(outcome, Item) for outcome in _collect(pynvml))


def test_the_return_code_of_the_settings_is_looked_at(
    pynvml: ModuleType, play: Environment
) -> None:
    # The struct is filled in, and the wrapper of nvidia-ml-py hands the code through.
    play(CC=0, MULTI=1, SETTINGS=3)
    assert {outcome.reason for outcome in _collect(pynvml)} == {AbsenceReason.CC_OFF}


def test_a_driver_that_cannot_say_whether_cc_is_on(pynvml: ModuleType, play: Environment) -> None:
    play(STATE=3, GPUS=1)
    absence = _only(pynvml)
    assert (absence.label, absence.reason) == ("gpu-0", AbsenceReason.NOT_SUPPORTED)


def test_an_old_driver_has_no_settings(
    libraries: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = pynvml_over(libraries["old"], monkeypatch)
    assert all(isinstance(outcome, Item) for outcome in _collect(old))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (9, AbsenceReason.NO_DRIVER),
        (18, AbsenceReason.NO_DRIVER),
        (4, AbsenceReason.NO_PERMISSION),
        (12, AbsenceReason.NO_LIBRARY),
        (10, AbsenceReason.TIMEOUT),
        (999, AbsenceReason.FAILED),
        (777, AbsenceReason.FAILED),
    ],
)
def test_nvml_that_cannot_be_initialised(
    pynvml: ModuleType, play: Environment, code: int, reason: AbsenceReason
) -> None:
    play(INIT=code)
    absence = _only(pynvml)
    assert (absence.label, absence.reason) == ("gpu", reason)
    assert NvmlSource(lambda: pynvml).diagnose()[0].reason is reason


def test_no_gpu_and_no_count(pynvml: ModuleType, play: Environment) -> None:
    play(GPUS=0)
    assert _only(pynvml).reason is AbsenceReason.NOT_PRESENT
    play(COUNT=4)
    assert _only(pynvml).reason is AbsenceReason.NO_PERMISSION


def test_no_library_and_no_package(pynvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package() -> Any:
        raise ModuleNotFoundError("No module named 'pynvml'")

    assert NvmlSource(no_package).collect(ask())[0].reason is AbsenceReason.NO_LIBRARY  # type: ignore[union-attr]
    assert NvmlSource(lambda: SimpleNamespace()).diagnose()[0].reason is AbsenceReason.NO_LIBRARY

    def cannot_open(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    # As on a machine without a driver: the module is there, the library is not.
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", cannot_open)
    assert _only(pynvml).reason is AbsenceReason.NO_LIBRARY


def test_what_the_driver_asserts_may_be_missing(pynvml: ModuleType, play: Environment) -> None:
    play(BAD_TEXT=1, ARCH=77, GPUS=1)
    (item,) = _collect(pynvml)
    assert isinstance(item, Item)
    device = parse_device(item.data)
    assert (device.driver, device.architecture) == (None, None)
    assert item.source == "NVML, driver unknown"


def test_a_fault_of_the_module_is_an_absence(pynvml: ModuleType, play: Environment) -> None:
    play(GPUS=1)

    def faulty(*_: Any) -> Any:
        raise ValueError("not a return code")

    broken = SimpleNamespace(**vars(pynvml))
    broken.nvmlDeviceGetConfComputeGpuCertificate = faulty
    absence = _only(broken)
    assert absence.reason is AbsenceReason.FAILED
    assert "not a return code" in absence.text
