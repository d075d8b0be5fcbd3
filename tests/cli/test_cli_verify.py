"""``check --sign`` and ``verify``: signed, judged again to the byte, and refused when changed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha384
from pathlib import Path
from typing import Any

import jwt
import pytest
from cli_files import NONCE, Files, Run
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

import ccverify
from ccverify.cli import emit, verify
from ccverify.cli.evidence_files import EvidenceFiles
from ccverify.cli.recorded import evidence_roles, named_evidence
from ccverify.errors import UsageError
from ccverify.results.emitted import parse_verdict_bundle, seal_verdict_bundle
from ccverify.results.emitted_model import Role, StoredFile, VerdictBundle
from ccverify.results.signing import load_public_key, load_signing_key

ROOT = Path(__file__).resolve().parents[2]
KEYS: dict[str, Any] = {
    "verifier": ec.derive_private_key(21, ec.SECP384R1()),
    "other": ec.derive_private_key(22, ec.SECP256R1()),
    "edwards": ed25519.Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x15"),
}
PASSPHRASE = "correct horse"
Change = Callable[[VerdictBundle], VerdictBundle]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, key in KEYS.items():
        lock = BestAvailableEncryption(PASSPHRASE.encode())
        for suffix, how in ((".key", NoEncryption()), (".locked", lock)):
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
            (folder / f"{name}{suffix}").write_bytes(pem)
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(pem)
    return folder


def sign(keys: Path, name: str = "verifier") -> list[str]:
    return ["--sign", str(keys / f"{name}.key")]


def believe(keys: Path, *names: str) -> list[str]:
    return [
        word for name in names or ("verifier",) for word in ("--key", str(keys / f"{name}.pub"))
    ]


@pytest.fixture
def emitted(run: Run, files: Files, keys: Path, tmp_path: Path, simulated: None) -> Path:
    """The bundle of a trusted verdict, under the simulator's root."""
    path = tmp_path / "verdict.ccv"
    log = ["--event-log", files["log.json"]]
    tokens = ["--ear-jwt", str(tmp_path / "ear.jwt"), "--ear-cwt", str(tmp_path / "ear.cwt")]
    done = run("check", files["quote.bin"], *files.options(), *log, *sign(keys), *tokens,
               "--emit", str(path), "-q")  # fmt: skip
    assert done.exit_code == 0, done.output
    return path


def opened(path: Path, keys: Path) -> VerdictBundle:
    key = load_public_key((keys / "verifier.pub").read_bytes())
    bundle, _, problem = parse_verdict_bundle(path.read_bytes()).open([key])
    assert bundle is not None, problem
    return bundle


def signed_again(path: Path, keys: Path, change: Change) -> Path:
    """The bundle with something else in it, signed by the same verifier."""
    signer = load_signing_key((keys / "verifier.key").read_bytes()).signer
    bundle = change(opened(path, keys))
    path.write_bytes(seal_verdict_bundle(bundle, signer))
    return path


def steps(result: Any) -> dict[str, str]:
    return {step["code"]: step["state"] for step in json.loads(result.stdout)["steps"]}


def report(run: Run, path: Path, keys: Path, *more: str) -> tuple[int, dict[str, Any]]:
    done = run("verify", str(path), *believe(keys), "--allow-simulated", "--format", "json", *more)
    return done.exit_code, json.loads(done.stdout)


def failed(document: dict[str, Any]) -> dict[str, str]:
    return {s["code"]: s["found"] for s in document["steps"] if s["state"] == "FAIL"}


# --- as it is -----------------------------------------------------------------------------------


