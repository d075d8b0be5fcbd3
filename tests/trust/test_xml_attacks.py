"""Attacks on signed XML: wrapping, other algorithms and keys, entity bombs, encodings.

What is refused, and by which message, is in test_xmldsig.py.  Here an attacker puts whole
documents together and wins if anything but the signed content comes out, or if a file is read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import CollateralError
from ccverify.sim import SimKey
from ccverify.trust import xmldsig
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.xmldsig import parse_signed_xml, verify_signed_xml
from fuzz.devices import rim_chain, sign_xml
from fuzz.effort import lines, peak

DS = xmldsig.DS
NAMESPACES = frozenset({"urn:m"})
IN_SCOPE = f'xmlns:ds="{DS}" xmlns:m="urn:m"'
CONTENT = '<m:set xmlns:m="urn:m" Id="good"><m:value Id="v">one</m:value></m:set>'
EVIL = '<m:value Id="v">evil</m:value>'


def _sign(content: str = CONTENT, key: SimKey | None = None) -> str:
    return sign_xml(content, "</m:set>", IN_SCOPE, key).decode()


HONEST = _sign()
SIGNATURE = re.search(r"<ds:Signature .*</ds:Signature>", HONEST, re.DOTALL)[0]  # type: ignore[index]
EVIL_ROOT = CONTENT.replace("one", "evil")


def _believed(document: str | bytes) -> str | None:
    """The content that comes out of a document as signed, None if it is refused."""
    data = document.encode() if isinstance(document, str) else document
    try:
        signed = parse_signed_xml(data, NAMESPACES)
    except CollateralError:
        return None
    content = verify_signed_xml(signed, SignatureMemory()).content
    return None if content is None else content.decode()


def test_the_honest_document_is_believed() -> None:
    assert _believed(HONEST) == CONTENT


# --- wrapping ------------------------------------------------------------------------------------


def _with(signature: str, content: str = EVIL_ROOT) -> str:
    """Evil content with a signature directly under its root, where ours is looked for."""
    return content.replace("</m:set>", f"{signature}</m:set>")


def _pointing(uri: str) -> str:
    return SIGNATURE.replace('URI=""', f'URI="{uri}"')


def _holding(inner: str, uri: str = "") -> str:
    """The signature with something inside, in a ds:Object."""
    return _pointing(uri).replace(
        "</ds:Signature>", f"<ds:Object>{inner}</ds:Object></ds:Signature>"
    )


# The shapes of "On Breaking SAML" (USENIX Security 2012) and what is left of them without ids.
WRAPPED = {
    "evil root, signed root inside, signature outside": _with(
        SIGNATURE, EVIL_ROOT.replace("</m:set>", f"{CONTENT}</m:set>")
    ),
    "evil root, signed root with its signature inside": EVIL_ROOT.replace(
        "</m:set>", f"{HONEST}</m:set>"
    ),
    "the same, and the signature again outside": _with(
        SIGNATURE, EVIL_ROOT.replace("</m:set>", f"{HONEST}</m:set>")
    ),
    "evil element before the signed root": f"{EVIL_ROOT}{HONEST}",
    "evil root after the signed root": f"{HONEST}{EVIL_ROOT}",
    "signed root in an object": _with(_holding(CONTENT)),
    "signed root in an object, by its id": _with(_holding(CONTENT, "#good")),
    "whole signed document in an object": _with(_holding(HONEST)),
    "signed element in an object, by its id": _with(_holding(CONTENT[25:-8], "#v")),
    "evil root in an object": HONEST.replace(SIGNATURE, _holding(EVIL_ROOT)),
    "signed element inside an evil one": HONEST.replace(
        '<m:value Id="v">', '<m:value Id="v">evil<m:value Id="v">'
    ).replace("</m:value>", "</m:value></m:value>", 1),
    "two elements of one id, evil first": HONEST.replace("<m:value ", f"{EVIL}<m:value "),
    "two elements of one id, evil last": HONEST.replace("</m:value>", f"</m:value>{EVIL}", 1),
    "two roots' worth of ids, by id": _with(
        _pointing("#good"), f'<m:set xmlns:m="urn:m" Id="good">{CONTENT}{EVIL}</m:set>'
    ),
    "signature first": CONTENT.replace("<m:value", f"{SIGNATURE}{EVIL}<m:value"),
    "signature under the value": CONTENT.replace("one", f"one{SIGNATURE}"),
    "signature as its own parent": SIGNATURE.replace(
        "<ds:KeyInfo>", f"{EVIL_ROOT}<ds:KeyInfo>"
    ).replace("<ds:Signature ", '<ds:Signature xmlns:m="urn:m" '),
    "second signature for the evil part": HONEST.replace(
        SIGNATURE, SIGNATURE + SIGNATURE.replace("<ds:Signature ", '<ds:Signature Id="b" ')
    ).replace("one", "evil"),
    "manifest of references": _with(
        _holding(f'<ds:Manifest Id="m">{SIGNATURE}</ds:Manifest>', "#m")
    ),
}  # fmt: skip


@pytest.mark.parametrize("document", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_documents_are_not_believed(document: str) -> None:
    assert "evil" in document or document.count("<m:set") > 1 or document != HONEST
    assert _believed(document) is None


def test_a_signature_moved_within_the_root_still_covers_all_of_it() -> None:
    """Where it stands does not matter: it is cut out of what is digested."""
    moved = HONEST.replace(SIGNATURE, "").replace("<m:value", f"{SIGNATURE}<m:value")
    assert _believed(moved) == CONTENT


@pytest.mark.parametrize(
    "uri",
    ["#", "#good", "#v", " ", "?", ".", "#xpointer(/)", "#xpointer(id('good'))", "%23good",
     "#element(/1)", "\t", "x.xml", "//192.0.2.1/x", "data:,x", "cid:x"],
)  # fmt: skip
def test_no_other_reference_is_the_whole_document(uri: str) -> None:
    """Even where the signer itself signed that reference: nothing is dereferenced."""
    edited = HONEST.replace('URI=""', f'URI="{uri}"')
    assert edited != HONEST
    assert _believed(_resigned(edited)) is None


def _resigned(document: str, key: SimKey | None = None) -> str:
    """Sign the SignedInfo of a document as it now is, by the honest key."""
    info = re.search(r"<ds:SignedInfo>.*</ds:SignedInfo>", document, re.DOTALL)
    assert info
    octets = info[0].replace("<ds:SignedInfo>", f"<ds:SignedInfo {IN_SCOPE}>", 1).encode()
    value = (key or rim_chain()[0].key).sign_raw(octets, "sha384")
    text = base64.b64encode(value).decode()
    return re.sub(r"(?<=<ds:SignatureValue>)[^<]*", text, document)


def test_signing_again_is_what_the_signer_did() -> None:
    assert _resigned(HONEST) == HONEST


# --- algorithms and keys -------------------------------------------------------------------------

_XMLDSIG_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
ALGORITHMS = {
    "c14n 1.0": (xmldsig.C14N_11, "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
    "exclusive c14n": (xmldsig.C14N_11, "http://www.w3.org/2001/10/xml-exc-c14n#"),
    "c14n with comments": (xmldsig.C14N_11, xmldsig.C14N_11 + "#WithComments"),
    "base64 transform": (xmldsig.ENVELOPED, DS + "base64"),
    "XPath filter": (xmldsig.ENVELOPED, "http://www.w3.org/2002/06/xmldsig-filter2"),
    "XSLT": (xmldsig.ENVELOPED, "http://www.w3.org/TR/1999/REC-xslt-19991116"),
    "ECDSA with SHA-1": (xmldsig.ECDSA_SHA384, _XMLDSIG_MORE + "ecdsa-sha1"),
    "ECDSA with SHA-256": (xmldsig.ECDSA_SHA384, _XMLDSIG_MORE + "ecdsa-sha256"),
    "RSA": (xmldsig.ECDSA_SHA384, _XMLDSIG_MORE + "rsa-sha384"),
    "DSA": (xmldsig.ECDSA_SHA384, DS + "dsa-sha1"),
    "HMAC": (xmldsig.ECDSA_SHA384, _XMLDSIG_MORE + "hmac-sha384"),
    "MD5": (xmldsig.SHA384, _XMLDSIG_MORE + "md5"),
    "SHA-256": (xmldsig.SHA384, "http://www.w3.org/2001/04/xmlenc#sha256"),
    "no algorithm": (xmldsig.ECDSA_SHA384, ""),
    "space after the algorithm": (xmldsig.ECDSA_SHA384, xmldsig.ECDSA_SHA384 + " "),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), ALGORITHMS.values(), ids=ALGORITHMS)
def test_other_algorithms_are_refused_though_the_signer_signed_them(old: str, new: str) -> None:
    edited = HONEST.replace(f'"{old}"', f'"{new}"')
    assert edited != HONEST
    assert _believed(_resigned(edited)) is None


def test_the_certificate_is_no_hmac_key() -> None:
    """A verifier that takes the method from the document checks a MAC under a public key."""
    for secret in (rim_chain()[0].der(), rim_chain()[0].key.spki, b""):
        method = f'"{_XMLDSIG_MORE}hmac-sha384"'
        edited = HONEST.replace(f'"{xmldsig.ECDSA_SHA384}"', method).replace("one", "evil")
        digest = hashlib.sha384(EVIL_ROOT.encode()).digest()
        edited = re.sub(r"(?<=<ds:DigestValue>)[^<]*", base64.b64encode(digest).decode(), edited)
        info = re.search(r"<ds:SignedInfo>.*</ds:SignedInfo>", edited, re.DOTALL)
        assert info
        octets = info[0].replace("<ds:SignedInfo>", f"<ds:SignedInfo {IN_SCOPE}>", 1).encode()
        mac = base64.b64encode(hmac.digest(secret, octets, "sha384")).decode()
        assert _believed(re.sub(r"(?<=<ds:SignatureValue>)[^<]*", mac, edited)) is None


POINT = base64.b64encode(b"\x04" + SimKey("evil", curve="P-384").public_xy).decode()
KEYS = {
    "ECKeyValue": (
        '<ds:KeyValue><dsig11:ECKeyValue xmlns:dsig11="http://www.w3.org/2009/xmldsig11#">'
        '<dsig11:NamedCurve URI="urn:oid:1.3.132.0.34"></dsig11:NamedCurve>'
        f"<dsig11:PublicKey>{POINT}</dsig11:PublicKey></dsig11:ECKeyValue></ds:KeyValue>"
    ),
    "KeyValue": f"<ds:KeyValue>{POINT}</ds:KeyValue>",
    "KeyName": "<ds:KeyName>evil</ds:KeyName>",
    "RetrievalMethod": '<ds:RetrievalMethod URI="http://192.0.2.1/"></ds:RetrievalMethod>',
    "RetrievalMethod of a file": '<ds:RetrievalMethod URI="/etc/passwd"></ds:RetrievalMethod>',
    "second X509Data": "<ds:X509Data></ds:X509Data>",
    "PGPData": "<ds:PGPData></ds:PGPData>",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("place", ["before", "after", "instead"])
def test_keys_come_from_certificates_alone(key: str, place: str) -> None:
    evil = _sign(EVIL_ROOT, SimKey("evil", curve="P-384"))
    x509 = re.search(r"<ds:X509Data>.*</ds:X509Data>", evil, re.DOTALL)
    assert x509
    new = {"before": key + x509[0], "after": x509[0] + key, "instead": key}[place]
    assert _believed(evil.replace(x509[0], new)) is None
    assert _believed(evil) is None


@pytest.mark.parametrize("more", ["X509IssuerSerial", "X509SKI", "X509SubjectName", "X509CRL"])
def test_certificates_are_not_looked_up_by_name(more: str) -> None:
    edited = HONEST.replace("<ds:X509Data>", f"<ds:X509Data><ds:{more}>AAAA</ds:{more}>")
    assert _believed(edited) is None


@pytest.mark.parametrize("tag", ["SignatureValue", "DigestValue", "X509Certificate"])
@pytest.mark.parametrize("piece", ["<!-- -->", "<?p ?>", "<![CDATA[]]>", "&#65;", "<m:x/>", "\0"])
def test_nothing_splits_a_value_of_the_signature(tag: str, piece: str) -> None:
    """A reader that takes the text up to a comment sees another value than the digest does."""
    for start, end in ((f"<ds:{tag}>", ""), ("", f"</ds:{tag}>")):
        edited = HONEST.replace(start + end, start + piece + end, 1)
        assert edited != HONEST
        assert _believed(edited) is None


# --- entities, DTDs, files -----------------------------------------------------------------------

CANARY = "the secret of the test"


def _bombs(file: Path) -> Iterator[tuple[str, str]]:
    """Document types, and what stands in the value to set them off."""
    laughs = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    uri = file.as_uri()
    yield f"<!DOCTYPE x [{laughs}]>", "&j;"
    yield f'<!DOCTYPE x [<!ENTITY a "{"x" * 50_000}">]>', "&a;" * 2_000
    yield f'<!DOCTYPE x [<!ENTITY a SYSTEM "{uri}">]>', "&a;"
    yield f'<!DOCTYPE x [<!ENTITY a PUBLIC "p" "{uri}">]>', "&a;"
    yield f'<!DOCTYPE x [<!ENTITY % a SYSTEM "{uri}"> %a;]>', "one"
    yield f"<!DOCTYPE x [<!ENTITY % a \"<!ENTITY b SYSTEM '{uri}'>\"> %a;]>", "&b;"
    yield '<!DOCTYPE x [<!ENTITY a "&b;"><!ENTITY b "&a;">]>', "&a;"
    yield '<!DOCTYPE x [<!ENTITY a "one"><!ENTITY a "evil">]>', "&a;"
    yield f'<!DOCTYPE x SYSTEM "{uri}">', "one"
    yield '<!DOCTYPE x PUBLIC "-//W3C//DTD" "http://192.0.2.1/x.dtd">', "one"
    yield '<!DOCTYPE x [<!ATTLIST m:value at CDATA "evil">]>', "one"
    yield "<!DOCTYPE x [<!ATTLIST m:value Id ID #REQUIRED>]>", "one"
    yield f'<!DOCTYPE x [<!NOTATION n SYSTEM "{uri}">]>', "one"
    yield "<!DOCTYPE x>", "one"
    yield f'<?xml-stylesheet href="{uri}"?>', "one"


def _bombed(file: Path) -> list[str]:
    return [head + HONEST.replace(">one<", f">{value}<") for head, value in _bombs(file)]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret.txt"
    file.write_text(CANARY, "utf-8")
    return file


def test_document_types_are_refused_before_anything_is_expanded(secret: Path) -> None:
    for document in _bombed(secret):
        data = document.encode()
        with pytest.raises(CollateralError) as caught:
            parse_signed_xml(data, NAMESPACES)
        assert CANARY not in caught.value.diagnostics()
        assert peak(partial(parse_signed_xml, data, NAMESPACES)) < 4 * len(data) + 100_000
        assert lines(partial(parse_signed_xml, data, NAMESPACES)) < 300


def test_the_parser_behind_the_scan_expands_and_reads_nothing_either(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan is the first line; without it the parser's own settings have to hold."""
    monkeypatch.setattr(xmldsig, "_scan", lambda data, _: data)
    for document in _bombed(secret):
        assert CANARY not in (_believed(document) or "")
        try:
            content = parse_signed_xml(document.encode(), NAMESPACES).content
        except Exception as problem:
            assert CANARY not in str(problem)  # noqa: PT017
            continue
        assert CANARY.encode() not in content
        assert len(content) < 2 * len(document)


