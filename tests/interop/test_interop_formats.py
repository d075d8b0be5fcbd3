"""Detection, the made documents of every format, and everything malformed."""

from __future__ import annotations

import copy
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interop_samples import (
    ALL,
    EVENTS,
    NONCE,
    PEM,
    QUOTE,
    chutes,
    device,
    devices,
    dstack,
    inference_report,
    near_gateway,
    nras_request,
    redpill,
    report,
    text64,
    trustee,
)

from ccverify.errors import EvidenceError
from ccverify.evidence import BindingProfile, EventLogFormat, NodeRole
from ccverify.interop import detect
from ccverify.interop.detect import KNOWN_FORMATS, parse_foreign_evidence
from ccverify.interop.elements import MAX_DEPTH, Element, member_texts
from ccverify.interop.model import ForeignEvidence

FORMATS = {
    "nvattest list": "nvattest",
    "nvattest answer": "nvattest",
    "NRAS request": "nras-request",
    "detached EAT": "detached-eat",
    "nvattest result": "detached-eat",
    "dstack": "dstack",
    "NEAR node": "near",
    "NEAR gateway": "near",
    "redpill own": "redpill",
    "redpill on Chutes": "redpill",
    "Chutes": "chutes",
    "Tinfoil": "tinfoil",
    "Trustee KBS": "trustee",
    "Trustee TDX": "trustee",
    "Trustee NVIDIA": "trustee",
}


def read(document: Any) -> ForeignEvidence:
    return parse_foreign_evidence(json.dumps(document).encode())


# --- detection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_each_format_is_found_by_content(name: str) -> None:
    assert read(ALL[name]).format == FORMATS[name]


def test_every_known_format_has_a_sample() -> None:
    assert sorted(set(FORMATS.values())) == sorted(KNOWN_FORMATS)
    assert set(FORMATS) == set(ALL)


@pytest.mark.parametrize("document", [{}, [], 1, None, "x", [1], [{}], {"a": 1}, [[]], True])
def test_unknown_documents_list_the_known_formats(document: object) -> None:
    with pytest.raises(EvidenceError, match="no known format") as caught:
        read(document)
    for name in KNOWN_FORMATS:
        assert name in (caught.value.expected or "")


MIXED = [
    ("Chutes", "NRAS request"),
    ("Chutes", "Tinfoil"),
    ("NEAR gateway", "redpill on Chutes"),
    ("NEAR node", "redpill on Chutes"),
    ("nvattest answer", "nvattest result"),
    ("dstack", "Trustee TDX"),
    ("dstack", "Chutes"),
    ("NRAS request", "nvattest answer"),
    ("Trustee KBS", "NEAR node"),
]


@pytest.mark.parametrize("pair", MIXED, ids=" + ".join)
def test_mixed_formats_are_ambiguous(pair: tuple[str, str]) -> None:
    with pytest.raises(EvidenceError, match="several formats") as caught:
        read({**ALL[pair[1]], **ALL[pair[0]]})
    for name in pair:
        assert FORMATS[name] in (caught.value.found or "")


def test_members_nobody_asks_for_are_left_aside() -> None:
    for document in (ALL[name] for name in ALL if isinstance(ALL[name], dict)):
        assert read({**document, "zzz": {"deep": [None, "x" * 100]}}) == read(document)


# --- contents of the made documents --------------------------------------------------------------


def test_device_items() -> None:
    items = [
        device(0, "hopper", driver_version="590.12"),
        device(1, "BLACKWELL"),
        device(2, "ls10"),
        {k: v for k, v in device(3).items() if k in ("certificate", "evidence")},
    ]
    (node,) = read(items).nodes
    assert [d.report for d in node.gpus] == [report(0), report(1), report(3)]
    assert [d.claimed_architecture for d in node.gpus] == ["HOPPER", "BLACKWELL", None]
    assert [d.source for d in (*node.gpus, *node.switches)] == ["[0]", "[1]", "[3]", "[2]"]
    assert node.gpus[2].claimed_nonce is None
    assert {d.certificate_chain for d in node.gpus} == {PEM}
    assert [(a.name, a.value, a.source) for a in node.gpus[0].asserted] == [
        ("driver_version", "590.12", "[0].driver_version")
    ]
    assert node.binding.request_nonce is None  # not all items state it


def test_items_inherit_what_the_request_states() -> None:
    (node,) = read(nras_request()).nodes
    assert [d.claimed_nonce for d in node.gpus] == [NONCE, NONCE]
    (switches,) = read({**nras_request(), "arch": "LS10"}).nodes
    assert (len(switches.gpus), len(switches.switches)) == (0, 2)


