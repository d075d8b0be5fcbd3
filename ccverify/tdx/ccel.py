"""The CC event log of TD firmware (CCEL): ACPI table and TCG2 crypto-agile log → `EventLog`.

Layout: TCG PC Client Platform Firmware Profile 1.06 section 10 (events) and ACPI 6.5 section
5.2.34 (CCEL table).  All integers are little endian.  Linux shows the table at
``/sys/firmware/acpi/tables/CCEL`` and the log area at ``/sys/firmware/acpi/tables/data/CCEL``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ccverify.errors import EvidenceError
from ccverify.tdx.events import (
    DIGEST_BYTES,
    EV_NO_ACTION,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    DigestSource,
    Event,
    EventLog,
    authenticated_part,
)

__all__ = ["CCEL_TABLE_BYTES", "MAX_CCEL_BYTES", "CcelTable", "parse_ccel", "parse_ccel_table"]

MAX_CCEL_BYTES: Final = 4 * 1024 * 1024
"""Largest accepted log area, padding included, in bytes.  Real ones are 64 KiB to 1 MiB."""
CCEL_TABLE_BYTES: Final = 56

CC_TYPE_TDX: Final = 2
ALG_SHA384: Final = 0x000C
MAX_ALGORITHMS: Final = 16
"""Most algorithms a Spec ID header may list; the TCG registry defines fewer for PCRs."""

_KNOWN_DIGEST_BYTES: Final[Mapping[int, int]] = {
    0x0004: 20,  # SHA-1
    0x000B: 32,  # SHA-256
    ALG_SHA384: DIGEST_BYTES,
    0x000D: 64,  # SHA-512
    0x0012: 32,  # SM3-256
    0x0027: 32,  # SHA3-256
    0x0028: 48,  # SHA3-384
    0x0029: 64,  # SHA3-512
}

_SPEC_ID_SIGNATURE: Final = b"Spec ID Event03\0"
_MR_MRTD, _MR_LAST = 0, 4
_END_OF_LOG: Final = b"\xff\xff\xff\xff"

_PC_CLIENT_EVENT = struct.Struct("<II20sI")
"""TCG_PCClientPCREvent without its data: index, type, SHA-1 digest, data size."""
_SPEC_ID = struct.Struct("<16sI4BI")
"""TCG_EfiSpecIDEvent up to the algorithm count: signature, platform class, minor, major,
errata, size of UINTN, count."""
_ALGORITHM = struct.Struct("<HH")
_EVENT2 = struct.Struct("<III")
"""TCG_PCR_EVENT2 up to its digests: index, type, digest count."""
_U8, _U16, _U32 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I")

_TABLE = struct.Struct("<4sIBB6s8sIIIBBHQQ")


@dataclass(frozen=True, slots=True)
class CcelTable:
    """The ACPI CCEL table.

    Attributes:
        revision: table revision.
        oem_id: 6 bytes, as stored.
        oem_table_id: 8 bytes, as stored.
        cc_type: 2 = TDX; other types are refused.
        cc_subtype: 0 in TDX guests.
        log_area_minimum_length: LAML, size in bytes of the reserved log area.
        log_area_start_address: LASA, guest-physical address of the log area.
    """

    revision: int
    oem_id: bytes
    oem_table_id: bytes
    cc_type: int
    cc_subtype: int
    log_area_minimum_length: int
    log_area_start_address: int


def parse_ccel_table(data: bytes) -> CcelTable:
    """Parse the 56 bytes of the ACPI CCEL table (ACPI 6.5 section 5.2.34).

    Raises:
        EvidenceError: wrong size, signature, stored length or checksum, or not a TDX guest.
    """
    if len(data) != CCEL_TABLE_BYTES:
        raise _refused("CCEL table has the wrong size", CCEL_TABLE_BYTES, len(data), "ccel_table")
    (
        signature,
        length,
        revision,
        _checksum,
        oem_id,
        oem_table_id,
        _oem_revision,
        _creator,
        _creator_revision,
        cc_type,
        cc_subtype,
        _reserved,
        laml,
        lasa,
    ) = _TABLE.unpack(data)
    if signature != b"CCEL":
        raise _refused("not a CCEL table", "signature b'CCEL'", repr(signature), "ccel_table[0:4]")
    if length != CCEL_TABLE_BYTES:
        raise _refused(
            "CCEL table states a wrong length", CCEL_TABLE_BYTES, length, "ccel_table[4:8]"
        )
    if sum(data) % 256:
        raise _refused(
            "CCEL table has a wrong checksum",
            "bytes adding up to 0 modulo 256",
            sum(data) % 256,
            "ccel_table[0:56]",
        )
    if cc_type != CC_TYPE_TDX:
        raise _refused(
            "CCEL table is not that of a TDX guest",
            f"CC type {CC_TYPE_TDX}",
            f"CC type {cc_type}",
            "ccel_table[36:37]",
        )
    return CcelTable(revision, oem_id, oem_table_id, cc_type, cc_subtype, laml, lasa)


def parse_ccel(data: bytes) -> EventLog:
    """Parse a CCEL log area.

    The log ends at a register index of 0xFFFFFFFF, at a zero index with a zero type, or with
    the buffer; what follows must be padding, all 0x00 or all 0xFF.  The Spec ID header is
    checked but is no event of the result, for it is never extended.

    Args:
        data: the log, padded or not.

    Raises:
        EvidenceError: anything that is not such a log, or exceeds a limit of this module.
    """
    if len(data) > MAX_CCEL_BYTES:
        raise _refused(
            "CCEL log is too large", f"at most {MAX_CCEL_BYTES} bytes", len(data), "ccel"
        )
    reader = _Reader(data)
    digest_sizes = _parse_header(reader)
    events: list[Event] = []
    while not _at_end(data, reader.offset):
        if len(events) == MAX_EVENTS:
            raise _refused(
                "CCEL log has too many events",
                f"at most {MAX_EVENTS}",
                "more",
                f"ccel[{reader.offset}:]",
            )
        events.append(_parse_event(reader, len(events), digest_sizes))
    return EventLog("ccel", tuple(events))


class _Reader:
    """Reads a buffer from the front; refuses to read past its end."""

    def __init__(self, data: bytes, offset: int = 0, end: int | None = None) -> None:
        self.data = data
        self.offset = offset
        self.end = len(data) if end is None else end

    def take(self, size: int, what: str) -> bytes:
        if size > self.end - self.offset:
            raise _refused(
                f"CCEL log is cut short in {what}",
                f"{size} bytes",
                f"{self.end - self.offset} bytes",
                f"ccel[{self.offset}:]",
            )
        start = self.offset
        self.offset += size
        return self.data[start : self.offset]

    def unpack(self, layout: struct.Struct, what: str) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size, what))

    def data_block(self, what: str) -> bytes:
        """Read a u32 size and that many bytes."""
        at = self.offset
        (size,) = self.unpack(_U32, f"the size of {what}")
        if size > MAX_EVENT_BYTES:
            raise _refused(
                f"{what} is too large",
                f"at most {MAX_EVENT_BYTES} bytes",
                size,
                f"ccel[{at}:{at + 4}]",
            )
        return self.take(size, what)


def _parse_header(reader: _Reader) -> dict[int, int]:
    """Check the Spec ID event; return digest size by algorithm id."""
    index, event_type, sha1, size = _PC_CLIENT_EVENT.unpack(
        reader.take(_PC_CLIENT_EVENT.size, "its first event")
    )
    # The TCG says 0; EDK II, which numbers measurement registers from 1, writes 1.
    if index not in (0, 1) or event_type != EV_NO_ACTION or any(sha1):
        raise _refused(
            "not a TCG2 event log",
            "a first event with index 0 or 1, type EV_NO_ACTION and a zero digest",
            f"index {index}, type 0x{event_type:08x}, digest {sha1.hex()}",
            "ccel[0:28]",
        )
    start = reader.offset
    reader.take(size, "its Spec ID event")
    body = _Reader(reader.data, start, start + size)
    signature, _platform, _minor, major, _errata, _uintn, count = _SPEC_ID.unpack(
        body.take(_SPEC_ID.size, "its Spec ID event")
    )
    if signature != _SPEC_ID_SIGNATURE or major != 2:
        raise _refused(
            "not a crypto-agile TCG2 event log",
            f"signature {_SPEC_ID_SIGNATURE!r} and major version 2",
            f"{signature!r} and major version {major}",
            f"ccel[{start}:{start + 24}]",
        )
    digest_sizes = _parse_algorithms(body, count)
    (vendor_size,) = body.unpack(_U8, "its vendor information")
    body.take(vendor_size, "its vendor information")
    if body.offset != body.end:
        raise _refused(
            "Spec ID event has bytes after its vendor information",
            f"size {body.offset - start}",
            f"size {size}",
            "ccel[28:32]",
        )
    return digest_sizes


def _parse_algorithms(body: _Reader, count: int) -> dict[int, int]:
    at = body.offset
    if not 1 <= count <= MAX_ALGORITHMS:
        raise _refused(
            "Spec ID event has a bad number of algorithms",
            f"1 to {MAX_ALGORITHMS}",
            count,
            f"ccel[{at - 4}:{at}]",
        )
    digest_sizes: dict[int, int] = {}
    for _ in range(count):
        at = body.offset
        algorithm, size = body.unpack(_ALGORITHM, "its algorithm table")
        if algorithm in digest_sizes:
            raise _refused(
                "Spec ID event lists an algorithm twice",
                "each algorithm once",
                f"0x{algorithm:04x} again",
                f"ccel[{at}:{at + 4}]",
            )
        if size != _KNOWN_DIGEST_BYTES.get(algorithm, size) or size == 0:
            raise _refused(
                f"Spec ID event states a wrong size for algorithm 0x{algorithm:04x}",
                _KNOWN_DIGEST_BYTES.get(algorithm, "not 0"),
                size,
                f"ccel[{at + 2}:{at + 4}]",
            )
        digest_sizes[algorithm] = size
    if ALG_SHA384 not in digest_sizes:
        raise _refused(
            "Spec ID event does not list SHA-384",
            f"algorithm 0x{ALG_SHA384:04x}",
            ", ".join(f"0x{a:04x}" for a in digest_sizes),
            "ccel, Spec ID event",
            hint="TDX registers are SHA-384; this looks like a TPM log",
        )
    return digest_sizes


def _parse_event(reader: _Reader, index: int, digest_sizes: Mapping[int, int]) -> Event:
    what, start = f"event {index}", reader.offset
    register, event_type, count = reader.unpack(_EVENT2, what)
    if register > _MR_LAST:
        raise _refused(
            f"{what} is of no TDX measurement register",
            f"{_MR_MRTD} (MRTD) to {_MR_LAST} (RTMR3)",
            register,
            f"ccel[{start}:{start + 4}]",
        )
    if not 1 <= count <= len(digest_sizes):
        raise _refused(
            f"{what} has a bad number of digests",
            f"1 to {len(digest_sizes)}",
            count,
            f"ccel[{start + 8}:{start + 12}]",
        )
    digests: dict[int, bytes] = {}
    for _ in range(count):
        at = reader.offset
        (algorithm,) = reader.unpack(_U16, what)
        if algorithm not in digest_sizes or algorithm in digests:
            raise _refused(
                f"{what} has a digest of an unlisted or repeated algorithm",
                "one digest for each algorithm of the Spec ID event",
                f"0x{algorithm:04x}",
                f"ccel[{at}:{at + 2}]",
            )
        digests[algorithm] = reader.take(digest_sizes[algorithm], what)
    if ALG_SHA384 not in digests:
        raise _refused(
            f"{what} has no SHA-384 digest",
            f"algorithm 0x{ALG_SHA384:04x}",
            ", ".join(f"0x{a:04x}" for a in digests),
            f"ccel[{start}:]",
        )
    payload = reader.data_block(f"the data of {what}")
    digest = digests[ALG_SHA384]
    authenticated = authenticated_part(event_type, payload, digest)
    return Event(
        index=index,
        register=None if register == _MR_MRTD else register - 1,
        event_type=event_type,
        digest=digest,
        name="",
        payload=payload,
        source=DigestSource.LOGGED if authenticated is None else DigestSource.RECOMPUTED,
        authenticated=authenticated,
    )


def _at_end(data: bytes, offset: int) -> bool:
    """Return whether the log ends at `offset`; check the padding if it does."""
    head = data[offset : offset + 8]
    if len(head) == 8 and any(head) and not head.startswith(_END_OF_LOG):
        return False
    at = offset
    if head.startswith(_END_OF_LOG):
        at += len(_END_OF_LOG)
    padding = data[at:]
    filler = padding[:1]
    if filler and filler in b"\x00\xff":
        at += len(padding) - len(padding.lstrip(filler))
    if at != len(data):
        raise _refused(
            "CCEL log has bytes after its end",
            "padding of 0x00 or of 0xff bytes only",
            f"0x{data[at]:02x}",
            f"ccel[{at}:]",
            hint="pass the log exactly as the kernel shows it",
        )
    return True


def _refused(
    message: str, expected: object, found: object, where: str, *, hint: str | None = None
) -> EvidenceError:
    return EvidenceError(message, expected=str(expected), found=str(found), where=where, hint=hint)
