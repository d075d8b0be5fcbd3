"""Programs and processes of a manager: who counts, what is run, and what cannot be known."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manager_fakes import (
    BOOT_ID,
    BTIME,
    CONFIG,
    FM,
    FM_PID,
    LOG,
    SM,
    SM_PID,
    FakeHost,
    fails,
    process,
    stat_line,
)

from ccverify.collect.manager_host import CommandResult, ManagerHost, real_host
from ccverify.collect.manager_programs import (
    find_processes,
    read_boot,
    read_log,
    read_program,
    reason_of,
)
from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM, LogHealth, Process, Program
from ccverify.fabric.observation import Absent


@pytest.fixture
def fake() -> FakeHost:
    return FakeHost()


def program(fake: FakeHost, name: str = FABRIC_MANAGER) -> Program:
    return read_program(fake.host, name, find_processes(fake.host).get(name), 10)


def running(fake: FakeHost, name: str = FABRIC_MANAGER) -> Process:
    found = program(fake, name).process
    assert isinstance(found, Process)
    return found


def digest(data: bytes) -> str:
    return hashlib.sha384(data).hexdigest()


# --- a healthy host ---


def test_both_programs_are_found(fake: FakeHost) -> None:
    found = program(fake)
    assert (found.name, found.path, found.version) == (FABRIC_MANAGER, FM, "610.57.04")
    assert found.sha384 == digest(b"\x7fELF manager")
    assert found.process == Process(
        FM_PID, BTIME + 42, digest(b"\x7fELF manager"), False, 2,
        (FM, "-c", CONFIG, "-g", "0x7425540300353de9"),
    )  # fmt: skip
    other = program(fake, NVLSM)
    assert (other.path, other.version) == (SM, "2025.10.14_42349a2_821fcee")
    assert isinstance(other.process, Process)
    assert (other.process.pid, other.process.started) == (SM_PID, BTIME + 41)


def test_the_boot_is_read_off_proc(fake: FakeHost) -> None:
    boot = read_boot(fake.host)
    assert (boot.boot_id, boot.booted, boot.kernel, boot.driver) == (
        BOOT_ID, BTIME, "6.8.0-60-generic", "610.57.04",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "field", "garbage"),
    [
        ("/proc/sys/kernel/random/boot_id", "boot_id", b"no uuid"),
        ("/proc/stat", "booted", b"cpu 1\nbtime x\n"),
        ("/proc/sys/kernel/osrelease", "kernel", b"\n"),
        ("/proc/driver/nvidia/version", "driver", b"\xff\xfe"),
    ],
)
def test_what_proc_does_not_tell(fake: FakeHost, path: str, field: str, garbage: bytes) -> None:
    fake.put(path, garbage)
    assert getattr(read_boot(fake.host), field) == Absent("UNREADABLE")
    fake.put(path, fails(errno.EACCES))
    assert getattr(read_boot(fake.host), field) == Absent("NO_PERMISSION")
    fake.remove(path)
    assert getattr(read_boot(fake.host), field) == Absent("NOT_FOUND")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "NOT_FOUND"),
        (errno.ENOTDIR, "NOT_FOUND"),
        (errno.EACCES, "NO_PERMISSION"),
        (errno.EPERM, "NO_PERMISSION"),
        (errno.ETIMEDOUT, "TIMEOUT"),
        (errno.EFBIG, "TOO_LARGE"),
        (errno.ELOOP, "IS_LINK"),
        (errno.EINVAL, "NO_REGULAR_FILE"),
        (errno.EIO, "UNREADABLE"),
    ],
)
def test_every_errno_has_a_reason(number: int, code: str) -> None:
    assert reason_of(fails(number)) == code


# --- which process it is ---


def test_without_a_process_the_file_alone_is_told(fake: FakeHost) -> None:
    fake.stop(FM_PID)
    found = program(fake)
    assert found.process == Absent("NOT_RUNNING")
    assert (found.version, found.sha384) == ("610.57.04", digest(b"\x7fELF manager"))


def test_without_anything_the_first_place_is_named(fake: FakeHost) -> None:
    fake.stop(FM_PID)
    fake.remove(FM)
    fake.commands.pop(FM)
    found = program(fake)
    assert (found.path, found.version, found.sha384) == (
        FM, Absent("NOT_FOUND"), Absent("NOT_FOUND"),
    )  # fmt: skip


def test_a_name_alone_makes_nobody_the_manager(fake: FakeHost) -> None:
    """Anybody can call his process, or his file, what he likes."""
    for pid, path in ((50, "/home/eve/nv-fabricmanager"), (51, "/home/eve/other")):
        fake.files.files |= process(pid, 1, "nv-fabricmanage", path)
        fake.put(f"/proc/{pid}/status", b"Uid:\t1000\t0\t0\t0\n")
        fake.files.links[f"/proc/{pid}/exe"] = path
        fake.put(path, b"evil")
    assert find_processes(fake.host)[FABRIC_MANAGER].pid == FM_PID
    fake.stop(FM_PID)
    assert FABRIC_MANAGER not in find_processes(fake.host)


def test_a_place_in_a_namespace_of_ones_own_does_not_hide_the_manager(fake: FakeHost) -> None:
    """Whatever its path says, and though it came first."""
    fake.files.files |= process(70, 1, "nv-fabricmanage", FM)
    fake.put("/proc/70/status", b"Uid:\t1000\t1000\t1000\t1000\n")
    fake.files.links["/proc/70/exe"] = FM
    assert find_processes(fake.host)[FABRIC_MANAGER].pid == FM_PID
    # It may run as a user of its own, though.
    fake.put(f"/proc/{FM_PID}/status", b"Uid:\t998\t998\t998\t998\n")
    fake.remove("/proc/70/exe")
    assert find_processes(fake.host)[FABRIC_MANAGER].pid == FM_PID


def test_root_may_run_it_from_elsewhere_and_it_is_not_started_by_us(fake: FakeHost) -> None:
    fake.stop(FM_PID)
    path = "/srv/fm/nv-fabricmanager"
    fake.files.files |= process(60, 500, "nv-fabricmanage", path)
    fake.files.links["/proc/60/exe"] = path
    fake.put(path, b"another build")
    found = program(fake)
    assert (found.path, found.version) == (path, Absent("NOT_RUN"))
    assert found.sha384 == digest(b"another build")
    assert not any(words[0] == path for words in fake.ran)


def test_of_several_the_one_that_came_first_counts(fake: FakeHost) -> None:
    """NVLSM's own crash handler runs the same file."""
    fake.files.files |= process(SM_PID + 2, 4101, "osm_crashd", "osm_crashd")
    fake.files.links[f"/proc/{SM_PID + 2}/exe"] = SM
    fake.files.files |= process(90, 9000, "nvlsm", SM)
    fake.files.links["/proc/90/exe"] = SM
    assert find_processes(fake.host)[NVLSM].pid == SM_PID
    # Where packages install it goes before everything else.
    fake.files.files |= process(91, 1, "nvlsm", "/srv/nvlsm")
    fake.files.links["/proc/91/exe"] = "/srv/nvlsm"
    assert find_processes(fake.host)[NVLSM].pid == SM_PID


