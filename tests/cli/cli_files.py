"""Types and values that the tests of the command line share; the files are in conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from click.testing import Result

NONCE = bytes(range(32))

Run = Callable[..., Result]


@dataclass(frozen=True)
class Files:
    """Everything `ccverify check` reads, in one folder."""

    folder: Path
    at: str
    root_der: bytes

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def options(self, *, policy: str = "policy.json") -> list[str]:
        """The options under which the good quote is trusted, given the simulator's root."""
        return [
            *("--policy", self[policy], "--collateral", self["collateral.json"]),
            *("--nonce", NONCE.hex(), "--at", self.at),
        ]
