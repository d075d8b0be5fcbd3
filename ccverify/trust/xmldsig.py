"""XML signatures, reduced to the one form in which vendors sign their manifests.

Source: W3C XMLDSig 1.1 and Canonical XML 1.1.  Accepted is exactly one enveloped signature,
a direct child of the root, with one reference to the whole document; SHA-384; ECDSA P-384
with r ‖ s.  Everything else that XMLDSig allows is refused, because attacks on XML signatures
(wrapping, foreign transforms, `ds:Object`, external references) live there.

XML is parsed by libxml2, but only after `_scan` has seen that it is a small document of
elements, attributes and text: no declarations, comments, CDATA, processing instructions or
references of any kind reach the parser.  What is handed out is read from the canonical octets
that were digested, never from the document that arrived.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lxml import etree  # type: ignore[import-untyped]

from ccverify.errors import CollateralError
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import Certificate, parse_certificate

__all__ = [
    "DS",
    "MAX_XML_BYTES",
    "SignedXml",
    "VerifiedXml",
    "XmlElement",
    "parse_signed_xml",
    "read_content",
    "verify_signed_xml",
]

DS = "http://www.w3.org/2000/09/xmldsig#"
C14N_11 = "http://www.w3.org/2006/12/xml-c14n11"
ENVELOPED = DS + "enveloped-signature"
ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"

MAX_XML_BYTES = 256 * 1024
"""NVIDIA's manifests have about 26 KB."""
MAX_ELEMENTS = 1024
MAX_DEPTH = 16
MAX_ATTRIBUTES = 128
"""Per element."""
MAX_NAMES = 256
"""Different names in one document: libxml2 keeps them all (`_in_own_thread`)."""
MAX_CERTIFICATES = 8


@dataclass(frozen=True, slots=True)
class XmlElement:
    """One element as plain data.

    Attributes:
        name: in Clark notation, ``{namespace}local``.
        attributes: name in Clark notation → value; namespace declarations are not attributes.
        text: all character data directly inside it.
        children: the elements directly inside it.
    """

    name: str
    attributes: Mapping[str, str]
    text: str
    children: tuple[XmlElement, ...]


