"""Small documents of every format, made here, so that most tests need no captures.

The parsers of this package do not look into reports, quotes or certificates, so short stand-ins
do; the captures, read by other tests, have the real ones.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

PEM = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
NONCE = bytes(range(32))
QUOTE = bytes([4, 0, 2, 0, 0x81, 0, 0, 0]) + bytes(100)
EVENTS = [{"imr": 3, "event_type": 0x08000001, "digest": "", "event": "a", "event_payload": ""}]
KEY = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP384R1())
KEY_ID = "test-key"

Json = dict[str, Any]


def text64(data: bytes) -> str:
    return b64encode(data).decode()


def report(number: int = 0) -> bytes:
    return b"\x11\xe0\x01\xff" + NONCE + bytes([number])


def device(number: int = 0, arch: str = "HOPPER", **more: object) -> Json:
    return {
        "arch": arch,
        "certificate": text64(PEM),
        "evidence": text64(report(number)),
        "nonce": NONCE.hex(),
        **more,
    }


def devices(count: int = 2) -> list[Json]:
    return [device(number) for number in range(count)]


def nras_request() -> Json:
    bare = [{k: v for k, v in d.items() if k in ("certificate", "evidence")} for d in devices()]
    return {"nonce": NONCE.hex(), "arch": "HOPPER", "claims_version": "3.0", "evidence_list": bare}


def inference_report(**more: object) -> Json:
    return {
        "signing_address": "0x" + "ab" * 20,
        "signing_algo": "ecdsa",
        "request_nonce": NONCE.hex(),
        "intel_quote": QUOTE.hex(),
        "nvidia_payload": json.dumps(nras_request()),
        "event_log": EVENTS,
        "info": {"app_id": "00", "tcb_info": {"app_compose": "{}"}, "vm_config": "{}"},
        **more,
    }


def near_gateway() -> Json:
    gateway = inference_report(event_log=json.dumps(EVENTS))
    del gateway["nvidia_payload"]
    return {
        "gateway_attestation": gateway,
        "model_attestations": [inference_report(), inference_report(vpc={"host": "x"})],
    }


def chutes() -> Json:
    instances = [
        {
            "instance_id": f"i{number}",
            "quote": text64(QUOTE),
            "gpu_evidence": devices(),
            "certificate": text64(b"DER"),
        }
        for number in range(2)
    ]
    return {"evidence": instances, "failed_instance_ids": ["gone"]}


def redpill() -> Json:
    instances = [
        {
            "instance_id": f"i{number}",
            "nonce": NONCE.hex(),
            "e2e_pubkey": "key",
            "intel_quote": text64(QUOTE),
            "gpu_evidence": devices(),
        }
        for number in range(2)
    ]
    return {"attestation_type": "chutes", "nonce": NONCE.hex(), "all_attestations": instances}


def tinfoil(**more: object) -> Json:
    gpu = {"evidences": devices(1)}
    return {
        "format": "https://tinfoil.sh/predicate/attestation/v3",
        "report_data": {
            "tls_key_fp": "11" * 32,
            "hpke_key": "22" * 32,
            "nonce": NONCE.hex(),
            "gpu_evidence_hash": sha256(json.dumps(gpu).encode()).hexdigest(),
            "nvswitch_evidence_hash": "",
        },
        "cpu": {"platform": "tdx", "report": text64(QUOTE)},
        "gpu": gpu,
        "nvswitch": {"evidences": [device(9, "LS10")], "result_code": 0},
        "certificate": PEM.decode(),
        "signature": "AA==",
        **more,
    }


def trustee() -> Json:
    nvidia = [device(0, uuid="u", evidence=report().hex()), device(1, "LS10")]
    additional = {"nvidia": {"device_evidence_list": nvidia}, "tpm": {}}
    return {
        "init-data": {"format": "toml", "body": ""},
        "runtime-data": {"tee-pubkey": {"kty": "EC"}, "nonce": "n"},
        "tee-evidence": {
            "primary_evidence": {"quote": text64(QUOTE), "cc_eventlog": text64(b"log")},
            "additional_evidence": json.dumps(additional),
        },
    }


def dstack() -> Json:
    return {
        "quote": QUOTE.hex(),
        "event_log": json.dumps(EVENTS),
        "report_data": bytes(64).hex(),
        "vm_config": "{}",
    }


# --- tokens --------------------------------------------------------------------------------------


def part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).decode().rstrip("=")


def jwt(claims: object, header: Json | None = None, signature: bytes | None = None) -> str:
    head = header if header is not None else {"alg": "ES384", "kid": KEY_ID}
    covered = f"{part(head)}.{part(claims)}"
    if signature is None:
        r, s = decode_dss_signature(KEY.sign(covered.encode(), ec.ECDSA(SHA384())))
        signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    return f"{covered}.{part(signature)}"


def submods(tokens: dict[str, str]) -> Json:
    return {
        name: ["DIGEST", ["SHA-256", sha256(token.encode()).hexdigest()]]
        for name, token in tokens.items()
    }


def detached_eat() -> list[Any]:
    tokens = {"GPU-0": jwt({"ueid": "1"}), "SWITCH-0": jwt({"ueid": "2"})}
    overall = {"iss": "me", "iat": 10, "nbf": 11, "exp": 12, "eat_nonce": NONCE.hex()}
    return [["JWT", jwt({**overall, "submods": submods(tokens)})], tokens]


def jwk(**more: object) -> Json:
    numbers = KEY.public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-384",
        "kid": KEY_ID,
        "x": part(numbers.x.to_bytes(48, "big")),
        "y": part(numbers.y.to_bytes(48, "big")),
        **more,
    }


ALL: dict[str, Any] = {
    "nvattest list": devices(),
    "nvattest answer": {"evidences": devices(), "result_code": 0, "result_message": "Ok"},
    "NRAS request": nras_request(),
    "detached EAT": detached_eat(),
    "nvattest result": {"detached_eat": detached_eat(), "claims": [], "result_code": 0},
    "dstack": dstack(),
    "NEAR node": inference_report(tls_cert_fingerprint="33" * 32),
    "NEAR gateway": near_gateway(),
    "redpill own": inference_report(),
    "redpill on Chutes": redpill(),
    "Chutes": chutes(),
    "Tinfoil": tinfoil(),
    "Trustee KBS": trustee(),
    "Trustee TDX": {"quote": text64(QUOTE), "cc_eventlog": None},
    "Trustee NVIDIA": {"device_evidence_list": devices()},
}
