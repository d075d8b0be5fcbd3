"""Collateral of NVIDIA's devices: reference manifests, OCSP responses and CRLs, as one value.

Pure data: each is signed by NVIDIA and is verified where it is used, so nothing here is
believed because it is here.  Exactly the bytes that were served are kept, because signatures
cover bytes.  Format of the entries: docs/spec/collateral-pack.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ccverify.errors import CollateralError
from ccverify.nvidia.ocsp import OcspResponse, parse_ocsp_response
from ccverify.nvidia.revocation import RevocationSet
from ccverify.nvidia.rim import parse_rim
from ccverify.nvidia.rim_set import RimSet, StoredRim
from ccverify.pack_format import Entry, Members, base64_member, base64_text, text_member
from ccverify.trust.x509 import Crl, parse_crl

__all__ = [
    "MAX_NAME",
    "MAX_RIMS",
    "NVIDIA_ENTRIES",
    "NvidiaCollateral",
    "nvidia_entries",
    "parse_nvidia_entries",
]

MAX_RIMS: Final = 1024
"""Manifests in one `NvidiaCollateral`."""
MAX_NAME: Final = 200
"""Characters of the name a manifest is filed under."""

NVIDIA_ENTRIES: Final[Members] = {
    "rim": (frozenset({"name", "xml"}), frozenset()),
    "ocsp-response": (frozenset({"der"}), frozenset()),
    "nvidia-crl": (frozenset({"der"}), frozenset()),
}


_NO_RIMS: Final = RimSet((), {})
_NO_ANSWERS: Final = RevocationSet()


@dataclass(frozen=True)
class NvidiaCollateral:
    """Any number of manifests and answers about revocation; make it by `of` or `union`.

    Attributes:
        rims: reference manifests, each with the name it was filed under.
        revocation: OCSP responses and CRLs.
    """

    rims: RimSet = _NO_RIMS
    revocation: RevocationSet = _NO_ANSWERS

    @classmethod
    def of(
        cls,
        rims: Iterable[tuple[str, bytes]] = (),
        revocation: Iterable[OcspResponse | Crl] = (),
    ) -> NvidiaCollateral:
        """Collect manifests (name, XML) and answers; a manifest that does not parse is listed
        in `rims.unreadable`.

        Raises:
            CollateralError: over `MAX_RIMS` or `ccverify.nvidia.revocation.MAX_COLLATERAL`.
        """
        return cls(_unique_rims([RimSet.of(rims)]), _sorted(revocation))

    @cached_property
    def digest(self) -> str:
        """SHA-384 (hex) over all contents in whatever order; unreadable manifests have no part."""
        parts = [
            _hashed("rim", stored.xml, stored.name.encode("utf-8", "surrogatepass"))
            for stored in self.rims.rims
        ]
        parts += [_hashed("ocsp-response", each.der) for each in self.revocation.responses]
        parts += [_hashed("nvidia-crl", each.der) for each in self.revocation.crls]
        whole = b"ccverify/nvidia-collateral/v1" + b"".join(sorted(parts))
        return hashlib.sha384(whole).hexdigest()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it that could be used."""
        return not (self.rims.rims or self.revocation.responses or self.revocation.crls)

    @property
    def count(self) -> int:
        """How many artefacts there are."""
        revocation = self.revocation
        return len(self.rims.rims) + len(revocation.responses) + len(revocation.crls)

    @classmethod
    def union(cls, several: Iterable[NvidiaCollateral]) -> NvidiaCollateral:
        """All that is in any of them, each once; raises as `of`."""
        every = list(several)
        items: list[OcspResponse | Crl] = []
        for each in every:
            items += each.revocation.responses
            items += each.revocation.crls
        return cls(_unique_rims([each.rims for each in every]), _sorted(items))

    def merged(self, other: NvidiaCollateral) -> NvidiaCollateral:
        """All that is in both, each once; raises as `of`."""
        return NvidiaCollateral.union((self, other))


