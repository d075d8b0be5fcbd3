"""What a dstack guest answers: ``get_quote``, ``attest``, and parts of both inside other formats.

``get_quote`` is ``{"quote": hex, "event_log": JSON as a string, "report_data": hex,
"vm_config": JSON as a string}``; ``attest`` is ``{"attestation": hex}``, the hex of
`ccverify.interop.scale`, which is also read bare.
"""

from __future__ import annotations

from typing import Any, Final

from ccverify.evidence import BindingInputs, BindingProfile, EventLogFormat, Evidence
from ccverify.interop.elements import Element, parse_foreign_json
from ccverify.interop.model import ForeignEvidence
from ccverify.interop.scale import ScaleAttestation, parse_scale_attestation

__all__ = [
    "FORMAT",
    "MAX_COMPOSE_CHARACTERS",
    "MAX_LOG_CHARACTERS",
    "MAX_QUOTE_BYTES",
    "MAX_VM_CONFIG_CHARACTERS",
    "event_log_bytes",
    "matches",
    "parse",
    "parse_attestation",
    "tcb_info_text",
]

FORMAT: Final = "dstack"
MAX_QUOTE_BYTES: Final = 64 * 1024
"""Largest quote, in bytes.  Real ones take about 5 KB."""
MAX_LOG_CHARACTERS: Final = 4 * 1024 * 1024
MAX_COMPOSE_CHARACTERS: Final = 1024 * 1024
"""Longest application manifest.  Real ones reach 30 KB."""
MAX_VM_CONFIG_CHARACTERS: Final = 64 * 1024

_MAX_EVENTS: Final = 4096
_REPORT_DATA_BYTES: Final = 64


def matches(document: Any) -> bool:
    """Whether the document is an answer of ``get_quote`` or of ``attest``."""
    if not isinstance(document, dict) or "intel_quote" in document:
        return False
    if "quote" in document:
        return any(name in document for name in ("event_log", "vm_config", "report_data"))
    return "attestation" in document


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read the one node a dstack answer describes.

    Raises:
        EvidenceError: a member is missing, not hex, too large, or not the JSON it should be, or
            there are both a quote and an attestation.
    """
    top = Element(document)
    if not top.has("quote"):
        element = top.member("attestation")
        data = element.hex(most=4 * 1024 * 1024)
        return _from_scale(parse_scale_attestation(data, element.path))
    top.alone("quote", "attestation")
    report_data, vm_config = top.optional("report_data"), top.optional("vm_config")
    log = event_log_bytes(top)
    node = Evidence(
        label="guest",
        quote=top.member("quote").hex(most=MAX_QUOTE_BYTES),
        event_log=log,
        gpus=(),
        switches=(),
        binding=BindingInputs(
            BindingProfile.DSTACK,
            report_data=(
                report_data.hex(least=_REPORT_DATA_BYTES, most=_REPORT_DATA_BYTES)
                if report_data
                else None
            ),
            vm_config=vm_config.text(most=MAX_VM_CONFIG_CHARACTERS) if vm_config else None,
        ),
        event_log_format=EventLogFormat.DSTACK_JSON if log is not None else None,
    )
    return ForeignEvidence(FORMAT, (node,))


def parse_attestation(data: bytes) -> ForeignEvidence:
    """Read the bare bytes of ``attest``; raises as `parse_scale_attestation`."""
    return _from_scale(parse_scale_attestation(data))


def _from_scale(attestation: ScaleAttestation) -> ForeignEvidence:
    vm_config = _vm_config(attestation.config)
    node = Evidence(
        label="guest",
        quote=attestation.quote,
        event_log=attestation.event_log,
        gpus=(),
        switches=(),
        binding=BindingInputs(
            BindingProfile.DSTACK,
            report_data=attestation.report_data,
            vm_config=vm_config,
        ),
        event_log_format=EventLogFormat.DSTACK_JSON,
    )
    return ForeignEvidence(FORMAT, (node,))


def _vm_config(config: str) -> str | None:
    """The configuration is ``vm_config`` itself, or holds it as a string."""
    if not config:
        return None
    text = Element(config, "configuration").text(most=MAX_VM_CONFIG_CHARACTERS)
    inner = Element(parse_foreign_json(text, "configuration"), "configuration")
    stated = inner.optional("vm_config")
    return stated.text(most=MAX_VM_CONFIG_CHARACTERS) if stated else text


def event_log_bytes(element: Element) -> bytes | None:
    """Return the member ``event_log`` as UTF-8 JSON; None if there is none.

    It is the list itself or the list as a string.  A list is written out again, which loses
    nothing: no digest is over the text of the log.

    Raises:
        EvidenceError: neither, or over `MAX_LOG_CHARACTERS` characters or 4096 events.
    """
    log = element.optional("event_log")
    if log is None or log.value == "":
        return None
    if isinstance(log.value, str):
        log.json(most=MAX_LOG_CHARACTERS).items(most=_MAX_EVENTS, least=0)
        return log.value.encode()
    log.items(most=_MAX_EVENTS, least=0)
    return log.compact().encode()


def tcb_info_text(info: Element | None) -> Element | None:
    """Return ``tcb_info`` of dstack's app info; it is an object, or (older) one as a string."""
    tcb_info = info.optional("tcb_info") if info else None
    if tcb_info is None or not isinstance(tcb_info.value, str):
        return tcb_info
    return tcb_info.json(most=MAX_LOG_CHARACTERS)
