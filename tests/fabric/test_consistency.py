"""An observation against itself and signed evidence: each rule, held and broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.fabric.consistency import HGX_LINKS, appraise_consistency
from ccverify.fabric.consistency_model import (
    NOT_STATED,
    AttestedGpu,
    ByteOrder,
    FabricCode,
    FabricConsistency,
    GpuMatch,
)
from ccverify.fabric.nvml_values import HEALTH_FIELDS
from ccverify.fabric.observation import (
    Absent,
    Clique,
    ConfidentialComputing,
    FabricInfo,
    FabricObservation,
    GpuObservation,
    NvLink,
)
from ccverify.fabric.registration import health_problems, health_stated

MISSING = Absent("NVML_ERROR_NOT_SUPPORTED")
NVML_MODES = {"SPT": 0, "PPCIE": 1, "MPT": 2, NOT_STATED: 0}
GOOD_MASK = 2 | 2 << 2 | 2 << 4 | 2 << 6 | 1 << 8 | 1 << 12 | 1 << 14
CODES = st.sampled_from(sorted(FabricCode, key=lambda code: code.value))


def pdi(number: int) -> bytes:
    return bytes((0x5B, 5, 0x91, 0x80, 0x3D, 0x12, 0x7D, number + 1))


def links(count: int, state: Any = 1) -> tuple[NvLink, ...]:
    return tuple(NvLink(n, state, 7, 2, MISSING, MISSING) for n in range(count))


def registration(**changes: Any) -> FabricInfo:
    info = FabricInfo(3, 3, 0, "ab" * 16, (Clique(MISSING, 4),), GOOD_MASK, 1)
    return replace(info, **changes)


def gpu(number: int, **changes: Any) -> GpuObservation:
    one = GpuObservation(
        index=number,
        uuid=f"GPU-{number}",
        architecture=10,
        pci_bus_id=f"00000000:{number:02X}:00.0",
        serial="1654024074915",
        pdi=pdi(number).hex(),
        module=number + 1,
        vbios="97.00.E4.00.01",
        platform=MISSING,
        fabric=registration(),
        encrypted=1,
        firmware=(),
        links=links(HGX_LINKS),
    )
    return replace(one, **changes)


def attested(number: int, mode: str = "MPT", **changes: Any) -> AttestedGpu:
    one = AttestedGpu(
        f"gpu-{number}", pdi(number), mode, "BLACKWELL-GB100", "595.58.03", "97.00.e4.00.01",
        f"GPU-{number}",
    )  # fmt: skip
    return replace(one, **changes)


def observed(count: int = 4, mode: str = "MPT", *, feature: Any = 1) -> FabricObservation:
    settings = ConfidentialComputing(2, feature, 0, NVML_MODES[mode], 2, 1, 1)
    gpus = tuple(gpu(number) for number in range(count))
    return FabricObservation("595.58.03", "13.595.58.03", settings, gpus, ())


def signed(count: int = 4, mode: str = "MPT") -> list[AttestedGpu]:
    return [attested(number, mode) for number in range(count)]


def changed(number: int = 1, **changes: Any) -> FabricObservation:
    """Four good GPUs, one of them changed."""
    seen = observed()
    gpus = list(seen.gpus)
    gpus[number] = replace(gpus[number], **changes)
    return replace(seen, gpus=tuple(gpus))


def codes(found: FabricConsistency) -> set[str]:
    return {each.code.name for each in found.problems}


def gaps(found: FabricConsistency) -> set[str]:
    return {each.code.name for each in found.gaps}


# --- agreement -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("mode", ["MPT", "PPCIE", "SPT", NOT_STATED])
def test_an_honest_machine_has_no_problem(count: int, mode: str) -> None:
    found = appraise_consistency(observed(count, mode), signed(count, mode))
    assert found.problems == ()
    assert found.order is ByteOrder.CERTIFICATE
    assert found.matches == tuple(GpuMatch(f"gpu-{n}", n) for n in range(count))
    assert gaps(found) == ({"MODE_AGREES"} if mode == NOT_STATED else set())
    assert found.shared is (mode in ("MPT", "PPCIE") or (mode == NOT_STATED and count > 1))


def test_either_byte_order_is_accepted_and_told() -> None:
    seen = observed()
    turned = tuple(replace(one, pdi=pdi(one.index)[::-1].hex()) for one in seen.gpus)
    found = appraise_consistency(replace(seen, gpus=turned), signed())
    assert (found.problems, found.gaps, found.order) == ((), (), ByteOrder.REVERSED)


# --- contradictions ------------------------------------------------------------------------------

Change = Callable[[], tuple[FabricObservation, list[AttestedGpu]]]


def seen_by(observation: FabricObservation) -> Change:
    return lambda: (observation, signed())


def health(**values: int) -> int:
    """The good mask with fields replaced, by name with ``_`` for ``-``."""
    mask = GOOD_MASK
    for field in HEALTH_FIELDS:
        if (value := values.get(field.name.replace("-", "_"))) is not None:
            mask &= ~(((1 << field.bits) - 1) << field.shift)
            mask |= value << field.shift
    return mask


def sick(mask: int) -> FabricObservation:
    return changed(fabric=registration(health_mask=mask))


CONTRADICTIONS: dict[str, tuple[Change, set[str]]] = {
    "one PDI in the other byte order": (
        seen_by(changed(pdi=pdi(1)[::-1].hex())), {"IDENTITY", "UNATTESTED", "UNSEEN"}
    ),
    "UUIDs of two GPUs swapped": (
        seen_by(replace(observed(), gpus=(gpu(0, uuid="GPU-1"), gpu(1, uuid="GPU-0"), gpu(2),
                                          gpu(3)))), {"IDENTITY"}
    ),
    "another GPU under the UUID": (
        seen_by(changed(pdi="11" * 8)), {"IDENTITY", "UNATTESTED", "UNSEEN"}
    ),
    "another GPU under another UUID": (
        seen_by(changed(pdi="11" * 8, uuid="GPU-9")), {"UNATTESTED", "UNSEEN"}
    ),
    "a GPU that did not attest": (lambda: (observed(4), signed(3)), {"UNATTESTED"}),
    "a GPU that attested elsewhere": (lambda: (observed(3), signed(4)), {"UNSEEN"}),
    "no GPU seen": (lambda: (observed(0), signed(2)), {"UNSEEN"}),
    "no GPU attested": (lambda: (observed(2), []), {"UNATTESTED"}),
    "a GPU seen twice": (
        seen_by(changed(pdi=pdi(0).hex())), {"IDENTITY", "UNSEEN", "DISTINCT"}
    ),
    "a UUID twice": (seen_by(changed(uuid="GPU-0")), {"IDENTITY", "DISTINCT"}),
    "one UUID beside two reports": (
        lambda: (observed(2), [attested(0), attested(1, uuid="GPU-0")]),
        {"IDENTITY"},
    ),
    "a PCI address twice": (seen_by(changed(pci_bus_id="00000000:00:00.0")), {"DISTINCT"}),
    "a module id twice": (seen_by(changed(module=1)), {"MODULE"}),
    "another driver": (seen_by(replace(observed(), driver="580.10")), {"VERSIONS"}),
    "another VBIOS": (seen_by(changed(vbios="97.00.E4.00.02")), {"VERSIONS"}),
    "another architecture": (seen_by(changed(architecture=9)), {"VERSIONS"}),
    "signed MPT, driver in none": (lambda: (observed(mode="SPT"), signed()), {"MODE_AGREES"}),
    "signed MPT, driver in PPCIE": (lambda: (observed(mode="PPCIE"), signed()), {"MODE_AGREES"}),
    "signed SPT, driver in MPT": (
        lambda: (observed(mode="MPT"), signed(mode="SPT")), {"MODE_AGREES"}
    ),
    "modes mixed": (
        lambda: (observed(), [*signed(3), attested(3, "SPT")]), {"MODE_AGREES"}
    ),
    "confidential computing off": (seen_by(observed(feature=0)), {"MODE_AGREES"}),
    "two cliques": (
        seen_by(changed(fabric=registration(cliques=(Clique(MISSING, 5),)))), {"CLIQUE"}
    ),
    "no clique": (seen_by(changed(fabric=registration(cliques=()))), {"CLIQUE"}),
    "two clusters": (seen_by(changed(fabric=registration(cluster_uuid="cd" * 16))), {"CLIQUE"}),
    "in progress": (seen_by(changed(fabric=registration(state=2))), {"STATE"}),
    "not started": (seen_by(changed(fabric=registration(state=1))), {"STATE"}),
    "completed with an error": (seen_by(changed(fabric=registration(status=999))), {"STATE"}),
    "a state of tomorrow": (seen_by(changed(fabric=registration(state=9))), {"STATE"}),
    "a link down": (seen_by(changed(links=(*links(17), *links(1, 0)))), {"LINKS"}),
    "traffic disabled": (seen_by(changed(links=links(18, 3))), {"LINKS"}),
    "no links": (seen_by(changed(links=())), {"LINKS"}),
    "plain NVLinks": (seen_by(changed(encrypted=0)), {"NVLE"}),
    "summary unhealthy": (seen_by(changed(fabric=registration(health_summary=2))), {"HEALTH"}),
    "summary limited": (seen_by(changed(fabric=registration(health_summary=3))), {"HEALTH"}),
    "degraded": (seen_by(sick(health(degraded_bandwidth=1))), {"HEALTH"}),
    "bad route": (seen_by(sick(health(route_unhealthy=1))), {"HEALTH"}),
    "recovering": (seen_by(sick(health(route_recovery=1))), {"HEALTH"}),
    "timeout": (seen_by(sick(health(access_timeout_recovery=1))), {"HEALTH"}),
    "no partition": (seen_by(sick(health(incorrect_configuration=4))), {"HEALTH"}),
    "not assigned": (seen_by(sick(health(partition_assigned=2))), {"HEALTH"}),
    "manager gone": (seen_by(sick(health(fabric_manager=2))), {"HEALTH"}),
    "a health of tomorrow": (seen_by(sick(health(incorrect_configuration=15))), {"HEALTH"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_each_contradiction_is_told_by_its_own_code(name: str) -> None:
    make, expected = CONTRADICTIONS[name]
    found = appraise_consistency(*make())
    assert codes(found) == expected
    for problem in found.problems:
        assert problem.where
        assert problem.expected != problem.found
        assert found.problems_of(problem.code)


def test_every_rule_is_broken_by_a_contradiction() -> None:
    told = set().union(*(expected for _, expected in CONTRADICTIONS.values()))
    assert told == {code.name for code in FabricCode}


# --- what cannot be told -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pdi": MISSING}, {"IDENTITY", "UNATTESTED", "UNSEEN"}),
        ({"pdi": "00" * 8}, {"IDENTITY", "UNATTESTED", "UNSEEN"}),
        ({"module": MISSING}, {"MODULE"}),
        ({"fabric": MISSING}, {"CLIQUE", "STATE", "HEALTH"}),
        ({"fabric": registration(health_mask=0, health_summary=0)}, {"HEALTH"}),
        ({"fabric": registration(health_mask=MISSING, health_summary=MISSING)}, {"HEALTH"}),
        ({"encrypted": MISSING}, {"NVLE"}),
        ({"links": MISSING}, {"LINKS"}),
        ({"links": links(18, MISSING)}, {"LINKS"}),
        ({"vbios": MISSING, "uuid": MISSING}, set()),
    ],
)
def test_silence_is_a_gap_and_no_contradiction(changes: dict[str, Any], expected: set[str]) -> None:
    found = appraise_consistency(changed(**changes), signed())
    assert found.problems == ()
    assert gaps(found) == expected
    for gap in found.gaps:
        assert gap.reason
        assert found.gaps_of(gap.code)


def test_a_driver_without_modes_or_versions() -> None:
    seen = observed()
    silent = replace(
        seen,
        driver=MISSING,
        confidential_computing=replace(seen.confidential_computing, multi_gpu_mode=MISSING),
        gpus=tuple(replace(one, vbios=MISSING, architecture=MISSING) for one in seen.gpus),
    )
    found = appraise_consistency(silent, signed())
    assert (found.problems, gaps(found)) == ((), {"MODE_AGREES", "VERSIONS"})


def test_more_gpus_without_identity_than_attested_are_too_many() -> None:
    seen = observed(5)
    nameless = replace(seen, gpus=tuple(replace(one, pdi=MISSING) for one in seen.gpus))
    found = appraise_consistency(nameless, signed(4))
    assert codes(found) == {"UNATTESTED"}
    found = appraise_consistency(replace(nameless, gpus=nameless.gpus[:3]), signed(4))
    assert codes(found) == {"UNSEEN"}


# --- links and partitions ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["PPCIE", "MPT", "SPT", NOT_STATED])
@pytest.mark.parametrize("up", [0, 4, 17, 18])
def test_how_many_links_there_must_be(mode: str, up: int) -> None:
    """18 where the mode tells of an HGX board; the same on all, and some, where it does not."""
    seen = observed(2, mode)
    seen = replace(seen, gpus=tuple(replace(one, links=links(up)) for one in seen.gpus))
    found = appraise_consistency(seen, signed(2, mode))
    wrong = {"PPCIE": up != 18, "MPT": up != 18, "SPT": False, NOT_STATED: up == 0}[mode]
    assert codes(found) == ({"LINKS"} if wrong else set())
    assert codes(appraise_consistency(seen, signed(2, mode), up)) == set()
    assert codes(appraise_consistency(seen, signed(2, mode), up + 1)) == {"LINKS"}


def test_a_single_gpu_shares_no_fabric() -> None:
    alone = gpu(0, fabric=registration(state=1), links=(), encrypted=0)
    seen = replace(observed(1, "SPT"), gpus=(alone,))
    found = appraise_consistency(seen, signed(1, "SPT"))
    assert (found.problems, found.shared) == ((), False)
    # Multi-GPU mode promises a fabric, however many GPUs there are.
    found = appraise_consistency(
        replace(seen, confidential_computing=observed().confidential_computing), signed(1)
    )
    assert {"STATE", "NVLE", "LINKS"} == codes(found)


# --- properties ----------------------------------------------------------------------------------


def _value(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.just(MISSING) | inner


REGISTRATIONS = st.builds(
    registration,
    state=st.integers(0, 255),
    status=st.sampled_from([0, 1, 999]),
    cluster_uuid=st.sampled_from(["00" * 16, "ab" * 16]),
    cliques=st.lists(
        st.builds(Clique, _value(st.integers(0, 3)), st.integers(0, 3)), max_size=3
    ).map(tuple),
    health_mask=_value(st.integers(0, 0xFFFFFFFF)),
    health_summary=_value(st.integers(0, 255)),
)


@st.composite
def _observations(draw: st.DrawFn) -> FabricObservation:
    count = draw(st.integers(0, 5))
    gpus = tuple(
        gpu(
            number,
            uuid=draw(_value(st.sampled_from(["GPU-0", "GPU-1", "GPU-7"]))),
            pdi=draw(_value(st.sampled_from([bytes(8), pdi(0), pdi(1), pdi(1)[::-1], b"x" * 8])
                            .map(bytes.hex))),
            module=draw(_value(st.integers(0, 3))),
            architecture=draw(_value(st.integers(0, 20))),
            vbios=draw(_value(st.sampled_from(["97.00.E4.00.01", "x"]))),
            fabric=draw(_value(REGISTRATIONS)),
            encrypted=draw(_value(st.integers(0, 2))),
            links=draw(_value(st.builds(links, st.integers(0, 20), _value(st.integers(0, 4))))),
        )
        for number in range(count)
    )  # fmt: skip
    return replace(observed(0), gpus=gpus, driver=draw(_value(st.just("595.58.03"))))


ATTESTED = st.lists(
    st.builds(
        attested,
        st.integers(0, 3),
        st.sampled_from(["MPT", "SPT", "PPCIE", NOT_STATED]),
        uuid=st.sampled_from([None, "GPU-0", "GPU-1"]),
    ),
    max_size=4,
    unique_by=lambda one: one.subject,
)


@settings(max_examples=80, deadline=None)
@given(_observations(), ATTESTED, st.none() | st.integers(0, 20), st.randoms())
def test_any_observation_is_appraised_the_same_in_any_order(
    seen: FabricObservation, gpus: list[AttestedGpu], active: int | None, random: Any
) -> None:
    found = appraise_consistency(seen, gpus, active)
    shuffled, others = list(seen.gpus), list(gpus)
    random.shuffle(shuffled)
    random.shuffle(others)
    again = appraise_consistency(replace(seen, gpus=tuple(shuffled)), others, active)
    assert codes(again) == codes(found)
    assert gaps(again) == gaps(found)
    assert set(again.matches) == set(found.matches)
    # Whoever is matched was certified, and nobody is matched with another's identity.
    certified = {one.subject: one.device_id for one in gpus}
    for match in found.matches:
        own = next(one for one in seen.gpus if one.index == match.index)
        assert not isinstance(own.pdi, Absent)
        raw = bytes.fromhex(own.pdi)
        assert certified[match.subject] == (
            raw if found.order is ByteOrder.CERTIFICATE else raw[::-1]
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 0xFFFF), st.integers(0, 3))
def test_health_is_good_only_where_every_field_is(mask: int, summary: int) -> None:
    info = registration(health_mask=mask, health_summary=summary)
    good = {2: "degraded-bandwidth route-recovery route-unhealthy access-timeout-recovery",
            1: "incorrect-configuration partition-assigned fabric-manager"}  # fmt: skip
    bad = summary > 1
    for field in HEALTH_FIELDS:
        value = mask >> field.shift & (1 << field.bits) - 1
        bad |= not (value == 0 or (value in good and field.name in good[value].split()))
    assert bool(health_problems(info)) is bad
    assert health_stated(info) is bool(summary or mask)
