"""Responses of Intel's service as artefacts, and heaps of saved files as packs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent_encode

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify import (
    CollateralError,
    CollateralPack,
    parse_collateral,
    serialize_collateral,
)
from ccverify.sim import DEFAULT_TIME, SimIssuer, SimPlatform
from ccverify.sim.certs import authority_key_id
from ccverify.strict_json import MAX_JSON_BYTES
from ccverify.tdx.assemble import assemble_collateral
from ccverify.tdx.pcs import (
    PCK_CRL_CHAIN_HEADERS,
    PLATFORM_CA,
    PROCESSOR_CA,
    TCB_INFO_CHAIN_HEADERS,
    decode_crl,
    find_issuer_chain,
    names_ca,
    parse_issuer_chain,
    parse_pck_crl_response,
    parse_qe_identity_response,
    parse_root_ca_crl_response,
    parse_signed_object,
    parse_tcb_info_response,
)
from ccverify.trust.x509 import parse_crl, parse_pem_chain

PLATFORM = SimPlatform()
CASE = PLATFORM.case()
EVIDENCE = CASE.build()
COLLATERAL = EVIDENCE.collateral
RESPONSES = COLLATERAL.pcs_responses()
EXPECTED = parse_collateral(COLLATERAL.to_json().encode())
SIGNATURE = "ab" * 64
REPOSITORY = Path(__file__).resolve().parents[2]


# Signed objects ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tcbInfo", "enclaveIdentity"])
@pytest.mark.parametrize(
    "layout",
    [
        '{"NAME":INNER,"signature":"SIG"}',
        '{"signature":"SIG","NAME":INNER}',
        ' \r\n{\t"NAME" : INNER , "signature" :\n"SIG" } \n',
    ],
)
def test_inner_object_is_sliced_not_rewritten(name: str, layout: str) -> None:
    inner = '{ "b": 1.50, "a":[1,2 ],\n"\\u0065": "é", "nested": {"signature": "x"} }'
    body = layout.replace("NAME", name).replace("INNER", inner).replace("SIG", SIGNATURE)
    signed = parse_signed_object(body.encode())
    assert signed.name == name
    assert signed.text == inner.encode()
    assert signed.signature == bytes.fromhex(SIGNATURE)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        '"tcbInfo"',
        "{}",
        '{"tcbInfo":{}}',
        '{"signature":"SIG"}',
        '{"tcbInfo":{},"signature":"SIG"',
        '{"tcbInfo":{},"signature":"SIG"}x',
        '{"tcbInfo":{},"signature":"SIG"}{}',
        '{"tcbInfo":{},"signature":"SIG",}',
        '{"tcbInfo":{},"signature":"SIG","more":1}',
        '{"tcbInfo":{},"tcbInfo":{},"signature":"SIG"}',
        '{"tcbInfo":{},"tcbInfo":{}}',
        '{"tcbInfo":{},"enclaveIdentity":{}}',
        '{"other":{},"signature":"SIG"}',
        '{"tcbInfo":{"a":1,"a":2},"signature":"SIG"}',
        '{"tcbInfo":{"a":NaN},"signature":"SIG"}',
        '{"tcbInfo":{"a":"\\ud800"},"signature":"SIG"}',
        '{"tcbInfo":{},"signature":"SIG0"}',
        '{"tcbInfo":{},"signature":" SIG"}',
        '{"tcbInfo":{},"signature":"SI"}',
        '{"tcbInfo":{},"signature":1}',
        '{"tcbInfo":{} "signature":"SIG"}',
        '{"tcbInfo" {},"signature":"SIG"}',
        "{tcbInfo:{}}",
        '{1:{},"signature":"SIG"}',
        '\ufeff{"tcbInfo":{},"signature":"SIG"}',
    ],
)
def test_malformed_signed_objects(body: str) -> None:
    with pytest.raises(CollateralError):
        parse_signed_object(body.replace("SIG", SIGNATURE).encode())


def test_signed_object_limits() -> None:
    filler = '{"tcbInfo":{"a":"' + "x" * MAX_JSON_BYTES + '"},"signature":"' + SIGNATURE + '"}'
    with pytest.raises(CollateralError, match="too large"):
        parse_signed_object(filler.encode())
    with pytest.raises(CollateralError):
        parse_signed_object(b'{"tcbInfo":' + b"[" * 100_000)
    with pytest.raises(CollateralError, match="UTF-8"):
        parse_signed_object(b'{"tcbInfo":"\xff"}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
white = st.text(" \t\r\n", max_size=3)


@given(json_values, st.booleans(), st.booleans(), white, white)
def test_slices_any_json(value: Any, ascii_only: bool, first: bool, a: str, b: str) -> None:
    inner = json.dumps(value, ensure_ascii=ascii_only, indent=a or None)
    members = [f'"tcbInfo"{a}:{b}{inner}', f'"signature"{b}:{a}"{SIGNATURE}"']
    if first:
        members.reverse()
    body = f"{a}{{{b}{members[0]}{a},{b}{members[1]}{a}}}{b}"
    assert parse_signed_object(body.encode()).text == inner.encode()


@given(
    st.binary(max_size=200) | st.text('{}":,abtcInfoSignature[]\\ ', max_size=80).map(str.encode)
)
def test_parsers_raise_nothing_else(data: bytes) -> None:
    for parse in (
        parse_signed_object,
        parse_issuer_chain,
        decode_crl,
        parse_root_ca_crl_response,
        lambda data: assemble_collateral([("file", data)]),
        lambda data: parse_issuer_chain(data.decode("utf-8", "surrogateescape")),
        lambda data: find_issuer_chain(
            [("tcb-info-issuer-chain", data.decode("latin-1"))], TCB_INFO_CHAIN_HEADERS
        ),
    ):
        _accepts_or_refuses(parse, data)
    with pytest.raises(CollateralError):
        parse_issuer_chain("\ud800")


def _accepts_or_refuses(parse: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(CollateralError):  # anything else fails the test
        parse(data)


@settings(max_examples=200)
@given(st.sampled_from(sorted(RESPONSES)), st.data())
def test_damaged_responses_raise_nothing_else(name: str, data: st.DataObject) -> None:
    body = bytearray(RESPONSES[name].body)
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(body[: data.draw(st.integers(0, len(body)))])
    headers = RESPONSES[name].headers
    parse: dict[str, Callable[[bytes], object]] = {
        "tcb_info": lambda body: parse_tcb_info_response(body, headers),
        "qe_identity": lambda body: parse_qe_identity_response(body, headers),
        "pck_crl": lambda body: parse_pck_crl_response(body, headers),
        "root_ca_crl": parse_root_ca_crl_response,
    }
    _accepts_or_refuses(parse[name], damaged)
    _accepts_or_refuses(lambda body: assemble_collateral([("f", body)]), damaged)


# Issuer chains -------------------------------------------------------------------------


def test_issuer_chain_in_either_form() -> None:
    pem = COLLATERAL.tcb_info_issuer_chain
    expected = parse_pem_chain(pem.encode())
    assert "+" in pem  # which form decoding would turn into a space
    for text in (pem, percent_encode(pem, ""), percent_encode(pem, "+/="), pem.replace(" ", "%20")):
        assert parse_issuer_chain(text) == expected
        assert parse_issuer_chain(text.encode()) == expected


@pytest.mark.parametrize(
    "value",
    ["", "%", "%zz", "-----BEGIN+CERTIFICATE-----", "\udcff", "%2D%2D", "x" * 300_000],
)
def test_malformed_issuer_chains(value: str) -> None:
    with pytest.raises(CollateralError):
        parse_issuer_chain(value)


def test_form_encoding_is_not_percent_encoding() -> None:
    with pytest.raises(CollateralError):
        parse_issuer_chain(
            percent_encode(COLLATERAL.tcb_info_issuer_chain, "+").replace("%20", "+")
        )


def test_header_names_vary() -> None:
    chain = parse_pem_chain(COLLATERAL.tcb_info_issuer_chain.encode())
    value = percent_encode(COLLATERAL.tcb_info_issuer_chain, "")
    for name in ("TCB-Info-Issuer-Chain", "tcb-info-issuer-chain", "SGX-TCB-Info-Issuer-Chain"):
        assert find_issuer_chain([("Other", "x"), (name, value)], TCB_INFO_CHAIN_HEADERS) == chain
    both = [(name, value) for name in TCB_INFO_CHAIN_HEADERS]
    assert find_issuer_chain(both, TCB_INFO_CHAIN_HEADERS) == chain
    with pytest.raises(CollateralError, match="no issuer chain"):
        find_issuer_chain(both, PCK_CRL_CHAIN_HEADERS)
    other = percent_encode(COLLATERAL.pck_crl_issuer_chain, "")
    with pytest.raises(CollateralError, match="several"):
        find_issuer_chain([both[0], (both[1][0], other)], TCB_INFO_CHAIN_HEADERS)


# CRLs ----------------------------------------------------------------------------------


def pem_crl(der: bytes) -> bytes:
    text = base64.encodebytes(der)
    return b"-----BEGIN X509 CRL-----\n" + text + b"-----END X509 CRL-----\n"


def test_crl_in_every_form() -> None:
    der = COLLATERAL.pck_crl
    spaced = b"\n".join(der.hex().upper().encode()[at : at + 64] for at in range(0, 2000, 64))
    for text in (der, pem_crl(der), der.hex().encode(), spaced + b"\n"):
        assert decode_crl(text) == der
        assert parse_root_ca_crl_response(text).crl == parse_crl(der)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"30",
        b"308",
        b"not hex",
        b"\x30\x03\x01\x01\x00",
        pem_crl(b"x").replace(b"X509 CRL", b"CERTIFICATE"),
        pem_crl(b"x") + pem_crl(b"x"),
        pem_crl(b"x").replace(b"eA==", b"eA="),
        b"0" * (9 * 1024 * 1024),
    ],
)
def test_malformed_crls(data: bytes) -> None:
    with pytest.raises(CollateralError):
        parse_root_ca_crl_response(data)


def test_names_ca() -> None:
    name = parse_crl(COLLATERAL.pck_crl).issuer
    assert names_ca(name, PLATFORM_CA)
    assert not names_ca(name, PROCESSOR_CA)
    assert not names_ca(name, PLATFORM_CA[:-1])
    # Two common names are nobody's name.
    assert not names_ca(name + name, PLATFORM_CA)


# Whole responses -----------------------------------------------------------------------


def test_responses() -> None:
    tcb = parse_tcb_info_response(RESPONSES["tcb_info"].body, RESPONSES["tcb_info"].headers)
    qe = parse_qe_identity_response(RESPONSES["qe_identity"].body, RESPONSES["qe_identity"].headers)
    pck = parse_pck_crl_response(RESPONSES["pck_crl"].body, RESPONSES["pck_crl"].headers)
    root = parse_root_ca_crl_response(RESPONSES["root_ca_crl"].body)
    assert CollateralPack((tcb,), (qe,), (pck,), (root,)) == EXPECTED
    with pytest.raises(CollateralError, match="not what was asked for"):
        parse_tcb_info_response(RESPONSES["qe_identity"].body, RESPONSES["tcb_info"].headers)
    with pytest.raises(CollateralError, match="not what was asked for"):
        parse_qe_identity_response(RESPONSES["tcb_info"].body, RESPONSES["tcb_info"].headers)


# Heaps of files ------------------------------------------------------------------------

TCB_BODY = ("tcb", RESPONSES["tcb_info"].body)
QE_BODY = ("qe", RESPONSES["qe_identity"].body)
PCK_CRL = ("pck crl", COLLATERAL.pck_crl)
ROOT_CRL = ("root crl", COLLATERAL.root_ca_crl)
SIGNER = ("signer", COLLATERAL.tcb_info_issuer_chain.encode())
CA = ("ca", COLLATERAL.pck_crl_issuer_chain.encode())
HEAP = [TCB_BODY, QE_BODY, PCK_CRL, ROOT_CRL, SIGNER, CA]


def recording(*headers: tuple[str, str], **more: Any) -> bytes:
    return json.dumps({"url": "https://h", "status": 200, "headers": dict(headers)} | more).encode()


def test_heap_in_any_order() -> None:
    for files in (HEAP, HEAP[::-1], HEAP[3:] + HEAP[:3], HEAP * 2):
        assembly = assemble_collateral(files)
        assert assembly.pack.digest == EXPECTED.digest
        assert assembly.unused == ()
    assert assemble_collateral(HEAP).pack == EXPECTED


def test_issuer_chains_from_wherever_they_were_saved() -> None:
    signer = percent_encode(COLLATERAL.tcb_info_issuer_chain, "")
    ca = percent_encode(COLLATERAL.pck_crl_issuer_chain, "")
    forms: list[list[bytes]] = [
        [signer.encode(), ca.encode()],
        [recording(("tcb-info-issuer-chain", signer)), recording(("SGX-PCK-CRL-Issuer-Chain", ca))],
        [
            recording(
                ("Sgx-Enclave-Identity-Issuer-Chain", [signer]),  # type: ignore[arg-type]
                ("Sgx-Pck-Crl-Issuer-Chain", [ca]),  # type: ignore[arg-type]
            )
        ],
        [
            f"HTTP/1.1 200 OK\r\nDate: x\r\nTCB-Info-Issuer-Chain: {signer}\r\n\r\n".encode(),
            f"HTTP/2 200\nsgx-pck-crl-issuer-chain: {ca}\n".encode(),
        ],
        [signer.encode(), CASE.pck_chain().encode()],
    ]
    for form in forms:
        files = [*HEAP[:4], *((f"chain {n}", data) for n, data in enumerate(form))]
        assembly = assemble_collateral(files)
        assert assembly.pack.artefacts == EXPECTED.artefacts
        assert assembly.unused == ()
    assert len(assembly.pack.pck_chains) == 1  # the last form had a PCK chain


def test_crls_in_every_form() -> None:
    files = [
        ("pem", pem_crl(COLLATERAL.pck_crl)),
        ("hex", COLLATERAL.root_ca_crl.hex().encode() + b"\n"),
        CA,
    ]
    pack = assemble_collateral(files).pack
    assert (pack.pck_crls, pack.root_ca_crls) == (EXPECTED.pck_crls, EXPECTED.root_ca_crls)


def test_packs_are_merged_and_lend_their_chains() -> None:
    other = replace(PLATFORM, fmspc=b"SIM\0\0\1").evidence().collateral
    files = [
        ("v3", COLLATERAL.to_json().encode()),
        ("pack", serialize_collateral(EXPECTED)),
        ("new", other.pcs_responses()["tcb_info"].body),
    ]
    pack = assemble_collateral(files).pack
    assert {info.value.fmspc for info in pack.tcb_infos} == {b"SIM\0\0\0", b"SIM\0\0\1"}
    assert len(pack.artefacts) == 5
    assert all(info.issuer_chain for info in pack.tcb_infos)


def test_chain_is_chosen_by_signature_and_validity() -> None:
    stranger = SimIssuer(seed=b"somebody else")
    strange = replace(PLATFORM, issuer=stranger).evidence().collateral.tcb_info_issuer_chain
    signer = CASE.tcb_signing
    expired = replace(signer, not_after=signer.not_before.replace(year=2026, month=1))
    old = expired.pem() + CASE.root.pem()
    alone = signer.pem()
    files = [
        TCB_BODY,
        ("stranger", strange.encode()),
        ("old", old.encode()),
        ("alone", alone.encode()),
        SIGNER,
    ]
    for order in (files, files[::-1]):
        assembly = assemble_collateral(order)
        assert assembly.pack.tcb_infos == EXPECTED.tcb_infos
        assert set(assembly.unused) == {"stranger", "old", "alone"}


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ([TCB_BODY], "tcb"),
        ([TCB_BODY, CA], "tcb"),
        ([QE_BODY, TCB_BODY], "qe, tcb"),
        ([PCK_CRL, SIGNER], "pck crl"),
        ([("damaged", TCB_BODY[1].replace(b'"pcesvn":13', b'"pcesvn":12')), SIGNER], "damaged"),
        ([("forged", PCK_CRL[1][:-1] + bytes([PCK_CRL[1][-1] ^ 1])), CA], "forged"),
    ],
)
def test_artefacts_without_their_issuer(files: list[tuple[str, bytes]], named: str) -> None:
    with pytest.raises(CollateralError, match="no issuer chain") as caught:
        assemble_collateral(files)
    assert caught.value.where == named
    assert "TCB-Info-Issuer-Chain" in (caught.value.hint or "")


def test_crl_of_an_unrelated_ca() -> None:
    signer = CASE.tcb_signing
    key_id = authority_key_id(signer.key)
    extensions = tuple(key_id if e.oid == key_id.oid else e for e in CASE.pck_crl.extensions)
    crl = replace(CASE.pck_crl, issuer=signer.subject, signer=signer.key, extensions=extensions)
    odd = crl.der()
    with pytest.raises(CollateralError, match="no part in TDX") as caught:
        assemble_collateral([("odd", odd), SIGNER])
    assert caught.value.where == "odd"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no collateral that is known"),
        (b"hello", "no collateral that is known"),
        (b"{", "JSON"),
        (b'{"a": 1}', "unknown kind"),
        (b'{"schema": "ccverify.policy/v1"}', "neither"),
        (b'{"headers": {}, "status": 404}', "is an error"),
        (EVIDENCE.quote_bytes, "looks like a quote"),
        (b"\x30\x82\x01\x00" + bytes(256), "does not parse"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "does not parse"),
        (b'{"tcbInfo":{"id":"SGX","version":3},"signature":"' + b"0" * 128 + b'"}', "not for TDX"),
    ],
)
def test_unrecognised_files_are_named(data: bytes, message: str) -> None:
    with pytest.raises(CollateralError, match=message) as caught:
        assemble_collateral([*HEAP, ("the file", data)])
    assert (caught.value.where or "").startswith("the file")


def test_der_certificates_and_useless_recordings() -> None:
    root = CASE.root.der()
    assembly = assemble_collateral(
        [*HEAP, ("root.cer", root), ("headers", recording(("Date", "x"), ("Server", "y")))]
    )
    assert assembly.pack == EXPECTED
    assert assembly.unused == ("root.cer",)


def test_empty_heap() -> None:
    assert assemble_collateral([]).pack == CollateralPack()


# Real files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "capture", ["chutes_20260610", "neardirect_20260610", "phalacloud_20260610"]
)
def test_recorded_responses_are_the_assembled_pack(vectors: Path, capture: str) -> None:
    folder = vectors / "tdx" / "captures" / capture
    files = [(file.name, file.read_bytes()) for file in sorted(folder.glob("*trustedservices*"))]
    assert len(files) == 8
    assembly = assemble_collateral(files)
    expected = vectors / "tdx" / "collateral" / "assembled" / f"cap_{capture}_90c06f.json"
    assert assembly.pack == parse_collateral(expected.read_bytes())
    assert assembly.unused == ()


def test_saved_files_of_others(vectors: Path) -> None:
    folder = vectors / "tdx" / "collateral"

    def heap(*patterns: str) -> list[tuple[str, bytes]]:
        return [(f.name, f.read_bytes()) for p in patterns for f in sorted(folder.glob(p))]

    automata = assemble_collateral(heap("automata_2025-02_*"))
    assert len(automata.pack.tcb_infos) == 3
    assert [len(a.issuer_chain) for a in automata.pack.artefacts] == [2, 2, 2, 2, 2, 0]
    assert automata.unused == ("automata_2025-02_signing_cert.pem",)
    expected = parse_collateral((folder / "assembled/automata_00806f_2025-02.json").read_bytes())
    assert {a.body for a in expected.artefacts} <= {a.body for a in automata.pack.artefacts}
    lunal = heap("lunal_2026-03_*")
    with pytest.raises(CollateralError) as caught:  # its PCK CRL was saved without a chain
        assemble_collateral(lunal)
    assert caught.value.where == "lunal_2026-03_pck_crl_platform.der"
    whole = assemble_collateral([*lunal, *heap("edgeless_2023-02_pckCrlSigningChain.pem")])
    assert len(whole.pack.artefacts) == 5
    with pytest.raises(CollateralError, match="no issuer chain"):
        assemble_collateral(heap("google_*"))
    with pytest.raises(CollateralError, match="not for TDX"):
        assemble_collateral(heap("phala_sgx_*"))


# The pack format's schema and its test vector ------------------------------------------


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    file = REPOSITORY / "ccverify" / "tdx" / "schema" / "collateral-pack-v1.json"
    loaded: dict[str, Any] = json.loads(file.read_text())
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def valid(document: Any, schema: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(document))


def parses(document: Any) -> bool:
    try:
        parse_collateral(json.dumps(document).encode())
    except CollateralError:
        return False
    return True


def full_pack() -> dict[str, Any]:
    chain = parse_pem_chain(CASE.pck_chain().encode())
    pack = EXPECTED.merged(CollateralPack(pck_chains=(chain,)))
    loaded: dict[str, Any] = json.loads(serialize_collateral(pack))
    return loaded


def test_schema_accepts_what_is_written(schema: dict[str, Any], vectors: Path) -> None:
    assert valid(full_pack(), schema)
    assert valid({"schema": "ccverify.collateral/v1", "artefacts": []}, schema)
    for file in sorted((vectors / "tdx" / "collateral" / "assembled").glob("*.json")):
        written = serialize_collateral(parse_collateral(file.read_bytes()))
        assert valid(json.loads(written), schema), file.name


def test_schema_and_parser_refuse_the_same(schema: dict[str, Any]) -> None:
    kinds = [entry["type"] for entry in full_pack()["artefacts"]]
    assert sorted(kinds) == ["pck-chain", "pck-crl", "qe-identity", "root-ca-crl", "tcb-info"]
    count = 0
    for index, kind in enumerate(kinds):
        for name in ("type", "body", "signature", "der", "pem", "issuer_chain", "extra"):
            for value in (None, 1, "", "zz", "%", "delete"):
                document = full_pack()
                entry = document["artefacts"][index]
                if value == "delete":
                    entry.pop(name, None)
                else:
                    entry[name] = value
                if document == full_pack():
                    continue
                optional = name == "issuer_chain" and value == "delete"
                assert valid(document, schema) == parses(document) == optional, (kind, name, value)
                count += 1
    assert count > 150
    wrong: list[Any] = [{}, [], {"schema": "ccverify.collateral/v1"}, full_pack() | {"more": 1}]
    for document in wrong:
        assert not valid(document, schema)
        assert not parses(document)


def test_documented_vector() -> None:
    text = (REPOSITORY / "docs" / "spec" / "collateral-pack.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \| ([0-9a-f]+) \|$", text.split("<!-- vector -->")[1], re.M))
    data = serialize_collateral(EXPECTED)
    bodies = {artefact.kind: artefact.digest for artefact in EXPECTED.artefacts}
    signer, root = EXPECTED.tcb_infos[0].issuer_chain
    ca = EXPECTED.pck_crls[0].issuer_chain[0]
    sha256 = {
        name: hashlib.sha256(c.der).hexdigest()
        for name, c in {"TCB signer": signer, "PCK Platform CA": ca, "root": root}.items()
    }
    assert rows == {
        "length of `data`": str(len(data)),
        "SHA-384 of `data`": hashlib.sha384(data).hexdigest(),
        "`pack.digest`": EXPECTED.digest,
        "`tcb-info` body, SHA-384": bodies["tcb-info"],
        "`qe-identity` body, SHA-384": bodies["qe-identity"],
        "`pck-crl` DER, SHA-384": bodies["pck-crl"],
        "`root-ca-crl` DER, SHA-384": bodies["root-ca-crl"],
        **{f"{name} certificate, SHA-256": digest for name, digest in sha256.items()},
    }
    chosen = EXPECTED.select(PLATFORM.fmspc, EXPECTED.pck_crls[0].crl.issuer, DEFAULT_TIME)
    for artefact in chosen.artefacts:
        assert f"| `{artefact.kind}` | {artefact.edition} | {artefact.window} |" in text


def test_documented_digest_algorithm() -> None:
    chain = parse_pem_chain(CASE.pck_chain().encode())
    pack = EXPECTED.merged(CollateralPack(pck_chains=(chain,)))
    parts = []
    for artefact in pack.artefacts:
        text = artefact.kind.encode() + b"\0" + hashlib.sha384(artefact.body).digest()
        text += len(artefact.issuer_chain).to_bytes(2, "big")
        text += b"".join(hashlib.sha256(c.der).digest() for c in artefact.issuer_chain)
        parts.append(hashlib.sha384(text + getattr(artefact, "signature", b"")).digest())
    pck = b"pck-chain\0" + b"".join(hashlib.sha256(c.der).digest() for c in chain)
    parts.append(hashlib.sha384(pck).digest())
    whole = hashlib.sha384(b"ccverify/collateral/v1" + b"".join(sorted(parts)))
    assert pack.digest == whole.hexdigest()
