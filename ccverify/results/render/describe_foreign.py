"""Foreign evidence, node by node → `Inspection`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from ccverify.evidence import Assertion, BindingInputs, Evidence
from ccverify.interop.model import ForeignEvidence
from ccverify.results.render.claims import show_value
from ccverify.results.render.describe_eat import result_group
from ccverify.results.render.describe_nodes import device_listings, event_log_section, quote_section
from ccverify.results.render.inspection import (
    Group,
    Inspection,
    Item,
    Listing,
    Part,
    Section,
)

__all__ = ["describe_foreign", "describe_instance_keys"]

FORMAT_TITLES = {
    "chutes": "Evidence of Chutes",
    "detached-eat": "Result of another verifier (detached EAT), which is no evidence",
    "dstack": "Evidence of a dstack guest",
    "near": "Evidence of NEAR AI",
    "nras-request": "Request to NVIDIA's attestation service",
    "nvattest": "Evidence of NVIDIA's tools",
    "redpill": "Evidence of redpill or Phala Cloud",
    "tinfoil": "Evidence of Tinfoil",
    "trustee": "Evidence of Confidential Containers (Trustee)",
}
_ASSERTED = "Asserted by the service: proves nothing"
_ASSERTED_NOTICE = (
    "Nobody signed these values and no check rests on them; anybody could have written them."
)


def describe_foreign(evidence: ForeignEvidence) -> Inspection:
    """Show each node's quote, log, devices and binding inputs, and what is only asserted."""
    nodes, results = evidence.nodes, evidence.results
    title = FORMAT_TITLES.get(evidence.format, f"Evidence in the format {evidence.format}")
    if len(nodes) > 1:
        title += f", {len(nodes)} nodes"
    parts: list[Part] = [
        Section("source", "Source", (Item("format", evidence.format), Item("nodes", len(nodes))))
    ]
    if nodes:
        members = tuple(
            (_node_title(node, number, len(nodes)), _node(node))
            for number, node in enumerate(nodes, 1)
        )
        parts.append(Group("nodes", members))
    if results:
        parts.append(result_group(results))
    parts += _asserted(evidence.asserted)
    if evidence.not_read:
        records = tuple({"path": path} for path in evidence.not_read)
        parts.append(
            Listing("not_read", "Not read: evidence this version leaves aside", ("path",), records)
        )
    return Inspection("foreign-evidence", title, parts)


def describe_instance_keys(keys: Mapping[str, str]) -> Inspection:
    """Show the list of Chutes instances and their end-to-end keys, which their binding hashes."""
    records = tuple({"instance_id": label, "e2e_pubkey": key} for label, key in keys.items())
    listing = Listing("instances", "Instances", ("instance_id", "e2e_pubkey"), records)
    return Inspection("instance-keys", "Instances of Chutes and their keys", (listing,))


def _node_title(node: Evidence, number: int, count: int) -> str:
    parts = [
        text
        for present, text in (
            (node.quote, "TDX quote"),
            (node.other_cpu, f"{node.other_cpu.technology} report" if node.other_cpu else ""),
            (node.event_log, "event log"),
            (node.gpus, _counted(len(node.gpus), "GPU")),
            (node.switches, _counted(len(node.switches), "NVSwitch", "es")),
        )
        if present
    ]
    place = f"Node {number} of {count}" if count > 1 else "Node"
    return f"{place}: {node.label} ({node.role.value}: {', '.join(parts) or 'no evidence'})"


def _counted(count: int, what: str, plural: str = "s") -> str:
    return f"{count} {what}{plural if count != 1 else ''}"


def _node(node: Evidence) -> tuple[Part, ...]:
    identity = Section(
        "node",
        "Name in the response",
        (
            Item("label", node.label),
            Item("role", node.role.value),
            Item("path", node.source or "the whole document"),
        ),
    )
    parts: list[Part] = [identity]
    quote = None
    if node.quote:
        section, quote = quote_section(node.quote)
        parts.append(section)
    if node.other_cpu is not None:
        other = node.other_cpu
        items = (
            Item("technology", other.technology, "not judged by this version", other.source),
            Item("bytes", len(other.report)),
            Item("sha256", hashlib.sha256(other.report).hexdigest()),
        )
        parts.append(Section("other_cpu", "CPU evidence that is not of TDX", items))
    if node.event_log:
        parts.append(event_log_section(node.event_log, quote))
    parts += device_listings("gpus", "gpu", "GPUs", node.gpus)
    parts += device_listings("nvswitches", "nvswitch", "NVSwitches", node.switches)
    parts.append(_binding(node.binding))
    parts += _asserted(_all_asserted(node))
    return tuple(parts)


def _all_asserted(node: Evidence) -> tuple[Assertion, ...]:
    devices = (*node.gpus, *node.switches)
    return node.asserted + tuple(said for device in devices for said in device.asserted)


def _asserted(said: Iterable[Assertion]) -> list[Part]:
    places: dict[tuple[str, str], list[str]] = {}
    records = []
    for one in said:
        records.append({"name": one.name, "value": one.value, "source": one.source})
        places.setdefault((one.name, show_value(one.value)), []).append(one.source)
    if not records:
        return []
    shown = tuple((name, _places(found), value) for (name, value), found in places.items())
    columns = ("name", "source", "value")
    return [Listing("asserted", _ASSERTED, columns, tuple(records), shown, notice=_ASSERTED_NOTICE)]


def _places(paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0][:40]} and {len(paths) - 1} more"


# --- binding -------------------------------------------------------------------------------------

_LONG = 256
"""Longer inputs are shown by size and hash; the text itself is in the file."""
_MEANINGS = {
    "profile": "suggested by the shape of the response; name it in the policy to rely on it",
    "request_nonce": "as the response repeats it; freshness needs your own copy",
    "signing_address": "key that signs answers, if the binding holds",
    "tls_fingerprint": "SHA-256 of the TLS public key",
    "e2e_public_key": "end-to-end encryption key, as sent",
    "hpke_key": "HPKE public key",
    "report_data": "as the response states it; the quote has the real one",
    "app_compose": "application manifest; its SHA-256 is the compose hash",
    "gpu_evidence_hash": "as stated",
    "nvswitch_evidence_hash": "as stated",
}


def _binding(binding: BindingInputs) -> Section:
    items = []
    for field in fields(binding):
        value = getattr(binding, field.name)
        if value is None or (field.name == "request_nonce_text" and _repeats_nonce(binding)):
            continue
        plain, shown = _input(field.name, value)
        items.append(Item(field.name, plain, _MEANINGS.get(field.name, ""), shown=shown))
    return Section("binding", "Binding inputs, as sent and unproven", tuple(items))


def _repeats_nonce(binding: BindingInputs) -> bool:
    return bool(binding.request_nonce and binding.request_nonce.hex() == binding.request_nonce_text)


def _input(name: str, value: Any) -> tuple[Any, str]:
    """Return an input as JSON has it, and what a person reads instead."""
    if isinstance(value, bytes) and not _is_text(name) and len(value) <= _LONG:
        return value.hex(), ""
    text = value.value if name == "profile" else value
    if isinstance(text, str) and len(text) <= _LONG:
        return text, ""
    data = text.encode() if isinstance(text, str) else bytes(text)
    digest = hashlib.sha256(data).hexdigest()
    return {"bytes": len(data), "sha256": digest}, f"{len(data)} bytes, SHA-256 {digest}"


def _is_text(name: str) -> bool:
    return name.endswith("_json") or name == "tls_certificate"
