"""Sealing a bundle, step by step as a session gathers it, and reading one.

1. `open_session`: nonce and session key give the nonce for every device.
2. `close_manifest`: everything gathered, and everything absent, gives REPORTDATA.
3. The quote is asked for with REPORTDATA.  If there is none, the manifest is closed again with
   that absence in it.
4. What else is to bind the session key, a TPM or an operator's key, is asked with the digest of
   that last manifest (`ccverify.bundle.endorsement`).
5. `seal`: all of these join, and the session key signs.

A bundle is a COSE_Sign1 by the session key over a CMW collection (docs/spec/bundle.md).  What
ties the session key to a machine is not that signature but REPORTDATA in the quote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ccverify.bundle.binding import Derivation, derive
from ccverify.bundle.cmw import (
    CMW_CBOR_TYPE,
    CMW_COSE_TYPE,
    Collection,
    Indicator,
    Record,
    encode_collection,
    parse_collection,
)
from ccverify.bundle.cose import (
    COSE_KEY_TYPE,
    Algorithm,
    CoseKey,
    Sign1,
    Signer,
    parse_cose_key,
    parse_sign1,
    sign1,
)
from ccverify.bundle.manifest import (
    MANIFEST_LABEL,
    MANIFEST_TYPE,
    MAX_ITEM_BYTES,
    OPERATOR_LABEL,
    OUTSIDE,
    QUOTE_LABEL,
    SESSION_KEY_LABEL,
    TPM_QUOTE_LABEL,
    AbsenceEntry,
    Gathered,
    Manifest,
    make_manifest,
    parse_manifest,
)
from ccverify.bundle.model import Item, ItemType
from ccverify.errors import EvidenceError, UsageError
from ccverify.evidence import BindingInputs, BindingProfile

__all__ = [
    "BUNDLE_TYPE",
    "MAX_BUNDLE_BYTES",
    "NONCE_BYTES",
    "Bundle",
    "Closed",
    "Session",
    "close_manifest",
    "is_bundle",
    "open_session",
    "parse_bundle",
    "seal",
]

BUNDLE_TYPE: Final = "tag:ccverify,2026:bundle#1"
"""Collection type of a bundle."""
MAX_BUNDLE_BYTES: Final = 64 * 1024 * 1024
NONCE_BYTES: Final = 32

_FIRST_BYTES: Final = b"\xd2\x84"  # tag 18, array of four
_HEADER_BYTES: Final = 256  # the protected header is shorter
_NO_MANIFEST: Final = bytes(48)


# --- sealing ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Session:
    """One collection session.

    Attributes:
        nonce: the relying party's, 32 bytes.
        key: the session key, P-384.
        device_nonce: what every device report of the session must carry, 32 bytes.
    """

    nonce: bytes
    key: CoseKey
    device_nonce: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """A session whose manifest is closed.

    Attributes:
        session: the session.
        manifest: the manifest.
        items: what it lists, by label.
        report_data: what the quote must carry, 64 bytes.
    """

    session: Session
    manifest: Manifest
    items: Mapping[str, Item]
    report_data: bytes


def open_session(nonce: bytes, key: CoseKey) -> Session:
    """Begin: step 1.

    Args:
        nonce: the relying party's, exactly 32 bytes.
        key: public half of a fresh P-384 key, used for this bundle alone.

    Raises:
        UsageError: another length, or another kind of key.
    """
    if len(nonce) != NONCE_BYTES:
        raise UsageError("nonce has the wrong length", expected=f"{NONCE_BYTES} bytes",
                         found=f"{len(nonce)} bytes")  # fmt: skip
    if key.algorithm is not Algorithm.ESP384:
        raise UsageError("session key is of the wrong kind", expected="P-384",
                         found=key.algorithm.name)  # fmt: skip
    device_nonce = _derive(nonce, key.thumbprint, _NO_MANIFEST).device_nonce
    assert device_nonce is not None  # noqa: S101  # every input was given
    return Session(nonce, key, device_nonce)


def close_manifest(
    session: Session, gathered: Iterable[Gathered], *, collector: str, created: int
) -> Closed:
    """Close the manifest over everything gathered but the quote: step 2.

    Args:
        session: from `open_session`.
        gathered: items and absences with their times.
        collector: name and version of the program, for people.
        created: Unix seconds.

    Raises:
        UsageError: as `ccverify.bundle.manifest.make_manifest`.
    """
    parts = tuple(gathered)
    thumbprint = session.key.thumbprint
    manifest = make_manifest(session.nonce, thumbprint, parts, collector=collector, created=created)
    report_data = _derive(session.nonce, thumbprint, manifest.sha384).report_data[0].expected
    assert report_data is not None  # noqa: S101  # every input was given
    items = {p.outcome.label: p.outcome for p in parts if isinstance(p.outcome, Item)}
    return Closed(session, manifest, MappingProxyType(items), report_data)


def seal(
    closed: Closed, quote: Item | None, signer: Signer, *, binders: Iterable[Item] = ()
) -> bytes:
    """Put everything together and sign it: step 5.

    Args:
        closed: from `close_manifest`.
        quote: made with `closed.report_data`; None only if the manifest says that it is absent.
        signer: holds the private half of the session key.
        binders: items of `OUTSIDE` beside the quote, made over `closed.manifest`.

    Returns:
        The bundle, at most 64 MiB.

    Raises:
        UsageError: another key; a quote and its absence both, or neither; an item that does not
            belong outside the manifest, or that the manifest says is absent; too large.
    """
    if signer.key != closed.session.key:
        raise UsageError("bundle must be signed by the key of its session")
    if (quote is None) != (QUOTE_LABEL in closed.manifest.absences):
        raise UsageError("quote must be given, or its absence be in the manifest, and not both")
    if quote is not None and quote.label != QUOTE_LABEL:
        raise UsageError("item is not a quote", found=quote.label, expected=QUOTE_LABEL)
    outside = _outside(closed, [quote] if quote is not None else [], binders)
    records = {
        MANIFEST_LABEL: Record(MANIFEST_TYPE, closed.manifest.encoded),
        SESSION_KEY_LABEL: Record(COSE_KEY_TYPE, closed.session.key.encoded),
    }
    for item in closed.items.values():
        records[item.label] = Record(item.type.value, item.data)
    for item in outside:
        records[item.label] = Record(item.type.value, item.data)
    data = sign1(
        encode_collection(Collection(BUNDLE_TYPE, records)),
        signer,
        content_type=CMW_CBOR_TYPE,
        typ=CMW_COSE_TYPE,
        kid=closed.session.key.thumbprint,
    )
    try:
        parse_bundle(data)
    except EvidenceError as problem:
        raise UsageError(f"bundle cannot be made: {problem.message}", expected=problem.expected,
                         found=problem.found, where=problem.where) from None  # fmt: skip
    return data


def _outside(closed: Closed, quotes: list[Item], binders: Iterable[Item]) -> list[Item]:
    items = [*quotes, *binders]
    for item in items:
        if OUTSIDE.get(item.label) is not item.type:
            raise UsageError("item does not belong outside the manifest",
                             found=f"{item.label}, {item.type.value}",
                             expected=", ".join(OUTSIDE))  # fmt: skip
        if item.label in closed.manifest.absences:
            raise UsageError("item is stated to be absent", found=item.label)
    if len({item.label for item in items}) != len(items):
        raise UsageError("two items outside the manifest have one label")
    return items


def _derive(nonce: bytes, thumbprint: bytes, manifest_sha384: bytes) -> Derivation:
    inputs = BindingInputs(
        BindingProfile.CCVERIFY,
        session_key_thumbprint=thumbprint,
        manifest_sha384=manifest_sha384,
    )
    return derive(BindingProfile.CCVERIFY, nonce, inputs)


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle, nothing in it verified: `ccverify.bundle.verify_bundle` does that.

    Attributes:
        signed: the COSE_Sign1 around it.
        session_key: the key that the bundle says signed it.
        manifest: the manifest.
        items: everything else by label, quote and other items of `OUTSIDE` among it.
    """

    signed: Sign1
    session_key: CoseKey
    manifest: Manifest
    items: Mapping[str, Record]

    @property
    def absences(self) -> Mapping[str, AbsenceEntry]:
        """What is not there, and why, by label."""
        return self.manifest.absences

    @property
    def quote(self) -> bytes | None:
        """The quote; None if there is none."""
        return self._outside(QUOTE_LABEL)

    @property
    def tpm_quote(self) -> bytes | None:
        """The item with a TPM's quote (`ccverify.bundle.tpm_item`); None if there is none."""
        return self._outside(TPM_QUOTE_LABEL)

    @property
    def operator_signature(self) -> bytes | None:
        """The operator's signature (`ccverify.bundle.endorsement`); None if there is none."""
        return self._outside(OPERATOR_LABEL)

    def _outside(self, label: str) -> bytes | None:
        record = self.items.get(label)
        return None if record is None else record.value

    def of_type(self, kind: ItemType) -> Mapping[str, bytes]:
        """Return the items of one type by label, in the order of the numbers in the labels."""
        found = {label: r.value for label, r in self.items.items() if r.type == kind.value}
        return {label: found[label] for label in sorted(found, key=_natural)}


