"""An operator's key from files: what it signs, and every file that is no such key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from binder_asks import PAYLOAD, bind_ask, the_bound
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ccverify.bundle.endorsement import parse_operator_signature, verify_operator_signature
from ccverify.collect.operator_key import OperatorKey, load_operator_key
from ccverify.errors import UsageError
from ccverify.sim import DEFAULT_TIME
from ccverify.sim.certs import pem_chain
from ccverify.sim.operator import SimOperator
from ccverify.trust.pkix import parse_pkix_certificate

OPERATOR = SimOperator()
ROOT = parse_pkix_certificate(OPERATOR.root().der())


def pem(
    key: Any = None,
    form: PrivateFormat = PrivateFormat.PKCS8,
    password: bytes | None = None,
) -> bytes:
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    chosen = OPERATOR.key.private_key if key is None else key
    return bytes(chosen.private_bytes(Encoding.PEM, form, protection))


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    key.write_bytes(pem())
    chain.write_text(pem_chain(*OPERATOR.chain()))
    return key, chain


def check(binder: OperatorKey) -> None:
    item = the_bound(binder.bind(bind_ask()))
    assert (item.label, item.type.value) == (
        "operator-signature",
        "application/vnd.ccverify.operator-signature+cose",
    )
    signature = parse_operator_signature(item.data)
    result = verify_operator_signature(signature, PAYLOAD, [ROOT], DEFAULT_TIME)
    assert result.problems == ()


def test_the_key_signs_nonce_key_and_manifest(paths: tuple[Path, Path]) -> None:
    made = load_operator_key(*paths)
    check(made)
    assert made.diagnose() == ()
    assert made.name == (
        "operator's key (O=ccverify simulation\\, no operator,CN=Example Cloud Fabric Managers)"
    )
    again = load_operator_key(*paths, deterministic=True)
    assert again.bind(bind_ask()) == again.bind(bind_ask())
    assert the_bound(again.bind(bind_ask())).data == OPERATOR.sign(PAYLOAD)


def test_keys_in_every_form(paths: tuple[Path, Path]) -> None:
    key, chain = paths
    key.write_bytes(pem(form=PrivateFormat.TraditionalOpenSSL))
    check(load_operator_key(key, chain))
    key.write_bytes(pem(password=b"secret"))
    check(load_operator_key(key, chain, password=b"secret"))
    for wrong in (None, b"wrong"):
        with pytest.raises(UsageError, match="cannot be loaded"):
            load_operator_key(key, chain, password=wrong)
    key.write_bytes(pem())
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_operator_key(key, chain, password=b"for nothing")


@pytest.mark.parametrize(
    "other",
    [
        SimOperator("Somebody Else").key.private_key,
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["another operator", "another curve", "another kind"],
)
def test_a_key_that_is_not_of_the_first_certificate_is_refused(
    other: Any, paths: tuple[Path, Path]
) -> None:
    paths[0].write_bytes(pem(other))
    with pytest.raises(UsageError, match="not that of the first certificate"):
        load_operator_key(*paths)


def test_a_chain_in_the_wrong_order_is_refused(paths: tuple[Path, Path]) -> None:
    paths[1].write_text(pem_chain(*reversed(OPERATOR.chain())))
    with pytest.raises(UsageError, match="not that of the first certificate"):
        load_operator_key(*paths)


@pytest.mark.parametrize(
    "other",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["RSA", "P-521", "secp256k1"],
)
def test_keys_that_cannot_sign_are_refused(other: Any, paths: tuple[Path, Path]) -> None:
    paths[0].write_bytes(pem(other))
    with pytest.raises(UsageError, match="kind that cannot sign"):
        load_operator_key(*paths)


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
                bytes(70_000), OPERATOR.root().pem().encode()],
)  # fmt: skip
def test_what_is_no_key_is_refused(content: bytes, paths: tuple[Path, Path]) -> None:
    paths[0].write_bytes(content)
    with pytest.raises(UsageError) as raised:
        load_operator_key(*paths)
    assert raised.value.where == str(paths[0])


@pytest.mark.parametrize(
    "content",
    [b"", b"no chain", pem(), b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
     OPERATOR.root().der(), bytes(300_000), OPERATOR.root().pem().encode() * 6],
)  # fmt: skip
def test_what_is_no_chain_is_refused(content: bytes, paths: tuple[Path, Path]) -> None:
    paths[1].write_bytes(content)
    with pytest.raises(UsageError) as raised:
        load_operator_key(*paths)
    assert raised.value.where == str(paths[1])


def test_files_that_cannot_be_read_are_a_declared_error(paths: tuple[Path, Path]) -> None:
    key, chain = paths
    for bad in (key.parent, key.parent / "nothing", Path("/proc/self/mem"), Path("\0")):
        with pytest.raises(UsageError, match="operator's key cannot be read"):
            load_operator_key(bad, chain)
        with pytest.raises(UsageError, match="operator's certificates cannot be read"):
            load_operator_key(key, bad)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_of_somebody_else_is_a_declared_error(paths: tuple[Path, Path]) -> None:
    paths[0].chmod(0)
    with pytest.raises(UsageError, match="EACCES"):
        load_operator_key(*paths)


def test_no_part_of_the_key_is_told(paths: tuple[Path, Path]) -> None:
    key, chain = paths
    secret = b"MHcCAQEEIOSECRETSECRETSECRET"
    key.write_bytes(
        b"-----BEGIN EC PRIVATE KEY-----\n" + secret + b"\n-----END EC PRIVATE KEY-----"
    )
    with pytest.raises(UsageError) as raised:
        load_operator_key(key, chain)
    assert "SECRETSECRET" not in raised.value.diagnostics()
    key.write_bytes(pem())
    assert "private" not in repr(load_operator_key(key, chain)).lower()
