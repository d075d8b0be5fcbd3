"""``ccverify fabric tenants``: have the tenants of one fabric anything in common?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from ccverify.cli.evidence_files import FABRIC_STATEMENT
from ccverify.cli.fabric_files import (
    BUNDLE,
    UNVERIFIED,
    FabricFile,
    Stated,
    read_fabric_file,
    read_stated,
)
from ccverify.cli.fabric_show import add_routes, path_rows, route_json
from ccverify.cli.inputs import Inputs
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.errors import EvidenceError, UsageError
from ccverify.evidence import DeviceEvidence
from ccverify.fabric.linkmap import LinkMap
from ccverify.fabric.observation import Absent
from ccverify.fabric.statement_model import modules_text
from ccverify.fabric.tenants import Overlap, Separation, Tenant, TenantComparison, compare_tenants
from ccverify.nvidia.certs import parse_device_chain
from ccverify.results.render.describe_certificates import device_claims
from ccverify.results.render.json import dump_json
from ccverify.results.render.text import Page, Style

__all__ = ["TENANTS_SCHEMA", "tenants"]

TENANTS_SCHEMA = "ccverify.fabric-tenants/v1"
MAX_TENANTS: Final = 64
_EXITS: Final = {Separation.DISJOINT: 0, Separation.OVERLAP: 4, Separation.UNKNOWN: 6}
_TITLES: Final = {
    Separation.DISJOINT: ("DISJOINT: these tenants have nothing in common", Style.GOOD),
    Separation.OVERLAP: ("OVERLAP: tenants have something in common", Style.BAD),
    Separation.UNKNOWN: ("NOT PROVABLE: nothing in common was found, but not all is known",
                         Style.WARN),
}  # fmt: skip
_CHECK_EACH: Final = (
    "Certificates were read and not verified. Run `ccverify check` on each bundle, and on the "
    "statement: this answer is worth what those verdicts are."
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was compared, and what it came to."""

    tenants: Sequence[Tenant]
    statement: tuple[str, Stated] | None
    found: TenantComparison

    @property
    def exit_code(self) -> int:
        """Of the process."""
        return _EXITS[self.found.separation]


@click.command(
    epilog="Exit codes: 0 disjoint, 1 wrong use, 2 malformed, 4 they overlap, 6 not provable, "
    "such as without a statement."
)
@click.argument("bundles", metavar="BUNDLE BUNDLE...", nargs=-1)
@click.option(
    "--fabric-statement",
    "statement",
    metavar="FILE",
    help="What the manager of their fabric states; otherwise the latest one in the bundles.",
)
@format_option
@no_color_option
def tenants(
    bundles: tuple[str, ...], statement: str | None, output_format: str, no_color: bool
) -> int:
    """Say whether the tenants of one fabric are apart, and what they have in common if not.

    Each BUNDLE is what `ccverify collect` wrote in the guest of one tenant. Compared are the
    certified identities of their GPUs, module ids, cliques and partitions, and the routes of the
    manager's statement, evaluated with all of them as partitions: a way between two tenants is
    told hop by hop.

    Nothing is verified here: run `ccverify check` on each bundle, with the statement.
    """
    _require_several(bundles)
    inputs = Inputs()
    inputs.plan(*((path, BUNDLE) for path in bundles), (statement, FABRIC_STATEMENT))
    files = [_read(inputs, path) for path in bundles]
    stated = _statements(inputs, statement, files)
    # One that contradicts its own signature or manifest is nobody's word.
    usable = [one for one in stated if not one[1].broken]
    compared = [_tenant(file) for file in files]
    found = compare_tenants(compared, [one.statement for _, one in usable])
    answer = _Answer(compared, next(reversed(usable or stated), None), found)
    if output_format == "json":
        write_stdout(dump_json(_document(answer)), as_json=True)
    else:
        width, color = screen(no_color=no_color)
        write_stdout(_page(answer, Page(width, color=color)).text())
    return answer.exit_code


# --- reading -------------------------------------------------------------------------------------


def _require_several(bundles: Sequence[str]) -> None:
    if not 2 <= len(bundles) <= MAX_TENANTS:
        expected = f"2 to {MAX_TENANTS} bundles"
        raise UsageError("tenants are compared with each other", expected=expected,
                         found=str(len(bundles)))  # fmt: skip
    real = [os.path.realpath(path) for path in bundles]
    if len(set(real)) != len(real):
        raise UsageError("one bundle is named twice", expected="a bundle of each tenant, once",
                         found=", ".join(bundles)[:200])  # fmt: skip


def _read(inputs: Inputs, path: str) -> FabricFile:
    file = read_fabric_file(inputs, path, BUNDLE)
    if file.evidence is None:
        raise EvidenceError(
            "this is a statement of a fabric's manager, not the bundle of a tenant",
            expected=BUNDLE.expected,
            where=path,
            hint="give it with --fabric-statement",
        )
    return file


def _statements(
    inputs: Inputs, named: str | None, files: Sequence[FabricFile]
) -> list[tuple[str, Stated]]:
    """The statement that is named, or else those in the bundles, the latest last."""
    if named is not None:
        return [(named, read_stated(inputs, named, FABRIC_STATEMENT))]
    own = [(file.path, file.stated) for file in files if file.stated is not None]
    return sorted(own, key=lambda one: one[1].created or 0)


