"""The item of a bundle that holds one NVIDIA device: report and certificates, in CBOR.

Report and chain are as the driver returns them and speak for themselves.  Architecture, UUID
and driver version are what the driver says about the device: asserted, and nothing rests on them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from ccverify.bundle.cbor import decode, encode
from ccverify.errors import EvidenceError, UsageError
from ccverify.evidence import Assertion, DeviceEvidence

__all__ = ["DeviceItem", "device_evidence", "encode_device", "parse_device"]

MAX_REPORT_BYTES: Final = 64 * 1024
"""Largest device report.  Real ones take 2 to 4.3 KB."""
MAX_CHAIN_BYTES: Final = 64 * 1024
"""Largest PEM chain.  Real ones take 4.8 KB."""
_MAX_TEXT: Final = 128
_LARGEST: Final = MAX_REPORT_BYTES + MAX_CHAIN_BYTES + 3 * 4 * _MAX_TEXT + 256


@dataclass(frozen=True, slots=True)
class DeviceItem:
    """One GPU or NVSwitch.

    Attributes:
        report: SPDM GET_MEASUREMENTS request and response, 1 to 65536 bytes.
        chain: PEM certificates, 1 to 65536 bytes.
        architecture: as the driver names it (``HOPPER``); asserted.
        uuid: as the driver says; asserted.
        driver: version of the driver that was asked; asserted.
    """

    report: bytes
    chain: bytes
    architecture: str | None = None
    uuid: str | None = None
    driver: str | None = None


_BYTES: Final = {"report": MAX_REPORT_BYTES, "chain": MAX_CHAIN_BYTES}
_NAMES: Final = tuple(field.name for field in fields(DeviceItem))


def encode_device(item: DeviceItem) -> bytes:
    """Encode in deterministic CBOR.

    Raises:
        UsageError: what a reader would refuse.
    """
    members = {name: getattr(item, name) for name in _NAMES}
    for name, value in members.items():
        expected = _expected(name, value)
        if expected:
            raise UsageError(f"device item has an unusable {name}", expected=expected)
    return encode(members)


def parse_device(data: bytes, *, what: str = "device item") -> DeviceItem:
    """Parse one device item.

    Raises:
        EvidenceError: malformed; a member missing, of a wrong type or size, or one too many.
    """
    members = decode(data, what=what, error=EvidenceError, limit=_LARGEST)
    if not isinstance(members, dict) or set(members) != set(_NAMES):
        raise EvidenceError(f"{what} is malformed", expected="a map with " + ", ".join(_NAMES))
    for name, value in members.items():
        expected = _expected(name, value)
        if expected:
            raise EvidenceError(f"{what} has an unusable member", where=name, expected=expected)
    return DeviceItem(**members)


def _expected(name: str, value: Any) -> str | None:
    """Say what a member must be; None if it is."""
    if name in _BYTES:
        fits = isinstance(value, bytes) and 0 < len(value) <= _BYTES[name]
        return None if fits else f"1 to {_BYTES[name]} bytes"
    fits = value is None or (isinstance(value, str) and 0 < len(value) <= _MAX_TEXT)
    return None if fits else f"null, or text of 1 to {_MAX_TEXT} characters"


def device_evidence(label: str, item: DeviceItem) -> DeviceEvidence:
    """Return the item in the form in which every device is judged."""
    said = (("uuid", item.uuid), ("driver_version", item.driver))
    return DeviceEvidence(
        report=item.report,
        certificate_chain=item.chain,
        claimed_architecture=item.architecture.upper() if item.architecture else None,
        claimed_nonce=None,
        source=label,
        asserted=tuple(Assertion(name, text, f"{label}.{name}") for name, text in said if text),
    )
