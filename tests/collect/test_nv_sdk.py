"""nv-attestation-sdk in a process of its own: the protocol, its limits, and the SDK itself.

The SDK's own test mode serves a genuine Hopper report, in an environment named by
CCVERIFY_NV_SDK_PYTHON.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from nv_fakes import NONCE, ask

from ccverify.bundle.items import parse_device
from ccverify.collect.child_process import MAX_LINE_BYTES, MAX_OUTPUT_BYTES, run_child
from ccverify.collect.model import Absence, AbsenceReason, Item
from ccverify.collect.nv_sdk import NvSdkSource
from ccverify.nvidia.spdm import parse_attestation_report
from ccverify.trust.x509 import parse_pem_chain

SAMPLE_NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
"""The nonce of the report that nv-local-gpu-verifier ships."""
PEM = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
REPORT = b"\x11\xe0\x01\xff" + NONCE + bytes(2000)


@pytest.fixture(scope="module")
def sdk_python() -> str:
    named = os.environ.get("CCVERIFY_NV_SDK_PYTHON")
    if not named:
        pytest.skip("CCVERIFY_NV_SDK_PYTHON names no interpreter with nv-attestation-sdk")
    assert os.access(named, os.X_OK), f"CCVERIFY_NV_SDK_PYTHON: {named} cannot be run"
    return named


# --- the SDK itself ------------------------------------------------------------------------------


def test_the_genuine_sample_of_the_sdk(sdk_python: str) -> None:
    outcomes = NvSdkSource(sdk_python, no_gpu=True).collect(ask(SAMPLE_NONCE))
    assert len(outcomes) == 1
    item = outcomes[0]
    assert isinstance(item, Item), item
    assert (item.label, item.source.partition(" ")[0]) == ("gpu-0", "nv-attestation-sdk")
    device = parse_device(item.data)
    assert (device.architecture, device.driver) == ("HOPPER", "550.90.07")
    report = parse_attestation_report(device.report)
    assert report.nonce == SAMPLE_NONCE
    chain = parse_pem_chain(device.chain)
    assert [one.common_name for one in chain[:2]] == [
        "GH100 A01 GSP FMC LF",
        "GH100 A01 GSP BROM",
    ]


def test_the_sample_does_not_pass_for_this_session(sdk_python: str) -> None:
    (absence,) = NvSdkSource(sdk_python, no_gpu=True).collect(ask())
    assert isinstance(absence, Absence)
    assert (absence.label, absence.reason) == ("gpu-0", AbsenceReason.FAILED)
    assert SAMPLE_NONCE.hex() in absence.text


def test_the_sdk_leaves_nothing_behind(
    sdk_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert NvSdkSource(sdk_python, no_gpu=True).collect(ask(SAMPLE_NONCE))
    assert list(here.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_a_machine_without_devices(sdk_python: str) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has NVIDIA devices")
    outcomes = NvSdkSource(sdk_python, parts=("gpu", "nvswitch")).collect(ask())
    assert [one.label for one in outcomes] == ["gpu", "nvswitch"]
    reasons = {one.reason for one in outcomes if isinstance(one, Absence)}
    assert reasons <= {AbsenceReason.NO_LIBRARY, AbsenceReason.NO_DRIVER}
    assert NvSdkSource(sdk_python).diagnose() == []


# --- no SDK --------------------------------------------------------------------------------------


def test_an_environment_without_the_sdk() -> None:
    source = NvSdkSource(sys.executable)
    if not source.diagnose():
        pytest.skip("nv-attestation-sdk is installed beside the tests")
    for outcomes in (source.collect(ask()), source.diagnose()):
        (absence,) = outcomes
        assert isinstance(absence, Absence)
        assert (absence.label, absence.reason) == ("gpu", AbsenceReason.NO_LIBRARY)
        assert "--nv-sdk-python" in absence.remedy


def test_no_such_interpreter(tmp_path: Path) -> None:
    (absence,) = NvSdkSource(str(tmp_path / "python")).collect(ask())
    assert isinstance(absence, Absence)
    assert absence.reason is AbsenceReason.NO_LIBRARY


# --- the protocol: another child in place of ours ------------------------------------------------

HELLO = {"type": "hello", "protocol": 1, "sdk": "2.7.3", "verifier": "2.7.3"}
DONE = {"type": "done", "counts": {"gpu": 1}}


def _device(**changes: Any) -> dict[str, Any]:
    return {
        "type": "device",
        "part": "gpu",
        "index": 0,
        "report": base64.b64encode(REPORT).decode(),
        "chain": base64.b64encode(PEM).decode(),
        "architecture": 10,
        "uuid": "GPU-1",
        "driver": "595.58.03",
        **changes,
    }


def _speaks(folder: Path, *lines: Any, code: str = "") -> Any:
    """What comes of a child that says `lines` (objects or bytes), then runs `code`."""
    script = folder / "child.py"
    spoken = [one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines]
    script.write_text(
        "import os, sys, time\nsys.stdin.buffer.readline()\n"
        f"for line in {spoken!r}:\n    sys.stdout.buffer.write(line)\n"
        f"sys.stdout.buffer.flush()\n{code}\n"
    )
    source = NvSdkSource(sys.executable, script=str(script))
    outcomes = source.collect(ask())
    assert len(outcomes) == 1
    return outcomes[0]


def test_a_child_that_keeps_to_the_protocol(tmp_path: Path) -> None:
    item = _speaks(tmp_path, HELLO, _device(), DONE)
    assert isinstance(item, Item)
    device = parse_device(item.data)
    assert (device.report, device.chain) == (REPORT, PEM)
    assert (device.architecture, device.uuid, device.driver) == ("BLACKWELL", "GPU-1", "595.58.03")


REFUSED: dict[str, list[Any]] = {
    "nothing": [],
    "no hello": [_device(), DONE],
    "no done": [HELLO, _device()],
    "hello alone": [HELLO],
    "another protocol": [{**HELLO, "protocol": 2}, _device(), DONE],
    "no JSON": [HELLO, b"Nonce generated: 00\n", DONE],
    "a member twice": [HELLO, b'{"type":"problem","type":"done","counts":{}}\n', DONE],
    "a member too many": [HELLO, _device(extra=1), DONE],
    "an unknown message": [HELLO, {"type": "log", "text": "x"}, DONE],
    "a list": [HELLO, [1], DONE],
    "a type that is a list": [HELLO, {"type": []}, DONE],
    "hello twice": [HELLO, HELLO, DONE],
    "another part": [HELLO, _device(part="nvswitch"), DONE],
    "a part that is a list": [HELLO, _device(part=[]), DONE],
    "out of order": [HELLO, _device(index=1), DONE],
    "an index that is true": [HELLO, _device(), _device(index=True), DONE],
    "a wrong count": [HELLO, _device(), {"type": "done", "counts": {"gpu": 2}}],
    "a report that is no base64": [HELLO, _device(report="%%%"), DONE],
    "a report that is no ASCII": [HELLO, _device(report="\u00e9"), DONE],
    "a report that is none": [HELLO, _device(report=None), DONE],
    "a report too large": [HELLO, _device(report="A" * 20000), DONE],
    "an architecture by name": [HELLO, _device(architecture="HOPPER"), DONE],
    "a text too long": [HELLO, _device(uuid="x" * 129), DONE],
    "an unknown reason": [
        HELLO,
        {"type": "problem", "part": "gpu", "reason": "cc-off", "text": ""},
        {"type": "done", "counts": {"gpu": 0}},
    ],
    "a reason that is a list": [
        HELLO,
        {"type": "problem", "part": "gpu", "reason": [], "text": ""},
        {"type": "done", "counts": {"gpu": 0}},
    ],
    "a line not ended": [HELLO, _device(), b'{"type":"done","counts":{"gpu":1}}'],
    "a line too long": [HELLO, b"x" * (MAX_LINE_BYTES + 1) + b"\n", DONE],
    "too many lines": [HELLO, b"{}\n" * 200, DONE],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_child_may_not_say(tmp_path: Path, name: str) -> None:
    absence = _speaks(tmp_path, *REFUSED[name])
    assert isinstance(absence, Absence)
    assert (absence.label, absence.reason) == ("gpu", AbsenceReason.FAILED)
    assert absence.remedy


def test_a_child_that_ends_badly(tmp_path: Path) -> None:
    words = "sys.stderr.write('it broke here\\n'); sys.exit(3)"
    absence = _speaks(tmp_path, HELLO, _device(), DONE, code=words)
    assert absence.reason is AbsenceReason.FAILED
    assert "it broke here" in absence.text


def test_a_child_that_talks_without_end(tmp_path: Path) -> None:
    endless = "while True: sys.stdout.buffer.write(b'x' * 65536)"
    absence = _speaks(tmp_path, HELLO, code=endless)
    assert absence.reason is AbsenceReason.FAILED
    assert MAX_OUTPUT_BYTES < 1 << 24


def test_a_problem_is_an_absence(tmp_path: Path) -> None:
    problem = {"type": "problem", "part": "gpu", "reason": "no-driver", "text": "NVML: \x1b[31m"}
    absence = _speaks(tmp_path, HELLO, problem, {"type": "done", "counts": {"gpu": 0}})
    assert absence.reason is AbsenceReason.NO_DRIVER
    assert "\x1b" not in absence.text


def test_a_child_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "grandchild"
    script = tmp_path / "child.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(mark)!r}, 'w').write(str(other.pid))\n"
        "time.sleep(600)\n"
    )
    (absence,) = NvSdkSource(sys.executable, script=str(script)).collect(ask(seconds=2.0))
    assert isinstance(absence, Absence)
    assert absence.reason is AbsenceReason.TIMEOUT
    assert _is_gone(int(mark.read_text()))


def _is_gone(pid: int) -> bool:
    """Whether the process ends; nobody may have reaped it yet."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_the_child_sees_little_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    shown = "import json, os; print(json.dumps([dict(os.environ), os.getcwd()]))"
    finished = run_child([sys.executable, "-I", "-c", shown], b"", ask())
    assert (finished.status, finished.problem) == (0, None)
    seen, directory = json.loads(finished.lines[0])
    kept = {"PATH", "LANG", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "LC_CTYPE"}
    assert {name for name in seen if not name.startswith("NVIDIA_")} <= kept
    assert seen["HOME"] == seen["TMPDIR"] == directory
    assert not Path(directory).exists()
