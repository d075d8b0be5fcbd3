"""The table of fuzz targets.

A target takes any bytes and returns whether they were accepted.  It raises `Violation`, or lets
an undeclared error through, only where an invariant is broken: whatever bytes come, a parser
parses them or raises the one declared error, and `ccverify.check` gives a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fuzz import (
    binders,
    bundles,
    checking,
    device_seeds,
    fabric,
    fabric_seeds,
    foreign,
    foreign_seeds,
    nvidia,
    parsers,
    seeds,
    statements,
)
from fuzz.mutate import (
    Mutator,
    mutate_bytes,
    mutate_ccel,
    mutate_der,
    mutate_edits,
    mutate_json,
    mutate_pem,
    mutate_quote,
    mutate_yaml,
)
from fuzz.mutate_devices import mutate_opaque, mutate_report, mutate_xml
from fuzz.mutate_fabric import mutate_dump, mutate_item
from fuzz.mutate_foreign import mutate_foreign, mutate_jwt, mutate_scale

__all__ = ["TARGETS", "Target"]

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """One entry point.

    Attributes:
        name: as given to `fuzz.run`.
        run: bytes → accepted or not.
        seeds: honest inputs, and the simulator's named defects.
        mutate: the structure-aware mutation, beside libFuzzer's own.
        dictionary: name in `fuzz.tokens.DICTIONARIES`.
        max_len: largest input tried, in bytes; past the parser's own limit where that is small.
    """

    name: str
    run: Callable[[bytes], bool]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutator
    dictionary: str
    max_len: int


_ALL = (
    Target("quote", parsers.quote, seeds.quote_seeds, mutate_quote, "binary", 264 * _KIB),
    Target("ccel", parsers.ccel, seeds.ccel_seeds, mutate_ccel, "binary", 256 * _KIB),
    Target("ccel_table", parsers.ccel_table, seeds.table_seeds, mutate_bytes, "binary", 64),
    Target("dstack_log", parsers.dstack_log, seeds.dstack_seeds, mutate_json, "json", 256 * _KIB),
    Target(
        "event_log",
        parsers.event_log,
        lambda: [*seeds.dstack_seeds(), *seeds.ccel_seeds()],
        lambda data, random: (mutate_json if data[:1] == b"[" else mutate_ccel)(data, random),
        "json",
        256 * _KIB,
    ),
    Target(
        "collateral", parsers.collateral, seeds.collateral_seeds, mutate_json, "json", 256 * _KIB
    ),
    Target("tcb_info", parsers.tcb_info, seeds.tcb_info_seeds, mutate_json, "json", 256 * _KIB),
    Target(
        "qe_identity", parsers.qe_identity, seeds.qe_identity_seeds, mutate_json, "json", 64 * _KIB
    ),
    Target("pcs", parsers.pcs_response, seeds.pcs_seeds, mutate_json, "json", 256 * _KIB),
    Target("assemble", parsers.assemble, seeds.pcs_seeds, mutate_json, "json", 256 * _KIB),
    Target(
        "certificate", parsers.certificate, seeds.certificate_seeds, mutate_der, "der", 17 * _KIB
    ),
    Target("pem_chain", parsers.pem_chain, seeds.pem_seeds, mutate_pem, "pem", 264 * _KIB),
    Target("trust_anchor", parsers.trust_anchor, seeds.anchor_seeds, mutate_pem, "pem", 64 * _KIB),
    Target("crl", parsers.crl, seeds.crl_seeds, mutate_der, "der", 64 * _KIB),
    Target("der", parsers.der, seeds.der_seeds, mutate_der, "der", 4 * _KIB),
    Target("name", parsers.name, seeds.name_seeds, mutate_der, "der", 4 * _KIB),
    Target(
        "pck_extension", parsers.pck_extension, seeds.extension_seeds, mutate_der, "der", 4 * _KIB
    ),
    Target("policy", parsers.policy, seeds.policy_seeds, mutate_yaml, "yaml", 32 * _KIB),
    Target("strict_json", parsers.strict_json, seeds.json_seeds, mutate_json, "json", 64 * _KIB),
    Target("check", checking.check, checking.check_seeds, mutate_edits, "binary", 512),
    Target(
        "check_signed",
        checking.check_signed,
        checking.check_seeds,
        mutate_edits,
        "binary",
        512,
    ),
)

_NVIDIA = (
    Target(
        "spdm_report", nvidia.spdm_report, device_seeds.spdm_seeds, mutate_report, "spdm", 34 * _KIB
    ),
    Target(
        "gpu_opaque",
        nvidia.gpu_opaque,
        device_seeds.gpu_opaque_seeds,
        mutate_opaque,
        "spdm",
        2 * _KIB,
    ),
    Target(
        "switch_opaque",
        nvidia.switch_opaque,
        device_seeds.switch_opaque_seeds,
        mutate_opaque,
        "spdm",
        2 * _KIB,
    ),
    Target(
        "device_chain", nvidia.device_chain, device_seeds.chain_seeds, mutate_pem, "pem", 264 * _KIB
    ),
    Target(
        "device_extension",
        nvidia.device_extension,
        device_seeds.extension_seeds,
        mutate_der,
        "der",
        4 * _KIB,
    ),
    Target("signed_xml", nvidia.signed_xml, device_seeds.rim_seeds, mutate_xml, "xml", 264 * _KIB),
    Target("rim", nvidia.rim, device_seeds.rim_seeds, mutate_xml, "xml", 264 * _KIB),
    Target("ocsp", nvidia.ocsp_response, device_seeds.ocsp_seeds, mutate_der, "der", 66 * _KIB),
    Target("nvidia_crl", nvidia.nvidia_crl, device_seeds.crl_seeds, mutate_der, "der", 64 * _KIB),
)

_FOREIGN = (
    *(
        Target(
            name,
            foreign.reader(name),
            lambda name=name: foreign_seeds.documents()[name],  # type: ignore[misc]
            mutate_foreign,
            "foreign",
            64 * _KIB,
        )
        for name in foreign.MODULES
    ),
    Target(
        "foreign",
        foreign.foreign,
        foreign_seeds.all_documents,
        mutate_foreign,
        "foreign",
        64 * _KIB,
    ),
    Target("jwt", foreign.jwt_token, foreign_seeds.jwt_seeds, mutate_jwt, "foreign", 66 * _KIB),
    Target(
        "jwks", foreign.jwks_set, foreign_seeds.jwks_seeds, mutate_foreign, "foreign", 64 * _KIB
    ),
    Target(
        "instance_keys",
        foreign.instance_keys,
        foreign_seeds.instance_key_seeds,
        mutate_foreign,
        "foreign",
        64 * _KIB,
    ),
    Target(
        "dstack_attestation",
        foreign.dstack_attestation,
        foreign_seeds.attestation_seeds,
        mutate_scale,
        "binary",
        64 * _KIB,
    ),
)

_BUNDLES = (
    Target("cbor", bundles.cbor, bundles.cbor_seeds, bundles.mutate_cbor, "binary", 64 * _KIB),
    Target("cose", bundles.cose, bundles.cose_seeds, bundles.mutate_cbor, "binary", 64 * _KIB),
    Target(
        "bundle", bundles.bundle, bundles.bundle_seeds, bundles.mutate_cbor, "binary", 64 * _KIB
    ),
)

_BINDERS = (
    Target(
        "tpm_quote",
        binders.tpm_quote,
        binders.tpm_seeds,
        bundles.mutate_cbor,
        "binary",
        16 * _KIB,
    ),
    Target(
        "operator_signature",
        binders.operator_signature,
        binders.operator_seeds,
        bundles.mutate_cbor,
        "binary",
        16 * _KIB,
    ),
    Target(
        "pkix",
        binders.pkix,
        binders.pkix_seeds,
        lambda data, random: (mutate_der if data[:1] == b"0" else mutate_pem)(data, random),
        "der",
        64 * _KIB,
    ),
)

_FABRIC = (
    Target(
        "manager_facts",
        fabric.manager_facts,
        fabric_seeds.facts_seeds,
        mutate_json,
        "fabric",
        64 * _KIB,
    ),
    Target(
        "manager_config",
        fabric.manager_config,
        fabric_seeds.config_seeds,
        mutate_dump,
        "fabric",
        64 * _KIB,
    ),
    Target(
        "partition_table",
        fabric.partition_table,
        fabric_seeds.table_seeds,
        mutate_json,
        "fabric",
        64 * _KIB,
    ),
    Target("fabric_dump", fabric.fabric_dump, fabric.dump_seeds, mutate_dump, "fabric", 64 * _KIB),
    Target("routing", fabric.routing, fabric.routing_seeds, mutate_dump, "fabric", 64 * _KIB),
    Target(
        "fabric_observation",
        fabric.fabric_observation,
        fabric_seeds.observation_seeds,
        mutate_item,
        "fabric",
        64 * _KIB,
    ),
    Target(
        "fabric_probe",
        fabric.fabric_probe,
        fabric_seeds.probe_seeds,
        mutate_item,
        "fabric",
        64 * _KIB,
    ),
    Target(
        "statement",
        statements.statement,
        statements.statement_seeds,
        mutate_edits,
        "fabric",
        512,
    ),
    Target(
        "check_statement",
        statements.check_statement,
        statements.statement_seeds,
        mutate_edits,
        "fabric",
        512,
    ),
)

_GROUPS = (_ALL, _NVIDIA, _FOREIGN, _BUNDLES, _BINDERS, _FABRIC)
TARGETS: Mapping[str, Target] = {target.name: target for group in _GROUPS for target in group}
"""Every target by name."""
