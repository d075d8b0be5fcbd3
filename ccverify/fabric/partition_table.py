"""Read tables of GPU partitions: the Fabric Manager's live one, and the file it is made from.

| function | input | form from |
| --- | --- | --- |
| `parse_fmpm_list` | what ``fmpm -l`` prints | fmpm.cpp 1.0.1, ``fmFabricPartitionList_v2`` |
| `parse_partition_definitions` | SHARED_PARTITION_DEFINITION_FILE | public users of it |

Confirmed: members and numbers of the first, from fmpm's source, and that since H100 the physical
id is the GPU's module id, UUID and PCI address being empty (Fabric Manager User Guide 2.3).  The
second has no public description; its members are those that public programs write.  Members that
are not known are passed over, because every release may add some.  Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ccverify.errors import EvidenceError
from ccverify.strict_json import parse_json

__all__ = [
    "MAX_GPUS",
    "MAX_PARTITIONS",
    "PartitionEntry",
    "PartitionGpu",
    "PartitionTable",
    "parse_fmpm_list",
    "parse_partition_definitions",
    "serialize_fmpm_list",
]

MAX_PARTITIONS: Final = 64
"""FM_MAX_FABRIC_PARTITIONS."""
MAX_GPUS: Final = 16
"""FM_MAX_NUM_GPUS, of one partition."""
MAX_MODULE: Final = 255
_MAX_BYTES: Final = 1 << 20
_MAX_TEXT: Final = 128
_U32: Final = (1 << 32) - 1

_TEXT = re.compile(r"[ -~]*")
_DIGITS = re.compile(r"[0-9]{1,10}")
_LIVE, _DEFINED = "list of partitions", "definition of partitions"


@dataclass(frozen=True, slots=True, order=True)
class PartitionGpu:
    """A GPU of a partition, as the Fabric Manager has it.

    Attributes:
        module: physical id; since H100 the module id, from 1.
        uuid: empty since H100.
        pci_bus_id: empty or zero since H100.
        links_available: NVLinks that can be used; 18 in a partition of several GPUs.
        links_max: NVLinks there should be.
        line_rate: of one link, MB/s.
    """

    module: int
    uuid: str = ""
    pci_bus_id: str = ""
    links_available: int = 0
    links_max: int = 0
    line_rate: int = 0


@dataclass(frozen=True, slots=True)
class PartitionEntry:
    """A partition.

    Attributes:
        id: number.
        active: None in a definition, which does not say.
        modules: module ids of its GPUs.
        gpus: what the live table says of each, by module; empty in a definition.
    """

    id: int
    active: bool | None
    modules: frozenset[int]
    gpus: tuple[PartitionGpu, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """Partitions, by id.

    Attributes:
        entries: sorted by id, each once.
        version: of the form, as stated; None where it is not.
        capacity: ``maxNumPartitions`` of the live table.
        name: of a definition.
        time: of a definition, as its author wrote it.
    """

    entries: tuple[PartitionEntry, ...]
    version: str | None = None
    capacity: int | None = None
    name: str | None = None
    time: str | None = None

    def entry(self, number: int) -> PartitionEntry | None:
        """Return the partition of an id."""
        return next((entry for entry in self.entries if entry.id == number), None)

    @property
    def active(self) -> tuple[PartitionEntry, ...]:
        """Those in use."""
        return tuple(entry for entry in self.entries if entry.active)


def parse_fmpm_list(data: bytes) -> PartitionTable:
    """Read what ``fmpm -l`` prints, or `serialize_fmpm_list` writes.

    Numbers may be written as JSON numbers or as texts of digits.

    Raises:
        EvidenceError: not strict JSON, more than 64 partitions or 16 GPUs in one, a count that
            is not that of the list, an id or module twice, or a value out of range.
    """
    document = _document(data, _LIVE)
    count = _number(document, "numPartitions", _U32, "$", _LIVE)
    entries = []
    for where, item in _items(document, "partitionInfo", MAX_PARTITIONS, "$", _LIVE):
        gpus = []
        for place, gpu in _items(item, "gpuInfo", MAX_GPUS, where, _LIVE):
            gpus.append(
                PartitionGpu(
                    _number(gpu, "physicalId", MAX_MODULE, place, _LIVE),
                    _text(gpu, "uuid", place, _LIVE),
                    _text(gpu, "pciBusId", place, _LIVE),
                    _number(gpu, "numNvLinksAvailable", _U32, place, _LIVE),
                    _number(gpu, "maxNumNvLinks", _U32, place, _LIVE),
                    _number(gpu, "nvlinkLineRateMBps", _U32, place, _LIVE),
                )
            )
        if _number(item, "numGpus", _U32, where, _LIVE) != len(gpus):
            raise _wrong(_LIVE, f"{where}.numGpus", str(len(gpus)), item["numGpus"])
        modules = _distinct([gpu.module for gpu in gpus], f"{where}.gpuInfo", _LIVE)
        number = _number(item, "partitionId", _U32, where, _LIVE)
        active = _flag(item, "isActive", where)
        entries.append(PartitionEntry(number, active, modules, tuple(sorted(gpus))))
    if count != len(entries):
        raise _wrong(_LIVE, "$.numPartitions", str(len(entries)), count)
    capacity = _number(document, "maxNumPartitions", _U32, "$", _LIVE)
    return _table(entries, _LIVE, str(_number(document, "version", _U32, "$", _LIVE)), capacity)


def parse_partition_definitions(data: bytes) -> PartitionTable:
    """Read a SHARED_PARTITION_DEFINITION_FILE.

    Raises:
        EvidenceError: not strict JSON, more than 64 partitions or 16 GPUs in one, an id or
            module twice, or a value out of range.
    """
    document = _document(data, _DEFINED)
    entries = []
    for where, item in _items(document, "partitionInfo", MAX_PARTITIONS, "$", _DEFINED):
        listed = item.get("gpuModuleIds")
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_GPUS:
            raise _wrong(_DEFINED, f"{where}.gpuModuleIds", f"a list of 1 to {MAX_GPUS}", listed)
        place = f"{where}.gpuModuleIds"
        ids = [_integer(value, MAX_MODULE, place, _DEFINED) for value in listed]
        number = _number(item, "partitionId", _U32, where, _DEFINED)
        entries.append(PartitionEntry(number, None, _distinct(ids, place, _DEFINED)))
    version, name, time = (_loose(document, key) for key in ("version", "name", "time"))
    return _table(entries, _DEFINED, version, None, name, time)


def serialize_fmpm_list(table: PartitionTable) -> bytes:
    """Write a live table as ``fmpm -l`` does: for a collector that asks the library itself.

    Raises:
        EvidenceError: a value is outside what `parse_fmpm_list` accepts, or the table does not
            say which partitions are active.
    """
    document = {
        "version": _integer(table.version or 0, _U32, "$.version", _LIVE),
        "numPartitions": len(table.entries),
        "maxNumPartitions": len(table.entries) if table.capacity is None else table.capacity,
        "partitionInfo": [
            {
                "partitionId": entry.id,
                "isActive": None if entry.active is None else int(entry.active),
                "numGpus": len(entry.gpus),
                "gpuInfo": [
                    {
                        "physicalId": gpu.module,
                        "uuid": gpu.uuid,
                        "pciBusId": gpu.pci_bus_id,
                        "numNvLinksAvailable": gpu.links_available,
                        "maxNumNvLinks": gpu.links_max,
                        "nvlinkLineRateMBps": gpu.line_rate,
                    }
                    for gpu in entry.gpus
                ],
            }
            for entry in table.entries
        ],
    }
    text = json.dumps(document, indent=3, sort_keys=True, separators=(",", " : "))
    data = text.encode("utf-8") + b"\n"
    parse_fmpm_list(data)
    return data


def _table(
    entries: list[PartitionEntry],
    what: str,
    version: str | None,
    capacity: int | None,
    name: str | None = None,
    time: str | None = None,
) -> PartitionTable:
    _distinct([entry.id for entry in entries], "$.partitionInfo", what)
    ordered = tuple(sorted(entries, key=lambda entry: entry.id))
    return PartitionTable(ordered, version, capacity, name, time)


def _document(data: bytes, what: str) -> Mapping[str, Any]:
    document = parse_json(data, what=what, error=EvidenceError, limit=_MAX_BYTES)
    if not isinstance(document, dict):
        raise _wrong(what, "$", "an object", document)
    return document


def _items(
    container: Mapping[str, Any], key: str, most: int, where: str, what: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of a list, each with its path."""
    listed = container.get(key)
    if not isinstance(listed, list) or len(listed) > most:
        raise _wrong(what, f"{where}.{key}", f"a list of at most {most}", listed)
    found = [(f"{where}.{key}[{at}]", item) for at, item in enumerate(listed)]
    for place, item in found:
        if not isinstance(item, dict):
            raise _wrong(what, place, "an object", item)
    return found


