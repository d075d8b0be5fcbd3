"""configfs-tsm by plain system calls on a mounted file system, several processes, kill -9.

The file system is FUSE (`fuse_tsm`), where it may be mounted; killing is also tested over the
directory behind it, which needs no privilege.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuse_tsm import unmount
from kernel_tsm import KernelTsm
from tdx_asks import REPORT_DATA, ask, template, the_item

from ccverify.collect.tsm import TsmReport
from ccverify.tdx.quote import parse_quote

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    base, target = tmp_path / "base", tmp_path / "mounted"
    base.mkdir()
    target.mkdir()
    KernelTsm(base, template())
    server = subprocess.Popen(
        [sys.executable, str(HERE / "fuse_tsm.py"), str(base), str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert server.stdout is not None
    assert server.stderr is not None
    try:
        if server.stdout.readline() != "ready\n":
            said = server.stderr.read().strip().rpartition("\n")[2]
            pytest.skip(f"FUSE cannot be mounted here ({said}): run as root with /dev/fuse")
        yield target
    finally:
        unmount(target)
        server.terminate()
        server.communicate(timeout=20)


def test_by_system_calls(mounted: Path) -> None:
    """Attributes come with mkdir(2) and go with rmdir(2), as in no plain directory."""
    (mounted / "foreign").mkdir()
    assert (mounted / "foreign/provider").read_bytes() == b"tdx_guest\n"
    source = TsmReport(mounted)
    for _ in range(3):
        item = the_item(source.collect(ask()))
        assert parse_quote(item.data).report.report_data == REPORT_DATA
    assert source.diagnose() == ()
    assert os.listdir(mounted) == ["foreign"]


def _kill(way: str, base: Path, root: Path, seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "tsm_killer.py"), way, str(base), str(root), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def _result(process: subprocess.Popen[str]) -> tuple[int, int, str]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    killed, left, rest = out.split("\n")[:3]
    return int(killed), int(left), rest


def test_what_a_killed_process_leaves_the_next_one_removes(mounted: Path) -> None:
    (mounted / "foreign").mkdir()
    killed, left, rest = _result(_kill("mounted", mounted, mounted, 1))
    assert killed == 25
    assert left > 0  # or nothing was tested
    assert rest == "foreign"


def test_the_same_without_a_mounted_file_system(tmp_path: Path) -> None:
    kernel = KernelTsm(tmp_path, template())
    (kernel.root / "foreign").mkdir()
    killed, left, rest = _result(_kill("fake", tmp_path, kernel.root, 2))
    assert killed == 25
    assert left > 0
    assert rest == "foreign"


def test_processes_do_not_disturb_each_other(mounted: Path) -> None:
    """Two that kill their children at once: neither touches what is the other's and alive."""
    processes = [_kill("mounted", mounted, mounted, seed) for seed in (3, 4)]
    for process in processes:
        killed, _, _ = _result(process)
        assert killed == 25
    the_item(TsmReport(mounted).collect(ask()))
    assert os.listdir(mounted) == []
