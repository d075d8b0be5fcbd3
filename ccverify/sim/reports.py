"""Quote header, TD reports and SGX reports as dataclasses that encode themselves.

Sources: Intel TDX DCAP Quoting Library API, appendix A (quote format); Intel TDX module ABI,
TDREPORT.  The declaration of a class is its layout: fields follow each other in the order
of declaration, integers are little endian, and each `fixed` gives the length in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from ccverify.errors import UsageError

__all__ = [
    "INTEL_QE_VENDOR_ID",
    "TEE_SGX",
    "TEE_TDX",
    "QuoteHeader",
    "Record",
    "SgxReport",
    "TdReport10",
    "TdReport15",
    "TdReport15Ex",
]

TEE_SGX = 0x00
TEE_TDX = 0x81
INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

Part = tuple[str, bytes]
"""A dotted name and the bytes encoded under it."""

_T = TypeVar("_T", int, bytes)


def fixed(size: int, default: _T) -> _T:
    """Declare a field of `size` bytes; the default of a bytes field may be ``b""`` for zeros."""
    value: Any = default if isinstance(default, int) else default or bytes(size)
    return field(default=value, metadata={"size": size})  # type: ignore[no-any-return]


class Record:
    """Base of the fixed layouts; the subclass must be a dataclass of `fixed` fields."""

    __slots__ = ()

    def parts(self, prefix: str) -> list[Part]:
        """Return the fields in order, named ``prefix.field``.

        Raises:
            UsageError: a value does not fit its field.
        """
        named = [(own.name, own.metadata["size"]) for own in fields(self)]  # type: ignore[arg-type]
        return [
            (f"{prefix}.{name}", _encode(name, getattr(self, name), size)) for name, size in named
        ]

    def encode(self) -> bytes:
        """Return the encoding."""
        return b"".join(value for _, value in self.parts(""))


def _encode(name: str, value: int | bytes, size: int) -> bytes:
    if isinstance(value, int):
        try:
            return value.to_bytes(size, "little")
        except OverflowError as error:
            raise UsageError(
                f"{name} does not fit its field", expected=f"{size} bytes", found=str(value)
            ) from error
    if len(value) != size:
        raise UsageError(
            f"{name} has the wrong length",
            expected=f"{size} bytes",
            found=f"{len(value)} bytes",
            hint="to make a quote of the wrong length, use BuiltQuote.splice or truncate",
        )
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteHeader(Record):
    """The 48-byte quote header.  In version 3, `tee_type` is reserved and zero."""

    version: int = fixed(2, 4)
    attestation_key_type: int = fixed(2, 2)
    tee_type: int = fixed(4, TEE_TDX)
    qe_svn: int = fixed(2, 0)
    pce_svn: int = fixed(2, 0)
    qe_vendor_id: bytes = fixed(16, INTEL_QE_VENDOR_ID)
    user_data: bytes = fixed(20, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxReport(Record):
    """An SGX report body, 384 bytes: the QE's own, or the enclave's in an SGX quote."""

    BODY_TYPE: ClassVar[int] = 1

    cpu_svn: bytes = fixed(16, b"")
    misc_select: int = fixed(4, 0)
    reserved1: bytes = fixed(12, b"")
    isv_ext_prod_id: bytes = fixed(16, b"")
    attributes: bytes = fixed(16, bytes.fromhex("1500000000000000e700000000000000"))
    mr_enclave: bytes = fixed(32, b"")
    reserved2: bytes = fixed(32, b"")
    mr_signer: bytes = fixed(32, b"")
    reserved3: bytes = fixed(32, b"")
    config_id: bytes = fixed(64, b"")
    isv_prod_id: int = fixed(2, 2)
    isv_svn: int = fixed(2, 0)
    config_svn: int = fixed(2, 0)
    reserved4: bytes = fixed(42, b"")
    isv_family_id: bytes = fixed(16, b"")
    report_data: bytes = fixed(64, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport10(Record):
    """A TD 1.0 report, 584 bytes, body type 2."""

    BODY_TYPE: ClassVar[int] = 2

    tee_tcb_svn: bytes = fixed(16, b"")
    mr_seam: bytes = fixed(48, b"")
    mr_signer_seam: bytes = fixed(48, b"")
    seam_attributes: int = fixed(8, 0)
    td_attributes: int = fixed(8, 0x10000000)  # SEPT_VE_DISABLE
    xfam: int = fixed(8, 0x602E7)
    mr_td: bytes = fixed(48, b"")
    mr_config_id: bytes = fixed(48, b"")
    mr_owner: bytes = fixed(48, b"")
    mr_owner_config: bytes = fixed(48, b"")
    rtmr0: bytes = fixed(48, b"")
    rtmr1: bytes = fixed(48, b"")
    rtmr2: bytes = fixed(48, b"")
    rtmr3: bytes = fixed(48, b"")
    report_data: bytes = fixed(64, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport15(TdReport10):
    """A TD 1.5 report, 648 bytes, body type 3: adds the module now loaded and service TDs."""

    BODY_TYPE: ClassVar[int] = 3

    tee_tcb_svn2: bytes = fixed(16, b"")
    mr_service_td: bytes = fixed(48, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport15Ex(TdReport15):
    """A TD 1.5 extended report, 885 bytes, body type 4."""

    BODY_TYPE: ClassVar[int] = 4

    vmid: int = fixed(1, 0)
    td_id: bytes = fixed(32, b"")
    dev_info: bytes = fixed(48, b"")
    init_servtd_hash: bytes = fixed(48, b"")
    init_servtd_attr: int = fixed(8, 0)
    init_cpusvn: bytes = fixed(16, b"")
    init_tee_tcb_svn: bytes = fixed(16, b"")
    init_tee_fmspc: bytes = fixed(12, b"")
    cur_servtd_hash: bytes = fixed(48, b"")
    cur_servtd_attr: int = fixed(8, 0)
