"""Chutes: the evidence of every instance of a model, and the list of the instances' keys.

Evidence: ``{"evidence": [{"instance_id", "quote": base64, "gpu_evidence": [...], "certificate":
base64 DER of the TLS certificate}], "failed_instance_ids": [...]}``.  The end-to-end keys, which
the binding hashes, come in another answer: ``{"instances": [{"instance_id", "e2e_pubkey"}]}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from ccverify.errors import EvidenceError
from ccverify.evidence import Assertion, BindingInputs, BindingProfile, Evidence
from ccverify.interop.devices import MAX_DEVICES, NONCE_BYTES, parse_devices
from ccverify.interop.dstack import MAX_QUOTE_BYTES
from ccverify.interop.elements import Element, parse_foreign_json
from ccverify.interop.inference_report import MAX_NODES
from ccverify.interop.model import ForeignEvidence

__all__ = [
    "FORMAT",
    "matches",
    "parse",
    "parse_instance",
    "parse_instance_keys",
    "with_instance_keys",
]

FORMAT: Final = "chutes"

_MAX_CERTIFICATE: Final = 16 * 1024
_MAX_KEY_TEXT: Final = 16 * 1024
_MAX_ID: Final = 128


def matches(document: Any) -> bool:
    """Whether the document is an object with a list ``evidence``."""
    return isinstance(document, dict) and isinstance(document.get("evidence"), list)


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read every instance.

    Raises:
        EvidenceError: no instances, two instances of one id, or a malformed instance.
    """
    top = Element(document)
    nodes = tuple(
        parse_instance(item, "quote") for item in top.member("evidence").items(most=MAX_NODES)
    )
    failed = top.optional("failed_instance_ids")
    said = tuple(
        Assertion("failed_instance_ids", item.text(most=_MAX_ID), item.path)
        for item in (failed.items(most=MAX_NODES, least=0) if failed else ())
    )
    return ForeignEvidence(FORMAT, nodes, asserted=said)


def parse_instance(item: Element, quote_name: str, shared_nonce: Element | None = None) -> Evidence:
    """Read one instance, as Chutes or a reseller sends it.

    Args:
        item: the instance.
        quote_name: name of the member that holds the quote.
        shared_nonce: the nonce stated for all instances, where one does not state its own.
    """
    gpus, switches = parse_devices(item.member("gpu_evidence").items(most=MAX_DEVICES))
    nonce = item.optional("nonce") or shared_nonce
    certificate = item.optional("certificate")
    key = item.optional("e2e_pubkey")
    return Evidence(
        label=item.member("instance_id").text(most=_MAX_ID),
        quote=item.member(quote_name).base64(most=MAX_QUOTE_BYTES),
        event_log=None,
        gpus=gpus,
        switches=switches,
        binding=BindingInputs(
            BindingProfile.CHUTES,
            request_nonce=nonce.hex(least=NONCE_BYTES, most=NONCE_BYTES) if nonce else None,
            request_nonce_text=nonce.text(most=2 * NONCE_BYTES) if nonce else None,
            tls_certificate=certificate.base64(most=_MAX_CERTIFICATE) if certificate else None,
            e2e_public_key=key.text(most=_MAX_KEY_TEXT) if key else None,
        ),
        source=item.path,
    )


def parse_instance_keys(data: bytes) -> Mapping[str, str]:
    """Parse the list of instances: instance id to the text of its end-to-end key.

    Raises:
        EvidenceError: malformed, or two instances of one id.
    """
    top = Element(parse_foreign_json(data, "list of instances"))
    keys: dict[str, str] = {}
    for item in top.member("instances").items(most=MAX_NODES):
        label = item.member("instance_id").text(most=_MAX_ID)
        if label in keys:
            raise EvidenceError("two instances have one id", found=repr(label), where=item.path)
        keys[label] = item.member("e2e_pubkey").text(most=_MAX_KEY_TEXT)
    return MappingProxyType(keys)


def with_instance_keys(evidence: ForeignEvidence, keys: Mapping[str, str]) -> ForeignEvidence:
    """Return the evidence with the key of each instance that has one in `keys`.

    Raises:
        EvidenceError: an instance already has another key.
    """
    nodes = []
    for node in evidence.nodes:
        key = keys.get(node.label)
        own = node.binding.e2e_public_key
        if key is not None and own not in (None, key):
            raise EvidenceError("instance has two end-to-end keys", where=node.label)
        binding = node.binding if key is None else replace(node.binding, e2e_public_key=key)
        nodes.append(replace(node, binding=binding))
    return replace(evidence, nodes=tuple(nodes))
