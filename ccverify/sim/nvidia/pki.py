"""A simulated NVIDIA: device identity hierarchy, manifest signers, OCSP responders, CRLs.

Certificates copy the profile of genuine ones (names and their encoding order, key usage, kind
and order of extensions, validity), except that the organisation says what they are and every
URL ends in the reserved name ``.invalid``.  All keys are P-384, all signatures RFC 6979.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ccverify.errors import UsageError
from ccverify.sim import der
from ccverify.sim.certs import (
    CertificateSpec,
    CrlSpec,
    Extension,
    Name,
    authority_key_id,
    basic_constraints,
    crl_distribution_point,
    crl_number,
    key_usage,
    subject_key_id,
    to_pem,
)
from ccverify.sim.keys import DEFAULT_SEED, SimKey
from ccverify.sim.nvidia.chips import Chip

__all__ = [
    "DEVICE_ROOT_CN",
    "ORGANIZATION",
    "RIM_DEBUG_ROOT_CN",
    "RIM_ROOT_CN",
    "SimNvidiaIssuer",
    "certificate_der",
    "chain_pem",
    "composite_device_id",
    "dice_tcb_info",
    "dmtf_device_info",
]

ORGANIZATION = "ccverify simulation, not NVIDIA"
DEVICE_ROOT_CN = "NVIDIA Device Identity CA"
RIM_ROOT_CN = "NVIDIA CoRIM signing Root CA"
RIM_DEBUG_ROOT_CN = "NVIDIA CoRIM L1 Root CA Debug Only"

_CRL_URL = "http://crl.ccverify-sim.invalid/crl/{name}.crl"
_OCSP_URL = "http://ocsp.ccverify-sim.invalid"

_FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_DEVICE_ROOT_SINCE = datetime(2021, 11, 5, tzinfo=UTC)
_RIM_ROOT_WINDOW = (
    datetime(2023, 3, 16, 15, 37, 34, tzinfo=UTC),
    datetime(2053, 3, 8, 15, 37, 34, tzinfo=UTC),
)
_RIM_CA_WINDOW = (
    datetime(2023, 5, 11, tzinfo=UTC),
    datetime(2033, 5, 11, 23, 59, 59, tzinfo=UTC),
)
_RIM_L3_WINDOW = (
    datetime(2024, 5, 2, tzinfo=UTC),
    datetime(2030, 5, 2, 23, 59, 59, tzinfo=UTC),
)
# Two years, as NVIDIA certifies its signers for.
_RIM_SIGNER_WINDOW = (
    datetime(2025, 12, 1, 9, 30, 0, tzinfo=UTC),
    datetime(2027, 12, 1, 9, 30, 0, tzinfo=UTC),
)
_RESPONDER_WINDOW = (
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2028, 1, 1, tzinfo=UTC),
)

_SUBJECT_ALT_NAME = "2.5.29.17"
_EXTENDED_KEY_USAGE = "2.5.29.37"
_AUTHORITY_INFO_ACCESS = "1.3.6.1.5.5.7.1.1"
_OCSP = "1.3.6.1.5.5.7.48.1"
_OCSP_NO_CHECK = "1.3.6.1.5.5.7.48.1.5"
_OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
_DMTF_DEVICE_INFO = "1.3.6.1.4.1.412.274.1"
_COMPOSITE_DEVICE_ID = "2.23.133.5.4.1"
_DICE_TCB_INFO = "2.23.133.5.4.1.1"
_SHA384 = "2.16.840.1.101.3.4.2.2"

_CA_USAGE = key_usage("key_cert_sign", "crl_sign")


# --- extensions ----------------------------------------------------------------------------------


def _fwid(digest: bytes) -> bytes:
    return der.sequence(der.object_identifier(_SHA384), der.octet_string(digest))


def composite_device_id(identity: SimKey, fwid: bytes) -> Extension:
    """Return the FWID extension of Hopper and LS10, which binds it to the device's key."""
    value = der.sequence(der.integer(1), identity.spki, _fwid(fwid))
    return Extension(_COMPOSITE_DEVICE_ID, False, value)


