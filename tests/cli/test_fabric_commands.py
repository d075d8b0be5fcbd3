"""``ccverify fabric``: digest, diff, show and tenants of simulated boards, and of hostile files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from cli_files import NONCE, Run
from click.testing import Result
from fabric_shelf import BOARD, dumps, host_statement, statement, tenant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccverify.cli.fabric import FABRIC_COMMANDS, fabric
from ccverify.cli.fabric_files import read_fabric_file
from ccverify.cli.fabric_show import _page
from ccverify.cli.fabric_view import view_of
from ccverify.cli.inputs import Inputs
from ccverify.results.render.text import Page, fit_encoding
from ccverify.sim.fabric import SimFabric, SimTenant
from ccverify.sim.fabric_dumps import linear_dump, subnet_list

Json = dict[str, Any]
DIGEST_BYTES = 48


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statements and bundles, each under a short name."""
    folder = tmp_path_factory.mktemp("fabric")
    well = statement()
    contents = {
        "well": well,
        "hopper": statement("h100-board-4+4"),
        "later": statement(after=60),
        "restarted": statement(f"{BOARD}/a@manager-restarted", after=60),
        "leak": statement(f"{BOARD}/a@leaked-route", after=60),
        "stale": statement(f"{BOARD}/a@stale-partition"),
        "double": statement(f"{BOARD}/a@overlapping-partitions"),
        "many": statement("b300-board-4+2+1+1"),
        "a": tenant(f"{BOARD}/a"),
        "b": tenant(f"{BOARD}/b"),
        "a-stated": tenant(f"{BOARD}/a", stated=well),
        "b-stated": tenant(f"{BOARD}/b", stated=well),
        "far": tenant("h100-board-4+4/a"),
        "probed": tenant(f"{BOARD}/a", probe=True),
        "bound": host_statement(),
        "unsigned": host_statement(bound=False),
        "empty": b"",
        "noise": bytes(range(256)) * 8,
        "cut": well[: len(well) // 2],
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    changed = bytearray(well)
    changed[changed.index(b"FABRIC_MODE=1") + 12] = ord("0")
    (folder / "changed").write_bytes(changed)
    dumps(folder / "dumps", well)
    return folder


def call(run: Run, shelf: Path, *words: str, **environment: str) -> Result:
    """Run ``ccverify fabric``; words that name a file of the shelf become its path."""
    paths = [str(shelf / word) if (shelf / word).exists() else word for word in words]
    result = run("fabric", *paths, **environment)
    assert "Traceback" not in result.output
    assert "internal error" not in result.stderr
    return result


def asked(run: Run, shelf: Path, *words: str) -> Json:
    """The JSON form; the table must come out too, with the same exit code, and be text."""
    result = call(run, shelf, *words, "--format", "json")
    shown = call(run, shelf, *words)
    assert shown.exit_code == result.exit_code
    assert shown.stdout.replace("\n", "").isprintable() or not shown.stdout
    document: Json = json.loads(result.stdout)
    assert document["verified"] is False
    assert document.get("exit_code", 0) == result.exit_code
    return document


# --- the group ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FABRIC_COMMANDS)
def test_every_command_is_there_and_tells_its_exit_codes(run: Run, name: str) -> None:
    command = fabric.get_command(click.Context(fabric), name)
    assert command is not None
    assert command.name == name
    result = run("fabric", name, "--help")
    assert result.exit_code == 0
    assert "Exit codes: 0" in result.stdout
    assert FABRIC_COMMANDS[name][1] in run("fabric", "--help").stdout


def test_wrong_use_ends_in_1(run: Run, shelf: Path) -> None:
    for line in (
        "",
        "nonsense",
        "digest",
        "digest nowhere",
        "diff well",
        "diff - -",
        "diff well leak --partition 99",
        "show well --partition 99",
        "show a --partition 1",
        "tenants a",
        "tenants a a",
    ):
        words = line.split()
        assert call(run, shelf, *words).exit_code == 1, words


@pytest.mark.parametrize("name", ["empty", "noise", "cut"])
def test_garbage_ends_in_2(run: Run, shelf: Path, name: str) -> None:
    for line in (
        "digest {}",
        "show {}",
        "diff {} well",
        "diff well {}",
        "tenants {} a",
        "tenants a b --fabric-statement {}",
    ):
        words = line.format(name).split()
        result = call(run, shelf, *words)
        assert (result.exit_code, result.stdout) == (2, ""), words
        problem = json.loads(call(run, shelf, *words, "--format", "json").stdout)
        assert (problem["code"], problem["exit_code"]) == ("EVIDENCE-FORMAT", 2)
        assert name in problem["where"]


def test_a_bundle_without_what_is_asked_for_ends_in_2(
    run: Run, shelf: Path, tmp_path: Path
) -> None:
    assert call(run, shelf, "digest", "a").exit_code == 2
    assert call(run, shelf, "diff", "well", "a").exit_code == 2
    assert call(run, shelf, "tenants", "well", "a").exit_code == 2
    (tmp_path / "readme.txt").write_text("nothing")
    assert run("fabric", "digest", str(tmp_path)).exit_code == 2


# --- digest ---------------------------------------------------------------------------------------


def test_a_digest_is_the_same_wherever_the_tables_are(run: Run, shelf: Path) -> None:
    texts = {call(run, shelf, "digest", name).stdout for name in ("well", "a-stated", "dumps")}
    assert len(texts) == 1
    assert len(bytes.fromhex(texts.pop())) == DIGEST_BYTES
    assert call(run, shelf, "digest", "leak").stdout != call(run, shelf, "digest", "well").stdout


def test_a_digest_says_what_it_covers(run: Run, shelf: Path) -> None:
    document = json.loads(call(run, shelf, "digest", "well", "--format", "json").stdout)
    assert document["routing_digest"] == call(run, shelf, "digest", "well").stdout.strip()
    assert (document["switches"], document["board"]) == (2, "HGX B200/B300")
    assert document["keys_from"] == "nvlsm-pkeys"
    assert document["entries"] == 2 * (8 * 9 + 1)
    assert document["statement"]["bound_by"] == ["tdx"]
    assert document["statement"]["simulated"] is True
    assert "nvlsm-lfts" in document["items"]
    assert document["problems"] == document["gaps"] == []


def test_files_as_the_host_names_them(run: Run, shelf: Path, tmp_path: Path) -> None:
    names = {
        "nvlsm-lfts": "nvlsm-lfts.dump",
        "nvlsm-fdbs": "nvlsm.fdbs",
        "nvlsm-mcfdbs": "opensm.mcfdbs",
        "nvlsm-guid2lid": "guid2lid",
        "nvlsm-pkeys": "nvlsm-pkeys.dump",
        "nvlsm-subnet": "nvlsm-subnet.lst",
    }
    for label, name in names.items():
        (tmp_path / name).write_bytes((shelf / "dumps" / label).read_bytes())
    (tmp_path / "notes.txt").write_text("passed over")
    result = run("fabric", "digest", str(tmp_path))
    assert result.stdout == call(run, shelf, "digest", "well").stdout
    (tmp_path / "nvlsm-lfts").write_bytes(b"twice")
    result = run("fabric", "digest", str(tmp_path))
    assert result.exit_code == 1
    assert "nvlsm-lfts, nvlsm-lfts.dump" in result.stderr


def test_no_tables_no_digest(run: Run, shelf: Path, tmp_path: Path) -> None:
    folder = dumps(tmp_path / "few", (shelf / "well").read_bytes(), "fm-partitions", "nvlsm-subnet")
    result = run("fabric", "digest", str(folder))
    assert (result.exit_code, result.stdout) == (6, "")
    document = json.loads(run("fabric", "digest", str(folder), "--format", "json").stdout)
    assert (document["routing_digest"], document["exit_code"]) == (None, 6)
    assert document["gaps"]


def test_a_dump_that_cannot_be_read_is_told(run: Run, shelf: Path, tmp_path: Path) -> None:
    folder = dumps(tmp_path / "bad", (shelf / "well").read_bytes())
    (folder / "nvlsm-mcfdbs").write_bytes(b"\x1b]0;owned\x07 no table")
    result = run("fabric", "digest", str(folder))
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "\x1b" not in result.stderr


# --- diff -----------------------------------------------------------------------------------------


def test_nothing_changed(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "diff", "well", "later")
    assert (document["exit_code"], document["continuity"], document["changes"]) == (0, True, [])
    assert call(run, shelf, "diff", "well", "later").stdout.startswith("UNCHANGED")
    assert asked(run, shelf, "diff", "dumps", "dumps")["exit_code"] == 6  # nobody says who ran


def test_a_restart_is_seen(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "diff", "well", "restarted")
    assert (document["exit_code"], document["continuity"]) == (4, False)
    kinds = {(c["kind"], c["where"]): c["matters"] for c in document["changes"]}
    assert kinds["restart", "fabric-manager"] is kinds["restart", "nvlsm"] is True
    assert kinds["item", "fm-state"] is False
    shown = call(run, shelf, "diff", "well", "restarted").stdout
    assert shown.startswith("CHANGED: 2 changes that matter, and 1 other\n")
    assert "✗ restart" in shown


def test_a_change_of_others_matters_to_others(run: Run, shelf: Path) -> None:
    everybody = asked(run, shelf, "diff", "well", "leak")
    assert {c["kind"] for c in everybody["changes"]} == {"key"}
    assert everybody["exit_code"] == 4
    for number, code in ((2, 4), (3, 4), (4, 4), (7, 0)):  # GPU1 and GPU5 have a key in common
        document = asked(run, shelf, "diff", "well", "leak", "--partition", str(number))
        assert document["exit_code"] == code, number


def test_what_contradicts_itself_shows_no_continuity(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "diff", "changed", "changed")
    assert (document["exit_code"], document["continuity"]) == (6, None)
    assert "BUNDLE-SIGNATURE" in document["before"]["broken"][0]
    assert asked(run, shelf, "diff", "later", "well")["exit_code"] == 6  # the wrong way round


# --- show -----------------------------------------------------------------------------------------


def drawing(text: str) -> list[str]:
    """The lines of the drawing: from the first box to the legend."""
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if "─ partition" in line or "+- p" in line)
    last = next(n for n, line in enumerate(lines) if "links found" in line)
    return lines[first:last]


def test_two_partitions_on_two_switches(run: Run, shelf: Path) -> None:
    text = call(run, shelf, "show", "well", COLUMNS="100").stdout
    assert drawing(text) == [
        "             ╭─ partition 2 ──────────────╮ ╭─ partition 3 ──────────────╮",
        "             │ GPU1   GPU2   GPU3   GPU4  │ │ GPU5   GPU6   GPU7   GPU8  │",
        "             ╰───┬──────┬──────┬──────┬───╯ ╰───┬──────┬──────┬──────┬───╯",
        "                9/9    9/9    9/9    9/9       9/9    9/9    9/9    9/9",
        "  NVSwitch1  ════╪══════╪══════╪══════╪═════════╪══════╪══════╪══════╪════",
        "                9/9    9/9    9/9    9/9       9/9    9/9    9/9    9/9",
        "  NVSwitch2  ════╧══════╧══════╧══════╧═════════╧══════╧══════╧══════╧════",
    ]
    assert "whole inside, closed to the outside" in text
    assert "Nothing is wrong" in text


def test_a_leak_is_marked_and_told_hop_by_hop(run: Run, shelf: Path) -> None:
    text = call(run, shelf, "show", "leak", COLUMNS="100").stdout
    top, names, _, first, _, second, _ = drawing(text)
    assert top.count("!") == 2
    assert "GPU1!" in names
    assert "GPU5!" in names
    assert names.count("!") == 2
    assert "!" not in first  # by NVSwitch2 alone
    assert second.split() == ["9/9!", "9/9", "9/9", "9/9"] * 2
    way = ["GPU5 link 0", "NVSwitch2 port 33", "NVSwitch2 port 2", "GPU1 link 0"]
    start = text.index("ROUTE-LEAK  GPU5 → GPU1")
    places = [text.index(f"hop {number}  {port}", start) for number, port in enumerate(way)]
    assert places == sorted(places)
    (leak,) = [
        r for r in asked(run, shelf, "show", "leak")["statement"]["routes"]
        if r["code"] == "ROUTE-LEAK" and r["where"] == "GPU5 → GPU1"
    ]  # fmt: skip
    assert [f"{port['node']} {port['port']}" for port in leak["path"]] == [
        "GPU5 0", "NVSwitch2 33", "NVSwitch2 2", "GPU1 0",
    ]  # fmt: skip


def test_four_switches_of_a_hopper_board(run: Run, shelf: Path) -> None:
    text = call(run, shelf, "show", "hopper").stdout
    assert "NVSwitch4" in text
    document = asked(run, shelf, "show", "hopper")["statement"]
    assert len(document["links"]) == 8 * 4
    assert sum(link["found"] for link in document["links"]) == 8 * 18
    assert all(link["found"] == link["cabled"] for link in document["links"])
    assert {p["id"] for p in document["partitions"] if p["closed"]} == {1, 2}


@pytest.mark.parametrize("width", [20, 60, 72, 100, 300])
@pytest.mark.parametrize(
    "name", ["well", "leak", "double", "many", "hopper", "stale", "a", "dumps"]
)
def test_every_width(run: Run, shelf: Path, name: str, width: int) -> None:
    text = call(run, shelf, "show", name, COLUMNS=str(width)).stdout
    assert max(map(len, text.splitlines())) <= max(width, 60)
    for number in range(1, 5):
        assert f"GPU{number}" in text


@pytest.mark.parametrize("name", ["leak", "a", "many"])
def test_ascii_says_the_same_in_the_same_places(run: Run, shelf: Path, name: str) -> None:
    text = call(run, shelf, "show", name).stdout
    plain = fit_encoding(text, "ascii")
    assert plain.isascii()
    pairs = zip(text.splitlines(), plain.splitlines(), strict=True)
    for line, other in pairs:
        if "│" in line or "═" in line:
            assert len(line) == len(other)
            assert "\\u" not in other


def test_colour_repeats_what_the_text_says(run: Run, shelf: Path) -> None:
    view = view_of(read_fabric_file(Inputs(), str(shelf / "leak")), None)
    colored = _page(view, Page(100, color=True)).text()
    plain = _page(view, Page(100)).text()
    assert "\x1b[36m" in colored
    assert "\x1b[35m" in colored
    assert "\x1b[1;31m GPU1! \x1b[0m" in colored
    assert re.sub("\x1b\\[[0-9;]*m", "", colored) == plain


def test_one_partition_alone(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "show", "stale", "--partition", "2")["statement"]
    assert [(p["id"], p["active"], p["closed"]) for p in document["partitions"]] == [
        (2, False, None)
    ]
    text = call(run, shelf, "show", "stale", "--partition", "2").stdout
    assert "partition 2, inactive" in text
    assert "defined and not active" in text
    assert asked(run, shelf, "show", "leak", "--partition", "15")["statement"]["routes"] == []


def test_partitions_that_overlap(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "show", "double")["statement"]
    assert "ROUTE-OVERLAP" in {route["code"] for route in document["routes"]}
    assert "FABRIC-PARTITION-TABLE" in {problem["code"] for problem in document["problems"]}
    text = call(run, shelf, "show", "double").stdout
    assert "… ROUTE-PKEY at 29 more places" in text
    assert "ROUTE-OVERLAP  GPU1" in text


def test_what_a_guest_alone_sees_is_only_asserted(run: Run, shelf: Path) -> None:
    text = call(run, shelf, "show", "a").stdout
    assert "asserted by the host" in " ".join(text.split())
    assert "clique 2" in text
    assert text.count("18/18") == 8
    document = asked(run, shelf, "show", "a")
    assert document["statement"] is None
    assert [gpu["module"] for gpu in document["guest"]] == [1, 2, 3, 4]


def test_a_node_with_a_statement_finds_its_own_partition(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "show", "b-stated")
    assert [p["id"] for p in document["statement"]["partitions"] if p["this_node"]] == [3]
    text = call(run, shelf, "show", "b-stated").stdout
    assert "─ partition 3, this node ─" in text
    (line,) = [line for line in text.splitlines() if line.startswith("  guest sees")]
    assert line.split() == ["guest", "sees", *["18/18"] * 4]


def test_tables_without_facts_are_drawn(run: Run, shelf: Path, tmp_path: Path) -> None:
    few = dumps(tmp_path / "few", (shelf / "well").read_bytes(), "fm-partitions")
    text = run("fabric", "show", str(few)).stdout
    assert "Cables are not stated" in text
    assert "partition 2" in text
    cables = dumps(tmp_path / "cables", (shelf / "well").read_bytes(), "nvlsm-subnet")
    text = run("fabric", "show", str(cables)).stdout
    assert "partitions not stated" in text
    assert text.count("9/9") == 2 * 8 + 1


def test_a_missing_cable_is_counted(run: Run, shelf: Path, tmp_path: Path) -> None:
    folder = dumps(tmp_path / "cut", (shelf / "well").read_bytes())
    lines = (folder / "nvlsm-subnet").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not (b"simulated GPU3}" in line and b"PN:01" in line)]
    assert len(kept) < len(lines)
    (folder / "nvlsm-subnet").write_bytes(b"".join(kept))
    document = json.loads(run("fabric", "show", str(folder), "--format", "json").stdout)
    short = [link for link in document["statement"]["links"] if link["found"] != link["cabled"]]
    assert short
    assert all(link["gpu"] == "GPU3" for link in short)
    assert "8/9!" in run("fabric", "show", str(folder)).stdout


