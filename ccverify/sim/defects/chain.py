"""Defects of certificates: names, constraints, validity, keys, SGX extension, revocation."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ccverify.sim.certs import (
    KEY_USAGE,
    CertificateSpec,
    Extension,
    Name,
    authority_key_id,
    basic_constraints,
    key_usage,
    subject_key_id,
)
from ccverify.sim.defects.model import Defect, Make, changed
from ccverify.sim.keys import SimKey
from ccverify.sim.pki import PLATFORM_CA_CN, PROCESSOR_CA_CN, SimIssuer
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform
from ccverify.sim.sgx_extension import SGX_EXTENSION, SgxExtension, encode_items

__all__ = ["CHAIN_DEFECTS"]

_DAY = timedelta(days=1)
_PRIVATE_OID = "1.3.6.1.4.1.55555.1"  # a private arc no verifier knows


def _pck_extension(extension: Extension) -> Make:
    return changed(lambda case: replace(case, pck=case.pck.with_extension(extension)))


def _rename(name: Name, common_name: str) -> Name:
    return name.with_attribute("CN", common_name)


def _renamed_leaf(case: SimCase) -> SimCase:
    subject = _rename(case.pck.subject, "Intel SGX PCK Certificat")
    return replace(case, pck=replace(case.pck, subject=subject))


def _renamed_ca(case: SimCase) -> SimCase:
    subject = _rename(case.pck_ca.subject, "Intel SGX PCK Cloud CA")
    ca = replace(case.pck_ca, subject=subject)
    return replace(
        case,
        pck_ca=ca,
        pck=case.pck.signed_by(ca),
        pck_crl=replace(case.pck_crl, issuer=subject),
    )


def _wrong_issuer_name(case: SimCase) -> SimCase:
    own = dict(case.pck.issuer.attributes)["CN"]
    other = PROCESSOR_CA_CN if own == PLATFORM_CA_CN else PLATFORM_CA_CN
    return replace(case, pck=replace(case.pck, issuer=_rename(case.pck.issuer, other)))


def _renamed_tcb_signer(case: SimCase) -> SimCase:
    subject = _rename(case.tcb_signing.subject, "Intel SGX TCB Signer")
    return replace(case, tcb_signing=replace(case.tcb_signing, subject=subject))


def _root_path_length(case: SimCase) -> SimCase:
    return replace(case, root=case.root.with_extension(basic_constraints(True, 0)))


def _extra_ca(case: SimCase) -> SimCase:
    """Put a CA below the PCK CA, whose path length 0 forbids that, into the chain."""
    ca, key = case.pck_ca, SimKey("sub-ca", case.root.key.seed)
    sub_ca = replace(ca, key=key, serial=int.from_bytes(key.key_id, "big")).signed_by(ca)
    pck = case.pck.signed_by(sub_ca)
    chain = pck.pem() + sub_ca.pem() + ca.pem() + case.root.pem()
    return replace(case, pck=pck).with_quote(certification_data=chain.encode("ascii") + b"\0")


def _ca_as_leaf(case: SimCase) -> SimCase:
    """Sign the QE report with the PCK CA's key, which carries the leaf's SGX extension."""
    sgx = next(own for own in case.pck.extensions if own.oid == SGX_EXTENSION)
    ca = case.pck_ca
    leaf = replace(ca, subject=case.pck.subject).signed_by(ca).with_extension(sgx)
    return replace(case, pck=leaf)


def _p384_leaf(case: SimCase) -> SimCase:
    key = SimKey("pck-p384", case.root.key.seed, "P-384")
    leaf = replace(case.pck, key=key).with_extension(subject_key_id(key))
    return replace(case, pck=leaf)


def _p384_ca(case: SimCase) -> SimCase:
    key = SimKey("pck-ca-p384", case.root.key.seed, "P-384")
    ca = replace(case.pck_ca, key=key).with_extension(subject_key_id(key))
    crl = replace(case.pck_crl, signer=key)
    return replace(case, pck_ca=ca, pck=case.pck.signed_by(ca), pck_crl=crl)


def _resigned_by_other_root(platform: SimPlatform, at: datetime) -> SimEvidence:
    """Let a namesake of the issuer certify everything; the verifier trusts the real one."""
    namesake = replace(platform, issuer=SimIssuer(seed=b"namesake " + platform.issuer.seed))
    evidence = namesake.case(at=at).build()
    return replace(evidence, root_der=platform.issuer.root().der())


def _pck_of_other_root(platform: SimPlatform, at: datetime) -> SimEvidence:
    """Let only the PCK chain come from the namesake; the collateral is genuine."""
    forged = _resigned_by_other_root(platform, at)
    return replace(forged, collateral=platform.case(at=at).collateral())


def _sgx(platform: SimPlatform, at: datetime, sgx: SgxExtension) -> SimEvidence:
    return replace(platform.case(at=at), pck=platform.pck(sgx)).build()


def _svns(count: int) -> Make:
    def make(platform: SimPlatform, at: datetime) -> SimEvidence:
        svns = (platform.component_svns * 2)[:count]
        return _sgx(platform, at, replace(platform.sgx_extension(), component_svns=svns))

    return make


def _sgx_field(**changes: Any) -> Make:
    def make(platform: SimPlatform, at: datetime) -> SimEvidence:
        return _sgx(platform, at, replace(platform.sgx_extension(), **changes))

    return make


def _components_below_cpusvn(platform: SimPlatform, at: datetime) -> SimEvidence:
    sgx = platform.sgx_extension()
    return _sgx(platform, at, replace(sgx, component_svns=(0,) * 16, cpusvn=sgx.cpusvn))


def _fmspc_twice(platform: SimPlatform, at: datetime) -> SimEvidence:
    items = platform.sgx_extension().items()
    fmspc = next(item for item in items if item[0] == f"{SGX_EXTENSION}.4")
    extension = Extension(SGX_EXTENSION, False, encode_items((*items, fmspc)))
    return _with_pck_extension(platform, at, extension)


def _no_fmspc(platform: SimPlatform, at: datetime) -> SimEvidence:
    items = platform.sgx_extension().items()
    kept = tuple(item for item in items if item[0] != f"{SGX_EXTENSION}.4")
    extension = Extension(SGX_EXTENSION, False, encode_items(kept))
    return _with_pck_extension(platform, at, extension)


def _with_pck_extension(platform: SimPlatform, at: datetime, extension: Extension) -> SimEvidence:
    case = platform.case(at=at)
    return replace(case, pck=case.pck.with_extension(extension)).build()


def _sgx_cut_short(case: SimCase) -> SimCase:
    sgx = next(own for own in case.pck.extensions if own.oid == SGX_EXTENSION)
    return replace(case, pck=case.pck.with_extension(replace(sgx, value=sgx.value[:-7])))


def _forged_signature(case: SimCase) -> SimCase:
    """Sign the leaf with a stranger's key under the right issuer name."""
    return replace(case, pck=replace(case.pck, signer=SimKey("stranger", case.root.key.seed)))