def _natural(label: str) -> tuple[str, int, str]:
    """Order ``gpu-2`` before ``gpu-10``."""
    digits = len(label) - len(label.rstrip("0123456789"))
    name = label[: len(label) - digits]
    return name, int(label[len(name) :] or 0), label


def is_bundle(data: bytes) -> bool:
    """Say whether these bytes are meant as a bundle, whole or cut short, by their COSE header."""
    return data.startswith(_FIRST_BYTES) and CMW_COSE_TYPE.encode() in data[:_HEADER_BYTES]


def parse_bundle(data: bytes) -> Bundle:
    """Parse a bundle.

    Args:
        data: the file, at most 64 MiB.

    Raises:
        EvidenceError: malformed in any way (docs/spec/bundle.md).  That items are those of the
            manifest, and that keys, nonce and signature agree, is not looked at.
    """
    signed = parse_sign1(data, what="bundle", error=EvidenceError, limit=MAX_BUNDLE_BYTES)
    for name, expected, found in (
        ("content type (3)", CMW_CBOR_TYPE, signed.content_type),
        ("typ (16)", CMW_COSE_TYPE, signed.typ),
        ("alg (1)", Algorithm.ESP384.name, signed.algorithm.name),
    ):
        if found != expected:
            raise EvidenceError("bundle has another header than bundles have", where=name,
                                expected=expected, found=str(found))  # fmt: skip
    if signed.kid is None or len(signed.kid) != 32:
        raise EvidenceError("bundle does not name its key", where="kid (4)",
                            expected="32 bytes, the session key's thumbprint")  # fmt: skip
    records = dict(
        parse_collection(
            signed.payload,
            type_=BUNDLE_TYPE,
            what="bundle payload",
            error=EvidenceError,
            limit=MAX_BUNDLE_BYTES,
        ).records
    )
    for label, record in records.items():
        if record.indicator is not Indicator.EVIDENCE:
            raise EvidenceError("bundle holds something other than evidence", where=label,
                                expected=f"indicator {Indicator.EVIDENCE.value}")  # fmt: skip
    key = parse_cose_key(_take(records, SESSION_KEY_LABEL, COSE_KEY_TYPE), what="session key")
    if key.algorithm is not Algorithm.ESP384:
        raise EvidenceError("session key is of the wrong kind", expected="P-384",
                            found=key.algorithm.name)  # fmt: skip
    manifest = parse_manifest(_take(records, MANIFEST_LABEL, MANIFEST_TYPE))
    for label, record in records.items():
        _require_item(label, record)
    return Bundle(signed, key, manifest, MappingProxyType(records))


