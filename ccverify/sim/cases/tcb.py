"""Bad cases: quoting enclave, TDX module, TCB levels and statuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ccverify.sim.cases.model import (
    Expected,
    FixtureCase,
    Make,
    case,
    defect,
    honest,
    policy,
    trusted,
    untrusted,
)
from ccverify.sim.collateral import SvnLevel, TcbComponent
from ccverify.sim.defaults import rung, tee_tcb_svn
from ccverify.sim.platform import SimCase, SimPlatform

__all__ = ["ENCLAVE_CASES", "LEVEL_CASES", "MODULE_CASES", "STATUS_CASES"]

_OUT_OF_DATE_MODULE = tee_tcb_svn(9, module_svn=4)


# --- quoting enclave ---


ENCLAVE_CASES: tuple[FixtureCase, ...] = (
    *(
        case(name, description, defect(name), untrusted(3, "QE-IDENTITY-MATCH"), covers="A14 11")
        for name, description in (
            ("qe-signer", "Another signer made the enclave that signed."),
            ("qe-prodid", "The enclave that signed is another product."),
        )
    ),
    case(
        "qe-debug",
        "The quoting enclave is a debug enclave: the host reads its keys.",
        defect("qe-debug"),
        untrusted(3, "QE-IDENTITY-MATCH"),
        covers="A11 A14 11",
    ),
    case(
        "qe-miscselect",
        "The quoting enclave has another MISCSELECT.",
        lambda: honest().with_qe_report(misc_select=1),
        untrusted(3, "QE-IDENTITY-MATCH"),
        covers="A14 11",
    ),
    case(
        "qe-revoked",
        "All levels of the quoting enclave are revoked.",
        defect("qe-revoked"),
        untrusted(4, "QE-TCB TCB-STATUS", tcb_status="Revoked"),
        covers="11 16",
    ),
    case(
        "qe-out-of-date",
        "An out-of-date quoting enclave makes an up-to-date platform out of date.",
        lambda: honest(SimPlatform(qe_isv_svn=4)),
        untrusted(
            4,
            "TCB-STATUS",
            tcb_status="OutOfDate",
            tcb_date="2024-03-13T00:00:00Z",
            advisory_ids=["INTEL-SA-99002"],
        ),
        covers="11 16",
    ),
)


# --- TDX module ---


def _with_tcb_info(own: SimCase, **changes: Any) -> SimCase:
    return replace(own, tcb_info=replace(own.tcb_info, **changes))


def _legacy(module_svn: int = 5) -> SimCase:
    svn = tee_tcb_svn(9, module_svn=module_svn, module_major=0)
    return honest(SimPlatform(tee_tcb_svn=svn))


_NO_MODULE = untrusted(3, "MODULE-IDENTITY MODULE-TCB TCB-STATUS", tcb_status="NotSupported")

MODULE_CASES: tuple[FixtureCase, ...] = (
    case(
        "seam-debug",
        "The TDX module is a debug module, which protects nothing.",
        defect("seam-debug"),
        untrusted(3, "SEAM-ATTRIBUTES MODULE-IDENTITY"),
        covers="A11 A12 13",
    ),
    case(
        "seam-signer",
        "The TDX module has a foreign signer.",
        defect("seam-signer"),
        untrusted(3, "MODULE-IDENTITY"),
        covers="A14 13",
    ),
    *(
        case(name, description, defect(name), _NO_MODULE, covers="A14 13")
        for name, description in (
            ("module-unknown", "Intel publishes no identity of major version 9."),
            ("tcb-info-no-module-identities", "The TCB info has no module identities."),
        )
    ),
    case(
        "module-revoked",
        "All levels of the TDX module are revoked.",
        defect("module-revoked"),
        untrusted(4, "MODULE-TCB TCB-STATUS", tcb_status="Revoked"),
        covers="15 16",
    ),
    case(
        "module-out-of-date",
        "An out-of-date TDX module makes an up-to-date platform out of date.",
        lambda: honest(SimPlatform(tee_tcb_svn=_OUT_OF_DATE_MODULE)),
        untrusted(
            4,
            "TCB-STATUS",
            tcb_status="OutOfDate",
            tcb_date="2024-03-13T00:00:00Z",
            advisory_ids=["INTEL-SA-99001"],
        ),
        covers="15 16",
    ),
    case(
        "module-legacy-component-low",
        "A module of major version 0 is compared from the first TDX component on.",
        lambda: _legacy(4),
        untrusted(4, "TCB-LEVEL TCB-STATUS", tcb_status="NotSupported"),
        covers="14",
    ),
)


# --- the walk through the levels ---


def _raised(kind: str, index: int, svn: int) -> Make:
    """Ask more of one component in the best level."""

    def make() -> SimCase:
        own = honest()
        best, *others = own.tcb_info.levels
        components: list[TcbComponent] = list(getattr(best, kind))
        components[index] = replace(components[index], svn=svn)
        changed: Any = {kind: tuple(components)}
        return _with_tcb_info(own, levels=(replace(best, **changed), *others))

    return make


def _set(number: int, module_isvsvn: int) -> Make:
    """Return today's quote and one TCB recovery: only the module SVN it asks for differs."""

    def make() -> SimCase:
        own = honest()
        best = SvnLevel(isvsvn=module_isvsvn, tcb_date=rung("UpToDate").tcb_date, status="UpToDate")
        older = SvnLevel(
            isvsvn=2,
            tcb_date=rung("OutOfDate").tcb_date,
            status="OutOfDate",
            advisory_ids=("INTEL-SA-99010",),
        )
        third, first = own.tcb_info.module_identities or ()
        identities = (third, replace(first, levels=(best, older)))
        return _with_tcb_info(own, tcb_evaluation_data_number=number, module_identities=identities)

    return make


