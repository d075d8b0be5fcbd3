"""A bundle → `Inspection`: what its collector says of it, then the node in it."""

from __future__ import annotations

from ccverify.bundle.package import Bundle
from ccverify.evidence import Evidence
from ccverify.interop.model import ForeignEvidence
from ccverify.results.render.describe_foreign import describe_foreign
from ccverify.results.render.inspection import Inspection, Item, Listing, Part, Section

__all__ = ["describe_bundle"]


def describe_bundle(bundle: Bundle, evidence: Evidence) -> Inspection:
    """Show the manifest, what is absent and why, and the evidence.

    Args:
        bundle: from `ccverify.bundle.package.parse_bundle`.
        evidence: what `ccverify.bundle.verify_bundle` took out of it.
    """
    manifest = bundle.manifest
    parts: list[Part] = [
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
    ]
    node = describe_foreign(ForeignEvidence("ccverify-bundle", (evidence,)))
    return Inspection("bundle", "Bundle of ccverify", (*parts, *node.parts))
