"""Boards and their guests by name, as ``ccverify collect --platform sim:NAME`` takes them.

    b300-board-4+4              a board with two tenants of four GPUs, and its manager
    b300-board-4+4/b            the guest of the second of them
    b300-board-4+4/b@wrong-key  with a fault that harms him; several follow one another
    b300-hgx-4                  the manager of that machine's board

After ``-board-`` are the GPUs of each tenant: 1, 2, 4 or 8.  Each gets the first default partition
of that size whose GPUs are free.
"""

from __future__ import annotations

import difflib
import re
from typing import Final, cast

from ccverify.errors import UsageError
from ccverify.sim.board import BoardModel, SimBoard, default_partitions, sim_board
from ccverify.sim.fabric_faults import FAULTS
from ccverify.sim.machine import MACHINES, SimMachine
from ccverify.sim.manager import SimManager

__all__ = ["BOARDS", "is_board_name", "manager_named", "tenant_named"]

_MODELS = ("b200", "b300", "h100", "h200")
_SPLITS = ("8", "4+4", "4+2+1+1", "2+2+2+2")
BOARDS: Final = tuple(f"{model}-board-{split}" for model in _MODELS for split in _SPLITS)
"""Names of boards; other sums are names too."""

_BOARD = re.compile(r"(b200|b300|h100|h200)-board-([1248](?:\+[1248]){0,7})")
_WHOLE = "h100-hgx-8"  # switches and all


def is_board_name(name: str) -> bool:
    """Whether a name is meant for a board or one of its guests, and not for a machine."""
    return "-board-" in name or "/" in name or "@" in name


def manager_named(name: str, *, instance: str = "1") -> SimManager:
    """Return the manager of a board, faults of the name included.

    Args:
        name: ``BOARD[/TENANT][@FAULT…]``, or that of a machine that sits on a board.
        instance: boards of one name with different instances have nothing in common.

    Raises:
        UsageError: no such board, tenant or fault, or a fault that the board cannot have.
    """
    manager, tenant, faults = _taken_apart(name, instance)
    for fault in faults:
        FAULTS[fault].apply(manager, tenant or next(iter(manager.board.tenants)))
    return manager


def tenant_named(name: str, *, instance: str = "1") -> SimMachine:
    """Return the guest of a tenant, faults of the name included.

    Args:
        name: ``BOARD/TENANT[@FAULT…]``; a board of one tenant needs no TENANT.
        instance: see `manager_named`.

    Raises:
        UsageError: as for `manager_named`, or a board of several tenants and none is named.
    """
    manager, tenant, _ = _taken_apart(name, instance)
    tenants = list(manager.board.tenants)
    if tenant is None and len(tenants) > 1:
        whole, at, faults = name.partition("@")
        raise UsageError(
            "several tenants rent this simulated board",
            expected=", ".join(f"{whole}/{each}{at}{faults}" for each in tenants),
            found=repr(name[:80]),
        )
    return manager_named(name, instance=instance).board.machine(tenant or tenants[0])


def _taken_apart(name: str, instance: str) -> tuple[SimManager, str | None, list[str]]:
    whole, *faults = name.split("@")
    board_name, slash, tenant = whole.partition("/")
    board = _board_named(board_name, instance)
    if slash and tenant not in board.tenants:
        raise UsageError("the simulated board has no such tenant", found=repr(tenant[:80]),
                         expected=", ".join(board.tenants))  # fmt: skip
    for fault in faults:
        if fault not in FAULTS:
            raise UsageError("there is no such fault", expected=", ".join(FAULTS),
                             found=repr(fault[:80]), hint=_near(fault, FAULTS))  # fmt: skip
    return SimManager(board), tenant if slash else None, faults


def _board_named(name: str, instance: str) -> SimBoard:
    match = _BOARD.fullmatch(name)
    if match is not None:
        model = cast(BoardModel, match[1].upper())
        ids = _packed(name, model, [int(size) for size in match[2].split("+")])
        return sim_board(model, ids, instance=instance, name=name)
    model = cast(BoardModel, name.partition("-")[0].upper())
    if name not in MACHINES or model.lower() not in _MODELS:
        raise UsageError(
            "there is no such simulated board",
            expected=", ".join((*BOARDS, *(n for n in MACHINES if n.startswith(_MODELS)))),
            found=repr(name[:80]),
            hint=_near(name, (*BOARDS, *MACHINES)),
        )
    ids = _packed(name, model, [int(name.rpartition("-")[2])])
    return sim_board(model, ids, name=name, label=f"{name}/{instance}", shared=name != _WHOLE)


def _packed(name: str, model: str, sizes: list[int]) -> list[int]:
    """The first default partition of each size whose GPUs are free."""
    free, taken = set(range(1, 9)), []
    for size in sizes:
        for number, modules in default_partitions(model).items():
            if len(modules) == size and free.issuperset(modules):
                taken.append(number)
                free -= set(modules)
                break
        else:
            raise UsageError("the tenants do not fit on one board", found=repr(name[:80]),
                             expected="8 GPUs at most, the large tenants first")  # fmt: skip
    return taken


def _near(name: str, known: object) -> str | None:
    close = difflib.get_close_matches(name[:100], list(known), 1)  # type: ignore[call-overload]
    return f"did you mean {close[0]}?" if close else None
