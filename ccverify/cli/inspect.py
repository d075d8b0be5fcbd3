"""``ccverify inspect``: what a file says, before anybody believes it."""

from __future__ import annotations

import click

from ccverify.cli.inputs import COLLATERAL, Inputs, Source, in_file
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_stdout
from ccverify.errors import EvidenceError
from ccverify.results.render.describe import (
    describe_collateral,
    describe_event_log,
    describe_quote,
)
from ccverify.results.render.inspection import Inspection, inspection_json, render_inspection
from ccverify.strict_json import parse_json
from ccverify.tdx.collateral import parse_collateral
from ccverify.tdx.eventlog import parse_event_log
from ccverify.tdx.quote import decode_quote_text, parse_quote

__all__ = ["inspect"]

_ANY_FILE = Source(
    "input",
    COLLATERAL.limit,
    EvidenceError,
    "a TDX quote, a collateral pack, or a CCEL or dstack event log",
)
_CCEL_STARTS = (bytes(4), b"\x01\0\0\0")
"""A CCEL log begins with the register number, 0 or 1, as a u32."""


@click.command()
@click.argument("file", metavar="FILE")
@format_option
@no_color_option
def inspect(file: str, output_format: str, no_color: bool) -> int:
    """Show what FILE (- is standard input) says, without verifying anything.

    FILE is a TDX quote (raw, hex or base64), a collateral pack, QuoteCollateralV3 JSON, or a
    CCEL or dstack event log; which one is seen from its content.
    """
    data = Inputs().read(file, _ANY_FILE)
    with in_file(file):
        inspection = _inspect(data)
    as_json = output_format == "json"
    if as_json:
        text = inspection_json(inspection)
    else:
        width, color = screen(no_color=no_color)
        text = render_inspection(inspection, width=width, color=color)
    write_stdout(text, as_json=as_json)
    return 0


def _inspect(data: bytes) -> Inspection:
    start = data[:64].lstrip()[:1]
    if start == b"[" or data.startswith(_CCEL_STARTS):
        return describe_event_log(parse_event_log(data))
    if start != b"{":
        return describe_quote(parse_quote(decode_quote_text(data)))
    document = parse_json(data, what="input", error=EvidenceError, limit=_ANY_FILE.limit)
    if "schema" in document or "tcb_info" in document:
        return describe_collateral(parse_collateral(data))
    return describe_event_log(parse_event_log(data))
