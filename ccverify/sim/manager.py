"""A simulated Fabric Manager: what it manages, how it was started, and what is wrong with it.

    manager = SimManager(sim_board("B300", [2, 3]))
    manager.service_vm()          # the TD that it runs in, on the host of the tenants
    manager_host(manager)         # ccverify.sim.manager_host: files, processes, commands
    manager.restart(later)        # a fault

Everything can be changed; faults of the board itself are methods of `SimBoard`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ccverify.sim.board import SimBoard
from ccverify.sim.defaults import DEFAULT_BOOT_EVENTS, DEFAULT_TIME
from ccverify.sim.eventlog import CcelEvent
from ccverify.sim.machine import SimImage, SimMachine
from ccverify.sim.nvidia.node import SimNode
from ccverify.sim.operator import SimOperator
from ccverify.sim.tpm import SimTpm

__all__ = ["MANAGEMENT_GUID", "PATHS", "SERVICE_IMAGE", "ManagerPaths", "SimManager"]

MANAGEMENT_GUID: Final = 0x53494D4D00000001
"""Of the port that the subnet manager speaks through."""

_UP = timedelta(days=20)
_STARTED_AFTER = timedelta(seconds=42)


@dataclass(frozen=True, slots=True)
class ManagerPaths:
    """Where things stand on the manager's host."""

    manager: str = "/usr/bin/nv-fabricmanager"
    config: str = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
    definitions: str = "/usr/share/nvidia/nvswitch/partitions.json"
    state: str = "/var/tmp/fabricmanager.state"  # noqa: S108  # the name the packages use
    log: str = "/var/log/fabricmanager.log"
    tool: str = "/usr/bin/fmpm"
    subnet_manager: str = "/opt/nvidia/nvlsm/sbin/nvlsm"
    subnet_config: str = "/usr/share/nvidia/nvlsm/nvlsm.conf"


PATHS: Final = ManagerPaths()


def _service_events() -> Iterator[CcelEvent]:
    for event in DEFAULT_BOOT_EVENTS:
        if event.data.startswith(b"kernel_cmdline"):
            line = b"kernel_cmdline: console=hvc0 root=/dev/vda1 ro fabric\0"
            yield CcelEvent(event.mr_index, event.event_type, line)
        elif event.digest is not None and event.mr_index > 1:  # an image that is loaded
            own = hashlib.sha384(b"fabric service VM" + event.digest).digest()
            yield replace(event, digest=own)
        else:
            yield event


SERVICE_IMAGE: Final = SimImage(boot_events=tuple(_service_events()))
"""What the manager's own TD is started from: another kernel (RTMR1, RTMR2) than tenants have."""


