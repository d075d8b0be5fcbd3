"""The ready-made policies: each is valid, can be met once it is filled in, and says why."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from ccverify import State, Verdict, check, policy_from_document
from ccverify.cli.policy_advice import advise
from ccverify.cli.policy_remark import Level
from ccverify.cli.sim_sources import machine_sources
from ccverify.cli.sim_statement import BinderName, matching_managers, sim_statement
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.collect.session import collect_bundle
from ccverify.evidence import BindingProfile
from ccverify.policy.document import load_policy, policy_problems
from ccverify.policy.model import ANY, DevicePolicy, RevocationRule, TdxPolicy, TopologyPolicy
from ccverify.results.render.policy import render_policy
from ccverify.sim.board_names import manager_named, tenant_named

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


def test_a_blackwell_board_with_its_manager_can_meet_its_policy() -> None:
    """Filled in as its comments say: with values of the image, the devices and the service VM."""
    machine, manager = tenant_named("b300-board-8"), manager_named("b300-board-8")
    document = yaml.safe_load((FOLDER / "tdx-hgx-blackwell.yaml").read_text("utf-8"))
    own, (service_vm,) = matching_policy(machine), matching_managers(manager)["tdx"]
    for filled, values in (
        (document["tdx"], own["tdx"]),
        (document["fabric"]["managers"]["tdx"][0], service_vm),
    ):
        ppid = machine.platform.identifier("ppid").hex()
        filled |= {"measurements": values["measurements"], "platform": {"ppid": [ppid]}}
    document["gpus"]["device_ids"] = [gpu.pdi.hex() for gpu in machine.node.gpus]
    nonce, trust = bytes(range(32)), simulated_trust(machine)
    bundle = collect_bundle(nonce, machine_sources(machine)).bundle
    assert bundle is not None

    def judged(binder: BinderName) -> Verdict:
        return check(
            bundle,
            policy=policy_from_document(document),
            now=trust.at,
            nonce=nonce,
            collateral=trust.collateral.intel,
            nvidia=trust.collateral.nvidia,
            trust=trust.store,
            statements=[sim_statement(manager, nonce, binder=binder)],
        )

    verdict = judged("tdx")
    assert verdict.trusted, verdict.failures()
    weaker: tuple[BinderName, ...] = ("tpm", "none")
    for binder in weaker:
        failed = {f.code for f in judged(binder).findings if f.state is State.FAIL}
        assert {"FABRIC-MANAGER", "FABRIC-ASSURANCE"} <= failed
