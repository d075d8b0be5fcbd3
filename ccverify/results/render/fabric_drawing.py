"""A fabric as a drawing: GPUs in the boxes of their partitions, over the switches they hang on.

    ╭─ partition 2 ──────────────╮ ╭─ partition 3 ! ────────────╮
    │ GPU1   GPU2   GPU3   GPU4  │ │ GPU5!  GPU6   GPU7   GPU8  │
    ╰───┬──────┬──────┬──────┬───╯ ╰───┬──────┬──────┬──────┬───╯
       9/9    9/9    9/9    9/9       9/9    9/9    9/9    9/9
    ════╧══════╧══════╧══════╧═════════╧══════╧══════╧══════╧════ NVSwitch1

Everything is in the text; colours only repeat it.  Each character that no plain terminal has is
replaced by one of the same width (`ccverify.results.render.text.fit_encoding`).  Boxes that do not
fit beside each other stand below each other, each row with the switches again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ccverify.results.render.text import Page, Style

__all__ = ["Box", "Cell", "Drawing", "DrawnGpu", "add_drawing"]

_COLUMN: Final = 7
"""Width of a GPU."""
_MARK: Final = "!"
_COLORS: Final = (Style.CYAN, Style.MAGENTA, Style.BLUE)

_Span = tuple[str, Style | None]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is between a GPU and a switch.

    Attributes:
        text: such as ``9/9``; empty where there is nothing.
        marked: whether something is wrong with it.
    """

    text: str
    marked: bool = False


@dataclass(frozen=True, slots=True)
class DrawnGpu:
    """One GPU.

    Attributes:
        name: such as ``GPU3``.
        cells: switch → what is between them.
        note: what its guest says of it; a line of its own below the switches.
        marked: whether something is wrong with it.
    """

    name: str
    cells: Mapping[str, Cell] = field(default_factory=dict)
    note: str = ""
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """GPUs that belong together.

    Attributes:
        title: what they are, and `short` where a box is too narrow for that.
        gpus: from left to right.
        number: chooses a colour; None for no colour of its own.
        faded: whether it is drawn for the sake of others.
        marked: whether something is wrong with it as a whole.
    """

    title: str
    short: str
    gpus: tuple[DrawnGpu, ...]
    number: int | None = None
    faded: bool = False
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is to be drawn: boxes over switches, and the title of the notes below."""

    boxes: tuple[Box, ...]
    switches: tuple[str, ...] = ()
    notes: str = ""


def add_drawing(page: Page, drawing: Drawing, *, indent: int = 2) -> None:
    """Add a drawing to a page, as wide as that is or narrower."""
    names = [*drawing.switches, drawing.notes if _has_notes(drawing) else ""]
    label = max(map(len, names)) + 2
    room = page.width - indent - label
    for number, row in enumerate(_rows(drawing.boxes, room)):
        if number:
            page.blank()
        for spans in _lines(row, drawing, label):
            page.spans(*spans, indent=indent)


def _has_notes(drawing: Drawing) -> bool:
    return any(gpu.note for box in drawing.boxes for gpu in box.gpus)


def _rows(boxes: Sequence[Box], room: int) -> Iterator[list[Box]]:
    """Deal out boxes to rows; one that is too wide for a row is drawn in parts."""
    most = max((room - 2) // _COLUMN, 1)
    row: list[Box] = []
    used = 0
    for box in boxes:
        for part in _parts(box, most):
            width = _COLUMN * len(part.gpus) + 2
            if row and used + 1 + width > room:
                yield row
                row, used = [], 0
            used += width + bool(row)
            row.append(part)
    if row:
        yield row


def _parts(box: Box, most: int) -> list[Box]:
    count = -(-len(box.gpus) // most)
    if count <= 1:
        return [box]
    size = -(-len(box.gpus) // count)
    return [
        Box(f"{box.title} ({at + 1} of {count})", box.short, box.gpus[at * size : (at + 1) * size],
            box.number, box.faded, box.marked)
        for at in range(count)
    ]  # fmt: skip


def _lines(row: Sequence[Box], drawing: Drawing, label: int) -> Iterator[list[_Span]]:
    start: _Span = (" " * label, None)
    for part in (_top, _names, _bottom):
        line = [start]
        for number, box in enumerate(row):
            line += [(" ", None)] * bool(number) + part(box)
        yield line
    for switch in drawing.switches:
        yield [start, *_counts(row, switch)]
        last = switch == drawing.switches[-1]
        yield [(switch.ljust(label), Style.STRONG), *_rail(row, switch, "╧" if last else "╪")]
    if _has_notes(drawing):
        cells: list[_Span] = [(drawing.notes.ljust(label), Style.DIM)]
        for number, box in enumerate(row):
            cells.append((" " * (1 + bool(number)), None))
            cells += [(_centred(gpu.note, ""), Style.DIM) for gpu in box.gpus]
            cells.append((" ", None))
        yield cells


def _look(box: Box) -> Style | None:
    if box.faded or box.number is None:
        return Style.DIM
    return _COLORS[box.number % len(_COLORS)]


def _top(box: Box) -> list[_Span]:
    inner, look = _COLUMN * len(box.gpus), _look(box)
    mark = f" {_MARK}" if box.marked else ""
    title = next(
        (text for text in (box.title, box.short) if len(text) + len(mark) + 3 <= inner),
        box.short[: inner - len(mark) - 2],
    )
    rest = inner - len(title) - len(mark) - 3
    return [("╭─ ", look), (title, Style.STRONG if not box.faded else look),
            (mark, Style.BAD), (f" {'─' * rest}╮" if rest >= 0 else "╮", look)]  # fmt: skip


def _names(box: Box) -> list[_Span]:
    look = _look(box)
    cells = [(_centred(gpu.name, _MARK * gpu.marked), Style.BAD if gpu.marked else look)
             for gpu in box.gpus]  # fmt: skip
    return [("│", look), *cells, ("│", look)]


def _bottom(box: Box) -> list[_Span]:
    foot = "─" * (_COLUMN // 2) + "┬" + "─" * (_COLUMN - _COLUMN // 2 - 1)
    return [(f"╰{foot * len(box.gpus)}╯", _look(box))]


def _counts(row: Sequence[Box], switch: str) -> Iterator[_Span]:
    for number, box in enumerate(row):
        yield " " * (1 + bool(number)), None
        for gpu in box.gpus:
            cell = gpu.cells.get(switch, Cell(""))
            look = Style.BAD if cell.marked else Style.DIM if box.faded else None
            yield _centred(cell.text or "–", _MARK * cell.marked), look
        yield " ", None


def _rail(row: Sequence[Box], switch: str, joint: str) -> Iterator[_Span]:
    """The switch itself: a line that the cables of its GPUs end at or go on through."""
    before, after = "═" * (_COLUMN // 2), "═" * (_COLUMN - _COLUMN // 2 - 1)
    for number, box in enumerate(row):
        yield "═" * (1 + bool(number)), None
        for gpu in box.gpus:
            cell = gpu.cells.get(switch, Cell(""))
            yield before, None
            yield joint if cell.text else "═", Style.BAD if cell.marked else None
            yield after, None
        yield "═", None


def _centred(text: str, mark: str) -> str:
    """The text over its cable, and the mark behind it."""
    shown = text[: _COLUMN - len(mark)]
    left = max((_COLUMN - len(shown)) // 2, 0)
    return (" " * left + shown + mark).ljust(_COLUMN)[:_COLUMN]
