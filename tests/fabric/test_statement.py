"""Reading a statement: what its dumps mean together, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_support import read_links, read_state
from statement_support import (
    FACTS,
    NVLSM_CONFIG,
    board,
    codes,
    dumps,
    parts,
    program,
    sources,
    statement,
    table,
)

from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap import LinkMap, NodeKind
from ccverify.fabric.linkmap_dump import parse_subnet_list
from ccverify.fabric.linkmap_hgx import HGX_B300, HGX_H100
from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM, serialize_manager
from ccverify.fabric.partition_table import serialize_fmpm_list
from ccverify.fabric.routing import routing_digest
from ccverify.fabric.routing_findings import FabricPartition, RouteCode
from ccverify.fabric.statement import evaluate_statement, partition_name, read_statement
from ccverify.fabric.statement_model import (
    DUMP_LABELS,
    HGX_BLACKWELL,
    HGX_HOPPER,
    FabricStatement,
    Generation,
    StatementCode,
)
from ccverify.sim.fabric import SimFabric, default_tenants
from ccverify.sim.fabric_dumps import (
    key_dump,
    linear_dump,
    partition_configuration,
    subnet_list,
    unicast_dump,
)

BARE = {"fabric-manager": serialize_manager(FACTS)}


def _gaps(stated: FabricStatement) -> set[str]:
    assert all(gap.code is StatementCode.ROUTING for gap in stated.gaps)
    return {gap.where for gap in stated.gaps}


def _found(stated: FabricStatement) -> dict[str, StatementCode]:
    return {problem.where: problem.code for problem in stated.problems}


# --- everything there ----------------------------------------------------------------------------


def test_a_whole_statement() -> None:
    fabric = board()
    stated = statement()
    assert (stated.problems, stated.gaps) == ((), ())
    assert (stated.board, stated.published) == (HGX_BLACKWELL, HGX_B300)
    assert stated.generation is Generation.BLACKWELL
    assert stated.links == read_links(fabric)
    assert stated.routing == read_state(fabric, linear=True)
    assert stated.routing is not None
    assert stated.routing_digest == routing_digest(stated.routing)
    assert stated.keys_from == "nvlsm-pkeys"
    assert stated.config is not None
    assert stated.nvlsm_config is not None
    assert stated.partitions == table(2, 3)
    assert stated.definitions is None
    assert set(stated.digests) == {"fabric-manager", *parts()}
    assert all(len(one) == 96 for one in stated.digests.values())


def test_every_partition_in_use_is_closed() -> None:
    evaluation = evaluate_statement(statement())
    assert evaluation is not None
    assert evaluation.findings == ()
    names = [partition_name(entry) for entry in table(2, 3).active]
    assert names == ["partition-2", "partition-3"]
    assert all(evaluation.is_closed(name) for name in names)
    assert ("GPU1", "GPU4") in evaluation.reachable
    assert ("GPU1", "GPU5") not in evaluation.reachable


@given(st.permutations(DUMP_LABELS), st.binary(max_size=4))
@settings(max_examples=10)
def test_the_order_of_items_and_other_labels_do_not_matter(order: list[str], data: bytes) -> None:
    items = parts()
    shuffled = {label: items[label] for label in order if label in items}
    shuffled["tdx-quote"] = data
    assert statement(items={**shuffled}) == statement(items=items)


def test_hopper_is_known_by_its_cables() -> None:
    fabric = SimFabric.hgx("H100", default_tenants("H100", [1, 2]))
    stated = statement(items=parts(fabric, nvlsm_config=None))
    assert (stated.problems, stated.board, stated.published) == ((), HGX_HOPPER, HGX_H100)
    assert stated.generation is Generation.HOPPER


# --- facts ---------------------------------------------------------------------------------------


def test_facts_are_all_that_is_needed() -> None:
    stated = read_statement(BARE)
    assert stated.facts == FACTS
    assert stated.problems == ()
    assert _gaps(stated) == {"nvlsm-subnet", "nvlsm-lfts"}
    assert (stated.config, stated.partitions, stated.links, stated.routing) == (None,) * 4
    assert (stated.board, stated.generation, stated.managers) == (None, None, frozenset())
    assert evaluate_statement(stated) is None


@pytest.mark.parametrize("items", [{}, parts(), {"fabric-manager": b"{}"}])
def test_without_facts_there_is_no_statement(items: dict[str, bytes]) -> None:
    with pytest.raises(EvidenceError):
        read_statement(items)


# --- dumps that are bad --------------------------------------------------------------------------


@pytest.mark.parametrize("label", [label for label in DUMP_LABELS if label != "fm-state"])
def test_an_unreadable_dump_is_a_problem_and_no_error(label: str) -> None:
    items = {**parts(), "nvlsm-partitions-conf": partition_configuration(board())}
    items["fm-partition-definitions"] = b'{"partitionInfo":[]}'
    stated = statement(items={**items, label: b"\0" + b"[" * 9})
    assert _found(stated)[label] is StatementCode.STATEMENT
    assert codes(list(stated.problems)) in (
        ["FABRIC-STATEMENT"],
        ["FABRIC-ROUTING", "FABRIC-STATEMENT"],
    )
    assert label not in _gaps(stated)
    evaluate_statement(stated)


@given(st.sampled_from(DUMP_LABELS), st.binary(max_size=60), st.integers(0, 1 << 16))
@settings(max_examples=60)
def test_no_dump_makes_an_error(label: str, junk: bytes, at: int) -> None:
    items = parts()
    data = items.get(label, b"")
    at %= len(data) + 1
    stated = statement(items={**items, label: data[:at] + junk + data[at + len(junk) :]})
    evaluate_statement(stated)
    assert label in stated.digests


def test_an_item_is_the_file_that_the_facts_say() -> None:
    items = parts()
    facts = replace(FACTS, sources=sources(items))
    other = statement(facts, {**items, "fm-state": b"State"})
    assert _found(other) == {"fm-state": StatementCode.STATEMENT}
    longer = replace(facts.source("fm-state") or facts.sources[0], size=6)
    kept = tuple(one for one in facts.sources if one.label != "fm-state")
    stated = statement(replace(facts, sources=(*kept, longer)), items)
    assert _found(stated) == {"fm-state": StatementCode.STATEMENT}
    assert "6 bytes" in stated.problems[0].expected
    assert "5 bytes" in stated.problems[0].found
    # Of an item that the facts say nothing of nothing can be compared.
    assert statement(replace(facts, sources=kept), items).problems == ()


def test_absent_tables_are_gaps() -> None:
    names = {"nvlsm_lfts": None, "nvlsm_mcfdbs": None, "nvlsm_pkeys": None}
    stated = statement(items=parts(**names))
    assert _gaps(stated) == {"nvlsm-lfts", "nvlsm-mcfdbs", "nvlsm-pkeys"}
    assert stated.problems == ()
    assert stated.routing is not None
    assert (stated.routing.multicast, stated.routing.keys) == ((), None)
    evaluation = evaluate_statement(stated)
    assert evaluation is not None
    assert RouteCode.LEAK in {finding.code for finding in evaluation.findings}


def test_without_any_forwarding_table_there_is_no_routing() -> None:
    stated = statement(items=parts(nvlsm_lfts=None, nvlsm_fdbs=None))
    assert _gaps(stated) == {"nvlsm-lfts"}
    assert (stated.routing, stated.routing_digest, stated.keys_from) == (None, None, None)
    assert evaluate_statement(stated) is None


def test_lids_are_taken_from_the_list_of_links() -> None:
    stated = statement(items=parts(nvlsm_guid2lid=None))
    assert stated == replace(statement(), digests=stated.digests, facts=stated.facts)


def test_tables_that_contradict_themselves_are_no_routing() -> None:
    twice = dumps()["nvlsm-guid2lid"] + b"0x00000000000000ff 0x0001 0x0001\n"
    stated = statement(items=parts(nvlsm_guid2lid=twice))
    assert _found(stated) == {"tables": StatementCode.ROUTING}
    assert stated.routing is None


# --- two dumps of one thing ----------------------------------------------------------------------


def test_linear_tables_may_have_more() -> None:
    fabric = board()
    fabric.tables["NVSwitch1"][400] = 3  # a LID that nobody owns
    items = parts(nvlsm_lfts=linear_dump(fabric))
    stated = statement(items=items)
    assert stated.problems == ()
    assert stated.routing == read_state(fabric, linear=True)


@pytest.mark.parametrize("at", [0, 1, -1])
def test_linear_tables_must_have_every_route(at: int) -> None:
    fabric = board()
    lid = sorted(fabric.tables["NVSwitch2"])[at]
    del fabric.tables["NVSwitch2"][lid]
    stated = statement(items=parts(nvlsm_lfts=linear_dump(fabric)))
    (problem,) = stated.problems
    assert problem.code is StatementCode.ROUTING
    assert f"0x{lid:04X}" in problem.expected
    assert problem.found == "no port in nvlsm-lfts; LIDs that differ: 1"


def test_one_route_in_two_ways_is_told_with_both_ports() -> None:
    fabric = board()
    fabric.swap_ports(("GPU1", 0), ("GPU2", 0))
    stated = statement(items=parts(nvlsm_fdbs=unicast_dump(fabric)))
    (problem,) = stated.problems
    assert problem.code is StatementCode.ROUTING
    assert problem.expected.endswith("as nvlsm-fdbs has it")
    assert "LIDs that differ: 2" in problem.found
    # The linear tables count.
    assert stated.routing == statement().routing


def test_a_switch_in_one_of_two_dumps() -> None:
    head, mark, tail = unicast_dump(board()).partition(b"dump_ucast_routes: Switch ")
    one = mark + tail.partition(mark)[0]
    assert head == b""
    (problem,) = statement(items=parts(nvlsm_fdbs=one)).problems
    assert (problem.code, problem.found) == (StatementCode.ROUTING, "none in nvlsm-fdbs")
    lines = linear_dump(board())
    (problem,) = statement(items=parts(nvlsm_lfts=lines[lines.index(b"Unicast", 1) :])).problems
    assert (problem.code, problem.found) == (StatementCode.ROUTING, "none in nvlsm-lfts")


def test_lids_of_two_dumps_agree() -> None:
    rows = dumps()["nvlsm-guid2lid"].split(b"\n\n")
    guid = rows[0].split()[0].decode()
    rows[0] = f"{guid} 0x0fff 0x0fff".encode()
    stated = statement(items=parts(nvlsm_guid2lid=b"\n\n".join(rows)))
    (problem,) = stated.problems
    assert (problem.code, problem.where) == (StatementCode.ROUTING, f"GUID {guid}")
    assert "0x0FFF" in problem.found


# --- keys ----------------------------------------------------------------------------------------


def test_keys_that_were_only_wanted() -> None:
    fabric = board()
    wanted = partition_configuration(fabric)
    items = {**parts(fabric, nvlsm_pkeys=None), "nvlsm-partitions-conf": wanted}
    stated = statement(items=items)
    assert stated.keys_from == "nvlsm-partitions-conf"
    assert _gaps(stated) == {"nvlsm-pkeys"}
    evaluation = evaluate_statement(stated)
    assert evaluation is not None
    assert evaluation.findings == ()


def test_keys_in_force_come_first() -> None:
    fabric = board()
    fabric.leak_route(("GPU5", 0), ("GPU1", 0))
    wanted = partition_configuration(fabric)
    items = {**parts(nvlsm_pkeys=key_dump(fabric)), "nvlsm-partitions-conf": wanted}
    evaluation = evaluate_statement(statement(items=items))
    assert evaluation is not None
    assert RouteCode.LEAK in {finding.code for finding in evaluation.findings}
    # Unreadable ones are not replaced by wanted ones.
    stated = statement(items={**items, "nvlsm-pkeys": b"?"})
    assert stated.keys_from is None
    assert stated.routing is not None
    assert stated.routing.keys is None


def test_wanted_keys_need_links() -> None:
    wanted = partition_configuration(board())
    items = {**parts(nvlsm_pkeys=None, nvlsm_subnet=None), "nvlsm-partitions-conf": wanted}
    stated = statement(items=items)
    assert stated.keys_from is None
    assert _gaps(stated) == {"nvlsm-pkeys", "nvlsm-subnet"}


# --- boards --------------------------------------------------------------------------------------


def test_cables_of_no_board() -> None:
    fabric = board()
    fabric.cables = fabric.cables.copy()
    # Every second link leads to the port of another link: neither board fits.
    ends = {}
    ports = sorted(set(fabric.cables.ends.values()))
    for at, end in enumerate(sorted(fabric.cables.ends)):
        ends[end] = ports[at]
    fabric.cables.ends = ends
    stated = statement(items=parts(nvlsm_subnet=subnet_list(fabric)))
    assert stated.board is None
    assert _found(stated)["nvlsm-subnet"] is StatementCode.ROUTING
    assert evaluate_statement(stated) is None


def test_a_number_of_switches_that_no_board_has() -> None:
    fabric = SimFabric.two_level([], gpus=4, rails=1, down=2, spines=1)
    stated = statement(items=parts(nvlsm_subnet=subnet_list(fabric)))
    assert len(fabric.cables.switches) == 3
    assert stated.board is None
    assert _found(stated)["nvlsm-subnet"] is StatementCode.ROUTING
    assert stated.links is not None


def test_two_cables_that_are_swapped_are_a_finding_of_the_evaluation() -> None:
    fabric = board()
    fabric.swap_cables(("GPU1", 0), ("GPU2", 0))
    stated = statement(items=parts(fabric))
    assert stated.board == HGX_BLACKWELL
    evaluation = evaluate_statement(stated)
    assert evaluation is not None
    assert RouteCode.LINK in {finding.code for finding in evaluation.findings}


def test_a_published_map_that_is_bound() -> None:
    fabric = board()
    guids = {name: int(guid, 16) for guid, name in fabric.names().items()}
    ports = {
        gpu: {link: fabric.port_guid(gpu, link) for link in range(18)} for gpu in fabric.cables.gpus
    }
    items = parts(nvlsm_subnet=None)
    whole = {"fabric-manager": serialize_manager(FACTS), **items}
    stated = read_statement(whole, guids=guids, port_guids=ports)
    assert _gaps(stated) == {"nvlsm-subnet"}
    assert "taken to be" in stated.gaps[0].reason
    assert stated.board == HGX_BLACKWELL
    evaluation = evaluate_statement(stated)
    assert evaluation is not None
    assert evaluation.findings == ()
    del guids["GPU3"]
    stated = read_statement(whole, guids=guids)
    assert _found(stated) == {"GUIDs": StatementCode.ROUTING}
    assert (stated.links, stated.board) == (None, None)
    hopper = read_statement(whole, guids={node.name: n for n, node in enumerate(HGX_H100.nodes)})
    assert hopper.board == HGX_HOPPER
    # A list of links comes first.
    listed = {**whole, "nvlsm-subnet": dumps()["nvlsm-subnet"]}
    assert read_statement(listed, guids=guids).gaps == ()


# --- the manager's own port ----------------------------------------------------------------------

BRIDGE = 0x7425540300353DE9


def _with_bridge(fabric: SimFabric, switch_port: int = 74) -> bytes:
    """A list of links with a bridge that the subnet manager speaks from."""
    switch = fabric.node_guid("NVSwitch1")
    side = (
        "{{ {} Ports:02 SystemGUID:{:016x} NodeGUID:{:016x} PortGUID:{:016x} VenID:0002C9"
        " DevID:1021 Rev:00000000 {{bridge}} LID:{:04X} PN:{:02X} }}"
    )
    near = side.format("CA", BRIDGE, BRIDGE, BRIDGE, 0x0BFF, 1)
    far = side.format("SW", switch, switch, switch, fabric.switch_lids["NVSwitch1"], switch_port)
    return subnet_list(fabric) + f"{near} {far} PHY=4x LOG=ACT SPD=25\n".encode()


@pytest.mark.parametrize("way", ["command line", "equals", "nvlsm.conf", "fabricmanager.cfg"])
def test_the_managers_port_is_known_by_its_guid(way: str) -> None:
    items = parts(nvlsm_subnet=_with_bridge(board()))
    facts = FACTS
    if way == "command line":
        process = replace(FACTS.programs[1].process, arguments=("nvlsm", "-g", f"{BRIDGE:#x}"))
        facts = replace(
            FACTS, programs=(FACTS.programs[0], replace(FACTS.programs[1], process=process))
        )
    elif way == "equals":
        process = replace(
            FACTS.programs[0].process, arguments=("fm", "--fm-sm-mgmt-port-guid", f"{BRIDGE:x}")
        )
        facts = replace(FACTS, programs=(program(FABRIC_MANAGER, process=process),))
    elif way == "nvlsm.conf":
        items["nvlsm-config"] = NVLSM_CONFIG.replace("0x0", f"{BRIDGE:#x}").encode()
    else:
        items["fm-config"] += f"FM_SM_MGMT_PORT_GUID={BRIDGE:#x}\n".encode()
    stated = statement(facts, items)
    assert stated.managers == {f"0x{BRIDGE:016x}"}
    evaluation = evaluate_statement(stated)
    assert evaluation is not None
    assert evaluation.findings == ()


def test_the_command_line_comes_before_the_files() -> None:
    items = parts(nvlsm_subnet=_with_bridge(board()))
    items["nvlsm-config"] = NVLSM_CONFIG.replace("0x0", f"{BRIDGE:#x}").encode()
    process = replace(FACTS.programs[1].process, arguments=("nvlsm", "-g", "0x1"))
    facts = replace(FACTS, programs=(FACTS.programs[0], program(NVLSM, process=process)))
    assert statement(facts, items).managers == frozenset()


def test_a_bridge_that_nobody_names_is_a_stranger() -> None:
    stated = statement(items=parts(nvlsm_subnet=_with_bridge(board())))
    assert stated.managers == frozenset()
    evaluation = evaluate_statement(stated)
    assert evaluation is not None
    assert RouteCode.LINK in {finding.code for finding in evaluation.findings}


def test_a_manager_in_place_of_a_gpu_is_told() -> None:
    """Its cables are excused only at ports for which the published map has none."""
    fabric = board()
    far = fabric.cables.ends[("GPU8", 2)]
    assert far[0] == "NVSwitch1"
    listed = _with_bridge(fabric, far[1])
    gpu = f"PortGUID:{fabric.port_guid('GPU8', 2):016x}".encode()
    listed = b"\n".join(line for line in listed.split(b"\n") if gpu not in line)
    items = parts(nvlsm_subnet=listed)
    items["nvlsm-config"] = NVLSM_CONFIG.replace("0x0", f"{BRIDGE:#x}").encode()
    stated = statement(items=items)
    assert stated.managers == {f"0x{BRIDGE:016x}"}
    evaluation = evaluate_statement(stated)
    assert evaluation is not None
    (wrong,) = (one for one in evaluation.findings if one.code is RouteCode.LINK)
    assert wrong.where == f"NVSwitch1 port {far[1]}"


def test_a_gpu_is_never_a_manager() -> None:
    guid = board().node_guid("GPU5")
    config = NVLSM_CONFIG.replace("0x0", f"{guid:#x}")
    stated = statement(items=parts(nvlsm_config=config))
    assert stated.managers == frozenset()
    found = parse_subnet_list(dumps()["nvlsm-subnet"]).links
    assert isinstance(found, LinkMap)
    assert guid in {node.guid for node in found.of_kind(NodeKind.OTHER)}


# --- evaluation ----------------------------------------------------------------------------------


def test_only_active_partitions_count() -> None:
    # Keys are those of partitions 2 and 3; the table says that 3 is inactive.
    stated = statement(items=parts(fm_partitions=serialize_fmpm_list(table(2))))
    evaluation = evaluate_statement(stated)
    assert evaluation is not None
    assert evaluation.is_closed("partition-2")
    assert ("GPU5", "GPU6") in evaluation.reachable  # outside, and not judged
    fabric = board()
    fabric.leak_route(("GPU5", 0), ("GPU1", 0))
    items = parts(fabric, fm_partitions=serialize_fmpm_list(table(2)))
    evaluation = evaluate_statement(statement(items=items))
    assert evaluation is not None
    leaks = [one for one in evaluation.findings if one.code is RouteCode.LEAK]
    assert leaks
    assert not evaluation.is_closed("partition-2")


def test_partitions_of_the_caller() -> None:
    stated = statement()
    own = FabricPartition("mine", frozenset({"GPU1", "GPU2", "GPU3", "GPU4"}))
    evaluation = evaluate_statement(stated, [own])
    assert evaluation is not None
    assert evaluation.findings == ()
    assert evaluation.is_closed("mine")
    other = FabricPartition("mine", frozenset({"GPU1", "GPU5"}))
    evaluation = evaluate_statement(stated, [other])
    assert evaluation is not None
    assert RouteCode.OVERLAP in {finding.code for finding in evaluation.findings}


def test_an_evaluation_needs_the_live_table() -> None:
    assert evaluate_statement(statement(items=parts(fm_partitions=None))) is None
