"""Parsing of NVIDIA attestation reports: every field in its place, everything else refused."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.nvidia.spdm import (
    BLOCK_FIELDS,
    MAX_OPAQUE_BYTES,
    MAX_REPORT_BYTES,
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    AttestationReport,
    FixedField,
    decode_report_text,
    parse_attestation_report,
)
from ccverify.strict_json import parse_json
from ccverify.trust.signatures import EcPublicKey
from ccverify.trust.x509 import parse_pem_chain

# --- real evidence --------------------------------------------------------------------------------

# Report, and the certificate chain that goes with it (None: not kept with the report).
REPORT_FILES = {
    "blackwell-gb100/attestation-sdk-sample/blackwellAttestationReport.txt": (
        "blackwellCertChain.txt"
    ),
    "blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt": (
        "blackwell_cert_chain_case1.txt"
    ),
    "hopper/attestation-sdk-testdata/hopperAttestationReport.txt": "hopperCertChain.txt",
    "hopper/go-nvtrust/attestationReport.txt": "gpuAkCertChain.txt",
    "hopper/nvtrust-history-2023/attestationReport.txt": "gpuAkCertChain.txt",
    "hopper/nvtrust-local-gpu-verifier/hopperAttestationReport.txt": "hopperCertChain.txt",
    "hopper/trustee/hopperAttestationReport.txt": "hopper_signing_cert.pem",
    "ls10/attestation-sdk-sample/switchAttestationReport.txt": "switchCertChain.txt",
    "ls10/attestation-sdk-testdata/switchAttestationReport.txt": "switchCertChain.txt",
    # A report whose signature NVIDIA broke; its chain is not published.
    "ls10/attestation-sdk-sample/switchAttestationReportInvalidSignature.txt": None,
}
# A genuine report with one zero byte too many, left by a collector that kept part of NVML's
# fixed-size buffer: refused as it is, genuine without that byte.
PADDED = "hopper/trustee/hopper_coco_report1.txt"
PADDED_CHAIN = "hopper_coco_certs1.txt"
# JSON evidence, and how many different reports it holds.
EVIDENCE_FILES = {
    "nvidia/hopper/attestation-sdk-serialized/hopper_evidence.json": 1,
    "nvidia/hopper/attestation-sdk-serialized/hopper_evidence_cert_hold.json": 1,
    "nvidia/hopper/attestation-sdk-testdata/evidence_hopper_590_12.json": 1,
    "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier/gpu_evidence.json": 8,
    "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier/switch_evidence.json": 4,
    "tdx/captures/chutes_20260610/"
    "0002_api.chutes.ai_chutes_e51e818e-fa63-570d-9f68-49d7d1b4d12f_evidence.body": 56,
    "tdx/captures/neardirect_20260610/"
    "0001_qwen35-122b.completions.near.ai_v1_attestation_report.body": 8,
    "tdx/captures/phalacloud_20260610/0001_api.redpill.ai_v1_attestation_report.body": 40,
    "tdx/captures/nanogpt_20260325/glm-4.7_attestation.json": 24,
}
# Text files and JSON files together hold this many different reports, the padded one included.
DIFFERENT_REPORTS = 151

Evidence = tuple[str, bytes, bytes | None]
"""Where it is from, raw report, PEM chain."""


def _serialised(value: Any) -> Iterator[tuple[str, str]]:
    """Every (evidence, certificate) pair in the JSON, and in JSON texts inside it."""
    if isinstance(value, dict):
        evidence, certificate = value.get("evidence"), value.get("certificate")
        if isinstance(evidence, str) and isinstance(certificate, str):
            yield evidence, certificate
        for name, inner in value.items():
            if name == "nvidia_payload":
                inner = parse_json(inner, what="nvidia_payload", error=EvidenceError)
            yield from _serialised(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _serialised(inner)


@cache
def evidence_of(vectors: Path, name: str) -> tuple[Evidence, ...]:
    """The different reports of one JSON evidence file."""
    document = parse_json((vectors / name).read_bytes(), what=name, error=EvidenceError)
    pairs = dict.fromkeys(_serialised(document))
    return tuple(
        (f"{name}#{at}", decode_report_text(evidence.encode()), base64.b64decode(certificate))
        for at, (evidence, certificate) in enumerate(pairs)
    )


def report_of(vectors: Path, name: str) -> bytes:
    """The raw report of one text file under vectors/nvidia."""
    return decode_report_text((vectors / "nvidia" / name).read_bytes())


@cache
def genuine(vectors: Path) -> tuple[Evidence, ...]:
    """Every report of the vectors, the padded one cut to its length."""
    found: list[Evidence] = []
    for name, chain in REPORT_FILES.items():
        pem = chain and (vectors / "nvidia" / name).with_name(chain).read_bytes()
        found.append((name, report_of(vectors, name), pem or None))
    pem = (vectors / "nvidia" / PADDED).with_name(PADDED_CHAIN).read_bytes()
    found.append((PADDED, report_of(vectors, PADDED)[:-1], pem))
    for name in EVIDENCE_FILES:
        found.extend(evidence_of(vectors, name))
    return tuple(found)


def leaf_key(pem: bytes) -> EcPublicKey:
    """The key of the first certificate; collectors leave NVML's zeros after the last one."""
    return parse_pem_chain(pem.rstrip(b"\0"))[0].public_key


