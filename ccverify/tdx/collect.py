"""Collateral over the network: Intel's provisioning certification service, or a PCCS.

The only module for TDX that touches the network.  What it fetches is signed by Intel and is
judged where it is used, so the transport need not be trusted: plain ``http`` to a caching
service loses privacy, and lets somebody answer with older editions that are still valid, which
a policy's minimum evaluation number and maximum age stand against.  Where TLS is used its
certificates are always verified.

- No URL comes out of evidence or out of a certificate: hosts are the caller's base URL and,
  for Intel's service, one constant for the root CA's CRL.
- How one URL is fetched, and what is refused, is in `ccverify.http_get`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

from ccverify.errors import CollateralError, EvidenceError, UsageError
from ccverify.online import Headers, Item, Progress, Session, raise_first, require_online
from ccverify.strict_json import MAX_JSON_BYTES
from ccverify.tdx.collateral import (
    Artefact,
    CollateralPack,
    PckCrl,
    RootCaCrl,
    SignedQeIdentity,
    SignedTcbInfo,
)
from ccverify.tdx.pck import parse_pck_platform
from ccverify.tdx.pcs import (
    PLATFORM_CA,
    PROCESSOR_CA,
    decode_crl,
    names_ca,
    parse_pck_crl_response,
    parse_qe_identity_response,
    parse_root_ca_crl_response,
    parse_tcb_info_response,
)
from ccverify.tdx.quote import CertificationDataType, Quote
from ccverify.trust.x509 import MAX_CRL_BYTES, parse_crl, parse_pem_chain

if TYPE_CHECKING:
    import httpx

__all__ = [
    "INTEL_PCS",
    "INTEL_ROOT_CA_CRL",
    "CaName",
    "PlatformName",
    "Progress",
    "fetch_collateral",
    "platform_of_quote",
]

INTEL_PCS = "https://api.trustedservices.intel.com"
INTEL_ROOT_CA_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

_MAX_FMSPCS = 256
_AT_ONCE = 8
_CA_NAMES = {"platform": PLATFORM_CA, "processor": PROCESSOR_CA}
_STATUS_HINTS = {
    400: "the service does not understand the request: is the FMSPC right?",
    404: "the service has nothing on this FMSPC or evaluation number; a PCCS may need a refresh",
    410: "Intel no longer serves this TCB evaluation data number; take a later one",
}
_SERVICE_PATHS = ("/sgx/certification/v4", "/tdx/certification/v4")

CaName = Literal["platform", "processor"]
Update = Literal["standard", "early"]


@dataclass(frozen=True, slots=True)
class PlatformName:
    """What has to be known of a platform to fetch its collateral: FMSPC (6 bytes) and CA."""

    fmspc: bytes
    ca: CaName


def platform_of_quote(quote: Quote) -> PlatformName:
    """Read FMSPC and PCK CA out of the PCK certificate inside a quote; nothing is verified.

    Raises:
        EvidenceError: the quote carries no PCK certificate, or a malformed one.
    """
    kinds = (CertificationDataType.PCK_CERT_CHAIN, CertificationDataType.PCK_LEAF)
    if quote.certification_data_type not in kinds:
        raise EvidenceError(
            "quote carries no PCK certificate, so its FMSPC is unknown",
            expected="certification data of type 4 or 5",
            found=f"type {quote.certification_data_type:d}",
            hint="give the FMSPC itself: --fmspc HEX",
        )
    leaf = parse_pem_chain(quote.certification_data)[0]
    ca: CaName = "processor" if names_ca(leaf.issuer, PROCESSOR_CA) else "platform"
    return PlatformName(parse_pck_platform(leaf).fmspc, ca)


def fetch_collateral(
    fmspcs: Iterable[bytes],
    *,
    base_url: str = INTEL_PCS,
    root_crl_url: str | None = None,
    update: Update = "standard",
    tcb_evaluation_data_number: int | None = None,
    ca: Iterable[CaName] = ("platform",),
    proxy: str | None = None,
    timeout: float = 30.0,
    retries: int = 3,
    client: httpx.AsyncClient | None = None,
    progress: Progress | None = None,
) -> CollateralPack:
    """Fetch everything needed to judge quotes of some platform families.

    Nothing is verified here: see `ccverify.tdx.collateral_report.appraise_pack`.

    Args:
        fmspcs: 6 bytes each.
        base_url: Intel's service or a PCCS, with or without ``/sgx/certification/v4/``.
        root_crl_url: of the root CA's CRL; None for Intel's file, or PCCS's ``rootcacrl``.
        update: ``early`` for the next TCB set before it becomes the standard one.
        tcb_evaluation_data_number: exactly this TCB set, instead of `update`.
        ca: which PCK CAs' CRLs to fetch.
        proxy: URL of a proxy; None for what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.
        timeout: seconds for each attempt as a whole, headers and body.
        retries: how often to try again after status 429, 5xx or a timeout.
        client: to be used instead of one made here; its own proxy and TLS settings hold.
        progress: called after each answer.

    Raises:
        CollateralError: not to be had: the extra ``online`` is missing, no connection, an
            error status, an answer too large, malformed, or about something else.
        UsageError: an argument is impossible, or this thread runs an event loop already.
    """
    require_online(
        "fetch_collateral",
        "build a pack from saved files with: ccverify collateral pack",
        timeout=timeout,
        retries=retries,
    )
    base = _base_url(base_url)
    items = [
        *_signed_items(base, fmspcs, update, tcb_evaluation_data_number),
        *_crl_items(base, ca, root_crl_url),
    ]
    session = Session(client, proxy, timeout, retries, progress, _STATUS_HINTS, _AT_ONCE)
    artefacts = asyncio.run(_fetch_all(items, session))
    return CollateralPack(
        tuple(a for a in artefacts if isinstance(a, SignedTcbInfo)),
        tuple(a for a in artefacts if isinstance(a, SignedQeIdentity)),
        tuple(a for a in artefacts if isinstance(a, PckCrl)),
        tuple(a for a in artefacts if isinstance(a, RootCaCrl)),
    )


async def _fetch_all(items: list[Item[Artefact]], session: Session) -> list[Artefact]:
    async with session:
        results = await session.fetch(items)
    return raise_first(results)


# What to fetch -------------------------------------------------------------------------


def _base_url(text: str) -> str:
    parts = _web_url(text, "base URL")
    path = parts.path.rstrip("/")
    for service in _SERVICE_PATHS:
        path = path.removesuffix(service)
    return urlunsplit((parts.scheme, parts.netloc, path.rstrip("/"), "", ""))


def _web_url(text: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(
            f"{what} is not a web address",
            expected="https://host[:port][/path]",
            found=repr(text)[:120],
        )
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(
            f"{what} has a query, a fragment or credentials in it",
            expected="https://host[:port][/path]",
            hint="a program can pass its own client, with whatever credentials it needs",
        )
    return parts


def _signed_items(
    base: str, fmspcs: Iterable[bytes], update: Update, number: int | None
) -> list[Item[Artefact]]:
    if update not in ("standard", "early"):
        raise UsageError("unknown update channel", expected="standard or early", found=repr(update))
    if number is not None and update == "early":
        raise UsageError("give an evaluation number or the early channel, not both")
    if number is not None and not 0 < number <= 0xFFFFFFFF:
        raise UsageError("evaluation number is out of range", found=str(number))
    wanted = list(dict.fromkeys(fmspcs))
    if not wanted or len(wanted) > _MAX_FMSPCS or any(len(fmspc) != 6 for fmspc in wanted):
        raise UsageError(
            "FMSPCs are missing or malformed",
            expected=f"1 to {_MAX_FMSPCS} of 6 bytes each",
            found=", ".join(fmspc.hex() for fmspc in wanted[:4]) or "none",
        )
    choice: dict[str, str] = {}
    if number is not None:
        choice["tcbEvaluationDataNumber"] = str(number)
    elif update == "early":  # the standard channel is the default, and older PCCS know no other
        choice["update"] = update
    service = f"{base}/tdx/certification/v4"
    items = []
    for fmspc in wanted:
        query = urlencode({"fmspc": fmspc.hex().upper(), **choice})

        def parse(body: bytes, headers: Headers, fmspc: bytes = fmspc) -> Artefact:
            artefact = parse_tcb_info_response(body, headers)
            _require_same("FMSPC", fmspc.hex().upper(), artefact.value.fmspc.hex().upper())
            return _of_set(artefact, number)

        label = f"TCB info {fmspc.hex().upper()}"
        items.append(Item(label, f"{service}/tcb?{query}", MAX_JSON_BYTES, parse))
    url = f"{service}/qe/identity" + (f"?{urlencode(choice)}" if choice else "")
    items.append(
        Item(
            "QE identity",
            url,
            MAX_JSON_BYTES,
            lambda body, headers: _of_set(parse_qe_identity_response(body, headers), number),
        )
    )
    return items


def _crl_items(base: str, cas: Iterable[CaName], root_crl_url: str | None) -> list[Item[Artefact]]:
    service = f"{base}/sgx/certification/v4"
    limit = 2 * MAX_CRL_BYTES  # PCCS serves hex
    items = []
    for ca in dict.fromkeys(cas):
        if ca not in ("platform", "processor"):
            raise UsageError("unknown PCK CA", expected="platform or processor", found=repr(ca))
        query = urlencode({"ca": ca, "encoding": "der"})

        def parse(body: bytes, headers: Headers, ca: CaName = ca) -> Artefact:
            issuer = parse_crl(decode_crl(body), CollateralError).issuer
            found = [name for name, full in _CA_NAMES.items() if names_ca(issuer, full)]
            _require_same("PCK CA", ca, "".join(found) or "another CA")
            return parse_pck_crl_response(body, headers)

        items.append(Item(f"PCK CRL ({ca} CA)", f"{service}/pckcrl?{query}", limit, parse))
    if root_crl_url is not None:
        root_url = urlunsplit(_web_url(root_crl_url, "root CRL URL"))
    elif base == INTEL_PCS:
        root_url = INTEL_ROOT_CA_CRL
    else:
        root_url = f"{service}/rootcacrl"
    items.append(
        Item("root CA CRL", root_url, limit, lambda body, _: parse_root_ca_crl_response(body))
    )
    return items


def _of_set(artefact: Artefact, number: int | None) -> Artefact:
    if number is not None:
        _require_same("TCB evaluation data number", str(number), str(artefact.edition))
    return artefact


def _require_same(what: str, expected: str, found: str) -> None:
    if expected != found:
        raise CollateralError(
            f"service answered for another {what}",
            expected=expected,
            found=found,
            hint="a caching service may not know the request's parameters; ask Intel's directly",
        )
