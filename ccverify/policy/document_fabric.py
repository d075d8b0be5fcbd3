"""The section of a policy document on the NVLink fabric → the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any as Json

from ccverify.errors import PolicyError
from ccverify.fabric.probe_rules import ProbeBands
from ccverify.findings import Assurance
from ccverify.policy.document_devices import version_policy
from ccverify.policy.model import ANY, Any, FabricPolicy, GivenRule, HealthRule, TdxPolicy
from ccverify.policy.model_fabric import (
    MODE_WORDS,
    PROBE_BANDS,
    ManagerPolicy,
    ManagersPolicy,
    OperatorRule,
    OthersPolicy,
    ProbePolicy,
    TpmRule,
)
from ccverify.trust.pkix import PkixCertificate, parse_pkix_pem

__all__ = ["fabric_policy"]


def fabric_policy(
    section: Mapping[str, Json] | str | None, tdx: Callable[[Json], TdxPolicy | Any | None]
) -> FabricPolicy | Any | None:
    """Read section ``fabric``, which the JSON Schema has already accepted.

    Args:
        section: as parsed.
        tdx: reads a section ``tdx``, as service VMs are described by one.
    """
    if section is None or isinstance(section, str):
        return None if section is None else ANY
    default, partition = FabricPolicy(), section.get("partition", {})
    links, size = section.get("links", "required"), partition.get("size")
    return FabricPolicy(
        mode=section.get("mode"),
        observation=GivenRule(section.get("observation", default.observation)),
        state_required=section.get("state", "required") == "required",
        health=HealthRule(section.get("health", default.health)),
        links_required=links != "any",
        active_links=None if isinstance(links, str) else int(links),
        nvle_required=section.get("nvle", "required") == "required",
        size=None if size is None else int(size),
        clique_ids=_numbers(partition.get("clique_ids")),
        cluster_uuids=_octets(partition.get("cluster_uuids")),
        partition_ids=_numbers(partition.get("ids")),
        floors={name: Assurance(level) for name, level in section.get("assurance", {}).items()},
        statement=GivenRule(section.get("statement", default.statement)),
        managers=_managers(section.get("managers"), tdx),
        same_host_required=section.get("same_host", "required") == "required",
        max_age_s=int(section.get("max_statement_age_seconds", default.max_age_s)),
        continuity=GivenRule(section.get("continuity", default.continuity)),
        routing=GivenRule(section.get("routing", default.routing)),
        routing_digests=_octets(section.get("routing_digests")),
        manager=_manager(section.get("manager", {})),
        apart_from=_others(section.get("apart_from", {})),
        probe=_probe(section.get("probe")),
    )


def _numbers(values: Sequence[int] | None) -> frozenset[int] | None:
    return None if values is None else frozenset(map(int, values))


def _octets(values: Sequence[str] | None) -> frozenset[bytes] | None:
    return None if values is None else frozenset(map(bytes.fromhex, values))


def _managers(
    section: Mapping[str, Json] | None, tdx: Callable[[Json], TdxPolicy | Any | None]
) -> ManagersPolicy | None:
    if section is None:
        return None
    machines = [tdx(each) for each in section.get("tdx", ())]
    return ManagersPolicy(
        # The schema has none that says `any`: that would accept every machine there is.
        tdx=tuple(each for each in machines if isinstance(each, TdxPolicy)),
        tpm=tuple(
            TpmRule(
                names=_octets(each.get("names")) or frozenset(),
                roots=_roots(each.get("roots", ()), f"policy.fabric.managers.tpm[{number}]"),
                pcrs={
                    bank: {int(pcr): frozenset(map(bytes.fromhex, v)) for pcr, v in values.items()}
                    for bank, values in each["pcrs"].items()
                },
            )
            for number, each in enumerate(section.get("tpm", ()))
        ),
        x509=tuple(
            OperatorRule(
                _roots(each["roots"], f"policy.fabric.managers.x509[{number}]"),
                _octets(each.get("keys")),
            )
            for number, each in enumerate(section.get("x509", ()))
        ),
        unsigned=section.get("unsigned") == "accept",
    )


def _roots(texts: Sequence[str], where: str) -> tuple[PkixCertificate, ...]:
    found = []
    for number, text in enumerate(texts):
        try:
            (one,) = parse_pkix_pem(text.encode("utf-8", "replace"), PolicyError, most=1)
        except PolicyError as problem:
            raise PolicyError(
                f"root certificate cannot be used: {problem.message}",
                expected=problem.expected or "one certificate in PEM",
                found=problem.found,
                where=f"{where}.roots[{number}]",
            ) from None
        found.append(one)
    return tuple(found)


def _manager(section: Mapping[str, Json]) -> ManagerPolicy:
    modes, nvlsm = section.get("modes"), section.get("nvlsm_versions")
    return ManagerPolicy(
        modes=None if modes is None else frozenset(MODE_WORDS[each] for each in modes),
        versions=version_policy(section["versions"]) if "versions" in section else None,
        nvlsm_versions=None if nvlsm is None else frozenset(nvlsm),
        programs={
            name: frozenset(map(bytes.fromhex, digests))
            for name, digests in section.get("programs", {}).items()
        },
        settings={key: frozenset(values) for key, values in section.get("settings", {}).items()},
        log_required=section.get("log", "required") == "required",
    )


def _others(section: Mapping[str, Json]) -> OthersPolicy:
    return OthersPolicy(
        _octets(section.get("device_ids")) or frozenset(),
        _numbers(section.get("modules")) or frozenset(),
    )


def _probe(section: Mapping[str, Json] | str | None) -> ProbePolicy:
    if section is None or isinstance(section, str):
        return ProbePolicy() if section is None else ProbePolicy(GivenRule(section))
    bands = {
        band: section[key] / unit if unit > 1 else section[key]
        for key, (band, unit) in PROBE_BANDS.items()
        if key in section
    }
    words = {key: section[key] == "required" for key in ("access", "traffic") if key in section}
    rule = GivenRule(section.get("rule", GivenRule.REQUIRED))
    return ProbePolicy(rule, ProbeBands(**bands, **words))