def is_switch(report: AttestationReport) -> bool:
    return len(report.measurements) == 31


# --- reports made here ----------------------------------------------------------------------------

NONCE = bytes(range(32))
OPAQUE = struct.pack("<HH", 300, 4) + b"data"


def block(index: int, value: bytes | None = None) -> bytes:
    value = hashlib.sha384(bytes([index])).digest() if value is None else value
    return struct.pack("<BBHBH", index, 1, 3 + len(value), 1, len(value)) + value


def make_report(
    *,
    indices: tuple[int, ...] = (1, 2, 3),
    record: bytes | None = None,
    count: int | None = None,
    opaque: bytes = OPAQUE,
    signature: bytes = b"\x5a" * 96,
) -> bytes:
    record = b"".join(map(block, indices)) if record is None else record
    return b"".join(
        (
            b"\x11\xe0\x01\xff" + NONCE + b"\0",
            b"\x11\x60\0\0" + bytes([len(indices) if count is None else count]),
            len(record).to_bytes(3, "little") + record,
            b"\xa5" * 32 + struct.pack("<H", len(opaque)) + opaque,
            signature,
        )
    )


SMALL = make_report()


def refused(data: bytes, message: str) -> EvidenceError:
    with pytest.raises(EvidenceError, match=message) as caught:
        parse_attestation_report(data)
    assert caught.value.expected
    assert caught.value.found
    return caught.value


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# --- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "start", "end"),
    [(REQUEST_FIELDS, 0, 37), (RESPONSE_FIELDS, 37, 45), (BLOCK_FIELDS, 0, 55)],
)
def test_fields_follow_each_other_without_gap(
    fields: tuple[FixedField, ...], start: int, end: int
) -> None:
    at = start
    for field in fields:
        assert field.offset == at, field.name
        assert field.meaning
        at += field.size
    assert at == end


def test_every_part_is_found() -> None:
    report = parse_attestation_report(SMALL)
    assert report.nonce == NONCE == SMALL[4:36]
    assert [(one.index, one.value) for one in report.measurements] == [
        (index, hashlib.sha384(bytes([index])).digest()) for index in (1, 2, 3)
    ]
    assert report.responder_nonce == b"\xa5" * 32
    assert report.opaque_data == OPAQUE
    assert report.signature == b"\x5a" * 96
    assert report.signed_range == SMALL[:-96]
    assert report.digest == hashlib.sha384(SMALL[:-96]).hexdigest()


def test_the_signature_is_no_part_of_the_identity() -> None:
    other = parse_attestation_report(make_report(signature=b"\1" * 96))
    assert other.digest == parse_attestation_report(SMALL).digest


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_bytes_like_objects_are_copied(kind: Callable[[bytes], Any]) -> None:
    report = parse_attestation_report(kind(SMALL))
    assert report == parse_attestation_report(SMALL)
    assert type(report.opaque_data) is type(report.signed_range) is bytes


def test_blocks_keep_their_order_and_may_skip_indices() -> None:
    report = parse_attestation_report(make_report(indices=(255, 7, 1)))
    assert [one.index for one in report.measurements] == [255, 7, 1]


