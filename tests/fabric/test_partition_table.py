"""The Fabric Manager's table of partitions, live and defined."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_places import places_of
from statement_support import table

from ccverify.errors import EvidenceError
from ccverify.fabric.partition_table import (
    MAX_GPUS,
    MAX_PARTITIONS,
    PartitionEntry,
    PartitionGpu,
    PartitionTable,
    parse_fmpm_list,
    parse_partition_definitions,
    serialize_fmpm_list,
)

U32 = st.integers(0, (1 << 32) - 1)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=128)
GPU = st.builds(PartitionGpu, st.integers(0, 255), TEXT, TEXT, U32, U32, U32)

# As fmpm 1.0.1 prints it: jsoncpp's StyledWriter, members in order of their names.
PRINTED = b"""{
   "maxNumPartitions" : 15,
   "numPartitions" : 2,
   "partitionInfo" : [
      {
         "gpuInfo" : [
            {
               "maxNumNvLinks" : 18,
               "numNvLinksAvailable" : 18,
               "nvlinkLineRateMBps" : 53125,
               "pciBusId" : "00000000:00:00.0",
               "physicalId" : 2,
               "uuid" : ""
            },
            {
               "maxNumNvLinks" : 18,
               "numNvLinksAvailable" : 17,
               "nvlinkLineRateMBps" : 53125,
               "pciBusId" : "00000000:00:00.0",
               "physicalId" : 1,
               "uuid" : ""
            }
         ],
         "isActive" : 1,
         "numGpus" : 2,
         "partitionId" : 4
      },
      {
         "gpuInfo" : [
            {
               "maxNumNvLinks" : 0,
               "numNvLinksAvailable" : 0,
               "nvlinkLineRateMBps" : 53125,
               "pciBusId" : "00000000:00:00.0",
               "physicalId" : 7,
               "uuid" : ""
            }
         ],
         "isActive" : 0,
         "numGpus" : 1,
         "partitionId" : 2
      }
   ],
   "version" : 33642516
}
"""
DEFINED = {
    "version": "1.0",
    "name": "custom",
    "time": "2026-11-01",
    "partitionInfo": [
        {"partitionId": 2, "gpuModuleIds": [5, 6]},
        {"partitionId": 1, "gpuModuleIds": [4, 1, 2, 3]},
    ],
}


@st.composite
def tables(draw: st.DrawFn) -> PartitionTable:
    numbers = draw(st.lists(U32, max_size=4, unique=True))
    entries = []
    for number in sorted(numbers):
        gpus = draw(st.lists(GPU, max_size=4, unique_by=lambda gpu: gpu.module))
        modules = frozenset(gpu.module for gpu in gpus)
        entries.append(PartitionEntry(number, draw(st.booleans()), modules, tuple(sorted(gpus))))
    return PartitionTable(tuple(entries), str(draw(U32)), draw(U32))


def _document() -> Any:
    return json.loads(PRINTED)


def _refused(document: Any, parse: Any = parse_fmpm_list) -> EvidenceError:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(EvidenceError) as caught:
        parse(data)
    return caught.value


@given(tables())
def test_what_is_written_is_read(partitions: PartitionTable) -> None:
    data = serialize_fmpm_list(partitions)
    assert parse_fmpm_list(data) == partitions
    assert serialize_fmpm_list(parse_fmpm_list(data)) == data


def test_what_fmpm_prints() -> None:
    partitions = parse_fmpm_list(PRINTED)
    assert [(e.id, e.active, sorted(e.modules)) for e in partitions.entries] == [
        (2, False, [7]),
        (4, True, [1, 2]),
    ]
    assert (partitions.version, partitions.capacity) == ("33642516", 15)
    assert partitions.active == (partitions.entries[1],)
    assert partitions.entry(4) is partitions.entries[1]
    assert partitions.entry(3) is None
    first = partitions.entries[1].gpus[0]
    assert first == PartitionGpu(1, "", "00000000:00:00.0", 17, 18, 53125)
    # Written again, only the order of partitions and GPUs is another.
    again = json.loads(serialize_fmpm_list(partitions))
    assert sorted(again) == sorted(_document())
    assert serialize_fmpm_list(partitions).startswith(b'{\n   "maxNumPartitions" : 15,\n')


def test_numbers_may_be_texts_and_flags_truth_values() -> None:
    document = _document()
    document["numPartitions"] = "2"
    document["partitionInfo"][0].update(isActive="1", partitionId="4", numGpus="2")
    document["partitionInfo"][1].update(isActive=False)
    document["partitionInfo"][0]["gpuInfo"][0]["physicalId"] = "2"
    assert parse_fmpm_list(json.dumps(document).encode()) == parse_fmpm_list(PRINTED)


def test_members_of_later_versions_are_passed_over() -> None:
    document = _document()
    document["mode"] = document["partitionInfo"][0]["label"] = {"new": 1}
    document["partitionInfo"][0]["gpuInfo"][0]["health"] = None
    assert parse_fmpm_list(json.dumps(document).encode()) == parse_fmpm_list(PRINTED)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    for parse in (parse_fmpm_list, parse_partition_definitions):
        with pytest.raises(EvidenceError):
            parse(data)


@given(st.data())
def test_any_value_in_place_of_another(data: st.DataObject) -> None:
    parse, document = data.draw(
        st.sampled_from(
            [(parse_fmpm_list, PRINTED), (parse_partition_definitions, json.dumps(DEFINED))]
        )
    )
    read = json.loads(document)
    places = list(places_of(read))
    at, container = data.draw(st.sampled_from(places))
    junk = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([{}])
    container[at] = data.draw(junk)
    try:
        partitions = parse(json.dumps(read).encode())
    except EvidenceError:
        return
    assert len({entry.id for entry in partitions.entries}) == len(partitions.entries)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.update(numPartitions=3), "$.numPartitions"),
        (lambda d: d.update(partitionInfo=None), "$.partitionInfo"),
        (lambda d: d.update(partitionInfo=[{}] * 65), "$.partitionInfo"),
        (lambda d: d["partitionInfo"].append(7), "$.partitionInfo[2]"),
        (lambda d: d["partitionInfo"][0].update(numGpus=1), "$.partitionInfo[0].numGpus"),
        (lambda d: d["partitionInfo"][0].update(isActive=2), "$.partitionInfo[0].isActive"),
        (lambda d: d["partitionInfo"][0].pop("isActive"), "$.partitionInfo[0].isActive"),
        (lambda d: d["partitionInfo"][0].update(partitionId=2), "$.partitionInfo"),
        (lambda d: d["partitionInfo"][0].update(partitionId=-1), "$.partitionInfo[0].partitionId"),
        (lambda d: d["partitionInfo"][0].update(gpuInfo=[{}] * 17), "$.partitionInfo[0].gpuInfo"),
        (
            lambda d: d["partitionInfo"][0]["gpuInfo"][0].update(physicalId=1),
            "$.partitionInfo[0].gpuInfo",
        ),
        (
            lambda d: d["partitionInfo"][0]["gpuInfo"][0].update(physicalId=256),
            "$.partitionInfo[0].gpuInfo[0].physicalId",
        ),
        (
            lambda d: d["partitionInfo"][0]["gpuInfo"][0].update(uuid=None),
            "$.partitionInfo[0].gpuInfo[0].uuid",
        ),
        (
            lambda d: d["partitionInfo"][0]["gpuInfo"][0].update(uuid="\n"),
            "$.partitionInfo[0].gpuInfo[0].uuid",
        ),
        (
            lambda d: d["partitionInfo"][0]["gpuInfo"][0].update(maxNumNvLinks=1.0),
            "$.partitionInfo[0].gpuInfo[0].maxNumNvLinks",
        ),
        (lambda d: d.pop("version"), "$.version"),
        (lambda d: d.pop("maxNumPartitions"), "$.maxNumPartitions"),
    ],
)
def test_each_fault_says_where_it_is(change: Any, where: str) -> None:
    document = _document()
    change(document)
    assert _refused(document).where == where


@pytest.mark.parametrize(
    "data",
    [
        b"Failed to get partition list. fmReturn: -3\n",
        PRINTED + b"{}",
        PRINTED.replace(b'"version"', b'"numPartitions"'),
        b"[]",
        b" " * ((1 << 20) + 1),
    ],
)
def test_what_is_no_list_is_refused(data: bytes) -> None:
    _refused(data)


def test_the_limits_of_the_library() -> None:
    gpus = tuple(PartitionGpu(module) for module in range(MAX_GPUS))
    full = PartitionEntry(0, True, frozenset(range(MAX_GPUS)), gpus)
    entries = tuple(replace(full, id=number) for number in range(MAX_PARTITIONS))
    partitions = PartitionTable(entries, "0", 64)
    assert parse_fmpm_list(serialize_fmpm_list(partitions)) == partitions
    too_many = (*entries, replace(full, id=MAX_PARTITIONS))
    with pytest.raises(EvidenceError):
        serialize_fmpm_list(PartitionTable(too_many))


@pytest.mark.parametrize(
    "broken",
    [
        PartitionTable((PartitionEntry(1, None, frozenset()),)),
        PartitionTable((), "one"),
        PartitionTable((PartitionEntry(1, True, frozenset({1}), (PartitionGpu(300),)),)),
    ],
)
def test_what_could_not_be_read_is_not_written(broken: PartitionTable) -> None:
    with pytest.raises(EvidenceError):
        serialize_fmpm_list(broken)


def test_a_table_without_a_capacity_has_room_for_itself() -> None:
    partitions = replace(table(1), capacity=None, version=None)
    written = json.loads(serialize_fmpm_list(partitions))
    assert (written["maxNumPartitions"], written["version"]) == (15, 0)
    largest = replace(table(1), capacity=(1 << 32) - 1)
    assert parse_fmpm_list(serialize_fmpm_list(largest)).capacity == (1 << 32) - 1
    with pytest.raises(EvidenceError):
        serialize_fmpm_list(replace(table(1), capacity=1 << 32))


def test_a_definition() -> None:
    partitions = parse_partition_definitions(json.dumps(DEFINED).encode())
    assert partitions == PartitionTable(
        (
            PartitionEntry(1, None, frozenset({1, 2, 3, 4})),
            PartitionEntry(2, None, frozenset({5, 6})),
        ),
        version="1.0",
        name="custom",
        time="2026-11-01",
    )
    assert partitions.active == ()


def test_a_definition_needs_nothing_but_its_partitions() -> None:
    bare = {"partitionInfo": [{"partitionId": "7", "gpuModuleIds": ["1"]}]}
    read = parse_partition_definitions(json.dumps(bare).encode())
    assert read == PartitionTable((PartitionEntry(7, None, frozenset({1})),))
    numbered = {**bare, "version": 2, "time": 1.5, "new": None}
    read = parse_partition_definitions(json.dumps(numbered).encode())
    assert (read.version, read.time) == ("2", "1.5")
    longest = {**bare, "name": "x" * 128}
    assert parse_partition_definitions(json.dumps(longest).encode()).name == "x" * 128


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.pop("partitionInfo"), "$.partitionInfo"),
        (lambda d: d.update(name="\u00e9"), "$.name"),
        (lambda d: d.update(version="x" * 129), "$.version"),
        (
            lambda d: d["partitionInfo"][0].update(gpuModuleIds=[]),
            "$.partitionInfo[0].gpuModuleIds",
        ),
        (
            lambda d: d["partitionInfo"][0].update(gpuModuleIds=list(range(17))),
            "$.partitionInfo[0].gpuModuleIds",
        ),
        (
            lambda d: d["partitionInfo"][0].update(gpuModuleIds=[1, 1]),
            "$.partitionInfo[0].gpuModuleIds",
        ),
        (
            lambda d: d["partitionInfo"][0].update(gpuModuleIds=[True]),
            "$.partitionInfo[0].gpuModuleIds",
        ),
        (lambda d: d["partitionInfo"][0].update(partitionId=1), "$.partitionInfo"),
    ],
)
def test_each_fault_of_a_definition_says_where_it_is(change: Any, where: str) -> None:
    document = json.loads(json.dumps(DEFINED))
    change(document)
    assert _refused(document, parse_partition_definitions).where == where
