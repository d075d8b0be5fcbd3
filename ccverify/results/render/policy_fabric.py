"""Section ``fabric`` of an effective policy document."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any as Json

from ccverify.policy.model import Any, FabricPolicy, TdxPolicy
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
from ccverify.results.render.policy_values import accepted, hexes, stated, versions
from ccverify.trust.pkix import PkixCertificate

__all__ = ["certificate_sha256", "fabric_document"]

Tdx = Callable[[TdxPolicy], Json]


def fabric_document(fabric: FabricPolicy | Any | None, tdx: Tdx) -> Json:
    """Return the section; loading it gives the same rules.

    Args:
        fabric: the section's model.
        tdx: writes a section ``tdx``, as service VMs are described by one.
    """
    if not isinstance(fabric, FabricPolicy):
        return fabric and "any"
    partition = stated(
        size=fabric.size,
        clique_ids=_sorted(fabric.clique_ids),
        cluster_uuids=accepted(fabric.cluster_uuids),
        ids=_sorted(fabric.partition_ids),
    )
    return stated(
        mode=fabric.mode,
        observation=fabric.observation.value,
        state=_word(fabric.state_required),
        health=fabric.health.value,
        links=_links(fabric),
        nvle=_word(fabric.nvle_required),
        partition=partition or None,
        statement=fabric.statement.value,
        managers=fabric.managers and _managers(fabric.managers, tdx),
        max_statement_age_seconds=fabric.max_age_s,
        same_host=_word(fabric.same_host_required),
        continuity=fabric.continuity.value,
        routing=fabric.routing.value,
        routing_digests=accepted(fabric.routing_digests),
        manager=_manager(fabric.manager),
        apart_from=_others(fabric.apart_from) or None,
        probe=_probe(fabric.probe),
        assurance={name: level.value for name, level in fabric.floors.items()},
    )


def _sorted(values: Iterable[int] | None) -> list[int] | None:
    return None if values is None else sorted(values)


def _word(required: bool) -> str:
    return "required" if required else "any"


def _links(fabric: FabricPolicy) -> Json:
    if fabric.active_links is not None:
        return fabric.active_links
    return _word(fabric.links_required)


def _managers(managers: ManagersPolicy, tdx: Tdx) -> dict[str, Json]:
    return stated(
        tdx=[tdx(each) for each in managers.tdx] or None,
        tpm=[_tpm(each) for each in managers.tpm] or None,
        x509=[_operator(each) for each in managers.x509] or None,
        unsigned="accept" if managers.unsigned else "refuse",
    )


def _tpm(rule: TpmRule) -> dict[str, Json]:
    return stated(
        names=hexes(rule.names) or None,
        roots=_pem(rule.roots) or None,
        pcrs={
            bank: {str(pcr): hexes(values) for pcr, values in sorted(pcrs.items())}
            for bank, pcrs in sorted(rule.pcrs.items())
        },
    )


def _operator(rule: OperatorRule) -> dict[str, Json]:
    return stated(roots=_pem(rule.roots), keys=accepted(rule.keys))


def _pem(certificates: Iterable[PkixCertificate]) -> list[str]:
    """Certificates as RFC 7468 has them."""
    found = []
    for one in certificates:
        text = b64encode(one.der).decode("ascii")
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        found.append(
            "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))
        )
    return found


def certificate_sha256(pem: str) -> str:
    """Return the digest of a certificate that `fabric_document` wrote, in hex."""
    _, *lines, _ = pem.strip().splitlines()
    return sha256(b64decode("".join(lines))).hexdigest()


def _manager(manager: ManagerPolicy) -> dict[str, Json]:
    words = {value: word for word, value in MODE_WORDS.items()}
    modes = manager.modes
    return stated(
        modes=None if modes is None else [words[each] for each in sorted(modes)],
        versions=None if manager.versions is None else versions(manager.versions),
        nvlsm_versions=None if manager.nvlsm_versions is None else sorted(manager.nvlsm_versions),
        programs={name: hexes(values) for name, values in sorted(manager.programs.items())} or None,
        settings={key: sorted(values) for key, values in sorted(manager.settings.items())} or None,
        log=_word(manager.log_required),
    )


def _others(others: OthersPolicy) -> dict[str, Json]:
    return stated(
        device_ids=hexes(others.device_ids) or None, modules=sorted(others.modules) or None
    )


def _probe(probe: ProbePolicy) -> dict[str, Json]:
    bands = {
        key: None if (value := getattr(probe.bands, band)) is None else round(value * unit)
        for key, (band, unit) in PROBE_BANDS.items()
    }
    return stated(
        rule=probe.rule.value,
        access=_word(probe.bands.access),
        traffic=_word(probe.bands.traffic),
        **bands,
    )
