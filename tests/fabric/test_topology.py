"""Protected PCIe topology: the one genuine node passes, every other arrangement is named."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import EvidenceError, UsageError
from ccverify.fabric.topology import (
    HGX_HOPPER,
    PROTECTED_PCIE,
    GpuIdentity,
    NodeShape,
    SwitchIdentity,
    TopologyCode,
    TopologyProblem,
    appraise_protected_pcie,
)
from ccverify.trust.x509 import parse_pem_chain

Node = tuple[list[GpuIdentity], list[SwitchIdentity]]
Code = TopologyCode
ZERO = bytes(8)
STRANGER = bytes.fromhex("0123456789abcdef")


# --- the genuine node ----------------------------------------------------------------------------


def _opaque(report: bytes) -> dict[int, bytes]:
    """The opaque fields of a report, sliced by hand."""
    response = report[37:]
    at = 8 + int.from_bytes(response[5:8], "little") + 32
    size = int.from_bytes(response[at : at + 2], "little")
    data = response[at + 2 : at + 2 + size]
    assert len(response) == at + 2 + size + 96
    fields = {}
    while data:
        kind, length = (int.from_bytes(data[i : i + 2], "little") for i in (0, 2))
        fields[kind] = data[4 : 4 + length]
        data = data[4 + length :]
    return fields


def _split(data: bytes) -> list[bytes]:
    return [data[i : i + 8] for i in range(0, len(data), 8)]


def _device_id(pem: bytes, prefix: int) -> bytes:
    serial = parse_pem_chain(pem)[1].serial.to_bytes(9, "big")
    assert serial[0] == prefix
    return serial[1:]


def _read_gpu(report: bytes, pem: bytes) -> GpuIdentity:
    fields = _opaque(report)
    assert fields[21] == b"\xaa"
    return GpuIdentity(
        device_id=_device_id(pem, 0x41),
        switch_pdis=tuple(pdi[::-1] for pdi in _split(fields[22])),
        mode={0: "SPT", 1: "MPT", 2: PROTECTED_PCIE}[fields[36][0]],
        firmware=fields[6].hex(),
        driver=fields[3].rstrip(b"\0").decode(),
    )


def _read_switch(report: bytes, pem: bytes) -> SwitchIdentity:
    fields = _opaque(report)
    return SwitchIdentity(
        device_id=_device_id(pem, 0x50),
        reported_pdi=fields[22],
        gpu_pdis=tuple(_split(fields[26][:64])),
        position=int.from_bytes(fields[24], "little"),
        locked=fields[25] == b"\x01\x00",
        firmware=fields[6].decode(),
    )


@pytest.fixture(scope="module")
def node(vectors: Path) -> Node:
    """NVIDIA's sample of a complete HGX H100 node."""
    folder = vectors / "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"
    read: dict[str, list[tuple[bytes, bytes]]] = {}
    for kind in ("gpu", "switch"):
        items = json.loads((folder / f"{kind}_evidence.json").read_text())
        read[kind] = [
            (base64.b64decode(i["evidence"]), base64.b64decode(i["certificate"])) for i in items
        ]
    return [_read_gpu(*i) for i in read["gpu"]], [_read_switch(*i) for i in read["switch"]]


def test_the_genuine_node_is_one_node(node: Node) -> None:
    gpus, switches = node
    assert (len(gpus), len(switches)) == (8, 4)
    assert appraise_protected_pcie(gpus, switches) == ()


def test_nvidias_switch_sample_is_one_switch_four_times(vectors: Path, node: Node) -> None:
    """multi_switch_ls10.json of NVIDIA's SDK holds this report four times."""
    folder = vectors / "nvidia/ls10/attestation-sdk-testdata"
    report = bytes.fromhex((folder / "switchAttestationReport.txt").read_text().strip())
    switch = _read_switch(report, (folder / "switchCertChain.txt").read_bytes())
    problems = appraise_protected_pcie(node[0], [switch] * 4)
    by_code = {problem.code: problem for problem in problems}
    assert set(by_code) == {
        Code.COUNT, Code.DUPLICATE_SWITCH, Code.GPU_LIST, Code.SWITCH_LIST,
    }  # fmt: skip
    assert by_code[Code.DUPLICATE_SWITCH].found == "presented 4 times"
    assert by_code[Code.DUPLICATE_SWITCH].where == "NVSwitch 203EB31AD9ED0008"
    assert "6B811687A0A7EE7C listed 2 times" in by_code[Code.GPU_LIST].found
    assert by_code[Code.COUNT].found == "1"


