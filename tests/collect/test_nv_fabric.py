"""The fabric observation through the real nvidia-ml-py: structs, versions, drivers old and new."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from nv_fakes import Environment, ask, pynvml_over

from ccverify.collect.fabric import FabricSource
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.fabric.nvml_values import decode_health_mask
from ccverify.fabric.observation import (
    Absent,
    Clique,
    FabricInfo,
    FabricObservation,
    NvLinkFirmware,
    PlatformInfo,
    parse_observation,
)

NOT_FOUND = Absent("NVML_ERROR_FUNCTION_NOT_FOUND")
NOT_IN_STRUCT = Absent("NOT_IN_STRUCT")


def _observe(pynvml: Any) -> FabricObservation:
    (item,) = FabricSource(lambda: pynvml).collect(ask())
    assert isinstance(item, Item), item
    assert (item.label, item.type) == ("fabric", ItemType.FABRIC_OBSERVATION)
    return parse_observation(item.data)


def test_everything_a_new_driver_says(pynvml: ModuleType) -> None:
    seen = _observe(pynvml)
    assert (seen.driver, seen.nvml) == ("580.95.05", "13.580.95.05")
    cc = seen.confidential_computing
    assert (cc.environment, cc.feature, cc.dev_tools, cc.multi_gpu_mode) == (2, 1, 0, 0)
    assert (cc.cpu_capabilities, cc.gpu_capabilities, cc.gpus_ready) == (2, 1, 1)
    gpu = seen.gpus[1]
    assert (gpu.index, gpu.uuid) == (1, "GPU-00000000-0000-0000-0000-000000000001")
    assert (gpu.architecture, gpu.pci_bus_id) == (9, "00000000:11:00.0")
    assert (gpu.serial, gpu.pdi, gpu.module) == ("165000000001", "1122334455667701", 2)
    assert gpu.vbios == "96.00.9F.00.01"
    # The chassis serial number holds a NUL, at which a C string would end.
    assert gpu.platform == PlatformInfo(
        ib_guid=bytes(range(16)).hex(),
        chassis_serial=b"1820325\0AB".ljust(16, b"\0").hex(),
        slot=3,
        tray=4,
        host=1,
        peer_type=1,
        module=2,
    )
    assert gpu.fabric == FabricInfo(
        struct_version=4,
        state=3,
        status=0,
        cluster_uuid="c102000405060708090a0b0c0d0e0f10",
        cliques=(Clique(0, 7), Clique(1, 9)),
        health_mask=0x51AA,
        health_summary=1,
    )
    assert gpu.encrypted == 1
    assert gpu.firmware == (NvLinkFirmware(2, 31, 2014, 1),)


def test_the_links(pynvml: ModuleType) -> None:
    links = _observe(pynvml).gpus[0].links
    assert not isinstance(links, Absent)
    assert [link.index for link in links] == list(range(18))
    assert (links[0].state, links[0].version, links[0].remote_type) == (1, 6, 2)
    assert links[3].remote_bus_id == "00000000:83:00.0"
    assert links[3].remote_device_id == 0x22A310DE
    assert links[5].state == 0
    assert links[5].remote_type == Absent("NVML_ERROR_NOT_SUPPORTED")


def test_the_peers(pynvml: ModuleType, play: Environment) -> None:
    play(GPUS=3)
    peers = _observe(pynvml).peers
    assert [(p.gpu, p.peer) for p in peers] == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert {(p.read, p.write, p.nvlink, p.atomics, p.ancestor) for p in peers} == {(0, 0, 0, 5, 50)}


@pytest.mark.parametrize("version", [3, 2])
def test_older_versions_of_the_fabric_struct(
    pynvml: ModuleType, play: Environment, version: int
) -> None:
    play(FABRIC_NEWEST=version)
    fabric = _observe(pynvml).gpus[0].fabric
    assert not isinstance(fabric, Absent)
    assert fabric.struct_version == version
    assert fabric.cliques == (Clique(NOT_IN_STRUCT, 7),)
    assert fabric.health_mask == 0x51AA
    assert fabric.health_summary == (1 if version == 3 else NOT_IN_STRUCT)


def test_an_old_driver(libraries: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _observe(pynvml_over(libraries["old"], monkeypatch))
    # The older struct states three of the four settings.
    cc = seen.confidential_computing
    assert (cc.environment, cc.feature, cc.dev_tools) == (2, 1, 0)
    assert cc.multi_gpu_mode == NOT_FOUND
    gpu = seen.gpus[0]
    assert [gpu.pdi, gpu.platform, gpu.encrypted, gpu.firmware] == [NOT_FOUND] * 4
    assert not isinstance(gpu.fabric, Absent)
    assert gpu.fabric.struct_version == 1
    assert [gpu.fabric.health_mask, gpu.fabric.health_summary] == [NOT_IN_STRUCT] * 2


def test_an_older_nvlink_info(pynvml: ModuleType, play: Environment) -> None:
    play(LINK_INFO=1)
    gpu = _observe(pynvml).gpus[0]
    assert (gpu.encrypted, gpu.firmware) == (1, NOT_IN_STRUCT)


def test_a_gpu_without_nvlink_and_fabric(pynvml: ModuleType, play: Environment) -> None:
    play(LINKS=-1, FABRIC=3, GPUS=1)
    seen = _observe(pynvml)
    not_supported = Absent("NVML_ERROR_NOT_SUPPORTED")
    assert [seen.gpus[0].links, seen.gpus[0].fabric] == [not_supported] * 2
    assert seen.peers == ()


def test_an_older_nvidia_ml_py(pynvml: ModuleType) -> None:
    older = SimpleNamespace(**vars(pynvml))
    del older.c_nvmlGpuFabricInfo_v4_t
    del older.nvmlDeviceGetPdi
    gpu = _observe(older).gpus[0]
    assert gpu.pdi == NOT_FOUND
    assert not isinstance(gpu.fabric, Absent)
    assert gpu.fabric.struct_version == 3


def test_a_gpu_that_is_lost_is_one_of_absences(pynvml: ModuleType, play: Environment) -> None:
    play(LOST=0)
    seen = _observe(pynvml)
    lost = Absent("NVML_ERROR_GPU_IS_LOST")
    assert [seen.gpus[0].uuid, seen.gpus[0].links, seen.gpus[0].fabric] == [lost] * 3
    assert seen.gpus[1].serial == "165000000001"
    assert {(peer.read, peer.ancestor) for peer in seen.peers} == {(lost, lost)}


def test_unreadable_values_are_absences(pynvml: ModuleType, play: Environment) -> None:
    play(BAD_TEXT=1, CLIQUES=65)
    seen = _observe(pynvml)
    assert [seen.driver, seen.gpus[0].fabric] == [Absent("UNREADABLE")] * 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"GPUS": 0}, AbsenceReason.NOT_PRESENT),
        ({"COUNT": 4}, AbsenceReason.NO_PERMISSION),
        ({"INIT": 9}, AbsenceReason.NO_DRIVER),
    ],
)
def test_no_observation_at_all(
    pynvml: ModuleType, play: Environment, options: dict[str, int], reason: AbsenceReason
) -> None:
    play(**options)
    (absence,) = FabricSource(lambda: pynvml).collect(ask())
    assert isinstance(absence, Absence)
    assert (absence.label, absence.reason) == ("fabric", reason)
    assert absence.remedy
    diagnosis = [one.reason for one in FabricSource(lambda: pynvml).diagnose()]
    assert diagnosis == ([reason] if "INIT" in options else [])


def test_cc_off_does_not_keep_the_facts_away(pynvml: ModuleType, play: Environment) -> None:
    play(CC=0)
    assert _observe(pynvml).confidential_computing.feature == 0


def test_the_health_mask_is_read_by_its_table() -> None:
    read = {one.name: one.meaning for one in decode_health_mask(0x51AA)}
    assert read == {
        "degraded-bandwidth": "false",
        "route-recovery": "false",
        "route-unhealthy": "false",
        "access-timeout-recovery": "false",
        "incorrect-configuration": "none",
        "partition-assigned": "true",
        "fabric-manager": "connected",
    }
    assert {one.value for one in decode_health_mask(0)} == {0}