def dice_tcb_info(
    fwid: bytes, *, model: str, version: str = "01", svn: int = 1, second_fwid: bytes = bytes(48)
) -> Extension:
    """Return tcg-dice-TcbInfo, the FWID extension of Blackwell, with a list of two FWIDs."""

    def primitive(number: int, content: bytes) -> bytes:
        return der.context(number, content, constructed=False)

    value = der.sequence(
        primitive(0, b"NVIDIA"),
        primitive(1, model.encode("ascii")),
        primitive(2, version.encode("ascii")),
        primitive(3, bytes((svn,))),
        primitive(4, b"\0"),
        primitive(5, b"\0"),
        der.context(6, _fwid(fwid) + _fwid(second_fwid)),
        primitive(7, bytes.fromhex("0080000001")),
        primitive(8, b"\xc0"),
        primitive(9, b"\0"),
    )
    return Extension(_DICE_TCB_INFO, False, value)


def dmtf_device_info(text: str) -> Extension:
    """Return a subjectAltName with DMTF's device info: ``manufacturer:product:serial``."""
    info = der.object_identifier(_DMTF_DEVICE_INFO) + der.context(0, der.string(text, "utf8"))
    return Extension(_SUBJECT_ALT_NAME, False, der.sequence(der.context(0, info)))


def _ocsp_url() -> Extension:
    uri = der.context(6, _OCSP_URL.encode("ascii"), constructed=False)
    access = der.sequence(der.object_identifier(_OCSP), uri)
    return Extension(_AUTHORITY_INFO_ACCESS, False, der.sequence(access))


def _serial(key: SimKey) -> int:
    """A positive serial number of 16 bytes that belongs to the key."""
    digest = hashlib.sha256(b"serial:" + key.spki).digest()
    return int.from_bytes(digest[:16], "big") >> 1


# --- certificates --------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def certificate_der(certificate: CertificateSpec) -> bytes:
    """Return the signed certificate; CAs are the same in every chain, so it is remembered."""
    return certificate.der()


