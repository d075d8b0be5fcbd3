"""``ccverify demo``: a simulated node from the nonce to the signed verdict, and five attacks.

The machine is made on the spot by `ccverify.sim`.  What collects, judges, signs and verifies is
the very code that does so on real machines; the roots alone are the simulator's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import click
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccverify._version import __version__
from ccverify.bundle.cose import KeySigner
from ccverify.bundle.items import parse_device
from ccverify.bundle.package import parse_bundle
from ccverify.checks import find_check
from ccverify.cli.options import no_color_option
from ccverify.cli.output import screen, write_file, write_stdout
from ccverify.cli.replay import replay
from ccverify.cli.sim_sources import machine_sources
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.collect.collected import Collected
from ccverify.collect.session import World, collect_bundle
from ccverify.errors import UsageError
from ccverify.findings import State
from ccverify.policy.document import load_policy
from ccverify.results.emitted import parse_verdict_bundle, seal_verdict_bundle
from ccverify.results.emitted_check import member_problems, parse_verdict
from ccverify.results.emitted_model import Request, Role, StoredFile, VerdictBundle
from ccverify.results.render.table import EXIT_MEANINGS, SIMULATED_NOTICE, STATE_MARKS
from ccverify.results.render.text import Page, Style
from ccverify.results.verdict import Conclusion, Verdict
from ccverify.sim import SimMachine, sim_machine
from ccverify.verifier import check

__all__ = ["SCENES", "Scene", "demo", "play"]

_KIND = "h100-hgx-8"
_LABEL = b"ccverify demo: "
_NONCE = hashlib.sha256(_LABEL + b"the nonce the tenant sent").digest()
_OTHER_NONCE = hashlib.sha256(_LABEL + b"a nonce of another day").digest()


@cache
def _home() -> SimMachine:
    """The machine that the tenant rents."""
    return sim_machine(_KIND)


def _with_foreign_gpu() -> SimMachine:
    other = sim_machine(_KIND, instance="2")
    return replace(_home(), node=_home().node.with_gpu(3, other.node.gpus[3]))


def _with_a_gpu_less() -> SimMachine:
    node = _home().node
    return replace(_home(), node=replace(node, gpus=node.gpus[:-1]))


def _as_it_came(bundle: bytes) -> bytes:
    return bundle


_MEASUREMENT_AT = 60
"""A byte of the first measurement in a device report: its value is report[52:100]."""


def _edited(bundle: bytes) -> bytes:
    """Change one bit of a measurement that the GPU gpu-3 reports."""
    report = parse_device(parse_bundle(bundle).items["gpu-3"].value).report
    changed = bytearray(bundle)
    changed[bundle.index(report) + _MEASUREMENT_AT] ^= 1
    return bytes(changed)


class Scene(NamedTuple):
    """One act of the demonstration.

    Attributes:
        title: what is done.
        story: what it means, in a sentence.
        expected_exit: exit code of the verdict.
        expected_code: a check that must fail, if any.
        machine: makes the machine that is asked.
        nonce: what the tenant expects; the machine was asked with the first.
        damage: what happens to the bundle on its way.
    """

    title: str
    story: str
    expected_exit: int
    expected_code: str | None
    machine: Callable[[], SimMachine] = _home
    nonce: bytes = _NONCE
    damage: Callable[[bytes], bytes] = _as_it_came


SCENES = (
    Scene(
        "An honest node",
        "A confidential VM with 8 H100 GPUs and 4 NVSwitches answers the tenant's nonce.",
        0,
        None,
    ),
    Scene(
        "One bit of a GPU's measurements changed on the way",
        "Whoever carries the bundle edits it: it is no longer what the VM sealed.",
        3,
        "BUNDLE-SIGNATURE",
        damage=_edited,
    ),
    Scene(
        "The same bundle, shown again for another nonce",
        "The operator replays yesterday's answer: genuine, but to another question.",
        3,
        "BUNDLE-NONCE",
        nonce=_OTHER_NONCE,
    ),
    Scene(
        "A machine with out-of-date microcode",
        "Everything is signed and fresh, but the platform has published vulnerabilities.",
        4,
        "TDX-TCB-STATUS",
        lambda: sim_machine(_KIND, status="OutOfDate"),
    ),
    Scene(
        "One GPU of another machine",
        "A genuine GPU elsewhere answers the right nonce in the place of gpu-3.",
        3,
        "TOPOLOGY-SWITCH-LIST",
        _with_foreign_gpu,
    ),
    Scene(
        "One GPU fewer",
        "The operator rents out seven GPUs as eight, and keeps one on their fabric.",
        3,
        "GPU-COUNT",
        _with_a_gpu_less,
    ),
)


# --- what is played ------------------------------------------------------------------------------


def _key(label: bytes) -> ec.EllipticCurvePrivateKey:
    """A key that anybody can make, so that the demonstration is the same every time."""
    return ec.derive_private_key(
        int.from_bytes(hashlib.sha384(_LABEL + label).digest()[1:], "big"), ec.SECP384R1()
    )


@cache
def _collected(machine: Callable[[], SimMachine]) -> Collected:
    """Ask the machine as `ccverify collect` does, at the time it is simulated for."""
    made = machine()
    world = World(new_key=lambda: _key(b"session key"), now=made.at.timestamp, deterministic=True)
    return collect_bundle(_NONCE, machine_sources(made), world=world)


def _bundle(scene: Scene) -> bytes:
    bundle = _collected(scene.machine).bundle
    assert bundle is not None  # noqa: S101  # nothing was required
    return scene.damage(bundle)


def _policy() -> bytes:
    """The tenant's policy: that image, that platform, those devices, and nothing waived."""
    return json.dumps(matching_policy(_home(), name="demo"), indent=2).encode() + b"\n"


