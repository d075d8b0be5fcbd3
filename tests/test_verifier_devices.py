"""The real Protected PCIe node is trusted, and every way of changing it is refused by name."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.judging_devices import (
    OFFLINE,
    REAL_NONCE,
    STRICT,
    against,
    failed_codes,
    judge,
    one,
    open_codes,
    real_node,
    rules,
)
from vectors.nvidia_evidence import FILES, from_file

import ccverify
from ccverify import State, TrustKind, TrustStore, Verdict
from ccverify.evidence import DeviceEvidence, Evidence, NodeRole, OtherCpuEvidence
from ccverify.findings import Assurance
from ccverify.policy.model import ANY, Policy, TopologyPolicy
from ccverify.sim import SimPlatform

Change = Callable[[Evidence], Evidence]
FAIL, OPEN = State.FAIL, State.NOT_CHECKED


@pytest.fixture(scope="module")
def node(vectors: Path) -> Evidence:
    return real_node(vectors)


@pytest.fixture(scope="module")
def strangers(vectors: Path) -> dict[str, DeviceEvidence]:
    """Genuine devices of other machines."""
    found = {"HOPPER": FILES[5], "BLACKWELL": FILES[0], "LS10": FILES[7], "OLD": FILES[3]}
    assert [row.claimed for row in found.values()] == ["HOPPER", "BLACKWELL", "LS10", "HOPPER"]
    return {name: from_file(vectors, row).device for name, row in found.items()}


def refused(verdict: Verdict, *codes: str, exit_code: int = 3) -> None:
    """The verdict is untrusted, for exactly these failures."""
    assert verdict.conclusion.value == "untrusted"
    assert failed_codes(verdict) == set(codes)
    assert verdict.exit_code == exit_code


# --- as it is ------------------------------------------------------------------------------------


def test_the_genuine_node_is_trusted(node: Evidence) -> None:
    verdict = judge(node, rules(OFFLINE))
    assert (verdict.conclusion.value, verdict.exit_code) == ("trusted", 0)
    assert not verdict.simulated
    assert verdict.failures() == ()
    assert len(verdict.gpus) == 8
    assert len(verdict.nvswitches) == 4
    assert verdict.tdx is None
    for claims in (*verdict.gpus, *verdict.nvswitches):
        assert claims.level is Assurance.HARDWARE
        assert claims.values["nonce"] == REAL_NONCE.hex()
        assert claims.assurance["device_id"] is Assurance.HARDWARE
        assert claims.assurance["measurements"] is Assurance.NONE
    assert {claims.values["driver"] for claims in verdict.gpus} == {"590.12"}
    assert {claims.values["mode"] for claims in verdict.gpus} == {"PPCIE"}
    assert sorted(claims.values["position"] for claims in verdict.nvswitches) == [0, 1, 2, 3]
    ids = {claims.values["device_id"] for claims in verdict.gpus}
    for claims in verdict.nvswitches:
        assert set(claims.values["gpu_pdis"]) == ids
    assert verdict.topology is not None
    assert verdict.topology["closed"] is True
    assert set(verdict.topology["assurance"].values()) == {"hardware"}
    assert verdict.binding is not None
    assert verdict.binding["fresh"] is True
    topology = [f for f in verdict.findings if f.code.startswith("TOPOLOGY-")]
    assert {(f.state, f.assurance, f.subject) for f in topology} == {
        (State.PASS, Assurance.HARDWARE, "topology")
    }
    assert len(topology) == 13


def test_the_strict_policy_misses_its_collateral_and_nothing_else(node: Evidence) -> None:
    verdict = judge(node, rules(STRICT))
    assert (verdict.conclusion.value, verdict.exit_code) == ("incomplete", 5)
    names = ("RIM", "RIM-SIGNATURE", "RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS")
    expected = {
        (f"{prefix}-{name}", f"{label}-{number}"): OPEN
        for prefix, label, count in (("GPU", "gpu", 8), ("NVSWITCH", "nvswitch", 4))
        for number in range(count)
        for name in (*names, "REVOCATION", "REVOCATION-FRESH")
    }
    assert against(verdict) == expected
    missing = one(verdict, "GPU-RIM", "gpu-0").found or ""
    assert "NV_GPU_DRIVER_GH100_590.12: no such RIM" in missing
    assert "_9600A50001: no such RIM" in missing
    # A level says who signed, and revocation, which is part of that, is not known.
    assert {claims.level for claims in verdict.gpus} == {Assurance.NONE}
    values = verdict.gpus[0].values["measurements"]
    assert (values["matched"], values["total"], values["rims"]) == (None, None, [])
    assert len(values["rims_needed"]) == 2


def test_only_what_is_waived_is_waived(node: Evidence) -> None:
    """Either waiver alone leaves the other open."""
    for section, other in (("rim", "REVOCATION"), ("revocation", "RIM")):
        word = {"rim": "any", "revocation": "if-given"}[section]
        policy = rules(STRICT, gpus={section: word}, nvswitches={section: word})
        verdict = judge(node, policy)
        assert verdict.exit_code == 5
        assert any(code.endswith(other) for code in open_codes(verdict))
        waived = {"rim": ("RIM", "RIM-SIGNATURE", "RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS"),
                  "revocation": ("REVOCATION", "REVOCATION-FRESH")}[section]  # fmt: skip
        assert not {code.partition("-")[2] for code in open_codes(verdict)} & set(waived)


def test_the_verdict_says_whose_roots_were_used(node: Evidence) -> None:
    found = one(judge(node, rules(OFFLINE)), "TRUST-ROOTS").found or ""
    assert found.startswith("production: ")
    assert found.count("NVIDIA") == 2


# --- devices exchanged, missing, foreign ---------------------------------------------------------


def gpus(change: Callable[[tuple[DeviceEvidence, ...]], tuple[DeviceEvidence, ...]]) -> Change:
    return lambda node: replace(node, gpus=change(node.gpus))


def switches(change: Callable[[tuple[DeviceEvidence, ...]], tuple[DeviceEvidence, ...]]) -> Change:
    return lambda node: replace(node, switches=change(node.switches))


def _chain_of_the_next(devices: tuple[DeviceEvidence, ...]) -> tuple[DeviceEvidence, ...]:
    first, second, *rest = devices
    return (replace(first, certificate_chain=second.certificate_chain), second, *rest)


def _swapped_chains(devices: tuple[DeviceEvidence, ...]) -> tuple[DeviceEvidence, ...]:
    first, second, *rest = devices
    return (
        replace(first, certificate_chain=second.certificate_chain),
        replace(second, certificate_chain=first.certificate_chain),
        *rest,
    )


REARRANGED: dict[str, tuple[Change, set[str], int]] = {
    "one GPU eight times": (
        gpus(lambda all_: all_[:1] * 8),
        {"GPU-COUNT", "DEVICES-DISTINCT", "TOPOLOGY-COUNT", "TOPOLOGY-DUPLICATE-GPU",
         "TOPOLOGY-GPU-LIST"}, 3,
    ),
    "one GPU twice in place of another": (
        gpus(lambda all_: (*all_[:7], all_[0])),
        {"GPU-COUNT", "DEVICES-DISTINCT", "TOPOLOGY-COUNT", "TOPOLOGY-DUPLICATE-GPU",
         "TOPOLOGY-GPU-LIST"}, 3,
    ),
    "one GPU twice besides": (
        gpus(lambda all_: (*all_, all_[0])),
        {"GPU-COUNT", "DEVICES-DISTINCT", "TOPOLOGY-DUPLICATE-GPU"}, 3,
    ),
    "one switch four times": (
        switches(lambda all_: all_[:1] * 4),
        {"NVSWITCH-COUNT", "DEVICES-DISTINCT", "TOPOLOGY-COUNT", "TOPOLOGY-DUPLICATE-SWITCH",
         "TOPOLOGY-SWITCH-LIST"}, 3,
    ),
    "one switch twice in place of another": (
        switches(lambda all_: (*all_[:3], all_[0])),
        {"NVSWITCH-COUNT", "DEVICES-DISTINCT", "TOPOLOGY-COUNT", "TOPOLOGY-DUPLICATE-SWITCH",
         "TOPOLOGY-SWITCH-LIST"}, 3,
    ),
    # The report of A with the chain of B: signed by nobody's key, so it is no device at all.
    "a GPU with the chain of the next": (
        gpus(_chain_of_the_next),
        {"GPU-REPORT-SIGNATURE", "GPU-COUNT", "DEVICES-DISTINCT", "TOPOLOGY-COUNT",
         "TOPOLOGY-GPU-LIST"}, 3,
    ),
    "two GPUs with each other's chains": (
        gpus(_swapped_chains),
        {"GPU-REPORT-SIGNATURE", "GPU-COUNT", "TOPOLOGY-COUNT", "TOPOLOGY-GPU-LIST"}, 3,
    ),
    "two switches with each other's chains": (
        switches(_swapped_chains),
        {"NVSWITCH-REPORT-SIGNATURE", "NVSWITCH-COUNT", "TOPOLOGY-COUNT",
         "TOPOLOGY-SWITCH-LIST"}, 3,
    ),
    "a GPU is missing": (
        gpus(lambda all_: all_[1:]),
        {"GPU-COUNT", "TOPOLOGY-COUNT", "TOPOLOGY-GPU-LIST"}, 3,
    ),
    "a switch is missing": (
        switches(lambda all_: all_[:3]),
        {"NVSWITCH-COUNT", "TOPOLOGY-COUNT", "TOPOLOGY-SWITCH-LIST"}, 3,
    ),
    "no GPUs": (
        gpus(lambda all_: ()),
        {"NODE-CLASSES", "TOPOLOGY-COUNT", "TOPOLOGY-GPU-LIST"}, 3,
    ),
    "no switches": (
        switches(lambda all_: ()),
        {"NODE-CLASSES", "TOPOLOGY-COUNT", "TOPOLOGY-SWITCH-LIST"}, 3,
    ),
    "a GPU among the switches": (
        lambda node: replace(node, switches=(*node.switches[:3], node.gpus[0])),
        {"NVSWITCH-REPORT-FORMAT", "NVSWITCH-IDENTITY", "NVSWITCH-COUNT", "DEVICES-DISTINCT",
         "TOPOLOGY-COUNT", "TOPOLOGY-SWITCH-LIST"}, 2,
    ),
    "a switch among the GPUs": (
        lambda node: replace(node, gpus=(*node.gpus[:7], node.switches[0])),
        {"GPU-REPORT-FORMAT", "GPU-IDENTITY", "GPU-COUNT", "DEVICES-DISTINCT", "TOPOLOGY-COUNT",
         "TOPOLOGY-GPU-LIST"}, 2,
    ),
    "GPUs and switches exchanged": (
        lambda node: replace(node, gpus=node.switches, switches=node.gpus),
        {"GPU-REPORT-FORMAT", "GPU-IDENTITY", "GPU-COUNT", "NVSWITCH-REPORT-FORMAT",
         "NVSWITCH-IDENTITY", "NVSWITCH-COUNT", "TOPOLOGY-COUNT"}, 2,
    ),
    "a GPU's report with a switch's chain": (
        lambda node: replace(node, gpus=(
            *node.gpus[:7],
            replace(node.gpus[7], certificate_chain=node.switches[0].certificate_chain),
        )),
        {"GPU-IDENTITY", "GPU-REPORT-SIGNATURE", "GPU-ARCHITECTURE-CLAIM", "GPU-COUNT",
         "DEVICES-DISTINCT", "TOPOLOGY-COUNT", "TOPOLOGY-GPU-LIST"}, 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REARRANGED)
def test_a_rearranged_node(node: Evidence, name: str) -> None:
    change, codes, exit_code = REARRANGED[name]
    refused(judge(change(node), rules(OFFLINE)), *codes, exit_code=exit_code)


@pytest.mark.parametrize("name", REARRANGED)
def test_distinctness_and_counts_need_no_topology(node: Evidence, name: str) -> None:
    """Where the wiring is knowingly not judged, copies and absences still are."""
    change, codes, _ = REARRANGED[name]
    verdict = judge(change(node), rules(OFFLINE, topology="any"))
    assert failed_codes(verdict) == {code for code in codes if not code.startswith("TOPOLOGY")}


@pytest.mark.parametrize(
    ("stranger", "more"),
    [
        ("HOPPER", {"GPU-NONCE", "GPU-MODE", "TOPOLOGY-MIXED-MODE", "TOPOLOGY-SWITCH-LIST",
                    "TOPOLOGY-MIXED-FIRMWARE", "TOPOLOGY-MIXED-DRIVER"}),
        ("BLACKWELL", {"GPU-NONCE", "GPU-MODE", "GPU-ARCHITECTURE", "TOPOLOGY-MIXED-MODE",
                       "TOPOLOGY-SWITCH-LIST", "TOPOLOGY-MIXED-FIRMWARE",
                       "TOPOLOGY-MIXED-DRIVER"}),
    ],
)  # fmt: skip
def test_a_foreign_gpu(
    node: Evidence, strangers: dict[str, DeviceEvidence], stranger: str, more: set[str]
) -> None:
    changed = replace(node, gpus=(*node.gpus[:7], strangers[stranger]))
    verdict = judge(changed, rules(OFFLINE))
    refused(verdict, "TOPOLOGY-GPU-LIST", *more)
    assert one(verdict, "GPU-COUNT").state is State.PASS  # genuine it is
    about = {f.subject for f in verdict.failures() if f.code.startswith("GPU-")}
    assert about == {"gpu-7"}
    found = one(verdict, "TOPOLOGY-GPU-LIST", "topology").found or ""
    missing, foreign = (
        str(claims.values["device_id"])
        for claims in (judge(node, rules(OFFLINE)).gpus[7], verdict.gpus[7])
    )
    assert f"{missing} did not attest" in found
    assert f"{foreign} is missing" in found


def test_a_foreign_switch(node: Evidence, strangers: dict[str, DeviceEvidence]) -> None:
    changed = replace(node, switches=(*node.switches[:3], strangers["LS10"]))
    verdict = judge(changed, rules(OFFLINE))
    assert {"TOPOLOGY-SWITCH-LIST", "TOPOLOGY-GPU-LIST", "TOPOLOGY-MIXED-FIRMWARE"} <= failed_codes(
        verdict
    )
    assert against(verdict)["NVSWITCH-NONCE", "nvswitch-3"] is FAIL
    assert one(verdict, "NVSWITCH-COUNT").state is State.PASS


def test_the_order_of_devices_changes_subjects_alone(node: Evidence) -> None:
    straight = judge(node, rules(OFFLINE))
    turned = judge(
        replace(node, gpus=node.gpus[::-1], switches=node.switches[::-1]), rules(OFFLINE)
    )
    assert turned.trusted
    without = [
        sorted(f._replace(subject=None) for f in verdict.findings) for verdict in (straight, turned)
    ]
    assert without[0] == without[1]
    for name in ("gpus", "nvswitches"):
        first, second = (getattr(verdict, name) for verdict in (straight, turned))
        assert [c.values for c in first] == [c.values for c in second[::-1]]


# --- bits ----------------------------------------------------------------------------------------


def _flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def _with(node: Evidence, kind: str, devices: tuple[DeviceEvidence, ...]) -> Evidence:
    return replace(node, gpus=devices) if kind == "gpus" else replace(node, switches=devices)


def _opaque_at(device: DeviceEvidence) -> int:
    """Offset of the first opaque field."""
    return 37 + 8 + int.from_bytes(device.report[42:45], "little") + 32 + 2


# Part of the report → offset of a byte in it, and the check that fails.
BITS: dict[str, tuple[Callable[[DeviceEvidence], int], str]] = {
    "request version": (lambda d: 0, "REPORT-FORMAT"),
    "request code": (lambda d: 1, "REPORT-FORMAT"),
    "first of the nonce": (lambda d: 4, "REPORT-SIGNATURE"),
    "last of the nonce": (lambda d: 35, "REPORT-SIGNATURE"),
    "response code": (lambda d: 38, "REPORT-FORMAT"),
    "number of blocks": (lambda d: 41, "REPORT-FORMAT"),
    "a block's index": (lambda d: 45, "REPORT-FORMAT"),
    "first measurement": (lambda d: 45 + 7, "REPORT-SIGNATURE"),
    "a later measurement": (lambda d: 45 + 55 * 20 + 7, "REPORT-SIGNATURE"),
    "responder nonce": (lambda d: _opaque_at(d) - 34, "REPORT-SIGNATURE"),
    "length of opaque data": (lambda d: _opaque_at(d) - 2, "REPORT-FORMAT"),
    "last of opaque data": (lambda d: len(d.report) - 97, ""),
    "first of the signature": (lambda d: len(d.report) - 96, "REPORT-SIGNATURE"),
    "last of the signature": (lambda d: len(d.report) - 1, "REPORT-SIGNATURE"),
}


@pytest.mark.parametrize("kind", ["gpus", "switches"])
@pytest.mark.parametrize("part", BITS)
def test_a_flipped_bit_of_a_report(node: Evidence, part: str, kind: str) -> None:
    place, name = BITS[part]
    first, *rest = getattr(node, kind)
    report = _flipped(first.report, place(first))
    verdict = judge(_with(node, kind, (replace(first, report=report), *rest)), rules(OFFLINE))
    prefix, subject = {"gpus": ("GPU", "gpu-0"), "switches": ("NVSWITCH", "nvswitch-0")}[kind]
    own = {code for (code, about), state in against(verdict).items() if about == subject
           and state is FAIL}  # fmt: skip
    expected = {f"{prefix}-{name}"} if name else own & {
        f"{prefix}-REPORT-FORMAT", f"{prefix}-REPORT-SIGNATURE"
    }  # fmt: skip
    if part.endswith("of the nonce"):
        expected = expected | {f"{prefix}-NONCE"}
    assert own == expected
    assert own
    assert verdict.exit_code == (2 if f"{prefix}-REPORT-FORMAT" in own else 3)
    assert f"{prefix}-COUNT" in failed_codes(verdict)
    claims = {**{c.subject: c for c in verdict.gpus}, **{c.subject: c for c in verdict.nvswitches}}
    assert claims[subject].level is Assurance.NONE
    assert set(claims[subject].assurance.values()) == {Assurance.NONE}


@given(st.data())
@settings(max_examples=60)
def test_no_bit_of_a_report_is_without_meaning(vectors: Path, data: st.DataObject) -> None:
    node = real_node(vectors)
    kind = data.draw(st.sampled_from(["gpus", "switches"]))
    first, *rest = getattr(node, kind)
    at = data.draw(st.integers(0, len(first.report) - 1))
    report = _flipped(first.report, at, data.draw(st.integers(0, 7)))
    verdict = judge(_with(node, kind, (replace(first, report=report), *rest)), rules(OFFLINE))
    assert verdict.exit_code in (2, 3)


def _ders(pem: bytes) -> list[bytes]:
    blocks = pem.split(b"-----BEGIN CERTIFICATE-----")[1:]
    return [base64.b64decode(block.partition(b"-----END")[0]) for block in blocks]


def _pem(ders: list[bytes]) -> bytes:
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
        for der in ders
    )


Rearranged = Callable[[list[bytes]], list[bytes]]


def _with_chain(node: Evidence, kind: str, change: Rearranged) -> Evidence:
    first, *rest = getattr(node, kind)
    chain = _pem(change(_ders(first.certificate_chain)))
    return _with(node, kind, (replace(first, certificate_chain=chain), *rest))


def test_encoding_a_chain_again_changes_nothing(node: Evidence) -> None:
    """The control to the tests below."""
    for kind in ("gpus", "switches"):
        assert judge(_with_chain(node, kind, lambda ders: ders), rules(OFFLINE)).trusted


QUOTE = SimPlatform().evidence().quote_bytes
"""A well-formed quote; who made it does not matter where nobody judges it."""


@given(st.data())
@settings(max_examples=60)
def test_no_bit_of_a_chain_is_without_meaning(vectors: Path, data: st.DataObject) -> None:
    node = real_node(vectors)
    kind = data.draw(st.sampled_from(["gpus", "switches"]))
    number = data.draw(st.integers(0, 4))

    def change(ders: list[bytes]) -> list[bytes]:
        at = data.draw(st.integers(0, len(ders[number]) - 1))
        ders[number] = _flipped(ders[number], at, data.draw(st.integers(0, 7)))
        return ders

    verdict = judge(_with_chain(node, kind, change), rules(OFFLINE))
    assert verdict.exit_code == 3
    assert failed_codes(verdict) & {"GPU-CHAIN", "NVSWITCH-CHAIN"}


CHAINS: dict[str, tuple[Rearranged, set[str]]] = {
    "nothing": (lambda all_: [], {"CHAIN"}),
    "leaf alone": (lambda all_: all_[:1], {"CHAIN"}),
    "leaf left out": (lambda all_: all_[1:], {"CHAIN"}),
    "identity left out": (lambda all_: [all_[0], *all_[2:]], {"CHAIN"}),
    "CA left out": (lambda all_: [*all_[:3], all_[4]], {"CHAIN"}),
    "cut above the provisioner": (lambda all_: all_[:3], {"CHAIN"}),
    "the other way round": (lambda all_: all_[::-1], {"CHAIN"}),
    "two exchanged": (lambda all_: [all_[0], all_[2], all_[1], *all_[3:]], {"CHAIN"}),
    "leaf twice": (lambda all_: [all_[0], *all_], {"CHAIN"}),
    "root twice": (lambda all_: [*all_, all_[4]], {"CHAIN"}),
    "leaf again at the end": (lambda all_: [*all_, all_[0]], {"CHAIN"}),
    "root left out": (lambda all_: all_[:4], set()),  # it is pinned anyway
}


@pytest.mark.parametrize("kind", ["gpus", "switches"])
@pytest.mark.parametrize("name", CHAINS)
def test_chains_cut_and_extended(node: Evidence, name: str, kind: str) -> None:
    change, expected = CHAINS[name]
    verdict = judge(_with_chain(node, kind, change), rules(OFFLINE))
    prefix, subject = {"gpus": ("GPU", "gpu-0"), "switches": ("NVSWITCH", "nvswitch-0")}[kind]
    own = {code for (code, about), state in against(verdict).items() if about == subject
           and state is FAIL}  # fmt: skip
    assert own == {f"{prefix}-{code}" for code in expected}
    assert verdict.exit_code == (3 if expected else 0)


@pytest.mark.parametrize("pem", [b"", b"no PEM", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\nAA"])
def test_what_is_no_chain(node: Evidence, pem: bytes) -> None:
    changed = replace(node, gpus=(replace(node.gpus[0], certificate_chain=pem), *node.gpus[1:]))
    verdict = judge(changed, rules(OFFLINE))
    ended = against(verdict)
    assert ended["GPU-CHAIN", "gpu-0"] is FAIL
    for name in ("CHAIN-VALIDITY", "IDENTITY", "REPORT-SIGNATURE", "ARCHITECTURE-CLAIM"):
        assert ended[f"GPU-{name}", "gpu-0"] is OPEN
    assert verdict.exit_code == 3


@pytest.mark.parametrize("report", [b"", b"\x11\xe0", b"garbage" * 1000])
def test_what_is_no_report(node: Evidence, report: bytes) -> None:
    changed = replace(node, gpus=(replace(node.gpus[0], report=report), *node.gpus[1:]))
    verdict = judge(changed, rules(OFFLINE))
    ended = against(verdict)
    assert ended["GPU-REPORT-FORMAT", "gpu-0"] is FAIL
    for name in ("REPORT-SIGNATURE", "ARCHITECTURE-CLAIM", "NONCE", "MODE", "FWID", "REVOCATION"):
        assert ended[f"GPU-{name}", "gpu-0"] is OPEN
    assert verdict.exit_code == 2


# --- nonce, clock, claims ------------------------------------------------------------------------


def test_another_nonce(node: Evidence) -> None:
    verdict = judge(node, rules(OFFLINE), nonce=_flipped(REAL_NONCE, 31))
    refused(verdict, "GPU-NONCE", "NVSWITCH-NONCE", "BIND-CONSISTENT")
    assert len(against(verdict)) == 13
    finding = one(verdict, "GPU-NONCE", "gpu-3")
    assert finding.found == REAL_NONCE.hex()
    assert finding.expected == _flipped(REAL_NONCE, 31).hex()
    assert finding.where == "report[4:36]"


def test_no_nonce(node: Evidence) -> None:
    verdict = judge(node, rules(OFFLINE), nonce=None)
    assert verdict.exit_code == 6
    assert open_codes(verdict) == {"GPU-NONCE", "NVSWITCH-NONCE", "BIND-FRESH"}
    assert failed_codes(verdict) == set()


def test_one_device_that_answers_another_request(
    node: Evidence, strangers: dict[str, DeviceEvidence]
) -> None:
    policy = rules(OFFLINE, gpus={"count": "any", "modes": "any"}, topology="any")
    verdict = judge(replace(node, gpus=(*node.gpus, strangers["HOPPER"])), policy)
    assert list(against(verdict)) == [("GPU-NONCE", "gpu-8")]


@pytest.mark.parametrize("size", [16, 31, 33, 64])
def test_a_nonce_that_no_device_report_can_hold(node: Evidence, size: int) -> None:
    verdict = judge(node, rules(OFFLINE), nonce=(REAL_NONCE * 2)[:size])
    assert not verdict.trusted
    assert {"GPU-NONCE", "NVSWITCH-NONCE"} <= open_codes(verdict)
    assert one(verdict, "GPU-NONCE", "gpu-0").state is OPEN


def test_before_the_certificates_time(node: Evidence) -> None:
    verdict = judge(node, rules(OFFLINE), now=datetime(2021, 1, 1, tzinfo=UTC))
    refused(verdict, "GPU-CHAIN-VALIDITY", "NVSWITCH-CHAIN-VALIDITY", exit_code=5)


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        ("BLACKWELL", "claims BLACKWELL"), ("LS10", "claims LS10"), ("ADA", "known are"),
        ("AMD", "known are"), ("MI300X", "known are"), ("", "known are"), ("hopper", "known are"),
        ("H\x1b[31m", "known are"),
    ],
)  # fmt: skip
def test_a_claimed_architecture_that_is_not_the_chains(
    node: Evidence, claimed: str, words: str
) -> None:
    """A28: the tag decides nothing, and a wrong one is told."""
    first, *rest = node.gpus
    changed = replace(node, gpus=(replace(first, claimed_architecture=claimed), *rest))
    verdict = judge(changed, rules(OFFLINE))
    refused(verdict, "GPU-ARCHITECTURE-CLAIM")
    finding = one(verdict, "GPU-ARCHITECTURE-CLAIM", "gpu-0")
    assert words in (finding.found or "")
    assert "\x1b" not in (finding.found or "")
    assert verdict.gpus[0].level is Assurance.NONE
    assert verdict.gpus[0].values["arch"] == "HOPPER"


def test_a_tag_is_not_needed(node: Evidence) -> None:
    bare = tuple(replace(each, claimed_architecture=None) for each in node.gpus)
    assert judge(replace(node, gpus=bare), rules(OFFLINE)).trusted


@pytest.mark.parametrize("member", ["claimed_nonce", "source"])
def test_what_the_sender_says_beside_a_report_decides_nothing(node: Evidence, member: str) -> None:
    others: dict[str, Any] = {"claimed_nonce": bytes(32), "source": "elsewhere"}
    changed = tuple(replace(each, **{member: others[member]}) for each in node.gpus)
    assert judge(replace(node, gpus=changed), rules(OFFLINE)).trusted


# --- the policy ----------------------------------------------------------------------------------

# Sections → what fails, exit code 4; what is left open, exit code 6; or nothing, 0.
POLICIES: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "count of GPUs too high": (
        {"gpus": {"count": {"min": 1, "max": 8}}, "topology": None, "nvswitches": "any"},
        set(), {"NODE-CLASSES"},
    ),
    "range of GPUs": ({"gpus": {"count": {"min": 2, "max": 8}}}, set(), set()),
    "range above": ({"gpus": {"count": {"min": 9, "max": 16}}, "topology": "any"},
                    {"GPU-COUNT"}, set()),
    "range below": ({"gpus": {"count": {"min": 1, "max": 7}}, "topology": "any"},
                    {"GPU-COUNT"}, set()),
    "seven GPUs asked": ({"gpus": {"count": 7}, "topology": "any"}, {"GPU-COUNT"}, set()),
    "three switches asked": ({"nvswitches": {"count": 3}, "topology": "any"},
                             {"NVSWITCH-COUNT"}, set()),
    "any count": ({"gpus": {"count": "any"}, "nvswitches": {"count": "any"}}, set(), set()),
    "silent count": ({"gpus": {"count": None}}, set(), {"GPU-COUNT"}),
    "silent switch count": ({"nvswitches": {"count": None}}, set(), {"NVSWITCH-COUNT"}),
    "topology of four GPUs": (
        {"gpus": {"count": "any"}, "topology": {"gpus": 4}}, {"TOPOLOGY-COUNT"}, set(),
    ),
    "topology of six switches": (
        {"nvswitches": {"count": "any"}, "topology": {"switches": 6}}, {"TOPOLOGY-COUNT"}, set(),
    ),
    "any topology": ({"topology": "any"}, set(), set()),
    "silent topology": ({"topology": None}, set(), {"NODE-CLASSES"}),
    "silent architectures": ({"gpus": {"architectures": None}}, set(), {"GPU-ARCHITECTURE"}),
    "switch architectures may be left out": ({"nvswitches": {"architectures": None}}, set(), set()),
    "any architecture": ({"gpus": {"architectures": "any"}}, set(), set()),
    "other architecture": (
        {"gpus": {"architectures": ["BLACKWELL"]}, "topology": "any"}, {"GPU-ARCHITECTURE"}, set(),
    ),
    "silent modes": ({"gpus": {"modes": None}}, set(), {"GPU-MODE"}),
    "any mode": ({"gpus": {"modes": "any"}}, set(), set()),
    "modes without PPCIE": (
        {"gpus": {"modes": ["SPT", "MPT", "NOT_STATED"]}, "topology": "any"}, {"GPU-MODE"}, set(),
    ),
    "GPUs knowingly left aside": (
        {"gpus": "any", "topology": "any"}, set(), set(),
    ),
    "switches knowingly left aside": (
        {"nvswitches": "any", "topology": "any"}, set(), set(),
    ),
    "policy silent about GPUs": (
        {"gpus": None, "topology": "any"}, set(), {"NODE-CLASSES"},
    ),
    "policy silent about switches": (
        {"nvswitches": None, "topology": "any"}, set(), {"NODE-CLASSES"},
    ),
    "a TD is asked for": (
        {"tdx": {"measurements": dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"),
                                               "any")}},
        {"NODE-CLASSES"}, set(),
    ),
    "TDX left aside": ({"tdx": "any"}, set(), set()),
    "FWID of switches required": ({"nvswitches": {"fwid": "required"}}, set(), {"NVSWITCH-FWID"}),
    "FWID of GPUs if reported": ({"gpus": {"fwid": "if-reported"}}, set(), set()),
    "driver minimum": ({"gpus": {"driver": {"min": "590.12"}}}, set(), set()),
    "older driver minimum": ({"gpus": {"driver": {"min": "570.172.08"}}}, set(), set()),
    "driver minimum above": ({"gpus": {"driver": {"min": "590.12.01"}}}, {"GPU-DRIVER"}, set()),
    "driver minimum of numbers": ({"gpus": {"driver": {"min": "590.9"}}}, set(), set()),
    "driver accepted": ({"gpus": {"driver": {"accepted": ["590.12", "595.10"]}}}, set(), set()),
    "driver not accepted": (
        {"gpus": {"driver": {"accepted": ["590.48.01"]}}}, {"GPU-DRIVER"}, set(),
    ),
    "driver rejected": ({"gpus": {"driver": {"rejected": ["590.12"]}}}, {"GPU-DRIVER"}, set()),
    "driver rejected in other words": (
        {"gpus": {"driver": {"rejected": ["590.012"]}}}, {"GPU-DRIVER"}, set(),
    ),
    "driver high enough and rejected": (
        {"gpus": {"driver": {"min": "570.86", "rejected": ["590.12"]}}}, {"GPU-DRIVER"}, set(),
    ),
    "other driver rejected": ({"gpus": {"driver": {"rejected": ["550.54.14"]}}}, set(), set()),
    "VBIOS minimum": ({"gpus": {"vbios": {"min": "96.00.A5.00.01"}}}, set(), set()),
    "VBIOS minimum in lower case": ({"gpus": {"vbios": {"min": "96.00.9f.00.01"}}}, set(), set()),
    "VBIOS minimum above": (
        {"gpus": {"vbios": {"min": "96.00.A5.00.02"}}}, {"GPU-VBIOS"}, set(),
    ),
    "VBIOS minimum of an older family": (
        {"gpus": {"vbios": {"min": "92.00.45.00.06"}}}, {"GPU-VBIOS"}, set(),
    ),
    "VBIOS minimum of a newer family": (
        {"gpus": {"vbios": {"min": "97.00.88.00.0F"}}}, {"GPU-VBIOS"}, set(),
    ),
    "VBIOS rejected": (
        {"gpus": {"vbios": {"rejected": ["96.00.a5.00.01"]}}}, {"GPU-VBIOS"}, set(),
    ),
    "VBIOS not accepted": (
        {"gpus": {"vbios": {"accepted": ["96.00.9F.00.01"]}}}, {"GPU-VBIOS"}, set(),
    ),
    "BIOS minimum": ({"nvswitches": {"bios": {"min": "96.10.73.00.01"}}}, set(), set()),
    "BIOS minimum above": (
        {"nvswitches": {"bios": {"min": "96.10.74.00.01"}}}, {"NVSWITCH-BIOS"}, set(),
    ),
    "BIOS rejected": (
        {"nvswitches": {"bios": {"rejected": ["96.10.73.00.01"]}}}, {"NVSWITCH-BIOS"}, set(),
    ),
    "other firmware ids": (
        {"gpus": {"firmware_ids": ["ab" * 48]}}, {"GPU-FIRMWARE-LIST"}, set(),
    ),
    "other switch firmware ids": (
        {"nvswitches": {"firmware_ids": ["ab" * 48]}}, {"NVSWITCH-FIRMWARE-LIST"}, set(),
    ),
    "other device ids": (
        {"gpus": {"device_ids": [f"{n:016x}" for n in range(1, 9)]}}, {"GPU-DEVICE-LIST"}, set(),
    ),
    "other switch ids": (
        {"nvswitches": {"device_ids": [f"{n:016x}" for n in range(1, 5)]}},
        {"NVSWITCH-DEVICE-LIST"}, set(),
    ),
    "revocation any": ({"gpus": {"revocation": "any"}}, set(), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_policies_for_the_genuine_node(node: Evidence, name: str) -> None:
    sections, failures, left_open = POLICIES[name]
    verdict = judge(node, rules(OFFLINE, **sections))
    assert failed_codes(verdict) == failures
    assert open_codes(verdict) == left_open
    assert verdict.exit_code == (4 if failures else 6 if left_open else 0)


@pytest.mark.parametrize("rule", ["if-given", "any"])
def test_the_rules_of_revocation_are_told(node: Evidence, rule: str) -> None:
    verdict = judge(node, rules(OFFLINE, gpus={"revocation": rule}))
    for name in ("REVOCATION", "REVOCATION-FRESH"):
        finding = one(verdict, f"GPU-{name}", "gpu-0")
        assert finding.state is State.NOT_APPLICABLE
        assert f"the policy asks `{rule}`" in (finding.found or "")
    assert "absent" in (one(verdict, "GPU-REVOCATION", "gpu-0").found or "")


@pytest.mark.parametrize(
    ("name", "member", "key", "code"),
    [
        ("gpus", "device_id", "device_ids", "GPU-DEVICE-LIST"),
        ("nvswitches", "device_id", "device_ids", "NVSWITCH-DEVICE-LIST"),
        ("gpus", "fwid", "firmware_ids", "GPU-FIRMWARE-LIST"),
        ("nvswitches", "fwid", "firmware_ids", "NVSWITCH-FIRMWARE-LIST"),
    ],
)
def test_allow_lists(node: Evidence, name: str, member: str, key: str, code: str) -> None:
    """What is listed passes; whatever is not fails by itself, however much else is listed."""
    values = [claims.values[member] for claims in getattr(judge(node, rules(OFFLINE)), name)]
    policy = rules(OFFLINE, **{name: {key: sorted(set(values))}})
    verdict = judge(node, policy)
    assert verdict.trusted
    passed = [f for f in verdict.findings if f.code == code]
    assert {(f.state, f.assurance) for f in passed} == {(State.PASS, Assurance.HARDWARE)}
    assert [f.found for f in passed] == [value.upper() for value in values]
    length = len(values[0])
    others = [f"{n:0{length}x}" for n in range(1, 9)]
    verdict = judge(
        node, rules(OFFLINE, **{name: {key: sorted({*others, *values[1:]} - {values[0]})}})
    )
    label = {"gpus": "gpu", "nvswitches": "nvswitch"}[name]
    off = {(code, f"{label}-{n}") for n, value in enumerate(values) if value == values[0]}
    assert against(verdict) == dict.fromkeys(off, FAIL)
    assert verdict.exit_code == 4


def test_modes_and_versions_of_a_report_that_states_none(vectors: Path) -> None:
    """NOT_STATED is a mode of its own: neither silence nor SPT accepts it, its name does."""
    (row,) = [row for row in FILES if "go-nvtrust" in row.report]
    device = from_file(vectors, row)
    evidence = Evidence(gpus=(device.device,))
    single = {"gpus": {"count": 1, "architectures": ["HOPPER"], "fwid": "if-reported",
                       "rim": "any", "revocation": "if-given"}}  # fmt: skip
    for modes, exit_code in (
        (["NOT_STATED"], 0), (["SPT", "NOT_STATED"], 0), ("any", 0), (["SPT"], 4), (["PPCIE"], 4),
        (["SPT", "MPT", "PPCIE"], 4), (None, 6),
    ):  # fmt: skip
        policy = rules(single, gpus={"modes": modes})
        verdict = judge(evidence, policy, nonce=device.nonce)
        assert verdict.exit_code == exit_code, modes
        assert {f.code for f in verdict.failures()} == ({"GPU-MODE"} if exit_code else set())
    # Required, the FWID that this driver does not report leaves the verdict open.
    verdict = judge(
        evidence, rules(single, gpus={"modes": "any", "fwid": "required"}), nonce=device.nonce
    )
    assert against(verdict) == {("GPU-FWID", "gpu-0"): OPEN}
    assert verdict.gpus[0].level is Assurance.NONE


# --- parts of a node -----------------------------------------------------------------------------


def test_what_no_policy_can_accept_is_told(node: Evidence) -> None:
    other = OtherCpuEvidence("sev-snp", b"report", "evidence")
    for policy in (rules(OFFLINE), rules(OFFLINE, tdx="any")):
        verdict = judge(replace(node, other_cpu=other), policy)
        assert against(verdict) == {("NODE-CLASSES", "other-cpu"): OPEN}
        assert verdict.exit_code == 6
        assert "sev-snp is not verified" in (one(verdict, "NODE-CLASSES", "other-cpu").found or "")


def test_another_cpus_evidence_alone_is_not_nothing() -> None:
    other = OtherCpuEvidence("sev-snp", b"report", "evidence")
    verdict = judge(Evidence(other_cpu=other), rules(OFFLINE))
    assert verdict.exit_code == 4
    assert failed_codes(verdict) == {"NODE-CLASSES"}


def test_a_quote_that_the_policy_does_not_mention(node: Evidence) -> None:
    verdict = judge(replace(node, quote=QUOTE), rules(OFFLINE))
    assert against(verdict) == {("NODE-CLASSES", "tdx"): OPEN}
    verdict = judge(replace(node, quote=QUOTE), rules(OFFLINE, tdx="any"))
    assert verdict.trusted  # knowingly left aside, as the finding says
    finding = one(verdict, "NODE-CLASSES", "tdx")
    assert finding.state is State.NOT_APPLICABLE
    assert "leaves it aside, knowingly" in (finding.found or "")
    assert verdict.tdx is None


def test_nothing_judged_is_never_trusted(node: Evidence) -> None:
    """However knowingly everything is left aside: nothing stands behind such a verdict."""
    policy = Policy(tdx=ANY, gpus=ANY, nvswitches=ANY, topology=ANY)
    verdict = judge(replace(node, quote=QUOTE), policy)
    assert against(verdict) == {("NODE-CLASSES", "node"): OPEN}
    assert verdict.exit_code == 6


def test_a_topology_of_devices_that_nobody_judges(node: Evidence) -> None:
    policy = Policy(tdx=None, gpus=ANY, nvswitches=ANY, topology=TopologyPolicy(8, 4))
    verdict = judge(node, policy)
    assert ("NODE-CLASSES", "topology") in against(verdict)
    assert verdict.exit_code == 4


def test_switches_or_the_mode_of_the_gpus_call_for_a_topology(node: Evidence) -> None:
    lenient = OFFLINE["gpus"], OFFLINE["nvswitches"]
    for evidence, policy, words in (
        (node, rules({"gpus": lenient[0], "nvswitches": lenient[1]}), "NVSwitches attested"),
        (replace(node, gpus=()), rules({"nvswitches": lenient[1]}), "NVSwitches attested"),
        (replace(node, switches=()), rules({"gpus": lenient[0]}), "Protected PCIe mode"),
    ):
        verdict = judge(evidence, policy)
        assert against(verdict) == {("NODE-CLASSES", "topology"): OPEN}
        assert words in (one(verdict, "NODE-CLASSES", "topology").found or "")
        assert verdict.exit_code == 6


# --- roles ---------------------------------------------------------------------------------------

_TDX = {"measurements": dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), "any")}


def test_a_node_is_no_gateway_because_it_says_so(node: Evidence) -> None:
    """The sender chooses the role: devices of a gateway are nobody's business, and told."""
    gateway = replace(node, role=NodeRole.GATEWAY)
    assert judge(gateway, rules(OFFLINE)).trusted  # without a section, like every other node
    verdict = judge(gateway, rules(OFFLINE, gateway={"tdx": _TDX}))
    assert verdict.exit_code == 4
    assert against(verdict) == {
        ("NODE-CLASSES", "tdx"): FAIL,
        ("NODE-CLASSES", "gpus"): OPEN,
        ("NODE-CLASSES", "nvswitches"): OPEN,
        ("NODE-CLASSES", "topology"): OPEN,
    }
    assert verdict.gpus == ()


