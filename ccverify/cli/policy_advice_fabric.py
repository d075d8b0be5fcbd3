"""Advice on the section ``fabric`` of a policy, and on its absence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ccverify.cli.policy_remark import Advice, Level
from ccverify.findings import Assurance
from ccverify.policy.judge_fabric import STRENGTH
from ccverify.policy.model import (
    ANY,
    DevicePolicy,
    FabricPolicy,
    HealthRule,
    ObservationRule,
    Policy,
)

__all__ = ["advise_fabric"]

_AT_BEST: Final = {
    "mode": Assurance.HARDWARE,
    "members": Assurance.ASSERTED,
    "partition": Assurance.ASSERTED,
    "encryption_in_force": Assurance.MEASURED,
    "health": Assurance.ASSERTED,
    "links": Assurance.MEASURED,
    "manager": Assurance.NONE,
    "routing": Assurance.NONE,
    "isolation": Assurance.NONE,
}
"""Claim → the strongest evidence of it that this version reads (docs/fabric.md)."""


def advise_fabric(policy: Policy) -> Iterator[Advice]:
    """Yield remarks on ``fabric``."""
    fabric = policy.fabric
    modes = policy.gpus.modes if isinstance(policy.gpus, DevicePolicy) else None
    if isinstance(fabric, FabricPolicy):
        yield from _section(fabric)
    elif fabric is ANY:
        yield Advice(
            Level.WEAKENS,
            "fabric: any",
            "A stale partition, plain NVLinks and a GPU that never attested all pass unseen.",
            "State what you expect; docs/fabric.md says what can be known.",
        )
    elif isinstance(modes, frozenset) and "MPT" in modes:
        only = modes == frozenset({"MPT"})
        yield Advice(
            Level.UNMEETABLE if only else Level.CONSIDER,
            "fabric: nothing, with MPT among gpus.modes",
            "GPUs in multi-GPU mode cannot be trusted without it: nobody signs who shares "
            "their fabric.",
            "State fabric, or say `any` to accept every fabric knowingly.",
        )


def _section(fabric: FabricPolicy) -> Iterator[Advice]:
    if fabric.observation is not ObservationRule.REQUIRED:
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
    for name, floor in sorted(fabric.floors.items()):
        best = _AT_BEST[name]
        if STRENGTH[floor] > STRENGTH[best]:
            yield Advice(
                Level.UNMEETABLE,
                f"fabric.assurance.{name}: {floor.value}",
                f"The best evidence of it is {best.value}; docs/fabric.md says why.",
                "Lower it, or leave it out.",
            )
