"""Device evidence and collateral at their limits and far beyond: refused, or read in linear work.

Work is counted in lines executed (`fuzz.effort`), never in seconds.  Wrapped and hostile XML is in
tests/trust/test_xml_attacks.py.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import CcverifyError, CollateralError, EvidenceError
from ccverify.nvidia.certs import parse_device_chain, verify_device_chain
from ccverify.nvidia.identity import parse_composite_device_id, parse_dice_fwids
from ccverify.nvidia.ocsp import MAX_OCSP_BYTES, MAX_SINGLE_RESPONSES
from ccverify.nvidia.opaque import parse_gpu_opaque_data, parse_switch_opaque_data
from ccverify.nvidia.revocation import (
    MAX_STATEMENTS,
    Outcome,
    RevocationSet,
    RevocationStatus,
    check_crl,
    parse_ocsp_response,
)
from ccverify.nvidia.rim import parse_rim, verify_rim
from ccverify.nvidia.spdm import (
    MAX_OPAQUE_BYTES,
    MAX_REPORT_BYTES,
    decode_report_text,
    parse_attestation_report,
)
from ccverify.sim import SimKey, der
from ccverify.sim.certs import Extension, pem_chain
from ccverify.trust.der import read_tlv
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import (
    MAX_CERTIFICATE_BYTES,
    MAX_CRL_BYTES,
    Certificate,
    parse_certificate,
    parse_crl,
)
from ccverify.trust.xmldsig import MAX_XML_BYTES
from fuzz.devices import (
    AT,
    GOOD,
    REVOKED,
    UNKNOWN,
    crl,
    device_root,
    devices,
    ocsp,
    opaque_data,
    pem,
    report,
    rim,
    rim_chain,
    rim_root,
    sign_xml,
    wrap_ocsp,
)
from fuzz.effort import grows_linearly, lines, peak

HOPPER = devices()[0]
SMALL = report((1, 2, 3), opaque_data([(300, b"data")]))
RECORD_AT, NONCE_AT = 45, 45 + 3 * 55


def _refused(
    run: Callable[[], object], error: type[CcverifyError] = EvidenceError, most: int = 600
) -> CcverifyError:
    """Require a refusal after at most so many lines, with a short error."""
    with pytest.raises(error) as caught:
        run()
    assert len(caught.value.diagnostics()) < 4096
    assert lines(run) <= most
    return caught.value


# --- SPDM reports --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (41, b"\xff"),
        (42, b"\xff\xff\xff"),
        (41, b"\xff" + (255 * 55).to_bytes(3, "little")),
        (42, b"\xa5\x00\x01"),
        (RECORD_AT + 2, b"\xff\xff"),
        (RECORD_AT + 5, b"\xff\xff"),
        (NONCE_AT + 32, b"\xff\xff"),
        (NONCE_AT + 32, (MAX_OPAQUE_BYTES).to_bytes(2, "little")),
        (NONCE_AT + 32, (MAX_OPAQUE_BYTES + 1).to_bytes(2, "little")),
    ],
)
def test_lengths_that_promise_more_than_there_is(at: int, value: bytes) -> None:
    data = SMALL[:at] + value + SMALL[at + len(value) :]
    _refused(lambda: parse_attestation_report(data))
    assert peak(lambda: parse_attestation_report(data)) < 20_000


@pytest.mark.parametrize(
    "size", [MAX_REPORT_BYTES, MAX_REPORT_BYTES + 1, 4 * MAX_REPORT_BYTES, 1 << 25]
)
def test_reports_of_every_size(size: int) -> None:
    """Filled up with what looks like a report: blocks, zeros, or the report again."""
    for filler in (SMALL, SMALL[RECORD_AT : RECORD_AT + 55], b"\0", b"\x11\xe0\x01\xff"):
        data = (SMALL[:RECORD_AT] + filler * (size // len(filler)))[:size]
        _refused(partial(parse_attestation_report, data), most=400)


def test_the_largest_report_is_read_with_little_work() -> None:
    opaque = opaque_data([(300 + n, b"") for n in range(MAX_OPAQUE_BYTES // 4)])
    blocks = (MAX_REPORT_BYTES - 45 - 34 - 96 - len(opaque)) // 55
    data = report(range(1, blocks + 1), opaque)
    parsed = parse_attestation_report(data)
    assert (len(parsed.measurements), len(parsed.opaque_data)) == (blocks, MAX_OPAQUE_BYTES)
    assert lines(lambda: parse_attestation_report(data)) < 2_000
    assert grows_linearly(
        lambda n: _call(parse_attestation_report, report(range(1, n + 1), b"\0")), 30
    )


def _call(parse: Callable[[bytes], object], data: bytes) -> Callable[[], object]:
    return lambda: parse(data)


@pytest.mark.parametrize("piece", [b"0", b"A", b" ", b"0x", b"=", b"\n", b"-", b"0x0"])
def test_text_of_one_thing_over_and_over(piece: bytes) -> None:
    """A pattern that backtracks over such a run takes minutes for it; one look, milliseconds."""
    text = piece * (4 * MAX_REPORT_BYTES // len(piece) - 1)
    for data in (text, text + b"!", b"0x" + text[:-2], text + b"="):
        assert lines(_call(decode_report_text, data)) < 60


# --- opaque data ---------------------------------------------------------------------------------

PARSE_OPAQUE = pytest.mark.parametrize("parse", [parse_gpu_opaque_data, parse_switch_opaque_data])


@PARSE_OPAQUE
def test_ten_thousand_fields(parse: Callable[[bytes], object]) -> None:
    data = opaque_data([(number, b"") for number in range(10_000)])
    _refused(lambda: parse(data), most=30)
    inside = report((1,), data[: MAX_OPAQUE_BYTES + 4])
    _refused(lambda: parse_attestation_report(inside))


@PARSE_OPAQUE
def test_as_many_fields_as_fit(parse: Callable[[bytes], object]) -> None:
    def run(count: int) -> Callable[[], object]:
        return _call(parse, opaque_data([(1000 + number, b"") for number in range(count)]))

    assert run(MAX_OPAQUE_BYTES // 4)()
    assert grows_linearly(run, MAX_OPAQUE_BYTES // 16)


@PARSE_OPAQUE
@pytest.mark.parametrize("size", [MAX_OPAQUE_BYTES - 3, 0x7FFF, 0xFFFF])
def test_fields_that_promise_more_than_there_is(
    parse: Callable[[bytes], object], size: int
) -> None:
    for kind in (3, 12, 22, 26, 300, 0xFFFF):
        _refused(partial(parse, struct.pack("<HH", kind, size) + b"x"))


@PARSE_OPAQUE
def test_one_field_many_times_is_found_at_the_second(parse: Callable[[bytes], object]) -> None:
    data = opaque_data([(300, b"")] * (MAX_OPAQUE_BYTES // 4))
    _refused(lambda: parse(data), most=50)


# --- chains --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [9, 40, 10_000])
def test_many_certificates(count: int) -> None:
    block = HOPPER.chain[0].pem().encode()
    _refused(_call(parse_device_chain, block * count), most=400)


@pytest.mark.parametrize(
    "block",
    [
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----A",
        b"-----END CERTIFICATE-----\n",
        b"\n",
        b" A",
        b"-",
        b"\0",
        b"\0\n",
    ],
)
@pytest.mark.parametrize("count", [10_000, 1_000_000])
def test_many_blocks_of_nothing(block: bytes, count: int) -> None:
    """Even below the size limit, the first block that is no certificate ends it."""
    for data in (block * count, (block * count)[: 8 * 2 * MAX_CERTIFICATE_BYTES]):
        _refused(_call(parse_device_chain, data))
        _refused(_call(parse_device_chain, HOPPER.chain[0].pem().encode() + data[:-40] + b"x"))


def test_a_genuine_chain_in_a_large_buffer_of_zeros() -> None:
    """The driver's buffer has zeros after the text: however many, only those are dropped."""
    data = pem(HOPPER.chain) + bytes(1_000_000)
    assert len(parse_device_chain(data)) == 5
    _refused(_call(parse_device_chain, data + b"x"))


