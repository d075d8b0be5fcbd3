"""Writes the corpus: one directory per case, the same bytes every time.

    python -m ccverify.sim.fixtures DIR

The layout is described in docs/fixtures.md.  `build_fixtures` makes the files without
touching any; only the command line writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ccverify.sim.cases import (
    ATTACKS,
    DEVICE_GROUPS,
    GROUPS,
    STEPS,
    DeviceCase,
    Expected,
    FixtureCase,
)
from ccverify.sim.cases.device_model import shared_pack
from ccverify.sim.cases.model import Json, pack
from ccverify.sim.certs import CertificateSpec, to_pem
from ccverify.sim.nvidia import SimNvidiaIssuer
from ccverify.sim.pki import SimIssuer
from ccverify.sim.platform import SimCase

__all__ = ["CASE_SCHEMA", "build_fixtures", "coverage_table", "write_fixtures"]

CASE_SCHEMA = "ccverify.fixture/v1"
ROOT_FILE = "trust/simulated_root.pem"
DEVICE_ROOT_FILE = "trust/simulated_nvidia_device_root.pem"
RIM_ROOT_FILE = "trust/simulated_nvidia_rim_root.pem"

_README = """\
# Simulated evidence

**Everything here is simulated and proves nothing about any real machine.** Anybody can sign with
the keys behind it; no verifier may trust the roots in `trust/` outside a test.

