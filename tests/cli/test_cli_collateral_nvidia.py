"""``ccverify collateral`` and NVIDIA's collateral: folders, packs, what they show, fetching."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from nv_collateral import (
    CRLS,
    NODE,
    RIM_PATH,
    SIM,
    TRUST,
    everything,
    rim_id,
    rim_response,
    service,
)
from pcs_server import Pcs, replies, serve

from ccverify.cli import collateral as command
from ccverify.cli import collateral_files
from ccverify.cli.app import cli
from ccverify.cli.collateral_files import read_collateral
from ccverify.cli.inputs import Inputs
from ccverify.collateral import (
    CollateralFile,
    parse_collateral_file,
    serialize_collateral_file,
)
from ccverify.errors import CollateralError, UsageError
from ccverify.sim import SimPlatform
from ccverify.tdx.collateral import parse_collateral, serialize_collateral

ALL = everything()
EVIDENCE = SimPlatform().case().build()
INTEL = parse_collateral(EVIDENCE.collateral.to_json().encode())
AT = NODE.at.strftime("%Y-%m-%dT%H:%M:%SZ")
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.chdir(tmp_path)
    # The command line knows NVIDIA's own roots alone; these devices are simulated.
    monkeypatch.setattr(command, "_trust", lambda inputs, root: TRUST)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["collateral", *map(str, arguments)])

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder of everything the node needs, as people save it."""
    folder = tmp_path / "store"
    folder.mkdir()
    for name, xml in NODE.rims:
        (folder / name).write_bytes(xml)
    for number, der in enumerate((*NODE.ocsp, *CRLS)):
        (folder / f"answer-{number:02}.der").write_bytes(der)
    return folder


def read(*paths: object) -> CollateralFile:
    return read_collateral(Inputs(), map(str, paths))


# Files and folders ---------------------------------------------------------------------


def test_folder(store: Path) -> None:
    assert read(store) == ALL
    assert {each.name for each in ALL.nvidia.rims.rims} == {name for name, _ in NODE.rims}
    (store / "intel.json").write_bytes(serialize_collateral(INTEL))
    whole = read(store, store / NODE.rims[0][0])
    assert whole == CollateralFile(INTEL, ALL.nvidia)


def test_what_of_a_folder_counts(store: Path) -> None:
    (store / ".hidden").write_text("not collateral")
    (store / "below").mkdir()
    (store / "below" / "README").write_text("not collateral")
    assert read(store) == ALL


def test_a_manifest_in_a_folder_that_cannot_be_read(store: Path) -> None:
    bad = store / "bad.xml"
    bad.write_bytes(NODE.rims[0][1][:-20])
    found = read(store)
    assert found.nvidia.digest == ALL.nvidia.digest
    assert list(found.nvidia.rims.unreadable) == [str(bad)]
    with pytest.raises(CollateralError) as caught:
        read(bad)
    assert str(bad) in (caught.value.where or "")


def test_anything_else_that_cannot_be_read_is_an_error(store: Path) -> None:
    (store / "README").write_text("these are manifests")
    with pytest.raises(CollateralError, match="no collateral that is known") as caught:
        read(store)
    assert caught.value.where == str(store / "README")
    (store / "README").write_bytes(b"")
    with pytest.raises(CollateralError, match="empty"):
        read(store)


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_links(store: Path, tmp_path: Path) -> None:
    # As Kubernetes mounts a volume: names lead to a hidden folder in the same place.
    hidden = store / "..2026"
    hidden.mkdir()
    (store / "..data").symlink_to("..2026")
    name, xml = NODE.rims[0]
    (hidden / name).write_bytes(xml)
    (store / name).unlink()
    (store / name).symlink_to(Path("..data") / name)
    assert read(store) == ALL
    outside = tmp_path / "outside.xml"
    outside.write_bytes(xml)
    (store / "link.xml").symlink_to(outside)
    with pytest.raises(UsageError, match="leads out of it") as caught:
        read(store)
    assert caught.value.where == str(store / "link.xml")
    (store / "link.xml").unlink()
    (store / "link.xml").symlink_to("link.xml")
    with pytest.raises(UsageError, match="cannot be read"):
        read(store)


