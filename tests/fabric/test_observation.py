"""The model of a fabric observation: what it holds comes back, and nothing else is read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_places import places_of

from ccverify.errors import EvidenceError
from ccverify.fabric.nvml_values import HEALTH_FIELDS, decode_health_mask, named
from ccverify.fabric.observation import (
    FORMAT,
    Absent,
    Clique,
    ConfidentialComputing,
    FabricInfo,
    FabricObservation,
    GpuObservation,
    NvLink,
    NvLinkFirmware,
    PeerAccess,
    PlatformInfo,
    parse_observation,
    serialize_observation,
)

U8, U32 = st.integers(0, 255), st.integers(0, (1 << 32) - 1)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=128)
ABSENT = st.builds(Absent, st.from_regex(r"[A-Z][A-Z0-9_]{0,40}", fullmatch=True))


def _hex(octets: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=octets, max_size=octets).map(bytes.hex)


def _maybe(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return inner | ABSENT


def _tuples(inner: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=most).map(tuple)


NUMBER, WORDS = _maybe(U32), _maybe(TEXT)
CONFIDENTIAL = st.builds(
    ConfidentialComputing, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER
)
FABRIC = st.builds(
    FabricInfo,
    U8,
    U8,
    U32,
    _hex(16),
    _tuples(st.builds(Clique, _maybe(U8), U32)),
    NUMBER,
    _maybe(U8),
)
PLATFORM = st.builds(PlatformInfo, _hex(16), _hex(16), U8, U8, U8, U8, U8)
LINKS = st.lists(
    st.builds(NvLink, U8, NUMBER, NUMBER, NUMBER, WORDS, NUMBER),
    max_size=3,
    unique_by=lambda link: link.index,
).map(tuple)
GPU = st.builds(
    GpuObservation,
    index=U8,
    uuid=WORDS,
    architecture=NUMBER,
    pci_bus_id=WORDS,
    serial=WORDS,
    pdi=_maybe(_hex(8)),
    module=NUMBER,
    vbios=WORDS,
    platform=_maybe(PLATFORM),
    fabric=_maybe(FABRIC),
    encrypted=NUMBER,
    firmware=_maybe(_tuples(st.builds(NvLinkFirmware, U8, U32, U32, U32))),
    links=_maybe(LINKS),
)


@st.composite
def observations(draw: st.DrawFn) -> FabricObservation:
    gpus = draw(st.lists(GPU, max_size=3, unique_by=lambda gpu: gpu.index))
    pairs = [(one.index, other.index) for one in gpus for other in gpus if one is not other]
    peers = tuple(
        PeerAccess(*pair, *(draw(NUMBER) for _ in range(5)))
        for pair in pairs
        if draw(st.booleans())
    )
    return FabricObservation(draw(WORDS), draw(WORDS), draw(CONFIDENTIAL), tuple(gpus), peers)


NOT_SUPPORTED = Absent("NVML_ERROR_NOT_SUPPORTED")
GPU_0 = GpuObservation(
    index=0,
    uuid="GPU-1",
    architecture=10,
    pci_bus_id="00000000:01:00.0",
    serial="165",
    pdi="00" * 8,
    module=1,
    vbios="97.00.88.00.0F",
    platform=PlatformInfo("00" * 16, "11" * 16, 1, 2, 3, 4, 5),
    fabric=FabricInfo(4, 3, 0, "ab" * 16, (Clique(0, 7),), 0x51AA, 1),
    encrypted=1,
    firmware=(NvLinkFirmware(1, 2, 3, 4),),
    links=(NvLink(0, 1, 7, 2, "00000000:80:00.0", NOT_SUPPORTED),),
)
NUMBERS = ConfidentialComputing(2, 1, 0, 2, 2, 1, NOT_SUPPORTED)
SAMPLE = FabricObservation(
    driver="595.58.03",
    nvml="13.595.58.03",
    confidential_computing=NUMBERS,
    gpus=(GPU_0, replace(GPU_0, index=1, links=NOT_SUPPORTED, fabric=NOT_SUPPORTED)),
    peers=(PeerAccess(0, 1, 0, 0, 0, 5, 50),),
)


def _document() -> Any:
    return json.loads(serialize_observation(SAMPLE))


def _refused(document: Any) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        parse_observation(json.dumps(document).encode())
    return caught.value


@given(observations())
def test_what_is_written_is_read(observation: FabricObservation) -> None:
    data = serialize_observation(observation)
    assert parse_observation(data) == observation
    assert serialize_observation(parse_observation(data)) == data


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_any_json_is_read_or_refused(document: Any) -> None:
    if isinstance(document, dict):
        document = {**document, "format": FORMAT}
    _refused(document)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_observation(data)


@given(st.data())
def test_any_value_in_place_of_another(data: st.DataObject) -> None:
    document = _document()
    place, container = data.draw(st.sampled_from(list(places_of(document))))
    junk = st.none() | st.booleans() | st.integers() | st.text() | st.just([]) | st.just({})
    container[place] = data.draw(junk)
    try:
        read = parse_observation(json.dumps(document).encode())
    except EvidenceError:
        return
    # What is still read is what is written again: nothing was coerced on the way.
    assert json.loads(serialize_observation(read)) == document


def test_a_member_too_many_or_too_few_is_refused_everywhere() -> None:
    objects = [()] + [
        path for path in _object_paths(_document(), ()) if "absent" not in _at(_document(), path)
    ]
    assert len(objects) > 8
    for path in objects:
        document = _document()
        _at(document, path)["surprise"] = 1
        assert "surprise" in (_refused(document).found or "")
        document = _document()
        container = _at(document, path)
        container.pop(next(name for name in container if name != "format"))
        _refused(document)


def _object_paths(value: Any, path: tuple[Any, ...]) -> Any:
    for key in value if isinstance(value, dict) else range(len(value)):
        if isinstance(value[key], dict):
            yield (*path, key)
        if isinstance(value[key], dict | list):
            yield from _object_paths(value[key], (*path, key))


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.update(format="ccverify/fabric-observation/v2"), "$.format"),
        (lambda d: d.update(driver="\u00e9"), "$.driver"),
        (lambda d: d.update(driver={"absent": "not a code"}), "$.driver.absent"),
        (lambda d: d.update(driver={"absent": "NVML_X", "more": 1}), "$.driver"),
        (lambda d: d["gpus"][0].update(index=True), "$.gpus[0].index"),
        (lambda d: d["gpus"][0].update(index=-1), "$.gpus[0].index"),
        (lambda d: d["gpus"][0].update(index=0.0), "$.gpus[0].index"),
        (lambda d: d["gpus"][0].update(pdi="AB" * 8), "$.gpus[0].pdi"),
        (lambda d: d["gpus"][0].update(encrypted=1 << 32), "$.gpus[0].encrypted"),
        (lambda d: d["gpus"][1].update(index=0), "$.gpus"),
        (lambda d: d["gpus"][0]["links"].append(d["gpus"][0]["links"][0]), "$.gpus[0].links"),
        (lambda d: d["gpus"][0].update(links=[{}] * 65), "$.gpus[0].links"),
        (lambda d: d["peers"].append(d["peers"][0]), "$.peers"),
        (lambda d: d["peers"][0].update(peer=2), "$.peers[0]"),
        (lambda d: d["peers"][0].update(peer=0), "$.peers[0]"),
    ],
)
def test_each_fault_says_where_it_is(change: Any, where: str) -> None:
    document = _document()
    change(document)
    assert _refused(document).where == where


def test_a_key_twice_is_refused() -> None:
    data = serialize_observation(SAMPLE).replace(b'"driver":', b'"driver":"1","driver":', 1)
    with pytest.raises(EvidenceError, match="twice"):
        parse_observation(data)


@pytest.mark.parametrize(
    "broken",
    [
        replace(SAMPLE, driver="\n"),
        replace(SAMPLE, gpus=[GPU_0]),
        replace(SAMPLE, gpus=(GPU_0, GPU_0)),
        replace(SAMPLE, gpus=(replace(GPU_0, encrypted=-1),), peers=()),
        replace(SAMPLE, gpus=(replace(GPU_0, fabric=7),), peers=()),
        replace(SAMPLE, confidential_computing=Absent("X")),
        replace(SAMPLE, driver=Absent("lower case")),
    ],
)
def test_what_could_not_be_read_is_not_written(broken: FabricObservation) -> None:
    with pytest.raises(EvidenceError):
        serialize_observation(broken)


@given(U32)
def test_every_mask_is_decoded(mask: int) -> None:
    readings = decode_health_mask(mask)
    assert [one.name for one in readings] == [field.name for field in HEALTH_FIELDS]
    again = sum(
        one.value << field.shift for one, field in zip(readings, HEALTH_FIELDS, strict=True)
    )
    assert again == mask & 0xFFFF


def test_an_unknown_value_keeps_its_number() -> None:
    assert named({0: "none"}, 0) == "none"
    assert named({0: "none"}, 9) == "9"
