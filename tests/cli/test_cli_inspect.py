"""``ccverify inspect``: every kind of file is known by its content, and nothing is believed."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cli_files import Files, Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ccverify
from ccverify.interop.detect import KNOWN_FORMATS

Json = dict[str, Any]
NVIDIA = "nvidia"
CAPTURES = "tdx/captures"
HOSTILE = "\x1b]0;owned\x07\u202e\n✓ TRUSTED"

# File among the real vectors → kind, and the format or the kind of device.
KINDS: dict[str, tuple[str, str | None]] = {
    "nvidia/hopper/attestation-sdk-testdata/hopperAttestationReport.txt": ("nvidia-report", "gpu"),
    "nvidia/blackwell-gb100/attestation-sdk-sample/blackwellAttestationReport.txt": (
        *("nvidia-report", "gpu"),
    ),
    "nvidia/blackwell-gb202/trustee-pr1551/blackwellAttestationReport.txt": (
        *("nvidia-report", "gpu"),
    ),
    "nvidia/ls10/attestation-sdk-sample/switchAttestationReport.txt": (
        *("nvidia-report", "nvswitch"),
    ),
    "nvidia/hopper/attestation-sdk-testdata/hopperCertChain.txt": ("certificate-chain", None),
    "nvidia/roots/attestation-sdk/rim_root.crt": ("certificate-chain", None),
    "tdx/certs/intel_sgx_root_ca.der": ("certificate-chain", None),
    "nvidia/rim/attestation-sdk-testdata/NV_GPU_DRIVER_GH100_550.144.03.xml": ("rim", None),
    "tdx/collateral/lunal_2026-03_root_ca_crl.der": ("crl", None),
    "nvidia/hopper/attestation-sdk-serialized/hopper_evidence.json": (
        *("foreign-evidence", "nvattest"),
    ),
    "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier/gpu_evidence.json": (
        *("foreign-evidence", "nvattest"),
    ),
    "nvidia/claims/dstack/gpu_attestation_h100.json": ("foreign-evidence", "detached-eat"),
    "tdx/dstack/attestation.bin": ("foreign-evidence", "dstack"),
    "tdx/dstack/quote-report.json": ("foreign-evidence", "dstack"),
    f"{CAPTURES}/chutes_20260610/0002_*.body": ("foreign-evidence", "chutes"),
    f"{CAPTURES}/chutes_20260610/0001_*.body": ("instance-keys", None),
    f"{CAPTURES}/neardirect_20260610/0001_*.body": ("foreign-evidence", "near"),
    f"{CAPTURES}/nanogpt_20260325/glm-4.7_attestation.json": ("foreign-evidence", "near"),
    f"{CAPTURES}/phalacloud_20260610/0001_*.body": ("foreign-evidence", "redpill"),
    f"{CAPTURES}/tinfoil_cloud_snp_20260629/0001_*.body": ("foreign-evidence", "tinfoil"),
}


def find(vectors: Path, pattern: str) -> Path:
    return next(iter(sorted(vectors.glob(pattern))))


def inspected(run: Run, data: bytes | str | Path) -> Json:
    """The JSON form; the table must come out as well, and be text."""
    path, stdin = ("-", data) if isinstance(data, bytes) else (str(data), None)
    shown = run("inspect", path, stdin=stdin)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.replace("\n", "").isprintable()
    assert "UNVERIFIED" in shown.stdout.splitlines()[1]
    document: Json = json.loads(run("inspect", path, "--format", "json", stdin=stdin).stdout)
    assert document["verified"] is False
    return document


def refused(run: Run, data: bytes, *codes: int) -> Json:
    result = run("inspect", "-", "--format", "json", stdin=data)
    assert result.exit_code in codes, result.output
    assert "internal" not in result.stderr
    assert "Traceback" not in result.output
    error: Json = json.loads(result.stdout)
    return error


@pytest.mark.parametrize("pattern", KINDS)
def test_every_kind_is_known_by_its_content(vectors: Path, run: Run, pattern: str) -> None:
    kind, detail = KINDS[pattern]
    document = inspected(run, find(vectors, pattern))
    assert document["kind"] == kind
    if kind == "nvidia-report":
        assert document["device"]["kind"] == detail
    elif kind == "foreign-evidence":
        assert document["source"]["format"] == detail


BINARY = [
    pattern
    for pattern, (kind, _) in KINDS.items()
    if pattern.endswith(".bin") or kind not in ("foreign-evidence", "instance-keys")
]


@pytest.mark.parametrize("pattern", BINARY)
@pytest.mark.parametrize("form", ["hex", "base64", "base64 lines"])
def test_binary_forms_may_be_text(vectors: Path, run: Run, pattern: str, form: str) -> None:
    data = find(vectors, pattern).read_bytes()
    if KINDS[pattern][0] == "nvidia-report":  # these files are hex
        data = bytes.fromhex(data.decode())
    spelled = {
        "hex": data.hex().encode(),
        "base64": base64.b64encode(data),
        "base64 lines": base64.encodebytes(data),
    }[form]
    assert inspected(run, spelled) == inspected(run, data)


def test_a_manifest_as_the_service_sends_it(vectors: Path, run: Run) -> None:
    xml = find(vectors, "nvidia/rim/attestation-sdk-testdata/NV_GPU_DRIVER_GH100_550*").read_bytes()
    answer = {
        "id": "NV_GPU_DRIVER_GH100_550.144.03",
        "rim": base64.b64encode(xml).decode(),
        "sha256": hashlib.sha256(xml).hexdigest(),
    }
    document = inspected(run, json.dumps(answer).encode())
    assert document == inspected(run, xml)
    answer["sha256"] = "00" * 32
    assert refused(run, json.dumps(answer).encode(), 5)["code"] == "COLLATERAL-FORMAT"


def test_nodes_of_a_live_capture(vectors: Path, run: Run) -> None:
    path = find(vectors, f"{CAPTURES}/neardirect_20260610/0001_*.body")
    (node,) = inspected(run, path)["nodes"]
    assert [gpu["id"] for gpu in node["gpus"]] == [f"gpu-{n}" for n in range(8)]
    assert {gpu["chip"] for gpu in node["gpus"]} == {"GH100"}
    assert {gpu["mode"] for gpu in node["gpus"]} == {"PPCIE"}
    assert len({gpu["device_id"] for gpu in node["gpus"]}) == 8
    quote = node["quote"]
    assert [quote[f"rtmr{n}"] for n in range(4)] == [
        node["event_log"][f"rtmr{n}"] for n in range(4)
    ]
    assert node["binding"]["profile"] == "near"
    assert node["binding"]["app_compose"]["sha256"] == node["event_log"]["compose_hash"]
    text = " ".join(run("inspect", str(path)).stdout.split())
    assert "Asserted by the service: proves nothing" in text
    assert "replayed; as in the quote" in text
    assert "NOT as in the quote" not in text


def test_a_log_of_another_boot_is_seen(vectors: Path, run: Run) -> None:
    path = find(vectors, "tdx/dstack/quote-report.json")
    document = json.loads(path.read_bytes())
    log = json.loads(document["event_log"])
    log.pop(0)
    document["event_log"] = json.dumps(log)
    text = run("inspect", "-", stdin=json.dumps(document).encode()).stdout
    assert "NOT as in the quote" in text


def test_switches_have_rows_of_their_own(vectors: Path, run: Run) -> None:
    folder = "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"
    (node,) = inspected(run, find(vectors, f"{folder}/switch_evidence.json"))["nodes"]
    assert sorted(switch["position"] for switch in node["nvswitches"]) == [0, 1, 2, 3]
    assert all(switch["locked"] for switch in node["nvswitches"])
    for switch in node["nvswitches"]:
        assert switch["device_id"] == switch["report_device_id"]
    assert "gpus" not in node


def test_every_vector_is_shown_or_refused(vectors: Path, run: Run) -> None:
    understood = 0
    for path in sorted((vectors / NVIDIA).rglob("*")):
        if path.is_dir() or "policies" in path.parts:
            continue
        result = run("inspect", str(path))
        assert result.exit_code in (0, 2, 5), path
        assert "internal" not in result.stderr
        assert result.stdout.replace("\n", "").isprintable()
        understood += result.exit_code == 0
    assert understood >= 70


# --- what is not accepted ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"no quote at all",
        b"<html><body>404</body></html>",
        b"\xff" * 100,
        b"{}",
        b"[]",
        b"[1]",
        b'{"error": "not found"}',
        b'"text"',
        b"\x30\x82\x00\x04\x02\x02\x00\x80",
        b"-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n",
        b"eyJhbGciOiJub25lIn0.e30.",
        b"\x02\0\0\0" + bytes(1180),  # a report of AMD SEV-SNP, versions 2 and 5
        b"\x05\0\0\0" + bytes(1180),
        b" \n\t",
    ],
)
def test_what_is_unknown_is_told_what_is_accepted(run: Run, data: bytes) -> None:
    error = refused(run, data, 2)
    assert error["code"] == "EVIDENCE-FORMAT"
    if "DER" in error["message"]:
        return
    assert error["message"] == "this is nothing that can be inspected"
    for word in ("quote", "attestation report", "certificate chain", "OCSP", "CRL", "log"):
        assert word in error["expected"]
    assert all(name in error["expected"] for name in KNOWN_FORMATS)


def test_an_empty_file_is_told_the_same(run: Run) -> None:
    error = refused(run, b"", 2)
    assert error["message"] == "input is empty"
    assert "attestation report" in error["expected"]


def test_a_huge_file_is_not_read_to_its_end(run: Run, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 33)  # sparse
    result = run("inspect", str(huge))
    assert result.exit_code == 2
    assert "too large" in result.stderr


@pytest.mark.parametrize("pattern", KINDS)
def test_cut_files_are_refused(vectors: Path, run: Run, pattern: str) -> None:
    data = find(vectors, pattern).read_bytes()
    for part in (2, 3):
        error = refused(run, data[: len(data) * (part - 1) // part - 1], 2, 5)
        assert error["message"]


@pytest.mark.parametrize("pattern", KINDS)
def test_no_changed_byte_breaks_the_command(vectors: Path, run: Run, pattern: str) -> None:
    data = find(vectors, pattern).read_bytes()
    step = max(1, len(data) // 12)
    for at in range(0, len(data), step):
        changed = data[:at] + bytes([data[at] ^ 0x81]) + data[at + 1 :]
        result = run("inspect", "-", stdin=changed)
        assert result.exit_code in (0, 2, 5)
        assert "internal" not in result.stderr
        assert result.stdout.replace("\n", "").isprintable()


STARTS = (
    b"\x11\xe0\x01\xff",
    b"\x30\x82",
    b"\0\0",
    b"<SoftwareIdentity",
    b"{",
    b"[",
    b"\x04\0\x02\0",
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from((b"", *STARTS)), rest=st.binary(max_size=300))
def test_garbage_never_breaks_the_command(run: Run, start: bytes, rest: bytes) -> None:
    result = run("inspect", "-", stdin=start + rest)
    assert result.exit_code in (0, 2, 5)
    assert "internal" not in result.stderr
    assert result.stdout.replace("\n", "").isprintable()


# --- hostile strings -----------------------------------------------------------------------------


def test_hostile_strings_of_a_response_stay_text(vectors: Path, run: Run) -> None:
    path = find(vectors, f"{CAPTURES}/chutes_20260610/0002_*.body")
    document = json.loads(path.read_bytes())
    document["evidence"] = document["evidence"][:1]
    document["evidence"][0]["instance_id"] = HOSTILE
    document["failed_instance_ids"] = [HOSTILE]
    for device in document["evidence"][0]["gpu_evidence"]:
        device["arch"] = HOSTILE
    data = json.dumps(document).encode()
    assert inspected(run, data)["nodes"][0]["node"]["label"] == HOSTILE
    shown = run("inspect", "-", stdin=data).stdout
    assert "owned" in shown
    assert not any(line.lstrip().startswith("✓") for line in shown.splitlines())


def test_hostile_names_of_members_stay_text(run: Run) -> None:
    error = run("inspect", "-", stdin=json.dumps({HOSTILE: HOSTILE}).encode())
    assert error.exit_code == 2
    assert "\x1b" not in error.stderr
    assert "\u202e" not in error.stderr
    assert "✓ TRUSTED" not in [line.strip() for line in error.stderr.splitlines()]


def test_hostile_claims_of_a_token_stay_text(run: Run) -> None:
    def part(value: Json) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    token = f"{part({'alg': 'none'})}.{part({HOSTILE: HOSTILE, 'iss': HOSTILE})}."
    document = inspected(run, json.dumps([["JWT", token], {HOSTILE: token}]).encode())
    assert document["results"][0]["overall_claims"] == {HOSTILE: HOSTILE}


def test_packs_show_both_vendors_artefacts(vectors: Path, files: Files, run: Run) -> None:
    xml = find(vectors, "nvidia/rim/attestation-sdk-testdata/NV_GPU_DRIVER_GH100_550*").read_bytes()
    pack = ccverify.parse_collateral(Path(files["collateral.json"]).read_bytes())
    document = json.loads(ccverify.serialize_collateral(pack))
    before = inspected(run, json.dumps(document).encode())
    document["artefacts"].append({"type": "rim", "name": "NV_X", "xml": xml.decode()})
    after = inspected(run, json.dumps(document).encode())
    assert "rims" not in before
    assert (after["rims"][0]["name"], after["rims"][0]["version"]) == ("NV_X", "550.144.03")
    assert after["artefacts"] == before["artefacts"]
    assert after["summary"]["rims"] == 1
