"""The model every foreign format is read into.

Three kinds of content are kept apart.  *Evidence* is what hardware signed: quotes, device
reports, their chains, and the event log a quote covers.  *Binding inputs* are what has to be
hashed or compared to tie that evidence to a request and a key; they prove nothing until a
binding recipe has been recomputed from them.  *Assertions* are what a service merely says
(architecture names, verdicts, result codes); no check may pass because of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = [
    "Assertion",
    "BindingInputs",
    "BindingProfile",
    "DetachedEat",
    "DeviceEvidence",
    "EventLogFormat",
    "ForeignEvidence",
    "Jwt",
    "JwtTimes",
    "NodeEvidence",
    "NodeRole",
    "OtherCpuEvidence",
    "Submodule",
]


class BindingProfile(str, Enum):
    """How evidence of this shape is tied to a request and a key.

    The shape of the response suggests it, and the sender chose the shape: a policy that needs
    a particular profile must ask for it by name.  ``RD`` is the 64-byte REPORTDATA, ``GN`` the
    32-byte nonce in every device report (bytes 4 to 36), ``‖`` concatenation.
    """

    DEVICE_NONCE = "device-nonce"
    """No CPU evidence: GN = the request nonce."""
    CALLER_CHOSEN = "caller-chosen"
    """RD is whatever the caller of dstack's get_quote passed in (`report_data`)."""
    ADDRESS_NONCE = "address-nonce"
    """RD = signing address, zero-padded at the end to 32 ‖ request nonce; GN = request nonce."""
    ADDRESS_TLS_NONCE = "address-tls-nonce"
    """RD = SHA-256(signing address ‖ TLS fingerprint) ‖ request nonce; GN = request nonce."""
    CHUTES = "chutes"
    """RD[0:32] = GN = SHA-256(request nonce as lower-case hex text ‖ end-to-end key text).
    RD[32:64] = SHA-256(DER SubjectPublicKeyInfo of the instance's TLS certificate), where the
    response carries that certificate."""
    TINFOIL_V3 = "tinfoil-v3"
    """RD = SHA-256(TLS key fingerprint ‖ HPKE key ‖ nonce ‖ GPU evidence hash ‖ NVSwitch
    evidence hash, those present) ‖ 32 zero bytes; GPU evidence hash = SHA-256 of the JSON text
    of the member ``gpu`` exactly as sent.  The member ``nvswitch`` is re-encoded on its way,
    after it was hashed, so its text as sent does not reproduce its hash."""
    TRUSTEE = "trustee"
    """RD = hash of the runtime data (nonce, key, additional evidence), zero-padded; GN = the
    first 32 bytes of a hash of the runtime data without the additional evidence."""


class NodeRole(str, Enum):
    """What a node does in the service that answered."""

    WORKLOAD = "workload"
    """Runs the workload itself, so it has the accelerators."""
    GATEWAY = "gateway"
    """Stands in front of the workload nodes and sees their traffic; has no accelerators."""


