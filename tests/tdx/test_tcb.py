"""The walk through TCB levels, against Intel's rules written down as tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.tdx.pck import PckPlatform, SgxType
from ccverify.tdx.tcb import SEVERITY, TcbResult, evaluate_tcb, find_module_identity
from ccverify.tdx.tcb_info import (
    IsvTcbLevel,
    QeIdentity,
    TcbInfo,
    TcbLevel,
    TcbStatus,
    TdxModuleIdentity,
)

S = TcbStatus
NEW, OLD = datetime(2025, 11, 12, tzinfo=UTC), datetime(2024, 3, 13, tzinfo=UTC)
ISSUED = datetime(2026, 6, 1, tzinfo=UTC)
PLATFORM_STATUSES = (
    S.UP_TO_DATE,
    S.SW_HARDENING_NEEDED,
    S.CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    S.OUT_OF_DATE,
    S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.REVOKED,
)
ENCLAVE_STATUSES = (S.UP_TO_DATE, S.OUT_OF_DATE, S.REVOKED)


def _sixteen(*svns: int) -> tuple[int, ...]:
    return svns + (0,) * (16 - len(svns))


def level(
    status: TcbStatus = S.UP_TO_DATE,
    sgx: tuple[int, ...] = (5, 5),
    tdx: tuple[int, ...] = (3, 0, 7),
    pcesvn: int = 11,
    date: datetime = NEW,
    advisories: tuple[str, ...] = (),
) -> TcbLevel:
    return TcbLevel(
        _sixteen(*sgx),
        _sixteen(*tdx),
        pcesvn,
        date,
        status,
        advisories,
        ("BIOS: Early Microcode Update",) + ("",) * 15,
        ("OS/VMM: TDX Module",) * 2 + ("",) * 14,
    )


def isv(svn: int, status: TcbStatus = S.UP_TO_DATE, date: datetime = NEW, *ids: str) -> IsvTcbLevel:
    return IsvTcbLevel(svn, date, status, ids)


def module(name: str, *levels: IsvTcbLevel) -> TdxModuleIdentity:
    return TdxModuleIdentity(name, bytes(48), bytes(8), b"\xff" * 8, levels)


def info(
    *levels: TcbLevel, modules: tuple[TdxModuleIdentity, ...] = (module("TDX_01", isv(4)),)
) -> TcbInfo:
    return TcbInfo(
        "TDX", 3, ISSUED, ISSUED + timedelta(days=30), bytes(6), bytes(2), 0, 20,
        module(""), modules, levels or (level(),), (),
    )  # fmt: skip


def qe(*levels: IsvTcbLevel) -> QeIdentity:
    return QeIdentity(
        "TD_QE", 2, ISSUED, ISSUED + timedelta(days=30), 20, 0, 0, bytes(16), bytes(16),
        bytes(32), 2, levels or (isv(6),), (),
    )  # fmt: skip


def platform(sgx: tuple[int, ...] = (5, 5), pcesvn: int = 11) -> PckPlatform:
    return PckPlatform(
        bytes(16), _sixteen(*sgx), pcesvn, bytes(16), bytes(2), bytes(6), SgxType.SCALABLE
    )


def svn(*octets: int) -> bytes:
    return bytes(_sixteen(*octets))


def evaluate(
    tcb_info: TcbInfo | None = None,
    identity: QeIdentity | None = None,
    pck: PckPlatform | None = None,
    qe_svn: int = 6,
    launch: bytes = svn(4, 1, 7),
    current: bytes | None = None,
) -> TcbResult:
    return evaluate_tcb(
        tcb_info or info(), identity or qe(), pck or platform(), qe_svn, launch, current
    )


# --- the walk ------------------------------------------------------------------------------------


def test_equal_svns_reach_a_level() -> None:
    result = evaluate()
    assert (result.status, result.tcb_date) == (S.UP_TO_DATE, NEW)
    assert result.shortfalls == ()
    assert result.current is None


@pytest.mark.parametrize("index", range(16))
def test_every_sgx_component_is_compared(index: int) -> None:
    tcb_info = info(level(sgx=(5,) * 16))
    assert evaluate(tcb_info, pck=platform((5,) * 16)).status is S.UP_TO_DATE
    low = tuple(4 if i == index else 9 for i in range(16))
    result = evaluate(tcb_info, pck=platform(low))
    assert result.status is S.NOT_SUPPORTED
    (shortfall,) = result.shortfalls
    assert shortfall.component.startswith(f"SGX TCB component {index + 1}")
    assert (shortfall.have, shortfall.need) == (4, 5)


def test_pcesvn_is_compared() -> None:
    assert evaluate(pck=platform(pcesvn=12)).status is S.UP_TO_DATE
    result = evaluate(pck=platform(pcesvn=10))
    assert result.status is S.NOT_SUPPORTED
    assert [s.component for s in result.shortfalls] == ["PCESVN"]


@pytest.mark.parametrize("index", range(16))
def test_tdx_components_are_compared_from_index_2_with_a_module_identity(index: int) -> None:
    tcb_info = info(level(tdx=(5,) * 16), modules=(module("TDX_01", isv(0)),))
    octets = [1 if i == index else 9 for i in range(16)]
    octets[1] = 1
    result = evaluate(tcb_info, launch=bytes(octets))
    assert result.status is (S.UP_TO_DATE if index < 2 else S.NOT_SUPPORTED)


@pytest.mark.parametrize("index", [0, *range(2, 16)])
def test_tdx_components_are_compared_from_index_0_without_a_module_identity(index: int) -> None:
    tcb_info = info(level(tdx=(5, 0) + (5,) * 14), modules=())
    octets = [9] * 16
    octets[1] = 0
    assert evaluate(tcb_info, launch=bytes(octets)).status is S.UP_TO_DATE
    octets[index] = 4
    result = evaluate(tcb_info, launch=bytes(octets))
    assert result.status is S.NOT_SUPPORTED
    assert result.shortfalls[0].component.startswith(f"TDX TCB component {index + 1}")


def test_major_version_0_has_no_module_level() -> None:
    launch = evaluate(launch=svn(3, 0, 7)).launch
    assert (launch.status, launch.module) == (S.UP_TO_DATE, None)
    assert not launch.uses_module_identity
    assert launch.module_identity is not None
    assert launch.module_identity.id == ""


def test_the_first_level_that_is_reached_counts() -> None:
    levels = (
        level(S.UP_TO_DATE, (9, 9)),
        level(S.SW_HARDENING_NEEDED, (7, 7)),
        level(S.OUT_OF_DATE, (3, 3)),
    )
    for own, status in ((9, S.UP_TO_DATE), (8, S.SW_HARDENING_NEEDED), (3, S.OUT_OF_DATE)):
        assert evaluate(info(*levels), pck=platform((own, own))).status is status
    assert evaluate(info(*levels), pck=platform((2, 2))).status is S.NOT_SUPPORTED


def test_a_tcb_info_without_levels_supports_nothing() -> None:
    tcb_info = replace(info(), tcb_levels=())
    result = evaluate(tcb_info)
    assert (result.status, result.shortfalls) == (S.NOT_SUPPORTED, ())
    assert (result.tcb_date, result.advisory_ids) == (None, ())


# --- module and quoting enclave ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TDX_0A", "tdx_0a", "Tdx_0a"])
def test_module_identities_are_found_whatever_their_case(name: str) -> None:
    tcb_info = info(modules=(module("TDX_01", isv(1)), module(name, isv(4))))
    found = find_module_identity(tcb_info, 10)
    assert found is not None
    assert found.id == name
    assert evaluate(tcb_info, launch=svn(4, 10, 7)).status is S.UP_TO_DATE


@pytest.mark.parametrize("name", ["TDX_A", "TDX_010", "TDX_10", "TDX-0A", "TDX_0A ", ""])
def test_another_name_is_another_module(name: str) -> None:
    tcb_info = info(modules=(module(name, isv(0)),))
    assert find_module_identity(tcb_info, 10) is None
    assert evaluate(tcb_info, launch=svn(4, 10, 7)).status is S.NOT_SUPPORTED


def test_version_numbers_are_hexadecimal() -> None:
    tcb_info = info(modules=tuple(module(f"TDX_{n:02X}", isv(n)) for n in (1, 16, 255)))
    for number in (1, 16, 255):
        found = find_module_identity(tcb_info, number)
        assert found is not None
        assert found.tcb_levels[0].isvsvn == number


def test_the_modules_minor_svn_picks_its_level() -> None:
    modules = (module("TDX_01", isv(6), isv(4, S.OUT_OF_DATE, OLD, "A"), isv(2, S.REVOKED)),)
    for minor, status in (
        (7, S.UP_TO_DATE),
        (6, S.UP_TO_DATE),
        (5, S.OUT_OF_DATE),
        (4, S.OUT_OF_DATE),
        (2, S.REVOKED),
        (1, S.NOT_SUPPORTED),
    ):
        assert evaluate(info(modules=modules), launch=svn(minor, 1, 7)).status is status


def test_the_quoting_enclaves_svn_picks_its_level() -> None:
    identity = qe(isv(6), isv(4, S.OUT_OF_DATE, OLD, "B"), isv(2, S.REVOKED))
    for own, status in (
        (65535, S.UP_TO_DATE),
        (6, S.UP_TO_DATE),
        (5, S.OUT_OF_DATE),
        (3, S.REVOKED),
        (1, S.NOT_SUPPORTED),
    ):
        assert evaluate(identity=identity, qe_svn=own).status is status


# Intel's library, `convergeTcbStatuses`: platform status → status when a component is OutOfDate.
CONVERGED = {
    S.UP_TO_DATE: S.OUT_OF_DATE,
    S.SW_HARDENING_NEEDED: S.OUT_OF_DATE,
    S.CONFIGURATION_NEEDED: S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED: S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.OUT_OF_DATE: S.OUT_OF_DATE,
    S.OUT_OF_DATE_CONFIGURATION_NEEDED: S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.REVOKED: S.REVOKED,
}


@pytest.mark.parametrize(
    ("own", "module_status", "qe_status"),
    list(product(PLATFORM_STATUSES, ENCLAVE_STATUSES, ENCLAVE_STATUSES)),
    ids=lambda status: status.value,
)
def test_convergence(own: TcbStatus, module_status: TcbStatus, qe_status: TcbStatus) -> None:
    tcb_info = info(level(own), modules=(module("TDX_01", isv(0, module_status)),))
    parts = {module_status, qe_status}
    expected = own
    if S.OUT_OF_DATE in parts:
        expected = CONVERGED[own]
    if S.REVOKED in parts:
        expected = S.REVOKED
    assert evaluate(tcb_info, qe(isv(0, qe_status))).status is expected


def test_date_is_the_oldest_and_advisories_are_all_of_them() -> None:
    tcb_info = info(
        level(date=NEW, advisories=("P", "Q")),
        modules=(module("TDX_01", isv(0, S.OUT_OF_DATE, OLD, "M", "P")),),
    )
    result = evaluate(tcb_info, qe(isv(0, S.UP_TO_DATE, NEW - timedelta(days=1), "E")))
    assert result.tcb_date == OLD
    assert result.advisory_ids == ("P", "Q", "E", "M")


def test_an_up_to_date_level_may_have_advisories() -> None:
    result = evaluate(info(level(advisories=("INTEL-SA-00001",))))
    assert (result.status, result.advisory_ids) == (S.UP_TO_DATE, ("INTEL-SA-00001",))


# --- relaunch ------------------------------------------------------------------------------------

_OUT = (S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED)
_FINE = PLATFORM_STATUSES[:4]
_CONFIGURE = {
    S.CONFIGURATION_NEEDED,
    S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED,
}


def _two(launch: TcbStatus, current: TcbStatus) -> TcbResult:
    """A platform whose level depends on the SEAM loader's SVN alone: 1 at launch, 2 now."""
    tcb_info = info(
        level(current, tdx=(0, 0, 2), date=NEW, advisories=("now",)),
        level(launch, tdx=(0, 0, 1), date=OLD, advisories=("then",)),
    )
    return evaluate(tcb_info, launch=svn(4, 1, 1), current=svn(4, 1, 2))


