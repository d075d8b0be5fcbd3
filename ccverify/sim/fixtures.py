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

from ccverify.sim.cases import ATTACKS, GROUPS, STEPS, Expected, FixtureCase
from ccverify.sim.cases.model import Json
from ccverify.sim.certs import to_pem
from ccverify.sim.pki import SimIssuer

__all__ = ["CASE_SCHEMA", "build_fixtures", "coverage_table", "write_fixtures"]

CASE_SCHEMA = "ccverify.fixture/v1"
ROOT_FILE = "trust/simulated_root.pem"

_README = """\
# Simulated evidence

**Everything here is simulated and proves nothing about any real machine.** Anybody can sign with
the keys behind it; no verifier may trust `trust/simulated_root.pem` outside a test.

One directory per case under `tdx/`: a quote, the collateral and policy to judge it by, and in
`case.json` the verdict that must follow. `docs/fixtures.md` describes the files and how to use
them from another language. Made by `python -m ccverify.sim.fixtures fixtures`: do not edit.
"""


def build_fixtures() -> dict[str, bytes]:
    """Return all files of the corpus by path, sorted.

    Raises:
        UsageError: this build of `cryptography` cannot sign deterministically.
    """
    files = {ROOT_FILE: to_pem(SimIssuer().root().der(), "CERTIFICATE").encode("ascii")}
    rows = []
    for group, cases in GROUPS.items():
        rows += [f"\n## {group}\n", "| case | verdict | why |", "| --- | --- | --- |"]
        for own in cases:
            directory = f"tdx/{own.name}"
            for name, content in _case_files(own, group).items():
                files[f"{directory}/{name}"] = content
            rows.append(f"| [{own.name}]({directory}) | {_short(own.expected)} | {_why(own)} |")
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
    cases = [own for group in GROUPS.values() for own in group]
    lines = ["| attack | what | cases |", "| --- | --- | --- |"]
    for attack, what in ATTACKS.items():
        lines.append(_coverage(attack, what, [c.name for c in cases if attack in c.attacks]))
    lines += ["", "| step | what | cases |", "| --- | --- | --- |"]
    for step, what in STEPS.items():
        lines.append(_coverage(str(step), what, [c.name for c in cases if step in c.steps]))
    return "\n".join((*lines, ""))


def _coverage(key: str, what: str, names: Sequence[str]) -> str:
    return f"| {key} | {what} | {', '.join(f'`{name}`' for name in names)} |"


def _short(expected: Expected) -> str:
    return f"{expected.verdict} ({expected.exit_code})"


def _why(own: FixtureCase) -> str:
    return own.description.replace("|", "\\|")


def _case_files(own: FixtureCase, group: str) -> dict[str, bytes]:
    evidence = own.evidence()
    files = {"quote.bin": evidence.quote_bytes, "policy.json": _json(own.policy)}
    collateral = own.collateral(evidence)
    if collateral is not None:
        files["collateral.json"] = collateral.encode("utf-8")
    if own.event_log is not None:
        log = own.event_log(evidence)
        files["event_log.json" if log[:1] in (b"[", b"{") else "event_log.bin"] = log
    return files | {"case.json": _json(_document(own, group, files))}


def _document(own: FixtureCase, group: str, files: Mapping[str, bytes]) -> Json:
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
            "collateral": "collateral.json" if "collateral.json" in files else None,
            "event_log": logs[0] if logs else None,
            "policy": "policy.json",
            "trust": f"../../{ROOT_FILE}",
        },
        "expected": {
            "verdict": own.expected.verdict,
            "exit_code": own.expected.exit_code,
            "failed": sorted(own.expected.failed),
            "not_checked": sorted(set(own.expected.not_checked)),
            "error": own.expected.error,
            "claims": own.expected.claims,
        },
    }


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
    sys.stderr.write(f"{count} files of {sum(map(len, GROUPS.values()))} cases\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
