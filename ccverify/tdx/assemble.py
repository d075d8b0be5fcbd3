"""A heap of files, as people save them from Intel's service, made into one collateral pack.

Every file is recognised by its content.  Issuer chains come in response headers and so in
files of their own; which chain belongs to which artefact is found by its signature, not by
file names.  An artefact whose issuer is not in the heap is an error: it could never be used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ccverify.errors import CollateralError
from ccverify.strict_json import parse_json
from ccverify.tdx.collateral import (
    MAX_PACK_BYTES,
    Artefact,
    CollateralPack,
    PckCrl,
    RootCaCrl,
    SignedQeIdentity,
    SignedTcbInfo,
    parse_collateral,
)
from ccverify.tdx.pck import SGX_EXTENSION_OID
from ccverify.tdx.pcs import (
    ISSUER_CHAIN_HEADERS,
    PLATFORM_CA,
    PROCESSOR_CA,
    ROOT_CA,
    decode_crl,
    names_ca,
    parse_issuer_chain,
    parse_signed_object,
)
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import (
    Certificate,
    Crl,
    issue_problem,
    parse_certificate,
    parse_crl,
)

__all__ = ["Assembly", "assemble_collateral"]

Chain = tuple[Certificate, ...]
_Signed = SignedTcbInfo | SignedQeIdentity

_KINDS = (
    "a TCB info or QE identity response, a CRL (DER, PEM, hex), an issuer chain (PEM or as in "
    "the header), a recorded response, QuoteCollateralV3 JSON or a collateral pack"
)


@dataclass(frozen=True, slots=True)
class Assembly:
    """The pack, and the names of files that nothing in it came from."""

    pack: CollateralPack
    unused: tuple[str, ...]


@dataclass(slots=True)
class _Heap:
    """The files, sorted by what they are; each with the name it goes by in messages."""

    packs: list[CollateralPack] = field(default_factory=list)
    signed: list[tuple[str, _Signed]] = field(default_factory=list)
    crls: list[tuple[str, Crl]] = field(default_factory=list)
    chains: list[tuple[str, Chain]] = field(default_factory=list)
    memory: SignatureMemory = field(default_factory=SignatureMemory)

    def issuers(self) -> dict[Chain, None]:
        """Every chain that may be an artefact's issuer chain, each once."""
        chains = [chain for _, chain in self.chains]
        chains += [chain[1:] for chain in chains if _is_pck_chain(chain)]
        chains += [a.issuer_chain for pack in self.packs for a in pack.artefacts]
        return dict.fromkeys(chain for chain in chains if chain and not _is_pck_chain(chain))


def assemble_collateral(files: Iterable[tuple[str, bytes]]) -> Assembly:
    """Recognise each file by its content and build one pack of them all.

    Args:
        files: pairs of a name, for messages only, and the content.

    Raises:
        CollateralError: a file is not recognised or malformed, or the heap holds no chain
            whose first certificate signed an artefact.
    """
    heap = _Heap()
    for name, data in files:
        try:
            _sort_in(heap, name, bytes(data))
        except CollateralError as problem:
            raise CollateralError(
                problem.message,
                expected=problem.expected,
                found=problem.found,
                where=f"{name}: {problem.where}" if problem.where else name,
                hint=problem.hint,
            ) from None
    pack = _match(heap)
    for other in heap.packs:
        pack = pack.merged(other)
    used = {artefact.issuer_chain for artefact in pack.artefacts}.union(pack.pck_chains)
    useful = {name for name, chain in heap.chains if chain in used}
    unused = dict.fromkeys(name for name, _ in heap.chains if name not in useful)
    return Assembly(pack, tuple(unused))


def _sort_in(heap: _Heap, name: str, data: bytes) -> None:
    start = data[:4096].lstrip()
    if data[:2] in (b"\x03\0", b"\x04\0", b"\x05\0"):
        raise CollateralError(
            "this looks like a quote, not collateral",
            expected=_KINDS,
            hint="to get the collateral of a quote: ccverify collateral fetch",
        )
    if start.startswith(b"{"):
        _sort_json(heap, name, data)
    elif start.startswith(b"HTTP/"):
        _sort_headers(heap, name, _header_lines(data))
    elif b"BEGIN CERTIFICATE" in start or b"BEGIN%20CERTIFICATE" in start:
        heap.chains.append((name, parse_issuer_chain(data.strip())))
    else:
        _sort_der(heap, name, data)


