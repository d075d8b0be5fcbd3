"""``ccverify collateral``: gather what Intel publishes, and look at what was gathered."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import click

from ccverify.checks import Category
from ccverify.cli.inputs import (
    COLLATERAL,
    QUOTE,
    TRUST_ROOT,
    Inputs,
    Source,
    in_file,
    parse_hex,
    parse_time,
)
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_file, write_stderr, write_stdout
from ccverify.errors import CollateralError, UsageError
from ccverify.results.render.text import sanitise

if TYPE_CHECKING:
    from ccverify.tdx.collateral import CollateralPack
    from ccverify.tdx.collect import CaName, Progress
    from ccverify.trust.store import TrustStore

# Everything that needs `cryptography` is imported by the command that uses it: asking for
# help must stay fast.

_RAW = Source(
    "collateral",
    COLLATERAL.limit,
    CollateralError,
    "a saved response of Intel's service, its issuer chain or headers, a CRL, or a pack",
)

_output = click.option(
    "-o",
    "--output",
    required=True,
    metavar="PACK",
    help="The pack to write; an existing one is replaced in one step.",
)
_at = click.option(
    "--at", metavar="TIME", help="Judge validity at this time (RFC 3339) instead of now."
)
_trust_root = click.option(
    "--insecure-trust-root",
    metavar="PEM",
    help="Check signatures under this root instead of Intel's: for simulated collateral only. "
    "Ends in exit code 3 at best.",
)


@click.group()
def collateral() -> None:
    """Gather, show and compare Intel's collateral: TCB info, QE identity, CRLs.

    A check needs no network: it takes what Intel publishes from collateral packs.
    """


@collateral.command()
@click.argument("quotes", nargs=-1, metavar="[QUOTE]...")
@click.option("--fmspc", "fmspcs", multiple=True, metavar="HEX", help="Platform family, 12 digits.")
@click.option(
    "--ca",
    "cas",
    multiple=True,
    type=click.Choice(["platform", "processor"]),
    help="PCK CA whose CRL to fetch; from the quotes, or else platform.",
)
@click.option("--pccs", "base_url", metavar="URL", help="A caching service instead of Intel's.")
@click.option("--root-crl-url", metavar="URL", help="Where to get the root CA's CRL.")
@click.option(
    "--update",
    type=click.Choice(["standard", "early"]),
    default="standard",
    show_default=True,
    help="Which TCB set: the one in force, or Intel's next one as early as it is published.",
)
@click.option(
    "--evaluation-number", type=click.IntRange(min=1), metavar="N", help="Exactly this TCB set."
)
@click.option("--proxy", metavar="URL", help="Instead of HTTPS_PROXY and NO_PROXY.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Seconds for each attempt.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0, max=10),
    default=3,
    show_default=True,
    metavar="N",
    help="Further attempts after status 429, 5xx or a timeout.",
)
@click.option("--merge", metavar="PACK", help="Add to what is in this pack.")
@_trust_root
@_output
def fetch(
    quotes: tuple[str, ...],
    fmspcs: tuple[str, ...],
    cas: tuple[CaName, ...],
    base_url: str | None,
    root_crl_url: str | None,
    update: Literal["standard", "early"],
    evaluation_number: int | None,
    proxy: str | None,
    timeout: float,
    retries: int,
    merge: str | None,
    insecure_trust_root: str | None,
    output: str,
) -> int:
    """Fetch the collateral of quotes, or of platform families, into a pack.

    Asks Intel's provisioning certification service, or a PCCS.  Everything fetched is signed
    by Intel and is checked before it is saved; what is wrong with it is said, and said again by
    every check that uses it.  That is why a PCCS may be asked over plain http; where https is
    used, its certificate is always verified (SSL_CERT_FILE names a CA of your own).
    """
    from ccverify.tdx.collect import INTEL_PCS, fetch_collateral

    inputs = Inputs()
    families, authorities = _platforms(inputs, quotes, fmspcs, cas)
    trust = _trust(inputs, insecure_trust_root)
    known = _read_pack(inputs, merge) if merge else None
    with _progress() as progress:
        pack = fetch_collateral(
            families,
            base_url=base_url or INTEL_PCS,
            root_crl_url=root_crl_url,
            update=update,
            tcb_evaluation_data_number=evaluation_number,
            ca=authorities,
            proxy=proxy,
            timeout=timeout,
            retries=retries,
            progress=progress,
        )
    _save(pack, output, trust, datetime.now(UTC), known)
    return _exit_code(trust)


def _platforms(
    inputs: Inputs, quotes: tuple[str, ...], fmspcs: tuple[str, ...], cas: tuple[CaName, ...]
) -> tuple[list[bytes], list[CaName]]:
    from ccverify.tdx.collect import platform_of_quote
    from ccverify.tdx.quote import decode_quote_text, parse_quote

    families = [parse_hex(text, "--fmspc", 6, 6) for text in fmspcs]
    authorities = list(cas)
    for path in quotes:
        with in_file(path):
            quote = parse_quote(decode_quote_text(inputs.read(path, QUOTE)))
            platform = platform_of_quote(quote)
        families.append(platform.fmspc)
        authorities.append(platform.ca)
    if not families:
        raise UsageError(
            "nothing to fetch collateral for", expected="a quote or --fmspc", found="neither"
        )
    return families, authorities or ["platform"]


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """Show progress on a terminal, and nothing anywhere else."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fetching", total=None)
        yield lambda done, total, label: bar.update(
            task, completed=done, total=total, description=label
        )


