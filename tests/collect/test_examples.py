"""The documented outputs of real machines: readable today, and without anybody's serial numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ccverify.fabric.observation import parse_observation

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
EACH = pytest.mark.parametrize("gpus", [1, 2, 4])


@EACH
def test_the_observation_is_read(gpus: int) -> None:
    data = (EXAMPLES / f"h200-{gpus}" / "observation.json").read_bytes()
    observation = parse_observation(data.strip())
    assert len(observation.gpus) == gpus


@EACH
def test_the_verdict_names_what_is_absent(gpus: int) -> None:
    folder = EXAMPLES / f"h200-{gpus}"
    text = " ".join((folder / "check.txt").read_text("utf-8").split())
    assert text.endswith("exit code 4: the policy is not met")
    assert "tdx: none (tdx-quote: not-present" in text
    assert f"gpu-{gpus - 1}: cc-off" in text
    assert f"absent {len(_absent(folder))}" in (folder / "collect.txt").read_text("utf-8")
    assert "exit code 3" in (folder / "check-wrong-nonce.txt").read_text("utf-8")


def _absent(folder: Path) -> list[str]:
    """Labels under Absent: one line for several parts of one reason."""
    section = (folder / "collect.txt").read_text("utf-8").partition("\nAbsent\n")[2]
    lines = re.findall(r"^  ✗ (.+?)  [a-z-]+$", section.partition("\nAsked\n")[0], re.M)
    return [label for line in lines for label in line.split(", ")]


@EACH
def test_nobody_is_named(gpus: int) -> None:
    for path in (EXAMPLES / f"h200-{gpus}").iterdir():
        text = path.read_text("utf-8")
        for uuid in re.findall(r"GPU-[0-9a-f-]{36}", text):
            assert uuid.startswith("GPU-00000000-0000-")