@dataclass(frozen=True, slots=True)
class SignedXml:
    """A document taken apart into content and signature; nothing is verified yet.

    Attributes:
        content: the canonical octets to digest: the document without its signature.
        signed_info: the canonical octets that the signature value signs.
        digest: what `content` must digest to, 48 bytes.
        signature: ECDSA P-384 r ‖ s, big endian, 96 bytes.
        certificates: from KeyInfo; the first one's key is the signing key.
    """

    content: bytes = field(repr=False)
    signed_info: bytes = field(repr=False)
    digest: bytes
    signature: bytes
    certificates: tuple[Certificate, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class VerifiedXml:
    """The outcome: why the signature is not good, or exactly the octets that it covers.

    Whoever wants the elements reads them from these octets, with `read_content`.
    """

    problem: str | None
    content: bytes | None = field(repr=False)


def parse_signed_xml(data: bytes, namespaces: frozenset[str]) -> SignedXml:
    """Take a signed document apart.

    Args:
        data: UTF-8, at most `MAX_XML_BYTES`; an XML 1.0 declaration may come first.
        namespaces: the only namespaces that may be declared, beside XMLDSig's own.

    Raises:
        CollateralError: not such a document; something other than elements, attributes and
            text in it; over a limit; or the signature is not of the one accepted form.
    """
    document = _scan(bytes(data), namespaces | {DS})
    return _in_own_thread(lambda: _take_apart(document))


def _take_apart(document: bytes) -> SignedXml:
    root = _parse(document)
    signatures = [child for child in root if child.tag == _ds("Signature")]
    if len(signatures) != 1:
        raise _refused("signatures directly under the root", "exactly 1", str(len(signatures)))
    node = signatures[0]
    foreign = sum(1 for _ in root.iter(_ds("*"))) - sum(1 for _ in node.iter(_ds("*")))
    if foreign:
        raise _refused("XMLDSig elements outside the signature", "none", str(foreign))
    parts = _read_signature(_plain(node))
    signed_info = _canonical(node[0])
    _remove(node)
    return SignedXml(_canonical(root), signed_info, *parts)


def verify_signed_xml(signed: SignedXml, memory: SignatureMemory) -> VerifiedXml:
    """Check digest and signature under the key of the first certificate in KeyInfo.

    Whether that certificate may be believed is the caller's question.
    """
    problem = _signature_problem(signed, memory)
    return VerifiedXml(problem, None if problem else signed.content)


def read_content(content: bytes) -> XmlElement:
    """The root element of the canonical octets in a `SignedXml` or `VerifiedXml`.

    A pure function of the octets: what it returns depends on nothing else that arrived.

    Raises:
        CollateralError: these are no such octets.
    """
    return _in_own_thread(lambda: _plain(_parse(content)))


def _signature_problem(signed: SignedXml, memory: SignatureMemory) -> str | None:
    digest = hashlib.sha384(signed.content).digest()
    if digest != signed.digest:
        return f"its SHA-384 digest is {digest.hex()}, but {signed.digest.hex()} was signed"
    key = signed.certificates[0].public_key
    if key.curve != "P-384":
        return f"its signing key is on {key.curve}, not P-384"
    if not memory.verify_raw(key, signed.signature, signed.signed_info):
        signer = signed.certificates[0].subject_text
        return f"its signature does not verify under the key of {signer}"
    return None


# --- the signature element -----------------------------------------------------------------------


def _read_signature(signature: XmlElement) -> tuple[bytes, bytes, tuple[Certificate, ...]]:
    """Digest, signature value and certificates of a signature of the accepted form."""
    signed_info, value, key_info = _inside(signature, "SignedInfo", "SignatureValue", "KeyInfo")
    canonicalization, method, reference = _inside(
        signed_info, "CanonicalizationMethod", "SignatureMethod", "Reference"
    )
    _empty(canonicalization, C14N_11)
    _empty(method, ECDSA_SHA384)
    transforms, digest_method, digest = _inside(
        reference, "Transforms", "DigestMethod", "DigestValue", URI=""
    )
    enveloped, canonical = _inside(transforms, "Transform", "Transform")
    _empty(enveloped, ENVELOPED)
    _empty(canonical, C14N_11)
    _empty(digest_method, SHA384)
    (x509_data,) = _inside(key_info, "X509Data")
    count = len(x509_data.children)
    if not 1 <= count <= MAX_CERTIFICATES:
        raise _refused("certificates in KeyInfo", f"1 to {MAX_CERTIFICATES}", str(count))
    certificates = _inside(x509_data, *["X509Certificate"] * count)
    return (
        _octets(digest, 48),
        _octets(value, 96),
        tuple(parse_certificate(_octets(each), CollateralError) for each in certificates),
    )


def _inside(element: XmlElement, *names: str, **attributes: str) -> tuple[XmlElement, ...]:
    """The children of an element that has exactly these children and attributes, and no text."""
    found = tuple(child.name for child in element.children)
    if found != tuple(map(_ds, names)) or element.text.strip(_SPACES):
        raise _refused(
            f"content of {element.name}", ", ".join(names), ", ".join(found)[:400] or "nothing"
        )
    if element.attributes != attributes:
        raise _refused(f"attributes of {element.name}", str(attributes), _shown(element))
    return element.children


def _empty(element: XmlElement, algorithm: str) -> None:
    _inside(element, Algorithm=algorithm)


def _octets(element: XmlElement, size: int | None = None) -> bytes:
    """The base64 text of an element that holds nothing else."""
    if element.children or element.attributes:
        raise _refused(f"content of {element.name}", "base64 text alone", _shown(element))
    try:
        text = element.text.encode("ascii").translate(None, _SPACES.encode())
        octets = binascii.a2b_base64(text, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as problem:
        raise CollateralError(f"XML signature: base64: {problem}", where=element.name) from None
    if size is not None and len(octets) != size:
        raise _refused(f"length of {element.name}", f"{size} bytes", f"{len(octets)} bytes")
    return octets


def _ds(name: str) -> str:
    return f"{{{DS}}}{name}"


def _shown(element: XmlElement) -> str:
    return str(dict(element.attributes))[:400]


def _refused(what: str, expected: str, found: str) -> CollateralError:
    return CollateralError(f"XML signature: {what}", expected=expected, found=found)


# --- before the parser ---------------------------------------------------------------------------

_SPACES = " \t\r\n"
_S = rb"[ \t\r\n]"
_NAME = rb"[A-Za-z_][A-Za-z0-9_.-]{0,63}+(?::[A-Za-z_][A-Za-z0-9_.-]{0,63}+)?+"
_VALUE = rb"(?:\"[^\"<&]*+\"|'[^'<&]*+')"
_DECLARATION = re.compile(
    rb"<\?xml version=([\"'])1\.0\1(?: encoding=([\"'])(?i:utf-8)\2)?"
    rb"(?: standalone=([\"'])(?:yes|no)\3)?\s*\?>"
)
# One tag and the text after it.  Possessive throughout: no backtracking, so linear time.
_TAG = re.compile(
    rb"<(?:/(?P<end>%b)%b*+|(?P<start>%b)(?P<attributes>(?:%b++%b%b*+=%b*+%b)*+)%b*+(?P<empty>/?+))>"
    rb"[^<&]*+" % (_NAME, _S, _NAME, _S, _NAME, _S, _S, _VALUE, _S)
)
_ATTRIBUTE = re.compile(rb"(%b)%b*+=%b*+(%b)" % (_NAME, _S, _S, _VALUE))


def _scan(data: bytes, namespaces: frozenset[str]) -> bytes:
    """Return the document without XML declaration and outer space, if it is harmless.

    With every ``<`` accounted for as a tag and every ``&`` refused, nothing can be a DOCTYPE,
    an entity, a comment, a CDATA section or a processing instruction.
    """
    if len(data) > MAX_XML_BYTES:
        raise CollateralError(
            "XML document is too large",
            expected=f"at most {MAX_XML_BYTES} bytes",
            found=f"{len(data)} bytes",
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise CollateralError(
            "XML document is not UTF-8", where=f"XML byte {problem.start}"
        ) from None
    nul = data.find(b"\0")
    if nul >= 0:  # some versions of libxml2 stop there
        raise CollateralError("XML document holds a NUL byte", where=f"XML byte {nul}")
    declaration = _DECLARATION.match(data)
    at = offset = declaration.end() if declaration else 0
    at = offset = offset + len(data[offset:]) - len(data[offset:].lstrip(_SPACES.encode()))
    elements = depth = 0
    names: set[bytes] = set()
    while at < len(data) or not elements:
        tag = _TAG.match(data, at)
        if tag is None:
            raise CollateralError(
                "XML document holds something other than elements, attributes and plain text",
                expected="no DOCTYPE, entity, comment, CDATA section or processing instruction",
                found=repr(data[at : at + 40]),
                where=f"XML byte {at}",
            )
        at = tag.end()
        if tag["end"]:
            depth -= 1
            continue
        elements += 1
        depth += 1
        names.add(tag["start"])
        names.update(_attribute_names(tag["attributes"], tag.start(), namespaces))
        if elements > MAX_ELEMENTS or depth > MAX_DEPTH or len(names) > MAX_NAMES:
            raise _too_many(elements, depth, tag.start())
        depth -= bool(tag["empty"])
    return data[offset:]


def _too_many(elements: int, depth: int, at: int) -> CollateralError:
    if elements > MAX_ELEMENTS:
        what, limit = "elements", MAX_ELEMENTS
    elif depth > MAX_DEPTH:
        what, limit = "levels", MAX_DEPTH
    else:
        what, limit = "different names", MAX_NAMES
    return CollateralError(
        f"XML document has too many {what}",
        expected=f"at most {limit}",
        where=f"XML byte {at}",
    )


def _attribute_names(text: bytes, at: int, namespaces: frozenset[str]) -> list[bytes]:
    attributes: list[tuple[bytes, bytes]] = _ATTRIBUTE.findall(text)
    if len(attributes) > MAX_ATTRIBUTES:
        raise CollateralError(
            "XML element has too many attributes",
            expected=f"at most {MAX_ATTRIBUTES}",
            where=f"XML byte {at}",
        )
    for name, value in attributes:
        if name.startswith(b"xml"):
            _check_reserved(name, value[1:-1].decode("utf-8"), at, namespaces)
    return [name for name, _ in attributes]


def _check_reserved(name: bytes, value: str, at: int, namespaces: frozenset[str]) -> None:
    prefix = name.partition(b":")[0]
    if prefix == b"xmlns" and value not in namespaces:
        raise CollateralError(
            "XML document declares a namespace that is not understood",
            expected=" or ".join(sorted(namespaces)),
            found=value[:200],
            where=f"XML byte {at}",
        )
    if prefix == b"xml":
        # They alone are what makes Canonical XML 1.1 differ from 1.0, which libxml2 speaks.
        raise CollateralError(
            "XML document has an xml: attribute",
            found=name.decode("ascii"),
            where=f"XML byte {at}",
        )


# --- libxml2 -------------------------------------------------------------------------------------

_Result = TypeVar("_Result")


def _in_own_thread(work: Callable[[], _Result]) -> _Result:
    """Run `work` in a thread of its own, and let nothing of libxml2's leave it.

    libxml2 has one table of names for each thread and forgets none until the thread ends: in a
    service that runs for long, documents of ever new names would fill the memory.
    """
    with ThreadPoolExecutor(max_workers=1) as own:
        return own.submit(work).result()


def _parse(data: bytes) -> Any:
    """Parse scanned or canonical octets."""
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=False,
        collect_ids=False,
    )
    try:
        return etree.fromstring(data, parser)
    except (etree.LxmlError, ValueError) as problem:
        raise CollateralError(f"XML document does not parse: {str(problem)[:200]}") from None


def _canonical(node: Any) -> bytes:
    """Canonical XML 1.1 of the node and everything in it, with the namespaces in scope."""
    try:
        octets: bytes = etree.tostring(node, method="c14n", exclusive=False, with_comments=False)
    except (etree.LxmlError, ValueError) as problem:
        raise CollateralError(f"XML has no canonical form: {str(problem)[:200]}") from None
    return octets


def _remove(node: Any) -> None:
    """Take a node out of its parent and leave the text after it where it is."""
    before, parent = node.getprevious(), node.getparent()
    if before is None:
        parent.text = (parent.text or "") + (node.tail or "")
    else:
        before.tail = (before.tail or "") + (node.tail or "")
    parent.remove(node)


def _plain(node: Any) -> XmlElement:
    children = list(node)
    text = node.text or ""
    if children:
        text = "".join([text, *(child.tail or "" for child in children)])
    return XmlElement(node.tag, dict(node.items()), text, tuple(map(_plain, children)))
