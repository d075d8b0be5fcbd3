"""Is this quote genuine, and what does Intel say of the platform that made it?

The steps are those of Intel's QuoteVerification library (4.1.2.5.x in its source), each
reported as a finding of its own.  Nothing here knows the tenant's policy: TCB status,
measurements and attributes are facts, judged in `ccverify.policy.judge`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ccverify.clock_text import date_text
from ccverify.errors import EvidenceError
from ccverify.findings import Finding, FindingList
from ccverify.tdx.collateral import Collateral, CollateralPack
from ccverify.tdx.pck import PckPlatform, parse_pck_platform
from ccverify.tdx.quote import INTEL_QE_VENDOR_ID, CertificationDataType, Quote
from ccverify.tdx.tcb import TcbEvaluation, TcbResult, evaluate_tcb, find_module_identity
from ccverify.tdx.tcb_info import IsvTcbLevel, QeIdentity, TcbInfo, TcbStatus
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
from ccverify.trust.path import CertificateRole
from ccverify.trust.signatures import EcPublicKey
from ccverify.trust.store import TrustStore
from ccverify.trust.x509 import Certificate, parse_pem_chain

__all__ = ["TdxVerification", "verify_quote"]

PCK_LEAF = CertificateRole(("Intel SGX PCK Certificate",), is_ca=False, curve="P-256")
_MAX_PCK_CHAINS_TRIED = 64

Chain = Sequence[Certificate]


@dataclass(frozen=True)
class TdxVerification:
    """What verification established.

    Attributes:
        quote: the quote that was verified.
        findings: one per step, in the order of the steps.
        platform: the PCK certificate's contents; None when there was no genuine one.
        collateral: what was chosen from the pack.
        tcb: TCB evaluation; None when TCB info or QE identity is missing or not genuine.
    """

    quote: Quote
    findings: tuple[Finding, ...]
    platform: PckPlatform | None
    collateral: Collateral
    tcb: TcbResult | None


def verify_quote(
    quote: Quote, pack: CollateralPack, trust: TrustStore, now: datetime
) -> TdxVerification:
    """Verify a quote against collateral at a given time.  Never raises on bad evidence.

    Args:
        quote: from `ccverify.tdx.quote.parse_quote`.
        pack: collateral; an empty pack leaves what needs it NOT_CHECKED.
        trust: the trust store with Intel's root.
        now: evaluation time, timezone-aware.
    """
    context = Context(pack, trust, now, FindingList())
    _verify_qe_vendor(context, quote)
    chain = _verify_pck_chain(context, quote)
    platform = _verify_pck_platform(context, chain)
    # Without a platform there is no TCB info and no PCK CRL to choose; the rest is for all.
    collateral = pack.select(
        platform.fmspc if platform else b"", chain[0].issuer if chain else b"", now
    )
    signers = signer_paths(context, collateral)
    verify_root_crl(context, collateral, chain, signers)
    verify_pck_crl(context, collateral, chain)
    tcb_info = verify_tcb_info(context, collateral.tcb_info, signers, platform)
    qe_identity = verify_qe_identity(context, collateral.qe_identity, signers)
    verify_fields(context, collateral)
    verify_rollback(context, collateral)
    _verify_qe_report(context, quote, chain)
    _verify_qe_identity_match(context, quote, qe_identity)
    _verify_quote_signature(context, quote)
    _verify_module_identity(context, quote, tcb_info)
    tcb = _evaluate_tcb(context, quote, tcb_info, qe_identity, platform)
    return TdxVerification(quote, tuple(context.findings), platform, collateral, tcb)


def _verify_qe_vendor(context: Context, quote: Quote) -> None:
    vendor = quote.header.qe_vendor_id
    context.findings.ended(
        "TDX-QE-VENDOR",
        None if vendor == INTEL_QE_VENDOR_ID else vendor.hex(),
        expected=f"Intel, {INTEL_QE_VENDOR_ID.hex()}",
        found="Intel",
        where="quote[12:28]",
    )


def _verify_pck_chain(context: Context, quote: Quote) -> Chain:
    """Return leaf and CA of a genuine PCK chain, or nothing."""
    findings, where = context.findings, "PCK certificate chain"
    try:
        chain, source = _find_pck_chain(context, quote)
    except EvidenceError as problem:
        findings.failed("TDX-PCK-CHAIN", "a PEM certificate chain", problem.message, where)
        findings.skipped("TDX-PCK-VALIDITY", "the PCK chain is not readable", where)
        return ()
    if not chain:
        findings.skipped("TDX-PCK-CHAIN", source, where)
        findings.skipped("TDX-PCK-VALIDITY", source, where)
        return ()
    path = context.path(chain, PCK_LEAF, PCK_CA)
    genuine = findings.ended(
        "TDX-PCK-CHAIN",
        path.problem,
        expected=f"PCK certificate, PCK CA, {context.trust.intel_root.label}",
        found=source,
        where=where,
    )
    findings.ended(
        "TDX-PCK-VALIDITY",
        context.validity_problem(path.certificates),
        expected=context.at_this_time,
        found="valid",
        where=where,
    )
    return path.certificates if genuine else ()


def _find_pck_chain(context: Context, quote: Quote) -> tuple[Chain, str]:
    """The PCK chain and where it came from; or none, and why.

    A chain in the quote always wins: collateral is never allowed to replace it.
    """
    kind, data = quote.certification_data_type, quote.certification_data
    if kind is CertificationDataType.PCK_CERT_CHAIN:
        return parse_pem_chain(data), "chain in the quote"
    if kind is CertificationDataType.PCK_LEAF:
        leaf = parse_pem_chain(data)[0]
        for crl in context.pack.pck_crls:
            if crl.issuer_chain and crl.issuer_chain[0].subject == leaf.issuer:
                return (leaf, *crl.issuer_chain), "leaf in the quote, CA in the collateral pack"
        return (), "the quote carries only the PCK leaf, and the pack no chain of its CA"
    for chain in context.pack.pck_chains[:_MAX_PCK_CHAINS_TRIED]:
        if _signed_by(context, quote, chain[0].public_key):
            return chain, "chain in the collateral pack"
    return (), f"the quote carries no PCK chain (type {kind:d}), and the pack none that fits it"


def _verify_pck_platform(context: Context, chain: Chain) -> PckPlatform | None:
    code, where = "TDX-PCK-EXTENSION", "PCK certificate"
    if not chain:
        context.findings.skipped(code, "there is no genuine PCK certificate")
        return None
    try:
        platform = parse_pck_platform(chain[0])
    except EvidenceError as problem:
        found = problem.summary
        expected = problem.expected or "a well-formed SGX extension"
        context.findings.failed(code, expected, found, where)
        return None
    context.findings.passed(code, f"FMSPC {platform.fmspc.hex().upper()}", where)
    return platform


def _signed_by(context: Context, quote: Quote, key: EcPublicKey) -> bool:
    """Whether `key` signed the QE report."""
    memory = context.trust.memory
    return memory.verify_raw(key, quote.qe_report_signature, quote.qe_report.raw)


def _verify_qe_report(context: Context, quote: Quote, chain: Chain) -> None:
    findings, where = context.findings, "QE report"
    if not chain:
        findings.skipped("TDX-QE-REPORT-SIGNATURE", "there is no genuine PCK certificate", where)
    else:
        findings.ended(
            "TDX-QE-REPORT-SIGNATURE",
            None
            if _signed_by(context, quote, chain[0].public_key)
            else "the signature does not verify under the PCK certificate's key",
            expected="signed by the PCK key",
            found="genuine",
            where=where,
        )
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    present = quote.qe_report.report_data
    findings.ended(
        "TDX-QE-KEY-BINDING",
        None if bound == present else present.hex(),
        expected=bound.hex(),
        found="bound",
        where=f"{where} REPORTDATA",
    )


def _verify_qe_identity_match(context: Context, quote: Quote, identity: QeIdentity | None) -> None:
    code = "TDX-QE-IDENTITY-MATCH"
    if identity is None:
        context.findings.skipped(code, "there is no genuine QE identity")
        return
    report, misc = quote.qe_report, identity.miscselect_mask
    mask = int.from_bytes(identity.attributes_mask, "big")
    compared = (
        ("MRSIGNER", identity.mrsigner.hex(), report.mrsigner.hex()),
        ("ISVPRODID", f"{identity.isvprodid}", f"{report.isvprodid}"),
        ("MISCSELECT", f"{identity.miscselect & misc:08x}", f"{report.miscselect & misc:08x}"),
        (
            "ATTRIBUTES",
            f"{int.from_bytes(identity.attributes, 'big') & mask:032x}",
            f"{int.from_bytes(report.attributes, 'big') & mask:032x}",
        ),
    )
    different = next((item for item in compared if item[1] != item[2]), None)
    context.findings.ended(
        code,
        f"{different[0]} {different[2]}" if different else None,
        expected=f"{different[0]} {different[1]}" if different else "",
        found="Intel's TD quoting enclave",
        where="QE report",
    )


def _verify_quote_signature(context: Context, quote: Quote) -> None:
    key = EcPublicKey("P-256", quote.attestation_key)
    problem: str | None = "the signature does not verify under the attestation key"
    try:
        # Not remembered: no quote is checked twice, and the memory is for what recurs.
        if key.verify_raw(quote.signature, quote.signed_range):
            problem = None
    except EvidenceError as error:
        problem = error.message
    context.findings.ended(
        "TDX-QUOTE-SIGNATURE",
        problem,
        expected="signed by the attestation key",
        found="genuine",
        where=f"quote[0:{len(quote.signed_range)}]",
    )


def _verify_module_identity(context: Context, quote: Quote, tcb_info: TcbInfo | None) -> None:
    report = quote.report
    attributes = report.seamattributes
    context.findings.ended(
        "TDX-SEAM-ATTRIBUTES",
        attributes.hex() if any(attributes) else None,
        expected="all zero: a production TDX module",
        found="all zero",
        where="SEAMATTRIBUTES",
    )
    code = "TDX-MODULE-IDENTITY"
    if tcb_info is None:
        context.findings.skipped(code, "there is no genuine TCB info")
        return
    version = report.tee_tcb_svn[1]
    identity = find_module_identity(tcb_info, version)
    if identity is None:
        known = ", ".join(module.id for module in tcb_info.tdx_module_identities) or "none"
        context.findings.failed(code, f"one of: {known}", f"TDX_{version:02X}", "TEE_TCB_SVN[1]")
        return
    expected = f"MRSIGNERSEAM {identity.mrsigner.hex()}, attributes {identity.attributes.hex()}"
    found = f"MRSIGNERSEAM {report.mrsignerseam.hex()}, attributes {attributes.hex()}"
    context.findings.ended(
        code,
        None if expected == found else found,
        expected=expected,
        found=identity.id or "TDX module of major version 0",
        where="MRSIGNERSEAM, SEAMATTRIBUTES",
    )


def _evaluate_tcb(
    context: Context,
    quote: Quote,
    tcb_info: TcbInfo | None,
    qe_identity: QeIdentity | None,
    platform: PckPlatform | None,
) -> TcbResult | None:
    if tcb_info is None or qe_identity is None or platform is None:
        for code in ("TDX-TCB-LEVEL", "TDX-MODULE-TCB", "TDX-QE-TCB", "TDX-TCB-RELAUNCH"):
            context.findings.skipped(code, "there is no genuine TCB info and QE identity")
        return None
    report, isvsvn = quote.report, quote.qe_report.isvsvn
    result = evaluate_tcb(
        tcb_info, qe_identity, platform, isvsvn, report.tee_tcb_svn, report.tee_tcb_svn2
    )
    _report_platform_level(context, result.launch)
    if result.launch.uses_module_identity:
        _report_isv_level(
            context, "TDX-MODULE-TCB", result.launch.module, report.tee_tcb_svn[0], "TEE_TCB_SVN[0]"
        )
    else:
        context.findings.not_applicable("TDX-MODULE-TCB", "TDX module of major version 0")
    _report_isv_level(context, "TDX-QE-TCB", result.launch.qe, isvsvn, "QE report ISVSVN")
    _report_relaunch(context, result)
    return result


def _report_platform_level(context: Context, launch: TcbEvaluation) -> None:
    level = launch.platform
    problem = None
    if level is None:
        problem = "; ".join(map(str, launch.shortfalls)) or "TCB info has no levels"
    context.findings.ended(
        "TDX-TCB-LEVEL",
        problem,
        expected="at least the lowest TCB level Intel publishes",
        found=f"{level.status.value} level of {date_text(level.tcb_date)}" if level else "",
        where="PCK certificate TCB, TEE_TCB_SVN",
    )


def _report_isv_level(
    context: Context, code: str, level: IsvTcbLevel | None, isvsvn: int, where: str
) -> None:
    name = f"{level.status.value} level of {date_text(level.tcb_date)}" if level else "below all"
    found = f"ISVSVN {isvsvn}: {name}"
    usable = level is not None and level.status is not TcbStatus.REVOKED
    context.findings.ended(
        code,
        None if usable else found,
        expected="a published level that is not revoked",
        found=found,
        where=where,
    )


def _report_relaunch(context: Context, result: TcbResult) -> None:
    code = "TDX-TCB-RELAUNCH"
    if result.current is None:
        context.findings.not_applicable(code, "the report has no TEE_TCB_SVN2")
        return
    found = f"launched {result.launch.status.value}, now {result.current.status.value}"
    differs = result.launch.status is not result.current.status
    context.findings.ended(
        code,
        found if differs else None,
        expected="the TDX module of the launch is as good as the one running now",
        found=found,
        where="TEE_TCB_SVN, TEE_TCB_SVN2",
    )
