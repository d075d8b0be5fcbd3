"""docs/spec/bundle.md: its test vector is made again, and recomputed without ccverify.

`PYTHONPATH=. python tests/bundle/test_bundle_spec.py` writes docs/spec/bundle-test-vectors.json.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from hashlib import sha256, sha384, sha512
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from sealing import ORDER, OTHER, TIME, Parts, signer

from ccverify.bundle.cbor import encode
from ccverify.bundle.cmw import CMW_CBOR_TYPE, CMW_COSE_TYPE
from ccverify.bundle.endorsement import operator_payload, tpm_qualifying_data
from ccverify.bundle.items import DeviceItem, encode_device
from ccverify.bundle.manifest import (
    MAX_ENTRIES,
    MAX_ITEM_BYTES,
    Gathered,
    parse_manifest,
)
from ccverify.bundle.package import (
    BUNDLE_TYPE,
    MAX_BUNDLE_BYTES,
    close_manifest,
    open_session,
    parse_bundle,
    seal,
)
from ccverify.bundle.verify_bundle import appraise_bundle
from ccverify.checks import CHECKS, Scope
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.findings import State

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "docs" / "spec" / "bundle-test-vectors.json"
PAGE = (ROOT / "docs" / "spec" / "bundle.md").read_text("utf-8")
KEY_LABEL = "ccverify/bundle-test-vector/v1"
NONCE_LABEL = b"ccverify/bundle-test-vector/nonce"


def vectors() -> dict[str, Any]:
    """Make the vector with the code of ccverify."""
    own, nonce = signer(KEY_LABEL), sha256(NONCE_LABEL).digest()
    session = open_session(nonce, own.key)
    device = DeviceItem(
        report=b"\x11\xe0\x01\xff" + session.device_nonce,
        chain=b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        architecture="HOPPER",
    )
    gpu = Item("gpu-0", ItemType.NVIDIA_GPU, encode_device(device), "NVML")
    ccel = Absence(
        "ccel",
        AbsenceReason.NOT_PRESENT,
        "the kernel shows no CCEL table",
        "boot with firmware that measures",
        "sysfs",
    )
    closed = close_manifest(
        session,
        [Gathered(gpu, TIME), Gathered(ccel, TIME)],
        collector="ccverify 0",
        created=TIME + 1,
    )
    quote = Item("tdx-quote", ItemType.TDX_QUOTE, b"quote " + closed.report_data, "configfs-tsm")
    bundle = seal(closed, quote, own)
    signed = parse_bundle(bundle).signed
    covering = (nonce, own.key.thumbprint, closed.manifest.sha384)
    covered = encode(["Signature1", signed.protected, b"", signed.payload])
    made: dict[str, bytes] = {
        "private_key": own.private.private_numbers().private_value.to_bytes(48),  # type: ignore[union-attr]
        "nonce": nonce,
        "cose_key": own.key.encoded,
        "thumbprint": own.key.thumbprint,
        "device_nonce": session.device_nonce,
        "gpu_item": gpu.data,
        "manifest": closed.manifest.encoded,
        "manifest_sha384": closed.manifest.sha384,
        "report_data": closed.report_data,
        "qualifying_data": tpm_qualifying_data(*covering),
        "operator_payload": operator_payload(*covering),
        "quote": quote.data,
        "payload": signed.payload,
        "protected": signed.protected,
        "sig_structure_sha384": sha384(covered).digest(),
        "signature": signed.signature,
        "bundle": bundle,
        "bundle_sha384": sha384(bundle).digest(),
    }
    return {
        "description": "Worked example of docs/spec/bundle.md; quote, report and chain in it "
        "are stand-ins",
        "key_label": KEY_LABEL,
        "nonce_label": NONCE_LABEL.decode(),
        **{name: value.hex() for name, value in made.items()},
        "refused": [
            {"name": name, "fails": fails, "bundle": data.hex()}
            for name, (data, fails) in _refused(bundle, own).items()
        ],
    }


def _refused(bundle: bytes, own: Any) -> dict[str, tuple[bytes, list[str]]]:
    """Bundles with one thing wrong each, and the checks that fail under the vector's nonce."""
    parts = Parts.of(bundle, own)
    other_key = ["application/cose-key", OTHER.key.encoded, 4]
    resigned = replace(parts.with_records(session_key=other_key), signer=OTHER)
    header = {**parts.header, 4: OTHER.key.thumbprint}
    at = bundle.index(b"NVML")
    return {
        "bytes after the end": (bundle + b"\0", ["BUNDLE-FORMAT"]),
        "a text changed": (
            bundle[:at] + b"X" + bundle[at + 1 :],
            ["BUNDLE-SIGNATURE"],
        ),
        "signed again by another key": (replace(resigned, header=header).bytes(), ["BUNDLE-KEY"]),
        "an item removed": (parts.with_records(gpu_0=None).bytes(), ["BUNDLE-MANIFEST"]),
        "an item added": (
            parts.with_records(gpu_1=parts.records["gpu-0"]).bytes(),
            ["BUNDLE-MANIFEST"],
        ),
        "another nonce": (parts.with_manifest(nonce=bytes(32)).bytes(), ["BUNDLE-NONCE"]),
    }