def _sort_json(heap: _Heap, name: str, data: bytes) -> None:
    document = parse_json(data, what="JSON file", error=CollateralError, limit=MAX_PACK_BYTES)
    if "tcbInfo" in document or "enclaveIdentity" in document:
        signed = parse_signed_object(data)
        kind = SignedTcbInfo if signed.name == "tcbInfo" else SignedQeIdentity
        heap.signed.append((name, kind.parse(signed.text, signed.signature, ())))
    elif "schema" in document or "tcb_info" in document:
        heap.packs.append(parse_collateral(data))
    elif isinstance(document.get("headers"), dict):
        if document.get("status", 200) != 200:
            raise CollateralError(
                "recorded response is an error",
                expected="status 200",
                found=f"status {document['status']!r:.20}",
            )
        _sort_headers(heap, name, _recorded_headers(document["headers"]))
    else:
        raise CollateralError(
            "JSON of an unknown kind",
            expected=_KINDS,
            found=", ".join(map(str, document))[:160] or "no members",
        )


def _recorded_headers(headers: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in headers.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield name, item


def _header_lines(data: bytes) -> Iterable[tuple[str, str]]:
    for line in data.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


def _sort_headers(heap: _Heap, name: str, headers: Iterable[tuple[str, str]]) -> None:
    wanted = {header.lower() for header in ISSUER_CHAIN_HEADERS}
    heap.chains += [
        (name, parse_issuer_chain(value)) for key, value in headers if key.lower() in wanted
    ]


def _sort_der(heap: _Heap, name: str, data: bytes) -> None:
    try:
        der = decode_crl(data)
    except CollateralError as problem:
        raise CollateralError(
            "this is no collateral that is known", expected=_KINDS, found=problem.found
        ) from None
    try:
        heap.crls.append((name, parse_crl(der, CollateralError)))
    except CollateralError as problem:
        try:
            heap.chains.append((name, (parse_certificate(der, CollateralError),)))
        except CollateralError:
            raise problem from None


def _match(heap: _Heap) -> CollateralPack:
    """Give each loose artefact its issuer chain."""
    issuers = heap.issuers()
    missing: list[str] = []
    tcb_infos: list[SignedTcbInfo] = []
    qe_identities: list[SignedQeIdentity] = []
    pck_crls: list[PckCrl] = []
    root_ca_crls: list[RootCaCrl] = []
    for name, artefact in heap.signed:
        chain = _best([c for c in issuers if _signed_by(artefact, c[0], heap.memory)], artefact)
        if isinstance(artefact, SignedTcbInfo):
            tcb_infos.append(replace(artefact, issuer_chain=chain))
        else:
            qe_identities.append(replace(artefact, issuer_chain=chain))
        if not chain:
            missing.append(name)
    for name, crl in heap.crls:
        if names_ca(crl.issuer, ROOT_CA):
            root_ca_crls.append(RootCaCrl.parse(crl.der, ()))
            continue
        pck_crl = PckCrl.parse(crl.der, ())
        chain = _best([c for c in issuers if _issued_by(crl, c[0], heap.memory)], pck_crl)
        pck_crls.append(replace(pck_crl, issuer_chain=chain))
        if not chain:
            missing.append(name)
        elif not any(names_ca(crl.issuer, name) for name in (PLATFORM_CA, PROCESSOR_CA)):
            raise CollateralError(
                "CRL of a CA that has no part in TDX",
                expected="the PCK Platform CA, the PCK Processor CA or the root CA",
                where=name,
            )
    if missing:
        raise CollateralError(
            "no issuer chain among the files belongs to this artefact",
            expected="a chain whose first certificate signed it",
            found=f"{len(issuers)} other issuer chain(s)",
            where=", ".join(missing[:8]),
            hint="the service sends the chain in a response header "
            f"({', '.join(ISSUER_CHAIN_HEADERS)}): save it and name that file too",
        )
    pck_chains = tuple(chain for _, chain in heap.chains if _is_pck_chain(chain))
    pack = CollateralPack(
        tuple(tcb_infos), tuple(qe_identities), tuple(pck_crls), tuple(root_ca_crls), pck_chains
    )
    return pack.merged(CollateralPack())  # which drops what was given twice


def _is_pck_chain(chain: Chain) -> bool:
    return bool(chain) and SGX_EXTENSION_OID in chain[0].private_extensions


def _signed_by(artefact: _Signed, signer: Certificate, memory: SignatureMemory) -> bool:
    key = signer.public_key
    return key.curve == "P-256" and memory.verify_raw(key, artefact.signature, artefact.body)


def _issued_by(crl: Crl, ca: Certificate, memory: SignatureMemory) -> bool:
    return issue_problem(crl, ca.subject, ca.public_key, ca.subject_key_id, memory) is None


def _best(chains: list[Chain], artefact: Artefact) -> Chain:
    """Of several chains with the same key: valid at issue, the longest, valid for longest."""
    return max(
        chains,
        key=lambda chain: (
            chain[0].not_before <= artefact.issued <= chain[0].not_after,
            len(chain),
            chain[0].not_after,
            b"".join(certificate.der for certificate in chain),
        ),
        default=(),
    )
