"""A simulated NVLink fabric with its subnet manager: tables, keys, tenants and faults.

    fabric = SimFabric.hgx("B300", [SimTenant("a", (1, 2, 3, 4)), SimTenant("b", (5, 6, 7, 8))])
    fabric.leak_route(("GPU5", 0), ("GPU1", 0))
    unicast_dump(fabric), key_dump(fabric), …  # ccverify.sim.fabric_dumps

The dumps are in OpenSM's formats.  Whether NVIDIA's own manager writes them so, and how it deals
LIDs out, is not public: here every NVLink has a LID of its own, or every GPU one for all links.
Hopper has no subnet manager; its fabric is simulated as if it had, on its real cables, whose
switch ports NVIDIA counts from 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ccverify.sim.fabric_maps import (
    BLACKWELL_DEFAULTS,
    HOPPER_DEFAULTS,
    Port,
    SimCables,
    hgx_cables,
    two_level_cables,
)

__all__ = ["SimFabric", "SimTenant", "board_serial", "default_tenants", "gpu_guid"]

_FULL = 0x8000
_DEFAULT_KEY = 0x7FFF
_FIRST_KEY = 0x0100
_FIRST_GROUP = 0xC000
_SPARE_KEY = 0x4242
_GPU_GUID, _SWITCH_GUID = 0x53494D0000000000, 0x53494D5300000000


def board_serial(label: str) -> int:
    """Return a number of 16 bits that tells the GUIDs of one board from another's."""
    digest = hashlib.sha256(b"ccverify simulation: board" + label.encode()).digest()
    return int.from_bytes(digest[:2])


def gpu_guid(serial: int, module: int) -> int:
    """Return the GUID of a GPU by the serial of its board and its module id."""
    return _GPU_GUID + (serial << 16) + (module << 8)


@dataclass(frozen=True, slots=True)
class SimTenant:
    """A partition in use: its name, the module ids of its GPUs, its key if not the next one."""

    name: str
    modules: tuple[int, ...]
    key: int | None = None

    @property
    def gpus(self) -> tuple[str, ...]:
        """Names of the GPUs."""
        return tuple(f"GPU{module}" for module in self.modules)


def default_tenants(board: str, ids: Sequence[int]) -> list[SimTenant]:
    """Return default partitions of a board by id."""
    table = BLACKWELL_DEFAULTS if board in ("B200", "B300") else HOPPER_DEFAULTS
    return [SimTenant(f"partition-{number}", table[number]) for number in ids]


