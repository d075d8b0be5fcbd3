"""Bad cases: quotes that are no quotes, and quotes that nobody signed or bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ccverify.sim.cases.codes import ALL_BUT_FORMAT, codes
from ccverify.sim.cases.model import (
    NONCE,
    Expected,
    FixtureCase,
    Make,
    case,
    defect,
    honest,
    incomplete,
    no_collateral,
    policy,
    refused,
    untrusted,
)
from ccverify.sim.platform import SimCase, SimEvidence
from ccverify.sim.quote import BuiltQuote

__all__ = ["BINDING_CASES", "FORMAT_CASES", "SIGNATURE_CASES"]

_P256_ORDER = (0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551).to_bytes(
    32, "big"
)
_MALFORMED = untrusted(2, "QUOTE-FORMAT", ALL_BUT_FORMAT)


def _damaged(change: Callable[[BuiltQuote], BuiltQuote]) -> Make:
    def make() -> SimEvidence:
        own = honest().build()
        return replace(own, quote=change(own.quote))

    return make


def _cut(size: int) -> Make:
    """Keep the first `size` bytes, or all but the last `-size`."""
    return _damaged(lambda quote: quote.truncate(size if size > 0 else len(quote.data) + size))


def _bytes(data: bytes) -> Make:
    return _damaged(lambda _quote: BuiltQuote(data, ()))


def _without_signature_data(quote: BuiltQuote) -> BuiltQuote:
    """End the quote after a signature data length of zero."""
    start, _ = quote.span("signature_size")
    return BuiltQuote(quote.data[:start] + bytes(4), ())


def _td_report() -> bytes:
    """Return a raw TDREPORT: REPORTMACSTRUCT of type 0x81, TCB info, TDINFO (1024 bytes)."""
    body = honest().build().quote
    mac = bytes((0x81, 0, 0, 0)) + bytes(124) + body.part("body.report_data") + bytes(64)
    tcb = bytes(8) + body.part("body.tee_tcb_svn") + body.part("body.mr_seam")
    info = body.part("body.td_attributes") + body.part("body.xfam") + body.part("body.mr_td")
    return mac.ljust(256, b"\0") + tcb.ljust(256, b"\0") + info.ljust(512, b"\0")


def _malformed(name: str, description: str, make: Make, covers: str = "A1 12") -> FixtureCase:
    return case(name, description, make, _MALFORMED, covers=covers, collateral=no_collateral)


FORMAT_CASES: tuple[FixtureCase, ...] = (
    case(
        "quote-empty",
        "An empty file is nothing to check, and never a pass.",
        defect("quote-empty"),
        incomplete(10, ("NODE-CLASSES", *codes("QUOTE-FORMAT"), *ALL_BUT_FORMAT)),
        covers="A1",
        collateral=no_collateral,
    ),
    _malformed("quote-cut-in-header", "The quote ends inside its header.", _cut(20)),
    _malformed("quote-cut-in-body", "The quote ends inside the TD report.", _cut(300)),
    _malformed("quote-cut-before-signature", "The quote is a TD report only.", _cut(632)),
    _malformed("quote-cut-last-byte", "The last byte of the quote is missing.", _cut(-1)),
    _malformed(
        "quote-no-signature-data",
        "The signature data are there, with a length of zero.",
        _damaged(_without_signature_data),
    ),
    _malformed(
        "quote-trailing-data", "Bytes that nobody signed follow.", defect("quote-trailing-data")
    ),
    _malformed(
        "quote-signature-size-large",
        "The signature data length reaches beyond the file.",
        defect("quote-signature-size-large"),
    ),
    _malformed(
        "quote-sgx-v3", "A version 3 quote is of an SGX enclave.", lambda: honest(version=3)
    ),
    _malformed(
        "quote-body-type",
        "The version 5 body type is not that of its size.",
        defect("v5-body-type"),
    ),
    _malformed(
        "quote-is-tdreport",
        "A raw TDREPORT is only MACed: nobody outside the platform can verify it.",
        _bytes(_td_report()),
    ),
)


# --- signatures ---


def _signature(r: bytes | None, s: bytes | None) -> Make:
    """Replace r or s of the quote's signature."""

    def change(quote: BuiltQuote) -> BuiltQuote:
        own = quote.part("signature")
        return quote.overwrite("signature", (r or own[:32]) + (s or own[32:]))

    return _damaged(change)


def _binding_tail() -> SimCase:
    """Bind the key correctly and put something into the half that must be zero."""
    bound = honest().build().quote.part("qe_report.report_data")
    return honest().with_quote(qe_report_data=bound[:32] + b"\x01" * 32)


