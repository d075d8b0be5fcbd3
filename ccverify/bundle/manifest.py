"""The manifest of a bundle: what was gathered, what was not and why, in deterministic CBOR.

Its digest goes into REPORTDATA, so everything it says is covered by the quote.  What covers the
manifest (`OUTSIDE`) is not listed in it: quote, TPM quote, operator's signature.  An absence is an
entry like any other: it cannot be taken out, or put in, without changing the digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha384
from types import MappingProxyType
from typing import Any, Final, TypeVar

from ccverify.bundle.cbor import decode, encode
from ccverify.bundle.cmw import LABEL
from ccverify.bundle.model import AbsenceReason, Item, ItemType, Outcome
from ccverify.errors import EvidenceError, UsageError

__all__ = [
    "MANIFEST_LABEL",
    "MANIFEST_TYPE",
    "MAX_ENTRIES",
    "MAX_ITEM_BYTES",
    "MAX_TIME",
    "OPERATOR_LABEL",
    "OUTSIDE",
    "QUOTE_LABEL",
    "SESSION_KEY_LABEL",
    "TPM_QUOTE_LABEL",
    "AbsenceEntry",
    "Gathered",
    "ItemEntry",
    "Manifest",
    "make_manifest",
    "parse_manifest",
]

MANIFEST_TYPE: Final = "application/vnd.ccverify.manifest+cbor"
MANIFEST_LABEL: Final = "manifest"
SESSION_KEY_LABEL: Final = "session-key"
QUOTE_LABEL: Final = "tdx-quote"
TPM_QUOTE_LABEL: Final = "tpm-quote"
OPERATOR_LABEL: Final = "operator-signature"

OUTSIDE: Final[Mapping[str, ItemType]] = MappingProxyType(
    {
        QUOTE_LABEL: ItemType.TDX_QUOTE,
        TPM_QUOTE_LABEL: ItemType.TPM_QUOTE,
        OPERATOR_LABEL: ItemType.OPERATOR_SIGNATURE,
    }
)
"""Items that bind the session key and cover the manifest, so that no manifest can list them.

Each label has its one type, and each type its one label.  That there is no quote must be stated
in the manifest; of the others nothing need be said.
"""

MAX_ENTRIES: Final = 256
"""Most entries of a manifest, items and absences together."""
MAX_ITEM_BYTES: Final = 8 * 1024 * 1024
MAX_TIME: Final = 253_402_300_799
"""The last second of the year 9999, in Unix time."""

_VERSION: Final = 1
_MAX_MANIFEST_BYTES: Final = 2 * 1024 * 1024
_MAX_NAME: Final = 128
_MAX_TEXT: Final = 1024
_DIGEST: Final = 48
_MEMBERS: Final = frozenset({"v", "nonce", "key", "collector", "created", "items"})
_ITEM: Final = frozenset({"type", "sha384", "size", "time", "source"})
_ABSENCE: Final = frozenset({"absent", "text", "remedy", "source", "time"})
_RESERVED: Final = frozenset({MANIFEST_LABEL, SESSION_KEY_LABEL})

# A fixed list, because what Unicode calls printable differs between versions of Python:
# controls, line and paragraph separators, zero-width and direction marks, byte order mark.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)

_SEVERAL: Final = frozenset({ItemType.NVIDIA_GPU, ItemType.NVIDIA_SWITCH, ItemType.FABRIC_DUMP})
"""Types of which a manifest may list more than one item."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a source gave, and when.

    Attributes:
        outcome: an item, or an absence.
        time: Unix seconds.
    """

    outcome: Outcome
    time: int


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """What the manifest says of an item.

    Attributes:
        type: what it is.
        sha384: of its bytes, 48 bytes.
        size: in bytes.
        time: when it was had, Unix seconds by the guest's clock.
        source: where from, for people.
    """

    type: ItemType
    sha384: bytes
    size: int
    time: int
    source: str


@dataclass(frozen=True, slots=True)
class AbsenceEntry:
    """What the manifest says of a part that is not there.

    Attributes:
        reason: why, by type.
        text: why, in words.
        remedy: what to do about it.
        source: who looked.
        time: when, Unix seconds by the guest's clock.
    """

    reason: AbsenceReason
    text: str
    remedy: str
    source: str
    time: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest, nothing in it verified.

    Attributes:
        nonce: the relying party's, 32 bytes.
        key: thumbprint of the session key, 32 bytes.
        collector: who made it, for people.
        created: when it was closed, Unix seconds by the guest's clock.
        items: by label.
        absences: by label.
        encoded: the exact bytes, whose digest REPORTDATA covers.
    """

    nonce: bytes
    key: bytes
    collector: str
    created: int
    items: Mapping[str, ItemEntry]
    absences: Mapping[str, AbsenceEntry]
    encoded: bytes

    @property
    def sha384(self) -> bytes:
        """SHA-384 of the exact bytes."""
        return sha384(self.encoded).digest()