@pytest.mark.parametrize(
    ("launch", "current"), list(product(_OUT, _FINE)), ids=lambda status: status.value
)
def test_relaunch_is_advised(launch: TcbStatus, current: TcbStatus) -> None:
    """Intel's library, `checkForRelaunch`: configuration needed on either side shows."""
    result = _two(launch, current)
    configure = launch in _CONFIGURE or current in _CONFIGURE
    assert result.status is (
        S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED if configure else S.TD_RELAUNCH_ADVISED
    )
    assert result.advisory_ids == ("then",)
    assert result.tcb_date == OLD


@pytest.mark.parametrize(
    ("launch", "current"),
    [
        pair
        for pair in product(PLATFORM_STATUSES, PLATFORM_STATUSES)
        if pair not in set(product(_OUT, _FINE))
    ],
    ids=lambda status: status.value,
)
def test_otherwise_the_worse_status_counts(launch: TcbStatus, current: TcbStatus) -> None:
    """Intel's library reports the launch status alone; a worse current one is ours to tell."""
    result = _two(launch, current)
    assert result.status is max(launch, current, key=SEVERITY.__getitem__)
    assert result.current is not None
    if result.status is current:
        assert result.advisory_ids == ("then", "now")
    else:
        assert result.advisory_ids == ("then",)


