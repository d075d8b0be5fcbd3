"""Advice on a valid policy: what it gives up, and what would be stronger."""

from __future__ import annotations

from collections.abc import Iterator

from ccverify.cli.policy_advice_devices import (
    advise_binding,
    advise_devices,
    advise_freshness,
    advise_topology,
)
from ccverify.cli.policy_advice_fabric import advise_fabric
from ccverify.cli.policy_remark import Advice, Level
from ccverify.policy.model import (
    ANY,
    MUST_STATE,
    Any,
    DevicePolicy,
    EventLogPolicy,
    FabricPolicy,
    GatewayPolicy,
    Policy,
    TdxPolicy,
)
from ccverify.tdx.attributes import TD_ATTRIBUTES, Rule
from ccverify.tdx.tcb_info import TcbStatus

__all__ = ["Advice", "Level", "advise"]

LONG_GRACE_DAYS = 90

_PATCHED = frozenset(
    {
        TcbStatus.UP_TO_DATE,
        TcbStatus.SW_HARDENING_NEEDED,
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    }
)


def advise(policy: Policy) -> list[Advice]:
    """Return all remarks on a policy, gravest first."""
    remarks = [
        *_tdx_section(policy),
        *advise_devices(policy),
        *advise_topology(policy),
        *advise_fabric(policy),
        *_service_vms(policy.fabric),
        *advise_binding(policy),
        *_gateway(policy.gateway),
    ]
    return sorted(remarks, key=lambda remark: remark.level.value)


def _tdx_section(policy: Policy) -> Iterator[Advice]:
    if isinstance(policy.tdx, TdxPolicy):
        yield from _tdx(policy.tdx)
    elif policy.tdx is ANY:
        yield _any_tdx()
    elif isinstance(policy.gpus, DevicePolicy):
        yield Advice(
            Level.CONSIDER,
            "tdx",
            "Genuine devices say nothing of the software that uses them, or of who asks them: "
            "only CPU evidence does.",
            "Judge the confidential VM as well: tdx.measurements.",
        )


def _any_tdx() -> Advice:
    return Advice(
        Level.WEAKENS,
        "tdx: any",
        "A quote in the evidence is not judged: any software on any machine passes.",
        "State what you expect in tdx.",
    )


def _gateway(gateway: GatewayPolicy | None) -> Iterator[Advice]:
    if gateway is None:
        return
    remarks = [_any_tdx()] if gateway.tdx is ANY else []
    if isinstance(gateway.tdx, TdxPolicy):
        remarks += _tdx(gateway.tdx)
    for remark in (*remarks, *advise_freshness(gateway.binding)):
        yield remark._replace(
            where=f"gateway.{remark.where}",
            instead=remark.instead.replace("tdx.", "gateway.tdx."),
        )


def _service_vms(fabric: FabricPolicy | Any | None) -> Iterator[Advice]:
    """What the descriptions of the fabric's managers give up; what they could add is theirs."""
    if not isinstance(fabric, FabricPolicy) or fabric.managers is None:
        return
    for number, machine in enumerate(fabric.managers.tdx):
        own = f"fabric.managers.tdx[{number}]."
        for remark in _tdx(machine):
            if remark.level is not Level.CONSIDER:
                yield remark._replace(
                    where=remark.where.replace("tdx.", own, 1),
                    instead=remark.instead.replace("tdx.", own),
                )


def _tdx(policy: TdxPolicy) -> Iterator[Advice]:
    yield from _attributes(policy)
    yield from _measurements(policy)
    yield from _tcb(policy)
    yield from _collateral(policy)
    yield from _freshness(policy)
    yield from _platform(policy)
    yield from _event_log(policy)


def _attributes(policy: TdxPolicy) -> Iterator[Advice]:
    for bit in TD_ATTRIBUTES:
        rule = policy.rule(bit.key)
        if rule is bit.default or bit.default is Rule.ALLOW:
            continue
        meaning = bit.meaning
        if bit.default is Rule.REQUIRE:
            meaning = f"without this bit it is not ensured that {bit.meaning}"
        yield Advice(
            Level.WEAKENS,
            f"tdx.attributes.{bit.key}: {rule.value}",
            f"{meaning[0].upper()}{meaning[1:]}.",
            f"Leave it out; the default is {bit.default.value}.",
        )
    if policy.service_td:
        yield Advice(
            Level.WEAKENS,
            "tdx.service_td",
            "A service TD on this list may export the TD's memory and secrets.",
            "List only migration TDs whose code you know.",
        )