def _number(item: Mapping[str, Any], key: str, most: int, where: str, what: str) -> int:
    return _integer(item.get(key), most, f"{where}.{key}", what)


def _integer(value: Any, most: int, where: str, what: str) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= most:
        raise _wrong(what, where, f"an integer from 0 to {most}", value)
    return value


def _flag(item: Mapping[str, Any], key: str, where: str) -> bool:
    value = item.get(key)
    if isinstance(value, bool):
        return value
    return bool(_integer(value, 1, f"{where}.{key}", _LIVE))


def _text(item: Mapping[str, Any], key: str, where: str, what: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not _TEXT.fullmatch(value):
        expected = f"at most {_MAX_TEXT} printable ASCII characters"
        raise _wrong(what, f"{where}.{key}", expected, value)
    return value


def _loose(document: Mapping[str, Any], key: str) -> str | None:
    """A member that nobody has described, as text."""
    value = document.get(key)
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > _MAX_TEXT or not _TEXT.fullmatch(text):
        expected = f"at most {_MAX_TEXT} printable ASCII characters"
        raise _wrong(_DEFINED, f"$.{key}", expected, value)
    return text


def _distinct(values: list[int], where: str, what: str) -> frozenset[int]:
    if len(set(values)) != len(values):
        raise _wrong(what, where, "every number once", values)
    return frozenset(values)


def _wrong(what: str, where: str, expected: str, found: Any) -> EvidenceError:
    return EvidenceError(
        f"the {what} cannot be read",
        expected=expected,
        found=repr(found)[:200],
        where=where,
        hint="take it again from the Fabric Manager; do not edit it",
    )
