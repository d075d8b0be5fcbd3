"""docs/spec/fabric-statement.md: schema and test vectors are what the code does.

`PYTHONPATH=.:tests/fabric:tests/bundle python tests/fabric/test_statement_spec.py` writes
docs/spec/fabric-statement-test-vectors.json.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from hashlib import sha256, sha384, sha512
from pathlib import Path
from typing import Any

import cbor2
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "bundle"))

from json_places import places_of  # noqa: E402
from sealing import TIME, signer  # noqa: E402
from statement_support import (  # noqa: E402
    BOOTED,
    CONFIG,
    FACTS,
    NVLSM_CONFIG,
    STARTED,
    TENANT,
    judged,
    program,
    sources,
    table,
)
from test_manager import FACTS_OF, SAMPLE  # noqa: E402

from ccverify.bundle.endorsement import operator_payload, tpm_qualifying_data  # noqa: E402
from ccverify.bundle.manifest import Gathered  # noqa: E402
from ccverify.bundle.package import close_manifest, open_session, parse_bundle, seal  # noqa: E402
from ccverify.bundle.verify_bundle import appraise_bundle  # noqa: E402
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType  # noqa: E402
from ccverify.errors import EvidenceError  # noqa: E402
from ccverify.fabric.manager import (  # noqa: E402
    FORMAT,
    NVLSM,
    ManagerFacts,
    parse_manager,
    serialize_manager,
)
from ccverify.fabric.observation import Absent  # noqa: E402
from ccverify.fabric.partition_table import serialize_fmpm_list  # noqa: E402
from ccverify.fabric.statement import read_statement  # noqa: E402
from ccverify.fabric.statement_join import join_partition  # noqa: E402
from ccverify.fabric.statement_model import (  # noqa: E402
    CLOCK_TOLERANCE,
    DUMP_LABELS,
    FACTS_LABEL,
    StatementCode,
    StatementProblem,
)
from ccverify.findings import State  # noqa: E402
from ccverify.sim.fabric import SimFabric, SimTenant  # noqa: E402
from ccverify.sim.fabric_dumps import (  # noqa: E402
    address_dump,
    key_dump,
    linear_dump,
    multicast_dump,
)

SPEC = ROOT / "docs" / "spec"
PATH = SPEC / "fabric-statement-test-vectors.json"
PAGE = (SPEC / "fabric-statement.md").read_text("utf-8")
SCHEMA = json.loads((SPEC / "fabric-manager-v1.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
KEY_LABEL = "ccverify/fabric-statement-test-vector/v1"
NONCE_LABEL = "ccverify/fabric-statement-test-vector/nonce"
ITEMS = {
    "fm-partitions": serialize_fmpm_list(table(2, 3)),
    "fm-config": CONFIG.encode(),
    "nvlsm-config": NVLSM_CONFIG.encode(),
}


def _facts(**changes: Any) -> ManagerFacts:
    return replace(FACTS, sources=sources(ITEMS), **changes)


def _running(**changes: Any) -> ManagerFacts:
    first = replace(FACTS.programs[0].process, **changes)  # type: ignore[type-var]
    programs = (replace(FACTS.programs[0], process=first), FACTS.programs[1])
    return _facts(programs=programs)


def _edited(label: str, old: str, new: str) -> dict[str, str | None]:
    """An item with a change, and facts that know of it."""
    data = ITEMS[label].replace(old.encode(), new.encode())
    assert data != ITEMS[label]
    items = {**ITEMS, label: data}
    facts = replace(FACTS, sources=sources(items))
    return {label: data.decode(), FACTS_LABEL: serialize_manager(facts).decode()}


def _told(facts: ManagerFacts) -> dict[str, str | None]:
    return {FACTS_LABEL: serialize_manager(facts).decode()}


def changes() -> dict[str, dict[str, str | None]]:
    """Name → label → text in place of the item's; None to leave it out."""
    late = sources(ITEMS, fm_config=STARTED + CLOCK_TOLERANCE + 1)
    early = sources(ITEMS, fm_config=STARTED + CLOCK_TOLERANCE)
    return {
        "as it should be": {},
        "without a configuration": {"fm-config": None},
        "another file than the facts say": {"fm-config": CONFIG + "\n"},
        "unreadable partitions": _edited("fm-partitions", "{", "["),
        "another driver": _told(_facts(driver="595.71.05")),
        "without NVLSM": _told(_facts(programs=FACTS.programs[:1])),
        "NVLSM not running": _told(
            _facts(programs=(FACTS.programs[0], program(NVLSM, process=Absent("NOT_RUNNING"))))
        ),
        "replaced while it ran": _told(_running(replaced=True)),
        "running longer than its host": _told(_running(started=BOOTED - CLOCK_TOLERANCE - 1)),
        "another configuration on the command line": _told(
            _running(arguments=("nv-fabricmanager", "-c", "/etc/fabricmanager.cfg"))
        ),
        "a configuration that was changed since": _told(replace(FACTS, sources=late)),
        "a configuration that was written just then": _told(replace(FACTS, sources=early)),
        "commands from the network": _edited("fm-config", "=127.0.0.1", "=0.0.0.0"),
        "bare metal": _edited("fm-config", "FABRIC_MODE=1", "FABRIC_MODE=0"),
        "greedy rails": _edited("fm-config", "symmetric", "greedy"),
        "rails by number": _edited("fm-config", "symmetric", "1"),
        "a log without errors in it": _edited("fm-config", "LOG_LEVEL=4", "LOG_LEVEL=1"),
        "a partition with a GPU that no board has": _edited(
            "fm-partitions", '"physicalId" : 8', '"physicalId" : 9'
        ),
    }


