"""Quotes, collateral and event logs → `Inspection`, driven by the tables of their formats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ccverify.errors import EvidenceError
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.results.render.describe_certificates import (
    certificate_listing,
    common_name,
    platform_section,
    time_text,
    unreadable,
)
from ccverify.results.render.describe_rim import nvidia_collateral_listings
from ccverify.results.render.inspection import Inspection, Item, Listing, Section
from ccverify.tdx.attributes import TD_ATTRIBUTES, XFAM_FEATURES, reserved_attribute_bits
from ccverify.tdx.collateral import (
    Artefact,
    CollateralPack,
    CrlArtefact,
    SignedQeIdentity,
    SignedTcbInfo,
)
from ccverify.tdx.eventlog import EventLog, identity_claims, replay
from ccverify.tdx.events import Event
from ccverify.tdx.quote import (
    BODY_FIELDS,
    ENCLAVE_REPORT_FIELDS,
    HEADER_FIELDS,
    CertificationDataType,
    Field,
    Quote,
)
from ccverify.trust.x509 import parse_pem_chain

__all__ = ["describe_collateral", "describe_event_log", "describe_quote"]

HEADER_BYTES = 48
BODY_START = {4: 48, 5: 54}
"""Where the TD report begins, by quote version: version 5 has a 6-byte body descriptor."""


def describe_quote(quote: Quote) -> Inspection:
    """Show every field of a quote, its bits by name, and the platform its PCK names."""
    version, report = quote.header.version, quote.report
    title = f"TDX quote, version {version}, {report.body_type.name} body"
    bodies = BODY_FIELDS[report.body_type]
    return Inspection(
        "tdx-quote",
        title,
        (
            Section("header", "Header", _fields(quote.header, HEADER_FIELDS, "quote", 0)),
            Section("report", "TD report", _fields(report, bodies, "quote", BODY_START[version])),
            _td_attributes(report.tdattributes),
            _xfam(report.xfam),
            Section(
                "qe_report",
                "Report of the quoting enclave",
                _fields(quote.qe_report, ENCLAVE_REPORT_FIELDS, "qe_report", 0),
            ),
            _signature(quote),
            *_certification(quote),
        ),
    )


def _fields(owner: object, fields: Iterable[Field], base: str, start: int) -> tuple[Item, ...]:
    items = []
    for name, offset, size, meaning in fields:
        value = getattr(owner, name)
        where = f"{base}[{start + offset}:{start + offset + size}]"
        plain = value.hex() if isinstance(value, bytes) else value
        shown = f"0x{value:x}" if name == "tee_type" else ""
        items.append(Item(name, plain, meaning, where, shown))
    return tuple(items)


def _td_attributes(raw: bytes) -> Section:
    value = int.from_bytes(raw, "little")
    items = [
        Item(bit.key, bool(value >> bit.bit & 1), f"bit {bit.bit}: {bit.meaning}")
        for bit in TD_ATTRIBUTES
    ]
    items.append(
        Item("reserved", f"{reserved_attribute_bits(value):#x}", "bits this version does not know")
    )
    return Section("td_attributes", "TD attributes", tuple(items))


def _xfam(raw: bytes) -> Section:
    value = int.from_bytes(raw, "little")
    items = [
        Item(feature.key, value & feature.mask == feature.mask, feature.meaning)
        for feature in XFAM_FEATURES
    ]
    known = sum(feature.mask for feature in XFAM_FEATURES)
    items.append(Item("reserved", f"{value & ~known:#x}", "bits this version does not know"))
    return Section("xfam_features", "Extended features (XFAM)", tuple(items))


def _signature(quote: Quote) -> Section:
    kind = quote.certification_data_type
    return Section(
        "signature_data",
        "Signature data",
        (
            Item("quote_sha384", quote.digest, "of the signed bytes: identity of this quote"),
            Item("signed_bytes", len(quote.signed_range), "header and TD report"),
            Item("signature", quote.signature.hex(), "r, s over the signed bytes"),
            Item("attestation_key", quote.attestation_key.hex(), "x, y on P-256"),
            Item("qe_report_signature", quote.qe_report_signature.hex(), "r, s by the PCK key"),
            Item("qe_auth_data", quote.qe_auth_data.hex(), "hashed into the QE report"),
            Item("certification_data_type", int(kind), kind.name),
            Item("certification_data_bytes", len(quote.certification_data)),
            Item("padding_bytes", quote.padding, "zero bytes after the quote, signed by nobody"),
        ),
    )


def _certification(quote: Quote) -> tuple[Section | Listing, ...]:
    if quote.certification_data_type is not CertificationDataType.PCK_CERT_CHAIN:
        return ()
    try:
        chain = parse_pem_chain(quote.certification_data)
    except EvidenceError as problem:
        return (Section("pck_chain", "PCK chain", (unreadable(problem),)),)
    listing = certificate_listing("pck_chain", "PCK certificate chain", chain)
    return listing, platform_section(chain[0])


def describe_collateral(pack: CollateralPack, nvidia: NvidiaCollateral | None = None) -> Inspection:
    """Show the artefacts of a pack, Intel's and NVIDIA's, with their windows and editions."""
    kinds = Counter(artefact.kind for artefact in pack.artefacts)
    items = [
        Item("pack_sha384", pack.digest, "of Intel's artefacts, in any order"),
        *(Item(kind, count) for kind, count in kinds.items()),
        Item("pck-chain", len(pack.pck_chains)),
    ]
    title = "TDX collateral"
    theirs: tuple[Listing, ...] = ()
    if nvidia is not None and not nvidia.is_empty:
        title, theirs = "Collateral for TDX and NVIDIA devices", nvidia_collateral_listings(nvidia)
        items.append(Item("nvidia_sha384", nvidia.digest, "of NVIDIA's artefacts, in any order"))
        items += [Item(listing.key, len(listing.records)) for listing in theirs]
    columns = ("type", "edition", "next_update", "subject")
    artefacts = tuple(map(_artefact, pack.artefacts))
    return Inspection(
        "collateral",
        title,
        (
            Section("summary", "Contents", tuple(items)),
            Listing("artefacts", "Artefacts of Intel", columns, artefacts),
            *theirs,
        ),
    )


def _artefact(artefact: Artefact) -> dict[str, Any]:
    subject = ""
    if isinstance(artefact, SignedTcbInfo):
        levels = len(artefact.value.tcb_levels)
        subject = f"FMSPC {artefact.value.fmspc.hex().upper()}, {levels} TCB levels"
    elif isinstance(artefact, SignedQeIdentity):
        subject = f"{artefact.value.id}, MRSIGNER {artefact.value.mrsigner.hex()[:16]}…"
    elif isinstance(artefact, CrlArtefact):
        issuer = common_name(artefact.crl.issuer_text)
        subject = f"{artefact.crl.entries} revoked, by {issuer}"
    return {
        "type": artefact.kind,
        "edition": artefact.edition,
        "issued": time_text(artefact.issued),
        "next_update": time_text(artefact.next_update),
        "subject": subject,
        "sha384": artefact.digest,
    }


def describe_event_log(log: EventLog) -> Inspection:
    """Show what a log replays to, its events, and the claims a dstack log makes."""
    title = f"{'CCEL' if log.kind == 'ccel' else 'dstack'} event log, {len(log.events)} events"
    registers = tuple(
        Item(f"rtmr{number}", value.hex(), "", f"{_extending(log, number)} events")
        for number, value in enumerate(replay(log))
    )
    parts: list[Section | Listing] = [
        Section("replayed", "Registers this log replays to", registers)
    ]
    if log.kind == "dstack":
        claims = identity_claims(log)
        items = [Item(name, _plain(value)) for name, value in claims.values.items()]
        items += [Item(f"problem_{n}", text) for n, text in enumerate(claims.problems)]
        parts.append(Section("claims", "Identity claims", tuple(items)))
    columns = ("index", "rtmr", "type", "source", "content")
    parts.append(Listing("events", "Events", columns, tuple(map(_event, log.events))))
    return Inspection("event-log", title, parts)


def _extending(log: EventLog, register: int) -> int:
    return sum(event.extends and event.register == register for event in log.events)


def _plain(value: object) -> Any:
    return dict(value) if hasattr(value, "keys") else value  # type: ignore[call-overload]


def _event(event: Event) -> dict[str, Any]:
    preview = _preview(event.payload)
    return {
        "index": event.index,
        "rtmr": event.register,
        "type": event.type_name,
        "source": event.source.value,
        "content": f"{event.name}: {preview}" if event.name else preview,
        "name": event.name,
        "digest": event.digest.hex(),
        "payload_bytes": len(event.payload),
        "payload": event.payload.hex(),
    }


_PREVIEW_BYTES = 256
_READABLE = re.compile(rb"[\x20-\x7e]{3,}")
_SURELY_TEXT = 8
"""A run of readable bytes this long does not come about by chance."""


def _preview(payload: bytes) -> str:
    """Show the longest readable text near the start of a payload, or else its first bytes.

    Zero bytes are passed over, so that the UTF-16 names of EFI variables are found too.
    """
    start = payload[:_PREVIEW_BYTES].replace(b"\0", b"")
    longest = max(_READABLE.findall(start), key=len, default=b"")
    cut = "…" if len(payload) > _PREVIEW_BYTES else ""
    if len(longest) >= _SURELY_TEXT or len(longest) * 2 > len(start):
        return f"{longest.decode('ascii')}{cut}"
    return payload[:16].hex() + ("…" if len(payload) > 16 else "") or "–"
