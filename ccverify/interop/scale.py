"""dstack's versioned attestation, first version: SCALE-encoded, as ``attest`` returns it on TDX.

Layout (dstack-attest): version u8 = 0, variant u8 (0 = TDX), quote bytes, list of events
{register u32, type u32, digest bytes, name string, payload bytes}, list of runtime events
{name string, payload bytes}, REPORTDATA 64 bytes, configuration string (JSON).  Integers are
little endian; bytes, strings and lists begin with a compact length (SCALE: the low two bits of
the first byte say whether it takes 1, 2 or 4 bytes).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ccverify.interop.elements import refused

__all__ = ["DSTACK_RUNTIME_EVENT", "ScaleAttestation", "parse_scale_attestation"]

DSTACK_RUNTIME_EVENT: Final = 0x08000001

_MAX_EVENTS: Final = 4096
_MAX_FIELD: Final = 1024 * 1024
_MAX_QUOTE: Final = 64 * 1024
_RUNTIME_REGISTER: Final = 3
_VARIANTS: Final = ("TDX", "TDX on GCP", "Nitro Enclave", "SEV-SNP", "Nitro TPM")


@dataclass(frozen=True, slots=True)
class ScaleAttestation:
    """One attestation.

    Attributes:
        quote: raw TDX quote.
        event_log: dstack's JSON event log, UTF-8.
        report_data: REPORTDATA as stated beside the quote, 64 bytes.
        config: JSON text of the guest's configuration; may be empty.
    """

    quote: bytes
    event_log: bytes
    report_data: bytes
    config: str


class _Reader:
    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.at = 0
        self.where = where

    def take(self, size: int, what: str) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise refused(
                f"attestation ends inside {what}",
                f"{size} bytes",
                f"{len(self.data) - self.at}",
                f"{self.where}[{self.at}:]",
            )
        part = self.data[self.at : end]
        self.at = end
        return part

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def length(self, what: str, most: int) -> int:
        start = self.at
        first = self.take(1, what)[0]
        mode = first & 3
        if mode == 3:
            raise self._bad_length(what, start, "a length of at most 2**30")
        rest = self.take((0, 1, 3)[mode], what)
        value = int.from_bytes(bytes([first]) + rest, "little") >> 2
        if mode and value < (0, 1 << 6, 1 << 14)[mode]:
            raise self._bad_length(what, start, "the shortest form of the length")
        if value > most:
            raise self._bad_length(what, start, f"at most {most}")
        return value

    def _bad_length(self, what: str, start: int, expected: str) -> Exception:
        found = self.data[start : self.at].hex()
        return refused(f"length of {what} is wrong", expected, found, f"{self.where}[{start}:]")

    def octets(self, what: str, most: int = _MAX_FIELD) -> bytes:
        return self.take(self.length(what, most), what)

    def string(self, what: str) -> str:
        start = self.at
        try:
            return self.octets(what).decode("utf-8")
        except UnicodeDecodeError:
            where = f"{self.where}[{start}:]"
            raise refused(f"{what} is not UTF-8", "UTF-8", "other bytes", where) from None


def parse_scale_attestation(data: bytes, where: str = "attestation") -> ScaleAttestation:
    """Parse an attestation of version 0 that holds a TDX quote.

    Raises:
        EvidenceError: another version or variant, truncated, trailing bytes, a length that is
            too large or not in its shortest form, or a string that is not UTF-8.
    """
    reader = _Reader(data, where)
    version, variant = reader.take(2, "the version")
    if version != 0:
        raise refused("unknown version of attestation", "0", str(version), f"{where}[0]")
    if variant != 0:
        name = _VARIANTS[variant] if variant < len(_VARIANTS) else str(variant)
        raise refused("attestation is not of TDX", "TDX", name, f"{where}[1]")
    quote = reader.octets("the quote", _MAX_QUOTE)
    if not quote:
        raise refused("attestation has no quote", "a TDX quote", "0 bytes", f"{where}[2:]")
    events = [_event(reader) for _ in range(reader.length("the event log", _MAX_EVENTS))]
    count = reader.length("the runtime events", _MAX_EVENTS)
    runtime = [_runtime_event(reader) for _ in range(count)]
    report_data = reader.take(64, "REPORTDATA")
    config = reader.string("the configuration")
    if reader.at != len(data):
        raise refused(
            "attestation has bytes after its end",
            f"{reader.at} bytes",
            f"{len(data)}",
            f"{where}[{reader.at}:]",
        )
    # The log holds the runtime events too, or (lite form) leaves them to the second list.
    if not any(event["event_type"] == DSTACK_RUNTIME_EVENT for event in events):
        events += runtime
    log = json.dumps(events, separators=(",", ":"), ensure_ascii=False).encode()
    return ScaleAttestation(quote, log, report_data, config)


def _event(reader: _Reader) -> dict[str, Any]:
    return {
        "imr": reader.u32("an event's register"),
        "event_type": reader.u32("an event's type"),
        "digest": reader.octets("an event's digest").hex(),
        "event": reader.string("an event's name"),
        "event_payload": reader.octets("an event's payload").hex(),
    }


def _runtime_event(reader: _Reader) -> dict[str, Any]:
    return {
        "imr": _RUNTIME_REGISTER,
        "event_type": DSTACK_RUNTIME_EVENT,
        "digest": "",
        "event": reader.string("a runtime event's name"),
        "event_payload": reader.octets("a runtime event's payload").hex(),
    }
