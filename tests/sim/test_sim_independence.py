"""The simulation is a second opinion: it may share nothing with what it is used to test."""

from __future__ import annotations

import ast
import hashlib
import sys
from pathlib import Path

import pytest

import ccverify.sim
from ccverify.sim import SimIssuer

_PACKAGE = Path(ccverify.sim.__file__).parent
_SOURCES = sorted(_PACKAGE.rglob("*.py"))
_INTEL_ROOT_SHA256 = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
_UNPREDICTABLE = {"os", "random", "secrets", "time", "uuid", "socket", "tempfile", "pathlib"}


def _imported(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def _is_allowed(name: str) -> bool:
    if name.split(".")[0] == "ccverify":
        return name in {"ccverify.errors", "ccverify.sim"} or name.startswith("ccverify.sim.")
    return name.split(".")[0] in sys.stdlib_module_names | {"cryptography"}


@pytest.mark.parametrize("source", _SOURCES, ids=lambda own: str(own.relative_to(_PACKAGE)))
def test_imports_only_errors_cryptography_and_the_standard_library(source: Path) -> None:
    imported = _imported(source)
    assert {name for name in imported if not _is_allowed(name)} == set()
    writes = {"pathlib"} if source.name == "fixtures.py" else set[str]()  # the one that writes
    assert imported & _UNPREDICTABLE <= writes


@pytest.mark.parametrize("source", _SOURCES, ids=lambda own: str(own.relative_to(_PACKAGE)))
def test_nothing_asks_for_the_time(source: Path) -> None:
    attributes = {
        node.attr
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert attributes & {"now", "utcnow", "today"} == set()


def test_the_check_itself_can_fail() -> None:
    assert not _is_allowed("ccverify.tdx.quote")
    assert not _is_allowed("requests")


def test_package_says_what_it_is() -> None:
    text = ccverify.sim.__doc__ or ""
    assert "proves nothing about any real machine" in text
    assert "never\npart of production trust" in text


def test_root_is_not_intels_and_says_so() -> None:
    root = SimIssuer().root()
    assert hashlib.sha256(root.der()).hexdigest() != _INTEL_ROOT_SHA256
    assert ("O", "ccverify simulation, not Intel") in root.subject.attributes
    assert b"Intel Corporation" not in root.der()
    assert b".intel.com" not in root.der()
