"""Errors on their way out: words on standard error, JSON on standard output, an exit code."""

from __future__ import annotations

import os
import sys

import click

from ccverify.cli.output import write_stderr, write_stdout
from ccverify.errors import CcverifyError, UsageError
from ccverify.results.render.json import error_json
from ccverify.results.render.text import sanitise

__all__ = ["EXIT_INTERRUPTED", "report_problem", "report_usage"]

EXIT_INTERRUPTED = 130
DEBUG_VARIABLE = "CCVERIFY_DEBUG"


class InternalError(CcverifyError):
    """A bug of ccverify, met at run time."""

    code = "INTERNAL"


def report_problem(problem: Exception, *, as_json: bool) -> int:
    """Tell an error and return the exit code of the process.

    What is not one of our declared errors is a bug: it is told in one line, with its
    traceback only if CCVERIFY_DEBUG=1.
    """
    if isinstance(problem, BrokenPipeError):
        return 1
    if not isinstance(problem, CcverifyError):
        problem = _internal(problem)
    write_stderr(_diagnostics(problem))
    if as_json:
        _write_json(problem)
    return problem.exit_code


def report_usage(problem: click.ClickException, *, as_json: bool) -> int:
    """Tell a complaint of click's about the command line and return the exit code, 1."""
    context = problem.ctx if isinstance(problem, click.UsageError) else None
    hint = f"see `{context.command_path} --help`" if context else None
    if isinstance(problem, click.exceptions.NoArgsIsHelpError):
        write_stderr(f"{problem.format_message()}\n")
    else:
        usage = f"{context.get_usage()}\n" if context else ""
        advice = f"  what to do: {hint}\n" if hint else ""
        write_stderr(f"error: {sanitise(problem.format_message())}\n{advice}{usage}")
    if as_json:
        _write_json(UsageError(problem.format_message(), hint=hint))
    return UsageError.exit_code


def _diagnostics(problem: CcverifyError) -> str:
    """Lay out an error as `CcverifyError.diagnostics` does, each part sanitised.

    Sanitising part by part, a line end in a hostile value cannot begin a line of its own.
    """
    lines = [f"error: {sanitise(problem.message)}"]
    for label, value in (
        ("expected", problem.expected),
        ("found", problem.found),
        ("where", problem.where),
        ("what to do", problem.hint),
    ):
        if value is not None:
            lines.append(f"  {label}: {sanitise(value)}")
    return "\n".join(lines) + "\n"


def _internal(problem: Exception) -> InternalError:
    if os.environ.get(DEBUG_VARIABLE) == "1":
        import traceback

        lines = "".join(traceback.format_exception(problem)).split("\n")
        write_stderr("\n".join(map(sanitise, lines)))
    return InternalError(
        f"internal error: {type(problem).__name__}",
        found=f"{problem}"[:300] or None,
        hint="this is a bug in ccverify: please report it, with what you ran; "
        f"{DEBUG_VARIABLE}=1 shows where it happened",
    )


def _write_json(problem: CcverifyError) -> None:
    try:
        write_stdout(error_json(problem), as_json=True)
    except CcverifyError:
        # Standard output is unusable; that was told, or is what this error is about.
        sys.stderr.flush()