def test_the_largest_number_of_blocks_does_not_fit_a_report() -> None:
    refused(make_report(indices=tuple(range(1, 256))), "too large")
    most = (MAX_REPORT_BYTES - len(make_report(indices=(), opaque=OPAQUE))) // 55
    report = parse_attestation_report(make_report(indices=tuple(range(1, most + 1))))
    assert len(report.measurements) == most


# --- every rule has a report that breaks it -------------------------------------------------------

FIXED = [field for field in (*REQUEST_FIELDS, *RESPONSE_FIELDS) if field.value is not None]


@pytest.mark.parametrize("field", FIXED, ids=lambda field: f"{field.name}-{field.offset}")
def test_fixed_fields_take_one_value(field: FixedField) -> None:
    assert SMALL[field.offset] == field.value
    for value in set(range(256)) - {field.value, 0x7F}:
        error = refused(changed(SMALL, field.offset, bytes([value])), f"wrong {field.name}")
        assert error.where == f"report[{field.offset}:{field.offset + 1}]"


@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize(
    "field", [one for one in BLOCK_FIELDS if one.value is not None], ids=lambda field: field.name
)
def test_fixed_fields_of_blocks_take_one_value(field: FixedField, which: int) -> None:
    at = 45 + 55 * which + field.offset
    for bit in range(8 * field.size):
        value = int.from_bytes(SMALL[at : at + field.size], "little") ^ 1 << bit
        data = changed(SMALL, at, value.to_bytes(field.size, "little"))
        error = refused(data, f"wrong {field.name}")
        assert error.where == f"report[{at}:{at + field.size}]"


def test_spdm_1_2_is_refused_by_name() -> None:
    error = refused(changed(SMALL, 0, b"\x12"), "wrong SPDMVersion")
    assert error.expected == "0x11 (SPDM 1.1)"
    assert error.found == "0x12"


def test_an_error_response_is_refused_as_such() -> None:
    error = refused(changed(SMALL, 38, b"\x7f\x05"), "SPDM error instead of measurements")
    assert "error code 0x05" in (error.found or "")


def test_no_blocks_are_refused() -> None:
    refused(make_report(indices=()), "no measurements")
    refused(make_report(count=0), "no measurements")


@pytest.mark.parametrize("count", [1, 2, 4, 255])
def test_the_number_of_blocks_must_fit_the_length_of_the_record(count: int) -> None:
    error = refused(make_report(count=count), "does not fit NumberOfBlocks")
    assert error.expected == f"{count * 55} ({count} blocks of 55 bytes)"
    assert error.found == "165"


@pytest.mark.parametrize("length", [0, 55, 164, 166, 220, 0xFFFFFF])
def test_the_length_of_the_record_must_fit_the_number_of_blocks(length: int) -> None:
    data = changed(SMALL, 42, length.to_bytes(3, "little"))
    assert refused(data, "does not fit NumberOfBlocks").where == "report[42:45]"


@pytest.mark.parametrize("size", [0, 32, 47, 49, 64])
def test_blocks_of_another_size_are_refused(size: int) -> None:
    other = block(1, bytes(size))
    fill = 55 * 3 - len(other)
    refused(make_report(record=other + bytes(fill)), "wrong MeasurementSize")


def test_index_zero_is_refused() -> None:
    error = refused(make_report(indices=(1, 0, 2)), "index is zero")
    assert error.where == "report[100]"


@pytest.mark.parametrize("indices", [(1, 1, 2), (1, 2, 1), (9, 8, 8)])
def test_an_index_twice_is_refused(indices: tuple[int, ...]) -> None:
    refused(make_report(indices=indices), "appears twice")
    same = b"".join(block(index, bytes(48)) for index in indices)
    refused(make_report(record=same), "appears twice")


def test_empty_opaque_data_is_refused() -> None:
    assert refused(make_report(opaque=b""), "wrong length of the opaque data").found == "0"


def test_opaque_data_has_a_limit() -> None:
    parse_attestation_report(make_report(opaque=bytes(MAX_OPAQUE_BYTES)))
    refused(make_report(opaque=bytes(MAX_OPAQUE_BYTES + 1)), "wrong length of the opaque data")


