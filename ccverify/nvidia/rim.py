"""Reference integrity manifests (RIM): NVIDIA's signed golden measurements.

Source: TCG Reference Integrity Manifest Information Model 1.01 in ISO/IEC 19770-2:2015 (SWID)
form, as NVIDIA fills it: one ``Meta`` and one ``Payload`` of ``Resource`` elements.

A RIM counts measurements from 0; RIM index i is SPDM measurement block i + 1.  RIM indices
are what NVIDIA's tools and issue trackers call a measurement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from ccverify.errors import CollateralError
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.path import CertificateRole, path_validity_problem, verify_path
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import Certificate
from ccverify.trust.xmldsig import (
    SignedXml,
    XmlElement,
    parse_signed_xml,
    read_content,
    verify_signed_xml,
)

__all__ = [
    "CHIP",
    "DRIVER_VERSION",
    "VBIOS_VERSION",
    "GoldenMeasurement",
    "Rim",
    "RimKind",
    "RimVerification",
    "parse_rim",
    "verify_rim",
]

SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
TCG_RIM = (
    "https://trustedcomputinggroup.org/resource/"
    "tcg-reference-integrity-manifest-rim-information-model/"
)
SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
NVIDIA = "5703"
"""NVIDIA's IANA private enterprise number."""

MEASUREMENT_BYTES = 48
MAX_INDEX = 0xFE - 1
"""SPDM numbers measurement blocks 1 to 0xFE (DSP0274, GET_MEASUREMENTS)."""

VBIOS_VERSION = re.compile(r"[0-9A-F]{2}(?:\.[0-9A-F]{2}){4}")
DRIVER_VERSION = re.compile(r"[0-9]{3,4}(?:\.[0-9]{1,4}){1,3}")
CHIP = re.compile(r"[A-Z0-9]{3,12}")


class RimKind(str, Enum):
    """What a RIM measures."""

    DRIVER = "driver"
    VBIOS = "vbios"
    SWITCH_BIOS = "switch-bios"


@dataclass(frozen=True, slots=True)
class GoldenMeasurement:
    """One Resource: the values (48 bytes each) of which measurement `index` may have any.

    An inactive one says nothing; its values are placeholders.
    """

    index: int
    name: str
    active: bool
    alternatives: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Rim:
    """A RIM as it reads, which proves nothing until `verify_rim` has seen it.

    Attributes:
        kind: from edition and the form of the version.
        version: colloquialVersion: of the driver (``550.144.03``) or, in upper case, of the
            VBIOS or switch BIOS (``96.00.5E.00.01``).
        model: PlatformModel, the chip: ``GH100``, ``GB100``, ``LS10``.
        tag_id: 96 hex digits.  NVIDIA's edited test manifests repeat it: never a key.
        measurements: RIM index → golden values.
        document: the XML, taken apart for `verify_rim`.
    """

    kind: RimKind
    version: str
    model: str
    tag_id: str
    measurements: Mapping[int, GoldenMeasurement] = field(repr=False)
    document: SignedXml = field(repr=False, compare=False)

    @property
    def title(self) -> str:
        """What people call it, such as ``driver RIM GH100 550.144.03``."""
        return f"{self.kind.value} RIM {self.model} {self.version}"

    @property
    def golden(self) -> dict[int, frozenset[bytes]]:
        """The values of the active measurements."""
        active = (each for each in self.measurements.values() if each.active)
        return {each.index: frozenset(each.alternatives) for each in active}


# --- reading -------------------------------------------------------------------------------------


def parse_rim(data: bytes) -> Rim:
    """Parse a RIM for inspection, or for `verify_rim`.

    Raises:
        CollateralError: not a signed XML document of the accepted form (`parse_signed_xml`),
            not a SWID tag of NVIDIA's, or a measurement is malformed or repeated.
    """
    document = parse_signed_xml(data, frozenset({SWID, TCG_RIM, SHA384}))
    return _read(document.content, document)


class _Content(NamedTuple):
    kind: RimKind
    version: str
    model: str
    tag_id: str
    measurements: Mapping[int, GoldenMeasurement]


def _read(content: bytes, document: SignedXml) -> Rim:
    """Read a RIM from the canonical octets of its document, and from nothing else."""
    read = _read_content if len(content) <= _REMEMBERED_BYTES else _read_content.__wrapped__
    return Rim(*read(content), document)


