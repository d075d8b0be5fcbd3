"""The documentation says what the code does: codes, keys, schemas, commands and links."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import ccverify
from ccverify import CHECKS, Conclusion, State, Verdict
from ccverify.cli.app import COMMANDS
from ccverify.findings import Assurance
from ccverify.policy.document import load_policy, policy_schema
from ccverify.policy.model import MUST_STATE
from ccverify.results.render.table import EXIT_MEANINGS
from ccverify.sim import SimCase, SimPlatform
from ccverify.sim.defaults import dstack_events
from ccverify.sim.defects import DEFECTS
from ccverify.tdx.attributes import TD_ATTRIBUTES, XFAM_FEATURES
from ccverify.tdx.claims import TdxClaims
from ccverify.tdx.collateral import CollateralPack
from ccverify.tdx.eventlog import IDENTITY_EVENTS, RTMR3_TREATMENTS
from ccverify.tdx.quote import BODY_FIELDS, BodyType
from ccverify.tdx.tcb_info import TcbStatus
from ccverify.trust.store import TrustKind

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
VERDICT_SCHEMA = json.loads((DOCS / "spec" / "verdict-v1.schema.json").read_text("utf-8"))
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

# --- what is generated ---


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "hooks" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_check_is_on_the_checks_page(generate: ModuleType) -> None:
    page = generate.fill(text("checks.md"))
    for check in CHECKS:
        assert f"### {check.code} {{ #{check.code.lower()} }}" in page
        for said in (check.title, check.proves, check.stops, check.fix, check.applies):
            assert said in page
    assert page.count("\n### ") == len(CHECKS)


def test_every_command_and_option_is_on_the_commands_page(generate: ModuleType) -> None:
    page = generate.fill(text("cli.md"))
    for name in COMMANDS:
        assert f"\n## ccverify {name}\n" in page
    for option in ("--insecure-trust-root", "--what-if", "--nonce-file", "--exit-code", "--merge"):
        assert option in page
    assert "### ccverify collateral fetch\n" in page


def test_every_marker_is_known_and_filled(generate: ModuleType) -> None:
    used = {name for page in PAGES for name in generate.MARKER.findall(page.read_text("utf-8"))}
    assert used == set(generate.GENERATORS)
    for page in PAGES:
        assert "<!-- generated:" not in generate.fill(page.read_text("utf-8")), page


def test_the_schemas_on_the_pages_are_the_real_ones(generate: ModuleType) -> None:
    for page, schema in (("policy.md", policy_schema()), ("verdict.md", VERDICT_SCHEMA)):
        (block,) = blocks(generate.fill(text(f"spec/{page}")), "json")
        assert json.loads(block) == schema


# --- policies ---


def schema_keys(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every (section, key) of the policy schema; a section is the dotted path above the key."""
    for key, part in schema.get("properties", {}).items():
        yield prefix, key
        if (prefix, key) in {("gateway", "tdx"), ("gateway", "binding")}:
            continue  # the same as the sections of these names
        resolved = part
        if "$ref" in part:
            resolved = policy_schema()["$defs"][part["$ref"].rsplit("/", 1)[1]]
        yield from schema_keys(resolved, f"{prefix}.{key}".strip("."))


def test_every_policy_key_is_documented_in_its_section() -> None:
    sections = dict(re.findall(r"^## (\S[^\n]*)\n(.*?)(?=^## |\Z)", text("policy.md"), re.M | re.S))
    keys = list(schema_keys(dict(policy_schema())))
    assert len(keys) > 100
    for section, key in keys:
        if f"{section}.{key}" in sections:
            continue  # an object: its heading introduces it
        titles = {"": ("Top level",), "tdx": (f"tdx.{key}",), **TOLD_ELSEWHERE}
        told = "".join(sections[title] for title in titles.get(section, (section,)))
        assert f"\n| `{key}` |" in told, f"{section}.{key}"


TOLD_ELSEWHERE = {
    "nvswitches": ("nvswitches", "gpus"),
    "gpus.vbios": ("gpus.driver",),
    "nvswitches.bios": ("gpus.driver",),
    "nvswitches.count": ("gpus.count",),
    "fabric.manager.versions": ("gpus.driver",),
}
"""Sections with the keys of another."""