def _wrong_aki(case: SimCase) -> SimCase:
    return replace(case, pck=case.pck.with_extension(authority_key_id(case.root.key)))


def _revoke_leaf(reason: str) -> Make:
    def change(case: SimCase) -> SimCase:
        crl = case.pck_crl.with_revoked(case.pck.serial, reason=reason)
        return replace(case, pck_crl=crl)

    return changed(change)


def _revoke_by_root(which: str) -> Make:
    def change(case: SimCase) -> SimCase:
        certificate: CertificateSpec = getattr(case, which)
        return replace(case, root_crl=case.root_crl.with_revoked(certificate.serial))

    return changed(change)


def _validity(which: str, **offsets: timedelta) -> Make:
    """Set not_before or not_after of a certificate relative to the time of the case."""

    def change(case: SimCase) -> SimCase:
        certificate: CertificateSpec = getattr(case, which)
        times = {name: case.at + offset for name, offset in offsets.items()}
        return replace(case, **{which: replace(certificate, **times)})  # type: ignore[arg-type]

    return changed(change)


def _ca_extension(extension: Extension) -> Make:
    return changed(lambda case: replace(case, pck_ca=case.pck_ca.with_extension(extension)))


def _row(name: str, summary: str, make: Make) -> Defect:
    return Defect(name, "chain", summary, make)


