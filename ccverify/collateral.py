"""Collateral of both vendors in one file, and every kind of collateral file that is read.

A check takes Intel's and NVIDIA's collateral apart; people carry them together.  What a file is
shows in its content, never in its name.  Formats: docs/spec/collateral-pack.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from ccverify.errors import CollateralError
from ccverify.nvidia.collateral import (
    MAX_NAME,
    NVIDIA_ENTRIES,
    NvidiaCollateral,
    nvidia_entries,
    parse_nvidia_entries,
)
from ccverify.nvidia.ocsp import parse_ocsp_response
from ccverify.nvidia.rim import parse_rim
from ccverify.nvidia.rim_service import is_rim_response, read_rim_response
from ccverify.nvidia.rim_set import RimSet, StoredRim
from ccverify.pack_format import (
    MAX_ARTEFACTS,
    MAX_PACK_BYTES,
    PACK_SCHEMA,
    is_pack,
    pack_entries,
    serialize_entries,
    shape_of,
)
from ccverify.strict_json import parse_json
from ccverify.tdx.collateral import (
    TDX_ENTRIES,
    CollateralPack,
    PckCrl,
    RootCaCrl,
    is_quote_collateral_v3,
    parse_quote_collateral_v3,
    parse_tdx_entries,
    tdx_entries,
)
from ccverify.tdx.pcs import PLATFORM_CA, PROCESSOR_CA, ROOT_CA, decode_crl, names_ca
from ccverify.trust.der import ENUMERATED, SEQUENCE, read_tlv
from ccverify.trust.x509 import parse_crl

__all__ = [
    "KNOWN_FILES",
    "CollateralFile",
    "looks_like_crl",
    "looks_like_ocsp",
    "looks_like_rim",
    "parse_collateral_file",
    "serialize_collateral_file",
]

KNOWN_FILES: Final = (
    "a collateral pack, QuoteCollateralV3 JSON, a reference manifest (SWID XML, or the JSON of "
    "NVIDIA's RIM service), an OCSP response (DER) or a CRL (DER or PEM)"
)


_NO_INTEL: Final = CollateralPack()
_NO_NVIDIA: Final = NvidiaCollateral()


@dataclass(frozen=True)
class CollateralFile:
    """What Intel and what NVIDIA published; either may be empty."""

    intel: CollateralPack = _NO_INTEL
    nvidia: NvidiaCollateral = _NO_NVIDIA

    @classmethod
    def union(cls, files: Iterable[CollateralFile]) -> CollateralFile:
        """All that is in any of them, each artefact once.

        Raises:
            CollateralError: more than one value can hold (`NvidiaCollateral.of`).
        """
        every = list(files)
        intel = _NO_INTEL
        for each in every:
            if each.intel != _NO_INTEL:
                intel = intel.merged(each.intel)
        return cls(intel, NvidiaCollateral.union(each.nvidia for each in every))

    @property
    def count(self) -> int:
        """How many artefacts there are, PCK chains not counted."""
        return len(self.intel.artefacts) + self.nvidia.count

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it that could be used."""
        return not (self.count or self.intel.pck_chains)

    def merged(self, other: CollateralFile) -> CollateralFile:
        """All that is in both; raises as `union`."""
        return CollateralFile.union((self, other))


def looks_like_rim(data: bytes) -> bool:
    """Whether a file is meant to be XML, so a reference manifest."""
    return _start(data).startswith(b"<")


def looks_like_ocsp(data: bytes) -> bool:
    """Whether a file is meant to be an OCSP response: a SEQUENCE that opens with its status."""
    return _first_inside(data) == ENUMERATED


def looks_like_crl(data: bytes) -> bool:
    """Whether a file may be a CRL or certificate in DER, or is a CRL in PEM."""
    return _start(data).startswith(b"-----BEGIN X509 CRL") or _first_inside(data) == SEQUENCE


def _start(data: bytes) -> bytes:
    return data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()


def _first_inside(data: bytes) -> int | None:
    """The tag of the first element inside a DER SEQUENCE that is all of `data`."""
    try:
        tag, content, end = read_tlv(data, 0, CollateralError)
    except CollateralError:
        return None
    return content[0] if tag == SEQUENCE and end == len(data) and content else None


