"""Quotes: layout against the specification's offsets, signatures, and damage by name."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import UsageError
from ccverify.sim import (
    BuiltQuote,
    QuoteHeader,
    QuoteSpec,
    SgxReport,
    SimKey,
    SimPlatform,
    TdReport10,
    TdReport15,
    TdReport15Ex,
)

# Offsets inside the body, from the quote format specification, not from the code.
_TD10 = {
    "tee_tcb_svn": 0,
    "mr_seam": 16,
    "mr_signer_seam": 64,
    "seam_attributes": 112,
    "td_attributes": 120,
    "xfam": 128,
    "mr_td": 136,
    "mr_config_id": 184,
    "mr_owner": 232,
    "mr_owner_config": 280,
    "rtmr0": 328,
    "rtmr1": 376,
    "rtmr2": 424,
    "rtmr3": 472,
    "report_data": 520,
}
_TD15 = _TD10 | {"tee_tcb_svn2": 584, "mr_service_td": 600}
_TD15EX = _TD15 | {
    "vmid": 648,
    "td_id": 649,
    "dev_info": 681,
    "init_servtd_hash": 729,
    "init_servtd_attr": 777,
    "init_cpusvn": 785,
    "init_tee_tcb_svn": 801,
    "init_tee_fmspc": 817,
    "cur_servtd_hash": 829,
    "cur_servtd_attr": 877,
}
_SGX = {
    "cpu_svn": 0,
    "misc_select": 16,
    "attributes": 48,
    "mr_enclave": 64,
    "mr_signer": 128,
    "isv_prod_id": 256,
    "isv_svn": 258,
    "report_data": 320,
}


def build(**choice: Any) -> BuiltQuote:
    return SimPlatform().case(**choice).build().quote


@pytest.mark.parametrize(
    ("report", "size", "offsets"),
    [
        (TdReport10, 584, _TD10),
        (TdReport15, 648, _TD15),
        (TdReport15Ex, 885, _TD15EX),
        (SgxReport, 384, _SGX),
    ],
)
def test_report_layout(report: Any, size: int, offsets: dict[str, int]) -> None:
    assert len(report().encode()) == size
    for name, offset in offsets.items():
        length = next(own.metadata["size"] for own in fields(report) if own.name == name)
        value = b"\xa5" * length
        given_value: Any = value
        if isinstance(getattr(report(), name), int):
            given_value = int.from_bytes(value, "little")
        encoded = report(**{name: given_value}).encode()
        base = bytearray(report().encode())
        base[offset : offset + length] = value
        assert encoded == bytes(base), name


@pytest.mark.parametrize(
    ("version", "body_type", "start", "size"),
    [(4, 2, 48, 584), (5, 2, 54, 584), (5, 3, 54, 648), (5, 4, 54, 885), (3, 1, 48, 384)],
)
def test_quote_layout(version: Any, body_type: int, start: int, size: int) -> None:
    quote = build(version=version, body_type=body_type)
    data = quote.data
    assert data[0:2] == version.to_bytes(2, "little")
    assert data[12:28].hex() == "939a7233f79c4ca9940a0db3957f0607"
    assert quote.span("body") == (start, start + size)
    if version == 5:
        assert data[48:54] == body_type.to_bytes(2, "little") + size.to_bytes(4, "little")
    stop = start + size
    assert int.from_bytes(data[stop : stop + 4], "little") == len(data) - stop - 4
    assert quote.span("signature") == (stop + 4, stop + 68)
    assert quote.span("attestation_key") == (stop + 68, stop + 132)
    report = stop + 132
    if version >= 4:
        assert data[report : report + 2] == b"\x06\x00"
        assert int.from_bytes(data[report + 2 : report + 6], "little") == len(data) - report - 6
        report += 6
    assert quote.span("qe_report") == (report, report + 384)
    assert data[report + 448 : report + 450] == b"\x20\x00"
    assert quote.part("certification_data").startswith(b"-----BEGIN CERTIFICATE-----")
    assert quote.part("certification_data").endswith(b"-----END CERTIFICATE-----\n\0")


def test_default_header_and_tail_are_those_of_a_real_quote(vectors: Path) -> None:
    """Everything but values that name a machine, a key or a measurement."""
    real = (vectors / "tdx/quotes/phala_b0c06f_v4.bin").read_bytes()
    own = build()
    assert real[:28] == own.data[:28]
    assert real[44:48] == own.part("header.user_data")[16:]
    start, _ = own.span("outer_type")
    assert real[start : start + 2] == own.part("outer_type")
    for name in ("auth_size", "auth_data", "inner_type"):
        begin, end = own.span(name)
        assert real[begin:end] == own.data[begin:end], name
    for name in ("attributes", "misc_select", "isv_prod_id"):
        begin, end = own.span(f"qe_report.{name}")
        assert real[begin:end] == own.data[begin:end], name


def check(key: SimKey, message: bytes, raw: bytes) -> None:
    half = len(raw) // 2
    pair = encode_dss_signature(
        int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    )
    key.private_key.public_key().verify(pair, message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(("version", "body_type"), [(3, 1), (4, 2), (5, 3)])
def test_signatures_cover_what_they_should(version: Any, body_type: int) -> None:
    case = SimPlatform().case(version=version, body_type=body_type)
    quote = case.build().quote
    signed = quote.data[: quote.span("signature_size")[0]]
    check(case.quote.attestation_key, signed, quote.part("signature"))
    check(case.pck.key, quote.part("qe_report"), quote.part("qe_report_signature"))
    bound = hashlib.sha256(quote.part("attestation_key") + quote.part("auth_data")).digest()
    assert quote.part("qe_report.report_data") == bound + bytes(32)
    with pytest.raises(InvalidSignature):
        check(case.quote.attestation_key, signed[:-1], quote.part("signature"))


@pytest.mark.parametrize(("kind", "size"), [(1, 36), (2, 276), (3, 404)])
def test_ppid_certification_data(kind: int, size: int) -> None:
    quote = build(inner_type=kind)
    assert quote.part("inner_type") == kind.to_bytes(2, "little")
    assert len(quote.part("certification_data")) == size
    assert quote.part("certification_data")[-4:] == b"\x0d\x00\x00\x00"  # PCESVN 13, PCEID 0


def test_leaf_certification_data() -> None:
    assert build(inner_type=4).part("certification_data").count(b"BEGIN") == 1


def test_p384_quote_has_longer_fields() -> None:
    case = SimPlatform().case().with_header(attestation_key_type=3)
    quote = case.with_quote(attestation_key=SimKey("big", curve="P-384")).build().quote
    assert len(quote.part("signature")) == len(quote.part("attestation_key")) == 96


def test_overrides_reach_the_bytes() -> None:
    case = SimPlatform().case(version=5, body_type=3, body={"mr_owner": b"\x07" * 48})
    case = case.with_body(xfam=0xE7).with_header(qe_svn=9).with_qe_report(isv_svn=3)
    case = case.with_quote(
        body_type=2, body_size=1, outer_type=5, signature_size=4, padding=b"pad", auth_data=b"ab"
    )
    quote = case.build().quote
    assert quote.part("body.mr_owner") == b"\x07" * 48
    assert quote.part("body.xfam") == b"\xe7" + bytes(7)
    assert quote.part("header.qe_svn") == b"\x09\x00"
    assert quote.part("qe_report.isv_svn") == b"\x03\x00"
    assert quote.part("body_type") + quote.part("body_size") == b"\x02\x00\x01\x00\x00\x00"
    assert quote.part("outer_type") == b"\x05\x00"
    assert quote.part("signature_size") == b"\x04\x00\x00\x00"
    assert quote.data.endswith(b"\0pad")
    assert quote.part("auth_size") == b"\x02\x00"


@given(st.data())
def test_flip_changes_one_bit(data: st.DataObject) -> None:
    quote = _QUOTE
    name, start, stop = data.draw(st.sampled_from([own for own in quote.spans if own[1] < own[2]]))
    bit = data.draw(st.integers(0, (stop - start) * 8 - 1))
    flipped = quote.flip(name, bit)
    difference = int.from_bytes(flipped.data, "little") ^ int.from_bytes(quote.data, "little")
    assert difference == 1 << (start * 8 + bit)
    assert flipped.flip(name, bit) == quote


_QUOTE = build(version=5, body_type=4)


def test_spans_tile_the_quote() -> None:
    edges = [0]
    for _, start, stop in _QUOTE.spans:
        assert start == edges[-1]
        edges.append(stop)
    assert edges[-1] == len(_QUOTE.data)
    assert len({name for name, _, _ in _QUOTE.spans}) == len(_QUOTE.spans)


def test_splice_and_truncate_forget_the_places() -> None:
    spliced = _QUOTE.splice("auth_data", b"longer" * 9)
    assert len(spliced.data) == len(_QUOTE.data) - 32 + 54
    assert _QUOTE.truncate(100).data == _QUOTE.data[:100]
    with pytest.raises(UsageError, match="no part"):
        spliced.part("auth_data")


def test_misuse_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no part"):
        _QUOTE.span("body.mr_tdx")
    with pytest.raises(UsageError, match="bits"):
        _QUOTE.flip("body.vmid", 8)
    with pytest.raises(UsageError, match="length"):
        _QUOTE.overwrite("signature", b"")
    with pytest.raises(UsageError, match="mr_td"):
        TdReport10(mr_td=bytes(47)).encode()
    with pytest.raises(UsageError, match="version"):
        QuoteHeader(version=1 << 16).encode()
    with pytest.raises(UsageError, match="PCK key"):
        QuoteSpec(body=TdReport10(), attestation_key=SimKey("a")).build()
    with pytest.raises(UsageError, match="TD report"):
        SimPlatform().td_report(9)
    with pytest.raises(UsageError, match="no such status"):
        SimPlatform().with_status("Fine")


def test_cpusvn_follows_the_components_unless_chosen() -> None:
    platform = SimPlatform()
    assert platform.raw_cpusvn == bytes(platform.component_svns)
    chosen = replace(platform, cpusvn=b"\x07" * 16)
    assert chosen.sgx_extension().cpusvn == chosen.qe_report().cpu_svn == b"\x07" * 16


def test_report_follows_the_platform() -> None:
    platform = replace(SimPlatform(), tee_tcb_svn2=b"\x09" * 16)
    report = platform.td_report(3)
    assert isinstance(report, TdReport15)
    assert report.tee_tcb_svn2 == b"\x09" * 16
    assert SimPlatform(label="machine-2").identifier("ppid") != platform.identifier("ppid")
