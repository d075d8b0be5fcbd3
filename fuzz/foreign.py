"""One function per reader of a foreign format, as in `fuzz.parsers`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from types import ModuleType

from ccverify.errors import CollateralError, EvidenceError
from ccverify.evidence import Assertion, DeviceEvidence, Evidence
from ccverify.interop import (
    chutes,
    detect,
    dstack,
    eat,
    near,
    nras,
    nvattest,
    redpill,
    tinfoil,
    trustee,
)
from ccverify.interop.devices import MAX_CHAIN_BYTES, MAX_DEVICES, MAX_REPORT_BYTES
from ccverify.interop.elements import Element, parse_foreign_json
from ccverify.interop.inference_report import MAX_NODES
from ccverify.interop.jwt import Jwk, parse_jwks, parse_jwt, verify_es384
from ccverify.interop.model import DetachedEat, ForeignEvidence, Jwt
from ccverify.interop.scale import parse_scale_attestation
from ccverify.tdx.dstack_log import parse_dstack_log
from fuzz import foreign_seeds
from fuzz.invariants import declared, holds, strict_json_text

__all__ = [
    "MODULES",
    "dstack_attestation",
    "foreign",
    "instance_keys",
    "jwks_set",
    "jwt_token",
    "reader",
]

MODULES = {
    "chutes": chutes,
    "dstack": dstack,
    "eat": eat,
    "near": near,
    "nras": nras,
    "nvattest": nvattest,
    "redpill": redpill,
    "tinfoil": tinfoil,
    "trustee": trustee,
}
"""Every reader of a JSON format."""


def foreign(data: bytes) -> bool:
    """Detection and whatever reader it chooses."""
    evidence = declared(EvidenceError, lambda: detect.parse_foreign_evidence(data))
    if evidence is None:
        return False
    holds(evidence.format in detect.KNOWN_FORMATS, "a format without a name")
    labels = [node.label for node in evidence.nodes]
    holds(len(set(labels)) == len(labels), "two nodes of one label")
    _evidence(evidence)
    return True


def reader(name: str) -> Callable[[bytes], bool]:
    """Return the target of one module, past the detection."""
    module = MODULES[name]

    def run(data: bytes) -> bool:
        evidence = _read(module, data)
        if evidence is None:
            return False
        _evidence(evidence)
        document = json.loads(data)
        for text in (json.dumps(document, indent=1), json.dumps(document, ensure_ascii=False)):
            again = _read(module, text.encode())
            holds(again is not None and _comparable(again) == _comparable(evidence), "white space")
        holds(json.loads(data) == document, "the document was changed by reading it")
        return True

    return run


def _read(module: ModuleType, data: bytes) -> ForeignEvidence | None:
    def parse() -> ForeignEvidence | None:
        document = parse_foreign_json(data, "document")
        # Whatever the document is, this must answer.
        return module.parse(document, data) if module.matches(document) else None

    return declared(EvidenceError, parse)


def _comparable(evidence: ForeignEvidence) -> ForeignEvidence:
    """Leave out what is kept as the source's own text, white space included."""
    nodes = tuple(
        replace(
            node,
            binding=replace(
                node.binding,
                report_data_json=None,
                gpu_evidence_json=None,
                nvswitch_evidence_json=None,
            ),
        )
        for node in evidence.nodes
    )
    return replace(evidence, nodes=nodes)


# --- what holds of everything that is read -------------------------------------------------------


def _evidence(evidence: ForeignEvidence) -> None:
    holds(evidence.nodes or evidence.results, "evidence of nothing")
    holds(len(evidence.nodes) <= 2 * MAX_NODES, "too many nodes")
    _assertions(evidence.asserted)
    for path in evidence.not_read:
        path.encode("utf-8")
    for node in evidence.nodes:
        _node(node)
    for result in evidence.results:
        _result(result)


def _node(node: Evidence) -> None:
    holds(node.quote or node.gpus or node.switches or node.other_cpu, "a node of nothing")
    holds((node.event_log is None) == (node.event_log_format is None), "a log of no format")
    holds(len(node.quote or b"") <= dstack.MAX_QUOTE_BYTES, "a quote over its limit")
    holds(len(node.gpus) + len(node.switches) <= 2 * MAX_DEVICES, "too many devices")
    for device in (*node.gpus, *node.switches):
        _device(device)
    holds(all(d.claimed_architecture == "LS10" for d in node.switches), "a switch that is none")
    holds(all(d.claimed_architecture != "LS10" for d in node.gpus), "a GPU that is a switch")
    for text in (node.label, node.source):
        text.encode("utf-8")
    own = node.binding
    for value, size in (
        (own.request_nonce, 32),
        (own.tls_fingerprint, 32),
        (own.hpke_key, 32),
        (own.report_data, 64),
        (own.gpu_evidence_hash, 32),
        (own.nvswitch_evidence_hash, 32),
    ):
        holds(value is None or len(value) == size, "a binding input of the wrong size")
    if own.request_nonce is not None and own.request_nonce_text is not None:
        holds(bytes.fromhex(own.request_nonce_text) == own.request_nonce, "two nonces")
    for source in (own.report_data_json, own.gpu_evidence_json, own.nvswitch_evidence_json):
        holds(source is None or strict_json_text(source.decode()) is not None, "text of nothing")
    if own.runtime_data_json is not None:
        strict_json_text(own.runtime_data_json)
    if node.event_log_format and node.event_log_format.name == "DSTACK_JSON":
        log = node.event_log or b""
        strict_json_text(log.decode("utf-8"))
        declared(EvidenceError, lambda: parse_dstack_log(log))
    _assertions(node.asserted)


