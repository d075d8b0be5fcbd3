"""What comes of holding an observation against itself and signed evidence: the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from ccverify.fabric.observation import Absent, GpuObservation, Reading

__all__ = [
    "NOT_STATED",
    "AttestedGpu",
    "ByteOrder",
    "FabricCode",
    "FabricConsistency",
    "FabricGap",
    "FabricProblem",
    "Found",
    "GpuMatch",
    "place_of",
    "shown",
]

NOT_STATED: Final = "NOT_STATED"
"""The mode of a GPU whose report names none."""


@dataclass(frozen=True, slots=True)
class AttestedGpu:
    """A GPU whose report is genuine.

    Attributes:
        subject: its name in the verdict, such as ``gpu-0``.
        device_id: the certified PDI, 8 bytes big endian.
        mode: the mode it signed, such as ``MPT``; `NOT_STATED` where it names none.
        architecture: from its certificate chain, such as ``BLACKWELL-GB100``.
        driver: the version it signed.
        vbios: the version it signed.
        uuid: as its collector says; nobody signs it.
    """

    subject: str
    device_id: bytes
    mode: str
    architecture: str | None = None
    driver: str | None = None
    vbios: str | None = None
    uuid: str | None = None


class FabricCode(str, Enum):
    """The rules."""

    IDENTITY = "FABRIC-IDENTITY"
    """A GPU's PDI is not the certified one, or is in another byte order than the rest."""
    UNATTESTED = "FABRIC-UNATTESTED"
    """The driver sees a GPU that did not attest."""
    UNSEEN = "FABRIC-UNSEEN"
    """A GPU attested that the driver does not see."""
    DISTINCT = "FABRIC-DISTINCT"
    """Two GPUs share a PDI, UUID or PCI address."""
    MODULE = "FABRIC-MODULE"
    """Two GPUs share a module id."""
    VERSIONS = "FABRIC-VERSIONS"
    """Driver, VBIOS or architecture are not those that the GPU signed."""
    MODE_AGREES = "FABRIC-MODE-AGREES"
    """The driver runs another mode than the GPUs signed, or they signed several."""
    CLIQUE = "FABRIC-CLIQUE"
    """The GPUs are not of one cluster and one clique."""
    STATE = "FABRIC-STATE"
    """A GPU's registration with the fabric is not completed, or failed."""
    HEALTH = "FABRIC-HEALTH"
    """A GPU's health mask or summary speaks of a fault."""
    LINKS = "FABRIC-LINKS"
    """NVLinks are down, or not as many as the partition has."""
    NVLE = "FABRIC-NVLE"
    """NVLink encryption is not on where the mode promises it."""


class ByteOrder(str, Enum):
    """How NVML's PDI stands to the serial number of certificate [1]."""

    CERTIFICATE = "certificate"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class FabricProblem:
    """One contradiction or fault.

    Attributes:
        code: the rule.
        where: the GPU, as ``gpus[0]`` of the observation or by subject; or the group.
        expected: what would have been right.
        found: what the sources say.
    """

    code: FabricCode
    where: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class FabricGap:
    """Why a rule could not be applied."""

    code: FabricCode
    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class GpuMatch:
    """An attested GPU, and its index in the observation, joined by PDI."""

    subject: str
    index: int


@dataclass(frozen=True, slots=True)
class FabricConsistency:
    """What came of all rules.

    Attributes:
        matches: GPUs that are in both, in the order of the attested ones.
        order: the byte order in which their PDIs match; None where none does.
        shared: whether GPUs may be connected to each other: several of them that do not all
            sign SPT, or a mode of GPUs behind NVSwitches.  Rules on a fabric mean nothing
            otherwise.
        problems: in the order of the rules.
        gaps: likewise.
    """

    matches: tuple[GpuMatch, ...]
    order: ByteOrder | None
    shared: bool
    problems: tuple[FabricProblem, ...]
    gaps: tuple[FabricGap, ...]

    def problems_of(self, code: FabricCode) -> tuple[FabricProblem, ...]:
        """Problems of one rule."""
        return tuple(each for each in self.problems if each.code is code)

    def gaps_of(self, code: FabricCode) -> tuple[FabricGap, ...]:
        """Why one rule could not be applied everywhere."""
        return tuple(each for each in self.gaps if each.code is code)


Found: TypeAlias = Iterator[FabricProblem | FabricGap]
"""What a rule yields."""


def place_of(gpu: GpuObservation) -> str:
    """Where a GPU stands in the observation."""
    return f"gpus[{gpu.index}]"


def shown(value: Reading[str] | Reading[int]) -> str:
    """A reading as text: the value, or NVML's return code."""
    return value.code if isinstance(value, Absent) else str(value)
