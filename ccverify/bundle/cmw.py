"""Conceptual Message Wrappers in CBOR (RFC 9999): records, and the collection that holds them.

Of the RFC's forms only what bundles use: a collection of records under text labels, its type
given.  Content-format numbers, tagged records and nested collections are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from types import MappingProxyType
from typing import Any, Final

from ccverify.bundle.cbor import decode, encode
from ccverify.errors import CcverifyError, UsageError

__all__ = [
    "CMW_CBOR_TYPE",
    "CMW_COSE_TYPE",
    "LABEL",
    "Collection",
    "Indicator",
    "Record",
    "encode_collection",
    "parse_collection",
]

CMW_CBOR_TYPE: Final = "application/cmw+cbor"
"""Media type of a collection: what a signed CMW names as its content (RFC 9999 §4.1)."""
CMW_COSE_TYPE: Final = "application/cmw+cose"
"""Media type of a CMW that is signed with COSE (RFC 9999 §9.5.3)."""

LABEL: Final = re.compile(r"[a-z0-9-]{1,64}")
"""Of a record in a collection."""

_TYPE_KEY: Final = "__cmwc_t"
_MEDIA_TYPE: Final = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
)
_MAX_RECORDS: Final = 512


class Indicator(IntFlag):
    """What kind of conceptual message a record is (RFC 9999 §3.1)."""

    REFERENCE_VALUES = 1
    ENDORSEMENTS = 2
    EVIDENCE = 4
    RESULTS = 8
    POLICY = 16


_ALL: Final = 31


@dataclass(frozen=True, slots=True)
class Record:
    """One wrapped message.

    Attributes:
        type: media type without parameters, lower case.
        value: the message.
        indicator: what kind of message it is; None where the record does not say.
    """

    type: str
    value: bytes
    indicator: Indicator | None = Indicator.EVIDENCE


@dataclass(frozen=True, slots=True)
class Collection:
    """Wrapped messages under labels.

    Attributes:
        type: URI that says what the labels mean.
        records: by label.
    """

    type: str
    records: Mapping[str, Record]


def encode_collection(collection: Collection) -> bytes:
    """Encode in deterministic CBOR.

    Raises:
        UsageError: a label or media type that no reader would accept.
    """
    members: dict[str, object] = {_TYPE_KEY: collection.type}
    for label, record in collection.records.items():
        if not LABEL.fullmatch(label) or not _MEDIA_TYPE.fullmatch(record.type):
            raise UsageError("record cannot be wrapped", expected="[a-z0-9-]{1,64}, media type",
                             found=f"{label!r}, {record.type!r}")  # fmt: skip
        indicator = [] if record.indicator is None else [int(record.indicator)]
        members[label] = [record.type, record.value, *indicator]
    return encode(members)


def parse_collection(
    data: bytes, *, type_: str, what: str, error: type[CcverifyError], limit: int
) -> Collection:
    """Parse a collection of records.

    Args:
        data: deterministic CBOR.
        type_: the collection type it must state.
        what: name of the thing parsed, for the error message.
        error: the declared error to raise.
        limit: most bytes.

    Raises:
        error: malformed, of another type, without records, or with more than 512; a label or
            media type outside the accepted characters; anything but records inside.
    """
    members = decode(data, what=what, error=error, limit=limit)
    if not isinstance(members, dict):
        raise error(f"{what} is not a CMW collection", expected="a map")
    if members.pop(_TYPE_KEY, None) != type_:
        raise error(f"{what} is a collection of another type", expected=f"__cmwc_t {type_}")
    if not 0 < len(members) <= _MAX_RECORDS:
        raise error(f"{what} holds a wrong number of records", found=str(len(members)),
                    expected=f"1 to {_MAX_RECORDS}")  # fmt: skip
    records = {}
    for label, member in members.items():
        if not isinstance(label, str) or not LABEL.fullmatch(label):
            raise error(f"{what} has a label that is not accepted", found=repr(label),
                        expected="1 to 64 of a-z, 0-9 and -")  # fmt: skip
        records[label] = _record(member, f"{what}: {label}", error)
    return Collection(type_, MappingProxyType(records))


def _record(member: Any, what: str, error: type[CcverifyError]) -> Record:
    if not isinstance(member, list) or len(member) not in (2, 3):
        raise error(f"{what} is not a CMW record", expected="[type, value, ?ind]")
    kind, value = member[:2]
    if not isinstance(kind, str) or not _MEDIA_TYPE.fullmatch(kind):
        raise error(f"{what} has no usable media type", found=repr(kind)[:100],
                    expected="type/subtype in lower case, without parameters")  # fmt: skip
    if not isinstance(value, bytes):
        raise error(f"{what} has no value", expected="a byte string")
    indicator = member[2] if len(member) == 3 else None
    if indicator is not None and (type(indicator) is not int or not 0 < indicator <= _ALL):
        raise error(f"{what} has a wrong indicator", found=repr(indicator)[:100],
                    expected=f"1 to {_ALL}")  # fmt: skip
    if len(member) == 3 and indicator is None:
        raise error(f"{what} has a wrong indicator", found="null", expected=f"1 to {_ALL}")
    return Record(kind, value, None if indicator is None else Indicator(indicator))
