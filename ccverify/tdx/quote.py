"""Intel TDX quotes, versions 4 and 5: bytes → `Quote`.

All integers are little endian.  The layout is that of Intel's "TDX DCAP Quoting Library
API", appendix "Quote Format", and of the structures in Intel's QuoteVerification library.

Only the header and the TD report body are covered by the quote's signature.  Everything
after them (certification data, PEM chain, padding) can be changed by anyone, so a quote is
identified by `Quote.digest`, the hash of the signed range, never by a hash of the file.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from ccverify.errors import EvidenceError
from ccverify.evidence_text import decode_evidence_text

__all__ = [
    "BODY_FIELDS",
    "ENCLAVE_REPORT_FIELDS",
    "HEADER_FIELDS",
    "MAX_QUOTE_BYTES",
    "BodyType",
    "CertificationDataType",
    "EnclaveReport",
    "Field",
    "Quote",
    "QuoteHeader",
    "TdReport",
    "decode_quote_text",
    "parse_quote",
]

MAX_QUOTE_BYTES = 64 * 1024
"""Largest accepted quote, padding included, in bytes.  Real ones are 4 936 to 8 000 long."""

INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
ECDSA_P256 = 2
TEE_TYPE_SGX, TEE_TYPE_TDX = 0x00, 0x81

HEADER_BYTES = 48
ENCLAVE_REPORT_BYTES = 384
_SIGNATURE_BYTES = 64
_KEY_BYTES = 64


class BodyType(IntEnum):
    """Body types of a version 5 quote; version 4 TDX quotes are always `TD10`."""

    SGX = 1
    TD10 = 2
    TD15 = 3
    TD15EX = 4


class CertificationDataType(IntEnum):
    """What accompanies the QE report so that its signing key can be found."""

    PPID_PLAIN = 1
    PPID_RSA2048_OAEP = 2
    PPID_RSA3072_OAEP = 3
    PCK_LEAF = 4
    PCK_CERT_CHAIN = 5
    QE_REPORT = 6


class Field(NamedTuple):
    """One field of a fixed layout: offset and size in bytes, and what it means."""

    name: str
    offset: int
    size: int
    meaning: str


HEADER_FIELDS = (
    Field("version", 0, 2, "quote format version, 4 or 5"),
    Field("attestation_key_type", 2, 2, "2 = ECDSA-256-with-P-256, the only one Intel issues"),
    Field("tee_type", 4, 4, "0x81 = TDX, 0x00 = SGX"),
    Field("qe_svn", 8, 2, "zero in TDX quotes"),
    Field("pce_svn", 10, 2, "zero in TDX quotes"),
    Field("qe_vendor_id", 12, 16, "vendor of the quoting enclave"),
    Field("user_data", 28, 20, "first 16 bytes: QE platform id"),
)

_TD10_FIELDS = (
    Field("tee_tcb_svn", 0, 16, "SVNs of TDX module (minor, major) and SEAM loader at TD launch"),
    Field("mrseam", 16, 48, "SHA-384 of the TDX module"),
    Field("mrsignerseam", 64, 48, "signer of the TDX module, zero for Intel's"),
    Field("seamattributes", 112, 8, "attributes of the TDX module, zero in production"),
    Field("tdattributes", 120, 8, "attributes of the TD, see ccverify.tdx.attributes"),
    Field("xfam", 128, 8, "CPU extended features the TD may use"),
    Field("mrtd", 136, 48, "SHA-384 of the TD's initial memory"),
    Field("mrconfigid", 184, 48, "software-defined configuration id, set by the host at launch"),
    Field("mrowner", 232, 48, "software-defined owner id, set by the host at launch"),
    Field("mrownerconfig", 280, 48, "software-defined owner configuration, set by the host"),
    Field("rtmr0", 328, 48, "runtime register 0: firmware configuration"),
    Field("rtmr1", 376, 48, "runtime register 1: kernel and boot services"),
    Field("rtmr2", 424, 48, "runtime register 2: command line, initrd"),
    Field("rtmr3", 472, 48, "runtime register 3: application"),
    Field("report_data", 520, 64, "64 bytes chosen by the TD: binds nonce and keys"),
)
_TD15_FIELDS = (
    *_TD10_FIELDS,
    Field("tee_tcb_svn2", 584, 16, "SVNs of the TDX module that runs now"),
    Field("mrservicetd", 600, 48, "hash over the service TDs bound to this TD"),
)
_TD15EX_FIELDS = (
    *_TD15_FIELDS,
    Field("vmid", 648, 1, "VM within a partitioned TD"),
    Field("td_id", 649, 32, "identity of the TD across migration"),
    Field("dev_info", 681, 48, "hash over devices assigned to the TD"),
    Field("init_servtd_hash", 729, 48, "service TDs bound when the TD was first built"),
    Field("init_servtd_attr", 777, 8, "attributes of those service TDs"),
    Field("init_cpusvn", 785, 16, "CPUSVN of the platform the TD was first built on"),
    Field("init_tee_tcb_svn", 801, 16, "TEE_TCB_SVN of that platform"),
    Field("init_tee_fmspc", 817, 12, "FMSPC of that platform"),
    Field("cur_servtd_hash", 829, 48, "service TDs bound now"),
    Field("cur_servtd_attr", 877, 8, "attributes of those service TDs"),
)

BODY_FIELDS: Mapping[BodyType, tuple[Field, ...]] = {
    BodyType.TD10: _TD10_FIELDS,
    BodyType.TD15: _TD15_FIELDS,
    BodyType.TD15EX: _TD15EX_FIELDS,
}
BODY_BYTES: Mapping[BodyType, int] = {
    body_type: fields[-1].offset + fields[-1].size for body_type, fields in BODY_FIELDS.items()
}

ENCLAVE_REPORT_FIELDS = (
    Field("cpusvn", 0, 16, "security version of CPU and microcode"),
    Field("miscselect", 16, 4, "state components saved on exit"),
    Field("attributes", 48, 16, "enclave attributes"),
    Field("mrenclave", 64, 32, "SHA-256 of the enclave"),
    Field("mrsigner", 128, 32, "SHA-256 of the enclave signer's key"),
    Field("isvprodid", 256, 2, "product id"),
    Field("isvsvn", 258, 2, "security version of the enclave"),
    Field("report_data", 320, 64, "32 bytes SHA-256(attestation key ‖ auth data), 32 zero bytes"),
)


@dataclass(frozen=True, slots=True)
class QuoteHeader:
    """The 48-byte quote header (`HEADER_FIELDS`)."""

    version: int
    attestation_key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes


@dataclass(frozen=True)
class TdReport:
    """The signed body of a TDX quote.  Absent fields of older bodies are None.

    Field offsets, sizes and meanings are in `BODY_FIELDS`; all values are raw bytes.
    """

    body_type: BodyType
    raw: bytes
    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: bytes
    tdattributes: bytes
    xfam: bytes
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mrservicetd: bytes | None = None
    vmid: bytes | None = None
    td_id: bytes | None = None
    dev_info: bytes | None = None
    init_servtd_hash: bytes | None = None
    init_servtd_attr: bytes | None = None
    init_cpusvn: bytes | None = None
    init_tee_tcb_svn: bytes | None = None
    init_tee_fmspc: bytes | None = None
    cur_servtd_hash: bytes | None = None
    cur_servtd_attr: bytes | None = None

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The four runtime measurement registers, 48 bytes each."""
        return (self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3)


