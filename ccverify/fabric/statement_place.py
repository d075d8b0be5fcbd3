"""Is a statement about the board that the tenant's GPUs are on?

Partition numbers and module ids are alike on every board, so a genuine statement of another
host's manager would fit as well.  Two things tell boards apart.  A manager in a TD of the same
host has a quote of the same platform; that is signed by hardware, and judged by the caller.  And
the driver reads a GUID of each GPU (``nvmlPlatformInfo_v2_t``, ibGuid), which the subnet manager
has discovered too.

Not confirmed by anything public: that the two GUIDs are the same number, and in which byte order.
So GUIDs that the statement knows count, in one order for all GPUs; one that it knows under another
module id contradicts the ids (FABRIC-MODULES); GUIDs that it does not know say nothing.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ccverify.fabric.observation import Absent, GpuObservation
from ccverify.fabric.statement_model import (
    FabricStatement,
    StatementCode,
    StatementProblem,
)

__all__ = ["GuidMatch", "match_guids"]

_Order = Literal["big", "little"]
_ORDERS: Final[tuple[_Order, _Order]] = ("big", "little")
_GUID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class GuidMatch:
    """What GUIDs say of guest and statement.

    Attributes:
        known: GPUs whose GUID the statement knows.
        reason: why GUIDs do not show that the board is the same; empty where they do.
        problems: GPUs that the statement has under another module id.
    """

    known: int = 0
    reason: str = ""
    problems: tuple[StatementProblem, ...] = ()


def match_guids(statement: FabricStatement, gpus: Sequence[GpuObservation]) -> GuidMatch:
    """Compare the GUIDs of the guest's GPUs with those that the statement has by module.

    Args:
        statement: from `read_statement`.
        gpus: of the observation.

    Never raises.
    """
    if statement.links is None or statement.board is None:
        return GuidMatch(reason="the statement has no list of links")
    owners: dict[int, str] = {}
    for node in statement.links.nodes:
        for guid in (node.guid, *(own for _, own in node.port_guids)):
            if guid is not None:
                owners[guid] = node.name
    stated: list[tuple[str, bytes]] = []
    for gpu in gpus:
        platform = gpu.platform
        if isinstance(platform, Absent) or isinstance(gpu.module, Absent):
            return GuidMatch(reason=f"the driver names no GUID of gpus[{gpu.index}]")
        raw = bytes.fromhex(platform.ib_guid)
        if not any(raw[:_GUID_BYTES]) or any(raw[_GUID_BYTES:]):
            return GuidMatch(reason=f"the driver names no GUID of gpus[{gpu.index}]")
        stated.append((f"GPU{gpu.module}", raw[:_GUID_BYTES]))
    if not stated:
        return GuidMatch(reason="the driver sees no GPU")
    return max((_compare(stated, owners, order) for order in _ORDERS), key=lambda one: one.known)


def _compare(
    stated: Sequence[tuple[str, bytes]], owners: Mapping[int, str], order: _Order
) -> GuidMatch:
    found = [(name, owners.get(int.from_bytes(raw, order))) for name, raw in stated]
    known = sum(owner is not None for _, owner in found)
    return GuidMatch(
        known,
        "" if known == len(found) else f"it knows {known} of the {len(found)} GPUs' GUIDs",
        tuple(
            StatementProblem(StatementCode.MODULES, name, f"the GUID of {name}", f"that of {owner}")
            for name, owner in found
            if owner is not None and owner != name
        ),
    )