def _fat(count: int) -> Certificate:
    """The leaf with so many private extensions."""
    more = tuple(Extension(f"1.3.6.1.4.1.99999.{n}", False, b"\x05\0") for n in range(count))
    leaf = replace(HOPPER.chain[0], extensions=HOPPER.chain[0].extensions + more)
    return parse_certificate(leaf.signed_by(HOPPER.chain[1]).der())


def test_certificates_of_many_extensions() -> None:
    chain = parse_device_chain(pem(HOPPER.chain))

    def run(count: int) -> Callable[[], object]:
        fat = _fat(count)
        return lambda: verify_device_chain((fat, *chain[1:]), device_root(), SignatureMemory())

    assert verify_device_chain((_fat(200), *chain[1:]), device_root(), SignatureMemory()).fwid
    assert grows_linearly(run, 100)
    with pytest.raises(EvidenceError, match="too large"):
        _fat(2_000)


def test_firmware_ids_without_end() -> None:
    fwid = der.sequence(
        der.object_identifier("2.16.840.1.101.3.4.2.2"), der.octet_string(b"\1" * 48)
    )

    def run(count: int) -> Callable[[], object]:
        return _call(parse_dice_fwids, der.sequence(der.context(6, fwid * count)))

    assert len(parse_dice_fwids(der.sequence(der.context(6, fwid * 200)))) == 200
    assert grows_linearly(run, 50)


