"""CCEL and measurement registers, over plain directories and a fake of sysfs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from kernel_tsm import error
from tdx_asks import ask, by_label, proc_of, the_absence, the_item

from ccverify.collect.ccel import Ccel
from ccverify.collect.files import OsFiles
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.collect.td_measurements import TdMeasurements, extend_rtmr3
from ccverify.sim.eventlog import ccel_acpi_table

# --- CCEL ----------------------------------------------------------------------------------------


def tables(base: Path, table: bytes | None, log: bytes | None) -> Ccel:
    root = base / "tables"
    (root / "data").mkdir(parents=True)
    if table is not None:
        (root / "CCEL").write_bytes(table)
    if log is not None:
        (root / "data/CCEL").write_bytes(log)
    return Ccel(root, proc=proc_of(base, td=True))


def test_both_parts(tmp_path: Path) -> None:
    log = b"\x01" * 1000 + b"\xff" * 64_536
    source = tables(tmp_path, ccel_acpi_table(len(log)), log)
    found = by_label(source.collect(ask(None)))
    assert set(found) == set(source.gives)
    assert found["ccel"] == Item("ccel", ItemType.CCEL, log, "ACPI CCEL")
    assert found["ccel-table"] == Item(
        "ccel-table", ItemType.CCEL_TABLE, ccel_acpi_table(len(log)), "ACPI CCEL"
    )
    assert source.diagnose() == ()


def test_real_ccel(tmp_path: Path, vectors: Path) -> None:
    logs = vectors / "tdx/eventlogs"
    table = (logs / "gcp_cos113_ccel_table.bin").read_bytes()
    log = (logs / "gcp_cos113_ccel_data.bin").read_bytes()
    found = by_label(tables(tmp_path, table, log).collect(ask(None)))
    assert all(isinstance(one, Item) for one in found.values())


@pytest.mark.parametrize("size", [65_535, 65_537, 1])
def test_a_log_of_another_length_than_the_table_says(tmp_path: Path, size: int) -> None:
    found = by_label(tables(tmp_path, ccel_acpi_table(65_536), bytes(size)).collect(ask(None)))
    log = found["ccel"]
    assert isinstance(log, Absence)
    assert log.reason is AbsenceReason.FAILED
    assert "65536" in log.text
    assert str(size) in log.text
    assert isinstance(found["ccel-table"], Item)


@pytest.mark.parametrize(
    "table", [b"", bytes(56), ccel_acpi_table(4096)[:-1], ccel_acpi_table(4096, cc_type=1)]
)
def test_a_bad_table_is_told_and_the_log_stays(tmp_path: Path, table: bytes) -> None:
    found = by_label(tables(tmp_path, table, bytes(4096)).collect(ask(None)))
    bad = found["ccel-table"]
    assert isinstance(bad, Absence)
    assert bad.reason is AbsenceReason.FAILED
    assert isinstance(found["ccel"], Item)


def test_too_large(tmp_path: Path) -> None:
    source = tables(tmp_path, bytes(4097), bytes(4 * 1024 * 1024 + 1))
    for one in source.collect(ask(None)):
        assert isinstance(one, Absence)
        assert one.reason is AbsenceReason.FAILED
        assert "EFBIG" in one.text
    assert len(source.diagnose()) == 2


def test_none(tmp_path: Path) -> None:
    source = tables(tmp_path, None, None)
    found = by_label(source.collect(ask(None)))
    assert set(found) == {"ccel", "ccel-table"}
    assert {one.reason for one in found.values() if isinstance(one, Absence)} == {
        AbsenceReason.NOT_PRESENT
    }
    assert tuple(found.values()) == tuple(source.diagnose())
    (tmp_path / "no").mkdir()
    other = Ccel(tmp_path / "nothing", proc=proc_of(tmp_path / "no", td=False))
    assert all("no TDX guest" in one.text for one in other.diagnose())


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EACCES, AbsenceReason.NO_PERMISSION),
        (errno.EPERM, AbsenceReason.NO_PERMISSION),
        (errno.EIO, AbsenceReason.FAILED),
    ],
)
def test_errors(tmp_path: Path, number: int, reason: AbsenceReason) -> None:
    class Refusing(OsFiles):
        def read(self, path: Path, limit: int) -> bytes:
            raise error(number, path)

    for one in Ccel(tmp_path, files=Refusing()).diagnose():
        assert one.reason is reason
    source = TdMeasurements(tmp_path / "x", files=Refusing())
    (tmp_path / "x").mkdir()
    (tmp_path / "x/rtmr0:sha384").touch()
    assert the_absence(source.collect(ask(None))).reason is reason


# --- registers -----------------------------------------------------------------------------------

NAMES = [
    *(f"rtmr{n}:sha384" for n in range(4)), "mrtd:sha384", "mrconfigid", "mrowner", "mrownerconfig",
]  # fmt: skip


class Sysfs(OsFiles):
    """tdx_guest/measurements of Linux 6.16 (drivers/virt/coco/guest/tsm-mr.c).

    Only whole writes to RTMRs are taken, and extend them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        for number, name in enumerate(NAMES):
            (root / name).write_bytes(bytes([number]) * 48)
        self.before_write: bytes | None = None
        """What somebody else extends RTMR3 by just before us."""
        self.failure: int | None = None
        self.written: list[bytes] = []

    def extend(self, path: Path, data: bytes) -> None:
        path.write_bytes(hashlib.sha384(path.read_bytes() + data).digest())

    def write(self, path: Path, data: bytes) -> None:
        if self.failure is not None:
            raise error(self.failure, path)
        if len(data) != 48:
            raise error(errno.EINVAL, path)
        if not path.name.startswith("rtmr"):
            raise error(errno.EACCES, path)
        if self.before_write is not None:
            self.extend(path, self.before_write)
        self.written.append(data)
        self.extend(path, data)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path / "measurements")


