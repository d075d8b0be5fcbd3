"""Good cases: what a policy accepts knowingly."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ccverify.sim.cases.model import FixtureCase, case, honest, policy, trusted
from ccverify.sim.collateral import sign_body
from ccverify.sim.defaults import rung
from ccverify.sim.platform import DEFAULT_REPORT_DATA, SimCase, SimEvidence, SimPlatform
from ccverify.sim.sgx_extension import PckConfiguration

__all__ = ["ACCEPTED_CASES"]

_ZERO = bytes(48).hex()
_SERVICE_TD = b"\x5e" * 48
_DATED = {
    "SWHardeningNeeded": ("2025-08-13", ["INTEL-SA-99008"]),
    "ConfigurationNeeded": ("2025-05-14", ["INTEL-SA-99007"]),
    "ConfigurationAndSWHardeningNeeded": ("2025-02-12", ["INTEL-SA-99007", "INTEL-SA-99008"]),
    "OutOfDate": ("2024-11-13", ["INTEL-SA-99005"]),
    "OutOfDateConfigurationNeeded": ("2024-03-13", ["INTEL-SA-99005", "INTEL-SA-99007"]),
}


def _paravisor() -> SimCase:
    """Return what a paravisor's TD looks like: no SEPT_VE_DISABLE, RTMRs unused."""
    zero = {f"rtmr{number}": bytes(48) for number in range(4)}
    return honest().with_body(td_attributes=0, **zero)


def _relaunch(launched: str) -> SimCase:
    return honest(SimPlatform().with_relaunch_advised(launched), version=5, body_type=3)


def _configuration_off() -> SimCase:
    off = PckConfiguration(dynamic_platform=False, cached_keys=False, smt_enabled=False)
    return honest(SimPlatform(configuration=off))


def _unknown_member() -> SimEvidence:
    """Sign TCB info that has a member no verifier of today knows."""
    own = honest()
    members = own.tcb_info.members() | {"tdxFutureRule": {"level": 1}}
    evidence = own.build()
    body = sign_body("tcbInfo", members, own.tcb_signing.key)
    return replace(evidence, collateral=replace(evidence.collateral, tcb_info=body))


def _accepting(*statuses: str, **tcb: Any) -> dict[str, Any]:
    return policy(tcb={"accepted_statuses": ["UpToDate", *statuses], **tcb})


ACCEPTED_CASES: tuple[FixtureCase, ...] = (
    *(
        case(
            f"good-status-{status.lower()}",
            f"The policy accepts {status}; date and advisories are those of the level.",
            partial(honest, SimPlatform().with_status(status)),
            trusted(tcb_status=status, tcb_date=f"{date}T00:00:00Z", advisory_ids=advisories),
            covers="14 16 18 19",
            policy=_accepting(status),
        )
        for status, (date, advisories) in _DATED.items()
    ),
    case(
        "good-status-tdrelaunchadvised",
        "The TD was launched on an out-of-date module, and a current one runs now.",
        lambda: _relaunch("OutOfDate"),
        trusted(tcb_status="TDRelaunchAdvised"),
        covers="17 18",
        policy=_accepting("TDRelaunchAdvised"),
    ),
    case(
        "good-status-tdrelaunchadvisedconfigurationneeded",
        "The same, where the launch level also needed configuration.",
        lambda: _relaunch("OutOfDateConfigurationNeeded"),
        trusted(tcb_status="TDRelaunchAdvisedConfigurationNeeded"),
        covers="17 18",
        policy=_accepting("TDRelaunchAdvisedConfigurationNeeded"),
    ),
    case(
        "good-grace-period",
        "OutOfDate is accepted until 580 days after the level's date, which is tomorrow.",
        lambda: honest(SimPlatform().with_status("OutOfDate")),
        trusted(tcb_status="OutOfDate", tcb_date=f"{rung('OutOfDate').tcb_date:%FT%TZ}"),
        covers="18 A29",
        policy=policy(tcb={"grace_days": {"OutOfDate": 580}}),
    ),
    case(
        "good-minimums-equal",
        "Evaluation numbers, age and TEE_TCB_SVN are exactly at the policy's limits.",
        honest,
        trusted(tcb_evaluation_data_number=20, qe_evaluation_data_number=20),
        covers="4 5 14 A13",
        policy=policy(
            tcb={
                "min_evaluation_number": 20,
                "min_qe_evaluation_number": 20,
                "min_tee_tcb_svn": "060109" + "00" * 13,
            },
            collateral={"max_age_days": 3},
        ),
    ),
    case(
        "good-unknown-member-allowed",
        "TCB info has a member nobody knows yet, and the policy says that this is acceptable.",
        _unknown_member,
        trusted(),
        covers="3 A14 A21",
        policy=policy(collateral={"allow_unknown_fields": True}),
    ),
    case(
        "good-paravisor",
        "A paravisor leaves SEPT_VE_DISABLE off and the RTMRs zero; the policy says so.",
        _paravisor,
        trusted(),
        covers="A12",
        policy=policy(
            attributes={"sept_ve_disable": "allow"},
            measurements={f"rtmr{number}": [_ZERO] for number in range(4)},
        ),
    ),
    case(
        "good-features-by-policy",
        "Attributes and extended features are what the policy allows and requires.",
        lambda: honest().with_body(td_attributes=0x8000000070000000),
        trusted(),
        covers="A12",
        policy=policy(
            attributes={"migratable": "allow", "perfmon": "allow", "pks": "require"},
            xfam={"require": ["avx512", "amx"], "forbid": ["pt", "lbr", "uli"]},
        ),
    ),
    case(
        "good-service-td-listed",
        "A migration TD is bound whose hash the policy lists.",
        lambda: honest(version=5, body_type=3, body={"mr_service_td": _SERVICE_TD}),
        trusted(),
        covers="A12",
        policy=policy(service_td=[_SERVICE_TD.hex()]),
    ),
    case(
        "good-report-data-list",
        "The policy lists the accepted REPORTDATA; no nonce is given.",
        honest,
        trusted(),
        covers="A2",
        policy=policy(report_data=["00" * 64, DEFAULT_REPORT_DATA.hex()]),
        report_data=None,
    ),
    case(
        "good-platform-listed",
        "FMSPC, PPID and platform instance are the tenant's, and SMT and the like are off.",
        _configuration_off,
        trusted(fmspc="53494D000000", smt_enabled=False),
        covers="7",
        policy=policy(
            platform={
                "fmspc": ["53494d000000"],
                "ppid": [SimPlatform().identifier("ppid").hex()],
                "platform_instance_id": [SimPlatform().identifier("platform-instance").hex()],
                "smt": "forbid",
                "dynamic_platform": "forbid",
                "cached_keys": "forbid",
            }
        ),
    ),
)