def test_a_gateway_of_which_nothing_is_judged() -> None:
    gateway = Evidence(quote=QUOTE, role=NodeRole.GATEWAY)
    verdict = judge(gateway, rules(OFFLINE, gateway={"tdx": "any"}))
    assert against(verdict) == {("NODE-CLASSES", "node"): OPEN}
    assert verdict.exit_code == 6


def test_a_workload_is_not_judged_as_a_gateway(node: Evidence) -> None:
    policy = rules(OFFLINE, gateway={"tdx": "any"})
    assert judge(node, policy).trusted
    assert judge(replace(node, gpus=node.gpus[1:]), policy).exit_code == 3


# --- the same again ------------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_bytes(node: Evidence) -> None:
    broken = replace(node, gpus=_swapped_chains(node.gpus))
    for evidence in (node, broken):
        texts = {
            judge(evidence, rules(STRICT), trust=trust).dumps()
            for trust in (TrustStore.production(), TrustStore.production())
            for _ in range(2)
        }
        assert len(texts) == 1


def test_a_memory_of_genuine_signatures_helps_no_forgery(node: Evidence) -> None:
    trust = TrustStore.production()
    assert judge(node, rules(OFFLINE), trust=trust).trusted
    for change, codes, _ in REARRANGED.values():
        assert failed_codes(judge(change(node), rules(OFFLINE), trust=trust)) == codes
    assert judge(node, rules(OFFLINE), trust=trust).trusted