def _tenant(file: FabricFile) -> Tenant:
    evidence, observation = file.evidence, file.observation
    problems = list(file.broken)
    gpus = set()
    for device in evidence.gpus if evidence else ():
        identity = _identity(device)
        if identity is None:
            problems.append(f"{device.source} has no chain that certifies an identity")
        elif identity in gpus:
            problems.append(f"GPU {identity} is in it twice")
        else:
            gpus.add(identity)
    cliques = set()
    for gpu in observation.gpus if observation else ():
        if not isinstance(gpu.fabric, Absent):
            cliques |= {(gpu.fabric.cluster_uuid, clique.id) for clique in gpu.fabric.cliques}
    return Tenant(file.path, frozenset(gpus), file.modules, frozenset(cliques), tuple(problems))


def _identity(device: DeviceEvidence) -> str | None:
    """The identity that a chain certifies, unverified; None if it names none."""
    try:
        return device_claims(parse_device_chain(device.certificate_chain)).get("device_id")
    except EvidenceError:
        return None


# --- showing -------------------------------------------------------------------------------------


def _page(answer: _Answer, page: Page) -> Page:
    found = answer.found
    title, style = _TITLES[found.separation]
    page.spans((title, style))
    page.paragraph(UNVERIFIED, style=Style.WARN)
    page.paragraph(_CHECK_EACH, style=Style.WARN)
    page.heading(f"Tenants ({len(answer.tenants)})")
    page.rows([_row(tenant, found) for tenant in answer.tenants], indent=2,
              header=("bundle", "GPUs", "modules", "partition"))  # fmt: skip
    if answer.statement is not None:
        path, stated = answer.statement
        page.blank()
        mark = ", SIMULATED" if stated.simulated else ""
        text = f"{path}, {stated.made}, key bound by {stated.bound_text} (not verified){mark}"
        broken = [("broken", "; ".join(stated.broken))] if stated.broken else []
        page.rows([("statement", text), *broken], indent=2, styles=(Style.DIM,))
    links = answer.statement[1].statement.links if answer.statement else None
    _add_overlaps(page, found.overlaps, links)
    if found.gaps:
        page.heading("Not known", Style.WARN)
        rows = [("?", gap.subject.value, f"{', '.join(gap.tenants) or 'all'}: {gap.reason}")
                for gap in found.gaps]  # fmt: skip
        page.rows(rows, indent=2, styles=(Style.WARN,))
    if found.others:
        page.heading("Wrong with the fabric, and not between these tenants")
        add_routes(page, found.others, {}, links)
    page.blank()
    page.paragraph(f"exit code {answer.exit_code}")
    return page


def _row(tenant: Tenant, found: TenantComparison) -> tuple[str, ...]:
    number = found.partitions.get(tenant.name)
    modules = modules_text(tenant.modules) if tenant.modules else "not known"
    return (tenant.name, str(len(tenant.gpus)), modules,
            "not known" if number is None else f"{number}, active")  # fmt: skip


def _add_overlaps(page: Page, overlaps: Sequence[Overlap], links: LinkMap | None) -> None:
    if overlaps:
        page.heading(f"In common ({len(overlaps)})", Style.BAD)
    for overlap in overlaps:
        again = f"  ({overlap.count} cases)" if overlap.count > 1 else ""
        page.spans(("✗ ", Style.BAD), (overlap.code.value, Style.STRONG),
                   (f"  {overlap.where}", None), (again, Style.DIM), indent=2)  # fmt: skip
        rows = [("tenants", ", ".join(overlap.tenants)), ("found", overlap.found)]
        page.rows(rows, indent=4, styles=(Style.DIM,))
        if overlap.path:
            page.rows(path_rows(overlap.path, links), indent=4, styles=(Style.DIM, Style.BAD))


def _document(answer: _Answer) -> dict[str, Any]:
    found = answer.found
    return {
        "schema": TENANTS_SCHEMA,
        "verified": False,
        "exit_code": answer.exit_code,
        "separation": found.separation.value,
        "tenants": [
            {
                "bundle": tenant.name,
                "gpus": sorted(tenant.gpus),
                "modules": None if tenant.modules is None else sorted(tenant.modules),
                "cliques": [
                    {"cluster_uuid": uuid, "id": clique} for uuid, clique in sorted(tenant.cliques)
                ],
                "partition": found.partitions.get(tenant.name),
                "problems": list(tenant.problems),
            }
            for tenant in answer.tenants
        ],
        "statement": answer.statement[1].to_json(answer.statement[0]) if answer.statement else None,
        "overlaps": [
            {
                "code": one.code.value,
                "tenants": list(one.tenants),
                "where": one.where,
                "found": one.found,
                "path": [{"node": port.node, "port": port.port} for port in one.path],
                "count": one.count,
            }
            for one in found.overlaps
        ],
        "gaps": [
            {"subject": gap.subject.value, "tenants": list(gap.tenants), "reason": gap.reason}
            for gap in found.gaps
        ],
        "others": [route_json(finding) for finding in found.others],
    }
