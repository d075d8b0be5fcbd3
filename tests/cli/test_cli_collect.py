"""nonce, collect and doctor: options, files, exit codes, and what is said where."""

from __future__ import annotations

import builtins
import io
import json
import stat
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_files import Run
from collect_fakes import NONCE, Fake, absence, item, node, quotes

from ccverify.bundle.package import parse_bundle
from ccverify.cli import collect as collect_module
from ccverify.cli import doctor as doctor_module
from ccverify.cli.sources import sources_of
from ccverify.collect import atomic
from ccverify.collect.doctor import FULL_BUNDLE
from ccverify.collect.model import AbsenceReason, Stage
from ccverify.collect.session import collect_bundle
from ccverify.errors import UsageError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    """The machine that both commands see; tests change the list."""
    sources = node()
    for module in (collect_module, doctor_module):
        monkeypatch.setattr(module, "sources_of", lambda **_: sources)
    return sources


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "node.ccb"


def words(output: Path, *more: str) -> list[str]:
    return ["collect", "--nonce", NONCE.hex(), "--output", str(output), *more]


# --- nonce ---


def test_a_nonce_is_new_each_time(run: Run) -> None:
    seen = {run("nonce").stdout for _ in range(5)}
    assert len(seen) == 5
    for text in seen:
        assert len(bytes.fromhex(text)) == 32
        assert text == text.lower()
        assert text.endswith("\n")


def test_a_nonce_in_a_file_is_what_collect_reads(
    run: Run, machine: list[Fake], tmp_path: Path, output: Path
) -> None:
    path = tmp_path / "nonce"
    result = run("nonce", "--output", str(path))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("collect", "--nonce-file", str(path), "-o", str(output)).exit_code == 0
    bundle = parse_bundle(output.read_bytes())
    assert bundle.manifest.nonce == bytes.fromhex(path.read_text())


def test_a_nonce_that_was_sent_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "nonce"
    path.write_text("kept")
    result = run("nonce", "--output", str(path))
    assert (result.exit_code, path.read_text()) == (1, "kept")
    assert "--force" in result.stderr
    assert run("nonce", "--output", str(path), "--force").exit_code == 0
    assert len(path.read_text()) == 65


# --- collect ---


def test_a_bundle_is_written_and_accounted_for(run: Run, machine: list[Fake], output: Path) -> None:
    machine.append(Fake("nscq", ["nvswitch"], [absence("nvswitch")]))
    result = run(*words(output))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"✓ COLLECTED  {output}\n")
    for text in ("gpu-0", "gpu-1", "tdx-quote", "nvswitch is not there", "get nvswitch"):
        assert text in result.stdout
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert list(output.parent.iterdir()) == [output]
    bundle = parse_bundle(output.read_bytes())
    assert bundle.manifest.nonce == NONCE
    assert bundle.absences["nvswitch"].reason is AbsenceReason.NOT_PRESENT


def test_the_account_is_json_if_wanted(run: Run, machine: list[Fake], output: Path) -> None:
    machine.append(Fake("nscq", ["nvswitch"], [absence("nvswitch")]))
    result = run(*words(output, "--format", "json"))
    account = json.loads(result.stdout)
    assert (result.exit_code, account["exit_code"], result.stderr) == (0, 0, "")
    assert account["schema"] == "ccverify.collected/v1"
    assert account["bundle"]["path"] == str(output)
    assert account["bundle"]["size"] == output.stat().st_size
    assert (account["simulated"], account["missing"], account["notes"]) == (False, [], [])
    assert [one["label"] for one in account["items"]] == [
        "gpu-0", "gpu-1", "fabric", "ccel", "tdx-quote",
    ]  # fmt: skip
    assert account["absent"] == [
        {"label": "nvswitch", "reason": "not-present", "text": "nvswitch is not there",
         "remedy": "get nvswitch", "source": "fake"}
    ]  # fmt: skip
    assert [one["name"] for one in account["sources"]] == ["gpus", "fabric", "logs", "nscq",
                                                           "quotes"]  # fmt: skip


