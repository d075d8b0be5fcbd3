"""The host of a simulated Fabric Manager, as the collector of manager's statements sees hosts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ccverify.collect.manager_host import CommandResult, FileStatus, ManagerHost
from ccverify.sim.host import SimHost
from ccverify.sim.manager import SimManager
from ccverify.sim.manager_host import CLOCK_TICKS, manager_host

__all__ = ["host_of"]


def host_of(manager: SimManager) -> ManagerHost:
    """Return the host of a simulated manager as it is now; its clock shows UTC."""
    host = manager_host(manager)

    def run(command: tuple[str, ...], _: float) -> CommandResult:
        answer = host.run(command)
        return CommandResult(answer.status, answer.output, answer.errors)

    return ManagerHost(_Files(host), run, CLOCK_TICKS)


@dataclass(frozen=True, slots=True)
class _Files:
    """Its file system."""

    host: SimHost

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted."""
        return self.host.names(path.as_posix())

    def link(self, path: Path) -> str:
        """Return where a link leads."""
        return self.host.link(path.as_posix())

    def status(self, path: Path) -> FileStatus:
        """Return what is known of a regular file."""
        found = self.host.status(path.as_posix())
        return FileStatus(found.size, found.modified, found.identity)

    def read(self, path: Path, limit: int) -> bytes:
        """Return all bytes of a regular file that is no link."""
        return self.host.read(path.as_posix(), limit)

    def tail(self, path: Path, limit: int) -> bytes:
        """Return the last bytes of a regular file that is no link."""
        return self.host.tail(path.as_posix(), limit)

    def sha384(self, path: Path, limit: int) -> bytes:
        """Return the digest of a regular file."""
        return self.host.sha384(path.as_posix(), limit)
