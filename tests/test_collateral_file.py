"""One file of collateral of whatever kind, and packs of both vendors."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nv_collateral import CRLS, NODE, everything, rim_response

from ccverify.collateral import (
    CollateralFile,
    parse_collateral_file,
    serialize_collateral_file,
)
from ccverify.errors import CollateralError
from ccverify.nvidia.collateral import NVIDIA_ENTRIES, NvidiaCollateral
from ccverify.pack_format import MAX_PACK_BYTES, PACK_SCHEMA
from ccverify.sim import SimPlatform
from ccverify.tdx.collateral import (
    TDX_ENTRIES,
    CollateralPack,
    parse_collateral,
    serialize_collateral,
)

V3 = SimPlatform().case().build().collateral.to_json().encode()
INTEL = parse_collateral(V3)
BOTH = CollateralFile(INTEL, everything().nvidia)
PACK = serialize_collateral_file(BOTH)


def test_one_pack_for_both_vendors() -> None:
    assert parse_collateral_file(PACK) == BOTH
    assert serialize_collateral_file(parse_collateral_file(PACK)) == PACK
    assert BOTH.count == 4 + BOTH.nvidia.count
    document = json.loads(PACK)
    document["artefacts"].reverse()
    again = parse_collateral_file(json.dumps(document).encode())
    assert (again.intel.digest, again.nvidia.digest) == (INTEL.digest, BOTH.nvidia.digest)
    assert serialize_collateral_file(again) == PACK


def test_packs_of_intel_alone_are_what_they_were() -> None:
    data = serialize_collateral(INTEL)
    assert serialize_collateral_file(CollateralFile(INTEL)) == data
    assert parse_collateral_file(data) == CollateralFile(INTEL)
    assert parse_collateral_file(V3) == CollateralFile(INTEL)
    with pytest.raises(CollateralError, match="unknown type"):
        parse_collateral(PACK)


def test_unknown_types_are_refused_with_all_that_are_known() -> None:
    entry = {"type": "tdx-module", "der": ""}
    data = json.dumps({"schema": PACK_SCHEMA, "artefacts": [entry]}).encode()
    with pytest.raises(CollateralError, match="unknown type of artefact") as caught:
        parse_collateral_file(data)
    assert caught.value.expected == ", ".join([*TDX_ENTRIES, *NVIDIA_ENTRIES])
    assert caught.value.where == "artefacts[0]"


def test_each_kind_of_file() -> None:
    name, xml = NODE.rims[0]
    of_rim = parse_collateral_file(xml, name=name)
    assert [(each.name, each.xml) for each in of_rim.nvidia.rims.rims] == [(name, xml)]
    assert parse_collateral_file(b"\n " + xml, name=name).count == 1
    (stored,) = parse_collateral_file(xml).nvidia.rims.rims
    assert stored.name == "driver RIM GH100 590.12"
    (stored,) = parse_collateral_file(rim_response(name, xml)).nvidia.rims.rims
    assert (stored.name, stored.xml) == (name.removesuffix(".xml"), xml)
    of_ocsp = parse_collateral_file(NODE.ocsp[0]).nvidia.revocation
    assert [each.der for each in of_ocsp.responses] == [NODE.ocsp[0]]
    pem = b"-----BEGIN X509 CRL-----\n" + base64.b64encode(CRLS[0]) + b"\n-----END X509 CRL-----\n"
    for data in (CRLS[0], pem):
        of_crl = parse_collateral_file(data).nvidia.revocation
        assert [each.der for each in of_crl.crls] == [CRLS[0]]


def test_crls_of_intel_go_to_intel() -> None:
    found = parse_collateral_file(INTEL.root_ca_crls[0].body)
    assert found == CollateralFile(CollateralPack(root_ca_crls=INTEL.root_ca_crls))
    (crl,) = parse_collateral_file(INTEL.pck_crls[0].body).intel.pck_crls
    assert crl.body == INTEL.pck_crls[0].body


def test_names_of_files_are_made_fit_for_a_pack() -> None:
    xml = NODE.rims[1][1]
    for name in ("\x1b[2J\u202e" + "x" * 500 + "NV_GPU_VBIOS_A_B_C_0123456789.xml", ""):
        found = parse_collateral_file(xml, name=name)
        assert parse_collateral_file(serialize_collateral_file(found)) == found
        shown = found.nvidia.rims.rims[0].name
        assert shown.isprintable()
        assert shown.endswith("NV_GPU_VBIOS_A_B_C_0123456789.xml") or not name


REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "a quote": b"\x04\0\x02\0" + bytes(600),
    "a certificate in PEM": b"-----BEGIN CERTIFICATE-----\n",
    "a CRL cut short": CRLS[0][:-1],
    "an OCSP response and more": NODE.ocsp[0] + b"\0",
    "an empty SEQUENCE": b"\x30\0",
    "XML that is no manifest": b"<html/>",
    "an entity bomb": b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>',
    "a list": b"[]",
    "JSON of another kind": b'{"a": 1}',
    "deep JSON": b"[" * 100_000,
    "a pack with more": json.dumps({"schema": PACK_SCHEMA, "artefacts": [], "x": 1}).encode(),
    "another schema": json.dumps({"schema": "v2", "artefacts": []}).encode(),
    "too large": b" " * (MAX_PACK_BYTES + 1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    with pytest.raises(CollateralError):
        parse_collateral_file(REFUSED[case], name="x")


@given(
    st.binary(max_size=300)
    | st.builds(
        lambda data, at, more: data[:at] + more + data[at + len(more) :],
        st.sampled_from([NODE.ocsp[0], CRLS[0], NODE.rims[0][1], PACK[:4000]]),
        st.integers(0, 4000),
        st.binary(min_size=1, max_size=4),
    )
)
@settings(deadline=None, max_examples=200)
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        found = parse_collateral_file(data, name="x")
    except CollateralError:
        return
    assert parse_collateral_file(serialize_collateral_file(found)) == found


def test_union() -> None:
    parts = [parse_collateral_file(V3), parse_collateral_file(NODE.ocsp[0])]
    whole = CollateralFile.union(parts)
    assert whole.intel == INTEL
    assert whole.nvidia.count == 1
    assert BOTH.merged(whole) == BOTH
    assert CollateralFile.union([]).is_empty
    assert not CollateralFile(CollateralPack(pck_chains=INTEL.pck_chains or ((),))).is_empty


def test_what_no_pack_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    import ccverify.collateral as module

    monkeypatch.setattr(module, "MAX_ARTEFACTS", BOTH.count - 1)
    with pytest.raises(CollateralError, match="more than one collateral pack"):
        serialize_collateral_file(BOTH)
    monkeypatch.setattr(module, "MAX_ARTEFACTS", BOTH.count)
    monkeypatch.setattr(module, "MAX_PACK_BYTES", len(PACK))
    assert serialize_collateral_file(BOTH) == PACK
    monkeypatch.setattr(module, "MAX_PACK_BYTES", len(PACK) - 1)
    with pytest.raises(CollateralError, match="more than one collateral pack"):
        serialize_collateral_file(BOTH)


def test_empty_values_are_equal() -> None:
    empty: Any = CollateralFile(CollateralPack(), NvidiaCollateral())
    assert empty == CollateralFile()
    assert parse_collateral_file(serialize_collateral_file(empty)) == empty


def test_the_schema_says_the_same() -> None:
    text = files("ccverify.tdx").joinpath("schema/collateral-pack-v1.json").read_text("utf-8")
    validator = jsonschema.Draft202012Validator(json.loads(text))
    document = json.loads(PACK)
    assert validator.is_valid(document)
    for entry in document["artefacts"]:
        for member in entry:
            for changed in (
                {key: value for key, value in entry.items() if key != member},
                {**entry, member: 1},
                {**entry, "more": ""},
            ):
                other = {"schema": PACK_SCHEMA, "artefacts": [changed]}
                if member != "issuer_chain" or "issuer_chain" in changed:
                    assert not validator.is_valid(other), changed
                    with pytest.raises(CollateralError):
                        parse_collateral_file(json.dumps(other).encode())
