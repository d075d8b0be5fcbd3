"""Bits of TDATTRIBUTES and XFAM, as tables.

Source: Intel TDX Module ABI specification, "TDATTRIBUTES" and "XFAM".  Policies name bits by
the keys of these tables; the default of each says what a policy means that is silent on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "TD_ATTRIBUTES",
    "XFAM_FEATURES",
    "XFAM_FIXED_0",
    "XFAM_FIXED_1",
    "Rule",
    "TdAttribute",
    "XfamFeature",
    "attribute_names",
    "reserved_attribute_bits",
    "xfam_names",
]


class Rule(str, Enum):
    """What a policy demands of one bit."""

    REQUIRE = "require"
    FORBID = "forbid"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class TdAttribute:
    """One defined bit of TDATTRIBUTES (64 bits, little endian)."""

    key: str
    bit: int
    default: Rule
    meaning: str


TD_ATTRIBUTES = (
    TdAttribute("debug", 0, Rule.FORBID, "the host can read and change the TD's memory and state"),
    TdAttribute("hgs_plus_prof", 4, Rule.FORBID, "the host may profile the TD with HGS+"),
    TdAttribute("perf_prof", 5, Rule.FORBID, "the host may profile the TD's performance"),
    TdAttribute("pmt_prof", 6, Rule.FORBID, "the host may read the TD's telemetry"),
    TdAttribute(
        "icssd", 16, Rule.ALLOW, "instruction-count-based defence against single stepping is on"
    ),
    TdAttribute("lass", 27, Rule.ALLOW, "linear address space separation is on"),
    TdAttribute(
        "sept_ve_disable",
        28,
        Rule.REQUIRE,
        "pages the host removes stop the TD instead of raising an exception inside it",
    ),
    TdAttribute("migratable", 29, Rule.FORBID, "the TD can be moved by a migration TD"),
    TdAttribute("pks", 30, Rule.ALLOW, "the TD may use protection keys for supervisor pages"),
    TdAttribute("kl", 31, Rule.ALLOW, "the TD may use Key Locker"),
    TdAttribute("tpa", 62, Rule.FORBID, "the TD is a TDX provisioning agent"),
    TdAttribute("perfmon", 63, Rule.FORBID, "the TD may use performance monitoring"),
)


@dataclass(frozen=True, slots=True)
class XfamFeature:
    """One group of bits of XFAM, laid out like XCR0 and IA32_XSS."""

    key: str
    mask: int
    meaning: str


XFAM_FEATURES = (
    XfamFeature("x87", 1 << 0, "x87 floating point"),
    XfamFeature("sse", 1 << 1, "SSE"),
    XfamFeature("avx", 1 << 2, "AVX"),
    XfamFeature("avx512", 0b111 << 5, "AVX-512"),
    XfamFeature("pt", 1 << 8, "processor trace"),
    XfamFeature("pkru", 1 << 9, "protection keys for user pages"),
    XfamFeature("cet", 0b11 << 11, "control-flow enforcement"),
    XfamFeature("uli", 1 << 14, "user-level interrupts"),
    XfamFeature("lbr", 1 << 15, "last branch records"),
    XfamFeature("amx", 0b11 << 17, "AMX"),
)

XFAM_FIXED_1 = 0x3
"""Bits the TDX module forces to one: x87 and SSE."""

XFAM_FIXED_0 = ~sum(feature.mask for feature in XFAM_FEATURES) & (1 << 64) - 1
"""Bits no feature of the table uses: they must be zero."""


def attribute_names(value: int) -> tuple[str, ...]:
    """Keys of the TDATTRIBUTES bits that are set, in bit order; unknown bits as ``bit_N``."""
    known = {attribute.bit: attribute.key for attribute in TD_ATTRIBUTES}
    return tuple(known.get(bit, f"bit_{bit}") for bit in range(64) if value >> bit & 1)


def reserved_attribute_bits(value: int) -> int:
    """The set bits of TDATTRIBUTES that the table does not define."""
    return value & ~sum(1 << attribute.bit for attribute in TD_ATTRIBUTES)


def xfam_names(value: int) -> tuple[str, ...]:
    """Keys of the XFAM features that are on, wholly or in part."""
    return tuple(feature.key for feature in XFAM_FEATURES if value & feature.mask)
