"""The PCK certificate: Intel's SGX extension and the platform it names.

Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification",
section 1.3.5 (OID 1.2.840.113741.1.13.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from ccverify.errors import EvidenceError
from ccverify.trust.der import (
    BOOLEAN,
    ENUMERATED,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    Tlv,
    decode_integer,
    read_tlv,
)
from ccverify.trust.x509 import Certificate

__all__ = ["SGX_EXTENSION_OID", "PckPlatform", "SgxType", "parse_pck_platform"]

SGX_EXTENSION_OID = "1.2.840.113741.1.13.1"
_OID = bytes.fromhex("2a864886f84d010d01")  # the same, as DER content octets


class SgxType(IntEnum):
    """Memory protection of the platform."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2


@dataclass(frozen=True, slots=True)
class PckPlatform:
    """What Intel certified of one platform.

    Attributes:
        ppid: platform provisioning id, 16 bytes: stable name of the machine.
        component_svns: the 16 TCB component SVNs, 0 to 255 each.
        pcesvn: SVN of the provisioning certification enclave.
        cpusvn: raw CPUSVN, 16 bytes.
        pceid: 2 bytes.
        fmspc: family, model, stepping, platform, custom SKU: 6 bytes.
        sgx_type: memory protection.
        platform_instance_id: 16 bytes; None on single-package platforms.
        dynamic_platform: packages can be added later; None where not stated.
        cached_keys: platform keys are held by Intel's registration service.
        smt_enabled: hyper-threading is on.
    """

    ppid: bytes
    component_svns: tuple[int, ...]
    pcesvn: int
    cpusvn: bytes
    pceid: bytes
    fmspc: bytes
    sgx_type: SgxType
    platform_instance_id: bytes | None = None
    dynamic_platform: bool | None = None
    cached_keys: bool | None = None
    smt_enabled: bool | None = None


def parse_pck_platform(certificate: Certificate) -> PckPlatform:
    """Read the SGX extension of a PCK leaf certificate.

    Raises:
        EvidenceError: the extension is absent or malformed, a field is missing, repeated or
            of the wrong type or length, or the TCB does not have exactly 16 SVNs.
    """
    value = certificate.private_extensions.get(SGX_EXTENSION_OID)
    if value is None:
        raise EvidenceError(
            "certificate has no SGX extension",
            expected=f"extension {SGX_EXTENSION_OID}",
            found=certificate.subject_text,
            where="PCK certificate",
        )
    return _parse_extension(value)


@lru_cache(maxsize=256)
def _parse_extension(value: bytes) -> PckPlatform:
    top = _items(_single_sequence(value), _OID)
    tcb = _items(_take(top, 2, SEQUENCE), _OID + b"\x02")
    configuration = _items(_take(top, 7, SEQUENCE), _OID + b"\x07") if 7 in top else {}
    sgx_type = decode_integer(_take(top, 5, ENUMERATED), EvidenceError)
    if sgx_type not in set(SgxType):
        raise EvidenceError("unknown SGX type in the PCK certificate", found=str(sgx_type))
    platform = PckPlatform(
        ppid=_octets(top, 1, 16),
        component_svns=tuple(_svn(tcb, index, 0xFF) for index in range(1, 17)),
        pcesvn=_svn(tcb, 17, 0xFFFF),
        cpusvn=_octets(tcb, 18, 16),
        pceid=_octets(top, 3, 2),
        fmspc=_octets(top, 4, 6),
        sgx_type=SgxType(sgx_type),
        platform_instance_id=_octets(top, 6, 16) if 6 in top else None,
        dynamic_platform=_boolean(configuration, 1),
        cached_keys=_boolean(configuration, 2),
        smt_enabled=_boolean(configuration, 3),
    )
    for name, rest in (("", top), (".2", tcb), (".7", configuration)):
        if rest:
            raise EvidenceError(
                "SGX extension has a field that is not understood",
                found=f"{SGX_EXTENSION_OID}{name}.{min(rest)}",
                where="PCK certificate",
            )
    return platform


def _single_sequence(value: bytes) -> bytes:
    tag, content, end = read_tlv(value, 0, EvidenceError)
    if tag != SEQUENCE or end != len(value):
        raise EvidenceError("SGX extension is not one DER SEQUENCE", where="PCK certificate")
    return content


def _items(value: bytes, under: bytes) -> dict[int, Tlv]:
    """Read a SEQUENCE OF (OID, value) whose OIDs are one arc, below 128, under `under`."""
    items: dict[int, Tlv] = {}
    at = 0
    while at < len(value):
        tag, pair, at = read_tlv(value, at, EvidenceError)
        oid_tag, oid, middle = read_tlv(pair, 0, EvidenceError)
        element = read_tlv(pair, middle, EvidenceError)
        if tag != SEQUENCE or oid_tag != OBJECT_IDENTIFIER or element[2] != len(pair):
            raise EvidenceError("SGX extension item is not (OID, value)", where="PCK certificate")
        if oid[:-1] != under or oid[-1] >= 0x80:
            raise EvidenceError("SGX extension item has a foreign OID", found=oid.hex())
        if oid[-1] in items:
            raise EvidenceError("SGX extension item appears twice", found=oid.hex())
        items[oid[-1]] = element
    return items


def _take(items: dict[int, Tlv], arc: int, tag: int) -> bytes:
    element = items.pop(arc, None)
    if element is None or element[0] != tag:
        raise EvidenceError(
            "SGX extension field is missing or of the wrong type",
            expected=f"item .{arc} with DER tag 0x{tag:02x}",
            found="nothing" if element is None else f"tag 0x{element[0]:02x}",
            where="PCK certificate",
        )
    return element[1]


def _octets(items: dict[int, Tlv], arc: int, size: int) -> bytes:
    value = _take(items, arc, OCTET_STRING)
    if len(value) != size:
        raise EvidenceError(
            "SGX extension field has the wrong length",
            expected=f"item .{arc} of {size} bytes",
            found=f"{len(value)} bytes",
            where="PCK certificate",
        )
    return value


def _svn(items: dict[int, Tlv], arc: int, maximum: int) -> int:
    value = decode_integer(_take(items, arc, INTEGER), EvidenceError)
    if not 0 <= value <= maximum:
        raise EvidenceError("SVN in the PCK certificate is out of range", found=str(value))
    return value


def _boolean(items: dict[int, Tlv], arc: int) -> bool | None:
    if arc not in items:
        return None
    value = _take(items, arc, BOOLEAN)
    if value not in (b"\x00", b"\xff"):
        raise EvidenceError("boolean in the PCK certificate is malformed", found=value.hex())
    return value == b"\xff"