def chain_pem(chain: tuple[CertificateSpec, ...]) -> str:
    """Return a chain as PEM, in the order given."""
    return "".join(to_pem(certificate_der(one), "CERTIFICATE") for one in chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimNvidiaIssuer:
    """The simulated NVIDIA: every certificate authority under one seed.

    Two issuers with different seeds have the same names and unrelated keys, which is what an
    attacker with a root of his own looks like.

    Attributes:
        seed: the world its keys are derived from.
        organization: the O of every name.
    """

    seed: bytes = DEFAULT_SEED
    organization: str = ORGANIZATION

    def key(self, label: str) -> SimKey:
        """Return this issuer's P-384 key of that label."""
        return SimKey(f"nvidia/{label}", self.seed, "P-384")

    def identifier(self, purpose: str, label: str, size: int) -> bytes:
        """Return `size` bytes that belong to the device of that label, such as its PDI."""
        text = f"ccverify/sim/nvidia/{purpose}/{label}".encode()
        return hashlib.shake_256(text + self.seed).digest(size)

    # Device identity, from the root down.

    def device_root(self) -> CertificateSpec:
        """Return the root of every device chain."""
        key = self.key(DEVICE_ROOT_CN)
        name = Name((("CN", DEVICE_ROOT_CN), ("O", self.organization)))
        return CertificateSpec(
            subject=name,
            issuer=name,
            key=key,
            signer=key,
            serial=_serial(key),
            not_before=_DEVICE_ROOT_SINCE,
            not_after=_FOREVER,
            extensions=(
                basic_constraints(True), _CA_USAGE, subject_key_id(key), authority_key_id(key),
            ),
        )  # fmt: skip

    def identity_ca(self, chip: Chip) -> CertificateSpec:
        """Return certificate [3], the identity CA; GH100 and LS10 share one."""
        name = Name((("CN", chip.identity_ca), ("O", self.organization)))
        since = (chip.ca_since, _FOREVER)
        return self._ca(name, self.device_root(), since, crl="l1-root")

    def provisioner(self, chip: Chip) -> CertificateSpec:
        """Return certificate [2], the provisioner."""
        name = Name((("CN", chip.provisioner), ("O", self.organization), ("C", "US")))
        since = (chip.provisioner_since, _FOREVER)
        return self._ca(name, self.identity_ca(chip), since, crl=chip.crl)

    def identity(
        self,
        chip: Chip,
        label: str,
        *,
        pdi: bytes | None = None,
        parent: CertificateSpec | None = None,
    ) -> CertificateSpec:
        """Return certificate [1], the device identity.

        Args:
            chip: its family.
            label: names the device, and so its key.
            pdi: 8 bytes, big endian; None for the one that belongs to the label.
            parent: who issues it; None for the family's provisioner.
        """
        if pdi is None:
            pdi = self.identifier("pdi", label, 8)
        if len(pdi) != 8:
            raise UsageError("a PDI has 8 bytes", found=f"{len(pdi)}")
        above = self.provisioner(chip) if parent is None else parent
        key = self.key(f"identity/{label}")
        serial = bytes((chip.type_byte,)) + pdi
        return CertificateSpec(
            subject=self._device_name(f"{chip.prefix} BROM", serial),
            issuer=above.subject,
            key=key,
            signer=above.key,
            serial=int.from_bytes(serial, "big"),
            not_before=chip.since,
            not_after=_FOREVER,
            extensions=(
                basic_constraints(True),
                key_usage("key_cert_sign"),
                *((_ocsp_url(),) if chip.identity_ocsp else ()),
                subject_key_id(key),
                authority_key_id(above.key),
            ),
        )

    def attestation_key(
        self, chip: Chip, label: str, identity: CertificateSpec, fwid: bytes
    ) -> CertificateSpec:
        """Return certificate [0], the attestation key, which changes with the firmware."""
        key = self.key(f"attestation/{label}/{fwid[:8].hex()}")
        # The serial number is the key identifier with the two topmost bits set to 01.
        serial = bytes((key.key_id[0] & 0x3F | 0x40,)) + key.key_id[1:]
        serial_of_board = self.identifier("board", label, 8).hex().upper()
        if chip.fwid_form == "composite-device-id":
            firmware = composite_device_id(identity.key, fwid)
        else:
            firmware = dice_tcb_info(
                fwid, model=chip.prefix, version=chip.tcb_version, svn=chip.tcb_svn
            )
        return CertificateSpec(
            subject=self._device_name(f"{chip.prefix} FMC LF", serial),
            issuer=identity.subject,
            key=key,
            signer=identity.key,
            serial=int.from_bytes(serial, "big"),
            not_before=chip.since,
            not_after=_FOREVER,
            extensions=(
                key_usage("digital_signature"),
                subject_key_id(key),
                authority_key_id(identity.key),
                dmtf_device_info(f"NVIDIA:{chip.name}:{serial_of_board}"),
                firmware,
            ),
        )

    def device_chain(
        self, chip: Chip, label: str, fwid: bytes, *, pdi: bytes | None = None
    ) -> tuple[CertificateSpec, ...]:
        """Return the five certificates of a device, attestation key first, root last."""
        identity = self.identity(chip, label, pdi=pdi)
        leaf = self.attestation_key(chip, label, identity, fwid)
        above = (self.provisioner(chip), self.identity_ca(chip), self.device_root())
        return (leaf, identity, *above)

    # Reference manifests, from the root down.

    def rim_root(self) -> CertificateSpec:
        """Return the root of every manifest signer."""
        key = self.key(RIM_ROOT_CN)
        name = Name((("C", "US"), ("O", self.organization), ("CN", RIM_ROOT_CN)))
        return CertificateSpec(
            subject=name,
            issuer=name,
            key=key,
            signer=key,
            serial=_serial(key),
            not_before=_RIM_ROOT_WINDOW[0],
            not_after=_RIM_ROOT_WINDOW[1],
            extensions=(
                subject_key_id(key), authority_key_id(key), basic_constraints(True), _CA_USAGE,
            ),
        )  # fmt: skip

    def rim_ca(self, chip: Chip) -> CertificateSpec:
        """Return the chip's CA for reference values."""
        name = Name((("CN", chip.rim_names[2]), ("O", self.organization), ("C", "US")))
        return self._ca(name, self.rim_root(), _RIM_CA_WINDOW, crl="l1-corim")

    def rim_l3(self, chip: Chip) -> CertificateSpec:
        """Return the CA that certifies signers."""
        name = Name((("CN", chip.rim_names[1]), ("O", self.organization), ("C", "US")))
        return self._ca(name, self.rim_ca(chip), _RIM_L3_WINDOW, path_length=0)

    def rim_signer(
        self, chip: Chip, *, window: tuple[datetime, datetime] = _RIM_SIGNER_WINDOW
    ) -> CertificateSpec:
        """Return the certificate whose key signs manifests of the chip, valid in `window`."""
        parent = self.rim_l3(chip)
        key = self.key(f"rim-signer/{chip.name}")
        location = (("C", "US"), ("ST", "CA"), ("L", "Santa Clara"))
        name = Name((*location, ("O", self.organization), ("CN", chip.rim_names[0])))
        return CertificateSpec(
            subject=name,
            issuer=parent.subject,
            key=key,
            signer=parent.key,
            serial=_serial(key),
            not_before=window[0],
            not_after=window[1],
            extensions=(
                subject_key_id(key),
                authority_key_id(parent.key),
                basic_constraints(False),
                key_usage("digital_signature"),
                _ocsp_url(),
            ),
        )

    def rim_chain(self, chip: Chip) -> tuple[CertificateSpec, ...]:
        """Return the four certificates of a manifest, signer first, root last."""
        return (self.rim_signer(chip), self.rim_l3(chip), self.rim_ca(chip), self.rim_root())

    def rim_debug_chain(self, chip: Chip) -> tuple[CertificateSpec, ...]:
        """Return a signer under a self-signed debug root, as test manifests have leaked with."""
        key = self.key(RIM_DEBUG_ROOT_CN)
        name = Name((("CN", RIM_DEBUG_ROOT_CN), ("O", self.organization), ("C", "US")))
        root = CertificateSpec(
            subject=name,
            issuer=name,
            key=key,
            signer=key,
            serial=_serial(key),
            not_before=_RIM_CA_WINDOW[0],
            not_after=_FOREVER,
            extensions=(
                basic_constraints(True), _CA_USAGE, subject_key_id(key), authority_key_id(key),
            ),
        )  # fmt: skip
        return (self.rim_signer(chip).signed_by(root), root)

    # Revocation.

    def ocsp_responder(self, ca: CertificateSpec) -> CertificateSpec:
        """Return a responder that `ca` certified, exempt from revocation (ocsp-nocheck)."""
        of = dict(ca.subject.attributes)["CN"]
        key = SimKey(f"{ca.key.label}/ocsp", ca.key.seed, "P-384")
        name = Name((("CN", f"{of} OCSP"), ("O", self.organization)))
        purpose = der.sequence(der.object_identifier(_OCSP_SIGNING))
        return CertificateSpec(
            subject=name,
            issuer=ca.subject,
            key=key,
            signer=ca.key,
            serial=_serial(key),
            not_before=_RESPONDER_WINDOW[0],
            not_after=_RESPONDER_WINDOW[1],
            extensions=(
                basic_constraints(False),
                key_usage("digital_signature"),
                Extension(_EXTENDED_KEY_USAGE, False, purpose),
                Extension(_OCSP_NO_CHECK, False, b"\x05\x00"),
                subject_key_id(key),
                authority_key_id(ca.key),
            ),
        )

    def crl(
        self, ca: CertificateSpec, at: datetime, *, age: timedelta = timedelta(days=1)
    ) -> CrlSpec:
        """Return an empty revocation list of `ca`, issued `age` before `at` and valid 30 days."""
        return CrlSpec(
            issuer=ca.subject,
            signer=ca.key,
            this_update=at - age,
            next_update=at - age + timedelta(days=30),
            extensions=(authority_key_id(ca.key), crl_number(1)),
        )

    def _device_name(self, common_name: str, serial: bytes) -> Name:
        text = serial.hex().upper()
        organization = ("O", self.organization)
        return Name((("serialNumber", text), ("C", "US"), organization, ("CN", common_name)))

    def _ca(
        self,
        name: Name,
        parent: CertificateSpec,
        window: tuple[datetime, datetime],
        *,
        crl: str | None = None,
        path_length: int | None = None,
    ) -> CertificateSpec:
        key = self.key(dict(name.attributes)["CN"])
        point = () if crl is None else (crl_distribution_point(_CRL_URL.format(name=crl)),)
        return CertificateSpec(
            subject=name,
            issuer=parent.subject,
            key=key,
            signer=parent.key,
            serial=_serial(key),
            not_before=window[0],
            not_after=window[1],
            extensions=(
                basic_constraints(True, path_length),
                _CA_USAGE,
                *point,
                _ocsp_url(),
                subject_key_id(key),
                authority_key_id(parent.key),
            ),
        )
