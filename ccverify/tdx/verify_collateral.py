"""Is the collateral genuine, current and newest, and does it revoke anybody?

Each function reports its findings and returns only what later steps may build on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from ccverify.clock_text import utc_text
from ccverify.findings import FindingList
from ccverify.tdx.collateral import (
    Artefact,
    Chain,
    Collateral,
    CollateralPack,
    CrlArtefact,
    PckCrl,
    SignedQeIdentity,
    SignedTcbInfo,
)
from ccverify.tdx.pck import PckPlatform
from ccverify.tdx.tcb_info import QeIdentity, TcbInfo
from ccverify.trust.path import CertificateRole, Path, path_validity_problem, verify_path
from ccverify.trust.store import TrustStore
from ccverify.trust.x509 import Certificate, issue_problem

__all__ = [
    "PCK_CA",
    "Context",
    "signer_paths",
    "verify_fields",
    "verify_pck_crl",
    "verify_qe_identity",
    "verify_rollback",
    "verify_root_crl",
    "verify_tcb_info",
]

PCK_CA = CertificateRole(
    ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"), is_ca=True, curve="P-256"
)
TCB_SIGNER = CertificateRole(("Intel SGX TCB Signing",), is_ca=False, curve="P-256")

_Signed = SignedTcbInfo | SignedQeIdentity


@dataclass(frozen=True)
class Context:
    """The arguments of one verification, and where its findings go."""

    pack: CollateralPack
    trust: TrustStore
    now: datetime
    findings: FindingList

    def path(self, chain: Sequence[Certificate], *roles: CertificateRole) -> Path:
        """Check a chain against Intel's root."""
        return verify_path(chain, roles, self.trust.intel_root, self.trust.memory)

    def validity_problem(self, certificates: Sequence[Certificate]) -> str | None:
        """Why one of the certificates, or the root, is not valid at the evaluation time."""
        return path_validity_problem(certificates, self.trust.intel_root, self.now)

    @cached_property
    def at_this_time(self) -> str:
        """What is expected of everything with a validity period."""
        return f"valid at {utc_text(self.now)}"

    def absent(self, what: str) -> str:
        """The reason text for collateral that is not there."""
        given = "in the collateral pack" if self.pack.artefacts else "(no collateral was given)"
        return f"there is no {what} {given}"

    def fresh(self, code: str, artefact: Artefact, signers: Sequence[Certificate]) -> None:
        """Report whether an artefact and its signer are valid at the evaluation time."""
        problem = None if artefact.current(self.now) else f"valid from {artefact.window}"
        self.findings.ended(
            code,
            problem or self.validity_problem(signers),
            expected=self.at_this_time,
            found=artefact.window,
            where=artefact.kind,
        )


def signer_paths(context: Context, collateral: Collateral) -> dict[str, Path]:
    """Check the issuer chains of TCB info and QE identity, keyed by kind of artefact."""
    paths: dict[Chain, Path] = {}
    signers = {}
    for artefact in (collateral.tcb_info, collateral.qe_identity):
        if artefact is not None:
            chain = artefact.issuer_chain
            if chain not in paths:
                paths[chain] = context.path(chain, TCB_SIGNER)
            signers[artefact.kind] = paths[chain]
    return signers


def verify_root_crl(
    context: Context,
    collateral: Collateral,
    pck_chain: Sequence[Certificate],
    signers: dict[str, Path],
) -> None:
    """Root CA CRL: genuine, current, and listing neither the PCK CA nor a TCB signer."""
    findings, root = context.findings, context.trust.intel_root
    crl = collateral.root_ca_crl
    signature, fresh, revocation = (
        "TDX-ROOT-CRL-SIGNATURE",
        "TDX-ROOT-CRL-FRESH",
        "TDX-CA-REVOCATION",
    )
    if crl is None:
        for code in (signature, fresh, revocation):
            findings.skipped(code, context.absent("CRL of the root CA"))
        return
    problem = issue_problem(
        crl.crl, root.subject, root.public_key, root.key_id, context.trust.memory
    )
    genuine = findings.ended(
        signature, problem, expected=f"signed by {root.label}", found="genuine", where=crl.kind
    )
    context.fresh(fresh, crl, ())
    judged = [
        *pck_chain[1:],
        *(path.certificates[0] for path in signers.values() if path.problem is None),
    ]
    if not genuine:
        findings.skipped(revocation, "the CRL of the root CA is not genuine")
    elif _revocation_problem(crl, judged) is None and not pck_chain:
        findings.skipped(revocation, "there is no genuine PCK CA to look up")
    else:
        _revocation(context, revocation, crl, judged)