def _take(records: dict[str, Record], label: str, kind: str) -> bytes:
    record = records.pop(label, None)
    if record is None or record.type != kind:
        raise EvidenceError(f"bundle has no {label}", where=label, expected=kind,
                            found="nothing" if record is None else record.type)  # fmt: skip
    return record.value


def _require_item(label: str, record: Record) -> None:
    if record.type not in _ITEM_TYPES:
        raise EvidenceError("bundle holds an item of unknown type", where=label,
                            found=record.type)  # fmt: skip
    belongs = _OUTSIDE_LABELS.get(record.type)
    if belongs != label and (belongs is not None or label in OUTSIDE):
        kind = OUTSIDE[belongs or label]
        raise EvidenceError("bundle has a quote under another name, or something else under its",
                            where=label, found=record.type,
                            expected=f"{kind.value} as {belongs or label}")  # fmt: skip
    if len(record.value) > MAX_ITEM_BYTES:
        raise EvidenceError("bundle holds an item that is too large", where=label,
                            expected=f"at most {MAX_ITEM_BYTES} bytes",
                            found=f"{len(record.value)} bytes")  # fmt: skip


_ITEM_TYPES: Final = frozenset(kind.value for kind in ItemType)
_OUTSIDE_LABELS: Final = {kind.value: label for label, kind in OUTSIDE.items()}