def test_near_gateway() -> None:
    evidence = read(near_gateway())
    gateway, first, second = evidence.nodes
    assert (gateway.role, first.role) == (NodeRole.GATEWAY, NodeRole.WORKLOAD)
    assert json.loads(gateway.event_log or b"") == json.loads(first.event_log or b"") == EVENTS
    assert second.source == "model_attestations[1]"
    assert evidence.not_read == ("model_attestations[1].vpc",)


def test_forms_of_dstack_app_info() -> None:
    info = {"tcb_info": json.dumps({"app_compose": "text"}), "vm_config": "inner"}
    (node,) = read(inference_report(info=info)).nodes
    assert (node.binding.app_compose, node.binding.vm_config) == ("text", "inner")
    (node,) = read(inference_report(info=info, vm_config="outer")).nodes
    assert node.binding.vm_config == "outer"
    (node,) = read(inference_report(info=None, event_log="")).nodes
    assert (node.binding.app_compose, node.event_log, node.event_log_format) == (None, None, None)


def test_two_quotes_in_one_report() -> None:
    assert len(read(inference_report(quote=QUOTE.hex().upper())).nodes) == 1
    with pytest.raises(EvidenceError, match="the same quote"):
        read(inference_report(quote="00"))


def test_listed_nodes_beside_the_top_level() -> None:
    same, other = inference_report(), inference_report(request_nonce="ff" * 32)
    assert len(read({**same, "all_attestations": []}).nodes) == 1
    assert len(read({**same, "all_attestations": [same]}).nodes) == 1
    assert len(read({**same, "all_attestations": [other, same]}).nodes) == 2
    assert len(read({**same, "all_attestations": [other]}).nodes) == 2
    one_gpu = json.dumps({**nras_request(), "evidence_list": devices(1)})
    for change in ({"event_log": []}, {"nvidia_payload": one_gpu}, {"intel_quote": "00"}):
        assert len(read({**same, "all_attestations": [{**same, **change}]}).nodes) == 2
    nested = {**same, "all_attestations": [{**same, "ohttp_attestation": {}}]}
    assert read(nested).not_read == ("all_attestations[0].ohttp_attestation",)


def test_chutes_by_a_reseller() -> None:
    document = redpill()
    del document["all_attestations"][1]["nonce"]
    nodes = read(document).nodes
    assert [n.label for n in nodes] == ["i0", "i1"]
    assert {n.binding.request_nonce_text for n in nodes} == {NONCE.hex()}
    assert {n.binding.e2e_public_key for n in nodes} == {"key"}
    with pytest.raises(EvidenceError, match="attestation_type"):
        read({**document, "attestation_type": "other"})


def test_chutes_failures_are_assertions() -> None:
    evidence = read(chutes())
    assert [(a.name, a.value) for a in evidence.asserted] == [("failed_instance_ids", "gone")]
    assert {n.binding.tls_certificate for n in evidence.nodes} == {b"DER"}


def test_trustee() -> None:
    document = trustee()
    evidence = read(document)
    (node,) = evidence.nodes
    assert (len(node.gpus), len(node.switches)) == (1, 1)
    assert node.gpus[0].report == report()  # hex, as older attesters wrote it
    assert (node.event_log, node.event_log_format) == (b"log", EventLogFormat.CCEL)
    assert node.binding.profile is BindingProfile.TRUSTEE
    assert node.binding.runtime_data_json == '{"nonce":"n","tee-pubkey":{"kty":"EC"}}'
    assert node.binding.additional_evidence_json == document["tee-evidence"]["additional_evidence"]
    assert evidence.not_read == ("tee-evidence.additional_evidence.tpm", "init-data")


def test_trustee_without_devices_or_log() -> None:
    document = trustee()
    document["tee-evidence"]["additional_evidence"] = ""
    document["tee-evidence"]["primary_evidence"]["cc_eventlog"] = ""
    (node,) = read(document).nodes
    assert (node.gpus, node.switches, node.event_log, node.event_log_format) == ((), (), None, None)


