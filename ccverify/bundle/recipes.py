"""The recipes: what REPORTDATA and the devices' nonces are computed from, per profile.

Each function turns the relying party's nonce and a response's binding inputs into the parts of
REPORTDATA.  Where an input is missing or impossible, the part says why instead of a value.
`ccverify.evidence.BindingProfile` has the formulas.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256, sha384, sha512
from typing import Final

from ccverify.bundle.keys import spki_sha256
from ccverify.errors import EvidenceError
from ccverify.evidence import BindingInputs, BindingProfile
from ccverify.strict_json import parse_json

__all__ = [
    "EXPLICIT",
    "NONCE_BYTES",
    "RECIPES",
    "REPORT_DATA_BYTES",
    "Input",
    "Part",
    "Recipe",
    "runtime_data",
]

REPORT_DATA_BYTES: Final = 64
NONCE_BYTES: Final = 32
"""Of a nonce in a device report, and of a request's nonce in every recipe that fixes it."""

EXPLICIT: Final = "report data the relying party expects"
"""Meaning of a part that the relying party states itself."""

_DIGEST: Final = 32
_ADDRESS_LENGTHS: Final = (20, 32)


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of REPORTDATA and what it must hold.

    Attributes:
        start: offset of the first byte.
        end: offset just after the last byte.
        expected: the bytes it must hold; None where they cannot be derived.
        meaning: what the bytes are.
        reason: why `expected` is None.
        ties: names in `Derivation.bound` of the inputs that a match ties to the quote.
    """

    start: int
    end: int
    expected: bytes | None
    meaning: str
    reason: str | None = None
    ties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    """One value that a recipe hashes or copies.

    Attributes:
        name: its name in `Derivation.bound`; empty for the nonce, which is nobody's to bind.
        source: the field of `BindingInputs` it is read from; empty for the nonce.
        value: the bytes that enter the recipe; None where unusable.
        text: the value for people and for comparison with a live channel.
        reason: why `value` is None.
        missing: whether the response lacks it.
    """

    name: str
    source: str
    value: bytes | None
    text: str = ""
    reason: str | None = None
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a profile derives.

    Attributes:
        parts: cover REPORTDATA from byte 0 to 64 without a gap.
        device_nonce: what every device report must carry; None where it cannot be derived.
        device_nonce_reason: why it is None.
        inputs: everything that entered, the nonce apart.
    """

    parts: tuple[Part, ...]
    device_nonce: bytes | None
    device_nonce_reason: str | None
    inputs: tuple[Input, ...] = ()


def _nonce(nonce: bytes | None, length: int | None = NONCE_BYTES) -> Input:
    if nonce is None:
        return Input("", "", None, reason="no nonce of the relying party was given")
    if length is not None and len(nonce) != length:
        reason = f"the nonce must be {length} bytes here, and the one given has {len(nonce)}"
        return Input("", "", None, reason=reason)
    return Input("", "", nonce)


def _bytes(inputs: BindingInputs, name: str, *lengths: int) -> Input:
    value: bytes | None = getattr(inputs, name)
    label = name.replace("_", " ")
    if value is None:
        return Input(name, name, None, reason=f"the response has no {label}", missing=True)
    if len(value) not in lengths:
        allowed = " or ".join(map(str, lengths))
        reason = f"{label} must have {allowed} bytes, and has {len(value)}"
        return Input(name, name, None, reason=reason)
    return Input(name, name, value, value.hex())


def _text(inputs: BindingInputs, name: str) -> Input:
    text: str | None = getattr(inputs, name)
    label = name.replace("_", " ")
    if text is None:
        return Input(name, name, None, reason=f"the response has no {label}", missing=True)
    try:
        return Input(name, name, text.encode("utf-8"), text)
    except UnicodeEncodeError:
        return Input(name, name, None, reason=f"{label} is not Unicode text")


def _part(start: int, end: int, meaning: str, make: Callable[..., bytes], *inputs: Input) -> Part:
    """Make the bytes from the inputs' values, in their order; or say which input prevents it."""
    reasons = [i.reason for i in inputs if i.value is None and i.reason]
    if reasons:
        return Part(start, end, None, meaning, "; ".join(reasons))
    ties = tuple(i.name for i in inputs if i.name)
    return Part(start, end, make(*(i.value for i in inputs)), meaning, ties=ties)


