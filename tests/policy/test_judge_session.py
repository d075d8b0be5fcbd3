"""Devices of one session and one board, told from what they sign alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from ccverify.evidence import BindingProfile
from ccverify.findings import Assurance, State
from ccverify.nvidia.opaque import GpuMode, GpuOpaqueData
from ccverify.policy.judge_session import judge_one_board, judge_one_session

NONCE, OTHER = b"n" * 32, b"o" * 32
LEVEL = Assurance.HARDWARE


@dataclass(frozen=True)
class Report:
    nonce: bytes


@dataclass(frozen=True)
class Device:
    subject: str
    report: Report | None = Report(NONCE)
    opaque: Any = None
    genuine: bool = True


def node(*nonces: bytes) -> list[Any]:
    return [Device(f"gpu-{at}", Report(nonce)) for at, nonce in enumerate(nonces)]


def session(devices: list[Any], profile: BindingProfile, report_data: bytes | None) -> Any:
    return judge_one_session(devices, profile, report_data, LEVEL)


def test_one_nonce_is_one_session() -> None:
    finding = session(node(NONCE, NONCE), BindingProfile.RAW_NONCE, None)
    assert (finding.state, finding.assurance) == (State.PASS, LEVEL)


@pytest.mark.parametrize("profile", list(BindingProfile))
def test_two_nonces_are_two_sessions(profile: BindingProfile) -> None:
    finding = session(node(NONCE, NONCE, OTHER), profile, bytes(64))
    assert finding.state is State.FAIL
    assert "gpu-2" in finding.found
    assert OTHER.hex() in finding.found


@pytest.mark.parametrize(
    ("profile", "start"),
    [(BindingProfile.CHUTES, 0), (BindingProfile.NEAR, 32), (BindingProfile.REDPILL, 32)],
)
def test_the_quote_was_asked_with_the_same(profile: BindingProfile, start: int) -> None:
    right = (NONCE + bytes(32)) if start == 0 else (bytes(32) + NONCE)
    assert session(node(NONCE), profile, right).state is State.PASS
    for at in range(start, start + 32):
        wrong = bytearray(right)
        wrong[at] ^= 1
        finding = session(node(NONCE), profile, bytes(wrong))
        assert (finding.state, finding.found) == (State.FAIL, NONCE.hex())


def test_without_a_readable_report_nothing_is_said() -> None:
    devices = [replace(node(NONCE)[0], report=None)]
    assert session(devices, BindingProfile.NEAR, bytes(64)).state is State.NOT_CHECKED


def gpu(name: str, *pdis: bytes, mode: GpuMode | None = GpuMode.PROTECTED_PCIE) -> Any:
    version = None if mode is None else 1
    opaque = GpuOpaqueData((), (), switch_pdis=pdis, feature_flag=mode, opaque_data_version=version)
    return Device(name, opaque=opaque)


A, B, ZERO = b"A" * 8, b"B" * 8, bytes(8)


def test_one_board() -> None:
    (finding,) = judge_one_board([gpu("gpu-0", A, B, ZERO), gpu("gpu-1", B, A, A)])
    assert finding.state is State.PASS
    assert A.hex().upper() in str(finding.found)


@pytest.mark.parametrize("other", [(A,), (A, B, b"C" * 8), (ZERO,), ()])
def test_two_boards(other: tuple[bytes, ...]) -> None:
    (finding,) = judge_one_board([gpu("gpu-0", A, B), gpu("gpu-1", *other)])
    assert finding.state is State.FAIL
    assert "gpu-1" in str(finding.found)


def test_where_nothing_can_differ_nothing_is_said() -> None:
    assert judge_one_board([gpu("gpu-0", A)]) == ()
    assert judge_one_board([]) == ()
    assert judge_one_board([gpu("gpu-0", A, mode=GpuMode.SPT), gpu("gpu-1", B)]) == ()
    forged = replace(gpu("gpu-1", B), genuine=False)
    assert judge_one_board([gpu("gpu-0", A), forged]) == ()
