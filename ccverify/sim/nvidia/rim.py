"""Reference integrity manifests in the form of NVIDIA's: SWID XML with an XML signature.

ISO/IEC 19770-2:2015 with the attributes of TCG's RIM Information Model 1.01, signed enveloped:
Canonical XML 1.1 (inclusive), SHA-384, ECDSA on P-384 with r‖s, signer chain in KeyInfo.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import Literal

from ccverify.sim.certs import CertificateSpec
from ccverify.sim.keys import SimKey
from ccverify.sim.nvidia.pki import ORGANIZATION, certificate_der
from ccverify.sim.nvidia.xml import XmlNode

__all__ = ["GoldenValue", "RimEdition", "RimSpec"]

RimEdition = Literal["GPU", "SWITCH"]

_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_RIM = (
    "https://trustedcomputinggroup.org/resource/"
    "tcg-reference-integrity-manifest-rim-information-model/"
)
_HASH = "http://www.w3.org/2001/04/xmlenc#sha384"
_DS = "http://www.w3.org/2000/09/xmldsig#"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_ENVELOPED = _DS + "enveloped-signature"
_ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_DIGEST = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_NVIDIA = "5703"

_NAMESPACES = (("", _SWID), ("ns0", _SWID), ("ns2", _HASH))


@dataclass(frozen=True, slots=True)
class GoldenValue:
    """One Resource.

    Attributes:
        index: from 0; SPDM block index - 1.
        values: alternatives, 48 bytes each.
        active: whether it says anything.
        name: None for ``Measurement_<index>``.
    """

    index: int
    values: tuple[bytes, ...] = (bytes(48),)
    active: bool = True
    name: str | None = None

    def node(self) -> XmlNode:
        """Return the element."""
        hashes = ((f"ns2:Hash{at}", value.hex()) for at, value in enumerate(self.values))
        return XmlNode(
            "ns0:Resource",
            (
                ("type", "Measurement"),
                ("index", str(self.index)),
                ("active", str(self.active)),
                ("alternatives", str(len(self.values))),
                *hashes,
                ("name", f"Measurement_{self.index}" if self.name is None else self.name),
                ("size", "48"),
            ),
        )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _lines(text: str) -> str:
    """Text in lines of 64 characters, each ended."""
    return "".join(f"{text[at : at + 64]}\n" for at in range(0, len(text), 64))


def _ds(name: str, *children: XmlNode | str, algorithm: str | None = None) -> XmlNode:
    attributes = () if algorithm is None else (("Algorithm", algorithm),)
    return XmlNode(f"ds:{name}", attributes, (), children)


@dataclass(frozen=True, slots=True, kw_only=True)
class RimSpec:
    """A manifest to be made.

    Attributes:
        file_name: what it is filed under; not part of what is signed.
        edition: ``GPU`` or ``SWITCH``.
        version: colloquialVersion: of the driver, VBIOS or switch BIOS.
        model: the chip.
        resources: golden values, in the order of the file.
        chain: signer's certificate first, root last; all go into KeyInfo.
        tag_id: None for 96 hex digits that belong to chip, edition and version.
        meta: (attribute of Meta as written, value), replaced or added.
        manufacturer: text of Entity and Meta.
        signer: another key than that of the first certificate.
        digest: 48 bytes instead of the true digest; signed all the same.
        signature: r‖s, 96 bytes, instead of a genuine one.
    """

    file_name: str
    edition: RimEdition
    version: str
    model: str
    resources: tuple[GoldenValue, ...]
    chain: tuple[CertificateSpec, ...]
    tag_id: str | None = None
    meta: tuple[tuple[str, str], ...] = ()
    manufacturer: str = ORGANIZATION
    signer: SimKey | None = None
    digest: bytes | None = None
    signature: bytes | None = None

    def xml(self) -> bytes:
        """Return the signed file, UTF-8."""
        root = self._root()
        digest = hashlib.sha384(root.canonical()).digest() if self.digest is None else self.digest
        signed_info = self._signed_info(digest)
        scope = {**dict(_NAMESPACES), "ds": _DS}
        signer = self.signer or self.chain[0].key
        signature = self.signature
        if signature is None:
            signature = signer.sign_raw(signed_info.canonical(scope))
        certificates = (
            _ds("X509Certificate", _lines(_base64(certificate_der(one)))) for one in self.chain
        )
        node = XmlNode(
            "ds:Signature",
            (),
            (("ds", _DS),),
            (
                signed_info,
                _ds("SignatureValue", _base64(signature)),
                _ds("KeyInfo", _ds("X509Data", *certificates)),
            ),
        )
        signed = replace(root, children=(*root.children, node))
        return (signed.text() + "\n").encode("utf-8")

    def with_golden(self, index: int, *values: bytes, active: bool = True) -> RimSpec:
        """Return the manifest with other golden values at `index`; it is signed again."""
        new = GoldenValue(index, values or (bytes(48),), active)
        changed = tuple(new if own.index == index else own for own in self.resources)
        return replace(self, resources=changed)

    def _root(self) -> XmlNode:
        named = f"{self.model} {self.edition} {self.version}"
        tag_id = hashlib.sha384(f"ccverify simulation: RIM {named}".encode()).hexdigest()
        payload: list[XmlNode | str] = []
        for resource in self.resources:
            payload += ["\n        ", resource.node()]
        return XmlNode(
            "SoftwareIdentity",
            (
                ("corpus", "false"),
                ("name", self.model),
                ("patch", "false"),
                ("supplemental", "false"),
                ("tagId", tag_id if self.tag_id is None else self.tag_id),
                ("version", "1.0"),
                ("tagVersion", "0"),
            ),
            _NAMESPACES,
            (
                "\n    ",
                XmlNode(
                    "ns0:Entity",
                    (("name", self.manufacturer), ("role", "softwareCreator tagCreator")),
                ),
                "\n    ",
                XmlNode("ns0:Meta", self._meta(), (("ns1", _RIM),)),
                "\n    ",
                XmlNode("ns0:Payload", (), (("SHA384", _HASH),), (*payload, "\n    ")),
                "\n",
            ),
        )

    def _meta(self) -> tuple[tuple[str, str], ...]:
        stated = {
            "colloquialVersion": self.version,
            "edition": self.edition,
            "product": self.model,
            "revision": "r1",
            "PayloadType": "direct",
            "ns1:BindingSpec": "RIMIM",
            "ns1:BindingSpecVersion": "1.01",
            "ns1:PlatformManufacturerId": _NVIDIA,
            "ns1:PlatformManufacturerStr": self.manufacturer,
            "ns1:PlatformModel": self.model,
            "ns1:FirmwareManufacturer": self.manufacturer,
            "ns1:FirmwareManufacturerId": _NVIDIA,
        }
        return tuple((stated | dict(self.meta)).items())

    @staticmethod
    def _signed_info(digest: bytes) -> XmlNode:
        reference = XmlNode(
            "ds:Reference",
            (("URI", ""),),
            (),
            (
                _ds(
                    "Transforms",
                    _ds("Transform", algorithm=_ENVELOPED),
                    _ds("Transform", algorithm=_C14N),
                ),
                _ds("DigestMethod", algorithm=_DIGEST),
                _ds("DigestValue", _base64(digest)),
            ),
        )
        return _ds(
            "SignedInfo",
            _ds("CanonicalizationMethod", algorithm=_C14N),
            _ds("SignatureMethod", algorithm=_ECDSA_SHA384),
            reference,
        )
