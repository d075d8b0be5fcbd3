"""Advice on the fabric: each weakness named once, and floors that no evidence can reach."""

from __future__ import annotations

from typing import Any

import pytest

from ccverify import policy_from_document
from ccverify.cli.policy_advice import advise
from ccverify.cli.policy_remark import Level
from ccverify.policy.model import FABRIC_CLAIMS, MUST_STATE
from ccverify.sim.certs import to_pem
from ccverify.sim.operator import SimOperator

PEM = to_pem(SimOperator().root().der(), "CERTIFICATE")
TDX = {"measurements": {name: ["ab" * 48] for name in MUST_STATE}}
TPM = {"names": ["000b" + "5a" * 32], "pcrs": {"sha256": {"0": ["5a" * 32]}}}
X509 = {"roots": [PEM]}
UNMEETABLE, WEAKENS, CONSIDER = Level.UNMEETABLE, Level.WEAKENS, Level.CONSIDER


def remarks(fabric: Any = None, modes: Any = ("MPT",)) -> dict[str, Level]:
    document: dict[str, Any] = {
        "schema": "ccverify.policy/v1",
        "gpus": {"count": 2, "architectures": ["BLACKWELL"], "modes": list(modes)},
    }
    if fabric is not None:
        document["fabric"] = fabric
    found = [
        one for one in advise(policy_from_document(document)) if one.where.startswith("fabric")
    ]
    assert len({one.where for one in found}) == len(found)
    for one in found:
        assert one.why.endswith("."), one
        assert one.instead.endswith("."), one
    return {one.where: one.level for one in found}


SILENT = "fabric: nothing, with MPT among gpus.modes"
STATEMENT = {"fabric.statement": CONSIDER}


def test_silence_is_named_where_it_matters() -> None:
    assert remarks() == {SILENT: UNMEETABLE}
    assert remarks(modes=("MPT", "SPT")) == {SILENT: CONSIDER}
    assert remarks(modes=("SPT",)) == {}
    assert remarks("any") == {"fabric: any": WEAKENS}
    assert remarks({"mode": "MPT"}) == STATEMENT
    assert remarks({"mode": "SPT"}, modes=("SPT", "MPT")) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("observation", "if-given"), ("observation", "any"), ("state", "any"), ("health", "any"),
     ("links", "any"), ("nvle", "any"), ("routing", "any"), ("continuity", "any"),
     ("same_host", "any"), ("probe", "any")],
)  # fmt: skip
def test_every_waiver_is_named(key: str, value: str) -> None:
    assert remarks({key: value}) == STATEMENT | {f"fabric.{key}: {value}": WEAKENS}


def test_waivers_inside_are_named_too() -> None:
    assert remarks({"statement": "any"}) == {"fabric.statement: any": WEAKENS}
    assert remarks({"manager": {"log": "any"}}) == STATEMENT | {"fabric.manager.log: any": WEAKENS}
    for key in ("access", "traffic"):
        where = f"fabric.probe.{key}: any"
        assert remarks({"probe": {key: "any"}}) == STATEMENT | {where: WEAKENS}
    unsigned = {"fabric.managers.unsigned: accept": WEAKENS}
    assert remarks({"managers": {"unsigned": "accept"}}) == STATEMENT | unsigned


def test_a_required_statement_needs_somebody_to_make_it() -> None:
    hints = {"fabric.routing": CONSIDER, "fabric.continuity": CONSIDER}
    own = {"statement": "required"}
    assert remarks(own) == hints | {"fabric.managers": CONSIDER}
    assert remarks(own | {"managers": {"tdx": [TDX]}}) == hints
    both = {"routing": "required", "continuity": "required", "managers": {"x509": [X509]}}
    assert remarks(own | both) == {}
    nobody = {"managers": {"unsigned": "refuse"}}
    assert remarks(own | nobody) == hints | {"fabric.managers: nobody": UNMEETABLE}


def test_a_service_vm_of_any_software_is_named() -> None:
    anything = {"measurements": dict.fromkeys(MUST_STATE, "any")}
    found = remarks({"managers": {"tdx": [TDX, anything, {}]}})
    silent = f"nothing on {', '.join(MUST_STATE)}"
    assert found == STATEMENT | {
        f"fabric.managers.tdx[1].measurements: any for {', '.join(MUST_STATE)}": WEAKENS,
        f"fabric.managers.tdx[2].measurements: {silent}": UNMEETABLE,
    }


# Who may state → the level of what a statement alone says.
NAMED: dict[str, tuple[dict[str, Any], str | None]] = {
    "tdx": ({"managers": {"tdx": [TDX], "tpm": [TPM], "unsigned": "accept"}}, "manager"),
    "tpm": ({"managers": {"tpm": [TPM], "x509": [X509]}}, "host"),
    "x509": ({"managers": {"x509": [X509]}}, "operator"),
    "unsigned": ({"managers": {"unsigned": "accept"}}, "asserted"),
    "silent": ({}, "asserted"),
    "nobody": ({"managers": {"unsigned": "refuse"}}, None),
    "aside": ({"statement": "any"}, None),
}
ORDER = ["asserted", "operator", "host", "manager", "measured", "hardware"]
GUEST = {
    "mode": "hardware",
    "registration": "asserted",
    "encryption_in_force": "measured",
    "health": "asserted",
    "links": "measured",
    "probe": "measured",
}


@pytest.mark.parametrize("who", NAMED)
@pytest.mark.parametrize("claim", FABRIC_CLAIMS)
def test_floors_out_of_reach_are_named(claim: str, who: str) -> None:
    section, stated = NAMED[who]
    best = GUEST.get(claim, stated)
    if best is None and claim in ("members", "partition"):
        best = "asserted"
    for place, floor in enumerate(ORDER):
        beyond = best is None or place > ORDER.index(best)
        found = remarks(section | {"assurance": {claim: floor}})
        where = f"fabric.assurance.{claim}: {floor}"
        assert (found.get(where) is UNMEETABLE) is beyond, (floor, best)


@pytest.mark.parametrize("claim", FABRIC_CLAIMS)
def test_what_is_not_looked_at_reaches_no_floor(claim: str) -> None:
    own = NAMED["tdx"][0] | {"observation": "any", "probe": "any"}
    found = remarks(own | {"assurance": {claim: "asserted"}})
    alone = ("mode", "manager", "manager_configuration", "routing", "liveness")
    assert (f"fabric.assurance.{claim}: asserted" in found) is (claim not in alone)
