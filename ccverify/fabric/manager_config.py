"""Read the configuration of the Fabric Manager (``fabricmanager.cfg``) and of NVLSM.

The first has lines ``KEY=value``, the second ``key value``; both take ``#`` for comments.  Keys
and defaults are those of NVIDIA's Fabric Manager User Guide 2.3 (*Fabric Manager Config Options*,
*NVLink Subnet Manager Configuration*), which also says that either file is read when its program
starts, and that the command line overrides it.  Unknown keys are kept, because every release adds
some.  Not public: what the Fabric Manager makes of a key that is there twice.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from typing import Any, Final

from ccverify.errors import EvidenceError
from ccverify.fabric.routing_text import Reader

__all__ = [
    "GREEDY",
    "MAX_CONFIG_BYTES",
    "SYMMETRIC",
    "ManagerConfig",
    "NvlsmConfig",
    "is_loopback",
    "parse_guid",
    "parse_manager_config",
    "parse_nvlsm_config",
]

MAX_CONFIG_BYTES: Final = 1 << 20
_MAX_KEYS: Final = 1024
_MAX_VALUE: Final = 512
GREEDY, SYMMETRIC = "greedy", "symmetric"

_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})[ \t]*=[ \t]*(.*)")
_WORDS = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})(?:[ \t]+(.*))?")
_VALUE = re.compile(r"[ -~\t]*")
_INTEGER = re.compile(r"[0-9]{1,10}")
_GUID = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,16})")

# Unsigned integers of 32 bits.
_NUMBERS: Final = {
    "FABRIC_MODE": "fabric_mode",
    "FABRIC_MODE_RESTART": "fabric_mode_restart",
    "FM_CMD_PORT_NUMBER": "port",
    "STARTING_TCP_PORT": "internal_port",
    "LOG_LEVEL": "log_level",
    "LOG_USE_SYSLOG": "log_to_syslog",
    "FM_STAY_RESIDENT_ON_FAILURES": "stay_resident",
}
_TEXTS: Final = {
    "PARTITION_RAIL_POLICY": "rail_policy",
    "FM_CMD_BIND_INTERFACE": "bind_interface",
    "FM_CMD_UNIX_SOCKET_PATH": "unix_socket",
    "BIND_INTERFACE_IP": "internal_interface",
    "UNIX_SOCKET_PATH": "internal_socket",
    "FM_SM_IPC_INTERFACE": "ipc_interface",
    "SHARED_PARTITION_DEFINITION_FILE": "partition_file",
    "STATE_FILE_NAME": "state_file",
    "LOG_FILE_NAME": "log_file",
    "TOPOLOGY_FILE_PATH": "topology_directory",
}


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """``fabricmanager.cfg``; None for a key that is not there, "" for one without a value.

    Attributes:
        fabric_mode: FABRIC_MODE: 0 bare metal or full passthrough, 1 shared NVSwitch, 2 vGPU.
        fabric_mode_restart: FABRIC_MODE_RESTART: 1 to resume from the state file.
        rail_policy: PARTITION_RAIL_POLICY, as written.
        bind_interface: FM_CMD_BIND_INTERFACE, where commands are taken.
        port: FM_CMD_PORT_NUMBER.
        unix_socket: FM_CMD_UNIX_SOCKET_PATH, in place of the two before.
        internal_interface: BIND_INTERFACE_IP; in use up to H100.
        internal_port: STARTING_TCP_PORT; likewise.
        internal_socket: UNIX_SOCKET_PATH; likewise.
        ipc_interface: FM_SM_IPC_INTERFACE, between Fabric Manager and NVLSM.
        management_guid: FM_SM_MGMT_PORT_GUID; 0 says that it is given elsewhere.
        partition_file: SHARED_PARTITION_DEFINITION_FILE.
        state_file: STATE_FILE_NAME.
        topology_directory: TOPOLOGY_FILE_PATH; not in use since B200.
        log_file: LOG_FILE_NAME.
        log_level: LOG_LEVEL: 0 nothing, 1 CRITICAL, 2 ERROR, 3 WARNING, 4 INFO.
        log_to_syslog: LOG_USE_SYSLOG: 1 to write to the system's log instead.
        stay_resident: FM_STAY_RESIDENT_ON_FAILURES: 1 to run on after a failure.
        other: further keys, as written.
        repeated: keys with two values, of which the last was taken here.
    """

    fabric_mode: int | None = None
    fabric_mode_restart: int | None = None
    rail_policy: str | None = None
    bind_interface: str | None = None
    port: int | None = None
    unix_socket: str | None = None
    internal_interface: str | None = None
    internal_port: int | None = None
    internal_socket: str | None = None
    ipc_interface: str | None = None
    management_guid: int | None = None
    partition_file: str | None = None
    state_file: str | None = None
    topology_directory: str | None = None
    log_file: str | None = None
    log_level: int | None = None
    log_to_syslog: int | None = None
    stay_resident: int | None = None
    other: Mapping[str, str] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()

    @property
    def policy(self) -> str | None:
        """The rail policy by name, also where it is written as 0 or 1; None if unknown."""
        return {"0": GREEDY, "1": SYMMETRIC}.get(self.rail_policy or "", self.rail_policy)

    def settings(self) -> dict[str, str]:
        """Return every key that is there as it means, by name: for comparison."""
        names = {name: key for key, name in (_NUMBERS | _TEXTS).items()}
        found = dict(self.other)
        for member in fields(self):
            value = getattr(self, member.name)
            if member.name in names and value is not None:
                found[names[member.name]] = str(value)
        if self.management_guid is not None:
            found["FM_SM_MGMT_PORT_GUID"] = f"0x{self.management_guid:016x}"
        return found


@dataclass(frozen=True, slots=True)
class NvlsmConfig:
    """``nvlsm.conf``.

    Attributes:
        guid: of the port that NVLSM binds to; 0 or None where the command line gives it.
        plugin_name: ``grpc_mgr`` where NVLSM takes the Fabric Manager's orders.
        plugin_options: with the plugin's configuration file or address.
        log_flags: as written.
        other: further keys, as written.
        repeated: keys with two values, of which the last was taken here.
    """

    guid: int | None = None
    plugin_name: str | None = None
    plugin_options: str | None = None
    log_flags: str | None = None
    other: Mapping[str, str] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()

    def settings(self) -> dict[str, str]:
        """Return every key that is there, by name: for comparison."""
        found = dict(self.other)
        for name in ("plugin_name", "plugin_options", "log_flags"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        if self.guid is not None:
            found["guid"] = f"0x{self.guid:016x}"
        return found


def parse_manager_config(data: bytes) -> ManagerConfig:
    """Read ``fabricmanager.cfg``.

    Raises:
        EvidenceError: too large, a line that is no ``KEY=value``, or a known key whose value is
            not of its kind.
    """
    reader = _reader(data, "Fabric Manager configuration")
    values, repeated = _pairs(reader, _PAIR, "KEY=value")
    known: dict[str, Any] = {}
    for key, name in _NUMBERS.items():
        if key in values:
            known[name] = _number(values.pop(key), key, reader)
    for key, name in _TEXTS.items():
        if key in values:
            known[name] = values.pop(key)
    if "FM_SM_MGMT_PORT_GUID" in values:
        known["management_guid"] = _guid(values.pop("FM_SM_MGMT_PORT_GUID"), reader)
    return ManagerConfig(**known, other=values, repeated=repeated)


def parse_nvlsm_config(data: bytes) -> NvlsmConfig:
    """Read ``nvlsm.conf``.

    Raises:
        EvidenceError: too large, a line that does not begin with a key, or a guid that is none.
    """
    reader = _reader(data, "NVLSM configuration")
    values, repeated = _pairs(reader, _WORDS, "key value")
    guid = _guid(values.pop("guid"), reader) if "guid" in values else None
    return NvlsmConfig(
        guid,
        values.pop("plugin_name", None),
        values.pop("plugin_options", None),
        values.pop("log_flags", None),
        values,
        repeated,
    )


def parse_guid(text: str) -> int | None:
    """Read a port GUID as both programs take it: hex, with or without 0x; None if it is none."""
    match = _GUID.fullmatch(text.strip())
    return int(match[1], 16) if match else None


def is_loopback(interface: str) -> bool:
    """Whether an address can be reached from the same machine alone; false for a name."""
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return interface == "localhost"


def _reader(data: bytes, what: str) -> Reader:
    if len(data) > MAX_CONFIG_BYTES:
        raise EvidenceError(
            f"the {what} cannot be read",
            expected=f"at most {MAX_CONFIG_BYTES} bytes",
            found=f"{len(data)} bytes",
            where=what,
            hint="name the right file",
        )
    return Reader(data, what)


def _pairs(
    reader: Reader, pattern: re.Pattern[str], expected: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Every key and its last value, and the keys that had another before."""
    values: dict[str, str] = {}
    repeated: dict[str, None] = {}
    for line in _statements(reader):
        match = pattern.fullmatch(line)
        value = (match[2] or "").strip(" \t") if match else ""
        if not match or len(value) > _MAX_VALUE or not _VALUE.fullmatch(value):
            raise reader.wrong(f"{expected}, at most {_MAX_VALUE} ASCII characters", line)
        key = match[1]
        if values.get(key, value) != value:
            repeated[key] = None
        values[key] = value
        if len(values) > _MAX_KEYS:
            raise reader.wrong(f"at most {_MAX_KEYS} keys", "more")
    return values, tuple(repeated)


def _statements(reader: Reader) -> Iterable[str]:
    return (line for line in reader if not line.startswith("#"))


def _number(text: str, key: str, reader: Reader) -> int:
    if not _INTEGER.fullmatch(text) or int(text) >= 1 << 32:
        raise reader.wrong(f"a number for {key}", text)
    return int(text)


def _guid(text: str, reader: Reader) -> int:
    guid = parse_guid(text)
    if guid is None:
        raise reader.wrong("a GUID of at most 16 hex digits", text)
    return guid
