"""Which partition is the tenant's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statement_support import parts, statement, table

from ccverify.fabric.observation import Absent
from ccverify.fabric.partition_table import PartitionEntry, PartitionTable, serialize_fmpm_list
from ccverify.fabric.statement_join import PartitionMatch, join_partition
from ccverify.fabric.statement_model import FabricStatement, StatementGap, StatementProblem

MODULES = st.frozensets(st.integers(0, 9), max_size=8)


def _stated(live: PartitionTable) -> FabricStatement:
    return replace(statement(items={}), partitions=live)


def _codes(match: PartitionMatch) -> list[str]:
    return [one.code.value for one in match.judged]


@pytest.mark.parametrize(
    ("modules", "number"), [({1, 2, 3, 4}, 2), ({5, 6, 7, 8}, 3), ({1, 2, 3, 4} | {5, 6, 7, 8}, 1)]
)
def test_exactly_one_partition_is_the_tenants(modules: set[int], number: int) -> None:
    live = table(1) if number == 1 else table(2, 3)
    match = join_partition(_stated(live), frozenset(modules))
    assert match == PartitionMatch(live.entry(number))


def test_a_tenant_of_one_gpu() -> None:
    live = table(2, 12)
    assert join_partition(_stated(live), frozenset({5})) == PartitionMatch(live.entry(12))


def test_a_partition_that_is_defined_and_inactive() -> None:
    match = join_partition(_stated(table(2)), frozenset({5, 6, 7, 8}))
    assert match.entry == table().entry(3)
    (problem,) = match.judged
    assert isinstance(problem, StatementProblem)
    assert (problem.code.value, problem.where) == ("FABRIC-PARTITION-ACTIVE", "partition 3")
    assert problem.found == "partition 3 is defined and inactive"


def test_an_active_partition_comes_before_an_equal_one() -> None:
    pair = frozenset({1, 2})
    entries = (PartitionEntry(1, False, pair), PartitionEntry(9, True, pair))
    match = join_partition(_stated(PartitionTable(entries)), pair)
    assert match == PartitionMatch(entries[1])


def test_gpus_that_are_in_a_partition_with_others() -> None:
    """The tenant's own partition is inactive: his GPUs are in a larger one that is active."""
    match = join_partition(_stated(table(1)), frozenset({1, 2, 3, 4}))
    assert _codes(match) == ["FABRIC-PARTITION-ACTIVE", "FABRIC-MODULES"]
    assert match.entry == table().entry(2)
    last = match.judged[-1]
    assert isinstance(last, StatementProblem)
    assert last.where == "partition 1"
    # Both active is for the table itself to explain, and still not the tenant's alone.
    match = join_partition(_stated(table(1, 2)), frozenset({1, 2, 3, 4}))
    assert _codes(match) == ["FABRIC-MODULES"]


@pytest.mark.parametrize(
    ("modules", "nearest", "found"),
    [
        ({1, 2, 3}, 2, "nearest is partition 2 (active), which has 4 too"),
        ({1, 2, 3, 4, 5}, 2, "nearest is partition 2 (active), which lacks 5"),
        ({1, 2, 3, 5}, 2, "nearest is partition 2 (active), which has 4 too, which lacks 5"),
        ({5, 6, 7}, 3, "nearest is partition 3 (inactive), which has 8 too"),
    ],
)
def test_no_partition_of_these_gpus(modules: set[int], nearest: int, found: str) -> None:
    match = join_partition(_stated(table(2)), frozenset(modules))
    assert (match.entry, match.nearest) == (None, table(2).entry(nearest))
    problem = match.judged[0]
    assert isinstance(problem, StatementProblem)
    assert (problem.code.value, problem.found) == ("FABRIC-MODULES", found)
    assert problem.expected.endswith(", ".join(map(str, sorted(modules))))


@pytest.mark.parametrize(
    ("modules", "moved"), [({0, 1, 2, 3}, "1, 2, 3, 4"), ({6, 7, 8, 9}, "5, 6, 7, 8")]
)
def test_ids_that_count_from_another_number_are_told_and_no_match(
    modules: set[int], moved: str
) -> None:
    match = join_partition(_stated(table(2, 3)), frozenset(modules))
    assert match.entry is None
    problem = match.judged[0]
    assert isinstance(problem, StatementProblem)
    assert f"{moved} would be one: the driver may count from another number" in problem.found


def test_a_table_without_partitions() -> None:
    match = join_partition(_stated(PartitionTable(())), frozenset({1}))
    assert (match.entry, match.nearest, _codes(match)) == (None, None, ["FABRIC-MODULES"])


@pytest.mark.parametrize("modules", [None, Absent("NVML_ERROR_NOT_SUPPORTED"), frozenset()])
def test_modules_that_are_not_known(modules: frozenset[int] | Absent | None) -> None:
    match = join_partition(_stated(table(2)), modules)
    assert _codes(match) == ["FABRIC-PARTITION-ACTIVE", "FABRIC-MODULES"]
    assert all(isinstance(one, StatementGap) for one in match.judged)
    reason = match.judged[0]
    assert isinstance(reason, StatementGap)
    assert ("NVML_ERROR_NOT_SUPPORTED" in reason.reason) == isinstance(modules, Absent)


def test_a_statement_without_a_table() -> None:
    match = join_partition(statement(items=parts(fm_partitions=None)), frozenset({1}))
    assert {type(one) for one in match.judged} == {StatementGap}
    assert match.entry is None


@given(MODULES, st.frozensets(st.sampled_from(range(1, 16)), max_size=4))
def test_only_an_equal_set_is_a_match(modules: frozenset[int], active: frozenset[int]) -> None:
    live = table(*active)
    match = join_partition(_stated(live), modules)
    assert (match.entry is not None) == (
        bool(modules) and any(entry.modules == modules for entry in live.entries)
    )
    if match.entry is not None:
        assert match.entry.modules == modules
        clean = match.entry.active and not any(
            entry.modules & modules and entry.modules != modules
            for entry in live.active
            if entry.modules - modules
        )
        assert (match.judged == ()) == clean
    else:
        assert match.judged


def test_the_join_reads_what_fmpm_prints() -> None:
    stated = statement(items=parts(fm_partitions=serialize_fmpm_list(table(2, 3))))
    assert join_partition(stated, frozenset({1, 2, 3, 4})).judged == ()
