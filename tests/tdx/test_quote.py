"""Parsing of TDX quotes: every field in its place, everything else refused."""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.sim import SimPlatform
from ccverify.tdx.quote import (
    BODY_BYTES,
    BODY_FIELDS,
    ENCLAVE_REPORT_FIELDS,
    HEADER_FIELDS,
    MAX_QUOTE_BYTES,
    BodyType,
    CertificationDataType,
    Field,
    decode_quote_text,
    parse_quote,
)

FORMS = {"v4": (4, 2), "v5-td10": (5, 2), "v5-td15": (5, 3), "v5-td15ex": (5, 4)}
_BUILT = {
    name: SimPlatform().case(version=version, body_type=kind).build().quote  # type: ignore[arg-type]
    for name, (version, kind) in FORMS.items()
}
SIM = {name: built.data for name, built in _BUILT.items()}
V4 = SIM["v4"]
FORM = pytest.mark.parametrize("form", FORMS)

# Our field name → the simulator's.
_RENAMED = {
    "mrseam": "mr_seam",
    "mrsignerseam": "mr_signer_seam",
    "seamattributes": "seam_attributes",
    "tdattributes": "td_attributes",
    "mrtd": "mr_td",
    "mrconfigid": "mr_config_id",
    "mrowner": "mr_owner",
    "mrownerconfig": "mr_owner_config",
    "mrservicetd": "mr_service_td",
}


# --- layout ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        (HEADER_FIELDS, 48),
        (BODY_FIELDS[BodyType.TD10], 584),
        (BODY_FIELDS[BodyType.TD15], 648),
        (BODY_FIELDS[BodyType.TD15EX], 885),
    ],
)
def test_fields_follow_each_other_without_gap(fields: tuple[Field, ...], size: int) -> None:
    at = 0
    for field in fields:
        assert field.offset == at, field.name
        assert field.meaning
        at += field.size
    assert at == size
    assert len({field.name for field in fields}) == len(fields)


def test_sizes_are_those_of_the_specification() -> None:
    assert BODY_BYTES == {BodyType.TD10: 584, BodyType.TD15: 648, BodyType.TD15EX: 885}
    last = ENCLAVE_REPORT_FIELDS[-1]
    assert last.offset + last.size == 384


@FORM
def test_every_field_is_where_the_simulator_put_it(form: str) -> None:
    built, quote = _BUILT[form], parse_quote(SIM[form])
    for name, *_ in BODY_FIELDS[quote.report.body_type]:
        assert getattr(quote.report, name) == built.part(f"body.{_RENAMED.get(name, name)}"), name
    assert quote.report.raw == built.part("body")
    assert quote.header.version == FORMS[form][0]
    assert quote.header.qe_vendor_id == built.part("header.qe_vendor_id")
    assert quote.header.user_data == built.part("header.user_data")
    assert (quote.header.tee_type, quote.header.attestation_key_type) == (0x81, 2)
    assert (quote.header.qe_svn, quote.header.pce_svn) == (0, 0)
    assert quote.signature == built.part("signature")
    assert quote.attestation_key == built.part("attestation_key")
    assert quote.qe_report.raw == built.part("qe_report")
    assert quote.qe_report_signature == built.part("qe_report_signature")
    assert quote.qe_auth_data == built.part("auth_data")
    assert quote.certification_data == built.part("certification_data")
    assert quote.certification_data_type is CertificationDataType.PCK_CERT_CHAIN
    assert quote.padding == 0
    assert quote.report.rtmrs == tuple(built.part(f"body.rtmr{n}") for n in range(4))


@FORM
def test_the_signed_range_is_header_and_body(form: str) -> None:
    quote, version = parse_quote(SIM[form]), FORMS[form][0]
    size = (48 if version == 4 else 54) + len(quote.report.raw)
    assert quote.signed_range == SIM[form][:size]
    assert quote.digest == hashlib.sha384(SIM[form][:size]).hexdigest()


def test_enclave_report_fields() -> None:
    platform = SimPlatform()
    case = platform.case().with_qe_report(misc_select=0x01020304, isv_prod_id=0x0506, isv_svn=7)
    built = case.build().quote
    report = parse_quote(built.data).qe_report
    assert (report.miscselect, report.isvprodid, report.isvsvn) == (0x01020304, 0x0506, 7)
    assert report.cpusvn == built.part("qe_report.cpu_svn")
    assert report.attributes == built.part("qe_report.attributes")
    assert report.mrenclave == built.part("qe_report.mr_enclave")
    assert report.mrsigner == built.part("qe_report.mr_signer")
    assert report.report_data == built.part("qe_report.report_data")


def test_absent_fields_of_older_bodies_are_none() -> None:
    old, middle = parse_quote(SIM["v4"]).report, parse_quote(SIM["v5-td15"]).report
    new = parse_quote(SIM["v5-td15ex"]).report
    assert (old.tee_tcb_svn2, old.mrservicetd, old.td_id) == (None, None, None)
    assert middle.tee_tcb_svn2 is not None
    assert (middle.td_id, middle.cur_servtd_attr) == (None, None)
    assert new.td_id == bytes(32)
    assert new.cur_servtd_attr == bytes(8)


