"""Certificate chains, revocation lists and OCSP responses → `Inspection`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509

from ccverify.clock_text import utc_text
from ccverify.errors import CcverifyError, EvidenceError
from ccverify.nvidia.identity import (
    COMPOSITE_DEVICE_ID_OID,
    DICE_TCB_INFO_OID,
    DeviceType,
    parse_certified_fwid,
    parse_device_id,
    parse_device_info,
)
from ccverify.nvidia.ocsp import OcspResponse, OcspSingle
from ccverify.results.render.inspection import Inspection, Item, Listing, Section
from ccverify.tdx.pck import SGX_EXTENSION_OID, PckPlatform, parse_pck_platform
from ccverify.trust.names import name_text
from ccverify.trust.x509 import Certificate, Crl

__all__ = [
    "certificate_listing",
    "certificate_record",
    "chip_of",
    "common_name",
    "describe_chain",
    "describe_crl",
    "describe_ocsp",
    "device_claims",
    "is_device_chain",
    "platform_section",
    "time_text",
    "unreadable",
]

_SHOWN_ENTRIES = 64
"""Entries of a revocation list on a page; JSON has all."""
_FWID_FORMS = {
    COMPOSITE_DEVICE_ID_OID: "CompositeDeviceID, as on Hopper and LS10",
    DICE_TCB_INFO_OID: "DiceTcbInfo, as on Blackwell",
}
_LEAF_MARK, _DEVICE_MARK = " FMC LF", " BROM"
_SWITCH_TYPE = 0x50  # first byte of certificate [1]'s serial number, see `parse_device_id`


def time_text(value: datetime | None) -> str | None:
    """Return a point in time as text, None as None."""
    return utc_text(value) if value else None


def unreadable(problem: CcverifyError, name: str = "error") -> Item:
    """Return what stands in the place of something that could not be read."""
    return Item(name, problem.message, problem.found or "")


def common_name(name: str) -> str:
    """Return the common name in a name in RFC 4514 form, or the whole name."""
    return name.rpartition("CN=")[2]


# --- certificates --------------------------------------------------------------------------------


def describe_chain(chain: Sequence[Certificate]) -> Inspection:
    """Show a certificate chain, and what it says of the device or platform it is of."""
    title, parts = "Certificate chain", []
    if is_device_chain(chain):
        title = "Certificate chain of an NVIDIA device"
        parts.append(Section("device", "Device named by the chain", _device_items(chain)))
    elif chain and SGX_EXTENSION_OID in chain[0].private_extensions:
        title = "PCK certificate chain"
        parts.append(platform_section(chain[0]))
    title += f", {len(chain)} certificate{'' if len(chain) == 1 else 's'}"
    return Inspection(
        "certificate-chain",
        title,
        (*parts, certificate_listing("certificates", "Certificates, in the order given", chain)),
    )


def certificate_listing(key: str, title: str, chain: Iterable[Certificate]) -> Listing:
    """Return the certificates of a chain with their names and validity."""
    columns = ("not_before", "not_after", "name")
    return Listing(key, title, columns, tuple(map(certificate_record, chain)))


def certificate_record(certificate: Certificate) -> dict[str, Any]:
    """Return one certificate as JSON has it."""
    subject = certificate.subject_text
    return {
        "name": certificate.common_name or common_name(subject),
        "subject": subject,
        "issuer": name_text(certificate.issuer),
        "serial": f"{certificate.serial:x}",
        "not_before": time_text(certificate.not_before),
        "not_after": time_text(certificate.not_after),
        "is_ca": certificate.is_ca,
        "curve": certificate.public_key.curve,
        "sha256": certificate.sha256.hex(),
    }


def is_device_chain(chain: Sequence[Certificate]) -> bool:
    """Whether the common names are those of an NVIDIA device's first two certificates."""
    names = [certificate.common_name or "" for certificate in chain[:2]]
    return any(name.endswith((_LEAF_MARK, _DEVICE_MARK)) for name in names)


def chip_of(chain: Sequence[Certificate]) -> str | None:
    """Return the chip that certificate [1] names, such as ``GH100``."""
    name = chain[1].common_name if len(chain) > 1 else None
    return name.partition(" ")[0] if name and name.endswith(_DEVICE_MARK) else None


def device_claims(chain: Sequence[Certificate]) -> dict[str, str | None]:
    """Return what a device chain says, unverified; what cannot be read is in ``…_problem``."""
    claims: dict[str, str | None] = {"chip": chip_of(chain)}
    if len(chain) < 2:
        claims["device_id_problem"] = "there is no certificate [1]"
        return claims
    leaf, identity = chain[:2]
    kind = DeviceType.NVSWITCH if identity.serial >> 64 == _SWITCH_TYPE else DeviceType.GPU
    try:
        claims["device_id"] = parse_device_id(identity, kind).hex().upper()
        claims["type"] = kind.value
    except EvidenceError as problem:
        claims["device_id_problem"] = problem.message
    form = next((oid for oid in _FWID_FORMS if oid in leaf.private_extensions), None)
    if form is None:
        claims["fwid_problem"] = "certificate [0] has no FWID"
    else:
        try:
            claims["fwid"] = parse_certified_fwid(leaf, form, identity.public_key).hex()
            claims["fwid_form"] = _FWID_FORMS[form]
        except EvidenceError as problem:
            claims["fwid_problem"] = problem.message
    try:
        claims["device_info"] = parse_device_info(leaf, claims["chip"] or "")
    except EvidenceError as problem:
        claims["device_info_problem"] = problem.message
    return claims


