"""What several sources gave → one outcome for each part, and notes on what was not used.

A bundle has room for one thing under each name.  Where sources overlap, an item goes before an
absence, and the first source in the list before the others.  Nothing disappears: what lost is a
note.  What a reader of the bundle would refuse is an absence, so that one bad source cannot cost
the whole bundle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Final

from ccverify.bundle.cmw import LABEL
from ccverify.bundle.items import parse_device
from ccverify.bundle.manifest import (
    MANIFEST_LABEL,
    MAX_ITEM_BYTES,
    OUTSIDE,
    SESSION_KEY_LABEL,
    Gathered,
)
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType, Outcome
from ccverify.errors import EvidenceError

__all__ = ["Merged", "Note", "checked", "merge", "part_of"]

_NUMBER: Final = re.compile(r"-[0-9]+\Z")
_DEVICES: Final = frozenset({ItemType.NVIDIA_GPU, ItemType.NVIDIA_SWITCH})
_TYPES: Final[dict[str, type]] = {
    "label": str,
    "type": ItemType,
    "data": bytes,
    "source": str,
    "reason": AbsenceReason,
    "text": str,
    "remedy": str,
}
_NOTHING_THERE: Final = frozenset(
    {
        AbsenceReason.NOT_PRESENT,
        AbsenceReason.NO_DRIVER,
        AbsenceReason.NO_LIBRARY,
        AbsenceReason.NOT_SUPPORTED,
        AbsenceReason.NOT_ASKED,
    }
)
"""Reasons that say less than the others: this way of asking leads nowhere on this machine."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something said of the collection that the bundle does not hold.

    Attributes:
        label: the part it is about.
        source: who gave what was not used.
        text: what became of it.
    """

    label: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Merged:
    """One outcome for each label.

    Attributes:
        gathered: in the order of the sources.
        notes: on everything that is not among `gathered`.
    """

    gathered: tuple[Gathered, ...]
    notes: tuple[Note, ...]


def part_of(label: str) -> str:
    """Return the part a label belongs to: its name without a number at the end."""
    return _NUMBER.sub("", label)


def checked(outcome: object, part: str, source: str) -> Outcome:
    """Return an outcome as it is if a bundle can hold it, or else an absence that says why not.

    Args:
        outcome: what a source gave, whatever it is.
        part: what the absence is called if the outcome itself has no usable label.
        source: who gave it.
    """
    if not isinstance(outcome, Item | Absence):
        return _unusable(part, source, f"gave a {type(outcome).__name__}, neither item nor absence")
    for field in fields(outcome):
        value = getattr(outcome, field.name)
        if not isinstance(value, _TYPES[field.name]):
            found = f"whose {field.name} is a {type(value).__name__}"
            return _unusable(part, source, f"gave an {type(outcome).__name__} {found}")
    label = outcome.label
    if not LABEL.fullmatch(label) or label in (MANIFEST_LABEL, SESSION_KEY_LABEL):
        return _unusable(part, source, f"gave a part under the name {label!r}, which none may have")
    if isinstance(outcome, Absence):
        return outcome
    if len(outcome.data) > MAX_ITEM_BYTES:
        size = f"{len(outcome.data)} bytes, at most {MAX_ITEM_BYTES} fit"
        return _unusable(label, source, f"gave more than a bundle can hold: {size}")
    belongs = OUTSIDE.get(label)
    if belongs is not outcome.type and (belongs or outcome.type in OUTSIDE.values()):
        return _unusable(label, source, f"gave {outcome.type.value} under the name {label}")
    return outcome


def _unusable(label: str, source: str, what: str) -> Absence:
    remedy = "this is a bug in the source: report it, with what you ran"
    return Absence(label, AbsenceReason.FAILED, f"{source} {what}", remedy, source)


def merge(given: Sequence[Sequence[Gathered]]) -> Merged:
    """Choose what goes into the bundle.

    One device that two sources know by different numbers goes in once.  What one source gives
    twice is left as it is: judging that is for the verifier.

    Args:
        given: checked outcomes of each source, in the order of the sources.
    """
    notes: list[Note] = []
    every = [one for group in given for one in group]
    kept = _items(given, notes)
    kept |= _absences([one for one in every if isinstance(one.outcome, Absence)], kept, notes)
    return Merged(tuple(one for one in every if kept.get(one.outcome.label) is one), tuple(notes))


def _items(given: Sequence[Sequence[Gathered]], notes: list[Note]) -> dict[str, Gathered]:
    kept: dict[str, Gathered] = {}
    single: dict[str, Item] = {}
    devices: dict[str, Item] = {}
    for group in given:
        seen: dict[str, Item] = {}
        for one in group:
            item = one.outcome
            if not isinstance(item, Item):
                continue
            if item.label in kept:
                winner = kept[item.label].outcome
                notes.append(_note(item, f"not used: {winner.source} came first"))
                continue
            known = single if item.type not in _DEVICES else devices
            names = list(_identities(item))
            rival = next((name for name in names if name in known), None)
            if rival is not None:
                text = f"not used: {rival} is in the bundle as {known[rival].label}"
                notes.append(_note(item, f"{text}, from {known[rival].source}"))
                continue
            kept[item.label] = one
            (single if item.type not in _DEVICES else seen).update(dict.fromkeys(names, item))
        devices |= seen
    return kept


def _identities(item: Item) -> Iterator[str]:
    """What there is only one of: a kind of log, or one device by its certificate or UUID."""
    if item.type is ItemType.FABRIC_DUMP:
        return  # there are many, and the label says which
    if item.type not in _DEVICES:
        yield item.type.value
        return
    try:
        device = parse_device(item.data)
    except EvidenceError:
        return  # judging it is for the verifier
    # The first certificate is the device's own, made for it and its firmware.
    leaf, end, _ = device.chain.partition(b"-----END CERTIFICATE-----")
    if end:
        digest = sha256(b"".join(leaf.split())).hexdigest()
        yield f"the device with the certificate of SHA-256 {digest[:16]}…"
    if device.uuid:
        yield f"the device {device.uuid}"


def _absences(
    given: Sequence[Gathered], items: dict[str, Gathered], notes: list[Note]
) -> dict[str, Gathered]:
    kept: dict[str, Gathered] = {}
    for one in given:
        label = one.outcome.label
        if label in items:
            notes.append(_lost(one, items[label]))
        elif label not in kept:
            kept[label] = one
        elif _says_more(one, kept[label]):
            notes.append(_lost(kept[label], one))
            kept[label] = one
        else:
            notes.append(_lost(one, kept[label]))
    numbered = {part_of(label): one for label, one in (items | kept).items() if _has_number(label)}
    for label in [label for label in kept if label in numbered]:
        notes.append(_lost(kept.pop(label), numbered[label]))
    return kept


def _has_number(label: str) -> bool:
    return part_of(label) != label


def _says_more(one: Gathered, other: Gathered) -> bool:
    """Whether `one` tells of something that is there and went wrong, and `other` of nothing."""
    return _reason(one) not in _NOTHING_THERE and _reason(other) in _NOTHING_THERE


def _reason(one: Gathered) -> AbsenceReason | None:
    return one.outcome.reason if isinstance(one.outcome, Absence) else None


def _lost(one: Gathered, winner: Gathered) -> Note:
    absence, other = one.outcome, winner.outcome
    assert isinstance(absence, Absence)  # noqa: S101
    has = "gave" if isinstance(other, Item) else "says more of"
    text = f"{absence.reason.value}: {absence.text}; {other.source} {has} {other.label}"
    return _note(absence, text)


def _note(outcome: Outcome, text: str) -> Note:
    return Note(outcome.label, outcome.source, text)
