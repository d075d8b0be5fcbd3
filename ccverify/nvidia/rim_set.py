"""Which reference manifest (RIM) a device needs, and where it is found.

NVIDIA files RIMs under ids put together from what a device reports.  Here they are found by
what they say of themselves, because the id is not part of what is signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ccverify.errors import CollateralError, EvidenceError
from ccverify.nvidia.rim import (
    CHIP,
    DRIVER_VERSION,
    VBIOS_VERSION,
    Rim,
    RimKind,
    RimVerification,
    parse_rim,
    verify_rim,
)
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.signatures import SignatureMemory

__all__ = ["RimChoice", "RimId", "RimSet", "StoredRim", "gpu_rim_ids", "switch_rim_id"]

_PART = re.compile(r"[A-Z0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class RimId:
    """The name NVIDIA files a RIM under, and what of it the signed content repeats.

    Project, project SKU and chip SKU in a VBIOS RIM's id are nowhere in the RIM itself: they
    hold only as far as one trusts whoever filed it under that id.
    """

    text: str
    kind: RimKind
    model: str
    version: str

    def problem_with(self, rim: Rim) -> str | None:
        """Why this RIM is not the one that is meant; None if it is."""
        wanted, found = (self.kind, self.model, self.version), (rim.kind, rim.model, rim.version)
        if wanted == found:
            return None
        return f"it is the {rim.title}, not the {self.kind.value} RIM {self.model} {self.version}"


def gpu_rim_ids(
    *,
    architecture: str,
    driver_version: str,
    vbios_version: str,
    project: str,
    project_sku: str,
    chip_sku: str,
    chip_info: str | None = None,
) -> tuple[RimId, RimId]:
    """The ids of the driver RIM and the VBIOS RIM of a GPU, from what its report says.

    Args:
        architecture: ``HOPPER`` or ``BLACKWELL``.
        driver_version: as in ``550.90.07``.
        vbios_version: as in ``96.00.9F.00.01``; letters of either case.
        project: as in ``1010`` or ``G520``.
        project_sku: as in ``0200``.
        chip_sku: as in ``882``.
        chip_info: the chip, as in ``GB202``; Hopper and old Blackwell drivers do not say.

    Raises:
        EvidenceError: unknown architecture, or a part has not the form it must have; no id
            holds anything that could be part of a path or an address.
    """
    known = {"HOPPER": ("GH100", "NV_GPU_DRIVER"), "BLACKWELL": ("GB100", "NV_GPU_CC_DRIVER")}
    if architecture not in known:
        raise _odd("architecture", " or ".join(known), architecture)
    usual, prefix = known[architecture]
    chip = usual if chip_info is None else _part("chip", chip_info, CHIP)
    if chip[:2] != usual[:2] or (architecture == "HOPPER" and chip != usual):
        raise _odd(f"chip of {architecture}", f"{usual} or a relative", chip)
    driver = _part("driver version", driver_version, DRIVER_VERSION)
    vbios = _part("VBIOS version", vbios_version, VBIOS_VERSION)
    board = [_part("project", project), _part("project SKU", project_sku)]
    board.append(_part("chip SKU", chip_sku))
    vbios_id = "_".join(["NV_GPU_VBIOS", *board, vbios.replace(".", "")])
    return (
        RimId(f"{prefix}_{chip}_{driver}", RimKind.DRIVER, chip, driver),
        RimId(vbios_id, RimKind.VBIOS, chip, vbios),
    )


def switch_rim_id(bios_version: str) -> RimId:
    """The id of an LS10 switch's BIOS RIM; NVIDIA has one project, SKU and chip for them all.

    Raises:
        EvidenceError: the version is not of the form ``96.10.55.00.01``.
    """
    bios = _part("switch BIOS version", bios_version, VBIOS_VERSION)
    text = "NV_SWITCH_BIOS_5612_0002_890_" + bios.replace(".", "")
    return RimId(text, RimKind.SWITCH_BIOS, "LS10", bios)


def _part(what: str, text: str, form: re.Pattern[str] = _PART) -> str:
    if not text.isascii() or not form.fullmatch(text.upper()):
        raise _odd(what, form.pattern, text)
    return text.upper()


def _odd(what: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(f"no RIM id: {what}", expected=expected, found=found[:80])


@dataclass(frozen=True, slots=True)
class StoredRim:
    """A RIM, the name it was filed under, and the XML it was read from."""

    name: str
    rim: Rim
    xml: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RimChoice:
    """The RIM to use for one id, or why there is none.

    Attributes:
        verification: of the RIM chosen; its signer may have expired.
        name: the name it was filed under.
        problem: why nothing could be chosen.
        refused: candidates that are not authentic: name → why.
        conflict: genuine candidates state different golden values.
    """

    verification: RimVerification | None
    name: str | None
    problem: str | None
    refused: Mapping[str, str]
    conflict: bool = False


_BOARD_ID = re.compile(r"NV_GPU_VBIOS(?:_[A-Z0-9]{1,12}){3}_[0-9A-F]{10}(?=\.[A-Z]+$|$)")


@dataclass(frozen=True, slots=True)
class RimSet:
    """RIMs by content: a name can keep a RIM out, never bring one in.

    Attributes:
        rims: everything that parsed, in the order given.
        unreadable: name → why it did not parse.
    """

    rims: tuple[StoredRim, ...]
    unreadable: Mapping[str, str]

    @classmethod
    def of(cls, items: Iterable[tuple[str, bytes]]) -> RimSet:
        """Parse named files; one bad file takes nothing from the others."""
        rims, unreadable = [], {}
        for name, data in items:
            try:
                rims.append(StoredRim(name, parse_rim(data), bytes(data)))
            except CollateralError as problem:
                unreadable[name] = problem.message
        return cls(tuple(rims), unreadable)

    def find(self, wanted: RimId) -> tuple[StoredRim, ...]:
        """RIMs of this kind, chip and version, but for those filed under another board's id."""
        return tuple(
            stored
            for stored in self.rims
            if wanted.problem_with(stored.rim) is None and _board(stored.name, wanted) is None
        )

    def choose(
        self, wanted: RimId, root: TrustAnchor, memory: SignatureMemory, now: datetime
    ) -> RimChoice:
        """Verify the candidates and choose: an unexpired signer first, then the later expiry.

        If NVIDIA signed two RIMs of one kind, chip and version with different golden values,
        that is a conflict, and none is chosen.
        """
        verified = [(each, verify_rim(each.rim, root, memory, now)) for each in self.find(wanted)]
        refused = {each.name: text for each, v in verified if v.rim is None and (text := v.problem)}
        good = [(each.name, v) for each, v in verified if v.rim is not None]
        if not good:
            why = f"all {len(refused)} candidates are refused" if refused else "no such RIM"
            return RimChoice(None, None, f"{wanted.text}: {why}", refused)
        first = good[0][1].rim
        others = [n for n, v in good[1:] if v.rim and first and v.rim.golden != first.golden]
        if others:
            names = f"{good[0][0]} and {others[0]}"
            text = f"{wanted.text}: {names} are both signed and state different golden values"
            return RimChoice(None, None, text, refused, conflict=True)
        name, best = max(good, key=lambda one: (not one[1].validity_problem, one[1].valid_until))
        return RimChoice(best, name, None, refused)


def _board(name: str, wanted: RimId) -> str | None:
    """The id of another board that a file name states."""
    stated = _BOARD_ID.search(name.upper()) if wanted.kind is RimKind.VBIOS else None
    return stated[0] if stated and stated[0] != wanted.text else None
