"""What Intel's provisioning certification service serves, turned into collateral artefacts.

Sources: Intel SGX and TDX Provisioning Certification Service API v4 ("Get TDX TCB Info", "Get
Quote Enclave Identity", "Get Revocation List"), and the caching service PCCS, which serves
the same bodies but CRLs as hex text.  Nothing here touches the network (`ccverify.tdx.collect`
does), and nothing is verified beyond what tells which issuer chain belongs to which artefact.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ccverify.errors import CollateralError
from ccverify.strict_json import MAX_JSON_BYTES, parse_json_prefix
from ccverify.tdx.collateral import PckCrl, RootCaCrl, SignedQeIdentity, SignedTcbInfo
from ccverify.trust.x509 import MAX_CRL_BYTES, Certificate, parse_pem_chain

__all__ = [
    "ISSUER_CHAIN_HEADERS",
    "PCK_CRL_CHAIN_HEADERS",
    "PLATFORM_CA",
    "PROCESSOR_CA",
    "QE_IDENTITY_CHAIN_HEADERS",
    "ROOT_CA",
    "TCB_INFO_CHAIN_HEADERS",
    "SignedObject",
    "decode_crl",
    "find_issuer_chain",
    "names_ca",
    "parse_issuer_chain",
    "parse_pck_crl_response",
    "parse_qe_identity_response",
    "parse_root_ca_crl_response",
    "parse_signed_object",
    "parse_tcb_info_response",
]

TCB_INFO_CHAIN_HEADERS = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
"""API v4 and its predecessors; some caching services still send the older name."""
QE_IDENTITY_CHAIN_HEADERS = ("SGX-Enclave-Identity-Issuer-Chain",)
PCK_CRL_CHAIN_HEADERS = ("SGX-PCK-CRL-Issuer-Chain",)
ISSUER_CHAIN_HEADERS = (
    *TCB_INFO_CHAIN_HEADERS,
    *QE_IDENTITY_CHAIN_HEADERS,
    *PCK_CRL_CHAIN_HEADERS,
)

PLATFORM_CA = "Intel SGX PCK Platform CA"
PROCESSOR_CA = "Intel SGX PCK Processor CA"
ROOT_CA = "Intel SGX Root CA"

_COMMON_NAME_OID = bytes.fromhex("0603550403")
_STRING_TAGS = (b"\x0c", b"\x13")  # UTF8String, PrintableString
_MAX_CHAIN_TEXT = 256 * 1024
_MAX_CRL_TEXT = 2 * MAX_CRL_BYTES + 4096
_WHITE = " \t\r\n"
_SIGNATURE = re.compile(r"[0-9A-Fa-f]{128}", re.ASCII)
_HEX = re.compile(rb"[0-9A-Fa-f\s]+")
_PEM_CRL = re.compile(
    rb"\s*-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----[\s\0]*"
)

Headers = Iterable[tuple[str, str]]
Chain = tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class SignedObject:
    """The two members of a signed response.

    Attributes:
        name: ``tcbInfo`` or ``enclaveIdentity``.
        text: the inner object, the very bytes that were served: the signature covers them.
        signature: r ‖ s, big endian halves, 64 bytes.
    """

    name: str
    text: bytes
    signature: bytes


def parse_signed_object(body: bytes) -> SignedObject:
    """Cut a signed response into its inner object and its signature.

    The inner object is a slice of `body` and is never serialised again.  The outer object
    has exactly the members ``tcbInfo`` or ``enclaveIdentity``, and ``signature``, in any order.

    Raises:
        CollateralError: too large, not strict JSON, other members, a member twice, or a
            signature that is not 128 hex digits.
    """
    what = "PCS response"
    if len(body) > MAX_JSON_BYTES:
        raise CollateralError(
            f"{what} is too large", expected=f"at most {MAX_JSON_BYTES} bytes", found=f"{len(body)}"
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise CollateralError(f"{what} is not UTF-8", where=f"byte {problem.start}") from None
    members = _outer_members(text, what)
    names = set(members) - {"signature"}
    if len(members) != 2 or len(names) != 1 or not names <= {"tcbInfo", "enclaveIdentity"}:
        raise CollateralError(
            f"{what} has other members than it should",
            expected="tcbInfo or enclaveIdentity, and signature",
            found=", ".join(repr(name)[:40] for name in list(members)[:8]) or "no members",
            where=what,
        )
    signature, _ = members["signature"]
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise CollateralError(
            "signature is not r ‖ s in hex",
            expected="128 hex digits",
            found=repr(signature)[:80],
            where=f"{what}.signature",
        )
    name = names.pop()
    return SignedObject(name, members[name][1].encode("utf-8"), bytes.fromhex(signature))


def _outer_members(text: str, what: str) -> dict[str, tuple[object, str]]:
    """Return each member's value and its exact text; at most two, then the text must end."""
    members: dict[str, tuple[object, str]] = {}
    at = _expect(text, 0, "{", what)
    while True:
        at = _skip(text, at)
        if text[at : at + 1] != '"':
            raise _unexpected(text, at, "a member name", what)
        key, at = parse_json_prefix(text, at, what=what, error=CollateralError)
        if key in members:
            raise CollateralError(f"member {key!r:.60} appears twice", where=f"{what}, {at}")
        start = _skip(text, _expect(text, at, ":", what))
        value, at = parse_json_prefix(text, start, what=what, error=CollateralError)
        members[key] = (value, text[start:at])
        at = _skip(text, at)
        if text[at : at + 1] != "," or len(members) == 2:
            break
        at += 1
    end = _skip(text, _expect(text, at, "}", what))
    if end != len(text):
        raise _unexpected(text, end, "end of text", what)
    return members


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _WHITE:
        at += 1
    return at


