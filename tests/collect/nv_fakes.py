"""Shared libraries that behave like NVIDIA's, compiled when a test needs them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ccverify.collect.model import Ask

HERE = Path(__file__).parent
NONCE = bytes(range(32))
Environment = Callable[..., None]
"""Sets what the library plays, by the names of its environment variables."""


def ask(nonce: bytes = NONCE, seconds: float = 20.0) -> Ask:
    return Ask(nonce, None, time.monotonic() + seconds, time.monotonic)


def compile_library(folder: Path, source: str, *options: str) -> Path:
    """Compile one C file of this folder to a shared library; skips where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): the fake library cannot be built")
    library = folder / f"{Path(source).stem}{''.join(options)}.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", *options]
    subprocess.run([*command, "-o", str(library), str(HERE / source)], check=True)
    return library


def pynvml_over(library: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The real module pynvml, over `library` instead of the driver's."""
    pynvml = pytest.importorskip("pynvml", reason="pip install 'ccverify[nvml]'")
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return pynvml
