"""The ready-made policies: each is valid, can be met once it is filled in, and says why."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from ccverify.cli.policy_advice import advise
from ccverify.cli.policy_remark import Level
from ccverify.evidence import BindingProfile
from ccverify.policy.document import load_policy, policy_problems
from ccverify.policy.model import ANY, DevicePolicy, RevocationRule, TdxPolicy, TopologyPolicy
from ccverify.results.render.policy import render_policy

FOLDER = Path(__file__).resolve().parents[2] / "policies"
EACH = pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.stem)

# What each gives up, in so many words; every other policy gives up nothing.
GIVEN_UP = {
    "tdx-paravisor": {"tdx.attributes.sept_ve_disable: allow"},
    "tdx-platform-only": {"tdx.measurements: any for mrtd, rtmr0, rtmr1, rtmr2, rtmr3"},
    "provider-near": {
        "tdx.measurements: any for mrtd, rtmr0, rtmr1, rtmr2",
        "gateway.tdx.measurements: any for mrtd, rtmr0, rtmr1, rtmr2",
        "topology: any",
        "binding.relayable: accept",
    },
    "provider-redpill": {
        "tdx.measurements: any for mrtd, rtmr0, rtmr1, rtmr2, rtmr3",
        "topology: any",
        "binding.relayable: accept",
    },
    "provider-chutes": {
        "tdx.measurements: any for mrtd, rtmr0, rtmr1, rtmr2, rtmr3",
        "topology: any",
        "binding.relayable: accept",
    },
}


@EACH
def test_it_is_valid_and_can_be_met(path: Path) -> None:
    text = path.read_bytes()
    assert policy_problems(text) == ()
    policy = load_policy(text)
    assert policy.name
    assert policy.name in render_policy(policy, width=100)
    assert all(remark.level is not Level.UNMEETABLE for remark in advise(policy))


@EACH
def test_it_gives_up_only_what_it_says(path: Path) -> None:
    remarks = advise(load_policy(path.read_bytes()))
    weak = {remark.where for remark in remarks if remark.level is Level.WEAKENS}
    assert weak == GIVEN_UP.get(path.stem, set())


@EACH
def test_every_waiver_is_explained_above_it(path: Path) -> None:
    """Above each `any`, `accept` or `allow` there is a comment, or another `any`."""
    lines = path.read_text("utf-8").splitlines()
    for before, line in pairwise(map(str.strip, lines)):
        if line.endswith((": any", ": accept", ": allow")):
            assert before.startswith("#") or before.endswith(": any"), line


@EACH
def test_it_is_commented_and_fits_a_page(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert lines[0].startswith("# ")
    comments = [line for line in lines if line.lstrip().startswith("#")]
    assert len(comments) >= 4
    assert all(len(line) <= 100 for line in lines if "0" * 32 not in line)


@EACH
def test_devices_are_judged_strictly(path: Path) -> None:
    policy = load_policy(path.read_bytes())
    for devices in (policy.gpus, policy.nvswitches):
        if devices is None:
            continue
        assert isinstance(devices, DevicePolicy)
        assert devices.rim_required
        assert devices.revocation is RevocationRule.REQUIRED
        assert not devices.allow_hold
    assert policy.binding.freshness_required


def test_the_whole_node_states_all_parts() -> None:
    policy = load_policy((FOLDER / "tdx-with-gpus.yaml").read_bytes())
    assert isinstance(policy.tdx, TdxPolicy)
    assert policy.topology == TopologyPolicy(gpus=8, switches=4)
    assert not policy.binding.relayable_accepted


@pytest.mark.parametrize("service", ["near", "redpill", "chutes"])
def test_a_service_is_bound_in_its_own_way(service: str) -> None:
    policy = load_policy((FOLDER / f"provider-{service}.yaml").read_bytes())
    assert BindingProfile(service) in policy.binding.profiles
    assert BindingProfile.RAW_NONCE not in policy.binding.profiles
    assert policy.topology is ANY