def _expect(text: str, at: int, character: str, what: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != character:
        raise _unexpected(text, at, f"'{character}'", what)
    return at + 1


def _unexpected(text: str, at: int, expected: str, what: str) -> CollateralError:
    return CollateralError(
        f"{what} is not an object of two members",
        expected=expected,
        found=repr(text[at : at + 20]) if at < len(text) else "end of text",
        where=f"{what}, character {at}",
    )


def parse_issuer_chain(value: str | bytes) -> Chain:
    """Parse an issuer chain: PEM, or PEM in percent-encoding as response headers carry it.

    A plus sign is base64 and never a space (RFC 3986, not form encoding).

    Raises:
        CollateralError: not a chain of PEM certificates, signer first.
    """
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
    if len(data) > _MAX_CHAIN_TEXT:
        raise CollateralError(
            "issuer chain is too large",
            expected=f"at most {_MAX_CHAIN_TEXT} bytes",
            found=f"{len(data)}",
        )
    # No byte of a PEM text is a percent sign, so its presence decides.
    return parse_pem_chain(unquote_to_bytes(data) if b"%" in data else data, CollateralError)


def find_issuer_chain(headers: Headers, names: tuple[str, ...]) -> Chain:
    """Return the issuer chain a response carries under one of the given header names.

    Header names are compared without regard to case (RFC 9110 §5.1).

    Raises:
        CollateralError: no such header, several that differ, or not a PEM chain.
    """
    wanted = {name.lower() for name in names}
    chains = {parse_issuer_chain(value) for name, value in headers if name.lower() in wanted}
    if len(chains) != 1:
        raise CollateralError(
            "response has no issuer chain" if not chains else "response has several issuer chains",
            expected=f"one header {' or '.join(names)}",
            found=f"{len(chains)} of them",
            where="response headers",
            hint="a proxy or cache in between may drop long headers; ask Intel's service directly",
        )
    return chains.pop()


def _signed(body: bytes, name: str) -> SignedObject:
    signed = parse_signed_object(body)
    if signed.name != name:
        raise CollateralError(
            "response is not what was asked for",
            expected=f"an object with {name}",
            found=f"an object with {signed.name}",
        )
    return signed


def parse_tcb_info_response(body: bytes, headers: Headers) -> SignedTcbInfo:
    """Parse the answer of ``/tdx/certification/v4/tcb``.

    Raises:
        CollateralError: body or issuer chain header is missing or malformed.
    """
    signed = _signed(body, "tcbInfo")
    chain = find_issuer_chain(headers, TCB_INFO_CHAIN_HEADERS)
    return SignedTcbInfo.parse(signed.text, signed.signature, chain)


def parse_qe_identity_response(body: bytes, headers: Headers) -> SignedQeIdentity:
    """Parse the answer of ``/tdx/certification/v4/qe/identity``.

    Raises:
        CollateralError: body or issuer chain header is missing or malformed.
    """
    signed = _signed(body, "enclaveIdentity")
    chain = find_issuer_chain(headers, QE_IDENTITY_CHAIN_HEADERS)
    return SignedQeIdentity.parse(signed.text, signed.signature, chain)


def parse_pck_crl_response(body: bytes, headers: Headers) -> PckCrl:
    """Parse the answer of ``/sgx/certification/v4/pckcrl``: DER, PEM or hex.

    Raises:
        CollateralError: body or issuer chain header is missing or malformed.
    """
    return PckCrl.parse(decode_crl(body), find_issuer_chain(headers, PCK_CRL_CHAIN_HEADERS))


def parse_root_ca_crl_response(body: bytes) -> RootCaCrl:
    """Parse the root CA's CRL, from Intel's file (DER) or from PCCS (hex).

    Raises:
        CollateralError: not a CRL.
    """
    return RootCaCrl.parse(decode_crl(body), ())


def decode_crl(data: bytes) -> bytes:
    """Return the DER of a CRL given as DER, PEM (RFC 7468) or hex text.

    The DER itself is not parsed here.

    Raises:
        CollateralError: too large, or none of the three.
    """
    if len(data) > _MAX_CRL_TEXT:
        raise CollateralError(
            "CRL is too large", expected=f"at most {_MAX_CRL_TEXT} bytes", found=f"{len(data)}"
        )
    data = bytes(data)
    # DER first: a SEQUENCE (0x30) of more than 127 bytes, which no text begins with.
    if data[:1] == b"\x30" and data[1:2] >= b"\x80":
        return data
    if match := _PEM_CRL.fullmatch(data):
        try:
            return base64.b64decode(b"".join(match[1].split()), validate=True)
        except binascii.Error as problem:
            raise CollateralError(f"CRL in PEM: {problem}") from None
    if _HEX.fullmatch(data):
        try:
            return binascii.unhexlify(b"".join(data.split()))
        except binascii.Error:
            pass
    raise CollateralError(
        "this is not a CRL",
        expected="DER, PEM (BEGIN X509 CRL) or hex",
        found=repr(data[:24]) if data else "nothing",
    )


def names_ca(name: bytes, common_name: str) -> bool:
    """Whether a DER name has exactly one common name, and it is `common_name`.

    This sorts artefacts; whose signature they carry is found out elsewhere.
    """
    text = common_name.encode("ascii")
    return name.count(_COMMON_NAME_OID) == 1 and any(
        _COMMON_NAME_OID + tag + bytes((len(text),)) + text in name for tag in _STRING_TAGS
    )
