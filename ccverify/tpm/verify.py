"""Verifying a TPM quote: that this key signed these PCRs for this request (TPM 2.0 Part 1 §31).

What it proves depends on whether the relying party knows the key.  A Name that a policy lists
covers the whole public area, attributes included.  A certificate covers the key alone: that the
key is a restricted one of a TPM is then the issuer's word.  Of a key that nobody knows nothing is
proven: software can make one, with whatever attributes it likes.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from ccverify.tpm.attest import ClockInfo
from ccverify.tpm.public import ATTESTATION_KEY, Attributes, TpmPublic
from ccverify.tpm.quote import PcrValues, TpmQuote
from ccverify.tpm.wire import BANKS, Alg, digest
from ccverify.trust.pkix import PkixCertificate, verify_pkix_path

__all__ = ["AK_PURPOSES", "HIERARCHIES", "AkCertificate", "TpmResult", "verify_tpm_quote"]

AK_PURPOSES: Final = ("2.23.133.8.3",)
"""tcg-kp-AIKCertificate: the extended key usage of certificates for attestation keys (TCG EK
Credential Profile §3.5, Infrastructure Work Group)."""

HIERARCHIES: Final = MappingProxyType(
    {"owner": 0x40000001, "endorsement": 0x4000000B, "platform": 0x4000000C}
)
"""Permanent handles of the hierarchies that outlast a reset (Part 2 §7.4)."""


@dataclass(frozen=True, slots=True)
class AkCertificate:
    """What certificates say of an attestation key.

    Attributes:
        subject: of its certificate, RFC 4514; often empty, because a TPM's name is elsewhere.
        key_sha256: SHA-256 of its SubjectPublicKeyInfo, hex.
        certificate_sha256: SHA-256 of its certificate, hex.
        root: subject of the root that the chain leads to; None if to none.
        root_sha256: SHA-256 of that root's certificate, hex; None if to none.
        problem: why the chain proves nothing of the key; None if it holds.
    """

    subject: str
    key_sha256: str
    certificate_sha256: str
    root: str | None
    root_sha256: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class TpmResult:
    """What a TPM quote proves.

    Attributes:
        name: Name of the attestation key, hex: ``000b`` and a SHA-256, by custom.
        hierarchy: hierarchy of which the key is a primary key, as the signed qualified Name
            shows; None if it is of none, or a key under another.
        pcrs: the quoted values, without those of SHA-1, which are never enough; empty if there is
            any problem.
        clock: of the TPM; its counts tell one boot of the host from another.  As stated where
            there is a problem.
        firmware_version: of the TPM, in its vendor's form; likewise.
        certificate: of the key; None if no chain came with the quote.
        problems: everything wrong with the quote itself, as texts; the certificate's problem is
            not among them, because a policy may know the key by its Name instead.
    """

    name: str
    hierarchy: str | None
    pcrs: PcrValues
    clock: ClockInfo
    firmware_version: int
    certificate: AkCertificate | None
    problems: tuple[str, ...]


def verify_tpm_quote(
    quote: TpmQuote,
    qualifying_data: bytes,
    *,
    roots: Sequence[PkixCertificate] = (),
    now: datetime | None = None,
) -> TpmResult:
    """Verify a quote; never raises for what it holds.

    Args:
        quote: from `ccverify.tpm.quote.parse_tpm_quote`.
        qualifying_data: what extraData must be.
        roots: certificates of those whose word on attestation keys the relying party takes.
        now: the time of evaluation, timezone-aware; without it no chain is believed.
    """
    problems = [*_key_problems(quote.public), *_attest_problems(quote, qualifying_data)]
    hierarchy = None if problems else _hierarchy(quote)
    pcr_problem = _pcr_problem(quote)
    proven = quote.pcrs if pcr_problem is None and not problems else {}
    if pcr_problem is not None:
        problems.append(pcr_problem)
    elif not any(bank != "sha1" for bank in quote.pcrs):
        problems.append("PCRs: only a SHA-1 bank is quoted" if quote.pcrs else "PCRs: none quoted")
    return TpmResult(
        name=quote.public.name.hex(),
        hierarchy=hierarchy,
        pcrs=MappingProxyType({bank: v for bank, v in proven.items() if bank != "sha1"}),
        clock=quote.attest.clock,
        firmware_version=quote.attest.firmware_version,
        certificate=_certificate(quote, roots, now),
        problems=tuple(problems),
    )


def _key_problems(public: TpmPublic) -> Iterator[str]:
    lacking = ATTESTATION_KEY & ~public.attributes
    if lacking:
        names = ", ".join(one.name or "" for one in Attributes if one in lacking)
        yield f"attestation key: it lacks {names}"
    if Attributes.DECRYPT in public.attributes:
        yield "attestation key: it decrypts too"
    if public.scheme.alg is Alg.NULL:
        yield "attestation key: it has no scheme of its own, as restricted keys have"


def _attest_problems(quote: TpmQuote, qualifying_data: bytes) -> Iterator[str]:
    problem = quote.signature.verify(quote.public, quote.attest.encoded)
    if problem is not None:
        yield f"signature: {problem}"
    if not hmac.compare_digest(quote.attest.extra_data, qualifying_data):
        yield (f"extraData: it is {quote.attest.extra_data.hex()}, and nonce, session key and "
               f"manifest give {qualifying_data.hex()}")  # fmt: skip


def _pcr_problem(quote: TpmQuote) -> str | None:
    """Compare the signed selection and digest with the values stated."""
    by_alg = {BANKS[bank]: values for bank, values in quote.pcrs.items()}
    selected = {s.alg: s.indices for s in quote.attest.selection if s.indices}
    if {alg: tuple(values) for alg, values in by_alg.items()} != selected:
        told = "; ".join(map(str, quote.attest.selection)) or "none"
        return f"PCRs: the values stated are not those that were quoted ({told[:300]})"
    values = b"".join(
        by_alg[Alg(s.alg)][index] for s in quote.attest.selection for index in s.indices
    )
    if not hmac.compare_digest(digest(quote.signature.hash, values), quote.attest.pcr_digest):
        return "PCRs: the signed digest is not that of the values stated"
    return None


def _hierarchy(quote: TpmQuote) -> str | None:
    """Recompute the qualified Name of a primary key (Part 1 §26.5)."""
    alg, name = quote.public.name_alg, quote.public.name
    for hierarchy, handle in HIERARCHIES.items():
        qualified = alg.to_bytes(2) + digest(alg, handle.to_bytes(4) + name)
        if hmac.compare_digest(qualified, quote.attest.qualified_signer):
            return hierarchy
    return None


def _certificate(
    quote: TpmQuote, roots: Sequence[PkixCertificate], now: datetime | None
) -> AkCertificate | None:
    if not quote.certificates:
        return None
    leaf = quote.certificates[0]
    root = None
    if leaf.public_key != quote.public.public_key:
        problem: str | None = "the first certificate is for another key"
    elif now is None:
        problem = "no time was given at which to judge it"
    else:
        path = verify_pkix_path(quote.certificates, roots, now, purposes=AK_PURPOSES)
        root, problem = path.root, path.problem
    return AkCertificate(
        subject=leaf.subject_text,
        key_sha256=leaf.key_sha256.hex(),
        certificate_sha256=leaf.sha256.hex(),
        root=root.subject_text if root else None,
        root_sha256=root.sha256.hex() if root else None,
        problem=problem,
    )
