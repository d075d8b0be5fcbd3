"""Names of checks, and what cannot be judged once an earlier step has failed.

Written from the specification: nothing may be built on what is not genuine, so a verifier
that loses one link of the chain has to leave what hangs on it unchecked.  The names are those
of `ccverify.checks`, spelled out here because the simulation shares no code with the verifier.
"""

from __future__ import annotations

__all__ = [
    "ALL_BUT_FORMAT",
    "ATTRIBUTE_CHECKS",
    "NO_COLLATERAL",
    "NO_EXTENSION",
    "NO_PCK",
    "NO_PCK_CHAIN",
    "NO_PCK_CRL",
    "NO_QE_IDENTITY",
    "NO_ROOT_CRL",
    "NO_SIGNED_JSON",
    "NO_TCB_INFO",
    "codes",
]


def codes(text: str) -> tuple[str, ...]:
    """Return the codes of a space-separated list, each with its ``TDX-`` prefix."""
    return tuple(f"TDX-{name}" for name in text.split())


_TCB = codes("TCB-LEVEL MODULE-TCB QE-TCB TCB-STATUS")

NO_TCB_INFO = (*codes("MODULE-IDENTITY"), *_TCB)
"""Without genuine TCB info of this platform."""

NO_QE_IDENTITY = (*codes("QE-IDENTITY-MATCH"), *_TCB)
"""Without a genuine QE identity."""

NO_SIGNED_JSON = (*codes("MODULE-IDENTITY QE-IDENTITY-MATCH"), *_TCB)
"""Without either."""

NO_PCK_CRL = codes("PCK-CRL-SIGNATURE PCK-CRL-FRESH PCK-REVOCATION")
"""Without a CRL of the PCK CA."""

NO_ROOT_CRL = codes("ROOT-CRL-SIGNATURE ROOT-CRL-FRESH CA-REVOCATION")
"""Without a CRL of the root CA."""

NO_COLLATERAL = (
    *NO_ROOT_CRL,
    *NO_PCK_CRL,
    *codes("TCB-INFO-SIGNATURE TCB-INFO-FRESH TCB-INFO-MATCH"),
    *codes("QE-IDENTITY-SIGNATURE QE-IDENTITY-FRESH"),
    *codes("COLLATERAL-FIELDS COLLATERAL-ROLLBACK"),
    *NO_SIGNED_JSON,
)
"""Without any collateral of this platform."""

NO_EXTENSION = (*codes("TCB-INFO-SIGNATURE TCB-INFO-FRESH TCB-INFO-MATCH"), *NO_TCB_INFO)
"""Without a readable SGX extension: it names the platform whose TCB info is needed."""

NO_PCK = (
    *codes("PCK-EXTENSION CA-REVOCATION QE-REPORT-SIGNATURE"),
    *NO_PCK_CRL,
    *NO_EXTENSION,
)
"""Without a genuine PCK certificate: neither its key nor its platform is known."""

NO_PCK_CHAIN = (*codes("PCK-VALIDITY"), *NO_PCK)
"""Without even a readable PCK chain."""

ATTRIBUTE_CHECKS = codes(
    "ATTR-DEBUG ATTR-HGS-PLUS-PROF ATTR-PERF-PROF ATTR-PMT-PROF ATTR-ICSSD ATTR-LASS "
    "ATTR-SEPT-VE-DISABLE ATTR-MIGRATABLE ATTR-PKS ATTR-KL ATTR-TPA ATTR-PERFMON ATTR-RESERVED"
)

ALL_BUT_FORMAT = (
    *codes("QE-VENDOR PCK-CHAIN PCK-VALIDITY PCK-EXTENSION QE-REPORT-SIGNATURE"),
    *NO_COLLATERAL,
    *codes("QE-KEY-BINDING QUOTE-SIGNATURE SEAM-ATTRIBUTES"),
    *ATTRIBUTE_CHECKS,
    *codes("XFAM SERVICE-TD MRTD RTMR0 RTMR1 RTMR2 RTMR3 REPORT-DATA"),
)
"""All that a verdict needs, when the quote cannot be read."""
