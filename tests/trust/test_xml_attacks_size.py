"""Signed XML of every size: work and memory grow with the document, and stop at the limits.

Work is counted in lines executed (`fuzz.effort`), never in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ccverify.errors import CollateralError
from ccverify.trust import xmldsig
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.xmldsig import parse_signed_xml, read_content, verify_signed_xml
from fuzz.devices import sign_xml
from fuzz.effort import grows_linearly, lines, peak

NAMESPACES = frozenset({"urn:m"})
IN_SCOPE = f'xmlns:ds="{xmldsig.DS}" xmlns:m="urn:m"'
CONTENT = '<m:set xmlns:m="urn:m" Id="good"><m:value Id="v">one</m:value></m:set>'


def _sign(content: str = CONTENT) -> str:
    return sign_xml(content, "</m:set>", IN_SCOPE).decode()


HONEST = _sign()


def _parsing(data: bytes) -> Callable[[], object]:
    return lambda: parse_signed_xml(data, NAMESPACES)


@pytest.mark.parametrize("megabytes", [1, 32])
def test_huge_documents_are_refused_unread(megabytes: int) -> None:
    data = HONEST.encode().replace(b"one", b"x" * (megabytes << 20))
    assert lines(_parsing(data)) < 50
    assert peak(_parsing(data)) < 10_000
    with pytest.raises(CollateralError, match="too large"):
        parse_signed_xml(data, NAMESPACES)


MANY = {
    "elements": "<m:v></m:v>",
    "empty elements": "<m:v/>",
    "open elements": "<m:v>",
    "end tags": "</m:v>",
    "names": "<n%d/>",
    "attributes": "<m:v %s/>",
}


@pytest.mark.parametrize("kind", MANY)
def test_a_million_of_anything_is_refused(kind: str) -> None:
    """Past the size limit nothing is read; below it, the limits on the number stop the scan."""
    piece = MANY[kind]
    for count in (1_000_000, xmldsig.MAX_XML_BYTES // 20):
        if kind == "names":
            body = "".join(piece % number for number in range(count))
        elif kind == "attributes":
            body = piece % " ".join(f'a{number}=""' for number in range(count))
        else:
            body = piece * count
        data = f'<m:set xmlns:m="urn:m">{body}</m:set>'.encode()[: 8 << 20]
        assert lines(_parsing(data)) < xmldsig.MAX_XML_BYTES
        with pytest.raises(CollateralError):
            parse_signed_xml(data, NAMESPACES)


def test_one_long_attribute_is_no_matter() -> None:
    """Below the limit it is content like any other: signed, it is believed, with little work."""
    room = xmldsig.MAX_XML_BYTES - len(HONEST) - 100
    content = CONTENT.replace('Id="v"', f'Id="{"v" * room}"')
    document = _sign(content)
    assert (
        verify_signed_xml(
            parse_signed_xml(document.encode(), NAMESPACES), SignatureMemory()
        ).content
        == content.encode()
    )
    assert lines(lambda: parse_signed_xml(document.encode(), NAMESPACES)) < 2_000


@pytest.mark.parametrize("piece", ["<m:v></m:v>", '<m:v a="1" b="2">x</m:v>', "x" * 40, " \n"])
def test_work_and_memory_grow_with_the_document(piece: str) -> None:
    def run(count: int) -> Callable[[], object]:
        data = _sign(CONTENT.replace("one", "one" + piece * count)).encode()
        assert parse_signed_xml(data, NAMESPACES)
        return lambda: read_content(parse_signed_xml(data, NAMESPACES).content)

    assert grows_linearly(run, 200)


@pytest.mark.parametrize(
    "piece",
    [" ", '"', "<", "a=", ' a="', "&", "<!--", "<![CDATA[", "<?", "</", "a:", "\r\n", "=''"],
)
@pytest.mark.parametrize(
    "head", ["", "<m:set ", "<m:set a='", "</", "<?xml version='1.0'", "<a b "]
)
def test_no_run_of_anything_takes_more_than_one_look(head: str, piece: str) -> None:
    """A pattern that backtracks over such a run takes minutes for it; one look, milliseconds."""
    size = xmldsig.MAX_XML_BYTES - len(head) - 1
    data = (head + piece * (size // len(piece)) + "!").encode()
    assert lines(_parsing(data)) < 40_000
    with pytest.raises(CollateralError):
        parse_signed_xml(data, NAMESPACES)


def test_names_are_forgotten_with_the_document() -> None:
    """libxml2 keeps names for as long as a thread lives: 5 MB of ever new ones took 7 MB more."""

    def resident() -> int:
        status = Path("/proc/self/statm")
        if not status.exists():
            pytest.skip("no /proc: resident memory cannot be asked for")
        return int(status.read_text("ascii").split()[1]) * 4096

    def read(count: int, start: int) -> None:
        for number in range(start, start + count):
            names = "".join(f"<n{number:08}x{at:03}{'x' * 48}/>" for at in range(200))
            with pytest.raises(CollateralError, match="signatures directly under the root"):
                parse_signed_xml(f"<r>{names}</r>".encode(), NAMESPACES)

    read(200, 0)
    before = resident()
    read(400, 200)
    assert resident() - before < 3_000_000
