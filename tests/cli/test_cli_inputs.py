"""Arguments and files: each mistake has an exit code and says what would be right."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_files import NONCE, Files, Run
from hypothesis import given
from hypothesis import strategies as st

from ccverify.cli.evidence_files import EVIDENCE
from ccverify.cli.inputs import (
    COLLATERAL,
    EVENT_LOG,
    POLICY,
    TRUST_ROOT,
    parse_hex,
    parse_nonce_file,
    parse_time,
)
from ccverify.cli.inputs import (
    NONCE as NONCE_SOURCE,
)
from ccverify.errors import UsageError
from ccverify.tdx.ccel import MAX_CCEL_BYTES
from ccverify.tdx.collateral import MAX_PACK_BYTES
from ccverify.tdx.dstack_log import MAX_DSTACK_LOG_BYTES
from ccverify.tdx.quote import MAX_QUOTE_BYTES


def problem_of(run: Run, *arguments: str, stdin: bytes | None = None) -> dict[str, object]:
    """The error object; also checks that words on standard error say the same."""
    result = run(*arguments, "--format", "json", stdin=stdin)
    problem: dict[str, object] = json.loads(result.stdout)
    assert problem["schema"] == "ccverify.error/v1"
    assert problem["exit_code"] == result.exit_code
    assert str(problem["message"]) in result.stderr
    assert "Traceback" not in result.stderr
    words = run(*arguments, stdin=stdin)
    assert (words.exit_code, words.stdout) == (result.exit_code, "")
    assert words.stderr == result.stderr
    return problem


def test_limits_are_not_tighter_than_the_parsers() -> None:
    assert EVIDENCE.limit >= 4 * MAX_QUOTE_BYTES
    assert EVENT_LOG.limit >= max(MAX_CCEL_BYTES, MAX_DSTACK_LOG_BYTES)
    assert COLLATERAL.limit >= MAX_PACK_BYTES


FILE_OPTIONS = {
    "--policy": (POLICY, 1),
    "--collateral": (COLLATERAL, 5),
    "--what-if": (COLLATERAL, 5),
    "--event-log": (EVENT_LOG, 2),
    "--nonce-file": (NONCE_SOURCE, 1),
    "--insecure-trust-root": (TRUST_ROOT, 1),
}


def words_with(files: Files, option: str, path: str) -> list[str]:
    """A good command line in which one file is another."""
    words = ["check", files["quote.bin"], *files.options()]
    if option == "FILE":
        words[1] = path
    elif option in words:
        words[words.index(option) + 1] = path
    else:
        if option == "--nonce-file":
            at = words.index("--nonce")
            del words[at : at + 2]
        words += [option, path]
    return words


@pytest.mark.parametrize("option", ["FILE", *FILE_OPTIONS])
def test_a_missing_file(files: Files, run: Run, option: str) -> None:
    problem = problem_of(run, *words_with(files, option, "/no/such/file"))
    assert problem["exit_code"] == 1
    assert "does not exist" in str(problem["message"])
    assert problem["found"] == "/no/such/file"
    assert problem["expected"]
    assert problem["hint"]


# A folder of collateral is a store.
@pytest.mark.parametrize(
    "option", ["FILE", *(o for o in FILE_OPTIONS if o not in ("--collateral", "--what-if"))]
)
def test_a_directory(files: Files, run: Run, option: str) -> None:
    problem = problem_of(run, *words_with(files, option, str(files.folder)))
    assert problem["exit_code"] == 1
    assert "is a directory" in str(problem["message"])
    assert problem["hint"] == "name one file in it"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("option", ["FILE", *FILE_OPTIONS])
def test_a_file_without_permission(files: Files, run: Run, option: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0)
    problem = problem_of(run, *words_with(files, option, str(secret)))
    assert problem["exit_code"] == 1
    assert "may not be read" in str(problem["message"])


@pytest.mark.parametrize("option", FILE_OPTIONS)
def test_an_empty_file(files: Files, run: Run, option: str) -> None:
    source, code = FILE_OPTIONS[option]
    problem = problem_of(run, *words_with(files, option, files["empty"]))
    assert problem["exit_code"] == code
    assert problem["message"] == f"{source.name} is empty"
    assert problem["where"] == files["empty"]


@pytest.mark.parametrize("option", ["FILE", *FILE_OPTIONS])
def test_an_endless_file(files: Files, run: Run, option: str) -> None:
    """No more than the limit is read, or this test would never end."""
    source, code = FILE_OPTIONS.get(option, (EVIDENCE, 2))
    problem = problem_of(run, *words_with(files, option, "/dev/zero"))
    assert problem["exit_code"] == code
    assert problem["message"] == f"{source.name} is too large"
    assert str(source.limit) in str(problem["expected"])


def test_a_file_of_exactly_the_limit_is_read(files: Files, run: Run, tmp_path: Path) -> None:
    padded = tmp_path / "policy.json"
    text = Path(files["policy.json"]).read_bytes()
    padded.write_bytes(text.ljust(POLICY.limit))
    assert run("policy", "show", str(padded)).exit_code == 0
    padded.write_bytes(text.ljust(POLICY.limit + 1))
    assert "too large" in run("policy", "show", str(padded)).stderr


MALFORMED = {
    "--policy": (b"schema: ccverify.policy/v1\ntdx: {tcp: {}}\n", 1, "POLICY-FORMAT"),
    "--collateral": (b'{"schema": "ccverify.collateral/v1"}', 5, "COLLATERAL-FORMAT"),
    "--what-if": (b"[]", 5, "COLLATERAL-FORMAT"),
    "--insecure-trust-root": (b"-----BEGIN CERTIFICATE-----\nAAAA\n", 1, "TRUST-ANCHOR"),
    "--nonce-file": (b"too short", 1, "USAGE"),
}


@pytest.mark.parametrize("option", MALFORMED)
def test_a_malformed_file_is_named(files: Files, run: Run, option: str, tmp_path: Path) -> None:
    data, exit_code, code = MALFORMED[option]
    bad = tmp_path / "bad"
    bad.write_bytes(data)
    problem = problem_of(run, *words_with(files, option, str(bad)))
    assert (problem["exit_code"], problem["code"]) == (exit_code, code)
    assert str(problem["where"]).startswith(str(bad))


def test_a_mistyped_policy_key_has_a_suggestion(files: Files, run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(MALFORMED["--policy"][0])
    result = run(*words_with(files, "--policy", str(bad)))
    assert "did you mean 'tcb'?" in result.stderr
    assert f"{bad}: policy.tdx" in result.stderr


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("option", ["FILE", "--policy", "--collateral", "--event-log"])
def test_any_one_input_may_be_standard_input(files: Files, run: Run, option: str) -> None:
    name = {
        "FILE": "quote.bin",
        "--policy": "policy.json",
        "--collateral": "collateral.json",
        "--event-log": "log.json",
    }[option]
    data = Path(files[name]).read_bytes()
    assert run(*words_with(files, option, "-"), stdin=data).exit_code == 0


def test_standard_input_is_taken_once(files: Files, run: Run) -> None:
    words = words_with(files, "--collateral", "-")
    words[1] = "-"
    problem = problem_of(run, *words, stdin=b"x")
    assert problem["message"] == "standard input can be read only once"
    assert problem["found"] == "- for both evidence and collateral"


def test_a_policy_must_be_given(files: Files, run: Run) -> None:
    problem = problem_of(run, "check", files["quote.bin"])
    assert problem["expected"] == "--policy FILE"
    assert "ccverify policy lint" in str(problem["hint"])


@pytest.mark.parametrize(
    "more", [["--nonce-file", "nonce.bin"], ["--report-data", "00" * 64]], ids=lambda m: m[0]
)
def test_one_expectation_of_report_data(files: Files, run: Run, more: list[str]) -> None:
    value = files[more[1]] if more[0] == "--nonce-file" else more[1]
    problem = problem_of(run, "check", files["quote.bin"], *files.options(), more[0], value)
    found = {"--nonce-file": "--nonce, --nonce-file", "--report-data": "nonce, report data"}
    assert problem["found"] == found[more[0]]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--nonce", "00" * 15),
        ("--nonce", "00" * 65),
        ("--nonce", "0" * 33),
        ("--nonce", ""),
        ("--nonce", "0x"),
        ("--nonce", "00" * 15 + "zz"),
        ("--nonce", "00 " * 16),
        ("--nonce", "\x1b" * 32),
        ("--report-data", "00" * 63),
        ("--report-data", "00" * 65),
        ("--at", "2026-06-15"),
        ("--at", "2026-06-15T12:00:00"),
        ("--at", "2026-W24-1T12:00:00Z"),
        ("--at", "2026-06-31T12:00:00Z"),
        ("--at", "2026-06-15T24:00:00Z"),
        ("--at", "0001-01-01T00:00:00+14:00"),
        ("--at", "now"),
        ("--at", "٢٠٢٦-06-15T12:00:00Z"),
    ],
)
def test_a_bad_value_is_refused(files: Files, run: Run, option: str, value: str) -> None:
    words = ["check", files["quote.bin"], "--policy", files["policy.json"], option, value]
    problem = problem_of(run, *words)
    assert (problem["exit_code"], problem["where"]) == (1, option)
    assert problem["expected"]


def test_good_values_are_understood() -> None:
    noon = datetime(2026, 6, 15, 12, tzinfo=UTC)
    for text in ("2026-06-15T12:00:00Z", "2026-06-15t12:00:00z", "2026-06-15 14:00:00+02:00"):
        assert parse_time(text) == noon
        assert parse_time(text).tzinfo is UTC
    assert parse_time("2026-06-15T12:00:00.250Z").microsecond == 250_000
    assert parse_hex("0xAB" * 1 + "ab" * 15, "--nonce", 16, 64) == b"\xab" * 16
    assert parse_hex(f" {NONCE.hex()}\n", "--nonce", 16, 64) == NONCE


@given(st.binary(max_size=80))
def test_a_nonce_file_is_raw_or_hex_or_refused(data: bytes) -> None:
    assert parse_nonce_file(b"0x" + (b"\0" * 16 + data[:48]).hex().encode() + b"\n", "f")
    try:
        nonce = parse_nonce_file(data, "f")
    except UsageError:
        return
    assert 16 <= len(nonce) <= 64
    assert nonce == data or nonce.hex() == data.strip().decode().lower().removeprefix("0x")


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_time(text).tzinfo is UTC