# --- malformed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"evidence": None},
        {"evidence": 1},
        {"evidence": ""},
        {"evidence": "EeAB!"},
        {"evidence": "EeAB\n"},
        {"evidence": "EeA"},
        {"evidence": "EeB="},  # stray bits
        {"evidence": "=EeAB"},
        {"evidence": "EeAB===="},
        {"evidence": "é" * 4},
        {"evidence": b64encode(bytes(65 * 1024)).decode()},
        {"evidence": report().hex() + "0"},
        {"certificate": None},
        {"certificate": []},
        {"certificate": text64(b"not PEM")},
        {"certificate": text64(b"")},
        {"arch": 1},
        {"arch": ""},
        {"arch": "H" * 65},
        {"nonce": "00" * 31},
        {"nonce": "zz" * 32},
        {"nonce": " " + "00" * 31 + "0"},
        {"driver_version": {}},
        {"driver_version": "x" * 1025},
    ],
)
def test_malformed_items(change: dict[str, Any]) -> None:
    for document in (
        [device(0), {**device(1), **change}],
        {"evidence": [{"instance_id": "i", "quote": "AA==", "gpu_evidence": [device() | change]}]},
    ):
        with pytest.raises(EvidenceError) as caught:
            read(document)
        assert caught.value.where


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("NRAS request", ["evidence_list"], []),
        ("NRAS request", ["evidence_list"], {}),
        ("NRAS request", ["evidence_list"], devices(1) * 129),
        ("NRAS request", ["nonce"], 5),
        ("NRAS request", ["claims_version"], []),
        ("nvattest answer", ["evidences"], None),
        ("nvattest answer", ["evidences"], []),
        ("nvattest answer", ["result_code"], [0]),
        ("dstack", ["quote"], "0"),
        ("dstack", ["quote"], "0x00"),
        ("dstack", ["quote"], "00" * 65537),
        ("dstack", ["event_log"], "{}"),
        ("dstack", ["event_log"], "[1"),
        ("dstack", ["event_log"], 1),
        ("dstack", ["event_log"], [1] * 4097),
        ("dstack", ["report_data"], "00"),
        ("dstack", ["vm_config"], {}),
        ("NEAR gateway", ["model_attestations"], []),
        ("NEAR gateway", ["model_attestations"], None),
        ("NEAR gateway", ["gateway_attestation"], None),
        ("NEAR gateway", ["gateway_attestation"], []),
        ("NEAR gateway", ["gateway_attestation", "intel_quote"], "AA=="),
        ("NEAR gateway", ["model_attestations", 0, "nvidia_payload"], "{}"),
        ("NEAR gateway", ["model_attestations", 0, "nvidia_payload"], {}),
        ("NEAR gateway", ["model_attestations", 0, "nvidia_payload"], '{"a":1,"a":2}'),
        ("NEAR gateway", ["model_attestations", 0, "signing_address"], "0x"),
        ("NEAR gateway", ["model_attestations", 0, "signing_address"], "0xgg"),
        ("NEAR gateway", ["model_attestations", 0, "info"], []),
        ("NEAR gateway", ["model_attestations", 0, "info", "tcb_info"], "x"),
        ("NEAR gateway", ["model_attestations", 0, "info", "tcb_info", "app_compose"], 1),
        ("NEAR node", ["tls_cert_fingerprint"], "00" * 31),
        ("NEAR node", ["all_attestations"], {}),
        ("NEAR node", ["all_attestations"], [{}]),
        ("NEAR node", ["request_nonce"], "00"),
        ("redpill on Chutes", ["all_attestations"], []),
        ("redpill on Chutes", ["all_attestations", 0, "intel_quote"], QUOTE.hex() + "0"),
        ("redpill on Chutes", ["all_attestations", 0, "gpu_evidence"], []),
        ("redpill on Chutes", ["all_attestations", 0, "instance_id"], "i1"),
        ("redpill on Chutes", ["all_attestations", 0, "nonce"], "00" * 33),
        ("Chutes", ["evidence"], []),
        ("Chutes", ["evidence", 0, "instance_id"], "i1"),
        ("Chutes", ["evidence", 0, "instance_id"], None),
        ("Chutes", ["evidence", 0, "certificate"], "%"),
        ("Chutes", ["failed_instance_ids"], [1]),
        ("Trustee KBS", ["runtime-data"], None),
        ("Trustee KBS", ["runtime-data"], {"x": float("1e999")}),
        ("Trustee KBS", ["tee-evidence", "primary_evidence"], {}),
        ("Trustee KBS", ["tee-evidence", "primary_evidence"], {"svn": "1", "report_data": ""}),
        ("Trustee KBS", ["tee-evidence", "additional_evidence"], "[]"),
        ("Trustee KBS", ["tee-evidence", "additional_evidence"], '{"nvidia":{}}'),
        ("Trustee TDX", ["quote"], QUOTE.hex() + "0"),
        ("Trustee TDX", ["cc_eventlog"], "?"),
        ("Trustee NVIDIA", ["device_evidence_list"], []),
    ],
)
def test_malformed_members(name: str, path: list[Any], value: Any) -> None:
    document = copy.deepcopy(ALL[name])
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    text = json.dumps(document).replace("Infinity", "1e999")
    with pytest.raises(EvidenceError):
        parse_foreign_evidence(text.encode())