@dataclass(frozen=True, slots=True)
class EnclaveReport:
    """An SGX enclave report, 384 bytes: here the quoting enclave's own (`raw` is signed)."""

    raw: bytes
    cpusvn: bytes
    miscselect: int
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int
    report_data: bytes


@dataclass(frozen=True)
class Quote:
    """A parsed, not verified, TDX quote.

    Attributes:
        header: the quote header.
        report: the TD report body.
        signed_range: the exact bytes the attestation key signed.
        signature: r ‖ s, 64 bytes, big endian halves.
        attestation_key: x ‖ y on P-256, 64 bytes, big endian halves.
        qe_report: report of the quoting enclave.
        qe_report_signature: r ‖ s by the PCK key over the QE report.
        qe_auth_data: hashed together with the attestation key into the QE report.
        certification_data_type: how the PCK certificate is named (types 1 to 5).
        certification_data: the PEM chain for type 5.
        padding: number of zero bytes after the signature data.
    """

    header: QuoteHeader
    report: TdReport
    signed_range: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: EnclaveReport
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_data_type: CertificationDataType
    certification_data: bytes
    padding: int

    @cached_property
    def digest(self) -> str:
        """SHA-384 (hex) of the signed range: the identity of this quote."""
        return hashlib.sha384(self.signed_range).hexdigest()