def test_documented_policy_keys_exist() -> None:
    known = {key for _, key in schema_keys(dict(policy_schema()))}
    assert set(re.findall(r"^\| `([a-z_0-9-]+)` \|", text("policy.md"), re.M)) == known - {
        "tcb", "collateral", "measurements", "attributes", "xfam", "platform", "event_log",
    }  # fmt: skip


def test_the_attribute_table_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\w+) \| (.+?)\. \|$", text("policy.md"), re.M)
    assert [(key, int(bit), rule, meaning.lower()) for key, bit, rule, meaning in rows] == [
        (bit.key, bit.bit, bit.default.value, bit.meaning.lower()) for bit in TD_ATTRIBUTES
    ]


def test_xfam_features_and_rtmr3_treatments_are_documented() -> None:
    page = text("policy.md")
    for name in (*(feature.key for feature in XFAM_FEATURES), *RTMR3_TREATMENTS):
        assert f"`{name}`" in page
    for name in MUST_STATE:
        assert f"| `{name}` | must be stated |" in page


def test_ready_made_policies_are_named_where_they_are_listed() -> None:
    policies = {path.name for path in (ROOT / "policies").iterdir()}
    for page in ("policy.md", "quickstart.md"):
        assert set(re.findall(r"(?:tdx|nvidia|provider)-[a-z-]+\.yaml", text(page))) == policies, (
            page
        )


# --- verdicts ---


def test_exit_codes_are_documented() -> None:
    for page in (text("verdicts.md"), (ROOT / "README.md").read_text("utf-8")):
        rows = re.findall(r"^\| (\d+) \| ", page, re.M)
        assert [int(code) for code in rows] == sorted(EXIT_MEANINGS)


def test_states_conclusions_and_statuses_are_documented() -> None:
    page = text("verdicts.md")
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.M)) == {state.value for state in State}
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.M)) == {c.value for c in Conclusion}
    rows = re.findall(r"^\| `(\w+)` \|", text("tcb.md"), re.M)
    assert set(rows) == {status.value for status in TcbStatus}
    rows = re.findall(r"^\| `(\w+)` \|", text("assurance.md"), re.M)
    assert rows == [level.value for level in Assurance]
    rows = re.findall(r"^\| `(\w+)` \|", text("trust.md"), re.M)
    assert rows == [kind.value for kind in TrustKind]


def test_codes_named_on_pages_exist() -> None:
    known = {check.code for check in CHECKS}
    for page in PAGES:
        for code in re.findall(r"\bTDX-[A-Z]+(?:-[A-Z0-9]+)*\b", page.read_text("utf-8")):
            near = any(other.startswith(f"{code}-") for other in known)
            assert code in known or near, f"{page.name}: {code}"


def test_the_schema_names_what_the_code_can_say() -> None:
    definitions, top = VERDICT_SCHEMA["$defs"], VERDICT_SCHEMA["properties"]
    finding, inputs = definitions["finding"]["properties"], definitions["inputs"]["properties"]
    tdx = definitions["tdx"]["properties"]
    assert top["verdict"]["enum"] == [conclusion.value for conclusion in Conclusion]
    assert top["exit_code"]["enum"] == sorted(set(EXIT_MEANINGS) - {1})
    assert finding["state"]["enum"] == [state.value for state in State]
    assert definitions["assurance"]["enum"] == [level.value for level in Assurance]
    assert definitions["status"]["enum"] == [status.value for status in TcbStatus]
    assert inputs["trust_store"]["properties"]["kind"]["enum"] == [kind.value for kind in TrustKind]
    assert tdx["body_type"]["enum"] == [body.name for body in BODY_FIELDS]
    claims = tdx["event_log"]["properties"]["claims"]["propertyNames"]["enum"]
    assert sorted(claims) == sorted(event.claim for event in IDENTITY_EVENTS.values())
    used = inputs["collateral"]["properties"]["used"]["items"]["properties"]["type"]["enum"]
    pack = honest().collateral
    artefacts = ccverify.parse_collateral(pack.to_json().encode()).artefacts
    assert used == [artefact.kind for artefact in artefacts]
    renamed = {"tdattributes": "td_attributes"}
    fields = {renamed.get(f.name, f.name) for f in BODY_FIELDS[BodyType.TD15EX]}
    assert fields <= set(tdx)