@pytest.mark.parametrize("parse", [parse_dice_fwids, parse_composite_device_id])
@pytest.mark.parametrize(
    "data",
    [
        b"\x30" * 10_000,
        b"\x30\x80" * 10_000,
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\xff" + b"\xff" * 127,
        b"\x30\x83\xff\xff\xff",
        b"\x3f\x81\x01\x00",
        b"\x30\x82\x00\x01\x00",
    ],
    ids=lambda data: data[:6].hex(),
)
def test_der_that_lies_about_its_length(parse: Callable[[bytes], object], data: bytes) -> None:
    _refused(lambda: parse(data), most=60)


def test_deeply_nested_der() -> None:
    data = b"\x05\0"
    for _ in range(2_000):
        data = der.sequence(data)
    for parse in (parse_dice_fwids, parse_composite_device_id):
        _refused(_call(parse, data), most=100)
    for read in (parse_ocsp_response, parse_crl):
        _refused(partial(_as_collateral, read, data), CollateralError, most=100)


def _as_collateral(read: Callable[..., object], data: bytes) -> object:
    return read(data, CollateralError) if read is parse_crl else read(data)


# --- OCSP ----------------------------------------------------------------------------------------

CHAIN = tuple(parse_certificate(spec.der()) for spec in HOPPER.chain)


def _status(collateral: RevocationSet) -> RevocationStatus:
    memory = SignatureMemory()
    return collateral.status_of(CHAIN, device_root(), AT, first=1, memory=memory)[0]


def _repeated(count: int) -> bytes:
    """A genuinely signed response with one single response so many times."""
    body = read_tlv(parse_ocsp_response(ocsp(GOOD)).tbs, 0, CollateralError)[1]
    produced = read_tlv(body, 0, CollateralError)[2]
    start = read_tlv(body, produced, CollateralError)[2]
    singles = read_tlv(body, start, CollateralError)[1] * count
    return wrap_ocsp(der.sequence(body[:start], der.sequence(singles)), HOPPER.chain[2].key)


@pytest.mark.parametrize("count", [MAX_SINGLE_RESPONSES + 1, 400, 100_000])
def test_many_single_responses(count: int) -> None:
    data = _repeated(count)
    assert (len(data) > MAX_OCSP_BYTES) == (count > 400)
    _refused(_call(parse_ocsp_response, data), CollateralError, most=20_000)


def test_responses_are_read_in_linear_work() -> None:
    assert grows_linearly(
        lambda count: _call(parse_ocsp_response, ocsp(*(GOOD,) * count)), MAX_SINGLE_RESPONSES // 4
    )


def _with_extensions(count: int, *, same: bool = False) -> bytes:
    """A response with so many extensions that nobody knows."""
    extension = [
        Extension(f"1.3.6.1.4.1.99999.{1 if same else n}", True, b"\x05\0").der()
        for n in range(count)
    ]
    tbs = parse_ocsp_response(ocsp(GOOD)).tbs
    body = tbs[4:] if tbs[1] == 0x82 else tbs[3:]
    whole = der.sequence(body, der.context(1, der.sequence(*extension)))
    return wrap_ocsp(whole, HOPPER.chain[2].key)


