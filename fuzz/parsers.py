"""One function per parser: bytes in, True if they were accepted, `Violation` if a rule broke."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from itertools import pairwise
from typing import Any

from ccverify.errors import (
    CcverifyError,
    CollateralError,
    EvidenceError,
    PolicyError,
    TrustError,
)
from ccverify.policy.document import load_policy, policy_from_document
from ccverify.policy.judge_eventlog import judge_event_log
from ccverify.policy.model import EventLogPolicy
from ccverify.results.render.describe import (
    describe_collateral,
    describe_event_log,
    describe_quote,
)
from ccverify.results.render.inspection import Inspection, inspection_json, render_inspection
from ccverify.results.render.policy import effective_document
from ccverify.sim.collateral import PcsResponse
from ccverify.strict_json import parse_json, parse_json_prefix
from ccverify.tdx import pcs
from ccverify.tdx.assemble import assemble_collateral
from ccverify.tdx.ccel import parse_ccel, parse_ccel_table
from ccverify.tdx.claims import quote_claims
from ccverify.tdx.collateral import parse_collateral, serialize_collateral
from ccverify.tdx.collateral_diff import compare_packs
from ccverify.tdx.collateral_report import appraise_pack, describe_pack
from ccverify.tdx.dstack_log import parse_dstack_log
from ccverify.tdx.eventlog import (
    RTMR3_TREATMENTS,
    EventLog,
    appraise_event_log,
    identity_claims,
    parse_event_log,
    replay,
)
from ccverify.tdx.pck import SGX_EXTENSION_OID, parse_pck_platform
from ccverify.tdx.quote import BODY_BYTES, decode_quote_text, parse_quote
from ccverify.tdx.tcb_info import TcbInfo, parse_qe_identity, parse_tcb_info
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.der import INTEGER, decode_integer, read_tlv
from ccverify.trust.names import name_text
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import (
    Certificate,
    issue_problem,
    parse_certificate,
    parse_crl,
    parse_pem_chain,
    validity_problem,
)
from fuzz.evidence import bases
from fuzz.invariants import declared, holds, printable, strict_json_text

_NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
_MEMORY = SignatureMemory()
_MAX_SHOWN = 100
"""Longer logs are not rendered: the parser is what is to be tried."""


# --- quotes ---


def quote(data: bytes) -> bool:
    raw = declared(EvidenceError, lambda: decode_quote_text(data))
    if raw is None:
        return False
    parsed = declared(EvidenceError, lambda: parse_quote(raw))
    if parsed is None:
        return False
    body = BODY_BYTES[parsed.report.body_type]
    pieces = (
        parsed.signature, parsed.attestation_key, parsed.qe_report.raw,
        parsed.qe_report_signature, parsed.qe_auth_data, parsed.certification_data,
    )  # fmt: skip
    rest = 4 + 6 + 2 + 6 + parsed.padding
    holds(raw.startswith(parsed.signed_range), "the signed range is not the quote's beginning")
    holds(parsed.signed_range.endswith(parsed.report.raw), "the report is not in the signed range")
    holds(len(parsed.report.raw) == body, "the report has the wrong size")
    holds(
        len(raw) == len(parsed.signed_range) + sum(map(len, pieces)) + rest,
        "the parts do not make up the quote",
    )
    for text in (raw.hex().encode(), b"0x" + raw.hex().encode(), base64.b64encode(raw)):
        holds(decode_quote_text(text) == raw, "hex or base64 decodes to something else")
    strict_json_text(json.dumps(quote_claims(parsed)))
    _show(describe_quote(parsed))
    return True


def _show(inspection: Inspection) -> None:
    strict_json_text(inspection_json(inspection))
    printable(render_inspection(inspection, width=100))


# --- event logs ---


def ccel(data: bytes) -> bool:
    log = declared(EvidenceError, lambda: parse_ccel(data))
    return log is not None and _event_log(log)


def ccel_table(data: bytes) -> bool:
    return declared(EvidenceError, lambda: parse_ccel_table(data)) is not None


def dstack_log(data: bytes) -> bool:
    log = declared(EvidenceError, lambda: parse_dstack_log(data))
    return log is not None and _event_log(log)


def event_log(data: bytes) -> bool:
    log = declared(EvidenceError, lambda: parse_event_log(data))
    for treatment in (None, *RTMR3_TREATMENTS):
        rules = EventLogPolicy(rtmr3=treatment, claims={"key_provider.name": frozenset({"kms"})})
        registers = replay(log) if log else (bytes(48),) * 4
        judged = judge_event_log(
            rules, data, registers, authentic=True, image_expected=not treatment
        )
        codes = [finding.code for finding in judged.findings]
        holds(len(set(codes)) == len(codes), "a check was reported twice")
    return log is not None


def _event_log(log: EventLog) -> bool:
    registers = replay(log)
    holds([len(register) for register in registers] == [48] * 4, "a register is not 48 bytes")
    holds([e.index for e in log.events] == list(range(len(log.events))), "indices are not 0, 1, …")
    holds(all(len(event.digest) == 48 for event in log.events), "a digest is not 48 bytes")
    claims = identity_claims(log)
    holds(not (claims.values and claims.problems), "claims were read in spite of problems")
    for treatment in RTMR3_TREATMENTS:
        findings = appraise_event_log(log, registers, rtmr3=treatment)
        holds(all(f.state.value == "PASS" for f in findings[:3]), "its own replay does not pass")
    if len(log.events) < _MAX_SHOWN:
        _show(describe_event_log(log))
    return True


# --- collateral ---


def collateral(data: bytes) -> bool:
    pack = declared(CollateralError, lambda: parse_collateral(data))
    if pack is None:
        return False
    text = serialize_collateral(pack)
    strict_json_text(text.decode("utf-8"))
    holds(parse_collateral(text).digest == pack.digest, "a pack does not survive being written")
    records = [dict(artefact.record) for artefact in pack.artefacts]
    strict_json_text(json.dumps(records))
    _show(describe_collateral(pack))
    base = bases()[0]
    honest = parse_collateral(base.case.collateral().to_json().encode())
    for problem in appraise_pack(pack, base.trust, _NOW, honest):
        problem.encode("utf-8")
    strict_json_text(json.dumps(describe_pack(pack, base.trust, _NOW)))
    strict_json_text(json.dumps(compare_packs(honest, pack)))
    return True


def tcb_info(data: bytes) -> bool:
    info = declared(CollateralError, lambda: parse_tcb_info(data))
    if info is None:
        return False
    holds(_sorted(info), "TCB levels are not in descending order")
    return True


def _sorted(info: TcbInfo) -> bool:
    keys = [(lv.sgx_components, lv.pcesvn, lv.tdx_components) for lv in info.tcb_levels]
    return all(first >= second for first, second in pairwise(keys))


def qe_identity(data: bytes) -> bool:
    return declared(CollateralError, lambda: parse_qe_identity(data)) is not None


def pcs_response(data: bytes) -> bool:
    chains, header = _pcs_headers(), data.decode("latin-1")
    parsers: tuple[Callable[[], object], ...] = (
        lambda: pcs.parse_tcb_info_response(data, chains),
        lambda: pcs.parse_qe_identity_response(data, chains),
        lambda: pcs.parse_pck_crl_response(data, chains),
        lambda: pcs.parse_root_ca_crl_response(data),
        lambda: pcs.parse_issuer_chain(header),
        lambda: pcs.find_issuer_chain([*chains, (chains[0][0], header)], (chains[0][0],)),
    )
    signed = declared(CollateralError, lambda: pcs.parse_signed_object(data))
    if signed:
        holds(signed.text in data, "the signed text is not a piece of what was served")
        holds(len(signed.signature) == 64, "the signature is not 64 bytes")
    accepted = [declared(CollateralError, parse) for parse in parsers]
    return signed is not None or any(value is not None for value in accepted)


@cache
def _pcs_headers() -> tuple[tuple[str, str], ...]:
    own = bases()[0].case.collateral().pcs_responses().values()
    return tuple(pair for response in own for pair in response.headers if "Chain" in pair[0])


def assemble(data: bytes) -> bool:
    others = [(f"{n}", response.body) for n, response in enumerate(_pcs_bodies())]
    chains = [(f"{n}", value.encode()) for n, (_, value) in enumerate(_pcs_headers(), 10)]
    alone = declared(CollateralError, lambda: assemble_collateral([("a", data)]))
    heap = [("a", data), *others, *chains]
    return (declared(CollateralError, lambda: assemble_collateral(heap)) or alone) is not None


@cache
def _pcs_bodies() -> tuple[PcsResponse, ...]:
    return tuple(bases()[0].case.collateral().pcs_responses().values())


# --- certificates ---


def certificate(data: bytes) -> bool:
    parsed = declared(CollateralError, lambda: parse_certificate(data, CollateralError))
    if parsed is None:
        return False
    holds(parsed.der == data, "the certificate is not the bytes that were given")
    holds(parsed.tbs in data, "the signed part is not a piece of the certificate")
    _use_certificate(parsed)
    return True


def _use_certificate(parsed: Certificate) -> None:
    """Everything that is read lazily, after the parser has accepted the certificate."""
    for text in (parsed.subject_text, validity_problem(parsed, _NOW), parsed.common_name):
        json.dumps(text, ensure_ascii=False).encode("utf-8")
    holds(len(parsed.sha256) == 32, "a digest is not 32 bytes")
    key_id = parsed.authority_key_id
    issue_problem(parsed, parsed.issuer, parsed.public_key, key_id, _MEMORY)
    declared(EvidenceError, lambda: parse_pck_platform(parsed))
    declared(TrustError, lambda: TrustAnchor.from_certificate(parsed))
    pcs.names_ca(parsed.subject, pcs.ROOT_CA)


def pem_chain(data: bytes) -> bool:
    chain = declared(CollateralError, lambda: parse_pem_chain(data, CollateralError))
    for parsed in chain or ():
        _use_certificate(parsed)
    holds(chain is None or 1 <= len(chain) <= 8, "a chain of the wrong length")
    return chain is not None


def trust_anchor(data: bytes) -> bool:
    return declared(TrustError, lambda: TrustAnchor.load(data)) is not None


def crl(data: bytes) -> bool:
    parsed = declared(CollateralError, lambda: parse_crl(data, CollateralError))
    if parsed is None:
        return False
    holds(parsed.tbs in data, "the signed part is not a piece of the CRL")
    key = parse_certificate(bases()[0].parts["root"]).public_key
    issue_problem(parsed, parsed.issuer, key, parsed.authority_key_id, _MEMORY)
    for serial in (0, 1, 1 << 159):
        holds(parsed.lists(serial) in (True, False), "revocation is neither yes nor no")
    parsed.issuer_text.encode("utf-8")
    str(parsed.number)
    return True


def der(data: bytes) -> bool:
    at, read = 0, 0
    while at < len(data):
        element = declared(EvidenceError, partial(read_tlv, data, at, EvidenceError))
        if element is None:
            break
        tag, content, end = element
        holds(at < end <= len(data), "an element ends before it begins or after the data")
        holds(data[at] == tag and data[end - len(content) : end] == content, "wrong content")
        if tag == INTEGER:
            _der_integer(content)
        at, read = end, read + 1
    return read > 0


def _der_integer(content: bytes) -> None:
    value = declared(EvidenceError, lambda: decode_integer(content, EvidenceError))
    if value is not None:
        # DER has one encoding for each number: the shortest.
        size = (value if value >= 0 else ~value).bit_length() // 8 + 1
        again = value.to_bytes(size, "big", signed=True)
        holds(again == content, "an integer that is not minimal was accepted")


def name(data: bytes) -> bool:
    text = name_text(data)
    text.encode("utf-8")
    return not text.startswith("name ")


def pck_extension(data: bytes) -> bool:
    stub = replace(
        parse_certificate(bases()[0].parts["pck"]), private_extensions={SGX_EXTENSION_OID: data}
    )
    platform = declared(EvidenceError, lambda: parse_pck_platform(stub))
    if platform is None:
        return False
    holds(len(platform.component_svns) == 16, "not 16 SVNs")
    holds([len(v) for v in (platform.ppid, platform.fmspc, platform.pceid)] == [16, 6, 2], "sizes")
    return True


# --- text ---


def policy(data: bytes) -> bool:
    loaded = declared(PolicyError, lambda: load_policy(data))
    if loaded is None:
        return False
    holds(len(loaded.digest) == 96, "a policy without a digest")
    document = effective_document(loaded)
    strict_json_text(json.dumps(document))
    again = effective_document(policy_from_document(document))
    holds(again == document, "the effective document says another policy")
    return True


def strict_json(data: bytes) -> bool:
    first, second = _parsed(data, EvidenceError), _parsed(data, CollateralError)
    holds((first is None) == (second is None), "the error's type decides what is accepted")
    text = data.decode("utf-8", "replace")
    _prefix(text, EvidenceError)
    if first is None:
        return False
    written = json.dumps(first[0], ensure_ascii=False)
    holds(strict_json_text(written) == first[0], "a value does not survive being written")
    holds(json.loads(data) == first[0], "another reader sees another value")
    return True


def _parsed(data: bytes, error: type[CcverifyError]) -> list[Any] | None:
    """The value in a list, because null is a value too."""
    return declared(error, lambda: [parse_json(data, what="text", error=error)])


def _prefix(text: str, error: type[CcverifyError]) -> None:
    found = declared(error, lambda: parse_json_prefix(text, 0, what="text", error=error))
    holds(found is None or 0 < found[1] <= len(text), "a value ends outside the text")
