"""What a file says, before anything is verified: a model of it, as text and as JSON.

Nothing in an inspection has been checked.  Both forms say so first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ccverify.results.render.claims import show_value
from ccverify.results.render.json import dump_json
from ccverify.results.render.text import Page, Style

__all__ = [
    "INSPECTION_SCHEMA",
    "UNVERIFIED_NOTICE",
    "Inspection",
    "Item",
    "Listing",
    "Section",
    "inspection_json",
    "render_inspection",
]

INSPECTION_SCHEMA = "ccverify.inspection/v1"
UNVERIFIED_NOTICE = (
    "UNVERIFIED: this is only what the file says. No signature was checked and no policy "
    "asked; use `ccverify check` to judge it."
)


class Item(NamedTuple):
    """One value: its name, itself (JSON-ready), what it means, and where it stands.

    `shown` is what a person reads instead of the value.
    """

    name: str
    value: Any
    meaning: str = ""
    where: str = ""
    shown: str = ""

    @property
    def text(self) -> str:
        """The value as one line."""
        return self.shown or show_value(self.value)

    @property
    def notes(self) -> str:
        """Meaning and place."""
        return "; ".join(note for note in (self.meaning, self.where) if note)


@dataclass(frozen=True, slots=True)
class Section:
    """Named values under one title; `key` is the member name in JSON."""

    key: str
    title: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Records of one shape.

    Attributes:
        key: member name in JSON.
        title: heading.
        columns: members shown as columns, in order; the last is wrapped.
        records: JSON-ready; JSON has all members, a page those of `columns`.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A whole file: ``tdx-quote``, ``collateral`` or ``event-log``, in sections."""

    kind: str
    title: str
    parts: Sequence[Section | Listing]


def inspection_json(inspection: Inspection) -> str:
    """Return the inspection as a ``ccverify.inspection/v1`` object."""
    document: dict[str, Any] = {
        "schema": INSPECTION_SCHEMA,
        "verified": False,
        "kind": inspection.kind,
    }
    for part in inspection.parts:
        if isinstance(part, Section):
            document[part.key] = {item.name: item.value for item in part.items}
        else:
            document[part.key] = [dict(record) for record in part.records]
    return dump_json(document)


def render_inspection(inspection: Inspection, *, width: int, color: bool = False) -> str:
    """Return the inspection as text."""
    page = Page(width, color=color)
    page.paragraph(inspection.title, style=Style.STRONG)
    page.paragraph(UNVERIFIED_NOTICE, style=Style.WARN)
    for part in inspection.parts:
        page.heading(part.title)
        if isinstance(part, Section):
            _add_section(page, part)
        else:
            page.rows(
                [[show_value(record[name]) for name in part.columns] for record in part.records],
                indent=2,
                header=part.columns,
            )
    return page.text()


def _add_section(page: Page, section: Section) -> None:
    """Add values with their notes: beside short values, below long ones."""
    labels = max((len(item.name) for item in section.items), default=0)
    short = max((len(i.text) for i in section.items if len(i.text) <= _SHORT_VALUE), default=0)
    for item in section.items:
        name = item.name.ljust(labels)
        if len(item.text) <= _SHORT_VALUE:
            page.rows([(name, item.text.ljust(short), item.notes)], indent=2, styles=_LOOKS)
        else:
            page.rows([(name, item.text)], indent=2)
            if item.notes:
                page.paragraph(item.notes, indent=labels + 4, style=Style.DIM)


_SHORT_VALUE = 18
_LOOKS = (None, None, Style.DIM)