_UNSUPPORTED = untrusted(
    4,
    "TCB-LEVEL TCB-STATUS",
    tcb_status="NotSupported",
    tcb_date=None,
    advisory_ids=[],
)
_ONE_RUNG_DOWN = untrusted(4, "TCB-STATUS", tcb_status="SWHardeningNeeded")

LEVEL_CASES: tuple[FixtureCase, ...] = (
    case(
        "tcb-below-all-levels",
        "The platform is below all levels: not supported, which is worse than out of date.",
        defect("no-tcb-level"),
        _UNSUPPORTED,
        covers="14 18",
    ),
    case(
        "tcb-pcesvn-low",
        "All components suffice, the PCESVN does not.",
        lambda: honest(SimPlatform(pcesvn=12)),
        _UNSUPPORTED,
        covers="14",
    ),
    case(
        "tcb-cpusvn-contradicts",
        "Only the raw CPUSVN looks up to date; the component SVNs decide.",
        defect("sgx-cpusvn-contradicts"),
        _UNSUPPORTED,
        covers="A15 14",
    ),
    *(
        case(
            f"tcb-last-{label}-component",
            f"The best level asks for more of the sixteenth {label.upper()} component.",
            _raised(f"{label}_components", 15, 1),
            _ONE_RUNG_DOWN,
            covers="A15 14",
        )
        for label in ("sgx", "tdx")
    ),
    case(
        "good-module-bytes-not-compared",
        "With a module identity, TDX components 1 and 2 are not compared.",
        _raised("tdx_components", 0, 99),
        trusted(tcb_status="UpToDate"),
        covers="14",
    ),
    case(
        "good-set-19",
        "The quote is up to date by set 19: a verdict belongs to quote, collateral and time.",
        _set(19, 6),
        trusted(tcb_status="UpToDate", tcb_evaluation_data_number=19),
        covers="20",
    ),
    case(
        "set-20",
        "The same quote is out of date by set 20, which asks for a newer TDX module.",
        _set(20, 11),
        untrusted(
            4,
            "TCB-STATUS",
            tcb_status="OutOfDate",
            tcb_evaluation_data_number=20,
            advisory_ids=["INTEL-SA-99010"],
        ),
        covers="A13 20",
    ),
)


# --- statuses a policy does not accept ---


def _status(status: str) -> FixtureCase:
    return case(
        f"status-{status.lower()}",
        f"The platform is {status}, which a policy accepts only if it says so.",
        lambda: honest(SimPlatform().with_status(status)),
        untrusted(4, "TCB-STATUS", tcb_status=status),
        covers="14 16 18",
    )


def _combined(
    name: str, description: str, platform: SimPlatform, expected: Expected, covers: str = "16"
) -> FixtureCase:
    return case(name, description, lambda: honest(platform), expected, covers=covers)


STATUS_CASES: tuple[FixtureCase, ...] = (
    *(
        _status(status)
        for status in (
            "OutOfDate",
            "Revoked",
        )
    ),
    case(
        "status-tdrelaunchadvised",
        "The TD still runs on what the module of its launch left behind.",
        lambda: honest(SimPlatform().with_relaunch_advised(), version=5, body_type=3),
        untrusted(4, "TCB-STATUS", tcb_status="TDRelaunchAdvised"),
        covers="17 18",
    ),
    _combined(
        "converge-configuration-and-qe",
        "ConfigurationNeeded and an out-of-date QE: OutOfDateConfigurationNeeded.",
        replace(SimPlatform().with_status("ConfigurationNeeded"), qe_isv_svn=4),
        untrusted(
            4,
            "TCB-STATUS",
            tcb_status="OutOfDateConfigurationNeeded",
            tcb_date="2024-03-13T00:00:00Z",
            advisory_ids=["INTEL-SA-99007", "INTEL-SA-99002"],
        ),
    ),
    _combined(
        "converge-hardening-and-module",
        "SWHardeningNeeded and an out-of-date TDX module: OutOfDate.",
        replace(
            SimPlatform().with_status("SWHardeningNeeded"),
            tee_tcb_svn=tee_tcb_svn(8, module_svn=4),
        ),
        untrusted(
            4,
            "TCB-STATUS",
            tcb_status="OutOfDate",
            tcb_date="2024-03-13T00:00:00Z",
            advisory_ids=["INTEL-SA-99008", "INTEL-SA-99001"],
        ),
    ),
    case(
        "grace-period-over",
        "The grace for OutOfDate ended at midnight.",
        lambda: honest(SimPlatform().with_status("OutOfDate")),
        untrusted(4, "TCB-STATUS", tcb_status="OutOfDate"),
        covers="18 A29",
        policy=policy(tcb={"grace_days": {"OutOfDate": 579}}),
    ),
    case(
        "advisory-rejected",
        "The status is accepted; an advisory the policy rejects applies.",
        lambda: honest(SimPlatform().with_status("SWHardeningNeeded")),
        untrusted(4, "TCB-ADVISORIES", tcb_status="SWHardeningNeeded"),
        covers="19",
        policy=policy(
            tcb={
                "accepted_statuses": ["UpToDate", "SWHardeningNeeded"],
                "rejected_advisories": ["INTEL-SA-99008"],
            }
        ),
    ),
    case(
        "tee-tcb-svn-low",
        "One byte of TEE_TCB_SVN is below the policy's minimum.",
        honest,
        untrusted(4, "TEE-TCB-SVN"),
        covers="14",
        policy=policy(tcb={"min_tee_tcb_svn": "070109" + "00" * 13}),
    ),
)
