"""Tables of TDATTRIBUTES and XFAM bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.tdx.attributes import (
    TD_ATTRIBUTES,
    XFAM_FEATURES,
    XFAM_FIXED_0,
    XFAM_FIXED_1,
    Rule,
    attribute_names,
    reserved_attribute_bits,
    xfam_names,
)

U64 = st.integers(0, (1 << 64) - 1)


def test_the_table_of_attributes() -> None:
    assert {a.key: (a.bit, a.default) for a in TD_ATTRIBUTES} == {
        "debug": (0, Rule.FORBID),
        "hgs_plus_prof": (4, Rule.FORBID),
        "perf_prof": (5, Rule.FORBID),
        "pmt_prof": (6, Rule.FORBID),
        "icssd": (16, Rule.ALLOW),
        "lass": (27, Rule.ALLOW),
        "sept_ve_disable": (28, Rule.REQUIRE),
        "migratable": (29, Rule.FORBID),
        "pks": (30, Rule.ALLOW),
        "kl": (31, Rule.ALLOW),
        "tpa": (62, Rule.FORBID),
        "perfmon": (63, Rule.FORBID),
    }
    assert [a.bit for a in TD_ATTRIBUTES] == sorted({a.bit for a in TD_ATTRIBUTES})
    assert all(a.meaning for a in TD_ATTRIBUTES)


def test_every_bit_that_weakens_isolation_is_forbidden_by_default() -> None:
    """Bits 0 to 7 are the TD-under-debug group: any of them makes a TD untrusted."""
    assert all(a.default is Rule.FORBID for a in TD_ATTRIBUTES if a.bit < 8)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (0, ()),
        (0x10000000, ("sept_ve_disable",)),
        (0x10000001, ("debug", "sept_ve_disable")),
        (0x40000000, ("pks",)),
        (0x8000000010000000, ("sept_ve_disable", "perfmon")),
        (1 << 17 | 1 << 2, ("bit_2", "bit_17")),
    ],
)
def test_names_of_seen_values(value: int, names: tuple[str, ...]) -> None:
    assert attribute_names(value) == names


@given(U64)
def test_every_set_bit_has_one_name(value: int) -> None:
    names = attribute_names(value)
    assert len(names) == value.bit_count() == len(set(names))
    reserved = reserved_attribute_bits(value)
    assert reserved.bit_count() == sum(name.startswith("bit_") for name in names)
    assert reserved & value == reserved


def test_features_do_not_overlap() -> None:
    masks = [feature.mask for feature in XFAM_FEATURES]
    union = 0
    for mask in masks:
        assert mask
        assert not union & mask
        union |= mask
    assert union == ~XFAM_FIXED_0 & (1 << 64) - 1
    assert XFAM_FIXED_1 & union == XFAM_FIXED_1 == 3


@pytest.mark.parametrize("value", [0x602E7, 0x6E7 & ~0x400, 0x600E7, 0x618E7, 0x61AE7, 0x642E7])
def test_values_seen_in_real_quotes_have_no_unknown_bit(value: int) -> None:
    assert not value & XFAM_FIXED_0
    assert value & XFAM_FIXED_1 == XFAM_FIXED_1


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (0, ()),
        (0x3, ("x87", "sse")),
        (0x602E7, ("x87", "sse", "avx", "avx512", "pkru", "amx")),
        (0x618E7, ("x87", "sse", "avx", "avx512", "cet", "amx")),
        (1 << 5, ("avx512",)),
        (1 << 40, ()),
    ],
)
def test_feature_names(value: int, names: tuple[str, ...]) -> None:
    assert xfam_names(value) == names
