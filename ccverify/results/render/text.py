"""Text for a terminal: sanitised, wrapped, aligned, and coloured last.

Evidence is hostile, and its strings end up on somebody's screen.  Whatever is put on a `Page`
passes `sanitise`; colour is added afterwards, so the only control characters in a finished
page are its own line ends and the colours asked for.  White space is collapsed and wrapped
lines are indented, so that no string can imitate a line of the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

__all__ = [
    "MAX_ITEMS",
    "MAX_LABEL",
    "MAX_VALUE_CHARACTERS",
    "Cell",
    "Page",
    "Style",
    "escape_json_for_terminal",
    "fit_encoding",
    "sanitise",
    "wrap",
]

MAX_VALUE_CHARACTERS = 1200
"""Longest value shown in full; JSON output has all of it."""

MAX_LABEL = 64
"""Widest column that is not the last."""

MAX_ITEMS = 64
"""Most items of a list shown."""

MIN_WIDTH = 60

Cell = str | tuple[str, ...]
"""A text, or a list of texts that each begin a line."""

_PLAIN_SYMBOLS = str.maketrans(
    {
        "✓": "+",
        "✗": "x",
        "–": "-",
        "—": "-",
        "…": "...",
        "‖": "||",
        "×": "x",
        "→": "->",
        "·": ".",
        "─": "-",
        "│": "|",
        "┬": "+",
        "╭": "+",
        "╮": "+",
        "╯": "+",
        "╰": "+",
        "═": "=",
        "╪": "+",
        "╧": "+",
    }
)


class Style(str, Enum):
    """Why a text stands out; the value is its SGR parameter (ECMA-48, 8.3.117)."""

    GOOD = "32"
    BAD = "1;31"
    WARN = "33"
    STRONG = "1"
    DIM = "2"
    CYAN = "36"
    MAGENTA = "35"
    BLUE = "94"


def sanitise(text: str) -> str:
    r"""Return `text` with every unprintable character replaced by its escape, ``\x1b``.

    Replaced are C0 and C1 controls, DEL, line and paragraph separators, format characters
    (bidirectional overrides, zero-width characters), surrogates and unassigned code points:
    what `str.isprintable` refuses.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def _escape(point: int) -> str:
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def escape_json_for_terminal(text: str) -> str:
    r"""Return JSON text of the same meaning without raw unprintable characters.

    JSON needs escapes only below U+0020; C1 controls and bidirectional overrides may stand in
    it as they are, and a terminal would obey them.  Line ends between tokens are kept.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else _json_escape(c) for c in text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def fit_encoding(text: str, encoding: str) -> str:
    """Return `text` as far as `encoding` can print it: symbols become ASCII, others escapes."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN_SYMBOLS)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return fit_encoding(text, "ascii")
    return text


_NARROWEST = 16


