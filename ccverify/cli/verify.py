"""``ccverify verify``: who signed a verdict, and whether the same inputs give it again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import click

from ccverify._version import __version__
from ccverify.cli.collateral_files import read_collateral
from ccverify.cli.inputs import COLLATERAL, Inputs, Source, in_file, parse_time
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_file, write_stdout
from ccverify.cli.replay import replay
from ccverify.clock_text import utc_text
from ccverify.collateral import CollateralFile
from ccverify.errors import CcverifyError, EvidenceError, TrustError, UsageError
from ccverify.findings import State
from ccverify.listing import listed
from ccverify.results.emitted import MAX_VERDICT_BUNDLE_BYTES, parse_verdict_bundle
from ccverify.results.emitted_check import (
    changes,
    first_difference,
    member_problems,
    nodes_of,
    parse_verdict,
    with_verifier,
)
from ccverify.results.emitted_model import VerdictBundle
from ccverify.results.render.verification import (
    Rejudged,
    Step,
    Verification,
    render_verification,
)
from ccverify.results.signing import MAX_KEY_FILE_BYTES, load_public_key
from ccverify.results.verdict import EXIT_INCOMPLETE
from ccverify.trust.store import TrustKind

__all__ = ["verify"]

VERDICT_BUNDLE = Source(
    "verdict bundle",
    MAX_VERDICT_BUNDLE_BYTES,
    EvidenceError,
    "what `ccverify check --emit` writes",
)
PUBLIC_KEY = Source(
    "verifier's key", MAX_KEY_FILE_BYTES, TrustError, "a public key or certificate, PEM"
)

_NOT_AUTHENTIC: Final = 3
_NOW: Final = "now"


@click.command(
    epilog="Exit codes: that of the verdict (with --at: of the new one); 2 malformed bundle, 3 "
    "another signer, a changed bundle, or another verdict on replay, 6 nothing to replay."
)
@click.argument("file", metavar="FILE")
@click.option(
    "--key",
    "keys",
    metavar="PEM",
    multiple=True,
    required=True,
    help="Public key or certificate of a verifier that you believe. May be given several times.",
)
@click.option(
    "--at",
    "at",
    metavar="TIME",
    help="After that, judge the same evidence as of TIME (RFC 3339, or `now`), and show both "
    "verdicts.",
)
@click.option(
    "--collateral",
    "collateral_files",
    metavar="PACK",
    multiple=True,
    help="With --at: judge by this collateral instead of the bundle's. May be given several times.",
)
@click.option(
    "--allow-simulated",
    is_flag=True,
    help="Accept a verdict on a simulated machine. It proves nothing about a real one.",
)
@format_option
@click.option("--output", metavar="FILE", help="Write the result to FILE, whole or not at all.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Print nothing but errors; the exit code answers."
)
@no_color_option
def verify(
    file: str,
    keys: tuple[str, ...],
    at: str | None,
    collateral_files: tuple[str, ...],
    **options: Any,
) -> int:
    """Check the signed verdict bundle FILE (- is standard input), and judge its inputs again.

    The judgement is repeated at the time of the verdict, from what the bundle holds: no clock,
    no network and no other file is read, so a bundle gives the same answer in ten years. A
    bundle with digests only cannot be replayed; then the signature is all there is.
    """
    if collateral_files and at is None:
        raise UsageError(
            "--collateral is for another judgement; a replay takes what the bundle holds",
            expected="--at TIME beside it",
        )
    inputs = Inputs()
    inputs.plan(
        (file, VERDICT_BUNDLE),
        *((path, PUBLIC_KEY) for path in keys),
        *((path, COLLATERAL) for path in collateral_files),
    )
    when = None
    if at is not None:
        when = datetime.now(UTC) if at == _NOW else parse_time(at)
    loaded = []
    for path in keys:
        pem = inputs.read(path, PUBLIC_KEY)
        with in_file(path):
            loaded.append(load_public_key(pem))
    other = read_collateral(inputs, collateral_files) if collateral_files else None
    with in_file(file):
        sealed = parse_verdict_bundle(inputs.read(file, VERDICT_BUNDLE))
        bundle, key, problem = sealed.open(loaded)
        if bundle is None or key is None:
            failed = Step("EMITTED-SIGNER", State.FAIL, problem)
            done = Verification(_NOT_AUTHENTIC, (failed,))
        else:
            verdict = parse_verdict(bundle.verdict)
            steps = _steps(bundle, verdict, allow_simulated=options["allow_simulated"])
            signer = Step("EMITTED-SIGNER", State.PASS, f"key {key.thumbprint.hex()}")
            done = _concluded(bundle, verdict, [signer, *steps], key.thumbprint.hex(), when, other)
    _show(done, options)
    return done.exit_code


def _steps(bundle: VerdictBundle, verdict: dict[str, Any], *, allow_simulated: bool) -> list[Step]:
    """Every step after the signature; none is made where one before it failed."""
    steps = [
        _step("EMITTED-DIGESTS", bundle.digest_problems(), _held(bundle)),
        _step("EMITTED-MEMBERS", member_problems(bundle, verdict), "they do"),
    ]
    simulated = bundle.trust_kind is TrustKind.SIMULATED
    simulated = simulated or any(node.get("simulated") for node in nodes_of(verdict) or ())
    if simulated and not allow_simulated:
        found = "it is about a simulated machine; --allow-simulated accepts that"
        steps.append(Step("EMITTED-SIMULATED", State.FAIL, found))
    if all(step.state is State.PASS for step in steps):
        steps.append(_replayed(bundle))
    return steps


def _step(code: str, problems: tuple[str, ...], good: str) -> Step:
    if not problems:
        return Step(code, State.PASS, good)
    return Step(code, State.FAIL, listed(problems, 8))


def _held(bundle: VerdictBundle) -> str:
    whole = sum(file.data is not None for file in bundle.files)
    return f"{whole} of {len(bundle.files)} files are in the bundle"


def _replayed(bundle: VerdictBundle) -> Step:
    """Judge again at the same time, and compare byte for byte."""
    code = "EMITTED-REPLAY"
    if not bundle.is_whole:
        return Step(code, State.NOT_CHECKED, "nothing was replayed: the bundle has digests only")
    own = f"ccverify {__version__}"
    other = "" if bundle.verifier == own else f"; judged by {bundle.verifier}, replayed by {own}"
    try:
        text = replay(bundle).dumps()
    except CcverifyError as problem:
        return Step(code, State.FAIL, f"it cannot be judged again: {problem.message}{other}")
    if other:
        text = with_verifier(text, bundle.verifier)
    different = first_difference(bundle.verdict, text)
    if different is not None:
        return Step(code, State.FAIL, f"another verdict: first differs {different}{other}")
    return Step(code, State.PASS, f"the same {len(bundle.verdict)} bytes{other}")


def _concluded(
    bundle: VerdictBundle,
    verdict: dict[str, Any],
    steps: list[Step],
    key_id: str,
    when: datetime | None,
    other: CollateralFile | None,
) -> Verification:
    rejudged = None
    states = {step.state for step in steps}
    if State.FAIL in states:
        code = _NOT_AUTHENTIC
    elif State.NOT_CHECKED in states:
        code = EXIT_INCOMPLETE
    else:
        code = verdict["exit_code"]
        if when is not None:
            rejudged = _rejudged(bundle, verdict, when, other)
            code = rejudged.verdict["exit_code"]
    return Verification(code, tuple(steps), key_id, bundle.verifier, verdict, rejudged)


def _rejudged(
    bundle: VerdictBundle, verdict: dict[str, Any], when: datetime, other: CollateralFile | None
) -> Rejudged:
    new = replay(bundle, at=when, collateral=other).to_json()
    at = utc_text(when.replace(microsecond=0))
    return Rejudged(at, other is not None, new, changes(verdict, new))


def _show(done: Verification, options: dict[str, Any]) -> None:
    output: str | None = options["output"]
    if options["quiet"] and output is None:
        return
    as_json = options["output_format"] == "json"
    if as_json:
        text = json.dumps(done.to_json(), indent=2, ensure_ascii=False) + "\n"
    else:
        width, color = screen(no_color=options["no_color"], to_file=output is not None)
        text = render_verification(done, width=width, color=color)
    if output is None:
        write_stdout(text, as_json=as_json)
    else:
        write_file(output, text)
