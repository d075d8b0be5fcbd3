"""configfs-tsm against `KernelTsm`, which behaves as the kernel's sources say."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_tsm import KernelTsm, error
from tdx_asks import REPORT_DATA, ask, proc_of, template, the_absence, the_item

from ccverify.collect import tsm as module
from ccverify.collect.files import OsFiles
from ccverify.collect.machine import Owner, is_dead, this_process
from ccverify.collect.model import AbsenceReason, ItemType
from ccverify.collect.tsm import TsmReport
from ccverify.errors import UsageError
from ccverify.tdx.quote import parse_quote


class Pauses(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def kernel(tmp_path: Path) -> KernelTsm:
    return KernelTsm(tmp_path, template())


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def source(kernel: KernelTsm, pauses: Pauses) -> TsmReport:
    return TsmReport(kernel.root, files=kernel, pause=pauses)


def test_a_quote_covers_what_was_asked_and_the_entry_is_gone(
    kernel: KernelTsm, source: TsmReport
) -> None:
    item = the_item(source.collect(ask()))
    assert (item.label, item.type, item.source) == ("tdx-quote", ItemType.TDX_QUOTE, "configfs-tsm")
    assert parse_quote(item.data).report.report_data == REPORT_DATA
    assert kernel.names(kernel.root) == []
    assert kernel.made == 1


@pytest.mark.parametrize("wrong", [None, b"", bytes(63), bytes(65)])
def test_nothing_but_64_bytes_is_asked_with(source: TsmReport, wrong: bytes | None) -> None:
    with pytest.raises(UsageError):
        source.collect(ask(wrong))


# --- what passes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT])
def test_what_passes_is_tried_again(
    kernel: KernelTsm, source: TsmReport, pauses: Pauses, number: int
) -> None:
    kernel.failures = [number] * 3
    the_item(source.collect(ask()))
    assert kernel.made == 1
    assert pauses == [0.01, 0.02, 0.04]
    assert kernel.names(kernel.root) == []


def test_a_write_the_kernel_dropped_when_the_file_was_closed_is_written_again(
    kernel: KernelTsm, source: TsmReport, pauses: Pauses
) -> None:
    kernel.lost_writes = 2
    the_item(source.collect(ask()))
    assert len(pauses) == 2


def test_busy_until_the_deadline_is_a_timeout(kernel: KernelTsm, tmp_path: Path) -> None:
    kernel.failures = [errno.EBUSY] * 10_000
    absence = the_absence(TsmReport(kernel.root, files=kernel).collect(ask(seconds=0.1)))
    assert absence.reason is AbsenceReason.TIMEOUT
    assert kernel.made == 0


def test_a_host_that_never_answers_keeps_nobody_past_the_deadline(
    kernel: KernelTsm, source: TsmReport
) -> None:
    release, begun = threading.Event(), threading.Event()

    def hang(entry: Path) -> None:
        begun.set()
        release.wait(20)

    kernel.after_report = hang
    absence = the_absence(source.collect(ask(seconds=0.1)))
    assert absence.reason is AbsenceReason.TIMEOUT
    assert begun.wait(20)
    # The request cannot be taken back; its thread removes the entry as soon as it may.
    (thread,) = [one for one in threading.enumerate() if one.name == "ccverify-tsm"]
    assert len(kernel.names(kernel.root)) == 1
    release.set()
    thread.join(20)
    assert kernel.names(kernel.root) == []


# --- what does not pass --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [
        (errno.ENXIO, AbsenceReason.NO_DRIVER, "modprobe tdx_guest"),
        (errno.EPERM, AbsenceReason.NO_PERMISSION, "root"),
        (errno.EACCES, AbsenceReason.NO_PERMISSION, "root"),
        (errno.EROFS, AbsenceReason.NO_PERMISSION, "writable"),
        (errno.EIO, AbsenceReason.FAILED, "qgsd"),
        (errno.EINVAL, AbsenceReason.FAILED, "report it"),
        (errno.ENOMEM, AbsenceReason.FAILED, "dmesg"),
    ],
)
def test_errors_of_the_kernel_have_a_reason_and_a_remedy(
    kernel: KernelTsm, tmp_path: Path, number: int, reason: AbsenceReason, remedy: str
) -> None:
    kernel.failures = [number]
    source = TsmReport(kernel.root, files=kernel, proc=proc_of(tmp_path, td=True))
    absence = the_absence(source.collect(ask()))
    assert absence.reason is reason
    assert remedy in absence.remedy
    assert errno.errorcode[number] in absence.text
    assert kernel.names(kernel.root) == []


def test_an_empty_quote_is_a_failure_with_its_known_causes(
    kernel: KernelTsm, source: TsmReport
) -> None:
    kernel.empty = True
    absence = the_absence(source.collect(ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert "empty" in absence.text
    assert "1.21" in absence.text
    assert "PCK" in absence.text


@pytest.mark.parametrize("provider", ["sev_guest", "arm_cca_guest", "tdx_guest_sim", "", "\x1b["])
def test_other_providers_are_named(kernel: KernelTsm, source: TsmReport, provider: str) -> None:
    kernel.provider = provider
    for outcomes in (source.collect(ask()), source.diagnose()):
        absence = the_absence(outcomes)
        assert absence.reason is AbsenceReason.NOT_SUPPORTED
        assert repr(provider) in absence.text
    assert kernel.made == 0
    assert kernel.names(kernel.root) == []


def test_no_provider_is_a_missing_driver_or_no_td_at_all(kernel: KernelTsm, tmp_path: Path) -> None:
    kernel.provider = None
    for td, reason in ((True, AbsenceReason.NO_DRIVER), (False, AbsenceReason.NOT_PRESENT)):
        (tmp_path / str(td)).mkdir()
        proc = proc_of(tmp_path / str(td), td=td)
        source = TsmReport(kernel.root, files=kernel, proc=proc)
        assert the_absence(source.collect(ask())).reason is reason
        assert the_absence(source.diagnose()).reason is reason


def test_a_quote_over_something_else_is_a_failure(kernel: KernelTsm, source: TsmReport) -> None:
    kernel.other_report_data = bytes(64)
    absence = the_absence(source.collect(ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert REPORT_DATA.hex() in absence.text
    assert bytes(64).hex() in absence.text


def test_what_is_no_quote_is_a_failure(kernel: KernelTsm, source: TsmReport) -> None:
    (kernel.base / "template").write_bytes(template()[:-700])
    assert the_absence(source.collect(ask())).reason is AbsenceReason.FAILED
    (kernel.base / "template").write_bytes(bytes(70_000))
    absence = the_absence(source.collect(ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert "larger" in absence.text


# --- other processes -----------------------------------------------------------------------------


def test_a_foreign_write_before_the_quote_is_seen(kernel: KernelTsm, source: TsmReport) -> None:
    """Somebody writes to our entry, once: the quote is taken again, in another entry."""
    seen: list[str] = []

    def interfere(entry: Path) -> None:
        seen.append(entry.name)
        if len(seen) == 1:
            kernel.write(entry / "inblob", bytes(64))

    kernel.after_write = interfere
    item = the_item(source.collect(ask()))
    assert parse_quote(item.data).report.report_data == REPORT_DATA
    assert len(set(seen)) == 2
    assert kernel.names(kernel.root) == []


def test_a_foreign_write_after_the_quote_is_seen(kernel: KernelTsm, source: TsmReport) -> None:
    kernel.after_report = lambda entry: kernel.write(entry / "inblob", bytes(64))
    absence = the_absence(source.collect(ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert "another process" in absence.text
    assert kernel.made == 5
    assert kernel.names(kernel.root) == []


def test_an_entry_taken_away_is_made_again(kernel: KernelTsm, source: TsmReport) -> None:
    taken: list[Path] = []

    def take(entry: Path) -> None:
        if not taken:
            taken.append(entry)
            kernel.remove(entry)

    kernel.after_write = take
    the_item(source.collect(ask()))
    assert kernel.names(kernel.root) == []


def test_threads_do_not_disturb_each_other(kernel: KernelTsm) -> None:
    source = TsmReport(kernel.root, files=kernel)
    kernel.seconds = 0.01
    results: dict[int, bytes] = {}

    def work(number: int) -> None:
        item = the_item(source.collect(ask(bytes([number]) * 64)))
        results[number] = parse_quote(item.data).report.report_data

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: bytes([number]) * 64 for number in range(12)}
    assert kernel.names(kernel.root) == []


# --- leftovers -----------------------------------------------------------------------------------


def _dead_pid() -> int:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return pid


def test_only_entries_of_our_own_dead_are_removed(kernel: KernelTsm, source: TsmReport) -> None:
    me = this_process()
    dead = _dead_pid()
    gone = [
        module._name(Owner(me.boot, me.namespace, dead, 1)),
        # The process id is in use again, by a process that started at another time.
        module._name(Owner(me.boot, me.namespace, me.pid, me.start + 1)),
    ]
    kept = [
        module._name(me),
        module._name(Owner(me.boot, me.namespace, 1, this_start(1))),
        module._name(Owner("00000000", me.namespace, dead, 1)),
        module._name(Owner(me.boot, me.namespace + 1, dead, 1)),
        f"ccverify-{me.boot}-{me.namespace}-{dead}-1",
        f"x{gone[0]}",
        f"{gone[0]}x",
        "com.intel.dcap",
        "report0",
    ]
    for name in (*gone, *kept):
        kernel.make(kernel.root / name)
    the_item(source.collect(ask()))
    assert kernel.names(kernel.root) == sorted(kept)


def this_start(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_a_zombie_is_dead() -> None:
    me = this_process()
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        assert is_dead(Owner(me.boot, me.namespace, pid, this_start(pid)), me)
    finally:
        os.waitpid(pid, 0)


def test_what_cannot_be_removed_hinders_nothing(kernel: KernelTsm, source: TsmReport) -> None:
    me = this_process()
    name = module._name(Owner(me.boot, me.namespace, _dead_pid(), 1))
    kernel.make(kernel.root / name)
    removed = kernel.remove

    def refuse(path: Path) -> None:
        if path.name == name:
            raise error(errno.EACCES, path)
        removed(path)

    kernel.remove = refuse  # type: ignore[method-assign]
    the_item(source.collect(ask()))
    assert kernel.names(kernel.root) == [name]


@given(st.text(max_size=120))
def test_other_names_are_nobodys(name: str) -> None:
    owner = module._owner(name)
    assert owner is None or module._name(owner).rpartition("-")[0] == name.rpartition("-")[0]


@given(st.integers(0, 2**31), st.integers(0, 2**63), st.integers(0, 2**32 - 1))
def test_names_say_whose_they_are(pid: int, start: int, namespace: int) -> None:
    owner = Owner("0123abcd", namespace, pid, start)
    assert module._owner(module._name(owner)) == owner
    assert module._name(owner) != module._name(owner)


# --- plain directories: what is there before any driver is ----------------------------------------


def test_without_configfs_the_absence_says_what_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "sys/kernel/config/tsm/report"
    td, no_td = tmp_path / "td", tmp_path / "no-td"
    td.mkdir()
    no_td.mkdir()

    def absence(proc: Path, release: str = "6.8.0-1015-gcp") -> tuple[AbsenceReason, str]:
        source = TsmReport(root, proc=proc, release=release)
        collected, diagnosed = the_absence(source.collect(ask())), the_absence(source.diagnose())
        assert collected == diagnosed
        return collected.reason, collected.remedy

    proc = proc_of(td, td=True)
    assert absence(proc_of(no_td, td=False))[0] is AbsenceReason.NOT_PRESENT
    reason, remedy = absence(proc, "6.6.30")
    assert (reason, "6.7" in remedy) == (AbsenceReason.NOT_SUPPORTED, True)
    reason, remedy = absence(proc)
    assert (reason, "mount -t configfs" in remedy) == (AbsenceReason.NOT_PRESENT, True)
    (tmp_path / "sys/kernel/config").mkdir(parents=True)
    assert "mount -t configfs" in absence(proc)[1]
    (tmp_path / "sys/kernel/config/pci_ep").mkdir()
    reason, remedy = absence(proc)
    assert (reason, "modprobe tdx_guest" in remedy) == (AbsenceReason.NO_DRIVER, True)


def test_a_plain_directory_is_not_taken_for_configfs(tmp_path: Path) -> None:
    """No attributes appear in it; and what was made in it is removed again."""
    absence = the_absence(TsmReport(tmp_path, proc=Path("/proc")).collect(ask()))
    assert absence.reason in (AbsenceReason.NO_DRIVER, AbsenceReason.NOT_PRESENT)
    assert list(tmp_path.iterdir()) == []


def test_files_are_read_to_their_end_and_no_further_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(200_000))
    assert OsFiles().read(path, 200_000) == bytes(200_000)
    with pytest.raises(OSError, match="199999") as caught:
        OsFiles().read(path, 199_999)
    assert caught.value.errno == errno.EFBIG
    OsFiles().write(path, b"abc")
    assert path.read_bytes()[:4] == b"abc\0"
    assert path.stat().st_size == 200_000
