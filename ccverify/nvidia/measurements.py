"""What a device measured, compared with the golden values of its reference manifests (RIM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccverify.nvidia.rim import GoldenMeasurement, Rim, RimKind

__all__ = [
    "NVDEC0_INDEX",
    "MeasurementComparison",
    "MeasurementMismatch",
    "compare_measurements",
]

NVDEC0_INDEX = 35
"""The RIM index that measures NVDEC0; meaningless where the unit is disabled."""


@dataclass(frozen=True, slots=True)
class MeasurementMismatch:
    """One measurement that has none of its golden values.

    Attributes:
        index: RIM index, from 0; in the report it is block `index` + 1.
        name: as the RIM calls it.
        golden: the values it may have, 48 bytes each.
        found: the value reported; None if the report lacks that block.
        rim: title of the RIM that states the golden values.
    """

    index: int
    name: str
    golden: tuple[bytes, ...]
    found: bytes | None
    rim: str

    def __str__(self) -> str:
        found = "missing" if self.found is None else self.found.hex()
        golden = " or ".join(value.hex() for value in self.golden)
        return f"measurement {self.index} ({self.name}) is {found}, not {golden} of the {self.rim}"


@dataclass(frozen=True, slots=True)
class MeasurementComparison:
    """How a report's measurements compare with the golden ones; all indices are RIM indices.

    Attributes:
        matched: how many have one of their golden values.
        total: how many have golden values and were compared.
        mismatched: those that have none of their golden values.
        conflicts: active in both RIMs, so compared with neither.
        skipped: not compared because NVDEC0 is disabled.
        without_golden: reported, but no active golden value says what they must be.
        rim_problem: why these RIMs cannot be used together.
    """

    matched: int
    total: int
    mismatched: tuple[MeasurementMismatch, ...]
    conflicts: tuple[int, ...]
    skipped: tuple[int, ...]
    without_golden: tuple[int, ...]
    rim_problem: str | None

    @property
    def problem(self) -> str | None:
        """The first problem; None only if something was compared and all of it matched."""
        if self.rim_problem:
            return self.rim_problem
        if self.conflicts:
            indices = ", ".join(map(str, self.conflicts))
            return f"driver and VBIOS RIM both state golden values of measurement {indices}"
        if self.mismatched:
            return "; ".join(map(str, self.mismatched))
        return None if self.total else "the RIMs state no golden value"


def compare_measurements(
    runtime: Mapping[int, bytes], driver: Rim | None, vbios: Rim, *, nvdec0_disabled: bool
) -> MeasurementComparison:
    """Compare what a device measured with what its RIMs say it should.

    Args:
        runtime: SPDM measurement block index, from 1 → value.
        driver: a GPU's driver RIM; None for a switch.
        vbios: a GPU's VBIOS RIM, or a switch's BIOS RIM.
        nvdec0_disabled: the report says that NVDEC0 is disabled, so that its measurement is
            not compared.
    """
    golden = _golden(vbios)
    conflicts: set[int] = set()
    if driver is not None:
        of_driver = _golden(driver)
        conflicts = golden.keys() & of_driver.keys()
        golden.update(of_driver)
    skipped = {NVDEC0_INDEX} & golden.keys() if nvdec0_disabled else set()
    compared = sorted(golden.keys() - conflicts - skipped)
    mismatched = tuple(
        MeasurementMismatch(index, wanted.name, wanted.alternatives, runtime.get(index + 1), title)
        for index in compared
        for title, wanted in (golden[index],)
        if runtime.get(index + 1) not in wanted.alternatives
    )
    return MeasurementComparison(
        matched=len(compared) - len(mismatched),
        total=len(compared),
        mismatched=mismatched,
        conflicts=tuple(sorted(conflicts)),
        skipped=tuple(sorted(skipped)),
        without_golden=tuple(sorted({block - 1 for block in runtime} - golden.keys())),
        rim_problem=_pair_problem(driver, vbios),
    )


def _golden(rim: Rim) -> dict[int, tuple[str, GoldenMeasurement]]:
    """Index → title of the RIM, and what it says of that measurement."""
    title = rim.title
    return {index: (title, each) for index, each in rim.measurements.items() if each.active}


def _pair_problem(driver: Rim | None, vbios: Rim) -> str | None:
    kinds = (driver.kind if driver else None, vbios.kind)
    if kinds not in ((RimKind.DRIVER, RimKind.VBIOS), (None, RimKind.SWITCH_BIOS)):
        given = " and ".join(kind.value for kind in kinds if kind)
        return f"a GPU needs a driver and a VBIOS RIM, a switch a switch BIOS RIM; given: {given}"
    if driver and driver.model != vbios.model:
        return f"the {driver.title} and the {vbios.title} are for different chips"
    return None