@pytest.mark.parametrize("change", [-1, 1])
def test_the_length_of_the_opaque_data_decides_where_the_signature_is(change: int) -> None:
    at = 45 + 3 * 55 + 32
    data = changed(SMALL, at, struct.pack("<H", len(OPAQUE) + change))
    refused(data, "after the signature" if change < 0 else "inside its signature")


@pytest.mark.parametrize("tail", [b"\0", bytes(100), b"\1", b"\0\1", SMALL])
def test_nothing_may_follow_the_signature(tail: bytes) -> None:
    error = refused(SMALL + tail, "bytes after the signature")
    assert error.where == f"report[{len(SMALL)}:{len(SMALL + tail)}]"
    assert ("cut the report" in (error.hint or "")) == (not tail.strip(b"\0"))


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(95), bytes(97), bytes(104)])
def test_signatures_of_another_length_are_refused(signature: bytes) -> None:
    refused(make_report(signature=signature), "signature")


def test_large_reports_are_refused_unread() -> None:
    assert refused(bytes(MAX_REPORT_BYTES + 1), "too large").found == "8193"


@pytest.mark.parametrize("data", [b"", b"\x11", b"\x11\xe0", b"not a report"])
def test_short_garbage_is_refused(data: bytes) -> None:
    refused(data, "ends inside its GET_MEASUREMENTS request")


# --- text forms -----------------------------------------------------------------------------------

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda data: data,
    "hex": lambda data: data.hex().encode(),
    "HEX": lambda data: data.hex().upper().encode(),
    "0x": lambda data: b"0x" + data.hex().encode(),
    "0X": lambda data: b"0X" + data.hex().encode(),
    "hex lines": lambda data: data.hex("\n", 32).encode() + b"\r\n",
    "base64": base64.b64encode,
    "base64 lines": base64.encodebytes,
    "base64url": base64.urlsafe_b64encode,
    "base64url unpadded": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("more", [0, 1, 2])
def test_text_forms(form: str, more: int) -> None:
    data = make_report(opaque=OPAQUE + bytes(more))
    assert decode_report_text(FORMS[form](data)) == data


@pytest.mark.parametrize("form", [form for form in FORMS if form != "raw"])
def test_white_space_around_text_does_not_matter(form: str) -> None:
    assert decode_report_text(b"\n\t " + FORMS[form](SMALL) + b" \r\n") == SMALL


def test_a_raw_report_that_ends_in_white_space_stays_whole() -> None:
    data = make_report(signature=b" " * 96)
    assert decode_report_text(data) == data


@pytest.mark.parametrize(
    "text", [SMALL.hex()[:-1].encode(), b"0x123", base64.b64encode(SMALL)[:41], b"EeAB/"]
)
def test_damaged_text_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceError, match="cut short or damaged"):
        decode_report_text(text)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"EeAB=EeAB", b"a=b", b"\0" * 40])
def test_what_is_no_text_form_is_left_to_the_parser(data: bytes) -> None:
    assert decode_report_text(data) == data
    refused(data, "ends inside|wrong SPDMVersion")


def test_text_has_a_limit() -> None:
    decode_report_text(b"11" * 2 * MAX_REPORT_BYTES)
    with pytest.raises(EvidenceError, match="too large"):
        decode_report_text(b"11" * 2 * MAX_REPORT_BYTES + b"1")


# --- properties -----------------------------------------------------------------------------------


def parse_or_refuse(data: bytes) -> AttestationReport | None:
    try:
        report = parse_attestation_report(data)
    except EvidenceError:
        return None
    # What was accepted can be put together again from its parts: nothing was overlooked.
    record = b"".join(block(one.index, one.value) for one in report.measurements)
    rebuilt = make_report(
        record=record,
        count=len(report.measurements),
        opaque=report.opaque_data,
        signature=report.signature,
    )
    rebuilt = changed(rebuilt, 4, report.nonce)
    rebuilt = changed(rebuilt, 45 + len(record), report.responder_nonce)
    assert rebuilt == data == report.signed_range + report.signature
    return report


def test_every_truncation_is_refused() -> None:
    assert parse_or_refuse(SMALL)
    for end in range(len(SMALL)):
        assert parse_or_refuse(SMALL[:end]) is None


