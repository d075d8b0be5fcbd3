"""How long a collection session takes beside the devices it waits for, and how much memory.

    python benchmarks/collect.py [--rounds N] [--json]

The node is simulated: eight GPUs and four NVSwitches under Protected PCIe, an event log, and a
TDX quote.  Every device answers with a report over the session's nonce and its certificate chain,
of the sizes real ones have, after a latency of its own; the latencies are drawn anew for each
round from a fixed seed: 0.30 to 0.90 s for a GPU, 0.10 to 0.40 s for a switch, 0.25 s for the
quote, which by its nature comes last.

What a session could take at best is the slowest device and then the quote.  What it would take if
devices were asked one after the other is the sum.  The rest is overhead: threads, digests, the
manifest, the signature, writing the file.  The bundle of each round is checked: all of its own
checks pass, and every device report carries the session's nonce.

Memory is the peak of Python's own allocations during one session beyond what was there before,
and the peak of resident memory of a process that collects once.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ccverify.bundle.cose import CoseKey  # noqa: E402
from ccverify.bundle.items import DeviceItem, encode_device  # noqa: E402
from ccverify.bundle.package import open_session  # noqa: E402
from ccverify.bundle.verify_bundle import appraise_bundle  # noqa: E402
from ccverify.collect.atomic import write_atomically  # noqa: E402
from ccverify.collect.model import Absence, Ask, Item, ItemType, Outcome, Stage  # noqa: E402
from ccverify.collect.session import World, collect_bundle  # noqa: E402
from ccverify.findings import State  # noqa: E402

NONCE = bytes(range(32))
# The node signs its reports beforehand, so the key of the session is known beforehand here.
KEY = ec.derive_private_key(1234567, ec.SECP384R1())
QUOTE_S = 0.25
RANGES_S = {"gpu": (0.30, 0.90), "nvswitch": (0.10, 0.40), "ccel": (0.002, 0.002)}
SEED = 20260615


@dataclass(frozen=True)
class Delayed:
    """A source that takes its time."""

    name: str
    stage: Stage
    gives: tuple[str, ...]
    latency: float
    item: Item | None = None

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        time.sleep(self.latency)
        if self.item is not None:
            return [self.item]
        assert ask.report_data is not None
        return [quote_item(ask.report_data)]

    def diagnose(self) -> Sequence[Absence]:
        return ()


@dataclass(frozen=True)
class Round:
    """Seconds of one session, and of what it waited for."""

    wall: float
    slowest: float
    quote: float
    total: float

    @property
    def best(self) -> float:
        return self.slowest + self.quote

    @property
    def overhead(self) -> float:
        return self.wall - self.best


def quote_item(report_data: bytes) -> Item:
    from ccverify.sim import SimPlatform

    data = SimPlatform().case(report_data=report_data).build().quote_bytes
    return Item("tdx-quote", ItemType.TDX_QUOTE, data, "sim")


def evidence() -> list[Item]:
    """Everything a node of eight and four gives but the quote, made for this session."""
    from ccverify.sim import SimPlatform
    from ccverify.sim.nvidia import SimNode

    nonce = open_session(NONCE, CoseKey.of(KEY.public_key())).device_nonce
    node = SimNode.hopper_ppcie(8, 4).with_nonce(nonce).build()
    items = [
        Item(
            f"{part}-{number}",
            kind,
            encode_device(DeviceItem(device.report, device.chain_pem)),
            "sim",
        )
        for part, kind, devices in (
            ("gpu", ItemType.NVIDIA_GPU, node.gpus),
            ("nvswitch", ItemType.NVIDIA_SWITCH, node.switches),
        )
        for number, device in enumerate(devices)
    ]
    log = SimPlatform().case(report_data=bytes(64)).build().ccel
    return [*items, Item("ccel", ItemType.CCEL, log, "sim")]


def sources(items: Sequence[Item], draw: random.Random, scale: float = 1.0) -> list[Delayed]:
    found = []
    for item in items:
        part = item.label.rpartition("-")[0] or item.label
        latency = draw.uniform(*RANGES_S[part]) * scale
        stage = Stage.LOGS if part == "ccel" else Stage.DEVICES
        found.append(Delayed(item.label, stage, (part,), latency, item))
    return [*found, Delayed("quotes", Stage.QUOTE, ("tdx-quote",), QUOTE_S * scale)]


def collect(asked: Sequence[Delayed], folder: Path) -> bytes:
    """One session, its bundle written as the command line writes it."""
    result = collect_bundle(NONCE, asked, world=World(new_key=lambda: KEY))
    assert result.bundle is not None
    assert not result.absences
    write_atomically(str(folder / "node.ccb"), result.bundle, private=True)
    return result.bundle


def check(bundle: bytes) -> None:
    """See that what was measured is a good bundle with all of the devices in it."""
    appraisal = appraise_bundle(bundle, NONCE)
    bad = [f for f in appraisal.findings if f.state in (State.FAIL, State.NOT_CHECKED)]
    assert not bad, bad
    assert appraisal.evidence is not None
    nonce = open_session(NONCE, CoseKey.of(KEY.public_key())).device_nonce
    devices = (*appraisal.evidence.gpus, *appraisal.evidence.switches)
    assert [device.report[4:36] for device in devices] == [nonce] * 12


def measure(items: Sequence[Item], rounds: int, folder: Path) -> list[Round]:
    draw = random.Random(SEED)
    seen = []
    for _ in range(rounds):
        asked = sources(items, draw)
        start = time.perf_counter()
        bundle = collect(asked, folder)
        wall = time.perf_counter() - start
        check(bundle)
        devices = [source.latency for source in asked[:-1]]
        quote = asked[-1].latency
        seen.append(Round(wall, max(devices), quote, sum(devices) + quote))
    return seen


def python_peak(items: Sequence[Item], folder: Path) -> int:
    """Bytes allocated at the peak of one session, beyond those before it."""
    asked = sources(items, random.Random(SEED), scale=0.01)
    collect(asked, folder)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    collect(asked, folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - before


def resident_peak(items: Sequence[Item]) -> float:
    """MiB of resident memory at the peak of a process that runs one session.

    The evidence is given to it ready-made: no simulator is in that process.
    """
    given = [*items, quote_item(bytes(64))]
    lines = [(item.label, item.type.value, item.data.hex()) for item in given]
    command = [sys.executable, __file__, "--once"]
    subprocess.run(command, input=json.dumps(lines).encode(), check=True, capture_output=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def once() -> None:
    """Run one session over the evidence on standard input."""
    items = [Item(label, ItemType(kind), bytes.fromhex(data), "sim")
             for label, kind, data in json.load(sys.stdin)]  # fmt: skip
    asked = sources(items[:-1], random.Random(SEED), scale=0.01)
    asked[-1] = replace(asked[-1], item=items[-1])
    with tempfile.TemporaryDirectory() as folder:
        collect(asked, Path(folder))
    assert "ccverify.sim" not in sys.modules


def report(rounds: int) -> dict[str, Any]:
    items = evidence()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seen = measure(items, rounds, folder)
        size = (folder / "node.ccb").stat().st_size
        peak = python_peak(items, folder)
    medians = {
        name: statistics.median(getattr(one, name) for one in seen)
        for name in ("wall", "slowest", "quote", "best", "total", "overhead")
    }
    return {
        "rounds": rounds,
        "median_s": medians,
        "wall_to_best": statistics.median(one.wall / one.best for one in seen),
        "wall_to_sum": statistics.median(one.wall / one.total for one in seen),
        "worst_overhead_s": max(one.overhead for one in seen),
        "bundle_bytes": size,
        "evidence_bytes": sum(len(item.data) for item in items),
        "peak_python_bytes": peak,
        "peak_resident_mib": resident_peak(items),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        once()
        return
    found = report(arguments.rounds)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    medians = found["median_s"]
    print(f"8 GPUs, 4 NVSwitches, log and quote; {arguments.rounds} rounds, medians")
    print(f"  slowest device                {medians['slowest']:8.3f} s")
    print(f"  quote, after all others       {medians['quote']:8.3f} s")
    print(f"  at best, the two together     {medians['best']:8.3f} s")
    print(f"  one after the other           {medians['total']:8.3f} s")
    print(f"  ccverify                      {medians['wall']:8.3f} s")
    print(f"    to the best                 {found['wall_to_best']:8.3f}")
    print(f"    to one after the other      {found['wall_to_sum']:8.3f}")
    print(f"    overhead, median and worst  {medians['overhead']:8.3f} s"
          f" {found['worst_overhead_s']:8.3f} s")  # fmt: skip
    print(f"  bundle                        {found['bundle_bytes'] / 1024:8.1f} KiB")
    print(f"  peak of Python memory         {found['peak_python_bytes'] / 1024:8.1f} KiB")
    print(f"  peak of resident memory       {found['peak_resident_mib']:8.1f} MiB")


if __name__ == "__main__":
    main()
