"""A policy with every default filled in, as text and as JSON.

The JSON form holds a complete policy document that means the same as the one read: what a
reviewer should sign off is what will be enforced, not what was left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any as Json

from ccverify.policy.model import (
    MEASUREMENTS,
    MUST_STATE,
    Any,
    BindingPolicy,
    CountPolicy,
    DevicePolicy,
    EventLogPolicy,
    GatewayPolicy,
    PlatformPolicy,
    Policy,
    TcbPolicy,
    TdxPolicy,
    TopologyPolicy,
)
from ccverify.results.render.json import dump_json
from ccverify.results.render.policy_fabric import certificate_sha256, fabric_document
from ccverify.results.render.policy_values import accepted, hexes, stated, versions
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
    return {
        "schema": "ccverify.policy/v1",
        "name": policy.name,
        **stated(
            tdx=_tdx(policy.tdx),
            gpus=_devices(policy.gpus, switches=False),
            nvswitches=_devices(policy.nvswitches, switches=True),
            topology=_topology(policy.topology),
            fabric=fabric_document(policy.fabric, _tdx),
            binding=_binding(policy.binding),
            gateway=policy.gateway and _gateway(policy.gateway),
        ),
    }


# --- model → document ---


def _tdx(tdx: TdxPolicy | Any | None) -> Json:
    if not isinstance(tdx, TdxPolicy):
        return tdx and "any"
    return {
        "tcb": _tcb(tdx.tcb),
        "collateral": stated(
            max_age_days=tdx.collateral.max_age_days,
            allow_unknown_fields=tdx.collateral.allow_unknown_fields,
        ),
        "measurements": stated(
            **{name: accepted(tdx.measurements.get(name)) for name in MEASUREMENTS}
        ),
        "attributes": {bit.key: tdx.rule(bit.key).value for bit in TD_ATTRIBUTES},
        "xfam": {"require": sorted(tdx.xfam.require), "forbid": sorted(tdx.xfam.forbid)},
        "service_td": hexes(tdx.service_td),
        "platform": _platform(tdx.platform),
        "report_data": "nonce" if tdx.report_data is None else accepted(tdx.report_data),
        **stated(event_log=tdx.event_log and _event_log(tdx.event_log)),
    }


def _tcb(tcb: TcbPolicy) -> dict[str, Json]:
    svn = tcb.min_tee_tcb_svn
    return stated(
        accepted_statuses=sorted(status.value for status in tcb.accepted_statuses),
        grace_days={status.value: days for status, days in sorted(tcb.grace_days.items())},
        min_evaluation_number=tcb.min_evaluation_number,
        min_qe_evaluation_number=tcb.min_qe_evaluation_number,
        rejected_advisories=sorted(tcb.rejected_advisories),
        min_tee_tcb_svn=None if svn is None else svn.hex(),
    )


def _platform(platform: PlatformPolicy) -> dict[str, Json]:
    lists = {
        name: None if values is None else hexes(values)
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
    return stated(**lists) | {k: "allow" if on else "forbid" for k, on in switches.items()}


def _event_log(log: EventLogPolicy) -> dict[str, Json]:
    return stated(
        required=log.required,
        replay=[f"rtmr{number}" for number in sorted(log.replay)],
        rtmr3=log.rtmr3,
        claims={name: sorted(values) for name, values in sorted(log.claims.items())},
    )


def _devices(devices: DevicePolicy | Any | None, *, switches: bool) -> Json:
    if not isinstance(devices, DevicePolicy):
        return devices and "any"
    firmware = {"bios" if switches else "vbios": versions(devices.vbios)}
    if not switches:
        firmware = {"driver": versions(devices.driver), **firmware}
    return stated(
        count=_count(devices.count),
        architectures=_words(devices.architectures),
        modes=_words(devices.modes),
        fwid="required" if devices.fwid_required else "if-reported",
        rim="required" if devices.rim_required else "any",
        rim_expired_signer=_switch(devices.allow_expired_rim_signer),
        revocation=devices.revocation.value,
        certificate_hold=_switch(devices.allow_hold),
        revocation_max_age_days=devices.revocation_max_age_days,
        **firmware,
        firmware_ids=accepted(devices.firmware_ids),
        device_ids=accepted(devices.device_ids),
    )


def _switch(allowed: bool) -> str:
    return "allow" if allowed else "forbid"


def _count(count: CountPolicy | Any | None) -> Json:
    if not isinstance(count, CountPolicy):
        return count and "any"
    same = count.least == count.most
    return count.least if same else {"min": count.least, "max": count.most}


def _words(words: frozenset[str] | Any | None) -> Json:
    if not isinstance(words, frozenset):
        return words and "any"
    return sorted(words)


def _topology(topology: TopologyPolicy | Any | None) -> Json:
    if not isinstance(topology, TopologyPolicy):
        return topology and "any"
    return {
        "kind": "protected-pcie",
        "gpus": topology.gpus,
        "switches": topology.switches,
        "mixed_firmware": _switch(topology.allow_mixed_firmware),
        "mixed_driver": _switch(topology.allow_mixed_driver),
    }


def _binding(binding: BindingPolicy) -> dict[str, Json]:
    return {
        "profiles": [profile.value for profile in binding.profiles],
        "freshness": "required" if binding.freshness_required else "waived",
        "relayable": "accept" if binding.relayable_accepted else "refuse",
    }


def _gateway(gateway: GatewayPolicy) -> dict[str, Json]:
    return stated(tdx=_tdx(gateway.tdx), binding=_binding(gateway.binding))


# --- text ---


def render_policy(policy: Policy, *, width: int, color: bool = False) -> str:
    """Return the effective policy as text."""
    page = Page(width, color=color)
    page.paragraph(f"Policy {policy.name or 'without a name'}", style=Style.STRONG)
    page.rows([("sha384", policy.digest)], indent=2, styles=(Style.DIM,))
    document = effective_document(policy)
    _show_tdx(page, "tdx", document.get("tdx"))
    service_vms = _taken_out(document)
    for section, absent in _ABSENT.items():
        _show(page, section, document.get(section), absent)
        for number, service_vm in enumerate(service_vms if section == "fabric" else ()):
            _show_tdx(page, f"fabric.managers.tdx[{number}]", service_vm)
    gateway = document.get("gateway")
    if gateway is None:
        _show(page, "gateway", None, f"{_SILENT}: gateways are judged like every other node")
    else:
        _show_tdx(page, "gateway.tdx", gateway.get("tdx"))
        _show(page, "gateway.binding", gateway["binding"], "")
    return page.text()


def _taken_out(document: Mapping[str, Json]) -> Sequence[Json]:
    """Take descriptions of service VMs out of the fabric's section: each is shown by itself."""
    fabric = document.get("fabric")
    managers = fabric.get("managers") if isinstance(fabric, dict) else None
    machines: list[Json] = managers.get("tdx", []) if managers else []
    if managers and machines:
        managers["tdx"] = f"{len(machines)} service VMs, each below"
    return machines


