"""A simulated TPM 2.0: an attestation key that quotes PCRs, and a CA that certifies the key.

Structures are laid out here after TCG TPM 2.0 Part 2, shared with nobody.  The key follows from
the TPM's name, so anybody can quote with it.  Every field can be chosen with
`dataclasses.replace`, a wrong one too.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from ccverify.sim import der
from ccverify.sim.cbor import encode
from ccverify.sim.certs import (
    CertificateSpec,
    Extension,
    Name,
    authority_key_id,
    basic_constraints,
    key_usage,
    pem_chain,
    subject_key_id,
)
from ccverify.sim.keys import DEFAULT_SEED, HashName, SimKey

__all__ = ["BankName", "SimTpm", "SimTpmQuote"]

BankName = Literal["sha1", "sha256", "sha384", "sha512"]

_ALGS: Final[dict[BankName, int]] = {"sha1": 0x04, "sha256": 0x0B, "sha384": 0x0C, "sha512": 0x0D}
_SIZES: Final[dict[BankName, int]] = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
_CURVES: Final = {"P-256": 0x0003, "P-384": 0x0004}
_HIERARCHIES: Final = {"owner": 0x40000001, "endorsement": 0x4000000B, "platform": 0x4000000C}
_NULL, _ECC, _ECDSA = 0x0010, 0x0023, 0x0018
_EXTENDED_KEY_USAGE: Final = "2.5.29.37"
_AIK_CERTIFICATE: Final = "2.23.133.8.3"
_WINDOW: Final = (
    datetime(2025, 5, 6, 9, 25, 0, tzinfo=UTC),
    datetime(2045, 5, 6, 9, 25, 0, tzinfo=UTC),
)


@dataclass(frozen=True, slots=True)
class SimTpmQuote:
    """What a quote consists of.

    Attributes:
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        public: TPMT_PUBLIC of the key.
        pcrs: values that were quoted, by bank and index.
    """

    attest: bytes
    signature: bytes
    public: bytes
    pcrs: Mapping[BankName, Mapping[int, bytes]]

    def item(self, chain: str | None = None) -> bytes:
        """Return the item of a bundle, CBOR; `chain` is PEM, the key's certificate first."""
        return encode(
            {
                "attest": self.attest,
                "signature": self.signature,
                "public": self.public,
                "chain": None if chain is None else chain.encode("ascii"),
                "pcrs": self.pcrs,
            }
        )


