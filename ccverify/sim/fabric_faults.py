"""What can be wrong with a board, its manager, or what a guest is told of them: by name.

Each changes a manager and its board for the harm of one tenant, and nothing else of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ccverify.errors import UsageError
from ccverify.sim.board import SimBoard
from ccverify.sim.manager import SimManager

__all__ = ["FAULTS", "SimFault"]

_FOREIGN_RATE = 40_000_000_000
_A_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SimFault:
    """A fault.

    Attributes:
        text: what is wrong, in a sentence.
        apply: brings it about, from the manager and the name of the tenant; raises UsageError
            where the board has no such thing.
    """

    text: str
    apply: Callable[[SimManager, str], None]


def _outside(board: SimBoard, tenant: str) -> int:
    """A GPU that is not the tenant's: another tenant's, if there is one."""
    own = board.modules(tenant)
    rented = [m for other in board.tenants for m in board.modules(other) if m not in own]
    found = next(iter((*rented, *board.free())), None)
    if found is None:
        raise UsageError("nobody else has a GPU of this board", hint="take a board of several")
    return found


def _several(board: SimBoard, tenant: str) -> tuple[int, ...]:
    modules = board.modules(tenant)
    if len(modules) < 2:
        raise UsageError("a tenant of one GPU has no partition to be harmed", found=tenant[:80],
                         expected="a tenant of several GPUs")  # fmt: skip
    return modules


def _blackwell(manager: SimManager) -> SimManager:
    if not manager.board.blackwell:
        raise UsageError(
            "only boards that encrypt NVLink have this fault", found=manager.board.name
        )
    return manager


def _leaked_route(manager: SimManager, tenant: str) -> None:
    board = manager.board
    board.leak_route(_outside(board, tenant), board.modules(tenant)[0])


def _multicast_leak(manager: SimManager, tenant: str) -> None:
    board = manager.board
    board.leak_multicast(tenant, _outside(board, tenant))


def _overlap(manager: SimManager, tenant: str) -> None:
    board, own = manager.board, set(_several(manager.board, tenant))
    other = next(n for n, modules in board.partitions.items()
                 if n not in board.active and own & set(modules))  # fmt: skip
    board.activate_too(other)


def _stale(manager: SimManager, tenant: str) -> None:
    _several(manager.board, tenant)
    manager.board.leave_inactive(tenant)


def _swapped(manager: SimManager, tenant: str) -> None:
    board = manager.board
    board.show_as(board.modules(tenant)[-1], _outside(board, tenant))


def _listed(manager: SimManager, tenant: str) -> None:
    board = manager.board
    board.list_as(board.modules(tenant)[-1], _outside(board, tenant))


FAULTS: Final[Mapping[str, SimFault]] = {
    "stale-partition": SimFault(
        "The partition is defined and inactive, as after a restart; its links are up.",
        _stale,
    ),
    "gpu-in-progress": SimFault(
        "One GPU's registration with the fabric is still In Progress.",
        lambda m, t: m.board.keep_waiting(_several(m.board, t)[-1]),
    ),
    "leaked-route": SimFault("A GPU of another tenant shares a key on one link.", _leaked_route),
    "wrong-key": SimFault(
        "One GPU has a key that is nobody's.",
        lambda m, t: m.board.wrong_key(_several(m.board, t)[0]),
    ),
    "multicast-leak": SimFault("A multicast group leads to another tenant.", _multicast_leak),
    "swapped-module": SimFault("The guest is shown one GPU under another's module id.", _swapped),
    "listed-module": SimFault("The manager lists another GPU in the partition.", _listed),
    "overlapping-partitions": SimFault(
        "A second partition with GPUs of the tenant is active.", _overlap
    ),
    "foreign-traffic": SimFault(
        "Somebody else sends over the links of one GPU.",
        lambda m, t: m.board.add_traffic(_several(m.board, t)[0], _FOREIGN_RATE),
    ),
    "manager-restarted": SimFault(
        "The Fabric Manager was restarted a minute ago.",
        lambda m, t: m.restart(m.at - _A_MINUTE),
    ),
    "host-rebooted": SimFault(
        "The manager's host was rebooted minutes ago.",
        lambda m, t: m.reboot(m.at - 5 * _A_MINUTE),
    ),
    "rail-policy": SimFault(
        "PARTITION_RAIL_POLICY is greedy.", lambda m, t: _blackwell(m).set_rail_policy("greedy")
    ),
    "manager-version": SimFault(
        "The Fabric Manager is of another version than the driver.",
        lambda m, t: m.install("580.95.05"),
    ),
    "manager-mode": SimFault(
        "Tenants share a board whose manager runs in mode 0.", lambda m, t: m.set_mode(0)
    ),
    "open-api": SimFault(
        "The command interface is bound to every address.", lambda m, t: m.bind_everywhere()
    ),
    "replaced-binary": SimFault(
        "Another file is in the place of the running Fabric Manager.",
        lambda m, t: m.replace_binary(),
    ),
    "log-errors": SimFault(
        "The Fabric Manager's log has errors.",
        lambda m, t: m.log_errors("failed to configure NVLink port 3 of GPU module 2"),
    ),
    "manager-stopped": SimFault("The Fabric Manager does not run.", lambda m, t: m.stop()),
    "subnet-manager-stopped": SimFault("NVLSM does not run.", lambda m, t: m.stop_subnet_manager()),
}
"""Name → fault."""
