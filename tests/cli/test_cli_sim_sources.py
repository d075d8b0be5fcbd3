"""Simulated machines behind the collector: `ccverify collect --platform sim:NAME`."""

from __future__ import annotations

import hashlib
import inspect
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cli_files import NONCE, Run

from ccverify import TrustStore, check, policy_from_document
from ccverify.bundle.items import parse_device
from ccverify.bundle.package import parse_bundle
from ccverify.cli.sim_sources import MARK, machine_sources, simulated_sources
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, Outcome, Source, Stage
from ccverify.collect.session import World, collect_bundle
from ccverify.errors import UsageError
from ccverify.sim import MACHINES, SimNode, sim_machine
from ccverify.sim.nvidia.nvml import NVMLError, SimNvml
from ccverify.tdx.quote import parse_quote

BOARD = "h100-hgx-8"


def ask(seconds: float = 20.0) -> Ask:
    return Ask(NONCE, bytes(64), time.monotonic() + seconds, time.monotonic)


def source(sources: Sequence[Source], part: str) -> Source:
    return next(one for one in sources if part in one.gives)


def outcomes(name: str) -> dict[str, Outcome]:
    return {one.label: one for s in simulated_sources(name) for one in s.collect(ask())}


# --- the command ---


def test_collect_runs_on_a_simulated_machine(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "node.ccb"
    words = ["collect", "--platform", "sim:b300-hgx-8", "--nonce", NONCE.hex(), "-o", str(output)]
    result = run(*words, "--require", "gpu,tdx-quote,ccel,fabric")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("SIMULATED: ")
    bundle = parse_bundle(output.read_bytes())
    assert bundle.manifest.nonce == NONCE
    assert {f"gpu-{n}" for n in range(8)} | {"tdx-quote", "fabric", "ccel"} <= set(bundle.items)
    sources = {entry.source for entry in bundle.manifest.items.values()}
    assert all(text.startswith(f"{MARK} ") for text in sources), "marked for good"
    account = json.loads(run(*words, "--force", "--format", "json").stdout)
    assert account["simulated"] is True
    assert {one["source"].split()[0] for one in account["items"]} == {MARK}
    assert {one["name"].split()[0] for one in account["sources"]} == {MARK}


def test_check_refuses_what_was_collected_so(run: Run, tmp_path: Path) -> None:
    """Under the pinned roots, which are all that the command line offers."""
    machine = sim_machine("b300-hgx-2")
    policy, pack = tmp_path / "policy.json", tmp_path / "pack.json"
    policy.write_text(json.dumps(matching_policy(machine)))
    pack.write_bytes(simulated_trust(machine).pack)
    output = tmp_path / "node.ccb"
    run("collect", "--platform", "sim:b300-hgx-2", "--nonce", NONCE.hex(), "-o", str(output))
    words = [
        "check", str(output), "--policy", str(policy), "--collateral", str(pack),
        "--nonce", NONCE.hex(), "--at", "2026-06-15T12:00:00Z", "--format", "json",
    ]  # fmt: skip
    result = run(*words)
    assert result.exit_code == 3
    verdict = json.loads(result.stdout)
    assert (verdict["verdict"], verdict["simulated"]) == ("untrusted", False)
    root = tmp_path / "root.der"
    root.write_bytes(simulated_trust(machine).roots[0].data or b"")
    assert run(*words, "--insecure-trust-root", str(root)).exit_code == 3


def test_a_fresh_bundle_each_time(run: Run, tmp_path: Path) -> None:
    """The session key is as random as on a real machine."""
    for name in ("a", "b"):
        run("collect", "--platform", "sim:h100-1", "--nonce", NONCE.hex(), "-o",
            str(tmp_path / name))  # fmt: skip
    one, other = (parse_bundle((tmp_path / name).read_bytes()) for name in ("a", "b"))
    assert one.manifest.key != other.manifest.key


def test_doctor_sees_a_full_machine(run: Run) -> None:
    result = run("doctor", "--platform", f"sim:{BOARD}")
    assert result.exit_code == 0
    assert MARK in result.stdout


@pytest.mark.parametrize("name", ["", "h100", "b300-hgx-3", "B300-HGX-8", "x" * 1000])
def test_an_unknown_machine_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    output = tmp_path / "node.ccb"
    result = run("collect", "--platform", f"sim:{name}", "--nonce", NONCE.hex(), "-o", str(output))
    assert (result.exit_code, output.exists()) == (1, False)
    assert "there is no such simulated machine" in result.stderr
    assert "b300-hgx-8" in result.stderr


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        simulated_sources("h100-hgx-4")
    assert caught.value.hint == "did you mean h100-hgx-8?"
    assert caught.value.where == "--platform"


# --- the sources ---


@pytest.mark.parametrize("name", MACHINES)
def test_sources_keep_what_they_promise(name: str) -> None:
    for one in simulated_sources(name):
        assert one.name.startswith(MARK)
        given = one.collect(ask())
        assert given
        for outcome in given:
            assert outcome.source.startswith(MARK)
            assert outcome.label.rstrip("0123456789").rstrip("-") in one.gives
        missing = [found.label for found in one.diagnose()]
        absent = [outcome.label for outcome in given if isinstance(outcome, Absence)]
        assert set(missing) <= set(absent)
        assert one.stage is Stage.QUOTE or "tdx-quote" not in one.gives


def test_devices_answer_the_nonce_they_are_asked_with() -> None:
    found = outcomes(BOARD)
    labels = [f"gpu-{n}" for n in range(8)] + [f"nvswitch-{n}" for n in range(4)]
    for label in labels:
        item = found[label]
        assert isinstance(item, Item)
        assert parse_device(item.data).report[4:36] == NONCE
    uuids = [parse_device(found[label].data).uuid for label in labels]  # type: ignore[union-attr]
    assert len(set(uuids)) == 12


def test_every_device_is_asked_at_once() -> None:
    """No device answers before all twelve were asked: asked in turn, none ever would."""
    gate = threading.Barrier(12)

    def latency(label: str) -> float:
        if label != "tdx-quote":
            gate.wait(timeout=20)
        return 0.0

    machine = sim_machine(BOARD)
    collected = collect_bundle(NONCE, machine_sources(machine, latency=latency))
    assert len([item for item in collected.items if item.label.startswith(("gpu", "nvs"))]) == 12


def test_a_device_that_hangs_is_an_absence() -> None:
    let_go = threading.Event()

    def latency(label: str) -> float:
        if label in ("gpu-1", "nvswitch-3"):
            let_go.wait(30)
        return 0.0

    sources = machine_sources(sim_machine(BOARD), latency=latency)
    try:
        collected = collect_bundle(NONCE, sources, timeout=0.4, world=World(grace=5))
    finally:
        let_go.set()
    late = {one.label for one in collected.absences if one.reason is AbsenceReason.TIMEOUT}
    assert late == {"gpu-1", "nvswitch-3"}
    assert len(collected.items) == 15


def test_latency_is_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("ccverify.cli.sim_sources.time.sleep", slept.append)
    sources = machine_sources(sim_machine("b200-hgx-2"), latency=lambda label: len(label) / 10)
    collect_bundle(NONCE, sources)
    assert sorted(slept) == [0.5, 0.5, 0.9]  # gpu-0, gpu-1, tdx-quote


def test_a_switch_that_fails_is_an_absence() -> None:
    machine = sim_machine(BOARD)
    broken = replace(machine.node.switches[0], report=None)  # type: ignore[arg-type]
    machine = replace(machine, node=machine.node.with_switch(0, broken))
    given = source(machine_sources(machine), "nvswitch").collect(ask())
    assert [one.reason for one in given if isinstance(one, Absence)] == [AbsenceReason.FAILED]
    assert len(given) == 4


def test_extending_rtmr3_shows_in_the_quote() -> None:
    machine = sim_machine("b300-hgx-2")
    before = machine.registers()["rtmr3"]
    collected = collect_bundle(NONCE, machine_sources(machine), extend_rtmr3=True)
    assert collected.bundle is not None
    bundle = parse_bundle(collected.bundle)
    expected = hashlib.sha384(before + bundle.manifest.sha384).digest()
    assert collected.rtmr3 == expected
    assert parse_quote(bundle.quote or b"").report.rtmr3 == expected
    given = simulated_trust(machine)
    for rtmr3, code in ((before, {"TDX-RTMR3"}), (expected, set())):
        policy = matching_policy(machine)
        policy["tdx"]["measurements"]["rtmr3"] = [rtmr3.hex()]
        verdict = check(
            collected.bundle,
            policy=policy_from_document(policy),
            now=given.at,
            nonce=NONCE,
            collateral=given.collateral.intel,
            nvidia=given.collateral.nvidia,
            trust=given.store,
        )
        found = {finding.code for finding in verdict.failures()}
        assert found - {"BIND-RELAYABLE"} == code


# --- what judges them ---


def test_simulated_trust_is_never_production() -> None:
    given = simulated_trust(sim_machine(BOARD))
    pinned = TrustStore.production()
    assert given.store.kind.value == "simulated"
    assert given.store.digest != pinned.digest
    for name in ("intel_root", "nvidia_device_root", "nvidia_rim_root"):
        assert getattr(given.store, name) != getattr(pinned, name)


def test_machines_of_one_kind_share_roots_and_no_identity() -> None:
    one, other = (sim_machine(BOARD, instance=instance) for instance in ("1", "2"))
    assert simulated_trust(one).store.digest == simulated_trust(other).store.digest
    ids = [{d.pdi for d in machine.node.devices} for machine in (one, other)]
    assert len(ids[0]) == len(ids[1]) == 12
    assert not ids[0] & ids[1]
    assert one.platform.identifier("ppid") != other.platform.identifier("ppid")


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(UsageError, match="no such status"):
        sim_machine(BOARD, status="Fine")


# --- the module that stands in for pynvml ---


def test_its_names_are_those_of_nvidia_ml_py() -> None:
    pynvml = pytest.importorskip("pynvml", reason="pip install 'ccverify[nvml]'")
    shown = [name for name in dir(SimNvml) if name.startswith(("nvml", "c_nvml", "NVML"))]
    assert len(shown) > 25
    for name in shown:
        real, own = getattr(pynvml, name), getattr(SimNvml, name)
        if name.startswith("c_"):
            fields = {field[0] for field in real._fields_}
            assert {field[0] for field in own._fields_} <= fields, name
        elif name.startswith("nvml"):
            # A caller that fits one fits the other.
            count = len(inspect.signature(own).parameters) - 1  # self
            needed = [
                p for p in inspect.signature(real).parameters.values()
                if p.default is p.empty and p.kind is not p.VAR_KEYWORD
            ]  # fmt: skip
            assert len(needed) <= count <= len(inspect.signature(real).parameters), name
        elif isinstance(own, int):
            assert own == real, name


def test_it_refuses_as_nvml_does() -> None:
    nvml = SimNvml(sim_machine("h100-1"))
    with pytest.raises(NVMLError):
        nvml.nvmlDeviceGetHandleByIndex(1)
    with pytest.raises(NVMLError) as caught:
        nvml.nvmlDeviceGetNvLinkState(0, 18)
    assert caught.value.value == 2
    with pytest.raises(NVMLError) as caught:
        SimNvml(sim_machine("rtx-pro-6000-1")).nvmlDeviceGetNvLinkState(0, 0)
    assert caught.value.value == 3


def test_a_machine_without_gpus_says_so() -> None:
    machine = replace(sim_machine("h100-1"), node=SimNode(gpus=()))
    sources = machine_sources(machine)
    for part in ("gpu", "fabric"):
        (absence,) = source(sources, part).collect(ask())
        assert isinstance(absence, Absence)
        assert absence.reason is AbsenceReason.NOT_PRESENT
