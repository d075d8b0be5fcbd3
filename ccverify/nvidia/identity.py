"""What the two certificates of a device itself say: identity, firmware and device info.

Certificate [1] is the device identity (its serial number is a type byte and the PDI);
certificate [0] is the attestation key, which carries the firmware id (FWID) in one of two DICE
extensions and the DMTF device info as a subjectAltName.  Everything here parses; that the
certificates are genuine is for `ccverify.nvidia.certs` to show.
"""

from __future__ import annotations

import re
from enum import Enum

from ccverify.errors import EvidenceError
from ccverify.trust.der import (
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    UTF8_STRING,
    read_tlv,
)
from ccverify.trust.signatures import EcPublicKey
from ccverify.trust.x509 import Certificate

__all__ = [
    "COMPOSITE_DEVICE_ID_OID",
    "DICE_TCB_INFO_OID",
    "DeviceType",
    "parse_certified_fwid",
    "parse_composite_device_id",
    "parse_device_id",
    "parse_device_info",
    "parse_dice_fwids",
]

COMPOSITE_DEVICE_ID_OID = "2.23.133.5.4.1"
"""CompositeDeviceID of RIoT and early DICE: Hopper and LS10 carry it in certificate [0]."""
DICE_TCB_INFO_OID = "2.23.133.5.4.1.1"
"""tcg-dice-TcbInfo (TCG DICE Attestation Architecture §6.1.1): Blackwell."""

_FWID_BYTES = 48

_SHA384 = bytes.fromhex("608648016503040202")  # OIDs as DER content octets
_SERIAL_NUMBER = bytes.fromhex("550405")
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")
_DMTF_DEVICE_INFO = bytes.fromhex("2b06010401831c821201")  # 1.3.6.1.4.1.412.274.1

_P384_SPKI = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")
"""DER of a P-384 SubjectPublicKeyInfo up to the point x ‖ y (RFC 5480)."""


class DeviceType(str, Enum):
    """What a device is; the values are those of NVIDIA's claim x-nvidia-device-type."""

    GPU = "gpu"
    NVSWITCH = "nvswitch"


_TYPE_BYTES = {0x41: DeviceType.GPU, 0x50: DeviceType.NVSWITCH}
"""First byte of certificate [1]'s serial number: "A" and "P"."""

_FWID_OIDS = (COMPOSITE_DEVICE_ID_OID, DICE_TCB_INFO_OID)
_EXTENSIONS = 0xA3  # TBSCertificate's [3] EXPLICIT
_CONTEXT_0 = 0xA0  # otherName among general names, and its EXPLICIT value
_FWID_LIST = 0xA6  # DiceTcbInfo's [6]

Element = tuple[int, bytes]
"""One DER element: tag byte and content octets."""

_DEVICE_SERIAL = re.compile(r"[0-9A-F]{18}")
_DEVICE_INFO = re.compile(r"([^:]{1,64}):([^:]{1,64}):([0-9A-Za-z._-]{1,64})")


def parse_device_id(certificate: Certificate, device_type: DeviceType) -> bytes:
    """Read the permanent device identifier (PDI) off certificate [1].

    Args:
        certificate: certificate [1].
        device_type: what the certificate's name says the device is.

    Returns:
        8 bytes, big endian: the serial number without its type byte.

    Raises:
        EvidenceError: the subject does not name exactly one device, its serialNumber is not the
            certificate's serial number, the type byte says otherwise, or the PDI is zero.
    """
    text = _device_serial(certificate.subject)
    serial = bytes.fromhex(text)
    if certificate.serial != int.from_bytes(serial, "big"):
        raise EvidenceError(
            "certificate [1] names one device in its subject and another by its serial number",
            expected=text,
            found=f"{certificate.serial:X}"[:64],
        )
    stated, device_id = _TYPE_BYTES.get(serial[0]), serial[1:]
    if stated is not device_type:
        raise EvidenceError(
            "certificate [1] has a type byte that does not fit its name",
            expected=device_type.value,
            found=f"0x{serial[0]:02x}" + (f" ({stated.value})" if stated else ""),
        )
    if not any(device_id):
        raise EvidenceError("certificate [1] has an all-zero device identifier")
    return device_id


