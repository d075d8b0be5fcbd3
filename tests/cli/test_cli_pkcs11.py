"""Signing with a key in a device: SoftHSM stands in for one, where it is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_files import Files, Run

from ccverify.cli.emit import Emission
from ccverify.cli.pkcs11_key import (
    PIN_VARIABLE,
    Pkcs11Uri,
    is_pkcs11_uri,
    load_pkcs11_key,
    parse_pkcs11_uri,
)
from ccverify.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
PIN = "1234"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
MODULE = next((path for path in MODULES if os.path.exists(path)), None)
HERE = MODULE and shutil.which("softhsm2-util") and importlib.util.find_spec("pkcs11")
NEEDS_TOKEN = pytest.mark.skipif(not HERE, reason="needs SoftHSM 2 and python-pkcs11")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pkcs11:token=a;object=b?module-path=/m.so", Pkcs11Uri("/m.so", "a", "b", None)),
        ("pkcs11:id=%01%ff;token=a%20b?module-path=/m", Pkcs11Uri("/m", "a b", None, b"\1\xff")),
        ("pkcs11:token=a;object=b;id=c?module-path=m", Pkcs11Uri("m", "a", "b", b"c")),
    ],
)
def test_uris(text: str, expected: Pkcs11Uri) -> None:
    assert is_pkcs11_uri(text)
    assert parse_pkcs11_uri(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:",
        "pkcs11:token=a;object=b",
        "pkcs11:object=b?module-path=m",
        "pkcs11:token=a?module-path=m",
        "pkcs11:token=a;object=b?module-path=m&pin-value=1234",
        "pkcs11:token=a;object=b;serial=7?module-path=m",
        "pkcs11:token=a;token=a;object=b?module-path=m",
        "pkcs11:token=;object=b?module-path=m",
        "pkcs11:token;object=b?module-path=m",
        "pkcs11:token=%ff;object=b?module-path=m",
    ],
)
def test_uris_that_are_not_understood(text: str) -> None:
    with pytest.raises(UsageError):
        parse_pkcs11_uri(text)


def test_a_file_is_no_uri() -> None:
    assert not is_pkcs11_uri("verifier.key")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token with keys on three curves; used by child processes, as a module loads once."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
    init = ["softhsm2-util", "--init-token", "--free", "--label", "box", "--pin", PIN,
            "--so-pin", PIN]  # fmt: skip
    subprocess.run(init, env=environment, check=True, capture_output=True)
    for number, curve in enumerate(("P-256", "P-384", "P-521"), 1):
        pem = folder / f"{curve}.pem"
        make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}",
                "-out", str(pem)]  # fmt: skip
        subprocess.run(make, check=True, capture_output=True)
        public = [
            "openssl",
            "pkey",
            "-in",
            str(pem),
            "-pubout",
            "-out",
            str(folder / f"{curve}.pub"),
        ]
        subprocess.run(public, check=True, capture_output=True)
        load = ["softhsm2-util", "--import", str(pem), "--token", "box", "--label", curve, "--id",
                f"0{number}", "--pin", PIN]  # fmt: skip
        subprocess.run(load, env=environment, check=True, capture_output=True)
    return folder


def uri(name: str) -> str:
    return f"pkcs11:token=box;object={name}?module-path={MODULE}"


def ccverify(token: Path, *words: str, pin: str | None = PIN) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SOFTHSM2_CONF": str(token / "softhsm2.conf"),
    }
    if pin is not None:
        environment[PIN_VARIABLE] = pin
    command = [sys.executable, "-m", "ccverify", *words]
    return subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@NEEDS_TOKEN
@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_a_key_in_a_device_signs(token: Path, files: Files, tmp_path: Path, curve: str) -> None:
    out, ear = tmp_path / "x.ccv", tmp_path / "x.jwt"
    check = ["check", files["quote.bin"], *files.options(), "-q"]
    made = ccverify(token, *check, "--sign", uri(curve), "--emit", str(out), "--ear-jwt", str(ear))
    assert made.returncode == 3, made.stderr  # simulated evidence under the pinned roots
    done = ccverify(token, "verify", str(out), "--key", str(token / f"{curve}.pub"))
    assert "✓ VERIFIED" in done.stdout, done.stdout + done.stderr
    other = "P-384" if curve == "P-256" else "P-256"
    done = ccverify(token, "verify", str(out), "--key", str(token / f"{other}.pub"))
    assert (done.returncode, "NOT VERIFIED" in done.stdout) == (3, True)
    jwt = pytest.importorskip("jwt")
    algorithm = {"P-256": "ES256", "P-384": "ES384"}[curve]
    public = (token / f"{curve}.pub").read_text()
    claims = jwt.decode(ear.read_text().strip(), public, algorithms=[algorithm])
    assert claims["ear_status"] == "contraindicated"


@NEEDS_TOKEN
@pytest.mark.parametrize(
    ("name", "pin", "text"),
    [
        ("P-521", PIN, "another curve"),
        ("absent", PIN, "0 objects"),
        ("P-256", "9999", "PinIncorrect"),
        ("P-256", None, "cannot be used"),
    ],
)
def test_what_cannot_sign_is_told(
    token: Path, files: Files, tmp_path: Path, name: str, pin: str | None, text: str
) -> None:
    out = tmp_path / "x.ccv"
    done = ccverify(token, "check", files["quote.bin"], *files.options(), "--sign", uri(name),
                    "--emit", str(out), pin=pin)  # fmt: skip
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.skipif(not importlib.util.find_spec("pkcs11"), reason="needs python-pkcs11")
def test_a_module_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.so", Path(__file__)):
        with pytest.raises(UsageError, match="cannot be used"):
            load_pkcs11_key(f"pkcs11:token=a;object=b?module-path={path}", None)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(UsageError, match="not installed"):
        load_pkcs11_key("pkcs11:token=a;object=b?module-path=/m.so", None)
    assert Emission.of(dict.fromkeys(("sign", "emit", "embed", "ear_jwt", "ear_cwt"))) is None
    assert run("check", "--help").exit_code == 0
