"""The bundle that evidence came in: opened, checked against itself, and described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ccverify.bundle.binding import Derivation
from ccverify.bundle.manifest import AbsenceEntry
from ccverify.bundle.model import ItemType
from ccverify.bundle.package import Bundle
from ccverify.bundle.verify_bundle import appraise_bundle
from ccverify.evidence import Evidence
from ccverify.findings import Assurance, Finding, State
from ccverify.listing import listed

__all__ = ["BundlePart", "absence_reason", "open_bundle", "with_manifest"]

_NO_EVIDENCE = Evidence()
_KEPT = (ItemType.FABRIC_OBSERVATION, ItemType.FABRIC_PROBE, ItemType.FABRIC_STATEMENT)


@dataclass(frozen=True, slots=True)
class BundlePart:
    """What came of the bundle itself.

    Attributes:
        findings: all about it.
        evidence: what is in it; empty if it does not parse.
        absences: what its collector did not find, by label.
        claims: what it says of itself; None if it does not parse.
        intact: whether its items are those that the manifest lists.
        items: what is in it beside evidence of TD and devices, by type.
    """

    findings: tuple[Finding, ...]
    evidence: Evidence
    absences: Mapping[str, AbsenceEntry]
    claims: Mapping[str, Any] | None
    intact: bool
    items: Mapping[ItemType, tuple[bytes, ...]] = field(default_factory=dict)

    def of_type(self, kind: ItemType) -> tuple[bytes, ...]:
        """Return the items of one of the types that are kept."""
        return self.items.get(kind, ())


def open_bundle(data: bytes, nonce: bytes | None, *, freshness_waived: bool) -> BundlePart:
    """Open a bundle; a bad one ends in findings.

    Raises:
        UsageError: `nonce` has the wrong length.
    """
    appraisal = appraise_bundle(data, nonce, freshness_waived=freshness_waived)
    bundle = appraisal.bundle
    states = {finding.code: finding.state for finding in appraisal.findings}
    return BundlePart(
        findings=appraisal.findings,
        evidence=appraisal.evidence or _NO_EVIDENCE,
        absences=bundle.absences if bundle else {},
        claims=None if bundle is None else _claims(bundle),
        intact=states.get("BUNDLE-MANIFEST") is State.PASS,
        items={} if bundle is None else {k: tuple(bundle.of_type(k).values()) for k in _KEPT},
    )


def with_manifest(derivation: Derivation, part: BundlePart) -> Derivation:
    """Say whether REPORTDATA covers the device evidence: the manifest itself is at hand here."""
    if part.intact:
        return replace(derivation, evidence_state=State.PASS, evidence_problem=None)
    problem = "the items are not those that the manifest lists"
    return replace(derivation, evidence_state=State.FAIL, evidence_problem=problem)


def absence_reason(absences: Mapping[str, AbsenceEntry], prefix: str) -> str:
    """Why a part is not there, as its collector says; empty if it says nothing.

    Nobody signs that a part is absent: it explains a verdict, and decides nothing.
    """
    said = [
        f"{label}: {entry.reason.value}, {entry.text}"
        for label, entry in sorted(absences.items())
        if label == prefix or label.startswith(f"{prefix}-")
    ]
    return listed(said, 8)


def _claims(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "collector": manifest.collector,
        "created": manifest.created,
        "session_key_thumbprint": manifest.key.hex(),
        "manifest_sha384": manifest.sha384.hex(),
        "items": [
            {
                "label": label,
                "type": entry.type.value,
                "sha384": entry.sha384.hex(),
                "source": entry.source,
                "time": entry.time,
            }
            for label, entry in sorted(manifest.items.items())
        ],
        "absences": [
            {"label": label, "reason": entry.reason.value, "text": entry.text}
            for label, entry in sorted(manifest.absences.items())
        ],
        "assurance": dict.fromkeys(
            ("collector", "created", "items", "absences"), Assurance.ASSERTED.value
        ),
    }
