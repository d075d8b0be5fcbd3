"""XML signatures: the one accepted form, everything else refused, and only digested bytes read."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ccverify.errors import CollateralError
from ccverify.sim import CertificateSpec, SimKey
from ccverify.sim.certs import Name, key_usage
from ccverify.trust import xmldsig
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.xmldsig import (
    VerifiedXml,
    XmlElement,
    parse_signed_xml,
    read_content,
    verify_signed_xml,
)

DS = "http://www.w3.org/2000/09/xmldsig#"
C14N = "http://www.w3.org/2006/12/xml-c14n11"
ECDSA = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
NAMESPACES = frozenset({"urn:m", "urn:h"})


def _certificate(curve: Any = "P-384", label: str = "signer") -> CertificateSpec:
    key = SimKey(label, curve=curve)
    name = Name((("CN", "Signer"),))
    window = datetime(2024, 1, 1, tzinfo=UTC), datetime(2034, 1, 1, tzinfo=UTC)
    return CertificateSpec(
        subject=name,
        issuer=name,
        key=key,
        signer=key,
        serial=1,
        not_before=window[0],
        not_after=window[1],
        extensions=(key_usage("digital_signature"),),
    )


SIGNER = _certificate()


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


# Written in canonical form, so that what is to be digested is this very text: nothing here
# canonicalises.  `%s` is where the signature goes.
CONTENT = (
    '<m:set xmlns:h="urn:h" xmlns:m="urn:m" id="7">\n'
    '  <m:value at="1" h:sum="ab">one</m:value>\n'
    '  <m:value at="2"></m:value>\n'
    "%s\n</m:set>"
)
IN_SCOPE = f'xmlns:ds="{DS}" xmlns:h="urn:h" xmlns:m="urn:m"'
TREE = XmlElement(
    "{urn:m}set",
    {"id": "7"},
    "\n  \n  \n\n",
    (
        XmlElement("{urn:m}value", {"at": "1", "{urn:h}sum": "ab"}, "one", ()),
        XmlElement("{urn:m}value", {"at": "2"}, "", ()),
    ),
)


def _sign(
    content: str = CONTENT, signer: CertificateSpec = SIGNER, certificates: int = 1, **changed: str
) -> str:
    """Sign `content`; `changed` replaces text in SignedInfo before it is signed."""
    digest = _b64(hashlib.sha384((content % "").encode()).digest())
    # Canonical: no empty-element tags, and the namespaces in scope on the outermost element.
    signed_info = (
        f"<ds:SignedInfo {IN_SCOPE}>"
        f'<ds:CanonicalizationMethod Algorithm="{C14N}"></ds:CanonicalizationMethod>'
        f'<ds:SignatureMethod Algorithm="{ECDSA}"></ds:SignatureMethod>'
        '<ds:Reference URI=""><ds:Transforms>'
        f'<ds:Transform Algorithm="{DS}enveloped-signature"></ds:Transform>'
        f'<ds:Transform Algorithm="{C14N}"></ds:Transform></ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{SHA384}"></ds:DigestMethod>'
        f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )
    value = _b64(signer.key.sign_raw(signed_info.encode(), "sha384"))
    x509 = f"<ds:X509Certificate>{_b64(signer.der())}</ds:X509Certificate>" * certificates
    signature = (
        f'<ds:Signature xmlns:ds="{DS}">{signed_info.replace(" " + IN_SCOPE, "")}'
        f"<ds:SignatureValue>{value}</ds:SignatureValue>"
        f"<ds:KeyInfo><ds:X509Data>{x509}</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )
    return content % signature


HONEST = _sign()


def _check(document: str | bytes) -> VerifiedXml:
    data = document.encode() if isinstance(document, str) else document
    return verify_signed_xml(parse_signed_xml(data, NAMESPACES), SignatureMemory())


def _tree(checked: VerifiedXml) -> XmlElement | None:
    return None if checked.content is None else read_content(checked.content)


def _edited(old: str, new: str) -> str:
    assert HONEST.count(old) == 1
    return HONEST.replace(old, new)


# --- good ----------------------------------------------------------------------------------------


def test_an_honest_document_yields_exactly_what_was_signed() -> None:
    signed = parse_signed_xml(HONEST.encode(), NAMESPACES)
    assert signed.content == (CONTENT % "").encode()
    assert [each.der for each in signed.certificates] == [SIGNER.der()]
    assert _tree(_check(HONEST)) == TREE


@pytest.mark.parametrize(
    "document",
    [
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n' + HONEST,
        "<?xml version='1.0'?>" + HONEST,
        " \n" + HONEST + "\n\n",
        HONEST.replace("\n", "\r\n"),
        _edited('<m:value at="2"></m:value>', "<m:value   at = '2' />"),
        _edited('at="1" h:sum="ab"', 'h:sum="ab"\n at="1"'),
        _edited("</ds:SignatureValue>", " \n</ds:SignatureValue>\n"),
        _edited("<ds:X509Certificate>", "<ds:X509Certificate>\n"),
    ],
    ids=[
        "declaration",
        "short declaration",
        "space around",
        "CRLF",
        "empty tag",
        "attribute order",
        "space in the value",
        "space in the certificate",
    ],
)
def test_what_canonicalises_to_the_same_is_the_same(document: str) -> None:
    assert _tree(_check(document)) == TREE


def test_the_text_after_the_signature_stays_where_it_is() -> None:
    content = '<m:set xmlns:h="urn:h" xmlns:m="urn:m">%stail<m:value></m:value></m:set>'
    checked = _check(_sign(content))
    assert checked.problem is None
    root = _tree(checked)
    assert root is not None
    assert root.text == "tail"


# --- changed after signing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (_edited(">one<", ">two<"), "SHA-384 digest"),
        (_edited('at="2"', 'at="3"'), "SHA-384 digest"),
        (_edited('<m:value at="2"></m:value>', ""), "SHA-384 digest"),
        (_edited('  <m:value at="2">', '   <m:value at="2">'), "SHA-384 digest"),
        (_edited("</ds:Signature>\n", "</ds:Signature>"), "SHA-384 digest"),
    ],
    ids=["text", "attribute", "element gone", "space", "tail"],
)  # fmt: skip
def test_changed_content(document: str, problem: str) -> None:
    checked = _check(document)
    assert checked.content is None
    assert checked.problem is not None
    assert problem in checked.problem


def test_a_digest_of_the_changed_content_does_not_help() -> None:
    forged = _edited(">one<", ">two<")
    old = hashlib.sha384((CONTENT % "").encode()).digest()
    new = hashlib.sha384((CONTENT % "").replace(">one<", ">two<").encode()).digest()
    checked = _check(forged.replace(_b64(old), _b64(new)))
    assert checked.problem == "its signature does not verify under the key of CN=Signer"


def test_another_key_or_curve() -> None:
    other = _certificate(label="other")
    swapped = _check(HONEST.replace(_b64(SIGNER.der()), _b64(other.der())))
    assert swapped.problem is not None
    assert "does not verify" in swapped.problem
    weak = _check(HONEST.replace(_b64(SIGNER.der()), _b64(_certificate("P-256").der())))
    assert weak.problem == "its signing key is on P-256, not P-384"


def test_namespaces_in_scope_are_part_of_what_is_signed() -> None:
    """Inclusive canonicalisation: a prefix declared around SignedInfo changes its octets."""
    wrapped = _edited(f'<ds:Signature xmlns:ds="{DS}">', f'<ds:Signature xmlns:ds="{DS}" '
                      'xmlns:z="urn:m">')  # fmt: skip
    checked = _check(wrapped)
    assert checked.problem is not None
    assert "does not verify" in checked.problem


# --- other forms of signature --------------------------------------------------------------------

SIGNATURE = HONEST[HONEST.index("<ds:Signature ") : HONEST.index("</m:set>")].rstrip()
REFERENCE = HONEST[HONEST.index("<ds:Reference") : HONEST.index("</ds:SignedInfo>")]
TRANSFORM = f'<ds:Transform Algorithm="{C14N}"></ds:Transform>'
CERTIFICATE = f"<ds:X509Certificate>{_b64(SIGNER.der())}</ds:X509Certificate>"
EVIL = '<m:value at="9">evil</m:value>'

WRAPPED = {
    "no signature": _edited(SIGNATURE, ""),
    "two signatures": _edited(SIGNATURE, SIGNATURE + SIGNATURE),
    "signature moved inside": _edited(">one<", f">one{SIGNATURE}<").replace(SIGNATURE + "\n", ""),
    "signature in a wrapper": _edited(SIGNATURE, f"<m:wrap>{SIGNATURE}</m:wrap>"),
    "signature is the root": SIGNATURE.replace(
        f'xmlns:ds="{DS}"', f'xmlns:ds="{DS}" xmlns:m="urn:m" xmlns:h="urn:h"'
    ),
    "the whole document under another root": f'<m:set xmlns:m="urn:m">{EVIL}{HONEST}</m:set>',
    "signed root kept in an object": _edited(
        "</ds:Signature>", f"<ds:Object>{HONEST}</ds:Object></ds:Signature>"
    ),
    "object with elements": _edited(
        "</ds:Signature>", f"<ds:Object>{EVIL}</ds:Object></ds:Signature>"
    ),
    "elements in the signature": _edited("</ds:Signature>", f"{EVIL}</ds:Signature>"),
    "elements in KeyInfo": _edited("</ds:KeyInfo>", f"{EVIL}</ds:KeyInfo>"),
    "elements in SignatureValue": _edited("</ds:SignatureValue>", f"{EVIL}</ds:SignatureValue>"),
    "XMLDSig elements in the content": _edited(">one<", f'>one<d:Object xmlns:d="{DS}"/><'),
    "second SignedInfo": _edited(
        "</ds:SignedInfo>", "</ds:SignedInfo><ds:SignedInfo></ds:SignedInfo>"
    ),
    "second reference": _edited(REFERENCE, REFERENCE + REFERENCE),
    "no reference": _edited(REFERENCE, ""),
    "reference to an id": _edited('URI=""', 'URI="#7"'),
    "reference to a file": _edited('URI=""', 'URI="file:///etc/passwd"'),
    "reference to the network": _edited('URI=""', 'URI="http://192.0.2.1/"'),
    "reference without URI": _edited(' URI=""', ""),
    "reference with a type": _edited('URI=""', 'URI="" Type="urn:m"'),
    "id of the signature": _edited("<ds:Signature ", '<ds:Signature Id="a" '),
    "third transform": _edited(TRANSFORM, TRANSFORM + TRANSFORM),
    "no transform": _edited(TRANSFORM, ""),
    "XPath transform": _edited(
        TRANSFORM, f'<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116">'
        f"<ds:XPath>1</ds:XPath></ds:Transform>{TRANSFORM}"
    ),
    "XSLT transform": _edited(
        TRANSFORM,
        '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"></ds:Transform>',
    ),
    "canonicalisation with comments": _edited(
        f'<ds:CanonicalizationMethod Algorithm="{C14N}"',
        f'<ds:CanonicalizationMethod Algorithm="{C14N}#WithComments"',
    ),
    "HMAC": _edited(ECDSA, f"{DS}hmac-sha1"),
    "RSA": _edited(ECDSA, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384"),
    "SHA-1": _edited(f'Algorithm="{SHA384}"', f'Algorithm="{DS}sha1"'),
    "parameter of a method": _edited(
        f'<ds:SignatureMethod Algorithm="{ECDSA}">',
        f'<ds:SignatureMethod Algorithm="{ECDSA}"><ds:HMACOutputLength>1</ds:HMACOutputLength>',
    ),
    "text in the signature": _edited("<ds:KeyInfo>", "text<ds:KeyInfo>"),
    "key by value": _edited("<ds:X509Data>", "<ds:KeyValue></ds:KeyValue><ds:X509Data>"),
    "no certificate": _edited(CERTIFICATE, ""),
    "nine certificates": _edited(CERTIFICATE, CERTIFICATE * 9),
    "certificate is not DER": _edited(CERTIFICATE, "<ds:X509Certificate>AAAA</ds:X509Certificate>"),
    "short signature": _edited("</ds:SignatureValue>", "</ds:SignatureValue>").replace(
        HONEST[HONEST.index("<ds:SignatureValue>") + 19 :][:4], "", 1
    ),
    "bad base64": _edited("<ds:SignatureValue>", "<ds:SignatureValue>="),
    "no base64": _edited("<ds:SignatureValue>", "<ds:SignatureValue>\u00e9"),
    "long digest": _edited("</ds:DigestValue>", "AAAA</ds:DigestValue>"),
}  # fmt: skip


@pytest.mark.parametrize("document", WRAPPED.values(), ids=WRAPPED)
def test_other_forms_of_signature_are_refused(document: str) -> None:
    assert document != HONEST
    with pytest.raises(CollateralError, match=r"^XML signature|^certificate"):
        parse_signed_xml(document.encode(), NAMESPACES)


# --- XML that is not plain -----------------------------------------------------------------------

BILLION = '<!DOCTYPE m [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
)
PLAIN = "something other than elements, attributes and plain text"
UNCLEAN = {
    "billion laughs": (BILLION + "]>" + _edited(">one<", ">&j;<"), PLAIN),
    "external entity": (
        '<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + _edited(">one<", ">&x;<"),
        PLAIN,
    ),
    "external DTD": ('<!DOCTYPE m SYSTEM "http://192.0.2.1/">' + HONEST, PLAIN),
    "entity without a DTD": (_edited(">one<", ">&amp;<"), PLAIN),
    "character reference": (_edited(">one<", ">&#111;ne<"), PLAIN),
    "reference in an attribute": (_edited('at="2"', 'at="&#50;"'), PLAIN),
    "comment in a value": (_edited(">one<", ">o<!-- -->ne<"), PLAIN),
    "comment before the root": ("<!-- -->" + HONEST, PLAIN),
    "comment after the root": (HONEST + "<!-- -->", PLAIN),
    "CDATA": (_edited(">one<", "><![CDATA[one]]><"), PLAIN),
    "processing instruction": (_edited(">one<", "><?p?>one<"), PLAIN),
    "style sheet": ('<?xml-stylesheet href="x"?>' + HONEST, PLAIN),
    "two declarations": ('<?xml version="1.0"?><?xml version="1.0"?>' + HONEST, PLAIN),
    "XML 1.1": ('<?xml version="1.1"?>' + HONEST, PLAIN),
    "declared as Latin-1": ('<?xml version="1.0" encoding="ISO-8859-1"?>' + HONEST, PLAIN),
    "byte order mark": ("\ufeff" + HONEST, PLAIN),
    "text before the root": ("x" + HONEST, PLAIN),
    "text after the root": (HONEST + "x", "does not parse"),
    "two roots": (HONEST + HONEST, "does not parse"),
    "no end": (HONEST[:-3], PLAIN),
    "no end tag": (HONEST[: HONEST.rindex("</m:set>")], "does not parse"),
    "end first": ("</m:set>" + HONEST, "does not parse"),
    "nothing": ("", PLAIN),
    "space": ("  \n", PLAIN),
    "undeclared prefix": (_edited('<m:value at="2"></m:value>', "<q:value/>"), "does not parse"),
    "attribute twice": (_edited('at="2"', 'at="2" at="2"'), "does not parse"),
    "attribute twice by two prefixes": (
        _edited('h:sum="ab"', 'h:sum="ab" xmlns:i="urn:h" i:sum="ab"'), "does not parse"
    ),
    "namespace twice": (_edited('xmlns:m="urn:m"', 'xmlns:m="urn:m" xmlns:m="urn:m"'),
                        "does not parse"),
    "foreign namespace": (_edited('at="2"', 'at="2" xmlns:x="urn:x"'), "not understood"),
    "foreign default namespace": (_edited('at="2"', 'at="2" xmlns="urn:x"'), "not understood"),
    "no namespace": (_edited('at="2"', 'at="2" xmlns=""'), "not understood"),
    "xml:id": (_edited('at="2"', 'at="2" xml:id="7"'), "xml: attribute"),
    "xml:base": (_edited('at="2"', 'at="2" xml:base="http://192.0.2.1/"'), "xml: attribute"),
    "attributes without space": (_edited('at="1" h:sum', 'at="1"h:sum'), PLAIN),
    "attribute without quotes": (_edited('at="2"', "at=2"), PLAIN),
    "control character": (_edited(">one<", ">on\x01e<"), "does not parse"),
    "name beyond ASCII": (_edited('at="2"', '\u00e9="2"'), PLAIN),
    "end of CDATA in text": (_edited(">one<", ">]]><"), "does not parse"),
}  # fmt: skip


@pytest.mark.parametrize(("document", "message"), UNCLEAN.values(), ids=UNCLEAN)
def test_anything_but_plain_xml_is_refused(document: str, message: str) -> None:
    with pytest.raises(CollateralError, match=message):
        parse_signed_xml(document.encode(), NAMESPACES)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings(encoding: str) -> None:
    with pytest.raises(CollateralError):
        parse_signed_xml(HONEST.encode(encoding), NAMESPACES)


def test_ill_formed_utf8() -> None:
    with pytest.raises(CollateralError, match="not UTF-8") as caught:
        parse_signed_xml(HONEST.encode().replace(b">one<", b">\xc3\x28<"), NAMESPACES)
    assert caught.value.where == f"XML byte {HONEST.index('>one<') + 1}"


def test_the_namespace_of_signatures_needs_no_mention() -> None:
    assert DS not in NAMESPACES
    with pytest.raises(CollateralError, match="not understood"):
        parse_signed_xml(HONEST.encode(), NAMESPACES - {"urn:h"})


# --- limits --------------------------------------------------------------------------------------


def _attributes(count: int) -> str:
    return " ".join(f'a{number:04}=""' for number in range(count))


def _with(extra: str) -> str:
    return _sign(CONTENT.replace("%s", extra.replace("%", "%%") + "%s"))


def test_limits_leave_room() -> None:
    """One below each limit passes, signature included."""
    elements = HONEST.count("<") - HONEST.count("</")
    for extra in (
        "<m:v></m:v>" * (xmldsig.MAX_ELEMENTS - elements),
        "<m:v>" * (xmldsig.MAX_DEPTH - 1) + "</m:v>" * (xmldsig.MAX_DEPTH - 1),
        "<m:v>" + "x" * (xmldsig.MAX_XML_BYTES - len(HONEST) - 11) + "</m:v>",
        f"<m:v {_attributes(xmldsig.MAX_ATTRIBUTES)}></m:v>",
    ):
        assert _check(_with(extra)).problem is None


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("<m:v></m:v>" * xmldsig.MAX_ELEMENTS, "too many elements"),
        ("<m:v/>" * xmldsig.MAX_ELEMENTS, "too many elements"),
        ("<m:v>" * xmldsig.MAX_DEPTH + "</m:v>" * xmldsig.MAX_DEPTH, "too many levels"),
        ("<m:v>" * 20000, "too many levels"),
        ("".join(f"<n{i}/>" for i in range(xmldsig.MAX_NAMES)), "too many different names"),
        (
            "".join(f'<v a{i}="" b{i}=""/>' for i in range(xmldsig.MAX_NAMES // 2)),
            "too many different names",
        ),
        (f"<v {_attributes(xmldsig.MAX_ATTRIBUTES + 1)}/>", "too many attributes"),
        (f"<v {_attributes(9999)}/>", "too many attributes"),
        ("x" * xmldsig.MAX_XML_BYTES, "too large"),
        ("<" * 100_000, PLAIN),
        ("<a " + " " * 200_000, PLAIN),
        ("<a" + ' b=""' * 40_000, PLAIN),
        ("<" + "a" * 200_000, PLAIN),
        ("<" + "a:" * 100_000, PLAIN),
    ],
    ids=lambda value: value[:12],
)
def test_over_a_limit(extra: str, message: str) -> None:
    with pytest.raises(CollateralError, match=message):
        parse_signed_xml(_edited(SIGNATURE, extra + SIGNATURE).encode(), NAMESPACES)


def test_eight_certificates_are_allowed() -> None:
    assert len(parse_signed_xml(_sign(certificates=8).encode(), NAMESPACES).certificates) == 8


# --- hypothesis ----------------------------------------------------------------------------------


def _never_fooled(data: bytes) -> None:
    try:
        signed = parse_signed_xml(data, NAMESPACES)
    except CollateralError:
        return
    checked = verify_signed_xml(signed, SignatureMemory())
    if checked.problem is None:
        assert _tree(checked) == TREE
    else:
        assert checked.content is None


@given(st.binary(max_size=200) | st.text(alphabet="<>/&!?ab:= \"'x\n", max_size=80).map(str.encode))
def test_noise_is_refused(data: bytes) -> None:
    _never_fooled(data)


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(HONEST) - 1),
            st.integers(0, 8),
            st.binary(max_size=3) | st.sampled_from([b"<", b"<!--", b"-->", b"&#65;", b"/>", b" "]),
        ),
        min_size=1,
        max_size=3,
    )
)
@example([(CONTENT.index("one"), 3, b"two")])
@settings(max_examples=400)
def test_mutations_never_verify_as_something_else(edits: list[tuple[int, int, bytes]]) -> None:
    data = HONEST.encode()
    for at, removed, inserted in edits:
        data = data[:at] + inserted + data[at + removed :]
    _never_fooled(data)


PARTS = [SIGNATURE, EVIL, REFERENCE, CERTIFICATE, "<ds:Object>", "</ds:Object>", "</m:set>"]


@given(st.sampled_from(PARTS), st.integers(0, len(HONEST)), st.booleans())
@settings(max_examples=300)
def test_moved_parts_never_verify_as_something_else(part: str, at: int, keep: bool) -> None:
    rest = HONEST if keep else HONEST.replace(part, "")
    _never_fooled((rest[:at] + part + rest[at:]).encode())


# --- against another implementation, on real manifests -------------------------------------------

RIM_NAMESPACES = frozenset(
    {
        "http://standards.iso.org/iso/19770/-2/2015/schema.xsd",
        "http://www.w3.org/2001/04/xmlenc#sha384",
        "https://trustedcomputinggroup.org/resource/"
        "tcg-reference-integrity-manifest-rim-information-model/",
    }
)


@pytest.mark.filterwarnings("ignore")
def test_same_verdict_and_same_octets_as_signxml(vectors: Path) -> None:
    signxml = pytest.importorskip("signxml")
    from lxml import etree

    folder = vectors / "nvidia" / "rim"
    if not folder.is_dir():
        pytest.skip("no NVIDIA manifests among the vectors")
    verdicts = []
    for path in sorted((*folder.rglob("*.xml"), *folder.rglob("*.swidtag"))):
        data = path.read_bytes()
        signed = parse_signed_xml(data, RIM_NAMESPACES)
        ours = verify_signed_xml(signed, SignatureMemory()).problem
        leaf = signed.certificates[0]
        pem = f"-----BEGIN CERTIFICATE-----\n{_b64(leaf.der)}\n-----END CERTIFICATE-----\n"
        config = signxml.SignatureConfiguration(
            location="./",
            signature_methods=frozenset({signxml.SignatureMethod.ECDSA_SHA384}),
            digest_algorithms=frozenset({signxml.DigestAlgorithm.SHA384}),
            verification_time=leaf.not_before,
        )
        try:
            theirs = signxml.XMLVerifier().verify(data, x509_cert=pem, expect_config=config)
        except signxml.exceptions.InvalidSignature as refused:
            theirs = refused
        if isinstance(theirs, Exception):
            assert not isinstance(theirs, signxml.exceptions.InvalidCertificate)
            assert ours is not None, path.name
        else:
            assert ours is None, path.name
            assert etree.tostring(theirs.signed_xml, method="c14n") == signed.content
        verdicts.append(ours is None)
    assert (len(verdicts), verdicts.count(False)) == (35, 5)
