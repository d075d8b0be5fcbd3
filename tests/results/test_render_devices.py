"""Inspections of NVIDIA reports, chains, manifests, revocation answers and foreign documents."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.evidence import (
    Assertion,
    BindingInputs,
    BindingProfile,
    DeviceEvidence,
    Evidence,
    OtherCpuEvidence,
)
from ccverify.interop.detect import KNOWN_FORMATS
from ccverify.interop.model import DetachedEat, ForeignEvidence, Jwt, JwtTimes, Submodule
from ccverify.nvidia.ocsp import parse_ocsp_response
from ccverify.nvidia.opaque import (
    GPU_FIELDS,
    SWITCH_FIELDS,
    UNSAID,
    GpuOpaqueData,
    SwitchOpaqueData,
)
from ccverify.nvidia.rim import parse_rim
from ccverify.nvidia.spdm import decode_report_text, parse_attestation_report
from ccverify.results.render.describe_certificates import (
    describe_chain,
    describe_crl,
    describe_ocsp,
)
from ccverify.results.render.describe_devices import describe_report, parse_opaque_data
from ccverify.results.render.describe_foreign import FORMAT_TITLES, describe_foreign
from ccverify.results.render.describe_rim import describe_rim
from ccverify.results.render.inspection import Inspection, inspection_json, render_inspection
from ccverify.results.render.runs import name_runs
from ccverify.trust.x509 import parse_crl, parse_pem_chain

NONCE = bytes(range(32))
HOSTILE = "\x1b]0;owned\x07\u202e\n✓ TRUSTED"
Json = dict[str, Any]


def field(number: int, data: bytes) -> bytes:
    return struct.pack("<HH", number, len(data)) + data


GPU_OPAQUE = b"".join(
    (
        field(3, b"570.124.03\0"),
        field(4, struct.pack("<II", 0x180, 0)),
        field(6, bytes.fromhex("009f009601000000")),
        field(34, b"\x01\0"),
        field(36, b"\x02\0"),
        field(77, b"\xca\xfe"),
    )
)
SWITCH_OPAQUE = field(6, b"96.10.55.00.01") + field(22, bytes(range(1, 9))) + field(25, b"\1\0")


def report(opaque: bytes = GPU_OPAQUE, blocks: int = 2) -> bytes:
    """A report that parses; nobody signed it."""
    record = b"".join(
        bytes([n]) + struct.pack("<BHBH", 1, 51, 1, 48) + bytes([n]) * 48
        for n in range(1, blocks + 1)
    )
    head = b"\x11\x60\0\0" + bytes([blocks]) + len(record).to_bytes(3, "little")
    tail = bytes([0xEE]) * 32 + struct.pack("<H", len(opaque)) + opaque + bytes(96)
    return b"\x11\xe0\x01\xff" + NONCE + b"\0" + head + record + tail


def text_of(inspection: Inspection, width: int = 100) -> str:
    text = render_inspection(inspection, width=width)
    assert text.replace("\n", "").isprintable()
    assert text.splitlines()[1].startswith("UNVERIFIED")
    return text


def json_of(inspection: Inspection) -> Json:
    document: Json = json.loads(inspection_json(inspection))
    assert document["verified"] is False
    return document


def both(inspection: Inspection) -> tuple[str, Json]:
    return text_of(inspection), json_of(inspection)


def described(opaque: bytes) -> tuple[str, Json]:
    return both(describe_report(parse_attestation_report(report(opaque))))


# --- reports -------------------------------------------------------------------------------------


def test_a_gpu_report_is_shown_field_by_field() -> None:
    text, document = described(GPU_OPAQUE)
    assert document["kind"] == "nvidia-report"
    assert text.startswith("NVIDIA attestation report of a GPU\n")
    assert document["request"]["Nonce"] == NONCE.hex()
    assert document["measurements"][1] == {"block": 2, "value": "02" * 48}
    device = document["device"]
    assert (device["kind"], device["chip"], device["mode"]) == ("gpu", "GH100", "PPCIE")
    assert (device["driver"], device["vbios"]) == ("570.124.03", "96.00.9F.00.01")
    assert document["opaque"]["TYPE_77"] == "cafe"
    assert document["opaque"]["FEATURE_FLAG"] == "PROTECTED_PCIE"
    assert re.search(r"FEATURE_FLAG +PROTECTED_PCIE ", text)
    assert "this version cannot decode it; type 77" in text
    assert document["not_said"] == {each.topic: each.text for each in UNSAID}
    assert "0x11" in text


def test_a_switch_report_is_known_by_its_fields() -> None:
    text, document = described(SWITCH_OPAQUE)
    assert text.startswith("NVIDIA attestation report of an NVSwitch\n")
    assert document["device"]["device_id"] == "0102030405060708"
    assert document["device"]["locked"] is True
    assert "not_said" not in document


def test_places_are_where_the_bytes_are() -> None:
    data = report()
    inspection = describe_report(parse_attestation_report(data))
    opaque = next(part for part in inspection.parts if part.key == "opaque")
    found = {item.name: item.where for item in opaque.items}  # type: ignore[union-attr]
    for name, value in (("DRIVER_VERSION", b"570.124.03\0"), ("TYPE_77", b"\xca\xfe")):
        start, stop = found[name].partition("report[")[2].removesuffix("]").split(":")
        assert data[int(start) : int(stop)] == value


def test_a_mode_that_contradicts_itself_is_none() -> None:
    broken = field(3, b"570\0") + field(21, b"\x55") + field(34, b"\1\0") + field(36, b"\2\0")
    _, document = described(broken)
    assert document["device"]["mode"] == "NOT_STATED"
    assert "disabled" in document["device"]["mode_problem"]


@pytest.mark.parametrize(
    "opaque",
    [
        field(3, b"\x1b[2J\0"),
        field(3, b"570\0") + field(6, b"short"),
        field(22, bytes(8)) + field(6, b"x"),
        field(3, b"570\0") * 2,
        b"\x03\0\xff\xff",
        b"\1",
    ],
)
def test_opaque_data_that_is_not_readable_does_not_hide_the_report(opaque: bytes) -> None:
    text, document = described(opaque)
    assert document["opaque"]["opaque_data"] == opaque.hex()
    assert document["opaque"]["error"]
    assert document["measurements"]
    assert "Opaque data" in text


@given(st.binary(min_size=1, max_size=200))
def test_any_opaque_data_is_shown(opaque: bytes) -> None:
    described(opaque)
    with contextlib.suppress(EvidenceError):
        assert isinstance(parse_opaque_data(opaque), GpuOpaqueData | SwitchOpaqueData)


REPORTS = {
    "blackwell-gb100/attestation-sdk-sample/blackwellAttestationReport.txt": "GB100",
    "blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt": "GB202",
    "hopper/attestation-sdk-testdata/hopperAttestationReport.txt": "GH100",
    "hopper/nvtrust-history-2023/attestationReport.txt": "GH100",
    "ls10/attestation-sdk-sample/switchAttestationReport.txt": "LS10",
}


@pytest.mark.parametrize("name", REPORTS)
def test_genuine_reports_are_shown_in_full(vectors: Path, name: str) -> None:
    parsed = parse_attestation_report(decode_report_text((vectors / "nvidia" / name).read_bytes()))
    text, document = both(describe_report(parsed))
    opaque = parse_opaque_data(parsed.opaque_data)
    rules = SWITCH_FIELDS if isinstance(opaque, SwitchOpaqueData) else GPU_FIELDS
    known = {rule.type: rule for rule in rules}
    assert len(document["opaque"]) == len(opaque.fields)
    for raw in opaque.fields:
        assert raw.type not in known or known[raw.type].name in document["opaque"]
    assert [m["value"] for m in document["measurements"]] == [
        m.value.hex() for m in parsed.measurements
    ]
    assert document["request"]["Nonce"] == parsed.nonce.hex()
    assert (REPORTS[name] == "LS10") == (document["device"]["kind"] == "nvswitch")
    if REPORTS[name] in ("GH100", "GB202"):
        assert document["device"]["chip"] == REPORTS[name]
    assert "zero (48 bytes)" in text or REPORTS[name] == "LS10"


# --- certificates and revocation -----------------------------------------------------------------

CHAINS = {
    "hopper/trustee/hopper_coco_certs1.txt": ("GH100", "D1A9A24F202CB2B5", "gpu", 5),
    "blackwell-gb100/attestation-sdk-sample/blackwellCertChain.txt": (
        "GB100", "E6DE55C3BDC14277", "gpu", 5,
    ),
    "blackwell-gb202/trustee-pr1551/blackwell_cert_chain_case1.txt": (
        "GB20X", "11BF087A2E3DDB5F", "gpu", 5,
    ),
    "ls10/attestation-sdk-sample/switchCertChain.txt": (
        "LS_10", "203EB31AD9ED0008", "nvswitch", 5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_device_chain_says_what_device_it_is_of(vectors: Path, name: str) -> None:
    chain = parse_pem_chain((vectors / "nvidia" / name).read_bytes())
    text, document = both(describe_chain(chain))
    device = document["device"]
    found = (device["chip"], device["device_id"], device["type"], len(document["certificates"]))
    assert found == CHAINS[name]
    assert len(device["fwid"]) == 96
    assert text.startswith("Certificate chain of an NVIDIA device, 5 certificates\n")
    assert document["certificates"][-1]["name"] == "NVIDIA Device Identity CA"
    assert document["certificates"][0]["not_after"] == "9999-12-31T23:59:59Z"


def test_a_part_of_a_chain_is_shown_with_what_it_lacks(vectors: Path) -> None:
    chain = parse_pem_chain((vectors / "nvidia" / next(iter(CHAINS))).read_bytes())
    device = json_of(describe_chain(chain[:1]))["device"]
    assert device == {"chip": None, "device_id_problem": "there is no certificate [1]"}
    swapped = json_of(describe_chain((chain[1], chain[0], *chain[2:])))["device"]
    assert swapped["device_id_problem"]
    assert swapped["fwid_problem"] == "certificate [0] has no FWID"
    assert "device" not in json_of(describe_chain(chain[2:]))


def certificate(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    full = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(full)
        .issuer_name(full)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=9))
        .sign(key, SHA384())
    )


START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP384R1())


@pytest.mark.parametrize("name", [HOSTILE, "GH100 A01 GSP BROM\x1b", "x" * 64, "\x9b31m FMC LF"])
def test_hostile_names_of_certificates_stay_text(name: str) -> None:
    pem = certificate(name[:64], KEY).public_bytes(Encoding.PEM)
    text = text_of(describe_chain(parse_pem_chain(pem * 2)))
    assert not any(line.startswith("✓") for line in text.splitlines())


def test_a_revocation_list_shows_what_is_on_it() -> None:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate("NVIDIA CA", KEY).subject)
        .last_update(START)
        .next_update(START + timedelta(days=1))
        .add_extension(x509.CRLNumber(3), critical=False)
    )
    for serial in range(1, 101):
        entry = x509.RevokedCertificateBuilder(serial, START)
        if serial == 1:
            reason = x509.CRLReason(x509.ReasonFlags.certificate_hold)
            entry = entry.add_extension(reason, critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    crl = parse_crl(builder.sign(KEY, SHA384()).public_bytes(Encoding.DER))
    text, document = both(describe_crl(crl))
    assert (document["kind"], document["summary"]["number"]) == ("crl", 3)
    assert len(document["revoked"]) == document["summary"]["revoked_certificates"] == 100
    assert document["revoked"][0]["reason"] == "certificateHold"
    assert document["revoked"][99] == {
        "serial": "64", "revoked_at": "2026-01-01T00:00:00Z", "reason": None,
    }  # fmt: skip
    assert "… and 36 more" in text


@pytest.mark.parametrize("status", list(ocsp.OCSPCertStatus))
def test_an_ocsp_response_is_shown(status: ocsp.OCSPCertStatus) -> None:
    own = certificate("Responder", KEY)
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=own,
        issuer=own,
        algorithm=SHA256(),
        cert_status=status,
        this_update=START,
        next_update=START + timedelta(days=1),
        revocation_time=START if revoked else None,
        revocation_reason=x509.ReasonFlags.certificate_hold if revoked else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, own).certificates([own])
    der = builder.sign(KEY, SHA384()).public_bytes(Encoding.DER)
    text, document = both(describe_ocsp(parse_ocsp_response(der)))
    single = document["responses"][0]
    assert single["status"] == status.name.lower()
    assert single["reason"] == ("certificateHold" if revoked else None)
    assert (single["serial"], single["hash"]) == ("7", "sha256")
    assert document["summary"]["responder_name"] == "CN=Responder"
    assert document["certificates"][0]["name"] == "Responder"
    assert "OCSP response about 1 certificate\n" in text


# --- manifests -----------------------------------------------------------------------------------

RIMS = "nvidia/rim/attestation-sdk-testdata"


@pytest.mark.parametrize(
    ("name", "kind", "chip", "version"),
    [
        ("NV_GPU_DRIVER_GH100_550.144.03.xml", "driver", "GH100", "550.144.03"),
        (
            "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml",
            *("switch-bios", "LS10", "96.10.55.00.01"),
        ),
        ("incorrect_cert_chain_driver_rim.xml", "vbios", "GB100", "97.00.83.00.09"),
    ],
)
def test_a_manifest_is_shown(vectors: Path, name: str, kind: str, chip: str, version: str) -> None:
    rim = parse_rim((vectors / RIMS / name).read_bytes())
    text, document = both(describe_rim(rim))
    summary = document["summary"]
    assert (summary["kind"], summary["chip"], summary["version"]) == (kind, chip, version)
    assert summary["tag_id"] == rim.tag_id
    assert summary["signer_expires"] <= min(c["not_after"] for c in document["certificates"])
    golden = {m["index"]: m for m in document["measurements"]}
    assert golden.keys() == rim.measurements.keys()
    for index, stated in rim.measurements.items():
        assert golden[index]["active"] is stated.active
        assert golden[index]["values"] == [value.hex() for value in stated.alternatives]
    assert summary["active_measurements"] == len(rim.golden)
    assert text.count("not compared") == len(golden) - len(rim.golden)


# --- foreign documents ---------------------------------------------------------------------------


def device(**changes: Any) -> DeviceEvidence:
    arguments: Json = {
        "report": report(),
        "certificate_chain": b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "claimed_architecture": "HOPPER",
        "claimed_nonce": NONCE,
        "source": "evidence[0]",
    }
    return DeviceEvidence(**(arguments | changes))


def shown(node: Evidence, **more: Any) -> tuple[str, Json]:
    return both(describe_foreign(ForeignEvidence("chutes", (node,), **more)))


def test_every_format_has_a_title() -> None:
    assert set(FORMAT_TITLES) == set(KNOWN_FORMATS)


def test_devices_are_rows_and_problems_are_told() -> None:
    other = report(field(3, b"570\0"))
    node = Evidence(
        gpus=(device(), device(), device(), device(report=other, claimed_nonce=bytes(32))),
        switches=(device(report=report(SWITCH_OPAQUE)), device(report=b"cut", claimed_nonce=None)),
        label="n",
    )
    text, document = shown(node)
    inner = document["nodes"][0]
    assert [gpu["id"] for gpu in inner["gpus"]] == [f"gpu-{n}" for n in range(4)]
    assert inner["gpus"][0]["driver"] == "570.124.03"
    assert inner["gpus"][0]["mode"] == "PPCIE"
    assert inner["gpus"][0]["unknown_fields"] == ["77: cafe"]
    assert inner["gpus"][0]["chip"] is None  # what the chain says, and this one is none
    assert inner["gpus"][0]["chain_problem"]
    assert inner["gpus"][3]["claimed_nonce_problem"]
    assert inner["nvswitches"][0]["report_device_id"] == "0102030405060708"
    assert inner["nvswitches"][1]["report_problem"]
    assert "gpu-0 … gpu-3" in text
    assert "Node: n (workload: 4 GPUs, 2 NVSwitches)" in text


def test_nodes_are_told_apart() -> None:
    nodes = (Evidence(label="a"), Evidence(label=HOSTILE))
    text, document = both(describe_foreign(ForeignEvidence("near", nodes)))
    assert "Node 1 of 2: a (workload: no evidence)" in text
    assert [node["node"]["label"] for node in document["nodes"]] == ["a", HOSTILE]
    assert not any(line.lstrip().startswith("✓") for line in text.splitlines())


def test_an_unreadable_quote_and_log_do_not_hide_the_rest() -> None:
    node = Evidence(quote=b"\x04\0\x02\0", event_log=b"[{}]", gpus=(device(),))
    _, document = shown(node)
    inner = document["nodes"][0]
    assert inner["quote"]["error"]
    assert inner["event_log"]["error"]
    assert inner["gpus"][0]["nonce"] == NONCE.hex()


def test_what_is_asserted_is_said_to_prove_nothing() -> None:
    said = (Assertion("verified", True, "a.verified"), Assertion(HOSTILE, HOSTILE, HOSTILE))
    node = Evidence(gpus=(device(asserted=(Assertion("v", 1, "x"),)),) * 3, asserted=said)
    text, document = shown(node, asserted=said[:1], not_read=(HOSTILE, "b"))
    assert text.count("proves nothing") == 2
    inner = document["nodes"][0]["asserted"]
    assert len(inner) == 5
    assert inner[0] == {"name": "verified", "value": True, "source": "a.verified"}
    assert "x and 2 more" in text
    assert document["asserted"] == inner[:1]
    assert document["not_read"] == [{"path": HOSTILE}, {"path": "b"}]


def test_cpu_evidence_of_another_kind_is_not_taken_for_absent() -> None:
    node = Evidence(other_cpu=OtherCpuEvidence("sev-snp", b"report", "cpu.report"))
    text, document = shown(node)
    assert "sev-snp report" in text
    assert document["nodes"][0]["other_cpu"]["technology"] == "sev-snp"


def test_binding_inputs_are_shown_whole_or_by_hash() -> None:
    binding = BindingInputs(
        BindingProfile.NEAR,
        request_nonce=NONCE,
        request_nonce_text=NONCE.hex(),
        signing_address=b"\xab" * 20,
        app_compose="{}" * 1000,
        gpu_evidence_json=b"{}",
        e2e_public_key=HOSTILE,
    )
    text, document = shown(Evidence(binding=binding))
    inner = document["nodes"][0]["binding"]
    assert inner["profile"] == "near"
    assert inner["signing_address"] == "ab" * 20
    assert inner["e2e_public_key"] == HOSTILE
    assert "request_nonce_text" not in inner
    assert inner["app_compose"]["bytes"] == 2000
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert inner["gpu_evidence_json"] == {"bytes": 2, "sha256": digest}
    assert "suggested by the shape of the response" in " ".join(text.split())


def token(**changes: Any) -> Jwt:
    arguments: Json = {
        "text": "a.b.c",
        "algorithm": "HS256",
        "key_id": HOSTILE,
        "claims": {"iss": "x", "measres": "success", HOSTILE: {"deep": [HOSTILE, 1, None]}},
        "times": JwtTimes(0, None, 253402300799),
        "issuer": "x",
        "nonce": NONCE,
        "signing_input": b"a.b",
        "signature": bytes(32),
    }
    return Jwt(**(arguments | changes))


def test_results_of_other_verifiers_are_opinions() -> None:
    submodules = (
        Submodule("GPU-0", token(), bytes(32), bytes(32), None),
        Submodule(HOSTILE, token(algorithm="none"), bytes(32), b"1" * 32, "digest differs"),
        Submodule("GPU-2", None, bytes(32), None, "missing"),
    )
    inner = DetachedEat(token(), (), "[1]")
    result = DetachedEat(token(), submodules, "", (inner,))
    text, document = both(describe_foreign(ForeignEvidence("detached-eat", (), (result,))))
    assert "It is no evidence" in text
    assert "whoever can check it can forge it" in " ".join(text.split())
    shown_result = document["results"][0]
    assert shown_result["overall"]["issued_at"] == "1970-01-01T00:00:00Z"
    assert shown_result["overall"]["expires"] == "9999-12-31T23:59:59Z"
    assert shown_result["overall_claims"]["measres"] == "success"
    assert [s["digest"] for s in shown_result["submodules"]] == ["matches", "differs", "no token"]
    assert [t["token"]["name"] for t in shown_result["tokens"]] == ["GPU-0", HOSTILE]
    assert shown_result["results"][0]["submodules"] == []
    assert text.count("asserted, proves nothing") >= 4


def test_no_member_of_a_document_can_imitate_ours() -> None:
    """Claims of a token have an object of their own, so none can stand for what was read."""
    forged = token(claims={"algorithm": "ES384", "verified": True})
    result = DetachedEat(forged, (), "")
    document = json_of(describe_foreign(ForeignEvidence("detached-eat", (), (result,))))
    assert document["results"][0]["overall"]["algorithm"] == "HS256"
    assert document["verified"] is False


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["gpu-0"], "gpu-0"),
        (["gpu-0", "gpu-1"], "gpu-0, gpu-1"),
        ([f"gpu-{n}" for n in range(8)], "gpu-0 … gpu-7"),
        (["gpu-0", "gpu-2", "gpu-3", "gpu-4", "gpu-9"], "gpu-0, gpu-2 … gpu-4, gpu-9"),
        (["gpu-9", "gpu-10", "gpu-11", "nvswitch-12"], "gpu-9 … gpu-11, nvswitch-12"),
        (["topology", "x-01", "x-1", "x--2"], "topology, x-01, x-1, x--2"),
    ],
)
def test_names_that_count_up_are_shown_by_both_ends(names: list[str], text: str) -> None:
    assert name_runs(names) == text
