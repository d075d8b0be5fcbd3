"""Evidence files of NVIDIA's tools: attestation-sdk, ``nvattest`` and ppcie-verifier.

Either the bare list of device items, or the answer of ``nvattest collect-evidence``:
``{"evidences": [...], "result_code": 0, "result_message": "Ok"}``.  There is no CPU evidence;
GPUs and switches come in files of their own.
"""

from __future__ import annotations

from typing import Any, Final

from ccverify.evidence import BindingInputs, BindingProfile, Evidence
from ccverify.interop.devices import MAX_DEVICES, assertions, parse_devices
from ccverify.interop.elements import Element
from ccverify.interop.model import ForeignEvidence

__all__ = ["FORMAT", "matches", "parse"]

FORMAT: Final = "nvattest"


def matches(document: Any) -> bool:
    """Whether the document is a list of device items or an object that holds ``evidences``."""
    if isinstance(document, list):
        first = document[0] if document else None
        return isinstance(first, dict) and "evidence" in first and "certificate" in first
    return isinstance(document, dict) and "evidences" in document


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read the one node such a file describes.

    Raises:
        EvidenceError: an empty list, or an item that is not device evidence.
    """
    top = Element(document)
    is_list = isinstance(document, list)
    items = (top if is_list else top.member("evidences")).items(most=MAX_DEVICES)
    gpus, switches = parse_devices(items)
    nonces = {device.claimed_nonce for device in (*gpus, *switches)}
    node = Evidence(
        label="devices",
        quote=None,
        event_log=None,
        gpus=gpus,
        switches=switches,
        binding=BindingInputs(
            BindingProfile.RAW_NONCE,
            request_nonce=nonces.pop() if len(nonces) == 1 else None,
        ),
    )
    said = () if is_list else assertions(top, ("result_code", "result_message"))
    return ForeignEvidence(FORMAT, (node,), asserted=said)
