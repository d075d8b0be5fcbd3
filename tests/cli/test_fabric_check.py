"""``check --fabric-statement``: statements beside evidence, in verdicts and in what is signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha384
from pathlib import Path
from typing import Any

import pytest
from cli_files import NONCE, Files, Run
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fabric_shelf import BOARD, statement, tenant

import ccverify
from ccverify.bundle.cbor import decode, encode
from ccverify.bundle.cmw import CMW_CBOR_TYPE, CMW_COSE_TYPE
from ccverify.bundle.cose import sign1
from ccverify.cli.sim_trust import matching_policy, simulated_trust, td_expectations
from ccverify.errors import EvidenceError
from ccverify.results.emitted import parse_verdict_bundle, seal_verdict_bundle
from ccverify.results.emitted_model import Role, StoredFile, VerdictBundle
from ccverify.results.signing import load_public_key, load_signing_key
from ccverify.sim.board_names import manager_named, tenant_named
from ccverify.sim.defaults import DEFAULT_TIME

Json = dict[str, Any]
EPOCH = bytes(range(32, 64))
AT = f"{DEFAULT_TIME:%Y-%m-%dT%H:%M:%SZ}"
KEY = ec.derive_private_key(33, ec.SECP384R1())


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fabric-check")
    machine = tenant_named(f"{BOARD}/a")
    policy = matching_policy(machine)
    policy["fabric"] |= {
        "statement": "required",
        "managers": {"tdx": [td_expectations(manager_named(BOARD).service_vm())]},
    }
    plain = matching_policy(machine)
    plain["fabric"] = "any"
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    well = statement()
    contents = {
        "a": tenant(f"{BOARD}/a"),
        "a-stated": tenant(f"{BOARD}/a", stated=well),
        "well": well,
        "epoch": statement(nonce=EPOCH),
        "later": statement(after=30),
        "leak": statement(f"{BOARD}/a@leaked-route"),
        "noise": bytes(range(256)),
        "policy.json": json.dumps(policy).encode(),
        "any.json": json.dumps(plain).encode(),
        "collateral.json": simulated_trust(machine).pack,
        "verifier.key": private,
        "verifier.pub": public,
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def simulated_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the simulator's roots in the place of the production roots."""
    store = simulated_trust(tenant_named(f"{BOARD}/a")).store
    monkeypatch.setattr(ccverify.TrustStore, "production", lambda: store)


def options(shelf: Path, policy: str = "policy.json") -> list[str]:
    return [
        *("--policy", str(shelf / policy), "--collateral", str(shelf / "collateral.json")),
        *("--nonce", NONCE.hex(), "--at", AT),
    ]


def given(shelf: Path, *names: str) -> list[str]:
    return [word for name in names for word in ("--fabric-statement", str(shelf / name))]


def checked(run: Run, shelf: Path, *words: str, bundle: str = "a") -> Json:
    result = run("check", str(shelf / bundle), *options(shelf), *words, "--format", "json")
    document: Json = json.loads(result.stdout)
    assert document["exit_code"] == result.exit_code, result.output
    return document


def states(document: Json, prefix: str) -> dict[str, str]:
    return {f["code"]: f["state"] for f in document["findings"] if f["code"].startswith(prefix)}


# --- judging --------------------------------------------------------------------------------------


def test_a_statement_beside_a_bundle_is_judged(run: Run, shelf: Path) -> None:
    document = checked(run, shelf, *given(shelf, "well"))
    assert (document["verdict"], document["exit_code"]) == ("trusted", 0)
    digest = sha384((shelf / "well").read_bytes()).hexdigest()
    size = (shelf / "well").stat().st_size
    assert document["inputs"]["fabric_statements"] == [{"sha384": digest, "bytes": size}]
    assert states(document, "FABRIC-STATEMENT")["FABRIC-STATEMENT"] == "PASS"
    assert document["claims"]["fabric"]["isolation"]["assurance"] == "manager"


def test_without_one_the_verdict_is_incomplete(run: Run, shelf: Path) -> None:
    document = checked(run, shelf)
    assert document["exit_code"] == 6
    assert states(document, "FABRIC-STATEMENT")["FABRIC-STATEMENT"] != "PASS"
    assert "fabric_statements" not in document["inputs"]
    assert checked(run, shelf, bundle="a-stated")["exit_code"] == 0


