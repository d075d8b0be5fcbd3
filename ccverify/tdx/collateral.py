"""Collateral: what Intel publishes about platforms, gathered so that checking needs no network.

A `CollateralPack` may hold many platforms and several editions of each artefact; `select`
picks, for one PCK certificate and one evaluation time, the four artefacts a verifier needs.
Signed JSON is kept as the exact text that was served: signatures cover bytes, not values.

Formats read by `parse_collateral`: our own pack (docs/spec/collateral-pack.md) and the
``QuoteCollateralV3`` JSON of Intel's and Phala's libraries.  Raw PCS responses are read by
`ccverify.tdx.pcs`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Final, Self, TypeVar

from ccverify.clock_text import utc_text
from ccverify.errors import CollateralError
from ccverify.pack_format import (
    MAX_PACK_BYTES,
    PACK_SCHEMA,
    Entry,
    Members,
    base64_member,
    base64_text,
    hex_member,
    is_pack,
    pack_entries,
    serialize_entries,
    shape_of,
    text_member,
)
from ccverify.strict_json import parse_json
from ccverify.tdx.tcb_info import QeIdentity, TcbInfo, parse_qe_identity, parse_tcb_info
from ccverify.trust.x509 import Certificate, Crl, parse_crl, parse_pem_chain

__all__ = [
    "MAX_PACK_BYTES",
    "PACK_SCHEMA",
    "TDX_ENTRIES",
    "Artefact",
    "Collateral",
    "CollateralPack",
    "PckCrl",
    "RootCaCrl",
    "SignedQeIdentity",
    "SignedTcbInfo",
    "is_quote_collateral_v3",
    "parse_collateral",
    "parse_quote_collateral_v3",
    "parse_tdx_entries",
    "serialize_collateral",
    "tdx_entries",
]

Chain = tuple[Certificate, ...]


@dataclass(frozen=True)
class Artefact:
    """One thing Intel published and signed.

    Attributes:
        body: the exact signed text (JSON) or the whole DER (CRL).
        issuer_chain: certificates served with it, signer first; the root's CRL has none.
        issued: when it was issued.
        next_update: by when a newer edition is promised; None only in a CRL without one.
        edition: tcbEvaluationDataNumber or CRL number; a later one is never smaller.
    """

    kind: ClassVar[str]
    body: bytes
    issuer_chain: Chain
    issued: datetime
    next_update: datetime | None
    edition: int

    @cached_property
    def digest(self) -> str:
        """SHA-384 (hex) of `body`."""
        return hashlib.sha384(self.body).hexdigest()

    @cached_property
    def window(self) -> str:
        """The validity window, as text."""
        end = utc_text(self.next_update) if self.next_update else "an unstated time"
        return f"{utc_text(self.issued)} to {end}"

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """The artefact's entry in the inputs of a verdict."""
        return {
            "type": self.kind,
            "sha384": self.digest,
            "edition": self.edition,
            "issued": utc_text(self.issued),
            "next_update": utc_text(self.next_update) if self.next_update else None,
        }

    def current(self, now: datetime) -> bool:
        """Whether `now` lies inside the artefact's own window."""
        return self.issued <= now and self.next_update is not None and now <= self.next_update


@dataclass(frozen=True)
class SignedTcbInfo(Artefact):
    """TCB info; `signature` is r ‖ s over `body`, 64 bytes."""

    kind = "tcb-info"
    signature: bytes
    value: TcbInfo

    @classmethod
    def parse(cls, text: bytes, signature: bytes, chain: Chain) -> SignedTcbInfo:
        """Parse served text.  Raises CollateralError."""
        value = parse_tcb_info(text)
        window = (value.issue_date, value.next_update, value.evaluation_number)
        return cls(text, chain, *window, _signature(signature, cls.kind), value)


@dataclass(frozen=True)
class SignedQeIdentity(Artefact):
    """Identity of the TD quoting enclave; `signature` is r ‖ s over `body`, 64 bytes."""

    kind = "qe-identity"
    signature: bytes
    value: QeIdentity

    @classmethod
    def parse(cls, text: bytes, signature: bytes, chain: Chain) -> SignedQeIdentity:
        """Parse served text.  Raises CollateralError."""
        value = parse_qe_identity(text)
        window = (value.issue_date, value.next_update, value.evaluation_number)
        return cls(text, chain, *window, _signature(signature, cls.kind), value)


@dataclass(frozen=True)
class CrlArtefact(Artefact):
    """A certificate revocation list."""

    crl: Crl

    @classmethod
    def parse(cls, der: bytes, chain: Chain) -> Self:
        """Parse DER.  Raises CollateralError."""
        crl = parse_crl(der, CollateralError)
        return cls(crl.der, chain, crl.this_update, crl.next_update, crl.number or 0, crl)


@dataclass(frozen=True)
class PckCrl(CrlArtefact):
    """CRL of the PCK Platform or Processor CA, with that CA's chain."""

    kind = "pck-crl"


@dataclass(frozen=True)
class RootCaCrl(CrlArtefact):
    """CRL of the Intel SGX Root CA."""

    kind = "root-ca-crl"