# --- tenants --------------------------------------------------------------------------------------


def test_two_tenants_are_apart(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "tenants", "a", "b", "--fabric-statement", "well")
    assert (document["exit_code"], document["separation"]) == (0, "disjoint")
    assert [one["partition"] for one in document["tenants"]] == [2, 3]
    assert [len(one["gpus"]) for one in document["tenants"]] == [4, 4]
    text = call(run, shelf, "tenants", "a", "b", "--fabric-statement", "well").stdout
    assert text.startswith("DISJOINT")
    assert "Run `ccverify check` on each bundle" in text


def test_the_statement_may_be_in_the_bundles(run: Run, shelf: Path) -> None:
    assert asked(run, shelf, "tenants", "a-stated", "b")["exit_code"] == 0
    document = asked(run, shelf, "tenants", "a-stated", "b-stated")
    assert document["exit_code"] == 0
    assert document["statement"]["bound_by"] == ["tdx"]


def test_a_leak_joins_two_tenants(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "tenants", "a", "b", "--fabric-statement", "leak")
    assert (document["exit_code"], document["separation"]) == (4, "overlap")
    assert {overlap["code"] for overlap in document["overlaps"]} == {"TENANTS-ROUTE"}
    text = call(run, shelf, "tenants", "a", "b", "--fabric-statement", "leak").stdout
    start = text.index("TENANTS-ROUTE  GPU5 → GPU1")
    way = ["GPU5 link 0", "NVSwitch2 port 33", "NVSwitch2 port 2", "GPU1 link 0"]
    places = [text.index(f"hop {number}  {port}", start) for number, port in enumerate(way)]
    assert places == sorted(places)


