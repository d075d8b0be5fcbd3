"""A simulated machine's files on disk, and the command line in this process."""

from __future__ import annotations

import json

import pytest
from cli_files import NONCE, Files, Run
from click.testing import CliRunner, Result

import ccverify
from ccverify.cli.app import cli
from ccverify.policy.model import MUST_STATE
from ccverify.sim import SimPlatform
from ccverify.sim.defaults import dstack_events


def _quote(platform: SimPlatform) -> bytes:
    case = platform.case(report_data=NONCE.ljust(64, b"\0"), runtime_events=dstack_events())
    return case.build().quote_bytes


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    case = SimPlatform().case(report_data=NONCE.ljust(64, b"\0"), runtime_events=dstack_events())
    evidence = case.build()
    quote = evidence.quote_bytes
    start, _ = evidence.quote.span("body.mr_td")
    flipped = bytearray(quote)
    flipped[start] ^= 1
    report = ccverify.parse_quote(quote).report
    policy = {
        "schema": "ccverify.policy/v1",
        "name": "test",
        "tdx": {"measurements": {name: [getattr(report, name).hex()] for name in MUST_STATE}},
    }
    contents: dict[str, bytes] = {
        "quote.bin": quote,
        "quote.hex": quote.hex().encode() + b"\n",
        "cut.bin": quote[:700],
        "flipped.bin": bytes(flipped),
        "old.bin": _quote(SimPlatform().with_status("OutOfDate")),
        "empty": b"",
        "collateral.json": evidence.collateral.to_json().encode(),
        "root.der": evidence.root_der,
        "log.json": evidence.dstack_event_log().encode(),
        "ccel.bin": evidence.ccel,
        "policy.json": json.dumps(policy).encode(),
        "nonce.bin": NONCE,
        "nonce.txt": b"0x" + NONCE.hex().encode() + b"\n",
        "bad.json": b'{"schema": "ccverify.collateral/v1", "artefacts": 7}',
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return Files(folder, f"{evidence.at:%Y-%m-%dT%H:%M:%SZ}", evidence.root_der)


@pytest.fixture
def run() -> Run:
    """Run the command line in this process; standard output and error are kept apart."""

    def invoke(*arguments: str, stdin: bytes | None = None, **environment: str) -> Result:
        # A command that raises instead of exiting must not pass for one that exits with 1.
        return CliRunner().invoke(
            cli, list(arguments), input=stdin, env=environment, catch_exceptions=False
        )

    return invoke


@pytest.fixture
def simulated(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the simulator's root in the place of the production roots.

    No option does this: it is what lets tests without real evidence reach exit code 0.
    """
    anchor = ccverify.TrustAnchor.load(files.root_der)
    store = ccverify.TrustStore(ccverify.TrustKind.SIMULATED, anchor)
    monkeypatch.setattr(ccverify.TrustStore, "production", lambda: store)
