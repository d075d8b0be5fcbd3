"""The group of commands: lazy, and the place where every error ends."""

from __future__ import annotations

import json

import click
import pytest
from cli_files import Files, Run

import ccverify
from ccverify.cli import explain as explain_module
from ccverify.cli.app import COMMANDS, cli, wants_json


def test_the_version_is_told(run: Run) -> None:
    for flag in ("--version", "-V"):
        result = run(flag)
        assert (result.exit_code, result.stdout) == (0, f"ccverify {ccverify.__version__}\n")


def test_help_lists_every_command(run: Run) -> None:
    for flag in ("--help", "-h"):
        result = run(flag)
        assert result.exit_code == 0
        for name, (_, line) in COMMANDS.items():
            assert f"  {name} " in result.stdout
            assert line in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"Usage: ccverify {name}" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["--nonsense"],
        ["check"],
        ["inspect", "a", "b"],
        ["policy"],
        ["policy", "x"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_in_1_not_in_clicks_2(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Usage: ccverify" in result.stderr


def test_wrong_use_is_json_when_json_was_asked_for(run: Run) -> None:
    for words in (["check", "--format", "json", "--nonsense"], ["nonsense", "--format=json"]):
        result = run(*words)
        problem = json.loads(result.stdout)
        assert (problem["code"], problem["exit_code"], result.exit_code) == ("USAGE", 1, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("check x --format json", True),
        ("check x --format=json", True),
        ("check x --format JSON", True),
        ("check x --format json --format table", False),
        ("check x --format", False),
        ("check -- --format json", False),
        ("check x", False),
    ],
)
def test_json_is_seen_before_parsing(words: str, expected: bool) -> None:
    assert wants_json(words.split()) is expected


def broken(_code: str) -> None:
    raise RuntimeError("\x1b]0;owned\x07 secret")


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_module, "find_check", broken)


@pytest.mark.usefixtures("bug")
def test_a_bug_is_one_report_without_traceback(run: Run) -> None:
    result = run("explain", "TDX-MRTD", CCVERIFY_DEBUG="")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: internal error: RuntimeError\n")
    assert "please report it" in result.stderr
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.usefixtures("bug")
def test_a_bug_shows_its_traceback_on_request(run: Run) -> None:
    result = run("explain", "TDX-MRTD", CCVERIFY_DEBUG="1")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_bug_is_json_when_json_was_asked_for(
    run: Run, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccverify.cli import judging

    def fail(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(judging, "check", fail)
    result = run("check", files["quote.bin"], *files.options(), "--format", "json")
    problem = json.loads(result.stdout)
    assert (problem["code"], problem["exit_code"], result.exit_code) == ("INTERNAL", 1, 1)
    assert problem["message"] == "internal error: ZeroDivisionError"


@pytest.mark.parametrize("error", [MemoryError, RecursionError, AssertionError, EOFError])
def test_no_exception_reaches_the_user(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(_code: str) -> None:
        raise error

    monkeypatch.setattr(explain_module, "find_check", fail)
    result = run("explain", "TDX-MRTD", CCVERIFY_DEBUG="")
    assert result.exit_code == 1
    assert f"internal error: {error.__name__}" in result.stderr


def test_an_interrupt_ends_in_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_code: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(explain_module, "find_check", interrupt)
    assert run("explain", "TDX-MRTD").exit_code == 130