def test_every_truncation_of_a_real_report_is_refused(vectors: Path) -> None:
    data = report_of(vectors, "ls10/attestation-sdk-sample/switchAttestationReport.txt")
    for end in range(len(data)):
        assert parse_or_refuse(data[:end]) is None


def test_every_bit_flip_is_refused_or_shows() -> None:
    """A flip is refused, or makes another report: no bit is without meaning."""
    digest = parse_attestation_report(SMALL).digest
    for bit in range(8 * len(SMALL)):
        data = bytearray(SMALL)
        data[bit // 8] ^= 1 << bit % 8
        report = parse_or_refuse(bytes(data))
        if report is not None:
            in_signature = bit // 8 >= len(SMALL) - 96
            assert (report.digest == digest) == in_signature


@given(st.binary(max_size=400))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    parse_or_refuse(data)
    parse_or_refuse(SMALL[:37] + data)
    parse_or_refuse(SMALL[:45] + data)


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_text_decoding_never_raises_anything_else(data: bytes) -> None:
    with suppress(EvidenceError):
        decode_report_text(data)


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 255), max_size=12),
    st.integers(0, 255),
    st.binary(max_size=40),
    st.binary(max_size=3),
)
def test_what_is_well_formed_is_accepted_and_nothing_else(
    indices: list[int], count: int, opaque: bytes, tail: bytes
) -> None:
    well_formed = 0 not in indices and len(set(indices)) == len(indices) > 0 and opaque != b""
    data = make_report(indices=tuple(indices), opaque=opaque)
    assert (parse_or_refuse(data) is not None) == well_formed
    assert (parse_or_refuse(data + tail) is not None) == (well_formed and not tail)
    counted = make_report(indices=tuple(indices), count=count, opaque=opaque)
    assert (parse_or_refuse(counted) is not None) == (well_formed and count == len(indices))


@settings(max_examples=100)
@given(st.data())
def test_edits_of_a_report_are_refused_or_rebuildable(draws: st.DataObject) -> None:
    data = bytearray(SMALL)
    for _ in range(draws.draw(st.integers(1, 4))):
        at = draws.draw(st.integers(0, len(data)))
        end = draws.draw(st.integers(at, min(len(data), at + 60)))
        data[at:end] = draws.draw(st.binary(max_size=60))
    parse_or_refuse(bytes(data))