def test_the_record_names_everything_that_entered(node: Evidence) -> None:
    first, second = judge(node, rules(OFFLINE)), judge(node, rules(OFFLINE), nonce=None)
    assert len(first.inputs["gpus"]) == 8
    assert len(first.inputs["nvswitches"]) == 4
    assert len({each["report_sha384"] for each in first.inputs["gpus"]}) == 8
    assert (first.inputs["nonce"], second.inputs["nonce"]) == (REAL_NONCE.hex(), None)
    assert first.inputs["nvidia_collateral"]["used"] == []
    assert first.inputs["binding"]["suggested_profile"] == "raw-nonce"
    other = replace(node.binding, request_nonce=bytes(32))
    third = judge(replace(node, binding=other), rules(OFFLINE))
    assert third.inputs["binding"]["sha384"] != first.inputs["binding"]["sha384"]


def test_a_store_that_the_user_names_is_never_trusted(node: Evidence) -> None:
    """Even where it holds the pinned roots: only the pinned store is believed."""
    production = TrustStore.production()
    insecure = TrustStore(TrustKind.INSECURE, production.intel_root)
    verdict = judge(node, rules(OFFLINE), trust=insecure)
    refused(verdict, "TRUST-ROOTS")
    assert {finding.assurance for finding in verdict.findings} == {Assurance.NONE}
    assert {claims.level for claims in (*verdict.gpus, *verdict.nvswitches)} == {Assurance.NONE}
    assert verdict.topology is not None
    assert set(verdict.topology["assurance"].values()) == {"none"}


@pytest.mark.parametrize("section", [None, "any"])
def test_what_is_no_quote_is_malformed_whoever_judges_it(section: str | None) -> None:
    """A file that is nothing at all must not read as a quote that nobody asked about."""
    document = {
        "schema": "ccverify.policy/v1",
        "gpus": {"count": 1, "architectures": "any", "modes": "any"},
    } | ({"tdx": section} if section else {})
    verdict = ccverify.check(
        b"\x17" * 2000,
        policy=ccverify.policy_from_document(document),
        now=datetime(2026, 6, 1, tzinfo=UTC),
        nonce=bytes(32),
        collateral=ccverify.CollateralPack(),
        trust=ccverify.TrustStore.production(),
    )
    assert verdict.exit_code == 2
    assert "TDX-QUOTE-FORMAT" in {finding.code for finding in verdict.failures()}
