"""Advice on devices, topology, binding and gateways: each weakness named once, and alone."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

import ccverify
from ccverify.cli.policy_advice import advise
from ccverify.cli.policy_remark import Advice, Level
from ccverify.policy.model import MUST_STATE

Json = dict[str, Any]
IDS = [f"{number:016x}" for number in range(1, 9)]
CARE: Json = {"revocation_max_age_days": 7}
STRICT: Json = {
    "tdx": {
        "measurements": {name: ["ab" * 48] for name in MUST_STATE},
        "collateral": {"max_age_days": 7},
        "tcb": {"min_evaluation_number": 17},
        "platform": {"ppid": ["11" * 16]},
    },
    "gpus": {
        **CARE,
        "count": 8,
        "architectures": ["HOPPER"],
        "modes": ["PPCIE"],
        "driver": {"min": "550.90.07"},
        "vbios": {"min": "96.00.9F.00.01"},
        "device_ids": IDS,
    },
    "nvswitches": {
        **CARE,
        "count": 4,
        "architectures": ["LS10"],
        "bios": {"min": "96.10.55.00.01"},
        "device_ids": IDS[:4],
    },
    "topology": {"kind": "protected-pcie", "gpus": 8, "switches": 4},
    "gateway": {"tdx": {}},
}
STRICT["gateway"]["tdx"] = deepcopy(STRICT["tdx"])


def remarks(document: Json) -> list[Advice]:
    return advise(ccverify.policy_from_document({"schema": "ccverify.policy/v1", **document}))


def changed(path: str, value: Any) -> Json:
    """The strict policy with one member set, or left out where the value is None."""
    document = deepcopy(STRICT)
    target = document
    *steps, last = path.split(".")
    for step in steps:
        target = target[step]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return document


def test_a_strict_node_has_no_advice() -> None:
    assert remarks(STRICT) == []


WEAKENS: list[tuple[str, Any, str]] = [
    ("gpus.count", "any", "gpus.count: any"),
    ("gpus.architectures", "any", "gpus.architectures: any"),
    ("gpus.modes", "any", "gpus.modes: any"),
    ("gpus.modes", ["PPCIE", "NOT_STATED"], "gpus.modes: NOT_STATED"),
    ("gpus.fwid", "if-reported", "gpus.fwid: if-reported"),
    ("gpus.rim", "any", "gpus.rim: any"),
    ("gpus.rim_expired_signer", "allow", "gpus.rim_expired_signer: allow"),
    ("gpus.revocation", "if-given", "gpus.revocation: if-given"),
    ("gpus.revocation", "any", "gpus.revocation: any"),
    ("gpus.certificate_hold", "allow", "gpus.certificate_hold: allow"),
    ("gpus.revocation_max_age_days", 31, "gpus.revocation_max_age_days: 31"),
    ("nvswitches.count", "any", "nvswitches.count: any"),
    ("nvswitches.architectures", "any", "nvswitches.architectures: any"),
    ("nvswitches.rim", "any", "nvswitches.rim: any"),
    ("nvswitches.revocation", "any", "nvswitches.revocation: any"),
    ("topology", "any", "topology: any"),
    ("topology.mixed_firmware", "allow", "topology.mixed_firmware: allow"),
    ("topology.mixed_driver", "allow", "topology.mixed_driver: allow"),
    ("binding", {"freshness": "waived"}, "binding.freshness: waived"),
    ("binding", {"relayable": "accept"}, "binding.relayable: accept"),
    ("tdx", "any", "tdx: any"),
    ("gateway.tdx", "any", "gateway.tdx: any"),
    ("gateway.tdx.attributes", {"debug": "allow"}, "gateway.tdx.attributes.debug: allow"),
    ("gateway.binding", {"freshness": "waived"}, "gateway.binding.freshness: waived"),
]
CONSIDER: list[tuple[str, Any, str]] = [
    ("gpus.revocation_max_age_days", None, "gpus.revocation_max_age_days"),
    ("gpus.driver", None, "gpus.driver"),
    ("gpus.driver", {"rejected": ["575.32"]}, "gpus.driver"),
    ("gpus.driver", {"accepted": ["575.32"]}, "gpus.driver.accepted: one version"),
    ("gpus.vbios", None, "gpus.vbios"),
    (
        "gpus.architectures",
        ["HOPPER", "BLACKWELL-GB100"],
        "gpus.vbios.min with several architectures",
    ),
    ("nvswitches.bios", None, "nvswitches.bios"),
    ("tdx", None, "tdx"),
]
UNMEETABLE: list[tuple[str, Any, str]] = [
    ("gpus.count", None, "gpus: nothing on count"),
    ("gpus.architectures", None, "gpus: nothing on architectures"),
    ("gpus.modes", None, "gpus: nothing on modes"),
    ("nvswitches.count", None, "nvswitches: nothing on count"),
    ("nvswitches.fwid", "required", "nvswitches.fwid: required"),
    ("topology", None, "topology: nothing, with nvswitches"),
    (
        "nvswitches.device_ids",
        None,
        "binding.relayable: refuse without nvswitches.device_ids",
    ),
]
EACH = [
    (level, *case)
    for level, cases in (
        (Level.WEAKENS, WEAKENS),
        (Level.CONSIDER, CONSIDER),
        (Level.UNMEETABLE, UNMEETABLE),
    )
    for case in cases
]


@pytest.mark.parametrize(("level", "path", "value", "where"), EACH, ids=lambda item: str(item)[:50])
def test_each_weakness_is_named_once_and_alone(
    level: Level, path: str, value: Any, where: str
) -> None:
    (remark,) = remarks(changed(path, value))
    assert (remark.level, remark.where) == (level, where)
    for text in (remark.why, remark.instead):
        assert text.endswith(".")
        assert len(text) > 15


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nvswitches.architectures", None),
        ("gpus.modes", ["PPCIE", "SPT"]),
        ("gpus.count", {"min": 1, "max": 8}),
        ("gpus.driver", {"accepted": ["575.32", "580.95.05"]}),
        ("binding", {"profiles": ["near"]}),
        ("gateway", None),
    ],
)
def test_what_gives_nothing_up_gets_no_advice(path: str, value: Any) -> None:
    assert remarks(changed(path, value)) == []


def test_switches_that_are_not_judged_leave_the_topology_open() -> None:
    document = changed("topology", "any") | {"nvswitches": "any"}
    assert {remark.where for remark in remarks(document)} == {"nvswitches: any", "topology: any"}


def test_any_gpu_is_named_with_what_follows_from_it() -> None:
    document = changed("topology", "any") | {"gpus": "any"}
    assert {remark.where for remark in remarks(document)} == {"gpus: any", "topology: any"}


def test_gpus_alone_are_only_advised_to_name_devices_and_software() -> None:
    gpus = {key: value for key, value in STRICT["gpus"].items() if key != "device_ids"}
    document = {"gpus": {**gpus, "modes": ["SPT"], "count": 1}}
    assert [(remark.level, remark.where) for remark in remarks(document)] == [
        (Level.CONSIDER, "tdx"),
        (Level.CONSIDER, "gpus.device_ids"),
    ]


@pytest.mark.parametrize(
    ("modes", "where", "level"),
    [
        (["PPCIE"], "topology: nothing, with gpus.modes: PPCIE", Level.UNMEETABLE),
        (["PPCIE", "SPT"], "topology: nothing, with PPCIE among gpus.modes", Level.CONSIDER),
        (["SPT"], None, None),
    ],
)
def test_protected_pcie_asks_for_a_topology(
    modes: list[str], where: str | None, level: Level | None
) -> None:
    found = remarks({"tdx": STRICT["tdx"], "gpus": {**STRICT["gpus"], "modes": modes}})
    assert [(remark.level, remark.where) for remark in found] == ([(level, where)] if where else [])


@pytest.mark.parametrize("named", ["ppid", "platform_instance_id"])
def test_relaying_is_answered_by_lists_of_machines_and_devices_only(named: str) -> None:
    document = deepcopy(STRICT)
    document["tdx"]["platform"] = {named: ["11" * 16]}
    assert remarks(document) == []
    document["tdx"]["platform"] = {"fmspc": ["b0c06f000000"]}
    del document["gpus"]["device_ids"]
    gravest = remarks(document)[0]
    assert gravest.level is Level.UNMEETABLE
    for name in ("gpus.device_ids", "tdx.platform.ppid"):
        assert name in gravest.where
    document["binding"] = {"relayable": "accept"}
    assert all(remark.level is not Level.UNMEETABLE for remark in remarks(document))


def test_the_gravest_comes_first() -> None:
    document = changed("gpus.count", None)
    document["gpus"]["rim"] = "any"
    del document["gpus"]["driver"]
    levels = [remark.level for remark in remarks(document)]
    assert levels == [Level.UNMEETABLE, Level.WEAKENS, Level.CONSIDER]