@dataclass(frozen=True, slots=True)
class SimTpm:
    """A TPM, as far as quotes go.

    Attributes:
        label: names it; its key and its measurements follow from it.
        seed: the simulated world it belongs to.
        curve: of the attestation key.
        hierarchy: of which the key is a primary key.
        attributes: TPMA_OBJECT of the key: fixedTPM, fixedParent, sensitiveDataOrigin,
            userWithAuth, noDA, restricted, sign.
        scheme: hash of the key's ECDSA scheme; None: no scheme, as of a key that may sign
            anything.
        measured: PCR → what was extended into it, once; others are zero.
        clock: milliseconds.
        reset_count: of boots.
        restart_count: of resumes since.
        safe: of the clock.
        firmware_version: of the TPM.
        magic: TPM_GENERATED_VALUE.
        kind: TPM_ST_ATTEST_QUOTE.
    """

    label: str = "host-0"
    seed: bytes = DEFAULT_SEED
    curve: Literal["P-256", "P-384"] = "P-256"
    hierarchy: Literal["owner", "endorsement", "platform"] = "endorsement"
    attributes: int = 0x00050472
    scheme: HashName | None = "sha256"
    measured: Mapping[int, bytes] = field(
        default_factory=lambda: {
            index: f"ccverify simulation: PCR {index}".encode() for index in range(10)
        }
    )
    clock: int = 86_400_000
    reset_count: int = 3
    restart_count: int = 0
    safe: bool = True
    firmware_version: int = 0x0007_0055_0000_0000
    magic: int = 0xFF544347
    kind: int = 0x8018

    @property
    def key(self) -> SimKey:
        """The attestation key."""
        return SimKey(f"tpm {self.label} attestation key", self.seed, self.curve)

    @property
    def public(self) -> bytes:
        """TPMT_PUBLIC of the attestation key."""
        point = self.key.public_xy
        half = len(point) // 2
        scheme = _u16(_NULL) if self.scheme is None else _u16(_ECDSA) + _u16(_ALGS[self.scheme])
        return b"".join(
            (
                _u16(_ECC),
                _u16(_ALGS["sha256"]),
                struct.pack(">I", self.attributes),
                _sized(b""),  # authPolicy
                _u16(_NULL),  # symmetric
                scheme,
                _u16(_CURVES[self.curve]),
                _u16(_NULL),  # kdf
                _sized(point[:half]),
                _sized(point[half:]),
            )
        )

    @property
    def name(self) -> bytes:
        """Name of the attestation key: what a policy lists, in hex."""
        return _u16(_ALGS["sha256"]) + hashlib.sha256(self.public).digest()

    def pcr(self, index: int, bank: BankName = "sha256") -> bytes:
        """Return the value of a PCR."""
        before = b"\xff" if 17 <= index <= 22 else b"\0"
        value = before * _SIZES[bank]
        if index not in self.measured:
            return value
        event = hashlib.new(bank, self.measured[index], usedforsecurity=False).digest()
        return hashlib.new(bank, value + event, usedforsecurity=False).digest()

    def quote(
        self,
        qualifying_data: bytes,
        selection: Mapping[BankName, Sequence[int]] | None = None,
    ) -> SimTpmQuote:
        """Quote PCRs.

        Args:
            qualifying_data: what goes into extraData.
            selection: bank → indices, in the order of hashing; PCRs 0 to 14 of SHA-256 if None.
        """
        default: dict[BankName, Sequence[int]] = {"sha256": range(15)}
        pcrs: dict[BankName, dict[int, bytes]] = {
            bank: {index: self.pcr(index, bank) for index in sorted(indices)}
            for bank, indices in (default if selection is None else selection).items()
        }
        attest = self.attest(qualifying_data, pcrs)
        return SimTpmQuote(attest, self.sign(attest), self.public, pcrs)

    def attest(self, extra_data: bytes, pcrs: Mapping[BankName, Mapping[int, bytes]]) -> bytes:
        """Return the TPMS_ATTEST over given PCR values."""
        parent = struct.pack(">I", _HIERARCHIES[self.hierarchy])
        signer = _u16(_ALGS["sha256"]) + hashlib.sha256(parent + self.name).digest()
        selection = struct.pack(">I", len(pcrs))
        values = b""
        for bank, of_bank in pcrs.items():
            bits = sum(1 << index for index in of_bank).to_bytes(3, "little")
            selection += _u16(_ALGS[bank]) + b"\x03" + bits
            values += b"".join(of_bank[index] for index in sorted(of_bank))
        return b"".join(
            (
                struct.pack(">IH", self.magic, self.kind),
                _sized(signer),
                _sized(extra_data),
                struct.pack(">QII?", self.clock, self.reset_count, self.restart_count, self.safe),
                struct.pack(">Q", self.firmware_version),
                selection,
                _sized(hashlib.new(self.scheme or "sha256", values).digest()),
            )
        )

    def sign(self, attest: bytes) -> bytes:
        """Return the TPMT_SIGNATURE over a TPMS_ATTEST."""
        used = self.scheme or "sha256"
        raw = self.key.sign_raw(attest, used)
        half = len(raw) // 2
        parts = (_u16(_ECDSA), _u16(_ALGS[used]), _sized(raw[:half]), _sized(raw[half:]))
        return b"".join(parts)

    # --- certificates ---

    def root(self) -> CertificateSpec:
        """The CA that certifies attestation keys of simulated TPMs."""
        key = SimKey("tpm attestation CA", self.seed, "P-384")
        name = _name("Simulated TPM Attestation Root CA")
        return CertificateSpec(
            subject=name,
            issuer=name,
            key=key,
            signer=key,
            serial=1,
            not_before=_WINDOW[0],
            not_after=_WINDOW[1],
            extensions=(
                basic_constraints(True, 0),
                key_usage("key_cert_sign", "crl_sign"),
                subject_key_id(key),
            ),
        )

    def certificate(self) -> CertificateSpec:
        """The certificate of the attestation key."""
        root, key = self.root(), self.key
        purposes = der.sequence(der.object_identifier(_AIK_CERTIFICATE))
        return CertificateSpec(
            subject=_name(f"Simulated TPM {self.label}"),
            issuer=root.subject,
            key=key,
            signer=root.key,
            serial=int.from_bytes(hashlib.sha256(self.name).digest()[:8], "big") >> 1,
            not_before=_WINDOW[0],
            not_after=_WINDOW[1],
            extensions=(
                basic_constraints(False),
                key_usage("digital_signature"),
                Extension(_EXTENDED_KEY_USAGE, True, purposes),
                authority_key_id(root.key),
                subject_key_id(key),
            ),
        )

    def chain(self) -> str:
        """The certificate of the attestation key and its root, PEM."""
        return pem_chain(self.certificate(), self.root())


def _name(common_name: str) -> Name:
    return Name((("CN", common_name), ("O", "ccverify simulation, no TPM vendor")))


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _sized(data: bytes) -> bytes:
    return _u16(len(data)) + data
