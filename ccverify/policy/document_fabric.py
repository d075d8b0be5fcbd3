"""The section of a policy document on the NVLink fabric → the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any as Json

from ccverify.errors import PolicyError
from ccverify.findings import Assurance
from ccverify.policy.model import (
    ANY,
    Any,
    CountPolicy,
    DevicePolicy,
    FabricPolicy,
    HealthRule,
    ObservationRule,
    Policy,
)

__all__ = ["fabric_contradictions", "fabric_policy"]


def fabric_policy(section: Mapping[str, Json] | str | None) -> FabricPolicy | Any | None:
    """Read section ``fabric``, which the JSON Schema has already accepted."""
    if section is None or isinstance(section, str):
        return None if section is None else ANY
    default, partition = FabricPolicy(), section.get("partition", {})
    cliques, clusters = partition.get("clique_ids"), partition.get("cluster_uuids")
    links, size = section.get("links", "required"), partition.get("size")
    return FabricPolicy(
        mode=section.get("mode"),
        observation=ObservationRule(section.get("observation", default.observation)),
        state_required=section.get("state", "required") == "required",
        health=HealthRule(section.get("health", default.health)),
        links_required=links != "any",
        active_links=None if isinstance(links, str) else int(links),
        nvle_required=section.get("nvle", "required") == "required",
        size=None if size is None else int(size),
        clique_ids=None if cliques is None else frozenset(map(int, cliques)),
        cluster_uuids=None if clusters is None else frozenset(map(bytes.fromhex, clusters)),
        floors={name: Assurance(level) for name, level in section.get("assurance", {}).items()},
    )


def fabric_contradictions(policy: Policy) -> Iterator[PolicyError]:
    """Yield what keeps a well-formed section from ever being met."""
    fabric, where = policy.fabric, "policy.fabric"
    if not isinstance(fabric, FabricPolicy):
        return
    gpus = policy.gpus
    if not isinstance(gpus, DevicePolicy):
        yield PolicyError(
            "a fabric rests on GPUs that are judged",
            expected="a section gpus with expectations",
            found="any" if gpus is ANY else "none",
            where=where,
            hint="state gpus, or say fabric: any",
        )
        return
    if fabric.mode and isinstance(gpus.modes, frozenset) and fabric.mode not in gpus.modes:
        yield PolicyError(
            "fabric.mode is not a mode that gpus.modes accepts",
            expected=", ".join(sorted(gpus.modes)),
            found=fabric.mode,
            where=f"{where}.mode",
        )
    count = gpus.count
    if (
        fabric.size is not None
        and isinstance(count, CountPolicy)
        and not count.least <= fabric.size <= count.most
    ):
        yield PolicyError(
            "fabric.partition.size is not a number that gpus.count accepts",
            expected=f"{count.least} to {count.most}",
            found=str(fabric.size),
            where=f"{where}.partition.size",
            hint="GPUs of the partition outside this machine are not seen from inside it",
        )
    if fabric.observation is ObservationRule.ANY and fabric.names_partition:
        yield PolicyError(
            "a partition is known from the observation alone",
            expected="observation: required",
            found="observation: any",
            where=f"{where}.partition",
        )
