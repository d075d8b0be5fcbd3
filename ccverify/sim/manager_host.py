"""The host of a simulated Fabric Manager: a file tree, processes, and commands that answer.

Where things stand, and the form of what programs print, is NVIDIA's, as far as it is public; the
programs themselves are a few bytes each.  No real Hopper board has a subnet manager; here they
have one, which routes their real cables, and whose configuration says what it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from ccverify.sim.fabric_dumps import (
    address_dump,
    key_dump,
    linear_dump,
    multicast_dump,
    partition_configuration,
    subnet_list,
    unicast_dump,
)
from ccverify.sim.host import SimAnswer, SimFile, SimHost
from ccverify.sim.manager import MANAGEMENT_GUID, PATHS, SimManager

__all__ = ["CLOCK_TICKS", "DUMPS", "manager_host", "partition_list"]

CLOCK_TICKS: Final = 100
"""Per second, in the start times of processes."""

DUMPS: Final = {
    "/var/log/nvlsm-subnet.lst": subnet_list,
    "/var/log/nvlsm.fdbs": unicast_dump,
    "/var/log/nvlsm-lfts.dump": linear_dump,
    "/var/log/nvlsm.mcfdbs": multicast_dump,
    "/var/log/nvlsm-pkeys.dump": key_dump,
    "/var/cache/nvlsm/guid2lid": address_dump,
    "/etc/nvlsm/partitions.conf": partition_configuration,
}
"""Where the subnet manager puts what it did; the name of the key tables is made up."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FM_PID, _NVLSM_AFTER, _PIDS_OF_A_RUN = 1804, 7, 1000
_NVLSM_TICKS_LATER = 150
_KERNEL = "6.8.0-60-generic"
_NVLSM_VERSION = "2025.06.6"
_RATES = {True: 53125, False: 26562}  # MB/s of a link: Blackwell, Hopper
_GPU_BYTES = 128  # of fmFabricPartitionGpuInfo_t
_LIST_VERSION = 1 << 24 | 12 + 64 * (12 + 16 * _GPU_BYTES)
_NOT_SUPPORTED, _NOT_CONNECTED = -3, -9


def manager_host(manager: SimManager) -> SimHost:
    """Return the host as it is now."""
    host = SimHost()
    started = int(manager.started.timestamp())
    installed = started - 86400
    host.put(_installed(manager), installed)
    host.put(_kernel_files(manager), int(manager.at.timestamp()))
    host.put({PATHS.state: _state(manager), PATHS.log: _log(manager)}, started + 5)
    host.put({path: dump(manager.board.fabric) for path, dump in DUMPS.items()}, started + 5)
    ticks = int((manager.started - manager.booted).total_seconds()) * CLOCK_TICKS
    pid = _pid(manager)
    if manager.running:
        _put_process(host, pid, (PATHS.manager, "-c", PATHS.config), ticks, started)
        if manager.build != manager.running_build:
            link = f"/proc/{pid}/exe"
            host.links[link] += " (deleted)"
            running = _program(PATHS.manager, _build(manager, manager.running_build))
            host.removed[link] = SimFile(running, installed)
    if manager.subnet_manager:
        words = (PATHS.subnet_manager, "-F", PATHS.subnet_config, "-B")
        _put_process(host, pid + _NVLSM_AFTER, words, ticks + _NVLSM_TICKS_LATER, started + 1)
    for path, program in _programs(manager).items():
        host.programs |= {path: program, path.rpartition("/")[2]: program}
    return host


# --- files ---------------------------------------------------------------------------------------


def _pid(manager: SimManager) -> int:
    return _FM_PID + _PIDS_OF_A_RUN * manager.restarts


def _installed(manager: SimManager) -> dict[str, bytes]:
    files = {
        PATHS.manager: _program(PATHS.manager, _build(manager, manager.build)),
        PATHS.tool: _program(PATHS.tool, "1"),
        "/usr/bin/systemctl": _program("/usr/bin/systemctl", "1"),
        PATHS.config: _config(manager),
        PATHS.subnet_manager: _program(PATHS.subnet_manager, _NVLSM_VERSION),
        PATHS.subnet_config: _subnet_config(manager),
    }
    if manager.definitions is not None:
        document = {
            "version": "1.0",
            "name": f"simulated {manager.board.model}",
            "time": "2026-05-01",
            "partitionInfo": [
                {"partitionId": number, "gpuModuleIds": list(modules)}
                for number, modules in manager.definitions.items()
            ],
        }
        files[PATHS.definitions] = _json(document)
    return files


def _program(path: str, build: str) -> bytes:
    return f"\x7fELF simulated {path} build {build}\n".encode()


def _build(manager: SimManager, number: str) -> str:
    return f"{manager.manager_version}-{number}"


def _config(manager: SimManager) -> bytes:
    lines = ["# Fabric Manager configuration (simulated)", ""]
    lines += (f"{key}={value}" for key, value in manager.config.items())
    return _text(lines)


def _subnet_config(manager: SimManager) -> bytes:
    lines = ["# NVLSM configuration (simulated)"]
    if not manager.board.blackwell:
        lines.append("# No real board of this model has a subnet manager.")
    lines += [
        f"guid 0x{MANAGEMENT_GUID:016x}",
        "plugin_name grpc_mgr",
        "dump_files_dir /var/log/",
        "partition_config_file /etc/nvlsm/partitions.conf",
    ]
    return _text(lines)