def wrap(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` characters; never returns an empty list.

    A word longer than a line, such as a hash, is cut into pieces of equal length.  Where a
    long label has left no room, lines of `_NARROWEST` characters run over the edge.
    """
    width = max(width, _NARROWEST)
    lines: list[str] = []
    current = ""
    for word in text.split():
        if current and len(current) + 1 + len(word) <= width:
            current += f" {word}"
            continue
        if current:
            lines.append(current)
        *whole, current = _pieces(word, width)
        lines += whole
    return [*lines, current] if current or not lines else lines


def _pieces(word: str, width: int) -> list[str]:
    count = -(-len(word) // width)
    even = -(-len(word) // count)
    size = min(-(-even // 8) * 8, width)
    return [word[at : at + size] for at in range(0, len(word), size)]


def _value_lines(cell: Cell, width: int) -> list[str]:
    """Lay out the last cell of a row; of a list, every item begins a line."""
    if isinstance(cell, str):
        return wrap(sanitise(_clip(cell)), width)
    lines = []
    for item in cell[:MAX_ITEMS]:
        first, *rest = wrap(sanitise(_clip(item)), width - 2)
        lines += [first, *(f"  {line}" for line in rest)]
    if len(cell) > MAX_ITEMS:
        lines.append(f"… and {len(cell) - MAX_ITEMS} more")
    return lines or [""]


def _labels(row: Sequence[Cell]) -> list[str]:
    shown = [sanitise(cell[:MAX_LABEL]) for cell in row[:-1] if isinstance(cell, str)]
    return [cell if len(cell) <= MAX_LABEL else f"{cell[: MAX_LABEL - 1]}…" for cell in shown]


def _clip(text: str) -> str:
    if len(text) <= MAX_VALUE_CHARACTERS:
        return text
    return f"{text[:MAX_VALUE_CHARACTERS]} … ({len(text)} characters in all)"


class Page:
    """Lines of text of a given width; see the module for what it guarantees.

    Args:
        width: columns of the terminal; fewer than 60 count as 60.
        color: whether styles become escape sequences.
    """

    __slots__ = ("_color", "_lines", "_width")

    def __init__(self, width: int, *, color: bool = False) -> None:
        self._width = max(width, MIN_WIDTH)
        self._color = color
        self._lines: list[str] = []

    @property
    def width(self) -> int:
        """Columns of a line."""
        return self._width

    def text(self) -> str:
        """Return the page, ending in a line end."""
        return "\n".join(self._lines) + "\n"

    def blank(self) -> None:
        """Add an empty line, unless the page has just begun or the last line is empty."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def heading(self, text: str, style: Style = Style.STRONG) -> None:
        """Add a line that begins a part, after an empty line."""
        self.blank()
        self.paragraph(text, style=style)

    def paragraph(
        self, text: str, *, indent: int = 0, hanging: int = 0, style: Style | None = None
    ) -> None:
        """Add wrapped text; lines after the first are indented by `hanging` more."""
        first, *rest = wrap(sanitise(_clip(text)), self._width - indent - hanging)
        self._add(" " * indent + self._styled(first, style))
        for line in rest:
            self._add(" " * (indent + hanging) + self._styled(line, style))

    def spans(self, *spans: tuple[str, Style | None], indent: int = 0) -> None:
        """Add one line made of differently styled texts; it is cut where it is too long."""
        room, parts = self._width - indent, []
        for text, style in spans:
            shown = sanitise(text)[: max(room, 0)]
            room -= len(shown)
            parts.append(self._styled(shown, style))
        self._add(" " * indent + "".join(parts))

    def rows(
        self,
        rows: Iterable[Sequence[Cell]],
        *,
        indent: int = 0,
        styles: Sequence[Style | None] = (),
        header: Sequence[str] = (),
    ) -> None:
        """Add aligned rows, all of as many cells; only the last cell is wrapped.

        Args:
            rows: the cells of each row; only the last may be a list.
            indent: columns left of the first cell.
            styles: of each column.
            header: titles of the columns.
        """
        titles = [header] if header else []
        table = [(_labels(row), row[-1]) for row in (*titles, *rows)]
        widths = [max(map(len, column)) for column in zip(*(c for c, _ in table), strict=True)]
        start = indent + sum(widths) + 2 * len(widths)
        looks = (*styles, *[None] * (len(widths) + 1))
        for number, (labels, value) in enumerate(table):
            own = [Style.DIM] * len(looks) if header and number == 0 else looks
            first, *rest = _value_lines(value, max(self._width - start, 24))
            cells = [
                self._styled(cell.ljust(width), style)
                for cell, width, style in zip(labels, widths, own, strict=False)
            ]
            self._add(" " * indent + "  ".join((*cells, self._styled(first, own[len(widths)]))))
            for line in rest:
                self._add(" " * start + self._styled(line, own[len(widths)]))

    def _styled(self, text: str, style: Style | None) -> str:
        if not self._color or style is None or not text.strip():
            return text
        return f"\x1b[{style.value}m{text}\x1b[0m"

    def _add(self, line: str) -> None:
        self._lines.append(line.rstrip(" "))
