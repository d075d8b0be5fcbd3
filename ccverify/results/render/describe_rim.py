"""Reference integrity manifests (RIM) → `Inspection`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.ocsp import OcspResponse
from ccverify.nvidia.rim import GoldenMeasurement, Rim
from ccverify.nvidia.rim_set import StoredRim
from ccverify.results.render.describe_certificates import certificate_listing, time_text
from ccverify.results.render.inspection import Inspection, Item, Listing, Section
from ccverify.trust.x509 import Crl

__all__ = ["describe_rim", "nvidia_collateral_listings"]

_KINDS = {
    "driver": "golden measurements of a GPU driver",
    "vbios": "golden measurements of a GPU's VBIOS",
    "switch-bios": "golden measurements of an NVSwitch's BIOS",
}


def describe_rim(rim: Rim) -> Inspection:
    """Show what a manifest measures, who signed it and until when, and every golden value."""
    chain = rim.document.certificates
    golden = sorted(rim.measurements.values(), key=lambda each: each.index)
    active = sum(each.active for each in golden)
    summary = (
        Item("kind", rim.kind.value, _KINDS[rim.kind.value]),
        Item("chip", rim.model),
        Item("version", rim.version),
        Item("tag_id", rim.tag_id, "may be the same in several manifests"),
        Item("measurements", len(golden)),
        Item("active_measurements", active, "only these are compared"),
        Item("signer", chain[0].subject_text if chain else None),
        Item(
            "signer_expires",
            time_text(_expiry(rim)),
            "first certificate of the signer's chain to expire",
        ),
        Item("stated_sha384", rim.document.digest.hex(), "of the content, as the signature says"),
    )
    return Inspection(
        "rim",
        f"NVIDIA reference manifest: {rim.title}",
        (
            Section("summary", "Manifest", summary),
            Listing(
                "measurements",
                "Golden measurements (index i is block i + 1 of a report)",
                ("index", "active", "name", "values"),
                tuple(map(_measurement, golden)),
                shown=tuple(map(_row, golden)),
            ),
            certificate_listing("certificates", "Certificates of the signer", chain),
        ),
    )


def _expiry(rim: Rim) -> datetime | None:
    return min((each.not_after for each in rim.document.certificates), default=None)


def _measurement(golden: GoldenMeasurement) -> dict[str, Any]:
    return {
        "index": golden.index,
        "name": golden.name,
        "active": golden.active,
        "values": [value.hex() for value in golden.alternatives],
    }


def _row(golden: GoldenMeasurement) -> tuple[str, ...]:
    count = len(golden.alternatives)
    values = " or ".join(value.hex() for value in golden.alternatives)
    if not golden.active:
        values = f"not compared ({count} placeholder{'' if count == 1 else 's'})"
    return (str(golden.index), "yes" if golden.active else "no", golden.name, values)


# --- in packs ------------------------------------------------------------------------------------


def nvidia_collateral_listings(collateral: NvidiaCollateral) -> tuple[Listing, ...]:
    """Return one line for each manifest, OCSP response and CRL; kinds that are absent are not."""
    revocation = collateral.revocation
    listings = (
        Listing(
            "rims",
            "Reference manifests of NVIDIA",
            ("kind", "chip", "version", "signer_expires", "name"),
            tuple(map(_stored, collateral.rims.rims)),
        ),
        Listing(
            "ocsp_responses",
            "OCSP responses about NVIDIA's certificates",
            ("produced_at", "next_update", "statuses"),
            tuple(map(_response, revocation.responses)),
        ),
        Listing(
            "nvidia_crls",
            "Revocation lists of NVIDIA",
            ("this_update", "next_update", "revoked", "issuer"),
            tuple(map(_crl, revocation.crls)),
        ),
    )
    return tuple(listing for listing in listings if listing.records)


def _stored(stored: StoredRim) -> dict[str, Any]:
    return {
        "name": stored.name,
        "kind": stored.rim.kind.value,
        "chip": stored.rim.model,
        "version": stored.rim.version,
        "tag_id": stored.rim.tag_id,
        "signer_expires": time_text(_expiry(stored.rim)),
        "sha384": hashlib.sha384(stored.xml).hexdigest(),
    }


def _response(response: OcspResponse) -> dict[str, Any]:
    ends = [one.next_update for one in response.responses if one.next_update]
    return {
        "produced_at": time_text(response.produced_at),
        "next_update": time_text(min(ends, default=None)),
        "statuses": [f"{one.cert_id.serial:x}: {one.status.value}" for one in response.responses],
        "sha384": hashlib.sha384(response.der).hexdigest(),
    }


def _crl(crl: Crl) -> dict[str, Any]:
    return {
        "issuer": crl.issuer_text,
        "number": crl.number,
        "this_update": time_text(crl.this_update),
        "next_update": time_text(crl.next_update),
        "revoked": crl.entries,
        "sha384": hashlib.sha384(crl.der).hexdigest(),
    }
