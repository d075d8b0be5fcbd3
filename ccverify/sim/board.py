"""HGX boards: eight GPUs, the partitions they are parted into, and the tenants who rent them.

    board = sim_board("B300", [2, 3])            # default partitions by id: tenants "a" and "b"
    board = sim_board("H100", [SimTenant("ann", (1, 2, 5)), SimTenant("bob", (3, 8))])
    board.machine("a"), board.fabric             # what a guest sees, what the manager set up
    board.leave_inactive("a")                    # a fault

A board has the same GPUs however it is parted: they follow from its label.  All tenants and the
manager's own VM run on one host, so their quotes name one CPU.  Nothing that a board gives out is
cached: change it, then ask.

Tenants of a Hopper board sign Protected PCIe, as do those of real ones who have all of it.  NVIDIA
supports no smaller ones, and gives them the switches too; here the switches stay with the manager.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ccverify.errors import UsageError
from ccverify.sim.fabric import SimFabric, SimTenant, board_serial
from ccverify.sim.fabric_maps import BLACKWELL_DEFAULTS, HOPPER_DEFAULTS
from ccverify.sim.machine import MACHINES, Fabric, SimMachine
from ccverify.sim.nvidia.device import SimDevice, sim_gpu
from ccverify.sim.nvidia.models import B200, B300, H100, H200, GpuModel
from ccverify.sim.nvidia.node import SimNode
from ccverify.sim.nvidia.pki import SimNvidiaIssuer
from ccverify.sim.platform import SimPlatform

__all__ = ["BoardModel", "SimBoard", "default_partitions", "sim_board"]

BoardModel = Literal["B200", "B300", "H100", "H200"]

_MODELS: Final[Mapping[str, GpuModel]] = {"B200": B200, "B300": B300, "H100": H100, "H200": H200}
_NAMES = "abcdefgh"
_MODULES = range(1, 9)
_LINKS = 18


def default_partitions(model: str) -> dict[int, tuple[int, ...]]:
    """Return the partitions a board ships with: id → module ids."""
    return dict(BLACKWELL_DEFAULTS if model in ("B200", "B300") else HOPPER_DEFAULTS)


@dataclass(slots=True, kw_only=True)
class SimBoard:
    """A board; `sim_board` makes one.  Everything can be changed.

    Attributes:
        model: B200, B300, H100 or H200.
        name: of its kind.
        label: identities of GPUs and host follow from it.
        fabric: what the manager set up for the partitions in use.
        partitions: that the manager knows, by id: module ids.
        tenants: name → id of his partition.
        active: ids of the partitions that are active.
        custom: whether the partitions are those of a file, in place of the default ones.
        shared: False where all of the board, switches included, is passed through to one guest,
            who manages it himself.
        shown: module id → the one that its guest is shown in its place.
        listed: module id → the one that the manager lists in its place.
        waiting: modules whose registration is In Progress.
        background: module id → traffic of others over its links, bytes per second.
    """

    model: BoardModel
    name: str
    label: str
    fabric: SimFabric
    partitions: dict[int, tuple[int, ...]]
    tenants: dict[str, int]
    active: set[int]
    custom: bool = False
    shared: bool = True
    shown: dict[int, int] = field(default_factory=dict)
    listed: dict[int, int] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    background: dict[int, int] = field(default_factory=dict)

    # --- what there is ---------------------------------------------------------------------------

    @property
    def blackwell(self) -> bool:
        """Whether it encrypts NVLink; real boards of other models have no subnet manager."""
        return self.model in ("B200", "B300")

    @property
    def driver(self) -> str:
        """Version of the driver of its GPUs."""
        return _MODELS[self.model].driver

    @property
    def platform(self) -> SimPlatform:
        """The host's CPU."""
        return SimPlatform(label=self.label)

    def modules(self, tenant: str) -> tuple[int, ...]:
        """Return the module ids of a tenant's GPUs.

        Raises:
            UsageError: there is no such tenant.
        """
        if tenant not in self.tenants:
            expected = ", ".join(self.tenants) or "a board that somebody rents"
            raise UsageError("the board has no such tenant", expected=expected, found=tenant[:80])
        return self.partitions[self.tenants[tenant]]

    def listing(self) -> dict[int, tuple[int, ...]]:
        """Return the partitions as the manager lists them: id → module ids."""
        return {
            number: tuple(self.listed.get(module, module) for module in modules)
            for number, modules in self.partitions.items()
        }

    def free(self) -> tuple[int, ...]:
        """Return the module ids of GPUs that nobody rents."""
        rented = {module for tenant in self.tenants for module in self.modules(tenant)}
        return tuple(module for module in _MODULES if module not in rented)

    def gpu(self, module: int, *, mode: str | None = None) -> SimDevice:
        """Return a GPU of the board, in a mode: ``SPT`` if None."""
        label = f"{self.label}/gpu-{module - 1}"
        return sim_gpu(SimNvidiaIssuer(), _MODELS[self.model], label, mode=mode or "SPT")

    def machine(self, tenant: str) -> SimMachine:
        """Return the guest of a tenant, with his GPUs and no others.

        Raises:
            UsageError: there is no such tenant.
        """
        modules = self.modules(tenant)
        return SimMachine(
            name=self.name if self.name in MACHINES else f"{self.name}/{tenant}",
            platform=self.platform,
            node=self._node(modules),
            fabric=self._guest_fabric(self.tenants[tenant], modules),
        )

    def _node(self, modules: Sequence[int]) -> SimNode:
        if not self.shared:
            return SimNode.hopper_ppcie(label=self.label)
        several = "MPT" if self.blackwell else "PPCIE"
        mode = several if len(modules) > 1 else "SPT"
        issuer = SimNvidiaIssuer()
        return SimNode(
            issuer=issuer,
            gpus=tuple(self.gpu(module, mode=mode) for module in modules),
            rims=_MODELS[self.model].rims(issuer),
        )

    def _guest_fabric(self, partition: int, modules: Sequence[int]) -> Fabric:
        several = len(modules) > 1
        waiting = [n for n, module in enumerate(modules) if several and module in self.waiting]
        background = tuple(self.background.get(module, 0) for module in modules)
        return Fabric(
            links=_LINKS,
            active=several,
            version=7 if self.blackwell else 6,
            encrypted=several and self.blackwell,
            partition=partition,
            modules=tuple(self.shown.get(module, module) for module in modules),
            waiting=tuple(waiting),
            guids=tuple(self.fabric.node_guid(f"GPU{module}") for module in modules)
            if self.blackwell
            else (),
            background=background if any(background) else (),
        )

    # --- faults ----------------------------------------------------------------------------------

    def leave_inactive(self, tenant: str) -> None:
        """Leave a tenant's partition inactive, as after a restart of the manager.

        His links stay up, since they train by themselves; nothing else of his fabric works.
        """
        number = self.tenants[tenant]
        if number in self.active:
            self.active.remove(number)
            self.fabric.deactivate(_partition_name(number))
        self.waiting.update(self.partitions[number])

    def keep_waiting(self, module: int) -> None:
        """Keep one GPU In Progress."""
        self.waiting.add(module)

    def show_as(self, module: int, other: int) -> None:
        """Show a guest one of its GPUs under another module id."""
        self.shown[module] = other

    def list_as(self, module: int, other: int) -> None:
        """Let the manager list two modules in each other's place."""
        self.listed |= {module: other, other: module}

    def activate_too(self, partition: int) -> None:
        """List one more partition as active, whatever it overlaps."""
        self.active.add(partition)

    def leak_route(self, outside: int, inside: int, link: int = 0) -> None:
        """Give a link of one GPU, and one of another at the same switch, a key in common.

        Args:
            outside: module id of the one that gets in.
            inside: module id of the other.
            link: of the other.
        """
        ends = self.fabric.cables.ends
        switch, _ = ends[f"GPU{inside}", link]
        source = min(end for end, far in ends.items()
                     if end[0] == f"GPU{outside}" and far[0] == switch)  # fmt: skip
        self.fabric.leak_route(source, (f"GPU{inside}", link))

    def wrong_key(self, module: int) -> None:
        """Give a GPU a key that is nobody's."""
        self.fabric.wrong_key(f"GPU{module}")

    def leak_multicast(self, tenant: str, outside: int, link: int = 0) -> None:
        """Let a tenant's multicast group lead to another GPU as well.

        Raises:
            UsageError: the tenant has no group, since he has one GPU.
        """
        group = self.fabric.groups_of.get(_partition_name(self.tenants[tenant]))
        if group is None:
            raise UsageError("a tenant of one GPU has no multicast group", found=tenant[:80])
        self.fabric.leak_multicast(group, (f"GPU{outside}", link))

    def add_traffic(self, module: int, rate: int) -> None:
        """Let somebody else send over a GPU's links, in bytes per second."""
        self.background[module] = rate