def play(scene: Scene) -> Verdict:
    """Collect from the machine of one scene, and judge."""
    given = simulated_trust(scene.machine())
    return check(
        _bundle(scene),
        policy=load_policy(_policy()),
        now=given.at,
        nonce=scene.nonce,
        collateral=given.collateral.intel,
        nvidia=given.collateral.nvidia,
        trust=given.store,
    )


@dataclass(frozen=True, slots=True)
class _Signed:
    """A signed verdict, and what became of verifying it.

    Attributes:
        data: the verdict bundle.
        key_id: thumbprint of the key that signed.
        problems: of verifying and replaying; none if all is well.
    """

    data: bytes
    key_id: str
    problems: tuple[str, ...]


def _sign(scene: Scene, verdict: Verdict) -> _Signed:
    """Seal the verdict with everything it was made from; then open it, and judge again."""
    given = simulated_trust(scene.machine())
    signer = KeySigner(_key(b"verifier key"), deterministic=True)
    bundle = VerdictBundle(
        verdict=verdict.dumps().encode("utf-8"),
        request=Request(scene.nonce, None, {}, verdict.evaluated_at),
        policy=StoredFile.of(Role.POLICY, "policy.json", _policy()),
        evidence=(StoredFile.of(Role.DOCUMENT, "node.ccb", _bundle(scene)),),
        collateral=(StoredFile.of(Role.COLLATERAL, "collateral.json", given.pack),),
        trust_kind=given.store.kind,
        trust_sha384=given.store.digest,
        verifier=f"ccverify {__version__}",
        trust_roots=given.roots,
    )
    data = seal_verdict_bundle(bundle, signer)
    opened, _, problem = parse_verdict_bundle(data).open([signer.key])
    key_id = signer.key.thumbprint.hex()
    if opened is None:
        return _Signed(data, key_id, (problem,))
    problems = [*opened.digest_problems()]
    problems += member_problems(opened, parse_verdict(opened.verdict))
    if replay(opened).dumps().encode("utf-8") != opened.verdict:
        problems.append("the same inputs give another verdict")
    return _Signed(data, key_id, tuple(problems))


# --- the command ---------------------------------------------------------------------------------


@click.command()
@click.option(
    "--keep",
    metavar="DIR",
    help="Write bundle, policy, collateral, signed verdict and the verifier's key into DIR.",
)
@no_color_option
def demo(keep: str | None, no_color: bool) -> int:
    """Play a simulated node from nonce to signed verdict, and five attacks on it.

    Exit code 0 says that everything came out as it should.
    """
    width, color = screen(no_color=no_color)
    page = Page(width, color=color)
    page.paragraph(SIMULATED_NOTICE, style=Style.WARN)
    page.blank()
    page.paragraph(
        "The tenant's policy: exactly this firmware, kernel and application, every security "
        "update installed, 8 GPUs and 4 NVSwitches that form one node, and none but the rented."
    )
    wrong = 0
    for number, scene in enumerate(SCENES, 1):
        verdict = play(scene)
        right = _as_expected(scene, verdict)
        _show_title(page, number, scene)
        if scene.expected_code is None:
            signed = _sign(scene, verdict)
            _show_honest(page, scene, verdict, signed)
            right = right and not signed.problems
            if keep is not None:
                _keep(keep, scene, signed)
        else:
            _show_attack(page, scene, verdict)
        wrong += not right
    _show_end(page, wrong, keep)
    write_stdout(page.text())
    return int(wrong > 0)


def _as_expected(scene: Scene, verdict: Verdict) -> bool:
    failed = {finding.code for finding in verdict.failures()}
    named = scene.expected_code is None or scene.expected_code in failed
    return verdict.simulated and verdict.exit_code == scene.expected_exit and named


