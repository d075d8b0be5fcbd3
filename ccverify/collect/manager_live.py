"""What a manager's host says when it is asked: partitions, and the tables of switches.

- Partitions: ``fmpm -l``, NVIDIA's client (public source, version 1.0.1), or else libnvfm by
  `ccverify.collect.manager_library`.  Both list and change nothing.
- Partition keys: ``smpquery pkeys`` for each port that NVLSM discovered, and forwarding tables:
  ``dump_fts``, both of infiniband-diags, where there is no file.  They are asked through the port
  that NVLSM itself uses and through no other: a host has further InfiniBand networks, whose
  addresses mean other machines.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from ccverify.collect.child_process import script_path
from ccverify.collect.files import told
from ccverify.collect.manager_dumps import (
    SOURCE,
    Arguments,
    DumpFile,
    Layout,
    check_dump,
    option_of,
    read_dump,
)
from ccverify.collect.manager_host import CommandResult, ManagerHost
from ccverify.collect.manager_library import STATUS
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.errors import EvidenceError
from ccverify.fabric.linkmap import NodeKind
from ccverify.fabric.linkmap_dump import parse_subnet_list
from ccverify.fabric.manager import FABRIC_MANAGER, NVLSM, clean_text
from ccverify.fabric.manager_config import ManagerConfig, parse_guid
from ccverify.fabric.observation import Absent
from ccverify.fabric.routing_dumps import parse_forwarding_tables, parse_key_tables
from ccverify.fabric.statement_model import Dump

__all__ = [
    "LIBRARY",
    "check_partitions",
    "check_tables",
    "read_keys",
    "read_partitions",
    "read_tables",
]

LIBRARY: Final = "libnvfm.so.1"
"""Name the Fabric Manager's client library is looked for under."""

_TOOL: Final = "fmpm"
_PORT: Final = 6666
_CONNECT_MS: Final = 5000
_COMMAND_S: Final = 15.0
_QUERY_S: Final = 5.0
_MAX_PORTS: Final = 2048
_INFINIBAND: Final = Path("/sys/class/infiniband")
_GID: Final = re.compile(rb"(?:[0-9a-f]{4}:){4}((?:[0-9a-f]{4}:){3}[0-9a-f]{4})\s*")
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_MAX_GID_BYTES: Final = 4096

_TABLE_TOOLS: Final = {Dump.LFTS: "dump_fts", Dump.PKEYS: "smpquery"}
_PROGRAM_PLACES: Final = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin")
_LIBRARY_PLACES: Final = (
    "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
    "/usr/local/lib",
)  # fmt: skip

_REASONS: Final = {
    STATUS["no-library"]: AbsenceReason.NO_LIBRARY,
    STATUS["timeout"]: AbsenceReason.TIMEOUT,
    STATUS["not-supported"]: AbsenceReason.NOT_SUPPORTED,
}
_NO_PORT: Final = "no InfiniBand port of this machine is NVLSM's"
_PARTITIONS_REMEDY: Final = (
    "install fmpm or libnvfm of the driver's version; the Fabric Manager has to run, with "
    "FABRIC_MODE=1, and to be reached at the address in its configuration"
)


class _Attempt(NamedTuple):
    reason: AbsenceReason
    text: str


# --- partitions ---


def read_partitions(host: ManagerHost, layout: Layout, seconds: float) -> DumpFile | Absence:
    """List the partitions, by the first way that gives a list."""
    if layout.paths.get(Dump.PARTITIONS):
        return read_dump(host, Dump.PARTITIONS, layout)
    attempts: list[_Attempt] = []
    for way in (_by_tool, _by_library):
        found = way(host, layout.manager, min(seconds / 2, _COMMAND_S))
        if isinstance(found, DumpFile):
            return found
        attempts.append(found)
    # What was tried and refused says more than what is not installed.
    reasons = [attempt.reason for attempt in attempts]
    reason = next((one for one in reasons if one is not AbsenceReason.NO_LIBRARY), reasons[0])
    text = "; ".join(attempt.text for attempt in attempts)
    return Absence(Dump.PARTITIONS.value, reason, text[:1000], _PARTITIONS_REMEDY, SOURCE)