def test_a_leak_is_a_failure_of_the_policy(run: Run, shelf: Path) -> None:
    document = checked(run, shelf, *given(shelf, "leak"))
    assert document["exit_code"] == 4
    (leak,) = [f for f in document["findings"] if f["code"] == "ROUTE-LEAK"]
    assert leak["state"] == "FAIL"
    assert "GPU5 link 0 → NVSwitch2 port 33 → NVSwitch2 port 2 → GPU1 link 0" in leak["found"]


def test_what_is_no_statement_is_a_finding(run: Run, shelf: Path) -> None:
    document = checked(run, shelf, *given(shelf, "noise"))
    assert document["exit_code"] in (2, 4)
    assert states(document, "FABRIC-STATEMENT")["FABRIC-STATEMENT"] == "FAIL"


def test_an_epoch_stands_for_the_nonce(run: Run, shelf: Path) -> None:
    code = "FABRIC-STATEMENT-FRESH"
    known = checked(run, shelf, *given(shelf, "epoch"), "--fabric-epoch", f"0x{EPOCH.hex()}")
    assert (known["exit_code"], states(known, code)[code]) == (0, "PASS")
    assert known["inputs"]["epoch"] == EPOCH.hex()
    unknown = checked(run, shelf, *given(shelf, "epoch"))
    assert states(unknown, code)[code] == "FAIL"
    assert "epoch" not in unknown["inputs"]


# --- wrong use ------------------------------------------------------------------------------------


def test_limits_of_the_options(run: Run, shelf: Path) -> None:
    usual = [str(shelf / "a"), *options(shelf)]
    for words in (
        given(shelf, *["well"] * 5),
        ["--fabric-epoch", "00" * 31],
        ["--fabric-epoch", "zz"],
        given(shelf, "nowhere"),
        ["--fabric-statement", "-", "--nonce-file", "-"],
    ):
        result = run("check", *usual, *words, stdin=b"")
        assert result.exit_code == 1, words
        assert "internal" not in result.stderr
    (shelf / "empty").write_bytes(b"")
    assert run("check", *usual, *given(shelf, "empty")).exit_code == 2
    assert run("check", *usual, *given(shelf, *["well"] * 4)).exit_code == 0


def test_a_policy_without_the_section_judges_no_statement(run: Run, shelf: Path) -> None:
    words = [str(shelf / "a"), *options(shelf, "any.json"), *given(shelf, "well")]
    assert "no section fabric" in run("check", *words).stderr
    assert run("check", *words, "-q").stderr == ""
    alone = run("check", str(shelf / "a"), *options(shelf, "any.json"))
    assert "no section fabric" not in alone.stderr


@pytest.mark.parametrize("option", ["--fabric-statement", "--fabric-epoch"])
def test_one_statement_cannot_be_about_several_nodes(
    run: Run, shelf: Path, files: Files, vectors: Path, option: str
) -> None:
    response = next(iter(sorted(vectors.glob("tdx/captures/chutes_20260610/0002_*.body"))))
    value = str(shelf / "well") if option == "--fabric-statement" else EPOCH.hex()
    result = run("check", str(response), "--policy", str(shelf / "policy.json"), option, value)
    assert result.exit_code == 1
    assert f"{option} is for one node" in result.stderr


# --- signed ---------------------------------------------------------------------------------------


@pytest.fixture
def emitted(run: Run, shelf: Path, tmp_path: Path) -> Path:
    path = tmp_path / "verdict.ccv"
    done = run("check", str(shelf / "a"), *options(shelf), *given(shelf, "epoch", "later"),
               "--fabric-epoch", EPOCH.hex(), "--sign", str(shelf / "verifier.key"),
               "--emit", str(path), "-q")  # fmt: skip
    assert done.exit_code == 0, done.output
    return path


def opened(path: Path, shelf: Path) -> VerdictBundle:
    key = load_public_key((shelf / "verifier.pub").read_bytes())
    bundle, _, problem = parse_verdict_bundle(path.read_bytes()).open([key])
    assert bundle is not None, problem
    return bundle


def verified(run: Run, path: Path, shelf: Path, *more: str) -> tuple[int, Json]:
    done = run("verify", str(path), "--key", str(shelf / "verifier.pub"), "--allow-simulated",
               "--format", "json", *more)  # fmt: skip
    return done.exit_code, json.loads(done.stdout)


