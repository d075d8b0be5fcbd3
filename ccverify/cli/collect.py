"""``ccverify collect``: ask a machine for everything it can prove, and sign it into one bundle."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from ccverify.cli.binder_options import binder_options, take_binders
from ccverify.cli.inputs import NONCE, Inputs, parse_hex, parse_nonce_file
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import (
    require_output,
    screen,
    write_private_file,
    write_stderr,
    write_stdout,
)
from ccverify.cli.sources import (
    file_options,
    is_simulated,
    machine_options,
    sources_of,
    timeout_option,
)
from ccverify.errors import UsageError
from ccverify.results.render.text import sanitise

if TYPE_CHECKING:
    from ccverify.collect.collected import Collected, Event, Progress

__all__ = ["DEVICE_NONCE_VARIABLE", "collect"]

# Everything that needs `cryptography` is imported where it is used: asking for help must stay
# fast.

DEVICE_NONCE_VARIABLE = "CCVERIFY_DEVICE_NONCE"
"""Where a command of ``--prepare`` finds the nonce for devices, in hex."""

_NONCE_BYTES = 32
_EXIT_INCOMPLETE = 6
_EXIT_NOTHING = 10


@click.command(
    epilog="Exit codes: 0 the bundle is written, with its absences in it; 1 wrong use, or FILE "
    "cannot be written; 6 something required is missing, nothing is written; 10 nothing at all "
    "could be gathered, and the bundle that is written says why."
)
@click.option("--nonce", metavar="HEX", help="The relying party's nonce, 32 bytes.")
@click.option("--nonce-file", metavar="FILE", help="The same from a file, raw or hex.")
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="The bundle to write, such as node.ccb."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--only", metavar="PART", multiple=True, help="Ask for this part alone, such as gpu. "
    "May be given several times."
)  # fmt: skip
@click.option(
    "--require", metavar="PART", multiple=True, help="Write nothing unless this part is there, "
    "every device of it. May be given several times."
)  # fmt: skip
@timeout_option(60.0, "Seconds for each source; the quote, which comes last, has as many again.")
@click.option(
    "--extend-rtmr",
    is_flag=True,
    help="Extend RTMR3 by the digest of what was gathered, before the quote. There is no way back.",
)
@click.option(
    "--probe",
    is_flag=True,
    help="Measure access, speed and traffic between the GPUs as well (needs ccverify[probe]). "
    "It takes seconds, and memory of every GPU: do it before the workload starts.",
)
@machine_options
@file_options
@binder_options
@click.option(
    "--prepare",
    metavar="COMMAND",
    help="Run COMMAND before devices are asked, with the nonce for them in the variable "
    f"{DEVICE_NONCE_VARIABLE}: what it gathers, --source-folder and --nvattest take.",
)
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@no_color_option
def collect(
    nonce: str | None,
    nonce_file: str | None,
    output: str,
    force: bool,
    only: tuple[str, ...],
    require: tuple[str, ...],
    timeout: float,
    extend_rtmr: bool,
    prepare: str | None,
    output_format: str,
    quiet: bool,
    no_color: bool,
    **wishes: Any,
) -> int:
    """Gather the evidence of this machine and sign it into the bundle FILE.

    Run this inside the confidential VM, as root. All devices are asked at once; the TDX quote
    comes last and covers everything before it. What is absent or fails is recorded in the bundle
    with the reason, never left out silently. `ccverify doctor` says beforehand what this machine
    can give.

    The key that signs the bundle is made for it and never leaves memory.

    With `--role fabric-manager`, run where the Fabric Manager runs, a statement of that manager
    is made in the same way: what it is, how it is configured and what it set up. Its nonce may be
    an epoch, 32 bytes that are published to all relying parties. It is bound by the machine's own
    TDX quote, a TPM or an operator's key, whichever there is.
    """
    answer_to = _nonce(Inputs(), nonce, nonce_file)
    require_output(output, force=force)
    platform: str = wishes["platform"]
    binders = take_binders(wishes)
    sources = sources_of(**wishes)

    from ccverify.collect.session import collect_bundle

    with _progress(quiet=quiet) as progress:
        collected = collect_bundle(
            answer_to,
            sources,
            only=_split(only),
            require=_split(require),
            timeout=timeout,
            extend_rtmr3=extend_rtmr,
            binders=binders,
            prepare=_command(prepare, timeout) if prepare is not None else None,
            progress=progress,
        )
    if collected.bundle is not None:
        write_private_file(output, collected.bundle, force=force)
    exit_code = _exit_code(collected)
    _tell_missing(collected)
    if not quiet:
        _show(collected, output, output_format, no_color=no_color, exit_code=exit_code,
              simulated=is_simulated(platform))  # fmt: skip
    return exit_code


def _nonce(inputs: Inputs, text: str | None, path: str | None) -> bytes:
    if text is not None and path is not None:
        raise UsageError("the nonce is given twice", expected="one of them",
                         found="--nonce, --nonce-file")  # fmt: skip
    if text is not None:
        return parse_hex(text, "--nonce", _NONCE_BYTES, _NONCE_BYTES)
    if path is None:
        raise UsageError(
            "no nonce was given: without one nobody knows how old the evidence is",
            expected="--nonce HEX or --nonce-file FILE",
            hint="the relying party makes one with `ccverify nonce`",
        )
    found = parse_nonce_file(inputs.read(path, NONCE), path)
    if len(found) != _NONCE_BYTES:
        raise UsageError("the nonce has the wrong length", expected=f"{_NONCE_BYTES} bytes",
                         found=f"{len(found)} bytes", where=path)  # fmt: skip
    return found


def _command(text: str, timeout: float) -> Callable[[bytes], None]:
    """Return what runs the user's command with the nonce for devices; no shell is between."""
    try:
        words = shlex.split(text)
    except ValueError as problem:
        words = []
        found = str(problem)
    else:
        found = repr(text[:80])
    if not words:
        raise UsageError("the value of --prepare is no command", found=found, where="--prepare")

    def run(device_nonce: bytes) -> None:
        environment = {**os.environ, DEVICE_NONCE_VARIABLE: device_nonce.hex()}
        try:
            # Its words belong to people: standard output carries the result alone.
            subprocess.run(  # noqa: S603  # running it is what was asked for
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__ or subprocess.DEVNULL,
                timeout=timeout,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as problem:
            raise UsageError("the command of --prepare failed", where="--prepare",
                             found=str(problem)) from None  # fmt: skip

    return run


def _split(names: tuple[str, ...]) -> tuple[str, ...]:
    """Take ``--only gpu,fabric`` for two names."""
    return tuple(part for name in names for part in name.split(","))


def _exit_code(collected: Collected) -> int:
    if collected.missing:
        return _EXIT_INCOMPLETE
    return 0 if collected.items else _EXIT_NOTHING


def _tell_missing(collected: Collected) -> None:
    if collected.missing:
        missing = sanitise(", ".join(collected.missing))
        write_stderr(f"error: required and not there: {missing}; nothing was written\n")


def _show(
    collected: Collected,
    output: str,
    output_format: str,
    *,
    no_color: bool,
    exit_code: int,
    simulated: bool,
) -> None:
    from ccverify.cli.collect_text import collected_json, collected_page
    from ccverify.results.render.json import dump_json

    written = output if collected.bundle is not None else None
    account = collected_json(collected, output=written, simulated=simulated, exit_code=exit_code)
    if output_format == "json":
        write_stdout(dump_json(account), as_json=True)
        return
    width, color = screen(no_color=no_color)
    write_stdout(collected_page(account, width, color=color).text())


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress | None]:
    """Show progress on a terminal, and nothing anywhere else."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
    except ImportError:  # collecting must not need more packages than it has to
        yield lambda event: write_stderr(f"{_line(event)}\n") if event.run else None
        return
    with Bar(console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task("collecting", total=None)

        def update(event: Event) -> None:
            bar.update(task, completed=event.done, total=event.total)
            if event.run is not None:
                bar.console.print(_line(event), markup=False, highlight=False)

        yield update


def _line(event: Event) -> str:
    run = event.run
    assert run is not None  # noqa: S101
    given = f"{run.items} gathered, {run.absences} absent"
    return sanitise(f"{event.source}: {given}, {run.seconds:.1f} s")
