"""NVIDIA evidence and collateral made here, under keys that anyone can derive.

One Hopper GPU, one Blackwell GPU and one LS10 switch, the reference manifest of a driver, a VBIOS
and a switch, OCSP responses and CRLs: everything that the targets of `fuzz.nvidia` edit.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from ccverify.sim import CertificateSpec, SimKey, der
from ccverify.sim.certs import (
    CrlSpec,
    Extension,
    Name,
    basic_constraints,
    crl_number,
    key_usage,
    subject_key_id,
)
from ccverify.trust.anchors import TrustAnchor

__all__ = [
    "AT",
    "COMPOSITE_OID",
    "DICE_OID",
    "Device",
    "composite_device_id",
    "crl",
    "device_root",
    "devices",
    "ocsp",
    "opaque_data",
    "pem",
    "report",
    "rim",
    "rim_chain",
    "rim_root",
    "sign_xml",
    "tcb_info",
    "wrap_ocsp",
]

AT = datetime(2026, 6, 15, 12, tzinfo=UTC)
_DAY = timedelta(days=1)
_START, _END = datetime(2022, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC)
_SHA384_OID = "2.16.840.1.101.3.4.2.2"
_ECDSA_SHA384_OID = "1.2.840.10045.4.3.3"
COMPOSITE_OID, DICE_OID = "2.23.133.5.4.1", "2.23.133.5.4.1.1"
_FWID = bytes(range(1, 49))
_CA = (basic_constraints(True), key_usage("key_cert_sign", "crl_sign"))


def _key(label: str) -> SimKey:
    return SimKey(f"fuzz-{label}", curve="P-384")


def _name(common_name: str, *more: tuple[str, str]) -> Name:
    return Name((*more, ("O", "Simulation"), ("CN", common_name)))


def _spec(name: Name, label: str, serial: int, *extensions: Extension) -> CertificateSpec:
    key = _key(label)
    return CertificateSpec(
        subject=name,
        issuer=name,
        key=key,
        signer=key,
        serial=serial,
        not_before=_START,
        not_after=_END,
        extensions=(*extensions, subject_key_id(key)),
    )


def _issued(*specs: CertificateSpec) -> tuple[CertificateSpec, ...]:
    """End entity first: each is issued by the next."""
    issued = [specs[-1]]
    for spec in reversed(specs[:-1]):
        issued.insert(0, spec.signed_by(issued[0]))
    return tuple(issued)


# --- device chains -------------------------------------------------------------------------------


def _fwid(digest: bytes = _FWID) -> bytes:
    return der.sequence(der.object_identifier(_SHA384_OID), der.octet_string(digest))


def composite_device_id(label: str) -> bytes:
    """The older form of a certified FWID (Hopper, LS10)."""
    return der.sequence(der.integer(1), _key(label).spki, _fwid())


def tcb_info() -> bytes:
    """The newer form (Blackwell): DiceTcbInfo with two firmware ids."""

    def field(number: int, value: bytes) -> bytes:
        return der.context(number, value, constructed=False)

    return der.sequence(
        field(0, b"NVIDIA"), field(1, b"GB100 A01 GSP"), field(2, b"01"), field(3, b"\1"),
        field(4, b"\0"), field(5, b"\0"), der.context(6, _fwid() + _fwid(bytes(48))),
        field(7, bytes.fromhex("0080000001")), field(8, b"\xc0"), field(9, b"\0"),
    )  # fmt: skip


def _device_info(chip: str) -> Extension:
    text = der.context(0, der.tlv(0x0C, f"NVIDIA:{chip}:48B02D01".encode()))
    name = der.context(0, der.object_identifier("1.3.6.1.4.1.412.274.1") + text)
    return Extension("2.5.29.17", False, der.sequence(name))


@cache
def _device_ca() -> tuple[CertificateSpec, CertificateSpec, CertificateSpec]:
    """Provisioner, identity CA and root of the Hopper chips."""
    return (
        _spec(_name("NVIDIA GH100 Provisioner ICA 1"), "provisioner", 3, *_CA),
        _spec(_name("NVIDIA GH100 Identity"), "identity", 2, *_CA),
        _spec(_name("NVIDIA Device Identity CA"), "device-root", 1, *_CA),
    )


def _chain(chip: str, engine: str, serial: int) -> tuple[CertificateSpec, ...]:
    label = f"{chip}-device"
    fwid = Extension(COMPOSITE_OID, False, composite_device_id(label))
    _, identity, root = _device_ca()
    if chip == "GB100":
        fwid = Extension(DICE_OID, False, tcb_info())
        identity = _spec(_name("NVIDIA GB100 Identity"), "identity-gb", 4, *_CA)
    leaf = _spec(
        _name(f"{chip} A01 {engine} FMC LF"), f"{chip}-leaf", 5,
        key_usage("digital_signature"), _device_info(chip), fwid,
    )  # fmt: skip
    subject = _name(f"{chip} A01 {engine} BROM", ("serialNumber", f"{serial:018X}"))
    device = _spec(subject, label, serial, _CA[0], key_usage("key_cert_sign"))
    ica = _spec(_name(f"NVIDIA {chip} Provisioner ICA 1"), f"{chip}-ica", 3, *_CA)
    return _issued(leaf, device, ica, identity, root)


@dataclass(frozen=True)
class Device:
    """One device: its chain, root last, and an honest report."""

    chain: tuple[CertificateSpec, ...]
    report: bytes
    opaque: bytes
    is_switch: bool


@cache
def devices() -> tuple[Device, ...]:
    """Hopper, Blackwell, LS10."""
    made = []
    for chip, engine, serial, fields in (
        ("GH100", "GSP", 0x41_0102030405060708, _HOPPER),
        ("GB100", "GSP", 0x41_1112131415161718, _BLACKWELL),
        ("LS_10", "FSP", 0x50_2122232425262728, _SWITCH),
    ):
        chain, opaque = _chain(chip, engine, serial), opaque_data(fields)
        signed = report(range(1, 32 if chip == "LS_10" else 65), opaque)[:-96]
        whole = signed + chain[0].key.sign_raw(signed)
        made.append(Device(chain, whole, opaque, chip == "LS_10"))
    return tuple(made)


@cache
def device_root() -> TrustAnchor:
    """The root of every chain in `devices`."""
    return TrustAnchor.load(devices()[0].chain[-1].der())


def pem(chain: Sequence[CertificateSpec]) -> bytes:
    """Return a chain as PEM."""
    return "".join(spec.pem() for spec in chain).encode()


# --- reports -------------------------------------------------------------------------------------

_GPU: Mapping[int, bytes] = {
    3: b"590.12\0", 6: bytes.fromhex("00a5009601000000"), 11: b"\xaa",
    12: struct.pack("<64I", *range(64)), 13: bytes.fromhex("00c00100"),
    14: bytes.fromhex("37040000"), 15: b"885\0\0\0", 16: b"0\0", 17: b"G520\0", 18: b"0200\0",
    19: b"\0\0", 20: _FWID, 34: b"\1\0", 36: b"\2\0",
}  # fmt: skip
_HOPPER = {
    4: bytes.fromhex("8001000000000000"), **_GPU, 21: b"\xaa",
    22: b"".join(struct.pack("<Q", at) for at in range(18)),
}  # fmt: skip
_BLACKWELL = {
    4: bytes.fromhex("a001000000000000"), **_GPU, 33: b"\7\7", 35: b"GB100\0", 36: b"\1\0",
}  # fmt: skip
_SWITCH = {
    6: b"96.10.55.00.01", 12: struct.pack("<27I", *range(27)), 22: bytes(range(1, 9)),
    23: b"\xec\0", 24: b"\2\0", 25: b"\1\0", 26: bytes(range(64)) + bytes(8) + b"\xff" * 56,
    300: b"unknown",
}  # fmt: skip


def opaque_data(fields: Mapping[int, bytes] | Sequence[tuple[int, bytes]]) -> bytes:
    """Encode fields as ``type ‖ size ‖ data``."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    return b"".join(struct.pack("<HH", kind, len(data)) + data for kind, data in pairs)