# A pure function of the octets: remembering it remembers no decision.  It is asked again for
# each device and when a signature has been found good, and NVIDIA's manifests have 26 KB.
_REMEMBERED_BYTES = 64 * 1024


@lru_cache(maxsize=64)
def _read_content(content: bytes) -> _Content:
    """Read direct children of the root alone."""
    root = read_content(content)
    if root.name != f"{{{SWID}}}SoftwareIdentity":
        raise CollateralError("RIM is not a SWID tag", found=root.name)
    by_name: dict[str, list[XmlElement]] = {}
    for child in root.children:
        by_name.setdefault(child.name.removeprefix(f"{{{SWID}}}"), []).append(child)
    counts = {name: len(found) for name, found in by_name.items()}
    if counts != {"Entity": 1, "Meta": 1, "Payload": 1} or root.text.strip():
        raise _bad("content of the SWID tag", "one Entity, one Meta, one Payload", str(counts))
    for leaf in (by_name["Entity"][0], by_name["Meta"][0]):
        if leaf.children or leaf.text.strip():
            raise _bad("content of the SWID tag", "an empty Entity and Meta", leaf.name)
    tag_id = root.attributes.get("tagId", "")
    if not re.fullmatch(r"[0-9a-f]{96}", tag_id):
        raise _bad("tagId", "96 hex digits", tag_id)
    kind, version, model = _read_meta(by_name["Meta"][0])
    measurements = _read_payload(by_name["Payload"][0])
    return _Content(kind, version, model, tag_id, MappingProxyType(measurements))


_META = {
    "PayloadType": "direct",
    f"{{{TCG_RIM}}}BindingSpec": "RIMIM",
    f"{{{TCG_RIM}}}PlatformManufacturerId": NVIDIA,
    f"{{{TCG_RIM}}}FirmwareManufacturerId": NVIDIA,
}
"""Attributes of Meta that must have one value."""


def _read_meta(meta: XmlElement) -> tuple[RimKind, str, str]:
    for name, value in _META.items():
        if meta.attributes.get(name) != value:
            raise _bad(name.rpartition("}")[2], value, meta.attributes.get(name, "nothing"))
    version = meta.attributes.get("colloquialVersion", "").upper()
    edition = meta.attributes.get("edition", "")
    model = meta.attributes.get(f"{{{TCG_RIM}}}PlatformModel", "")
    if not CHIP.fullmatch(model):
        raise _bad("PlatformModel", "capital letters and digits", model)
    if edition == "GPU" and DRIVER_VERSION.fullmatch(version):
        return RimKind.DRIVER, version, model
    if edition in ("GPU", "SWITCH") and VBIOS_VERSION.fullmatch(version):
        return (RimKind.VBIOS if edition == "GPU" else RimKind.SWITCH_BIOS), version, model
    raise _bad(
        "edition and colloquialVersion",
        "GPU with 550.90.07 or 96.00.5E.00.01, or SWITCH with 96.10.55.00.01",
        f"{edition} with {version}",
    )


def _read_payload(payload: XmlElement) -> dict[int, GoldenMeasurement]:
    if payload.text.strip():
        raise _bad("Payload", "elements alone", repr(payload.text.strip()))
    measurements: dict[int, GoldenMeasurement] = {}
    for position, resource in enumerate(payload.children):
        golden = _read_resource(resource, f"Payload/*[{position + 1}]")
        if golden.index in measurements:
            raise _bad("measurement", "each index once", f"index {golden.index} twice")
        measurements[golden.index] = golden
    return measurements


