"""Verify what a confidential machine really is, offline and by your own policy.

    verdict = ccverify.check(
        quote_bytes,
        policy=ccverify.load_policy(policy_text),
        now=datetime.now(UTC),
        nonce=nonce,
        collateral=ccverify.parse_collateral(pack_bytes),
        trust=ccverify.TrustStore.production(),
    )
    verdict.trusted, verdict.failures()

Everything a program needs is named here; modules below this one are importable, but only the
names in `__all__` are promised to stay.
"""

from ccverify._version import __version__
from ccverify.checks import CHECKS, Check, find_check
from ccverify.collateral import parse_collateral_file
from ccverify.errors import (
    CcverifyError,
    CollateralError,
    EvidenceError,
    PolicyError,
    TrustError,
    UsageError,
)
from ccverify.evidence import BindingInputs, BindingProfile, DeviceEvidence, Evidence
from ccverify.findings import Assurance, Finding, State
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.policy.document import load_policy, policy_from_document
from ccverify.policy.model import Policy
from ccverify.results.verdict import Conclusion, Verdict
from ccverify.results.verdict_set import VerdictSet
from ccverify.tdx.collateral import CollateralPack, parse_collateral, serialize_collateral
from ccverify.tdx.eventlog import parse_event_log
from ccverify.tdx.quote import decode_quote_text, parse_quote
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.store import TrustKind, TrustStore
from ccverify.verifier import check
from ccverify.verifier_set import check_nodes

__all__ = [
    "CHECKS",
    "Assurance",
    "BindingInputs",
    "BindingProfile",
    "CcverifyError",
    "Check",
    "CollateralError",
    "CollateralPack",
    "Conclusion",
    "DeviceEvidence",
    "Evidence",
    "EvidenceError",
    "Finding",
    "NvidiaCollateral",
    "Policy",
    "PolicyError",
    "State",
    "TrustAnchor",
    "TrustError",
    "TrustKind",
    "TrustStore",
    "UsageError",
    "Verdict",
    "VerdictSet",
    "__version__",
    "check",
    "check_nodes",
    "decode_quote_text",
    "find_check",
    "load_policy",
    "parse_collateral",
    "parse_collateral_file",
    "parse_event_log",
    "parse_foreign_evidence",
    "parse_quote",
    "policy_from_document",
    "serialize_collateral",
]
