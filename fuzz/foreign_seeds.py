"""Seeds of the targets in `fuzz.foreign`: small documents of every format, made here.

The readers of foreign formats look into neither quotes nor reports nor certificates, so short
stand-ins do.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from ccverify.sim import SimKey

__all__ = [
    "KEY",
    "all_documents",
    "attestation_seeds",
    "documents",
    "instance_key_seeds",
    "jwk",
    "jwks_seeds",
    "jwt",
    "jwt_seeds",
    "scale_attestation",
]

Json = dict[str, Any]
KEY = SimKey("fuzz-jwt", curve="P-384")
_NONCE = bytes(range(32))
_QUOTE = bytes((4, 0, 2, 0, 0x81, 0, 0, 0)) + bytes(60)
_PEM = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
_EVENT = {"imr": 3, "event_type": 0x08000001, "digest": "", "event": "a", "event_payload": "00"}


def _b64(data: bytes) -> str:
    return b64encode(data).decode()


def _device(number: int = 0, arch: str = "HOPPER", **more: object) -> Json:
    report = b"\x11\xe0\x01\xff" + _NONCE + bytes((number,))
    item = {"arch": arch, "certificate": _b64(_PEM), "evidence": _b64(report)}
    return {**item, "nonce": _NONCE.hex(), **more}


def _devices() -> list[Json]:
    return [_device(), _device(1, "LS10", driver_version="590.12", version="1.0")]


def _nras() -> Json:
    bare = [{k: v for k, v in d.items() if k in ("certificate", "evidence")} for d in _devices()]
    return {"nonce": _NONCE.hex(), "arch": "HOPPER", "claims_version": "3.0", "evidence_list": bare}


def _report(**more: object) -> Json:
    return {
        "signing_address": "0x" + "ab" * 20,
        "signing_algo": "ecdsa",
        "signing_public_key": "cd" * 33,
        "request_nonce": _NONCE.hex(),
        "intel_quote": _QUOTE.hex(),
        "nvidia_payload": json.dumps(_nras()),
        "event_log": [_EVENT],
        "info": {
            "app_id": "00",
            "tcb_info": json.dumps({"app_compose": "{}"}),
            "vm_config": "{}",
        },
        "verified": True,
        **more,
    }


def _near() -> list[Any]:
    node = _report(tls_cert_fingerprint="33" * 32, vpc={"host": "x"})
    gateway = {k: v for k, v in _report(event_log="[]").items() if k != "nvidia_payload"}
    listed = {**node, "all_attestations": [node, _report(signing_algo="ed25519")]}
    models = [_report(), _report(report_data=bytes(64).hex())]
    return [node, {"gateway_attestation": gateway, "model_attestations": models}, listed]


def _instance(number: int, quote: str, **more: object) -> Json:
    return {
        "instance_id": f"i{number}",
        quote: _b64(_QUOTE),
        "gpu_evidence": _devices(),
        "e2e_pubkey": "key",
        **more,
    }


def _chutes() -> list[Any]:
    both = [_instance(n, "quote", certificate=_b64(b"DER")) for n in range(2)]
    return [{"evidence": both, "failed_instance_ids": ["gone"]}]


def _redpill() -> list[Any]:
    listed = [_instance(0, "intel_quote", nonce=_NONCE.hex()), _instance(1, "intel_quote")]
    resold = {"attestation_type": "chutes", "nonce": _NONCE.hex(), "all_attestations": listed}
    return [_report(), _report(all_attestations=[_report()]), resold]


def _tinfoil() -> list[Any]:
    gpu = {"evidences": [_device()]}
    own = {
        "format": "https://tinfoil.sh/predicate/attestation/v3",
        "report_data": {
            "tls_key_fp": "11" * 32,
            "hpke_key": "22" * 32,
            "nonce": _NONCE.hex(),
            "gpu_evidence_hash": sha256(json.dumps(gpu).encode()).hexdigest(),
            "nvswitch_evidence_hash": "",
        },
        "cpu": {"platform": "tdx", "report": _b64(_QUOTE)},
        "gpu": gpu,
        "nvswitch": {"evidences": [_device(9, "LS10")], "result_code": 0, "result_message": "Ok"},
        "certificate": _PEM.decode(),
        "signature": "AA==",
    }
    return [own, {**own, "cpu": {"platform": "sev-snp", "report": _b64(b"SNP")}, "gpu": None}]


def _trustee() -> list[Any]:
    hexed = _device(0, uuid="u", evidence=(b"\x11\xe0\x01\xff" + _NONCE).hex())
    additional = {"nvidia": {"device_evidence_list": [hexed]}, "tpm": {}}
    tdx = {"quote": _b64(_QUOTE), "cc_eventlog": _b64(b"log")}
    kbs = {
        "init-data": {"format": "toml", "body": ""},
        "runtime-data": {"tee-pubkey": {"kty": "EC"}, "nonce": "n"},
        "tee-evidence": {"primary_evidence": tdx, "additional_evidence": json.dumps(additional)},
    }
    return [kbs, tdx, {**tdx, "cc_eventlog": None}, {"device_evidence_list": _devices()}]


def _dstack() -> list[Any]:
    answer = {
        "quote": _QUOTE.hex(),
        "event_log": json.dumps([_EVENT]),
        "report_data": bytes(64).hex(),
        "vm_config": "{}",
    }
    attested = {"attestation": scale_attestation().hex()}
    return [answer, {**answer, "event_log": [_EVENT]}, {"quote": "00", "vm_config": ""}, attested]


# --- binary attestation --------------------------------------------------------------------------


def _length(value: int) -> bytes:
    if value < 1 << 6:
        return bytes((value << 2,))
    if value < 1 << 14:
        return (value << 2 | 1).to_bytes(2, "little")
    return (value << 2 | 2).to_bytes(4, "little")


def _octets(data: bytes) -> bytes:
    return _length(len(data)) + data


def scale_attestation(
    events: int = 2, kind: int = 1, config: bytes = b'{"vm_config":"{}"}', payload: bytes = b"x"
) -> bytes:
    """Dstack's binary attestation with this many events, and one runtime event."""
    head = (0).to_bytes(4, "little") + kind.to_bytes(4, "little")
    event = head + _octets(bytes(48)) + _octets(b"name") + _octets(payload)
    runtime = _octets(b"app-id") + _octets(b"\1\2")
    logs = _length(events) + event * events + _length(1) + runtime
    return b"\0\0" + _octets(_QUOTE) + logs + bytes(64) + _octets(config)


