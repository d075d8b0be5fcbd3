"""The attestation report of one inference node on dstack: one layout, several services.

``{"signing_address", "signing_algo", "request_nonce", "intel_quote": hex, "nvidia_payload":
an NRAS request as a string, "event_log", "info": dstack's app info, "tls_cert_fingerprint"}``.
Phala's vLLM proxy defined it; NEAR AI, redpill, NanoGPT and Venice pass it on or extend it.
"""

from __future__ import annotations

from typing import Final

from ccverify.evidence import (
    BindingInputs,
    BindingProfile,
    DeviceEvidence,
    EventLogFormat,
    Evidence,
    NodeRole,
)
from ccverify.interop.devices import NONCE_BYTES, assertions
from ccverify.interop.dstack import (
    MAX_COMPOSE_CHARACTERS,
    MAX_LOG_CHARACTERS,
    MAX_QUOTE_BYTES,
    MAX_VM_CONFIG_CHARACTERS,
    event_log_bytes,
    tcb_info_text,
)
from ccverify.interop.elements import Element
from ccverify.interop.nras import parse_request

__all__ = ["MAX_NODES", "parse_report", "parse_reports", "unread"]

MAX_NODES: Final = 256
"""Most nodes of one response."""

_FINGERPRINT_BYTES: Final = 32
# Said by the service about itself or about a check it made for the client.
_ASSERTED: Final = ("model_name", "model", "verified", "tee_provider", "tee_hardware")
_APP_ASSERTED: Final = ("app_id", "app_name", "instance_id", "device_id", "compose_hash")
# Further quotes, signatures and verdicts that NEAR and its resellers add.
_UNREAD: Final = (
    "compose_manager_attestation",
    "ohttp_attestation",
    "server_verification",
    "vpc",
)


def parse_reports(top: Element) -> tuple[Evidence, ...]:
    """Read a report that may list further nodes under ``all_attestations``.

    The top level repeats one of them.  If it differs in anything a verdict rests on, say in the
    signing address that clients read there, it is a node of its own and gets its own verdict.

    Raises:
        EvidenceError: as `parse_report`, more than `MAX_NODES` nodes, or dstack's binary
            attestation beside the quote.
    """
    top.alone("intel_quote", "attestation")
    own = parse_report(top, top.path or "node")
    listed = top.optional("all_attestations")
    if listed is None or listed.value == []:
        return (own,)
    nodes = tuple(parse_report(item, item.path) for item in listed.items(most=MAX_NODES))
    repeated = any(_same(own, node) for node in nodes)
    return nodes if repeated else (own, *nodes)


def _same(one: Evidence, other: Evidence) -> bool:
    devices = [
        [(d.report, d.certificate_chain) for d in (*node.gpus, *node.switches)]
        for node in (one, other)
    ]
    return (
        one.quote == other.quote
        and one.event_log == other.event_log
        and one.binding == other.binding
        and devices[0] == devices[1]
    )


def parse_report(report: Element, label: str, role: NodeRole = NodeRole.WORKLOAD) -> Evidence:
    """Read one node.

    Raises:
        EvidenceError: no quote, two quotes that differ, a member that is not hex of the right
            length, or a payload that is not an NRAS request.
    """
    quote = report.member("intel_quote").hex(most=MAX_QUOTE_BYTES)
    other = report.optional("quote")
    if other and other.hex(most=MAX_QUOTE_BYTES) != quote:
        raise other.wrong("the same quote as intel_quote")
    gpus, switches = _devices(report)
    info = report.optional("info")
    log = event_log_bytes(report)
    return Evidence(
        label=label,
        quote=quote,
        event_log=log,
        gpus=gpus,
        switches=switches,
        binding=_binding(report, info),
        source=report.path,
        role=role,
        event_log_format=EventLogFormat.DSTACK_JSON if log is not None else None,
        asserted=assertions(report, _ASSERTED) + (assertions(info, _APP_ASSERTED) if info else ()),
    )


def _devices(
    report: Element,
) -> tuple[tuple[DeviceEvidence, ...], tuple[DeviceEvidence, ...]]:
    payload = report.optional("nvidia_payload")
    if payload is None or payload.value == "":
        return (), ()
    _, gpus, switches = parse_request(payload.json(most=MAX_LOG_CHARACTERS))
    return gpus, switches


def _binding(report: Element, info: Element | None) -> BindingInputs:
    nonce = report.optional("request_nonce")
    address = report.optional("signing_address")
    algorithm = report.optional("signing_algo")
    key = report.optional("signing_public_key")
    fingerprint = report.optional("tls_cert_fingerprint")
    stated = report.optional("report_data")
    tcb_info = tcb_info_text(info)
    compose = tcb_info.optional("app_compose") if tcb_info else None
    config = report.optional("vm_config") or (info.optional("vm_config") if info else None)
    profile = BindingProfile.NEAR if fingerprint else BindingProfile.REDPILL
    return BindingInputs(
        profile,
        request_nonce=nonce.hex(least=NONCE_BYTES, most=NONCE_BYTES) if nonce else None,
        request_nonce_text=nonce.text(most=2 * NONCE_BYTES) if nonce else None,
        signing_address=address.hex(most=64, prefix=True) if address else None,
        signing_algorithm=algorithm.text(most=32) if algorithm else None,
        signing_public_key=key.hex(most=128, prefix=True) if key else None,
        tls_fingerprint=(
            fingerprint.hex(least=_FINGERPRINT_BYTES, most=_FINGERPRINT_BYTES)
            if fingerprint
            else None
        ),
        report_data=stated.hex(least=64, most=64) if stated else None,
        app_compose=compose.text(most=MAX_COMPOSE_CHARACTERS) if compose else None,
        vm_config=config.text(most=MAX_VM_CONFIG_CHARACTERS, least=0) if config else None,
    )


def unread(report: Element) -> tuple[str, ...]:
    """Return the paths of what a report and those it lists hold beyond their own evidence."""
    listed = report.optional("all_attestations")
    reports = (report, *(listed.items(most=MAX_NODES, least=0) if listed else ()))
    found = (part.optional(name) for part in reports for name in _UNREAD)
    return tuple(element.path for element in found if element)