def test_one_gpu_in_two_bundles(run: Run, shelf: Path) -> None:
    document = asked(run, shelf, "tenants", "a", "a-stated")
    assert document["exit_code"] == 4
    codes = [overlap["code"] for overlap in document["overlaps"]]
    assert codes.count("TENANTS-GPU") == codes.count("TENANTS-MODULE") == 4
    assert "TENANTS-PARTITION" in codes


@pytest.mark.parametrize(
    ("words", "subject"),
    [
        (("a", "b"), "routes"),
        (("a", "far", "--fabric-statement", "well"), "fabric"),
        (("a", "b", "--fabric-statement", "stale"), "partitions"),
        (("a", "b", "--fabric-statement", "changed"), "routes"),
    ],
)
def test_what_is_not_known_is_not_proven(
    run: Run, shelf: Path, words: tuple[str, ...], subject: str
) -> None:
    document = asked(run, shelf, "tenants", *words)
    assert (document["exit_code"], document["separation"]) == (6, "not-provable")
    assert document["overlaps"] == []
    assert subject in {gap["subject"] for gap in document["gaps"]}


# --- inspect --------------------------------------------------------------------------------------


def inspected(run: Run, path: Path) -> tuple[Json, str]:
    shown = run("inspect", str(path))
    assert shown.exit_code == 0
    assert shown.stdout.replace("\n", "").isprintable()
    document: Json = json.loads(run("inspect", str(path), "--format", "json").stdout)
    assert document["verified"] is False
    return document, shown.stdout


