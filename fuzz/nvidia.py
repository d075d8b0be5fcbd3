"""One function per parser of NVIDIA evidence and collateral, as in `fuzz.parsers`."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from functools import cache

from cryptography import x509
from cryptography.x509 import ocsp as reference

from ccverify.errors import CollateralError, EvidenceError
from ccverify.nvidia.certs import (
    fwid_problem,
    parse_device_chain,
    validity_problems,
    verify_device_chain,
    verify_report_signature,
)
from ccverify.nvidia.identity import (
    DeviceType,
    parse_certified_fwid,
    parse_composite_device_id,
    parse_device_id,
    parse_device_info,
    parse_dice_fwids,
)
from ccverify.nvidia.measurements import compare_measurements
from ccverify.nvidia.ocsp import MAX_SINGLE_RESPONSES, OcspResponse
from ccverify.nvidia.opaque import (
    GpuOpaqueData,
    RawField,
    SwitchOpaqueData,
    gpu_field_name,
    parse_gpu_opaque_data,
    parse_switch_opaque_data,
    switch_field_name,
)
from ccverify.nvidia.revocation import (
    Outcome,
    RevocationSet,
    RevocationStatus,
    check_crl,
    check_ocsp,
    parse_ocsp_response,
)
from ccverify.nvidia.rim import RimKind, parse_rim, verify_rim
from ccverify.nvidia.rim_set import RimSet
from ccverify.nvidia.spdm import decode_report_text, parse_attestation_report
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import Certificate, parse_certificate, parse_crl
from ccverify.trust.xmldsig import (
    MAX_ELEMENTS,
    SignedXml,
    XmlElement,
    parse_signed_xml,
    read_content,
    verify_signed_xml,
)
from fuzz import device_seeds
from fuzz.devices import (
    AT,
    COMPOSITE_OID,
    DICE_OID,
    device_root,
    devices,
    rim_chain,
    rim_root,
    wrap_ocsp,
)
from fuzz.invariants import declared, holds, printable
from fuzz.mutate import sign_again

__all__ = [
    "device_chain",
    "device_extension",
    "gpu_opaque",
    "nvidia_crl",
    "ocsp_response",
    "rim",
    "signed_xml",
    "spdm_report",
    "switch_opaque",
]

_MEMORY = SignatureMemory()


# --- reports -------------------------------------------------------------------------------------


def spdm_report(data: bytes) -> bool:
    raw = declared(EvidenceError, lambda: decode_report_text(data))
    if raw is None:
        return False
    parsed = declared(EvidenceError, lambda: parse_attestation_report(raw))
    if parsed is None:
        return False
    blocks = b"".join(
        struct.pack("<BBHBH", one.index, 1, 51, 1, 48) + one.value for one in parsed.measurements
    )
    head = b"\x11\xe0\x01\xff" + parsed.nonce + b"\0\x11\x60\0\0"
    counts = bytes((len(parsed.measurements),)) + len(blocks).to_bytes(3, "little")
    tail = struct.pack("<H", len(parsed.opaque_data)) + parsed.opaque_data + parsed.signature
    again = head + counts + blocks + parsed.responder_nonce + tail
    holds(again == raw, "the parts do not make up the report")
    holds(parsed.signed_range + parsed.signature == raw, "more than the signature is unsigned")
    holds(len(parsed.signature) == 96, "the signature is not 96 bytes")
    holds(len({one.index for one in parsed.measurements}) == len(parsed.measurements), "twice")
    for text in (raw.hex().encode(), b"0x" + raw.hex().encode(), base64.b64encode(raw)):
        holds(decode_report_text(text) == raw, "hex or base64 decodes to something else")
    known = {device.report[:-96] for device in devices()}
    for device in devices():
        key = parse_certificate(device.chain[0].der()).public_key
        problem = verify_report_signature(parsed.signed_range, parsed.signature, key, _MEMORY)
        holds(problem or parsed.signed_range in known, "a changed report verifies")
    for parse in (parse_gpu_opaque_data, parse_switch_opaque_data):
        declared(EvidenceError, lambda parse=parse: parse(parsed.opaque_data))  # type: ignore[misc]
    return True


def gpu_opaque(data: bytes) -> bool:
    parsed = declared(EvidenceError, lambda: parse_gpu_opaque_data(data))
    if parsed is None:
        return False
    _opaque(parsed, data, gpu_field_name)
    reading = parsed.mode_reading
    holds(reading.problem is None or reading.mode is None, "a contradiction has a mode")
    printable(reading.basis + (reading.problem or ""))
    problem = fwid_problem(bytes(48), parsed.fwid)
    holds((problem is None) == (parsed.fwid == bytes(48)), "firmware ids compare wrongly")
    return True


def switch_opaque(data: bytes) -> bool:
    parsed = declared(EvidenceError, lambda: parse_switch_opaque_data(data))
    if parsed is None:
        return False
    _opaque(parsed, data, switch_field_name)
    holds(parsed.locked is None or parsed.locked == (parsed.lock_status == 1), "locked and not")
    return True


def _opaque(
    parsed: GpuOpaqueData | SwitchOpaqueData, data: bytes, name_of: Callable[[int], str]
) -> None:
    holds(_encoded(parsed.fields) == data, "the fields do not make up the data")
    holds(len({one.type for one in parsed.fields}) == len(parsed.fields), "a field came twice")
    holds(set(parsed.unknown) <= set(parsed.fields), "an unknown field is no field")
    for attribute in ("vbios_version", "driver_version", "project", "chip_info"):
        printable(getattr(parsed, attribute, None) or "")
    printable("".join(name_of(one.type) for one in parsed.fields))


def _encoded(fields: Iterable[RawField]) -> bytes:
    return b"".join(struct.pack("<HH", one.type, len(one.data)) + one.data for one in fields)


# --- chains --------------------------------------------------------------------------------------


def device_chain(data: bytes) -> bool:
    chain = declared(EvidenceError, lambda: parse_device_chain(data))
    if chain is None:
        return False
    checked = verify_device_chain(chain, device_root(), _MEMORY)
    for problem in (checked.problem, *validity_problems(checked, device_root(), AT)):
        (problem or "").encode("utf-8")
    identified = checked.device_id is not None
    holds(identified == (checked.identity_problem is None), "an id in spite of a problem")
    holds((checked.fwid is None) == (checked.firmware_problem is not None), "a FWID likewise")
    if checked.path_problem is None:
        own = tuple(one.tbs for one in checked.certificates)
        holds(own in _signed_chains(), "a chain that nobody issued is proven")
        holds(checked.chip, "a proven chain has no chip")
    else:
        said = (checked.chip, checked.device_id, checked.fwid, checked.leaf_key)
        holds(said == (None,) * 4, "an unproven chain makes claims")
    again = declared(EvidenceError, lambda: parse_device_chain(_pem(chain)))
    holds(again == chain, "a chain does not survive being written")
    return True


def _pem(chain: Iterable[Certificate]) -> bytes:
    blocks = (base64.b64encode(one.der).decode() for one in chain)
    mark = "-----{} CERTIFICATE-----\n"
    return "".join(
        mark.format("BEGIN") + text + "\n" + mark.format("END") for text in blocks
    ).encode()


@cache
def _signed_chains() -> frozenset[tuple[bytes, ...]]:
    return frozenset(tuple(spec.tbs() for spec in device.chain[:-1]) for device in devices())


def device_extension(data: bytes) -> bool:
    """The DER that only NVIDIA's chains carry, in certificates that are otherwise honest."""
    composite = declared(EvidenceError, lambda: parse_composite_device_id(data))
    if composite:
        holds(len(composite[0].point) == 96 and len(composite[1]) == 48, "sizes")
    fwids = declared(EvidenceError, lambda: parse_dice_fwids(data))
    holds(fwids is None or (fwids and {len(one) for one in fwids} == {48}), "a FWID of no size")
    leaf, device = (parse_certificate(spec.der()) for spec in devices()[0].chain[:2])
    for oid in (COMPOSITE_OID, DICE_OID):
        stub = replace(leaf, private_extensions={oid: data})
        found = declared(
            EvidenceError,
            lambda stub=stub, oid=oid: parse_certified_fwid(stub, oid, device.public_key),  # type: ignore[misc]
        )
        holds(found is None or any(found), "an all-zero FWID was accepted")
    named = replace(device, subject=data)
    device_id = declared(EvidenceError, lambda: parse_device_id(named, DeviceType.GPU))
    holds(device_id is None or device_id == device.serial.to_bytes(9, "big")[1:], "another id")
    info = declared(EvidenceError, lambda: parse_device_info(replace(leaf, tbs=data), "GH100"))
    printable(info or "")
    return any(value is not None for value in (composite, fwids, device_id, info))