@collateral.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_at
@_trust_root
@_output
def pack(
    files: tuple[str, ...], at: str | None, insecure_trust_root: str | None, output: str
) -> int:
    """Build a pack from saved files; no network is used.

    Files may be bodies of Intel's responses, issuer chains (PEM, or the header's text), saved
    headers, CRLs (DER, PEM, hex), QuoteCollateralV3 JSON, and other packs, in any order.
    """
    from ccverify.tdx.assemble import assemble_collateral

    inputs, now = Inputs(), _time(at)
    trust = _trust(inputs, insecure_trust_root)
    assembly = assemble_collateral((path, inputs.read(path, _RAW)) for path in files)
    for name in assembly.unused:
        _warn(f"{name}: not needed, no artefact was issued by this chain")
    _save(assembly.pack, output, trust, now, None)
    return _exit_code(trust)


@collateral.command()
@click.argument("pack")
@format_option
@no_color_option
@_at
@_trust_root
def show(
    pack: str, output_format: str, no_color: bool, at: str | None, insecure_trust_root: str | None
) -> int:
    """Show what is in a pack, and what of it is genuine and current."""
    from ccverify.tdx.collateral_report import describe_pack

    inputs, now = Inputs(), _time(at)
    trust = _trust(inputs, insecure_trust_root)
    report = describe_pack(_read_pack(inputs, pack), trust, now)
    if output_format == "json":
        _write_json(report)
        return _exit_code(trust)
    from ccverify.cli.collateral_text import show_page

    width, color = screen(no_color=no_color)
    write_stdout(show_page(report, pack, width, color=color).text())
    return _exit_code(trust)


@collateral.command()
@click.argument("a")
@click.argument("b")
@format_option
@no_color_option
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the packs differ.")
def diff(a: str, b: str, output_format: str, no_color: bool, exit_code: bool) -> int:
    """Show what changed from pack A to pack B.

    Of each platform family, QE identity and CRL the newest edition on both sides is compared.
    """
    from ccverify.tdx.collateral_diff import compare_packs

    inputs = Inputs()
    report = compare_packs(_read_pack(inputs, a), _read_pack(inputs, b))
    if output_format == "json":
        _write_json(report)
    else:
        from ccverify.cli.collateral_text import diff_page

        width, color = screen(no_color=no_color)
        write_stdout(diff_page(report, (a, b), width, color=color).text())
    return int(exit_code and not report["identical"])


def _save(
    pack: CollateralPack,
    output: str,
    trust: TrustStore,
    now: datetime,
    known: CollateralPack | None,
) -> None:
    """Check a pack, say what is wrong with it, and write it, added to `known`."""
    from ccverify.tdx.collateral import serialize_collateral
    from ccverify.tdx.collateral_report import appraise_pack

    for problem in appraise_pack(pack, trust, now, known):
        _warn(problem)
    whole = known.merged(pack) if known else pack
    write_file(output, serialize_collateral(whole).decode("utf-8"))
    count = len(whole.artefacts)
    _say(f"{output}: {count} artefact{'s' * (count != 1)}, SHA-384 {whole.digest}")


def _read_pack(inputs: Inputs, path: str) -> CollateralPack:
    from ccverify.tdx.collateral import parse_collateral

    data = inputs.read(path, COLLATERAL)
    with in_file(path):
        return parse_collateral(data)


def _trust(inputs: Inputs, root: str | None) -> TrustStore:
    from ccverify.trust.anchors import TrustAnchor
    from ccverify.trust.store import TrustKind, TrustStore

    if root is None:
        return TrustStore.production()
    data = inputs.read(root, TRUST_ROOT)
    with in_file(root):
        return TrustStore(TrustKind.INSECURE, TrustAnchor.load(data))


def _exit_code(trust: TrustStore) -> int:
    """0; but nothing done under a root named by the user may look like success to a script."""
    return 0 if trust.kind.value == "production" else int(Category.AUTHENTICITY)


def _time(text: str | None) -> datetime:
    return datetime.now(UTC) if text is None else parse_time(text)


def _write_json(value: Any) -> None:
    write_stdout(json.dumps(value, indent=2, ensure_ascii=False) + "\n", as_json=True)


def _warn(text: str) -> None:
    _say(f"warning: {text}")


def _say(text: str) -> None:
    write_stderr(sanitise(text) + "\n")
