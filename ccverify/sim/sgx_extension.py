"""The SGX extension of a PCK certificate, OID 1.2.840.113741.1.13.1.

Source: Intel, "SGX PCK Certificate and CRL Profile Specification" 1.5, section 1.3.5.
"""

from __future__ import annotations

from dataclasses import dataclass

from ccverify.sim import der
from ccverify.sim.certs import Extension

__all__ = ["SGX_EXTENSION", "PckConfiguration", "SgxExtension", "encode_items"]

SGX_EXTENSION = "1.2.840.113741.1.13.1"

Item = tuple[str, bytes]
"""OID in dotted form and the DER of its value."""


def encode_items(items: tuple[Item, ...]) -> bytes:
    """Return SEQUENCE OF SEQUENCE { OID, value }, the shape used at every level."""
    return der.sequence(*(der.sequence(der.object_identifier(oid), value) for oid, value in items))


@dataclass(frozen=True, slots=True)
class PckConfiguration:
    """Platform configuration, OID .7: three booleans (only Platform CA certificates)."""

    dynamic_platform: bool = True
    cached_keys: bool = True
    smt_enabled: bool = True

    def items(self) -> tuple[Item, ...]:
        """Return the three members .7.1 to .7.3."""
        flags = (self.dynamic_platform, self.cached_keys, self.smt_enabled)
        return tuple(
            (f"{SGX_EXTENSION}.7.{number}", der.boolean(flag))
            for number, flag in enumerate(flags, start=1)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxExtension:
    """What a PCK certificate says about its platform.

    Attributes:
        ppid: 16 bytes.
        component_svns: honest certificates have 16; the first 16 become .2.1 to .2.16, any
            further ones .2.19 and up, because .2.17 and .2.18 are taken.
        pcesvn: PCE SVN, .2.17.
        cpusvn: 16 bytes, .2.18.
        pce_id: 2 bytes, .3.
        fmspc: 6 bytes, .4.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity, .5.
        platform_instance_id: 16 bytes, .6, or None (Processor CA).
        configuration: .7, or None (Processor CA).
    """

    ppid: bytes
    component_svns: tuple[int, ...]
    pcesvn: int
    cpusvn: bytes
    pce_id: bytes
    fmspc: bytes
    sgx_type: int = 1
    platform_instance_id: bytes | None = None
    configuration: PckConfiguration | None = None

    def tcb_items(self) -> tuple[Item, ...]:
        """Return the members of .2: component SVNs, PCESVN, CPUSVN."""
        base = f"{SGX_EXTENSION}.2"
        svns = [der.integer(svn) for svn in self.component_svns]
        components = [(f"{base}.{i}", svn) for i, svn in enumerate(svns[:16], start=1)]
        surplus = [(f"{base}.{i}", svn) for i, svn in enumerate(svns[16:], start=19)]
        return (
            *components,
            (f"{base}.17", der.integer(self.pcesvn)),
            (f"{base}.18", der.octet_string(self.cpusvn)),
            *surplus,
        )

    def items(self) -> tuple[Item, ...]:
        """Return the members .1 to .7, for `encode_items`."""
        base = SGX_EXTENSION
        items: list[Item] = [
            (f"{base}.1", der.octet_string(self.ppid)),
            (f"{base}.2", encode_items(self.tcb_items())),
            (f"{base}.3", der.octet_string(self.pce_id)),
            (f"{base}.4", der.octet_string(self.fmspc)),
            (f"{base}.5", der.enumerated(self.sgx_type)),
        ]
        if self.platform_instance_id is not None:
            items.append((f"{base}.6", der.octet_string(self.platform_instance_id)))
        if self.configuration is not None:
            items.append((f"{base}.7", encode_items(self.configuration.items())))
        return tuple(items)

    def extension(self) -> Extension:
        """Return the certificate extension (not critical, as Intel issues it)."""
        return Extension(SGX_EXTENSION, False, encode_items(self.items()))
