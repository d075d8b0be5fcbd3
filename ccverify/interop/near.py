"""NEAR AI: a model node asked directly, or the cloud gateway with the nodes behind it.

Direct: `ccverify.interop.inference_report` with NEAR's own members.  Gateway:
``{"gateway_attestation": report without GPUs, "model_attestations": [report, ...]}``.
"""

from __future__ import annotations

from typing import Any, Final

from ccverify.evidence import NodeRole
from ccverify.interop.elements import Element
from ccverify.interop.inference_report import MAX_NODES, parse_report, parse_reports, unread
from ccverify.interop.model import ForeignEvidence

__all__ = ["FORMAT", "MARKS", "matches", "parse"]

FORMAT: Final = "near"
MARKS: Final = frozenset(
    {"tls_cert_fingerprint", "compose_manager_attestation", "ohttp_attestation"}
)
"""Members that only NEAR's nodes add to the common layout."""


def matches(document: Any) -> bool:
    """Whether this is a gateway's answer, or a node's with a member only NEAR adds."""
    if not isinstance(document, dict):
        return False
    if "gateway_attestation" in document or "model_attestations" in document:
        return True
    return "intel_quote" in document and not MARKS.isdisjoint(document)


def parse(document: Any, raw: bytes) -> ForeignEvidence:
    """Read every node; the gateway, where there is one, comes first.

    Raises:
        EvidenceError: as `parse_report`, a gateway's answer without model nodes, or the answers
            of a node and of a gateway in one.
    """
    top = Element(document)
    if "intel_quote" in document:
        top.alone("intel_quote", "gateway_attestation", "model_attestations")
        return ForeignEvidence(FORMAT, parse_reports(top), not_read=unread(top))
    top.alone("model_attestations", "all_attestations")
    gateway = top.member("gateway_attestation")
    models = top.member("model_attestations").items(most=MAX_NODES)
    nodes = (
        parse_report(gateway, "gateway", NodeRole.GATEWAY),
        *(parse_report(model, model.path) for model in models),
    )
    not_read = [path for part in (top, gateway, *models) for path in unread(part)]
    return ForeignEvidence(FORMAT, nodes, not_read=tuple(not_read))