# --- making -------------------------------------------------------------------------------------


def make_manifest(
    nonce: bytes, key: bytes, gathered: Iterable[Gathered], *, collector: str, created: int
) -> Manifest:
    """Close a manifest over everything gathered but what covers it (`OUTSIDE`).

    Texts are cut to what a reader accepts, and characters that could disturb a terminal are
    replaced by spaces.

    Args:
        nonce: the relying party's, 32 bytes.
        key: thumbprint of the session key, 32 bytes.
        gathered: items and absences in any order; an absent quote among them, no item of
            `OUTSIDE`.
        collector: name and version of the program.
        created: Unix seconds.

    Raises:
        UsageError: a label twice or not acceptable, an item too large, two items of a type of
            which there is one, too many entries, an item of `OUTSIDE` among the items.
    """
    entries: dict[str, dict[str, object]] = {}
    for one in gathered:
        label = one.outcome.label
        if label in entries:
            raise UsageError("two parts of a bundle have one label", found=label)
        entries[label] = _entry(one)
    made = {
        "v": _VERSION,
        "nonce": nonce,
        "key": key,
        "collector": _clean(collector, _MAX_NAME),
        "created": created,
        "items": entries,
    }
    try:
        return parse_manifest(encode(made))
    except EvidenceError as problem:
        raise UsageError(f"bundle cannot be made: {problem.message}", expected=problem.expected,
                         found=problem.found, where=problem.where) from None  # fmt: skip


def _entry(one: Gathered) -> dict[str, object]:
    outcome = one.outcome
    said = {"source": _clean(outcome.source, _MAX_NAME), "time": one.time}
    if isinstance(outcome, Item):
        return {
            "type": outcome.type.value,
            "sha384": sha384(outcome.data).digest(),
            "size": len(outcome.data),
            **said,
        }
    return {
        "absent": outcome.reason.value,
        "text": _clean(outcome.text, _MAX_TEXT),
        "remedy": _clean(outcome.remedy, _MAX_TEXT),
        **said,
    }


def _clean(text: str, limit: int) -> str:
    shown = _UNPRINTABLE.sub(" ", text.encode("utf-8", "replace").decode("utf-8"))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


