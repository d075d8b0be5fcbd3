"""``ccverify fabric show``: a drawing of GPUs, switches and partitions, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from ccverify.cli.fabric_files import UNVERIFIED, Stated, read_fabric_file
from ccverify.cli.fabric_view import (
    MAX_BOXES,
    FabricView,
    drawing_of,
    guest_name,
    link_counts,
    links_up,
    view_of,
)
from ccverify.cli.inputs import Inputs
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap import LinkMap, NodeKind, PortId, port_text
from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM
from ccverify.fabric.nvml_values import FABRIC_STATES, named
from ccverify.fabric.observation import Absent, FabricObservation
from ccverify.fabric.partition_table import PartitionEntry
from ccverify.fabric.routing_findings import RouteCode, RouteFinding
from ccverify.fabric.statement import FabricStatement, partition_name
from ccverify.fabric.statement_model import StatementProblem, modules_text
from ccverify.results.render.fabric_drawing import add_drawing
from ccverify.results.render.json import dump_json
from ccverify.results.render.text import Page, Style

__all__ = ["SHOW_SCHEMA", "add_routes", "path_rows", "route_json", "show"]

SHOW_SCHEMA = "ccverify.fabric-show/v1"
_GUEST_ONLY: Final = (
    "There is no statement of the fabric's manager. This is what the driver of the guest says; "
    "cluster and cliques are asserted by the host, and who else reaches these GPUs nobody says."
)
_MOST_SHOWN: Final = 3
"""Findings of one code on a page; JSON has all."""


@click.command(
    epilog="Exit codes: 0 it is shown, whatever it says; 1 wrong use, 2 malformed. To judge it: "
    "`ccverify check`."
)
@click.argument("file", metavar="FILE")
@click.option(
    "--partition",
    type=click.IntRange(min=0),
    metavar="ID",
    help="Show this partition before all others, and only what concerns it.",
)
@format_option
@no_color_option
def show(file: str, partition: int | None, output_format: str, no_color: bool) -> int:
    """Draw the fabric that FILE (- is standard input) is about, and say what is wrong with it.

    FILE is a statement of a fabric's manager, the bundle of a node, or a folder of dumps (see
    `ccverify fabric digest`). The bundle of a node shows the statement in it, if there is one, and
    otherwise what its guest alone sees, which the host asserts.

    GPUs are named by module id and stand in the boxes of their active partitions. Below each are
    the links to each switch: found by the manager / cabled on such a board. A mark ! is on
    everything that a finding names. A way that a packet leaks is told hop by hop.
    """
    read = read_fabric_file(Inputs(), file)
    if read.stated is None and read.observation is None:
        raise EvidenceError(
            "there is nothing of a fabric in this bundle",
            expected="a statement of the fabric's manager, or an observation of the guest",
            found="neither",
            where=file,
        )
    view = view_of(read, partition)
    if output_format == "json":
        write_stdout(dump_json(_document(view)), as_json=True)
    else:
        width, color = screen(no_color=no_color)
        write_stdout(_page(view, Page(width, color=color)).text())
    return 0


# --- as text -------------------------------------------------------------------------------------


def _page(view: FabricView, page: Page) -> Page:
    stated, observation = view.file.stated, view.file.observation
    page.paragraph(_title(view), style=Style.STRONG)
    page.paragraph(UNVERIFIED, style=Style.WARN)
    if stated is None:
        page.paragraph(_GUEST_ONLY, style=Style.WARN)
    page.blank()
    page.rows([*_about(view)], indent=2, styles=(Style.DIM,))
    page.blank()
    add_drawing(page, drawing_of(view))
    if stated is not None:
        if len(view.shown) > MAX_BOXES:
            text = f"{len(view.shown) - MAX_BOXES} further partitions are not drawn."
            page.paragraph(text, indent=2, style=Style.WARN)
        _add_legend(page, stated.statement)
        _add_partitions(page, view)
        _add_findings(page, view)
    if observation is not None:
        _add_guest(page, observation)
    return page


def _title(view: FabricView) -> str:
    statement, observation = view.statement, view.file.observation
    if statement is None:
        count = len(observation.gpus) if observation else 0
        return f"Fabric as one guest sees it: {count} GPUs"
    links = statement.links
    parts = []
    if links is not None:
        ends = (NodeKind.GPU, "GPUs") if statement.board else (NodeKind.OTHER, "devices")
        kinds = (ends, (NodeKind.SWITCH, "switches"))
        parts += [f"{len(links.of_kind(kind))} {name}" for kind, name in kinds]
    parts.append(f"{len(view.active)} active partitions")
    mark = " (SIMULATED)" if view.file.stated and view.file.stated.simulated else ""
    return f"Fabric of an {statement.board or 'unknown board'}: {', '.join(parts)}{mark}"


def _about(view: FabricView) -> Iterator[tuple[str, str]]:
    yield "file", view.file.path
    if view.file.broken:
        yield "broken", "; ".join(view.file.broken)
    stated = view.file.stated
    if stated is None:
        return
    statement = stated.statement
    yield "stated", stated.made
    if stated.nonce is not None:
        yield "answers", stated.nonce.hex()
    yield "key bound by", f"{stated.bound_text} (not verified)"
    if stated.broken:
        yield "broken", "; ".join(stated.broken)
    yield "manager", "; ".join(_programs(statement)) or "not stated"
    digest = statement.routing_digest
    yield "routing digest", digest.hex() if digest else "no tables"


def _programs(statement: FabricStatement) -> Iterator[str]:
    for name, title in ((FABRIC_MANAGER, "Fabric Manager"), (NVLSM, "NVLSM")):
        program = statement.facts.program(name)
        if program is None:
            continue
        version = "version unknown" if isinstance(program.version, Absent) else program.version
        runs = "does not run" if isinstance(program.process, Absent) else "runs"
        yield f"{title} {version}, {runs}"


def _add_legend(page: Page, statement: FabricStatement) -> None:
    if link_counts(statement):
        text = (
            f"9/9: links found / cabled on an {statement.board}. ! is on what a finding names."
            if statement.published
            else "Numbers are links found. ! is on what a finding names."
        )
    elif statement.links is None:
        text = "Cables are not stated, so no switches are drawn."
    else:
        switches = len(statement.links.of_kind(NodeKind.SWITCH))
        text = f"The cables of these {switches} switches are those of no known board."
    page.paragraph(text, indent=2, style=Style.DIM)


def _add_partitions(page: Page, view: FabricView) -> None:
    statement = view.statement
    if statement is None or statement.partitions is None:
        return
    page.heading("Partitions")
    names, members = [], []
    for entry in view.shown:
        own = ", this node's" if view.own is not None and entry.id == view.own.id else ""
        names.append(f"partition {entry.id}{own}")
        members.append(f"GPUs {modules_text(entry.modules)}")
    for entry, name, gpus in zip(view.shown, names, members, strict=True):
        mark, look, text = _state(view, entry)
        row = (mark, name.ljust(max(map(len, names))), gpus.ljust(max(map(len, members))), text)
        page.rows([row], indent=2, styles=(look, Style.STRONG, None, look))
    others = len(statement.partitions.entries) - len(view.shown)
    if others:
        page.paragraph(f"{others} more are defined and not active", indent=4, style=Style.DIM)


def _state(view: FabricView, entry: PartitionEntry) -> tuple[str, Style, str]:
    if not entry.active:
        return "?", Style.WARN, "defined and not active"
    if view.evaluation is None:
        return "?", Style.WARN, "not evaluated"
    if view.evaluation.is_closed(partition_name(entry)):
        return "✓", Style.GOOD, "whole inside, closed to the outside"
    count = len(view.evaluation.of(partition_name(entry)))
    return "✗", Style.BAD, f"{count} finding{'' if count == 1 else 's'}"


def _add_findings(page: Page, view: FabricView) -> None:
    links = view.statement.links if view.statement else None
    if view.routes:
        page.heading(f"Routes ({len(view.routes)})", Style.BAD)
        omitted = view.evaluation.omitted if view.evaluation else ()
        add_routes(page, view.routes, dict(omitted), links)
    if view.problems:
        page.heading(f"Manager ({len(view.problems)})", Style.BAD)
        by_code: dict[str, list[StatementProblem]] = {}
        for problem in view.problems:
            by_code.setdefault(problem.code.value, []).append(problem)
        for code, alike in by_code.items():
            for problem in alike[:_MOST_SHOWN]:
                page.spans(("✗ ", Style.BAD), (code, Style.STRONG),
                           (f"  {problem.where}", None), indent=2)  # fmt: skip
                told = [("expected", problem.expected), ("found", problem.found)]
                page.rows(told, indent=4, styles=(Style.DIM,))
            _add_rest(page, code, len(alike) - _MOST_SHOWN)
    if not view.routes and not view.problems and view.evaluation is not None:
        page.heading("Nothing is wrong with what is stated", Style.GOOD)
    if view.gaps:
        page.heading("Not stated", Style.WARN)
        rows = [("?", f"{gap.where}: {gap.reason}") for gap in view.gaps]
        page.rows(rows, indent=2, styles=(Style.WARN,))


def add_routes(
    page: Page,
    findings: Sequence[RouteFinding],
    omitted: Mapping[RouteCode, int],
    links: LinkMap | None,
) -> None:
    """Add findings about routes, the first of each code in full."""
    by_code: dict[RouteCode, list[RouteFinding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    for code, alike in by_code.items():
        for finding in alike[:_MOST_SHOWN]:
            add_route(page, finding, links)
        _add_rest(page, code.value, len(alike) - _MOST_SHOWN)
        if omitted.get(code):
            text = f"… {code.value} in {omitted[code]} further cases that are not listed"
            page.paragraph(text, indent=4, style=Style.DIM)


def _add_rest(page: Page, code: str, count: int) -> None:
    if count > 0:
        places = "1 more place" if count == 1 else f"{count} more places"
        text = f"… {code} at {places}; --format json has them"
        page.paragraph(text, indent=4, style=Style.DIM)


def add_route(page: Page, finding: RouteFinding, links: LinkMap | None) -> None:
    """Add a finding about a route, and its way hop by hop."""
    again = f"  ({finding.count} cases; the first is shown)" if finding.count > 1 else ""
    page.spans(("✗ ", Style.BAD), (finding.code.value, Style.STRONG),
               (f"  {finding.where}", None), (again, Style.DIM), indent=2)  # fmt: skip
    rows = [("expected", finding.expected), ("found", finding.found)]
    page.rows(rows, indent=4, styles=(Style.DIM,))
    if finding.path:
        page.rows(path_rows(finding.path, links), indent=4, styles=(Style.DIM, Style.BAD))


def path_rows(path: tuple[PortId, ...], links: LinkMap | None) -> list[tuple[str, str, str]]:
    """Return hop, port and how a packet gets there, one row for each port of a way."""
    kinds = {node.name: node.kind for node in links.nodes} if links else {}
    rows = []
    for at, port in enumerate(path):
        if not at:
            how = "sends"
        else:
            how = "through the switch" if path[at - 1].node == port.node else "over the cable"
        name = port_text(port, kinds.get(port.node, NodeKind.OTHER))
        rows.append((f"hop {at}", name, how))
    return rows


def _add_guest(page: Page, observation: FabricObservation) -> None:
    page.heading("What the guest's driver says (asserted)")
    rows = []
    for gpu in observation.gpus:
        fabric = gpu.fabric
        if isinstance(fabric, Absent):
            said = f"no registration ({fabric.code})"
        else:
            cliques = ", ".join(str(one.id) for one in fabric.cliques) or "none"
            state = named(FABRIC_STATES, fabric.state)
            said = f"{state}, clique {cliques}, cluster {fabric.cluster_uuid}"
        rows.append((guest_name(gpu), f"{links_up(gpu)} links up", said))
    page.rows(rows, indent=2, styles=(None, None, Style.DIM))


# --- as JSON -------------------------------------------------------------------------------------


def route_json(finding: RouteFinding) -> dict[str, Any]:
    """Return a finding about a route as JSON has it."""
    return {
        "code": finding.code.value,
        "partitions": list(finding.partitions),
        "where": finding.where,
        "expected": finding.expected,
        "found": finding.found,
        "path": [{"node": port.node, "port": port.port} for port in finding.path],
        "count": finding.count,
    }


def _document(view: FabricView) -> dict[str, Any]:
    return {
        "schema": SHOW_SCHEMA,
        "verified": False,
        "file": view.file.path,
        "broken": list(view.file.broken),
        "statement": _statement_json(view, view.file.stated) if view.file.stated else None,
        "guest": _guest_json(view.file.observation) if view.file.observation else None,
    }


def _statement_json(view: FabricView, stated: Stated) -> dict[str, Any]:
    statement, evaluation = stated.statement, view.evaluation
    links, digest = statement.links, statement.routing_digest
    switches = links.of_kind(NodeKind.SWITCH) if links else ()
    entries = statement.partitions.entries if statement.partitions else ()
    return {
        **stated.to_json(view.file.path),
        "board": statement.board,
        "routing_digest": digest.hex() if digest else None,
        "switches": [
            {"name": node.name, "guid": None if node.guid is None else f"0x{node.guid:016x}"}
            for node in switches
        ],
        "links": [
            {"gpu": gpu, "switch": switch, "found": found, "cabled": cabled}
            for (gpu, switch), (found, cabled) in link_counts(statement).items()
        ],
        "partitions": [
            {
                "id": entry.id,
                "active": entry.active,
                "modules": sorted(entry.modules),
                "this_node": view.own is not None and entry.id == view.own.id,
                "closed": evaluation.is_closed(partition_name(entry))
                if evaluation and entry.active
                else None,
            }
            for entry in entries
            if view.only is None or entry.id == view.only.id
        ],
        "evaluated": evaluation is not None,
        "routes": [route_json(finding) for finding in view.routes],
        "omitted": {code.value: count for code, count in evaluation.omitted} if evaluation else {},
        "problems": [
            {"code": p.code.value, "where": p.where, "expected": p.expected, "found": p.found}
            for p in view.problems
        ],
        "gaps": [
            {"code": gap.code.value, "where": gap.where, "reason": gap.reason} for gap in view.gaps
        ],
    }


def _guest_json(observation: FabricObservation) -> list[dict[str, Any]]:
    listed = []
    for gpu in observation.gpus:
        fabric = None if isinstance(gpu.fabric, Absent) else gpu.fabric
        listed.append({
            "index": gpu.index,
            "module": None if isinstance(gpu.module, Absent) else gpu.module,
            "cluster_uuid": fabric.cluster_uuid if fabric else None,
            "clique_ids": [one.id for one in fabric.cliques] if fabric else [],
            "state": named(FABRIC_STATES, fabric.state) if fabric else None,
            "links_up": None if isinstance(gpu.links, Absent)
            else sum(link.state == 1 for link in gpu.links),
        })  # fmt: skip
    return listed