# --- verdicts against the schema ---

NONCE = bytes(range(32))
POLICY = b"""
schema: ccverify.policy/v1
name: documentation
tdx:
  measurements: {mrtd: any, rtmr0: any, rtmr1: any, rtmr2: any, rtmr3: any}
"""


def case(**options: Any) -> SimCase:
    return SimPlatform().case(report_data=NONCE.ljust(64, b"\0"), **options)


def honest() -> Any:
    return case().build()


def judge(
    evidence: Any,
    *,
    kind: TrustKind = TrustKind.SIMULATED,
    quote: bytes | None = None,
    log: bytes | None = None,
    **changes: Any,
) -> Verdict:
    arguments: dict[str, Any] = {
        "policy": load_policy(POLICY),
        "now": evidence.at,
        "nonce": NONCE,
        "collateral": ccverify.parse_collateral(evidence.collateral.to_json().encode()),
        "trust": ccverify.TrustStore(kind, ccverify.TrustAnchor.load(evidence.root_der)),
    }
    data = evidence.quote_bytes if quote is None else quote
    return ccverify.check(ccverify.Evidence(data, log), **(arguments | changes))


def as_read(verdict: Verdict) -> Any:
    return json.loads(verdict.dumps())


def assert_valid(verdict: Verdict) -> None:
    Draft202012Validator(VERDICT_SCHEMA).validate(as_read(verdict))


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(VERDICT_SCHEMA)


@pytest.mark.parametrize(
    ("options", "body"), [({"version": 4}, "TD10"), ({"version": 5, "body_type": 3}, "TD15"),
                          ({"version": 5, "body_type": 4}, "TD15EX")]
)  # fmt: skip
def test_trusted_verdicts_are_valid(options: dict[str, Any], body: str) -> None:
    verdict = judge(case(**options).build())
    assert (verdict.conclusion, verdict.exit_code) == (Conclusion.TRUSTED, 0)
    assert isinstance(verdict.tdx, TdxClaims)
    assert verdict.tdx.values["body_type"] == body
    assert_valid(verdict)


def test_a_verdict_with_event_log_and_what_if_is_valid() -> None:
    evidence = case(runtime_events=dstack_events()).build()
    pack = ccverify.parse_collateral(evidence.collateral.to_json().encode())
    verdict = judge(evidence, log=evidence.dstack_event_log().encode(), what_if=pack)
    assert verdict.trusted
    claims = as_read(verdict)["claims"]["tdx"]
    assert claims["event_log"]["claims"]["app_id"]
    assert claims["what_if"]["tcb_status"] == "UpToDate"
    assert_valid(verdict)


def test_what_if_without_an_answer_is_valid() -> None:
    verdict = judge(honest(), what_if=CollateralPack())
    assert as_read(verdict)["claims"]["tdx"]["what_if"]["tcb_status"] is None
    assert_valid(verdict)


@pytest.mark.parametrize("status", ["OutOfDate", "ConfigurationNeeded", "Revoked"])
def test_verdicts_on_other_tcb_statuses_are_valid(status: str) -> None:
    platform = SimPlatform().with_status(status)
    verdict = judge(platform.case(report_data=NONCE.ljust(64, b"\0")).build())
    assert (verdict.conclusion, verdict.exit_code) == (Conclusion.UNTRUSTED, 4)
    assert_valid(verdict)


def test_verdicts_without_a_parsed_quote_are_valid() -> None:
    evidence = honest()
    malformed, nothing = judge(evidence, quote=b"no quote"), judge(evidence, quote=b"")
    assert (malformed.conclusion, malformed.exit_code) == (Conclusion.UNTRUSTED, 2)
    assert (nothing.conclusion, nothing.exit_code) == (Conclusion.INCOMPLETE, 10)
    assert_valid(malformed)
    assert_valid(nothing)


def test_incomplete_verdicts_are_valid() -> None:
    evidence = honest()
    no_nonce, bare = judge(evidence, nonce=None), judge(evidence, collateral=CollateralPack())
    assert (no_nonce.conclusion, no_nonce.exit_code) == (Conclusion.INCOMPLETE, 6)
    assert (bare.conclusion, bare.exit_code) == (Conclusion.INCOMPLETE, 5)
    assert_valid(no_nonce)
    assert_valid(bare)


