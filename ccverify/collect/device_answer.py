"""One device's answer → an item of the bundle, or why there is none.

Every source of device evidence ends here, so that they all demand the same: a report of a
sane size, which carries the nonce that was asked, and a PEM chain without the zeros of the
buffer it came in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ccverify.bundle.items import DeviceItem, encode_device
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType, Outcome

__all__ = [
    "MAX_CHAIN_BYTES",
    "MAX_REPORT_BYTES",
    "NONCE_AT",
    "device_outcome",
]

MAX_REPORT_BYTES: Final = 8192
MAX_CHAIN_BYTES: Final = 64 * 1024
NONCE_AT: Final = slice(4, 36)
"""Where a report carries the requester's nonce (DSP0274 1.1, GET_MEASUREMENTS)."""
_MAX_TEXT: Final = 128
_PEM: Final = b"-----BEGIN CERTIFICATE-----"
_REQUEST: Final = b"\x11\xe0"
_AGAIN: Final = "collect again; if it stays, see dmesg for messages of the driver"


def device_outcome(
    label: str, kind: ItemType, answer: DeviceItem, *, nonce: bytes, source: str
) -> Outcome:
    """Check one answer and make it an item; a failed check is an absence of reason FAILED."""
    chain = answer.chain.rstrip(b"\0")
    problem, remedy = _problem(answer.report, chain, nonce)
    if problem is not None:
        return Absence(label, AbsenceReason.FAILED, problem, remedy, source)
    item = replace(
        answer,
        chain=chain,
        architecture=_stated(answer.architecture),
        uuid=_stated(answer.uuid),
        driver=_stated(answer.driver),
    )
    return Item(label, kind, encode_device(item), source)


def _problem(report: bytes, chain: bytes, nonce: bytes) -> tuple[str | None, str]:
    if not NONCE_AT.stop < len(report) <= MAX_REPORT_BYTES:
        text = f"the report has {len(report)} bytes, not {NONCE_AT.stop + 1} to {MAX_REPORT_BYTES}"
        return text, _AGAIN
    if report[:2] != _REQUEST:
        text = f"the report begins {report[:2].hex()}, not {_REQUEST.hex()} (SPDM 1.1 request)"
        return text, _AGAIN
    if report[NONCE_AT] != nonce:
        text = f"the report carries nonce {report[NONCE_AT].hex()}, asked was {nonce.hex()}"
        return text, f"ask the device for a report with nonce {nonce.hex()}"
    if not chain.lstrip().startswith(_PEM) or len(chain) > MAX_CHAIN_BYTES:
        text = f"the certificate chain is no PEM of at most {MAX_CHAIN_BYTES} bytes"
        return f"{text}: {len(chain)} bytes, beginning {chain[:16]!r}", _AGAIN
    return None, ""


def _stated(text: str | None) -> str | None:
    """What a driver asserts, if it is a text that an item can hold."""
    return text if text and len(text) <= _MAX_TEXT and text.isprintable() else None
