"""Lists of NVIDIA device evidence, which nearly all formats carry alike.

One item is ``{"evidence": base64 report, "certificate": base64 of a PEM chain, "arch", "nonce"}``
(NVIDIA attestation-sdk, NRAS request, ppcie-verifier, and every service built on them).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ccverify.evidence import Assertion, DeviceEvidence
from ccverify.interop.elements import Element

__all__ = [
    "MAX_CHAIN_BYTES",
    "MAX_DEVICES",
    "MAX_REPORT_BYTES",
    "NONCE_BYTES",
    "assertions",
    "parse_device",
    "parse_devices",
    "split_devices",
]

MAX_DEVICES: Final = 128
"""Most devices of one node.  An HGX board has 8 GPUs and 4 switches, an NVL72 rack 72 GPUs."""
MAX_REPORT_BYTES: Final = 64 * 1024
"""Largest device report.  Real ones take 2 to 4.3 KB."""
MAX_CHAIN_BYTES: Final = 64 * 1024
"""Largest PEM chain.  Real ones take 4.8 KB."""
NONCE_BYTES: Final = 32

_SWITCH_ARCHITECTURES: Final = frozenset({"LS10"})
_ASSERTED: Final = ("driver_version", "vbios_version", "version", "uuid")
_MAX_SCALAR: Final = 1024
_PEM: Final = b"-----BEGIN CERTIFICATE-----"


def parse_devices(
    items: Sequence[Element],
    *,
    architecture: str | None = None,
    nonce: bytes | None = None,
    hex_reports: bool = False,
) -> tuple[tuple[DeviceEvidence, ...], tuple[DeviceEvidence, ...]]:
    """Read a list of device items and split it into GPUs and switches.

    Args:
        items: the items.
        architecture: what the list as a whole claims, for items that do not say.
        nonce: likewise.
        hex_reports: reports may be hex (older guest-components) as well as base64.

    Raises:
        EvidenceError: an item lacks its report or certificates, or they are not base64, too
            large, or (the certificates) not PEM.
    """
    return split_devices(parse_device(item, architecture, nonce, hex_reports) for item in items)


def split_devices(
    devices: Iterable[DeviceEvidence],
) -> tuple[tuple[DeviceEvidence, ...], tuple[DeviceEvidence, ...]]:
    """Split devices into GPUs and switches by the architecture they claim."""
    listed = tuple(devices)
    switches = tuple(d for d in listed if d.claimed_architecture in _SWITCH_ARCHITECTURES)
    gpus = tuple(d for d in listed if d.claimed_architecture not in _SWITCH_ARCHITECTURES)
    return gpus, switches


def parse_device(
    item: Element,
    architecture: str | None = None,
    nonce: bytes | None = None,
    hex_reports: bool = False,
) -> DeviceEvidence:
    """Read one device item; arguments as of `parse_devices`."""
    chain = item.member("certificate")
    pem = chain.base64(most=MAX_CHAIN_BYTES)
    if not pem.lstrip().startswith(_PEM):
        raise chain.wrong("base64 of a PEM certificate chain")
    stated = item.optional("arch")
    own_nonce = item.optional("nonce")
    return DeviceEvidence(
        report=_report(item.member("evidence"), hex_reports),
        certificate_chain=pem,
        claimed_architecture=stated.text(most=64).upper() if stated else architecture,
        claimed_nonce=own_nonce.hex(least=NONCE_BYTES, most=NONCE_BYTES) if own_nonce else nonce,
        source=item.path,
        asserted=assertions(item, _ASSERTED),
    )


def _report(element: Element, hex_allowed: bool) -> bytes:
    # An SPDM request begins with 0x11 0xE0: "11e0" in hex and "EeA" in base64, so the two
    # spellings of a real report cannot be taken for each other.
    if hex_allowed and isinstance(element.value, str) and element.value[:4].lower() == "11e0":
        return element.hex(most=MAX_REPORT_BYTES)
    return element.base64(most=MAX_REPORT_BYTES)


def assertions(element: Element, names: Iterable[str]) -> tuple[Assertion, ...]:
    """Collect those of the named members that are there; each must be a short JSON scalar."""
    found = []
    for name in names:
        stated = element.optional(name)
        if stated is None:
            continue
        if isinstance(stated.value, str):
            stated.text(most=_MAX_SCALAR, least=0)
        elif not isinstance(stated.value, int | float):
            raise stated.wrong("a string, a number or a boolean")
        found.append(Assertion(name, stated.value, stated.path))
    return tuple(found)