def test_the_work_is_bounded_by_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of the record is looked at once, whatever the indices are."""
    from ccverify.nvidia import spdm

    made = Counter[str]()
    real = spdm.Measurement

    def counting(index: int, value: bytes) -> Any:
        made["blocks"] += 1
        return real(index, value)

    monkeypatch.setattr(spdm, "Measurement", counting)
    parse_attestation_report(make_report(indices=tuple(range(1, 141))))
    assert made["blocks"] == 140
    made.clear()
    refused(make_report(indices=(1,) * 140), "appears twice")
    assert made["blocks"] == 1


# --- real evidence --------------------------------------------------------------------------------


def test_every_real_report_parses(vectors: Path) -> None:
    kinds = Counter[tuple[int, int]]()
    for name, data, _ in genuine(vectors):
        report = parse_or_refuse(data)
        assert report is not None, name
        assert report.nonce == data[4:36]
        assert report.signed_range == data[:-96]
        assert [one.index for one in report.measurements] == list(
            range(1, len(report.measurements) + 1)
        ), name
        kinds[len(report.measurements), len(data)] += 1
    assert {blocks for blocks, _ in kinds} == {31, 64}
    assert len({data for _, data, _ in genuine(vectors)}) == DIFFERENT_REPORTS


@pytest.mark.parametrize("name", EVIDENCE_FILES)
def test_every_report_of_serialised_evidence_is_found(vectors: Path, name: str) -> None:
    assert len(evidence_of(vectors, name)) == EVIDENCE_FILES[name]


def test_every_signed_range_is_what_the_leaf_certificate_signed(vectors: Path) -> None:
    verified = 0
    for name, data, pem in genuine(vectors):
        if pem is None:
            continue
        report = parse_attestation_report(data)
        assert leaf_key(pem).verify_raw(report.signature, report.signed_range), name
        verified += 1
    assert verified == len(genuine(vectors)) - 1


def test_a_changed_report_is_not_what_was_signed(vectors: Path) -> None:
    name, data, pem = next(one for one in genuine(vectors) if one[2])
    assert pem
    key = leaf_key(pem)
    for at in (4, 60, len(data) - 97, len(data) - 1):
        report = parse_attestation_report(changed(data, at, bytes([data[at] ^ 1])))
        assert not key.verify_raw(report.signature, report.signed_range), (name, at)


def test_the_zero_byte_some_collectors_leave_is_refused_with_advice(vectors: Path) -> None:
    data = report_of(vectors, PADDED)
    error = refused(data, "bytes after the signature")
    assert error.where == "report[4129:4130]"
    assert error.found == "1 bytes, beginning 00"
    assert "cut the report after 4129 bytes" in (error.hint or "")
    assert parse_attestation_report(data[:-1]).signed_range == data[:-97]


# --- against NVIDIA's own parser ------------------------------------------------------------------

# NVIDIA's expected parser output, and the report it was made from.
EXPECTED_RESPONSES = {
    "hopper/attestation-sdk-testdata/spdm_parsed_output.json": (
        "hopper/attestation-sdk-testdata/hopperAttestationReport.txt"
    ),
    "ls10/attestation-sdk-testdata/switch_spdm_parsed_output.json": (
        "ls10/attestation-sdk-testdata/switchAttestationReport.txt"
    ),
}
EXPECTED_REQUESTS = {
    "hopper/attestation-sdk-testdata/spdm_req_parsed_output.json": (
        "hopper/attestation-sdk-testdata/hopperAttestationReport.txt"
    ),
    "ls10/attestation-sdk-testdata/switch_spdm_req_parsed_output.json": (
        "ls10/attestation-sdk-testdata/switchAttestationReport.txt"
    ),
}


def load(vectors: Path, name: str) -> Any:
    return json.loads((vectors / "nvidia" / name).read_text("utf-8"))


def fixed_values(fields: tuple[FixedField, ...]) -> dict[str, str]:
    return {
        field.name: f"0x{field.value:02x}"
        for field in fields
        if field.value is not None and field.name.partition("SpecMeasurement")[1] == ""
    }


@pytest.mark.parametrize("name", EXPECTED_REQUESTS)
def test_requests_as_nvidia_parses_them(vectors: Path, name: str) -> None:
    report = parse_attestation_report(report_of(vectors, EXPECTED_REQUESTS[name]))
    ours = {**fixed_values(REQUEST_FIELDS), "Nonce": f"0x{report.nonce.hex()}"}
    assert ours == load(vectors, name)


@pytest.mark.parametrize("name", EXPECTED_RESPONSES)
def test_responses_as_nvidia_parses_them(vectors: Path, name: str) -> None:
    report = parse_attestation_report(report_of(vectors, EXPECTED_RESPONSES[name]))
    theirs = load(vectors, name)
    assert set(theirs.pop("OpaqueData")) == {"OpaqueDataField"}  # test_nv_opaque.py compares it
    count = len(report.measurements)
    ours = {
        **fixed_values(RESPONSE_FIELDS),
        "NumberOfBlocks": count,
        "MeasurementRecordLength": 55 * count,
        "MeasurementRecord": {
            "NumberOfBlocks": count,
            "MeasurementBlocks": {
                str(one.index): {
                    "DMTFSpecMeasurementValueType": 1,
                    "DMTFSpecMeasurementValueSize": len(one.value),
                    "DMTFSpecMeasurementValue": f"0x{one.value.hex()}",
                }
                for one in report.measurements
            },
        },
        "Nonce": f"0x{report.responder_nonce.hex()}",
        "OpaqueLength": len(report.opaque_data),
        "Signature": f"0x{report.signature.hex()}",
    }
    assert ours == theirs


CLAIMS = {
    "hopper/trustee/hopperAttestationReport-claims.txt": (
        "hopper/trustee/hopperAttestationReport.txt"
    ),
    "blackwell-gb202/trustee-pr1551/blackwellAttestationReport-claims.txt": (
        "blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt"
    ),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_measurements_as_trustee_parses_them(vectors: Path, name: str) -> None:
    report = parse_attestation_report(report_of(vectors, CLAIMS[name]))
    ours = {str(one.index): one.value.hex() for one in report.measurements}
    assert ours == load(vectors, name)["measurements"]