def _zeros(start: int) -> Part:
    return Part(start, REPORT_DATA_BYTES, bytes(REPORT_DATA_BYTES - start), "zero padding")


def _joined_sha256(*values: bytes) -> bytes:
    return sha256(b"".join(values)).digest()


def _recipe(parts: tuple[Part, ...], gpu_nonce: Input | Part, *inputs: Input) -> Recipe:
    value = gpu_nonce.expected if isinstance(gpu_nonce, Part) else gpu_nonce.value
    return Recipe(parts, value, None if value is not None else gpu_nonce.reason, inputs)


def _callers_choice(
    nonce: bytes | None, inputs: BindingInputs, report_data: bytes | None
) -> Recipe:
    if report_data is not None:
        parts: tuple[Part, ...] = (Part(0, REPORT_DATA_BYTES, report_data, EXPLICIT),)
    elif nonce is None:
        reason = "neither a nonce nor the expected report data was given"
        parts = (Part(0, REPORT_DATA_BYTES, None, "nonce", reason),)
    elif len(nonce) == REPORT_DATA_BYTES:
        parts = (Part(0, REPORT_DATA_BYTES, nonce, "nonce"),)
    else:
        parts = (Part(0, len(nonce), nonce, "nonce"), _zeros(len(nonce)))
    return _recipe(parts, _nonce(nonce))


def _redpill(nonce: bytes | None, inputs: BindingInputs, report_data: bytes | None) -> Recipe:
    fresh = _nonce(nonce)
    address = _bytes(inputs, "signing_address", *_ADDRESS_LENGTHS)
    parts = (
        _part(0, 32, "signing address, zero-padded", lambda a: a.ljust(32, b"\0"), address),
        _part(32, 64, "request nonce", lambda n: n, fresh),
    )
    return _recipe(parts, fresh, address)


def _near(nonce: bytes | None, inputs: BindingInputs, report_data: bytes | None) -> Recipe:
    fresh = _nonce(nonce)
    address = _bytes(inputs, "signing_address", *_ADDRESS_LENGTHS)
    fingerprint = _bytes(inputs, "tls_fingerprint", _DIGEST)
    meaning = "SHA-256 of signing address and TLS fingerprint"
    parts = (
        _part(0, 32, meaning, _joined_sha256, address, fingerprint),
        _part(32, 64, "request nonce", lambda n: n, fresh),
    )
    return _recipe(parts, fresh, address, fingerprint)


def _chutes(nonce: bytes | None, inputs: BindingInputs, report_data: bytes | None) -> Recipe:
    fresh, key = _nonce(nonce), _text(inputs, "e2e_public_key")
    certificate = _certificate(inputs)
    meaning = "SHA-256 of request nonce (hex text) and end-to-end key"
    bound = _part(0, 32, meaning, lambda n, k: sha256(n.hex().encode() + k).digest(), fresh, key)
    meaning = "SHA-256 of the TLS certificate's public key"
    return _recipe((bound, _part(32, 64, meaning, lambda d: d, certificate)), bound,
                   key, certificate)  # fmt: skip


def _certificate(inputs: BindingInputs) -> Input:
    name = "tls_certificate"
    if inputs.tls_certificate is None:
        reason = "the response has no TLS certificate"
        return Input(name, name, None, reason=reason, missing=True)
    digest = spki_sha256(inputs.tls_certificate)
    if digest is None:
        return Input(name, name, None, reason="the TLS certificate does not parse")
    return Input(name, name, digest, digest.hex())


def _tinfoil_v3(nonce: bytes | None, inputs: BindingInputs, report_data: bytes | None) -> Recipe:
    fresh = _nonce(nonce)
    tls = _bytes(inputs, "tls_fingerprint", _DIGEST)
    hpke = _bytes(inputs, "hpke_key", 32)
    hashes = tuple(
        _bytes(inputs, name, _DIGEST)
        for name in ("gpu_evidence_hash", "nvswitch_evidence_hash")
        if getattr(inputs, name) is not None
    )
    meaning = "SHA-256 of TLS fingerprint, HPKE key, nonce and hashes of device evidence"
    part = _part(0, 32, meaning, _joined_sha256, tls, hpke, fresh, *hashes)
    return _recipe((part, _zeros(32)), fresh, tls, hpke, *hashes)