# --- manifests -----------------------------------------------------------------------------------


def signed_xml(data: bytes) -> bool:
    signed = declared(CollateralError, lambda: parse_signed_xml(data, _namespaces()))
    if signed is None:
        return False
    holds(_count(read_content(signed.content)) <= MAX_ELEMENTS, "more elements than allowed")
    checked = verify_signed_xml(signed, _MEMORY)
    holds((checked.content is None) == (checked.problem is not None), "bad, and yet believed")
    if checked.content is not None:
        holds(checked.content == signed.content, "what was parsed is not what was digested")
        # Under a key of somebody else's, whoever sent it, any content may verify.
        ours = signed.certificates[0].public_key.point == rim_chain()[0].key.public_xy
        known = not ours or checked.content in _signed_contents()
        holds(known, "content that nobody signed verifies")
    return True


@cache
def _namespaces() -> frozenset[str]:
    from ccverify.nvidia import rim as module

    return frozenset({module.SWID, module.TCG_RIM, module.SHA384})


@cache
def _signed_contents() -> frozenset[bytes]:
    found: list[SignedXml] = [
        parse_signed_xml(seed, _namespaces()) for seed in device_seeds.rim_seeds()[:4]
    ]
    return frozenset(signed.content for signed in found)


def _count(element: XmlElement) -> int:
    return 1 + sum(_count(child) for child in element.children)


