"""The command line as its own process: what is imported, pipes, signals, encodings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_files import Files

import ccverify

ROOT = Path(ccverify.__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "ccverify"]


def environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "CCVERIFY_DEBUG")}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def start(*words: str, stdin: bytes = b"", **changes: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *words],
        input=stdin,
        capture_output=True,
        env=environment(**changes),
        check=False,
    )


def test_demo_runs() -> None:
    result = start("demo", PYTHONIOENCODING="utf-8")
    assert (result.returncode, result.stderr) == (0, b"")
    assert "✗ UNTRUSTED" in result.stdout.decode("utf-8")


def test_symbols_become_ascii_where_they_must() -> None:
    result = start("demo", PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert result.stdout.isascii()
    assert b"   + TRUSTED (SIMULATED)" in result.stdout
    assert b"   x UNTRUSTED (SIMULATED)" in result.stdout


def test_same_arguments_same_bytes(files: Files) -> None:
    words = ["check", files["quote.bin"], *files.options(), "--format", "json"]
    first, second = (start(*words, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first.returncode == second.returncode == 3
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)["exit_code"] == 3


def test_a_reader_that_goes_away_changes_nothing(files: Files) -> None:
    for words in (["check", files["quote.bin"], *files.options(), "-v"], ["explain"]):
        expected = start(*words).returncode
        process = subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
        process.stderr.close()
        assert (process.wait(), told) == (expected, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["table", "json"])
def test_a_full_disk_never_ends_in_zero(form: str, files: Files) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [*COMMAND, "inspect", files["quote.bin"], "--format", form],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert result.returncode == 1
    assert b"could not be written to standard output" in result.stderr
    assert b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_interrupted_process_ends_in_130(files: Files, tmp_path: Path) -> None:
    fifo = tmp_path / "policy"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*COMMAND, "check", files["quote.bin"], "--policy", str(fifo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        # A shell that runs these tests in the background has made its children deaf to SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # Opening the pipe returns when the process has opened it too: now it waits for a policy.
    with open(fifo, "wb"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


_IMPORTS = """
import sys, types
package = types.ModuleType("ccverify")
package.__path__ = [sys.argv[1]]
sys.modules["ccverify"] = package
from ccverify.cli.app import cli
assert cli(sys.argv[2:], standalone_mode=False) == 0
print(*sorted(sys.modules), file=sys.stderr)
"""


def imported_by(*words: str, before: str = _IMPORTS) -> set[str]:
    """Modules a command loads, whatever the package itself re-exports."""
    result = subprocess.run(
        [sys.executable, "-c", before, str(ROOT / "ccverify"), *words],
        capture_output=True,
        env=environment(),
        check=True,
        text=True,
    )
    return set(result.stderr.split())


def test_help_loads_no_command_and_no_cryptography() -> None:
    loaded = imported_by("--help")
    for name in ("cryptography", "jsonschema", "yaml", "rich", "ccverify.cli.check"):
        assert name not in loaded
    assert "ccverify.cli.app" in loaded


def test_explain_loads_no_cryptography() -> None:
    assert not {"cryptography", "jsonschema", "yaml", "rich"} & imported_by("explain", "TDX-MRTD")


def test_check_loads_only_what_it_uses(files: Files) -> None:
    loaded = imported_by("check", "--help")
    assert not {"rich", "yaml", "jsonschema", "ccverify.sim"} & loaded
    judged = _IMPORTS.replace("== 0", "== 3")
    loaded = imported_by("check", files["quote.bin"], *files.options(), before=judged)
    assert not {"rich", "yaml", "httpx", "ccverify.sim", "ccverify.cli.demo"} & loaded
    assert "cryptography" in loaded