@dataclass(slots=True)
class SimFabric:
    """A fabric; everything can be changed before the dumps are taken.

    Attributes:
        cables: as they are; the manager discovers these.
        tenants: partitions in use.
        serial: of the board; GUIDs follow from it.
        keys_of: tenant → its key, without the bit of full members.
        lids: (GPU, link) → LID; for a LID of the whole GPU all links have the same.
        switch_lids: switch → LID.
        tables: switch → LID → output port.
        groups: switch → multicast LID → output ports.
        groups_of: tenant of several GPUs → its multicast LID.
        keys: (node, port) → keys; the port of a GPU is its link, of a switch its port.
    """

    cables: SimCables
    tenants: list[SimTenant]
    one_lid_per_gpu: bool = False
    serial: int = 0
    keys_of: dict[str, int] = field(default_factory=dict)
    lids: dict[Port, int] = field(default_factory=dict)
    switch_lids: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[int, int]] = field(default_factory=dict)
    groups: dict[str, dict[int, set[int]]] = field(default_factory=dict)
    groups_of: dict[str, int] = field(default_factory=dict)
    keys: dict[Port, list[int]] = field(default_factory=dict)

    @classmethod
    def hgx(
        cls, board: str, tenants: Sequence[SimTenant], *, one_lid_per_gpu: bool = False,
        serial: int = 0,
    ) -> SimFabric:  # fmt: skip
        """Make an HGX baseboard: ``B200``, ``B300``, ``H100`` or ``H200``.

        Boards of different serials, 16 bits, have no GUID in common.
        """
        return cls(hgx_cables(board), list(tenants), one_lid_per_gpu, serial)._managed()

    @classmethod
    def two_level(
        cls, tenants: Sequence[SimTenant], *, gpus: int, rails: int, down: int, spines: int,
        width: int = 1, one_lid_per_gpu: bool = True,
    ) -> SimFabric:  # fmt: skip
        """Make a fabric of leaves and spines; see `two_level_cables`."""
        cables = two_level_cables(gpus, rails, down, spines, width)
        return cls(cables, list(tenants), one_lid_per_gpu)._managed()

    # --- what the manager does -------------------------------------------------------------------

    def _managed(self) -> SimFabric:
        self._assign_lids()
        self._route()
        self._assign_keys()
        self._make_groups()
        return self

    def _assign_lids(self) -> None:
        lid = 0
        for switch in self.cables.switches:
            lid += 1
            self.switch_lids[switch] = lid
        last = None
        for gpu, link in sorted(self.cables.ends, key=lambda end: (int(end[0][3:]), end[1])):
            if gpu != last or not self.one_lid_per_gpu:
                lid += 1
            last = gpu
            self.lids[gpu, link] = lid

    def _route(self) -> None:
        """Leaves know their own GPUs and send the rest up; spines know the leaf of every GPU."""
        below: dict[str, list[Port]] = {}
        for (switch, port), (other, _) in sorted(self.cables.trunks.items()):
            if switch not in self.cables.spine_of:
                below.setdefault(switch, []).append((other, port))
        for switch in self.cables.switches:
            self.tables[switch] = {self.switch_lids[switch]: 0}
        leaf_lids: dict[str, list[int]] = {}
        for (gpu, link), (switch, port) in self.cables.ends.items():
            lid = self.lids[gpu, link]
            self.tables[switch].setdefault(lid, port)
            leaf_lids.setdefault(switch, []).append(lid)
        for spine, ports in below.items():
            down: dict[str, list[int]] = {}
            for leaf, port in ports:
                down.setdefault(leaf, []).append(port)
            for leaf, cables in down.items():
                for lid in leaf_lids.get(leaf, ()):
                    self.tables[spine][lid] = cables[lid % len(cables)]
        for leaf, spines in self.cables.spine_of.items():
            rail = leaf.partition(".")[0]
            for other, lids in leaf_lids.items():
                if other == leaf or other.partition(".")[0] != rail:
                    continue
                for lid in lids:
                    _, up = spines[lid % len(spines)]
                    self.tables[leaf][lid] = up[lid // len(spines) % len(up)]

    def _assign_keys(self) -> None:
        owner = {gpu: tenant.name for tenant in self.tenants for gpu in tenant.gpus}
        for number, tenant in enumerate(self.tenants):
            self.keys_of[tenant.name] = tenant.key or _FIRST_KEY + number
        for end, far in self.cables.ends.items():
            held = [_DEFAULT_KEY]
            if end[0] in owner:
                held.append(self.keys_of[owner[end[0]]] | _FULL)
            self.keys[end], self.keys[far] = list(held), list(held)

    def _make_groups(self) -> None:
        """One group for each tenant of several GPUs: on HGX, or under one spine of each rail."""
        for number, tenant in enumerate(t for t in self.tenants if len(t.gpus) > 1):
            members = set(tenant.gpus)
            group = self.groups_of[tenant.name] = _FIRST_GROUP + number
            leaves: dict[str, set[int]] = {}
            for (gpu, _), (switch, port) in self.cables.ends.items():
                if gpu in members:
                    leaves.setdefault(switch, set()).add(port)
            rails: dict[str, list[str]] = {}
            for leaf in sorted(leaves.keys() & self.cables.spine_of.keys()):
                rails.setdefault(leaf.partition(".")[0], []).append(leaf)
            for inside in rails.values():
                for leaf in inside if len(inside) > 1 else ():
                    spine, up = self.cables.spine_of[leaf][0]
                    leaves[leaf].add(up[0])
                    leaves.setdefault(spine, set()).add(self.cables.trunks[leaf, up[0]][1])
            for switch, copies in leaves.items():
                self.groups.setdefault(switch, {})[group] = copies

    def deactivate(self, tenant: str) -> None:
        """Take a tenant's keys and group away, as when its partition is deactivated."""
        (own,) = (each for each in self.tenants if each.name == tenant)
        self.tenants.remove(own)
        group = self.groups_of.pop(tenant, None)
        for groups in self.groups.values():
            if group is not None:
                groups.pop(group, None)
        for end, far in self.cables.ends.items():
            if end[0] in own.gpus:
                self.keys[end], self.keys[far] = [_DEFAULT_KEY], [_DEFAULT_KEY]

    # --- faults ----------------------------------------------------------------------------------

    def leak_route(self, source: Port, target: Port) -> None:
        """Let two links of different tenants share a key that nobody else has."""
        for end in (source, target):
            self.keys[end].append(_SPARE_KEY | _FULL)
            self.keys[self.cables.ends[end]].append(_SPARE_KEY | _FULL)

    def expose(self, target: Port, tenant: str) -> None:
        """Leave a tenant's key at the switch port of another's link, as after a change."""
        self.keys[self.cables.ends[target]].append(self.keys_of[tenant] | _FULL)

    def wrong_key(self, gpu: str) -> None:
        """Give all links of a GPU a key that is nobody's, in place of its tenant's."""
        for end, far in self.cables.ends.items():
            if end[0] == gpu:
                self.keys[end] = self.keys[far] = [_DEFAULT_KEY, 0x0666 | _FULL]

    def limited_key(self, gpu: str) -> None:
        """Make a GPU a limited member of its partition."""
        for end, far in self.cables.ends.items():
            if end[0] == gpu:
                self.keys[end] = self.keys[far] = [key & ~_FULL for key in self.keys[end]]

    def black_hole(self, target: Port, switch: str | None = None) -> None:
        """Send what is for a link out at a port without a cable."""
        self._redirect(target, switch, 254)

    def drop_entry(self, target: Port) -> None:
        """Take a link's LID out of the table of the switch it is cabled to."""
        del self.tables[self.cables.ends[target][0]][self.lids[target]]

    def wrong_rail(self, target: Port, instead: Port) -> None:
        """Deliver what is for a link at another link of the same GPU and switch."""
        self._redirect(target, None, self.cables.ends[instead][1])

    def swap_ports(self, first: Port, second: Port) -> None:
        """Exchange the table entries of two links of one switch."""
        table = self.tables[self.cables.ends[first][0]]
        one, other = self.lids[first], self.lids[second]
        table[one], table[other] = table[other], table[one]

    def swap_cables(self, first: Port, second: Port) -> None:
        """Exchange the cables of two links; tables stay as they were."""
        self.cables = self.cables.copy()
        ends = self.cables.ends
        ends[first], ends[second] = ends[second], ends[first]

    def loop(self, target: Port, leaf: str) -> None:
        """Make a spine send what is for a link to a leaf that sends it up again."""
        spine, ports = self.cables.spine_of[leaf][0]
        lid = self.lids[target]
        self.tables[leaf][lid] = ports[0]
        self.tables[spine][lid] = self.cables.trunks[leaf, ports[0]][1]

    def leak_multicast(self, group: int, intruder: Port) -> None:
        """Add another tenant's link to a group."""
        switch, port = self.cables.ends[intruder]
        self.groups[switch].setdefault(group, set()).add(port)

    def split_multicast(self, group: int, switch: str, port: int) -> None:
        """Take a port out of a group."""
        self.groups[switch][group].discard(port)

    def _redirect(self, target: Port, switch: str | None, port: int) -> None:
        self.tables[switch or self.cables.ends[target][0]][self.lids[target]] = port

    # --- names -----------------------------------------------------------------------------------

    def node_guid(self, name: str) -> int:
        """Return the GUID of a GPU or switch."""
        if name in self.switch_lids:
            return _SWITCH_GUID + (self.serial << 8) + self.switch_lids[name]
        return gpu_guid(self.serial, int(name[3:]))

    def names(self) -> dict[str, str]:
        """Return for every node GUID, as ``0x`` and 16 hex digits, the name of the node."""
        nodes = (*self.cables.gpus, *self.cables.switches)
        return {f"0x{self.node_guid(name):016x}": name for name in nodes}

    def port_guid(self, gpu: str, link: int) -> int:
        """Return the GUID of a link: its own, or the GPU's where that has one LID."""
        return self.node_guid(gpu) + (0 if self.one_lid_per_gpu else link + 1)
