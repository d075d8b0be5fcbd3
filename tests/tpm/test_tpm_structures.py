"""TPMS_ATTEST, TPMT_SIGNATURE and TPMT_PUBLIC: what is read, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.sim import SimKey
from ccverify.sim.tpm import SimTpm
from ccverify.tpm.attest import PcrSelection, parse_attest
from ccverify.tpm.public import ATTESTATION_KEY, Attributes, parse_public
from ccverify.tpm.quote import parse_pcrs, parse_signature, parse_tpm_quote
from ccverify.tpm.wire import Alg

TPM = SimTpm()
DATA = sha256(b"qualifying").digest()
QUOTE = TPM.quote(DATA, {"sha256": range(24), "sha1": (0, 7)})
PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "attest": (parse_attest, QUOTE.attest),
    "signature": (parse_signature, QUOTE.signature),
    "public": (parse_public, QUOTE.public),
}
EACH = pytest.mark.parametrize("name", PARSERS)


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def refused(parse: Callable[[bytes], object], data: bytes, words: str) -> None:
    with pytest.raises(EvidenceError, match=words) as raised:
        parse(data)
    assert raised.value.where


# --- attest ---


def test_every_field_of_an_attest_is_read() -> None:
    made = replace(TPM, clock=5, reset_count=6, restart_count=7, safe=False, firmware_version=8)
    encoded = made.quote(DATA, {"sha384": (0, 23), "sha256": ()}).attest
    found = parse_attest(encoded)
    clock = found.clock
    assert (clock.clock, clock.reset_count, clock.restart_count, clock.safe) == (5, 6, 7, False)
    assert (found.extra_data, found.firmware_version, found.encoded) == (DATA, 8, encoded)
    assert found.qualified_signer[:2] == b"\0\x0b"
    assert found.selection == (PcrSelection(Alg.SHA384, (0, 23)), PcrSelection(Alg.SHA256, ()))
    assert str(found.selection[0]) == "sha384:0,23"
    assert found.pcr_digest == sha256(made.pcr(0, "sha384") + made.pcr(23, "sha384")).digest()


def attest_with(selection: bytes, *, safe: int = 1, extra: bytes = DATA) -> bytes:
    head = struct.pack(">IH", 0xFF544347, 0x8018) + sized(b"") + sized(extra)
    clock = struct.pack(">QIIB", 1, 2, 3, safe) + bytes(8)
    return head + clock + selection + sized(bytes(32))


SHA256_0 = b"\0\x0b\x03\x01\0\0"


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (replace(TPM, magic=0xFF544348).quote(DATA).attest, "no quote"),
        (replace(TPM, kind=0x8017).quote(DATA).attest, "no quote"),  # a certification of a key
        (attest_with(struct.pack(">I", 17)), "too many banks"),
        (attest_with(struct.pack(">I", 0xFFFFFFFF)), "too many banks"),
        (attest_with(struct.pack(">I", 2) + SHA256_0 * 2), "bank that is not accepted"),
        (attest_with(struct.pack(">I", 1) + b"\0\x12\x03\x01\0\0"), "bank that is not accepted"),
        (attest_with(struct.pack(">I", 1) + b"\0\x0b\x00"), "wrong selection"),
        (attest_with(struct.pack(">I", 1) + b"\0\x0b\x05\x01\0\0\0\0"), "wrong selection"),
        (attest_with(struct.pack(">I", 1) + SHA256_0, safe=2), "wrong value"),
        (attest_with(struct.pack(">I", 1) + SHA256_0, extra=bytes(67)), "a size that nothing has"),
        (attest_with(struct.pack(">I", 1) + SHA256_0) + b"\0", "after its end"),
    ],
)
def test_an_attest_that_no_quote_has_is_refused(encoded: bytes, words: str) -> None:
    refused(parse_attest, encoded, words)


def test_the_helper_makes_what_parses() -> None:
    found = parse_attest(attest_with(struct.pack(">I", 1) + b"\0\x0b\x04\x01\0\0\x80"))
    assert found.selection == (PcrSelection(Alg.SHA256, (0, 31)),)


# --- public areas ---


def public(
    kind: int = 0x23,
    *,
    name_alg: int = 0x0B,
    attributes: int = 0x00050472,
    symmetric: bytes = b"\0\x10",
    scheme: bytes = b"\0\x18\0\x0b",
    rest: bytes | None = None,
) -> bytes:
    point = SimKey("a key").public_xy
    ecc = b"\0\x03\0\x10" + sized(point[:32]) + sized(point[32:])
    head = struct.pack(">HHI", kind, name_alg, attributes) + sized(b"")
    return head + symmetric + scheme + (ecc if rest is None else rest)


def rsa_public(bits: int = 2048, exponent: int = 0, modulus: int | None = None) -> bytes:
    number = RSA.public_numbers().n if modulus is None else modulus
    rest = struct.pack(">HI", bits, exponent) + sized(number.to_bytes(-(-number.bit_length() // 8)))
    return public(0x01, scheme=b"\0\x14\0\x0b", rest=rest)


RSA = rsa.generate_private_key(65537, 2048).public_key()


def test_keys_of_both_kinds_are_read() -> None:
    found = parse_public(TPM.public)
    assert found.public_key == TPM.key.private_key.public_key()
    assert found.attributes & ATTESTATION_KEY == ATTESTATION_KEY
    assert found.attributes & ~ATTESTATION_KEY == Attributes.USER_WITH_AUTH | Attributes.NO_DA
    assert found.name == TPM.name == b"\0\x0b" + sha256(TPM.public).digest()
    assert (found.scheme.alg, found.scheme.hash) == (Alg.ECDSA, Alg.SHA256)
    assert isinstance(parse_public(replace(TPM, curve="P-384").public).public_key.curve,  # type: ignore[union-attr]
                      ec.SECP384R1)  # fmt: skip
    for exponent in (0, 65537):
        assert parse_public(rsa_public(exponent=exponent)).public_key == RSA
    # A storage key has a symmetric algorithm; it is read, and verification refuses it.
    storage = parse_public(public(attributes=0x00030472, symmetric=b"\0\x06\0\x80\0\x43"))
    assert Attributes.DECRYPT in storage.attributes
    assert parse_public(public(scheme=b"\0\x10")).scheme.alg is Alg.NULL


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (public(0x08, rest=b"\0\x10" + bytes(2)), "no kind"),
        (public(0x25), "no kind"),
        (public(name_alg=0x04), "Name by a hash"),
        (public(name_alg=0x12), "Name by a hash"),
        (public(attributes=0x00050473), "reserved"),
        (public(attributes=0x80050472), "reserved"),
        (public(scheme=b"\0\x1a\0\x0b\0\0"), "scheme"),  # ECDAA
        (public(scheme=b"\0\x14\0\x0b"), "scheme"),  # RSASSA with an EC key
        (public(rest=b"\0\x05\0\x10" + sized(bytes(66)) * 2), "curve"),
        (public(rest=b"\0\x03\0\x10" + sized(b"\1" * 32) * 2), "not a point"),
        (public(rest=b"\0\x03\0\x10" + sized(b"") * 2), "not a point"),
        (public(rest=b"\0\x03\0\x10" + sized(bytes(49)) * 2), "a size that nothing has"),
        (public() + b"\0", "after its end"),
        (rsa_public(1024), "RSA key"),
        (rsa_public(exponent=3), "RSA key"),
        (rsa_public(3072), "another length"),
        (rsa_public(modulus=(1 << 2047) - 1), "another length"),
        (rsa_public(modulus=1 << 4097), "a size that nothing has"),
    ],
)
def test_a_public_area_of_no_attestation_key_is_refused(encoded: bytes, words: str) -> None:
    refused(parse_public, encoded, words)


# --- signatures ---


def test_signatures_of_all_schemes_are_read() -> None:
    found = parse_signature(QUOTE.signature)
    assert (found.alg, found.hash, found.encoded) == (Alg.ECDSA, Alg.SHA256, QUOTE.signature)
    for scheme in (0x14, 0x16):
        encoded = struct.pack(">HH", scheme, 0x0D) + sized(bytes(256))
        assert parse_signature(encoded).alg == scheme
        assert len(parse_signature(encoded).value) == 256


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (b"\0\x10", "of a kind"),
        (b"\0\x05\0\x0b" + bytes(32), "of a kind"),  # HMAC
        (b"\0\x1a\0\x0b", "of a kind"),  # ECDAA
        (b"\0\x18\0\x04" + sized(b"\1") * 2, "hash"),  # SHA-1
        (b"\0\x14\0\x04" + sized(bytes(256)), "hash"),
        (b"\0\x18\0\x12" + sized(b"\1") * 2, "hash"),
        (b"\0\x18\0\x0b" + sized(b"\0" * 32) + sized(b"\1"), "zero"),
        (b"\0\x18\0\x0b" + sized(b"\1") + sized(b""), "zero"),
        (b"\0\x18\0\x0b" + sized(bytes(49)) * 2, "a size that nothing has"),
        (b"\0\x14\0\x0b" + sized(bytes(513)), "a size that nothing has"),
        (QUOTE.signature + b"\0", "after its end"),
    ],
)
def test_a_signature_that_is_not_accepted_is_refused(encoded: bytes, words: str) -> None:
    refused(parse_signature, encoded, words)


# --- PCRs and all together ---


@pytest.mark.parametrize(
    "pcrs",
    [
        None,
        [],
        {"sha3": {0: bytes(32)}},
        {1: {0: bytes(32)}},
        {"sha256": []},
        {"sha256": {}},
        {"sha256": {n: bytes(32) for n in range(33)}},
        {"sha256": {"0": bytes(32)}},
        {"sha256": {-1: bytes(32)}},
        {"sha256": {32: bytes(32)}},
        {"sha256": {True: bytes(32)}},
        {"sha256": {0: bytes(31)}},
        {"sha1": {0: bytes(32)}},
        {"sha256": {0: "00" * 32}},
    ],
)
def test_pcr_values_of_another_form_are_refused(pcrs: object) -> None:
    refused(parse_pcrs, pcrs, "PCR value")  # type: ignore[arg-type]


def test_pcr_values_are_put_in_order_and_cannot_be_changed() -> None:
    found = parse_pcrs({"sha256": {7: bytes(32), 0: b"\1" * 32}})
    assert list(found["sha256"]) == [0, 7]
    with pytest.raises(TypeError):
        found["sha256"][0] = b""  # type: ignore[index]


def test_what_is_too_large_is_not_even_read() -> None:
    good = (QUOTE.attest, QUOTE.signature, QUOTE.public)
    for at in range(3):
        parts = [*good[:at], bytes(2049), *good[at + 1 :]]
        with pytest.raises(EvidenceError, match="too large"):
            parse_tpm_quote(*parts, None, QUOTE.pcrs)
    with pytest.raises(EvidenceError, match="too large"):
        parse_tpm_quote(*good, b"-" * 65537, QUOTE.pcrs)
    assert parse_tpm_quote(*good, TPM.chain().encode(), QUOTE.pcrs).certificates


@EACH
def test_nothing_that_is_cut_short_parses(name: str) -> None:
    parse, encoded = PARSERS[name]
    for length in range(len(encoded)):
        refused(parse, encoded[:length], "ends too early")


@EACH
@given(data=st.binary(max_size=300))
def test_whatever_comes_parses_or_is_refused(name: str, data: bytes) -> None:
    parse, _ = PARSERS[name]
    parses_or_is_refused(parse, data)


@EACH
@given(edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_what_is_damaged_parses_or_is_refused(name: str, edits: list[tuple[int, int]]) -> None:
    parse, encoded = PARSERS[name]
    damaged = bytearray(encoded)
    for at, value in edits:
        damaged[at % len(damaged)] = value
    parses_or_is_refused(parse, bytes(damaged))


def parses_or_is_refused(parse: Callable[[bytes], Any], data: bytes) -> None:
    try:
        found = parse(data)
    except EvidenceError:
        return
    assert found.encoded == data
    assert parse(data) == found
