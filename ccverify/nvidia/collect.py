"""Collateral of NVIDIA's devices over the network: the RIM service and the OCSP responder.

The only module for NVIDIA that touches the network.  Whatever is fetched is signed by NVIDIA
and is judged where it is used.

- `RIM_SERVICE` and `OCSP_SERVICE` are the only addresses, and both are https.  None comes out
  of evidence or out of a certificate, and a redirect may not leave the host.
- What is not to be had is a problem beside the rest, not the end of it: NVIDIA does not
  publish every manifest, and a policy decides what may be missing.
- The cache is a folder of plain files, which may be given to a check as it is.  It is believed
  no more than the network: what is in it is parsed and compared with what was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ccverify.errors import CollateralError, UsageError
from ccverify.nvidia.collateral import MAX_RIMS, NvidiaCollateral
from ccverify.nvidia.needs import DeviceNeeds
from ccverify.nvidia.ocsp import (
    MAX_OCSP_BYTES,
    CertId,
    OcspResponse,
    OcspSingle,
    cert_ids,
    parse_ocsp_response,
)
from ccverify.nvidia.revocation import MAX_COLLATERAL
from ccverify.nvidia.rim import Rim, parse_rim
from ccverify.nvidia.rim_service import MAX_RESPONSE_BYTES, parse_rim_response
from ccverify.nvidia.rim_set import RimId, RimSet, StoredRim
from ccverify.online import Headers, Item, Progress, Session, require_online
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.x509 import Certificate
from ccverify.trust.xmldsig import MAX_XML_BYTES

if TYPE_CHECKING:
    import httpx

__all__ = [
    "OCSP_CACHE_AGE",
    "OCSP_SERVICE",
    "RIM_SERVICE",
    "NvidiaFetch",
    "fetch_nvidia_collateral",
    "ocsp_request",
]

RIM_SERVICE: Final = "https://rim.attestation.nvidia.com/v1/rim/"
OCSP_SERVICE: Final = "https://ocsp.ndis.nvidia.com/"

OCSP_CACHE_AGE: Final = timedelta(hours=1)
"""A cached OCSP response older than this, or no longer current, is asked for again."""
NONCE_BYTES: Final = 32  # RFC 9654 §2.1

_AT_ONCE = 8
_STATUS_HINTS = {
    404: "NVIDIA publishes no manifest under this id (yet); a newer driver or VBIOS may have one"
}
_Pair = tuple[Certificate, "Certificate | TrustAnchor"]
"""A certificate and who issued it."""


@dataclass(frozen=True, slots=True)
class NvidiaFetch:
    """What could be had, and one error for each thing that could not."""

    collateral: NvidiaCollateral
    problems: tuple[CollateralError, ...]


def fetch_nvidia_collateral(
    needs: Iterable[DeviceNeeds],
    *,
    device_root: TrustAnchor,
    rim_root: TrustAnchor,
    now: datetime,
    with_ocsp: bool = True,
    with_nonce: bool = True,
    cache: str | None = None,
    proxy: str | None = None,
    timeout: float = 30.0,
    retries: int = 3,
    client: httpx.AsyncClient | None = None,
    progress: Progress | None = None,
) -> NvidiaFetch:
    """Fetch the manifests of some devices, and OCSP responses for all certificates involved.

    Asked about are every device certificate but the attestation key, for which NVIDIA's
    responder does not answer, and the signers of the manifests.  Nothing is verified here but
    that each answer is about what was asked.

    Args:
        needs: of the devices (`ccverify.nvidia.needs.device_needs`).
        device_root: issuer of the last certificate of device chains.
        rim_root: issuer of the last certificate of the manifests' signer chains.
        now: the time at which a cached thing must still be current.
        with_ocsp: False for manifests alone.
        with_nonce: put a random nonce into each OCSP request and insist on it in the answer.
        cache: a folder, made if it is not there.  A manifest is used from it until a
            certificate of its signer expires, and after that if there is no other; an OCSP
            response while it is current and no older than `OCSP_CACHE_AGE`.
        proxy: URL of a proxy; None for what HTTPS_PROXY and NO_PROXY say.
        timeout: seconds for each attempt as a whole.
        retries: how often to try again after status 429, 5xx or a timeout.
        client: to be used instead of one made here.
        progress: called after each answer.

    Raises:
        CollateralError: nothing at all was to be had (the first problem), or the extra
            ``online`` is missing.
        UsageError: nothing or too much is needed, an argument is impossible, the cache cannot
            be used, or this thread runs an event loop already.
    """
    require_online(
        "fetch_nvidia_collateral",
        "save the files and build a pack of them with: ccverify collateral pack",
        timeout=timeout,
        retries=retries,
    )
    wanted = list(needs)
    rims = list(dict.fromkeys(rim for need in wanted for rim in need.rims))
    if not rims or len(rims) > MAX_RIMS or len(wanted) > MAX_COLLATERAL:
        raise UsageError(
            "no devices, or too many, to fetch collateral for",
            expected=f"1 to {MAX_COLLATERAL} devices and at most {MAX_RIMS} manifests",
            found=f"{len(wanted)} devices, {len(rims)} manifests",
        )
    session = Session(client, proxy, timeout, retries, progress, _STATUS_HINTS, _AT_ONCE)
    collection = _Collection(session, None if cache is None else _Cache(cache), now, with_nonce)
    chains = [_pairs(need.chain, device_root)[1:] for need in wanted]
    fetched = asyncio.run(collection.run(rims, chains, rim_root, with_ocsp))
    if fetched.collateral.is_empty and fetched.problems:
        raise fetched.problems[0]
    return fetched


def _pairs(chain: Sequence[Certificate], root: TrustAnchor) -> list[_Pair]:
    """Each certificate below the root with its issuer."""
    below = [c for c in chain if c.sha256 != root.certificate_sha256]
    return list(zip(below, [*below[1:], root], strict=True)) if below else []


def ocsp_request(cert_id: CertId, nonce: bytes | None) -> bytes:
    """Return the DER of an OCSP request for one certificate (RFC 6960 §4.1).

    Args:
        cert_id: of the certificate, by SHA-1: the one hash that every responder knows.
        nonce: 1 to 32 bytes; None for a request without.
    """
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        cert_id.issuer_name_hash,
        cert_id.issuer_key_hash,
        cert_id.serial,
        hashes.SHA1(),  # noqa: S303 - names a certificate; nothing rests on it
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _by_sha1(pair: _Pair) -> CertId:
    (found,) = [each for each in cert_ids(pair[0].serial, pair[1]) if each.hash_name == "sha1"]
    return found


# --- what was asked, and what came ---------------------------------------------------------------


def _read_rim(wanted: RimId, name: str, xml: bytes) -> StoredRim:
    rim = parse_rim(xml)
    problem = wanted.problem_with(rim)
    if name != wanted.text or problem is not None:
        raise CollateralError(
            "service answered with another manifest",
            expected=wanted.text,
            found=problem or name,
        )
    return StoredRim(wanted.text, rim, xml)


def _read_ocsp(pair: _Pair, nonce: bytes | None, der: bytes) -> OcspResponse:
    response = parse_ocsp_response(der)
    if _single(pair, response) is None:
        raise CollateralError(
            "responder answered about another certificate", expected=_serial(pair[0])
        )
    if nonce is not None and response.nonce != nonce:
        raise CollateralError(
            "OCSP response does not carry the nonce of the request",
            expected=nonce.hex(),
            found=response.nonce.hex()[:80] if response.nonce else "no nonce",
            hint="it may be an old answer; to accept answers without: --no-ocsp-nonce",
        )
    return response


def _single(pair: _Pair, response: OcspResponse) -> OcspSingle | None:
    ids = cert_ids(pair[0].serial, pair[1])
    found = [each for each in response.responses if each.cert_id in ids]
    return found[0] if len(found) == 1 else None


def _serial(certificate: Certificate) -> str:
    return f"{certificate.subject_text} (serial {certificate.serial:X})"


def _signer_current(rim: Rim, now: datetime) -> bool:
    return all(each.not_before <= now <= each.not_after for each in rim.document.certificates)


@dataclass(slots=True)
class _Collection:
    """One call of `fetch_nvidia_collateral`."""

    session: Session
    cache: _Cache | None
    now: datetime
    with_nonce: bool

    async def run(
        self,
        wanted: Sequence[RimId],
        chains: Iterable[list[_Pair]],
        rim_root: TrustAnchor,
        with_ocsp: bool,
    ) -> NvidiaFetch:
        problems: list[CollateralError] = []
        answers: list[OcspResponse] = []
        async with self.session:
            rims = await self._rims(wanted, problems)
            if with_ocsp:
                signers = [_pairs(each.rim.document.certificates, rim_root) for each in rims]
                pairs = dict.fromkeys(pair for chain in [*chains, *signers] for pair in chain)
                answers = await self._answers(list(pairs), problems)
        manifests = NvidiaCollateral(RimSet(tuple(rims), {}))
        return NvidiaFetch(
            manifests.merged(NvidiaCollateral.of(revocation=answers)), tuple(problems)
        )

    async def _rims(
        self, wanted: Sequence[RimId], problems: list[CollateralError]
    ) -> list[StoredRim]:
        found = {rim_id: self._cached_rim(rim_id) for rim_id in wanted}
        missing = [
            rim_id
            for rim_id, stored in found.items()
            if stored is None or not _signer_current(stored.rim, self.now)
        ]
        items = [_rim_item(rim_id) for rim_id in missing]
        results = await self.session.fetch(items)
        for rim_id, item, result in zip(missing, items, results, strict=True):
            if isinstance(result, StoredRim):
                found[rim_id] = result
                self._keep(_rim_file(rim_id), result.xml)
            elif found[rim_id] is None:
                problems.append(_told(item.label, result))
        return [stored for stored in found.values() if stored is not None]

    async def _answers(
        self, pairs: Sequence[_Pair], problems: list[CollateralError]
    ) -> list[OcspResponse]:
        found = {_by_sha1(pair): self._cached_ocsp(pair) for pair in pairs}
        missing = [pair for pair in pairs if found[_by_sha1(pair)] is None]
        items = [_ocsp_item(pair, self._nonce()) for pair in missing]
        results = await self.session.fetch(items)
        for pair, item, result in zip(missing, items, results, strict=True):
            if isinstance(result, OcspResponse):
                found[_by_sha1(pair)] = result
                self._keep(_ocsp_file(pair), result.der)
            else:
                problems.append(_told(item.label, result))
        return [response for response in found.values() if response is not None]

    def _nonce(self) -> bytes | None:
        return secrets.token_bytes(NONCE_BYTES) if self.with_nonce else None

    def _keep(self, name: str, data: bytes) -> None:
        if self.cache is not None:
            self.cache.write(name, data)

    def _cached_rim(self, wanted: RimId) -> StoredRim | None:
        xml = self.cache and self.cache.read(_rim_file(wanted), MAX_XML_BYTES)
        with contextlib.suppress(CollateralError):
            return _read_rim(wanted, wanted.text, xml) if xml else None
        return None

    def _cached_ocsp(self, pair: _Pair) -> OcspResponse | None:
        der = self.cache and self.cache.read(_ocsp_file(pair), MAX_OCSP_BYTES)
        if not der:
            return None
        with contextlib.suppress(CollateralError):
            response = _read_ocsp(pair, None, der)
            single, now = _single(pair, response), self.now
            if (
                single is not None
                and single.next_update is not None
                and max(single.this_update, response.produced_at) <= now <= single.next_update
                and now - response.produced_at <= OCSP_CACHE_AGE
            ):
                return response
        return None


def _rim_item(wanted: RimId) -> Item[StoredRim]:
    def parse(body: bytes, _: Headers) -> StoredRim:
        return _read_rim(wanted, *parse_rim_response(body))

    # `RimId` admits nothing that would have to be escaped in a path.
    url = RIM_SERVICE + wanted.text
    return Item(f"manifest {wanted.text}", url, MAX_RESPONSE_BYTES, parse)


def _ocsp_item(pair: _Pair, nonce: bytes | None) -> Item[OcspResponse]:
    def parse(body: bytes, _: Headers) -> OcspResponse:
        return _read_ocsp(pair, nonce, body)

    request = ("application/ocsp-request", ocsp_request(_by_sha1(pair), nonce))
    label = f"OCSP response for {_serial(pair[0])}"
    return Item(label, OCSP_SERVICE, MAX_OCSP_BYTES, parse, request)


def _told(label: str, problem: object) -> CollateralError:
    """An error of one answer, to be told beside the others; anything else is raised."""
    if not isinstance(problem, CollateralError):
        assert isinstance(problem, BaseException)  # noqa: S101 - what `Session.fetch` returns
        raise problem
    if problem.message.startswith(label):
        return problem
    return CollateralError(
        f"{label}: {problem.message}",
        expected=problem.expected,
        found=problem.found,
        where=problem.where,
        hint=problem.hint,
    )


# --- the cache -----------------------------------------------------------------------------------


def _rim_file(wanted: RimId) -> str:
    return f"{wanted.text}.xml"


def _ocsp_file(pair: _Pair) -> str:
    cert_id = _by_sha1(pair)
    serial = f"{cert_id.serial:x}".encode()
    name = hashlib.sha256(cert_id.issuer_name_hash + cert_id.issuer_key_hash + serial)
    return f"ocsp-{name.hexdigest()[:40]}.der"


class _Cache:
    """A folder of files; what cannot be read is not there, what cannot be written is an error."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        try:
            os.makedirs(folder, exist_ok=True)
        except (OSError, ValueError) as problem:
            raise self._unusable(problem) from None

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the file's bytes; None for a link, something not a file, or one over `limit`."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(os.path.join(self._folder, name), flags), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return None
                data = file.read(limit + 1)
        except OSError:
            return None
        return data if len(data) <= limit else None

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is there as a whole or not at all."""
        temporary = os.path.join(self._folder, f".{secrets.token_hex(8)}")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.replace(temporary, os.path.join(self._folder, name))
        except OSError as problem:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise self._unusable(problem) from None

    def _unusable(self, problem: Exception) -> UsageError:
        return UsageError(
            "the cache folder cannot be used",
            expected="a folder that may be read and written",
            found=getattr(problem, "strerror", None) or str(problem),
            where=self._folder,
        )
