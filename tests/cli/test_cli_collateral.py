"""``ccverify collateral``: fetch, pack, show, diff, and the reports behind them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pcs_server import ROOT_CRL, TCB, Pcs, Reply, hang, replies, serve

from ccverify import (
    CollateralPack,
    TrustAnchor,
    TrustKind,
    TrustStore,
    parse_collateral,
    serialize_collateral,
)
from ccverify.cli.app import cli
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.collateral_report import describe_nvidia
from ccverify.sim import DEFAULT_TIME, SimCase, SimIssuer, SimPlatform
from ccverify.tdx.collateral_diff import compare_packs
from ccverify.tdx.collateral_report import appraise_pack, describe_pack
from ccverify.trust.x509 import parse_certificate, parse_pem_chain

PLATFORM = SimPlatform()
CASE = PLATFORM.case()
EVIDENCE = CASE.build()
COLLATERAL = EVIDENCE.collateral
PACK = parse_collateral(COLLATERAL.to_json().encode())
AT = "2026-06-15T12:00:00Z"
SIMULATED = TrustStore(TrustKind.SIMULATED, TrustAnchor.load(EVIDENCE.root_der))
REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]


def pack_of(case: SimCase) -> CollateralPack:
    return parse_collateral(case.build().collateral.to_json().encode())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.chdir(tmp_path)
    Path("root.pem").write_text(CASE.root.pem())
    Path("quote.bin").write_bytes(EVIDENCE.quote_bytes)
    Path("sim.json").write_bytes(serialize_collateral(PACK))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["collateral", *map(str, arguments)])

    return run


@pytest.fixture
def pcs() -> Iterator[Pcs]:
    with serve(replies(COLLATERAL)) as service:
        yield service


# fetch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [["quote.bin"], ["--fmspc", "53494d000000"], ["hex.txt"]])
def test_fetch(run: Run, pcs: Pcs, what: list[str]) -> None:
    Path("hex.txt").write_text(EVIDENCE.quote_bytes.hex())
    result = run("fetch", *what, "--pccs", pcs.url, "-o", "out.json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert Path("out.json").read_bytes() == serialize_collateral(PACK)
    assert stat.S_IMODE(os.stat("out.json").st_mode) == 0o644
    # The simulated root is not Intel's, and nobody is left in doubt about that.
    assert "warning: TCB info 53494D000000, set 20: expected signed by Intel" in result.stderr
    assert f"out.json: 4 artefacts, SHA-384 {PACK.digest}" in result.stderr
    assert sorted(os.listdir()) == sorted(
        ["hex.txt", "out.json", "quote.bin", "root.pem", "sim.json"]
    )


def test_fetch_passes_its_options_on(run: Run, pcs: Pcs) -> None:
    pcs.routes["/crl"] = pcs.routes[ROOT_CRL]
    result = run(
        *("fetch", "quote.bin", "--pccs", pcs.url, "-o", "out.json", "--update", "early"),
        *("--root-crl-url", f"{pcs.url}/crl", "--ca", "platform"),
    )
    assert result.exit_code == 0, result.stderr
    assert f"{TCB}?fmspc=53494D000000&update=early" in pcs.requests
    assert "/crl" in pcs.requests
    with serve(replies(COLLATERAL)) as proxy:
        result = run(
            *("fetch", "quote.bin", "--pccs", "http://pccs.invalid", "--proxy", proxy.url),
            *("--evaluation-number", 20, "-o", "out.json"),
        )
        assert result.exit_code == 0, result.stderr
        assert (
            f"http://pccs.invalid{TCB}?fmspc=53494D000000&tcbEvaluationDataNumber=20"
            in proxy.requests
        )


def test_fetch_warns_of_what_is_wrong_under_the_right_root(run: Run, pcs: Pcs) -> None:
    pcs.routes.update(replies(pack_collateral_expired()))
    result = run(
        *("fetch", "quote.bin", "--pccs", pcs.url, "-o", "out.json"),
        *("--insecure-trust-root", "root.pem"),
    )
    assert result.exit_code == 3, result.stderr
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning")]
    assert warnings
    assert all("-FRESH]" in line for line in warnings)


def pack_collateral_expired() -> Any:
    return PLATFORM.case(at=DEFAULT_TIME - timedelta(days=3650)).build().collateral


def test_fetch_merges(run: Run, pcs: Pcs) -> None:
    newer = replace(
        CASE,
        tcb_info=replace(
            CASE.tcb_info,
            tcb_evaluation_data_number=21,
            issue_date=DEFAULT_TIME - timedelta(days=1),
        ),
    )
    Path("known.json").write_bytes(serialize_collateral(pack_of(newer)))
    options = ("--insecure-trust-root", "root.pem", "-o", "known.json")
    result = run("fetch", "quote.bin", "--pccs", pcs.url, "--merge", "known.json", *options)
    assert result.exit_code == 3, result.stderr
    merged = parse_collateral(Path("known.json").read_bytes())
    assert sorted(info.edition for info in merged.tcb_infos) == [20, 21]
    assert len(merged.artefacts) == 5
    rollback = [line for line in result.stderr.splitlines() if "TDX-COLLATERAL-ROLLBACK" in line]
    if datetime.now(DEFAULT_TIME.tzinfo) >= newer.tcb_info.issue_date:
        assert len(rollback) == 1
        assert "edition 21" in rollback[0]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["-o", "x"], 1, "nothing to fetch"),
        (["quote.bin"], 1, "--output"),
        (["--fmspc", "00", "-o", "x"], 1, "--fmspc"),
        (["--fmspc", "zz", "-o", "x"], 1, "--fmspc"),
        (["absent.bin", "-o", "x"], 1, "does not exist"),
        (["root.pem", "-o", "x"], 2, "root.pem"),
        (["sim.json", "-o", "x"], 2, "sim.json"),
        (["quote.bin", "--pccs", "ftp://h", "-o", "x"], 1, "not a web address"),
        (["quote.bin", "--update", "late", "-o", "x"], 1, "late"),
        (["quote.bin", "--update", "early", "--evaluation-number", "3", "-o", "x"], 1, "not both"),
        (["quote.bin", "--timeout", "0", "-o", "x"], 1, "--timeout"),
        (["quote.bin", "--merge", "root.pem", "-o", "x"], 5, "root.pem"),
        (["quote.bin", "--insecure-trust-root", "quote.bin", "-o", "x"], 1, "quote.bin"),
    ],
)
def test_fetch_wrong_use(
    run: Run, arguments: list[str], exit_code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy that cannot exist: were anything asked for, it would end there.
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    result = run("fetch", *arguments)
    assert result.exit_code == exit_code
    assert message in result.stderr
    assert not Path("x").exists()


def test_failed_fetch_leaves_the_old_pack(run: Run, pcs: Pcs) -> None:
    Path("out.json").write_text("old")
    arguments = ("fetch", "quote.bin", "--pccs", pcs.url, "-o", "out.json", "--retries", 0)
    pcs.routes[TCB] = Reply(b"\x1b[2J<html>", 404)
    result = run(*arguments)
    assert result.exit_code == 5
    assert "status 404" in result.stderr
    pcs.routes[TCB] = Reply(b'{"\x1b[2J":{},"signature":""}')
    result = run(*arguments)
    assert result.exit_code == 5
    assert "\x1b" not in result.stderr
    pcs.routes[TCB] = hang
    result = run(*arguments, "--timeout", 0.2)
    assert result.exit_code == 5
    assert "within 0.2 s" in result.stderr
    assert Path("out.json").read_text() == "old"
    assert len(os.listdir()) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_only_on_a_terminal(run: Run, pcs: Pcs) -> None:
    import pty

    command = [sys.executable, "-m", "ccverify", "collateral", "fetch", "quote.bin"]
    command += ["--pccs", pcs.url, "-o", "out.json"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"], "TERM": "xterm"}
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=theirs, check=True
        )
        os.close(theirs)
        shown = b""
        while b"out.json: " not in shown:
            shown += os.read(ours, 65536)
    finally:
        os.close(ours)
    assert done.stdout == b""
    assert b"4/4" in shown or b"100%" in shown
    quiet = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert quiet.stdout == b""
    assert b"\x1b" not in quiet.stderr
    assert b"100%" not in quiet.stderr


# pack ----------------------------------------------------------------------------------


def save_responses() -> list[str]:
    for name, response in COLLATERAL.pcs_responses().items():
        Path(f"{name}.body").write_bytes(response.body)
        Path(f"{name}.json").write_text(json.dumps({"headers": dict(response.headers)}))
    return sorted(str(path) for path in Path().glob("*_*.*"))


def test_pack(run: Run) -> None:
    files = save_responses()
    assert len(files) == 8
    options = ("--at", AT, "--insecure-trust-root", "root.pem", "-o", "out.json")
    result = run("pack", *files, *options)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"out.json: 4 artefacts, SHA-384 {PACK.digest}\n"
    assert Path("out.json").read_bytes() == serialize_collateral(PACK)


def test_pack_warns(run: Run) -> None:
    Path("ca.pem").write_text(COLLATERAL.pck_crl_issuer_chain)
    options = ("--at", "2027-01-01T00:00:00Z", "--insecure-trust-root", "root.pem")
    result = run("pack", "sim.json", "ca.pem", "root.pem", *options, "-o", "out.json")
    assert result.exit_code == 3
    assert "warning: root.pem: not needed" in result.stderr
    assert "ca.pem" not in result.stderr  # the pack's CRL was issued by it
    assert result.stderr.count("-FRESH]") == 3


def test_pack_refuses(run: Run) -> None:
    files = save_responses()
    result = run("pack", "tcb_info.body", "-o", "out.json")
    assert result.exit_code == 5
    assert "tcb_info.body" in result.stderr
    result = run("pack", *files, "quote.bin", "-o", "out.json")
    assert result.exit_code == 5
    assert "looks like a quote" in result.stderr
    result = run("pack", "absent", "-o", "out.json")
    assert result.exit_code == 1
    result = run("pack", "sim.json", "-o", "no/such/folder/out.json")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    result = run("pack", "sim.json", "--at", "yesterday", "-o", "out.json")
    assert result.exit_code == 1
    assert not Path("out.json").exists()


def test_pack_of_recorded_responses(run: Run, vectors: Path) -> None:
    folder = vectors / "tdx" / "captures" / "chutes_20260610"
    files = sorted(folder.glob("*trustedservices*"))
    result = run("pack", *files, "--at", "2026-06-15T00:00:00Z", "-o", "out.json")
    assert result.exit_code == 0
    assert "warning" not in result.stderr  # genuine, and current at that time
    expected = vectors / "tdx/collateral/assembled/cap_chutes_20260610_90c06f.json"
    written = parse_collateral(Path("out.json").read_bytes())
    assert written == parse_collateral(expected.read_bytes())


# show ----------------------------------------------------------------------------------


def test_show(run: Run) -> None:
    result = run("show", "sim.json", "--at", AT, "--insecure-trust-root", "root.pem")
    assert result.exit_code == 3
    assert result.stderr == ""
    for text in (
        "✓ TCB info 53494D000000, set 20, current, genuine",
        "✓ QE identity, set 20, current, genuine",
        "✓ PCK CRL (Platform CA), current, genuine",
        "✓ root CA CRL, current, genuine",
        "insecure roots",
        "entries     2",
        "SA-99007 SA-99008",
        "9.9.2.2.4.1.0.5",
    ):
        assert text in result.stdout, text
    result = run("show", "sim.json", "--at", "2027-01-01T00:00:00Z")
    assert result.exit_code == 0
    assert "✗ TCB info 53494D000000, set 20, not current" in result.stdout
    assert "[TDX-TCB-INFO-SIGNATURE]" in " ".join(result.stdout.split())
    assert "✗ root CA CRL, current" in result.stdout


def test_show_json(run: Run) -> None:
    result = run(
        *("show", "sim.json", "--format", "json", "--at", AT),
        *("--insecure-trust-root", "root.pem"),
    )
    report = json.loads(result.stdout)
    assert report["schema"] == "ccverify.collateral-report/v1"
    assert report["sha384"] == PACK.digest
    assert [a["type"] for a in report["artefacts"]] == [
        "tcb-info",
        "qe-identity",
        "pck-crl",
        "root-ca-crl",
    ]
    assert all(a["current"] and a["problems"] == [] for a in report["artefacts"])
    levels = report["artefacts"][0]["tcb_levels"]
    assert levels[0]["status"] == "UpToDate"
    assert len(levels) == 7
    at = datetime.fromisoformat(AT)
    trust = TrustStore(TrustKind.INSECURE, SIMULATED.intel_root)
    nvidia = describe_nvidia(NvidiaCollateral(), trust, at)
    assert report == {**describe_pack(PACK, trust, at), "nvidia": nvidia}


def test_show_real(run: Run, vectors: Path) -> None:
    file = vectors / "tdx" / "collateral" / "near_b0c06f_2026-08.json"
    result = run("show", file, "--at", "2026-08-20T00:00:00Z")
    assert result.exit_code == 0
    assert result.stdout.count("current, genuine") == 4
    assert "✗" not in result.stdout
    assert "PCK certificate chain, FMSPC B0C06F000000" in result.stdout
    report = json.loads(
        run("show", file, "--format", "json", "--at", "2026-08-20T00:00:00Z").stdout
    )
    assert [a["edition"] for a in report["artefacts"]] == [20, 19, 1, 1]
    assert report["artefacts"][2]["entries"] == 57
    assert list(report["artefacts"][0]["tdx_modules"]) == ["TDX_03", "TDX_01"]


def test_show_keeps_control_characters_off_the_screen(run: Run) -> None:
    info = CASE.tcb_info
    level = replace(info.levels[0], advisory_ids=("\x1b[2J\x9bA\u202e\n✓ fake",))
    case = replace(CASE, tcb_info=replace(info, levels=(level, *info.levels[1:])))
    Path("evil.json").write_bytes(serialize_collateral(pack_of(case)))
    result = run("show", "evil.json", "--at", AT)
    for character in ("\x1b", "\x9b", "\u202e"):
        assert character not in result.stdout
    assert "\n✓ fake" not in result.stdout
    assert "\\x1b[2J" in result.stdout
    changed = run("diff", "sim.json", "evil.json")
    assert "\x1b" not in changed.stdout
    assert "\\x1b[2J" in changed.stdout


def test_names_that_are_not_readable() -> None:
    # The name of a certificate is decoded when it is shown, and may then turn out malformed.
    der = CASE.tcb_signing.der()
    assert parse_certificate(der).subject_text.startswith("C=US")
    der = der.replace(b"\x0c\x0bSanta Clara", b"\x0c\x0bSanta\xff\xfelara")
    assert ",L=#53616e7461fffe6c617261," in parse_certificate(der).subject_text


def test_empty_and_foreign_files(run: Run) -> None:
    Path("empty.json").write_bytes(serialize_collateral(CollateralPack()))
    result = run("show", "empty.json")
    assert result.exit_code == 0
    assert "The pack is empty." in result.stdout
    for name, exit_code in (("quote.bin", 5), ("root.pem", 5), ("absent", 1)):
        result = run("show", name)
        assert result.exit_code == exit_code
        assert name in result.stderr
    result = run("show", "quote.bin", "--format", "json")
    assert json.loads(result.stdout)["exit_code"] == 5


# diff ----------------------------------------------------------------------------------


def changed_case() -> SimCase:
    """The next TCB set: another top level, one level moved, a newer module and QE."""
    info, identity = CASE.tcb_info, CASE.qe_identity
    top, _, *rest = info.levels
    svn = top.sgx_components[0].svn
    raised = replace(
        top,
        sgx_components=(replace(top.sgx_components[0], svn=svn + 1), *top.sgx_components[1:]),
        pcesvn=top.pcesvn + 1,
    )
    demoted = replace(top, status="OutOfDate", advisory_ids=("INTEL-SA-99100",))
    assert info.module_identities is not None
    (module,) = [own for own in info.module_identities if own.id == "TDX_01"]
    new_level = replace(module.levels[0], isvsvn=9)
    old_level = replace(module.levels[0], status="OutOfDate")
    modules = (
        replace(module, levels=(new_level, old_level, *module.levels[1:])),
        replace(module, id="TDX_7F"),
    )
    later = timedelta(days=1)
    return replace(
        CASE,
        tcb_info=replace(
            info,
            levels=(raised, demoted, *rest),
            module_identities=modules,
            tcb_evaluation_data_number=21,
            issue_date=info.issue_date + later,
            next_update=info.next_update + later,
        ),
        qe_identity=replace(
            identity,
            isvprodid=3,
            levels=(replace(identity.levels[0], isvsvn=8), *identity.levels[1:]),
        ),
        pck_crl=CASE.pck_crl.with_revoked(1, 2, 3),
    )


def test_compare_packs() -> None:
    report = compare_packs(PACK, pack_of(changed_case()))
    assert report["identical"] is False
    change = report["tcb_infos"]["53494D000000"]
    assert change["edition"] == [20, 21]
    assert change["issued"] == ["2026-06-12T12:00:00Z", "2026-06-13T12:00:00Z"]
    assert change["requirements"]["UpToDate"] == [
        {"component": "sgx[0]", "label": "BIOS: Early Microcode Update", "svn": [9, 10]},
        {"component": "pcesvn", "label": "", "svn": [13, 14]},
    ]
    assert [level["status"] for level in change["tcb_levels"]["added"]] == ["UpToDate"]
    assert [level["status"] for level in change["tcb_levels"]["removed"]] == ["SWHardeningNeeded"]
    (moved,) = change["tcb_levels"]["changed"]
    assert moved["changes"] == {
        "status": ["UpToDate", "OutOfDate"],
        "advisories": {"added": ["INTEL-SA-99100"]},
    }
    assert change["advisories"] == {"added": ["INTEL-SA-99100"]}
    assert change["tdx_modules"]["TDX_7F"]["added"] is True
    levels = change["tdx_modules"]["TDX_01"]["tcb_levels"]
    assert [level["isvsvn"] for level in levels["added"]] == [9]
    assert levels["changed"][0]["changes"] == {"status": ["UpToDate", "OutOfDate"]}
    identity = report["qe_identity"]["TD_QE"]
    assert identity["isvprodid"] == [2, 3]
    assert [level["isvsvn"] for level in identity["tcb_levels"]["added"]] == [8]
    (crl,) = report["crls"].values()
    assert crl == {"entries": [2, 5]}
    json.dumps(report)


def test_compare_is_symmetric_in_what_it_sees() -> None:
    other = pack_of(changed_case())
    there, back = compare_packs(PACK, other), compare_packs(other, PACK)
    assert there["sha384"] == back["sha384"][::-1]
    old, new = there["tcb_infos"]["53494D000000"], back["tcb_infos"]["53494D000000"]
    assert old["edition"] == new["edition"][::-1]
    assert old["tcb_levels"]["added"] == new["tcb_levels"]["removed"]
    assert new["tdx_modules"]["TDX_7F"] == {"removed": True}
    assert new["advisories"] == {"removed": ["INTEL-SA-99100"]}


def test_compare_takes_the_newest_edition_on_both_sides() -> None:
    merged = PACK.merged(pack_of(changed_case()))
    assert compare_packs(merged, pack_of(changed_case()))["tcb_infos"] == {}
    assert compare_packs(PACK, merged)["tcb_infos"]["53494D000000"]["edition"] == [20, 21]


def test_compare_what_only_one_side_has() -> None:
    other = pack_of(replace(PLATFORM, fmspc=b"SIM\0\0\1", ca="processor").case())
    chain = parse_pem_chain(CASE.pck_chain().encode())
    report = compare_packs(PACK, other.merged(CollateralPack(pck_chains=(chain,))))
    assert report["tcb_infos"] == {
        "53494D000000": {"removed": True},
        "53494D000001": {"added": True},
    }
    assert sorted(map(str, report["crls"].values())) == ["{'added': True}", "{'removed': True}"]
    assert report["pck_chains"] == {"added": 1}
    assert compare_packs(PACK, PACK) == {
        "schema": "ccverify.collateral-diff/v1",
        "sha384": [PACK.digest] * 2,
        "identical": True,
        "tcb_infos": {},
        "qe_identity": {},
        "crls": {},
        "pck_chains": {},
    }


def test_diff_real(run: Run, vectors: Path) -> None:
    folder = vectors / "tdx" / "collateral"
    old = folder / "assembled" / "cap_nearcloud_20260629_b0c06f.json"
    new = folder / "near_b0c06f_2026-08.json"
    result = run("diff", old, new)
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for expected in (
        "TCB info B0C06F000000",
        "edition 19 → 20",
        "UpToDate now needs sgx[0] 3 → 4 BIOS: Early Microcode Update",
        "tdx[2] 3 → 4 OS/VMM: TDX Late Microcode Update",
        "status UpToDate → OutOfDate, +SA-01192, +SA-01245, +SA-01312, +SA-01313",
        "advisories added: INTEL-SA-01192, INTEL-SA-01245, INTEL-SA-01312, INTEL-SA-01313",
        "TDX module TDX_01 + level ISVSVN 11 UpToDate 2025-08-13",
        "PCK certificate chains added 1",
    ):
        assert expected in text, expected
    assert run("diff", old, new, "--exit-code").exit_code == 1
    report = json.loads(run("diff", old, new, "--format", "json").stdout)
    assert report["tcb_infos"]["B0C06F000000"]["edition"] == [19, 20]


def test_diff_exit_codes(run: Run) -> None:
    Path("other.json").write_bytes(serialize_collateral(pack_of(changed_case())))
    same = run("diff", "sim.json", "sim.json", "--exit-code")
    assert same.exit_code == 0
    assert "The packs hold the same artefacts." in same.stdout
    differs = run("diff", "sim.json", "other.json", "--exit-code")
    assert differs.exit_code == 1
    assert "UpToDate now needs" in differs.stdout
    assert run("diff", "sim.json", "other.json").exit_code == 0
    assert run("diff", "other.json", "sim.json", "--exit-code", "--format", "json").exit_code == 1
    assert run("diff", "sim.json", "absent.json", "--exit-code").exit_code == 1
    assert run("diff", "sim.json", "quote.bin").exit_code == 5


def test_diff_of_the_same_statements_signed_anew(run: Run) -> None:
    stripped = replace(PACK.tcb_infos[0], issuer_chain=PACK.tcb_infos[0].issuer_chain[:1])
    other = CollateralPack((stripped,), *_rest(PACK))
    Path("other.json").write_bytes(serialize_collateral(other))
    result = run("diff", "sim.json", "other.json", "--exit-code")
    assert result.exit_code == 1
    assert "The newest editions say the same" in result.stdout


def _rest(pack: CollateralPack) -> tuple[Any, ...]:
    return pack.qe_identities, pack.pck_crls, pack.root_ca_crls, pack.pck_chains


# Appraisal -----------------------------------------------------------------------------


def codes(problems: tuple[str, ...]) -> set[str]:
    return {problem.rsplit("[", 1)[-1].rstrip("]") for problem in problems}


def test_honest_pack_has_no_problems() -> None:
    assert appraise_pack(PACK, SIMULATED, DEFAULT_TIME) == ()
    assert appraise_pack(PACK, SIMULATED, DEFAULT_TIME, PACK) == ()
    assert appraise_pack(CollateralPack(), SIMULATED, DEFAULT_TIME) == ()


def test_every_artefact_is_judged() -> None:
    assert codes(appraise_pack(PACK, TrustStore.production(), DEFAULT_TIME)) == {
        "TDX-TCB-INFO-SIGNATURE",
        "TDX-QE-IDENTITY-SIGNATURE",
        "TDX-PCK-CRL-SIGNATURE",
        "TDX-ROOT-CRL-SIGNATURE",
    }
    late = DEFAULT_TIME + timedelta(days=3650)
    assert codes(appraise_pack(PACK, SIMULATED, late)) == {
        "TDX-TCB-INFO-FRESH",
        "TDX-QE-IDENTITY-FRESH",
        "TDX-PCK-CRL-FRESH",
        "TDX-ROOT-CRL-FRESH",
    }


def test_damaged_artefacts_are_found() -> None:
    info, identity = PACK.tcb_infos[0], PACK.qe_identities[0]
    pack = CollateralPack(
        (replace(info, signature=identity.signature),),
        (replace(identity, issuer_chain=()),),
        (replace(PACK.pck_crls[0], issuer_chain=info.issuer_chain),),
    )
    assert codes(appraise_pack(pack, SIMULATED, DEFAULT_TIME)) == {
        "TDX-TCB-INFO-SIGNATURE",
        "TDX-QE-IDENTITY-SIGNATURE",
        "TDX-PCK-CRL-SIGNATURE",
    }
    alone = CollateralPack(pck_crls=(replace(PACK.pck_crls[0], issuer_chain=()),))
    (problem,) = appraise_pack(alone, SIMULATED, DEFAULT_TIME)
    assert problem == (
        "PCK CRL (Platform CA): it has no issuer chain, so nothing can be said about it"
    )


def test_revoked_signer_is_found() -> None:
    for certificate in (CASE.tcb_signing, CASE.pck_ca):
        revoking = replace(CASE, root_crl=CASE.root_crl.with_revoked(certificate.serial))
        (problem,) = appraise_pack(pack_of(revoking), SIMULATED, DEFAULT_TIME)
        assert problem.startswith("root CA CRL: ")
        assert problem.endswith("[TDX-CA-REVOCATION]")


def test_older_edition_than_known_is_found() -> None:
    newer = pack_of(changed_case())
    found = codes(appraise_pack(PACK, SIMULATED, DEFAULT_TIME, newer))
    assert found == {"TDX-COLLATERAL-ROLLBACK"}
    assert appraise_pack(newer, SIMULATED, DEFAULT_TIME, PACK) == ()
    # A forged edition proves nothing about what Intel has published.
    stranger = replace(PLATFORM, issuer=SimIssuer(seed=b"stranger")).case()
    forged = replace(stranger, tcb_info=changed_case().tcb_info)
    assert appraise_pack(PACK, SIMULATED, DEFAULT_TIME, pack_of(forged)) == ()


def test_members_that_are_not_understood_are_found() -> None:
    from ccverify.sim import sign_body

    members = CASE.qe_identity.members() | {"surprise": 1}
    signed = sign_body("enclaveIdentity", members, CASE.tcb_signing.key)
    pack = parse_collateral(replace(COLLATERAL, qe_identity=signed).to_json().encode())
    (problem,) = appraise_pack(pack, SIMULATED, DEFAULT_TIME)
    assert "surprise" in problem
    assert problem.endswith("[TDX-COLLATERAL-FIELDS]")


# Loading -------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from ccverify.cli.app import cli\n"
        "for words in (['collateral', '--help'], ['collateral', 'fetch', '--help']):\n"
        "    cli.main(words, standalone_mode=False)\n"
        "heavy = {'httpx', 'tenacity', 'rich', 'jsonschema', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--pccs" in done.stdout
