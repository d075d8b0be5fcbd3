"""Rules on a manager's settings: who can command it, its mode, its rail policy.

The Fabric Manager's interfaces have no authentication (Fabric Manager User Guide 2.3 documents
none), so whoever reaches one can move GPUs between partitions.  That Blackwell in confidential
computing needs ``PARTITION_RAIL_POLICY=symmetric`` is in NVIDIA's deployment guide; that 595 and
later refuse the numeric form is what an operator found, and public in his change log.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM
from ccverify.fabric.manager_config import GREEDY, SYMMETRIC, ManagerConfig, is_loopback
from ccverify.fabric.observation import Absent
from ccverify.fabric.statement_model import (
    CLOCK_TOLERANCE,
    Circumstances,
    Dump,
    FabricStatement,
    Found,
    Generation,
    StatementCode,
    StatementGap,
    StatementProblem,
    modules_text,
)
from ccverify.fabric.statement_programs import generation_of, process_of, version_numbers

__all__ = ["appraise_config", "appraise_mode", "appraise_rail_policy", "missing_config"]

_ANY = frozenset(Generation)
_UP_TO_HOPPER = frozenset({Generation.HOPPER})
_GRPC_PLUGIN: Final = "grpc_mgr"
_GRPC_ADDRESS: Final = "--grpc_server_address"
_NAMES_ONLY_SINCE: Final = 595
"""The branch since which the Fabric Manager takes no number for PARTITION_RAIL_POLICY."""
_BOARD_SIZE: Final = 8
_MODES: Final = {
    0: "0 (bare metal or full passthrough)",
    1: "1 (shared NVSwitch)",
    2: "2 (vGPU)",
}


class _BadSetting(NamedTuple):
    """A setting that is known to be bad.

    Attributes:
        key: as it is written.
        bad: finds the value, where it is bad.
        expected: what would be right, and why.
        boards: on which the setting has an effect.
    """

    key: str
    bad: Callable[[ManagerConfig], str | None]
    expected: str
    boards: frozenset[Generation]


def _off_host(interface: str | None, socket: str | None) -> str | None:
    """An address that others can reach, unless a socket of this machine takes its place."""
    return interface if interface and not socket and not is_loopback(interface) else None


def _off_host_address(address: str | None) -> str | None:
    """The same of ``host:port``, or a path."""
    if not address or address.startswith(("/", "unix:")):
        return None
    host = address.rpartition(":")[0].strip("[]")
    return None if is_loopback(host) else address


_BAD_SETTINGS: Final = (
    _BadSetting(
        "FM_CMD_BIND_INTERFACE",
        lambda config: _off_host(config.bind_interface, config.unix_socket),
        "a loopback address: its commands need no authentication",
        _ANY,
    ),
    _BadSetting(
        "BIND_INTERFACE_IP",
        lambda config: _off_host(config.internal_interface, config.internal_socket),
        "a loopback address: its messages need no authentication",
        _UP_TO_HOPPER,
    ),
    _BadSetting(
        "FM_SM_IPC_INTERFACE",
        lambda config: _off_host_address(config.ipc_interface),
        "a socket of this host: its messages need no authentication",
        _ANY,
    ),
)


def missing_config(statement: FabricStatement) -> str:
    """Say why a rule on the configuration cannot be applied."""
    there = Dump.CONFIG.value in statement.digests
    return "the configuration cannot be read" if there else "the statement has no configuration"


# --- configuration -------------------------------------------------------------------------------


def appraise_config(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-MANAGER-CONFIG."""
    code, config = StatementCode.CONFIG, statement.config
    if config is None:
        yield StatementGap(code, Dump.CONFIG.value, missing_config(statement))
    else:
        generation = generation_of(statement, given)
        for setting in _BAD_SETTINGS:
            found = setting.bad(config)
            if found is not None and (generation is None or generation in setting.boards):
                yield StatementProblem(code, setting.key, setting.expected, found)
        yield from _repeated(config.repeated)
        yield from _accepted(config, given)
    yield from _nvlsm(statement)
    yield from _in_force(statement)


def _repeated(keys: tuple[str, ...]) -> Found:
    for key in keys:
        found = "two values, and which of them counts is not known"
        yield StatementProblem(StatementCode.CONFIG, key, "one value", found)


def _accepted(config: ManagerConfig, given: Circumstances) -> Found:
    settings = config.settings()
    for key, accepted in sorted(given.settings.items()):
        value = settings.get(key)
        if value not in accepted:
            expected = " or ".join(sorted(accepted))
            found = "not set" if value is None else value or "empty"
            yield StatementProblem(StatementCode.CONFIG, key, expected, found)


def _nvlsm(statement: FabricStatement) -> Found:
    code, config = StatementCode.CONFIG, statement.nvlsm_config
    if config is None:
        return
    if config.plugin_name != _GRPC_PLUGIN:
        expected = f"{_GRPC_PLUGIN}, through which the Fabric Manager commands NVLSM"
        found = config.plugin_name or "not set"
        yield StatementProblem(code, "nvlsm plugin_name", expected, found)
    words = (config.plugin_options or "").replace("=", " ").split()
    for option, value in pairwise(words):
        if option == _GRPC_ADDRESS and _off_host_address(value) is not None:
            expected = "a socket of this host: its messages need no authentication"
            yield StatementProblem(code, f"nvlsm {_GRPC_ADDRESS}", expected, value)
    yield from _repeated(tuple(f"nvlsm {key}" for key in config.repeated))


