"""Bad cases: certificates and revocation lists."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from ccverify.sim.cases.codes import (
    NO_EXTENSION,
    NO_PCK,
    NO_PCK_CHAIN,
    NO_PCK_CRL,
    NO_SIGNED_JSON,
    codes,
)
from ccverify.sim.cases.model import (
    Expected,
    FixtureCase,
    Make,
    case,
    defect,
    honest,
    incomplete,
    untrusted,
    with_collateral,
)
from ccverify.sim.certs import pem_chain
from ccverify.sim.der import sequence
from ccverify.sim.pki import SimIssuer
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform

__all__ = ["CHAIN_CASES", "CRL_CASES", "EXTENSION_CASES", "SIGNER_CASES"]

_DAY = timedelta(days=1)
_NAMESAKE = SimPlatform(issuer=SimIssuer(seed=b"an attacker's root"))

_NO_CHAIN = untrusted(3, "PCK-CHAIN", NO_PCK)
_UNREADABLE_CHAIN = untrusted(3, "PCK-CHAIN", NO_PCK_CHAIN)
_NO_CHAIN_GIVEN = incomplete(5, (*codes("PCK-CHAIN"), *NO_PCK_CHAIN))
_SIGNERS = untrusted(3, "TCB-INFO-SIGNATURE QE-IDENTITY-SIGNATURE", NO_SIGNED_JSON)


def _leaf_as_ca() -> SimCase:
    """Let a genuine machine's PCK key issue another PCK certificate."""
    own, neighbour = honest(), SimPlatform(label="machine-2").pck()
    leaf = own.pck.signed_by(neighbour)
    chain = pem_chain(leaf, neighbour, own.pck_ca, own.root).encode("ascii") + b"\0"
    return replace(own, pck=leaf).with_quote(certification_data=chain)


def _non_minimal_signature() -> SimCase:
    """Encode r of the PCK's signature with a leading zero too many: BER, not DER."""
    own = honest()
    raw = own.pck.signer.sign_raw(own.pck.tbs())
    integers = b"".join(
        b"\x02" + bytes((len(value) + 2,)) + b"\0\0" + value for value in (raw[:32], raw[32:])
    )
    return replace(own, pck=replace(own.pck, signature=sequence(integers)))


def _later(which: str) -> Make:
    """Let a certificate begin to be valid a day after the evaluation."""

    def make() -> SimCase:
        own = honest()
        changed: Any = {which: replace(getattr(own, which), not_before=own.at + _DAY)}
        return replace(own, **changed)

    return make


def _chain(name: str, description: str, make: Make | None = None, covers: str = "") -> FixtureCase:
    """Return a row whose PCK chain must be refused; by default the defect of that name."""
    return case(name, description, make or defect(name), _NO_CHAIN, covers=f"6 {covers or 'A16'}")


CHAIN_CASES: tuple[FixtureCase, ...] = (
    case(
        "root-other",
        "An attacker's root of the same name signed everything.",
        defect("root-other"),
        untrusted(
            3,
            "PCK-CHAIN ROOT-CRL-SIGNATURE QE-IDENTITY-SIGNATURE",
            (*NO_PCK, *codes("CA-REVOCATION QE-IDENTITY-MATCH")),
        ),
        covers="A3 1",
    ),
    case(
        "root-path-length",
        "All chains end in another certificate of the root's name and key.",
        defect("root-path-length"),
        untrusted(
            3,
            "PCK-CHAIN QE-IDENTITY-SIGNATURE",
            (*NO_PCK, *codes("CA-REVOCATION QE-IDENTITY-MATCH")),
        ),
        covers="A3 1",
    ),
    _chain("pck-cn", "The leaf is not named Intel SGX PCK Certificate."),
    _chain("pck-signature", "The names chain, the signature does not: a stranger signed."),
    _chain(
        "pck-signature-non-minimal",
        "The leaf's ECDSA signature is BER, not DER.",
        _non_minimal_signature,
        "A20",
    ),
    _chain("pck-key-usage", "The leaf's key usage lacks digitalSignature."),
    _chain("pck-ca-as-leaf", "The CA's own key signed the QE report."),
    _chain("pck-ca-not-ca", "The CA is no CA by its basic constraints."),
    _chain("pck-ca-path-length", "A second CA stands below one of path length 0."),
    _chain("pck-unknown-critical", "The leaf has a critical extension nobody knows."),
    _chain("leaf-as-ca", "A machine's PCK key issued another PCK certificate.", _leaf_as_ca),
    case(
        "chain-empty",
        "The quote's certificate chain is empty.",
        defect("chain-empty"),
        _UNREADABLE_CHAIN,
        covers="A1 6",
    ),
    case(
        "chain-not-given",
        "The quote names only a PPID, and nobody brings the chain.",
        defect("inner-type-ppid"),
        _NO_CHAIN_GIVEN,
        covers="A14 6",
    ),
    *(
        case(name, description, make, untrusted(5, "PCK-VALIDITY"), covers="A29 4")
        for name, description, make in (
            ("pck-expired", "The PCK certificate has expired.", defect("pck-expired")),
            ("pck-not-yet-valid", "The PCK is not valid yet.", defect("pck-not-yet-valid")),
            ("pck-ca-expired", "The PCK CA has expired.", defect("pck-ca-expired")),
            ("pck-ca-not-yet-valid", "The PCK CA is not valid yet.", _later("pck_ca")),
        )
    ),
)


