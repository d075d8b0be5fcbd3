"""NVSwitch evidence over a library that behaves like libnvidia-nscq, built for the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from nv_fakes import NONCE, ask, compile_library

from ccverify.bundle.items import parse_device
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.collect.nscq import NscqSource

Environment = Callable[..., None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_library(tmp_path_factory.mktemp("nscq"), "fake_nscq.c"))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Environment:
    def set_all(**options: int) -> None:
        for name, value in options.items():
            monkeypatch.setenv(f"FAKE_{name}", str(value))

    return set_all


def _only(library: str) -> Absence:
    (absence,) = NscqSource([library]).collect(ask())
    assert isinstance(absence, Absence)
    assert absence.remedy
    return absence


def test_a_report_and_a_chain_of_every_switch(library: str) -> None:
    outcomes = NscqSource(["libnothing-there.so", library]).collect(ask())
    assert [outcome.label for outcome in outcomes] == [f"nvswitch-{at}" for at in range(4)]
    for at, item in enumerate(outcomes):
        assert isinstance(item, Item)
        assert item.type is ItemType.NVIDIA_SWITCH
        assert item.source == "NSCQ, trusted NVLink locked"
        device = parse_device(item.data)
        assert len(device.report) == 2172
        assert device.report[4:36] == NONCE
        # Switches are numbered by their names, whatever order the library tells them in.
        assert device.report[100] == 0xB0 + 3 - at
        assert device.uuid == f"SWX-{0xF0 - (3 - at):02X}{3 - at:02X}"
        assert device.architecture == "LS10"
        assert device.chain.endswith(b"-----END CERTIFICATE-----\n")
    assert NscqSource([library]).diagnose() == []


@pytest.mark.parametrize("option", ["REFUSES", "NONCE"])
def test_a_switch_that_fails_fails_alone(library: str, play: Environment, option: str) -> None:
    play(**{option: 1})
    outcomes = NscqSource([library]).collect(ask())
    failed = [outcome for outcome in outcomes if isinstance(outcome, Absence)]
    assert [(one.label, one.reason) for one in failed] == [("nvswitch-2", AbsenceReason.FAILED)]
    assert len(outcomes) == 4
    assert ("NSCQ_RC_ERROR_DRV" if option == "REFUSES" else NONCE.hex()) in failed[0].text


def test_those_before_a_switch_that_hangs_are_kept(library: str, play: Environment) -> None:
    play(SLOW=1, SLOW_MS=60_000)
    outcomes = NscqSource([library]).collect(ask(seconds=1.5))
    assert [isinstance(outcome, Item) for outcome in outcomes] == [True, True, False, False]
    assert {one.reason for one in outcomes[2:]} == {AbsenceReason.TIMEOUT}  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 36, 8193, 0xFFFFFFFF])
def test_a_size_that_no_report_has(library: str, play: Environment, size: int) -> None:
    play(SWITCHES=1, SIZE=size)
    assert _only(library).reason is AbsenceReason.FAILED


def test_the_mode_is_said_and_does_not_decide(library: str, play: Environment) -> None:
    play(SWITCHES=1, MODE=1)
    (item,) = NscqSource([library]).collect(ask())
    assert isinstance(item, Item)
    assert item.source == "NSCQ, trusted NVLink enabled"
    play(MODE_CODE=-1)
    (item,) = NscqSource([library]).collect(ask())
    assert isinstance(item, Item)
    assert item.source == "NSCQ, trusted NVLink unknown"


@pytest.mark.parametrize(
    ("options", "reason", "said"),
    [
        ({"CREATE": -6}, AbsenceReason.NO_DRIVER, "NSCQ_RC_ERROR_UNSUPPORTED_DRV"),
        ({"CREATE": -128}, AbsenceReason.FAILED, "NSCQ_RC_ERROR_UNSPECIFIED"),
        ({"OBSERVE": -8}, AbsenceReason.TIMEOUT, "NSCQ_RC_ERROR_TIMEOUT"),
        ({"OBSERVE": -99}, AbsenceReason.FAILED, "return code -99"),
        ({"SWITCHES": 0}, AbsenceReason.NOT_PRESENT, "no NVSwitch"),
    ],
)
def test_no_switch_at_all(
    library: str, play: Environment, options: dict[str, int], reason: AbsenceReason, said: str
) -> None:
    play(**options)
    for absence in (_only(library), NscqSource([library]).diagnose()[0]):
        assert (absence.label, absence.reason) == ("nvswitch", reason)
        assert said in absence.text


def test_a_warning_of_the_session_is_no_error(library: str, play: Environment) -> None:
    play(CREATE=1, SWITCHES=1)
    assert isinstance(NscqSource([library]).collect(ask())[0], Item)


def test_no_library_or_another(tmp_path: Path) -> None:
    other = compile_library(tmp_path, "fake_nscq.c", "-DOTHER")
    for name in ("libnothing-there.so", str(other)):
        assert _only(name).reason is AbsenceReason.NO_LIBRARY
        assert NscqSource([name]).diagnose()[0].reason is AbsenceReason.NO_LIBRARY
