"""The facts item: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_places import places_of
from statement_support import FACTS, program, sources

from ccverify.errors import EvidenceError
from ccverify.fabric.manager import (
    FABRIC_MANAGER,
    FORMAT,
    MAX_TEXT,
    NOT_FOUND,
    NVLSM,
    LogHealth,
    ManagerFacts,
    Process,
    Program,
    SourceFile,
    clean_text,
    parse_manager,
    serialize_manager,
)
from ccverify.fabric.observation import Absent

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=MAX_TEXT)
TIME = st.integers(0, 253402300799)
COUNT = st.integers(0, (1 << 53) - 1)
DIGEST = st.binary(min_size=48, max_size=48).map(bytes.hex)
ABSENT = st.builds(Absent, st.from_regex(r"[A-Z][A-Z0-9_]{0,40}", fullmatch=True))


def _maybe(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return inner | ABSENT


PROCESS = st.builds(
    Process,
    st.integers(1, 1 << 22),
    TIME,
    _maybe(DIGEST),
    st.booleans(),
    _maybe(COUNT),
    _maybe(st.lists(TEXT, max_size=3).map(tuple)),
)
PROGRAM = st.builds(
    Program,
    st.sampled_from([FABRIC_MANAGER, NVLSM]),
    TEXT,
    _maybe(TEXT),
    _maybe(DIGEST),
    _maybe(PROCESS),
)
CLEAN_LOG = st.builds(
    LogHealth, TEXT, st.integers(9, 99), st.just(0), st.integers(0, 9), st.none(), COUNT
)
BAD_LOG = st.builds(
    LogHealth, TEXT, st.integers(9, 99), st.integers(1, 4), st.integers(0, 5), TEXT, COUNT
)
SOURCE = st.builds(
    SourceFile,
    st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True),
    TEXT,
    DIGEST,
    COUNT,
    _maybe(TIME),
)
FACTS_OF = st.builds(
    ManagerFacts,
    _maybe(st.uuids().map(str)),
    _maybe(TIME),
    _maybe(TEXT),
    _maybe(TEXT),
    st.lists(PROGRAM, max_size=2, unique_by=lambda one: one.name).map(tuple),
    _maybe(CLEAN_LOG | BAD_LOG),
    st.lists(SOURCE, max_size=3, unique_by=lambda one: one.label).map(tuple),
)
SAMPLE = replace(FACTS, sources=sources({"fm-config": b"", "fm-state": b"x"}))


def _document() -> Any:
    return json.loads(serialize_manager(SAMPLE))


def _refused(document: Any) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        parse_manager(json.dumps(document).encode())
    return caught.value


@given(FACTS_OF)
def test_what_is_written_is_read(facts: ManagerFacts) -> None:
    data = serialize_manager(facts)
    assert parse_manager(data) == facts
    assert serialize_manager(parse_manager(data)) == data


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_manager(data)


@given(st.data())
def test_any_value_in_place_of_another(data: st.DataObject) -> None:
    document = _document()
    place, container = data.draw(st.sampled_from(list(places_of(document))))
    junk = st.none() | st.booleans() | st.integers() | st.text() | st.just([]) | st.just({})
    container[place] = data.draw(junk)
    try:
        read = parse_manager(json.dumps(document).encode())
    except EvidenceError:
        return
    assert json.loads(serialize_manager(read)) == document


def test_a_member_too_many_or_too_few_is_refused_everywhere() -> None:
    count = 0
    for at, container in [*places_of([_document()])]:
        if isinstance(container[at], dict):
            count += 1
    assert count == 8  # facts, two programs and processes, log, two sources
    for number in range(count):
        for change in ("more", "less"):
            document = [_document()]
            objects = [box[at] for at, box in places_of(document) if isinstance(box[at], dict)]
            if change == "more":
                objects[number]["surprise"] = 1
            else:
                objects[number].pop(next(name for name in objects[number] if name != "format"))
            error = _refused(document[0])
            assert change == "less" or "surprise" in (error.found or "")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.update(format="ccverify/fabric-manager/v2"), "$.format"),
        (lambda d: d.update(boot_id="11111111-2222-3333-4444-55555555555X"), "$.boot_id"),
        (lambda d: d.update(boot_id=d["boot_id"].upper() + "A"), "$.boot_id"),
        (lambda d: d.update(booted=-1), "$.booted"),
        (lambda d: d.update(booted=True), "$.booted"),
        (lambda d: d.update(booted=253402300800), "$.booted"),
        (lambda d: d.update(kernel="\n"), "$.kernel"),
        (lambda d: d.update(driver="x" * 513), "$.driver"),
        (lambda d: d.update(driver={"absent": "not found"}), "$.driver.absent"),
        (lambda d: d["programs"][0].update(name="fm"), "$.programs[0].name"),
        (lambda d: d["programs"][1].update(name="fabric-manager"), "$.programs"),
        (lambda d: d["programs"].append(d["programs"][0]), "$.programs"),
        (lambda d: d["programs"][0].update(sha384="AB" * 48), "$.programs[0].sha384"),
        (lambda d: d["programs"][0].update(sha384="ab" * 32), "$.programs[0].sha384"),
        (lambda d: d["programs"][0]["process"].update(pid=0), "$.programs[0].process.pid"),
        (
            lambda d: d["programs"][0]["process"].update(pid=(1 << 22) + 1),
            "$.programs[0].process.pid",
        ),
        (
            lambda d: d["programs"][0]["process"].update(replaced=0),
            "$.programs[0].process.replaced",
        ),
        (
            lambda d: d["programs"][0]["process"].update(arguments=["x"] * 65),
            "$.programs[0].process.arguments",
        ),
        (lambda d: d["log"].update(errors=41), "$.log"),
        (lambda d: d["log"].update(errors=1), "$.log.last_error"),
        (lambda d: d["log"].update(last_error="x"), "$.log.last_error"),
        (lambda d: d["sources"].append(d["sources"][0]), "$.sources"),
        (lambda d: d["sources"][0].update(label="FM"), "$.sources[0].label"),
        (lambda d: d["sources"][0].update(label=""), "$.sources[0].label"),
        (lambda d: d.update(sources=[{}] * 65), "$.sources"),
    ],
)
def test_each_fault_says_where_it_is(change: Any, where: str) -> None:
    document = _document()
    change(document)
    assert _refused(document).where == where


def test_a_key_twice_is_refused() -> None:
    data = serialize_manager(SAMPLE).replace(b'"driver":', b'"driver":"1","driver":', 1)
    with pytest.raises(EvidenceError, match="twice"):
        parse_manager(data)


@pytest.mark.parametrize("document", [None, 1, "x", [], {}, {"format": FORMAT}])
def test_other_json_is_refused(document: Any) -> None:
    _refused(document)


@pytest.mark.parametrize(
    "broken",
    [
        replace(SAMPLE, kernel="\x7f"),
        replace(SAMPLE, programs=[]),
        replace(SAMPLE, programs=(program(NVLSM), program(NVLSM))),
        replace(SAMPLE, log=7),
        replace(SAMPLE, sources=(7,)),
        replace(SAMPLE, driver=Absent("lower case")),
    ],
)
def test_what_could_not_be_read_is_not_written(broken: ManagerFacts) -> None:
    with pytest.raises(EvidenceError):
        serialize_manager(broken)


def test_a_program_that_is_not_installed_is_none() -> None:
    missing = program(NVLSM, sha384=Absent(NOT_FOUND))
    unreadable = program(FABRIC_MANAGER, sha384=Absent("NO_PERMISSION"))
    facts = replace(FACTS, programs=(missing, unreadable))
    assert facts.program(NVLSM) is None
    assert facts.program(FABRIC_MANAGER) is unreadable
    assert replace(FACTS, programs=()).program(FABRIC_MANAGER) is None
    assert SAMPLE.source("fm-state") is SAMPLE.sources[1]
    assert SAMPLE.source("fm-partitions") is None


@given(st.text(), st.integers(0, 20))
def test_a_cleaned_text_is_accepted(text: str, most: int) -> None:
    cleaned = clean_text(text, most)
    assert len(cleaned) == min(len(text), most)
    facts = replace(FACTS, kernel=cleaned)
    assert parse_manager(serialize_manager(facts)) == facts


def test_a_cleaned_text_keeps_what_can_be_printed() -> None:
    assert clean_text("a b\té~\x7f") == "a b??~?"
    assert len(clean_text("x" * 1000)) == MAX_TEXT