EXTENSION_CASES: tuple[FixtureCase, ...] = tuple(
    case(
        name,
        description,
        defect(name),
        untrusted(3, "PCK-EXTENSION", NO_EXTENSION),
        covers=f"7 {covers}",
    )
    for name, description, covers in (
        ("pck-no-sgx-extension", "The PCK certificate names no platform.", "A16"),
        ("sgx-15-svns", "The PCK certificate has 15 component SVNs.", "A15"),
        ("sgx-17-svns", "The PCK certificate has a seventeenth component SVN.", "A15"),
        ("sgx-fmspc-twice", "The SGX extension has two FMSPCs.", "A16 A21"),
    )
)


# --- revocation ---


def _crl(name: str, description: str, expected: Expected, covers: str) -> FixtureCase:
    return case(name, description, defect(name), expected, covers=covers)


CRL_CASES: tuple[FixtureCase, ...] = (
    _crl("pck-revoked", "The platform is revoked.", untrusted(3, "PCK-REVOCATION"), "6"),
    _crl("pck-on-hold", "A hold is a revocation.", untrusted(3, "PCK-REVOCATION"), "6"),
    _crl("pck-ca-revoked", "The PCK CA is revoked.", untrusted(3, "CA-REVOCATION"), "6"),
    _crl("tcb-signing-revoked", "The TCB signer is revoked.", untrusted(3, "CA-REVOCATION"), "6"),
    _crl(
        "pck-crl-signature",
        "A stranger signed the PCK CRL, which lists nobody.",
        untrusted(3, "PCK-CRL-SIGNATURE", codes("PCK-REVOCATION")),
        "A14 6",
    ),
    _crl(
        "root-crl-signature",
        "A stranger signed the root CRL, which lists nobody.",
        untrusted(3, "ROOT-CRL-SIGNATURE", codes("CA-REVOCATION")),
        "A14 6",
    ),
    _crl(
        "pck-crl-other-ca",
        "The only PCK CRL is that of the other PCK CA.",
        incomplete(5, NO_PCK_CRL),
        "A14 A16 6",
    ),
    *(
        _crl(name, description, untrusted(5, f"{which}-CRL-FRESH"), "A13 4")
        for name, description, which in (
            ("pck-crl-expired", "The PCK CRL's nextUpdate was yesterday.", "PCK"),
            ("root-crl-expired", "The root CRL's nextUpdate was yesterday.", "ROOT"),
        )
    ),
)


# --- the signer of TCB info and QE identity ---


def _signer_below_pck_ca() -> SimEvidence:
    """Let the PCK CA issue a TCB signer of the right name."""
    own = honest()
    signer = own.tcb_signing.signed_by(own.pck_ca)
    chain = pem_chain(signer, own.pck_ca, own.root)
    evidence = replace(own, tcb_signing=signer).build()
    return with_collateral(evidence, tcb_info_issuer_chain=chain, qe_identity_issuer_chain=chain)


def _foreign_collateral() -> SimEvidence:
    """Keep the quote and take all collateral from the attacker's root."""
    return replace(honest().build(), collateral=_NAMESAKE.case().collateral())


SIGNER_CASES: tuple[FixtureCase, ...] = (
    case(
        "collateral-root-other",
        "The quote is genuine; an attacker's root signed all collateral.",
        _foreign_collateral,
        untrusted(
            3,
            "ROOT-CRL-SIGNATURE PCK-CRL-SIGNATURE TCB-INFO-SIGNATURE QE-IDENTITY-SIGNATURE",
            (*codes("CA-REVOCATION PCK-REVOCATION"), *NO_SIGNED_JSON),
        ),
        covers="A3 A14 1 2 3",
    ),
    case(
        "tcb-signing-cn",
        "The signer is not named Intel SGX TCB Signing.",
        defect("tcb-signing-cn"),
        _SIGNERS,
        covers="A16 2",
    ),
    case(
        "tcb-signing-below-pck-ca",
        "The PCK CA issued a signer of the right name.",
        _signer_below_pck_ca,
        _SIGNERS,
        covers="A16 2",
    ),
    *(
        case(
            name,
            description,
            make,
            untrusted(5, "TCB-INFO-FRESH QE-IDENTITY-FRESH"),
            covers="A29 4",
        )
        for name, description, make in (
            (
                "tcb-signing-expired",
                "The certificate of the TCB signer has expired.",
                defect("tcb-signing-expired"),
            ),
            (
                "tcb-signing-not-yet-valid",
                "The certificate of the TCB signer is not valid yet.",
                _later("tcb_signing"),
            ),
        )
    ),
)
