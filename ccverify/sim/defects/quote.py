"""Defects of the quote: structure, signatures, bindings, and what an honest QE would not sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from ccverify.sim.defaults import tee_tcb_svn
from ccverify.sim.defects.model import Defect, Form, Make, changed, damaged
from ccverify.sim.keys import SimKey
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform
from ccverify.sim.quote import BuiltQuote

__all__ = ["QUOTE_DEFECTS"]

# n of P-256 (FIPS 186-5); r and s lie in 1..n-1.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def _bytes(change: Callable[[BuiltQuote], BuiltQuote], form: Form = "v4") -> Make:
    def damage(evidence: SimEvidence) -> SimEvidence:
        return replace(evidence, quote=change(evidence.quote))

    return damaged(damage, form)


def _flip(name: str, form: Form = "v4") -> Make:
    return _bytes(lambda quote: quote.flip(name), form)


def _set(name: str, value: bytes, form: Form = "v4") -> Make:
    return _bytes(lambda quote: quote.overwrite(name, value), form)


def _header(**fields: Any) -> Make:
    return changed(lambda case: case.with_header(**fields))


def _body(form: Form = "v4", **fields: Any) -> Make:
    return changed(lambda case: case.with_body(**fields), form)


def _spec(form: Form = "v4", **fields: Any) -> Make:
    return changed(lambda case: case.with_quote(**fields), form)


def _stranger(case: SimCase) -> SimKey:
    return SimKey("stranger", case.root.key.seed)


def _resigned_body(case: SimCase) -> SimCase:
    """Replace the attestation key and sign with it; the QE report still vouches for the old."""
    honest = case.finished_quote().build().part("qe_report.report_data")
    return case.with_quote(attestation_key=_stranger(case), qe_report_data=honest)


def _s_out_of_range(quote: BuiltQuote) -> BuiltQuote:
    """Keep r and set s to n, which is zero modulo n."""
    r = quote.part("signature")[:32]
    return quote.overwrite("signature", r + _P256_ORDER.to_bytes(32, "big"))


def _chain_of_other_machine(platform: SimPlatform, at: datetime) -> SimEvidence:
    """Put another genuine machine's PCK chain into the quote."""
    other = replace(platform, label=platform.label + "-neighbour")
    chain = other.case(at=at).pck_chain().encode("ascii") + b"\0"
    return platform.case(at=at).with_quote(certification_data=chain).build()


def _qe_report_of_other_machine(platform: SimPlatform, at: datetime) -> SimEvidence:
    """Transplant a genuine QE report and its signature from another machine."""
    mine = platform.case(at=at).build()
    other = replace(platform, label=platform.label + "-neighbour").case(at=at).build().quote
    quote = mine.quote
    for name in ("qe_report", "qe_report_signature", "auth_data"):
        quote = quote.overwrite(name, other.part(name))
    return replace(mine, quote=quote.splice("certification_data", other.part("certification_data")))


def _certification_type(kind: int) -> Make:
    return lambda platform, at: platform.case(at=at, inner_type=kind).build()


def _no_tcb_level(platform: SimPlatform, at: datetime) -> SimEvidence:
    return replace(platform, component_svns=(0,) * 16, cpusvn=None).case(at=at).build()


def _unknown_module(platform: SimPlatform, at: datetime) -> SimEvidence:
    svn = tee_tcb_svn(9, module_major=9)
    return replace(platform, tee_tcb_svn=svn).case(at=at).build()


def _row(name: str, summary: str, make: Make) -> Defect:
    return Defect(name, "quote", summary, make)