def _ccverify(nonce: bytes | None, inputs: BindingInputs, report_data: bytes | None) -> Recipe:
    fresh = _nonce(nonce)
    key = _bytes(inputs, "session_key_thumbprint", _DIGEST)
    manifest = _bytes(inputs, "manifest_sha384", 48)

    def bound(*values: bytes) -> bytes:
        return sha512(b"ccverify/report-data/v1" + b"".join(values)).digest()

    def asked(*values: bytes) -> bytes:
        return _joined_sha256(b"ccverify/device-nonce/v1", *values)

    meaning = "SHA-512 of nonce, session key and manifest"
    parts = (_part(0, REPORT_DATA_BYTES, meaning, bound, fresh, key, manifest),)
    return _recipe(parts, _part(0, NONCE_BYTES, "device nonce", asked, fresh, key), key, manifest)


# --- Trustee ------------------------------------------------------------------------------------
# Guest: guest-components, kbs_protocol client, get_composite_evidence.  Verifier: Trustee,
# kbs/src/attestation: SHA-384 over RFC 8785 JSON for every TEE but IBM's Secure Execution.


def runtime_data(inputs: BindingInputs) -> tuple[str, str] | None:
    """Return nonce and ``tee-pubkey`` (compact JSON, members sorted); None if there is neither."""
    if inputs.runtime_data_json is None:
        return None
    try:
        value = parse_json(
            inputs.runtime_data_json.encode("utf-8"), what="runtime data", error=EvidenceError
        )
    except (EvidenceError, UnicodeEncodeError):
        return None
    nonce = value.get("nonce") if isinstance(value, dict) else None
    if not isinstance(nonce, str) or value.get("tee-pubkey") is None:
        return None
    return nonce, _canonical(value["tee-pubkey"])


def _canonical(value: object) -> str:
    """RFC 8785 for what these documents hold: no fractions, member names in plain ASCII."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _nonce_text(nonce: bytes, stated: str) -> bytes:
    """As the KBS writes a nonce: base64.  Others write hex, which is taken if it is stated so."""
    return (nonce.hex() if stated == nonce.hex() else b64encode(nonce).decode()).encode()


def _trustee(nonce: bytes | None, inputs: BindingInputs, report_data: bytes | None) -> Recipe:
    fresh = _nonce(nonce, None)
    stated = runtime_data(inputs)
    evidence = _additional_evidence(inputs)
    name, source = "tee_public_key", "runtime_data_json"
    if stated is None:
        absent = inputs.runtime_data_json is None
        what = "the response has no runtime data" if absent else "no nonce and key in runtime data"
        key, nonce_text = Input(name, source, None, reason=what, missing=absent), ""
    else:
        key, nonce_text = Input(name, source, stated[1].encode(), stated[1]), stated[0]

    def primary(n: bytes, k: bytes, e: bytes) -> bytes:
        text = b'{"additional-evidence":%b,"nonce":"%b","tee-pubkey":%b}'
        return sha384(text % (e, _nonce_text(n, nonce_text), k)).digest()

    def device(n: bytes, k: bytes) -> bytes:
        text = b'{"nonce":"%b","tee-pubkey":%b}' % (_nonce_text(n, nonce_text), k)
        return sha384(text).digest()[:NONCE_BYTES]

    meaning = "SHA-384 of nonce, key and additional evidence"
    parts = (_part(0, 48, meaning, primary, fresh, key, evidence), _zeros(48))
    return _recipe(parts, _part(0, 32, "device nonce", device, fresh, key), key, evidence)


def _additional_evidence(inputs: BindingInputs) -> Input:
    name = "additional_evidence_json"
    if inputs.additional_evidence_json is None:  # the guest hashes an empty string then
        return Input("", name, b'""')
    found = _text(inputs, name)
    if found.value is None:
        return found
    digest = sha256(found.value).hexdigest()
    return Input(name, name, _canonical(inputs.additional_evidence_json).encode(), digest)


RECIPES: Final[
    Mapping[BindingProfile, Callable[[bytes | None, BindingInputs, bytes | None], Recipe]]
] = {
    BindingProfile.CCVERIFY: _ccverify,
    BindingProfile.RAW_NONCE: _callers_choice,
    BindingProfile.DSTACK: _callers_choice,
    BindingProfile.REDPILL: _redpill,
    BindingProfile.NEAR: _near,
    BindingProfile.CHUTES: _chutes,
    BindingProfile.TINFOIL_V3: _tinfoil_v3,
    BindingProfile.TRUSTEE: _trustee,
}
"""What takes nonce, inputs and the report data that the relying party expects."""
