"""The entries of a complete CRL: which serial numbers, since when, and why (RFC 5280 §5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509

__all__ = ["CrlEntry", "read_crl_entries"]

_HOLD = "certificateHold"


class CrlEntry(NamedTuple):
    """One certificate on the list: since when, and the reason if stated."""

    revoked_at: datetime
    reason: str | None


# A pure function of the bytes, and called for genuine CRLs alone.
@lru_cache(maxsize=8)
def read_crl_entries(der: bytes) -> tuple[Mapping[int, CrlEntry], str | None]:
    """Read the entries by serial number, and why the CRL cannot be used, if so.

    Indirect, partial and delta CRLs cannot.  A serial that is listed twice is on hold only if
    both entries say so: a hold can be lifted, a revocation cannot.
    """
    entries: dict[int, CrlEntry] = {}
    try:
        crl = x509.load_der_x509_crl(der)
        if any(isinstance(e.value, x509.IssuingDistributionPoint) for e in crl.extensions):
            return {}, "it covers only a part of the issuer's certificates"
        for entry in crl:
            reason: str | None = None
            for extension in entry.extensions:
                if isinstance(extension.value, x509.CRLReason):
                    reason = extension.value.reason.value
                elif extension.critical:
                    oid = extension.oid.dotted_string
                    return {}, f"an entry has a critical extension that is not understood: {oid}"
            before = entries.get(entry.serial_number)
            if before is None or before.reason == _HOLD:
                entries[entry.serial_number] = CrlEntry(entry.revocation_date_utc, reason)
    except Exception as problem:  # `cryptography` raises several unrelated types
        return {}, f"an entry cannot be read: {problem}"
    return entries, None