def test_quiet_prints_nothing(run: Run, machine: list[Fake], output: Path) -> None:
    result = run(*words(output, "-q"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    parse_bundle(output.read_bytes())


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_required_and_absent_ends_in_6(
    run: Run, machine: list[Fake], output: Path, form: str, quiet: bool
) -> None:
    output.write_bytes(b"old")
    machine[0] = Fake("gpus", ["gpu"], [item("gpu-0"), absence("gpu-1")])
    more = ["--require", "ccel,gpu", "--format", form, "--force", *["-q"] * quiet]
    result = run(*words(output, *more))
    assert result.exit_code == 6
    assert output.read_bytes() == b"old"
    assert result.stderr == "error: required and not there: gpu; nothing was written\n"
    if quiet:
        assert result.stdout == ""
    elif form == "json":
        account = json.loads(result.stdout)
        assert (account["exit_code"], account["bundle"], account["missing"]) == (6, None, ["gpu"])
    else:
        assert result.stdout.startswith("✗ NOTHING WRITTEN")
        assert "get gpu-1" in result.stdout


def test_a_machine_that_gives_nothing_ends_in_10_and_says_why(
    run: Run, machine: list[Fake], output: Path
) -> None:
    machine[:] = [Fake("nvml", ["gpu"], [absence("gpu", AbsenceReason.NO_LIBRARY)])]
    result = run(*words(output))
    assert result.exit_code == 10
    assert result.stdout.startswith("? NOTHING GATHERED")
    assert set(parse_bundle(output.read_bytes()).absences) == {"gpu", "tdx-quote"}


def test_only_takes_names_in_one_word_or_several(
    run: Run, machine: list[Fake], output: Path
) -> None:
    for more in (["--only", "gpu,fabric"], ["--only", "gpu", "--only", "fabric"]):
        assert run(*words(output, *more, "--force")).exit_code == 0
        bundle = parse_bundle(output.read_bytes())
        assert set(bundle.items) == {"gpu-0", "gpu-1", "fabric"}
        assert bundle.absences["ccel"].reason is AbsenceReason.NOT_ASKED


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--only", "gpus"], "one of gpu, fabric, ccel, tdx-quote"),
        (["--require", ""], "one of gpu, fabric, ccel, tdx-quote"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--prepare", "'"], "--prepare"),
        (["--prepare", ""], "--prepare"),
    ],
)
def test_wrong_use_asks_nobody(
    run: Run, machine: list[Fake], output: Path, more: list[str], said: str
) -> None:
    result = run(*words(output, *more))
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert not output.exists()
    assert not any(source.asked for source in machine)


@pytest.mark.parametrize("length", [0, 1, 16, 31, 33, 64])
def test_a_nonce_has_32_bytes(
    run: Run, machine: list[Fake], output: Path, tmp_path: Path, length: int
) -> None:
    path = tmp_path / "nonce"
    nonce = bytes(range(1, length + 1))
    given = [["--nonce", nonce.hex()]]
    for data in (nonce, nonce.hex().encode()):
        path.write_bytes(data)
        given.append(["--nonce-file", str(path)])
        result = run("collect", *given[-1], "-o", str(output))
        assert (result.exit_code, result.stdout) == (1, "")
    assert run("collect", *given[0], "-o", str(output)).exit_code == 1
    assert not output.exists()


def test_a_nonce_is_given_once(run: Run, machine: list[Fake], output: Path, tmp_path: Path) -> None:
    assert "no nonce was given" in run("collect", "-o", str(output)).stderr
    path = tmp_path / "nonce"
    path.write_bytes(NONCE)
    result = run(*words(output, "--nonce-file", str(path)))
    assert (result.exit_code, "given twice" in result.stderr) == (1, True)
    assert run("collect", "--nonce-file", str(path), "-o", str(output)).exit_code == 0


def test_an_existing_bundle_is_kept_unless_forced(
    run: Run, machine: list[Fake], output: Path
) -> None:
    output.write_bytes(b"precious")
    result = run(*words(output))
    assert (result.exit_code, output.read_bytes()) == (1, b"precious")
    assert "choose another name, or replace it with --force" in result.stderr
    assert not any(source.asked for source in machine)
    assert run(*words(output, "--force")).exit_code == 0
    parse_bundle(output.read_bytes())


def test_a_place_that_cannot_be_written_is_found_out_first(
    run: Run, machine: list[Fake], tmp_path: Path
) -> None:
    for place in (tmp_path / "missing" / "x", tmp_path, Path("/proc/x")):
        result = run(*words(place))
        assert result.exit_code == 1
        assert "the output file" in result.stderr
    assert not any(source.asked for source in machine)


def test_a_full_disk_leaves_the_good_file(
    run: Run, machine: list[Fake], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.write_bytes(b"precious")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    result = run(*words(output, "--force"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No space left on device" in result.stderr
    assert output.read_bytes() == b"precious"
    assert list(output.parent.iterdir()) == [output]


def test_an_interrupt_leaves_nothing(
    run: Run, machine: list[Fake], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("ccverify.collect.session.call_all", interrupt)
    assert run(*words(output)).exit_code == 130
    assert list(output.parent.iterdir()) == []


def test_hostile_words_of_sources_stay_text(run: Run, machine: list[Fake], output: Path) -> None:
    hostile = "\x1b]0;owned\x07\u202e\n✓ COLLECTED"

    def broken(_: object) -> list[Any]:
        raise RuntimeError(hostile)

    machine.append(Fake(hostile, ["nvswitch"], broken))
    machine.append(Fake("b", ["gpu"], [absence("gpu-9", source=hostile)]))
    machine.append(Fake("c", ["gpu"], [item("gpu-0", source=hostile)]))
    result = run(*words(output))
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").isprintable()
    assert [line for line in result.stdout.splitlines() if line.startswith("✓")] == [
        f"✓ COLLECTED  {output}"
    ]
    result = run(*words(output, "--force", "--format", "json"))
    json.loads(result.stdout)


def test_what_prepares_gets_the_device_nonce(
    run: Run, machine: list[Fake], output: Path, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    script = f"import os; open({str(told)!r}, 'w').write(os.environ['CCVERIFY_DEVICE_NONCE'])"
    command = f'{sys.executable} -c "{script}"'
    result = run(*words(output, "--prepare", command, "--format", "json"))
    assert result.exit_code == 0
    assert told.read_text() == json.loads(result.stdout)["device_nonce"]


@pytest.mark.parametrize("command", ["/no/such/command", f"{sys.executable} -c 'exit(3)'"])
def test_what_fails_to_prepare_ends_it(
    run: Run, machine: list[Fake], output: Path, command: str
) -> None:
    result = run(*words(output, "--prepare", command))
    assert (result.exit_code, output.exists()) == (1, False)
    assert "the command of --prepare failed" in result.stderr
    assert not any(source.asked for source in machine)


# --- progress ---


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def show_progress(monkeypatch: pytest.MonkeyPatch, *, quiet: bool = False) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    hostile = Fake("\x1b[31m[bold]nscq", ["nvswitch"], [absence("nvswitch")])
    with collect_module._progress(quiet=quiet) as progress:
        collect_bundle(NONCE, [*node(), hostile], progress=progress)
    return terminal.getvalue()


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show_progress(monkeypatch)
    for text in ("gpus: 2 gathered, 0 absent", "\\x1b[31m[bold]nscq: 0 gathered, 1 absent"):
        assert text in shown
    assert show_progress(monkeypatch, quiet=True) == ""


def test_progress_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return genuine(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    lines = show_progress(monkeypatch).splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith("quotes: 1 gathered, 0 absent, ")
    assert all(line.isprintable() for line in lines)


# --- where evidence comes from ---

HOOK = "ccverify.cli.sim_sources"


def named(**changes: Any) -> Sequence[Any]:
    options: dict[str, Any] = {"platform": "real", "nv_sdk_python": None, "dstack_socket": None}
    return sources_of(**{**options, **changes})


def test_options_name_sources(tmp_path: Path) -> None:
    usual = [source.name for source in named()]
    assert {"nvml", "nscq"} <= set(usual)
    asked = named(nv_sdk_python="/x/python", folders=(str(tmp_path),), nvattest_files=("a",),
                  event_log="log", dstack_socket="/run/x.sock")  # fmt: skip
    names = [source.name for source in asked]
    assert {"nv-attestation-sdk", "nvattest", "file log"} <= set(names)
    assert not {"nvml", "nscq"} & set(names)


@pytest.mark.parametrize("platform", ["", "sims", "REAL", "qemu"])
def test_an_unknown_platform_is_refused(run: Run, output: Path, platform: str) -> None:
    result = run(*words(output, "--platform", platform))
    assert (result.exit_code, output.exists()) == (1, False)
    assert "there is no such platform" in result.stderr


def test_a_simulated_machine_has_simulated_sources_alone(
    run: Run, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulated_sources(name: str, *, probe: bool) -> list[Fake]:
        assert (name, probe) == ("some-node", False)
        return node()

    hook = types.ModuleType(HOOK)
    hook.simulated_sources = simulated_sources  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, HOOK, hook)
    result = run(*words(output, "--platform", "sim:some-node"))
    assert result.exit_code == 0
    assert result.stdout.startswith("SIMULATED")
    with pytest.raises(UsageError, match="no real sources"):
        named(platform="sim:some-node", event_log="x")


def test_an_absent_simulator_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, HOOK, None)
    with pytest.raises(UsageError, match="has no simulated machines"):
        named(platform="sim:x")


# --- doctor ---


def test_doctor_is_content_with_a_full_machine(run: Run, machine: list[Fake]) -> None:
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("✓ READY")
    assert not any(source.asked for source in machine)


def test_doctor_names_what_is_missing_and_the_remedy(run: Run, machine: list[Fake]) -> None:
    machine[0] = Fake("nvml", ["gpu"], ailing=[absence("gpu", AbsenceReason.NO_PERMISSION)])
    result = run("doctor")
    assert result.exit_code == 6
    assert result.stdout.startswith("✗ NOT READY  for a full bundle: gpu\n")
    for text in ("no-permission", "gpu is not there", "get gpu", "kernel", "TDX guest"):
        assert text in result.stdout


def test_doctor_speaks_json(run: Run, machine: list[Fake]) -> None:
    machine[2] = Fake("ccel", ["ccel"], ailing=[absence("ccel")], stage=Stage.LOGS)
    result = run("doctor", "--format", "json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["exit_code"], report["complete"]) == (6, 6, False)
    assert report["schema"] == "ccverify.doctor/v1"
    assert report["missing"] == [["ccel", "dstack-log"]]
    found = {part["part"]: part for part in report["parts"]}
    assert found["ccel"]["problems"][0]["remedy"] == "get ccel"
    assert (found["ccel"]["needed"], found["ccel"]["or"]) == (True, ["dstack-log"])
    assert found["gpu"]["available"] == ["gpus"]
    assert set(report["machine"]) == {"kernel", "tdx_guest", "nvidia_driver", "root"}


def test_doctor_knows_of_one_log_or_the_other(run: Run, machine: list[Fake]) -> None:
    machine[2] = Fake("dstack", ["dstack-log"], stage=Stage.LOGS)
    assert run("doctor").exit_code == 0
    assert ("ccel", "dstack-log") in FULL_BUNDLE
    machine.append(quotes())
    assert run("doctor").exit_code == 0