def test_a_verdict_is_replayed_to_the_same_bytes(run: Run, emitted: Path, keys: Path) -> None:
    code, document = report(run, emitted, keys)
    assert code == document["exit_code"] == 0
    assert [step["state"] for step in document["steps"]] == ["PASS"] * 4
    assert document["verifier"] == f"ccverify {ccverify.__version__}"
    assert document["verdict"]["verdict"] == "trusted"
    assert document["rejudged"] is None
    bundle = opened(emitted, keys)
    assert bundle.is_whole
    assert [file.role for file in bundle.files] == [
        Role.POLICY, Role.DOCUMENT, Role.EVENT_LOG, Role.COLLATERAL
    ]  # fmt: skip
    assert bundle.request.nonce == NONCE
    text = run("verify", str(emitted), *believe(keys), "--allow-simulated").stdout
    assert "✓ VERIFIED" in text
    assert "SIMULATED" in text
    quiet = run("verify", str(emitted), *believe(keys, "other", "verifier"), "-q",
                "--allow-simulated")  # fmt: skip
    assert (quiet.exit_code, quiet.stdout) == (0, "")


def test_two_runs_write_the_same_bytes(
    run: Run, files: Files, keys: Path, tmp_path: Path, simulated: None
) -> None:
    for name in KEYS:
        written = []
        for number in range(2):
            out = [str(tmp_path / f"{name}{number}{end}") for end in (".ccv", ".jwt", ".cwt")]
            run("check", files["quote.bin"], *files.options(), *sign(keys, name), "--emit", out[0],
                "--ear-jwt", out[1], "--ear-cwt", out[2], "-q")  # fmt: skip
            written.append([Path(path).read_bytes() for path in out])
        assert written[0] == written[1]


def test_the_clock_is_not_read(
    run: Run, emitted: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Must hold in 2036, and at no time at all."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls(2036, 1, 1, tzinfo=tz)

    monkeypatch.setattr(time, "time", lambda: datetime(2036, 1, 1, tzinfo=UTC).timestamp())
    monkeypatch.setattr(verify, "datetime", Later)
    code, document = report(run, emitted, keys)
    assert (code, failed(document)) == (0, {})
    code, document = report(run, emitted, keys, "--at", "now")
    assert code == 5
    assert document["rejudged"]["at"] == "2036-01-01T00:00:00Z"

    class Never(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Never:
            raise AssertionError("the clock was read")

    monkeypatch.setattr(verify, "datetime", Never)
    monkeypatch.setattr(time, "time", lambda: 1 / 0)
    assert report(run, emitted, keys)[0] == 0


def test_another_process_makes_and_verifies_the_same(
    files: Files, keys: Path, tmp_path: Path
) -> None:
    """Under the pinned roots a simulated quote is refused; the refusal is replayed as well."""
    outputs = []
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.ccv"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-m", "ccverify"]
        made = subprocess.run(
            [*command, "check", files["quote.bin"], *files.options(), *sign(keys), "--emit",
             str(path), "-q"],
            env=environment, check=False,
        )  # fmt: skip
        checked = subprocess.run(
            [*command, "verify", str(path), *believe(keys), "-q"],
            env=environment, check=False, capture_output=True,
        )  # fmt: skip
        assert (made.returncode, checked.returncode) == (3, 3)
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1]


def test_every_exit_code_of_a_verdict_is_that_of_its_replay(
    run: Run, files: Files, keys: Path, tmp_path: Path, simulated: None
) -> None:
    at, policy = ["--at", files.at], ["--policy", files["policy.json"]]
    pack, nonce = ["--collateral", files["collateral.json"]], ["--nonce", NONCE.hex()]
    for expected, quote, more in (
        (2, "cut.bin", [*pack, *nonce]),
        (3, "flipped.bin", [*pack, *nonce]),
        (3, "quote.bin", [*pack, "--nonce", "ff" * 32]),
        (4, "old.bin", [*pack, *nonce]),
        (5, "quote.bin", nonce),
        (6, "quote.bin", pack),
        (10, "empty", [*pack, *nonce]),
    ):
        path = tmp_path / "one.ccv"
        done = run(
            "check", files[quote], *policy, *at, *more, *sign(keys), "--emit", str(path), "-q"
        )
        assert done.exit_code == expected
        code, document = report(run, path, keys)
        assert (code, failed(document)) == (expected, {}), quote


