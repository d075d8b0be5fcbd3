"""The fabric manager's role: options, what is written, and the statement in a tenant's bundle."""

from __future__ import annotations

import json
from hashlib import sha384
from pathlib import Path

import pytest
from cli_files import NONCE, Run
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ccverify.bundle.endorsement import (
    operator_payload,
    parse_operator_signature,
    verify_operator_signature,
)
from ccverify.bundle.package import Bundle, parse_bundle
from ccverify.cli.binder_options import OPERATOR_PASSWORD_VARIABLE
from ccverify.fabric.manager import parse_manager
from ccverify.fabric.statement_model import DUMP_LABELS
from ccverify.sim import DEFAULT_TIME
from ccverify.sim.certs import pem_chain
from ccverify.sim.operator import SimOperator
from ccverify.trust.pkix import parse_pkix_certificate

BOARD = "sim:b300-board-4+4"
ROLE = ("--role", "fabric-manager")
OPERATOR = SimOperator()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "fabric.ccb"


def words(output: Path, *more: str) -> list[str]:
    return ["collect", "--nonce", NONCE.hex(), "-o", str(output), *more]


def collected(run: Run, output: Path, *more: str) -> Bundle:
    result = run(*words(output, *ROLE, "--platform", BOARD, *more))
    assert (result.exit_code, result.stderr) == (0, "")
    return parse_bundle(output.read_bytes())


# --- making a statement ---


def test_a_statement_of_a_simulated_manager_is_written(run: Run, output: Path) -> None:
    bundle = collected(run, output, "--require", "fabric-manager,fm-partitions,tdx-quote")
    assert bundle.manifest.nonce == NONCE
    assert {"fabric-manager", "tdx-quote"} <= set(bundle.items)
    labels = {*bundle.items, *bundle.absences}
    assert set(DUMP_LABELS) <= labels
    facts = parse_manager(bundle.items["fabric-manager"].value)
    for source in facts.sources:
        assert source.sha384 == sha384(bundle.items[source.label].value).hexdigest()
    for entry in bundle.manifest.items.values():
        assert entry.source.startswith("SIMULATED ")


def test_the_account_of_a_statement_is_json_if_wanted(run: Run, output: Path) -> None:
    result = run(*words(output, *ROLE, "--platform", BOARD, "--format", "json"))
    account = json.loads(result.stdout)
    assert (account["exit_code"], account["simulated"]) == (0, True)
    assert account["items"][0]["label"] == "fabric-manager"


def test_parts_can_be_left_out(run: Run, output: Path) -> None:
    bundle = collected(run, output, "--only", "fabric-manager,fm-config")
    assert set(bundle.items) == {"fabric-manager", "fm-config"}
    assert bundle.absences["nvlsm-fdbs"].reason.value == "not-asked"


def test_a_file_can_be_named(run: Run, output: Path) -> None:
    named = "fm-partition-definitions=/usr/share/nvidia/nvswitch/fabricmanager.cfg"
    bundle = collected(run, output, "--manager-file", named)
    config = bundle.items["fm-config"].value
    assert bundle.items["fm-partition-definitions"].value == config


def test_this_very_machine_makes_a_statement_or_says_why_not(run: Run, output: Path) -> None:
    result = run(*words(output, *ROLE, "--only", "fabric-manager,fm-config"))
    bundle = parse_bundle(output.read_bytes())
    assert result.exit_code == (0 if bundle.items else 10)
    if "fabric-manager" not in bundle.items:
        assert bundle.absences["fabric-manager"].reason.value == "not-present"
        assert "there is no Fabric Manager here" in result.stdout