def attestation_seeds() -> Sequence[bytes]:
    full = scale_attestation(kind=0x08000001, config=b'{"cpu_count":1}')
    return [scale_attestation(), full, scale_attestation(0, config=b"", payload=bytes(100))]


# --- tokens --------------------------------------------------------------------------------------


def _part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).decode().rstrip("=")


def jwt(claims: object, header: Json | None = None, signature: bytes | None = None) -> str:
    """Return a token signed by `KEY`, or with that signature."""
    covered = f"{_part(header or {'alg': 'ES384', 'kid': 'k'})}.{_part(claims)}"
    signed = KEY.sign_raw(covered.encode()) if signature is None else signature
    return f"{covered}.{_part(signed)}"


def jwk() -> Json:
    """Return `KEY` as a JSON Web Key."""
    x, y = KEY.public_xy[:48], KEY.public_xy[48:]
    return {"kty": "EC", "crv": "P-384", "kid": "k", "alg": "ES384", "x": _part(x), "y": _part(y)}


_CLAIMS = {"iss": "me", "iat": 10, "nbf": 11, "exp": 12, "eat_nonce": _NONCE.hex()}


@cache
def jwt_seeds() -> Sequence[bytes]:
    tokens = (
        jwt(_CLAIMS),
        jwt({}),
        jwt(_CLAIMS, {"alg": "HS256", "typ": "JWT"}, bytes(32)),
        jwt(_CLAIMS, {"alg": "none"}, b""),
        jwt(_CLAIMS, {"alg": "ES384", "crit": ["exp"]}),
    )
    return [token.encode() for token in tokens]


def jwks_seeds() -> Sequence[bytes]:
    other = {**jwk(), "kid": "other", "use": "sig", "x5c": ["AA=="]}
    sets: tuple[list[Json], ...] = ([jwk()], [jwk(), other], [jwk(), jwk()])
    return [json.dumps({"keys": keys}).encode() for keys in sets]


def _eats() -> list[Any]:
    tokens = {"GPU-0": jwt({"ueid": "1"}), "SWITCH-0": jwt({"ueid": "2"})}
    digests = {
        name: ["DIGEST", ["SHA-256", sha256(token.encode()).hexdigest()]]
        for name, token in tokens.items()
    }
    overall = jwt({**_CLAIMS, "submods": {**digests, "GONE": digests["GPU-0"]}})
    eat = [["JWT", overall], tokens]
    local = jwt(_CLAIMS, {"alg": "HS256"}, bytes(32))
    nested = [["JWT", local], {"REMOTE": eat}]
    return [eat, nested, {"detached_eat": eat, "claims": [], "result_code": 0}]


def _nvattest() -> list[Any]:
    answer = {"evidences": _devices(), "result_code": 0, "result_message": "Ok"}
    return [_devices(), answer]


@cache
def documents() -> Mapping[str, Sequence[bytes]]:
    """Documents by name of the module that reads them."""
    made: Mapping[str, list[Any]] = {
        "chutes": _chutes(),
        "dstack": _dstack(),
        "eat": _eats(),
        "near": _near(),
        "nras": [_nras()],
        "nvattest": _nvattest(),
        "redpill": _redpill(),
        "tinfoil": _tinfoil(),
        "trustee": _trustee(),
    }
    return {name: [json.dumps(one).encode() for one in own] for name, own in made.items()}


def all_documents() -> Sequence[bytes]:
    known = [seed for seeds in documents().values() for seed in seeds]
    return [*known, *attestation_seeds(), b'{"quote":"00","cc_eventlog":null,"vm_config":""}']


def instance_key_seeds() -> Sequence[bytes]:
    keys = [{"instance_id": f"i{number}", "e2e_pubkey": "key"} for number in range(2)]
    other = [{**keys[0], "e2e_pubkey": "another"}]
    return [json.dumps({"instances": own}).encode() for own in (keys, keys[:1], other)]