def test_a_file_that_was_replaced(fake: FakeHost) -> None:
    link = f"/proc/{FM_PID}/exe"
    fake.files.links[link] = f"{FM} (deleted)"
    fake.put(link, b"the old build")
    found = program(fake)
    assert isinstance(found.process, Process)
    assert found.process.replaced
    assert found.process.sha384 == digest(b"the old build")
    assert (found.path, found.sha384) == (FM, digest(b"\x7fELF manager"))


def test_a_process_in_another_root_has_its_own_file(fake: FakeHost) -> None:
    fake.put(f"/proc/{FM_PID}/root{FM}", b"in a container")
    fake.put(f"/proc/{FM_PID}/exe", b"in a container")
    found = program(fake)
    assert found.sha384 == running(fake).sha384 == digest(b"in a container")


def test_what_an_ordinary_user_sees(fake: FakeHost) -> None:
    """He may read the names of processes, and not what they run."""
    for pid in (FM_PID, SM_PID):
        fake.files.links[f"/proc/{pid}/exe"] = fails(errno.EACCES)
    found = program(fake)
    assert isinstance(found.process, Process)
    assert (found.process.pid, found.process.sha384) == (FM_PID, Absent("NO_PERMISSION"))
    assert not found.process.replaced
    assert (found.path, found.version) == (FM, "610.57.04")
    assert running(fake, NVLSM).pid == SM_PID