CHAIN_DEFECTS: tuple[Defect, ...] = (
    _row("root-other", "everything is re-signed under another root", _resigned_by_other_root),
    _row("root-other-pck-only", "the PCK chain ends at another root", _pck_of_other_root),
    _row("root-path-length", "the root allows no CA below it", changed(_root_path_length)),
    _row("pck-cn", "the PCK certificate has a wrong common name", changed(_renamed_leaf)),
    _row("pck-ca-cn", "the PCK CA has a wrong common name", changed(_renamed_ca)),
    _row("pck-issuer-name", "the PCK names another issuer", changed(_wrong_issuer_name)),
    _row("pck-aki", "the PCK names another issuer key", changed(_wrong_aki)),
    _row("pck-signature", "a stranger's key signed the PCK", changed(_forged_signature)),
    _row("pck-is-ca", "the PCK is marked as a CA", _pck_extension(basic_constraints(True))),
    _row("pck-key-usage", "the PCK may not sign", _pck_extension(key_usage("key_agreement"))),
    _row("pck-ca-as-leaf", "the PCK CA's key certifies the QE", changed(_ca_as_leaf)),
    _row("pck-ca-not-ca", "the PCK CA is no CA", _ca_extension(basic_constraints(False))),
    _row("pck-ca-key-usage", "the PCK CA lacks keyCertSign", _ca_extension(key_usage("crl_sign"))),
    _row(
        "pck-ca-no-key-usage",
        "the PCK CA has no key usage",
        changed(lambda case: replace(case, pck_ca=case.pck_ca.without_extension(KEY_USAGE))),
    ),
    _row("pck-ca-path-length", "a CA stands below the PCK CA", changed(_extra_ca)),
    _row("pck-expired", "the PCK has expired", _validity("pck", not_after=-_DAY)),
    _row("pck-not-yet-valid", "the PCK is not valid yet", _validity("pck", not_before=_DAY)),
    _row("pck-ca-expired", "the PCK CA has expired", _validity("pck_ca", not_after=-_DAY)),
    _row(
        "tcb-signing-expired",
        "the TCB signer has expired",
        _validity("tcb_signing", not_after=-_DAY),
    ),
    _row("tcb-signing-cn", "the TCB signer's name is wrong", changed(_renamed_tcb_signer)),
    _row(
        "pck-unknown-critical",
        "the PCK has an unknown critical extension",
        _pck_extension(Extension(_PRIVATE_OID, True, b"\x05\x00")),
    ),
    _row("pck-p384", "the PCK key is on P-384", changed(_p384_leaf)),
    _row("pck-ca-p384", "the PCK CA key is on P-384", changed(_p384_ca)),
    _row(
        "pck-no-sgx-extension",
        "the PCK has no SGX extension",
        changed(lambda case: replace(case, pck=case.pck.without_extension(SGX_EXTENSION))),
    ),
    _row("sgx-extension-cut", "the SGX extension is cut short", changed(_sgx_cut_short)),
    _row("sgx-15-svns", "the SGX extension has 15 component SVNs", _svns(15)),
    _row("sgx-17-svns", "the SGX extension has 17 component SVNs", _svns(17)),
    _row("sgx-no-fmspc", "the SGX extension lacks the FMSPC", _no_fmspc),
    _row("sgx-fmspc-twice", "the SGX extension has two FMSPCs", _fmspc_twice),
    _row("sgx-fmspc-short", "the FMSPC has 5 bytes", _sgx_field(fmspc=b"SIM\0\0")),
    _row(
        "sgx-cpusvn-contradicts",
        "the components are too old and only the CPUSVN looks up to date",
        _components_below_cpusvn,
    ),
    _row("sgx-ppid-short", "the PPID has 15 bytes", _sgx_field(ppid=bytes(15))),
    _row("pck-revoked", "the PCK is revoked", _revoke_leaf("key_compromise")),
    _row("pck-on-hold", "the PCK is on hold", _revoke_leaf("certificate_hold")),
    _row("pck-ca-revoked", "the PCK CA is revoked", _revoke_by_root("pck_ca")),
    _row("tcb-signing-revoked", "the TCB signer is revoked", _revoke_by_root("tcb_signing")),
)
