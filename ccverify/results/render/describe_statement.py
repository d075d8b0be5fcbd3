"""A statement of a fabric's manager, and measurements over NVLink → parts of an `Inspection`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ccverify.bundle.endorsement import parse_operator_signature
from ccverify.bundle.package import Bundle
from ccverify.bundle.tpm_item import parse_tpm_item
from ccverify.clock_text import unix_text
from ccverify.errors import EvidenceError
from ccverify.fabric.manager import Process, Program
from ccverify.fabric.observation import Absent, Reading
from ccverify.fabric.partition_table import PartitionTable
from ccverify.fabric.probe import PairProbe, ProbeReport, Spread, Traffic, parse_probe
from ccverify.fabric.statement import FabricStatement, read_statement
from ccverify.fabric.statement_model import modules_text
from ccverify.results.render.describe_certificates import unreadable
from ccverify.results.render.inspection import Item, Listing, Part, Section
from ccverify.tdx.quote import parse_quote
from ccverify.trust.names import name_text

__all__ = ["probe_parts", "statement_parts"]

_NOTICE = "The manager's host says all this. Nobody verified who made the statement."


def statement_parts(bundle: Bundle, items: Mapping[str, bytes]) -> tuple[Part, ...]:
    """Show a statement.

    Args:
        bundle: the statement's own.
        items: from `ccverify.bundle.statement_items.statement_items`.
    """
    try:
        statement = read_statement(items)
    except EvidenceError as problem:
        return (Section("statement", "Statement of the fabric's manager", (unreadable(problem),)),)
    return (
        Listing(
            "key_bound_by",
            "What binds the statement's key, unverified",
            ("by", "who"),
            tuple(_binders(bundle)),
            notice="" if _is_bound(bundle) else "Nothing does: anybody may have made it.",
        ),
        _facts(statement),
        _programs(statement.facts.programs),
        *_settings(statement),
        *_partitions(statement),
        *_problems(statement),
    )


def _is_bound(bundle: Bundle) -> bool:
    return any((bundle.quote, bundle.tpm_quote, bundle.operator_signature))


def _binders(bundle: Bundle) -> Iterator[dict[str, Any]]:
    readers: tuple[tuple[str, bytes | None, Callable[[bytes], str]], ...] = (
        ("TDX quote", bundle.quote, lambda data: f"MRTD {parse_quote(data).report.mrtd.hex()}"),
        ("TPM quote", bundle.tpm_quote, _tpm_key),
        ("operator's signature", bundle.operator_signature, _operator),
    )
    for name, data, read in readers:
        if data is None:
            continue
        try:
            yield {"by": name, "who": read(data)}
        except EvidenceError as problem:
            yield {"by": name, "who": f"unreadable: {problem.summary}"}


def _tpm_key(data: bytes) -> str:
    return f"attestation key {parse_tpm_item(data).public.name.hex()}"


def _operator(data: bytes) -> str:
    return name_text(parse_operator_signature(data).certificates[0].subject)


def _plain(value: Reading[Any]) -> Any:
    """A reading as JSON has it."""
    return None if isinstance(value, Absent) else value


def _reading(name: str, value: Reading[Any], meaning: str = "") -> Item:
    if isinstance(value, Absent):
        return Item(name, None, f"not stated: {value.code}")
    return Item(name, value, meaning)


def _time(value: Reading[int]) -> Reading[str]:
    return value if isinstance(value, Absent) else unix_text(value)


def _facts(statement: FabricStatement) -> Section:
    facts, digest, log = statement.facts, statement.routing_digest, statement.facts.log
    routing = statement.routing
    items = [
        _reading("boot_id", facts.boot_id),
        _reading("booted", _time(facts.booted)),
        _reading("kernel", facts.kernel),
        _reading("driver", facts.driver),
        Item("board", statement.board, "by its cables"),
        Item("routing_digest", digest.hex() if digest else None, "for fabric.routing_digests"),
        Item("switches", len(routing.unicast) if routing else None, "with forwarding tables"),
        Item("keys_from", statement.keys_from, "the item with the partition keys"),
    ]
    if isinstance(log, Absent):
        items.append(_reading("log", log))
    else:
        items += [
            Item("log", log.path, f"{log.lines} lines, {log.errors} errors"),
            Item("log_errors", log.errors),
            Item("log_last_error", log.last_error),
        ]
    return Section("statement", f"Statement of the fabric's manager. {_NOTICE}", tuple(items))


def _programs(programs: Iterable[Program]) -> Listing:
    records = []
    for program in programs:
        process = program.process
        record: dict[str, Any] = {
            "name": program.name,
            "version": _plain(program.version),
            "process": _process(process),
            "path": program.path,
            "sha384": _plain(program.sha384),
        }
        if isinstance(process, Process):
            record |= {
                "pid": process.pid,
                "started": unix_text(process.started),
                "running_sha384": _plain(process.sha384),
                "replaced": process.replaced,
                "restarts": _plain(process.restarts),
                "arguments": _plain(process.arguments),
            }
        records.append(record)
    columns = ("name", "version", "process", "path", "sha384")
    return Listing("programs", "Programs", columns, tuple(records))


def _process(process: Reading[Process]) -> str:
    if isinstance(process, Absent):
        return f"none: {process.code}"
    replaced = ", file replaced since" if process.replaced else ""
    return f"{process.pid} since {unix_text(process.started)}{replaced}"


def _settings(statement: FabricStatement) -> Iterator[Section]:
    for key, title, config in (
        ("manager_config", "Configuration of the Fabric Manager", statement.config),
        ("nvlsm_config", "Configuration of NVLSM", statement.nvlsm_config),
    ):
        if config is not None:
            settings = sorted(config.settings().items())
            yield Section(key, title, tuple(Item(name, value) for name, value in settings))


def _partitions(statement: FabricStatement) -> Iterator[Listing]:
    for key, title, table in (
        ("partitions", "Partitions, as the manager has them", statement.partitions),
        ("partition_definitions", "Partitions, as they are defined", statement.definitions),
    ):
        if table is not None:
            yield _table(key, title, table)


def _table(key: str, title: str, table: PartitionTable) -> Listing:
    records = []
    for entry in table.entries:
        links = sorted({f"{gpu.links_available}/{gpu.links_max}" for gpu in entry.gpus})
        records.append({
            "id": str(entry.id),
            "active": entry.active,
            "nvlinks": ", ".join(links),
            "modules": modules_text(entry.modules),
        })  # fmt: skip
    return Listing(key, title, ("id", "active", "nvlinks", "modules"), tuple(records))


def _problems(statement: FabricStatement) -> Iterator[Listing]:
    if statement.problems:
        records = [
            {"code": p.code.value, "where": p.where, "expected": p.expected, "found": p.found}
            for p in statement.problems
        ]
        title = f"Wrong with the statement itself ({len(records)})"
        columns = ("code", "where", "expected", "found")
        yield Listing("problems", title, columns, tuple(records))
    if statement.gaps:
        gaps = [
            {"code": gap.code.value, "where": gap.where, "reason": gap.reason}
            for gap in statement.gaps
        ]
        title = f"Not stated ({len(gaps)})"
        yield Listing("gaps", title, ("where", "reason"), tuple(gaps))


# --- measurements --------------------------------------------------------------------------------


def probe_parts(data: bytes) -> tuple[Part, ...]:
    """Show what a guest measured over its own NVLinks.

    Args:
        data: the item ``fabric-probe``.
    """
    title = "Measured over NVLink by the guest"
    try:
        report = parse_probe(data)
    except EvidenceError as problem:
        return (Section("fabric_probe", title, (unreadable(problem),)),)
    return (_probe(report, title), _pairs(report.pairs))


def _probe(report: ProbeReport, title: str) -> Section:
    around, plan, traffic = report.circumstances, report.plan, report.traffic
    items = [
        Item("gpus", len(report.gpus)),
        Item("pairs", len(report.pairs)),
        _reading("driver", around.driver),
        _reading("cuda", around.cuda, "1000 for each major version"),
        _reading("confidential_computing", around.confidential_computing, "1 where it is on"),
        _reading("multi_gpu_mode", around.multi_gpu_mode, "2 is NVLink encryption"),
        Item("milliseconds", around.milliseconds, "for all of it"),
        Item("released", around.released, "whether all memory was given back"),
        Item("copy_bytes", plan.copy_bytes, "of one large copy"),
    ]
    if isinstance(traffic, Traffic):
        items += [
            Item("counters", traffic.counters.value, "what the counters of the links count"),
            Item("transfers", len(traffic.transfers), "accounted for"),
        ]
    else:
        items.append(_reading("traffic", traffic))
    return Section("fabric_probe", title, tuple(items))


def _pairs(pairs: Sequence[PairProbe]) -> Listing:
    records = tuple(
        {
            "gpu": str(pair.gpu),
            "peer": str(pair.peer),
            "access": _told(pair.can_access),
            "arrived": _told(pair.arrived),
            "one_way": _median(pair.one_way),
            "both_ways": _median(pair.both_ways),
            "copy_ns": _median(pair.copy_ns),
            "read_ns": _median(pair.read_ns),
        }
        for pair in pairs
    )
    shown = tuple(
        (str(p.gpu), str(p.peer), str(_told(p.can_access)), str(_told(p.arrived)),
         _rate(_median(p.one_way)), _rate(_median(p.both_ways)), str(_median(p.read_ns)))
        for p in pairs
    )  # fmt: skip
    columns = ("gpu", "peer", "access", "arrived", "GB/s", "GB/s both ways", "read ns")
    return Listing(
        "fabric_probe_pairs", "Pairs, by NVML's index", columns, records, shown, limit=64
    )


def _told(value: Reading[int]) -> int | str:
    return value.code if isinstance(value, Absent) else value


def _median(value: Reading[Spread]) -> int | str:
    return value.code if isinstance(value, Absent) else value.median


def _rate(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value / 1e9:.1f}"