def _rogue_quote_of(name: str, description: str, failed: str, covers: str) -> FixtureCase:
    """Return a row for a defect of the same name."""
    return case(name, description, defect(name), untrusted(3, failed), covers=covers)


SIGNATURE_CASES: tuple[FixtureCase, ...] = (
    _rogue_quote_of("header-vendor", "The QE is another vendor's.", "QE-VENDOR", "A14 11"),
    _rogue_quote_of(
        "body-flipped",
        "A bit of MRTD changed after signing.",
        "QUOTE-SIGNATURE MRTD",
        "A1 12",
    ),
    _rogue_quote_of(
        "signature-zero", "The signature is left out as zeros.", "QUOTE-SIGNATURE", "A1 A20 12"
    ),
    *(
        case(name, description, make, untrusted(3, "QUOTE-SIGNATURE"), covers="A20 12")
        for name, description, make in (
            ("signature-r-zero", "r is 0, which is out of range.", _signature(bytes(32), None)),
            ("signature-s-zero", "s is 0, which is out of range.", _signature(None, bytes(32))),
            (
                "signature-r-order",
                "r is n, the order of the curve, which is out of range.",
                _signature(_P256_ORDER, None),
            ),
        )
    ),
    _rogue_quote_of(
        "attestation-key-zero",
        "The attestation key is no point of the curve.",
        "QUOTE-SIGNATURE",
        "A20 12",
    ),
    _rogue_quote_of(
        "attestation-key-swapped",
        "The quoting enclave never vouched for the key that signed.",
        "QE-KEY-BINDING",
        "A14 10",
    ),
    case(
        "qe-report-binding-tail",
        "The second half of the QE's REPORTDATA is not zero.",
        _binding_tail,
        untrusted(3, "QE-KEY-BINDING"),
        covers="A14 10",
    ),
    _rogue_quote_of(
        "auth-data-flipped",
        "The authentication data are not those the QE bound.",
        "QE-KEY-BINDING",
        "A14 10",
    ),
    _rogue_quote_of(
        "qe-report-signature-stranger",
        "Another key than the PCK signed the QE report.",
        "QE-REPORT-SIGNATURE",
        "A14 9",
    ),
    _rogue_quote_of(
        "chain-of-other-machine",
        "The certificates are genuine, and another machine's.",
        "QE-REPORT-SIGNATURE",
        "A16 9",
    ),
)


# --- nonce ---


def _answer(report_data: bytes) -> Make:
    return lambda: honest(report_data=report_data)


def _nonce_case(
    name: str, description: str, make: Make, expected: Expected | None = None, **options: bytes
) -> FixtureCase:
    outcome = expected or untrusted(3, "REPORT-DATA")
    nonce = options.get("nonce", NONCE)
    return case(name, description, make, outcome, covers="A2 A4", nonce=nonce)


_OTHER = bytes(reversed(NONCE))

BINDING_CASES: tuple[FixtureCase, ...] = (
    _nonce_case(
        "nonce-of-another-request",
        "A genuine quote, made for an earlier request.",
        _answer(_OTHER.ljust(64, b"\0")),
    ),
    _nonce_case(
        "nonce-last-bit",
        "The last bit of the nonce differs.",
        _answer((NONCE[:-1] + bytes((NONCE[-1] ^ 1,))).ljust(64, b"\0")),
    ),
    _nonce_case(
        "nonce-cut-short",
        "The TD answers only the first 16 bytes of the nonce.",
        _answer(NONCE[:16].ljust(64, b"\0")),
    ),
    _nonce_case(
        "nonce-with-tail",
        "Something follows the nonce where zeros must be.",
        _answer(NONCE + b"\x01" * 32),
    ),
    _nonce_case(
        "nonce-of-8-bytes",
        "A nonce this short can be guessed: the request itself is refused.",
        _answer(NONCE[:8].ljust(64, b"\0")),
        refused("USAGE", 1),
        nonce=NONCE[:8],
    ),
    case(
        "nonce-not-given",
        "Without nonce or report data, and without a word from the policy, nothing is fresh.",
        honest,
        incomplete(6, "REPORT-DATA"),
        covers="A2 A4",
        report_data=None,
    ),
    case(
        "report-data-not-listed",
        "REPORTDATA is not on the policy's list.",
        honest,
        untrusted(3, "REPORT-DATA"),
        covers="A2",
        policy=policy(report_data=["00" * 64, "ff" * 64]),
        report_data=None,
    ),
)
