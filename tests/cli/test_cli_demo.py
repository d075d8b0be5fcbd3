"""``ccverify demo``: every verdict is the real verifier's, and a wrong one is noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli_files import Run

from ccverify import TrustKind, TrustStore, load_policy
from ccverify.bundle.package import parse_bundle
from ccverify.cli import demo as demo_module
from ccverify.cli.demo import SCENES, play
from ccverify.cli.sim_trust import simulated_trust
from ccverify.collateral import parse_collateral_file
from ccverify.verifier import check

ATTACKS = [scene for scene in SCENES if scene.expected_code]


def test_the_demonstration_is_a_minutes_reading(run: Run) -> None:
    result = run("demo")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("SIMULATED: ")
    assert "All of it was simulated." in result.stdout
    assert result.stdout.count("✓ TRUSTED (SIMULATED)") == 1
    assert result.stdout.count("✗ UNTRUSTED (SIMULATED)") == len(ATTACKS) == 5
    for scene in SCENES:
        assert scene.title in result.stdout
        assert scene.expected_code is None or f"     {scene.expected_code}  " in result.stdout
    assert len(result.stdout.splitlines()) < 66


def test_it_is_the_same_every_time(run: Run) -> None:
    demo_module._collected.cache_clear()
    first = run("demo").stdout
    demo_module._collected.cache_clear()
    assert run("demo").stdout == first


def test_every_scene_ends_as_it_should() -> None:
    for scene in SCENES:
        verdict = play(scene)
        failed = [finding.code for finding in verdict.failures()]
        assert verdict.simulated
        assert verdict.exit_code == scene.expected_exit
        assert scene.expected_code in [*failed, None]
        assert bool(failed) == (scene.expected_code is not None)
    codes = [scene.expected_code for scene in ATTACKS]
    assert len(set(codes)) == len(codes), "every attack has a code of its own"


@pytest.mark.parametrize("index", range(len(SCENES)))
def test_a_verdict_that_is_not_as_it_should_be_is_noticed(
    run: Run, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    """A scene that is played with another scene's machine must be noticed."""
    scenes = list(SCENES)
    other = scenes[(index + 1) % len(scenes)]
    scenes[index] = scenes[index]._replace(
        machine=other.machine, nonce=other.nonce, damage=other.damage
    )
    monkeypatch.setattr(demo_module, "SCENES", tuple(scenes))
    result = run("demo")
    assert result.exit_code == 1
    assert f"1 of {len(SCENES)} scenes" in result.stdout


def test_a_verdict_that_cannot_be_replayed_is_noticed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_module, "replay", lambda _: play(ATTACKS[0]))
    result = run("demo")
    assert result.exit_code == 1
    assert "the same inputs give another verdict" in result.stdout


def test_a_signed_verdict_that_says_something_else_is_noticed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = demo_module.seal_verdict_bundle
    monkeypatch.setattr(
        demo_module, "seal_verdict_bundle",
        lambda bundle, signer: seal(replace(bundle, verifier="ccverify 9"), signer),
    )  # fmt: skip
    result = run("demo")
    assert result.exit_code == 1
    assert "inputs.verifier" in result.stdout


def test_kept_files_verify(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    result = run("demo", "--keep", str(folder))
    assert result.exit_code == 0
    assert "--allow-simulated" in result.stdout
    names = {path.name for path in folder.iterdir()}
    assert names == {"node.ccb", "policy.json", "collateral.json", "verdict.ccv", "verifier.pem"}
    words = ["verify", str(folder / "verdict.ccv"), "--key", str(folder / "verifier.pem")]
    assert run(*words).exit_code == 3, "a simulated verdict is no verdict unless that is wanted"
    result = run(*words, "--allow-simulated", "--format", "json")
    assert result.exit_code == 0
    steps = {step["code"]: step["state"] for step in json.loads(result.stdout)["steps"]}
    assert steps["EMITTED-REPLAY"] == "PASS"
    # The files suffice to judge again, given the simulator's roots, and only given these.
    bundle = (folder / "node.ccb").read_bytes()
    collateral = parse_collateral_file((folder / "collateral.json").read_bytes())
    for trust, trusted in (
        (simulated_trust(SCENES[0].machine()).store, True),
        (TrustStore.production(), False),
    ):
        verdict = check(
            bundle,
            policy=load_policy((folder / "policy.json").read_bytes()),
            now=SCENES[0].machine().at,
            nonce=parse_bundle(bundle).manifest.nonce,
            collateral=collateral.intel,
            nvidia=collateral.nvidia,
            trust=trust,
        )
        assert verdict.trusted is trusted
        assert verdict.simulated is (trust.kind is TrustKind.SIMULATED)


def test_a_folder_that_cannot_be_made_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("demo", "--keep", str(tmp_path / "file"))
    assert result.exit_code == 1
    assert "--keep" in result.stderr
