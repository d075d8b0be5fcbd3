"""What a statement of a fabric's manager says, and what can be wrong with it: the vocabulary.

`ccverify.fabric.statement` reads one, `statement_rules` and `statement_join` judge it, and
`statement_diff` compares two.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from ccverify.fabric.linkmap import LinkMap
from ccverify.fabric.manager import ManagerFacts
from ccverify.fabric.manager_config import ManagerConfig, NvlsmConfig
from ccverify.fabric.partition_table import PartitionTable
from ccverify.fabric.routing import RoutingState

__all__ = [
    "CLOCK_TOLERANCE",
    "DUMP_LABELS",
    "FACTS_LABEL",
    "HGX_BLACKWELL",
    "HGX_HOPPER",
    "Circumstances",
    "Dump",
    "FabricStatement",
    "Found",
    "Generation",
    "Judged",
    "StatementCode",
    "StatementGap",
    "StatementProblem",
    "modules_text",
]

CLOCK_TOLERANCE: Final = 5
"""Seconds by which the start of a process may be off: the kernel counts it from its boot."""

HGX_BLACKWELL: Final = "HGX B200/B300"
HGX_HOPPER: Final = "HGX H100/H200"

FACTS_LABEL: Final = "fabric-manager"
"""The item without which a bundle is no statement."""


class Dump(str, Enum):
    """Labels of the other items."""

    PARTITIONS = "fm-partitions"
    CONFIG = "fm-config"
    DEFINITIONS = "fm-partition-definitions"
    STATE = "fm-state"
    NVLSM_CONFIG = "nvlsm-config"
    SUBNET = "nvlsm-subnet"
    FDBS = "nvlsm-fdbs"
    LFTS = "nvlsm-lfts"
    MCFDBS = "nvlsm-mcfdbs"
    GUID2LID = "nvlsm-guid2lid"
    PKEYS = "nvlsm-pkeys"
    PARTITIONS_CONF = "nvlsm-partitions-conf"


DUMP_LABELS: Final = tuple(dump.value for dump in Dump)
"""Every one of them may be absent."""


class StatementCode(str, Enum):
    """The rules, in the order of a report."""

    STATEMENT = "FABRIC-STATEMENT"
    """An item cannot be read, or is not the file that the facts say it is."""
    VERSION = "FABRIC-MANAGER-VERSION"
    """The Fabric Manager is not of the driver's version, or too old for the board."""
    PROGRAM = "FABRIC-MANAGER-PROGRAM"
    """A program does not run, or what runs is not the file on disk or not an expected one."""
    CONFIG = "FABRIC-MANAGER-CONFIG"
    """A setting lets others command the manager, or is not the one in force."""
    MODE = "FABRIC-MANAGER-MODE"
    """FABRIC_MODE does not part tenants, or is not the expected one."""
    RAIL_POLICY = "FABRIC-RAIL-POLICY"
    """PARTITION_RAIL_POLICY is not symmetric where confidential computing needs it."""
    LOG = "FABRIC-MANAGER-LOG"
    """The manager's log has errors, or none can be in it."""
    PARTITION_TABLE = "FABRIC-PARTITION-TABLE"
    """Partitions contradict each other, their definitions or the board."""
    PARTITION_ACTIVE = "FABRIC-PARTITION-ACTIVE"
    """The tenant's partition is defined and not active."""
    MODULES = "FABRIC-MODULES"
    """The tenant's GPUs are not exactly those of one partition."""
    ROUTING = "FABRIC-ROUTING"
    """Tables are not there, contradict each other, or are of an earlier run."""
    CONTINUITY = "FABRIC-CONTINUITY"
    """Between two statements the manager restarted or changed what concerns the tenant."""


@dataclass(frozen=True, slots=True)
class StatementProblem:
    """One fault of a statement, or of what it states.

    Attributes:
        code: the rule.
        where: the program, setting, partition or item.
        expected: what would have been right.
        found: what the statement says.
    """

    code: StatementCode
    where: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class StatementGap:
    """Why a rule could not be applied."""

    code: StatementCode
    where: str
    reason: str


Judged: TypeAlias = StatementProblem | StatementGap
Found: TypeAlias = Iterator[Judged]
"""What a rule yields."""


class Generation(str, Enum):
    """Of a board, as far as its manager differs."""

    HOPPER = "hopper"
    """NVLink 4: the Fabric Manager routes, and there is no subnet manager."""
    BLACKWELL = "blackwell"
    """NVLink 5: NVLSM routes, on behalf of the Fabric Manager."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a tenant knows otherwise, and what a policy expects.

    Attributes:
        drivers: versions that the tenant's GPUs signed.
        multi_gpu: whether they sign MPT; None where that is not known.
        generation: of the tenant's GPUs; None: as the statement's cables have it.
        modules: module ids of the tenant's GPUs; None where they are not known.
        modes: accepted values of FABRIC_MODE; None: every one that fits.
        programs: name → accepted SHA-384 of the running file, 48 bytes each.
        settings: key of the Fabric Manager's configuration → accepted values, as text.
    """

    drivers: frozenset[str] = frozenset()
    multi_gpu: bool | None = None
    generation: Generation | None = None
    modules: frozenset[int] | None = None
    modes: frozenset[int] | None = None
    programs: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    settings: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FabricStatement:
    """Everything a manager states, read.

    Attributes:
        facts: of the host and the programs.
        digests: label → SHA-384 of the item in hex, for every item there is.
        config: of the Fabric Manager.
        nvlsm_config: of NVLSM.
        partitions: the live table.
        definitions: the file that the live table is made from.
        links: the discovered cables, devices named as on the board where that is known.
        board: the baseboard that the cables are those of; None where it is not known.
        published: the vendor's map of that board.
        managers: nodes of `links` from which the subnet manager speaks.
        routing: tables, addresses and keys in their normal form.
        routing_digest: its digest, 48 bytes.
        keys_from: the item that the keys are taken from; None where there are none.
        problems: what is wrong with the items themselves.
        gaps: what they do not say.
    """

    facts: ManagerFacts
    digests: Mapping[str, str]
    config: ManagerConfig | None = None
    nvlsm_config: NvlsmConfig | None = None
    partitions: PartitionTable | None = None
    definitions: PartitionTable | None = None
    links: LinkMap | None = None
    board: str | None = None
    published: LinkMap | None = None
    managers: frozenset[str] = frozenset()
    routing: RoutingState | None = None
    routing_digest: bytes | None = None
    keys_from: str | None = None
    problems: tuple[StatementProblem, ...] = ()
    gaps: tuple[StatementGap, ...] = ()

    @property
    def generation(self) -> Generation | None:
        """Of the board, by its cables; None where they are not known."""
        by_board = {HGX_BLACKWELL: Generation.BLACKWELL, HGX_HOPPER: Generation.HOPPER}
        return by_board.get(self.board or "")


def modules_text(modules: frozenset[int]) -> str:
    """Write module ids for a person: ``1, 2, 5``; ``none``."""
    return ", ".join(map(str, sorted(modules))) or "none"