def test_a_verdict_under_an_insecure_root_is_valid() -> None:
    verdict = judge(honest(), kind=TrustKind.INSECURE)
    assert (verdict.conclusion, verdict.exit_code) == (Conclusion.UNTRUSTED, 3)
    assert_valid(verdict)


@pytest.mark.parametrize("name", DEFECTS)
def test_verdicts_on_defects_are_valid(name: str) -> None:
    evidence = DEFECTS[name].evidence()
    log = evidence.dstack_event_log().encode() if DEFECTS[name].area == "log" else None
    # Some defects damage collateral so that it does not parse: those have no verdict.
    try:
        verdict = judge(evidence, log=log, nonce=None)
    except ccverify.CollateralError:
        return
    assert_valid(verdict)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["exit_code"], 3),
        (["exit_code"], 1),
        (["verdict"], "untrusted"),
        (["simulated"], False),
        (["findings", 0, "state"], "NOT_CHECKED"),
        (["findings", 0, "state"], "OK"),
        (["findings", 0, "assurance"], "hard"),
        (["evaluated_at"], "2026-06-15 12:00"),
        (["inputs", "trust_store", "kind"], "insecure"),
        (["claims", "tdx", "tcb_status"], "Fine"),
        (["extra"], 1),
    ],
)
def test_the_schema_refuses_a_verdict_that_contradicts_itself(
    path: list[str | int], value: object
) -> None:
    verdict = as_read(judge(honest()))
    place = verdict
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not Draft202012Validator(VERDICT_SCHEMA).is_valid(verdict)


def test_the_documented_order_of_exit_codes() -> None:
    evidence = honest()
    pinned = load_policy(POLICY.replace(b"mrtd: any", b'mrtd: ["' + b"11" * 48 + b'"]'))
    changed = bytearray(evidence.quote_bytes)
    changed[184] ^= 1  # a byte of MRTD, in a version 4 quote
    assert judge(evidence, policy=pinned).exit_code == 4
    assert judge(evidence, policy=pinned, quote=bytes(changed)).exit_code == 3
    assert judge(evidence, nonce=bytes(32)).exit_code == 3
    later = evidence.at.replace(year=evidence.at.year + 1)
    assert judge(evidence, now=later).exit_code == 5
    assert judge(evidence, now=later, policy=pinned).exit_code == 4
    assert judge(evidence, nonce=None, collateral=CollateralPack()).exit_code == 5
    nothing = judge(evidence, quote=b"", kind=TrustKind.INSECURE)
    assert (nothing.conclusion, nothing.exit_code) == (Conclusion.INCOMPLETE, 10)


def test_needed_is_what_counts_against_the_machine() -> None:
    evidence = honest()
    for verdict in (judge(evidence), judge(evidence, nonce=None), judge(evidence, quote=b"x")):
        needed = {
            finding["code"]
            for finding in as_read(verdict)["findings"]
            if finding["needed"] and finding["state"] != "PASS"
        }
        assert needed == {finding.code for finding in verdict.failures()}


# --- examples ---


