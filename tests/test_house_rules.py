"""The rules of the house, read off the source: who may import whom, and who may touch the world."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ccverify.checks import CHECKS
from ccverify.errors import CcverifyError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ccverify"
MODULES = sorted(PACKAGE.rglob("*.py"))
EACH = pytest.mark.parametrize("path", MODULES, ids=lambda path: _name(path))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


NAMES = frozenset(map(_name, MODULES))


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, ast.AST]]:
    """Every module imported anywhere in the tree, functions included, with its node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join((*parents, base)).rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in NAMES else base), node


def _imported(path: Path) -> set[str]:
    return {name for name, _ in _imports(_tree(path), _name(path), path.name == "__init__.py")}


def _in(module: str, *packages: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in packages)


# --- layers --------------------------------------------------------------------------------------

# Package → what it must not import.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "ccverify.trust": (
        "ccverify.tdx", "ccverify.nvidia", "ccverify.fabric", "ccverify.policy",
        "ccverify.results", "ccverify.cli", "ccverify.sim", "ccverify.verifier",
    ),
    "ccverify.tdx": (
        "ccverify.nvidia", "ccverify.fabric", "ccverify.policy", "ccverify.results",
        "ccverify.cli", "ccverify.sim", "ccverify.verifier",
    ),
    "ccverify.tpm": (
        "ccverify.tdx", "ccverify.nvidia", "ccverify.fabric", "ccverify.bundle", "ccverify.policy",
        "ccverify.results", "ccverify.cli", "ccverify.sim", "ccverify.verifier",
    ),
    "ccverify.nvidia": (
        "ccverify.tdx", "ccverify.fabric", "ccverify.policy", "ccverify.results", "ccverify.cli",
        "ccverify.sim", "ccverify.verifier",
    ),
    "ccverify.fabric": (
        "ccverify.policy", "ccverify.results", "ccverify.cli", "ccverify.sim", "ccverify.verifier",
    ),
    "ccverify.interop": (
        "ccverify.tdx", "ccverify.nvidia", "ccverify.fabric", "ccverify.policy",
        "ccverify.results", "ccverify.cli", "ccverify.sim", "ccverify.verifier",
    ),
    "ccverify.policy": (
        "ccverify.results", "ccverify.cli", "ccverify.sim", "ccverify.verifier",
    ),
    "ccverify.collect": (
        "ccverify.policy", "ccverify.results", "ccverify.cli", "ccverify.sim", "ccverify.verifier",
        "ccverify.appraisal",
    ),
    "ccverify.results": ("ccverify.cli", "ccverify.sim"),
    "ccverify.verifier": ("ccverify.cli", "ccverify.sim"),
    "ccverify.errors": ("ccverify",),
    "ccverify.findings": ("ccverify",),
    "ccverify.clock_text": ("ccverify",),
}  # fmt: skip
# What the simulator may share with the rest: errors. Anything more could be wrong in both. Its
# table of cases states verdicts, so it reads the vocabulary of findings and collateral too.
SIMULATOR_READS = ("ccverify.sim", "ccverify.errors")
SIMULATOR_EXCEPTIONS = ("ccverify.sim.cases", "ccverify.sim.fixtures")


@EACH
def test_layers(path: Path) -> None:
    module = _name(path)
    for package, forbidden in FORBIDDEN.items():
        if _in(module, package):
            for name in _imported(path):
                own = _in(name, package) and package in ("ccverify.errors", "ccverify.findings")
                assert own or not _in(name, *forbidden), f"{module} imports {name}"


@EACH
def test_only_the_command_line_knows_the_simulator(path: Path) -> None:
    module = _name(path)
    if _in(module, "ccverify.sim", "ccverify.cli"):
        return
    assert not [name for name in _imported(path) if _in(name, "ccverify.sim")]


