"""Tenants of one fabric: what they have in common is found, and nothing is proven by a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statement_support import board, parts, statement

from ccverify.fabric.statement import FabricStatement
from ccverify.fabric.tenants import (
    Separation,
    Subject,
    Tenant,
    TenantCode,
    TenantComparison,
    compare_tenants,
    switch_guids,
)

CLUSTER, OTHER, ZERO = "c1" * 16, "c2" * 16, "00" * 16


def tenant(name: str, modules: Sequence[int] | None, *, cluster: str = CLUSTER) -> Tenant:
    """A tenant of one board: the identities of his GPUs follow from their modules."""
    listed = tuple(modules or ())
    number = min(listed, default=0)
    return Tenant(
        name,
        frozenset(f"{module:016X}" for module in listed),
        None if modules is None else frozenset(listed),
        frozenset({(cluster, number)}),
    )


ANN, BOB = tenant("ann", (1, 2, 3, 4)), tenant("bob", (5, 6, 7, 8))
WELL = statement()


def codes(found: TenantComparison) -> set[TenantCode]:
    return {overlap.code for overlap in found.overlaps}


def subjects(found: TenantComparison) -> set[Subject]:
    return {gap.subject for gap in found.gaps}


# --- apart ----------------------------------------------------------------------------------------


def test_two_tenants_of_one_board_are_apart() -> None:
    found = compare_tenants([ANN, BOB], [WELL])
    assert (found.overlaps, found.gaps, found.others) == ((), (), ())
    assert found.separation is Separation.DISJOINT
    assert sorted(found.partitions) == ["ann", "bob"]


def test_nothing_is_proven_without_a_statement() -> None:
    found = compare_tenants([ANN, BOB])
    assert found.separation is Separation.UNKNOWN
    assert subjects(found) == {Subject.ROUTES}


# --- in common ------------------------------------------------------------------------------------


def test_one_gpu_of_two_tenants() -> None:
    thief = replace(BOB, gpus=frozenset({*sorted(BOB.gpus)[1:], min(ANN.gpus)}))
    found = compare_tenants([ANN, thief], [WELL])
    (overlap,) = found.overlaps
    assert (overlap.code, overlap.tenants) == (TenantCode.GPU, ("ann", "bob"))
    assert overlap.where == f"GPU {min(ANN.gpus)}"
    assert found.separation is Separation.OVERLAP


def test_one_module_of_two_tenants() -> None:
    found = compare_tenants([ANN, tenant("bob", (4, 5, 6, 7))], [WELL])
    assert [o.where for o in found.overlaps if o.code is TenantCode.MODULE] == ["module 4"]
    assert TenantCode.PARTITION in codes(found)  # an active partition has GPUs of both
    assert Subject.PARTITIONS in subjects(found)  # and bob has none of his own


def test_one_clique_of_two_tenants() -> None:
    joined = replace(BOB, cliques=ANN.cliques)
    found = compare_tenants([ANN, joined], [WELL])
    (overlap,) = found.overlaps
    assert overlap.code is TenantCode.PARTITION
    assert overlap.where == f"clique 1 of cluster {CLUSTER}"


def test_clique_numbers_without_a_cluster_mean_nothing() -> None:
    ann, bob = (replace(each, cliques=frozenset({(ZERO, 0)})) for each in (ANN, BOB))
    assert compare_tenants([ann, bob], [WELL]).separation is Separation.DISJOINT


def test_one_active_partition_of_two_tenants() -> None:
    small = [tenant("ann", (1, 2)), tenant("bob", (3, 4))]
    found = compare_tenants(small, [WELL])
    assert found.separation is Separation.OVERLAP
    where = {(o.code, o.where) for o in found.overlaps}
    assert (TenantCode.PARTITION, "partition 2") in where
    assert TenantCode.ROUTE in codes(found)


def leaking() -> FabricStatement:
    fabric = board()
    fabric.leak_route(("GPU5", 0), ("GPU1", 0))
    return statement(items=parts(fabric))


def test_a_leak_between_tenants_is_told_hop_by_hop() -> None:
    found = compare_tenants([ANN, BOB], [leaking()])
    assert codes(found) == {TenantCode.ROUTE}
    ways = {o.where: o for o in found.overlaps}
    assert [tuple(port) for port in ways["GPU5 → GPU1"].path] == [
        ("GPU5", 0), ("NVSwitch2", 33), ("NVSwitch2", 2), ("GPU1", 0),
    ]  # fmt: skip
    assert set(ways["GPU5 → GPU1"].tenants) == {"ann", "bob"}


def test_a_leak_to_somebody_else_is_not_between_these() -> None:
    found = compare_tenants([ANN, tenant("bob", (5,)), tenant("eve", (6,))], [leaking()])
    assert not [o for o in found.overlaps if "eve" in o.tenants and "ann" in o.tenants]


def test_without_keys_nobody_is_apart() -> None:
    found = compare_tenants([ANN, BOB], [statement(items=parts(nvlsm_pkeys=None))])
    assert TenantCode.ROUTE in codes(found)
    assert found.separation is Separation.OVERLAP


def test_a_tenant_may_be_called_as_a_partition_is() -> None:
    odd = [replace(ANN, name="partition-3"), replace(BOB, name="partition-2")]
    found = compare_tenants(odd, [leaking()])
    assert {name for overlap in found.overlaps for name in overlap.tenants} == {
        "partition-2", "partition-3",
    }  # fmt: skip
    assert compare_tenants(odd, [WELL]).separation is Separation.DISJOINT


# --- gaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bob", "subject"),
    [
        (replace(BOB, gpus=frozenset()), Subject.GPUS),
        (replace(BOB, modules=None), Subject.MODULES),
        (replace(BOB, modules=frozenset({5, 6, 7})), Subject.MODULES),
        (replace(BOB, problems=("it is broken",)), Subject.EVIDENCE),
        (tenant("bob", (5, 6)), Subject.PARTITIONS),
        (replace(BOB, cliques=frozenset({(OTHER, 2)})), Subject.FABRIC),
        (replace(BOB, cliques=frozenset({(OTHER, 2), (CLUSTER, 9)})), Subject.FABRIC),
    ],
)
def test_what_is_not_known_is_not_proven(bob: Tenant, subject: Subject) -> None:
    found = compare_tenants([ANN, bob], [WELL])
    assert found.separation is Separation.UNKNOWN
    assert subject in subjects(found)


def test_modules_of_different_fabrics_are_different_modules() -> None:
    far = tenant("far", (1, 2, 3, 4), cluster=OTHER)
    far = replace(far, gpus=frozenset(f"F{gpu[1:]}" for gpu in far.gpus))
    found = compare_tenants([ANN, far], [WELL])
    assert found.overlaps == ()
    assert Subject.FABRIC in subjects(found)


@pytest.mark.parametrize("label", ["nvlsm-lfts", "nvlsm-mcfdbs", "fm-partitions", "nvlsm-subnet"])
def test_a_statement_that_lacks_something_proves_nothing(label: str) -> None:
    items = {name: data for name, data in parts().items() if name != label}
    found = compare_tenants([ANN, BOB], [statement(items=items)])
    assert found.separation is Separation.UNKNOWN


def test_statements_of_different_switches_are_of_different_fabrics() -> None:
    guid = min(switch_guids(WELL))
    own, others = f"{guid:016x}".encode(), f"{guid ^ 0xFF0000000000:016x}".encode()
    items = {label: data.replace(own, others) for label, data in parts().items()}
    found = compare_tenants([ANN, BOB], [statement(items=items), WELL])
    assert Subject.FABRIC in subjects(found)
    assert compare_tenants([ANN, BOB], [WELL, WELL]).separation is Separation.DISJOINT


# --- any tenants ----------------------------------------------------------------------------------

MODULES = st.frozensets(st.integers(1, 8), max_size=8)
TENANTS = st.lists(
    st.builds(
        Tenant,
        st.just(""),
        st.frozensets(st.sampled_from(["A", "B", "C", "D"])),
        st.none() | MODULES,
        st.frozensets(st.tuples(st.sampled_from([CLUSTER, OTHER, ZERO]), st.integers(0, 2)),
                      max_size=2),
    ),
    max_size=4,
).map(lambda made: [replace(one, name=f"t{n}") for n, one in enumerate(made)])  # fmt: skip
STATEMENTS: dict[str, tuple[FabricStatement, ...]] = {
    "none": (), "well": (WELL,), "leaking": (leaking(),), "both": (leaking(), WELL),
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TENANTS, st.sampled_from(sorted(STATEMENTS)))
def test_any_tenants(tenants: list[Tenant], stated: str) -> None:
    statements = STATEMENTS[stated]
    found = compare_tenants(tenants, statements)
    told = {(o.code, pair) for o in found.overlaps for pair in combinations(sorted(o.tenants), 2)}
    fabrics = {uuid for one in tenants for uuid in one.clusters}
    for one, other in combinations(tenants, 2):
        pair = one.name, other.name
        assert ((TenantCode.GPU, pair) in told) == bool(one.gpus & other.gpus)
        joined = {c for c in one.cliques & other.cliques if c[0] != ZERO}
        assert (TenantCode.PARTITION, pair) in told or not joined
        shared = bool((one.modules or frozenset()) & (other.modules or frozenset()))
        if len(fabrics) < 2:
            assert ((TenantCode.MODULE, pair) in told) == shared
    if found.separation is Separation.DISJOINT:
        assert statements
        assert all(one.modules and one.gpus for one in tenants)
        assert sorted(found.partitions) == sorted(one.name for one in tenants)


@settings(max_examples=30, deadline=None)
@given(TENANTS, st.randoms())
def test_the_order_of_tenants_has_no_part_in_the_answer(tenants, random) -> None:  # type: ignore[no-untyped-def]
    other = list(tenants)
    random.shuffle(other)
    first, second = (compare_tenants(each, [WELL]) for each in (tenants, other))
    assert first == second