def _partition_name(number: int) -> str:
    return f"partition-{number}"


def sim_board(
    model: BoardModel,
    tenants: Sequence[SimTenant | int],
    *,
    partitions: Mapping[int, Sequence[int]] | None = None,
    instance: str = "1",
    name: str | None = None,
    label: str | None = None,
    shared: bool = True,
) -> SimBoard:
    """Return a board whose tenants' partitions are active.

    Args:
        model: which board.
        tenants: each by the id of a partition, and then named ``a``, ``b`` and so on in order,
            or with the name and module ids of his own.
        partitions: that the manager knows, id → module ids; None: the default ones if every
            tenant has one of them, else one for each tenant, from id 1.
        instance: boards of one model with different instances have nothing in common.
        name: of its kind; None for one that follows from the model.
        label: identities follow from it; None for one that follows from model and instance.
        shared: see `SimBoard`.

    Raises:
        UsageError: no such board, partition or module, or two tenants with a GPU in common.
    """
    if model not in _MODELS:
        raise UsageError("no such board", expected=", ".join(_MODELS), found=repr(model)[:80])
    known, custom = _known_partitions(model, tenants, partitions)
    ids = {tuple(sorted(modules)): number for number, modules in reversed(list(known.items()))}
    rented: dict[str, int] = {}
    for number, tenant in enumerate(tenants):
        if isinstance(tenant, int):
            rented[_NAMES[number % len(_NAMES)]] = tenant
        else:
            rented[tenant.name] = ids.get(tuple(sorted(tenant.modules)), -1)
    _check_tenants(tenants, rented, known)
    keys = {t.name: t.key for t in tenants if isinstance(t, SimTenant)}
    made = [
        SimTenant(_partition_name(number), known[number], keys.get(tenant))
        for tenant, number in rented.items()
    ]
    kind = f"{model.lower()}-board"
    return SimBoard(
        model=model,
        name=name or kind,
        label=label or f"{kind}/{instance}",
        fabric=SimFabric.hgx(model, made, serial=board_serial(label or f"{kind}/{instance}")),
        partitions=known,
        tenants=rented,
        active=set(rented.values()),
        custom=custom,
        shared=shared,
    )


