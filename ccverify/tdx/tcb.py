"""Which TCB level a TDX platform has reached, what that means, and what it lacks.

Source: Intel QuoteVerification library (functions for sections 4.1.2.5.12 to 4.1.2.5.20) and
PCS API v4, "Determining the TCB status of a TDX platform".  Pure arithmetic on values whose
signatures `ccverify.tdx.verify` has checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import ge

from ccverify.clock_text import date_text
from ccverify.tdx.pck import PckPlatform
from ccverify.tdx.tcb_info import (
    IsvTcbLevel,
    QeIdentity,
    TcbInfo,
    TcbLevel,
    TcbStatus,
    TdxModuleIdentity,
)

__all__ = [
    "SEVERITY",
    "Shortfall",
    "TcbEvaluation",
    "TcbResult",
    "evaluate_tcb",
    "find_module_identity",
]

SEVERITY = {
    status: rank
    for rank, status in enumerate(
        (
            TcbStatus.UP_TO_DATE,
            TcbStatus.SW_HARDENING_NEEDED,
            TcbStatus.CONFIGURATION_NEEDED,
            TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
            TcbStatus.TD_RELAUNCH_ADVISED,
            TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
            TcbStatus.OUT_OF_DATE,
            TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
            TcbStatus.REVOKED,
            TcbStatus.NOT_SUPPORTED,
        )
    )
}
"""Statuses from best to worst."""

_NEEDS_CONFIGURATION = {
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
_OUT_OF_DATE = {TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED}
_CURRENT_ENOUGH = {
    TcbStatus.UP_TO_DATE,
    TcbStatus.SW_HARDENING_NEEDED,
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
}
_OUTDATED_BY_COMPONENT = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}


@dataclass(frozen=True, slots=True)
class Shortfall:
    """One SVN that is below what a better level asks.

    Attributes:
        component: which SVN, with Intel's name for it where there is one.
        have: the platform's SVN.
        need: the SVN of the better level.
        level_status: status that level has.
        level_date: tcbDate of that level.
    """

    component: str
    have: int
    need: int
    level_status: TcbStatus
    level_date: datetime

    def __str__(self) -> str:
        return (
            f"{self.component} is {self.have}, {self.need - self.have} short of {self.need} "
            f"({self.level_status.value} level of {date_text(self.level_date)})"
        )


@dataclass(frozen=True, slots=True)
class TcbEvaluation:
    """One walk through the TCB levels with one TEE_TCB_SVN.

    A level is None when none matches; `status` is then NotSupported.
    """

    tee_tcb_svn: bytes
    status: TcbStatus
    platform: TcbLevel | None
    module_identity: TdxModuleIdentity | None
    module: IsvTcbLevel | None
    qe: IsvTcbLevel | None
    shortfalls: tuple[Shortfall, ...]

    @property
    def uses_module_identity(self) -> bool:
        """Whether TDX module major version > 0, so that module identities apply."""
        return self.tee_tcb_svn[1] > 0

    @property
    def levels(self) -> tuple[TcbLevel | IsvTcbLevel, ...]:
        """The levels that matched."""
        return tuple(level for level in (self.platform, self.qe, self.module) if level)

    @property
    def tcb_date(self) -> datetime | None:
        """The oldest tcbDate of the matched levels; None when unsupported."""
        if self.status is TcbStatus.NOT_SUPPORTED:
            return None
        return min(level.tcb_date for level in self.levels)

    @property
    def advisory_ids(self) -> tuple[str, ...]:
        """Advisories of all matched levels, each once; an UpToDate level may have some too."""
        if self.status is TcbStatus.NOT_SUPPORTED:
            return ()
        return tuple(dict.fromkeys(a for level in self.levels for a in level.advisory_ids))


@dataclass(frozen=True, slots=True)
class TcbResult:
    """The TCB verdict on a platform.

    Attributes:
        status: the two evaluations combined.
        launch: with TEE_TCB_SVN, the module the TD was launched on.
        current: with TEE_TCB_SVN2, the module running now; None before TDX 1.5 reports.
    """

    status: TcbStatus
    launch: TcbEvaluation
    current: TcbEvaluation | None

    @property
    def tcb_date(self) -> datetime | None:
        """The older tcbDate of the two evaluations; None when one is unsupported."""
        if self.current is None:
            return self.launch.tcb_date
        dates = (self.launch.tcb_date, self.current.tcb_date)
        return None if None in dates else min(date for date in dates if date)

    @property
    def advisory_ids(self) -> tuple[str, ...]:
        """Advisories of the launch evaluation, and of the current one where that is worse."""
        if self.current is None or self.status is not self.current.status:
            return self.launch.advisory_ids
        return tuple(dict.fromkeys((*self.launch.advisory_ids, *self.current.advisory_ids)))

    @property
    def shortfalls(self) -> tuple[Shortfall, ...]:
        """What keeps the platform from a better status, launch first."""
        both = (*self.launch.shortfalls, *(self.current.shortfalls if self.current else ()))
        return tuple(dict.fromkeys(both))


def evaluate_tcb(
    tcb_info: TcbInfo,
    qe_identity: QeIdentity,
    platform: PckPlatform,
    qe_isvsvn: int,
    tee_tcb_svn: bytes,
    tee_tcb_svn2: bytes | None,
) -> TcbResult:
    """Evaluate the TCB of one platform.

    Args:
        tcb_info: TCB info of the platform's FMSPC.
        qe_identity: identity of the TD quoting enclave.
        platform: what the PCK certificate says.
        qe_isvsvn: ISVSVN of the QE report.
        tee_tcb_svn: 16 bytes, of the TD report.
        tee_tcb_svn2: 16 bytes, of a TDX 1.5 report; None for older ones.

    Where Intel's library reports the launch status alone although the module that runs now is
    worse, this reports the worse one (docs/tcb.md).
    """
    qe = _first_isv_level(qe_identity.tcb_levels, qe_isvsvn)
    launch = _evaluate(tcb_info, qe_identity, platform, qe_isvsvn, qe, tee_tcb_svn)
    if tee_tcb_svn2 is None:
        return TcbResult(launch.status, launch, None)
    if tee_tcb_svn2 == tee_tcb_svn:
        return TcbResult(launch.status, launch, launch)
    current = _evaluate(tcb_info, qe_identity, platform, qe_isvsvn, qe, tee_tcb_svn2)
    return TcbResult(_combine(launch.status, current.status), launch, current)


def find_module_identity(tcb_info: TcbInfo, major_version: int) -> TdxModuleIdentity | None:
    """The identity that applies to a TDX module; the legacy one for major version 0."""
    if major_version == 0:
        return tcb_info.tdx_module
    name = f"TDX_{major_version:02X}"
    return next((m for m in tcb_info.tdx_module_identities if m.id.upper() == name), None)


def _combine(launch: TcbStatus, current: TcbStatus) -> TcbStatus:
    if launch in _OUT_OF_DATE and current in _CURRENT_ENOUGH:
        if launch in _NEEDS_CONFIGURATION or current in _NEEDS_CONFIGURATION:
            return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
        return TcbStatus.TD_RELAUNCH_ADVISED
    return max(launch, current, key=SEVERITY.__getitem__)


def _evaluate(
    tcb_info: TcbInfo,
    qe_identity: QeIdentity,
    pck: PckPlatform,
    qe_isvsvn: int,
    qe: IsvTcbLevel | None,
    svn: bytes,
) -> TcbEvaluation:
    # With a module identity, SVN bytes 0 and 1 are judged by that identity's own levels.
    start = 2 if svn[1] > 0 else 0
    platform = next((lv for lv in tcb_info.tcb_levels if _reaches(lv, pck, svn, start)), None)
    identity = find_module_identity(tcb_info, svn[1])
    module_levels = identity.tcb_levels if identity and start else ()
    module = _first_isv_level(module_levels, svn[0])
    if platform is None or qe is None or (start and module is None):
        status = TcbStatus.NOT_SUPPORTED
    else:
        status = _converge(platform.status, {level.status for level in (qe, module) if level})
    shortfalls: tuple[Shortfall, ...] = ()
    if status is not TcbStatus.UP_TO_DATE:
        shortfalls = (
            *_platform_shortfalls(tcb_info, platform, pck, svn, start),
            *_isv_shortfalls("TDX module ISVSVN", module_levels, module, svn[0]),
            *_isv_shortfalls("QE ISVSVN", qe_identity.tcb_levels, qe, qe_isvsvn),
        )
    return TcbEvaluation(svn, status, platform, identity, module, qe, shortfalls)


def _reaches(level: TcbLevel, pck: PckPlatform, svn: bytes, start: int) -> bool:
    return (
        pck.pcesvn >= level.pcesvn
        and all(map(ge, pck.component_svns, level.sgx_components))
        and all(map(ge, svn[start:], level.tdx_components[start:]))
    )


def _first_isv_level(levels: Iterable[IsvTcbLevel], isvsvn: int) -> IsvTcbLevel | None:
    return next((level for level in levels if isvsvn >= level.isvsvn), None)


def _converge(platform: TcbStatus, parts: set[TcbStatus]) -> TcbStatus:
    if TcbStatus.REVOKED in parts or platform is TcbStatus.REVOKED:
        return TcbStatus.REVOKED
    if TcbStatus.OUT_OF_DATE in parts:
        return _OUTDATED_BY_COMPONENT.get(platform, platform)
    return platform


def _platform_shortfalls(
    tcb_info: TcbInfo, matched: TcbLevel | None, pck: PckPlatform, svn: bytes, start: int
) -> tuple[Shortfall, ...]:
    """Compare with the least demanding level of the best status above the matched one."""
    levels = tcb_info.tcb_levels
    if matched is None:
        target = levels[-1] if levels else None
    else:
        above = levels[: levels.index(matched)]
        better = [lv for lv in above if SEVERITY[lv.status] < SEVERITY[matched.status]]
        best = min((SEVERITY[lv.status] for lv in better), default=0)
        target = next((lv for lv in reversed(better) if SEVERITY[lv.status] == best), None)
    if target is None:
        return ()
    pairs = [
        *zip(_labels("SGX TCB component", target.sgx_labels), pck.component_svns,
             target.sgx_components, strict=True),
        ("PCESVN", pck.pcesvn, target.pcesvn),
        *list(zip(_labels("TDX TCB component", target.tdx_labels), svn,
                  target.tdx_components, strict=True))[start:],
    ]  # fmt: skip
    return tuple(
        Shortfall(name, have, need, target.status, target.tcb_date)
        for name, have, need in pairs
        if have < need
    )


def _isv_shortfalls(
    name: str, levels: tuple[IsvTcbLevel, ...], matched: IsvTcbLevel | None, isvsvn: int
) -> tuple[Shortfall, ...]:
    if not levels or (matched and matched.status is TcbStatus.UP_TO_DATE):
        return ()
    target = levels[0] if matched else levels[-1]
    if isvsvn >= target.isvsvn:
        return ()
    return (Shortfall(name, isvsvn, target.isvsvn, target.status, target.tcb_date),)


def _labels(kind: str, labels: tuple[str, ...]) -> list[str]:
    return [
        f"{kind} {number}" + (f" ({label})" if label else "")
        for number, label in enumerate(labels, 1)
    ]