QUOTE_DEFECTS: tuple[Defect, ...] = (
    _row("quote-empty", "the quote is empty", _bytes(lambda quote: quote.truncate(0))),
    _row("quote-header-only", "only the header is there", _bytes(lambda quote: quote.truncate(48))),
    _row(
        "quote-unsigned", "all after the body is cut off", _bytes(lambda quote: quote.truncate(632))
    ),
    _row(
        "quote-cut",
        "the last bytes are cut off",
        _bytes(lambda quote: quote.truncate(len(quote.data) - 200)),
    ),
    _row("quote-trailing-data", "data follows the quote", _spec(padding=b"extra")),
    _row("quote-signature-size-small", "the size leaves data out", _spec(signature_size=600)),
    _row("quote-signature-size-large", "the size reaches beyond", _spec(signature_size=1 << 31)),
    _row("header-version", "the version is 6", _header(version=6)),
    _row("header-tee-type", "the TEE type says SGX", _header(tee_type=0)),
    _row("header-key-type", "the attestation key type says P-384", _header(attestation_key_type=3)),
    _row("header-vendor", "the QE vendor is not Intel", _header(qe_vendor_id=bytes(16))),
    _row("v5-body-type", "the body type says TD 1.0", _spec("v5-td15", body_type=2)),
    _row("v5-body-type-unknown", "the body type is 9", _spec("v5-td15", body_type=9)),
    _row("v5-body-size", "the body size is one short", _spec("v5-td15", body_size=647)),
    _row("v5-body-type-flipped", "the signed type was changed", _flip("body_type", "v5-td15")),
    _row("header-flipped", "a bit of the header was flipped", _flip("header.user_data")),
    _row("body-flipped", "a bit of MRTD was flipped", _flip("body.mr_td")),
    _row("report-data-flipped", "a bit of REPORTDATA was flipped", _flip("body.report_data")),
    _row("signature-flipped", "a bit of the signature was flipped", _flip("signature")),
    _row("signature-zero", "the signature is all zero", _set("signature", bytes(64))),
    _row("signature-s-range", "s is outside its range", _bytes(_s_out_of_range)),
    _row(
        "signature-stranger",
        "another key signed the quote",
        changed(lambda case: case.with_quote(quote_signer=_stranger(case))),
    ),
    _row("attestation-key-swapped", "another key made and signed it", changed(_resigned_body)),
    _row(
        "attestation-key-zero",
        "the attestation key is no point",
        _spec(attestation_public_key=bytes(64)),
    ),
    _row("qe-report-flipped", "a bit of the QE report was flipped", _flip("qe_report.cpu_svn")),
    _row("qe-report-unbound", "the QE report binds no key", _spec(qe_report_data=bytes(64))),
    _row(
        "qe-report-signature-stranger",
        "another key signed the QE report",
        changed(lambda case: case.with_quote(qe_signer=_stranger(case))),
    ),
    _row(
        "qe-report-signature-zero", "that signature is zero", _set("qe_report_signature", bytes(64))
    ),
    _row("auth-data-flipped", "a bit of the authentication data was flipped", _flip("auth_data")),
    _row(
        "qe-debug",
        "the quoting enclave is a debug enclave",
        changed(lambda case: case.with_qe_report(attributes=b"\x17" + bytes(15))),
    ),
    _row(
        "qe-signer",
        "the QE has another signer",
        changed(lambda case: case.with_qe_report(mr_signer=b"\x01" * 32)),
    ),
    _row(
        "qe-prodid",
        "the QE has another product id",
        changed(lambda case: case.with_qe_report(isv_prod_id=9)),
    ),
    _row("qe-svn-zero", "no QE level is met", changed(lambda case: case.with_qe_report(isv_svn=0))),
    _row("chain-of-other-machine", "the chain is a neighbour's", _chain_of_other_machine),
    _row(
        "qe-report-of-other-machine", "the QE report is a neighbour's", _qe_report_of_other_machine
    ),
    _row("outer-type", "the outer certification type is 5", _spec(outer_type=5)),
    _row("inner-type-unknown", "the inner certification type is 7", _spec(inner_type=7)),
    _row("inner-type-ppid", "only a plain PPID is given", _certification_type(1)),
    _row("chain-empty", "the certificate chain is empty", _spec(certification_data=b"")),
    _row("chain-garbage", "the chain is not PEM", _spec(certification_data=b"\xff" * 64)),
    _row("td-debug", "the TD is debuggable", _body(td_attributes=0x10000001)),
    _row("td-under-test", "an untrusted-debug bit is set", _body(td_attributes=0x10000010)),
    _row("td-sept-ve", "SEPT_VE_DISABLE is not set", _body(td_attributes=0)),
    _row("td-reserved-attribute", "a reserved attribute is set", _body(td_attributes=0x10000100)),
    _row("seam-debug", "the TDX module is a debug module", _body(seam_attributes=1)),
    _row("seam-signer", "the TDX module has a foreign signer", _body(mr_signer_seam=b"\x01" * 48)),
    _row("service-td", "a service TD is bound", _body("v5-td15", mr_service_td=b"\x01" * 48)),
    _row("no-tcb-level", "the platform is below every level", _no_tcb_level),
    _row("module-unknown", "the TDX module has an unknown major version", _unknown_module),
)