def parse_quote(data: bytes) -> Quote:
    """Parse one TDX quote.

    Zero bytes after the signature data are tolerated (the kernel and some clouds hand out
    fixed-size buffers); any other trailing byte is refused.

    Args:
        data: the raw quote; see `decode_quote_text` for hex and base64.

    Raises:
        EvidenceError: not a TDX quote of version 4 or 5, or any length, type or tail that
            the format does not allow.
    """
    if len(data) > MAX_QUOTE_BYTES:
        raise EvidenceError(
            "quote is too large", expected=f"at most {MAX_QUOTE_BYTES} bytes", found=f"{len(data)}"
        )
    data = bytes(data)
    header = _parse_header(data)
    body_type, body_at = _body(data, header.version)
    body_end = body_at + BODY_BYTES[body_type]
    if len(data) < body_end + 4:
        raise _truncated("TD report body and signature length", body_end + 4, len(data), body_at)
    report = _parse_report(body_type, data[body_at:body_end])
    (signature_bytes,) = struct.unpack_from("<I", data, body_end)
    start = body_end + 4
    end = start + signature_bytes
    if end > len(data):
        raise _truncated("signature data", end, len(data), start)
    _require_zero_tail(data, end)
    return _parse_signature_data(data, start, end, header, report, data[:body_end])


def _parse_header(data: bytes) -> QuoteHeader:
    if len(data) < HEADER_BYTES:
        raise _truncated("quote header", HEADER_BYTES, len(data), 0)
    version, key_type, tee_type, qe_svn, pce_svn, vendor, user_data = struct.unpack_from(
        "<HHIHH16s20s", data
    )
    if version == 3 or (version in (4, 5) and tee_type == TEE_TYPE_SGX):
        raise EvidenceError(
            "this is an Intel SGX quote, not a TDX quote",
            expected="version 4 or 5 with TEE type 0x81 (TDX)",
            found=f"version {version}, TEE type 0x{tee_type:x}",
            where="quote[0:8]",
            hint="ccverify judges TDX virtual machines; SGX enclaves need another verifier",
        )
    if version not in (4, 5):
        raise EvidenceError(
            "unknown quote version",
            expected="4 or 5",
            found=str(version),
            where="quote[0:2]",
            hint="give the raw quote, or its hex or base64 text",
        )
    if tee_type != TEE_TYPE_TDX:
        raise EvidenceError(
            "unknown TEE type",
            expected="0x81 (TDX)",
            found=f"0x{tee_type:x}",
            where="quote[4:8]",
        )
    if key_type != ECDSA_P256:
        raise EvidenceError(
            "unsupported attestation key type",
            expected="2 (ECDSA-256-with-P-256)",
            found=str(key_type),
            where="quote[2:4]",
        )
    return QuoteHeader(version, key_type, tee_type, qe_svn, pce_svn, vendor, user_data)


def _body(data: bytes, version: int) -> tuple[BodyType, int]:
    """Return the body's type and offset, after checking a version 5 type and size."""
    if version == 4:
        return BodyType.TD10, HEADER_BYTES
    if len(data) < 54:
        raise _truncated("body descriptor", 54, len(data), 48)
    number, size = struct.unpack_from("<HI", data, 48)
    try:
        body_type = BodyType(number)
        expected = BODY_BYTES[body_type]
    except (ValueError, KeyError):
        raise EvidenceError(
            "body type is not a TDX body",
            expected="2 (TD 1.0), 3 (TD 1.5) or 4 (TD 1.5 extended)",
            found=str(number),
            where="quote[48:50]",
        ) from None
    if size != expected:
        raise EvidenceError(
            f"wrong body size for type {body_type.name}",
            expected=str(expected),
            found=str(size),
            where="quote[50:54]",
        )
    return body_type, 54


def _parse_report(body_type: BodyType, raw: bytes) -> TdReport:
    return TdReport(
        body_type, raw, *[raw[at : at + size] for _, at, size, _ in BODY_FIELDS[body_type]]
    )


