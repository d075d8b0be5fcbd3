"""Files that are there as a whole or not at all: refusals, failures, and kill -9."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ccverify
from ccverify.collect import atomic
from ccverify.collect.atomic import LEFTOVER, clean_leftovers, require_writable, write_atomically

ROOT = Path(ccverify.__file__).resolve().parents[1]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "node.ccb"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def leftover(folder: Path, number: int = 1) -> Path:
    return folder / f".ccverify-{number:016x}.tmp"


# --- what is written ---


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_private_file_is_its_owners_alone(target: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        write_atomically(str(target), b"x", private=True)
        write_atomically(str(target) + "2", b"x")
    finally:
        os.umask(previous)
    assert mode(target) == 0o600
    assert mode(target.with_name("node.ccb2")) == 0o666 & ~umask


def test_a_file_that_was_open_to_others_is_private_afterwards(target: Path) -> None:
    target.write_bytes(b"old")
    target.chmod(0o666)
    write_atomically(str(target), b"new", private=True)
    assert (mode(target), target.read_bytes()) == (0o600, b"new")


def test_nothing_but_the_file_is_left(target: Path) -> None:
    for replace in (False, True):
        write_atomically(str(target), b"x" * 100_000, replace=replace)
        assert list(target.parent.iterdir()) == [target]
        assert target.stat().st_nlink == 1


def test_an_existing_file_stays_unless_it_is_to_be_replaced(target: Path) -> None:
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_atomically(str(target), b"new", replace=False)
    with pytest.raises(FileExistsError):
        require_writable(str(target), replace=False)
    assert target.read_bytes() == b"old"
    require_writable(str(target), replace=True)
    write_atomically(str(target), b"new")
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_appears_meanwhile_stays(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question whether there is a file and its name there is time for another."""
    genuine = os.fsync

    def appear(descriptor: int) -> None:
        target.write_bytes(b"theirs")
        genuine(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", appear)
    with pytest.raises(FileExistsError):
        write_atomically(str(target), b"ours", replace=False)
    assert target.read_bytes() == b"theirs"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_links_is_no_obstacle(
    target: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, "link", refuse)
    write_atomically(str(target), b"x", replace=False)
    assert target.read_bytes() == b"x"
    with pytest.raises(FileExistsError):
        write_atomically(str(target), b"y", replace=False)
    assert list(target.parent.iterdir()) == [target]


def test_only_one_of_many_makes_the_file(target: Path) -> None:
    """Ten writers at once, none of whom may replace: one wins, and its file is whole."""
    start, wins = threading.Barrier(10), list[int]()

    def write(number: int) -> None:
        start.wait()
        try:
            write_atomically(str(target), bytes([number]) * 50_000, replace=False)
        except FileExistsError:
            return
        wins.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert target.read_bytes() == bytes(wins) * 50_000
    assert list(target.parent.iterdir()) == [target]


# --- what fails ---


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("call", ["write", "fsync", "name"])
def test_a_full_disk_leaves_everything_as_it_was(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str, replace: bool
) -> None:
    if replace:
        target.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(atomic.os, "fsync", full)
    elif call == "name":
        monkeypatch.setattr(atomic.os, "replace" if replace else "link", full)
    else:
        genuine = os.fdopen

        class Full:
            def __init__(self, descriptor: int, how: str) -> None:
                self._file = genuine(descriptor, how)

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                self._file.close()

            def write(self, data: bytes) -> int:
                self._file.write(data[: len(data) // 2])
                self._file.flush()
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(atomic.os, "fdopen", Full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(str(target), b"x" * 1000, replace=replace)
    assert list(target.parent.iterdir()) == ([target] if replace else [])
    assert not replace or target.read_bytes() == b"old"


def test_a_real_limit_leaves_everything_as_it_was(target: Path) -> None:
    """A limit of the process on the size of files is a full disk that needs no privilege."""
    target.write_bytes(b"old")
    script = (
        "import resource, signal, sys\n"
        "from ccverify.collect.atomic import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_atomically(sys.argv[1], bytes(1 << 20))\n"
        "except OSError as problem: print(problem.errno)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True,
                           check=True, text=True, cwd=ROOT)  # fmt: skip
    assert ended.stdout == f"{errno.EFBIG}\n"
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("call", "code", "fails"),
    [("fsync", errno.EINVAL, False), ("fsync", errno.EIO, True), ("open", errno.EACCES, False)],
)
def test_the_directory_is_forced_to_the_disk_where_that_can_be(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, fails: bool
) -> None:
    genuine_sync, genuine_open = os.fsync, os.open

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and call == "fsync":
            raise OSError(code, os.strerror(code))
        genuine_sync(descriptor)

    def opened(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECTORY and call == "open":
            raise OSError(code, os.strerror(code))
        return genuine_open(path, flags, *rest)

    monkeypatch.setattr(atomic.os, "fsync", sync)
    monkeypatch.setattr(atomic.os, "open", opened)
    if fails:
        with pytest.raises(OSError, match=os.strerror(code)):
            write_atomically(str(target), b"x")
    else:
        write_atomically(str(target), b"x")
    assert target.read_bytes() == b"x"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("writes", [False, True])
def test_a_directory_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: bool
) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o500)
    else:  # root may everything: let the system say otherwise
        genuine = os.open

        def refuse(path: str, flags: int, *rest: int) -> int:
            if flags & os.O_CREAT:
                raise PermissionError(errno.EACCES, "Permission denied")
            return genuine(path, flags, *rest)

        monkeypatch.setattr(atomic.os, "open", refuse)
    try:
        act = write_atomically if writes else require_writable
        more = {"data": b"x"} if writes else {"replace": True}
        with pytest.raises(PermissionError):
            act(str(folder / "x"), **more)  # type: ignore[operator]
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o700)


def test_where_no_file_can_be_made_is_found_out_before_long_work(target: Path) -> None:
    for path in ("/proc/x", "/sys/x"):  # where root may everything, and still cannot
        with pytest.raises(OSError, match=r"."):
            require_writable(path, replace=False)
    leftover(target.parent).write_bytes(b"half")
    require_writable(str(target), replace=False)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("path", ["missing/x", ".", "", "nul\0", "file/x"])
def test_impossible_targets_are_refused_early_and_late(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    for replace in (False, True):
        with pytest.raises((OSError, ValueError)):
            require_writable(path, replace=replace)
        with pytest.raises((OSError, ValueError)):
            write_atomically(path, b"x", replace=replace)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_links_are_followed_and_devices_written(tmp_path: Path, target: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(target)
    write_atomically(str(link), b"x", replace=False)
    assert (link.is_symlink(), target.read_bytes()) == (True, b"x")
    with pytest.raises(FileExistsError):
        write_atomically(str(link), b"y", replace=False)
    require_writable(os.devnull, replace=False)
    write_atomically(os.devnull, b"x", replace=False)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


# --- leftovers ---


def test_leftovers_are_removed_by_the_next_run(target: Path) -> None:
    for number in range(3):
        leftover(target.parent, number).write_bytes(b"half")
    write_atomically(str(target), b"x")
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_somebody_still_writes_is_no_leftover(tmp_path: Path) -> None:
    path = leftover(tmp_path)
    with path.open("wb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        assert clean_leftovers(str(tmp_path)) == []
        assert path.exists()
    assert clean_leftovers(str(tmp_path)) == [path.name]
    assert not path.exists()


def test_only_our_own_regular_files_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    leftover(tmp_path, 1).mkdir()
    leftover(tmp_path, 2).symlink_to(other)
    os.mkfifo(leftover(tmp_path, 3))
    for name in (".ccverify-1.tmp", ".ccverify-0000000000000001.tmp2", "ccverify.tmp"):
        (tmp_path / name).write_bytes(b"theirs")
        assert not LEFTOVER.fullmatch(name)
    before = sorted(tmp_path.iterdir())
    assert clean_leftovers(str(tmp_path)) == []
    assert sorted(tmp_path.iterdir()) == before
    leftover(tmp_path, 4).write_bytes(b"of another user")
    user = os.geteuid()
    monkeypatch.setattr(atomic.os, "geteuid", lambda: user + 1)
    assert clean_leftovers(str(tmp_path)) == []


def test_cleaning_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_leftovers(str(tmp_path / "missing")) == []
    leftover(tmp_path).write_bytes(b"half")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        # Where nothing can be locked nobody can tell, so nothing is removed, and writing works.
        assert clean_leftovers(str(tmp_path)) == []
        write_atomically(str(tmp_path / "x"), b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [leftover(tmp_path).name, "x"]


def test_somebody_who_cleans_at_the_wrong_moment_does_no_harm(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a file and locking it, it looks like a leftover."""
    genuine, made = os.open, list[str]()

    def opened(path: str, flags: int, *rest: int) -> int:
        descriptor = genuine(path, flags, *rest)
        if flags & os.O_CREAT and len(made) < 3:
            made.append(path)
            if len(made) < 3:
                os.unlink(path)
        return descriptor

    monkeypatch.setattr(atomic.os, "open", opened)
    write_atomically(str(target), b"x")
    assert target.read_bytes() == b"x"
    assert len(set(made)) == 3
    assert list(target.parent.iterdir()) == [target]


# --- kill -9 ---


@pytest.mark.parametrize("how", ["time", "steps"])
def test_kill_9_never_leaves_half_a_bundle(tmp_path: Path, how: str) -> None:
    script = Path(__file__).with_name("collect_killer.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path), how],
        capture_output=True, check=False, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    assert seen["runs"] > 50
    assert seen["killed"] >= 10
    assert set(seen["states"]) <= {"nothing", "old", "whole"}
    assert set(seen["codes"]) <= {"None", "0"}
    # What one killed run leaves, the next removes: they never add up.
    assert seen["most_left"] <= 1
    assert seen["final"] == {"killed": False, "code": 0, "state": "whole", "left": 0}
    if how == "steps":
        assert set(seen["states"]) == {"nothing", "old", "whole"}
        assert seen["most_left"] == 1