def test_inspect_shows_a_statement(run: Run, shelf: Path) -> None:
    document, text = inspected(run, shelf / "well")
    assert document["kind"] == "fabric-statement"
    digest = call(run, shelf, "digest", "well").stdout.strip()
    assert document["statement"]["routing_digest"] == digest
    assert [program["name"] for program in document["programs"]] == ["fabric-manager", "nvlsm"]
    assert document["manager_config"]["PARTITION_RAIL_POLICY"] == "symmetric"
    assert [p["id"] for p in document["partitions"] if p["active"]] == ["2", "3"]
    assert [one["by"] for one in document["key_bound_by"]] == ["TDX quote"]
    assert document["manifest"]["nonce"] == NONCE.hex()
    assert "UNVERIFIED" in text
    assert "Nobody verified who made the statement" in " ".join(text.split())


def test_inspect_shows_a_statement_within_a_bundle(run: Run, shelf: Path) -> None:
    document, _ = inspected(run, shelf / "a-stated")
    assert document["kind"] == "bundle"
    (inner,) = document["fabric_statements"]
    alone, _ = inspected(run, shelf / "well")
    for member in ("statement", "programs", "partitions", "key_bound_by", "manifest"):
        assert inner[member] == alone[member]
    assert len(document["nodes"][0]["gpus"]) == 4
    assert "fabric_statements" not in inspected(run, shelf / "a")[0]


