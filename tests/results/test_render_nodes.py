"""Verdicts of nodes with many devices, and of many nodes, as a person sees them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ccverify
from ccverify.checks import CHECKS
from ccverify.evidence import Evidence
from ccverify.findings import Assurance, Finding, State
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.results.render.failures import add_all_findings, add_failures
from ccverify.results.render.table import EXIT_MEANINGS, render_verdict, render_verdict_set
from ccverify.results.render.text import Page, fit_encoding
from ccverify.results.verdict import Conclusion, Verdict
from ccverify.results.verdict_set import VerdictSet

HGX = "nvidia/ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"
NONCE = bytes.fromhex("4760e30534a0621357d458b1a7936551b5dc4cd1e69718adf7ed9fb0252a537e")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
HOSTILE = "\x1b]0;owned\x07\u202e\n✓ TRUSTED"
WAIVED = {"rim": "any", "revocation": "any"}


@pytest.fixture(scope="module")
def node(vectors: Path) -> Evidence:
    """A real node of 8 GPUs and 4 switches, as two files of NVIDIA's tools hold it."""
    gpus, switches = (
        parse_foreign_evidence((vectors / HGX / f"{name}_evidence.json").read_bytes()).nodes[0]
        for name in ("gpu", "switch")
    )
    return replace(gpus, switches=switches.switches, label="hgx")


def judge(node: Evidence, nonce: bytes = NONCE, **gpus: Any) -> Verdict:
    section = {"count": 8, "architectures": ["HOPPER"], "modes": ["PPCIE"], **WAIVED, **gpus}
    document = {
        "schema": "ccverify.policy/v1",
        "name": "hgx",
        "gpus": section,
        "nvswitches": {"count": 4, **WAIVED},
        "topology": {"kind": "protected-pcie", "gpus": 8, "switches": 4},
    }
    return ccverify.check(
        node,
        policy=ccverify.policy_from_document(document),
        now=NOW,
        nonce=nonce,
        collateral=ccverify.CollateralPack(),
        trust=ccverify.TrustStore.production(),
    )


