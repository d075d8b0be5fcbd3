"""Tinfoil's attestation document, version 3.

``{"format": "https://tinfoil.sh/predicate/attestation/v3", "report_data": {"tls_key_fp",
"hpke_key", "nonce", "gpu_evidence_hash"?, "nvswitch_evidence_hash"?}, "cpu": {"platform",
"report": base64}, "gpu"?: {"evidences": [...]}, "nvswitch"?: likewise, "certificate": PEM,
"signature"}``.  The GPU evidence hash is over the text of the member ``gpu`` as sent: the
server hashes its own compact JSON and sends the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

from ccverify.evidence import (
    BindingInputs,
    BindingProfile,
    DeviceEvidence,
    Evidence,
    OtherCpuEvidence,
)
from ccverify.interop.devices import (
    MAX_DEVICES,
    NONCE_BYTES,
    assertions,
    parse_device,
    split_devices,
)
from ccverify.interop.dstack import MAX_QUOTE_BYTES
from ccverify.interop.elements import Element, member_texts
from ccverify.interop.model import ForeignEvidence

__all__ = ["FORMAT", "V3", "matches", "parse"]

FORMAT: Final = "tinfoil"
V3: Final = "https://tinfoil.sh/predicate/attestation/v3"

_PREFIX: Final = "https://tinfoil.sh/predicate/"
_TDX: Final = "tdx"
_OTHER_PLATFORMS: Final = ("sev-snp",)
_MAX_PEM: Final = 64 * 1024


def matches(document: Any) -> bool:
    """Whether the document's ``format`` is one of Tinfoil's, whatever its version."""
    stated = document.get("format") if isinstance(document, dict) else None
    return isinstance(stated, str) and stated.startswith(_PREFIX)


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read the one node of a document.

    Raises:
        EvidenceError: another version, a platform other than tdx and sev-snp, or a member that
            is missing or malformed.
    """
    top = Element(document)
    if top.member("format").value != V3:
        raise top.member("format").wrong(V3)
    cpu = top.member("cpu")
    platform = cpu.member("platform")
    if platform.value not in (_TDX, *_OTHER_PLATFORMS):
        raise platform.wrong(" or ".join((_TDX, *_OTHER_PLATFORMS)))
    report = cpu.member("report")
    data = report.base64(most=MAX_QUOTE_BYTES)
    is_tdx = platform.value == _TDX
    gpus, switches = split_devices((*_devices(top, "gpu"), *_devices(top, "nvswitch")))
    nvswitch = top.optional("nvswitch")
    node = Evidence(
        label="enclave",
        quote=data if is_tdx else None,
        event_log=None,
        gpus=gpus,
        switches=switches,
        binding=_binding(top, member_texts(raw.decode())),
        other_cpu=None if is_tdx else OtherCpuEvidence(platform.value, data, report.path),
        asserted=assertions(nvswitch, ("result_code", "result_message")) if nvswitch else (),
    )
    signature = top.optional("signature")
    return ForeignEvidence(FORMAT, (node,), not_read=(signature.path,) if signature else ())


def _devices(top: Element, name: str) -> tuple[DeviceEvidence, ...]:
    part = top.optional(name)
    if part is None:
        return ()
    return tuple(parse_device(item) for item in part.member("evidences").items(most=MAX_DEVICES))


def _binding(top: Element, texts: dict[str, str]) -> BindingInputs:
    stated = top.member("report_data")
    certificate = top.optional("certificate")

    def source(name: str) -> bytes | None:
        return texts[name].encode() if top.has(name) else None

    return BindingInputs(
        BindingProfile.TINFOIL_V3,
        request_nonce=stated.member("nonce").hex(least=NONCE_BYTES, most=NONCE_BYTES),
        request_nonce_text=stated.member("nonce").text(most=2 * NONCE_BYTES),
        tls_fingerprint=stated.member("tls_key_fp").hex(least=32, most=32),
        tls_certificate=certificate.text(most=_MAX_PEM).encode() if certificate else None,
        hpke_key=stated.member("hpke_key").hex(least=32, most=32),
        report_data_json=source("report_data"),
        gpu_evidence_hash=_hash(stated, "gpu_evidence_hash"),
        gpu_evidence_json=source("gpu"),
        nvswitch_evidence_hash=_hash(stated, "nvswitch_evidence_hash"),
        nvswitch_evidence_json=source("nvswitch"),
    )


def _hash(stated: Element, name: str) -> bytes | None:
    value = stated.optional(name)
    if value is None or value.value == "":  # how Go writes a string that was never set
        return None
    return value.hex(least=32, most=32)