# --- a made node ---------------------------------------------------------------------------------

GPU_IDS = [bytes.fromhex(f"a0000000000000{n:02x}") for n in range(8)]
SWITCH_IDS = [bytes.fromhex(f"b0000000000000{n:02x}") for n in range(4)]


def _made() -> Node:
    links = (*SWITCH_IDS, *SWITCH_IDS, ZERO, *SWITCH_IDS[:2])
    gpus = [GpuIdentity(own, links, PROTECTED_PCIE, "96.00.A5.00.01", "590.12") for own in GPU_IDS]
    switches = [
        SwitchIdentity(own, own, tuple(GPU_IDS), place, True, "96.10.73.00.01")
        for place, own in enumerate(SWITCH_IDS)
    ]
    return gpus, switches


def test_the_made_node_is_one_node() -> None:
    assert appraise_protected_pcie(*_made()) == ()


def _gpu(at: int, **changes: object) -> Callable[[Node], Node]:
    def change(node: Node) -> Node:
        gpus, switches = node
        gpus[at] = replace(gpus[at], **changes)  # type: ignore[arg-type]
        return gpus, switches

    return change


def _switch(at: int, **changes: object) -> Callable[[Node], Node]:
    def change(node: Node) -> Node:
        gpus, switches = node
        switches[at] = replace(switches[at], **changes)  # type: ignore[arg-type]
        return gpus, switches

    return change


def _swapped_reports(node: Node) -> Node:
    gpus, (first, second, *rest) = node
    swapped = [
        replace(first, reported_pdi=second.reported_pdi),
        replace(second, reported_pdi=first.reported_pdi),
    ]
    return gpus, [*swapped, *rest]


def _foreign_gpu(node: Node) -> Node:
    gpus, switches = node
    return [replace(gpus[0], device_id=STRANGER), *gpus[1:]], switches


