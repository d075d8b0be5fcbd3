"""A bundle judged today is judged the same in ten years: nothing that judges reads the clock.

Whole processes run under a C library whose clocks say 2036, so that neither Python nor a C
extension can get at the right time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import ccverify
from ccverify.cli.demo import SCENES, demo, play

ROOT = Path(ccverify.__file__).resolve().parents[1]

_CLOCK = """
#include <stddef.h>
#include <sys/time.h>
#include <time.h>
#define NOW 2098872000 /* 2036-07-05 */
time_t time(time_t *out) { if (out) *out = NOW; return NOW; }
int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    (void)zone; tv->tv_sec = NOW; tv->tv_usec = 0; return 0;
}
int clock_gettime(clockid_t id, struct timespec *ts) {
    (void)id; ts->tv_sec = NOW; ts->tv_nsec = 0; return 0;
}
"""

_JUDGE = """
import json, sys
from datetime import datetime
from pathlib import Path
from ccverify import TrustAnchor, TrustKind, TrustStore, check, load_policy
from ccverify.bundle.package import parse_bundle
from ccverify.collateral import parse_collateral_file
folder, at = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
roots = [TrustAnchor.load((folder / f"root-{n}.der").read_bytes()) for n in range(3)]
bundle = (folder / "node.ccb").read_bytes()
collateral = parse_collateral_file((folder / "collateral.json").read_bytes())
verdict = check(
    bundle,
    policy=load_policy((folder / "policy.json").read_bytes()),
    now=at,
    nonce=parse_bundle(bundle).manifest.nonce,
    collateral=collateral.intel,
    nvidia=collateral.nvidia,
    trust=TrustStore(TrustKind.SIMULATED, *roots[:1], *roots[1:]),
)
sys.stdout.write(verdict.dumps())
sys.stderr.write(str(datetime.now().year))
"""


@dataclass(frozen=True)
class Kept:
    """What the demonstration keeps, and a C library with another clock."""

    folder: Path
    clock: Path

    def run(self, *words: str, future: bool, seed: str = "0") -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "PYTHONHASHSEED": seed,
            "TZ": "Asia/Tokyo" if future else "UTC",
            "NO_COLOR": "1",
        }
        if future:
            environment["LD_PRELOAD"] = str(self.clock)
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, encoding="utf-8",
            check=False,
        )  # fmt: skip
        assert done.returncode in (0, 3, 5), done.stderr
        return done


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler (cc) on Linux: the other clock cannot be built")
    folder = tmp_path_factory.mktemp("kept")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(_CLOCK)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True
    )
    assert demo.callback is not None
    assert demo.callback(keep=str(folder), no_color=True) == 0
    from ccverify.cli.sim_trust import simulated_trust

    for number, root in enumerate(simulated_trust(SCENES[0].machine()).roots):
        (folder / f"root-{number}.der").write_bytes(root.data or b"")
    return Kept(folder, library)


def test_the_same_bytes_in_2036(kept: Kept) -> None:
    """Two runs today, one in ten years with another hash seed and time zone, and this process."""
    today = play(SCENES[0])
    judge = partial(kept.run, "-c", _JUDGE, str(kept.folder), today.evaluated_at.isoformat())
    first, second = judge(future=False), judge(future=False, seed="7")
    later = judge(future=True, seed="8")
    assert first.stderr != "2036"
    assert later.stderr == "2036", "the other clock must be seen"
    assert first.stdout == second.stdout == later.stdout == today.dumps()
    assert json.loads(later.stdout)["verdict"] == "trusted"


def test_a_signed_verdict_verifies_from_its_own_inputs_in_2036(kept: Kept) -> None:
    words = [
        "-m", "ccverify", "verify", str(kept.folder / "verdict.ccv"),
        "--key", str(kept.folder / "verifier.pem"), "--allow-simulated", "--format", "json",
    ]  # fmt: skip
    now, later = kept.run(*words, future=False), kept.run(*words, future=True)
    assert now.returncode == later.returncode == 0
    assert now.stdout == later.stdout
    steps = {step["code"]: step["state"] for step in json.loads(later.stdout)["steps"]}
    assert steps["EMITTED-REPLAY"] == "PASS"


def test_the_other_clock_does_change_what_asks_for_the_time(kept: Kept) -> None:
    """By today's time of 2036 the old collateral is no good: the test above can fail."""
    words = [
        "-m", "ccverify", "verify", str(kept.folder / "verdict.ccv"), "--at", "now",
        "--key", str(kept.folder / "verifier.pem"), "--allow-simulated", "--format", "json",
    ]  # fmt: skip
    later = kept.run(*words, future=True)
    again = json.loads(later.stdout)["rejudged"]
    assert again["at"].startswith("2036-07-05")
    assert later.returncode == again["verdict"]["exit_code"] != 0
