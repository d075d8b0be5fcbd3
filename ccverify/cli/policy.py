"""``ccverify policy``: is it valid, is it wise, what does it come to?"""

from __future__ import annotations

import click

from ccverify.cli.inputs import POLICY, Inputs, in_file
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.cli.policy_advice import advise
from ccverify.cli.policy_remark import Level
from ccverify.cli.problems import report_problem
from ccverify.errors import PolicyError
from ccverify.policy.document import load_policy, policy_problems
from ccverify.policy.model import Policy
from ccverify.results.render.policy import policy_json, render_policy
from ccverify.results.render.text import Page, Style

__all__ = ["policy"]

_LOOKS = {
    Level.UNMEETABLE: ("✗ no machine can pass", Style.BAD),
    Level.WEAKENS: ("! weakens", Style.WARN),
    Level.CONSIDER: ("· consider", Style.DIM),
}


@click.group()
def policy() -> None:
    """Lint a policy, or show what it comes to."""


@policy.command()
@click.argument("file", metavar="FILE")
@no_color_option
def lint(file: str, no_color: bool) -> int:
    """Check the policy in FILE (- is standard input) and say where it is weak.

    A document that is no valid policy ends with exit code 1. Advice does not change the exit
    code, unless no machine could ever meet the policy: then it is 1, too.
    """
    text = Inputs().read(file, POLICY)
    with in_file(file):
        problems = policy_problems(text)
    for problem in problems:
        _report(file, problem)
    if problems:
        return PolicyError.exit_code
    read = load_policy(text)
    notes = advise(read)
    width, color = screen(no_color=no_color)
    page = Page(width, color=color)
    page.spans(("✓ valid", Style.GOOD), (f"  policy {read.name or 'without a name'}", None))
    for note in notes:
        title, style = _LOOKS[note.level]
        page.blank()
        page.spans((title, style), (f"  {note.where}", Style.STRONG))
        page.rows([("why", note.why), ("instead", note.instead)], indent=4, styles=(Style.DIM,))
    if not notes:
        page.paragraph("Nothing in it is weaker than it has to be.", indent=2)
    write_stdout(page.text())
    return int(any(note.level is Level.UNMEETABLE for note in notes))


@policy.command()
@click.argument("file", metavar="FILE")
@format_option
@no_color_option
def show(file: str, output_format: str, no_color: bool) -> int:
    """Show the policy in FILE (- is standard input) with every default filled in."""
    read = _load(file)
    as_json = output_format == "json"
    width, color = screen(no_color=no_color)
    text = policy_json(read) if as_json else render_policy(read, width=width, color=color)
    write_stdout(text, as_json=as_json)
    return 0


def _report(path: str, problem: PolicyError) -> None:
    try:
        with in_file(path):
            raise problem
    except PolicyError as named:
        report_problem(named, as_json=False)


def _load(path: str) -> Policy:
    text = Inputs().read(path, POLICY)
    with in_file(path):
        return load_policy(text)