@pytest.mark.parametrize("kind", range(1, 6))
def test_certification_data_types(kind: int) -> None:
    quote = parse_quote(SimPlatform().case(inner_type=kind).build().quote_bytes)
    assert quote.certification_data_type == kind


@pytest.mark.parametrize("auth", [b"", b"\1", bytes(1000)])
def test_authentication_data_has_any_length(auth: bytes) -> None:
    quote = parse_quote(SimPlatform().case().with_quote(auth_data=auth).build().quote_bytes)
    assert quote.qe_auth_data == auth


# --- tail -----------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [1, 70, 3000])
def test_zero_padding_is_counted(zeros: int) -> None:
    quote = parse_quote(V4 + bytes(zeros))
    assert quote.padding == zeros
    assert quote.digest == parse_quote(V4).digest


@pytest.mark.parametrize("tail", [b"\1", bytes(50) + b"\1", b"\n", bytes(3) + b"x" + bytes(9)])
def test_any_other_tail_is_refused_with_its_place(tail: bytes) -> None:
    with pytest.raises(EvidenceError, match="after the signature data") as caught:
        parse_quote(V4 + tail)
    first = next(at for at, octet in enumerate(tail) if octet)
    assert caught.value.where == f"quote[{len(V4) + first}]"


def test_size_limit_includes_padding() -> None:
    assert parse_quote(V4.ljust(MAX_QUOTE_BYTES, b"\0")).padding == MAX_QUOTE_BYTES - len(V4)
    with pytest.raises(EvidenceError, match="too large"):
        parse_quote(V4.ljust(MAX_QUOTE_BYTES + 1, b"\0"))


# --- refusals -------------------------------------------------------------------------------


def _patched(form: str, at: int, pattern: str, value: int) -> bytes:
    data = bytearray(SIM[form])
    struct.pack_into(pattern, data, at, value)
    return bytes(data)


_OUTER = 48 + 584 + 4 + 128
_AUTH = _OUTER + 6 + 448
_INNER = _AUTH + 2 + 32
REFUSALS = {
    "version 3": (_patched("v4", 0, "<H", 3), "Intel SGX quote", "quote[0:8]"),
    "version 4, TEE type SGX": (_patched("v4", 4, "<I", 0), "Intel SGX quote", "quote[0:8]"),
    "version 0": (_patched("v4", 0, "<H", 0), "unknown quote version", "quote[0:2]"),
    "version 6": (_patched("v4", 0, "<H", 6), "unknown quote version", "quote[0:2]"),
    "TEE type": (_patched("v4", 4, "<I", 0x82), "unknown TEE type", "quote[4:8]"),
    "key type 3": (_patched("v4", 2, "<H", 3), "attestation key type", "quote[2:4]"),
    "body type 0": (_patched("v5-td15", 48, "<H", 0), "not a TDX body", "quote[48:50]"),
    "body type 1": (_patched("v5-td15", 48, "<H", 1), "not a TDX body", "quote[48:50]"),
    "body type 2": (_patched("v5-td15", 48, "<H", 2), "wrong body size", "quote[50:54]"),
    "body type 5": (_patched("v5-td15", 48, "<H", 5), "not a TDX body", "quote[48:50]"),
    "body size": (_patched("v5-td15", 50, "<I", 647), "wrong body size", "quote[50:54]"),
    "signature size": (_patched("v4", 632, "<I", 1 << 31), "inside its signature data", "636"),
    "signature size 0": (_patched("v4", 632, "<I", 0), "after the signature data", "636"),
    "outer type 5": (_patched("v4", _OUTER, "<H", 5), "outer certification data", "764:766"),
    "outer type 7": (_patched("v4", _OUTER, "<H", 7), "outer certification data", "764:766"),
    "outer size": (_patched("v4", _OUTER + 2, "<I", 9), "does not fill", "766:770"),
    "auth size": (_patched("v4", _AUTH, "<H", 0xFFFF), "QE authentication data", "1218"),
    "auth size, shifted": (_patched("v4", _AUTH, "<H", 31), "does not fill", ""),
    "inner type 0": (_patched("v4", _INNER, "<H", 0), "unknown PCK certification", "1252:1254"),
    "inner type 6": (_patched("v4", _INNER, "<H", 6), "unknown PCK certification", "1252:1254"),
    "inner size": (_patched("v4", _INNER + 2, "<I", 5), "does not fill", "1254:1258"),
    "empty": (b"", "inside its quote header", "quote[0:]"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_say_what_and_where(name: str) -> None:
    data, message, where = REFUSALS[name]
    with pytest.raises(EvidenceError) as caught:
        parse_quote(data)
    assert message in caught.value.message
    assert where in str(caught.value.where)
    assert caught.value.expected
    assert caught.value.found


@FORM
def test_no_prefix_of_a_quote_is_a_quote(form: str) -> None:
    data = SIM[form]
    for size in range(len(data)):
        with pytest.raises(EvidenceError):
            parse_quote(data[:size])
    assert parse_quote(data)


@pytest.mark.parametrize("name", ["phala_b0c06f_v4", "google_90c06f_v5_td15"])
def test_no_prefix_of_a_real_quote_is_a_quote(name: str, vectors: Path) -> None:
    data = (vectors / "tdx" / "quotes" / f"{name}.bin").read_bytes()
    end = len(data) - parse_quote(data).padding
    for size in range(end):
        with pytest.raises(EvidenceError):
            parse_quote(data[:size])
    assert parse_quote(data[:end]).padding == 0


def test_every_real_quote_parses_or_is_no_tdx_quote(vectors: Path) -> None:
    parsed = 0
    for path in sorted((vectors / "tdx" / "quotes").glob("*.bin")):
        if "sgx" in path.name or "google_50806f" in path.name:
            with pytest.raises(EvidenceError):
                parse_quote(path.read_bytes())
            continue
        quote = parse_quote(path.read_bytes())
        parsed += 1
        assert quote.padding >= 0
        assert quote.certification_data_type is CertificationDataType.PCK_CERT_CHAIN
        assert len(quote.qe_auth_data) == 32
    assert parsed >= 20


def _strategy() -> st.SearchStrategy[bytes]:
    header = st.sampled_from([SIM[form][:60] for form in FORMS] + [b"", b"\3\0\2\0\0\0\0\0"])
    return st.one_of(
        st.binary(max_size=300),
        st.tuples(header, st.binary(max_size=6000)).map(lambda parts: parts[0] + parts[1]),
        st.tuples(
            st.sampled_from(list(SIM.values())), st.integers(0, 6000), st.binary(max_size=8)
        ).map(lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]) :]),
    )