def test_many_extensions() -> None:
    parsed = parse_ocsp_response(_with_extensions(2_000))
    assert len(parsed.unknown_critical) == 2_000
    assert grows_linearly(lambda n: _call(parse_ocsp_response, _with_extensions(n)), 200)
    status = _status(RevocationSet.of([parsed]))
    assert status.outcome is Outcome.INVALID
    assert len(status.problem or "") < 300
    _refused(
        _call(parse_ocsp_response, _with_extensions(9, same=True)), CollateralError, most=1_000
    )


@pytest.mark.parametrize("size", [MAX_OCSP_BYTES, MAX_OCSP_BYTES + 1, 1 << 25])
def test_responses_of_every_size(size: int) -> None:
    for filler in (ocsp(GOOD), b"\x30\x80", b"\0", b"\xa0\x82\xff\xff"):
        data = (ocsp(GOOD)[:40] + filler * (size // len(filler)))[:size]
        _refused(_call(parse_ocsp_response, data), CollateralError)


def test_a_flood_of_answers_is_no_answer() -> None:
    """Of answers about one certificate 64 are weighed; more are not a reason to take the best."""
    answers = [
        parse_ocsp_response(ocsp(GOOD, nonce=number.to_bytes(4, "big")))
        for number in range(MAX_STATEMENTS + 1)
    ]
    revoked = parse_ocsp_response(ocsp(REVOKED))
    assert _status(RevocationSet.of(answers[:-1])).outcome is Outcome.GOOD
    assert _status(RevocationSet.of([*answers[:-2], revoked])).outcome is Outcome.REVOKED
    for flood in ((*answers,), (*answers, revoked)):
        assert _status(RevocationSet.of(flood)).outcome is Outcome.INVALID
    assert lines(lambda: _status(RevocationSet.of(answers))) < 20_000


def test_a_response_that_says_two_things_of_one_certificate_says_nothing() -> None:
    parsed = parse_ocsp_response(ocsp(GOOD, UNKNOWN))
    assert _status(RevocationSet.of([parsed])).outcome is Outcome.GOOD
    items = parsed.tbs.index(der.integer(HOPPER.chain[1].serial))
    twice = parsed.tbs.replace(
        der.integer(HOPPER.chain[1].serial + 1), der.integer(HOPPER.chain[1].serial)
    )
    assert twice[:items] == parsed.tbs[:items]
    both = parse_ocsp_response(wrap_ocsp(twice, HOPPER.chain[2].key))
    assert len({single.cert_id for single in both.responses}) == 1
    assert _status(RevocationSet.of([both])).outcome is Outcome.INVALID


# --- CRLs ----------------------------------------------------------------------------------------


def _crl_status(data: bytes) -> RevocationStatus:
    return check_crl(
        parse_crl(data, CollateralError), certificate=CHAIN[1], issuer=CHAIN[2], now=AT,
        memory=SignatureMemory(), nonce=None, max_age=timedelta(days=2),
    )  # fmt: skip


def _listing(*serials: int, reason: str | None = "certificate_hold") -> bytes:
    return crl().with_revoked(*serials, reason=reason).der()


def test_crls_of_many_entries() -> None:
    serial = HOPPER.chain[1].serial
    assert _crl_status(_listing(*range(1, 3_000))).outcome is Outcome.GOOD
    assert _crl_status(_listing(*range(1, 3_000), serial)).outcome is Outcome.ON_HOLD
    assert grows_linearly(lambda n: _call(_crl_status, _listing(*range(1, n))), 200)


def test_one_serial_many_times() -> None:
    """The worst of all entries counts, wherever it stands."""
    serial = HOPPER.chain[1].serial
    held = crl().with_revoked(*(serial,) * 500, reason="certificate_hold")
    assert _crl_status(held.der()).outcome is Outcome.ON_HOLD
    assert _crl_status(held.with_revoked(serial).der()).outcome is Outcome.REVOKED
    first = crl().with_revoked(serial).with_revoked(*(serial,) * 500, reason="certificate_hold")
    assert _crl_status(first.der()).outcome is Outcome.REVOKED


@pytest.mark.parametrize("size", [MAX_CRL_BYTES + 1, 1 << 25])
def test_huge_crls_are_refused_unread(size: int) -> None:
    data = _listing(1).ljust(size, b"\0")
    _refused(lambda: parse_crl(data, CollateralError), CollateralError, most=20)


# --- manifests -----------------------------------------------------------------------------------


def test_manifests_of_many_values() -> None:
    def run(count: int) -> Callable[[], object]:
        data = rim("545.00", {index: [bytes((index,)) * 48] * 5 for index in range(count)})
        return lambda: verify_rim(parse_rim(data), rim_root(), SignatureMemory(), AT)

    assert grows_linearly(run, 50)
    most = rim("545.00", {index: [bytes((index,)) * 48] * 9 for index in range(200) if index != 63})
    assert len(most) < MAX_XML_BYTES
    assert len(parse_rim(most).measurements) == 200


def test_alternatives_without_end() -> None:
    assert len(parse_rim(rim("545.00", {1: [bytes(48)] * 100})).measurements[1].alternatives) == 100
    _refused(_call(parse_rim, rim("545.00", {1: [bytes(48)] * 101})), CollateralError, most=30_000)


def test_a_manifest_signed_by_somebody_else_under_the_genuine_chain() -> None:
    """KeyInfo has NVIDIA's certificates; the signature is of another key."""
    honest = rim("545.00", {1: [bytes(48)]}).decode()
    start, end = honest.index("<ds:Signature "), honest.index("</SoftwareIdentity>")
    content = honest[:start] + honest[end:]
    scope = f'xmlns="{_value(honest, "xmlns=")}" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" '
    scope += f'xmlns:ns2="{_value(honest, "xmlns:ns2=")}"'
    evil = content.replace("00" * 48, "11" * 48, 1)
    assert evil != content
    for key in (SimKey("evil", curve="P-384"), rim_chain()[1].key, rim_chain()[-1].key):
        forged = sign_xml(evil, "</SoftwareIdentity>", scope, key)
        checked = verify_rim(parse_rim(forged), rim_root(), SignatureMemory(), AT)
        assert checked.rim is None
        assert "does not verify" in (checked.signature_problem or "")
    again = sign_xml(content, "</SoftwareIdentity>", scope, rim_chain()[0].key)
    assert again.decode() == honest


def _value(text: str, name: str) -> str:
    return text.split(name + '"', 1)[1].split('"', 1)[0]


# --- the promise over all of them ----------------------------------------------------------------

ENTRIES: dict[str, tuple[Callable[[bytes], object], type[CcverifyError], bytes]] = {
    "report": (parse_attestation_report, EvidenceError, HOPPER.report),
    "report text": (decode_report_text, EvidenceError, base64.b64encode(SMALL)),
    "GPU opaque data": (parse_gpu_opaque_data, EvidenceError, HOPPER.opaque),
    "switch opaque data": (parse_switch_opaque_data, EvidenceError, devices()[2].opaque),
    "chain": (parse_device_chain, EvidenceError, pem_chain(*HOPPER.chain).encode()),
    "OCSP": (parse_ocsp_response, CollateralError, ocsp(GOOD, delegated=True)),
    "CRL": (lambda data: parse_crl(data, CollateralError), CollateralError, _listing(1, 2)),
    "RIM": (parse_rim, CollateralError, rim("545.00", {1: [bytes(48)]})),
}


@pytest.mark.parametrize("name", ENTRIES)
@given(data=st.data())
@settings(max_examples=60)
def test_edited_input_parses_or_raises_the_one_error(name: str, data: st.DataObject) -> None:
    parse, error, honest = ENTRIES[name]
    assert parse(honest)
    edited = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(edited)))
        end = data.draw(st.integers(at, min(len(edited), at + 64)))
        filler = data.draw(st.sampled_from([b"", b"\0", b"\xff", b"<", b"0", b"\x30\x80"]))
        edited[at:end] = filler * data.draw(st.sampled_from([1, 2, 3, 600])) or edited[:at]
    try:
        parse(bytes(edited))
    except error as refused:
        assert type(refused) is error  # noqa: PT017