def _known_partitions(
    model: str,
    tenants: Sequence[SimTenant | int],
    partitions: Mapping[int, Sequence[int]] | None,
) -> tuple[dict[int, tuple[int, ...]], bool]:
    """Which partitions the manager knows, and whether they are other than the default ones."""
    if partitions is not None:
        return {number: tuple(modules) for number, modules in partitions.items()}, True
    known = default_partitions(model)
    wanted = [each.modules for each in tenants if isinstance(each, SimTenant)]
    if {tuple(sorted(modules)) for modules in wanted} <= set(known.values()):
        return known, False
    if len(wanted) < len(tenants):
        raise UsageError("tenants by id and with modules of their own",
                         expected="one or the other, or partitions that list both")  # fmt: skip
    return dict(enumerate(wanted, 1)), True


def _check_tenants(
    tenants: Sequence[SimTenant | int],
    rented: Mapping[str, int],
    known: Mapping[int, tuple[int, ...]],
) -> None:
    unknown = [name for name, number in rented.items() if number not in known]
    if unknown or len(rented) < len(tenants):
        raise UsageError(
            "the board cannot be parted so",
            expected="tenants of different names, each with one of the partitions",
            found=", ".join(unknown) or "a name twice",
        )
    modules = [module for number in rented.values() for module in known[number]]
    if len(set(modules)) < len(modules) or not set(modules) <= set(_MODULES):
        found = ", ".join(map(str, sorted(modules)))
        raise UsageError("the board cannot be parted so", found=f"modules {found}",
                         expected="modules 1 to 8, each once")  # fmt: skip