def parse_collateral_file(data: bytes, *, name: str | None = None) -> CollateralFile:
    """Parse any one file of collateral; nothing is verified here.

    Args:
        data: one of `KNOWN_FILES`.
        name: the name of the file, without folders: a VBIOS manifest filed under the id of one
            board is kept from others (`RimSet`).  None: what the manifest says of itself.

    Raises:
        CollateralError: none of these, malformed, or over a limit.
    """
    if len(data) > MAX_PACK_BYTES:
        raise CollateralError(
            "collateral is too large",
            expected=f"at most {MAX_PACK_BYTES} bytes",
            found=f"{len(data)} bytes",
        )
    data = bytes(data)
    if looks_like_rim(data):
        return _of_rim(name, data)
    if looks_like_ocsp(data):
        return CollateralFile(nvidia=NvidiaCollateral.of(revocation=[parse_ocsp_response(data)]))
    if looks_like_crl(data):
        return _of_crl(data)
    if not _start(data).startswith((b"{", b"[")):
        raise _unknown(repr(data[:24]) if data else "nothing")
    return _of_json(data)


def _of_json(data: bytes) -> CollateralFile:
    document: Any = parse_json(data, what="collateral", error=CollateralError, limit=MAX_PACK_BYTES)
    if is_pack(document):
        entries = pack_entries(document, {**TDX_ENTRIES, **NVIDIA_ENTRIES})
        return CollateralFile(parse_tdx_entries(entries), parse_nvidia_entries(entries))
    if is_quote_collateral_v3(document):
        return CollateralFile(parse_quote_collateral_v3(document))
    if is_rim_response(document):
        return _of_rim(*read_rim_response(document))
    raise _unknown(shape_of(document))


def _of_rim(name: str | None, xml: bytes) -> CollateralFile:
    rim = parse_rim(xml)
    # The end of a name is kept, because NVIDIA's ids stand there.
    shown = "".join(c if c.isprintable() else "?" for c in name or rim.title)[-MAX_NAME:]
    return CollateralFile(nvidia=NvidiaCollateral(RimSet((StoredRim(shown, rim, xml),), {})))


def _of_crl(data: bytes) -> CollateralFile:
    """Whose CRL it is, its issuer says; that is only for sorting, and is verified where used."""
    crl = parse_crl(decode_crl(data), CollateralError)
    if names_ca(crl.issuer, ROOT_CA):
        return CollateralFile(CollateralPack(root_ca_crls=(RootCaCrl.parse(crl.der, ()),)))
    if any(names_ca(crl.issuer, ca) for ca in (PLATFORM_CA, PROCESSOR_CA)):
        return CollateralFile(CollateralPack(pck_crls=(PckCrl.parse(crl.der, ()),)))
    return CollateralFile(nvidia=NvidiaCollateral.of(revocation=[crl]))


def _unknown(found: str) -> CollateralError:
    return CollateralError(
        "this is no collateral that is known",
        expected=KNOWN_FILES,
        found=found,
        hint=f'a pack has "schema": "{PACK_SCHEMA}"; to build one from saved responses: '
        "ccverify collateral pack",
    )


def serialize_collateral_file(file: CollateralFile) -> bytes:
    """Return a pack with all that is in `file`: the same bytes for the same contents.

    Unreadable manifests are left out.  Intel's artefacts alone give the same bytes as
    `serialize_collateral`.

    Raises:
        CollateralError: more than a pack may hold, or the name of a manifest cannot be written.
    """
    entries = [*tdx_entries(file.intel), *nvidia_entries(file.nvidia)]
    data = serialize_entries(entries)
    if len(entries) > MAX_ARTEFACTS or len(data) > MAX_PACK_BYTES:
        raise CollateralError(
            "this is more than one collateral pack may hold",
            expected=f"at most {MAX_ARTEFACTS} artefacts and {MAX_PACK_BYTES} bytes",
            found=f"{len(entries)} artefacts, {len(data)} bytes",
            hint="make several packs: --collateral may be repeated",
        )
    return data
