"""What can be wrong with the routing of a fabric, and a bounded list of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from ccverify.fabric.linkmap import LinkMap, PortId, port_text

__all__ = [
    "MAX_FINDINGS_PER_CODE",
    "FabricPartition",
    "FindingLog",
    "RouteCode",
    "RouteFinding",
]

MAX_FINDINGS_PER_CODE: Final = 64
"""How many places one code may name; the others are counted."""


class RouteCode(str, Enum):
    """What can be wrong, in the order of a report."""

    LEAK = "ROUTE-LEAK"
    """A packet gets from outside a partition into it or out of it, and is accepted."""
    EXPOSED = "ROUTE-EXPOSED"
    """A packet from outside reaches a port; only that port's own keys turn it away."""
    MULTICAST = "ROUTE-MULTICAST"
    """A multicast group is not closed: it reaches, or is reached by, GPUs of no or another
    partition, or it does not reach all of its own."""
    PKEY = "ROUTE-PKEY"
    """A member lacks the key of its partition or cannot use it, or a stranger holds it."""
    LOOP = "ROUTE-LOOP"
    """Packets with a LID go round between switches."""
    BLACKHOLE = "ROUTE-BLACKHOLE"
    """Switches take a packet and lose it."""
    UNREACHABLE = "ROUTE-UNREACHABLE"
    """A switch has no way for a LID, or a port that should be reached has no LID."""
    MISDELIVERED = "ROUTE-MISDELIVERED"
    """A packet for a member ends at another GPU."""
    RAIL = "ROUTE-RAIL"
    """A packet ends at the right GPU on the wrong link, or a member lacks a rail."""
    LINK = "ROUTE-LINK"
    """A cable is not where the published map has it."""
    UNKNOWN_PORT = "ROUTE-UNKNOWN-PORT"
    """A table, address or partition names a device that is not on the map."""
    OVERLAP = "ROUTE-OVERLAP"
    """A GPU is in two partitions."""


@dataclass(frozen=True, slots=True)
class FabricPartition:
    """GPUs that shall reach one another and be reached by nobody else.

    Attributes:
        name: a tenant, or a partition id.
        gpus: names of nodes of the map.
        key: 15-bit partition key that exactly these shall hold; None if it is not known, and
            then only what the keys do is judged.
    """

    name: str
    gpus: frozenset[str]
    key: int | None = None


@dataclass(frozen=True, slots=True)
class RouteFinding:
    """One way in which the fabric does not do what its partitions need.

    Attributes:
        code: stable name.
        partitions: those affected, by name; none if it is the whole fabric.
        where: from and to, or the device.
        expected: what would have been right.
        found: what the tables say.
        path: how the first such packet goes, port by port; empty if no packet is involved.
        count: how many cases there are at this place; the one shown is the first.
    """

    code: RouteCode
    partitions: tuple[str, ...]
    where: str
    expected: str
    found: str
    path: tuple[PortId, ...] = ()
    count: int = 1

    def path_text(self, links: LinkMap) -> str:
        """Write the path for a person: ``GPU5 link 0 → NVSwitch2 port 33 → …``."""
        kinds = {node.name: node.kind for node in links.nodes}
        return " → ".join(port_text(port, kinds[port.node]) for port in self.path)


class FindingLog:
    """Findings being made: one for each code and place, no more than the limit of each code."""

    __slots__ = ("_counts", "_found", "_omitted", "_per_code")

    def __init__(self) -> None:
        self._found: dict[tuple[RouteCode, str], RouteFinding] = {}
        self._counts: Counter[tuple[RouteCode, str]] = Counter()
        self._per_code: Counter[RouteCode] = Counter()
        self._omitted: Counter[RouteCode] = Counter()

    def again(self, code: RouteCode, where: str) -> bool:
        """Count another case at a place; whether there was one, so that no more is wanted."""
        key = code, where
        if key in self._found:
            self._counts[key] += 1
            return True
        if self._per_code[code] >= MAX_FINDINGS_PER_CODE:
            self._omitted[code] += 1
            return True
        return False

    def add(
        self,
        code: RouteCode,
        partitions: Iterable[str | None],
        where: str,
        expected: str,
        found: str,
        path: Sequence[PortId] = (),
    ) -> None:
        """Record a case, or count it if its place is known or the code's list is full."""
        if self.again(code, where):
            return
        names = tuple(dict.fromkeys(name for name in partitions if name is not None))
        self._found[code, where] = RouteFinding(code, names, where, expected, found, tuple(path))
        self._per_code[code] += 1

    def findings(self) -> tuple[RouteFinding, ...]:
        """Return the findings by code, then by place."""
        order = {code: place for place, code in enumerate(RouteCode)}
        return tuple(
            replace(finding, count=1 + self._counts[key])
            for key, finding in sorted(
                self._found.items(), key=lambda item: (order[item[0][0]], item[0][1])
            )
        )

    def omitted(self) -> tuple[tuple[RouteCode, int], ...]:
        """Return for each code with too many places how many cases were left out."""
        return tuple((code, self._omitted[code]) for code in RouteCode if self._omitted[code])
