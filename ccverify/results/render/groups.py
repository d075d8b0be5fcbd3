"""The checks of a verdict in the groups a person thinks in, as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ccverify.findings import Finding, State

__all__ = ["GROUPS", "OTHER", "count_states", "group_index", "group_of"]

OTHER = "Other checks"

_IDENTITY = (
    "REPORT-", "CHAIN", "IDENTITY", "ARCHITECTURE", "FWID", "NONCE", "DEVICE-LIST", "COUNT",
)  # fmt: skip
_FIRMWARE = ("RIM", "MEASUREMENTS", "MODE", "DRIVER", "VBIOS", "BIOS", "FIRMWARE-LIST")


def _devices(name: str, prefix: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (
        (f"{name}: identity and report", tuple(f"{prefix}-{code}" for code in _IDENTITY)),
        (f"{name}: manifests and firmware", tuple(f"{prefix}-{code}" for code in _FIRMWARE)),
        (f"{name}: revocation", (f"{prefix}-REVOCATION",)),
    )


GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Trust anchors", ("TRUST-",)),
    ("Parts of the node", ("NODE-",)),
    (
        "Collateral from Intel",
        (
            "TDX-ROOT-CRL-",
            "TDX-PCK-CRL-",
            "TDX-TCB-INFO-",
            "TDX-QE-IDENTITY-SIGNATURE",
            "TDX-QE-IDENTITY-FRESH",
            "TDX-COLLATERAL-",
            "TDX-EVALUATION-NUMBER",
        ),
    ),
    ("Platform certificate", ("TDX-PCK-", "TDX-CA-REVOCATION")),
    (
        "Quote and quoting enclave",
        (
            "TDX-QUOTE-",
            "TDX-QE-VENDOR",
            "TDX-QE-REPORT-",
            "TDX-QE-KEY-BINDING",
            "TDX-QE-IDENTITY-MATCH",
        ),
    ),
    ("TDX module", ("TDX-SEAM-ATTRIBUTES", "TDX-MODULE-IDENTITY")),
    ("TCB level", ("TDX-TCB-", "TDX-MODULE-TCB", "TDX-QE-TCB", "TDX-TEE-TCB-SVN")),
    ("TD attributes", ("TDX-ATTR-", "TDX-XFAM", "TDX-SERVICE-TD")),
    ("Measurements", ("TDX-MR", "TDX-RTMR")),
    ("Freshness (REPORTDATA)", ("TDX-REPORT-DATA",)),
    ("Known platform", ("TDX-PLATFORM",)),
    ("Event log", ("TDX-EVENTLOG-",)),
    *_devices("GPUs", "GPU"),
    *_devices("NVSwitches", "NVSWITCH"),
    ("Devices and topology", ("DEVICES-", "GPU-BOARD", "TOPOLOGY-")),
    ("Fabric: measurements", ("FABRIC-PROBE",)),
    (
        "Fabric: manager",
        (
            "FABRIC-STATEMENT",
            "FABRIC-MANAGER",
            "FABRIC-SAME-HOST",
            "FABRIC-RAIL-POLICY",
            "FABRIC-PARTITION-",
            "FABRIC-MODULES",
            "FABRIC-CONTINUITY",
        ),
    ),
    ("Fabric: routing and isolation", ("FABRIC-ROUTING", "FABRIC-APART", "ROUTE-")),
    ("Fabric", ("FABRIC-",)),
    ("Bundle", ("BUNDLE-",)),
    ("Binding", ("BIND-",)),
    ("Nodes together", ("SET-",)),
)
"""Name and code prefixes of each group, in the order shown; the first that fits counts."""


def group_of(code: str) -> str:
    """Return the name of the group a check belongs to."""
    return next((name for name, prefixes in GROUPS if code.startswith(prefixes)), OTHER)


def group_index(code: str) -> int:
    """Return the position of a check's group, for sorting."""
    return _ORDER[group_of(code)]


def count_states(findings: Iterable[Finding]) -> Mapping[str, Counter[State]]:
    """Count findings by group and state; groups without findings are left out."""
    counts: dict[str, Counter[State]] = {name: Counter() for name in (*_NAMES, OTHER)}
    for finding in findings:
        counts[group_of(finding.code)][finding.state] += 1
    return {name: count for name, count in counts.items() if count}


_NAMES = tuple(name for name, _ in GROUPS)
_ORDER = {name: position for position, name in enumerate((*_NAMES, OTHER))}
