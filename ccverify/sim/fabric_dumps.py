"""The dumps that a simulated subnet manager writes, in OpenSM's formats."""

from __future__ import annotations

from collections.abc import Iterator

from ccverify.sim.fabric import SimFabric

__all__ = [
    "address_dump",
    "key_dump",
    "linear_dump",
    "multicast_dump",
    "partition_configuration",
    "subnet_list",
    "unicast_dump",
]


def unicast_dump(fabric: SimFabric) -> bytes:
    """Write ``opensm.fdbs``: every LID that has an owner, with a hop count that is made up.

    A LID without an owner is unreachable there, whatever the table has for it.
    """
    owned = {*fabric.lids.values(), *fabric.switch_lids.values()}
    last = max(owned)
    lines = []
    for switch in fabric.cables.switches:
        lines.append(f"dump_ucast_routes: Switch 0x{fabric.node_guid(switch):016x}")
        lines.append("LID    : Port : Hops : Optimal")
        table = fabric.tables[switch]
        for lid in range(1, last + 1):
            port = table.get(lid) if lid in owned else None
            if port is None:
                lines.append(f"0x{lid:04X} : UNREACHABLE")
            else:
                lines.append(f"0x{lid:04X} : {port:03d}  : {min(port, 1):02d}   : yes")
    return _text(lines)


def linear_dump(fabric: SimFabric) -> bytes:
    """Write ``opensm-lfts.dump``."""
    lines = []
    for switch in fabric.cables.switches:
        table = fabric.tables[switch]
        own, guid = fabric.switch_lids[switch], fabric.node_guid(switch)
        last = max(table, default=0)
        lines.append(
            f"Unicast lids [0-{last}] of switch Lid {own} guid 0x{guid:016x} ('{switch}'):"
        )
        for lid, port in sorted(table.items()):
            lines.append(f"0x{lid:04x} {port:03d} # unknown node and type")
        lines.append(f"{last} lids dumped")
    return _text(lines)


def multicast_dump(fabric: SimFabric) -> bytes:
    """Write ``opensm.mcfdbs``."""
    lines = []
    for switch in fabric.cables.switches:
        groups = fabric.groups.get(switch)
        if not groups:
            continue
        lines += ["", f"Switch 0x{fabric.node_guid(switch):016x}", "LID    : Out Port(s)"]
        for lid, ports in sorted(groups.items()):
            if ports:
                lines.append(
                    f"0x{lid:04X} :" + "".join(f" 0x{port:03X} " for port in sorted(ports))
                )
    return _text(lines)


def address_dump(fabric: SimFabric) -> bytes:
    """Write ``guid2lid``."""
    rows = {fabric.port_guid(*end): lid for end, lid in fabric.lids.items()}
    rows.update({fabric.node_guid(name): lid for name, lid in fabric.switch_lids.items()})
    return _text([f"0x{guid:016x} 0x{lid:04x} 0x{lid:04x}\n" for guid, lid in rows.items()])


def key_dump(fabric: SimFabric) -> bytes:
    """Write every key table as ``smpquery pkeys`` does, each after a line that names the port."""
    lines = []
    for (name, port), keys in fabric.keys.items():
        number = port if name in fabric.switch_lids else port + 1
        lines.append(f"Node 0x{fabric.node_guid(name):016x} port {number}")
        padded = keys + [0] * (-len(keys) % 8)
        for at in range(0, len(padded), 8):
            row = " ".join(f"0x{key:04x}" for key in padded[at : at + 8])
            lines.append(f"{at:4d}: {row}")
        lines.append(f"{len(padded)} pkeys capacity for this port")
    return _text(lines)


def partition_configuration(fabric: SimFabric) -> bytes:
    """Write ``partitions.conf`` for the tenants; what faults changed is not in it."""
    lines = ["# simulated", "Default=0x7fff : ALL=limited ;"]
    for tenant in fabric.tenants:
        guids = {
            fabric.port_guid(*end): None for end in fabric.cables.ends if end[0] in tenant.gpus
        }
        members = ",\n  ".join(f"0x{guid:016x}=full" for guid in guids)
        lines.append(f"{tenant.name} = 0x{fabric.keys_of[tenant.name]:04x} :\n  {members} ;")
    return _text(lines)


def subnet_list(fabric: SimFabric) -> bytes:
    """Write ``opensm-subnet.lst``: both sides of every link."""
    return _text(_sides(fabric))


def _sides(fabric: SimFabric) -> Iterator[str]:
    state = "PHY=4x LOG=ACT SPD=25"
    for (gpu, link), (switch, port) in fabric.cables.ends.items():
        near, far = _gpu_side(fabric, gpu, link), _switch_side(fabric, switch, port)
        yield f"{near} {far} {state}"
        yield f"{far} {near} {state}"
    for here, there in fabric.cables.trunks.items():
        yield f"{_switch_side(fabric, *here)} {_switch_side(fabric, *there)} {state}"


def _gpu_side(fabric: SimFabric, gpu: str, link: int) -> str:
    return _side("CA", 18, fabric.node_guid(gpu), fabric.port_guid(gpu, link),
                 f"simulated {gpu}", fabric.lids[gpu, link], link + 1)  # fmt: skip


def _switch_side(fabric: SimFabric, switch: str, port: int) -> str:
    guid = fabric.node_guid(switch)
    return _side("SW", 72, guid, guid, f"simulated {switch}", fabric.switch_lids[switch], port)


def _side(kind: str, ports: int, node: int, own: int, name: str, lid: int, port: int) -> str:
    return (
        f"{{ {kind} Ports:{ports:02X} SystemGUID:{node:016x} NodeGUID:{node:016x}"
        f" PortGUID:{own:016x} VenID:0010DE DevID:0000 Rev:00000001 {{{name}}}"
        f" LID:{lid:04X} PN:{port:02X} }}"
    )


def _text(lines: Iterator[str] | list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("ascii")
