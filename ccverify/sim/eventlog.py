"""Event logs: CCEL in TCG2 form, dstack's JSON logs, and the RTMRs they replay to.

Sources: TCG PC Client Platform Firmware Profile 1.06, section 10 (TCG_PCR_EVENT2, Spec ID
event); UEFI 2.10 section 38 (measurement registers); ACPI 6.5 section 5.2.34 (CCEL); the
dstack attestation guide (runtime events).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ccverify.errors import UsageError

__all__ = [
    "DSTACK_EVENT_TYPE",
    "EV_NO_ACTION",
    "SHA384",
    "CcelEvent",
    "DstackEvent",
    "Rtmrs",
    "ccel_acpi_table",
    "dstack_log",
    "dstack_log_json",
    "encode_ccel",
    "replay",
    "replay_ccel",
    "replay_dstack",
]

SHA384 = 0x000C
DSTACK_EVENT_TYPE = 0x08000001
EV_NO_ACTION = 0x00000003
_DSTACK_REGISTER = 3

Rtmrs = tuple[bytes, bytes, bytes, bytes]
"""RTMR0 to RTMR3, 48 bytes each."""


@dataclass(frozen=True, slots=True)
class CcelEvent:
    """One TCG_PCR_EVENT2.

    Attributes:
        mr_index: 0 is MRTD, 1 to 4 are RTMR0 to RTMR3.
        event_type: a TCG event type, e.g. 0x80000001.
        data: the event data.
        digest: what is extended; None for SHA-384 of `data`.  Images are measured by their
            own hash, which is not the hash of the event data.
        algorithm: TPM_ALG_ID of `digest`.
        more_digests: further (algorithm, digest) pairs.
    """

    mr_index: int
    event_type: int
    data: bytes
    digest: bytes | None = None
    algorithm: int = SHA384
    more_digests: tuple[tuple[int, bytes], ...] = ()

    @property
    def extended(self) -> bytes:
        """The digest as extended."""
        return hashlib.sha384(self.data).digest() if self.digest is None else self.digest

    def encode(self) -> bytes:
        """Return the log entry."""
        digests = ((self.algorithm, self.extended), *self.more_digests)
        return b"".join(
            (
                struct.pack("<III", self.mr_index, self.event_type, len(digests)),
                *(struct.pack("<H", algorithm) + value for algorithm, value in digests),
                struct.pack("<I", len(self.data)) + self.data,
            )
        )


def _spec_id_event(algorithms: Sequence[tuple[int, int]]) -> bytes:
    """Return the first entry: a TCG_PCClientPCREvent (SHA-1 form) around the Spec ID event."""
    # platform class 0, version 2.0, errata 0, uintn size 2 (64 bit)
    body = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(algorithms))
    body += b"".join(struct.pack("<HH", *algorithm) for algorithm in algorithms) + b"\0"
    return struct.pack("<II20sI", 1, EV_NO_ACTION, bytes(20), len(body)) + body


def encode_ccel(
    events: Iterable[CcelEvent],
    *,
    size: int | None = 0x10000,
    fill: int = 0xFF,
    algorithms: Sequence[tuple[int, int]] = ((SHA384, 48),),
) -> bytes:
    """Return the bytes of a CCEL log.

    Args:
        events: in log order.
        size: the firmware's log area, filled up to this length; None for no filling.
        fill: 0xFF or 0x00, both seen in real firmware.
        algorithms: (TPM_ALG_ID, digest length) of the Spec ID event.

    Raises:
        UsageError: the events do not fit into `size`.
    """
    log = _spec_id_event(algorithms) + b"".join(event.encode() for event in events)
    if size is None:
        return log
    if len(log) > size:
        raise UsageError(
            "the log area is too small", expected=f"{len(log)} bytes", found=f"{size} bytes"
        )
    return log + bytes((fill,)) * (size - len(log))


def ccel_acpi_table(log_size: int, log_address: int = 0xBEDBF000, *, cc_type: int = 2) -> bytes:
    """Return the 56-byte ACPI CCEL table for a log; `cc_type` 2 is TDX."""
    tail = struct.pack("<BBHQQ", cc_type, 0, 0, log_size, log_address)
    head = struct.pack(
        "<4sIBB6s8sI4sI", b"CCEL", 36 + len(tail), 1, 0, b"CCVSIM", b"CCVERIFY", 1, b"CCSM", 1
    )
    checksum = -sum(head + tail) & 0xFF
    return head[:9] + bytes((checksum,)) + head[10:] + tail


def replay(extends: Iterable[tuple[int, bytes]]) -> Rtmrs:
    """Return the four RTMRs after extending (RTMR number, digest) pairs in order.

    RTMR = SHA-384(RTMR || digest), starting from zeros; a shorter digest is filled up with
    zeros on the right.
    """
    registers = [bytes(48)] * 4
    for number, digest in extends:
        registers[number] = hashlib.sha384(registers[number] + digest.ljust(48, b"\0")).digest()
    return registers[0], registers[1], registers[2], registers[3]


def _ccel_extends(events: Iterable[CcelEvent]) -> list[tuple[int, bytes]]:
    return [
        (event.mr_index - 1, event.extended)
        for event in events
        if event.event_type != EV_NO_ACTION and 1 <= event.mr_index <= 4
    ]


def replay_ccel(events: Iterable[CcelEvent]) -> Rtmrs:
    """Return the RTMRs of a CCEL log; EV_NO_ACTION and MRTD entries extend nothing."""
    return replay(_ccel_extends(events))


@dataclass(frozen=True, slots=True)
class DstackEvent:
    """One dstack runtime event, extended into RTMR3.

    Attributes:
        name: e.g. ``compose-hash``.
        payload: the raw payload.
        version: 1 (binary digest input) or 2 (canonical JSON digest input).
        stated_digest: what the log claims; None for the truth.
    """

    name: str
    payload: bytes = b""
    version: int = 1
    stated_digest: bytes | None = None

    def preimage(self) -> bytes:
        """Return the bytes whose SHA-384 is extended."""
        if self.version == 1:
            kind = struct.pack("<I", DSTACK_EVENT_TYPE)
            return b":".join((kind, self.name.encode("utf-8"), self.payload))
        members = {"name": self.name, "payload": self.payload.hex(), "type": DSTACK_EVENT_TYPE}
        text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode("utf-8")

    def digest(self) -> bytes:
        """Return what is extended, 48 bytes."""
        return hashlib.sha384(self.preimage()).digest()

    def entry(self, *, lite: bool = False) -> dict[str, Any]:
        """Return the JSON entry; the lite form leaves the digest empty."""
        digest = self.digest() if self.stated_digest is None else self.stated_digest
        entry: dict[str, Any] = {
            "imr": _DSTACK_REGISTER,
            "event_type": DSTACK_EVENT_TYPE,
            "digest": "" if lite else digest.hex(),
            "event": self.name,
            "event_payload": self.payload.hex(),
        }
        if self.version != 1:
            entry |= {"version": self.version, "preimage": self.preimage().hex()}
        return entry


def _boot_entry(event: CcelEvent, *, lite: bool) -> dict[str, Any]:
    return {
        "imr": event.mr_index - 1,
        "event_type": event.event_type,
        "digest": event.extended.hex(),
        "event": "",
        "event_payload": "" if lite else event.data.hex(),
    }


def dstack_log(
    boot: Iterable[CcelEvent], runtime: Iterable[DstackEvent], *, lite: bool = False
) -> list[dict[str, Any]]:
    """Return dstack's event log: boot events, then runtime events.

    The lite form drops what a verifier must not need: payloads of boot events and digests
    of runtime events.
    """
    return [
        *(_boot_entry(event, lite=lite) for event in boot if event.event_type != EV_NO_ACTION),
        *(event.entry(lite=lite) for event in runtime),
    ]


def dstack_log_json(
    boot: Iterable[CcelEvent], runtime: Iterable[DstackEvent], *, lite: bool = False
) -> str:
    """Return `dstack_log` as compact JSON text."""
    return json.dumps(dstack_log(boot, runtime, lite=lite), separators=(",", ":"))


def replay_dstack(boot: Iterable[CcelEvent], runtime: Iterable[DstackEvent]) -> Rtmrs:
    """Return the RTMRs a dstack guest ends up with."""
    runtime_extends = [(_DSTACK_REGISTER, event.digest()) for event in runtime]
    return replay([*_ccel_extends(boot), *runtime_extends])
