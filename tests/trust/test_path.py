"""Certification paths: roles, names, path length, key usage, the pinned root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ccverify.sim import CertificateSpec, SimIssuer, SimKey, SimPlatform
from ccverify.sim.certs import basic_constraints, key_usage, subject_key_id
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.path import CertificateRole, Path, verify_path
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import parse_certificate

CASE = SimPlatform().case()
LEAF = CertificateRole(("Intel SGX PCK Certificate",), is_ca=False, curve="P-256")
CA = CertificateRole(
    ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"), is_ca=True, curve="P-256"
)
ROOT = TrustAnchor.load(CASE.root.der())
HONEST = (CASE.pck, CASE.pck_ca, CASE.root)


def _verify(
    specs: Sequence[CertificateSpec],
    roles: Sequence[CertificateRole] = (LEAF, CA),
    root: TrustAnchor = ROOT,
) -> Path:
    chain = [parse_certificate(spec.der()) for spec in specs]
    return verify_path(chain, roles, root, SignatureMemory())


@pytest.mark.parametrize("specs", [HONEST, HONEST[:2]], ids=["with root", "without root"])
def test_an_honest_path(specs: Sequence[CertificateSpec]) -> None:
    path = _verify(specs)
    assert path.problem is None
    assert [c.der for c in path.certificates] == [CASE.pck.der(), CASE.pck_ca.der()]


def test_the_processor_ca_is_a_pck_ca_too() -> None:
    case = SimPlatform(ca="processor").case()
    assert _verify((case.pck, case.pck_ca, case.root)).problem is None


def _signed_by(ca: CertificateSpec) -> tuple[CertificateSpec, ...]:
    return (CASE.pck.signed_by(ca), ca, CASE.root)


def _leaf(**changes: object) -> tuple[CertificateSpec, ...]:
    return (replace(CASE.pck, **changes), CASE.pck_ca, CASE.root)  # type: ignore[arg-type]


def _ca(**changes: object) -> tuple[CertificateSpec, ...]:
    return _signed_by(replace(CASE.pck_ca, **changes))  # type: ignore[arg-type]


def _sub_ca(length: int | None) -> tuple[CertificateSpec, ...]:
    """A second CA below the PCK CA, whose path length allows that or not."""
    upper = CASE.pck_ca.with_extension(basic_constraints(True, length))
    key = SimKey("sub-ca")
    lower = replace(CASE.pck_ca, key=key).signed_by(upper).with_extension(subject_key_id(key))
    return (CASE.pck.signed_by(lower), lower, upper)


def _p384_ca() -> tuple[CertificateSpec, ...]:
    key = SimKey("big", curve="P-384")
    return _signed_by(replace(CASE.pck_ca, key=key).with_extension(subject_key_id(key)))


def _p384_leaf() -> tuple[CertificateSpec, ...]:
    key = SimKey("big", curve="P-384")
    return _leaf(key=key)


_OTHER = SimIssuer(seed=b"other")
PROBLEMS = {
    "empty": ((), "0 certificates below the root, not 2"),
    "root only": ((CASE.root,), "0 certificates below the root, not 2"),
    "leaf only": ((CASE.pck,), "1 certificates below the root, not 2"),
    "too long": ((CASE.pck, CASE.pck_ca, CASE.pck_ca, CASE.root), "3 certificates"),
    "wrong order": ((CASE.pck_ca, CASE.pck, CASE.root), "issuer name"),
    "foreign root": ((CASE.pck, CASE.pck_ca, _OTHER.root()), "a root that is not pinned"),
    "root of the same key": (
        (CASE.pck, CASE.pck_ca, replace(CASE.root, serial=1)),
        "a root that is not pinned",
    ),
    "foreign chain": (
        (_OTHER.pck(SimPlatform().sgx_extension()), _OTHER.pck_ca()),
        "authority key identifier",
    ),
    "leaf name": (
        _leaf(subject=CASE.pck.subject.with_attribute("CN", "Intel SGX")),
        "common name is not Intel SGX PCK Certificate",
    ),
    "ca name": (
        _ca(subject=CASE.pck_ca.subject.with_attribute("CN", "Intel SGX PCK CA")),
        "common name is not Intel SGX PCK Platform CA or Intel SGX PCK Processor CA",
    ),
    "leaf is a CA": (
        (CASE.pck.with_extension(basic_constraints(True)), *HONEST[1:]),
        "it is a CA, not an end entity",
    ),
    "ca is no CA": (
        _signed_by(CASE.pck_ca.with_extension(basic_constraints(False))),
        "it is not a CA",
    ),
    "leaf key usage": (
        (CASE.pck.with_extension(key_usage("key_agreement")), *HONEST[1:]),
        "lacks digitalSignature",
    ),
    "ca key usage": (
        _signed_by(CASE.pck_ca.with_extension(key_usage("crl_sign"))),
        "lacks keyCertSign",
    ),
    "leaf curve": (_p384_leaf(), "its key is not on P-256"),
    "ca curve": (_p384_ca(), "its key is not on P-256"),
    "leaf signature": (_leaf(signer=SimKey("stranger")), "does not verify"),
    "leaf issuer": (_leaf(issuer=CASE.root.subject), "issuer name"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_path_that_is_wrong(name: str) -> None:
    specs, message = PROBLEMS[name]
    path = _verify(specs)
    assert path.problem is not None
    assert message in path.problem


def test_the_problem_names_the_certificate() -> None:
    path = _verify(PROBLEMS["leaf signature"][0])
    assert str(path.problem).startswith("CN=Intel SGX PCK Certificate") or (
        "Intel SGX PCK Certificate" in str(path.problem)
    )


@pytest.mark.parametrize(("length", "allowed"), [(None, True), (1, True), (2, True), (0, False)])
def test_path_length_counts_the_cas_below(length: int | None, allowed: bool) -> None:
    path = _verify(_sub_ca(length), (LEAF, CA, CA))
    assert (path.problem is None) == allowed
    if not allowed:
        assert "path length constraint is too short" in str(path.problem)


def test_a_path_under_another_anchor_is_refused() -> None:
    other = TrustAnchor.load(_OTHER.root().der())
    assert _verify(HONEST, root=other).problem is not None
    assert _verify(HONEST[:2], root=other).problem is not None


def test_roles_are_demanded_in_order() -> None:
    assert _verify(HONEST, (CA, LEAF)).problem is not None
    signer = CertificateRole(("Intel SGX TCB Signing",), is_ca=False, curve="P-256")
    assert _verify((CASE.tcb_signing, CASE.root), (signer,)).problem is None
    assert _verify((CASE.tcb_signing, CASE.root), (LEAF,)).problem is not None
    assert _verify(HONEST, ()).problem is not None
