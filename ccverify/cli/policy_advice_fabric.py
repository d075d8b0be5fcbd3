"""Advice on the section ``fabric`` of a policy, and on its absence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ccverify.cli.policy_remark import Advice, Level
from ccverify.findings import Assurance
from ccverify.policy.judge_fabric import STRENGTH
from ccverify.policy.model import ANY, DevicePolicy, FabricPolicy, GivenRule, HealthRule, Policy
from ccverify.policy.model_fabric import ManagersPolicy

__all__ = ["advise_fabric"]

_FROM_THE_GUEST: Final = {
    "registration": Assurance.ASSERTED,
    "encryption_in_force": Assurance.MEASURED,
    "health": Assurance.ASSERTED,
    "links": Assurance.MEASURED,
}
"""Claim → the strongest evidence of it, from an observation (docs/fabric.md)."""
_OF_A_STATEMENT: Final = ("manager", "manager_configuration", "routing", "liveness")
_OF_BOTH: Final = ("members", "partition", "isolation")
_NOBODY: Final = ManagersPolicy()
_MPT: Final = "MPT"


def advise_fabric(policy: Policy) -> Iterator[Advice]:
    """Yield remarks on ``fabric``."""
    fabric = policy.fabric
    modes = policy.gpus.modes if isinstance(policy.gpus, DevicePolicy) else None
    mpt = isinstance(modes, frozenset) and _MPT in modes
    if isinstance(fabric, FabricPolicy):
        yield from _observation(fabric)
        yield from _statement(fabric, mpt=mpt and fabric.mode in (None, _MPT))
        yield from _probe(fabric)
        yield from _floors(fabric)
    elif fabric is ANY:
        yield Advice(
            Level.WEAKENS,
            "fabric: any",
            "A stale partition, plain NVLinks and a GPU that never attested all pass unseen.",
            "State what you expect; docs/fabric.md says what can be known.",
        )
    elif mpt:
        yield Advice(
            Level.UNMEETABLE if modes == frozenset({_MPT}) else Level.CONSIDER,
            "fabric: nothing, with MPT among gpus.modes",
            "GPUs in multi-GPU mode cannot be trusted without it: nobody signs who shares "
            "their fabric.",
            "State fabric, or say `any` to accept every fabric knowingly.",
        )


def _observation(fabric: FabricPolicy) -> Iterator[Advice]:
    if fabric.observation is not GivenRule.REQUIRED:
        yield Advice(
            Level.WEAKENS,
            f"fabric.observation: {fabric.observation.value}",
            "A machine that keeps silent about its fabric passes.",
            "Leave it out, and collect bundles.",
        )
    for key, waived, passes in (
        ("state", not fabric.state_required, "A stale partition, whose links train all the same"),
        ("health", fabric.health is HealthRule.ANY, "A fabric with bad routes or no manager"),
        ("links", not fabric.links_required, "A GPU with links down"),
        ("nvle", not fabric.nvle_required, "Plain traffic through switches nobody attested"),
    ):
        if waived:
            advice = "Leave it out, except while an operator works on the fabric."
            yield Advice(Level.WEAKENS, f"fabric.{key}: any", f"{passes}, passes.", advice)


def _statement(fabric: FabricPolicy, *, mpt: bool) -> Iterator[Advice]:
    managers = fabric.managers
    for key, waived, passes in (
        ("statement: any", fabric.statement is GivenRule.ANY, "A bad statement of the manager"),
        ("routing: any", fabric.routing is GivenRule.ANY, "A route from another tenant"),
        ("continuity: any", fabric.continuity is GivenRule.ANY, "A manager that was restarted"),
        ("same_host: any", not fabric.same_host_required, "A statement about another board"),
        ("manager.log: any", not fabric.manager.log_required, "A manager that logs errors"),
        (
            "managers.unsigned: accept",
            managers is not None and managers.unsigned,
            "A statement that nothing ties to anybody",
        ),
    ):
        if waived:
            yield Advice(Level.WEAKENS, f"fabric.{key}", f"{passes} passes.", "Leave it out.")
    if fabric.statement is not GivenRule.REQUIRED:
        if mpt and fabric.statement is GivenRule.IF_GIVEN:
            yield Advice(
                Level.CONSIDER,
                "fabric.statement",
                "Nobody says who else is on the fabric, and how it routes.",
                "Ask the operator for a statement of the manager, and set it to required.",
            )
        return
    if managers is None:
        yield Advice(
            Level.CONSIDER,
            "fabric.managers",
            "A statement is required and anybody may make it: it is asserted at most.",
            "Name the service VM in managers.tdx, its host in tpm, or the operator in x509.",
        )
    elif managers == _NOBODY:
        yield Advice(
            Level.UNMEETABLE,
            "fabric.managers: nobody",
            "A statement is required, and nobody may make one.",
            "Name the service VM in managers.tdx, its host in tpm, or the operator in x509.",
        )
    if fabric.routing is GivenRule.IF_GIVEN:
        yield Advice(
            Level.CONSIDER,
            "fabric.routing",
            "A statement without forwarding tables passes, and isolation stays unknown.",
            "Set it to required where the board has a subnet manager (NVLink 5).",
        )
    if fabric.continuity is GivenRule.IF_GIVEN:
        yield Advice(
            Level.CONSIDER,
            "fabric.continuity",
            "One statement is of one moment: what changed before or after is not seen.",
            "Ask for two, before and after the node's evidence, and set it to required.",
        )


def _probe(fabric: FabricPolicy) -> Iterator[Advice]:
    probe = fabric.probe
    if probe.rule is GivenRule.ANY:
        advice = "Leave it out."
        yield Advice(Level.WEAKENS, "fabric.probe: any", "Bad measurements pass.", advice)
        return
    for key, waived, passes in (
        ("access", not probe.bands.access, "GPUs that cannot reach each other"),
        ("traffic", not probe.bands.traffic, "Traffic of others on the tenant's links"),
    ):
        if waived:
            advice = "Leave it out."
            yield Advice(Level.WEAKENS, f"fabric.probe.{key}: any", f"{passes} pass.", advice)


def _floors(fabric: FabricPolicy) -> Iterator[Advice]:
    best = _at_best(fabric)
    for name, floor in sorted(fabric.floors.items()):
        if STRENGTH[floor] > STRENGTH[best[name]]:
            yield Advice(
                Level.UNMEETABLE,
                f"fabric.assurance.{name}: {floor.value}",
                f"The best evidence of it that this policy takes is {best[name].value}; "
                "docs/fabric.md says why.",
                "Lower it, or leave it out.",
            )


def _at_best(fabric: FabricPolicy) -> Mapping[str, Assurance]:
    """Claim → the strongest level that it can have under this policy."""
    seen = fabric.observation is not GivenRule.ANY
    stated = _stated_at_best(fabric)
    # Without a statement the driver's word remains, for all but isolation.
    relayed = Assurance.ASSERTED if seen else Assurance.NONE
    both = stated if seen else Assurance.NONE
    return {
        "mode": Assurance.HARDWARE,
        **{name: level if seen else Assurance.NONE for name, level in _FROM_THE_GUEST.items()},
        **dict.fromkeys(_OF_A_STATEMENT, stated),
        **dict.fromkeys(_OF_BOTH, both),
        **{name: max(both, relayed, key=STRENGTH.__getitem__) for name in ("members", "partition")},
        "probe": Assurance.NONE if fabric.probe.rule is GivenRule.ANY else Assurance.MEASURED,
    }


def _stated_at_best(fabric: FabricPolicy) -> Assurance:
    if fabric.statement is GivenRule.ANY:
        return Assurance.NONE
    managers = fabric.managers
    if managers is not None:
        for named, level in (
            (managers.tdx, Assurance.MANAGER),
            (managers.tpm, Assurance.HOST),
            (managers.x509, Assurance.OPERATOR),
        ):
            if named:
                return level
        if not managers.unsigned:
            return Assurance.NONE
    return Assurance.ASSERTED