def _appraised(change: dict[str, str | None]) -> tuple[list[str], list[str]]:
    items = {FACTS_LABEL: serialize_manager(_facts()), **ITEMS}
    for label, text in change.items():
        if text is None:
            del items[label]
        else:
            items[label] = text.encode()
    problems, gaps = judged(read_statement(items), TENANT)
    return (
        sorted({one.code.value for one in problems}),
        sorted({one.code.value for one in gaps}),
    )


def _joined(modules: list[int]) -> dict[str, Any]:
    items = {FACTS_LABEL: serialize_manager(_facts()), **ITEMS}
    match = join_partition(read_statement(items), frozenset(modules))
    problems = [one.code.value for one in match.judged if isinstance(one, StatementProblem)]
    entry = match.entry
    return {
        "modules": modules,
        "partition": None if entry is None else entry.id,
        "problems": problems,
    }


def _routing() -> dict[str, str]:
    fabric = SimFabric.two_level([SimTenant("a", (1, 2))], gpus=2, rails=1, down=2, spines=1)
    items = {
        "nvlsm-lfts": linear_dump(fabric),
        "nvlsm-mcfdbs": multicast_dump(fabric),
        "nvlsm-guid2lid": address_dump(fabric),
        "nvlsm-pkeys": key_dump(fabric),
    }
    stated = read_statement({FACTS_LABEL: serialize_manager(FACTS), **items})
    assert stated.routing_digest is not None
    return {
        **{label: data.decode("ascii") for label, data in items.items()},
        "digest": stated.routing_digest.hex(),
    }


def vectors() -> dict[str, Any]:
    """Make the vectors with the code of ccverify."""
    own, nonce = signer(KEY_LABEL), sha256(NONCE_LABEL.encode()).digest()
    session = open_session(nonce, own.key)
    outcomes: list[Item | Absence] = [
        Item(FACTS_LABEL, ItemType.FABRIC_MANAGER, serialize_manager(_facts()), "this host"),
        *(Item(label, ItemType.FABRIC_DUMP, data, "this host") for label, data in ITEMS.items()),
        Absence(
            "tdx-quote",
            AbsenceReason.NOT_PRESENT,
            "this host is no TD",
            "run the manager in a service VM",
            "configfs-tsm",
        ),
        Absence(
            "nvlsm-lfts",
            AbsenceReason.NOT_ASKED,
            "left out of a test vector",
            "none",
            "this host",
        ),
    ]
    gathered = [Gathered(outcome, TIME) for outcome in outcomes]
    closed = close_manifest(session, gathered, collector="ccverify 0", created=TIME + 1)
    covered = nonce, own.key.thumbprint, closed.manifest.sha384
    made = {
        "nonce": nonce,
        "cose_key": own.key.encoded,
        "thumbprint": own.key.thumbprint,
        "manifest": closed.manifest.encoded,
        "manifest_sha384": closed.manifest.sha384,
        "report_data": closed.report_data,
        "tpm_qualifying_data": tpm_qualifying_data(*covered),
        "operator_payload": operator_payload(*covered),
        "statement": seal(closed, None, own),
    }
    tenant = {
        "drivers": sorted(TENANT.drivers),
        "multi_gpu": TENANT.multi_gpu,
        "generation": TENANT.generation.value if TENANT.generation else None,
        "modules": sorted(TENANT.modules or ()),
    }
    return {
        "description": "Worked example of docs/spec/fabric-statement.md; the host in it is made up",
        "key_label": KEY_LABEL,
        "nonce_label": NONCE_LABEL,
        **{name: value.hex() for name, value in made.items()},
        "tenant": tenant,
        "cases": [
            {"name": name, "change": change, "problems": problems, "gaps": gaps}
            for name, change in changes().items()
            for problems, gaps in (_appraised(change),)
        ],
        "joins": [
            _joined(modules)
            for modules in ([1, 2, 3, 4], [5], [1, 2], [1, 2, 3], [0, 1, 2, 3], list(range(1, 9)))
        ],
        "routing": _routing(),
    }


