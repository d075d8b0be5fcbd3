"""Defects of collateral: windows, signatures, identity of what is described, contents."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ccverify.sim.certs import pem_chain
from ccverify.sim.collateral import BodyName, Collateral, TcbLevel, sign_body
from ccverify.sim.defects.model import Defect, Make, changed, damaged
from ccverify.sim.keys import SimKey
from ccverify.sim.pki import PckCa
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform

__all__ = ["COLLATERAL_DEFECTS"]

_DAY = timedelta(days=1)


def _dated(which: str, **offsets: timedelta) -> Make:
    """Set times of a TCB info, QE identity or CRL relative to the time of the case."""

    def change(case: SimCase) -> SimCase:
        times = {name: case.at + offset for name, offset in offsets.items()}
        return replace(case, **{which: replace(getattr(case, which), **times)})

    return changed(change)


def _endless_crl(case: SimCase) -> SimCase:
    return replace(case, pck_crl=replace(case.pck_crl, next_update=None))


def _tcb_info(**changes: Any) -> Make:
    return changed(lambda case: replace(case, tcb_info=replace(case.tcb_info, **changes)))


def _qe_identity(**changes: Any) -> Make:
    return changed(lambda case: replace(case, qe_identity=replace(case.qe_identity, **changes)))


def _levels(change: Callable[[TcbLevel], TcbLevel]) -> Make:
    def on_case(case: SimCase) -> SimCase:
        levels = tuple(change(level) for level in case.tcb_info.levels)
        return replace(case, tcb_info=replace(case.tcb_info, levels=levels))

    return changed(on_case)


def _qe_levels(status: str) -> Make:
    def on_case(case: SimCase) -> SimCase:
        levels = tuple(replace(level, status=status) for level in case.qe_identity.levels)
        return replace(case, qe_identity=replace(case.qe_identity, levels=levels))

    return changed(on_case)


def _module_revoked(case: SimCase) -> SimCase:
    identities = tuple(
        replace(own, levels=tuple(replace(level, status="Revoked") for level in own.levels))
        for own in case.tcb_info.module_identities or ()
    )
    return replace(case, tcb_info=replace(case.tcb_info, module_identities=identities))


def _module_svn_unmet(case: SimCase) -> SimCase:
    identities = tuple(
        replace(own, levels=tuple(replace(level, isvsvn=99) for level in own.levels))
        for own in case.tcb_info.module_identities or ()
    )
    return replace(case, tcb_info=replace(case.tcb_info, module_identities=identities))


def _on_collateral(change: Callable[[Collateral], Collateral]) -> Make:
    def damage(evidence: SimEvidence) -> SimEvidence:
        return replace(evidence, collateral=change(evidence.collateral))

    return damaged(damage)


def _status_edited(own: Collateral) -> Collateral:
    edited = own.tcb_info.edited('"OutOfDate"', '"UpToDate"')
    return replace(own, tcb_info=edited)


def _reformatted(own: Collateral) -> Collateral:
    """Re-serialise the TCB info with spaces: same JSON value, other signed bytes."""
    text = json.dumps(json.loads(own.tcb_info.text))
    return replace(own, tcb_info=replace(own.tcb_info, text=text))


def _qe_edited(own: Collateral) -> Collateral:
    edited = own.qe_identity.edited('"isvprodid":2', '"isvprodid":3')
    return replace(own, qe_identity=edited)


def _unsigned(own: Collateral) -> Collateral:
    return replace(own, tcb_info=replace(own.tcb_info, signature=bytes(64)))


def _no_signature(own: Collateral) -> Collateral:
    return replace(own, tcb_info=replace(own.tcb_info, signature=b""))


def _swapped(own: Collateral) -> Collateral:
    """Serve the QE identity's signature with the TCB info: genuine, for another text."""
    forged = replace(own.tcb_info, signature=own.qe_identity.signature)
    return replace(own, tcb_info=forged)


def _signed_by(which: str) -> Make:
    """Sign the TCB info with a genuine key that has no business to, and serve its chain."""

    def make(platform: SimPlatform, at: datetime) -> SimEvidence:
        case = platform.case(at=at)
        own = case.collateral()
        body = sign_body("tcbInfo", own.tcb_info.text, getattr(case, which).key)
        chain = case.pck_chain() if which == "pck" else pem_chain(case.pck_ca, case.root)
        forged = replace(own, tcb_info=body, tcb_info_issuer_chain=chain)
        return replace(case.build(), collateral=forged)

    return make


