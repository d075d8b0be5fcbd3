"""OCSP responses (RFC 6960) in which every field can be chosen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from ccverify.errors import UsageError
from ccverify.sim import der
from ccverify.sim.certs import CertificateSpec, Extension
from ccverify.sim.keys import HashName, SimKey
from ccverify.sim.nvidia.pki import certificate_der

__all__ = ["CertIdHash", "OcspAnswer", "OcspSpec", "OcspStatus"]

OcspStatus = Literal["good", "revoked", "hold", "unknown"]
"""What is said of a certificate; ``hold`` is a revocation for the reason certificateHold."""
CertIdHash = Literal["sha1", "sha256", "sha384"]

_BASIC_RESPONSE = "1.3.6.1.5.5.7.48.1.1"
_NONCE = "1.3.6.1.5.5.7.48.1.2"
_CERT_ID_OIDS: dict[CertIdHash, str] = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
}
_SIGNATURE_OIDS: dict[HashName, str] = {
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
}
_KEY_COMPROMISE = 1
_CERTIFICATE_HOLD = 6


def _time(value: datetime) -> bytes:
    utc = value.astimezone(UTC)
    return der.tlv(0x18, f"{utc.year:04d}{utc:%m%d%H%M%S}Z".encode("ascii"))


def _key_bits(key: SimKey) -> bytes:
    return b"\x04" + key.public_xy


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspAnswer:
    """One SingleResponse.

    Attributes:
        certificate: the certificate asked about.
        issuer: who issued it; names it together with its serial number.
        status: see `OcspStatus`.
        this_update, next_update: UTC; nextUpdate may be left out (None).
        revoked_at: for revoked and hold; None for thisUpdate.
        reason: CRLReason number for revoked; None to leave it out.
        hash_name: of the CertID.
        serial: another serial number than the certificate's.
    """

    certificate: CertificateSpec
    issuer: CertificateSpec
    status: OcspStatus = "good"
    this_update: datetime
    next_update: datetime | None
    revoked_at: datetime | None = None
    reason: int | None = _KEY_COMPROMISE
    hash_name: CertIdHash = "sha1"
    serial: int | None = None

    def der(self) -> bytes:
        """Return the DER SingleResponse."""
        algorithm = der.sequence(der.object_identifier(_CERT_ID_OIDS[self.hash_name]), b"\x05\x00")
        cert_id = der.sequence(
            algorithm,
            der.octet_string(self._hash(self.issuer.subject.der())),
            der.octet_string(self._hash(_key_bits(self.issuer.key))),
            der.integer(self.certificate.serial if self.serial is None else self.serial),
        )
        items = [cert_id, self._status(), _time(self.this_update)]
        if self.next_update is not None:
            items.append(der.context(0, _time(self.next_update)))
        return der.sequence(*items)

    def _hash(self, content: bytes) -> bytes:
        return hashlib.new(self.hash_name, content, usedforsecurity=False).digest()

    def _status(self) -> bytes:
        if self.status == "good":
            return der.context(0, b"", constructed=False)
        if self.status == "unknown":
            return der.context(2, b"", constructed=False)
        reason = _CERTIFICATE_HOLD if self.status == "hold" else self.reason
        stated = b"" if reason is None else der.context(0, der.enumerated(reason))
        return der.context(1, _time(self.revoked_at or self.this_update) + stated)


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspSpec:
    """An OCSP response to be made.

    Attributes:
        answers: single responses, in order.
        responder: whose name, key and certificate answer: a delegate certified by the issuer,
            or the issuer itself.
        brings_responder: whether the responder's certificate is in the response; a delegate's
            has to be.
        produced_at: UTC.
        nonce: as in the request; None for none.
        by_key: name the responder by its key and not by its name.
        extensions: response extensions besides the nonce.
        response_status: OCSPResponseStatus; anything but 0 leaves the answer out.
        signer: another key than the responder's.
        signature: DER Ecdsa-Sig-Value to use instead of a genuine one.
    """

    answers: tuple[OcspAnswer, ...]
    responder: CertificateSpec
    brings_responder: bool = True
    produced_at: datetime
    nonce: bytes | None = None
    by_key: bool = False
    extensions: tuple[Extension, ...] = ()
    response_status: int = 0
    signer: SimKey | None = None
    signature: bytes | None = None

    def tbs(self) -> bytes:
        """Return the DER ResponseData, which is what is signed."""
        if self.by_key:
            key_hash = hashlib.sha1(_key_bits(self.responder.key), usedforsecurity=False).digest()
            who = der.context(2, der.octet_string(key_hash))
        else:
            who = der.context(1, self.responder.subject.der())
        items = [who, _time(self.produced_at)]
        items.append(der.sequence(*(answer.der() for answer in self.answers)))
        extensions = list(self.extensions)
        if self.nonce is not None:
            extensions.append(Extension(_NONCE, False, der.octet_string(self.nonce)))
        if extensions:
            items.append(der.context(1, der.sequence(*(one.der() for one in extensions))))
        return der.sequence(*items)

    def der(self) -> bytes:
        """Return the signed OCSPResponse, DER."""
        if self.response_status:
            return der.sequence(der.enumerated(self.response_status))
        signer, tbs = self.signer or self.responder.key, self.tbs()
        signature = signer.sign_der(tbs) if self.signature is None else self.signature
        algorithm = der.sequence(der.object_identifier(_SIGNATURE_OIDS[signer.default_hash]))
        items = [tbs, algorithm, der.bit_string(signature)]
        if self.brings_responder:
            items.append(der.context(0, der.sequence(certificate_der(self.responder))))
        basic = der.octet_string(der.sequence(*items))
        body = der.sequence(der.object_identifier(_BASIC_RESPONSE), basic)
        return der.sequence(der.enumerated(0), der.context(0, body))

    def with_answer(self, **changes: Any) -> OcspSpec:
        """Return the response with fields of its only answer replaced.

        Raises:
            UsageError: it has several answers.
        """
        if len(self.answers) != 1:
            raise UsageError("which answer?", expected="1", found=f"{len(self.answers)}")
        return replace(self, answers=(replace(self.answers[0], **changes),))

    def signed_by_issuer(self) -> OcspSpec:
        """Return the response as the issuer of the certificate itself would sign it."""
        return replace(self, responder=self.answers[0].issuer, brings_responder=False)
