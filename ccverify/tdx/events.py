"""Measured events of a TD: the model that every event log format is parsed into.

Numbers and structures are those of the TCG PC Client Platform Firmware Profile 1.06 ("PFP"),
section 10.  UEFI 2.10 section 38 maps its PCRs to the registers of a TD.

A register holds a chain of digests, so replaying a log proves the digests and their order
and nothing else.  An event's data is proven only where its own hash is the digest; its type
and its name are proven only where they are part of what is hashed (dstack runtime events).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha384
from typing import Final, Literal

__all__ = [
    "DIGEST_BYTES",
    "EVENT_TYPE_NAMES",
    "EV_DSTACK_RUNTIME",
    "EV_NO_ACTION",
    "MAX_EVENTS",
    "MAX_EVENT_BYTES",
    "RUNTIME_REGISTER",
    "DigestSource",
    "Event",
    "EventLog",
    "authenticated_part",
]

DIGEST_BYTES: Final = 48
"""Size of a SHA-384 digest, which is also the size of a runtime register."""
RUNTIME_REGISTER: Final = 3
"""RTMR3, the register that software in the TD extends after boot."""

MAX_EVENTS: Final = 16_384
"""Most events accepted in one log.  Real logs hold 5 to 98."""
MAX_EVENT_BYTES: Final = 1024 * 1024
"""Largest accepted data of one event, in bytes.  Real logs stay under 12 KiB."""

EV_NO_ACTION: Final = 0x00000003
EV_DSTACK_RUNTIME: Final = 0x08000001

_EV_PLATFORM_CONFIG_FLAGS: Final = 0x0000000A
_EV_IPL: Final = 0x0000000D
_EV_EFI_VARIABLE_BOOT: Final = 0x80000002

EVENT_TYPE_NAMES: Final[Mapping[int, str]] = {
    0x00000000: "EV_PREBOOT_CERT",
    0x00000001: "EV_POST_CODE",
    0x00000002: "EV_UNUSED",
    EV_NO_ACTION: "EV_NO_ACTION",
    0x00000004: "EV_SEPARATOR",
    0x00000005: "EV_ACTION",
    0x00000006: "EV_EVENT_TAG",
    0x00000007: "EV_S_CRTM_CONTENTS",
    0x00000008: "EV_S_CRTM_VERSION",
    0x00000009: "EV_CPU_MICROCODE",
    _EV_PLATFORM_CONFIG_FLAGS: "EV_PLATFORM_CONFIG_FLAGS",
    0x0000000B: "EV_TABLE_OF_DEVICES",
    0x0000000C: "EV_COMPACT_HASH",
    _EV_IPL: "EV_IPL",
    0x0000000E: "EV_IPL_PARTITION_DATA",
    0x0000000F: "EV_NONHOST_CODE",
    0x00000010: "EV_NONHOST_CONFIG",
    0x00000011: "EV_NONHOST_INFO",
    0x00000012: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x00000013: "EV_POST_CODE2",
    # Not the TCG's: the number under which TD guests report Linux IMA entries.
    0x00000014: "IMA_MEASUREMENT_EVENT",
    # Not the TCG's: every event that dstack extends into RTMR3.
    EV_DSTACK_RUNTIME: "DSTACK_RUNTIME_EVENT",
    0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    _EV_EFI_VARIABLE_BOOT: "EV_EFI_VARIABLE_BOOT",
    0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT",
    0x80000007: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x8000000D: "EV_EFI_GPT_EVENT2",
    0x80000010: "EV_EFI_HCRTM_EVENT",
    0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
    0x800000E3: "EV_EFI_SPDM_DEVICE_POLICY",
    0x800000E4: "EV_EFI_SPDM_DEVICE_AUTHORITY",
}


class DigestSource(str, Enum):
    """What ties an event's payload to the digest that is replayed."""

    RECOMPUTED = "recomputed"
    """The digest is the hash of `Event.authenticated`."""
    LOGGED = "logged"
    """The log states the digest; the payload is whatever the log's author wrote."""
    MISMATCH = "mismatch"
    """A runtime event whose stated digest or preimage is not that of its own payload."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a log.

    Attributes:
        index: position in the log, from 0; the Spec ID header of a CCEL log is not counted.
        register: 0 to 3 for RTMR0 to RTMR3, None for MRTD, which no log can explain.
        event_type: number of `EVENT_TYPE_NAMES`; proven only for dstack runtime events.
        digest: the 48 bytes that `ccverify.tdx.eventlog.replay` extends.  For a dstack
            runtime event it is always computed here, whatever the log says.
        name: name of a dstack event; empty in a CCEL log.  Proven only with RECOMPUTED.
        payload: the event's data as logged.
        source: what ties `payload` to `digest`.
        authenticated: the bytes of `payload` that `digest` proves; None if it proves none.
        logged_digest: what the log states as digest of a dstack runtime event, if anything.
    """

    index: int
    register: int | None
    event_type: int
    digest: bytes
    name: str
    payload: bytes
    source: DigestSource
    authenticated: bytes | None = None
    logged_digest: bytes | None = None

    @property
    def type_name(self) -> str:
        """Return the name of the event type, or its number in hex where it has none."""
        return EVENT_TYPE_NAMES.get(self.event_type, f"0x{self.event_type:08x}")

    @property
    def extends(self) -> bool:
        """Return whether the event changed a runtime register (EV_NO_ACTION never does)."""
        return self.register is not None and self.event_type != EV_NO_ACTION

    @property
    def is_runtime(self) -> bool:
        """Return whether this is a dstack runtime event."""
        return self.event_type == EV_DSTACK_RUNTIME