def _crl_of_other_ca(platform: SimPlatform, at: datetime) -> SimEvidence:
    """Serve the other PCK CA's list, with that CA's chain."""
    ca: PckCa = "processor" if platform.ca == "platform" else "platform"
    other = replace(platform, ca=ca)
    mine, theirs = platform.case(at=at).build(), other.case(at=at).collateral()
    mixed = replace(
        mine.collateral,
        pck_crl=theirs.pck_crl,
        pck_crl_issuer_chain=theirs.pck_crl_issuer_chain,
    )
    return replace(mine, collateral=mixed)


def _crl_forged(which: str) -> Make:
    def change(case: SimCase) -> SimCase:
        stranger = SimKey("stranger", case.root.key.seed)
        return replace(case, **{which: replace(getattr(case, which), signer=stranger)})

    return changed(change)


def _without(which: str, *path: str | int) -> Make:
    """Remove one member of the TCB info or QE identity and sign what is left."""
    name: BodyName = "tcbInfo" if which == "tcb_info" else "enclaveIdentity"

    def make(platform: SimPlatform, at: datetime) -> SimEvidence:
        case = platform.case(at=at)
        members = getattr(case, which).members()
        target: Any = members
        for step in path[:-1]:
            target = target[step]
        del target[path[-1]]
        body = sign_body(name, members, case.tcb_signing.key)
        edited: Collateral = replace(case.collateral(), **{which: body})  # type: ignore[arg-type]
        return replace(case.build(), collateral=edited)

    return make


def _row(name: str, summary: str, make: Make) -> Defect:
    return Defect(name, "collateral", summary, make)


def _short(level: TcbLevel) -> TcbLevel:
    return replace(level, sgx_components=level.sgx_components[:15])


def _long(level: TcbLevel) -> TcbLevel:
    return replace(level, sgx_components=(*level.sgx_components, level.sgx_components[-1]))


def _short_tdx(level: TcbLevel) -> TcbLevel:
    return replace(level, tdx_components=level.tdx_components[:15])


_TCB_INFO_MEMBERS: tuple[tuple[str, tuple[str | int, ...]], ...] = (
    ("id", ("id",)),
    ("version", ("version",)),
    ("issue-date", ("issueDate",)),
    ("next-update", ("nextUpdate",)),
    ("fmspc", ("fmspc",)),
    ("pce-id", ("pceId",)),
    ("tcb-type", ("tcbType",)),
    ("evaluation-number", ("tcbEvaluationDataNumber",)),
    ("levels", ("tcbLevels",)),
    ("level-status", ("tcbLevels", 0, "tcbStatus")),
    ("level-date", ("tcbLevels", 0, "tcbDate")),
    ("level-pcesvn", ("tcbLevels", 0, "tcb", "pcesvn")),
    ("level-tdx-components", ("tcbLevels", 0, "tcb", "tdxtcbcomponents")),
    ("module", ("tdxModule",)),
    ("module-levels", ("tdxModuleIdentities", 1, "tcbLevels")),
    ("module-mrsigner", ("tdxModuleIdentities", 1, "mrsigner")),
    ("module-attributes", ("tdxModuleIdentities", 1, "attributes")),
)
_QE_IDENTITY_MEMBERS = (
    ("id", "id"),
    ("version", "version"),
    ("issue-date", "issueDate"),
    ("next-update", "nextUpdate"),
    ("evaluation-number", "tcbEvaluationDataNumber"),
    ("miscselect-mask", "miscselectMask"),
    ("attributes-mask", "attributesMask"),
    ("mrsigner", "mrsigner"),
    ("isvprodid", "isvprodid"),
    ("levels", "tcbLevels"),
)