def _device_serial(name: bytes) -> str:
    """The one serialNumber of a DER Name: type byte and PDI, 18 hexadecimal digits."""
    found = []
    for relative in _sequence(name):
        for _, pair in _elements(_content(relative, SET, "relative name")):
            kind, *values = _elements(pair)
            if kind == (OBJECT_IDENTIFIER, _SERIAL_NUMBER):
                found += values
    text = found[0][1].decode("ascii", "replace") if len(found) == 1 else ""
    if not _DEVICE_SERIAL.fullmatch(text):
        raise EvidenceError(
            "certificate [1] does not name a device",
            expected="one serialNumber of 18 upper-case hexadecimal digits",
            found=f"{len(found)} serialNumber(s) {text[:64]!a}",
        )
    return text


def parse_certified_fwid(leaf: Certificate, oid: str, identity_key: EcPublicKey) -> bytes:
    """Read the firmware id off certificate [0].

    Args:
        leaf: certificate [0].
        oid: the extension that the device's family uses.
        identity_key: the public key of certificate [1], to which the older form binds the FWID.

    Returns:
        SHA-384, 48 bytes.

    Raises:
        EvidenceError: not exactly that extension is there, it is malformed, it binds another
            key, or the FWID is zero.
    """
    carried = [known for known in _FWID_OIDS if known in leaf.private_extensions]
    if carried != [oid]:
        raise EvidenceError(
            "certificate [0] does not certify its firmware in the form of its family",
            expected=f"extension {oid}",
            found=" and ".join(carried) or "none",
        )
    value = leaf.private_extensions[oid]
    if oid == DICE_TCB_INFO_OID:
        fwid = parse_dice_fwids(value)[0]
    else:
        key, fwid = parse_composite_device_id(value)
        if key != identity_key:
            raise EvidenceError("certificate [0] binds its FWID to a key that is not the device's")
    if not any(fwid):
        raise EvidenceError("certificate [0] certifies an all-zero FWID")
    return fwid


def parse_composite_device_id(value: bytes) -> tuple[EcPublicKey, bytes]:
    """Parse extension 2.23.133.5.4.1 into the device identity key and its firmware's id.

    ``SEQUENCE { version INTEGER (1), deviceID SubjectPublicKeyInfo, fwid FWID }``

    Raises:
        EvidenceError: not exactly that, the key not on P-384, or the FWID not SHA-384.
    """
    elements = _sequence(value)
    if [tag for tag, _ in elements] != [INTEGER, SEQUENCE, SEQUENCE] or elements[0][1] != b"\x01":
        raise EvidenceError("CompositeDeviceID is not version 1, a key and a FWID")
    # DER has one form of an uncompressed P-384 key, so all but the point is constant.
    key = _P384_SPKI[:2] + elements[1][1]
    if len(key) != len(_P384_SPKI) + 96 or not key.startswith(_P384_SPKI):
        raise EvidenceError("CompositeDeviceID does not hold an uncompressed P-384 key")
    return EcPublicKey("P-384", key[len(_P384_SPKI) :]), _fwid(elements[2])


def parse_dice_fwids(value: bytes) -> tuple[bytes, ...]:
    """Parse extension 2.23.133.5.4.1.1 (DiceTcbInfo) as far as its list of firmware ids.

    The fields are context tags [0] to [11], each at most once and in ascending order; [6] is
    the list.  The first FWID is that of the firmware which holds the certified key.

    Raises:
        EvidenceError: not DER, a foreign field, no list, or an entry that is not SHA-384.
    """
    fwids: list[bytes] | None = None
    before = -1
    for tag, content in _sequence(value):
        number = tag & 0x1F
        if tag & 0xC0 != 0x80 or not before < number <= 11:
            raise EvidenceError("DiceTcbInfo has a misplaced field", found=f"tag 0x{tag:02x}")
        before = number
        if tag == _FWID_LIST:
            fwids = [_fwid(element) for element in _elements(content)]
    if not fwids:
        raise EvidenceError("DiceTcbInfo has no FWID")
    return tuple(fwids)


