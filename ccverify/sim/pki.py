"""A simulated Intel SGX certificate hierarchy: root, PCK CAs, TCB signer, PCK leaf, CRLs.

The certificates copy the profile of the real ones (names, key usage, path lengths, order of
extensions; Intel SGX PCK Certificate and CRL Profile Specification 1.5), except that the
organisation says what they are and every URL ends in the reserved name ``.invalid``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

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
)
from ccverify.sim.keys import DEFAULT_SEED, SimKey
from ccverify.sim.sgx_extension import SgxExtension

__all__ = [
    "ORGANIZATION",
    "PCK_CN",
    "PLATFORM_CA_CN",
    "PROCESSOR_CA_CN",
    "ROOT_CN",
    "TCB_SIGNING_CN",
    "PckCa",
    "SimIssuer",
    "intel_name",
]

ORGANIZATION = "ccverify simulation, not Intel"
ROOT_CN = "Intel SGX Root CA"
PLATFORM_CA_CN = "Intel SGX PCK Platform CA"
PROCESSOR_CA_CN = "Intel SGX PCK Processor CA"
TCB_SIGNING_CN = "Intel SGX TCB Signing"
PCK_CN = "Intel SGX PCK Certificate"

PckCa = Literal["platform", "processor"]

_CA_CN: dict[PckCa, str] = {"platform": PLATFORM_CA_CN, "processor": PROCESSOR_CA_CN}
_ROOT_CRL_URL = "https://certificates.ccverify-sim.invalid/SimulatedRootCA.der"
_PCK_CRL_URL = "https://api.ccverify-sim.invalid/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"
_CA_USAGE = ("key_cert_sign", "crl_sign")
_LEAF_USAGE = ("digital_signature", "content_commitment")

_Window = tuple[datetime, datetime]
_ROOT_WINDOW: _Window = (
    datetime(2018, 5, 21, 10, 45, 10, tzinfo=UTC),
    datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
)
_CA_WINDOW: _Window = (
    datetime(2018, 5, 21, 10, 50, 10, tzinfo=UTC),
    datetime(2033, 5, 21, 10, 50, 10, tzinfo=UTC),
)
_LEAF_WINDOW: _Window = (
    datetime(2025, 5, 6, 9, 25, 0, tzinfo=UTC),
    datetime(2032, 5, 6, 9, 25, 0, tzinfo=UTC),
)


def intel_name(common_name: str, organization: str = ORGANIZATION) -> Name:
    """Return a name in the attribute order of Intel's certificates."""
    return Name(
        (
            ("CN", common_name),
            ("O", organization),
            ("L", "Santa Clara"),
            ("ST", "CA"),
            ("C", "US"),
        )
    )


def _extensions(
    key: SimKey, parent: SimKey, url: str, usage: tuple[str, ...], constraints: Extension
) -> tuple[Extension, ...]:
    return (
        authority_key_id(parent),
        crl_distribution_point(url),
        subject_key_id(key),
        key_usage(*usage),
        constraints,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimIssuer:
    """The simulated Intel: all certificates and revocation lists under one seed.

    Two issuers with different seeds have the same names and unrelated keys, which is what
    an attacker with a root of his own looks like.

    Attributes:
        seed: the world its keys are derived from.
        organization: the O of every name.
    """

    seed: bytes = DEFAULT_SEED
    organization: str = ORGANIZATION

    def key(self, label: str) -> SimKey:
        """Return this issuer's P-256 key of that label."""
        return SimKey(label, self.seed)

    def name(self, common_name: str) -> Name:
        """Return a name under this issuer's organisation."""
        return intel_name(common_name, self.organization)

    def root(self) -> CertificateSpec:
        """Return the self-signed root certificate."""
        return self._issue(ROOT_CN, "root", None, _ROOT_WINDOW, basic_constraints(True, 1))

    def pck_ca(self, ca: PckCa = "platform") -> CertificateSpec:
        """Return the PCK Platform CA or PCK Processor CA certificate."""
        label = f"pck-{ca}-ca"
        return self._issue(_CA_CN[ca], label, self.root(), _CA_WINDOW, basic_constraints(True, 0))

    def tcb_signing(self) -> CertificateSpec:
        """Return the certificate whose key signs TCB info and QE identity."""
        constraints = basic_constraints(False)
        return self._issue(TCB_SIGNING_CN, "tcb-signing", self.root(), _LEAF_WINDOW, constraints)

    def pck(
        self, sgx: SgxExtension, *, label: str = "pck", ca: PckCa = "platform"
    ) -> CertificateSpec:
        """Return a PCK certificate carrying `sgx`; `label` names the key and serial."""
        parent, key = self.pck_ca(ca), self.key(label)
        digest = hashlib.sha256(b"serial:" + key.spki).digest()
        return CertificateSpec(
            subject=self.name(PCK_CN),
            issuer=parent.subject,
            key=key,
            signer=parent.key,
            serial=int.from_bytes(digest[:20], "big") >> 1,
            not_before=_LEAF_WINDOW[0],
            not_after=_LEAF_WINDOW[1],
            extensions=(
                *_extensions(
                    key,
                    parent.key,
                    _PCK_CRL_URL.format(ca=ca),
                    _LEAF_USAGE,
                    basic_constraints(False),
                ),
                sgx.extension(),
            ),
        )

    def root_crl(self, this_update: datetime, next_update: datetime) -> CrlSpec:
        """Return the root's empty revocation list."""
        return _crl(self.root(), this_update, next_update)

    def pck_crl(
        self, this_update: datetime, next_update: datetime, *, ca: PckCa = "platform"
    ) -> CrlSpec:
        """Return a PCK CA's revocation list; two unrelated serials are on it."""
        strangers = (SimKey(f"revoked-{number}", self.seed).key_id for number in (1, 2))
        serials = (int.from_bytes(key_id, "big") for key_id in strangers)
        return _crl(self.pck_ca(ca), this_update, next_update).with_revoked(*serials)

    def _issue(
        self,
        common_name: str,
        label: str,
        parent: CertificateSpec | None,
        window: _Window,
        constraints: Extension,
    ) -> CertificateSpec:
        """Return a certificate directly under the root, or the root itself."""
        key = self.key(label)
        signer = key if parent is None else parent.key
        usage = _LEAF_USAGE if label == "tcb-signing" else _CA_USAGE
        spec = CertificateSpec(
            subject=self.name(common_name),
            issuer=self.name(ROOT_CN),
            key=key,
            signer=signer,
            # Intel's long-lived certificates use their key identifier as serial number.
            serial=int.from_bytes(key.key_id, "big"),
            not_before=window[0],
            not_after=window[1],
            extensions=_extensions(key, signer, _ROOT_CRL_URL, usage, constraints),
        )
        return spec if parent is None else replace(spec, issuer=parent.subject)


def _crl(ca: CertificateSpec, this_update: datetime, next_update: datetime) -> CrlSpec:
    return CrlSpec(
        issuer=ca.subject,
        signer=ca.key,
        this_update=this_update,
        next_update=next_update,
        extensions=(crl_number(1), authority_key_id(ca.key)),
    )
