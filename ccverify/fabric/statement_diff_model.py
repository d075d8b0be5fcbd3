"""One change between two statements, and what kinds there are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Change", "ChangeKind"]


class ChangeKind(str, Enum):
    """What changed, in the order of a report."""

    REBOOT = "reboot"
    """The host was started again."""
    RESTART = "restart"
    """A program was started again, or stopped."""
    VERSION = "version"
    """Of a program, the driver or the kernel."""
    BINARY = "binary"
    """A program is another file, on disk or running."""
    CONFIG = "config"
    """A setting."""
    PARTITION = "partition"
    """A partition of the live table, or of its definitions."""
    ROUTE = "route"
    """Ports that a switch sends LIDs out at."""
    ADDRESS = "address"
    """LIDs of a port."""
    KEY = "key"
    """Partition keys of ports."""
    GROUP = "group"
    """Ports of a multicast group."""
    CABLE = "cable"
    """A link, or a device."""
    ITEM = "item"
    """An item is there in one of the statements, or was read in one, and not in the other."""
    LOG = "log"
    """The Fabric Manager's log has other errors, or less in it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        kind: what changed.
        where: program, setting, partition, switch or device.
        before: as the earlier statement has it.
        after: as the later one has it.
        nodes: devices that it concerns, such as ``GPU3``; empty: everybody.
    """

    kind: ChangeKind
    where: str
    before: str
    after: str
    nodes: frozenset[str] = frozenset()