def test_inputs_of_every_kind_are_replayed(
    run: Run, files: Files, keys: Path, tmp_path: Path, simulated: None
) -> None:
    folder = tmp_path / "packs"
    folder.mkdir()
    (folder / "a.json").write_bytes(Path(files["collateral.json"]).read_bytes())
    (folder / "broken.xml").write_bytes(b"<not a manifest>")
    path = tmp_path / "one.ccv"
    done = run(
        "check", "-", "--policy", files["policy.json"], "--at", files.at,
        "--collateral", str(folder), "--what-if", files["collateral.json"],
        "--nonce-file", files["nonce.txt"], "--channel", "tls_fingerprint=0xAB",
        "--event-log", files["log.json"], *sign(keys), "--emit", str(path), "-q",
        stdin=Path(files["quote.hex"]).read_bytes(),
    )  # fmt: skip
    bundle = opened(path, keys)
    assert [(f.role, f.in_folder) for f in bundle.collateral] == [
        (Role.COLLATERAL, True), (Role.COLLATERAL, True), (Role.WHAT_IF, False)
    ]  # fmt: skip
    folder.rename(tmp_path / "gone")
    code, document = report(run, path, keys)
    assert (code, failed(document)) == (done.exit_code, {})
    assert document["verdict"]["claims"]["tdx"]["what_if"]["tcb_status"] == "UpToDate"


def test_a_response_with_several_nodes_is_replayed(
    run: Run, keys: Path, tmp_path: Path, vectors: Path
) -> None:
    found = 0
    for response in sorted((vectors / "tdx").rglob("*.json")):
        data = response.read_bytes()
        try:
            nodes = ccverify.parse_foreign_evidence(data).nodes
        except ccverify.EvidenceError:
            continue
        if len(nodes) < 2 or found:
            continue
        found += 1
        path = tmp_path / "set.ccv"
        policy = str(ROOT / "policies" / "tdx-platform-only.yaml")
        done = run("check", str(response), "--policy", policy, "--at", "2026-06-01T00:00:00Z",
                   *sign(keys), "--emit", str(path), "-q")  # fmt: skip
        code, document = report(run, path, keys, "--at", "2026-07-01T00:00:00Z")
        assert document["verdict"]["schema"] == "ccverify.verdict-set/v1"
        assert failed(document) == {}
        assert code == document["rejudged"]["verdict"]["exit_code"]
        assert done.exit_code == document["verdict"]["exit_code"]
    if not found:
        pytest.skip("no response with several nodes among the vectors")


# --- another day --------------------------------------------------------------------------------


def test_then_and_now_stand_side_by_side(run: Run, emitted: Path, keys: Path) -> None:
    code, document = report(run, emitted, keys, "--at", "2030-01-01T00:00:00Z")
    again = document["rejudged"]
    assert code == again["verdict"]["exit_code"] == 5
    assert document["verdict"]["exit_code"] == 0
    changed = {c["code"]: (c["then"], c["now"]) for c in again["changes"]}
    assert changed["TDX-TCB-INFO-FRESH"] == ("PASS", "FAIL")
    assert again["other_collateral"] is False
    text = run("verify", str(emitted), *believe(keys), "--allow-simulated", "--at",
               "2030-01-01T00:00:00Z").stdout  # fmt: skip
    assert "Then and now" in text
    assert "2030-01-01T00:00:00Z" in text


def test_newer_collateral_takes_the_place_of_the_embedded(
    run: Run, emitted: Path, keys: Path, files: Files
) -> None:
    same = report(run, emitted, keys, "--at", files.at, "--collateral", files["collateral.json"])
    assert same[0] == 0
    assert same[1]["rejudged"]["changes"] == []
    assert same[1]["rejudged"]["other_collateral"] is True
    done = run("verify", str(emitted), *believe(keys), "--collateral", files["collateral.json"])
    assert (done.exit_code, "--at" in done.stderr) == (1, True)
    done = run("verify", str(emitted), *believe(keys), "--at", "tomorrow")
    assert done.exit_code == 1


