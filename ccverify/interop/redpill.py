"""redpill and Phala Cloud (and NanoGPT, which passes their answers on).

Models on Chutes: ``{"attestation_type": "chutes", "nonce", "all_attestations": [{"instance_id",
"nonce", "e2e_pubkey", "intel_quote": base64, "gpu_evidence": [...]}]}``.  Models of their own:
`ccverify.interop.inference_report`.
"""

from __future__ import annotations

from typing import Any, Final

from ccverify.interop.chutes import parse_instance
from ccverify.interop.devices import assertions
from ccverify.interop.elements import Element
from ccverify.interop.inference_report import MAX_NODES, parse_reports, unread
from ccverify.interop.model import ForeignEvidence
from ccverify.interop.near import MARKS

__all__ = ["FORMAT", "matches", "parse"]

FORMAT: Final = "redpill"


def matches(document: Any) -> bool:
    """Whether the document names an attestation type, or is a report without NEAR's marks."""
    if not isinstance(document, dict):
        return False
    if "attestation_type" in document:
        return True
    return "intel_quote" in document and MARKS.isdisjoint(document)


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read every node.

    Raises:
        EvidenceError: another attestation type, no nodes, two nodes of one name, a node that is
            malformed, or a node's own report beside instances on Chutes.
    """
    top = Element(document)
    kind = top.optional("attestation_type")
    if kind is None:
        return ForeignEvidence(FORMAT, parse_reports(top), not_read=unread(top))
    if kind.value != "chutes":
        raise kind.wrong('"chutes"')
    top.alone("all_attestations", "intel_quote", "quote")
    shared = top.optional("nonce")
    instances = top.member("all_attestations").items(most=MAX_NODES)
    nodes = tuple(parse_instance(item, "intel_quote", shared) for item in instances)
    return ForeignEvidence(FORMAT, nodes, asserted=assertions(top, ("attestation_type",)))
