"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

_VECTORS = Path(__file__).resolve().parents[2] / "shared" / "vectors"


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Real evidence, which is not part of this repository."""
    if not _VECTORS.is_dir():
        pytest.skip("../shared/vectors is absent: real-evidence tests need it")
    return _VECTORS
