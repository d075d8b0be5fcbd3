"""``ccverify inspect``: what a file says, before anybody believes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ccverify.bundle.package import MAX_BUNDLE_BYTES, is_bundle, parse_bundle
from ccverify.bundle.verify_bundle import verify_bundle
from ccverify.cli.inputs import Inputs, Source, in_file
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.collateral import parse_collateral_file
from ccverify.errors import CollateralError, EvidenceError
from ccverify.evidence import Evidence
from ccverify.evidence_text import decode_evidence_text
from ccverify.interop.chutes import parse_instance_keys
from ccverify.interop.detect import KNOWN_FORMATS, formats_of, parse_foreign_evidence
from ccverify.nvidia.certs import parse_device_chain
from ccverify.nvidia.ocsp import parse_ocsp_response
from ccverify.nvidia.rim import parse_rim
from ccverify.nvidia.rim_service import is_rim_response, read_rim_response
from ccverify.nvidia.spdm import parse_attestation_report
from ccverify.results.render.describe import (
    describe_collateral,
    describe_event_log,
    describe_quote,
)
from ccverify.results.render.describe_bundle import describe_bundle
from ccverify.results.render.describe_certificates import (
    describe_chain,
    describe_crl,
    describe_ocsp,
)
from ccverify.results.render.describe_devices import describe_report
from ccverify.results.render.describe_foreign import describe_foreign, describe_instance_keys
from ccverify.results.render.describe_rim import describe_rim
from ccverify.results.render.inspection import Inspection, inspection_json, render_inspection
from ccverify.strict_json import parse_json
from ccverify.tdx.eventlog import parse_event_log
from ccverify.tdx.pcs import decode_crl
from ccverify.tdx.quote import parse_quote
from ccverify.trust.der import read_tlv
from ccverify.trust.x509 import parse_certificate, parse_crl

__all__ = ["inspect"]

_ACCEPTED = (
    "a bundle of a node, or a statement of a fabric's manager; a TDX quote; an NVIDIA attestation "
    "report of a GPU or NVSwitch; a certificate chain; a reference manifest (RIM, XML); an OCSP "
    "response; a CRL; a CCEL or dstack event log; a collateral pack or "
    "QuoteCollateralV3 JSON; or the answer of a service or tool: " + ", ".join(KNOWN_FORMATS)
)
_ANY_FILE = Source("input", MAX_BUNDLE_BYTES, EvidenceError, _ACCEPTED)


@click.command()
@click.argument("file", metavar="FILE")
@format_option
@no_color_option
def inspect(file: str, output_format: str, no_color: bool) -> int:
    """Show what FILE (- is standard input) says, without verifying anything.

    FILE is a bundle of a node, or a statement of a fabric's manager; a TDX quote or an NVIDIA
    attestation report of a GPU or NVSwitch; a certificate chain, a reference manifest (RIM), an
    OCSP response or a CRL; a collateral pack or QuoteCollateralV3 JSON; a CCEL or dstack event
    log; or the answer of a service or tool: nvattest, NRAS (request or result), dstack, NEAR AI,
    redpill or Phala Cloud, Chutes, Tinfoil, Trustee. What it is, is seen from its content. Binary
    forms may be raw, hex or base64.
    """
    data = Inputs().read(file, _ANY_FILE)
    with in_file(file):
        inspection = _inspect(data)
    as_json = output_format == "json"
    if as_json:
        text = inspection_json(inspection)
    else:
        width, color = screen(no_color=no_color)
        text = render_inspection(inspection, width=width, color=color)
    write_stdout(text, as_json=as_json)
    return 0


def _inspect(data: bytes) -> Inspection:
    if is_bundle(data):
        return _bundle(data)
    start = data[:64].removeprefix(_BYTE_ORDER_MARK).lstrip()[:1]
    if start in (b"{", b"["):
        return _json(data)
    if found := _reader(data):
        return found(data)
    if start == b"<":
        raise _unknown("XML, not a reference manifest (SWID tag)")
    decoded = decode_evidence_text(data, what="input", limit=_ANY_FILE.limit)
    if found := _reader(decoded):
        return found(decoded)
    raise _unknown(f"{len(data)} bytes, beginning {data[:16].hex()}")


# --- what the bytes begin with -------------------------------------------------------------------

_Reader = Callable[[bytes], Inspection]


def _reader(data: bytes) -> _Reader | None:
    """Find who reads these bytes by what they begin with; None if nobody does."""
    if data.startswith(b"\x30") and data[1:2] >= b"\x80":
        return _der
    text = data[:64].removeprefix(_BYTE_ORDER_MARK).lstrip()
    if text.startswith(b"<"):
        return _rim if b"SoftwareIdentity" in data[:_ROOT_WITHIN] else None
    if _is_quote(data):
        return _quote
    return next((reader for start, reader in _STARTS if text.startswith(start)), None) or next(
        (reader for start, reader in _BINARY_STARTS if data.startswith(start)), None
    )


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ROOT_WITHIN = 64 * 1024
"""An XML declaration and comments may come before the root element, but not at any length."""


def _bundle(data: bytes) -> Inspection:
    bundle = parse_bundle(data)
    return describe_bundle(bundle, verify_bundle(bundle, None).evidence or Evidence())


def _rim(data: bytes) -> Inspection:
    return describe_rim(parse_rim(data))


def _chain(data: bytes) -> Inspection:
    return describe_chain(parse_device_chain(data.strip()))


def _crl(data: bytes) -> Inspection:
    return describe_crl(parse_crl(decode_crl(data.strip()), CollateralError))


def _report(data: bytes) -> Inspection:
    return describe_report(parse_attestation_report(data))


def _log(data: bytes) -> Inspection:
    return describe_event_log(parse_event_log(data))


def _quote(data: bytes) -> Inspection:
    return describe_quote(parse_quote(data))


def _foreign(data: bytes) -> Inspection:
    return describe_foreign(parse_foreign_evidence(data))


_STARTS: tuple[tuple[bytes, _Reader], ...] = (
    (b"-----BEGIN CERTIFICATE-----", _chain),
    (b"-----BEGIN X509 CRL-----", _crl),
)
_BINARY_STARTS: tuple[tuple[bytes, _Reader], ...] = (
    (b"\x11\xe0", _report),  # SPDM 1.1, GET_MEASUREMENTS
    # A CCEL log begins with the register number, 0 or 1, as a u32.
    (bytes(4), _log),
    (b"\x01\0\0\0", _log),
    # dstack's attestation: version 0, a variant (0 is TDX), then a length.
    *((bytes((0, variant)), _foreign) for variant in range(5)),
)
_QUOTE_VERSIONS = (b"\x03\0", b"\x04\0", b"\x05\0")
"""Of the first, `parse_quote` says that it is SGX's."""


