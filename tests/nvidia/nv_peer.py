"""The client of `nv_peer_process.py`: NVIDIA's Python verifiers in a process of their own.

``CCVERIFY_NVIDIA_PEER`` names the interpreter of an environment in which nv-local-gpu-verifier
2.7.3 is installed (for switches nv-attestation-sdk 2.7.3 too).  Without it the interpreter that
runs the tests is asked, should they be installed there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VARIABLE = "CCVERIFY_NVIDIA_PEER"
ABSENT = (
    f"nv-local-gpu-verifier is not installed: set {VARIABLE} to the interpreter of an environment "
    "that has it"
)


def interpreter() -> str | None:
    """The Python that has NVIDIA's verifier; None if there is none."""
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    found = importlib.util.find_spec("verifier")
    return sys.executable if found and importlib.util.find_spec("verifier.attestation") else None


class Peer:
    """One running process; use it as a context."""

    def __init__(self, python: str) -> None:
        self._folder = tempfile.TemporaryDirectory()  # they write logs where they are started
        self._complaints = Path(self._folder.name, "stderr")
        with self._complaints.open("w") as complaints:
            self._process = subprocess.Popen(
                [python, str(Path(__file__).with_name("nv_peer_process.py"))],
                cwd=self._folder.name,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def ask(self, question: str, **details: Any) -> dict[str, Any]:
        """Put one question; an exception of theirs comes back as ``{"error": ...}``."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # then the answer is missing, as below
            print(json.dumps({"ask": question, **details}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            status, said = self._process.wait(), self._complaints.read_text().splitlines()
            raise RuntimeError(f"the peer ended with status {status}: {' '.join(said[-1:])}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()
        self._folder.cleanup()