def _measurements(policy: TdxPolicy) -> Iterator[Advice]:
    silent = [name for name in MUST_STATE if policy.measurements.get(name) is None]
    if silent:
        yield Advice(
            Level.UNMEETABLE,
            f"tdx.measurements: nothing on {', '.join(silent)}",
            "These say which software runs, and no default can fill them.",
            "List the values you expect, or say `any` to accept every value knowingly.",
        )
    waived = [name for name in MUST_STATE if policy.measurements.get(name) is ANY]
    if _explained(policy.event_log) and "rtmr3" in waived:
        waived.remove("rtmr3")
    if waived:
        yield Advice(
            Level.WEAKENS,
            f"tdx.measurements: any for {', '.join(waived)}",
            "What these registers measure may be replaced by any other software.",
            "List the values of the images you run; RTMR3 may instead be explained by a log: "
            "tdx.event_log with rtmr3: log, and claims.",
        )


def _explained(log: EventLogPolicy | None) -> bool:
    if log is None or not (log.required or log.claims):
        return False
    return log.rtmr3 in ("log", "zero")


def _tcb(policy: TdxPolicy) -> Iterator[Advice]:
    tcb = policy.tcb
    if not tcb.accepted_statuses and not tcb.grace_days:
        yield Advice(
            Level.UNMEETABLE,
            "tdx.tcb.accepted_statuses",
            "The list is empty, so no TCB status is accepted.",
            "Leave it out for UpToDate alone.",
        )
    for status in sorted(tcb.accepted_statuses - _PATCHED):
        yield Advice(
            Level.WEAKENS,
            f"tdx.tcb.accepted_statuses: {status.value}",
            "Platforms with published, unpatched vulnerabilities are trusted for ever.",
            "Give the operator time instead: tdx.tcb.grace_days.",
        )
    for status, days in sorted(tcb.grace_days.items()):
        if days > LONG_GRACE_DAYS:
            yield Advice(
                Level.WEAKENS,
                f"tdx.tcb.grace_days.{status.value}: {days}",
                f"Known vulnerabilities are tolerated for more than {LONG_GRACE_DAYS} days.",
                "Shorten it, and name what you cannot live with in rejected_advisories.",
            )
    if tcb.min_evaluation_number is None:
        yield Advice(
            Level.CONSIDER,
            "tdx.tcb.min_evaluation_number",
            "An attester may show collateral of an older TCB recovery that is still valid.",
            "Set it to the number of the TCB recovery you rely on.",
        )


def _collateral(policy: TdxPolicy) -> Iterator[Advice]:
    if policy.collateral.allow_unknown_fields:
        yield Advice(
            Level.WEAKENS,
            "tdx.collateral.allow_unknown_fields: true",
            "A new restriction by Intel would be ignored without a word.",
            "Leave it out, and update ccverify.",
        )
    if policy.collateral.max_age_days is None:
        yield Advice(
            Level.CONSIDER,
            "tdx.collateral.max_age_days",
            "Collateral may be as old as Intel's own window allows, about 30 days, and so "
            "miss a disclosure.",
            "Set it to how often you fetch, for example 7.",
        )


def _freshness(policy: TdxPolicy) -> Iterator[Advice]:
    if policy.report_data is ANY:
        yield Advice(
            Level.WEAKENS,
            "tdx.report_data: any",
            "An old quote, or one made for somebody else, passes.",
            "Leave it out, and send a nonce.",
        )
    elif policy.report_data is not None:
        yield Advice(
            Level.WEAKENS,
            "tdx.report_data: a list",
            "A fixed value never gets old: a recorded quote passes without a nonce.",
            "Leave it out, and give nonce or report data with each check.",
        )


def _platform(policy: TdxPolicy) -> Iterator[Advice]:
    platform = policy.platform
    if platform.ppid is None and platform.platform_instance_id is None:
        yield Advice(
            Level.CONSIDER,
            "tdx.platform",
            "Any genuine platform will do, even one in the wrong hands or with leaked keys.",
            "Name the machines you rent in tdx.platform.ppid or platform_instance_id.",
        )


def _event_log(policy: TdxPolicy) -> Iterator[Advice]:
    log = policy.event_log
    if log is None:
        return
    if not log.required and not log.claims:
        yield Advice(
            Level.WEAKENS,
            "tdx.event_log.required: false",
            "The attester can leave the log out, and with it what the log would show.",
            "Leave it out; the default is true.",
        )
    if log.claims and log.rtmr3 in ("zero", "opaque"):
        yield Advice(
            Level.UNMEETABLE,
            f"tdx.event_log.rtmr3: {log.rtmr3}",
            "Claims come from RTMR3; treated so, nothing proves them.",
            "Set rtmr3 to log, or drop the claims.",
        )
    if not log.claims and policy.measurements.get("rtmr3") is ANY:
        yield Advice(
            Level.CONSIDER,
            "tdx.event_log.claims",
            "RTMR3 may be anything and no claim is asked for: any application will do.",
            "Name what must run, for example claims.compose_hash.",
        )
