"""Which format a foreign document is, found by its content."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from ccverify.errors import EvidenceError
from ccverify.interop import chutes, dstack, eat, near, nras, nvattest, redpill, tinfoil, trustee
from ccverify.interop.elements import MAX_DOCUMENT_BYTES, parse_foreign_json, refused
from ccverify.interop.model import ForeignEvidence

__all__ = ["KNOWN_FORMATS", "formats_of", "parse_foreign_evidence"]

_MODULES: Final[tuple[ModuleType, ...]] = (
    chutes, dstack, eat, near, nras, nvattest, redpill, tinfoil, trustee,
)  # fmt: skip
KNOWN_FORMATS: Final[tuple[str, ...]] = tuple(module.FORMAT for module in _MODULES)
"""Names of the formats that are read."""


def formats_of(document: Any) -> tuple[str, ...]:
    """Return the names of the formats a parsed JSON document could be of; usually one or none."""
    return tuple(module.FORMAT for module in _MODULES if module.matches(document))


def parse_foreign_evidence(data: bytes) -> ForeignEvidence:
    """Read evidence in any known foreign format.

    Args:
        data: UTF-8 JSON, or the bare bytes of a dstack attestation (which begin with 0).

    Raises:
        EvidenceError: not such JSON, larger than `MAX_DOCUMENT_BYTES`, no known format or more
            than one, two nodes of one label, or malformed in its format.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        expected = f"at most {MAX_DOCUMENT_BYTES} bytes"
        raise refused("document is too large", expected, str(len(data)), "")
    if data[:1] == b"\0":
        return dstack.parse_attestation(data)
    document = parse_foreign_json(data, "document")
    found = [module for module in _MODULES if module.matches(document)]
    if len(found) != 1:
        names = ", ".join(module.FORMAT for module in found)
        raise EvidenceError(
            "evidence could be of several formats" if found else "evidence of no known format",
            expected=f"exactly one of {', '.join(KNOWN_FORMATS)}",
            found=names or type(document).__name__,
            where="document",
            hint="pass the response of the service as it came, not a part or a verdict of it",
        )
    evidence: ForeignEvidence = found[0].parse(document, data)
    labels = [node.label for node in evidence.nodes]
    for label in labels:
        if labels.count(label) > 1:
            raise refused("two nodes have one label", "labels that differ", repr(label), "")
    return evidence
