"""explain, inspect and policy."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cli_files import Files, Run

import ccverify
from ccverify.checks import CHECKS
from ccverify.cli.policy_advice import advise
from ccverify.cli.policy_remark import Level
from ccverify.policy.model import MUST_STATE

# --- explain ---


@pytest.mark.parametrize("code", ["TDX-MRTD", "tdx-mrtd"])
def test_explain_says_everything(run: Run, code: str) -> None:
    result = run("explain", code)
    assert result.exit_code == 0
    for word in ("proves", "stops", "to fix", "needed", "exit code 4"):
        assert word in result.stdout


def test_explain_alone_lists_all(run: Run) -> None:
    result = run("explain")
    assert result.exit_code == 0
    assert all(f"  {check.code}" in result.stdout for check in CHECKS)


def test_explain_suggests_the_nearest(run: Run) -> None:
    result = run("explain", "TDX-QUOTE-SIGNATRUE")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "did you mean TDX-QUOTE-SIGNATURE?" in result.stderr
    assert "lists all checks" in run("explain", "zzz").stderr


# --- inspect ---


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("quote.bin", "tdx-quote"),
        ("quote.hex", "tdx-quote"),
        ("flipped.bin", "tdx-quote"),
        ("collateral.json", "collateral"),
        ("log.json", "event-log"),
        ("ccel.bin", "event-log"),
    ],
)
def test_inspect_sees_what_a_file_is(files: Files, run: Run, name: str, kind: str) -> None:
    shown = run("inspect", files[name])
    document = json.loads(run("inspect", files[name], "--format", "json").stdout)
    assert shown.exit_code == 0
    assert "UNVERIFIED" in shown.stdout.splitlines()[1]
    assert (document["kind"], document["verified"]) == (kind, False)


def test_inspect_reads_packs_and_base64(files: Files, run: Run) -> None:
    quote = Path(files["quote.bin"]).read_bytes()
    result = run("inspect", "-", "--format", "json", stdin=base64.b64encode(quote))
    assert json.loads(result.stdout)["kind"] == "tdx-quote"
    pack = ccverify.parse_collateral(Path(files["collateral.json"]).read_bytes())
    result = run("inspect", "-", "--format", "json", stdin=ccverify.serialize_collateral(pack))
    assert json.loads(result.stdout)["summary"]["pack_sha384"] == pack.digest


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 2),
        (b"\x04\x00", 2),
        (b"no quote at all", 2),
        (b"{", 2),
        (b"{}", 2),
        (b"[1]", 2),
        (b'{"schema": "x"}', 5),
        (b'{"tcb_info": 1}', 5),
        (bytes(8), 2),
        (b"\xff" * 100, 2),
    ],
)
def test_inspect_refuses_what_it_does_not_know(run: Run, data: bytes, code: int) -> None:
    result = run("inspect", "-", "--format", "json", stdin=data)
    assert result.exit_code == code
    assert json.loads(result.stdout)["exit_code"] == code
    assert "internal" not in result.stderr


REAL_INSPECTIONS = ("quotes/*.bin", "quotes/captured/*.bin", "eventlogs/*", "collateral/*.json")


@pytest.mark.parametrize("pattern", REAL_INSPECTIONS)
def test_inspect_never_breaks_on_real_files(vectors: Path, run: Run, pattern: str) -> None:
    paths = sorted(path for path in (vectors / "tdx").glob(pattern) if path.is_file())
    if not paths:
        pytest.skip(f"no {pattern} among the vectors")
    understood = 0
    for path in paths:
        result = run("inspect", str(path))
        assert result.exit_code in (0, 2, 5)
        assert "internal error" not in result.stderr
        assert result.stdout.replace("\n", "").isprintable()
        understood += result.exit_code == 0
    assert understood


# --- policy ---


def lint(run: Run, tdx: dict[str, object]) -> tuple[int, str]:
    document = {"schema": "ccverify.policy/v1", "tdx": tdx}
    result = run("policy", "lint", "-", stdin=json.dumps(document).encode())
    return result.exit_code, " ".join(result.stdout.split())


STATED = {name: ["ab" * 48] for name in MUST_STATE}
STRICT: dict[str, object] = {
    "measurements": STATED,
    "collateral": {"max_age_days": 7},
    "tcb": {"min_evaluation_number": 17},
    "platform": {"ppid": ["11" * 16]},
}


def test_a_strict_policy_has_no_advice(run: Run) -> None:
    code, text = lint(run, STRICT)
    assert code == 0
    assert "Nothing in it is weaker than it has to be." in text


ADVICE: dict[str, tuple[Level, dict[str, object]]] = {
    "tdx.attributes.debug: allow": (Level.WEAKENS, {"attributes": {"debug": "allow"}}),
    "tdx.attributes.sept_ve_disable: forbid": (
        Level.WEAKENS,
        {"attributes": {"sept_ve_disable": "forbid"}},
    ),
    "tdx.service_td": (Level.WEAKENS, {"service_td": ["ab" * 48]}),
    "tdx.measurements: nothing on rtmr1": (
        Level.UNMEETABLE,
        {"measurements": {n: v for n, v in STATED.items() if n != "rtmr1"}},
    ),
    "tdx.measurements: any for mrtd": (
        Level.WEAKENS,
        {"measurements": {**STATED, "mrtd": "any"}},
    ),
    "tdx.measurements: any for rtmr3": (
        Level.WEAKENS,
        {"measurements": {**STATED, "rtmr3": "any"}},
    ),
    "tdx.tcb.accepted_statuses: OutOfDate": (
        Level.WEAKENS,
        {"tcb": {"min_evaluation_number": 1, "accepted_statuses": ["UpToDate", "OutOfDate"]}},
    ),
    "tdx.tcb.accepted_statuses": (
        Level.UNMEETABLE,
        {"tcb": {"min_evaluation_number": 1, "accepted_statuses": []}},
    ),
    "tdx.tcb.grace_days.OutOfDate: 91": (
        Level.WEAKENS,
        {"tcb": {"min_evaluation_number": 1, "grace_days": {"OutOfDate": 91}}},
    ),
    "tdx.tcb.min_evaluation_number": (Level.CONSIDER, {"tcb": {}}),
    "tdx.collateral.max_age_days": (Level.CONSIDER, {"collateral": {}}),
    "tdx.collateral.allow_unknown_fields: true": (
        Level.WEAKENS,
        {"collateral": {"max_age_days": 7, "allow_unknown_fields": True}},
    ),
    "tdx.report_data: any": (Level.WEAKENS, {"report_data": "any"}),
    "tdx.report_data: a list": (Level.WEAKENS, {"report_data": ["33" * 64]}),
    "tdx.platform": (Level.CONSIDER, {"platform": {}}),
    "tdx.event_log.required: false": (Level.WEAKENS, {"event_log": {"required": False}}),
    "tdx.event_log.rtmr3: opaque": (
        Level.UNMEETABLE,
        {"event_log": {"rtmr3": "opaque", "claims": {"app_id": ["aa"]}}},
    ),
}


@pytest.mark.parametrize("where", ADVICE)
def test_each_weakness_is_named_once_and_alone(run: Run, where: str) -> None:
    level, change = ADVICE[where]
    policy = ccverify.policy_from_document(
        {"schema": "ccverify.policy/v1", "tdx": {**STRICT, **change}}
    )
    assert [(note.level, note.where) for note in advise(policy)] == [(level, where)]
    code, text = lint(run, {**STRICT, **change})
    assert code == (1 if level is Level.UNMEETABLE else 0)
    assert where in text


def test_rtmr3_may_be_explained_by_a_log() -> None:
    policy = ccverify.policy_from_document(
        {
            "schema": "ccverify.policy/v1",
            "tdx": {
                **STRICT,
                "measurements": {**STATED, "rtmr3": "any"},
                "event_log": {"rtmr3": "log", "claims": {"compose_hash": ["aa"]}},
            },
        }
    )
    assert advise(policy) == []


@pytest.mark.usefixtures("simulated")
def test_what_lint_calls_unmeetable_is_not_met(files: Files, run: Run, tmp_path: Path) -> None:
    document = json.loads(Path(files["policy.json"]).read_bytes())
    unmeetable = [
        lambda tdx: tdx["measurements"].pop("rtmr1"),
        lambda tdx: tdx.update(tcb={"accepted_statuses": []}),
        lambda tdx: tdx.update(event_log={"rtmr3": "opaque", "claims": {"storage_fs": ["zfs"]}}),
    ]
    for change in unmeetable:
        spoiled = json.loads(json.dumps(document))
        change(spoiled["tdx"])
        path = tmp_path / "policy.json"
        path.write_text(json.dumps(spoiled))
        words = ["check", files["quote.bin"], *files.options(), "--event-log", files["log.json"]]
        words[words.index("--policy") + 1] = str(path)
        assert run("policy", "lint", str(path)).exit_code == 1
        assert run(*words).exit_code in (4, 6)


def test_an_invalid_policy_is_refused_in_words(run: Run) -> None:
    result = run("policy", "lint", "-", stdin=b"schema: ccverify.policy/v1\ntdx: {debug: 1}\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "unknown key 'debug'" in result.stderr
    assert "standard input: policy.tdx" in result.stderr


def test_show_can_be_read_back(files: Files, run: Run) -> None:
    shown = json.loads(run("policy", "show", files["policy.json"], "--format", "json").stdout)
    again = ccverify.policy_from_document(shown["effective"])
    policy = ccverify.load_policy(Path(files["policy.json"]).read_bytes())
    assert shown["sha384"] == policy.digest
    assert again.tdx.measurements == policy.tdx.measurements
    assert policy.digest[:40] in run("policy", "show", files["policy.json"]).stdout