@given(_strategy())
@settings(deadline=None, max_examples=600)
def test_any_bytes_end_in_a_quote_or_the_declared_error(data: bytes) -> None:
    try:
        quote = parse_quote(data)
    except EvidenceError:
        return
    size = len(quote.signed_range) + 4 + 128 + 6 + 448 + 2 + len(quote.qe_auth_data) + 6
    assert len(data) == size + len(quote.certification_data) + quote.padding
    assert data.startswith(quote.signed_range)


# --- text -----------------------------------------------------------------------------------

TEXTS = {
    "raw": V4,
    "hex": V4.hex().encode(),
    "HEX": V4.hex().upper().encode(),
    "0x": b"0x" + V4.hex().encode(),
    "hex in lines": b"\n".join(V4.hex().encode()[at : at + 64] for at in range(0, 2 * len(V4), 64))
    + b"\n",
    "base64": base64.b64encode(V4),
    "base64 in lines": base64.encodebytes(V4),
    "base64url": base64.urlsafe_b64encode(V4),
    "base64 without padding": base64.b64encode(V4).rstrip(b"="),
    "spaces around": b"  \n" + V4.hex().encode() + b"\n\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_raw_hex_and_base64_are_the_same_quote(name: str) -> None:
    assert decode_quote_text(TEXTS[name]) == V4


@pytest.mark.parametrize("text", [b"abc", b"0xabc", b"QUFBQ", b"04 00 0"])
def test_text_cut_short_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceError, match="cut short or damaged"):
        decode_quote_text(text)


@pytest.mark.parametrize("data", [b"", b"\4\0", b"not a quote!", b"\xff\xfe", b"{}"])
def test_what_is_no_text_is_left_to_the_parser(data: bytes) -> None:
    assert decode_quote_text(data) == data
    with pytest.raises(EvidenceError):
        parse_quote(data)


def test_text_has_a_size_limit() -> None:
    with pytest.raises(EvidenceError, match="too large"):
        decode_quote_text(b"A" * (4 * MAX_QUOTE_BYTES + 1))


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=400)
def test_decoding_garbage_ends_in_bytes_or_the_declared_error(data: bytes) -> None:
    try:
        decoded = decode_quote_text(data)
    except EvidenceError:
        return
    assert isinstance(decoded, bytes)
    assert len(decoded) <= len(data)


@given(st.binary(min_size=2, max_size=300))
@settings(deadline=None, max_examples=200)
def test_hex_and_base64_of_a_quote_like_blob_round_trip(data: bytes) -> None:
    data = b"\4\0" + data
    assert decode_quote_text(data) == data
    assert decode_quote_text(data.hex().encode()) == data
    for text in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        # Base64 that happens to be all hex digits is read as hex: two readings of a short text.
        if not all(c in b"0123456789abcdefABCDEF" for c in text.rstrip(b"=")):
            assert decode_quote_text(text) == data


def test_long_runs_of_white_space_cost_nothing() -> None:
    """A pattern that allowed white space twice in a row would take minutes for this text."""
    text = b"A" + b" " * (4 * MAX_QUOTE_BYTES - 2) + b"!"
    assert decode_quote_text(text) == text