def blocks(page: str, language: str) -> list[str]:
    """Fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S)


def text(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "ccverify", *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def assert_shown(block: str, output: str) -> None:
    """Every line of a documented output, except cuts and commands, is in the real one."""
    real = {line.rstrip() for line in output.splitlines()}
    shown = [line.rstrip() for line in block.splitlines()]
    skip = False
    for line in shown:
        command, skip = line.startswith("$ ") or skip, line.endswith("\\")
        if line and not command and "…" not in line.removesuffix("…"):
            assert line.strip() == "…" or line in real, line


def test_the_readme_shows_the_demonstration_as_it_is() -> None:
    done = run("demo")
    assert done.returncode == 0
    (shown,) = blocks((ROOT / "README.md").read_text("utf-8"), "text")
    assert shown.count("\n") > 10
    assert_shown(shown, done.stdout)


def test_the_quick_start_shows_verdicts_as_they_are(vectors: Path) -> None:
    quote = vectors / "tdx" / "quotes" / "phala_b0c06f_v4.bin"
    pack = vectors / "tdx" / "collateral" / "phala_b0c06f_2025-06.json"
    report_data = ccverify.parse_quote(quote.read_bytes()).report.report_data.hex()
    policy = str(ROOT / "policies" / "tdx-platform-only.yaml")
    common = ["--policy", policy, "--collateral", str(pack), "--at", "2025-07-04T10:00:00Z"]
    outputs = [
        run("inspect", str(quote)),
        run("check", str(quote), *common, "--report-data", report_data),
        run("check", str(quote), *common),
    ]
    assert [done.returncode for done in outputs] == [0, 0, 6]
    shown = blocks(text("quickstart.md"), "console")[1:]
    assert len(shown) == len(outputs)
    for block, done in zip(shown, outputs, strict=True):
        assert_shown(block, done.stdout)


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = honest()
    (tmp_path / "quote.bin").write_bytes(evidence.quote_bytes)
    (tmp_path / "pack.json").write_text(evidence.collateral.to_json())
    (tmp_path / "policy.yaml").write_bytes(POLICY)
    monkeypatch.chdir(tmp_path)
    for page in (ROOT / "README.md", DOCS / "quickstart.md"):
        (source,) = blocks(page.read_text("utf-8"), "python")
        names: dict[str, Any] = {"nonce": NONCE}
        exec(compile(source, str(page), "exec"), names)
        # Simulated evidence under the pinned root: judged, and refused.
        assert names["verdict"].exit_code == 3


def test_policy_examples_are_valid() -> None:
    for page in ("policy.md", "event-logs.md"):
        for block in blocks(text(page), "yaml"):
            document = yaml.safe_load(re.sub(r'"[0-9a-f]*…"', f'"{"0" * 96}"', block))
            document.setdefault("schema", "ccverify.policy/v1")
            ccverify.policy_from_document(document)


# --- commands, links, project ---


def test_commands_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in re.findall(r"\bsh (\S+)", " ".join(blocks(readme, "sh"))):
        assert os.access(ROOT / path, os.R_OK), path
    for path in re.findall(r"policies/\S+?\.yaml", readme):
        assert (ROOT / path).is_file(), path


def test_commands_and_options_on_pages_exist() -> None:
    for page in PAGES:
        for block in (
            b for kind in ("sh", "console") for b in blocks(page.read_text("utf-8"), kind)
        ):
            joined = block.replace("\\\n", " ")
            for line in re.findall(r"(?:^|\$ |\bif )ccverify ([a-z][^\n;|]*)", joined, re.M):
                words = line.split()
                assert words[0] in COMMANDS, f"{page.name}: {line}"
                path = words[:2] if words[0] in ("collateral", "policy", "fabric") else words[:1]
                known = run(*path, "--help").stdout
                for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", line):
                    assert f"{option} " in known or f"{option}," in known, f"{page.name}: {option}"


def links(page: Path) -> Iterator[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    yield from re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        if anchor and file.suffix == ".md" and "<!-- generated" not in file.read_text("utf-8"):
            assert anchor in anchors(file), link


def test_every_page_is_in_the_navigation() -> None:
    nav = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    assert sorted(nav) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_modules_of_the_api_pages_exist_and_none_is_forgotten() -> None:
    named = {
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.M)
    }
    for name in named:
        assert importlib.util.find_spec(name), name
    for folder in ("tdx", "tpm", "trust", "policy", "nvidia", "fabric"):
        for path in (ROOT / "ccverify" / folder).glob("*.py"):
            name = f"ccverify.{folder}.{path.stem}"
            assert name in named or path.stem in INTERNAL, name
    for name in ccverify.__all__:
        if name == "__version__":
            continue
        module = getattr(getattr(ccverify, name), "__module__", "ccverify.checks")
        assert module in named, name
        assert f"[`{name}`][{module}.{name}]" in text("api/index.md")


INTERNAL = {
    "__init__",
    "der",
    "document_devices",
    "document_fabric",
    "http_get",
    "opaque_fields",
    "verify_collateral",
}
"""Modules that only their neighbours use."""


def test_the_change_log_names_the_version() -> None:
    version = ccverify.__version__
    assert version in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert version in (ROOT / "README.md").read_text("utf-8")


def test_the_pages_show_the_pinned_root() -> None:
    assert ccverify.TrustStore.production().intel_root.certificate_sha256.hex() in text("trust.md")
