"""Statements, observations and probes of simulated fabrics, collected for real; and their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256

from ccverify.bundle.package import Bundle, parse_bundle
from ccverify.bundle.statement_items import statement_items
from ccverify.cli.sim_sources import machine_sources
from ccverify.cli.sim_statement import sim_statement
from ccverify.collect.session import collect_bundle
from ccverify.fabric.consistency_model import AttestedGpu
from ccverify.fabric.manager import Program, SourceFile, parse_manager, serialize_manager
from ccverify.fabric.observation import Absent, parse_observation
from ccverify.sim.board import sim_board
from ccverify.sim.fabric import SimTenant
from ccverify.sim.fabric_faults import FAULTS
from ccverify.sim.machine import SimMachine
from ccverify.sim.manager import SimManager

__all__ = [
    "NONCE",
    "attested",
    "config_seeds",
    "facts_seeds",
    "honest",
    "items",
    "manager",
    "node",
    "observation_seeds",
    "probe_seeds",
    "table_seeds",
    "tenant",
]

NONCE = sha256(b"fuzz fabric").digest()
_LIMIT = 16 * 1024


def manager(model: str = "B300", fault: str | None = None) -> SimManager:
    """A board of two tenants, `a` and `b`, and its manager."""
    board = sim_board(model, [2, 3] if model == "B300" else [1, 2])  # type: ignore[arg-type]
    made = SimManager(board)
    if fault is not None:
        FAULTS[fault].apply(made, "a")
    return made


def _custom() -> SimManager:
    tenants = [SimTenant("a", (1, 2, 5)), SimTenant("b", (3, 8))]
    return SimManager(sim_board("B300", tenants))


@cache
def honest(kind: str = "B300") -> Mapping[str, bytes]:
    """Items of a statement: of a model, of a fault's name, or of partitions of its own."""
    if kind == "custom":
        made = _custom()
    elif kind in FAULTS:
        made = manager(fault=kind)
    else:
        made = manager(kind)
    return items(sim_statement(made, NONCE, binder="none"))


def items(statement: bytes) -> Mapping[str, bytes]:
    """Items of a statement by label."""
    found = statement_items(parse_bundle(statement))
    assert found is not None
    return found


@cache
def tenant() -> SimMachine:
    """The machine of tenant `a` of the board of two tenants."""
    return manager().board.machine("a")


@cache
def _collected(machine: SimMachine, *, probe: bool) -> Bundle:
    return parse_bundle(node(machine, probe=probe))


@cache
def node(machine: SimMachine, *, probe: bool = False) -> bytes:
    """The bundle of a tenant."""
    made = collect_bundle(NONCE, machine_sources(machine, probe=probe)).bundle
    assert made is not None
    return made


# --- seeds ---------------------------------------------------------------------------------------


def facts_seeds() -> Sequence[bytes]:
    full = [honest(kind)["fabric-manager"] for kind in ("B300", "H100", "custom", *_OF_FACTS)]
    facts = parse_manager(full[0])
    gone, digest = Absent("NOT_FOUND"), "00" * 48
    bare = Program("nvlsm", "/x", gone, gone, Absent("NOT_RUNNING"))
    source = SourceFile("fm-config", "/y", digest, 0, gone)
    small = type(facts)(gone, gone, gone, gone, (bare,), gone, (source,))
    return [*full, serialize_manager(small)]


_OF_FACTS = ("replaced-binary", "log-errors", "manager-stopped", "manager-restarted")


def config_seeds() -> Sequence[bytes]:
    kinds = ("B300", "H100", "custom", "open-api")
    files = [honest(kind)[label] for kind in kinds for label in ("fm-config", "nvlsm-config")]
    return [
        *dict.fromkeys(files),
        b"FABRIC_MODE=1\nFABRIC_MODE=2\n\n# x\nFM_SM_MGMT_PORT_GUID=0x1\nBIND_INTERFACE_IP=::1\n",
        b"guid 0x0\nplugin_name grpc_mgr\nplugin_options --grpc_server_address=[::]:5\nguid\n",
    ]


def table_seeds() -> Sequence[bytes]:
    kinds = ("B300", "H100", "custom", "overlapping-partitions", "stale-partition")
    live = [honest(kind)["fm-partitions"] for kind in kinds]
    small = b'{"version":1,"partitionInfo":[{"partitionId":"1","gpuModuleIds":["1",2]}]}'
    return [*live, honest("custom")["fm-partition-definitions"], small]


def observation_seeds() -> Sequence[bytes]:
    machines = [tenant(), manager("H100").board.machine("a"), _custom().board.machine("b")]
    found = [_collected(machine, probe=False).items["fabric"].value for machine in machines]
    return [one for one in found if len(one) <= 256 * 1024]


def probe_seeds() -> Sequence[bytes]:
    machine = _custom().board.machine("b")
    return [_collected(machine, probe=True).items["fabric-probe"].value]


@cache
def attested() -> tuple[AttestedGpu, ...]:
    """The tenant's GPUs, as their reports have them."""
    observation = parse_observation(observation_seeds()[0])
    return tuple(
        AttestedGpu(
            subject=f"gpu-{number}",
            device_id=device.pdi,
            mode="MPT",
            architecture="BLACKWELL-GB100",
            driver="580.95.05",
            vbios="97.00.00.00.00",
            uuid=None if isinstance(gpu.uuid, Absent) else gpu.uuid,
        )
        for number, (device, gpu) in enumerate(
            zip(tenant().node.gpus, observation.gpus, strict=True)
        )
    )