@EACH
def test_the_simulator_shares_no_code_with_the_verifier(path: Path) -> None:
    module = _name(path)
    if not _in(module, "ccverify.sim") or _in(module, *SIMULATOR_EXCEPTIONS):
        return
    foreign = [n for n in _imported(path) if _in(n, "ccverify") and not _in(n, *SIMULATOR_READS)]
    assert foreign == []


@EACH
def test_only_the_command_line_imports_the_command_line(path: Path) -> None:
    module = _name(path)
    if _in(module, "ccverify.cli") or module == "ccverify.__main__":
        return
    assert not [name for name in _imported(path) if _in(name, "ccverify.cli")]


def test_no_import_goes_round_in_a_circle() -> None:
    graph = {
        _name(path): {n for n in _imported(path) if n in NAMES and n != _name(path)}
        for path in MODULES
    }
    # A package's own re-exports are not part of the chain that leads to a module.
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail[trail.index(module) :], module))
        if module in done:
            return
        for name in sorted(graph[module]):
            visit(name, (*trail, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


# --- purity --------------------------------------------------------------------------------------

WORLD = (
    "socket", "ssl", "http", "urllib.request", "httpx", "requests", "tenacity", "asyncio",
    "subprocess", "multiprocessing", "time", "random", "secrets", "os", "pathlib", "io", "tempfile",
    "shutil", "glob", "locale", "getpass", "platform", "sys", "logging",
)  # fmt: skip
TOUCHING_CALLS = {
    "open", "input", "print", "now", "utcnow", "today", "monotonic", "perf_counter", "urandom",
    "getenv", "read_bytes", "write_bytes", "write_text", "fromtimestamp",
}  # fmt: skip
# Who may: collection, the command line, the writer of fixtures.
WORLDLY = re.compile(
    r"ccverify\.(cli(\..*)?|__main__|fleet(\..*)?|collect(\..*)?|.*\.collect|sim\.fixtures)"
)
# A part of `collect` in a file of its own → who alone may import it.
_COLLECTORS = {"ccverify.tdx.collect", "ccverify.nvidia.collect"}
PARTS_OF_COLLECT = {
    "ccverify.online": _COLLECTORS,
    "ccverify.http_get": {"ccverify.online"},
}


def _pure() -> list[Path]:
    return [
        path
        for path in MODULES
        if not WORLDLY.fullmatch(_name(path)) and _name(path) not in PARTS_OF_COLLECT
    ]


@pytest.mark.parametrize("path", _pure(), ids=lambda path: _name(path))
def test_nothing_pure_touches_the_world(path: Path) -> None:
    module = _name(path)
    for name, node in _imports(_tree(path), module, path.name == "__init__.py"):
        assert not _in(name, *WORLD), f"{module}:{node.lineno} imports {name}"  # type: ignore[attr-defined]
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            assert name not in TOUCHING_CALLS, f"{module}:{node.lineno} calls {name}()"
            if name in ("read_text", "joinpath"):
                assert _in_resources(path), f"{module}:{node.lineno} reads a file"


def _in_resources(path: Path) -> bool:
    """Whether the module reads files of the package alone, through importlib.resources."""
    return "importlib" in {name.partition(".")[0] for name in _imported(path)}


@pytest.mark.parametrize("part", PARTS_OF_COLLECT)
def test_parts_of_collection_are_imported_by_collection_alone(part: str) -> None:
    if part not in NAMES:
        pytest.skip(f"{part} is not there")
    assert {_name(path) for path in MODULES if part in _imported(path)} == PARTS_OF_COLLECT[part]


def test_verification_never_imports_collection() -> None:
    """`import ccverify` and `check` must work without the packages that only fetching needs."""
    seen: set[str] = set()
    paths = {_name(path): path for path in MODULES}

    def visit(module: str) -> None:
        if module in seen:
            return
        seen.add(module)
        for name in _imported(paths[module]):
            if name in paths:
                visit(name)

    visit("ccverify")
    assert "ccverify.verifier" in seen
    assert not [m for m in seen if m.endswith(".collect") or m in PARTS_OF_COLLECT]
    assert not [m for m in seen if _in(m, "ccverify.collect")]


@EACH
def test_only_the_command_line_imports_what_collects_in_the_guest(path: Path) -> None:
    """Whatever verifies, appraises or writes results runs where there is nothing to collect."""
    module = _name(path)
    if _in(module, "ccverify.collect", "ccverify.cli", "ccverify.__main__"):
        return
    assert not [name for name in _imported(path) if _in(name, "ccverify.collect")]


# --- check codes ---------------------------------------------------------------------------------

CODE = re.compile(
    r"(?:TDX|TRUST|NODE|GPU|NVSWITCH|DEVICES|TOPOLOGY|FABRIC|ROUTE|BUNDLE|BIND|SET)"
    r"-[A-Z0-9]+(?:-[A-Z0-9]+)*"
)


def _literals(path: Path) -> set[str]:
    docs = {
        id(node.body[0].value)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    }


@EACH
def test_every_code_in_the_source_is_in_the_registry(path: Path) -> None:
    if _in(_name(path), "ccverify.checks"):
        return
    known = {entry.code for entry in CHECKS}
    known |= {error.code for error in CcverifyError.__subclasses__()}
    for text in _literals(path):
        for code in CODE.findall(text):
            # A prefix names a group of checks, or is what a code is put together from.
            is_prefix = any(one.startswith(code) for one in known)
            # Nor is a name without its group a code, such as GPU-LIST of TOPOLOGY-GPU-LIST.
            is_prefix |= any(one.endswith(f"-{code}") for one in known)
            assert code in known or is_prefix, f"{_name(path)}: {code}"


JUDGES = (
    "ccverify.tdx", "ccverify.nvidia", "ccverify.fabric", "ccverify.policy", "ccverify.appraisal",
    "ccverify.verifier", "ccverify.verifier_set", "ccverify.bundle",
)  # fmt: skip


def test_every_code_of_the_registry_is_used() -> None:
    """Literally, or as an attribute, register or artefact whose code is put together."""
    used: set[str] = set()
    for path in MODULES:
        if _in(_name(path), *JUDGES):
            for text in _literals(path):
                used.update(CODE.findall(text))
                # Codes of devices are put together from a prefix and a name.
                used.update(f"{prefix}-{text.removeprefix('-')}" for prefix in ("GPU", "NVSWITCH"))
    composed = re.compile(
        r"TDX-ATTR-.+|TDX-(MRTD|RTMR[0-3]|MRSEAM|MRCONFIGID|MROWNER|MROWNERCONFIG)"
        r"|TDX-EVENTLOG-RTMR[0-3]|TDX-(TCB-INFO|QE-IDENTITY)-(SIGNATURE|FRESH)"
    )
    unused = [e.code for e in CHECKS if e.code not in used and not composed.fullmatch(e.code)]
    assert unused == []


# --- size and style ------------------------------------------------------------------------------

MAX_LINES = 450
# Larger for a reason.
LARGE = {
    "ccverify.checks.tdx": "one table",
    "ccverify.tdx.quote": "one format, its tables included",
    "ccverify.tdx.collateral": "two formats of one thing",
}


@EACH
def test_modules_are_small(path: Path) -> None:
    if _name(path) in LARGE:
        return
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


@EACH
def test_modules_say_what_they_are(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree), "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            raise AssertionError(f"{_name(path)}:{node.lineno} bare except")


@EACH
def test_all_names_exist(path: Path) -> None:
    """What `__all__` promises is defined, and is sorted, constants first."""
    tree = _tree(path)
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == [
            "__all__"
        ]:
            names = ast.literal_eval(node.value)
            assert len(set(names)) == len(names)
            module = __import__(_name(path), fromlist=["x"]) if "cli" not in _name(path) else None
            for name in names if module else ():
                assert hasattr(module, name), name


def test_no_marker_of_unfinished_work_is_left() -> None:
    marker = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    for path in MODULES:
        assert not marker.search(path.read_text("utf-8")), _name(path)
