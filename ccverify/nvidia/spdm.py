"""NVIDIA attestation reports: SPDM 1.1 request ‖ response, bytes → `AttestationReport`.

A report is the 37-byte GET_MEASUREMENTS request of the verifier followed by the device's
MEASUREMENTS response (DMTF DSP0274 1.1, "GET_MEASUREMENTS request message" and "MEASUREMENTS
response message").  All integers are little endian.  GPUs and NVSwitches use the same layout;
what differs is the number of blocks and the opaque data (`ccverify.nvidia.opaque`).

The signature covers everything before it, the request with its nonce included, and nothing
else: no transcript of earlier messages, no prefix.  ECDSA allows a second valid signature for
every report, so a report is identified by `AttestationReport.digest`, the hash of the signed
range, never by a hash of the file.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, NoReturn

from ccverify.errors import EvidenceError
from ccverify.evidence_text import decode_evidence_text

__all__ = [
    "BLOCK_FIELDS",
    "MAX_OPAQUE_BYTES",
    "MAX_REPORT_BYTES",
    "MEASUREMENT_BYTES",
    "NONCE_BYTES",
    "REQUEST_BYTES",
    "REQUEST_FIELDS",
    "RESPONSE_FIELDS",
    "SIGNATURE_BYTES",
    "AttestationReport",
    "FixedField",
    "Measurement",
    "decode_report_text",
    "parse_attestation_report",
]

MAX_REPORT_BYTES = 8192
"""Largest accepted report in bytes: the buffer NVML gives a GPU.  Real ones: 2 168 to 4 277."""

MAX_OPAQUE_BYTES = 1024
"""Largest opaque data in bytes that DSP0274 allows.  Real ones: 288 to 582."""

REQUEST_BYTES = 37
NONCE_BYTES = 32
MEASUREMENT_BYTES = 48
"""Bytes of one measurement, a SHA-384 value."""
SIGNATURE_BYTES = 96
"""Bytes of the signature: r ‖ s on P-384, big endian, 48 bytes each."""

_RECORD = REQUEST_BYTES + 8
_BLOCK_BYTES = 7 + MEASUREMENT_BYTES
_ERROR_CODE = 0x7F


class FixedField(NamedTuple):
    """One field of a message: offset and size in bytes, and the only accepted value, if any."""

    name: str
    offset: int
    size: int
    value: int | None
    meaning: str


REQUEST_FIELDS = (
    FixedField("SPDMVersion", 0, 1, 0x11, "SPDM 1.1"),
    FixedField("RequestResponseCode", 1, 1, 0xE0, "GET_MEASUREMENTS"),
    FixedField("Param1", 2, 1, 0x01, "a signature is requested"),
    FixedField("Param2", 3, 1, 0xFF, "all measurement blocks are requested"),
    FixedField("Nonce", 4, 32, None, "chosen by the relying party"),
    FixedField("SlotIDParam", 36, 1, 0x00, "certificate chain of slot 0"),
)
"""The request: offsets from the start of the report."""

RESPONSE_FIELDS = (
    FixedField("SPDMVersion", 37, 1, 0x11, "SPDM 1.1"),
    FixedField("RequestResponseCode", 38, 1, 0x60, "MEASUREMENTS"),
    FixedField("Param1", 39, 1, 0x00, "reserved when all blocks are requested"),
    FixedField("Param2", 40, 1, 0x00, "reserved"),
    FixedField("NumberOfBlocks", 41, 1, None, "64 for GPUs, 31 for LS10 NVSwitches"),
    FixedField("MeasurementRecordLength", 42, 3, None, "bytes of the blocks together"),
)
"""The response up to its blocks: offsets from the start of the report."""

BLOCK_FIELDS = (
    FixedField("Index", 0, 1, None, "1 to 255; reference manifests count from 0"),
    FixedField("MeasurementSpecification", 1, 1, 0x01, "DMTF"),
    FixedField("MeasurementSize", 2, 2, 51, "bytes of the three fields that follow"),
    FixedField("DMTFSpecMeasurementValueType", 4, 1, 0x01, "digest of mutable firmware"),
    FixedField("DMTFSpecMeasurementValueSize", 5, 2, 48, "bytes of the value"),
    FixedField("DMTFSpecMeasurementValue", 7, 48, None, "SHA-384"),
)
"""One measurement block: offsets from its start."""

_BLOCK = struct.Struct(f"<B6s{MEASUREMENT_BYTES}s")
_BLOCK_HEADER = struct.pack("<BHBH", 0x01, 51, 0x01, 48)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement block.

    Attributes:
        index: 1 to 255, unique in the report.  Block i answers to index i - 1 of a manifest.
        value: 48 bytes, all zero where the device has nothing to measure.
    """

    index: int
    value: bytes