def _hashed(kind: str, body: bytes, name: bytes = b"") -> bytes:
    """SHA-384 of type, zero byte, SHA-384 of the body, and the name."""
    return hashlib.sha384(kind.encode() + b"\0" + hashlib.sha384(body).digest() + name).digest()


# Both are put in order, so that equal contents give equal verdicts wherever they come from.


def _sorted(items: Iterable[OcspResponse | Crl]) -> RevocationSet:
    """All answers, each once."""
    return RevocationSet.of(sorted(items, key=lambda item: item.der))


def _unique_rims(sets: Iterable[RimSet]) -> RimSet:
    """All manifests, each pair of name and content once."""
    stored: dict[tuple[str, bytes], StoredRim] = {}
    unreadable: dict[str, str] = {}
    for each in sets:
        unreadable.update(each.unreadable)
        for rim in each.rims:
            stored.setdefault((rim.name, rim.xml), rim)
    if len(stored) > MAX_RIMS:
        raise CollateralError(
            "too many reference manifests", expected=f"at most {MAX_RIMS}", found=str(len(stored))
        )
    return RimSet(tuple(stored[each] for each in sorted(stored)), dict(sorted(unreadable.items())))


# --- entries of a pack ---------------------------------------------------------------------------


def parse_nvidia_entries(entries: Iterable[tuple[str, Entry]]) -> NvidiaCollateral:
    """Read the entries of NVIDIA's types; others are passed over.

    Args:
        entries: from `ccverify.pack_format.pack_entries`.

    Raises:
        CollateralError: an entry is malformed, or there are too many.  A pack is written by a
            program, so unlike a folder it is refused as a whole for one bad manifest.
    """
    rims: list[StoredRim] = []
    answers: list[OcspResponse | Crl] = []
    for where, entry in entries:
        kind = entry["type"]
        if kind not in NVIDIA_ENTRIES:
            continue
        try:
            if kind == "rim":
                rims.append(_rim(entry, where))
                continue
            der = base64_member(entry, "der", where)
            if kind == "ocsp-response":
                answers.append(parse_ocsp_response(der))
            else:
                answers.append(parse_crl(der, CollateralError))
        except CollateralError as problem:
            raise _placed(problem, where) from None
    return NvidiaCollateral(_unique_rims([RimSet(tuple(rims), {})]), _sorted(answers))


def _rim(entry: Entry, where: str) -> StoredRim:
    name = _checked_name(text_member(entry, "name", where), f"{where}.name")
    xml = text_member(entry, "xml", where).encode("utf-8")
    return StoredRim(name, parse_rim(xml), xml)


def _checked_name(name: str, where: str) -> str:
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise CollateralError(
            "name of a reference manifest is not usable",
            expected=f"1 to {MAX_NAME} printable characters",
            found=repr(name[:80]),
            where=where,
        )
    return name


def _placed(problem: CollateralError, where: str) -> CollateralError:
    """The same error, saying which entry it is about."""
    inner = problem.where or ""
    return CollateralError(
        problem.message,
        expected=problem.expected,
        found=problem.found,
        where=inner if inner.startswith(where) else f"{where}: {inner}".removesuffix(": "),
        hint=problem.hint,
    )


def nvidia_entries(collateral: NvidiaCollateral) -> list[dict[str, str]]:
    """The entries of a pack that say all this; unreadable manifests are left out.

    Raises:
        CollateralError: the name of a manifest is no name for a pack.
    """
    entries = [_rim_entry(stored) for stored in collateral.rims.rims]
    entries += [
        {"type": "ocsp-response", "der": base64_text(response.der)}
        for response in collateral.revocation.responses
    ]
    entries += [
        {"type": "nvidia-crl", "der": base64_text(crl.der)} for crl in collateral.revocation.crls
    ]
    return entries


def _rim_entry(stored: StoredRim) -> dict[str, str]:
    name = _checked_name(stored.name, "reference manifest")
    # Whatever parsed as a manifest is UTF-8.
    return {"type": "rim", "name": name, "xml": stored.xml.decode("utf-8")}
