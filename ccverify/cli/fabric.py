"""``ccverify fabric``: look at the NVLink fabric of GPUs, as its manager and its guests have it."""

from __future__ import annotations

import click

from ccverify.cli.lazy import LazyGroup

__all__ = ["FABRIC_COMMANDS", "fabric"]

FABRIC_COMMANDS: dict[str, tuple[str, str]] = {
    "show": (
        "ccverify.cli.fabric_show:show",
        "Draw GPUs, switches and partitions, and what is wrong with them.",
    ),
    "digest": (
        "ccverify.cli.fabric_digest:digest",
        "Print the routing digest that a policy can list.",
    ),
    "diff": (
        "ccverify.cli.fabric_diff:diff",
        "Say what changed between two statements of one manager.",
    ),
    "tenants": (
        "ccverify.cli.fabric_tenants:tenants",
        "Say whether the tenants of one fabric are apart.",
    ),
}
"""Command → where it is defined, and its line in ``ccverify fabric --help``."""


@click.group(cls=LazyGroup, table=FABRIC_COMMANDS)
def fabric() -> None:
    """Show, digest and compare what a fabric's manager states.

    Nothing here verifies anything: who made a statement, and whether he is believed, `ccverify
    check` says, by a policy with a section `fabric`.
    """