@dataclass(frozen=True)
class AttestationReport:
    """A parsed, not verified, report of a GPU or an NVSwitch.

    Attributes:
        nonce: the 32 bytes the relying party chose, `report[4:36]`.
        measurements: the blocks in the order of the report.
        responder_nonce: 32 random bytes of the device; not the relying party's.
        opaque_data: for `ccverify.nvidia.opaque`.
        signed_range: the exact bytes the device signed, everything before the signature.
        signature: r ‖ s, 96 bytes, big endian halves.
    """

    nonce: bytes
    measurements: tuple[Measurement, ...]
    responder_nonce: bytes
    opaque_data: bytes
    signed_range: bytes
    signature: bytes

    @cached_property
    def digest(self) -> str:
        """SHA-384 (hex) of the signed range: the identity of this report."""
        return hashlib.sha384(self.signed_range).hexdigest()


def parse_attestation_report(data: bytes) -> AttestationReport:
    """Parse one attestation report of an NVIDIA GPU or NVSwitch.

    Args:
        data: the raw report; see `decode_report_text` for hex and base64.

    Raises:
        EvidenceError: a fixed field has another value, the lengths do not add up to the
            report's, a block index is zero or appears twice, the opaque data is empty or over
            `MAX_OPAQUE_BYTES`, or bytes are missing or left over.
    """
    if len(data) > MAX_REPORT_BYTES:
        raise EvidenceError(
            "report is too large",
            expected=f"at most {MAX_REPORT_BYTES} bytes",
            found=f"{len(data)}",
        )
    data = bytes(data)
    _require_room(data, "GET_MEASUREMENTS request", 0, REQUEST_BYTES)
    _require_fixed(data, REQUEST_FIELDS)
    _require_room(data, "MEASUREMENTS response header", REQUEST_BYTES, _RECORD)
    _refuse_error_response(data)
    _require_fixed(data, RESPONSE_FIELDS)
    record_end = _record_end(data)
    nonce_end = record_end + NONCE_BYTES
    _require_room(data, "measurement record and responder nonce", _RECORD, nonce_end)
    measurements = _parse_blocks(data, record_end)
    opaque_end = _opaque_end(data, nonce_end)
    _require_end(data, opaque_end)
    return AttestationReport(
        nonce=data[4 : 4 + NONCE_BYTES],
        measurements=measurements,
        responder_nonce=data[record_end:nonce_end],
        opaque_data=data[nonce_end + 2 : opaque_end],
        signed_range=data[:opaque_end],
        signature=data[opaque_end:],
    )


def _require_fixed(data: bytes, fields: tuple[FixedField, ...], base: int = 0) -> None:
    for name, offset, size, value, meaning in fields:
        if value is None:
            continue
        at = base + offset
        found = int.from_bytes(data[at : at + size], "little")
        if found != value:
            raise EvidenceError(
                f"wrong {name}",
                expected=f"0x{value:02x} ({meaning})",
                found=f"0x{found:02x}",
                where=f"report[{at}:{at + size}]",
                hint="give the raw report of the GPU or NVSwitch, or its hex or base64 text",
            )


def _refuse_error_response(data: bytes) -> None:
    if data[REQUEST_BYTES + 1] == _ERROR_CODE:
        raise EvidenceError(
            "the device answered with an SPDM error instead of measurements",
            expected="response code 0x60 (MEASUREMENTS)",
            found=f"0x7f (ERROR), error code 0x{data[REQUEST_BYTES + 2]:02x}",
            where="report[38:40]",
            hint="collect the report again",
        )