_WORD = re.compile(r"[A-Za-z0-9_]{1,64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
_HASH = re.compile(r"[0-9a-fA-F]{96}")
_HASH_NAMES = tuple(f"{{{SHA384}}}Hash{number}" for number in range(100))
_RESOURCE = f"{{{SWID}}}Resource"


def _read_resource(resource: XmlElement, where: str) -> GoldenMeasurement:
    given = dict(resource.attributes)
    if resource.name != _RESOURCE or resource.children or resource.text:
        raise _bad("Payload", "empty Resource elements alone", resource.name, where)
    if given.pop("type", None) != "Measurement" or given.pop("size", None) != "48":
        raise _bad("Resource", 'type="Measurement" size="48"', str(given), where)
    name, active = given.pop("name", ""), given.pop("active", "")
    if active not in ("True", "False") or not _WORD.fullmatch(name):
        raise _bad("active and name of a Resource", "True or False; a word", f"{active} {name}")
    index = _number(given.pop("index", ""), 0, MAX_INDEX, "index", where)
    count = _number(given.pop("alternatives", ""), 1, len(_HASH_NAMES), "alternatives", where)
    names = _HASH_NAMES[:count]
    if given.keys() != set(names):
        raise _bad("values of a Resource", f"Hash0 to Hash{count - 1}", str(sorted(given)), where)
    for value in given.values():
        if not _HASH.fullmatch(value):
            raise _bad("Hash of a Resource", f"{MEASUREMENT_BYTES} bytes in hex", value, where)
    alternatives = tuple(bytes.fromhex(given[each]) for each in names)
    return GoldenMeasurement(index, name, active == "True", alternatives)


def _number(text: str, least: int, most: int, what: str, where: str) -> int:
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise _bad(f"{what} of a Resource", f"{least} to {most}", text, where)
    return int(text)


def _bad(what: str, expected: str, found: str, where: str | None = None) -> CollateralError:
    return CollateralError(f"RIM: {what}", expected=expected, found=found[:400], where=where)


# --- verifying -----------------------------------------------------------------------------------

_SIGNER_CHAIN = (
    (re.compile(r"(?:HCC )?RIM L4 Signer|NVIDIA Reference Value L4 .+"), "… RIM L4 Signer", False),
    (re.compile(r"NVIDIA Reference Value L3 .+"), "NVIDIA Reference Value L3 …", True),
    (
        re.compile(r"NVIDIA Reference Value .+ CA(?: [0-9]{3})?"),
        "NVIDIA Reference Value … CA",
        True,
    ),
)
"""Below the root, signer first: form of the common name, its text, whether a CA."""


@dataclass(frozen=True, slots=True)
class RimVerification:
    """What was found out about one RIM; each problem is None where the step passed.

    Attributes:
        rim: read again from the elements that were digested; None unless the signature and the
            chain are good.  Compare only this one.
        signature_problem: digest and signature value, under the key of the first certificate.
        chain_problem: from that certificate to the pinned root.
        validity_problem: validity periods of chain and root at the time given.
        valid_until: when the first certificate of the chain expires.
    """

    rim: Rim | None
    signature_problem: str | None
    chain_problem: str | None
    validity_problem: str | None
    valid_until: datetime

    @property
    def problem(self) -> str | None:
        """The first problem."""
        return self.signature_problem or self.chain_problem or self.validity_problem


def verify_rim(
    rim: Rim, root: TrustAnchor, memory: SignatureMemory, now: datetime
) -> RimVerification:
    """Verify who signed a RIM, and whether that signer's certificates are valid at `now`.

    Expired signers are the rule: a RIM stays in use for years, its signer is certified for
    two.  So expiry is reported apart from authenticity, for the policy to judge.
    """
    verified = verify_signed_xml(rim.document, memory)
    chain = rim.document.certificates
    path = verify_path(chain, _roles(chain), root, memory)
    problem = None if path.problem is None else f"its signer's chain: {path.problem}"
    authentic = None
    if verified.content is not None and problem is None:
        authentic = _read(verified.content, rim.document)
    return RimVerification(
        rim=authentic,
        signature_problem=verified.problem,
        chain_problem=problem,
        validity_problem=path_validity_problem(path.certificates, root, now),
        valid_until=min([root.not_after, *(each.not_after for each in path.certificates)]),
    )


def _roles(chain: Sequence[Certificate]) -> list[CertificateRole]:
    """The roles of a signer chain, with those common names that have the right form."""
    names = [certificate.common_name or "" for certificate in chain[:3]]
    names += [""] * (len(_SIGNER_CHAIN) - len(names))
    return [
        CertificateRole((name if form.fullmatch(name) else text,), is_ca, "P-384")
        for name, (form, text, is_ca) in zip(names, _SIGNER_CHAIN, strict=True)
    ]
