"""What a verdict claims of a fabric: each claim with its value, what it rests on, and its sources.

A claim rests on its weakest source.  What the driver relays from the Fabric Manager is
`asserted` at most; what a statement says rests on whoever bound its key; no claim but the mode
ever rests on hardware.  A claim that a stronger source contradicts keeps its value, to be read,
and rests on nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha384
from typing import Any, Final

from ccverify.clock_text import unix_text
from ccverify.fabric.consistency_model import (
    NOT_STATED,
    AttestedGpu,
    FabricCode,
    FabricConsistency,
)
from ccverify.fabric.manager import Program
from ccverify.fabric.nvml_values import FABRIC_STATES, HEALTH_SUMMARIES, named
from ccverify.fabric.observation import Absent, FabricInfo, GpuObservation
from ccverify.fabric.partition_table import PartitionEntry
from ccverify.fabric.probe import PairProbe, ProbeReport, Spread
from ccverify.fabric.registration import active_links, health_problems, health_stated
from ccverify.fabric.routing_findings import RouteCode
from ccverify.fabric.statement_model import StatementCode
from ccverify.findings import Assurance, Finding, State
from ccverify.policy.judge_fabric import Observed, weaker
from ccverify.policy.judge_probe import Probed
from ccverify.policy.judge_routing import Routed
from ccverify.policy.model import FABRIC_CLAIMS
from ccverify.policy.stated import Stated, weakest

__all__ = ["Sources", "fabric_claims"]

Claims = dict[str, dict[str, Any]]

_MANAGER: Final = "Fabric Manager, unauthenticated, through NVML"
_STATEMENT: Final = "statement of the manager"
_MODULE_IDS: Final = "module ids that NVML reads from the GPUs"
_IDENTITY: Final = frozenset(
    {
        FabricCode.IDENTITY.value,
        FabricCode.UNATTESTED.value,
        FabricCode.UNSEEN.value,
        FabricCode.DISTINCT.value,
    }
)
_SEEN: Final = _IDENTITY | {FabricCode.VERSIONS.value}
_OLD: Final = frozenset({"FABRIC-STATEMENT", "FABRIC-STATEMENT-FRESH"})
"""A statement of another day says nothing of today's fabric."""
_TABLE: Final = _OLD | frozenset(
    {"FABRIC-SAME-HOST", StatementCode.PARTITION_TABLE.value, StatementCode.MODULES.value}
)
_RUNNING: Final = _OLD | {StatementCode.PROGRAM.value, StatementCode.CONTINUITY.value}
_TABLES: Final = _RUNNING | {"FABRIC-ROUTING", RouteCode.LINK.value, RouteCode.UNKNOWN_PORT.value}
_CONTESTED: Final[Mapping[str, frozenset[str]]] = {
    "members": _SEEN | _TABLE | {FabricCode.CLIQUE.value, FabricCode.MODULE.value},
    "partition": _SEEN | _TABLE | {FabricCode.CLIQUE.value, FabricCode.MODULE.value},
    "registration": _SEEN | {FabricCode.CLIQUE.value},
    "encryption_in_force": _SEEN | {FabricCode.MODE_AGREES.value},
    "health": _SEEN,
    "links": _SEEN,
    "manager": _OLD | {StatementCode.PROGRAM.value},
    "manager_configuration": _RUNNING,
    "routing": _TABLES,
    "isolation": _TABLES | _TABLE | _IDENTITY,
    "liveness": _OLD,
    "probe": _SEEN,
}
"""Claim → checks whose failure leaves nothing standing behind it.

That isolation is refuted is no contradiction: the claim then says so.
"""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that anybody says of the fabric.

    Attributes:
        attested: GPUs whose report is genuine.
        device: the weakest assurance of these.
        observed: what the driver says.
        given: the observation's bytes.
        stated: statements of the manager that may be used, the earliest first.
        entry: the tenant's partition in the latest; None where it is not known.
        routed: what its tables came to.
        probed: what the guest measured.
        same_host: whether the latest statement is shown to be about the tenant's board.
    """

    attested: Sequence[AttestedGpu]
    device: Assurance
    observed: Observed
    given: bytes | None
    stated: Sequence[Stated] = ()
    entry: PartitionEntry | None = None
    routed: Routed = field(default_factory=lambda: Routed(None))
    probed: Probed = field(default_factory=lambda: Probed(None, Assurance.NONE))
    same_host: bool = False


def fabric_claims(
    sources: Sources, findings: Iterable[Finding], refuted: Collection[str] = ()
) -> Claims:
    """Make every claim, in one order; what nothing supports is stated as such.

    Args:
        sources: what there is.
        findings: of the fabric, so that contradictions count.
        refuted: checks that the latest statement fails, whether or not the policy asks.
    """
    made = {
        "mode": _mode(sources),
        **_observed_claims(sources),
        **_stated_claims(sources),
        **_probe_claims(sources),
    }
    failed = {one.code for one in findings if one.state is State.FAIL} | set(refuted)
    for name, checks in _CONTESTED.items():
        if name in made and checks & failed and made[name]["value"] is not None:
            made[name]["assurance"] = Assurance.NONE.value
    claims = {name: made.get(name) or _claim(None, Assurance.NONE, ()) for name in FABRIC_CLAIMS}
    if sources.given is not None and sources.observed.observation is not None:
        claims["driver_report"] = _driver_report(sources.given, sources.observed)
    return claims


def _claim(value: Any, assurance: Assurance, sources: Iterable[str]) -> dict[str, Any]:
    if value is None or assurance is Assurance.NONE:
        return {"value": value, "assurance": Assurance.NONE.value, "sources": list(sources)}
    return {"value": value, "assurance": assurance.value, "sources": list(sources)}


def _mode(sources: Sources) -> dict[str, Any]:
    modes = {gpu.mode for gpu in sources.attested}
    mode = next(iter(modes)) if len(modes) == 1 and modes != {NOT_STATED} else None
    if mode is None:
        return _claim(None, Assurance.NONE, ())
    reports = f"signed reports of {len(sources.attested)} GPUs"
    said = [f"{reports}: FEATURE_FLAG, PROTECTED_PCIE_STATUS"]
    return _claim(mode, sources.device, said)


# --- what the driver says ------------------------------------------------------------------------


def _observed_claims(sources: Sources) -> Claims:
    observed = sources.observed
    observation, consistency = observed.observation, observed.consistency
    if observation is None or consistency is None:
        return {}
    gpus, level = observation.gpus, observed.level
    manager = weaker(level, Assurance.ASSERTED)
    ids = {gpu.subject: gpu.device_id.hex().upper() for gpu in sources.attested}
    members = [ids[each.subject] for each in consistency.matches]
    registration = _registration(gpus)
    made = {
        "members": _claim(members or None, manager, [_MANAGER, "certified PDIs"]),
        "partition": _claim(registration, manager, [_MANAGER]),
        "registration": _claim(registration, manager, [_MANAGER]),
        "encryption_in_force": _claim(_encryption(gpus), level, ["NVML, per GPU"]),
        "health": _claim(_health(gpus), manager, [_MANAGER]),
        "links": _claim(_links(gpus, consistency), level, ["NVML, per link"]),
    }
    return {name: claim for name, claim in made.items() if claim["value"] is not None}


def _registrations(gpus: Sequence[GpuObservation]) -> list[FabricInfo]:
    return [gpu.fabric for gpu in gpus if not isinstance(gpu.fabric, Absent)]


def _registration(gpus: Sequence[GpuObservation]) -> dict[str, Any] | None:
    """What the Fabric Manager tells the driver; None unless it does so of every GPU."""
    infos = _registrations(gpus)
    if not infos or len(infos) != len(gpus):
        return None
    return {
        "gpus": len(gpus),
        "cluster_uuids": sorted({info.cluster_uuid for info in infos}),
        "clique_ids": sorted({clique.id for info in infos for clique in info.cliques}),
        "states": sorted({named(FABRIC_STATES, info.state) for info in infos}),
        "registered": all(info.state == 3 and info.status == 0 for info in infos),
    }


def _encryption(gpus: Sequence[GpuObservation]) -> bool | None:
    """Whether NVLink is encrypted on every GPU; None where the driver does not say of one."""
    said = [gpu.encrypted for gpu in gpus]
    if 0 in said:
        return False
    return True if said and all(value == 1 for value in said) else None


def _health(gpus: Sequence[GpuObservation]) -> dict[str, Any] | None:
    infos = [info for info in _registrations(gpus) if health_stated(info)]
    if not infos:
        return None
    summaries = {
        named(HEALTH_SUMMARIES, info.health_summary)
        for info in infos
        if not isinstance(info.health_summary, Absent)
    }
    faults = sorted({fault for info in infos for fault in health_problems(info)})
    return {"stated_by": len(infos), "summaries": sorted(summaries), "faults": faults}


def _links(
    gpus: Sequence[GpuObservation], consistency: FabricConsistency
) -> list[dict[str, Any]] | None:
    names = {each.index: each.subject for each in consistency.matches}
    return [
        {"gpu": names.get(gpu.index, f"gpus[{gpu.index}]"), "up": active_links(gpu)} for gpu in gpus
    ] or None


def _driver_report(data: bytes, observed: Observed) -> dict[str, Any]:
    """The one fact that code in the guest can prove: that the driver said all of this."""
    observation, consistency = observed.observation, observed.consistency
    driver = observation.driver if observation else None
    order = consistency.order if consistency else None
    value = {
        "sha384": sha384(data).hexdigest(),
        "driver": driver if isinstance(driver, str) else None,
        "gpus": len(observation.gpus) if observation else 0,
        "byte_order": order.value if order else None,
    }
    return _claim(value, observed.level, ["item of the bundle's manifest"])


# --- what the manager states ---------------------------------------------------------------------


def _stated_claims(sources: Sources) -> Claims:
    if not sources.stated:
        return {}
    last = sources.stated[-1]
    level = last.level
    source = f"{_STATEMENT}, {_bound(last.bound_by)}"
    made = {
        "manager": _claim(_manager(last), level, [source]),
        "manager_configuration": _claim(_configuration(last), level, [source]),
        "routing": _claim(_routing(last, sources.routed), level, [f"{source}: dumps"]),
        "liveness": _claim(_liveness(sources.stated), weakest(sources.stated), [source]),
    }
    entry = sources.entry
    if entry is not None:
        joined = weaker(level, sources.observed.level)
        if not sources.same_host:
            # Every board has such a partition: that it is this one, nobody shows.
            joined = weaker(joined, Assurance.ASSERTED)
        said = [source, _MODULE_IDS]
        partition = {
            "id": entry.id,
            "active": entry.active,
            "modules": sorted(entry.modules),
            "gpus": len(entry.modules),
        }
        made["partition"] = _claim(partition, joined, said)
        consistency = sources.observed.consistency
        matched = {each.subject for each in consistency.matches} if consistency else set()
        members = [g.device_id.hex().upper() for g in sources.attested if g.subject in matched]
        made["members"] = _claim(members or None, joined, [*said, "certified PDIs"])
        isolation = _isolation(sources.routed, entry)
        made["isolation"] = _claim(isolation, joined, [f"{source}: dumps, evaluated", _MODULE_IDS])
    return {name: claim for name, claim in made.items() if claim["value"] is not None}


def _bound(kinds: Collection[str]) -> str:
    names = {"tdx": "a TDX quote", "tpm": "a TPM's quote", "x509": "an operator's key"}
    return "bound by " + " and ".join(names[kind] for kind in kinds) if kinds else "unsigned"


def _manager(stated: Stated) -> dict[str, Any]:
    statement = stated.statement
    assert statement is not None  # noqa: S101  # only what can be read is used
    return {
        "statement_sha384": stated.digest.hex(),
        "bound_by": list(stated.bound_by),
        "identity": dict(stated.identity),
        "collector": stated.collector,
        "programs": [_program(one) for one in statement.facts.programs],
    }


def _program(program: Program) -> dict[str, Any]:
    process = program.process
    running = not isinstance(process, Absent)
    return {
        "name": program.name,
        "version": None if isinstance(program.version, Absent) else program.version,
        "running": running,
        "sha384": None
        if isinstance(process, Absent) or isinstance(process.sha384, Absent)
        else process.sha384,
        "started": None if isinstance(process, Absent) else unix_text(process.started),
    }


def _configuration(stated: Stated) -> dict[str, Any] | None:
    config = stated.statement.config if stated.statement else None
    if config is None:
        return None
    return {
        "fabric_mode": config.fabric_mode,
        "rail_policy": config.policy,
        "settings": dict(sorted(config.settings().items())),
    }


def _routing(stated: Stated, routed: Routed) -> dict[str, Any] | None:
    statement = stated.statement
    if statement is None or statement.routing is None or statement.routing_digest is None:
        return None
    return {
        "digest": statement.routing_digest.hex(),
        "switches": len(statement.routing.unicast),
        "board": statement.board,
        "keys_from": statement.keys_from,
        "evaluated": routed.evaluation is not None,
    }


def _isolation(routed: Routed, entry: PartitionEntry) -> dict[str, Any] | None:
    """Whether others can reach the partition; None where nobody can say."""
    evaluation = routed.evaluation
    # Of a partition that is not active nothing was expected, so nothing is found wrong.
    if evaluation is None or routed.closed is None or routed.partition is None:
        return None
    own = {f"GPU{module}" for module in entry.modules}
    inward = {one for one, other in evaluation.reachable if other in own and one not in own}
    outward = {other for one, other in evaluation.reachable if one in own and other not in own}
    return {
        "closed": routed.closed,
        "problems": sorted({one.code.value for one in routed.findings}),
        "reached_from": sorted(inward),
        "reaches": sorted(outward),
    }


def _liveness(stated: Sequence[Stated]) -> dict[str, Any]:
    return {"statements": len(stated), "made": [unix_text(one.created) for one in stated]}


# --- what the guest measured ---------------------------------------------------------------------


def _probe_claims(sources: Sources) -> Claims:
    report = sources.probed.report
    if report is None or not report.pairs:
        return {}
    return {"probe": _claim(_probe(report), sources.probed.level, ["CUDA copies, NVML counters"])}


def _probe(report: ProbeReport) -> dict[str, Any]:
    def range_of(name: str) -> list[int] | None:
        medians = [
            spread.median
            for pair in report.pairs
            if isinstance(spread := getattr(pair, name), Spread)
        ]
        return [min(medians), max(medians)] if medians else None

    return {
        "gpus": len(report.gpus),
        "pairs": len(report.pairs),
        "pairs_that_reach": sum(_reaches(pair) for pair in report.pairs),
        "one_way_bytes_per_s": range_of("one_way"),
        "both_ways_bytes_per_s": range_of("both_ways"),
        "copy_ns": range_of("copy_ns"),
        "read_ns": range_of("read_ns"),
    }


def _reaches(pair: PairProbe) -> bool:
    return pair.arrived == 1
