"""`ccverify.check` on edited evidence: what it may trust, and that it always answers."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import ccverify
from ccverify.errors import CollateralError, PolicyError
from ccverify.findings import Assurance
from ccverify.results.render.table import render_verdict
from ccverify.tdx.collateral import CrlArtefact
from ccverify.trust.x509 import parse_pem_chain
from fuzz.evidence import (
    Base,
    Built,
    Sign,
    bases,
    build,
    edit_program,
    original_claims,
    signed_originals,
)
from fuzz.invariants import declared, holds, printable, strict_json_text

__all__ = ["check", "check_seeds", "check_signed"]


def check(program: bytes) -> bool:
    """Nothing is signed again: only the original signed bytes may be trusted."""
    flags = program[0] & Sign.MERGE if program else 0
    return _run(build(bytes((flags,)) + program[1:]))


def check_signed(program: bytes) -> bool:
    """The simulated Intel signs the edited parts: whatever it says, there is a verdict."""
    return _run(build(program))


def _run(built: Built) -> bool:
    policy = declared(PolicyError, lambda: ccverify.load_policy(built.policy))
    pack = declared(CollateralError, lambda: ccverify.parse_collateral(built.collateral))
    if policy is None:
        policy = ccverify.load_policy(built.base.parts["policy"])
    if Sign.MERGE in built.flags:
        honest = ccverify.parse_collateral(build(edit_program(base=built.number)).collateral)
        pack = honest.merged(pack or ccverify.CollateralPack())
    judge = partial(
        ccverify.check,
        ccverify.Evidence(built.quote, built.log),
        policy=policy,
        now=_moment(built.base, built),
        nonce=None,
        collateral=pack or ccverify.CollateralPack(),
        trust=built.base.trust,
        what_if=pack if len(built.quote) % 4 == 0 else None,
    )
    # No error is allowed here, not even a declared one: every argument is a proper one.
    verdict = judge()
    text = verdict.dumps()
    strict_json_text(text)
    if len(text) % 4 == 0:
        printable(render_verdict(verdict, width=100, verbose=True))
    if len(text) % 8 == 0:
        holds(judge().dumps() == text, "the same arguments gave another verdict")
    holds(verdict.trusted == (verdict.exit_code == 0), "exit code and verdict disagree")
    if not built.flags & ~Sign.MERGE:
        _only_originals(verdict, built)
    return verdict.trusted


def _moment(base: Base, built: Built) -> datetime:
    try:
        return base.case.at + built.shift
    except OverflowError:
        return base.case.at


def _only_originals(verdict: ccverify.Verdict, built: Built) -> None:
    """What a verdict trusts or calls proven is what was signed, to the byte."""
    claims = verdict.tdx
    if claims is None or claims.level is Assurance.NONE:
        holds(not verdict.trusted, "trusted without a proven quote")
        return
    known, quote = signed_originals(), claims.verification.quote
    holds(quote.signed_range in known, "a changed quote is proven")
    holds(quote.qe_report.raw in known, "a changed QE report is proven")
    if quote.certification_data_type >= 4:
        holds(parse_pem_chain(quote.certification_data)[0].tbs in known, "a changed PCK is proven")
    for artefact in claims.verification.collateral.artefacts:
        signed = artefact.crl.tbs if isinstance(artefact, CrlArtefact) else artefact.body
        holds(signed in known, f"a changed {artefact.kind} is believed")
    if claims.identity and claims.identity_level is not Assurance.NONE:
        stated = {name: str(value) for name, value in claims.identity.values.items()}
        holds(stated in original_claims(), "changed identity claims are proven")
    if not verdict.trusted:
        return
    holds(verdict.simulated, "trusted under a simulated root without saying so")


def check_seeds() -> list[bytes]:
    """Every base untouched, and every part of it changed once in several ways."""
    parts = (
        ("signed_range", 0, 200, b"\1"), ("signed_range", 0, 570, b"\1"),
        ("signature", 0, 3, b"\1"), ("attestation_key", 1, 0, bytes(64)),
        ("qe_report", 0, 258, b"\1"), ("qe_auth", 2, 0, b"x"), ("pck", 6, 3, b"\1"),
        ("pck_ca", 6, 4, b"\2"), ("root", 6, 5, b"\3"), ("tcb_signer", 6, 6, b"\4"),
        ("root_crl", 6, 7, b"\5"), ("pck_crl", 6, 8, b"\6"),
        ("tcb_info", 6, 9, b"\7"), ("qe_identity", 6, 10, b"\x08"), ("log", 6, 11, b"\x09"),
        ("policy", 6, 12, b"\x0a"), ("shift", 1, 0, (86400 * 40).to_bytes(4, "little")),
        ("certification", 4, 9, b""), ("quote", 4, 3000, b""), ("collateral", 6, 13, b"\x0b"),
    )  # fmt: skip
    seeds = [edit_program(base=number) for number in range(len(bases()))]
    seeds += [edit_program(part, base=n % len(bases())) for n, part in enumerate(parts)]
    flags = Sign.QUOTE | Sign.QE_REPORT | Sign.CERTIFICATES | Sign.CRLS | Sign.COLLATERAL
    seeds += [edit_program(part, flags=flags, base=n % 4) for n, part in enumerate(parts)]
    seeds += [edit_program(part, flags=flags | Sign.MERGE, base=1) for part in parts]
    return seeds
