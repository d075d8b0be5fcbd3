"""The request of NVIDIA's Remote Attestation Service (NRAS), versions 3 and 4.

``{"nonce", "arch", "evidence_list": [{"evidence", "certificate"}], "claims_version"}``: GPUs
and switches go to addresses of their own, so one request holds one kind.  Inference services
pass the same object on as their ``nvidia_payload``.
"""

from __future__ import annotations

from typing import Any, Final

from ccverify.evidence import BindingInputs, BindingProfile, DeviceEvidence, Evidence
from ccverify.interop.devices import MAX_DEVICES, NONCE_BYTES, assertions, parse_devices
from ccverify.interop.elements import Element
from ccverify.interop.model import ForeignEvidence

__all__ = ["FORMAT", "matches", "parse", "parse_request"]

FORMAT: Final = "nras-request"


def matches(document: Any) -> bool:
    """Whether the document is an object with an ``evidence_list``."""
    return isinstance(document, dict) and "evidence_list" in document


def parse_request(
    request: Element,
) -> tuple[bytes | None, tuple[DeviceEvidence, ...], tuple[DeviceEvidence, ...]]:
    """Read a request: the nonce it states, its GPUs and its switches.

    Raises:
        EvidenceError: an empty list, a nonce that is not 32 bytes of hex, or an item that is
            not device evidence.
    """
    stated = request.optional("nonce")
    nonce = stated.hex(least=NONCE_BYTES, most=NONCE_BYTES) if stated else None
    architecture = request.optional("arch")
    gpus, switches = parse_devices(
        request.member("evidence_list").items(most=MAX_DEVICES),
        architecture=architecture.text(most=64).upper() if architecture else None,
        nonce=nonce,
    )
    return nonce, gpus, switches


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read the one node a request describes; raises as `parse_request`."""
    top = Element(document)
    nonce, gpus, switches = parse_request(top)
    node = Evidence(
        label="devices",
        quote=None,
        event_log=None,
        gpus=gpus,
        switches=switches,
        binding=BindingInputs(BindingProfile.RAW_NONCE, request_nonce=nonce),
    )
    return ForeignEvidence(FORMAT, (node,), asserted=assertions(top, ("arch", "claims_version")))
