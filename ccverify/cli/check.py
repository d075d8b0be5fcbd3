"""``ccverify check``: evidence and policy in, verdict out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import click

from ccverify.appraisal.fabric import MAX_STATEMENTS
from ccverify.cli.collateral_files import expand_folders, read_collateral_files
from ccverify.cli.emit import Emission, Named, emission_options
from ccverify.cli.evidence_files import EvidenceFiles, read_evidence
from ccverify.cli.inputs import (
    COLLATERAL,
    NONCE,
    POLICY,
    TRUST_ROOT,
    Inputs,
    in_file,
    parse_hex,
    parse_nonce_file,
    parse_time,
)
from ccverify.cli.judging import Circumstances, judge
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_file, write_stderr, write_stdout
from ccverify.cli.recorded import RecordingInputs
from ccverify.errors import UsageError
from ccverify.policy.document import load_policy
from ccverify.policy.model import FabricPolicy, Policy
from ccverify.results.verdict import Verdict
from ccverify.results.verdict_set import VerdictSet
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.store import TrustKind, TrustStore
from ccverify.verifier import EPOCH_BYTES

__all__ = ["check"]

_HEX = re.compile("(?:0[xX])?([0-9A-Fa-f]+)")


@click.command(
    epilog="Exit codes: 0 trusted, 1 wrong use, 2 malformed evidence, 3 not authentic, 4 policy "
    "not met, 5 collateral missing or expired, 6 incomplete, 10 nothing to check."
)
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option("--policy", "policy_file", metavar="FILE", help="What you expect of the machine.")
@click.option(
    "--collateral",
    "collateral_files",
    metavar="PACK",
    multiple=True,
    help="What Intel and NVIDIA published: a pack, a manifest, an OCSP response, or a folder of "
    "them. May be given several times.",
)
@click.option("--event-log", "log_file", metavar="FILE", help="CCEL or dstack log of this boot.")
@click.option(
    "--gpu",
    "gpus",
    metavar="REPORT CHAIN",
    nargs=2,
    multiple=True,
    help="Report and certificate chain of a GPU. May be given several times.",
)
@click.option(
    "--nvswitch",
    "switches",
    metavar="REPORT CHAIN",
    nargs=2,
    multiple=True,
    help="Report and certificate chain of an NVSwitch. May be given several times.",
)
@click.option("--instances", metavar="FILE", help="Chutes: the list of instances with their keys.")
@click.option(
    "--fabric-statement",
    "statements",
    metavar="FILE",
    multiple=True,
    help="What the manager of the GPUs' fabric states (`ccverify collect --role fabric-manager`), "
    f"beside any in the bundle. May be given {MAX_STATEMENTS} times.",
)
@click.option(
    "--fabric-epoch",
    "epoch",
    metavar="HEX",
    help="32 bytes that a statement may answer in place of your nonce, because many know them.",
)
@click.option("--nonce", metavar="HEX", help="The nonce you sent, 16 to 64 bytes.")
@click.option("--nonce-file", metavar="FILE", help="The same from a file, raw or hex.")
@click.option("--report-data", metavar="HEX", help="All 64 bytes of REPORTDATA instead.")
@click.option(
    "--channel",
    "channel",
    metavar="NAME=VALUE",
    multiple=True,
    help="What you see of the connection, such as tls_fingerprint=HEX: the evidence must bind it.",
)
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
@emission_options
@click.option(
    "--insecure-trust-root",
    "root_file",
    metavar="PEM",
    help="Believe this root certificate instead of Intel's. Never ends in exit code 0.",
)
def check(
    files: tuple[str, ...],
    policy_file: str | None,
    collateral_files: tuple[str, ...],
    log_file: str | None,
    what_if_file: str | None,
    root_file: str | None,
    **options: Any,
) -> int:
    """Judge the evidence in FILE (- is standard input) by a policy.

    FILE is a bundle of `ccverify collect`, a TDX quote (raw, hex or base64), or the response of a
    service as it came: NVIDIA's nvattest and attestation SDK, dstack, NEAR AI, Chutes, redpill
    and Phala, Tinfoil, Trustee. Several files are the parts of one node. A response with several
    nodes gets a verdict for each and one for all. Nothing is fetched: get collateral beforehand
    with `ccverify collateral fetch`. Only the verdict is printed on standard output.
    """
    emission = Emission.of(options)
    inputs = RecordingInputs() if emission and emission.bundle else Inputs()
    named = EvidenceFiles(files, log_file, options["gpus"], options["switches"],
                          options["instances"], options["statements"])  # fmt: skip
    if not files and not named.gpus and not named.switches:
        raise click.UsageError("no evidence was given: name a FILE, or --gpu REPORT CHAIN")
    inputs.plan(
        *named.wanted(),
        (policy_file, POLICY),
        *((path, COLLATERAL) for path in (*collateral_files, what_if_file)),
        *((options["nonce_file"], NONCE), (root_file, TRUST_ROOT)),
    )
    now = parse_time(options["at"]) if options["at"] else datetime.now(UTC)
    nonce, report_data = _binding(inputs, options)
    epoch = _epoch(named, options["epoch"])
    policy = _policy(inputs, policy_file)
    if named.statements and not isinstance(policy.fabric, FabricPolicy) and not options["quiet"]:
        write_stderr(
            "warning: the policy has no section fabric, so no --fabric-statement is judged\n"
        )
    trust = _trust(inputs, root_file, quiet=options["quiet"])
    given_files = tuple(expand_folders(collateral_files))
    collateral = read_collateral_files(inputs, given_files)
    loaded = read_evidence(inputs, named)
    other_files = tuple(expand_folders((what_if_file,))) if what_if_file else ()
    given = Circumstances(
        policy=policy,
        now=now,
        nonce=nonce,
        report_data=report_data,
        channel=_channel(options["channel"]),
        collateral=collateral,
        trust=trust,
        what_if=read_collateral_files(inputs, other_files).intel if other_files else None,
        epoch=epoch,
    )
    result = judge(loaded, given)
    if emission is not None:
        read = Named(named, policy_file or "", given_files, other_files, root_file)
        emission.write(inputs, read, given, result)
    _show(result, options)
    return result.exit_code


def _channel(stated: tuple[str, ...]) -> dict[str, str]:
    channel = {}
    for text in stated:
        name, sign, value = text.partition("=")
        if not sign or not value or name in channel:
            raise UsageError(
                "the value of --channel is not what it should be",
                expected="NAME=VALUE, each name once, such as tls_fingerprint=HEX",
                found=repr(text[:80]),
                where="--channel",
            )
        # Hexadecimal values are compared as text; their case and a prefix mean nothing.
        match = _HEX.fullmatch(value)
        channel[name] = match[1].lower() if match else value
    return channel


def _binding(inputs: Inputs, options: dict[str, Any]) -> tuple[bytes | None, bytes | None]:
    if options["nonce"] is not None and options["nonce_file"] is not None:
        raise UsageError("the nonce is given twice", expected="one of them",
                         found="--nonce, --nonce-file")  # fmt: skip
    nonce = report_data = None
    if options["nonce"] is not None:
        nonce = parse_hex(options["nonce"], "--nonce", 16, 64)
    elif options["nonce_file"] is not None:
        path = options["nonce_file"]
        nonce = parse_nonce_file(inputs.read(path, NONCE), path)
    if options["report_data"] is not None:
        report_data = parse_hex(options["report_data"], "--report-data", 64, 64)
    return nonce, report_data


def _epoch(named: EvidenceFiles, text: str | None) -> bytes | None:
    """Look at what is said of the fabric's manager, before any file is read."""
    if len(named.statements) > MAX_STATEMENTS:
        raise UsageError(
            "there are too many statements of the fabric's manager",
            expected=f"at most {MAX_STATEMENTS}",
            found=str(len(named.statements)),
            where="--fabric-statement",
        )
    if text is None:
        return None
    return parse_hex(text, "--fabric-epoch", EPOCH_BYTES, EPOCH_BYTES)


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


def _show(verdict: Verdict | VerdictSet, options: dict[str, Any]) -> None:
    output: str | None = options["output"]
    if options["quiet"] and output is None:
        return
    as_json = options["output_format"] == "json"
    if as_json:
        text = verdict.dumps()
    else:
        from ccverify.results.render.table import render_verdict, render_verdict_set

        width, color = screen(no_color=options["no_color"], to_file=output is not None)
        look: dict[str, Any] = {"width": width, "color": color, "verbose": options["verbose"]}
        if isinstance(verdict, Verdict):
            text = render_verdict(verdict, **look)
        else:
            text = render_verdict_set(verdict, **look)
    if output is None:
        write_stdout(text, as_json=as_json)
    else:
        write_file(output, text)
