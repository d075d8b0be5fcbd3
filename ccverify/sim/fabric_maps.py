"""Cables and default partitions of simulated fabrics.

The HGX tables are transcribed from NVIDIA's Fabric Manager User Guide 2.3 once more, in the
guide's own row form, so that a slip in the verifier's transcription shows.  The two-level fabric
is made up: its rails are separate, each with leaves that GPUs are cabled to and spines above.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["BLACKWELL_DEFAULTS", "HOPPER_DEFAULTS", "SimCables", "hgx_cables", "two_level_cables"]

Port = tuple[str, int]

_H100 = """
1|2,3,12,13|1|40,41,44,45
1|0,1,11,16,17|2|36,37,40,46,47
1|15,14,10,6,7|3|42,43,45,62,63
1|4,5,9,8|4|58,59,62,63
2|15,14,8,9|1|42,43,46,47
2|2,3,7,6,11|2|2,3,4,5,32
2|10,5,4,0,1|3|34,40,41,46,47
2|12,13,16,17|4|34,35,38,39
3|13,12,7,6|1|48,49,52,53
3|17,16,10,3,2|2|0,1,33,38,39
3|14,15,8,9,11|3|16,17,50,51,52
3|5,4,1,0|4|56,57,60,61
4|9,8,13,12|1|32,33,36,37
4|2,3,10,14,15|2|50,51,53,62,63
4|7,6,11,16,17|3|2,3,35,38,39
4|5,4,1,0|4|42,43,46,47
5|7,6,12,13|1|58,59,62,63
5|17,16,11,1,0|2|48,49,52,56,57
5|15,14,10,2,3|3|36,37,44,60,61
5|4,5,9,8|4|48,49,52,53
6|6,7,15,14|1|34,35,38,39
6|8,9,17,16,11|2|6,7,34,35,42
6|4,5,10,1,0|3|0,1,19,32,33
6|13,12,3,2|4|32,33,36,37
7|17,16,13,12|1|50,51,54,55
7|10,0,1,4,5|2|43,54,55,58,59
7|15,14,11,8,9|3|48,49,53,56,57
7|7,6,3,2|4|40,41,44,45
8|12,13,17,16|1|56,57,60,61
8|10,5,4,0,1|2|41,44,45,60,61
8|11,14,15,7,6|3|18,54,55,58,59
8|2,3,8,9|4|50,51,54,55
"""
_B300_LINKS = {2: "0,1,3,4,6,9,11,14,16", 1: "2,5,7,8,10,12,13,15,17"}
_B300 = """
1|2|2,10,12,6,4,14,16,8,1
1|1|3,2,4,1,7,5,6,8,10
2|2|3,20,18,7,5,24,22,9,11
2|1|9,12,14,11,13,15,16,18,20
3|2|13,26,28,17,15,30,32,19,21
3|1|19,22,24,17,23,21,26,28,30
4|2|23,36,34,27,25,40,38,29,31
4|1|25,32,34,27,29,31,36,38,40
5|2|33,42,44,37,35,46,48,39,41
5|1|35,42,44,33,39,37,46,48,50
6|2|43,52,50,47,45,56,54,49,51
6|1|41,52,54,43,45,47,56,58,60
7|2|53,58,60,57,55,62,64,59,61
7|1|51,62,64,49,55,53,66,68,70
8|2|63,68,66,67,65,72,70,69,71
8|1|57,72,65,59,61,63,67,69,71
"""

HOPPER_DEFAULTS: dict[int, tuple[int, ...]] = {
    0: (1, 2, 3, 4, 5, 6, 7, 8), 1: (1, 2, 3, 4), 2: (5, 6, 7, 8), 3: (1, 3), 4: (2, 4),
    5: (5, 7), 6: (6, 8), 7: (1,), 8: (2,), 9: (3,), 10: (4,), 11: (5,), 12: (6,), 13: (7,),
    14: (8,),
}  # fmt: skip
"""Partition id → module ids, H100 and H200."""
BLACKWELL_DEFAULTS: dict[int, tuple[int, ...]] = {
    1: (1, 2, 3, 4, 5, 6, 7, 8), 2: (1, 2, 3, 4), 3: (5, 6, 7, 8), 4: (1, 2), 5: (3, 4),
    6: (5, 6), 7: (7, 8), 8: (1,), 9: (2,), 10: (3,), 11: (4,), 12: (5,), 13: (6,), 14: (7,),
    15: (8,),
}  # fmt: skip
"""Partition id → module ids, B200 and B300."""


@dataclass(slots=True)
class SimCables:
    """Who is cabled to whom.

    Attributes:
        gpus: names, ``GPU1`` onwards.
        switches: names.
        ends: (GPU, link) → (switch, port).
        trunks: (switch, port) → (switch, port), both ways.
        spine_of: for two levels: switch that is a leaf → its spines, each with the leaf's ports.
    """

    gpus: list[str]
    switches: list[str]
    ends: dict[Port, Port] = field(default_factory=dict)
    trunks: dict[Port, Port] = field(default_factory=dict)
    spine_of: dict[str, list[tuple[str, list[int]]]] = field(default_factory=dict)

    def copy(self) -> SimCables:
        """Return cables that can be changed without changing these."""
        return SimCables(
            list(self.gpus),
            list(self.switches),
            dict(self.ends),
            dict(self.trunks),
            {leaf: list(spines) for leaf, spines in self.spine_of.items()},
        )


def hgx_cables(board: str) -> SimCables:
    """Return the cables of ``B200``, ``B300``, ``H100`` or ``H200``."""
    blackwell = board in ("B200", "B300")
    count = 2 if blackwell else 4
    cables = SimCables(
        [f"GPU{n}" for n in range(1, 9)], [f"NVSwitch{n}" for n in range(1, count + 1)]
    )
    for row in (_B300 if blackwell else _H100).split():
        gpu, *middle, switch, ports = row.split("|")
        links = _B300_LINKS[int(switch)] if blackwell else middle[0]
        for link, port in zip(links.split(","), ports.split(","), strict=True):
            cables.ends[f"GPU{gpu}", int(link)] = f"NVSwitch{switch}", int(port)
    return cables


def two_level_cables(gpus: int, rails: int, down: int, spines: int, width: int = 1) -> SimCables:
    """Make a fabric of leaves and spines.

    Args:
        gpus: how many, each with one link on every rail.
        rails: separate sets of switches.
        down: GPUs of a leaf.
        spines: of a rail.
        width: cables from each leaf to each spine.
    """
    cables = SimCables([f"GPU{n}" for n in range(1, gpus + 1)], [])
    leaves = -(-gpus // down)
    for rail in range(rails):
        tops = [f"Spine{rail}.{n}" for n in range(spines)]
        cables.switches += tops
        for number in range(leaves):
            leaf = f"Leaf{rail}.{number}"
            cables.switches.append(leaf)
            for place in range(min(down, gpus - number * down)):
                gpu = f"GPU{number * down + place + 1}"
                cables.ends[gpu, rail] = leaf, place + 1
            above = cables.spine_of.setdefault(leaf, [])
            for place, top in enumerate(tops):
                up = [down + place * width + cable + 1 for cable in range(width)]
                above.append((top, up))
                for cable, port in enumerate(up):
                    far = top, number * width + cable + 1
                    cables.trunks[leaf, port] = far
                    cables.trunks[far] = leaf, port
    return cables
