"""The first few texts, and how many more there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.listing import listed


@pytest.mark.parametrize(
    ("texts", "most", "expected"),
    [
        ([], 2, ""),
        (["a"], 2, "a"),
        (["a", "b"], 2, "a; b"),
        (["a", "b", "c"], 2, "a; b; and 1 more"),
        (["a", "b", "c", "d"], 1, "a; and 3 more"),
    ],
)
def test_what_is_left_out_is_counted(texts: list[str], most: int, expected: str) -> None:
    assert listed(texts, most) == expected
    assert listed(iter(texts), most) == expected


@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=1), st.integers(1, 9))
def test_no_more_is_told_than_asked_for(texts: list[str], most: int) -> None:
    told = listed(texts, most).split("; ")
    assert told[:most] == texts[:most]
    assert len(told) == min(len(texts), most) + (len(texts) > most)