def test_digests_only_are_not_replayed(
    run: Run, files: Files, keys: Path, tmp_path: Path, simulated: None
) -> None:
    path = tmp_path / "small.ccv"
    run("check", files["quote.bin"], *files.options(), *sign(keys), "--emit", str(path),
        "--embed", "digests", "-q")  # fmt: skip
    bundle = opened(path, keys)
    assert [file.data is None for file in bundle.files] == [False, True, True]
    code, document = report(run, path, keys, "--at", "2030-01-01T00:00:00Z")
    assert code == 6
    assert document["rejudged"] is None
    assert {s["code"]: s["state"] for s in document["steps"]}["EMITTED-REPLAY"] == "NOT_CHECKED"
    text = run("verify", str(path), *believe(keys), "--allow-simulated").stdout
    assert "SIGNED, NOT REPLAYED" in text
    assert "nothing was replayed" in text


# --- changed ------------------------------------------------------------------------------------


def test_another_signer_is_refused(run: Run, emitted: Path, keys: Path) -> None:
    done = run("verify", str(emitted), *believe(keys, "other", "edwards"), "--format", "json")
    assert done.exit_code == 3
    assert steps(done) == {"EMITTED-SIGNER": "FAIL"}
    assert json.loads(done.stdout)["verdict"] is None


def test_a_simulated_verdict_needs_a_word(run: Run, emitted: Path, keys: Path) -> None:
    done = run("verify", str(emitted), *believe(keys), "--format", "json")
    assert done.exit_code == 3
    assert steps(done)["EMITTED-SIMULATED"] == "FAIL"


def _verdict_with(change: Callable[[dict[str, Any]], Any]) -> Change:
    def changed(bundle: VerdictBundle) -> VerdictBundle:
        document = json.loads(bundle.verdict)
        change(document)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        return replace(bundle, verdict=text.encode())

    return changed


def _file(change: Callable[[bytes], bytes], where: str, index: int = 0) -> Change:
    def changed(bundle: VerdictBundle) -> VerdictBundle:
        files = list(getattr(bundle, where))
        old = files[index]
        new = StoredFile.of(old.role, old.name, change(old.data))
        files[index] = new
        return replace(bundle, **{where: tuple(files)})

    return changed