@pytest.mark.parametrize("name", ALL)
def test_truncated_documents(name: str) -> None:
    text = json.dumps(ALL[name]).encode()
    for end in {0, 1, len(text) // 3, len(text) // 2, len(text) - 1}:
        with pytest.raises(EvidenceError):
            parse_foreign_evidence(text[:end])


@pytest.mark.parametrize("name", ALL)
def test_duplicate_keys(name: str) -> None:
    text = json.dumps(ALL[name])
    at = text.index("{") + 1
    key = text[at : text.index('"', at + 1) + 1]
    with pytest.raises(EvidenceError, match="twice"):
        parse_foreign_evidence(f"{text[:at]}{key}:0,{text[at:]}".encode())


@pytest.mark.parametrize("levels", [MAX_DEPTH, 200, 100_000])
def test_deep_documents(levels: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        text = json.dumps(dstack())[:-1] + ',"x":' + opening * levels + "1" + closing * levels
        with pytest.raises(EvidenceError, match=r"too deep|not valid JSON"):
            parse_foreign_evidence(text.encode() + b"}")


def test_deep_text_inside_text() -> None:
    deep = "[" * 40 + "]" * 40
    with pytest.raises(EvidenceError, match="too deep"):
        read({**dstack(), "event_log": f"[{deep}]"})


def test_depth_that_is_allowed() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert len(read({**dstack(), "x": deep}).nodes) == 1
    with pytest.raises(EvidenceError, match="too deep"):
        read({**dstack(), "x": [deep]})


def test_huge_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps(dstack()).encode()
    monkeypatch.setattr(detect, "MAX_DOCUMENT_BYTES", len(data))
    assert len(parse_foreign_evidence(data).nodes) == 1
    with pytest.raises(EvidenceError, match="too large"):
        parse_foreign_evidence(data + b" ")


def test_too_many_nodes() -> None:
    many = [{**chutes()["evidence"][0], "instance_id": str(i)} for i in range(257)]
    assert len(read({"evidence": many[:256]}).nodes) == 256
    with pytest.raises(EvidenceError, match="a list of 1 to 256"):
        read({"evidence": many})


@pytest.mark.parametrize("data", [b"\xff", b"\xef\xbb\xbf{}", b"NaN", b'"\\ud800"', b"1" * 5000])
def test_bytes_that_are_no_json(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_foreign_evidence(data)


# --- properties ----------------------------------------------------------------------------------


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.sampled_from(["00", "AA==", "[]", "{}", NONCE.hex(), "LS10", "tdx", "1e999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_change_parses_or_is_refused(data: st.DataObject) -> None:
    document = copy.deepcopy(ALL[data.draw(st.sampled_from(sorted(ALL)))])
    for _ in range(data.draw(st.integers(1, 3))):
        spots = list(places(document))
        if not spots:
            break
        container, key = spots[data.draw(st.integers(0, len(spots) - 1))]
        action = data.draw(st.sampled_from(["replace", "delete", "rename", "copy"]))
        if action == "delete":
            del container[key]
        elif action == "replace":
            container[key] = data.draw(VALUES)
        elif action == "copy":
            source, name = spots[data.draw(st.integers(0, len(spots) - 1))]
            container[key] = copy.deepcopy(source[name])
        elif isinstance(container, dict):
            container[data.draw(st.text(max_size=8))] = container.pop(key)
    accept_or_refuse(json.dumps(document).encode())


@given(st.sampled_from(sorted(ALL)), st.binary(max_size=4), st.floats(0, 1), st.integers(0, 4))
def test_any_bytes_parse_or_are_refused(name: str, junk: bytes, at: float, cut: int) -> None:
    text = json.dumps(ALL[name]).encode()
    start = int(at * len(text))
    accept_or_refuse(text[:start] + junk + text[start + cut :])


@given(st.binary(max_size=300) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_arbitrary_input_is_refused(data: bytes) -> None:
    accept_or_refuse(data)


def accept_or_refuse(data: bytes) -> None:
    try:
        evidence = parse_foreign_evidence(data)
    except EvidenceError:
        return
    assert evidence.format in KNOWN_FORMATS
    assert evidence.nodes or evidence.results
    for node in evidence.nodes:
        assert (node.event_log is None) == (node.event_log_format is None)
        assert node.quote or node.gpus or node.switches or node.other_cpu


@given(VALUES.filter(lambda v: isinstance(v, dict)), st.sampled_from([None, 1, "\t"]))
def test_member_texts_are_the_source(document: dict[str, Any], indent: Any) -> None:
    text = json.dumps(document, indent=indent).replace("NaN", "1").replace("Infinity", "1")
    members = member_texts(f" {text}\n")
    plain = json.loads(text)
    assert {name: json.loads(value) for name, value in members.items()} == plain
    assert all(value in text for value in members.values())


def test_member_texts_of_what_is_no_object() -> None:
    with pytest.raises(EvidenceError):
        member_texts("[1]")


def test_elements_never_show_more_than_a_little() -> None:
    for value in ("x" * 10_000, list(range(10_000)), 10**4000, {"k" * 1000: 1}, None, 1.5):
        with pytest.raises(EvidenceError) as caught:
            Element(value, "p").hex(most=1)
        assert len(caught.value.diagnostics()) < 300
