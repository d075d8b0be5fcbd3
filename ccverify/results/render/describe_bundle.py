"""A bundle → `Inspection`: what its collector says of it, then the node in it."""

from __future__ import annotations

from ccverify.bundle.model import ItemType
from ccverify.bundle.package import Bundle, parse_bundle
from ccverify.bundle.statement_items import statement_items
from ccverify.errors import EvidenceError
from ccverify.evidence import Evidence
from ccverify.interop.model import ForeignEvidence
from ccverify.results.render.describe_certificates import unreadable
from ccverify.results.render.describe_foreign import describe_foreign
from ccverify.results.render.describe_statement import probe_parts, statement_parts
from ccverify.results.render.inspection import Group, Inspection, Item, Listing, Part, Section

__all__ = ["describe_bundle"]

_OURS = "application/vnd.ccverify."
"""How every type of an item begins."""


def describe_bundle(bundle: Bundle, evidence: Evidence) -> Inspection:
    """Show the manifest, what is absent and why, and the evidence.

    Args:
        bundle: from `ccverify.bundle.package.parse_bundle`.
        evidence: what `ccverify.bundle.verify_bundle` took out of it.
    """
    parts: list[Part] = [*_outline(bundle), *_fabric(bundle)]
    items = statement_items(bundle)
    if items is not None:
        parts += statement_parts(bundle, items)
    node = describe_foreign(ForeignEvidence("ccverify-bundle", (evidence,)))
    kind, title = "bundle", "Bundle of ccverify"
    if items is not None:
        kind, title = "fabric-statement", "Statement of a fabric's manager, a bundle of ccverify"
    return Inspection(kind, title, (*parts, *node.parts))


def _fabric(bundle: Bundle) -> list[Part]:
    """What a node's bundle holds of its fabric."""
    parts: list[Part] = []
    for data in bundle.of_type(ItemType.FABRIC_PROBE).values():
        parts += probe_parts(data)
    members = tuple(
        (f"Item {label}: a statement of the fabric's manager", _statement(data))
        for label, data in bundle.of_type(ItemType.FABRIC_STATEMENT).items()
    )
    return [*parts, Group("fabric_statements", members)] if members else parts


def _statement(data: bytes) -> tuple[Part, ...]:
    try:
        bundle = parse_bundle(data)
        items = statement_items(bundle)
        if items is None:
            raise EvidenceError("it is a bundle of something else")
    except EvidenceError as problem:
        return (Section("statement", "It cannot be read", (unreadable(problem),)),)
    return (*_outline(bundle), *statement_parts(bundle, items))


def _outline(bundle: Bundle) -> tuple[Part, ...]:
    """Manifest, items and absences."""
    manifest = bundle.manifest
    return (
        Section(
            "manifest",
            "Manifest",
            (
                Item("collector", manifest.collector),
                Item("created", manifest.created, "seconds since 1970, by the guest's clock"),
                Item("nonce", manifest.nonce.hex(), "the relying party's, as the bundle states it"),
                Item("session_key", manifest.key.hex(), "RFC 9679 thumbprint"),
                Item("sha384", manifest.sha384.hex(), "what REPORTDATA must cover"),
            ),
        ),
        Listing(
            "items",
            f"Items ({len(manifest.items)} listed in the manifest)",
            ("label", "size", "source", "type"),
            tuple(
                {
                    "label": label,
                    "size": entry.size,
                    "source": entry.source,
                    "type": entry.type.value,
                    "sha384": entry.sha384.hex(),
                    "time": entry.time,
                }
                for label, entry in sorted(manifest.items.items())
            ),
            shown=tuple(
                (label, str(entry.size), entry.source, entry.type.value.removeprefix(_OURS))
                for label, entry in sorted(manifest.items.items())
            ),
        ),
        Listing(
            "absences",
            f"Absent, as the collector says ({len(manifest.absences)})",
            ("label", "reason", "text"),
            tuple(
                {
                    "label": label,
                    "reason": entry.reason.value,
                    "text": entry.text,
                    "remedy": entry.remedy,
                    "source": entry.source,
                }
                for label, entry in sorted(manifest.absences.items())
            ),
            notice="Nobody signs that a part is absent.",
        ),
    )
