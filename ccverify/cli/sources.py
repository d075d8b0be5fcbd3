"""Where ``ccverify collect`` and ``ccverify doctor`` look for evidence: options and sources."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ccverify.cli.inputs import Inputs
from ccverify.cli.inputs import Source as Input
from ccverify.errors import UsageError

if TYPE_CHECKING:
    from ccverify.collect.model import Source
    from ccverify.fabric.statement_model import Dump

__all__ = [
    "GUEST",
    "MANAGER",
    "file_options",
    "is_simulated",
    "machine_options",
    "sources_of",
    "timeout_option",
]

GUEST, MANAGER = "guest", "fabric-manager"
"""Values of ``--role``."""

_SIMULATED = "sim:"
_STATEMENT = Input(
    "fabric statement",
    8 * 1024 * 1024,
    UsageError,
    f"what `ccverify collect --role {MANAGER}` wrote",
)

_F = TypeVar("_F", bound=Callable[..., object])


def _all(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    def add(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


machine_options = _all(
    click.option(
        "--role",
        type=click.Choice([GUEST, MANAGER]),
        default=GUEST,
        show_default=True,
        help="What this machine is: the confidential VM of a tenant, or what the Fabric Manager "
        "runs in (a service VM or the host), which makes a fabric statement.",
    ),
    click.option(
        "--manager-file",
        "manager_files",
        metavar="PART=FILE",
        multiple=True,
        help=f"With --role {MANAGER}: take this part, such as nvlsm-pkeys, from FILE. May be given "
        "several times.",
    ),
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
    click.option(
        "--fabric-statement",
        metavar="FILE",
        help="Put the statement of the fabric's manager in FILE into the bundle.",
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
    role: str = GUEST,
    manager_files: tuple[str, ...] = (),
    fabric_statement: str | None = None,
    probe: bool = False,
) -> list[Source]:
    """Return the sources that the options name.

    Raises:
        UsageError: no such platform, options that do not fit it or the role, or a file that is
            no fabric statement.
    """
    simulated = is_simulated(platform)
    devices = (nv_sdk_python, folders, nvattest_files, event_log)
    if simulated and any((*devices, dstack_socket)):
        raise UsageError("a simulated machine has no real sources", where="--platform",
                         hint="leave the options that name sources out")  # fmt: skip
    if not simulated and platform != "real":
        raise UsageError("there is no such platform", expected="real, or sim:NAME",
                         found=repr(platform[:80]), where="--platform")  # fmt: skip
    if role == MANAGER and any((*devices, fabric_statement, probe)):
        raise UsageError("a fabric manager's machine is asked for no devices", where="--role",
                         hint="leave the options about evidence of a guest out")  # fmt: skip
    if role != MANAGER and manager_files:
        raise UsageError("a guest has no files of a fabric manager", where="--manager-file",
                         expected=f"--role {MANAGER}")  # fmt: skip
    statement = [] if fabric_statement is None else [_statement(fabric_statement)]
    if simulated:
        simulator, name = _simulator(), platform.removeprefix(_SIMULATED)
        if role == MANAGER:
            return list(simulator.simulated_manager_sources(name, _given(manager_files)))
        return [*statement, *simulator.simulated_sources(name, probe=probe)]
    from ccverify.collect.platforms import Wishes, real_manager_sources, real_sources

    wishes = Wishes(
        folders=tuple(map(Path, folders)),
        nvattest_files=tuple(map(Path, nvattest_files)),
        nv_sdk_python=nv_sdk_python,
        event_log=Path(event_log) if event_log is not None else None,
        dstack_socket=Path(dstack_socket) if dstack_socket is not None else None,
        probe=probe,
    )
    if role == MANAGER:
        return real_manager_sources(wishes, _given(manager_files))
    return [*statement, *real_sources(wishes)]


def _statement(path: str) -> Source:
    from ccverify.collect.manager_statement import StatementFile

    return StatementFile(Inputs().read(path, _STATEMENT), Path(path).name)


def _given(files: tuple[str, ...]) -> dict[Dump, Path]:
    """Read ``PART=FILE``."""
    from ccverify.fabric.statement_model import DUMP_LABELS, Dump

    given: dict[Dump, Path] = {}
    for text in files:
        label, equals, path = text.partition("=")
        if label not in DUMP_LABELS or not equals or not path or Dump(label) in given:
            raise UsageError(
                "the value of --manager-file is not what it should be",
                expected=f"PART=FILE, each PART once: {', '.join(DUMP_LABELS)}",
                found=repr(text[:80]),
                where="--manager-file",
            )
        given[Dump(label)] = Path(path).absolute()
    return given


def _simulator() -> Any:
    """Return `ccverify.cli.sim_sources`, whose functions raise UsageError for a bad name."""
    module = "ccverify.cli.sim_sources"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name != module:
            raise
        raise UsageError("this ccverify has no simulated machines", where="--platform",
                         hint="use one that has them, or --platform real") from None  # fmt: skip