def test_the_role_of_a_guest_is_the_default(run: Run, output: Path) -> None:
    machine = ("--platform", "sim:b300-hgx-1", "--only", "gpu,fabric")
    assert run(*words(output, *machine)).exit_code == 0
    default = set(parse_bundle(output.read_bytes()).items)
    assert run(*words(output, *machine, "--role", "guest", "--force")).exit_code == 0
    assert set(parse_bundle(output.read_bytes()).items) == default == {"gpu-0", "fabric"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((*ROLE, "--source-folder", "."), "asked for no devices"),
        ((*ROLE, "--nvattest", "x.json"), "asked for no devices"),
        ((*ROLE, "--event-log", "x"), "asked for no devices"),
        ((*ROLE, "--nv-sdk-python", "python"), "asked for no devices"),
        ((*ROLE, "--fabric-statement", "x.ccb"), "asked for no devices"),
        ((*ROLE, "--probe"), "asked for no devices"),
        ((*ROLE, "--manager-file", "fm-config"), "PART=FILE"),
        ((*ROLE, "--manager-file", "fm-config="), "PART=FILE"),
        ((*ROLE, "--manager-file", "gpu=x"), "PART=FILE"),
        ((*ROLE, "--manager-file", "fm-state=x", "--manager-file", "fm-state=y"), "each PART once"),
        (("--manager-file", "fm-config=x"), "a guest has no files"),
        (("--role", "switch"), "--role"),
        ((*ROLE, "--platform", "sim:b300-hgx-9"), "--platform"),
        ((*ROLE, "--only", "gpu"), "--only"),
        (("--tpm",), "bound by its TDX quote"),
        (("--operator-key", "x", "--operator-certificate", "y"), "bound by its TDX quote"),
        ((*ROLE, "--operator-key", "x"), "--operator-certificate"),
        ((*ROLE, "--operator-certificate", "x"), "--operator-key"),
        ((*ROLE, "--tpm-pcrs", "sha256:0"), "--tpm"),
        ((*ROLE, "--tpm-ak-handle", "0x81010001"), "--tpm"),
        ((*ROLE, "--tpm", "not-an-address"), "TPM is named wrongly"),
        ((*ROLE, "--tpm=/dev/tpmrm0", "--tpm-ak-handle", "5"), "handle"),
        ((*ROLE, "--tpm=/dev/tpmrm0", "--tpm-pcrs", "sha1:0"), "SHA-1"),
        ((*ROLE, "--tpm=/dev/tpmrm0", "--tpm-ak-certificate", "/nowhere.pem"), "does not exist"),
        ((*ROLE, "--operator-key", "/nowhere", "--operator-certificate", "/nowhere"),
         "operator's key cannot be read"),
    ],
)  # fmt: skip
def test_wrong_use_writes_nothing(run: Run, output: Path, more: tuple[str, ...], said: str) -> None:
    result = run(*words(output, *more))
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert not output.exists()


# --- binding it ---


@pytest.fixture
def operator(tmp_path: Path) -> tuple[str, str]:
    """Files with the operator's key and certificates."""
    key, chain = tmp_path / "operator.key", tmp_path / "operator.pem"
    key.write_bytes(
        OPERATOR.key.private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"correct horse")
        )
    )
    chain.write_text(pem_chain(*OPERATOR.chain()))
    return str(key), str(chain)


def signed_by(key: str, chain: str) -> tuple[str, ...]:
    return ("--operator-key", key, "--operator-certificate", chain)


def test_an_operator_signs_it(
    run: Run, output: Path, operator: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPERATOR_PASSWORD_VARIABLE, "correct horse")
    more = (*signed_by(*operator), "--require", "operator-signature")
    bundle = collected(run, output, *more)
    payload = operator_payload(NONCE, bundle.session_key.thumbprint, bundle.manifest.sha384)
    item = parse_operator_signature(bundle.items["operator-signature"].value)
    root = parse_pkix_certificate(OPERATOR.root().der())
    result = verify_operator_signature(item, payload, [root], DEFAULT_TIME)
    assert (result.chain_problem, result.signature_problem) == (None, None)
    other = operator_payload(bytes(32), bundle.session_key.thumbprint, bundle.manifest.sha384)
    assert verify_operator_signature(item, other, [root], DEFAULT_TIME).signature_problem


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_password_that_is_wrong_or_missing(
    run: Run, output: Path, operator: tuple[str, str], monkeypatch: pytest.MonkeyPatch,
    password: str | None,
) -> None:  # fmt: skip
    monkeypatch.delenv(OPERATOR_PASSWORD_VARIABLE, raising=False)
    if password:
        monkeypatch.setenv(OPERATOR_PASSWORD_VARIABLE, password)
    result = run(*words(output, *ROLE, "--platform", BOARD, *signed_by(*operator)))
    assert (result.exit_code, output.exists()) == (1, False)
    assert "operator's key cannot be loaded" in result.stderr
    assert "horse" not in result.stderr


