"""Sanitising, wrapping and laying out: no evidence reaches a terminal as it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.results.render.text import (
    MAX_ITEMS,
    MAX_VALUE_CHARACTERS,
    Page,
    Style,
    escape_json_for_terminal,
    fit_encoding,
    sanitise,
    wrap,
)

HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "colour": "\x1b[32mTRUSTED\x1b[0m",
    "c1": "\x9b31m",
    "line": "ok\n✓ TRUSTED",
    "return": "✗ UNTRUSTED\r✓ TRUSTED  ",
    "backspace": "UN\b\bTRUSTED",
    "delete": "\x7f",
    "bidi": "\u202edetsurt\u2066",
    "zero width": "T\u200bR",
    "separator": "a\u2028b\u2029c",
    "tag": "\U000e0041",
    "surrogate": "\ud800",
    "nul": "\0",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_sanitised_text_is_printable(text: str) -> None:
    assert not text.isprintable()
    assert sanitise(text).isprintable()


def test_escapes_say_what_was_there() -> None:
    assert sanitise("a\x1bb\u202ec\U000e0041") == "a\\x1bb\\u202ec\\U000e0041"
    assert sanitise("Grüße, 検証 ✓") == "Grüße, 検証 ✓"


@given(st.text())
def test_sanitising_is_idempotent_and_printable(text: str) -> None:
    once = sanitise(text)
    assert once.isprintable()
    assert sanitise(once) == once


@given(st.text(), st.integers(24, 200))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    clean = sanitise(text)
    lines = wrap(clean, width)
    assert lines
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(clean.split())


@pytest.mark.parametrize("size", [96, 128])
def test_hex_is_cut_into_equal_pieces(size: int) -> None:
    lines = wrap("a" * size, 52)
    assert len({len(line) for line in lines[:-1]}) == 1
    assert all(len(line) % 8 == 0 for line in lines)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_nothing_hostile_gets_through_a_page(text: str) -> None:
    page = Page(80)
    page.heading(text)
    page.paragraph(text, indent=2, hanging=2)
    page.spans((text, Style.BAD), indent=2)
    page.rows([(text, text), ("x", (text, text))], indent=2, header=(text, text))
    assert page.text().replace("\n", "").isprintable()


def test_spaces_cannot_push_text_to_a_new_line() -> None:
    page = Page(60)
    page.rows([("found", "x" + " " * 200 + "✓ TRUSTED")], indent=4)
    assert page.text() == "    found  x ✓ TRUSTED\n"


def test_long_evidence_cannot_begin_a_line() -> None:
    page = Page(60)
    page.rows([("found", "word " * 40 + "✓ TRUSTED")], indent=4)
    first, *rest = page.text().splitlines()
    assert first.startswith("    found  ")
    assert rest
    assert all(line.startswith(" " * 11) for line in rest)


@given(
    st.lists(st.tuples(st.text(max_size=12), st.text()), max_size=6),
    st.integers(0, 200),
    st.booleans(),
)
def test_every_line_fits_the_page(rows: list[tuple[str, str]], width: int, color: bool) -> None:
    plain, painted = Page(width), Page(width, color=color)
    for page in (plain, painted):
        page.rows([("x", *row) for row in rows if row[0].isprintable()], indent=2)
    assert all(len(line) <= max(width, 60) for line in plain.text().splitlines())
    assert painted.text() == plain.text()  # no style was asked for


def test_colours_are_added_last_and_only_when_asked() -> None:
    for color, expected in ((True, "\x1b[1;31mbad\x1b[0m\n"), (False, "bad\n")):
        page = Page(80, color=color)
        page.spans(("bad", Style.BAD))
        assert page.text() == expected


def test_rows_align_and_lists_begin_lines() -> None:
    page = Page(60)
    page.rows([("a", "hardware", "one"), ("long", "none", ("two", "three"))], indent=2)
    assert page.text().splitlines() == [
        "  a     hardware  one",
        "  long  none      two",
        "                  three",
    ]


def test_a_page_stays_small() -> None:
    page = Page(80)
    page.rows([("x", "y" * 10**6), ("z", tuple("item" for _ in range(10_000)))])
    page.paragraph("w " * 10**6)
    assert len(page.text()) < 4 * MAX_VALUE_CHARACTERS + 20 * MAX_ITEMS
    assert "1000000 characters in all" in page.text()
    assert f"{10_000 - MAX_ITEMS} more" in page.text()


def test_symbols_degrade_to_ascii() -> None:
    assert fit_encoding("✓ ✗ ? – …", "ascii") == "+ x ? - ..."
    assert fit_encoding("検", "latin-1") == "\\u691c"
    assert fit_encoding("✓ Grüße", "utf-8") == "✓ Grüße"
    assert fit_encoding("✓", "no-such-encoding") == "+"


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp437", "cp1252", "utf-8"]))
def test_fitted_text_can_be_encoded(text: str, encoding: str) -> None:
    fit_encoding(text, encoding).encode(encoding)


@given(st.recursive(st.text() | st.none() | st.integers(), st.lists, max_leaves=8))
def test_json_for_a_terminal_means_the_same(value: object) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    shown = escape_json_for_terminal(text)
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown) == json.loads(text)


def test_json_for_a_terminal_escapes_c1_and_bidi() -> None:
    assert escape_json_for_terminal('"\x9b\u202e\U000e0041"') == '"\\u009b\\u202e\\udb40\\udc41"'
