"""A simulated operator of machines: a small PKI, and the key that vouches for bundles.

Root, issuing CA and signer, as an operator would have them; the signature is a COSE_Sign1 (RFC
9052) with the chain in x5chain (RFC 9360), put together here and shared with nobody.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from ccverify.sim import der
from ccverify.sim.cbor import encode
from ccverify.sim.certs import (
    CertificateSpec,
    Extension,
    Name,
    authority_key_id,
    basic_constraints,
    key_usage,
    subject_key_id,
)
from ccverify.sim.keys import DEFAULT_SEED, CurveName, SimKey

__all__ = ["SimOperator", "extended_key_usage"]

_EXTENDED_KEY_USAGE: Final = "2.5.29.37"
_DOCUMENT_SIGNING: Final = "1.3.6.1.5.5.7.3.36"
_ALGORITHMS: Final[dict[CurveName, int]] = {"P-256": -9, "P-384": -51}
_X5CHAIN: Final = 33
_TYPE: Final = "application/vnd.ccverify.operator-signature+cose"
_TAG_18: Final = b"\xd2"
_WINDOW: Final = (
    datetime(2025, 5, 6, 9, 25, 0, tzinfo=UTC),
    datetime(2045, 5, 6, 9, 25, 0, tzinfo=UTC),
)


def extended_key_usage(*purposes: str, critical: bool = False) -> Extension:
    """Return an ExtKeyUsage of dotted OIDs."""
    value = der.sequence(*(der.object_identifier(purpose) for purpose in purposes))
    return Extension(_EXTENDED_KEY_USAGE, critical, value)


@dataclass(frozen=True, slots=True)
class SimOperator:
    """An operator.

    Attributes:
        label: names it; its keys follow from it.
        seed: the simulated world it belongs to.
        curve: of the key that signs.
    """

    label: str = "Example Cloud"
    seed: bytes = DEFAULT_SEED
    curve: CurveName = "P-384"

    @property
    def key(self) -> SimKey:
        """The key that vouches for bundles."""
        return SimKey(f"operator {self.label} signer", self.seed, self.curve)

    def root(self) -> CertificateSpec:
        """The operator's root: what a policy lists."""
        key = SimKey(f"operator {self.label} root", self.seed, "P-384")
        return self._ca("Root CA", key, key, path_length=1)

    def issuer(self) -> CertificateSpec:
        """The CA below the root."""
        root = self.root()
        key = SimKey(f"operator {self.label} issuer", self.seed, "P-384")
        made = self._ca("Issuing CA", key, root.key, path_length=0)
        return replace(made, issuer=root.subject).with_extension(authority_key_id(root.key))

    def certificate(self) -> CertificateSpec:
        """The certificate of the key that signs."""
        issuer = self.issuer()
        return CertificateSpec(
            subject=self._name("Fabric Managers"),
            issuer=issuer.subject,
            key=self.key,
            signer=issuer.key,
            serial=self._serial("signer"),
            not_before=_WINDOW[0],
            not_after=_WINDOW[1],
            extensions=(
                basic_constraints(False),
                key_usage("digital_signature"),
                extended_key_usage(_DOCUMENT_SIGNING),
                subject_key_id(self.key),
                authority_key_id(issuer.key),
            ),
        )

    def chain(self) -> tuple[CertificateSpec, ...]:
        """The signer's certificate and its issuer's; the root is left to who believes it."""
        return self.certificate(), self.issuer()

    def sign(self, payload: bytes, chain: tuple[CertificateSpec, ...] | None = None) -> bytes:
        """Return the item `operator-signature` over a payload of 48 bytes."""
        protected = encode({1: _ALGORITHMS[self.curve], 3: "application/octet-stream", 16: _TYPE})
        certificates = [one.der() for one in (self.chain() if chain is None else chain)]
        signed = encode(["Signature1", protected, b"", payload])
        x5chain: object = certificates[0] if len(certificates) == 1 else certificates
        parts = [protected, {_X5CHAIN: x5chain}, payload, self.key.sign_raw(signed)]
        return _TAG_18 + encode(parts)

    def _ca(self, role: str, key: SimKey, signer: SimKey, *, path_length: int) -> CertificateSpec:
        name = self._name(role)
        return CertificateSpec(
            subject=name,
            issuer=name,
            key=key,
            signer=signer,
            serial=self._serial(role),
            not_before=_WINDOW[0],
            not_after=_WINDOW[1],
            extensions=(
                basic_constraints(True, path_length),
                key_usage("key_cert_sign", "crl_sign"),
                subject_key_id(key),
            ),
        )

    def _name(self, role: str) -> Name:
        return Name((("CN", f"{self.label} {role}"), ("O", "ccverify simulation, no operator")))

    def _serial(self, role: str) -> int:
        digest = hashlib.sha256(f"{self.label} {role}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1
