"""Where ``ccverify collect`` and ``ccverify doctor`` look for evidence: options and sources."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from ccverify.errors import UsageError

if TYPE_CHECKING:
    from ccverify.collect.model import Source

__all__ = ["file_options", "is_simulated", "machine_options", "sources_of", "timeout_option"]

_SIMULATED = "sim:"

_F = TypeVar("_F", bound=Callable[..., object])


def _all(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    def add(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


machine_options = _all(
    click.option(
        "--platform",
        metavar="NAME",
        default="real",
        show_default=True,
        help="Whom to ask: this machine (real), or a simulated one (sim:NAME).",
    ),
    click.option(
        "--nv-sdk-python",
        metavar="PYTHON",
        help="Ask GPUs and NVSwitches through nv-attestation-sdk, in the environment of this "
        "interpreter, instead of NVML and NSCQ.",
    ),
    click.option("--dstack-socket", metavar="PATH", help="Socket of the dstack guest agent."),
)
"""Options that say how the machine is asked."""

file_options = _all(
    click.option(
        "--source-folder",
        "folders",
        metavar="DIR",
        multiple=True,
        help="Take evidence from files in DIR first. May be given several times.",
    ),
    click.option(
        "--nvattest",
        "nvattest_files",
        metavar="FILE",
        multiple=True,
        help="Take device reports from what `nvattest collect-evidence` wrote first. May be "
        "given several times.",
    ),
    click.option(
        "--event-log",
        metavar="FILE",
        help="Take the log of this boot from FILE first: CCEL or dstack's.",
    ),
)
"""Options that name evidence in files."""


def timeout_option(default: float, meaning: str) -> Callable[[_F], _F]:
    """Return the option ``--timeout``."""

    def check(_: click.Context, __: click.Parameter, seconds: float) -> float:
        if math.isnan(seconds):  # which every range lets through
            raise click.BadParameter("'nan' is no number of seconds.")
        return seconds

    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True, max=3600),
        callback=check,
        default=default,
        show_default=True,
        metavar="S",
        help=meaning,
    )


def is_simulated(platform: str) -> bool:
    """Whether ``--platform`` names a simulated machine."""
    return platform.startswith(_SIMULATED)


def sources_of(
    *,
    platform: str,
    nv_sdk_python: str | None,
    dstack_socket: str | None,
    folders: tuple[str, ...] = (),
    nvattest_files: tuple[str, ...] = (),
    event_log: str | None = None,
) -> list[Source]:
    """Return the sources that the options name.

    Raises:
        UsageError: no such platform, or options that do not fit it.
    """
    if is_simulated(platform):
        if any((nv_sdk_python, dstack_socket, folders, nvattest_files, event_log)):
            raise UsageError("a simulated machine has no real sources", where="--platform",
                             hint="leave the options that name sources out")  # fmt: skip
        return _simulated(platform.removeprefix(_SIMULATED))
    if platform != "real":
        raise UsageError("there is no such platform", expected="real, or sim:NAME",
                         found=repr(platform[:80]), where="--platform")  # fmt: skip
    from ccverify.collect.platforms import Wishes, real_sources

    return real_sources(
        Wishes(
            folders=tuple(map(Path, folders)),
            nvattest_files=tuple(map(Path, nvattest_files)),
            nv_sdk_python=nv_sdk_python,
            event_log=Path(event_log) if event_log is not None else None,
            dstack_socket=Path(dstack_socket) if dstack_socket is not None else None,
        )
    )


def _simulated(name: str) -> list[Source]:
    """Ask `ccverify.cli.sim_sources.simulated_sources`, which raises UsageError for a bad name."""
    module = "ccverify.cli.sim_sources"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name != module:
            raise
        raise UsageError("this ccverify has no simulated machines", where="--platform",
                         hint="use one that has them, or --platform real") from None  # fmt: skip
    sources: list[Source] = found.simulated_sources(name)
    return sources
