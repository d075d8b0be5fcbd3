"""A helper process or a command: started clean, bounded in time and output, killed whole.

It gets an environment of a few named variables, a current directory of its own that is removed
afterwards, and a process group, so that nothing it started outlives it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ccverify.collect.model import Ask

__all__ = [
    "MAX_LINE_BYTES",
    "MAX_OUTPUT_BYTES",
    "Ended",
    "Finished",
    "run_bytes",
    "run_child",
    "script_path",
]

MAX_LINE_BYTES: Final = 256 * 1024
MAX_OUTPUT_BYTES: Final = 8 * 1024 * 1024
_KEPT_ERRORS: Final = 4096
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")
_PIECE: Final = 65536


@dataclass(frozen=True, slots=True)
class Finished:
    """How the process ended.

    Attributes:
        lines: standard output, line by line, without line ends.
        errors: the end of standard error.
        status: its exit status, negative for a signal.
        problem: ``timeout``, ``output`` (a limit was passed), or None.
    """

    lines: tuple[bytes, ...]
    errors: str
    status: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """How the process ended, its output as it came.

    Attributes:
        output: standard output.
        errors: the end of standard error.
        status: its exit status, negative for a signal.
        problem: ``timeout``, ``output`` (`MAX_OUTPUT_BYTES` were passed), or None.
    """

    output: bytes
    errors: str
    status: int
    problem: str | None


def run_child(command: Sequence[str], request: bytes, ask: Ask) -> Finished:
    """Run a helper that answers in lines; arguments and errors as of `run_bytes`.

    A last line that was not ended, or a line longer than `MAX_LINE_BYTES`, is a problem with the
    output.
    """
    ended = run_bytes(command, request, ask)
    problem = ended.problem
    lines = ended.output.split(b"\n")
    if problem is None and lines.pop():
        problem = "output"
    if any(len(line) > MAX_LINE_BYTES for line in lines):
        problem = problem or "output"
    return Finished(tuple(lines), ended.errors, ended.status, problem)


def run_bytes(command: Sequence[str], request: bytes, ask: Ask) -> Ended:
    """Run `command` until it ends, or until the deadline of `ask`.

    Args:
        command: program and arguments; a program that is no path is looked for in the usual
            directories.
        request: written to its standard input, which is then closed; at most a pipe's buffer.
        ask: for the deadline.

    Raises:
        OSError: the program cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="ccverify-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(  # noqa: S603 - the user names the interpreter
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
        )
        try:
            return _conduct(process, request, ask)
        finally:
            _kill_group(process)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _environment(folder: str) -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    own = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return {**kept, **own, "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # The group outlives its leader if the leader left children behind.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _conduct(process: subprocess.Popen[bytes], request: bytes, ask: Ask) -> Ended:
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise AssertionError("all three are pipes")
    with contextlib.suppress(BrokenPipeError):
        stdin.write(request)
        stdin.close()
    output, errors = bytearray(), bytearray()
    problem = _read(stdout, stderr, output, errors, ask)
    if problem is None:
        try:
            process.wait(timeout=ask.remaining)
        except subprocess.TimeoutExpired:
            problem = "timeout"
    if problem is not None:
        _kill_group(process)
    text = bytes(errors).decode("utf-8", "replace")
    return Ended(bytes(output), text, process.wait(), problem)


def _read(
    stdout: IO[bytes], stderr: IO[bytes], output: bytearray, errors: bytearray, ask: Ask
) -> str | None:
    """Read both pipes to their ends; what stopped it earlier, if anything did."""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        selector.register(stderr, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(ask.remaining)
            if not ready:
                return "timeout"
            for key, _ in ready:
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is stderr:
                    errors += piece
                    del errors[:-_KEPT_ERRORS]
                else:
                    output += piece
                    if len(output) > MAX_OUTPUT_BYTES:
                        return "output"
    return None


def script_path(name: str) -> str:
    """The path of a script beside this module."""
    return str(Path(__file__).with_name(name))
