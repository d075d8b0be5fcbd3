"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No test depends on the clock.  In CI the same examples are drawn every time; elsewhere new ones
# are, so that a rare finding is met by somebody who can look at it.
settings.register_profile("ccverify", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("ccverify")

_VECTORS = Path(__file__).resolve().parents[2] / "shared" / "vectors"


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Real evidence, which is not part of this repository."""
    if not _VECTORS.is_dir():
        pytest.skip("../shared/vectors is absent: real-evidence tests need it")
    return _VECTORS
