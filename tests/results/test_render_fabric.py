"""The fabric of a verdict as text: what each claim rests on, and what its level means."""

from __future__ import annotations

from typing import Any

import pytest

from ccverify.policy.model import FABRIC_CLAIMS
from ccverify.results.render.fabric import add_fabric
from ccverify.results.render.text import Page

Json = dict[str, Any]
DIGEST = "b27469a20b69327d" + "5a" * 40
PROGRAM = {
    "name": "fabric-manager",
    "version": "595.58.03",
    "running": True,
    "sha384": DIGEST,
    "started": "2026-05-26T12:00:42Z",
}
REGISTRATION = {
    "gpus": 4,
    "cluster_uuids": ["ab" * 16],
    "clique_ids": [2],
    "states": ["completed"],
    "registered": True,
}
MANAGER = {
    "statement_sha384": DIGEST,
    "bound_by": ["tdx"],
    "identity": {"tdx": {"mrtd": DIGEST, "rtmr2": "00" * 48}},
    "collector": "ccverify 0.1.0",
    "programs": [PROGRAM],
}
CONFIGURATION = {"fabric_mode": 1, "rail_policy": "symmetric", "settings": {"LOG_LEVEL": "4"}}
ROUTING = {
    "digest": DIGEST,
    "switches": 2,
    "board": "HGX B200/B300",
    "keys_from": "nvlsm-pkeys",
    "evaluated": True,
}
ISOLATION: Json = {"closed": True, "problems": [], "reached_from": [], "reaches": []}
PROBE = {
    "gpus": 4,
    "pairs": 12,
    "pairs_that_reach": 12,
    "one_way_bytes_per_s": [390_000_000_000, 392_400_000_000],
    "both_ways_bytes_per_s": [765_000_000_000, 765_000_000_000],
    "copy_ns": [2190, 2310],
    "read_ns": [840, 845],
}
VALUES: Json = {
    "driver_report": {"sha384": DIGEST, "driver": "595.58.03", "gpus": 4, "byte_order": "little"},
    "mode": "MPT",
    "members": ["00000000000000A1", "00000000000000A2"],
    "partition": {"id": 2, "active": True, "modules": [1, 2, 3, 4], "gpus": 4},
    "registration": REGISTRATION,
    "encryption_in_force": True,
    "health": {"stated_by": 4, "summaries": ["healthy"], "faults": []},
    "links": [{"gpu": f"gpu-{n}", "up": 18} for n in range(4)],
    "manager": MANAGER,
    "manager_configuration": CONFIGURATION,
    "routing": ROUTING,
    "isolation": ISOLATION,
    "liveness": {"statements": 1, "made": ["2026-06-15T12:00:00Z"]},
    "probe": PROBE,
}
LEVELS = {
    "mode": "hardware",
    "registration": "asserted",
    "health": "asserted",
} | dict.fromkeys(("driver_report", "encryption_in_force", "links", "probe"), "measured")


def claims(stated: str = "manager", **values: Any) -> Json:
    return {
        name: {"value": value, "assurance": LEVELS.get(name, stated) if value else "none"}
        for name, value in (VALUES | values).items()
    }


def shown(width: int = 110, color: bool = False, **given: Any) -> str:
    page = Page(width, color=color)
    add_fabric(page, claims(**given))
    return page.text()


def row(title: str, text: str) -> list[str]:
    """Level and lines of one row."""
    lines = text.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(f"  {title}  "))
    found = [lines[at][23:]]
    for line in lines[at + 1 :]:
        if line[:33].strip():
            break
        found.append(line.strip())
    level, _, first = found[0].partition("  ")
    return [level.strip(), first.strip(), *found[1:]]


EVERYTHING = """\
Fabric
                       rests on  value
  driver's report      measured  driver 595.58.03, 4 GPUs, PDIs in byte order little
  mode                 hardware  MPT
  members              manager   2 attested GPUs: 00000000000000A1, 00000000000000A2
  partition            manager   id 2, active, modules 1, 2, 3, 4
  registration         asserted  4 GPUs, registered (completed), clique 2, cluster
                                 abababababababababababababababab
  encryption in force  measured  yes
  health               asserted  healthy: no fault
  NVLinks              measured  18 up on each of 4 GPUs
  manager              manager   bound by the TDX quote of its own machine
                                 tdx: MRTD b27469a20b69327d…, RTMR2 zero (48 bytes)
                                 fabric-manager 595.58.03, since 2026-05-26T12:00:42Z, SHA-384
                                   b27469a20b69327d…
  configuration        manager   FABRIC_MODE 1 (shared NVSwitch), rail policy symmetric, 1 settings
  routing              manager   HGX B200/B300, 2 switches, digest b27469a20b69327d…, keys from
                                 nvlsm-pkeys
  isolation            manager   closed: nobody outside reaches it, and it reaches nobody
  liveness             manager   one statement, of 2026-06-15T12:00:00Z
  measurements         measured  12 of 12 ordered pairs reach each other
                                 390 to 392 GB/s one way
                                 765 GB/s both ways
                                 2.2 to 2.3 µs for a small copy
                                 840 to 845 ns for a read
  manager: a service VM whose quote and software the policy accepts says so.
  asserted: somebody says so whom nothing identifies, and nothing proves it.
  No GPU signs who shares its fabric.
"""