CASES: dict[str, tuple[Callable[[Node], Node], set[TopologyCode]]] = {
    "8 copies of one GPU": (
        lambda node: ([node[0][0]] * 8, node[1]),
        {Code.DUPLICATE_GPU, Code.GPU_LIST, Code.COUNT},
    ),
    "one GPU twice, another absent": (
        lambda node: ([*node[0][:7], node[0][0]], node[1]),
        {Code.DUPLICATE_GPU, Code.GPU_LIST, Code.COUNT},
    ),
    "one GPU twice beside all": (
        lambda node: ([*node[0], node[0][0]], node[1]),
        {Code.DUPLICATE_GPU},
    ),
    "11 GPU copies and one switch": (
        lambda node: ([node[0][0]] * 11, node[1][:1]),
        {Code.DUPLICATE_GPU, Code.GPU_LIST, Code.SWITCH_LIST, Code.COUNT},
    ),
    "4 copies of one switch": (
        lambda node: (node[0], [node[1][0]] * 4),
        {Code.DUPLICATE_SWITCH, Code.SWITCH_LIST, Code.COUNT},
    ),
    "a switch twice beside all": (
        lambda node: (node[0], [*node[1], node[1][3]]),
        {Code.DUPLICATE_SWITCH},
    ),
    "missing GPU": (lambda node: (node[0][1:], node[1]), {Code.GPU_LIST, Code.COUNT}),
    "missing switch": (lambda node: (node[0], node[1][1:]), {Code.SWITCH_LIST, Code.COUNT}),
    "no devices": (lambda node: ([], []), {Code.COUNT}),
    "foreign GPU in place of one": (_foreign_gpu, {Code.GPU_LIST}),
    "foreign GPU besides": (
        lambda node: ([*node[0], replace(node[0][0], device_id=STRANGER)], node[1]),
        {Code.GPU_LIST, Code.COUNT},
    ),
    "foreign switch in place of one": (
        _switch(0, device_id=STRANGER, reported_pdi=STRANGER),
        {Code.SWITCH_LIST},
    ),
    "switches with swapped reports": (_swapped_reports, {Code.SWITCH_SELF}),
    "switch reporting a stranger": (_switch(2, reported_pdi=STRANGER), {Code.SWITCH_SELF}),
    "switch reporting zero": (
        _switch(2, reported_pdi=ZERO), {Code.SWITCH_SELF, Code.ZERO_PDI},
    ),
    "GPU certified as zero": (
        _gpu(0, device_id=ZERO), {Code.ZERO_PDI, Code.GPU_LIST, Code.COUNT},
    ),
    "zero GPU that every switch lists": (
        lambda node: (
            [replace(node[0][0], device_id=ZERO), *node[0][1:]],
            [replace(s, gpu_pdis=(ZERO, *s.gpu_pdis[1:])) for s in node[1]],
        ),
        {Code.ZERO_PDI, Code.COUNT},
    ),
    "zero in a switch's list": (
        _switch(1, gpu_pdis=(ZERO, *GPU_IDS[1:])), {Code.GPU_LIST},
    ),
    "all switch lists agree on strangers": (
        lambda node: (
            node[0], [replace(s, gpu_pdis=(STRANGER, *GPU_IDS[1:])) for s in node[1]],
        ),
        {Code.GPU_LIST},
    ),
    "a GPU listed twice": (
        _switch(1, gpu_pdis=(*GPU_IDS, GPU_IDS[0])), {Code.GPU_LIST},
    ),
    "PDI split over two entries": (
        _switch(1, gpu_pdis=(GPU_IDS[0][4:] + GPU_IDS[0][:4], *GPU_IDS[1:])), {Code.GPU_LIST},
    ),
    "reversed byte order": (
        _gpu(1, switch_pdis=tuple(own[::-1] for own in SWITCH_IDS)), {Code.SWITCH_LIST},
    ),
    "GPU without one switch": (_gpu(1, switch_pdis=tuple(SWITCH_IDS[1:])), {Code.SWITCH_LIST}),
    "GPU with every link disabled": (_gpu(1, switch_pdis=(ZERO,) * 18), {Code.SWITCH_LIST}),
    "GPU with a link elsewhere": (
        _gpu(7, switch_pdis=(*SWITCH_IDS, STRANGER)), {Code.SWITCH_LIST},
    ),
    "shared position": (_switch(1, position=0), {Code.POSITION}),
    "no position": (_switch(1, position=None), {Code.POSITION}),
    "unlocked": (_switch(3, locked=False), {Code.UNLOCKED}),
    "lock not stated": (_switch(3, locked=None), {Code.UNLOCKED}),
    "mixed modes": (_gpu(3, mode="SPT"), {Code.MIXED_MODE}),
    "one GPU without a mode": (_gpu(3, mode=None), {Code.MIXED_MODE}),
    "all single-GPU mode": (
        lambda node: ([replace(gpu, mode="SPT") for gpu in node[0]], node[1]), {Code.MODE},
    ),
    "no modes": (
        lambda node: ([replace(gpu, mode=None) for gpu in node[0]], node[1]), {Code.MODE},
    ),
    "mixed GPU firmware": (_gpu(3, firmware="96.00.9F.00.01"), {Code.MIXED_FIRMWARE}),
    "mixed switch firmware": (_switch(3, firmware="96.10.55.00.01"), {Code.MIXED_FIRMWARE}),
    "mixed drivers": (_gpu(3, driver="570.86.10"), {Code.MIXED_DRIVER}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_other_arrangement_has_its_code(case: str) -> None:
    change, expected = CASES[case]
    assert {problem.code for problem in appraise_protected_pcie(*change(_made()))} == expected


def test_every_code_has_a_case() -> None:
    assert set().union(*(codes for _, codes in CASES.values())) == set(Code)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda node: ([node[0][0]] * 8, node[1]), Code.DUPLICATE_GPU),
        (lambda node: (node[0], [node[1][0]] * 4), Code.DUPLICATE_SWITCH),
        (lambda node: ([node[0][0]] * 8, [node[1][0]] * 4), Code.COUNT),
        (lambda node: (node[0][:7], node[1]), Code.GPU_LIST),
        (lambda node: (node[0], node[1][:3]), Code.SWITCH_LIST),
        (_foreign_gpu, Code.GPU_LIST),
        (_swapped_reports, Code.SWITCH_SELF),
    ],
)
def test_the_genuine_node_rearranged(
    node: Node, change: Callable[[Node], Node], code: TopologyCode
) -> None:
    gpus, switches = change((list(node[0]), list(node[1])))
    assert code in {problem.code for problem in appraise_protected_pcie(gpus, switches)}


