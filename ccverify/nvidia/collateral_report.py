"""What is in NVIDIA's collateral, and whether it is any good, without a device to judge.

For people and programs that gather collateral.  An OCSP response or CRL can be verified only
where its issuer is known: the pinned roots, and the signers of the manifests beside it.  The
issuers of device certificates come with the devices, so those are verified in a check.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ccverify.clock_text import utc_text
from ccverify.errors import CcverifyError
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.ocsp import CertId, CertStatus, OcspResponse, OcspSingle, cert_ids
from ccverify.nvidia.revocation import Outcome, RevocationStatus, check_crl, check_ocsp
from ccverify.nvidia.rim import verify_rim
from ccverify.nvidia.rim_set import StoredRim
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.store import TrustStore
from ccverify.trust.x509 import Certificate, Crl, issue_problem

__all__ = ["appraise_nvidia", "compare_nvidia", "describe_nvidia"]

Json = dict[str, Any]
_Pair = tuple[Certificate, "Certificate | TrustAnchor"]


def appraise_nvidia(
    collateral: NvidiaCollateral, trust: TrustStore, now: datetime
) -> tuple[str, ...]:
    """Check every artefact by itself; return what is wrong, one sentence each."""
    report = describe_nvidia(collateral, trust, now)
    found = [
        f"{each['title']}: {problem}"
        for group in ("rims", "ocsp_responses", "crls")
        for each in report[group]
        for problem in each["problems"]
    ]
    return tuple(found + [f"{name}: {why}" for name, why in report["unreadable"].items()])


def describe_nvidia(collateral: NvidiaCollateral, trust: TrustStore, now: datetime) -> Json:
    """Return all contents as JSON values; times are RFC 3339.

    ``genuine`` is true, false, or null where the issuer is not known here.
    """
    known = _known_pairs(collateral, trust)
    rims = [_describe_rim(stored, trust, now) for stored in collateral.rims.rims]
    revocation = collateral.revocation
    return {
        "sha384": collateral.digest,
        "rims": sorted(rims, key=lambda each: (each["kind"], each["version"], each["name"])),
        "ocsp_responses": [_describe_ocsp(r, known, trust, now) for r in revocation.responses],
        "crls": [_describe_crl(crl, known, trust, now) for crl in revocation.crls],
        "unreadable": dict(collateral.rims.unreadable),
    }


def compare_nvidia(a: NvidiaCollateral, b: NvidiaCollateral) -> Json:
    """Return what changed from `a` to `b`: names of manifests, numbers of answers."""
    return {
        "sha384": [a.digest, b.digest],
        "rims": _changed(_rim_names(a), _rim_names(b)),
        "ocsp_responses": _changed(_ocsp_names(a), _ocsp_names(b)),
        "crls": _changed(_crl_names(a), _crl_names(b)),
    }


def _changed(old: Mapping[bytes, str], new: Mapping[bytes, str]) -> dict[str, list[str]]:
    """Names of contents that only one side has."""
    both = {
        "added": sorted(name for body, name in new.items() if body not in old),
        "removed": sorted(name for body, name in old.items() if body not in new),
    }
    return {word: names for word, names in both.items() if names}


def _rim_names(collateral: NvidiaCollateral) -> dict[bytes, str]:
    rims = collateral.rims.rims
    return {
        each.name.encode() + b"\0" + each.xml: f"{each.rim.title} ({each.name})" for each in rims
    }


def _ocsp_names(collateral: NvidiaCollateral) -> dict[bytes, str]:
    return {
        response.der: ", ".join(f"serial {s.cert_id.serial:X}"[:64] for s in response.responses)[
            :160
        ]
        + f" of {utc_text(response.produced_at)}"
        for response in collateral.revocation.responses
    }


def _crl_names(collateral: NvidiaCollateral) -> dict[bytes, str]:
    return {
        crl.der: f"{_crl_issuer(crl)} of {utc_text(crl.this_update)}"
        for crl in collateral.revocation.crls
    }


def _known_pairs(collateral: NvidiaCollateral, trust: TrustStore) -> Mapping[CertId, _Pair]:
    """Certificates whose issuers are known here: those in the signer chains of the manifests."""
    known: dict[CertId, _Pair] = {}
    for stored in collateral.rims.rims:
        root = trust.nvidia_rim_root
        chain = stored.rim.document.certificates
        below = [c for c in chain if c.sha256 != root.certificate_sha256]
        issuers: list[Certificate | TrustAnchor] = [*below[1:], root]
        for certificate, issuer in zip(below, issuers, strict=False):
            # A chain that somebody made up vouches for nobody.
            if _issued(certificate, issuer, trust):
                known.update(
                    (cert_id, (certificate, issuer))
                    for cert_id in cert_ids(certificate.serial, issuer)
                )
    return known


def _issued(what: Certificate | Crl, issuer: Certificate | TrustAnchor, trust: TrustStore) -> bool:
    key_id = issuer.key_id if isinstance(issuer, TrustAnchor) else issuer.subject_key_id
    problem = issue_problem(what, issuer.subject, issuer.public_key, key_id, trust.memory)
    return problem is None


def _describe_rim(stored: StoredRim, trust: TrustStore, now: datetime) -> Json:
    rim = stored.rim
    verified = verify_rim(rim, trust.nvidia_rim_root, trust.memory, now)
    authenticity = (verified.signature_problem, verified.chain_problem)
    problems = [text for text in (*authenticity, verified.validity_problem) if text is not None]
    return {
        "type": "rim",
        "title": rim.title,
        "name": stored.name,
        "kind": rim.kind.value,
        "chip": rim.model,
        "version": rim.version,
        "measurements": len(rim.golden),
        "genuine": verified.rim is not None,
        "current": verified.validity_problem is None,
        "signer_expires": utc_text(verified.valid_until),
        "problems": problems,
        "issuer_chain": [_describe_certificate(c) for c in rim.document.certificates],
    }


def _describe_ocsp(
    response: OcspResponse, known: Mapping[CertId, _Pair], trust: TrustStore, now: datetime
) -> Json:
    answers: list[Json] = []
    problems: list[str] = []
    genuine: list[bool | None] = []
    for single in response.responses:
        pair = known.get(single.cert_id)
        judged = None
        if pair is not None:
            judged = check_ocsp(
                response, certificate=pair[0], issuer=pair[1], now=now, memory=trust.memory,
                nonce=None, max_age=None,
            )  # fmt: skip
        genuine.append(None if judged is None else judged.genuine_problem is None)
        answers.append(_describe_single(single, response, pair, now))
        problems += _answer_problems(answers[-1], single, judged)
    return {
        "type": "ocsp-response",
        "title": "OCSP response for " + ", ".join(each["certificate"] for each in answers)[:160],
        "produced_at": utc_text(response.produced_at),
        "responder": _responder(response),
        "nonce": None if response.nonce is None else response.nonce.hex(),
        "genuine": None if None in genuine else all(genuine),
        "current": all(each["current"] for each in answers),
        "answers": answers,
        "problems": problems,
    }


def _describe_single(
    single: OcspSingle, response: OcspResponse, pair: _Pair | None, now: datetime
) -> Json:
    end = single.next_update
    serial = f"{single.cert_id.serial:X}"[:64]
    return {
        "serial": serial,
        "certificate": f"serial {serial}" if pair is None else pair[0].subject_text,
        "status": single.status.value,
        "reason": single.reason,
        "revoked_at": None if single.revoked_at is None else utc_text(single.revoked_at),
        "issued": utc_text(single.this_update),
        "next_update": None if end is None else utc_text(end),
        "current": max(single.this_update, response.produced_at) <= now
        and end is not None
        and now <= end,
    }


def _answer_problems(
    answer: Json, single: OcspSingle, judged: RevocationStatus | None
) -> list[str]:
    problems = []
    if single.status is not CertStatus.GOOD:
        reason = f", reason {single.reason}" if single.reason else ""
        problems.append(f"{answer['certificate']} is {single.status.value}{reason}")
    if judged is not None and judged.genuine_problem is not None:
        problems.append(judged.genuine_problem)
    if not answer["current"]:
        end = answer["next_update"] or "an unstated time"
        problems.append(f"it is valid from {answer['issued']} to {end}")
    return problems


def _describe_crl(
    crl: Crl, known: Mapping[CertId, _Pair], trust: TrustStore, now: datetime
) -> Json:
    issuers: list[Certificate | TrustAnchor] = [trust.nvidia_device_root, trust.nvidia_rim_root]
    issuers += [certificate for certificate, _ in known.values()]
    issuers = [issuer for issuer in issuers if issuer.subject == crl.issuer]
    genuine = any(_issued(crl, issuer, trust) for issuer in issuers) if issuers else None
    name = _crl_issuer(crl)
    end = crl.next_update
    current = crl.this_update <= now and end is not None and now <= end
    problems = ["it is not signed by the issuer it names"] if genuine is False else []
    window = f"{utc_text(crl.this_update)} to {utc_text(end) if end else 'an unstated time'}"
    if not current:
        problems.append(f"it is valid from {window}")
    problems += [
        f"{certificate.subject_text} is {status.outcome.value}"
        for certificate, issuer in dict.fromkeys(known.values())
        if crl.issuer == issuer.subject
        and (status := _ask_crl(crl, certificate, issuer, trust, now)).outcome
        in (Outcome.REVOKED, Outcome.ON_HOLD)
    ]
    return {
        "type": "nvidia-crl",
        "title": f"CRL of {name}",
        "issuer": name,
        "entries": crl.entries,
        "issued": utc_text(crl.this_update),
        "next_update": utc_text(end) if end else None,
        "genuine": genuine,
        "current": current,
        "problems": problems,
    }


def _ask_crl(
    crl: Crl,
    certificate: Certificate,
    issuer: Certificate | TrustAnchor,
    trust: TrustStore,
    now: datetime,
) -> RevocationStatus:
    return check_crl(
        crl, certificate=certificate, issuer=issuer, now=now, memory=trust.memory, nonce=None,
        max_age=None,
    )  # fmt: skip


def _responder(response: OcspResponse) -> str:
    if response.certificates:
        return response.certificates[0].subject_text
    if response.responder_key_hash is not None:
        return f"the key with SHA-1 {response.responder_key_hash.hex()}"
    return "the issuer itself"


def _crl_issuer(crl: Crl) -> str:
    try:
        return crl.issuer_text
    except (ValueError, CcverifyError):  # a name is decoded only when somebody wants to see it
        return "(a name that is not readable)"


def _describe_certificate(certificate: Certificate) -> dict[str, str]:
    return {
        "subject": certificate.subject_text,
        "not_before": utc_text(certificate.not_before),
        "not_after": utc_text(certificate.not_after),
    }