def _record_end(data: bytes) -> int:
    """Return the offset after the measurement record, after checking its length."""
    blocks = data[41]
    record_bytes = int.from_bytes(data[42:45], "little")
    if not blocks:
        raise EvidenceError(
            "report has no measurements",
            expected="1 to 255 measurement blocks",
            found="0",
            where="report[41]",
        )
    if record_bytes != blocks * _BLOCK_BYTES:
        raise EvidenceError(
            "MeasurementRecordLength does not fit NumberOfBlocks",
            expected=f"{blocks * _BLOCK_BYTES} ({blocks} blocks of {_BLOCK_BYTES} bytes)",
            found=f"{record_bytes}",
            where="report[42:45]",
        )
    return _RECORD + record_bytes


def _parse_blocks(data: bytes, record_end: int) -> tuple[Measurement, ...]:
    measurements: dict[int, Measurement] = {}
    at = _RECORD
    for index, header, value in _BLOCK.iter_unpack(data[_RECORD:record_end]):
        if header != _BLOCK_HEADER:
            _require_fixed(data, BLOCK_FIELDS, at)
        if not index or index in measurements:
            _refuse_index(index, at)
        measurements[index] = Measurement(index, value)
        at += _BLOCK_BYTES
    return tuple(measurements.values())


def _refuse_index(index: int, at: int) -> NoReturn:
    raise EvidenceError(
        "measurement block index appears twice" if index else "measurement block index is zero",
        expected="every index from 1 to 255 at most once",
        found=f"{index}",
        where=f"report[{at}]",
    )


def _opaque_end(data: bytes, nonce_end: int) -> int:
    """Return the offset after the opaque data, where the signature starts."""
    start = nonce_end + 2
    _require_room(data, "opaque data length", nonce_end, start)
    opaque_bytes = int.from_bytes(data[nonce_end:start], "little")
    if not 0 < opaque_bytes <= MAX_OPAQUE_BYTES:
        raise EvidenceError(
            "wrong length of the opaque data",
            expected=f"1 to {MAX_OPAQUE_BYTES} bytes",
            found=f"{opaque_bytes}",
            where=f"report[{nonce_end}:{start}]",
        )
    _require_room(data, "opaque data", start, start + opaque_bytes)
    return start + opaque_bytes


def _require_end(data: bytes, opaque_end: int) -> None:
    end = opaque_end + SIGNATURE_BYTES
    _require_room(data, "signature", opaque_end, end)
    if len(data) == end:
        return
    tail = data[end:]
    hint = "nobody signs what follows the signature"
    if not tail.strip(b"\0"):
        hint = f"cut the report after {end} bytes: some collectors keep the zeros of the buffer"
    raise EvidenceError(
        "bytes after the signature",
        expected="end of report",
        found=f"{len(tail)} bytes, beginning {tail[:8].hex()}",
        where=f"report[{end}:{len(data)}]",
        hint=hint,
    )


def _require_room(data: bytes, what: str, at: int, end: int) -> None:
    if len(data) < end:
        raise EvidenceError(
            f"report ends inside its {what}",
            expected=f"{end} bytes",
            found=f"{len(data)} bytes",
            where=f"report[{at}:]",
            hint="the file is cut short, or it is not an NVIDIA attestation report",
        )


def decode_report_text(data: bytes) -> bytes:
    """Return the raw report in `data`, which may be raw, hex (``0x`` allowed) or base64.

    A raw report starts with 0x11 0xE0, which is no text; anything else that is neither hex nor
    base64 is returned as it is, for `parse_attestation_report` to refuse.

    Raises:
        EvidenceError: over four times `MAX_REPORT_BYTES`, or hex or base64 text cut short.
    """
    if data[:1] == b"\x11" and len(data) <= 4 * MAX_REPORT_BYTES:
        return bytes(data)
    return decode_evidence_text(data, what="report", limit=MAX_REPORT_BYTES)
