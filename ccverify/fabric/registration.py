"""Rules on what the fabric says of itself: registration, cliques, health, links, encryption.

All of it is unsigned.  State, cluster, cliques and health are the Fabric Manager's words, which
reach the driver in a message that nobody authenticates; links and encryption are what the driver
reads from the GPU.  Pure functions; never raise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ccverify.fabric.consistency_model import (
    FabricCode,
    FabricGap,
    FabricProblem,
    Found,
    place_of,
    shown,
)
from ccverify.fabric.nvml_values import (
    FABRIC_STATES,
    HEALTH_SUMMARIES,
    decode_health_mask,
    named,
)
from ccverify.fabric.observation import Absent, FabricInfo, GpuObservation

__all__ = [
    "active_links",
    "appraise_cliques",
    "appraise_encryption",
    "appraise_health",
    "appraise_links",
    "appraise_states",
    "health_problems",
    "health_stated",
]

_COMPLETED, _SUCCESS = 3, 0
_UP: Final = frozenset({1, 2})
"""Link states in which a link carries traffic, or does once it is woken."""


def _registrations(
    code: FabricCode, gpus: Sequence[GpuObservation]
) -> Iterator[tuple[GpuObservation, FabricInfo] | FabricGap]:
    for gpu in gpus:
        if isinstance(gpu.fabric, Absent):
            reason = f"the driver says nothing of the fabric ({gpu.fabric.code})"
            yield FabricGap(code, place_of(gpu), reason)
        else:
            yield gpu, gpu.fabric


def appraise_cliques(gpus: Sequence[GpuObservation]) -> Found:
    """One cluster UUID, and the same cliques, on all GPUs."""
    spread: dict[str, list[str]] = {}
    for each in _registrations(FabricCode.CLIQUE, gpus):
        if isinstance(each, FabricGap):
            yield each
            continue
        gpu, info = each
        ids = sorted({(shown(one.type), one.id) for one in info.cliques})
        text = ", ".join(str(number) for _, number in ids) or "none"
        if any(not isinstance(one.type, Absent) for one in info.cliques):
            text = ", ".join(f"{number} (type {kind})" for kind, number in ids)
        spread.setdefault(f"cluster {info.cluster_uuid}, clique {text}", []).append(place_of(gpu))
    if len(spread) > 1:
        found = "; ".join(f"{value} on {', '.join(on)}" for value, on in sorted(spread.items()))
        yield FabricProblem(
            FabricCode.CLIQUE, "GPUs", "one cluster and the same cliques on all GPUs", found
        )


def appraise_states(gpus: Sequence[GpuObservation]) -> Found:
    """Registration completed, and with success: either alone is not enough."""
    for each in _registrations(FabricCode.STATE, gpus):
        if isinstance(each, FabricGap):
            yield each
            continue
        gpu, info = each
        if info.state != _COMPLETED or info.status != _SUCCESS:
            status = "success" if info.status == _SUCCESS else f"NVML error {info.status}"
            found = f"{named(FABRIC_STATES, info.state)}, status {status}"
            yield FabricProblem(FabricCode.STATE, place_of(gpu), "completed, with success", found)


_GOOD_HEALTH: Final = {
    "degraded-bandwidth": 2,
    "route-recovery": 2,
    "route-unhealthy": 2,
    "access-timeout-recovery": 2,
    "incorrect-configuration": 1,
    "partition-assigned": 1,
    "fabric-manager": 1,
}
"""Field of the health mask → its good value; 0 says nothing, and any other is a fault."""


def health_stated(info: FabricInfo) -> bool:
    """Whether the driver says anything at all of the fabric's health."""
    mask = 0 if isinstance(info.health_mask, Absent) else info.health_mask
    summary = 0 if isinstance(info.health_summary, Absent) else info.health_summary
    return bool(summary) or any(each.value for each in decode_health_mask(mask))


def health_problems(info: FabricInfo) -> tuple[str, ...]:
    """What the health mask and its summary say against a GPU; values not known here included."""
    found = []
    if not isinstance(info.health_mask, Absent):
        for each in decode_health_mask(info.health_mask):
            if each.value not in (0, _GOOD_HEALTH[each.name]):
                found.append(f"{each.name}: {each.meaning}")
    if not isinstance(info.health_summary, Absent) and info.health_summary not in (0, 1):
        found.append(f"summary: {named(HEALTH_SUMMARIES, info.health_summary)}")
    return tuple(found)


def appraise_health(gpus: Sequence[GpuObservation]) -> Found:
    """No fault in mask or summary; a driver that states neither is a gap."""
    code = FabricCode.HEALTH
    for each in _registrations(code, gpus):
        if isinstance(each, FabricGap):
            yield each
            continue
        gpu, info = each
        if not health_stated(info):
            yield FabricGap(code, place_of(gpu), "the driver states no health")
        elif found := health_problems(info):
            yield FabricProblem(code, place_of(gpu), "no fault", ", ".join(found))


def active_links(gpu: GpuObservation) -> int | None:
    """How many NVLinks are up; None where the driver does not say of one of them."""
    if isinstance(gpu.links, Absent) or any(isinstance(e.state, Absent) for e in gpu.links):
        return None
    return sum(link.state in _UP for link in gpu.links)


def appraise_links(gpus: Sequence[GpuObservation], wanted: int | None) -> Found:
    """Every GPU has `wanted` links up; None: as many as the others, and at least one."""
    code = FabricCode.LINKS
    counts = {gpu.index: active_links(gpu) for gpu in gpus}
    most = max((count for count in counts.values() if count is not None), default=0)
    for gpu in gpus:
        count = counts[gpu.index]
        if count is None:
            # A GPU without NVLink answers like one whose driver cannot say.
            reason = "the driver does not give the state of every NVLink"
            yield FabricGap(code, place_of(gpu), reason)
        elif wanted is not None and count != wanted:
            yield FabricProblem(code, place_of(gpu), f"{wanted} NVLinks up", str(count))
        elif wanted is None and count != most:
            yield FabricProblem(code, place_of(gpu), f"{most} NVLinks up, as on others", str(count))
        elif wanted is None and most == 0:
            yield FabricProblem(code, place_of(gpu), "NVLinks between several GPUs", "none is up")


def appraise_encryption(gpus: Iterable[GpuObservation]) -> Found:
    """NVML states encryption for a GPU, which stands for all its links."""
    code = FabricCode.NVLE
    for gpu in gpus:
        if isinstance(gpu.encrypted, Absent):
            reason = f"the driver does not say whether NVLink is encrypted ({gpu.encrypted.code})"
            yield FabricGap(code, place_of(gpu), reason)
        elif gpu.encrypted != 1:
            yield FabricProblem(
                code, place_of(gpu), "encrypted NVLinks, as mode MPT promises", "not encrypted"
            )