# --- parsing ------------------------------------------------------------------------------------


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest of version 1.

    Raises:
        EvidenceError: not deterministic CBOR, another version, a member missing, unknown, of a
            wrong type or out of its limits, an item of `OUTSIDE` listed, or two items of a type
            of which there is one.
    """
    members = decode(data, what="manifest", error=EvidenceError, limit=_MAX_MANIFEST_BYTES)
    if not isinstance(members, dict) or set(members) != _MEMBERS:
        raise EvidenceError("manifest is malformed",
                            expected="a map with " + ", ".join(sorted(_MEMBERS)))  # fmt: skip
    if type(members["v"]) is not int or members["v"] != _VERSION:
        raise EvidenceError("manifest has another version", expected=str(_VERSION),
                            found=repr(members["v"])[:100],
                            hint="use a ccverify that knows this version")  # fmt: skip
    listed = members["items"]
    if not isinstance(listed, dict) or len(listed) > MAX_ENTRIES:
        raise EvidenceError("manifest lists too much", where="items",
                            expected=f"a map with at most {MAX_ENTRIES} entries")  # fmt: skip
    items: dict[str, ItemEntry] = {}
    absences: dict[str, AbsenceEntry] = {}
    for label, entry in listed.items():
        if not isinstance(label, str) or not LABEL.fullmatch(label) or label in _RESERVED:
            raise EvidenceError("manifest has a label that is not accepted", found=repr(label),
                                expected="1 to 64 of a-z, 0-9 and -, none reserved")  # fmt: skip
        where = f"items.{label}"
        if not isinstance(entry, dict):
            raise EvidenceError("manifest has a malformed entry", where=where, expected="a map")
        if set(entry) == _ABSENCE:
            absences[label] = _absence(entry, where)
        elif set(entry) == _ITEM and label not in OUTSIDE:
            items[label] = _item(entry, where)
        else:
            expected = "an absence" if label in OUTSIDE else "an item or an absence"
            raise EvidenceError("manifest has a malformed entry", where=where, expected=expected)
    _require_single(items)
    return Manifest(
        nonce=_octets(members, "nonce", 32, ""),
        key=_octets(members, "key", 32, ""),
        collector=_text(members, "collector", _MAX_NAME, ""),
        created=_number(members, "created", MAX_TIME, ""),
        items=MappingProxyType(items),
        absences=MappingProxyType(absences),
        encoded=data,
    )


def _item(entry: Mapping[str, Any], where: str) -> ItemEntry:
    return ItemEntry(
        type=_one_of(ItemType, entry, "type", where),
        sha384=_octets(entry, "sha384", _DIGEST, where),
        size=_number(entry, "size", MAX_ITEM_BYTES, where),
        time=_number(entry, "time", MAX_TIME, where),
        source=_text(entry, "source", _MAX_NAME, where),
    )


def _absence(entry: Mapping[str, Any], where: str) -> AbsenceEntry:
    return AbsenceEntry(
        reason=_one_of(AbsenceReason, entry, "absent", where),
        text=_text(entry, "text", _MAX_TEXT, where),
        remedy=_text(entry, "remedy", _MAX_TEXT, where),
        source=_text(entry, "source", _MAX_NAME, where),
        time=_number(entry, "time", MAX_TIME, where),
    )


def _require_single(items: Mapping[str, ItemEntry]) -> None:
    """Refuse two items of which a judge could take either."""
    seen: dict[ItemType, str] = {}
    for label, entry in items.items():
        if entry.type in OUTSIDE.values():
            raise EvidenceError("manifest lists what covers it", where=f"items.{label}",
                                found=entry.type.value,
                                expected="such an item outside the manifest")  # fmt: skip
        if entry.type not in _SEVERAL and entry.type in seen:
            raise EvidenceError("manifest lists two items of one type",
                                found=f"{seen[entry.type]}, {label}",
                                expected=f"one {entry.type.value}")  # fmt: skip
        seen[entry.type] = label


def _wrong(name: str, where: str, expected: str, value: object) -> EvidenceError:
    path = f"{where}.{name}" if where else name
    return EvidenceError("manifest has an unusable member", where=path, expected=expected,
                         found=repr(value)[:100])  # fmt: skip


def _octets(members: Mapping[str, Any], name: str, length: int, where: str) -> bytes:
    value = members[name]
    if not isinstance(value, bytes) or len(value) != length:
        raise _wrong(name, where, f"{length} bytes", value)
    return value


def _number(members: Mapping[str, Any], name: str, most: int, where: str) -> int:
    value = members[name]
    if type(value) is not int or not 0 <= value <= most:
        raise _wrong(name, where, f"0 to {most}", value)
    return value


def _text(members: Mapping[str, Any], name: str, most: int, where: str) -> str:
    value = members[name]
    if not isinstance(value, str) or len(value) > most or _UNPRINTABLE.search(value):
        raise _wrong(name, where, f"at most {most} printable characters", value)
    return value


_Kind = TypeVar("_Kind", ItemType, AbsenceReason)


def _one_of(kind: type[_Kind], members: Mapping[str, Any], name: str, where: str) -> _Kind:
    value = members[name]
    known = [one.value for one in kind]
    if not isinstance(value, str) or value not in known:
        raise _wrong(name, where, "one of " + ", ".join(known), value)
    return kind(value)
