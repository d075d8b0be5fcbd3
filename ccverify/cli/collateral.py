"""``ccverify collateral``: gather what Intel and NVIDIA publish, and look at what was gathered."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import click

from ccverify.checks import Category
from ccverify.cli.inputs import TRUST_ROOT, Inputs, in_file, parse_hex, parse_time
from ccverify.cli.options import format_option, no_color_option
from ccverify.cli.output import screen, write_file, write_stderr, write_stdout
from ccverify.errors import UsageError
from ccverify.results.render.text import sanitise

if TYPE_CHECKING:
    from ccverify.cli.collateral_wanted import Wanted
    from ccverify.collateral import CollateralFile
    from ccverify.tdx.collect import CaName, Progress
    from ccverify.trust.store import TrustStore

# Everything that needs `cryptography` is imported by the command that uses it: asking for
# help must stay fast.

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
    """Gather, show and compare collateral: what Intel and NVIDIA publish and sign.

    A check needs no network: it takes Intel's TCB info, QE identity and CRLs, and NVIDIA's
    reference manifests (RIM), OCSP responses and CRLs, from collateral packs.
    """


@collateral.command()
@click.argument("evidence", nargs=-1, metavar="[EVIDENCE]...")
@click.option(
    "--gpu-evidence",
    multiple=True,
    metavar="FILE",
    help="Evidence whose NVIDIA devices alone are wanted.",
)
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
@click.option(
    "--ocsp/--no-ocsp",
    "with_ocsp",
    default=True,
    show_default=True,
    help="Whether to ask for the revocation status of NVIDIA's certificates.",
)
@click.option(
    "--ocsp-nonce/--no-ocsp-nonce",
    "with_nonce",
    default=True,
    show_default=True,
    help="Whether to insist that OCSP responses are made for this request.",
)
@click.option(
    "--cache", metavar="FOLDER", help="Keep NVIDIA's collateral here, and use what is here."
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
    evidence: tuple[str, ...],
    gpu_evidence: tuple[str, ...],
    fmspcs: tuple[str, ...],
    cas: tuple[CaName, ...],
    base_url: str | None,
    root_crl_url: str | None,
    update: Literal["standard", "early"],
    evaluation_number: int | None,
    with_ocsp: bool,
    with_nonce: bool,
    cache: str | None,
    proxy: str | None,
    timeout: float,
    retries: int,
    merge: str | None,
    insecure_trust_root: str | None,
    output: str,
) -> int:
    """Fetch the collateral of evidence, or of platform families, into a pack.

    EVIDENCE is a TDX quote, or the answer of a service or tool with quotes, GPUs and NVSwitches
    in it. Asked are Intel's provisioning certification service (or a PCCS), and NVIDIA's RIM
    service and OCSP responder; never an address out of evidence.

    Everything fetched is signed and is checked before it is saved; what is wrong with it is
    said, and said again by every check that uses it. That is why a PCCS may be asked over plain
    http; where https is used, its certificate is always verified (SSL_CERT_FILE names a CA of
    your own).

    What NVIDIA does not have is named, the rest is saved, and the exit code is 5.
    """
    from ccverify.cli.collateral_wanted import read_wanted
    from ccverify.collateral import CollateralFile
    from ccverify.tdx.collect import INTEL_PCS, fetch_collateral

    inputs, now = Inputs(), datetime.now(UTC)
    trust = _trust(inputs, insecure_trust_root)
    families = [parse_hex(text, "--fmspc", 6, 6) for text in fmspcs]
    wanted = read_wanted(inputs, evidence, gpu_evidence, trust)
    if not families and wanted.is_empty:
        raise UsageError(
            "nothing to fetch collateral for", expected="evidence or --fmspc", found="neither"
        )
    known = _read(inputs, merge) if merge else None
    fetched = CollateralFile()
    problems: tuple[str, ...] = ()
    families += wanted.fmspcs
    with _progress() as progress:
        if families:
            intel = fetch_collateral(
                families,
                base_url=base_url or INTEL_PCS,
                root_crl_url=root_crl_url,
                update=update,
                tcb_evaluation_data_number=evaluation_number,
                ca=[*cas, *wanted.cas] or ["platform"],
                proxy=proxy,
                timeout=timeout,
                retries=retries,
                progress=progress,
            )
            fetched = CollateralFile(intel)
        if wanted.devices:
            nvidia, problems = _fetch_nvidia(
                wanted, trust, now, with_ocsp=with_ocsp, with_nonce=with_nonce, cache=cache,
                proxy=proxy, timeout=timeout, retries=retries, progress=progress,
            )  # fmt: skip
            fetched = fetched.merged(nvidia)
    for problem in problems:
        _warn(problem)
    _save(fetched, output, trust, now, known)
    if problems:
        _say(f"{len(problems)} of NVIDIA's answers could not be had; the rest is saved")
        return int(Category.COLLATERAL)
    return _exit_code(trust)


def _fetch_nvidia(
    wanted: Wanted, trust: TrustStore, now: datetime, **settings: Any
) -> tuple[CollateralFile, tuple[str, ...]]:
    """Return what could be had, and a sentence for each thing that could not."""
    from ccverify.collateral import CollateralFile
    from ccverify.nvidia.collect import fetch_nvidia_collateral

    fetched = fetch_nvidia_collateral(
        wanted.devices,
        device_root=trust.nvidia_device_root,
        rim_root=trust.nvidia_rim_root,
        now=now,
        **settings,
    )
    problems = (" ".join(problem.diagnostics().split()) for problem in fetched.problems)
    return CollateralFile(nvidia=fetched.collateral), tuple(problems)


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
    """Build a pack from saved files and folders of them; no network is used.

    Of Intel's, files may be bodies of responses, issuer chains (PEM, or the header's text),
    saved headers, CRLs (DER, PEM, hex) and QuoteCollateralV3 JSON; of NVIDIA's, reference
    manifests (XML, or the RIM service's JSON), OCSP responses and CRLs. Packs may be among them,
    and the order does not matter. A manifest keeps the name of its file.
    """
    from ccverify.cli.collateral_files import assemble_files

    inputs, now = Inputs(), _time(at)
    trust = _trust(inputs, insecure_trust_root)
    gathered, unused = assemble_files(inputs, files)
    for name in unused:
        _warn(f"{name}: not needed, no artefact was issued by this chain")
    _save(gathered, output, trust, now, None)
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
    """Show what is in a pack, and what of it is genuine and current.

    PACK may be any other file of collateral too, or a folder of them.
    """
    from ccverify.nvidia.collateral_report import describe_nvidia
    from ccverify.tdx.collateral_report import describe_pack

    inputs, now = Inputs(), _time(at)
    trust = _trust(inputs, insecure_trust_root)
    file = _read(inputs, pack)
    report = describe_pack(file.intel, trust, now)
    report["nvidia"] = describe_nvidia(file.nvidia, trust, now)
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

    Of each platform family, QE identity and CRL the newest edition on both sides is compared;
    of NVIDIA's collateral, which manifests, OCSP responses and CRLs there are.
    """
    from ccverify.nvidia.collateral_report import compare_nvidia
    from ccverify.tdx.collateral_diff import compare_packs

    inputs = Inputs()
    old, new = _read(inputs, a), _read(inputs, b)
    report = compare_packs(old.intel, new.intel)
    report["nvidia"] = compare_nvidia(old.nvidia, new.nvidia)
    report["identical"] = report["identical"] and old.nvidia.digest == new.nvidia.digest
    if output_format == "json":
        _write_json(report)
    else:
        from ccverify.cli.collateral_text import diff_page

        width, color = screen(no_color=no_color)
        write_stdout(diff_page(report, (a, b), width, color=color).text())
    return int(exit_code and not report["identical"])


def _save(
    fetched: CollateralFile,
    output: str,
    trust: TrustStore,
    now: datetime,
    known: CollateralFile | None,
) -> None:
    """Check collateral, say what is wrong with it, and write it, added to `known`."""
    from ccverify.collateral import serialize_collateral_file
    from ccverify.nvidia.collateral_report import appraise_nvidia
    from ccverify.tdx.collateral_report import appraise_pack

    for problem in appraise_pack(fetched.intel, trust, now, known.intel if known else None):
        _warn(problem)
    for problem in appraise_nvidia(fetched.nvidia, trust, now):
        _warn(problem)
    whole = known.merged(fetched) if known else fetched
    write_file(output, serialize_collateral_file(whole).decode("utf-8"))
    digest = f"SHA-384 {whole.intel.digest}"
    if not whole.nvidia.is_empty:
        digest = f"SHA-384 of Intel's {whole.intel.digest}, of NVIDIA's {whole.nvidia.digest}"
    _say(f"{output}: {whole.count} artefact{'s' * (whole.count != 1)}, {digest}")


def _read(inputs: Inputs, path: str) -> CollateralFile:
    from ccverify.cli.collateral_files import read_collateral

    return read_collateral(inputs, [path])


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