def _is_quote(data: bytes) -> bool:
    # The type of the attestation key comes next.  It is never 0, as it would be if this were a
    # report of AMD SEV-SNP, which begins with its version as a u32.
    return data[:2] in _QUOTE_VERSIONS and data[2:4] != b"\0\0"


def _der(data: bytes) -> Inspection:
    """Tell OCSP responses, CRLs and certificates apart by their first two elements."""
    error = EvidenceError
    _, content, _ = read_tlv(data, 0, error)
    tag, inner, _ = read_tlv(content, 0, error)
    if tag == _ENUMERATED:
        return describe_ocsp(parse_ocsp_response(data))
    if tag == _SEQUENCE and inner[:1] == _EXPLICIT_VERSION:
        return describe_chain((parse_certificate(data),))
    if tag == _SEQUENCE:
        return _crl(data)
    raise _unknown(f"DER that begins with tag 0x{tag:02x}")


_ENUMERATED = 0x0A  # responseStatus of an OCSP response
_SEQUENCE = 0x30  # what is signed of a certificate or a CRL
_EXPLICIT_VERSION = b"\xa0"  # of a certificate; a CRL's version is a bare INTEGER


# --- JSON ----------------------------------------------------------------------------------------


def _json(data: bytes) -> Inspection:
    document = parse_json(data, what="input", error=EvidenceError, limit=_ANY_FILE.limit)
    if is_rim_response(document):
        return _rim(read_rim_response(document)[1])
    if isinstance(document, dict) and ("schema" in document or "tcb_info" in document):
        file = parse_collateral_file(data)
        return describe_collateral(file.intel, file.nvidia)
    if isinstance(document, dict) and "instances" in document:
        return describe_instance_keys(parse_instance_keys(data))
    if _is_log(document):
        return _log(data)
    if not formats_of(document):
        names = ", ".join(list(document)[:8]) if isinstance(document, dict) else "a list"
        raise _unknown(f"JSON: {names or 'an empty object'}")
    return _foreign(data)


def _is_log(document: Any) -> bool:
    """Whether this is dstack's list of events, each of which names its register."""
    return (
        isinstance(document, list)
        and bool(document)
        and isinstance(document[0], dict)
        and "imr" in document[0]
    )


def _unknown(found: str) -> EvidenceError:
    return EvidenceError(
        "this is nothing that can be inspected",
        expected=_ACCEPTED,
        found=found[:400],
        hint="give the file as the device or the service returned it, not a part of it",
    )