# --- what the texts say --------------------------------------------------------------------------


def _only(problems: Sequence[TopologyProblem], code: TopologyCode) -> list[TopologyProblem]:
    return [problem for problem in problems if problem.code is code]


def test_lists_name_the_missing_and_the_foreign() -> None:
    problems = _only(appraise_protected_pcie(*_foreign_gpu(_made())), Code.GPU_LIST)
    assert len(problems) == 4
    assert problems[0].where == "NVSwitch B000000000000000"
    assert problems[0].expected == "serves the 8 attested GPUs, each once"
    assert problems[0].found == "0123456789ABCDEF is missing, A000000000000000 did not attest"


def test_copies_are_named_once() -> None:
    gpus, switches = _made()
    problems = appraise_protected_pcie([gpus[0]] * 8, switches)
    assert _only(problems, Code.DUPLICATE_GPU) == [
        TopologyProblem(
            Code.DUPLICATE_GPU, "GPU A000000000000000", "presented once", "presented 8 times"
        )
    ]
    assert _only(problems, Code.COUNT)[0].found == "1"


def test_mixed_values_name_their_devices() -> None:
    (problem,) = appraise_protected_pcie(*_gpu(3, mode="SPT")(_made()))
    assert problem.found.endswith("; SPT on A000000000000003")
    assert problem.found.startswith("PPCIE on A000000000000000, A000000000000001")


def test_a_shared_position_names_its_switches() -> None:
    (problem,) = appraise_protected_pcie(*_switch(1, position=0)(_made()))
    assert (problem.where, problem.found) == ("position 0", "B000000000000000, B000000000000001")


def test_an_open_lock_is_told_from_one_not_stated() -> None:
    for locked, found in ((False, "unlocked"), (None, "states nothing")):
        (problem,) = appraise_protected_pcie(*_switch(3, locked=locked)(_made()))
        assert (problem.where, problem.found) == ("NVSwitch B000000000000003", found)


# --- shapes and inputs ---------------------------------------------------------------------------


def test_another_shape_can_be_asked_for() -> None:
    gpus, switches = _made()
    four = [replace(s, gpu_pdis=tuple(GPU_IDS[:4])) for s in switches]
    assert appraise_protected_pcie(gpus[:4], four, NodeShape(4, 4)) == ()
    assert {p.code for p in appraise_protected_pcie(gpus[:4], four)} == {Code.COUNT}
    assert NodeShape(8, 4) == HGX_HOPPER
    smallest = [replace(switches[0], gpu_pdis=(GPU_IDS[0],))]
    one = [replace(gpus[0], switch_pdis=(SWITCH_IDS[0],))]
    assert appraise_protected_pcie(one, smallest, NodeShape(1, 1)) == ()


@pytest.mark.parametrize("shape", [(0, 4), (8, 0), (0, 0), (-1, 4)])
def test_a_node_has_devices(shape: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="has GPUs and switches"):
        NodeShape(*shape)


