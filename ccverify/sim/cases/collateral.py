"""Bad cases: TCB info and QE identity that are edited, old, missing or half understood."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ccverify.sim.cases.codes import (
    NO_COLLATERAL,
    NO_PCK_CRL,
    NO_QE_IDENTITY,
    NO_ROOT_CRL,
    NO_TCB_INFO,
    codes,
)
from ccverify.sim.cases.model import (
    Expected,
    FixtureCase,
    Make,
    case,
    defect,
    full_pack,
    honest,
    incomplete,
    no_collateral,
    pack,
    pack_entries,
    policy,
    refused,
    untrusted,
    with_collateral,
)
from ccverify.sim.collateral import BodyName, sign_body
from ccverify.sim.pki import SimIssuer
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform

__all__ = ["AGE_CASES", "JSON_CASES", "MISSING_CASES", "SIGNED_CASES"]

_DAY = timedelta(days=1)
_NAMESAKE = SimPlatform(issuer=SimIssuer(seed=b"an attacker's root"))
_OUT_OF_DATE = SimPlatform().with_status("OutOfDate")

_TCB_INFO = untrusted(3, "TCB-INFO-SIGNATURE", NO_TCB_INFO)
_QE_IDENTITY = untrusted(3, "QE-IDENTITY-SIGNATURE", NO_QE_IDENTITY)
_NO_TCB_INFO = incomplete(
    5, (*codes("TCB-INFO-SIGNATURE TCB-INFO-FRESH TCB-INFO-MATCH"), *NO_TCB_INFO)
)
_NO_QE_IDENTITY = incomplete(
    5, (*codes("QE-IDENTITY-SIGNATURE QE-IDENTITY-FRESH"), *NO_QE_IDENTITY)
)


# --- signatures of TCB info and QE identity ---


def _rogue_qe() -> SimEvidence:
    """Let the attacker's own enclave pass for the QE, by an identity under his own root."""
    rogue = honest().with_qe_report(mr_signer=b"\x66" * 32)
    forger = _NAMESAKE.case()
    forger = replace(forger, qe_identity=replace(forger.qe_identity, mrsigner=b"\x66" * 32))
    forged = forger.collateral()
    return with_collateral(
        rogue.build(),
        qe_identity=forged.qe_identity,
        qe_identity_issuer_chain=forged.qe_identity_issuer_chain,
    )


def _signed(
    name: str, description: str, expected: Expected, make: Make | None = None, covers: str = "A14 3"
) -> FixtureCase:
    return case(name, description, make or defect(name), expected, covers=covers)


SIGNED_CASES: tuple[FixtureCase, ...] = (
    _signed(
        "tcb-info-status-edited",
        "The status of an out-of-date level was edited after signing.",
        _TCB_INFO,
        defect("tcb-info-status-edited", _OUT_OF_DATE),
        "A13 3",
    ),
    _signed(
        "tcb-info-reformatted", "White space was added to the TCB info after signing.", _TCB_INFO
    ),
    _signed(
        "tcb-info-signed-by-pck",
        "A platform's PCK key signed the TCB info.",
        _TCB_INFO,
        None,
        "A14 A16 2",
    ),
    _signed(
        "qe-identity-edited", "The product id of the QE was edited after signing.", _QE_IDENTITY
    ),
    _signed(
        "qe-identity-forged",
        "An enclave of the attacker's signed the quote, by an identity under his own root.",
        _QE_IDENTITY,
        _rogue_qe,
        "A3 A14 3",
    ),
    _signed(
        "tcb-info-pce-id",
        "The TCB info is for another PCE.",
        untrusted(5, "TCB-INFO-MATCH", NO_TCB_INFO),
        None,
        "A14 8",
    ),
    _signed(
        "tcb-info-fmspc",
        "The only TCB info is that of another platform family.",
        _NO_TCB_INFO,
        None,
        "A13 A14 8",
    ),
)


# --- what is missing ---