def test_certificates_of_another_key(
    run: Run, output: Path, operator: tuple[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    result = run(*words(output, *ROLE, "--platform", BOARD, *signed_by(str(other), operator[1])))
    assert (result.exit_code, output.exists()) == (1, False)
    assert "not that of the first certificate" in result.stderr


def test_a_tpm_that_is_not_there_is_told_and_may_be_required(run: Run, output: Path) -> None:
    tpm = ("--platform", BOARD, "--tpm=/dev/tpm-no-such")
    result = run(*words(output, *ROLE, *tpm))
    assert result.exit_code == 0
    assert "there is no such TPM" in result.stdout
    # A manifest that a TPM's quote would cover cannot say that there is none.
    bundle = parse_bundle(output.read_bytes())
    assert "tpm-quote" not in {*bundle.items, *bundle.absences}
    result = run(*words(output, *ROLE, *tpm, "--force", "--require", "tpm-quote"))
    assert result.exit_code == 6


# --- in a tenant's bundle ---


def test_a_tenant_takes_the_statement_with_it(run: Run, output: Path, tmp_path: Path) -> None:
    collected(run, output)
    tenant = tmp_path / "tenant.ccb"
    more = ("--platform", f"{BOARD}/a", "--fabric-statement", str(output))
    result = run(*words(tenant, *more, "--only", "fabric-statement,fabric"))
    assert (result.exit_code, result.stderr) == (0, "")
    bundle = parse_bundle(tenant.read_bytes())
    assert bundle.items["fabric-statement"].value == output.read_bytes()
    assert bundle.manifest.items["fabric-statement"].source == "file fabric.ccb"


def test_what_is_no_statement_is_refused_before_anything_is_asked(
    run: Run, output: Path, tmp_path: Path
) -> None:
    guest = tmp_path / "guest.ccb"
    machine = ("--platform", "sim:b300-hgx-1", "--only", "fabric")
    assert run(*words(guest, *machine)).exit_code == 0
    (tmp_path / "garbage").write_bytes(b"\xd2\x84" + bytes(100))
    (tmp_path / "empty").touch()
    for name, said in (
        ("guest.ccb", "no statement of a fabric's manager"),
        ("garbage", "no statement of a fabric's manager"),
        ("empty", "is empty"),
        ("missing", "does not exist"),
    ):
        result = run(*words(output, "--fabric-statement", str(tmp_path / name)))
        assert (result.exit_code, result.stdout, output.exists()) == (1, "", False)
        assert said in result.stderr


# --- doctor ---


def test_the_doctor_of_a_simulated_manager(run: Run) -> None:
    result = run("doctor", *ROLE, "--platform", BOARD, "--format", "json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["complete"], report["missing"]) == (0, True, [])
    parts = {part["part"]: part for part in report["parts"]}
    assert set(DUMP_LABELS) | {"fabric-manager", "tdx-quote"} <= set(parts)
    assert [name for name, part in parts.items() if part["needed"]] == [
        "fabric-manager", "fm-config",
    ]  # fmt: skip
    # Whatever is not there says what to do about it.
    assert all(part["available"] or part["problems"] for part in report["parts"])


def test_the_doctor_looks_at_what_would_bind_it(run: Run, operator: tuple[str, str]) -> None:
    tpm = "--tpm=/dev/tpm-no-such"
    result = run("doctor", *ROLE, "--platform", BOARD, "--format", "json", tpm)
    parts = {part["part"]: part for part in json.loads(result.stdout)["parts"]}
    assert parts["tpm-quote"]["problems"][0]["reason"] == "not-present"
    result = run("doctor", *ROLE, "--platform", BOARD, *signed_by(*operator))
    assert (result.exit_code, "operator's key cannot be loaded" in result.stderr) == (1, True)


def test_the_doctor_of_this_very_machine(run: Run) -> None:
    result = run("doctor", *ROLE, "--format", "json")
    report = json.loads(result.stdout)
    assert result.exit_code == (0 if report["complete"] else 6)
    assert all(part["available"] or part["problems"] for part in report["parts"])
