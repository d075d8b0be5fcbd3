"""Options that several commands share."""

from __future__ import annotations

import click

__all__ = ["format_option", "no_color_option"]

format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to show the result.",
)

no_color_option = click.option(
    "--no-color", is_flag=True, help="No colours; NO_COLOR in the environment does the same."
)