def _address(config: ManagerConfig) -> tuple[str, str]:
    """Kind and address of the command interface."""
    if config.unix_socket and config.unix_socket.startswith("/"):
        return "unix", config.unix_socket
    port = config.port or _PORT
    try:
        interface = ip_address(config.bind_interface or "127.0.0.1")
    except ValueError:
        interface = ip_address("127.0.0.1")
    name = "127.0.0.1" if interface.is_unspecified else str(interface)
    return "inet", name if port == _PORT else f"{name}:{port}"


def _by_tool(host: ManagerHost, config: ManagerConfig, seconds: float) -> DumpFile | _Attempt:
    kind, address = _address(config)
    words = [_TOOL, "-l"]
    if kind == "unix":
        words += ["--unix-domain-socket", address]
    elif address != "127.0.0.1":  # fmpm before 1.0.1 takes no address
        words += ["--hostname", address]
    return _listed(host, tuple(words), _TOOL, seconds)


def _by_library(host: ManagerHost, config: ManagerConfig, seconds: float) -> DumpFile | _Attempt:
    script = script_path("manager_library.py")
    kind, address = _address(config)
    words = (sys.executable, "-I", script, LIBRARY, kind, address, str(_CONNECT_MS))
    return _listed(host, words, LIBRARY, seconds)


def _listed(
    host: ManagerHost, words: tuple[str, ...], name: str, seconds: float
) -> DumpFile | _Attempt:
    ended = _run(host, words, seconds)
    if isinstance(ended, OSError):
        return _Attempt(_reason(ended), f"{name}: {_said(ended)}")
    data = ended.output
    if ended.status != 0 or not data.lstrip().startswith(b"{"):
        reason = AbsenceReason.FAILED
        if name == LIBRARY:
            reason = _REASONS.get(ended.status, reason)
        return _Attempt(reason, f"{name} ended with status {ended.status}: {_words(ended)}")
    item = Item(Dump.PARTITIONS.value, ItemType.FABRIC_DUMP, data, name)
    return DumpFile(item, name, Absent("NO_FILE"))


def check_partitions(host: ManagerHost, layout: Layout, *, running: bool) -> Absence | None:
    """Say what keeps the partitions from being listed, without asking for them."""
    if layout.paths.get(Dump.PARTITIONS):
        return check_dump(host, Dump.PARTITIONS, layout)
    label = Dump.PARTITIONS.value
    if not running:
        text = "the Fabric Manager does not run, so it cannot be asked"
        remedy = "start it: `systemctl start nvidia-fabricmanager`"
        return Absence(label, AbsenceReason.NOT_PRESENT, text, remedy, SOURCE)
    if _is_in(host, _TOOL, _PROGRAM_PLACES) or _is_in(host, LIBRARY, _LIBRARY_PLACES):
        return None
    text = f"neither {_TOOL} nor {LIBRARY} is where packages install it"
    return Absence(label, AbsenceReason.NO_LIBRARY, text, _PARTITIONS_REMEDY, SOURCE)


def _is_in(host: ManagerHost, name: str, places: Sequence[str]) -> bool:
    for place in places:
        with suppress(OSError):
            host.files.status(Path(place, name))
            return True
    return False


# --- tables of switches ---


def read_tables(
    host: ManagerHost, layout: Layout, arguments: Arguments, seconds: float
) -> DumpFile | Absence:
    """Read forwarding tables: NVLSM's file, or else those that switches have by now."""
    found = read_dump(host, Dump.LFTS, layout)
    if isinstance(found, DumpFile) or found.reason is not AbsenceReason.NOT_PRESENT:
        return found
    port = _own_port(host, layout, arguments)
    if port is None:
        return found
    ended = _run(host, ("dump_fts", *port), min(seconds, _COMMAND_S))
    if isinstance(ended, FileNotFoundError):
        return found
    return _table(Dump.LFTS, "dump_fts", ended, parse_forwarding_tables)


