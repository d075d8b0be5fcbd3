"""The published link maps of HGX baseboards, and the partitions the Fabric Manager ships with.

Source: NVIDIA Fabric Manager User Guide 2.3, chapters *NVLink Topology* and *GPU Partitions*.
GPUs are named by module id (1 to 8) and switches by the guide's number.  The rows were compared
with the guide's own rule: 18 links of every GPU, each once, and no switch port twice.

How sure: the cabling is the vendor's own statement.  That a B200/B300 switch port of the guide is
the port of the same number in a subnet manager's dump is an inference (both count from 1; nothing
public says so).  Hopper switches have no subnet manager: their map serves statements that carry
forwarding tables in the same normal form.
"""

from __future__ import annotations

from typing import Final

from ccverify.fabric.linkmap import Link, LinkMap, MapSource, Node, NodeKind, PortId

__all__ = [
    "DEFAULT_PARTITIONS_BLACKWELL",
    "DEFAULT_PARTITIONS_HOPPER",
    "HGX_B200",
    "HGX_B300",
    "HGX_H100",
    "LINKS_PER_GPU",
]

LINKS_PER_GPU: Final = 18
"""In every partition of more than one GPU; none in a partition of one."""

_TO_SWITCH_2 = "0 1 3 4 6 9 11 14 16"
_TO_SWITCH_1 = "2 5 7 8 10 12 13 15 17"

# GPU, its links, the switch, the switch's ports in the same order.
_BLACKWELL: Final = (
    (1, _TO_SWITCH_2, 2, "2 10 12 6 4 14 16 8 1"),
    (1, _TO_SWITCH_1, 1, "3 2 4 1 7 5 6 8 10"),
    (2, _TO_SWITCH_2, 2, "3 20 18 7 5 24 22 9 11"),
    (2, _TO_SWITCH_1, 1, "9 12 14 11 13 15 16 18 20"),
    (3, _TO_SWITCH_2, 2, "13 26 28 17 15 30 32 19 21"),
    (3, _TO_SWITCH_1, 1, "19 22 24 17 23 21 26 28 30"),
    (4, _TO_SWITCH_2, 2, "23 36 34 27 25 40 38 29 31"),
    (4, _TO_SWITCH_1, 1, "25 32 34 27 29 31 36 38 40"),
    (5, _TO_SWITCH_2, 2, "33 42 44 37 35 46 48 39 41"),
    (5, _TO_SWITCH_1, 1, "35 42 44 33 39 37 46 48 50"),
    (6, _TO_SWITCH_2, 2, "43 52 50 47 45 56 54 49 51"),
    (6, _TO_SWITCH_1, 1, "41 52 54 43 45 47 56 58 60"),
    (7, _TO_SWITCH_2, 2, "53 58 60 57 55 62 64 59 61"),
    (7, _TO_SWITCH_1, 1, "51 62 64 49 55 53 66 68 70"),
    (8, _TO_SWITCH_2, 2, "63 68 66 67 65 72 70 69 71"),
    (8, _TO_SWITCH_1, 1, "57 72 65 59 61 63 67 69 71"),
)
_HOPPER: Final = (
    (1, "2 3 12 13", 1, "40 41 44 45"),
    (1, "0 1 11 16 17", 2, "36 37 40 46 47"),
    (1, "15 14 10 6 7", 3, "42 43 45 62 63"),
    (1, "4 5 9 8", 4, "58 59 62 63"),
    (2, "15 14 8 9", 1, "42 43 46 47"),
    (2, "2 3 7 6 11", 2, "2 3 4 5 32"),
    (2, "10 5 4 0 1", 3, "34 40 41 46 47"),
    (2, "12 13 16 17", 4, "34 35 38 39"),
    (3, "13 12 7 6", 1, "48 49 52 53"),
    (3, "17 16 10 3 2", 2, "0 1 33 38 39"),
    (3, "14 15 8 9 11", 3, "16 17 50 51 52"),
    (3, "5 4 1 0", 4, "56 57 60 61"),
    (4, "9 8 13 12", 1, "32 33 36 37"),
    (4, "2 3 10 14 15", 2, "50 51 53 62 63"),
    (4, "7 6 11 16 17", 3, "2 3 35 38 39"),
    (4, "5 4 1 0", 4, "42 43 46 47"),
    (5, "7 6 12 13", 1, "58 59 62 63"),
    (5, "17 16 11 1 0", 2, "48 49 52 56 57"),
    (5, "15 14 10 2 3", 3, "36 37 44 60 61"),
    (5, "4 5 9 8", 4, "48 49 52 53"),
    (6, "6 7 15 14", 1, "34 35 38 39"),
    (6, "8 9 17 16 11", 2, "6 7 34 35 42"),
    (6, "4 5 10 1 0", 3, "0 1 19 32 33"),
    (6, "13 12 3 2", 4, "32 33 36 37"),
    (7, "17 16 13 12", 1, "50 51 54 55"),
    (7, "10 0 1 4 5", 2, "43 54 55 58 59"),
    (7, "15 14 11 8 9", 3, "48 49 53 56 57"),
    (7, "7 6 3 2", 4, "40 41 44 45"),
    (8, "12 13 17 16", 1, "56 57 60 61"),
    (8, "10 5 4 0 1", 2, "41 44 45 60 61"),
    (8, "11 14 15 7 6", 3, "18 54 55 58 59"),
    (8, "2 3 8 9", 4, "50 51 54 55"),
)


def _published(name: str, rows: tuple[tuple[int, str, int, str], ...]) -> LinkMap:
    links = [
        Link(PortId(f"GPU{gpu}", int(link)), PortId(f"NVSwitch{switch}", int(port)))
        for gpu, gpu_links, switch, ports in rows
        for link, port in zip(gpu_links.split(), ports.split(), strict=True)
    ]
    nodes = [
        *(Node(f"GPU{gpu}", NodeKind.GPU) for gpu in {row[0] for row in rows}),
        *(Node(f"NVSwitch{switch}", NodeKind.SWITCH) for switch in {row[2] for row in rows}),
    ]
    return LinkMap(name, MapSource.PUBLISHED, tuple(nodes), tuple(links))


HGX_B200: Final = _published("HGX B200", _BLACKWELL)
"""Two fourth-generation NVSwitches, nine links of each GPU to either."""
HGX_B300: Final = _published("HGX B300", _BLACKWELL)
"""The guide gives one table for B200 and B300."""
HGX_H100: Final = _published("HGX H100", _HOPPER)
"""Four third-generation NVSwitches, 4, 5, 5 and 4 links; H200 and H20 (8 GPUs) are cabled alike."""


def _gpus(*groups: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(f"GPU{module}" for module in group) for group in groups)


_ALL, _LOW, _HIGH = tuple(range(1, 9)), (1, 2, 3, 4), (5, 6, 7, 8)
_SINGLE = tuple((module,) for module in _ALL)

DEFAULT_PARTITIONS_HOPPER: Final = dict(
    enumerate(_gpus(_ALL, _LOW, _HIGH, (1, 3), (2, 4), (5, 7), (6, 8), *_SINGLE), start=0)
)
"""Partition id → GPUs, HGX H100 and its kin."""
DEFAULT_PARTITIONS_BLACKWELL: Final = dict(
    enumerate(_gpus(_ALL, _LOW, _HIGH, (1, 2), (3, 4), (5, 6), (7, 8), *_SINGLE), start=1)
)
"""Partition id → GPUs, HGX B200 and B300."""
