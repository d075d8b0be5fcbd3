"""What the tests of TDX sources share: questions, a quote to make others of, a machine's /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ccverify.collect.model import Absence, Ask, Item, Outcome
from ccverify.sim import SimPlatform

REPORT_DATA = bytes(range(64))
NONCE = b"\x5a" * 32


def ask(
    report_data: bytes | None = REPORT_DATA,
    *,
    seconds: float = 30.0,
    extend: bool = False,
    manifest: bytes | None = None,
) -> Ask:
    return Ask(NONCE, report_data, time.monotonic() + seconds, time.monotonic, extend, manifest)


@cache
def template() -> bytes:
    """Return a version 4 quote of a simulated TD."""
    return SimPlatform().evidence(version=4).quote_bytes


def the_item(outcomes: Sequence[Outcome]) -> Item:
    (found,) = outcomes
    assert isinstance(found, Item), found
    return found


def the_absence(outcomes: Sequence[Outcome]) -> Absence:
    (found,) = outcomes
    assert isinstance(found, Absence), found
    assert found.text
    assert found.remedy
    assert found.source
    return found


def by_label(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    found = {one.label: one for one in outcomes}
    assert len(found) == len(outcomes)
    return found


def proc_of(base: Path, *, td: bool) -> Path:
    """Make a /proc that is this machine's, but for whether its processor runs a TD."""
    proc = base / "proc"
    proc.mkdir()
    for name in ("self", "sys"):
        (proc / name).symlink_to(f"/proc/{name}")
    (proc / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    flags = "fpu vme tdx_guest sse" if td else "fpu vme tdx_guest_not sse"
    (proc / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    return proc