def check_tables(
    host: ManagerHost, dump: Dump, layout: Layout, arguments: Arguments
) -> Absence | None:
    """Say what keeps `Dump.LFTS` or `Dump.PKEYS` from being read, without asking a switch."""
    found = check_dump(host, dump, layout)
    if found is None or found.reason is not AbsenceReason.NOT_PRESENT:
        return found
    tool = _TABLE_TOOLS[dump]
    if not _is_in(host, tool, _PROGRAM_PLACES):
        text = f"{found.text}; and {tool} of infiniband-diags is not installed"
    elif _own_port(host, layout, arguments) is None:
        text = f"{found.text}; and {_NO_PORT}"
    else:
        return None
    return Absence(found.label, found.reason, text, found.remedy, SOURCE)


def _table(
    dump: Dump, name: str, ended: CommandResult | OSError, parse: Callable[[bytes], object]
) -> DumpFile | Absence:
    if isinstance(ended, OSError):
        return _no_table(dump, _reason(ended), f"{name}: {_said(ended)}")
    if ended.status != 0:
        text = f"{name} ended with status {ended.status}: {_words(ended)}"
        return _no_table(dump, AbsenceReason.FAILED, text)
    try:
        if not parse(ended.output):
            return _no_table(dump, AbsenceReason.FAILED, f"{name} printed no table")
    except EvidenceError as problem:
        text = f"{name} printed something else: {problem.message}, found {problem.found}"
        return _no_table(dump, AbsenceReason.FAILED, text)
    item = Item(dump.value, ItemType.FABRIC_DUMP, ended.output, name)
    return DumpFile(item, name, Absent("NO_FILE"))


def _no_table(dump: Dump, reason: AbsenceReason, text: str) -> Absence:
    remedy = "see that infiniband-diags works through NVLSM's port (`sminfo`), as root"
    return Absence(dump.value, reason, text[:1000], remedy, SOURCE)


def read_keys(
    host: ManagerHost, layout: Layout, arguments: Arguments, clock: Callable[[], float], end: float
) -> DumpFile | Absence:
    """Read the partition-key tables of every port: a file, or else ``smpquery`` port by port.

    One port that does not answer makes all of them absent: a reader could not tell a port
    without a table from one that was not asked.

    Args:
        host: where.
        layout: where files are.
        arguments: command lines of the processes.
        clock: monotonic seconds.
        end: when to give up, on `clock`.
    """
    found = read_dump(host, Dump.PKEYS, layout)
    if isinstance(found, DumpFile) or found.reason is not AbsenceReason.NOT_PRESENT:
        return found
    port = _own_port(host, layout, arguments)
    if port is None:
        text = f"{found.text}; and {_NO_PORT}"
        return Absence(found.label, found.reason, text, found.remedy, SOURCE)
    subnet = read_dump(host, Dump.SUBNET, layout)
    if isinstance(subnet, Absence):
        return _no_table(Dump.PKEYS, subnet.reason, f"which ports there are: {subnet.text}")
    try:
        ports = list(_ports(subnet.item.data))
    except EvidenceError as problem:
        text = f"which ports there are is not known: {problem.message}, found {problem.found}"
        return _no_table(Dump.PKEYS, AbsenceReason.FAILED, text)
    if not 0 < len(ports) <= _MAX_PORTS:
        text = f"{len(ports)} ports are too many to be asked, or none"
        return _no_table(Dump.PKEYS, AbsenceReason.FAILED, text)
    tables: list[bytes] = []
    for at, one in enumerate(ports):
        words = ("smpquery", *port, "pkeys", str(one.lid), str(one.query))
        ended = _run(host, words, min(end - clock(), _QUERY_S))
        head = f"Node 0x{one.guid:016x} port {one.number}\n".encode()
        if isinstance(ended, CommandResult):
            ended = CommandResult(ended.status, head + ended.output, ended.errors)
        table = _table(Dump.PKEYS, "smpquery pkeys", ended, parse_key_tables)
        if isinstance(table, Absence):
            text = f"port {at + 1} of {len(ports)}, 0x{one.guid:016x}/{one.number}: {table.text}"
            return _no_table(Dump.PKEYS, table.reason, text)
        tables.append(table.item.data)
    item = Item(Dump.PKEYS.value, ItemType.FABRIC_DUMP, b"".join(tables), "smpquery pkeys")
    return DumpFile(item, "smpquery pkeys", Absent("NO_FILE"))


