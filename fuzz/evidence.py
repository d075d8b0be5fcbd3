"""`ccverify.check` under fuzzing: a small program of edits applied to honest evidence.

The input is not evidence but a program, so that a few bytes reach any part of it and every
length, encoding and chain around the edited part is made to fit again:

    u8 flags, u8 base, then edits: u8 part, u8 operation, u16 offset, u8 n, n bytes

(little endian).  Bits of `flags` (`Sign`) have the simulated Intel sign the edited parts again,
which takes the edits past the signature checks.  Without any of them, nothing but the original
signed bytes may ever be trusted.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntFlag
from functools import cache
from random import Random

import ccverify
from ccverify.sim import SimCase, SimPlatform, defaults
from ccverify.sim.certs import to_pem
from ccverify.sim.eventlog import dstack_log_json, encode_ccel
from ccverify.tdx.eventlog import identity_claims, parse_event_log
from ccverify.trust.x509 import parse_certificate, parse_crl
from fuzz.mutate import (
    Mutator,
    edit_at,
    mutate_bytes,
    mutate_ccel,
    mutate_der,
    mutate_json,
    mutate_yaml,
    sign_again,
)

__all__ = [
    "PARTS",
    "Base",
    "Built",
    "Sign",
    "bases",
    "build",
    "edit_program",
    "original_claims",
    "signed_originals",
]


class Sign(IntFlag):
    """What the simulated Intel signs again after the edits."""

    QUOTE = 1
    QE_REPORT = 2
    """Also binds the attestation key again."""
    CERTIFICATES = 4
    CRLS = 8
    COLLATERAL = 16
    MERGE = 32
    """Signs nothing: the honest collateral is put beside the edited one."""


_MAX_EDITS = 12
_MAX_PART = 12 * 1024
_MAX_WHOLE = 64 * 1024

PARTS: tuple[tuple[str, Mutator], ...] = (
    ("signed_range", mutate_bytes),
    ("signature", mutate_bytes),
    ("attestation_key", mutate_bytes),
    ("qe_report", mutate_bytes),
    ("qe_report_signature", mutate_bytes),
    ("qe_auth", mutate_bytes),
    ("pck", mutate_der),
    ("pck_ca", mutate_der),
    ("root", mutate_der),
    ("tcb_signer", mutate_der),
    ("root_crl", mutate_der),
    ("pck_crl", mutate_der),
    ("tcb_info", mutate_json),
    ("qe_identity", mutate_json),
    ("log", mutate_json),
    ("policy", mutate_yaml),
    ("certification", mutate_bytes),
    ("shift", mutate_bytes),
    ("quote", mutate_bytes),
    ("collateral", mutate_json),
)
"""Parts by number, and how operation 6 changes each.  The last two are edited when all else is
put together."""


@dataclass(frozen=True)
class Base:
    """Honest evidence in parts, the keys that sign it and the policy it meets."""

    case: SimCase
    parts: Mapping[str, bytes]
    inner_type: int

    @property
    def trust(self) -> ccverify.TrustStore:
        return _trust(self.case.root.der())


@cache
def _trust(root: bytes) -> ccverify.TrustStore:
    return ccverify.TrustStore(ccverify.TrustKind.SIMULATED, ccverify.TrustAnchor.load(root))


@dataclass(frozen=True)
class Built:
    """What a program made."""

    base: Base
    number: int
    flags: Sign
    quote: bytes
    log: bytes | None
    collateral: bytes
    policy: bytes
    shift: timedelta


def _policy(*, registers: Mapping[str, bytes] | None = None, **sections: object) -> bytes:
    names = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
    accepted: dict[str, object] = dict.fromkeys(names, "any")
    accepted |= {name: [value.hex()] for name, value in (registers or {}).items()}
    tdx = {"measurements": accepted, "report_data": "any", **sections}
    return json.dumps({"schema": "ccverify.policy/v1", "tdx": tdx}, indent=1).encode()


@cache
def bases() -> tuple[Base, ...]:
    """Every honest form: versions, body types, certification data, logs, TCB states."""
    runtime = defaults.dstack_events()
    dstack = SimPlatform().case(runtime_events=runtime)
    log = dstack_log_json(dstack.boot_events, runtime).encode()
    lite = dstack_log_json(dstack.boot_events, runtime, lite=True).encode()
    late = SimPlatform().case(version=5, body_type=4, runtime_events=runtime)
    ccel = SimPlatform().case(version=5, body_type=3)
    ccel_log = encode_ccel(ccel.boot_events, size=0x1000)
    compose = hashlib.sha256(defaults.DEFAULT_COMPOSE.encode()).hexdigest()
    claims = {"required": True, "rtmr3": "log", "claims": {"compose_hash": [compose]}}
    grace = {"accepted_statuses": [], "grace_days": {"OutOfDate": 3650}}
    return (
        _base(SimPlatform().case(), b"", _policy()),
        _base(dstack, log, _policy(event_log=claims)),
        _base(ccel, ccel_log, _policy(event_log={"rtmr3": "opaque"}, platform={"smt": "allow"})),
        _base(late, lite, _policy(event_log={}, xfam={"require": ["avx"]})),
        _base(SimPlatform().case(inner_type=1), b"", _policy(), 1),
        _base(SimPlatform().case(inner_type=4), b"", _policy(), 4),
        _base(SimPlatform(ca="processor").case(), ccel_log, _policy(event_log={})),
        _base(SimPlatform().with_status("OutOfDate").case(), b"", _policy(tcb=grace)),
    )


def _base(case: SimCase, log: bytes, policy: bytes, inner_type: int = 5) -> Base:
    evidence = case.build()
    part = evidence.quote.part
    collateral = evidence.collateral
    start, _ = evidence.quote.span("signature_size")
    parts = {
        "signed_range": evidence.quote_bytes[:start],
        "signature": part("signature"),
        "attestation_key": part("attestation_key"),
        "qe_report": part("qe_report"),
        "qe_report_signature": part("qe_report_signature"),
        "qe_auth": part("auth_data"),
        "pck": case.pck.der(),
        "pck_ca": case.pck_ca.der(),
        "root": case.root.der(),
        "tcb_signer": case.tcb_signing.der(),
        "root_crl": collateral.root_ca_crl,
        "pck_crl": collateral.pck_crl,
        "tcb_info": collateral.tcb_info.text.encode(),
        "tcb_info_signature": collateral.tcb_info.signature,
        "qe_identity": collateral.qe_identity.text.encode(),
        "qe_identity_signature": collateral.qe_identity.signature,
        "log": log,
        "policy": policy,
        "certification": b"" if inner_type == 5 else part("certification_data"),
        "shift": bytes(4),
    }
    return Base(case, parts, inner_type)


# --- the program ---


def edit_program(*edits: tuple[str, int, int, bytes], flags: int = 0, base: int = 0) -> bytes:
    """Return the program of these edits: part, operation, offset, at most 255 bytes."""
    numbers = {name: number for number, (name, _) in enumerate(PARTS)}
    body = (
        struct.pack("<BBHB", numbers[part], operation, at, len(payload)) + payload
        for part, operation, at, payload in edits
    )
    return bytes((flags, base)) + b"".join(body)


def build(program: bytes) -> Built:
    """Run a program: edit, sign again what its flags say, put everything together."""
    flags = Sign(program[0] & 0x3F) if program else Sign(0)
    number = program[1] % len(bases()) if len(program) > 1 else 0
    base = bases()[number]
    parts = dict(base.parts)
    late: list[tuple[str, Mutator, int, int, bytes]] = []
    at = 2
    for _ in range(_MAX_EDITS):
        if at + 5 > len(program):
            break
        part, operation, offset, size = struct.unpack_from("<BBHB", program, at)
        payload = program[at + 5 : at + 5 + size]
        at += 5 + size
        name, mutate = PARTS[part % len(PARTS)]
        if name in ("quote", "collateral"):
            late.append((name, mutate, operation, offset, payload))
            continue
        if name == "log" and not parts["log"].startswith(b"["):
            mutate = mutate_ccel
        # Edits that repeat a piece multiply: without a bound, a dozen of them fill the memory.
        parts[name] = _edit(parts[name], mutate, operation, offset, payload)[:_MAX_PART]
    _sign(parts, base.case, flags)
    whole = {"quote": _quote(parts, base), "collateral": _collateral(parts, base)}
    for name, mutate, operation, offset, payload in late:
        whole[name] = _edit(whole[name], mutate, operation, offset, payload)[:_MAX_WHOLE]
    shift = timedelta(seconds=int.from_bytes(parts["shift"][:4], "little", signed=True))
    log = parts["log"] or None
    return Built(
        base, number, flags, whole["quote"], log, whole["collateral"], parts["policy"], shift
    )


def _edit(data: bytes, mutate: Mutator, operation: int, offset: int, payload: bytes) -> bytes:
    edited = edit_at(data, operation % 8, offset % (len(data) + 1), payload)
    if edited is not None:
        return edited
    return mutate(data, Random(f"{offset}/{payload.hex()}"))


def _sign(parts: dict[str, bytes], case: SimCase, flags: Sign) -> None:
    if Sign.CERTIFICATES in flags:
        signers = {"pck": case.pck, "pck_ca": case.pck_ca, "tcb_signer": case.tcb_signing}
        for name, own in signers.items():
            parts[name] = sign_again(parts[name], own.signer.sign_der)
    if Sign.CRLS in flags:
        parts["root_crl"] = sign_again(parts["root_crl"], case.root_crl.signer.sign_der)
        parts["pck_crl"] = sign_again(parts["pck_crl"], case.pck_crl.signer.sign_der)
    if Sign.COLLATERAL in flags:
        for name in ("tcb_info", "qe_identity"):
            parts[f"{name}_signature"] = case.tcb_signing.key.sign_raw(parts[name])
    if Sign.QUOTE in flags:
        parts["signature"] = case.quote.attestation_key.sign_raw(parts["signed_range"])
    if Sign.QE_REPORT in flags:
        bound = hashlib.sha256(parts["attestation_key"] + parts["qe_auth"]).digest() + bytes(32)
        parts["qe_report"] = parts["qe_report"].ljust(384, b"\0")[:320] + bound
        parts["qe_report_signature"] = case.pck.key.sign_raw(parts["qe_report"])


def _quote(parts: Mapping[str, bytes], base: Base) -> bytes:
    certification = parts["certification"]
    if base.inner_type == 5:
        chain = (parts["pck"], parts["pck_ca"], parts["root"])
        certification = _pem(*chain).encode() + b"\0"
    auth = parts["qe_auth"][:0xFFFF]
    inner = b"".join(
        (
            parts["qe_report"],
            parts["qe_report_signature"],
            len(auth).to_bytes(2, "little") + auth,
            struct.pack("<HI", base.inner_type, len(certification)) + certification,
        )
    )
    data = parts["signature"] + parts["attestation_key"] + struct.pack("<HI", 6, len(inner)) + inner
    return parts["signed_range"] + len(data).to_bytes(4, "little") + data


def _collateral(parts: Mapping[str, bytes], base: Base) -> bytes:
    signers = _pem(parts["tcb_signer"], parts["root"])
    members = {
        "pck_crl_issuer_chain": _pem(parts["pck_ca"], parts["root"]),
        "root_ca_crl": parts["root_crl"].hex(),
        "pck_crl": parts["pck_crl"].hex(),
        "tcb_info_issuer_chain": signers,
        "tcb_info": parts["tcb_info"].decode("utf-8", "replace"),
        "tcb_info_signature": parts["tcb_info_signature"].hex(),
        "qe_identity_issuer_chain": signers,
        "qe_identity": parts["qe_identity"].decode("utf-8", "replace"),
        "qe_identity_signature": parts["qe_identity_signature"].hex(),
    }
    if base.inner_type != 5:
        members["pck_certificate_chain"] = _pem(parts["pck"], parts["pck_ca"], parts["root"])
    return json.dumps(members).encode()


def _pem(*certificates: bytes) -> str:
    return "".join(to_pem(der, "CERTIFICATE") for der in certificates)


@cache
def signed_originals() -> frozenset[bytes]:
    """Every byte string that somebody genuinely signed in one of the bases."""
    known: set[bytes] = set()
    for base in bases():
        parts = base.parts
        known |= {parts[n] for n in ("signed_range", "qe_report", "tcb_info", "qe_identity")}
        known |= {parse_certificate(parts[n]).tbs for n in ("pck", "pck_ca", "tcb_signer")}
        known |= {parse_crl(parts[n]).tbs for n in ("root_crl", "pck_crl")}
    return frozenset(known)


@cache
def original_claims() -> tuple[dict[str, str], ...]:
    """The identity claims of the honest logs, as text."""
    logs = [parse_event_log(base.parts["log"]) for base in bases() if base.parts["log"]]
    values = [identity_claims(log).values for log in logs]
    return tuple({name: str(value) for name, value in own.items()} for own in values)