def verify_pck_crl(
    context: Context, collateral: Collateral, pck_chain: Sequence[Certificate]
) -> None:
    """PCK CRL: genuine, current, and not listing the PCK certificate."""
    findings, crl = context.findings, collateral.pck_crl
    signature, fresh, revocation = (
        "TDX-PCK-CRL-SIGNATURE",
        "TDX-PCK-CRL-FRESH",
        "TDX-PCK-REVOCATION",
    )
    if crl is None or not pck_chain:
        absent = context.absent("CRL of the PCK CA")
        reason = absent if pck_chain else "there is no genuine PCK chain to look up"
        for code in (signature, fresh, revocation):
            findings.skipped(code, reason)
        return
    genuine = findings.ended(
        signature,
        _pck_crl_problem(context, crl, pck_chain[1]),
        expected="signed by the CA that issued the PCK certificate",
        found="genuine",
        where=crl.kind,
    )
    context.fresh(fresh, crl, ())
    if genuine:
        _revocation(context, revocation, crl, pck_chain[:1])
    else:
        findings.skipped(revocation, "the CRL of the PCK CA is not genuine")


def _pck_crl_problem(context: Context, crl: PckCrl, issuer: Certificate) -> str | None:
    # The issuer is already known to be genuine; a chain that brings another is checked too.
    if crl.issuer_chain and crl.issuer_chain[0] != issuer:
        path = context.path(crl.issuer_chain, PCK_CA)
        if path.problem:
            return path.problem
        if path.certificates[0].public_key != issuer.public_key:
            return "its issuer chain names another key than that of the PCK certificate's issuer"
    if not issuer.signs_crls:
        return f"{issuer.subject_text}: its key usage lacks cRLSign"
    return issue_problem(
        crl.crl, issuer.subject, issuer.public_key, issuer.subject_key_id, context.trust.memory
    )


def _revocation(
    context: Context, code: str, crl: CrlArtefact, certificates: Sequence[Certificate]
) -> None:
    context.findings.ended(
        code,
        _revocation_problem(crl, certificates),
        expected="not listed",
        found="not listed",
        where=crl.kind,
    )


def _revocation_problem(crl: CrlArtefact, certificates: Sequence[Certificate]) -> str | None:
    listed = next((c for c in certificates if crl.crl.lists(c.serial)), None)
    return f"{listed.subject_text}, serial {listed.serial:x}, is revoked" if listed else None


def verify_tcb_info(
    context: Context,
    artefact: SignedTcbInfo | None,
    signers: dict[str, Path],
    platform: PckPlatform | None,
) -> TcbInfo | None:
    """TCB info: genuine, current, and of this platform."""
    fmspc = platform.fmspc.hex().upper() if platform else ""
    what = f"TCB info for FMSPC {fmspc}" if platform else "TCB info for an unknown platform"
    genuine = _verify_signed(context, "TDX-TCB-INFO", artefact, signers, what)
    if artefact is None or platform is None:
        context.findings.skipped("TDX-TCB-INFO-MATCH", context.absent(what))
        return None
    value = artefact.value
    expected = f"FMSPC {fmspc}, PCEID {platform.pceid.hex().upper()}"
    found = f"FMSPC {value.fmspc.hex().upper()}, PCEID {value.pceid.hex().upper()}"
    matches = context.findings.ended(
        "TDX-TCB-INFO-MATCH",
        None if expected == found else found,
        expected=expected,
        found=found,
        where=artefact.kind,
    )
    return value if genuine and matches else None


