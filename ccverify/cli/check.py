"""``ccverify check``: evidence and policy in, verdict out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import click

from ccverify.cli.inputs import (
    COLLATERAL,
    EVENT_LOG,
    NONCE,
    POLICY,
    QUOTE,
    TRUST_ROOT,
    Inputs,
    in_file,
    parse_hex,
    parse_nonce_file,
    parse_time,
)
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_file, write_stderr, write_stdout
from ccverify.errors import UsageError
from ccverify.evidence import Evidence
from ccverify.policy.document import load_policy
from ccverify.policy.model import Policy
from ccverify.results.verdict import Verdict
from ccverify.tdx.collateral import CollateralPack, parse_collateral
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.store import TrustKind, TrustStore
from ccverify.verifier import check as check_evidence

__all__ = ["check"]


@click.command(
    epilog="Exit codes: 0 trusted, 1 wrong use, 2 malformed evidence, 3 not authentic, 4 policy "
    "not met, 5 collateral missing or expired, 6 incomplete, 10 nothing to check."
)
@click.argument("file", metavar="FILE")
@click.option("--policy", "policy_file", metavar="FILE", help="What you expect of the machine.")
@click.option(
    "--collateral",
    "collateral_files",
    metavar="PACK",
    multiple=True,
    help="What Intel published: a pack or QuoteCollateralV3 JSON. May be given several times.",
)
@click.option("--event-log", "log_file", metavar="FILE", help="CCEL or dstack log of this boot.")
@click.option("--nonce", metavar="HEX", help="The nonce you sent, 16 to 64 bytes.")
@click.option("--nonce-file", metavar="FILE", help="The same from a file, raw or hex.")
@click.option("--report-data", metavar="HEX", help="All 64 bytes of REPORTDATA instead.")
@click.option("--at", metavar="TIME", help="Judge as of this time, RFC 3339. Default: now.")
@click.option(
    "--what-if",
    "what_if_file",
    metavar="PACK",
    help="Also say the TCB status under other collateral; the verdict stays as it is.",
)
@format_option
@click.option("--output", metavar="FILE", help="Write the result to FILE, whole or not at all.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Print nothing but errors; the exit code answers."
)
@click.option("-v", "--verbose", is_flag=True, help="Show every finding.")
@no_color_option
@click.option(
    "--insecure-trust-root",
    "root_file",
    metavar="PEM",
    help="Believe this root certificate instead of Intel's. Never ends in exit code 0.",
)
def check(
    file: str,
    policy_file: str | None,
    collateral_files: tuple[str, ...],
    log_file: str | None,
    what_if_file: str | None,
    root_file: str | None,
    **options: Any,
) -> int:
    """Judge the TDX quote in FILE (- is standard input) by a policy.

    The quote may be raw, hex or base64. Nothing is fetched: get collateral beforehand with
    `ccverify collateral fetch`. Only the verdict is printed on standard output.
    """
    inputs = Inputs()
    inputs.plan(
        *((file, QUOTE), (policy_file, POLICY), (log_file, EVENT_LOG)),
        *((path, COLLATERAL) for path in (*collateral_files, what_if_file)),
        *((options["nonce_file"], NONCE), (root_file, TRUST_ROOT)),
    )
    now = parse_time(options["at"]) if options["at"] else datetime.now(UTC)
    nonce, report_data = _binding(inputs, options)
    policy = _policy(inputs, policy_file)
    trust = _trust(inputs, root_file, quiet=options["quiet"])
    collateral = _collateral(inputs, collateral_files)
    verdict = check_evidence(
        Evidence(inputs.read(file, QUOTE), inputs.read(log_file, EVENT_LOG) if log_file else None),
        policy=policy,
        now=now,
        nonce=nonce,
        report_data=report_data,
        collateral=collateral,
        trust=trust,
        what_if=_collateral(inputs, (what_if_file,)) if what_if_file else None,
    )
    _show(verdict, options)
    return verdict.exit_code


def _binding(inputs: Inputs, options: dict[str, Any]) -> tuple[bytes | None, bytes | None]:
    names = ("nonce", "nonce_file", "report_data")
    given = [f"--{name.replace('_', '-')}" for name in names if options[name] is not None]
    if len(given) > 1:
        raise UsageError(
            "more than one value is expected in REPORTDATA",
            expected="one of --nonce, --nonce-file, --report-data",
            found=", ".join(given),
        )
    nonce = report_data = None
    if options["nonce"] is not None:
        nonce = parse_hex(options["nonce"], "--nonce", 16, 64)
    elif options["nonce_file"] is not None:
        path = options["nonce_file"]
        nonce = parse_nonce_file(inputs.read(path, NONCE), path)
    elif options["report_data"] is not None:
        report_data = parse_hex(options["report_data"], "--report-data", 64, 64)
    return nonce, report_data


def _policy(inputs: Inputs, path: str | None) -> Policy:
    if path is None:
        raise UsageError(
            "no policy was given: without one nobody knows what you expect",
            expected="--policy FILE",
            hint="start from one of the policies that come with ccverify, then run "
            "`ccverify policy lint` on it",
        )
    text = inputs.read(path, POLICY)
    with in_file(path):
        return load_policy(text)


def _trust(inputs: Inputs, path: str | None, *, quiet: bool) -> TrustStore:
    if path is None:
        return TrustStore.production()
    data = inputs.read(path, TRUST_ROOT)
    with in_file(path):
        anchor = TrustAnchor.load(data)
    if not quiet:
        write_stderr(
            "warning: --insecure-trust-root replaces Intel's root certificate; whatever this "
            "verdict says, the machine is not trusted\n"
        )
    return TrustStore(TrustKind.INSECURE, anchor)


def _collateral(inputs: Inputs, paths: Iterable[str]) -> CollateralPack:
    packs = []
    for path in paths:
        data = inputs.read(path, COLLATERAL)
        with in_file(path):
            packs.append(parse_collateral(data))
    return reduce(CollateralPack.merged, packs, CollateralPack())


def _show(verdict: Verdict, options: dict[str, Any]) -> None:
    output: str | None = options["output"]
    if options["quiet"] and output is None:
        return
    as_json = options["output_format"] == "json"
    if as_json:
        text = verdict.dumps()
    else:
        from ccverify.results.render.table import render_verdict

        width, color = screen(no_color=options["no_color"], to_file=output is not None)
        text = render_verdict(verdict, width=width, color=color, verbose=options["verbose"])
    if output is None:
        write_stdout(text, as_json=as_json)
    else:
        write_file(output, text)