def _signature(value: bytes, kind: str) -> bytes:
    if len(value) != 64:
        raise CollateralError(
            f"signature of the {kind} has the wrong length",
            expected="64 bytes, r then s",
            found=f"{len(value)} bytes",
        )
    return value


@dataclass(frozen=True)
class Collateral:
    """The artefacts chosen for one quote; None where the pack has none."""

    tcb_info: SignedTcbInfo | None
    qe_identity: SignedQeIdentity | None
    pck_crl: PckCrl | None
    root_ca_crl: RootCaCrl | None

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """Those that are present, in a fixed order."""
        chosen = (self.tcb_info, self.qe_identity, self.pck_crl, self.root_ca_crl)
        return tuple(artefact for artefact in chosen if artefact is not None)


_A = TypeVar("_A", bound=Artefact)
_T = TypeVar("_T")


@dataclass(frozen=True)
class CollateralPack:
    """Any number of artefacts, for any number of platforms and editions.

    `pck_chains` serve quotes that carry only a PPID; a chain inside the quote always wins.
    """

    tcb_infos: tuple[SignedTcbInfo, ...] = ()
    qe_identities: tuple[SignedQeIdentity, ...] = ()
    pck_crls: tuple[PckCrl, ...] = ()
    root_ca_crls: tuple[RootCaCrl, ...] = ()
    pck_chains: tuple[Chain, ...] = ()

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """Everything in the pack, in a fixed order."""
        return (*self.tcb_infos, *self.qe_identities, *self.pck_crls, *self.root_ca_crls)

    @cached_property
    def digest(self) -> str:
        """SHA-384 (hex) over all artefacts; their order in the file does not matter."""
        parts = []
        for artefact in self.artefacts:
            part = hashlib.sha384(artefact.kind.encode() + b"\0" + bytes.fromhex(artefact.digest))
            part.update(len(artefact.issuer_chain).to_bytes(2, "big"))
            for certificate in artefact.issuer_chain:
                part.update(certificate.sha256)
            part.update(getattr(artefact, "signature", b""))
            parts.append(part.digest())
        parts += [
            hashlib.sha384(b"pck-chain\0" + b"".join(c.sha256 for c in chain)).digest()
            for chain in self.pck_chains
        ]
        return hashlib.sha384(b"ccverify/collateral/v1" + b"".join(sorted(parts))).hexdigest()

    def select(self, fmspc: bytes, pck_issuer: bytes, now: datetime) -> Collateral:
        """Choose the newest edition that is valid at `now`; failing that, the newest of all.

        Args:
            fmspc: of the PCK certificate, 6 bytes.
            pck_issuer: DER of the PCK certificate's issuer name.
            now: evaluation time.
        """
        return Collateral(
            tcb_info=_newest([i for i in self.tcb_infos if i.value.fmspc == fmspc], now),
            qe_identity=_newest(self.qe_identities, now),
            pck_crl=_newest([c for c in self.pck_crls if c.crl.issuer == pck_issuer], now),
            root_ca_crl=_newest(self.root_ca_crls, now),
        )

    def merged(self, other: CollateralPack) -> CollateralPack:
        """Both packs' artefacts, each once."""
        return CollateralPack(
            _unique((*self.tcb_infos, *other.tcb_infos)),
            _unique((*self.qe_identities, *other.qe_identities)),
            _unique((*self.pck_crls, *other.pck_crls)),
            _unique((*self.root_ca_crls, *other.root_ca_crls)),
            _unique((*self.pck_chains, *other.pck_chains)),
        )


def _newest(candidates: Sequence[_A], now: datetime) -> _A | None:
    if len(candidates) == 1:
        return candidates[0]
    return max(
        candidates,
        # The last two only make the choice independent of the order in the file.
        key=lambda artefact: (
            artefact.current(now),
            artefact.edition,
            artefact.issued,
            artefact.digest,
            getattr(artefact, "signature", b""),
        ),
        default=None,
    )


def _unique(artefacts: tuple[_T, ...]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(artefacts))


def serialize_collateral(pack: CollateralPack) -> bytes:
    """Return the pack in its file format: UTF-8 JSON, the same bytes for the same contents."""
    return serialize_entries(tdx_entries(pack))


def tdx_entries(pack: CollateralPack) -> list[dict[str, str]]:
    """The entries of a pack file that say all that is in `pack`."""
    entries: list[dict[str, str]] = []
    for artefact in pack.artefacts:
        entry = {"type": artefact.kind}
        if isinstance(artefact, SignedTcbInfo | SignedQeIdentity):
            entry["body"] = artefact.body.decode("utf-8")
            entry["signature"] = artefact.signature.hex()
        else:
            entry["der"] = base64_text(artefact.body)
        if artefact.issuer_chain:
            entry["issuer_chain"] = _pem(artefact.issuer_chain)
        entries.append(entry)
    entries += [{"type": "pck-chain", "pem": _pem(chain)} for chain in pack.pck_chains]
    return entries


