"""EAT Attestation Results (draft-ietf-rats-ear-04): a verdict as JWT or CWT.

An EAR says less than a verdict, and says it in the words that every verifier uses: a tier and
a trustworthiness vector for each part.  A relying party needs only a stock library for signed
tokens to read it.  How findings become vectors: docs/ear.md.

`iat` is the evaluation time, so that one verdict makes one token, byte for byte; a token never
looks younger than the judgement in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from hashlib import sha384
from typing import Any, Final

from ccverify._version import __version__
from ccverify.bundle.cbor import encode
from ccverify.bundle.cose import sign1
from ccverify.findings import Assurance, State
from ccverify.results.ear_appraisal import Appraisal, appraise_parts, kind_of
from ccverify.results.ear_table import CLAIM_KEYS, Tier
from ccverify.results.signing import VerifierKey, base64url, jwk_thumbprint
from ccverify.results.verdict import Conclusion, Verdict
from ccverify.results.verdict_set import VerdictSet

__all__ = ["EAR_PROFILE", "VERDICT_CLAIM", "VERIFIER_DEVELOPER", "ear_claims", "ear_cwt", "ear_jwt"]

EAR_PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
VERDICT_CLAIM: Final = "tag:ccverify,2026:ear-verdict#1"
"""Name of our one extension, a map, in JSON and in CBOR: which verdict this is, and why."""
VERIFIER_DEVELOPER: Final = "ccverify"

_EAT_CWT: Final = "application/eat+cwt"  # RFC 9782
_UNSIGNED_CLAIMS: Final = "application/eat-ucs+cbor"  # RFC 9782
_EAT_JWT: Final = "eat+jwt"

_KEYS: Final[Mapping[str, int]] = {
    "iat": 6,
    "eat_nonce": 10,
    "eat_profile": 265,
    "submods": 266,
    "ear_status": 1000,
    "ear_trustworthiness_vector": 1001,
    "ear_appraisal_policy_ids": 1003,
    "ear_verifier_id": 1004,
    "ear_verifier_claims": 1006,
}
"""Claim → its key in a CWT: RFC 8392, RFC 9711, and what the draft suggests."""

_TDX_CLAIMS: Final = (
    "mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig",
    "td_attributes", "tee_tcb_svn", "xfam", "mrseam", "mrsignerseam",
)  # fmt: skip
"""Claims that draft-kykdxy-rats-tdx-cgpu-ear-profile-02 has with ``tdx_`` before the name."""


def ear_jwt(verdict: Verdict | VerdictSet, key: VerifierKey) -> str:
    """Return a verdict as EAR in a JWT (RFC 7519), signed, in compact form."""
    header = {"alg": key.jose_algorithm, "kid": jwk_thumbprint(key.public), "typ": _EAT_JWT}
    parts = (_compact(header), _compact(ear_claims(verdict)))
    text = ".".join(base64url(part) for part in parts)
    return f"{text}.{base64url(key.signer.sign(text.encode('ascii')))}"


def ear_cwt(verdict: Verdict | VerdictSet, key: VerifierKey) -> bytes:
    """Return a verdict as EAR in a CWT (RFC 8392): a tagged COSE_Sign1."""
    return sign1(
        encode(_in_cbor(ear_claims(verdict))),
        key.signer,
        content_type=_UNSIGNED_CLAIMS,
        typ=_EAT_CWT,
        kid=key.public.thumbprint,
    )


def _compact(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


# --- claims -------------------------------------------------------------------------------------


def ear_claims(verdict: Verdict | VerdictSet) -> dict[str, Any]:
    """Return the claims set in its JSON form; bytes are base64.

    Of several nodes each submodule's label begins with the node's and a slash.
    """
    many = isinstance(verdict, VerdictSet)
    nodes = verdict.verdicts if isinstance(verdict, VerdictSet) else (verdict,)
    submods: dict[str, Any] = {}
    worst = Tier.NONE
    affirmed = bool(nodes)
    bound = []
    for number, node in enumerate(nodes):
        parts, tier = appraise_parts(node)
        prefix = f"{node.label or f'node-{number}'}/" if many else ""
        for part in parts:
            submods[_unused(prefix + part.label, submods)] = _submod(node, part)
        worst = max(worst, tier)
        affirmed = affirmed and tier is not Tier.NONE
        bound.append(_all_bound(node))
    if worst < Tier.CONTRAINDICATED and not (affirmed and verdict.trusted):
        untrusted = verdict.conclusion is Conclusion.UNTRUSTED
        worst = Tier.CONTRAINDICATED if many and untrusted and affirmed else Tier.NONE
    if not submods:
        submods["node"] = {
            "ear_status": _name(Tier.NONE),
            "ear_trustworthiness_vector": {"hardware": 0},
        }
    claims: dict[str, Any] = {
        "eat_profile": EAR_PROFILE,
        "iat": max((int(node.evaluated_at.timestamp()) for node in nodes), default=0),
        "ear_status": _name(worst),
        "ear_verifier_id": {"developer": VERIFIER_DEVELOPER, "build": f"ccverify {__version__}"},
        "submods": submods,
        "ear_all_submods_bound": _merge(bound),
        VERDICT_CLAIM: _verdict_claim(verdict, nodes),
    }
    nonces = {text for node in nodes if (text := node.inputs.get("nonce")) is not None}
    if len(nonces) == 1:
        claims["eat_nonce"] = _base64(bytes.fromhex(nonces.pop()))
    return claims


def _unused(label: str, taken: Mapping[str, Any]) -> str:
    """Labels come from the evidence, and one must not hide another."""
    number = 2
    unique = label
    while unique in taken:
        unique, number = f"{label}~{number}", number + 1
    return unique


def _submod(verdict: Verdict, part: Appraisal) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "ear_status": _name(part.tier),
        "ear_trustworthiness_vector": dict(part.vector),
        "ear_appraisal_policy_ids": [_policy_id(verdict)],
        "ear_verifier_claims": {"failed": list(part.failed), "not_checked": list(part.open)},
    }
    if part.label == "tdx":
        _add_tdx(verdict, claims)
    elif kind_of(part.label) in ("gpu", "nvswitch"):
        _add_device(verdict, part.label, claims)
    return claims


def _add_tdx(verdict: Verdict, claims: dict[str, Any]) -> None:
    """What the quote says, where it was proven."""
    if verdict.tdx is None or verdict.tdx.level is not Assurance.HARDWARE:
        return
    values = verdict.tdx.values
    claims["ear_evidence_claims"] = {
        f"tdx_{name}": values[name] for name in _TDX_CLAIMS if name in values
    }
    claims["eat_nonce"] = _base64(bytes.fromhex(values["report_data"]))


def _add_device(verdict: Verdict, label: str, claims: dict[str, Any]) -> None:
    states = {f.code: f.state for f in verdict.findings if f.subject == label}
    prefix = kind_of(label).upper()
    passed = {
        name: all(states.get(f"{prefix}-{code}") is State.PASS for code in codes.split())
        for name, codes in _NVIDIA_EVIDENCE.items()
    }
    claims["ear_verifier_claims"]["ear_nvidia_evidence"] = passed
    for device in (*verdict.gpus, *verdict.nvswitches):
        nonce = device.values.get("nonce")
        if device.subject == label and device.level is Assurance.HARDWARE and nonce:
            claims["eat_nonce"] = _base64(bytes.fromhex(nonce))


_NVIDIA_EVIDENCE: Final = {
    "signature_verified": "CHAIN REPORT-SIGNATURE",
    "parsed": "REPORT-FORMAT",
    "nonce_match": "NONCE",
}
"""Members of ``ear_nvidia_evidence`` → the checks that must have passed."""


def _verdict_claim(verdict: Verdict | VerdictSet, nodes: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "sha384": sha384(verdict.dumps().encode("utf-8")).hexdigest(),
        "verdict": verdict.conclusion.value,
        "exit_code": verdict.exit_code,
        "simulated": any(node.simulated for node in nodes),
        "trust_stores": sorted({_trust(node) for node in nodes}),
        "evidence": [_evidence(node) for node in nodes],
    }


def _trust(node: Verdict) -> str:
    store = node.inputs["trust_store"]
    return f"{store['kind']} {store['sha384']}"


def _evidence(node: Verdict) -> dict[str, Any]:
    """Digests (SHA-384, hex) of the raw evidence, as the verdict records them."""
    devices = (*node.inputs.get("gpus", ()), *node.inputs.get("nvswitches", ()))
    return {
        "quote": node.inputs["evidence"]["sha384"],
        "device_reports": [each["report_sha384"] for each in devices],
    }


def _all_bound(node: Verdict) -> str:
    """``true`` where every part answers the relying party's own request, on signed ground."""
    fresh = ("TDX-REPORT-DATA", "GPU-NONCE", "NVSWITCH-NONCE", "BIND-FRESH", "BIND-CONSISTENT")
    concerned = [finding for finding in node.findings if finding.code in fresh]
    if any(finding.state is State.FAIL for finding in concerned):
        return "false"
    signed = (Assurance.HARDWARE, Assurance.MEASURED)
    passed = all(f.state is State.PASS and f.assurance in signed for f in concerned)
    return "true" if concerned and passed and not node.simulated else "unknown"


