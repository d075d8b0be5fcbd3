"""What a node's quote, event log and devices say, each in a few lines."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ccverify.errors import EvidenceError
from ccverify.evidence import DeviceEvidence
from ccverify.nvidia.certs import parse_device_chain
from ccverify.nvidia.gpu import mode_name
from ccverify.nvidia.opaque import GpuOpaqueData
from ccverify.nvidia.spdm import decode_report_text, parse_attestation_report
from ccverify.results.render.describe_certificates import device_claims, unreadable
from ccverify.results.render.describe_devices import parse_opaque_data
from ccverify.results.render.inspection import Item, Listing, Part, Section
from ccverify.results.render.runs import name_runs
from ccverify.tdx.attributes import attribute_names
from ccverify.tdx.eventlog import identity_claims, parse_event_log, replay
from ccverify.tdx.pck import parse_pck_platform
from ccverify.tdx.quote import Quote, parse_quote
from ccverify.trust.x509 import parse_pem_chain

__all__ = ["device_listings", "event_log_section", "quote_section"]


def quote_section(data: bytes) -> tuple[Section, Quote | None]:
    """Return a summary of a quote, and the quote where it can be read."""
    title = "TDX quote (`ccverify inspect` of the quote itself shows all of it)"
    try:
        quote = parse_quote(data)
    except EvidenceError as problem:
        size = Item("bytes", len(data))
        return Section("quote", "TDX quote", (unreadable(problem), size)), None
    report = quote.report
    attributes = attribute_names(int.from_bytes(report.tdattributes, "little"))
    registers = [(f"rtmr{n}", getattr(report, f"rtmr{n}")) for n in range(4)]
    items = (
        Item("version", quote.header.version),
        Item("body", report.body_type.name),
        Item("bytes", len(data)),
        Item("quote_sha384", quote.digest, "of the signed bytes: identity of this quote"),
        _fmspc(quote),
        Item("tee_tcb_svn", report.tee_tcb_svn.hex()),
        Item("td_attributes", list(attributes)),
        *(Item(n, getattr(report, n).hex()) for n in ("mrtd", "mrconfigid", "mrowner")),
        *(Item(name, value.hex()) for name, value in registers),
        Item("report_data", report.report_data.hex()),
    )
    return Section("quote", title, items), quote


def _fmspc(quote: Quote) -> Item:
    try:
        chain = parse_pem_chain(quote.certification_data)
        platform = parse_pck_platform(chain[0])
    except EvidenceError as problem:
        return Item("fmspc", None, f"PCK certificate: {problem.message}")
    return Item("fmspc", platform.fmspc.hex().upper(), "of the PCK certificate")


def event_log_section(data: bytes, quote: Quote | None) -> Section:
    """Return a summary of an event log: size, registers, and a dstack log's claims."""
    try:
        log = parse_event_log(data)
    except EvidenceError as problem:
        return Section("event_log", "Event log", (unreadable(problem), Item("bytes", len(data))))
    items = [Item("kind", log.kind), Item("events", len(log.events))]
    for number, value in enumerate(replay(log)):
        note = ""
        if quote is not None:
            same = getattr(quote.report, f"rtmr{number}") == value
            note = "as in the quote" if same else "NOT as in the quote"
        items.append(Item(f"rtmr{number}", value.hex(), "replayed", note))
    if log.kind == "dstack":
        claims = identity_claims(log)
        items += [
            Item(name, dict(value) if hasattr(value, "keys") else value)
            for name, value in claims.values.items()
        ]
        items += [Item(f"problem_{n}", text) for n, text in enumerate(claims.problems)]
    return Section("event_log", "Event log", tuple(items))


# --- devices -------------------------------------------------------------------------------------

_GPU_COLUMNS = ("id", "chip", "device_id", "driver", "vbios", "mode")
_SWITCH_COLUMNS = ("id", "chip", "device_id", "vbios", "position", "locked")


def device_listings(
    key: str, prefix: str, title: str, devices: Sequence[DeviceEvidence]
) -> list[Part]:
    """Return one row for each device, then the nonces and what could not be read."""
    if not devices:
        return []
    columns = _GPU_COLUMNS if prefix == "gpu" else _SWITCH_COLUMNS
    records = tuple(_record(device, f"{prefix}-{at}", columns) for at, device in enumerate(devices))
    heading = f"{title} ({len(devices)}; chip and device id by the chain, the rest by the report)"
    parts: list[Part] = [Listing(key, heading, columns, records)]
    nonces = _by_value(records, "nonce")
    if nonces:
        items = tuple(
            Item(f"nonce_{n}" if len(nonces) > 1 else "nonce", nonce, names)
            for n, (nonce, names) in enumerate(nonces)
        )
        parts.append(Section(f"{key}_nonces", f"Nonces in the reports of {title}", items))
    problems = [
        Item(record["id"], record[name], name.removesuffix("_problem"))
        for record in records
        for name in record
        if name.endswith("_problem") and record[name]
    ]
    if problems:
        parts.append(Section(f"{key}_problems", f"Odd about {title}", tuple(problems)))
    return parts


def _by_value(records: Sequence[dict[str, Any]], member: str) -> list[tuple[str, str]]:
    """Group devices by a member: the value and the names that have it, as ``gpu-0 … gpu-7``."""
    groups: dict[str, list[str]] = {}
    for record in records:
        if record.get(member):
            groups.setdefault(record[member], []).append(record["id"])
    return [(value, name_runs(names)) for value, names in groups.items()]


def _record(device: DeviceEvidence, name: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return what one device's chain and report say; problems are members too."""
    claimed = device.claimed_nonce
    record: dict[str, Any] = dict.fromkeys(columns)
    record |= {
        "id": name,
        "path": device.source,
        "claimed_architecture": device.claimed_architecture,
        "claimed_nonce": claimed.hex() if claimed else None,
    }
    try:
        record |= device_claims(parse_device_chain(device.certificate_chain))
    except EvidenceError as problem:
        record["chain_problem"] = problem.message
    try:
        record |= _report_members(device.report)
    except EvidenceError as problem:
        record["report_problem"] = problem.message
        record["report_sha256"] = hashlib.sha256(device.report).hexdigest()
    nonce = record.get("nonce")
    if claimed and nonce and nonce != claimed.hex():
        record["claimed_nonce_problem"] = "the nonce the sender states is not that of the report"
    certified, reported = record.get("fwid"), record.get("report_fwid")
    if certified and reported and certified != reported:
        record["firmware_problem"] = "chain and report name different firmware (FWID)"
    return record


def _report_members(data: bytes) -> dict[str, Any]:
    report = parse_attestation_report(decode_report_text(data))
    members: dict[str, Any] = {
        "nonce": report.nonce.hex(),
        "report_sha384": report.digest,
        "measurements": len(report.measurements),
    }
    try:
        opaque = parse_opaque_data(report.opaque_data)
    except EvidenceError as problem:
        return members | {"opaque_problem": problem.message}
    members["unknown_fields"] = [f"{f.type}: {f.data.hex()}" for f in opaque.unknown]
    members["vbios"] = opaque.vbios_version
    if isinstance(opaque, GpuOpaqueData):
        reading = opaque.mode_reading
        return members | {
            "driver": opaque.driver_version,
            "mode": mode_name(opaque),
            "mode_basis": reading.basis,
            "mode_problem": reading.problem,
            "report_fwid": opaque.fwid.hex() if opaque.fwid else None,
        }
    return members | {
        "position": opaque.position_id,
        "locked": opaque.locked,
        "report_device_id": opaque.device_pdi.hex().upper() if opaque.device_pdi else None,
    }