def report(indices: Sequence[int], opaque: bytes, signature: bytes = bytes(96)) -> bytes:
    """Return a report with these measurement blocks; its signature is as given."""
    blocks = b"".join(
        struct.pack("<BBHBH", index, 1, 51, 1, 48) + hashlib.sha384(bytes((index,))).digest()
        for index in indices
    )
    return b"".join(
        (
            b"\x11\xe0\x01\xff" + bytes(range(32)) + b"\0",
            b"\x11\x60\0\0" + bytes((len(indices),)) + len(blocks).to_bytes(3, "little"),
            blocks + b"\xa5" * 32 + struct.pack("<H", len(opaque)) + opaque,
            signature,
        )
    )


# --- reference manifests -------------------------------------------------------------------------

_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
_TCG = (
    "https://trustedcomputinggroup.org/resource/"
    "tcg-reference-integrity-manifest-rim-information-model/"
)
_DS = "http://www.w3.org/2000/09/xmldsig#"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"


@cache
def rim_chain() -> tuple[CertificateSpec, ...]:
    """Signer first, root last."""
    return _issued(
        _spec(_name("HCC RIM L4 Signer"), "rim-signer", 11, key_usage("digital_signature")),
        _spec(_name("NVIDIA Reference Value L3 GH100 001"), "rim-l3", 12, *_CA),
        _spec(_name("NVIDIA Reference Value GH100 CA"), "rim-l2", 13, *_CA),
        _spec(_name("NVIDIA CoRIM signing Root CA"), "rim-root", 14, *_CA),
    )