def test_all_registers(sysfs: Sysfs) -> None:
    source = TdMeasurements(sysfs.root, files=sysfs)
    (sysfs.root / "uevent.x y").touch()
    item = the_item(source.collect(ask(None)))
    assert (item.label, item.type) == ("td-measurements", ItemType.TD_MEASUREMENTS)
    assert json.loads(item.data) == {
        name: f"{number:02x}" * 48 for number, name in enumerate(NAMES)
    }
    assert (
        item.data
        == json.dumps(json.loads(item.data), sort_keys=True, separators=(",", ":")).encode()
    )
    assert source.diagnose() == ()
    assert sysfs.written == []


@pytest.mark.parametrize("size", [0, 47, 49])
def test_a_register_of_another_size(sysfs: Sysfs, size: int) -> None:
    (sysfs.root / "mrtd:sha384").write_bytes(bytes(size))
    absence = the_absence(TdMeasurements(sysfs.root).collect(ask(None)))
    assert absence.reason is AbsenceReason.FAILED


def test_no_registers(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, td=True)
    nothing = tmp_path / "nothing"

    def reason(release: str) -> AbsenceReason:
        source = TdMeasurements(nothing, proc=proc, release=release)
        return the_absence(source.collect(ask(None))).reason

    assert reason("6.8.0") is AbsenceReason.NOT_SUPPORTED
    assert reason("6.16.0-rc1") is AbsenceReason.NO_DRIVER
    nothing.mkdir()
    assert reason("6.16.0") is AbsenceReason.FAILED


def test_extending_rtmr3(sysfs: Sysfs) -> None:
    before = (sysfs.root / "rtmr3:sha384").read_bytes()
    value = extend_rtmr3(b"\x77" * 48, sysfs.root, files=sysfs)
    assert value == hashlib.sha384(before + b"\x77" * 48).digest()
    assert (sysfs.root / "rtmr3:sha384").read_bytes() == value
    assert sysfs.written == [b"\x77" * 48]
    for name in NAMES:
        if name != "rtmr3:sha384":
            assert (sysfs.root / name).read_bytes() != value


def test_somebody_else_extends_it_meanwhile(sysfs: Sysfs) -> None:
    sysfs.before_write = b"\x01" * 48
    absence = extend_rtmr3(b"\x77" * 48, sysfs.root, files=sysfs)
    assert isinstance(absence, Absence)
    assert (absence.label, absence.reason) == ("rtmr3-extension", AbsenceReason.FAILED)
    assert len(sysfs.written) == 1  # never twice


def test_a_file_that_only_stores_is_no_register(sysfs: Sysfs) -> None:
    """Plain files take what is written: the value afterwards gives them away."""
    absence = extend_rtmr3(b"\x77" * 48, sysfs.root, files=OsFiles())
    assert isinstance(absence, Absence)
    assert absence.reason is AbsenceReason.FAILED
    assert (b"\x77" * 48).hex() in absence.text


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EACCES, AbsenceReason.NO_PERMISSION),
        (errno.EPERM, AbsenceReason.NO_PERMISSION),
        (errno.EROFS, AbsenceReason.NO_PERMISSION),
        (errno.EIO, AbsenceReason.FAILED),
    ],
)
def test_a_refused_extension(sysfs: Sysfs, number: int, reason: AbsenceReason) -> None:
    sysfs.failure = number
    absence = extend_rtmr3(b"\x77" * 48, sysfs.root, files=sysfs)
    assert isinstance(absence, Absence)
    assert absence.reason is reason
    assert "writing" in absence.text


@pytest.mark.parametrize("size", [0, 32, 47, 49, 64])
def test_only_48_bytes_extend(sysfs: Sysfs, size: int) -> None:
    with pytest.raises(ValueError, match="48"):
        extend_rtmr3(bytes(size), sysfs.root, files=sysfs)
    assert sysfs.written == []


def test_no_register_to_extend(tmp_path: Path) -> None:
    absence = extend_rtmr3(
        bytes(48), tmp_path / "no", proc=proc_of(tmp_path, td=True), release="6.6"
    )
    assert isinstance(absence, Absence)
    assert absence.reason is AbsenceReason.NOT_SUPPORTED
    assert os.listdir(tmp_path) == ["proc"]