@pytest.mark.parametrize("bad", [b"", b"\1" * 7, b"\1" * 9, b"a0000000000000aa"])
def test_identifiers_have_8_bytes(bad: bytes) -> None:
    gpus, switches = _made()
    for make in (
        lambda: replace(gpus[0], device_id=bad),
        lambda: replace(gpus[0], switch_pdis=(bad,)),
        lambda: replace(switches[0], device_id=bad),
        lambda: replace(switches[0], reported_pdi=bad),
        lambda: replace(switches[0], gpu_pdis=(bad,)),
    ):
        with pytest.raises(EvidenceError, match="wrong length"):
            make()


# --- properties ----------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_order_of_devices_changes_nothing(data: st.DataObject) -> None:
    change, _ = CASES[data.draw(st.sampled_from(sorted(CASES)))]
    gpus, switches = change(_made())
    shuffled = data.draw(st.permutations(gpus)), data.draw(st.permutations(switches))
    assert appraise_protected_pcie(*shuffled) == appraise_protected_pcie(gpus, switches)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_order_of_entries_changes_nothing(data: st.DataObject) -> None:
    gpus, switches = _made()
    gpus = [replace(g, switch_pdis=tuple(data.draw(st.permutations(g.switch_pdis)))) for g in gpus]
    switches = [
        replace(s, gpu_pdis=tuple(data.draw(st.permutations(s.gpu_pdis)))) for s in switches
    ]
    assert appraise_protected_pcie(gpus, switches) == ()


@given(st.data(), st.binary(min_size=8, max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_single_changed_identity_is_found(data: st.DataObject, pdi: bytes) -> None:
    """Certified or reported; of links, of which there are several, all that lead to one switch."""
    gpus, switches = _made()
    kind = data.draw(st.sampled_from(["gpu", "switch", "self", "gpu list", "switch list"]))
    at = data.draw(st.integers(0, 3 if kind in ("switch", "self", "gpu list") else 7))
    if kind == "gpu":
        old, gpus[at] = gpus[at].device_id, replace(gpus[at], device_id=pdi)
    elif kind == "switch":
        old, switches[at] = switches[at].device_id, replace(switches[at], device_id=pdi)
    elif kind == "self":
        old, switches[at] = switches[at].reported_pdi, replace(switches[at], reported_pdi=pdi)
    elif kind == "gpu list":
        entries = list(switches[at].gpu_pdis)
        slot = data.draw(st.integers(0, 7))
        old, entries[slot] = entries[slot], pdi
        switches[at] = replace(switches[at], gpu_pdis=tuple(entries))
    else:
        old = data.draw(st.sampled_from(SWITCH_IDS))
        links = tuple(pdi if own == old else own for own in gpus[at].switch_pdis)
        gpus[at] = replace(gpus[at], switch_pdis=links)
    assert (appraise_protected_pcie(gpus, switches) == ()) == (pdi == old)


_PDIS = st.sampled_from([*GPU_IDS[:3], *SWITCH_IDS[:3], STRANGER, ZERO])


@given(
    st.lists(
        st.builds(
            GpuIdentity,
            _PDIS,
            st.lists(_PDIS, max_size=5).map(tuple),
            st.sampled_from([None, "PPCIE", "SPT"]),
            st.sampled_from("ab"),
            st.sampled_from("ab"),
        ),
        max_size=4,
    ),
    st.lists(
        st.builds(
            SwitchIdentity,
            _PDIS,
            _PDIS,
            st.lists(_PDIS, max_size=5).map(tuple),
            st.sampled_from([None, 0, 1]),
            st.sampled_from([None, True, False]),
            st.sampled_from("ab"),
        ),
        max_size=3,
    ),
)
@settings(max_examples=200, deadline=None)
def test_no_devices_make_it_raise(gpus: list[GpuIdentity], switches: list[SwitchIdentity]) -> None:
    """Four or fewer GPUs are never the node that was asked for."""
    problems = appraise_protected_pcie(gpus, switches)
    assert Code.COUNT in {problem.code for problem in problems}
    assert len(set(problems)) == len(problems)
