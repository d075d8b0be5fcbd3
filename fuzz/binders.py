"""What binds a session key: TPM quotes, operators' signatures, and certificates of any PKI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256, sha384

from ccverify.bundle.endorsement import parse_operator_signature, verify_operator_signature
from ccverify.bundle.tpm_item import encode_tpm_item, parse_tpm_item
from ccverify.errors import EvidenceError
from ccverify.sim import DEFAULT_TIME
from ccverify.sim.operator import SimOperator
from ccverify.sim.tpm import SimTpm
from ccverify.tpm.attest import parse_attest
from ccverify.tpm.public import parse_public
from ccverify.tpm.quote import TpmQuote, parse_signature
from ccverify.tpm.verify import AK_PURPOSES, verify_tpm_quote
from ccverify.trust.pkix import (
    ANY_PURPOSE,
    PkixCertificate,
    parse_pkix_certificate,
    parse_pkix_pem,
    verify_pkix_path,
)
from fuzz.invariants import declared, holds

__all__ = [
    "operator_seeds",
    "operator_signature",
    "pkix",
    "pkix_seeds",
    "tpm_quote",
    "tpm_seeds",
]

_TPM, _OPERATOR = SimTpm(), SimOperator()
_DATA = sha256(b"fuzz").digest()
_PAYLOAD = sha384(b"fuzz").digest()


# --- targets ------------------------------------------------------------------------------------


def tpm_quote(data: bytes) -> bool:
    parsers: tuple[Callable[[bytes], object], ...] = (parse_attest, parse_public, parse_signature)
    for parse in parsers:
        _structure(parse, data)
    quote = declared(EvidenceError, lambda: parse_tpm_item(data))
    if quote is None:
        return False
    again = encode_tpm_item(
        quote.attest.encoded, quote.signature.encoded, quote.public.encoded, quote.chain, quote.pcrs
    )
    holds(again == data, "a TPM quote has another encoding too")
    _believe(quote)
    return True


def _structure(parse: Callable[[bytes], object], data: bytes) -> None:
    found = declared(EvidenceError, lambda: parse(data))
    if found is not None:
        holds(found.encoded == data, "a structure is not its bytes")  # type: ignore[attr-defined]


def _believe(quote: TpmQuote) -> None:
    result = verify_tpm_quote(quote, _DATA, roots=_roots(), now=DEFAULT_TIME)
    for text in (*result.problems, result.certificate.subject if result.certificate else ""):
        text.encode("utf-8")
    holds(bool(result.problems) == (not result.pcrs), "PCRs are told of a quote with a problem")
    if not result.problems and quote.public.public_key == _key():
        holds(quote.attest.encoded in _attests(), "a quote that no TPM made is believed")
        stated = {bank: dict(values) for bank, values in result.pcrs.items()}
        holds(stated == _attests()[quote.attest.encoded], "other PCRs than were quoted")
    certificate = result.certificate
    if certificate is not None and certificate.problem is None:
        holds(quote.certificates[0].der in _issued(), "a certificate that nobody issued")


def operator_signature(data: bytes) -> bool:
    item = declared(EvidenceError, lambda: parse_operator_signature(data))
    if item is None:
        return False
    result = verify_operator_signature(item, _PAYLOAD, _roots(), DEFAULT_TIME)
    "".join(result.problems).encode("utf-8")
    holds((result.root is None) == (result.chain_problem is not None), "a root without a chain")
    if not result.problems:
        holds(item.certificates[0].der in _issued(), "a certificate that nobody issued")
        holds(item.signed.payload == _PAYLOAD, "another payload is believed")
    return True


def pkix(data: bytes) -> bool:
    certificate = declared(EvidenceError, lambda: parse_pkix_certificate(data))
    chain = declared(EvidenceError, lambda: parse_pkix_pem(data))
    for path in ((certificate,) if certificate else (), chain or ()):
        if path:
            _judge(path)
    return certificate is not None or chain is not None


def _judge(path: Sequence[PkixCertificate]) -> None:
    result = verify_pkix_path(path, _roots(), DEFAULT_TIME, purposes=(*AK_PURPOSES, ANY_PURPOSE))
    holds((result.root is None) == (result.problem is not None), "neither root nor problem")
    path[0].subject_text.encode("utf-8")
    if result.root is not None:
        holds(path[0].der in _issued(), "a certificate that nobody issued")


# --- what is honest -----------------------------------------------------------------------------


@cache
def _quotes() -> Sequence[bytes]:
    return (
        _TPM.quote(_DATA).item(_TPM.chain()),
        _TPM.quote(_DATA, {"sha256": (0, 23), "sha384": (7,), "sha1": (1,)}).item(),
        _TPM.quote(_DATA, {"sha1": (0,)}).item(_OPERATOR.certificate().pem()),
        SimTpm("another", curve="P-384", scheme="sha384").quote(_DATA).item(),
        SimTpm(scheme=None).quote(bytes(32)).item(),
    )


@cache
def _attests() -> dict[bytes, dict[str, dict[int, bytes]]]:
    """What our key signed for our request, and the PCRs that count of it."""
    return {
        quote.attest.encoded: {
            bank: dict(values) for bank, values in quote.pcrs.items() if bank != "sha1"
        }
        for quote in map(parse_tpm_item, _quotes())
    }


@cache
def _key() -> object:
    return _TPM.key.private_key.public_key()


@cache
def _issued() -> frozenset[bytes]:
    specs = (_TPM.certificate(), _TPM.root(), *_OPERATOR.chain(), _OPERATOR.root())
    return frozenset(spec.der() for spec in specs)


@cache
def _roots() -> Sequence[PkixCertificate]:
    return [parse_pkix_certificate(spec.der()) for spec in (_TPM.root(), _OPERATOR.root())]


# --- seeds --------------------------------------------------------------------------------------


def tpm_seeds() -> Sequence[bytes]:
    quote = _TPM.quote(_DATA)
    return [*_quotes(), quote.attest, quote.signature, quote.public]


def operator_seeds() -> Sequence[bytes]:
    alone = (_OPERATOR.certificate(),)
    return [
        _OPERATOR.sign(_PAYLOAD),
        _OPERATOR.sign(_PAYLOAD, alone),
        SimOperator("another", curve="P-256").sign(_PAYLOAD),
        _OPERATOR.sign(bytes(48)),
    ]


def pkix_seeds() -> Sequence[bytes]:
    chains = [_TPM.chain(), "".join(one.pem() for one in _OPERATOR.chain())]
    return [*sorted(_issued()), *(chain.encode() for chain in chains)]