def _merge(bound: Sequence[str]) -> str:
    return next((text for text in ("false", "unknown") if text in bound), "true" if bound else
                "unknown")  # fmt: skip


def _policy_id(verdict: Verdict) -> str:
    """The policy's digest as a URI (RFC 6920)."""
    return f"ni:///sha-384;{base64url(bytes.fromhex(verdict.policy['sha384']))}"


def _name(tier: Tier) -> str:
    return tier.name.lower()


def _base64(data: bytes) -> str:
    """base64url with padding: the draft wants base64, 12 to 88 characters for 8 to 64 bytes."""
    return base64.urlsafe_b64encode(data).decode("ascii")


# --- CBOR ---------------------------------------------------------------------------------------


def _in_cbor(claims: Mapping[str, Any]) -> dict[int | str, Any]:
    """The claims set with the keys and types of a CWT; what has no number keeps its name."""
    return {_KEYS.get(name, name): _value(name, value) for name, value in claims.items()}


def _value(name: str, value: Any) -> Any:
    if name == "ear_status":
        return int(Tier[value.upper()])
    if name == "ear_trustworthiness_vector":
        return {CLAIM_KEYS[claim]: number for claim, number in value.items()}
    if name == "ear_verifier_id":
        return {0: value["developer"], 1: value["build"]}
    if name == "eat_nonce":
        return base64.urlsafe_b64decode(value)
    if name == "submods":
        return {label: _in_cbor(submod) for label, submod in value.items()}
    return value