LIES: dict[str, tuple[Change, str, str]] = {
    "another conclusion": (
        _verdict_with(lambda d: d.update(verdict="untrusted")), "EMITTED-REPLAY", "verdict"),
    "another exit code": (
        _verdict_with(lambda d: d.update(exit_code=4)), "EMITTED-REPLAY", "exit_code"),
    "another finding": (
        _verdict_with(lambda d: d["findings"][5].update(state="FAIL")),
        "EMITTED-REPLAY", "findings[5].state"),
    "a claim": (
        _verdict_with(lambda d: d["claims"]["tdx"].update(mrtd="00" * 48)),
        "EMITTED-REPLAY", "claims.tdx.mrtd"),
    "another time": (
        _verdict_with(lambda d: d.update(evaluated_at="2026-06-15T12:00:01Z")),
        "EMITTED-MEMBERS", "evaluated_at"),
    "other evidence": (
        _file(lambda data: data[:-1] + bytes([data[-1] ^ 1]), "evidence"),
        "EMITTED-REPLAY", "first differs"),
    "another log": (
        _file(lambda data: data.replace(b"[", b"[ ", 1), "evidence", 1), "EMITTED-REPLAY", ""),
    "no collateral": (
        lambda bundle: replace(bundle, collateral=()), "EMITTED-REPLAY", "first differs"),
    "broken collateral": (
        _file(lambda data: data[:-9], "collateral"), "EMITTED-REPLAY", "cannot be judged again"),
    "no evidence": (
        lambda bundle: replace(bundle, evidence=bundle.evidence[1:]), "EMITTED-REPLAY", ""),
    "a swapped policy": (
        lambda bundle: replace(bundle, policy=StoredFile.of(
            Role.POLICY, "p", (ROOT / "policies/tdx-platform-only.yaml").read_bytes())),
        "EMITTED-MEMBERS", "policy.sha384"),
    "no policy at all": (
        lambda bundle: replace(bundle, policy=StoredFile.of(Role.POLICY, "p", b"tdx: [")),
        "EMITTED-MEMBERS", "policy"),
    "another nonce": (
        lambda bundle: replace(bundle, request=replace(bundle.request, nonce=bytes(32))),
        "EMITTED-MEMBERS", "inputs.nonce"),
    "another trust store": (
        lambda bundle: replace(bundle, trust_sha384="11" * 48), "EMITTED-MEMBERS",
        "inputs.trust_store.sha384"),
    "a trust store that nobody has": (
        lambda bundle: _verdict_with(
            lambda d: d["inputs"]["trust_store"].update(sha384="11" * 48))(
                replace(bundle, trust_sha384="11" * 48)),
        "EMITTED-REPLAY", "trust store"),
    "a chain is missing": (
        lambda bundle: replace(bundle, evidence=(
            *bundle.evidence, StoredFile.of(Role.GPU_REPORT, "r", b"r"))),
        "EMITTED-REPLAY", "without certificate chains"),
    "two logs": (
        lambda bundle: replace(bundle, evidence=(*bundle.evidence, bundle.evidence[1])),
        "EMITTED-REPLAY", "more than one event-log"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_signer_that_lies_is_caught(run: Run, emitted: Path, keys: Path, name: str) -> None:
    """Signed by the verifier we believe, and still not what the inputs come to."""
    change, code, text = LIES[name]
    exit_code, document = report(run, signed_again(emitted, keys, change), keys)
    assert exit_code == 3
    assert text in failed(document)[code]
    assert "rejudged" in document


def test_another_version_is_said_and_compared_by_everything_else(
    run: Run, emitted: Path, keys: Path
) -> None:
    def older(bundle: VerdictBundle) -> VerdictBundle:
        renamed = _verdict_with(lambda d: d["inputs"].update(verifier="ccverify 0.0.1"))(bundle)
        return replace(renamed, verifier="ccverify 0.0.1")

    code, document = report(run, signed_again(emitted, keys, older), keys)
    assert (code, failed(document)) == (0, {})
    assert "judged by ccverify 0.0.1, replayed by ccverify" in document["steps"][-1]["found"]
    lying = _verdict_with(lambda d: d["findings"][5].update(found="worse"))
    code, document = report(run, signed_again(emitted, keys, lying), keys)
    assert code == 3
    assert "findings[5].found; judged by ccverify 0.0.1" in failed(document)["EMITTED-REPLAY"]


def test_damage_on_the_way_is_malformed_or_not_authentic(
    run: Run, emitted: Path, keys: Path
) -> None:
    whole = emitted.read_bytes()
    damaged = {
        "empty": b"",
        "cut": whole[:-1],
        "half": whole[: len(whole) // 2],
        "longer": whole + b"\0",
        "garbage": os.urandom(2000),
        "json": b'{"schema": "ccverify.verdict/v1"}',
        "huge": whole + bytes(65 * 1024 * 1024),
    }
    for name, data in damaged.items():
        emitted.write_bytes(data)
        done = run("verify", str(emitted), *believe(keys), "--format", "json")
        problem = json.loads(done.stdout)
        assert (done.exit_code, problem["exit_code"]) == (2, 2), name
    for at in range(0, len(whole), 1499):
        emitted.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        done = run("verify", str(emitted), *believe(keys), "-q", "--allow-simulated")
        assert done.exit_code in (2, 3), at


def test_the_insecure_root_is_in_the_bundle_and_never_trusted(
    run: Run, files: Files, keys: Path, tmp_path: Path
) -> None:
    path = tmp_path / "insecure.ccv"
    done = run("check", files["quote.bin"], *files.options(), "--insecure-trust-root",
               files["root.der"], *sign(keys), "--emit", str(path), "-q")  # fmt: skip
    assert done.exit_code == 3
    code, document = report(run, path, keys)
    assert (code, failed(document)) == (3, {})
    assert opened(path, keys).trust_roots[0].role is Role.INTEL_ROOT


# --- options and keys ---------------------------------------------------------------------------


def test_options_that_do_not_go_together(
    run: Run, files: Files, keys: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "x.ccv")
    check = ["check", files["quote.bin"], *files.options()]
    for words in (
        ["--emit", out],
        ["--ear-jwt", out],
        ["--embed", "all"],
        sign(keys),
        [*sign(keys), "--ear-jwt", out, "--embed", "digests"],
        [*sign(keys), "--emit", out, "--ear-cwt", out],
        [*sign(keys), "--emit", out, "--output", out],
        [*sign(keys), "--emit", str(keys / "verifier.key")],
        ["--sign", "-", "--emit", out],
        ["--sign", str(keys / "absent"), "--emit", out],
        ["--sign", str(keys / "verifier.pub"), "--emit", out],
        [*sign(keys), "--emit", str(tmp_path / "no" / "folder")],
    ):
        done = run(*check, *words)
        assert done.exit_code == 1, words
        assert done.stdout == ""
    assert not Path(out).exists()
    for words in ([], ["--key", str(keys / "verifier.key")], ["--key", str(keys / "absent")]):
        assert run("verify", files["quote.bin"], *words).exit_code == 1


def test_the_passphrase_comes_from_the_environment(
    run: Run, files: Files, keys: Path, tmp_path: Path, simulated: None
) -> None:
    out = tmp_path / "x.ccv"
    words = ["check", files["quote.bin"], *files.options(), "--emit", str(out), "-q", "--sign",
             str(keys / "verifier.locked")]  # fmt: skip
    assert run(*words).exit_code == 1
    assert run(*words, **{emit.PASSPHRASE_VARIABLE: "wrong"}).exit_code == 1
    assert not out.exists()
    done = run(*words, **{emit.PASSPHRASE_VARIABLE: PASSPHRASE})
    assert done.exit_code == 0
    assert PASSPHRASE.encode() not in out.read_bytes()
    assert report(run, out, keys)[0] == 0


def test_the_key_is_never_in_what_is_emitted(emitted: Path, keys: Path) -> None:
    secret = KEYS["verifier"].private_numbers().private_value.to_bytes(48)
    pem = (keys / "verifier.key").read_bytes()
    for path in (emitted, emitted.parent / "ear.jwt", emitted.parent / "ear.cwt"):
        assert secret not in path.read_bytes()
        assert pem not in path.read_bytes()


def test_the_tokens_beside_the_bundle(emitted: Path, keys: Path) -> None:
    token = (emitted.parent / "ear.jwt").read_text().strip()
    public = (keys / "verifier.pub").read_text()
    claims = jwt.decode(token, public, algorithms=["ES384"], options={"verify_iat": False})
    assert claims["ear_status"] == "none"
    assert base64.urlsafe_b64decode(claims["eat_nonce"]) == NONCE
    digest = claims["tag:ccverify,2026:ear-verdict#1"]["sha384"]
    assert digest == sha384(opened(emitted, keys).verdict).hexdigest()
    assert (emitted.parent / "ear.cwt").read_bytes()[:2] == b"\xd2\x84"


def test_a_bundle_that_would_be_too_large_is_not_written(
    run: Run, files: Files, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccverify.results import emitted as emitted_module

    monkeypatch.setattr(emitted_module, "MAX_VERDICT_BUNDLE_BYTES", 1000)
    out = tmp_path / "x.ccv"
    done = run("check", files["quote.bin"], *files.options(), *sign(keys), "--emit", str(out))
    assert (done.exit_code, out.exists()) == (1, False)
    assert "--embed digests" in done.stderr


# --- the same command line again ----------------------------------------------------------------


def test_what_was_named_is_named_again() -> None:
    named = EvidenceFiles(
        ("a", "b"), "log", (("r0", "c0"), ("r1", "c1")), (("s", "t"),), "instances"
    )
    for one in (named, replace(named, event_log=None), EvidenceFiles((), None, (("r", "c"),))):
        stored = [StoredFile.of(role, path, b"") for role, path, _ in evidence_roles(one)]
        assert named_evidence(stored) == one
    twice = [StoredFile.of(Role.INSTANCES, "x", b"")] * 2
    with pytest.raises(UsageError):
        named_evidence(twice)
