"""Quotes of version 3, 4 and 5, built field by field and damaged at will.

Source: Intel TDX DCAP Quoting Library API, appendix A.  `QuoteSpec` says what to build and
signs it; `BuiltQuote` knows where every field ended up, so that a test can damage one
field after signing by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ccverify.errors import UsageError
from ccverify.sim.keys import SimKey
from ccverify.sim.reports import QuoteHeader, SgxReport, TdReport10

__all__ = ["AUTH_DATA", "QE_REPORT_CERTIFICATION", "BuiltQuote", "QuoteSpec", "pck_identifier"]

AUTH_DATA = bytes(range(32))
"""The QE's authentication data in every real quote seen."""

QE_REPORT_CERTIFICATION = 6
"""Outer certification data type of quotes of version 4 and 5."""

PCK_CHAIN = 5

Part = tuple[str, bytes]


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def pck_identifier(ppid: bytes, cpusvn: bytes, pcesvn: int, pce_id: bytes) -> bytes:
    """Return certification data of type 1, 2 or 3.

    `ppid` is 16 bytes plain (1), or encrypted with RSA-2048 (2, 256 bytes) or RSA-3072 (3,
    384 bytes).
    """
    return ppid + cpusvn + _u16(pcesvn) + pce_id


@dataclass(frozen=True, slots=True)
class BuiltQuote:
    """A finished quote and the place of each of its parts.

    Names are dotted: ``header.version``, ``body_type``, ``body_size``, ``body.mr_td``,
    ``signature_size``, ``signature``, ``attestation_key``, ``outer_type``, ``outer_size``,
    ``qe_report.mr_signer``, ``qe_report_signature``, ``auth_size``, ``auth_data``,
    ``inner_type``, ``inner_size``, ``certification_data``, ``padding``.  A prefix such as
    ``body`` or ``qe_report`` names the whole group.
    """

    data: bytes
    spans: tuple[tuple[str, int, int], ...]

    def span(self, name: str) -> tuple[int, int]:
        """Return the offsets (start, stop) of a part or group.

        Raises:
            UsageError: there is no such part in this quote.
        """
        found = [
            (start, stop)
            for own, start, stop in self.spans
            if own == name or own.startswith(name + ".")
        ]
        if not found:
            names = ", ".join(own for own, _, _ in self.spans)
            raise UsageError(f"this quote has no part {name!r}", expected=names)
        return found[0][0], found[-1][1]

    def part(self, name: str) -> bytes:
        """Return the bytes of a part or group."""
        start, stop = self.span(name)
        return self.data[start:stop]

    def flip(self, name: str, bit: int = 0) -> BuiltQuote:
        """Return the quote with one bit of a part inverted; bit 0 is the lowest of byte 0.

        Raises:
            UsageError: the part has no such bit.
        """
        start, stop = self.span(name)
        if not 0 <= bit < (stop - start) * 8:
            raise UsageError(f"{name!r} has {(stop - start) * 8} bits", found=str(bit))
        changed = bytearray(self.data)
        changed[start + bit // 8] ^= 1 << (bit % 8)
        return replace(self, data=bytes(changed))

    def overwrite(self, name: str, value: bytes) -> BuiltQuote:
        """Return the quote with a part replaced by as many other bytes.

        Raises:
            UsageError: `value` has another length.
        """
        start, stop = self.span(name)
        if len(value) != stop - start:
            raise UsageError(
                f"{name!r} has another length",
                expected=f"{stop - start} bytes",
                found=f"{len(value)} bytes",
            )
        return replace(self, data=self.data[:start] + value + self.data[stop:])

    def splice(self, name: str, value: bytes) -> BuiltQuote:
        """Return the quote with a part replaced by any bytes; size fields stay as they are.

        Later parts have moved, so the result names none.
        """
        start, stop = self.span(name)
        return BuiltQuote(self.data[:start] + value + self.data[stop:], ())

    def truncate(self, size: int) -> BuiltQuote:
        """Return the first `size` bytes; the result names no parts."""
        return BuiltQuote(self.data[:size], ())


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteSpec:
    """A quote to be built and signed.

    Attributes:
        body: a TD report, or an `SgxReport` for an SGX quote.
        attestation_key: the QE's key; P-384 makes 96-byte signature fields.
        qe_signer: the PCK key, which signs the QE report.  None: to be filled in later.
        certification_data: the inner data; a PEM chain for type 5.  None: to be filled in.
        inner_type: inner certification data type, 1 to 5.
        outer_type: 6; version 3 has no outer record.
        body_type, body_size: version 5 only; None for the truth.
        quote_signer: None for the attestation key.
        attestation_public_key: x||y written into the quote; None for the truth.
        qe_report_data: 64 bytes; None for SHA-256(key || auth data) || zeros.
        signature_size: the u32 before the signature data; None for the truth.
        padding: bytes after the signature data.
    """

    header: QuoteHeader = field(default_factory=QuoteHeader)
    body: TdReport10 | SgxReport
    attestation_key: SimKey
    qe_report: SgxReport = field(default_factory=SgxReport)
    auth_data: bytes = AUTH_DATA
    qe_signer: SimKey | None = None
    certification_data: bytes | None = None
    inner_type: int = PCK_CHAIN
    outer_type: int = QE_REPORT_CERTIFICATION
    body_type: int | None = None
    body_size: int | None = None
    quote_signer: SimKey | None = None
    attestation_public_key: bytes | None = None
    qe_report_data: bytes | None = None
    signature_size: int | None = None
    padding: bytes = b""

    def build(self) -> BuiltQuote:
        """Encode and sign.

        Raises:
            UsageError: `qe_signer` or `certification_data` is still None, or a field value
                does not fit.
        """
        signed = self._signed_parts()
        message = b"".join(value for _, value in signed)
        signature = (self.quote_signer or self.attestation_key).sign_raw(message)
        tail = list(self._signature_parts(signature))
        size = sum(len(value) for _, value in tail)
        stated = size if self.signature_size is None else self.signature_size
        parts = [*signed, ("signature_size", _u32(stated)), *tail, ("padding", self.padding)]
        return _lay_out(parts)

    def _signed_parts(self) -> list[Part]:
        body = self.body.parts("body")
        parts = self.header.parts("header")
        if self.header.version >= 5:
            size = sum(len(value) for _, value in body)
            kind = self.body.BODY_TYPE if self.body_type is None else self.body_type
            stated = size if self.body_size is None else self.body_size
            parts += [("body_type", _u16(kind)), ("body_size", _u32(stated))]
        return parts + body

    def _signature_parts(self, signature: bytes) -> Iterator[Part]:
        key = self.attestation_public_key
        key = self.attestation_key.public_xy if key is None else key
        yield "signature", signature
        yield "attestation_key", key
        inner = self._certification_parts(key)
        if self.header.version >= 4:
            yield "outer_type", _u16(self.outer_type)
            yield "outer_size", _u32(sum(len(value) for _, value in inner))
        yield from inner

    def _certification_parts(self, key: bytes) -> list[Part]:
        if self.qe_signer is None or self.certification_data is None:
            raise UsageError(
                "the quote lacks its PCK key or certification data",
                hint="set qe_signer and certification_data, or build through SimCase",
            )
        bound = self.qe_report_data
        if bound is None:
            bound = hashlib.sha256(key + self.auth_data).digest() + bytes(32)
        report = replace(self.qe_report, report_data=bound)
        return [
            *report.parts("qe_report"),
            ("qe_report_signature", self.qe_signer.sign_raw(report.encode())),
            ("auth_size", _u16(len(self.auth_data))),
            ("auth_data", self.auth_data),
            ("inner_type", _u16(self.inner_type)),
            ("inner_size", _u32(len(self.certification_data))),
            ("certification_data", self.certification_data),
        ]


def _lay_out(parts: list[Part]) -> BuiltQuote:
    spans, offset = [], 0
    for name, value in parts:
        spans.append((name, offset, offset + len(value)))
        offset += len(value)
    return BuiltQuote(b"".join(value for _, value in parts), tuple(spans))
