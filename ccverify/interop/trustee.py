"""Evidence of the Confidential Containers project (Trustee, guest-components).

A TDX attester sends ``{"quote": base64, "cc_eventlog": base64 of the CCEL or null}``, an NVIDIA
attester ``{"device_evidence_list": [{"arch", "uuid", "evidence", "certificate"}]}``.  The KBS
protocol wraps both: ``{"runtime-data": {"nonce", "tee-pubkey"}, "tee-evidence":
{"primary_evidence": object, "additional_evidence": JSON as a string, by kind of TEE}}``.
"""

from __future__ import annotations

from typing import Any, Final

from ccverify.evidence import (
    BindingInputs,
    BindingProfile,
    DeviceEvidence,
    EventLogFormat,
    Evidence,
)
from ccverify.interop.devices import MAX_DEVICES, parse_devices
from ccverify.interop.dstack import MAX_LOG_CHARACTERS, MAX_QUOTE_BYTES
from ccverify.interop.elements import Element
from ccverify.interop.model import ForeignEvidence

__all__ = ["FORMAT", "matches", "parse"]

FORMAT: Final = "trustee"

_MAX_CCEL: Final = 4 * 1024 * 1024
_MAX_KINDS: Final = 16
_NVIDIA: Final = "nvidia"
_PROFILE: Final = BindingProfile.TRUSTEE

_Devices = tuple[tuple[DeviceEvidence, ...], tuple[DeviceEvidence, ...]]


def matches(document: Any) -> bool:
    """Whether this is a KBS attestation, or what a TDX or NVIDIA attester made."""
    if not isinstance(document, dict):
        return False
    if "tee-evidence" in document or "device_evidence_list" in document:
        return True
    return "quote" in document and "cc_eventlog" in document


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read the one node such evidence describes.

    Raises:
        EvidenceError: primary evidence that is not of TDX, a malformed member, or evidence in
            more than one of the three forms.
    """
    top = Element(document)
    if top.has("tee-evidence"):
        top.alone("tee-evidence", "quote", "device_evidence_list")
        return _kbs(top)
    if top.has("quote"):
        top.alone("quote", "device_evidence_list", "attestation")
        return ForeignEvidence(FORMAT, (_node(top, ((), ()), BindingInputs(_PROFILE)),))
    devices = _devices(top)
    node = Evidence(
        label="guest",
        quote=None,
        event_log=None,
        gpus=devices[0],
        switches=devices[1],
        binding=BindingInputs(_PROFILE),
    )
    return ForeignEvidence(FORMAT, (node,))


def _kbs(top: Element) -> ForeignEvidence:
    evidence = top.member("tee-evidence")
    runtime = top.member("runtime-data")
    additional = evidence.optional("additional_evidence")
    devices: _Devices = ((), ())
    not_read = []
    text = None
    if additional is not None and additional.value != "":
        text = additional.text(most=MAX_LOG_CHARACTERS)
        for kind, part in additional.json(most=MAX_LOG_CHARACTERS).members(most=_MAX_KINDS):
            if kind == _NVIDIA:
                devices = _devices(part)
            else:
                not_read.append(part.path)
    binding = BindingInputs(
        _PROFILE, runtime_data_json=runtime.compact(), additional_evidence_json=text
    )
    node = _node(evidence.member("primary_evidence"), devices, binding)
    if top.has("init-data"):
        not_read.append("init-data")
    return ForeignEvidence(FORMAT, (node,), not_read=tuple(not_read))


def _devices(part: Element) -> _Devices:
    items = part.member("device_evidence_list").items(most=MAX_DEVICES)
    return parse_devices(items, hex_reports=True)


def _node(cpu: Element, devices: _Devices, binding: BindingInputs) -> Evidence:
    log = cpu.optional("cc_eventlog")
    has_log = log is not None and log.value != ""
    return Evidence(
        label="guest",
        quote=cpu.member("quote").base64(most=MAX_QUOTE_BYTES),
        event_log=log.base64(most=_MAX_CCEL) if log is not None and has_log else None,
        gpus=devices[0],
        switches=devices[1],
        binding=binding,
        source=cpu.path,
        event_log_format=EventLogFormat.CCEL if has_log else None,
    )