MISSING_CASES: tuple[FixtureCase, ...] = (
    case(
        "collateral-none",
        "Without collateral nothing is known of revocation or TCB.",
        honest,
        incomplete(5, NO_COLLATERAL),
        covers="A14 2",
        collateral=no_collateral,
    ),
    *(
        case(
            f"collateral-without-{kind}",
            f"The pack lacks the {what}.",
            honest,
            expected,
            covers="A14 2",
            collateral=full_pack(without=kind),
        )
        for kind, what, expected in (
            ("tcb-info", "TCB info", _NO_TCB_INFO),
            ("qe-identity", "QE identity", _NO_QE_IDENTITY),
            ("pck-crl", "CRL of the PCK CA", incomplete(5, NO_PCK_CRL)),
            ("root-ca-crl", "CRL of the root CA", incomplete(5, NO_ROOT_CRL)),
        )
    ),
    *(
        case(name, f"The signed text lacks {what}.", defect(name), refused(), covers="A14 3")
        for name, what in (
            ("tcb-info-without-next-update", "nextUpdate"),
            ("tcb-info-without-level-tdx-components", "the TDX components of a level"),
            ("tcb-info-without-module-mrsigner", "the signer of a TDX module"),
            ("qe-identity-without-isvprodid", "the product id"),
        )
    ),
)


# --- strict reading ---


def _served(which: str, change: Callable[[str], str]) -> Make:
    """Change the text of TCB info or QE identity and sign the result as it then stands."""
    name: BodyName = "tcbInfo" if which == "tcb_info" else "enclaveIdentity"

    def make() -> SimEvidence:
        own = honest()
        evidence = own.build()
        text = change(getattr(evidence.collateral, which).text)
        return with_collateral(evidence, **{which: sign_body(name, text, own.tcb_signing.key)})

    return make


def _replaced(which: str, old: str, new: str) -> Make:
    return _served(which, lambda text: text.replace(old, new, 1))


def _member(which: str, *path: str | int) -> Make:
    """Add an unknown member to one object and sign the result."""

    def change(text: str) -> str:
        document: Any = json.loads(text)
        target = document
        for step in path:
            target = target[step]
        target["futureRule"] = "strict"
        return json.dumps(document, separators=(",", ":"))

    return _served(which, change)


_DEEP = "[" * 10_000 + "]" * 10_000
_NUMBER = '"tcbEvaluationDataNumber":20'

JSON_CASES: tuple[FixtureCase, ...] = (
    *(
        case(name, description, make, refused(), covers=f"{covers} 3")
        for name, description, make, covers in (
            (
                "json-duplicate-key",
                "A member of the signed TCB info stands twice: two readers see two values.",
                _replaced("tcb_info", _NUMBER, f"{_NUMBER},{_NUMBER[:-2]}99"),
                "A21",
            ),
            ("json-nan", "NaN is no JSON.", _replaced("tcb_info", _NUMBER, _NUMBER[:-2] + "NaN"),
             "A21"),
            ("json-deep-nesting", "10 000 levels of nesting must not exhaust the reader.",
             _replaced("tcb_info", _NUMBER, _NUMBER[:-2] + _DEEP), "A21 A22"),
            ("tcb-info-signature-empty", "The TCB info's signature is empty.",
             defect("tcb-info-signature-empty"), "A1"),
            ("tcb-info-sgx", "The TCB info is that of SGX.", defect("tcb-info-sgx"), "A14 8"),
            ("tcb-info-15-components", "Levels have 15 SGX components.",
             defect("tcb-info-15-components"), "A15 14"),
            ("tcb-info-17-components", "Levels have 17 SGX components.",
             defect("tcb-info-17-components"), "A15 14"),
            ("qe-identity-sgx", "The identity is that of the SGX quoting enclave.",
             defect("qe-identity-sgx"), "A14 11"),
        )
    ),
    case(
        "collateral-cut",
        "The collateral file is cut short.",
        honest,
        refused(),
        covers="A1 A21 2",
        collateral=lambda evidence: evidence.collateral.to_json()[:9000],
    ),
    *(
        case(
            f"unknown-member-in-{name}",
            f"A signed member of {what} is not understood: it may restrict what follows.",
            _member(*path),
            untrusted(5, "COLLATERAL-FIELDS"),
            covers="A14 A21 3",
        )
        for name, what, path in (
            ("tcb-info", "the TCB info", ("tcb_info",)),
            ("qe-identity", "the QE identity", ("qe_identity",)),
        )
    ),
)  # fmt: skip


