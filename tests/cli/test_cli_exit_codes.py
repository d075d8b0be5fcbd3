"""The exit code is the same in every format, with real and with simulated evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_files import NONCE, Files, Run

import ccverify
from ccverify.policy.model import MUST_STATE

LATER = "2026-12-31T00:00:00Z"


def outcomes(run: Run, folder: Path, *arguments: str) -> dict[str, int]:
    """Exit code in each format; each run must also say what its exit code is."""
    table = run("check", *arguments)
    as_json = run("check", *arguments, "--format", "json")
    quiet = run("check", *arguments, "-q")
    target = folder / "verdict.json"
    written = run("check", *arguments, "--format", "json", "--output", str(target))
    assert quiet.stdout == quiet.stderr == written.stdout == ""
    assert f"exit code {table.exit_code}: " in table.stdout.splitlines()[-1]
    assert json.loads(as_json.stdout)["exit_code"] == as_json.exit_code
    assert target.read_text("utf-8") == as_json.stdout
    return {
        "table": table.exit_code,
        "json": as_json.exit_code,
        "quiet": quiet.exit_code,
        "output": written.exit_code,
    }


SIMULATED: dict[str, tuple[int, str, dict[str, str | None]]] = {
    "good": (0, "quote.bin", {}),
    "good, as hex": (0, "quote.hex", {}),
    "good, with its log": (0, "quote.bin", {"--event-log": "log.json"}),
    "good, nonce as raw file": (0, "quote.bin", {"--nonce": None, "--nonce-file": "nonce.bin"}),
    "good, nonce as hex file": (0, "quote.bin", {"--nonce": None, "--nonce-file": "nonce.txt"}),
    "cut": (2, "cut.bin", {}),
    "log cut": (2, "quote.bin", {"--event-log": "cut.bin"}),
    "one byte changed": (3, "flipped.bin", {}),
    "another nonce": (3, "quote.bin", {"--nonce": "ff" * 32}),
    "another root": (3, "quote.bin", {"--insecure-trust-root": "root.der"}),
    "out of date": (4, "old.bin", {}),
    "no collateral": (5, "quote.bin", {"--collateral": None}),
    "old collateral": (5, "quote.bin", {"--at": LATER}),
    "no nonce": (6, "quote.bin", {"--nonce": None}),
    "empty": (10, "empty", {}),
}


def arguments_of(files: Files, quote: str, changes: dict[str, str | None]) -> list[str]:
    given: dict[str, str | None] = {
        "--policy": "policy.json",
        "--collateral": "collateral.json",
        "--nonce": NONCE.hex(),
        "--at": files.at,
    }
    words = [files[quote]]
    for name, value in (given | changes).items():
        if value is not None:
            words += [name, value if name in ("--nonce", "--at") else files[value]]
    return words


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("case", SIMULATED.values(), ids=SIMULATED.keys())
def test_simulated(
    files: Files, run: Run, tmp_path: Path, case: tuple[int, str, dict[str, str | None]]
) -> None:
    code, quote, changes = case
    arguments = arguments_of(files, quote, changes)
    if "--insecure-trust-root" in arguments:
        for form in ("table", "json"):
            result = run("check", *arguments, "--format", form)
            assert result.exit_code == code
            assert "warning: --insecure-trust-root" in result.stderr
        assert run("check", *arguments, "-q").stderr == ""
        return
    assert set(outcomes(run, tmp_path, *arguments).values()) == {code}


@pytest.mark.parametrize("quote", ["quote.bin", "old.bin", "flipped.bin", "cut.bin"])
def test_simulated_evidence_is_never_trusted_by_the_real_command_line(
    files: Files, run: Run, quote: str
) -> None:
    """Nothing is patched here: neither the pinned roots nor a root of one's own give 0."""
    plain = run("check", files[quote], *files.options())
    insecure = run(
        "check", files[quote], *files.options(), "--insecure-trust-root", files["root.der"]
    )
    assert plain.exit_code in (2, 3)
    assert insecure.exit_code in (2, 3)


def test_an_insecure_root_spoils_only_the_trust_anchor(files: Files, run: Run) -> None:
    result = run(
        *("check", files["quote.bin"], *files.options(), "--format", "json"),
        *("--insecure-trust-root", files["root.der"]),
    )
    findings = json.loads(result.stdout)["findings"]
    assert [f["code"] for f in findings if f["state"] == "FAIL"] == ["TRUST-ROOTS"]