def verify_qe_identity(
    context: Context, artefact: SignedQeIdentity | None, signers: dict[str, Path]
) -> QeIdentity | None:
    """QE identity: genuine and current."""
    genuine = _verify_signed(context, "TDX-QE-IDENTITY", artefact, signers, "TD QE identity")
    return artefact.value if artefact and genuine else None


def _verify_signed(
    context: Context,
    prefix: str,
    artefact: _Signed | None,
    signers: dict[str, Path],
    what: str,
) -> bool:
    signature, fresh = f"{prefix}-SIGNATURE", f"{prefix}-FRESH"
    if artefact is None:
        for code in (signature, fresh):
            context.findings.skipped(code, context.absent(what))
        return False
    path = signers[artefact.kind]
    problem = path.problem
    if problem is None and not _signed_by(context, artefact, path):
        problem = "the signature over the served bytes does not verify"
    genuine = context.findings.ended(
        signature,
        problem,
        expected="signed by Intel SGX TCB Signing",
        found="genuine",
        where=artefact.kind,
    )
    context.fresh(fresh, artefact, path.certificates)
    return genuine


def _signed_by(context: Context, artefact: _Signed, path: Path) -> bool:
    key = path.certificates[0].public_key
    return context.trust.memory.verify_raw(key, artefact.signature, artefact.body)


def verify_fields(context: Context, collateral: Collateral) -> None:
    """No member of the signed JSON is one this version does not understand."""
    code = "TDX-COLLATERAL-FIELDS"
    documents = [d for d in (collateral.tcb_info, collateral.qe_identity) if d is not None]
    if not documents:
        context.findings.skipped(code, context.absent("TCB info and TD QE identity"))
        return
    unknown = [name for document in documents for name in document.value.unknown_fields]
    context.findings.ended(
        code,
        ", ".join(name[:80] for name in unknown[:8]) if unknown else None,
        expected="only members this version understands",
        found="every member understood",
    )


def verify_rollback(context: Context, collateral: Collateral) -> None:
    """No newer genuine edition of a chosen artefact is known at the evaluation time."""
    code = "TDX-COLLATERAL-ROLLBACK"
    if not collateral.artefacts:
        context.findings.skipped(code, context.absent("artefact of this platform"))
        return
    for chosen, known in (
        (collateral.tcb_info, context.pack.tcb_infos),
        (collateral.qe_identity, context.pack.qe_identities),
        (collateral.pck_crl, context.pack.pck_crls),
        (collateral.root_ca_crl, context.pack.root_ca_crls),
    ):
        for other in known:
            if (
                chosen is not None
                and other is not chosen
                and _supersedes(other, chosen, context.now)
                and _genuine(context, other)
            ):
                context.findings.failed(
                    code,
                    f"edition {other.edition} of {utc_text(other.issued)}, which is in the pack",
                    f"edition {chosen.edition} of {utc_text(chosen.issued)}",
                    chosen.kind,
                )
                return
    context.findings.passed(code, "no newer edition is known")


def _supersedes(other: Artefact, chosen: Artefact, now: datetime) -> bool:
    if other.issued > now:
        return False
    if isinstance(other, SignedTcbInfo) and isinstance(chosen, SignedTcbInfo):
        if other.value.fmspc != chosen.value.fmspc:
            return False
    elif (
        isinstance(other, CrlArtefact)
        and isinstance(chosen, CrlArtefact)
        and other.crl.issuer != chosen.crl.issuer
    ):
        return False
    return (other.edition, other.issued) > (chosen.edition, chosen.issued)


def _genuine(context: Context, artefact: Artefact) -> bool:
    """Whether an artefact that was not chosen is signed as it should be."""
    if isinstance(artefact, SignedTcbInfo | SignedQeIdentity):
        path = context.path(artefact.issuer_chain, TCB_SIGNER)
        return path.problem is None and _signed_by(context, artefact, path)
    if isinstance(artefact, PckCrl):
        path = context.path(artefact.issuer_chain, PCK_CA)
        return path.problem is None and (
            _pck_crl_problem(context, artefact, path.certificates[0]) is None
        )
    root = context.trust.intel_root
    return isinstance(artefact, CrlArtefact) and not issue_problem(
        artefact.crl, root.subject, root.public_key, root.key_id, context.trust.memory
    )
