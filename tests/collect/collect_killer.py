"""Runs `ccverify collect` with simulated sources over and over, and kills it with SIGKILL.

A process of its own, because it forks: everything is imported once, and a child costs
milliseconds.  Prints what it saw as JSON.

    collect_killer.py FOLDER (time | steps)

`time` kills the whole command after a random time.  `steps` kills what writes its bundle at
every single line, one after the other, which leaves no place out.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collect_fakes import NONCE, Fake, item, node

from ccverify.bundle.package import parse_bundle
from ccverify.cli import collect as command
from ccverify.cli.app import cli
from ccverify.cli.output import write_private_file
from ccverify.collect import atomic
from ccverify.collect.session import collect_bundle
from ccverify.errors import EvidenceError

RUNS = 80
SIZE = 1 << 16


def sources(**_: Any) -> list[Fake]:
    log = Fake("log", ["dstack-log"], [item("dstack-log", bytes(SIZE))])
    return [*node()[:3], log, node()[3]]


def child(target: Path, *, force: bool, at_line: int | None) -> None:
    """Run collect in this process; with `at_line`, write its bundle and die at that line."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code.co_filename != atomic.__file__:
            return None
        if event == "line":
            seen += 1
            if seen == at_line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    if at_line is None:
        words = ["collect", "--nonce", NONCE.hex(), "--output", str(target), *["--force"] * force]
        os._exit(cli(words, standalone_mode=False))
    sys.settrace(trace)
    write_private_file(str(target), BUNDLE, force=force)
    os._exit(0)


def state(target: Path) -> str:
    """What a reader finds under the final name."""
    try:
        data = target.read_bytes()
    except FileNotFoundError:
        return "nothing"
    if data == b"old":
        return "old"
    try:
        parse_bundle(data)
    except EvidenceError as problem:
        return f"broken: {problem}"
    return "whole"


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def one(folder: Path, *, force: bool, delay: float | None, at_line: int | None) -> dict[str, Any]:
    target = folder / "node.ccb"
    target.unlink(missing_ok=True)
    if force:
        target.write_bytes(b"old")
    pid = os.fork()
    if not pid:
        try:
            child(target, force=force, at_line=at_line)
        finally:
            os._exit(99)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status)
    return {
        "killed": killed,
        "code": None if killed else os.WEXITSTATUS(status),
        "state": state(target),
        "left": len(leftovers(folder)),
    }


def main() -> None:
    folder, how = Path(sys.argv[1]), sys.argv[2]
    seen: list[dict[str, Any]] = []
    if how == "steps":
        for force in (False, True):
            for at_line in range(1, 1000):
                seen.append(one(folder, force=force, delay=None, at_line=at_line))
                if not seen[-1]["killed"]:
                    break
    else:
        started = time.monotonic()
        one(folder, force=True, delay=None, at_line=None)
        whole = time.monotonic() - started
        for number in range(RUNS):
            delay = random.uniform(0, 1.2 * whole)
            seen.append(one(folder, force=bool(number % 2), delay=delay, at_line=None))
    # The next run, undisturbed, finds whatever the killed ones left.
    final = one(folder, force=True, delay=None, at_line=None)
    print(
        json.dumps(
            {
                "states": Counter(run["state"] for run in seen),
                "codes": Counter(str(run["code"]) for run in seen),
                "most_left": max(run["left"] for run in seen),
                "runs": len(seen),
                "killed": sum(run["killed"] for run in seen),
                "final": final,
            }
        )
    )


command.sources_of = sources  # type: ignore[assignment]
BUNDLE = collect_bundle(NONCE, sources()).bundle or b""
if __name__ == "__main__":
    main()
