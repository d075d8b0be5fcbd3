"""A statement of a simulated manager, as items; every part can be replaced."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha384
from typing import Any

from ccverify.fabric.manager import (
    FABRIC_MANAGER,
    NVLSM,
    LogHealth,
    ManagerFacts,
    Process,
    Program,
    SourceFile,
    serialize_manager,
)
from ccverify.fabric.observation import Absent
from ccverify.fabric.partition_table import (
    PartitionEntry,
    PartitionGpu,
    PartitionTable,
    serialize_fmpm_list,
)
from ccverify.fabric.statement import read_statement
from ccverify.fabric.statement_model import (
    DUMP_LABELS,
    FACTS_LABEL,
    Circumstances,
    FabricStatement,
    Generation,
    StatementGap,
    StatementProblem,
)
from ccverify.fabric.statement_rules import appraise_statement
from ccverify.sim.fabric import SimFabric, default_tenants
from ccverify.sim.fabric_dumps import (
    address_dump,
    key_dump,
    linear_dump,
    multicast_dump,
    subnet_list,
    unicast_dump,
)
from ccverify.sim.fabric_maps import BLACKWELL_DEFAULTS

BOOTED, STARTED, WRITTEN = 1_790_000_000, 1_790_000_100, 1_790_000_200
VERSION = "595.58.03"
BOOT_ID = "11111111-2222-3333-4444-555555555555"
PATHS = {
    "fm-config": "/usr/share/nvidia/nvswitch/fabricmanager.cfg",
    "fm-partition-definitions": "/usr/share/nvidia/nvswitch/partitions.json",
    "nvlsm-config": "/usr/share/nvidia/nvlsm/nvlsm.conf",
}
READ_AT_START = (*PATHS,)
CONFIG = """# simulated
FABRIC_MODE=1
PARTITION_RAIL_POLICY=symmetric
FM_CMD_BIND_INTERFACE=127.0.0.1
LOG_LEVEL=4
LOG_FILE_NAME=/var/log/fabricmanager.log
"""
NVLSM_CONFIG = "guid 0x0\nplugin_name grpc_mgr\n"
TENANT = Circumstances(
    drivers=frozenset({VERSION}),
    multi_gpu=True,
    generation=Generation.BLACKWELL,
    modules=frozenset({1, 2, 3, 4}),
)


def digest(text: str) -> str:
    return sha384(text.encode()).hexdigest()


def program(name: str, **changes: Any) -> Program:
    path = "/usr/bin/nv-fabricmanager" if name == FABRIC_MANAGER else "/opt/nvidia/nvlsm/sbin/nvlsm"
    process = Process(900, STARTED, digest(name), False, 0, (path,))
    version = f"{VERSION}-1" if name == FABRIC_MANAGER else "2026.02.1"
    return replace(Program(name, path, version, digest(name), process), **changes)


FACTS = ManagerFacts(
    boot_id=BOOT_ID,
    booted=BOOTED,
    kernel="6.8.0-100-generic",
    driver=VERSION,
    programs=(program(FABRIC_MANAGER), program(NVLSM)),
    log=LogHealth("/var/log/fabricmanager.log", 40, 0, 1, None, 4096),
)


def board(*active: int) -> SimFabric:
    return SimFabric.hgx("B300", default_tenants("B300", active or (2, 3)))


def table(*active: int, links: int = 18) -> PartitionTable:
    """Default partitions of Blackwell as the Fabric Manager lists them."""
    return PartitionTable(
        tuple(
            PartitionEntry(
                number,
                number in active,
                frozenset(modules),
                tuple(
                    PartitionGpu(module, "", "00000000:00:00.0", full, full, 53125)
                    for module in modules
                    for full in (links if len(modules) > 1 else 0,)
                ),
            )
            for number, modules in BLACKWELL_DEFAULTS.items()
        ),
        version="33554432",
        capacity=15,
    )


def dumps(fabric: SimFabric | None = None) -> dict[str, bytes]:
    fabric = fabric or board()
    return {
        "nvlsm-subnet": subnet_list(fabric),
        "nvlsm-fdbs": unicast_dump(fabric),
        "nvlsm-lfts": linear_dump(fabric),
        "nvlsm-mcfdbs": multicast_dump(fabric),
        "nvlsm-guid2lid": address_dump(fabric),
        "nvlsm-pkeys": key_dump(fabric),
    }


def parts(fabric: SimFabric | None = None, **changes: bytes | str | None) -> dict[str, bytes]:
    """Every item but the facts; a name with _ for - changes one, None takes it out."""
    items: dict[str, bytes] = {
        "fm-config": CONFIG.encode(),
        "nvlsm-config": NVLSM_CONFIG.encode(),
        "fm-partitions": serialize_fmpm_list(table(2, 3)),
        "fm-state": b"state",
        **dumps(fabric),
    }
    for name, value in changes.items():
        label = name.replace("_", "-")
        if value is None:
            del items[label]
        else:
            items[label] = value.encode() if isinstance(value, str) else value
    return items


def sources(items: dict[str, bytes], **modified: int | Absent) -> tuple[SourceFile, ...]:
    return tuple(
        SourceFile(
            label,
            PATHS.get(label, f"/var/log/{label}"),
            sha384(items[label]).hexdigest(),
            len(items[label]),
            modified.get(label.replace("-", "_"), BOOTED if label in READ_AT_START else WRITTEN),
        )
        for label in DUMP_LABELS
        if label in items
    )


def statement(
    facts: ManagerFacts = FACTS, items: dict[str, bytes] | None = None, **modified: int | Absent
) -> FabricStatement:
    items = parts() if items is None else items
    facts = replace(facts, sources=facts.sources or sources(items, **modified))
    return read_statement({FACTS_LABEL: serialize_manager(facts), **items})


def judged(
    stated: FabricStatement, given: Circumstances = TENANT
) -> tuple[list[StatementProblem], list[StatementGap]]:
    found = appraise_statement(stated, given)
    return (
        [one for one in found if isinstance(one, StatementProblem)],
        [one for one in found if isinstance(one, StatementGap)],
    )


def codes(found: list[StatementProblem] | list[StatementGap]) -> list[str]:
    return sorted({one.code.value for one in found})
