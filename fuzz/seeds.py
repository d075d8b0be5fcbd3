"""Seeds of every target, made by `ccverify.sim`: the same bytes on every machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from ccverify.sim import SimPlatform
from ccverify.sim.certs import to_pem
from ccverify.sim.defaults import DEFAULT_BOOT_EVENTS, dstack_events
from ccverify.sim.defects import DEFECTS
from ccverify.sim.eventlog import ccel_acpi_table, dstack_log_json, encode_ccel
from ccverify.sim.platform import SimEvidence
from ccverify.tdx.collateral import parse_collateral, serialize_collateral
from ccverify.trust.x509 import parse_certificate
from fuzz.evidence import bases

__all__ = [
    "anchor_seeds",
    "ccel_seeds",
    "certificate_seeds",
    "collateral_seeds",
    "crl_seeds",
    "der_seeds",
    "dstack_seeds",
    "extension_seeds",
    "json_seeds",
    "name_seeds",
    "pcs_seeds",
    "pem_seeds",
    "policy_seeds",
    "qe_identity_seeds",
    "quote_seeds",
    "table_seeds",
    "tcb_info_seeds",
]

_POLICIES = Path(__file__).resolve().parent.parent / "policies"


@cache
def _evidence() -> tuple[SimEvidence, ...]:
    return tuple(base.case.build() for base in bases())


@cache
def _defective(area: str) -> tuple[SimEvidence, ...]:
    return tuple(own.evidence() for own in DEFECTS.values() if own.area == area)


def quote_seeds() -> Sequence[bytes]:
    quotes = [evidence.quote_bytes for evidence in _evidence()]
    quotes += [evidence.quote_bytes for evidence in _defective("quote")]
    short = SimPlatform().case(inner_type=2).build().quote_bytes
    return [*quotes, short, short + bytes(64), short.hex().encode(), b"0x" + short.hex().encode()]


def ccel_seeds() -> Sequence[bytes]:
    events = DEFAULT_BOOT_EVENTS
    agile = [replace(event, more_digests=((0x0B, bytes(32)),)) for event in events[:3]]
    return [
        encode_ccel(events, size=None),
        encode_ccel(events, size=0x1000, fill=0),
        encode_ccel(events[:2], size=None),
        encode_ccel(agile, size=None, algorithms=((0x0C, 48), (0x0B, 32))),
    ]


def table_seeds() -> Sequence[bytes]:
    return [ccel_acpi_table(0x10000), ccel_acpi_table(0, cc_type=1)]


def dstack_seeds() -> Sequence[bytes]:
    events = DEFAULT_BOOT_EVENTS[:3]
    logs = [
        dstack_log_json(events, dstack_events(version=version), lite=lite)
        for version in (1, 2)
        for lite in (False, True)
    ]
    wrapped = json.dumps({"quote": "00", "event_log": logs[1]})
    gpu = (b'{"name":"kms","list":[1,{"a":null}]}').hex()
    runtime = {"imr": 3, "event_type": 0x08000001, "digest": "", "event_payload": gpu}
    ready = {**runtime, "event": "system-ready", "event_payload": ""}
    small = json.dumps([{**runtime, "event": "gpu-attestation"}, ready])
    return [text.encode() for text in (*logs, wrapped, small)]


def collateral_seeds() -> Sequence[bytes]:
    given = [evidence.collateral.to_json().encode() for evidence in _evidence()]
    packs = [serialize_collateral(parse_collateral(text)) for text in given]
    entry = {"type": "pck-chain", "pem": _evidence()[0].collateral.pck_crl_issuer_chain}
    small = json.dumps({"schema": "ccverify.collateral/v1", "artefacts": [entry]})
    return [*dict.fromkeys(given), *dict.fromkeys(packs), small.encode()]


def tcb_info_seeds() -> Sequence[bytes]:
    made = (*_evidence()[:1], *_defective("collateral"))
    return list(dict.fromkeys(own.collateral.tcb_info.text.encode() for own in made))


def qe_identity_seeds() -> Sequence[bytes]:
    made = (*_evidence()[:1], *_defective("collateral"))
    return list(dict.fromkeys(own.collateral.qe_identity.text.encode() for own in made))


def certificate_seeds() -> Sequence[bytes]:
    names = ("pck", "pck_ca", "root", "tcb_signer")
    return list(dict.fromkeys(base.parts[name] for base in bases() for name in names))


def pem_seeds() -> Sequence[bytes]:
    single = [to_pem(der, "CERTIFICATE").encode() for der in certificate_seeds()]
    return [*single, b"".join(single[:3]), b"".join(single[:3]) + b"\0"]


def anchor_seeds() -> Sequence[bytes]:
    root = bases()[0].parts["root"]
    return [root, to_pem(root, "CERTIFICATE").encode(), *pem_seeds()[:2]]


def crl_seeds() -> Sequence[bytes]:
    own = bases()[0].case
    many = own.pck_crl.with_revoked(*range(1, 20), reason=None)
    reasons = own.pck_crl.with_revoked(5, reason="certificate_hold").with_number(1 << 150)
    listed = [base.parts[name] for base in bases() for name in ("root_crl", "pck_crl")]
    return [*dict.fromkeys(listed), many.der(), reasons.der()]


def name_seeds() -> Sequence[bytes]:
    return [parse_certificate(der).subject for der in certificate_seeds()]


def extension_seeds() -> Sequence[bytes]:
    platforms = (SimPlatform(), SimPlatform(ca="processor"))
    return [platform.sgx_extension().extension().value for platform in platforms]


def der_seeds() -> Sequence[bytes]:
    integers = b"".join(bytes((2, len(v))) + v for v in (b"\0", b"\x7f", b"\0\x80", b"\xff"))
    return [integers, b"\x30\x81\x80" + bytes(128), *extension_seeds()]


def policy_seeds() -> Sequence[bytes]:
    files = [path.read_bytes() for path in sorted(_POLICIES.glob("*.yaml"))]
    tags = [b"tdx: !!%s x\n" % tag for tag in (b"int", b"float", b"bool", b"map", b"timestamp")]
    return [*files, *dict.fromkeys(base.parts["policy"] for base in bases()), *tags]


def json_seeds() -> Sequence[bytes]:
    return [
        b'{"a":[1,-2.5e3,true,false,null,"\\u00e9\\ud83d\\ude00"],"b":{"c":"\xc3\xa9"}}',
        b'{"a":1,"a":2}', b"[NaN]", b"[1e400]", b'["\\ud800"]', b" 0 ", b'""',
        b"[" * 40 + b"]" * 40,
    ]  # fmt: skip


def pcs_seeds() -> Sequence[bytes]:
    responses = _evidence()[0].collateral.pcs_responses().values()
    headers = [value.encode() for response in responses for _, value in response.headers]
    bodies = [response.body for response in responses]
    crl = bases()[0].parts["pck_crl"]
    texts = [crl.hex().encode(), to_pem(crl, "X509 CRL").encode()]
    saved = json.dumps({"status": 200, "headers": dict(next(iter(responses)).headers)}).encode()
    lines = b"HTTP/1.1 200 OK\r\n" + b"".join(
        f"{name}: {value}\r\n".encode() for name, value in next(iter(responses)).headers
    )
    return [*bodies, *headers, *texts, saved, lines]
