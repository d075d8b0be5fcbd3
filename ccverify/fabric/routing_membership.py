"""Who on a forwarding graph is in which partition, and who on a switch may send to whom."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ccverify.fabric.routing import FULL_MEMBER
from ccverify.fabric.routing_findings import FabricPartition
from ccverify.fabric.routing_graph import EndPort, Graph, KeySet

__all__ = ["Admission", "Membership"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What the end ports of one switch can do to one kind of receiver.

    Attributes:
        accepted: nodes with a key that the receiver accepts.
        partitions: the partitions of these, managers left out; None for those in none.
        exposed: nodes with a key that gets to the receiver, which does not accept it.
        senders: one end port of each node, to show a path from.
    """

    accepted: frozenset[str]
    partitions: frozenset[str | None]
    exposed: frozenset[str]
    senders: dict[str, int]


class Membership:
    """Partitions laid over a graph.

    Attributes:
        partition_of: node → its partition; the first one if it is in several.
        keys: partition → its key, where it is known, without the bit of full members.
        managers: nodes that may reach everybody.
        senders: switch → the end ports cabled to it.
    """

    __slots__ = (
        "_admissions", "_by_partition", "_ends_of", "_graph", "_kinds", "_sizes", "keys",
        "managers", "partition_of", "senders",
    )  # fmt: skip

    def __init__(
        self, graph: Graph, partitions: Sequence[FabricPartition], managers: Collection[str]
    ) -> None:
        self._graph = graph
        self.managers = frozenset(managers)
        self.partition_of: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        for partition in partitions:
            self._sizes[partition.name] = len(partition.gpus)
            for gpu in partition.gpus:
                self.partition_of.setdefault(gpu, partition.name)
        self.keys = {p.name: p.key & ~FULL_MEMBER for p in partitions if p.key is not None}
        self.senders: dict[int, list[int]] = {}
        self._by_partition: dict[str, dict[int, list[int]]] = {p.name: {} for p in partitions}
        self._ends_of: dict[str, list[tuple[int, EndPort]]] = {p.name: [] for p in partitions}
        kinds: dict[tuple[KeySet, KeySet], int] = {}
        self._kinds: list[int] = []
        for at, end in enumerate(graph.ends):
            self.senders.setdefault(end.switch, []).append(at)
            self._kinds.append(kinds.setdefault((end.guard, end.accepts), len(kinds)))
            name = self.partition_of.get(end.port.node)
            if name is not None:
                self._by_partition[name].setdefault(end.switch, []).append(at)
                self._ends_of[name].append((at, end))
        self._admissions: dict[tuple[int, int, KeySet], Admission] = {}

    def needs_links(self, partition: str) -> bool:
        """Whether a partition has GPUs to connect; one alone uses no link."""
        return self._sizes[partition] > 1

    def linked(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the partitions of more than one GPU, with their GPUs that are on the map."""
        known = {node.name for node in self._graph.links.nodes}
        members: dict[str, list[str]] = {}
        for gpu, name in sorted(self.partition_of.items()):
            if gpu in known:
                members.setdefault(name, []).append(gpu)
        for name in sorted(members):
            if self.needs_links(name):
                yield name, tuple(members[name])

    def ends_of(self, partition: str) -> Sequence[tuple[int, EndPort]]:
        """Return the end ports of a partition with their indices."""
        return self._ends_of[partition]

    def switches_of(self, partition: str) -> Sequence[tuple[int, list[int]]]:
        """Return the switches a partition is cabled to, with its end ports there."""
        return list(self._by_partition[partition].items())

    def kind(self, end: int) -> int:
        """Return a number equal for end ports that admit the same packets."""
        return self._kinds[end]

    def admission(self, switch: int, end: int, transit: KeySet) -> Admission:
        """Say who at a switch can send what the end port is given, or accepts."""
        key = switch, self._kinds[end], transit
        known = self._admissions.get(key)
        if known is None:
            known = self._admissions[key] = self._admit(switch, end, transit)
        return known

    def _admit(self, switch: int, end: int, transit: KeySet) -> Admission:
        accepted: set[str] = set()
        arriving: set[str] = set()
        senders: dict[str, int] = {}
        for source in self.senders.get(switch, ()):
            node = self._graph.ends[source].port.node
            if self._graph.accepted(source, end, transit) != frozenset():
                if node not in accepted:
                    senders[node] = source
                accepted.add(node)
            elif self._graph.arriving(source, end, transit) != frozenset():
                arriving.add(node)
                senders.setdefault(node, source)
        partitions = {self.partition_of.get(node) for node in accepted - self.managers}
        return Admission(
            frozenset(accepted), frozenset(partitions), frozenset(arriving - accepted), senders
        )