def test_inspect_shows_measurements(run: Run, shelf: Path) -> None:
    document, text = inspected(run, shelf / "probed")
    assert document["fabric_probe"]["pairs"] == len(document["fabric_probe_pairs"]) == 4 * 3
    assert all(pair["one_way"] > 1e9 for pair in document["fabric_probe_pairs"])
    assert "GB/s" in text


def test_inspect_says_who_bound_the_key_and_that_nobody_looked(run: Run, shelf: Path) -> None:
    document, text = inspected(run, shelf / "bound")
    bound = {one["by"]: one["who"] for one in document["key_bound_by"]}
    assert bound.keys() == {"TPM quote", "operator's signature"}
    assert bound["TPM quote"].startswith("attestation key ")
    assert "operator" in bound["operator's signature"].lower()
    assert "What binds the statement's key, unverified" in text
    document, text = inspected(run, shelf / "unsigned")
    assert document["key_bound_by"] == []
    assert "Nothing does: anybody may have made it." in text
    assert asked(run, shelf, "show", "bound")["statement"]["bound_by"] == ["tpm", "x509"]
    assert "nothing: it is unsigned" in call(run, shelf, "show", "unsigned").stdout


# --- hostile --------------------------------------------------------------------------------------

LABELS = ("fm-partitions", "nvlsm-subnet", "nvlsm-lfts", "nvlsm-mcfdbs", "nvlsm-guid2lid",
          "nvlsm-pkeys", "fm-config")  # fmt: skip


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    label=st.sampled_from(LABELS),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.binary(max_size=12)), min_size=1, max_size=4),
)
def test_damaged_dumps_are_shown_or_refused(
    run: Run, shelf: Path, tmp_path: Path, label: str, edits: list[tuple[float, bytes]]
) -> None:
    folder = tmp_path / "damaged"
    if not folder.exists():
        dumps(folder, (shelf / "well").read_bytes())
    whole = (shelf / "dumps" / label).read_bytes()
    data = bytearray(whole)
    for place, put in edits:
        at = int(place * len(data))
        data[at : at + len(put)] = put
    (folder / label).write_bytes(data)
    for command in ("digest", "show"):
        result = call(run, shelf, command, str(folder))
        assert result.exit_code in (0, 2, 6)
        assert "\x1b" not in result.output
    assert call(run, shelf, "diff", "dumps", str(folder)).exit_code in (2, 4, 6)
    words = ("tenants", "a", "b", "--fabric-statement", str(folder))
    assert call(run, shelf, *words).exit_code in (2, 4, 6)
    (folder / label).write_bytes(whole)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.floats(0, 0.999), put=st.binary(min_size=1, max_size=8))