# --- real evidence ---

QUOTE, COLLATERAL, NEWER = (
    "quotes/phala_b0c06f_v4.bin",
    "collateral/phala_b0c06f_2025-06.json",
    "collateral/near_b0c06f_2026-08.json",
)
THEN, AFTER = "2025-07-01T00:00:00Z", "2026-08-28T00:00:00Z"


@pytest.fixture
def real(vectors: Path, tmp_path: Path) -> dict[str, Any]:
    """A real quote, a policy that fits it, and the collateral of its time."""
    folder = vectors / "tdx"
    for name in (QUOTE, COLLATERAL, NEWER):
        if not (folder / name).is_file():
            pytest.skip(f"{name} is absent: real-evidence tests need it")
    report = ccverify.parse_quote((folder / QUOTE).read_bytes()).report
    policy = tmp_path / "policy.json"
    measurements = {name: [getattr(report, name).hex()] for name in MUST_STATE}
    policy.write_text(
        json.dumps({"schema": "ccverify.policy/v1", "tdx": {"measurements": measurements}})
    )
    return {"folder": folder, "policy": str(policy), "report_data": report.report_data.hex()}


def real_arguments(real: dict[str, Any], **changes: str | None) -> list[str]:
    folder: Path = real["folder"]
    given: dict[str, str | None] = {
        "quote": QUOTE,
        "collateral": COLLATERAL,
        "report_data": real["report_data"],
        "at": THEN,
        **changes,
    }
    words = [
        str(folder / str(given["quote"])),
        "--policy",
        real["policy"],
        "--at",
        str(given["at"]),
    ]
    if given["collateral"]:
        words += ["--collateral", str(folder / given["collateral"])]
    if given["report_data"]:
        words += ["--report-data", given["report_data"]]
    return words


REAL: dict[str, tuple[int, dict[str, str | None]]] = {
    "good": (0, {}),
    "one byte changed": (3, {"quote": "quotes/derived/v4_flip_rtmr3.bin"}),
    "another question": (3, {"report_data": "00" * 64}),
    "out of date under the next TCB": (4, {"collateral": NEWER, "at": AFTER}),
    "no collateral": (5, {"collateral": None}),
    "old collateral": (5, {"at": AFTER}),
    "no question": (6, {"report_data": None}),
}


@pytest.mark.parametrize("case", REAL.values(), ids=REAL.keys())
def test_real(
    real: dict[str, Any], run: Run, tmp_path: Path, case: tuple[int, dict[str, str | None]]
) -> None:
    code, changes = case
    if not (real["folder"] / (changes.get("quote") or QUOTE)).is_file():
        pytest.skip(f"{changes['quote']} is absent")
    assert set(outcomes(run, tmp_path, *real_arguments(real, **changes)).values()) == {code}


@pytest.mark.parametrize(("size", "code"), [(700, 2), (0, 10)])
def test_a_real_quote_cut_short_on_standard_input(
    real: dict[str, Any], run: Run, size: int, code: int
) -> None:
    quote = (real["folder"] / QUOTE).read_bytes()[:size]
    for form in ("table", "json"):
        words = ["-", *real_arguments(real)[1:], "--format", form]
        assert run("check", *words, stdin=quote).exit_code == code


def test_packs_are_merged(real: dict[str, Any], run: Run) -> None:
    """Both packs hold this platform: at either time the one that is current counts."""
    for at, code in ((THEN, 0), (AFTER, 4)):
        words = real_arguments(real, at=at)
        other = str(real["folder"] / NEWER)
        assert run("check", *words, "--collateral", other).exit_code == code
        assert run("check", "--collateral", other, *words).exit_code == code


def test_other_collateral_answers_what_if_and_changes_nothing(
    real: dict[str, Any], run: Run
) -> None:
    words = [*real_arguments(real), "--what-if", str(real["folder"] / NEWER)]
    result = run("check", *words, "--format", "json")
    verdict = json.loads(result.stdout)
    assert (result.exit_code, verdict["verdict"]) == (0, "trusted")
    assert verdict["claims"]["tdx"]["tcb_status"] == "UpToDate"
    assert verdict["claims"]["tdx"]["what_if"]["tcb_status"] == "OutOfDate"