def test_kernel_threads_and_processes_that_end_are_passed_over(fake: FakeHost) -> None:
    fake.put("/proc/2/stat", b"2 (kthreadd) S")
    fake.put("/proc/3/comm", b"gone\n")
    fake.files.links["/proc/3/exe"] = fails(errno.ESRCH)
    fake.files.links["/proc/4/exe"] = FM  # its stat is gone already
    fake.put("/proc/notanumber/stat", b"")
    fake.put("/proc/\u0663/stat", b"")  # a digit to Python alone
    assert find_processes(fake.host)[FABRIC_MANAGER].pid == FM_PID


@pytest.mark.parametrize(
    "line",
    [b"", b"1804", b"1804 (x) S 1", b"1804 (x) S " + b"0 " * 18 + b"-1 0",
     b"1804 (x) S " + b"0 " * 18 + b"9" * 30],
)  # fmt: skip
def test_a_start_time_that_is_none(fake: FakeHost, line: bytes) -> None:
    fake.put(f"/proc/{FM_PID}/stat", line)
    assert FABRIC_MANAGER not in find_processes(fake.host)


def test_a_name_with_brackets_and_fields_in_it(fake: FakeHost) -> None:
    fake.put(f"/proc/{FM_PID}/stat", stat_line(FM_PID, 700, "x) S 1 1 1 (y"))
    assert running(fake).started == BTIME + 7


def test_without_a_boot_time_no_process_can_be_told(fake: FakeHost) -> None:
    fake.put("/proc/stat", b"cpu\n")
    assert program(fake).process == Absent("UNREADABLE")


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=100))
def test_a_process_may_say_anything(stat: bytes, cmdline: bytes, comm: bytes) -> None:
    fake = FakeHost()
    fake.put(f"/proc/{FM_PID}/stat", stat)
    fake.put(f"/proc/{FM_PID}/cmdline", cmdline)
    fake.put(f"/proc/{FM_PID}/comm", comm)
    fake.put(f"/proc/{FM_PID}/cgroup", comm)
    found = program(fake)
    assert isinstance(found.process, Process | Absent)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root's own process in /proc"
)
def test_a_real_process_is_found_and_seen_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "nv-fabricmanager"
    shutil.copy2(shutil.which("sleep") or "/bin/sleep", path)
    content = path.read_bytes()
    host = real_host()
    began = time.time()
    with subprocess.Popen([str(path), "600"]) as child:
        try:
            found = find_processes(host)[FABRIC_MANAGER]
            if found.pid != child.pid:
                pytest.skip("a Fabric Manager runs here")
            told = read_program(host, FABRIC_MANAGER, found, 10)
            assert isinstance(told.process, Process)
            assert told.path == str(path)
            assert told.sha384 == told.process.sha384 == digest(content)
            assert told.process.arguments == (str(path), "600")
            assert abs(told.process.started - began) < 60
            assert not told.process.replaced
            path.unlink()
            path.write_bytes(b"another program")
            told = read_program(host, FABRIC_MANAGER, find_processes(host)[FABRIC_MANAGER], 10)
            assert isinstance(told.process, Process)
            assert told.process.replaced
            assert told.process.sha384 == digest(content)
            assert told.sha384 == digest(b"another program")
        finally:
            child.kill()


# --- command lines ---


