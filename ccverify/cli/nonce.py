"""``ccverify nonce``: what a relying party sends before it gets evidence."""

from __future__ import annotations

import secrets

import click

from ccverify.cli.output import write_private_file, write_stdout

__all__ = ["NONCE_BYTES", "nonce"]

NONCE_BYTES = 32


@click.command()
@click.option("-o", "--output", metavar="FILE", help="Write the nonce to FILE.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def nonce(output: str | None, force: bool) -> int:
    """Make a nonce: 32 random bytes, as hex.

    Send it to the machine, and keep it for the check: evidence that answers it cannot be older.
    Never use one twice.
    """
    text = secrets.token_bytes(NONCE_BYTES).hex() + "\n"
    if output is None:
        write_stdout(text)
    else:
        write_private_file(output, text.encode("ascii"), force=force)
    return 0
