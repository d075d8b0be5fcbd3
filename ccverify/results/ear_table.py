"""How findings become an AR4SI trustworthiness vector (draft-ietf-rats-ar4si §2.3), as data.

Every check of a part belongs to one row.  A row says which claim of the vector the check
supports, what that claim becomes when the check fails, and whether the claim may be affirmed
without it.  docs/ear.md prints this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

__all__ = ["AFFIRMED", "CLAIM_KEYS", "PARTS", "Part", "Row", "Tier", "tier_of"]


class Tier(IntEnum):
    """Trustworthiness tiers (AR4SI §3.2); the greater the number, the graver."""

    NONE = 0
    AFFIRMING = 2
    WARNING = 32
    CONTRAINDICATED = 96


def tier_of(value: int) -> Tier:
    """The tier of one claim of a vector; only values 0 to 127 are ever made here."""
    for tier in (Tier.CONTRAINDICATED, Tier.WARNING, Tier.AFFIRMING):
        if value >= tier:
            return tier
    return Tier.NONE


CLAIM_KEYS: Final[Mapping[str, int]] = {
    "instance-identity": 0,
    "configuration": 1,
    "executables": 2,
    "file-system": 3,
    "hardware": 4,
    "runtime-opaque": 5,
    "storage-opaque": 6,
    "sourced-data": 7,
}
"""Claims of the vector and their keys in CBOR.  Of file system, storage and sourced data no
evidence that is judged here says anything, so those three are never made."""

AFFIRMED: Final[Mapping[str, int]] = {
    "instance-identity": 2,
    "configuration": 2,
    "executables": 3,
    "hardware": 2,
    "runtime-opaque": 2,
}
"""What a claim becomes when everything it rests on passed.  Executables are 3, approved code
was loaded during boot, and never 2: code that extends no register leaves no trace."""

NOTHING, CONTRAINDICATED, UNRECOGNISED, INVALID = 0, 96, 97, 99


class Row(NamedTuple):
    """Some checks of one part.

    Attributes:
        claim: the claim they support; None: they bear on the status of the part alone.
        on_fail: value of the claim when one fails; 0: nothing is said.
        needed: whether each must pass, on signed ground, for the claim to be affirmed.
        codes: of the checks; ``*`` at the end stands for any end.
    """

    claim: str | None
    on_fail: int
    needed: bool
    codes: tuple[str, ...]


class Part(NamedTuple):
    """A kind of submodule.

    Attributes:
        anchor: the claim without which nothing about the part is affirmed.
        rows: every check of the part.
    """

    anchor: str
    rows: tuple[Row, ...]


def _row(claim: str | None, on_fail: int, codes: str, *, needed: bool = True) -> Row:
    return Row(claim, on_fail, needed, tuple(codes.split()))


_TDX = Part(
    "hardware",
    (
        _row("hardware", INVALID, "TDX-QUOTE-FORMAT TDX-EVENTLOG-FORMAT", needed=False),
        _row(
            "hardware",
            INVALID,
            "TDX-PCK-CHAIN TDX-PCK-EXTENSION TDX-ROOT-CRL-SIGNATURE TDX-PCK-CRL-SIGNATURE "
            "TDX-TCB-INFO-SIGNATURE TDX-QE-IDENTITY-SIGNATURE TDX-QE-REPORT-SIGNATURE "
            "TDX-QE-KEY-BINDING TDX-QUOTE-SIGNATURE",
        ),
        _row("hardware", UNRECOGNISED, "TDX-QE-VENDOR TDX-QE-IDENTITY-MATCH TDX-MODULE-IDENTITY"),
        _row(
            "hardware",
            CONTRAINDICATED,
            "TDX-CA-REVOCATION TDX-PCK-REVOCATION TDX-SEAM-ATTRIBUTES TDX-TCB-LEVEL TDX-QE-TCB "
            "TDX-TCB-STATUS",
        ),
        _row(
            "hardware",
            CONTRAINDICATED,
            "TDX-MODULE-TCB TDX-TCB-ADVISORIES TDX-TEE-TCB-SVN TDX-MRSEAM",
            needed=False,
        ),
        _row(
            "hardware",
            NOTHING,
            "TDX-PCK-VALIDITY TDX-ROOT-CRL-FRESH TDX-PCK-CRL-FRESH TDX-TCB-INFO-FRESH "
            "TDX-TCB-INFO-MATCH TDX-QE-IDENTITY-FRESH TDX-COLLATERAL-ROLLBACK",
        ),
        _row(
            "hardware",
            NOTHING,
            "TDX-COLLATERAL-FIELDS TDX-COLLATERAL-AGE TDX-EVALUATION-NUMBER",
            needed=False,
        ),
        _row("instance-identity", UNRECOGNISED, "TDX-PLATFORM"),
        _row("runtime-opaque", CONTRAINDICATED, "TDX-ATTR-DEBUG"),
        _row("configuration", CONTRAINDICATED, "TDX-ATTR-* TDX-XFAM"),
        _row(
            "configuration",
            CONTRAINDICATED,
            "TDX-SERVICE-TD TDX-MRCONFIGID TDX-MROWNER TDX-MROWNERCONFIG",
            needed=False,
        ),
        _row("executables", CONTRAINDICATED, "TDX-MRTD TDX-RTMR0 TDX-RTMR1 TDX-RTMR2"),
        _row("executables", CONTRAINDICATED, "TDX-RTMR3 TDX-EVENTLOG-*", needed=False),
        _row(None, CONTRAINDICATED, "TDX-REPORT-DATA"),
        _row(None, NOTHING, "TDX-TCB-RELAUNCH", needed=False),
    ),
)


def _device(prefix: str) -> Part:
    def row(claim: str | None, on_fail: int, names: str, *, needed: bool = True) -> Row:
        codes = " ".join(f"{prefix}-{name}" for name in names.split())
        return _row(claim, on_fail, codes, needed=needed)

    versions = "DRIVER VBIOS FIRMWARE-LIST" if prefix == "GPU" else "BIOS FIRMWARE-LIST"
    mode = (row("configuration", CONTRAINDICATED, "MODE"),) if prefix == "GPU" else ()
    return Part(
        "hardware",
        (
            row("hardware", INVALID, "REPORT-FORMAT", needed=False),
            row("hardware", INVALID, "CHAIN IDENTITY REPORT-SIGNATURE ARCHITECTURE-CLAIM"),
            row("hardware", UNRECOGNISED, "ARCHITECTURE", needed=False),
            row("hardware", CONTRAINDICATED, "REVOCATION"),
            row("hardware", CONTRAINDICATED, "FWID", needed=False),
            row("hardware", NOTHING, "CHAIN-VALIDITY REVOCATION-FRESH"),
            row("instance-identity", UNRECOGNISED, "DEVICE-LIST"),
            *mode,
            row("executables", INVALID, "RIM-SIGNATURE"),
            row("executables", CONTRAINDICATED, "RIM-REVOCATION MEASUREMENTS"),
            row("executables", CONTRAINDICATED, versions, needed=False),
            row("executables", NOTHING, "RIM RIM-VALIDITY"),
            row(None, CONTRAINDICATED, "NONCE"),
        ),
    )


_FABRIC = Part(
    "configuration",
    (
        _row("configuration", CONTRAINDICATED, "TOPOLOGY-*"),
        # No device signs what guest or manager say of a fabric: it can speak against it, never
        # for it.
        _row("configuration", CONTRAINDICATED, "FABRIC-* ROUTE-*", needed=False),
    ),
)

PARTS: Final[Mapping[str, Part]] = {
    "tdx": _TDX,
    "gpu": _device("GPU"),
    "nvswitch": _device("NVSWITCH"),
    "fabric": _FABRIC,
}
"""Kind of submodule → its rows.  Within a part the first row that fits a code is its row; a
code that fits none concerns the node, and so every part of it."""
