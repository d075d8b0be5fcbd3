"""``ccverify doctor``: what this machine can collect, what is missing, and what to do."""

from __future__ import annotations

from typing import Any

import click

from ccverify.cli.binder_options import binder_options, take_binders
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.cli.sources import MANAGER, machine_options, sources_of, timeout_option

__all__ = ["doctor"]

_EXIT_INCOMPLETE = 6


@click.command(
    epilog="Exit codes: 0 a full bundle can be collected here, 1 wrong use, 6 something is missing."
)
@machine_options
@binder_options
@timeout_option(30.0, "Seconds for each source.")
@format_option
@no_color_option
def doctor(timeout: float, output_format: str, no_color: bool, **wishes: Any) -> int:
    """Say what this machine can collect, what is missing, and the remedy.

    No device is asked for a report. Run it as the user and in the container that is to collect:
    permissions are part of the answer.

    A full bundle has a TDX quote, an event log (CCEL or dstack's), GPUs, and the driver's view of
    the fabric. NVSwitches belong to it under Protected PCIe alone.

    With `--role fabric-manager`, a full bundle is a statement with the manager's facts and its
    configuration; what else there is depends on the board and on the mode.
    """
    from ccverify.cli.collect_text import doctor_json, doctor_page
    from ccverify.collect.binders import BinderSource
    from ccverify.collect.doctor import FULL_BUNDLE, FULL_STATEMENT, diagnose
    from ccverify.results.render.json import dump_json

    binders = [BinderSource(binder, bytes(32), bytes(32)) for binder in take_binders(wishes)]
    full = FULL_STATEMENT if wishes.get("role") == MANAGER else FULL_BUNDLE
    diagnosis = diagnose([*sources_of(**wishes), *binders], timeout=timeout, full=full)
    exit_code = _EXIT_INCOMPLETE if diagnosis.missing else 0
    report = doctor_json(diagnosis, exit_code)
    if output_format == "json":
        write_stdout(dump_json(report), as_json=True)
    else:
        width, color = screen(no_color=no_color)
        write_stdout(doctor_page(report, width, color=color).text())
    return exit_code