@cache
def rim_root() -> TrustAnchor:
    """The root of `rim_chain`."""
    return TrustAnchor.load(rim_chain()[-1].der())


def _resource(index: int, *values: bytes, active: bool = True) -> str:
    hashes = " ".join(f'ns2:Hash{at}="{value.hex()}"' for at, value in enumerate(values))
    return (
        f'<Resource active="{active}" alternatives="{len(values)}" index="{index}" '
        f'name="Measurement_{index}" size="48" type="Measurement" {hashes}></Resource>'
    )


def rim(version: str, golden: Mapping[int, Sequence[bytes]], model: str = "GH100") -> bytes:
    """Return a signed manifest, in canonical form."""
    edition = "SWITCH" if model == "LS10" else "GPU"
    resources = "".join(_resource(index, *values) for index, values in golden.items())
    content = (
        f'<SoftwareIdentity xmlns="{_SWID}" xmlns:ns2="{_SHA384}" name="{model}" '
        f'tagId="{hashlib.sha384(version.encode()).hexdigest()}" version="1.0">\n'
        '<Entity name="NVIDIA Corporation" role="softwareCreator tagCreator"></Entity>\n'
        f'<Meta xmlns:ns1="{_TCG}" PayloadType="direct" colloquialVersion="{version}" '
        f'edition="{edition}" product="{model}" ns1:BindingSpec="RIMIM" '
        'ns1:FirmwareManufacturerId="5703" ns1:PlatformManufacturerId="5703" '
        f'ns1:PlatformModel="{model}"></Meta>\n'
        f"<Payload>{resources}{_resource(63, bytes(48), active=False)}</Payload>\n"
        "</SoftwareIdentity>"
    )
    in_scope = f'xmlns="{_SWID}" xmlns:ds="{_DS}" xmlns:ns2="{_SHA384}"'
    return sign_xml(content, "</SoftwareIdentity>", in_scope)


def sign_xml(content: str, end: str, in_scope: str, key: SimKey | None = None) -> bytes:
    """Sign a canonical document; the signature goes before its last `end`.

    Args:
        content: in canonical form: nothing here canonicalises.
        end: the end tag of the root.
        in_scope: declarations in scope of SignedInfo in canonical order, ``xmlns:ds`` among them.
        key: the signing key, that of `rim_chain` if not given.
    """
    digest = base64.b64encode(hashlib.sha384(content.encode()).digest()).decode()
    signed_info = (
        f"<ds:SignedInfo {in_scope}>"
        f'<ds:CanonicalizationMethod Algorithm="{_C14N}"></ds:CanonicalizationMethod>'
        f'<ds:SignatureMethod Algorithm="{_MORE}ecdsa-sha384"></ds:SignatureMethod>'
        '<ds:Reference URI=""><ds:Transforms>'
        f'<ds:Transform Algorithm="{_DS}enveloped-signature"></ds:Transform>'
        f'<ds:Transform Algorithm="{_C14N}"></ds:Transform></ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{_MORE}sha384"></ds:DigestMethod>'
        f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )
    signer = key or rim_chain()[0].key
    value = base64.b64encode(signer.sign_raw(signed_info.encode(), "sha384")).decode()
    certificates = "".join(
        f"<ds:X509Certificate>{base64.b64encode(spec.der()).decode()}</ds:X509Certificate>"
        for spec in rim_chain()
    )
    signature = (
        f'<ds:Signature xmlns:ds="{_DS}">{signed_info.replace(" " + in_scope, "")}'
        f"<ds:SignatureValue>{value}</ds:SignatureValue>"
        f"<ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )
    at = content.rindex(end)
    return (content[:at] + signature + content[at:]).encode()


# --- revocation ----------------------------------------------------------------------------------

_HASHES = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
}
_BASIC = "1.3.6.1.5.5.7.48.1.1"
_NONCE = "1.3.6.1.5.5.7.48.1.2"