def rim(data: bytes) -> bool:
    parsed = declared(CollateralError, lambda: parse_rim(data))
    stored = RimSet.of([("a", data), ("NV_GPU_VBIOS_1010_0200_882_96009F0001", data)])
    holds(len(stored.unreadable) == 2 * (parsed is None), "a set reads otherwise")
    if parsed is None:
        return False
    printable(parsed.title)
    values = [one for each in parsed.measurements.values() for one in each.alternatives]
    holds({len(value) for value in values} <= {48}, "a golden value is not 48 bytes")
    holds(parsed.golden.keys() <= parsed.measurements.keys(), "an active one that is none")
    checked = verify_rim(parsed, rim_root(), _MEMORY, AT)
    if checked.rim is not None:
        holds(checked.rim == parsed, "the verified manifest says something else")
        holds(parsed.document.content in _signed_contents(), "a manifest that nobody signed")
    else:
        holds(checked.problem, "no manifest and no problem")
    runtime = {index + 1: min(values) for index, values in parsed.golden.items() if values}
    driver = parsed if parsed.kind is RimKind.DRIVER else None
    compared = compare_measurements(runtime, driver, parsed, nvdec0_disabled=False)
    holds(compared.matched <= compared.total <= 254, "more match than there are")
    holds(driver or not compared.mismatched, "a measurement does not match itself")
    return True


# --- revocation ----------------------------------------------------------------------------------


