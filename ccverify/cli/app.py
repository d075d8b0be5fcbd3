"""The group of all commands: loads one when it is asked for, and turns errors into exits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from ccverify._version import __version__
from ccverify.cli.lazy import LazyGroup
from ccverify.cli.problems import EXIT_INTERRUPTED, report_problem, report_usage
from ccverify.errors import CcverifyError

__all__ = ["COMMANDS", "CommandLine", "cli", "wants_json"]

COMMANDS: dict[str, tuple[str, str]] = {
    "nonce": ("ccverify.cli.nonce:nonce", "Make a nonce for a machine to answer."),
    "collect": ("ccverify.cli.collect:collect", "Gather a machine's evidence into a bundle."),
    "doctor": ("ccverify.cli.doctor:doctor", "Say what this machine can collect, and what not."),
    "check": ("ccverify.cli.check:check", "Judge a TDX quote by a policy."),
    "verify": ("ccverify.cli.verify:verify", "Check a signed verdict, and judge again."),
    "inspect": ("ccverify.cli.inspect:inspect", "Show what a file says, unverified."),
    "explain": ("ccverify.cli.explain:explain", "Say what a check proves and how to fix it."),
    "policy": ("ccverify.cli.policy:policy", "Lint a policy, or show what it comes to."),
    "collateral": (
        "ccverify.cli.collateral:collateral",
        "Fetch, pack, show and compare what Intel publishes.",
    ),
    "fabric": (
        "ccverify.cli.fabric:fabric",
        "Show, digest and compare what a fabric's manager states.",
    ),
    "demo": ("ccverify.cli.demo:demo", "Play a simulated node from nonce to verdict, and attacks."),
}
"""Command → where it is defined, and its line in ``ccverify --help``.

The line stands here, so that help imports no command.
"""


class CommandLine(LazyGroup):
    """All commands, and where every error ends."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; declared errors and bugs become a report and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as problem:
            return report_problem(problem, as_json=bool(ctx.meta.get(_AS_JSON)))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note whether JSON is wanted before anything can go wrong."""
        ctx.meta[_AS_JSON] = wants_json(args)
        return super().parse_args(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with our exit codes: click's own 2 means malformed evidence here."""
        given = list(sys.argv[1:] if args is None else args)
        try:
            result = super().main(
                given, prog_name or "ccverify", complete_var, standalone_mode=False, **extra
            )
            code = result if isinstance(result, int) else 0
        except click.Abort:
            code = EXIT_INTERRUPTED
        except click.ClickException as problem:
            code = report_usage(problem, as_json=wants_json(given))
        except CcverifyError as problem:
            code = report_problem(problem, as_json=wants_json(given))
        if standalone_mode:
            sys.exit(code)
        return code


def wants_json(args: Sequence[str]) -> bool:
    """Whether the command line asks for JSON; read off the words, as parsing may fail."""
    wanted = False
    for position, word in enumerate(args):
        if word == "--":
            break
        name, _, value = word.partition("=")
        if name == "--format":
            value = value or (args[position + 1] if position + 1 < len(args) else "")
            wanted = value.lower() == "json"
    return wanted


_AS_JSON = "ccverify.as_json"


@click.group(
    "ccverify",
    cls=CommandLine,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 trusted, 1 wrong use, 2 malformed evidence, 3 not authentic, 4 policy "
    "not met, 5 collateral, 6 incomplete, 10 nothing to check.",
)
@click.version_option(__version__, "-V", "--version", message="ccverify %(version)s")
def cli() -> None:
    """Verify what a confidential machine really is: offline, and by your own policy.

    Start with `ccverify demo`. Then judge a quote of your own with `ccverify check`.
    """