def _time(moment: datetime) -> bytes:
    return der.tlv(0x18, f"{moment:%Y%m%d%H%M%S}Z".encode())


def _single(status: bytes, serial: int, hash_name: str, *more: bytes) -> bytes:
    issuer = devices()[0].chain[2]
    bits = b"\x04" + issuer.key.public_xy
    cert_id = der.sequence(
        der.sequence(der.object_identifier(_HASHES[hash_name]), b"\x05\x00"),
        der.octet_string(hashlib.new(hash_name, issuer.subject.der()).digest()),
        der.octet_string(hashlib.new(hash_name, bits).digest()),
        der.integer(serial),
    )
    return der.sequence(cert_id, status, _time(AT - _DAY), *more)


GOOD = der.context(0, b"", constructed=False)
UNKNOWN = der.context(2, b"", constructed=False)
REVOKED = der.context(1, _time(AT - _DAY) + der.context(0, der.enumerated(1)))
HOLD = der.context(1, _time(AT - _DAY) + der.context(0, der.enumerated(6)))


def ocsp(
    *statuses: bytes,
    hash_name: str = "sha256",
    nonce: bytes | None = None,
    delegated: bool = False,
    by_key: bool = False,
    first_serial: int | None = None,
) -> bytes:
    """An OCSP response of the Hopper provisioner: one status a certificate, [1] first."""
    chain = devices()[0].chain
    signer, serial = chain[2], chain[1].serial if first_serial is None else first_serial
    if delegated:
        purposes = der.sequence(der.object_identifier("1.3.6.1.5.5.7.3.9"))
        signer = _spec(
            _name("Responder"), "responder", 77, basic_constraints(False),
            key_usage("digital_signature"), Extension("2.5.29.37", False, purposes),
            Extension("1.3.6.1.5.5.7.48.1.5", False, b"\x05\x00"),
        ).signed_by(chain[2])  # fmt: skip
    until = der.context(0, _time(AT + _DAY))
    who = der.context(1, signer.subject.der())
    if by_key:
        who = der.context(2, der.octet_string(signer.key.key_id))
    items = [who, _time(AT - _DAY)]
    singles = (_single(own, serial + n, hash_name, until) for n, own in enumerate(statuses))
    items.append(der.sequence(*singles))
    if nonce is not None:
        extension = Extension(_NONCE, False, der.octet_string(nonce)).der()
        items.append(der.context(1, der.sequence(extension)))
    certificates = der.context(0, der.sequence(signer.der())) if delegated else b""
    return wrap_ocsp(der.sequence(*items), signer.key, certificates)


def wrap_ocsp(tbs: bytes, key: SimKey, more: bytes = b"") -> bytes:
    """Sign a ResponseData and wrap it up as an OCSPResponse."""
    algorithm = der.sequence(der.object_identifier(_ECDSA_SHA384_OID))
    signature = der.bit_string(key.sign_der(tbs))
    basic = der.sequence(tbs, algorithm, signature, more)
    body = der.sequence(der.object_identifier(_BASIC), der.octet_string(basic))
    return der.sequence(der.enumerated(0), der.context(0, body))


def crl() -> CrlSpec:
    """An empty CRL of the Hopper provisioner."""
    issuer = devices()[0].chain[2]
    return CrlSpec(
        issuer=issuer.subject,
        signer=issuer.key,
        this_update=AT - _DAY,
        next_update=AT + _DAY,
        extensions=(crl_number(1),),
    )
