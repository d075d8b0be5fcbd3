"""The command line: ``ccverify COMMAND``.

Standard output carries the result and nothing else; everything for people beside it goes to
standard error.  Exit codes are the same in every output format: 0 trusted, 1 wrong use or
internal error, 2 malformed evidence, 3 not authentic, 4 policy not met, 5 collateral, 6
incomplete, 10 nothing to check, 130 interrupted.

With ``--format json`` a program gets exactly one JSON object on standard output, also when
there is no verdict: then it is a ``ccverify.error/v1`` object with code, message, expected,
found, where, hint and exit_code, and the same error is told on standard error in words.  An
error never touches the file named by ``--output``.
"""

from __future__ import annotations

import warnings

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    # `cryptography` warns of serial numbers; a certificate that has one is judged, not announced.
    warnings.filterwarnings("ignore", message="Parsed a serial number")
    try:
        from ccverify.cli.app import cli

        cli()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