def _kernel_files(manager: SimManager) -> dict[str, bytes]:
    version = manager.board.driver
    driver = (
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  "
        "(simulated)",
        "GCC version:  gcc version 13.3.0 (simulated)",
    )
    booted = int(manager.booted.timestamp())
    return {
        "/proc/driver/nvidia/version": _text(driver),
        "/proc/sys/kernel/random/boot_id": _text([manager.boot_id]),
        "/proc/sys/kernel/osrelease": _text([_KERNEL]),
        "/proc/version": _text([f"Linux version {_KERNEL} (simulated)"]),
        "/proc/stat": _text(["cpu  1 0 1 1 0 0 0 0 0 0", f"btime {booted}"]),
    }


def _put_process(host: SimHost, pid: int, words: tuple[str, ...], ticks: int, started: int) -> None:
    """Add the directory of a process; see proc_pid_stat(5) for its fields."""
    command = words[0].rpartition("/")[2][:15]  # as long as the kernel keeps names
    first = f"{pid} ({command}) S 1 {pid} {pid} 0 -1 4194560"  # 9 fields, the start is number 22
    files = {
        "stat": f"{first} {'0 ' * 12}{ticks} {' '.join('0' * 30)}\n",
        "comm": f"{command}\n",
        "cmdline": "".join(f"{word}\0" for word in words),
        "cgroup": "0::/system.slice/nvidia-fabricmanager.service\n",
        "status": f"Name:\t{command}\nPid:\t{pid}\nUid:\t0\t0\t0\t0\n",
    }
    host.put({f"/proc/{pid}/{name}": text.encode() for name, text in files.items()}, started)
    host.links[f"/proc/{pid}/exe"] = words[0]


def _state(manager: SimManager) -> bytes:
    """The state file: its format is not public, so this is none of it."""
    active, since = sorted(manager.board.active), int(manager.started.timestamp())
    return _text([f"simulated state: partitions {active} since {since}"])


def _log(manager: SimManager) -> bytes:
    return _text([
        f"[{_MONTHS[when.month - 1]} {when:%d %Y %H:%M:%S}] [{level}] [tid {_FM_PID}] {text}"
        for when, level, text in manager.log
    ])  # fmt: skip


# --- commands ------------------------------------------------------------------------------------


_Program = Callable[[tuple[str, ...]], SimAnswer]


def _programs(manager: SimManager) -> dict[str, _Program]:
    version = f"Fabric Manager version is : {manager.manager_version}"
    return {
        PATHS.manager: _speaks(version),
        PATHS.tool: _partition_tool(manager),
        PATHS.subnet_manager: _speaks(f"OpenSM {_NVLSM_VERSION}"),
        "/usr/bin/systemctl": _service_manager(manager),
    }


def _speaks(version: str) -> _Program:
    def answer(words: tuple[str, ...]) -> SimAnswer:
        if {"-v", "-V", "--version"}.isdisjoint(words):
            return _refused("says its version")
        return SimAnswer(0, _text([version]))

    return answer


def _refused(what: str) -> SimAnswer:
    return SimAnswer(1, b"", f"this program is simulated, and only {what}\n")


def _partition_tool(manager: SimManager) -> _Program:
    """``fmpm``, NVIDIA's client of the Fabric Manager."""

    def answer(words: tuple[str, ...]) -> SimAnswer:
        if "-l" not in words:
            return _refused("lists partitions")
        if manager.running and manager.config["FABRIC_MODE"] == "1":
            return SimAnswer(0, _json(partition_list(manager)))
        problem = _NOT_SUPPORTED if manager.running else _NOT_CONNECTED
        text = f"Failed to get partition list. fmReturn: {problem}"
        return SimAnswer(problem & 0xFF, _text([text]))

    return answer


def partition_list(manager: SimManager) -> dict[str, Any]:
    """Return what ``fmpm -l`` prints."""
    partitions = manager.board.listing()
    return {
        "version": _LIST_VERSION,
        "numPartitions": len(partitions),
        "maxNumPartitions": 64,
        "partitionInfo": [
            _listed(manager, number, partitions[number]) for number in sorted(partitions)
        ],
    }


def _listed(manager: SimManager, number: int, modules: tuple[int, ...]) -> dict[str, Any]:
    links = 18 if len(modules) > 1 else 0
    gpu = {
        # Both are empty since H100: the module id alone says which GPU it is.
        "uuid": "",
        "pciBusId": "",
        "numNvLinksAvailable": links,
        "maxNumNvLinks": links,
        "nvlinkLineRateMBps": _RATES[manager.board.blackwell],
    }
    return {
        "partitionId": number,
        "isActive": int(number in manager.board.active),
        "numGpus": len(modules),
        "gpuInfo": [{"physicalId": module, **gpu} for module in modules],
    }


def _service_manager(manager: SimManager) -> _Program:
    """``systemctl show``; it knows one unit."""

    def answer(words: tuple[str, ...]) -> SimAnswer:
        if "show" not in words or not any("fabricmanager" in word for word in words):
            return _refused("shows one unit")
        known = {
            "LoadState": "loaded",
            "ActiveState": "active" if manager.running else "inactive",
            "MainPID": str(_pid(manager) if manager.running else 0),
            "NRestarts": str(manager.restarts),
        }
        names: list[str] = []
        for word, after in zip(words, (*words[1:], ""), strict=True):
            if word in ("-p", "--property"):
                names += after.split(",")
            elif word.startswith("--property="):
                names += word.partition("=")[2].split(",")
        shown = [name for name in known if not names or name in names]
        bare = "--value" in words
        return SimAnswer(0, _text([known[n] if bare else f"{n}={known[n]}" for n in shown]))

    return answer


def _text(lines: list[str] | tuple[str, ...]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _json(document: Any) -> bytes:
    """JSON in the style of fmpm: sorted, indented by three."""
    text = json.dumps(document, sort_keys=True, indent=3, separators=(",", " : "))
    return f"{text}\n".encode()
