"""Takes quotes in children and kills them at random points: ``tsm_killer.py WAY BASE ROOT SEED``.

WAY is ``fake`` (KernelTsm in the child itself) or ``mounted`` (system calls on ROOT).  Says, on
one line each: how many children were killed, how many entries they left, which entries are
there after one more quote was taken.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kernel_tsm import KernelTsm

from ccverify.collect.files import Files, OsFiles
from ccverify.collect.model import Ask, Item
from ccverify.collect.tsm import TsmReport


def ask(report_data: bytes) -> Ask:
    return Ask(bytes(32), report_data, time.monotonic() + 20, time.monotonic)


def main() -> None:
    way, base, root, seed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    kernel: Files = KernelTsm(base) if way == "fake" else OsFiles()
    source = TsmReport(root, files=kernel)
    chance = random.Random(seed)
    killed = 0
    left = 0
    for _ in range(25):
        pid = os.fork()
        if pid == 0:
            while True:
                source.collect(ask(os.urandom(64)))
        time.sleep(chance.uniform(0.002, 0.03))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(status)
        left += sum(f"-{pid}-" in name for name in os.listdir(root))
    (found,) = source.collect(ask(bytes(64)))
    assert isinstance(found, Item), found
    print(killed)
    print(left)
    print(" ".join(sorted(os.listdir(root))))


if __name__ == "__main__":
    main()
