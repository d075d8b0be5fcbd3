"""What is in a collateral pack, and whether it is any good, without a quote to judge.

For people and programs that gather collateral: the same checks a verdict is made of, applied
to every artefact of a pack by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ccverify.clock_text import utc_text
from ccverify.errors import EvidenceError
from ccverify.findings import FindingList, State
from ccverify.tdx.collateral import (
    Artefact,
    Collateral,
    CollateralPack,
    CrlArtefact,
    PckCrl,
    RootCaCrl,
    SignedQeIdentity,
    SignedTcbInfo,
)
from ccverify.tdx.pck import parse_pck_platform
from ccverify.tdx.pcs import PLATFORM_CA, PROCESSOR_CA, names_ca
from ccverify.tdx.tcb_info import IsvTcbLevel, TcbLevel
from ccverify.tdx.verify_collateral import (
    PCK_CA,
    Context,
    signer_paths,
    verify_fields,
    verify_pck_crl,
    verify_qe_identity,
    verify_rollback,
    verify_root_crl,
    verify_tcb_info,
)
from ccverify.trust.store import TrustStore
from ccverify.trust.x509 import Certificate

__all__ = [
    "REPORT_SCHEMA",
    "appraise_artefact",
    "appraise_pack",
    "artefact_name",
    "describe_isv_level",
    "describe_level",
    "describe_pack",
    "issuer_name",
]

REPORT_SCHEMA = "ccverify.collateral-report/v1"


def issuer_name(artefact: CrlArtefact) -> str:
    """The issuer of a CRL, for people; never raises, whatever is in the CRL."""
    return _readable(lambda: artefact.crl.issuer_text)


def _readable(read: Callable[[], str]) -> str:
    try:
        return read()
    except ValueError:  # a name is decoded only when somebody wants to see it
        return "(a name that is not readable)"


def artefact_name(artefact: Artefact) -> str:
    """Say which artefact this is, in a few words."""
    if isinstance(artefact, SignedTcbInfo):
        return f"TCB info {artefact.value.fmspc.hex().upper()}, set {artefact.edition}"
    if isinstance(artefact, SignedQeIdentity):
        return f"QE identity, set {artefact.edition}"
    if isinstance(artefact, PckCrl):
        for ca, name in (("Platform", PLATFORM_CA), ("Processor", PROCESSOR_CA)):
            if names_ca(artefact.crl.issuer, name):
                return f"PCK CRL ({ca} CA)"
        return "PCK CRL (unknown CA)"
    return "root CA CRL"


def appraise_pack(
    pack: CollateralPack,
    trust: TrustStore,
    now: datetime,
    known: CollateralPack | None = None,
) -> tuple[str, ...]:
    """Check every artefact by itself; return what is wrong, one sentence each.

    Args:
        pack: what is to be judged.
        trust: usually `TrustStore.production()`.
        now: evaluation time.
        known: older collateral; an artefact of `pack` that is older than one here is a problem.
    """
    around = pack if known is None else pack.merged(known)
    return tuple(
        f"{artefact_name(artefact)}: {problem}"
        for artefact in pack.artefacts
        for problem in appraise_artefact(artefact, around, trust, now, newest=known is not None)
    )


def appraise_artefact(
    artefact: Artefact,
    pack: CollateralPack,
    trust: TrustStore,
    now: datetime,
    *,
    newest: bool = False,
) -> tuple[str, ...]:
    """Check signature, window and members of one artefact; return what is wrong.

    Args:
        artefact: what is to be judged.
        pack: what it is in; its other signers are looked up in a CRL of the root CA.
        trust: trust anchors.
        now: evaluation time.
        newest: whether it is a problem that the pack holds a newer edition.
    """
    context = Context(pack, trust, now, FindingList())
    if isinstance(artefact, SignedTcbInfo):
        chosen = Collateral(artefact, None, None, None)
        verify_tcb_info(context, artefact, signer_paths(context, chosen), None)
        verify_fields(context, chosen)
    elif isinstance(artefact, SignedQeIdentity):
        chosen = Collateral(None, artefact, None, None)
        verify_qe_identity(context, artefact, signer_paths(context, chosen))
        verify_fields(context, chosen)
    elif isinstance(artefact, PckCrl):
        if not artefact.issuer_chain:
            return ("it has no issuer chain, so nothing can be said about it",)
        chosen = Collateral(None, None, artefact, None)
        if problem := context.path(artefact.issuer_chain, PCK_CA).problem:
            context.findings.failed("TDX-PCK-CRL-SIGNATURE", "a genuine PCK CA", problem)
        # There is no PCK certificate here: its CA stands in its place, which no CRL lists.
        verify_pck_crl(context, chosen, (artefact.issuer_chain[0],) * 2)
    else:
        assert isinstance(artefact, RootCaCrl)  # noqa: S101 - there are no other kinds
        chosen = Collateral(None, None, None, artefact)
        signers = [a.issuer_chain[0] for a in pack.artefacts if a.issuer_chain]
        verify_root_crl(context, chosen, (*signers[:1], *signers), {})
    if newest:
        verify_rollback(context, chosen)
    return tuple(
        f"expected {finding.expected}; found {finding.found} [{finding.code}]"
        for finding in context.findings
        if finding.state is State.FAIL
    )


def describe_pack(pack: CollateralPack, trust: TrustStore, now: datetime) -> dict[str, Any]:
    """Return everything in a pack as JSON values; times are RFC 3339, bytes upper-case hex."""
    return {
        "schema": REPORT_SCHEMA,
        "sha384": pack.digest,
        "at": utc_text(now),
        "trust": trust.kind.value,
        "artefacts": [_describe(artefact, pack, trust, now) for artefact in pack.artefacts],
        "pck_chains": [_describe_pck(chain) for chain in pack.pck_chains],
    }


def _describe(
    artefact: Artefact, pack: CollateralPack, trust: TrustStore, now: datetime
) -> dict[str, Any]:
    common = {
        "type": artefact.kind,
        "name": artefact_name(artefact),
        "sha384": artefact.digest,
        "edition": artefact.edition,
        "issued": utc_text(artefact.issued),
        "next_update": utc_text(artefact.next_update) if artefact.next_update else None,
        "current": artefact.current(now),
        "problems": list(appraise_artefact(artefact, pack, trust, now)),
        "issuer_chain": [_describe_certificate(c) for c in artefact.issuer_chain],
    }
    if isinstance(artefact, SignedTcbInfo):
        info = artefact.value
        return common | {
            "fmspc": info.fmspc.hex().upper(),
            "pceid": info.pceid.hex().upper(),
            "tcb_levels": [describe_level(level) for level in info.tcb_levels],
            "tdx_modules": {
                module.id: [describe_isv_level(level) for level in module.tcb_levels]
                for module in info.tdx_module_identities
            },
            "unknown_fields": list(info.unknown_fields),
        }
    if isinstance(artefact, SignedQeIdentity):
        identity = artefact.value
        return common | {
            "mrsigner": identity.mrsigner.hex().upper(),
            "isvprodid": identity.isvprodid,
            "tcb_levels": [describe_isv_level(level) for level in identity.tcb_levels],
            "unknown_fields": list(identity.unknown_fields),
        }
    assert isinstance(artefact, CrlArtefact)  # noqa: S101 - there are no other kinds
    return common | {"issuer": issuer_name(artefact), "entries": artefact.crl.entries}


def describe_level(level: TcbLevel) -> dict[str, Any]:
    """A platform TCB level as JSON values."""
    return {
        "status": level.status.value,
        "tcb_date": utc_text(level.tcb_date),
        "pcesvn": level.pcesvn,
        "sgx_components": list(level.sgx_components),
        "tdx_components": list(level.tdx_components),
        "advisory_ids": list(level.advisory_ids),
    }


def describe_isv_level(level: IsvTcbLevel) -> dict[str, Any]:
    """A TCB level of an enclave or of a TDX module as JSON values."""
    return {
        "isvsvn": level.isvsvn,
        "status": level.status.value,
        "tcb_date": utc_text(level.tcb_date),
        "advisory_ids": list(level.advisory_ids),
    }


def _describe_certificate(certificate: Certificate) -> dict[str, str]:
    return {
        "subject": certificate.subject_text,
        "not_before": utc_text(certificate.not_before),
        "not_after": utc_text(certificate.not_after),
    }


def _describe_pck(chain: tuple[Certificate, ...]) -> dict[str, Any]:
    try:
        fmspc = parse_pck_platform(chain[0]).fmspc.hex().upper()
    except EvidenceError:
        fmspc = None
    return {"fmspc": fmspc, "certificates": [_describe_certificate(c) for c in chain]}
