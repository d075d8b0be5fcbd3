"""What collateral the evidence named on a command line asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ccverify.cli.inputs import Inputs, Source, in_file
from ccverify.errors import EvidenceError
from ccverify.evidence import Evidence
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.interop.elements import MAX_DOCUMENT_BYTES
from ccverify.nvidia.needs import DeviceNeeds, device_needs
from ccverify.tdx.collect import CaName, PlatformName, platform_of_quote
from ccverify.tdx.quote import decode_quote_text, parse_quote

if TYPE_CHECKING:
    from ccverify.trust.store import TrustStore

__all__ = ["EVIDENCE", "Wanted", "read_wanted"]

EVIDENCE = Source(
    "evidence",
    MAX_DOCUMENT_BYTES,
    EvidenceError,
    "a TDX quote, or the answer of a service or tool as it came",
    may_be_empty=True,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Platforms of the quotes, and the devices, each once."""

    platforms: tuple[PlatformName, ...] = ()
    devices: tuple[DeviceNeeds, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to fetch."""
        return not (self.platforms or self.devices)

    @property
    def fmspcs(self) -> list[bytes]:
        """Platform families of the quotes."""
        return [platform.fmspc for platform in self.platforms]

    @property
    def cas(self) -> list[CaName]:
        """PCK CAs of the quotes."""
        return [platform.ca for platform in self.platforms]


def read_wanted(
    inputs: Inputs, paths: Iterable[str], device_paths: Iterable[str], trust: TrustStore
) -> Wanted:
    """Read evidence and say what it needs.

    Args:
        inputs: of the command.
        paths: evidence of any kind.
        device_paths: evidence of which the devices alone count.
        trust: whose device root a device's chain must lead to.

    Raises:
        UsageError: a file cannot be read.
        EvidenceError: a file is no evidence, or its platform or manifests are not stated in it;
            the error names the file.
    """
    platforms: list[PlatformName] = []
    devices: list[DeviceNeeds] = []
    wanted = [(path, True) for path in paths] + [(path, False) for path in device_paths]
    for path, with_quotes in wanted:
        data = inputs.read(path, EVIDENCE)
        with in_file(path):
            nodes = _nodes(data)
            for node in nodes:
                devices += device_needs(
                    node.gpus, node.switches, trust.nvidia_device_root, trust.memory
                )
                if with_quotes and node.quote:
                    quote = parse_quote(decode_quote_text(node.quote))
                    platforms.append(platform_of_quote(quote))
            if not with_quotes and not any(node.gpus or node.switches for node in nodes):
                raise EvidenceError(
                    "evidence holds no NVIDIA devices", expected="at least one GPU or NVSwitch"
                )
    return Wanted(tuple(dict.fromkeys(platforms)), tuple(dict.fromkeys(devices)))


def _nodes(data: bytes) -> tuple[Evidence, ...]:
    """The machines in a file: a bare quote is one of them."""
    if data[:1] == b"\0" or data[:4096].lstrip()[:1] in (b"{", b"["):
        return parse_foreign_evidence(data).nodes
    return (Evidence(quote=decode_quote_text(data)),)