def test_folder_limits(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no files"):
        read(tmp_path / "empty")
    files = len(os.listdir(store))
    monkeypatch.setattr(collateral_files, "MAX_FOLDER_FILES", files)
    assert read(store) == ALL
    with pytest.raises(UsageError, match="too much"):
        read(store, store)
    monkeypatch.setattr(collateral_files, "MAX_FOLDER_BYTES", 1000)
    with pytest.raises(UsageError, match="too much"):
        read(store)


# pack, show, diff ----------------------------------------------------------------------


def test_pack(run: Run, store: Path) -> None:
    name, xml = NODE.rims[0]
    (store / name).unlink()
    Path("saved.json").write_bytes(rim_response(name, xml))
    Path("sim.json").write_bytes(serialize_collateral(INTEL))
    (store / "bad.xml").write_text("<a/>")
    result = run("pack", store, "saved.json", "sim.json", "--at", AT, "-o", "out.json")
    written = parse_collateral_file(Path("out.json").read_bytes())
    assert written.intel == INTEL
    assert written.nvidia.revocation == ALL.nvidia.revocation
    assert {each.name for each in written.nvidia.rims.rims} == {
        rim_id(name),
        *(other for other, _ in NODE.rims[1:]),
    }
    assert f"warning: {store / 'bad.xml'}: " in result.stderr
    assert f"of NVIDIA's {written.nvidia.digest}" in result.stderr
    assert f"out.json: {written.count} artefacts" in result.stderr


def test_pack_of_intel_files_beside_others(run: Run, store: Path) -> None:
    for name, response in EVIDENCE.collateral.pcs_responses().items():
        (store / f"{name}.body").write_bytes(response.body)
        (store / f"{name}.json").write_text(json.dumps({"headers": dict(response.headers)}))
    assert run("pack", store, "--at", AT, "-o", "out.json").exit_code == 3
    assert Path("out.json").read_bytes() == serialize_collateral_file(
        CollateralFile(INTEL, ALL.nvidia)
    )


def test_pack_refuses(run: Run, store: Path) -> None:
    Path("bad.xml").write_text("<a/>")
    result = run("pack", store, "bad.xml", "-o", "out.json")
    assert result.exit_code == 5
    assert "bad.xml" in result.stderr
    (store / "zz").write_text("?")
    result = run("pack", store, "-o", "out.json")
    assert result.exit_code == 5
    assert str(store / "zz") in result.stderr
    assert not Path("out.json").exists()


def test_show(run: Run, store: Path) -> None:
    Path("both.json").write_bytes(serialize_collateral_file(CollateralFile(INTEL, ALL.nvidia)))
    (store / "bad.xml").write_text("<a/>")
    for what in ("both.json", store):
        result = run("show", what, "--at", AT)
        text = " ".join(result.stdout.split())
        for expected in (
            "✓ driver RIM GH100 590.12, current, genuine",
            "✓ switch-bios RIM LS10",
            "filed as NV_GPU_DRIVER_GH100_590.12.xml",
            "signer until 2027-12-01T09:30:00Z",
            "✓ OCSP response for serial 41",
            "current, not judged: issuer not known here",
            "status good",
            "✓ CRL of",
            ALL.nvidia.digest[:40],
        ):
            assert expected in text, expected
        assert ("✗ " + str(store / "bad.xml") in result.stdout) == (what == store)
    report = json.loads(run("show", "both.json", "--format", "json", "--at", AT).stdout)
    assert report["sha384"] == INTEL.digest
    assert report["nvidia"]["sha384"] == ALL.nvidia.digest
    assert [len(report["nvidia"][group]) for group in ("rims", "ocsp_responses", "crls")] == [
        3,
        21,
        len(CRLS),
    ]
    late = run("show", "both.json", "--at", "2036-01-01T00:00:00Z")
    assert "✗ driver RIM GH100 590.12, not current, genuine" in late.stdout
    assert "expired on" in late.stdout


def test_show_keeps_control_characters_off_the_screen(run: Run) -> None:
    Path("\x1b[2Jé.xml").write_bytes(NODE.rims[0][1])
    result = run("show", ".", "--at", AT)
    assert "filed as" in result.stdout
    assert "\x1b" not in result.stdout


def test_show_real_manifests(vectors: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    folder = vectors / "nvidia" / "rim" / "attestation-sdk-testdata"
    Path("rims").mkdir()
    for path in folder.glob("*.xml"):
        (Path("rims") / path.name).write_bytes(path.read_bytes())
    arguments = ["collateral", "show", "rims", "--at", "2026-06-01T00:00:00Z"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0
    assert "✓ switch-bios RIM LS10 96.10.55.00.01, current, genuine" in result.stdout
    assert "not genuine" in result.stdout


def test_diff(run: Run, store: Path) -> None:
    (store / NODE.rims[0][0]).unlink()
    Path("all.json").write_bytes(serialize_collateral_file(ALL))
    assert run("diff", "all.json", "all.json", "--exit-code").exit_code == 0
    result = run("diff", store, "all.json", "--exit-code")
    assert result.exit_code == 1
    assert "+ driver RIM GH100 590.12 (NV_GPU_DRIVER_GH100_590.12.xml)" in result.stdout
    back = json.loads(run("diff", "all.json", store, "--format", "json").stdout)
    assert back["nvidia"]["rims"] == {
        "removed": ["driver RIM GH100 590.12 (NV_GPU_DRIVER_GH100_590.12.xml)"]
    }
    assert back["identical"] is False


# fetch ---------------------------------------------------------------------------------


@pytest.fixture
def nvidia(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pcs]:
    from ccverify.nvidia import collect

    with serve(service()) as running:
        monkeypatch.setattr(collect, "RIM_SERVICE", running.url + RIM_PATH)
        monkeypatch.setattr(collect, "OCSP_SERVICE", running.url + "/")
        yield running


@pytest.mark.parametrize("option", [[], ["--gpu-evidence"]])
def test_fetch(run: Run, nvidia: Pcs, option: list[str]) -> None:
    Path("node.json").write_text(NODE.nvattest_json())
    result = run("fetch", *option, "node.json", "-o", "out.json")
    assert result.exit_code == 3, result.stderr  # what is simulated never ends in 0
    written = parse_collateral_file(Path("out.json").read_bytes())
    assert {each.name for each in written.nvidia.rims.rims} == {
        rim_id(name) for name, _ in NODE.rims
    }
    assert len(written.nvidia.revocation.responses) == 21
    assert written.intel.artefacts == ()


def test_fetch_for_a_node_with_a_quote(run: Run, nvidia: Pcs) -> None:
    Path("node.json").write_text(NODE.nvattest_json())
    Path("quote.bin").write_bytes(EVIDENCE.quote_bytes)
    with serve(replies(EVIDENCE.collateral)) as pcs:
        arguments = ("fetch", "quote.bin", "node.json", "--pccs", pcs.url, "-o", "out.json")
        result = run(*arguments, "--no-ocsp")
    assert result.exit_code == 3, result.stderr
    written = parse_collateral_file(Path("out.json").read_bytes())
    assert written.intel == INTEL
    assert written.nvidia.count == 3


def test_fetch_saves_what_can_be_had(run: Run, nvidia: Pcs) -> None:
    Path("node.json").write_text(NODE.nvattest_json())
    del nvidia.routes[RIM_PATH + rim_id(NODE.rims[0][0])]
    result = run("fetch", "node.json", "--no-ocsp", "-o", "out.json")
    assert result.exit_code == 5
    assert "warning: manifest NV_GPU_DRIVER_GH100_590.12: service refuses" in result.stderr
    assert "1 of NVIDIA's answers could not be had" in result.stderr
    assert parse_collateral_file(Path("out.json").read_bytes()).count == 2
    nvidia.routes.clear()
    result = run("fetch", "node.json", "-o", "none.json")
    assert result.exit_code == 5
    assert not Path("none.json").exists()


def test_fetch_with_a_cache_that_check_can_read(run: Run, nvidia: Pcs) -> None:
    Path("node.json").write_text(NODE.nvattest_json())
    result = run("fetch", "node.json", "--cache", "cache", "-o", "out.json")
    assert result.exit_code == 3, result.stderr
    fetched = parse_collateral_file(Path("out.json").read_bytes()).nvidia
    kept = read("cache").nvidia
    assert kept.revocation == fetched.revocation
    assert {each.xml for each in kept.rims.rims} == {each.xml for each in fetched.rims.rims}
    nvidia.requests.clear()
    assert run("fetch", "node.json", "--cache", "cache", "--no-ocsp", "-o", "x").exit_code == 3
    result = run("fetch", "node.json", "--cache", "out.json", "-o", "y")
    assert result.exit_code == 1
    assert "cache folder" in result.stderr


def test_fetch_merges(run: Run, nvidia: Pcs) -> None:
    Path("node.json").write_text(NODE.nvattest_json())
    Path("known.json").write_bytes(serialize_collateral(INTEL))
    options = ("--no-ocsp", "--merge", "known.json", "-o", "known.json")
    assert run("fetch", "node.json", *options).exit_code == 3
    written = parse_collateral_file(Path("known.json").read_bytes())
    assert written.intel == INTEL
    assert written.nvidia.count == 3


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--gpu-evidence", "quote.bin"], 2, "no NVIDIA devices"),
        (["--gpu-evidence", "bad.json"], 2, "bad.json"),
        (["bad.json"], 2, "bad.json"),
        (["--gpu-evidence", "absent"], 1, "does not exist"),
        ([], 1, "nothing to fetch"),
    ],
)
def test_fetch_wrong_use(
    run: Run, nvidia: Pcs, arguments: list[str], exit_code: int, message: str
) -> None:
    Path("quote.bin").write_bytes(EVIDENCE.quote_bytes)
    items = json.loads(NODE.nvattest_json())
    items[0]["certificate"] = items[8]["certificate"]
    Path("bad.json").write_text(json.dumps(items))
    result = run("fetch", *arguments, "-o", "x")
    assert result.exit_code == exit_code, result.stderr
    assert message in result.stderr
    assert nvidia.requests == []
    assert not Path("x").exists()


def test_devices_under_another_root_are_not_asked_about(nvidia: Pcs, tmp_path: Path) -> None:
    file = tmp_path / "node.json"
    file.write_text(SIM.build().nvattest_json())
    arguments = ["collateral", "fetch", str(file), "-o", str(tmp_path / "x")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "NVIDIA Device Identity CA" in result.stderr
    assert nvidia.requests == []