@pytest.mark.parametrize(
    ("given_words", "kept"),
    [
        (("--smkey", "0x123456", "-B"), ("--smkey", "WITHHELD", "-B")),
        (("--cckey=0x99", "-o"), ("--cckey=WITHHELD", "-o")),
        (("--smkey", "-B"), ("--smkey", "-B")),
        (("-k", "5"), ("-k", "5")),
        (("caf\u00e9",), ("caf?",)),
    ],
)
def test_keys_on_a_command_line_are_withheld(
    fake: FakeHost, given_words: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    words = "".join(f"{word}\0" for word in (FM, *given_words))
    fake.put(f"/proc/{FM_PID}/cmdline", words.encode())
    assert running(fake).arguments == (FM, *kept)


def test_command_lines_without_end_or_reach(fake: FakeHost) -> None:
    fake.put(f"/proc/{FM_PID}/cmdline", b"x\0" * 65)
    assert running(fake).arguments == Absent("TOO_LARGE")
    fake.put(f"/proc/{FM_PID}/cmdline", b"x" * 70_000)
    assert running(fake).arguments == Absent("TOO_LARGE")
    fake.put(f"/proc/{FM_PID}/cmdline", fails(errno.EACCES))
    assert running(fake).arguments == Absent("NO_PERMISSION")


# --- versions ---


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        (FM, CommandResult(0, b"Fabric Manager version is : 535.161.08\n"), "535.161.08"),
        (FM, CommandResult(0, b"", "Fabric Manager version is : 570.1\n"), "570.1"),
        (FM, CommandResult(1, b"Fabric Manager version is : 580.1\n"), "580.1"),
        (FM, CommandResult(0, b"version 1.0\n"), Absent("UNREADABLE")),
        (FM, CommandResult(0, b"\xff" * 1000), Absent("UNREADABLE")),
        (FM, CommandResult(0, b"Fabric Manager version is : \n"), Absent("UNREADABLE")),
        (FM, CommandResult(127, b""), Absent("REFUSED")),
        (FM, CommandResult(-11, b""), Absent("REFUSED")),
        (FM, fails(errno.ETIMEDOUT), Absent("TIMEOUT")),
        (FM, fails(errno.EACCES), Absent("NO_PERMISSION")),
        (FM, fails(errno.EFBIG), Absent("TOO_LARGE")),
        (SM, CommandResult(0, b"NVLSM version 5.21.7\n"), "5.21.7"),
        (SM, CommandResult(0, b"OpenSM 3.3.23\nusage\n"), "3.3.23"),
        (SM, CommandResult(0, b"OpenSM sends MADs\n"), Absent("UNREADABLE")),
    ],
)
def test_versions(
    fake: FakeHost, name: str, answer: CommandResult | OSError, expected: object
) -> None:
    fake.commands[name] = answer
    assert program(fake, FABRIC_MANAGER if name == FM else NVLSM).version == expected


def test_a_long_version_is_cut(fake: FakeHost) -> None:
    fake.commands[FM] = CommandResult(0, b"Fabric Manager version is : " + b"9" * 10_000)
    found = program(fake).version
    assert isinstance(found, str)
    assert len(found) <= 512


# --- restarts ---


def test_the_unit_is_the_one_that_the_kernel_names(fake: FakeHost) -> None:
    fake.put(f"/proc/{FM_PID}/cgroup", b"1:cpu:/x\n0::/system.slice/my-fm@1.service/init\n")
    assert running(fake).restarts == 2
    assert fake.ran[-1] == ("systemctl", "show", "-p", "MainPID,NRestarts", "my-fm@1.service")


@pytest.mark.parametrize(
    ("cgroup", "answer", "expected"),
    [
        (None, CommandResult(0, b"MainPID=1804\nNRestarts=5\n"), 5),
        (None, CommandResult(0, b"MainPID=0\nNRestarts=0\n"), Absent("NO_UNIT")),
        (b"0::/user.slice/user-0.slice\n", CommandResult(0, b"MainPID=7\nNRestarts=0\n"),
         Absent("NO_UNIT")),
        (b"0::/-p.service\n", CommandResult(0, b"MainPID=0\nNRestarts=0\n"), Absent("NO_UNIT")),
        (b"0::/a.service\n", CommandResult(0, b"NRestarts=9999999999\n"), Absent("UNREADABLE")),
        (b"0::/a.service\n", CommandResult(0, b"\xff"), Absent("UNREADABLE")),
        (b"0::/a.service\n", CommandResult(1, b"NRestarts=1\n"), Absent("REFUSED")),
        (b"0::/a.service\n", fails(errno.ENOENT), Absent("NOT_FOUND")),
        (b"0::/a.service\n", fails(errno.ETIMEDOUT), Absent("TIMEOUT")),
    ],
)  # fmt: skip
def test_restarts(
    fake: FakeHost, cgroup: bytes | None, answer: CommandResult | OSError, expected: object
) -> None:
    path = f"/proc/{FM_PID}/cgroup"
    fake.put(path, cgroup) if cgroup is not None else fake.remove(path)
    fake.commands["systemctl"] = answer
    assert running(fake).restarts == expected
    assert not any(word.startswith("-p.") for words in fake.ran for word in words)