def _dumps(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def stored() -> Any:
    return json.loads(PATH.read_text("utf-8"))


def test_the_vectors_are_made_again(stored: Any) -> None:
    assert vectors() == stored
    assert PATH.read_text("utf-8") == _dumps(stored)


def test_what_binds_without_ccverify(stored: Any) -> None:
    """As the page describes it, by hashlib and cbor2 alone."""
    value = {k: bytes.fromhex(v) for k, v in stored.items()
             if isinstance(v, str) and not k.endswith(("label", "description"))}  # fmt: skip
    nonce = sha256(stored["nonce_label"].encode()).digest()
    thumbprint = sha256(value["cose_key"]).digest()
    digest = sha384(value["manifest"]).digest()
    assert (value["nonce"], value["thumbprint"]) == (nonce, thumbprint)
    assert value["manifest_sha384"] == digest
    covered = nonce + thumbprint + digest
    assert value["report_data"] == sha512(b"ccverify/report-data/v1" + covered).digest()
    assert value["tpm_qualifying_data"] == sha256(b"ccverify/tpm-quote/v1" + covered).digest()
    signed = sha384(b"ccverify/operator-signature/v1" + covered).digest()
    assert value["operator_payload"] == signed
    entries = cbor2.loads(value["manifest"])["items"]
    collection = cbor2.loads(cbor2.loads(value["statement"]).value[2])
    for label in (FACTS_LABEL, *ITEMS):
        assert entries[label]["sha384"] == sha384(collection[label][1]).digest()
    assert collection[FACTS_LABEL][0] == "application/vnd.ccverify.fabric-manager+json"
    assert {collection[label][0] for label in ITEMS} == {"application/vnd.ccverify.fabric-dump"}


def test_the_statement_is_a_bundle_and_says_nothing_bad(stored: Any) -> None:
    data, nonce = bytes.fromhex(stored["statement"]), bytes.fromhex(stored["nonce"])
    states = {finding.state for finding in appraise_bundle(data, nonce).findings}
    assert states == {State.PASS}
    bundle = parse_bundle(data)
    items = {
        **bundle.of_type(ItemType.FABRIC_MANAGER),
        **bundle.of_type(ItemType.FABRIC_DUMP),
    }
    assert set(items) == {FACTS_LABEL, *ITEMS}
    assert judged(read_statement(items), TENANT)[0] == []


def test_every_rule_has_a_case(stored: Any) -> None:
    named = {code for case in (*stored["cases"], *stored["joins"]) for code in case["problems"]}
    rare = {StatementCode.ROUTING.value, StatementCode.CONTINUITY.value}
    assert named == {code.value for code in StatementCode} - rare
    assert stored["cases"][0]["problems"] == []
    assert len({case["name"] for case in stored["cases"]}) == len(stored["cases"])


def test_the_page_shows_its_values(stored: Any) -> None:
    joined = re.sub(r"\s+", "", PAGE)
    for name in ("tpm_qualifying_data", "operator_payload"):
        assert stored[name] in joined
    assert stored["routing"]["digest"] in joined
    assert stored["key_label"] in PAGE
    assert stored["nonce_label"] in PAGE


def test_the_page_names_what_the_code_knows() -> None:
    for label in (FACTS_LABEL, *DUMP_LABELS):
        assert f"| `{label}` |" in PAGE
    for code in StatementCode:
        assert f"| `{code.value}` |" in PAGE
    for kind in (ItemType.FABRIC_MANAGER, ItemType.FABRIC_DUMP, ItemType.FABRIC_STATEMENT):
        assert f"`{kind.value}`" in PAGE
    assert f"`{FORMAT}`" in PAGE
    assert f"{CLOCK_TOLERANCE} seconds" in PAGE


# --- schema --------------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["format"]["const"] == FORMAT


@given(FACTS_OF)
def test_the_schema_accepts_what_is_written(facts: ManagerFacts) -> None:
    VALIDATOR.validate(json.loads(serialize_manager(facts)))


@given(st.data())
def test_schema_and_parser_refuse_the_same(data: st.DataObject) -> None:
    document = json.loads(serialize_manager(SAMPLE))
    place, container = data.draw(st.sampled_from(list(places_of(document))))
    change = data.draw(st.sampled_from(["value", "more", "less"]))
    if change == "value":
        junk = st.none() | st.booleans() | st.integers() | st.from_regex(r"[ -~]*\Z")
        container[place] = data.draw(junk | st.just([]) | st.just({}))
    elif change == "more" and isinstance(container, dict):
        container["surprise"] = 1
    elif isinstance(container, dict):
        del container[place]
    good = not list(VALIDATOR.iter_errors(document))
    try:
        parse_manager(json.dumps(document).encode())
    except EvidenceError as error:
        # What no schema can say: a log that contradicts itself.
        assert not good or (error.where or "").startswith("$.log")  # noqa: PT017
    else:
        assert good


if __name__ == "__main__":
    PATH.write_text(_dumps(vectors()), "utf-8")