def test_a_td_1_0_report_knows_only_the_launch() -> None:
    assert evaluate(current=None).current is None
    assert evaluate(launch=svn(4, 1, 7), current=svn(4, 1, 7)).status is S.UP_TO_DATE


@pytest.mark.parametrize("current", [svn(4, 1, 6), svn(3, 1, 7), svn(4, 2, 7)])
def test_an_unsupported_current_module_is_unsupported(current: bytes) -> None:
    assert evaluate(current=current).status is S.NOT_SUPPORTED


def test_the_date_of_a_worse_current_module_counts() -> None:
    """Grace runs from the tcbDate of the level that makes the TD out of date."""
    tcb_info = info(
        level(S.UP_TO_DATE, tdx=(0, 0, 2), date=NEW),
        level(S.OUT_OF_DATE, tdx=(0, 0, 1), date=OLD),
    )
    result = evaluate(tcb_info, launch=svn(4, 1, 2), current=svn(4, 1, 1))
    assert (result.status, result.tcb_date) == (S.OUT_OF_DATE, OLD)


# --- shortfalls ----------------------------------------------------------------------------------


def test_shortfalls_name_component_distance_and_level() -> None:
    levels = (level(S.UP_TO_DATE, (9, 9), (0, 0, 9), 13), level(S.OUT_OF_DATE, (5, 9), date=OLD))
    result = evaluate(info(*levels), pck=platform((5, 9)), launch=svn(4, 1, 7))
    assert [str(shortfall) for shortfall in result.shortfalls] == [
        "SGX TCB component 1 (BIOS: Early Microcode Update) is 5, 4 short of 9 "
        "(UpToDate level of 2025-11-12)",
        "PCESVN is 11, 2 short of 13 (UpToDate level of 2025-11-12)",
        "TDX TCB component 3 is 7, 2 short of 9 (UpToDate level of 2025-11-12)",
    ]


