"""Evidence in files: what nvattest writes, and a folder of reports, chains, quotes and logs."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nv_fakes import NONCE, ask
from tdx_asks import REPORT_DATA, template

from ccverify.bundle.items import parse_device
from ccverify.collect.folder import FolderSource, folder_sources
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType, Stage
from ccverify.collect.nvattest import NvattestSource
from ccverify.fabric.observation import (
    Absent,
    ConfidentialComputing,
    FabricObservation,
    serialize_observation,
)

PEM = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
REPORT = b"\x11\xe0\x01\xff" + NONCE + bytes(2000)
ABSENT = Absent("NVML_ERROR_NOT_SUPPORTED")
OBSERVATION = serialize_observation(
    FabricObservation(ABSENT, ABSENT, ConfidentialComputing(*[ABSENT] * 7), (), ())
)


# --- nvattest ------------------------------------------------------------------------------------


def _device(arch: str = "HOPPER", **changes: Any) -> dict[str, Any]:
    return {
        "arch": arch,
        "evidence": base64.b64encode(REPORT).decode(),
        "certificate": base64.b64encode(PEM).decode(),
        "nonce": NONCE.hex(),
        "driver_version": "590.12",
        **changes,
    }


def _written(folder: Path, *documents: Any) -> list[Path]:
    paths = []
    for at, document in enumerate(documents):
        path = folder / f"evidence-{at}.json"
        path.write_text(json.dumps(document))
        paths.append(path)
    return paths


def test_files_of_gpus_and_of_switches(tmp_path: Path) -> None:
    gpus = {"evidences": [_device(), _device()], "result_code": 0, "result_message": "Ok"}
    source = NvattestSource(_written(tmp_path, gpus, [_device("LS10")]))
    outcomes = source.collect(ask())
    assert [(one.label, one.type) for one in outcomes if isinstance(one, Item)] == [
        ("gpu-0", ItemType.NVIDIA_GPU),
        ("gpu-1", ItemType.NVIDIA_GPU),
        ("nvswitch-0", ItemType.NVIDIA_SWITCH),
    ]
    assert len(outcomes) == 3
    device = parse_device(outcomes[0].data)  # type: ignore[union-attr]
    assert (device.report, device.chain, device.driver) == (REPORT, PEM, "590.12")
    assert device.architecture == "HOPPER"
    assert source.diagnose() == []


def test_the_real_node_of_nvidia(vectors: Path) -> None:
    folder = vectors / "nvidia" / "ppcie-hgx-h100-8gpu-4switch" / "nvtrust-ppcie-verifier"
    files = sorted(folder.glob("*_evidence.json"))
    assert len(files) == 2
    outcomes = NvattestSource(files).collect(ask())
    # Genuine evidence, but of another session: every device is there and none is bundled.
    labels = [f"gpu-{at}" for at in range(8)] + [f"nvswitch-{at}" for at in range(4)]
    assert [one.label for one in outcomes] == labels
    assert {one.reason for one in outcomes} == {AbsenceReason.FAILED}  # type: ignore[union-attr]
    nonce = bytes.fromhex(outcomes[0].text.split()[4].rstrip(","))  # type: ignore[union-attr]
    again = NvattestSource(files).collect(ask(nonce))
    assert sum(isinstance(one, Item) for one in again) >= 8


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        7,
        {"evidences": []},
        [{"evidence": "", "certificate": ""}],
        [_device(certificate="AAAA")],
        [_device(evidence="%")],
        {"quote": "00"},
    ],
)
def test_a_file_that_is_not_of_nvattest(tmp_path: Path, document: Any) -> None:
    source = NvattestSource(_written(tmp_path, document))
    for outcomes in (source.collect(ask()), source.diagnose()):
        assert [one.label for one in outcomes] == ["gpu", "nvswitch"]
        assert {one.reason for one in outcomes} == {AbsenceReason.FAILED}  # type: ignore[union-attr]


def test_a_report_of_another_nonce_or_size(tmp_path: Path) -> None:
    other = base64.b64encode(REPORT[:9] + b"\xff" + REPORT[10:]).decode()
    large = base64.b64encode(REPORT + bytes(8192)).decode()
    files = _written(tmp_path, [_device(evidence=other), _device(evidence=large), _device()])
    first, second, third, switches = NvattestSource(files).collect(ask())
    assert isinstance(first, Absence)
    assert NONCE.hex() in first.remedy
    assert isinstance(second, Absence)
    assert isinstance(third, Item)
    assert isinstance(switches, Absence)
    assert switches.reason is AbsenceReason.NOT_PRESENT


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, reason in (
        ("missing", AbsenceReason.NOT_PRESENT),
        ("pipe", AbsenceReason.FAILED),
        ("folder", AbsenceReason.FAILED),
    ):
        outcomes = NvattestSource([tmp_path / name]).collect(ask())
        assert {one.reason for one in outcomes} == {reason}  # type: ignore[union-attr]


# --- a folder ------------------------------------------------------------------------------------


def _everything(folder: Path) -> None:
    (folder / "gpu-0.report").write_bytes(REPORT)
    (folder / "gpu-0.pem").write_bytes(PEM + b"\0\0")
    (folder / "gpu-10.report").write_text(REPORT.hex() + "\n")
    (folder / "gpu-10.pem").write_bytes(PEM)
    (folder / "nvswitch-2.report").write_bytes(base64.b64encode(REPORT))
    (folder / "nvswitch-2.pem").write_bytes(PEM)
    (folder / "fabric.json").write_bytes(OBSERVATION)
    (folder / "quote.bin").write_bytes(_quote())
    (folder / "ccel.bin").write_bytes(b"log")
    (folder / "ccel-table.bin").write_bytes(b"CCEL")
    (folder / "dstack-log.json").write_text("[]")
    (folder / "dstack-info.json").write_text("{}")
    (folder / "td-measurements.json").write_text("{}")
    (folder / "README").write_text("not evidence")
    (folder / "gpu-01.report").write_text("not a name of ours")


def _quote(report_data: bytes = REPORT_DATA) -> bytes:
    quote = template()
    return quote[:568] + report_data + quote[632:]  # quote v4, TD 1.0 report: REPORTDATA


def _collect(folder: Path, report_data: bytes | None = REPORT_DATA) -> list[Any]:
    asked = replace(ask(), report_data=report_data)
    return [one for source in folder_sources(folder) for one in source.collect(asked)]


def test_everything_in_a_folder(tmp_path: Path) -> None:
    _everything(tmp_path)
    outcomes = {one.label: one for one in _collect(tmp_path)}
    assert all(isinstance(one, Item) for one in outcomes.values()), outcomes
    assert {label: one.type for label, one in outcomes.items()} == {
        "gpu-0": ItemType.NVIDIA_GPU,
        "gpu-10": ItemType.NVIDIA_GPU,
        "nvswitch-2": ItemType.NVIDIA_SWITCH,
        "fabric": ItemType.FABRIC_OBSERVATION,
        "ccel": ItemType.CCEL,
        "ccel-table": ItemType.CCEL_TABLE,
        "dstack-log": ItemType.DSTACK_LOG,
        "dstack-info": ItemType.DSTACK_INFO,
        "td-measurements": ItemType.TD_MEASUREMENTS,
        "tdx-quote": ItemType.TDX_QUOTE,
    }
    for label in ("gpu-0", "gpu-10", "nvswitch-2"):
        device = parse_device(outcomes[label].data)
        assert (device.report, device.chain) == (REPORT, PEM)
    assert outcomes["tdx-quote"].data == _quote()
    assert [source.stage for source in folder_sources(tmp_path)] == list(Stage)
    assert all(source.diagnose() == [] for source in folder_sources(tmp_path))


def test_a_quote_in_hex(tmp_path: Path) -> None:
    (tmp_path / "quote.bin").write_text(_quote().hex())
    (item,) = FolderSource(tmp_path, Stage.QUOTE).collect(replace(ask(), report_data=REPORT_DATA))
    assert isinstance(item, Item)
    assert item.data == _quote()


@pytest.mark.parametrize(
    ("name", "content", "label"),
    [
        ("gpu-0.report", REPORT[:8] + b"\xff" + REPORT[9:], "gpu-0"),
        ("gpu-0.report", b"", "gpu-0"),
        ("gpu-0.report", REPORT + bytes(8192), "gpu-0"),
        ("gpu-0.report", b"11e0f", "gpu-0"),
        ("gpu-0.pem", b"", "gpu-0"),
        ("gpu-0.pem", bytes(70_000), "gpu-0"),
        ("fabric.json", b"{}", "fabric"),
        ("dstack-log.json", b"[", "dstack-log"),
        ("ccel.bin", b"", "ccel"),
        ("ccel-table.bin", bytes(5000), "ccel-table"),
        ("quote.bin", _quote(bytes(64)), "tdx-quote"),
        ("quote.bin", b"", "tdx-quote"),
    ],
)
def test_what_is_wrong_is_absent_and_the_rest_is_there(
    tmp_path: Path, name: str, content: bytes, label: str
) -> None:
    _everything(tmp_path)
    (tmp_path / name).write_bytes(content)
    outcomes = {one.label: one for one in _collect(tmp_path)}
    absent = [one for one in outcomes.values() if isinstance(one, Absence)]
    assert [(one.label, one.reason) for one in absent] == [(label, AbsenceReason.FAILED)]
    assert absent[0].remedy


def test_half_a_pair_is_an_absence(tmp_path: Path) -> None:
    _everything(tmp_path)
    (tmp_path / "gpu-0.report").unlink()
    (tmp_path / "gpu-10.pem").unlink()
    outcomes = {one.label: one for one in _collect(tmp_path)}
    for label in ("gpu-0", "gpu-10"):
        assert outcomes[label].reason is AbsenceReason.NOT_PRESENT


def test_an_empty_folder_and_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        outcomes = _collect(folder)
        assert all(isinstance(one, Absence) for one in outcomes)
        assert {one.reason for one in outcomes} == {AbsenceReason.NOT_PRESENT}
    (one, *_) = FolderSource(tmp_path / "missing", Stage.QUOTE).diagnose()
    assert one.reason is AbsenceReason.NOT_PRESENT
    assert FolderSource(tmp_path, Stage.QUOTE).diagnose() == []


def test_a_pipe_in_a_folder_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ccel.bin")
    (absence,) = FolderSource(tmp_path, Stage.LOGS).collect(ask())
    assert isinstance(absence, Absence)
    assert absence.reason is AbsenceReason.FAILED