def test_a_verdict_with_statements_is_replayed_to_the_same_bytes(
    run: Run, shelf: Path, emitted: Path
) -> None:
    code, document = verified(run, emitted, shelf)
    assert {step["code"]: step["state"] for step in document["steps"]} == dict.fromkeys(
        ("EMITTED-SIGNER", "EMITTED-DIGESTS", "EMITTED-MEMBERS", "EMITTED-REPLAY"), "PASS"
    )
    assert code == 0
    bundle = opened(emitted, shelf)
    assert bundle.request.epoch == EPOCH
    stored = [file for file in bundle.evidence if file.role is Role.FABRIC_STATEMENT]
    assert [file.data for file in stored] == [
        (shelf / "epoch").read_bytes(), (shelf / "later").read_bytes(),
    ]  # fmt: skip
    code, document = verified(run, emitted, shelf, "--at", AT)
    assert (code, document["rejudged"]["changes"]) == (0, [])


def test_the_same_inputs_give_the_same_bundle(run: Run, shelf: Path, emitted: Path) -> None:
    again = emitted.with_name("again.ccv")
    run("check", str(shelf / "a"), *options(shelf), *given(shelf, "epoch", "later"),
        "--fabric-epoch", EPOCH.hex(), "--sign", str(shelf / "verifier.key"),
        "--emit", str(again), "-q")  # fmt: skip
    assert again.read_bytes() == emitted.read_bytes()


def without(bundle: VerdictBundle) -> VerdictBundle:
    kept = tuple(file for file in bundle.evidence if file.role is not Role.FABRIC_STATEMENT)
    return replace(bundle, evidence=kept)


def swapped(bundle: VerdictBundle) -> VerdictBundle:
    *others, last, first = bundle.evidence
    return replace(bundle, evidence=(*others, first, last))


def other_content(bundle: VerdictBundle) -> VerdictBundle:
    *others, last = bundle.evidence
    return replace(bundle, evidence=(*others, StoredFile.of(last.role, last.name, b"other")))


def other_epoch(bundle: VerdictBundle) -> VerdictBundle:
    return replace(bundle, request=replace(bundle.request, epoch=bytes(32)))


def no_epoch(bundle: VerdictBundle) -> VerdictBundle:
    return replace(bundle, request=replace(bundle.request, epoch=None))


@pytest.mark.parametrize("change", [without, swapped, other_content, other_epoch, no_epoch])
def test_what_the_verdict_was_not_made_from_is_found(
    run: Run, shelf: Path, emitted: Path, change: Callable[[VerdictBundle], VerdictBundle]
) -> None:
    signer = load_signing_key((shelf / "verifier.key").read_bytes()).signer
    emitted.write_bytes(seal_verdict_bundle(change(opened(emitted, shelf)), signer))
    code, document = verified(run, emitted, shelf)
    assert code == 3
    (failed,) = [step for step in document["steps"] if step["state"] == "FAIL"]
    assert failed["code"] == "EMITTED-MEMBERS"
    assert "inputs." in failed["found"]


def test_digests_alone_say_which_statements_there_were(
    run: Run, shelf: Path, tmp_path: Path
) -> None:
    path = tmp_path / "digests.ccv"
    run("check", str(shelf / "a"), *options(shelf), *given(shelf, "well"), "--sign",
        str(shelf / "verifier.key"), "--emit", str(path), "--embed", "digests", "-q")  # fmt: skip
    code, document = verified(run, path, shelf)
    assert code == 6
    assert {s["code"]: s["state"] for s in document["steps"]}["EMITTED-MEMBERS"] == "PASS"


@pytest.mark.parametrize("epoch", [None, b"", bytes(31), bytes(33), "00" * 32])
def test_an_epoch_is_32_bytes_or_not_there(shelf: Path, emitted: Path, epoch: Any) -> None:
    signer = load_signing_key((shelf / "verifier.key").read_bytes()).signer
    payload = parse_verdict_bundle(emitted.read_bytes()).signed.payload
    members = decode(payload, what="test", error=EvidenceError, limit=1 << 26, items=1 << 12)
    request = decode(members["request"][1], what="test", error=EvidenceError, limit=1 << 20)
    members["request"][1] = encode({**request, "epoch": epoch})
    sealed = sign1(encode(members), signer, content_type=CMW_CBOR_TYPE, typ=CMW_COSE_TYPE,
                   kid=signer.key.thumbprint)  # fmt: skip
    with pytest.raises(EvidenceError) as problem:
        parse_verdict_bundle(sealed).open([signer.key])
    assert "epoch" in (problem.value.where or "")