def test_everything_on_one_page() -> None:
    assert shown(100).lstrip("\n") == EVERYTHING


def test_every_claim_has_a_row() -> None:
    lines = shown(stated="none", **dict.fromkeys(VALUES)).strip().splitlines()[2:]
    assert len(lines) == len(FABRIC_CLAIMS) + 1
    assert all(line.endswith("none      not known: no evidence says") for line in lines)


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("manager", "a service VM whose quote"),
        ("host", "its administrator can say anything"),
        ("operator", "a promise, and no measurement"),
        ("asserted", "nothing proves it"),
    ],
)
def test_a_level_says_what_it_means(level: str, words: str) -> None:
    text = shown(stated=level, registration=None, health=None)
    notes = [line for line in text.splitlines() if words in line]
    assert len(notes) == 1
    assert notes[0].startswith(f"  {level}: ")
    assert text.count("No GPU signs") == 1


def test_hardware_and_measured_need_no_note() -> None:
    values = {name: value for name, value in VALUES.items() if LEVELS.get(name) == "measured"}
    page = Page(100, color=False)
    add_fabric(page, {name: {"value": v, "assurance": "measured"} for name, v in values.items()})
    assert "No GPU signs" not in page.text()


def test_a_manager_is_shown_by_who_bound_it() -> None:
    tpm = {"attestation_key": "000b" + "5a" * 32, "reset_count": 7}
    x509 = {"subject": "CN=Managers", "key_sha256": "ab" * 32}
    for bound, identity, expected in (
        (["tpm"], {"tpm": tpm}, ["bound by the TPM of its host",
                                 "tpm: attestation key 000b5a5a5a5a5a5a…, boot 7"]),
        (["x509"], {"x509": x509}, ["bound by the operator's key",
                                    "x509: CN=Managers, key abababababababab…"]),
        ([], {}, ["unsigned: anybody may have stated this"]),
    ):  # fmt: skip
        text = shown(manager=MANAGER | {"bound_by": bound, "identity": identity})
        assert row("manager", text)[1 : 1 + len(expected)] == expected
    both = MANAGER | {"bound_by": ["tdx", "x509"], "identity": {}}
    assert "machine and the operator's key" in row("manager", shown(manager=both))[1]


def test_a_program_that_does_not_run() -> None:
    stopped = PROGRAM | {"running": False, "sha384": None, "started": None, "version": None}
    text = shown(manager=MANAGER | {"programs": [stopped]})
    assert row("manager", text)[-1] == "fabric-manager –, not running"


def test_isolation_that_is_refuted_names_the_others() -> None:
    many = [f"GPU{n}" for n in range(12)]
    leaking = {"closed": False, "problems": ["ROUTE-LEAK"], "reached_from": many, "reaches": []}
    assert row("isolation", shown(isolation=leaking)) == [
        "manager",
        "no: ROUTE-LEAK",
        "reached from GPU0, GPU1, GPU2, GPU3, GPU4, GPU5, GPU6, GPU7 and 4 more",
    ]
    open_ = ISOLATION | {"closed": False, "reaches": ["GPU5"]}
    assert row("isolation", shown(isolation=open_))[1:] == ["not proven closed", "reaches GPU5"]


def test_other_words() -> None:
    two = {"statements": 2, "made": ["2026-06-15T12:00:00Z", "2026-06-15T12:05:00Z"]}
    assert row("liveness", shown(liveness=two))[1] == (
        "2 statements, from 2026-06-15T12:00:00Z to 2026-06-15T12:05:00Z"
    )
    bare = {"fabric_mode": None, "rail_policy": None, "settings": {}}
    assert row("configuration", shown(manager_configuration=bare))[1] == (
        "FABRIC_MODE not set, rail policy not set, 0 settings"
    )
    plain = ROUTING | {"board": None, "keys_from": None, "evaluated": False}
    assert row("routing", shown(routing=plain))[1] == (
        "2 switches, digest b27469a20b69327d…, no keys stated, not evaluated"
    )
    assert row("partition", shown(partition=REGISTRATION))[1].startswith("4 GPUs, registered")
    few = dict.fromkeys(PROBE) | {"gpus": 2, "pairs": 2, "pairs_that_reach": 0}
    assert row("measurements", shown(probe=few))[1:] == ["0 of 2 ordered pairs reach each other"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_page(width: int) -> None:
    assert max(map(len, shown(width).splitlines())) <= width


def test_colour_changes_nothing_but_colour() -> None:
    text = shown(color=True)
    assert "\x1b[" in text
    assert text.count("asserted: ") == 1