def _device(device: DeviceEvidence) -> None:
    holds(1 <= len(device.report) <= MAX_REPORT_BYTES, "a report over its limits")
    holds(1 <= len(device.certificate_chain) <= MAX_CHAIN_BYTES, "a chain over its limits")
    holds(device.claimed_nonce is None or len(device.claimed_nonce) == 32, "a nonce of no size")
    architecture = device.claimed_architecture or ""
    holds(architecture == architecture.upper() and len(architecture) <= 192, "no architecture")
    _assertions(device.asserted)


def _assertions(listed: tuple[Assertion, ...]) -> None:
    for one in listed:
        holds(isinstance(one.value, str | int | float), "an assertion that is no scalar")
        strict_json_text(json.dumps([one.name, one.value, one.source]))


def _result(result: DetachedEat) -> None:
    _token(result.overall)
    for submodule in result.submodules:
        holds(submodule.token or submodule.stated_digest, "a submodule of nothing")
        if submodule.token:
            _token(submodule.token)
            digest = sha256(submodule.token.text.encode()).digest()
            holds(submodule.computed_digest == digest, "another digest")
        matching = submodule.computed_digest == submodule.stated_digest
        holds((submodule.problem is None) == matching, "a problem that is none")
    for inner in result.nested:
        _result(inner)


# --- tokens --------------------------------------------------------------------------------------


def jwt_token(data: bytes) -> bool:
    token = declared(EvidenceError, lambda: parse_jwt(Element(data.decode("latin-1"), "token")))
    if token is None:
        return False
    _token(token)
    return True


def _token(token: Jwt) -> None:
    signed, _, signature = token.text.rpartition(".")
    holds(token.signing_input == signed.encode(), "another text is signed")
    sizes = {"ES384": 96, "HS256": 32, "none": 0}
    holds(len(token.signature) == sizes[token.algorithm], "a signature of the wrong length")
    holds(bool(signature) == bool(token.signature), "a signature of nothing")
    for moment in (token.times.issued_at, token.times.not_before, token.times.expires):
        holds(moment is None or 0 <= moment < 1 << 40, "a time out of range")
    holds(token.nonce is None or len(token.nonce) == 32, "a nonce of no size")
    strict_json_text(json.dumps(dict(token.claims)))
    problem = verify_es384(token, _known_key())
    if problem is None:
        holds(token.algorithm == "ES384", "not ES384, and it verifies")
        holds(token.signing_input in _signed_tokens(), "a token that nobody signed verifies")


@cache
def _known_key() -> Jwk:
    return parse_jwks(foreign_seeds.jwks_seeds()[0])["k"]


@cache
def _signed_tokens() -> frozenset[bytes]:
    """The signed part of every genuine token in the seeds."""
    found = [token.rpartition(b".")[0] for token in foreign_seeds.jwt_seeds()]
    for seed in foreign_seeds.documents()["eat"]:
        found += [piece.rpartition(b".")[0] for piece in seed.split(b'"') if piece.count(b".") == 2]
    return frozenset(found)


def jwks_set(data: bytes) -> bool:
    keys = declared(CollateralError, lambda: parse_jwks(data))
    if keys is None:
        return False
    token = parse_jwt(Element(foreign_seeds.jwt_seeds()[0].decode()))
    for name, key in keys.items():
        holds(name == key.key_id, "a key under another id")
        holds(len(key.x) == len(key.y) == 48, "a coordinate of the wrong size")
        genuine = (key.key_id, key.x + key.y) == ("k", foreign_seeds.KEY.public_xy)
        holds((verify_es384(token, key) is None) == genuine, "another key verifies the token")
    return True


# --- the rest ------------------------------------------------------------------------------------


def dstack_attestation(data: bytes) -> bool:
    parsed = declared(EvidenceError, lambda: parse_scale_attestation(data))
    bare = declared(EvidenceError, lambda: dstack.parse_attestation(data))
    holds(parsed or not bare, "evidence of what does not parse")
    wrapped = json.dumps({"attestation": data.hex()}).encode()
    inside = declared(EvidenceError, lambda: detect.parse_foreign_evidence(wrapped))
    holds(bare == inside, "bare and inside JSON it is read otherwise")
    if parsed is None:
        return False
    holds(parsed.quote in data and parsed.report_data in data, "parts that were not sent")
    holds(len(parsed.report_data) == 64, "REPORTDATA is not 64 bytes")
    log = strict_json_text(parsed.event_log.decode("utf-8"))
    names = {"imr", "event_type", "digest", "event", "event_payload"}
    holds(all(event.keys() == names for event in log), "an event of another form")
    declared(EvidenceError, lambda: parse_dstack_log(parsed.event_log))
    if bare is not None:
        _evidence(bare)
    return True


def instance_keys(data: bytes) -> bool:
    keys = declared(EvidenceError, lambda: chutes.parse_instance_keys(data))
    if keys is None:
        return False
    seed = foreign_seeds.documents()["chutes"][0]
    evidence = chutes.parse(json.loads(seed), seed)
    joined = declared(EvidenceError, lambda: chutes.with_instance_keys(evidence, keys))
    for node in joined.nodes if joined else ():
        own = node.binding.e2e_public_key
        holds(own in (None, "key") or keys[node.label] == own, "a key of another instance")
        holds(node.label not in keys or own == keys[node.label], "an instance lost its key")
    return True
