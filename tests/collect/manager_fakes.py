"""A manager's host made of a dictionary, on which everything can go wrong as on a real one."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ccverify.collect.manager_host import CommandResult, FileStatus, ManagerHost

BOOT_ID = "0f9a4c1e-58d2-4b6a-9a57-3f0c7e2d1b88"
BTIME = 1_790_000_000
CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
NVLSM_CONFIG = "/usr/share/nvidia/nvlsm/nvlsm.conf"
FM, SM = "/usr/bin/nv-fabricmanager", "/opt/nvidia/nvlsm/sbin/nvlsm"
FM_PID, SM_PID = 1804, 1795
LOG = "/var/log/fabricmanager.log"
PARTITIONS = b'{\n   "numPartitions" : 0\n}\n'

Answer = CommandResult | OSError | Callable[[tuple[str, ...]], CommandResult]


def fails(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FakeFiles:
    """Path → bytes, or the error that any use of it gives; links apart."""

    def __init__(self, files: Mapping[str, bytes | OSError]) -> None:
        self.files = dict(files)
        self.links: dict[str, str | OSError] = {}
        self.modified: dict[str, int] = {}
        self.reads: list[str] = []
        self.changing: set[str] = set()

    def names(self, path: Path) -> list[str]:
        below = f"{path}/"
        names = {each[len(below) :].split("/")[0] for each in (*self.files, *self.links)
                 if each.startswith(below)}  # fmt: skip
        if not names:
            raise fails(errno.ENOENT)
        return sorted(names)

    def link(self, path: Path) -> str:
        if str(path) not in self.links:
            raise fails(errno.EINVAL if str(path) in self.files else errno.ENOENT)
        found = self.links[str(path)]
        if isinstance(found, OSError):
            raise found
        return found

    def status(self, path: Path) -> FileStatus:
        data = self._get(path, follow=True)
        if str(path) in self.changing:
            self.modified[str(path)] = self.modified.get(str(path), 0) + 1
        return FileStatus(len(data), self.modified.get(str(path), BTIME), (1, hash(str(path))))

    def read(self, path: Path, limit: int) -> bytes:
        self.reads.append(str(path))
        data = self._get(path)
        if len(data) > limit:
            raise fails(errno.EFBIG)
        return data

    def tail(self, path: Path, limit: int) -> bytes:
        return self._get(path)[-limit:]

    def sha384(self, path: Path, limit: int) -> bytes:
        return hashlib.sha384(self._get(path, follow=True)).digest()

    def _get(self, path: Path, *, follow: bool = False) -> bytes:
        name = str(path)
        target = self.links.get(name)
        if follow and isinstance(target, OSError):
            raise target
        if follow and name not in self.files and target is not None:
            name = target
        elif name in self.links and name not in self.files:
            raise fails(errno.ELOOP)
        found = self.files.get(name, fails(errno.ENOENT))
        if isinstance(found, OSError):
            raise found
        return found


class FakeHost:
    """A host on which both programs run, to be spoilt by tests."""

    def __init__(self) -> None:
        self.files = FakeFiles(_healthy())
        self.files.links = {f"/proc/{FM_PID}/exe": FM, f"/proc/{SM_PID}/exe": SM}
        self.commands: dict[str, Answer] = {
            FM: CommandResult(0, b"Fabric Manager version is : 610.57.04\nBuild Info - Branch: x"),
            SM: CommandResult(0, b"-----\nOpenSM 2025.10.14_42349a2_821fcee\n"),
            "systemctl": CommandResult(0, b"MainPID=1804\nNRestarts=2\n"),
            "fmpm": CommandResult(0, PARTITIONS),
        }
        self.ran: list[tuple[str, ...]] = []

    def run(self, words: tuple[str, ...], seconds: float) -> CommandResult:
        self.ran.append(words)
        answer = self.commands.get(words[0], fails(errno.ENOENT))
        if isinstance(answer, OSError):
            raise answer
        return answer if isinstance(answer, CommandResult) else answer(words)

    @property
    def host(self) -> ManagerHost:
        return ManagerHost(self.files, self.run, 100)

    def put(self, path: str, data: bytes | OSError) -> None:
        self.files.files[path] = data

    def remove(self, *paths: str) -> None:
        for path in paths:
            self.files.files.pop(path, None)
            self.files.links.pop(path, None)

    def stop(self, pid: int) -> None:
        self.remove(*[p for p in (*self.files.files, *self.files.links)
                      if p.startswith(f"/proc/{pid}/")])  # fmt: skip


def stat_line(pid: int, ticks: int, name: str = "nv-fabricmanage") -> bytes:
    return f"{pid} ({name}) S 1 {'0 ' * 17}{ticks} 0 0\n".encode()


def process(pid: int, ticks: int, name: str, *words: str) -> dict[str, bytes | OSError]:
    at = f"/proc/{pid}"
    return {
        f"{at}/stat": stat_line(pid, ticks, name),
        f"{at}/comm": f"{name}\n".encode(),
        f"{at}/cmdline": "".join(f"{word}\0" for word in words).encode(),
        f"{at}/cgroup": b"0::/system.slice/nvidia-fabricmanager.service\n",
        f"{at}/status": b"Name:\tx\nUid:\t0\t0\t0\t0\n",
    }


def _healthy() -> dict[str, bytes | OSError]:
    return {
        "/proc/sys/kernel/random/boot_id": f"{BOOT_ID}\n".encode(),
        "/proc/sys/kernel/osrelease": b"6.8.0-60-generic\n",
        "/proc/stat": f"cpu 1 2 3\nbtime {BTIME}\nprocesses 9\n".encode(),
        "/proc/driver/nvidia/version": b"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  "
        b"610.57.04  Release Build\n",
        **process(FM_PID, 4200, "nv-fabricmanage", FM, "-c", CONFIG, "-g", "0x7425540300353de9"),
        **process(SM_PID, 4100, "nvlsm", SM, "-F", NVLSM_CONFIG, "-B", "-g", "0x7425540300353de9"),
        FM: b"\x7fELF manager",
        SM: b"\x7fELF subnet manager",
        CONFIG: b"# comment\nFABRIC_MODE=1\nSTATE_FILE_NAME=/var/tmp/fm.state\n"
        b"SHARED_PARTITION_DEFINITION_FILE=/etc/partitions.json\nLOG_FILE_NAME=/var/log/fm.log\n",
        "/etc/partitions.json": b'{"version": 1}',
        "/var/tmp/fm.state": b"state",
        "/var/log/fm.log": b"[Sep 21 2026 14:14:00] [INFO] [tid 1] started\n",
        NVLSM_CONFIG: b"guid 0x7425540300353de9\nm_key 0x0000000000000000\n"
        b"dump_files_dir /var/dumps\npartition_config_file /etc/nvlsm/parts.conf\n",
        "/var/dumps/nvlsm-subnet.lst": b"subnet",
        "/var/dumps/nvlsm.fdbs": b"fdbs",
        "/var/dumps/nvlsm-lfts.dump": b"lfts",
        "/var/dumps/nvlsm.mcfdbs": b"",
        "/var/dumps/nvlsm-pkeys.dump": b"pkeys",
        "/var/cache/nvlsm/guid2lid": b"addresses",
        "/etc/nvlsm/parts.conf": b"parts",
    }  # fmt: skip
