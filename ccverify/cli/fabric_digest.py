"""``ccverify fabric digest``: the routing of a fabric as one number that a policy can list."""

from __future__ import annotations

from typing import Any

import click

from ccverify.cli.fabric_files import Stated, read_stated
from ccverify.cli.inputs import Inputs
from ccverify.cli.options import format_option
from ccverify.cli.output import write_stderr, write_stdout
from ccverify.fabric.routing import NO_PORT, RoutingState
from ccverify.results.render.json import dump_json
from ccverify.results.render.text import sanitise

__all__ = ["DIGEST_SCHEMA", "digest"]

DIGEST_SCHEMA = "ccverify.fabric-digest/v1"
_EXIT_NO_TABLES = 6


@click.command(
    epilog="Exit codes: 0 the digest is printed, 1 wrong use, 2 malformed, 6 there are no tables."
)
@click.argument("file", metavar="FILE")
@format_option
def digest(file: str, output_format: str) -> int:
    """Print the routing digest of FILE (- is standard input): SHA-384, hex.

    FILE is a statement of a fabric's manager, the bundle of a node that holds one, or a folder of
    dumps: files named by their labels (nvlsm-lfts), as on the manager's host (nvlsm-lfts.dump,
    guid2lid), or as OpenSM names them (opensm.fdbs). Other files of a folder are passed over.

    Tables, addresses, groups and keys are all in the digest; their order, and who printed them,
    is not. A policy lists it in fabric.routing_digests.
    """
    stated = read_stated(Inputs(), file)
    found = stated.statement.routing_digest
    exit_code = 0 if found is not None else _EXIT_NO_TABLES
    for problem in _problems(stated):
        write_stderr(f"warning: {sanitise(problem)}\n")
    if found is None:
        write_stderr("error: there are no forwarding tables to digest\n")
    if output_format == "json":
        write_stdout(dump_json(_document(file, stated, exit_code)), as_json=True)
    elif found is not None:
        write_stdout(f"{found.hex()}\n")
    return exit_code


def _problems(stated: Stated) -> list[str]:
    statement = stated.statement
    told = [f"{one.where}: expected {one.expected}, found {one.found}"
            for one in statement.problems]  # fmt: skip
    return [*stated.broken, *told, *(f"{gap.where}: {gap.reason}" for gap in statement.gaps)]


def _document(file: str, stated: Stated, exit_code: int) -> dict[str, Any]:
    statement = stated.statement
    found = statement.routing_digest
    return {
        "schema": DIGEST_SCHEMA,
        "verified": False,
        "exit_code": exit_code,
        "routing_digest": None if found is None else found.hex(),
        "board": statement.board,
        "keys_from": statement.keys_from,
        **_counts(statement.routing),
        "statement": stated.to_json(file),
        "items": dict(sorted(statement.digests.items())),
        "problems": [
            {"code": p.code.value, "where": p.where, "expected": p.expected, "found": p.found}
            for p in statement.problems
        ],
        "gaps": [
            {"code": gap.code.value, "where": gap.where, "reason": gap.reason}
            for gap in statement.gaps
        ],
    }


def _counts(routing: RoutingState | None) -> dict[str, int | None]:
    """How much there is of everything that the digest covers."""
    if routing is None:
        names = ("switches", "entries", "groups", "addresses", "key_tables")
        return dict.fromkeys(names)
    return {
        "switches": len(routing.unicast),
        "entries": sum(len(t.ports) - t.ports.count(NO_PORT) for t in routing.unicast),
        "groups": len({group.lid for t in routing.multicast for group in t.groups}),
        "addresses": len(routing.addresses),
        "key_tables": None if routing.keys is None else len(routing.keys),
    }