@dataclass(frozen=True, slots=True)
class EventLog:
    """A parsed log.  Replay, claims and appraisal all read this one tuple of events."""

    kind: Literal["ccel", "dstack"]
    events: tuple[Event, ...]


def authenticated_part(event_type: int, payload: bytes, digest: bytes) -> bytes | None:
    """Return the part of a firmware event's data whose SHA-384 is its digest, or None.

    The forms tried are those real firmware, GRUB and shim produce.  None is no error: an
    event may measure bytes that are not in the log, such as a loaded image.  The caller must
    not look outside the returned part; a GRUB event's ``grub_cmd: `` prefix, for example, is
    not measured, so it does not prove what the measured text was used for.
    """
    if sha384(payload).digest() == digest:
        return payload
    for part in _PARTIAL_FORMS.get(event_type, _no_parts)(payload):
        if sha384(part).digest() == digest:
            return part
    return None


def _no_parts(_payload: bytes) -> Iterator[bytes]:
    return iter(())


def _variable_data(payload: bytes) -> Iterator[bytes]:
    # UEFI_VARIABLE_DATA (PFP 10.2.6): GUID 16, name length u64 in UTF-16 units, data length
    # u64, name, data.  EDK II measures the data alone for EV_EFI_VARIABLE_BOOT.
    if len(payload) >= 32:
        name_end = 32 + 2 * int.from_bytes(payload[16:24], "little")
        data_end = name_end + int.from_bytes(payload[24:32], "little")
        if data_end == len(payload):
            yield payload[name_end:]


_IPL_PREFIXES: Final = (
    b"grub_cmd: ",
    b"grub_cmd ",
    b"kernel_cmdline: ",
    b"grub_kernel_cmdline ",
    b"module_cmdline: ",
)


def _ipl_text(payload: bytes) -> Iterator[bytes]:
    # GRUB logs a prefix it does not measure.  Whether the terminating NUL is measured
    # depends on the distribution, and some append a stray byte after it.
    for prefix in (b"", *_IPL_PREFIXES):
        if payload.startswith(prefix):
            text, nul, _rest = payload[len(prefix) :].partition(b"\0")
            yield text
            yield text + nul


def _td_shim_config(payload: bytes) -> Iterator[bytes]:
    # td-shim's TdShimPlatformConfigInfo: descriptor 16, length u32, data; the data is measured.
    if len(payload) >= 20 and int.from_bytes(payload[16:20], "little") == len(payload) - 20:
        yield payload[20:]


_PARTIAL_FORMS: Final[Mapping[int, Callable[[bytes], Iterator[bytes]]]] = {
    _EV_EFI_VARIABLE_BOOT: _variable_data,
    _EV_IPL: _ipl_text,
    _EV_PLATFORM_CONFIG_FLAGS: _td_shim_config,
}