_DEVICE_MEANINGS = {
    "chip": "first word of certificate [1]'s name",
    "device_id": "PDI: serial number of certificate [1] without its type byte",
    "type": "by the type byte",
    "fwid": "SHA-384 of the firmware that holds the attestation key, by certificate [0]",
    "device_info": "DMTF device info in certificate [0]; its serial is not the PDI",
}


def _device_items(chain: Sequence[Certificate]) -> tuple[Item, ...]:
    return tuple(
        Item(name, value, _DEVICE_MEANINGS.get(name, ""))
        for name, value in device_claims(chain).items()
    )


def platform_section(leaf: Certificate) -> Section:
    """Return what a PCK certificate says of its platform."""
    try:
        items = _platform(parse_pck_platform(leaf))
    except EvidenceError as problem:
        items = (unreadable(problem),)
    return Section("platform", "Platform named by the PCK certificate", items)


def _platform(platform: PckPlatform) -> tuple[Item, ...]:
    instance = platform.platform_instance_id
    return (
        Item("fmspc", platform.fmspc.hex().upper(), "family, model, stepping, platform, SKU"),
        Item("pceid", platform.pceid.hex().upper(), "provisioning certification enclave"),
        Item("ppid", platform.ppid.hex(), "stable name of the machine"),
        Item("platform_instance_id", instance.hex() if instance else None),
        Item("component_svns", list(platform.component_svns), "16 TCB component SVNs"),
        Item("pcesvn", platform.pcesvn),
        Item("cpusvn", platform.cpusvn.hex()),
        Item("sgx_type", platform.sgx_type.name, "memory protection"),
        Item("dynamic_platform", platform.dynamic_platform, "packages can be added later"),
        Item("cached_keys", platform.cached_keys, "Intel holds the platform keys"),
        Item("smt_enabled", platform.smt_enabled, "hyper-threading is on"),
    )


# --- revocation ----------------------------------------------------------------------------------


def describe_crl(crl: Crl) -> Inspection:
    """Show a certificate revocation list and the serial numbers on it."""
    summary = (
        Item("issuer", crl.issuer_text),
        Item("number", crl.number, "a later list has a larger one"),
        Item("this_update", time_text(crl.this_update)),
        Item("next_update", time_text(crl.next_update)),
        Item("revoked_certificates", crl.entries),
        Item("unknown_critical_extensions", list(crl.unknown_critical)),
        Item("sha384", hashlib.sha384(crl.der).hexdigest()),
    )
    try:
        # Only membership is ever asked of a list, so `Crl` keeps no entries; read them here.
        revoked = tuple(map(_entry, x509.load_der_x509_crl(crl.der)))
        listing: Section | Listing = Listing(
            "revoked",
            "Revoked",
            ("revoked_at", "reason", "serial"),
            revoked,
            limit=_SHOWN_ENTRIES,
        )
    except Exception as problem:  # `cryptography` raises several unrelated types here
        listing = Section("revoked", "Revoked", (Item("error", str(problem)),))
    parts = (Section("summary", "Revocation list", summary), listing)
    return Inspection("crl", "Certificate revocation list", parts if crl.entries else parts[:1])


def _entry(entry: x509.RevokedCertificate) -> dict[str, Any]:
    reasons = [e.value.reason.value for e in entry.extensions if _states_reason(e.value)]
    return {
        "serial": f"{entry.serial_number:x}",
        "revoked_at": time_text(entry.revocation_date_utc),
        "reason": reasons[0] if reasons else None,
    }


def _states_reason(value: x509.ExtensionType) -> bool:
    return isinstance(value, x509.CRLReason)


def describe_ocsp(response: OcspResponse) -> Inspection:
    """Show an OCSP response: who answers, when, and what it says of each certificate."""
    key_hash, nonce = response.responder_key_hash, response.nonce
    name = response.responder_name
    items = (
        Item("responder_name", name_text(name) if name else None, "who signed, by name"),
        Item("responder_key_hash", key_hash.hex() if key_hash else None, "or by SHA-1 of the key"),
        Item("produced_at", time_text(response.produced_at)),
        Item("nonce", nonce.hex() if nonce else None, "repeated from the request"),
        Item("unknown_critical_extensions", list(response.unknown_critical)),
        Item("sha384", hashlib.sha384(response.der).hexdigest()),
    )
    count = len(response.responses)
    return Inspection(
        "ocsp-response",
        f"OCSP response about {count} certificate{'' if count == 1 else 's'}",
        (
            Section("summary", "OCSP response", items),
            Listing(
                "responses",
                "Certificates",
                ("status", "reason", "this_update", "next_update", "serial"),
                tuple(map(_single, response.responses)),
            ),
            certificate_listing("certificates", "Certificates sent along", response.certificates),
        ),
    )


def _single(single: OcspSingle) -> dict[str, Any]:
    cert_id = single.cert_id
    return {
        "serial": f"{cert_id.serial:x}",
        "status": single.status.value,
        "revoked_at": time_text(single.revoked_at),
        "reason": single.reason,
        "this_update": time_text(single.this_update),
        "next_update": time_text(single.next_update),
        "hash": cert_id.hash_name,
        "issuer_name_hash": cert_id.issuer_name_hash.hex(),
        "issuer_key_hash": cert_id.issuer_key_hash.hex(),
    }
