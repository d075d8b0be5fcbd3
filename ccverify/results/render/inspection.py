"""What a file says, before anything is verified: a model of it, as text and as JSON.

Nothing in an inspection has been checked.  Both forms say so first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ccverify.results.render.claims import show_value
from ccverify.results.render.json import dump_json
from ccverify.results.render.text import MAX_LABEL, Cell, Page, Style

__all__ = [
    "INSPECTION_SCHEMA",
    "UNVERIFIED_NOTICE",
    "Group",
    "Inspection",
    "Item",
    "Listing",
    "Part",
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
        shown: what a person reads instead: rows of as many cells as there are columns.
        limit: most rows on a page; None for all.  JSON has all records.
        notice: said under the heading.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]
    shown: tuple[tuple[str, ...], ...] | None = None
    limit: int | None = None
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Several things of one kind, each in parts of its own.

    Attributes:
        key: member name in JSON, where the group is a list of objects.
        members: title of each on a page, and its parts.
    """

    key: str
    members: tuple[tuple[str, tuple[Section | Listing | Group, ...]], ...]


Part = Section | Listing | Group


@dataclass(frozen=True, slots=True)
class Inspection:
    """A whole file: what kind it is of, such as ``tdx-quote``, and its parts."""

    kind: str
    title: str
    parts: Sequence[Part]


def inspection_json(inspection: Inspection) -> str:
    """Return the inspection as a ``ccverify.inspection/v1`` object."""
    document: dict[str, Any] = {
        "schema": INSPECTION_SCHEMA,
        "verified": False,
        "kind": inspection.kind,
    }
    return dump_json(document | _members(inspection.parts))


def _members(parts: Sequence[Part]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, Section):
            document[part.key] = {item.name: item.value for item in part.items}
        elif isinstance(part, Listing):
            document[part.key] = [dict(record) for record in part.records]
        else:
            document[part.key] = [_members(inner) for _, inner in part.members]
    return document


def render_inspection(inspection: Inspection, *, width: int, color: bool = False) -> str:
    """Return the inspection as text."""
    page = Page(width, color=color)
    page.paragraph(inspection.title, style=Style.STRONG)
    page.paragraph(UNVERIFIED_NOTICE, style=Style.WARN)
    _add_parts(page, inspection.parts, 0)
    return page.text()


def _add_parts(page: Page, parts: Sequence[Part], indent: int) -> None:
    for part in parts:
        if isinstance(part, Group):
            for title, inner in part.members:
                _add_heading(page, title, indent)
                _add_parts(page, inner, indent + 2)
            continue
        _add_heading(page, part.title, indent)
        if isinstance(part, Section):
            _add_section(page, part, indent + 2)
        else:
            _add_listing(page, part, indent + 2)


def _add_heading(page: Page, title: str, indent: int) -> None:
    page.blank()
    page.paragraph(title, indent=indent, style=Style.STRONG)


def _add_listing(page: Page, listing: Listing, indent: int) -> None:
    if listing.notice:
        page.paragraph(listing.notice, indent=indent, style=Style.WARN)
    rows: Sequence[Sequence[Cell]] = listing.shown or [
        [show_value(record[name]) for name in listing.columns] for record in listing.records
    ]
    page.rows(rows[: listing.limit], indent=indent, header=listing.columns)
    if listing.limit is not None and len(rows) > listing.limit:
        page.paragraph(f"… and {len(rows) - listing.limit} more", indent=indent)


def _add_section(page: Page, section: Section, indent: int) -> None:
    """Add values with their notes: beside short values, below long ones."""
    labels = min(max((len(item.name) for item in section.items), default=0), MAX_LABEL)
    short = max((len(i.text) for i in section.items if len(i.text) <= _SHORT_VALUE), default=0)
    for item in section.items:
        name = item.name.ljust(labels)
        if len(item.text) <= _SHORT_VALUE:
            page.rows([(name, item.text.ljust(short), item.notes)], indent=indent, styles=_LOOKS)
        else:
            page.rows([(name, item.text)], indent=indent)
            if item.notes:
                page.paragraph(item.notes, indent=indent + labels + 2, style=Style.DIM)


_SHORT_VALUE = 18
_LOOKS = (None, None, Style.DIM)