class _Port(NamedTuple):
    guid: int  # of the node
    number: int  # InfiniBand's
    lid: int
    query: int  # what smpquery is given: 0 for an end port, whose LID says which it is


def _ports(subnet: bytes) -> Iterator[_Port]:
    """Every port that is cabled, and port 0 of no switch: it leads to no GPU."""
    found = parse_subnet_list(subnet)
    nodes = {node.name: node for node in found.links.nodes}
    lids = dict(found.lids)
    ports = {port for link in found.links.links for port in (link.a, link.b)}
    for port in sorted(ports):
        node = nodes[port.node]
        is_switch = node.kind is NodeKind.SWITCH
        owner = node.guid if is_switch else dict(node.port_guids).get(port.port, node.guid)
        if node.guid is not None and owner is not None and lids.get(owner):
            number = port.port if is_switch else port.port + 1
            yield _Port(node.guid, number, lids[owner], number if is_switch else 0)


def _own_port(host: ManagerHost, layout: Layout, arguments: Arguments) -> tuple[str, ...] | None:
    """Return the options that name the port NVLSM is bound to; None if it is not to be found."""
    guid = next(filter(None, _guids(layout, arguments)), None)
    if guid is None:
        return None
    try:
        adapters = host.files.names(_INFINIBAND)
    except OSError:
        return None
    for adapter in adapters:
        ports = _INFINIBAND / adapter / "ports"
        try:
            numbers = host.files.names(ports) if _NAME.fullmatch(adapter) else []
        except OSError:
            continue
        for number in numbers:
            if number.isdigit() and _port_guid(host, ports / number / "gids/0") == guid:
                return "-C", adapter, "-P", number
    return None


def _guids(layout: Layout, arguments: Arguments) -> Iterator[int | None]:
    """What says which port it is, the command line first."""
    for program in (NVLSM, FABRIC_MANAGER):
        yield parse_guid(option_of(arguments, program, "-g", "--guid") or "")
    yield layout.nvlsm.guid
    yield layout.manager.management_guid


def _port_guid(host: ManagerHost, path: Path) -> int | None:
    try:
        match = _GID.fullmatch(host.files.read(path, _MAX_GID_BYTES))
    except OSError:
        return None
    return int(match[1].replace(b":", b""), 16) if match else None


# --- commands ---


def _run(host: ManagerHost, words: tuple[str, ...], seconds: float) -> CommandResult | OSError:
    if seconds <= 0:
        return TimeoutError(errno.ETIMEDOUT, "no time was left")
    try:
        return host.run(words, seconds)
    except OSError as problem:
        return problem


def _reason(problem: OSError) -> AbsenceReason:
    if isinstance(problem, FileNotFoundError):
        return AbsenceReason.NO_LIBRARY
    if isinstance(problem, PermissionError):
        return AbsenceReason.NO_PERMISSION
    return AbsenceReason.TIMEOUT if isinstance(problem, TimeoutError) else AbsenceReason.FAILED


def _said(problem: OSError) -> str:
    return "it is not installed" if isinstance(problem, FileNotFoundError) else told(problem)


def _words(ended: CommandResult) -> str:
    """What a command said, on one line."""
    text = ended.output[-300:].decode("utf-8", "replace") + " " + ended.errors[-300:]
    return clean_text(" ".join(text.split())) or "it said nothing"