@pytest.mark.parametrize("parse", ["xml", "text"])
def test_nothing_is_included(secret: Path, parse: str) -> None:
    include = (
        f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{secret.as_uri()}" '
        f'parse="{parse}"></xi:include>'
    )
    with pytest.raises(CollateralError, match="namespace") as caught:
        parse_signed_xml(HONEST.replace(">one<", f">{include}<").encode(), NAMESPACES)
    assert CANARY not in caught.value.diagnostics()


# --- encodings -----------------------------------------------------------------------------------

SAID = '<?xml version="1.0" encoding="%s"?>'
ENCODED: dict[str, Callable[[], bytes]] = {
    "UTF-16 with a mark": lambda: HONEST.encode("utf-16"),
    "UTF-16 said to be": lambda: (SAID % "UTF-16" + HONEST).encode("utf-16"),
    "UTF-16 said, UTF-8 is": lambda: (SAID % "UTF-16" + HONEST).encode(),
    "UTF-7": lambda: HONEST.encode("utf-7"),
    "UTF-7 said to be": lambda: (SAID % "UTF-7" + HONEST).encode(),
    "UTF-7 in a value": lambda: HONEST.replace(">one<", ">+ADwAIQ-<").encode(),
    "EBCDIC": lambda: HONEST.encode("cp037"),
    "UTF-32": lambda: HONEST.encode("utf-32-be"),
    "byte order mark": lambda: b"\xef\xbb\xbf" + HONEST.encode(),
    "mark inside": lambda: HONEST.replace(">one<", ">\ufeffone<").encode(),
    "NUL at the end": lambda: HONEST.encode() + b"\0",
    "NUL in a value": lambda: HONEST.replace(">one<", ">o\0ne<").encode(),
    "NUL in a tag": lambda: HONEST.replace("<m:value", "<m:val\0ue").encode(),
    "NUL in an attribute": lambda: HONEST.replace('Id="v"', 'Id="\0v"').encode(),
    "overlong <": lambda: HONEST.encode().replace(b">one<", b">\xc0\xbcone<"),
    "surrogates as UTF-8": lambda: HONEST.encode().replace(b"one", b"\xed\xa0\x80\xed\xb0\x80"),
    "beyond Unicode": lambda: HONEST.encode().replace(b"one", b"\xf4\x90\x80\x80"),
    "noncharacter": lambda: HONEST.replace("one", "\uffff").encode(),
    "other space": lambda: HONEST.replace("<m:value ", "<m:value\u00a0").encode(),
    "full-width <": lambda: HONEST.replace(">one<", ">\uff1cone<").encode(),
    "line separator": lambda: HONEST.replace("><m:value", ">\u2028<m:value").encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODED)
def test_other_encodings_are_not_believed(name: str) -> None:
    assert _believed(ENCODED[name]()) is None


# --- hypothesis ----------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [SIGNATURE, CONTENT, EVIL, EVIL_ROOT, HONEST, "<ds:Object>", "</ds:Object>", "<m:set>",
     "</m:set>", "<!-- -->", '<m:value Id="v">', "</m:value>", "one", "evil", "<!DOCTYPE x>", "&a;"]
)  # fmt: skip


@given(st.lists(PIECES, min_size=1, max_size=6), st.integers(0, len(HONEST)))
@settings(max_examples=300)
def test_whatever_is_put_together_only_the_signed_content_is_believed(
    parts: list[str], at: int
) -> None:
    joined = "".join(parts)
    for document in (joined, HONEST[:at] + joined + HONEST[at:], _with(joined)):
        assert _believed(document) in (None, CONTENT)