# --- age ---


def _aged(days: int) -> Make:
    """Judge today's quote by collateral that was genuine some days ago."""

    def make() -> SimEvidence:
        own = honest()
        older = honest(at=own.at - days * _DAY).collateral()
        return replace(own.build(), collateral=older)

    return make


def _older_set(own: SimCase) -> SimCase:
    info = replace(
        own.tcb_info,
        tcb_evaluation_data_number=19,
        issue_date=own.at - 10 * _DAY,
        next_update=own.at + 20 * _DAY,
    )
    return replace(own, tcb_info=info)


def _rolled_back(_evidence: SimEvidence) -> str | None:
    """Serve set 19, still in its window, beside set 20, whose window has ended."""
    own = honest()
    newer = replace(own.tcb_info, issue_date=own.at - 40 * _DAY, next_update=own.at - 10 * _DAY)
    entries = pack_entries(_older_set(own).collateral())
    later = pack_entries(replace(own, tcb_info=newer).collateral())
    return pack([*entries.values(), later["tcb-info"]])


def _crl_rolled_back(_evidence: SimEvidence) -> str | None:
    """Serve CRL 1, still in its window, beside CRL 2, which ended and revokes the platform."""
    own = honest()
    revoking = own.pck_crl.with_revoked(own.pck.serial).with_number(2)
    ended = replace(revoking, this_update=own.at - _DAY, next_update=own.at - _DAY / 24)
    later = pack_entries(replace(own, pck_crl=ended).collateral())
    return pack([*pack_entries(own.collateral()).values(), later["pck-crl"]])


AGE_CASES: tuple[FixtureCase, ...] = (
    *(
        case(name, description, defect(name), untrusted(5, f"{which}-FRESH"), covers="A13 4")
        for name, description, which in (
            ("tcb-info-expired", "The TCB info's nextUpdate was yesterday.", "TCB-INFO"),
            ("tcb-info-future", "The TCB info is dated tomorrow.", "TCB-INFO"),
            ("qe-identity-expired", "The QE identity's nextUpdate was yesterday.", "QE-IDENTITY"),
        )
    ),
    case(
        "collateral-replayed",
        "All collateral is genuine and 60 days old.",
        _aged(60),
        untrusted(5, "PCK-CRL-FRESH TCB-INFO-FRESH QE-IDENTITY-FRESH"),
        covers="A4 A13 4",
    ),
    case(
        "collateral-older-than-policy",
        "All collateral is in its window, and older than the policy's seven days.",
        _aged(20),
        untrusted(5, "COLLATERAL-AGE"),
        covers="A13 4",
        policy=policy(collateral={"max_age_days": 7}),
    ),
    case(
        "evaluation-number-low",
        "TCB info is of the set before the one the policy asks for.",
        lambda: _older_set(honest()),
        untrusted(5, "EVALUATION-NUMBER"),
        covers="A13 5",
        policy=policy(tcb={"min_evaluation_number": 20}),
    ),
    case(
        "tcb-info-rolled-back",
        "Set 19 is in force and set 20 is known: going back hides what 20 changed.",
        honest,
        untrusted(5, "COLLATERAL-ROLLBACK"),
        covers="A13 4",
        collateral=_rolled_back,
    ),
    case(
        "pck-crl-rolled-back",
        "An older CRL is in force, and the newer one beside it revokes the platform.",
        honest,
        untrusted(5, "COLLATERAL-ROLLBACK"),
        covers="A13 4 6",
        collateral=_crl_rolled_back,
    ),
)
