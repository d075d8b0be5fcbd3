"""Reading a manager's host: hostile files, and commands that hang or never stop printing."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ccverify.collect.manager_host import FileStatus, OsHostFiles, real_host, run_command

FILES = OsHostFiles()
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs O_PATH and /proc of Linux")
pytestmark = LINUX


def number(action: Callable[..., object], *arguments: object) -> int | None:
    """The errno that an action ends in; None if it does not."""
    try:
        action(*arguments)
    except OSError as problem:
        return problem.errno
    return None


def test_a_regular_file_is_read_whole_or_by_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = bytes(range(256)) * 9000
    path.write_bytes(data)
    os.utime(path, (1_000, 1_790_000_000))
    assert FILES.read(path, len(data)) == data
    assert FILES.tail(path, 10) == data[-10:]
    assert FILES.tail(path, 2 * len(data)) == data
    assert FILES.sha384(path, len(data)) == hashlib.sha384(data).digest()
    found = FILES.status(path)
    assert (found.size, found.modified) == (len(data), 1_790_000_000)
    assert FILES.names(tmp_path) == ["file"]
    for read in (FILES.read, FILES.sha384):
        assert number(read, path, len(data) - 1) == errno.EFBIG


def test_an_empty_file_and_a_file_of_proc(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert FILES.read(path, 0) == FILES.tail(path, 5) == b""
    # It has no size before it is read.
    assert b"btime" in FILES.read(Path("/proc/stat"), 16 << 20)
    assert number(FILES.read, Path("/proc/self/status"), 10) == errno.EFBIG


def test_a_huge_sparse_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert number(FILES.read, path, 8 << 20) == errno.EFBIG
    assert number(FILES.sha384, path, 1 << 30) == errno.EFBIG
    assert FILES.tail(path, 4096) == bytes(4096)


def test_links_are_followed_for_digests_alone(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"secret")
    link.symlink_to(path)
    for read in (FILES.read, FILES.tail):
        assert number(read, link, 100) == errno.ELOOP
    assert FILES.link(link) == str(path)
    assert FILES.status(link) == FILES.status(path)
    assert FILES.sha384(link, 100) == hashlib.sha384(b"secret").digest()
    assert number(FILES.link, path) == errno.EINVAL


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    for action in (FILES.status, lambda p: FILES.read(p, 9), lambda p: FILES.sha384(p, 9)):
        assert number(action, one) == errno.ELOOP


@pytest.mark.parametrize("kind", ["fifo", "directory", "zero", "socket"])
def test_what_is_no_regular_file_is_never_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "zero":
        path = Path("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    for action in (
        FILES.status,
        lambda p: FILES.read(p, 9),
        lambda p: FILES.tail(p, 9),
        lambda p: FILES.sha384(p, 9),
    ):
        assert number(action, path) == errno.EINVAL


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        FILES.read(path, 100)
        number(FILES.read, path, 1)
        number(FILES.read, tmp_path, 1)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:  # pragma: no cover
    path = tmp_path / "file"
    path.touch(0)
    assert number(FILES.read, path, 1) == errno.EACCES


def test_a_file_that_grows_is_read_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"y" * 1000)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        assert len(FILES.tail(path, 1500)) <= 1500
    finally:
        stop.set()
        writer.join()


def test_identities_tell_files_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"x")
    other.write_bytes(b"x")
    os.link(one, tmp_path / "again")
    assert FILES.status(one).identity == FILES.status(tmp_path / "again").identity
    assert FILES.status(one).identity != FILES.status(other).identity
    assert isinstance(FILES.status(one), FileStatus)


# --- commands ---


def test_a_command_says_how_it_ended() -> None:
    ended = run_command(("sh", "-c", "printf 'no newline'; echo oops >&2; exit 7"), 10)
    assert (ended.status, ended.output, ended.errors) == (7, b"no newline", "oops\n")


def test_a_command_gets_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    assert b"SECRET_TOKEN" not in run_command(("env",), 10).output


def test_a_command_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        run_command(("sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"), 2)
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_command_that_prints_without_end_is_stopped() -> None:
    command = (sys.executable, "-c", "while True: print('x' * 100000)")
    assert number(run_command, command, 60) == errno.EFBIG


def test_a_command_that_is_not_there_or_may_not_be_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_command(("nv-no-such-program",), 1)
    (tmp_path / "file").write_bytes(b"#!/bin/sh\n")
    with pytest.raises(PermissionError):
        run_command((str(tmp_path / "file"),), 1)


def test_the_real_host() -> None:
    host = real_host()
    assert host.clock_ticks > 0
    assert abs(host.zone(1_790_000_000)) <= 14 * 3600
    assert host.run(("true",), 5).status == 0