def _dumps(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def stored() -> Any:
    return json.loads(PATH.read_text("utf-8"))


def test_the_vector_is_made_again(stored: Any) -> None:
    assert vectors() == stored
    assert PATH.read_text("utf-8") == _dumps(stored)


def test_the_vector_without_ccverify(stored: Any) -> None:
    """As docs/spec/bundle.md describes it, by hashlib, cbor2 and cryptography alone."""
    value = {k: bytes.fromhex(v) for k, v in stored.items()
             if isinstance(v, str) and not k.endswith(("label", "description"))}  # fmt: skip
    scalar = int.from_bytes(sha512(stored["key_label"].encode()).digest(), "big") % (ORDER - 1) + 1
    assert value["private_key"] == scalar.to_bytes(48)
    public = ec.derive_private_key(scalar, ec.SECP384R1()).public_key()
    numbers = public.public_numbers()
    members = {1: 2, -1: 2, -2: numbers.x.to_bytes(48), -3: numbers.y.to_bytes(48)}
    assert value["cose_key"] == cbor2.dumps(members)
    thumbprint = sha256(value["cose_key"]).digest()
    nonce = sha256(stored["nonce_label"].encode()).digest()
    assert (value["thumbprint"], value["nonce"]) == (thumbprint, nonce)
    asked = sha256(b"ccverify/device-nonce/v1" + nonce + thumbprint).digest()
    assert value["device_nonce"] == asked
    digest = sha384(value["manifest"]).digest()
    assert value["manifest_sha384"] == digest
    tied = sha512(b"ccverify/report-data/v1" + nonce + thumbprint + digest).digest()
    assert value["report_data"] == tied
    quoted = sha256(b"ccverify/tpm-quote/v1" + nonce + thumbprint + digest).digest()
    assert value["qualifying_data"] == quoted
    signed = sha384(b"ccverify/operator-signature/v1" + nonce + thumbprint + digest).digest()
    assert value["operator_payload"] == signed
    tag = cbor2.loads(value["bundle"])
    protected, unprotected, payload, signature = tag.value
    assert (tag.tag, len(unprotected)) == (18, 0)
    assert (protected, payload, signature) == (
        value["protected"], value["payload"], value["signature"],
    )  # fmt: skip
    assert cbor2.loads(protected) == {1: -51, 3: CMW_CBOR_TYPE, 4: thumbprint, 16: CMW_COSE_TYPE}
    collection = cbor2.loads(payload)
    assert collection.pop("__cmwc_t") == BUNDLE_TYPE
    assert {label: record[1] for label, record in collection.items()} == {
        "manifest": value["manifest"],
        "session-key": value["cose_key"],
        "gpu-0": value["gpu_item"],
        "tdx-quote": value["quote"],
    }
    entries = cbor2.loads(value["manifest"])["items"]
    assert entries["gpu-0"]["sha384"] == sha384(value["gpu_item"]).digest()
    assert entries["gpu-0"]["size"] == len(value["gpu_item"])
    covered = cbor2.dumps(["Signature1", protected, b"", payload])
    assert value["sig_structure_sha384"] == sha384(covered).digest()
    r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
    public.verify(encode_dss_signature(r, s), covered, ec.ECDSA(SHA384()))


def test_every_value_of_the_vector_is_on_the_page(stored: Any) -> None:
    joined = re.sub(r"\s+", "", PAGE)
    for name, value in stored.items():
        if isinstance(value, str) and name != "description":
            assert value in (PAGE if name.endswith("label") else joined), name


def test_the_honest_vector_passes_and_the_others_fail(stored: Any) -> None:
    nonce = bytes.fromhex(stored["nonce"])
    found = appraise_bundle(bytes.fromhex(stored["bundle"]), nonce)
    assert {f.state for f in found.findings} == {State.PASS}
    assert len(stored["refused"]) == 6
    for case in stored["refused"]:
        findings = appraise_bundle(bytes.fromhex(case["bundle"]), nonce).findings
        assert [f.code for f in findings if f.state is State.FAIL] == case["fails"], case["name"]


def test_the_page_names_what_the_code_knows(stored: Any) -> None:
    for kind in ItemType:
        assert f"`{kind.value}`" in PAGE
    for reason in AbsenceReason:
        assert f"`{reason.value}`" in PAGE
    for entry in CHECKS:
        if entry.scope is Scope.BUNDLE:
            assert f"`{entry.code}`" in PAGE
    for text in (BUNDLE_TYPE, CMW_CBOR_TYPE, CMW_COSE_TYPE, stored["key_label"]):
        assert text in PAGE
    for limit in (MAX_BUNDLE_BYTES, MAX_ITEM_BYTES):
        assert f"{limit // (1 << 20)} MiB" in PAGE
    assert f"{MAX_ENTRIES} entries" in PAGE


def test_the_grammar_names_every_member(stored: Any) -> None:
    (grammar,) = re.findall(r"^```cddl\n(.*?)^```$", PAGE, re.M | re.S)
    manifest = parse_manifest(bytes.fromhex(stored["manifest"]))
    decoded = cbor2.loads(manifest.encoded)
    device = cbor2.loads(bytes.fromhex(stored["gpu_item"]))
    for members in (decoded, device, *decoded["items"].values()):
        for name in members if members is not decoded["items"] else ():
            assert re.search(rf'^ +"?{name}"? ?[:=]', grammar, re.M), name
    for kind in ItemType:
        assert f'"{kind.value}"' in grammar
    for reason in AbsenceReason:
        assert f'"{reason.value}"' in grammar


if __name__ == "__main__":
    PATH.write_text(_dumps(vectors()), "utf-8")
