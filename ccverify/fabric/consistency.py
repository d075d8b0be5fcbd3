"""Does an observation agree with itself, and with what the GPUs signed?

NVML signs nothing.  An observation is held against the reports of the GPUs that attested, and
against itself; where two sources differ, that is the result.  Nothing here picks a side: which
source is the stronger one, whoever judges knows.

What a GPU's identity is called on both sides: certificate [1] holds the PDI in big-endian order,
NVML gives it as an integer.  That both agree in byte order is not documented, so either order is
accepted, but one for all GPUs of an observation.  NVML's ``serial`` is the board's, which no
signed field names: it is compared with nothing.

Pure functions; never raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ccverify.fabric.consistency_model import (
    NOT_STATED,
    AttestedGpu,
    ByteOrder,
    FabricCode,
    FabricConsistency,
    FabricGap,
    FabricProblem,
    Found,
    GpuMatch,
    place_of,
    shown,
)
from ccverify.fabric.nvml_values import GPU_ARCHITECTURES, MULTI_GPU_MODES, named
from ccverify.fabric.observation import Absent, FabricObservation, GpuObservation, Reading
from ccverify.fabric.registration import (
    appraise_cliques,
    appraise_encryption,
    appraise_health,
    appraise_links,
    appraise_states,
)

__all__ = ["HGX_LINKS", "appraise_consistency"]

HGX_LINKS: Final = 18
"""NVLinks of each GPU of HGX H100, H200, B200 and B300 in a partition of two GPUs or more."""

_NVML_MODES: Final = {"SPT": 0, "PPCIE": 1, "MPT": 2}
"""Signed mode → what NVML's ``multiGpuMode`` calls it."""
_SWITCHED: Final = frozenset({"MPT", "PPCIE"})
"""Modes of GPUs behind NVSwitches."""


def appraise_consistency(
    observation: FabricObservation,
    attested: Sequence[AttestedGpu],
    active: int | None = None,
) -> FabricConsistency:
    """Apply every rule.  The outcome does not depend on the order of GPUs.

    Args:
        observation: what NVML said.
        attested: the GPUs with a genuine report.
        active: how many links of each GPU must be up; None: what the mode implies.
    """
    modes = {gpu.mode for gpu in attested}
    several = max(len(observation.gpus), len(attested)) > 1
    shared = modes != {"SPT"} and (several or bool(modes & _SWITCHED))
    order, joined = _join(observation.gpus, attested)
    found = [
        *_identity(observation.gpus, attested, order, joined),
        *_sets(observation.gpus, attested, joined),
        *_distinct(observation.gpus),
        *_versions(observation, attested, joined),
        *_mode(observation, modes),
    ]
    if shared:
        found += appraise_cliques(observation.gpus)
        found += appraise_states(observation.gpus)
        found += _modules(observation.gpus)
        if active is None and modes and modes <= _SWITCHED and len(observation.gpus) > 1:
            active = HGX_LINKS
    found += appraise_health(observation.gpus)
    if shared or active is not None:
        found += appraise_links(observation.gpus, active)
    if "MPT" in modes:
        found += appraise_encryption(observation.gpus)
    rank = {code: place for place, code in enumerate(FabricCode)}
    found.sort(key=lambda each: (rank[each.code], len(each.where), each.where))
    matches = [
        GpuMatch(gpu.subject, index)
        for gpu in attested
        for index, subject in joined.items()
        if subject == gpu.subject
    ]
    return FabricConsistency(
        matches=tuple(matches),
        order=order,
        shared=shared,
        problems=tuple(each for each in found if isinstance(each, FabricProblem)),
        gaps=tuple(each for each in found if isinstance(each, FabricGap)),
    )


# --- which GPU is which --------------------------------------------------------------------------


def _pdi(gpu: GpuObservation) -> bytes | None:
    value = None if isinstance(gpu.pdi, Absent) else bytes.fromhex(gpu.pdi)
    return value if value and any(value) else None


def _ordered(pdi: bytes, order: ByteOrder) -> bytes:
    return pdi if order is ByteOrder.CERTIFICATE else pdi[::-1]


def _join(
    gpus: Sequence[GpuObservation], attested: Sequence[AttestedGpu]
) -> tuple[ByteOrder | None, dict[int, str]]:
    """The byte order in which most PDIs are certified ones, and index → subject under it."""
    subjects = {gpu.device_id: gpu.subject for gpu in reversed(attested)}
    best: tuple[ByteOrder | None, dict[int, str]] = (None, {})
    for order in ByteOrder:
        joined = {
            gpu.index: subjects[_ordered(pdi, order)]
            for gpu in gpus
            if (pdi := _pdi(gpu)) is not None and _ordered(pdi, order) in subjects
        }
        if len(joined) > len(best[1]):
            best = (order, joined)
    return best


def _identity(
    gpus: Sequence[GpuObservation],
    attested: Sequence[AttestedGpu],
    order: ByteOrder | None,
    joined: dict[int, str],
) -> Found:
    code = FabricCode.IDENTITY
    by_uuid: dict[str, AttestedGpu] = {}
    for one in sorted(attested, key=lambda one: one.subject):
        if one.uuid and by_uuid.setdefault(one.uuid, one) is not one:
            found = f"{one.uuid}, as {by_uuid[one.uuid].subject}"
            yield FabricProblem(code, one.subject, "a UUID of its own beside the report", found)
    certified = {gpu.device_id for gpu in attested}
    for gpu in gpus:
        pdi, uuid = _pdi(gpu), None if isinstance(gpu.uuid, Absent) else gpu.uuid
        if pdi is None:
            reason = f"the driver gives no PDI ({shown(gpu.pdi)})"
            yield FabricGap(code, place_of(gpu), reason)
            continue
        other = by_uuid.get(uuid) if uuid else None
        if other is not None and joined.get(gpu.index) != other.subject:
            expected = f"PDI {_hex(other.device_id)} of {other.subject}, which has its UUID"
            yield FabricProblem(code, place_of(gpu), expected, f"PDI {_hex(pdi)}")
        elif gpu.index not in joined and {pdi, pdi[::-1]} & certified:
            expected = f"a PDI in the byte order of the others ({order.value if order else ''})"
            yield FabricProblem(code, place_of(gpu), expected, f"{_hex(pdi)}, the other way round")
    if not joined:
        yield FabricGap(code, "GPUs", "no PDI of the observation is a certified one")