class EventLogFormat(str, Enum):
    """What the bytes of an event log are."""

    DSTACK_JSON = "dstack-json"
    """UTF-8 JSON list of dstack events."""
    CCEL = "ccel"
    """TCG event log, as in the ACPI table CCEL."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """Something a service says and nothing proves.

    Attributes:
        name: the member's name in the source.
        value: a JSON scalar.
        source: path of the value in the source.
    """

    name: str
    value: str | int | float | bool
    source: str


@dataclass(frozen=True, slots=True)
class DeviceEvidence:
    """One NVIDIA device: its signed SPDM report and its certificates.

    Attributes:
        report: SPDM GET_MEASUREMENTS request and response, as the driver returns them.
        certificate_chain: PEM text, in the order sent.
        claimed_architecture: the sender's name, upper case (``HOPPER``); decides only whether
            the device is listed under GPUs or switches.  What it is, its chain says.
        claimed_nonce: the nonce the sender says it used, 32 bytes; the report has its own.
        source: path of the item in the source.
        asserted: driver version and the like.
    """

    report: bytes
    certificate_chain: bytes
    claimed_architecture: str | None
    claimed_nonce: bytes | None
    source: str
    asserted: tuple[Assertion, ...] = ()


@dataclass(frozen=True, slots=True)
class OtherCpuEvidence:
    """CPU evidence of a technology other than TDX, kept so that it is not taken for absent.

    Attributes:
        technology: the sender's name (``sev-snp``).
        report: the raw report.
        source: path in the source.
    """

    technology: str
    report: bytes
    source: str


@dataclass(frozen=True, slots=True)
class BindingInputs:
    """What a binding recipe may need, as sent; every value is unproven.

    Attributes:
        profile: the recipe this shape of response suggests.
        request_nonce: the nonce the response repeats, 32 bytes.  Freshness needs the
            verifier's own copy, never this one.
        request_nonce_text: the same exactly as sent, where a recipe hashes the text.
        signing_address: address or key that signs answers: 20 bytes (Ethereum) or 32 (Ed25519).
        signing_algorithm: ``ecdsa`` or ``ed25519``.
        signing_public_key: the key behind the address.
        tls_fingerprint: SHA-256 of the TLS public key (32 bytes).
        tls_certificate: the server's certificate as sent: DER (Chutes) or PEM (Tinfoil).
        e2e_public_key: text of the end-to-end encryption key, exactly as sent.
        hpke_key: HPKE public key, 32 bytes.
        report_data: REPORTDATA as the response states it; the quote has the real one.
        report_data_json: source text of the structured report data.
        gpu_evidence_hash: stated SHA-256 over `gpu_evidence_json`.
        gpu_evidence_json: source text of the GPU evidence, byte for byte.
        nvswitch_evidence_hash: stated SHA-256 over the NVSwitch evidence.
        nvswitch_evidence_json: source text of the NVSwitch evidence, byte for byte.
        app_compose: dstack's application manifest; SHA-256 of it is the compose hash.
        vm_config: dstack's description of the virtual machine, JSON text.
        runtime_data_json: Trustee's runtime data (nonce, key), compact JSON with sorted keys.
        additional_evidence_json: Trustee's additional evidence, the string as sent.
    """

    profile: BindingProfile
    request_nonce: bytes | None = None
    request_nonce_text: str | None = None
    signing_address: bytes | None = None
    signing_algorithm: str | None = None
    signing_public_key: bytes | None = None
    tls_fingerprint: bytes | None = None
    tls_certificate: bytes | None = None
    e2e_public_key: str | None = None
    hpke_key: bytes | None = None
    report_data: bytes | None = None
    report_data_json: bytes | None = None
    gpu_evidence_hash: bytes | None = None
    gpu_evidence_json: bytes | None = None
    nvswitch_evidence_hash: bytes | None = None
    nvswitch_evidence_json: bytes | None = None
    app_compose: str | None = None
    vm_config: str | None = None
    runtime_data_json: str | None = None
    additional_evidence_json: str | None = None


@dataclass(frozen=True, slots=True)
class NodeEvidence:
    """One machine's evidence.

    Attributes:
        label: unique within the response; the service's instance id, or the path.
        tdx_quote: raw quote; None where there is none.
        event_log: bytes of the log, in `event_log_format`.
        gpus: devices listed as GPUs, in the order sent.
        switches: devices listed as NVSwitches, in the order sent.
        binding: inputs of the binding recipe.
        source: path of the node in the source; empty for the whole document.
        role: workload or gateway.
        event_log_format: None exactly where `event_log` is None.
        other_cpu: CPU evidence that is not TDX.
        asserted: what the service says about this node.
    """

    label: str
    tdx_quote: bytes | None
    event_log: bytes | None
    gpus: tuple[DeviceEvidence, ...]
    switches: tuple[DeviceEvidence, ...]
    binding: BindingInputs
    source: str = ""
    role: NodeRole = NodeRole.WORKLOAD
    event_log_format: EventLogFormat | None = None
    other_cpu: OtherCpuEvidence | None = None
    asserted: tuple[Assertion, ...] = ()


@dataclass(frozen=True, slots=True)
class JwtTimes:
    """Time claims, seconds since 1970; None where absent.  Nothing here compares them."""

    issued_at: int | None
    not_before: int | None
    expires: int | None


@dataclass(frozen=True, slots=True)
class Jwt:
    """One JSON Web Token, taken apart and not verified.

    Attributes:
        text: the token as sent.
        algorithm: header ``alg``: ``ES384``, ``HS256`` or ``none``.
        key_id: header ``kid``.
        claims: the claims set.
        times: its time claims.
        issuer: claim ``iss``.
        nonce: claim ``eat_nonce``, 32 bytes; None where absent or not 64 hex digits.
        signing_input: the octets a signature covers (RFC 7515 section 2).
        signature: 96 octets for ES384, 32 for HS256, none for ``none``.
    """

    text: str
    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]
    times: JwtTimes
    issuer: str | None
    nonce: bytes | None
    signing_input: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Submodule:
    """One device's token in a detached EAT, and the digest that should hold it in place.

    Attributes:
        name: ``GPU-0``, ``SWITCH-0`` ...
        token: None where only the digest is there.
        stated_digest: the digest in the overall token; None where it has none.
        computed_digest: SHA-256 of the token's text.
        problem: why token and overall token do not belong together; None if they do.
    """

    name: str
    token: Jwt | None
    stated_digest: bytes | None
    computed_digest: bytes | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class DetachedEat:
    """A verifier's result about devices: an overall token and one token for each device.

    Attributes:
        overall: the token that lists the digests of the others.
        submodules: by name, every name that is in either place.
        source: path in the source.
        nested: further EATs in place of a device's token (NVIDIA's Python SDK wraps once).
    """

    overall: Jwt
    submodules: tuple[Submodule, ...]
    source: str
    nested: tuple[DetachedEat, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignEvidence:
    """Everything read out of one foreign document.

    Attributes:
        format: name of the format, as in `ccverify.interop.detect.KNOWN_FORMATS`.
        nodes: every machine; empty where the document holds results only.
        results: verdicts of other verifiers, which are not evidence.
        asserted: what the service says about the whole.
        not_read: paths of evidence this version leaves aside.
    """

    format: str
    nodes: tuple[NodeEvidence, ...]
    results: tuple[DetachedEat, ...] = ()
    asserted: tuple[Assertion, ...] = ()
    not_read: tuple[str, ...] = ()