def _keep(folder: str, scene: Scene, signed: _Signed) -> None:
    public = _key(b"verifier key").public_key()
    files: Mapping[str, bytes] = {
        "node.ccb": _bundle(scene),
        "policy.json": _policy(),
        "collateral.json": simulated_trust(scene.machine()).pack,
        "verdict.ccv": signed.data,
        "verifier.pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as problem:
        raise UsageError("the folder cannot be made", where="--keep", found=str(problem)) from None
    for name, content in files.items():
        write_file(os.path.join(folder, name), content)


# --- what is shown -------------------------------------------------------------------------------


def _show_title(page: Page, number: int, scene: Scene) -> None:
    page.heading(f"{number}. {scene.title}")
    page.paragraph(scene.story, indent=3)


def _show_headline(page: Page, verdict: Verdict) -> None:
    trusted = verdict.conclusion is Conclusion.TRUSTED
    mark, style = STATE_MARKS[State.PASS if trusted else State.FAIL]
    page.spans(
        (f"{mark} {verdict.conclusion.value.upper()} (SIMULATED)", style),
        (f"  exit code {verdict.exit_code}: {EXIT_MEANINGS[verdict.exit_code]}", None),
        indent=3,
    )


def _show_honest(page: Page, scene: Scene, verdict: Verdict, signed: _Signed) -> None:
    collected = _collected(scene.machine)
    kinds = Counter(item.label.rstrip("0123456789").rstrip("-") for item in collected.items)
    rest = len(collected.items) - kinds["gpu"] - kinds["nvswitch"]
    again = "signature holds; judged again from that file alone: the same verdict, byte for byte"
    _show_headline(page, verdict)
    page.rows(
        [
            ("nonce", f"{scene.nonce.hex()[:16]}…, 32 bytes, chosen by the tenant"),
            (
                "collect",
                f"{len(collected.items)} items: {kinds['gpu']} GPUs, {kinds['nvswitch']} "
                f"NVSwitches, {rest} for quote, logs, registers and fabric; "
                f"{len(collected.absences)} absent, with the reason",
            ),
            ("seal", "node.ccb: key, nonce and every item are bound into the TDX quote"),
            ("check", "by the policy, and by what Intel and NVIDIA published"),
            ("sign", f"verdict.ccv, with all it was made from, by key {signed.key_id[:16]}…"),
            ("verify", "; ".join(signed.problems) or again),
        ],
        indent=5,
        styles=(Style.DIM,),
    )


def _show_attack(page: Page, scene: Scene, verdict: Verdict) -> None:
    _show_headline(page, verdict)
    failures = verdict.failures()
    first = next((f for f in failures if f.code == scene.expected_code), None)
    first = first or next(iter(failures), None)
    if first is None:
        return
    entry = find_check(first.code)
    page.spans(
        (first.code, Style.STRONG),
        (f"  {entry.title}" if entry else "", Style.DIM),
        indent=5,
    )
    page.rows(
        [
            ("expected", _shortened(first.expected or "–")),
            ("found", _shortened((first.found or "–").split("; ")[0])),
        ],
        indent=7,
        styles=(Style.DIM,),
    )
    others = Counter(finding.code for finding in failures if finding.code != first.code)
    if others:
        also = ", ".join(code if n == 1 else f"{code} ({n})" for code, n in others.items())
        page.rows([("also", also)], indent=5, styles=(Style.DIM,))


def _show_end(page: Page, wrong: int, keep: str | None) -> None:
    page.blank()
    if wrong:
        page.paragraph(
            f"✗ {wrong} of {len(SCENES)} scenes are not as they should be: do not use this "
            "installation.",
            style=Style.BAD,
        )
        return
    page.paragraph(
        f"All {len(SCENES)} verdicts are as they should be. All of it was simulated.",
        style=Style.STRONG,
    )
    if keep is not None:
        page.paragraph(
            f"The files are in {keep}. Next: `ccverify verify verdict.ccv --key verifier.pem "
            "--allow-simulated` there."
        )
    else:
        page.paragraph(
            "Next: `ccverify explain CODE` on any code above; `ccverify collect --help` for your "
            "own machine."
        )


_LINE = 76
"""Most characters of a value that are shown."""


def _shortened(text: str) -> str:
    """Keep the ends of long values: in a demonstration nobody compares 48 bytes."""
    words = text.split(" ")
    short = " ".join(f"{word[:24]}…{word[-8:]}" if len(word) > 40 else word for word in words)
    if len(short) <= _LINE:
        return short
    return short[:_LINE].rsplit(" ", 1)[0].rstrip(",") + " …"