def ocsp_response(data: bytes) -> bool:
    parsed = declared(CollateralError, lambda: parse_ocsp_response(data))
    if parsed is None:
        return False
    holds(parsed.tbs in data, "the signed part is not a piece of the response")
    holds(1 <= len(parsed.responses) <= MAX_SINGLE_RESPONSES, "too many or none")
    named = parsed.responder_name is not None
    holds(named != (parsed.responder_key_hash is not None), "two responders or none")
    _as_reference(parsed)
    before = _ask(parsed)
    if before.statement is not None:
        holds(parsed.tbs in _signed_responses(), "a response that nobody signed is believed")
    # Signed again, so that what lies behind the signature is tried.
    resigned = wrap_ocsp(parsed.tbs, devices()[0].chain[2].key)
    again = parse_ocsp_response(resigned)
    holds(again.responses == parsed.responses, "the same signed bytes say something else")
    _consistent(_ask(again))
    _consistent(_look_up(RevocationSet.of([parsed, again])))
    return True


def _as_reference(parsed: OcspResponse) -> None:
    """Where another library reads the response too, it reads the same."""
    try:
        other = reference.load_der_ocsp_response(parsed.der)
        theirs = [
            (one.serial_number, one.certificate_status.name.lower(), one.this_update_utc)
            for one in other.responses
        ]
    except Exception:
        return  # it refuses other things than we do, with errors of any kind
    ours = [(one.cert_id.serial, one.status.value, one.this_update) for one in parsed.responses]
    holds(ours == theirs, "another library reads other responses")
    holds(other.tbs_response_bytes == parsed.tbs, "another library sees other signed bytes")


@cache
def _hopper() -> tuple[Certificate, ...]:
    return tuple(parse_certificate(spec.der()) for spec in devices()[0].chain)


def _ask(response: OcspResponse) -> RevocationStatus:
    return check_ocsp(
        response, certificate=_hopper()[1], issuer=_hopper()[2], now=AT, memory=_MEMORY,
        nonce=None, max_age=timedelta(days=30),
    )  # fmt: skip


def _look_up(collateral: RevocationSet) -> RevocationStatus:
    return collateral.status_of(_hopper(), device_root(), AT, first=1, memory=_MEMORY)[0]


def _consistent(status: RevocationStatus) -> None:
    (status.problem or "").encode("utf-8")
    good = status.outcome is Outcome.GOOD
    holds(not good or status.statement, "good, and nobody said so")
    holds(not good or status.statement.stated is Outcome.GOOD, "good of what is not")  # type: ignore[union-attr]


@cache
def _signed_responses() -> frozenset[bytes]:
    return frozenset(parse_ocsp_response(seed).tbs for seed in device_seeds.ocsp_seeds())


def nvidia_crl(data: bytes) -> bool:
    """Entries are read of genuine lists alone, so every list is signed by its issuer here."""
    own = sign_again(data, devices()[0].chain[2].key.sign_der)
    parsed = declared(CollateralError, lambda: parse_crl(own, CollateralError))
    if parsed is None:
        return False
    status = check_crl(
        parsed, certificate=_hopper()[1], issuer=_hopper()[2], now=AT, memory=_MEMORY,
        nonce=None, max_age=None,
    )  # fmt: skip
    _consistent(status)
    _consistent(_look_up(RevocationSet.of([parsed])))
    listed = _serials(own)
    if status.outcome is Outcome.GOOD:
        holds(listed is not None, "good by a list that cannot be read")
        holds(_hopper()[1].serial not in (listed or ()), "good, and listed")
    if status.statement and status.statement.stated is not Outcome.GOOD:
        holds(parsed.lists(_hopper()[1].serial), "revoked, and not listed")
    return status.statement is not None


def _serials(der: bytes) -> set[int] | None:
    try:
        return {entry.serial_number for entry in x509.load_der_x509_crl(der)}
    except Exception:
        return None  # an entry that cannot be read, with errors of several kinds