def part(text: str, heading: str) -> list[str]:
    """The lines from a heading to the next empty line."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(heading))
    end = next(at for at in range(start, len(lines)) if not lines[at])
    return lines[start + 1 : end]


# --- one node with many devices ------------------------------------------------------------------


def test_devices_are_rows(node: Evidence) -> None:
    verdict = judge(node)
    text = render_verdict(verdict, width=100)
    assert verdict.trusted
    head, *gpus = part(text, "GPUs (8)")
    assert head.split() == [
        *("id", "chip", "driver", "VBIOS", "mode", "measured", "device", "id", "own", "checks"),
    ]
    assert gpus[0].split() == [
        *("✓", "gpu-0", "GH100", "590.12", "96.00.A5.00.01", "PPCIE", "–", "2921CE551E4EEDA3"),
        "passed",
    ]
    assert [line.split()[1] for line in gpus] == [f"gpu-{n}" for n in range(8)]
    assert len(part(text, "NVSwitches (4)")) == 5
    assert "closed    yes" in text
    assert "rests on  hardware" in text
    assert f"{NONCE.hex()} (your own)" in text


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("nonce", [NONCE, bytes(32)])
def test_every_width_fits(node: Evidence, width: int, nonce: bytes) -> None:
    for verbose in (False, True):
        text = render_verdict(judge(node, nonce), width=width, verbose=verbose)
        assert all(len(line) <= width for line in text.splitlines())
        assert all(text.count(f"gpu-{n}  ") for n in range(8))
        plain = fit_encoding(text, "ascii")
        assert "\\u" not in plain
        assert len(plain.splitlines()) == len(text.splitlines())
    if width >= 80:
        assert len(part(text, "GPUs (8)")) >= 9


def test_what_is_wrong_with_all_devices_is_told_once(node: Evidence) -> None:
    verdict = judge(node, bytes(32), driver={"min": "600.00"})
    text = render_verdict(verdict, width=100)
    assert text.count("✗ GPU-NONCE") == text.count("✗ GPU-DRIVER") == 1
    lines = text.splitlines()
    start = lines.index("  ✗ GPU-NONCE  GPU report answers this request")
    assert lines[start + 1].split(maxsplit=1) == ["of", "gpu-0 … gpu-7"]
    assert lines[start + 2].split() == ["expected", "00" * 32]
    failed = [f for f in verdict.failures() if f.state is State.FAIL]
    codes = {finding.code for finding in failed}
    assert f"Failed ({len(codes)} checks, {len(failed)} findings)" in lines
    assert lines.index("GPUs (8)") > start, "failures come first"
    assert part(text, "GPUs (8)")[1].endswith("  2 ✗")


def test_a_row_that_nothing_stands_behind_says_so(node: Evidence) -> None:
    forged = bytearray(node.gpus[0].report)
    forged[-1] ^= 1
    gpus = (replace(node.gpus[0], report=bytes(forged)), *node.gpus[1:])
    text = render_verdict(judge(replace(node, gpus=gpus)), width=120)
    rows = part(text, "GPUs (8)")
    assert rows[1].startswith("  ✗  gpu-0")
    assert rows[1].endswith(", none")
    assert rows[2].endswith("  passed")
    assert rows[9].startswith("  none: nothing stands behind this row")
    assert "nothing stands behind this row" not in render_verdict(judge(node), width=120)


def test_what_differs_between_devices_is_told_of_each(node: Evidence) -> None:
    page = Page(100)
    findings = [
        Finding("GPU-VBIOS", State.FAIL, "at least 2", found, subject=f"gpu-{n}")
        for n, found in enumerate(("1", "1", "1", "0", HOSTILE))
    ]
    add_failures(page, findings)
    text = page.text()
    assert "Failed (1 check, 5 findings)" in text
    assert "    of          gpu-0 … gpu-4\n" in text
    assert "    found       gpu-0 … gpu-2: 1\n                gpu-3: 0\n" in text
    assert "gpu-4: \\x1b]0;owned" in text
    assert text.count("expected") == 1


def test_checks_missing_for_like_reasons_are_told_once(node: Evidence) -> None:
    verdict = judge(node, revocation="required")
    brief = render_verdict(verdict, width=100)
    assert verdict.exit_code in (5, 6)
    assert brief.count("the others are like it") == 1
    whole = render_verdict(verdict, width=100, verbose=True)
    assert "like it" not in whole
    listed = whole.split("Not checked")[1].split("All findings")[0]
    for gpu in verdict.gpus:
        assert gpu.values["device_id"] in listed


def test_reasons_of_other_kinds_are_not_thrown_together() -> None:
    page = Page(100)
    findings = [
        Finding("GPU-REVOCATION", State.NOT_CHECKED, found=f"{'ab' * 9}: {why}", subject=f"gpu-{n}")
        for n, why in enumerate(("absent", "stale", "absent"))
    ]
    add_failures(page, findings)
    text = page.text()
    assert f"{'ab' * 9}: absent" in text
    assert f"{'ab' * 9}: stale" in text
    assert re.search("of +gpu-0, gpu-2\n", text)
    assert re.search("of +gpu-1\n", text)


def test_what_is_wrong_between_devices_is_told_beside_their_rows(node: Evidence) -> None:
    verdict = judge(replace(node, gpus=(node.gpus[0],) * 8))
    text = render_verdict(verdict, width=100)
    assert verdict.exit_code == 3
    assert "All devices together: failed" in text
    for code in ("DEVICES-DISTINCT", "TOPOLOGY-DUPLICATE-GPU"):
        assert f"✗ {code}  " in text
    assert "closed    no" in text
    assert "    of          topology" not in text, "the code says so already"
    assert "All devices together" not in render_verdict(judge(node), width=100)


def test_verbose_shows_each_finding_once_for_all_it_is_about(node: Evidence) -> None:
    verdict = judge(node)
    text = render_verdict(verdict, width=140, verbose=True)
    assert all(finding.code in text for finding in verdict.findings)
    listed = text.split("\nAll findings")[1].split("\nGPUs (8)")[0]
    assert listed.count(" GPU-CHAIN ") == 1
    assert listed.count(" GPU-IDENTITY ") == 8
    assert "gpu-0 … gpu-7: PPCIE [hardware]" in listed


def test_the_json_has_what_the_table_has(node: Evidence) -> None:
    verdict = judge(node)
    claims = json.loads(verdict.dumps())["claims"]
    text = render_verdict(verdict, width=120)
    for device in (*claims["gpus"], *claims["nvswitches"]):
        assert device["device_id"] in text
        assert device["vbios"] in text


SUBJECTS = st.none() | st.sampled_from([f"gpu-{n}" for n in range(5)]) | st.text(max_size=20)


@settings(max_examples=80)
@given(
    st.lists(
        st.builds(
            Finding,
            st.sampled_from([check.code for check in CHECKS]),
            st.sampled_from(list(State)),
            st.none() | st.text(max_size=40),
            st.none() | st.text(max_size=40),
            st.none() | st.text(max_size=20),
            st.sampled_from(list(Assurance)),
            SUBJECTS,
        ),
        max_size=12,
    ),
    st.integers(60, 120),
    st.booleans(),
)
def test_no_finding_of_a_device_reaches_the_terminal_as_it_is(
    findings: list[Finding], width: int, verbose: bool
) -> None:
    page = Page(width)
    add_failures(page, sorted(findings, key=lambda f: f.state is not State.FAIL), verbose=verbose)
    add_all_findings(page, findings)
    for line in page.text().splitlines():
        assert line.isprintable()
        assert len(line) <= width
        assert not line.startswith(("✓", "✗"))
    for finding in findings:
        assert finding.code in page.text()


# --- many nodes ----------------------------------------------------------------------------------

TOGETHER = (
    Finding("SET-WORKLOAD", State.PASS, found="2 of 2 nodes"),
    Finding("SET-DISTINCT", State.PASS, found="2 nodes"),
)


def together(*verdicts: Verdict, **inputs: Any) -> VerdictSet:
    return VerdictSet.of(verdicts, TOGETHER, inputs)


def test_trusted_nodes_are_one_line_each(node: Evidence) -> None:
    verdict = judge(node)
    both = together(verdict, replace(verdict, label="other"))
    text = render_verdict_set(both, width=100)
    first, *_, last = text.splitlines()
    assert first == "✓ TRUSTED  2 nodes: 2 trusted"
    assert last == f"exit code 0: {EXIT_MEANINGS[0]} (2 nodes: 2 trusted)"
    assert "  ✓  hgx    0     8 GPUs + 4 switches  every needed check passed" in text
    assert "gpu-0" not in text
    assert "GPUs (8)" in render_verdict_set(both, width=100, verbose=True)


def test_a_node_that_fails_is_named_first_and_told_in_full(node: Evidence) -> None:
    bad = replace(judge(node, bytes(32)), label="bad")
    text = render_verdict_set(together(judge(node), bad), width=120)
    first, *_, last = text.splitlines()
    assert first == "✗ UNTRUSTED  2 nodes: 1 trusted, 1 untrusted"
    assert last.startswith("exit code 3: ")
    overview = part(text, "Nodes (2)")
    assert "failed: GPU-NONCE (gpu-0 … gpu-7)" in " ".join(overview)
    assert "──── Node 2 of 2: bad ────" in text
    assert "Node 1 of 2" not in text
    assert "✗ GPU-NONCE" in text.split("Node 2 of 2")[1]


def test_what_bindings_leave_open_is_told_of_trusted_nodes_too(node: Evidence) -> None:
    verdict = judge(node)
    assert verdict.binding is not None
    text = render_verdict_set(together(verdict, verdict), width=100)
    assert "Freshness is not proven" not in text
    for leaf in verdict.binding["leaves"]:
        assert text.count(leaf[:40]) == 1
    stated = replace(verdict, binding={**verdict.binding, "fresh": False})
    text = render_verdict_set(together(verdict, stated), width=120)
    assert "Freshness is not proven of 1 of 2 nodes" in text


def test_what_concerns_several_nodes_is_told(node: Evidence) -> None:
    twice = Finding("SET-DISTINCT", State.FAIL, "one each", "a and b have one quote")
    verdict = judge(node)
    both = VerdictSet.of([verdict, verdict], [TOGETHER[0], twice], {"not_read": ["x.y", HOSTILE]})
    text = render_verdict_set(both, width=100)
    assert both.conclusion is Conclusion.UNTRUSTED
    assert "✗ SET-DISTINCT" in text
    assert "a and b have one quote" in text
    assert "x.y" in text
    assert text.replace("\n", "").isprintable()


def test_a_set_without_nodes_is_nothing() -> None:
    empty = VerdictSet.of([], [], {})
    text = render_verdict_set(empty, width=80)
    assert text.splitlines()[-1].startswith("exit code 10: ")
    assert text.startswith("? INCOMPLETE  0 nodes")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_hostile_names_of_nodes_stay_text(node: Evidence, width: int) -> None:
    bad = replace(judge(node, bytes(32)), label=HOSTILE)
    for verbose in (False, True):
        text = render_verdict_set(together(judge(node), bad), width=width, verbose=verbose)
        assert text.replace("\n", "").isprintable()
        assert not any(line.startswith("✓") for line in text.splitlines())
        alone = render_verdict(bad, width=width, verbose=verbose)
        assert alone.replace("\n", "").isprintable()
        assert not any(line.startswith("✓") for line in alone.splitlines())
