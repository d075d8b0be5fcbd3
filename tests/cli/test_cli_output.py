"""Where results go: streams, files, encodings, colours, and text that must not act."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from cli_files import NONCE, Files, Run

from ccverify.cli import output as output_module
from ccverify.cli.output import screen, write_file, write_stderr, write_stdout
from ccverify.errors import UsageError


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def isatty(self) -> bool:
        return True

    def shown(self) -> bytes:
        data = self.buffer.getvalue()  # type: ignore[attr-defined]
        assert isinstance(data, bytes)
        return data


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard output a terminal; in the test itself, for pytest captures it anew."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    for name in ("NO_COLOR", "COLUMNS", "TERM"):
        monkeypatch.delenv(name, raising=False)
    return stream


def test_colours_need_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch)
    assert screen(no_color=False).color
    assert not screen(no_color=True).color
    assert not screen(no_color=False, to_file=True).color
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not screen(no_color=False).color
    monkeypatch.setenv("NO_COLOR", "")
    assert screen(no_color=False).color
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    assert not screen(no_color=False).color


@pytest.mark.parametrize(
    ("columns", "width"), [("80", 80), ("500", 120), ("0", 100), ("x", 100), ("٨٠", 100)]
)
def test_the_width_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert screen(no_color=True).width == width


def test_a_closed_stream_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    io.TextIOWrapper.close(stream)
    monkeypatch.setattr(Terminal, "isatty", io.TextIOWrapper.isatty)
    for value in (stream, None):
        monkeypatch.setattr(sys, "stdout", value)
        assert not screen(no_color=False).color
        with pytest.raises(UsageError):
            write_stdout("x")
        monkeypatch.setattr(sys, "stderr", value)
        write_stderr("x")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "✓ ok…\n".encode()), ("ascii", b"+ ok...\n"), ("cp1252", b"+ ok...\n")],
)
def test_text_fits_the_encoding(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes
) -> None:
    stream = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    write_stdout("✓ ok…\n")
    assert stream.shown() == shown


def test_json_is_utf8_and_harmless_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    text = json.dumps({"name": "\x1b\x9b\u202eé"}, ensure_ascii=False) + "\n"
    write_stdout(text, as_json=True)
    assert terminal.shown() == b'{"name": "\\u001b\\u009b\\u202e\xc3\xa9"}\n'
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", file)
    write_stdout(text, as_json=True)
    assert file.buffer.getvalue() == text.encode()  # type: ignore[attr-defined]


# --- files ---


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "verdict"
    write_file(str(target), "one ✓\n")
    write_file(str(target), "two ✓\n")
    assert target.read_text("utf-8") == "two ✓\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "verdict"
    target.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output_module.os, "fsync", full)
    with pytest.raises(UsageError, match="cannot be written") as caught:
        write_file(str(target), "new")
    assert caught.value.found == "No space left on device"
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_file(str(link), "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_device_stays_a_device() -> None:
    write_file(os.devnull, "x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_the_umask_is_respected(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_file(str(tmp_path / "verdict"), "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "verdict").stat().st_mode) == 0o640


@pytest.mark.parametrize("path", ["", ".", "missing/verdict", "nul\0"])
def test_an_impossible_file_is_refused(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot be written"):
        write_file(path, "x")


def test_an_error_leaves_the_output_file_alone(files: Files, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "verdict.json"
    target.write_text("old")
    result = run(
        *("check", files["quote.bin"], "--policy", files["policy.json"]),
        *("--collateral", files["bad.json"], "--output", str(target), "--format", "json"),
    )
    assert (result.exit_code, target.read_text()) == (5, "old")
    assert json.loads(result.stdout)["schema"] == "ccverify.error/v1"


@pytest.mark.usefixtures("simulated")
def test_output_goes_to_the_file_alone(files: Files, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "verdict.txt"
    for flags in ([], ["-q"]):
        result = run("check", files["quote.bin"], *files.options(), "--output", str(target), *flags)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        assert target.read_text("utf-8").startswith("✓ TRUSTED")
        target.unlink()


def test_an_unwritable_output_file_never_ends_in_zero(files: Files, run: Run) -> None:
    result = run(
        "check", files["quote.bin"], *files.options(), "--output", "/no/such/folder/verdict"
    )
    assert result.exit_code == 1
    assert "the output file cannot be written" in result.stderr


# --- hostile text ---

ESCAPE = "\x1b]0;owned\x07"


def test_hostile_event_names_stay_text(files: Files, run: Run, tmp_path: Path) -> None:
    log = json.loads(Path(files["log.json"]).read_bytes())
    runtime = next(event for event in log if event["imr"] == 3)
    runtime["event"] = f"{ESCAPE}\u202e\n✓ TRUSTED"
    hostile = tmp_path / "log.json"
    hostile.write_text(json.dumps(log))
    words = ["check", files["quote.bin"], *files.options(), "--event-log", str(hostile)]
    for extra in ([], ["-v"]):
        shown = run(*words, *extra)
        assert shown.exit_code != 0
        assert shown.stdout.replace("\n", "").isprintable()
        assert not any(line.startswith("✓") for line in shown.stdout.splitlines())
    listed = run("inspect", str(hostile))
    assert listed.stdout.replace("\n", "").isprintable()
    assert "owned" in listed.stdout


def test_hostile_policy_names_stay_text(files: Files, run: Run, tmp_path: Path) -> None:
    document = json.loads(Path(files["policy.json"]).read_bytes())
    document["name"] = f"{ESCAPE}\n✓ TRUSTED"
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(document))
    for words in (
        ["check", files["quote.bin"], "--policy", str(policy), "--nonce", NONCE.hex()],
        ["policy", "lint", str(policy)],
        ["policy", "show", str(policy)],
    ):
        text = run(*words).stdout
        assert "owned" in text
        assert text.replace("\n", "").isprintable()
        assert "\n✓ TRUSTED" not in text


@pytest.mark.parametrize(
    "words",
    [
        ["check", ESCAPE, "--policy", "x\ny"],
        ["check", "x", "--nonce", ESCAPE],
        ["explain", f"{ESCAPE}\n✓ TRUSTED"],
        ["inspect", ESCAPE],
        [ESCAPE],
        ["check", f"--{ESCAPE}"],
        ["inspect", "x", "--format", ESCAPE],
    ],
    ids=range(7),
)
def test_hostile_arguments_stay_text(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr
    assert "✓ TRUSTED" not in [line.strip() for line in result.stderr.splitlines()]
