"""A policy with every default filled in, as text and as JSON.

The JSON form holds a complete policy document that means the same as the one read: what a
reviewer should sign off is what will be enforced, not what was left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any as Json

from ccverify.policy.model import (
    MEASUREMENTS,
    MUST_STATE,
    Accepted,
    EventLogPolicy,
    PlatformPolicy,
    Policy,
    TcbPolicy,
)
from ccverify.results.render.json import dump_json
from ccverify.results.render.text import Page, Style
from ccverify.tdx.attributes import TD_ATTRIBUTES

__all__ = ["POLICY_VIEW_SCHEMA", "effective_document", "policy_json", "render_policy"]

POLICY_VIEW_SCHEMA = "ccverify.policy-view/v1"


def policy_json(policy: Policy) -> str:
    """Return digest and effective document as one ``ccverify.policy-view/v1`` object."""
    return dump_json(
        {
            "schema": POLICY_VIEW_SCHEMA,
            "sha384": policy.digest,
            "effective": effective_document(policy),
        }
    )


def effective_document(policy: Policy) -> dict[str, Json]:
    """Return a policy document that states every default; loading it gives the same rules.

    Expectations that have no default and are not stated stay absent.
    """
    tdx = policy.tdx
    return {
        "schema": "ccverify.policy/v1",
        "name": policy.name,
        "tdx": {
            "tcb": _tcb(tdx.tcb),
            "collateral": _stated(
                max_age_days=tdx.collateral.max_age_days,
                allow_unknown_fields=tdx.collateral.allow_unknown_fields,
            ),
            "measurements": _stated(
                **{name: _accepted(tdx.measurements.get(name)) for name in MEASUREMENTS}
            ),
            "attributes": {bit.key: tdx.rule(bit.key).value for bit in TD_ATTRIBUTES},
            "xfam": {"require": sorted(tdx.xfam.require), "forbid": sorted(tdx.xfam.forbid)},
            "service_td": _hex(tdx.service_td),
            "platform": _platform(tdx.platform),
            "report_data": "nonce" if tdx.report_data is None else _accepted(tdx.report_data),
            **_stated(event_log=tdx.event_log and _event_log(tdx.event_log)),
        },
    }


def _stated(**members: Json) -> dict[str, Json]:
    return {name: value for name, value in members.items() if value is not None}


def _hex(values: frozenset[bytes]) -> list[str]:
    return sorted(value.hex() for value in values)


def _accepted(value: Accepted) -> Json:
    if value is None:
        return None
    return _hex(value) if isinstance(value, frozenset) else "any"


def _tcb(tcb: TcbPolicy) -> dict[str, Json]:
    svn = tcb.min_tee_tcb_svn
    return _stated(
        accepted_statuses=sorted(status.value for status in tcb.accepted_statuses),
        grace_days={status.value: days for status, days in sorted(tcb.grace_days.items())},
        min_evaluation_number=tcb.min_evaluation_number,
        min_qe_evaluation_number=tcb.min_qe_evaluation_number,
        rejected_advisories=sorted(tcb.rejected_advisories),
        min_tee_tcb_svn=None if svn is None else svn.hex(),
    )


def _platform(platform: PlatformPolicy) -> dict[str, Json]:
    lists = {
        name: None if values is None else _hex(values)
        for name, values in (
            ("fmspc", platform.fmspc),
            ("ppid", platform.ppid),
            ("platform_instance_id", platform.platform_instance_id),
        )
    }
    switches = {
        "smt": platform.allow_smt,
        "dynamic_platform": platform.allow_dynamic_platform,
        "cached_keys": platform.allow_cached_keys,
    }
    return _stated(**lists) | {k: "allow" if on else "forbid" for k, on in switches.items()}


def _event_log(log: EventLogPolicy) -> dict[str, Json]:
    return _stated(
        required=log.required,
        replay=[f"rtmr{number}" for number in sorted(log.replay)],
        rtmr3=log.rtmr3,
        claims={name: sorted(values) for name, values in sorted(log.claims.items())},
    )


def render_policy(policy: Policy, *, width: int, color: bool = False) -> str:
    """Return the effective policy as text."""
    page = Page(width, color=color)
    page.paragraph(f"Policy {policy.name or 'without a name'}", style=Style.STRONG)
    page.rows([("sha384", policy.digest)], indent=2, styles=(Style.DIM,))
    document = effective_document(policy)["tdx"]
    for section, absent in _ABSENT.items():
        value = document.get(section)
        page.heading(f"tdx.{section}")
        if isinstance(value, Mapping):
            silence = absent if isinstance(absent, Mapping) else {}
            members = {**value, **{name: silence[name] for name in silence if name not in value}}
            rows = [(name, _shown(member)) for name, member in members.items()]
        else:
            rows = [("", _shown(value) if value is not None else str(absent))]
        page.rows(rows, indent=2, styles=(Style.DIM,))
    return page.text()


def _shown(value: Json) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_shown(v)}" for k, v in value.items()) or "none"
    return str(value)


_SILENT = "not stated"
_ABSENT: Mapping[str, Mapping[str, str] | str] = {
    "tcb": {
        "min_evaluation_number": _SILENT,
        "min_qe_evaluation_number": _SILENT,
        "min_tee_tcb_svn": _SILENT,
    },
    "collateral": {"max_age_days": f"{_SILENT}: any age inside Intel's own window"},
    "measurements": dict.fromkeys(MUST_STATE, f"{_SILENT}: no machine can be trusted until it is")
    | {name: f"{_SILENT}: not judged" for name in MEASUREMENTS if name not in MUST_STATE},
    "attributes": {},
    "xfam": {},
    "service_td": "none",
    "platform": dict.fromkeys(("fmspc", "ppid", "platform_instance_id"), f"{_SILENT}: any"),
    "report_data": "nonce",
    "event_log": "not asked for; a log that is given is judged by the defaults",
}
"""What silence means, by section, in the order shown."""