# --- log ---


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


LINES = (
    b"[Feb 25 2025 13:59:45] [ERROR] [tid 1] of another run\n"
    b"  with a second line\n"
    b"[Feb 27 2025 15:10:00] [INFO] [tid 2] started\n"
    b"[Feb 27 2025 15:10:02] [WARNING] [tid 2] careful\n"
    b"[Feb 27 2025 15:10:03] [ERROR] [tid 12727] detected NVSwitch fatal error \x1b[31m20034\n"
    b"moduleId : 3\n"
    b"[Feb  8 2026 01:02:03] [CRITICAL] [tid 4] the last\n"
    b"[Feb  8 2026 01:02:04] [INFO] [tid 4] ERROR is only a word here\n"
)


def health(data: bytes | OSError, since: int | None, fake: FakeHost) -> LogHealth | Absent:
    fake.put(LOG, data)
    return read_log(fake.host, Path(LOG), since)


def test_a_log_is_counted_since_the_process_started(fake: FakeHost) -> None:
    last = "[Feb  8 2026 01:02:03] [CRITICAL] [tid 4] the last"
    started = at("2025-02-27T15:10:00")
    assert health(LINES, started, fake) == LogHealth(LOG, 6, 2, 1, last, len(LINES))
    assert health(LINES, None, fake) == LogHealth(LOG, 8, 3, 1, last, len(LINES))
    later = health(LINES, at("2026-02-08T01:02:04"), fake)
    assert later == LogHealth(LOG, 2, 1, 0, last, len(LINES))  # clocks may be off by 5 s
    assert health(LINES, at("2026-02-09T00:00:00"), fake) == LogHealth(
        LOG, 0, 0, 0, None, len(LINES)
    )


def test_a_log_is_written_in_local_time(fake: FakeHost) -> None:
    fake.put(LOG, LINES)
    host = ManagerHost(fake.files, fake.run, 100, lambda _: 3600)
    found = read_log(host, Path(LOG), at("2025-02-27T14:10:00"))
    assert isinstance(found, LogHealth)
    assert found.lines == 6
    assert health(LINES, at("2025-02-27T15:10:00") + 3600, fake) != found


def test_what_is_in_a_line_is_made_printable(fake: FakeHost) -> None:
    found = health(LINES.split(b"moduleId")[0], None, fake)
    assert isinstance(found, LogHealth)
    assert found.last_error is not None
    assert found.last_error.endswith("fatal error ?[31m20034")


@pytest.mark.parametrize(
    "line", [b"[Foo 27 2025 15:10:03] [ERROR] x", b"[Feb 99 2025 15:10:03] [ERROR] x",
             b"[Feb 27 0001 15:10:03] [ERROR] x", b"[Feb 27 2025 99:10:03] [ERROR] x"]
)  # fmt: skip
def test_a_time_that_is_none_does_not_hide_an_error(fake: FakeHost, line: bytes) -> None:
    found = health(line + b"\n", at("2026-01-01T00:00:00"), fake)
    assert isinstance(found, LogHealth)
    assert (found.lines, found.errors) == (1, 1)


def test_of_a_large_log_the_end_is_read(fake: FakeHost) -> None:
    data = b"[Feb 27 2025 15:10:03] [ERROR] x\n" * 200_000
    found = health(data, None, fake)
    assert isinstance(found, LogHealth)
    assert found.size == len(data)
    assert 0 < found.errors == found.lines < 4 * 1024 * 1024 // 33 + 1


def test_an_empty_log_and_none_at_all(fake: FakeHost) -> None:
    assert health(b"", 5, fake) == LogHealth(LOG, 0, 0, 0, None, 0)
    assert health(fails(errno.EACCES), 5, fake) == Absent("NO_PERMISSION")
    fake.remove(LOG)
    assert read_log(fake.host, Path(LOG), 5) == Absent("NOT_FOUND")


@given(st.binary(max_size=2000), st.none() | st.integers(0, 1 << 33))
def test_a_log_may_hold_anything(data: bytes, since: int | None) -> None:
    found = health(data, since, FakeHost())
    assert isinstance(found, LogHealth)
    assert found.errors + found.warnings <= found.lines
    assert (found.last_error is None) == (found.errors == 0)
