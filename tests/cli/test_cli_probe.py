"""`ccverify collect --probe`, on simulated machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_files import NONCE, Run

from ccverify.bundle.package import parse_bundle
from ccverify.cli.sim_sources import MARK, machine_sources, probe_source
from ccverify.collect.session import collect_bundle
from ccverify.fabric.probe import ProbeReport, Traffic, parse_probe
from ccverify.fabric.probe_rules import ProbeBands, ProbeCode, appraise_probe
from ccverify.sim import sim_machine
from ccverify.sim.nvidia.cuda import SimCuda, SimLinkFaults

LABEL = "fabric-probe"


def _collect(run: Run, tmp_path: Path, *words: str) -> Any:
    command = ["collect", "--platform", "sim:b300-hgx-4", "--nonce", NONCE.hex()]
    return run(*command, "-o", str(tmp_path / "node.ccb"), *words)


def _probed(data: bytes) -> ProbeReport:
    return parse_probe(parse_bundle(data).items[LABEL].value)


def test_the_probe_is_in_the_bundle(run: Run, tmp_path: Path) -> None:
    result = _collect(run, tmp_path, "--probe", "--require", "fabric-probe,fabric,gpu")
    assert (result.exit_code, result.stderr) == (0, "")
    data = (tmp_path / "node.ccb").read_bytes()
    assert parse_bundle(data).manifest.items[LABEL].source.startswith(f"{MARK} CUDA and NVML")
    report = _probed(data)
    assert [gpu.index for gpu in report.gpus] == [0, 1, 2, 3]
    assert appraise_probe(report, ProbeBands(min_one_way=500)).problems == ()


def test_nothing_is_measured_unless_the_user_says_so(run: Run, tmp_path: Path) -> None:
    assert _collect(run, tmp_path).exit_code == 0
    assert LABEL not in parse_bundle((tmp_path / "node.ccb").read_bytes()).items
    refused = _collect(run, tmp_path, "--force", "--only", LABEL)
    assert refused.exit_code == 1
    assert "--only names a part that is not collected here" in refused.stderr
    assert _collect(run, tmp_path, "--force", "--only", LABEL, "--probe").exit_code == 0


def test_one_gpu_has_nothing_to_measure(run: Run, tmp_path: Path) -> None:
    words = ["--platform", "sim:b300-hgx-1", "--probe", "--require", LABEL]
    result = _collect(run, tmp_path, *words)
    assert result.exit_code == 6
    assert not (tmp_path / "node.ccb").exists()


@pytest.mark.parametrize("rate", [0, 40_000_000_000])
def test_traffic_of_others_on_a_board_is_counted(rate: int) -> None:
    sound = sim_machine("b300-hgx-2")
    machine = replace(sound, fabric=replace(sound.fabric, background=(0, rate)))
    collected = collect_bundle(NONCE, machine_sources(machine, probe=True))
    assert collected.bundle is not None
    report = _probed(collected.bundle)
    assert isinstance(report.traffic, Traffic)
    found = {problem.code for problem in appraise_probe(report).problems}
    assert found == ({ProbeCode.TRAFFIC} if rate else set())


def test_any_fault_between_gpus_can_be_collected() -> None:
    cuda = SimCuda(sim_machine("b300-hgx-4"), SimLinkFaults(no_access=frozenset({(0, 3)})))
    collected = collect_bundle(NONCE, [probe_source(cuda)])
    assert collected.bundle is not None
    (problem,) = appraise_probe(_probed(collected.bundle)).problems
    assert (problem.code, problem.where) == (ProbeCode.ACCESS, "gpus[0]→gpus[3]")