@dataclass(slots=True)
class SimManager:
    """A manager and its host.

    Attributes:
        board: what it manages.
        at: the time it is looked at.
        version: of the Fabric Manager; None for that of the driver.
        booted: when the host was.
        boots: number of this boot; the boot id follows from it.
        started: when the Fabric Manager was.
        restarts: how often the service manager has restarted it.
        config: keys of ``fabricmanager.cfg`` and their values.
        running, subnet_manager: whether the Fabric Manager and NVLSM run.
        build: what the file on disk was built from.
        running_build: what the running program was.
        log: lines of the Fabric Manager's log: when, level, text.
        definitions: what the partition definition file lists, id → module ids; None: there is no
            such file, as with the default partitions.
    """

    board: SimBoard
    at: datetime = DEFAULT_TIME
    version: str | None = None
    booted: datetime = DEFAULT_TIME - _UP
    boots: int = 1
    started: datetime = DEFAULT_TIME - _UP + _STARTED_AFTER
    restarts: int = 0
    config: dict[str, str] = field(default_factory=dict)
    running: bool = True
    subnet_manager: bool = True
    build: str = "1"
    running_build: str = "1"
    log: list[tuple[datetime, str, str]] = field(default_factory=list)
    definitions: dict[int, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        board = self.board
        if board.custom:
            self.definitions = dict(board.partitions)
        self.config = {
            "LOG_LEVEL": "4",
            "LOG_FILE_NAME": PATHS.log,
            "LOG_APPEND_TO_LOG": "1",
            "LOG_FILE_SIZE": "1024",
            "LOG_USE_SYSLOG": "0",
            "LOG_MAX_ROTATE_COUNT": "3",
            "DAEMONIZE": "1",
            "BIND_INTERFACE_IP": "127.0.0.1",
            "STARTING_TCP_PORT": "16000",
            "UNIX_SOCKET_PATH": "",
            "FABRIC_MODE": str(int(board.shared)),
            "FABRIC_MODE_RESTART": "0",
            "STATE_FILE_NAME": PATHS.state,
            "FM_CMD_BIND_INTERFACE": "127.0.0.1",
            "FM_CMD_PORT_NUMBER": "6666",
            "FM_CMD_UNIX_SOCKET_PATH": "",
            "FM_STAY_RESIDENT_ON_FAILURES": "0",
            "ACCESS_LINK_FAILURE_MODE": "0",
            "TRUNK_LINK_FAILURE_MODE": "0",
            "NVSWITCH_FAILURE_MODE": "0",
            "ABORT_CUDA_JOBS_ON_FM_EXIT": "1",
            "TOPOLOGY_FILE_PATH": "/usr/share/nvidia/nvswitch",
            "DATABASE_PATH": "/usr/share/nvidia/nvswitch",
        }
        if board.blackwell:
            self.config |= {
                "PARTITION_RAIL_POLICY": "symmetric",
                "FM_SM_IPC_INTERFACE": "/var/run/nvidia-fabricmanager/fm_sm_ipc.socket",
                "FM_SM_MGMT_PORT_GUID": f"0x{MANAGEMENT_GUID:016x}",
            }
        if board.custom:
            self.config["SHARED_PARTITION_DEFINITION_FILE"] = PATHS.definitions
        self._log_start()

    # --- what stands there -----------------------------------------------------------------------

    @property
    def manager_version(self) -> str:
        """Version of the Fabric Manager."""
        return self.version or self.board.driver

    @property
    def boot_id(self) -> str:
        """Of the host's current boot, a UUID."""
        seed = f"ccverify simulation: boot {self.boots} of {self.board.label}"
        text = hashlib.sha256(seed.encode()).hexdigest()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"

    def service_vm(self) -> SimMachine:
        """Return the TD that the manager runs in, on the host of the tenants."""
        return SimMachine(
            name=f"{self.board.name}/manager",
            platform=self.board.platform,
            node=SimNode(at=self.at, gpus=()),
            image=SERVICE_IMAGE,
        )

    def tpm(self) -> SimTpm:
        """Return the TPM of the host, where that is no TD."""
        since = self.at - self.booted
        return SimTpm(
            label=f"{self.board.label}/manager",
            reset_count=self.boots,
            clock=int(since.total_seconds() * 1000),
        )

    def operator(self) -> SimOperator:
        """Return who operates the board."""
        return SimOperator()

    def _log_start(self) -> None:
        board = self.board
        self.log += [
            (self.started, "INFO", f"Fabric Manager version {self.manager_version}"),
            (self.started, "INFO", f"Fabric Mode: {self.config['FABRIC_MODE']}"),
            (self.started, "INFO", f"Detected 8 GPUs on HGX {board.model} (simulated)"),
        ]
        self.log += (
            (self.started, "INFO", f"Activated fabric partition {number}")
            for number in sorted(board.active)
        )

    # --- faults ----------------------------------------------------------------------------------

    def restart(self, when: datetime, *, lose: bool = False) -> None:
        """Restart the Fabric Manager.

        Args:
            when: it started again.
            lose: whether every partition is left defined and inactive.
        """
        self.started = when
        self.restarts += 1
        for tenant in self.board.tenants if lose else ():
            self.board.leave_inactive(tenant)
        if lose:
            self.board.active.clear()
        self.running_build = self.build
        self._log_start()

    def reboot(self, when: datetime) -> None:
        """Reboot the host; partitions are active again afterwards."""
        self.booted, self.started = when, when + _STARTED_AFTER
        self.boots += 1
        self.restarts = 0
        self.running_build = self.build
        self._log_start()

    def set_rail_policy(self, policy: str = "greedy") -> None:
        """Change ``PARTITION_RAIL_POLICY``."""
        self.config["PARTITION_RAIL_POLICY"] = policy

    def bind_everywhere(self) -> None:
        """Let anybody on the network give the manager commands."""
        self.config["FM_CMD_BIND_INTERFACE"] = "0.0.0.0"  # noqa: S104  # a fault

    def set_mode(self, mode: int) -> None:
        """Change ``FABRIC_MODE``."""
        self.config["FABRIC_MODE"] = str(mode)

    def install(self, version: str) -> None:
        """Install and run another version of the Fabric Manager."""
        self.version = version
        self.log.clear()
        self._log_start()

    def replace_binary(self) -> None:
        """Put another file in the place of the running program."""
        self.build = f"{self.build}.patched"

    def log_errors(self, *texts: str) -> None:
        """Append errors to the log."""
        since = max(self.started, self.at - timedelta(hours=1))
        self.log += ((since, "ERROR", text) for text in texts or ("simulated error",))

    def stop(self) -> None:
        """Stop the Fabric Manager; what it set up stays."""
        self.running = False

    def stop_subnet_manager(self) -> None:
        """Stop NVLSM; what it set up stays."""
        self.subnet_manager = False
