"""The simulated fabric is consistent, and each of its faults changes one thing only."""

from __future__ import annotations

from collections import Counter

import pytest

from ccverify.sim.fabric import SimFabric, SimTenant, default_tenants
from ccverify.sim.fabric_dumps import (
    address_dump,
    key_dump,
    linear_dump,
    multicast_dump,
    partition_configuration,
    subnet_list,
    unicast_dump,
)
from ccverify.sim.fabric_maps import BLACKWELL_DEFAULTS, HOPPER_DEFAULTS, two_level_cables

DUMPS = (
    address_dump, key_dump, linear_dump, multicast_dump, partition_configuration, subnet_list,
    unicast_dump,
)  # fmt: skip
HALVES = [SimTenant("a", (1, 2, 3, 4)), SimTenant("b", (5, 6, 7, 8))]


@pytest.mark.parametrize("table", [BLACKWELL_DEFAULTS, HOPPER_DEFAULTS])
def test_default_partitions_are_fifteen_of_1_2_4_and_8(table: dict[int, tuple[int, ...]]) -> None:
    assert Counter(map(len, table.values())) == {8: 1, 4: 2, 2: 4, 1: 8}
    for size in (1, 2, 4, 8):
        members = [gpu for own in table.values() if len(own) == size for gpu in own]
        assert sorted(members) == list(range(1, 9))


@pytest.mark.parametrize("board", ["B200", "B300", "H100", "H200"])
def test_every_link_is_routed_to_from_its_own_switch(board: str) -> None:
    fabric = SimFabric.hgx(board, HALVES)
    assert len(set(fabric.lids.values())) == 144
    for end, (switch, port) in fabric.cables.ends.items():
        assert fabric.tables[switch][fabric.lids[end]] == port
        assert fabric.keys[end] == fabric.keys[switch, port]


def test_tenants_have_keys_and_groups_of_their_own() -> None:
    fabric = SimFabric.hgx("B300", [*HALVES[:1], SimTenant("c", (6,), key=0x77)])
    assert fabric.keys_of == {"a": 0x100, "c": 0x77}
    assert fabric.keys["GPU6", 0] == [0x7FFF, 0x8077]
    assert fabric.keys["GPU8", 0] == [0x7FFF]
    assert {lid for groups in fabric.groups.values() for lid in groups} == {0xC000}
    assert len(fabric.groups["NVSwitch1"][0xC000]) == 36


def test_two_levels_have_trunks_both_ways() -> None:
    cables = two_level_cables(gpus=10, rails=2, down=4, spines=3, width=2)
    assert len(cables.ends) == 20
    assert len(cables.switches) == 2 * (3 + 3)
    assert len(cables.trunks) == 2 * 2 * 3 * 3 * 2
    assert all(cables.trunks[there] == here for here, there in cables.trunks.items())
    assert not set(cables.ends.values()) & cables.trunks.keys()


def test_the_same_fabric_has_the_same_dumps() -> None:
    one, two = (SimFabric.hgx("B300", HALVES) for _ in range(2))
    assert [dump(one) for dump in DUMPS] == [dump(two) for dump in DUMPS]


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        (lambda f: f.leak_route(("GPU5", 0), ("GPU1", 0)), {"key_dump"}),
        (lambda f: f.expose(("GPU1", 0), "b"), {"key_dump"}),
        (lambda f: f.wrong_key("GPU2"), {"key_dump"}),
        (lambda f: f.limited_key("GPU2"), {"key_dump"}),
        (lambda f: f.black_hole(("GPU3", 4)), {"unicast_dump", "linear_dump"}),
        (lambda f: f.drop_entry(("GPU3", 4)), {"unicast_dump", "linear_dump"}),
        (lambda f: f.wrong_rail(("GPU1", 0), ("GPU1", 1)), {"unicast_dump", "linear_dump"}),
        (lambda f: f.swap_ports(("GPU1", 0), ("GPU2", 0)), {"unicast_dump", "linear_dump"}),
        (lambda f: f.swap_cables(("GPU1", 0), ("GPU2", 0)), {"subnet_list"}),
        (lambda f: f.leak_multicast(0xC000, ("GPU5", 0)), {"multicast_dump"}),
        (lambda f: f.split_multicast(0xC000, "NVSwitch2", 2), {"multicast_dump"}),
    ],
)
def test_a_fault_changes_what_it_should_and_nothing_else(fault: object, changed: set[str]) -> None:
    clean, broken = (SimFabric.hgx("B300", HALVES) for _ in range(2))
    fault(broken)  # type: ignore[operator]
    assert {dump.__name__ for dump in DUMPS if dump(clean) != dump(broken)} == changed


def test_defaults_by_id() -> None:
    assert default_tenants("H100", [3]) == [SimTenant("partition-3", (1, 3))]
    assert default_tenants("B300", [4]) == [SimTenant("partition-4", (1, 2))]
