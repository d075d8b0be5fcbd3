"""Link maps: what the guide prints, what a subnet manager finds, and which is which."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_support import read_links

from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap import (
    Link,
    LinkMap,
    MapSource,
    Node,
    NodeKind,
    PortId,
    bind_guids,
    link_differences,
    peers,
    port_text,
)
from ccverify.fabric.linkmap_dump import identify_nodes, parse_subnet_list, rename_nodes
from ccverify.fabric.linkmap_hgx import (
    DEFAULT_PARTITIONS_BLACKWELL,
    DEFAULT_PARTITIONS_HOPPER,
    HGX_B200,
    HGX_B300,
    HGX_H100,
    LINKS_PER_GPU,
)
from ccverify.sim.fabric import SimFabric, SimTenant
from ccverify.sim.fabric_dumps import subnet_list
from ccverify.sim.fabric_maps import BLACKWELL_DEFAULTS, HOPPER_DEFAULTS, hgx_cables


@pytest.mark.parametrize("links", [HGX_B200, HGX_B300, HGX_H100], ids=lambda one: one.name)
def test_published_maps_have_eighteen_links_of_eight_gpus(links: LinkMap) -> None:
    far = peers(links)
    gpus = links.of_kind(NodeKind.GPU)
    assert [gpu.name for gpu in gpus] == [f"GPU{n}" for n in range(1, 9)]
    for gpu in gpus:
        assert {p.port for p in far if p.node == gpu.name} == set(range(LINKS_PER_GPU))
    assert links.source is MapSource.PUBLISHED


def test_links_over_the_switches_are_as_the_guide_says() -> None:
    def shares(links: LinkMap, gpu: str) -> list[int]:
        counted = Counter(far.node for port, far in peers(links).items() if port.node == gpu)
        return [counted[name] for name in sorted(counted)]

    assert all(shares(HGX_B300, f"GPU{n}") == [9, 9] for n in range(1, 9))
    assert all(shares(HGX_H100, f"GPU{n}") == [4, 5, 5, 4] for n in range(1, 9))


@pytest.mark.parametrize(
    ("links", "board"), [(HGX_B200, "B200"), (HGX_B300, "B300"), (HGX_H100, "H100")]
)
def test_two_transcriptions_agree(links: LinkMap, board: str) -> None:
    ends = hgx_cables(board).ends
    assert {tuple(a): tuple(b) for a, b in links.links} == ends


def test_default_partitions_of_two_transcriptions_agree() -> None:
    for ours, theirs in (
        (DEFAULT_PARTITIONS_BLACKWELL, BLACKWELL_DEFAULTS),
        (DEFAULT_PARTITIONS_HOPPER, HOPPER_DEFAULTS),
    ):
        assert ours == {n: tuple(f"GPU{m}" for m in own) for n, own in theirs.items()}


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_discovered_nodes_are_identified_by_their_cables(chance: object) -> None:
    fabric = SimFabric.hgx("B300", [SimTenant("a", (1, 2))])
    lines = subnet_list(fabric).splitlines()
    chance.shuffle(lines)  # type: ignore[attr-defined]
    found = parse_subnet_list(b"\n".join(lines)).links
    assert identify_nodes(found, HGX_B300) == fabric.names()
    assert list(link_differences(rename_nodes(found, fabric.names()), HGX_B300)) == []


def test_a_swapped_cable_does_not_hide_who_is_who() -> None:
    fabric = SimFabric.hgx("B300", [SimTenant("a", (1, 2))])
    fabric.swap_cables(("GPU1", 0), ("GPU2", 0))
    found = parse_subnet_list(subnet_list(fabric)).links
    assert identify_nodes(found, HGX_B300) == fabric.names()


def test_another_baseboard_is_refused() -> None:
    found = read_links(SimFabric.hgx("B300", [SimTenant("a", (1, 2))]))
    with pytest.raises(EvidenceError, match="not an HGX H100"):
        identify_nodes(found, HGX_H100)


def test_a_missing_cable_is_a_difference() -> None:
    fewer = replace(HGX_B300, links=HGX_B300.links[1:])
    gone = HGX_B300.links[0].b
    assert list(link_differences(fewer, HGX_B300)) == [(gone, "GPU1", "nothing")]
    assert list(link_differences(HGX_B300, fewer)) == [(gone, "nothing", "GPU1")]


def test_ports_are_named_for_people() -> None:
    assert port_text(PortId("GPU3", 0), NodeKind.GPU) == "GPU3 link 0"
    assert port_text(PortId("NVSwitch1", 22), NodeKind.SWITCH) == "NVSwitch1 port 22"


GPU, SWITCH = Node("GPU1", NodeKind.GPU, 1), Node("S", NodeKind.SWITCH, 2)
CABLE = Link(PortId("GPU1", 0), PortId("S", 1))


@pytest.mark.parametrize(
    ("nodes", "links"),
    [
        ((GPU, GPU), ()),
        ((GPU, replace(SWITCH, guid=1)), ()),
        ((GPU, replace(SWITCH, port_guids=((1, 1),))), ()),
        ((GPU,), (CABLE,)),
        ((GPU, SWITCH), (CABLE, Link(PortId("GPU1", 1), PortId("S", 1)))),
        ((GPU, SWITCH), (Link(PortId("GPU1", 0), PortId("S", 255)),)),
        (tuple(Node(f"n{n}", NodeKind.OTHER) for n in range(4097)), ()),
    ],
)
def test_maps_that_contradict_themselves_are_refused(
    nodes: tuple[Node, ...], links: tuple[Link, ...]
) -> None:
    with pytest.raises(EvidenceError):
        LinkMap("x", MapSource.SYNTHETIC, nodes, links)


def test_binding_needs_every_guid() -> None:
    guids = {node.name: n for n, node in enumerate(HGX_B300.nodes)}
    bound = bind_guids(HGX_B300, guids, {"GPU1": {0: 100}})
    assert {node.name: node.guid for node in bound.nodes} == guids
    assert bound.nodes[0].port_guids == ((0, 100),)
    guids.pop("GPU3")
    with pytest.raises(EvidenceError, match="contradicts") as error:
        bind_guids(HGX_B300, guids)
    assert "GPU3" in (error.value.found or "")
