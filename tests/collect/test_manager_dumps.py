"""Files of a manager's host: where they are, which are refused, and what is withheld."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manager_fakes import BTIME, CONFIG, NVLSM_CONFIG, FakeHost, fails

from ccverify.collect.manager_dumps import (
    MAX_DUMP_BYTES,
    Arguments,
    DumpFile,
    Layout,
    check_dump,
    outcome_of,
    read_dump,
    read_layout,
)
from ccverify.collect.manager_host import ManagerHost, OsHostFiles
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM
from ccverify.fabric.manager_config import parse_nvlsm_config
from ccverify.fabric.observation import Absent
from ccverify.fabric.statement_model import Dump

FILES = [dump for dump in Dump if dump is not Dump.PARTITIONS]


@pytest.fixture
def fake() -> FakeHost:
    return FakeHost()


def layout(fake: FakeHost, arguments: Arguments | None = None, **given: str) -> Layout:
    files = {Dump[name]: Path(path) for name, path in given.items()}
    return read_layout(fake.host, arguments or {}, files)


def read(fake: FakeHost, dump: Dump) -> DumpFile | Absence:
    return read_dump(fake.host, dump, layout(fake))


# --- where they are ---


def test_configurations_say_where_the_rest_is(fake: FakeHost) -> None:
    found = layout(fake)
    assert {dump: [str(path) for path in paths] for dump, paths in found.paths.items()} == {
        Dump.CONFIG: [CONFIG],
        Dump.NVLSM_CONFIG: [NVLSM_CONFIG, "/usr/share/nvidia/nvswitch/nvlsm.conf"],
        Dump.DEFINITIONS: ["/etc/partitions.json"],
        Dump.STATE: ["/var/tmp/fm.state"],
        Dump.PARTITIONS_CONF: ["/etc/nvlsm/parts.conf"],
        Dump.SUBNET: ["/var/dumps/nvlsm-subnet.lst"],
        Dump.FDBS: ["/var/dumps/nvlsm.fdbs"],
        Dump.LFTS: ["/var/dumps/nvlsm-lfts.dump"],
        Dump.MCFDBS: ["/var/dumps/nvlsm.mcfdbs"],
        Dump.PKEYS: ["/var/dumps/nvlsm-pkeys.dump"],
        Dump.GUID2LID: ["/var/cache/nvlsm/guid2lid"],
    }
    assert found.log == Path("/var/log/fm.log")
    assert found.manager.fabric_mode == 1


@pytest.mark.parametrize("data", [None, b"no configuration\n", b"\xff\xfe", fails(errno.EACCES)])
def test_without_a_configuration_the_usual_places_are_taken(
    fake: FakeHost, data: bytes | OSError | None
) -> None:
    for path in (CONFIG, NVLSM_CONFIG):
        fake.put(path, data) if data is not None else fake.remove(path)
    found = layout(fake)
    assert found.paths[Dump.DEFINITIONS] == ()
    assert [str(path) for path in found.paths[Dump.STATE]] == [
        "/var/tmp/fabricmanager.state", "/tmp/fabricmanager.state",
    ]  # fmt: skip
    assert found.paths[Dump.FDBS] == (Path("/var/log/nvlsm.fdbs"),)
    assert found.paths[Dump.PARTITIONS_CONF] == (Path("/etc/nvlsm/partitions.conf"),)
    assert found.log == Path("/var/log/fabricmanager.log")
    absence = read(fake, Dump.DEFINITIONS)
    assert isinstance(absence, Absence)
    assert absence.reason is AbsenceReason.NOT_PRESENT


def test_the_command_line_goes_before_the_usual_places(fake: FakeHost) -> None:
    fake.put("/run/fm.cfg", b"LOG_USE_SYSLOG=1\n")
    fake.put("/run/sm.conf", b"dump_files_dir /elsewhere\n")
    arguments: Arguments = {
        FABRIC_MANAGER: ("nv-fabricmanager", "-c", "/run/fm.cfg"),
        NVLSM: ("nvlsm", "--config=/run/sm.conf", "--dump_files_dir", "/dumps"),
    }
    found = layout(fake, arguments)
    assert found.paths[Dump.CONFIG] == (Path("/run/fm.cfg"),)
    assert found.paths[Dump.NVLSM_CONFIG] == (Path("/run/sm.conf"),)
    assert found.paths[Dump.FDBS] == (Path("/dumps/nvlsm.fdbs"),)
    assert found.log is None


@pytest.mark.parametrize(
    "words", [("fm", "-c"), ("fm", "-c", "relative.cfg"), ("fm", "-c", ""), (), Absent("TIMEOUT")]
)
def test_a_command_line_that_names_no_file(fake: FakeHost, words: tuple[str, ...] | Absent) -> None:
    assert layout(fake, {FABRIC_MANAGER: words}).paths[Dump.CONFIG] == (Path(CONFIG),)


def test_what_the_user_names_goes_before_everything(fake: FakeHost) -> None:
    fake.put("/mine.cfg", b"STATE_FILE_NAME=/mine.state\n")
    found = layout(fake, {FABRIC_MANAGER: ("fm", "-c", CONFIG)}, CONFIG="/mine.cfg", PKEYS="/k")
    assert found.paths[Dump.CONFIG] == (Path("/mine.cfg"),)
    assert found.paths[Dump.STATE] == (Path("/mine.state"),)
    assert found.paths[Dump.PKEYS] == (Path("/k"),)


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_configurations_may_hold_anything(one: bytes, other: bytes) -> None:
    fake = FakeHost()
    fake.put(CONFIG, one)
    fake.put(NVLSM_CONFIG, other)
    found = layout(fake)
    for dump in FILES:
        assert isinstance(outcome_of(read_dump(fake.host, dump, found)), Item | Absence)


# --- reading them ---


@pytest.mark.parametrize("dump", FILES)
def test_each_file_is_an_item_as_it_is(fake: FakeHost, dump: Dump) -> None:
    found = read(fake, dump)
    assert isinstance(found, DumpFile)
    data = fake.files.files[found.path]
    assert (found.item.label, found.item.type) == (dump.value, ItemType.FABRIC_DUMP)
    assert found.item.data == data
    assert (found.item.source, found.modified) == (f"file {found.path}", BTIME)
    assert check_dump(fake.host, dump, layout(fake)) is None


@pytest.mark.parametrize("dump", FILES)
@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [
        (errno.ENOENT, AbsenceReason.NOT_PRESENT, "--manager-file {}=FILE"),
        (errno.ENOTDIR, AbsenceReason.NOT_PRESENT, "--manager-file {}=FILE"),
        (errno.EACCES, AbsenceReason.NO_PERMISSION, "run as root"),
        (errno.EPERM, AbsenceReason.NO_PERMISSION, "run as root"),
        (errno.ELOOP, AbsenceReason.FAILED, "the file that the link leads to"),
        (errno.EINVAL, AbsenceReason.FAILED, "--manager-file {}=FILE"),
        (errno.EFBIG, AbsenceReason.FAILED, "--manager-file {}=FILE"),
        (errno.EIO, AbsenceReason.FAILED, "--manager-file {}=FILE"),
    ],
)
def test_each_file_can_be_absent_for_each_reason(
    fake: FakeHost, dump: Dump, number: int, reason: AbsenceReason, remedy: str
) -> None:
    where = layout(fake)
    for path in where.paths[dump]:
        fake.put(str(path), fails(number))
    for found in (read_dump(fake.host, dump, where), check_dump(fake.host, dump, where)):
        assert isinstance(found, Absence)
        assert (found.label, found.reason) == (dump.value, reason)
        assert str(where.paths[dump][0]) in found.text
        assert remedy.format(dump.value) in found.remedy


@pytest.mark.parametrize("dump", FILES)
def test_an_empty_file_is_no_table_but_where_it_may_be_one(fake: FakeHost, dump: Dump) -> None:
    where = layout(fake)
    fake.put(str(where.paths[dump][0]), b"")
    found = read_dump(fake.host, dump, where)
    if dump in (Dump.MCFDBS, Dump.PARTITIONS_CONF):
        assert isinstance(found, DumpFile)
        assert found.item.data == b""
    else:
        assert isinstance(found, Absence)
        assert (found.reason, "empty" in found.text) == (AbsenceReason.FAILED, True)


def test_a_file_that_is_written_meanwhile_is_no_item(fake: FakeHost) -> None:
    fake.files.changing.add("/var/dumps/nvlsm.fdbs")
    found = read(fake, Dump.FDBS)
    assert isinstance(found, Absence)
    assert (found.reason, "EBUSY" in found.text) == (AbsenceReason.FAILED, True)
    assert fake.files.reads.count("/var/dumps/nvlsm.fdbs") == 3


def test_the_second_place_is_looked_at_only_where_the_first_has_nothing(fake: FakeHost) -> None:
    fake.put(CONFIG, b"FABRIC_MODE=1\n")
    fake.put("/tmp/fabricmanager.state", b"old place")
    found = read(fake, Dump.STATE)
    assert isinstance(found, DumpFile)
    assert found.item.data == b"old place"
    fake.put("/var/tmp/fabricmanager.state", fails(errno.EACCES))
    found = read(fake, Dump.STATE)
    assert isinstance(found, Absence)
    assert found.reason is AbsenceReason.NO_PERMISSION


# --- what is withheld ---

KEYS = b"""# key of nobody
m_key 0x00000000deadbeef
sm_key 0x0000000000000001
sa_key\t0x0000000000000000
m_key_lease_period 60
m_key_per_port FALSE
cc_key 0
vs_key (null)
key_mgr_seed 0xdeadbeef12345678
guid 0x7425540300353de9
"""


def test_keys_of_the_subnet_are_withheld(fake: FakeHost) -> None:
    fake.put(NVLSM_CONFIG, KEYS)
    found = read(fake, Dump.NVLSM_CONFIG)
    assert isinstance(found, DumpFile)
    data = found.item.data
    assert b"deadbeef" not in data
    assert data == (
        KEYS.replace(b"0x00000000deadbeef", b"WITHHELD")
        .replace(b"0x0000000000000001", b"WITHHELD")
        .replace(b"0xdeadbeef12345678", b"WITHHELD")
    )
    assert found.item.source == f"file {NVLSM_CONFIG}; 3 keys withheld"
    assert parse_nvlsm_config(data).guid == 0x7425540300353DE9


def test_nothing_else_is_changed(fake: FakeHost) -> None:
    data = b"m_key 0x1\n\xff\xfe keyless\r\n"
    fake.put(CONFIG, data)
    found = read_dump(fake.host, Dump.CONFIG, layout(fake))
    assert isinstance(found, DumpFile)
    assert found.item.data == data


# --- a real file tree ---


def tree(folder: Path) -> tuple[ManagerHost, Layout]:
    host = ManagerHost(OsHostFiles(), lambda words, seconds: (_ for _ in ()).throw(fails(2)))
    given = {dump: folder / dump.value for dump in FILES}
    return host, read_layout(host, {}, given)


def test_a_real_tree_is_read(tmp_path: Path) -> None:
    for dump in FILES:
        (tmp_path / dump.value).write_bytes(dump.value.encode())
    host, where = tree(tmp_path)
    for dump in FILES:
        found = read_dump(host, dump, where)
        assert isinstance(found, DumpFile)
        assert found.item.data == dump.value.encode()
        assert isinstance(found.modified, int)


@pytest.mark.parametrize("kind", ["fifo", "link", "circle", "sparse", "directory", "zero"])
def test_a_hostile_tree_gives_absences(tmp_path: Path, kind: str) -> None:
    path = tmp_path / Dump.STATE.value
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    host, where = tree(tmp_path)
    for found in (read_dump(host, Dump.STATE, where), check_dump(host, Dump.STATE, where)):
        assert isinstance(found, Absence)
        assert found.reason is AbsenceReason.FAILED
        assert found.text.startswith(f"{path} cannot be used: E")


def test_a_file_of_exactly_the_limit_fits(tmp_path: Path) -> None:
    path = tmp_path / Dump.STATE.value
    path.write_bytes(bytes(MAX_DUMP_BYTES))
    host, where = tree(tmp_path)
    assert isinstance(read_dump(host, Dump.STATE, where), DumpFile)
    assert check_dump(host, Dump.STATE, where) is None
    path.write_bytes(bytes(MAX_DUMP_BYTES + 1))
    assert isinstance(read_dump(host, Dump.STATE, where), Absence)
    assert isinstance(check_dump(host, Dump.STATE, where), Absence)
