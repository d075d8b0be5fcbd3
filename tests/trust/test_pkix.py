"""Paths to roots of one's own: what holds, and every way in which one does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st
from pkix_certs import CODE_SIGNING, NOW, Made, key, leaf, make, middle, root, usage

from ccverify.errors import EvidenceError, PolicyError
from ccverify.trust.pkix import (
    ANY_PURPOSE,
    PathResult,
    parse_pkix_certificate,
    parse_pkix_pem,
    pkix_key,
    verify_pkix_path,
)

PURPOSES = (CODE_SIGNING.dotted_string,)
SERVER_AUTH = ObjectIdentifier("1.3.6.1.5.5.7.3.1")


def path(*chain: Made, roots: list[Made], now: object = NOW) -> PathResult:
    certificates = [one.parsed for one in chain]
    return verify_pkix_path(
        certificates,
        [one.parsed for one in roots],
        now,  # type: ignore[arg-type]
        purposes=PURPOSES,
    )


# --- what holds ---


@pytest.mark.parametrize("root_kind", ["p256", "p384", "p521", "rsa", "ed25519"])
@pytest.mark.parametrize("leaf_kind", ["p256", "p384", "rsa", "ed25519"])
def test_every_kind_of_key_can_be_on_a_path(root_kind: str, leaf_kind: str) -> None:
    top = root(root_kind)
    end = leaf(top, leaf_kind)
    found = path(end, roots=[top])
    assert found == PathResult(top.parsed, None)
    assert path(end, top, roots=[top]).problem is None


@pytest.mark.parametrize("digest", [SHA256(), SHA384(), SHA512()])
def test_every_digest_can_be_used_with_both_paddings_of_rsa(digest: SHA256) -> None:
    for used in (padding.PKCS1v15(), padding.PSS(padding.MGF1(digest), digest.digest_size)):
        top = root("rsa", digest=digest, padding=used)
        end = leaf(top, digest=digest, padding=used)
        assert path(end, roots=[top]).problem is None


def test_certificates_between_are_taken_in_their_order() -> None:
    top = root(path_length=2)
    upper = middle(top, "upper", path_length=1)
    lower = middle(upper, "lower", path_length=0)
    end = leaf(lower)
    for chain in ((end, lower, upper), (end, lower, upper, top)):
        assert path(*chain, roots=[root("p384"), top]).root == top.parsed
    assert path(end, lower, roots=[upper]).root == upper.parsed
    # What stands above a root in the chain adds nothing, however bad it is.
    late = replace(top, certificate=root(end=NOW - timedelta(days=1)).certificate)
    assert path(end, lower, upper, late, roots=[upper]).root == upper.parsed
    assert path(end, upper, lower, top, roots=[top]).problem
    assert path(end, upper, roots=[top]).problem


def test_an_end_entity_that_is_named_itself_needs_no_issuer() -> None:
    alone = make("alone")
    assert path(alone, roots=[alone]).root == alone.parsed
    assert "not among the roots" in str(path(alone, roots=[make("other")]).problem)
    issued = leaf(root())
    assert path(issued, roots=[issued]).problem is None
    again = make("alone")  # the same key and name, another certificate
    assert path(again, roots=[alone]).problem


def test_a_path_without_key_identifiers_holds_by_its_names() -> None:
    top = root(identifiers=False)
    assert path(leaf(top, identifiers=False), roots=[top]).problem is None


def test_one_of_two_roots_of_one_name_may_be_the_one() -> None:
    top, other = root(identifiers=False), root("p384", identifiers=False)
    end = leaf(top, identifiers=False)
    assert path(end, roots=[other, top]).root == top.parsed
    assert "does not" in str(path(end, roots=[other]).problem)


@pytest.mark.parametrize("purpose", [CODE_SIGNING, ObjectIdentifier(ANY_PURPOSE)])
def test_a_purpose_that_fits_is_enough(purpose: ObjectIdentifier) -> None:
    top = root()
    assert path(leaf(top, purposes=[SERVER_AUTH, purpose]), roots=[top]).problem is None


# --- what does not ---

DAY = timedelta(days=1)
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
NAMES = x509.NameConstraints([x509.DNSName("example.com")], None)

BAD: dict[str, tuple[Callable[[], tuple[list[Made], list[Made]]], str]] = {}


def bad(words: str) -> Callable[[Callable[[], tuple[list[Made], list[Made]]]], object]:
    def register(case: Callable[[], tuple[list[Made], list[Made]]]) -> object:
        BAD[case.__name__] = (case, words)
        return case

    return register


@bad("no root is named")
def no_roots() -> tuple[list[Made], list[Made]]:
    return [leaf(root())], []


@bad("not among the roots")
def another_root() -> tuple[list[Made], list[Made]]:
    return [leaf(root())], [make("other", ca=True)]


@bad("names another key")
def a_root_of_the_same_name() -> tuple[list[Made], list[Made]]:
    return [leaf(root())], [root("p384")]


@bad("does not verify under the issuer's key")
def a_root_of_the_same_name_without_identifiers() -> tuple[list[Made], list[Made]]:
    genuine = root("p384", identifiers=False)
    forger = make("forger", "p384", ca=True, identifiers=False)
    return [leaf(forger, issuer_name="root", identifiers=False)], [genuine]


@bad("is valid from")
def expired() -> tuple[list[Made], list[Made]]:
    top = root()
    return [leaf(top, end=NOW - DAY)], [top]


@bad("is valid from")
def not_yet_valid() -> tuple[list[Made], list[Made]]:
    top = root()
    return [leaf(top, start=NOW + DAY)], [top]


@bad("is valid from")
def an_expired_ca() -> tuple[list[Made], list[Made]]:
    top = root()
    between = middle(top, end=NOW - DAY)
    return [leaf(between), between], [top]


@bad("is valid from")
def an_expired_root() -> tuple[list[Made], list[Made]]:
    top = root(end=NOW - DAY)
    return [leaf(top)], [top]


@bad("is not a CA")
def an_issuer_that_is_no_ca() -> tuple[list[Made], list[Made]]:
    top = root()
    between = middle(top, ca=False)
    return [leaf(between), between], [top]


@bad("is not a CA")
def an_issuer_without_constraints() -> tuple[list[Made], list[Made]]:
    top = root()
    between = middle(top, ca=None)
    return [leaf(between), between], [top]


@bad("is not a CA")
def a_root_that_is_no_ca() -> tuple[list[Made], list[Made]]:
    top = root(ca=False)
    return [leaf(top)], [top]


@bad("lacks keyCertSign")
def a_ca_that_may_not_certify() -> tuple[list[Made], list[Made]]:
    top = root()
    between = middle(top, usages=usage(sign=True))
    return [leaf(between), between], [top]


@bad("path length constraint")
def one_ca_too_many() -> tuple[list[Made], list[Made]]:
    top = root(path_length=0)
    between = middle(top)
    return [leaf(between), between], [top]


@bad("path length constraint")
def one_ca_too_many_below_a_ca() -> tuple[list[Made], list[Made]]:
    top = root()
    upper = middle(top, "upper", path_length=0)
    lower = middle(upper, "lower")
    return [leaf(lower), lower, upper], [top]


@bad("lacks digitalSignature")
def a_key_that_may_not_sign() -> tuple[list[Made], list[Made]]:
    top = root()
    return [leaf(top, usages=usage(certify=True))], [top]


@bad("not for this purpose")
def a_key_for_tls() -> tuple[list[Made], list[Made]]:
    top = root()
    return [leaf(top, purposes=[SERVER_AUTH])], [top]


@bad("not for this purpose")
def a_ca_for_tls() -> tuple[list[Made], list[Made]]:
    top = root()
    between = middle(top, purposes=[SERVER_AUTH])
    return [leaf(between), between], [top]


@bad("not for this purpose")
def a_root_for_tls() -> tuple[list[Made], list[Made]]:
    top = root(purposes=[SERVER_AUTH])
    return [leaf(top)], [top]


@bad("not understood: 1.2.3.4")
def an_unknown_critical_extension() -> tuple[list[Made], list[Made]]:
    top = root()
    return [leaf(top, extra=[(UNKNOWN, True)])], [top]


@bad("not understood: 2.5.29.30")
def name_constraints_even_if_not_critical() -> tuple[list[Made], list[Made]]:
    top = root()
    between = middle(top, extra=[(NAMES, False)])
    return [leaf(between), between], [top]


@bad("is not the subject name of the next")
def a_gap() -> tuple[list[Made], list[Made]]:
    top = root()
    upper = middle(top, "upper")
    return [leaf(middle(upper, "lower")), upper], [top]


@bad("not 1 to 5")
def too_long() -> tuple[list[Made], list[Made]]:
    chain = [root()]
    for number in range(5):
        chain.insert(0, middle(chain[0], f"ca {number}"))
    return chain, [chain[-1]]


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_a_path_is_said(name: str) -> None:
    case, words = BAD[name]
    chain, roots = case()
    found = path(*chain, roots=roots)
    assert found.root is None
    assert words in str(found.problem)


def test_an_unknown_extension_that_is_not_critical_is_left_alone() -> None:
    top = root()
    assert path(leaf(top, extra=[(UNKNOWN, False)]), roots=[top]).problem is None


def test_no_chain_is_no_path() -> None:
    assert verify_pkix_path([], [root().parsed], NOW, purposes=PURPOSES).problem


def test_every_byte_of_a_certificate_counts() -> None:
    """A changed byte is found, or the certificate is no longer one."""
    top = root()
    der = leaf(top).der
    roots = [top.parsed]
    for at in range(len(der)):
        changed = der[:at] + bytes((der[at] ^ 1,)) + der[at + 1 :]
        try:
            parsed = parse_pkix_certificate(changed)
        except EvidenceError:
            continue
        found = verify_pkix_path([parsed], roots, NOW, purposes=PURPOSES)
        assert found.problem is not None, at


# --- parsing ---


def test_weak_and_odd_keys_are_refused() -> None:
    for weak in (
        rsa.generate_private_key(65537, 1024).public_key(),
        rsa.generate_private_key(3, 2048).public_key(),
        "no key",
    ):
        with pytest.raises(EvidenceError):
            pkix_key(weak)
    assert pkix_key(key("rsa").public_key())


def test_pem_holds_certificates_and_nothing_else() -> None:
    top = root()
    end = leaf(top)
    one = top.pem
    found = parse_pkix_pem(b"\n" + one + b"\n\n" + end.pem)
    assert [certificate.der for certificate in found] == [top.der, end.der]
    for wrong in (
        b"",
        b"  \n",
        one + b"x",
        b"x" + one,
        one[:-20],
        one.replace(b"\n", b"\n=", 2),
        one * 6,
        one.replace(b"CERTIFICATE", b"PRIVATE KEY"),
        b"A" * (1 << 18),
    ):
        with pytest.raises(EvidenceError):
            parse_pkix_pem(wrong)
    with pytest.raises(PolicyError, match="too long"):
        parse_pkix_pem(one * 2, PolicyError, most=1)
    with pytest.raises(PolicyError):
        parse_pkix_certificate(b"\x30\x00", PolicyError)
    with pytest.raises(EvidenceError, match="too large"):
        parse_pkix_certificate(top.der + bytes(16 * 1024))


@given(st.binary(max_size=400))
def test_whatever_comes_parses_or_is_refused(data: bytes) -> None:
    for parse in (parse_pkix_certificate, parse_pkix_pem):
        with pytest.raises(EvidenceError):
            parse(data)


@given(st.data())
def test_a_damaged_certificate_parses_or_is_refused(data: st.DataObject) -> None:
    der = bytearray(CERTIFICATE)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_pkix_certificate(bytes(der))
    except EvidenceError:
        return
    result = verify_pkix_path([found], [TOP.parsed], NOW, purposes=PURPOSES)
    assert (result.problem is None) == (bytes(der) == CERTIFICATE)


TOP = root()
CERTIFICATE = leaf(TOP, purposes=[CODE_SIGNING]).der