def test_damaged_bundles_are_shown_or_refused(
    run: Run, shelf: Path, tmp_path: Path, place: float, put: bytes
) -> None:
    for name in ("well", "a-stated"):
        whole = (shelf / name).read_bytes()
        at = int(place * len(whole))
        path = tmp_path / name
        path.write_bytes(whole[:at] + put + whole[at + len(put) :])
        same = path.read_bytes() == whole
        assert run("fabric", "show", str(path)).exit_code in (0, 2)
        assert run("inspect", str(path)).exit_code in (0, 2)
        # Nothing is called unchanged that its own signature does not hold for.
        if name == "well":
            codes = (0,) if same else (2, 4, 6)
            assert call(run, shelf, "diff", name, str(path)).exit_code in codes


def test_a_table_of_too_many_partitions_is_drawn_in_part(
    run: Run, shelf: Path, tmp_path: Path
) -> None:
    folder = dumps(tmp_path / "many", (shelf / "well").read_bytes())
    gpu = {"uuid": "", "pciBusId": "", "numNvLinksAvailable": 18, "maxNumNvLinks": 18,
           "nvlinkLineRateMBps": 1}  # fmt: skip
    listed = [
        {"partitionId": number * 60_000_000, "isActive": 1, "numGpus": 16,
         "gpuInfo": [{"physicalId": (number * 3 + at) % 256, **gpu} for at in range(16)]}
        for number in range(64)
    ]  # fmt: skip
    table = {"version": 1, "numPartitions": 64, "maxNumPartitions": 64, "partitionInfo": listed}
    (folder / "fm-partitions").write_text(json.dumps(table))
    text = call(run, shelf, "show", str(folder)).stdout
    assert "48 further partitions are not drawn" in text
    assert len(text.splitlines()) < 600
    assert "further cases that are not listed" in text


def test_cables_of_no_known_board(run: Run, tmp_path: Path) -> None:
    fabric = SimFabric.two_level([SimTenant("a", (1, 2, 3, 4))], gpus=16, rails=2, down=8, spines=2)
    (tmp_path / "nvlsm-subnet").write_bytes(subnet_list(fabric))
    (tmp_path / "nvlsm-lfts").write_bytes(linear_dump(fabric))
    text = run("fabric", "show", str(tmp_path)).stdout
    assert "unknown board: 16 devices, 8 switches" in text
    assert "those of no known board" in text
    assert run("fabric", "digest", str(tmp_path)).exit_code == 0


def test_a_rail_policy_that_some_tenants_cannot_have_is_told(
    run: Run, shelf: Path, tmp_path: Path
) -> None:
    """Whether a tenant's GPUs sign MPT no statement says; `check` judges that."""
    (tmp_path / "greedy").write_bytes(host_statement(f"{BOARD}@rail-policy"))
    shown = call(run, tmp_path, "show", "greedy").stdout
    assert "PARTITION_RAIL_POLICY: greedy; a tenant whose GPUs sign MPT needs symmetric" in shown
    assert "PARTITION_RAIL_POLICY" not in call(run, shelf, "show", "well").stdout
