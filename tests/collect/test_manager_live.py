"""Asking the Fabric Manager and the switches: tools, library, and every way they can fail."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from manager_fakes import CONFIG, NVLSM_CONFIG, PARTITIONS, FakeHost, fails
from nv_fakes import compile_library

from ccverify.collect import manager_live
from ccverify.collect.manager_dumps import Arguments, DumpFile, Layout, read_layout
from ccverify.collect.manager_host import CommandResult, ManagerHost, OsHostFiles, run_command
from ccverify.collect.manager_library import STATUS
from ccverify.collect.manager_live import (
    LIBRARY,
    check_partitions,
    check_tables,
    read_keys,
    read_partitions,
    read_tables,
)
from ccverify.collect.model import Absence, AbsenceReason
from ccverify.fabric.manager import NVLSM
from ccverify.fabric.observation import Absent
from ccverify.fabric.partition_table import parse_fmpm_list
from ccverify.fabric.routing_dumps import parse_forwarding_tables, parse_key_tables
from ccverify.fabric.statement_model import Dump
from ccverify.sim.board import sim_board
from ccverify.sim.fabric_dumps import key_dump, linear_dump, subnet_list

GID = "/sys/class/infiniband/mlx5_2/ports/1/gids/0"
SUBNET = "/var/dumps/nvlsm-subnet.lst"


@pytest.fixture
def fake() -> FakeHost:
    return FakeHost()


def layout(fake: FakeHost, arguments: Arguments | None = None, **given: Path) -> Layout:
    return read_layout(fake.host, arguments or {}, {Dump(k): v for k, v in given.items()})


def partitions(fake: FakeHost) -> DumpFile | Absence:
    return read_partitions(fake.host, layout(fake), 30)


# --- fmpm ---


def test_the_tool_is_asked_first(fake: FakeHost) -> None:
    found = partitions(fake)
    assert isinstance(found, DumpFile)
    assert (found.item.label, found.item.data, found.item.source) == (
        "fm-partitions", PARTITIONS, "fmpm",
    )  # fmt: skip
    assert (found.path, found.modified) == ("fmpm", Absent("NO_FILE"))
    assert fake.ran == [("fmpm", "-l")]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("", ()),
        ("FM_CMD_BIND_INTERFACE=127.0.0.1\nFM_CMD_PORT_NUMBER=6666\n", ()),
        ("FM_CMD_BIND_INTERFACE=0.0.0.0\n", ()),
        ("FM_CMD_BIND_INTERFACE=10.0.0.7\n", ("--hostname", "10.0.0.7")),
        ("FM_CMD_PORT_NUMBER=7000\n", ("--hostname", "127.0.0.1:7000")),
        ("FM_CMD_BIND_INTERFACE=manager.example\n", ()),
        ("FM_CMD_BIND_INTERFACE=--help\n", ()),
        ("FM_CMD_UNIX_SOCKET_PATH=/run/fm.sock\nFM_CMD_PORT_NUMBER=7\n",
         ("--unix-domain-socket", "/run/fm.sock")),
        ("FM_CMD_UNIX_SOCKET_PATH=--activate\n", ()),
    ],
)  # fmt: skip
def test_it_is_asked_where_the_configuration_says(
    fake: FakeHost, settings: str, words: tuple[str, ...]
) -> None:
    fake.put(CONFIG, settings.encode())
    partitions(fake)
    assert fake.ran == [("fmpm", "-l", *words)]


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (CommandResult(253, b"Failed to get partition list. fmReturn: -3\n"),
         AbsenceReason.FAILED, "fmReturn: -3"),
        (CommandResult(0, b"Failed to connect to Fabric Manager instance.\n"),
         AbsenceReason.FAILED, "Failed to connect"),
        (CommandResult(-11, b"", "\x1b[31mcrash"), AbsenceReason.FAILED, "?[31mcrash"),
        (CommandResult(0, b""), AbsenceReason.FAILED, "said nothing"),
        (fails(errno.ETIMEDOUT), AbsenceReason.TIMEOUT, "ETIMEDOUT"),
        (fails(errno.EACCES), AbsenceReason.NO_PERMISSION, "EACCES"),
        (fails(errno.EFBIG), AbsenceReason.FAILED, "EFBIG"),
        (fails(errno.ENOENT), AbsenceReason.NO_LIBRARY, "not installed"),
    ],
)  # fmt: skip
def test_what_the_tool_refuses_is_told(
    fake: FakeHost, answer: CommandResult | OSError, reason: AbsenceReason, said: str
) -> None:
    fake.commands["fmpm"] = answer
    found = partitions(fake)
    assert isinstance(found, Absence)
    assert (found.label, found.reason) == ("fm-partitions", reason)
    assert said in found.text
    assert LIBRARY in found.text  # was tried too
    assert "FABRIC_MODE=1" in found.remedy


def test_a_file_of_the_users_goes_before_everything(fake: FakeHost) -> None:
    fake.put("/saved.json", b'{"saved": 1}')
    given = layout(fake, **{"fm-partitions": Path("/saved.json")})
    found = read_partitions(fake.host, given, 30)
    assert isinstance(found, DumpFile)
    assert (found.item.data, found.path, fake.ran) == (b'{"saved": 1}', "/saved.json", [])


# --- the library ---


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvfm"), "fake_nvfm.c")


@pytest.fixture
def asked(
    library: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeHost
) -> Callable[..., DumpFile | Absence]:
    """Ask through the real child process, over the fake library."""
    monkeypatch.setattr(manager_live, "LIBRARY", str(library))

    def run(words: tuple[str, ...], seconds: float) -> CommandResult:
        fake.ran.append(words)
        if words[0] != sys.executable:
            raise fails(errno.ENOENT)
        # As run_command does, which would not hand on what the fake library plays.
        try:
            done = subprocess.run(words, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise fails(errno.ETIMEDOUT) from None
        return CommandResult(done.returncode, done.stdout, done.stderr.decode())

    def ask(settings: str = "", seconds: float = 30, **play: int) -> DumpFile | Absence:
        for name, value in play.items():
            monkeypatch.setenv(f"FAKE_{name.upper()}", str(value))
        fake.put(CONFIG, settings.encode())
        return read_partitions(ManagerHost(fake.files, run), layout(fake), seconds)

    return ask


def test_the_library_lists_what_the_tool_would(asked: Callable[..., DumpFile | Absence]) -> None:
    found = asked()
    assert isinstance(found, DumpFile)
    table = parse_fmpm_list(found.item.data)
    assert [(entry.id, entry.active, sorted(entry.modules)) for entry in table.entries] == [
        (1, False, [1, 2]), (2, True, [3, 4]),
    ]  # fmt: skip
    assert table.entries[0].gpus[0].links_available == 18
    assert table.entries[0].gpus[0].line_rate == 53125


def test_an_older_library_knows_the_older_parameters(
    asked: Callable[..., DumpFile | Absence],
) -> None:
    assert isinstance(asked(old=1), DumpFile)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ("", "127.0.0.1 0 5000"),
        ("FM_CMD_PORT_NUMBER=7000\n", "127.0.0.1:7000 0 5000"),
        ("FM_CMD_UNIX_SOCKET_PATH=/run/fm.sock\n", "/run/fm.sock 1 5000"),
    ],
)
def test_the_library_is_given_the_address(
    asked: Callable[..., DumpFile | Absence], settings: str, address: str
) -> None:
    found = asked(settings, connect=-9)
    assert isinstance(found, Absence)
    assert address in found.text


@pytest.mark.parametrize(
    ("play", "reason", "said"),
    [
        ({"init": -2}, AbsenceReason.FAILED, "fmLibInit: FM_ST_GENERIC_ERROR"),
        ({"connect": -9}, AbsenceReason.FAILED, "FM_ST_CONNECTION_NOT_VALID"),
        ({"connect": -5}, AbsenceReason.TIMEOUT, "FM_ST_TIMEOUT"),
        ({"list": -3}, AbsenceReason.NOT_SUPPORTED, "FM_ST_NOT_SUPPORTED"),
        ({"list": -8}, AbsenceReason.NOT_SUPPORTED, "FM_ST_NOT_CONFIGURED"),
        ({"list": -77}, AbsenceReason.FAILED, "return code -77"),
        ({"crash": 1}, AbsenceReason.FAILED, "status -6"),
    ],
)
def test_what_the_library_refuses(
    asked: Callable[..., DumpFile | Absence],
    play: dict[str, int],
    reason: AbsenceReason,
    said: str,
) -> None:
    found = asked(**play)
    assert isinstance(found, Absence)
    assert (found.reason, said in found.text) == (reason, True)


def test_a_library_that_hangs_is_left(asked: Callable[..., DumpFile | Absence]) -> None:
    found = asked(hang=1, seconds=1)
    assert isinstance(found, Absence)
    assert found.reason is AbsenceReason.TIMEOUT


def test_numbers_that_cannot_be_read_no_further_than_there_is_room(
    asked: Callable[..., DumpFile | Absence],
) -> None:
    found = asked(many=1)
    assert isinstance(found, DumpFile)
    document = json.loads(found.item.data)
    assert document["numPartitions"] == 4_000_000_000
    assert len(document["partitionInfo"]) == 64
    assert {len(one["gpuInfo"]) for one in document["partitionInfo"]} == {16}


def test_a_library_that_is_not_there_or_another(tmp_path: Path) -> None:
    from ccverify.collect.manager_library import main

    said: list[str] = []
    for name in (str(tmp_path / "none.so"), "libc.so.6"):
        assert main([name, "inet", "127.0.0.1", "5"], said.append) == STATUS["no-library"]
    for kind, address in (("vsock", "1"), ("inet", ""), ("unix", "/" + "x" * 256)):
        assert main([name, kind, address, "5"], said.append) == STATUS["refused"]
    assert len(said) == 5


def test_without_a_library_this_very_machine_says_so() -> None:
    """Through the real runner of commands."""
    if any(Path(place, LIBRARY).exists() for place in ("/usr/lib64", "/usr/lib")):
        pytest.skip(f"{LIBRARY} is here")
    host = ManagerHost(OsHostFiles(), run_command)
    found = read_partitions(host, layout(FakeHost()), 60)
    assert isinstance(found, Absence)
    assert found.reason is AbsenceReason.NO_LIBRARY, found.text


def test_what_would_be_missing_is_found_without_asking(fake: FakeHost) -> None:
    where = layout(fake)
    absent = check_partitions(fake.host, where, running=False)
    assert absent is not None
    assert absent.reason is AbsenceReason.NOT_PRESENT
    absent = check_partitions(fake.host, where, running=True)
    assert absent is not None
    assert absent.reason is AbsenceReason.NO_LIBRARY
    for path in ("/usr/bin/fmpm", f"/usr/lib/x86_64-linux-gnu/{LIBRARY}"):
        fake.put(path, b"x")
        assert check_partitions(fake.host, where, running=True) is None
        fake.remove(path)
    assert fake.ran == []


# --- tables of the switches ---

BOARD = sim_board("B300", [2, 3])


@pytest.fixture
def cabled(fake: FakeHost) -> FakeHost:
    """A host with NVLSM's port, on which only NVLSM's list of links is a file."""
    fake.remove("/var/dumps/nvlsm-pkeys.dump", "/var/dumps/nvlsm-lfts.dump")
    fake.put(SUBNET, subnet_list(BOARD.fabric))
    fake.put(GID, b"fe80:0000:0000:0000:7425:5403:0035:3de9\n")
    fake.put("/sys/class/infiniband/mlx5_1/ports/1/gids/0", b"fe80::1\n")
    fake.commands["smpquery"] = Queries(key_dump(BOARD.fabric))
    fake.commands["dump_fts"] = CommandResult(0, linear_dump(BOARD.fabric))
    return fake


class Queries:
    """Answers ``smpquery pkeys`` from a dump of all tables."""

    def __init__(self, dump: bytes) -> None:
        self.tables = {}
        for table in dump.decode().split("Node 0x")[1:]:
            head, _, body = table.partition("\n")
            guid, _, port = head.partition(" port ")
            self.tables[int(guid, 16), int(port)] = body.encode()
        self.fail_at: dict[int, CommandResult | OSError] = {}
        self.count = 0

    def __call__(self, words: tuple[str, ...]) -> CommandResult:
        self.count += 1
        failure = self.fail_at.get(self.count)
        if isinstance(failure, OSError):
            raise failure
        if failure is not None:
            return failure
        lid, port = int(words[-2]), int(words[-1])
        return CommandResult(0, self.tables[self._node(lid, port)], "ibwarn: nothing\n")

    def _node(self, lid: int, port: int) -> tuple[int, int]:
        fabric = BOARD.fabric
        for (gpu, link), own in fabric.lids.items():
            if own == lid:
                assert port == 0  # an end port is found by its LID
                return fabric.node_guid(gpu), link + 1
        switch = next(name for name, own in fabric.switch_lids.items() if own == lid)
        return fabric.node_guid(switch), port


def keys(fake: FakeHost, clock: Iterator[float] | None = None) -> DumpFile | Absence:
    return read_keys(fake.host, layout(fake), {}, lambda: next(clock) if clock else 0.0, 60.0)


def test_every_cabled_port_is_asked_for_its_keys(cabled: FakeHost) -> None:
    found = keys(cabled)
    assert isinstance(found, DumpFile), found
    tables = parse_key_tables(found.item.data)
    assert tables == parse_key_tables(key_dump(BOARD.fabric))
    assert len(tables) == 2 * 8 * 18
    assert (found.item.source, found.modified) == ("smpquery pkeys", Absent("NO_FILE"))
    assert {words[:6] for words in cabled.ran} == {("smpquery", "-C", "mlx5_2", "-P", "1", "pkeys")}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (CommandResult(255, b"", "smpquery: iberror: failed: pkey table query failed\n"),
         AbsenceReason.FAILED),
        (CommandResult(0, b"hello\n"), AbsenceReason.FAILED),
        (CommandResult(0, b""), AbsenceReason.FAILED),
        (CommandResult(0, b"   0: 0xffff\n8 pkeys capacity for this port\n"),
         AbsenceReason.FAILED),
        (CommandResult(0, b"   0: 0xffff 0x0000 0x0000 0x0000 0x0000 0x0000 0x0000 0x0000\n"
                          b"8 pkeys capacity for this port\nNode 0x1 port 2\n"),
         AbsenceReason.FAILED),
        (fails(errno.ETIMEDOUT), AbsenceReason.TIMEOUT),
        (fails(errno.EACCES), AbsenceReason.NO_PERMISSION),
        (fails(errno.ENOENT), AbsenceReason.NO_LIBRARY),
    ],
)  # fmt: skip
def test_one_port_without_an_answer_makes_all_absent(
    cabled: FakeHost, failure: CommandResult | OSError, reason: AbsenceReason
) -> None:
    queries = cabled.commands["smpquery"]
    assert isinstance(queries, Queries)
    queries.fail_at[7] = failure
    found = keys(cabled)
    assert isinstance(found, Absence)
    assert (found.label, found.reason) == ("nvlsm-pkeys", reason)
    assert found.text.startswith("port 7 of 288, ")
    assert queries.count == 7


def test_keys_take_no_longer_than_there_is_time(cabled: FakeHost) -> None:
    found = keys(cabled, iter([*[0.0] * 10, *[61.0] * 1000]))
    assert isinstance(found, Absence)
    assert found.reason is AbsenceReason.TIMEOUT
    assert len(cabled.ran) == 10


def test_no_other_port_is_asked_through(cabled: FakeHost) -> None:
    """Addresses of another network mean other machines."""
    cabled.remove(GID)
    found = keys(cabled)
    assert isinstance(found, Absence)
    assert found.reason is AbsenceReason.NOT_PRESENT
    assert "no InfiniBand port" in found.text
    lfts = read_tables(cabled.host, layout(cabled), {}, 30)
    assert isinstance(lfts, Absence)
    assert lfts.reason is AbsenceReason.NOT_PRESENT
    assert cabled.ran == []


@pytest.mark.parametrize("gid", [b"", b"\xff", b"fe80::7425:5403:0035:3de9\n", b"x" * 5000])
def test_a_gid_that_is_none(cabled: FakeHost, gid: bytes) -> None:
    cabled.put(GID, gid)
    assert isinstance(keys(cabled), Absence)
    assert cabled.ran == []


def test_the_port_is_named_by_the_process_before_the_file(cabled: FakeHost) -> None:
    arguments: Arguments = {NVLSM: ("nvlsm", "-g", "0x1")}
    assert isinstance(read_keys(cabled.host, layout(cabled), arguments, lambda: 0.0, 60.0), Absence)
    cabled.put(NVLSM_CONFIG, b"guid 0x1\ndump_files_dir /var/dumps\n")
    arguments = {NVLSM: ("nvlsm", "--guid=7425540300353de9")}
    assert isinstance(
        read_keys(cabled.host, layout(cabled), arguments, lambda: 0.0, 60.0), DumpFile
    )


@pytest.mark.parametrize("subnet", [b"", b"garbage\n", b"\xff\xfe"])
def test_without_a_list_of_links_no_port_is_asked(cabled: FakeHost, subnet: bytes) -> None:
    cabled.put(SUBNET, subnet)
    found = keys(cabled)
    assert isinstance(found, Absence)
    assert cabled.ran == []


def test_forwarding_tables_come_from_the_switches_where_there_is_no_file(cabled: FakeHost) -> None:
    found = read_tables(cabled.host, layout(cabled), {}, 30)
    assert isinstance(found, DumpFile)
    assert len(parse_forwarding_tables(found.item.data)) == 2
    assert cabled.ran == [("dump_fts", "-C", "mlx5_2", "-P", "1")]
    cabled.put("/var/dumps/nvlsm-lfts.dump", b"the file")
    found = read_tables(cabled.host, layout(cabled), {}, 30)
    assert isinstance(found, DumpFile)
    assert found.item.data == b"the file"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (CommandResult(1, b"no"), AbsenceReason.FAILED),
        (CommandResult(0, b""), AbsenceReason.FAILED),
        (CommandResult(0, b"something else\n"), AbsenceReason.FAILED),
        (fails(errno.ETIMEDOUT), AbsenceReason.TIMEOUT),
        (fails(errno.ENOENT), AbsenceReason.NOT_PRESENT),
    ],
)
def test_forwarding_tables_that_cannot_be_had(
    cabled: FakeHost, answer: CommandResult | OSError, reason: AbsenceReason
) -> None:
    cabled.commands["dump_fts"] = answer
    found = read_tables(cabled.host, layout(cabled), {}, 30)
    assert isinstance(found, Absence)
    assert (found.label, found.reason) == ("nvlsm-lfts", reason)


def test_a_file_that_may_not_be_read_is_not_gone_round(cabled: FakeHost) -> None:
    cabled.put("/var/dumps/nvlsm-pkeys.dump", fails(errno.EACCES))
    found = keys(cabled)
    assert isinstance(found, Absence)
    assert found.reason is AbsenceReason.NO_PERMISSION
    assert cabled.ran == []


@pytest.mark.parametrize(("dump", "tool"), [(Dump.PKEYS, "smpquery"), (Dump.LFTS, "dump_fts")])
def test_what_tables_would_need_is_found_without_asking(
    cabled: FakeHost, dump: Dump, tool: str
) -> None:
    absent = check_tables(cabled.host, dump, layout(cabled), {})
    assert absent is not None
    assert tool in absent.text
    cabled.put(f"/usr/sbin/{tool}", b"x")
    assert check_tables(cabled.host, dump, layout(cabled), {}) is None
    cabled.remove(GID)
    absent = check_tables(cabled.host, dump, layout(cabled), {})
    assert absent is not None
    assert "no InfiniBand port" in absent.text
    assert cabled.ran == []


def test_the_library_is_asked_in_a_process_of_its_own() -> None:
    script = Path(manager_live.__file__).with_name("manager_library.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), "libc.so.6", "inet", "127.0.0.1", "1"],
        capture_output=True, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == STATUS["no-library"]
    assert b"fmLibInit" in done.stdout