def _show_tdx(page: Page, title: str, tdx: Json) -> None:
    if not isinstance(tdx, Mapping):
        _show(page, title, tdx, f"{_SILENT}: {_UNJUDGED.format('a quote')}")
        return
    for section, absent in _ABSENT_IN_TDX.items():
        _show(page, f"{title}.{section}", tdx.get(section), absent)


def _show(page: Page, title: str, value: Json, absent: Mapping[str, str] | str) -> None:
    """Show one section; `absent` says what silence means, of a key or of the whole section."""
    page.heading(title)
    if isinstance(value, Mapping):
        silence = absent if isinstance(absent, Mapping) else {}
        members = {**value, **{key: silence[key] for key in silence if key and key not in value}}
        rows = [(key, _shown(member)) for key, member in members.items()]
    elif value is not None:
        rows = [("", _shown(value) + (_KNOWINGLY if title in _WAIVABLE else ""))]
    else:
        rows = [("", absent if isinstance(absent, str) else absent[""])]
    page.rows(rows, indent=2, styles=(Style.DIM,))


def _shown(value: Json) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_shown(v)}" for k, v in value.items()) or "none"
    if isinstance(value, str) and value.startswith("-----BEGIN"):
        return f"certificate of SHA-256 {certificate_sha256(value)}"
    return str(value)


_SILENT = "not stated"
_MUST = f"{_SILENT}: no machine can be trusted until it is"
_NOT_JUDGED = f"{_SILENT}: not judged"
_UNJUDGED = "{} in the evidence leaves the verdict incomplete"
_KNOWINGLY = ": not judged, knowingly"
_WAIVABLE = frozenset({"tdx", "gpus", "nvswitches", "topology", "fabric", "gateway.tdx"})

_ABSENT_IN_TDX: Mapping[str, Mapping[str, str] | str] = {
    "tcb": {
        "min_evaluation_number": _SILENT,
        "min_qe_evaluation_number": _SILENT,
        "min_tee_tcb_svn": _SILENT,
    },
    "collateral": {"max_age_days": f"{_SILENT}: any age inside Intel's own window"},
    "measurements": dict.fromkeys(MUST_STATE, _MUST)
    | {name: _NOT_JUDGED for name in MEASUREMENTS if name not in MUST_STATE},
    "attributes": {},
    "xfam": {},
    "service_td": "none",
    "platform": dict.fromkeys(("fmspc", "ppid", "platform_instance_id"), f"{_SILENT}: any"),
    "report_data": "nonce",
    "event_log": "not asked for; a log that is given is judged by the defaults",
}
"""What silence means, by section of ``tdx``, in the order shown."""

_ABSENT_IN_DEVICES: Mapping[str, str] = {
    "revocation_max_age_days": f"{_SILENT}: any age inside an answer's own window",
    "firmware_ids": _NOT_JUDGED,
    "device_ids": f"{_SILENT}: any genuine device",
}
_ABSENT: Mapping[str, Mapping[str, str]] = {
    "gpus": {
        "": f"{_SILENT}: {_UNJUDGED.format('a GPU')}",
        **dict.fromkeys(("count", "architectures", "modes"), _MUST),
        **_ABSENT_IN_DEVICES,
    },
    "nvswitches": {
        "": f"{_SILENT}: {_UNJUDGED.format('an NVSwitch')}",
        "count": _MUST,
        "architectures": _NOT_JUDGED,
        **_ABSENT_IN_DEVICES,
    },
    "topology": {
        "": f"{_SILENT}: a node with switches, or in Protected PCIe mode, cannot be trusted",
    },
    "fabric": {
        "": f"{_SILENT}: GPUs in multi-GPU mode (MPT) cannot be trusted",
        "mode": _NOT_JUDGED,
        "partition": _NOT_JUDGED,
        "managers": f"{_SILENT}: a statement is nobody's word",
        "routing_digests": _NOT_JUDGED,
        "apart_from": _NOT_JUDGED,
    },
    "binding": {},
}
"""The same of the other sections; the empty key stands for the whole section."""
