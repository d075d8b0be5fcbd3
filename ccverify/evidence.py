"""What an attester sends about one machine: the one model every format is read into.

Three kinds of content are kept apart.  *Evidence* is what hardware signed: quotes, device
reports, their chains, and the event log a quote covers.  *Binding inputs* are what has to be
hashed or compared to tie that evidence to a request and a key; they prove nothing until a
binding profile has been recomputed from them.  *Assertions* are what a service merely says
(architecture names, verdicts, result codes); no check may pass because of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "Assertion",
    "BindingInputs",
    "BindingProfile",
    "DeviceEvidence",
    "EventLogFormat",
    "Evidence",
    "NodeRole",
    "OtherCpuEvidence",
]


class BindingProfile(str, Enum):
    """How evidence of this shape is tied to a request and a key.

    The shape of the response suggests it, and the sender chose the shape: a policy that needs
    a particular profile must ask for it by name.  ``RD`` is the 64-byte REPORTDATA, ``GN`` the
    32-byte nonce in every device report (bytes 4 to 36), ``‖`` concatenation.
    """

    CCVERIFY = "ccverify"
    """RD = SHA-512("ccverify/report-data/v1" ‖ nonce ‖ T(K) ‖ SHA-384(manifest)); GN =
    SHA-256("ccverify/device-nonce/v1" ‖ nonce ‖ T(K)); T(K) is the session key's thumbprint."""
    RAW_NONCE = "raw-nonce"
    """RD = nonce, zero-padded at the end; GN = nonce."""
    DSTACK = "dstack"
    """RD is whatever the caller of dstack's get_quote passed in (`report_data`)."""
    REDPILL = "redpill"
    """RD = signing address, zero-padded at the end to 32 ‖ request nonce; GN = request nonce."""
    NEAR = "near"
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
        session_key_thumbprint: SHA-256 COSE key thumbprint (RFC 9679) of the session key.
        manifest_sha384: SHA-384 of the bundle's manifest.
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
    session_key_thumbprint: bytes | None = None
    manifest_sha384: bytes | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One machine's evidence.

    Attributes:
        quote: a TDX quote: raw, hex or base64; None or empty where there is none.
        event_log: the CCEL or dstack log of the same boot, if there is one.
        gpus: devices listed as GPUs, in the order sent.
        switches: devices listed as NVSwitches, in the order sent.
        binding: inputs of the binding profile; what a bare quote comes with is a raw nonce.
        label: unique within a response; the service's instance id, or the path.
        role: workload or gateway.
        other_cpu: CPU evidence that is not TDX.
        event_log_format: as the source states it; None where there is no log or no statement.
        source: path of the node in the source; empty for the whole document.
        asserted: what the service says about this node.
    """

    quote: bytes | None = None
    event_log: bytes | None = None
    gpus: tuple[DeviceEvidence, ...] = ()
    switches: tuple[DeviceEvidence, ...] = ()
    binding: BindingInputs = BindingInputs(BindingProfile.RAW_NONCE)
    label: str = ""
    role: NodeRole = NodeRole.WORKLOAD
    other_cpu: OtherCpuEvidence | None = None
    event_log_format: EventLogFormat | None = None
    source: str = ""
    asserted: tuple[Assertion, ...] = ()
