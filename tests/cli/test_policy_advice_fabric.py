"""Advice on the fabric: each weakness named once, and floors that no evidence can reach."""

from __future__ import annotations

from typing import Any

import pytest

from ccverify import policy_from_document
from ccverify.cli.policy_advice import advise
from ccverify.cli.policy_remark import Level


def remarks(fabric: Any = None, modes: Any = ("MPT",)) -> dict[str, Level]:
    document: dict[str, Any] = {
        "schema": "ccverify.policy/v1",
        "gpus": {"count": 2, "architectures": ["BLACKWELL"], "modes": list(modes)},
    }
    if fabric is not None:
        document["fabric"] = fabric
    found = advise(policy_from_document(document))
    return {one.where: one.level for one in found if one.where.startswith("fabric")}


SILENT = "fabric: nothing, with MPT among gpus.modes"


def test_silence_is_named_where_it_matters() -> None:
    assert remarks() == {SILENT: Level.UNMEETABLE}
    assert remarks(modes=("MPT", "SPT")) == {SILENT: Level.CONSIDER}
    assert remarks(modes=("SPT",)) == {}
    assert remarks("any") == {"fabric: any": Level.WEAKENS}
    assert remarks({"mode": "MPT"}) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("observation", "if-given"), ("observation", "any"), ("state", "any"), ("health", "any"),
     ("links", "any"), ("nvle", "any")],
)  # fmt: skip
def test_every_waiver_is_named(key: str, value: str) -> None:
    assert remarks({key: value}) == {f"fabric.{key}: {value}": Level.WEAKENS}


@pytest.mark.parametrize(
    ("claim", "best"),
    [("mode", "hardware"), ("members", "asserted"), ("encryption_in_force", "measured"),
     ("links", "measured"), ("isolation", None), ("manager", None)],
)  # fmt: skip
def test_floors_out_of_reach_are_named(claim: str, best: str | None) -> None:
    order = ["asserted", "manager", "measured", "hardware"]
    for place, floor in enumerate(order):
        beyond = best is None or place > order.index(best)
        expected = {f"fabric.assurance.{claim}: {floor}": Level.UNMEETABLE} if beyond else {}
        assert remarks({"assurance": {claim: floor}}) == expected