One directory per case: under `tdx/` a quote, under `nvidia/` GPUs and NVSwitches, under `node/` a
quote and the devices below it. Each has the collateral and policy to judge it by, and in
`case.json` the verdict that must follow. `docs/fixtures.md` describes the files and how to use
them from another language. Made by `python -m ccverify.sim.fixtures fixtures`: do not edit.
"""


def build_fixtures() -> dict[str, bytes]:
    """Return all files of the corpus by path, sorted.

    Raises:
        UsageError: this build of `cryptography` cannot sign deterministically.
    """
    nvidia = SimNvidiaIssuer()
    files = {
        ROOT_FILE: _pem(SimIssuer().root()),
        DEVICE_ROOT_FILE: _pem(nvidia.device_root()),
        RIM_ROOT_FILE: _pem(nvidia.rim_root()),
    }
    rows = []
    for group, cases in GROUPS.items():
        rows += _heading(group)
        for own in cases:
            _put(files, rows, f"tdx/{own.name}", own, _case_files(own, group))
    first: _Known = {}
    for group, nodes in DEVICE_GROUPS.items():
        rows += _heading(group)
        for node in nodes:
            _put(files, rows, _directory(node), node, _device_files(node, group, first))
            for name in _shared(node):
                files[_shared_file(name)] = shared_pack(name).encode("utf-8")
    files["README.md"] = "\n".join((_README.rstrip("\n"), *rows, "")).encode("utf-8")
    return dict(sorted(files.items()))


def write_fixtures(directory: Path) -> int:
    """Write the corpus below a directory; return how many files there are.

    Files of earlier editions stay, so write into an empty directory.
    """
    files = build_fixtures()
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return len(files)


def coverage_table() -> str:
    """Return Markdown: which cases belong to each attack class and to each step."""
    quotes = [own for group in GROUPS.values() for own in group]
    devices = [own for group in DEVICE_GROUPS.values() for own in group]
    cases: list[FixtureCase | DeviceCase] = [*quotes, *devices]
    lines = ["| attack | what | cases |", "| --- | --- | --- |"]
    for attack, what in ATTACKS.items():
        lines.append(_coverage(attack, what, [c.name for c in cases if attack in c.attacks]))
    lines += ["", "| step | what | cases |", "| --- | --- | --- |"]
    for step, what in STEPS.items():
        lines.append(_coverage(str(step), what, [c.name for c in quotes if step in c.steps]))
    return "\n".join((*lines, ""))


def _coverage(key: str, what: str, names: Sequence[str]) -> str:
    return f"| {key} | {what} | {', '.join(f'`{name}`' for name in names)} |"


def _short(expected: Expected) -> str:
    return f"{expected.verdict} ({expected.exit_code})"


def _why(own: FixtureCase | DeviceCase) -> str:
    return own.description.replace("|", "\\|")


def _heading(group: str) -> list[str]:
    return [f"\n## {group}\n", "| case | verdict | why |", "| --- | --- | --- |"]


def _put(
    files: dict[str, bytes],
    rows: list[str],
    directory: str,
    own: FixtureCase | DeviceCase,
    made: Mapping[str, bytes],
) -> None:
    files.update({f"{directory}/{name}": content for name, content in made.items()})
    rows.append(f"| [{own.name}]({directory}) | {_short(own.expected)} | {_why(own)} |")


def _pem(certificate: CertificateSpec) -> bytes:
    return to_pem(certificate.der(), "CERTIFICATE").encode("ascii")


# --- quotes ---


def _case_files(own: FixtureCase, group: str) -> dict[str, bytes]:
    evidence = own.evidence()
    files = {"quote.bin": evidence.quote_bytes, "policy.json": _json(own.policy)}
    collateral = own.collateral(evidence)
    place = None
    if collateral is not None:
        # A good case is complete; of the others, many have what everybody has.
        usual = own.expected.verdict != "trusted" and collateral == shared_pack("intel")
        place = f"../../{_shared_file('intel')}" if usual else "collateral.json"
        if not usual:
            files["collateral.json"] = collateral.encode("utf-8")
    if own.event_log is not None:
        log = own.event_log(evidence)
        files["event_log.json" if log[:1] in (b"[", b"{") else "event_log.bin"] = log
    return files | {"case.json": _json(_document(own, group, files, place))}


def _shared_file(name: str) -> str:
    return f"collateral/{name}.json"


def _document(
    own: FixtureCase, group: str, files: Mapping[str, bytes], collateral: str | None
) -> Json:
    logs = [name for name in files if name.startswith("event_log")]
    return {
        "schema": CASE_SCHEMA,
        "name": own.name,
        "group": group,
        "description": own.description,
        "attacks": list(own.attacks),
        "steps": list(own.steps),
        "evaluated_at": _time(own.at),
        "nonce": None if own.nonce is None else own.nonce.hex(),
        "report_data": None if own.report_data is None else own.report_data.hex(),
        "inputs": {
            "quote": "quote.bin",
            "collateral": collateral,
            "event_log": logs[0] if logs else None,
            "policy": "policy.json",
            "trust": f"../../{ROOT_FILE}",
        },
        "expected": _expected(own.expected),
    }


def _expected(expected: Expected) -> Json:
    return {
        "verdict": expected.verdict,
        "exit_code": expected.exit_code,
        "failed": sorted(expected.failed),
        "not_checked": sorted(set(expected.not_checked)),
        "error": expected.error,
        "claims": expected.claims,
    }


# --- devices ---


_Known = dict[tuple[str, bytes], str]
"""Name and content of a file → the directory of the first case that has it."""


def _directory(own: DeviceCase) -> str:
    return f"{own.kind}/{own.name}"


def _device_files(own: DeviceCase, group: str, first: _Known) -> dict[str, bytes]:
    """Return the files of a case; those that an earlier case has already stay there."""
    node = own.node()
    files = {"evidence.json": own.evidence(node).encode("utf-8")}
    if own.entries is not None:
        files["collateral.json"] = pack(own.entries(node)).encode("utf-8")
    if own.td is not None:
        made = own.td()
        td = made.build() if isinstance(made, SimCase) else made
        files["quote.bin"] = td.quote_bytes
        if own.event_log is not None:
            files["event_log.bin"] = own.event_log(td)
    here = _directory(own)
    places = {name: first.setdefault((name, content), here) for name, content in files.items()}
    paths = {
        name: name if place == here else f"../../{place}/{name}" for name, place in places.items()
    }
    kept = {name: content for name, content in files.items() if places[name] == here}
    document = _device_document(own, group, paths)
    return kept | {"policy.json": _json(own.policy), "case.json": _json(document)}


def _shared(own: DeviceCase) -> tuple[str, ...]:
    """Names of the collateral files that other cases use too."""
    return own.shared if own.td is None else ("intel", *own.shared)


def _device_document(own: DeviceCase, group: str, paths: Mapping[str, str]) -> Json:
    collateral = [f"../../{_shared_file(name)}" for name in _shared(own)]
    if "collateral.json" in paths:
        collateral.append(paths["collateral.json"])
    return {
        "schema": CASE_SCHEMA,
        "name": own.name,
        "group": group,
        "description": own.description,
        "attacks": list(own.attacks),
        "evaluated_at": _time(own.at),
        "nonce": None if own.nonce is None else own.nonce.hex(),
        "report_data": None if own.report_data is None else own.report_data.hex(),
        "channel": dict(own.channel),
        "inputs": {
            "quote": paths.get("quote.bin"),
            "event_log": paths.get("event_log.bin"),
            "devices": paths["evidence.json"],
            "collateral": collateral,
            "policy": "policy.json",
            "trust": f"../../{ROOT_FILE}",
            "nvidia_device_trust": f"../../{DEVICE_ROOT_FILE}",
            "nvidia_rim_trust": f"../../{RIM_ROOT_FILE}",
        },
        "expected": _expected(own.expected),
    }


# --- text ---


def _time(moment: datetime) -> str:
    # Not strftime: its %Y is not padded to four digits everywhere.
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _json(document: Json) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def main(arguments: Sequence[str]) -> int:
    """Write the corpus into the directory named; return the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m ccverify.sim.fixtures DIR\n")
        return 1
    count = write_fixtures(Path(arguments[0]))
    cases = sum(map(len, (*GROUPS.values(), *DEVICE_GROUPS.values())))
    sys.stderr.write(f"{count} files of {cases} cases\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
