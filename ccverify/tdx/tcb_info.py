"""Intel's signed statements about TCB levels: TCB info v3 and TD QE identity v2 and v3.

Source: Intel PCS API v4, "Get TDX TCB Info" and "Get Quote Enclave Identity".  Every member
is read; a member this version does not know is kept by name in `unknown_fields`, because a
statement that is only partly understood must not pass for one that is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from ccverify.errors import CollateralError
from ccverify.strict_json import parse_json

__all__ = [
    "IsvTcbLevel",
    "QeIdentity",
    "TcbInfo",
    "TcbLevel",
    "TcbStatus",
    "TdxModuleIdentity",
    "parse_qe_identity",
    "parse_tcb_info",
]

_COMPONENTS = 16
_MAX_LEVELS = 256
_MAX_TEXT = 512


class TcbStatus(str, Enum):
    """TCB statuses as Intel spells them, and two results of the walk itself."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    REVOKED = "Revoked"
    NOT_SUPPORTED = "NotSupported"


_PLATFORM_STATUSES = frozenset(
    {
        TcbStatus.UP_TO_DATE,
        TcbStatus.SW_HARDENING_NEEDED,
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
        TcbStatus.REVOKED,
    }
)
_ENCLAVE_STATUSES = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """One platform TCB level: at least these SVNs, then this status.

    Attributes:
        sgx_components: 16 SVNs compared with the PCK certificate's.
        tdx_components: 16 SVNs compared with TEE_TCB_SVN.
        pcesvn: compared with the PCK certificate's PCESVN.
        tcb_date: the platform is safe from what Intel disclosed before this date.
        status: one of the platform statuses.
        advisory_ids: Intel security advisories that still apply at this level.
        sgx_labels: what each SGX component is, as far as Intel names it.
        tdx_labels: what each TDX component is.
    """

    sgx_components: tuple[int, ...]
    tdx_components: tuple[int, ...]
    pcesvn: int
    tcb_date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]
    sgx_labels: tuple[str, ...]
    tdx_labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsvTcbLevel:
    """One TCB level of an enclave or of a TDX module: at least this ISVSVN."""

    isvsvn: int
    tcb_date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TdxModuleIdentity:
    """A TDX module that Intel vouches for; `id` is ``TDX_%02X`` % major version.

    The legacy `tdxModule` object, for major version 0, has neither id nor levels.
    """

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    tcb_levels: tuple[IsvTcbLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """TCB info of one platform family (FMSPC), id ``TDX``, version 3."""

    id: str
    version: int
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pceid: bytes
    tcb_type: int
    evaluation_number: int
    tdx_module: TdxModuleIdentity
    tdx_module_identities: tuple[TdxModuleIdentity, ...]
    tcb_levels: tuple[TcbLevel, ...]
    unknown_fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """Identity of the TD quoting enclave, id ``TD_QE``, version 2 or 3."""

    id: str
    version: int
    issue_date: datetime
    next_update: datetime
    evaluation_number: int
    miscselect: int
    miscselect_mask: int
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    tcb_levels: tuple[IsvTcbLevel, ...]
    unknown_fields: tuple[str, ...]


def parse_tcb_info(text: bytes) -> TcbInfo:
    """Parse the signed ``tcbInfo`` object, UTF-8 JSON.

    Raises:
        CollateralError: not strict JSON, not version 3 for TDX, a member missing or of the
            wrong type, or an SVN list without exactly 16 entries.
    """
    reader = _Reader.of(text, "tcbInfo")
    identifier, version = reader.text("id"), reader.integer("version", 0xFFFF)
    if identifier != "TDX" or version != 3:
        raise CollateralError(
            "TCB info is not for TDX",
            expected="id TDX, version 3",
            found=f"id {identifier}, version {version}",
            where="tcbInfo",
            hint="fetch it from the PCS path /tdx/certification/v4/tcb",
        )
    info = TcbInfo(
        id=identifier,
        version=version,
        issue_date=reader.time("issueDate"),
        next_update=reader.time("nextUpdate"),
        fmspc=reader.octets("fmspc", 6),
        pceid=reader.octets("pceId", 2),
        tcb_type=reader.integer("tcbType", 0xFF),
        evaluation_number=reader.integer("tcbEvaluationDataNumber", 0xFFFFFFFF),
        tdx_module=_module(reader.child("tdxModule"), legacy=True),
        tdx_module_identities=tuple(
            _module(child, legacy=False)
            for child in reader.children("tdxModuleIdentities", optional=True)
        ),
        tcb_levels=_levels(reader),
        unknown_fields=reader.unknown(),  # last: it names what nothing above has taken
    )
    if info.tcb_type != 0:
        raise CollateralError("unknown TCB type", expected="0", found=str(info.tcb_type))
    names = [module.id.upper() for module in info.tdx_module_identities]
    if len(set(names)) != len(names):
        raise CollateralError("a TDX module identity appears twice", where="tdxModuleIdentities")
    return info


def parse_qe_identity(text: bytes) -> QeIdentity:
    """Parse the signed ``enclaveIdentity`` object of the TD quoting enclave, UTF-8 JSON.

    Raises:
        CollateralError: not strict JSON, not ``TD_QE`` version 2 or 3, a member missing or of
            the wrong type.
    """
    reader = _Reader.of(text, "enclaveIdentity")
    identifier, version = reader.text("id"), reader.integer("version", 0xFFFF)
    if identifier != "TD_QE" or version not in (2, 3):
        raise CollateralError(
            "QE identity is not that of the TD quoting enclave",
            expected="id TD_QE, version 2 or 3",
            found=f"id {identifier}, version {version}",
            where="enclaveIdentity",
            hint="fetch it from the PCS path /tdx/certification/v4/qe/identity",
        )
    return QeIdentity(
        id=identifier,
        version=version,
        issue_date=reader.time("issueDate"),
        next_update=reader.time("nextUpdate"),
        evaluation_number=reader.integer("tcbEvaluationDataNumber", 0xFFFFFFFF),
        miscselect=int.from_bytes(reader.octets("miscselect", 4), "big"),
        miscselect_mask=int.from_bytes(reader.octets("miscselectMask", 4), "big"),
        attributes=reader.octets("attributes", 16),
        attributes_mask=reader.octets("attributesMask", 16),
        mrsigner=reader.octets("mrsigner", 32),
        isvprodid=reader.integer("isvprodid", 0xFFFF),
        tcb_levels=_isv_levels(reader),
        unknown_fields=reader.unknown(),  # last: it names what nothing above has taken
    )


def _module(reader: _Reader, *, legacy: bool) -> TdxModuleIdentity:
    return TdxModuleIdentity(
        id="" if legacy else reader.text("id"),
        mrsigner=reader.octets("mrsigner", 48),
        attributes=reader.octets("attributes", 8),
        attributes_mask=reader.octets("attributesMask", 8),
        tcb_levels=() if legacy else _isv_levels(reader),
    )


def _isv_levels(reader: _Reader) -> tuple[IsvTcbLevel, ...]:
    levels = [
        IsvTcbLevel(
            isvsvn=level.child("tcb").integer("isvsvn", 0xFFFF),
            tcb_date=level.time("tcbDate"),
            status=level.status(_ENCLAVE_STATUSES),
            advisory_ids=level.texts("advisoryIDs"),
        )
        for level in reader.children("tcbLevels")
    ]
    return tuple(sorted(levels, key=lambda level: level.isvsvn, reverse=True))


def _levels(reader: _Reader) -> tuple[TcbLevel, ...]:
    # Like Intel's library: the walk goes from the highest level down, whatever order was served.
    return tuple(
        sorted(
            map(_level, reader.children("tcbLevels")),
            key=lambda level: (level.sgx_components, level.pcesvn, level.tdx_components),
            reverse=True,
        )
    )


def _level(reader: _Reader) -> TcbLevel:
    tcb = reader.child("tcb")
    sgx_components, sgx_labels = tcb.components("sgxtcbcomponents")
    tdx_components, tdx_labels = tcb.components("tdxtcbcomponents")
    return TcbLevel(
        sgx_components=sgx_components,
        tdx_components=tdx_components,
        pcesvn=tcb.integer("pcesvn", 0xFFFF),
        tcb_date=reader.time("tcbDate"),
        status=reader.status(_PLATFORM_STATUSES),
        advisory_ids=reader.texts("advisoryIDs"),
        sgx_labels=sgx_labels,
        tdx_labels=tdx_labels,
    )


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


class _Reader:
    """Takes members out of one JSON object; whatever is left at the end is unknown."""

    __slots__ = ("_left", "_members", "_path")

    def __init__(self, members: Any, path: str, left: list[tuple[str, dict[str, Any]]]) -> None:
        if not isinstance(members, dict):
            raise CollateralError("not a JSON object", found=type(members).__name__, where=path)
        self._members = members
        self._path = path
        self._left = left
        left.append((path, members))

    @classmethod
    def of(cls, text: bytes, what: str) -> _Reader:
        return cls(parse_json(text, what=what, error=CollateralError), what, [])

    def unknown(self) -> tuple[str, ...]:
        """Names of all members, here and below, that nothing took."""
        return tuple(f"{path}.{name}" for path, members in self._left for name in members)

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            raise self._wrong(key, "a short string", value)
        return value

    def integer(self, key: str, maximum: int) -> int:
        value = self._take(key)
        if type(value) is not int or not 0 <= value <= maximum:
            raise self._wrong(key, f"an integer from 0 to {maximum}", value)
        return value

    def octets(self, key: str, size: int) -> bytes:
        value = self._take(key)
        try:
            octets = bytes.fromhex(value) if isinstance(value, str) else b""
        except ValueError:
            octets = b""
        if len(octets) != size or len(value) != 2 * size:
            raise self._wrong(key, f"{size} bytes of hex", value)
        return octets

    def time(self, key: str) -> datetime:
        value = self._take(key)
        if isinstance(value, str) and _TIME.fullmatch(value):
            try:
                return datetime.fromisoformat(value[:-1] + "+00:00")
            except ValueError:
                pass
        raise self._wrong(key, "a time such as 2026-01-31T00:00:00Z", value)

    def status(self, allowed: frozenset[TcbStatus]) -> TcbStatus:
        value = self._take("tcbStatus")
        try:
            status = TcbStatus(value)
        except ValueError:
            status = TcbStatus.NOT_SUPPORTED
        if status not in allowed:
            raise self._wrong("tcbStatus", "a TCB status Intel defines here", value)
        return status

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._members.pop(key, [])
        if (
            not isinstance(value, list)
            or len(value) > _MAX_LEVELS
            or not all(isinstance(item, str) and len(item) <= _MAX_TEXT for item in value)
        ):
            raise self._wrong(key, "a list of strings", value)
        return tuple(value)

    def child(self, key: str) -> _Reader:
        return _Reader(self._take(key), f"{self._path}.{key}", self._left)

    def children(self, key: str, *, optional: bool = False) -> list[_Reader]:
        value = self._members.pop(key, []) if optional else self._take(key)
        if not isinstance(value, list) or len(value) > _MAX_LEVELS:
            raise self._wrong(key, f"a list of at most {_MAX_LEVELS} objects", value)
        return [
            _Reader(item, f"{self._path}.{key}[{index}]", self._left)
            for index, item in enumerate(value)
        ]

    def components(self, key: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
        value = self._take(key)
        if not isinstance(value, list) or len(value) != _COMPONENTS:
            raise self._wrong(key, f"exactly {_COMPONENTS} components", value)
        if set(map(type, value)) != {dict}:
            raise self._wrong(key, "a list of objects", value)
        svns = tuple([item.get("svn") for item in value])
        if set(map(type, svns)) != {int} or not 0 <= min(svns) <= max(svns) <= 0xFF:
            raise self._wrong(f"{key}[].svn", "integers from 0 to 255", svns)
        return svns, tuple([self._label(key, item) if len(item) > 1 else "" for item in value])

    def _label(self, key: str, component: dict[str, Any]) -> str:
        category, kind = component.get("category", ""), component.get("type", "")
        if not isinstance(category, str) or not isinstance(kind, str):
            raise self._wrong(key, "category and type as strings", component)
        if len(component) != 1 + ("category" in component) + ("type" in component):
            known = ("svn", "category", "type")
            extra = {name: value for name, value in component.items() if name not in known}
            self._left.append((f"{self._path}.{key}", extra))
        return f"{category}: {kind}" if category and kind else category or kind

    def _take(self, key: str) -> Any:
        try:
            return self._members.pop(key)
        except KeyError:
            raise CollateralError(
                f"member {key} is missing", expected=key, where=self._path
            ) from None

    def _wrong(self, key: str, expected: str, found: object) -> CollateralError:
        return CollateralError(
            f"member {key} is malformed",
            expected=expected,
            found=repr(found)[:80],
            where=f"{self._path}.{key}",
        )