COLLATERAL_DEFECTS: tuple[Defect, ...] = (
    _row("tcb-info-expired", "the TCB info has expired", _dated("tcb_info", next_update=-_DAY)),
    _row(
        "tcb-info-future",
        "the TCB info is issued in the future",
        _dated("tcb_info", issue_date=_DAY),
    ),
    _row(
        "qe-identity-expired",
        "the QE identity has expired",
        _dated("qe_identity", next_update=-_DAY),
    ),
    _row(
        "qe-identity-future",
        "the QE identity is issued in the future",
        _dated("qe_identity", issue_date=_DAY),
    ),
    _row("pck-crl-expired", "the PCK CRL has expired", _dated("pck_crl", next_update=-_DAY)),
    _row("pck-crl-future", "the PCK CRL is not in force yet", _dated("pck_crl", this_update=_DAY)),
    _row("pck-crl-endless", "the PCK CRL names no next update", changed(_endless_crl)),
    _row(
        "root-crl-future", "the root CRL is not in force yet", _dated("root_crl", this_update=_DAY)
    ),
    _row("root-crl-expired", "the root CRL has expired", _dated("root_crl", next_update=-_DAY)),
    _row("pck-crl-signature", "a stranger's key signed the PCK CRL", _crl_forged("pck_crl")),
    _row("root-crl-signature", "a stranger's key signed the root CRL", _crl_forged("root_crl")),
    _row("pck-crl-other-ca", "the PCK CRL is the other CA's", _crl_of_other_ca),
    _row(
        "tcb-info-status-edited",
        "a status was edited after signing",
        _on_collateral(_status_edited),
    ),
    _row("tcb-info-reformatted", "the signed text was re-serialised", _on_collateral(_reformatted)),
    _row("tcb-info-signature-zero", "the signature is all zero", _on_collateral(_unsigned)),
    _row("tcb-info-signature-empty", "the signature is empty", _on_collateral(_no_signature)),
    _row(
        "tcb-info-signature-other", "the signature is the QE identity's", _on_collateral(_swapped)
    ),
    _row("tcb-info-signed-by-pck", "the PCK key signed the TCB info", _signed_by("pck")),
    _row("tcb-info-signed-by-ca", "the PCK CA key signed the TCB info", _signed_by("pck_ca")),
    _row("qe-identity-edited", "the QE identity was edited", _on_collateral(_qe_edited)),
    _row("tcb-info-fmspc", "the TCB info is for another FMSPC", _tcb_info(fmspc=b"OTHER\0")),
    _row("tcb-info-pce-id", "the TCB info is for another PCE", _tcb_info(pce_id=b"\x00\x01")),
    _row("tcb-info-sgx", "the TCB info is for SGX", _tcb_info(id="SGX")),
    _row("tcb-info-version", "the TCB info has version 2", _tcb_info(version=2)),
    _row("tcb-info-15-components", "levels have 15 SGX components", _levels(_short)),
    _row("tcb-info-17-components", "levels have 17 SGX components", _levels(_long)),
    _row("tcb-info-15-tdx-components", "levels have 15 TDX components", _levels(_short_tdx)),
    _row("tcb-info-no-levels", "the TCB info has no levels", _tcb_info(levels=())),
    _row(
        "tcb-info-no-module-identities",
        "no TDX module identities",
        _tcb_info(module_identities=None),
    ),
    _row("tcb-info-no-module-match", "no identity of this module", _tcb_info(module_identities=())),
    _row("module-revoked", "the TDX module is revoked", changed(_module_revoked)),
    _row("module-svn-unmet", "no TDX module level is met", changed(_module_svn_unmet)),
    _row("qe-identity-sgx", "the identity is the SGX quoting enclave's", _qe_identity(id="QE")),
    _row("qe-identity-mrsigner", "another signer made the QE", _qe_identity(mrsigner=bytes(32))),
    _row("qe-identity-isvprodid", "the QE is another product", _qe_identity(isvprodid=1)),
    _row(
        "qe-identity-attributes",
        "the QE has other attributes",
        _qe_identity(attributes=b"\x13" + bytes(15)),
    ),
    _row(
        "qe-identity-miscselect",
        "the QE has another MISCSELECT",
        _qe_identity(miscselect=b"\x00\x00\x00\x01"),
    ),
    _row("qe-identity-no-levels", "the QE identity has no levels", _qe_identity(levels=())),
    _row("qe-revoked", "the QE is revoked", _qe_levels("Revoked")),
    *(
        _row(
            f"tcb-info-without-{label}",
            f"the TCB info lacks {'.'.join(map(str, path))}",
            _without("tcb_info", *path),
        )
        for label, path in _TCB_INFO_MEMBERS
    ),
    *(
        _row(
            f"qe-identity-without-{label}",
            f"the QE identity lacks {key}",
            _without("qe_identity", key),
        )
        for label, key in _QE_IDENTITY_MEMBERS
    ),
)
