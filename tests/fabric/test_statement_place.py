"""Whether a statement is about the board that the tenant's GPUs are on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest

from ccverify.bundle.model import ItemType
from ccverify.bundle.package import parse_bundle
from ccverify.cli.sim_statement import sim_statement
from ccverify.collect.fabric import observe_fabric
from ccverify.collect.nvml_library import Nvml
from ccverify.fabric.observation import Absent, GpuObservation, PlatformInfo
from ccverify.fabric.statement import read_statement
from ccverify.fabric.statement_model import FabricStatement, StatementCode
from ccverify.fabric.statement_place import match_guids
from ccverify.sim.board import SimBoard, sim_board
from ccverify.sim.nvidia.nvml import SimNvml

NONCE = sha256(b"ccverify place").digest()


@cache
def board(instance: str = "1", model: str = "B300") -> SimBoard:
    return sim_board(model, [2, 3] if model == "B300" else [1, 2], instance=instance)  # type: ignore[arg-type]


@cache
def statement(instance: str = "1", model: str = "B300") -> FabricStatement:
    bundle = parse_bundle(sim_statement(board(instance, model), NONCE))
    (facts,) = bundle.of_type(ItemType.FABRIC_MANAGER).values()
    return read_statement({"fabric-manager": facts, **bundle.of_type(ItemType.FABRIC_DUMP)})


@cache
def gpus(model: str = "B300") -> tuple[GpuObservation, ...]:
    machine = board(model=model).machine("a")
    return observe_fabric(Nvml(lambda: SimNvml(machine))).gpus


def with_guid(gpu: GpuObservation, guid: str) -> GpuObservation:
    assert isinstance(gpu.platform, PlatformInfo)
    return replace(gpu, platform=replace(gpu.platform, ib_guid=guid))


def guid_of(gpu: GpuObservation) -> str:
    assert isinstance(gpu.platform, PlatformInfo)
    return gpu.platform.ib_guid


def test_the_boards_own_statement_knows_every_gpu() -> None:
    found = match_guids(statement(), gpus())
    assert (found.known, found.reason, found.problems) == (4, "", ())


def test_guids_in_the_other_byte_order_are_known_too_but_not_some_of_each() -> None:
    turned = [with_guid(g, bytes.fromhex(guid_of(g))[:8][::-1].hex() + "00" * 8) for g in gpus()]
    assert match_guids(statement(), turned).reason == ""
    mixed = match_guids(statement(), [turned[0], *gpus()[1:]])
    assert mixed.reason == "it knows 3 of the 4 GPUs' GUIDs"


def test_another_boards_statement_knows_none() -> None:
    found = match_guids(statement("2"), gpus())
    assert found.known == 0
    assert found.reason == "it knows 0 of the 4 GPUs' GUIDs"
    assert not found.problems


def test_a_gpu_that_the_statement_has_elsewhere_contradicts_its_module_id() -> None:
    first, second, *rest = gpus()
    swapped = [with_guid(first, guid_of(second)), with_guid(second, guid_of(first)), *rest]
    found = match_guids(statement(), swapped)
    assert found.reason == ""
    assert {one.code for one in found.problems} == {StatementCode.MODULES}
    assert [one.found for one in found.problems] == ["that of GPU2", "that of GPU1"]


@pytest.mark.parametrize("guid", ["00" * 16, "11" * 16])
def test_what_is_no_guid_of_eight_bytes_says_nothing(guid: str) -> None:
    found = match_guids(statement(), [with_guid(gpus()[0], guid), *gpus()[1:]])
    assert found.reason == "the driver names no GUID of gpus[0]"


def test_what_is_missing_is_said() -> None:
    absent = replace(gpus()[1], platform=Absent("NVML_ERROR_NOT_SUPPORTED"))
    assert "gpus[1]" in match_guids(statement(), [gpus()[0], absent]).reason
    nowhere = replace(gpus()[0], module=Absent("NVML_ERROR_NOT_SUPPORTED"))
    assert "gpus[0]" in match_guids(statement(), [nowhere]).reason
    assert match_guids(statement(), []).reason == "the driver sees no GPU"
    unmapped = replace(statement(), links=None, board=None)
    assert match_guids(unmapped, gpus()).reason == "the statement has no list of links"
    # Hopper's driver names none.
    assert "no GUID" in match_guids(statement(model="H100"), gpus("H100")).reason
