"""What `check` writes beside the verdict: a signed bundle, and attestation results (EAR)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from ccverify._version import __version__
from ccverify.cli.collateral_files import COLLATERAL_FILE
from ccverify.cli.evidence_files import EvidenceFiles
from ccverify.cli.inputs import POLICY, STDIN, TRUST_ROOT, Inputs, Source, in_file
from ccverify.cli.judging import Circumstances
from ccverify.cli.output import write_file
from ccverify.cli.pkcs11_key import PIN_VARIABLE, is_pkcs11_uri, load_pkcs11_key
from ccverify.cli.recorded import RecordingInputs, evidence_roles
from ccverify.errors import UsageError
from ccverify.results.emitted import seal_verdict_bundle
from ccverify.results.emitted_model import Request, Role, StoredFile, VerdictBundle
from ccverify.results.signing import (
    MAX_KEY_FILE_BYTES,
    VerifierKey,
    is_encrypted,
    load_signing_key,
)
from ccverify.results.verdict import Verdict
from ccverify.results.verdict_set import VerdictSet

__all__ = ["PASSPHRASE_VARIABLE", "SIGNING_KEY", "Emission", "Named", "emission_options"]

PASSPHRASE_VARIABLE: Final = "CCVERIFY_SIGN_PASSPHRASE"
SIGNING_KEY = Source("signing key", MAX_KEY_FILE_BYTES, UsageError, "a private key, PEM")

_OPTIONS: Final = {
    "emit": "--emit",
    "ear_jwt": "--ear-jwt",
    "ear_cwt": "--ear-cwt",
}
_EMISSION_OPTIONS: Final = (
    click.option(
        "--sign",
        "sign",
        metavar="KEY",
        help="Sign what is emitted with this private key: PEM (P-256, P-384 or Ed25519), or a "
        "key in a device, pkcs11:token=LABEL;object=LABEL?module-path=PATH. Passphrase and PIN: "
        f"{PASSPHRASE_VARIABLE}, {PIN_VARIABLE}, or asked for.",
    ),
    click.option(
        "--emit",
        "emit",
        metavar="FILE",
        help="Write the signed verdict bundle: verdict, policy, evidence and collateral. "
        "`ccverify verify` checks it.",
    ),
    click.option(
        "--embed",
        "embed",
        type=click.Choice(["all", "digests"]),
        help="What the bundle holds of evidence and collateral: all of it (the default), so "
        "that the judgement can be repeated; or their digests.",
    ),
    click.option(
        "--ear-jwt",
        "ear_jwt",
        metavar="FILE",
        help="Write an attestation result (EAR) as JWT.",
    ),
    click.option(
        "--ear-cwt",
        "ear_cwt",
        metavar="FILE",
        help="Write an attestation result (EAR) as CWT.",
    ),
)

Command = TypeVar("Command", bound=Callable[..., object])


def emission_options(command: Command) -> Command:
    """Add the options that say what is signed and written."""
    for option in reversed(_EMISSION_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Named:
    """Every file the command line named, folders expanded."""

    evidence: EvidenceFiles
    policy: str
    collateral: Sequence[tuple[str, bool]]
    what_if: Sequence[tuple[str, bool]]
    trust_root: str | None


@dataclass(frozen=True, slots=True)
class Emission:
    """What is to be written.

    Attributes:
        key: what signs.
        bundle: path of the verdict bundle, if one is wanted.
        ear_jwt: path of the EAR as JWT, if wanted.
        ear_cwt: path of the EAR as CWT, if wanted.
        embed_all: whether evidence and collateral go into the bundle whole.
    """

    key: VerifierKey
    bundle: str | None
    ear_jwt: str | None
    ear_cwt: str | None
    embed_all: bool

    @classmethod
    def of(cls, options: dict[str, Any]) -> Emission | None:
        """Look at the options, and load the key before any work is done.

        Raises:
            UsageError: options that do not go together, or no usable key.
        """
        wanted = [text for name, text in _OPTIONS.items() if options[name] is not None]
        if options["sign"] is None:
            if wanted or options["embed"] is not None:
                raise UsageError(
                    "nothing is emitted without a signature",
                    expected="--sign KEY",
                    found=", ".join(wanted) or "--embed",
                    hint="to make a key: openssl genpkey -algorithm EC "
                    "-pkeyopt ec_paramgen_curve:P-384 -out verifier.key",
                )
            return None
        if not wanted:
            raise UsageError("--sign alone does nothing", expected=", ".join(_OPTIONS.values()))
        if options["embed"] is not None and options["emit"] is None:
            raise UsageError("--embed says what a bundle holds", expected="--emit FILE")
        _distinct([options[name] for name in (*_OPTIONS, "output", "sign")])
        return cls(
            _load_key(options["sign"]),
            options["emit"],
            options["ear_jwt"],
            options["ear_cwt"],
            options["embed"] != "digests",
        )

    def write(
        self,
        inputs: Inputs,
        named: Named,
        given: Circumstances,
        result: Verdict | VerdictSet,
    ) -> None:
        """Write everything that is wanted, each file whole or not at all.

        Raises:
            UsageError: a file cannot be written, or the bundle would be too large.
        """
        if self.ear_jwt is not None or self.ear_cwt is not None:
            from ccverify.results.ear import ear_cwt, ear_jwt

            if self.ear_jwt is not None:
                write_file(self.ear_jwt, ear_jwt(result, self.key) + "\n")
            if self.ear_cwt is not None:
                write_file(self.ear_cwt, ear_cwt(result, self.key))
        if self.bundle is not None:
            assert isinstance(inputs, RecordingInputs)  # noqa: S101
            bundle = _bundle(inputs, named, given, result, embed=self.embed_all)
            write_file(self.bundle, seal_verdict_bundle(bundle, self.key.signer))


def _distinct(paths: Sequence[str | None]) -> None:
    """One file must not be written over another, least of all over the key."""
    real = [os.path.realpath(path) for path in paths if path is not None]
    if len(set(real)) != len(real):
        raise UsageError("two options name one file", expected="a file of its own for each")


def _load_key(path: str) -> VerifierKey:
    if is_pkcs11_uri(path):
        return load_pkcs11_key(path, _secret(PIN_VARIABLE, "PIN of the token"))
    if path == STDIN:
        raise UsageError("a key is not read from standard input", expected="--sign FILE")
    pem = Inputs().read(path, SIGNING_KEY)
    with in_file(path):
        return load_signing_key(pem, _passphrase(path) if is_encrypted(pem) else None)


def _passphrase(path: str) -> bytes | None:
    text = _secret(PASSPHRASE_VARIABLE, f"Passphrase of {path}")
    return None if text is None else os.fsencode(text)


def _secret(variable: str, question: str) -> str | None:
    """From the environment, or asked for on a terminal; None where there is neither."""
    text = os.environ.get(variable)
    if text is None and sys.stdin is not None and sys.stdin.isatty():
        text = str(click.prompt(question, hide_input=True, err=True))
    return text


def _bundle(
    inputs: RecordingInputs,
    named: Named,
    given: Circumstances,
    result: Verdict | VerdictSet,
    *,
    embed: bool,
) -> VerdictBundle:
    policy = StoredFile.of(Role.POLICY, named.policy, inputs.take(named.policy, POLICY))
    evidence = [
        StoredFile.of(role, path, inputs.take(path, source), embed=embed)
        for role, path, source in evidence_roles(named.evidence)
    ]
    collateral = [
        StoredFile.of(
            role, path, inputs.take(path, COLLATERAL_FILE), embed=embed, in_folder=in_folder
        )
        for role, paths in ((Role.COLLATERAL, named.collateral), (Role.WHAT_IF, named.what_if))
        for path, in_folder in paths
    ]
    roots = []
    if named.trust_root is not None:
        data = inputs.take(named.trust_root, TRUST_ROOT)
        roots.append(StoredFile.of(Role.INTEL_ROOT, named.trust_root, data))
    return VerdictBundle(
        verdict=result.dumps().encode("utf-8"),
        request=Request(
            given.nonce,
            given.report_data,
            given.channel,
            given.now.replace(microsecond=0),
            given.epoch,
        ),
        policy=policy,
        evidence=tuple(evidence),
        collateral=tuple(collateral),
        trust_kind=given.trust.kind,
        trust_sha384=given.trust.digest,
        verifier=f"ccverify {__version__}",
        trust_roots=tuple(roots),
    )