def parse_collateral(data: bytes) -> CollateralPack:
    """Parse a collateral pack of Intel's artefacts alone, or a ``QuoteCollateralV3`` JSON.

    `ccverify.collateral.parse_collateral_file` reads packs that hold NVIDIA's artefacts too.

    Raises:
        CollateralError: over `MAX_PACK_BYTES`, neither format, or an artefact is malformed.
            Nothing is verified here.
    """
    document = parse_json(data, what="collateral", error=CollateralError, limit=MAX_PACK_BYTES)
    if is_pack(document):
        return parse_tdx_entries(pack_entries(document, TDX_ENTRIES))
    if is_quote_collateral_v3(document):
        return parse_quote_collateral_v3(document)
    raise CollateralError(
        "this is neither a collateral pack nor QuoteCollateralV3 JSON",
        expected=f'an object with "schema": "{PACK_SCHEMA}", or with a "tcb_info" member',
        found=shape_of(document),
        hint="build a pack from raw Intel PCS responses with: ccverify collateral pack",
    )


_OF_SIGNED = (frozenset({"body", "signature"}), frozenset({"issuer_chain"}))
TDX_ENTRIES: Final[Members] = {
    "tcb-info": _OF_SIGNED,
    "qe-identity": _OF_SIGNED,
    "pck-crl": (frozenset({"der"}), frozenset({"issuer_chain"})),
    "root-ca-crl": (frozenset({"der"}), frozenset()),
    "pck-chain": (frozenset({"pem"}), frozenset()),
}


def parse_tdx_entries(entries: Iterable[tuple[str, Entry]]) -> CollateralPack:
    """Read the entries of Intel's types; others are passed over.

    Args:
        entries: from `ccverify.pack_format.pack_entries`.

    Raises:
        CollateralError: an entry is malformed.
    """
    lists: dict[str, list[Any]] = {kind: [] for kind in TDX_ENTRIES}
    for where, entry in entries:
        kind = entry["type"]
        if kind in lists:
            lists[kind].append(_parse_entry(kind, entry, where))
    pack = CollateralPack(
        tuple(lists["tcb-info"]),
        tuple(lists["qe-identity"]),
        tuple(lists["pck-crl"]),
        tuple(lists["root-ca-crl"]),
        tuple(lists["pck-chain"]),
    )
    return pack.merged(CollateralPack())  # which drops what is there twice


def _parse_entry(kind: str, entry: Entry, where: str) -> Artefact | Chain:
    chain = _chain(entry, "issuer_chain", where) if "issuer_chain" in entry else ()
    if kind == "pck-chain":
        return _chain(entry, "pem", where)
    if kind == "root-ca-crl":
        return RootCaCrl.parse(base64_member(entry, "der", where), ())
    if kind == "pck-crl":
        return PckCrl.parse(base64_member(entry, "der", where), chain)
    signed = SignedTcbInfo if kind == "tcb-info" else SignedQeIdentity
    text = text_member(entry, "body", where).encode("utf-8")
    return signed.parse(text, hex_member(entry, "signature", where), chain)


def is_quote_collateral_v3(document: object) -> bool:
    """Whether a JSON value is meant to be ``QuoteCollateralV3``."""
    return isinstance(document, dict) and "tcb_info" in document


def parse_quote_collateral_v3(document: dict[str, Any]) -> CollateralPack:
    """Read a ``QuoteCollateralV3`` object; raises CollateralError for what is malformed."""
    known = {
        "pck_crl_issuer_chain",
        "root_ca_crl",
        "pck_crl",
        "tcb_info_issuer_chain",
        "tcb_info",
        "tcb_info_signature",
        "qe_identity_issuer_chain",
        "qe_identity",
        "qe_identity_signature",
        "pck_certificate_chain",
    }
    where = "QuoteCollateralV3"
    if unknown := set(document) - known:
        raise CollateralError(
            "QuoteCollateralV3 has a member that is not understood",
            found=sorted(unknown)[0][:80],
            where=where,
        )
    tcb_info = SignedTcbInfo.parse(
        text_member(document, "tcb_info", where).encode("utf-8"),
        hex_member(document, "tcb_info_signature", where),
        _chain(document, "tcb_info_issuer_chain", where),
    )
    qe_identity = SignedQeIdentity.parse(
        text_member(document, "qe_identity", where).encode("utf-8"),
        hex_member(document, "qe_identity_signature", where),
        _chain(document, "qe_identity_issuer_chain", where),
    )
    pck_crl = PckCrl.parse(
        hex_member(document, "pck_crl", where), _chain(document, "pck_crl_issuer_chain", where)
    )
    root_ca_crl = RootCaCrl.parse(hex_member(document, "root_ca_crl", where), ())
    chains = (
        (_chain(document, "pck_certificate_chain", where),)
        if document.get("pck_certificate_chain")
        else ()
    )
    return CollateralPack((tcb_info,), (qe_identity,), (pck_crl,), (root_ca_crl,), chains)


def _pem(chain: Chain) -> str:
    blocks = []
    for certificate in chain:
        text = base64.b64encode(certificate.der).decode("ascii")
        lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        blocks.append(f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
    return "".join(blocks)


def _chain(entry: Entry, key: str, where: str) -> Chain:
    return parse_pem_chain(text_member(entry, key, where).encode("utf-8"), CollateralError)