def _in_force(statement: FabricStatement) -> Found:
    """Files that the running program has not read: changed since, or another one named."""
    code = StatementCode.CONFIG
    for dump, program in (
        (Dump.CONFIG, FABRIC_MANAGER),
        (Dump.DEFINITIONS, FABRIC_MANAGER),
        (Dump.NVLSM_CONFIG, NVLSM),
    ):
        source, process = statement.facts.source(dump.value), process_of(statement, program)
        if source is None or dump.value not in statement.digests or isinstance(process, Absent):
            continue
        if isinstance(source.modified, Absent):
            reason = f"whether {program} has read it is not known: {source.modified.code}"
            yield StatementGap(code, dump.value, reason)
        elif source.modified > process.started + CLOCK_TOLERANCE:
            expected = f"unchanged since {program} read it at {process.started}"
            yield StatementProblem(code, dump.value, expected, f"changed at {source.modified}")
        for path in _named_configs(program, process.arguments):
            if dump is not Dump.DEFINITIONS and path.startswith("/") and path != source.path:
                yield StatementProblem(code, dump.value, f"{path}, as {program} runs", source.path)


def _named_configs(program: str, arguments: tuple[str, ...] | Absent) -> Iterator[str]:
    """The configuration that a command line names."""
    options = ("-c", "--config") if program == FABRIC_MANAGER else ("-F", "--config")
    words = () if isinstance(arguments, Absent) else arguments
    for option, value in pairwise(words):
        if option in options:
            yield value
    for word in words:
        if word.startswith("--config="):
            yield word.partition("=")[2]


# --- mode ----------------------------------------------------------------------------------------


def appraise_mode(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-MANAGER-MODE."""
    code, where = StatementCode.MODE, "FABRIC_MODE"
    if statement.config is None:
        yield StatementGap(code, where, missing_config(statement))
        return
    mode = statement.config.fabric_mode or 0
    found = _MODES.get(mode, str(mode))
    if mode not in _MODES:
        yield StatementProblem(code, where, "0, 1 or 2", found)
    if given.modes is not None and mode not in given.modes:
        expected = " or ".join(_MODES.get(one, str(one)) for one in sorted(given.modes))
        yield StatementProblem(code, where, expected, found)
    active = statement.partitions.active if statement.partitions is not None else ()
    if mode == 0:
        if len(active) > 1:
            expected = f"1, because {len(active)} partitions are in use"
            yield StatementProblem(code, where, expected, found)
        elif given.modules is not None and 1 < len(given.modules) < _BOARD_SIZE:
            expected = f"1, because the tenant has GPUs {modules_text(given.modules)} of the board"
            yield StatementProblem(code, where, expected, found)
    elif mode == 2 and given.multi_gpu:
        expected = "1: GPUs in multi-GPU mode are passed through whole"
        yield StatementProblem(code, where, expected, found)


# --- rail policy ---------------------------------------------------------------------------------


def appraise_rail_policy(statement: FabricStatement, given: Circumstances) -> Found:
    """FABRIC-RAIL-POLICY: where GPUs of Blackwell sign MPT, and nowhere else."""
    code, where = StatementCode.RAIL_POLICY, "PARTITION_RAIL_POLICY"
    generation = generation_of(statement, given)
    if given.multi_gpu is False or generation is Generation.HOPPER:
        return
    if given.multi_gpu is None or generation is None:
        unknown = "mode of the tenant's GPUs" if given.multi_gpu is None else "board"
        yield StatementGap(code, where, f"the {unknown} is not known")
        return
    config = statement.config
    if config is None:
        yield StatementGap(code, where, missing_config(statement))
        return
    if config.policy != SYMMETRIC:
        unset = f"not set, so {GREEDY}" if config.rail_policy is None else "empty"
        found = config.rail_policy or unset
        yield StatementProblem(code, where, SYMMETRIC, found)
    elif config.rail_policy != SYMMETRIC:
        yield from _numeric(statement, config.rail_policy or "")


def _numeric(statement: FabricStatement, value: str) -> Found:
    """The old way to write it, which newer branches silently do without."""
    code, where = StatementCode.RAIL_POLICY, "PARTITION_RAIL_POLICY"
    program = statement.facts.program(FABRIC_MANAGER)
    version = Absent("NOT_FOUND") if program is None else program.version
    numbers = None if isinstance(version, Absent) else version_numbers(version)
    if numbers is None:
        reason = f"a number, and whether this version takes numbers is not known: {value}"
        yield StatementGap(code, where, reason)
    elif numbers[0] >= _NAMES_ONLY_SINCE:
        expected = f"{SYMMETRIC}: since {_NAMES_ONLY_SINCE} no number is taken"
        yield StatementProblem(code, where, expected, value)