def test_shortfalls_are_against_the_least_demanding_of_the_best_levels() -> None:
    levels = (
        level(S.UP_TO_DATE, (9, 9)),
        level(S.UP_TO_DATE, (8, 8)),
        level(S.SW_HARDENING_NEEDED, (7, 7)),
        level(S.OUT_OF_DATE, (5, 5)),
    )
    for own in (5, 7):
        shortfalls = evaluate(info(*levels), pck=platform((own, own))).shortfalls
        assert {s.need for s in shortfalls} == {8}
        assert {s.level_status for s in shortfalls} == {S.UP_TO_DATE}


def test_an_unsupported_platform_is_compared_with_the_lowest_level() -> None:
    levels = (level(S.UP_TO_DATE, (9, 9)), level(S.OUT_OF_DATE, (5, 5), date=OLD))
    (first, second) = evaluate(info(*levels), pck=platform((1, 2))).shortfalls
    assert (first.have, first.need, second.have, second.need) == (1, 5, 2, 5)
    assert first.level_status is S.OUT_OF_DATE


def test_module_and_quoting_enclave_have_shortfalls_too() -> None:
    modules = (module("TDX_01", isv(6), isv(4, S.OUT_OF_DATE)),)
    identity = qe(isv(8), isv(5, S.OUT_OF_DATE))
    result = evaluate(info(modules=modules), identity, launch=svn(4, 1, 7), qe_svn=5)
    assert [(s.component, s.have, s.need) for s in result.shortfalls] == [
        ("TDX module ISVSVN", 4, 6),
        ("QE ISVSVN", 5, 8),
    ]
    below = evaluate(info(modules=modules), identity, launch=svn(3, 1, 7), qe_svn=4)
    assert [(s.component, s.need) for s in below.shortfalls] == [
        ("TDX module ISVSVN", 4),
        ("QE ISVSVN", 5),
    ]