def _require_zero_tail(data: bytes, end: int) -> None:
    if data.count(0, end) != len(data) - end:
        offset = next(at for at in range(end, len(data)) if data[at])
        raise EvidenceError(
            "bytes after the signature data",
            expected="end of quote, or zero padding",
            found=f"0x{data[offset]:02x}",
            where=f"quote[{offset}]",
            hint="cut the file at the end of the quote; nobody signs what follows",
        )


def _parse_signature_data(
    data: bytes, start: int, end: int, header: QuoteHeader, report: TdReport, signed_range: bytes
) -> Quote:
    outer = start + _SIGNATURE_BYTES + _KEY_BYTES
    qe = outer + 6
    auth = qe + ENCLAVE_REPORT_BYTES + _SIGNATURE_BYTES
    if auth + 2 > end:
        raise _truncated("QE report certification data", auth + 2, end, outer)
    outer_type, outer_size = struct.unpack_from("<HI", data, outer)
    if outer_type != CertificationDataType.QE_REPORT:
        raise EvidenceError(
            "wrong outer certification data type",
            expected="6 (QE report)",
            found=str(outer_type),
            where=f"quote[{outer}:{outer + 2}]",
        )
    _require_exact("QE report certification data", outer_size, end - qe, outer + 2)
    (auth_bytes,) = struct.unpack_from("<H", data, auth)
    inner = auth + 2 + auth_bytes
    if inner + 6 > end:
        raise _truncated("QE authentication data", inner + 6, end, auth)
    inner_type, inner_size = struct.unpack_from("<HI", data, inner)
    _require_exact("PCK certification data", inner_size, end - inner - 6, inner + 2)
    if not CertificationDataType.PPID_PLAIN <= inner_type <= CertificationDataType.PCK_CERT_CHAIN:
        raise EvidenceError(
            "unknown PCK certification data type",
            expected="1 to 5",
            found=str(inner_type),
            where=f"quote[{inner}:{inner + 2}]",
        )
    signature_end = start + _SIGNATURE_BYTES
    report_end = qe + ENCLAVE_REPORT_BYTES
    return Quote(
        header=header,
        report=report,
        signed_range=signed_range,
        signature=data[start:signature_end],
        attestation_key=data[signature_end:outer],
        qe_report=_parse_enclave_report(data[qe:report_end]),
        qe_report_signature=data[report_end:auth],
        qe_auth_data=data[auth + 2 : inner],
        certification_data_type=CertificationDataType(inner_type),
        certification_data=data[inner + 6 : end],
        padding=len(data) - end,
    )


def _parse_enclave_report(raw: bytes) -> EnclaveReport:
    return EnclaveReport(
        raw=raw,
        cpusvn=raw[0:16],
        miscselect=int.from_bytes(raw[16:20], "little"),
        attributes=raw[48:64],
        mrenclave=raw[64:96],
        mrsigner=raw[128:160],
        isvprodid=int.from_bytes(raw[256:258], "little"),
        isvsvn=int.from_bytes(raw[258:260], "little"),
        report_data=raw[320:384],
    )


def _require_exact(what: str, declared: int, available: int, at: int) -> None:
    if declared != available:
        raise EvidenceError(
            f"{what} does not fill the signature data exactly",
            expected=f"{available} bytes",
            found=f"{declared} declared",
            where=f"quote[{at}:{at + 4}]",
        )


def _truncated(what: str, needed: int, present: int, at: int) -> EvidenceError:
    return EvidenceError(
        f"quote ends inside its {what}",
        expected=f"{needed} bytes",
        found=f"{present} bytes",
        where=f"quote[{at}:]",
        hint="the file is cut short, or it is not a quote",
    )


def decode_quote_text(data: bytes) -> bytes:
    """Return the raw quote in `data`, which may be raw, hex (``0x`` allowed) or base64.

    A raw quote starts with its version, 3 to 5 and a zero byte, which is no text; anything
    else that is neither hex nor base64 is returned as it is, for `parse_quote` to refuse.

    Raises:
        EvidenceError: over four times `MAX_QUOTE_BYTES`, or hex or base64 text cut short.
    """
    if data[1:2] == b"\0" and len(data) <= 4 * MAX_QUOTE_BYTES:
        return data
    return decode_evidence_text(data, what="quote", limit=MAX_QUOTE_BYTES)
