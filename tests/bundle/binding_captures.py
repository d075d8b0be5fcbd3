"""Real responses of services, each with the nonce its client sent, ready for the recipes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from ccverify.evidence import Evidence
from ccverify.interop.chutes import parse_instance_keys, with_instance_keys
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.tdx.quote import parse_quote

INSTANCES = "tdx/captures/chutes_20260610/0001_*.body"


@dataclass(frozen=True)
class Capture:
    """One response.

    Attributes:
        pattern: of its file among the vectors.
        nonce: what the client sent, in the URL of its request.
        matched: parts of REPORTDATA, all nodes together, that match under the client's nonce.
        refused: those that do not match under it.
        unchecked: those that lack an input.
        gpus: device reports that match, are refused and are not checked under it.
        stated: as `matched`, `refused`, `unchecked` under the nonce that the response states.
    """

    pattern: str
    nonce: str
    nodes: int
    matched: int
    refused: int
    unchecked: int
    gpus: tuple[int, int, int]
    stated: tuple[int, int, int]


CAPTURES = {
    # States no nonce.  Two of seven instances are missing from the list of keys that came along.
    "chutes": Capture(
        "tdx/captures/chutes_20260610/0002_*_evidence.body",
        "3339ed515124334c8c85e73f5101de92da4112b23ecec719a72d767a278d3440",
        nodes=7, matched=12, refused=0, unchecked=2, gpus=(40, 0, 16), stated=(7, 0, 7),
    ),
    # The reseller asks Chutes with a nonce of its own, and passes no certificates on.
    "phalacloud": Capture(
        "tdx/captures/phalacloud_20260610/0001_*.body",
        "732f6f1c1b4445d4ab4ad892728343f7fcb0f595ce79f91ecfdeaae657bb7c7e",
        nodes=5, matched=0, refused=5, unchecked=5, gpus=(0, 40, 0), stated=(5, 0, 5),
    ),
    "neardirect": Capture(
        "tdx/captures/neardirect_20260610/0001_*.body",
        "e1acc835c324635d087549f55702d334ba5e8dd7ef64e9c52a312eded2709223",
        nodes=1, matched=2, refused=0, unchecked=0, gpus=(8, 0, 0), stated=(2, 0, 0),
    ),
    # Another reseller with a nonce of its own: the signing addresses match, the nonces do not.
    "nanogpt": Capture(
        "tdx/captures/nanogpt_20260325/glm-4.7_attestation.json",
        "9d9c010acbfbca060d0fb93ed8095ece7c7d0309c27f556a02ef46b118946d3c",
        nodes=4, matched=4, refused=4, unchecked=0, gpus=(0, 24, 0), stated=(8, 0, 0),
    ),
    "tinfoil on SEV-SNP": Capture(
        "tdx/captures/tinfoil_cloud_snp_20260629/0001_*.body",
        "535641d4647956bb9a1e2fa364a5da7c6499458b6f7b6cb65c6dbd1e377a8756",
        nodes=1, matched=2, refused=0, unchecked=0, gpus=(0, 0, 0), stated=(2, 0, 0),
    ),
}  # fmt: skip


def find(vectors: Path, pattern: str) -> Path:
    found = sorted(vectors.glob(pattern))
    if not found:
        pytest.skip(f"{pattern} is not among the vectors")
    return found[0]


@cache
def nodes_of(vectors: Path, pattern: str) -> tuple[Evidence, ...]:
    """The nodes; those of Chutes with the keys that the client fetched besides."""
    evidence = parse_foreign_evidence(find(vectors, pattern).read_bytes())
    if evidence.format == "chutes":
        keys = parse_instance_keys(find(vectors, INSTANCES).read_bytes())
        evidence = with_instance_keys(evidence, keys)
    return evidence.nodes


def report_data(node: Evidence) -> bytes:
    if node.quote is not None:
        return parse_quote(node.quote).report.report_data
    assert node.other_cpu is not None
    return node.other_cpu.report[0x50:0x90]  # REPORT_DATA of an SEV-SNP report
