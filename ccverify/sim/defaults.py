"""The fictitious platform model: its TCB levels, TDX modules, quoting enclave and boot log.

The levels form a ladder with one rung per status, so that a platform gets a status by the
microcode SVN it carries.  The shape (categories, types, order, several module identities) is
that of real TCB infos; the FMSPC and the advisory numbers belong to nothing real.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ccverify.errors import UsageError
from ccverify.sim.collateral import (
    SGX_COMPONENT_KINDS,
    TDX_COMPONENT_KINDS,
    ModuleIdentity,
    QeIdentity,
    SvnLevel,
    TcbInfo,
    TcbLevel,
    components,
)
from ccverify.sim.eventlog import CcelEvent, DstackEvent

__all__ = [
    "DEFAULT_BOOT_EVENTS",
    "DEFAULT_COMPOSE",
    "DEFAULT_TIME",
    "FMSPC",
    "LADDER",
    "PCESVN",
    "QE_MR_SIGNER",
    "Rung",
    "component_svns",
    "default_qe_identity",
    "default_tcb_info",
    "dstack_events",
    "dstack_mr_config_id",
    "rung",
    "tee_tcb_svn",
]

DEFAULT_TIME = datetime(2026, 6, 15, 12, 0, 0, tzinfo=UTC)
"""A time at which everything made with defaults is valid."""

FMSPC = b"SIM\0\0\0"
PCE_ID = bytes(2)
PCESVN = 13
EVALUATION_DATA_NUMBER = 20
MODULE_MAJOR = 1
MODULE_SVN = 6
QE_ISV_SVN = 6
QE_MR_SIGNER = hashlib.sha256(b"ccverify simulation: TD QE signer").digest()
QE_MR_ENCLAVE = hashlib.sha256(b"ccverify simulation: TD QE").digest()
MR_SEAM = hashlib.sha384(b"ccverify simulation: TDX module 1").digest()
MR_TD = hashlib.sha384(b"ccverify simulation: TD firmware").digest()


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rung:
    """One platform level: met from this microcode SVN upwards."""

    status: str
    microcode: int
    tcb_date: datetime
    advisory_ids: tuple[str, ...] = ()


LADDER: tuple[Rung, ...] = (
    Rung("UpToDate", 9, _day(2025, 11, 12)),
    Rung("SWHardeningNeeded", 8, _day(2025, 8, 13), ("INTEL-SA-99008",)),
    Rung("ConfigurationNeeded", 7, _day(2025, 5, 14), ("INTEL-SA-99007",)),
    Rung(
        "ConfigurationAndSWHardeningNeeded",
        6,
        _day(2025, 2, 12),
        ("INTEL-SA-99007", "INTEL-SA-99008"),
    ),
    Rung("OutOfDate", 5, _day(2024, 11, 13), ("INTEL-SA-99005",)),
    Rung(
        "OutOfDateConfigurationNeeded",
        4,
        _day(2024, 3, 13),
        ("INTEL-SA-99005", "INTEL-SA-99007"),
    ),
    Rung("Revoked", 3, _day(2023, 8, 9), ("INTEL-SA-99003",)),
)


def rung(status: str) -> Rung:
    """Return the rung of a status.

    Raises:
        UsageError: the ladder has no such rung.
    """
    for own in LADDER:
        if own.status == status:
            return own
    names = ", ".join(own.status for own in LADDER)
    raise UsageError("the default ladder has no such status", expected=names, found=status)


def component_svns(microcode: int) -> tuple[int, ...]:
    """Return the 16 SGX component SVNs of a platform with this microcode SVN."""
    return (microcode, microcode, 2, 2, 4, 1, 0, 5) + (0,) * 8


def tee_tcb_svn(
    microcode: int, *, module_svn: int = MODULE_SVN, module_major: int = MODULE_MAJOR
) -> bytes:
    """Return the 16 bytes of TEE_TCB_SVN: module minor SVN, major version, microcode SVN."""
    return bytes((module_svn, module_major, microcode)) + bytes(13)


def _level(own: Rung) -> TcbLevel:
    return TcbLevel(
        sgx_components=components(component_svns(own.microcode), SGX_COMPONENT_KINDS),
        pcesvn=PCESVN,
        # The module bytes 0 and 1 count only for a module of major version 0.
        tdx_components=components((5, 0, own.microcode) + (0,) * 13, TDX_COMPONENT_KINDS),
        tcb_date=own.tcb_date,
        status=own.status,
        advisory_ids=own.advisory_ids,
    )


def _module(number: int, *svns: int) -> ModuleIdentity:
    """Return a module identity whose first SVN is up to date and whose others are not."""
    best, *older = svns
    return ModuleIdentity(
        id=f"TDX_{number:02X}",
        levels=(
            SvnLevel(isvsvn=best, tcb_date=_day(2025, 11, 12), status="UpToDate"),
            *(
                SvnLevel(
                    isvsvn=svn,
                    tcb_date=_day(2024, 3, 13),
                    status="OutOfDate",
                    advisory_ids=("INTEL-SA-99001",),
                )
                for svn in older
            ),
        ),
    )


def default_tcb_info(at: datetime, *, fmspc: bytes = FMSPC, pce_id: bytes = PCE_ID) -> TcbInfo:
    """Return the TCB info in force at `at`: issued 3 days before, good for 30 days."""
    issued = at - timedelta(days=3)
    return TcbInfo(
        fmspc=fmspc,
        pce_id=pce_id,
        issue_date=issued,
        next_update=issued + timedelta(days=30),
        levels=tuple(_level(own) for own in LADDER),
        module=ModuleIdentity(),
        module_identities=(_module(3, 5, 3), _module(1, 6, 4, 2)),
        tcb_evaluation_data_number=EVALUATION_DATA_NUMBER,
    )


def default_qe_identity(at: datetime) -> QeIdentity:
    """Return the QE identity in force at `at`: issued 60 hours before, good for 30 days."""
    issued = at - timedelta(hours=60)
    return QeIdentity(
        issue_date=issued,
        next_update=issued + timedelta(days=30),
        mrsigner=QE_MR_SIGNER,
        levels=(
            SvnLevel(isvsvn=QE_ISV_SVN, tcb_date=_day(2025, 11, 12), status="UpToDate"),
            SvnLevel(
                isvsvn=4,
                tcb_date=_day(2024, 3, 13),
                status="OutOfDate",
                advisory_ids=("INTEL-SA-99002",),
            ),
        ),
        tcb_evaluation_data_number=EVALUATION_DATA_NUMBER,
    )


# --- boot log -----------------------------------------------------------------------------

_GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
_IMAGE_SECURITY = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
_RTMR0, _RTMR1, _RTMR2 = 1, 2, 3  # CC measurement register indices
_SEPARATOR = 0x00000004
_PLATFORM_CONFIG_FLAGS = 0x0000000A
_IPL = 0x0000000D
_VARIABLE_DRIVER_CONFIG = 0x80000001
_VARIABLE_BOOT = 0x80000002
_BOOT_SERVICES_APPLICATION = 0x80000003
_GPT = 0x80000006
_ACTION = 0x80000007
_FIRMWARE_BLOB2 = 0x8000000A
_HANDOFF_TABLES2 = 0x8000000B


def _variable(guid: bytes, name: str, value: bytes) -> bytes:
    """Return UEFI_VARIABLE_DATA: GUID, name length in characters, value length, both."""
    encoded = name.encode("utf-16-le")
    return guid + struct.pack("<QQ", len(name), len(value)) + encoded + value


def _secure_boot(name: str, value: bytes, guid: bytes = _GLOBAL_VARIABLE) -> CcelEvent:
    return CcelEvent(_RTMR0, _VARIABLE_DRIVER_CONFIG, _variable(guid, name, value))


def _measured(register: int, kind: int, data: bytes, image: bytes) -> CcelEvent:
    """Return an event whose digest is that of an image the log does not carry."""
    return CcelEvent(register, kind, data, hashlib.sha384(image).digest())


DEFAULT_BOOT_EVENTS: tuple[CcelEvent, ...] = (
    _measured(_RTMR0, _HANDOFF_TABLES2, b"\x09TdxTable\0" + struct.pack("<Q", 1), b"TD HOB"),
    _measured(
        _RTMR0,
        _FIRMWARE_BLOB2,
        b"\x05CFV\0\0" + struct.pack("<QQ", 0xFFE00000, 0x20000),
        b"CFV",
    ),
    _secure_boot("SecureBoot", b"\x01"),
    _secure_boot("PK", b"simulated platform key"),
    _secure_boot("KEK", b"simulated key exchange key"),
    _secure_boot("db", b"simulated signature database", _IMAGE_SECURITY),
    _secure_boot("dbx", b"", _IMAGE_SECURITY),
    CcelEvent(_RTMR0, _SEPARATOR, bytes(4)),
    _measured(_RTMR0, _PLATFORM_CONFIG_FLAGS, b"ACPI DATA", b"ACPI loader"),
    _measured(_RTMR0, _PLATFORM_CONFIG_FLAGS, b"ACPI DATA", b"ACPI RSDP"),
    _measured(_RTMR0, _PLATFORM_CONFIG_FLAGS, b"ACPI DATA", b"ACPI tables"),
    CcelEvent(_RTMR0, _VARIABLE_BOOT, _variable(_GLOBAL_VARIABLE, "BootOrder", b"\x00\x00")),
    CcelEvent(_RTMR1, _ACTION, b"Calling EFI Application from Boot Option"),
    CcelEvent(_RTMR1, _SEPARATOR, bytes(4)),
    CcelEvent(_RTMR1, _GPT, b"EFI PART" + struct.pack("<II", 0x10000, 92) + bytes(84)),
    _measured(
        _RTMR1,
        _BOOT_SERVICES_APPLICATION,
        struct.pack("<QQQQ", 0xBCC0B518, 0xE1C10, 0, 0),
        b"kernel image",
    ),
    CcelEvent(_RTMR2, _IPL, b"kernel_cmdline: console=hvc0 root=/dev/vda1 ro\0"),
    _measured(_RTMR2, _IPL, b"/boot/initrd.img\0", b"initrd"),
    CcelEvent(_RTMR1, _ACTION, b"Exit Boot Services Invocation"),
    CcelEvent(_RTMR1, _ACTION, b"Exit Boot Services Returned with Success"),
)

# --- dstack runtime log -------------------------------------------------------------------

DEFAULT_COMPOSE = '{"manifest_version":2,"name":"simulated","runner":"docker-compose"}'


def _compose_hash(compose: str) -> bytes:
    return hashlib.sha256(compose.encode("utf-8")).digest()


def dstack_events(compose: str = DEFAULT_COMPOSE, *, version: int = 1) -> tuple[DstackEvent, ...]:
    """Return the runtime events of an honest dstack guest, ending with one of the app's own."""
    digest = _compose_hash(compose)
    payloads: tuple[tuple[str, bytes], ...] = (
        ("system-preparing", b""),
        ("app-id", digest[:20]),
        ("compose-hash", digest),
        ("instance-id", hashlib.sha256(b"instance" + digest).digest()[:20]),
        ("boot-mr-done", b""),
        ("os-image-hash", hashlib.sha256(b"simulated OS image").digest()),
        ("key-provider", b'{"name":"local-sgx","id":"simulated"}'),
        ("storage-fs", b"zfs"),
        ("system-ready", b""),
        ("app-event", b"simulated"),
    )
    return tuple(DstackEvent(name, payload, version) for name, payload in payloads)


def dstack_mr_config_id(compose: str = DEFAULT_COMPOSE) -> bytes:
    """Return MRCONFIGID of a dstack guest (0.5.1 on): 01, compose hash, 15 zero bytes."""
    return b"\x01" + _compose_hash(compose) + bytes(15)