def _fwid(element: Element) -> bytes:
    """FWID ::= SEQUENCE { hashAlg OBJECT IDENTIFIER, digest OCTET STRING }, SHA-384 only."""
    algorithm, *digests = _elements(_content(element, SEQUENCE, "FWID"))
    if algorithm != (OBJECT_IDENTIFIER, _SHA384) or len(digests) != 1:
        raise EvidenceError("FWID is not a SHA-384 digest", found=algorithm[1][:32].hex())
    digest = _content(digests[0], OCTET_STRING, "FWID digest")
    if len(digest) != _FWID_BYTES:
        raise EvidenceError("FWID has the wrong length", found=f"{len(digest)} bytes")
    return digest


def parse_device_info(leaf: Certificate, chip: str) -> str | None:
    """Read the DMTF device info off certificate [0] (DSP0274, leaf certificate, otherName).

    Returns:
        "manufacturer:product:serial", or None where the certificate has none.

    Raises:
        EvidenceError: malformed, more than one, or not of NVIDIA and that chip.
    """
    texts = [
        content.decode("utf-8", "replace")
        for tag, name in _alternative_names(leaf.tbs)
        for content in _dmtf_texts(tag, name)
    ]
    if not texts:
        return None
    match = _DEVICE_INFO.fullmatch(texts[0])
    if len(texts) != 1 or match is None or match.group(1, 2) != ("NVIDIA", chip):
        raise EvidenceError(
            "certificate [0] has the device info of something else",
            expected=f"NVIDIA:{chip}:…",
            found=" and ".join(f"{text[:64]!a}" for text in texts[:4]),
        )
    return texts[0]


def _alternative_names(tbs: bytes) -> list[Element]:
    """The names of the subjectAltName extension, whose form `cryptography` has checked."""
    for field_tag, explicit in _sequence(tbs):
        if field_tag == _EXTENSIONS:
            for element in _sequence(explicit):
                extension = _elements(_content(element, SEQUENCE, "extension"))
                if extension[0] == (OBJECT_IDENTIFIER, _SUBJECT_ALT_NAME):
                    return _sequence(extension[-1][1])
    return []


def _dmtf_texts(tag: int, name: bytes) -> list[bytes]:
    """The text of an otherName of DMTF's device-info type; none for any other name."""
    if tag != _CONTEXT_0:
        return []
    kind, *values = _elements(name)
    if kind != (OBJECT_IDENTIFIER, _DMTF_DEVICE_INFO):
        return []
    explicit = b"".join(_content(value, _CONTEXT_0, "otherName") for value in values)
    return [_content(element, UTF8_STRING, "device info") for element in _elements(explicit)]


# --- DER -----------------------------------------------------------------------------------------


def _elements(content: bytes) -> list[Element]:
    """Tag and content of each of the elements, at least one, that make up `content`."""
    elements = []
    at = 0
    while at < len(content):
        tag, value, at = read_tlv(content, at, EvidenceError)
        elements.append((tag, value))
    if not elements:
        raise EvidenceError("DER structure is empty")
    return elements


def _sequence(value: bytes) -> list[Element]:
    """The elements of a value that is one SEQUENCE and nothing else."""
    tag, content, end = read_tlv(value, 0, EvidenceError)
    if tag != SEQUENCE or end != len(value):
        raise EvidenceError("DER value is not one SEQUENCE", found=f"tag 0x{tag:02x}")
    return _elements(content)


def _content(element: Element, tag: int, what: str) -> bytes:
    if element[0] != tag:
        raise EvidenceError(
            f"{what} has the wrong DER type",
            expected=f"tag 0x{tag:02x}",
            found=f"tag 0x{element[0]:02x}",
        )
    return element[1]