def _sets(
    gpus: Sequence[GpuObservation], attested: Sequence[AttestedGpu], joined: dict[int, str]
) -> Found:
    """The driver's GPUs against the attested ones; without a PDI only numbers can be compared."""
    unknown = [gpu for gpu in gpus if _pdi(gpu) is None]
    for gpu in gpus:
        if gpu.index not in joined and gpu not in unknown:
            found = f"GPU {shown(gpu.uuid)}, PDI {shown(gpu.pdi).upper()}, did not attest"
            yield FabricProblem(FabricCode.UNATTESTED, place_of(gpu), "an attested GPU", found)
    unseen = [gpu for gpu in attested if gpu.subject not in joined.values()]
    if unknown:
        reason = f"{len(unknown)} GPUs of the observation have no PDI"
        if len(unknown) > len(unseen):
            expected = f"{len(attested)} GPUs, as attested"
            yield FabricProblem(FabricCode.UNATTESTED, "gpus", expected, f"{len(gpus)} GPUs")
        yield FabricGap(FabricCode.UNATTESTED, "gpus", reason)
        if len(unseen) <= len(unknown):
            yield FabricGap(FabricCode.UNSEEN, "gpus", reason)
            return
    for one in unseen:
        found = f"{_hex(one.device_id)} is none of the {len(gpus)} GPUs that the driver sees"
        yield FabricProblem(FabricCode.UNSEEN, one.subject, "a GPU of this machine", found)


def _distinct(gpus: Sequence[GpuObservation]) -> Found:
    for what, read in (
        ("PDI", lambda gpu: gpu.pdi),
        ("UUID", lambda gpu: gpu.uuid),
        ("PCI address", lambda gpu: gpu.pci_bus_id),
    ):
        yield from _repeated(FabricCode.DISTINCT, gpus, what, read)


def _modules(gpus: Sequence[GpuObservation]) -> Found:
    yield from _repeated(FabricCode.MODULE, gpus, "module id", lambda gpu: gpu.module)
    for gpu in gpus:
        if isinstance(gpu.module, Absent):
            yield FabricGap(FabricCode.MODULE, place_of(gpu), f"no module id ({gpu.module.code})")


def _repeated(
    code: FabricCode,
    gpus: Sequence[GpuObservation],
    what: str,
    read: Callable[[GpuObservation], Reading[str] | Reading[int]],
) -> Found:
    seen: dict[str | int, list[GpuObservation]] = {}
    for gpu in gpus:
        value = read(gpu)
        if not isinstance(value, Absent):
            seen.setdefault(value, []).append(gpu)
    for value, sharing in seen.items():
        if len(sharing) > 1:
            names = ", ".join(sorted(map(place_of, sharing)))
            yield FabricProblem(code, names, f"a {what} of its own for each GPU", f"{what} {value}")


# --- against what the GPUs signed ----------------------------------------------------------------


def _versions(
    observation: FabricObservation, attested: Sequence[AttestedGpu], joined: dict[int, str]
) -> Found:
    signed = {gpu.subject: gpu for gpu in attested}
    compared = False
    for gpu in observation.gpus:
        one = signed.get(joined.get(gpu.index, ""))
        if one is None:
            continue
        number = gpu.architecture
        family = number if isinstance(number, Absent) else GPU_ARCHITECTURES.get(number)
        for what, said, proven in (
            ("driver", observation.driver, one.driver),
            ("VBIOS", gpu.vbios, one.vbios),
            ("architecture", family, one.architecture and one.architecture.partition("-")[0]),
        ):
            if not proven or not isinstance(said, str):
                continue
            compared = True
            if said.upper() != proven.upper():
                yield FabricProblem(
                    FabricCode.VERSIONS,
                    place_of(gpu),
                    f"{what} {proven}, as {one.subject} signed",
                    f"{what} {said}",
                )
    if not compared:
        yield FabricGap(FabricCode.VERSIONS, "GPUs", "no version is stated on both sides")


def _mode(observation: FabricObservation, modes: set[str]) -> Found:
    code, settings = FabricCode.MODE_AGREES, observation.confidential_computing
    said = settings.multi_gpu_mode
    if len(modes) > 1:
        yield FabricProblem(code, "GPUs", "one signed mode", ", ".join(sorted(modes)))
        return
    signed = next(iter(modes), NOT_STATED)
    if signed not in _NVML_MODES:
        yield FabricGap(code, "GPUs", "the reports name no mode")
    elif isinstance(said, Absent):
        yield FabricGap(code, "multi_gpu_mode", f"the driver names no mode ({said.code})")
    elif said != _NVML_MODES[signed]:
        expected = f"{MULTI_GPU_MODES[_NVML_MODES[signed]]}, as the GPUs signed {signed}"
        yield FabricProblem(code, "multi_gpu_mode", expected, named(MULTI_GPU_MODES, said))
    if signed == "MPT" and settings.feature == 0:
        expected = f"confidential computing on, as the GPUs signed {signed}"
        yield FabricProblem(code, "feature", expected, "off, says the driver")


def _hex(pdi: bytes) -> str:
    return pdi.hex().upper()
