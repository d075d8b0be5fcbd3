"""What tests through the real nvidia-ml-py share: a driver library, and what it plays."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from nv_fakes import Environment, compile_library, pynvml_over


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nvml")
    return {
        "new": compile_library(folder, "fake_nvml.c"),
        "old": compile_library(folder, "fake_nvml.c", "-DOLD"),
    }


@pytest.fixture
def pynvml(libraries: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return pynvml_over(libraries["new"], monkeypatch)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Environment:
    def set_all(**options: int) -> None:
        for name, value in options.items():
            monkeypatch.setenv(f"FAKE_{name}", str(value))

    return set_all