def test_an_up_to_date_platform_has_no_shortfall_whatever_the_rest() -> None:
    modules = (module("TDX_01", isv(6), isv(4, S.OUT_OF_DATE)),)
    result = evaluate(info(level(), level(S.OUT_OF_DATE, (1,)), modules=modules))
    assert [s.component for s in result.shortfalls] == ["TDX module ISVSVN"]


def test_a_shortfall_at_launch_and_now_is_told_once() -> None:
    levels = (level(S.UP_TO_DATE, (9, 9), (0, 0, 2)), level(S.OUT_OF_DATE, (5, 5), (0, 0, 1)))
    result = evaluate(info(*levels), launch=svn(4, 1, 1), current=svn(4, 1, 2))
    names = [shortfall.component for shortfall in result.shortfalls]
    assert len(names) == len(set(names))


# --- properties ----------------------------------------------------------------------------------

SVN = st.integers(0, 3)


@given(
    st.lists(st.tuples(SVN, SVN, SVN, st.sampled_from(PLATFORM_STATUSES)), max_size=6),
    st.tuples(SVN, SVN, SVN),
    st.tuples(SVN, SVN, SVN),
)
@settings(deadline=None, max_examples=300)
def test_more_is_never_a_later_level(
    rows: list[tuple[int, int, int, TcbStatus]],
    own: tuple[int, int, int],
    more: tuple[int, int, int],
) -> None:
    """Raising SVNs can only move a platform up the list of levels."""
    levels = tuple(
        level(status, (sgx,), (0, 0, tdx), pcesvn)
        for sgx, pcesvn, tdx, status in sorted(rows, key=lambda row: row[:3], reverse=True)
    )
    tcb_info = replace(info(), tcb_levels=levels)

    def position(sgx: int, pcesvn: int, tdx: int) -> int:
        found = evaluate(tcb_info, pck=platform((sgx,), pcesvn), launch=svn(4, 1, tdx)).launch
        return len(levels) if found.platform is None else levels.index(found.platform)

    higher = tuple(a + b for a, b in zip(own, more, strict=True))
    assert position(*higher) <= position(*own)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), SVN)
@settings(deadline=None, max_examples=300)
def test_any_svns_give_a_result(launch: bytes, current: bytes, qe_svn: int) -> None:
    result = evaluate(launch=launch, current=current, qe_svn=qe_svn)
    assert result.status in SEVERITY
    for shortfall in result.shortfalls:
        assert shortfall.have < shortfall.need
        assert str(shortfall)


def test_every_status_has_a_severity() -> None:
    assert set(SEVERITY) == set(S)
    assert sorted(SEVERITY.values()) == list(range(len(S)))
